//! The line before the one writer of the store: threads get their turn in the order in which they came.
//!
//! ```text
//!     the step of a pack  ◀  a commit  ◀  a vote  ◀  the next step of the pack
//!     has its turn           waits        waits      asked last, so it goes last
//! ```
//!
//! A lock of the system goes to any thread that asks for it. A pack gives its turn back and asks for the next one at
//! once, before the thread that waits is awake; so it would overtake a commit again and again.
//!
//! [`Line::is_awaited`] lets a step see that somebody waits, and end early.

use std::ops::{Deref, DerefMut};

use vellum_sync::{Condvar, Mutex, MutexGuard};

pub(crate) struct Line<T> {
    places: Mutex<Places>,
    moved: Condvar,
    /// What only the thread that has its turn may change.
    value: Mutex<T>,
}

#[derive(Default)]
struct Places {
    /// The place of the next thread that comes.
    next: u64,
    /// The place of the thread that has its turn, or of the next one to get it.
    served: u64,
}

/// A thread's turn. It ends when this is dropped.
pub(crate) struct OnTurn<'a, T> {
    // Given back before the next thread gets its turn: fields are dropped in this order.
    value: MutexGuard<'a, T>,
    _served: Served<'a, T>,
}

struct Served<'a, T>(&'a Line<T>);

impl<T> Line<T> {
    pub fn new(value: T) -> Line<T> {
        Line { places: Mutex::default(), moved: Condvar::new(), value: Mutex::new(value) }
    }

    /// Waits for all threads that came before.
    pub fn turn(&self) -> OnTurn<'_, T> {
        let mut places = self.places.lock();
        let place = places.next;
        places.next += 1;
        while places.served != place {
            places = self.moved.wait(places);
        }
        drop(places);
        OnTurn { value: self.value.lock(), _served: Served(self) }
    }

    /// How many threads wait for their turn, while another one has it.
    pub fn waiting(&self) -> u64 {
        let places = self.places.lock();
        (places.next - places.served).saturating_sub(1)
    }

    /// Whether a thread waits for its turn.
    pub fn is_awaited(&self) -> bool {
        self.waiting() > 0
    }
}

impl<T> Drop for Served<'_, T> {
    fn drop(&mut self) {
        self.0.places.lock().served += 1;
        self.0.moved.notify_all();
    }
}

impl<T> Deref for OnTurn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for OnTurn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// How much a step of a pack does: `rows_max` rows, and `rows_min` if a thread waits for its turn. With a step of one
/// row for each commit, most of the time of a pack beside commits would go into syncs.
pub(crate) struct Pace<'a, T> {
    /// None: nobody gets a turn before the pack is done, so no step ends early.
    pub line: Option<&'a Line<T>>,
    pub rows_max: usize,
    pub rows_min: usize,
}

/// A step does at least one in so many of the rows that it may do.
const ROWS_LEAST: usize = 8;

impl<'a, T> Pace<'a, T> {
    pub fn new(line: &'a Line<T>, rows_max: usize) -> Pace<'a, T> {
        Pace { line: Some(line), rows_max, rows_min: rows_max.div_ceil(ROWS_LEAST) }
    }

    /// Whether a step that has done so many rows goes on.
    pub fn goes_on(&self, rows: usize) -> bool {
        rows < self.rows_max && (rows < self.rows_min || !self.line.is_some_and(Line::is_awaited))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn wait_for(line: &Line<Vec<u32>>, waiting: u64) {
        while line.waiting() < waiting {
            thread::yield_now();
        }
    }

    #[test]
    fn threads_get_their_turn_in_the_order_in_which_they_came() {
        let line = Line::new(Vec::new());
        thread::scope(|scope| {
            let mut first = line.turn();
            for n in 1..=8 {
                let line = &line;
                scope.spawn(move || line.turn().push(n));
                wait_for(line, u64::from(n));
            }
            first.push(0);
            drop(first);
            // It gave its turn back, and asks for the next one.
            line.turn().push(9);
        });
        assert_eq!(*line.turn(), (0..10).collect::<Vec<_>>());
        assert!(!line.is_awaited());
    }

    #[test]
    fn a_step_ends_early_if_a_thread_waits() {
        let line = Line::new(Vec::new());
        thread::scope(|scope| {
            let turn = line.turn();
            let ends_at = |pace: Pace<'_, _>| (0..).find(|rows| !pace.goes_on(*rows));
            assert_eq!(ends_at(Pace::new(&line, 256)), Some(256));
            scope.spawn(|| line.turn().push(1));
            wait_for(&line, 1);
            assert_eq!(ends_at(Pace::new(&line, 256)), Some(32));
            assert_eq!(ends_at(Pace::new(&line, 1)), Some(1));
            assert_eq!(ends_at(Pace { line: None, ..Pace::new(&line, 256) }), Some(256));
            drop(turn);
        });
    }
}
