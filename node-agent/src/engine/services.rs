//! Services in the kernel: what the API says of Services and EndpointSlices, kept compact, becomes
//! transactions of the elements that an event touches.
//!
//! The chains and the declarations of maps are part of the plan; the maps' elements are not, because
//! a cluster has hundreds of thousands of them. They are read once at start, one set at a time, and
//! again after an error and in the audit; an update lists nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use weft_core::names;
use weft_core::services::{
    Bulk, Changes, Config, Frame, NoLocalEndpoints, NodePortAddresses, Repair, ServiceName,
    ServiceObject, Services, SliceName, SliceObject, StaleFlows,
};
use weft_core::view::{Family, NodeView};
use weft_kernel::nft::Error;

use super::Output;
use super::fault::{FaultPoint, Faults, Killed};
use super::kernel::Kernel;
use super::pace::Pace;
use super::report::Trouble;
use super::round::Engine;
use crate::watch::Update;

/// After a failure.
const RETRY: Duration = Duration::from_secs(1);
/// So many trigger times are kept while nothing can be committed.
const TRIGGERS: usize = 16_384;

/// How this node serves Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// On which addresses of the node node ports are served.
    pub node_port_addresses: NodePortAddresses,
    /// What counts as a source inside the cluster; empty: the networks of all pools.
    pub pod_networks: Vec<IpNet>,
    /// Ranges of cluster IPs beside those that the API tells.
    pub service_networks: Vec<IpNet>,
    /// Whether everything to a cluster IP is masqueraded.
    pub masquerade_all: bool,
}

/// What the API says of Services.
#[derive(Clone, Debug)]
pub enum ServiceInput {
    /// A Service, or all of them; none: one that is for somebody else.
    Service(Update<Option<ServiceObject>>),
    /// An EndpointSlice, or all of them; none: one that is for somebody else.
    Slice(Update<Option<SliceObject>>),
    /// The EndpointSlice that comes next is about something that happened then.
    Triggered {
        /// Family of the slice.
        family: Family,
        /// When (annotation `endpoints.kubernetes.io/last-change-trigger-time`).
        at: SystemTime,
    },
    /// The ranges of cluster IPs, all of them.
    Networks(Vec<IpNet>),
    /// Everything has been told once.
    Synced,
}

/// The rules of Services are in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balanced {
    /// Inputs about Services that the engine has heard since it started.
    pub heard: u64,
    /// Of those, about Services.
    pub services: u64,
    /// Of those, about EndpointSlices.
    pub slices: u64,
    /// From the first step to the last commit.
    pub took: Duration,
    /// Everything was compared with the kernel, not only what changed.
    pub whole: bool,
    /// For each EndpointSlice with a trigger time: from then until its rules were in the kernel.
    pub programmed: Vec<(Family, Duration)>,
    /// Services that want endpoints of this node where there are none.
    pub no_local_endpoints: NoLocalEndpoints,
    /// What the kernel was asked for.
    pub effort: Effort,
}

/// What the kernel is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// nf_tables transactions.
    pub transactions: u64,
    /// Messages in them.
    pub messages: u64,
    /// Listings (`NLM_F_DUMP`): none in an update.
    pub dumps: u64,
}

impl Effort {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            transactions: self.transactions - before.transactions,
            messages: self.messages - before.messages,
            dumps: self.dumps - before.dumps,
        }
    }
}

/// The Services of a node.
#[derive(Debug)]
pub(super) struct Balancer {
    settings: ServiceSettings,
    services: Services,
    networks: Vec<IpNet>,
    synced: bool,
    /// The node is known: compilation makes sense.
    configured: bool,
    /// The numbers that the kernel has were taken over.
    adopted: bool,
    /// Elements in the kernel are what was committed.
    known: bool,
    /// How often the table had been read then.
    reads: u64,
    /// The last attempt failed: the next one is then.
    retry: Option<Instant>,
    audit: Pace<(Bulk, Family)>,
    /// What was heard, and what of it was told to be in the kernel.
    heard: Heard,
    told: Heard,
    triggers: Vec<(Family, SystemTime)>,
    /// Of the next slice.
    trigger: Option<(Family, SystemTime)>,
    /// Connections to look for when the elements are committed.
    stale: Vec<StaleFlows>,
}

/// How many inputs were heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    all: u64,
    services: u64,
    slices: u64,
}

impl Balancer {
    pub(super) fn new(settings: ServiceSettings) -> Self {
        Self {
            networks: settings.service_networks.clone(),
            settings,
            services: Services::default(),
            synced: false,
            configured: false,
            adopted: false,
            known: false,
            reads: 0,
            retry: None,
            audit: Pace::default(),
            heard: Heard::default(),
            told: Heard::default(),
            triggers: Vec::new(),
            trigger: None,
            stale: Vec::new(),
        }
    }

    /// When there is something to do without having heard of it.
    pub(super) fn next(&self) -> Option<Instant> {
        let audit = self.audit.next().filter(|_| self.known);
        self.retry.into_iter().chain(audit).min()
    }

    /// Elements are to be compared with the kernel's, a set at a time, between updates.
    pub(super) fn audit(&mut self) {
        self.audit.begin(sets());
    }

    /// Takes note of what the API says.
    pub(super) fn hear(&mut self, input: ServiceInput) {
        self.heard.all += 1;
        match input {
            ServiceInput::Service(update) => {
                self.heard.services += 1;
                self.service(update);
            }
            ServiceInput::Slice(update) => {
                self.heard.slices += 1;
                let triggers = self.trigger.take();
                let room = TRIGGERS.saturating_sub(self.triggers.len());
                self.triggers.extend(triggers.into_iter().take(room));
                self.slice(update);
            }
            ServiceInput::Triggered { family, at } => {
                self.trigger = Some((family, at));
            }
            ServiceInput::Networks(networks) => {
                self.networks = networks;
                self.networks.extend(&self.settings.service_networks);
                let config = Config {
                    service_networks: self.networks.clone(),
                    ..self.services.config().clone()
                };
                self.services.configure(config);
            }
            ServiceInput::Synced => self.synced = true,
        }
    }

    /// Elements must be read back before the next update.
    pub(super) fn doubt(&mut self) {
        self.known = false;
    }

    /// The Services as compiled.
    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    fn service(&mut self, update: Update<Option<ServiceObject>>) {
        match update {
            Update::Apply(name, object) => self.services.set_service(&service_name(&name), object),
            Update::Delete(name) => self.services.set_service(&service_name(&name), None),
            Update::Reset(all) => {
                let (known, _) = self.services.names();
                let there: BTreeSet<ServiceName> =
                    all.keys().map(|key| service_name(key)).collect();
                for name in known.iter().filter(|name| !there.contains(name)) {
                    self.services.set_service(name, None);
                }
                for (name, object) in all {
                    self.services.set_service(&service_name(&name), object);
                }
            }
        }
    }

    fn slice(&mut self, update: Update<Option<SliceObject>>) {
        match update {
            Update::Apply(name, object) => self.services.set_slice(&slice_name(&name), object),
            Update::Delete(name) => self.services.set_slice(&slice_name(&name), None),
            Update::Reset(all) => {
                let (_, known) = self.services.names();
                let there: BTreeSet<SliceName> = all.keys().map(|key| slice_name(key)).collect();
                for name in known.iter().filter(|name| !there.contains(name)) {
                    self.services.set_slice(name, None);
                }
                for (name, object) in all {
                    self.services.set_slice(&slice_name(&name), object);
                }
            }
        }
    }

    /// What the node is like. Cheap where nothing changed.
    fn configure(&mut self, view: &NodeView, zone: Option<&str>) {
        let ServiceSettings {
            node_port_addresses,
            pod_networks,
            service_networks: _,
            masquerade_all,
        } = &self.settings;
        let pools = view.pools.values();
        let pod_networks = if pod_networks.is_empty() {
            pools.flat_map(|pool| pool.cidrs.iter().copied()).collect()
        } else {
            pod_networks.clone()
        };
        let config = Config {
            node: view.node.clone(),
            zone: zone.map(str::to_owned),
            node_addresses: view.host.addresses(),
            node_port_addresses: node_port_addresses.clone(),
            pod_networks,
            service_networks: self.networks.clone(),
            masquerade_all: *masquerade_all,
        };
        self.configured = true;
        if config != *self.services.config() {
            self.services.configure(config);
        }
    }
}

fn service_name(key: &str) -> ServiceName {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    ServiceName::new(namespace, name)
}

fn slice_name(key: &str) -> SliceName {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    SliceName::new(namespace, name)
}

impl Engine {
    /// The frame that belongs into the plan before Services have been heard of: that which the
    /// predecessor left.
    pub(super) fn service_frame(&mut self, view: &NodeView) -> Option<Frame> {
        let zone = self
            .cluster
            .as_ref()
            .and_then(|cluster| cluster.zone.clone());
        let balancer = self.balancer.as_mut()?;
        balancer.configure(view, zone.as_deref());
        if let Some(compiled) = &self.compiled {
            return compiled.view().services.clone();
        }
        let kernel = self.kernel.as_mut()?;
        kernel.learn().ok()?;
        Frame::shown_by(&kernel.have.table)
    }

    /// Brings the kernel up to date with the Services. The first time everything is compared.
    pub(super) fn balance(&mut self) -> Result<(), Killed> {
        let start = Instant::now();
        let (Some(balancer), Some(kernel), Some(compiled)) =
            (&mut self.balancer, &mut self.kernel, &self.compiled)
        else {
            return Ok(());
        };
        if std::mem::replace(&mut balancer.reads, kernel.reads) != kernel.reads {
            balancer.doubt();
        }
        if !balancer.synced || !balancer.configured || balancer.retry.is_some_and(|at| at > start) {
            return Ok(());
        }
        balancer.retry = None;
        let before = kernel.effort();
        if balancer.known && !balancer.services.is_dirty() {
            audit_one(balancer, kernel, start);
            self.balanced(start, before, false);
            return Ok(());
        }
        let first = !balancer.adopted;
        if first {
            match adopt(balancer, kernel) {
                // Where there is nothing, there is nothing to compare.
                Ok(nothing) => balancer.known = nothing,
                Err(error) => {
                    self.balance_failed(&error.to_string());
                    return Ok(());
                }
            }
            if let Some(frame) = &compiled.view().services {
                balancer.services.hold(frame);
            }
            balancer.adopted = true;
        }
        let doubted = !balancer.known;
        match self.bring_up_to_date(doubted)? {
            Ok(()) => self.balanced(start, before, first || doubted),
            Err(sentence) => self.balance_failed(&sentence),
        }
        Ok(())
    }

    /// Chains that are needed, elements, chains that are needed no more. A sentence if that fails.
    fn bring_up_to_date(&mut self, whole: bool) -> Result<Result<(), String>, Killed> {
        let Some(balancer) = &mut self.balancer else {
            return Ok(Ok(()));
        };
        let Changes {
            before,
            mut batches,
            after,
            stale,
        } = balancer.services.compile();
        balancer.stale.extend(stale);
        if let Some(frame) = before
            && let Some(sentence) = self.frame(frame)
        {
            // The batches are still to be committed.
            if let Some(balancer) = &mut self.balancer {
                match batches.next() {
                    Some(batch) => balancer.services.interrupted(batch, batches),
                    None => balancer.known = false,
                }
            }
            return Ok(Err(sentence));
        }
        self.faults.pass(FaultPoint::Framed)?;
        let (Some(balancer), Some(kernel)) = (&mut self.balancer, &mut self.kernel) else {
            return Ok(Ok(()));
        };
        let done = if whole {
            compare(balancer, kernel, &self.faults)?
        } else {
            commit(balancer, kernel, batches, &self.faults)?
        };
        if let Err(error) = done {
            return Ok(Err(error.to_string()));
        }
        balancer.known = true;
        if whole {
            balancer.audit.end();
        }
        balancer.services.committed();
        self.faults.pass(FaultPoint::Balanced)?;
        self.connections
            .reconcile(std::mem::take(&mut balancer.stale));
        let sentence = after.and_then(|frame| self.frame(frame));
        Ok(sentence.map_or(Ok(()), Err))
    }

    /// Puts chains into the plan and the plan into the kernel; a sentence if that fails.
    fn frame(&mut self, frame: Frame) -> Option<String> {
        let compiled = self.compiled.as_mut()?;
        compiled.set_services(Some(frame));
        self.commit().table
    }

    /// Tells that all that was heard is in the kernel, unless that was told.
    fn balanced(&mut self, start: Instant, before: Effort, whole: bool) {
        let (Some(balancer), Some(kernel)) = (&mut self.balancer, &self.kernel) else {
            return;
        };
        self.troubles.set(Trouble::Services, None);
        if !whole && balancer.told == balancer.heard {
            return;
        }
        balancer.told = balancer.heard;
        let Heard {
            all,
            services,
            slices,
        } = balancer.heard;
        let now = SystemTime::now();
        let programmed = balancer.triggers.drain(..).map(|(family, at)| {
            let took = now.duration_since(at).unwrap_or_default();
            (family, took)
        });
        let balanced = Balanced {
            heard: all,
            services,
            slices,
            took: start.elapsed(),
            whole,
            programmed: programmed.collect(),
            no_local_endpoints: balancer.services.no_local_endpoints(),
            effort: kernel.effort().since(before),
        };
        let checks = balancer.services.new_health();
        self.send(Output::Balanced(balanced));
        if let Some(checks) = checks {
            self.send(Output::ServiceChecks(checks));
        }
    }

    fn balance_failed(&mut self, sentence: &str) {
        self.troubles.set(
            Trouble::Services,
            Some(format!(
                "the rules of Services are not up to date, the last good ones stay in force; trying again: {sentence}"
            )),
        );
        if let Some(balancer) = &mut self.balancer {
            balancer.retry = Some(Instant::now() + RETRY);
        }
        self.send(Output::NotBalanced);
    }

    /// Services that cannot be as their authors wish, as sentences with their codes.
    pub(super) fn service_findings(&self) -> Vec<String> {
        let services = self.balancer.iter().map(Balancer::services);
        services
            .flat_map(Services::findings)
            .map(|finding| format!("{finding} [{}]", finding.code()))
            .collect()
    }
}

/// Every bulk set of both families.
fn sets() -> impl DoubleEndedIterator<Item = (Bulk, Family)> + Clone {
    Bulk::ALL
        .into_iter()
        .flat_map(|bulk| Family::ALL.map(|family| (bulk, family)))
}

/// Takes over the numbers of a predecessor. Answers whether the kernel has no element at all.
fn adopt(balancer: &mut Balancer, kernel: &mut Kernel) -> Result<bool, Error> {
    let mut nothing = true;
    for (bulk, family) in sets() {
        let name = bulk.name(family);
        let services = &mut balancer.services;
        let found = kernel.nft.fold_set(
            names::TABLE,
            name,
            || false,
            |any, key, element| {
                *any = true;
                services.adopt(name, &key, &element);
            },
        )?;
        nothing &= found != Some(true);
    }
    Ok(nothing)
}

/// Compares one set of an audit, if it is time for one. Where something is wrong, all are compared and
/// put right at once.
fn audit_one(balancer: &mut Balancer, kernel: &mut Kernel, start: Instant) {
    let Some(set) = balancer.audit.take(start) else {
        return;
    };
    let is_right = repair(balancer, kernel, set)
        .is_ok_and(|repair| repair.additions.is_empty() && repair.removals.is_empty());
    if !is_right {
        balancer.known = false;
        balancer.retry = Some(start);
    }
    balancer.audit.looked_at(start);
}

/// What makes one set right, whatever the kernel holds.
fn repair(balancer: &Balancer, kernel: &mut Kernel, set: (Bulk, Family)) -> Result<Repair, Error> {
    let services = &balancer.services;
    let (bulk, family) = set;
    let seen = kernel.nft.fold_set(
        names::TABLE,
        bulk.name(family),
        || services.audit(set),
        |audit, key, element| audit.see(key, &element),
    )?;
    Ok(seen.unwrap_or_else(|| services.audit(set)).repair())
}

/// Makes every set right, whatever is in it: what is used first, what is unused last.
fn compare(
    balancer: &Balancer,
    kernel: &mut Kernel,
    faults: &Faults,
) -> Result<Result<(), Error>, Killed> {
    let mut removals = Vec::new();
    for (bulk, family) in sets() {
        let repair = match repair(balancer, kernel, (bulk, family)) {
            Ok(repair) => repair,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = kernel.nft.commit_all(&repair.additions) {
            return Ok(Err(error));
        }
        if !repair.additions.is_empty() {
            faults.pass(FaultPoint::Batched)?;
        }
        removals.push(repair.removals);
    }
    let mut removals = removals.iter().rev();
    Ok(removals.try_for_each(|batches| kernel.nft.commit_all(batches)))
}

fn commit(
    balancer: &mut Balancer,
    kernel: &mut Kernel,
    mut batches: weft_core::services::Batches,
    faults: &Faults,
) -> Result<Result<(), Error>, Killed> {
    while let Some(batch) = batches.next() {
        if let Err(error) = kernel.nft.commit(&batch) {
            // What stands of it is not known, or not worth finding out: all is compared.
            balancer.services.interrupted(batch, batches);
            balancer.known = false;
            return Ok(Err(error));
        }
        faults.pass(FaultPoint::Batched)?;
    }
    Ok(Ok(()))
}
