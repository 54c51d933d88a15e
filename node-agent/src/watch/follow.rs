//! One watch for ever: errors are waited out with backoff and jitter, and counted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::errors;
use crate::metrics::{Kind, Metrics};

/// What changed in a collection.
#[derive(Clone, Debug, PartialEq)]
pub enum Update<T> {
    /// This is all there is.
    Reset(BTreeMap<String, T>),
    /// This one is new or different.
    Apply(String, T),
    /// This one is gone.
    Delete(String),
}

impl<T: PartialEq> Update<T> {
    /// Brings a store up to date; true where it then differs.
    pub fn store(self, store: &mut BTreeMap<String, T>) -> bool {
        match self {
            Self::Reset(all) => std::mem::replace(store, all) != *store,
            Self::Apply(key, value) => match store.get_mut(&key) {
                Some(known) if *known == value => false,
                Some(known) => {
                    *known = value;
                    true
                }
                None => {
                    store.insert(key, value);
                    true
                }
            },
            Self::Delete(key) => store.remove(&key).is_some(),
        }
    }
}

impl<T> Update<T> {
    /// The same of something else.
    pub fn map<U>(self, convert: impl Fn(T) -> U) -> Update<U> {
        match self {
            Self::Reset(all) => {
                let all = all.into_iter();
                Update::Reset(all.map(|(key, value)| (key, convert(value))).collect())
            }
            Self::Apply(key, value) => Update::Apply(key, convert(value)),
            Self::Delete(key) => Update::Delete(key),
        }
    }
}

/// Watches a collection for ever, or what is selected of it. `trim` makes the key and what is kept of an object.
pub fn follow<K, T, F>(
    api: Api<K>,
    kind: &'static str,
    selection: Config,
    trim: F,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = Update<T>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
    F: Fn(K) -> (String, T) + Send + 'static,
{
    let config = selection.streaming_lists();
    let follower = Follower {
        stream: watcher(api.clone(), config.clone()).boxed(),
        api,
        config,
        kind,
        trim,
        metrics,
        initial: BTreeMap::new(),
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)),
    };
    stream::unfold(follower, |mut follower| async move {
        let update = follower.next().await;
        Some((update, follower))
    })
}

struct Follower<K, T, F> {
    stream: BoxStream<'static, watcher::Result<Event<K>>>,
    api: Api<K>,
    config: Config,
    kind: &'static str,
    trim: F,
    metrics: Arc<Metrics>,
    initial: BTreeMap<String, T>,
    backoff: Backoff,
}

impl<K, T, F> Follower<K, T, F>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: Fn(K) -> (String, T) + Send + 'static,
{
    async fn next(&mut self) -> Update<T> {
        loop {
            match self.stream.next().await {
                Some(Ok(event)) => {
                    if let Some(update) = self.event(event) {
                        return update;
                    }
                }
                Some(Err(error)) => self.failed(&error).await,
                None => self.stream = watcher(self.api.clone(), self.config.clone()).boxed(),
            }
        }
    }

    fn event(&mut self, event: Event<K>) -> Option<Update<T>> {
        match event {
            Event::Init => {
                self.initial.clear();
                return None;
            }
            Event::InitApply(object) => {
                let (key, value) = (self.trim)(object);
                self.initial.insert(key, value);
                return None;
            }
            _ => {}
        }
        if self.backoff.failures() > 0 {
            tracing::info!(kind = self.kind, "watch works again");
            self.backoff.reset();
        }
        match event {
            Event::InitDone => Some(Update::Reset(std::mem::take(&mut self.initial))),
            Event::Apply(object) => {
                let (key, value) = (self.trim)(object);
                Some(Update::Apply(key, value))
            }
            Event::Delete(object) => Some(Update::Delete((self.trim)(object).0)),
            Event::Init | Event::InitApply(_) => None,
        }
    }

    async fn failed(&mut self, error: &watcher::Error) {
        self.metrics
            .watch_restarts
            .get_or_create(&Kind { kind: self.kind })
            .inc();
        if self.backoff.failures() == 0 {
            tracing::warn!(
                kind = self.kind,
                error = errors::chain(error),
                "watch failed; trying again"
            );
        }
        if refuses_streaming(error) && self.config != self.config.clone().list() {
            tracing::warn!(
                kind = self.kind,
                "the API server does not stream lists; listing instead"
            );
            self.config = self.config.clone().list();
            self.stream = watcher(self.api.clone(), self.config.clone()).boxed();
        }
        tokio::time::sleep(self.backoff.pause()).await;
    }
}

trait List {
    /// The same configuration, with a list at its beginning.
    fn list(self) -> Self;
}

impl List for Config {
    fn list(mut self) -> Self {
        self.initial_list_strategy = watcher::InitialListStrategy::ListWatch;
        self
    }
}

/// A server whose feature gate WatchList is off (by default: Kubernetes 1.33) calls
/// `sendInitialEvents` invalid.
fn refuses_streaming(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
            if status.code == 422 && status.message.contains("sendInitialEvents")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(update: Update<u8>, store: &mut BTreeMap<String, u8>) -> bool {
        update.store(store)
    }

    #[test]
    fn a_store_says_whether_it_changed() {
        let mut store = BTreeMap::new();
        let key = || "a".to_owned();
        assert!(update(Update::Reset([(key(), 1)].into()), &mut store));
        assert!(!update(Update::Reset([(key(), 1)].into()), &mut store));
        assert!(!update(Update::Apply(key(), 1), &mut store));
        assert!(update(Update::Apply(key(), 2), &mut store));
        assert!(update(Update::Delete(key()), &mut store));
        assert!(!update(Update::Delete(key()), &mut store));
        assert!(update(Update::Apply(key(), 3), &mut store));
        assert_eq!(store, [(key(), 3)].into());
    }
}
