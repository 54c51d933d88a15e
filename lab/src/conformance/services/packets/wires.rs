//! The three namespaces connected: what comes from the clients' side goes on to the world and back
//! again whatever its addresses are, so that an endpoint may be a client too.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Result;

use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::{ip, length, sysctls};

/// The node's link to the clients, and to the world.
const LINKS: [&str; 2] = ["clients", "world"];

/// Connects all.
///
/// # Errors
/// When the kernel refuses.
pub fn connect(
    clients: &Namespace,
    node: &Namespace,
    world: &Namespace,
    addresses: &[IpAddr],
) -> Result<()> {
    let mut batch = String::from("link set lo up\n");
    for (link, peer) in LINKS.into_iter().zip([clients, world]) {
        let peer = peer.thread();
        let _ = writeln!(
            batch,
            "link add {link} type veth peer name eth0 netns {peer}"
        );
        let _ = writeln!(batch, "link set {link} addrgenmode none");
        let _ = writeln!(batch, "addr add fe80::1/64 dev {link} nodad");
        let _ = writeln!(batch, "link set {link} up");
    }
    for address in addresses {
        let (length, nodad) = length(*address);
        let _ = writeln!(batch, "addr add {address}/{length} dev world {nodad}");
    }
    ip(node, batch)?;
    for peer in [clients, world] {
        let ends = "link set lo up\nlink set eth0 addrgenmode none\naddr add fe80::2/64 dev eth0 nodad\nlink set eth0 up\n\
                    route add 0.0.0.0/0 via inet6 fe80::1 dev eth0\n\
                    -6 route add default via fe80::1 dev eth0\n";
        ip(peer, ends.to_owned())?;
    }
    // IPv4 goes by the IPv6 address of the next hop (RFC 5549): no address of the wires is needed.
    ip(
        node,
        "route add 0.0.0.0/0 via inet6 fe80::2 dev world\n\
         -6 route add default via fe80::2 dev world\n\
         route add 0.0.0.0/0 via inet6 fe80::2 dev world table 101\n\
         -6 route add default via fe80::2 dev world table 101\n\
         route add 0.0.0.0/0 via inet6 fe80::2 dev clients table 102\n\
         -6 route add default via fe80::2 dev clients table 102\n\
         rule add iif clients lookup 101 pref 101\n\
         -6 rule add iif clients lookup 101 pref 101\n\
         rule add iif world lookup 102 pref 102\n\
         -6 rule add iif world lookup 102 pref 102\n"
            .to_owned(),
    )?;
    // In the world every address is somebody.
    ip(
        world,
        "rule add iif eth0 lookup 100 pref 100\n\
         -6 rule add iif eth0 lookup 100 pref 100\n\
         route add local 0.0.0.0/0 dev lo table 100\n\
         -6 route add local ::/0 dev lo table 100\n"
            .to_owned(),
    )?;
    for place in [clients, node, world] {
        place.run(sysctls)??;
    }
    Ok(())
}

/// Gives the clients an address, and the node the way to it: its refusals go there.
///
/// # Errors
/// When the kernel refuses.
pub fn add_address(clients: &Namespace, node: &Namespace, address: IpAddr) -> Result<()> {
    let (length, nodad) = length(address);
    let add = format!("addr add {address}/{length} dev lo {nodad}\n");
    ip(clients, add)?;
    ip(node, format!("route add {}\n", way(address)))
}

/// Takes it again.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_address(clients: &Namespace, node: &Namespace, address: IpAddr) -> Result<()> {
    let (length, _) = length(address);
    ip(clients, format!("addr del {address}/{length} dev lo\n"))?;
    ip(node, format!("route del {}\n", way(address)))
}

fn way(address: IpAddr) -> String {
    let (length, _) = length(address);
    let via = if address.is_ipv4() {
        "via inet6"
    } else {
        "via"
    };
    format!("{address}/{length} {via} fe80::2 dev clients")
}
