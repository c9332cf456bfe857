//! A trace without the cache that it was taken from.
//!
//! The trace says whether the real cache had an object. A simulated one decides that anew, so a load is a load, hit or
//! miss. Three things have to be found out:
//!
//! - **The size of a miss** is that of the store that answers it; if there is none, the last size of the object.
//! - **A store that answers a miss** is a part of that load. Any other arrives by itself: a client's own commit, or an
//!   answer to a prefetch.
//! - **The next use** of a revision, for the limits: the next load, if no change comes before it.

use hashbrown::{HashMap, HashSet};

use crate::policy::NEVER;
use crate::trace::{Event, Trace};

/// A demand on a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The current revision is asked for.
    Load {
        /// The object.
        oid: u64,
        /// Bytes of its record.
        size: u32,
    },
    /// It arrives, and nobody asked.
    Arrive {
        /// The object.
        oid: u64,
        /// Bytes of its record.
        size: u32,
    },
    /// It has changed.
    Change {
        /// The object.
        oid: u64,
    },
}

/// The steps of a trace.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// In order.
    pub steps: Vec<Step>,
    /// The times of the steps, in seconds since 1970.
    pub seconds: Vec<u32>,
    /// The objects that an object refers to, with their sizes.
    pub references: HashMap<u64, Vec<(u64, u32)>>,
    /// Loads that are left out because no record tells the size: the object does not exist, or the trace ends.
    pub unknown: u64,
    /// Loads and stores of revisions of the past, which are left out.
    pub old: u64,
    /// For each object, its loads (with their numbers, from 1) and changes (0), each with the number of the step.
    events: HashMap<u64, Vec<(usize, u64)>>,
    loads: u64,
}

impl Workload {
    /// The steps of a trace.
    pub fn of(trace: &Trace) -> Workload {
        let answers = answers(trace);
        let mut workload = Workload::default();
        for (at, record) in trace.records.iter().enumerate() {
            let oid = record.oid;
            let step = match &record.event {
                Event::Open => continue,
                Event::Load(found) => match found.map(|(size, _)| size).or_else(|| answers.sizes.get(&at).copied()) {
                    Some(size) => Step::Load { oid, size },
                    None => {
                        workload.unknown += 1;
                        continue;
                    }
                },
                Event::Store { end: None, .. } if answers.stores.contains(&at) => continue,
                Event::Store { size, end: None, .. } => Step::Arrive { oid, size: *size },
                Event::LoadOld { .. } | Event::Store { .. } => {
                    workload.old += 1;
                    continue;
                }
                Event::Invalidate(_) | Event::Forget => Step::Change { oid },
                Event::References(to) => {
                    workload.references.insert(oid, to.clone());
                    continue;
                }
            };
            workload.push(record.seconds, step);
        }
        workload
    }

    /// Adds a step.
    pub fn push(&mut self, seconds: u32, step: Step) {
        let at = self.steps.len();
        match step {
            Step::Load { oid, .. } => {
                let number = self.loads + 1;
                self.events.entry(oid).or_default().push((at, number));
                self.loads = number;
            }
            Step::Change { oid } => self.events.entry(oid).or_default().push((at, 0)),
            Step::Arrive { .. } => {}
        }
        self.steps.push(step);
        self.seconds.push(seconds);
    }

    /// The number of the next load of an object's revision behind a step, or [`NEVER`].
    pub fn next(&self, oid: u64, step: usize) -> u64 {
        let Some(events) = self.events.get(&oid) else { return NEVER };
        let behind = events.partition_point(|(at, _)| *at <= step);
        match events.get(behind) {
            Some((_, number)) if *number > 0 => *number,
            _ => NEVER,
        }
    }

    /// How many loads there are.
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// How many objects are loaded, and the bytes of their last sizes: a cache of so many bytes has room for all.
    pub fn footprint(&self) -> (u64, u64) {
        let mut sizes = HashMap::new();
        for step in &self.steps {
            if let Step::Load { oid, size } = step {
                sizes.insert(oid, u64::from(*size));
            }
        }
        (sizes.len() as u64, sizes.values().sum())
    }
}

/// The stores that answer a miss, and the sizes of the misses.
struct Answers {
    stores: HashSet<usize>,
    sizes: HashMap<usize, u32>,
}

fn answers(trace: &Trace) -> Answers {
    let mut answers = Answers { stores: HashSet::new(), sizes: HashMap::new() };
    let mut waiting = HashMap::<u64, Vec<usize>>::new();
    let mut last = HashMap::<u64, u32>::new();
    for (at, record) in trace.records.iter().enumerate() {
        let oid = record.oid;
        match &record.event {
            Event::Load(None) => waiting.entry(oid).or_default().push(at),
            Event::Load(Some((size, _))) => {
                last.insert(oid, *size);
            }
            Event::Store { size, end: None, .. } => {
                last.insert(oid, *size);
                if let Some(misses) = waiting.remove(&oid) {
                    answers.stores.insert(at);
                    answers.sizes.extend(misses.into_iter().map(|miss| (miss, *size)));
                }
            }
            _ => {}
        }
    }
    for (oid, misses) in waiting {
        if let Some(size) = last.get(&oid) {
            answers.sizes.extend(misses.into_iter().map(|miss| (miss, *size)));
        }
    }
    answers
}
