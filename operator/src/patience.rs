//! How long something has been the case, as this process saw it: Nodes that are gone, agents that
//! are silent.
//!
//! Clocks of other machines play no part. While nobody could have been heard (the Lease was not
//! ours, so perhaps the API server was away) nothing counts: both begin anew with each leadership.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::snapshot::Snapshot;

/// What was seen when. Times are durations since the process began.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    gone_since: BTreeMap<String, Duration>,
    heard: BTreeMap<String, Heard>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    /// UID of the Node and version of its report.
    what: (Option<String>, Option<String>),
    at: Duration,
}

impl Patience {
    /// Looks at a snapshot, and writes into it how long things have been the case.
    pub fn observe(&mut self, snapshot: &mut Snapshot, now: Duration) {
        let missing: Vec<&String> = snapshot
            .blocks
            .values()
            .map(|block| &block.spec.node)
            .filter(|node| !snapshot.nodes.contains_key(*node))
            .collect();
        self.gone_since.retain(|node, _| missing.contains(&node));
        for node in missing {
            self.gone_since.entry(node.clone()).or_insert(now);
        }
        self.heard
            .retain(|node, _| snapshot.nodes.contains_key(node));
        for (name, node) in &snapshot.nodes {
            let report = snapshot.reports.get(name);
            let what = (
                node.metadata.uid.clone(),
                report.and_then(|report| report.metadata.resource_version.clone()),
            );
            let known = self.heard.get(name).is_some_and(|heard| heard.what == what);
            if !known {
                self.heard.insert(name.clone(), Heard { what, at: now });
            }
        }
        snapshot.gone = since(self.gone_since.iter().map(|(node, at)| (node, *at)), now);
        snapshot.silent = since(self.heard.iter().map(|(node, heard)| (node, heard.at)), now);
    }

    /// Forgets everything: a new leadership begins.
    pub fn restart(&mut self) {
        *self = Self::default();
    }
}

fn since<'a>(
    times: impl Iterator<Item = (&'a String, Duration)>,
    now: Duration,
) -> BTreeMap<String, Duration> {
    times
        .map(|(node, at)| (node.clone(), now.saturating_sub(at)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Node;
    use weft_crds::{BlockState, IPBlock, IPBlockSpec, NodeReport, NodeReportSpec};

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn with_block_of(node: &str) -> Snapshot {
        let spec = IPBlockSpec {
            pool: "p".to_owned(),
            cidr: "10.0.0.0/26".to_owned(),
            node: node.to_owned(),
            state: BlockState::Active,
        };
        let mut snapshot = Snapshot::default();
        snapshot
            .blocks
            .insert("b".to_owned(), Arc::new(IPBlock::new("b", spec)));
        snapshot
    }

    fn report(version: &str) -> Arc<NodeReport> {
        let mut report = NodeReport::new("n", NodeReportSpec::default());
        report.metadata.resource_version = Some(version.to_owned());
        Arc::new(report)
    }

    #[test]
    fn absence_counts_from_when_it_was_first_seen() {
        let mut patience = Patience::default();
        let mut snapshot = with_block_of("n");
        patience.observe(&mut snapshot, seconds(100));
        assert_eq!(snapshot.gone["n"], seconds(0));
        patience.observe(&mut snapshot, seconds(160));
        assert_eq!(snapshot.gone["n"], seconds(60));
        snapshot
            .nodes
            .insert("n".to_owned(), Arc::new(Node::default()));
        patience.observe(&mut snapshot, seconds(170));
        assert!(snapshot.gone.is_empty());
        snapshot.nodes.clear();
        patience.observe(&mut snapshot, seconds(180));
        assert_eq!(snapshot.gone["n"], seconds(0));
    }

    #[test]
    fn each_report_ends_a_silence() {
        let mut patience = Patience::default();
        let mut snapshot = Snapshot::default();
        snapshot
            .nodes
            .insert("n".to_owned(), Arc::new(Node::default()));
        patience.observe(&mut snapshot, seconds(0));
        patience.observe(&mut snapshot, seconds(400));
        assert_eq!(snapshot.silent["n"], seconds(400));
        snapshot.reports.insert("n".to_owned(), report("1"));
        patience.observe(&mut snapshot, seconds(410));
        assert_eq!(snapshot.silent["n"], seconds(0));
        snapshot.reports.insert("n".to_owned(), report("2"));
        patience.observe(&mut snapshot, seconds(420));
        assert_eq!(snapshot.silent["n"], seconds(0));
    }

    #[test]
    fn a_new_leadership_waits_anew() {
        let mut patience = Patience::default();
        let mut snapshot = with_block_of("n");
        patience.observe(&mut snapshot, seconds(0));
        patience.restart();
        patience.observe(&mut snapshot, seconds(600));
        assert_eq!(snapshot.gone["n"], seconds(0));
    }
}
