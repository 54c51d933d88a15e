//! The pace of an audit of many sets: one at a time, between updates.

use std::time::{Duration, Instant};

/// Between two sets, and as much more as four times what one took: updates come first.
const PAUSE: Duration = Duration::from_millis(50);

/// Sets that an audit has not looked at.
#[derive(Debug)]
pub(super) struct Pace<S> {
    waiting: Vec<S>,
    /// When it may look at the next; none before the first audit.
    at: Option<Instant>,
}

impl<S> Default for Pace<S> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            at: None,
        }
    }
}

impl<S> Pace<S> {
    /// Begins an audit of these, the last of them first.
    pub(super) fn begin(&mut self, sets: impl IntoIterator<Item = S>) {
        self.waiting = sets.into_iter().collect();
        self.at.get_or_insert_with(Instant::now);
    }

    /// Everything was compared.
    pub(super) fn end(&mut self) {
        self.waiting.clear();
    }

    /// When there is a set to look at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.at.filter(|_| !self.waiting.is_empty())
    }

    /// The next set, if it is time for one.
    pub(super) fn take(&mut self, now: Instant) -> Option<S> {
        self.next().filter(|at| *at <= now)?;
        self.waiting.pop()
    }

    /// A set was looked at, from `start` until now.
    pub(super) fn looked_at(&mut self, start: Instant) {
        let took = start.elapsed();
        self.at = Some(start + took + PAUSE + 4 * took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_one_at_a_time_with_a_pause_between_them() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(), None);
        pace.begin(["first", "last"]);
        let start = Instant::now();
        assert_eq!(pace.take(start), Some("last"));
        pace.looked_at(start);
        let next = pace.next().expect("one is left");
        assert!(next >= start + PAUSE);
        assert_eq!(pace.take(start), None, "too early");
        assert_eq!(pace.take(next), Some("first"));
        assert_eq!(pace.next(), None);
        pace.begin(["again"]);
        pace.end();
        assert_eq!(pace.take(next), None);
    }
}
