//! The references between objects, now: which objects keep an object, and which objects are garbage.
//!
//! A database is a graph: objects, and the references in their records. Two questions are asked of it here, with what
//! every storage answers:
//!
//! ```text
//!     the root ──▶ a ──▶ b ──▶ c          shortest_path(root, c)   root, a, b, c
//!                  ▲     ╎                referrers(a)             the root, d; and b, weakly
//!                  d ◀── e
//!                  ╎
//!                  ╌╌ weak
//! ```
//!
//! **The references of an object** are those of its newest revision, and if that is in a version, also those of its
//! base revision: both can be read. A pack to now keeps the same (rule 4.2). Weak references, and those
//! into other databases, keep nothing (rule 4.6).
//!
//! **Cost.** [`shortest_path`] searches in breadth, so that the
//! first path is a shortest one; the list of visited objects, never shortened, is both the queue and the way back,
//! since each has the place of its predecessor: twelve bytes for each object that is nearer to the start. Neither
//! recurses. [`referrers`] has one bit per object, and reads all transactions once, from the newest one back: no
//! storage has an index of references. In this order the first revision that it meets of an object is its newest.
//!
//! If others write to the storage at the same time, the answers are not of one moment; those of [`AsOf`](crate::AsOf)
//! are.

use vellum_pickle::{Reference, Scanner, Untold};

use crate::{Bytes, Error, Oid, OidSet, Order, Result, Storage, Tid, TidRange, Version};

/// The present revision of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestRevision {
    /// The object.
    pub oid: Oid,
    /// Its newest revision.
    pub tid: Tid,
    /// The version that this is in.
    pub version: Version,
    /// The record; none for a tombstone.
    pub data: Option<Bytes>,
    /// In a version: the trunk's revision under it, and its record, if the trunk has the object.
    pub base: Option<(Tid, Bytes)>,
}

impl NewestRevision {
    /// The records that the object has now: one, or in a version two, or none.
    pub fn records(&self) -> impl Iterator<Item = (Tid, Version, &Bytes)> {
        let newest = self.data.iter().map(|data| (self.tid, self.version.clone(), data));
        newest.chain(self.base.iter().map(|(tid, data)| (*tid, Version::TRUNK, data)))
    }
}

/// Calls `each` with every object as it is now, tombstones included. The object that was changed last comes first.
///
/// Costs: reads all transactions.
///
/// # Errors
///
/// An error of the storage, or of `each`, ends the walk.
pub fn newest_revisions(storage: &dyn Storage, each: &mut dyn FnMut(NewestRevision) -> Result<()>) -> Result<()> {
    let seen = OidSet::new();
    for transaction in storage.transactions(TidRange::ALL, Order::NewestFirst)? {
        let transaction = transaction?;
        // If one oid occurs twice, the last one counts (rule 1.4).
        for revision in transaction.revisions.into_iter().rev() {
            let (oid, tid) = (revision.oid, transaction.tid);
            if !seen.insert(oid) {
                continue;
            }
            let base = match revision.base {
                Some(base) => match storage.load_serial(oid, tid) {
                    Ok(data) => Some((base, data)),
                    Err(Error::KeyError { .. }) => None,
                    Err(other) => return Err(other),
                },
                None => None,
            };
            each(NewestRevision { oid, tid, version: revision.version, data: revision.data, base })?;
        }
    }
    Ok(())
}

/// A record that refers to an object, or might.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The object of the record.
    pub oid: Oid,
    /// Its revision.
    pub tid: Tid,
    /// The version that it is in.
    pub version: Version,
    /// The record.
    pub data: Bytes,
    /// How many references that keep the object.
    pub strong: u64,
    /// How many weak ones.
    pub weak: u64,
    /// Why it cannot be told what the record refers to: there may be more references in it, or the only ones.
    pub untold: Option<Untold>,
}

/// Calls `each` with every current record that refers to the object, which need not exist, and with those of which it
/// cannot be told. Returns how many objects were read.
///
/// Costs: reads all transactions.
///
/// # Errors
///
/// An error of the storage, or of `each`, ends the walk.
pub fn referrers(storage: &dyn Storage, to: Oid, each: &mut dyn FnMut(Referrer) -> Result<()>) -> Result<u64> {
    let (mut scanner, mut objects) = (Scanner::new(), 0);
    newest_revisions(storage, &mut |object| {
        objects += 1;
        for (tid, version, data) in object.records() {
            let (mut strong, mut weak) = (0, 0);
            let scanned = scanner.scan_all(data, |reference| match reference {
                Reference::Strong { oid, .. } if oid == to.0 => strong += 1,
                Reference::Weak { oid, database: None } if oid == to.0 => weak += 1,
                _ => {}
            });
            if strong > 0 || weak > 0 || scanned.is_err() {
                let (data, untold) = (data.clone(), scanned.err());
                each(Referrer { oid: object.oid, tid, version, data, strong, weak, untold })?;
            }
        }
        Ok(())
    })?;
    Ok(objects)
}

/// Whether one object can be reached from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// By this shortest path of strong references, both ends included.
    By(Vec<Oid>),
    /// It cannot be told: no path was found, and these objects, which can be reached, may refer to more than is known.
    /// In the order in which they were met, and why.
    Untold(Vec<(Oid, Untold)>),
    /// No.
    No,
}

impl Reached {
    /// The path; empty if none is known.
    pub fn path(&self) -> &[Oid] {
        match self {
            Reached::By(path) => path,
            Reached::Untold(_) | Reached::No => &[],
        }
    }
}

/// Looks for a shortest path of strong references from one object to another, which need not exist. `progress` is
/// called now and then with the number of objects that were read.
///
/// # Errors
///
/// The storage fails.
pub fn shortest_path(storage: &dyn Storage, from: Oid, to: Oid, progress: &mut dyn FnMut(u64)) -> Result<Reached> {
    let met = OidSet::new();
    met.insert(from);
    let mut looking = Looking { storage, scanner: Scanner::new(), read: 0, progress };
    // The visited objects, in this order, and the place of each one's predecessor; the first is its own predecessor.
    let (mut list, mut led_by) = (vec![from], vec![0_u32]);
    let mut untold = Vec::new();
    let mut at = 0;
    while at < list.len() && !met.contains(to) {
        let place =
            u32::try_from(at).map_err(|_| Error::Exhausted { what: "the places of a search (2^32 objects)" })?;
        let here = list[at];
        let why = looking.at(here, &mut |oid, _| {
            // Objects behind it are as far away as it, and not wanted.
            if !met.contains(to) && met.insert(oid) {
                list.push(oid);
                led_by.push(place);
            }
        })?;
        untold.extend(why.map(|why| (here, why)));
        at += 1;
    }
    if !met.contains(to) {
        return Ok(if untold.is_empty() { Reached::No } else { Reached::Untold(untold) });
    }
    let mut path = Vec::new();
    let mut place = list.len() - 1;
    while place > 0 {
        path.push(list[place]);
        place = led_by[place] as usize;
    }
    path.push(from);
    path.reverse();
    Ok(Reached::By(path))
}

/// Returns the version in which an object has a strong reference to another one now; the trunk, if it has one there
/// too. None if it has none.
///
/// # Errors
///
/// The storage fails.
pub fn refers_in(storage: &dyn Storage, from: Oid, to: Oid) -> Result<Option<Version>> {
    let mut looking = Looking { storage, scanner: Scanner::new(), read: 0, progress: &mut |_| () };
    let mut found = None;
    looking.at(from, &mut |oid, version| {
        if oid == to && found.is_none() {
            found = Some(version.clone());
        }
    })?;
    Ok(found)
}

/// Looking at what objects refer to.
struct Looking<'a> {
    storage: &'a dyn Storage,
    scanner: Scanner,
    read: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Looking<'_> {
    /// Gives the present references of the object, and their version; first the trunk's. Returns the reason if it may
    /// have more.
    fn at(&mut self, oid: Oid, found: &mut dyn FnMut(Oid, &Version)) -> Result<Option<Untold>> {
        self.read += 1;
        if self.read.is_multiple_of(1024) {
            (self.progress)(self.read);
        }
        let version = match self.storage.versions() {
            Some(versions) => versions.modified_in_version(oid)?,
            None => Version::TRUNK,
        };
        let other = (!version.is_trunk()).then_some(&version);
        let mut untold = None;
        for version in std::iter::once(&Version::TRUNK).chain(other) {
            let data = match self.storage.load(oid, version) {
                Ok(loaded) => loaded.data,
                Err(Error::KeyError { .. }) => continue,
                Err(error) => return Err(error),
            };
            let scanned = self.scanner.scan_all(&data, |reference| {
                if let Reference::Strong { oid, .. } = reference {
                    found(Oid(oid), version);
                }
            });
            untold = untold.or(scanned.err());
        }
        Ok(untold)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use proptest::prelude::*;

    use super::*;
    use crate::{MemoryStorage, TransactionMeta};

    fn record(strong: &[u64]) -> Bytes {
        let mut record = b"\x80\x03capp\nNode\n.\x80\x03](".to_vec();
        for oid in strong {
            record.extend_from_slice(&[b"C\x08", &oid.to_be_bytes()[..], b"Q"].concat());
        }
        record.extend_from_slice(b"e.");
        record.into()
    }

    type Graph = BTreeMap<u64, BTreeSet<u64>>;

    fn storage(graph: &Graph) -> MemoryStorage {
        let storage = MemoryStorage::new("graph");
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        for (from, to) in graph {
            let to: Vec<_> = to.iter().copied().collect();
            draft.store(Oid(*from), Tid::ZERO, record(&to)).unwrap();
        }
        storage.commit(draft).unwrap();
        storage
    }

    /// How far everything is from the root.
    fn distances(graph: &Graph) -> BTreeMap<u64, usize> {
        let mut distances = BTreeMap::from([(0, 0)]);
        let mut queue = VecDeque::from([0]);
        while let Some(at) = queue.pop_front() {
            for to in graph.get(&at).into_iter().flatten() {
                if !distances.contains_key(to) {
                    distances.insert(*to, distances[&at] + 1);
                    queue.push_back(*to);
                }
            }
        }
        distances
    }

    proptest! {
        /// Of any graph, with cycles and with references to nowhere.
        #[test]
        fn what_is_found_is_what_is_there(
            graph in prop::collection::btree_map(0..30_u64, prop::collection::btree_set(0..40_u64, 0..4), 1..30),
        ) {
            let (storage, distances) = (storage(&graph), distances(&graph));
            for to in 0..40 {
                let path = shortest_path(&storage, Oid::ROOT, Oid(to), &mut |_| ()).unwrap();
                prop_assert_eq!(path == Reached::No, !distances.contains_key(&to));
                let path = path.path();
                prop_assert_eq!(path.len().checked_sub(1), distances.get(&to).copied());
                for step in path.windows(2) {
                    prop_assert!(graph[&step[0].0].contains(&step[1].0));
                    prop_assert_eq!(refers_in(&storage, step[0], step[1]).unwrap(), Some(Version::TRUNK));
                }
                let mut found = BTreeSet::new();
                referrers(&storage, Oid(to), &mut |referrer| {
                    found.insert(referrer.oid.0);
                    Ok(())
                }).unwrap();
                let expected = graph.iter().filter(|(_, refers)| refers.contains(&to)).map(|(from, _)| *from);
                prop_assert_eq!(found, expected.collect::<BTreeSet<_>>());
            }
        }
    }

    /// An unreadable record keeps unknown objects.
    #[test]
    fn what_can_not_be_read_is_said() {
        let storage = MemoryStorage::new("broken");
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid::ROOT, Tid::ZERO, record(&[1])).unwrap();
        draft.store(Oid(1), Tid::ZERO, "no pickle".into()).unwrap();
        storage.commit(draft).unwrap();
        let path = shortest_path(&storage, Oid::ROOT, Oid(1), &mut |_| ()).unwrap();
        assert_eq!(path, Reached::By(vec![Oid(0), Oid(1)]));
        let path = shortest_path(&storage, Oid::ROOT, Oid(7), &mut |_| ()).unwrap();
        assert!(matches!(&path, Reached::Untold(records) if records.len() == 1 && records[0].0 == Oid(1)), "{path:?}");
        let mut found = Vec::new();
        referrers(&storage, Oid(7), &mut |r| {
            found.push((r.oid, r.untold.is_some()));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [(Oid(1), true)]);
    }
}
