//! The corners that a step reaches: part 8 of the rules.

use vellum_spec::{Content, Database, Status};
use vellum_storage::{Oid, Tid};

use super::{Conditions, Corner::*};
use crate::node::{Beside, Node};
use crate::step::{Change, Outcome, Refusal, Step};
use crate::world::{Open, World};

pub(super) fn corners(before: &World, step: &Step, outcome: &Outcome, after: &World) -> Conditions {
    let changes = |name| before.open.get(name).map_or(&[][..], |open: &Open| &open.changes);
    match (step, outcome) {
        (Step::Finish { transaction }, Outcome::Finished { tid }) => {
            finished(&before.database, changes(transaction), *tid, &after.database)
        }
        (Step::Vote { transaction, .. }, Outcome::Refused { why }) => {
            refused(&before.database, changes(transaction), why)
        }
        (Step::Change { change, .. }, Outcome::Refused { why }) => {
            refused(&before.database, std::slice::from_ref(change), why)
        }
        (Step::Abort { transaction }, _) => {
            vec![(changes(transaction).iter().any(|change| blob_of(change).is_some()), AbortBlob)]
        }
        (Step::Pack { .. }, Outcome::Packed { .. }) => {
            let kept = blobs(&after.database);
            vec![
                (blobs(&before.database).iter().any(|blob| !kept.contains(blob)), PackForgetsBlob),
                (kept.iter().any(|(_, _, status)| *status == Status::Packed), PackKeepsBlob),
            ]
        }
        _ => vec![],
    }
}

/// The object that a change brings a blob to, and its number.
fn blob_of(change: &Change) -> Option<(Oid, u8)> {
    match change {
        Change::Store { oid, node: Some(Node { beside: Beside::Blob(number), .. }), .. }
        | Change::Restore { oid, node: Some(Node { beside: Beside::Blob(number), .. }), .. } => Some((*oid, *number)),
        _ => None,
    }
}

/// The revisions that have a blob.
fn blobs(database: &Database) -> Vec<(u64, u64, Status)> {
    let all = database.transactions.iter().flat_map(|transaction| {
        let at = move |revision| vellum_spec::At { transaction, revision };
        transaction.revisions.iter().map(at)
    });
    let all = all.filter(|at| database.blob(*at).is_some());
    // Where it was packed, its status is another.
    all.map(|at| (at.revision.oid, at.tid(), at.transaction.status)).collect()
}

fn finished(before: &Database, changes: &[Change], tid: Tid, after: &Database) -> Conditions {
    let is_store = |change: &&Change| matches!(change, Change::Store { .. });
    let stored: Vec<_> = changes.iter().filter(is_store).filter_map(blob_of).collect();
    let record_of = |change: &Change| match change {
        Change::Store { oid, node: Some(Node { beside: Beside::NoBlob, .. }), .. } => Some(*oid),
        _ => None,
    };
    let records = changes.iter().enumerate().filter_map(|(n, change)| record_of(change).map(|oid| (n, oid)));
    let has_later = |n: usize, oid: Oid| changes[n..].iter().filter_map(blob_of).any(|(other, _)| other == oid);
    let twice = stored.iter().enumerate().any(|(n, (oid, _))| stored[..n].iter().any(|(other, _)| other == oid));
    let mut conditions = vec![
        (!stored.is_empty(), StoreBlob),
        (records.into_iter().any(|(n, oid)| has_later(n, oid)), StoreBlobAfterRecord),
        (twice, StoreBlobTwice),
    ];
    let shared = |oid: u64| {
        let at = after.at(oid, tid.0).filter(|at| matches!(at.revision.content, Content::Source(_)));
        at.is_some_and(|at| after.blob(at).is_some())
    };
    for change in changes {
        match change {
            Change::Undo { tid } => {
                let undone = before.transactions.iter().find(|transaction| transaction.tid == tid.0);
                for oid in undone.map(|transaction| transaction.oids()).unwrap_or_default() {
                    let (newest, undone) = (before.newest(oid), before.at(oid, tid.0));
                    let had_blob = undone.is_some_and(|at| before.blob(at).is_some());
                    conditions.push((shared(oid), UndoBlob));
                    conditions.push((had_blob && newest != undone, UndoSameBlob));
                }
            }
            Change::CommitVersion { from, .. } | Change::AbortVersion { from } => {
                let ended = before.oids().into_iter().filter(|oid| before.modified_in_version(*oid) == from);
                conditions.extend(ended.map(|oid| (shared(oid), EndOfVersionBlob)));
            }
            Change::Restore { oid, node: Some(node), source, .. } => {
                let there = source.and_then(|source| before.at(oid.0, source.0));
                let same = there.filter(|at| before.data(*at) == Some(&node.encode()[..]));
                conditions.push((matches!(node.beside, Beside::Blob(_)), RestoreBlob));
                let differs = same.is_some_and(|at| before.blob(at) != node.blob().as_deref());
                conditions.push((differs, RestoreOtherBlob));
            }
            _ => {}
        }
    }
    conditions
}

fn refused(before: &Database, changes: &[Change], why: &Refusal) -> Conditions {
    match why {
        Refusal::Conflict { oid, committed, serial } => {
            let has_blob = |tid: &Tid| before.at(oid.0, tid.0).is_some_and(|at| before.blob(at).is_some());
            let there = |tid: &Tid| before.past(oid.0).into_iter().any(|at| at.tid() == tid.0);
            let merges = changes.iter().any(|change| match change {
                Change::Store { oid: stored, serial: at, node: Some(node), .. } if (stored, at) == (oid, serial) => {
                    node.counter && (node.blob().is_some() || has_blob(serial) || has_blob(committed))
                }
                _ => false,
            });
            vec![(merges && there(serial) && there(committed), StoreBlobConflict)]
        }
        Refusal::UndoConflict { oids } => {
            let undone = changes.iter().filter_map(|change| match change {
                Change::Undo { tid } => Some(tid.0),
                _ => None,
            });
            let pairs =
                undone.flat_map(|tid| oids.iter().map(move |oid| (before.at(oid.0, tid), before.newest(oid.0))));
            let only_blob = |(undone, newest): (Option<vellum_spec::At<'_>>, Option<vellum_spec::At<'_>>)| {
                let (Some(undone), Some(newest)) = (undone, newest) else { return false };
                before.data(undone) == before.data(newest) && before.blob(undone) != before.blob(newest)
            };
            vec![(pairs.into_iter().any(only_blob), UndoBlobChanged)]
        }
        _ => vec![],
    }
}
