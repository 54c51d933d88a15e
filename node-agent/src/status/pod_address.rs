//! The PodAddresses of this node's pods: made when an address is assigned, kept in step with the
//! pod's labels, deleted at release; after a start everything is compared once.
//!
//! What is wanted is a function of three stores (attachments, Pods, PodAddresses); the difference
//! to what exists is written, and what fails is tried again by itself without holding up the rest.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use weft_core::view::AttachmentKey;
use weft_crds::PodAddress;

use super::{Attempts, Error, Writer, request};
use crate::engine::Attached;
use crate::watch::objects::{self, PodObject};
use crate::watch::{Update, follow};
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

/// Writes for ever.
pub async fn run(writer: Writer, mut changes: mpsc::UnboundedReceiver<Change>) {
    let own = Some(format!("spec.nodeName={}", writer.node));
    let pods = Api::<PodObject>::all(writer.client.clone());
    let mut pods = Box::pin(follow(
        pods,
        "Pod",
        own,
        objects::pod,
        writer.metrics.clone(),
    ));
    let own = Some(format!("spec.node={}", writer.node));
    let addresses = Api::<PodAddress>::all(writer.client.clone());
    let mut addresses = Box::pin(follow(
        addresses,
        "PodAddress",
        own,
        objects::address,
        writer.metrics.clone(),
    ));

    let mut state = State::new(&writer.node);
    let mut held: BTreeMap<String, (Attempts, Instant)> = BTreeMap::new();
    loop {
        let due = due_writes(&state, &mut held);
        if !due.is_empty() {
            write_all(&writer, due, &mut state, &mut held).await;
        }
        let next = held.values().map(|(_, at)| *at).min();
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => state.change(change),
                None => return,
            },
            Some(update) = pods.next() => update_store(&mut state.pods, update),
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

/// What is to be written now; what failed lately waits for its time, and is forgotten when it is no
/// longer wanted.
fn due_writes(state: &State, held: &mut BTreeMap<String, (Attempts, Instant)>) -> Vec<Write> {
    let mut writes = state.plan();
    let now = Instant::now();
    held.retain(|key, _| writes.iter().any(|write| write.key() == *key));
    writes.retain(|write| held.get(&write.key()).is_none_or(|(_, at)| *at <= now));
    writes
}

async fn write_all(
    writer: &Writer,
    writes: Vec<Write>,
    state: &mut State,
    held: &mut BTreeMap<String, (Attempts, Instant)>,
) {
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
                if let Some((mut attempts, _)) = held.remove(&key) {
                    attempts.succeeded();
                }
                state.written(write);
            }
            Err(error) => {
                let (attempts, at) = held
                    .entry(key)
                    .or_insert_with(|| (Attempts::new("PodAddress"), Instant::now()));
                *at = Instant::now() + attempts.failed(&error);
            }
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
