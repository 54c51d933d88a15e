//! Installs Weftnet as a user would: its charts with helm, then resources from a folder.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;

use crate::address::{DNS_IPV4, DNS_IPV6, Families};
use crate::cluster::Cluster;
use crate::control_plane;
use crate::image;
use crate::place::succeeded;
use crate::progress::Progress;
use crate::up::Environment;

/// The release and the namespace of Weftnet.
pub const RELEASE: &str = "weftnet";
/// Where Weftnet's own pods are.
pub const NAMESPACE: &str = "kube-system";

/// Installs the charts and applies the resources.
pub fn weftnet(
    env: &Environment,
    cluster: &Cluster,
    client: &Client,
    runtime: &tokio::runtime::Runtime,
    progress: &Progress,
) -> Result<()> {
    let step = progress.step("installing Weftnet");
    let server = control_plane::api_server_address(&cluster.state());
    helm(env, cluster, "weftnet-crds", &[])?;
    let definition = include_str!("../files/clusternetworkpolicies.yaml");
    runtime.block_on(crate::api::apply(client, definition))?;
    let mut values = vec![
        "--set-json".to_owned(),
        format!("apiServer={}", serde_json::to_string(&[server])?),
        "--set".to_owned(),
        format!("image.tag={}", image::TAG),
        "--set".to_owned(),
        format!(
            "services.enabled={}",
            cluster.state().options.kube_proxy.is_none()
        ),
        // Scenarios wait for what comes back after it.
        "--set".to_owned(),
        "agent.sandboxGrace=5s".to_owned(),
    ];
    if cluster.state().options.weft_dns {
        let addresses = cluster.state().options.families.select(DNS_IPV4, DNS_IPV6);
        let dns = serde_json::json!({"enabled": true, "clusterIPs": addresses, "replicas": 1});
        values.extend(["--set-json".to_owned(), format!("dns={dns}")]);
    }
    helm(env, cluster, RELEASE, &values)?;
    let limit = Duration::from_secs(30);
    let resources = match (&env.resources, cluster.state().options.families) {
        (Some(folder), _) => folder.clone(),
        (None, Families::Dual) => env.cluster_folder.clone(),
        (None, Families::Ipv4) => env.cluster_folder.join("ipv4"),
        (None, Families::Ipv6) => env.cluster_folder.join("ipv6"),
    };
    runtime.block_on(crate::api::apply_folder(client, &resources, limit))?;
    step.done();
    Ok(())
}

/// Installs or upgrades one chart with further arguments.
pub fn helm(env: &Environment, cluster: &Cluster, chart: &str, arguments: &[String]) -> Result<()> {
    let folder: PathBuf = env.charts.join(chart);
    // helm keeps caches and plugins in the home folder unless it is told where.
    let home = cluster.paths().lab().join("helm");
    let mut command = Command::new(cluster.state().programs.path("helm"));
    command
        .args(["upgrade", "--install", chart])
        .arg(&folder)
        .args(["--namespace", NAMESPACE])
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("HELM_CACHE_HOME", home.join("cache"))
        .env("HELM_CONFIG_HOME", home.join("config"))
        .env("HELM_DATA_HOME", home.join("data"))
        .stdin(Stdio::null());
    let output = command.output().context("failed to start helm")?;
    succeeded(
        &output,
        &format!("installing the chart {}", folder.display()),
    )
}
