//! A node in a network namespace of its own, with an engine in it; pods in theirs. Everything is
//! removed when the value goes, also when a test fails.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use weft_agent::engine::{
    BlockObject, ClusterInput, EngineConfig, EngineHandle, Faults, Input, Output, ServiceSettings,
    start_with,
};
use weft_cni::namespace;
use weft_cni::wire::{Added, Attachment, PortMapping, Request, Response};
use weft_kernel::nft::NftSocket;

/// Stands for the kernel's file, in the state directory.
const BOOT_ID: &str = "boot-id";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// More than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A named network namespace.
pub(crate) struct Namespace(pub(crate) String);

/// A node, and what it writes.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    outside: Namespace,
    pub(crate) state: TempDir,
    pub(crate) uid: String,
    nft: Option<NftSocket>,
    pub(crate) engine: Option<EngineHandle>,
    /// Every output so far.
    pub(crate) seen: Vec<Output>,
    pub(crate) grace_seconds: u64,
    pub(crate) services: Option<ServiceSettings>,
    pub(crate) dns: Vec<std::net::IpAddr>,
    pub(crate) policies: bool,
}

/// A sandbox.
pub(crate) struct Pod {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) attachment: Attachment,
}

impl Namespace {
    pub(crate) fn new(kind: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft{kind}-{}-{number}", std::process::id());
        must("ip", &["netns", "add", &name]);
        Self(name)
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// Runs a program inside; its output if it succeeds.
    pub(crate) fn run(&self, line: &str) -> Option<String> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.0])
            .args(line.split_whitespace())
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn must(&self, line: &str) -> String {
        self.run(line)
            .unwrap_or_else(|| panic!("in {}: {line}", self.0))
    }

    /// Runs a function on a thread inside; threads that it starts are inside too.
    pub(crate) fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                function()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn must(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

impl Node {
    /// A node with an address of each family and a default route; no engine yet.
    pub(crate) fn new() -> Self {
        let (namespace, outside) = (Namespace::new("n"), Namespace::new("o"));
        must(
            "ip",
            &[
                "link",
                "add",
                "eth0",
                "netns",
                &namespace.0,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &outside.0,
            ],
        );
        for (place, host) in [(&namespace, 10), (&outside, 1)] {
            place.must("ip link set lo up");
            place.must("ip link set eth0 up");
            place.must(&format!("ip address add 192.0.2.{host}/24 dev eth0"));
            place.must(&format!(
                "ip address add 2001:db8::{host}/64 dev eth0 nodad"
            ));
        }
        namespace.must("ip route add default via 192.0.2.1");
        namespace.must("ip -6 route add default via 2001:db8::1");
        let nft = namespace.inside(|| NftSocket::open().unwrap());
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(BOOT_ID), "boot-1\n").unwrap();
        Self {
            namespace,
            outside,
            state,
            uid: "node-uid-1".to_owned(),
            nft: Some(nft),
            engine: None,
            seen: Vec::new(),
            grace_seconds: 1,
            services: None,
            dns: Vec::new(),
            policies: false,
        }
    }

    /// A node with an engine that has heard from the cluster and is ready.
    pub(crate) fn ready() -> Self {
        let mut node = Self::new();
        node.start(Faults::none());
        node.hear(&["10.64.0.0/26", "fd64::/122"]);
        node.wait_for(|output| *output == Output::Ready);
        node
    }

    pub(crate) fn start(&mut self, faults: Faults) {
        let nft: OwnedFd = {
            use std::os::fd::AsFd;
            self.nft
                .as_ref()
                .unwrap()
                .as_fd()
                .try_clone_to_owned()
                .unwrap()
        };
        let config = EngineConfig {
            node: "n1".to_owned(),
            state_dir: self.state.path().to_owned(),
            spool_dir: self.state.path().join("spool"),
            netns_dir: "/run/netns".into(),
            sysctl_dir: "/proc/sys/net".into(),
            boot_id: self.boot_id(),
            grace_seconds: self.grace_seconds,
            nft_socket: nft,
            services: self.services.clone(),
            dns: self.dns.clone(),
            policies: self.policies,
        };
        self.seen.clear();
        self.engine = Some(self.namespace.inside(|| start_with(config, faults)));
    }

    /// Stops the engine and waits until its thread is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(EngineHandle {
            inputs,
            mut outputs,
        }) = self.engine.take()
        {
            let _ = inputs.send(Input::Stop);
            while let Some(output) = outputs.blocking_recv() {
                self.seen.push(output);
            }
        }
    }

    /// Starts again with what the cluster said, and waits until ready.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start(Faults::none());
        self.hear(&["10.64.0.0/26", "fd64::/122"]);
        self.wait_for(|output| *output == Output::Ready);
    }

    /// The cluster says: these blocks are this node's.
    pub(crate) fn hear(&self, blocks: &[&str]) {
        self.send(Input::Cluster(Arc::new(self.cluster(blocks, 0))));
    }

    /// The same, in mode Direct and with another node.
    pub(crate) fn hear_with_peer(&self) {
        let mut cluster = self.cluster(&["10.64.0.0/26", "10.64.0.64/26"], 0);
        cluster.blocks[1].spec.node = "n2".to_owned();
        if let Some((network, _)) = &mut cluster.network {
            network.overlays[0].mode = weft_crds::OverlayMode::Direct;
        }
        let underlay = weft_crds::NodeUnderlay {
            overlay: "default".to_owned(),
            addresses: vec!["192.0.2.11/24".to_owned()],
            vtep_mac: None,
            device_mtu: Some(1500),
            problem: None,
        };
        let status = weft_crds::NodeNetworkStatus {
            underlays: vec![underlay],
            addresses: vec!["192.0.2.11".to_owned()],
            ..weft_crds::NodeNetworkStatus::default()
        };
        cluster.peers.insert("n2".to_owned(), status);
        self.send(Input::Cluster(Arc::new(cluster)));
    }

    pub(crate) fn cluster(&self, blocks: &[&str], cooldown: u64) -> ClusterInput {
        let block = |cidr: &&str| BlockObject {
            name: format!("block-{}", cidr.replace(['/', ':', '.'], "-")),
            uid: format!("uid-{cidr}"),
            resource_version: "1".to_owned(),
            created: 1,
            spec: weft_crds::IPBlockSpec {
                pool: "default".to_owned(),
                cidr: (*cidr).to_owned(),
                node: "n1".to_owned(),
                state: weft_crds::BlockState::Active,
            },
        };
        ClusterInput {
            node_uid: self.uid.clone(),
            internal_ips: vec![
                "192.0.2.10".parse().unwrap(),
                "2001:db8::10".parse().unwrap(),
            ],
            network: Some((serde_json::from_value(network(cooldown)).unwrap(), 3)),
            blocks: blocks.iter().map(block).collect(),
            ..ClusterInput::default()
        }
    }

    pub(crate) fn send(&self, input: Input) {
        self.engine.as_ref().unwrap().inputs.send(input).unwrap();
    }

    /// Sends a request; the answer comes out of the receiver.
    pub(crate) fn ask(
        &self,
        request: Request,
        pod_netlink: Option<OwnedFd>,
    ) -> oneshot::Receiver<Response> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Cni {
            request,
            pod_netlink,
            reply,
        });
        answer
    }

    pub(crate) fn add(&self, pod: &Pod) -> Response {
        answer(self.begin_add(pod))
    }

    pub(crate) fn begin_add(&self, pod: &Pod) -> oneshot::Receiver<Response> {
        self.ask(
            Request::Add(pod.attachment.clone()),
            Some(pod.netlink(true)),
        )
    }

    pub(crate) fn must_add(&self, pod: &Pod) -> Added {
        match self.add(pod) {
            Response::Added(added) => added,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn del(&self, pod: &Pod) -> Response {
        answer(self.ask(Request::Del(pod.attachment.clone()), None))
    }

    pub(crate) fn check(&self, pod: &Pod) -> Response {
        answer(self.ask(
            Request::Check(pod.attachment.clone()),
            Some(pod.netlink(false)),
        ))
    }

    /// Waits for an output, now or seen before.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Output) -> bool) -> Output {
        let begun = Instant::now();
        loop {
            self.drain();
            if let Some(found) = self.seen.iter().find(|output| wanted(output)) {
                return found.clone();
            }
            let told =
                |output: &&Output| !matches!(output, Output::Report { .. } | Output::Network(_));
            assert!(
                begun.elapsed() < LIMIT,
                "not told; told was {:?}",
                self.seen.iter().filter(told).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn drain(&mut self) {
        if let Some(engine) = &mut self.engine {
            while let Ok(output) = engine.outputs.try_recv() {
                self.seen.push(output);
            }
        }
    }

    /// Routes of ours in the main table, both families.
    pub(crate) fn routes(&self) -> String {
        self.namespace.must("ip route show proto 82")
            + &self.namespace.must("ip -6 route show proto 82")
    }

    /// Our table, as the kernel has it.
    pub(crate) fn table(&self) -> weft_nft::Table {
        self.inside(|| {
            NftSocket::open()
                .unwrap()
                .read_table("weftnet")
                .unwrap()
                .table
        })
    }

    /// Links of pods.
    pub(crate) fn pod_links(&self) -> Vec<String> {
        let text = self.namespace.must("ip -json link show group 8200");
        let links: Value = serde_json::from_str(&text).unwrap_or_default();
        let names = links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| link["ifname"].as_str());
        names.map(str::to_owned).collect()
    }

    /// Where the engine reads which boot this is.
    pub(crate) fn boot_id(&self) -> std::path::PathBuf {
        self.state.path().join(BOOT_ID)
    }

    /// The socket that owns the table.
    pub(crate) fn nft(&self) -> &NftSocket {
        self.nft.as_ref().unwrap()
    }

    /// Closes the socket that owns the table.
    pub(crate) fn forget_nft(&mut self) {
        self.nft = None;
    }

    /// Runs a function on a thread in the node's namespace.
    pub(crate) fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        self.namespace.inside(function)
    }

    /// The namespace beyond the node, with another node's address and one of a pod there.
    pub(crate) fn outside_as(&self, pod: &str) -> &Namespace {
        let place = &self.outside;
        place.run("ip address replace 192.0.2.11/24 dev eth0");
        place.must(&format!("ip address replace {pod}/32 dev eth0"));
        place.must(&format!(
            "ip route replace 10.64.0.0/26 via 192.0.2.10 src {pod}"
        ));
        place
    }

    pub(crate) fn outside_reaches(&self, address: IpAddr) -> bool {
        self.outside
            .run("ip route replace 10.64.0.0/16 via 192.0.2.10");
        self.outside
            .run(&format!("ping -c1 -w10 {address}"))
            .is_some()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Pod {
    pub(crate) fn new(name: &str) -> Self {
        let namespace = Namespace::new("p");
        let attachment = Attachment {
            container_id: format!("c-{}", namespace.0),
            ifname: "eth0".to_owned(),
            netns: namespace.path(),
            pod_namespace: "default".to_owned(),
            pod_name: name.to_owned(),
            pod_uid: format!("uid-{name}"),
            port_mappings: Vec::new(),
        };
        Self {
            namespace: Some(namespace),
            attachment,
        }
    }

    pub(crate) fn with_host_port(mut self, host_port: u16) -> Self {
        let (container_port, protocol) = (80, "tcp".to_owned());
        self.attachment.port_mappings = vec![PortMapping {
            host_port,
            container_port,
            protocol,
            host_ip: String::new(),
        }];
        self
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        self.namespace.as_ref().unwrap()
    }

    fn netlink(&self, prepare: bool) -> OwnedFd {
        let file = namespace::open(&self.namespace().path()).unwrap();
        namespace::netlink_socket(&file, prepare).unwrap()
    }

    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        self.namespace()
            .run(&format!("ping -c1 -w10 {address}"))
            .is_some()
    }
}

/// The answer, within a generous limit.
pub(crate) fn answer(mut receiver: oneshot::Receiver<Response>) -> Response {
    let begun = Instant::now();
    loop {
        match receiver.try_recv() {
            Ok(response) => return response,
            Err(oneshot::error::TryRecvError::Closed) => panic!("the engine gave no answer"),
            Err(oneshot::error::TryRecvError::Empty) => {
                std::thread::sleep(Duration::from_millis(1))
            }
        }
        assert!(begun.elapsed() < LIMIT, "no answer in time");
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A failure's code and text.
pub(crate) fn failure(response: Response) -> (u32, String) {
    match response {
        Response::Failed { code, msg, details } => (code, format!("{msg}: {details}")),
        other => panic!("{other:?}"),
    }
}

/// Whether a file is there.
pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}

fn network(cooldown: u64) -> Value {
    json!({
        "overlays": [{"name": "default", "mode": "VXLAN", "vni": 4096, "port": 4789, "underlayFamily": "IPv4"}],
        "pools": [{
            "name": "default", "overlay": "default", "assignable": true, "priority": 0,
            "cidrs": [{"cidr": "10.64.0.0/16", "blockSize": 26}, {"cidr": "fd64::/112", "blockSize": 122}],
            "prealloc": 16, "cooldownSeconds": cooldown, "natOutgoing": {"mode": "Masquerade"},
        }],
    })
}
