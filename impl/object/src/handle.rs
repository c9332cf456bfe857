//! Handles: how a program, or an object, holds an object.
//!
//! A handle is a number of a heap and a number of a slot, 8 bytes. The heaps of a thread are in a table, so a handle
//! finds its heap without a pointer, and a handle of a connection that ended finds none. Each handle is counted in its
//! slot, and the references of loaded objects are handles, too: the collector tells the program's handles from theirs
//! by counting theirs.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use vellum_pickle::{ClassName, Scratch};
use vellum_storage::{Bytes, Error as StorageError, Oid, Tid};

use crate::collect::Panics;
use crate::database::Shared;
use crate::decode::read_with;
use crate::error::{Error, Result, Trouble};
use crate::heap::{Heap, State};
use crate::object::{Object, Stored, View};
use crate::savepoint::Saved;
use crate::{Connection, Generic, Persistent};

thread_local! {
    /// The heaps of this thread, by their numbers.
    static HEAPS: RefCell<BTreeMap<u32, Weak<Core>>> = const { RefCell::new(BTreeMap::new()) };
    /// The number of the next heap. No number is used twice.
    static NEXT: Cell<u32> = const { Cell::new(0) };
}

/// Steps of the CLOCK's hand at each look at an object, so that a heap whose objects are all changed costs no more.
const STEPS: usize = 64;

/// A connection, as its handles see it.
pub(crate) struct Core {
    number: u32,
    heap: RefCell<Heap>,
    /// References that were taken or given back while the heap was borrowed: the slot, and whether it was taken.
    late: RefCell<Vec<(u32, bool)>>,
    /// None while the connection waits in the pool.
    pub(crate) shared: RefCell<Option<Arc<Shared>>>,
    /// The last transaction that it shows.
    pub(crate) moment: Cell<Tid>,
    /// Whether it shows a moment of the past, and changes nothing.
    pub(crate) is_past: Cell<bool>,
    /// Whether a finalizer runs.
    pub(crate) finalizing: Cell<bool>,
    /// Objects of cycles with several finalizers.
    pub(crate) stuck: RefCell<Vec<RawRef>>,
    pub(crate) panics: RefCell<Panics>,
    /// Objects that must be current at the commit, with their serials.
    pub(crate) current: RefCell<BTreeMap<Oid, Tid>>,
    pub(crate) savepoints: RefCell<Vec<Saved>>,
    /// Oids that were given to this connection and not used yet.
    pub(crate) oids: RefCell<Vec<Oid>>,
    /// The numbers of the last census.
    pub(crate) census: RefCell<BTreeMap<ClassName, usize>>,
    /// The memory in which the last record was read.
    pub(crate) scratch: RefCell<Scratch>,
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = HEAPS.try_with(|heaps| heaps.try_borrow_mut().ok()?.remove(&self.number));
    }
}

impl Core {
    pub(crate) fn new() -> Rc<Core> {
        let number = NEXT.get();
        NEXT.set(number.checked_add(1).expect("a thread opens at most four billion connections"));
        HEAPS.with_borrow_mut(|heaps| {
            let core = Rc::new(Core {
                number,
                heap: RefCell::default(),
                late: RefCell::default(),
                shared: RefCell::default(),
                moment: Cell::new(Tid::ZERO),
                is_past: Cell::new(false),
                finalizing: Cell::new(false),
                stuck: RefCell::default(),
                panics: RefCell::default(),
                current: RefCell::default(),
                savepoints: RefCell::default(),
                oids: RefCell::default(),
                census: RefCell::default(),
                scratch: RefCell::default(),
            });
            heaps.insert(number, Rc::downgrade(&core));
            core
        })
    }

    fn by_number(number: u32) -> Option<Rc<Core>> {
        // While the thread ends, the table may be gone before the last handle.
        HEAPS.try_with(|heaps| heaps.borrow().get(&number).and_then(Weak::upgrade)).ok().flatten()
    }

    /// Works on the heap. Nothing that `work` calls may drop a state, since that runs code of the program.
    pub(crate) fn heap<R>(&self, work: impl FnOnce(&mut Heap) -> R) -> R {
        let result = work(&mut self.heap.borrow_mut());
        self.settle();
        result
    }

    /// Counts the references that were taken or given back while the heap was borrowed.
    fn settle(&self) {
        if self.late.borrow().is_empty() {
            return;
        }
        if let Ok(mut heap) = self.heap.try_borrow_mut() {
            for (slot, taken) in self.late.take() {
                if taken { heap.retain(slot) } else { heap.release(slot) }
            }
        }
    }

    fn count(&self, slot: u32, taken: bool) {
        self.settle();
        match self.heap.try_borrow_mut() {
            Ok(mut heap) if taken => heap.retain(slot),
            Ok(mut heap) => heap.release(slot),
            Err(_) => self.late.borrow_mut().push((slot, taken)),
        }
    }

    /// A handle for a reference that is counted already.
    pub(crate) fn counted(&self, slot: u32) -> RawRef {
        RawRef { heap: self.number, slot, thread: PhantomData }
    }

    /// A handle of a slot.
    pub(crate) fn handle(&self, slot: u32) -> RawRef {
        self.count(slot, true);
        self.counted(slot)
    }

    /// Rule 7.1: the handle of an oid: of the same slot, as long as there is another one.
    pub(crate) fn reference(&self, oid: Oid, class: impl FnOnce() -> Option<ClassName>) -> RawRef {
        let slot = self.heap(|heap| heap.intern(oid, class));
        self.counted(slot)
    }

    /// The same with the name of the class, of which no copy is made if the heap knows it.
    pub(crate) fn reference_named(&self, oid: Oid, class: Option<(&str, &str)>) -> RawRef {
        let slot = self.heap(|heap| heap.intern_named(oid, class));
        self.counted(slot)
    }

    pub(crate) fn is_own(&self, raw: &RawRef) -> bool {
        raw.heap == self.number
    }

    pub(crate) fn shared(&self) -> Result<Arc<Shared>> {
        self.shared.borrow().clone().ok_or(Error::Closed)
    }

    pub(crate) fn oid(&self, slot: u32) -> Option<Oid> {
        self.heap(|heap| heap.oid(slot))
    }

    // Loading.

    /// Rule 7.3: the record of an object at the connection's moment.
    pub(crate) fn record(&self, slot: u32) -> Result<(Bytes, Tid)> {
        let oid = self.oid(slot).ok_or(Error::Collected)?;
        let moment = self.moment.get();
        match self.shared()?.storage.load_before(oid, Tid(moment.0.saturating_add(1))) {
            Ok(Some(loaded)) => Ok((loaded.data, loaded.tid)),
            Ok(None) | Err(StorageError::KeyError { .. }) => {
                let class = self.heap(|heap| heap.class(slot).cloned());
                Err(Error::Missing { oid, class: class.map(Box::new), moment })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Rule 7.2: the state of an object, which is loaded if it is a ghost.
    pub(crate) fn view<T: Persistent>(&self, slot: u32) -> Result<View<T>> {
        if self.shared.borrow().is_none() {
            return Err(Error::Closed);
        }
        if let Some(object) = self.heap(|heap| heap.look(slot))
            && let Ok(stored) = object.into_any().downcast::<Stored<T>>()
        {
            return Ok(View(stored));
        }
        let found = self.heap(|heap| {
            if heap.state(slot) != State::Ghost && heap.state(slot) != State::Free {
                heap.set_used(slot);
            }
            (heap.state(slot), heap.loaded(slot).and_then(|part| part.object.clone()))
        });
        let view = match found {
            (State::Free, _) => return Err(Error::Collected),
            (State::Ghost, _) => self.load::<T>(slot)?,
            (_, None) => return Err(Error::InUse { oid: self.oid(slot) }),
            (_, Some(object)) => match object.into_any().downcast::<Stored<T>>() {
                Ok(stored) => View(stored),
                Err(other) => {
                    drop(other);
                    self.convert::<T>(slot)?
                }
            },
        };
        self.evict_some(STEPS);
        Ok(view)
    }

    fn load<T: Persistent>(&self, slot: u32) -> Result<View<T>> {
        let (bytes, serial) = self.record(slot)?;
        let stored = Rc::new(self.decoded::<T>(slot, &bytes)?);
        let object: Rc<dyn Object> = stored.clone();
        self.heap(|heap| heap.load(slot, serial, object));
        Ok(View(stored))
    }

    fn decoded<T: Persistent>(&self, slot: u32, bytes: &[u8]) -> Result<Stored<T>> {
        let unreadable = |trouble| {
            let (oid, class) = self.heap(|heap| (heap.oid(slot), heap.class(slot).cloned()));
            let class = vellum_pickle::class_of(bytes).ok().or(class).map(Box::new);
            Error::Unreadable { oid, class, trouble }
        };
        let read = read_with(self, bytes, |reader| {
            if !reader.is_of(T::CLASS) {
                let record = reader.record()?;
                self.check_class::<T>(slot, &record.class_name().unwrap_or_default())?;
                return Ok(T::load(record)?);
            }
            Ok(T::read(reader)?)
        });
        let (value, kept) = read.map_err(|error| match error {
            Unread::Trouble(trouble) => unreadable(trouble),
            Unread::Other(error) => error,
        })?;
        Ok(Stored { value, kept })
    }

    fn check_class<T: Persistent>(&self, slot: u32, found: &ClassName) -> Result<()> {
        if T::accepts(found) {
            return Ok(());
        }
        let expected = ClassName { module: T::CLASS.0.to_owned(), name: T::CLASS.1.to_owned() };
        Err(Error::WrongClass { oid: self.oid(slot), expected: Box::new(expected), found: Box::new(found.clone()) })
    }

    /// Shows a loaded object as another type: as a struct in place of values, say.
    fn convert<T: Persistent>(&self, slot: u32) -> Result<View<T>> {
        let in_use = || Error::InUse { oid: self.oid(slot) };
        let object = self.heap(|heap| heap.loaded(slot).and_then(|part| part.object.clone())).ok_or_else(in_use)?;
        self.check_class::<T>(slot, &object.class())?;
        // The heap's, and the one here.
        if Rc::strong_count(&object) > 2 {
            return Err(in_use());
        }
        let class = object.class();
        let (value, kept) = T::load(object.save()).map_err(|trouble| Error::Unreadable {
            oid: self.oid(slot),
            class: Some(Box::new(class)),
            trouble,
        })?;
        drop(object);
        let stored = Rc::new(Stored { value, kept });
        let new: Rc<dyn Object> = stored.clone();
        let old = self.heap(|heap| {
            heap.keep_finalizer(slot);
            heap.put_back(slot, new)
        });
        drop(old);
        Ok(View(stored))
    }

    /// Makes ghosts, if the budget is exceeded.
    pub(crate) fn evict(&self) {
        self.evict_some(usize::MAX);
    }

    fn evict_some(&self, steps_max: usize) {
        let out = self.heap(|heap| heap.evict(steps_max));
        drop(out);
        self.settle();
    }

    pub(crate) fn minimize(&self) {
        let out: Vec<_> = self.heap(|heap| {
            let clean = heap.in_states(&[State::Clean]).into_iter();
            clean.filter_map(|slot| if heap.is_evictable(slot) { heap.unload(slot) } else { None }).collect()
        });
        drop(out);
        self.settle();
    }

    // Changing.

    /// Refuses changes in a connection to the past.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.is_past.get() {
            true => Err(Error::Past { moment: self.moment.get() }),
            false => Ok(()),
        }
    }

    /// Refuses the change of an object at which the program looks.
    pub(crate) fn check_unused(&self, slot: u32) -> Result<()> {
        let object = self.heap(|heap| heap.loaded(slot).map(|part| part.object.clone()));
        match object {
            // A ghost is in nobody's use. Else there are the heap's, and the one here.
            None => Ok(()),
            Some(Some(object)) if Rc::strong_count(&object) <= 2 => Ok(()),
            Some(_) => Err(Error::InUse { oid: self.oid(slot) }),
        }
    }

    pub(crate) fn change<T: Persistent, R>(&self, slot: u32, work: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.check_writable()?;
        let view = self.view::<T>(slot)?;
        let in_use = || Error::InUse { oid: self.oid(slot) };
        // The heap's, and the view here.
        if Rc::strong_count(&view.0) > 2 {
            return Err(in_use());
        }
        let object = self.heap(|heap| {
            if heap.state(slot) == State::Clean {
                heap.set_state(slot, State::Changed);
            }
            heap.take(slot)
        });
        drop(view);
        let mut taken = Taken { core: self, slot, object };
        let object: &mut dyn Any = taken.object.as_mut().and_then(Rc::get_mut).ok_or_else(in_use)?.as_any_mut();
        let stored = object.downcast_mut::<Stored<T>>().ok_or_else(in_use)?;
        let result = work(&mut stored.value);
        drop(taken);
        self.evict_some(STEPS);
        Ok(result)
    }
}

/// Why a record was not read: its own fault, or another one.
enum Unread {
    Trouble(Trouble),
    Other(Error),
}

impl From<Trouble> for Unread {
    fn from(trouble: Trouble) -> Unread {
        Unread::Trouble(trouble)
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Unread {
        Unread::Other(error)
    }
}

/// A state that is being changed. It goes back also if the change panics.
struct Taken<'c> {
    core: &'c Core,
    slot: u32,
    object: Option<Rc<dyn Object>>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(self.core.heap(|heap| heap.give_back(self.slot, object)));
        }
    }
}

/// A handle without a type.
pub struct RawRef {
    heap: u32,
    slot: u32,
    /// A heap belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl RawRef {
    pub(crate) fn core(&self) -> Result<Rc<Core>> {
        Core::by_number(self.heap).ok_or(Error::Closed)
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// A handle with a type, which sees the object as values.
    pub fn object(&self) -> Ref<Generic> {
        Ref::from_raw(self.clone())
    }

    /// The class that the references to the object name; none if they name none.
    pub fn class(&self) -> Option<ClassName> {
        Core::by_number(self.heap).and_then(|core| core.heap(|heap| heap.class(self.slot).cloned()))
    }
}

impl Clone for RawRef {
    fn clone(&self) -> Self {
        if let Some(core) = Core::by_number(self.heap) {
            core.count(self.slot, true);
        }
        RawRef { ..*self }
    }
}

impl Drop for RawRef {
    fn drop(&mut self) {
        if let Some(core) = Core::by_number(self.heap) {
            core.count(self.slot, false);
        }
    }
}

impl PartialEq for RawRef {
    fn eq(&self, other: &RawRef) -> bool {
        (self.heap, self.slot) == (other.heap, other.slot)
    }
}

impl Eq for RawRef {}

impl fmt::Debug for RawRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Core::by_number(self.heap).and_then(|core| core.oid(self.slot)) {
            Some(oid) => write!(f, "object {oid}"),
            None => write!(f, "object without an oid, slot {}", self.slot),
        }
    }
}

/// A handle of an object, in 8 bytes. Two handles are equal if they are of the same object (rule 7.1).
///
/// It keeps an object that is not stored yet. A stored object may become a ghost at any time, and is loaded when it is
/// looked at.
pub struct Ref<T> {
    raw: RawRef,
    of: PhantomData<fn() -> T>,
}

impl<T> Ref<T> {
    pub(crate) fn from_raw(raw: RawRef) -> Ref<T> {
        Ref { raw, of: PhantomData }
    }

    /// The handle without its type.
    pub fn raw(&self) -> &RawRef {
        &self.raw
    }

    /// The object's oid. None for an object that is not stored, unless it was added to its connection.
    pub fn oid(&self) -> Option<Oid> {
        self.raw.core().ok().and_then(|core| core.oid(self.raw.slot))
    }

    /// The same object, to be seen as another type. The class is checked when the object is looked at.
    pub fn cast<U>(&self) -> Ref<U> {
        Ref::from_raw(self.raw.clone())
    }

    /// Whether the state is in memory.
    pub fn is_loaded(&self) -> bool {
        self.raw.core().is_ok_and(|core| core.heap(|heap| heap.loaded(self.raw.slot).is_some()))
    }

    /// Keeps a loaded object in memory, or stops to do so. At the end of a transaction, a pinned object that was
    /// changed by others becomes a ghost all the same.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub fn pin(&self, is: bool) -> Result<()> {
        let core = self.raw.core()?;
        core.heap(|heap| {
            if heap.loaded(self.raw.slot).is_some() {
                heap.pin(self.raw.slot, is);
            }
        });
        Ok(())
    }
}

impl<T: Persistent> Ref<T> {
    /// The object's state. A ghost is loaded.
    ///
    /// # Errors
    ///
    /// The object does not exist; its record cannot be read, is of another class, or has an attribute of another type;
    /// the storage fails; the object is being changed; the connection is closed.
    pub fn view(&self) -> Result<View<T>> {
        self.raw.core()?.view(self.raw.slot)
    }

    /// Changes the object's state, and returns what `work` returns. The next commit stores it. If `work` panics, what
    /// it did until then is a change, too.
    ///
    /// # Errors
    ///
    /// As [`Ref::view`]; [`Error::InUse`] while there is a view of it; the connection shows the past.
    pub fn change<R>(&self, work: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.raw.core()?.change(self.raw.slot, work)
    }
}

impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Ref<T>) -> bool {
        self.raw == other.raw
    }
}

impl<T> Eq for Ref<T> {}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Ref::from_raw(self.raw.clone())
    }
}

impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

/// A reference that does not keep its object: the object may be gone when it is asked for.
pub struct WeakRef<T> {
    oid: Oid,
    of: PhantomData<fn() -> T>,
}

impl<T> WeakRef<T> {
    /// A weak reference to this oid.
    pub fn to_oid(oid: Oid) -> WeakRef<T> {
        WeakRef { oid, of: PhantomData }
    }

    /// The oid of the object.
    pub fn oid(&self) -> Oid {
        self.oid
    }
}

impl<T: Persistent> WeakRef<T> {
    /// A weak reference to an object. An object that is not stored will be by the next commit (rule 7.4).
    ///
    /// # Errors
    ///
    /// As [`Connection::add`].
    pub fn new(connection: &Connection, to: &Ref<T>) -> Result<WeakRef<T>> {
        connection.add(to).map(WeakRef::to_oid)
    }

    /// The object, if it exists.
    ///
    /// # Errors
    ///
    /// As [`Ref::view`].
    pub fn get(&self, connection: &Connection) -> Result<Option<Ref<T>>> {
        let object: Ref<T> = connection.get(self.oid);
        match object.view() {
            Ok(_) => Ok(Some(object)),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<T> Clone for WeakRef<T> {
    fn clone(&self) -> Self {
        WeakRef::to_oid(self.oid)
    }
}

impl<T> PartialEq for WeakRef<T> {
    fn eq(&self, other: &WeakRef<T>) -> bool {
        self.oid == other.oid
    }
}

impl<T> fmt::Debug for WeakRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weak reference to object {}", self.oid)
    }
}
