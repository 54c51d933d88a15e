//! Names outside: asked of servers on loopback that answer, are silent, lie, or ask us.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use weft_core::zones::Zones;
use weft_core::zones::config::{Config, ConfigSpec};
use weft_core::zones::directory::ZoneInput;
use weft_core::zones::record::RecordType;
use weft_dns::forward::{Forwarder, Policy, plain};
use weft_dns::forwards::Forwards;
use weft_dns::message::Transport;
use weft_dns::metrics::Metrics;
use weft_dns::server::Served;
use weft_dns::upstream::{Reply, Upstream};

const NAME: &[u8] = b"\x03www\x07example\0";

/// What a server does with a question.
#[derive(Clone, Copy)]
enum Manner {
    Answer(u8, u32),
    /// Answers the first time and is silent from then on.
    Once(u8, u32),
    Silent,
    /// Answers with another id, then with another question, then rightly.
    Lie(u8),
    /// Lies in an answer that fits the question.
    Fitting,
    Garbage,
}

/// A server that counts what it is asked.
struct Other {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
    /// What it was asked last.
    last: Arc<Mutex<Vec<u8>>>,
}

fn other(manner: Manner) -> Other {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("its address");
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let last = Arc::<Mutex<Vec<u8>>>::default();
    let keep = Arc::clone(&last);
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            let before = count.fetch_add(1, Ordering::Relaxed);
            *keep.lock().expect("the question") = packet[..length].to_vec();
            let send = |bytes: &[u8]| {
                let _ = socket.send_to(bytes, client);
            };
            match manner {
                Manner::Once(last, ttl) if before == 0 => {
                    send(&answer(&packet[..length], last, ttl))
                }
                Manner::Silent | Manner::Once(..) => {}
                Manner::Garbage => send(&[0xff; 40]),
                Manner::Answer(last, ttl) => send(&answer(&packet[..length], last, ttl)),
                Manner::Fitting => send(&answer(&packet[..length], 66, 60)),
                Manner::Lie(last) => {
                    let mut wrong = answer(&packet[..length], 66, 60);
                    wrong[0] ^= 0xff;
                    send(&wrong);
                    let mut wrong = answer(&packet[..length], 66, 60);
                    wrong[13] ^= 1;
                    send(&wrong);
                    send(&answer(&packet[..length], last, 60));
                }
            }
        }
    });
    Other {
        address,
        asked,
        last,
    }
}

fn answer(packet: &[u8], last: u8, ttl: u32) -> Vec<u8> {
    let mut message = Message::from_vec(packet)
        .expect("a question")
        .into_response();
    let name = message.queries[0].name().clone();
    let address = RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
    message.add_answer(Record::from_rdata(name, ttl, address));
    message.to_vec().expect("an answer")
}

fn forwarder(others: &[&Other], policy: Policy) -> (Arc<Forwarder>, Arc<Metrics>) {
    let metrics = Arc::<Metrics>::default();
    let servers = others.iter().map(|other| plain(other.address)).collect();
    let forwarder = Forwarder::new(servers, policy, Arc::clone(&metrics)).expect("a forwarder");
    (Arc::new(forwarder), metrics)
}

fn last(reply: &Reply) -> Option<u8> {
    reply.answers.iter().find_map(|record| match record.data {
        RData::A(A(address)) => Some(address.octets()[3]),
        _ => None,
    })
}

#[tokio::test]
async fn an_answer_is_asked_for_once_and_then_known() {
    let server = other(Manner::Answer(1, 60));
    let (forwarder, metrics) = forwarder(&[&server], Policy::Sequential);
    for _ in 0..5 {
        assert_eq!(last(&forwarder.ask(NAME, RecordType::A).await), Some(1));
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 1);
    assert_eq!(metrics.cache_hits.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn the_next_is_asked_where_one_is_silent_or_makes_no_sense() {
    for bad in [Manner::Silent, Manner::Garbage] {
        let (first, second) = (other(bad), other(Manner::Answer(2, 60)));
        let (forwarder, _) = forwarder(&[&first, &second], Policy::Sequential);
        assert_eq!(last(&forwarder.ask(NAME, RecordType::A).await), Some(2));
        assert!(first.asked.load(Ordering::Relaxed) > 0);
    }
}

#[tokio::test]
async fn answers_to_what_was_not_asked_are_not_believed() {
    let server = other(Manner::Lie(3));
    let (forwarder, _) = forwarder(&[&server], Policy::Sequential);
    for _ in 0..2 {
        let reply = forwarder.ask(NAME, RecordType::A).await;
        assert_ne!(last(&reply), Some(66), "a lie is not passed on");
        assert!(
            reply
                .answers
                .iter()
                .all(|record| record.name.to_string() == "www.example.")
        );
    }
}

#[tokio::test]
async fn lies_are_not_remembered_and_one_that_fits_would_be() {
    for (manner, lies) in [(Manner::Lie(3), false), (Manner::Fitting, true)] {
        let server = other(manner);
        let (forwarder, metrics) = forwarder(&[&server], Policy::Sequential);
        for _ in 0..3 {
            let reply = forwarder.ask(NAME, RecordType::A).await;
            assert_eq!(last(&reply) == Some(66), lies, "the lie has to fit");
        }
        let known = metrics.cache_hits.load(Ordering::Relaxed) > 0;
        assert!(known || !lies, "what fits is remembered");
    }
}

/// A zone that forwards, and a client whose view of it is another: the ring is found whoever the question comes back by.
#[tokio::test]
async fn a_ring_is_found_whichever_view_the_question_comes_back_by() {
    let silent = other(Manner::Silent);
    let ourselves = other(Manner::Silent);
    let body = |port: u16| format!("{{upstreams: [{{address: 127.0.0.1, port: {port}}}]}}");
    let spec = format!(
        "{{zone: corp.example, type: Forward, forward: {}, views: [{{name: back, match: {{cidrs: [127.0.0.9/32]}}, forward: {}}}]}}",
        body(ourselves.address.port()),
        body(silent.address.port()),
    );
    let config = Config::parse(&ConfigSpec::default()).expect("defaults");
    let zones = Zones::new(config).expect("zones");
    let mut objects = zones.objects([]);
    let input = ZoneInput {
        spec: serde_saphyr::from_str(&spec).expect("a zone"),
        serial: None,
    };
    objects.set_zone("corp", Some(input));
    let metrics = Arc::<Metrics>::default();
    let forwards = Forwards::new(Arc::clone(&metrics));
    forwards.set(objects.forwards());
    let began = std::time::Instant::now();
    while ourselves.last.lock().expect("the question").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "no probe came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let probe = ourselves.last.lock().expect("the question").clone();
    assert!(forwards.caught(NAME).is_none(), "an ordinary name is none");
    let caught = forwards.caught(&probe[12..probe.len()]);
    assert_eq!(caught.map(|reply| reply.code), Some(2));
    assert_eq!(metrics.upstream_loops.load(Ordering::Relaxed), 1);
}

/// Answers one question on each stream, and closes it.
fn closing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut length = [0; 2];
            let mut packet = vec![0; 1500];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            packet.truncate(usize::from(u16::from_be_bytes(length)));
            if stream.read_exact(&mut packet).is_err() {
                continue;
            }
            let bytes = answer(&packet, 8, 60);
            let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
            let _ = stream.write_all(&[&length[..], &bytes].concat());
        }
    });
    address
}

#[tokio::test]
async fn a_stream_that_the_server_closes_after_each_answer_costs_no_answer() {
    let address = closing();
    let spec = format!(
        "{{zone: corp.example, type: Forward, forward: {{upstreams: [{{address: 127.0.0.1, port: {}, protocol: TCP}}]}}}}",
        address.port()
    );
    let zones = Zones::new(Config::parse(&ConfigSpec::default()).expect("defaults"));
    let mut objects = zones.expect("zones").objects([]);
    let input = ZoneInput {
        spec: serde_saphyr::from_str(&spec).expect("a zone"),
        serial: None,
    };
    objects.set_zone("corp", Some(input));
    let forwards = Forwards::new(Arc::<Metrics>::default());
    forwards.set(objects.forwards());
    let via = objects.forwards().next().expect("a forward").clone();
    for number in 0..5_u8 {
        let name = [&[1, b'a' + number], &b"\x04corp\x07example\0"[..]].concat();
        let reply = forwards.ask(&via, &name, RecordType::A).await;
        assert_eq!(last(&reply.expect("asked")), Some(8), "question {number}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_was_once_true_stands_in_where_nobody_answers() {
    let server = other(Manner::Once(4, 1));
    let (forwarder, metrics) = forwarder(&[&server], Policy::Sequential);
    assert_eq!(last(&forwarder.ask(NAME, RecordType::A).await), Some(4));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(last(&forwarder.ask(NAME, RecordType::A).await), Some(4));
    assert_eq!(metrics.cache_stale.load(Ordering::Relaxed), 1);
    assert!(
        server.asked.load(Ordering::Relaxed) > 1,
        "it was asked anew"
    );
}

#[tokio::test]
async fn nobody_who_answers_is_a_failure_and_no_crash() {
    let server = other(Manner::Silent);
    let (forwarder, metrics) = forwarder(&[&server], Policy::Fastest);
    assert_eq!(forwarder.ask(NAME, RecordType::A).await.code, 2);
    assert_eq!(metrics.upstream_failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_ring_takes_the_upstream_out_of_service_and_nothing_else() {
    let ourselves = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = ourselves.local_addr().expect("its address");
    let metrics = Arc::<Metrics>::default();
    let forwarder = Forwarder::new(
        vec![plain(address)],
        Policy::Sequential,
        Arc::clone(&metrics),
    )
    .expect("a forwarder");
    let forwarder = Arc::new(forwarder);
    let config = Config::parse(&ConfigSpec::default()).expect("defaults");
    let zones = Zones::new(config).expect("zones");
    let served = Arc::new(Served::new(
        zones,
        Upstream::Forward(Arc::clone(&forwarder)),
        Arc::clone(&metrics),
    ));
    ourselves.set_nonblocking(true).expect("set");
    let socket = Arc::new(tokio::net::UdpSocket::from_std(ourselves).expect("a socket"));
    let serving = Arc::clone(&served);
    tokio::spawn(async move {
        let counters = serving.metrics.counters();
        let mut packet = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut packet).await {
            let (serving, counters, socket, packet) = (
                Arc::clone(&serving),
                Arc::clone(&counters),
                Arc::clone(&socket),
                packet[..length].to_vec(),
            );
            tokio::spawn(async move {
                if let Some(answer) = serving
                    .answer(&counters, &packet, client.ip(), Transport::Udp)
                    .await
                {
                    let _ = socket.send_to(&answer, client).await;
                }
            });
        }
    });
    tokio::spawn(Arc::clone(&forwarder).watch_for_rings());
    let began = std::time::Instant::now();
    while metrics.upstream_loops.load(Ordering::Relaxed) == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the ring was not found"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reply = forwarder.ask(NAME, RecordType::A).await;
    assert_eq!(
        (reply.code, metrics.upstream_asked.load(Ordering::Relaxed)),
        (2, 0),
        "it is not asked"
    );
}
