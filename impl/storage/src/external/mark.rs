//! Marking needed objects, across the databases.

use std::collections::HashMap;
use std::mem;

use vellum_pickle::{Reference, Scanner};

use super::{FindGarbage, GarbageError, LostReference, LostReferences, Missing, each};
use crate::revisions::{find, newest_at};
use crate::{Bytes, Error, Oid, OidSet, Order, Status, Storage, Tid, TidRange, TransactionRecord, Version};

/// The next objects of a database, eight bytes each. Beyond this number an object gets a bit instead, and is fetched
/// when no other object is left.
pub(super) const FRONTIER_MAX: usize = 1 << 16;

/// Objects between two reports of how far it is.
const PROGRESS: u64 = 1024;

/// All databases, and their needed objects so far.
pub(super) struct Marker<'a> {
    pub databases: Vec<Marked<'a>>,
    /// The number of the database of each name.
    numbers: HashMap<String, usize>,
    how: FindGarbage<'a>,
    scanner: Scanner,
    lost: LostReferences,
    looked_at: u64,
}

/// A database, and its needed objects so far.
pub(super) struct Marked<'a> {
    pub name: String,
    pub storage: &'a dyn Storage,
    /// Its transactions up to this one were looked at.
    pub looked_to: Tid,
    pub reached: OidSet,
    /// Reached and not looked at: those of which there is a list, and the others.
    frontier: Vec<Oid>,
    waiting: OidSet,
    /// Reached, and not there.
    missing: OidSet,
    /// Objects whose newest revision is in a version.
    in_versions: OidSet,
    /// The transactions of this process, in order, and the objects that they deleted.
    pub own: Vec<Tid>,
    pub deleted: OidSet,
    /// Deleted, and reached afterwards.
    pub too_soon: Vec<Oid>,
}

impl Marked<'_> {
    fn meet(&mut self, oid: Oid) {
        if self.reached.insert(oid) {
            if self.frontier.len() < FRONTIER_MAX {
                self.frontier.push(oid);
            } else {
                self.waiting.insert(oid);
            }
        }
    }

    /// An error of this storage.
    pub fn says(&self, source: Error) -> GarbageError {
        GarbageError::Storage { database: self.name.clone(), source }
    }

    /// None where a key error says that there is nothing.
    fn there<T>(&self, answer: crate::Result<T>) -> Result<Option<T>, GarbageError> {
        match answer {
            Ok(found) => Ok(Some(found)),
            Err(Error::KeyError { .. }) => Ok(None),
            Err(error) => Err(self.says(error)),
        }
    }

    /// The record that the trunk shows.
    fn shown(&self, oid: Oid) -> Result<Option<Bytes>, GarbageError> {
        Ok(self.there(self.storage.load(oid, &Version::TRUNK))?.map(|loaded| loaded.data))
    }

    /// The record of the object's newest revision, if that is in a version.
    fn in_version(&self, oid: Oid) -> Result<Option<Bytes>, GarbageError> {
        let history = self.there(self.storage.history(oid, 1))?.unwrap_or_default();
        let Some(version) = history.first().map(|entry| &entry.version).filter(|version| !version.is_trunk()) else {
            return Ok(None);
        };
        Ok(self.there(self.storage.load(oid, version))?.map(|loaded| loaded.data))
    }

    /// The tid of an object's deletion, and the record that it had before, if a pack left that.
    pub fn before_deletion(&self, oid: Oid) -> Result<Option<(Tid, Bytes)>, GarbageError> {
        match self.there(self.storage.history(oid, 2))?.unwrap_or_default().as_slice() {
            [deletion, before] => {
                Ok(self.there(self.storage.load_serial(oid, before.tid))?.map(|data| (deletion.tid, data)))
            }
            _ => Ok(None),
        }
    }

    /// Whether it may have objects in versions. A storage that cannot tell may have got them from a copy.
    fn may_have_versions(&self) -> Result<bool, GarbageError> {
        match self.storage.versions() {
            Some(versions) => versions.versions().map(|found| !found.is_empty()).map_err(|error| self.says(error)),
            None => Ok(true),
        }
    }
}

impl<'a> Marker<'a> {
    /// Nothing is marked yet.
    pub fn new(databases: &[(&str, &'a dyn Storage)], how: FindGarbage<'a>) -> Result<Marker<'a>, GarbageError> {
        let mut numbers = HashMap::new();
        let mut marked: Vec<Marked<'a>> = Vec::new();
        for (name, storage) in databases {
            if let Some(one) = marked.iter().find(|one| std::ptr::addr_eq(one.storage, *storage)) {
                return Err(GarbageError::SameDatabase { one: one.name.clone(), other: (*name).to_owned() });
            }
            if numbers.insert((*name).to_owned(), marked.len()).is_some() {
                return Err(GarbageError::SameName { name: (*name).to_owned() });
            }
            marked.push(Marked {
                name: (*name).to_owned(),
                storage: *storage,
                looked_to: storage.last_transaction(),
                reached: OidSet::new(),
                frontier: Vec::new(),
                waiting: OidSet::new(),
                missing: OidSet::new(),
                in_versions: OidSet::new(),
                own: Vec::new(),
                deleted: OidSet::new(),
                too_soon: Vec::new(),
            });
        }
        let lost = LostReferences::default();
        Ok(Marker { databases: marked, numbers, how, scanner: Scanner::new(), lost, looked_at: 0 })
    }

    /// References that lead nowhere.
    pub fn lost(&self) -> &LostReferences {
        &self.lost
    }

    /// Marks all that is needed.
    pub fn everything(&mut self) -> Result<(), GarbageError> {
        for n in 0..self.databases.len() {
            let here = &mut self.databases[n];
            here.meet(Oid::ROOT);
            let (after, to) = (self.how.since.min(here.looked_to), here.looked_to);
            let whole = here.may_have_versions()?;
            self.changed_lately(n, after, to, whole)?;
            let here = &self.databases[n];
            let has_root = here.shown(Oid::ROOT)?.is_some() || here.in_versions.contains(Oid::ROOT);
            if !has_root && here.storage.object_count() > 0 {
                return Err(GarbageError::NoRoot { database: here.name.clone() });
            }
        }
        self.follow()?;
        self.find_lost()?;
        self.stop_if_lost()
    }

    /// Reads the transactions in any database since the last look, except for those of this process, and marks the
    /// objects that they need. It returns when a look finds no new transaction.
    pub fn look_again(&mut self) -> Result<(), GarbageError> {
        loop {
            let mut quiet = true;
            for n in 0..self.databases.len() {
                let here = &self.databases[n];
                let (after, to) = (here.looked_to, here.storage.last_transaction());
                if to > after {
                    self.changed_lately(n, after, to, false)?;
                    self.databases[n].looked_to = to;
                    quiet = false;
                }
            }
            self.follow()?;
            self.stop_if_lost()?;
            if quiet {
                return Ok(());
            }
        }
    }

    fn stop_if_lost(&self) -> Result<(), GarbageError> {
        match self.lost.is_empty() || self.how.go_on {
            true => Ok(()),
            false => Err(GarbageError::Nowhere(self.lost.clone())),
        }
    }

    /// Objects that were changed by transactions later than `after` and not later than `to`: they are needed, with what
    /// they refer to and referred to. With the `whole` history also those that are in a version since before.
    fn changed_lately(&mut self, n: usize, after: Tid, to: Tid, whole: bool) -> Result<(), GarbageError> {
        if !whole && after >= to {
            return Ok(());
        }
        let storage = self.databases[n].storage;
        let range = TidRange { first: if whole { Tid::ZERO } else { after.next() }, last: to };
        let (seen, changed) = (OidSet::new(), OidSet::new());
        let transactions =
            storage.transactions(range, Order::NewestFirst).map_err(|error| self.databases[n].says(error))?;
        for transaction in transactions {
            let TransactionRecord { tid, status, revisions, .. } =
                transaction.map_err(|error| self.databases[n].says(error))?;
            // Transactions with status `u` are invisible; and deletions of this process keep nothing.
            if status == Status::Undone || self.databases[n].own.binary_search(&tid).is_ok() {
                continue;
            }
            // If an object occurs twice, the last one counts.
            for revision in revisions.iter().rev() {
                let oid = revision.oid;
                let stands_in_version = seen.insert(oid) && !revision.version.is_trunk();
                if stands_in_version {
                    self.databases[n].in_versions.insert(oid);
                }
                let is_later = tid > after;
                if !is_later && !stands_in_version {
                    continue;
                }
                self.databases[n].meet(oid);
                if let Some(data) = &revision.data {
                    self.scan(n, oid, data)?;
                }
                if is_later {
                    changed.insert(oid);
                    // A later one is looked at for itself.
                    if let Some(base) = revision.base.filter(|base| *base <= after) {
                        self.scan_revision(n, oid, base)?;
                    }
                }
            }
            self.count();
        }
        each(&changed, Oid::ROOT).try_for_each(|oid| self.as_it_was(n, oid, after))
    }

    /// The object's references at a moment: it has them again if later transactions are undone.
    fn as_it_was(&mut self, n: usize, oid: Oid, at: Tid) -> Result<(), GarbageError> {
        let here = &self.databases[n];
        let Some((tid, version)) = newest_at(here.storage, oid, at).map_err(|error| here.says(error))? else {
            return Ok(());
        };
        if !version.is_trunk() {
            let point = find(here.storage, oid, tid).map_err(|error| here.says(error))?;
            if let Some(data) = point.and_then(|point| point.revision.data) {
                self.scan(n, oid, &data)?;
            }
        }
        // Of a revision in a version: the trunk's under it.
        self.scan_revision(n, oid, tid)
    }

    fn scan_revision(&mut self, n: usize, oid: Oid, tid: Tid) -> Result<(), GarbageError> {
        let here = &self.databases[n];
        match here.there(here.storage.load_serial(oid, tid))? {
            Some(data) => self.scan(n, oid, &data),
            None => Ok(()),
        }
    }

    /// Meets what a record refers to.
    fn scan(&mut self, n: usize, oid: Oid, record: &[u8]) -> Result<(), GarbageError> {
        let Marker { databases, numbers, scanner, lost, .. } = self;
        let scanned = scanner.scan_all(record, |reference| match reference {
            Reference::Strong { oid: to, .. } => databases[n].meet(Oid(to)),
            Reference::Foreign { database, oid: to, .. } => match numbers.get(database.as_ref()) {
                Some(there) => databases[*there].meet(Oid(to)),
                None => lost.add(LostReference {
                    database: databases[n].name.clone(),
                    oid,
                    to_database: database.into_owned(),
                    to: Oid(to),
                    why: Missing::Database,
                }),
            },
            Reference::Weak { .. } | Reference::Bad { .. } => {}
        });
        scanned.map_err(|why| GarbageError::Unreadable {
            database: databases[n].name.clone(),
            oid,
            why: why.to_string(),
            is_encrypted: why.is_encrypted(),
        })
    }

    /// Looks at all objects that were met, until no more are met.
    fn follow(&mut self) -> Result<(), GarbageError> {
        let is_left = |here: &Marked<'_>| !here.frontier.is_empty() || !here.waiting.is_empty();
        while let Some(n) = self.databases.iter().position(is_left) {
            let here = &mut self.databases[n];
            let mut frontier = mem::take(&mut here.frontier);
            if frontier.is_empty() {
                let waiting = mem::take(&mut here.waiting);
                each(&waiting, Oid::ROOT).try_for_each(|oid| self.visit(n, oid))?;
            } else {
                frontier.sort_unstable();
                frontier.into_iter().try_for_each(|oid| self.visit(n, oid))?;
            }
        }
        Ok(())
    }

    /// The revision that the trunk shows of an object. Revisions in versions were read when they were found.
    fn visit(&mut self, n: usize, oid: Oid) -> Result<(), GarbageError> {
        self.count();
        let here = &mut self.databases[n];
        let record = match here.shown(oid)? {
            Some(record) => Some(record),
            None if here.deleted.contains(oid) => {
                here.too_soon.push(oid);
                here.before_deletion(oid)?.map(|(_, record)| record)
            }
            None => {
                if !here.in_versions.contains(oid) {
                    here.missing.insert(oid);
                }
                None
            }
        };
        record.map_or(Ok(()), |record| self.scan(n, oid, &record))
    }

    /// The objects that refer to missing ones. They are loaded once more for that: it is rare, and remembering all
    /// referrers would take more than all the rest. An object that only the past refers to is not lost now.
    fn find_lost(&mut self) -> Result<(), GarbageError> {
        if self.databases.iter().all(|here| here.missing.is_empty()) {
            return Ok(());
        }
        let Marker { databases, numbers, scanner, lost, .. } = self;
        for here in databases.iter() {
            for oid in each(&here.reached, Oid::ROOT).filter(|oid| !here.missing.contains(*oid)) {
                let in_version = if here.in_versions.contains(oid) { here.in_version(oid)? } else { None };
                for record in here.shown(oid)?.into_iter().chain(in_version) {
                    let mut check = |there: &Marked<'_>, to| {
                        if there.missing.contains(to) {
                            lost.add(LostReference {
                                database: here.name.clone(),
                                oid,
                                to_database: there.name.clone(),
                                to,
                                why: Missing::Object,
                            });
                        }
                    };
                    // It could be read before, or was changed since, and will be looked at then.
                    let _ = scanner.scan(&record, |reference| match reference {
                        Reference::Strong { oid: to, .. } => check(here, Oid(to)),
                        Reference::Foreign { database, oid: to, .. } => {
                            if let Some(there) = numbers.get(database.as_ref()) {
                                check(&databases[*there], Oid(to));
                            }
                        }
                        Reference::Weak { .. } | Reference::Bad { .. } => {}
                    });
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        self.looked_at += 1;
        if self.looked_at.is_multiple_of(PROGRESS) {
            (self.how.progress)(self.looked_at);
        }
    }
}
