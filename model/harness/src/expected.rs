//! What the rules answer: part 2 of the specification, in the harness's words.

use vellum_spec::{At, Content, Database, Status, Transaction};
use vellum_storage::{Oid, Tid};

use crate::question::{Answer, Change, Entry, Question, Written};
use crate::step::Data;

/// The right answer to a question.
pub fn answer(database: &Database, question: &Question) -> Answer {
    let data = |data: &[u8]| Data(data.to_vec().into());
    match question {
        Question::Load { oid, version } => match database.load(oid.0, version) {
            Ok((record, tid)) => Answer::Loaded { data: data(record), tid: Tid(tid) },
            Err(_) => Answer::KeyError,
        },
        Question::LoadBefore { oid, before } => match database.load_before(oid.0, before.0) {
            Ok(Some(shown)) => Answer::Shown { data: data(shown.data), tid: Tid(shown.tid), next: shown.next.map(Tid) },
            Ok(None) => Answer::NotYet,
            Err(_) => Answer::KeyError,
        },
        Question::LoadSerial { oid, tid } => match database.load_serial(oid.0, tid.0) {
            Ok(record) => Answer::Record { data: data(record) },
            Err(_) => Answer::KeyError,
        },
        Question::LoadBlob { oid, tid } => match database.load_blob(oid.0, tid.0) {
            Ok(blob) => Answer::Blob { bytes: data(blob) },
            Err(_) => Answer::KeyError,
        },
        Question::History { oid, limit } => match database.history(oid.0, *limit) {
            Ok(lines) => {
                let entry = |line: vellum_spec::HistoryEntry<'_>| Entry {
                    version: line.version.to_owned(),
                    size: line.size as u64,
                    ..entry(line.transaction)
                };
                Answer::History { entries: lines.into_iter().map(entry).collect() }
            }
            Err(_) => Answer::KeyError,
        },
        Question::UndoLog { first, last } => {
            Answer::UndoLog { entries: database.undo_log(*first, *last).into_iter().map(entry).collect() }
        }
        Question::Transactions { first, last, newest_first } => {
            let mut transactions: Vec<_> =
                database.transactions(first.0, last.0).map(|transaction| written(database, transaction)).collect();
            if *newest_first {
                transactions.reverse();
            }
            Answer::Transactions { transactions }
        }
        Question::LastTransaction => Answer::Tid { tid: Tid(database.last_transaction()) },
        Question::LastInvalidations { count } => {
            let changed = database.last_invalidations(*count).into_iter();
            let oids = |oids: Vec<u64>| oids.into_iter().map(Oid).collect();
            Answer::Invalidations { changed: changed.map(|(tid, changed)| (Tid(tid), oids(changed))).collect() }
        }
        Question::CurrentRecords { first } => {
            let records = database.current_records();
            let records = records.range(first.0..).map(|(oid, (record, tid))| (Oid(*oid), Tid(*tid), data(record)));
            Answer::CurrentRecords { records: records.collect() }
        }
        Question::ModifiedInVersion { oid } => {
            Answer::Version { version: database.modified_in_version(oid.0).to_owned() }
        }
        Question::Versions => {
            Answer::Versions { versions: database.versions().into_iter().map(str::to_owned).collect() }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn entry(transaction: &Transaction) -> Entry {
    Entry {
        tid: Tid(transaction.tid),
        user: text(&transaction.user),
        description: text(&transaction.description),
        version: String::new(),
        size: 0,
    }
}

fn written(database: &Database, transaction: &Transaction) -> Written {
    let change = |revision| {
        let at = At { transaction, revision };
        Change {
            oid: Oid(revision.oid),
            version: revision.version.clone(),
            data: database.data(at).map(|record| Data(record.to_vec().into())),
            blob: database.blob(at).map(|blob| Data(blob.to_vec().into())),
            source: match revision.content {
                Content::Source(_) => database.holder(at).map(Tid),
                _ => None,
            },
            base: revision.base.map(Tid),
        }
    };
    Written {
        tid: Tid(transaction.tid),
        packed: transaction.status == Status::Packed,
        user: text(&transaction.user),
        description: text(&transaction.description),
        extension: Data(transaction.extension.clone().into()),
        revisions: transaction.revisions.iter().map(change).collect(),
    }
}
