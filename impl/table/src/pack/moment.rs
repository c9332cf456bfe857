//! The tables at the moment of a pack, as the collector asks about them. A revision's place is its number.

use std::sync::Arc;

use vellum_pickle::{Reference, Scanner};
use vellum_storage::{
    AtPlace, Collected, Content, EachPlace, Later, Oid, Own, Place, Refers, Result, Survivors, Tid, Write,
};

use crate::store::Snapshot;
use crate::tables::{Reading, Tables};
use crate::view::At;

pub(super) struct Moment<'a> {
    snapshot: &'a Snapshot,
    pub to: Tid,
    voted: &'a [Arc<Vec<Write>>],
    /// Whether the collector reads every record. The lists do not have references into other databases.
    reads_records: bool,
}

impl<'a> Moment<'a> {
    pub fn new(snapshot: &'a Snapshot, to: Tid, voted: &'a [Arc<Vec<Write>>]) -> Moment<'a> {
        Moment { snapshot, to, voted, reads_records: false }
    }

    /// Sets whether the collector reads every record.
    pub fn reads_records(self, reads_records: bool) -> Moment<'a> {
        Moment { reads_records, ..self }
    }

    /// The list of what a record refers to, if the collector may go by it.
    fn list(&self, number: u64) -> Result<Option<Vec<Oid>>> {
        if self.reads_records { Ok(None) } else { self.tables().references_of(number) }
    }

    pub fn tables(&self) -> &'a Tables<Reading> {
        &self.snapshot.tables
    }

    /// The object's newest revision that is not later than the time.
    fn newest_at(&self, oid: Oid) -> Result<Option<At>> {
        for at in self.tables().past(oid) {
            let at = at?;
            if at.tid <= self.to {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The place of the object's revision in that transaction, if it is not later than the time.
    fn place(&self, oid: Oid, tid: Option<Tid>) -> Result<Place> {
        let Some(tid) = tid.filter(|tid| *tid <= self.to) else { return Ok(0) };
        Ok(self.tables().at(oid, tid)?.map_or(0, |at| at.row.number))
    }

    fn numbered(&self, number: Place) -> Result<At> {
        let tables = self.tables();
        let missing = || tables.damaged("places", number, "it is missing, and a revision has this number");
        let (oid, tid) = tables.place(number)?.ok_or_else(missing)?;
        tables.numbered(oid, tid, number)?.ok_or_else(missing)
    }

    /// Gives the transactions that are later than a moment.
    fn each_later(tables: &Tables<Reading>, after: Tid, each: &mut dyn FnMut(At) -> Result<()>) -> Result<()> {
        let mut from = after.next();
        while let Some((tid, head)) = tables.head_in(from, Tid::MAX, false)? {
            for (oid, number) in head.revisions {
                if let Some(at) = tables.numbered(oid, tid, number)? {
                    each(at)?;
                }
            }
            if tid == Tid::MAX {
                break;
            }
            from = tid.next();
        }
        Ok(())
    }

    /// Whether a transaction that the collector did not see needs what is doomed.
    pub fn needs_more(
        &self,
        now: &Snapshot,
        voted: &[Arc<Vec<Write>>],
        survivors: &Survivors,
        collects: bool,
    ) -> Result<bool> {
        let mut more = false;
        let mut scanner = Scanner::new();
        let mut look = |oid: Oid, names: [Option<Tid>; 2], record: Option<&[u8]>| -> Result<()> {
            more |= self.newest(oid)? != 0 && !survivors.needs(oid);
            for name in names {
                let place = self.place(oid, name)?;
                more |= place != 0 && !survivors.keeps(self, oid, place)?;
            }
            let Some(record) = record else { return Ok(()) };
            let mut found = Vec::new();
            let scanned = scanner.scan_all(record, |reference| {
                if let Reference::Strong { oid, .. } = reference {
                    found.push(Oid(oid));
                }
            });
            // The next attempt says what is wrong with it.
            more |= scanned.is_err() && collects;
            for to in found {
                more |= self.newest(to)? != 0 && !survivors.needs(to);
            }
            Ok(())
        };
        Moment::each_later(&now.tables, self.snapshot.last, &mut |at| {
            let own = if at.row.data == at.row.number { now.tables.data_of(&at)? } else { None };
            look(at.oid, [at.row.source, at.row.base], own.as_deref())
        })?;
        for Write { oid, base, content, .. } in voted.iter().flat_map(|writes| writes.iter()) {
            match content {
                Content::Data(data) => look(*oid, [*base, None], Some(&data.bytes()?))?,
                Content::Shared(source) => look(*oid, [*base, Some(*source)], None)?,
                Content::Tombstone => look(*oid, [*base, None], None)?,
            }
        }
        Ok(more)
    }
}

impl Collected for Moment<'_> {
    fn newest(&self, oid: Oid) -> Result<Place> {
        Ok(self.newest_at(oid)?.map_or(0, |at| at.row.number))
    }

    fn known(&self, oid: Oid) -> Result<bool> {
        let to_come = || self.voted.iter().any(|writes| writes.iter().any(|write| write.oid == oid));
        Ok(self.tables().newest(oid)?.is_some() || to_come())
    }

    fn is_rootless(&self) -> Result<bool> {
        Ok(self.tables().object_from(Oid::ROOT)?.is_some_and(|first| first != Oid::ROOT))
    }

    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()> {
        for place in places {
            let at = self.numbered(*place)?;
            let base = self.place(at.oid, at.row.base)?;
            if base >= *place {
                return Err(self.tables().damaged("past", at.oid, "a revision has a later one as its base"));
            }
            if at.row.data == 0 {
                each(AtPlace { oid: at.oid, data: None, base })?;
            } else if let Some(oids) = self.list(at.row.data)? {
                each(AtPlace { oid: at.oid, data: Some(Refers::To(&oids)), base })?;
            } else {
                // The collector says what is wrong with it.
                let record = self.tables().record(at.oid, at.row.data)?;
                each(AtPlace { oid: at.oid, data: Some(Refers::Record(&record)), base })?;
            }
        }
        Ok(())
    }

    fn later(&self, each: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()> {
        Moment::each_later(self.tables(), self.to, &mut |at| {
            each(Later {
                oid: at.oid,
                data: if at.row.data == at.row.number { Own::At(at.row.number) } else { Own::None },
                source: self.place(at.oid, at.row.source)?,
                base: self.place(at.oid, at.row.base)?,
            })
        })?;
        for Write { oid, base, content, .. } in self.voted.iter().flat_map(|writes| writes.iter()) {
            let (record, source) = match content {
                Content::Data(data) => (Some(data.bytes()?), None),
                Content::Shared(source) => (None, Some(*source)),
                Content::Tombstone => (None, None),
            };
            let data = record.as_deref().map_or(Own::None, Own::Record);
            each(Later { oid: *oid, data, source: self.place(*oid, source)?, base: self.place(*oid, *base)? })?;
        }
        Ok(())
    }

    fn something(&self, each: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()> {
        let tables = self.tables();
        let mut from = Some(Oid::ROOT);
        while let Some(oid) = from.map_or(Ok(None), |from| tables.object_from(from))? {
            if let Some(newest) = self.newest_at(oid)? {
                let base = newest.row.base.map_or(Ok(None), |base| tables.at(oid, base))?;
                let is_something = |at: At| at.row.data != 0;
                if is_something(newest) || base.is_some_and(is_something) {
                    each(oid)?;
                }
            }
            from = oid.0.checked_add(1).map(Oid);
        }
        Ok(())
    }
}
