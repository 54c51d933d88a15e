//! Services on a real kernel: what is compiled is taken, read back, and leads connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use weft_core::compile;
use weft_core::services::object::{ServicePort, SliceEndpoint, SlicePort};
use weft_core::services::{Config, ServiceName, ServiceObject, Services, SliceName, SliceObject};
use weft_core::view::{Family, NodeView, Protocol};
use weft_kernel::nft::NftSocket;
use weft_nft::{Table, diff};

use crate::namespace::Namespace;

/// Answers of a kernel that has nothing to say come late or never: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_secs(2);

/// A node between clients (10.1.0.0/24) and endpoints (10.2.0.0/24).
struct Stand {
    node: Namespace,
    client: Namespace,
    server: Namespace,
    socket: NftSocket,
    services: Services,
}

impl Stand {
    fn new() -> Self {
        let [node, client, server] = [(); 3].map(|()| Namespace::new());
        for (peer, device, net) in [
            (&client, "clients", "10.1.0"),
            (&server, "servers", "10.2.0"),
        ] {
            let id = peer.enter(std::process::id);
            let link = format!("{device}{id}");
            let link = &link[..link.len().min(15)];
            node.run(&format!("ip link add {link} type veth peer name peer0"));
            node.run(&format!(
                "ip address add {net}.1/24 dev {link}; ip link set {link} up"
            ));
            move_link(&node, peer, "peer0");
            peer.run(&format!(
                "ip link set peer0 up; for n in 2 3 4; do ip address add {net}.$n/24 dev peer0; done; ip route add default via {net}.1"
            ));
        }
        node.run("echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add default via 10.1.0.2");
        for host in 2..=4 {
            serve(&server, SocketAddr::from(([10, 2, 0, host], 8080)));
        }
        let socket = node.enter(|| NftSocket::open().unwrap());
        let services = Services::new(Config {
            node: "node-1".to_owned(),
            node_addresses: vec![Ipv4Addr::new(10, 1, 0, 1).into()],
            pod_networks: vec![
                "10.1.0.0/24".parse().unwrap(),
                "10.2.0.0/24".parse().unwrap(),
            ],
            service_networks: vec!["172.30.0.0/16".parse().unwrap()],
            ..Config::default()
        });
        Self {
            node,
            client,
            server,
            socket,
            services,
        }
    }

    /// Makes the kernel follow, as the agent does.
    fn follow(&mut self, edit: impl Fn(&mut Table)) {
        let changes = self.services.compile();
        if let Some(frame) = changes.before.clone() {
            let mut want = frame_table(frame);
            edit(&mut want);
            let mut bare = self.socket.read_table("weftnet").unwrap().table;
            for (name, set) in &mut bare.sets {
                if weft_core::services::Bulk::of(name).is_some() {
                    set.elements.clear();
                }
            }
            self.socket.commit_all(&diff(&bare, &want)).unwrap();
        }
        for batch in changes.batches {
            self.socket.commit(&batch).unwrap();
        }
        self.services.committed();
    }

    fn set(&mut self, name: &str, object: ServiceObject, endpoints: &[u8]) {
        let service = ServiceName::new("ns", name);
        self.services.set_service(&service, Some(object));
        let slice = slice(service, endpoints);
        self.services
            .set_slice(&SliceName::new("ns", name), Some(slice));
    }
}

fn frame_table(frame: weft_core::services::Frame) -> Table {
    let view = NodeView {
        node: "node-1".to_owned(),
        services: Some(frame),
        ..NodeView::default()
    };
    compile::all(&view).0.table
}

fn move_link(from: &Namespace, to: &Namespace, link: &str) {
    use std::os::fd::AsRawFd;
    let fd = to.fd().as_raw_fd();
    let pid = std::process::id();
    from.run(&format!("ip link set {link} netns /proc/{pid}/fd/{fd}"));
}

/// Says its own address to whoever comes.
fn serve(server: &Namespace, at: SocketAddr) {
    let listener = server.enter(|| TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            drop(stream.write_all(at.ip().to_string().as_bytes()));
        }
    });
}

fn ask(from: &Namespace, to: &str, patience: Duration) -> Result<IpAddr, ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, patience).map_err(|error| error.kind())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .map_err(|error| error.kind())?;
        Ok(text.parse().unwrap())
    })
}

fn service(cluster_ip: [u8; 4], affinity: Option<u32>) -> ServiceObject {
    ServiceObject {
        created: 0,
        cluster_ips: [IpAddr::from(cluster_ip)].into(),
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: [].into(),
        ports: [ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30_080 + u16::from(cluster_ip[3])),
        }]
        .into(),
        internal_local: false,
        external_local: false,
        affinity,
        health_check_node_port: None,
    }
}

fn slice(service: ServiceName, hosts: &[u8]) -> SliceObject {
    let endpoint = |host: &u8| SliceEndpoint {
        address: IpAddr::from([10, 2, 0, *host]),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        for_zones: [].into(),
        for_nodes: [].into(),
    };
    SliceObject {
        service,
        family: Family::V4,
        ports: [SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }]
        .into(),
        endpoints: hosts.iter().map(endpoint).collect(),
    }
}

#[test]
fn the_kernel_takes_services_of_every_kind_and_gives_them_back() {
    let mut stand = Stand::new();
    let mut both = service([172, 30, 0, 1], None);
    both.cluster_ips = [
        IpAddr::from([172, 30, 0, 1]),
        "fd00:172::1".parse().unwrap(),
    ]
    .into();
    stand.set("plain", both, &[2, 3, 4]);
    stand.set("sticky", service([172, 30, 0, 2], Some(10_800)), &[2, 3]);
    stand.set("empty", service([172, 30, 0, 3], None), &[]);
    let mut fenced = service([172, 30, 0, 4], None);
    fenced.load_balancer_ips = [IpAddr::from([198, 51, 100, 1])].into();
    fenced.source_ranges = [
        "203.0.113.0/25".parse().unwrap(),
        "10.1.0.0/24".parse().unwrap(),
    ]
    .into();
    fenced.external_local = true;
    stand.set("fenced", fenced, &[2, 3]);
    let six = SliceObject {
        family: Family::V6,
        endpoints: slice(ServiceName::new("ns", "plain"), &[2])
            .endpoints
            .iter()
            .map(|endpoint| SliceEndpoint {
                address: "fd00:10::2".parse().unwrap(),
                ..endpoint.clone()
            })
            .collect(),
        ..slice(ServiceName::new("ns", "plain"), &[])
    };
    stand
        .services
        .set_slice(&SliceName::new("ns", "plain-6"), Some(six));
    stand.follow(|_| {});
    let mut want = frame_table(stand.services.frame());
    stand.services.fill(&mut want);
    let mut have = stand.socket.read_table("weftnet").unwrap().table;
    have.flags = want.flags;
    assert_eq!(have.to_string(), want.to_string());

    // And away with all of it.
    for name in ["plain", "sticky", "empty", "fenced"] {
        stand
            .services
            .set_service(&ServiceName::new("ns", name), None);
    }
    stand.follow(|_| {});
    let have = stand.socket.read_table("weftnet").unwrap().table;
    for bulk in weft_core::services::Bulk::ALL {
        for family in Family::ALL {
            assert!(have.sets[bulk.name(family)].elements.is_empty(), "{bulk:?}");
        }
    }
}

#[test]
fn connections_reach_every_endpoint_and_are_refused_or_dropped_as_they_should() {
    let mut stand = Stand::new();
    stand.set("web", service([172, 30, 0, 1], None), &[2, 3]);
    stand.set("none", service([172, 30, 0, 2], None), &[]);
    stand.follow(|_| {});
    for (from, to) in [
        (&stand.client, "172.30.0.1:80"),
        (&stand.client, "10.1.0.1:30081"),
        (&stand.node, "172.30.0.1:80"),
        (&stand.node, "10.1.0.1:30081"),
    ] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(ask(from, to, PATIENCE).unwrap());
            if seen.len() == 2 {
                break;
            }
        }
        let both = [2, 3].map(|host| IpAddr::from([10, 2, 0, host]));
        assert_eq!(seen, both.into(), "{to}");
    }
    for from in [&stand.client, &stand.node] {
        for to in ["172.30.0.2:80", "172.30.0.1:81"] {
            assert_eq!(
                ask(from, to, PATIENCE),
                Err(ErrorKind::ConnectionRefused),
                "{to}"
            );
        }
        let error = ask(from, "172.30.0.9:80", SILENCE);
        assert_eq!(
            error,
            Err(ErrorKind::TimedOut),
            "an address that no service has"
        );
    }
}

#[test]
fn a_client_keeps_its_endpoint_until_it_goes() {
    let mut stand = Stand::new();
    stand.set("web", service([172, 30, 0, 1], Some(600)), &[2, 3, 4]);
    stand.follow(|_| {});
    let first = ask(&stand.client, "172.30.0.1:80", PATIENCE).unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&stand.client, "172.30.0.1:80", PATIENCE), Ok(first));
    }
    let IpAddr::V4(gone) = first else { panic!() };
    let gone = gone.octets()[3];
    let rest: Vec<u8> = [2, 3, 4].into_iter().filter(|host| *host != gone).collect();
    stand.set("web", service([172, 30, 0, 1], Some(600)), &rest);
    stand.follow(|_| {});
    let second = ask(&stand.client, "172.30.0.1:80", PATIENCE).unwrap();
    assert_ne!(second, first);
    // It comes back as another one: who had it before does not return to it.
    stand.set("web", service([172, 30, 0, 1], Some(600)), &[2, 3, 4]);
    stand.follow(|_| {});
    for _ in 0..20 {
        assert_eq!(ask(&stand.client, "172.30.0.1:80", PATIENCE), Ok(second));
    }
}

#[test]
fn clients_that_cannot_be_remembered_any_more_are_served_all_the_same() {
    let mut stand = Stand::new();
    stand.set("web", service([172, 30, 0, 1], Some(600)), &[2, 3, 4]);
    stand.set("api", service([172, 30, 0, 2], Some(600)), &[2, 3, 4]);
    stand.follow(|table| {
        let clients = table.sets.get_mut("affinity-clients4").unwrap();
        clients.size = Some(1);
    });
    ask(&stand.client, "172.30.0.1:80", PATIENCE).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        seen.insert(ask(&stand.client, "172.30.0.2:80", PATIENCE).unwrap());
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_segment_outside_its_window_does_not_leave_untranslated() {
    let mut stand = Stand::new();
    stand.set("web", service([172, 30, 0, 1], None), &[2]);
    stand.follow(|_| {});
    let dropped = |stand: &Stand| -> u64 {
        let chain = stand
            .node
            .run("nft list chain inet weftnet outside-window4");
        let counts = chain.split("counter packets ").skip(1);
        counts
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum()
    };
    assert_eq!(dropped(&stand), 0);
    let (_stream, client) = stand.client.enter(|| {
        let stream =
            TcpStream::connect_timeout(&"172.30.0.1:80".parse().unwrap(), PATIENCE).unwrap();
        let address = stream.local_addr().unwrap();
        (stream, address)
    });
    // The endpoint says something that nobody can have asked for. One of two numbers half the circle
    // apart is ahead of the window, whatever the connection began with.
    let from = SocketAddr::from(([10, 2, 0, 2], 8080));
    for sequence in [0x1000_0000, 0x9000_0000] {
        stand.server.enter(|| acknowledge(from, client, sequence));
    }
    assert!(dropped(&stand) > 0);
}

/// Sends a TCP segment that acknowledges something, out of nowhere.
fn acknowledge(from: SocketAddr, to: SocketAddr, sequence: u32) {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
    };
    use std::os::fd::AsRawFd;
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
        panic!()
    };
    let mut segment = vec![];
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    // Acknowledgement, header of five words with the flag ACK, window, checksum, urgent.
    segment.extend([0x12, 0x34, 0x56, 0x78, 0x50, 0x10, 0, 0xff, 0, 0, 0, 0]);
    let mut pseudo = vec![];
    pseudo.extend(from.ip().octets());
    pseudo.extend(to.ip().octets());
    pseudo.extend([0, 6, 0, 20]);
    let words = pseudo.iter().chain(&segment).copied().collect::<Vec<u8>>();
    let sum: u32 = words
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::Tcp,
    )
    .unwrap();
    sendto(
        raw.as_raw_fd(),
        &segment,
        &SockaddrIn::from(to),
        MsgFlags::empty(),
    )
    .unwrap();
}
