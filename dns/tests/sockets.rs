//! Real sockets on loopback: every conformance file agrees over UDP and TCP, many clients at once get their own answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weft_dns::conformance::{Path, Reply, Served as Given, judge};
use weft_dns::message::Transport;
use weft_dns::metrics::Metrics;
use weft_dns::server::queue::Queue;
use weft_dns::server::{Served, socket, stream, udp};
use weft_dns::upstream::Upstream;

use crate::conformance::{count, suites};

/// A server at a port of its own, until it is dropped.
struct Server {
    served: Arc<Served>,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(case: &Given, threads: usize) -> Self {
        let upstream = match &*case.upstream {
            Upstream::None => Upstream::None,
            _ => Upstream::Shared(Arc::clone(&case.upstream)),
        };
        let served = Arc::new(Served::new(
            (*case.zones).clone(),
            upstream,
            Arc::<Metrics>::default(),
        ));
        let queue = Arc::new(Queue::new(Arc::clone(&served.metrics)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (first, listener) = port();
        let address = first.local_addr().expect("its address");
        let mut sockets = vec![first];
        for _ in 1..threads {
            sockets.push(socket::udp(address).expect("another socket at the same port"));
        }
        let server = |socket| {
            udp::Server::new(Arc::clone(&served), Arc::clone(&queue), socket).expect("a server")
        };
        let servers: Vec<_> = sockets.into_iter().map(server).collect();
        let threads = servers
            .into_iter()
            .map(|server| std::thread::spawn(move || server.run()))
            .collect();
        let guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        drop(guard);
        runtime.spawn(stream::serve(Arc::clone(&served), listener));
        runtime.spawn(Arc::clone(&queue).run(Arc::clone(&served)));
        Self {
            served,
            address,
            runtime,
            threads,
        }
    }

    fn ask(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match transport {
            Transport::Udp => ask_udp(self.address, packet),
            Transport::Stream => ask_tcp(&mut TcpStream::connect(self.address).ok()?, packet),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.served.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = &self.runtime;
    }
}

/// A port that is free for datagrams and streams.
pub fn port() -> (UdpSocket, std::net::TcpListener) {
    let free = || {
        let socket = socket::udp(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
        let listener = socket::tcp(socket.local_addr().expect("its address"));
        Some((socket, listener.ok()?))
    };
    std::iter::from_fn(|| Some(free()))
        .flatten()
        .next()
        .expect("a free port")
}

fn ask_udp(address: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    socket.send_to(packet, address).ok()?;
    let mut answer = vec![0; 65_535];
    let (length, from) = socket.recv_from(&mut answer).ok()?;
    assert_eq!(from, address);
    answer.truncate(length);
    Some(answer)
}

fn ask_tcp(stream: &mut TcpStream, packet: &[u8]) -> Option<Vec<u8>> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let length = u16::try_from(packet.len()).ok()?;
    stream
        .write_all(&[&length.to_be_bytes(), packet].concat())
        .ok()?;
    receive(stream)
}

fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

fn ask_all(server: &Server, case: &weft_dns::conformance::Case) -> Vec<(Path, Option<Reply>)> {
    let query = &case.query;
    let packet = query.packet().expect("a message");
    let ask = |transport: Transport| {
        let path = Path::Socket(transport);
        (
            path,
            query.full(transport, |transport| server.ask(&packet, transport)),
        )
    };
    case.transports().into_iter().map(ask).collect()
}

#[test]
fn every_case_agrees_over_udp_and_tcp() {
    let judge = |suite: weft_dns::conformance::Suite| {
        // The zones are kept, so that others do not come to be at their place in memory.
        let mut server: Option<(Arc<_>, Server)> = None;
        let judged = judge(&suite, |served, case| {
            let zones = &served.zones;
            if server
                .as_ref()
                .is_none_or(|(known, _)| !Arc::ptr_eq(known, zones))
            {
                server = Some((Arc::clone(zones), Server::start(served, 1)));
            }
            server
                .as_ref()
                .map(|(_, server)| ask_all(server, case))
                .unwrap_or_default()
        });
        (suite.name, judged)
    };
    let (passed, faults) = count(suites().into_iter().map(judge).collect());
    assert!(
        faults.is_empty(),
        "{} failed:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(passed > 150, "only {passed} cases were found");
}

/// What one of the files serves.
fn served(name: &str) -> Given {
    let suite = suites()
        .into_iter()
        .find(|suite| suite.name == name)
        .expect("the file");
    let mut found = None;
    judge(&suite, |given, _| {
        found = Some(given.clone());
        Vec::new()
    })
    .expect("a report");
    found.expect("a case")
}

fn packet(id: u16, name: &[u8], kind: u16) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(name);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

const SERVICE: &[u8] = b"\x04svc1\x06testns\x03svc\x07cluster\x05local\0";
const OUTSIDE: &[u8] = b"\x03ext\x09interwebs\x04test\0";

#[test]
fn many_questions_at_once_each_get_their_own_answer() {
    let server = Server::start(&served("services"), 2);
    let ask = |thread: u16| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        for round in 0..50_u16 {
            // Two that the fast path answers, and one that waits for the slow path.
            let names = [(SERVICE, 1_u16), (SERVICE, 28), (OUTSIDE, 1)];
            for (index, (name, kind)) in (0_u16..).zip(names) {
                let packet = packet(thread << 12 | round << 2 | index, name, kind);
                socket.send_to(&packet, server.address).expect("sent");
            }
            let mut counts = [0; 3];
            for _ in 0..3 {
                let mut answer = [0; 512];
                socket.recv(&mut answer).expect("an answer");
                assert_eq!(
                    answer[0] >> 4,
                    u8::try_from(thread).expect("a small number")
                );
                let index = usize::from(answer[1] & 3);
                counts[index] = u16::from_be_bytes([answer[6], answer[7]]);
            }
            assert_eq!(counts, [1, 0, 1]);
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || ask(thread));
        }
    });
}

#[test]
fn a_stream_carries_many_questions_and_ends_on_what_is_none() {
    let server = Server::start(&served("services"), 1);
    let mut stream = TcpStream::connect(server.address).expect("a stream");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set");
    let mut all = Vec::new();
    for id in 0..20 {
        let packet = packet(id, if id % 2 == 0 { SERVICE } else { OUTSIDE }, 1);
        all.extend_from_slice(&u16::try_from(packet.len()).expect("short").to_be_bytes());
        all.extend_from_slice(&packet);
    }
    stream.write_all(&all).expect("sent");
    let mut ids: Vec<_> = (0..20)
        .map(|_| receive(&mut stream).expect("an answer")[1])
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<u8>>());
    drop(stream.shutdown(std::net::Shutdown::Write));
    assert_eq!(
        receive(&mut stream),
        None,
        "the server ends the stream when the client has"
    );
}

#[test]
fn what_is_no_question_gets_no_answer_and_disturbs_nothing() {
    let server = Server::start(&served("services"), 1);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut answered = packet(1, SERVICE, 1);
    answered[2] |= 0x80;
    for junk in [&[][..], &[0; 5], &answered, &[0xff; 1400]] {
        socket.send_to(junk, server.address).expect("sent");
    }
    let answer = server
        .ask(&packet(7, SERVICE, 1), Transport::Udp)
        .expect("an answer");
    assert_eq!(answer[7], 1);
}
