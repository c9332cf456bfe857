//! A transaction before it is written: what was asked for, in the order in which it was.
//!
//! Nothing is looked at here but what can not change any more; whether it may be done, and what it comes to, is judged by
//! the vote (`vote.rs`), which first takes the locks that are worked out here.

use std::sync::Arc;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{
    CopyChange, Error, Oid, Result, Revision, Tid, Transaction, TransactionMeta, UndoChange, Version, VersionChange,
    Vote, Voted, Want, Wants,
};

use crate::read::generation::Generation;
use crate::read::undo::{self, Undone};
use crate::write::record::{Body, bare_length, record_length, spilled};
use crate::write::writer::Writer;

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
    pub writer: Arc<Writer>,
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
    pub fn new(writer: Arc<Writer>, meta: TransactionMeta) -> Draft {
        let length = bare_length(&meta);
        Draft { writer, meta, changes: Vec::new(), checks: Vec::new(), length, in_memory: 0, scratch: None }
    }

    /// Its scratch file, if it has one.
    pub fn scratch(&self) -> Option<&Arc<dyn DiskFile>> {
        self.scratch.as_ref().map(|(file, _)| file)
    }

    /// Makes room for a record: refuses what is over the quota, and lets data wait on disk if there is much of it.
    fn admit(&mut self, version: &Version, body: Body) -> Result<Body> {
        check_name(version)?;
        let length = record_length(version, &body);
        let needed = self.writer.database.now().horizon.end() + self.length + length;
        self.writer.database.within_quota(needed)?;
        let body = match body {
            Body::Data(data) if self.in_memory + data.len() as u64 > self.writer.database.options.spill_after => {
                self.spill(&data)?
            }
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
        let path = &self.writer.database.path;
        let io = |e| Error::io(path, "writing a large transaction to a scratch file beside it", e);
        let (file, end) = match self.scratch.take() {
            Some(scratch) => scratch,
            None => (self.writer.database.options.disk.scratch(path).map_err(io)?, 0),
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
            Body::Spilled { offset, length } => {
                spilled(&self.writer.database.path, self.scratch(), *offset, *length).map(Some)
            }
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
                    let now = self.writer.database.now();
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
                    let there = self.writer.database.now().versions(|table| table.objects(from))?;
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

/// Refuses a version whose name does not fit its two bytes.
fn check_name(version: &Version) -> Result<()> {
    match version.name().len() {
        length if length > usize::from(u16::MAX) => Err(Error::MetadataTooLong { field: "version", length }),
        _ => Ok(()),
    }
}

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.store_in(&Version::TRUNK, oid, serial, data)
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.writer.database.now().newest_header(oid)?.ok_or_else(|| Error::key(oid))?;
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
            let held = self.writer.locks.take(self.wants()?);
            // While it waited, more objects may have come into a version that it ends. Now that it holds the version, no
            // more will.
            if held.wants().covers(&self.wants()?) {
                return self.settle(held);
            }
        }
    }

    fn try_vote(self: Box<Self>) -> Result<Vote> {
        loop {
            match self.writer.locks.try_take(self.wants()?) {
                Ok(held) if held.wants().covers(&self.wants()?) => return self.settle(held).map(Vote::Voted),
                Ok(_) => {}
                Err((_, busy)) => return Ok(Vote::Busy(self, busy)),
            }
        }
    }
}

impl UndoChange for Draft {
    fn undo(&mut self, tid: Tid) -> Result<()> {
        let now = self.writer.database.now();
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
        self.writer.oids.saw(oid);
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
        self.writer.oids.saw(oid);
        self.changes.push(Change::Restore { oid, version, body, source, under });
        Ok(())
    }
}
