//! What statements do to a packet: translation, refusal, exemption.

use std::net::IpAddr;

use super::super::connection::End;
use super::super::flight::Flight;
use super::super::{Absent, Attached, Event, Host};
use super::{Ended, Onward, unknown};
use crate::{NatFamily, Reject, ct_status, l4proto};

impl<'t> Flight<'t> {
    /// Settles the destination of the packet's connection, if the packet is of the family.
    pub(super) fn dnat(
        &mut self,
        family: NatFamily,
        address: IpAddr,
        port: Option<u16>,
    ) -> (Event<'t>, Onward) {
        let fits = match family {
            NatFamily::Ip => self.is_v4(),
            NatFamily::Ip6 => !self.is_v4(),
        };
        if !fits {
            return (Event::OtherFamily, Onward::On);
        }
        if End::of(self.hook) != Some(End::Destination) {
            return unknown("dnat works in prerouting and output alone".to_owned());
        }
        let Some(connection) = self.attached.connection_mut() else {
            return unknown("dnat works in translation chains alone".to_owned());
        };
        connection.translate(End::Destination, address, port);
        let to = connection.reply.source;
        (Event::Dnat(to), Onward::Ended(Ended::Accepted))
    }

    /// Settles the source of the packet's connection.
    pub(super) fn masquerade(&mut self, host: &Host, fully_random: bool) -> (Event<'t>, Onward) {
        let like = self.packet.destination;
        let source = self.oif.and_then(|link| host.source(link, like));
        let Some(source) = source else {
            return (Event::Masquerade(None), Onward::Ended(Ended::Dropped));
        };
        let Some(connection) = self.attached.connection_mut() else {
            return unknown("masquerade works in translation chains alone".to_owned());
        };
        connection.translate(End::Source, source, None);
        if fully_random {
            // The port changes even if the address does not.
            connection.status |= ct_status::SNAT;
        }
        let to = connection.reply.destination;
        (Event::Masquerade(Some(to)), Onward::Ended(Ended::Accepted))
    }

    /// Refuses the packet; a reset is for TCP alone.
    pub(super) fn reject(&self, reject: Reject) -> (Event<'t>, Onward) {
        let presumed = match reject {
            Reject::TcpReset => self.packet.protocol == l4proto::TCP,
            Reject::PortUnreachable
            | Reject::AdminProhibited
            | Reject::NoRoute
            | Reject::HostUnreachable => true,
        };
        if presumed {
            (Event::Rejected, Onward::Ended(Ended::Rejected(reject)))
        } else {
            (Event::Lacks(Absent::Protocol), Onward::Break)
        }
    }

    /// Exempts the packet; one that tracking has seen already stays as it is.
    pub(super) fn notrack(&mut self) -> (Event<'t>, Onward) {
        match self.attached {
            Attached::Nothing => self.attached = Attached::Untracked,
            Attached::Untracked | Attached::Connection { .. } => {}
        }
        (Event::Notrack, Onward::On)
    }

    /// Sets a bit of the label of the packet's connection; without one nothing is there to label.
    pub(super) fn label(&mut self, bit: u8) -> (Event<'t>, Onward) {
        let Some(connection) = self.attached.connection_mut() else {
            return (
                Event::Unchanged("the packet has no connection here"),
                Onward::On,
            );
        };
        connection.label |= 1_u128.checked_shl(u32::from(bit)).unwrap_or(0);
        (Event::Labelled(bit), Onward::On)
    }
}
