//! How a case is asked, and what an answer says.

use std::fmt;
use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use serde::Deserialize;
use weft_core::zones::name::labels;
use weft_core::zones::record::RecordType;

use super::Served;
use crate::fast::{self, Manner, Verdict};
use crate::message::{HEADER, Transport};
use crate::slow;

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    from: Option<IpAddr>,
    #[serde(default)]
    transport: Option<String>,
    #[serde(default)]
    edns: Option<u16>,
}

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The fast path, in this process.
    Fast(Transport),
    /// The slow path, in this process.
    Slow(Transport),
    /// A server's socket.
    Socket(Transport),
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, transport) = match self {
            Self::Fast(transport) => ("fast path", transport),
            Self::Slow(transport) => ("slow path", transport),
            Self::Socket(transport) => ("socket", transport),
        };
        let transport = if *transport == Transport::Udp {
            "UDP"
        } else {
            "TCP"
        };
        write!(formatter, "{name}, {transport}")
    }
}

/// One record as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub(super) owner: Vec<u8>,
    pub(super) kind: RecordType,
    pub(super) ttl: Option<u32>,
    pub(super) data: Vec<u8>,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) code: u16,
    pub(super) truncated: bool,
    pub(super) sections: [Vec<Row>; 3],
}

impl Reply {
    /// Reads an answer.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        let rows = |records: &[Record]| records.iter().filter_map(row).collect();
        Some(Self {
            code: message.metadata.response_code.into(),
            truncated: message.metadata.truncation,
            sections: [
                rows(&message.answers),
                rows(&message.authorities),
                rows(&message.additionals),
            ],
        })
    }
}

fn row(record: &Record) -> Option<Row> {
    let mut owner = Vec::new();
    record.name.emit(&mut BinEncoder::new(&mut owner)).ok()?;
    let mut data = Vec::new();
    record.data.emit(&mut BinEncoder::new(&mut data)).ok()?;
    Some(Row {
        owner,
        kind: RecordType(record.record_type().into()),
        ttl: Some(record.ttl),
        data,
    })
}

impl Query {
    /// The name as it is written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The transport that the case wants, if it says.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match self.transport.as_deref() {
            Some("tcp") => Some(Transport::Stream),
            Some(_) => Some(Transport::Udp),
            None => None,
        }
    }

    /// The message; none where the file asks what cannot be asked.
    #[must_use]
    pub fn packet(&self) -> Option<Vec<u8>> {
        let kind = RecordType::parse(&self.kind)?;
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend(cased(&self.name)?);
        packet.extend_from_slice(&kind.0.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        if let Some(size) = self.edns {
            packet[HEADER - 1] = 1;
            packet.extend_from_slice(&[0, 0, 41]);
            packet.extend_from_slice(&size.to_be_bytes());
            packet.extend_from_slice(&[0; 6]);
        }
        Some(packet)
    }

    /// Asks both paths; the fast one is left out where it leaves the question to the slow one.
    pub(super) fn ask_both(
        &self,
        served: &Served,
        runtime: &tokio::runtime::Runtime,
        transport: Transport,
    ) -> Vec<(Path, Option<Reply>)> {
        let Some(packet) = self.packet() else {
            return vec![(Path::Fast(transport), None)];
        };
        let slow = self.full(transport, |transport| {
            self.slow(served, runtime, &packet, transport)
        });
        let mut replies = vec![(Path::Slow(transport), slow)];
        if self.fast(served, &packet, transport).is_some() {
            let fast = self.full(transport, |transport| {
                self.fast(served, &packet, transport).flatten()
            });
            replies.push((Path::Fast(transport), fast));
        }
        replies
    }

    /// Asks again over TCP where an answer is cut short, as clients do.
    pub fn full(
        &self,
        transport: Transport,
        ask: impl Fn(Transport) -> Option<Vec<u8>>,
    ) -> Option<Reply> {
        let mut reply = Reply::read(&ask(transport)?)?;
        if reply.truncated && transport == Transport::Udp && self.transport.is_none() {
            let whole = Reply::read(&ask(Transport::Stream)?)?;
            reply.sections = whole.sections;
        }
        Some(reply)
    }

    fn slow(
        &self,
        served: &Served,
        runtime: &tokio::runtime::Runtime,
        packet: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        runtime.block_on(slow::answer(
            &served.zones,
            &served.upstream,
            packet,
            self.from,
            transport,
            0,
        ))
    }

    /// None where the fast path leaves the question to the slow one.
    #[expect(
        clippy::option_option,
        reason = "no answer and not this path's question are two things"
    )]
    fn fast(
        &self,
        served: &Served,
        packet: &[u8],
        transport: Transport,
    ) -> Option<Option<Vec<u8>>> {
        let manner = Manner {
            recursive: served.upstream.is_some(),
        };
        let mut buffer = vec![0; 65_535];
        match fast::answer(
            &served.zones,
            manner,
            packet,
            self.from,
            transport,
            0,
            &mut buffer,
        ) {
            Verdict::Drop => Some(None),
            Verdict::Slow => None,
            Verdict::Reply(length) => {
                buffer.truncate(length);
                Some(Some(buffer))
            }
        }
    }
}

/// A name in wire form in the letters that it is written in.
pub(super) fn cased(text: &str) -> Option<Vec<u8>> {
    let lower = weft_core::zones::name::Name::absolute(text).ok()?;
    let mut wire = lower.wire().to_vec();
    // Letters come in the order of the text; escapes stand for bytes that have no case.
    let mut letters = text.bytes().filter(u8::is_ascii_alphabetic);
    let mut at = 0;
    let lengths: Vec<_> = labels(lower.wire()).map(<[u8]>::len).collect();
    for length in lengths {
        for byte in &mut wire[at + 1..=at + length] {
            if byte.is_ascii_alphabetic() {
                *byte = letters.next().unwrap_or(*byte);
            }
        }
        at += length + 1;
    }
    Some(wire)
}
