//! Flows judged by the compiled rules alone: every end that the tracer finds for their first packet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use weft_nft::trace::{Arrival, Event, Fate, Host, Link, Packet, Route, Trace, Tracer};
use weft_nft::{Table, l4proto};

use super::expect::Outcome;
use super::format::{Flow, Protocol};
use super::node::Node;

/// The interface that leads everywhere.
const UPLINK: u32 = 2;
/// An interface whose addresses masquerading falls back to in a family in which the node has none.
const SPARE: u32 = 3;
/// A source port that no service has.
const SOURCE_PORT: u16 = 50_123;

/// A stage's table, prepared.
#[derive(Debug)]
pub struct Judge<'n> {
    node: &'n Node,
    tracer: Tracer<'n>,
    host: Host,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Endpoint { to: String, masqueraded: bool },
    Untouched,
    Rejected,
    Dropped,
    Other(String),
}

impl<'n> Judge<'n> {
    /// Prepares a table of a node.
    pub fn new(node: &'n Node, table: &'n Table) -> Self {
        Self {
            tracer: Tracer::new(table),
            host: host(node),
            node,
        }
    }

    /// What becomes of a flow.
    pub fn outcome(&self, flow: &Flow) -> Outcome {
        let arrival = self.arrival(flow, SOURCE_PORT);
        let traces = self.tracer.trace(&self.host, &arrival);
        let ends: BTreeSet<End> = traces.iter().map(end).collect();
        let answers = traces
            .iter()
            .find_map(|trace| self.answer_is_lost(flow, trace));
        if let Some(lost) = answers {
            return Outcome::Other(lost);
        }
        match self.affinity(flow, &traces) {
            Ok(affinity) => merged(ends, affinity),
            Err(loose) => Outcome::Other(loose),
        }
    }

    fn arrival(&self, flow: &Flow, source_port: u16) -> Arrival {
        let protocol = match flow.protocol {
            Protocol::Tcp => l4proto::TCP,
            Protocol::Udp => l4proto::UDP,
            Protocol::Sctp => l4proto::SCTP,
        };
        let packet = Packet::new(
            protocol,
            SocketAddr::new(flow.from, source_port),
            SocketAddr::new(flow.to, flow.port),
        );
        if self.node.is_own(flow.from) {
            Arrival::of_node(packet)
        } else {
            Arrival::by(UPLINK, packet)
        }
    }

    /// For how many seconds a client keeps its endpoint. That it does is tried with a second packet.
    fn affinity(&self, flow: &Flow, traces: &[Trace<'n>]) -> Result<u64, String> {
        let mut seconds = BTreeSet::new();
        for trace in traces.iter().filter(|trace| trace.outcome.is_dnat()) {
            let updates = &trace.outcome.updates;
            let timeout = updates.iter().filter_map(|update| update.timeout).max();
            seconds.insert(timeout.map_or(0, |timeout| timeout.as_secs()));
            if updates.is_empty() {
                continue;
            }
            let mut host = self.host.clone();
            host.learn(updates);
            let second = self.arrival(flow, SOURCE_PORT + 1);
            let again = self.tracer.trace(&host, &second);
            let moved = again.iter().find(|again| end(again) != end(trace));
            if let Some(moved) = moved {
                return Err(format!(
                    "a client of {:?} was sent to {:?} the second time",
                    end(trace),
                    end(moved)
                ));
            }
        }
        match seconds.len() {
            0 | 1 => Ok(seconds.first().copied().unwrap_or_default()),
            _ => Err(format!("affinity differs by endpoint: {seconds:?}")),
        }
    }

    /// Follows the answer of an endpoint: it must come to the client as from the service.
    fn answer_is_lost(&self, flow: &Flow, trace: &Trace<'n>) -> Option<String> {
        if !trace.outcome.is_dnat() || !trace.outcome.arrives() {
            return None;
        }
        let answer = trace.reply()?;
        let wanted = (
            SocketAddr::new(flow.to, flow.port),
            SocketAddr::new(flow.from, SOURCE_PORT),
        );
        let ends = self.tracer.trace(&self.host, &answer);
        let lost = ends.iter().find(|end| {
            let packet = &end.outcome.packet;
            !end.outcome.arrives() || (packet.from(), packet.to()) != wanted
        })?;
        Some(format!(
            "the answer of {} ends as {:?} from {} to {}",
            trace.outcome.packet.to(),
            lost.outcome.fate,
            lost.outcome.packet.from(),
            lost.outcome.packet.to()
        ))
    }
}

/// The node's interfaces and routes: everything that is not its own is out by one interface.
fn host(node: &Node) -> Host {
    let single = |address: &IpAddr| IpNet::from(*address);
    let mut host = Host::new().with_link(UPLINK, "eth0", 0, node.addresses().iter().map(single));
    host.links.insert(
        SPARE,
        Link {
            name: "spare".to_owned(),
            group: 0,
            addresses: vec![
                Ipv4Addr::new(198, 18, 255, 254).into(),
                Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0xffff).into(),
            ],
        },
    );
    let all = [
        IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpNet::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ];
    for net in all {
        if let Ok(default) = IpNet::new(net.addr(), 0) {
            host = host.with_route(default, Route::Link(UPLINK));
        }
    }
    host
}

fn end(trace: &Trace<'_>) -> End {
    match &trace.outcome.fate {
        Fate::Delivered | Fate::Sent { .. } if trace.outcome.is_dnat() => End::Endpoint {
            to: trace.outcome.packet.to().to_string(),
            // Masquerading as the address that the packet has anyway leaves no mark on the connection.
            masqueraded: trace
                .steps
                .iter()
                .any(|step| matches!(step.event, Event::Masquerade(_))),
        },
        Fate::Delivered | Fate::Sent { .. } => End::Untouched,
        Fate::Dropped => End::Dropped,
        Fate::Rejected(_) => End::Rejected,
        Fate::Unroutable => End::Other("there is no route".to_owned()),
        Fate::Unknown(what) => End::Other(format!("cannot be followed: {what}")),
    }
}

fn merged(ends: BTreeSet<End>, seconds: u64) -> Outcome {
    if ends.len() == 1 {
        match ends.first() {
            Some(End::Untouched) => return Outcome::Untouched,
            Some(End::Rejected) => return Outcome::Rejected,
            Some(End::Dropped) => return Outcome::Dropped,
            Some(End::Other(what)) => return Outcome::Other(what.clone()),
            Some(End::Endpoint { .. }) | None => {}
        }
    }
    let (mut endpoints, mut with, mut without) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for end in &ends {
        match end {
            End::Endpoint { to, masqueraded } => {
                endpoints.insert(to.clone());
                if *masqueraded {
                    &mut with
                } else {
                    &mut without
                }
                .insert(to.clone());
            }
            End::Untouched | End::Rejected | End::Dropped | End::Other(_) => {
                return Outcome::Other(format!("several ends: {ends:?}"));
            }
        }
    }
    if with.intersection(&without).next().is_some() {
        return Outcome::Other(format!("masqueraded now and then: {ends:?}"));
    }
    Outcome::Endpoints {
        endpoints,
        masqueraded: with,
        affinity: Some(seconds),
    }
}
