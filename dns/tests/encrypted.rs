//! DNS over TLS and over HTTPS, as a server and as a client: one asks the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::RootCertStore;
use weft_core::zones::Zones;
use weft_core::zones::config::{Config, ConfigSpec};
use weft_core::zones::directory::ZoneInput;
use weft_core::zones::record::RecordType;
use weft_dns::forwards::Forwards;
use weft_dns::metrics::Metrics;
use weft_dns::server::Served;
use weft_dns::server::tls::{Files, Speech, serve};
use weft_dns::upstream::Upstream;

const NAME: &[u8] = b"\x03www\x04corp\x07example\0";

/// A server for names in `corp.example`, its certificate, and where it keeps that.
struct Server {
    address: SocketAddr,
    pem: String,
    _folder: tempfile::TempDir,
}

fn start(speech: Speech) -> Server {
    let certified =
        rcgen::generate_simple_self_signed(vec!["dns.example".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let files = Files {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    };
    let pem = certified.cert.pem();
    std::fs::write(&files.certificate, &pem).expect("written");
    std::fs::write(&files.key, certified.signing_key.serialize_pem()).expect("written");
    let mut zones =
        Zones::new(Config::parse(&ConfigSpec::default()).expect("defaults")).expect("zones");
    let mut objects = zones.objects([]);
    let zone = "{zone: corp.example, type: Authoritative, authoritative: {records: [{name: www, type: A, ttl: 77, values: [192.0.2.1]}]}}";
    let input = ZoneInput {
        spec: serde_saphyr::from_str(zone).expect("a zone"),
        serial: None,
    };
    objects.set_zone("corp", Some(input));
    zones.set_directory(objects.compile());
    let served = Served::new(zones, Upstream::None, Arc::<Metrics>::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("its address");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let config = files.read(speech).expect("the certificate is read");
    tokio::spawn(serve(Arc::new(served), listener, files, speech, config));
    Server {
        address,
        pem,
        _folder: folder,
    }
}

/// Whom a zone asks that names this server so.
async fn ask(server: &Server, protocol: &str, name: &str, bundle: Option<&str>) -> Option<u16> {
    let zones =
        Zones::new(Config::parse(&ConfigSpec::default()).expect("defaults")).expect("zones");
    let mut objects = zones.objects([]);
    let mut upstream = serde_json::json!({
        "address": "127.0.0.1", "port": server.address.port(), "protocol": protocol, "serverName": name,
    });
    if let Some(bundle) = bundle {
        upstream["caBundle"] = bundle.into();
    }
    let spec = serde_json::json!({
        "zone": "corp.example", "type": "Forward", "forward": {"upstreams": [upstream], "timeout": "5s"},
    });
    let input = ZoneInput {
        spec: serde_json::from_value(spec).expect("a zone"),
        serial: None,
    };
    objects.set_zone("corp", Some(input));
    assert_eq!(objects.refused().count(), 0);
    let forwards = Forwards::new(Arc::<Metrics>::default());
    forwards.set(objects.forwards());
    let via = objects.forwards().next().expect("a forward");
    let reply = forwards.ask(via, NAME, RecordType::A).await?;
    (!reply.answers.is_empty()).then_some(reply.code)
}

#[tokio::test]
async fn one_server_asks_another_over_tls_and_over_https() {
    for (speech, protocol) in [(Speech::Dot, "TLS"), (Speech::Doh, "HTTPS")] {
        let server = start(speech);
        let bundle = Some(server.pem.as_str());
        let answer = ask(&server, protocol, "dns.example", bundle).await;
        assert_eq!(answer, Some(0), "over {protocol}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_not_believed() {
    for (speech, protocol) in [(Speech::Dot, "TLS"), (Speech::Doh, "HTTPS")] {
        let server = start(speech);
        let bundle = Some(server.pem.as_str());
        assert_eq!(ask(&server, protocol, "other.example", bundle).await, None);
        assert_eq!(ask(&server, protocol, "dns.example", None).await, None);
    }
}

/// What a server says to a request of HTTP/1.1.
fn request(server: &Server, text: &str) -> String {
    let mut roots = RootCertStore::empty();
    let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(server.pem.as_bytes());
    roots
        .add(certificate.expect("a certificate"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "dns.example".try_into().expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let socket = std::net::TcpStream::connect(server.address).expect("a connection");
    let mut stream = rustls::StreamOwned::new(connection, socket);
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    // The end without a farewell of TLS is an end too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_browser_are_answered_and_others_refused() {
    let server = start(Speech::Doh);
    // id 0, RD, www.corp.example A.
    let question = "AAABAAABAAAAAAAAA3d3dwRjb3JwB2V4YW1wbGUAAAEAAQ";
    let get = |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: dns.example\r\nConnection: close\r\n\r\n");
        request(&server, &text).to_ascii_lowercase()
    };
    let answer = get(&format!("/dns-query?dns={question}"));
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: application/dns-message"));
    assert!(answer.contains("cache-control: max-age=77"), "{answer}");
    assert!(get("/").starts_with("http/1.1 404"));
    assert!(get("/dns-query").starts_with("http/1.1 400"));
    assert!(get("/dns-query?dns=!!").starts_with("http/1.1 400"));
    let head = "PUT /dns-query HTTP/1.1\r\nHost: dns.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(request(&server, head).starts_with("HTTP/1.1 405"));
    let head = "POST /dns-query HTTP/1.1\r\nHost: dns.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(request(&server, head).starts_with("HTTP/1.1 415"));
}
