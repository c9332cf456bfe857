//! Loaded revisions, each with the time for which it holds.
//!
//! ```text
//!               t1        t4        t7            what is known so far
//!   object 5    [───a────▶[───b─────────────────▶ b is current: it holds until an invalidation says otherwise
//!   object 6              [───c────▶)             d, which follows, is not here
//! ```
//!
//! A revision holds from its tid until the next one, for ever, so it stays right whatever happens to the connection.
//! Only a current revision may be wrong, after a time without a connection.
//!
//! The cache is bounded by bytes. The oldest entry goes first, unless it was used since: then it moves to the end of
//! the queue once more.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use vellum_storage::{LoadedAt, Oid, Tid};

/// Bytes that an entry takes beside its record, roughly.
const ENTRY_BYTES: u64 = 128;
/// A shorter record may be a part of a larger buffer, which it would keep in memory.
const SHARED_MIN: usize = 64 << 10;

/// The cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cache {
    objects: BTreeMap<Oid, BTreeMap<Tid, Entry>>,
    /// The entries, with their stamps, in the order in which they go. Entries that are gone may still be named.
    queue: VecDeque<(Oid, Tid, u64)>,
    count: usize,
    stamp_next: u64,
    bytes: u64,
    bytes_max: u64,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    data: Bytes,
    /// The revision that follows; none if this one is current.
    next: Option<Tid>,
    is_used: bool,
    stamp: u64,
}

impl Entry {
    fn bytes(&self) -> u64 {
        ENTRY_BYTES + self.data.len() as u64
    }
}

impl Cache {
    /// An empty cache of so many bytes.
    pub fn new(bytes_max: u64) -> Cache {
        Cache { objects: BTreeMap::new(), queue: VecDeque::new(), count: 0, stamp_next: 0, bytes: 0, bytes_max }
    }

    /// Bytes that it takes, roughly.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that it may take.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The object as it was just before a tid that is not later than what the client knows.
    pub fn get(&mut self, oid: Oid, before: Tid) -> Option<LoadedAt> {
        let (tid, entry) = self.objects.get_mut(&oid)?.range_mut(..before).next_back()?;
        if entry.next.is_some_and(|next| next < before) {
            return None;
        }
        entry.is_used = true;
        Some(LoadedAt { data: entry.data.clone(), tid: *tid, next: entry.next })
    }

    /// Keeps a revision.
    pub fn put(&mut self, oid: Oid, LoadedAt { data, tid, next }: LoadedAt) {
        let bytes = ENTRY_BYTES + data.len() as u64;
        if bytes > self.bytes_max / 4 {
            return;
        }
        self.remove(oid, tid);
        let data = if data.len() < SHARED_MIN { Bytes::copy_from_slice(&data) } else { data };
        let stamp = self.stamp_next;
        self.stamp_next += 1;
        self.objects.entry(oid).or_default().insert(tid, Entry { data, next, is_used: false, stamp });
        self.queue.push_back((oid, tid, stamp));
        self.count += 1;
        self.bytes += bytes;
        self.make_room();
    }

    /// Rule 9.6: keeps a revision that was not asked for by a load, unless it is here.
    pub fn add(&mut self, oid: Oid, found: LoadedAt) {
        if !self.objects.get(&oid).is_some_and(|revisions| revisions.contains_key(&found.tid)) {
            self.put(oid, found);
        }
    }

    /// Whether a load of this moment would find something here.
    pub fn has(&self, oid: Oid, before: Tid) -> bool {
        let revision = self.objects.get(&oid).and_then(|revisions| revisions.range(..before).next_back());
        revision.is_some_and(|(_, entry)| entry.next.is_none_or(|next| next >= before))
    }

    /// The object was changed by a transaction: what was current held until then.
    pub fn end(&mut self, oid: Oid, tid: Tid) {
        if let Some(entry) = self.current(oid) {
            entry.next = Some(tid);
        }
    }

    /// The object was changed, and nobody knows when.
    pub fn drop_current(&mut self, oid: Oid) {
        let tid = self.objects.get(&oid).and_then(|revisions| revisions.last_key_value());
        if let Some((tid, Entry { next: None, .. })) = tid {
            self.remove(oid, *tid);
        }
    }

    /// All that is current may have been changed.
    pub fn drop_all_current(&mut self) {
        for oid in self.objects.keys().copied().collect::<Vec<_>>() {
            self.drop_current(oid);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Cache::new(self.bytes_max);
    }

    /// The newest revision, if it is current.
    fn current(&mut self, oid: Oid) -> Option<&mut Entry> {
        let mut newest = self.objects.get_mut(&oid)?.last_entry()?;
        newest.get_mut().next.is_none().then(|| newest.into_mut())
    }

    fn remove(&mut self, oid: Oid, tid: Tid) {
        let Some(revisions) = self.objects.get_mut(&oid) else { return };
        if let Some(entry) = revisions.remove(&tid) {
            self.bytes -= entry.bytes();
            self.count -= 1;
        }
        if revisions.is_empty() {
            self.objects.remove(&oid);
        }
    }

    fn make_room(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((oid, tid, stamp)) = self.queue.pop_front() else { return };
            match self.objects.get_mut(&oid).and_then(|revisions| revisions.get_mut(&tid)) {
                Some(entry) if entry.stamp == stamp && entry.is_used => {
                    entry.is_used = false;
                    self.queue.push_back((oid, tid, stamp));
                }
                Some(entry) if entry.stamp == stamp => self.remove(oid, tid),
                _ => {}
            }
        }
        if self.queue.len() > 2 * self.count + 64 {
            let objects = &self.objects;
            self.queue.retain(|(oid, tid, stamp)| {
                objects.get(oid).and_then(|revisions| revisions.get(tid)).is_some_and(|entry| entry.stamp == *stamp)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn revision(data: &'static str, tid: u64, next: Option<u64>) -> LoadedAt {
        LoadedAt { data: data.into(), tid: Tid(tid), next: next.map(Tid) }
    }

    #[test]
    fn a_revision_holds_until_the_next_one() {
        let mut cache = Cache::new(10_000);
        cache.put(Oid(5), revision("b", 4, Some(7)));
        cache.put(Oid(5), revision("d", 9, None));
        let mut data = |before| cache.get(Oid(5), Tid(before)).map(|found| found.data);
        assert_eq!(data(4), None);
        assert_eq!(data(5), Some("b".into()));
        assert_eq!(data(7), Some("b".into()));
        assert_eq!(data(8), None, "another revision follows, which is not here");
        assert_eq!(data(10), Some("d".into()));
        cache.end(Oid(5), Tid(12));
        assert_eq!(cache.get(Oid(5), Tid(12)), Some(revision("d", 9, Some(12))));
        assert_eq!(cache.get(Oid(5), Tid(13)), None);
        cache.drop_all_current();
        assert!(cache.get(Oid(5), Tid(12)).is_some(), "a revision that has ended stays right");
    }

    #[test]
    fn a_small_record_does_not_keep_its_buffer() {
        let buffer = Bytes::from(vec![7; 60_000]);
        let mut cache = Cache::new(10_000);
        cache.put(Oid(1), LoadedAt { data: buffer.slice(..10), tid: Tid(1), next: None });
        assert!(buffer.try_into_mut().is_ok());
    }

    proptest! {
        #[test]
        fn it_never_takes_more_than_it_may(
            puts in proptest::collection::vec((0..20_u64, 0..20_u64, 0..900_usize, any::<bool>(), any::<bool>()), 0..300),
        ) {
            let mut cache = Cache::new(4_000);
            for (oid, tid, size, is_current, is_dropped) in puts {
                let next = (!is_current).then_some(Tid(tid + 1));
                cache.put(Oid(oid), LoadedAt { data: vec![1; size].into(), tid: Tid(tid), next });
                if is_dropped {
                    cache.drop_current(Oid(oid));
                }
                let bytes: u64 = cache.objects.values().flat_map(BTreeMap::values).map(Entry::bytes).sum();
                prop_assert_eq!(bytes, cache.bytes);
                prop_assert!(bytes <= 4_000);
                prop_assert_eq!(cache.objects.values().map(BTreeMap::len).sum::<usize>(), cache.count);
                prop_assert!(cache.queue.len() <= 2 * cache.count + 65);
            }
        }

        #[test]
        fn what_is_used_stays_longer(used in 0..4_u64) {
            let mut cache = Cache::new(4 * 228);
            for oid in 0..4 {
                cache.put(Oid(oid), LoadedAt { data: vec![1; 100].into(), tid: Tid(1), next: None });
            }
            prop_assert!(cache.get(Oid(used), Tid(2)).is_some());
            for oid in 4..7 {
                cache.put(Oid(oid), LoadedAt { data: vec![1; 100].into(), tid: Tid(1), next: None });
            }
            prop_assert!(cache.get(Oid(used), Tid(2)).is_some());
        }
    }
}
