//! Tracked connections to Services whose endpoint is gone, deleted.
//!
//! A UDP client that keeps its port keeps its entry, and with it the translation to an endpoint that
//! does not answer any more, or to none, from before there was one. The next packet after the
//! deletion is a new connection and chooses among those that there are.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use weft_core::services::StaleFlows;
use weft_core::view::Protocol;

use super::message::{self, Common};
use super::{ConntrackSocket, Error};

/// Who may answer, by protocol and frontend.
type Wanted<'a> = HashMap<(u8, SocketAddr), &'a [SocketAddr]>;

impl ConntrackSocket {
    /// Deletes entries to these frontends that are answered by anybody but their endpoints, and
    /// answers how many. One listing for each family and protocol, less where the frontends have
    /// something in common.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn delete_stale(&mut self, flows: &[StaleFlows]) -> Result<u64, Error> {
        let wanted: Wanted<'_> = flows
            .iter()
            .map(|flow| {
                let StaleFlows {
                    protocol,
                    frontend,
                    endpoints,
                } = flow;
                ((number(*protocol), *frontend), &**endpoints)
            })
            .collect();
        let mut deleted = 0;
        for common in in_common(&wanted) {
            let about = |payload: &[u8]| stale(payload, &wanted, common.ipv6);
            let listed = match self.dump(&message::list_common(&common), &about) {
                // A kernel that cannot filter.
                Err(Error::Refused(refusal))
                    if matches!(refusal.errno, Errno::EINVAL | Errno::EOPNOTSUPP) =>
                {
                    self.dump(&message::list(any(common.ipv6)), &about)?
                }
                listed => listed?,
            };
            deleted += self.delete_each(&listed)?;
        }
        Ok(deleted)
    }
}

/// The deletion of an entry, if it is stale.
fn stale(payload: &[u8], wanted: &Wanted<'_>, ipv6: bool) -> Option<message::Request> {
    let flow = message::flow(payload)?;
    let endpoints = wanted.get(&(flow.protocol, flow.to))?;
    if endpoints.contains(&flow.answers) {
        return None;
    }
    message::deletion(payload, ipv6)
}

/// What to list.
fn in_common(wanted: &Wanted<'_>) -> Vec<Common> {
    let mut groups: BTreeMap<(bool, u8), Common> = BTreeMap::new();
    for (protocol, frontend) in wanted.keys() {
        let ipv6 = frontend.is_ipv6();
        let group = groups.entry((ipv6, *protocol)).or_insert(Common {
            ipv6,
            protocol: *protocol,
            // The kernel's filter compares IPv6 addresses the wrong way round (seen on 6.18).
            destination: (!ipv6).then_some(frontend.ip()),
            port: Some(frontend.port()),
        });
        group.destination = group.destination.filter(|ip| *ip == frontend.ip());
        group.port = group.port.filter(|port| *port == frontend.port());
    }
    groups.into_values().collect()
}

/// An address of the family.
fn any(ipv6: bool) -> IpAddr {
    if ipv6 {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Numbers of protocols (IANA).
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => weft_nft::l4proto::TCP,
        Protocol::Udp => weft_nft::l4proto::UDP,
        Protocol::Sctp => weft_nft::l4proto::SCTP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(frontends: &[&str]) -> Vec<Common> {
        let frontends = frontends
            .iter()
            .map(|at| ((17, at.parse().unwrap()), &[][..]));
        in_common(&frontends.collect())
    }

    #[test]
    fn what_all_frontends_have_in_common_is_asked_for() {
        let dns = Common {
            ipv6: false,
            protocol: 17,
            destination: Some("10.96.0.10".parse().unwrap()),
            port: Some(53),
        };
        assert_eq!(common(&["10.96.0.10:53"]), [dns]);
        let other_port = Common { port: None, ..dns };
        assert_eq!(common(&["10.96.0.10:53", "10.96.0.10:54"]), [other_port]);
        let other_address = Common {
            destination: None,
            ..dns
        };
        assert_eq!(common(&["10.96.0.10:53", "10.96.0.11:53"]), [other_address]);
        let v6 = Common {
            ipv6: true,
            ..other_address
        };
        assert_eq!(common(&["10.96.0.10:53", "[fd00::a]:53"]), [dns, v6]);
    }
}
