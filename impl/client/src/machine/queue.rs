//! Questions that wait until a server is there.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::Waiting;

/// Questions, in the order in which they came. Those whose time is up are found without a look at the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Waiting>,
    deadlines: BTreeSet<(Duration, u64)>,
}

/// The numbers of places say only which is first, so they do not count.
impl PartialEq for Queue {
    fn eq(&self, other: &Queue) -> bool {
        self.waiting.values().eq(other.waiting.values())
    }
}

impl Eq for Queue {}

impl Hash for Queue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.waiting.len());
        self.waiting.values().for_each(|waiting| waiting.hash(state));
    }
}

impl Queue {
    pub fn push(&mut self, waiting: Waiting) {
        let place = self.waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        self.deadlines.insert((waiting.deadline, place));
        self.waiting.insert(place, waiting);
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the first time is up.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes a question whose time is up.
    pub fn pop_late(&mut self, now: Duration) -> Option<Waiting> {
        let (at, place) = *self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.deadlines.remove(&(at, place));
        self.waiting.remove(&place)
    }

    /// Takes all, the first first.
    pub fn take(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        std::mem::take(self).waiting.into_values()
    }
}
