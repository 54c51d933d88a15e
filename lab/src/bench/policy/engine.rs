//! Ours: compilation and the nf_tables socket, driven as the agent's engine drives them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;
use weft_core::compile;
use weft_core::policy::{Known, Labels, LocalPod, PodObject, Policies, Policy, PolicyName, object};
use weft_core::view::{AttachmentKey, NodeView};
use weft_kernel::nft::NftSocket;
use weft_nft::{Batch, Change};

use super::load::{self, Asks, Load};
use super::{Changed, Layout};
use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::ownerless;

/// Policies of one node and its table.
pub struct Engine {
    policies: Policies,
    socket: NftSocket,
}

/// What loading cost.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Seconds from the objects to the last commit.
    pub seconds: f64,
    /// Seconds of CPU of this.
    pub cpu: f64,
    /// Elements of all sets.
    pub elements: usize,
}

impl Engine {
    /// Loads everything in a namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(place: &Namespace, load: Load) -> Result<(Self, Loaded)> {
        let written: Vec<(PolicyName, Policy)> = (0..load.policies)
            .map(|number| policy(number, load.asks(number)))
            .collect::<Result<_>>()?;
        let mut socket = place.run(NftSocket::open)??;
        let view = NodeView {
            policies: true,
            ..NodeView::default()
        };
        let mut table = compile::all(&view).0.table;
        // What pods send is judged by policies alone here.
        table.chains.remove("from-pods");
        socket.commit(&ownerless(&weft_nft::replace(&table)))?;
        let (began, cpu) = (Instant::now(), cpu_time()?);
        let mut policies = Policies::new();
        for number in 0..load::NAMESPACES {
            policies.set_namespace(&namespace(number), Some(team(load::team(number))));
        }
        for number in 0..load::PODS {
            let pod = pod(number, load::app(number));
            policies.set_pod(&number.to_string(), Some(pod));
        }
        for number in 0..load::LOCAL {
            policies.set_local(&key(number), Some(local(number, load::app(number))));
        }
        for (name, policy) in written {
            policies.set_policy(&name, Some(policy));
        }
        policies.set_synced(true);
        let mut this = Self { policies, socket };
        this.commit()?;
        let loaded = Loaded {
            seconds: began.elapsed().as_secs_f64(),
            cpu: (cpu_time()? - cpu).as_secs_f64(),
            elements: this.policies.elements().values().map(|set| set.len()).sum(),
        };
        Ok((this, loaded))
    }

    /// A remote pod goes, and another comes at another address. Answers with elements that hash maps
    /// and interval maps changed by, and the CPU time.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn churn(&mut self, leaves: u32, comes: u32) -> Result<Churned> {
        let cpu = cpu_time()?;
        self.policies.set_pod(&leaves.to_string(), None);
        let first = self.commit()?;
        let object = PodObject {
            addresses: [IpAddr::V4(load::address(comes))].into(),
            ..pod(leaves, load::app(leaves))
        };
        self.policies.set_pod(&comes.to_string(), Some(object));
        let second = self.commit()?;
        let cpu = cpu_time()? - cpu;
        let [hash, interval] = [false, true].map(|interval| {
            let batches = first.iter().chain(&second);
            batches.map(|batch| elements(batch, interval)).sum()
        });
        Ok(Churned {
            hash,
            interval,
            cpu,
        })
    }

    fn commit(&mut self) -> Result<Vec<Batch>> {
        let batches = self.policies.compile().batches;
        for batch in &batches {
            let committed = self.socket.commit(&ownerless(batch));
            committed.context("the kernel refused a batch")?;
        }
        Ok(batches)
    }
}

/// What one pod that went and one that came cost.
#[derive(Clone, Copy, Debug)]
pub struct Churned {
    /// Elements of hash maps.
    pub hash: usize,
    /// Elements of interval maps.
    pub interval: usize,
    /// CPU time.
    pub cpu: Duration,
}

impl Layout for Engine {
    fn change(&mut self, changed: Changed) -> Result<Duration> {
        let began = Instant::now();
        match changed {
            Changed::Pod { pod: number, app } => {
                let key = key(number);
                let object = pod(number, app);
                self.policies.set_pod(&number.to_string(), Some(object));
                if number < load::LOCAL {
                    self.policies.set_local(&key, Some(local(number, app)));
                }
            }
            Changed::Namespace {
                namespace: of,
                team: label,
            } => {
                self.policies
                    .set_namespace(&namespace(of), Some(team(label)));
            }
            Changed::Policy {
                policy: number,
                asks,
            } => {
                let (name, policy) = policy(number, asks)?;
                self.policies.set_policy(&name, Some(policy));
            }
        }
        self.commit()?;
        Ok(began.elapsed())
    }
}

fn elements(batch: &Batch, of_intervals: bool) -> usize {
    let changes = batch.changes.iter();
    let counts = changes.map(|change| match change {
        Change::AddElements {
            interval, elements, ..
        } if *interval == of_intervals => elements.len(),
        Change::DeleteElements { interval, keys, .. } if *interval == of_intervals => keys.len(),
        _ => 0,
    });
    counts.sum()
}

fn namespace(number: u32) -> String {
    format!("ns-{number}")
}

fn labelled(key: &str, value: u32) -> Labels {
    Labels::new(&[(key.to_owned(), value.to_string())].into())
}

fn team(team: u32) -> Labels {
    labelled("team", team)
}

fn pod(number: u32, app: u32) -> PodObject {
    PodObject {
        namespace: namespace(load::namespace_of_pod(number)).into(),
        labels: labelled("app", app),
        ports: Box::default(),
        addresses: [IpAddr::V4(load::address(number))].into(),
        created: 0,
    }
}

fn local(number: u32, app: u32) -> LocalPod {
    LocalPod {
        link: load::link(number),
        namespace: namespace(load::namespace_of_pod(number)).into(),
        name: number.to_string().into(),
        addresses: [IpAddr::V4(load::address(number))].into(),
        known: Some(Known {
            labels: labelled("app", app),
            ports: Box::default(),
        }),
    }
}

fn key(number: u32) -> AttachmentKey {
    AttachmentKey {
        container_id: number.to_string(),
        ifname: "eth0".to_owned(),
    }
}

fn policy(number: u32, asks: Asks) -> Result<(PolicyName, Policy)> {
    let Asks { team, app } = asks;
    let labels = |key: &str, value: u32| json!({"matchLabels": {key: value.to_string()}});
    let (namespace, name) = (
        namespace(load::namespace_of_policy(number)),
        format!("policy-{number}"),
    );
    let written: NetworkPolicy = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, "ingress": [{
            "from": [{"namespaceSelector": labels("team", team), "podSelector": labels("app", app)}],
            "ports": [{"port": load::PORT}],
        }]},
    }))?;
    let parsed = object::network_policy(&written).policy;
    let parsed = parsed.context("a policy of the benchmark is not understood")?;
    Ok((PolicyName::network(&namespace, &name), parsed))
}

/// CPU time of this thread, in the kernel too.
pub fn cpu_time() -> Result<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time))
}
