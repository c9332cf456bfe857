//! The one place that names a lock, an atomic or a thread.
//!
//! An ordinary build gets std's types. A build with `--cfg vellum_loom` gets loom's under the same names, so that loom can
//! run every interleaving of the code that ships. The flag has a name of our own, because `--cfg loom` changes what other
//! crates compile to; and it is no Cargo feature, because a feature is turned on for the whole workspace at once.
//!
//! | here | std | loom |
//! |---|---|---|
//! | [`Mutex`], [`RwLock`], [`Condvar`] | wrapped: `lock()` returns the guard | wrapped the same |
//! | [`Arc`], [`atomic`], [`thread`] | as they are | as they are |
//!
//! **A poisoned lock is taken all the same.** A panic in a critical section is a bug in this project; the data that the lock
//! guards is either still whole (a map into which a value went, or did not), or guarded by a flag of its own, as the commit
//! queue is. So no caller would do anything with a `PoisonError` but ignore it, and 64 places did.
//!
//! loom's `Arc` cannot hold a `dyn` trait, so code that shares trait objects takes std's.

#![forbid(unsafe_code)]

#[cfg(vellum_loom)]
use loom::sync as imp;
#[cfg(not(vellum_loom))]
use std::sync as imp;

pub use imp::{Arc, MutexGuard, RwLockReadGuard, RwLockWriteGuard, atomic};

#[cfg(vellum_loom)]
pub use loom::thread;
#[cfg(not(vellum_loom))]
pub use std::thread;

use std::sync::TryLockError;

/// A lock for one thread at a time.
#[derive(Debug, Default)]
pub struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    /// A free lock that guards `value`.
    #[cfg(not(vellum_loom))]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(imp::Mutex::new(value))
    }

    /// A free lock that guards `value`.
    #[cfg(vellum_loom)]
    pub fn new(value: T) -> Mutex<T> {
        Mutex(imp::Mutex::new(value))
    }

    /// Waits for the lock and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the lock if it is free. loom never lets this fail.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The guarded value, of a lock that nobody else has.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A lock for many readers or one writer.
#[derive(Debug, Default)]
pub struct RwLock<T>(imp::RwLock<T>);

impl<T> RwLock<T> {
    /// A free lock that guards `value`.
    pub fn new(value: T) -> RwLock<T> {
        RwLock(imp::RwLock::new(value))
    }

    /// Waits until no writer has the lock, and takes it for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until nobody has the lock, and takes it for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Waits for a change of what a [`Mutex`] guards. A waiter may wake without a cause, so it waits in a loop.
#[derive(Debug, Default)]
pub struct Condvar(imp::Condvar);

impl Condvar {
    /// A condition that nobody waits for.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    /// Gives the lock back, waits, and takes it again.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
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

#[cfg(all(test, not(vellum_loom)))]
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
