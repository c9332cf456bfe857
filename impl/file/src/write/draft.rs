//! A transaction before it is written: what was asked for, in the order in which it was.
//!
//! Nothing is looked at here but what can not change any more; whether it may be done, and what it comes to, is judged by
//! the vote (`vote.rs`), which first takes the locks that are worked out here.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{
    CopyChange, Error, Oid, Result, Revision, Tid, Transaction, TransactionMeta, UndoChange, Version, VersionChange,
    Vote, Voted, Want, Wants,
};

use crate::format::{RecordHeader, TransactionHeader};
use crate::read::generation::Generation;
use crate::read::undo::{self, Undone};
use crate::storage::Inner;

/// What a record will hold.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Data(Bytes),
    /// In the transaction's scratch file.
    Spilled {
        offset: u64,
        length: u64,
    },
    /// What the record at this position holds; 0 for nothing.
    Shared(u64),
}

impl Body {
    pub const NOTHING: Body = Body::Shared(0);

    /// Bytes of data, or of the backpointer in their place.
    pub fn length(&self) -> u64 {
        match self {
            Body::Data(data) => data.len() as u64,
            Body::Spilled { length, .. } => *length,
            Body::Shared(_) => RecordHeader::BACKPOINTER_SIZE,
        }
    }

    /// What the record's header says of it: 0 for a backpointer.
    pub fn data_length(&self) -> u64 {
        if matches!(self, Body::Shared(_)) { 0 } else { self.length() }
    }
}

/// Bytes of a record in this version with this body.
pub(crate) fn record_length(version: &Version, body: &Body) -> u64 {
    let in_version = if version.is_trunk() { 0 } else { RecordHeader::VERSION_SIZE + version.name().len() as u64 };
    RecordHeader::SIZE as u64 + in_version + body.length()
}

/// Something that the transaction is to do.
#[derive(Debug)]
pub(crate) enum Change {
    /// Rules 3.1 and 3.2: a store, or a delete.
    Store { oid: Oid, serial: Tid, version: Version, body: Body },
    /// Rule 3.4, and the generation of the file in which it was looked at.
    Undo { tid: Tid, undone: Vec<Undone>, generation: u64 },
    /// Rule 3.5.
    CommitVersion { from: Version, to: Version },
    /// Rule 3.6.
    AbortVersion { from: Version },
    /// Rule 3.7.
    Restore { oid: Oid, version: Version, body: Body, source: Option<Tid>, under: Option<Tid> },
}

/// A transaction before its vote.
pub(crate) struct Draft {
    pub storage: Arc<Inner>,
    pub meta: TransactionMeta,
    pub changes: Vec<Change>,
    pub checks: Vec<(Oid, Tid)>,
    /// Bytes that it will take in the file, as far as that is known, and those of them that are data in memory.
    length: u64,
    in_memory: u64,
    /// Data that does not stay in memory, and its length.
    scratch: Option<(Arc<dyn DiskFile>, u64)>,
}

impl Draft {
    pub fn new(storage: Arc<Inner>, meta: TransactionMeta) -> Draft {
        let length = bare_length(&meta);
        Draft { storage, meta, changes: Vec::new(), checks: Vec::new(), length, in_memory: 0, scratch: None }
    }

    /// Its scratch file, if it has one.
    pub fn scratch(&self) -> Option<&Arc<dyn DiskFile>> {
        self.scratch.as_ref().map(|(file, _)| file)
    }

    /// Makes room for a record: refuses what is over the quota, and lets data wait on disk if there is much of it.
    fn admit(&mut self, version: &Version, body: Body) -> Result<Body> {
        check_name(version)?;
        let length = record_length(version, &body);
        let needed = self.storage.now().horizon.end() + self.length + length;
        self.storage.within_quota(needed)?;
        let body = match body {
            Body::Data(data) if self.in_memory + data.len() as u64 > self.storage.spill_after => self.spill(&data)?,
            Body::Data(data) => {
                self.in_memory += data.len() as u64;
                Body::Data(data)
            }
            other => other,
        };
        // Only now: what could not be put anywhere is not in the transaction, which may go on without it.
        self.length += length;
        Ok(body)
    }

    fn spill(&mut self, data: &[u8]) -> Result<Body> {
        let path = &self.storage.path;
        let io = |e| Error::io(path, "writing a large transaction to a scratch file beside it", e);
        let (file, end) = match self.scratch.take() {
            Some(scratch) => scratch,
            None => (self.storage.disk.scratch(path).map_err(io)?, 0),
        };
        let written = file.write_at(data, end).map_err(io);
        let body = Body::Spilled { offset: end, length: data.len() as u64 };
        self.scratch = Some((file, end + data.len() as u64));
        written.map(|()| body)
    }

    /// The data of a record to be, wherever it is; none for nothing.
    pub fn data(&self, now: &Generation, oid: Oid, body: &Body) -> Result<Option<Bytes>> {
        match body {
            Body::Data(data) => Ok(Some(data.clone())),
            Body::Shared(position) => now.data_at(oid, *position),
            Body::Spilled { offset, length } => spilled(&self.storage.path, self.scratch(), *offset, *length).map(Some),
        }
    }

    /// What it has to hold while it is between vote and finish.
    fn wants(&self) -> Result<Wants> {
        let mut wants = Wants::default();
        let mut works_in = Vec::new();
        for &(oid, _) in &self.checks {
            wants.objects.insert(oid, Want::Keep);
        }
        for change in &self.changes {
            match change {
                Change::Store { oid, version, .. } | Change::Restore { oid, version, .. } => {
                    wants.objects.insert(*oid, Want::Change);
                    works_in.push(version);
                }
                Change::Undo { tid, undone, generation } => {
                    let now = self.storage.now();
                    if *generation != now.number {
                        // A pack was here meanwhile.
                        undo::undone(&now, *tid)?;
                    }
                    for undone in undone {
                        wants.objects.insert(undone.oid, Want::Change);
                        works_in.extend(&undone.versions);
                    }
                }
                Change::CommitVersion { from, .. } | Change::AbortVersion { from } => {
                    wants.versions.insert(from.clone(), Want::Change);
                    let there = self.storage.now().versions(|table| table.objects(from))?;
                    wants.objects.extend(there.into_iter().map(|oid| (oid, Want::Change)));
                    if let Change::CommitVersion { to, .. } = change {
                        works_in.push(to);
                    }
                }
            }
        }
        for version in works_in.into_iter().filter(|version| !version.is_trunk()) {
            wants.versions.entry(version.clone()).or_insert(Want::Keep);
        }
        Ok(wants)
    }
}

/// What was put into a scratch file beside the file at `path`.
pub(crate) fn spilled(path: &Path, scratch: Option<&Arc<dyn DiskFile>>, offset: u64, length: u64) -> Result<Bytes> {
    let io = |e| Error::io(path, "reading a scratch file", e);
    let missing = || io(std::io::ErrorKind::UnexpectedEof.into());
    let file = scratch.ok_or_else(missing)?;
    let mut data = vec![0; length as usize];
    match file.read_full_at(&mut data, offset).map_err(io)? == data.len() {
        true => Ok(data.into()),
        false => Err(missing()),
    }
}

/// Refuses a version whose name does not fit its two bytes.
fn check_name(version: &Version) -> Result<()> {
    match version.name().len() {
        length if length > usize::from(u16::MAX) => Err(Error::MetadataTooLong { field: "version", length }),
        _ => Ok(()),
    }
}

/// Bytes of a transaction in which nothing is done.
pub(crate) fn bare_length(meta: &TransactionMeta) -> u64 {
    (TransactionHeader::SIZE + meta.user.len() + meta.description.len() + meta.extension.len() + 8) as u64
}

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.store_in(&Version::TRUNK, oid, serial, data)
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.storage.now().newest_header(oid)?.ok_or_else(|| Error::key(oid))?;
        let body = self.admit(&Version::TRUNK, Body::NOTHING)?;
        self.changes.push(Change::Store { oid, serial, version: Version::TRUNK, body });
        Ok(())
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.checks.push((oid, serial));
        Ok(())
    }

    fn undo(&mut self) -> Option<&mut dyn UndoChange> {
        Some(self)
    }

    fn versions(&mut self) -> Option<&mut dyn VersionChange> {
        Some(self)
    }

    fn copy(&mut self) -> Option<&mut dyn CopyChange> {
        Some(self)
    }

    fn vote(self: Box<Self>) -> Result<Box<dyn Voted>> {
        loop {
            let held = self.storage.locks.take(self.wants()?);
            // While it waited, more objects may have come into a version that it ends. Now that it holds the version, no
            // more will.
            if held.wants().covers(&self.wants()?) {
                return self.settle(held);
            }
        }
    }

    fn try_vote(self: Box<Self>) -> Result<Vote> {
        loop {
            match self.storage.locks.try_take(self.wants()?) {
                Ok(held) if held.wants().covers(&self.wants()?) => return self.settle(held).map(Vote::Voted),
                Ok(_) => {}
                Err((_, busy)) => return Ok(Vote::Busy(self, busy)),
            }
        }
    }
}

impl UndoChange for Draft {
    fn undo(&mut self, tid: Tid) -> Result<()> {
        let now = self.storage.now();
        let (undone, generation) = (undo::undone(&now, tid)?, now.number);
        self.changes.push(Change::Undo { tid, undone, generation });
        Ok(())
    }
}

impl VersionChange for Draft {
    fn store_in(&mut self, version: &Version, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        // Rule 1.2.
        if data.is_empty() {
            return Err(Error::EmptyRecord { oid });
        }
        let body = self.admit(version, Body::Data(data))?;
        self.storage.saw_oid(oid);
        self.changes.push(Change::Store { oid, serial, version: version.clone(), body });
        Ok(())
    }

    fn commit_version(&mut self, from: &Version, to: &Version) -> Result<()> {
        if from.is_trunk() || from == to {
            return Err(Error::VersionEnd { version: from.clone() });
        }
        // How many records it will be, the vote finds out.
        check_name(to)?;
        self.changes.push(Change::CommitVersion { from: from.clone(), to: to.clone() });
        Ok(())
    }

    fn abort_version(&mut self, from: &Version) -> Result<()> {
        if from.is_trunk() {
            return Err(Error::VersionEnd { version: from.clone() });
        }
        self.changes.push(Change::AbortVersion { from: from.clone() });
        Ok(())
    }
}

impl CopyChange for Draft {
    fn restore(&mut self, revision: Revision) -> Result<()> {
        let Revision { oid, version, data, source, under } = revision;
        if data.as_ref().is_some_and(Bytes::is_empty) {
            return Err(Error::EmptyRecord { oid });
        }
        let body = self.admit(&version, data.map_or(Body::NOTHING, Body::Data))?;
        self.storage.saw_oid(oid);
        self.changes.push(Change::Restore { oid, version, body, source, under });
        Ok(())
    }
}
