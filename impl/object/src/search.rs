//! The search for garbage among the objects that are not stored: rules 7.9 and 7.10.
//!
//! After a finalizer the rules look at the whole heap again. Here the heap notes which objects were touched: those of
//! which a handle was made or dropped, which were viewed, pinned, changed or made. An object that nobody touched is
//! held as before, and refers to the same objects. So it is enough to look at the touched ones:
//!
//! - an object that is held now makes everything live that it refers to;
//! - the references of the finalizer's own cycle may be others, and its objects may be several cycles now.
//!
//! If a finalizer lets go of a live object, or changes the references of other garbage, everything is looked at again.
//! So a collection takes time in proportion to the heap, and to the finalizers that do this.

use std::collections::HashSet;

use crate::collect::{Graph, is_seen};
use crate::error::Result;
use crate::handle::Core;
use crate::heap::{Heap, State, Touch};
use crate::scc::{Cycle, Order};

/// The changed, added and new objects, and which of them are garbage.
pub(crate) struct Search<'c> {
    core: &'c Core,
    /// Objects from this number on were made during the collection.
    young: u64,
    graph: Graph,
    /// Rule 7.9: the objects that are live whatever refers to them.
    roots: HashSet<u32>,
    /// Roots of which the program has a view. It can drop a view without touching the heap.
    seen: Vec<u32>,
    live: HashSet<u32>,
    order: Order,
}

impl<'c> Search<'c> {
    /// Looks at all objects.
    pub(crate) fn new(core: &'c Core, young: u64) -> Result<Search<'c>> {
        core.heap(|heap| heap.touched.as_mut().map(std::mem::take));
        let graph = Graph::of(core, &[State::Changed, State::Added, State::New])?;
        let (roots, live, order) = (HashSet::new(), HashSet::new(), Order::default());
        let mut search = Search { core, young, graph, roots, seen: Vec::new(), live, order };
        core.heap(|heap| {
            for &slot in search.graph.refers.keys() {
                if search.is_root(heap, slot) {
                    search.roots.insert(slot);
                }
                if is_seen(heap, slot) {
                    search.seen.push(slot);
                }
            }
        });
        search.graph.spread(search.roots.iter().copied().collect(), &mut search.live);
        let garbage: Vec<u32> =
            search.graph.refers.keys().copied().filter(|slot| !search.live.contains(slot)).collect();
        search.add(garbage);
        Ok(search)
    }

    /// Rule 7.9: whether an object is live whatever refers to it.
    fn is_root(&self, heap: &Heap, slot: u32) -> bool {
        heap.state(slot) != State::New || age(heap, slot) >= self.young || self.graph.is_held(heap, slot)
    }

    /// Puts garbage into the order.
    fn add(&mut self, garbage: Vec<u32>) {
        let mut aged: Vec<(u64, u32)> =
            self.core.heap(|heap| garbage.into_iter().map(|slot| (age(heap, slot), slot)).collect());
        aged.sort_unstable();
        self.order.add(&aged, &self.graph.refers);
    }

    /// The next cycle of garbage.
    pub(crate) fn next(&mut self) -> Option<Cycle> {
        let Search { order, live, .. } = self;
        order.next(|slot| !live.contains(&slot))
    }

    /// The objects of a cycle, the oldest first.
    pub(crate) fn members(&self, cycle: Cycle) -> &[u32] {
        self.order.members(cycle)
    }

    /// Takes a cycle out of the order.
    pub(crate) fn take(&mut self, cycle: Cycle) -> Vec<u32> {
        let Search { core, order, graph, .. } = self;
        order.take(cycle, &graph.refers, |slot| core.heap(|heap| age(heap, slot)))
    }

    /// Forgets objects that go.
    pub(crate) fn forget(&mut self, gone: &[u32]) {
        gone.iter().for_each(|slot| drop(self.graph.remove(*slot)));
    }

    /// Rule 7.11: looks again which objects are live, after the finalizer of a cycle ran or the cycle was kept. The
    /// cycle was taken out of the order.
    pub(crate) fn look_again(&mut self, cycle: Vec<u32>) -> Result<()> {
        if self.look_at_touched(&cycle)? {
            let garbage = cycle.into_iter().filter(|slot| !self.live.contains(slot)).collect();
            self.add(garbage);
        } else {
            *self = Search::new(self.core, self.young)?;
        }
        Ok(())
    }

    /// Looks at the touched objects. False if the others must be looked at, too.
    fn look_at_touched(&mut self, cycle: &[u32]) -> Result<bool> {
        let log = self.core.heap(|heap| heap.touched.as_mut().map(std::mem::take).unwrap_or_default());
        let (mut touched, mut changed) = (self.seen.clone(), Vec::new());
        for Touch { slot, is_changed } in log {
            touched.push(slot);
            if is_changed {
                changed.push(slot);
            }
        }
        changed.sort_unstable();
        changed.dedup();
        let own: HashSet<u32> = cycle.iter().copied().collect();
        let mut next = Vec::new();
        for slot in changed {
            if !self.look_at_changed(slot, &own, &mut touched, &mut next)? {
                return Ok(false);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let is_same = self.core.heap(|heap| {
            for slot in touched.into_iter().filter(|slot| self.graph.refers.contains_key(slot)) {
                let (is, was) = (self.is_root(heap, slot), self.roots.contains(&slot));
                if was && !is {
                    return false;
                }
                if is && !was {
                    self.roots.insert(slot);
                    next.push(slot);
                }
                if is_seen(heap, slot) {
                    self.seen.push(slot);
                }
            }
            true
        });
        self.seen.sort_unstable();
        self.seen.dedup();
        self.graph.spread(next, &mut self.live);
        Ok(is_same)
    }

    /// Looks at an object that was made or changed. `next` gets what is live by it. False if the others must be looked
    /// at, too.
    fn look_at_changed(
        &mut self,
        slot: u32,
        own: &HashSet<u32>,
        touched: &mut Vec<u32>,
        next: &mut Vec<u32>,
    ) -> Result<bool> {
        let state = self.core.heap(|heap| heap.state(slot));
        if !matches!(state, State::Changed | State::Added | State::New) {
            return Ok(!self.graph.refers.contains_key(&slot));
        }
        let new = self.graph.references(self.core, slot)?;
        let is_known = self.graph.refers.contains_key(&slot);
        if is_known && self.graph.refers[&slot] == new {
            return Ok(true);
        }
        let old = self.graph.remove(slot);
        touched.extend(old.iter().chain(&new));
        let is_live = self.live.contains(&slot);
        if is_live {
            next.extend(&new);
        }
        // A live object that lost a reference may have been all that held another one.
        let lost = || {
            let new: HashSet<u32> = new.iter().copied().collect();
            old.iter().any(|to| !new.contains(to) && self.live.contains(to))
        };
        let is_enough = !is_known || own.contains(&slot) || (is_live && !lost());
        self.graph.insert(slot, new);
        Ok(is_enough)
    }
}

/// The number of an object in the order in which objects were made.
fn age(heap: &Heap, slot: u32) -> u64 {
    heap.loaded(slot).map_or(0, |part| part.serial.0)
}
