//! Part 9: fetching ahead. A client is sent more than it loads; this is what its cache may make of that.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Database, KeyError, Oid, Shown, Tid};

/// Where a prefetch ends (rule 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// References between the first objects and the last: 0 for the first objects alone.
    pub depth: u32,
    /// Revisions.
    pub count: usize,
    /// Bytes of all records together.
    pub bytes: usize,
}

/// The time for which a cache may say that a revision holds (rule 9.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// From its tid until the client is told otherwise.
    Current,
    /// From its tid until this transaction.
    Until(Tid),
    /// The server contradicts itself. The revision is not kept.
    Not,
}

/// Rule 9.1: the moment of a bulk fetch or a prefetch that is asked for as of `asked` by a client that knows `known`.
pub fn moment(asked: Tid, known: Tid) -> Tid {
    asked.min(known.saturating_add(1))
}

/// Rule 9.4: how a cache keeps a revision of `tid` that arrived with `next`. `changed` is the first transaction that
/// the client was told of since it asked, and that changed the object.
pub fn kept(tid: Tid, next: Option<Tid>, changed: Option<Tid>) -> Kept {
    match (next, changed) {
        (None, None) => Kept::Current,
        (Some(next), None) => Kept::Until(next),
        (None, Some(changed)) if tid < changed => Kept::Until(changed),
        (Some(next), Some(changed)) if next <= changed => Kept::Until(next),
        (_, Some(_)) => Kept::Not,
    }
}

/// Rule 9.5: whether a client may believe that these revisions, in the order in which they came, answer a prefetch of
/// `oids` at `t`. Each is an oid, its record, its tid and its next revision's tid.
pub fn asked_for(sent: &[(Oid, &[u8], Tid, Option<Tid>)], oids: &[Oid], t: Tid, limits: Limits) -> bool {
    let mut seen = BTreeSet::new();
    let bytes: usize = sent.iter().map(|(_, data, ..)| data.len()).sum();
    let fits = sent.len() <= limits.count && bytes <= limits.bytes;
    fits && sent.iter().all(|(oid, data, tid, next)| {
        let holds = *tid < t && next.is_none_or(|next| next >= t);
        holds && !data.is_empty() && seen.insert(*oid) && (limits.depth > 0 || oids.contains(oid))
    })
}

/// Rule 9.6: a cache after a prefetched revision has arrived.
pub fn in_addition<T>(mut cache: BTreeMap<(Oid, Tid), T>, oid: Oid, tid: Tid, arrived: T) -> BTreeMap<(Oid, Tid), T> {
    cache.entry((oid, tid)).or_insert(arrived);
    cache
}

/// Rule 9.7: the hint of each object after these loads, the oldest first, with at most `most` objects in a hint.
pub fn hints(loads: &[Oid], most: usize) -> BTreeMap<Oid, Vec<Oid>> {
    let mut hints = BTreeMap::new();
    for (n, oid) in loads.iter().enumerate() {
        let mut seen = BTreeSet::from([*oid]);
        // Of what follows, the last load of this object counts, and this one is not the last if it comes again.
        let follows = loads[n + 1..].iter().take(most).take_while(|next| *next != oid);
        hints.insert(*oid, follows.copied().filter(|next| seen.insert(*next)).collect());
    }
    hints
}

impl Database {
    /// Rule 9.2: the answer to a load of each of these objects, of the same moment.
    pub fn load_many(&self, oids: &[Oid], t: Tid) -> Vec<Result<Option<Shown<'_>>, KeyError>> {
        oids.iter().map(|oid| self.load_before(*oid, t)).collect()
    }

    /// Rule 9.3: the revisions that can be reached from these objects at a moment, in the order in which they are sent.
    /// `references` says which objects a record refers to, in their order (rule 4.6), and none for a record that cannot
    /// be read.
    pub fn within_reach(
        &self,
        oids: &[Oid],
        t: Tid,
        limits: Limits,
        references: &dyn Fn(&[u8]) -> Vec<Oid>,
    ) -> Vec<(Oid, Shown<'_>)> {
        let (mut reached, mut seen, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        let mut level = oids.to_vec();
        for _ in 0..=limits.depth {
            let mut next = Vec::new();
            for oid in level {
                let is_new = seen.insert(oid);
                let Some(shown) = self.load_before(oid, t).ok().flatten().filter(|_| is_new) else { continue };
                bytes += shown.data.len();
                if reached.len() == limits.count || bytes > limits.bytes {
                    return reached;
                }
                next.extend(references(shown.data));
                reached.push((oid, shown));
            }
            level = next;
            if level.is_empty() {
                break;
            }
        }
        reached
    }
}
