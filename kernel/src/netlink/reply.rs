//! A datagram from the kernel as messages, and a message as an acknowledgement.

use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NlasIterator, Parseable,
};
use nix::errno::Errno;

use super::{Error, Outcome, Refusal};

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the kernel's explanation.
const ATTR_MSG: u16 = 1;
/// Size of a netlink header, in bytes.
const HEADER: usize = 16;

/// One message of a datagram.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) header: NetlinkHeader,
    pub(crate) payload: &'a [u8],
    /// The message with its header.
    pub(crate) whole: &'a [u8],
}

/// The messages of a datagram, in order.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Error>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = first(datagram);
        datagram = match &message {
            Ok(message) => {
                let length = (message.header.length as usize).next_multiple_of(4);
                datagram.get(length..).unwrap_or_default()
            }
            Err(_) => &[],
        };
        Some(message)
    })
}

fn first(datagram: &[u8]) -> Result<Message<'_>, Error> {
    let unreadable = |error: netlink_packet_core::DecodeError| Error::Unreadable(error.to_string());
    let buffer = NetlinkBuffer::new_checked(datagram).map_err(unreadable)?;
    let header =
        <NetlinkHeader as Parseable<NetlinkBuffer<&&[u8]>>>::parse(&NetlinkBuffer::new(&datagram))
            .map_err(unreadable)?;
    let payload = buffer.payload();
    let whole = &datagram[..HEADER + payload.len()];
    Ok(Message {
        header,
        payload,
        whole,
    })
}

impl Message<'_> {
    /// What this message says about a request, if it is an acknowledgement.
    pub(crate) fn acknowledgement(&self) -> Option<Outcome> {
        (self.header.message_type == NLMSG_ERROR).then(|| match self.code() {
            0 => Ok(()),
            code => Err(Refusal {
                errno: Errno::from_raw(-code),
                explanation: self.explanation(),
            }),
        })
    }

    /// Ends a dump, with what became of it.
    pub(crate) fn end_of_dump(&self) -> Option<Outcome> {
        if self.header.message_type != NLMSG_DONE {
            return None;
        }
        Some(match self.code() {
            0 => Ok(()),
            code => Err(Refusal {
                errno: Errno::from_raw(code.abs()),
                explanation: None,
            }),
        })
    }

    /// The objects changed while they were listed.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.header.flags & NLM_F_DUMP_INTR != 0
    }

    fn code(&self) -> i32 {
        let code = self.payload.first_chunk::<4>();
        code.map_or(0, |code| i32::from_ne_bytes(*code))
    }

    fn explanation(&self) -> Option<String> {
        if self.header.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let repeated = if self.header.flags & NLM_F_CAPPED == 0 {
            let length = self.payload.get(4..8)?.first_chunk::<4>()?;
            (u32::from_ne_bytes(*length) as usize).next_multiple_of(4)
        } else {
            HEADER
        };
        NlasIterator::new(self.payload.get(4 + repeated..)?)
            .flatten()
            .find(|attribute| attribute.kind() == ATTR_MSG)
            .map(|attribute| {
                let text = attribute.value();
                let text = text.strip_suffix(&[0]).unwrap_or(text);
                String::from_utf8_lossy(text).into_owned()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(code: i32, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(36_u32.to_ne_bytes());
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend(NLM_F_CAPPED.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn a_datagram_may_hold_several_acknowledgements() {
        let mut bytes = datagram(0, 7);
        bytes.extend(datagram(-17, 8));
        let found: Vec<_> = messages(&bytes).map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].acknowledgement(), Some(Ok(())));
        assert_eq!(found[1].header.sequence_number, 8);
        let refusal = found[1].acknowledgement().unwrap().unwrap_err();
        assert_eq!(refusal.errno, Errno::EEXIST);
    }

    #[test]
    fn a_cut_datagram_is_an_error_and_ends_the_messages() {
        let bytes = datagram(0, 7);
        let found: Vec<_> = messages(&bytes[..30]).collect();
        assert_eq!(found.len(), 1);
        assert!(matches!(found[0], Err(Error::Unreadable(_))));
    }
}
