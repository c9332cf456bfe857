//! The limit of readers: the position up to which they see the file, and the tid of the last transaction there.
//!
//! A commit first puts its records into the file and the index, beyond the horizon, and then moves the horizon past
//! them in one step. A reader reads the horizon first; whatever the index then shows beyond it, the reader goes back
//! along the chain to before it. So a transaction is seen whole or not at all, and no reader waits.

use vellum_storage::Tid;
use vellum_sync::atomic::{AtomicU64, Ordering, fence};

/// The pair, behind a sequence number that is odd while it changes.
#[derive(Debug)]
pub(crate) struct Horizon {
    sequence: AtomicU64,
    end: AtomicU64,
    last: AtomicU64,
}

impl Horizon {
    pub fn new(end: u64, last: Tid) -> Horizon {
        Horizon { sequence: AtomicU64::new(0), end: AtomicU64::new(end), last: AtomicU64::new(last.0) }
    }

    /// The position before which everything may be read.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// That position, and the last transaction before it.
    pub fn get(&self) -> (u64, Tid) {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let found = (self.end.load(Ordering::Acquire), Tid(self.last.load(Ordering::Relaxed)));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return found;
            }
            std::hint::spin_loop();
        }
    }

    /// Moves it. Only one thread at a time: the one that leads a commit.
    pub fn advance(&self, end: u64, last: Tid) {
        let before = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(before + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.end.store(end, Ordering::Release);
        self.last.store(last.0, Ordering::Relaxed);
        self.sequence.store(before + 2, Ordering::Release);
    }
}
