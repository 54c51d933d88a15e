//! The fast path: a datagram in, an answer out, without an allocation or a lock.
//!
//! It answers what is ours. What others have to be asked for, and messages that hold more than a question and
//! an OPT record, it leaves to the slow path.

use std::net::IpAddr;

use weft_core::zones::Zones;
use weft_core::zones::answer::{Outcome, Question};

use crate::message::{Code, HEADER, Message, Request, Transport, read};
use crate::wire::{Flags, Writer, refuse};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is sent.
    Drop,
    /// So many bytes of the buffer are the answer.
    Reply(usize),
    /// The slow path has to answer.
    Slow,
}

/// What the server is, beside its zones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Others are asked for what is not ours.
    pub recursive: bool,
}

/// Answers a message. The buffer holds 65,535 bytes for streams, 1,232 for datagrams.
pub fn answer(
    zones: &Zones,
    manner: Manner,
    packet: &[u8],
    client: Option<IpAddr>,
    transport: Transport,
    rotation: u32,
    buffer: &mut [u8],
) -> Verdict {
    match read(packet) {
        Message::Drop => Verdict::Drop,
        Message::Refuse { code, end, edns } => {
            Verdict::Reply(refuse(buffer, packet, end, code, edns, manner.recursive))
        }
        Message::Ask(request) if request.odd => Verdict::Slow,
        Message::Ask(request) => ask(
            zones, manner, packet, client, &request, transport, rotation, buffer,
        ),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one question; a struct of them would be built for each"
)]
fn ask(
    zones: &Zones,
    manner: Manner,
    packet: &[u8],
    client: Option<IpAddr>,
    request: &Request,
    transport: Transport,
    rotation: u32,
    buffer: &mut [u8],
) -> Verdict {
    let question = Question {
        name: &packet[HEADER..request.end - 4],
        lower: request.lower(),
        kind: request.kind,
        rotation,
        client,
    };
    let mut writer = Writer::new(buffer, packet, request, request.limit(transport));
    let mut flags = Flags {
        recursive: manner.recursive,
        ..Flags::default()
    };
    let code = match zones.answer(&question, &mut writer) {
        Outcome::Done {
            rcode,
            authoritative,
        } => {
            flags.authoritative = authoritative;
            Code(u16::from(rcode.number()))
        }
        Outcome::Ask(ask) if manner.recursive || ask.via.is_some() => return Verdict::Slow,
        // Aliases that lead outside are answered as they stand.
        Outcome::Ask(ask) if ask.continued => {
            flags.authoritative = true;
            Code(0)
        }
        Outcome::Ask(ask) if ask.owner.is_some() => Code::SERVFAIL,
        Outcome::Ask(_) => Code::REFUSED,
    };
    Verdict::Reply(writer.finish(packet, flags, code, request.edns))
}
