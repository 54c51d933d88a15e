//! Numbers of a scenario file that differ between the short and the long set, and pauses.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A count: one number, or one for each set.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Count {
    /// The same in both sets.
    Same(u64),
    /// By set.
    Sets {
        /// Without `--full`.
        short: u64,
        /// With `--full`.
        full: u64,
    },
}

impl Count {
    /// The number for a set.
    pub fn get(self, is_full: bool) -> u64 {
        match self {
            Self::Same(count) => count,
            Self::Sets { short, full } => {
                if is_full {
                    full
                } else {
                    short
                }
            }
        }
    }
}

/// A text: one, or one for each set.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Text {
    /// The same in both sets.
    Same(String),
    /// By set.
    Sets {
        /// Without `--full`.
        short: String,
        /// With `--full`.
        full: String,
    },
}

impl Text {
    /// The text for a set.
    pub fn get(&self, is_full: bool) -> &str {
        match self {
            Self::Same(text) => text,
            Self::Sets { short, full } => {
                if is_full {
                    full
                } else {
                    short
                }
            }
        }
    }
}

/// A pause: `2s`, one for each set, or a random one between two.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Debug)]
#[serde(untagged)]
pub enum Pause {
    /// Always as long.
    Fixed(String),
    /// By set.
    Sets {
        /// Without `--full`.
        short: String,
        /// With `--full`.
        full: String,
    },
    /// Between two, by the run's seed.
    Between {
        /// At least.
        least: String,
        /// At most.
        most: String,
    },
}

impl Pause {
    /// How long; `share` from 0 to 1 places it between the two.
    ///
    /// # Errors
    /// A sentence about a text that is no duration.
    pub fn get(&self, is_full: bool, share: f64) -> Result<Duration, String> {
        match self {
            Self::Fixed(text) => duration(text),
            Self::Sets { short, full } => duration(if is_full { full } else { short }),
            Self::Between { least, most } => {
                let (least, most) = (duration(least)?, duration(most)?);
                Ok(least + most.saturating_sub(least).mul_f64(share.clamp(0.0, 1.0)))
            }
        }
    }
}

/// Reads `250ms`, `2s`, `1m`.
///
/// # Errors
/// A sentence that says how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    crate::probe::duration(text)
}

/// Random numbers that a seed repeats (SplitMix64, by S. Vigna, public domain).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, from 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_between_0_and_1() {
        let (mut a, mut b) = (Random::new(5), Random::new(5));
        for _ in 0..1000 {
            let share = a.share();
            assert!((0.0..1.0).contains(&share));
            assert_eq!(share.to_bits(), b.share().to_bits());
        }
        assert_ne!(
            Random::new(6).share().to_bits(),
            Random::new(5).share().to_bits()
        );
    }

    #[test]
    fn a_pause_lies_between_its_bounds() {
        let pause = Pause::Between {
            least: "1s".into(),
            most: "3s".into(),
        };
        assert_eq!(pause.get(false, 0.0), Ok(Duration::from_secs(1)));
        assert_eq!(pause.get(false, 0.5), Ok(Duration::from_secs(2)));
        assert!(Pause::Fixed("soon".into()).get(false, 0.0).is_err());
    }
}
