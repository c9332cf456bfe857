//! Where tids come from: time, but never backwards.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

/// Says what time it is. A storage makes tids of it that strictly increase even when the clock does not (rule 1.1).
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present moment, UTC.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that moves when told to, and so never in the middle of a test.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that stands at `moment`.
    pub fn at(moment: Timestamp) -> ManualClock {
        ManualClock(Mutex::new(moment))
    }

    /// Moves it to `moment`, forwards or backwards.
    pub fn set(&self, moment: Timestamp) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = moment;
    }

    /// Moves it, forwards or backwards; at the end of time it stays there.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap_or_else(|e| e.into_inner());
        *now = now.checked_add(by).unwrap_or(Timestamp::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
