//! The heap of a connection: its objects by slot, and what each of them costs.
//!
//! An object is a *slot*: 15 bytes that its number finds.
//!
//! ```text
//!   bytes  8                        4      1      1      1      0.67
//!          oid, or the loaded part  next   state  count  class  its share of the buckets     together 15.67
//! ```
//!
//! A ghost has nothing else. A loaded object has a [`Loaded`] with its oid, its serial and its state; the slot then
//! names that one in place of the oid. Two parts of one byte overflow into maps, which few slots need: more than 254
//! references to an object, and the 255th class and those after it.
//!
//! Nothing here calls code of the program: an object that leaves the heap is returned, and its references are given
//! back when the caller drops it, which borrows the heap no longer.

mod clock;
mod pages;
mod slots;
mod table;

use std::collections::HashMap;
use std::rc::Rc;

use vellum_pickle::ClassName;
use vellum_storage::{Oid, Tid};

use crate::handle::RawRef;
use crate::object::Object;
use slots::Slots;
use table::{NONE, Table};

/// The state of a slot: the three low bits of its byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No object; the slot can be used again.
    Free = 0,
    /// The object is stored, and its state is not in memory.
    Ghost = 1,
    /// Its state is in memory, as it is stored.
    Clean = 2,
    /// Its state was changed.
    Changed = 3,
    /// It is not stored, and will be if a stored object refers to it.
    New = 4,
    /// It is not stored, and will be by the next commit.
    Added = 5,
}

const STATE: u8 = 0b111;
/// The bit of the CLOCK: the object was used since the hand passed it.
const USED: u8 = 1 << 3;
const PINNED: u8 = 1 << 4;
const FINALIZED: u8 = 1 << 5;

/// A count or a class that is in the map.
const OVERFLOW: u8 = u8::MAX;

/// The class of a slot that nothing is known about.
const NO_CLASS: u32 = 0;

/// The oid of a loaded object that has none. A record may name it all the same, so it says so only of an object that
/// is not stored.
const NO_OID: u64 = u64::MAX;

/// The part of an object that a ghost does not have.
pub(crate) struct Loaded {
    oid: u64,
    /// The tid of the revision that it was loaded from. For an object that is not stored: its number in the order in
    /// which objects were made.
    pub(crate) serial: Tid,
    pub(crate) slot: u32,
    /// Bytes, as the budget counts them.
    size: u32,
    /// None while the program changes it.
    pub(crate) object: Option<Rc<dyn Object>>,
}

/// Bytes that a loaded object takes beside the state itself: its [`Loaded`], and the two counters of its `Rc`.
const OVERHEAD: usize = size_of::<Loaded>() + 16;

/// An object that was touched: a handle of it was made or dropped, or it was viewed, pinned, changed or made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) slot: u32,
    /// Whether its references may be others.
    pub(crate) is_changed: bool,
}

/// The objects of one connection.
#[derive(Default)]
pub(crate) struct Heap {
    slots: Slots,
    more_counts: HashMap<u32, u32>,
    more_classes: HashMap<u32, u32>,
    table: Table,
    /// The first free slot; the others follow in `next`.
    free: Option<u32>,
    /// Objects that became changed or added since the transaction began, and perhaps others.
    unsaved: Vec<u32>,
    /// Without gaps, so that the CLOCK's hand meets an object at each step.
    loaded: Vec<Loaded>,
    names: Vec<ClassName>,
    names_index: HashMap<ClassName, u32>,
    /// The class that a reference named last.
    recent: u32,
    /// The finalizers of objects that are shown as another type than their own.
    finalizers: HashMap<u32, fn(RawRef)>,
    /// The number of the next object that is made.
    made: u64,
    pub(crate) clock: clock::Clock,
    /// The objects that were touched, while the collector wants to know them.
    pub(crate) touched: Option<Vec<Touch>>,
}

impl Heap {
    // The parts of a slot.

    pub(crate) fn slots(&self) -> std::ops::Range<u32> {
        0..self.slots.len()
    }

    pub(crate) fn state(&self, slot: u32) -> State {
        match self.slots.state(slot) & STATE {
            0 => State::Free,
            1 => State::Ghost,
            2 => State::Clean,
            3 => State::Changed,
            4 => State::New,
            _ => State::Added,
        }
    }

    pub(crate) fn set_state(&mut self, slot: u32, state: State) {
        self.touch(slot, false);
        if matches!(state, State::Changed | State::Added) {
            self.unsaved.push(slot);
        }
        self.slots.set_state(slot, self.slots.state(slot) & !STATE | state as u8);
    }

    fn flag(&self, slot: u32, flag: u8) -> bool {
        self.slots.state(slot) & flag != 0
    }

    fn set_flag(&mut self, slot: u32, flag: u8, is: bool) {
        let rest = self.slots.state(slot) & !flag;
        self.slots.set_state(slot, if is { rest | flag } else { rest });
    }

    pub(crate) fn is_finalized(&self, slot: u32) -> bool {
        self.flag(slot, FINALIZED)
    }

    /// Rule 7.11: the finalizer of the object's class, whatever type shows it now.
    pub(crate) fn finalizer(&self, slot: u32) -> Option<fn(RawRef)> {
        let own = self.loaded(slot)?.object.as_ref().and_then(|object| object.finalizer());
        own.or_else(|| self.finalizers.get(&slot).copied())
    }

    /// Notes the finalizer of an object that is shown as another type from now on.
    pub(crate) fn keep_finalizer(&mut self, slot: u32) {
        if let Some(finalizer) = self.finalizer(slot) {
            self.finalizers.insert(slot, finalizer);
        }
    }

    pub(crate) fn set_finalized(&mut self, slot: u32) {
        self.set_flag(slot, FINALIZED, true);
    }

    /// Notes that an object was touched, for the collector.
    pub(crate) fn touch(&mut self, slot: u32, is_changed: bool) {
        if let Some(touched) = &mut self.touched {
            touched.push(Touch { slot, is_changed });
        }
    }

    pub(crate) fn pin(&mut self, slot: u32, is: bool) {
        self.touch(slot, false);
        self.set_flag(slot, PINNED, is);
    }

    /// Gives all pins up.
    pub(crate) fn unpin_all(&mut self) {
        for at in 0..self.loaded.len() {
            self.set_flag(self.loaded[at].slot, PINNED, false);
        }
    }

    pub(crate) fn is_pinned(&self, slot: u32) -> bool {
        self.flag(slot, PINNED)
    }

    pub(crate) fn set_used(&mut self, slot: u32) {
        self.touch(slot, false);
        self.set_flag(slot, USED, true);
    }

    pub(crate) fn count(&self, slot: u32) -> u32 {
        match self.slots.count(slot) {
            OVERFLOW => self.more_counts[&slot],
            count => u32::from(count),
        }
    }

    fn set_count(&mut self, slot: u32, count: u32) {
        match u8::try_from(count) {
            Ok(count) if count != OVERFLOW => {
                if self.slots.count(slot) == OVERFLOW {
                    self.more_counts.remove(&slot);
                }
                self.slots.set_count(slot, count);
            }
            _ => {
                self.more_counts.insert(slot, count);
                self.slots.set_count(slot, OVERFLOW);
            }
        }
    }

    /// The class that the references to an object name, or that its record has.
    pub(crate) fn class(&self, slot: u32) -> Option<&ClassName> {
        self.class_number(slot).checked_sub(1).map(|class| &self.names[class as usize])
    }

    fn class_number(&self, slot: u32) -> u32 {
        match self.slots.class(slot) {
            OVERFLOW => self.more_classes[&slot],
            class => u32::from(class),
        }
    }

    fn set_class(&mut self, slot: u32, class: Option<ClassName>) {
        let class = class.map_or(NO_CLASS, |name| {
            let (names, next) = (&mut self.names, self.names_index.len() as u32 + 1);
            *self.names_index.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                next
            })
        });
        self.set_class_number(slot, class);
    }

    fn set_class_number(&mut self, slot: u32, class: u32) {
        match u8::try_from(class) {
            Ok(class) if class != OVERFLOW => {
                if self.slots.class(slot) == OVERFLOW {
                    self.more_classes.remove(&slot);
                }
                self.slots.set_class(slot, class);
            }
            _ => {
                self.more_classes.insert(slot, class);
                self.slots.set_class(slot, OVERFLOW);
            }
        }
    }

    // Slots come and go.

    /// Rule 7.1: the slot of an oid, with one more reference to it. There is at most one.
    pub(crate) fn intern(&mut self, oid: Oid, class: impl FnOnce() -> Option<ClassName>) -> u32 {
        let Some(slot) = self.find(oid) else { return self.add_ghost(oid, class()) };
        self.retain(slot);
        self.learn_class(slot, class);
        slot
    }

    /// Notes the class of an object whose class is not known yet.
    pub(crate) fn learn_class(&mut self, slot: u32, class: impl FnOnce() -> Option<ClassName>) {
        if self.slots.class(slot) == NO_CLASS as u8 {
            self.set_class(slot, class());
        }
    }

    fn add_ghost(&mut self, oid: Oid, class: Option<ClassName>) -> u32 {
        let slot = self.add_slot(State::Ghost, oid.0, class);
        let Heap { table, slots, loaded, .. } = self;
        table.insert(oid.0, slot, slots, |slots, slot| oid_in(slots, loaded, slot));
        slot
    }

    /// The same with the name of the class. The one that was named last is found without a hash of its name.
    pub(crate) fn intern_named(&mut self, oid: Oid, class: Option<(&str, &str)>) -> u32 {
        let named = |(module, name): (&str, &str)| ClassName { module: module.to_owned(), name: name.to_owned() };
        if let Some(slot) = self.find(oid) {
            self.retain(slot);
            self.learn_class(slot, || class.map(named));
            return slot;
        }
        let is_recent = |name: &ClassName| class == Some((name.module.as_str(), name.name.as_str()));
        if let Some(known) = self.names.get(self.recent as usize).filter(|name| is_recent(name)) {
            debug_assert_eq!(self.names_index[known], self.recent + 1, "a class has the number of its place");
            let slot = self.add_ghost(oid, None);
            self.set_class_number(slot, self.recent + 1);
            return slot;
        }
        let slot = self.add_ghost(oid, class.map(named));
        self.recent = self.class_number(slot).saturating_sub(1);
        slot
    }

    /// The slot of an oid.
    pub(crate) fn find(&self, oid: Oid) -> Option<u32> {
        self.table.find(oid.0, &self.slots, |slots, slot| oid_in(slots, &self.loaded, slot))
    }

    /// A slot for an object that was made now, with one reference to it.
    pub(crate) fn make(&mut self, object: Rc<dyn Object>) -> u32 {
        let slot = self.add_slot(State::New, NO_OID, Some(object.class()));
        self.made += 1;
        let serial = Tid(self.made);
        self.attach(slot, NO_OID, serial, object);
        slot
    }

    /// The number that the next object gets that is made.
    pub(crate) fn next_made(&self) -> u64 {
        self.made + 1
    }

    fn add_slot(&mut self, state: State, oid: u64, class: Option<ClassName>) -> u32 {
        let slot = match self.free {
            Some(slot) => {
                self.free = Some(self.slots.next(slot)).filter(|&next| next != NONE);
                slot
            }
            None => {
                assert!(self.slots.len() < NONE, "a heap holds at most four billion objects");
                self.slots.push()
            }
        };
        self.slots.set_number(slot, oid);
        self.slots.set_state(slot, state as u8);
        self.set_count(slot, 1);
        self.set_class(slot, class);
        slot
    }

    fn free_slot(&mut self, slot: u32) {
        self.set_count(slot, 0);
        self.set_class(slot, None);
        self.slots.set_state(slot, State::Free as u8);
        self.slots.set_next(slot, self.free.unwrap_or(NONE));
        self.free = Some(slot);
    }

    /// One more reference to an object.
    pub(crate) fn retain(&mut self, slot: u32) {
        self.touch(slot, false);
        self.set_count(slot, self.count(slot) + 1);
    }

    /// One reference less. A ghost without any goes.
    pub(crate) fn release(&mut self, slot: u32) {
        self.touch(slot, false);
        let count = self.count(slot) - 1;
        self.set_count(slot, count);
        match self.state(slot) {
            State::Ghost if count == 0 => self.forget(slot),
            State::Free if count == 0 => self.free_slot(slot),
            _ => {}
        }
    }

    /// Removes a ghost that nothing refers to.
    fn forget(&mut self, slot: u32) {
        self.table.remove(self.slots.number(slot), slot, &mut self.slots);
        self.free_slot(slot);
    }

    // The loaded part.

    pub(crate) fn oid(&self, slot: u32) -> Option<Oid> {
        let oid = oid_in(&self.slots, &self.loaded, slot);
        let has_one = match self.state(slot) {
            State::Free => false,
            State::Ghost | State::Clean | State::Changed => true,
            State::New | State::Added => oid != NO_OID,
        };
        has_one.then_some(Oid(oid))
    }

    pub(crate) fn loaded(&self, slot: u32) -> Option<&Loaded> {
        match self.state(slot) {
            State::Free | State::Ghost => None,
            _ => self.loaded.get(self.slots.number(slot) as usize),
        }
    }

    /// The state of a loaded object, which is used now. None if there is more to do: to load it, or to evict others.
    pub(crate) fn look(&mut self, slot: u32) -> Option<Rc<dyn Object>> {
        let object = self.loaded(slot)?.object.clone()?;
        if self.clock.is_over() {
            return None;
        }
        if self.touched.is_some() || !self.flag(slot, USED) {
            self.set_used(slot);
        }
        Some(object)
    }

    fn loaded_mut(&mut self, slot: u32) -> Option<&mut Loaded> {
        match self.state(slot) {
            State::Free | State::Ghost => None,
            _ => self.loaded.get_mut(self.slots.number(slot) as usize),
        }
    }

    /// All loaded objects.
    pub(crate) fn all_loaded(&self) -> impl Iterator<Item = &Loaded> {
        self.loaded.iter()
    }

    /// Gives a ghost its state.
    pub(crate) fn load(&mut self, slot: u32, serial: Tid, object: Rc<dyn Object>) {
        let oid = self.slots.number(slot);
        self.learn_class(slot, || Some(object.class()).filter(|class| !class.name.is_empty()));
        self.set_state(slot, State::Clean);
        self.set_used(slot);
        self.attach(slot, oid, serial, object);
    }

    fn attach(&mut self, slot: u32, oid: u64, serial: Tid, object: Rc<dyn Object>) {
        let size = size_of_object(&*object);
        self.touch(slot, true);
        self.clock.grow(size);
        let at = self.loaded.len() as u64;
        self.loaded.push(Loaded { oid, serial, slot, size, object: Some(object) });
        self.slots.set_number(slot, at);
    }

    /// Takes the loaded part away. The slot has the oid again.
    fn detach(&mut self, slot: u32) -> Option<Loaded> {
        let at = self.slots.number(slot) as usize;
        if at >= self.loaded.len() {
            return None;
        }
        let part = self.loaded.swap_remove(at);
        self.finalizers.remove(&slot);
        // The last part took its place.
        if let Some(moved) = self.loaded.get(at) {
            self.slots.set_number(moved.slot, at as u64);
        }
        self.slots.set_number(slot, part.oid);
        self.clock.shrink(part.size);
        Some(part)
    }

    /// Makes a ghost of a loaded object. A ghost that nothing refers to goes. The state is for the caller to drop, when
    /// the heap is not borrowed.
    pub(crate) fn unload(&mut self, slot: u32) -> Option<Rc<dyn Object>> {
        assert!(self.oid(slot).is_some(), "an object that is not stored cannot become a ghost");
        let part = self.detach(slot)?;
        self.set_state(slot, State::Ghost);
        self.set_flag(slot, PINNED | USED, false);
        if self.count(slot) == 0 {
            self.forget(slot);
        }
        part.object
    }

    /// Removes an object that is not stored. The slot is free when the last reference to it is given back. The state is
    /// for the caller to drop.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Rc<dyn Object>> {
        self.take_oid(slot);
        let part = self.detach(slot)?;
        self.set_state(slot, State::Free);
        if self.count(slot) == 0 {
            self.free_slot(slot);
        }
        part.object
    }

    /// Takes the state out, for a change; [`Heap::give_back`] ends it.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Rc<dyn Object>> {
        self.loaded_mut(slot)?.object.take()
    }

    /// Puts a state in, and counts its size anew. Returns the one that was there, for the caller to
    /// drop.
    pub(crate) fn put_back(&mut self, slot: u32, object: Rc<dyn Object>) -> Option<Rc<dyn Object>> {
        let size = size_of_object(&*object);
        self.touch(slot, true);
        let Some(part) = self.loaded_mut(slot) else { return Some(object) };
        let (before, old) = (std::mem::replace(&mut part.size, size), part.object.replace(object));
        self.clock.shrink(before);
        self.clock.grow(size);
        old
    }

    /// Ends a change. If the transaction ended within the change, the state is not the object's any more, and is
    /// returned.
    pub(crate) fn give_back(&mut self, slot: u32, object: Rc<dyn Object>) -> Option<Rc<dyn Object>> {
        let is_taken = self.loaded(slot).is_some_and(|part| part.object.is_none());
        if is_taken { self.put_back(slot, object) } else { Some(object) }
    }

    /// Gives an object that is not stored an oid.
    pub(crate) fn give_oid(&mut self, slot: u32, oid: Oid) {
        if let Some(part) = self.loaded_mut(slot) {
            part.oid = oid.0;
        }
        let Heap { table, slots, loaded, .. } = self;
        table.insert(oid.0, slot, slots, |slots, slot| oid_in(slots, loaded, slot));
    }

    /// Takes the oid of an object that is not stored away.
    pub(crate) fn take_oid(&mut self, slot: u32) {
        if let Some(oid) = self.oid(slot) {
            self.table.remove(oid.0, slot, &mut self.slots);
        }
        if let Some(part) = self.loaded_mut(slot) {
            part.oid = NO_OID;
        }
    }

    /// Notes that an object is stored as it is here, in this transaction.
    pub(crate) fn stored(&mut self, slot: u32, tid: Tid) {
        if let Some(part) = self.loaded_mut(slot) {
            part.serial = tid;
        }
        self.set_state(slot, State::Clean);
    }

    /// The changed or added objects that are in one of these states, in the order of their loaded parts. The time is in
    /// proportion to them, and not to all loaded objects.
    pub(crate) fn unsaved(&mut self, states: &[State]) -> Vec<u32> {
        let mut unsaved = std::mem::take(&mut self.unsaved);
        unsaved.retain(|&slot| matches!(self.state(slot), State::Changed | State::Added));
        unsaved.sort_unstable_by_key(|&slot| self.slots.number(slot));
        unsaved.dedup();
        let wanted = unsaved.iter().copied().filter(|&slot| states.contains(&self.state(slot))).collect();
        self.unsaved = unsaved;
        wanted
    }

    /// The loaded objects in this state.
    pub(crate) fn in_states(&self, states: &[State]) -> Vec<u32> {
        let slots = self.all_loaded().map(|part| part.slot);
        slots.filter(|&slot| states.contains(&self.state(slot))).collect()
    }
}

fn oid_in(slots: &Slots, loaded: &[Loaded], slot: u32) -> u64 {
    let number = slots.number(slot);
    match slots.state(slot) & STATE {
        0 | 1 => number,
        _ => loaded[number as usize].oid,
    }
}

fn size_of_object(object: &dyn Object) -> u32 {
    u32::try_from(object.bytes().saturating_add(OVERHEAD)).unwrap_or(u32::MAX)
}
