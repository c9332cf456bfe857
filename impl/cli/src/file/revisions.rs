//! `Revisions`: the revisions of single objects, with what the commands show of them.
//!
//! A command asks the same questions whatever the database is. A `Data.fs` answers them from the records at their
//! positions, since a walk to a transaction would read the whole file. Any other storage answers them by the questions
//! that every storage answers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use vellum_file::{FileStorage, Record};
use vellum_storage::{
    Bytes, Error, HistoryEntry, Oid, Order, Revision, Storage, Tid, TidRange, TransactionRecord, Version,
};
use vellum_terminal::Run;

use super::DataFile;
use crate::ui::changes::State;
use crate::ui::classes::class;
use crate::ui::meta::Metadata;

/// The revisions of a database.
pub struct Revisions<'a>(Kind<'a>);

enum Kind<'a> {
    File(&'a FileStorage, DataFile),
    Any(Any<'a>),
}

/// A revision of an object.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The object.
    pub oid: Oid,
    /// The transaction.
    pub tid: Tid,
    /// The version that it is in.
    pub version: Version,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    InFile(Record),
    InStorage(HistoryEntry),
}

/// Revisions in their order, newest first.
pub type Chain<'a> = Box<dyn Iterator<Item = Run<Entry>> + 'a>;

impl<'a> Revisions<'a> {
    /// The revisions of a `Data.fs`.
    pub fn of_file(storage: &'a FileStorage) -> Revisions<'a> {
        Revisions(Kind::File(storage, DataFile::of(storage)))
    }

    /// The revisions of any storage.
    pub fn of(storage: &'a dyn Storage) -> Revisions<'a> {
        Revisions(Kind::Any(Any { storage, last_read: RefCell::default() }))
    }

    /// The object's newest revision; none if the object is not known.
    pub fn newest(&self, oid: Oid) -> Run<Option<Entry>> {
        Ok(match &self.0 {
            Kind::File(storage, _) => storage.newest_record(oid)?.map(Entry::in_file),
            Kind::Any(any) => any.history(oid, 1)?.pop().map(|entry| Entry::in_storage(oid, entry)),
        })
    }

    /// The same, of an object that must be known.
    ///
    /// # Errors
    ///
    /// A key error if it is not.
    pub fn known(&self, oid: Oid) -> Run<Entry> {
        Ok(self.newest(oid)?.ok_or(Error::KeyError { oid, tid: None })?)
    }

    /// Every revision of the object; none of an object that is not known.
    pub fn chain(&self, oid: Oid) -> Run<Chain<'_>> {
        Ok(match &self.0 {
            Kind::File(storage, file) => {
                let records = file.chain(storage.newest_record(oid)?);
                Box::new(records.map(|record| record.map(Entry::in_file).map_err(|fault| file.damage(&fault))))
            }
            Kind::Any(any) => {
                let entries = any.history(oid, usize::MAX)?.into_iter();
                Box::new(entries.map(move |entry| Ok(Entry::in_storage(oid, entry))))
            }
        })
    }

    /// The object's revision of that transaction; none if there is none.
    pub fn revision(&self, oid: Oid, tid: Tid) -> Run<Option<Entry>> {
        self.chain(oid)?.find(|entry| entry.as_ref().map_or(true, |entry| entry.tid == tid)).transpose()
    }

    /// The base revision of one in a version, or a trunk revision itself; none if there is no base.
    pub fn trunk(&self, entry: &Entry) -> Run<Option<Entry>> {
        if entry.version.is_trunk() {
            return Ok(Some(entry.clone()));
        }
        match (&self.0, &entry.place) {
            (Kind::File(_, file), Place::InFile(record)) => {
                let trunk = file.trunk(&mut file.scanner(), record).map_err(|fault| file.damage(&fault))?;
                Ok(trunk.map(Entry::in_file))
            }
            (Kind::Any(any), _) => match any.whole(entry)?.and_then(|revision| revision.base) {
                Some(base) => self.revision(entry.oid, base),
                None => Ok(None),
            },
            (Kind::File(..), Place::InStorage(_)) => Ok(None),
        }
    }

    /// The record, own or shared; none for a tombstone.
    pub fn data(&self, entry: &Entry) -> Run<Option<Bytes>> {
        match (&self.0, &entry.place) {
            (Kind::File(_, file), Place::InFile(record)) => {
                file.contents(&mut file.scanner(), record).map_err(|fault| file.damage(&fault))
            }
            (Kind::Any(any), _) => any.data(entry),
            (Kind::File(..), Place::InStorage(_)) => Ok(None),
        }
    }

    /// The transaction of the revision whose data this one shares; none if it shares none.
    pub fn shares(&self, entry: &Entry) -> Run<Option<Tid>> {
        match (&self.0, &entry.place) {
            (Kind::File(_, file), Place::InFile(record)) => {
                let holder = file.holder(&mut file.scanner(), record).map_err(|fault| file.damage(&fault))?;
                Ok(holder.filter(|holder| holder.position != record.position).map(|holder| holder.header.tid))
            }
            (Kind::Any(any), Place::InStorage(HistoryEntry { size: 0, .. })) => {
                Ok(any.whole(entry)?.and_then(|revision| revision.source))
            }
            _ => Ok(None),
        }
    }

    /// The state of the object in this revision.
    pub fn state(&self, entry: &Entry) -> Run<State> {
        if let (Kind::File(_, file), Place::InFile(record)) = (&self.0, &entry.place) {
            return file.state(&mut file.scanner(), record);
        }
        let data = self.data(entry)?;
        let (bytes, class) = (data.as_ref().map(|data| data.len() as u64), data.as_deref().and_then(class));
        Ok(State { tid: Some(entry.tid), bytes, merged: false, version: entry.version.clone(), class, blob: None })
    }

    /// The metadata of its transaction.
    pub fn metadata(&self, entry: &Entry) -> Run<Metadata> {
        match (&self.0, &entry.place) {
            (Kind::File(_, file), Place::InFile(record)) => {
                file.metadata_of(&mut file.scanner(), record).map_err(|fault| file.damage(&fault))
            }
            (_, Place::InStorage(HistoryEntry { user, description, extension, .. })) => {
                Ok(Metadata { user: user.clone(), description: description.clone(), extension: extension.clone() })
            }
            (Kind::Any(_), Place::InFile(_)) => Ok(Metadata::default()),
        }
    }
}

impl Entry {
    fn in_file(record: Record) -> Entry {
        let (oid, tid, version) = (record.header.oid, record.header.tid, record.version());
        Entry { oid, tid, version, place: Place::InFile(record) }
    }

    fn in_storage(oid: Oid, entry: HistoryEntry) -> Entry {
        Entry { oid, tid: entry.tid, version: entry.version.clone(), place: Place::InStorage(entry) }
    }

    /// Bytes of data that it holds itself.
    pub fn own_bytes(&self) -> u64 {
        match &self.place {
            Place::InFile(record) => record.header.data_length,
            Place::InStorage(entry) => entry.size,
        }
    }

    /// The position of its record in a `Data.fs`.
    pub fn position(&self) -> Option<u64> {
        match &self.place {
            Place::InFile(record) => Some(record.position),
            Place::InStorage(_) => None,
        }
    }
}

/// A transaction's revisions; of several of one object, the last.
type Read = (Tid, Rc<HashMap<Oid, Revision>>);

/// Any storage, with the transaction that was read last: the next question is often about the same one.
struct Any<'a> {
    storage: &'a dyn Storage,
    last_read: RefCell<Option<Read>>,
}

impl Any<'_> {
    fn history(&self, oid: Oid, limit: usize) -> Run<Vec<HistoryEntry>> {
        match self.storage.history(oid, limit) {
            Err(Error::KeyError { .. }) => Ok(Vec::new()),
            other => Ok(other?),
        }
    }

    /// The revision as its transaction has it: the history does not name its source and its base.
    fn whole(&self, entry: &Entry) -> Run<Option<Revision>> {
        let read = self.last_read.borrow().clone().filter(|(tid, _)| *tid == entry.tid);
        let revisions = match read {
            Some((_, revisions)) => revisions,
            None => {
                let one = TidRange { first: entry.tid, last: entry.tid };
                let transaction = self.storage.transactions(one, Order::OldestFirst)?.next().transpose()?;
                let revisions = transaction.map(|TransactionRecord { revisions, .. }| revisions).unwrap_or_default();
                let revisions = Rc::new(revisions.into_iter().map(|revision| (revision.oid, revision)).collect());
                *self.last_read.borrow_mut() = Some((entry.tid, Rc::clone(&revisions)));
                revisions
            }
        };
        Ok(revisions.get(&entry.oid).cloned())
    }

    fn data(&self, entry: &Entry) -> Run<Option<Bytes>> {
        let loaded = match entry.version.is_trunk() {
            true => self.storage.load_serial(entry.oid, entry.tid),
            false => match self.storage.load(entry.oid, &entry.version) {
                Ok(loaded) if loaded.tid == entry.tid => Ok(loaded.data),
                Ok(_) | Err(Error::KeyError { .. }) => {
                    return Ok(self.whole(entry)?.and_then(|revision| revision.data));
                }
                Err(other) => Err(other),
            },
        };
        match loaded {
            Err(Error::KeyError { .. }) => Ok(None),
            other => Ok(Some(other?)),
        }
    }
}
