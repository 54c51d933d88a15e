//! What the kernel sends, read into values: answers, dumps and notifications.
//!
//! Bytes from outside never panic and unknown attributes are passed over. [`messages`] cuts a
//! datagram into [`Message`]s; a [`Reader`] gathers those of a dump into a [`Table`](crate::Table).

use crate::TableFlags;
use crate::uapi::*;
use crate::wire::{Attributes, NFGEN_HEADER, NFPROTO_INET, NLMSG_HEADER, text};

mod elements;
mod expression;
mod object;
mod reader;
mod set;

pub use elements::ElementReader;
pub use object::{RawChain, RawElements, RawRule, RawSet, UnknownBase};
pub use reader::Reader;

/// Why bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A message's length is not that of a message or leads beyond the datagram.
    #[error("a netlink message of {length} bytes does not fit into the {available} that are there")]
    Message {
        /// Length that the message claims.
        length: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// Attributes that do not fit into their message.
    #[error("a netlink attribute is longer than what holds it")]
    Attributes,
    /// An attribute that must be there is not.
    #[error("attribute {0} is missing from a netlink message, or is too short")]
    Missing(&'static str),
    /// The dump was interrupted by a change and is not whole.
    #[error("the ruleset changed while it was read: read it again")]
    Interrupted,
}

/// A message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Sequence number of the request; 0 in a notification.
    pub sequence: u32,
    /// What the message says.
    pub content: Content,
    /// The dump that this belongs to was interrupted by a change (`NLM_F_DUMP_INTR`).
    pub interrupted: bool,
    /// The low half of the number of the generation that the message is from (`nfgenmsg.res_id`).
    pub generation: u16,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The end of a dump.
    Done,
    /// The request was carried out.
    Acknowledged,
    /// The request was refused.
    Refused(Refusal),
    /// In a dump: this is there. In a notification: this came or changed.
    New(Object),
    /// In a notification: this is gone.
    Deleted(Object),
    /// A message of another subsystem, or one without meaning here.
    Other,
}

/// Why the kernel refused a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel refused message {sequence}: errno {errno}{}", self.reason())]
pub struct Refusal {
    /// Sequence number of the message that was refused; that of a batch's first message if the
    /// commit failed.
    pub sequence: u32,
    /// A positive error number, such as 16 (`EBUSY`).
    pub errno: i32,
    /// What the kernel says about it, if the socket asked for extended acknowledgements.
    pub message: Option<String>,
}

/// Something in the kernel's ruleset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A table.
    Table {
        /// Name; the family is `inet`.
        name: String,
        /// Flags.
        flags: TableFlags,
        /// Port of the netlink socket that owns it.
        owner_port: Option<u32>,
    },
    /// A chain.
    Chain(RawChain),
    /// A rule.
    Rule(RawRule),
    /// A set without its elements.
    Set(RawSet),
    /// Elements of a set.
    Elements(RawElements),
    /// A new generation of the whole ruleset.
    Generation {
        /// Its number.
        id: u32,
        /// Process that made it.
        process: Option<u32>,
        /// Name of that process.
        name: Option<String>,
    },
    /// Something of another family or a kind that this model does not have.
    Foreign {
        /// Number of the family (`NFPROTO_*`).
        family: u8,
        /// Number of the message (`NFT_MSG_*`).
        kind: u8,
    },
}

/// Cuts a datagram into messages. After an error there are no more.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message, DecodeError>> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (message, behind) = match cut(rest) {
            Ok(split) => split,
            Err(error) => {
                rest = &[];
                return Some(Err(error));
            }
        };
        rest = behind;
        Some(parse(message))
    })
}

impl Refusal {
    fn reason(&self) -> String {
        let message = self.message.as_deref();
        message.map(|text| format!(": {text}")).unwrap_or_default()
    }
}

impl Object {
    /// Name of the table of family `inet` that this concerns.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Table { name, .. } => Some(name),
            Self::Chain(RawChain { table, .. })
            | Self::Rule(RawRule { table, .. })
            | Self::Set(RawSet { table, .. })
            | Self::Elements(RawElements { table, .. }) => Some(table),
            Self::Generation { .. } | Self::Foreign { .. } => None,
        }
    }
}

impl Message {
    /// Whether the message is about this table of family `inet` or about something in it.
    #[must_use]
    pub fn concerns(&self, table: &str) -> bool {
        match &self.content {
            Content::New(object) | Content::Deleted(object) => object.table() == Some(table),
            Content::Done | Content::Acknowledged | Content::Refused(_) | Content::Other => false,
        }
    }
}

/// The first message of a datagram and what is behind it.
fn cut(datagram: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let available = datagram.len();
    let length = number_at(datagram, 0).map_or(0, |length| length as usize);
    let message = datagram.get(..length);
    match message {
        Some(message) if length >= NLMSG_HEADER => {
            let next = length.next_multiple_of(4);
            Ok((message, datagram.get(next..).unwrap_or_default()))
        }
        _ => Err(DecodeError::Message { length, available }),
    }
}

fn parse(message: &[u8]) -> Result<Message, DecodeError> {
    let kinds = number_at(message, 4).unwrap_or_default().to_ne_bytes();
    let [kind_low, kind_high, flags_low, flags_high] = kinds;
    let kind = u16::from_ne_bytes([kind_low, kind_high]);
    let flags = u16::from_ne_bytes([flags_low, flags_high]);
    let sequence = number_at(message, 8).unwrap_or_default();
    let body = message.get(NLMSG_HEADER..).unwrap_or_default();
    let (content, generation) = match kind {
        NLMSG_DONE => (done(sequence, body), 0),
        NLMSG_ERROR => (answer(sequence, flags, body)?, 0),
        kind if kind >> 8 == NFNL_SUBSYS_NFTABLES => subsystem(kind.to_le_bytes()[0], body)?,
        _ => (Content::Other, 0),
    };
    Ok(Message {
        sequence,
        content,
        interrupted: flags & NLM_F_DUMP_INTR != 0,
        generation,
    })
}

/// A dump's end, which carries an error number if it ended early.
fn done(sequence: u32, body: &[u8]) -> Content {
    let errno = number_at(body, 0).map_or(0, u32::cast_signed);
    if errno >= 0 {
        return Content::Done;
    }
    Content::Refused(Refusal {
        sequence,
        errno: errno.saturating_neg(),
        message: None,
    })
}

fn answer(sequence: u32, flags: u16, body: &[u8]) -> Result<Content, DecodeError> {
    let errno = number_at(body, 0).ok_or(DecodeError::Missing("nlmsgerr.error"))?;
    let errno = errno.cast_signed();
    if errno == 0 {
        return Ok(Content::Acknowledged);
    }
    let message = if flags & NLM_F_ACK_TLVS == 0 {
        None
    } else {
        extended_message(flags, body)
    };
    Ok(Content::Refused(Refusal {
        sequence,
        errno: errno.saturating_neg(),
        message,
    }))
}

/// The text behind the request that an error message repeats.
fn extended_message(flags: u16, body: &[u8]) -> Option<String> {
    let repeated = if flags & NLM_F_CAPPED == 0 {
        (number_at(body, 4)? as usize).max(NLMSG_HEADER)
    } else {
        NLMSG_HEADER
    };
    let behind = body.get(4_usize.checked_add(repeated.next_multiple_of(4))?..)?;
    Attributes::parse(behind).ok()?.string(NLMSGERR_ATTR_MSG)
}

fn subsystem(kind: u8, body: &[u8]) -> Result<(Content, u16), DecodeError> {
    let header = body.get(..NFGEN_HEADER);
    let Some([family, _, high, low]) = header else {
        return Err(DecodeError::Missing("nfgenmsg"));
    };
    let generation = u16::from_be_bytes([*high, *low]);
    let attributes = Attributes::parse(body.get(NFGEN_HEADER..).unwrap_or_default())?;
    let content = if *family == NFPROTO_INET || kind == NEWGEN {
        content(kind, &attributes)?
    } else {
        Content::New(Object::Foreign {
            family: *family,
            kind,
        })
    };
    Ok((content, generation))
}

fn content(kind: u8, attributes: &Attributes<'_>) -> Result<Content, DecodeError> {
    Ok(match kind {
        NEWTABLE => Content::New(table(attributes)?),
        DELTABLE => Content::Deleted(table(attributes)?),
        NEWCHAIN => Content::New(Object::Chain(RawChain::parse(attributes)?)),
        DELCHAIN => Content::Deleted(Object::Chain(RawChain::parse(attributes)?)),
        NEWRULE => Content::New(Object::Rule(RawRule::parse(attributes)?)),
        DELRULE => Content::Deleted(Object::Rule(RawRule::parse(attributes)?)),
        NEWSET => Content::New(Object::Set(RawSet::parse(attributes)?)),
        DELSET => Content::Deleted(Object::Set(RawSet::parse(attributes)?)),
        NEWSETELEM => Content::New(Object::Elements(RawElements::parse(attributes)?)),
        DELSETELEM => Content::Deleted(Object::Elements(RawElements::parse(attributes)?)),
        NEWGEN => Content::New(generation(attributes)?),
        kind => Content::New(Object::Foreign {
            family: NFPROTO_INET,
            kind,
        }),
    })
}

fn table(attributes: &Attributes<'_>) -> Result<Object, DecodeError> {
    let flags = attributes.be32(NFTA_TABLE_FLAGS).unwrap_or_default();
    Ok(Object::Table {
        name: text(attributes.need(NFTA_TABLE_NAME, "NFTA_TABLE_NAME")?),
        flags: TableFlags {
            owner: flags & NFT_TABLE_F_OWNER != 0,
            persist: flags & NFT_TABLE_F_PERSIST != 0,
        },
        owner_port: attributes.be32(NFTA_TABLE_OWNER),
    })
}

fn generation(attributes: &Attributes<'_>) -> Result<Object, DecodeError> {
    let id = attributes.be32(NFTA_GEN_ID);
    Ok(Object::Generation {
        id: id.ok_or(DecodeError::Missing("NFTA_GEN_ID"))?,
        process: attributes.be32(NFTA_GEN_PROC_PID),
        name: attributes.string(NFTA_GEN_PROC_NAME),
    })
}

/// The number in host order at a place of a header.
fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
