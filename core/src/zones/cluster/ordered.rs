//! Who holds which address, in the order of addresses, in chunks that snapshots share.
//!
//! Order answers what a hash cannot: whether any address stands below part of a reverse name, so that the
//! part exists (RFC 8020).

use std::sync::Arc;

/// Entries of a chunk before it is cut in two.
const CHUNK: usize = 256;

/// An address, IPv4 in the form `::ffff:a.b.c.d`, and the key of who holds it.
pub type Entry = (u128, Arc<[u8]>);

/// Entries in order, each once.
#[derive(Clone, Default)]
pub struct Ordered {
    chunks: Vec<Arc<Vec<Entry>>>,
}

impl Ordered {
    /// Adds an entry; one that is there already stays.
    pub fn insert(&mut self, entry: Entry) {
        if self.chunks.is_empty() {
            self.chunks.push(Arc::new(vec![entry]));
            return;
        }
        let at = self.chunk(&entry);
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        if let Err(place) = chunk.binary_search(&entry) {
            chunk.insert(place, entry);
        }
        if chunk.len() > CHUNK {
            let tail = chunk.split_off(CHUNK / 2);
            self.chunks.insert(at + 1, Arc::new(tail));
        }
    }

    /// Takes an entry away.
    pub fn remove(&mut self, entry: &Entry) {
        if self.chunks.is_empty() {
            return;
        }
        let at = self.chunk(entry);
        let Ok(place) = self.chunks[at].binary_search(entry) else {
            return;
        };
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The entries from the first address to the last, both included.
    pub fn range(&self, first: u128, last: u128) -> impl Iterator<Item = &Entry> {
        let from = self
            .chunks
            .partition_point(|chunk| chunk.last().is_some_and(|(address, _)| *address < first));
        let entries = self.chunks[from..].iter().flat_map(move |chunk| {
            let begin = chunk.partition_point(|(address, _)| *address < first);
            chunk[begin..].iter()
        });
        entries.take_while(move |(address, _)| *address <= last)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// The chunk that holds an entry, or would.
    fn chunk(&self, entry: &Entry) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.first().is_some_and(|first| first <= entry))
            .saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_an_ordered_set(steps in prop::collection::vec((any::<bool>(), 0_u128..600, 0_u8..3), 0..2000)) {
            let (mut ordered, mut model) = (Ordered::default(), BTreeSet::new());
            for (add, address, owner) in steps {
                let entry: Entry = (address, Arc::from([owner]));
                if add {
                    ordered.insert(entry.clone());
                    model.insert(entry);
                } else {
                    ordered.remove(&entry);
                    model.remove(&entry);
                }
            }
            prop_assert_eq!(ordered.len(), model.len());
            prop_assert!(ordered.range(0, u128::MAX).eq(model.iter()));
            let part: Vec<_> = ordered.range(100, 200).cloned().collect();
            let wanted: Vec<_> = model.into_iter().filter(|(address, _)| (100..=200).contains(address)).collect();
            prop_assert_eq!(part, wanted);
        }
    }
}
