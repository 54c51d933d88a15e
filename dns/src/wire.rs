//! Records in, an answer in wire form out, in a buffer that is there already.
//!
//! Names are compressed against every name before them, first of all against the question at offset 12, letter by
//! letter: so an answer keeps the letters of the question. The bytes are those that hickory-proto makes of
//! the same records; a test compares them.

use weft_core::zones::answer::{Section, Sections};
use weft_core::zones::name::labels;
use weft_core::zones::record::RecordType;

use crate::message::{Code, Edns, HEADER, OPT_LENGTH, Request, UDP_LIMIT};

/// Names that others are compressed against, at most: as many as hickory-proto remembers.
const CANDIDATES: usize = 64;
/// Names that are compressed in one message, at most: decompression of more is an attack (CVE-2024-8508).
const COMPRESSED: usize = 120;
/// What a pointer can reach (RFC 1035, 4.1.4).
const REACH: usize = 0x3fff;

/// Writes one answer.
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
    limit: usize,
    question: usize,
    counts: [u16; 3],
    candidates: [u16; CANDIDATES],
    known: usize,
    compressed: usize,
    full: bool,
    truncated: bool,
}

impl<'a> Writer<'a> {
    /// Begins the answer to a question that stands at the beginning of `packet`. The buffer holds `limit` bytes.
    pub fn new(buffer: &'a mut [u8], packet: &[u8], request: &Request, limit: usize) -> Self {
        let end = request.end;
        buffer[..end].copy_from_slice(&packet[..end]);
        let reserved = if request.edns.is_some() {
            OPT_LENGTH
        } else {
            0
        };
        let mut writer = Self {
            buffer,
            at: end,
            limit: limit - reserved,
            question: end,
            counts: [0; 3],
            candidates: [0; CANDIDATES],
            known: 0,
            compressed: 1,
            full: false,
            truncated: false,
        };
        let mut start = HEADER;
        for label in labels(&packet[HEADER..end]) {
            writer.remember(start, end - 5);
            start += label.len() + 1;
        }
        writer
    }

    /// Ends the answer; returns its length.
    pub fn finish(mut self, packet: &[u8], flags: Flags, code: Code, edns: Option<Edns>) -> usize {
        let truncated = flags.truncated || self.truncated;
        header(self.buffer, packet, Flags { truncated, ..flags }, code);
        let mut counts = [1, self.counts[0], self.counts[1], self.counts[2]];
        if let Some(edns) = edns {
            self.at += opt(&mut self.buffer[self.at..], code, edns);
            counts[3] += 1;
        }
        for (index, count) in counts.into_iter().enumerate() {
            self.buffer[4 + index * 2..6 + index * 2].copy_from_slice(&count.to_be_bytes());
        }
        self.at
    }

    fn remember(&mut self, start: usize, end: usize) {
        if end < REACH && self.known < CANDIDATES {
            self.candidates[self.known] = u16::try_from(start).unwrap_or_default();
            self.known += 1;
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        if end > self.limit {
            return None;
        }
        self.buffer[self.at..end].copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    /// Writes a name, which is in wire form.
    fn name(&mut self, name: &[u8], compress: bool) -> Option<()> {
        let compress = compress && self.compressed < COMPRESSED;
        self.compressed += usize::from(compress);
        let begin = self.at;
        let end = begin + name.len() - 1;
        let mut offset = 0;
        while name[offset] != 0 {
            let place = compress.then(|| self.place(&name[offset..])).flatten();
            if let Some(place) = place {
                self.bytes(&name[..offset])?;
                return self.bytes(&(0xc000 | place).to_be_bytes());
            }
            self.remember(begin + offset, end);
            offset += usize::from(name[offset]) + 1;
        }
        self.bytes(&name[..=offset])
    }

    /// Where a name stands already.
    fn place(&self, name: &[u8]) -> Option<u16> {
        let mut places = self.candidates[..self.known].iter().copied();
        places.find(|&place| self.stands_at(name, usize::from(place)))
    }

    fn stands_at(&self, name: &[u8], place: usize) -> bool {
        // A name that is being written may be among the candidates; it ends where it has been written so far.
        let (mut at, mut rest) = (place, name);
        loop {
            let Some(&length) = self.buffer.get(at).filter(|_| at < self.at) else {
                return false;
            };
            if length >= 0xc0 {
                at = usize::from(length & 0x3f) << 8 | usize::from(self.buffer[at + 1]);
                continue;
            }
            let step = usize::from(length) + 1;
            if rest.len() < step || self.buffer[at..at + step] != rest[..step] {
                return false;
            }
            if length == 0 {
                return true;
            }
            (at, rest) = (at + step, &rest[step..]);
        }
    }

    fn record(&mut self, owner: &[u8], kind: RecordType, ttl: u32, data: &[u8]) -> Option<()> {
        if *owner == self.buffer[HEADER..self.question - 4] {
            self.bytes(&[0xc0, 12])?;
        } else {
            self.name(owner, true)?;
        }
        let mut fixed = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        fixed[..2].copy_from_slice(&kind.0.to_be_bytes());
        fixed[4..8].copy_from_slice(&ttl.to_be_bytes());
        self.bytes(&fixed)?;
        let from = self.at;
        self.data(kind, data)?;
        let length = u16::try_from(self.at - from).unwrap_or_default();
        self.buffer[from - 2..from].copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    fn data(&mut self, kind: RecordType, data: &[u8]) -> Option<()> {
        let Some((before, names)) = kind.names().filter(|_| kind != RecordType::DNAME) else {
            return self.bytes(data);
        };
        self.bytes(&data[..before])?;
        let mut rest = &data[before..];
        for _ in 0..names {
            let length = labels(rest).map(|label| label.len() + 1).sum::<usize>() + 1;
            self.name(&rest[..length], kind.compresses())?;
            rest = &rest[length..];
        }
        self.bytes(rest)
    }
}

impl Sections for Writer<'_> {
    fn put(
        &mut self,
        section: Section,
        owner: &[u8],
        kind: RecordType,
        ttl: u32,
        data: &[u8],
    ) -> bool {
        if self.full {
            return false;
        }
        let before = (self.at, self.known, self.compressed);
        if self.record(owner, kind, ttl, data).is_none() {
            (self.at, self.known, self.compressed) = before;
            self.full = true;
            self.truncated = section != Section::Additional;
            return false;
        }
        self.counts[count(section)] += 1;
        true
    }

    fn clear(&mut self) {
        self.at = self.question;
        self.known = self
            .known
            .min(labels(&self.buffer[HEADER..self.question]).count());
        self.compressed = 1;
        (self.counts, self.full, self.truncated) = ([0; 3], false, false);
    }
}

/// Which of the counts in a header a section is.
#[must_use]
pub fn count(section: Section) -> usize {
    match section {
        Section::Answer => 0,
        Section::Authority => 1,
        Section::Glue | Section::Additional => 2,
    }
}

/// What a header says beside its code (RFC 1035, 4.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// We are an authority for the answer.
    pub authoritative: bool,
    /// There is more than this.
    pub truncated: bool,
    /// We ask others.
    pub recursive: bool,
}

/// Writes the first four bytes of an answer.
pub fn header(buffer: &mut [u8], packet: &[u8], flags: Flags, code: Code) {
    buffer[..2].copy_from_slice(&packet[..2]);
    // Operation and "recursion desired" are the client's.
    buffer[2] = 0x80
        | packet[2] & 0x79
        | u8::from(flags.authoritative) << 2
        | u8::from(flags.truncated) << 1;
    // So is "checking disabled" (RFC 4035, 3.2.2).
    buffer[3] = u8::from(flags.recursive) << 7
        | packet[3] & 0x10
        | u8::try_from(code.0 & 15).unwrap_or_default();
}

/// Writes an OPT record; returns its length.
pub fn opt(buffer: &mut [u8], code: Code, edns: Edns) -> usize {
    let size = u16::try_from(UDP_LIMIT).unwrap_or_default().to_be_bytes();
    let high = u8::try_from(code.0 >> 4).unwrap_or_default();
    let dnssec = u8::from(edns.dnssec) << 7;
    buffer[..OPT_LENGTH].copy_from_slice(&[0, 0, 41, size[0], size[1], high, 0, dnssec, 0, 0, 0]);
    OPT_LENGTH
}

/// Writes an answer that is an error alone; returns its length.
pub fn refuse(
    buffer: &mut [u8],
    packet: &[u8],
    end: usize,
    code: Code,
    edns: Option<Edns>,
    recursive: bool,
) -> usize {
    buffer[..end].copy_from_slice(&packet[..end]);
    buffer[4..HEADER].fill(0);
    buffer[5] = u8::from(end > HEADER);
    let flags = Flags {
        recursive,
        ..Flags::default()
    };
    header(buffer, packet, flags, code);
    let Some(edns) = edns else {
        return end;
    };
    buffer[11] = 1;
    end + opt(&mut buffer[end..], code, edns)
}
