//! Who held which address from when to when, and what may not be in such an account.
//!
//! An address is surely held from the answer to ADD until DEL begins: both ends are noted on this
//! side of the plugin, so no delay makes two holders out of one after the other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Sentences of one kind; more say nothing more.
const MOST: usize = 5;

/// One sandbox's time with its addresses.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) sandbox: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) begin: Instant,
    /// Absent: it holds them still.
    pub(super) end: Option<Instant>,
}

/// An ADD that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: u64,
    pub(super) msg: String,
    pub(super) details: String,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) held: Vec<Held>,
    pub(super) refused: Vec<Refused>,
    /// What must never happen, such as a DEL that fails.
    pub(super) wrong: Vec<String>,
}

impl Ledger {
    pub(super) fn begin(&mut self, sandbox: &str, addresses: Vec<IpAddr>) {
        self.held.push(Held {
            sandbox: sandbox.to_owned(),
            addresses,
            begin: Instant::now(),
            end: None,
        });
    }

    /// The first word counts: its rest begins somewhere within the DEL that follows.
    pub(super) fn end(&mut self, sandbox: &str) {
        let mut newest = self.held.iter_mut().rev();
        if let Some(held) = newest.find(|held| held.sandbox == sandbox) {
            held.end.get_or_insert_with(Instant::now);
        }
    }

    /// What must never happen and did.
    pub(super) fn wrongs(&self) -> Vec<String> {
        few(self.wrong.clone())
    }

    /// For a control: a second sandbox says that it has what the first one has.
    pub(super) fn share_one(&mut self) {
        if let Some(mut held) = self.held.first().cloned() {
            held.sandbox = "a sandbox that is not there".to_owned();
            self.held.push(held);
        }
    }

    /// Every sandbox that had addresses.
    pub(super) fn sandboxes(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(|held| held.sandbox.as_str())
    }

    /// Every address that anybody held.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.held
            .iter()
            .flat_map(|held| held.addresses.iter().copied())
    }

    /// Holders that an address had at the same time, or too soon one after the other.
    pub(super) fn shared(&self, cooldown: Duration) -> Vec<String> {
        let mut by_address: BTreeMap<IpAddr, Vec<&Held>> = BTreeMap::new();
        for held in &self.held {
            for address in &held.addresses {
                by_address.entry(*address).or_default().push(held);
            }
        }
        let mut sentences = Vec::new();
        for (address, mut holders) in by_address {
            holders.sort_by_key(|held| held.begin);
            for pair in holders.windows(2) {
                let (one, two) = (pair[0], pair[1]);
                let gap = one
                    .end
                    .and_then(|end| two.begin.checked_duration_since(end));
                match gap {
                    None => sentences.push(format!("{address} belongs to {} and to {} at the same time", one.sandbox, two.sandbox)),
                    Some(gap) if gap < cooldown => sentences.push(format!(
                        "{address} went from {} to {} after {gap:.1?}; its pool's cooldown is {cooldown:?}",
                        one.sandbox, two.sandbox
                    )),
                    Some(_) => {}
                }
            }
        }
        few(sentences)
    }

    /// Failures of ADD that do not say what they must.
    pub(super) fn badly_refused(&self, pool: &str, dry: bool) -> Vec<String> {
        let bad = self
            .refused
            .iter()
            .filter(|refused| !refused.is_proper(pool, dry));
        let mut sentences = few(bad
            .map(|Refused { code, msg, details }| {
                format!("an ADD failed with code {code}, {msg:?}, {details:?}")
            })
            .collect());
        let named = self.refused.iter().any(|refused| refused.names(pool));
        if dry && !named {
            sentences.push(format!(
                "no ADD failed for want of an address in pool {pool}"
            ));
        }
        sentences
    }
}

impl Refused {
    /// Try again later, and why: the agent is away, or has just come, or a dry pool is named.
    fn is_proper(&self, pool: &str, dry: bool) -> bool {
        const AWAY: [&str; 3] = [
            "the node's agent is not there",
            "the agent is not in step with the cluster yet",
            "the agent is busy",
        ];
        let says_why = AWAY.contains(&self.msg.as_str()) && !self.details.is_empty();
        self.code == 11 && (says_why || (dry && self.names(pool)))
    }

    fn names(&self, pool: &str) -> bool {
        self.msg == "no address for the pod" && self.details.contains(pool)
    }
}

fn few(mut sentences: Vec<String>) -> Vec<String> {
    let all = sentences.len();
    if all > MOST {
        sentences.truncate(MOST);
        sentences.push(format!("and {} more like that", all - MOST));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(sandbox: &str, start: Instant, from: u64, to: Option<u64>) -> Held {
        Held {
            sandbox: sandbox.to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            begin: start + Duration::from_secs(from),
            end: to.map(|to| start + Duration::from_secs(to)),
        }
    }

    fn shared(held: Vec<Held>, cooldown: u64) -> Vec<String> {
        let ledger = Ledger {
            held,
            ..Ledger::default()
        };
        ledger.shared(Duration::from_secs(cooldown))
    }

    #[test]
    fn an_address_with_two_holders_at_once_is_noticed() {
        let start = Instant::now();
        let at = |from, to| held("x", start, from, to);
        assert!(shared(vec![at(0, Some(5)), at(5, Some(9))], 0).is_empty());
        assert!(shared(vec![at(5, None), at(0, Some(5))], 0).is_empty());
        assert!(shared(vec![at(0, Some(5)), at(4, Some(9))], 0)[0].contains("at the same time"));
        assert!(shared(vec![at(0, None), at(4, None)], 0)[0].contains("10.0.0.1"));
    }

    #[test]
    fn a_rest_that_was_too_short_is_noticed() {
        let start = Instant::now();
        let at = |from, to| held("x", start, from, to);
        assert!(shared(vec![at(0, Some(5)), at(35, None)], 30).is_empty());
        assert!(shared(vec![at(0, Some(5)), at(34, None)], 30)[0].contains("cooldown is 30s"));
    }

    #[test]
    fn a_refusal_needs_its_code_and_its_reason() {
        let refused = |code, msg: &str, details: &str| Ledger {
            refused: vec![Refused {
                code,
                msg: msg.to_owned(),
                details: details.to_owned(),
            }],
            ..Ledger::default()
        };
        let away = "the node's agent is not there";
        let none = "no address for the pod";
        assert!(
            refused(11, away, "nobody listens")
                .badly_refused("p", false)
                .is_empty()
        );
        assert_eq!(refused(11, away, "").badly_refused("p", false).len(), 1);
        assert_eq!(
            refused(5, away, "nobody listens")
                .badly_refused("p", false)
                .len(),
            1
        );
        assert!(
            refused(11, none, "pool p is exhausted")
                .badly_refused("p", true)
                .is_empty()
        );
        assert_eq!(
            refused(11, none, "pool p is exhausted")
                .badly_refused("p", false)
                .len(),
            1
        );
        assert_eq!(Ledger::default().badly_refused("p", true).len(), 1);
    }

    #[test]
    fn many_sentences_of_a_kind_become_few() {
        assert_eq!(
            few(vec!["a".to_owned(); 9]).last().unwrap(),
            "and 4 more like that"
        );
        assert_eq!(few(vec!["a".to_owned(); 3]).len(), 3);
    }
}
