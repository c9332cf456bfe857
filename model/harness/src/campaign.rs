//! Many histories: on all cores, from one seed, until something is found or the budget is used up.
//!
//! A case is a seed and a number, so that one that fails can be played again by itself. The kind of a difference
//! consists of its question and its answers without their numbers ([`kind`]). A run that continues after the first
//! difference gets one of each kind, shrunk, and its count.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::thread;
use std::time::{Duration, Instant};

use vellum_sync::Mutex;
use vellum_sync::atomic::{AtomicU64, Ordering};

use crate::coverage::Coverage;
use crate::run::{self, Difference};
use crate::shrink::shrink;
use crate::subject::Subject;

/// The cases to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seed of all of it.
    pub seed: u64,
    /// The first case's number.
    pub first: u64,
    /// How many cases.
    pub cases: u64,
    /// Steps of each.
    pub steps: usize,
    /// How many storages to drive at the same time.
    pub jobs: usize,
    /// Whether to go on after a difference.
    pub keep_going: bool,
    /// How many histories may be played to make a difference short.
    pub shrink_budget: usize,
}

impl Default for Campaign {
    /// A thousand histories of 30 steps, one at a time, until the first difference.
    fn default() -> Campaign {
        Campaign { seed: 1, first: 0, cases: 1000, steps: 30, jobs: 1, keep_going: false, shrink_budget: 3000 }
    }
}

/// The results.
#[derive(Debug)]
pub struct Report {
    /// Where the histories have been.
    pub coverage: Coverage,
    /// One of each kind, by the case that showed it first.
    pub found: Vec<Found>,
    /// How long the histories took, shrinking left out.
    pub elapsed: Duration,
    /// How many histories a minute each job played.
    pub rate: f64,
}

/// A kind of difference.
#[derive(Debug)]
pub struct Found {
    /// The first case that showed it.
    pub case: u64,
    /// How many did.
    pub times: u64,
    /// The parts that they have in common.
    pub kind: String,
    /// The shortest history that shows it, as far as was looked.
    pub difference: Difference,
}

impl Campaign {
    /// Plays the cases, each job with a storage that `subject` makes; `progress` is told after each how many are done.
    pub fn run(
        &self,
        subject: &(dyn Fn() -> Result<Box<dyn Subject>, String> + Sync),
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Report, String> {
        let started = Instant::now();
        let (next, done) = (AtomicU64::new(self.first), AtomicU64::new(0));
        let end = AtomicU64::new(self.first + self.cases);
        let found: Mutex<BTreeMap<String, (u64, u64, Difference)>> = Mutex::default();
        let work = || -> Result<Coverage, String> {
            let mut subject = subject()?;
            let mut coverage = Coverage::default();
            loop {
                let case = next.fetch_add(1, Ordering::Relaxed);
                if case >= end.load(Ordering::Relaxed) {
                    return Ok(coverage);
                }
                if let Err(difference) = run::case(&mut *subject, self.seed, case, self.steps, &mut coverage) {
                    if !self.keep_going {
                        // The cases before it are played to their end, so that the first difference is found whichever
                        // thread is quicker.
                        end.fetch_min(case + 1, Ordering::Relaxed);
                    }
                    let mut found = found.lock();
                    match found.entry(kind(&difference)) {
                        Entry::Vacant(entry) => drop(entry.insert((case, 1, difference))),
                        Entry::Occupied(mut entry) => {
                            let (first, times, shown) = entry.get_mut();
                            *times += 1;
                            if case < *first {
                                (*first, *shown) = (case, difference);
                            }
                        }
                    }
                }
                progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            }
        };
        let coverages: Vec<Result<Coverage, String>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| {
                worker.join().unwrap_or_else(|_| Err("the harness panicked; see above".to_owned()))
            };
            workers.into_iter().map(join).collect()
        });
        let elapsed = started.elapsed();
        let mut coverage = Coverage::default();
        for result in coverages {
            coverage.add(&result?);
        }
        let mut found: Vec<_> = found.into_inner().into_iter().collect();
        found.sort_by_key(|(_, (case, ..))| *case);
        found.truncate(if self.keep_going { usize::MAX } else { 1 });
        let mut shrunk = Vec::new();
        for (kind, (case, times, difference)) in found {
            let difference = shrink(&mut *subject()?, difference, self.shrink_budget);
            shrunk.push(Found { case, times, kind, difference });
        }
        let minutes = elapsed.as_secs_f64() / 60.0 * self.jobs.max(1) as f64;
        let rate = coverage.histories as f64 / minutes;
        Ok(Report { coverage, found: shrunk, elapsed, rate })
    }
}

/// The common parts of differences of one kind: the step or question, and the answers without their numbers.
pub fn kind(difference: &Difference) -> String {
    let verb = difference.at.split_whitespace().next().unwrap_or_default();
    format!("{verb}: {} | {}", shape(&difference.rules), shape(&difference.storage))
}

const SHAPE_MAX: usize = 60;

/// The words of an answer's first line, without numbers and records.
fn shape(text: &str) -> String {
    let mut depth = 0;
    let mut plain = String::new();
    for c in text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().chars() {
        match c {
            '[' => depth += 1,
            ']' => {
                depth -= 1;
                plain.push_str("[]");
            }
            _ if depth > 0 || c.is_ascii_digit() => {}
            _ => plain.push(c),
        }
    }
    let words: Vec<_> = plain.split_whitespace().collect();
    words.join(" ").chars().take(SHAPE_MAX).collect()
}
