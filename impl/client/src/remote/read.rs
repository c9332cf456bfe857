//! Walks through a server's storage, which the protocol makes step by step.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use vellum_storage::{
    Blob, CurrentRecord, Error, Event, Invalidation, Listening, LoadedAt, Oid, Order, Result, Revision, Tid, TidRange,
    TransactionRecord, may_have_blob,
};
use vellum_sync::Mutex;
use vellum_wire::Fault;

use super::RemoteStorage;
use crate::ask::IteratorId;
use crate::error::ClientError;

/// How far a walk from the end looks back first: an hour. Then it looks sixteen times as far, and so on.
const LOOK_BACK: u64 = 60 << 32;

impl RemoteStorage {
    pub(super) fn iterate(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        match order {
            Order::OldestFirst => Ok(Box::new(self.walk(range, true))),
            // Servers walk one way. So the tids come first, eight bytes each, and then each transaction by itself.
            Order::NewestFirst => {
                let tids = self.walk(range, false).map(|transaction| Ok(transaction?.tid));
                let mut tids: Vec<Tid> = tids.collect::<Result<_>>()?;
                let storage = self.clone();
                Ok(Box::new(std::iter::from_fn(move || {
                    let tid = tids.pop()?;
                    let found = storage.walk(TidRange { first: tid, last: tid }, true).next();
                    Some(found.unwrap_or_else(|| storage.nonsense("a transaction is gone that was there")))
                })))
            }
        }
    }

    fn walk(&self, range: TidRange, with_revisions: bool) -> Walk {
        Walk { storage: self.clone(), range, with_revisions, iterator: None, is_over: range.first > range.last }
    }

    fn nonsense<T>(&self, why: &str) -> Result<T> {
        Err(Error::Remote { name: self.name.clone(), why: format!("the server contradicts itself: {why}") })
    }

    /// Rule 2.8. The protocol has no words for it, so the newest transactions are read.
    pub(super) fn newest_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let last = self.last_transaction();
        if count == 0 || last == Tid::ZERO {
            return Ok(Vec::new());
        }
        let mut back = LOOK_BACK;
        loop {
            let first = Tid(last.0.saturating_sub(back));
            let mut newest = VecDeque::new();
            for transaction in self.walk(TidRange { first, last }, true) {
                let TransactionRecord { tid, revisions, .. } = transaction?;
                if newest.len() == count {
                    newest.pop_front();
                }
                newest.push_back(Invalidation { tid, oids: revisions.iter().map(|revision| revision.oid).collect() });
            }
            if newest.len() == count || first == Tid::ZERO {
                return Ok(newest.into());
            }
            back = back.saturating_mul(16);
        }
    }

    /// Rule 2.9. Servers answer with the newest revisions of now. If an object was changed since the walk began, it is
    /// asked for as it was then.
    pub(super) fn records(&self, first: Oid) -> Records {
        let changed = Arc::<Mutex<BTreeSet<Oid>>>::default();
        let hears = Arc::clone(&changed);
        // It listens before it looks where it stands: so it hears of all that comes later.
        let listening = self.client.listen(Arc::new(move |event: &Event| match event {
            Event::Committed { oids, .. } => hears.lock().extend(oids),
            Event::Copied { .. } | Event::Packed { .. } => {}
        }));
        let at = self.last_transaction();
        Records {
            storage: self.clone(),
            at,
            next: Some(first),
            found: None,
            is_over: false,
            changed,
            _listening: listening,
        }
    }
}

/// Transactions, oldest first. If the connection ends, the walk goes on where it was.
struct Walk {
    storage: RemoteStorage,
    /// The transactions that are still to come.
    range: TidRange,
    with_revisions: bool,
    iterator: Option<IteratorId>,
    is_over: bool,
}

/// A walk is begun again so often without getting on.
const TRIES: usize = 5;

impl Walk {
    fn step(&mut self) -> Result<Option<TransactionRecord>, ClientError> {
        let client = &self.storage.client;
        let iterator = match self.iterator {
            Some(iterator) => iterator,
            None => *self.iterator.insert(client.iterate(self.range).wait()?),
        };
        let Some(mut transaction) = client.next_transaction(iterator).wait()? else {
            // The server has forgotten it already.
            self.iterator = None;
            return Ok(None);
        };
        if self.with_revisions {
            let revisions = client.revisions(iterator, transaction.tid).wait()?;
            while let Some((_, mut revision)) = client.next_revision(revisions).wait()? {
                revision.blob = self.blob_of(&transaction, &revision)?;
                transaction.revisions.push(revision);
            }
        }
        Ok(Some(transaction))
    }
}

impl Walk {
    /// The blob of a revision. A server does not say whether there is one, so it is asked for where the record is one
    /// of a blob.
    fn blob_of(&self, transaction: &TransactionRecord, revision: &Revision) -> Result<Option<Blob>, ClientError> {
        if !self.storage.keeps_blobs || !revision.data.as_ref().is_some_and(|data| may_have_blob(data)) {
            return Ok(None);
        }
        match self.storage.client.load_blob(revision.oid, transaction.tid).wait() {
            Ok(blob) => Ok(Some(blob)),
            Err(ClientError::Refused(Fault::Other { class, .. })) if class == super::KEY_ERROR => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Iterator for Walk {
    type Item = Result<TransactionRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut tries = 0;
        while !self.is_over {
            match self.step() {
                Ok(None) => self.is_over = true,
                Ok(Some(transaction)) if !self.range.contains(transaction.tid) => {
                    self.is_over = true;
                    return Some(self.storage.nonsense("transactions come that were not asked for"));
                }
                Ok(Some(transaction)) => {
                    self.range.first = transaction.tid.next();
                    self.is_over = transaction.tid == Tid::MAX;
                    return Some(Ok(transaction));
                }
                Err(ClientError::Disconnected { .. }) if tries < TRIES => {
                    self.iterator = None;
                    tries += 1;
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(self.storage.trouble(error)));
                }
            }
        }
        None
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if let Some(iterator) = self.iterator {
            self.storage.client.forget_iterator(iterator);
        }
    }
}

/// Current records, in the order of their oids.
pub(super) struct Records {
    storage: RemoteStorage,
    /// The transaction as of which they are.
    at: Tid,
    /// The first oid that may come next; none at the end.
    next: Option<Oid>,
    /// The record that the server has shown and that did not come yet.
    found: Option<CurrentRecord>,
    /// Whether the server has shown all.
    is_over: bool,
    /// The objects that were changed since.
    changed: Arc<Mutex<BTreeSet<Oid>>>,
    _listening: Listening,
}

impl Records {
    /// Has the server show its next object from here on, unless it has.
    fn look(&mut self, first: Oid) -> Result<()> {
        let mut first = first;
        while !self.is_over && self.found.as_ref().is_none_or(|record| record.oid < first) {
            match self.storage.client.current_record(first).wait() {
                Ok(Some((record, after))) => {
                    self.found = Some(record);
                    self.is_over = after.is_none();
                    return Ok(());
                }
                Ok(None) => self.is_over = true,
                // ZODB's stops at an object that was deleted.
                Err(ClientError::Refused(Fault::NoObject { oid })) if oid >= first && oid < Oid::MAX => {
                    first = Oid(oid.0 + 1);
                }
                Err(error) => return Err(self.storage.trouble(error)),
            }
        }
        Ok(())
    }

    /// One object further; none if it was not there then.
    fn step(&mut self, first: Oid) -> Result<Option<CurrentRecord>> {
        self.look(first)?;
        let changed = self.changed.lock().range(first..).next().copied();
        let shown = self.found.as_ref().map(|record| record.oid).filter(|oid| *oid >= first);
        let Some(oid) = [shown, changed].into_iter().flatten().min() else {
            self.next = None;
            return Ok(None);
        };
        // Not what the server shows next: what was deleted since comes before that.
        self.next = oid.0.checked_add(1).map(Oid);
        match self.found.take_if(|record| record.oid == oid) {
            Some(record) if record.tid <= self.at => Ok(Some(record)),
            _ => match self.storage.client.load_before(oid, self.at.next()).wait() {
                Ok(None) => Ok(None),
                Ok(Some(LoadedAt { data, tid, .. })) => {
                    let tid = if self.storage.has_versions { self.newest(oid)?.unwrap_or(tid) } else { tid };
                    Ok(Some(CurrentRecord { oid, tid, data }))
                }
                Err(ClientError::Refused(Fault::NoObject { .. })) => Ok(None),
                Err(error) => Err(self.storage.trouble(error)),
            },
        }
    }
}

impl Records {
    /// The tid of an object's newest revision then, in whatever version that was: rule 2.1.
    fn newest(&self, oid: Oid) -> Result<Option<Tid>> {
        let mut size = 8;
        loop {
            let entries = self.storage.history(oid, size)?;
            match entries.iter().find(|entry| entry.tid <= self.at) {
                None if entries.len() == size => size = size.saturating_mul(4),
                found => return Ok(found.map(|entry| entry.tid)),
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<CurrentRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(first) = self.next {
            match self.step(first) {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(error) => {
                    self.next = None;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
