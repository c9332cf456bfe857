//! A client's transaction, from its beginning to its end.
//!
//! ```text
//!                      ┌───────────── conflict, for the client to resolve ─┐
//!   tpc_begin ─▶ Open ─┴─ vote ─▶ Voting ─▶ Voted ─ tpc_finish ─▶ Finishing ─▶ (none)
//!                                  │  ▲
//!                                  ▼  │ woken
//!                                 Waiting
//! ```
//!
//! From Open, a draft may be sent to a scratch file (Spilling), and comes back. So may each piece of a blob
//! (Uploading).
//!
//! An abort, a refused vote or a lost connection ends it from every stage. A running call of a storage is waited for
//! first: it is not known of a running finish whether it succeeds.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use vellum_storage::{Busy, Change, Draft, Oid, Tid, TransactionMeta};
use vellum_wire::{Fault, MessageId, TransactionId};

use crate::JobId;

/// A client's transaction.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Transaction {
    /// The client's name for it.
    pub id: TransactionId,
    /// Its draft.
    pub draft: Draft,
    /// When it began.
    pub since: Duration,
    /// Bytes of records that it keeps in memory, also after its vote.
    pub in_memory: u64,
    /// How far it is.
    pub stage: Stage,
    /// The error of a change that was not answered. The vote reports it.
    pub wrong: Option<Wrong>,
    /// The blob that the client is sending.
    pub upload: Option<Upload>,
    /// The stores of those that it has sent, each with the number of the draft's changes before it.
    pub blobs: Vec<(usize, Change)>,
    /// Objects of which the client was sent both records. Its next store of one replaces the first.
    pub resolving: BTreeSet<Oid>,
}

impl Transaction {
    /// Takes the draft out, for a storage.
    pub fn take_draft(&mut self) -> Draft {
        std::mem::replace(&mut self.draft, Draft::new(TransactionMeta::new()))
    }

    /// Puts the stores of blobs into the draft, where they were sent. Clients store the record of a blob before it
    /// alone: that store would only be overwritten.
    pub fn place_blobs(&mut self) -> vellum_storage::Result<()> {
        if self.blobs.is_empty() {
            return Ok(());
        }
        let mut blobs = std::mem::take(&mut self.blobs).into_iter().peekable();
        let origin = self.draft.origin();
        let (meta, _, changes) = self.take_draft().into_parts();
        self.draft = Draft::new(meta);
        self.draft.set_origin(origin);
        let mut all = Vec::new();
        for (n, change) in changes.into_iter().enumerate() {
            while let Some((_, blob)) = blobs.next_if(|(before, _)| *before <= n) {
                all.push(blob);
            }
            all.push(change);
        }
        all.extend(blobs.map(|(_, blob)| blob));
        // From the end, so that a record is known to be alone by the blob that follows it.
        let (mut with_blob, mut kept) = (BTreeSet::new(), Vec::new());
        for change in all.into_iter().rev() {
            match &change {
                Change::Store { oid, data, .. } if data.blob().is_some() => _ = with_blob.insert(*oid),
                Change::Store { oid, .. } if with_blob.contains(oid) => continue,
                _ => {}
            }
            kept.push(change);
        }
        kept.into_iter().rev().try_for_each(|change| self.draft.push(change))
    }

    /// Takes the store of an object out of the transaction: a merged record comes instead.
    pub fn replace_store(&mut self, merged: Oid) {
        let origin = self.draft.origin();
        let draft = self.take_draft();
        let (meta, _, changes) = draft.into_parts();
        self.draft = Draft::new(meta);
        self.draft.set_origin(origin);
        let mut kept = Vec::new();
        for (n, change) in changes.into_iter().enumerate().rev() {
            if matches!(&change, Change::Store { oid, data, .. } if *oid == merged && data.blob().is_none()) {
                self.blobs.iter_mut().filter(|(before, _)| *before > n).for_each(|(before, _)| *before -= 1);
            } else {
                kept.push(change);
            }
        }
        for change in kept.into_iter().rev() {
            self.draft.push(change).expect("a change that was pushed once can be pushed again");
        }
    }
}

/// A blob on its way from a client.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Upload {
    /// Why it cannot be kept. The rest of the upload is ignored, and the vote reports the reason.
    pub failed: Option<Wrong>,
}

/// The record that a blob is stored with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlobRecord {
    pub oid: Oid,
    pub serial: Tid,
    pub data: Bytes,
}

/// An error that a vote will be answered with. It is data that no two transactions are told apart by.
#[derive(Clone, Debug)]
pub(crate) struct Wrong(pub Fault);

impl std::hash::Hash for Wrong {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        format!("{:?}", self.0).hash(state);
    }
}

/// How far a transaction is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It takes changes.
    Open,
    /// Its records are being written to a scratch file.
    Spilling { job: JobId },
    /// A storage takes chunks of a blob, of `bytes` together; or the end of the blob of this record.
    Uploading { job: JobId, bytes: u64, ends: Option<BlobRecord> },
    /// A storage judges it. `reply` is the call that the result answers. `is_woken`, if what it will have to wait for
    /// is free before the storage's answer that it has to wait.
    Voting { job: JobId, reply: Option<MessageId>, is_woken: bool },
    /// It waits for another transaction.
    Waiting { job: JobId, reply: Option<MessageId>, on: Busy },
    /// It can be finished, and holds its objects.
    Voted { since: Duration },
    /// A storage finishes it.
    Finishing { job: JobId, reply: Option<MessageId> },
}

impl Stage {
    /// The call of the storage that is under way.
    pub fn running(&self) -> Option<JobId> {
        match self {
            Stage::Spilling { job }
            | Stage::Uploading { job, .. }
            | Stage::Voting { job, .. }
            | Stage::Finishing { job, .. } => Some(*job),
            _ => None,
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Stage::Open => "open",
            Stage::Spilling { .. } => "spilling",
            Stage::Uploading { .. } => "uploading",
            Stage::Voting { .. } => "voting",
            Stage::Waiting { .. } => "waiting",
            Stage::Voted { .. } => "voted",
            Stage::Finishing { .. } => "finishing",
        }
    }
}
