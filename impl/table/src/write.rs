//! Writing a transaction into the tables.

use std::collections::HashMap;

use bytes::Bytes;
use redb::ReadableTable;
use vellum_pickle::{Reference, Scanner};
use vellum_storage::{Content, Oid, Result, Status, Tid, TransactionMeta, Version, Write};

use crate::row::{Head, Row, UNTOLD, checksum, encode_newest, encode_place};
use crate::tables::{Tables, Writing};

/// A judged transaction with its tid.
pub(crate) struct Ready<'a> {
    pub tid: Tid,
    pub meta: &'a TransactionMeta,
    pub writes: &'a [Write],
}

impl Tables<Writing<'_>> {
    /// Writes it; `number` is the last one that a revision has.
    pub fn write(&mut self, Ready { tid, meta, writes }: Ready<'_>, number: &mut u64) -> Result<()> {
        let last: HashMap<Oid, usize> = writes.iter().enumerate().map(|(n, write)| (write.oid, n)).collect();
        // Rule 4.12: a history-free database packs by itself.
        let is_packed = meta.status == Status::Packed && !self.facts.is_history_free;
        let mut revisions = Vec::with_capacity(writes.len());
        for (n, write) in writes.iter().enumerate() {
            let next = number.checked_add(1);
            *number = next.ok_or(vellum_storage::Error::Exhausted { what: "numbers of records" })?;
            let row = self.row_of(write, *number, is_packed)?;
            if last[&write.oid] == n {
                self.put(write.oid, tid, row)?;
            } else {
                let done = self.overwritten.insert(row.number, &row.encode()[..]).map(drop);
                done.map_err(|e| self.trouble(e))?;
            }
            let done = self.places.insert(row.number, &encode_place(write.oid, tid)[..]).map(drop);
            done.map_err(|e| self.trouble(e))?;
            revisions.push((write.oid, row.number));
        }
        let TransactionMeta { user, description, extension, .. } = meta.clone();
        let status = if is_packed { Status::Packed } else { Status::Complete };
        let head = Head { status, user, description, extension, revisions };
        let done = self.transactions.insert(tid.0, &head.encode()[..]).map(drop);
        done.map_err(|e| self.trouble(e))?;
        if is_packed {
            self.facts.copied_packed = tid;
        }
        Ok(())
    }

    fn row_of(&mut self, Write { oid, version, base, content }: &Write, number: u64, is_packed: bool) -> Result<Row> {
        let version = self.number_of(version)?;
        let row = Row { number, data: 0, source: None, base: *base, version, is_packed };
        match content {
            Content::Tombstone => Ok(row),
            Content::Data(data) => {
                self.put_data(*oid, number, &data.bytes()?)?;
                Ok(Row { data: number, ..row })
            }
            Content::Shared(source) => {
                let missing = || self.damaged("past", oid, "a revision is missing whose data was to be shared");
                let shared = self.row(*oid, *source)?.ok_or_else(missing)?;
                if shared.data != 0 {
                    let count = self.count(shared.data)?.saturating_add(1);
                    self.set_count(shared.data, count)?;
                }
                Ok(Row { data: shared.data, source: Some(*source), ..row })
            }
        }
    }

    fn put_data(&mut self, oid: Oid, number: u64, record: &[u8]) -> Result<()> {
        let room = self.data.insert_reserve(number, record.len() + 4);
        let mut room = room.map_err(|e| crate::tables::trouble(&self.path, e))?;
        room.as_mut()[..4].copy_from_slice(&checksum(oid, number, record));
        room.as_mut()[4..].copy_from_slice(record);
        drop(room);
        let (references, is_abroad) = references_and_abroad(record);
        self.facts.is_one_of_several |= is_abroad;
        if !references.is_empty() {
            let done = self.references.insert(number, &references[..]).map(drop);
            done.map_err(|e| self.trouble(e))?;
        }
        Ok(())
    }

    fn set_count(&mut self, number: u64, count: u64) -> Result<()> {
        let done = match count {
            0 | 1 => self.counts.remove(number).map(drop),
            count => self.counts.insert(number, count).map(drop),
        };
        done.map_err(|e| self.trouble(e))
    }

    /// Makes it the newest revision of its object.
    fn put(&mut self, oid: Oid, tid: Tid, row: Row) -> Result<()> {
        let old = self.object(oid)?;
        if let Some((old_tid, old)) = old {
            let done = self.past.insert((oid.0, old_tid.0), &old.encode()[..]).map(drop);
            done.map_err(|e| self.trouble(e))?;
        }
        let done = self.objects.insert(oid.0, &encode_newest(tid, &row)[..]).map(drop);
        done.map_err(|e| self.trouble(e))?;
        let (before, now) = (old.map_or(0, |(_, old)| old.version), row.version);
        if before != now && before != 0 {
            let done = self.in_versions.remove((before, oid.0)).map(drop);
            done.map_err(|e| self.trouble(e))?;
        }
        if before != now && now != 0 {
            let done = self.in_versions.insert((now, oid.0), ()).map(drop);
            done.map_err(|e| self.trouble(e))?;
        }
        Ok(())
    }

    /// The number of a version; a new one gets the next.
    fn number_of(&mut self, version: &Version) -> Result<u32> {
        if let Some(number) = self.version_number(version)? {
            return Ok(number);
        }
        let last = self.names.last().map_err(|e| crate::tables::trouble(&self.path, e))?;
        let last = last.map_or(0, |(number, _)| number.value());
        let number = last.checked_add(1).ok_or(vellum_storage::Error::Exhausted { what: "numbers of versions" })?;
        let name: &[u8] = version.name();
        let done =
            self.names.insert(number, name).map(drop).and_then(|()| self.versions.insert(name, number).map(drop));
        done.map_err(|e| self.trouble(e))?;
        Ok(number)
    }

    /// Takes a revision away; its data goes with the last one that has it. The objects to which then no counted record
    /// refers go to `fell`.
    pub fn remove(&mut self, oid: Oid, tid: Tid, number: u64, fell: &mut Vec<Oid>) -> Result<()> {
        let row = match self.object(oid)? {
            Some((newest, row)) if newest == tid && row.number == number => {
                self.disown_blob(oid, tid, row)?;
                let done = self.objects.remove(oid.0).map(drop).and_then(|()| self.unheld.remove(oid.0).map(drop));
                done.map_err(|e| self.trouble(e))?;
                if row.version != 0 {
                    let done = self.in_versions.remove((row.version, oid.0)).map(drop);
                    done.map_err(|e| self.trouble(e))?;
                }
                row
            }
            _ => match self.older(oid, tid)?.filter(|row| row.number == number) {
                Some(row) => {
                    self.disown_blob(oid, tid, row)?;
                    let done = self.past.remove((oid.0, tid.0)).map(drop);
                    done.map_err(|e| self.trouble(e))?;
                    row
                }
                // Rule 8.1: it has no blob. A file of this name is of the revision that came after it.
                None => {
                    let missing = || self.damaged("doomed", number, "it names a revision that is missing");
                    let row = self.overwritten(number)?.ok_or_else(missing)?;
                    let done = self.overwritten.remove(number).map(drop);
                    done.map_err(|e| self.trouble(e))?;
                    row
                }
            },
        };
        let done = self.places.remove(number).map(drop);
        done.map_err(|e| self.trouble(e))?;
        if row.data != 0 {
            self.release(row.data, fell)?;
        }
        Ok(())
    }

    /// Rule 8.4: the file of a revision that is removed goes.
    fn disown_blob(&mut self, oid: Oid, tid: Tid, row: Row) -> Result<()> {
        if row.data != 0 && self.may_have_blob(row.data)? { self.disown(&[(oid, tid)]) } else { Ok(()) }
    }

    /// Notes that files of these names belong to no revision.
    pub fn disown(&mut self, names: &[(Oid, Tid)]) -> Result<()> {
        let Some(unowned) = &mut self.unowned else { return Ok(()) };
        let done = names.iter().try_for_each(|(oid, tid)| unowned.insert((oid.0, tid.0), ()).map(drop));
        done.map_err(|e| self.trouble(e))
    }

    /// Forgets that: there is no such file, or a revision has it.
    pub fn own(&mut self, names: &[(Oid, Tid)]) -> Result<()> {
        let Some(unowned) = &mut self.unowned else { return Ok(()) };
        let done = names.iter().try_for_each(|(oid, tid)| unowned.remove((oid.0, tid.0)).map(drop));
        done.map_err(|e| self.trouble(e))
    }

    /// One revision less has this data.
    fn release(&mut self, number: u64, fell: &mut Vec<Oid>) -> Result<()> {
        let count = self.count(number)?;
        if count > 1 {
            return self.set_count(number, count - 1);
        }
        if number <= self.facts.counted {
            match self.references_of(number)? {
                Some(oids) => oids.into_iter().try_for_each(|oid| self.lower(oid, fell))?,
                None => self.facts.untold = self.facts.untold.saturating_sub(1),
            }
        }
        let done = self.data.remove(number).map(drop).and_then(|()| self.references.remove(number).map(drop));
        done.map_err(|e| self.trouble(e))
    }

    /// Writes the facts down.
    pub fn write_facts(&mut self) -> Result<()> {
        let facts = self.facts;
        facts.write(&self.path, &mut self.stored_facts)
    }
}

/// The objects that a record refers to strongly, each once, as a row of `references` has them.
pub(crate) fn references(record: &[u8]) -> Bytes {
    references_and_abroad(record).0
}

/// The same, and whether the record refers into another database.
fn references_and_abroad(record: &[u8]) -> (Bytes, bool) {
    let (mut found, mut is_abroad) = (Vec::new(), false);
    let scanned = Scanner::new().scan_all(record, |reference| match reference {
        Reference::Strong { oid, .. } => found.push(oid),
        Reference::Foreign { .. } => is_abroad = true,
        _ => {}
    });
    if scanned.is_err() {
        return (Bytes::from_static(UNTOLD), is_abroad);
    }
    found.sort_unstable();
    found.dedup();
    (found.into_iter().flat_map(u64::to_be_bytes).collect(), is_abroad)
}
