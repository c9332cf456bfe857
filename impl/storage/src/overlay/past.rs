//! The answers of the two storages together to part 3 of the rules.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use vellum_sync::RwLockReadGuard;

use super::seam::{Across, SEAM};
use super::{Shared, State};
use crate::revisions::{Point, transaction};
use crate::{
    Blob, Change, Content, Data, Error, Oid, Past, PastRevision, Result, Revision, Status, Storage, Tid, Version, Write,
};

/// Both storages at this moment. Nothing is finished while it is held.
pub(super) struct Now<'a> {
    pub shared: &'a Shared,
    pub state: RwLockReadGuard<'a, State>,
}

impl Now<'_> {
    /// The storage that has this transaction.
    fn storage(&self, tid: Tid) -> &dyn Storage {
        if tid <= self.shared.seam { &*self.shared.base } else { &*self.shared.changes }
    }

    fn point(&self, oid: Oid, tid: Tid) -> Result<Point> {
        self.shared.find(oid, tid)?.ok_or(Error::KeyError { oid, tid: Some(tid) })
    }

    /// A revision of which the version is known. Only one in a version has a base that is to be looked up.
    fn revision(&self, oid: Oid, tid: Tid, version: Version) -> Result<PastRevision<Tid>> {
        let base = if version.is_trunk() { None } else { self.point(oid, tid)?.revision.base };
        Ok(PastRevision { oid, tid, place: tid, version, base })
    }

    /// The writes to the changes: revisions to be restored there, and their references across the seam.
    pub fn above(&self, writes: &[Write]) -> Result<(Vec<Change>, Vec<Across>)> {
        let (mut restores, mut entries, mut later) = (Vec::new(), Vec::new(), HashSet::new());
        let seam = self.shared.seam;
        for (number, write) in writes.iter().enumerate().rev() {
            let Write { oid, version, base, content } = write;
            let counts = later.insert(*oid);
            let (data, source, tombstone) = match content {
                Content::Data(data) => (Some(data.clone()), None, None),
                Content::Tombstone => (None, None, None),
                Content::Shared(tid) => match self.point(*oid, *tid)?.revision {
                    Revision { data: Some(data), blob, source, .. } => {
                        (Some(Data::from(data).with_blob(blob)), source.or(Some(*tid)), None)
                    }
                    Revision { data: None, .. } => (None, None, Some(*tid)),
                },
            };
            let below = |tid: &Tid| *tid <= seam;
            let across = Across {
                number: number as u32,
                oid: *oid,
                counts,
                source: source.filter(below).or(tombstone),
                base: base.filter(below),
            };
            if across.source.is_some() || across.base.is_some() {
                entries.push(across);
            }
            let above = |tid: &Tid| *tid > seam;
            let (source, base) = (source.filter(above), base.filter(above));
            restores.push(Change::Restore { oid: *oid, version: version.clone(), data, source, base });
        }
        restores.reverse();
        entries.reverse();
        Ok((restores, entries))
    }

    /// Where in its transaction the last revision of each object is.
    fn places(&self, tid: Tid) -> Result<HashMap<Oid, usize>> {
        let revisions = transaction(self.storage(tid), tid)?.map(|t| t.revisions).unwrap_or_default();
        Ok(revisions.into_iter().enumerate().map(|(n, revision)| (revision.oid, n)).collect())
    }
}

impl Past for Now<'_> {
    type Place = Tid;

    fn newest(&self, oid: Oid) -> Result<Option<PastRevision<Tid>>> {
        let newest = self.shared.newest(&self.state, oid)?;
        newest.map(|(tid, version)| self.revision(oid, tid, version)).transpose()
    }

    fn revisions(&self, oid: Oid) -> Result<impl Iterator<Item = Result<PastRevision<Tid>>>> {
        let history = self.shared.history(&self.state, oid, usize::MAX)?;
        Ok(history.into_iter().map(move |entry| self.revision(oid, entry.tid, entry.version)))
    }

    fn find(&self, oid: Oid, tid: Tid) -> Result<Option<PastRevision<Tid>>> {
        let found = if tid <= self.state.last { self.shared.find(oid, tid)? } else { None };
        Ok(found.map(|Point { tid, revision: Revision { version, base, .. }, .. }| PastRevision {
            oid,
            tid,
            place: tid,
            version,
            base,
        }))
    }

    fn source(&self, oid: Oid, tid: Tid) -> Result<Option<Tid>> {
        let Point { revision, tombstone_source, .. } = self.point(oid, tid)?;
        Ok(if revision.data.is_some() { revision.source } else { tombstone_source })
    }

    fn data(&self, oid: Oid, tid: Tid) -> Result<Option<Bytes>> {
        Ok(self.point(oid, tid)?.revision.data)
    }

    fn blob(&self, oid: Oid, tid: Tid) -> Result<Option<Blob>> {
        Ok(self.point(oid, tid)?.revision.blob)
    }

    fn undoable(&self, tid: Tid) -> Result<Option<Vec<Oid>>> {
        let found = if tid <= self.state.last { transaction(self.storage(tid), tid)? } else { None };
        let mut seen = HashSet::from([SEAM]);
        Ok(found.filter(|transaction| transaction.status == Status::Complete).map(|transaction| {
            transaction.revisions.iter().map(|revision| revision.oid).filter(|oid| seen.insert(*oid)).collect()
        }))
    }

    fn in_version(&self, version: &Version) -> Result<Vec<PastRevision<Tid>>> {
        let mut newest: BTreeMap<Oid, &Version> = self.shared.held()?.iter().map(|(oid, held)| (*oid, held)).collect();
        newest.extend(self.state.newest.iter().map(|(oid, (_, held))| (*oid, held)));
        let held = newest.into_iter().filter(|(_, held)| *held == version);
        let found: Result<Vec<_>> = held.filter_map(|(oid, _)| self.newest(oid).transpose()).collect();
        let mut found = found?;
        let mut places: HashMap<Tid, HashMap<Oid, usize>> = HashMap::new();
        for revision in &found {
            if let Entry::Vacant(unknown) = places.entry(revision.tid) {
                unknown.insert(self.places(revision.tid)?);
            }
        }
        found.sort_by_key(|revision| Reverse((revision.tid, places[&revision.tid].get(&revision.oid).copied())));
        Ok(found)
    }
}
