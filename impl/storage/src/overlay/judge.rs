//! What a transaction writes, or why it can not be: part 3 of the rules, rule by rule, over both storages.
//!
//! Stores, deletes and checks look at the database as it was before the transaction; undos and ends of versions see what
//! the transaction has done so far, too.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::seam::Across;
use super::{Shared, State};
use crate::resolve::merge;
use crate::revisions::{Point, transaction};
use crate::{Contested, Error, NotUndone, Oid, Result, Revision, Status, Tid, Version, Want, Wants};

/// One thing that a transaction is to do.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Store { version: Version, oid: Oid, serial: Tid, data: Bytes },
    Delete { oid: Oid, serial: Tid },
    CheckCurrent { oid: Oid, serial: Tid },
    Undo { tid: Tid },
    CommitVersion { from: Version, to: Version },
    AbortVersion { from: Version },
    Restore(Revision),
}

/// What a transaction comes to, if it is finished.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What it writes: a source is the revision that holds the data, in either storage.
    pub written: Vec<Point>,
    /// The stored objects whose record was merged.
    pub resolved: Vec<Oid>,
    /// What nobody else may touch until it is finished.
    pub wants: Wants,
}

/// Later than every transaction: the tid of the one that is judged.
const UNDER_WAY: Tid = Tid::MAX;

/// Judges a transaction by what is finished now.
pub(super) fn judge(shared: &Shared, state: &State, changes: &[Change]) -> Result<Verdict> {
    let mut judge = Judge { shared, state, verdict: Verdict::default(), wants: Wants::default() };
    for change in changes {
        let written = judge.change(change.clone())?;
        for point in &written {
            judge.wants.objects.insert(point.revision.oid, Want::Change);
            judge.work_in(&point.revision.version);
        }
        judge.verdict.written.extend(written);
    }
    let Judge { mut verdict, wants, .. } = judge;
    verdict.wants = wants;
    Ok(verdict)
}

/// What of this reaches across the seam.
pub(super) fn across(written: &[Point], seam: Tid) -> Vec<Across> {
    let mut later = HashSet::new();
    let mut entries = Vec::new();
    for (number, Point { revision, nothing_of, .. }) in written.iter().enumerate().rev() {
        let counts = later.insert(revision.oid);
        let source = revision.source.filter(|tid| *tid <= seam).or(*nothing_of);
        let under = revision.under.filter(|tid| *tid <= seam);
        if source.is_some() || under.is_some() {
            entries.push(Across { number: number as u32, oid: revision.oid, counts, source, under });
        }
    }
    entries.reverse();
    entries
}

struct Judge<'a> {
    shared: &'a Shared,
    state: &'a State,
    verdict: Verdict,
    wants: Wants,
}

/// A revision of the transaction that is judged.
fn point(oid: Oid, version: Version, under: Option<Tid>, data: Option<Bytes>) -> Point {
    let revision = Revision { oid, version, data, source: None, under };
    Point { tid: UNDER_WAY, revision, nothing_of: None }
}

/// A revision in this version, over this one, that shares what the other is. What the transaction under way wrote can not
/// be its own source.
fn sharing(of: &Point, version: Version, under: Option<Tid>) -> Point {
    let mut new = point(of.revision.oid, version, under, of.revision.data.clone());
    (new.revision.source, new.nothing_of) = match (of.tid, &of.revision.data) {
        (UNDER_WAY, _) => (of.revision.source, of.nothing_of),
        (tid, Some(_)) => (of.revision.source.or(Some(tid)), None),
        (tid, None) => (None, Some(tid)),
    };
    new
}

impl Judge<'_> {
    fn change(&mut self, change: Change) -> Result<Vec<Point>> {
        match change {
            Change::Store { version, oid, serial, data } => self.store(version, oid, serial, data),
            Change::Delete { oid, serial } => self.delete(oid, serial),
            Change::CheckCurrent { oid, serial } => self.check_current(oid, serial),
            Change::Undo { tid } => self.undo(tid),
            Change::CommitVersion { from, to } => self.commit_version(&from, &to),
            Change::AbortVersion { from } => self.abort_version(&from),
            Change::Restore(revision) => self.restore(revision),
        }
    }

    /// Nobody may end this version before the transaction is finished.
    fn work_in(&mut self, version: &Version) {
        if !version.is_trunk() {
            self.wants.versions.entry(version.clone()).or_insert(Want::Keep);
        }
    }

    fn newest(&self, oid: Oid) -> Result<Option<(Tid, Version)>> {
        self.shared.newest(self.state, oid)
    }

    /// What the trunk shows, for a revision that is about to be written in a version.
    fn under(&self, oid: Oid, version: &Version) -> Result<Option<Tid>> {
        match self.newest(oid)? {
            Some((tid, newest)) if newest.is_trunk() && !version.is_trunk() => Ok(Some(tid)),
            Some((tid, _)) if !version.is_trunk() => Ok(self.shared.find(oid, tid)?.and_then(|p| p.revision.under)),
            _ => Ok(None),
        }
    }

    /// Rule 3.1.
    fn store(&mut self, version: Version, oid: Oid, serial: Tid, mut data: Bytes) -> Result<Vec<Point>> {
        let newest = self.newest(oid)?;
        if let Some((_, held)) = newest.clone().filter(|(_, held)| !held.is_trunk() && *held != version) {
            return Err(Error::VersionLock { oid, version: held });
        }
        let committed = newest.map_or(Tid::ZERO, |(tid, _)| tid);
        if committed != serial {
            let past = self.shared.past(self.state, oid)?;
            let record = |oid, tid| {
                let found = past.iter().find(|point| point.tid == tid);
                found.and_then(|point| point.revision.data.clone()).ok_or_else(|| Error::key(oid))
            };
            data = merge(&*self.shared.resolver, record, (oid, serial, committed), &data)?;
            self.verdict.resolved.push(oid);
        }
        let under = self.under(oid, &version)?;
        Ok(vec![point(oid, version, under, Some(data))])
    }

    /// Rule 3.2.
    fn delete(&self, oid: Oid, serial: Tid) -> Result<Vec<Point>> {
        let (committed, version) = self.newest(oid)?.ok_or_else(|| Error::key(oid))?;
        if !version.is_trunk() {
            return Err(Error::VersionLock { oid, version });
        }
        if committed != serial {
            return Err(Error::Conflict { oid, committed, serial });
        }
        Ok(vec![point(oid, Version::TRUNK, None, None)])
    }

    /// Rule 3.3.
    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<Vec<Point>> {
        self.wants.objects.entry(oid).or_insert(Want::Keep);
        match self.newest(oid)?.ok_or_else(|| Error::key(oid))? {
            (committed, _) if committed != serial => Err(Error::ReadConflict { oid, committed, serial }),
            _ => Ok(Vec::new()),
        }
    }

    /// The object's past with what the transaction has done so far.
    fn past(&self, oid: Oid) -> Result<Vec<Point>> {
        let own = self.verdict.written.iter().rev().find(|point| point.revision.oid == oid).cloned();
        let past = self.shared.past(self.state, oid)?;
        Ok(own.into_iter().chain(past).collect())
    }

    /// Rule 3.4: takes back what a transaction did, in either storage, to all its objects or to none.
    fn undo(&mut self, tid: Tid) -> Result<Vec<Point>> {
        let missing = Error::NotUndoable { tid };
        let storage = if tid <= self.shared.seam { &self.shared.base } else { &self.shared.changes };
        let found = if tid <= self.state.last { transaction(&**storage, tid)? } else { None };
        let undone = found.filter(|transaction| transaction.status == Status::Complete).ok_or(missing)?;
        let (mut seen, mut written, mut failed) = (BTreeSet::from([super::SEAM]), Vec::new(), Vec::new());
        for oid in undone.revisions.into_iter().map(|revision| revision.oid) {
            if !seen.insert(oid) {
                continue;
            }
            let past = self.past(oid)?;
            let works_in = past.iter().skip_while(|point| point.tid != tid).take(2);
            works_in.for_each(|point| self.work_in(&point.revision.version));
            match self.undo_one(oid, tid, &past)? {
                Some(point) => written.push(point),
                None => {
                    failed.push(NotUndone { oid, why: "which was changed since, and the changes can not be merged" })
                }
            }
        }
        if failed.is_empty() { Ok(written) } else { Err(Error::UndoConflict { objects: failed }) }
    }

    /// What undoing a transaction writes for one of its objects; none if it can not be undone.
    fn undo_one(&self, oid: Oid, tid: Tid, past: &[Point]) -> Result<Option<Point>> {
        let Some(n) = past.iter().position(|point| point.tid == tid) else { return Ok(None) };
        let (newest, undone, before) = (&past[0], &past[n], past.get(n + 1));
        let same_version = newest.revision.version == undone.revision.version;
        let same_data = newest.revision.data.is_some() && newest.revision.data == undone.revision.data;
        if n == 0 || (same_version && (same_data || self.shares_nothing(newest, undone)?)) {
            return Ok(Some(match before {
                Some(before) => sharing(before, before.revision.version.clone(), before.revision.under),
                None => point(oid, Version::TRUNK, None, None),
            }));
        }
        let data = |point: &Point| point.revision.data.clone();
        let (Some(ancestor), Some(committed)) = (data(undone), data(newest)) else { return Ok(None) };
        let Some(new) = before.and_then(data).filter(|_| same_version) else { return Ok(None) };
        let contested = Contested { oid, ancestor: &ancestor, committed: &committed, new: &new };
        let merged = self.shared.resolver.resolve(contested).filter(|merged| !merged.is_empty());
        let Revision { version, under, .. } = newest.revision.clone();
        Ok(merged.map(|merged| point(oid, version, under, Some(merged))))
    }

    /// Whether one revision is nothing because the other is, directly or by way of others.
    fn shares_nothing(&self, point: &Point, with: &Point) -> Result<bool> {
        let (oid, mut next) = (point.revision.oid, point.nothing_of);
        while let Some(tid) = next {
            if tid == with.tid {
                return Ok(true);
            }
            next = self.shared.find(oid, tid)?.and_then(|point| point.nothing_of).filter(|earlier| *earlier < tid);
        }
        Ok(false)
    }

    /// The objects whose newest revision is in this version, the transaction's own work included; the one that was changed
    /// last comes first.
    fn in_version(&self, version: &Version) -> Result<Vec<Point>> {
        let mut newest: BTreeMap<Oid, &Version> = self.shared.held()?.iter().map(|(oid, held)| (*oid, held)).collect();
        newest.extend(self.state.newest.iter().map(|(oid, (_, held))| (*oid, held)));
        newest.extend(self.verdict.written.iter().map(|point| (point.revision.oid, &point.revision.version)));
        let held = newest.into_iter().filter(|(_, held)| *held == version).map(|(oid, _)| oid);
        let points = held.map(|oid| {
            let own = self.verdict.written.iter().rev().find(|point| point.revision.oid == oid).cloned();
            match (own, self.newest(oid)?) {
                (None, Some((tid, _))) => self.shared.find(oid, tid),
                (own, _) => Ok(own),
            }
        });
        let mut points: Vec<Point> = points.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        // Where in its transaction each object's last revision is.
        let mut places: HashMap<Tid, HashMap<Oid, usize>> = HashMap::new();
        let own = self.verdict.written.iter().enumerate().map(|(n, point)| (point.revision.oid, n)).collect();
        places.insert(UNDER_WAY, own);
        for point in &points {
            if let Entry::Vacant(unknown) = places.entry(point.tid) {
                let storage = if point.tid <= self.shared.seam { &self.shared.base } else { &self.shared.changes };
                let revisions = transaction(&**storage, point.tid)?.map(|t| t.revisions).unwrap_or_default();
                let oids = revisions.into_iter().enumerate().map(|(n, revision)| (revision.oid, n));
                unknown.insert(oids.collect());
            }
        }
        points.sort_by_key(|point| Reverse((point.tid, places[&point.tid].get(&point.revision.oid).copied())));
        Ok(points)
    }

    /// Rule 3.5.
    fn commit_version(&mut self, from: &Version, to: &Version) -> Result<Vec<Point>> {
        if from.is_trunk() || from == to {
            return Err(Error::VersionEnd { version: from.clone() });
        }
        self.wants.versions.insert(from.clone(), Want::Change);
        self.work_in(to);
        let under = |point: &Point| point.revision.under.filter(|_| !to.is_trunk());
        Ok(self.in_version(from)?.iter().map(|point| sharing(point, to.clone(), under(point))).collect())
    }

    /// Rule 3.6.
    fn abort_version(&mut self, from: &Version) -> Result<Vec<Point>> {
        if from.is_trunk() {
            return Err(Error::VersionEnd { version: from.clone() });
        }
        self.wants.versions.insert(from.clone(), Want::Change);
        let back = |Point { revision, .. }: Point| {
            let under = revision.under.map(|tid| self.shared.find(revision.oid, tid)).transpose()?.flatten();
            let nothing = || point(revision.oid, Version::TRUNK, None, None);
            Ok(under.map_or_else(nothing, |under| sharing(&under, Version::TRUNK, None)))
        };
        self.in_version(from)?.into_iter().map(back).collect()
    }

    /// Rule 3.7.
    fn restore(&self, revision: Revision) -> Result<Vec<Point>> {
        let Revision { oid, version, data, source, under } = revision;
        let at = |tid: Option<Tid>| match tid.filter(|tid| *tid <= self.state.last) {
            Some(tid) => self.shared.find(oid, tid),
            None => Ok(None),
        };
        let shared = at(source)?.filter(|point| data.is_some() && point.revision.data == data);
        let under = match (under, at(under)?) {
            _ if version.is_trunk() => None,
            (None, _) => None,
            (Some(tid), Some(point)) if point.revision.version.is_trunk() => Some(tid),
            _ => self.under(oid, &version)?,
        };
        Ok(vec![match shared {
            Some(shared) => sharing(&shared, version, under),
            None => point(oid, version, under, data),
        }])
    }
}
