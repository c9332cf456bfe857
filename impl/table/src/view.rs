//! Reading: the answers of part 2 of the rules.
//!
//! A pack takes effect at once, and removes its rows later. Until then they are *hidden*: this file looks past them,
//! and no code reads revisions in another way.

use bytes::Bytes;
use vellum_storage::{
    Error, HistoryEntry, Loaded, LoadedAt, Oid, Result, Revision, Status, Tid, TransactionRecord, Version,
};

use crate::row::{Head, Row};
use crate::tables::{Access, Tables};

/// A revision that a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub oid: Oid,
    pub tid: Tid,
    pub row: Row,
    /// Rule 4.5: it has no past.
    pub is_packed: bool,
    /// Whether a pack of this database made it so.
    pub is_kept: bool,
}

impl At {
    /// Rule 4.4: a revision that a pack kept has data of its own.
    pub fn source(&self) -> Option<Tid> {
        self.row.source.filter(|_| !self.is_kept)
    }
}

impl<A: Access> Tables<A> {
    /// The revision, if no pack hides it.
    fn seen(&self, oid: Oid, tid: Tid, row: Row) -> Result<Option<At>> {
        let is_old = tid <= self.facts.packed_to;
        if is_old && self.facts.is_sweeping && self.is_doomed(tid, row.number)? {
            return Ok(None);
        }
        Ok(Some(At { oid, tid, row, is_packed: is_old || row.is_packed, is_kept: is_old }))
    }

    pub fn newest(&self, oid: Oid) -> Result<Option<At>> {
        // If the newest one is hidden, the whole object is: a pack keeps the newest one of each object that it keeps.
        self.object(oid)?.map_or(Ok(None), |(tid, row)| self.seen(oid, tid, row))
    }

    /// How many objects there are.
    pub fn known_objects(&self) -> Result<u64> {
        let all = self.object_count()?;
        if !self.facts.is_sweeping {
            return Ok(all);
        }
        let (mut hidden, mut from) = (0, Some(Oid::ROOT));
        while let Some(oid) = from.map_or(Ok(None), |from| self.object_from(from))? {
            hidden += u64::from(self.newest(oid)?.is_none());
            from = oid.0.checked_add(1).map(Oid);
        }
        Ok(all - hidden)
    }

    /// The revision of that transaction, even where a pack has cut the object's past off before it.
    pub fn at(&self, oid: Oid, tid: Tid) -> Result<Option<At>> {
        self.row(oid, tid)?.map_or(Ok(None), |row| self.seen(oid, tid, row))
    }

    /// The next older revision, even behind a packed one.
    fn before(&self, at: &At) -> Result<Option<At>> {
        let mut tid = at.tid;
        while let Some((older, row)) = self.older_before(at.oid, tid)? {
            if let Some(seen) = self.seen(at.oid, older, row)? {
                return Ok(Some(seen));
            }
            tid = older;
        }
        Ok(None)
    }

    /// Rule 4.5: the readable past, newest first: a packed revision ends it, with its base.
    pub fn past(&self, oid: Oid) -> Past<'_, A> {
        Past { tables: self, next: Next::Newest(oid) }
    }

    /// Rule 1.6: the revision that the trunk shows from this one on.
    pub fn on_trunk(&self, at: At) -> Result<Option<At>> {
        match (at.row.version, at.row.base) {
            (0, _) => Ok(Some(at)),
            (_, Some(base)) => self.at(at.oid, base),
            (_, None) => Ok(None),
        }
    }

    /// The base revision that is told of it: one that a pack removed does not count.
    pub fn base(&self, at: &At) -> Result<Option<Tid>> {
        let Some(base) = at.row.base else { return Ok(None) };
        // Only a pack removes one.
        if !at.is_kept {
            return Ok(Some(base));
        }
        Ok(self.at(at.oid, base)?.map(|base| base.tid))
    }

    /// The data of a revision; none for a tombstone.
    pub fn data_of(&self, at: &At) -> Result<Option<Bytes>> {
        match at.row.data {
            0 => Ok(None),
            number => self.record(at.oid, number).map(Some),
        }
    }

    /// Rule 2.1.
    pub fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let newest = self.newest(oid)?.ok_or(Error::key(oid))?;
        let is_asked_for = match newest.row.version {
            0 => true,
            number => self.version_number(version)? == Some(number),
        };
        let seen = if is_asked_for { Some(newest) } else { self.on_trunk(newest)? };
        let data = seen.map_or(Ok(None), |at| self.data_of(&at))?.ok_or(Error::key(oid))?;
        Ok(Loaded { data, tid: newest.tid })
    }

    /// Rule 2.2.
    pub fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let mut past = self.past(oid);
        // Those that are not before the moment, oldest last.
        let mut later: Vec<At> = Vec::new();
        let found = loop {
            match past.next().transpose()? {
                Some(at) if at.tid < before => break at,
                Some(at) => later.push(at),
                None if later.is_empty() => return Err(Error::key(oid)),
                None => return Ok(None),
            }
        };
        let Some(shown) = self.on_trunk(found)? else { return Ok(None) };
        let is_same = |at: At| Ok::<_, Error>(self.on_trunk(at)?.is_some_and(|at| at.tid == shown.tid));
        let mut next = None;
        for at in later.into_iter().rev() {
            if !is_same(at)? {
                next = Some(at.tid);
                break;
            }
        }
        // The trunk may have shown it for longer: before versions that are over it.
        let mut since = found.tid;
        while since != shown.tid {
            match past.next().transpose()? {
                Some(at) if is_same(at)? => since = at.tid,
                _ => break,
            }
        }
        let data = self.data_of(&shown)?.ok_or(Error::KeyError { oid, tid: Some(before) })?;
        Ok(Some(LoadedAt { data, tid: since, next }))
    }

    /// Rule 2.3.
    pub fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        let missing = Error::KeyError { oid, tid: Some(tid) };
        let Some(at) = self.in_past(oid, tid)? else { return Err(missing) };
        let Some(shown) = self.on_trunk(at)? else { return Err(missing) };
        self.data_of(&shown)?.ok_or(missing)
    }

    /// The revision of that transaction, if it is in the readable past.
    pub fn in_past(&self, oid: Oid, tid: Tid) -> Result<Option<At>> {
        for at in self.past(oid) {
            let at = at?;
            if at.tid == tid {
                return Ok(Some(at));
            }
        }
        if self.newest(oid)?.is_none() {
            return Err(Error::key(oid));
        }
        Ok(None)
    }

    /// Rule 2.4.
    pub fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        self.newest(oid)?.ok_or(Error::key(oid))?;
        let entry = |at: Result<At>| {
            let at = at?;
            let head = self.head_at(at.tid)?;
            let size = if at.source().is_some() { 0 } else { self.data_of(&at)?.map_or(0, |data| data.len() as u64) };
            let Head { user, description, extension, .. } = head;
            let version = self.version(at.row.version)?;
            Ok(HistoryEntry { tid: at.tid, size, version, user, description, extension })
        };
        self.past(oid).take(limit).map(entry).collect()
    }

    /// The transaction of a revision.
    fn head_at(&self, tid: Tid) -> Result<Head> {
        self.head(tid)?.ok_or_else(|| self.damaged("transactions", tid, "it is missing, and a revision is of it"))
    }

    /// Whether a transaction is packed.
    pub fn status(&self, tid: Tid, head: &Head) -> Status {
        if tid <= self.facts.packed_to { Status::Packed } else { head.status }
    }

    /// Rule 2.6: a transaction as it is told; none if a pack removed it.
    pub fn told(&self, tid: Tid, head: Head) -> Result<Option<TransactionRecord>> {
        let status = self.status(tid, &head);
        let Head { user, description, extension, revisions, .. } = head;
        let mut told = Vec::with_capacity(revisions.len());
        for (oid, number) in revisions {
            if let Some(at) = self.numbered(oid, tid, number)? {
                told.push(self.told_revision(&at)?);
            }
        }
        let is_gone = told.is_empty() && self.facts.is_sweeping && tid <= self.facts.packed_to;
        if is_gone && tid != self.last()? {
            return Ok(None);
        }
        Ok(Some(TransactionRecord { tid, status, user, description, extension, revisions: told }))
    }

    /// The revision of a number; none if a pack removed it.
    pub fn numbered(&self, oid: Oid, tid: Tid, number: u64) -> Result<Option<At>> {
        let missing = || self.damaged("transactions", tid, "it names a revision that is missing");
        match self.row(oid, tid)? {
            Some(row) if row.number == number => self.seen(oid, tid, row),
            // Rule 4.4: a pack removes what was written over.
            _ if tid <= self.facts.packed_to => Ok(None),
            Some(_) => {
                let row = self.overwritten(number)?.filter(|row| row.number == number).ok_or_else(missing)?;
                Ok(Some(At { oid, tid, row, is_packed: row.is_packed, is_kept: false }))
            }
            None => Err(missing()),
        }
    }

    fn told_revision(&self, at: &At) -> Result<Revision> {
        let data = self.data_of(at)?;
        let source = if data.is_some() { self.holder(at)? } else { None };
        Ok(Revision {
            oid: at.oid,
            version: self.version(at.row.version)?,
            data,
            blob: None,
            source,
            base: self.base(at)?,
        })
    }

    /// The transaction of the revision that holds the data of one that shares it.
    pub fn holder(&self, at: &At) -> Result<Option<Tid>> {
        let Some(mut holder) = at.source() else { return Ok(None) };
        let mut before = at.tid;
        loop {
            // A source is earlier than the revision that shares it: in damaged tables the walk ends, too.
            if holder >= before {
                return Err(self.damaged("past", at.oid, "a revision shares the data of a later one"));
            }
            before = holder;
            match self.at(at.oid, holder)?.and_then(|at| at.source()) {
                Some(source) => holder = source,
                None => return Ok(Some(holder)),
            }
        }
    }

    /// The next transaction of a range that is told, from one of its ends.
    pub fn next_told(&self, first: Tid, last: Tid, from_end: bool) -> Result<Option<TransactionRecord>> {
        let (mut first, mut last) = (first, last);
        while let Some((tid, head)) = self.head_in(first, last, from_end)? {
            if let Some(told) = self.told(tid, head)? {
                return Ok(Some(told));
            }
            match from_end {
                true if tid == Tid::ZERO => break,
                true => last = Tid(tid.0 - 1),
                false if tid == Tid::MAX => break,
                false => first = tid.next(),
            }
        }
        Ok(None)
    }
}

/// The readable past of an object.
pub(crate) struct Past<'a, A: Access> {
    tables: &'a Tables<A>,
    next: Next,
}

enum Next {
    Newest(Oid),
    Before(At),
    /// The base of the packed revision that ended it.
    Base(At),
    End,
}

impl<A: Access> Past<'_, A> {
    fn step(&mut self) -> Result<Option<At>> {
        let found = match std::mem::replace(&mut self.next, Next::End) {
            Next::Newest(oid) => self.tables.newest(oid)?,
            Next::Before(at) => self.tables.before(&at)?,
            Next::Base(at) => return at.row.base.map_or(Ok(None), |base| self.tables.at(at.oid, base)),
            Next::End => None,
        };
        if let Some(at) = found {
            self.next = if at.is_packed { Next::Base(at) } else { Next::Before(at) };
        }
        Ok(found)
    }
}

impl<A: Access> Iterator for Past<'_, A> {
    type Item = Result<At>;

    fn next(&mut self) -> Option<Result<At>> {
        self.step().transpose()
    }
}
