//! Many transactions of another storage at once (rule 3.7), for the price of one commit's syncs.
//!
//! Each is written as it would be by itself; but where a commit looks into the file for what is there, this also looks at
//! what it is about to write: an earlier transaction of the same batch may hold the data that a later one shares.
//!
//! ```text
//!   file ···│ t1 │ t2 │ t3 │              all with status c · sync · all marks · sync · shown one after the other
//!                ▲  └──┘ source
//!           └────┘ previous
//! ```

use std::collections::HashMap;
use std::panic::resume_unwind;

use bytes::Bytes;
use vellum_storage::{Error, Oid, Result, Revision, Tid, TransactionMeta, TransactionRecord, Wants};
use vellum_sync::thread;

use crate::format::{POSITION_MAX, TransactionHeader};
use crate::read::database::Database;
use crate::read::generation::Generation;
use crate::write::append::{Broken, Chains, append, data_is_lost, mark, marks_are_lost};
use crate::write::commit::show;
use crate::write::job::Placed;
use crate::write::oids::Oids;
use crate::write::record::{Body, NewRecord, records_at};
use crate::write::writer::Writer;

/// What the batch has done to an object so far.
#[derive(Clone)]
struct Written {
    position: u64,
    in_version: bool,
    on_trunk: u64,
    data: Option<Bytes>,
}

/// A batch before it is written.
struct Batch<'a> {
    oids: &'a Oids,
    now: &'a Generation,
    /// Where the next transaction begins.
    end: u64,
    /// Whether anything in it names an earlier revision. If not, nobody asks for what follows.
    names: bool,
    /// The last record of each transaction for each object, and the transaction with the newest.
    written: HashMap<(Oid, Tid), Written>,
    newest: HashMap<Oid, Tid>,
    placed: Vec<Placed>,
}

/// Copies them in, all or none.
pub(crate) fn copy_in(writer: &Writer, transactions: Vec<TransactionRecord>) -> Result<()> {
    let database = &writer.database;
    database.writable()?;
    let mut metas = Vec::with_capacity(transactions.len());
    for transaction in &transactions {
        let meta = meta(transaction);
        meta.check()?;
        metas.push(meta);
        for revision in &transaction.revisions {
            check(revision)?;
        }
    }
    // Not object by object: there are many, and as a rule nobody else is here.
    let held = writer.locks.take(Wants { everything: true, ..Wants::default() });
    let done = writer.committer.alone(database, || {
        let now = database.now();
        let placed = place(writer, &now, metas, transactions).map_err(|error| (error, false))?;
        write(database, &now, placed)
            .map_err(|Broken { doing, source, fatal }| (Error::io(&database.path, doing, source), fatal))
    });
    drop(held);
    done
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
            mark(now, part)?;
        }
        marked = written.take();
        match appended {
            Ok(_) => written = next,
            // What is before it is finished first.
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

fn meta(transaction: &TransactionRecord) -> TransactionMeta {
    TransactionMeta {
        user: transaction.user.clone(),
        description: transaction.description.clone(),
        extension: transaction.extension.clone(),
        tid: Some(transaction.tid),
        status: transaction.status,
    }
}

fn check(revision: &Revision) -> Result<()> {
    if revision.data.as_ref().is_some_and(Bytes::is_empty) {
        return Err(Error::EmptyRecord { oid: revision.oid });
    }
    match revision.version.name().len() {
        length if length > usize::from(u16::MAX) => Err(Error::MetadataTooLong { field: "version", length }),
        _ => Ok(()),
    }
}

/// Gives each transaction its place and its records.
fn place(
    writer: &Writer,
    now: &Generation,
    metas: Vec<TransactionMeta>,
    transactions: Vec<TransactionRecord>,
) -> Result<Vec<Placed>> {
    let (end, mut last) = now.horizon.get();
    let names = |revision: &Revision| revision.source.is_some() || revision.under.is_some();
    let names = transactions.iter().flat_map(|transaction| &transaction.revisions).any(names);
    let (written, newest, placed) = Default::default();
    let mut batch = Batch { oids: &writer.oids, now, end, names, written, newest, placed };
    for (meta, transaction) in metas.into_iter().zip(transactions) {
        let tid = transaction.tid;
        if tid <= last {
            return Err(Error::TidNotLater { tid, last });
        }
        batch.add(meta, transaction)?;
        last = tid;
    }
    writer.database.within_quota(batch.end)?;
    if batch.end > POSITION_MAX {
        return Err(Error::Exhausted { what: "file positions (256 TiB)" });
    }
    Ok(batch.placed)
}

impl Batch<'_> {
    fn add(&mut self, meta: TransactionMeta, transaction: TransactionRecord) -> Result<()> {
        let (tid, position) = (transaction.tid, self.end);
        let mut next = position + records_at(&meta);
        let mut records = Vec::with_capacity(transaction.revisions.len());
        // What it does to an object is seen by later ones only.
        let mut done = Vec::with_capacity(transaction.revisions.len());
        for revision in transaction.revisions {
            self.oids.saw(revision.oid);
            let in_version = !revision.version.is_trunk();
            let under = self.under(&revision)?;
            let body = self.body(&revision)?;
            let on_trunk = if in_version { under } else { next };
            done.push((revision.oid, Written { position: next, in_version, on_trunk, data: revision.data }));
            let record = NewRecord { oid: revision.oid, version: revision.version, under, body };
            next += record.length();
            records.push(record);
        }
        for (oid, written) in done.into_iter().filter(|_| self.names) {
            self.written.insert((oid, tid), written);
            self.newest.insert(oid, tid);
        }
        self.end = next + TransactionHeader::TWIN_SIZE;
        let length = self.end - position;
        self.placed.push(Placed { tid, position, meta, records, scratch: None, length, notify: None, claim: None });
        Ok(())
    }

    fn body(&self, revision: &Revision) -> Result<Body> {
        let Some(data) = &revision.data else { return Ok(Body::NOTHING) };
        if let Some(tid) = revision.source {
            if let Some(written) = self.written.get(&(revision.oid, tid)) {
                if written.data.as_ref() == Some(data) {
                    return Ok(Body::Shared(written.position));
                }
            } else if let Some(record) = self.now.record_in(revision.oid, tid)?
                && self.now.data_at(revision.oid, record.position)?.as_ref() == Some(data)
            {
                return Ok(Body::Shared(record.position));
            }
        }
        Ok(Body::Data(data.clone()))
    }

    fn under(&self, revision: &Revision) -> Result<u64> {
        let Some(tid) = revision.under.filter(|_| !revision.version.is_trunk()) else { return Ok(0) };
        if let Some(written) = self.written.get(&(revision.oid, tid)) {
            if !written.in_version {
                return Ok(written.position);
            }
        } else if let Some(record) = self.now.record_in(revision.oid, tid)?
            && record.in_version.is_none()
        {
            return Ok(record.position);
        }
        match self.newest.get(&revision.oid) {
            Some(newest) => Ok(self.written.get(&(revision.oid, *newest)).map_or(0, |written| written.on_trunk)),
            None => Ok(self.now.newest_header(revision.oid)?.map_or(0, |newest| newest.on_trunk())),
        }
    }
}
