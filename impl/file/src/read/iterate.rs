//! The walk over transactions, in both directions, with their data.

use std::sync::Arc;

use bytes::Bytes;
use vellum_storage::{
    Error, Invalidation, Oid, Order, Result, Revision, Status, Tid, TidRange, TransactionRecord, Version,
};

use crate::format::fault::{Fault, FaultKind};
use crate::format::pending::PendingStatus;
use crate::format::record::{InVersion, Record};
use crate::format::scan::Scanner;
use crate::format::{RecordHeader, START, TransactionHeader, UNFINISHED, u64_at};
use crate::read::log::{Holders, Log};
use crate::read::pieces::Pieces;

/// An iterator over the transactions of a range.
#[derive(Debug)]
pub(crate) struct Transactions {
    log: Log,
    /// Where what may be seen ends, and where the walk does (backwards: where it began).
    end: u64,
    limit: u64,
    range: TidRange,
    order: Order,
    /// The transactions of the range may be anywhere.
    scattered: bool,
    /// Oldest first: the start of the next transaction. Newest first: the end of it.
    position: u64,
    pieces: Pieces,
    holders: Holders,
    pending: PendingStatus,
    done: bool,
}

impl Transactions {
    pub fn new(log: Log, (end, last): (u64, Tid), range: TidRange, order: Order) -> Result<Transactions> {
        let wanted = match order {
            Order::OldestFirst => range.first,
            Order::NewestFirst => range.last,
        };
        let position = find(&log, end, last, wanted, order)?;
        let file = Arc::clone(&log.file);
        let (limit, pieces) = match order {
            Order::NewestFirst => (position, Pieces::backwards(file, position)),
            Order::OldestFirst => {
                // The range's end is looked for too, so that nothing is read ahead in vain.
                let limit = find(&log, end, last, range.last, Order::NewestFirst)?.max(position);
                (limit, Pieces::forwards(file, position, limit))
            }
        };
        let (holders, pending) = Default::default();
        let (scattered, done) = (false, false);
        Ok(Transactions { log, end, limit, range, order, scattered, position, pieces, holders, pending, done })
    }

    /// All transactions of the range, wherever they are in the file: for one in which they are not in order.
    pub fn scattered(log: Log, end: u64, range: TidRange, order: Order) -> Transactions {
        let file = Arc::clone(&log.file);
        let (position, pieces) = match order {
            Order::OldestFirst => (START, Pieces::forwards(file, START, end)),
            Order::NewestFirst => (end, Pieces::backwards(file, end)),
        };
        let (holders, pending) = Default::default();
        let (limit, scattered, done) = (end, true, false);
        Transactions { log, end, limit, range, order, scattered, position, pieces, holders, pending, done }
    }

    /// `length` bytes at `position`; the caller made sure that they are before the end.
    fn bytes(&mut self, position: u64, length: u64) -> Result<Bytes> {
        self.pieces.bytes(position, length).map_err(|e| self.log.unreadable(position, e))
    }

    fn fault(&self, position: u64, tid: Option<Tid>, oid: Option<Oid>, kind: FaultKind) -> Error {
        Fault { position, tid, oid, kind }.damage(
            &self.log.path,
            "Nothing was changed; `vellum check` shows everything that is wrong, `vellum recover` saves what is whole",
        )
    }

    /// Reads the next transaction of the walk; none at its end.
    fn step(&mut self) -> Result<Option<TransactionRecord>> {
        loop {
            let start = match self.order {
                Order::OldestFirst if self.position >= self.limit => return Ok(None),
                Order::OldestFirst => {
                    self.pieces.done_with(self.position);
                    self.position
                }
                Order::NewestFirst if self.position <= START => return Ok(None),
                Order::NewestFirst => {
                    let end = self.position;
                    let twin = u64_at(&self.bytes(end.saturating_sub(8).max(START), 8)?, 0);
                    let start =
                        twin.checked_add(8).and_then(|all| end.checked_sub(all)).filter(|&start| start >= START);
                    start.ok_or_else(|| {
                        let kind = FaultKind::TwinDiffers { length: end - START, twin };
                        self.fault(end.saturating_sub(8), None, None, kind)
                    })?
                }
            };
            let head = self.bytes(start, (TransactionHeader::SIZE as u64).min(self.limit - start))?;
            if head.len() < TransactionHeader::SIZE {
                return Err(self.fault(start, None, None, FaultKind::HeaderCutOff { there: head.len() as u64 }));
            }
            let header = TransactionHeader::parse(&head);
            // Held any longer, it would keep the piece from serving again.
            drop(head);
            let there = self.limit - start;
            if header.length.checked_add(8).is_none_or(|all| all > there) {
                let kind = FaultKind::CutOff { length: header.length, there };
                return Err(self.fault(start, Some(header.tid), None, kind));
            }
            if header.length < header.records_at() {
                let kind = FaultKind::LengthTooSmall { length: header.length, header: header.records_at() };
                return Err(self.fault(start, Some(header.tid), None, kind));
            }
            if self.order == Order::NewestFirst && header.end(start) != self.position {
                let kind = FaultKind::TwinDiffers {
                    length: header.length,
                    twin: self.position - start - TransactionHeader::TWIN_SIZE,
                };
                return Err(self.fault(start, Some(header.tid), None, kind));
            }
            self.position = match self.order {
                Order::OldestFirst => header.end(start),
                Order::NewestFirst => start,
            };
            let past = match self.order {
                Order::OldestFirst => header.tid > self.range.last,
                Order::NewestFirst => header.tid < self.range.first,
            };
            if self.scattered {
                if !self.range.contains(header.tid) {
                    continue;
                }
            } else if past {
                return Ok(None);
            }
            if header.status != Status::Undone.byte() {
                return self.read(start, header).map(Some);
            }
        }
    }

    fn pending_status(&mut self, start: u64) -> Status {
        self.log.pending_status(&mut self.pending, start, self.end)
    }

    fn read(&mut self, start: u64, header: TransactionHeader) -> Result<TransactionRecord> {
        let status = Status::from_byte(header.status)
            // A commit of several that was cut among its marks, seen read-only: every byte of it is there.
            .or_else(|| (header.status == UNFINISHED).then(|| self.pending_status(start)))
            .ok_or_else(|| self.fault(start, Some(header.tid), None, FaultKind::BadStatus(header.status)))?;
        let all = self.bytes(start, header.end(start) - start)?;
        let twin = u64_at(&all, header.length as usize);
        if twin != header.length {
            let kind = FaultKind::TwinDiffers { length: header.length, twin };
            return Err(self.fault(start, Some(header.tid), None, kind));
        }
        let (user, description) = (header.user_length as usize, header.description_length as usize);
        let user_at = TransactionHeader::SIZE;
        let records_at = header.records_at() as usize;
        let mut record = TransactionRecord {
            tid: header.tid,
            status,
            user: all.slice(user_at..user_at + user),
            description: all.slice(user_at + user..user_at + user + description),
            extension: all.slice(user_at + user + description..records_at),
            revisions: Vec::new(),
        };
        let mut at = records_at;
        while at < header.length as usize {
            let (revision, length) = self.revision(start, &header, &all, at)?;
            record.revisions.push(revision);
            at += length;
        }
        Ok(record)
    }

    fn revision(
        &mut self,
        start: u64,
        transaction: &TransactionHeader,
        all: &Bytes,
        at: usize,
    ) -> Result<(Revision, usize)> {
        let position = start + at as u64;
        let left = transaction.length - at as u64;
        let wrong = |oid, kind| Err(self.fault(position, Some(transaction.tid), oid, kind));
        if left < RecordHeader::SIZE as u64 {
            return wrong(None, FaultKind::RecordCutOff { left });
        }
        let header = RecordHeader::parse(&all[at..]);
        let oid = Some(header.oid);
        let Some(length) = header.length().filter(|&length| length <= left) else {
            return wrong(oid, FaultKind::RecordTooLong { length: header.length(), left });
        };
        if header.transaction != start {
            return wrong(oid, FaultKind::WrongTransaction { named: header.transaction });
        }
        let body = at + header.body_at() as usize;
        let mut revision =
            Revision { oid: header.oid, version: Version::TRUNK, data: None, blob: None, source: None, base: None };
        let mut record = Record { position, header, in_version: None, backpointer: 0 };
        if header.version_length > 0 {
            let name_at = at + RecordHeader::SIZE + RecordHeader::VERSION_SIZE as usize;
            revision.version = Version::named(all.slice(name_at..body));
            record.in_version = Some(InVersion {
                trunk: u64_at(all, at + RecordHeader::SIZE),
                previous: u64_at(all, at + RecordHeader::SIZE + 8),
                version: revision.version.clone(),
            });
            let trunk = u64_at(all, at + RecordHeader::SIZE);
            if trunk >= position {
                return wrong(oid, FaultKind::TrunkAstray { named: trunk });
            }
            if trunk != 0 {
                revision.base = Some(self.log.header(header.oid, trunk, self.end)?.header.tid);
            }
        }
        if header.data_length > 0 {
            revision.data = Some(all.slice(body..body + header.data_length as usize));
        } else {
            record.backpointer = u64_at(all, body);
            if record.backpointer >= position {
                return wrong(oid, FaultKind::BackpointerTooHigh { named: record.backpointer });
            }
            let holder = self.holders.find(&self.log, header.oid, record.backpointer, self.end)?;
            if holder != 0 {
                let (holder, data) = self.log.record(header.oid, holder, self.end)?;
                (revision.data, revision.source) = (data, Some(holder.header.tid));
            }
        }
        Ok((revision, length as usize))
    }
}

impl Iterator for Transactions {
    type Item = Result<TransactionRecord>;

    fn next(&mut self) -> Option<Result<TransactionRecord>> {
        if self.done {
            return None;
        }
        let step = self.step();
        // After damage the place of the next transaction is unknown.
        self.done = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// Where the walk starts: oldest first, the start of the first transaction not before `wanted`; newest first, the end
/// of the last one not after it. Hops along the headers from whichever end of the file is nearer in time.
pub(crate) fn find(log: &Log, end: u64, last: Tid, wanted: Tid, order: Order) -> Result<u64> {
    let oldest_first = order == Order::OldestFirst;
    if end == START || (oldest_first && wanted == Tid::ZERO) {
        return Ok(if oldest_first { START } else { end });
    }
    if wanted > last || (wanted == last && !oldest_first) {
        return Ok(end);
    }
    let damage = |fault| log.fault(fault);
    let mut scanner = Scanner::new(&*log.file, end);
    let first = scanner.header(START).map_err(damage)?.tid;
    // The boundary lies before the first transaction for which this holds.
    let beyond = |tid: Tid| if oldest_first { tid >= wanted } else { tid > wanted };
    let mut position;
    if wanted.0.saturating_sub(first.0) < last.0 - wanted.0 {
        position = START;
        while position < end {
            let header = scanner.header(position).map_err(damage)?;
            if beyond(header.tid) {
                break;
            }
            position = header.end(position);
        }
    } else {
        position = end;
        while position > START {
            let start = before(log, position)?;
            if !beyond(scanner.header(start).map_err(damage)?.tid) {
                break;
            }
            position = start;
        }
    }
    Ok(position)
}

/// The start of the transaction that ends at `position`.
pub(crate) fn before(log: &Log, position: u64) -> Result<u64> {
    let mut twin = [0; 8];
    let at = position.saturating_sub(8).max(START);
    log.file.read_full_at(&mut twin, at).map_err(|e| log.unreadable(at, e))?;
    let twin = u64::from_be_bytes(twin);
    let start = twin.checked_add(8).and_then(|all| position.checked_sub(all)).filter(|&start| start >= START);
    start.ok_or_else(|| {
        let kind = FaultKind::TwinDiffers { length: position - START, twin };
        log.fault(Fault { position: at, tid: None, oid: None, kind })
    })
}

/// The changes of the last `count` transactions, oldest first.
pub(crate) fn last_invalidations(log: &Log, end: u64, count: usize) -> Result<Vec<Invalidation>> {
    let mut position = end;
    let mut scanner = Scanner::new(&*log.file, end);
    let mut found = Vec::new();
    while position > START && found.len() < count {
        let start = before(log, position)?;
        let mut oids = Vec::new();
        let header = scanner
            .transaction(start, |_, record| {
                oids.push(record.header.oid);
                Ok(())
            })
            .map_err(|fault| log.fault(fault))?;
        if header.status != Status::Undone.byte() {
            found.push(Invalidation { tid: header.tid, oids });
        }
        position = start;
    }
    found.reverse();
    Ok(found)
}
