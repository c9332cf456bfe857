//! Which transactions can be undone, and what one of them did (rules 2.5 and 3.4).
//!
//! The file is walked backwards, from the newest transaction: each ends with its length. What can be undone ends where a
//! pack has been.

use std::collections::HashMap;

use vellum_storage::{Error, Oid, Result, Status, Tid, UndoEntry, Version};

use crate::format::scan::{Scanner, ToBe};
use crate::format::{RecordHeader, START, UNFINISHED};
use crate::read::generation::Generation;
use crate::read::iterate;

/// What a transaction that is to be undone did to an object.
#[derive(Clone, Debug)]
pub(crate) struct Undone {
    pub oid: Oid,
    /// The versions that its record (the last one, if there are several) and the record before that are in.
    pub versions: Vec<Version>,
}

/// What this transaction did, in the order in which the objects first come in it.
pub(crate) fn undone(now: &Generation, tid: Tid) -> Result<Vec<Undone>> {
    let (end, last) = now.horizon.get();
    let log = &now.log;
    let not_undoable = || Error::NotUndoable { tid };
    if tid > last {
        return Err(not_undoable());
    }
    let start = iterate::find(log, end, last, tid, vellum_storage::Order::OldestFirst)?;
    if start >= end {
        return Err(not_undoable());
    }
    let mut scanner = Scanner::new(&*log.file, end);
    let header = scanner.header(start).map_err(|fault| log.fault(fault))?;
    let status = match header.status {
        UNFINISHED => log.status_to_be(&mut ToBe::default(), start, end).byte(),
        status => status,
    };
    if header.tid != tid || status != Status::Complete.byte() {
        return Err(not_undoable());
    }
    let mut found: Vec<(Undone, u64)> = Vec::new();
    let mut places = HashMap::new();
    let walked = scanner.transaction(start, |_, record| {
        let RecordHeader { oid, previous, .. } = record.header;
        let this = (Undone { oid, versions: vec![record.version()] }, previous);
        match places.get(&oid) {
            None => {
                places.insert(oid, found.len());
                found.push(this);
            }
            Some(&n) => found[n] = this,
        }
        Ok(())
    });
    walked.map_err(|fault| log.fault(fault))?;
    for (undone, previous) in &mut found {
        if *previous != 0 {
            undone.versions.push(log.header(undone.oid, *previous, end)?.version());
        }
    }
    Ok(found.into_iter().map(|(undone, _)| undone).collect())
}

/// Rule 2.5.
pub(crate) fn undo_log(
    now: &Generation,
    first: usize,
    last: usize,
    filter: &mut dyn FnMut(&UndoEntry) -> bool,
) -> Result<Vec<UndoEntry>> {
    let (log, end) = (&now.log, now.horizon.end());
    let (mut position, mut passed, mut entries, mut to_be) = (end, 0, Vec::new(), ToBe::default());
    while position > START && passed < last {
        position = iterate::before(log, position)?;
        let (header, [user, description, extension]) = log.transaction(position, end)?;
        let status = match header.status {
            UNFINISHED => log.status_to_be(&mut to_be, position, end),
            status => Status::from_byte(status).unwrap_or_default(),
        };
        if status == Status::Packed {
            break;
        }
        let entry = UndoEntry { tid: header.tid, user, description, extension };
        if status == Status::Undone || !filter(&entry) {
            continue;
        }
        if passed >= first {
            entries.push(entry);
        }
        passed += 1;
    }
    Ok(entries)
}

/// The revision that a revision which is nothing shares that with; none if it does not, or has data.
pub(crate) fn nothing_of(now: &Generation, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
    let Some(record) = now.record_in(oid, tid)?.filter(|record| record.header.data_length == 0) else {
        return Ok(None);
    };
    if record.backpointer == 0 || now.data_at(oid, record.position)?.is_some() {
        return Ok(None);
    }
    let source = now.log.header(oid, record.backpointer, now.horizon.end())?;
    Ok(Some(source.header.tid))
}
