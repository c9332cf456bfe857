//! Doing work ahead of its consumer, in order.
//!
//! Produces pieces 0, 1, 2, ... in order. Worker threads run a few pieces ahead. If the next piece is not ready, the
//! consumer produces the next unclaimed one instead of waiting. So all cores are busy, whichever side is the slower
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use vellum_sync::{Condvar, Mutex, MutexGuard, thread};

/// Pieces that may be made but not yet taken, for each thread.
const AHEAD_MAX: u64 = 3;

/// An iterator over pieces 0, 1, 2, ... that are made ahead.
pub(crate) struct Ahead<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    count: u64,
    ahead_max: u64,
    make: Box<dyn Fn(u64) -> T + Send + Sync>,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The number of pieces that were begun, and of those that were taken.
    begun: u64,
    taken: u64,
    made: BTreeMap<u64, T>,
    /// The consumer is gone.
    over: bool,
}

impl<T: Send + 'static> Ahead<T> {
    /// `count` pieces made by `make`, on so many threads, of which the caller's is one.
    pub fn new(count: u64, threads: u64, make: impl Fn(u64) -> T + Send + Sync + 'static) -> Ahead<T> {
        let state = State { begun: 0, taken: 0, made: BTreeMap::new(), over: false };
        let shared = Arc::new(Shared {
            count,
            ahead_max: threads * AHEAD_MAX,
            make: Box::new(make),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        for _ in 1..threads.min(count) {
            let shared = Arc::clone(&shared);
            // If no thread can be started, the consumer produces all pieces.
            let _ = thread::Builder::new().spawn(move || shared.help());
        }
        Ahead { shared }
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock()
    }

    /// The number of the next piece that may be begun.
    fn next(&self, state: &State<T>) -> Option<u64> {
        (state.begun < self.count && state.begun - state.taken < self.ahead_max).then_some(state.begun)
    }

    /// Makes a piece with the state unlocked.
    fn make<'a>(&'a self, number: u64, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        state.begun = number + 1;
        drop(state);
        let over = Over(self);
        let piece = (self.make)(number);
        std::mem::forget(over);
        let mut state = self.state();
        state.made.insert(number, piece);
        self.changed.notify_all();
        state
    }

    fn help(&self) {
        let mut state = self.state();
        while !state.over && state.begun < self.count {
            state = match self.next(&state) {
                Some(number) => self.make(number, state),
                None => self.changed.wait(state),
            };
        }
    }
}

/// Marks the end if making a piece panicked, so that no thread waits for it.
struct Over<'a, T>(&'a Shared<T>);

impl<T> Drop for Over<'_, T> {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.changed.notify_all();
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let shared = &*self.shared;
        let mut state = shared.state();
        while state.taken < shared.count && !state.over {
            let wanted = state.taken;
            if let Some(piece) = state.made.remove(&wanted) {
                state.taken += 1;
                shared.changed.notify_all();
                return Some(piece);
            }
            state = match shared.next(&state) {
                Some(number) => shared.make(number, state),
                None => shared.changed.wait(state),
            };
        }
        None
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        drop(Over(&self.shared));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_each_is_made_once() {
        for threads in [1, 2, 5] {
            for count in [0, 1, 2, 100] {
                let made = Arc::new(Mutex::new(Vec::new()));
                let log = Arc::clone(&made);
                let found: Vec<u64> = Ahead::new(count, threads, move |n| {
                    log.lock().push(n);
                    n * n
                })
                .collect();
                assert_eq!(found, (0..count).map(|n| n * n).collect::<Vec<_>>());
                let mut made = made.lock().clone();
                made.sort();
                assert_eq!(made, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn nobody_runs_far_ahead_or_waits_for_a_piece_that_will_not_come() {
        let mut pieces = Ahead::new(1000, 3, |n| n);
        assert_eq!(pieces.next(), Some(0));
        assert!(pieces.shared.state().begun <= 1 + 3 * AHEAD_MAX);
        drop(pieces);
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let broken = std::panic::catch_unwind(|| Ahead::new(100, 3, |n| assert!(n < 50)).count());
        std::panic::set_hook(quiet);
        assert!(broken.is_err() || broken.is_ok_and(|count| count < 100));
    }
}
