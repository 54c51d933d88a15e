//! Numbers of identities and classes, as the carrier (`meta priority`) holds them between two look-ups.
//!
//! All begin with the bits 0110, so that they never meet those of services, and no queueing discipline
//! that somebody configured takes them for its classes. A number is the first free one behind the hash of
//! what it stands for, so a restarted agent comes to the same ones.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

const HIGH: u32 = 0x6000_0000;
const CLASS: u32 = HIGH | 1 << 27;
const BITS: u32 = 27;
/// The class of whom no policy in force here asks for.
pub const STRANGERS: u32 = CLASS;
/// Stands for every class.
pub const ANYBODY: u32 = CLASS | 1;
/// Numbers below this one are kept for such.
const FIRST: u32 = 16;

/// Numbers in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    used: HashSet<u32>,
    /// Given back in this update. A packet may still carry one, so it stands for nothing else yet.
    released: Vec<u32>,
}

impl Numbers {
    /// A number for an identity of this hash.
    pub fn identity(&mut self, hash: u64) -> u32 {
        self.first_free(hash, HIGH)
    }

    /// A number for a class of this hash.
    pub fn class(&mut self, hash: u64) -> u32 {
        self.first_free(hash, CLASS)
    }

    /// Gives a number back, for the next update.
    pub fn release(&mut self, number: u32) {
        self.released.push(number);
    }

    /// Begins an update: what the last one gave back is free.
    pub fn begin(&mut self) {
        for number in self.released.drain(..) {
            self.used.remove(&number);
        }
    }

    fn first_free(&mut self, hash: u64, high: u32) -> u32 {
        let span = (1 << BITS) - FIRST;
        let start = u32::try_from(hash % u64::from(span)).unwrap_or_default();
        (0..span)
            .map(|step| high | (FIRST + (start + step) % span))
            .find(|number| self.used.insert(*number))
            .unwrap_or(high)
    }
}

/// A hash that is the same in every process of this build.
pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
