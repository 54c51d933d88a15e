//! Which endpoints a new connection may reach, by readiness, traffic policy and topology.
//!
//! The rules are those of the API: EndpointSlice conditions and hints, `internalTrafficPolicy`,
//! `externalTrafficPolicy`, and KEP-1669 (endpoints that shut down), KEP-2433 (zone hints) and
//! KEP-3015 (node hints).

use std::net::IpAddr;

/// An endpoint with what decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub address: IpAddr,
    pub port: u16,
    pub facts: Facts,
}

/// What decides about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// It runs on this node.
    pub local: bool,
    /// Whether it is meant for this node; none if nobody said for which.
    pub for_node: Option<bool>,
    /// Whether it is meant for this node's zone; none if nobody said for which.
    pub for_zone: Option<bool>,
}

/// The endpoints of one service port and family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Under policy Cluster; none if nothing uses it.
    pub cluster: Option<Vec<(IpAddr, u16)>>,
    /// Under policy Local; none if nothing uses it.
    pub local: Option<Vec<(IpAddr, u16)>>,
    /// Whether some endpoint somewhere would answer.
    pub any: bool,
}

/// Which hints count.
#[derive(Clone, Copy)]
enum Hints {
    Node,
    Zone,
    None,
}

/// Sorts candidates by address and port, and leaves one of each: the first, or a local one.
pub(super) fn unite(candidates: &mut Vec<Candidate>) {
    candidates.sort_by_key(|one| (one.address, one.port, !one.facts.local));
    candidates.dedup_by_key(|one| (one.address, one.port));
}

/// Chooses among candidates that are sorted and without duplicates.
pub(super) fn choose(candidates: &[Candidate], cluster: bool, local: bool) -> Choice {
    let mut choice = Choice::default();
    if cluster {
        let hints = hints(candidates);
        let mut chosen = among(candidates, |facts| facts.ready && facts.meant(hints));
        if chosen.is_empty() {
            chosen = among(candidates, Facts::finishes);
        }
        choice.any = !chosen.is_empty();
        choice.cluster = Some(chosen);
    }
    if local {
        let mut chosen = among(candidates, |facts| facts.local && facts.ready);
        if chosen.is_empty() {
            chosen = among(candidates, |facts| facts.local && facts.finishes());
        }
        choice.any |= candidates
            .iter()
            .any(|one| one.facts.ready || one.facts.finishes());
        choice.local = Some(chosen);
    }
    choice
}

impl Facts {
    /// Shuts down and still answers: better than nothing.
    fn finishes(self) -> bool {
        self.serving && self.terminating
    }

    fn meant(self, hints: Hints) -> bool {
        match hints {
            Hints::Node => self.for_node == Some(true),
            Hints::Zone => self.for_zone == Some(true),
            Hints::None => true,
        }
    }
}

/// Hints count if every endpoint that is ready has them and one of these is for us.
fn hints(candidates: &[Candidate]) -> Hints {
    let counts = |hint: fn(Facts) -> Option<bool>| {
        let mut ready = candidates.iter().filter(|one| one.facts.ready).peekable();
        ready.peek().is_some()
            && ready.clone().all(|one| hint(one.facts).is_some())
            && ready.any(|one| hint(one.facts) == Some(true))
    };
    if counts(|facts| facts.for_node) {
        Hints::Node
    } else if counts(|facts| facts.for_zone) {
        Hints::Zone
    } else {
        Hints::None
    }
}

fn among(candidates: &[Candidate], wanted: impl Fn(Facts) -> bool) -> Vec<(IpAddr, u16)> {
    candidates
        .iter()
        .filter(|one| wanted(one.facts))
        .map(|one| (one.address, one.port))
        .collect()
}
