//! The ends of a transaction.

use std::rc::Rc;

use vellum_pickle::ClassName;
use vellum_storage::{Bytes, Oid, Tid, TransactionMeta, is_blob};

use crate::encode::encode_into;
use crate::error::{Error, Result, Trouble};
use crate::handle::{Core, RawRef};
use crate::heap::State;
use crate::object::Object;

/// Oids that a connection asks for at a time.
const OIDS: u32 = 16;

/// The records that a commit or a savepoint writes.
#[derive(Default)]
pub(crate) struct Written {
    /// Each with its slot, in the order in which they are stored.
    pub(crate) records: Vec<(RawRef, Bytes)>,
    /// The objects that got an oid for it.
    pub(crate) given: Vec<u32>,
}

/// The records so far. It takes the oids back after an error, also if an object panics while it writes itself: a new
/// object with an oid would be taken for a stored one.
struct Writing<'a> {
    core: &'a Core,
    written: Written,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.core.take_back(&self.written.given);
    }
}

impl Core {
    /// Refuses what a finalizer must not do, and what a closed connection cannot.
    pub(crate) fn check_end(&self) -> Result<()> {
        if self.finalizing.get() {
            return Err(Error::InFinalizer);
        }
        self.shared().map(|_| ())
    }

    /// An oid for this connection. It is never given out again, even if the transaction is aborted: the program may
    /// have kept a weak reference, and a commit of unknown outcome may have stored the object. An oid that a record
    /// here names already, of an object that was lost, is passed over: it would be two objects.
    pub(crate) fn new_oid(&self) -> Result<Oid> {
        loop {
            let oid = self.oids.borrow_mut().pop();
            let Some(oid) = oid else {
                let mut new = self.shared()?.storage.new_oids(OIDS)?;
                new.reverse();
                *self.oids.borrow_mut() = new;
                if self.oids.borrow().is_empty() {
                    return Err(Error::Storage(vellum_storage::Error::Exhausted { what: "oids" }));
                }
                continue;
            };
            if self.heap(|heap| heap.find(oid).is_none()) {
                return Ok(oid);
            }
        }
    }

    /// Rule 7.4: writes every changed and every added object, and every object without an oid that one of these refers
    /// to. Those get oids. After an error none got one.
    pub(crate) fn write_all(&self) -> Result<Written> {
        let mut writing = Writing { core: self, written: Written::default() };
        self.write_into(&mut writing.written)?;
        Ok(std::mem::take(&mut writing.written))
    }

    fn write_into(&self, written: &mut Written) -> Result<()> {
        let mut next = self.heap(|heap| heap.unsaved(&[State::Changed, State::Added]));
        next.reverse();
        // Its memory is used again for each record.
        let mut bytes = Vec::new();
        while let Some(slot) = next.pop() {
            let (oid, object) =
                self.heap(|heap| (heap.oid(slot), heap.loaded(slot).and_then(|part| part.object.clone())));
            let object = object.ok_or(Error::InUse { oid })?;
            let new_from = next.len();
            let mut oid_of = |raw: &RawRef| {
                let oid = self.oid_to_write(raw)?;
                oid.map_or_else(
                    || {
                        let oid = self.new_oid().map_err(|error| Trouble::NoOid(error.to_string()))?;
                        self.heap(|heap| heap.give_oid(raw.slot(), oid));
                        written.given.push(raw.slot());
                        next.push(raw.slot());
                        Ok(oid)
                    },
                    Ok,
                )
            };
            bytes.clear();
            encode_into(&mut bytes, &mut oid_of, |writer| object.write(writer)).map_err(|trouble| match trouble {
                Trouble::OtherConnection => Error::OtherConnection,
                trouble => Error::Unwritable { oid, class: class_of(&*object).map(Box::new), trouble },
            })?;
            // Rule 8.1: a new revision that is stored without its bytes has none.
            if is_blob(&bytes) {
                return Err(Error::Unwritable { oid, class: class_of(&*object).map(Box::new), trouble: Trouble::Blob });
            }
            // New objects follow behind the one that refers to them, in the order in which it does.
            next[new_from..].reverse();
            written.records.push((self.handle(slot), Bytes::copy_from_slice(&bytes)));
        }
        Ok(())
    }

    /// The oid of an object that is referred to, if it has one.
    fn oid_to_write(&self, raw: &RawRef) -> Result<Option<Oid>, Trouble> {
        if !self.is_own(raw) {
            return Err(Trouble::OtherConnection);
        }
        match self.heap(|heap| (heap.state(raw.slot()), heap.oid(raw.slot()))) {
            (State::Free, _) => Err(Trouble::Collected),
            (_, oid) => Ok(oid),
        }
    }

    /// Takes back oids that were given for nothing.
    pub(crate) fn take_back(&self, given: &[u32]) {
        self.heap(|heap| given.iter().for_each(|&slot| heap.take_oid(slot)));
    }

    /// Rule 7.4: stores what must be stored, in one transaction, and shows the last transaction.
    pub(crate) fn commit(&self, meta: TransactionMeta) -> Result<Tid> {
        self.check_end()?;
        let written = match self.is_past.get() {
            true if self.heap(|heap| heap.unsaved(&[State::Added])).is_empty() => return Ok(self.moment.get()),
            true => return Err(Error::Past { moment: self.moment.get() }),
            false => self.write_all()?,
        };
        let done = self.send(meta, &written);
        let tid = match done {
            Ok(tid) => tid,
            Err(error) => {
                self.take_back(&written.given);
                return Err(error);
            }
        };
        self.heap(|heap| written.records.iter().for_each(|(object, _)| heap.stored(object.slot(), tid)));
        drop(written);
        // An object that the storage merged was changed by another transaction since the moment: it becomes a ghost.
        self.end(Some(tid))?;
        Ok(tid)
    }

    /// Gives the records to the storage. Returns the transaction.
    fn send(&self, meta: TransactionMeta, written: &Written) -> Result<Tid> {
        let storage = &self.shared()?.storage;
        let current = self.current.borrow().clone();
        if written.records.is_empty() && current.is_empty() {
            return Ok(self.moment.get());
        }
        let mut draft = storage.begin(meta)?;
        let mut stored = std::collections::BTreeSet::new();
        for (object, bytes) in &written.records {
            let slot = object.slot();
            let found = self.heap(|heap| {
                let serial = heap.loaded(slot).map(|part| part.serial);
                Some((heap.oid(slot)?, if heap.state(slot) == State::Changed { serial? } else { Tid::ZERO }))
            });
            let (oid, serial) = found.ok_or(Error::Collected)?;
            stored.insert(oid);
            draft.store(oid, serial, bytes.clone())?;
        }
        for (&oid, &serial) in current.iter().filter(|(oid, _)| !stored.contains(oid)) {
            draft.check_current(oid, serial)?;
        }
        let voted = storage.vote(draft)?;
        if written.records.is_empty() {
            // The checks were made, and there is nothing to write.
            return Ok(self.moment.get());
        }
        Ok(voted.finish()?)
    }

    /// Rule 7.5: makes ghosts of the changed objects, and takes the oids of objects that are not stored.
    pub(crate) fn abort(&self) -> Result<()> {
        self.check_end()?;
        let mut out = Vec::new();
        self.heap(|heap| {
            for slot in heap.unsaved(&[State::Changed]) {
                out.extend(heap.unload(slot));
            }
        });
        drop(out);
        let added = self.heap(|heap| heap.unsaved(&[State::Added]));
        self.take_back(&added);
        self.heap(|heap| added.iter().for_each(|&slot| heap.set_state(slot, State::New)));
        self.end(None)
    }

    /// The end of a transaction, which was committed as `own` or aborted.
    fn end(&self, own: Option<Tid>) -> Result<()> {
        self.current.borrow_mut().clear();
        drop(self.savepoints.take());
        self.advance_past(own)?;
        self.evict();
        Ok(())
    }

    /// Rule 7.3: moves the view to the last transaction. Objects that were changed until then become ghosts.
    pub(crate) fn advance(&self) -> Result<()> {
        self.advance_past(None)
    }

    fn advance_past(&self, own: Option<Tid>) -> Result<()> {
        if self.is_past.get() {
            return Ok(());
        }
        let (last, news) = self.shared()?.news(self.moment.get());
        let out: Vec<Rc<dyn Object>> = self.heap(|heap| {
            let changed = match news {
                Some(news) => {
                    let others = news.into_iter().filter(|(tid, _)| Some(*tid) != own);
                    others.filter_map(|(_, oid)| heap.find(oid)).collect()
                }
                None => heap.in_states(&[State::Clean]),
            };
            changed
                .into_iter()
                .filter_map(|slot| if heap.state(slot) == State::Clean { heap.unload(slot) } else { None })
                .collect()
        });
        drop(out);
        self.moment.set(last);
        Ok(())
    }

    /// Rule 7.7: notes that the commit depends on the revision that is loaded.
    pub(crate) fn read_current(&self, slot: u32) {
        let found = self.heap(|heap| match heap.state(slot) {
            State::Clean | State::Changed => Some((heap.oid(slot)?, heap.loaded(slot)?.serial)),
            _ => None,
        });
        if let Some((oid, serial)) = found {
            self.current.borrow_mut().insert(oid, serial);
        }
    }
}

pub(crate) fn class_of(object: &dyn Object) -> Option<ClassName> {
    Some(object.class()).filter(|class| !class.name.is_empty())
}
