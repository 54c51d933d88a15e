//! Cluster DNS: while the node's server answers, questions stay on the node; otherwise they go to the Service's endpoints.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_agent::engine::{Faults, Input, Output, ServiceSettings};

use super::node::{Namespace, Node, Pod, eventually};
use super::services::{tell, tell_all};

const V4: &str = "10.96.0.10";
const V6: &str = "fd96::a";

fn service() -> Value {
    json!({"kind": "Service", "metadata": {"name": "kube-dns", "namespace": "default"}, "spec": {
        "type": "ClusterIP", "clusterIP": V4, "clusterIPs": [V4, V6], "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}})
}

fn slice(family: &str, address: IpAddr) -> Value {
    json!({"kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": format!("kube-dns-{family}"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "ports": [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5353, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "nodeName": "n1"}]})
}

/// A node with a server of its own, one in a pod, and a client in another pod.
struct Rig {
    node: Node,
    client: Pod,
    _central: Pod,
    objects: Vec<Value>,
    own: Vec<IpAddr>,
}

impl Rig {
    fn new() -> Self {
        let mut node = Node::new();
        node.services = Some(ServiceSettings::default());
        node.dns = [V4, V6].map(|address| address.parse().unwrap()).to_vec();
        node.start(Faults::none());
        node.hear(&["10.64.0.0/26", "fd64::/122"]);
        node.wait_for(|output| *output == Output::Ready);
        let (central, client) = (Pod::new("central"), Pod::new("client"));
        let of_central = node.must_add(&central).addresses;
        let own = node.must_add(&client).addresses;
        let slices = ["IPv4", "IPv6"].into_iter().zip(of_central);
        let mut objects = vec![service()];
        objects.extend(slices.map(|(family, address)| slice(family, address)));
        tell_all(&node, &objects);
        serve(
            central.namespace(),
            "central",
            &[
                "0.0.0.0:5353".parse().unwrap(),
                "[::]:5353".parse().unwrap(),
            ],
        );
        serve(&node.namespace, "node", &frontends());
        Self {
            node,
            client,
            _central: central,
            objects,
            own,
        }
    }

    fn asked_by_pod(&self) -> Vec<Option<(String, IpAddr)>> {
        answers(self.client.namespace())
    }

    fn asked_by_node(&self) -> Vec<Option<(String, IpAddr)>> {
        answers(&self.node.namespace)
    }

    fn locals(&self) -> String {
        let show = |family: &str| {
            self.node
                .namespace
                .must(&format!("ip {family} route show table local proto 82"))
        };
        show("-4") + &show("-6")
    }

    /// Connections to the addresses that are tracked.
    fn tracked(&self) -> usize {
        let text = self.node.namespace.must("cat /proc/net/nf_conntrack");
        let to = [
            "dst=10.96.0.10 ",
            "dst=fd96:0000:0000:0000:0000:0000:0000:000a ",
        ];
        text.lines()
            .filter(|line| to.iter().any(|to| line.contains(to)))
            .count()
    }
}

fn frontends() -> [SocketAddr; 2] {
    [V4, V6].map(|address| SocketAddr::new(address.parse().unwrap(), 53))
}

/// Answers with a name and the address that was seen, over UDP and TCP, at addresses that need not be there.
fn serve(place: &Namespace, name: &'static str, at: &[SocketAddr]) {
    for &address in at {
        let (udp, tcp) =
            place.inside(|| (weft_dns_socket::udp(address), weft_dns_socket::tcp(address)));
        std::thread::spawn(move || {
            let mut question = [0; 64];
            while let Ok((_, client)) = udp.recv_from(&mut question) {
                let _ = udp.send_to(format!("{name} {}", client.ip()).as_bytes(), client);
            }
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, client)) = tcp.accept() {
                let _ = write!(stream, "{name} {}", client.ip());
            }
        });
    }
}

/// Sockets as the server opens them.
mod weft_dns_socket {
    use super::*;
    use nix::sys::socket::sockopt::{IpFreebind, Ipv6V6Only, ReuseAddr};
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt,
        socket,
    };
    use std::os::fd::{AsRawFd, OwnedFd};

    fn open(address: SocketAddr, kind: SockType) -> OwnedFd {
        let family = if address.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&fd, ReuseAddr, &true).unwrap();
        if address.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &true).unwrap();
        }
        setsockopt(&fd, IpFreebind, &true).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        fd
    }

    pub(super) fn udp(address: SocketAddr) -> UdpSocket {
        open(address, SockType::Datagram).into()
    }

    pub(super) fn tcp(address: SocketAddr) -> TcpListener {
        let fd = open(address, SockType::Stream);
        listen(&fd, Backlog::new(16).unwrap()).unwrap();
        fd.into()
    }
}

/// Who answers at the addresses, and whom it saw: over UDP and TCP.
fn answers(place: &Namespace) -> Vec<Option<(String, IpAddr)>> {
    place.inside(|| {
        frontends()
            .into_iter()
            .flat_map(|at| [ask(at), dial(at)])
            .collect()
    })
}

fn ask(at: SocketAddr) -> Option<(String, IpAddr)> {
    let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(at).ok()?;
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    socket.send(b"who?").ok()?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).ok()?;
    read(&String::from_utf8_lossy(&answer[..length]))
}

fn dial(at: SocketAddr) -> Option<(String, IpAddr)> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_millis(500)).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    read(&answer)
}

fn read(answer: &str) -> Option<(String, IpAddr)> {
    let (name, address) = answer.split_once(' ')?;
    let address: IpAddr = address.parse().ok()?;
    Some((name.to_owned(), address.to_canonical()))
}

fn all_by(answers: &[Option<(String, IpAddr)>], name: &str) -> bool {
    answers.len() == 4
        && answers
            .iter()
            .all(|answer| answer.as_ref().is_some_and(|(by, _)| by == name))
}

#[test]
fn questions_stay_on_the_node_while_its_server_answers() {
    let rig = Rig::new();
    eventually("the endpoints of the Service answer", || {
        all_by(&rig.asked_by_pod(), "central") && all_by(&rig.asked_by_node(), "central")
    });
    assert_eq!(rig.locals(), "");
    let before = rig.tracked();
    assert!(all_by(&rig.asked_by_pod(), "central"));
    assert!(
        rig.tracked() > before,
        "the control: what is translated is tracked"
    );
    rig.node.send(Input::Dns(true));
    eventually("the node answers", || all_by(&rig.asked_by_pod(), "node"));
    assert!(all_by(&rig.asked_by_node(), "node"));
    let before = rig.tracked();
    let seen: Vec<IpAddr> = rig
        .asked_by_pod()
        .into_iter()
        .flatten()
        .map(|(_, from)| from)
        .collect();
    assert_eq!(
        seen,
        [rig.own[0], rig.own[0], rig.own[1], rig.own[1]],
        "the client's own addresses"
    );
    let seen: Vec<String> = rig
        .asked_by_node()
        .into_iter()
        .flatten()
        .map(|(_, from)| from.to_string())
        .collect();
    assert_eq!(
        seen,
        ["192.0.2.10", "192.0.2.10", "2001:db8::10", "2001:db8::10"],
        "the node's own addresses"
    );
    assert!(rig.tracked() <= before, "nothing is tracked");
    rig.node.send(Input::Dns(false));
    eventually("the endpoints answer again", || {
        all_by(&rig.asked_by_pod(), "central") && all_by(&rig.asked_by_node(), "central")
    });
    assert_eq!(rig.locals(), "");
}

#[test]
fn a_client_that_asks_again_misses_no_answer_when_it_goes_back_and_forth() {
    let rig = Rig::new();
    let end = Instant::now() + Duration::from_secs(4);
    let place = rig.client.namespace();
    let (asked, by_node) = std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            place.inside(|| {
                let (mut asked, mut by_node) = (0, 0);
                while Instant::now() < end {
                    for at in frontends() {
                        let (name, _) = ask(at)
                            .or_else(|| ask(at))
                            .expect("an answer at the second attempt");
                        asked += 1;
                        by_node += usize::from(name == "node");
                    }
                }
                (asked, by_node)
            })
        });
        let mut serving = false;
        while Instant::now() + Duration::from_millis(200) < end {
            serving = !serving;
            rig.node.send(Input::Dns(serving));
            std::thread::sleep(Duration::from_millis(100));
        }
        stream.join().unwrap()
    });
    assert!(
        by_node > 0 && by_node < asked,
        "{by_node} of {asked}: both have answered"
    );
}

#[test]
fn a_restart_keeps_what_there_is_until_the_server_is_heard() {
    let mut rig = Rig::new();
    rig.node.send(Input::Dns(true));
    eventually("the node answers", || all_by(&rig.asked_by_pod(), "node"));
    let locals = rig.locals();
    assert!(locals.contains(V4) && locals.contains(V6), "{locals}");
    rig.node.stop();
    assert!(all_by(&rig.asked_by_pod(), "node"), "without an agent");
    rig.node.restart();
    assert!(
        all_by(&rig.asked_by_pod(), "node"),
        "before the server is heard"
    );
    assert_eq!(rig.locals(), locals);
    tell_all(&rig.node, &[]);
    rig.objects
        .iter()
        .for_each(|object| tell(&rig.node, object));
    rig.node.send(Input::Dns(false));
    eventually("the endpoints answer", || {
        all_by(&rig.asked_by_pod(), "central")
    });
    rig.node.restart();
    assert_eq!(rig.locals(), "");
}
