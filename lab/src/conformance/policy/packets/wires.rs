//! The namespaces connected: nodes to the world, pods to their nodes, each by links of its own.
//!
//! IPv4 goes by the IPv6 address of the next hop (RFC 5549), and the ends of a pod's link know each
//! other's hardware addresses, as an agent would have it.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Result;
use weft_core::names;

use crate::conformance::packets::namespace::Namespace;
use crate::conformance::packets::{ip, length, sysctls};

/// What the world makes of its links before there are any: every address that is no pod's and no
/// node's is somebody there.
///
/// # Errors
/// When the kernel refuses.
pub fn prepare(world: &Namespace) -> Result<()> {
    world.run(sysctls)??;
    ip(
        world,
        "link set lo up\n\
         rule add lookup 90 pref 90\n\
         -6 rule add lookup 90 pref 90\n\
         route add local 0.0.0.0/0 dev lo table 100\n\
         -6 route add local ::/0 dev lo table 100\n"
            .to_owned(),
    )
}

/// Connects a node, whose link in the world has this number.
///
/// # Errors
/// When the kernel refuses.
pub fn connect_node(
    world: &Namespace,
    number: usize,
    node: &Namespace,
    addresses: &[IpAddr],
) -> Result<()> {
    node.run(sysctls)??;
    let thread = node.thread();
    let link = format!("n{number}");
    let mut batch = format!(
        "link add {link} type veth peer name eth0 netns {thread}\n\
         link set {link} addrgenmode none\n\
         addr add fe80::1/64 dev {link} nodad\n\
         link set {link} up\n\
         rule add iif {link} lookup 100 pref 100\n\
         -6 rule add iif {link} lookup 100 pref 100\n"
    );
    let mut inside = String::from(
        "link set lo up\n\
         link set eth0 addrgenmode none\n\
         addr add fe80::2/64 dev eth0 nodad\n\
         link set eth0 up\n\
         route add 0.0.0.0/0 via inet6 fe80::1 dev eth0\n\
         -6 route add default via fe80::1 dev eth0\n",
    );
    for address in addresses {
        way(&mut batch, *address, &link, " table 90");
        let (length, nodad) = length(*address);
        let _ = writeln!(inside, "addr add {address}/{length} dev eth0 {nodad}");
    }
    ip(world, batch)?;
    ip(node, inside)
}

/// Connects a pod to its node, whose link in the world has this number.
///
/// # Errors
/// When the kernel refuses.
pub fn connect_pod(
    world: &Namespace,
    number: usize,
    node: &Namespace,
    index: u32,
    pod: &Namespace,
    addresses: &[IpAddr],
) -> Result<()> {
    let thread = pod.thread();
    let link = format!("weft{index}");
    let group = names::POD_LINK_GROUP;
    let [host_mac, pod_mac] = [1, 2].map(|end| {
        let [a, b, c, d] = index.to_be_bytes();
        format!("02:{end:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    });
    let mut batch = format!(
        "link add {link} index {index} address {host_mac} type veth peer name eth0 address {pod_mac} netns {thread}\n\
         link set {link} addrgenmode none\n\
         link set {link} group {group}\n\
         addr add fe80::1/64 dev {link} nodad\n\
         link set {link} up\n\
         neigh replace fe80::2 lladdr {pod_mac} dev {link} nud permanent\n"
    );
    let mut inside = format!(
        "link set lo up\n\
         link set eth0 addrgenmode none\n\
         addr add fe80::2/64 dev eth0 nodad\n\
         link set eth0 up\n\
         neigh replace fe80::1 lladdr {host_mac} dev eth0 nud permanent\n\
         route add 0.0.0.0/0 via inet6 fe80::1 dev eth0\n\
         -6 route add default via fe80::1 dev eth0\n"
    );
    let mut outside = String::new();
    for address in addresses {
        way(&mut batch, *address, &link, "");
        way(&mut outside, *address, &format!("n{number}"), " table 90");
        let (length, nodad) = length(*address);
        let _ = writeln!(inside, "addr add {address}/{length} dev lo {nodad}");
    }
    ip(node, batch)?;
    ip(pod, inside)?;
    ip(world, outside)
}

/// The way to an address by a link.
fn way(batch: &mut String, address: IpAddr, link: &str, table: &str) {
    let (length, _) = length(address);
    let (six, via) = if address.is_ipv4() {
        ("", "via inet6")
    } else {
        ("-6 ", "via")
    };
    let _ = writeln!(
        batch,
        "{six}route add {address}/{length} {via} fe80::2 dev {link}{table}"
    );
}
