//! A node: a place with a container runtime, kubelet and, where wanted, kube-proxy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::address::{DNS_IPV4, DNS_IPV6};
use crate::image;
use crate::network;
use crate::paths::Paths;
use crate::place::{Daemon, Place};
use crate::state::{Cni, LabState, NodeRecord, ProxyMode};

/// The runtime's socket inside a node.
pub const RUNTIME_SOCKET: &str = "/run/containerd/containerd.sock";
const REFERENCE_PLUGINS: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "ptp"];

/// The container runtime.
pub fn containerd(state: &LabState, paths: &Paths, node: &str) -> Daemon {
    let config = paths.place(node).join("containerd.toml");
    let program = state.programs.path("containerd");
    daemon(
        node,
        "containerd",
        &program,
        vec!["--config".to_owned(), text(&config)],
    )
}

/// kubelet.
pub fn kubelet(state: &LabState, paths: &Paths, node: &NodeRecord) -> Daemon {
    let addresses: Vec<String> = node
        .addresses
        .all()
        .iter()
        .map(ToString::to_string)
        .collect();
    let arguments = vec![
        format!(
            "--config={}",
            text(&paths.place(&node.name).join("kubelet.yaml"))
        ),
        format!(
            "--kubeconfig={}",
            text(&paths.pki().join(format!("{}.kubeconfig", node.name)))
        ),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", addresses.join(",")),
        "--v=2".to_owned(),
    ];
    daemon(
        &node.name,
        "kubelet",
        &state.programs.path("kubelet"),
        arguments,
    )
}

/// kube-proxy.
pub fn kube_proxy(state: &LabState, paths: &Paths, node: &str) -> Daemon {
    let config = paths.place(node).join("kube-proxy.yaml");
    let arguments = vec![format!("--config={}", text(&config)), "--v=2".to_owned()];
    daemon(
        node,
        "kube-proxy",
        &state.programs.path("kube-proxy"),
        arguments,
    )
}

/// Writes the configuration of all three.
pub fn write_config(state: &LabState, paths: &Paths, node: &NodeRecord) -> Result<()> {
    let dir = paths.place(&node.name);
    fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let write = |file: &str, content: String| {
        let path = dir.join(file);
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))
    };
    write(
        "containerd.toml",
        containerd_config(&state.programs.path("runc")),
    )?;
    write(
        "kubelet.yaml",
        format!("{:#}\n", kubelet_config(state, paths)),
    )?;
    write(
        "kube-proxy.yaml",
        format!("{:#}\n", kube_proxy_config(state, paths, &node.name)),
    )
}

/// Puts CNI programs and configuration into a running node.
pub fn install_plugins(state: &LabState, place: &Place, node: &NodeRecord) -> Result<()> {
    let plugins: &[&str] = match state.options.cni {
        Cni::Bridge | Cni::Ptp => &REFERENCE_PLUGINS,
        Cni::Weftnet | Cni::None => &["loopback"],
    };
    let bin = in_place(place, "/opt/cni/bin");
    for plugin in plugins {
        let (from, to) = (state.programs.path(plugin), bin.join(plugin));
        fs::copy(&from, &to)
            .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))?;
    }
    if let Some(list) = plugin_list(state, node) {
        let file = in_place(place, "/etc/cni/net.d/10-lab.conflist");
        fs::write(&file, format!("{list:#}\n"))
            .with_context(|| format!("failed to write {}", file.display()))?;
        let routes = network::static_routes(state, Some(node));
        if !routes.is_empty() {
            place.feed_network(&["ip", "-batch", "-"], &routes)?;
        }
    }
    Ok(())
}

/// A path inside a place, as the machine reaches it.
pub fn in_place(place: &Place, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", place.pid()))
}

/// The container runtime's configuration.
pub fn containerd_config(runc: &Path) -> String {
    include_str!("../files/containerd.toml")
        .replace("@RUNC@", &runc.display().to_string())
        .replace("@PAUSE@", &image::runtime_reference(image::PAUSE))
}

fn kubelet_config(state: &LabState, paths: &Paths) -> serde_json::Value {
    let dns = state.options.families.select(DNS_IPV4, DNS_IPV6);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": text(&paths.pki().join("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{RUNTIME_SOCKET}"),
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        "clusterDNS": dns,
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        // Images come from no registry: one that was removed would not come back.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
            "memory.available": "100Mi",
        },
        "maxOpenFiles": 16384,
        "maxPods": 250,
        "oomScoreAdj": 0,
        "protectKernelDefaults": false,
        "readOnlyPort": 0,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "nodeStatusUpdateFrequency": "10s",
    })
}

fn kube_proxy_config(state: &LabState, paths: &Paths, node: &str) -> serde_json::Value {
    let pods = state
        .options
        .families
        .select(crate::address::PODS_IPV4, crate::address::PODS_IPV6);
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": text(&paths.pki().join("proxy.kubeconfig"))},
        "mode": state.options.kube_proxy.unwrap_or(ProxyMode::Nftables),
        "clusterCIDR": pods.join(","),
        "hostnameOverride": node,
        // These are the whole machine's, not the node's.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
        "metricsBindAddress": "127.0.0.1:10249",
    })
}

fn plugin_list(state: &LabState, node: &NodeRecord) -> Option<serde_json::Value> {
    let ranges: Vec<_> = state
        .plan()
        .pod_ranges(node.number)
        .into_iter()
        .map(|range| json!([{"subnet": range}]))
        .collect();
    let routes: Vec<_> = state
        .options
        .families
        .select("0.0.0.0/0", "::/0")
        .into_iter()
        .map(|dst| json!({"dst": dst}))
        .collect();
    let ipam = json!({"type": "host-local", "ranges": ranges, "routes": routes});
    let main = match state.options.cni {
        Cni::Bridge => json!({"type": "bridge", "bridge": "cni0", "isGateway": true,
            "hairpinMode": true, "ipam": ipam}),
        Cni::Ptp => json!({"type": "ptp", "ipam": ipam}),
        Cni::Weftnet | Cni::None => return None,
    };
    let ports =
        json!({"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}});
    Some(json!({"cniVersion": "1.1.0", "name": "lab", "plugins": [main, ports]}))
}

fn daemon(place: &str, name: &str, program: &Path, arguments: Vec<String>) -> Daemon {
    let mut argv = vec![text(program)];
    argv.extend(arguments);
    Daemon {
        name: name.to_owned(),
        place: place.to_owned(),
        argv,
        env: BTreeMap::new(),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
