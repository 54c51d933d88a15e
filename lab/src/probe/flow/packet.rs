//! The payload of a numbered packet: a mark, the flow, the number, when it was sent.

/// The first bytes of every numbered packet.
const MARK: &[u8; 8] = b"weftflow";
/// Length in bytes.
pub const LENGTH: usize = 32;

/// A numbered packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which flow.
    pub flow: u64,
    /// Which number, from 0.
    pub number: u64,
    /// Nanoseconds since 1970.
    pub sent: u64,
}

impl Packet {
    /// As it travels.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MARK);
        for (place, value) in
            bytes[8..]
                .chunks_exact_mut(8)
                .zip([self.flow, self.number, self.sent])
        {
            place.copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }

    /// `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MARK)?;
        let value = |at: usize| Some(u64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            flow: value(0)?,
            number: value(8)?,
            sent: value(16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_other_bytes_are_not() {
        let packet = Packet {
            flow: 7,
            number: u64::MAX,
            sent: 3,
        };
        assert_eq!(Packet::decode(&packet.encode()), Some(packet));
        assert_eq!(Packet::decode(&packet.encode()[..31]), None);
        assert_eq!(
            Packet::decode(b"something else, long enough to be read"),
            None
        );
    }
}
