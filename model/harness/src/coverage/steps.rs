//! The corners that a step reaches: parts 1 and 3 of the rules.

use std::collections::BTreeSet;

use vellum_spec::{Content, Database, Revision};
use vellum_storage::{Oid, Tid};

use super::{Conditions, Corner::*};
use crate::step::{Change, Name, Outcome, Refusal, Step};
use crate::world::{Open, Stage, World};

pub(super) fn corners(before: &World, step: &Step, outcome: &Outcome, after: &World) -> Conditions {
    let mut conditions = open(before, step, after);
    conditions.push((*outcome == Outcome::Busy, Busy));
    match (step, outcome) {
        (_, Outcome::Refused { why }) => conditions.extend(refused(before, step, why)),
        (Step::Begin { meta, .. }, Outcome::Done) => {
            conditions.push((meta.user.len() == usize::from(u16::MAX), LongestUser));
        }
        (Step::Finish { transaction }, Outcome::Finished { tid }) => {
            conditions.extend(finished(before, *transaction, *tid));
        }
        _ => {}
    }
    conditions
}

/// The step's conditions on open transactions.
fn open(before: &World, step: &Step, after: &World) -> Conditions {
    let is_draft = |open: &&Open| open.stage == Stage::Drafting;
    let voted = |world: &World| world.open.values().filter(|open| !is_draft(open)).count();
    let mut conditions = vec![
        (after.open.values().any(|open| is_draft(&open) && !open.changes.is_empty()), UnseenDraft),
        (voted(after) > 0, UnseenVoted),
        (voted(after) > 1, TwoVoted),
    ];
    match step {
        Step::Abort { transaction } => {
            let draft = before.open.get(transaction).is_some_and(|open| is_draft(&open));
            conditions.extend([(draft, AbortDraft), (!draft, AbortVoted)]);
        }
        Step::Reopen { .. } => {
            let drafts = before.open.values().any(|open| is_draft(&open));
            conditions.extend([(drafts, ReopenUnderWay), (voted(before) > 0, ReopenVoted)]);
        }
        _ => {}
    }
    conditions
}

fn refused(before: &World, step: &Step, why: &Refusal) -> Conditions {
    let changes = match step {
        Step::Vote { transaction, .. } => before.open.get(transaction).map_or(&[][..], |open| &open.changes),
        Step::Change { change, .. } => std::slice::from_ref(change),
        _ => &[],
    };
    let some = |is: &dyn Fn(&Change) -> bool| changes.iter().any(is);
    let stores = |oid: &Oid| some(&|change| matches!(change, Change::Store { oid: stored, .. } if stored == oid));
    let deletes = |oid: &Oid| some(&|change| matches!(change, Change::Delete { oid: deleted, .. } if deleted == oid));
    match why {
        Refusal::Key { oid } => vec![(deletes(oid), DeleteUnknown), (!deletes(oid), CheckUnknown)],
        Refusal::Conflict { oid, committed, .. } => {
            let unknown = *committed == Tid::ZERO;
            vec![
                (stores(oid) && unknown, StoreUnknownSerial),
                (stores(oid) && !unknown, StoreConflict),
                (!stores(oid), DeleteConflict),
            ]
        }
        Refusal::ReadConflict { .. } => vec![(true, CheckConflict)],
        Refusal::VersionLock { oid } => vec![(stores(oid), StoreLock), (!stores(oid), DeleteLock)],
        Refusal::VersionEnd => {
            let commits = some(&|change| matches!(change, Change::CommitVersion { .. }));
            vec![(commits, CommitVersionError), (!commits, AbortVersionError)]
        }
        Refusal::NotUndoable { tid } => {
            let known = before.database.transactions.iter().any(|t| t.tid == tid.0);
            vec![(known, UndoPacked), (!known, UndoUnknown)]
        }
        Refusal::UndoConflict { .. } => vec![(true, UndoConflict)],
        Refusal::Empty { .. } => vec![(true, StoreEmpty)],
        Refusal::TooLong => vec![(true, TooLong)],
        Refusal::NotLater => vec![(true, NotLater)],
        Refusal::ReadOnly => vec![(true, ReadOnly)],
        Refusal::Dangling { .. } => vec![(true, PackDangling)],
        Refusal::Untold { .. } => vec![(true, PackUntold)],
    }
}

fn finished(before: &World, name: Name, tid: Tid) -> Conditions {
    let Some(Open { meta, changes, stage: Stage::Voted(revisions, _) }) = before.open.get(&name) else {
        return vec![];
    };
    let database = &before.database;
    let is_undone = |tid: u64| changes.iter().any(|change| matches!(change, Change::Undo { tid: t } if t.0 == tid));
    let undone = database.transactions.iter().filter(|t| is_undone(t.tid));
    let mut conditions = vec![
        (meta.tid.is_some(), RestoreTid),
        (meta.tid.is_none() && tid == before.clock, ClockForward),
        (meta.tid.is_none() && tid != before.clock, ClockBehind),
        (has_repeated(revisions.iter().map(|revision| revision.oid)), TwiceInOne),
        (has_repeated(undone.flat_map(|transaction| transaction.oids())), UndoSeveral),
    ];
    conditions.extend(changes.iter().flat_map(|change| done(database, change, revisions)));
    conditions
}

fn has_repeated(mut oids: impl Iterator<Item = u64>) -> bool {
    let mut seen = BTreeSet::new();
    !oids.all(|oid| seen.insert(oid))
}

/// A change of a transaction that wrote these revisions.
fn done(database: &Database, change: &Change, revisions: &[Revision]) -> Conditions {
    let newest = |oid: &Oid| database.newest(oid.0);
    let is_tombstone = |oid: &Oid| newest(oid).is_some_and(|at| database.data(at).is_none());
    match change {
        Change::Store { oid, serial, version, .. } => {
            let (newest, in_version) = (newest(oid), !version.is_empty());
            let on_trunk = newest.is_some_and(|at| at.revision.version.is_empty());
            vec![
                (newest.is_none(), StoreNew),
                (newest.is_some(), StoreAgain),
                (is_tombstone(oid), StoreOnTombstone),
                (newest.map_or(0, |at| at.tid()) != serial.0, StoreResolved),
                (in_version && newest.is_none(), StoreBornInVersion),
                (in_version && on_trunk, StoreInVersion),
            ]
        }
        Change::Delete { oid, .. } => vec![(is_tombstone(oid), DeleteTwice), (!is_tombstone(oid), Delete)],
        Change::CheckCurrent { oid, .. } => vec![(is_tombstone(oid), CheckTombstone), (!is_tombstone(oid), CheckHolds)],
        Change::Undo { tid } => undone(database, tid.0, revisions),
        Change::CommitVersion { from, to } => {
            let some = database.oids().into_iter().any(|oid| database.modified_in_version(oid) == from);
            vec![(some && to.is_empty(), CommitVersion), (some && !to.is_empty(), CommitVersionTo)]
        }
        Change::AbortVersion { from } => {
            let newest = database.oids().into_iter().filter_map(|oid| database.newest(oid));
            let aborted = newest.filter(|at| at.revision.version == *from).map(|at| at.revision.base.is_some());
            aborted.flat_map(|has_base| [(has_base, AbortVersion), (!has_base, AbortVersionBorn)]).collect()
        }
        Change::Restore { oid, node, source, base, .. } => {
            let mut written = revisions.iter().filter(|revision| revision.oid == oid.0);
            let shares = written.clone().any(|revision| matches!(revision.content, Content::Source(_)));
            let on_base = written.any(|revision| revision.base == base.map(|tid| tid.0));
            vec![
                (node.is_some(), Restore),
                (node.is_none(), RestoreTombstone),
                (source.is_some() && shares, RestoreSource),
                (source.is_some() && !shares, RestoreNoSource),
                (base.is_some() && on_base, RestoreBase),
                (base.is_some() && !on_base, RestoreBaseElsewhere),
            ]
        }
    }
}

/// For each object of an undone transaction.
fn undone(database: &Database, tid: u64, revisions: &[Revision]) -> Conditions {
    let Some(transaction) = database.transactions.iter().find(|t| t.tid == tid) else { return vec![] };
    let mut conditions = Vec::new();
    for oid in transaction.oids() {
        let past = database.past(oid);
        let Some(n) = past.iter().position(|at| at.tid() == tid) else { continue };
        let undone = past[n].revision;
        let written = revisions.iter().rev().find(|revision| revision.oid == oid);
        let (is_newest, is_first, on_trunk) = (n == 0, past.len() == n + 1, undone.version.is_empty());
        let merged = written.is_some_and(|revision| matches!(revision.content, Content::Data(_)));
        let into_version = written.is_some_and(|revision| !revision.version.is_empty());
        conditions.extend([
            (is_newest, UndoChange),
            (is_newest && is_first, UndoCreation),
            (on_trunk && matches!(undone.content, Content::Source(_)), UndoUndo),
            (is_newest && !is_first && undone.content == Content::Tombstone, UndoDelete),
            (!is_newest && merged, UndoMerged),
            (!is_newest && !merged, UndoSameData),
            (!on_trunk, UndoInVersion),
            (is_newest && on_trunk && into_version, UndoVersionCommit),
        ]);
    }
    conditions
}
