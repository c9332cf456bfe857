//! The line before the one writer of the store: threads get their turn in the order in which they came.
//!
//! ```text
//!     the step of a pack  ◀  a commit  ◀  a copy  ◀  the next step of the pack
//!     has its turn           waits        waits      asked last, so it goes last
//! ```
//!
//! A lock of the system goes to any thread that asks for it. A pack gives its turn back and asks for the next one at
//! once, before the thread that waits is awake; so it would overtake a commit again and again.

use std::ops::{Deref, DerefMut};

use vellum_sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A lock for one thread at a time, in the order in which they came.
#[derive(Default)]
pub(crate) struct Line<T> {
    places: Mutex<Places>,
    moved: Condvar,
    /// Only the thread that has its turn may change it.
    value: Mutex<T>,
}

#[derive(Default)]
struct Places {
    /// The place of the next thread that comes.
    next: u64,
    /// The place of the thread that has its turn, or of the next one to get it.
    served: u64,
}

impl Places {
    fn has_turn(&self, place: u64) -> bool {
        self.served == place
    }
}

/// A thread's turn. It ends when this is dropped, also by a panic.
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
        while !places.has_turn(place) {
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

/// A lock for many readers or one writer, in the order in which they came.
#[derive(Default)]
pub(crate) struct SharedLine {
    line: Line<()>,
    lock: RwLock<()>,
}

/// The turn of a writer.
pub(crate) struct WriterTurn<'a> {
    _lock: RwLockWriteGuard<'a, ()>,
    /// Kept as long: so [`SharedLine::waiting`] counts the readers.
    _turn: OnTurn<'a, ()>,
}

impl SharedLine {
    /// Waits for the writers that came before.
    pub fn read(&self) -> RwLockReadGuard<'_, ()> {
        let _turn = self.line.turn();
        self.lock.read()
    }

    /// Waits for all threads that came before.
    pub fn write(&self) -> WriterTurn<'_> {
        let turn = self.line.turn();
        WriterTurn { _lock: self.lock.write(), _turn: turn }
    }

    /// How many threads wait while a writer has its turn.
    pub fn waiting(&self) -> u64 {
        self.line.waiting()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    #[test]
    fn only_one_place_has_its_turn() {
        let places = Places { next: 3, served: 1 };
        assert_eq!([0, 1, 2].map(|place| places.has_turn(place)), [false, true, false]);
    }

    #[test]
    fn threads_get_their_turn_in_the_order_in_which_they_came() {
        let line = Line::new(Vec::new());
        thread::scope(|scope| {
            let mut first = line.turn();
            for n in 1..=8 {
                let line = &line;
                scope.spawn(move || line.turn().push(n));
                while line.waiting() < n {
                    thread::yield_now();
                }
            }
            first.push(0);
            drop(first);
            // It gave its turn back, and asks for the next one.
            line.turn().push(9);
        });
        assert_eq!(*line.turn(), (0..10).collect::<Vec<_>>());
        assert_eq!(line.waiting(), 0);
    }

    #[test]
    fn a_panic_ends_a_turn() {
        let line = SharedLine::default();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _turn = line.write();
            panic!("in its turn");
        }));
        assert!(panicked.is_err());
        let _both = (line.read(), line.read());
    }

    /// The writer comes back at once, and waits behind the reader.
    #[test]
    fn a_reader_is_not_overtaken_by_a_writer() {
        let line = SharedLine::default();
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let first = line.write();
            scope.spawn(|| {
                let _reading = line.read();
                order.lock().push("reader");
            });
            while line.waiting() == 0 {
                thread::yield_now();
            }
            drop(first);
            let _second = line.write();
            order.lock().push("writer");
        });
        assert_eq!(order.into_inner(), ["reader", "writer"]);
    }
}
