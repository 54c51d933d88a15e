//! From the raw objects of the cluster and the node to a [`NodeView`] and a list of rejections.
//!
//! The only place that reads texts out of objects. One bad value costs as little as possible: an
//! entry of a list, a network, an object; everything beside it stays in force. What was not
//! understood and could open something (a reserved range, say) closes instead.

mod blocks;
mod network;
mod peers;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use weft_crds::{IPBlockSpec, NodeNetworkSpec, NodeNetworkStatus};

use super::{AttachmentKey, HostView, NodeView, PodView};
use crate::finding::{Object, Rejection};

/// Everything raw that one node's view is made of.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// This node's name.
    pub node: &'a str,
    /// The Node object's InternalIPs.
    pub internal_ips: &'a [IpAddr],
    /// This node's NodeNetwork spec.
    pub network: &'a NodeNetworkSpec,
    /// The other nodes' NodeNetwork status, by name.
    pub peers: &'a BTreeMap<String, NodeNetworkStatus>,
    /// InternalIPs of the other Node objects, by name; for those without a NodeNetwork at least.
    pub other_addresses: &'a BTreeMap<String, Vec<IpAddr>>,
    /// All IPBlocks.
    pub blocks: &'a [BlockObject],
    /// What the node itself is like.
    pub host: &'a HostView,
    /// Pods that this node has wired or is about to.
    pub pods: &'a BTreeMap<AttachmentKey, PodView>,
}

/// An IPBlock as the API has it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockObject {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resource version: decides about the age of two that were created within one second.
    pub resource_version: String,
    /// When it was created, seconds since 1970. Of two that overlap the older is valid, see
    /// [`BlockAge`](crate::alloc::BlockAge).
    pub created: i64,
    /// Its spec.
    pub spec: IPBlockSpec,
}

/// A view, and what could not become part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The view.
    pub view: NodeView,
    /// What was rejected, in the order of the objects.
    pub rejections: Vec<Rejection>,
}

/// Validates everything once.
#[must_use]
pub fn parse(raw: &Raw<'_>) -> Parsed {
    let mut rejections = Vec::new();
    let overlays = network::overlays(raw.network, &mut rejections);
    let pools = network::pools(raw.network, &overlays, &mut rejections);
    let mut host = raw.host.clone();
    host.internal_ips = raw.internal_ips.to_vec();
    let peers = peers::peers(raw, &host, &mut rejections);
    let blocks = blocks::blocks(raw.blocks, &mut rejections);
    let view = NodeView {
        node: raw.node.to_owned(),
        overlays,
        pools,
        peers,
        blocks,
        pods: raw.pods.clone(),
        services: None,
        policies: false,
        dns: None,
        host,
    };
    Parsed { view, rejections }
}

/// Where a value stands, for the rejection if it means nothing.
struct Place<'a> {
    object: &'a Object,
    rejections: &'a mut Vec<Rejection>,
}

impl Place<'_> {
    /// Rejects a value.
    fn reject(&mut self, field: impl Into<String>, value: impl ToString, remedy: &'static str) {
        self.rejections.push(Rejection::InvalidField {
            object: self.object.clone(),
            field: field.into(),
            value: value.to_string(),
            remedy,
        });
    }

    /// Reads a text, or rejects it.
    fn read<T: FromStr>(&mut self, field: &str, text: &str, remedy: &'static str) -> Option<T> {
        let read = text.parse().ok();
        if read.is_none() {
            self.reject(field, text, remedy);
        }
        read
    }

    /// Reads a network without host bits, or rejects it.
    fn network(&mut self, field: &str, text: &str) -> Option<IpNet> {
        const REMEDY: &str = "write a network without host bits, such as 10.64.0.0/16";
        let net: IpNet = self.read(field, text, REMEDY)?;
        if net.addr() == net.network() {
            return Some(net);
        }
        self.reject(field, text, REMEDY);
        None
    }
}

/// Two networks share addresses.
fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests;
