//! Going through all objects of a database, and listing those that were looked for, up to a maximum.

use std::io::Write;

use vellum_storage::{Error, NewestRevision, Oid, Storage, newest_revisions};
use vellum_terminal::people::count;
use vellum_terminal::{Failure, Meter, Out, Run};

/// Calls `each` with every object as it is now: the one that was changed last first, tombstones included. The meter
/// shows how many of `all` it was.
///
/// # Errors
///
/// A failure of `each` ends the walk, and so does an error of the storage.
pub fn each_object(
    storage: &dyn Storage,
    meter: Meter,
    all: u64,
    each: &mut dyn FnMut(&NewestRevision) -> Run<()>,
) -> Run<()> {
    let (mut seen, mut failed) = (0_u64, None);
    let walked = newest_revisions(storage, &mut |object| {
        seen += 1;
        if seen.is_multiple_of(1024) {
            meter.update(seen, all);
        }
        each(&object).map_err(|failure| ended_by(&mut failed, failure))
    });
    drop(meter);
    ended(walked, failed)
}

/// Keeps the failure that ended a walk. The storage's error that takes its place says nothing: any error ends the walk.
pub fn ended_by(failed: &mut Option<Failure>, failure: Failure) -> Error {
    *failed = Some(failure);
    Error::key(Oid::ROOT)
}

/// The result of a walk, or the failure that ended it.
pub fn ended<T>(walked: vellum_storage::Result<T>, failed: Option<Failure>) -> Run<T> {
    match failed {
        Some(failure) => Err(failure),
        None => Ok(walked?),
    }
}

/// A list of which no more than so many lines are shown. All are counted.
pub struct List {
    at_most: u64,
    count: u64,
}

impl List {
    /// A list that is empty as yet.
    pub fn new(at_most: u64) -> List {
        List { at_most, count: 0 }
    }

    /// One more. Returns whether it is shown.
    pub fn add(&mut self) -> bool {
        self.count += 1;
        self.count <= self.at_most
    }

    /// Says, for people, how many are not shown.
    pub fn rest(&self, out: &mut Out) -> Run<()> {
        match self.count.saturating_sub(self.at_most) {
            0 => Ok(()),
            rest => Ok(writeln!(out, "  and {} more; `--max 0` shows all", count(rest))?),
        }
    }
}
