//! Savepoints: going back by a part of a transaction.

use vellum_storage::{Bytes, Oid};

use crate::decode::decode;
use crate::error::{Error, Result};
use crate::handle::{Core, RawRef};
use crate::heap::State;

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
        let number = self.savepoint_next.get();
        self.savepoint_next.set(number + 1);
        self.savepoints.borrow_mut().push(Saved { number, records: written.records, added });
        Ok(Savepoint { number })
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
        let was_saved = |slot: u32| saved.records.iter().any(|(object, _)| object.slot() == slot);
        let mut out = Vec::new();
        let since = self.heap(|heap| {
            for slot in heap.unsaved(&[State::Changed]).into_iter().filter(|&slot| !was_saved(slot)) {
                out.extend(heap.unload(slot));
            }
            let added = heap.unsaved(&[State::Added]).into_iter();
            added.filter(|slot| !saved.added.iter().any(|(old, _)| old == slot)).collect::<Vec<_>>()
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
