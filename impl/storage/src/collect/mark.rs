//! Marking needed objects, round by round.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vellum_pickle::{Reference, Scanner};

use super::distinct::Distinct;
use super::{AtPlace, Collected, Collecting, Later, OidSet, Own, Place, Refers, Survivors};
use crate::{Error, Oid, Result};

/// Places that a thread takes at a time, and below which no other thread is worth starting.
const RUN: usize = 512;

/// Rules 4.2 and 4.8: finds out what survives a pack. Nothing is changed.
///
/// Errors: dangling references, all of them (rule 4.8), unless `go_on` is set: a kept revision refers to a missing
/// object, or there is no root to collect from. When collecting, a record whose references cannot be read: it is not
/// known which objects it keeps. And the storage's own errors.
pub fn collect(of: &dyn Collected, how: Collecting<'_>) -> Result<Survivors> {
    let mut collector = Collector::new(of, how);
    collector.later()?;
    collector.begin_at(Oid::ROOT)?;
    if !how.collect {
        of.something(&mut |oid| collector.begin_at(oid))?;
    }
    while collector.refill()? {
        collector.round(Role::Newest, 0)?;
    }
    collector.survivors()
}

/// The kind of revisions that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The newest ones of needed objects, and their base revisions.
    Newest,
    /// Those that something later shares or has under it.
    Source,
    /// Those after the time, which stay as they are: what dangles there is no reason to stop.
    Later,
}

struct Collector<'a> {
    of: &'a dyn Collected,
    how: Collecting<'a>,
    marks: Marks,
    /// The places that the next round reads.
    frontier: Vec<Place>,
    /// The places that are kept because a later revision needs them.
    sources: Vec<Place>,
    /// The objects that wait no longer, and how far they were fetched; none: no object is left.
    fetched: Option<(OidSet, Oid)>,
    /// Dangling references of kept revisions, and of later ones.
    refused: Distinct<(Oid, Oid)>,
    reported: Distinct<(Oid, Oid)>,
    workers: Vec<Worker>,
    read: u64,
    peak_bytes: usize,
}

/// The shared results, which all threads see.
struct Marks {
    needed: OidSet,
    /// Needed objects whose places were not looked at, since the frontier was full.
    waiting: OidSet,
    /// How many more objects the next frontier has room for.
    room: AtomicUsize,
}

/// Which references of a record end the collection.
#[derive(Clone, Copy)]
struct Stops {
    /// Those that may be hidden (rule 4.10).
    at_untold: bool,
    /// Those into other databases.
    at_foreign: bool,
}

impl Stops {
    fn of(how: &Collecting<'_>) -> Stops {
        Stops { at_untold: how.collect, at_foreign: how.stop_at_foreign }
    }
}

/// A thread's own data, kept from round to round.
#[derive(Default)]
struct Worker {
    scanner: Scanner,
    found: Vec<Place>,
    bases: Vec<Place>,
    dangling: Option<Distinct<(Oid, Oid)>>,
}

impl Marks {
    /// Marks the object; if that is new, its places go to `found`. False: it is not known.
    fn meet(&self, of: &dyn Collected, oid: Oid, found: &mut Vec<Place>) -> Result<bool> {
        if self.needed.contains(oid) {
            return Ok(true);
        }
        let newest = of.newest(oid)?;
        if newest == 0 && !of.known(oid)? {
            return Ok(false);
        }
        if self.needed.insert(oid) && newest != 0 {
            let has_room = |room: usize| room.checked_sub(1);
            match self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room) {
                Ok(_) => found.push(newest),
                Err(_) => {
                    self.waiting.insert(oid);
                }
            }
        }
        Ok(true)
    }
}

impl Worker {
    /// Meets one object that a record refers to.
    fn meet(&mut self, of: &dyn Collected, marks: &Marks, oid: Oid, to: Oid) -> Result<()> {
        if !marks.meet(of, to, &mut self.found)? {
            self.dangling.get_or_insert_with(Distinct::new).push((oid, to));
        }
        Ok(())
    }

    /// Rule 4.6: meets what a record refers to. Weak references and those into other databases keep nothing.
    /// Rule 4.10: where a record may hide references, there is no collecting.
    fn scan(&mut self, of: &dyn Collected, marks: &Marks, stops: Stops, oid: Oid, record: &[u8]) -> Result<()> {
        let Worker { scanner, found, dangling, .. } = self;
        let mut failed = None;
        let scanned = scanner.scan_all(record, |reference| {
            if let Reference::Foreign { database, oid: to, .. } = &reference
                && stops.at_foreign
            {
                let database = database.clone().into_owned();
                failed.get_or_insert(Error::Foreign { oid, database, to: Oid(*to) });
            }
            let Reference::Strong { oid: to, .. } = reference else { return };
            if failed.is_none() {
                match marks.meet(of, Oid(to), found) {
                    Ok(true) => {}
                    Ok(false) => dangling.get_or_insert_with(Distinct::new).push((oid, Oid(to))),
                    Err(error) => failed = Some(error),
                }
            }
        });
        match (failed, scanned) {
            (Some(error), _) => Err(error),
            (None, Err(why)) if stops.at_untold => {
                Err(Error::Unreadable { oid, why: why.to_string(), is_encrypted: why.is_encrypted() })
            }
            // A missing reference can only discard tombstones.
            (None, _) => Ok(()),
        }
    }

    fn memory(&self) -> usize {
        grown(&self.found) + grown(&self.bases) + self.dangling.as_ref().map_or(0, Distinct::memory)
    }
}

/// Bytes that a list takes, with the half of it that was there as well while it grew.
fn grown<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>() * 3 / 2
}

impl<'a> Collector<'a> {
    fn new(of: &'a dyn Collected, how: Collecting<'a>) -> Collector<'a> {
        let how = Collecting { threads: how.threads.max(1), places_max: how.places_max.max(1), ..how };
        Collector {
            of,
            how,
            marks: Marks { needed: OidSet::new(), waiting: OidSet::new(), room: AtomicUsize::new(how.places_max) },
            frontier: Vec::new(),
            sources: Vec::new(),
            fetched: None,
            refused: Distinct::new(),
            reported: Distinct::new(),
            workers: (0..how.threads).map(|_| Worker::default()).collect(),
            read: 0,
            peak_bytes: 0,
        }
    }

    /// A needed object from which the way begins.
    fn begin_at(&mut self, oid: Oid) -> Result<()> {
        self.marks.meet(self.of, oid, &mut self.workers[0].found).map(drop)
    }

    /// Rules 4.2 and 4.3: later revisions, their references, their sources and their bases.
    fn later(&mut self) -> Result<()> {
        let of = self.of;
        let mut own = Vec::new();
        let mut sources = Distinct::new();
        of.later(&mut |Later { oid, data, source, base }| {
            self.begin_at(oid)?;
            [source, base].into_iter().filter(|place| *place != 0).for_each(|place| sources.push(place));
            match data {
                Own::None => {}
                Own::Record(record) => {
                    self.workers[0].scan(of, &self.marks, Stops::of(&self.how), oid, record)?;
                    self.gather(Role::Later);
                }
                Own::At(place) => {
                    own.push(place);
                    if own.len() >= self.how.places_max {
                        self.frontier = std::mem::take(&mut own);
                        self.round(Role::Later, sources.memory())?;
                    }
                }
            }
            Ok(())
        })?;
        self.frontier = own;
        self.round(Role::Later, sources.memory())?;
        self.sources = sources.into_sorted();
        for first in (0..self.sources.len()).step_by(self.how.places_max) {
            let end = self.sources.len().min(first + self.how.places_max);
            self.frontier = self.sources[first..end].to_vec();
            self.round(Role::Source, 0)?;
        }
        Ok(())
    }

    /// Makes the next frontier from the new places or, if there are none, from the waiting objects. False: there is
    /// nothing left.
    fn refill(&mut self) -> Result<bool> {
        let found: usize = self.workers.iter().map(|worker| worker.found.len()).sum();
        self.frontier = std::mem::take(&mut self.workers[0].found);
        self.frontier.reserve_exact(found - self.frontier.len());
        self.measure(0);
        self.workers.iter_mut().for_each(|worker| self.frontier.append(&mut std::mem::take(&mut worker.found)));
        *self.marks.room.get_mut() = self.how.places_max;
        while self.frontier.is_empty() {
            let Some((waiting, from)) = &mut self.fetched else {
                if self.marks.waiting.is_empty() {
                    return Ok(false);
                }
                self.fetched = Some((std::mem::take(&mut self.marks.waiting), Oid::ROOT));
                continue;
            };
            let mut next = waiting.next(*from);
            while let Some(oid) = next.filter(|_| self.frontier.len() < self.how.places_max) {
                self.frontier.push(self.of.newest(oid)?);
                next = oid.0.checked_add(1).and_then(|after| waiting.next(Oid(after)));
            }
            match next {
                Some(oid) => *from = oid,
                None => self.fetched = None,
            }
        }
        Ok(true)
    }

    /// Reads the frontier, on all cores; `beside` is the memory that other code holds at the same time, in bytes.
    fn round(&mut self, role: Role, beside: usize) -> Result<()> {
        self.frontier.sort_unstable();
        self.frontier.dedup();
        let Collector { of, how, marks, frontier, workers, .. } = self;
        let (runs, failed) = (Mutex::new(frontier.chunks(RUN)), AtomicBool::new(false));
        let stops = Stops::of(how);
        let next = || runs.lock().unwrap_or_else(|e| e.into_inner()).next();
        let work = |worker: &mut Worker| -> Result<()> {
            while let Some(run) = next().filter(|_| !failed.load(Ordering::Relaxed)) {
                let mut given = 0;
                let mut scan = |AtPlace { oid, data, base }: AtPlace<'_>| {
                    assert!(base < run[given], "the base of the revision at {} is at {base}", run[given]);
                    given += 1;
                    if role == Role::Newest && base != 0 {
                        worker.found.push(base);
                        worker.bases.push(base);
                    }
                    match data {
                        None => Ok(()),
                        Some(Refers::Record(record)) => worker.scan(*of, marks, stops, oid, record),
                        Some(Refers::To(oids)) => oids.iter().try_for_each(|to| worker.meet(*of, marks, oid, *to)),
                    }
                };
                of.read(run, &mut scan).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                assert_eq!(given, run.len(), "the storage gave other records than those asked for");
            }
            Ok(())
        };
        let wanted = frontier.len().div_ceil(RUN).clamp(1, workers.len());
        let (first, others) = workers[..wanted].split_at_mut(1);
        std::thread::scope(|scope| {
            let others: Vec<_> = others.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
            let done = work(&mut first[0]);
            let join = |other: std::thread::ScopedJoinHandle<'_, _>| {
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            others.into_iter().map(join).fold(done, Result::and)
        })?;
        self.read += self.frontier.len() as u64;
        self.gather(role);
        self.measure(beside);
        (self.how.progress)(self.read);
        Ok(())
    }

    /// Takes from the threads what they found to dangle.
    fn gather(&mut self, role: Role) {
        let dangling = if role == Role::Later { &mut self.reported } else { &mut self.refused };
        self.workers.iter_mut().filter_map(|worker| worker.dangling.as_mut()).for_each(|found| dangling.append(found));
    }

    fn measure(&mut self, beside: usize) {
        let waiting = self.fetched.as_ref().map_or(0, |(waiting, _)| waiting.memory());
        let workers: usize = self.workers.iter().map(Worker::memory).sum();
        let held = self.marks.needed.memory()
            + self.marks.waiting.memory()
            + waiting
            + workers
            + grown(&self.frontier)
            + self.sources.capacity() * size_of::<Place>()
            + self.refused.memory()
            + self.reported.memory()
            + beside;
        self.peak_bytes = self.peak_bytes.max(held);
    }

    fn survivors(mut self) -> Result<Survivors> {
        // The rule treats a missing root as a dangling reference: without a root, everything would be garbage.
        if self.how.collect && self.of.is_rootless()? {
            self.refused.push((Oid::ROOT, Oid::ROOT));
        }
        let refused = self.refused.into_sorted();
        if !refused.is_empty() && !self.how.go_on {
            return Err(Error::Dangling { references: refused });
        }
        refused.into_iter().for_each(|reference| self.reported.push(reference));
        self.workers.iter_mut().for_each(|worker| self.sources.append(&mut worker.bases));
        self.sources.sort_unstable();
        self.sources.dedup();
        Ok(Survivors {
            needed: self.marks.needed,
            sources: self.sources,
            dangling: self.reported.into_sorted(),
            read: self.read,
            peak_bytes: self.peak_bytes,
        })
    }
}
