//! The collector of the heap: rules 7.9 to 7.12.
//!
//! The references of objects are counted handles, as the program's are. So the collector counts the references that it
//! finds in objects: an object with more handles than that is held by the program. CPython's collector finds its roots
//! in this way.
//!
//! An object as it is stored refers to no object that is not. So the search for garbage looks only at objects that are
//! changed, added or new, however many are loaded.
//!
//! A finalizer may have made objects live, so the search looks again after each. `search.rs` looks only at the objects
//! that the finalizer touched, as the heap notes them.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use vellum_storage::Oid;

use crate::error::{Error, Result};
use crate::handle::{Core, RawRef};
use crate::heap::{Heap, State};
use crate::scc::Refers;
use crate::search::Search;
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
#[derive(Default)]
pub(crate) struct Graph {
    /// Each object's references.
    pub(crate) refers: Refers,
    /// The references to each object.
    pub(crate) counts: HashMap<u32, u32>,
}

impl Graph {
    /// The objects in these states.
    pub(crate) fn of(core: &Core, states: &[State]) -> Result<Graph> {
        let mut graph = Graph::default();
        for slot in core.heap(|heap| heap.in_states(states)) {
            let to = graph.references(core, slot)?;
            graph.insert(slot, to);
        }
        Ok(graph)
    }

    /// The references of an object, as it is now.
    pub(crate) fn references(&self, core: &Core, slot: u32) -> Result<Vec<u32>> {
        let object = core.heap(|heap| heap.loaded(slot).and_then(|part| part.object.clone()));
        let object = object.ok_or_else(|| Error::InUse { oid: core.oid(slot) })?;
        let mut to = Vec::new();
        object.trace(&mut |raw| {
            if core.is_own(raw) {
                to.push(raw.slot());
            }
        });
        Ok(to)
    }

    /// Adds an object with its references.
    pub(crate) fn insert(&mut self, slot: u32, to: Vec<u32>) {
        to.iter().for_each(|to| *self.counts.entry(*to).or_default() += 1);
        self.refers.insert(slot, to);
    }

    /// Takes an object out, and returns its references.
    pub(crate) fn remove(&mut self, slot: u32) -> Vec<u32> {
        let to = self.refers.remove(&slot).unwrap_or_default();
        for to in &to {
            if let Some(count) = self.counts.get_mut(to) {
                *count -= 1;
            }
        }
        to
    }

    /// Rule 7.9: whether the program holds an object: by a handle that no object has, by a pin, or by a view.
    pub(crate) fn is_held(&self, heap: &Heap, slot: u32) -> bool {
        heap.count(slot) > self.counts.get(&slot).copied().unwrap_or(0) || heap.is_pinned(slot) || is_seen(heap, slot)
    }

    /// Adds these objects to the live ones, and all that they refer to.
    pub(crate) fn spread(&self, from: Vec<u32>, live: &mut HashSet<u32>) {
        let mut next = from;
        while let Some(slot) = next.pop() {
            if let Some(refers) = self.refers.get(&slot).filter(|_| live.insert(slot)) {
                next.extend(refers);
            }
        }
    }
}

/// Whether the program has a view of an object.
pub(crate) fn is_seen(heap: &Heap, slot: u32) -> bool {
    heap.loaded(slot).and_then(|part| part.object.as_ref()).is_some_and(|object| Rc::strong_count(object) > 1)
}

/// Ends the time in which the program may end no transaction.
struct Finalizing<'c>(&'c Core);

impl Drop for Finalizing<'_> {
    fn drop(&mut self) {
        self.0.finalizing.set(false);
    }
}

/// The heap notes the objects that are touched, as long as this exists.
struct Watch<'c>(&'c Core);

impl Watch<'_> {
    fn begin(core: &Core) -> Watch<'_> {
        core.heap(|heap| heap.touched = Some(Vec::new()));
        Watch(core)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.heap(|heap| heap.touched = None);
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
        let _watch = Watch::begin(self);
        let mut done = Collection::default();
        let mut search = Search::new(self, self.heap(|heap| heap.next_made()))?;
        loop {
            // Cycles without a finalizer go together, before the next finalizer runs.
            let mut gone = Vec::new();
            let next = loop {
                let Some(cycle) = search.next() else { break None };
                let waiting: Vec<u32> =
                    search.members(cycle).iter().copied().filter(|&slot| self.waits(slot)).collect();
                if !waiting.is_empty() {
                    break Some((cycle, waiting));
                }
                gone.extend(search.take(cycle));
            };
            search.forget(&gone);
            self.remove_all(gone, &mut done);
            let Some((cycle, waiting)) = next else { break };
            let members = search.take(cycle);
            self.finalize_or_keep(&members, &waiting, &mut done);
            search.look_again(members)?;
        }
        done.panics = self.panics.take();
        Ok(done)
    }

    /// Whether a finalizer waits for an object.
    fn waits(&self, slot: u32) -> bool {
        self.heap(|heap| !heap.is_finalized(slot) && heap.finalizer(slot).is_some())
    }

    /// Rules 7.11 and 7.12: runs the one finalizer that waits in a cycle, or keeps the cycle.
    fn finalize_or_keep(&self, members: &[u32], waiting: &[u32], done: &mut Collection) {
        let [only] = waiting else {
            let handles: Vec<RawRef> = members.iter().map(|&slot| self.handle(slot)).collect();
            done.stuck += handles.len();
            self.stuck.borrow_mut().extend(handles);
            return;
        };
        let finalize = self.heap(|heap| {
            heap.set_finalized(*only);
            heap.finalizer(*only)
        });
        let Some(finalize) = finalize else { return };
        done.finalized += 1;
        let this = self.handle(*only);
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
        let graph = Graph::of(self, &[State::Clean, State::Changed, State::Added, State::New])?;
        let is_root = |heap: &Heap, slot: u32| heap.state(slot) != State::Clean || graph.is_held(heap, slot);
        let roots = self.heap(|heap| graph.refers.keys().copied().filter(|&slot| is_root(heap, slot)).collect());
        let mut live = HashSet::new();
        graph.spread(roots, &mut live);
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
