//! What others said, for as long as they said it holds; and for a while longer where nobody can be asked (RFC 8767).
//!
//! Two generations bound it: when the young one is full it becomes the old one, and what of the old one is asked for
//! again moves back. Time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::rr::{RData, Record};
use weft_core::zones::forward::CachePlan;

use crate::upstream::Reply;

/// How long a failure is remembered (RFC 9520, 3.2).
const FAILURE: u32 = 5;
/// Time to live of an answer whose time is over (RFC 8767, 4).
pub const STALE_TTL: u32 = 30;

/// What is asked: the name in lower case in wire form, and the type.
pub type Question = (Box<[u8]>, u16);

/// What the cache knows.
#[derive(Clone, Debug)]
pub enum Known {
    /// An answer that holds; true: it is asked for often and about to end, so it is worth asking anew.
    Fresh(Reply, bool),
    /// An answer whose time is over.
    Stale(Reply),
    /// Nothing.
    Nothing,
}

#[derive(Clone, Debug)]
struct Entry {
    reply: Reply,
    stored: Instant,
    ttl: u32,
    hits: u32,
    refreshing: bool,
}

/// Answers of others.
#[derive(Debug)]
pub struct Cache {
    young: HashMap<Question, Entry>,
    old: HashMap<Question, Entry>,
    capacity: usize,
    plan: CachePlan,
}

impl Cache {
    /// A cache that remembers what a plan says.
    #[must_use]
    pub fn new(plan: &CachePlan) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity: (plan.size / 2).max(1),
            plan: plan.clone(),
        }
    }

    /// How many answers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known.
    pub fn get(&mut self, question: &Question, now: Instant) -> Known {
        if let Some(entry) = self.old.remove(question) {
            self.put(question.clone(), entry);
        }
        let Some(entry) = self.young.get_mut(question) else {
            return Known::Nothing;
        };
        let age = now.saturating_duration_since(entry.stored);
        let left = Duration::from_secs(entry.ttl.into()).checked_sub(age);
        match left.filter(|left| !left.is_zero()) {
            Some(left) => {
                entry.hits += 1;
                let due = self.plan.prefetch
                    && !entry.refreshing
                    && entry.hits > 2
                    && left.as_secs() * 10 <= u64::from(entry.ttl);
                entry.refreshing |= due;
                let spent = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
                Known::Fresh(aged(&entry.reply, |ttl| ttl.saturating_sub(spent)), due)
            }
            None if age < self.plan.serve_stale && entry.reply.code != 2 => {
                Known::Stale(aged(&entry.reply, |_| STALE_TTL))
            }
            None => Known::Nothing,
        }
    }

    /// Remembers an answer. A failure does not take the place of an answer.
    pub fn set(&mut self, question: Question, reply: Reply, now: Instant) {
        let ttl = ttl(&reply, &self.plan);
        let failed = reply.code == 2 || reply.code == 5;
        if ttl == 0
            || self.plan.size == 0
            || (failed
                && self
                    .young
                    .get(&question)
                    .is_some_and(|entry| entry.reply.code != 2))
        {
            return;
        }
        let entry = Entry {
            reply,
            stored: now,
            ttl,
            hits: 0,
            refreshing: false,
        };
        self.put(question, entry);
    }

    fn put(&mut self, question: Question, entry: Entry) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&question) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(question, entry);
    }
}

fn aged(reply: &Reply, change: impl Fn(u32) -> u32) -> Reply {
    let mut reply = reply.clone();
    for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
        record.ttl = change(record.ttl);
    }
    reply
}

/// How long an answer holds (RFC 2181, 5.2; RFC 2308, 5).
fn ttl(reply: &Reply, plan: &CachePlan) -> u32 {
    let least = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    match reply.code {
        0 if !reply.answers.is_empty() => least(&reply.answers).unwrap_or(0).min(plan.max_ttl),
        0 | 3 => {
            let start = reply
                .authorities
                .iter()
                .find_map(|record| match &record.data {
                    RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                    _ => None,
                });
            let answers = least(&reply.answers).unwrap_or(u32::MAX);
            start.unwrap_or(0).min(answers).min(plan.max_negative_ttl)
        }
        _ => FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::A;

    use super::*;

    fn reply(ttl: u32) -> Reply {
        let record = Record::from_rdata(Name::root(), ttl, RData::A(A(Ipv4Addr::LOCALHOST)));
        Reply {
            code: 0,
            answers: vec![record],
            authorities: Vec::new(),
        }
    }

    fn cache(size: usize) -> Cache {
        Cache::new(&CachePlan {
            size,
            ..CachePlan::default()
        })
    }

    fn question(number: u16) -> Question {
        (Box::new([0]), number)
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn answers_grow_old_and_then_stale() {
        let (mut cache, start) = (cache(10), Instant::now());
        cache.set(question(1), reply(60), start);
        let Known::Fresh(known, false) = cache.get(&question(1), at(start, 20)) else {
            panic!("not fresh");
        };
        assert_eq!(known.answers[0].ttl, 40);
        let Known::Stale(known) = cache.get(&question(1), at(start, 60)) else {
            panic!("not stale");
        };
        assert_eq!(known.answers[0].ttl, STALE_TTL);
        assert!(matches!(
            cache.get(&question(1), at(start, 90_000)),
            Known::Nothing
        ));
    }

    #[test]
    fn what_is_asked_for_often_is_asked_anew_once_before_it_ends() {
        let (mut cache, start) = (cache(10), Instant::now());
        cache.set(question(1), reply(100), start);
        for _ in 0..3 {
            assert!(matches!(
                cache.get(&question(1), at(start, 50)),
                Known::Fresh(_, false)
            ));
        }
        assert!(matches!(
            cache.get(&question(1), at(start, 95)),
            Known::Fresh(_, true)
        ));
        assert!(matches!(
            cache.get(&question(1), at(start, 96)),
            Known::Fresh(_, false)
        ));
    }

    #[test]
    fn a_failure_is_short_and_hides_no_answer() {
        let (mut cache, start) = (cache(10), Instant::now());
        let failure = Reply {
            code: 2,
            ..Reply::default()
        };
        cache.set(question(1), failure.clone(), start);
        assert!(matches!(
            cache.get(&question(1), at(start, 4)),
            Known::Fresh(..)
        ));
        assert!(matches!(
            cache.get(&question(1), at(start, 5)),
            Known::Nothing
        ));
        cache.set(question(2), reply(10), start);
        cache.set(question(2), failure, at(start, 20));
        assert!(matches!(
            cache.get(&question(2), at(start, 20)),
            Known::Stale(_)
        ));
    }

    #[test]
    fn it_holds_no_more_than_it_may_and_keeps_what_is_used() {
        let (mut cache, start) = (cache(20), Instant::now());
        for number in 0..1000 {
            cache.set(question(number), reply(60), start);
            assert!(matches!(cache.get(&question(0), start), Known::Fresh(..)));
            assert!(cache.len() <= 20);
        }
    }

    #[test]
    fn answers_that_hold_for_no_time_are_not_kept() {
        let (mut cache, start) = (cache(10), Instant::now());
        cache.set(question(1), reply(0), start);
        assert!(cache.is_empty());
    }
}
