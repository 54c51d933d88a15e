//! Events on this Node object (`kubectl describe node`): what an administrator should know.
//!
//! The same sentence again within five minutes counts up the Event that is there; beyond a budget
//! nothing is sent, because the API server must not suffer from a node in trouble.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Writer, request};
use crate::errors;
use crate::watch::Identity;

/// Events of objects without a namespace live here.
const NAMESPACE: &str = "default";
/// How long a sentence is the same Event.
const SAME: Duration = Duration::from_secs(300);
/// Events at once.
const BURST: u32 = 25;
/// Another one after each of these.
const REFILL: Duration = Duration::from_secs(10);
/// The API's limit for a note, in bytes.
const MAX_NOTE: usize = 1024;

/// Something to tell.
#[derive(Clone, Debug)]
pub struct Notice {
    /// A warning, or for information.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Writes for ever. An Event that the API server does not take is dropped.
pub async fn run(
    writer: Writer,
    mut notices: mpsc::UnboundedReceiver<Notice>,
    identity: watch::Receiver<Identity>,
) {
    let api: Api<Event> = Api::namespaced(writer.client.clone(), NAMESPACE);
    let mut ledger = Ledger::default();
    while let Some(notice) = notices.recv().await {
        let now = Instant::now();
        let time = jiff::Timestamp::now();
        let result = match ledger.enter(&notice, now, || name(&writer.node, time)) {
            Entry::Beyond => continue,
            Entry::New(name) => {
                let uid = identity.borrow().node.clone();
                let event = event(&writer.node, uid, &notice, name, time);
                let parameters = PostParams::default();
                request(&writer.metrics, "Event", api.create(&parameters, &event)).await
            }
            Entry::Again { name, count } => {
                let series =
                    json!({"series": {"count": count, "lastObservedTime": MicroTime(time)}});
                let (parameters, patch) = (PatchParams::default(), Patch::Merge(series));
                request(
                    &writer.metrics,
                    "Event",
                    api.patch(&name, &parameters, &patch),
                )
                .await
            }
        };
        if let Err(error) = result {
            tracing::debug!(
                error = errors::chain(&error),
                reason = notice.reason,
                "event dropped"
            );
            ledger.forget(&notice);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    New(String),
    Again { name: String, count: i32 },
    Beyond,
}

/// What has been told lately, and how much more may be.
#[derive(Debug)]
struct Ledger {
    told: BTreeMap<(&'static str, String), (String, i32, Instant)>,
    budget: u32,
    refilled: Option<Instant>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            told: BTreeMap::new(),
            budget: BURST,
            refilled: None,
        }
    }
}

impl Ledger {
    fn enter(&mut self, notice: &Notice, now: Instant, name: impl FnOnce() -> String) -> Entry {
        self.told
            .retain(|_, (_, _, last)| now.saturating_duration_since(*last) < SAME);
        let refilled = *self.refilled.get_or_insert(now);
        let earned = now.saturating_duration_since(refilled).as_secs() / REFILL.as_secs();
        if let Ok(earned @ 1..) = u32::try_from(earned) {
            self.budget = self.budget.saturating_add(earned).min(BURST);
            self.refilled = Some(refilled + REFILL * earned);
        }
        if self.budget == 0 {
            return Entry::Beyond;
        }
        self.budget -= 1;
        match self.told.get_mut(&(notice.reason, notice.message.clone())) {
            Some((name, count, last)) => {
                *count = count.saturating_add(1);
                *last = now;
                Entry::Again {
                    name: name.clone(),
                    count: *count,
                }
            }
            None => {
                let name = name();
                self.told.insert(
                    (notice.reason, notice.message.clone()),
                    (name.clone(), 1, now),
                );
                Entry::New(name)
            }
        }
    }

    fn forget(&mut self, notice: &Notice) {
        self.told.remove(&(notice.reason, notice.message.clone()));
    }
}

fn name(node: &str, time: jiff::Timestamp) -> String {
    format!("{node}.{:x}", time.as_nanosecond())
}

fn event(
    node: &str,
    uid: Option<String>,
    notice: &Notice,
    name: String,
    time: jiff::Timestamp,
) -> Event {
    let Notice {
        warning,
        reason,
        message,
    } = notice;
    let mut end = message.len().min(MAX_NOTE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(time)),
        type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some((*reason).to_owned()),
        note: Some(message[..end].to_owned()),
        action: Some("Node".to_owned()),
        reporting_controller: Some("weftnet.dev/agent".to_owned()),
        reporting_instance: Some(node.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            uid: Some(uid.unwrap_or_else(|| node.to_owned())),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(message: &str) -> Notice {
        Notice {
            warning: true,
            reason: "Repaired",
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_same_sentence_counts_up_and_another_one_is_new() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        let mut enter = |message: &str, now| ledger.enter(&notice(message), now, || "n".to_owned());
        assert_eq!(enter("a", now), Entry::New("n".to_owned()));
        assert_eq!(
            enter("a", now),
            Entry::Again {
                name: "n".to_owned(),
                count: 2
            }
        );
        assert_eq!(enter("b", now), Entry::New("n".to_owned()));
        assert_eq!(enter("a", now + SAME), Entry::New("n".to_owned()));
    }

    #[test]
    fn the_budget_ends_and_comes_back_slowly() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        let mut enter = |number: u32, now| {
            ledger.enter(&notice(&number.to_string()), now, || "n".to_owned()) != Entry::Beyond
        };
        let sent = (0..100).filter(|number| enter(*number, now)).count();
        assert_eq!(sent, 25);
        let sent = (100..200)
            .filter(|number| enter(*number, now + REFILL * 3))
            .count();
        assert_eq!(sent, 3);
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let event = event(
            "a",
            None,
            &notice(&"é".repeat(1000)),
            "n".to_owned(),
            jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(event.note.map(|note| note.len()), Some(1024));
        assert_eq!(
            event.regarding.and_then(|node| node.uid).as_deref(),
            Some("a")
        );
    }
}
