//! The PodAddresses of this node's pods: made when an address is assigned, kept in step with the
//! pod's labels, deleted at release; after a start everything is compared once.
//!
//! What is wanted is a function of three stores (attachments, Pods, PodAddresses); the difference
//! to what exists is written, and what fails is tried again by itself without holding up the rest.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use futures::{StreamExt, stream};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::Config;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use weft_core::view::AttachmentKey;
use weft_crds::PodAddress;

use super::{Attempts, Error, Writer, backoff, request};
use crate::backoff::Backoff;
use crate::engine::{Attached, Input, PolicyInput};
use crate::watch::objects::{self, PodObject};
use crate::watch::{Update, follow, policies};
use plan::{State, Write};

/// Writes on their way at one time.
const AT_ONCE: usize = 8;

/// What the engine says of attachments.
#[derive(Debug)]
pub enum Change {
    /// A pod has its addresses.
    Attached(Attached),
    /// An attachment is gone.
    Released(AttachmentKey),
    /// Every attachment of the record has been told: others do not exist.
    Complete,
}

/// Writes for ever. The engine is told of this node's Pods where it enforces policies.
pub async fn run(
    writer: Writer,
    mut changes: mpsc::UnboundedReceiver<Change>,
    engine: Option<Sender<Input>>,
) {
    let own = Config::default().fields(&format!("spec.nodeName={}", writer.node));
    let pods = Api::<PodObject>::all(writer.client.clone());
    let mut pods = Box::pin(follow(
        pods,
        "Pod",
        own,
        objects::pod,
        writer.metrics.clone(),
    ));
    let own = Config::default().fields(&format!("spec.node={}", writer.node));
    let addresses = Api::<PodAddress>::all(writer.client.clone());
    let mut addresses = Box::pin(follow(
        addresses,
        "PodAddress",
        own,
        objects::address,
        writer.metrics.clone(),
    ));

    let mut state = State::new(&writer.node);
    let mut held = Held::default();
    loop {
        let due = held.due(state.plan());
        if !due.is_empty() {
            write_all(&writer, due, &mut state, &mut held).await;
        }
        let next = held.next();
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => state.change(change),
                None => return,
            },
            Some(update) = pods.next() => {
                if let Some(inputs) = &engine {
                    let told = update.clone().map(|pod| policies::objects::own(&pod));
                    let _ = inputs.send(Input::Policy(Box::new(PolicyInput::Own(told))));
                }
                update_store(&mut state.pods, update);
            }
            Some(update) = addresses.next() => update_store(&mut state.existing, update),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
        while let Ok(change) = changes.try_recv() {
            state.change(change);
        }
    }
}

fn update_store<T: PartialEq>(store: &mut Option<BTreeMap<String, T>>, update: Update<T>) {
    update.store(store.get_or_insert_default());
}

/// Writes that failed lately and wait for their next attempt, by what they write.
#[derive(Debug)]
struct Held {
    waiting: BTreeMap<String, (Backoff, Instant)>,
    /// Logs the first failure of a series, whatever it is that fails.
    log: Attempts,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            log: Attempts::new("PodAddress"),
        }
    }
}

impl Held {
    /// What is to be written now. What is no longer wanted is forgotten.
    fn due(&mut self, mut writes: Vec<Write>) -> Vec<Write> {
        let now = Instant::now();
        self.waiting
            .retain(|key, _| writes.iter().any(|write| write.key() == *key));
        writes.retain(|write| {
            let wait = self.waiting.get(&write.key());
            wait.is_none_or(|(_, until)| *until <= now)
        });
        writes
    }

    /// When the next attempt is due.
    fn next(&self) -> Option<Instant> {
        self.waiting.values().map(|(_, until)| *until).min()
    }

    fn succeeded(&mut self, key: &str) {
        self.waiting.remove(key);
        self.log.succeeded();
    }

    fn failed(&mut self, key: String, error: &Error) {
        self.log.failed(error);
        let first = || (backoff(), Instant::now());
        let (backoff, until) = self.waiting.entry(key).or_insert_with(first);
        *until = Instant::now() + backoff.pause();
    }
}

async fn write_all(writer: &Writer, writes: Vec<Write>, state: &mut State, held: &mut Held) {
    let writer = Arc::new(writer.clone());
    let results = stream::iter(writes).map(|write| {
        let writer = writer.clone();
        async move {
            let result = execute(&writer, &write).await;
            (write, result)
        }
    });
    let mut results = std::pin::pin!(results.buffer_unordered(AT_ONCE));
    while let Some((write, result)) = results.next().await {
        let key = write.key();
        match result {
            Ok(()) => {
                held.succeeded(&key);
                state.written(write);
            }
            Err(error) => held.failed(key, &error),
        }
    }
}

async fn execute(writer: &Writer, write: &Write) -> Result<(), Error> {
    let api = |namespace: &str| Api::<PodAddress>::namespaced(writer.client.clone(), namespace);
    match write {
        Write::Create { address, pod } => {
            let object = plan::object(address, pod);
            let api = api(&address.namespace);
            request(
                &writer.metrics,
                "PodAddress",
                api.create(&PostParams::default(), &object),
            )
            .await?;
        }
        Write::Update { address, before } => {
            let patch = Patch::Merge(plan::patch(address, before));
            let api = api(&address.namespace);
            let parameters = PatchParams::default();
            request(
                &writer.metrics,
                "PodAddress",
                api.patch(&address.name, &parameters, &patch),
            )
            .await?;
        }
        Write::Delete { namespace, name } => {
            let api = api(namespace);
            let parameters = DeleteParams::default();
            match request(&writer.metrics, "PodAddress", api.delete(name, &parameters)).await {
                Err(error) if error.code() == Some(404) => {}
                result => drop(result?),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(name: &str) -> Write {
        Write::Delete {
            namespace: "n".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn what_failed_waits_and_holds_up_nothing_else() {
        let mut held = Held::default();
        held.failed("n/a".to_owned(), &Error::Timeout);
        assert_eq!(held.due(vec![delete("a"), delete("b")]), [delete("b")]);
        assert!(held.next().is_some_and(|next| next > Instant::now()));
        held.succeeded("n/a");
        assert_eq!(held.due(vec![delete("a")]), [delete("a")]);
    }

    #[test]
    fn what_is_no_longer_wanted_is_forgotten() {
        let mut held = Held::default();
        held.failed("n/a".to_owned(), &Error::Timeout);
        assert_eq!(held.due(vec![delete("b")]), [delete("b")]);
        assert_eq!(held.next(), None);
    }
}
