//! What a question is, and where the records of its answer go.

use std::net::IpAddr;
use std::sync::Arc;

use super::forward::Forward;
use super::name::NameBuf;
use super::record::RecordType;

/// One question, of class IN.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name as it was asked, in wire form.
    pub name: &'a [u8],
    /// The same in lower case.
    pub lower: &'a [u8],
    /// The type asked for.
    pub kind: RecordType,
    /// Where to begin in a set of records: any number, another one for each question.
    pub rotation: u32,
    /// Who asks.
    pub client: Option<IpAddr>,
}

/// The parts of an answer (RFC 1035, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who knows more, or since when nothing is there.
    Authority,
    /// Addresses without which a referral leads nowhere; without room the answer is truncated (RFC 9471).
    Glue,
    /// Addresses that save a question; left out where there is no room.
    Additional,
}

/// Takes the records of an answer.
pub trait Sections {
    /// Takes one record. Names are in wire form, data is uncompressed. False: there is no room for more of this section.
    fn put(
        &mut self,
        section: Section,
        owner: &[u8],
        kind: RecordType,
        ttl: u32,
        data: &[u8],
    ) -> bool;
    /// Gives all records back.
    fn clear(&mut self);
}

/// How a question ended (RFC 1035, 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    /// Answered, perhaps with nothing.
    NoError,
    /// Nothing could be found out.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// Not ours to answer.
    Refused,
    /// A redirection makes a name that is too long (RFC 6672, 2.2).
    YxDomain,
}

impl Rcode {
    /// The number in a message.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::NoError => 0,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::Refused => 5,
            Self::YxDomain => 6,
        }
    }
}

/// What becomes of a question.
#[derive(Clone)]
pub enum Outcome {
    /// All is said.
    Done {
        /// How it ended.
        rcode: Rcode,
        /// Whether we are an authority for the answer.
        authoritative: bool,
    },
    /// Others have to be asked, about another name perhaps.
    Ask(Box<Ask>),
}

/// A question to others.
#[derive(Clone)]
pub struct Ask {
    /// What to ask for, in wire form.
    pub name: NameBuf,
    /// Whether aliases that lead there are in the answer section already.
    pub continued: bool,
    /// Records are given out under this name, in place of the name that is asked for (ALIAS, rewritten names).
    pub owner: Option<NameBuf>,
    /// A name that is not there leaves the owner there all the same: it has other records (ALIAS).
    pub owner_exists: bool,
    /// Who is asked; none: the node's resolvers.
    pub via: Option<Arc<Forward>>,
}
