//! Which transactions can be undone, and what one of them did (rules 2.5 and 3.4).
//!
//! The file is walked backwards, from the newest transaction: each ends with its length. Transactions before the last
//! pack cannot be undone.

use std::collections::HashSet;

use vellum_storage::{Oid, Order, Result, Status, Tid, UndoEntry};

use crate::format::pending::PendingStatus;
use crate::format::scan::Scanner;
use crate::format::{START, UNFINISHED};
use crate::read::generation::Generation;
use crate::read::iterate;

/// The objects that this transaction changed, in the order in which they first occur in it; none if it cannot be
/// undone.
pub(crate) fn undoable(now: &Generation, tid: Tid) -> Result<Option<Vec<Oid>>> {
    let (end, last) = now.horizon.get();
    let log = &now.log;
    let mut scanner = Scanner::new(&*log.file, end);
    let mut start = if tid > last { end } else { iterate::find(log, end, last, tid, Order::OldestFirst)? };
    if start >= end || scanner.header(start).map_err(|fault| log.fault(fault))?.tid != tid {
        // It may stand elsewhere, if the transactions are not in order.
        start = START;
        while start < end {
            let header = scanner.header(start).map_err(|fault| log.fault(fault))?;
            if header.tid == tid {
                break;
            }
            start = header.end(start);
        }
    }
    if start >= end {
        return Ok(None);
    }
    let header = scanner.header(start).map_err(|fault| log.fault(fault))?;
    let status = match header.status {
        UNFINISHED => log.pending_status(&mut PendingStatus::default(), start, end).byte(),
        status => status,
    };
    if header.tid != tid || status != Status::Complete.byte() {
        return Ok(None);
    }
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let walked = scanner.transaction(start, |_, record| {
        found.extend(Some(record.header.oid).filter(|oid| seen.insert(*oid)));
        Ok(())
    });
    walked.map_err(|fault| log.fault(fault))?;
    Ok(Some(found))
}

/// Rule 2.5.
pub(crate) fn undo_log(
    now: &Generation,
    first: usize,
    last: usize,
    filter: &mut dyn FnMut(&UndoEntry) -> bool,
) -> Result<Vec<UndoEntry>> {
    let (log, end) = (&now.log, now.horizon.end());
    let (mut position, mut passed, mut entries, mut pending) = (end, 0, Vec::new(), PendingStatus::default());
    while position > START && passed < last {
        position = iterate::before(log, position)?;
        let (header, [user, description, extension]) = log.transaction(position, end)?;
        let status = match header.status {
            UNFINISHED => log.pending_status(&mut pending, position, end),
            status => Status::from_byte(status).unwrap_or_default(),
        };
        if status == Status::Packed {
            break;
        }
        let entry = UndoEntry { tid: header.tid, user, description, extension, size: header.length };
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

/// The transaction whose tombstone a tombstone shares; none if it shares none, and for a revision with data.
pub(crate) fn tombstone_source(now: &Generation, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
    let Some(record) = now.record_in(oid, tid)?.filter(|record| record.header.data_length == 0) else {
        return Ok(None);
    };
    if record.backpointer == 0 || now.data_at(oid, record.position)?.is_some() {
        return Ok(None);
    }
    let source = now.log.header(oid, record.backpointer, now.horizon.end())?;
    Ok(Some(source.header.tid))
}
