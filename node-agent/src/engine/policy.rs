//! Network policies in the kernel: what the API says of policies, and of whom they are about, becomes
//! transactions of the elements that an event touches.
//!
//! As with Services, the chains and the declarations of sets are part of the plan and the elements are
//! not. Until everything has been told once, the kernel stays as it was left: nothing opens and nothing
//! closes. New pods are isolated meanwhile, whatever their policies say.

mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use weft_core::names;
use weft_core::policy::{
    Bulk, Changes, Concerned, Known, Labels, LocalPod, NodeObject, PodObject, Policies, Policy,
    Repair,
};
use weft_core::view::{AttachmentKey, NodeView, PodView};
use weft_kernel::conntrack::Connection;
use weft_kernel::nft::Error;
use weft_nft::{Batch, Element, Key};

use super::Output;
use super::fault::{FaultPoint, Killed};
use super::kernel::Kernel;
use super::pace::Pace;
use super::report::Trouble;
use super::round::Engine;
use super::services::Effort;
use crate::record;
use crate::watch::Update;
use told::Told;

/// After a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How long a change waits for the pods of other nodes, where its rules are the first that ask for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the API says of policies.
#[derive(Clone, Debug)]
pub enum PolicyInput {
    /// A NetworkPolicy by namespace and name, or all of them; none: one that means nothing.
    NetworkPolicy(Update<Option<Policy>>),
    /// A ClusterNetworkPolicy by name, or all of them; none: one that means nothing.
    ClusterNetworkPolicy(Update<Option<Policy>>),
    /// A namespace's labels by its name.
    Namespace(Update<Labels>),
    /// A Node by its name.
    Node(Update<NodeObject>),
    /// A pod of this node by its UID.
    Own(Update<OwnPod>),
    /// A pod of any node, by namespace and name of its PodAddress.
    Pod(Update<PeerPod>),
    /// The pods of other nodes are not watched any more.
    PodsUnwatched,
}

/// A pod of this node, as its Pod object tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    /// The UID that the runtime knows it by, where that is another one (static pods).
    pub static_uid: Option<Box<str>>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its labels and named ports.
    pub known: Known,
}

/// A pod of any node, as its PodAddress tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPod {
    /// Its node: an address is believed within that node's blocks alone.
    pub node: Box<str>,
    /// What policies can ask about it.
    pub pod: PodObject,
}

/// Policies are in the kernel as they were heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// Inputs about policies that the engine has heard since it started.
    pub heard: u64,
    /// From the first step to the last commit.
    pub took: Duration,
    /// Everything was compared with the kernel, not only what changed.
    pub whole: bool,
    /// What the kernel was asked for.
    pub effort: Effort,
}

/// The policies of a node.
#[derive(Debug, Default)]
pub(super) struct Enforcer {
    policies: Policies,
    told: Told,
    /// Links of pods as last told.
    links: Vec<(AttachmentKey, u32)>,
    locals_are_old: bool,
    /// Rules ask for pods of other nodes: told, since then.
    asked: Option<Instant>,
    /// Compiled and not committed.
    pending: Vec<Batch>,
    concerned: Concerned,
    /// Elements in the kernel are what was committed.
    known: bool,
    /// How often the table had been read when they were.
    reads: u64,
    retry: Option<Instant>,
    audit: Pace<Bulk>,
    heard: u64,
    enforced: u64,
}

impl Enforcer {
    /// When there is something to do without having heard of it.
    pub(super) fn next(&self) -> Option<Instant> {
        let audit = self.audit.next().filter(|_| self.known);
        let patience = self.waits_until();
        self.retry.into_iter().chain(audit).chain(patience).min()
    }

    /// Elements are to be compared with the kernel's, a set at a time, between updates.
    pub(super) fn audit(&mut self) {
        self.audit.begin(Bulk::all());
    }

    /// Takes note of what the API says.
    pub(super) fn hear(&mut self, input: PolicyInput) {
        self.heard += 1;
        self.locals_are_old |= matches!(input, PolicyInput::Own(_));
        self.told.hear(input, &mut self.policies);
    }

    /// Whether a connection is allowed; none while that is not certain.
    fn allows(&self, connection: &Connection) -> Option<bool> {
        let is_certain = self.known && self.pending.is_empty();
        is_certain.then(|| {
            let Connection {
                protocol,
                source,
                destination,
                port,
                ..
            } = connection;
            self.policies
                .allows(*source, *destination, *protocol, *port)
        })
    }

    /// Until when a commit waits for the pods of other nodes.
    fn waits_until(&self) -> Option<Instant> {
        let since = self.asked.filter(|_| !self.told.has_pods())?;
        let until = since + PATIENCE;
        (self.told.is_complete() && until > Instant::now()).then_some(until)
    }

    /// Takes note of the node's pods, blocks and pools. Cheap where nothing changed.
    fn look_at(&mut self, view: &NodeView, record: &record::State) {
        self.told.look_at(view, &mut self.policies);
        let links = || {
            let pods = view.pods.iter();
            pods.filter_map(|(key, pod)| Some((key, pod.host_index?)))
        };
        let same = self.links.len() == links().count()
            && links()
                .zip(&self.links)
                .all(|((key, link), known)| (key, link) == (&known.0, known.1));
        if same && !std::mem::take(&mut self.locals_are_old) {
            return;
        }
        let now: Vec<(AttachmentKey, u32)> =
            links().map(|(key, link)| (key.clone(), link)).collect();
        let there: BTreeSet<&AttachmentKey> = now.iter().map(|(key, _)| key).collect();
        for (key, _) in self.links.iter().filter(|(key, _)| !there.contains(key)) {
            self.policies.set_local(key, None);
        }
        for (key, link) in &now {
            if let Some(pod) = view.pods.get(key) {
                let local = self.local(*link, pod, record.assignments.get(key));
                self.policies.set_local(key, Some(local));
            }
        }
        self.links = now;
        self.locals_are_old = false;
    }

    fn local(&self, link: u32, pod: &PodView, of: Option<&record::Assignment>) -> LocalPod {
        let (namespace, name) = pod.pod.split_once('/').unwrap_or(("", &pod.pod));
        let uid = of.map_or("", |assignment| assignment.pod_uid.as_str());
        let own = self.told.own(uid, namespace, name);
        LocalPod {
            link,
            namespace: namespace.into(),
            name: name.into(),
            addresses: pod.addresses.clone().into(),
            known: own.map(|own| own.known.clone()),
        }
    }

    /// Compiles what is new.
    fn compile(&mut self) {
        self.policies.set_synced(self.told.is_complete());
        let Changes { batches, concerned } = self.policies.compile();
        self.pending.extend(batches);
        match (&mut self.concerned, concerned) {
            (Concerned::Addresses(all), Concerned::Addresses(more)) => all.extend(more),
            (all, Concerned::All) => *all = Concerned::All,
            (Concerned::All, _) => {}
        }
    }

    /// The kernel's elements are in doubt: all are compared.
    fn doubt(&mut self) {
        self.known = false;
        self.pending.clear();
        self.concerned = Concerned::All;
    }

    /// Addresses whose connections are to be looked at, once.
    fn take_concerned(&mut self) -> BTreeSet<IpAddr> {
        match std::mem::take(&mut self.concerned) {
            Concerned::Addresses(addresses) => addresses,
            Concerned::All => self.policies.local_addresses().collect(),
        }
    }
}

impl Engine {
    /// Brings the kernel up to date with the policies. The first time everything is compared.
    pub(super) fn enforce(&mut self) -> Result<(), Killed> {
        let start = Instant::now();
        let (Some(enforcer), Some(kernel), Some(compiled), Some(addresses), true) = (
            &mut self.enforcer,
            &mut self.kernel,
            &self.compiled,
            &self.addresses,
            self.ready,
        ) else {
            return Ok(());
        };
        if std::mem::replace(&mut enforcer.reads, kernel.reads) != kernel.reads {
            enforcer.doubt();
        }
        enforcer.look_at(compiled.view(), addresses.state());
        if !enforcer.told.is_complete() || enforcer.retry.is_some_and(|at| at > start) {
            return Ok(());
        }
        enforcer.retry = None;
        enforcer.compile();
        self.ask_for_pods();
        let (Some(enforcer), Some(kernel)) = (&mut self.enforcer, &mut self.kernel) else {
            return Ok(());
        };
        if enforcer.waits_until().is_some() {
            return Ok(());
        }
        let (before, whole) = (kernel.effort(), !enforcer.known);
        if enforcer.known && enforcer.pending.is_empty() {
            audit_one(enforcer, kernel, start);
            self.enforced(start, before, false);
            return Ok(());
        }
        let done = if whole {
            compare(enforcer, kernel)
        } else {
            kernel.nft.commit_all(&enforcer.pending)
        };
        self.faults.pass(FaultPoint::Enforced)?;
        if let Err(error) = done {
            self.enforce_failed(&error);
            return Ok(());
        }
        enforcer.pending.clear();
        enforcer.known = true;
        if whole {
            enforcer.audit.end();
        }
        self.enforced(start, before, whole);
        Ok(())
    }

    /// Isolates new pods as their policies say, or in both directions while that is not known.
    /// Nothing leads to them yet. A sentence if that fails: then they must not be let in.
    pub(super) fn isolate(&mut self, pods: &[AttachmentKey]) -> Result<Option<String>, Killed> {
        let (Some(enforcer), Some(kernel), Some(compiled), Some(addresses)) = (
            &mut self.enforcer,
            &mut self.kernel,
            &self.compiled,
            &self.addresses,
        ) else {
            return Ok(None);
        };
        enforcer.look_at(compiled.view(), addresses.state());
        let is_current = enforcer.known
            && kernel.reads == enforcer.reads
            && enforcer.pending.is_empty()
            && enforcer.retry.is_none()
            && enforcer.told.is_complete();
        let done = if is_current {
            enforcer.compile();
            let done = kernel.nft.commit_all(&enforcer.pending);
            if done.is_ok() {
                enforcer.pending.clear();
            }
            done
        } else {
            let mut strangers = Policies::new();
            for key in pods {
                if let Some(pod) = compiled.view().pods.get(key)
                    && let Some(link) = pod.host_index
                {
                    let local = enforcer.local(link, pod, None);
                    let known = None;
                    strangers.set_local(key, Some(LocalPod { known, ..local }));
                }
            }
            enforcer.doubt();
            kernel.nft.commit_all(&strangers.compile().batches)
        };
        self.faults.pass(FaultPoint::Isolated)?;
        let Err(error) = done else {
            return Ok(None);
        };
        self.enforce_failed(&error);
        Ok(Some(error.to_string()))
    }

    /// Judges connections that were looked for, and has those labelled that are not as policies say.
    pub(super) fn judge(&mut self) {
        let found = self.connections.found();
        if found.is_empty() {
            return;
        }
        let (Some(enforcer), Some(compiled)) = (&mut self.enforcer, &self.compiled) else {
            return;
        };
        let own = compiled.view().host.addresses();
        let mut own: BTreeSet<IpAddr> = own.into_iter().collect();
        own.extend([
            IpAddr::from([127, 0, 0, 1]),
            std::net::Ipv6Addr::LOCALHOST.into(),
        ]);
        let mut wrong = Vec::new();
        for connection in found {
            // A node always reaches its own pods.
            let allowed = if own.contains(&connection.source) {
                Some(true)
            } else {
                enforcer.allows(&connection)
            };
            match allowed {
                Some(allowed) if allowed == connection.has(names::REVOKED_LABEL) => {
                    wrong.push((connection, !allowed));
                }
                Some(_) => {}
                None => enforcer.concerned = Concerned::All,
            }
        }
        self.connections.revoke(wrong);
    }

    /// Tells whether the pods of other nodes have to be watched, where that is new.
    fn ask_for_pods(&mut self) {
        let Some(enforcer) = &mut self.enforcer else {
            return;
        };
        let needs = enforcer.policies.needs_pods();
        if needs == enforcer.asked.is_some() {
            return;
        }
        enforcer.asked = needs.then(Instant::now);
        self.send(Output::PodsNeeded(needs));
    }

    fn enforced(&mut self, start: Instant, before: Effort, whole: bool) {
        let (Some(enforcer), Some(kernel)) = (&mut self.enforcer, &self.kernel) else {
            return;
        };
        self.troubles.set(Trouble::Policies, None);
        let concerned = enforcer.take_concerned();
        self.connections.look_for(concerned);
        if !whole && enforcer.enforced == enforcer.heard {
            return;
        }
        enforcer.enforced = enforcer.heard;
        let enforced = Enforced {
            heard: enforcer.heard,
            took: start.elapsed(),
            whole,
            effort: kernel.effort().since(before),
        };
        self.send(Output::Enforced(enforced));
    }

    fn enforce_failed(&mut self, error: &Error) {
        self.troubles.set(
            Trouble::Policies,
            Some(format!(
                "network policies are not up to date, the last good ones stay in force; trying again: {error}"
            )),
        );
        if let Some(enforcer) = &mut self.enforcer {
            enforcer.doubt();
            enforcer.retry = Some(Instant::now() + RETRY);
        }
        self.send(Output::NotEnforced);
    }
}

/// Makes every set right, whatever is in it: one transaction that adds, one that removes.
fn compare(enforcer: &Enforcer, kernel: &mut Kernel) -> Result<(), Error> {
    let mut all = Repair::default();
    for bulk in Bulk::all() {
        all.append(enforcer.policies.repair(bulk, read(kernel, bulk)?));
    }
    kernel.nft.commit_all(&all.batches())
}

fn read(kernel: &mut Kernel, bulk: Bulk) -> Result<BTreeMap<Key, Element>, Error> {
    let read = kernel.nft.fold_set(
        names::TABLE,
        &bulk.name(),
        BTreeMap::new,
        |all: &mut BTreeMap<_, _>, key, element| drop(all.insert(key, element)),
    );
    Ok(read?.unwrap_or_default())
}

/// Compares one set of an audit, if it is time for one. Where something is wrong, all are compared and
/// put right at once.
fn audit_one(enforcer: &mut Enforcer, kernel: &mut Kernel, start: Instant) {
    let Some(bulk) = enforcer.audit.take(start) else {
        return;
    };
    let have = read(kernel, bulk);
    let is_right = have.is_ok_and(|have| enforcer.policies.repair(bulk, have).is_empty());
    if !is_right {
        enforcer.doubt();
        enforcer.retry = Some(start);
    }
    enforcer.audit.looked_at(start);
}
