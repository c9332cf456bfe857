//! The corners that a question and its answer reach: part 2 of the rules.

use vellum_spec::{Content, Database, Status};

use super::{Conditions, Corner::*};
use crate::question::{Answer, Question, Written};

pub(super) fn corners(database: &Database, question: &Question, answer: &Answer) -> Conditions {
    let in_version = |oid: u64, tid: u64| database.at(oid, tid).is_some_and(|at| !at.revision.version.is_empty());
    match (question, answer) {
        (Question::Load { oid, version }, answer) => {
            let newest = database.newest(oid.0);
            let found = *answer != Answer::KeyError;
            let of = newest.map_or("", |at| &at.revision.version);
            vec![
                (!found && newest.is_none(), LoadUnknown),
                (!found && newest.is_some(), LoadTombstone),
                (found && of.is_empty(), Load),
                (found && !of.is_empty() && of == version, LoadInVersion),
                (found && !of.is_empty() && of != version, LoadBase),
            ]
        }
        (Question::LoadBefore { oid, .. }, Answer::Shown { tid, next, .. }) => vec![
            (next.is_none(), BeforeShown),
            (next.is_some(), BeforeNext),
            (in_version(oid.0, tid.0), BeforeVersionUndone),
        ],
        (Question::LoadBefore { .. }, Answer::NotYet) => vec![(true, BeforeNotYet)],
        (Question::LoadBefore { oid, .. }, Answer::KeyError) => {
            vec![(database.newest(oid.0).is_some(), BeforeTombstone)]
        }
        (Question::LoadSerial { oid, tid }, Answer::Record { .. }) => {
            let in_version = in_version(oid.0, tid.0);
            vec![(!in_version, Serial), (in_version, SerialBase)]
        }
        (Question::LoadSerial { oid, tid }, _) => {
            let has_data = database.at(oid.0, tid.0).is_some_and(|at| database.data(at).is_some());
            vec![(true, SerialNone), (has_data, PackedPast)]
        }
        (Question::LoadBlob { oid, tid }, Answer::Blob { .. }) => {
            vec![(true, LoadBlob), (in_version(oid.0, tid.0), LoadBlobInVersion)]
        }
        (Question::LoadBlob { oid, tid }, _) => {
            vec![(database.at(oid.0, tid.0).is_some_and(|at| database.data(at).is_some()), LoadBlobNone)]
        }
        (Question::History { oid, .. }, Answer::History { entries }) => {
            let revisions = database.transactions.iter().filter(|t| t.revision(oid.0).is_some()).count();
            vec![
                (entries.len() >= 3, HistoryLong),
                (entries.iter().any(|entry| entry.size == 0), HistoryShared),
                (entries.len() > 1 && database.past(oid.0).len() < revisions, PackedPast),
            ]
        }
        (Question::History { .. }, _) => vec![(true, HistoryUnknown)],
        (Question::UndoLog { .. }, Answer::UndoLog { entries }) if !entries.is_empty() => {
            let packed = database.transactions.iter().any(|t| t.status == Status::Packed);
            vec![(true, UndoLog), (packed, UndoLogAfterPack)]
        }
        (Question::Transactions { .. }, Answer::Transactions { transactions }) => {
            let mut conditions = vec![(!transactions.is_empty(), Transactions)];
            conditions.extend(transactions.iter().flat_map(|written| shared(database, written)));
            conditions
        }
        (Question::CurrentRecords { .. }, Answer::CurrentRecords { records }) => {
            let last = records.last().map_or(0, |(oid, ..)| oid.0);
            let is_gone = |oid: &u64| database.load(*oid, "").is_err();
            vec![(database.oids().range(..last).any(is_gone), CurrentTombstone)]
        }
        (Question::Versions, Answer::Versions { versions }) => vec![(versions.len() > 1, Versions)],
        _ => vec![],
    }
}

/// For each revision of the transaction that shares its data.
fn shared(database: &Database, written: &Written) -> Conditions {
    let mut conditions = Vec::new();
    for change in &written.revisions {
        let Some(holder) = change.source else { continue };
        let content = database.at(change.oid.0, written.tid.0).map(|at| &at.revision.content);
        // Its source shares its data, too, if another revision holds that.
        let twice = content.is_some_and(|content| *content != Content::Source(holder.0));
        conditions.extend([(true, TransactionsShared), (twice, TransactionsSharedTwice)]);
    }
    conditions
}
