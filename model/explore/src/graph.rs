//! The graph of all states, for what stateright does not find: shortest paths, and waiting without end.
//!
//! stateright's `eventually` proves nothing where there are cycles: a client that asks again for ever passes. So the
//! edges are collected here, 16 bytes each, and searched:
//!
//! - **From every state a rest can be reached**: a search backwards from the states at rest meets all others.
//! - **No cycle without progress**: a strongly connected component that has an edge, and no edge with progress, is one.
//!
//! Breadth first, so that a path is a shortest one. It works on any model of stateright whose states are hashed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;

/// A broken rule, and the way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<A> {
    /// The rule, in words.
    pub rule: &'static str,
    /// The actions, from the beginning.
    pub path: Vec<A>,
}

/// The rule that a rest can be reached.
pub const REST: &str = "from every state a state at rest can be reached";
/// The rule that nobody goes round in circles.
pub const PROGRESS: &str = "no cycle is without progress";

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// The known states, and for each the state and the action that led there first.
struct Known<A> {
    numbers: HashMap<u64, u32>,
    from: Vec<Option<(u32, A)>>,
}

impl<A: Copy> Known<A> {
    fn number(&mut self, hash: u64, from: Option<(u32, A)>) -> (u32, bool) {
        let next = self.from.len() as u32;
        match self.numbers.entry(hash) {
            Entry::Occupied(there) => (*there.get(), false),
            Entry::Vacant(room) => {
                room.insert(next);
                self.from.push(from);
                (next, true)
            }
        }
    }

    fn path(&self, mut number: u32) -> Vec<A> {
        let mut path = Vec::new();
        while let Some((from, action)) = self.from[number as usize] {
            path.push(action);
            number = from;
        }
        path.reverse();
        path
    }
}

/// Visits all states, breadth first, until `visit` says that it is enough. It is told each state with its number, and
/// each edge.
fn walk<M>(
    model: &M,
    mut visit: impl FnMut(&M::State, u32) -> bool,
    mut edge: impl FnMut(u32, u32, M::Action),
) -> (Known<M::Action>, Option<u32>)
where
    M: Model,
    M::State: Hash,
    M::Action: Copy,
{
    let mut known = Known { numbers: HashMap::new(), from: Vec::new() };
    let mut front = Vec::new();
    for state in model.init_states() {
        if let (number, true) = known.number(hash(&state), None) {
            front.push((number, state));
        }
    }
    while !front.is_empty() {
        let mut next_front = Vec::new();
        for (number, state) in front {
            if !visit(&state, number) {
                return (known, Some(number));
            }
            let mut actions = Vec::new();
            model.actions(&state, &mut actions);
            for action in actions {
                let Some(next) = model.next_state(&state, action) else { continue };
                let (to, is_new) = known.number(hash(&next), Some((number, action)));
                edge(number, to, action);
                if is_new {
                    next_front.push((to, next));
                }
            }
        }
        front = next_front;
    }
    (known, None)
}

/// A shortest path to a state of this kind; none if there is none among the first `states_max` states.
pub fn shortest<M>(model: &M, is_wanted: impl Fn(&M::State) -> bool, states_max: usize) -> Option<Vec<M::Action>>
where
    M: Model,
    M::State: Hash,
    M::Action: Copy,
{
    let mut found = false;
    let visit = |state: &M::State, number: u32| {
        found = is_wanted(state);
        !found && (number as usize) < states_max
    };
    let (known, last) = walk(model, visit, |_, _, _| {});
    last.filter(|_| found).map(|number| known.path(number))
}

/// Searches the graph for states from which no rest can be reached over the edges that count, and for cycles of such
/// edges that have no progress. Returns the number of states.
///
/// # Errors
///
/// A shortest path to such a state.
pub fn look<M>(
    model: &M,
    is_rest: impl Fn(&M::State) -> bool,
    counts: impl Fn(M::Action) -> bool,
    is_progress: impl Fn(M::Action) -> bool,
) -> Result<usize, Failure<M::Action>>
where
    M: Model,
    M::State: Hash,
    M::Action: Copy,
{
    let mut rests = Vec::new();
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut lazy: Vec<(u32, u32)> = Vec::new();
    let visit = |state: &M::State, number: u32| {
        if is_rest(state) {
            rests.push(number);
        }
        true
    };
    let edge = |from, to, action| {
        if counts(action) {
            edges.push((from, to));
            if !is_progress(action) {
                lazy.push((from, to));
            }
        }
    };
    let (known, _) = walk(model, visit, edge);
    let states = known.from.len();
    // The numbers are in the order of the distance from the beginning, so the first one is a nearest one.
    if let Some(stuck) = reaches(states, &edges, &rests).iter().position(|reaches| !reaches) {
        return Err(Failure { rule: REST, path: known.path(stuck as u32) });
    }
    match cycle(states, &lazy) {
        Some(number) => Err(Failure { rule: PROGRESS, path: known.path(number) }),
        None => Ok(states),
    }
}

/// For each state whether one of these can be reached from it.
fn reaches(states: usize, edges: &[(u32, u32)], rests: &[u32]) -> Vec<bool> {
    // The edges by their ends: where those of a state begin, and their beginnings.
    let mut begins = vec![0_u32; states + 1];
    for (_, to) in edges {
        begins[*to as usize + 1] += 1;
    }
    for n in 0..states {
        begins[n + 1] += begins[n];
    }
    let (mut place, mut from_of) = (begins.clone(), vec![0_u32; edges.len()]);
    for (from, to) in edges {
        from_of[place[*to as usize] as usize] = *from;
        place[*to as usize] += 1;
    }
    let mut found = vec![false; states];
    let mut next = rests.to_vec();
    rests.iter().for_each(|rest| found[*rest as usize] = true);
    while let Some(to) = next.pop() {
        let (first, last) = (begins[to as usize], begins[to as usize + 1]);
        for from in &from_of[first as usize..last as usize] {
            if !std::mem::replace(&mut found[*from as usize], true) {
                next.push(*from);
            }
        }
    }
    found
}

/// A state on a cycle of these edges. States without an edge into them are taken away, one after the other: what stays
/// lies on a cycle, or behind one.
fn cycle(states: usize, edges: &[(u32, u32)]) -> Option<u32> {
    let mut into = vec![0_u32; states];
    let mut out: HashMap<u32, Vec<u32>> = HashMap::new();
    for (from, to) in edges {
        into[*to as usize] += 1;
        out.entry(*from).or_default().push(*to);
    }
    let mut free: Vec<u32> = (0..states as u32).filter(|n| into[*n as usize] == 0).collect();
    while let Some(from) = free.pop() {
        for to in out.remove(&from).unwrap_or_default() {
            into[to as usize] -= 1;
            if into[to as usize] == 0 {
                free.push(to);
            }
        }
    }
    // Of what stays, a state from which the way leads back to itself.
    let mut left: Vec<u32> = out.keys().copied().filter(|n| into[*n as usize] > 0).collect();
    left.sort_unstable();
    left.into_iter().find(|start| {
        let (mut seen, mut next) = (std::collections::HashSet::new(), vec![*start]);
        while let Some(from) = next.pop() {
            for to in out.get(&from).into_iter().flatten() {
                if to == start {
                    return true;
                }
                if seen.insert(*to) {
                    next.push(*to);
                }
            }
        }
        false
    })
}
