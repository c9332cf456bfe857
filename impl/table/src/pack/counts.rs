//! The counts of references: how many records refer to an object.
//!
//! They are kept *lazily*: a commit does not touch them. Each record has a number, later ones have greater ones, and
//! the fact `counted` says up to which number the records are counted. A pack by counts first counts the rest, in
//! steps. A record that is removed lowers the counts of what it refers to, if it was counted.
//!
//! ```text
//!     numbers   1 · 2 · 3 · 4 · 5 │ 6 · 7 · 8        commits add at the end, and pay nothing
//!                                 │
//!               in `holders`   counted      not yet counted: removing them lowers nothing
//! ```
//!
//! An object to which no counted record refers is in `unheld`: these are the only objects that a pack by counts has to
//! look at.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;
use vellum_storage::{Error, Oid, Result};

use crate::row::{Row, UNTOLD, decode_newest, decode_place};
use crate::tables::{Access, Tables, Writing, trouble};

impl Tables<Writing<'_>> {
    /// Counts the references of some records up to the last one, about so many of them. True: all are counted.
    pub(super) fn count_on(&mut self, last: u64, work_max: usize) -> Result<bool> {
        let first = self.facts.counted.saturating_add(1);
        if first > last {
            return Ok(true);
        }
        let (mut work, mut to) = (0, last);
        let (mut raised, mut untold) = (Vec::new(), Vec::new());
        for found in self.references.range(first..=last).map_err(|e| self.trouble(e))? {
            let (number, list) = found.map_err(|e| self.trouble(e))?;
            if work >= work_max {
                // At least one record was looked at.
                to = number.value() - 1;
                break;
            }
            work += 1 + list.value().len() / 8;
            match list.value() {
                UNTOLD => untold.push(number.value()),
                oids => raised.extend(oids.as_chunks().0.iter().map(|oid| (number.value(), Oid::from_bytes(*oid)))),
            }
        }
        let mut seen = BTreeSet::new();
        for (n, found) in self.places.range(first..=to).map_err(|e| self.trouble(e))?.enumerate() {
            let (number, place) = found.map_err(|e| self.trouble(e))?;
            if n >= work_max {
                to = number.value() - 1;
                break;
            }
            let place = decode_place(place.value());
            seen.insert(place.map_err(|why| self.damaged("places", number.value(), why))?.0);
        }
        let mut more: BTreeMap<Oid, u64> = BTreeMap::new();
        raised.iter().filter(|(number, _)| *number <= to).for_each(|(_, oid)| *more.entry(*oid).or_default() += 1);
        for (oid, more) in more {
            let count = self.holders_of(oid)?.saturating_add(more);
            let done = self.holders.insert(oid.0, count).map(drop).and_then(|()| self.unheld.remove(oid.0).map(drop));
            done.map_err(|e| self.trouble(e))?;
        }
        let more = untold.iter().filter(|number| **number <= to).count() as u64;
        self.facts.untold = self.facts.untold.saturating_add(more);
        for oid in seen {
            if self.holders_of(oid)? == 0 {
                self.note_unheld(oid)?;
            }
        }
        self.facts.counted = to;
        Ok(to == last)
    }

    /// Notes that no counted record refers to an object, if the object is there. The root needs no reference.
    fn note_unheld(&mut self, oid: Oid) -> Result<bool> {
        let is_there = oid != Oid::ROOT && self.object(oid)?.is_some();
        if is_there {
            let done = self.unheld.insert(oid.0, ()).map(drop);
            done.map_err(|e| self.trouble(e))?;
        }
        Ok(is_there)
    }

    /// One counted record less refers to an object.
    pub fn lower(&mut self, oid: Oid, fell: &mut Vec<Oid>) -> Result<()> {
        let count = self.holders_of(oid)?;
        if count == 0 {
            return Err(self.damaged("holders", oid, "it is missing, and a counted record refers to the object"));
        }
        if count > 1 {
            let done = self.holders.insert(oid.0, count - 1).map(drop);
            return done.map_err(|e| self.trouble(e));
        }
        let done = self.holders.remove(oid.0).map(drop);
        done.map_err(|e| self.trouble(e))?;
        if self.note_unheld(oid)? {
            fell.push(oid);
        }
        Ok(())
    }

    /// The table `spared` gets these objects, and no others.
    pub(super) fn spare_only(&mut self, oids: &[Oid]) -> Result<()> {
        while self.spared.pop_first().map_err(|e| trouble(&self.path, e))?.is_some() {}
        oids.iter().try_for_each(|oid| self.spare(*oid))
    }

    /// Notes that a pack kept more of an object than the rules say, for a voted transaction.
    pub(super) fn spare(&mut self, oid: Oid) -> Result<()> {
        let done = self.spared.insert(oid.0, ()).map(drop);
        done.map_err(|e| self.trouble(e))
    }
}

impl<A: Access> Tables<A> {
    /// Rule 4.10: the error of a database with a counted record that may hide references.
    pub(super) fn untold_error(&self) -> Error {
        let found = || -> Result<Option<Error>> {
            let mut at = None;
            for found in self.references.iter().map_err(|e| self.trouble(e))? {
                let (number, list) = found.map_err(|e| self.trouble(e))?;
                if list.value() == UNTOLD {
                    at = Some(number.value());
                    break;
                }
            }
            let Some(number) = at else { return Ok(None) };
            let oid = self.owner(number)?;
            let record = self.record(oid, number)?;
            let why = vellum_pickle::Scanner::new().scan_all(&record, |_| ()).err();
            let is_encrypted = why.as_ref().is_some_and(|why| why.is_encrypted());
            let why = why.map_or_else(|| "it may hide references".to_owned(), |why| why.to_string());
            Ok(Some(Error::Unreadable { oid, why, is_encrypted }))
        };
        let missing = || self.damaged("facts", "may hide references", "no record does");
        found().unwrap_or_else(Some).unwrap_or_else(missing)
    }

    /// The object of a record. The revision that brought it may be gone; then all rows are looked at.
    fn owner(&self, number: u64) -> Result<Oid> {
        if let Some((oid, _)) = self.place(number)? {
            return Ok(oid);
        }
        for found in self.objects.iter().map_err(|e| self.trouble(e))? {
            let (oid, row) = found.map_err(|e| self.trouble(e))?;
            if decode_newest(row.value()).is_ok_and(|(_, row)| row.data == number) {
                return Ok(Oid(oid.value()));
            }
        }
        for found in self.past.iter().map_err(|e| self.trouble(e))? {
            let (key, row) = found.map_err(|e| self.trouble(e))?;
            if Row::decode(row.value()).is_ok_and(|row| row.data == number) {
                return Ok(Oid(key.value().0));
            }
        }
        Err(self.damaged("data", number, "no revision has this record"))
    }
}
