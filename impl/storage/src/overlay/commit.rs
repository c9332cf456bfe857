//! Two phases: the verdict is written to the changes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::past::Now;
use super::seam::{Across, SEAM, encode};
use super::{Overlay, Shared};
use crate::{
    Change, Draft, Error, Event, Held, Judged, Limits, Oid, Origin, Prepared, Result, Scratch, Tid, TransactionMeta,
    Verdict, Version, Vote, Voted, Waiting, lock_and_judge,
};

impl Overlay {
    pub(super) fn draft(&self, meta: TransactionMeta) -> Result<Draft> {
        meta.check(self.last_transaction())?;
        Ok(Draft::within(meta, Arc::clone(&self.shared) as Arc<dyn Limits>, 0))
    }

    pub(super) fn judged(&self, waiting: Waiting) -> Result<Vote> {
        let shared = &*self.shared;
        let now = || Now { shared, state: shared.state() };
        Ok(match lock_and_judge(&shared.locks, now, &*shared.resolver, waiting)? {
            Err(waiting) => Vote::Busy(waiting),
            Ok(Judged { draft, held, past, verdict }) => {
                // A draft need not have been begun here.
                if verdict.writes.iter().any(|write| write.oid == SEAM) {
                    return Err(shared.reserved());
                }
                let (restores, entries) = past.above(&verdict.writes)?;
                let (meta, origin, _) = draft.into_parts();
                let shared = Arc::clone(&self.shared);
                let (touched, merged) = (verdict.touched(), verdict.merged.clone());
                let ready = Ready { shared, meta, origin, verdict, restores, entries, held };
                Vote::Voted(Voted::new(touched, merged, ready))
            }
        })
    }
}

/// Large transactions wait on the disk.
const SPILL_AFTER: u64 = 32 << 20;

impl Shared {
    fn reserved(&self) -> Error {
        self.unfit(format!("the object {SEAM} is the overlay's own"))
    }
}

impl Limits for Shared {
    fn admit(&self, length: u64, change: &Change) -> Result<u64> {
        match change.target() {
            Some((SEAM, _)) => Err(self.reserved()),
            _ => Ok(length),
        }
    }

    fn spill_after(&self) -> u64 {
        SPILL_AFTER
    }

    fn scratch(&self) -> Result<Scratch> {
        Scratch::temporary()
    }
}

/// A transaction after its vote.
struct Ready {
    shared: Arc<Shared>,
    meta: TransactionMeta,
    origin: Origin,
    verdict: Verdict,
    restores: Vec<Change>,
    entries: Vec<Across>,
    held: Held,
}

impl Prepared for Ready {
    fn verdict(&self) -> Result<Verdict> {
        Ok(self.verdict.clone())
    }

    fn finish(self: Box<Self>) -> Result<Tid> {
        let Ready { shared, meta, origin, verdict, restores, entries, held } = *self;
        let _turn = shared.finishing.lock();
        let tid = meta.tid_after(shared.state().last, &*shared.clock)?;
        let status = meta.status;
        let newest: BTreeMap<Oid, Version> =
            verdict.writes.iter().map(|write| (write.oid, write.version.clone())).collect();
        let born = shared.born(&shared.state(), &newest)?;
        let mut draft = shared.changes.begin(TransactionMeta { tid: Some(tid), ..meta })?;
        restores.into_iter().try_for_each(|restore| draft.push(restore))?;
        if !entries.is_empty() {
            let data = Some(encode(&entries).into());
            draft.push(Change::Restore { oid: SEAM, version: Version::TRUNK, data, source: None, base: None })?;
        }
        let voted = shared.changes.vote(draft)?;
        let finished = catch_unwind(AssertUnwindSafe(|| voted.finish()));
        // A durable transaction is shown, even if a listener of the changes panicked.
        if shared.changes.last_transaction() >= tid {
            shared.state_mut().follow((tid, status), newest, entries, born);
            drop(held);
            shared.listeners.tell(|| Event::Committed { tid, oids: verdict.touched(), origin });
        }
        finished.unwrap_or_else(|panic| resume_unwind(panic))
    }
}
