//! The way of a packet through the hooks of the kernel: tracking, translation, routing, and our
//! base chains in the order of their priorities.
//!
//! Chains of the same priority as tracking or translation run after them here; the kernel lets the
//! one that was registered last go first.

use super::connection::{Direction, End};
use super::flight::Flight;
use super::rules::Ended;
use super::{Attached, Event, Fate, Host, Origin, Tracer, Way};
use crate::{Base, Chain, ChainKind, Field, Hook, NatFamily, Statement, Table, ct_status};

/// `NF_IP_PRI_CONNTRACK`
const CONNTRACK: i32 = -200;
/// `NF_IP_PRI_NAT_DST`: all translation chains of prerouting and output run here, whatever their own priority.
const DSTNAT: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`: the same for input and postrouting.
const SRCNAT: i32 = 100;

/// Something that a hook calls.
#[derive(Clone, Debug)]
pub(super) enum Call<'t> {
    /// Finds the packet's connection.
    Track,
    /// Sets up and applies translation by these chains.
    Translate(Vec<(&'t str, &'t Chain, Base)>),
    /// A base chain.
    Chain(&'t str, &'t Chain, Base),
}

/// Where a packet may be after a hook: still there, or at its end.
type After<'t> = (Flight<'t>, Option<Fate>);

/// What each hook calls, in order.
pub(super) fn calls(hook: Hook, table: &Table) -> Vec<Call<'_>> {
    let chains = table.chains.iter();
    let based = chains.filter_map(|(name, chain)| Some((name.as_str(), chain, chain.base?)));
    let translates = based
        .clone()
        .any(|(_, _, base)| base.kind == ChainKind::Nat);
    let mut here: Vec<_> = based.filter(|(_, _, base)| base.hook == hook).collect();
    here.sort_by_key(|(_, _, base)| base.priority);
    let (nat, others): (Vec<_>, Vec<_>) = here
        .into_iter()
        .partition(|(_, _, base)| base.kind == ChainKind::Nat);
    let mut calls = Vec::new();
    if matches!(hook, Hook::Prerouting | Hook::Output) {
        calls.push((CONNTRACK, Call::Track));
    }
    let priority = End::of(hook).map(|end| match end {
        End::Source => SRCNAT,
        End::Destination => DSTNAT,
    });
    calls.extend(
        priority
            .filter(|_| translates)
            .map(|priority| (priority, Call::Translate(nat))),
    );
    let others = others.into_iter();
    calls.extend(others.map(|(name, chain, base)| (base.priority, Call::Chain(name, chain, base))));
    calls.sort_by_key(|(priority, _)| *priority);
    calls.into_iter().map(|(_, call)| call).collect()
}

/// Whether the kernel tracks IPv4 and IPv6 connections for a table: it does while a rule reads a
/// connection or translates, and not for a chain of kind nat alone.
pub(super) fn tracks(table: &Table) -> [bool; 2] {
    let rules = table.chains.values().flat_map(|chain| &chain.rules);
    let statements = rules.flat_map(|rule| &rule.statements);
    let asks = statements.map(|statement| match statement {
        Statement::Dnat { family, .. } => match family {
            NatFamily::Ip => [true, false],
            NatFamily::Ip6 => [false, true],
        },
        Statement::Masquerade { .. } => [true; 2],
        statement => [statement.fields().any(is_of_connection); 2],
    });
    asks.fold([false; 2], |[v4, v6], [also_v4, also_v6]| {
        [v4 | also_v4, v6 | also_v6]
    })
}

fn is_of_connection(field: Field) -> bool {
    match field {
        Field::CtState
        | Field::CtStatus
        | Field::CtDirection
        | Field::CtOriginalIpSaddr
        | Field::CtOriginalIpDaddr
        | Field::CtOriginalIp6Saddr
        | Field::CtOriginalIp6Daddr
        | Field::CtProtocol
        | Field::CtOriginalProtoSrc
        | Field::CtOriginalProtoDst
        | Field::CtLabel => true,
        Field::Iif
        | Field::Iifname
        | Field::Iifgroup
        | Field::Oif
        | Field::Oifname
        | Field::Oifgroup
        | Field::L4proto
        | Field::Nfproto
        | Field::Mark
        | Field::Priority
        | Field::Random { .. }
        | Field::IpSaddr
        | Field::IpDaddr
        | Field::Ip6Saddr
        | Field::Ip6Daddr
        | Field::ThSport
        | Field::ThDport
        | Field::TcpSport
        | Field::TcpDport
        | Field::UdpSport
        | Field::UdpDport
        | Field::SctpSport
        | Field::SctpDport
        | Field::Icmpv6Type
        | Field::FibDaddrType => false,
    }
}

impl<'t> Tracer<'t> {
    /// Follows a packet from its origin to its end.
    pub(super) fn path(
        &self,
        flight: Flight<'t>,
        origin: Origin,
        host: &Host,
    ) -> Vec<(Flight<'t>, Fate)> {
        match origin {
            Origin::Link(_) => self.incoming(flight, host),
            Origin::Node => self.outgoing(flight, host),
        }
    }

    /// From an interface: prerouting, then input or forward and postrouting.
    fn incoming(&self, mut flight: Flight<'t>, host: &Host) -> Vec<(Flight<'t>, Fate)> {
        flight.oif = None;
        let after = self.hook(flight, host, Hook::Prerouting);
        each(after, |mut flight| match flight.route(host) {
            Way::Nowhere => vec![(flight, Fate::Unroutable)],
            Way::Local => {
                let after = self.hook(flight, host, Hook::Input);
                each(after, |mut flight| {
                    flight.confirm();
                    vec![(flight, Fate::Delivered)]
                })
            }
            Way::Out(link) => {
                flight.oif = Some(link);
                if flight.is_v4() {
                    // `ip_forward` derives it from the TOS; what prerouting left is gone.
                    flight.packet.priority = 0;
                }
                let after = self.hook(flight, host, Hook::Forward);
                each(after, |flight| self.leaving(flight, host))
            }
        })
    }

    /// From the node itself: output and postrouting, and back in if it is for the node.
    fn outgoing(&self, mut flight: Flight<'t>, host: &Host) -> Vec<(Flight<'t>, Fate)> {
        flight.hook = Hook::Output;
        flight.iif = None;
        flight.oif = match flight.route(host) {
            Way::Nowhere => return vec![(flight, Fate::Unroutable)],
            Way::Local => Some(Host::LOOPBACK),
            Way::Out(link) => Some(link),
        };
        flight.routed = flight.oif;
        let after = self.hook(flight, host, Hook::Output);
        each(after, |mut flight| {
            flight.oif = flight.routed;
            self.leaving(flight, host)
        })
    }

    fn leaving(&self, flight: Flight<'t>, host: &Host) -> Vec<(Flight<'t>, Fate)> {
        let after = self.hook(flight, host, Hook::Postrouting);
        each(after, |mut flight| {
            flight.confirm();
            match flight.oif {
                Some(Host::LOOPBACK) => {
                    flight.iif = Some(Host::LOOPBACK);
                    self.incoming(flight, host)
                }
                Some(link) => vec![(flight, Fate::Sent { link })],
                None => vec![(flight, Fate::Unroutable)],
            }
        })
    }

    fn hook(&self, mut flight: Flight<'t>, host: &Host, hook: Hook) -> Vec<After<'t>> {
        flight.hook = hook;
        let mut after = vec![(flight, None)];
        for call in self.calls.get(&hook).into_iter().flatten() {
            after = after
                .into_iter()
                .flat_map(|(flight, fate)| match fate {
                    Some(fate) => vec![(flight, Some(fate))],
                    None => self.call(flight, host, call),
                })
                .collect();
        }
        after
    }

    fn call(&self, mut flight: Flight<'t>, host: &Host, call: &Call<'t>) -> Vec<After<'t>> {
        match call {
            Call::Track => {
                let [v4, v6] = self.tracks;
                if if flight.is_v4() { v4 } else { v6 } {
                    flight.track();
                }
                vec![(flight, None)]
            }
            Call::Translate(chains) => self.translate(flight, host, chains),
            Call::Chain(name, chain, base) => self
                .rules(host)
                .base_chain(flight, (name, chain, *base))
                .into_iter()
                .map(|(flight, ended)| (flight, fate(ended)))
                .collect(),
        }
    }

    /// `nf_nat_inet_fn`: the chains settle the translation of a connection's first packet, the
    /// first that translates ends their turn; then every packet is rewritten.
    fn translate(
        &self,
        mut flight: Flight<'t>,
        host: &Host,
        chains: &[(&'t str, &'t Chain, Base)],
    ) -> Vec<After<'t>> {
        let Some(end) = End::of(flight.hook) else {
            return vec![(flight, None)];
        };
        let settled = |flight: &Flight<'t>| {
            let connection = flight.attached.connection();
            connection.is_none_or(|connection| connection.is_settled(end))
        };
        if settled(&flight) || !flight.attached.is_first() {
            if flight.attached.connection().is_some() && !chains.is_empty() {
                flight.note(Event::Settled);
            }
            flight.rewrite(end, host);
            return vec![(flight, None)];
        }
        let mut after = vec![(flight, None)];
        for chain in chains {
            after = after
                .into_iter()
                .flat_map(|(flight, fate): After<'t>| {
                    if fate.is_some() || settled(&flight) {
                        return vec![(flight, fate)];
                    }
                    let ends = self.rules(host).base_chain(flight, *chain).into_iter();
                    ends.map(|(flight, ended)| (flight, self::fate(ended)))
                        .collect()
                })
                .collect();
        }
        for (flight, fate) in &mut after {
            if fate.is_none() {
                if let Some(connection) = flight.attached.connection_mut() {
                    connection.settle(end);
                }
                flight.rewrite(end, host);
            }
        }
        after
    }
}

/// Goes on with the packets that are still there.
fn each<'t>(
    after: Vec<After<'t>>,
    mut then: impl FnMut(Flight<'t>) -> Vec<(Flight<'t>, Fate)>,
) -> Vec<(Flight<'t>, Fate)> {
    let after = after.into_iter();
    after
        .flat_map(|(flight, fate)| match fate {
            Some(fate) => vec![(flight, fate)],
            None => then(flight),
        })
        .collect()
}

/// What a base chain's end means for the packet; none if it goes on.
fn fate(ended: Ended) -> Option<Fate> {
    match ended {
        Ended::Accepted => None,
        Ended::Dropped => Some(Fate::Dropped),
        Ended::Rejected(reject) => Some(Fate::Rejected(reject)),
        Ended::Unknown(what) => Some(Fate::Unknown(what)),
    }
}

impl Flight<'_> {
    /// `nf_conntrack_in`; a packet that comes back by `lo` has its connection already.
    fn track(&mut self) {
        match self.attached {
            Attached::Nothing => {}
            Attached::Untracked | Attached::Connection { .. } => return,
        }
        self.attached = Attached::found(self.tracking.clone(), &self.packet);
        self.note(Event::Tracked(self.attached.state()));
    }

    fn route(&mut self, host: &Host) -> Way {
        let way = host.way(self.packet.destination);
        self.note(Event::Routed(way));
        way
    }

    /// `nf_conntrack_confirm`
    fn confirm(&mut self) {
        if let Some(connection) = self.attached.connection_mut() {
            connection.status |= ct_status::CONFIRMED;
        }
    }

    /// Translates the packet as its connection says. A packet of the node's own whose destination
    /// address changed is routed again at once, but the chains of the hook do not see that.
    fn rewrite(&mut self, end: End, host: &Host) {
        let Attached::Connection {
            connection,
            direction,
            error: _,
        } = &self.attached
        else {
            return;
        };
        let before = self.packet;
        let direction: Direction = *direction;
        self.packet = connection.rewritten(before, direction, end);
        if self.packet == before {
            return;
        }
        self.note(match end {
            End::Source => Event::SourceBecame(self.packet.from()),
            End::Destination => Event::DestinationBecame(self.packet.to()),
        });
        if self.hook == Hook::Output && self.packet.destination != before.destination {
            self.routed = match self.route(host) {
                Way::Local => Some(Host::LOOPBACK),
                Way::Out(link) => Some(link),
                Way::Nowhere => None,
            };
        }
    }
}
