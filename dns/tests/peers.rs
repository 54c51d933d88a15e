//! Others' programs: dnsmasq is asked by zones that forward, kdig asks over every transport.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_core::zones::Zones;
use weft_core::zones::config::{Config, ConfigSpec};
use weft_core::zones::directory::{Objects, ZoneInput};
use weft_core::zones::record::RecordType;
use weft_dns::forwards::Forwards;
use weft_dns::metrics::Metrics;
use weft_dns::server::queue::Queue;
use weft_dns::server::tls::{self, Speech};
use weft_dns::server::{Served, stream, udp};
use weft_dns::upstream::{Reply, Upstream};

use crate::api_server::free_port;
use crate::sockets::port;

const NAME: &[u8] = b"\x03www\x04corp\x07example\0";

/// A program that ends with this value.
struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    /// A server that knows one name, and says that nothing else is there.
    fn dnsmasq(last: u8) -> Self {
        let port = free_port();
        let child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
            ])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--user=root",
                "--pid-file=",
            ])
            .args(["--local=/corp.example/", "--local-ttl=60"])
            .arg(format!("--port={port}"))
            .arg(format!("--host-record=www.corp.example,192.0.2.{last}"))
            .arg(format!(
                "--txt-record=long.corp.example,{}",
                "x".repeat(200)
            ))
            .args((0..20).map(|number| {
                format!("--txt-record=many.corp.example,{number}{}", "y".repeat(100))
            }))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq starts: scripts/prerequisites installs it");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "dnsmasq does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn objects(upstreams: &serde_json::Value, more: &serde_json::Value) -> (Zones, Objects) {
    let mut zones =
        Zones::new(Config::parse(&ConfigSpec::default()).expect("defaults")).expect("zones");
    zones.synced = true;
    let mut objects = zones.objects([]);
    let mut spec = serde_json::json!({
        "zone": "corp.example", "type": "Forward", "forward": {"upstreams": upstreams, "timeout": "1s"},
    });
    for (key, value) in more.as_object().expect("fields") {
        spec["forward"][key] = value.clone();
    }
    let input = ZoneInput {
        spec: serde_json::from_value(spec).expect("a zone"),
        serial: None,
    };
    objects.set_zone("corp", Some(input));
    assert_eq!(objects.refused().count(), 0);
    zones.set_directory(objects.compile());
    (zones, objects)
}

fn last(reply: &Reply) -> Option<u8> {
    let text = reply.answers.first()?.data.to_string();
    text.rsplit('.').next()?.parse().ok()
}

#[tokio::test]
async fn zones_ask_a_real_server_over_udp_and_tcp_and_go_round_one_that_is_gone() {
    let (first, second) = (Peer::dnsmasq(1), Peer::dnsmasq(2));
    for protocol in ["UDP", "TCP"] {
        let upstream = |peer: &Peer| serde_json::json!({"address": "127.0.0.1", "port": peer.port, "protocol": protocol});
        let upstreams = serde_json::json!([upstream(&first), upstream(&second)]);
        let uncached = serde_json::json!({"cache": {"size": 0}, "policy": "RoundRobin"});
        let (_, objects) = objects(&upstreams, &uncached);
        let forwards = Forwards::new(Arc::<Metrics>::default());
        forwards.set(objects.forwards());
        let via = objects.forwards().next().expect("a forward").clone();
        let ask = async |name: &[u8], kind| forwards.ask(&via, name, kind).await.expect("asked");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..4 {
            seen.extend(last(&ask(NAME, RecordType::A).await));
        }
        assert_eq!(seen, [1, 2].into(), "each in its turn, over {protocol}");
        let missing = ask(b"\x02no\x04corp\x07example\0", RecordType::A).await;
        assert_eq!(missing.code, 3, "over {protocol}");
        let many = ask(b"\x04many\x04corp\x07example\0", RecordType::TXT).await;
        assert_eq!(many.answers.len(), 20, "over {protocol}");
    }
    let port = first.port;
    drop(first);
    let upstreams = serde_json::json!([
        {"address": "127.0.0.1", "port": port}, {"address": "127.0.0.1", "port": second.port},
    ]);
    let (_, objects) = objects(&upstreams, &serde_json::json!({}));
    let metrics = Arc::<Metrics>::default();
    let forwards = Forwards::new(Arc::clone(&metrics));
    forwards.set(objects.forwards());
    let via = objects.forwards().next().expect("a forward").clone();
    let reply = forwards
        .ask(&via, NAME, RecordType::A)
        .await
        .expect("asked");
    assert_eq!(last(&reply), Some(2));
    drop(second);
    let reply = forwards
        .ask(&via, NAME, RecordType::A)
        .await
        .expect("asked");
    assert_eq!(last(&reply), Some(2), "what is known is known without them");
    let other = b"\x05other\x04corp\x07example\0";
    let reply = forwards
        .ask(&via, other, RecordType::A)
        .await
        .expect("asked");
    assert_eq!(reply.code, 2, "nobody is left to ask");
}

/// All that kdig says of a question.
fn kdig(address: SocketAddr, options: &[&str]) -> String {
    let output = Command::new("kdig")
        .arg("@127.0.0.1")
        .args(["-p", &address.port().to_string()])
        .args(["+timeout=10", "+retry=0", "+noall", "+answer", "+header"])
        .args(options)
        .output()
        .expect("kdig runs: scripts/prerequisites installs it");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_client_is_answered_over_every_transport() {
    let peer = Peer::dnsmasq(7);
    let upstreams = serde_json::json!([{"address": "127.0.0.1", "port": peer.port}]);
    let (zones, objects) = objects(&upstreams, &serde_json::json!({}));
    let metrics = Arc::<Metrics>::default();
    let forwards = Arc::new(Forwards::new(Arc::clone(&metrics)));
    forwards.set(objects.forwards());
    let upstream = Upstream::Zones(forwards, Box::new(Upstream::None));
    let served = Arc::new(Served::new(zones, upstream, Arc::clone(&metrics)));
    let (socket, listener): (UdpSocket, _) = port();
    let plain = socket.local_addr().expect("its address");
    let queue = Arc::new(Queue::new(metrics));
    let server = udp::Server::new(Arc::clone(&served), Arc::clone(&queue), socket);
    let server = server.expect("a server");
    let thread = std::thread::spawn(move || server.run());
    tokio::spawn(queue.run(Arc::clone(&served)));
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    tokio::spawn(stream::serve(Arc::clone(&served), listener));

    let folder = tempfile::tempdir().expect("a folder");
    let certified =
        rcgen::generate_simple_self_signed(vec!["dns.example".to_owned()]).expect("a certificate");
    let files = tls::Files {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    };
    std::fs::write(&files.certificate, certified.cert.pem()).expect("written");
    std::fs::write(&files.key, certified.signing_key.serialize_pem()).expect("written");
    let mut encrypted = Vec::new();
    for speech in [Speech::Dot, Speech::Doh] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        listener.set_nonblocking(true).expect("set");
        encrypted.push(listener.local_addr().expect("its address"));
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let config = files.read(speech).expect("the certificate is read");
        let serve = tls::serve(Arc::clone(&served), listener, files.clone(), speech, config);
        tokio::spawn(serve);
    }
    let authority = format!("+tls-ca={}", files.certificate.display());
    let host = "+tls-hostname=dns.example";
    let ways: [(SocketAddr, Vec<&str>); 5] = [
        (plain, vec![]),
        (plain, vec!["+tcp"]),
        (encrypted[0], vec!["+tls", &authority, host]),
        (encrypted[1], vec!["+https", &authority, host]),
        (encrypted[1], vec!["+https", "+https-get", &authority, host]),
    ];
    for (address, way) in ways {
        let ask = |name: &str, kind: &str| kdig(address, &[&way[..], &[name, kind]].concat());
        let answer = ask("www.corp.example", "A");
        assert!(answer.contains("192.0.2.7"), "{way:?}: {answer}");
        let answer = ask("nothing.corp.example", "A");
        assert!(answer.contains("NXDOMAIN"), "{way:?}: {answer}");
        let answer = ask("many.corp.example", "TXT");
        assert_eq!(answer.matches("yyyy\"").count(), 20, "{way:?}: {answer}");
    }
    let stranger = [
        "+tls",
        &authority,
        "+tls-hostname=other.example",
        "www.corp.example",
        "A",
    ];
    let answer = kdig(encrypted[0], &stranger);
    assert!(!answer.contains("192.0.2.7"), "kdig looks: {answer}");
    served
        .stopped
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let _ = thread.join();
}
