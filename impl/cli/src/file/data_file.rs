//! `DataFile`: the records of a file, by position.
//!
//! A storage returns the data of an object; this returns the place of the bytes. A `Scanner` finds records, and reads
//! headers only. Metadata, data and the targets of backpointers are read here. No byte is trusted: each hop must go
//! backwards, to a record of the same object.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_file::format::{START, TransactionHeader};
use vellum_file::{Fault, FaultKind, FileStorage, Older, Record, Scanner};
use vellum_storage::{Bytes, Revision, Status, Tid, TransactionRecord};
use vellum_terminal::{Failure, Run};

use crate::ui::changes::State;
use crate::ui::classes::class;
use crate::ui::faults;
use crate::ui::meta::Metadata;

/// Bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// Bytes of a record that are read to learn its class.
const CLASS_BYTES: u64 = 64 << 10;

/// Holders that are remembered, some 40 bytes each.
const HOLDERS_MAX: usize = 1 << 20;

/// A database file, up to some position.
pub struct DataFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    end: u64,
    /// For records without data, the position of the record that holds it, or 0 for a tombstone. So a long chain of
    /// backpointers is followed once, and not once for each of its records.
    holders: RefCell<HashMap<u64, u64>>,
}

impl DataFile {
    /// The file at `path`, up to `end`.
    pub fn new(path: &Path, file: Arc<dyn DiskFile>, end: u64) -> DataFile {
        DataFile { path: path.to_owned(), file, end, holders: RefCell::default() }
    }

    /// The file of a storage, up to the end of the last finished transaction.
    pub fn of(storage: &FileStorage) -> DataFile {
        let (file, end) = storage.data_file();
        DataFile::new(storage.path(), file, end)
    }

    /// The position where it ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// A walk over it.
    pub fn scanner(&self) -> Scanner<'_> {
        Scanner::new(&*self.file, self.end)
    }

    /// The format that the first four bytes name.
    pub fn magic(&self) -> Run<String> {
        let mut magic = [0; START as usize];
        self.read(&mut magic, 0).map_err(|fault| self.damage(&fault))?;
        Ok(String::from_utf8_lossy(&magic).into_owned())
    }

    /// The failure of a command that this fault has stopped.
    pub fn damage(&self, fault: &Fault) -> Failure {
        faults::damage(&self.path, fault)
    }

    /// Fills `buffer` from `position` on.
    fn read(&self, buffer: &mut [u8], position: u64) -> Result<(), Fault> {
        let unreadable =
            |e: io::Error| Fault { position, tid: None, oid: None, kind: FaultKind::Unreadable(e.to_string()) };
        let filled = self.file.read_full_at(buffer, position).map_err(unreadable)?;
        if filled < buffer.len() {
            let short = io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was");
            return Err(unreadable(short));
        }
        Ok(())
    }

    /// The metadata of the transaction at `position`.
    pub fn metadata(&self, position: u64, header: &TransactionHeader) -> Result<Metadata, Fault> {
        // Three lengths of two bytes each: never much.
        let mut bytes = vec![0; header.metadata_length() as usize];
        self.read(&mut bytes, position + TransactionHeader::SIZE as u64)?;
        let extension = bytes.split_off(usize::from(header.user_length) + usize::from(header.description_length));
        let description = bytes.split_off(usize::from(header.user_length));
        Ok(Metadata { user: bytes.into(), description: description.into(), extension: extension.into() })
    }

    /// The record that the backpointer of `record` names, after one hop. None if there is no backpointer.
    pub fn shared(&self, scanner: &mut Scanner<'_>, record: &Record) -> Result<Option<Record>, Fault> {
        let named = record.backpointer;
        if record.header.data_length > 0 || named == 0 {
            return Ok(None);
        }
        self.linked(scanner, record, named, FaultKind::BackpointerAstray { named }).map(Some)
    }

    /// The base record of a record in a version, or a trunk record itself; none if there is no base.
    pub fn trunk(&self, scanner: &mut Scanner<'_>, record: &Record) -> Result<Option<Record>, Fault> {
        match record.in_version.as_ref().map(|version| version.trunk) {
            None => Ok(Some(record.clone())),
            Some(0) => Ok(None),
            Some(named) => self.linked(scanner, record, named, FaultKind::TrunkAstray { named }).map(Some),
        }
    }

    fn linked(&self, scanner: &mut Scanner<'_>, from: &Record, to: u64, astray: FaultKind) -> Result<Record, Fault> {
        let fault =
            || Fault { position: from.position, tid: Some(from.header.tid), oid: Some(from.header.oid), kind: astray };
        if to < START + TransactionHeader::SIZE as u64 || to >= from.position {
            return Err(fault());
        }
        match scanner.record(to, self.end) {
            Ok(record) if record.header.oid == from.header.oid => Ok(record),
            _ => Err(fault()),
        }
    }

    /// The record that holds the data: `record` itself, or the end of its backpointers. None for a tombstone.
    pub fn holder(&self, scanner: &mut Scanner<'_>, record: &Record) -> Result<Option<Record>, Fault> {
        let (mut at, mut passed) = (record.clone(), Vec::new());
        let holder = loop {
            if at.header.data_length > 0 {
                break Some(at);
            }
            if let Some(&known) = self.holders.borrow().get(&at.position) {
                let unreadable = FaultKind::BackpointerAstray { named: at.backpointer };
                break if known == 0 { None } else { Some(self.linked(scanner, &at, known, unreadable)?) };
            }
            passed.push(at.position);
            match self.shared(scanner, &at)? {
                Some(next) => at = next,
                None => break None,
            }
        };
        let mut holders = self.holders.borrow_mut();
        if holders.len() + passed.len() > HOLDERS_MAX {
            holders.clear();
        }
        let position = holder.as_ref().map_or(0, |holder| holder.position);
        holders.extend(passed.into_iter().map(|at| (at, position)));
        Ok(holder)
    }

    /// The state of the object in this record.
    pub fn state(&self, scanner: &mut Scanner<'_>, record: &Record) -> Run<State> {
        let damage = |fault| self.damage(&fault);
        let holder = self.holder(scanner, record).map_err(damage)?;
        let class = match &holder {
            Some(holder) => class(&self.data_start(holder, CLASS_BYTES).map_err(damage)?),
            None => None,
        };
        let bytes = holder.map(|holder| holder.header.data_length);
        Ok(State { tid: Some(record.header.tid), bytes, merged: false, version: record.version(), class, blob: None })
    }

    /// Calls `each` with the pieces of the data that the record itself holds.
    pub fn data(&self, record: &Record, mut each: impl FnMut(&[u8])) -> Result<(), Fault> {
        let mut buffer = vec![0; record.header.data_length.min(PIECE) as usize];
        let (mut at, end) = (record.body(), record.body() + record.header.data_length);
        while at < end {
            let piece = &mut buffer[..(end - at).min(PIECE) as usize];
            self.read(piece, at)?;
            each(piece);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// The first `at_most` bytes of the data that the record itself holds.
    pub fn data_start(&self, record: &Record, at_most: u64) -> Result<Vec<u8>, Fault> {
        let mut data = vec![0; record.header.data_length.min(at_most) as usize];
        self.read(&mut data, record.body())?;
        Ok(data)
    }

    /// All data of the object in this record; none for a tombstone.
    pub fn contents(&self, scanner: &mut Scanner<'_>, record: &Record) -> Result<Option<Bytes>, Fault> {
        let holder = self.holder(scanner, record)?;
        holder.map(|holder| self.data_start(&holder, u64::MAX).map(Bytes::from)).transpose()
    }

    /// The object's record of that transaction, found from its newest one on; none if there is none.
    pub fn revision(&self, newest: &Record, tid: Tid) -> Result<Option<Record>, Fault> {
        self.chain(Some(newest.clone()))
            .find(|record| record.as_ref().map_or(true, |r| r.header.tid == tid))
            .transpose()
    }

    /// Every record of the object, newest first.
    pub fn chain<'a>(&'a self, newest: Option<Record>) -> impl Iterator<Item = Result<Record, Fault>> + 'a {
        let mut scanner = self.scanner();
        let mut older = newest.as_ref().map_or(Older::End, |record| Older::To(record.position));
        let mut next = newest.map(Ok);
        std::iter::from_fn(move || {
            let record = next.take()?;
            if let Ok(record) = &record {
                older = older.from(record);
                next = older.position().map(|named| {
                    self.linked(&mut scanner, record, named, FaultKind::WrongPrevious { named, found: 0 })
                });
            }
            Some(record)
        })
    }

    /// The whole transaction at `position`, with its data.
    pub fn transaction(&self, position: u64) -> Result<TransactionRecord, Fault> {
        let mut scanner = self.scanner();
        let mut records = Vec::new();
        let header = scanner.transaction(position, |_, record| {
            records.push(record);
            Ok(())
        })?;
        let meta = self.metadata(position, &header)?;
        let mut revisions = Vec::new();
        for record in records {
            let holder = self.holder(&mut scanner, &record)?;
            let data = self.contents(&mut scanner, &record)?;
            let base = match record.in_version.as_ref().map_or(0, |version| version.trunk) {
                0 => None,
                trunk => Some(scanner.record(trunk, self.end())?.header.tid),
            };
            revisions.push(Revision {
                oid: record.header.oid,
                base,
                version: record.version(),
                data,
                blob: None,
                source: holder.filter(|h| h.position != record.position).map(|h| h.header.tid),
            });
        }
        Ok(TransactionRecord {
            tid: header.tid,
            // A transaction without the finished mark that could be read is complete.
            status: Status::from_byte(header.status).unwrap_or_default(),
            user: meta.user,
            description: meta.description,
            extension: meta.extension,
            revisions,
        })
    }

    /// Whether any record is in a version, be it open or ended.
    pub fn has_records_in_versions(&self) -> Result<bool, Fault> {
        let (mut scanner, mut position, mut found) = (self.scanner(), START, false);
        while position < self.end && !found {
            let header = scanner.transaction(position, |_, record| {
                found |= record.in_version.is_some();
                Ok(())
            })?;
            position += header.length + 8;
        }
        Ok(found)
    }

    /// The metadata of the transaction that the record belongs to.
    pub fn metadata_of(&self, scanner: &mut Scanner<'_>, record: &Record) -> Result<Metadata, Fault> {
        let position = record.header.transaction;
        let header = scanner.header(position)?;
        self.metadata(position, &header)
    }
}
