//! What the engine tells of the node: NodeNetwork status, NodeReport, counters; each only when it
//! has changed.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use weft_core::compile::{mtu, overlay};
use weft_core::finding::Rejection;
use weft_crds::{
    BlockState, BlockUsage, ConditionStatus, NodeNetworkStatus, NodeReportSpec, reason,
};

use super::addresses::{Addresses, unix_seconds};
use super::round::Engine;
use super::{Counters, Output};

/// What is not as wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The record cannot be opened.
    Record,
    /// The record cannot be written.
    Disk,
    /// What was heard from the cluster cannot be written.
    Snapshot,
    /// The kernel cannot be reached or read.
    Kernel,
    /// The nft table is not as planned.
    Table,
    /// Links, addresses, neighbours or routes are not as planned.
    Net,
    /// Sysctls are not as planned.
    Sysctls,
    /// The elements of Services are not as the API says.
    Services,
    /// The elements of policies are not as the API says.
    Policies,
    /// Connections of former pods may go on.
    Conntrack,
    /// The audit found something.
    Audit,
    /// The kernel cannot protect the table.
    Unprotected,
}

/// Present troubles, each as a sentence.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Trouble, String>);

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Something has happened since.
    pub(super) is_old: bool,
    network: Option<NodeNetworkStatus>,
    report: Option<NodeReportSpec>,
    counters: Counters,
    since: BTreeMap<(&'static str, &'static str), (ConditionStatus, jiff::Timestamp)>,
}

impl Troubles {
    /// Notes a trouble or its end. True if that is new.
    pub(super) fn set(&mut self, trouble: Trouble, sentence: Option<String>) -> bool {
        match sentence {
            Some(sentence) => self.0.insert(trouble, sentence.clone()) != Some(sentence),
            None => self.0.remove(&trouble).is_some(),
        }
    }

    /// The sentence.
    pub(super) fn get(&self, trouble: Trouble) -> Option<&str> {
        self.0.get(&trouble).map(String::as_str)
    }

    fn first(&self, of: &[Trouble]) -> Option<(Trouble, &str)> {
        of.iter()
            .find_map(|trouble| Some((*trouble, self.get(*trouble)?)))
    }
}

impl Trouble {
    /// One CamelCase word.
    fn reason(self) -> &'static str {
        match self {
            Self::Record => "RecordUnusable",
            Self::Disk => "WriteFailed",
            Self::Snapshot => "SnapshotNotWritten",
            Self::Kernel => "KernelUnreachable",
            Self::Table => "TableNotCommitted",
            Self::Net => "NetworkNotCommitted",
            Self::Sysctls => "SysctlsNotWritten",
            Self::Services => "ServicesNotCommitted",
            Self::Policies => "PoliciesNotCommitted",
            Self::Conntrack => "ConnectionsNotDeleted",
            Self::Audit => "AuditFindings",
            Self::Unprotected => "NoOwnedTables",
        }
    }

    /// The stable code.
    fn code(self) -> &'static str {
        match self {
            Self::Record => "WEFT-1601",
            Self::Disk => "WEFT-1602",
            Self::Snapshot => "WEFT-1611",
            Self::Kernel => "WEFT-1603",
            Self::Table => "WEFT-1604",
            Self::Net => "WEFT-1605",
            Self::Sysctls => "WEFT-1606",
            Self::Services => "WEFT-1613",
            Self::Policies => "WEFT-1614",
            Self::Conntrack => "WEFT-1607",
            Self::Audit => "WEFT-1608",
            Self::Unprotected => "WEFT-1609",
        }
    }
}

/// A condition before its time is known.
struct Draft {
    kind: &'static str,
    status: ConditionStatus,
    reason: &'static str,
    message: String,
}

impl Engine {
    /// Tells what has changed, not more often than every moment.
    pub(super) fn report(&mut self, now: Instant, not_before: Instant) {
        self.told.is_old = true;
        let asks = !self.waiting.is_empty();
        if now < not_before && !asks {
            return;
        }
        self.reported(now);
        self.told.is_old = false;
        self.report_network();
        self.report_usage();
        self.report_counters();
    }

    fn report_network(&mut self) {
        // Peers route by this: nothing is said before everything is known.
        let Some(compiled) = self.compiled.as_ref().filter(|_| self.ready) else {
            return;
        };
        let view = compiled.view();
        let addresses = view
            .host
            .interfaces
            .values()
            .flat_map(|interface| &interface.addresses);
        let mut addresses: Vec<String> = addresses.map(|net| net.addr().to_string()).collect();
        addresses.extend(view.host.internal_ips.iter().map(ToString::to_string));
        addresses.sort();
        addresses.dedup();
        let underlays = overlay::report(view);
        let ready = self.ready_condition();
        let status = NodeNetworkStatus {
            observed_generation: self.in_force,
            underlays,
            addresses,
            conditions: vec![self.dated("NodeNetwork", ready, self.in_force)],
        };
        if self.told.network.as_ref() != Some(&status) {
            self.told.network = Some(status.clone());
            self.send(Output::Network(status));
        }
    }

    fn report_usage(&mut self) {
        let conditions = self.conditions();
        let blocks = self.blocks();
        let report = NodeReportSpec {
            time: None,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .ok()
                .map(|text| text.trim().to_owned()),
            pools: self
                .addresses
                .iter()
                .flat_map(|addresses| addresses.book().pool_usage(unix_seconds()))
                .collect(),
            blocks,
            mtus: self
                .compiled
                .iter()
                .flat_map(|compiled| mtu::report(compiled.view()))
                .collect(),
            conditions,
        };
        if self.told.report.as_ref() == Some(&report) {
            return;
        }
        let urgent = self
            .told
            .report
            .as_ref()
            .is_none_or(|before| self.is_urgent(before, &report));
        self.told.report = Some(report.clone());
        self.send(Output::Report {
            report: Box::new(report),
            urgent,
        });
    }

    fn report_counters(&mut self) {
        let (commits, dumps) = self
            .kernel
            .as_ref()
            .map_or((0, 0), super::kernel::Kernel::totals);
        self.counters.nft_commits = commits;
        self.counters.kernel_dumps = dumps;
        let attachments = self
            .addresses
            .as_ref()
            .map_or(0, |addresses| addresses.state().assignments.len());
        self.counters.attachments = attachments as u64;
        if self.told.counters != self.counters {
            self.told.counters = self.counters;
            self.send(Output::Counters(self.counters));
        }
    }

    /// Told without being news to tell about.
    pub(super) fn send(&mut self, output: Output) {
        let is_old = self.told.is_old;
        self.tell(output);
        self.told.is_old = is_old;
    }

    /// Own blocks in the book, and those that an older one keeps us from using. None is released
    /// before the disk says that it is Draining: a start without API server would use it again.
    fn blocks(&mut self) -> Vec<BlockUsage> {
        let Some(addresses) = &self.addresses else {
            return Vec::new();
        };
        let mut blocks = addresses.book().block_usage();
        blocks.extend(self.overlapped(addresses));
        let mut early = false;
        for block in blocks.iter_mut().filter(|block| block.released) {
            block.released = self.snapshot.has_draining(&block.uid);
            early |= !block.released;
        }
        if early {
            self.snapshot.hurry();
        }
        blocks
    }

    /// Own blocks that an older one overlaps, released once they drain and nothing within is in use
    /// or rests: pods may have got addresses of one before it lost.
    fn overlapped(&self, addresses: &Addresses) -> Vec<BlockUsage> {
        let usage = |rejection: &Rejection| {
            let Rejection::BlockOverlap {
                block,
                cidr,
                node,
                other,
                ..
            } = rejection
            else {
                return None;
            };
            let mut objects = self.cluster.iter().flat_map(|cluster| &cluster.blocks);
            let object = objects.find(|object| object.name == *block)?;
            (*node == self.config.node).then(|| BlockUsage {
                name: block.clone(),
                uid: object.uid.clone(),
                overlaps: Some(other.clone()),
                released: object.spec.state == BlockState::Draining && !addresses.has_any_of(cidr),
                ..BlockUsage::default()
            })
        };
        self.rejections.iter().filter_map(usage).collect()
    }

    fn is_urgent(&self, before: &NodeReportSpec, now: &NodeReportSpec) -> bool {
        let waiting = |report: &NodeReportSpec| {
            report
                .pools
                .iter()
                .map(|pool| pool.waiting)
                .collect::<Vec<_>>()
        };
        let given_up =
            |report: &NodeReportSpec| report.blocks.iter().filter(|block| block.released).count();
        let short = |report: &NodeReportSpec| {
            let pools = self
                .compiled
                .iter()
                .flat_map(|compiled| &compiled.view().pools);
            let prealloc: BTreeMap<_, _> = pools
                .map(|(name, pool)| (name, u64::from(pool.prealloc)))
                .collect();
            let short = report.pools.iter().filter(|usage| {
                prealloc
                    .get(&usage.pool)
                    .is_some_and(|wanted| usage.free < *wanted)
            });
            short
                .map(|usage| (usage.pool.clone(), usage.family.clone()))
                .collect::<Vec<_>>()
        };
        before.conditions != now.conditions
            || before.blocks.len() != now.blocks.len()
            || waiting(before) != waiting(now)
            || given_up(before) != given_up(now)
            || short(before) != short(now)
    }

    fn conditions(&mut self) -> Vec<Condition> {
        let troubles = &self.troubles;
        let verdict = |kind, of: &[Trouble], fine: &str| match troubles.first(of) {
            Some((trouble, sentence)) => Draft {
                kind,
                status: ConditionStatus::False,
                reason: trouble.reason(),
                message: format!("{sentence} [{}]", trouble.code()),
            },
            None => Draft {
                kind,
                status: ConditionStatus::True,
                reason: reason::OK,
                message: fine.to_owned(),
            },
        };
        let mut drafts = vec![
            self.ready_condition(),
            verdict(
                "RecordHealthy",
                &[Trouble::Record, Trouble::Disk, Trouble::Snapshot],
                "the record of addresses is readable and writable",
            ),
            verdict(
                "KernelInSync",
                &[
                    Trouble::Kernel,
                    Trouble::Table,
                    Trouble::Net,
                    Trouble::Sysctls,
                    Trouble::Conntrack,
                ],
                "the kernel is as planned",
            ),
        ];
        if self.balancer.is_some() {
            drafts.push(verdict(
                "ServicesInSync",
                &[Trouble::Services],
                "the rules of Services are as the API says",
            ));
        }
        if self.enforcer.is_some() {
            drafts.push(verdict(
                "PoliciesInSync",
                &[Trouble::Policies],
                "the network policies in force are as the API says",
            ));
        }
        if self.troubles.get(Trouble::Audit).is_some() {
            drafts.push(verdict("Consistent", &[Trouble::Audit], ""));
        }
        if self.troubles.get(Trouble::Unprotected).is_some() {
            drafts.push(verdict("TableProtected", &[Trouble::Unprotected], ""));
        }
        let advice = self.advice();
        if !advice.is_empty() {
            let message: String = advice.into_iter().take(5).collect::<Vec<_>>().join("; ");
            drafts.push(Draft {
                kind: "Degraded",
                status: ConditionStatus::True,
                reason: "Findings",
                message,
            });
        }
        drafts
            .into_iter()
            .map(|draft| self.dated("NodeReport", draft, None))
            .collect()
    }

    fn ready_condition(&self) -> Draft {
        let not = |reason, message| Draft {
            kind: "Ready",
            status: ConditionStatus::False,
            reason,
            message,
        };
        if let Some((trouble, sentence)) =
            self.troubles
                .first(&[Trouble::Record, Trouble::Kernel, Trouble::Table])
        {
            return not(trouble.reason(), format!("{sentence} [{}]", trouble.code()));
        }
        if !self.ready {
            let message = "the agent has not heard everything from the API server yet [WEFT-1610]";
            return not("NotSynced", message.to_owned());
        }
        Draft {
            kind: "Ready",
            status: ConditionStatus::True,
            reason: reason::OK,
            message: "the plan is in the kernel".to_owned(),
        }
    }

    /// Gives a condition the time since which its status holds.
    fn dated(&mut self, object: &'static str, draft: Draft, generation: Option<i64>) -> Condition {
        let Draft {
            kind,
            status,
            reason,
            message,
        } = draft;
        let now = jiff::Timestamp::from_second(i64::try_from(unix_seconds()).unwrap_or(0))
            .unwrap_or_default();
        let since = self
            .told
            .since
            .entry((object, kind))
            .or_insert((status, now));
        if since.0 != status {
            *since = (status, now);
        }
        Condition {
            type_: kind.to_owned(),
            status: status.as_str().to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: Time(since.1),
        }
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
