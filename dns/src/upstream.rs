//! Who is asked for what is not ours.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RData, Record};
use weft_core::zones::answer::Ask;
use weft_core::zones::record::RecordType;

use crate::forward::Forwarder;
use crate::forwards::Forwards;
use crate::slow;

/// What others said.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// How it ended.
    pub code: u16,
    /// Records of the answer.
    pub answers: Vec<Record>,
    /// Records that say since when nothing is there.
    pub authorities: Vec<Record>,
}

/// Others that are asked.
#[derive(Debug, Default)]
pub enum Upstream {
    /// Nobody: what is not ours is refused.
    #[default]
    None,
    /// Records that are known beforehand, for conformance.
    Fixed(Fixed),
    /// Those that somebody else holds too.
    Shared(Arc<Self>),
    /// Real servers.
    Forward(Arc<Forwarder>),
    /// Those that zones name, and others for the rest.
    Zones(Arc<Forwards>, Box<Self>),
}

/// A world of a few records: what has none does not exist.
#[derive(Debug, Default)]
pub struct Fixed {
    /// The records.
    pub records: Vec<Record>,
    /// Names for which the world fails.
    pub servfail: Vec<Name>,
}

/// What is said where those that a zone names cannot be asked at all.
const FAILED: Reply = Reply {
    code: 2,
    answers: Vec::new(),
    authorities: Vec::new(),
};

/// Aliases that are followed at most.
const ALIASES: usize = 8;

impl Upstream {
    /// Whether anybody is there to ask.
    #[must_use]
    pub fn is_some(&self) -> bool {
        match self {
            Self::None => false,
            Self::Fixed(_) | Self::Forward(_) => true,
            Self::Shared(shared) => shared.is_some(),
            Self::Zones(_, others) => others.is_some(),
        }
    }

    /// Asks; none where nobody is there.
    pub async fn ask(&self, ask: &Ask, kind: RecordType, client: Option<IpAddr>) -> Option<Reply> {
        let name = ask.name.wire();
        match self {
            Self::None => None,
            Self::Fixed(fixed) => Some(fixed.ask(slow::name(name)?, kind)),
            Self::Shared(shared) => Box::pin(shared.ask(ask, kind, client)).await,
            Self::Forward(forwarder) => Some(forwarder.ask(name, kind).await),
            Self::Zones(forwards, others) => {
                let caught = match others.as_ref() {
                    Self::Forward(forwarder) => forwarder.caught(name),
                    _ => None,
                };
                match (caught.or_else(|| forwards.caught(name)), &ask.via) {
                    (Some(caught), _) => Some(caught),
                    (None, Some(via)) => forwards.ask(via, name, kind).await.or(Some(FAILED)),
                    (None, None) => Box::pin(others.ask(ask, kind, client)).await,
                }
            }
        }
    }
}

impl Fixed {
    fn ask(&self, mut name: Name, kind: RecordType) -> Reply {
        let mut reply = Reply::default();
        for _ in 0..ALIASES {
            if self.servfail.contains(&name) {
                reply.code = 2;
                return reply;
            }
            let here: Vec<_> = self
                .records
                .iter()
                .filter(|record| record.name == name)
                .cloned()
                .collect();
            if here.is_empty() {
                reply.code = 3;
                return reply;
            }
            let (wanted, others): (Vec<_>, Vec<_>) = here
                .into_iter()
                .partition(|record| u16::from(record.record_type()) == kind.0);
            let alias = others
                .into_iter()
                .find(|record| matches!(record.data, RData::CNAME(_)));
            let Some(alias) = alias.filter(|_| wanted.is_empty()) else {
                reply.answers.extend(wanted);
                return reply;
            };
            if let RData::CNAME(target) = &alias.data {
                name = target.0.clone();
            }
            reply.answers.push(alias);
        }
        reply.code = 2;
        reply
    }
}
