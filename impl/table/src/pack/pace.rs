//! How much a step of a pack does.

use crate::storage::Shared;

/// How much a step does: `rows_max` rows, and `rows_min` if a thread waits for its end. With a step of one row for each
/// commit, most of the time of a pack beside commits would go into syncs.
pub(crate) struct Pace<'a> {
    /// None: no other thread gets a turn before the pack is done, so no step ends early.
    shared: Option<&'a Shared>,
    pub rows_max: usize,
    pub rows_min: usize,
}

/// A step does at least one in so many of the rows that it may do.
const ROWS_LEAST: usize = 8;

impl<'a> Pace<'a> {
    pub fn new(shared: Option<&'a Shared>, rows_max: usize) -> Pace<'a> {
        Pace { shared, rows_max, rows_min: rows_max.div_ceil(ROWS_LEAST) }
    }

    /// Whether a step that has done so many rows goes on.
    pub fn goes_on(&self, rows: usize) -> bool {
        rows < self.rows_max && (rows < self.rows_min || !self.shared.is_some_and(Shared::is_awaited))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use vellum_disk::SimDisk;

    use super::*;
    use crate::Options;

    fn ends_at(pace: &Pace<'_>) -> Option<usize> {
        (0..).find(|rows| !pace.goes_on(*rows))
    }

    #[test]
    fn a_step_ends_early_if_a_thread_waits() {
        let storage = Options::new().disk(Arc::new(SimDisk::new(0))).create("site.vellum").unwrap();
        let shared = &*storage.shared;
        let waits_for: [fn(&Shared); 2] = [|shared| drop(shared.store.turn()), |shared| drop(shared.judging.read())];
        for wait in waits_for {
            thread::scope(|scope| {
                let turn = (shared.store.turn(), shared.judging.write());
                assert_eq!(ends_at(&Pace::new(Some(shared), 256)), Some(256));
                scope.spawn(|| wait(shared));
                while !shared.is_awaited() {
                    thread::yield_now();
                }
                assert_eq!(ends_at(&Pace::new(Some(shared), 256)), Some(32));
                assert_eq!(ends_at(&Pace::new(Some(shared), 1)), Some(1));
                assert_eq!(ends_at(&Pace::new(None, 256)), Some(256));
                drop(turn);
            });
        }
    }
}
