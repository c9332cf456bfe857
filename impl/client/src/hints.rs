//! Hints: which objects were loaded after which (rule 9.7).
//!
//! ```text
//!   loads:  7 3 4 7 5        hints, of at most two objects:   7: 5     3: 4 7     4: 7 5
//! ```
//!
//! A hint is advice. It chooses what is prefetched, and no answer depends on it; so a file of hints has no checksum,
//! and anything that it holds is taken, up to the limits.

use std::collections::{BTreeMap, VecDeque};

use vellum_storage::Oid;

/// Objects that have a hint.
const OBJECTS_MAX: usize = 100_000;
/// Objects in a hint.
const HINT_MAX: usize = 255;
/// How a file of hints begins.
const MAGIC: &[u8] = b"vellum hints 1\n";

/// Hints, and the last loads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hints {
    /// Objects in a hint; 0 if none are learned.
    most: usize,
    after: BTreeMap<Oid, Vec<Oid>>,
    /// Objects that got a hint, the oldest first. An object may be named twice.
    queue: VecDeque<Oid>,
    /// The last loads, the oldest first.
    /// One whose object was loaded again does not count any more.
    recent: VecDeque<Option<Oid>>,
}

impl Hints {
    /// No hints yet, and at most so many objects in each; with 0, there will be none.
    pub fn new(most: usize) -> Hints {
        let most = most.min(HINT_MAX);
        Hints { most, after: BTreeMap::new(), queue: VecDeque::new(), recent: VecDeque::new() }
    }

    /// Rule 9.7: notes a load, and returns the hint that the object had before it.
    pub fn note(&mut self, oid: Oid) -> Vec<Oid> {
        if self.most == 0 {
            return Vec::new();
        }
        for earlier in &mut self.recent {
            if *earlier == Some(oid) {
                *earlier = None;
            }
        }
        for earlier in self.recent.iter().flatten() {
            if let Some(hint) = self.after.get_mut(earlier)
                && !hint.contains(&oid)
            {
                hint.push(oid);
            }
        }
        self.recent.push_back(Some(oid));
        if self.recent.len() > self.most {
            self.recent.pop_front();
        }
        let before = self.after.insert(oid, Vec::new()).unwrap_or_default();
        self.queue.push_back(oid);
        while self.after.len() > OBJECTS_MAX || self.queue.len() > 2 * OBJECTS_MAX {
            let Some(oldest) = self.queue.pop_front() else { break };
            if !self.recent.contains(&Some(oldest)) {
                self.after.remove(&oldest);
            }
        }
        before
    }

    /// The hints as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (oid, hint) in self.after.iter().filter(|(_, hint)| !hint.is_empty()) {
            bytes.extend_from_slice(&oid.to_bytes());
            bytes.push(hint.len() as u8);
            hint.iter().for_each(|oid| bytes.extend_from_slice(&oid.to_bytes()));
        }
        bytes
    }

    /// Takes hints that were kept, as far as they can be read.
    pub fn take(&mut self, bytes: &[u8]) {
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return };
        let eight = |rest: &mut &[u8]| -> Option<Oid> {
            let (oid, after) = rest.split_first_chunk()?;
            *rest = after;
            Some(Oid::from_bytes(*oid))
        };
        while self.most > 0 && self.after.len() < OBJECTS_MAX {
            let Some(oid) = eight(&mut rest) else { return };
            let Some((count, after)) = rest.split_first() else { return };
            rest = after;
            let hint: Option<Vec<Oid>> = (0..*count).map(|_| eight(&mut rest)).collect();
            let Some(mut hint) = hint else { return };
            hint.truncate(self.most);
            self.after.insert(oid, hint);
            self.queue.push_back(oid);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(hints: &Hints) -> BTreeMap<u64, Vec<u64>> {
        hints.after.iter().map(|(oid, hint)| (oid.0, hint.iter().map(|oid| oid.0).collect())).collect()
    }

    proptest! {
        /// Rule 9.7.
        #[test]
        fn hints_are_those_of_the_rules(loads in proptest::collection::vec(0..7_u64, 0..40), most in 1..5_usize) {
            let mut hints = Hints::new(most);
            loads.iter().for_each(|oid| _ = hints.note(Oid(*oid)));
            prop_assert_eq!(all(&hints), vellum_spec::hints(&loads, most));
        }

        #[test]
        fn hints_are_the_same_after_a_restart(loads in proptest::collection::vec(0..7_u64, 0..40), cut in 0..9_usize) {
            let mut hints = Hints::new(3);
            loads.iter().for_each(|oid| _ = hints.note(Oid(*oid)));
            let (mut again, bytes) = (Hints::new(3), hints.to_bytes());
            again.take(&bytes);
            let mut known = all(&hints);
            known.retain(|_, hint| !hint.is_empty());
            prop_assert_eq!(all(&again), known);
            // A part of a file is a part of the hints.
            let mut part = Hints::new(3);
            part.take(&bytes[..bytes.len().saturating_sub(cut)]);
            prop_assert!(part.after.len() <= again.after.len());
        }

        #[test]
        fn any_bytes_are_taken_up_to_the_limits(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut hints = Hints::new(2);
            hints.take(&[MAGIC, &bytes].concat());
            prop_assert!(hints.after.values().all(|hint| hint.len() <= 2));
            hints.take(&bytes);
        }
    }
}
