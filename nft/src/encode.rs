//! Batches and requests as netlink bytes, ready for one `sendmsg`.
//!
//! A batch is `NFNL_MSG_BATCH_BEGIN`, one or more messages for each change, `NFNL_MSG_BATCH_END`.
//! The last message asks for an acknowledgement: its answer tells that the kernel took all of it.

use crate::uapi::*;
use crate::wire::{NFPROTO_INET, Writer};
use crate::{Base, Batch, ChainKind, Change, Hook, Policy, TableFlags, wire};

mod expression;
mod set;

/// A batch as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The messages.
    pub bytes: Vec<u8>,
    /// Sequence number of the first message; an error of the commit itself carries it.
    pub first_sequence: u32,
    /// Sequence number of the message that is acknowledged. When its answer arrives there are no
    /// others; if none of them was an error, the batch stands.
    pub acknowledged_sequence: u32,
    /// Sequence number to go on with.
    pub next_sequence: u32,
    /// For each message behind the first: the place of its change in the batch.
    origins: Vec<usize>,
}

/// What to ask the kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Number of the ruleset's generation; one answer.
    Generation,
    /// All tables of family `inet`.
    Tables,
    /// All chains of family `inet`.
    Chains,
    /// The rules of a table.
    Rules {
        /// Name of the table.
        table: &'a str,
    },
    /// The sets of a table, without elements.
    Sets {
        /// Name of the table.
        table: &'a str,
    },
    /// The elements of a set.
    Elements {
        /// Name of the table.
        table: &'a str,
        /// Name of the set.
        set: &'a str,
    },
}

/// Why a batch has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text is longer than the kernel or nft keeps it.
    #[error("{text:?} is {length} bytes long: {what} takes at most {limit}")]
    TooLong {
        /// What the text is.
        what: &'static str,
        /// The text.
        text: String,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A key takes more than the sixteen registers that there are.
    #[error("the key {0} is longer than 64 bytes: use fewer or shorter parts")]
    KeyTooLong(String),
    /// A range where the set or the type has none.
    #[error("{0} cannot be a range here: use an interval set and a type that has an order")]
    NotARange(String),
    /// A rule that only a decoder makes.
    #[error("statement {0:?} was not made by this model and cannot be encoded")]
    Unknown(String),
    /// A comparison that no packet or every packet passes.
    #[error("{0} compares with nothing: give it a value")]
    Empty(String),
}

/// Longest name of a table, chain or set in bytes (`NFT_NAME_MAXLEN` with its final zero).
const NAME_LIMIT: usize = 255;
/// Longest comment in bytes (nft's `NFTNL_UDATA_COMMENT_MAXLEN` with its final zero).
const COMMENT_LIMIT: usize = 127;

impl Encoded {
    /// The place in the batch of the change that a message was about.
    #[must_use]
    pub fn change(&self, sequence: u32) -> Option<usize> {
        let index = sequence.checked_sub(self.first_sequence)?.checked_sub(1)?;
        self.origins.get(usize::try_from(index).ok()?).copied()
    }
}

/// A batch as bytes, with sequence numbers from `first_sequence` on.
///
/// With a `generation` the kernel refuses the batch (`ERESTART`) if the ruleset changed since.
///
/// # Errors
///
/// When something in it has no encoding, see [`EncodeError`].
pub fn batch(
    batch: &Batch,
    first_sequence: u32,
    generation: Option<u32>,
) -> Result<Encoded, EncodeError> {
    let Batch { table, changes } = batch;
    let mut messages = Messages {
        table: bounded("a table's name", table, NAME_LIMIT)?,
        writer: Writer::default(),
        sequence: first_sequence,
        set_id: 0,
        last: 0,
    };
    messages.bracket(NFNL_MSG_BATCH_BEGIN, generation);
    let mut origins = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let before = messages.sequence;
        messages.change(change)?;
        let written = messages.sequence.wrapping_sub(before);
        origins.extend((0..written).map(|_| index));
    }
    let acknowledged_sequence = messages.sequence.wrapping_sub(1);
    messages.acknowledge_last();
    messages.bracket(NFNL_MSG_BATCH_END, None);
    Ok(Encoded {
        next_sequence: messages.sequence,
        bytes: messages.writer.bytes,
        first_sequence,
        acknowledged_sequence,
        origins,
    })
}

/// A request as bytes. All but [`Request::Generation`] are answered by messages up to a final one.
#[must_use]
pub fn request(request: Request<'_>, sequence: u32) -> Vec<u8> {
    let (kind, flags) = match request {
        Request::Generation => (GETGEN, 0),
        Request::Tables => (GETTABLE, NLM_F_DUMP),
        Request::Chains => (GETCHAIN, NLM_F_DUMP),
        Request::Rules { .. } => (GETRULE, NLM_F_DUMP),
        Request::Sets { .. } => (GETSET, NLM_F_DUMP),
        Request::Elements { .. } => (GETSETELEM, NLM_F_DUMP),
    };
    let mut writer = Writer::default();
    let flags = flags | NLM_F_REQUEST;
    writer.message(
        nft(kind),
        flags,
        NFPROTO_INET,
        0,
        sequence,
        |writer| match request {
            Request::Generation | Request::Tables | Request::Chains => {}
            Request::Rules { table } => writer.string(NFTA_RULE_TABLE, table),
            Request::Sets { table } => writer.string(NFTA_SET_TABLE, table),
            Request::Elements { table, set } => {
                writer.string(NFTA_SET_ELEM_LIST_TABLE, table);
                writer.string(NFTA_SET_ELEM_LIST_SET, set);
            }
        },
    );
    writer.bytes
}

/// The messages of a batch as they are written.
struct Messages<'b> {
    table: &'b str,
    writer: Writer,
    sequence: u32,
    /// Identifier of the last set that was made, unique within the batch.
    set_id: u32,
    /// Where the last message begins.
    last: usize,
}

impl<'b> Messages<'b> {
    fn change(&mut self, change: &'b Change) -> Result<(), EncodeError> {
        match change {
            Change::AddTable { flags } => self.add_table(*flags),
            Change::DeleteTable => {
                let table = self.table;
                self.message(DELTABLE, 0, |writer| writer.string(NFTA_TABLE_NAME, table));
            }
            Change::AddSet { name, set } => self.add_set(name, set)?,
            Change::DeleteSet { name } => {
                self.named(DELSET, [NFTA_SET_TABLE, NFTA_SET_NAME], name);
            }
            Change::AddChain {
                name,
                base,
                comment,
            } => self.add_chain(name, *base, comment.as_deref())?,
            Change::FlushChain { name } => {
                self.named(DELRULE, [NFTA_RULE_TABLE, NFTA_RULE_CHAIN], name);
            }
            Change::DeleteChain { name } => {
                self.named(DELCHAIN, [NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME], name);
            }
            Change::AddRule { chain, rule } => self.add_rule(chain, rule)?,
            Change::AddElements {
                set,
                interval,
                elements,
            } => self.add_elements(set, *interval, elements)?,
            Change::DeleteElements {
                set,
                interval,
                keys,
            } => self.delete_elements(set, *interval, keys)?,
        }
        Ok(())
    }

    fn add_table(&mut self, flags: Option<TableFlags>) {
        let table = self.table;
        self.message(NEWTABLE, NLM_F_CREATE, |writer| {
            writer.string(NFTA_TABLE_NAME, table);
            if let Some(flags) = flags {
                writer.be32(NFTA_TABLE_FLAGS, table_flags(flags));
            }
        });
    }

    fn add_chain(
        &mut self,
        name: &str,
        base: Option<Base>,
        comment: Option<&str>,
    ) -> Result<(), EncodeError> {
        let table = self.table;
        let name = bounded("a chain's name", name, NAME_LIMIT)?;
        let comment = comment.map(bounded_comment).transpose()?;
        self.message(NEWCHAIN, NLM_F_CREATE, |writer| {
            writer.string(NFTA_CHAIN_TABLE, table);
            writer.string(NFTA_CHAIN_NAME, name);
            if let Some(base) = base {
                write_base(writer, base);
            }
            if let Some(comment) = comment {
                let data = wire::comment_user_data(UDATA_COMMENT, comment);
                writer.bytes(NFTA_CHAIN_USERDATA, &data);
            }
        });
        Ok(())
    }

    /// A message that names a table and one thing in it.
    fn named(&mut self, kind: u8, [table_kind, name_kind]: [u16; 2], name: &str) {
        let table = self.table;
        self.message(kind, 0, |writer| {
            writer.string(table_kind, table);
            writer.string(name_kind, name);
        });
    }

    fn message(&mut self, kind: u8, flags: u16, body: impl FnOnce(&mut Writer)) {
        self.last = self.writer.bytes.len();
        let flags = flags | NLM_F_REQUEST;
        self.writer
            .message(nft(kind), flags, NFPROTO_INET, 0, self.sequence, body);
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn bracket(&mut self, kind: u16, generation: Option<u32>) {
        let subsystem = NFNL_SUBSYS_NFTABLES;
        let sequence = self.sequence;
        self.writer
            .message(kind, NLM_F_REQUEST, 0, subsystem, sequence, |writer| {
                if let Some(generation) = generation {
                    writer.be32(NFNL_BATCH_GENID, generation);
                }
            });
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn acknowledge_last(&mut self) {
        let flags = self.writer.bytes.get_mut(self.last + 6..self.last + 8);
        if let Some([low, high]) = flags {
            let flags = u16::from_ne_bytes([*low, *high]) | NLM_F_ACK;
            [*low, *high] = flags.to_ne_bytes();
        }
    }
}

fn write_base(writer: &mut Writer, base: Base) {
    let Base {
        kind,
        hook,
        priority,
        policy,
    } = base;
    writer.nested(NFTA_CHAIN_HOOK, |writer| {
        writer.be32(NFTA_HOOK_HOOKNUM, hook.number());
        writer.bytes(NFTA_HOOK_PRIORITY, &priority.to_be_bytes());
    });
    writer.be32(NFTA_CHAIN_POLICY, policy.number());
    writer.string(NFTA_CHAIN_TYPE, kind.name());
}

fn table_flags(flags: TableFlags) -> u32 {
    let TableFlags { owner, persist } = flags;
    let owner = if owner { NFT_TABLE_F_OWNER } else { 0 };
    let persist = if persist { NFT_TABLE_F_PERSIST } else { 0 };
    owner | persist
}

/// The type of a message of nf_tables.
fn nft(kind: u8) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | u16::from(kind)
}

fn bounded<'t>(what: &'static str, text: &'t str, limit: usize) -> Result<&'t str, EncodeError> {
    if text.len() <= limit {
        return Ok(text);
    }
    Err(EncodeError::TooLong {
        what,
        text: text.to_owned(),
        length: text.len(),
        limit,
    })
}

fn bounded_comment(comment: &str) -> Result<&str, EncodeError> {
    bounded("a comment", comment, COMMENT_LIMIT)
}

impl Hook {
    /// All hooks, each at the place of its number.
    pub(crate) const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];

    fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

impl Policy {
    fn number(self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
        }
    }
}

impl ChainKind {
    /// All kinds.
    pub(crate) const ALL: [Self; 3] = [Self::Filter, Self::Nat, Self::Route];

    /// The kernel's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}
