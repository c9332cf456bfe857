//! Two phases: what is put together, voted on, and written to the changes.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::judge::{Change, Verdict, across, judge};
use super::seam::{SEAM, encode};
use super::{Overlay, Shared};
use crate::{
    Busy, CopyChange, Error, Held, Notify, Oid, Result, Revision, Tid, Transaction, TransactionMeta, UndoChange,
    Version, VersionChange, Vote, Voted, Wants,
};

impl Overlay {
    pub(super) fn draft(&self, meta: TransactionMeta) -> Result<Box<dyn Transaction>> {
        meta.check()?;
        let last = self.shared.state().last;
        match meta.tid {
            Some(tid) if tid <= last => Err(Error::TidNotLater { tid, last }),
            _ => Ok(Box::new(Draft { shared: Arc::clone(&self.shared), meta, changes: Vec::new() })),
        }
    }
}

/// A transaction before its vote.
struct Draft {
    shared: Arc<Shared>,
    meta: TransactionMeta,
    changes: Vec<Change>,
}

enum Attempt {
    Voted(Box<dyn Voted>),
    Busy(Box<Draft>, Wants, Busy),
}

impl Draft {
    fn add(&mut self, change: Change) -> Result<()> {
        self.changes.push(change);
        Ok(())
    }

    /// Nobody's object, or a record that no file can hold.
    fn check(&self, oid: Oid, data: &[u8]) -> Result<()> {
        if oid == SEAM {
            return Err(self.shared.unfit(format!("the object {oid} is the overlay's own")));
        }
        if data.is_empty() { Err(Error::EmptyRecord { oid }) } else { Ok(()) }
    }

    fn attempt(self: Box<Self>) -> Result<Attempt> {
        let shared = Arc::clone(&self.shared);
        // Nothing is finished between the judgement and the locks.
        let state = shared.state();
        let mut verdict = judge(&shared, &state, &self.changes)?;
        Ok(match shared.locks.try_take(std::mem::take(&mut verdict.wants)) {
            Ok(held) => {
                let Draft { shared, meta, .. } = *self;
                Attempt::Voted(Box::new(Ready { shared, meta, verdict, held }))
            }
            Err((wants, busy)) => Attempt::Busy(self, wants, busy),
        })
    }
}

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.store_in(&Version::TRUNK, oid, serial, data)
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.add(Change::Delete { oid, serial })
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.add(Change::CheckCurrent { oid, serial })
    }

    fn undo(&mut self) -> Option<&mut dyn UndoChange> {
        Some(self)
    }

    fn versions(&mut self) -> Option<&mut dyn VersionChange> {
        Some(self)
    }

    fn copy(&mut self) -> Option<&mut dyn CopyChange> {
        Some(self)
    }

    fn vote(mut self: Box<Self>) -> Result<Box<dyn Voted>> {
        let shared = Arc::clone(&self.shared);
        loop {
            match self.attempt()? {
                Attempt::Voted(voted) => return Ok(voted),
                Attempt::Busy(draft, wants, _) => {
                    // Until they are free; by the time they are, others may be wanted.
                    drop(shared.locks.take(wants));
                    self = draft;
                }
            }
        }
    }

    fn try_vote(self: Box<Self>) -> Result<Vote> {
        Ok(match self.attempt()? {
            Attempt::Voted(voted) => Vote::Voted(voted),
            Attempt::Busy(draft, _, busy) => Vote::Busy(draft, busy),
        })
    }
}

impl UndoChange for Draft {
    fn undo(&mut self, tid: Tid) -> Result<()> {
        self.add(Change::Undo { tid })
    }
}

impl VersionChange for Draft {
    fn store_in(&mut self, version: &Version, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.check(oid, &data)?;
        self.add(Change::Store { version: version.clone(), oid, serial, data })
    }

    fn commit_version(&mut self, from: &Version, to: &Version) -> Result<()> {
        self.add(Change::CommitVersion { from: from.clone(), to: to.clone() })
    }

    fn abort_version(&mut self, from: &Version) -> Result<()> {
        self.add(Change::AbortVersion { from: from.clone() })
    }
}

impl CopyChange for Draft {
    fn restore(&mut self, revision: Revision) -> Result<()> {
        self.check(revision.oid, revision.data.as_deref().unwrap_or(b"nothing"))?;
        self.add(Change::Restore(revision))
    }
}

/// A transaction after its vote.
struct Ready {
    shared: Arc<Shared>,
    meta: TransactionMeta,
    verdict: Verdict,
    held: Held,
}

impl Voted for Ready {
    fn resolved(&self) -> &[Oid] {
        &self.verdict.resolved
    }

    fn touched(&self) -> Vec<Oid> {
        let mut seen = HashSet::new();
        let written = self.verdict.written.iter().map(|point| point.revision.oid);
        written.filter(|oid| seen.insert(*oid)).collect()
    }

    fn finish_with(self: Box<Self>, notify: Notify) -> Result<Tid> {
        let Ready { shared, meta, verdict: Verdict { written, .. }, held } = *self;
        let turn = shared.finishing.lock().unwrap_or_else(PoisonError::into_inner);
        let last = shared.state().last;
        let tid = match meta.tid {
            Some(tid) if tid <= last => return Err(Error::TidNotLater { tid, last }),
            Some(tid) => tid,
            None if last == Tid::MAX => return Err(Error::Exhausted { what: "tids" }),
            None => Tid::at(shared.clock.now()).max(last.next()),
        };
        let status = meta.status;
        let entries = across(&written, shared.seam);
        let newest = written.iter().map(|point| (point.revision.oid, point.revision.version.clone())).collect();
        let born = shared.born(&shared.state(), &newest)?;

        let mut draft = shared.changes.begin(TransactionMeta { tid: Some(tid), ..meta })?;
        let copy = draft.copy().ok_or_else(|| shared.unfit("it can not copy"))?;
        let above = |tid: &Tid| *tid > shared.seam;
        for point in written {
            let Revision { source, under, .. } = point.revision;
            copy.restore(Revision { source: source.filter(above), under: under.filter(above), ..point.revision })?;
        }
        if !entries.is_empty() {
            let data = Some(encode(&entries));
            copy.restore(Revision { oid: SEAM, version: Version::TRUNK, data, source: None, under: None })?;
        }
        let voted = draft.vote()?;
        let finished = catch_unwind(AssertUnwindSafe(|| voted.finish_with(notify)));
        // What is durable is shown, even if whoever was told of it panicked.
        if shared.changes.last_transaction() >= tid {
            shared.state_mut().follow((tid, status), newest, entries, born);
        }
        // The objects are free before anybody hears that it is finished.
        drop(held);
        drop(turn);
        finished.unwrap_or_else(|panic| resume_unwind(panic))
    }
}
