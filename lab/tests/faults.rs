//! What can be done to a running lab, each seen from outside.

use std::path::Path;
use std::time::Duration;

use weft_lab::address::Families;
use weft_lab::asset::{Source, versions};
use weft_lab::cluster::Cluster;
use weft_lab::name::LabName;
use weft_lab::progress::Progress;
use weft_lab::state::{Cni, Options};
use weft_lab::up::{self, Environment, member};
use weft_lab::{api, down, paths};

struct Taken(LabName);

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = down::down(Path::new(paths::STATE_DIR), &self.0);
    }
}

fn environment() -> Environment {
    let source = up::default_source();
    let lab = Path::new(env!("CARGO_BIN_EXE_weft-lab"));
    Environment {
        state_dir: paths::STATE_DIR.into(),
        source: Source {
            given: None,
            cache: paths::CACHE_DIR.into(),
            modules: source.join("lab/assets"),
        },
        programs: lab.parent().map(Path::to_owned),
        charts: source.join("helm"),
        resources: None,
        cluster_folder: source.join("lab/cluster"),
    }
}

fn options() -> Options {
    Options {
        families: Families::Dual,
        placement: vec![0, 1],
        segments: 2,
        cni: Cni::Bridge,
        kube_proxy: None,
        coredns: false,
        weft_dns: false,
        kubernetes: versions::version_of("kubernetes").expect("versions are pinned"),
        mtu: 1500,
    }
}

fn reaches(cluster: &Cluster, from: &str, address: &str) -> bool {
    let place = cluster.place(from).expect("the place runs");
    // A TCP port on which nobody listens refuses; that is an answer.
    let script = format!("exec 3<>/dev/tcp/{address}/9");
    let output = place
        .output(&["timeout", "1", "bash", "-c", &script])
        .expect("bash starts");
    String::from_utf8_lossy(&output.stderr).contains("refused")
}

/// Whether it is reached within half a minute: a busy machine needs more than one try.
fn comes_to_reach(cluster: &Cluster, from: &str, address: &str) -> bool {
    (0..30).any(|_| reaches(cluster, from, address))
}

async fn until_ready(client: &kube::Client, wanted: bool) -> bool {
    for _ in 0..1800 {
        if api::is_ready(client).await == wanted {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[test]
#[ignore = "makes a cluster; run it with `cargo test -p weft-lab -- --ignored faults_show`"]
fn faults_show_and_heal() {
    let name: LabName = "fault-test".parse().expect("a valid name");
    down::down(Path::new(paths::STATE_DIR), &name).expect("debris is removed");
    let taken = Taken(name.clone());
    let env = environment();
    let cluster = up::up(&env, &name, &options(), &Progress::quiet()).expect("the lab comes up");

    // Nodes of two segments reach each other through the router, until one is cut off.
    let other = cluster
        .node("node-2")
        .expect("node 2 is there")
        .addresses
        .first()
        .to_string();
    assert!(
        other.starts_with("10.50.1."),
        "{other} is not in the second segment"
    );
    assert!(comes_to_reach(&cluster, "node-1", &other));
    cluster
        .partition("node-2", true)
        .expect("the link goes down");
    assert!(!reaches(&cluster, "node-1", &other));
    cluster
        .partition("node-2", false)
        .expect("the link comes up");
    assert!(comes_to_reach(&cluster, "node-1", &other));

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = cluster.client().await.expect("a client");
        assert!(until_ready(&client, true).await);
        cluster.halt_api_server(true).expect("halted");
        assert!(until_ready(&client, false).await);
        cluster.halt_api_server(false).expect("resumed");
        assert!(until_ready(&client, true).await);
        cluster.stop_api_server().expect("stopped");
        assert!(until_ready(&client, false).await);
        cluster.start_api_server().expect("started");
        assert!(until_ready(&client, true).await);

        let before = cluster
            .place("node-1")
            .expect("node 1")
            .processes("kubelet")[0]
            .pid;
        cluster
            .restart_daemon("node-1", "kubelet")
            .expect("restarted");
        let after = cluster
            .place("node-1")
            .expect("node 1")
            .processes("kubelet")[0]
            .pid;
        assert_ne!(before, after);

        let added = member::add_node(&env, &cluster, 0)
            .await
            .expect("a node joins");
        assert_eq!(added.name, "node-3");
        let limit = Duration::from_secs(90);
        api::wait_for_nodes(&client, limit)
            .await
            .expect("it becomes Ready");
        member::remove_node(&cluster, "node-3")
            .await
            .expect("it leaves");
        assert!(cluster.place("node-3").is_err());
    });
    drop(taken);
    assert!(Cluster::open(Path::new(paths::STATE_DIR), &name).is_err());
}
