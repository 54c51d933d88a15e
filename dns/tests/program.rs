//! The whole program against a real API server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::Message;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use weft_core::zones::name::Name;

use crate::api_server::{ApiServer, eventually, free_port, from};

/// The program, until it is dropped.
pub struct Program {
    process: Child,
    port: u16,
    health: u16,
}

impl Program {
    pub fn start(kubeconfig: &std::path::Path, state: &std::path::Path) -> Self {
        let (port, health) = (free_port(), free_port());
        let process = Command::new(env!("CARGO_BIN_EXE_weft-dns"))
            .args(["run", "--resolv-conf=", "--lame-duck=1"])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--health-port={health}"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--state-dir")
            .arg(state)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("weft-dns starts");
        Self {
            process,
            port,
            health,
        }
    }

    fn ask(&self, name: &str, kind: u16) -> Option<Message> {
        self.ask_from("127.0.0.1", name, kind)
    }

    /// Asks as another client.
    pub fn ask_from(&self, client: &str, name: &str, kind: u16) -> Option<Message> {
        let socket = UdpSocket::bind((client, 0)).ok()?;
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(Name::absolute(name).ok()?.wire());
        packet.extend_from_slice(&kind.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        socket
            .send_to(&packet, SocketAddr::from(([127, 0, 0, 1], self.port)))
            .ok()?;
        let mut answer = [0; 1500];
        let length = socket.recv(&mut answer).ok()?;
        Message::from_vec(&answer[..length]).ok()
    }

    /// The data of the answer, in order.
    pub fn answers(&self, name: &str, kind: u16) -> Option<Vec<String>> {
        self.answers_from("127.0.0.1", name, kind)
    }

    /// The same for another client.
    pub fn answers_from(&self, client: &str, name: &str, kind: u16) -> Option<Vec<String>> {
        let message = self.ask_from(client, name, kind)?;
        let mut texts: Vec<_> = message
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        texts.sort();
        Some(texts)
    }

    /// How a question for an address ends.
    pub fn code(&self, name: &str) -> Option<u16> {
        self.ask(name, 1)
            .map(|message| message.metadata.response_code.into())
    }

    /// A page of the health port.
    pub fn get(&self, path: &str) -> String {
        let mut text = String::new();
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.health)) else {
            return text;
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_string(&mut text);
        text
    }

    /// Tells it to end, and waits until it has.
    pub async fn end(mut self) {
        self.signal();
        eventually("it ends", async || {
            self.process.try_wait().expect("its state").is_some()
        })
        .await;
    }

    fn signal(&self) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").arg(pid).status().expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const NAME: &str = "web.default.svc.cluster.local.";
const HEADLESS: &str = "pets.default.svc.cluster.local.";

async fn create(server: &ApiServer) {
    let services: Api<Service> = Api::namespaced(server.client(), "default");
    for (name, ip) in [("web", "10.96.0.20"), ("pets", "None")] {
        let service = from(json!({
            "metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}]},
        }));
        services
            .create(&PostParams::default(), &service)
            .await
            .expect("the Service is taken");
    }
    let slices: Api<EndpointSlice> = Api::namespaced(server.client(), "default");
    let slice = from(json!({
        "metadata": {"name": "pets-1", "labels": {"kubernetes.io/service-name": "pets"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["192.0.2.1"], "hostname": "rex"}, {"addresses": ["192.0.2.2"]}],
    }));
    slices
        .create(&PostParams::default(), &slice)
        .await
        .expect("the slice is taken");
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn names_come_and_go_with_objects_and_outlive_the_api_server() {
    let server = ApiServer::start().await;
    let state = tempfile::tempdir().expect("a folder");
    let program = Program::start(&server.kubeconfig(), state.path());
    eventually("it is ready", async || {
        program.get("/readyz").contains("200 OK")
    })
    .await;
    assert_eq!(program.code(NAME), Some(3));
    create(&server).await;
    eventually("the service has its name", async || {
        program.answers(NAME, 1) == Some(vec!["10.96.0.20".into()])
    })
    .await;
    let both = Some(vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()]);
    eventually("the headless service has its names", async || {
        program.answers(HEADLESS, 1) == both
    })
    .await;
    let pointer = program.answers("1.2.0.192.in-addr.arpa.", 12);
    assert_eq!(
        pointer,
        Some(vec!["rex.pets.default.svc.cluster.local.".to_owned()])
    );
    let services: Api<Service> = Api::namespaced(server.client(), "default");
    services
        .delete("web", &DeleteParams::default())
        .await
        .expect("it is deleted");
    eventually("the name is gone", async || program.code(NAME) == Some(3)).await;
    assert!(program.get("/metrics").contains(
        "weft_dns_answers_total{path=\"fast\",transport=\"udp\",type=\"A\",code=\"NOERROR\"}"
    ));
    stops_slowly(program).await;
    let kubeconfig = server.kubeconfig();
    let copy = state.path().join("kubeconfig");
    std::fs::copy(kubeconfig, &copy).expect("copied");
    drop(server);
    let program = Program::start(&copy, state.path());
    eventually("it answers without the API server", async || {
        program.answers(HEADLESS, 1) == both
    })
    .await;
    assert!(program.get("/readyz").contains("from the snapshot on disk"));
    assert_eq!(program.code(NAME), Some(3), "what was gone stays gone");
}

/// It serves on for its time after SIGTERM, is not ready at once, and ends by itself.
async fn stops_slowly(mut program: Program) {
    program.signal();
    eventually("it is not ready", async || {
        program.get("/readyz").contains("503")
    })
    .await;
    assert_eq!(program.code(NAME), Some(3), "it serves on");
    eventually("it ends", async || {
        program.process.try_wait().expect("its state").is_some()
    })
    .await;
}
