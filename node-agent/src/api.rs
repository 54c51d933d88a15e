//! The client of the API server: who we are, where the server is, which address to try next.
//!
//! Needs no Service: the chart gives the servers' own addresses. Every request passes through one
//! place that counts it, bounds its time, and goes to the next address when the present one fails.

mod endpoints;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{
    AuthInfo, Cluster, Context as KubeContext, KubeConfigOptions, Kubeconfig, KubeconfigError,
    NamedAuthInfo, NamedCluster, NamedContext,
};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

use crate::cli::Settings;
use crate::metrics::{ApiVerb, Metrics};
use endpoints::Endpoints;

/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Until the head of an answer is here.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection on which nothing is acknowledged for so long is dead (TCP_USER_TIMEOUT).
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `--api-server` nor the variables of a pod say where the API server is.
    #[error("no API server: give --api-server host:port (WEFT_API_SERVER; chart value apiServer)")]
    NoAddress,
    /// An address that is not host:port.
    #[error("{0:?} is not an address of an API server: write host:port, such as 192.0.2.1:6443")]
    Address(String),
    /// Service account or kubeconfig.
    #[error("failed to read the credentials for the API server")]
    Credentials(#[from] KubeconfigError),
    /// TLS or token.
    #[error("failed to set up the client of the API server")]
    Client(#[source] Box<kube::Error>),
}

/// Makes the client. Nothing is sent yet: an unreachable server is no error here.
///
/// # Errors
/// Where credentials or addresses cannot be used.
pub async fn client(settings: &Settings, metrics: Arc<Metrics>) -> Result<Client, Error> {
    let (mut config, endpoints) = match &settings.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)?;
            let config =
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            (config, Endpoints::default())
        }
        None => {
            let endpoints = Endpoints::new(&servers(settings)?)?;
            (
                service_account(settings, endpoints.first()).await?,
                endpoints,
            )
        }
    };
    if let Some(name) = &settings.api_server_name {
        config.tls_server_name = Some(name.clone());
    }
    build(&config, endpoints, metrics).map_err(|error| Error::Client(Box::new(error)))
}

/// The addresses given, else those that every pod is told.
fn servers(settings: &Settings) -> Result<Vec<String>, Error> {
    let given = settings.api_servers();
    if !given.is_empty() {
        return Ok(given);
    }
    let host = std::env::var("KUBERNETES_SERVICE_HOST").map_err(|_| Error::NoAddress)?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").map_err(|_| Error::NoAddress)?;
    Ok(vec![if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }])
}

/// The service account as a kubeconfig, so that token and CA are read again when they rotate.
async fn service_account(settings: &Settings, server: &str) -> Result<Config, Error> {
    let directory = &settings.service_account_dir;
    let text = |file: &str| directory.join(file).to_string_lossy().into_owned();
    let name = || "weftnet".to_owned();
    let cluster = Cluster {
        server: Some(format!("https://{server}")),
        certificate_authority: Some(text("ca.crt")),
        ..Cluster::default()
    };
    let account = AuthInfo {
        token_file: Some(text("token")),
        ..AuthInfo::default()
    };
    let context = KubeContext {
        cluster: name(),
        user: Some(name()),
        ..KubeContext::default()
    };
    let kubeconfig = Kubeconfig {
        clusters: vec![NamedCluster {
            name: name(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name(),
            auth_info: Some(account),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name(),
            context: Some(context),
            ..NamedContext::default()
        }],
        current_context: Some(name()),
        ..Kubeconfig::default()
    };
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.root_cert_file = Some(directory.join("ca.crt"));
    Ok(config)
}

fn build(
    config: &Config,
    endpoints: Endpoints,
    metrics: Arc<Metrics>,
) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(Duration::from_secs(15)));
    connector.set_keepalive_interval(Some(Duration::from_secs(5)));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(SILENCE_TIMEOUT));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(2)
        .build(connector);
    let requests = Requests {
        client,
        endpoints: Arc::new(endpoints),
        metrics,
    };
    let namespace = config.default_namespace.clone();
    Ok(match config.auth_layer()? {
        Some(auth) => {
            let service = config.base_uri_layer().layer(auth.layer(requests));
            ClientBuilder::new(service, namespace).build()
        }
        None => ClientBuilder::new(config.base_uri_layer().layer(requests), namespace).build(),
    })
}

/// The one place that every request passes.
#[derive(Clone)]
struct Requests<C> {
    client: legacy::Client<C, Body>,
    endpoints: Arc<Endpoints>,
    metrics: Arc<Metrics>,
}

impl<C> Service<Request<Body>> for Requests<C>
where
    C: legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let verb = verb(
            request.method(),
            request.uri().path(),
            request.uri().query().unwrap_or_default(),
        );
        self.metrics
            .api_requests
            .get_or_create(&ApiVerb { verb })
            .inc();
        if verb == "list" {
            self.metrics.api_lists.inc();
        }
        let tried = self.endpoints.apply(&mut request);
        let endpoints = self.endpoints.clone();
        let answer = self.client.request(request);
        Box::pin(async move {
            match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(Ok(response)) => {
                    // A server that is starting or stopping answers 5xx; another one may serve.
                    if response.status().is_server_error() {
                        endpoints.failed(tried);
                    }
                    Ok(response)
                }
                Ok(Err(error)) => {
                    endpoints.failed(tried);
                    Err(error.into())
                }
                Err(elapsed) => {
                    endpoints.failed(tried);
                    Err(elapsed.into())
                }
            }
        })
    }
}

/// What a request does, as RBAC calls it. A collection is named in the plural, which none of the
/// names that we get one by one is.
fn verb(method: &Method, path: &str, query: &str) -> &'static str {
    const COLLECTIONS: [&str; 6] = [
        "nodenetworks",
        "ipblocks",
        "nodes",
        "pods",
        "podaddresses",
        "nodereports",
    ];
    let watches = query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1"));
    match *method {
        Method::GET if watches => "watch",
        Method::GET
            if path
                .rsplit('/')
                .next()
                .is_some_and(|last| COLLECTIONS.contains(&last)) =>
        {
            "list"
        }
        Method::GET => "get",
        Method::POST => "create",
        Method::DELETE => "delete",
        _ => "patch",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_told_from_a_watch_and_from_one_object() {
        let get = |path, query| verb(&Method::GET, path, query);
        let nodes = "/api/v1/nodes";
        assert_eq!(get(nodes, "limit=500"), "list");
        assert_eq!(get(nodes, "&watch=true&sendInitialEvents=true"), "watch");
        assert_eq!(get("/api/v1/nodes/a", ""), "get");
        assert_eq!(get("/apis/weftnet.dev/v1alpha1/podaddresses", ""), "list");
        assert_eq!(
            verb(
                &Method::POST,
                "/apis/weftnet.dev/v1alpha1/namespaces/a/podaddresses",
                ""
            ),
            "create"
        );
    }
}
