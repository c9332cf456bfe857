//! The sources of a transaction side by side, and what becomes of each revision.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use redb::ReadableTableMetadata;
use vellum_storage::{Oid, Result, Revision, Status, Storage, Tid, TransactionMeta, TransactionRecord, Version};

use super::number::{low, walk};
use super::walk::{Met, Walk};
use super::{Salvage, Wreck};
use crate::row::{Head, decode_place};
use crate::tables::{Reading, Tables, door};
use crate::view::At;

/// About so many bytes of records are written at once.
const BATCH_BYTES: usize = 8 << 20;

/// The outcome for a revision.
enum Fate {
    Whole(Revision),
    /// Its row is lost, and its record is not.
    FromRecord(Revision),
    /// A pack removed it.
    Gone,
    Lost,
}

impl Wreck {
    /// Writes the transactions that the three sources have, in their order.
    pub(super) fn write_all(
        &mut self,
        mut alone: BTreeMap<Tid, Vec<(Oid, u64)>>,
        to: &dyn Storage,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let Wreck { tables, salvage, .. } = self;
        let path = Arc::clone(&tables.path);
        let has_versions = salvage.gaps.iter().any(|gap| gap.table == "names")
            || door(&path, || Ok(!tables.names.is_empty().map_err(|e| tables.trouble(e))?)).unwrap_or(true);
        let last = tables.last().ok();
        let mut heads = walk(&path, &tables.transactions, Head::decode).peekable();
        let mut places = walk(&path, &tables.places, decode_place).peekable();
        let (mut batch, mut bytes, mut written) = (Vec::new(), 0, None);
        loop {
            let head = next_head(&mut heads, salvage);
            let place = next_place(&mut places, tables, salvage);
            let Some(tid) = [head, place, alone.keys().next().copied()].into_iter().flatten().min() else { break };
            let mut listed = alone.remove(&tid).unwrap_or_default();
            while next_place(&mut places, tables, salvage) == Some(tid) {
                if let Some(Met::Row(number, Ok((oid, _)))) = places.next() {
                    listed.push((oid, low(number)));
                }
            }
            let head = match head == Some(tid) {
                true => heads.next().and_then(|met| if let Met::Row(_, Ok(head)) = met { Some(head) } else { None }),
                false => None,
            };
            let whole = head.is_some();
            let Head { mut status, user, description, extension, revisions } = head.unwrap_or_else(no_head);
            listed.retain(|named| !revisions.contains(named));
            let mut named = revisions;
            named.extend(listed);
            if !whole {
                named.sort_unstable_by_key(|(_, number)| *number);
            }
            if tid <= tables.facts.packed_to {
                status = Status::Packed;
            }
            if status == Status::Undone {
                salvage.row("transactions", tid, "its status cannot be");
                status = Status::Complete;
            }
            let mut saved = Vec::with_capacity(named.len());
            let mut lost = 0;
            for &(oid, number) in &named {
                match fate(tables, oid, tid, number, has_versions) {
                    Fate::Whole(revision) => saved.push(revision),
                    Fate::FromRecord(revision) => {
                        salvage.from_record.push((oid, tid));
                        saved.push(revision);
                    }
                    Fate::Gone => {}
                    Fate::Lost => {
                        lost += 1;
                        salvage.revisions_lost.push((oid, tid));
                        salvage.objects.insert(oid);
                    }
                }
            }
            if saved.is_empty() && lost > 0 {
                salvage.transactions_lost.push(tid);
                continue;
            }
            let is_swept = saved.is_empty() && tables.facts.is_sweeping && tid <= tables.facts.packed_to;
            if (is_swept && last != Some(tid)) || (saved.is_empty() && !whole) {
                continue;
            }
            // A key that is out of order was left out by the walk.
            if written.is_some_and(|written| tid <= written) {
                continue;
            }
            written = Some(tid);
            if !whole {
                salvage.without_texts.push(tid);
            }
            salvage.transactions += 1;
            salvage.revisions += saved.len() as u64;
            let own = saved.iter().filter(|revision| revision.source.is_none());
            salvage.bytes +=
                own.filter_map(|revision| revision.data.as_ref()).map(|data| data.len() as u64).sum::<u64>();
            bytes += 64 + saved.iter().filter_map(|revision| revision.data.as_ref()).map(Bytes::len).sum::<usize>();
            batch.push(TransactionRecord { tid, status, user, description, extension, revisions: saved });
            if bytes >= BATCH_BYTES {
                write(to, std::mem::take(&mut batch))?;
                bytes = 0;
                progress(salvage.transactions);
            }
        }
        write(to, batch)?;
        progress(salvage.transactions);
        Ok(())
    }
}

/// The tid of the next head that can be read; the others are noted.
fn next_head(heads: &mut Peekable<Walk<'_, Result<Head, &'static str>>>, salvage: &mut Salvage) -> Option<Tid> {
    loop {
        match heads.peek()? {
            Met::Row(tid, Ok(_)) => return Some(Tid(low(*tid))),
            Met::Row(tid, Err(why)) => salvage.row("transactions", Tid(low(*tid)), why),
            Met::Gap { .. } | Met::Astray(_) => {}
        }
        heads.next();
    }
}

/// The tid of the next place of which there is a row or a record; the others are noted.
fn next_place(
    places: &mut Peekable<Walk<'_, Result<(Oid, Tid), &'static str>>>,
    tables: &Tables<Reading>,
    salvage: &mut Salvage,
) -> Option<Tid> {
    loop {
        match places.peek()? {
            Met::Row(number, Ok((oid, tid))) => {
                let number = low(*number);
                if is_named(tables, *oid, *tid, number) {
                    return Some(*tid);
                }
                salvage.row("places", number, &format!("no row of object {oid} at {tid} has this number"));
            }
            Met::Row(number, Err(why)) => salvage.row("places", low(*number), why),
            Met::Gap { .. } | Met::Astray(_) => {}
        }
        places.next();
    }
}

/// Whether another table says of a place that it is right, or cannot tell.
fn is_named(tables: &Tables<Reading>, oid: Oid, tid: Tid, number: u64) -> bool {
    let head = || matches!(tables.head(tid), Ok(Some(head)) if head.revisions.contains(&(oid, number)));
    let row = || match tables.row(oid, tid) {
        Ok(Some(row)) => row.number == number,
        Ok(None) => false,
        Err(_) => true,
    };
    row() || head() || tables.record(oid, number).is_ok() || matches!(tables.overwritten(number), Ok(Some(_)))
}

fn fate(tables: &Tables<Reading>, oid: Oid, tid: Tid, number: u64, has_versions: bool) -> Fate {
    let of_record = || match tables.record(oid, number) {
        // Only a row says in which version a revision is.
        Ok(data) if !has_versions => {
            let version = Version::TRUNK;
            Fate::FromRecord(Revision { oid, version, data: Some(data), blob: None, source: None, base: None })
        }
        _ => Fate::Lost,
    };
    match tables.numbered(oid, tid, number) {
        // A tombstone has no record, so the row is wrong.
        Ok(Some(at)) if at.row.data == 0 && tables.record(oid, number).is_ok() => of_record(),
        Ok(Some(at)) => revision(tables, &at).map_or_else(|_| Fate::Lost, Fate::Whole),
        Ok(None) => match tables.place(number) {
            // The row was there: a pack takes both.
            Ok(Some(place)) if place == (oid, tid) && !tables.is_doomed(tid, number).unwrap_or(false) => of_record(),
            _ => Fate::Gone,
        },
        Err(_) => of_record(),
    }
}

/// The revision as it is told of. Its source and its base may be lost.
fn revision(tables: &Tables<Reading>, at: &At) -> Result<Revision> {
    let data = tables.data_of(at)?;
    let source = if data.is_some() { tables.holder(at).unwrap_or(None) } else { None };
    let base = tables.base(at).unwrap_or(at.row.base);
    Ok(Revision { oid: at.oid, version: tables.version(at.row.version)?, data, blob: None, source, base })
}

/// Of a transaction whose head is lost.
fn no_head() -> Head {
    let none = Bytes::new();
    Head {
        status: Status::Complete,
        user: none.clone(),
        description: none.clone(),
        extension: none,
        revisions: Vec::new(),
    }
}

fn write(to: &dyn Storage, batch: Vec<TransactionRecord>) -> Result<()> {
    if let Some(bulk) = to.bulk() {
        return bulk.copy_in(batch);
    }
    for TransactionRecord { tid, status, user, description, extension, revisions } in batch {
        let mut draft = to.begin(TransactionMeta { user, description, extension, tid: Some(tid), status })?;
        revisions.into_iter().try_for_each(|revision| draft.restore(revision))?;
        to.commit(draft)?;
    }
    Ok(())
}
