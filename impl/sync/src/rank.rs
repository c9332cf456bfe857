//! The order in which a thread may take locks, and the check that it is kept.
//!
//! A crate with several locks gives each of them a type that is its [`Rank`], and writes the order down in one place. A
//! thread takes locks by rising rank only, so two threads never wait for each other. A debug build notes in each thread
//! what it holds, and panics at the first lock that is out of order, whether or not another thread has that lock. So
//! one run of a test finds what would be a deadlock once a year. A release build, and one with loom or shuttle, has
//! nothing of this.
//!
//! [`Unranked`] locks are not noted: no other lock may be taken under one.

use std::marker::PhantomData;

/// The place of a lock in its crate's order.
pub trait Rank {
    /// Larger than those of all locks that may be held already; 0 is not checked.
    const ORDER: u32;
    /// The lock's name, in panics.
    const NAME: &'static str;
}

/// The rank of a lock under which no other is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unranked;

impl Rank for Unranked {
    const ORDER: u32 = 0;
    const NAME: &'static str = "an unranked lock";
}

/// Notes that this thread holds a lock, until it is dropped. Also for locks that are no `Mutex`: a
/// turn, for example.
#[derive(Debug)]
pub struct Holding {
    #[cfg(all(debug_assertions, not(any(vellum_loom, vellum_shuttle))))]
    order: u32,
    /// It belongs to its thread.
    _thread: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl Holding {
    /// Notes a lock that this thread waits for, or has just waited for.
    ///
    /// # Panics
    ///
    /// In debug builds, if the thread holds a lock of this rank or a larger one.
    #[track_caller]
    pub fn enter<R: Rank>() -> Holding {
        noted::assert_below(R::ORDER, R::NAME);
        Holding::note::<R>()
    }

    /// Notes a lock that was free, so that the thread did not wait.
    pub(crate) fn note<R: Rank>() -> Holding {
        noted::push(R::ORDER, R::NAME);
        Holding {
            #[cfg(all(debug_assertions, not(any(vellum_loom, vellum_shuttle))))]
            order: R::ORDER,
            _thread: PhantomData,
        }
    }
}

#[cfg(all(debug_assertions, not(any(vellum_loom, vellum_shuttle))))]
impl Drop for Holding {
    fn drop(&mut self) {
        noted::pop(self.order);
    }
}

/// Says that this thread is about to wait for something that other threads hold for as long as they like.
///
/// # Panics
///
/// In debug builds, if the thread holds a ranked lock.
#[track_caller]
pub fn assert_none_held(waits_for: &str) {
    noted::assert_below(1, waits_for);
}

#[cfg(all(debug_assertions, not(any(vellum_loom, vellum_shuttle))))]
mod noted {
    use std::cell::RefCell;

    thread_local! {
        static HELD: RefCell<Vec<(u32, &'static str)>> = const { RefCell::new(Vec::new()) };
    }

    #[track_caller]
    pub fn assert_below(order: u32, name: &str) {
        if order == 0 || std::thread::panicking() {
            return;
        }
        // A thread that ends has dropped its list, and holds nothing.
        let held = HELD.try_with(|held| held.borrow().iter().copied().find(|(held, _)| *held >= order));
        if let Ok(Some((_, held))) = held {
            panic!("the order of locks is broken: {name} is waited for while {held} is held");
        }
    }

    pub fn push(order: u32, name: &'static str) {
        if order > 0 {
            let _ = HELD.try_with(|held| held.borrow_mut().push((order, name)));
        }
    }

    pub fn pop(order: u32) {
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(at) = held.iter().rposition(|(held, _)| *held == order) {
                held.remove(at);
            }
        });
    }
}

#[cfg(not(all(debug_assertions, not(any(vellum_loom, vellum_shuttle)))))]
mod noted {
    pub fn assert_below(_order: u32, _name: &str) {}
    pub fn push(_order: u32, _name: &'static str) {}
}

#[cfg(all(test, debug_assertions, not(any(vellum_loom, vellum_shuttle))))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::{Condvar, Mutex, RwLock};

    struct First;
    struct Second;
    struct Third;

    impl Rank for First {
        const ORDER: u32 = 1;
        const NAME: &'static str = "the first";
    }

    impl Rank for Second {
        const ORDER: u32 = 2;
        const NAME: &'static str = "the second";
    }

    impl Rank for Third {
        const ORDER: u32 = 3;
        const NAME: &'static str = "the third";
    }

    fn panics<T>(work: impl FnOnce() -> T) -> Option<String> {
        let panic = catch_unwind(AssertUnwindSafe(work)).err()?;
        panic.downcast_ref::<String>().cloned()
    }

    #[test]
    fn a_wrong_order_panics_though_nobody_waits() {
        let (first, second) = (Mutex::<_, First>::ranked(1), RwLock::<_, Second>::ranked(2));
        let third = Mutex::<_, Third>::ranked(3);
        let right = first.lock();
        let shared = second.read();
        assert_eq!((*right, *shared, *third.lock()), (1, 2, 3));
        drop((right, shared));
        let held = second.write();
        let message = "the order of locks is broken: the first is waited for while the second is held";
        assert_eq!(panics(|| first.lock()).as_deref(), Some(message));
        assert!(panics(|| second.read()).is_some(), "not twice, either");
        assert!(panics(|| Holding::enter::<First>()).is_some());
        assert!(panics(|| assert_none_held("something")).is_some());
        drop(held);
        assert!(first.try_lock().is_some());
        assert_none_held("something");
    }

    #[test]
    fn a_lock_that_was_free_counts_from_then_on() {
        let (first, second) = (Mutex::<_, First>::ranked(1), Mutex::<_, Second>::ranked(2));
        let held = second.lock();
        let free = first.try_lock().unwrap();
        drop(held);
        assert!(panics(|| first.lock()).is_some());
        drop((free, second.lock()));
    }

    #[test]
    fn order_of_giving_back_is_free_and_waiting_keeps_the_rank() {
        let (first, second) = (Mutex::<_, First>::ranked(false), Mutex::<_, Second>::ranked(2));
        let (a, b) = (first.lock(), second.lock());
        drop(a);
        assert!(panics(|| first.lock()).is_some());
        drop(b);
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            let mut guard = first.lock();
            scope.spawn(|| {
                *first.lock() = true;
                changed.notify_all();
            });
            while !*guard {
                guard = changed.wait(guard);
            }
            assert!(panics(|| Holding::enter::<First>()).is_some());
        });
        assert_none_held("something");
        let turn = Holding::enter::<Second>();
        assert!(panics(|| first.lock()).is_some());
        drop(turn);
        drop(first.lock());
    }
}
