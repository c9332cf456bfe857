//! Part 2: reading.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Content, Database, Oid, Revision, Status, Tid, Transaction};

/// There is no such object or revision, or it is a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyError;

/// A revision, with its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At<'a> {
    /// The transaction.
    pub transaction: &'a Transaction,
    /// The revision.
    pub revision: &'a Revision,
}

impl At<'_> {
    /// The transaction's tid.
    pub fn tid(&self) -> Tid {
        self.transaction.tid
    }
}

/// What the trunk showed at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shown<'a> {
    /// The record.
    pub data: &'a [u8],
    /// The tid since which the trunk showed it.
    pub tid: Tid,
    /// The tid at which the trunk began to show another revision, if it did.
    pub next: Option<Tid>,
}

/// An entry of an object's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HistoryEntry<'a> {
    /// The transaction.
    pub transaction: &'a Transaction,
    /// The version.
    pub version: &'a str,
    /// Bytes that the revision itself holds: zero for shared data and for a tombstone.
    pub size: usize,
}

impl Transaction {
    /// Rule 1.4: the transaction's revision of the object; the last one, if there are several.
    pub fn revision(&self, oid: Oid) -> Option<&Revision> {
        self.revisions.iter().rev().find(|revision| revision.oid == oid)
    }

    /// The objects that the transaction changed, in order of their first occurrence.
    pub fn oids(&self) -> Vec<Oid> {
        let mut seen = BTreeSet::new();
        self.revisions.iter().map(|revision| revision.oid).filter(|oid| seen.insert(*oid)).collect()
    }
}

impl Database {
    /// Every revision of the object, newest first, including those that no answer shows after a pack.
    pub(crate) fn revisions(&self, oid: Oid) -> impl Iterator<Item = At<'_>> {
        let found = move |transaction| Some(At { transaction, revision: Transaction::revision(transaction, oid)? });
        self.transactions.iter().rev().filter_map(found)
    }

    /// The object's revision in this transaction.
    pub fn at(&self, oid: Oid, tid: Tid) -> Option<At<'_>> {
        self.revisions(oid).find(|at| at.tid() == tid)
    }

    /// Rule 4.5: the object's past, newest first. It ends with its newest packed revision and that one's base revision.
    pub fn past(&self, oid: Oid) -> Vec<At<'_>> {
        let mut past = Vec::new();
        for at in self.revisions(oid) {
            past.push(at);
            if at.transaction.status == Status::Packed {
                past.extend(at.revision.base.and_then(|base| self.at(oid, base)));
                break;
            }
        }
        past
    }

    /// The object's newest revision.
    pub fn newest(&self, oid: Oid) -> Option<At<'_>> {
        self.revisions(oid).next()
    }

    /// Rule 1.3: the revision's data, its own or its source's; none for a tombstone.
    pub fn data<'a>(&'a self, at: At<'a>) -> Option<&'a [u8]> {
        match &at.revision.content {
            Content::Data(data) => Some(data),
            Content::Source(tid) => self.at(at.revision.oid, *tid).and_then(|source| self.data(source)),
            Content::Tombstone => None,
        }
    }

    /// Rule 8.3: the revision's blob, its own or its source's.
    pub fn blob<'a>(&'a self, at: At<'a>) -> Option<&'a [u8]> {
        // Rule 8.1: what the same transaction writes over has none.
        let last = at.transaction.revision(at.revision.oid)?;
        if !std::ptr::eq(last, at.revision) {
            return None;
        }
        match at.revision.content {
            Content::Source(tid) => self.at(at.revision.oid, tid).and_then(|source| self.blob(source)),
            _ => at.revision.blob.as_deref(),
        }
    }

    /// Rule 8.2: the blob of exactly this revision.
    pub fn load_blob(&self, oid: Oid, tid: Tid) -> Result<&[u8], KeyError> {
        let at = self.past(oid).into_iter().find(|at| at.tid() == tid).ok_or(KeyError)?;
        self.blob(at).ok_or(KeyError)
    }

    /// The tid of the revision that holds the data, if this revision shares it.
    pub fn holder(&self, at: At<'_>) -> Option<Tid> {
        let Content::Source(tid) = at.revision.content else { return None };
        let source = self.at(at.revision.oid, tid)?;
        match source.revision.content {
            Content::Source(_) => self.holder(source),
            Content::Data(_) => Some(tid),
            Content::Tombstone => None,
        }
    }

    /// Rule 1.6: the revision that the trunk shows from this one on: itself, or its base.
    pub(crate) fn on_trunk<'a>(&'a self, at: At<'a>) -> Option<At<'a>> {
        if at.revision.version.is_empty() { Some(at) } else { self.at(at.revision.oid, at.revision.base?) }
    }

    /// Rule 2.1: the object's data now, as seen in `version`, and the tid of its newest revision.
    pub fn load(&self, oid: Oid, version: &str) -> Result<(&[u8], Tid), KeyError> {
        let newest = self.newest(oid).ok_or(KeyError)?;
        let seen = if newest.revision.version == version { Some(newest) } else { self.on_trunk(newest) };
        let data = seen.and_then(|seen| self.data(seen)).ok_or(KeyError)?;
        Ok((data, newest.tid()))
    }

    /// Rule 2.2: what the trunk showed just before `before`, since when, and until when. None if the object was not on the
    /// trunk yet; a key error if it was a tombstone then, or is unknown.
    pub fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<Shown<'_>>, KeyError> {
        let past = self.past(oid);
        if past.is_empty() {
            return Err(KeyError);
        }
        let Some(n) = past.iter().position(|at| at.tid() < before) else { return Ok(None) };
        let Some(shown) = self.on_trunk(past[n]) else { return Ok(None) };
        let same = |at: &&At<'_>| self.on_trunk(**at) == Some(shown);
        let next = past[..n].iter().rev().find(|at| !same(at)).map(At::tid);
        let since = past[n..].iter().take_while(same).last().map_or(past[n].tid(), At::tid);
        Ok(Some(Shown { data: self.data(shown).ok_or(KeyError)?, tid: since, next }))
    }

    /// Rule 2.3: the record of exactly this revision; for a revision in a version, its base's.
    pub fn load_serial(&self, oid: Oid, tid: Tid) -> Result<&[u8], KeyError> {
        let at = self.past(oid).into_iter().find(|at| at.tid() == tid).ok_or(KeyError)?;
        self.on_trunk(at).and_then(|at| self.data(at)).ok_or(KeyError)
    }

    /// Rule 2.4: the newest `limit` revisions, newest first.
    pub fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry<'_>>, KeyError> {
        let past = self.past(oid);
        if past.is_empty() {
            return Err(KeyError);
        }
        let entry = |At { transaction, revision }| HistoryEntry {
            transaction,
            version: &revision.version,
            size: if let Content::Data(data) = &revision.content { data.len() } else { 0 },
        };
        Ok(past.into_iter().take(limit).map(entry).collect())
    }

    /// Rule 2.5: the transactions that can be undone, newest first, from number `first` up to but not including `last`.
    pub fn undo_log(&self, first: usize, last: usize) -> Vec<&Transaction> {
        let complete = self.transactions.iter().rev().take_while(|t| t.status == Status::Complete);
        complete.take(last).skip(first).collect()
    }

    /// Rule 2.6: the transactions from `first` to `last`, both included, oldest first.
    pub fn transactions(&self, first: Tid, last: Tid) -> impl Iterator<Item = &Transaction> {
        self.transactions.iter().filter(move |t| first <= t.tid && t.tid <= last)
    }

    /// Rule 2.7: the last transaction's tid, zero if there is none.
    pub fn last_transaction(&self) -> Tid {
        self.transactions.last().map_or(0, |t| t.tid)
    }

    /// Rule 2.8: the objects that each of the last `count` transactions changed, oldest first.
    pub fn last_invalidations(&self, count: usize) -> Vec<(Tid, Vec<Oid>)> {
        let first = self.transactions.len().saturating_sub(count);
        self.transactions[first..].iter().map(|t| (t.tid, t.revisions.iter().map(|r| r.oid).collect())).collect()
    }

    /// Every object that has a revision, be it a tombstone.
    pub fn oids(&self) -> BTreeSet<Oid> {
        self.transactions.iter().flat_map(|t| t.revisions.iter().map(|r| r.oid)).collect()
    }

    /// Rule 2.9: every object that the trunk shows with data now, in the order of the oids.
    pub fn current_records(&self) -> BTreeMap<Oid, (&[u8], Tid)> {
        self.oids().into_iter().filter_map(|oid| Some((oid, self.load(oid, "").ok()?))).collect()
    }

    /// Rule 2.10: the version of the object's newest revision; empty for the trunk.
    pub fn modified_in_version(&self, oid: Oid) -> &str {
        self.newest(oid).map_or("", |at| &at.revision.version)
    }

    /// Rule 2.11: the versions that hold some object's newest revision.
    pub fn versions(&self) -> BTreeSet<&str> {
        self.oids().into_iter().map(|oid| self.modified_in_version(oid)).filter(|v| !v.is_empty()).collect()
    }
}
