//! The wires of a lab: one bridge per L2 segment in the switch's place, one veth pair per place.
//!
//! The switch routes between segments and to the outside world. It knows no pod addresses, so a pod's
//! packet comes back from outside only if the node translated it; the reference plugins, which do
//! not translate, get static routes instead.

use std::fmt::Write;

use anyhow::Result;

use crate::address::{AddressPlan, Addresses};
use crate::place::Place;
use crate::state::{LabState, NodeRecord};

/// The switch's place.
pub const SWITCH: &str = "switch";
/// The outside world's place.
pub const OUTSIDE: &str = "outside";

/// Makes the bridges of all segments.
pub fn set_up_switch(switch: &Place, state: &LabState) -> Result<()> {
    let mut batch = String::from("link set lo up\n");
    for segment in 0..state.options.segments {
        let bridge = bridge(segment);
        line(&mut batch, format_args!("link add {bridge} type bridge"));
        line(
            &mut batch,
            format_args!("link set {bridge} mtu {} up", state.options.mtu),
        );
        add_addresses(&mut batch, &bridge, state.plan().router(segment));
    }
    switch.feed_network(&["ip", "-batch", "-"], &batch)
}

/// Connects a place to a segment and sets its addresses and default routes.
pub fn connect(
    switch: &Place,
    place: &Place,
    state: &LabState,
    segment: u8,
    addresses: Addresses,
) -> Result<()> {
    let port = place.name();
    let mtu = state.options.mtu;
    let mut batch = String::new();
    let (pid, bridge) = (place.pid(), bridge(segment));
    line(
        &mut batch,
        format_args!("link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pid}"),
    );
    line(
        &mut batch,
        format_args!("link set {port} master {bridge} up"),
    );
    switch.feed_network(&["ip", "-batch", "-"], &batch)?;
    set_up_end(place, addresses, state.plan().router(segment))
}

/// Connects the outside world to the switch's router.
pub fn connect_outside(switch: &Place, outside: &Place, plan: AddressPlan) -> Result<()> {
    let mut batch = String::new();
    let pid = outside.pid();
    line(
        &mut batch,
        format_args!("link add {OUTSIDE} type veth peer name eth0 netns {pid}"),
    );
    line(&mut batch, format_args!("link set {OUTSIDE} up"));
    add_addresses(&mut batch, OUTSIDE, plan.outside_router());
    switch.feed_network(&["ip", "-batch", "-"], &batch)?;
    set_up_end(outside, plan.outside(), plan.outside_router())
}

/// Takes a node's link down on the switch's side, or up again.
pub fn set_link(switch: &Place, port: &str, up: bool) -> Result<()> {
    let verb = if up { "up" } else { "down" };
    switch.feed_network(&["ip", "-batch", "-"], &format!("link set {port} {verb}\n"))
}

/// Removes a node's port.
pub fn disconnect(switch: &Place, port: &str) -> Result<()> {
    switch.feed_network(&["ip", "-batch", "-"], &format!("link del {port}\n"))
}

/// Routes to all nodes' fixed pod ranges, for the reference plugins.
///
/// `here` is the node whose routes are wanted; `None`: the switch.
pub fn static_routes(state: &LabState, here: Option<&NodeRecord>) -> String {
    let mut batch = String::new();
    for node in state.nodes.values() {
        if here.is_some_and(|here| here.number == node.number) {
            continue;
        }
        let next_hops = match here {
            Some(here) if here.segment != node.segment => state.plan().router(here.segment),
            _ => node.addresses,
        };
        for range in state.plan().pod_ranges(node.number) {
            let next_hop = if range.contains(':') {
                next_hops.ipv6.map(|a| a.to_string())
            } else {
                next_hops.ipv4.map(|a| a.to_string())
            };
            if let Some(next_hop) = next_hop {
                line(
                    &mut batch,
                    format_args!("route replace {range} via {next_hop}"),
                );
            }
        }
    }
    batch
}

fn set_up_end(place: &Place, addresses: Addresses, router: Addresses) -> Result<()> {
    let mut batch = String::from("link set lo up\nlink set eth0 up\n");
    add_addresses(&mut batch, "eth0", addresses);
    if let Some(router) = router.ipv4 {
        line(&mut batch, format_args!("route add 0.0.0.0/0 via {router}"));
    }
    if let Some(router) = router.ipv6 {
        line(&mut batch, format_args!("route add ::/0 via {router}"));
    }
    place.feed_network(&["ip", "-batch", "-"], &batch)
}

fn bridge(segment: u8) -> String {
    format!("segment-{}", segment + 1)
}

fn add_addresses(batch: &mut String, device: &str, addresses: Addresses) {
    if let Some(address) = addresses.ipv4 {
        line(batch, format_args!("addr add {address}/24 dev {device}"));
    }
    if let Some(address) = addresses.ipv6 {
        // No other host has it: waiting for duplicate address detection would cost a second.
        line(
            batch,
            format_args!("addr add {address}/64 dev {device} nodad"),
        );
    }
}

fn line(batch: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = batch.write_fmt(text);
    batch.push('\n');
}
