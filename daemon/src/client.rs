//! The client: from settings to one that reaches the API server without any Service, and tries the
//! next address when one fails.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Args;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, Service};

use crate::error::Error;

/// A server that does not take a connection within this is left for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach the API server.
#[derive(Clone, Debug, Args)]
pub struct ApiSettings {
    /// A kubeconfig file. Without it: the service account of the pod.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Addresses of the API server, host:port, comma-separated; the next is tried when one fails.
    /// Without it: the address in the kubeconfig, or the Service `kubernetes`.
    #[arg(long, env = "WEFT_API_SERVER", value_delimiter = ',')]
    pub api_server: Vec<String>,
}

/// The client that settings ask for.
///
/// # Errors
/// No configuration, or an address that is none.
pub async fn client(settings: &ApiSettings) -> Result<Client, Error> {
    let config = match &settings.kubeconfig {
        Some(path) => {
            let file =
                Kubeconfig::read_from(path).map_err(|error| Error::Configuration(error.into()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| Error::Configuration(error.into()))?
        }
        None => in_cluster(!settings.api_server.is_empty())?,
    };
    let servers: Vec<&str> = settings
        .api_server
        .iter()
        .map(|server| server.trim())
        .filter(|server| !server.is_empty())
        .collect();
    if servers.is_empty() {
        return connect(config);
    }
    let clients = servers
        .into_iter()
        .map(|server| {
            let wrong = || Error::ApiServerAddress {
                value: server.to_owned(),
            };
            if !server.contains(':') || server.contains('/') {
                return Err(wrong());
            }
            let mut config = config.clone();
            config.cluster_url = format!("https://{server}").parse().map_err(|_| wrong())?;
            connect(config)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let namespace = config.default_namespace.clone();
    let service = FirstThatAnswers {
        clients,
        current: Arc::new(AtomicUsize::new(0)),
    };
    Ok(Client::new(service, namespace))
}

/// The service account of the pod. Where addresses are given, the environment of the Service
/// `kubernetes` does not have to be there.
fn in_cluster(addresses_given: bool) -> Result<Config, Error> {
    let found = Config::incluster_env();
    let found = if addresses_given {
        found.or_else(|_| Config::incluster_dns())
    } else {
        found
    };
    found.map_err(|error| Error::Configuration(error.into()))
}

fn connect(mut config: Config) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(|error| Error::Configuration(error.into()))
}

/// Sends each request to the server that answered last; one that cannot be reached is passed over
/// from the next request on.
#[derive(Clone)]
struct FirstThatAnswers {
    clients: Vec<Client>,
    current: Arc<AtomicUsize>,
}

impl Service<hyper::Request<Body>> for FirstThatAnswers {
    type Response = hyper::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        let used = self.current.load(Ordering::Relaxed);
        let client = self.clients[used % self.clients.len()].clone();
        let current = Arc::clone(&self.current);
        Box::pin(async move {
            let answer = client.send(request).await;
            if answer.is_err() {
                // Only the first of several failures moves on.
                let _ = current.compare_exchange(
                    used,
                    used.wrapping_add(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
            answer.map_err(BoxError::from)
        })
    }
}
