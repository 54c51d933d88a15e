//! A real etcd and kube-apiserver on loopback, for one test, with the project's definitions.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Config};
use kube::{Api, Client};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);
const TOKEN: &str = "weft-test-token";

/// Both processes; they end with this value.
pub struct ApiServer {
    etcd: Child,
    server: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl ApiServer {
    /// Starts both and waits until the definitions are served.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [client_port, peer_port, port] = free_ports();
        let path = |name: &str| folder.path().join(name);
        let log = |name: &str| {
            let file = std::fs::File::create(path(name)).expect("a log file");
            Stdio::from(file)
        };
        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let etcd = Command::new(program("etcd"))
            .args(["--unsafe-no-fsync", "--data-dir"])
            .arg(path("etcd"))
            .args([
                "--listen-client-urls",
                &etcd_url,
                "--advertise-client-urls",
                &etcd_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdout(Stdio::null())
            .stderr(log("etcd.log"))
            .spawn()
            .expect("etcd starts");
        let key = rcgen::KeyPair::generate().expect("a key");
        std::fs::write(path("key.pem"), key.serialize_pem()).expect("the key is written");
        std::fs::write(path("public.pem"), key.public_key_pem()).expect("the key is written");
        std::fs::write(
            path("tokens"),
            format!("{TOKEN},test,test,system:masters\n"),
        )
        .expect("tokens");
        let file = |name: &str| path(name).display().to_string();
        let server = Command::new(program("kube-apiserver"))
            .args(["--etcd-servers", &etcd_url])
            .args([
                "--bind-address",
                "127.0.0.1",
                "--advertise-address",
                "127.0.0.1",
            ])
            .args([
                "--secure-port",
                &port.to_string(),
                "--cert-dir",
                &file("certs"),
            ])
            .args([
                "--service-account-issuer",
                "https://test",
                "--service-cluster-ip-range",
                "10.96.0.0/16",
            ])
            .args(["--service-account-key-file", &file("public.pem")])
            .args(["--service-account-signing-key-file", &file("key.pem")])
            .args([
                "--token-auth-file",
                &file("tokens"),
                "--authorization-mode",
                "AlwaysAllow",
            ])
            .args([
                "--endpoint-reconciler-type",
                "none",
                "--disable-admission-plugins",
                "ServiceAccount",
            ])
            .stdout(Stdio::null())
            .stderr(log("kube-apiserver.log"))
            .spawn()
            .expect("kube-apiserver starts");
        let mut started = Self {
            etcd,
            server,
            port,
            folder,
        };
        started.wait().await;
        started
    }

    /// A client of its own, with its own connections.
    pub fn client(&self) -> Client {
        let mut config = Config::new(format!("https://127.0.0.1:{}", self.port).parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info = AuthInfo {
            token: Some(TOKEN.to_owned().into()),
            ..AuthInfo::default()
        };
        Client::try_from(config).expect("a client")
    }

    /// A kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.folder.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "insecure-skip-tls-verify": true}}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&path, text.to_string()).expect("the kubeconfig is written");
        path
    }

    /// The port of the API server.
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn wait(&mut self) {
        let client = self.client();
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        for (name, yaml) in weft_crds::definitions().expect("the definitions") {
            let definition: CustomResourceDefinition = serde_saphyr::from_str(&yaml).expect("YAML");
            eventually(&format!("definition {name} is taken"), async || {
                let ended = self.server.try_wait().expect("its state can be read");
                assert!(ended.is_none(), "kube-apiserver ended: {ended:?}");
                let created = api.create(&PostParams::default(), &definition).await;
                match created {
                    Ok(_) => true,
                    Err(kube::Error::Api(status)) if status.code == 409 => true,
                    Err(_) => false,
                }
            })
            .await;
        }
        eventually("the definitions are served", async || {
            let listed = [
                Api::<weft_crds::IPPool>::all(client.clone())
                    .list(&Default::default())
                    .await
                    .is_ok(),
                Api::<weft_crds::Overlay>::all(client.clone())
                    .list(&Default::default())
                    .await
                    .is_ok(),
                Api::<weft_crds::IPBlock>::all(client.clone())
                    .list(&Default::default())
                    .await
                    .is_ok(),
                Api::<weft_crds::NodeNetwork>::all(client.clone())
                    .list(&Default::default())
                    .await
                    .is_ok(),
                Api::<weft_crds::NodeReport>::all(client.clone())
                    .list(&Default::default())
                    .await
                    .is_ok(),
            ];
            let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
            listed.iter().all(|listed| *listed) && namespaces.get("default").await.is_ok()
        })
        .await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("kube-apiserver.log"));
            let tail: Vec<String> = log
                .unwrap_or_default()
                .lines()
                .rev()
                .take(15)
                .map(str::to_owned)
                .collect();
            for line in tail.into_iter().rev() {
                eprintln!("kube-apiserver: {line}");
            }
        }
    }
}

/// Waits for something to become true, and says what did not.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(
            began.elapsed() < LIMIT,
            "within {LIMIT:?} it did not happen that {what}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for an Event of this reason about an object.
pub async fn event(client: &Client, reason: &str, about: impl Fn(&ObjectReference) -> bool) {
    eventually("an Event tells of it", async || {
        let events = Api::<Event>::all(client.clone())
            .list(&Default::default())
            .await
            .unwrap();
        events.iter().any(|event| {
            event.reason.as_deref() == Some(reason) && event.regarding.as_ref().is_some_and(&about)
        })
    })
    .await;
}

/// Makes a Node with an InternalIP.
pub async fn create_node(client: &Client, name: &str, address: &str) {
    let api: Api<Node> = Api::all(client.clone());
    let node: Node = from(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
    }));
    api.create(&PostParams::default(), &node)
        .await
        .expect("the Node is taken");
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("the Node's status is taken");
}

/// An object from JSON.
pub fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

fn program(name: &str) -> PathBuf {
    let folders = std::env::var_os("WEFT_TEST_BIN")
        .into_iter()
        .chain(std::env::var_os("PATH"));
    for folders in folders {
        for folder in std::env::split_paths(&folders) {
            let path = folder.join(name);
            if path.is_file() {
                return path;
            }
        }
    }
    panic!(
        "{name} is neither in the folder WEFT_TEST_BIN nor in PATH: run `weft-lab assets` and set WEFT_TEST_BIN to what `weft-lab assets --print-dir` prints"
    );
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}
