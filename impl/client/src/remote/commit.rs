//! Two phases, over the wire.

use std::collections::{BTreeMap, BTreeSet};

use vellum_storage::{
    Change, Contested, Draft, Error, Held, NotUndone, Oid, Prepared, Refusal, Result, Tid, UndoLog, Verdict, Version,
    Vote, Voted, Waiting, Wants, WhyNot,
};
use vellum_wire::Fault;

use super::{RemoteStorage, trouble};
use crate::ask::{self, Conflict};
use crate::error::{self, ClientError};
use crate::transaction::Transaction;

/// So often a client merges, if concurrent transactions change the same objects.
const ROUNDS: usize = 10;

impl RemoteStorage {
    pub(super) fn first_phase(&self, waiting: Waiting) -> Result<Vote> {
        let wants = Wants { everything: true, ..Wants::default() };
        let (draft, held) = match waiting.take(&self.turn, wants) {
            Ok(taken) => taken,
            Err(waiting) => return Ok(Vote::Busy(waiting)),
        };
        // The draft may have been begun elsewhere.
        draft.meta().check(self.last_transaction())?;
        draft.changes().iter().try_for_each(|change| self.check(change))?;
        let transaction = self.client.begin_as(draft.meta().clone(), draft.origin());
        for change in draft.changes() {
            match change {
                Change::Store { oid, serial, data, .. } if data.blob().is_some() => {
                    let blob = data.blob().ok_or_else(|| Error::key(*oid))?;
                    transaction.store_blob(*oid, *serial, data.bytes()?, blob)?;
                }
                change => transaction.change(in_memory(change)?).wait().map_err(|error| self.trouble(error))?,
            }
        }
        let written = self.vote_and_merge(&transaction, &draft)?;
        let stored = targets(&draft);
        let merged = self.merged(&draft, &written);
        let mut touched = Vec::new();
        let mut seen = BTreeSet::new();
        for oid in stored.iter().chain(&written) {
            if seen.insert(*oid) {
                touched.push(*oid);
            }
        }
        let prepared = Ready { name: self.name.clone(), transaction, _held: held };
        Ok(Vote::Voted(Voted::new(touched, merged, prepared)))
    }

    /// The stored objects for which a merged record will be written.
    fn merged(&self, draft: &Draft, written: &[Oid]) -> Vec<Oid> {
        let is_unknown = |change: &Change| {
            matches!(change, Change::Undo { .. } | Change::CommitVersion { .. } | Change::AbortVersion { .. })
        };
        let is_unknown = draft.changes().iter().any(is_unknown);
        // An object may be stored more than once, and is merged if one of its serials was old.
        let mut stores: BTreeMap<Oid, Vec<(Tid, &Version)>> = BTreeMap::new();
        for change in draft.changes() {
            if let Change::Store { oid, serial, version, .. } = change {
                stores.entry(*oid).or_default().push((*serial, version));
            }
        }
        // The objects of an undo, or of the end of a version, are among the written ones, and their records are not
        // merged.
        let is_old = |oid: Oid, serial: Tid, version: &Version| {
            !is_unknown || matches!(self.load(oid, version), Ok(newest) if newest.tid != serial)
        };
        let mut merged = Vec::new();
        for oid in written {
            let Some(stores) = stores.remove(oid) else { continue };
            if stores.into_iter().any(|(serial, version)| is_old(*oid, serial, version)) {
                merged.push(*oid);
            }
        }
        merged
    }

    /// Refuses what cannot be said.
    fn check(&self, change: &Change) -> Result<()> {
        change.check()?;
        let is_in_version = match change {
            Change::CommitVersion { .. } | Change::AbortVersion { .. } => true,
            change => change.target().is_some_and(|(_, version)| *version != Version::TRUNK),
        };
        if let Change::Restore { data: Some(data), .. } = change
            && data.blob().is_some()
        {
            let why = "ZEO's protocol has no words for restoring a revision with its blob".to_owned();
            return Err(Error::Unfit { name: self.name.clone(), why });
        }
        match is_in_version && !self.has_versions {
            true => {
                let why =
                    "ZEO's protocol has no versions. Where the server is Vellum's, `ClientOptions::versions` has them";
                Err(Error::Unfit { name: self.name.clone(), why: why.to_owned() })
            }
            false => Ok(()),
        }
    }

    /// Votes, and merges what the server leaves to its clients. Returns the objects whose records are not those stored.
    fn vote_and_merge(&self, transaction: &Transaction, draft: &Draft) -> Result<Vec<Oid>> {
        let mut merged = BTreeSet::new();
        for _ in 0..ROUNDS {
            match transaction.vote().wait() {
                Ok(ask::Voted::Ready(written)) => {
                    let more = written.iter().copied().filter(|oid| !merged.contains(oid));
                    return Ok(merged.iter().copied().chain(more).collect());
                }
                Ok(ask::Voted::Conflicts(conflicts)) => {
                    for conflict in &conflicts {
                        self.merge(transaction, conflict)?;
                        merged.insert(conflict.oid);
                    }
                }
                Err(error) => return Err(self.refused(error, draft)),
            }
        }
        let why = format!("the same objects were changed by others {ROUNDS} times while they were merged. Try again");
        Err(Error::Remote { name: self.name.clone(), why })
    }

    /// Merges one object, and stores it once more.
    fn merge(&self, transaction: &Transaction, conflict: &Conflict) -> Result<()> {
        let Conflict { oid, committed, serial, data } = conflict;
        let lost = || self.trouble(error::conflict(std::slice::from_ref(conflict)));
        let resolver = self.resolver.as_ref().ok_or_else(lost)?;
        // Both are asked for before the first is waited for.
        let records = [*serial, *committed].map(|tid| self.client.load_serial(*oid, tid));
        let [ancestor, newest] = records.map(|record| record.wait());
        let (Ok(ancestor), Ok(newest)) = (ancestor, newest) else { return Err(lost()) };
        let contested = Contested { oid: *oid, ancestor: &ancestor, committed: &newest, new: data };
        let merged = resolver.resolve(contested).filter(|merged| !merged.is_empty()).ok_or_else(lost)?;
        transaction.store(*oid, *committed, merged).wait().map_err(|error| self.trouble(error))
    }

    /// Why a vote refused a draft.
    fn refused(&self, error: ClientError, draft: &Draft) -> Error {
        let undone = |change: &Change| match change {
            Change::Undo { tid } => Some(*tid),
            _ => None,
        };
        match error {
            ClientError::Refused(Fault::NoObject { oid }) => Refusal::UnknownObject { oid }.into(),
            ClientError::Refused(Fault::UndoOfObjects(objects)) => {
                let not = |not: vellum_wire::NotUndone| NotUndone { oid: not.oid.unwrap_or_default(), why: why(&not) };
                Refusal::UndoConflict { objects: objects.into_iter().map(not).collect() }.into()
            }
            ClientError::Refused(Fault::Undo(not)) if not.oid.is_some() => {
                let object = NotUndone { oid: not.oid.unwrap_or_default(), why: why(&not) };
                Refusal::UndoConflict { objects: vec![object] }.into()
            }
            ClientError::Refused(Fault::Undo(_)) => {
                let tids: Vec<Tid> = draft.changes().iter().filter_map(undone).collect();
                match self.not_undoable(&tids) {
                    Some(tid) => Refusal::NotUndoable { tid }.into(),
                    None => Error::Remote { name: self.name.clone(), why: "UndoError of no transaction".to_owned() },
                }
            }
            error => self.trouble(error),
        }
    }

    /// The first of these transactions that cannot be undone; the first, if all can.
    fn not_undoable(&self, tids: &[Tid]) -> Option<Tid> {
        if let [only] = tids {
            return Some(*only);
        }
        let mut left: BTreeSet<Tid> = tids.iter().copied().collect();
        let seen = |line: &vellum_storage::UndoEntry| {
            left.remove(&line.tid);
            false
        };
        let mut seen = seen;
        // The log is asked for all of it, as none of it is taken.
        if self.undo_log_where(0, 1, &mut seen).is_err() {
            return tids.first().copied();
        }
        tids.iter().find(|tid| left.contains(tid)).or(tids.first()).copied()
    }
}

/// Why an undo is refused, from the words that ZODB has for it.
fn why(not: &vellum_wire::NotUndone) -> WhyNot {
    match not.reason.contains("add transaction") {
        true => WhyNot::CreatedAndChanged,
        false => WhyNot::ChangedOrDeleted,
    }
}

/// The objects that a draft itself writes.
fn targets(draft: &Draft) -> Vec<Oid> {
    draft.changes().iter().filter_map(Change::target).map(|(oid, _)| oid).collect()
}

/// A change whose record is in memory.
fn in_memory(change: &Change) -> Result<Change> {
    let mut change = change.clone();
    if let Change::Store { data, .. } | Change::Restore { data: Some(data), .. } = &mut change
        && data.in_memory().is_none()
    {
        *data = data.bytes()?.into();
    }
    Ok(change)
}

/// A transaction that the server has voted on. Dropping it aborts it.
struct Ready {
    name: String,
    transaction: Transaction,
    _held: Held,
}

impl Prepared for Ready {
    fn verdict(&self) -> Result<Verdict> {
        let why = "a server does not say what a transaction will write".to_owned();
        Err(Error::Unfit { name: self.name.clone(), why })
    }

    fn finish(self: Box<Self>) -> Result<Tid> {
        self.begin_finish()()
    }

    fn begin_finish(self: Box<Self>) -> vellum_storage::Finishing {
        let Ready { name, transaction, _held } = *self;
        let tid = transaction.finish();
        Box::new(move || {
            let outcome = tid.wait().map_err(|error| trouble(&name, error));
            drop(_held);
            outcome
        })
    }
}
