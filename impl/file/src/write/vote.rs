//! The first phase: whether a transaction may be done, and which records it comes to (rules 3.1 to 3.7).
//!
//! Its locks are held, so that what is found here stays so. Stores, deletes and checks look at the database as it was
//! before the transaction; undos and ends of versions see what the transaction has done so far, which is in `records`:
//!
//! ```text
//!   changes   store 1 · undo T · commit draft        what was asked for
//!                │        │          │
//!   records      1    2  5  1      4  7              what will be written; the last one of an object counts
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use vellum_storage::{Contested, Error, Held, NotUndone, Notify, Oid, Result, Tid, Version, Voted, judge, merge};

use crate::format::scan::Record;
use crate::read::generation::Generation;
use crate::read::log::Past;
use crate::read::undo::{self, Undone};
use crate::write::draft::{Change, Draft};
use crate::write::job::{Claim, Job, Ticket};
use crate::write::pledge::Pledge;
use crate::write::record::{Body, NewRecord, bare_length};

impl Draft {
    /// Judges everything, now that nobody else can change what it depends on.
    pub fn settle(self: Box<Self>, held: Held) -> Result<Box<dyn Voted>> {
        let judging = self.writer.judging.read();
        let now = self.writer.database.now();
        let mut judge =
            Judge { draft: &self, now: &now, records: Vec::new(), so_far: HashMap::new(), resolved: Vec::new() };
        for change in &self.changes {
            judge.change(change)?;
        }
        for &(oid, serial) in &self.checks {
            let newest = now.newest_header(oid)?.ok_or_else(|| Error::key(oid))?;
            if newest.header.tid != serial {
                return Err(Error::ReadConflict { oid, committed: newest.header.tid, serial });
            }
        }
        let Judge { records, resolved, .. } = judge;
        let length = bare_length(&self.meta) + records.iter().map(NewRecord::length).sum::<u64>();
        self.writer.database.within_quota(now.horizon.end() + length)?;
        let pledge = self.writer.pledges.add(records, self.scratch().cloned());
        drop((judging, now));
        Ok(Box::new(Ready { draft: self, pledge, resolved, length, held }))
    }
}

struct Judge<'a> {
    draft: &'a Draft,
    now: &'a Generation,
    records: Vec<NewRecord>,
    /// The last of them for each object.
    so_far: HashMap<Oid, usize>,
    resolved: Vec<Oid>,
}

/// An object's newest revision, as the transaction sees it.
enum Newest {
    InFile(Record),
    /// One of its own.
    Own(NewRecord),
}

impl Newest {
    fn version(&self) -> Version {
        match self {
            Newest::InFile(record) => record.version(),
            Newest::Own(record) => record.version.clone(),
        }
    }

    fn under(&self) -> u64 {
        match self {
            Newest::InFile(record) => record.in_version.as_ref().map_or(0, |version| version.trunk),
            Newest::Own(record) => record.under,
        }
    }

    /// What holds the same. What is not written yet can not be shared.
    fn shared(self) -> Body {
        match self {
            Newest::InFile(record) => Body::Shared(record.position),
            Newest::Own(record) => record.body,
        }
    }
}

impl Judge<'_> {
    fn change(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Store { oid, serial, version, body } => self.store(*oid, *serial, version, body)?,
            Change::Undo { tid, undone, generation } => {
                if *generation != self.now.number {
                    // A pack was here meanwhile.
                    undo::undone(self.now, *tid)?;
                }
                self.undo(*tid, undone)?;
            }
            Change::CommitVersion { from, to } => {
                for (oid, newest) in self.in_version(from)? {
                    let under = if to.is_trunk() { 0 } else { newest.under() };
                    self.write(NewRecord { oid, version: to.clone(), under, body: newest.shared() });
                }
            }
            Change::AbortVersion { from } => {
                for (oid, newest) in self.in_version(from)? {
                    let body = Body::Shared(newest.under());
                    self.write(NewRecord { oid, version: Version::TRUNK, under: 0, body });
                }
            }
            Change::Restore { oid, version, body, source, under } => {
                let body = match source {
                    Some(tid) => self.source(*oid, *tid, body)?.unwrap_or_else(|| body.clone()),
                    None => body.clone(),
                };
                let under = self.restored_under(*oid, version, *under)?;
                self.write(NewRecord { oid: *oid, version: version.clone(), under, body });
            }
        }
        Ok(())
    }

    fn write(&mut self, record: NewRecord) {
        self.so_far.insert(record.oid, self.records.len());
        self.records.push(record);
    }

    /// What the trunk shows of an object; 0 for one that is new.
    fn on_trunk(&self, oid: Oid) -> Result<u64> {
        Ok(self.now.newest_header(oid)?.map_or(0, |newest| newest.on_trunk()))
    }

    fn store(&mut self, oid: Oid, serial: Tid, version: &Version, body: &Body) -> Result<()> {
        let newest = self.now.newest_header(oid)?;
        if newest.is_none() && matches!(body, Body::Shared(0)) {
            // It was there when it was to be deleted; a pack has taken it meanwhile.
            return Err(Error::key(oid));
        }
        let under = if version.is_trunk() { 0 } else { newest.as_ref().map_or(0, Record::on_trunk) };
        let mut body = body.clone();
        let found = newest.map(|record| (record.header.tid, record.version()));
        if let Some(committed) = judge(oid, serial, version, found)? {
            let Some(new) = self.draft.data(self.now, oid, &body)? else {
                return Err(Error::Conflict { oid, committed, serial });
            };
            let record = |oid, tid| self.now.own_data(oid, tid);
            body = Body::Data(merge(
                &*self.draft.writer.database.options.resolver,
                record,
                (oid, serial, committed),
                &new,
            )?);
            self.resolved.push(oid);
        }
        self.write(NewRecord { oid, version: version.clone(), under, body });
        Ok(())
    }

    fn newest(&self, oid: Oid) -> Result<Option<Newest>> {
        match self.so_far.get(&oid) {
            Some(&n) => Ok(Some(Newest::Own(self.records[n].clone()))),
            None => Ok(self.now.newest_header(oid)?.map(Newest::InFile)),
        }
    }

    fn data(&self, oid: Oid, newest: &Newest) -> Result<Option<Bytes>> {
        match newest {
            Newest::InFile(record) => self.now.data_at(oid, record.position),
            Newest::Own(record) => self.draft.data(self.now, oid, &record.body),
        }
    }

    /// Rule 3.4, for all objects that the transaction changed: all of them, or none.
    fn undo(&mut self, tid: Tid, undone: &[Undone]) -> Result<()> {
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        for one in undone {
            match self.undo_one(tid, one)? {
                Ok(record) => written.push(record),
                Err(why) => failed.push(NotUndone { oid: one.oid, why }),
            }
        }
        if !failed.is_empty() {
            tracing::debug!("the undo of {tid} is refused for {} objects", failed.len());
            return Err(Error::UndoConflict { objects: failed });
        }
        written.into_iter().for_each(|record| self.write(record));
        Ok(())
    }

    /// What undoing it writes for one object, or why it can not be undone.
    fn undo_one(&self, tid: Tid, &Undone { oid, .. }: &Undone) -> Result<Result<NewRecord, &'static str>> {
        let now = self.now;
        let (log, end) = (&now.log, now.horizon.end());
        let forgotten = Ok(Err("whose past is not here any more"));
        let mut past = match now.newest_header(oid)? {
            Some(newest) => Past::new(log, oid, newest.position, end),
            None => return forgotten,
        };
        let undone = loop {
            match past.older()? {
                Some(record) if record.header.tid > tid => {}
                Some(record) if record.header.tid == tid => break record,
                _ => return forgotten,
            }
        };
        let before = past.older()?;
        let Some(newest) = self.newest(oid)? else { return forgotten };
        let is_newest = matches!(&newest, Newest::InFile(record) if record.position == undone.position);
        let same_version = newest.version() == undone.version();
        if is_newest || (same_version && (self.shares(&newest, &undone)? || self.same_data(&newest, &undone)?)) {
            return Ok(Ok(match before {
                Some(before) => NewRecord {
                    oid,
                    version: before.version(),
                    under: before.in_version.as_ref().map_or(0, |version| version.trunk),
                    body: Body::Shared(before.position),
                },
                None => NewRecord { oid, version: Version::TRUNK, under: 0, body: Body::NOTHING },
            }));
        }
        if !same_version {
            return Ok(Err("which is in another version since"));
        }
        let Some(before) = before else { return Ok(Err("which it created, and which was changed since")) };
        let (ancestor, committed) = (now.data_at(oid, undone.position)?, self.data(oid, &newest)?);
        let new = now.data_at(oid, before.position)?;
        let (Some(ancestor), Some(committed), Some(new)) = (ancestor, committed, new) else {
            return Ok(Err("which was changed since, or deleted"));
        };
        let contested = Contested { oid, ancestor: &ancestor, committed: &committed, new: &new };
        let merged = self.draft.writer.database.options.resolver.resolve(contested).filter(|merged| !merged.is_empty());
        Ok(match merged {
            Some(merged) => {
                let (version, under) = (newest.version(), newest.under());
                Ok(NewRecord { oid, version, under, body: Body::Data(merged) })
            }
            None => Err("which was changed since, and the changes can not be merged"),
        })
    }

    /// Whether one revision shares what the other one holds, be it nothing, directly or by way of others.
    fn shares(&self, newest: &Newest, with: &Record) -> Result<bool> {
        let (log, end) = (&self.now.log, self.now.horizon.end());
        let mut at = match newest {
            Newest::InFile(record) if record.header.data_length > 0 => 0,
            Newest::InFile(record) => record.backpointer,
            Newest::Own(NewRecord { body: Body::Shared(position), .. }) => *position,
            Newest::Own(_) => 0,
        };
        while at > with.position {
            let record = log.header(with.header.oid, at, end)?;
            at = if record.header.data_length > 0 { 0 } else { record.backpointer };
        }
        Ok(at == with.position)
    }

    fn same_data(&self, newest: &Newest, other: &Record) -> Result<bool> {
        let oid = other.header.oid;
        let Some(data) = self.data(oid, newest)? else { return Ok(false) };
        Ok(self.now.data_at(oid, other.position)?.is_some_and(|other| other == data))
    }

    /// The objects that are in the version so far, the one that was changed last first.
    fn in_version(&self, version: &Version) -> Result<Vec<(Oid, Newest)>> {
        let mut found = Vec::new();
        for oid in self.now.versions(|table| table.objects(version))? {
            match self.newest(oid)? {
                Some(Newest::InFile(record)) if record.version() == *version => found.push(record),
                _ => {}
            }
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.position));
        let in_file = found.into_iter().map(|record| (record.header.oid, Newest::InFile(record)));
        let own: BTreeSet<_> = self.so_far.values().filter(|&&n| self.records[n].version == *version).collect();
        let own = own.into_iter().rev().map(|&n| (self.records[n].oid, Newest::Own(self.records[n].clone())));
        Ok(own.chain(in_file).collect())
    }

    /// Rule 3.7: the object's record in this transaction, if it is here and holds the same data.
    fn source(&self, oid: Oid, tid: Tid, body: &Body) -> Result<Option<Body>> {
        let Some(record) = self.now.record_in(oid, tid)? else { return Ok(None) };
        let Some(data) = self.draft.data(self.now, oid, body)? else { return Ok(None) };
        let same = self.now.data_at(oid, record.position)?.is_some_and(|there| there == data);
        Ok(same.then_some(Body::Shared(record.position)))
    }

    /// Rule 3.7: what is under a restored revision.
    fn restored_under(&self, oid: Oid, version: &Version, under: Option<Tid>) -> Result<u64> {
        let Some(tid) = under.filter(|_| !version.is_trunk()) else { return Ok(0) };
        match self.now.record_in(oid, tid)?.filter(|record| record.in_version.is_none()) {
            Some(record) => Ok(record.position),
            None => self.on_trunk(oid),
        }
    }
}

/// A transaction after its vote.
struct Ready {
    draft: Box<Draft>,
    pledge: Arc<Pledge>,
    resolved: Vec<Oid>,
    /// Bytes that it will take.
    length: u64,
    held: Held,
}

impl Voted for Ready {
    fn resolved(&self) -> &[Oid] {
        &self.resolved
    }

    fn touched(&self) -> Vec<Oid> {
        let mut seen = HashSet::new();
        self.pledge.records().iter().map(|record| record.oid).filter(|oid| seen.insert(*oid)).collect()
    }

    fn finish_with(self: Box<Self>, notify: Notify) -> Result<Tid> {
        let Ready { draft, pledge, length, held, .. } = *self;
        let Draft { writer, meta, .. } = *draft;
        // It may have been a rehearsal.
        writer.database.writable()?;
        let claim = Claim { held, ticket: Ticket::default() };
        writer.committer.finish(&writer.database, Job { meta, pledge, length, notify, claim })
    }
}
