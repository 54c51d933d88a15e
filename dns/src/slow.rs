//! The slow path: any message in, an answer out, read and written by hickory-proto.
//!
//! It asks others for what is not ours. What is ours it answers from the same zones as the fast path, with
//! readers and writers that share nothing with it: a test holds the bytes of both equal.

use std::net::IpAddr;

use hickory_proto::op::{
    Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::{DNSClass, Name, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};
use weft_core::zones::Zones;
use weft_core::zones::answer::{Ask, Outcome, Question, Section, Sections};
use weft_core::zones::record::RecordType;

use crate::message::{self, HEADER, OPT_LENGTH, PLAIN_LIMIT, Transport, UDP_LIMIT};
use crate::upstream::{Reply, Upstream};
use crate::wire::count;

/// An answer before it is bytes.
#[derive(Default)]
struct Draft {
    records: Vec<(Section, Record)>,
    code: u16,
    authoritative: bool,
    truncated: bool,
}

impl Sections for Draft {
    fn put(
        &mut self,
        section: Section,
        owner: &[u8],
        kind: RecordType,
        ttl: u32,
        data: &[u8],
    ) -> bool {
        self.records
            .extend(record(owner, kind, ttl, data).map(|record| (section, record)));
        true
    }

    fn clear(&mut self) {
        self.records.clear();
    }
}

/// Makes hickory's record of ours.
pub(crate) fn record(owner: &[u8], kind: RecordType, ttl: u32, data: &[u8]) -> Option<Record> {
    let length = u16::try_from(data.len()).ok()?;
    let mut wire = owner.to_vec();
    wire.extend_from_slice(&kind.0.to_be_bytes());
    wire.extend_from_slice(&1_u16.to_be_bytes());
    wire.extend_from_slice(&ttl.to_be_bytes());
    wire.extend_from_slice(&length.to_be_bytes());
    wire.extend_from_slice(data);
    Record::read(&mut BinDecoder::new(&wire)).ok()
}

/// Answers a message; none where nothing is to be sent.
pub async fn answer(
    zones: &Zones,
    upstream: &Upstream,
    packet: &[u8],
    client: Option<IpAddr>,
    transport: Transport,
    rotation: u32,
) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(packet)).ok()?;
    if header.metadata.message_type == MessageType::Response {
        return None;
    }
    let recursive = upstream.is_some();
    let message = match judge(packet, &header) {
        Ok(message) => message,
        Err((code, message)) => return refuse(&header.metadata, message.as_ref(), code, recursive),
    };
    let query = message.queries.first()?;
    let mut name = Vec::with_capacity(255);
    query.name.emit(&mut BinEncoder::new(&mut name)).ok()?;
    let lower = name.to_ascii_lowercase();
    let question = Question {
        name: &name,
        lower: &lower,
        kind: RecordType(query.query_type.into()),
        rotation,
        client,
    };
    let mut draft = Draft::default();
    match zones.answer(&question, &mut draft) {
        Outcome::Done {
            rcode,
            authoritative,
        } => {
            draft.code = u16::from(rcode.number());
            draft.authoritative = authoritative;
        }
        Outcome::Ask(ask) => draft.ask(upstream, &ask, question.kind, client).await,
    }
    draft.encode(&message, recursive, transport)
}

/// Reads a message and judges it by the rules that hold for all.
#[expect(clippy::result_large_err, reason = "it is taken apart at once")]
fn judge(packet: &[u8], header: &Header) -> Result<Message, (u16, Option<Message>)> {
    if header.metadata.op_code != OpCode::Query {
        return Err((ResponseCode::NotImp.into(), None));
    }
    let HeaderCounts {
        queries,
        answers,
        authorities,
        additionals,
    } = header.counts;
    let malformed = ResponseCode::FormErr.into();
    if queries != 1 || answers != 0 || authorities != 0 || additionals > 2 {
        return Err((malformed, None));
    }
    // The library lets bytes behind the last record and halves of options pass.
    if matches!(message::read(packet), message::Message::Refuse { code, .. } if code == message::Code::FORMERR)
    {
        return Err((malformed, None));
    }
    let message = Message::from_vec(packet).map_err(|_| (malformed, None))?;
    let Some(query) = message.queries.first() else {
        return Err((malformed, None));
    };
    let version = message.edns.as_ref().map_or(0, Edns::version);
    let kind = RecordType(query.query_type.into());
    let code = match kind {
        _ if version > 0 => ResponseCode::BADVERS,
        _ if query.query_class != DNSClass::IN => ResponseCode::Refused,
        RecordType::OPT => ResponseCode::FormErr,
        RecordType::AXFR | RecordType(251) => ResponseCode::Refused,
        // A signed message asks for a signed answer, and we share no key (RFC 8945, 5.2).
        _ if !message.additionals.is_empty() || message.signature.is_some() => {
            ResponseCode::NotAuth
        }
        _ => return Ok(message),
    };
    Err((code.into(), Some(message)))
}

fn refuse(
    metadata: &Metadata,
    message: Option<&Message>,
    code: u16,
    recursive: bool,
) -> Option<Vec<u8>> {
    let draft = Draft {
        code,
        ..Draft::default()
    };
    match message {
        Some(message) => draft.encode(message, recursive, Transport::Stream),
        None => {
            let metadata = draft.metadata(metadata, recursive);
            header(metadata, 0, [0; 3])
        }
    }
}

fn header(
    metadata: Metadata,
    queries: u16,
    [answers, authorities, additionals]: [u16; 3],
) -> Option<Vec<u8>> {
    let counts = HeaderCounts {
        queries,
        answers,
        authorities,
        additionals,
    };
    let mut bytes = Vec::with_capacity(HEADER);
    Header { metadata, counts }
        .emit(&mut BinEncoder::new(&mut bytes))
        .ok()?;
    Some(bytes)
}

impl Draft {
    /// Asks others, and puts what they say behind what is there.
    async fn ask(
        &mut self,
        upstream: &Upstream,
        ask: &Ask,
        kind: RecordType,
        client: Option<IpAddr>,
    ) {
        self.authoritative = ask.continued;
        let Some(reply) = upstream.ask(ask, kind, client).await else {
            let refused = if ask.owner.is_some() {
                ResponseCode::ServFail
            } else {
                ResponseCode::Refused
            };
            self.code = if ask.continued { 0 } else { refused.into() };
            return;
        };
        let Reply {
            code,
            answers,
            authorities,
        } = reply;
        self.code = code;
        let Some(owner) = ask.owner.as_ref().and_then(|owner| name(owner.wire())) else {
            self.records
                .extend(answers.into_iter().map(|record| (Section::Answer, record)));
            self.records.extend(
                authorities
                    .into_iter()
                    .map(|record| (Section::Authority, record)),
            );
            return;
        };
        let addresses = answers
            .into_iter()
            .filter(|record| u16::from(record.record_type()) == kind.0);
        self.records.extend(addresses.map(|mut record| {
            record.name = owner.clone();
            (Section::Answer, record)
        }));
        if ask.owner_exists && self.code == u16::from(ResponseCode::NXDomain) {
            self.code = 0;
        }
    }

    fn metadata(&self, request: &Metadata, recursive: bool) -> Metadata {
        let mut metadata = Metadata::new(request.id, MessageType::Response, request.op_code);
        metadata.authoritative = self.authoritative;
        metadata.truncation = self.truncated;
        metadata.recursion_desired = request.recursion_desired;
        metadata.recursion_available = recursive;
        metadata.checking_disabled = request.checking_disabled;
        metadata.response_code = ResponseCode::from((self.code >> 4) as u8, (self.code & 15) as u8);
        metadata
    }

    fn encode(
        mut self,
        request: &Message,
        recursive: bool,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let query = request.queries.first()?;
        let reserved = if request.edns.is_some() {
            OPT_LENGTH
        } else {
            0
        };
        let limit = limit(request, transport) - reserved;
        let (mut bytes, mut counts) = (Vec::with_capacity(PLAIN_LIMIT), [0_u16; 3]);
        let mut encoder = BinEncoder::new(&mut bytes);
        for _ in 0..HEADER {
            encoder.emit(0).ok()?;
        }
        query.emit(&mut encoder).ok()?;
        for (section, record) in std::mem::take(&mut self.records) {
            let start = encoder.offset();
            let written = emit(&mut encoder, query, &record);
            if written.is_none() || encoder.offset() > limit {
                encoder.set_offset(start);
                encoder.trim();
                self.truncated |= section != Section::Additional;
                break;
            }
            counts[count(section)] += 1;
        }
        if let Some(edns) = &request.edns {
            counts[2] += 1;
            option(edns, self.code).emit(&mut encoder).ok()?;
        }
        let head = header(self.metadata(&request.metadata, recursive), 1, counts)?;
        bytes[..HEADER].copy_from_slice(&head);
        Some(bytes)
    }
}

fn limit(request: &Message, transport: Transport) -> usize {
    match (transport, &request.edns) {
        (Transport::Stream, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => PLAIN_LIMIT,
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.max_payload()).clamp(PLAIN_LIMIT, UDP_LIMIT)
        }
    }
}

fn option(request: &Edns, code: u16) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(u16::try_from(UDP_LIMIT).unwrap_or_default());
    edns.set_version(0);
    edns.set_rcode_high((code >> 4) as u8);
    edns.set_dnssec_ok(request.flags().dnssec_ok);
    edns
}

/// Writes one record; its owner by a pointer where that is the question's name, which does not count among compressed names.
fn emit(encoder: &mut BinEncoder<'_>, query: &Query, record: &Record) -> Option<()> {
    if record.name.eq_case(&query.name) {
        encoder.emit_u16(0xc000 | HEADER as u16).ok()?;
    } else {
        record.name.emit(encoder).ok()?;
    }
    record.record_type().emit(encoder).ok()?;
    record.dns_class.emit(encoder).ok()?;
    encoder.emit_u32(record.ttl).ok()?;
    let place = encoder.place::<u16>().ok()?;
    record.data.emit(encoder).ok()?;
    let length = u16::try_from(encoder.len_since_place(&place)).ok()?;
    place.replace(encoder, length).ok()
}

/// Reads a name in wire form; none where the bytes are none.
pub(crate) fn name(wire: &[u8]) -> Option<Name> {
    Name::read(&mut BinDecoder::new(wire)).ok()
}
