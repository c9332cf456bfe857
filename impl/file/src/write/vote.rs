//! The first phase: a draft becomes a pledge.

use std::collections::HashSet;
use std::sync::Arc;

use vellum_blob::Claimed;
use vellum_storage::{
    Blob, Content, Finishing, Held, Judged, Oid, Origin, Past, Prepared, Result, Tid, TransactionMeta, Verdict, Vote,
    Voted, Waiting, lock_and_judge,
};

use crate::write::job::{Claim, Job, Ticket};
use crate::write::past::Now;
use crate::write::pledge::Pledge;
use crate::write::record::{NewRecord, bare_length, length};
use crate::write::writer::Writer;

/// Votes on a draft, if nothing that it needs is held.
pub(crate) fn vote(writer: &Arc<Writer>, waiting: Waiting) -> Result<Vote> {
    let options = &writer.database.options;
    let now = || Now {
        _judging: writer.judging.read(),
        generation: writer.database.now(),
        blobs: writer.database.blobs.as_ref(),
    };
    let judged = match lock_and_judge(&writer.locks, now, &*options.resolver, waiting)? {
        Ok(judged) => judged,
        Err(waiting) => return Ok(Vote::Busy(waiting)),
    };
    let Judged { draft, held, past, verdict } = judged;
    let (meta, origin, _) = draft.into_parts();
    let length = bare_length(&meta) + verdict.writes.iter().map(length).sum::<u64>();
    writer.database.within_quota(past.generation.horizon.end() + length)?;
    // The draft may have been begun elsewhere.
    verdict.writes.iter().for_each(|write| writer.oids.saw(write.oid));
    let (touched, merged) = (verdict.touched(), verdict.merged);
    let blobs = blobs(writer, &past, &verdict.writes)?;
    let pledge = writer.pledges.add(verdict.writes);
    // From now on the pledge keeps the shared revisions, and their blobs.
    drop(past);
    // A rehearsal has no files: it is never finished.
    let blobs = if options.read_only { Vec::new() } else { blobs };
    let claim = |(oid, blob): (Oid, Blob)| Ok((oid, writer.database.blobs()?.claim(&blob, oid)?));
    let blobs = blobs.into_iter().map(claim).collect::<Result<_>>()?;
    let ready = Ready { writer: Arc::clone(writer), meta, origin, pledge, blobs, merged: merged.clone(), length, held };
    Ok(Vote::Voted(Voted::new(touched, merged, ready)))
}

/// The blobs that a transaction will have: those that it brings, and those of the revisions whose data it shares.
fn blobs(writer: &Writer, past: &Now<'_>, writes: &[NewRecord]) -> Result<Vec<(Oid, Blob)>> {
    let brought = |write: &NewRecord| matches!(&write.content, Content::Data(data) if data.blob().is_some());
    if writer.database.blobs.is_none() && !writes.iter().any(brought) {
        return Ok(Vec::new());
    }
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    // Rule 8.1: what is written over has no blob.
    for NewRecord { oid, content, .. } in writes.iter().rev().filter(|write| seen.insert(write.oid)) {
        let blob = match content {
            Content::Data(data) => data.blob().cloned(),
            Content::Shared(place) => past.blob(*oid, *place)?,
            Content::Tombstone => None,
        };
        found.extend(blob.map(|blob| (*oid, blob)));
    }
    if !found.is_empty() {
        writer.database.blobs()?;
    }
    Ok(found)
}

/// A transaction after its vote.
struct Ready {
    writer: Arc<Writer>,
    meta: TransactionMeta,
    origin: Origin,
    pledge: Arc<Pledge>,
    blobs: Vec<(Oid, Claimed)>,
    merged: Vec<Oid>,
    /// Bytes that it will take.
    length: u64,
    held: Held,
}

impl Prepared for Ready {
    fn verdict(&self) -> Result<Verdict> {
        // A pack that ends at the same time changes the positions in the pledge.
        let _judging = self.writer.judging.read();
        let now = self.writer.database.now();
        let end = now.horizon.end();
        let records = self.pledge.records();
        let named = |oid: Oid, position: u64| Ok(now.log.header(oid, position, end)?.header.tid);
        let writes = records.iter().map(|record| record.try_map(|position| named(record.oid, position)));
        Ok(Verdict {
            writes: writes.collect::<Result<_>>()?,
            merged: self.merged.clone(),
            wants: self.held.wants().clone(),
        })
    }

    fn finish(self: Box<Self>) -> Result<Tid> {
        self.begin_finish()()
    }

    fn begin_finish(self: Box<Self>) -> Finishing {
        let Ready { writer, meta, origin, pledge, blobs, length, held, .. } = *self;
        // It may have been a rehearsal.
        if let Err(error) = writer.database.writable() {
            return Box::new(|| Err(error));
        }
        let claim = Claim { held, ticket: Ticket::default() };
        let ticket = writer.committer.enqueue(Job { meta, origin, pledge, blobs, length, claim });
        Box::new(move || writer.committer.outcome(&writer.database, &ticket))
    }
}
