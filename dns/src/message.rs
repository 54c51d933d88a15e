//! A datagram in, what is asked and how an answer has to look out. Nothing is allocated.
//!
//! Counts are checked before anything is read. What every server has to refuse is refused here, so that the
//! same rules hold on every transport and on both paths.

use weft_core::zones::name::{MAX_LABEL, MAX_NAME};
use weft_core::zones::record::RecordType;

/// Length of a header (RFC 1035, 4.1.1).
pub const HEADER: usize = 12;
/// Largest answer over UDP, whatever the client says: it fits into every path (DNS flag day 2020).
pub const UDP_LIMIT: usize = 1232;
/// Largest answer over UDP to a client without EDNS (RFC 1035, 2.3.4).
pub const PLAIN_LIMIT: usize = 512;
/// Bytes of an OPT record without options.
pub const OPT_LENGTH: usize = 11;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream, plain or encrypted.
    Stream,
}

/// What a client says about itself (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Bytes that it can take.
    pub size: u16,
    /// Version.
    pub version: u8,
    /// Whether it wants signatures.
    pub dnssec: bool,
}

/// A question that has an answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the question ends.
    pub end: usize,
    /// The name in lower case.
    pub lower: [u8; MAX_NAME],
    /// How long it is.
    pub length: usize,
    /// The type.
    pub kind: RecordType,
    /// The client's EDNS record.
    pub edns: Option<Edns>,
    /// Whether something stands in the message that only the slow path reads.
    pub odd: bool,
}

impl Request {
    /// The name in lower case, in wire form.
    #[must_use]
    pub fn lower(&self) -> &[u8] {
        &self.lower[..self.length]
    }

    /// How long an answer may be.
    #[must_use]
    pub fn limit(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Stream, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN_LIMIT,
            (Transport::Udp, Some(edns)) => usize::from(edns.size).clamp(PLAIN_LIMIT, UDP_LIMIT),
        }
    }
}

/// An error that a header can say (RFC 1035; IANA "DNS RCODEs").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u16);

impl Code {
    /// The message cannot be read.
    pub const FORMERR: Self = Self(1);
    /// Nothing could be found out.
    pub const SERVFAIL: Self = Self(2);
    /// We do not do that.
    pub const NOTIMP: Self = Self(4);
    /// Not for this client, or not ours.
    pub const REFUSED: Self = Self(5);
    /// An EDNS version that we do not know (RFC 6891, 6.1.3).
    pub const BADVERS: Self = Self(16);
}

/// What a message is.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation for each question"
)]
pub enum Message {
    /// Not a question: nothing is sent back.
    Drop,
    /// Something that is answered by an error alone; the question is repeated where it could be read.
    Refuse {
        /// Which.
        code: Code,
        /// Where the question ends, if there is one.
        end: usize,
        /// The client's EDNS record.
        edns: Option<Edns>,
    },
    /// A question.
    Ask(Request),
}

/// Reads a message.
#[must_use]
pub fn read(packet: &[u8]) -> Message {
    let Some(header) = packet.first_chunk::<HEADER>() else {
        return Message::Drop;
    };
    if header[2] & 0x80 != 0 {
        return Message::Drop;
    }
    let refuse = |code| Message::Refuse {
        code,
        end: HEADER,
        edns: None,
    };
    if header[2] >> 3 & 15 != 0 {
        return refuse(Code::NOTIMP);
    }
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if count(4) != 1 || count(6) != 0 || count(8) != 0 || count(10) > 2 {
        return refuse(Code::FORMERR);
    }
    match question(packet) {
        Some(request) => additional(packet, request, count(10)),
        None => refuse(Code::FORMERR),
    }
}

/// Reads the question; none where it is no question.
fn question(packet: &[u8]) -> Option<Request> {
    let mut lower = [0; MAX_NAME];
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        if length > MAX_LABEL {
            return None;
        }
        let from = at - HEADER;
        let target = lower.get_mut(from..=from + length)?;
        let source = packet.get(at..=at + length)?;
        target.copy_from_slice(source);
        target[1..].make_ascii_lowercase();
        at += length + 1;
        if length == 0 {
            break;
        }
    }
    let tail: &[u8; 4] = packet.get(at..)?.first_chunk()?;
    let kind = RecordType(u16::from_be_bytes([tail[0], tail[1]]));
    Some(Request {
        end: at + 4,
        lower,
        length: at - HEADER,
        kind,
        edns: None,
        odd: false,
    })
}

/// Reads what follows the question, and judges the whole.
fn additional(packet: &[u8], mut request: Request, count: u16) -> Message {
    let refuse = |code, request: &Request| Message::Refuse {
        code,
        end: request.end,
        edns: request.edns,
    };
    let mut at = request.end;
    for _ in 0..count {
        // A record that is no OPT (TSIG, SIG(0)) has an owner: the slow path reads it.
        if packet.get(at..at + 3) != Some(&[0, 0, 41]) {
            request.odd = true;
            return Message::Ask(request);
        }
        let Some(fixed) = packet
            .get(at + 3..)
            .and_then(|rest| rest.first_chunk::<8>())
        else {
            return refuse(Code::FORMERR, &request);
        };
        let length = usize::from(u16::from_be_bytes([fixed[6], fixed[7]]));
        at += OPT_LENGTH + length;
        if at > packet.len() || request.edns.is_some() {
            return refuse(Code::FORMERR, &request);
        }
        if !options_are_whole(&packet[at - length..at]) {
            return refuse(Code::FORMERR, &request);
        }
        request.edns = Some(Edns {
            size: u16::from_be_bytes([fixed[0], fixed[1]]),
            version: fixed[3],
            dnssec: fixed[4] & 0x80 != 0,
        });
    }
    if at != packet.len() {
        return refuse(Code::FORMERR, &request);
    }
    if request.edns.is_some_and(|edns| edns.version > 0) {
        return refuse(Code::BADVERS, &request);
    }
    let class = &packet[request.end - 2..request.end];
    match request.kind {
        _ if class != [0, 1] => refuse(Code::REFUSED, &request),
        RecordType::OPT => refuse(Code::FORMERR, &request),
        // IXFR and AXFR: no zone is handed out.
        RecordType::AXFR | RecordType(251) => refuse(Code::REFUSED, &request),
        _ => Message::Ask(request),
    }
}

/// Whether data of an OPT record is a row of options, each with its length.
fn options_are_whole(mut data: &[u8]) -> bool {
    while let Some(head) = data.first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some(rest) = data.get(4 + length..) else {
            return false;
        };
        data = rest;
    }
    data.is_empty()
}

#[cfg(test)]
mod tests;
