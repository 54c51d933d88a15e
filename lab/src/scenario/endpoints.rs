//! `always.endpoints`: how many ready endpoints Services have, looked at all the time, so that a pod
//! that leaves its Service for a moment is noticed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use tokio::task::JoinHandle;

use super::lab::Lab;
use super::wait;

/// How often they are looked at.
const PERIOD: Duration = Duration::from_millis(200);

/// Counts by Service and family, ready endpoints.
type Counts = BTreeMap<(String, String), usize>;

/// A watch over the endpoints of Services.
#[derive(Debug)]
pub struct Endpoints {
    wanted: BTreeMap<String, usize>,
    fewest: Arc<Mutex<Counts>>,
    task: Option<JoinHandle<()>>,
}

impl Endpoints {
    /// Waits until every Service has as many as wanted, and watches from then on.
    ///
    /// # Errors
    /// When one has not.
    pub async fn watch(
        lab: &Lab,
        namespace: &str,
        wanted: &BTreeMap<String, usize>,
    ) -> Result<Self> {
        let fewest = Arc::new(Mutex::new(Counts::new()));
        if wanted.is_empty() {
            return Ok(Self {
                wanted: wanted.clone(),
                fewest,
                task: None,
            });
        }
        let api: Api<EndpointSlice> = Api::namespaced(lab.client.clone(), namespace);
        wait::until(Duration::from_secs(30), async || {
            judge(wanted, &count(&api, wanted).await?)
        })
        .await?;
        let (kept, names) = (Arc::clone(&fewest), wanted.clone());
        let task = tokio::spawn(async move {
            loop {
                // An API server that does not answer says nothing about endpoints.
                if let Ok(counts) = count(&api, &names).await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    for (service, count) in counts {
                        let least = kept.get(&service).copied().unwrap_or(count).min(count);
                        kept.insert(service, least);
                    }
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Ok(Self {
            wanted: wanted.clone(),
            fewest,
            task: Some(task),
        })
    }

    /// Did one ever have fewer than wanted?
    ///
    /// # Errors
    /// Which, and how few.
    pub fn judge(self) -> Result<()> {
        let Some(task) = &self.task else {
            return Ok(());
        };
        task.abort();
        let fewest = self.fewest.lock().unwrap_or_else(PoisonError::into_inner);
        judge(&self.wanted, &fewest)
    }
}

async fn count(api: &Api<EndpointSlice>, wanted: &BTreeMap<String, usize>) -> Result<Counts> {
    let list = api.list(&ListParams::default()).await?;
    let mut counts = Counts::new();
    for slice in &list.items {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        let Some(service) = service.filter(|service| wanted.contains_key(*service)) else {
            continue;
        };
        let ready = slice.endpoints.iter().filter(|endpoint| {
            endpoint
                .conditions
                .as_ref()
                .is_none_or(|conditions| conditions.ready != Some(false))
        });
        *counts
            .entry((service.clone(), slice.address_type.clone()))
            .or_default() += ready.count();
    }
    Ok(counts)
}

fn judge(wanted: &BTreeMap<String, usize>, counts: &Counts) -> Result<()> {
    for (service, wanted) in wanted {
        let mut own = counts
            .iter()
            .filter(|((name, _), _)| name == service)
            .peekable();
        if own.peek().is_none() {
            bail!("always.endpoints: Service {service} has no EndpointSlice");
        }
        if let Some(((_, family), count)) = own.find(|(_, count)| *count < wanted) {
            bail!(
                "always.endpoints: Service {service} had {count} ready {family} endpoints, fewer than {wanted}"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_and_none_are_noticed() {
        let wanted = BTreeMap::from([("web".to_owned(), 2)]);
        let counts = |count| Counts::from([(("web".to_owned(), "IPv4".to_owned()), count)]);
        assert!(judge(&wanted, &counts(2)).is_ok());
        assert!(
            judge(&wanted, &counts(1))
                .unwrap_err()
                .to_string()
                .contains("had 1 ready IPv4")
        );
        assert!(judge(&wanted, &Counts::new()).is_err());
    }
}
