//! Savepoints: going back by a part of a transaction.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use vellum_storage::{Bytes, Oid};

use crate::decode::decode;
use crate::error::{Error, Result};
use crate::handle::{Core, RawRef};
use crate::heap::State;

/// The number of the next savepoint of any connection: one of another connection is not taken for one of this.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A point within a transaction, to which a connection can go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Savepoint {
    number: u64,
}

/// The changed objects at a savepoint, as records.
#[derive(Debug)]
pub(crate) struct Saved {
    number: u64,
    records: Vec<(RawRef, Bytes)>,
    /// The oids of objects that are not stored.
    added: Vec<(u32, Oid)>,
}

impl Core {
    /// Rule 7.6: notes the state of every object that a commit would store now. Objects that are not stored yet get
    /// their oids.
    pub(crate) fn savepoint(&self) -> Result<Savepoint> {
        self.check_end()?;
        if self.is_past.get() {
            return Err(Error::Past { moment: self.moment.get() });
        }
        let written = self.write_all()?;
        let added = self.heap(|heap| {
            written.given.iter().for_each(|&slot| heap.set_state(slot, State::Added));
            let added = heap.unsaved(&[State::Added]);
            added.into_iter().filter_map(|slot| Some((slot, heap.oid(slot)?))).collect()
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let records = self.shared_with_last(written.records);
        self.savepoints.borrow_mut().push(Saved { number, records, added });
        Ok(Savepoint { number })
    }

    /// Takes the memory of the last savepoint's records for those that are the same, so that a transaction with many
    /// savepoints takes the memory of its changes, and not that of each savepoint's.
    fn shared_with_last(&self, mut records: Vec<(RawRef, Bytes)>) -> Vec<(RawRef, Bytes)> {
        let savepoints = self.savepoints.borrow();
        let last = savepoints.last().map(|saved| saved.records.as_slice()).unwrap_or_default();
        let last: HashMap<u32, &Bytes> = last.iter().map(|(object, bytes)| (object.slot(), bytes)).collect();
        for (object, bytes) in &mut records {
            if let Some(same) = last.get(&object.slot()).filter(|&old| *old == bytes) {
                *bytes = Bytes::clone(same);
            }
        }
        records
    }

    /// Rule 7.6: gives every object the state that it had at the savepoint. Objects that were added later are not added
    /// any more.
    pub(crate) fn rollback(&self, to: &Savepoint) -> Result<()> {
        self.check_end()?;
        let at = self.savepoints.borrow().iter().position(|saved| saved.number == to.number).ok_or(Error::Savepoint)?;
        let later = self.savepoints.borrow_mut().split_off(at + 1);
        drop(later);
        // Taken out, since decoding may run code of the program.
        let saved = self.savepoints.borrow_mut().pop().ok_or(Error::Savepoint)?;
        let done = self.restore(&saved);
        self.savepoints.borrow_mut().push(saved);
        done?;
        self.evict();
        Ok(())
    }

    fn restore(&self, saved: &Saved) -> Result<()> {
        let mut states = Vec::new();
        for (object, bytes) in &saved.records {
            let slot = object.slot();
            let found = self.heap(|heap| (heap.oid(slot), heap.loaded(slot).and_then(|part| part.object.clone())));
            let (oid, Some(loaded)) = found else { return Err(Error::InUse { oid: found.0 }) };
            let unreadable = |trouble| Error::Unreadable { oid, class: Some(Box::new(loaded.class())), trouble };
            let state = decode(self, bytes).and_then(|record| loaded.reload(record)).map_err(unreadable)?;
            states.push((slot, state));
        }
        let was_saved: HashSet<u32> = saved.records.iter().map(|(object, _)| object.slot()).collect();
        let was_added: HashSet<u32> = saved.added.iter().map(|(slot, _)| *slot).collect();
        let mut out = Vec::new();
        let since = self.heap(|heap| {
            for slot in heap.unsaved(&[State::Changed]).into_iter().filter(|slot| !was_saved.contains(slot)) {
                out.extend(heap.unload(slot));
            }
            let added = heap.unsaved(&[State::Added]).into_iter();
            added.filter(|slot| !was_added.contains(slot)).collect::<Vec<_>>()
        });
        self.take_back(&since);
        self.heap(|heap| {
            since.iter().for_each(|&slot| heap.set_state(slot, State::New));
            out.extend(states.into_iter().filter_map(|(slot, state)| heap.put_back(slot, state)));
        });
        drop(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vellum_storage::MemoryStorage;

    use crate::{Database, PersistentMapping};

    /// Many savepoints take the memory of the changes, and not that of each savepoint.
    #[test]
    fn savepoints_share_the_records_that_are_the_same() {
        let database = Database::open(MemoryStorage::new("memory")).unwrap();
        let connection = database.connect().unwrap();
        let made = [(); 2].map(|()| connection.make(PersistentMapping::default()));
        for object in &made {
            connection.add(object).unwrap();
        }
        connection.savepoint().unwrap();
        made[1].change(|mapping| mapping.insert("value", 3)).unwrap();
        connection.savepoint().unwrap();
        let savepoints = connection.core.savepoints.borrow();
        let memory = |at: usize| savepoints[at].records.iter().map(|(_, bytes)| bytes.as_ptr()).collect::<Vec<_>>();
        let is_shared: Vec<bool> = memory(0).iter().zip(memory(1)).map(|(one, two)| *one == two).collect();
        assert_eq!(is_shared, [true, false]);
    }
}
