//! Part 3 of the rules: one function for each of 3.1 to 3.7, named as in the specification.
//!
//! Stores, deletes, checks and restores look at the database as it was before the transaction, which is `past`. Undos and
//! ends of versions also see what the transaction has done so far, which is in `writes`:
//!
//! ```text
//!   changes   store 1 · undo T · commit draft        what was asked for
//!                │        │          │
//!   writes       1    2  5  1      4  7              what will be written; the last one of an object counts
//! ```

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::{
    Change, Content, Data, Draft, NotUndone, Past, PastRevision, Refusal, Verdict, Want, Wants, WhyNot, Write,
};
use crate::{Blob, Contested, Error, Oid, Resolver, Result, Tid, Version};

/// What a transaction will do, or why the rules refuse it. Its locks are held, so that what is found here stays true.
///
/// # Errors
///
/// [`Error::Refused`](crate::Error::Refused); the storage or a scratch file cannot be read.
pub fn judge<P: Past>(past: &P, changes: &[Change], resolver: &dyn Resolver) -> Result<Verdict<P::Place>> {
    let mut judge = Judge { past, resolver, writes: Vec::new(), newest: HashMap::new(), merged: Vec::new() };
    for change in changes {
        match change {
            Change::Store { oid, serial, version, data } => judge.store(*oid, *serial, version, data)?,
            Change::Delete { oid, serial } => judge.delete(*oid, *serial)?,
            Change::CheckCurrent { oid, serial } => judge.check_current(*oid, *serial)?,
            Change::Undo { tid } => judge.undo(*tid)?,
            Change::CommitVersion { from, to } => judge.commit_version(from, to)?,
            Change::AbortVersion { from } => judge.abort_version(from)?,
            Change::Restore { oid, version, data, source, base } => {
                judge.restore(*oid, version, data.as_ref(), *source, *base)?;
            }
        }
    }
    Ok(Verdict { writes: judge.writes, merged: judge.merged, wants: Wants::default() })
}

/// What a transaction must hold between its vote and its finish. What undos and ends of versions touch depends on the
/// past; so a storage looks, takes the locks, and looks again.
///
/// # Errors
///
/// A transaction that cannot be undone; the storage cannot be read.
pub fn wants<P: Past>(past: &P, draft: &Draft) -> Result<Wants> {
    let mut wants = Wants::default();
    for change in draft.changes() {
        match change {
            Change::Store { oid, version, .. } | Change::Restore { oid, version, .. } => {
                wants.object(*oid, Want::Change);
                wants.version(version, Want::Keep);
            }
            Change::Delete { oid, .. } => wants.object(*oid, Want::Change),
            Change::CheckCurrent { oid, .. } => wants.object(*oid, Want::Keep),
            Change::Undo { tid } => {
                for oid in past.undoable(*tid)?.ok_or(Refusal::NotUndoable { tid: *tid })? {
                    wants.object(oid, Want::Change);
                    let mut later = true;
                    let from_undone = past.revisions(oid)?.skip_while(|revision| {
                        later = later && revision.as_ref().is_ok_and(|revision| revision.tid != *tid);
                        later
                    });
                    for revision in from_undone.take(2) {
                        wants.version(&revision?.version, Want::Keep);
                    }
                }
            }
            Change::CommitVersion { from, .. } | Change::AbortVersion { from } => {
                wants.version(from, Want::Change);
                past.objects_in(from)?.into_iter().for_each(|oid| wants.object(oid, Want::Change));
                if let Change::CommitVersion { to, .. } = change {
                    wants.version(to, Want::Keep);
                }
            }
        }
    }
    Ok(wants)
}

/// Rule 8.3: what two revisions hold is the same only if their blobs are.
fn same_blob(one: Option<&Blob>, other: Option<&Blob>) -> Result<bool> {
    match (one, other) {
        (None, None) => Ok(true),
        (Some(one), Some(other)) => one.has_bytes_of(other),
        _ => Ok(false),
    }
}

struct Judge<'a, P: Past> {
    past: &'a P,
    resolver: &'a dyn Resolver,
    writes: Vec<Write<P::Place>>,
    /// The last of them for each object.
    newest: HashMap<Oid, usize>,
    merged: Vec<Oid>,
}

/// An object's newest revision, as the transaction sees it.
enum Newest<'a, P> {
    Past(PastRevision<P>),
    Own(&'a Write<P>),
}

impl<P: Copy> Newest<'_, P> {
    fn version(&self) -> &Version {
        match self {
            Newest::Past(revision) => &revision.version,
            Newest::Own(write) => &write.version,
        }
    }

    fn base(&self) -> Option<P> {
        match self {
            Newest::Past(revision) => revision.base,
            Newest::Own(write) => write.base,
        }
    }

    /// Content that is the same. A revision that is not written yet cannot be a source.
    fn shared(&self) -> Content<P> {
        match self {
            Newest::Past(revision) => Content::Shared(revision.place),
            Newest::Own(write) => write.content.clone(),
        }
    }
}

impl<P: Past> Judge<'_, P> {
    fn write(&mut self, write: Write<P::Place>) {
        self.newest.insert(write.oid, self.writes.len());
        self.writes.push(write);
    }

    /// The object's newest revision with what the transaction has done so far.
    fn newest(&self, oid: Oid) -> Result<Option<Newest<'_, P::Place>>> {
        match self.newest.get(&oid) {
            Some(&n) => Ok(Some(Newest::Own(&self.writes[n]))),
            None => Ok(self.past.newest(oid)?.map(Newest::Past)),
        }
    }

    fn data(&self, oid: Oid, newest: &Newest<'_, P::Place>) -> Result<Option<Bytes>> {
        match newest {
            Newest::Past(revision) => self.past.data(oid, revision.place),
            Newest::Own(Write { content: Content::Data(data), .. }) => data.bytes().map(Some),
            Newest::Own(Write { content: Content::Shared(place), .. }) => self.past.data(oid, *place),
            Newest::Own(Write { content: Content::Tombstone, .. }) => Ok(None),
        }
    }

    fn blob(&self, oid: Oid, newest: &Newest<'_, P::Place>) -> Result<Option<Blob>> {
        match newest {
            Newest::Past(revision) => self.past.blob(oid, revision.place),
            Newest::Own(Write { content: Content::Data(data), .. }) => Ok(data.blob().cloned()),
            Newest::Own(Write { content: Content::Shared(place), .. }) => self.past.blob(oid, *place),
            Newest::Own(Write { content: Content::Tombstone, .. }) => Ok(None),
        }
    }

    /// Asks the resolver for a record that has both changes in it. None if it has no answer, or no bytes as one.
    fn merge(&self, contested: Contested<'_>) -> Option<Data> {
        self.resolver.resolve(contested).filter(|merged| !merged.is_empty()).map(Data::from)
    }

    /// Rule 3.1: the serial must be the newest revision's, or the resolver must merge the two; and no other version may
    /// hold the object.
    fn store(&mut self, oid: Oid, serial: Tid, version: &Version, data: &Data) -> Result<()> {
        let newest = self.past.newest(oid)?;
        if let Some(held) = newest.as_ref().map(|newest| &newest.version).filter(|held| !held.is_trunk())
            && held != version
        {
            return Err(Refusal::VersionLock { oid, version: held.clone() }.into());
        }
        let committed = newest.as_ref().map_or(Tid::ZERO, |newest| newest.tid);
        let mut data = data.clone();
        if committed != serial {
            data = self.resolve(oid, serial, newest.as_ref(), &data)?;
            self.merged.push(oid);
        }
        let base = if version.is_trunk() { None } else { newest.and_then(|newest| newest.on_trunk()) };
        self.write(Write { oid, version: version.clone(), base, content: Content::Data(data) });
        Ok(())
    }

    /// The merged record of a store that came too late.
    fn resolve(&self, oid: Oid, serial: Tid, newest: Option<&PastRevision<P::Place>>, new: &Data) -> Result<Data> {
        let conflict = Refusal::Conflict { oid, committed: newest.map_or(Tid::ZERO, |newest| newest.tid), serial };
        let Some(newest) = newest else { return Err(conflict.into()) };
        let mut ancestor = None;
        for revision in self.past.revisions(oid)? {
            let revision = revision?;
            if revision.tid <= serial {
                ancestor = Some(revision).filter(|revision| revision.tid == serial);
                break;
            }
        }
        let Some(older) = ancestor else { return Err(conflict.into()) };
        let (ancestor, committed) = (self.past.data(oid, older.place)?, self.past.data(oid, newest.place)?);
        let (Some(ancestor), Some(committed)) = (ancestor, committed) else { return Err(conflict.into()) };
        // Rule 8.1.
        let has_blob =
            |revision: &PastRevision<P::Place>| Ok::<_, Error>(self.past.blob(oid, revision.place)?.is_some());
        if new.blob().is_some() || has_blob(newest)? || has_blob(&older)? {
            return Err(conflict.into());
        }
        let new = new.bytes()?;
        let contested = Contested { oid, ancestor: &ancestor, committed: &committed, new: &new };
        self.merge(contested).ok_or_else(|| conflict.into())
    }

    /// Rule 3.2: the same checks without a resolver; the object becomes a tombstone.
    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        let newest = self.past.newest(oid)?.ok_or(Refusal::UnknownObject { oid })?;
        if !newest.version.is_trunk() {
            return Err(Refusal::VersionLock { oid, version: newest.version }.into());
        }
        if newest.tid != serial {
            return Err(Refusal::Conflict { oid, committed: newest.tid, serial }.into());
        }
        self.write(Write { oid, version: Version::TRUNK, base: None, content: Content::Tombstone });
        Ok(())
    }

    /// Rule 3.3: the newest revision, be it a tombstone, must be at `serial`.
    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        let committed = self.past.newest(oid)?.ok_or(Refusal::UnknownObject { oid })?.tid;
        if committed == serial { Ok(()) } else { Err(Refusal::ReadConflict { oid, committed, serial }.into()) }
    }

    /// Rule 3.4: takes back what a transaction did, to all its objects or to none.
    fn undo(&mut self, tid: Tid) -> Result<()> {
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        for oid in self.past.undoable(tid)?.ok_or(Refusal::NotUndoable { tid })? {
            match self.undo_one(tid, oid)? {
                Ok(write) => written.push(write),
                Err(why) => failed.push(NotUndone { oid, why }),
            }
        }
        if !failed.is_empty() {
            return Err(Refusal::UndoConflict { objects: failed }.into());
        }
        written.into_iter().for_each(|write| self.write(write));
        Ok(())
    }

    /// What undoing the transaction writes for one of its objects, or why it cannot be undone.
    fn undo_one(&self, tid: Tid, oid: Oid) -> Result<Result<Write<P::Place>, WhyNot>> {
        let mut past = self.past.revisions(oid)?;
        let undone = loop {
            match past.next().transpose()? {
                Some(revision) if revision.tid > tid => {}
                Some(revision) if revision.tid == tid => break revision,
                _ => return Ok(Err(WhyNot::PastForgotten)),
            }
        };
        let before = past.next().transpose()?;
        let Some(newest) = self.newest(oid)? else { return Ok(Err(WhyNot::PastForgotten)) };
        let is_newest = matches!(&newest, Newest::Past(revision) if revision.place == undone.place);
        let same_version = *newest.version() == undone.version;
        if is_newest
            || (same_version && (self.shares(oid, &newest, undone.place)? || self.same_data(&newest, &undone)?))
        {
            return Ok(Ok(match before {
                Some(PastRevision { place, version, base, .. }) => {
                    Write { oid, version, base, content: Content::Shared(place) }
                }
                None => Write { oid, version: Version::TRUNK, base: None, content: Content::Tombstone },
            }));
        }
        if !same_version {
            return Ok(Err(WhyNot::OtherVersion));
        }
        let Some(before) = before else { return Ok(Err(WhyNot::CreatedAndChanged)) };
        let (ancestor, committed) = (self.past.data(oid, undone.place)?, self.data(oid, &newest)?);
        let new = self.past.data(oid, before.place)?;
        let (Some(ancestor), Some(committed), Some(new)) = (ancestor, committed, new) else {
            return Ok(Err(WhyNot::ChangedOrDeleted));
        };
        // Rule 8.1.
        let blobs = [self.past.blob(oid, undone.place)?, self.blob(oid, &newest)?, self.past.blob(oid, before.place)?];
        if blobs.iter().any(Option::is_some) {
            return Ok(Err(WhyNot::NotMerged));
        }
        let contested = Contested { oid, ancestor: &ancestor, committed: &committed, new: &new };
        let (version, base) = (newest.version().clone(), newest.base());
        let merged = self.merge(contested).ok_or(WhyNot::NotMerged);
        Ok(merged.map(|data| Write { oid, version, base, content: Content::Data(data) }))
    }

    /// Whether one revision shares what the other one holds, be it a tombstone, directly or by way of others.
    fn shares(&self, oid: Oid, newest: &Newest<'_, P::Place>, with: P::Place) -> Result<bool> {
        let mut source = match newest {
            Newest::Past(revision) => self.past.source(oid, revision.place)?,
            Newest::Own(Write { content: Content::Shared(place), .. }) => Some(*place),
            Newest::Own(_) => None,
        };
        // A source is earlier than the revision that shares it, so the walk ends.
        while let Some(place) = source.filter(|place| *place > with) {
            source = self.past.source(oid, place)?;
        }
        Ok(source == Some(with))
    }

    fn same_data(&self, newest: &Newest<'_, P::Place>, other: &PastRevision<P::Place>) -> Result<bool> {
        let Some(data) = self.data(other.oid, newest)? else { return Ok(false) };
        let same = self.past.data(other.oid, other.place)?.is_some_and(|other| other == data);
        Ok(same && same_blob(self.blob(other.oid, newest)?.as_ref(), self.past.blob(other.oid, other.place)?.as_ref())?)
    }

    /// The newest revisions that are in the version so far, the one written last first.
    fn in_version(&self, version: &Version) -> Result<Vec<(Oid, Newest<'_, P::Place>)>> {
        let past = self.past.in_version(version)?;
        let own: BTreeSet<usize> = self.newest.values().copied().collect();
        let own = own.into_iter().rev().map(|n| &self.writes[n]).filter(|write| write.version == *version);
        let past = past.into_iter().filter(|revision| !self.newest.contains_key(&revision.oid));
        Ok(own
            .map(|write| (write.oid, Newest::Own(write)))
            .chain(past.map(|revision| (revision.oid, Newest::Past(revision))))
            .collect())
    }

    /// Rule 3.5: every object in `from` gets a revision in `to` that shares its data.
    fn commit_version(&mut self, from: &Version, to: &Version) -> Result<()> {
        if from.is_trunk() || from == to {
            return Err(Refusal::VersionEnd { version: from.clone() }.into());
        }
        let moved = self.in_version(from)?.into_iter().map(|(oid, newest)| Write {
            oid,
            version: to.clone(),
            base: newest.base().filter(|_| !to.is_trunk()),
            content: newest.shared(),
        });
        let moved: Vec<_> = moved.collect();
        moved.into_iter().for_each(|write| self.write(write));
        Ok(())
    }

    /// Rule 3.6: every object in `from` gets a trunk revision that shares its base revision's data, or is a tombstone.
    fn abort_version(&mut self, from: &Version) -> Result<()> {
        if from.is_trunk() {
            return Err(Refusal::VersionEnd { version: from.clone() }.into());
        }
        let back = self.in_version(from)?.into_iter().map(|(oid, newest)| {
            let content = newest.base().map_or(Content::Tombstone, Content::Shared);
            Write { oid, version: Version::TRUNK, base: None, content }
        });
        let back: Vec<_> = back.collect();
        back.into_iter().for_each(|write| self.write(write));
        Ok(())
    }

    /// Rule 3.7: a revision of another storage as it is there. The source counts if that transaction is here and has that
    /// data; the base counts if the trunk has the object there.
    fn restore(
        &mut self,
        oid: Oid,
        version: &Version,
        data: Option<&Data>,
        source: Option<Tid>,
        base: Option<Tid>,
    ) -> Result<()> {
        if data.is_some_and(Data::is_empty) {
            return Err(Refusal::EmptyRecord { oid }.into());
        }
        let content = match (data, source) {
            (None, _) => Content::Tombstone,
            (Some(data), None) => Content::Data(data.clone()),
            (Some(data), Some(tid)) => match self.past.find(oid, tid)? {
                Some(there)
                    if self.past.data(oid, there.place)? == Some(data.bytes()?)
                        && (data.blob().is_none()
                            || same_blob(self.past.blob(oid, there.place)?.as_ref(), data.blob())?) =>
                {
                    Content::Shared(there.place)
                }
                _ => Content::Data(data.clone()),
            },
        };
        let base = match base.filter(|_| !version.is_trunk()) {
            None => None,
            Some(tid) => match self.past.find(oid, tid)?.filter(|there| there.version.is_trunk()) {
                Some(there) => Some(there.place),
                None => self.past.newest(oid)?.and_then(|newest| newest.on_trunk()),
            },
        };
        self.write(Write { oid, version: version.clone(), base, content });
        Ok(())
    }
}
