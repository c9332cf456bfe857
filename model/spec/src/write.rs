//! Part 3: writing.

use std::collections::BTreeSet;

use crate::{At, Content, Database, Oid, Revision, Status, Tid, Transaction};

/// What the caller says of a transaction when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Begin {
    /// The tid it will have.
    pub tid: Tid,
    /// The status it will have.
    pub status: Status,
    /// The user's name; at most 65,535 bytes, as the next two.
    pub user: Vec<u8>,
    /// A text for people.
    pub description: Vec<u8>,
    /// Anything else.
    pub extension: Vec<u8>,
}

impl Begin {
    /// A transaction with this tid and no metadata.
    pub fn at(tid: Tid) -> Begin {
        Begin { tid, ..Begin::default() }
    }
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Rule 3.1.
    Store {
        /// The object.
        oid: Oid,
        /// The tid of the revision that the caller changed; 0 for a new object.
        serial: Tid,
        /// The new record.
        data: Vec<u8>,
        /// The blob beside it (rule 8.1).
        blob: Option<Vec<u8>>,
        /// The version to write in.
        version: String,
    },
    /// Rule 3.2.
    Delete {
        /// The object.
        oid: Oid,
        /// The tid of the revision that the caller saw.
        serial: Tid,
    },
    /// Rule 3.3.
    CheckCurrent {
        /// The object.
        oid: Oid,
        /// The tid that its newest revision must have.
        serial: Tid,
    },
    /// Rule 3.4.
    Undo {
        /// The transaction to undo.
        tid: Tid,
    },
    /// Rule 3.5.
    CommitVersion {
        /// The version that ends.
        from: String,
        /// Where its changes go: another version, or the trunk.
        to: String,
    },
    /// Rule 3.6.
    AbortVersion {
        /// The version that ends.
        from: String,
    },
    /// Rule 3.7.
    Restore {
        /// The object.
        oid: Oid,
        /// Its record; none for a tombstone.
        data: Option<Vec<u8>>,
        /// The blob that it brings along (rule 8.5).
        blob: Option<Vec<u8>>,
        /// Its version.
        version: String,
        /// The transaction whose data it shares in the storage that it is copied from.
        source: Option<Tid>,
        /// In a version: the transaction of its base revision in the storage that it is copied from, if it has one.
        base: Option<Tid>,
    },
}

impl Change {
    /// A store on the trunk.
    pub fn store(oid: Oid, serial: Tid, data: &[u8]) -> Change {
        Change::Store { oid, serial, data: data.to_vec(), blob: None, version: String::new() }
    }
}

/// Two changes to the same record: what a resolver gets.
#[derive(Clone, Copy, Debug)]
pub struct Contested<'a> {
    /// The object.
    pub oid: Oid,
    /// The record that both had read.
    pub ancestor: &'a [u8],
    /// The record that one of them committed.
    pub committed: &'a [u8],
    /// The record that the other one asks for.
    pub new: &'a [u8],
}

/// Merges two changes; none if that is impossible.
pub type Resolver<'a> = dyn Fn(Contested<'_>) -> Option<Vec<u8>> + 'a;

/// Why a transaction was refused. It leaves no trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The object is unknown.
    Key(Oid),
    /// The object's newest revision is another one.
    Conflict {
        /// The object.
        oid: Oid,
        /// The tid of its newest revision.
        committed: Tid,
        /// The tid that the caller gave.
        serial: Tid,
    },
    /// The newest revision of an object that was checked is another one.
    ReadConflict {
        /// The object.
        oid: Oid,
        /// The tid of its newest revision.
        committed: Tid,
        /// The tid that the caller gave.
        serial: Tid,
    },
    /// The object's newest revision is in another version.
    VersionLock(Oid),
    /// The version to end is the trunk, or is the version that its changes should go to.
    Version,
    /// The transaction is unknown, not finished, or packed.
    NotUndoable(Tid),
    /// These objects changed since, and the resolver could not merge the changes.
    Undo(Vec<Oid>),
    /// The object's record is empty.
    Empty(Oid),
    /// User, description or extension is too long.
    TooLong,
    /// The tid is not later than the last transaction.
    NotLater,
}

/// The most bytes that user, description and extension may have, each.
const METADATA_MAX: usize = 65_535;

impl Database {
    /// Rules 3.0 and 8.6: does everything that a transaction does, blobs included, or nothing of it. The second answer is the objects it touched.
    pub fn commit(
        &self,
        begin: Begin,
        changes: &[Change],
        resolver: &Resolver<'_>,
    ) -> Result<(Database, Vec<Oid>), Refusal> {
        let Begin { tid, status, user, description, extension } = begin;
        if [&user, &description, &extension].iter().any(|field| field.len() > METADATA_MAX) {
            return Err(Refusal::TooLong);
        }
        // Rule 1.1.
        if tid <= self.last_transaction() {
            return Err(Refusal::NotLater);
        }
        let mut so_far = self.clone();
        so_far.transactions.push(Transaction { tid, status, user, description, extension, revisions: Vec::new() });
        let mut writing = Writing { before: self, so_far, tid, resolver };
        for change in changes {
            let revisions = writing.change(change)?;
            if let Some(open) = writing.so_far.transactions.last_mut() {
                open.revisions.extend(revisions);
            }
        }
        let touched = writing.so_far.transactions.last().map(Transaction::oids).unwrap_or_default();
        Ok((writing.so_far, touched))
    }
}

/// A transaction while its changes are made, one after the other.
///
/// Stores, deletes, checks and restores look at the database `before` the transaction. Undos and ends of versions look at
/// what it has done `so_far`, so that several of them see each other's work.
struct Writing<'a> {
    /// The database before the transaction.
    before: &'a Database,
    /// The database with what the transaction has done so far: it is the last one there.
    so_far: Database,
    /// The transaction's tid.
    tid: Tid,
    /// Merges conflicting changes.
    resolver: &'a Resolver<'a>,
}

impl Writing<'_> {
    /// The revisions that one change writes.
    fn change(&self, change: &Change) -> Result<Vec<Revision>, Refusal> {
        match change {
            Change::Store { oid, serial, data, blob, version } => self.store(*oid, *serial, (data, blob), version),
            Change::Delete { oid, serial } => self.delete(*oid, *serial),
            Change::CheckCurrent { oid, serial } => self.check_current(*oid, *serial),
            Change::Undo { tid } => self.undo(*tid),
            Change::CommitVersion { from, to } => self.commit_version(from, to),
            Change::AbortVersion { from } => self.abort_version(from),
            Change::Restore { oid, data, blob, version, source, base } => {
                Ok(vec![self.restore(*oid, (data, blob), version, *source, *base)])
            }
        }
    }

    /// Rule 1.5: the base of a revision that is about to be written in `version`: what the trunk shows of the object. A
    /// revision on the trunk has no base.
    fn base(&self, oid: Oid, version: &str) -> Option<Tid> {
        let shown = self.before.newest(oid).and_then(|newest| self.before.on_trunk(newest))?;
        (!version.is_empty()).then(|| shown.tid())
    }

    /// Rule 3.1: the serial must be the newest revision's tid, or the resolver must merge the two records. No other version
    /// may hold the object.
    fn store(
        &self,
        oid: Oid,
        serial: Tid,
        (data, blob): (&[u8], &Option<Vec<u8>>),
        version: &str,
    ) -> Result<Vec<Revision>, Refusal> {
        // Rule 1.2.
        if data.is_empty() {
            return Err(Refusal::Empty(oid));
        }
        let held = self.before.modified_in_version(oid);
        if !held.is_empty() && held != version {
            return Err(Refusal::VersionLock(oid));
        }
        let past = self.before.past(oid);
        let committed = past.first().map_or(0, At::tid);
        let mut data = data.to_vec();
        if committed != serial {
            let conflict = Refusal::Conflict { oid, committed, serial };
            // Rule 8.1.
            let stored = past.iter().filter(|at| [serial, committed].contains(&at.tid()));
            if blob.is_some() || self.before.have_blobs(stored.copied()) {
                return Err(conflict);
            }
            let record = |tid| past.iter().find(|at| at.tid() == tid).and_then(|at| self.before.data(*at));
            let (Some(ancestor), Some(current)) = (record(serial), record(committed)) else { return Err(conflict) };
            let contested = Contested { oid, ancestor, committed: current, new: &data };
            data = (self.resolver)(contested).ok_or(conflict)?;
        }
        let base = self.base(oid, version);
        let (version, content, blob) = (version.to_owned(), Content::Data(data), blob.clone());
        Ok(vec![Revision { oid, version, base, content, blob }])
    }

    /// Rule 3.2: the same checks as for a store, without a resolver; writes a tombstone.
    fn delete(&self, oid: Oid, serial: Tid) -> Result<Vec<Revision>, Refusal> {
        let newest = self.before.newest(oid).ok_or(Refusal::Key(oid))?;
        if !newest.revision.version.is_empty() {
            return Err(Refusal::VersionLock(oid));
        }
        if newest.tid() != serial {
            return Err(Refusal::Conflict { oid, committed: newest.tid(), serial });
        }
        Ok(vec![Revision::tombstone(oid)])
    }

    /// Rule 3.3: the object's newest revision must have this tid.
    fn check_current(&self, oid: Oid, serial: Tid) -> Result<Vec<Revision>, Refusal> {
        match self.before.newest(oid).ok_or(Refusal::Key(oid))?.tid() {
            committed if committed != serial => Err(Refusal::ReadConflict { oid, committed, serial }),
            _ => Ok(Vec::new()),
        }
    }

    /// Rule 3.4: undoes a transaction, for all its objects or for none.
    fn undo(&self, tid: Tid) -> Result<Vec<Revision>, Refusal> {
        // A transaction cannot undo itself: it is not finished, and so not in `before`.
        let finished = self.before.transactions.iter().find(|t| t.tid == tid && t.status == Status::Complete);
        let oids = finished.ok_or(Refusal::NotUndoable(tid))?.oids();
        let results = oids.into_iter().map(|oid| self.undo_one(oid, tid).ok_or(oid));
        let (revisions, failed): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        match failed.is_empty() {
            true => Ok(revisions.into_iter().flatten().collect()),
            false => Err(Refusal::Undo(failed.into_iter().filter_map(Result::err).collect())),
        }
    }

    /// Rule 3.4, its table: the revision that undoes a transaction's change to one object; none if that is impossible.
    fn undo_one(&self, oid: Oid, tid: Tid) -> Option<Revision> {
        let db = &self.so_far;
        let past = db.past(oid);
        let n = past.iter().position(|at| at.tid() == tid)?;
        let (newest, undone, previous) = (past[0], past[n], past.get(n + 1).copied());
        let same_version = newest.revision.version == undone.revision.version;
        let same_data = db.data(newest).is_some_and(|data| db.data(undone) == Some(data));
        // Rule 8.3.
        let same_data = same_data && db.blob(newest) == db.blob(undone);
        if newest == undone || (same_version && (same_data || db.shares(newest, undone))) {
            return Some(match previous {
                Some(at) => Revision { content: Content::Source(at.tid()), blob: None, ..at.revision.clone() },
                None => Revision::tombstone(oid),
            });
        }
        let (ancestor, committed, new) = (db.data(undone)?, db.data(newest)?, db.data(previous?)?);
        // Rule 8.1.
        if db.have_blobs([undone, newest].into_iter().chain(previous)) {
            return None;
        }
        let merged = (self.resolver)(Contested { oid, ancestor, committed, new }).filter(|_| same_version)?;
        Some(Revision { content: Content::Data(merged), ..newest.revision.clone() })
    }

    /// Rule 3.5: moves the changes of one version to another one, or to the trunk.
    fn commit_version(&self, from: &str, to: &str) -> Result<Vec<Revision>, Refusal> {
        if from.is_empty() || from == to {
            return Err(Refusal::Version);
        }
        let moved = self.so_far.in_version(from).into_iter().map(|at| Revision {
            oid: at.revision.oid,
            version: to.to_owned(),
            base: if to.is_empty() { None } else { at.revision.base },
            // A source is in an earlier transaction, so what this transaction wrote itself is written again.
            content: if at.tid() == self.tid { at.revision.content.clone() } else { Content::Source(at.tid()) },
            blob: if at.tid() == self.tid { at.revision.blob.clone() } else { None },
        });
        Ok(moved.collect())
    }

    /// Rule 3.6: discards the changes of a version: its objects get the data of their base revisions.
    fn abort_version(&self, from: &str) -> Result<Vec<Revision>, Refusal> {
        if from.is_empty() {
            return Err(Refusal::Version);
        }
        let back = self.so_far.in_version(from).into_iter().map(|at| Revision {
            content: at.revision.base.map_or(Content::Tombstone, Content::Source),
            ..Revision::tombstone(at.revision.oid)
        });
        Ok(back.collect())
    }

    /// Rule 3.7: copies a revision from another storage. `source` counts if that revision has the same data here, and the same
    /// blob if one comes along (rule 8.3); `base` counts if that revision is on the trunk here.
    fn restore(
        &self,
        oid: Oid,
        (data, blob): (&Option<Vec<u8>>, &Option<Vec<u8>>),
        version: &str,
        source: Option<Tid>,
        base: Option<Tid>,
    ) -> Revision {
        let here = |tid: Tid| self.before.at(oid, tid);
        let has_both = |tid: &Tid| {
            here(*tid).is_some_and(|at| {
                let same_blob = blob.is_none() || self.before.blob(at) == blob.as_deref();
                self.before.data(at) == data.as_deref() && same_blob
            })
        };
        let (content, blob) = match (data, source.filter(has_both)) {
            (Some(_), Some(tid)) => (Content::Source(tid), None),
            (Some(data), None) => (Content::Data(data.clone()), blob.clone()),
            (None, _) => (Content::Tombstone, None),
        };
        let on_trunk = |tid: &Tid| here(*tid).is_some_and(|at| at.revision.version.is_empty());
        let base = match base.filter(|_| !version.is_empty()) {
            Some(tid) => Some(tid).filter(on_trunk).or(self.base(oid, version)),
            None => None,
        };
        Revision { oid, version: version.to_owned(), base, content, blob }
    }
}

impl Revision {
    /// A tombstone on the trunk.
    fn tombstone(oid: Oid) -> Revision {
        Revision { oid, version: String::new(), base: None, content: Content::Tombstone, blob: None }
    }
}

impl Database {
    /// Rule 8.1: whether one of these revisions has a blob, so that no resolver is asked.
    fn have_blobs<'a>(&'a self, revisions: impl IntoIterator<Item = At<'a>>) -> bool {
        revisions.into_iter().any(|at| self.blob(at).is_some())
    }

    /// Whether one revision shares the data of another, directly or by way of others. Tombstones can be shared, too.
    fn shares(&self, at: At<'_>, with: At<'_>) -> bool {
        let Content::Source(tid) = at.revision.content else { return false };
        tid == with.tid() || self.at(at.revision.oid, tid).is_some_and(|source| self.shares(source, with))
    }

    /// The newest revisions that are in this version, the newest one first.
    fn in_version(&self, version: &str) -> Vec<At<'_>> {
        let mut seen = BTreeSet::new();
        let newest_first = self.transactions.iter().rev().flat_map(|transaction| {
            transaction.revisions.iter().rev().map(move |revision| At { transaction, revision })
        });
        let newest = newest_first.filter(|at| seen.insert(at.revision.oid));
        newest.filter(|at| at.revision.version == version).collect()
    }
}
