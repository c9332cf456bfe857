//! A server under the harness, whatever it is: its storage by ZEO's protocol.
//!
//! A server cannot be emptied. So each history has its own range of oids and its own time, after all that is there:
//!
//! ```text
//!   the server    ──[case 0: oids 1000.., 09:00 to 09:40]──[case 1: oids 2000.., 10:00 to 10:35]──▶
//!   the harness       oids 0.., @1 to @40                      oids 0.., @1 to @35
//! ```
//!
//! The earlier transactions are hidden from a history. The tids are those of the harness's clock, which a client may
//! choose.

use std::sync::Arc;

use vellum_client::{Access, ClientOptions, RemoteStorage};
use vellum_harness::hosted::{Hosted, Merger};
use vellum_harness::subject::{Can, Subject};
use vellum_harness::tick::tick;
use vellum_storage::{
    Bytes, Change, Clock, CurrentRecord, Draft, Error, HistoryEntry, Invalidation, Listener, Listening, Loaded,
    LoadedAt, ManualClock, NotUndone, Oid, Order, Prepared, Refusal, Result, Revision, Storage, Tid, TidRange,
    TransactionMeta, TransactionRecord, UndoEntry, UndoLog, Verdict, Version, Vote, Voted, Waiting,
};

/// The operations that the protocol has words for, and that a server does without being told how. A pack looks at
/// references, and those of a history lead to the oids that it would have in an empty storage.
const CAN: Can = Can {
    concurrent: false,
    pack: false,
    edges: false,
    versions: false,
    resolve: false,
    collect: false,
    dangling: false,
    untold: false,
    blobs: false,
    counts: false,
    ..Can::EVERYTHING
};

/// Oids of a history.
const OIDS: u64 = 1000;
/// Time between histories, as tids count it: an hour.
const HOUR: u64 = 60 << 32;

/// The storage of a server at this address.
pub fn subject(address: &str) -> std::result::Result<Box<dyn Subject>, String> {
    let can = {
        let storage = open(address, Access::Write).map_err(|error| error.to_string())?;
        Can { undo: Storage::undo_log(&storage).is_some(), ..CAN }
    };
    let address = address.to_owned();
    let mut place: Option<Place> = None;
    let name = format!("the server at {address}");
    let hosted = Hosted::new(name, can, move |opening| {
        let access = if opening.read_only { Access::Read } else { Access::Write };
        let storage = open(&address, access)?;
        let place = match &place {
            Some(place) if !opening.fresh => place.clone(),
            _ => place.insert(Place::after(&storage)?).clone(),
        };
        Ok(Box::new(Placed { storage, place, clock: opening.clock }))
    });
    Ok(Box::new(hosted.without_verdicts()))
}

fn open(address: &str, access: Access) -> Result<RemoteStorage> {
    Ok(RemoteStorage::open(ClientOptions::at(address).access(access))?.that_restores().with_resolver(Arc::new(Merger)))
}

/// Where a history is.
#[derive(Clone)]
struct Place {
    /// The last transaction before it.
    before: Tid,
    /// The number that is added to each of its tids.
    shift: u64,
    /// The number that is added to each of its oids.
    oids: u64,
}

impl Place {
    fn after(storage: &RemoteStorage) -> Result<Place> {
        let before = storage.sync()?;
        let minutes = (before.0.saturating_sub(tick(1).0) + 2 * HOUR) >> 32;
        // Oids that grow with the time are never used twice.
        Ok(Place { before, shift: minutes << 32, oids: minutes * OIDS })
    }

    fn tid_there(&self, tid: Tid) -> Tid {
        match tid {
            Tid::ZERO | Tid::MAX => tid,
            tid => Tid(tid.0.saturating_add(self.shift)),
        }
    }

    fn tid_here(&self, tid: Tid) -> Tid {
        if tid <= self.before { Tid::ZERO } else { Tid(tid.0.saturating_sub(self.shift)) }
    }

    fn oid_there(&self, oid: Oid) -> Oid {
        Oid(oid.0.saturating_add(self.oids))
    }

    fn oid_here(&self, oid: Oid) -> Oid {
        Oid(oid.0.wrapping_sub(self.oids))
    }

    fn is_here(&self, oid: Oid) -> bool {
        (self.oids..self.oids + OIDS).contains(&oid.0)
    }

    fn change_there(&self, change: &Change) -> Change {
        let mut change = change.clone();
        match &mut change {
            Change::Store { oid, serial, .. }
            | Change::Delete { oid, serial }
            | Change::CheckCurrent { oid, serial } => {
                (*oid, *serial) = (self.oid_there(*oid), self.tid_there(*serial));
            }
            Change::Restore { oid, source, .. } => {
                (*oid, *source) = (self.oid_there(*oid), source.map(|source| self.tid_there(source)));
            }
            Change::Undo { tid } => *tid = self.tid_there(*tid),
            Change::CommitVersion { .. } | Change::AbortVersion { .. } => {}
        }
        change
    }

    fn error_here(&self, error: Error) -> Error {
        let (oid, tid) = (|oid| self.oid_here(oid), |tid| self.tid_here(tid));
        match error {
            Error::KeyError { oid: of, tid: at } => Error::KeyError { oid: oid(of), tid: at.map(tid) },
            Error::Refused(Refusal::UnknownObject { oid: of }) => Refusal::UnknownObject { oid: oid(of) }.into(),
            Error::Refused(Refusal::Conflict { oid: of, committed, serial }) => {
                Refusal::Conflict { oid: oid(of), committed: tid(committed), serial: tid(serial) }.into()
            }
            Error::Refused(Refusal::ReadConflict { oid: of, committed, serial }) => {
                Refusal::ReadConflict { oid: oid(of), committed: tid(committed), serial: tid(serial) }.into()
            }
            Error::Refused(Refusal::NotUndoable { tid: of }) => Refusal::NotUndoable { tid: tid(of) }.into(),
            Error::Refused(Refusal::UndoConflict { objects }) => {
                let here = |not: NotUndone| NotUndone { oid: oid(not.oid), ..not };
                Refusal::UndoConflict { objects: objects.into_iter().map(here).collect() }.into()
            }
            other => other,
        }
    }
}

/// A server's storage, of which only one history is seen.
#[derive(Clone)]
struct Placed {
    storage: RemoteStorage,
    place: Place,
    clock: Arc<ManualClock>,
}

impl Placed {
    fn here<T>(&self, found: Result<T>) -> Result<T> {
        found.map_err(|error| self.place.error_here(error))
    }

    fn shown(&self, LoadedAt { data, tid, next }: LoadedAt) -> LoadedAt {
        LoadedAt { data, tid: self.place.tid_here(tid), next: next.map(|next| self.place.tid_here(next)) }
    }
}

impl Storage for Placed {
    fn name(&self) -> String {
        self.storage.name()
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let Loaded { data, tid } = self.here(self.storage.load(self.place.oid_there(oid), version))?;
        Ok(Loaded { data, tid: self.place.tid_here(tid) })
    }

    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let found = self.storage.load_before(self.place.oid_there(oid), self.place.tid_there(before));
        Ok(self.here(found)?.map(|found| self.shown(found)))
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.here(self.storage.load_serial(self.place.oid_there(oid), self.place.tid_there(tid)))
    }

    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let entries = self.here(self.storage.history(self.place.oid_there(oid), limit))?;
        let here = |entry: HistoryEntry| HistoryEntry { tid: self.place.tid_here(entry.tid), ..entry };
        Ok(entries.into_iter().map(here).collect())
    }

    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let first = self.place.tid_there(range.first).max(self.place.before.next());
        let range = TidRange { first, last: self.place.tid_there(range.last) };
        let place = self.place.clone();
        let here = move |transaction: Result<TransactionRecord>| {
            let transaction = transaction.map_err(|error| place.error_here(error))?;
            let revision = |revision: Revision| Revision {
                oid: place.oid_here(revision.oid),
                source: revision.source.map(|source| place.tid_here(source)),
                ..revision
            };
            let revisions = transaction.revisions.into_iter().map(revision).collect();
            Ok(TransactionRecord { tid: place.tid_here(transaction.tid), revisions, ..transaction })
        };
        Ok(Box::new(self.storage.transactions(range, order)?.map(here)))
    }

    fn last_transaction(&self) -> Tid {
        self.place.tid_here(self.storage.last_transaction())
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        let found = self.here(self.storage.last_invalidations(count))?;
        let here = |oids: Vec<Oid>| oids.into_iter().map(|oid| self.place.oid_here(oid)).collect();
        let of_history = found.into_iter().filter(|invalidation| invalidation.tid > self.place.before);
        Ok(of_history.map(|it| Invalidation { tid: self.place.tid_here(it.tid), oids: here(it.oids) }).collect())
    }

    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        let place = self.place.clone();
        let first = place.oid_there(first);
        if !place.is_here(first) {
            return Box::new(std::iter::empty());
        }
        let end = place.clone();
        let is_here = move |record: &Result<CurrentRecord>| match record {
            Ok(record) => end.is_here(record.oid),
            Err(_) => true,
        };
        Box::new(self.storage.current_records(first).take_while(is_here).map(move |record| {
            let CurrentRecord { oid, tid, data } = record.map_err(|error| place.error_here(error))?;
            Ok(CurrentRecord { oid: place.oid_here(oid), tid: place.tid_here(tid), data })
        }))
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        self.storage.new_oids(count)
    }

    fn size(&self) -> u64 {
        self.storage.size()
    }

    fn object_count(&self) -> u64 {
        self.storage.object_count()
    }

    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        // An error about `meta` is to name the history's own tids.
        meta.check(self.last_transaction())?;
        drop(self.storage.begin(TransactionMeta { tid: None, ..meta.clone() })?);
        Ok(Draft::new(meta))
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        let (meta, origin, changes) = waiting.into_draft().into_parts();
        let last = self.last_transaction();
        let tid = meta.tid_after(last, &*self.clock as &dyn Clock)?;
        let mut draft = Draft::new(TransactionMeta { tid: Some(self.place.tid_there(tid)), ..meta });
        draft.set_origin(origin);
        for change in &changes {
            draft.push(self.place.change_there(change))?;
        }
        match self.here(self.storage.attempt(draft.into()))? {
            Vote::Voted(voted) => {
                let here = |oids: &[Oid]| oids.iter().map(|oid| self.place.oid_here(*oid)).collect::<Vec<_>>();
                let (touched, merged) = (here(voted.touched()), here(voted.merged()));
                Ok(Vote::Voted(Voted::new(touched, merged, Ready { voted, place: self.place.clone() })))
            }
            Vote::Busy(busy) => Ok(Vote::Busy(busy)),
        }
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.storage.listen(listener)
    }

    fn undo_log(&self) -> Option<&dyn UndoLog> {
        Storage::undo_log(&self.storage).map(|_| self as &dyn UndoLog)
    }
}

/// A transaction that the server has voted on.
struct Ready {
    voted: Voted,
    place: Place,
}

impl Prepared for Ready {
    fn verdict(&self) -> Result<Verdict> {
        self.voted.verdict()
    }

    fn finish(self: Box<Self>) -> Result<Tid> {
        let tid = self.voted.finish().map_err(|error| self.place.error_here(error))?;
        Ok(self.place.tid_here(tid))
    }
}

impl UndoLog for Placed {
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        let Some(log) = Storage::undo_log(&self.storage) else { return Ok(Vec::new()) };
        let place = &self.place;
        let here = |entry: &UndoEntry| UndoEntry { tid: place.tid_here(entry.tid), ..entry.clone() };
        let mut of_history = |entry: &UndoEntry| entry.tid > place.before && filter(&here(entry));
        Ok(self.here(log.undo_log_where(first, last, &mut of_history))?.iter().map(here).collect())
    }
}
