//! kube-proxy on a node, with Services in a real API server; what its own metrics say of its syncs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::connections::ECHO;
use crate::bench::inside::inside;
use crate::bench::sample::Sample;
use crate::cluster::Cluster;
use crate::node;
use crate::place::Place;

const NAMESPACE: &str = "bench";
const NODE: &str = "node-1";
/// The cluster IP of the Service that is measured.
const FRONTEND: ([u8; 4], u16) = ([10, 96, 77, 77], 7070);
/// Requests under way at once.
const AT_ONCE: usize = 24;

/// kube-proxy and its Services.
pub struct Peer {
    cluster: Cluster,
    place: Place,
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
    services: usize,
}

impl Peer {
    /// No Services yet, and kube-proxy does not run.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let client = runtime.block_on(cluster.client())?;
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        let api: Api<Namespace> = Api::all(client.clone());
        runtime.block_on(api.create(&PostParams::default(), &namespace))?;
        let this = Self {
            place: cluster.place(NODE)?,
            cluster: cluster.clone(),
            runtime,
            client,
            services: 0,
        };
        let (ip, port) = (this.frontend().ip(), this.frontend().port());
        let create = create(
            this.client.clone(),
            "measured".to_owned(),
            Some((ip.to_string(), port)),
            (ECHO.ip().to_string(), ECHO.port()),
        );
        this.runtime.block_on(create)?;
        Ok(this)
    }

    /// The address of the Service that leads to the outside world.
    pub fn frontend(&self) -> SocketAddr {
        SocketAddr::from(FRONTEND)
    }

    /// The node.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Makes Services until there are so many.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn services(&mut self, wanted: usize) -> Result<()> {
        let (first, client) = (self.services, self.client.clone());
        self.runtime.block_on(async {
            let mut under_way = tokio::task::JoinSet::new();
            for number in first..wanted {
                if under_way.len() >= AT_ONCE
                    && let Some(done) = under_way.join_next().await
                {
                    done??;
                }
                let endpoint = format!(
                    "10.{}.{}.{}",
                    128 + number / 65_536,
                    number / 256 % 256,
                    number % 256
                );
                under_way.spawn(create(
                    client.clone(),
                    format!("many-{number}"),
                    None,
                    (endpoint, 8080),
                ));
            }
            while let Some(done) = under_way.join_next().await {
                done??;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        self.services = wanted.max(first);
        Ok(())
    }

    /// Starts kube-proxy and waits for its first sync.
    ///
    /// # Errors
    /// When there is none within five minutes.
    pub fn start(&self) -> Result<()> {
        let state = self.cluster.state();
        let daemon = node::kube_proxy(&state, self.cluster.paths(), NODE);
        self.cluster.add_daemon(&daemon)?;
        self.wait_for(1.0, Duration::from_secs(300)).map(drop)
    }

    /// Ends it, removes its rules and starts it again: seconds of the first sync.
    ///
    /// # Errors
    /// When there is none within ten minutes.
    pub fn restart(&self) -> Result<Sample> {
        self.cluster.kill_daemon(NODE, "kube-proxy")?;
        self.place
            .text(&["nft", "delete", "table", "ip", "kube-proxy"])?;
        self.cluster.start_daemon(NODE, "kube-proxy")?;
        let (_, seconds) = self.wait_for(1.0, Duration::from_secs(600))?;
        Ok([seconds].into_iter().collect())
    }

    /// Changes one endpoint again and again: milliseconds of each sync, without the wait before it.
    ///
    /// # Errors
    /// When a change is not taken within a minute.
    pub fn changes(&self, rounds: usize) -> Result<Sample> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut sample = Sample::default();
        for round in 0..rounds {
            let (count, sum) = self.syncs()?;
            let name = format!("many-{}-1", round + 1);
            let patch =
                json!({"endpoints": [{"addresses": [format!("10.255.{}.1", round % 250)]}]});
            let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
            self.runtime
                .block_on(api.patch(&name, &parameters, &patch))?;
            let (after, seconds) = self.wait_for(count + 1.0, Duration::from_secs(60))?;
            sample.push((seconds - sum) / (after - count) * 1e3);
        }
        Ok(sample)
    }

    fn wait_for(&self, count: f64, limit: Duration) -> Result<(f64, f64)> {
        let deadline = Instant::now() + limit;
        loop {
            match self.syncs() {
                Ok(found) if found.0 >= count => return Ok(found),
                _ if Instant::now() > deadline => {
                    bail!("kube-proxy did not sync within {} s", limit.as_secs())
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// How many syncs there were, and their seconds together.
    fn syncs(&self) -> Result<(f64, f64)> {
        let text = inside(&self.place, metrics)?;
        let figure = |end: &str| {
            let name = format!("kubeproxy_sync_proxy_rules_duration_seconds_{end}");
            let lines = text.lines().filter(|line| line.starts_with(&name));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum::<f64>()
        };
        Ok((figure("count"), figure("sum")))
    }
}

fn metrics() -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 10249)).context("kube-proxy's metrics")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A Service without a selector, and its slice.
async fn create(
    client: kube::Client,
    name: String,
    frontend: Option<(String, u16)>,
    endpoint: (String, u16),
) -> Result<()> {
    let (cluster_ip, port) = match frontend {
        Some((ip, port)) => (json!(ip), port),
        None => (json!(null), 80),
    };
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"clusterIP": cluster_ip, "ports": [{"port": port, "targetPort": endpoint.1}]},
    }))?;
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "name": format!("{name}-1"),
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "weft-lab",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": endpoint.1, "protocol": "TCP"}],
        "endpoints": [{"addresses": [endpoint.0], "conditions": {"ready": true}}],
    }))?;
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    services.create(&PostParams::default(), &service).await?;
    slices.create(&PostParams::default(), &slice).await?;
    Ok(())
}
