//! One watch for ever: errors are waited out, objects are cut down as they arrive, and a list that is empty all of a sudden
//! is not believed at once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event, InitialListStrategy};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// What changed in a collection.
#[derive(Clone, Debug, PartialEq)]
pub enum Update<T> {
    /// This is all there is.
    Reset(BTreeMap<Box<str>, T>),
    /// This one is new or different.
    Apply(Box<str>, T),
    /// This one is gone.
    Delete(Box<str>),
}

/// Empty lists in a row after which one is believed.
const BELIEVED: u32 = 3;
/// Pause after an empty list, before the next.
const HELD: Duration = Duration::from_secs(10);
/// Pauses after errors double from the first to the last of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Watches a collection for ever. A kind that is not served is an empty collection. `trim` makes the key and what is kept of an object; an object of which nothing is kept counts as gone.
pub async fn follow<K, T, I>(
    api: Api<K>,
    kind: &'static str,
    trim: impl Fn(K) -> (Box<str>, Option<T>),
    updates: mpsc::Sender<(Instant, I)>,
    wrap: impl Fn(Update<T>) -> I,
    metrics: Arc<Metrics>,
    mut config: Config,
) where
    K: Clone + DeserializeOwned + Debug + Send + Resource + 'static,
{
    let mut state = Relist::default();
    let mut pause = PAUSES.0;
    loop {
        let mut stream = watcher(api.clone(), config.clone()).boxed();
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    pause = PAUSES.0;
                    let update = match state.take(event, &trim) {
                        Taken::Update(update) => update,
                        Taken::Nothing => continue,
                        Taken::Doubtful => {
                            metrics.held_lists.fetch_add(1, Ordering::Relaxed);
                            tracing::warn!(
                                kind,
                                "the list is empty all of a sudden; what was there goes on being served"
                            );
                            tokio::time::sleep(HELD).await;
                            break;
                        }
                    };
                    if updates.send((Instant::now(), wrap(update))).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    metrics.watch_restarts.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(kind, %error, "watch failed; trying again");
                    let nothing = || wrap(Update::Reset(BTreeMap::new()));
                    if is_missing(&error)
                        && !state.known
                        && updates.send((Instant::now(), nothing())).await.is_err()
                    {
                        return;
                    }
                    if refuses_streaming(&error)
                        && config.initial_list_strategy != InitialListStrategy::ListWatch
                    {
                        config.initial_list_strategy = InitialListStrategy::ListWatch;
                        break;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }
}

/// A list that is arriving.
struct Relist<T> {
    initial: BTreeMap<Box<str>, T>,
    /// Whether anything has been there.
    known: bool,
    empty: u32,
}

impl<T> Default for Relist<T> {
    fn default() -> Self {
        Self {
            initial: BTreeMap::new(),
            known: false,
            empty: 0,
        }
    }
}

enum Taken<T> {
    Update(Update<T>),
    Nothing,
    Doubtful,
}

impl<T> Relist<T> {
    fn take<K>(&mut self, event: Event<K>, trim: impl Fn(K) -> (Box<str>, Option<T>)) -> Taken<T> {
        match event {
            Event::Init => self.initial.clear(),
            Event::InitApply(object) => {
                let (key, value) = trim(object);
                self.initial.extend(value.map(|value| (key, value)));
            }
            Event::InitDone => return self.done(),
            Event::Apply(object) => {
                self.known = true;
                let (key, value) = trim(object);
                return Taken::Update(match value {
                    Some(value) => Update::Apply(key, value),
                    None => Update::Delete(key),
                });
            }
            Event::Delete(object) => return Taken::Update(Update::Delete(trim(object).0)),
        }
        Taken::Nothing
    }

    fn done(&mut self) -> Taken<T> {
        if self.initial.is_empty() && self.known {
            self.empty += 1;
            if self.empty < BELIEVED {
                return Taken::Doubtful;
            }
        }
        self.empty = 0;
        self.known = !self.initial.is_empty();
        Taken::Update(Update::Reset(std::mem::take(&mut self.initial)))
    }
}

/// `404 Not Found`: the kind is not served.
fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

/// A server whose feature gate WatchList is off (by default: Kubernetes 1.33) calls `sendInitialEvents` invalid.
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

    fn list(relist: &mut Relist<u8>, objects: &[u8]) -> Option<usize> {
        let trim = |object: u8| (object.to_string().into(), Some(object));
        relist.take(Event::Init, trim);
        for &object in objects {
            relist.take(Event::InitApply(object), trim);
        }
        match relist.take(Event::InitDone, trim) {
            Taken::Update(Update::Reset(all)) => Some(all.len()),
            _ => None,
        }
    }

    #[test]
    fn a_list_that_is_empty_all_of_a_sudden_is_believed_the_third_time() {
        let mut relist = Relist::default();
        assert_eq!(
            list(&mut relist, &[]),
            Some(0),
            "at the beginning there may be nothing"
        );
        assert_eq!(list(&mut relist, &[1, 2]), Some(2));
        assert_eq!(list(&mut relist, &[]), None);
        assert_eq!(
            list(&mut relist, &[1]),
            Some(1),
            "what is there is believed at once"
        );
        for expected in [None, None, Some(0), Some(0)] {
            assert_eq!(list(&mut relist, &[]), expected);
        }
    }
}
