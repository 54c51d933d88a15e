//! What a server says about a request, and what a client reads back: one type for both ends.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Who asked, as the receiver saw it, and who answered.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Source address and port of the request as they arrived.
    pub peer: SocketAddr,
    /// The address that the request was sent to; for UDP the wildcard.
    pub local: SocketAddr,
    /// Every address of the server's interfaces but loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// The server's host name, which in a pod is the pod's name.
    pub hostname: String,
    /// What was asked for; empty outside HTTP.
    pub path: String,
}

impl Answer {
    /// Describes a request from `peer` that arrived at `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr, path: &str) -> Self {
        Self {
            peer: canonical(peer),
            local: canonical(local),
            addresses: addresses(),
            hostname: hostname(),
            path: path.to_owned(),
        }
    }
}

/// An IPv4 address as such, also where a dual-stack socket shows it inside an IPv6 address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| String::new(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Every address of this namespace but loopback and link-local ones.
pub fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let all = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address
            .as_sockaddr_in()
            .map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|address| IpAddr::V6(address.ip()))
        })
    });
    let mut addresses: Vec<IpAddr> = all.filter(|address| !is_local(address)).collect();
    addresses.sort_unstable();
    addresses
}

fn is_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_shown_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "10.0.0.1:80");
        let plain: SocketAddr = "[fd00::1]:80".parse().unwrap();
        assert_eq!(canonical(plain), plain);
    }
}
