//! One node of a lab: made, joined, removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::DeleteParams;
use kube::{Api, Client};

use super::{Environment, Making, kept_folders};
use crate::cluster::Cluster;
use crate::image::template;
use crate::progress::Progress;
use crate::state::{Cni, NodeRecord};
use crate::{api, network, node};

impl Making<'_> {
    /// Makes a node's place with its images and starts the container runtime.
    pub(crate) fn prepare_node(&self, node: &NodeRecord, images: &Path) -> Result<()> {
        let cluster = self.cluster;
        cluster.update(|state| {
            state.nodes.insert(node.number, node.clone());
        })?;
        let state = cluster.state();
        let dir = cluster.paths().place(&node.name).join("node");
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        template::copy(images, &dir)?;
        let place = self.start_place(&node.name, Some(dir))?;
        node::write_config(&state, cluster.paths(), node)?;
        cluster.add_daemon(&node::containerd(&state, cluster.paths(), &node.name))?;
        network::connect(
            &cluster.switch()?,
            &place,
            &state,
            node.segment,
            node.addresses,
        )?;
        node::install_plugins(&state, &place, node)
    }

    /// Starts kubelet and kube-proxy once the API server is there.
    pub(crate) fn start_node_daemons(&self, node: &NodeRecord) -> Result<()> {
        let (cluster, state) = (self.cluster, self.cluster.state());
        template::wait_for_socket(&cluster.place(&node.name)?, Duration::from_secs(30))?;
        cluster.add_daemon(&node::kubelet(&state, cluster.paths(), node))?;
        if state.options.kube_proxy.is_some() {
            cluster.add_daemon(&node::kube_proxy(&state, cluster.paths(), &node.name))?;
        }
        Ok(())
    }

    /// With the reference plugins, tells the switch and all nodes where every node's pods are.
    pub(crate) fn refresh_static_routes(&self) -> Result<()> {
        let (cluster, state) = (self.cluster, self.cluster.state());
        if !matches!(state.options.cni, Cni::Bridge | Cni::Ptp) {
            return Ok(());
        }
        let arguments = ["ip", "-batch", "-"];
        let of_switch = network::static_routes(&state, None);
        cluster.switch()?.feed_network(&arguments, &of_switch)?;
        for node in state.nodes.values() {
            let routes = network::static_routes(&state, Some(node));
            if !routes.is_empty() {
                cluster
                    .place(&node.name)?
                    .feed_network(&arguments, &routes)?;
            }
        }
        Ok(())
    }
}

/// Adds a node in a segment (0 is the first) to a running lab and returns it at once; it becomes Ready
/// some seconds later.
pub async fn add_node(env: &Environment, cluster: &Cluster, segment: u8) -> Result<NodeRecord> {
    let client = cluster.client().await?;
    let state = cluster.state();
    let number = state.nodes.keys().next_back().map_or(1, |last| last + 1);
    anyhow::ensure!(
        number <= crate::address::MAX_NODES && segment < state.options.segments,
        "node {number} in segment {} does not fit into this lab",
        segment + 1
    );
    let record = NodeRecord::new(state.plan(), number, segment);
    api::create_node(&client, &record).await?;
    let (env, cluster, made) = (env.clone(), cluster.clone(), record.clone());
    let start = move || {
        let progress = Progress::quiet();
        let making = Making {
            env: &env,
            cluster: &cluster,
            progress: &progress,
            keep: kept_folders(&env, &cluster)?,
        };
        let images = making.image_template()?;
        making.prepare_node(&made, &images)?;
        making.start_node_daemons(&made)?;
        making.refresh_static_routes()
    };
    tokio::task::spawn_blocking(start).await??;
    Ok(record)
}

/// Removes a node: its processes at once, as a machine that lost power, then its Node object.
pub async fn remove_node(cluster: &Cluster, name: &str) -> Result<()> {
    let client = cluster.client().await?;
    end_node(cluster, name)?;
    delete_node_object(&client, name).await
}

/// Ends a node as a power failure does; its Node object stays.
pub fn end_node(cluster: &Cluster, name: &str) -> Result<()> {
    let record = cluster.node(name)?;
    let place = cluster.place(name)?;
    place.kill();
    // The port is gone with the node's network namespace, unless the kernel is still at it.
    let _ = network::disconnect(&cluster.switch()?, name);
    cluster.update(|state| {
        state.nodes.remove(&record.number);
        state.places.remove(name);
        state.daemons.retain(|daemon| daemon.place != name);
    })
}

async fn delete_node_object(client: &Client, name: &str) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("failed to delete the Node {name}")),
    }
}
