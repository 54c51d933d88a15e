//! Resource records: presentation form in, wire form out, with the rule that a bad one breaks.
//!
//! Data is kept uncompressed in wire form, because that is what is written into answers. The types are those
//! that zones of users may hold; any other type can be written as `TYPEnnn` with data in the form of RFC 3597.

use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::name::{Name, NameError};
use super::text::Token;

mod binding;

/// A type of records, by its number (IANA "Resource Record (RR) TYPEs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

/// Types that have a name and a presentation form here.
const NAMED: [(&str, RecordType); 21] = [
    ("A", RecordType::A),
    ("NS", RecordType::NS),
    ("CNAME", RecordType::CNAME),
    ("SOA", RecordType::SOA),
    ("PTR", RecordType::PTR),
    ("HINFO", RecordType::HINFO),
    ("MX", RecordType::MX),
    ("TXT", RecordType::TXT),
    ("AAAA", RecordType::AAAA),
    ("SRV", RecordType::SRV),
    ("NAPTR", RecordType::NAPTR),
    ("DNAME", RecordType::DNAME),
    ("DS", RecordType::DS),
    ("SSHFP", RecordType::SSHFP),
    ("TLSA", RecordType::TLSA),
    ("SVCB", RecordType::SVCB),
    ("HTTPS", RecordType::HTTPS),
    ("CAA", RecordType::CAA),
    ("ANY", RecordType::ANY),
    ("OPT", RecordType::OPT),
    ("AXFR", RecordType::AXFR),
];

impl RecordType {
    /// IPv4 address (RFC 1035).
    pub const A: Self = Self(1);
    /// Name server (RFC 1035).
    pub const NS: Self = Self(2);
    /// Alias (RFC 1035).
    pub const CNAME: Self = Self(5);
    /// Start of a zone (RFC 1035).
    pub const SOA: Self = Self(6);
    /// Name of an address (RFC 1035).
    pub const PTR: Self = Self(12);
    /// Host information; the short answer to ANY (RFC 8482).
    pub const HINFO: Self = Self(13);
    /// Mail exchange (RFC 1035).
    pub const MX: Self = Self(15);
    /// Text (RFC 1035).
    pub const TXT: Self = Self(16);
    /// IPv6 address (RFC 3596).
    pub const AAAA: Self = Self(28);
    /// Service location (RFC 2782).
    pub const SRV: Self = Self(33);
    /// Naming authority pointer (RFC 3403).
    pub const NAPTR: Self = Self(35);
    /// Redirection of a subtree (RFC 6672).
    pub const DNAME: Self = Self(39);
    /// EDNS (RFC 6891).
    pub const OPT: Self = Self(41);
    /// Delegation signer (RFC 4034).
    pub const DS: Self = Self(43);
    /// Fingerprint of an SSH key (RFC 4255).
    pub const SSHFP: Self = Self(44);
    /// TLS association (RFC 6698).
    pub const TLSA: Self = Self(52);
    /// Service binding (RFC 9460).
    pub const SVCB: Self = Self(64);
    /// Service binding of HTTPS (RFC 9460).
    pub const HTTPS: Self = Self(65);
    /// Zone transfer (RFC 5936).
    pub const AXFR: Self = Self(252);
    /// Any type, in questions (RFC 1035, RFC 8482).
    pub const ANY: Self = Self(255);
    /// Who may issue certificates (RFC 8659).
    pub const CAA: Self = Self(257);

    /// Reads `AAAA` or `TYPE28`, in any letter case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let named = NAMED
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|&(_, number)| number).or_else(|| {
            let number = text
                .get(..4)
                .filter(|head| head.eq_ignore_ascii_case("TYPE"));
            number.and_then(|_| text[4..].parse().ok()).map(Self)
        })
    }

    /// Where domain names stand in data of this type: bytes before the first one, and how many there are.
    #[must_use]
    pub fn names(self) -> Option<(usize, usize)> {
        match self {
            Self::NS | Self::CNAME | Self::PTR | Self::DNAME => Some((0, 1)),
            Self::MX | Self::SVCB | Self::HTTPS => Some((2, 1)),
            Self::SRV => Some((6, 1)),
            Self::SOA => Some((0, 2)),
            _ => None,
        }
    }

    /// Whether names in data of this type may be compressed: types of RFC 1035 alone (RFC 3597, 4).
    #[must_use]
    pub fn compresses(self) -> bool {
        matches!(
            self,
            Self::NS | Self::CNAME | Self::PTR | Self::MX | Self::SOA
        )
    }

    /// The name in data of this type that clients ask for next, if it holds one.
    #[must_use]
    pub fn target(self, data: &[u8]) -> Option<&[u8]> {
        let (at, _) = self.names()?;
        data.get(at..)
    }
}

impl std::fmt::Display for RecordType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match NAMED.iter().find(|(_, number)| number == self) {
            Some((name, _)) => formatter.write_str(name),
            None => write!(formatter, "TYPE{}", self.0),
        }
    }
}

/// Why the data of a record cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DataError {
    /// Something more has to follow.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// More than the type has room for.
    #[error("there is more after the data: {0:?}")]
    Surplus(String),
    /// A field that is not of its form.
    #[error("{text:?} is not {what}")]
    Field {
        /// What stands there.
        text: String,
        /// What should.
        what: &'static str,
    },
    /// A field that is no name.
    #[error("{text:?} is no domain name: {source}")]
    Name {
        /// What stands there.
        text: String,
        /// The rule.
        source: NameError,
    },
    /// A type without a presentation form here.
    #[error("data of type {0} is written as \\# LENGTH HEX (RFC 3597)")]
    Generic(RecordType),
    /// More bytes than a record may hold.
    #[error("the data has {0} bytes; a record holds at most 65535")]
    Long(usize),
}

/// Reads the data of a record from its presentation form.
///
/// # Errors
/// Data that the type does not allow.
pub fn parse_data(
    kind: RecordType,
    tokens: &[Token],
    origin: Option<&Name>,
) -> Result<Box<[u8]>, DataError> {
    let mut fields = Fields {
        tokens: tokens.iter(),
        origin,
        out: Vec::new(),
    };
    fields.data(kind)?;
    if let Some(token) = fields.tokens.next() {
        return Err(DataError::Surplus(token.lossy()));
    }
    match fields.out.len() {
        0..=65535 => Ok(fields.out.into()),
        length => Err(DataError::Long(length)),
    }
}

/// The fields of one record, read in order; what is read is written behind `out`.
struct Fields<'a> {
    tokens: std::slice::Iter<'a, Token>,
    origin: Option<&'a Name>,
    out: Vec<u8>,
}

impl Fields<'_> {
    fn data(&mut self, kind: RecordType) -> Result<(), DataError> {
        if self
            .tokens
            .as_slice()
            .first()
            .is_some_and(|token| token.is("\\#"))
        {
            return self.generic();
        }
        match kind {
            RecordType::A => self
                .parsed::<Ipv4Addr>("an IPv4 address")
                .map(|address| self.put(&address.octets())),
            RecordType::AAAA => self
                .parsed::<Ipv6Addr>("an IPv6 address")
                .map(|address| self.put(&address.octets())),
            RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => self.name(),
            RecordType::SOA => {
                self.name()?;
                self.name()?;
                self.number("a serial number")?;
                (0..4).try_for_each(|_| self.time())
            }
            RecordType::MX => {
                self.short("a preference")?;
                self.name()
            }
            RecordType::SRV => {
                self.short("a priority")?;
                self.short("a weight")?;
                self.short("a port")?;
                self.name()
            }
            RecordType::TXT => self.strings(),
            RecordType::HINFO => {
                self.string("a processor")?;
                self.string("a system")
            }
            RecordType::NAPTR => {
                self.short("an order")?;
                self.short("a preference")?;
                self.string("flags")?;
                self.string("services")?;
                self.string("a regular expression")?;
                self.name()
            }
            RecordType::DS => {
                self.short("a key tag")?;
                self.byte("an algorithm")?;
                self.byte("a digest type")?;
                self.hex("a digest in hex")
            }
            RecordType::SSHFP => {
                self.byte("an algorithm")?;
                self.byte("a fingerprint type")?;
                self.hex("a fingerprint in hex")
            }
            RecordType::TLSA => {
                self.byte("a certificate usage")?;
                self.byte("a selector")?;
                self.byte("a matching type")?;
                self.hex("association data in hex")
            }
            RecordType::CAA => self.issuer(),
            RecordType::SVCB | RecordType::HTTPS => self.binding(),
            _ => Err(DataError::Generic(kind)),
        }
    }

    fn token(&mut self, what: &'static str) -> Result<&Token, DataError> {
        self.tokens.next().ok_or(DataError::Missing(what))
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn parsed<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T, DataError> {
        let token = self.token(what)?;
        let text = token.lossy();
        text.parse().map_err(|_| DataError::Field { text, what })
    }

    fn byte(&mut self, what: &'static str) -> Result<(), DataError> {
        let value: u8 = self.parsed(what)?;
        self.put(&[value]);
        Ok(())
    }

    fn short(&mut self, what: &'static str) -> Result<(), DataError> {
        let value: u16 = self.parsed(what)?;
        self.put(&value.to_be_bytes());
        Ok(())
    }

    fn number(&mut self, what: &'static str) -> Result<(), DataError> {
        let value: u32 = self.parsed(what)?;
        self.put(&value.to_be_bytes());
        Ok(())
    }

    fn time(&mut self) -> Result<(), DataError> {
        const WHAT: &str = "a time in seconds";
        let text = self.token(WHAT)?.lossy();
        let seconds = seconds(&text).ok_or(DataError::Field { text, what: WHAT })?;
        self.put(&seconds.to_be_bytes());
        Ok(())
    }

    fn name(&mut self) -> Result<(), DataError> {
        let origin = self.origin;
        let text = self.token("a domain name")?.name_text();
        let name = Name::parse(&text, origin).map_err(|source| DataError::Name { text, source })?;
        self.put(name.wire());
        Ok(())
    }

    /// One string of at most 255 bytes (RFC 1035, 3.3).
    fn string(&mut self, what: &'static str) -> Result<(), DataError> {
        let bytes = self.token(what)?.bytes().to_vec();
        let length = u8::try_from(bytes.len()).map_err(|_| DataError::Field {
            text: String::from_utf8_lossy(&bytes[..32]).into_owned() + "…",
            what: "a string of at most 255 bytes",
        })?;
        self.put(&[length]);
        self.put(&bytes);
        Ok(())
    }

    /// One string or more.
    fn strings(&mut self) -> Result<(), DataError> {
        self.string("a text")?;
        while !self.tokens.as_slice().is_empty() {
            self.string("a text")?;
        }
        Ok(())
    }

    /// All that remains is hex, which may be cut by blanks.
    fn hex(&mut self, what: &'static str) -> Result<(), DataError> {
        let mut text = self.token(what)?.lossy();
        for token in self.tokens.by_ref() {
            text.push_str(&token.lossy());
        }
        let bytes = decode_hex(&text).ok_or(DataError::Field { text, what })?;
        self.put(&bytes);
        Ok(())
    }

    fn issuer(&mut self) -> Result<(), DataError> {
        self.byte("flags")?;
        let tag = self.token("a tag")?.bytes().to_vec();
        let fits = (1..=15).contains(&tag.len()) && tag.iter().all(u8::is_ascii_alphanumeric);
        let length = u8::try_from(tag.len())
            .ok()
            .filter(|_| fits)
            .ok_or_else(|| DataError::Field {
                text: String::from_utf8_lossy(&tag).into_owned(),
                what: "a tag of 1 to 15 letters and digits (RFC 8659)",
            })?;
        self.put(&[length]);
        self.put(&tag);
        let value = self.token("a value")?.bytes().to_vec();
        self.put(&value);
        Ok(())
    }

    /// `\# LENGTH HEX` (RFC 3597, 5).
    fn generic(&mut self) -> Result<(), DataError> {
        self.tokens.next();
        let length: usize = self.parsed("a length")?;
        if length > 0 {
            self.hex("data in hex")?;
        }
        if self.out.len() == length {
            return Ok(());
        }
        Err(DataError::Field {
            text: length.to_string(),
            what: "the length of the data",
        })
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// Reads a time: seconds, or numbers with the units s, m, h, d, w (`1h30m`). None beyond 2³¹ - 1 (RFC 2181, 8).
#[must_use]
pub fn seconds(text: &str) -> Option<u32> {
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for byte in text.bytes() {
        let unit = match byte.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                let next = number.unwrap_or(0).checked_mul(10)? + u64::from(digit - b'0');
                number = Some(next);
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    if total == 0 || number.is_some() {
        total = total.checked_add(number?)?;
    }
    u32::try_from(total).ok().filter(|&total| total <= MAX_TTL)
}

/// Largest time to live (RFC 2181, 8).
pub const MAX_TTL: u32 = 0x7fff_ffff;

#[cfg(test)]
mod tests;
