//! Every way to read, compared: on one file, open in both engines at the same time.
//!
//! Only two answers are translated. For a record that shares data, ZODB names the next record in a chain of such
//! records, and we name the one that holds the data, if there is data: the chain is followed. And ZODB, after it has
//! cut off an unfinished transaction, still gives that one's tid as the last; see [`LastTransaction`].

use std::collections::HashMap;
use std::process::Command;

use sha2::{Digest, Sha256};
use vellum_file::FileStorage;
use vellum_storage::{CurrentRecord, Error, Oid, Order, Tid, TidRange, Version};

use super::dice::Dice;
use super::zodb::{Eight, Hex, HistoryLine, Walked, WalkedRecord, Zodb, ZodbError, hex};
use super::{Ground, Trouble, golden, same};
use crate::{Outcome, venv};

/// Revisions of an object, from all of its history, that are looked at one by one.
const REVISIONS_MAX: usize = 6;
const MESSAGES: &str = "300";

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut zodb = ground.zodb()?;
    let mail = ground.path("mail.fs");
    let mut make = Command::new(&ground.python);
    make.arg(venv::script("mail.py")).arg(&mail).args(["--messages", MESSAGES]).stdout(std::process::Stdio::null());
    venv::succeed(&mut make)?;
    let databases = golden().chain([("new mail", mail)]);
    let (mut files, mut answers) = (0, 0);
    for (name, path) in databases {
        let mut dice = Dice::new(ground.seed);
        let storage = FileStorage::open_read_only(&path)?;
        zodb.open_read_only(&path)?;
        answers +=
            compare(&storage, &mut zodb, &mut dice, LastTransaction::Same).map_err(|why| format!("{name}: {why}"))?;
        zodb.close()?;
        files += 1;
    }
    Ok(format!("{files} databases that ZODB wrote, {answers} answers the same"))
}

/// Whether ZODB knows which transaction is the last: not after it has cut something off, until it opens the file again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastTransaction {
    Same,
    Unknown,
}

/// Compares everything there is to read; how many answers that was.
pub fn compare(ours: &FileStorage, zodb: &mut Zodb, dice: &mut Dice, last: LastTransaction) -> Result<u64, Trouble> {
    let mut answers = whole(ours, zodb, last)?;
    let all = zodb.iterate()?;
    for (oid, ..) in zodb.objects()? {
        answers += object(ours, zodb, dice, oid, &all)?;
    }
    // No transaction has stored this one.
    let unknown = Oid(0x7777_0000_7777_0000);
    same("load of an unknown object", &found(ours.load(unknown, &Version::TRUNK))?, &theirs(zodb.load(unknown))?)?;
    same("history of an unknown object", &history(ours, unknown, 1)?, &theirs(zodb.history(unknown, 1))?)?;
    let before = found(ours.load_before(unknown, Tid::MAX))?;
    same("load_before of an unknown object", &before, &theirs(zodb.load_before(unknown, Tid::MAX))?)?;
    Ok(answers + 3)
}

/// The answers about the database as a whole.
fn whole(ours: &FileStorage, zodb: &mut Zodb, last: LastTransaction) -> Result<u64, Trouble> {
    if last == LastTransaction::Same {
        same("last transaction", &ours.last_transaction(), &zodb.last_transaction()?)?;
    }
    same("objects and size", &(ours.object_count(), ours.size()), &zodb.len_and_size()?)?;
    for count in [0, 1, 2, 7, 100_000] {
        let what = format!("last {count} invalidations");
        same(what, &ours.last_invalidations(count)?, &zodb.last_invalidations(count)?)?;
    }
    let theirs = with_sources(zodb.iterate()?);
    let mut walks = 0;
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut walked: Vec<Walked> =
            ours.transactions(TidRange::ALL, order)?.map(|t| t.map(walked)).collect::<Result<_, _>>()?;
        if order == Order::NewestFirst {
            walked.reverse();
        }
        same(format!("transactions, {order:?}"), &walked.len(), &theirs.len())?;
        for (ours, theirs) in walked.iter().zip(&theirs) {
            same(format!("transaction {:016x}, {order:?}", theirs.tid.0), ours, theirs)?;
            walks += 1;
        }
    }
    let current: Vec<(Oid, Tid, Option<String>)> = ours
        .current_records(Oid::ROOT)
        .map(|record| record.map(|CurrentRecord { oid, tid, data }| (oid, tid, Some(sha256(&data)))))
        .collect::<Result<_, _>>()?;
    let objects: Vec<_> = zodb.objects()?.into_iter().filter(|(_, _, sha256)| sha256.is_some()).collect();
    same("current records", &current, &objects)?;
    Ok(7 + walks + current.len() as u64)
}

/// The answers about one object, now and at moments of its history and of others'.
fn object(ours: &FileStorage, zodb: &mut Zodb, dice: &mut Dice, oid: Oid, all: &[Walked]) -> Result<u64, Trouble> {
    same(format!("load {oid}"), &found(ours.load(oid, &Version::TRUNK))?, &theirs(zodb.load(oid))?)?;
    let lines = theirs(zodb.history(oid, 100_000))?;
    same(format!("history of {oid}"), &history(ours, oid, 100_000)?, &lines)?;
    let short = theirs(zodb.history(oid, 2))?;
    same(format!("history of {oid}, 2 of it"), &history(ours, oid, 2)?, &short)?;
    let mut tids: Vec<Tid> = lines.iter().flatten().map(|line| Tid(line.tid.0)).collect();
    while tids.len() > REVISIONS_MAX {
        tids.swap_remove(dice.below(tids.len() as u64) as usize);
    }
    let moment = all.get(dice.below(all.len().max(1) as u64) as usize).map(|walked| Tid(walked.tid.0));
    let mut moments = vec![Tid::ZERO, Tid(1), Tid::MAX];
    moments.extend(moment);
    for tid in tids {
        moments.extend([tid, tid.next()]);
    }
    for &at in &moments {
        let (before, serial) = (found(ours.load_before(oid, at))?, found(ours.load_serial(oid, at))?);
        same(format!("load_before {oid} {at}"), &before, &theirs(zodb.load_before(oid, at))?)?;
        same(format!("load_serial {oid} {at}"), &serial, &theirs(zodb.load_serial(oid, at))?)?;
    }
    Ok(3 + 2 * moments.len() as u64)
}

/// None for a key error.
fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::KeyError { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// None for a key error.
fn theirs<T>(answer: Result<T, ZodbError>) -> Result<Option<T>, ZodbError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(e) if e.class() == Some("POSKeyError") => Ok(None),
        Err(other) => Err(other),
    }
}

fn history(ours: &FileStorage, oid: Oid, limit: usize) -> Result<Option<Vec<HistoryLine>>, Error> {
    let line = |entry: vellum_storage::HistoryEntry| HistoryLine {
        tid: Eight(entry.tid.0),
        size: entry.size,
        user: Hex(entry.user),
        description: Hex(entry.description),
    };
    Ok(found(ours.history(oid, limit))?.map(|entries| entries.into_iter().map(line).collect()))
}

/// The hash of the data, in hex.
pub fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn walked(transaction: vellum_storage::TransactionRecord) -> Walked {
    let record = |revision: &vellum_storage::Revision| WalkedRecord {
        oid: Eight(revision.oid.0),
        sha256: revision.data.as_deref().map(sha256),
        data_tid: revision.source.map(|tid| Eight(tid.0)),
    };
    Walked {
        tid: Eight(transaction.tid.0),
        status: char::from(transaction.status.byte()),
        records: transaction.revisions.iter().map(record).collect(),
        user: Hex(transaction.user),
        description: Hex(transaction.description),
        extension: Hex(transaction.extension),
    }
}

/// Follows each chain of shared data to the record that holds it. If that is a tombstone, nothing is shared.
fn with_sources(mut all: Vec<Walked>) -> Vec<Walked> {
    let mut sources = HashMap::new();
    for transaction in &mut all {
        for record in &mut transaction.records {
            if record.sha256.is_none() {
                record.data_tid = None;
            } else if let Some(named) = record.data_tid {
                let source = sources.get(&(record.oid, named)).copied().unwrap_or(named);
                record.data_tid = Some(source);
                sources.insert((record.oid, transaction.tid), source);
            }
        }
    }
    all
}

/// For a check that has both engines open the file and read all of it.
pub fn compare_read_only(
    path: &std::path::Path,
    zodb: &mut Zodb,
    dice: &mut Dice,
    last: LastTransaction,
) -> Result<u64, Trouble> {
    let ours = FileStorage::open_read_only(path)?;
    zodb.open_read_only(path)?;
    let answers = compare(&ours, zodb, dice, last);
    let closed: Outcome = zodb.close().map_err(Into::into);
    let answers = answers?;
    closed.map(|()| answers)
}
