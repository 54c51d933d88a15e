//! What can go wrong with a batch, and the words for the change that it went wrong with.

use weft_nft::Change;

use crate::netlink;

/// A table could not be changed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] netlink::Error),
    /// A batch has no encoding.
    #[error("failed to encode a batch: {0}")]
    Encode(#[from] weft_nft::encode::EncodeError),
    /// The kernel's answer could not be read.
    #[error("failed to read the kernel's answer: {0}")]
    Decode(#[from] weft_nft::decode::DecodeError),
    /// The kernel refused a batch: nothing of it stands.
    #[error("failed to {change}: {refusal}{}", remedy(refusal))]
    Refused {
        /// Why.
        refusal: netlink::Refusal,
        /// The change that it refused, in words.
        change: String,
    },
    /// The batch does not fit into the socket's send buffer.
    #[error(
        "a batch of {bytes} bytes does not fit into the socket's send buffer: raise net.core.wmem_max"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Answers were lost: the batch may stand or not.
    #[error("the kernel's answer to a batch was lost: the table must be read back")]
    Unknown,
}

/// A change in words, to stand after "failed to".
#[must_use]
pub fn describe(change: &Change) -> String {
    match change {
        Change::AddTable { flags: None } => "make the table".to_owned(),
        Change::AddTable { flags: Some(flags) } => {
            let owner = if flags.owner { " owner" } else { "" };
            let persist = if flags.persist { " persist" } else { "" };
            format!("make the table with flags{owner}{persist}")
        }
        Change::DeleteTable => "delete the table".to_owned(),
        Change::AddSet { name, .. } => format!("make set {name}"),
        Change::DeleteSet { name } => format!("delete set {name}"),
        Change::AddChain { name, .. } => format!("make chain {name}"),
        Change::FlushChain { name } => format!("empty chain {name}"),
        Change::DeleteChain { name } => format!("delete chain {name}"),
        Change::AddRule { chain, rule } => match &rule.comment {
            Some(comment) => format!("add rule {comment:?} to chain {chain}"),
            None => format!("add a rule to chain {chain}"),
        },
        Change::AddElements { set, elements, .. } => {
            format!("add {} elements to set {set}", elements.len())
        }
        Change::DeleteElements { set, keys, .. } => {
            format!("delete {} elements of set {set}", keys.len())
        }
    }
}

fn remedy(refusal: &netlink::Refusal) -> &'static str {
    match refusal.errno {
        nix::errno::Errno::EPERM => {
            ", or another process owns the table: it must end or hand its socket over"
        }
        _ => "",
    }
}
