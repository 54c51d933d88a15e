//! Bytes of netlink messages and attributes: a writer that nests, and a reader that never panics.
//!
//! The reader stands on netlink-packet-core's checked iterator; all that it returns are slices of
//! what it was given.

use netlink_packet_core::{NLA_F_NESTED, NlasIterator};

use crate::decode::DecodeError;

/// Family number of tables of family `inet` (`NFPROTO_INET`).
pub(crate) const NFPROTO_INET: u8 = 1;
/// Length of `struct nlmsghdr`.
pub(crate) const NLMSG_HEADER: usize = 16;
/// Length of `struct nfgenmsg`.
pub(crate) const NFGEN_HEADER: usize = 4;

/// Writes messages one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    /// A message with `nfgenmsg` in front of its attributes.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        sequence: u32,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// An attribute of bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend(value));
    }

    /// An attribute of text with its final zero.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// An attribute of a number in network order.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute of a number in network order.
    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub(crate) fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NLA_F_NESTED, body);
    }

    /// An attribute of what `body` writes.
    pub(crate) fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
        let end = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(end, 0);
    }

    fn patch(&mut self, start: usize, value: &[u8]) {
        for (byte, new) in self.bytes.iter_mut().skip(start).zip(value) {
            *byte = *new;
        }
    }
}

/// The attributes of one level, by kind; of a kind that comes twice the last one counts.
#[derive(Debug)]
pub(crate) struct Attributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attributes<'a> {
    /// Reads the attributes that `bytes` consist of.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut all = Vec::new();
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute.map_err(|_| DecodeError::Attributes)?;
            let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
            let value = attribute.into_inner().get(4..length);
            all.push((kind, value.ok_or(DecodeError::Attributes)?));
        }
        Ok(Self(all))
    }

    /// All attributes of this level in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// The value of an attribute, if it is there.
    pub(crate) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        let found = self.0.iter().rev().find(|(known, _)| *known == kind);
        found.map(|(_, value)| *value)
    }

    /// The value of an attribute that must be there; `name` is the kernel's name of it.
    pub(crate) fn need(&self, kind: u16, name: &'static str) -> Result<&'a [u8], DecodeError> {
        self.get(kind).ok_or(DecodeError::Missing(name))
    }

    /// A number in network order, if it is there and has the right length.
    pub(crate) fn be32(&self, kind: u16) -> Option<u32> {
        let bytes = self.get(kind)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// A number in network order, if it is there and has the right length.
    pub(crate) fn be64(&self, kind: u16) -> Option<u64> {
        let bytes = self.get(kind)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    /// A text up to its final zero, if it is there.
    pub(crate) fn string(&self, kind: u16) -> Option<String> {
        self.get(kind).map(text)
    }
}

/// A text up to its first zero; what is not UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// User data with one more entry, in the form that libnftnl gives it.
pub(crate) fn push_user_data(data: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let length = value.len().min(usize::from(u8::MAX));
    data.push(kind);
    data.push(length.to_le_bytes()[0]);
    data.extend(value.iter().take(length));
}

/// User data that holds a comment and nothing else.
pub(crate) fn comment_user_data(kind: u8, comment: &str) -> Vec<u8> {
    let mut data = Vec::new();
    push_comment(&mut data, kind, comment);
    data
}

/// User data with a comment behind what it holds.
pub(crate) fn push_comment(data: &mut Vec<u8>, kind: u8, comment: &str) {
    let mut value = comment.as_bytes().to_vec();
    value.push(0);
    push_user_data(data, kind, &value);
}

/// An entry of user data.
pub(crate) fn user_data(mut data: &[u8], kind: u8) -> Option<&[u8]> {
    while let [found, length, rest @ ..] = data {
        let length = usize::from(*length);
        let value = rest.get(..length)?;
        if *found == kind {
            return Some(value);
        }
        data = rest.get(length..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_come_back() {
        let mut writer = Writer::default();
        writer.nested(3, |writer| {
            writer.string(1, "abc");
            writer.be32(2, 7);
        });
        assert_eq!(writer.bytes.len(), 4 + 8 + 8);
        let outer = Attributes::parse(&writer.bytes).unwrap();
        let inner = Attributes::parse(outer.get(3).unwrap()).unwrap();
        assert_eq!(inner.string(1).as_deref(), Some("abc"));
        assert_eq!(inner.be32(2), Some(7));
        assert_eq!(
            inner.be32(1).map(|_| ()),
            Some(()),
            "four bytes are a number"
        );
        assert_eq!(inner.be64(2), None, "four bytes are no long number");
    }

    #[test]
    fn an_attribute_beyond_its_message_is_an_error() {
        let truncated = Attributes::parse(&[12, 0, 1, 0, 0, 0]);
        assert_eq!(truncated.unwrap_err(), DecodeError::Attributes);
        let too_short = Attributes::parse(&[3, 0, 1, 0]);
        assert_eq!(too_short.unwrap_err(), DecodeError::Attributes);
    }

    #[test]
    fn a_comment_has_the_form_that_nft_reads() {
        let data = comment_user_data(0, "hi");
        assert_eq!(data, [0, 3, b'h', b'i', 0]);
        assert_eq!(user_data(&data, 0).map(text).as_deref(), Some("hi"));
        assert_eq!(user_data(&data, 7), None);
        assert_eq!(user_data(&[0, 9, 1], 0), None, "longer than what is there");
    }
}
