//! Walking over the file and believing nothing.
//!
//! A [`Scanner`] reads one transaction at a time and checks it against the format: does it fit into the file, does its
//! length agree with its twin, do its records add up, do they know which transaction they belong to? A broken rule is a
//! [`Fault`] with its position. Opening, checking, dumping and recovering are all built on this.
//!
//! Data is not read: the walk hops from header to header, and reads ahead a little, because the next header is often
//! near.

use std::io;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{Status, Tid, Version};

use crate::format::fault::{Fault, FaultKind};
use crate::format::record::{InVersion, Record};
use crate::format::{RecordHeader, START, TransactionHeader, UNFINISHED, u64_at};

/// Walks over a file, up to `end`.
pub struct Scanner<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    window: Vec<u8>,
    /// The bytes that a read fills, if the caller needs no more.
    ahead: usize,
    /// Where in the file the window begins, and how much of it is filled.
    start: u64,
    filled: usize,
}

/// A transaction that is walked over, record by record, by a caller that does other work in between.
pub(crate) struct Stepping {
    position: u64,
    pub header: TransactionHeader,
    /// Where the next record is, and where the records end.
    at: u64,
    end: u64,
}

impl Stepping {
    /// The next record.
    pub fn next(&mut self, scanner: &mut Scanner<'_>) -> Result<Option<Record>, Fault> {
        let Stepping { position, header, at, end } = self;
        if *at >= *end {
            return Ok(None);
        }
        let record = scanner.record(*at, *end).map_err(|f| Fault { tid: Some(header.tid), ..f })?;
        let wrong = |kind| Err(Fault { position: *at, tid: Some(header.tid), oid: Some(record.header.oid), kind });
        if record.header.transaction != *position {
            return wrong(FaultKind::WrongTransaction { named: record.header.transaction });
        }
        if record.header.tid != header.tid {
            return wrong(FaultKind::WrongTid { named: record.header.tid });
        }
        if record.backpointer >= *at {
            return wrong(FaultKind::BackpointerTooHigh { named: record.backpointer });
        }
        *at = record.body() + record.header.body_length();
        Ok(Some(record))
    }

    /// After its last record: compares its length with its twin. Returns the position of the next transaction.
    pub fn done(self, scanner: &mut Scanner<'_>) -> Result<u64, Fault> {
        let Stepping { position, header, .. } = self;
        let fault = |kind| Fault { position, tid: Some(header.tid), oid: None, kind };
        let twin = scanner.bytes(position + header.length, 8);
        let twin = twin.map_err(|e| fault(FaultKind::Unreadable(e.to_string())))?;
        match u64_at(twin, 0) {
            twin if twin == header.length => Ok(header.end(position)),
            twin => Err(fault(FaultKind::TwinDiffers { length: header.length, twin })),
        }
    }
}

/// How much a hop reads ahead. Larger reads copy unused data, smaller ones cost more calls; between 2 and
/// 8 KiB it makes no difference on records of a few hundred to a few thousand bytes.
const WINDOW: usize = 4096;

impl<'a> Scanner<'a> {
    /// A walk over the file up to `end`.
    pub fn new(file: &'a dyn DiskFile, end: u64) -> Scanner<'a> {
        Scanner { file, end, window: vec![0; WINDOW], ahead: WINDOW, start: 0, filled: 0 }
    }

    /// From now on reads bring so many bytes, or the requested length, if that is more.
    pub(crate) fn read_ahead(&mut self, bytes: usize) {
        self.ahead = bytes;
    }

    /// Whether these bytes are at hand.
    pub(crate) fn has(&self, position: u64, length: usize) -> bool {
        position >= self.start && position - self.start + length as u64 <= self.filled as u64
    }

    /// Where the walk ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// `length` bytes at `position`, or as many as there are before the end. At most some 64 KiB.
    pub(crate) fn bytes(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let there = self.end.saturating_sub(position).min(length as u64) as usize;
        let offset = position.wrapping_sub(self.start);
        if position < self.start || offset + there as u64 > self.filled as u64 {
            let ahead = self.end.saturating_sub(position).min(self.ahead.max(there) as u64) as usize;
            if self.window.len() < ahead {
                self.window.resize(ahead, 0);
            }
            // A read that fails may have written into the window all the same.
            (self.start, self.filled) = (position, 0);
            self.filled = match self.file.read_full_at(&mut self.window[..ahead], position) {
                // The unreadable bytes may lie beyond the requested ones.
                Err(_) if ahead > there => self.file.read_full_at(&mut self.window[..there], position)?,
                read => read?,
            };
            if self.filled < there {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
            }
            return Ok(&self.window[..there]);
        }
        Ok(&self.window[offset as usize..offset as usize + there])
    }

    /// The header of the transaction at `position`, and whether it can be one: its status, its length against its
    /// header, the file's end, and its twin.
    pub fn header(&mut self, position: u64) -> Result<TransactionHeader, Fault> {
        let fault = |tid, kind| Fault { position, tid, oid: None, kind };
        let unreadable = |e: io::Error| fault(None, FaultKind::Unreadable(e.to_string()));
        let bytes = self.bytes(position, TransactionHeader::SIZE).map_err(unreadable)?;
        if bytes.len() < TransactionHeader::SIZE {
            return Err(fault(None, FaultKind::HeaderCutOff { there: bytes.len() as u64 }));
        }
        let header = TransactionHeader::parse(bytes);
        let fault = |kind| Err(fault(Some(header.tid), kind));
        let there = self.end - position;
        if header.length.checked_add(8).is_none_or(|all| all > there) {
            return fault(FaultKind::CutOff { length: header.length, there });
        }
        if header.length < header.records_at() {
            return fault(FaultKind::LengthTooSmall { length: header.length, header: header.records_at() });
        }
        if header.status != UNFINISHED && Status::from_byte(header.status).is_none() {
            return fault(FaultKind::BadStatus(header.status));
        }
        Ok(header)
    }

    /// Walks over the transaction at `position`, gives each of its records to `each`, and compares its length with its
    /// twin. It skips the records of an undone transaction.
    pub fn transaction(
        &mut self,
        position: u64,
        mut each: impl FnMut(&TransactionHeader, Record) -> Result<(), Fault>,
    ) -> Result<TransactionHeader, Fault> {
        let mut stepping = self.step_into(position)?;
        let header = stepping.header;
        while let Some(record) = stepping.next(self)? {
            each(&header, record)?;
        }
        stepping.done(self).map(|_| header)
    }

    /// The same, step by step.
    pub(crate) fn step_into(&mut self, position: u64) -> Result<Stepping, Fault> {
        let header = self.header(position)?;
        let end = position + header.length;
        let at = if header.status == Status::Undone.byte() { end } else { position + header.records_at() };
        Ok(Stepping { position, header, at, end })
    }

    /// A transaction's records say its tid again. Where there are none, a wrong tid shows only in the transaction after
    /// it; but then it is this one that is wrong, and not all that follow. `last` is the tid of the one before it.
    pub(crate) fn tid_astray(&mut self, position: u64, header: &TransactionHeader, last: Tid) -> Option<Fault> {
        let is_bare = header.length == header.records_at() || header.status == Status::Undone.byte();
        let after = header.end(position);
        let next = if is_bare { self.header(after).ok()?.tid } else { return None };
        (last < next && next <= header.tid && self.is_whole(after, last)).then_some(Fault {
            position,
            tid: Some(header.tid),
            oid: None,
            kind: FaultKind::NotEarlier { next },
        })
    }

    /// The record at `position`, which must fit before `end`.
    pub fn record(&mut self, position: u64, end: u64) -> Result<Record, Fault> {
        let fault = |oid, kind| Fault { position, tid: None, oid, kind };
        let left = end.saturating_sub(position);
        if left < RecordHeader::SIZE as u64 {
            return Err(fault(None, FaultKind::RecordCutOff { left }));
        }
        let unreadable = |e: io::Error| fault(None, FaultKind::Unreadable(e.to_string()));
        // Most often, what follows the fixed part is wanted too: a backpointer or the version's fields. If it cannot be
        // read, it may be data, which is not needed here.
        let more = if self.bytes(position, RecordHeader::SIZE + 8).is_ok() { 8 } else { 0 };
        let bytes = self.bytes(position, RecordHeader::SIZE + more).map_err(unreadable)?;
        if bytes.len() < RecordHeader::SIZE {
            return Err(fault(None, FaultKind::RecordCutOff { left: bytes.len() as u64 }));
        }
        let header = RecordHeader::parse(bytes);
        if header.length().is_none_or(|length| length > left) {
            return Err(fault(Some(header.oid), FaultKind::RecordTooLong { length: header.length(), left }));
        }
        let mut record = Record { position, header, in_version: None, backpointer: 0 };
        if header.version_length == 0 && header.data_length == 0 {
            let more = self.bytes(position + RecordHeader::SIZE as u64, 8).map_err(unreadable)?;
            if more.len() < 8 {
                return Err(fault(Some(header.oid), FaultKind::RecordCutOff { left }));
            }
            record.backpointer = u64_at(more, 0);
        } else if header.version_length > 0 {
            let more = header.body_at() as usize + if header.data_length == 0 { 8 } else { 0 };
            let bytes = self.bytes(position, more).map_err(unreadable)?;
            if bytes.len() < more {
                return Err(fault(Some(header.oid), FaultKind::RecordCutOff { left: bytes.len() as u64 }));
            }
            let name = &bytes[RecordHeader::SIZE + RecordHeader::VERSION_SIZE as usize..header.body_at() as usize];
            record.in_version = Some(InVersion {
                trunk: u64_at(bytes, RecordHeader::SIZE),
                previous: u64_at(bytes, RecordHeader::SIZE + 8),
                version: Version::named(Bytes::copy_from_slice(name)),
            });
            if header.data_length == 0 {
                record.backpointer = u64_at(bytes, header.body_at() as usize);
            }
        }
        Ok(record)
    }

    /// The record to which a pointer leads, if it lies in the transaction that it names. Bytes that only look like a
    /// record, as any data may, do not count.
    pub fn pointed_at(&mut self, position: u64) -> Option<Record> {
        let record = self.record(position, self.end).ok()?;
        let RecordHeader { transaction, tid, .. } = record.header;
        let is_before = (START..position).contains(&transaction);
        let header = is_before.then(|| self.header(transaction).ok()).flatten()?;
        let end = position.checked_add(record.header.length()?)?;
        let is_in = transaction + header.records_at() <= position && end <= transaction + header.length;
        (is_in && header.tid == tid).then_some(record)
    }

    /// The first position in `from..to` at which a whole transaction stands that is later than `last`: the place to
    /// continue after damage. Looks at every byte in between; unreadable sectors are skipped.
    pub fn resync(&mut self, from: u64, to: u64, last: Tid) -> Option<u64> {
        const CHUNK: usize = 64 << 10;
        let mut chunk = vec![0; CHUNK + TransactionHeader::SIZE];
        let mut at = from.max(START);
        while at < to {
            let there = (self.end - at).min(chunk.len() as u64) as usize;
            let filled = self.file.read_full_at(&mut chunk[..there], at).unwrap_or_else(|_| {
                self.readable(&mut chunk[..there], at);
                there
            });
            let candidates = filled.saturating_sub(TransactionHeader::SIZE - 1).min(CHUNK).min((to - at) as usize);
            for offset in 0..candidates {
                // A quick look first: the high bytes of a length are zero, and few bytes are a status.
                let bytes = &chunk[offset..offset + TransactionHeader::SIZE];
                if bytes[8] != 0 || bytes[9] != 0 || Status::from_byte(bytes[16]).is_none() {
                    continue;
                }
                if self.is_whole(at + offset as u64, last) {
                    return Some(at + offset as u64);
                }
            }
            if candidates == 0 {
                break;
            }
            at += candidates as u64;
        }
        None
    }

    /// Fills `buffer` sector by sector; unreadable sectors are zeros.
    fn readable(&self, buffer: &mut [u8], position: u64) {
        const SECTOR: u64 = 512;
        buffer.fill(0);
        let mut done = 0;
        while done < buffer.len() {
            let at = position + done as u64;
            let end = buffer.len().min(done + (SECTOR - at % SECTOR) as usize);
            if self.file.read_full_at(&mut buffer[done..end], at).is_err() {
                buffer[done..end].fill(0);
            }
            done = end;
        }
    }

    /// Whether a whole, finished transaction that is later than `last` stands at `position`.
    ///
    /// A record names the position of its transaction, and so vouches for it. A transaction without records is only 31
    /// bytes, which could be in any data. It counts only if the file ends with it or another transaction follows.
    fn is_whole(&mut self, mut position: u64, mut last: Tid) -> bool {
        const WITHOUT_RECORDS_MAX: usize = 16;
        for _ in 0..WITHOUT_RECORDS_MAX {
            let Ok(header) = self.header(position) else {
                return false;
            };
            // The twin first: it costs one read, and almost nothing gets past it by chance.
            let twin = self.bytes(position + header.length, 8).is_ok_and(|b| u64_at(b, 0) == header.length);
            if !twin || header.tid <= last || header.status == UNFINISHED {
                return false;
            }
            let mut records = 0_u64;
            let walked = self.transaction(position, |_, _| {
                records += 1;
                Ok(())
            });
            (position, last) = (header.end(position), header.tid);
            if walked.is_err() || records > 0 || position == self.end {
                return walked.is_ok();
            }
        }
        true
    }
}
