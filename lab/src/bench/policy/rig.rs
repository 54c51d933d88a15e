//! A node for one layout: a local pod with a server, and the rest of the cluster on the other side.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockaddrStorage, bind, connect, setsockopt, sockopt,
};
use weft_core::view::Protocol;

use super::load;
use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::{open, serve};
use crate::conformance::policy::packets::wires;

/// Connections of one figure, and how many of them are made before the server may catch up: its queue
/// is no longer than 128.
const CONNECTIONS: u32 = 400;
const AT_ONCE: u32 = 100;

/// Namespaces of one node.
pub struct Rig {
    world: Namespace,
    node: Namespace,
    pod: Namespace,
    server: serve::Server,
}

impl Rig {
    /// Makes them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self> {
        let [world, node, pod] = ["world", "node", "pod"].map(Namespace::new);
        let (world, node, pod) = (world?, node?, pod?);
        wires::prepare(&world)?;
        wires::connect_node(&world, 0, &node, &[])?;
        let address = [IpAddr::V4(load::address(0))];
        wires::connect_pod(&world, 0, &node, load::link(0), &pod, &address)?;
        let ports = serve::Ports::new([(Protocol::Tcp, load::PORT)]);
        let server = pod.run(move || serve::Server::start(&ports))??;
        Ok(Self {
            world,
            node,
            pod,
            server,
        })
    }

    /// The node's namespace.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// Microseconds of a new connection from the client to the local pod.
    ///
    /// # Errors
    /// When one fails.
    pub fn connections(&self) -> Result<f64> {
        self.world.run(|| {
            let mut took = Duration::ZERO;
            for _ in 0..CONNECTIONS / AT_ONCE {
                let began = Instant::now();
                let made: Vec<TcpStream> = (0..AT_ONCE)
                    .map(|_| connected().context("a connection that policies allow failed"))
                    .collect::<Result<_>>()?;
                took += began.elapsed();
                for mut stream in made {
                    stream.read_to_end(&mut Vec::new())?;
                }
            }
            Ok(took.as_secs_f64() * 1e6 / f64::from(CONNECTIONS))
        })?
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.stop();
        for place in [&mut self.world, &mut self.node, &mut self.pod] {
            place.end();
        }
    }
}

fn connected() -> Result<TcpStream> {
    let socket = open(AddressFamily::Inet, Protocol::Tcp, SockFlag::empty())?;
    // The address is that of a pod elsewhere.
    setsockopt(&socket, sockopt::IpTransparent, &true)?;
    let [from, to] = [(load::CLIENT, 0), (0, load::PORT)]
        .map(|(pod, port)| SocketAddr::new(IpAddr::V4(load::address(pod)), port));
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(socket))
}
