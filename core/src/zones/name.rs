//! Domain names in wire form (RFC 1035, 3.1): text in, uncompressed bytes out, and back.
//!
//! A [`Name`] is lower case, because names are compared without regard to case (RFC 4343) and a map
//! then finds them by their bytes. [`NameBuf`] puts a name together on the stack, so that the answer
//! to a question allocates nothing.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// Longest name in wire form, its last zero included (RFC 1035, 2.3.4).
pub const MAX_NAME: usize = 255;
/// Longest label (RFC 1035, 2.3.4).
pub const MAX_LABEL: usize = 63;

/// Why text is no domain name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Two dots in a row, or no text at all.
    #[error("a label is empty")]
    EmptyLabel,
    /// More than [`MAX_LABEL`] bytes.
    #[error("a label is longer than 63 bytes")]
    LongLabel,
    /// More than [`MAX_NAME`] bytes.
    #[error("the name is longer than 255 bytes")]
    LongName,
    /// A backslash without a character or three digits up to 255.
    #[error("a backslash stands before a character or before three digits up to 255")]
    Escape,
    /// A relative name where nothing says what it is relative to.
    #[error("the name has to end in a dot")]
    Relative,
}

/// A domain name: lower case, absolute, in wire form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Reads text with the escapes of RFC 1035, 5.1. `origin` completes a name that does not end in a dot;
    /// `@` alone is the origin.
    ///
    /// # Errors
    /// Text that is no name.
    pub fn parse(text: &str, origin: Option<&Self>) -> Result<Self, NameError> {
        if text == "@" {
            return origin.cloned().ok_or(NameError::Relative);
        }
        let mut name = NameBuf::default();
        if text == "." {
            return name.finish();
        }
        let mut label = Vec::with_capacity(MAX_LABEL);
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                b'.' => {
                    name.push(&label)?;
                    label.clear();
                    if bytes.peek().is_none() {
                        return name.finish();
                    }
                }
                b'\\' => label.push(unescape(&mut bytes)?.to_ascii_lowercase()),
                _ => label.push(byte.to_ascii_lowercase()),
            }
        }
        name.push(&label)?;
        let origin = origin.ok_or(NameError::Relative)?;
        name.append(origin.wire())?;
        name.finish()
    }

    /// Reads text as an absolute name, with or without its last dot.
    ///
    /// # Errors
    /// Text that is no name.
    pub fn absolute(text: &str) -> Result<Self, NameError> {
        Self::parse(text, Some(&Self::root()))
    }

    /// The root of all names.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Takes bytes that are known to be a whole name in wire form; makes them lower case.
    #[must_use]
    pub fn from_wire(wire: &[u8]) -> Self {
        Self(wire.to_ascii_lowercase().into())
    }

    /// The reverse name of an address (RFC 1035, 3.5; RFC 3596, 2.5).
    #[must_use]
    pub fn reverse(address: IpAddr) -> Self {
        let text = match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
            }
            IpAddr::V6(address) => {
                let mut text = String::with_capacity(73);
                for byte in address.octets().iter().rev() {
                    text.push_str(&format!("{:x}.{:x}.", byte & 15, byte >> 4));
                }
                text + "ip6.arpa."
            }
        };
        Self::absolute(&text).unwrap_or_else(|_| Self::root())
    }

    /// The bytes, the last zero included.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// How many labels the name has, without the root.
    #[must_use]
    pub fn count(&self) -> usize {
        labels(&self.0).count()
    }

    /// Whether this name is `other` or stands below it.
    #[must_use]
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        is_at_or_below(&self.0, &other.0)
    }

    /// The name without its first label; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let first = usize::from(self.0[0]);
        (first > 0).then(|| Self(self.0[first + 1..].into()))
    }

    /// The first label; none for the root.
    #[must_use]
    pub fn first(&self) -> Option<&[u8]> {
        labels(&self.0).next()
    }

    /// Whether the name stands in one of the two trees of reverse names.
    #[must_use]
    pub fn is_reverse(&self) -> bool {
        self.0.ends_with(b"\x07in-addr\x04arpa\0") || self.0.ends_with(b"\x03ip6\x04arpa\0")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(formatter, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(formatter, &self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::absolute(&text).map_err(serde::de::Error::custom)
    }
}

/// Writes a name in wire form as text, with a last dot.
fn write_wire(formatter: &mut fmt::Formatter<'_>, wire: &[u8]) -> fmt::Result {
    if wire == [0] {
        return formatter.write_str(".");
    }
    for label in labels(wire) {
        for &byte in label {
            match byte {
                b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                    write!(formatter, "\\{}", char::from(byte))?;
                }
                0x21..=0x7e => write!(formatter, "{}", char::from(byte))?,
                _ => write!(formatter, "\\{byte:03}")?,
            }
        }
        formatter.write_str(".")?;
    }
    Ok(())
}

/// The byte that an escape stands for; the backslash is already read.
pub(crate) fn unescape(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::Escape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes
            .next()
            .filter(u8::is_ascii_digit)
            .ok_or(NameError::Escape)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::Escape)
}

/// The labels of a name in wire form, first to last, without the root. Ends early on bytes that are no name.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (&length, tail) = rest.split_first()?;
        if length == 0 || usize::from(length) > tail.len() {
            return None;
        }
        let (label, tail) = tail.split_at(usize::from(length));
        rest = tail;
        Some(label)
    })
}

/// Whether one name in wire form is another or stands below it; both in lower case.
#[must_use]
pub fn is_at_or_below(wire: &[u8], other: &[u8]) -> bool {
    let mut rest = wire;
    while rest.len() > other.len() {
        rest = &rest[usize::from(rest[0]) + 1..];
    }
    rest == other
}

/// A name that is put together on the stack.
#[derive(Clone)]
pub struct NameBuf {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl Default for NameBuf {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_NAME],
            length: 0,
        }
    }
}

impl NameBuf {
    /// Appends one label.
    ///
    /// # Errors
    /// An empty label, one that is too long, or no more room.
    pub fn push(&mut self, label: &[u8]) -> Result<(), NameError> {
        match u8::try_from(label.len()) {
            Ok(0) => return Err(NameError::EmptyLabel),
            Ok(length) if label.len() <= MAX_LABEL => self.append(&[length])?,
            _ => return Err(NameError::LongLabel),
        }
        self.append(label)
    }

    /// Appends bytes that are labels in wire form already.
    ///
    /// # Errors
    /// No more room.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), NameError> {
        let end = self.length + bytes.len();
        let room = self
            .bytes
            .get_mut(self.length..end)
            .ok_or(NameError::LongName)?;
        room.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// The bytes so far.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Takes a whole name in wire form; one that is too long leaves it empty.
    pub fn set(&mut self, wire: &[u8]) {
        self.length = 0;
        let _ = self.append(wire);
    }

    /// Takes the name in wire form that bytes begin with, whatever follows it.
    pub fn set_first(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(&length) = bytes.get(at).filter(|&&length| length > 0) {
            at += usize::from(length) + 1;
        }
        self.set(bytes.get(..=at).unwrap_or_default());
    }

    /// Forgets all but the first bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The name, ended by the root where it has not been yet.
    fn finish(mut self) -> Result<Name, NameError> {
        if !ends_in_root(self.wire()) {
            self.append(&[0])?;
        }
        Ok(Name(self.wire().into()))
    }
}

fn ends_in_root(wire: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&length) = wire.get(at) {
        if length == 0 {
            return true;
        }
        at += usize::from(length) + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::absolute(text).expect("a name")
    }

    #[test]
    fn text_and_wire_are_the_same_name() {
        assert_eq!(name("WWW.Example.").wire(), b"\x03www\x07example\0");
        assert_eq!(name("www.example.").to_string(), "www.example.");
        assert_eq!(name(".").wire(), [0]);
    }

    #[test]
    fn escapes_are_bytes_of_a_label() {
        assert_eq!(name(r"has\046dot.x.").wire(), b"\x07has.dot\x01x\0");
        assert_eq!(name(r"has\.dot.x.").to_string(), r"has\.dot.x.");
        assert_eq!(Name::absolute(r"a\999."), Err(NameError::Escape));
    }

    #[test]
    fn relative_names_need_an_origin() {
        let origin = name("example.");
        assert_eq!(Name::parse("www", Some(&origin)), Ok(name("www.example.")));
        assert_eq!(Name::parse("@", Some(&origin)), Ok(origin));
        assert_eq!(Name::parse("www", None), Err(NameError::Relative));
    }

    #[test]
    fn what_is_too_long_is_no_name() {
        assert_eq!(Name::absolute(&"a".repeat(64)), Err(NameError::LongLabel));
        assert_eq!(Name::absolute(&"a.".repeat(128)), Err(NameError::LongName));
        assert_eq!(name(&"a.".repeat(127)).wire().len(), 255);
        assert_eq!(Name::absolute("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::absolute(""), Err(NameError::EmptyLabel));
    }

    #[test]
    fn a_name_is_below_its_ancestors_only() {
        assert!(name("a.b.c").is_at_or_below(&name("b.c")));
        assert!(name("b.c").is_at_or_below(&name("b.c")));
        assert!(!name("ab.c").is_at_or_below(&name("b.c")));
        assert!(!name("c").is_at_or_below(&name("b.c")));
    }

    #[test]
    fn addresses_have_reverse_names() {
        let four = Name::reverse("10.1.2.3".parse().expect("an address"));
        assert_eq!(four.to_string(), "3.2.1.10.in-addr.arpa.");
        let six = Name::reverse("2001:db8::1".parse().expect("an address"));
        assert!(six.to_string().starts_with("1.0.0.0."));
        assert!(six.to_string().ends_with("8.b.d.0.1.0.0.2.ip6.arpa."));
    }
}
