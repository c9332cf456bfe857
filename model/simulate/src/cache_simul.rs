//! The counts of ZEO 6.2's `cache_simul`, to compare.
//!
//! It plays each record of a trace on the circular file. Three things are its own. A load of an object that was evicted
//! is followed by a store of the size that was evicted. A record grows by 43 bytes with each move, because its overhead
//! is added again. And nothing before the first eviction counts if the trace is longer than an interval.

use hashbrown::HashMap;

use crate::policies::{Circular, Rules};
use crate::trace::{Event, Record, Trace};

/// The line that `cache_simul` prints last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Loads.
    pub loads: u64,
    /// Hits.
    pub hits: u64,
    /// Revisions that were invalidated.
    pub invalidations: u64,
    /// Revisions that were written.
    pub writes: u64,
    /// Revisions that went for others.
    pub evictions: u64,
}

/// Plays a trace on a file of so many bytes, in intervals of so many seconds; the line that is printed last.
pub fn play(trace: &Trace, bytes: u64, interval: u32) -> Line {
    let mut run = Run { file: Circular::with(bytes, Rules::Simulation), ..Run::default() };
    let mut last = None;
    for record in &trace.records {
        let this = record.seconds / interval.max(1);
        if last.is_some_and(|last| last != this) {
            run.end_interval();
            if !run.is_warm {
                run.restart();
            }
        }
        last = Some(this);
        run.record(record);
    }
    run.line.evictions = run.file.evictions() - run.evictions_before;
    run.line
}

struct Run {
    file: Circular,
    line: Line,
    /// Revisions that went: their sizes and tids.
    evicted: HashMap<u64, (u32, u64)>,
    /// Something was evicted in an interval that has ended.
    is_warm: bool,
    evictions_before: u64,
    evictions_before_interval: u64,
}

impl Default for Run {
    fn default() -> Run {
        Run {
            file: Circular::with(0, Rules::Simulation),
            line: Line::default(),
            evicted: HashMap::new(),
            is_warm: false,
            evictions_before: 0,
            evictions_before_interval: 0,
        }
    }
}

impl Run {
    fn end_interval(&mut self) {
        self.is_warm |= self.file.evictions() > self.evictions_before_interval;
        self.evictions_before_interval = self.file.evictions();
    }

    fn restart(&mut self) {
        self.line = Line::default();
        self.evictions_before = self.file.evictions();
    }

    fn record(&mut self, Record { oid, event, .. }: &Record) {
        let (oid, line, file) = (*oid, &mut self.line, &mut self.file);
        let mut gone = Vec::new();
        match event {
            Event::Open => {
                self.end_interval();
                self.restart();
            }
            Event::Load(_) => {
                line.loads += 1;
                if file.load(oid, |oid, size, tid| gone.push((oid, size, tid))) {
                    line.hits += 1;
                } else if let Some((size, tid)) = self.evicted.get(&oid).copied() {
                    line.writes += 1;
                    file.store(oid, size, tid, None, |oid, size, tid| gone.push((oid, size, tid)));
                }
            }
            Event::LoadOld { found, .. } => {
                line.loads += 1;
                let tid = found.map_or(0, |(_, tid, _)| tid);
                line.hits += u64::from(file.tid(oid) == Some(tid) || file.has_ended(oid, tid));
            }
            Event::Store { size, tid, end } => {
                let wrote = file.store(oid, *size, *tid, *end, |oid, size, tid| gone.push((oid, size, tid)));
                line.writes += u64::from(wrote);
            }
            Event::Invalidate(tid) => {
                self.evicted.remove(&oid);
                line.invalidations += u64::from(file.end(oid, *tid));
            }
            Event::Forget => {
                line.invalidations += file.forget_ended(oid) + u64::from(file.forget(oid));
                self.evicted.remove(&oid);
            }
            Event::References(_) => {}
        }
        self.evicted.extend(gone.into_iter().map(|(oid, size, tid)| (oid, (size as u32, tid))));
    }
}
