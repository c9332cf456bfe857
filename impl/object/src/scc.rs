//! The cycles of a graph, in the order in which they are dealt with.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// The references of each object.
pub(crate) type Refers = HashMap<u32, Vec<u32>>;

/// A cycle, by its place in the order.
pub(crate) type Cycle = usize;

/// The cycles of garbage: each before those that it refers to; apart from that, the one with the oldest object first.
///
/// Each cycle counts the references from others that are not dealt with. It is ready when there are none.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The cycle of each object.
    of: HashMap<u32, Cycle>,
    /// The objects of each cycle, oldest first; none once it is dealt with.
    members: Vec<Vec<u32>>,
    /// References from other cycles.
    before: Vec<usize>,
    /// The ready cycles, by the age of their oldest object. One that is not ready any more may be among them.
    ready: BinaryHeap<Reverse<(u64, Cycle)>>,
}

impl Order {
    /// Adds objects, with their ages, oldest first. No object of the order may refer to them.
    pub(crate) fn add(&mut self, objects: &[(u64, u32)], refers: &Refers) {
        let number: HashMap<u32, usize> = objects.iter().enumerate().map(|(n, (_, slot))| (*slot, n)).collect();
        let inside = |(_, slot): &(u64, u32)| refers[slot].iter().filter_map(|to| number.get(to).copied()).collect();
        let edges: Vec<Vec<usize>> = objects.iter().map(inside).collect();
        let first = self.members.len();
        for (n, of) in components(&edges).into_iter().enumerate() {
            let (slot, cycle) = (objects[n].1, first + of);
            if cycle >= self.members.len() {
                self.members.resize(cycle + 1, Vec::new());
                self.before.resize(cycle + 1, 0);
            }
            self.members[cycle].push(slot);
            self.of.insert(slot, cycle);
        }
        for cycle in first..self.members.len() {
            self.leads_to(cycle, refers).into_iter().for_each(|to| self.before[to] += 1);
        }
        for (age, slot) in objects {
            let cycle = self.of[slot];
            if self.before[cycle] == 0 && self.members[cycle].first() == Some(slot) {
                self.ready.push(Reverse((*age, cycle)));
            }
        }
    }

    /// The other cycles that a cycle refers to, one for each reference.
    fn leads_to(&self, cycle: Cycle, refers: &Refers) -> Vec<Cycle> {
        let to = self.members[cycle].iter().flat_map(|slot| &refers[slot]).filter_map(|to| self.of.get(to).copied());
        to.filter(|to| *to != cycle).collect()
    }

    /// The next cycle of which `is_garbage` still holds.
    pub(crate) fn next(&mut self, is_garbage: impl Fn(u32) -> bool) -> Option<Cycle> {
        while let Some(Reverse((_, cycle))) = self.ready.pop() {
            if self.before[cycle] == 0 && self.members[cycle].first().is_some_and(|&slot| is_garbage(slot)) {
                return Some(cycle);
            }
        }
        None
    }

    /// The objects of a cycle.
    pub(crate) fn members(&self, cycle: Cycle) -> &[u32] {
        &self.members[cycle]
    }

    /// Takes a cycle out, and returns its objects. Those that it refers to may be ready then. `age` says how old an
    /// object is.
    pub(crate) fn take(&mut self, cycle: Cycle, refers: &Refers, age: impl Fn(u32) -> u64) -> Vec<u32> {
        for to in self.leads_to(cycle, refers) {
            self.before[to] -= 1;
            if self.before[to] == 0
                && let Some(&oldest) = self.members[to].first()
            {
                self.ready.push(Reverse((age(oldest), to)));
            }
        }
        let members = std::mem::take(&mut self.members[cycle]);
        for slot in &members {
            self.of.remove(slot);
        }
        members
    }
}

/// The component of each node: Tarjan's algorithm, with its own stack.
fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let (mut index, mut low) = (vec![UNSEEN; edges.len()], vec![0; edges.len()]);
    let (mut component, mut path) = (vec![UNSEEN; edges.len()], Vec::new());
    let (mut next, mut found) = (0, 0);
    for start in 0..edges.len() {
        // A node, and how many of its edges were followed.
        let mut work = if index[start] == UNSEEN { vec![(start, 0)] } else { Vec::new() };
        while let Some((node, at)) = work.pop() {
            if at == 0 {
                (index[node], low[node]) = (next, next);
                next += 1;
                path.push(node);
            }
            if let Some(&to) = edges[node].get(at) {
                work.push((node, at + 1));
                if index[to] == UNSEEN {
                    work.push((to, 0));
                } else if component[to] == UNSEEN {
                    low[node] = low[node].min(index[to]);
                }
                continue;
            }
            if low[node] == index[node] {
                while let Some(member) = path.pop() {
                    component[member] = found;
                    if member == node {
                        break;
                    }
                }
                found += 1;
            }
            if let Some((parent, _)) = work.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
        }
    }
    component
}
