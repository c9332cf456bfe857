//! Packing in the background: a database that keeps the last days, without anybody who packs it.
//!
//! ```text
//!     ├─ step ─┤        rest         ├─ step ─┤        rest         ├─ ...
//!        1 ms           9 ms            1 ms           9 ms             a tenth of the time
//! ```
//!
//! A step is one of a pack by counts (`pack/free.rs`), to the time of now less what is to be kept. Commits wait for a
//! step at the most. Garbage that refers to itself in a circle stays then, so now and then there is a pack with
//! collection instead: when there are half as many objects again as after the last one.
//!
//! If a record may refer into another database, there are several, and the others may need what looks like garbage
//! here: then only old revisions go.
//!
//! A history-free database (rule 4.12) has no old revisions to speak of: only garbage goes.
//!
//! [`Autopack`] has no thread and no clock of its own. [`Autopacking`] is the thread that asks it for its steps, and
//! rests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use vellum_storage::{Error, PackOptions, Result, Tid};
use vellum_sync::Mutex;
use vellum_sync::atomic::{AtomicBool, Ordering};
use vellum_sync::thread::{self, JoinHandle};

use crate::pack::ByCounts;
use crate::storage::TableStorage;

/// The usual share of the time that packing in the background takes.
pub const SHARE: f64 = 0.1;

/// A database of so many objects is too small for a collection in the background.
const OBJECTS_MIN: u64 = 1000;

/// The longest rest, and the rest where there is nothing to do.
const REST_MAX: Duration = Duration::from_secs(60);

/// The work of one step of [`Autopack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A part of a pack.
    Packed,
    /// A pack with collection, as a whole.
    Collected,
    /// Nothing: no transaction is older than what is to be kept.
    Idle,
}

/// Packs by itself, step by step.
pub struct Autopack {
    storage: TableStorage,
    keep: SignedDuration,
    under_way: Option<ByCounts>,
    /// Whether the first pack is still to come: an earlier process may have stopped in the middle of one.
    is_first: bool,
    /// Of a history-free database: the last transaction that was looked at.
    looked_at: Tid,
    /// Why garbage is not collected any more: a collection was refused.
    refused: Option<Error>,
}

impl std::fmt::Debug for Autopack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Autopack").field("keep", &self.keep).field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl Autopack {
    /// Packs this storage, and keeps the history of this time.
    pub fn new(storage: TableStorage, keep: Duration) -> Autopack {
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        Autopack { storage, keep, under_way: None, is_first: true, looked_at: Tid::ZERO, refused: None }
    }

    /// Does one step.
    ///
    /// # Errors
    ///
    /// Those of [`TableStorage::pack_by_counts`]. A collection that is refused is no error: the circles stay.
    pub fn step(&mut self) -> Result<Step> {
        let shared = &self.storage.shared;
        shared.writable()?;
        if let Some(mut pack) = self.under_way.take() {
            if pack.step_beside(shared)? {
                self.under_way = Some(pack);
            }
            return Ok(Step::Packed);
        }
        // Before the first moment that a tid can name, nothing is old.
        let Ok(then) = shared.options.clock.now().checked_sub(self.keep) else { return Ok(Step::Idle) };
        let to = Tid::at(then);
        let (is_old, objects, at_last) = {
            let now = shared.store.now();
            let facts = now.tables.facts;
            // Rule 4.12: commits forget what is old, but not garbage.
            let is_old = match facts.is_history_free {
                true => now.last > std::mem::replace(&mut self.looked_at, now.last),
                false => now.tables.head_in(facts.packed_to.next(), to, false)?.is_some(),
            };
            (is_old, now.tables.object_count()?, facts.collected_objects)
        };
        if !std::mem::take(&mut self.is_first) && !is_old {
            return Ok(Step::Idle);
        }
        if is_old && self.refused.is_none() && objects > OBJECTS_MIN.max(at_last.saturating_add(at_last / 2)) {
            match self.storage.pack_unless_foreign(to, PackOptions::default().collect(true).one_thread(true)) {
                Ok(_) => return Ok(Step::Collected),
                Err(error @ (Error::Foreign { .. } | Error::Dangling { .. } | Error::Unreadable { .. })) => {
                    tracing::warn!("{}: garbage in circles stays: {error}", shared.name());
                    self.refused = Some(error);
                }
                // Another thread packs it.
                Err(Error::Packing { .. }) => return Ok(Step::Idle),
                Err(other) => return Err(other),
            }
        }
        self.under_way = Some(ByCounts::new(to).stops_at_foreign());
        Ok(Step::Packed)
    }
}

/// A thread that packs in the background. It ends when this is dropped, after the step that it is in.
#[derive(Debug)]
pub struct Autopacking {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    is_ending: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl TableStorage {
    /// Packs in the background from now on (rule 4.11), and keeps the history of this time. `share` is the part of the
    /// time that this may take: 0.1 is a tenth.
    ///
    /// # Errors
    ///
    /// Read-only; the system gives no thread.
    pub fn autopack(&self, keep: Duration, share: f64) -> Result<Autopacking> {
        self.shared.writable()?;
        let mut autopack = Autopack::new(self.clone(), keep);
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        let run = move || {
            while !of_thread.is_ending.load(Ordering::SeqCst) {
                let start = Instant::now();
                let rest = match autopack.step() {
                    Ok(Step::Idle) => REST_MAX,
                    Ok(_) => rest(start.elapsed(), share),
                    Err(error) => {
                        tracing::error!("{}: packing in the background ends: {error}", autopack.storage.shared.name());
                        *of_thread.error.lock() = Some(error);
                        return;
                    }
                };
                if !of_thread.is_ending.load(Ordering::SeqCst) {
                    thread::park_timeout(rest);
                }
            }
        };
        let thread = thread::Builder::new().name("vellum-autopack".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::io(self.path(), "starting a thread that packs", e))?;
        Ok(Autopacking { state, thread: Some(thread) })
    }
}

/// The rest after a step, so that the steps take this share of the time.
fn rest(took: Duration, share: f64) -> Duration {
    let share = share.clamp(0.001, 1.0);
    took.mul_f64((1.0 - share) / share).min(REST_MAX)
}

impl Autopacking {
    /// Whether the thread has ended by itself, because of an error.
    pub fn has_failed(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread, after the step that it is in.
    ///
    /// # Errors
    ///
    /// The error because of which it had ended before.
    pub fn end(mut self) -> Result<()> {
        self.join();
        self.state.error.lock().take().map_or(Ok(()), Err)
    }

    fn join(&mut self) {
        self.state.is_ending.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that packs in the background panicked");
            }
        }
    }
}

impl Drop for Autopacking {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_its_share_of_the_time() {
        assert_eq!(rest(Duration::from_millis(10), 0.1), Duration::from_millis(90));
        assert_eq!(rest(Duration::from_millis(10), 1.0), Duration::ZERO);
        assert_eq!(rest(Duration::from_secs(3600), 0.1), REST_MAX);
        assert!(rest(Duration::from_millis(10), 0.0) <= REST_MAX);
    }
}
