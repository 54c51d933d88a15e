//! The elements of one set, told one by one as a dump brings them.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::object::{RawElement, RawElements};
use super::{Content, DecodeError, Message, Object, set};
use crate::{Element, Key, Set};

/// Reads the answers to one [`Request::Elements`](crate::encode::Request::Elements).
#[derive(Clone, Debug)]
pub struct ElementReader {
    table: String,
    name: String,
    definition: Set,
    hasher: RandomState,
    seen: HashSet<u64>,
    twice: bool,
    /// Bounds of intervals, which only all together say where each ends.
    bounds: Vec<RawElement>,
}

impl ElementReader {
    pub(super) fn new(table: &str, name: &str, definition: Set) -> Self {
        Self {
            table: table.to_owned(),
            name: name.to_owned(),
            definition,
            hasher: RandomState::new(),
            seen: HashSet::new(),
            twice: false,
            bounds: Vec::new(),
        }
    }

    /// Takes a message of the dump. What is not of the set's types is passed over.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Interrupted`] if the ruleset changed meanwhile: begin anew.
    pub fn add(
        &mut self,
        message: Message,
        each: &mut dyn FnMut(Key, Element),
    ) -> Result<(), DecodeError> {
        if message.interrupted {
            return Err(DecodeError::Interrupted);
        }
        let Content::New(Object::Elements(RawElements {
            table,
            set,
            elements,
        })) = message.content
        else {
            return Ok(());
        };
        if table != self.table || set != self.name {
            return Ok(());
        }
        for raw in &elements {
            let key = (&raw.key, &raw.key_end, raw.is_end);
            self.twice |= !self.seen.insert(self.hasher.hash_one(key));
        }
        if self.definition.key.len() == 1 && self.definition.flags.interval {
            self.bounds.extend(elements);
        } else {
            self.tell(&elements, each);
        }
        Ok(())
    }

    /// After the last message.
    pub fn finish(&mut self, each: &mut dyn FnMut(Key, Element)) {
        let bounds = std::mem::take(&mut self.bounds);
        self.tell(&bounds, each);
    }

    /// Whether no element was listed twice, as in [`Reader::is_whole`](super::Reader::is_whole).
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.twice
    }

    fn tell(&self, raw: &[RawElement], each: &mut dyn FnMut(Key, Element)) {
        let elements = set::elements(&self.definition, raw).unwrap_or_default();
        for (key, element) in elements {
            each(key, element);
        }
    }
}
