//! What the cluster says becomes a view, the view a compiled plan; the first time also opens the
//! record and plays back what waited.

use std::sync::Arc;

use weft_core::compile::Incremental;
use weft_core::finding::Severity;
use weft_core::view::{Raw, parse};

use super::addresses::{Addresses, pod_view};
use super::fault::Killed;
use super::report::Trouble;
use super::round::Engine;
use super::{ClusterInput, Output};

/// How long to wait for the API server before the snapshot on disk will do.
pub(super) const SNAPSHOT_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

impl Engine {
    /// Takes note of the cluster. Live input goes to disk for the next start.
    pub(super) fn hear(&mut self, input: Arc<ClusterInput>) {
        // Without a spec this node has no overlay and no pool yet; what is in force stays.
        if input.node_uid.is_empty() || input.network.is_none() {
            return;
        }
        self.snapshot.write(&input);
        self.take(input, true);
    }

    fn take(&mut self, input: Arc<ClusterInput>, of_this_boot: bool) {
        self.cluster = Some(input);
        self.cluster_is_of_this_boot = of_this_boot;
        self.view_is_old = true;
    }

    /// Where no API server answers, begins with what was last heard from it. After a boot that is
    /// good for routes alone: while the machine was off its Node may have been deleted and its
    /// blocks given to others.
    pub(super) fn fall_back(&mut self) {
        if self.cluster.is_some() || self.fell_back || self.started.elapsed() < SNAPSHOT_AFTER {
            return;
        }
        self.fell_back = true;
        if let Some((input, of_this_boot)) = self.snapshot.place().read() {
            let limits = if of_this_boot {
                ""
            } else {
                " before this boot, and gives pods no addresses until one has"
            };
            let message = format!(
                "no API server has answered yet; the agent works with what it last heard{limits}"
            );
            self.event(false, "StartedFromSnapshot", message);
            self.take(Arc::new(input), of_this_boot);
        }
    }

    /// Compiles what is new. The first time everything else begins here.
    pub(super) fn compile(&mut self) -> Result<(), Killed> {
        let Some(cluster) = self.cluster.clone().filter(|_| self.view_is_old) else {
            return Ok(());
        };
        if self.kernel.is_none() || !self.open_record(&cluster) {
            return Ok(());
        }
        if !self.host_known && !self.look_at_host() {
            return Ok(());
        }
        let Some(addresses) = &mut self.addresses else {
            return Ok(());
        };
        if let Err(error) = addresses.belong_to(&cluster.node_uid) {
            self.troubles
                .set(Trouble::Record, Some(super::report::chain(&error)));
        }
        let network = match &cluster.network {
            Some((network, _)) => network,
            None => return Ok(()),
        };
        let blocks: Vec<_> = cluster.blocks.iter().map(block_object).collect();
        let pods = match &self.compiled {
            Some(compiled) => compiled.view().pods.clone(),
            None => self.known_pods(),
        };
        let mut parsed = parse(&Raw {
            node: &self.config.node,
            internal_ips: &cluster.internal_ips,
            network,
            peers: &cluster.peers,
            other_addresses: &cluster.other_addresses,
            blocks: &blocks,
            host: &self.host,
            pods: &pods,
        });
        if let Some(addresses) = &mut self.addresses {
            addresses.configure(&parsed.view);
            self.assigns = self.cluster_is_of_this_boot;
        }
        parsed.view.services = self.service_frame(&parsed.view);
        parsed.view.dns = self.dns_view();
        parsed.view.policies = self.enforcer.is_some();
        self.rejections = parsed.rejections;
        match &mut self.compiled {
            Some(compiled) => drop(compiled.update(parsed.view)),
            None => self.compiled = Some(Incremental::new(parsed.view)),
        }
        self.view_is_old = false;
        self.plan_is_new = true;
        self.retry_waiting = true;
        Ok(())
    }

    /// Pods of the record, each with its link's index where the link is there.
    fn known_pods(
        &mut self,
    ) -> std::collections::BTreeMap<weft_core::view::AttachmentKey, weft_core::view::PodView> {
        let (Some(addresses), Some(kernel)) = (&self.addresses, &mut self.kernel) else {
            return std::collections::BTreeMap::new();
        };
        let assignments = &addresses.state().assignments;
        let links = assignments
            .values()
            .map(|assignment| assignment.host_link.clone());
        let indices = weft_kernel::net::indices(&mut kernel.rtnl, links).unwrap_or_default();
        assignments
            .iter()
            .map(|(key, assignment)| {
                (
                    key.clone(),
                    pod_view(assignment, indices.get(&assignment.host_link).copied()),
                )
            })
            .collect()
    }

    fn open_record(&mut self, cluster: &ClusterInput) -> bool {
        if self.addresses.is_some() {
            return true;
        }
        let Some(kernel) = &mut self.kernel else {
            return false;
        };
        let opened = Addresses::open(&self.config.state_dir, &cluster.node_uid, |state| {
            let mut links = state
                .assignments
                .values()
                .map(|assignment| &assignment.host_link);
            links.any(|link| weft_kernel::net::exists(&mut kernel.rtnl, link).unwrap_or(false))
        });
        match opened {
            Err(error) => {
                let sentence = super::report::chain(&error);
                if self.troubles.set(Trouble::Record, Some(sentence.clone())) {
                    self.event(true, "RecordUnusable", sentence);
                }
                false
            }
            Ok((addresses, opened)) => {
                self.troubles.set(Trouble::Record, None);
                if let Some(name) = opened.set_aside {
                    let message = format!(
                        "the state directory held the record of another node; it was renamed to {name}"
                    );
                    self.event(true, "RecordSetAside", message);
                }
                for assignment in addresses.state().assignments.values() {
                    self.tell(Output::Attached(super::attach::attached(assignment)));
                }
                // A release may have been cut off before its connections were deleted.
                self.connections
                    .forget(addresses.state().cooling.keys().copied().collect());
                self.addresses = Some(addresses);
                true
            }
        }
    }

    /// Describes the node's own interfaces.
    pub(super) fn look_at_host(&mut self) -> bool {
        let Some(kernel) = &mut self.kernel else {
            return false;
        };
        match kernel.host() {
            Ok(mut host) => {
                host.internal_ips.clone_from(&self.host.internal_ips);
                self.view_is_old |= host != self.host;
                self.host = host;
                self.host_known = true;
                self.troubles.set(Trouble::Kernel, None);
                true
            }
            Err(error) => {
                self.troubles.set(Trouble::Kernel, Some(error.to_string()));
                false
            }
        }
    }

    /// Findings and rejections that somebody has to act on, as sentences with their codes.
    pub(super) fn advice(&self) -> Vec<String> {
        let findings = self.compiled.iter().flat_map(Incremental::findings);
        let warnings = findings.filter(|finding| finding.severity() == Severity::Warning);
        let rejections = self
            .rejections
            .iter()
            .map(|rejection| format!("{rejection} [{}]", rejection.code()));
        rejections
            .chain(warnings.map(|finding| format!("{finding} [{}]", finding.code())))
            .chain(self.service_findings())
            .collect()
    }
}

fn block_object(block: &super::BlockObject) -> weft_core::view::BlockObject {
    let super::BlockObject {
        name,
        uid,
        resource_version,
        created,
        spec,
    } = block.clone();
    weft_core::view::BlockObject {
        name,
        uid,
        resource_version,
        created,
        spec,
    }
}
