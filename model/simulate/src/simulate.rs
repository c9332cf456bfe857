//! Plays a workload through a policy.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use crate::policy::{Policy, Request};
use crate::workload::{Step, Workload};

/// The objects that come along with the answer to a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefetch {
    /// None.
    None,
    /// The objects that were loaded behind this one when it was loaded last; the client names those that it does not
    /// have.
    Follow(usize),
    /// The objects that this one refers to, breadth first; the server does not know which ones the client has.
    References(usize),
}

impl Prefetch {
    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Prefetch::None => "none".to_owned(),
            Prefetch::Follow(count) => format!("follow:{count}"),
            Prefetch::References(count) => format!("references:{count}"),
        }
    }
}

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Loads.
    pub loads: u64,
    /// Loads that the cache answered: so many requests were saved.
    pub hits: u64,
    /// Bytes of all loads.
    pub bytes: u64,
    /// Bytes of the hits.
    pub hit_bytes: u64,
    /// Objects that came along with a miss.
    pub prefetched: u64,
    /// Bytes of these.
    pub prefetched_bytes: u64,
    /// Objects that came along, and were loaded before they went.
    pub prefetched_used: u64,
    /// Objects that went for others.
    pub evictions: u64,
}

impl Counts {
    /// Hits in a hundred loads.
    pub fn hit_rate(&self) -> f64 {
        100.0 * self.hits as f64 / self.loads.max(1) as f64
    }

    /// Bytes of hits in a hundred bytes of loads.
    pub fn byte_hit_rate(&self) -> f64 {
        100.0 * self.hit_bytes as f64 / self.bytes.max(1) as f64
    }

    /// Bytes that did not have to be sent; less than zero if prefetching sent more.
    pub fn bytes_saved(&self) -> i64 {
        self.hit_bytes as i64 - self.prefetched_bytes as i64
    }
}

/// Plays a workload.
pub fn simulate(workload: &Workload, policy: &mut dyn Policy, prefetch: Prefetch) -> Counts {
    let mut run = Run {
        workload,
        policy,
        counts: Counts::default(),
        evicted: Vec::new(),
        unused: HashSet::new(),
        sizes: HashMap::new(),
        history: Vec::new(),
        last: HashMap::new(),
    };
    for (at, step) in workload.steps.iter().enumerate() {
        run.step(at, *step, prefetch);
    }
    run.counts
}

struct Run<'a> {
    workload: &'a Workload,
    policy: &'a mut dyn Policy,
    counts: Counts,
    evicted: Vec<u64>,
    /// Prefetched objects that were not loaded yet.
    unused: HashSet<u64>,
    /// The last size of each object.
    sizes: HashMap<u64, u32>,
    /// The loads until now, and the last one of each object.
    history: Vec<u64>,
    last: HashMap<u64, usize>,
}

impl Run<'_> {
    fn step(&mut self, at: usize, step: Step, prefetch: Prefetch) {
        match step {
            Step::Load { oid, size } => {
                let request = self.request(oid, size, at);
                self.counts.loads += 1;
                self.counts.bytes += u64::from(size);
                let is_hit = self.policy.access(request, &mut self.evicted);
                if is_hit {
                    self.counts.hits += 1;
                    self.counts.hit_bytes += u64::from(size);
                    self.counts.prefetched_used += u64::from(self.unused.remove(&oid));
                }
                self.forget();
                if !is_hit {
                    self.prefetch(oid, at, prefetch);
                }
                self.sizes.insert(oid, size);
                if let Prefetch::Follow(_) = prefetch {
                    self.last.insert(oid, self.history.len());
                    self.history.push(oid);
                }
            }
            Step::Arrive { oid, size } => {
                let request = self.request(oid, size, at);
                self.policy.put(request, &mut self.evicted);
                self.sizes.insert(oid, size);
                self.forget();
            }
            Step::Change { oid } => {
                self.policy.invalidate(oid);
                self.unused.remove(&oid);
            }
        }
    }

    fn request(&self, oid: u64, size: u32, at: usize) -> Request {
        Request { oid, size, next: self.workload.next(oid, at) }
    }

    fn forget(&mut self) {
        self.counts.evictions += self.evicted.len() as u64;
        for oid in self.evicted.drain(..) {
            self.unused.remove(&oid);
        }
    }

    fn prefetch(&mut self, oid: u64, at: usize, prefetch: Prefetch) {
        let wanted = match prefetch {
            Prefetch::None => return,
            Prefetch::Follow(count) => self.followers(oid, count),
            Prefetch::References(count) => self.referred(oid, count),
        };
        for (oid, size) in wanted {
            self.counts.prefetched += 1;
            self.counts.prefetched_bytes += u64::from(size);
            if self.policy.has(oid) {
                continue;
            }
            let request = self.request(oid, size, at);
            self.policy.put(request, &mut self.evicted);
            self.forget();
            if self.policy.has(oid) {
                self.unused.insert(oid);
            }
        }
    }

    fn followers(&self, oid: u64, count: usize) -> Vec<(u64, u32)> {
        let Some(last) = self.last.get(&oid) else { return Vec::new() };
        let behind = self.history[last + 1..].iter().take(count);
        let mut seen: HashSet<u64> = HashSet::from([oid]);
        let wanted = behind.filter(|oid| seen.insert(**oid) && !self.policy.has(**oid));
        wanted.filter_map(|oid| Some((*oid, *self.sizes.get(oid)?))).collect()
    }

    fn referred(&self, oid: u64, count: usize) -> Vec<(u64, u32)> {
        let (mut seen, mut found): (HashSet<u64>, _) = (HashSet::from([oid]), Vec::new());
        let mut queue = VecDeque::from([oid]);
        while let Some(oid) = queue.pop_front() {
            for (to, size) in self.workload.references.get(&oid).into_iter().flatten() {
                if found.len() == count {
                    return found;
                }
                if seen.insert(*to) {
                    found.push((*to, self.sizes.get(to).copied().unwrap_or(*size)));
                    queue.push_back(*to);
                }
            }
        }
        found
    }
}
