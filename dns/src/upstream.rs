//! Who is asked for what is not ours.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RData, Record};
use weft_core::zones::record::RecordType;

use crate::forward::Forwarder;
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
}

/// A world of a few records: what has none does not exist.
#[derive(Debug, Default)]
pub struct Fixed {
    /// The records.
    pub records: Vec<Record>,
    /// Names for which the world fails.
    pub servfail: Vec<Name>,
}

/// Aliases that are followed at most.
const ALIASES: usize = 8;

impl Upstream {
    /// Whether anybody is there to ask.
    #[must_use]
    pub fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Asks; none where nobody is there.
    pub async fn ask(
        &self,
        name: &[u8],
        kind: RecordType,
        client: Option<IpAddr>,
    ) -> Option<Reply> {
        match self {
            Self::None => None,
            Self::Fixed(fixed) => Some(fixed.ask(slow::name(name)?, kind)),
            Self::Shared(shared) => Box::pin(shared.ask(name, kind, client)).await,
            Self::Forward(forwarder) => Some(forwarder.ask(name, kind).await),
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
