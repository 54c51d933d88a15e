//! The plan into the kernel, as differences: what is used is made first, what goes is unused first.
//!
//! Links, addresses and neighbours; then the first nft batch, which makes what is new; then routes,
//! which let packets use it; then the nft batches of what goes, and what remains to be removed.

use weft_core::compile::sysctls;
use weft_core::diff::{Change, Changes, diff};
use weft_core::plan::{NodePlan, Route};
use weft_kernel::{net, sysctl};

use super::kernel::Kernel;

/// What could not be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    /// Sentences about links, addresses, neighbours and routes.
    pub(super) net: Vec<String>,
    /// The nft table is not as planned: no new pod may be let in.
    pub(super) table: Option<String>,
    /// Sentences about sysctls.
    pub(super) sysctls: Vec<String>,
}

impl Failures {
    pub(super) fn is_empty(&self) -> bool {
        self.net.is_empty() && self.table.is_none() && self.sysctls.is_empty()
    }
}

impl Kernel {
    /// Makes the kernel what the plan says.
    pub(super) fn commit(&mut self, plan: &NodePlan) -> Failures {
        let mut failures = Failures::default();
        if let Err(error) = self.learn() {
            failures.table = Some(error.to_string());
            return failures;
        }
        let mut table = plan.table.clone();
        table.flags = self.flags;
        let changes = diff(&self.have.net, &plan.net).0;
        let first_route = changes.iter().position(uses).unwrap_or(changes.len());
        let (make, rest) = changes.split_at(first_route);
        let batches = weft_nft::diff(&self.have.table, &table);

        self.apply(make, &mut failures);
        self.write_sysctls(plan, &mut failures);
        let mut batches = batches.iter();
        let first = batches.next().map(|batch| self.nft.commit(batch));
        if let Some(Err(error)) = first {
            // Nothing of it stands, and what it protects is not let in.
            self.table_known = false;
            failures.table = Some(error.to_string());
            self.apply(&removals(rest), &mut failures);
            return failures;
        }
        self.apply(rest, &mut failures);
        for batch in batches {
            if let Err(error) = self.nft.commit(batch) {
                self.table_known = false;
                failures.table = Some(error.to_string());
                return failures;
            }
        }
        self.have.table = table;
        failures
    }

    fn apply(&mut self, changes: &[Change], failures: &mut Failures) {
        if changes.is_empty() {
            return;
        }
        let changes = Changes(changes.to_vec());
        match net::apply(&mut self.rtnl, &changes) {
            Ok(()) => changes
                .0
                .iter()
                .for_each(|change| change.apply(&mut self.have.net)),
            Err(net::Error::Refused(refused)) => {
                self.net_known = false;
                failures.net.extend(refused.iter().map(ToString::to_string));
            }
            Err(error @ net::Error::Socket(_)) => {
                self.net_known = false;
                failures.net.push(error.to_string());
            }
        }
    }

    fn write_sysctls(&mut self, plan: &NodePlan, failures: &mut Failures) {
        self.have
            .sysctls
            .retain(|path, _| plan.sysctls.contains_key(path));
        for (path, value) in sysctls::ordered(&plan.sysctls) {
            if self
                .have
                .sysctls
                .get(path)
                .is_some_and(|have| have == value)
            {
                continue;
            }
            match self.write_sysctl(path, value) {
                Ok(()) => drop(self.have.sysctls.insert(path.to_owned(), value.to_owned())),
                Err(sentence) => failures.sysctls.push(sentence),
            }
        }
    }

    fn write_sysctl(&mut self, path: &str, value: &str) -> Result<(), String> {
        let present = sysctl::read(&self.sysctl_dir, path).map_err(|error| error.to_string())?;
        if present == value {
            return Ok(());
        }
        self.keep_before(path, &present).map_err(|error| {
            format!("failed to keep the present value of sysctl {path}: {error}")
        })?;
        sysctl::set(&self.sysctl_dir, path, value)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// A change that leads packets somewhere, or away. Packets reach a local address by rules alone: before they are
/// there, and after they are gone, Services translate it.
fn uses(change: &Change) -> bool {
    matches!(
        change,
        Change::ReplaceRoute(_, Route::Unicast { .. } | Route::Unreachable)
            | Change::RemoveRoute(..)
            | Change::RemoveForwarding(..)
            | Change::RemoveNeighbour(..)
    )
}

/// Without the table's additions, only what goes may go.
fn removals(changes: &[Change]) -> Vec<Change> {
    let goes = |change: &&Change| !matches!(change, Change::ReplaceRoute(..));
    changes.iter().filter(goes).cloned().collect()
}
