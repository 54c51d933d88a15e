//! All ends of a packet at one glance: whom it can reach, and as whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Arrival, Fate, Host, Share, Trace, Tracer};
use crate::Reject;

/// All ends of a packet, over all choices of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Whom it can reach.
    pub reached: BTreeMap<SocketAddr, Reached>,
    /// How it can be refused.
    pub rejected: BTreeSet<Reject>,
    /// Whether it can be dropped without an answer.
    pub dropped: bool,
    /// Whether it can be without a route.
    pub unroutable: bool,
    /// What could not be followed.
    pub unknown: BTreeSet<String>,
}

/// How a packet reaches a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Whether rules led it there.
    pub translated: bool,
    /// With which source addresses it arrives.
    pub sources: BTreeSet<IpAddr>,
    /// Interfaces that it leaves by; none stands for the node itself.
    pub links: BTreeSet<Option<u32>>,
    /// How long dynamic sets remember the choice, the longest of them; none if they do not.
    pub remembered: Option<Duration>,
    /// How large a part of all such packets goes there.
    pub share: Share,
}

impl Flow {
    /// Whether the packet goes where it was sent, and never anywhere else.
    #[must_use]
    pub fn is_untouched(&self, to: SocketAddr) -> bool {
        let Self {
            reached,
            rejected,
            dropped,
            unroutable,
            unknown,
        } = self;
        let only = reached.iter().all(|(at, how)| *at == to && !how.translated);
        only && !reached.is_empty()
            && rejected.is_empty()
            && !dropped
            && !unroutable
            && unknown.is_empty()
    }

    /// The destinations at which the packet does not have its own source address.
    #[must_use]
    pub fn masqueraded(&self, from: IpAddr) -> BTreeSet<SocketAddr> {
        let reached = self.reached.iter();
        let other = reached.filter(|(_, how)| how.sources.iter().any(|source| *source != from));
        other.map(|(at, _)| *at).collect()
    }

    fn add(&mut self, trace: &Trace<'_>) {
        let Trace {
            arrival: _,
            outcome,
            share,
            steps: _,
        } = trace;
        let link = match &outcome.fate {
            Fate::Delivered => None,
            Fate::Sent { link } => Some(*link),
            Fate::Dropped => return self.dropped = true,
            Fate::Rejected(reject) => {
                self.rejected.insert(*reject);
                return;
            }
            Fate::Unroutable => return self.unroutable = true,
            Fate::Unknown(what) => {
                self.unknown.insert(what.clone());
                return;
            }
        };
        let nobody = Reached {
            translated: false,
            sources: BTreeSet::new(),
            links: BTreeSet::new(),
            remembered: None,
            share: Share::NONE,
        };
        let reached = self.reached.entry(outcome.packet.to()).or_insert(nobody);
        reached.translated |= outcome.is_dnat();
        reached.sources.insert(outcome.packet.source);
        reached.links.insert(link);
        let times = outcome.updates.iter().filter_map(|update| update.timeout);
        reached.remembered = reached.remembered.max(times.max());
        reached.share = reached.share.plus(*share);
    }
}

impl Tracer<'_> {
    /// Follows a packet and sums up its ends.
    #[must_use]
    pub fn flow(&self, host: &Host, arrival: &Arrival) -> Flow {
        let mut flow = Flow::default();
        for trace in self.trace(host, arrival) {
            flow.add(&trace);
        }
        flow
    }
}
