//! A walk along references, in pieces: what a prefetch sends.

use std::collections::{BTreeSet, VecDeque};

use vellum_pickle::{Reference, Scanner};
use vellum_storage::{Error, LoadedAt, Oid, Result, Tid};
use vellum_wire::{Ahead, Reach};

/// A walk that was begun. Between two pieces it is a plain value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Walk {
    /// The moment: everything is as it was just before it.
    before: Tid,
    /// The rest of the limits, except that the depth is the whole one.
    left: Reach,
    /// The objects that come next, each with its depth.
    next: VecDeque<(Oid, u32)>,
    /// The objects that have come or will come.
    seen: BTreeSet<Oid>,
}

/// So many objects are noted for one walk. Beyond that it follows no further references.
const NOTED_MAX: usize = 1 << 18;
/// A piece of a walk ends with the revision that reaches this many bytes,
const PIECE_BYTES: u64 = 48 << 10;
/// or this many revisions.
const PIECE_COUNT: usize = 256;

impl Walk {
    /// A walk from these objects.
    pub fn new(oids: Vec<Oid>, before: Tid, reach: Reach) -> Walk {
        let mut seen = BTreeSet::new();
        let next = oids.into_iter().filter(|oid| seen.insert(*oid)).map(|oid| (oid, 0)).collect();
        Walk { before, left: reach, next, seen }
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        self.next.is_empty()
    }

    /// Rule 9.3: the next revisions, in the order in which they are sent. `load_before` is rule 2.2.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    pub fn go_on(&mut self, mut load_before: impl FnMut(Oid, Tid) -> Result<Option<LoadedAt>>) -> Result<Vec<Ahead>> {
        let (mut found, mut bytes, mut scanner) = (Vec::new(), 0, Scanner::new());
        while let Some((oid, depth)) = self.next.pop_front() {
            let revision = match load_before(oid, self.before) {
                Ok(Some(revision)) => revision,
                Ok(None) | Err(Error::KeyError { .. }) => continue,
                Err(error) => return Err(error),
            };
            let length = revision.data.len() as u64;
            if self.left.count == 0 || self.left.bytes < length {
                self.next.clear();
                break;
            }
            self.left.count -= 1;
            self.left.bytes -= length;
            bytes += length;
            self.follow(&revision, depth, &mut scanner);
            found.push(Ahead { oid, revision });
            if bytes >= PIECE_BYTES || found.len() == PIECE_COUNT {
                break;
            }
        }
        Ok(found)
    }

    /// Notes the objects that a record refers to.
    fn follow(&mut self, revision: &LoadedAt, depth: u32, scanner: &mut Scanner) {
        if depth == self.left.depth {
            return;
        }
        let mut oids = Vec::new();
        let scanned = scanner.scan(&revision.data, |reference| {
            if let Reference::Strong { oid, .. } = reference {
                oids.push(Oid(oid));
            }
        });
        if scanned.is_err() {
            return;
        }
        for oid in oids {
            if self.seen.len() < NOTED_MAX && self.seen.insert(oid) {
                self.next.push_back((oid, depth + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vellum_storage::{MemoryStorage, TransactionMeta};

    /// A record that refers to these objects.
    fn record(refers: &[u64]) -> Vec<u8> {
        let mut record = b"\x80\x03cshop\nItem\n.\x80\x03(".to_vec();
        for oid in refers {
            record.extend_from_slice(b"C\x08");
            record.extend_from_slice(&oid.to_be_bytes());
            record.extend_from_slice(b"cshop\nItem\n\x86Q");
        }
        record.extend_from_slice(b"t.");
        record
    }

    fn storage(records: &[(u64, Vec<u8>)]) -> MemoryStorage {
        let storage = MemoryStorage::new("memory");
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        for (oid, record) in records {
            draft.store(Oid(*oid), Tid::ZERO, record.clone().into()).unwrap();
        }
        storage.commit(draft).unwrap();
        storage
    }

    fn walk(storage: &MemoryStorage, oids: &[u64], reach: Reach) -> Vec<u64> {
        let mut walk = Walk::new(oids.iter().copied().map(Oid).collect(), Tid::MAX, reach);
        let mut found = Vec::new();
        while !walk.is_over() {
            found.extend(
                walk.go_on(|oid, before| storage.load_before(oid, before))
                    .unwrap()
                    .into_iter()
                    .map(|ahead| ahead.oid.0),
            );
        }
        found
    }

    const ALL: Reach = Reach { depth: 9, count: 9999, bytes: 1 << 20 };

    /// Rule 9.3.
    #[test]
    fn references_are_followed_level_by_level_and_to_each_object_once() {
        let mut records = vec![
            (0, record(&[3, 1, 9])),
            (1, record(&[2, 0])),
            (2, record(&[])),
            (3, record(&[2, 4])),
            (4, record(&[])),
        ];
        records.push((5, b"no pickle at all".to_vec()));
        let storage = storage(&records);
        assert_eq!(walk(&storage, &[0], ALL), [0, 3, 1, 2, 4]);
        assert_eq!(walk(&storage, &[5, 1, 5, 7], ALL), [5, 1, 2, 0, 3, 4]);
        assert_eq!(walk(&storage, &[0], Reach { depth: 1, ..ALL }), [0, 3, 1]);
        assert_eq!(walk(&storage, &[0], Reach { count: 4, ..ALL }), [0, 3, 1, 2]);
        let bytes = (records[0].1.len() + records[3].1.len()) as u64;
        assert_eq!(walk(&storage, &[0], Reach { bytes, ..ALL }), [0, 3]);
        assert_eq!(walk(&storage, &[0], Reach { bytes: bytes - 1, ..ALL }), [0]);
    }

    #[test]
    fn a_long_walk_has_pieces_of_limited_size() {
        let records: Vec<_> = (0..2000).map(|oid| (oid, record(&[oid + 1, oid + 2]))).collect();
        let storage = storage(&records);
        let mut walk = Walk::new(vec![Oid(0)], Tid::MAX, Reach { depth: u32::MAX, ..ALL });
        let mut count = 0;
        while !walk.is_over() {
            let piece = walk.go_on(|oid, before| storage.load_before(oid, before)).unwrap();
            assert!(piece.len() <= PIECE_COUNT);
            count += piece.len();
        }
        assert_eq!(count, 2000);
    }
}
