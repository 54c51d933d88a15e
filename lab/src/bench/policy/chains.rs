//! The layout that many programs have, as a model: a chain for each policy, a set for each selector, a
//! chain for each pod that jumps to those of its policies.
//!
//! It is sent by the same encoder and socket as ours, and knows at once which sets a change concerns: no
//! program's own work is counted in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weft_kernel::nft::NftSocket;
use weft_nft::{
    Batch, Chain, ChainKind, Change, DataType, Element, Field, Hook, Key, Part, Policy, Rule, Set,
    Statement, Table, TableFlags, Type, Value, Verdict, ct_state,
};

use super::load::{self, Asks, Load};
use super::{Changed, Layout};
use crate::conformance::packets::namespace::Namespace;

const TABLE: &str = "chains";
const PODS: &str = "pods";

/// The model's state and socket.
pub struct Chains {
    socket: NftSocket,
    asks: BTreeMap<u32, Asks>,
    apps: Vec<u32>,
    teams: Vec<u32>,
    sets: BTreeSet<Asks>,
}

impl Chains {
    /// Loads everything in a namespace; and how many seconds it took.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(place: &Namespace, load: Load) -> Result<(Self, f64)> {
        let socket = place.run(NftSocket::open)??;
        // Policies of namespaces without local pods are nobody's here.
        let here =
            (0..load.policies).filter(|policy| load::namespace_of_policy(*policy) < load::LOCAL);
        let asks: BTreeMap<u32, Asks> = here.map(|policy| (policy, load.asks(policy))).collect();
        let mut this = Self {
            socket,
            sets: asks.values().copied().collect(),
            asks,
            apps: (0..load::PODS).map(load::app).collect(),
            teams: (0..load::NAMESPACES).map(load::team).collect(),
        };
        let began = Instant::now();
        let table = this.table();
        this.send(weft_nft::replace(&table))?;
        Ok((this, began.elapsed().as_secs_f64()))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(TABLE, TableFlags::default());
        let mut members: BTreeMap<Asks, Vec<Ipv4Addr>> = BTreeMap::new();
        for pod in 0..load::PODS {
            let asks = self.labels_of(pod);
            if self.sets.contains(&asks) {
                members.entry(asks).or_default().push(load::address(pod));
            }
        }
        for asks in &self.sets {
            let mut set = Set::new([Type::Ipv4Addr]);
            let addresses = members.remove(asks).unwrap_or_default();
            set.elements = addresses.into_iter().map(element).collect();
            table.sets.insert(set_name(*asks), set);
        }
        let mut of_namespace: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (policy, asks) in &self.asks {
            let namespace = load::namespace_of_policy(*policy);
            of_namespace.entry(namespace).or_default().push(*policy);
            table
                .chains
                .insert(policy_name(*policy), Chain::regular([rule(*asks)]));
        }
        let mut pods = Set::map([Type::IfaceIndex], DataType::Verdict);
        for pod in 0..load::LOCAL {
            // The namespaces of local pods are numbered as they are.
            let Some(policies) = of_namespace.get(&pod) else {
                continue;
            };
            let jumps = policies
                .iter()
                .map(|policy| Rule::new([Statement::jump(policy_name(*policy))]));
            let end = Rule::new([Statement::Verdict(Verdict::Drop)]);
            let name = format!("pod-{pod}");
            table
                .chains
                .insert(name.clone(), Chain::regular(jumps.chain([end])));
            pods.elements.insert(
                Key(vec![Part::One(Value::IfaceIndex(load::link(pod)))]),
                Element::verdict(Verdict::Goto(name)),
            );
        }
        table.sets.insert(PODS.to_owned(), pods);
        let state = Value::CtState(ct_state::ESTABLISHED | ct_state::RELATED);
        let forward = Chain::base(ChainKind::Filter, Hook::Forward, 0, Policy::Accept);
        let forward = forward.with_rules([
            Rule::new([
                Statement::is(Field::CtState, state),
                Statement::Verdict(Verdict::Accept),
            ]),
            Rule::new([Statement::vmap([Field::Oif], PODS)]),
        ]);
        table.chains.insert("forward".to_owned(), forward);
        table
    }

    fn labels_of(&self, pod: u32) -> Asks {
        Asks {
            team: self.teams[load::namespace_of_pod(pod) as usize],
            app: self.apps[pod as usize],
        }
    }

    /// Addresses that leave sets for others.
    fn moves(&self, pods: impl Iterator<Item = (u32, Asks, Asks)>) -> Vec<Change> {
        let mut leave: BTreeMap<Asks, BTreeSet<Key>> = BTreeMap::new();
        let mut join: BTreeMap<Asks, BTreeMap<Key, Element>> = BTreeMap::new();
        for (pod, from, to) in pods.filter(|(_, from, to)| from != to) {
            let (key, element) = element(load::address(pod));
            if self.sets.contains(&from) {
                leave.entry(from).or_default().insert(key.clone());
            }
            if self.sets.contains(&to) {
                join.entry(to).or_default().insert(key, element);
            }
        }
        let leave = leave
            .into_iter()
            .map(|(asks, keys)| Change::DeleteElements {
                set: set_name(asks),
                interval: false,
                keys,
            });
        let join = join
            .into_iter()
            .map(|(asks, elements)| Change::AddElements {
                set: set_name(asks),
                interval: false,
                elements,
            });
        leave.chain(join).collect()
    }

    /// A chain of another rule; a selector that is new needs a set with everybody in it.
    fn policy(&mut self, policy: u32, asks: Asks) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.sets.insert(asks) {
            let members = (0..load::PODS).filter(|pod| self.labels_of(*pod) == asks);
            let elements: BTreeMap<Key, Element> =
                members.map(|pod| element(load::address(pod))).collect();
            changes.push(Change::AddSet {
                name: set_name(asks),
                set: Set::new([Type::Ipv4Addr]),
            });
            if !elements.is_empty() {
                changes.push(Change::AddElements {
                    set: set_name(asks),
                    interval: false,
                    elements,
                });
            }
        }
        let chain = policy_name(policy);
        changes.push(Change::FlushChain {
            name: chain.clone(),
        });
        changes.push(Change::AddRule {
            chain,
            rule: rule(asks),
        });
        self.asks.insert(policy, asks);
        changes
    }

    fn send(&mut self, batch: Batch) -> Result<()> {
        let sent = self.socket.commit(&batch);
        sent.context("the kernel refused a batch of the other layout")
    }
}

impl Layout for Chains {
    fn change(&mut self, changed: Changed) -> Result<Duration> {
        let began = Instant::now();
        let changes = match changed {
            Changed::Pod { pod, app } => {
                let from = self.labels_of(pod);
                self.apps[pod as usize] = app;
                self.moves([(pod, from, self.labels_of(pod))].into_iter())
            }
            Changed::Namespace { namespace, team } => {
                let from = self.teams[namespace as usize];
                self.teams[namespace as usize] = team;
                let pods = (0..load::PODS)
                    .filter(|pod| load::namespace_of_pod(*pod) == namespace)
                    .map(|pod| {
                        let to = self.labels_of(pod);
                        (pod, Asks { team: from, ..to }, to)
                    });
                self.moves(pods)
            }
            Changed::Policy { policy, asks } => self.policy(policy, asks),
        };
        if !changes.is_empty() {
            self.send(Batch {
                table: TABLE.to_owned(),
                changes,
            })?;
        }
        Ok(began.elapsed())
    }
}

fn element(address: Ipv4Addr) -> (Key, Element) {
    let key = Key(vec![Part::One(std::net::IpAddr::V4(address).into())]);
    (key, Element::default())
}

fn rule(asks: Asks) -> Rule {
    Rule::new([
        Statement::in_set([Field::IpSaddr], set_name(asks)),
        Statement::is(Field::TcpDport, Value::InetService(load::PORT)),
        Statement::Verdict(Verdict::Accept),
    ])
}

fn set_name(asks: Asks) -> String {
    format!("team-{}-app-{}", asks.team, asks.app)
}

fn policy_name(policy: u32) -> String {
    format!("policy-{policy}")
}
