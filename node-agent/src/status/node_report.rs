//! This node's NodeReport: at most once in ten seconds unless urgent, and at least once a minute, so
//! that the operator knows that the agent lives.

use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use weft_crds::{NodeReport, NodeReportSpec};

use super::{Attempts, FIELD_MANAGER, Writer, request};
use crate::watch::Identity;

/// Between reports that only tell numbers.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between urgent reports: several changes of one moment go together.
const URGENT_INTERVAL: Duration = Duration::from_millis(250);
/// A report that says nothing new says that the agent lives. The operator waits five minutes.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// A report of the engine.
#[derive(Debug)]
pub struct Report {
    /// The report, without its time.
    pub spec: Box<NodeReportSpec>,
    /// Do not wait for the next interval.
    pub urgent: bool,
}

/// Writes for ever.
pub async fn run(
    writer: Writer,
    mut reports: mpsc::UnboundedReceiver<Report>,
    identity: watch::Receiver<Identity>,
) {
    let api: Api<NodeReport> = Api::all(writer.client.clone());
    let mut attempts = Attempts::new("NodeReport");
    let mut pace = Pace::default();
    let mut present: Option<Box<NodeReportSpec>> = None;
    loop {
        let due = present.as_ref().map(|_| pace.due());
        tokio::select! {
            report = reports.recv() => {
                let Some(Report { spec, urgent }) = report else { return };
                pace.changed(urgent);
                present = Some(spec);
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let Some(spec) = &present else { continue };
                let node_uid = identity.borrow().node.clone();
                let now = jiff::Timestamp::now();
                let patch = Patch::Apply(body(&writer.node, node_uid.as_deref(), spec, now));
                let parameters = PatchParams::apply(FIELD_MANAGER).force();
                let write = api.patch(&writer.node, &parameters, &patch);
                match request(&writer.metrics, "NodeReport", write).await {
                    Ok(_) => {
                        attempts.succeeded();
                        pace.written(Instant::now());
                    }
                    Err(error) => pace.failed(Instant::now() + attempts.failed(&error)),
                }
            }
        }
    }
}

/// When the next report is due.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    changed: bool,
    urgent: bool,
    not_before: Option<Instant>,
}

impl Pace {
    fn changed(&mut self, urgent: bool) {
        self.changed = true;
        self.urgent |= urgent;
    }

    fn written(&mut self, now: Instant) {
        *self = Self {
            last: Some(now),
            ..Self::default()
        };
    }

    fn failed(&mut self, not_before: Instant) {
        self.not_before = Some(not_before);
    }

    fn due(&self) -> Instant {
        let interval = match (self.changed, self.urgent) {
            (true, true) => URGENT_INTERVAL,
            (true, false) => INTERVAL,
            (false, _) => HEARTBEAT,
        };
        let due = self.last.map_or_else(Instant::now, |last| last + interval);
        self.not_before.map_or(due, |earliest| earliest.max(due))
    }
}

fn body(node: &str, node_uid: Option<&str>, spec: &NodeReportSpec, now: jiff::Timestamp) -> Value {
    // The report goes with its Node, so that nothing is left of a node that has gone.
    let owners =
        node_uid.map(|uid| json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}]));
    let mut spec = spec.clone();
    spec.time = Some(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let mut metadata = json!({"name": node});
    if let Some(owners) = owners {
        metadata["ownerReferences"] = owners;
    }
    json!({"apiVersion": "weftnet.dev/v1alpha1", "kind": "NodeReport", "metadata": metadata, "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wait_ten_seconds_urgent_ones_do_not_and_silence_lasts_a_minute() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert!(
            pace.due() <= Instant::now(),
            "the first report goes at once"
        );
        pace.written(now);
        assert_eq!(pace.due(), now + HEARTBEAT);
        pace.changed(false);
        assert_eq!(pace.due(), now + INTERVAL);
        pace.changed(true);
        pace.changed(false);
        assert_eq!(
            pace.due(),
            now + URGENT_INTERVAL,
            "urgency is not forgotten"
        );
        pace.failed(now + INTERVAL);
        assert_eq!(
            pace.due(),
            now + INTERVAL,
            "a failed write waits for its backoff"
        );
        pace.written(now + INTERVAL);
        assert_eq!(pace.due(), now + INTERVAL + HEARTBEAT);
    }

    #[test]
    fn a_report_carries_its_time_and_its_node() {
        let now: jiff::Timestamp = "2030-01-02T03:04:05.678Z".parse().unwrap();
        let report = body("a", Some("u"), &NodeReportSpec::default(), now);
        assert_eq!(report["spec"]["time"], "2030-01-02T03:04:05Z");
        assert_eq!(report["metadata"]["name"], "a");
        assert_eq!(report["metadata"]["ownerReferences"][0]["uid"], "u");
        assert!(
            report["metadata"]["ownerReferences"][0]
                .get("blockOwnerDeletion")
                .is_none()
        );
        assert!(
            body("a", None, &NodeReportSpec::default(), now)["metadata"]
                .get("ownerReferences")
                .is_none()
        );
    }
}
