//! The collector of the heap: rules 7.9 to 7.12.
//!
//! The references of objects are counted handles, as the program's are. So the collector counts the references that it
//! finds in objects: an object with more handles than that is held by the program. CPython's collector finds its roots
//! in this way.
//!
//! An object as it is stored refers to no object that is not. So the search for garbage looks only at objects that are
//! changed, added or new, however many are loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use vellum_storage::Oid;

use crate::error::{Error, Result};
use crate::handle::{Core, RawRef};
use crate::heap::{Heap, State};
use crate::object::Object;
use crate::scc::groups;
use crate::{Connection, Generic, Ref};

/// The messages of finalizers that panicked.
pub(crate) type Panics = Vec<String>;

/// The work that a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collection {
    /// Objects that went.
    pub gone: usize,
    /// Finalizers that ran.
    pub finalized: usize,
    /// Objects that were put into the list, since several finalizers wait in their cycle.
    pub stuck: usize,
    /// Loaded objects that became ghosts.
    pub ghosts: usize,
    /// The messages of finalizers that panicked.
    pub panics: Vec<String>,
}

/// The part of the heap that garbage can be in.
pub(crate) struct Graph {
    /// Each object's references.
    refers: HashMap<u32, Vec<u32>>,
    roots: Vec<u32>,
}

impl Graph {
    /// The objects in these states, and which of them are held from outside of them, or are roots for another reason.
    pub(crate) fn of(core: &Core, states: &[State], is_root: impl Fn(&Heap, u32) -> bool) -> Result<Graph> {
        let objects: Vec<(u32, Option<Rc<dyn Object>>)> = core.heap(|heap| {
            let slots = heap.in_states(states).into_iter();
            slots.map(|slot| (slot, heap.loaded(slot).and_then(|part| part.object.clone()))).collect()
        });
        let (mut refers, mut counts, mut seen) = (HashMap::new(), HashMap::<u32, u32>::new(), Vec::new());
        for (slot, object) in &objects {
            let oid = || core.oid(*slot);
            let object = object.as_ref().ok_or_else(|| Error::InUse { oid: oid() })?;
            let mut to = Vec::new();
            object.trace(&mut |raw| {
                if core.is_own(raw) {
                    to.push(raw.slot());
                    *counts.entry(raw.slot()).or_default() += 1;
                }
            });
            refers.insert(*slot, to);
            // The heap's, and the one here.
            if Rc::strong_count(object) > 2 {
                seen.push(*slot);
            }
        }
        let roots = core.heap(|heap| {
            let held = |slot: u32| heap.count(slot) > counts.get(&slot).copied().unwrap_or(0) || heap.is_pinned(slot);
            let roots = refers.keys().copied().filter(|&slot| held(slot) || is_root(heap, slot));
            roots.chain(seen.iter().copied()).collect()
        });
        Ok(Graph { refers, roots })
    }

    /// Rule 7.9: the objects that are live.
    pub(crate) fn live(&self) -> BTreeSet<u32> {
        let (mut found, mut next) = (BTreeSet::new(), self.roots.clone());
        while let Some(slot) = next.pop() {
            if let Some(refers) = self.refers.get(&slot).filter(|_| found.insert(slot)) {
                next.extend(refers);
            }
        }
        found
    }
}

/// Ends the time in which the program may end no transaction.
struct Finalizing<'c>(&'c Core);

impl Drop for Finalizing<'_> {
    fn drop(&mut self) {
        self.0.finalizing.set(false);
    }
}

impl Core {
    /// Rule 7.10: collects the heap.
    pub(crate) fn collect(&self) -> Result<Collection> {
        let mut done = self.collect_new()?;
        self.collect_loaded(&mut done)?;
        Ok(done)
    }

    /// Rule 7.10: collects the new objects, as a connection that is closed does.
    pub(crate) fn collect_new(&self) -> Result<Collection> {
        self.check_end()?;
        self.finalizing.set(true);
        let _end = Finalizing(self);
        let young = self.heap(|heap| heap.next_made());
        let mut done = Collection::default();
        while self.collect_some(young, &mut done)? {}
        done.panics = self.panics.take();
        Ok(done)
    }

    /// Rule 7.10: deals with cycles until a finalizer ran, or a cycle was kept: then it must be looked again. False if
    /// there are none any more.
    fn collect_some(&self, young: u64, done: &mut Collection) -> Result<bool> {
        let graph = Graph::of(self, &[State::Changed, State::Added, State::New], |heap, slot| {
            let is_young = heap.loaded(slot).is_some_and(|part| part.serial.0 >= young);
            heap.state(slot) != State::New || is_young
        })?;
        let live = graph.live();
        let made = |slot: u32| self.heap(|heap| heap.loaded(slot).map_or(0, |part| part.serial.0));
        let garbage: BTreeMap<u64, u32> =
            graph.refers.keys().copied().filter(|slot| !live.contains(slot)).map(|slot| (made(slot), slot)).collect();
        let number: HashMap<u32, usize> = garbage.values().enumerate().map(|(n, slot)| (*slot, n)).collect();
        let slots: Vec<u32> = garbage.into_values().collect();
        let edges: Vec<Vec<usize>> = slots
            .iter()
            .map(|slot| graph.refers[slot].iter().filter_map(|to| number.get(to).copied()).collect())
            .collect();
        let mut gone = Vec::new();
        for group in groups(&edges) {
            let members: Vec<u32> = group.into_iter().map(|n| slots[n]).collect();
            let waiting: Vec<u32> = members.iter().copied().filter(|&slot| self.waits(slot)).collect();
            if !waiting.is_empty() {
                self.remove_all(gone, done);
                self.finalize_or_keep(&members, &waiting, done);
                return Ok(true);
            }
            gone.extend(members);
        }
        self.remove_all(gone, done);
        Ok(false)
    }

    /// Whether a finalizer waits for an object.
    fn waits(&self, slot: u32) -> bool {
        self.heap(|heap| {
            let has =
                heap.loaded(slot).and_then(|part| part.object.as_ref()).is_some_and(|object| object.has_finalizer());
            has && !heap.is_finalized(slot)
        })
    }

    /// Rules 7.11 and 7.12: runs the one finalizer that waits in a cycle, or keeps the cycle.
    fn finalize_or_keep(&self, members: &[u32], waiting: &[u32], done: &mut Collection) {
        let [only] = waiting else {
            let handles: Vec<RawRef> = members.iter().map(|&slot| self.handle(slot)).collect();
            done.stuck += handles.len();
            self.stuck.borrow_mut().extend(handles);
            return;
        };
        let object = self.heap(|heap| {
            heap.set_finalized(*only);
            heap.loaded(*only).and_then(|part| part.object.clone())
        });
        let Some(object) = object else { return };
        done.finalized += 1;
        let this = self.handle(*only);
        // The state is not held, so that the finalizer can change it.
        let finalize = object.finalizer();
        drop(object);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| finalize(this))) {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            self.panics.borrow_mut().push(text.unwrap_or_else(|| "a panic without a message".to_owned()));
        }
    }

    fn remove_all(&self, slots: Vec<u32>, done: &mut Collection) {
        done.gone += slots.len();
        let out: Vec<_> = self.heap(|heap| slots.into_iter().filter_map(|slot| heap.remove(slot)).collect());
        // Their references are given back here, and may make ghosts go.
        drop(out);
        self.heap(|_| ());
    }

    /// Rule 7.10: makes ghosts of the loaded objects that are not live.
    fn collect_loaded(&self, done: &mut Collection) -> Result<()> {
        let all = [State::Clean, State::Changed, State::Added, State::New];
        let graph = Graph::of(self, &all, |heap, slot| heap.state(slot) != State::Clean)?;
        let live = graph.live();
        let out: Vec<_> = self.heap(|heap| {
            let dead = graph.refers.keys().copied().filter(|slot| !live.contains(slot));
            dead.filter_map(|slot| heap.unload(slot)).collect()
        });
        done.ghosts += out.len();
        drop(out);
        self.heap(|_| ());
        Ok(())
    }
}

impl Connection {
    /// Rule 7.11: the objects of cycles in which several finalizers wait.
    pub fn stuck(&self) -> Vec<Ref<Generic>> {
        self.core.stuck.borrow().iter().map(|raw| Ref::from_raw(raw.clone())).collect()
    }

    /// Rule 7.11: clears the list. Objects that the program does not hold are garbage again, so break their cycles
    /// first. Returns their number.
    pub fn clear_stuck(&self) -> usize {
        let stuck = self.core.stuck.take();
        stuck.len()
    }

    /// Whether this object is in memory: as a ghost, or loaded.
    pub fn knows(&self, oid: Oid) -> bool {
        self.core.heap(|heap| heap.find(oid).is_some())
    }
}
