//! Many transactions of another storage at once (rule 3.7), for the price of one commit's syncs.
//!
//! Each is written as it would be by itself; but where a commit looks into the file, this also looks at the records
//! that it is about to write: an earlier transaction of the same batch may hold the data that a later one shares.
//!
//! ```text
//!   file ···│ t1 │ t2 │ t3 │              all with status c · sync · all marks · sync · shown one after the other
//!                ▲  └──┘ source
//!           └────┘ previous
//! ```

use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;

use bytes::Bytes;
use vellum_blob::Claimed;
use vellum_storage::{
    Blob, Change, Content, Data, Error, Event, NoResolver, Oid, Past, PastRevision, Result, Revision, Tid,
    TransactionMeta, TransactionRecord, Verdict, Version, Wants, judge,
};
use vellum_sync::thread;

use crate::format::{POSITION_MAX, TransactionHeader};
use crate::read::database::Database;
use crate::read::generation::Generation;
use crate::write::append::{Broken, Chains, append, data_is_lost, mark, marks_are_lost, place_blobs};
use crate::write::commit::show;
use crate::write::job::Placed;
use crate::write::past::revision;
use crate::write::record::{NewRecord, length, records_at};
use crate::write::writer::Writer;

/// The file, and what the batch will write behind it.
struct Batch<'a> {
    now: &'a Generation,
    database: &'a Database,
    /// Where the next transaction begins.
    end: u64,
    /// Whether anything in it names an earlier revision. If not, the other fields are not needed.
    names: bool,
    /// The last record of each transaction for each object, and the transaction with the newest.
    written: HashMap<(Oid, Tid), Written>,
    newest: HashMap<Oid, Tid>,
    /// Which record is at a position.
    places: HashMap<u64, (Oid, Tid)>,
}

/// A record of the batch.
struct Written {
    revision: PastRevision<u64>,
    data: Option<Bytes>,
    blob: Option<Blob>,
}

impl Past for Batch<'_> {
    type Place = u64;

    fn newest(&self, oid: Oid) -> Result<Option<PastRevision<u64>>> {
        match self.newest.get(&oid).and_then(|tid| self.written.get(&(oid, *tid))) {
            Some(written) => Ok(Some(written.revision.clone())),
            None => Ok(self.now.newest_header(oid)?.map(revision)),
        }
    }

    fn find(&self, oid: Oid, tid: Tid) -> Result<Option<PastRevision<u64>>> {
        match self.written.get(&(oid, tid)) {
            Some(written) => Ok(Some(written.revision.clone())),
            None => Ok(self.now.record_in(oid, tid)?.map(revision)),
        }
    }

    fn data(&self, oid: Oid, place: u64) -> Result<Option<Bytes>> {
        match self.places.get(&place).and_then(|written| self.written.get(written)) {
            Some(written) => Ok(written.data.clone()),
            None => self.now.data_at(oid, place),
        }
    }

    fn blob(&self, oid: Oid, place: u64) -> Result<Option<Blob>> {
        match self.places.get(&place).and_then(|written| self.written.get(written)) {
            Some(written) => Ok(written.blob.clone()),
            None => {
                let record = self.now.log.header(oid, place, self.now.horizon.end())?;
                self.database.blob(oid, record.header.tid)
            }
        }
    }

    fn revisions(&self, _: Oid) -> Result<impl Iterator<Item = Result<PastRevision<u64>>>> {
        Ok(only_restores().into_iter())
    }

    fn source(&self, _: Oid, _: u64) -> Result<Option<u64>> {
        Ok(only_restores().pop())
    }

    fn undoable(&self, _: Tid) -> Result<Option<Vec<Oid>>> {
        Ok(Some(only_restores()))
    }

    fn in_version(&self, _: &Version) -> Result<Vec<PastRevision<u64>>> {
        Ok(only_restores())
    }
}

/// Rule 3.7 asks for the newest revision, for one of a transaction, and for data.
fn only_restores<T>() -> Vec<T> {
    unreachable!("a batch holds restores only")
}

/// Copies them in, all or none; or some first ones, if the disk fails.
pub(crate) fn copy_in(writer: &Writer, transactions: Vec<TransactionRecord>) -> Result<()> {
    let database = &writer.database;
    database.writable()?;
    // Before the locks: copying the blobs' bytes may take long.
    let transactions = with_own_blobs(database, transactions)?;
    // Not object by object: there are many, and usually no other thread commits.
    let held = writer.locks.take(&Wants { everything: true, ..Wants::default() });
    writer.committer.alone(database, || {
        let now = database.now();
        let before = now.horizon.get().1;
        let placed = place(writer, &now, transactions).map_err(|error| (error, false))?;
        let first = placed.first().map(|placed| placed.tid);
        let journal = &writer.committer.journal;
        let written = journal.retire(&now).and_then(|()| write(database, &now, placed));
        let last = now.horizon.get().1;
        drop(held);
        if let Some(first) = first.filter(|_| last > before) {
            database.listeners.tell(|| Event::Copied { first, last });
        }
        written.map_err(|Broken { doing, source, fatal, .. }| (Error::io(&database.path, doing, source), fatal))
    })
}

/// The same transactions, with blobs that are in the folder here.
fn with_own_blobs(database: &Database, mut transactions: Vec<TransactionRecord>) -> Result<Vec<TransactionRecord>> {
    for transaction in &mut transactions {
        let mut seen = HashSet::new();
        for revision in transaction.revisions.iter_mut().rev() {
            // Rule 8.1: what is written over has no blob.
            let is_last = seen.insert(revision.oid);
            let blob = revision.blob.take().filter(|_| is_last);
            revision.blob = blob.map(|blob| database.blobs()?.own(&blob, revision.oid)).transpose()?;
        }
    }
    Ok(transactions)
}

/// Writes them in parts: while one is synced, the next one is appended.
///
/// ```text
///   append 1 │ sync 1      │ mark 1 │ sync 1's marks and 2 │ show 1, mark 2 │ ...
///            │ append 2    │        │ append 3             │
/// ```
fn write(database: &Database, now: &Generation, placed: Vec<Placed>) -> Result<(), Broken> {
    let mut chains = Chains::one_after_the_other(now, &placed)?;
    let mut parts = parts(placed, database.options.copy_part).into_iter();
    let (mut marked, mut written): (Option<Vec<Placed>>, _) = (None, parts.next());
    let mut trouble = None;
    if let Some(first) = &written {
        append(now, first, now.horizon.end(), &mut chains)?;
    }
    while marked.is_some() || written.is_some() {
        let next = parts.next().filter(|_| trouble.is_none());
        let mut append_next = || next.as_ref().map(|part| append(now, part, part[0].position, &mut chains));
        let (appended, synced) = match database.options.threads {
            1 => (append_next(), now.log.file.sync()),
            _ => thread::scope(|scope| {
                let sync = scope.spawn(|| now.log.file.sync());
                let appended = append_next();
                (appended, sync.join().unwrap_or_else(|panic| resume_unwind(panic)))
            }),
        };
        match marked.take() {
            Some(part) => {
                synced.map_err(|source| marks_are_lost(now, &part, source))?;
                show(database, now, part);
            }
            None => synced.map_err(data_is_lost)?,
        }
        let appended = appended.transpose();
        if let Some(part) = &written {
            place_blobs(now, database, part)?;
            mark(now, part)?;
        }
        marked = written.take();
        match appended {
            Ok(_) => written = next,
            // The transactions before it are finished first.
            Err(broken) => trouble = Some(broken),
        }
    }
    trouble.map_or(Ok(()), Err)
}

/// Parts of about so many bytes. Those that are marked together have one status: see `open.rs`.
fn parts(placed: Vec<Placed>, bytes_max: u64) -> Vec<Vec<Placed>> {
    let mut parts: Vec<Vec<Placed>> = Vec::new();
    for this in placed {
        match parts.last_mut() {
            Some(part) if part[0].meta.status == this.meta.status && this.position - part[0].position < bytes_max => {
                part.push(this);
            }
            _ => parts.push(vec![this]),
        }
    }
    parts
}

/// Gives each transaction its place and its records.
fn place(writer: &Writer, now: &Generation, transactions: Vec<TransactionRecord>) -> Result<Vec<Placed>> {
    let (end, mut last) = now.horizon.get();
    let names = |revision: &Revision| revision.source.is_some() || revision.base.is_some();
    let names = transactions.iter().flat_map(|transaction| &transaction.revisions).any(names);
    // An invalid change is refused first, whichever transaction it is in.
    let mut drafts = Vec::with_capacity(transactions.len());
    for TransactionRecord { tid, status, user, description, extension, revisions } in transactions {
        let meta = TransactionMeta { user, description, extension, tid: Some(tid), status };
        meta.check(Tid::ZERO)?;
        let changes: Vec<_> = revisions.into_iter().map(Change::from).collect();
        changes.iter().try_for_each(Change::check)?;
        drafts.push((tid, meta, changes));
    }
    let mut batch = Batch::new(&writer.database, now, end, names);
    let mut placed = Vec::with_capacity(drafts.len());
    for (tid, meta, changes) in drafts {
        meta.check(last)?;
        changes.iter().filter_map(Change::target).for_each(|(oid, _)| writer.oids.saw(oid));
        placed.push(batch.place(tid, meta, &changes)?);
        last = tid;
    }
    writer.database.within_quota(batch.end)?;
    if batch.end > POSITION_MAX {
        return Err(Error::Exhausted { what: "file positions (256 TiB)" });
    }
    Ok(placed)
}

impl Batch<'_> {
    fn new<'a>(database: &'a Database, now: &'a Generation, end: u64, names: bool) -> Batch<'a> {
        let (written, newest, places) = Default::default();
        Batch { now, database, end, names, written, newest, places }
    }

    /// Judges a transaction (rule 3.7), and places it after those before it.
    fn place(&mut self, tid: Tid, meta: TransactionMeta, changes: &[Change]) -> Result<Placed> {
        let position = self.end;
        let data: Vec<Option<Bytes>> = match self.names {
            true => changes.iter().map(|change| change.data().and_then(Data::in_memory).cloned()).collect(),
            false => Vec::new(),
        };
        let Verdict { writes: records, .. } = judge(self, changes, &NoResolver)?;
        let blobs = self.blobs(&records)?;
        let mut next = position + records_at(&meta);
        // Only later transactions see what this one does to an object. So the records are noted when all of them are
        // made.
        for (n, record) in records.iter().enumerate() {
            if let Some(data) = data.get(n) {
                let NewRecord { oid, version, base, .. } = record.clone();
                let revision = PastRevision { oid, tid, place: next, version, base };
                let (data, blob) = (data.clone(), blobs[n].clone());
                self.written.insert((oid, tid), Written { revision, data, blob });
                self.newest.insert(oid, tid);
                self.places.insert(next, (oid, tid));
            }
            next += length(record);
        }
        self.end = next + TransactionHeader::TWIN_SIZE;
        let blobs = self.claim(&records, &blobs)?;
        Ok(Placed { tid, position, meta, records, blobs, length: self.end - position, alone: None })
    }

    /// The blob of each record: the one that was brought, or that of the revision whose data it shares.
    fn blobs(&self, records: &[NewRecord]) -> Result<Vec<Option<Blob>>> {
        let mut seen = HashSet::new();
        let blob = |NewRecord { oid, content, .. }: &NewRecord| match content {
            // Rule 8.1: what is written over has no blob.
            _ if !seen.insert(*oid) => Ok(None),
            Content::Data(data) => Ok(data.blob().cloned()),
            Content::Shared(place) => Past::blob(self, *oid, *place),
            Content::Tombstone => Ok(None),
        };
        let mut blobs = records.iter().rev().map(blob).collect::<Result<Vec<_>>>()?;
        blobs.reverse();
        Ok(blobs)
    }

    /// A file for each of them.
    fn claim(&self, records: &[NewRecord], blobs: &[Option<Blob>]) -> Result<Vec<(Oid, Claimed)>> {
        let brought = records.iter().zip(blobs).filter_map(|(record, blob)| Some((record.oid, blob.as_ref()?)));
        brought.map(|(oid, blob)| Ok((oid, self.database.blobs()?.claim(blob, oid)?))).collect()
    }
}
