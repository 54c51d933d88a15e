//! The three namespaces connected: what comes from the clients' side goes on to the world and back
//! again whatever its addresses are, so that an endpoint may be a client too.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::namespace::Namespace;

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

fn length(address: IpAddr) -> (u8, &'static str) {
    if address.is_ipv4() {
        (32, "")
    } else {
        (128, "nodad")
    }
}

/// Forwarding, no checks of sources, no limits for refusals. All of it is the namespace's own.
fn sysctls() -> Result<()> {
    let on = [
        "ipv4/ip_forward",
        "ipv6/conf/all/forwarding",
        "ipv4/conf/all/accept_local",
    ];
    let off = [
        "ipv4/conf/all/rp_filter",
        "ipv4/conf/default/rp_filter",
        "ipv4/icmp_ratelimit",
        "ipv6/icmp/ratelimit",
    ];
    let links = ["eth0", "clients", "world"].map(|link| format!("ipv4/conf/{link}/rp_filter"));
    let all = on
        .iter()
        .map(|name| ((*name).to_owned(), "1"))
        .chain(off.iter().map(|name| ((*name).to_owned(), "0")))
        .chain(links.map(|name| (name, "0")));
    for (name, value) in all {
        let file = format!("/proc/sys/net/{name}");
        match std::fs::write(&file, value) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            written => written.with_context(|| format!("failed to write {file}"))?,
        }
    }
    Ok(())
}

/// Lines for ip(8); those that begin with `-6` are about IPv6 and come last.
fn ip(place: &Namespace, batch: String) -> Result<()> {
    place.run(move || -> Result<()> {
        let mut six = String::new();
        let mut rest = String::new();
        for line in batch.lines() {
            let (into, line) = match line.strip_prefix("-6 ") {
                Some(line) => (&mut six, line),
                None => (&mut rest, line),
            };
            let _ = writeln!(into, "{line}");
        }
        fed(&["ip", "-batch", "-"], &rest)?;
        fed(&["ip", "-6", "-batch", "-"], &six)
    })?
}

fn fed(argv: &[&str], input: &str) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    crate::place::succeeded(&output, &format!("ip with:\n{input}"))
}
