//! The watches and writers against a real API server: etcd and kube-apiserver in a network
//! namespace of their own, found by `WEFT_TEST_BIN` or `PATH`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::{Api, Client};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use weft_agent::cli::{Cli, Command as Verb, Settings};
use weft_agent::engine::{Attached, ClusterInput, Input, PolicyInput, ServiceInput};
use weft_agent::metrics::Metrics;
use weft_agent::services::health::ProxyHealth;
use weft_agent::status::events::Notice;
use weft_agent::status::node_report::Report;
use weft_agent::status::pod_address::Change;
use weft_agent::status::{self, Writer};
use weft_agent::watch::{Identity, Synced, Update};
use weft_core::policy::Tier;
use weft_core::view::AttachmentKey;
use weft_crds::{IPBlock, NodeNetwork, NodeNetworkStatus, NodeReport, NodeReportSpec, PodAddress};

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);
const NODE: &str = "node-a";
const TOKEN: &str = "secret";

/// etcd and kube-apiserver.
struct ControlPlane {
    namespace: String,
    directory: tempfile::TempDir,
    etcd: Option<Child>,
    server: Option<Child>,
}

impl ControlPlane {
    fn start() -> Self {
        let namespace = format!("weft-api-{}", std::process::id());
        let run = |arguments: &[&str]| {
            Command::new("ip")
                .args(arguments)
                .status()
                .unwrap()
                .success()
        };
        assert!(
            run(&["netns", "add", &namespace]),
            "this test needs root and iproute2"
        );
        let directory = tempfile::tempdir().unwrap();
        let mut plane = Self {
            namespace,
            directory,
            etcd: None,
            server: None,
        };
        assert!(run(&["-n", &plane.namespace, "link", "set", "lo", "up"]));
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(plane.path("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(plane.path("sa.pub"), key.public_key_pem()).unwrap();
        std::fs::write(
            plane.path("tokens"),
            format!("{TOKEN},admin,admin,system:masters\n"),
        )
        .unwrap();
        std::fs::write(plane.path("token"), TOKEN).unwrap();
        let data = format!("--data-dir={}", plane.path("etcd").display());
        let own = ["--listen-client-urls", "--advertise-client-urls"]
            .map(|flag| format!("{flag}=http://127.0.0.1:2379"));
        let peer = "--listen-peer-urls=http://127.0.0.1:2380";
        let more = [
            "--unsafe-no-fsync",
            "--log-level=error",
            peer,
            &data,
            &own[0],
            &own[1],
        ];
        plane.etcd = Some(plane.spawn("etcd", &more));
        plane.start_server();
        plane
    }

    fn start_server(&mut self) {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let arguments = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--secure-port=6443".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            flag("cert-dir", "certs"),
            flag("token-auth-file", "tokens"),
            flag("service-account-key-file", "sa.pub"),
            flag("service-account-signing-key-file", "sa.key"),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.server = Some(self.spawn("kube-apiserver", &arguments));
        let certificate = self.path("certs/apiserver.crt");
        let end = Instant::now() + PATIENCE;
        while !certificate.exists() {
            assert!(Instant::now() < end, "no certificate; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::copy(certificate, self.path("ca.crt")).unwrap();
    }

    fn stop_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn spawn(&self, program: &str, arguments: &[&str]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .arg(find(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().rev().take(30).collect::<Vec<_>>().join("\n")
    }

    /// Every socket that this thread opens from now on is in the namespace.
    fn enter(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// The first address leads nowhere.
    fn settings(&self) -> Settings {
        let account = format!("--service-account-dir={}", self.directory.path().display());
        let servers = "--api-server=127.0.0.1:9,127.0.0.1:6443";
        let line = ["weft-agent", "run", "--node-name", NODE, servers, &account];
        let Verb::Run(settings) = Cli::parse_from(line).command else {
            panic!("not run")
        };
        settings
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.etcd].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .status();
    }
}

fn find(program: &str) -> PathBuf {
    let folders = std::env::var_os("WEFT_TEST_BIN")
        .into_iter()
        .chain(std::env::var_os("PATH"));
    let folders: Vec<PathBuf> = folders
        .flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>())
        .collect();
    let found = folders
        .iter()
        .map(|folder| folder.join(program))
        .find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("{program} is neither in WEFT_TEST_BIN nor in PATH"))
}

/// Asks again until there is an answer.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The asynchronous side of an agent, with the test in place of the engine.
struct Agent {
    inputs: Receiver<Input>,
    services: Receiver<Input>,
    policies: Receiver<Input>,
    pods_needed: watch::Sender<bool>,
    proxy: Arc<ProxyHealth>,
    network: watch::Sender<Option<NodeNetworkStatus>>,
    reports: mpsc::UnboundedSender<Report>,
    notices: mpsc::UnboundedSender<Notice>,
    changes: mpsc::UnboundedSender<Change>,
    synced: watch::Receiver<Synced>,
    metrics: Arc<Metrics>,
}

impl Agent {
    async fn start(settings: &Settings) -> Self {
        let metrics = Arc::<Metrics>::default();
        let client = weft_agent::api::client(settings, metrics.clone())
            .await
            .unwrap();
        let writer = Writer {
            client: client.clone(),
            node: NODE.to_owned(),
            metrics: metrics.clone(),
        };
        let (sender, inputs) = channel();
        let (service_sender, services) = channel();
        let (policy_sender, policies) = channel();
        let (pods_needed, wanted_pods) = watch::channel(false);
        tokio::spawn(weft_agent::watch::policies::run(
            client.clone(),
            policy_sender.clone(),
            wanted_pods,
            metrics.clone(),
        ));
        let proxy = Arc::<ProxyHealth>::default();
        tokio::spawn(weft_agent::watch::services::run(
            client.clone(),
            service_sender,
            proxy.clone(),
            metrics.clone(),
        ));
        let (synced_sender, synced) = watch::channel(Synced::default());
        let (identity_sender, identity) = watch::channel(Identity::default());
        let (network, wanted_network) = watch::channel(None);
        let (reports, wanted_reports) = mpsc::unbounded_channel();
        let (notices, wanted_notices) = mpsc::unbounded_channel();
        let (changes, wanted_changes) = mpsc::unbounded_channel();
        let cluster = weft_agent::watch::cluster::run;
        tokio::spawn(cluster(
            client,
            NODE.to_owned(),
            sender,
            Some(policy_sender.clone()),
            synced_sender,
            identity_sender,
            metrics.clone(),
        ));
        tokio::spawn(status::node_network::run(
            writer.clone(),
            wanted_network,
            identity.clone(),
        ));
        tokio::spawn(status::node_report::run(
            writer.clone(),
            wanted_reports,
            identity.clone(),
        ));
        tokio::spawn(status::events::run(
            writer.clone(),
            wanted_notices,
            identity,
        ));
        tokio::spawn(status::pod_address::run(
            writer,
            wanted_changes,
            Some(policy_sender.clone()),
        ));
        Self {
            inputs,
            services,
            policies,
            pods_needed,
            proxy,
            network,
            reports,
            notices,
            changes,
            synced,
            metrics,
        }
    }

    /// The newest input that the engine would have, once it is as wanted.
    async fn input(&self, what: &str, wanted: impl Fn(&ClusterInput) -> bool) -> Arc<ClusterInput> {
        until(what, || async {
            let newest = self.inputs.try_iter().last();
            newest.and_then(|input| match input {
                Input::Cluster(input) if wanted(&input) => Some(input),
                _ => None,
            })
        })
        .await
    }

    /// What the engine would hear of Services, one after the other, up to the wanted input.
    async fn heard(&self, what: &str, wanted: impl Fn(&ServiceInput) -> bool) -> Vec<ServiceInput> {
        let heard = std::cell::RefCell::new(Vec::new());
        until(what, || async {
            for input in self.services.try_iter() {
                let Input::Services(input) = input else {
                    panic!("{input:?}");
                };
                let last = wanted(&input);
                heard.borrow_mut().push(input);
                if last {
                    return Some(());
                }
            }
            None
        })
        .await;
        heard.into_inner()
    }

    /// What the engine would hear of policies, up to the wanted input.
    async fn policy(&self, what: &str, wanted: impl Fn(&PolicyInput) -> bool) {
        until(what, || async {
            let mut inputs = self.policies.try_iter();
            inputs
                .any(|input| matches!(input, Input::Policy(input) if wanted(&input)))
                .then_some(())
        })
        .await;
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|found| found == line)
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn create_definitions(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (name, yaml) in weft_crds::definitions().unwrap() {
        let definition: CustomResourceDefinition = serde_saphyr::from_str(&yaml).unwrap();
        until(&name, || async {
            let created = api.create(&PostParams::default(), &definition).await;
            // The server may not be up yet; but what it refuses once, it refuses for ever.
            assert!(
                !matches!(&created, Err(kube::Error::Api(status)) if status.code == 422),
                "{created:?}"
            );
            created.ok()
        })
        .await;
        until(&name, || async {
            let status = api.get(&name).await.ok()?.status?;
            status
                .conditions?
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
                .then_some(())
        })
        .await;
    }
}

async fn create_node(client: &Client, name: &str, address: &str) -> String {
    let api: Api<Node> = Api::all(client.clone());
    let node = object(json!({"metadata": {"name": name}}));
    let created = api.create(&PostParams::default(), &node).await.unwrap();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    created.metadata.uid.unwrap()
}

async fn create_pod(client: &Client, name: &str) -> String {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = object(json!({
        "metadata": {"name": name, "labels": {"app": "web", "old": "1"}},
        "spec": {"nodeName": NODE, "containers": [
            {"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 8080}]}]}
    }));
    let created = until("the pod", || async {
        api.create(&PostParams::default(), &pod).await.ok()
    })
    .await;
    created.metadata.uid.unwrap()
}

fn attached(uid: &str, pod: &str) -> Attached {
    Attached {
        key: AttachmentKey {
            container_id: format!("sandbox-of-{uid}"),
            ifname: "eth0".to_owned(),
        },
        pod_uid: uid.to_owned(),
        namespace: "default".to_owned(),
        name: pod.to_owned(),
        addresses: vec!["10.64.0.5".parse().unwrap(), "fd00:64::5".parse().unwrap()],
        pools: vec!["default".to_owned(), "default".to_owned()],
    }
}

#[test]
#[ignore = "needs etcd and kube-apiserver"]
fn watches_sync_without_lists_and_writers_write() {
    let mut plane = ControlPlane::start();
    plane.enter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(scenario(&mut plane));
}

async fn scenario(plane: &mut ControlPlane) {
    let settings = plane.settings();
    let admin = weft_agent::api::client(&settings, Arc::default())
        .await
        .unwrap();
    create_definitions(&admin).await;
    let uid = create_node(&admin, NODE, "192.0.2.1").await;
    create_node(&admin, "node-b", "192.0.2.2").await;
    let networks: Api<NodeNetwork> = Api::all(admin.clone());
    let network = object(json!({"metadata": {"name": NODE}, "spec": {}}));
    networks
        .create(&PostParams::default(), &network)
        .await
        .unwrap();

    let agent = Agent::start(&settings).await;
    let input = agent.input("the first input", |_| true).await;
    assert_eq!(input.node_uid, uid);
    assert_eq!(
        input.internal_ips,
        ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(
        input.network.as_ref().map(|(_, generation)| *generation),
        Some(1)
    );
    assert_eq!(input.other_addresses.keys().collect::<Vec<_>>(), ["node-b"]);
    assert_eq!(agent.synced.borrow().missing(), [""; 0]);

    check_cluster_changes(&admin, &agent).await;
    check_services(&admin, &agent).await;
    check_policies(&admin, &agent).await;
    check_own_objects(&admin, &agent, &uid).await;
    check_pod_addresses(&admin, &agent).await;
    check_server_restart(plane, &admin, &agent).await;

    assert!(
        agent.metric("weft_agent_api_lists_total 0"),
        "{}",
        agent.metrics.render()
    );
    // The control: a list is counted.
    let counted = Arc::<Metrics>::default();
    let client = weft_agent::api::client(&settings, counted.clone())
        .await
        .unwrap();
    let nodes: Api<Node> = Api::all(client);
    until("a list", || async {
        nodes.list(&ListParams::default()).await.ok()
    })
    .await;
    assert!(counted.api_lists.get() >= 1);
}

async fn check_cluster_changes(admin: &Client, agent: &Agent) {
    let blocks: Api<IPBlock> = Api::all(admin.clone());
    let block = object(json!({
        "metadata": {"name": "v4-0a400000-26"},
        "spec": {"pool": "default", "cidr": "10.64.0.0/26", "node": NODE}
    }));
    blocks.create(&PostParams::default(), &block).await.unwrap();
    let input = agent
        .input("the block", |input| input.blocks.len() == 1)
        .await;
    assert!(input.blocks[0].created > 1_700_000_000 && !input.blocks[0].uid.is_empty());
    let networks: Api<NodeNetwork> = Api::all(admin.clone());
    let network = object(json!({"metadata": {"name": "node-b"}, "spec": {}}));
    networks
        .create(&PostParams::default(), &network)
        .await
        .unwrap();
    let status = json!({"status": {"addresses": ["192.0.2.2"]}});
    networks
        .patch_status("node-b", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let input = agent
        .input("the peer", |input| input.peers.contains_key("node-b"))
        .await;
    assert!(input.other_addresses.is_empty());
    blocks
        .delete("v4-0a400000-26", &DeleteParams::default())
        .await
        .unwrap();
    agent
        .input("the block's end", |input| input.blocks.is_empty())
        .await;
}

async fn check_services(admin: &Client, agent: &Agent) {
    let synced = agent
        .heard("all of Services", |input| {
            matches!(input, ServiceInput::Synced)
        })
        .await;
    let own = |input: &ServiceInput| matches!(input, ServiceInput::Service(Update::Reset(all)) if all.contains_key("default/kubernetes"));
    assert!(synced.iter().any(own), "{synced:?}");
    let ranges = |input: &ServiceInput| matches!(input, ServiceInput::Networks(ranges) if !ranges.is_empty());
    assert!(synced.iter().any(ranges), "{synced:?}");

    let services: Api<Service> = Api::namespaced(admin.clone(), "default");
    let service = object(json!({"metadata": {"name": "web"},
        "spec": {"ports": [{"name": "http", "port": 80}]}}));
    services
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    agent
        .heard("the Service", |input| {
            matches!(input, ServiceInput::Service(Update::Apply(key, Some(service)))
            if key == "default/web" && service.ports[0].port == 80)
        })
        .await;
    // Later than the start of the watch, whatever the clock's resolution.
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    let slices: Api<EndpointSlice> = Api::namespaced(admin.clone(), "default");
    let slice = object(json!({"metadata": {"name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": now.to_string()}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.64.0.9"]}],
        "ports": [{"name": "http", "port": 8080}]}));
    slices.create(&PostParams::default(), &slice).await.unwrap();
    let heard = agent
        .heard("the EndpointSlice", |input| {
            matches!(input, ServiceInput::Slice(Update::Apply(key, Some(slice)))
            if key == "default/web-1" && slice.endpoints.len() == 1)
        })
        .await;
    let before = heard.len().checked_sub(2).map(|at| &heard[at]);
    assert!(
        matches!(before, Some(ServiceInput::Triggered { .. })),
        "{heard:?}"
    );
    // Somebody else's from now on.
    let label =
        json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}});
    let patch = Patch::Merge(label);
    services
        .patch("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    agent
        .heard("the Service's end", |input| matches!(input, ServiceInput::Service(Update::Delete(key)) if key == "default/web"))
        .await;
    assert!(!agent.metric("kubeproxy_sync_proxy_rules_endpoint_changes_total 0"));
    // Nobody brings anything into a kernel here.
    assert!(agent.proxy.is_healthy(Instant::now()));
    assert!(
        !agent
            .proxy
            .is_healthy(Instant::now() + Duration::from_secs(60))
    );
}

async fn check_policies(admin: &Client, agent: &Agent) {
    let is_empty = |input: &PolicyInput| matches!(input, PolicyInput::ClusterNetworkPolicy(Update::Reset(all)) if all.is_empty());
    agent
        .policy("no definition, no ClusterNetworkPolicies", is_empty)
        .await;
    let policies: Api<NetworkPolicy> = Api::namespaced(admin.clone(), "default");
    let policy = json!({"metadata": {"name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let created = PostParams::default();
    policies.create(&created, &object(policy)).await.unwrap();
    agent
        .policy("a NetworkPolicy", |input| {
            matches!(input, PolicyInput::NetworkPolicy(Update::Apply(key, Some(policy)))
                if key == "default/deny" && policy.egress.is_none())
        })
        .await;
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let labelled = json!({"metadata": {"name": "labelled", "labels": {"team": "a"}}});
    namespaces
        .create(&created, &object(labelled))
        .await
        .unwrap();
    agent
        .policy("a Namespace", |input| {
            matches!(input, PolicyInput::Namespace(Update::Apply(name, labels))
                if name == "labelled" && labels.get("team") == Some("a"))
        })
        .await;
    agent.pods_needed.send(true).unwrap();
    agent
        .policy("pods of all nodes", |input| {
            matches!(input, PolicyInput::Pod(Update::Reset(_)))
        })
        .await;
    agent.pods_needed.send(false).unwrap();
    agent
        .policy("pods not watched any more", |input| {
            matches!(input, PolicyInput::PodsUnwatched)
        })
        .await;
    // The definition comes later.
    let yaml = include_str!("../../lab/files/clusternetworkpolicies.yaml");
    let definition: CustomResourceDefinition = serde_saphyr::from_str(yaml).unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    definitions.create(&created, &definition).await.unwrap();
    agent
        .policy("ClusterNetworkPolicies are watched", is_empty)
        .await;
    let kind = GroupVersionKind::gvk(
        "policy.networking.k8s.io",
        "v1alpha2",
        "ClusterNetworkPolicy",
    );
    let kind = ApiResource::from_gvk_with_plural(&kind, "clusternetworkpolicies");
    let cluster: Api<DynamicObject> = Api::all_with(admin.clone(), &kind);
    let policy = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy", "metadata": {"name": "deny"},
        "spec": {"tier": "Admin", "priority": 7, "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}});
    cluster.create(&created, &object(policy)).await.unwrap();
    agent
        .policy("a ClusterNetworkPolicy", |input| {
            matches!(input, PolicyInput::ClusterNetworkPolicy(Update::Apply(name, Some(policy)))
                if name == "deny" && policy.tier == Tier::Admin(7))
        })
        .await;
    let gone = DeleteParams::default();
    definitions
        .delete(&definition.metadata.name.unwrap(), &gone)
        .await
        .unwrap();
    agent
        .policy("none is in force without the definition", is_empty)
        .await;
}

async fn check_own_objects(admin: &Client, agent: &Agent, uid: &str) {
    let networks: Api<NodeNetwork> = Api::all(admin.clone());
    let wanted = NodeNetworkStatus {
        observed_generation: Some(1),
        ..NodeNetworkStatus::default()
    };
    agent.network.send_replace(Some(wanted.clone()));
    let is_written = || async {
        networks
            .get(NODE)
            .await
            .ok()?
            .status
            .filter(|status| *status == wanted)
    };
    until("the status", is_written).await;
    // An object of the same name that is another one gets the status too.
    networks
        .delete(NODE, &DeleteParams::default())
        .await
        .unwrap();
    let network = object(json!({"metadata": {"name": NODE}, "spec": {}}));
    networks
        .create(&PostParams::default(), &network)
        .await
        .unwrap();
    until("the status again", is_written).await;

    let reports: Api<NodeReport> = Api::all(admin.clone());
    let spec = NodeReportSpec {
        version: Some("0".to_owned()),
        ..NodeReportSpec::default()
    };
    agent
        .reports
        .send(Report {
            spec: Box::new(spec),
            urgent: true,
        })
        .unwrap();
    let report = until("the report", || async { reports.get(NODE).await.ok() }).await;
    assert!(report.spec.time.is_some());
    assert_eq!(report.metadata.owner_references.unwrap()[0].uid, uid);

    let events: Api<Event> = Api::namespaced(admin.clone(), "default");
    for _ in 0..2 {
        let notice = Notice {
            warning: true,
            reason: "Repaired",
            message: "route put back".to_owned(),
        };
        agent.notices.send(notice).unwrap();
    }
    until("one event, counted twice", || async {
        let all = events.list(&ListParams::default()).await.ok()?.items;
        let ours: Vec<_> = all
            .iter()
            .filter(|event| event.reason.as_deref() == Some("Repaired"))
            .collect();
        let [event] = ours[..] else { return None };
        assert_eq!(event.regarding.as_ref()?.uid.as_deref(), Some(uid));
        (event.series.as_ref()?.count == 2).then_some(())
    })
    .await;
}

async fn check_pod_addresses(admin: &Client, agent: &Agent) {
    let api: Api<PodAddress> = Api::namespaced(admin.clone(), "default");
    for (name, node) in [("stale", NODE), ("others", "node-b")] {
        let spec =
            json!({"node": node, "pod": "p", "addresses": ["10.64.0.9"], "pools": ["default"]});
        let address = object(json!({"metadata": {"name": name}, "spec": spec}));
        api.create(&PostParams::default(), &address).await.unwrap();
    }
    let uid = create_pod(admin, "web").await;
    agent
        .changes
        .send(Change::Attached(attached(&uid, "web")))
        .unwrap();
    let address = until("the PodAddress", || async { api.get(&uid).await.ok() }).await;
    assert_eq!(
        (address.spec.node.as_str(), address.spec.pod.as_str()),
        (NODE, "web")
    );
    assert_eq!(address.spec.addresses, ["10.64.0.5", "fd00:64::5"]);
    assert_eq!(address.spec.ports[0].name, "http");
    assert_eq!(
        address.metadata.owner_references.unwrap()[0].block_owner_deletion,
        None
    );
    assert!(
        api.get("stale").await.is_ok(),
        "nothing is deleted before the engine has told everything"
    );

    agent.changes.send(Change::Complete).unwrap();
    until("the stale one's end", || async {
        api.get_opt("stale").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(
        api.get("others").await.is_ok(),
        "those of other nodes are none of ours"
    );

    let pods: Api<Pod> = Api::namespaced(admin.clone(), "default");
    let labels = json!({"metadata": {"labels": {"app": "api", "old": null}}});
    pods.patch("web", &PatchParams::default(), &Patch::Merge(labels))
        .await
        .unwrap();
    until("the new labels", || async {
        let labels = api.get(&uid).await.ok()?.spec.labels;
        (labels == [("app".to_owned(), "api".to_owned())].into()).then_some(())
    })
    .await;

    api.delete(&uid, &DeleteParams::default()).await.unwrap();
    until("one that somebody deleted", || async {
        api.get(&uid).await.ok()
    })
    .await;
    agent
        .changes
        .send(Change::Released(attached(&uid, "web").key))
        .unwrap();
    until("its end", || async {
        api.get_opt(&uid).await.ok()?.is_none().then_some(())
    })
    .await;
}

async fn check_server_restart(plane: &mut ControlPlane, admin: &Client, agent: &Agent) {
    plane.stop_server();
    let uid = "of-a-pod-that-comes-later";
    agent
        .changes
        .send(Change::Attached(attached(uid, "late")))
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    plane.start_server();
    let real = create_pod(admin, "late").await;
    agent
        .changes
        .send(Change::Attached(attached(&real, "late")))
        .unwrap();
    let api: Api<PodAddress> = Api::namespaced(admin.clone(), "default");
    until("a PodAddress after the restart", || async {
        api.get(&real).await.ok()
    })
    .await;
    create_node(admin, "node-c", "192.0.2.3").await;
    agent
        .input("a node after the restart", |input| {
            input.other_addresses.contains_key("node-c")
        })
        .await;
    assert!(
        agent
            .metrics
            .render()
            .contains("weft_agent_watch_restarts_total{kind=\"Node\"}")
    );
}
