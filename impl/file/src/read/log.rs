//! Reading single records: the way of every `load`.
//!
//! An object's records form a chain, newest first, each naming the position of the one before. The index knows the
//! head:
//!
//! ```text
//!   index[oid] ─▶ record ──previous──▶ record ──previous──▶ record ─▶ 0
//!                   │ no data of its own
//!                   └──backpointer──▶ ... ─▶ the record that has it
//! ```
//!
//! Every hop goes backwards in the file, to a record of the same object, or it is damage: so no chain is endless,
//! however the bytes got there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{Error, Oid, RecordBuffer, Result, Status};

use crate::format::fault::{Fault, FaultKind};
use crate::format::pending::PendingStatus;
use crate::format::record::{Older, Record};
use crate::format::scan::Scanner;
use crate::format::{RecordHeader, START, TransactionHeader};

/// The bytes that one read takes if the record's length is unknown, and at most.
const READ: usize = 4 * 1024;
const READ_MAX: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// The file, for reading at positions.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
}

impl Log {
    /// The record of the object at `position`, with its own data where it has some. It must lie before `end`.
    pub fn record(&self, oid: Oid, position: u64, end: u64) -> Result<(Record, Option<Bytes>)> {
        self.record_of(oid, position, end, 0)
    }

    /// The same, of a record that has about `hint` bytes; 0 if that is not known.
    pub fn record_of(&self, oid: Oid, position: u64, end: u64, hint: u64) -> Result<(Record, Option<Bytes>)> {
        let first = if hint == 0 { READ } else { (hint as usize).clamp(RecordHeader::SIZE + 8, READ_MAX) };
        BUFFER.with_borrow_mut(|buffer| self.record_by(&mut buffer[..first], oid, position, end, true))
    }

    /// The same without its data.
    pub fn header(&self, oid: Oid, position: u64, end: u64) -> Result<Record> {
        let mut small = [0; 128];
        Ok(self.record_by(&mut small, oid, position, end, false)?.0)
    }

    fn record_by(
        &self,
        buffer: &mut [u8],
        oid: Oid,
        position: u64,
        end: u64,
        with_data: bool,
    ) -> Result<(Record, Option<Bytes>)> {
        let there = end.saturating_sub(position).min(buffer.len() as u64) as usize;
        let filled = match self.file.read_full_at(&mut buffer[..there], position) {
            // The unreadable bytes may lie beyond the requested ones.
            Err(_) if there > RecordHeader::SIZE + 8 => {
                self.file.read_full_at(&mut buffer[..RecordHeader::SIZE + 8], position)
            }
            read => read,
        };
        let filled = filled.map_err(|e| self.unreadable(position, e))?;
        if filled < RecordHeader::SIZE + 8 {
            return Err(self.damage(oid, position, FaultKind::RecordCutOff { left: filled as u64 }));
        }
        let header = RecordHeader::parse(buffer);
        if header.oid != oid {
            return Err(self.damage_because(
                oid,
                position,
                format!("there should be a record of the object, but the oid there is {}", header.oid),
            ));
        }
        let left = end - position;
        // A record lies in its transaction, behind the header: where this does not hold, the index led astray.
        let transaction = header.transaction;
        if transaction < START || transaction > position.saturating_sub(TransactionHeader::SIZE as u64) {
            return Err(self.damage(oid, position, FaultKind::WrongTransaction { named: transaction }));
        }
        if header.length().is_none_or(|length| length > left) {
            return Err(self.damage(oid, position, FaultKind::RecordTooLong { length: header.length(), left }));
        }
        let record = if header.version_length == 0 {
            let backpointer =
                if header.data_length == 0 { crate::format::u64_at(buffer, RecordHeader::SIZE) } else { 0 };
            Record { position, header, in_version: None, backpointer }
        } else {
            Scanner::new(&*self.file, end)
                .record(position, end)
                .map_err(|fault| Fault { oid: Some(oid), ..fault }.damage(&self.path, ""))?
        };
        if let Some(named) = record.astray() {
            return Err(self.damage(oid, position, FaultKind::BackpointerTooHigh { named }));
        }
        if !with_data || header.data_length == 0 {
            return Ok((record, None));
        }
        let (body, length) = (header.body_at(), header.data_length);
        let data = if body + length <= filled as u64 {
            Bytes::copy_from_slice(&buffer[body as usize..(body + length) as usize])
        } else {
            self.rest_of_data(&record, &buffer[body.min(filled as u64) as usize..filled])?
        };
        Ok((record, Some(data)))
    }

    /// The data that the record holds itself, whatever its pointers say. The record must fit into the file.
    pub fn own_data(&self, record: &Record) -> Result<Bytes> {
        self.rest_of_data(record, &[])
    }

    fn rest_of_data(&self, record: &Record, beginning: &[u8]) -> Result<Bytes> {
        let position = record.position;
        // No larger than the rest of the file, which was checked.
        let mut data = RecordBuffer::zeroed(record.header.data_length as usize);
        let (had, rest) = data.split_at_mut(beginning.len());
        had.copy_from_slice(beginning);
        let read = self.file.read_full_at(rest, record.body() + had.len() as u64);
        let read = read.map_err(|e| self.unreadable(position, e))?;
        if read < rest.len() {
            let kind = FaultKind::RecordTooLong { length: record.header.length(), left: read as u64 };
            return Err(self.damage(record.header.oid, position, kind));
        }
        Ok(data.freeze())
    }

    /// The data of a record, its own or shared; and the record that has it. None for a tombstone.
    pub fn data_of(&self, record: Record, own: Option<Bytes>, end: u64) -> Result<Option<(Bytes, Record)>> {
        let (mut record, mut data) = (record, own);
        loop {
            if let Some(data) = data {
                return Ok(Some((data, record)));
            }
            if record.header.data_length > 0 {
                (record, data) = self.record(record.header.oid, record.position, end)?;
            } else if record.backpointer == 0 {
                return Ok(None);
            } else {
                (record, data) = self.record(record.header.oid, record.backpointer, end)?;
            }
        }
    }

    /// The transaction at `position`: its header and metadata.
    pub fn transaction(&self, position: u64, end: u64) -> Result<(TransactionHeader, [Bytes; 3])> {
        let mut scanner = Scanner::new(&*self.file, end);
        let header = scanner.header(position).map_err(|f| f.damage(&self.path, ""))?;
        let mut at = position + TransactionHeader::SIZE as u64;
        let mut fields: [Bytes; 3] = Default::default();
        let lengths = [header.user_length, header.description_length, header.extension_length];
        for (field, length) in fields.iter_mut().zip(lengths) {
            let bytes = scanner.bytes(at, usize::from(length)).map_err(|e| self.unreadable(position, e))?;
            *field = Bytes::copy_from_slice(bytes);
            at += u64::from(length);
        }
        Ok((header, fields))
    }

    /// The status that the unmarked transaction at `position` gets. The transaction that decides it may lie behind the
    /// visible end, as of an earlier moment.
    pub fn pending_status(&self, pending: &mut PendingStatus, position: u64, end: u64) -> Status {
        let size = self.file.len().unwrap_or(end);
        pending.status(&mut Scanner::new(&*self.file, size), position)
    }

    pub fn unreadable(&self, position: u64, e: std::io::Error) -> Error {
        Error::io(&self.path, format!("reading at position {position}"), e)
    }

    /// A fault that was met while something was looked for.
    pub fn fault(&self, fault: Fault) -> Error {
        fault.damage(&self.path, "Nothing was changed; `vellum check` shows everything that is wrong")
    }

    pub fn damage(&self, oid: Oid, position: u64, kind: FaultKind) -> Error {
        self.damage_because(oid, position, kind.to_string())
    }

    pub fn damage_because(&self, oid: Oid, position: u64, why: String) -> Error {
        let kind = FaultKind::Unreadable(why);
        Fault { position, tid: None, oid: Some(oid), kind }.damage(
            &self.path,
            "Nothing was changed; `vellum check` shows everything that is wrong, `vellum recover` saves what is whole",
        )
    }
}

/// An object's past, newest record first.
pub(crate) struct Past<'a> {
    log: &'a Log,
    oid: Oid,
    end: u64,
    next: Older,
}

impl<'a> Past<'a> {
    /// From the record at `position` on; all of it lies before `end`.
    pub fn new(log: &'a Log, oid: Oid, position: u64, end: u64) -> Past<'a> {
        Past { log, oid, end, next: Older::To(position) }
    }

    /// The object's past before this record, which was read already.
    pub fn before(log: &'a Log, record: &Record, end: u64) -> Past<'a> {
        Past { log, oid: record.header.oid, end, next: Older::To(record.position).from(record) }
    }

    /// Rule 4.5: the next older record. A packed record is the last one, except for the base of a packed record in a
    /// version.
    pub fn older(&mut self) -> Result<Option<Record>> {
        let Some(position) = self.next.position() else { return Ok(None) };
        let record = self.log.header(self.oid, position, self.end)?;
        self.next = self.next.from(&record);
        Ok(Some(record))
    }
}

/// Where chains of backpointers end, remembered: walking over many records of a long chain takes time for each but
/// once.
#[derive(Debug, Default)]
pub(crate) struct Holders(HashMap<u64, u64>);

/// How many are remembered, some 40 bytes each.
const HOLDERS_MAX: usize = 1 << 20;

impl Holders {
    /// The position of the record that holds the data which a record of the object shares by this backpointer; 0 for a
    /// tombstone.
    pub fn find(&mut self, log: &Log, oid: Oid, backpointer: u64, end: u64) -> Result<u64> {
        let (mut at, mut passed) = (backpointer, Vec::new());
        let holder = loop {
            if at == 0 {
                break 0;
            }
            if let Some(&known) = self.0.get(&at) {
                break known;
            }
            let record = log.header(oid, at, end)?;
            if record.header.data_length > 0 {
                break at;
            }
            passed.push(at);
            at = record.backpointer;
        };
        if self.0.len() + passed.len() > HOLDERS_MAX {
            self.0.clear();
        }
        self.0.extend(passed.into_iter().map(|at| (at, holder)));
        Ok(holder)
    }
}
