//! The one place that names a lock, an atomic or a thread.
//!
//! An ordinary build gets std's types. A build with `--cfg vellum_loom` gets loom's under the same names, so that loom
//! can run every interleaving of the code that ships. With `--cfg vellum_shuttle` they are shuttle's, for more threads
//! and chosen schedules. The flags have names of our own, because `--cfg loom` changes what other crates compile to.
//! They are no Cargo features, because a feature is turned on for the whole workspace at once.
//!
//! | here | std | loom, shuttle |
//! |---|---|---|
//! | [`Mutex`], [`RwLock`], [`Condvar`] | wrapped: `lock()` returns the guard, and notes the rank | wrapped the same |
//! | [`Arc`], [`atomic`], [`thread`] | as they are | as they are |
//!
//! The crates in `loom-tests/` include this file as a module, and set the flag for themselves alone (`build.rs`). So an
//! ordinary `cargo test` runs them, without a second build of the workspace.
//!
//! **A poisoned lock is taken all the same.** A panic in a critical section is a bug in this project; the data that the
//! lock guards is either still whole (a map into which a value went, or did not), or guarded by a flag of its own, as
//! the commit queue is. So no caller would do anything with a `PoisonError` but ignore it, and 64 places did.
//!
//! **Locks have an order.** A crate with several locks gives each a [`Rank`], and a debug build panics when a thread
//! takes one out of order.
//!
//! loom's `Arc` cannot hold a `dyn` trait, so code that shares trait objects takes std's.

#![forbid(unsafe_code)]

#[cfg(vellum_loom)]
use loom::sync as imp;
#[cfg(vellum_shuttle)]
use shuttle::sync as imp;
#[cfg(not(any(vellum_loom, vellum_shuttle)))]
use std::sync as imp;

mod rank;
mod spin;

pub use imp::{Arc, atomic};

pub use rank::{Holding, Rank, Unranked, assert_none_held};
pub use spin::Spin;

#[cfg(vellum_loom)]
pub use loom::thread;
#[cfg(vellum_shuttle)]
pub use shuttle::thread;
#[cfg(not(any(vellum_loom, vellum_shuttle)))]
pub use std::thread;

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::TryLockError;

/// Has the processor begin to load a word, and does not wait for it: a word that is far away is nearer when it is
/// needed. A checker sees nothing of it.
#[inline]
pub fn begin_load(word: &atomic::AtomicU64) {
    #[cfg(not(any(vellum_loom, vellum_shuttle)))]
    std::hint::black_box(word.load(atomic::Ordering::Relaxed));
    #[cfg(any(vellum_loom, vellum_shuttle))]
    let _ = word;
}

/// A lock for one thread at a time. `R` is its place in the order of locks.
#[derive(Debug)]
pub struct Mutex<T, R = Unranked> {
    lock: imp::Mutex<T>,
    rank: PhantomData<fn() -> R>,
}

impl<T> Mutex<T> {
    /// A free lock that guards `value`.
    #[cfg(not(any(vellum_loom, vellum_shuttle)))]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { lock: imp::Mutex::new(value), rank: PhantomData }
    }

    /// A free lock that guards `value`.
    #[cfg(any(vellum_loom, vellum_shuttle))]
    pub fn new(value: T) -> Mutex<T> {
        Mutex { lock: imp::Mutex::new(value), rank: PhantomData }
    }
}

impl<T, R: Rank> Mutex<T, R> {
    /// A free lock of this rank that guards `value`.
    pub fn ranked(value: T) -> Mutex<T, R> {
        Mutex { lock: imp::Mutex::new(value), rank: PhantomData }
    }

    /// Waits for the lock and takes it.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let holding = Holding::enter::<R>();
        MutexGuard { guard: self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), holding }
    }

    /// Takes the lock if it is free. loom never lets this fail.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = match self.lock.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { guard, holding: Holding::note::<R>() })
    }

    /// The guarded value, of a lock that no other thread has.
    pub fn into_inner(self) -> T {
        self.lock.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T: Default, R: Rank> Default for Mutex<T, R> {
    fn default() -> Mutex<T, R> {
        Mutex::ranked(T::default())
    }
}

/// A lock for many readers or one writer. `R` is its place in the order of locks: a thread that reads it may not read
/// it again, as a writer may have begun to wait in between.
#[derive(Debug)]
pub struct RwLock<T, R = Unranked> {
    lock: imp::RwLock<T>,
    rank: PhantomData<fn() -> R>,
}

impl<T> RwLock<T> {
    /// A free lock that guards `value`.
    pub fn new(value: T) -> RwLock<T> {
        RwLock { lock: imp::RwLock::new(value), rank: PhantomData }
    }
}

impl<T, R: Rank> RwLock<T, R> {
    /// A free lock of this rank that guards `value`.
    pub fn ranked(value: T) -> RwLock<T, R> {
        RwLock { lock: imp::RwLock::new(value), rank: PhantomData }
    }

    /// Waits until no writer has the lock, and takes it for reading.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let holding = Holding::enter::<R>();
        RwLockReadGuard { guard: self.lock.read().unwrap_or_else(|poisoned| poisoned.into_inner()), _holding: holding }
    }

    /// Waits until no thread has the lock, and takes it for writing.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let holding = Holding::enter::<R>();
        RwLockWriteGuard {
            guard: self.lock.write().unwrap_or_else(|poisoned| poisoned.into_inner()),
            _holding: holding,
        }
    }
}

impl<T: Default, R: Rank> Default for RwLock<T, R> {
    fn default() -> RwLock<T, R> {
        RwLock::ranked(T::default())
    }
}

/// The value of a [`Mutex`] that this thread has, until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct MutexGuard<'a, T> {
    // Given back before it is noted: fields are dropped in this order.
    guard: imp::MutexGuard<'a, T>,
    holding: Holding,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// The value of a [`RwLock`] that this thread reads, until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct RwLockReadGuard<'a, T> {
    guard: imp::RwLockReadGuard<'a, T>,
    _holding: Holding,
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

/// The value of a [`RwLock`] that this thread writes, until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct RwLockWriteGuard<'a, T> {
    guard: imp::RwLockWriteGuard<'a, T>,
    _holding: Holding,
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Waits for a change of what a [`Mutex`] guards. A waiter may wake without a cause, so it waits in a loop.
#[derive(Debug, Default)]
pub struct Condvar(imp::Condvar);

impl Condvar {
    /// A condition without a waiting thread.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    /// Releases the lock, waits, and takes it again. The thread takes no other lock while it waits, so its rank stays
    /// noted.
    pub fn wait<'a, T>(&self, MutexGuard { guard, holding }: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { guard: self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner()), holding }
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[cfg(all(test, not(any(vellum_loom, vellum_shuttle))))]
mod tests {
    use super::{Arc, Mutex, RwLock, thread};

    #[test]
    fn a_lock_whose_holder_panicked_can_be_taken() {
        let locks = Arc::new((Mutex::new(1), RwLock::new(2)));
        let inner = Arc::clone(&locks);
        let panicked = thread::spawn(move || {
            let _guards = (inner.0.lock(), inner.1.write());
            panic!("while both are held");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*locks.0.lock(), 1);
        assert_eq!(*locks.1.read(), 2);
        assert_eq!(*locks.1.write(), 2);
        assert_eq!(locks.0.try_lock().map(|guard| *guard), Some(1));
        let held = locks.0.lock();
        assert!(locks.0.try_lock().is_none());
        drop(held);
    }
}
