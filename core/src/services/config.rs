//! What a node must know about itself and the cluster to serve Services.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::view::Family;

/// Node and cluster as the services see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// The node's zone (label `topology.kubernetes.io/zone`).
    pub zone: Option<String>,
    /// Addresses of the node, the Node object's InternalIPs first, in their order.
    pub node_addresses: Vec<IpAddr>,
    /// On which addresses node ports are served (chart value `services.nodePortAddresses`).
    pub node_port_addresses: NodePortAddresses,
    /// Networks of pods. In a family without one, pods cannot be told from others (chart value
    /// `services.podCIDRs`, or the networks of all pools).
    pub pod_networks: Vec<IpNet>,
    /// Ranges of cluster IPs: what is not allocated in there is dropped. Ranges of ServiceCIDR
    /// objects are to be added by the caller (chart value `services.serviceCIDRs`).
    pub service_networks: Vec<IpNet>,
    /// Whether everything to a cluster IP is masqueraded (chart value `services.masqueradeAll`).
    pub masquerade_all: bool,
}

/// On which addresses of the node node ports are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The first address of each family.
    #[default]
    Primary,
    /// Every address of the node in one of these networks; in a family without one every address, as
    /// kube-proxy has it. An empty list is [`Self::Primary`].
    Within(Vec<IpNet>),
}

impl Config {
    /// Sources that are the node itself, loopback among them.
    pub(super) fn own_addresses(&self) -> BTreeSet<IpNet> {
        let loopback = [
            Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
            IpAddr::V6(Ipv6Addr::LOCALHOST).into(),
        ];
        let own = self.node_addresses.iter().copied().map(IpNet::from);
        own.chain(loopback).collect()
    }

    /// The addresses that node ports are served on.
    #[must_use]
    pub(super) fn node_port_addresses(&self) -> Vec<IpAddr> {
        let first = |family| {
            let mut of = self.node_addresses.iter().copied();
            of.find(|ip| Family::of(*ip) == family)
        };
        let within = |nets: &[IpNet], ip: IpAddr| {
            let mut own = nets
                .iter()
                .filter(|net| Family::of_net(net) == Family::of(ip))
                .peekable();
            own.peek().is_none() || own.any(|net| net.contains(&ip))
        };
        let mut addresses: Vec<IpAddr> = match &self.node_port_addresses {
            NodePortAddresses::Within(nets) if !nets.is_empty() => {
                let all = self.node_addresses.iter().copied();
                all.filter(|ip| within(nets, *ip)).collect()
            }
            NodePortAddresses::Within(_) | NodePortAddresses::Primary => {
                Family::ALL.into_iter().filter_map(first).collect()
            }
        };
        // What is sent to loopback never comes back through a translation (`route_localnet` is off).
        addresses.retain(|ip| !ip.is_loopback());
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}
