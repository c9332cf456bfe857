//! The present data file, with its state in memory: its index, the readers' horizon, the table of
//! versions.
//!
//! A pack writes another file and puts it in place of this one, and every position changes with that: so everything
//! that holds positions is here, and the storage has one generation at a time. A reader pins the current generation for
//! the whole call; its file stays open until the last reader drops it. Commits, and the pack's swap, are serialised by
//! the commit queue.
//!
//! ```text
//!   generation 1   Data.fs │ index │ horizon │ versions      ◀── a walk that began before the pack
//!                     │ pack
//!   generation 2   Data.fs │ index │ horizon │ versions      ◀── all later calls
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use vellum_storage::{Error, HistoryEntry, Loaded, LoadedAt, Oid, Order, Result, Tid, Version};
use vellum_sync::{Mutex, MutexGuard, RwLock};

use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::order;
use crate::read::horizon::Horizon;
use crate::read::index::Index;
use crate::read::iterate;
use crate::read::log::{Log, Past};
use crate::read::room::Room;
use crate::read::versions::VersionTable;

#[derive(Debug)]
pub(crate) struct Generation {
    /// Counted from 0, which was opened.
    pub number: u64,
    pub log: Log,
    pub index: Index,
    pub horizon: Horizon,
    version_table: Mutex<VersionTable, order::Versions>,
    /// Where packed records were written over others since the file was opened: where the object was before. They name
    /// nothing before them, but some readers may not see them yet.
    hidden: RwLock<HashMap<u64, u64>, order::Hidden>,
    /// The last field: the file's other handles are gone when this is dropped.
    room: Room,
}

impl Generation {
    pub fn new(number: u64, log: Log, index: Index, horizon: Horizon, version_table: VersionTable) -> Generation {
        let (version_table, room) = (Mutex::ranked(version_table), Room::of(Arc::clone(&log.file)));
        Generation { number, log, index, horizon, version_table, hidden: RwLock::default(), room }
    }

    /// The next generation has taken its place, durably. When its last reader is done, its file's room is given back.
    pub fn mark_replaced(&self) {
        self.room.mark_replaced();
    }

    /// The table of versions, as it is: see [`Generation::versions`].
    pub fn version_table(&self) -> MutexGuard<'_, VersionTable> {
        self.version_table.lock()
    }

    /// Asks the table, brought up to date.
    pub fn versions<T>(&self, ask: impl FnOnce(&VersionTable) -> T) -> Result<T> {
        let mut table = self.version_table();
        table.catch_up(&self.log, self.horizon.end())?;
        Ok(ask(&table))
    }

    /// The table as it is, unless another thread has it.
    pub fn try_version_table(&self) -> Option<MutexGuard<'_, VersionTable>> {
        self.version_table.try_lock()
    }

    /// The object's newest record that lies before `end`, with its own data where it has some.
    pub fn newest(&self, oid: Oid, end: u64) -> Result<(Record, Option<Bytes>)> {
        let (hint, position) = (self.index.length_hint(oid), self.newest_position(oid, end)?);
        let found = self.log.record_of(oid, position, end, hint)?;
        if hint == 0 {
            self.index.learn(oid, found.0.header.length().unwrap_or(0));
        }
        Ok(found)
    }

    pub fn newest_position(&self, oid: Oid, end: u64) -> Result<u64> {
        let mut position = self.index.get(oid).ok_or_else(|| Error::key(oid))?;
        while position >= end {
            let previous = self.log.header(oid, position, u64::MAX)?.header.previous;
            let found = if previous == 0 { self.hidden_by(position) } else { Some(previous) };
            position = found.ok_or_else(|| Error::key(oid))?;
        }
        Ok(position)
    }

    /// Where the object of a packed record at this position was before; none if it was nowhere, or that is in the file.
    pub fn hidden_by(&self, position: u64) -> Option<u64> {
        self.hidden.read().get(&position).copied()
    }

    /// Notes where the object of a packed record at this position was before. Only before the index is told of it.
    pub fn hides(&self, oid: Oid, position: u64) {
        if let Some(before) = self.index.get(oid) {
            self.hidden.write().insert(position, before);
        }
    }

    /// The object's newest record without its data.
    pub fn newest_header(&self, oid: Oid) -> Result<Option<Record>> {
        let end = self.horizon.end();
        match self.newest_position(oid, end) {
            Ok(position) => self.log.header(oid, position, end).map(Some),
            Err(Error::KeyError { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The data of the object's record at this position, its own or shared; none for a tombstone, and for position 0.
    pub fn data_at(&self, oid: Oid, position: u64) -> Result<Option<Bytes>> {
        if position == 0 {
            return Ok(None);
        }
        let end = self.horizon.end();
        let (record, own) = self.log.record(oid, position, end)?;
        Ok(self.log.data_of(record, own, end)?.map(|(data, _)| data))
    }

    /// The object's record of this transaction, if that is in the object's past.
    pub fn record_at(&self, oid: Oid, tid: Tid) -> Result<Option<Record>> {
        let end = self.horizon.end();
        let newest = match self.newest_position(oid, end) {
            Err(Error::KeyError { .. }) => return Ok(None),
            position => position?,
        };
        let mut past = Past::new(&self.log, oid, newest, end);
        while let Some(record) = past.older()? {
            if record.header.tid <= tid {
                return Ok((record.header.tid == tid).then_some(record));
            }
        }
        Ok(None)
    }

    /// The object as it is before `end`.
    pub fn load(&self, oid: Oid, version: &Version, end: u64) -> Result<Loaded> {
        let (mut record, mut data) = self.newest(oid, end)?;
        let tid = record.header.tid;
        if let Some(other) = record.in_version.as_ref().filter(|v| v.version != *version) {
            if other.trunk == 0 {
                return Err(Error::key(oid));
            }
            (record, data) = self.log.record(oid, other.trunk, end)?;
        }
        let found = self.log.data_of(record, data, end)?;
        found.map(|(data, _)| Loaded { data, tid }).ok_or_else(|| Error::key(oid))
    }

    /// The revision that the trunk showed just before a tid, since when, and until when.
    pub fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let (log, end) = (&self.log, self.horizon.end());
        let (mut record, own) = self.newest(oid, end)?;
        if record.header.tid < before && record.in_version.is_none() {
            // Mostly: one read has brought all of it.
            let tid = record.header.tid;
            let (data, _) = log.data_of(record, own, end)?.ok_or(Error::KeyError { oid, tid: Some(before) })?;
            return Ok(Some(LoadedAt { data, tid, next: None }));
        }
        let mut past = Past::before(log, &record, end);
        // The revisions after the moment, newest first, as far as the trunk showed one thing after the other: what,
        // since when, and since when it showed the next thing.
        let mut shown: Option<(u64, Tid)> = None;
        let mut then = None;
        while record.header.tid >= before {
            if shown.is_none_or(|(position, _)| position != record.on_trunk()) {
                then = shown.map(|(_, since)| since);
            }
            shown = Some((record.on_trunk(), record.header.tid));
            match past.older()? {
                Some(found) => record = found,
                None => return Ok(None),
            }
        }
        let position = record.on_trunk();
        if position == 0 {
            return Ok(None);
        }
        let next = match shown {
            Some((other, since)) if other != position => Some(since),
            _ => then,
        };
        let held = if position == record.position { record.clone() } else { log.header(oid, position, end)? };
        let (data, _) = log.data_of(held, None, end)?.ok_or(Error::KeyError { oid, tid: Some(before) })?;
        let mut tid = record.header.tid;
        while record.position != position {
            match past.older()?.filter(|earlier| earlier.on_trunk() == position) {
                Some(earlier) => (tid, record) = (earlier.header.tid, earlier),
                None => break,
            }
        }
        Ok(Some(LoadedAt { data, tid, next }))
    }

    /// The object's revisions, newest first, and so many at most.
    pub fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let (log, end) = (&self.log, self.horizon.end());
        let mut past = Past::new(log, oid, self.newest_position(oid, end)?, end);
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some(record) = past.older()? else { break };
            let (_, [user, description, extension]) = log.transaction(record.header.transaction, end)?;
            entries.push(HistoryEntry {
                tid: record.header.tid,
                size: record.header.data_length,
                version: record.version(),
                user,
                description,
                extension,
            });
        }
        Ok(entries)
    }

    /// The object's last record in this transaction, if that is here. It need not be in the object's past: a packed one
    /// is not, but can be shared.
    pub fn record_in(&self, oid: Oid, tid: Tid) -> Result<Option<Record>> {
        if let Some(record) = self.record_at(oid, tid)? {
            return Ok(Some(record));
        }
        let ((end, last), log) = (self.horizon.get(), &self.log);
        let start = if tid > last { end } else { iterate::find(log, end, last, tid, Order::OldestFirst)? };
        if start >= end {
            return Ok(None);
        }
        let mut scanner = Scanner::new(&*log.file, end);
        // A later one may be large, and is not the one that was asked for.
        if scanner.header(start).map_err(|fault| log.fault(fault))?.tid != tid {
            return Ok(None);
        }
        let mut found = None;
        let walked = scanner.transaction(start, |_, record| {
            if record.header.oid == oid {
                found = Some(record);
            }
            Ok(())
        });
        walked.map_err(|fault| log.fault(fault))?;
        Ok(found)
    }
}
