//! The node's own description.

use std::path::Path;

use weft_kernel::host;

use crate::namespace::Namespace;

const SYSCTLS: &str = "/proc/sys/net";

#[test]
fn interfaces_of_others_are_described_and_ours_are_not() {
    let node = Namespace::new();
    node.run(
        "ip link add up0 mtu 1450 type veth peer name up1; ip link set up0 up; ip link set up1 up
         ip addr add 192.0.2.5/24 dev up0; ip addr add fd00:1::5/64 dev up0 nodad; ip addr add 169.254.7.7/16 dev up0
         ip route add default via 192.0.2.1 dev up0; ip addr add 10.99.0.1/32 dev lo
         ip link add weft00000000001 type veth peer name other0; ip addr add 10.3.0.1/24 dev weft00000000001",
    );
    let view = node.enter(|| host::observe(&mut node.socket(), Path::new(SYSCTLS)).unwrap());
    let names: Vec<&String> = view.interfaces.keys().collect();
    assert_eq!(names, ["lo", "other0", "up0", "up1"]);
    let up = &view.interfaces["up0"];
    let addresses: Vec<String> = up.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.5/24", "fd00:1::5/64"]);
    assert_eq!(
        (up.mtu, up.default_route, up.router_advertisements),
        (1450, true, false)
    );
    assert!(!view.interfaces["up1"].default_route);
    let loopback: Vec<String> = view.interfaces["lo"]
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(loopback, ["10.99.0.1/32"]);
    assert!(view.internal_ips.is_empty());
}

#[test]
fn a_router_from_advertisements_is_recognised() {
    let node = Namespace::new();
    node.run(
        "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
         ip addr add fd00:1::5/64 dev up0 nodad; ip -6 route add default via fe80::1 dev up0 proto ra",
    );
    let advertised = || {
        let view = node.enter(|| host::observe(&mut node.socket(), Path::new(SYSCTLS)).unwrap());
        view.interfaces["up0"].router_advertisements
    };
    assert!(advertised());
    node.run("sysctl -qw net.ipv6.conf.up0.accept_ra=0");
    assert!(!advertised());
}

#[test]
fn abilities_are_found_without_a_change() {
    let node = Namespace::new();
    let before = node.run("ip link");
    let view = node.enter(|| host::observe(&mut node.socket(), Path::new(SYSCTLS)).unwrap());
    assert_eq!(node.run("ip link"), before);
    let make = "ip link add trial type vxlan id 1 dstport 4789 && ip link del trial && echo yes || echo no";
    assert_eq!(view.vxlan, node.run(make).trim() == "yes");
    assert!(view.ipv6);
    node.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    assert!(!node.enter(|| host::has_ipv6(Path::new(SYSCTLS))));
}
