//! A connection: objects as of one moment, and changes of its own.

use std::rc::Rc;

use vellum_storage::{Oid, Tid, TransactionMeta};

use crate::collect::Collection;
use crate::database::close;
use crate::error::{Error, Result};
use crate::handle::Core;
use crate::heap::State;
use crate::object::Stored;
use crate::savepoint::Savepoint;
use crate::{Persistent, Ref};

/// A view of a database as of one moment, with the changes of one transaction. It belongs to its thread.
///
/// Dropping it aborts the transaction, and puts it into the pool with its loaded objects. Handles do not keep it: after
/// that they are errors, until the same connection is taken from the pool again.
pub struct Connection {
    pub(crate) core: Rc<Core>,
}

impl Connection {
    /// The root.
    pub fn root<T: Persistent>(&self) -> Ref<T> {
        self.get(Oid::ROOT)
    }

    /// The object of this oid. Whether it exists shows when it is looked at.
    pub fn get<T: Persistent>(&self, oid: Oid) -> Ref<T> {
        Ref::from_raw(self.core.reference(oid, || None))
    }

    /// Makes an object. It is stored by the commit that first finds it in an object that it stores (rule 7.4).
    pub fn make<T: Persistent>(&self, value: T) -> Ref<T> {
        let slot = self.core.heap(|heap| heap.make(Rc::new(Stored { value, kept: None })));
        Ref::from_raw(self.core.counted(slot))
    }

    /// Gives an object that is not stored an oid. The next commit stores it, whether anything refers to it or not.
    ///
    /// # Errors
    ///
    /// The storage gives no oid; the object is of another connection, or was collected; the connection shows the past.
    pub fn add<T: Persistent>(&self, object: &Ref<T>) -> Result<Oid> {
        if !self.core.is_own(object.raw()) {
            return Err(Error::OtherConnection);
        }
        if self.core.is_past.get() {
            return Err(Error::Past { moment: self.moment() });
        }
        let slot = object.raw().slot();
        match self.core.oid(slot) {
            Some(oid) => Ok(oid),
            None if self.core.heap(|heap| heap.state(slot)) == State::Free => Err(Error::Collected),
            None => {
                let oid = self.core.new_oid()?;
                self.core.heap(|heap| {
                    heap.give_oid(slot, oid);
                    heap.set_state(slot, State::Added);
                });
                Ok(oid)
            }
        }
    }

    /// The last transaction that this connection shows.
    pub fn moment(&self) -> Tid {
        self.core.moment.get()
    }

    /// Whether there is something that a commit would store.
    pub fn is_changed(&self) -> bool {
        !self.core.heap(|heap| heap.unsaved(&[State::Changed, State::Added])).is_empty()
    }

    /// Rule 7.3: begins a transaction: gives up the changes, and shows the last transaction.
    ///
    /// # Errors
    ///
    /// Within a finalizer; after the connection was closed.
    pub fn begin(&self) -> Result<()> {
        self.core.abort()
    }

    /// Rule 7.5: gives up the changes, and shows the last transaction. Objects that are not stored keep their state,
    /// and lose their oids.
    ///
    /// # Errors
    ///
    /// As [`Connection::begin`].
    pub fn abort(&self) -> Result<()> {
        self.core.abort()
    }

    /// Stores the changes, and shows the last transaction. Returns the transaction, or the last one before it if there
    /// was nothing to store.
    ///
    /// # Errors
    ///
    /// The storage refuses the transaction, for a conflict perhaps ([`Error::is_conflict`]), or fails. An object cannot
    /// be written. The changes are then still here: abort, and try again.
    pub fn commit(&self) -> Result<Tid> {
        self.commit_with(TransactionMeta::new())
    }

    /// The same with a user and a description.
    ///
    /// # Errors
    ///
    /// As [`Connection::commit`].
    pub fn commit_with(&self, meta: TransactionMeta) -> Result<Tid> {
        self.core.commit(meta)
    }

    /// Rule 7.7: makes the next commit depend on an object: if another transaction has changed it by then, that is a
    /// conflict.
    ///
    /// # Errors
    ///
    /// As [`Ref::view`].
    pub fn read_current<T: Persistent>(&self, object: &Ref<T>) -> Result<()> {
        if !self.core.is_own(object.raw()) {
            return Err(Error::OtherConnection);
        }
        object.view()?;
        self.core.read_current(object.raw().slot());
        Ok(())
    }

    /// Rule 7.7: the objects on which the next commit depends, in the order of their oids. Changes of a B-tree add the
    /// nodes that they passed.
    pub fn needed(&self) -> Vec<Oid> {
        self.core.current.borrow().keys().copied().collect()
    }

    /// Remembers the changes so far.
    ///
    /// # Errors
    ///
    /// An object cannot be written; within a finalizer; the connection shows the past.
    pub fn savepoint(&self) -> Result<Savepoint> {
        self.core.savepoint()
    }

    /// Goes back to a savepoint, any number of times. Later savepoints are void.
    ///
    /// # Errors
    ///
    /// The savepoint is void; an object that changed since then is in use.
    pub fn rollback(&self, to: &Savepoint) -> Result<()> {
        self.core.rollback(to)
    }

    /// Collects the heap (rules 7.9 to 7.12).
    ///
    /// # Errors
    ///
    /// Within a finalizer; while an object is being changed.
    pub fn collect(&self) -> Result<Collection> {
        self.core.collect()
    }

    /// Makes a ghost of every loaded object that may become one (rule 7.8).
    pub fn minimize(&self) {
        self.core.minimize();
    }

    /// Bytes and number of the loaded objects, as the budget counts them.
    pub fn loaded(&self) -> (u64, u64) {
        self.core.heap(|heap| (heap.clock.bytes, heap.clock.objects))
    }

    /// Objects that the heap knows, ghosts included.
    pub fn known(&self) -> usize {
        self.core.heap(|heap| heap.slots().filter(|&slot| heap.state(slot) != State::Free).count())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        close(&self.core);
    }
}
