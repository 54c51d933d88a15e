//! Turns a number of failed attempts into a pause before the next one, with jitter, so that many
//! agents do not return to a restarted API server in the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Pauses that double up to a limit.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// From `first`, doubling, to at most `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
        }
    }

    /// Work has succeeded: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Another attempt has failed: how long to wait.
    pub fn pause(&mut self) -> Duration {
        let pause = delay(self.first, self.most, self.failures, random_fraction());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Attempts that have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Between half of and all of `first * 2^failures`, at most `most`; `fraction` is from 0 to 1.
pub fn delay(first: Duration, most: Duration, failures: u32, fraction: f64) -> Duration {
    let whole = first
        .saturating_mul(1_u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX))
        .min(most);
    whole.mul_f64(0.5 + fraction.clamp(0.0, 1.0) / 2.0)
}

/// From 0 to 1, different each time: the standard library seeds its hasher from the kernel.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);

    #[test]
    fn pauses_double_up_to_the_limit() {
        let pauses: Vec<u128> = [0, 1, 2, 5, 6, 40]
            .map(|failures| delay(FIRST, MOST, failures, 1.0).as_millis())
            .into();
        assert_eq!(pauses, [100, 200, 400, 3200, 5000, 5000]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(delay(FIRST, MOST, 0, 0.0), FIRST / 2);
        for _ in 0..100 {
            let fraction = random_fraction();
            assert!((0.0..=1.0).contains(&fraction), "{fraction}");
        }
    }

    #[test]
    fn success_begins_anew() {
        let mut backoff = Backoff::new(FIRST, MOST);
        for _ in 0..10 {
            backoff.pause();
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
        assert_eq!(backoff.failures(), 1);
    }
}
