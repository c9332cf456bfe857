//! A transaction before it is written: what it will change, and whether it may.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{
    Error, Held, Notify, Oid, Result, Tid, Transaction, TransactionMeta, Vote, Voted, Want, judge, merge,
};

use crate::commit::Job;
use crate::format::{RecordHeader, TransactionHeader};
use crate::storage::Inner;

/// What a record will hold.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Nothing,
    Data(Bytes),
    /// In the transaction's scratch file.
    Spilled {
        offset: u64,
        length: u64,
    },
}

impl Body {
    /// Bytes of data, or of the backpointer in their place.
    pub fn length(&self) -> u64 {
        match self {
            Body::Nothing => RecordHeader::BACKPOINTER_SIZE,
            Body::Data(data) => data.len() as u64,
            Body::Spilled { length, .. } => *length,
        }
    }
}

/// What the transaction does to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub oid: Oid,
    serial: Tid,
    pub body: Body,
}

/// A transaction before its vote.
pub(crate) struct Draft {
    storage: Arc<Inner>,
    meta: TransactionMeta,
    changes: Vec<Change>,
    checks: Vec<(Oid, Tid)>,
    /// Bytes that it will take in the file, and those of them that are data in memory.
    length: u64,
    in_memory: u64,
    /// Data that does not stay in memory, and its length.
    scratch: Option<(Arc<dyn DiskFile>, u64)>,
}

impl Draft {
    pub fn new(storage: Arc<Inner>, meta: TransactionMeta) -> Draft {
        let metadata = meta.user.len() + meta.description.len() + meta.extension.len();
        let length = (TransactionHeader::SIZE + metadata + 8) as u64;
        Draft { storage, meta, changes: Vec::new(), checks: Vec::new(), length, in_memory: 0, scratch: None }
    }

    fn add(&mut self, oid: Oid, serial: Tid, body: Body) -> Result<()> {
        let needed = self.storage.horizon.end() + self.length + RecordHeader::SIZE as u64 + body.length();
        if let Some(quota) = self.storage.quota.filter(|&quota| needed > quota) {
            return Err(Error::Quota { name: self.storage.log.path.display().to_string(), quota, needed });
        }
        let length = RecordHeader::SIZE as u64 + body.length();
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
        self.changes.push(Change { oid, serial, body });
        Ok(())
    }

    fn spill(&mut self, data: &[u8]) -> Result<Body> {
        let path = &self.storage.log.path;
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

    /// The data of a change, wherever it is.
    fn data(&self, change: &Change) -> Result<Option<Bytes>> {
        match (&change.body, &self.scratch) {
            (Body::Data(data), _) => Ok(Some(data.clone())),
            (Body::Spilled { offset, length }, Some((file, _))) => {
                let mut data = vec![0; *length as usize];
                let io = |e| Error::io(&self.storage.log.path, "reading a scratch file", e);
                match file.read_full_at(&mut data, *offset).map_err(io)? == data.len() {
                    true => Ok(Some(data.into())),
                    false => Err(io(std::io::ErrorKind::UnexpectedEof.into())),
                }
            }
            _ => Ok(None),
        }
    }

    fn wants(&self) -> Vec<(Oid, Want)> {
        let changed: HashSet<Oid> = self.changes.iter().map(|change| change.oid).collect();
        let kept: HashSet<Oid> = self.checks.iter().map(|check| check.0).filter(|oid| !changed.contains(oid)).collect();
        let change = changed.into_iter().map(|oid| (oid, Want::Change));
        change.chain(kept.into_iter().map(|oid| (oid, Want::Keep))).collect()
    }

    /// Looks at every serial, now that nobody else can change the objects.
    fn settle(mut self, held: Held) -> Result<Box<dyn Voted>> {
        let mut resolved = Vec::new();
        for n in 0..self.changes.len() {
            let Change { oid, serial, .. } = self.changes[n];
            let newest = self.storage.newest_header(oid)?.map(|record| (record.header.tid, record.version()));
            let Some(committed) = judge(oid, serial, newest)? else {
                continue;
            };
            let Some(new) = self.data(&self.changes[n])? else {
                return Err(Error::Conflict { oid, committed, serial });
            };
            let storage = crate::FileStorage { inner: Arc::clone(&self.storage) };
            let load = |oid, tid| vellum_storage::Storage::load_serial(&storage, oid, tid);
            let merged = merge(&*self.storage.resolver, load, (oid, serial, committed), &new)?;
            self.length = self.length - self.changes[n].body.length() + merged.len() as u64;
            self.changes[n].body = Body::Data(merged);
            resolved.push(oid);
        }
        for &(oid, serial) in &self.checks {
            let newest = self.storage.newest_header(oid)?.ok_or_else(|| Error::key(oid))?;
            if newest.header.tid != serial {
                return Err(Error::ReadConflict { oid, committed: newest.header.tid, serial });
            }
        }
        Ok(Box::new(Ready { draft: self, resolved, held }))
    }
}

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Err(Error::EmptyRecord { oid });
        }
        self.storage.saw_oid(oid);
        self.add(oid, serial, Body::Data(data))
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.storage.newest_header(oid)?.ok_or_else(|| Error::key(oid))?;
        self.add(oid, serial, Body::Nothing)
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.checks.push((oid, serial));
        Ok(())
    }

    fn vote(self: Box<Self>) -> Result<Box<dyn Voted>> {
        let held = self.storage.locks.take(self.wants());
        self.settle(held)
    }

    fn try_vote(self: Box<Self>) -> Result<Vote> {
        match self.storage.locks.try_take(self.wants()) {
            Ok(held) => self.settle(held).map(Vote::Voted),
            Err((_, oid)) => Ok(Vote::Busy(self, oid)),
        }
    }
}

/// A transaction after its vote.
struct Ready {
    draft: Draft,
    resolved: Vec<Oid>,
    held: Held,
}

impl Voted for Ready {
    fn resolved(&self) -> &[Oid] {
        &self.resolved
    }

    fn finish_with(self: Box<Self>, notify: Notify) -> Result<Tid> {
        let Ready { draft: Draft { storage, meta, changes, length, scratch, .. }, held, .. } = *self;
        let scratch = scratch.map(|(file, _)| file);
        storage.committer.finish(&storage, Job { meta, changes, length: length - 8, scratch, notify, held })
    }
}
