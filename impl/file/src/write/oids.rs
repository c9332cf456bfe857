//! Which oids are free.

use vellum_storage::{Error, Oid, Result};
use vellum_sync::atomic::{AtomicU64, Ordering};

/// The largest oid that is in use or was given out.
#[derive(Debug)]
pub(crate) struct Oids(AtomicU64);

impl Oids {
    pub fn after(last: Oid) -> Oids {
        Oids(AtomicU64::new(last.0))
    }

    /// Gives out so many, each once.
    pub fn take(&self, count: u32) -> Result<Vec<Oid>> {
        let add = |last: u64| last.checked_add(u64::from(count));
        let first = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let first = first.map_err(|_| Error::Exhausted { what: "oids" })?;
        Ok((1..=u64::from(count)).map(|n| Oid(first + n)).collect())
    }

    /// Makes sure that no oid up to this one is given out.
    pub fn saw(&self, oid: Oid) {
        self.0.fetch_max(oid.0, Ordering::Relaxed);
    }
}
