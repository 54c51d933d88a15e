//! Who leads: a Lease that one process holds and renews, as client-go's leader election does it.
//!
//! Leading saves work and quarrels; it protects nothing. Two processes that both believe to lead
//! never grant an address twice, because of how blocks are named, aged and deleted.

mod rules;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::Error;
use crate::stores::Chain;
use rules::{Decision, Observed, decide};

/// How long a Lease holds after its last renewal (client-go's default).
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long leads no more (client-go's default).
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is tried (client-go's default).
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Whether this process writes.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<bool>);

impl Leadership {
    /// Whether it leads now.
    #[must_use]
    pub fn holds(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for it to begin or end.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One that holds for ever, without any Lease: for tests of two leaders at once.
    #[must_use]
    pub fn forced() -> Self {
        let (sender, receiver) = watch::channel(true);
        // The receiver keeps the value; nobody changes it.
        drop(sender);
        Self(receiver)
    }
}

/// Takes part in the election.
pub struct Elector {
    api: Api<Lease>,
    lease: String,
    identity: String,
    leads: watch::Sender<bool>,
}

impl Elector {
    /// One candidate, and where to read whether it leads.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lease: &str, identity: &str) -> (Self, Leadership) {
        let (leads, receiver) = watch::channel(false);
        let elector = Self {
            api: Api::namespaced(client, namespace),
            lease: lease.to_owned(),
            identity: identity.to_owned(),
            leads,
        };
        (elector, Leadership(receiver))
    }

    /// Runs until `stop` completes, then gives the Lease back.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.campaign() => {}
            () = stop => {}
        }
        if self.leads.send_replace(false) {
            let released = tokio::time::timeout(RETRY_PERIOD, self.release()).await;
            if !matches!(released, Ok(Ok(()))) {
                tracing::warn!(
                    lease = self.lease,
                    "the Lease was not given back: the next leader waits until it expires"
                );
            }
        }
    }

    async fn campaign(&self) {
        let mut observed = Observed::default();
        let mut renewed: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let attempt =
                tokio::time::timeout(RENEW_DEADLINE / 2, self.attempt(&mut observed)).await;
            match attempt {
                Ok(Ok(true)) => renewed = Some(began),
                Ok(Ok(false)) => renewed = None,
                Ok(Err(error)) => {
                    tracing::warn!(error = %Chain(&error), "the Lease could not be read or written")
                }
                Err(_) => tracing::warn!(
                    lease = self.lease,
                    "the API server did not answer about the Lease in time"
                ),
            }
            let leads = renewed.is_some_and(|at| at.elapsed() < RENEW_DEADLINE);
            self.announce(leads);
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    fn announce(&self, leads: bool) {
        let changed = self
            .leads
            .send_if_modified(|held| std::mem::replace(held, leads) != leads);
        if changed && leads {
            tracing::info!(lease = self.lease, identity = self.identity, "leading");
        } else if changed {
            tracing::warn!(
                lease = self.lease,
                identity = self.identity,
                "not leading any more"
            );
        }
    }

    /// One look at the Lease, and one write if it is ours to write; whether it is ours afterwards.
    async fn attempt(&self, observed: &mut Observed) -> Result<bool, Error> {
        let failed = |verb, error| Error::request(verb, "Lease", &self.lease, error);
        let lease = self
            .api
            .get_opt(&self.lease)
            .await
            .map_err(|error| failed("get", error))?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        let decision = decide(
            spec.as_ref(),
            &self.identity,
            observed,
            Instant::now().into_std(),
        );
        let next = match decision {
            Decision::Wait => return Ok(false),
            Decision::Write {
                transitions,
                acquired,
            } => self.spec(spec.as_ref(), transitions, acquired),
        };
        let params = PostParams::default();
        let written = match lease {
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.lease.clone()),
                    ..ObjectMeta::default()
                };
                let lease = Lease {
                    metadata,
                    spec: Some(next),
                };
                self.api.create(&params, &lease).await
            }
            Some(mut lease) => {
                lease.spec = Some(next);
                self.api.replace(&self.lease, &params, &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(failed("write", error)),
        }
    }

    fn spec(&self, stored: Option<&LeaseSpec>, transitions: i32, acquired: bool) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let acquire_time = if acquired {
            now.clone()
        } else {
            stored.and_then(|stored| stored.acquire_time.clone())
        };
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time,
            renew_time: now,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self) -> Result<(), Error> {
        let failed = |error| Error::request("release", "Lease", &self.lease, error);
        let mut lease = self.api.get(&self.lease).await.map_err(failed)?;
        if let Some(spec) = &mut lease.spec {
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            // The API wants at least one second.
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        self.api
            .replace(&self.lease, &PostParams::default(), &lease)
            .await
            .map_err(failed)?;
        tracing::info!(lease = self.lease, "gave the Lease back");
        Ok(())
    }
}
