//! The slow audit: record, kernel and plan compared as a whole. What disagrees is said in a
//! condition; what is ours beyond doubt is put right by the commit that follows.

use std::collections::BTreeSet;

use weft_core::diff::diff;
use weft_core::names;
use weft_kernel::net;

use super::report::Trouble;
use super::round::Engine;

/// Differences that the condition names.
const NAMED: usize = 5;

impl Engine {
    /// Reads everything back.
    pub(super) fn audit(&mut self) {
        let (Some(kernel), Some(compiled), Some(addresses)) =
            (&mut self.kernel, &self.compiled, &self.addresses)
        else {
            return;
        };
        let observed = match net::observe(&mut kernel.rtnl) {
            Ok(observed) => observed,
            Err(error) => {
                self.troubles.set(
                    Trouble::Kernel,
                    Some(format!("the audit could not read the kernel: {error}")),
                );
                return;
            }
        };
        let mut findings = Vec::new();
        let known: BTreeSet<&str> = addresses
            .state()
            .assignments
            .values()
            .map(|assignment| assignment.host_link.as_str())
            .collect();
        let unknown = observed
            .pod_links
            .keys()
            .filter(|link| !known.contains(link.as_str()));
        findings.extend(unknown.map(|link| {
            format!("link {link} is a pod's, and the record does not know it: find its pod with `ip netns`, and delete the pod")
        }));
        let without = compiled
            .view()
            .pods
            .values()
            .filter(|pod| pod.host_index.is_none());
        findings.extend(without.map(|pod| {
            format!("pod {} has addresses and no link {}: they are taken back when its sandbox is proven to be gone", pod.pod, pod.host_link)
        }));
        let changes = diff(&observed, &compiled.plan().net).0;
        findings.extend(
            changes
                .iter()
                .map(|change| format!("not as planned, and put right: {change}")),
        );
        kernel.have.net = observed;
        kernel.net_known = true;
        kernel.have.sysctls.clear();
        if let Ok(found) = kernel.read_table() {
            // The sets that this did not read are looked at one by one, unless something is wrong.
            if found.table != kernel.have.table {
                kernel.reads += 1;
                findings.push(format!(
                    "table inet {} was not as committed, and is put right",
                    names::TABLE
                ));
            }
            kernel.have.table = found.table;
            kernel.table_known = true;
        }
        self.plan_is_new = true;
        if let Some(balancer) = &mut self.balancer {
            balancer.audit();
        }
        if let Some(enforcer) = &mut self.enforcer {
            enforcer.audit();
        }
        let more = findings.len().saturating_sub(NAMED);
        findings.truncate(NAMED);
        if more > 0 {
            findings.push(format!("and {more} more"));
        }
        self.troubles.set(
            Trouble::Audit,
            (!findings.is_empty()).then(|| findings.join("; ")),
        );
    }
}
