//! Checking each table against the others: what [docs/table.md](../../../docs/table.md) says must hold.
//!
//! It reads one snapshot from beginning to end, beside commits. Memory: 16 bytes for each record that several revisions
//! have, one transaction, and the counts of a million objects.

mod holders;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use redb::ReadableTable;
use vellum_storage::{Oid, Result, Tid};

use crate::facts::FORMAT;
use crate::row::{Row, decode_newest, decode_place};
use crate::storage::TableStorage;
use crate::tables::{Reading, Tables, door};
use crate::write::references;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The table.
    pub table: &'static str,
    /// The key of the row.
    pub row: String,
    /// The fault.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table `{}`, row {}: {}", self.table, self.row, self.what)
    }
}

impl TableStorage {
    /// Checks each table against the others, and tells what does not hold. Commits go on beside it.
    ///
    /// # Errors
    ///
    /// The store cannot be read on: a page of it is damaged, or the disk fails.
    pub fn check(&self, each: &mut dyn FnMut(Problem)) -> Result<()> {
        let now = self.shared.store.now_full();
        door(self.path(), || Check { tables: &now.tables, each, counts: HashMap::new() }.all())
    }
}

struct Check<'a> {
    tables: &'a Tables<Reading>,
    each: &'a mut dyn FnMut(Problem),
    /// How many rows name a record, where it is not only the row of its own number.
    counts: HashMap<u64, u64>,
}

impl Check<'_> {
    fn problem(&mut self, table: &'static str, row: impl fmt::Display, what: impl Into<String>) {
        (self.each)(Problem { table, row: row.to_string(), what: what.into() });
    }

    fn all(mut self) -> Result<()> {
        self.facts();
        self.objects()?;
        self.past()?;
        self.overwritten()?;
        self.places()?;
        self.transactions()?;
        self.data()?;
        self.counts()?;
        self.references()?;
        self.holders()?;
        self.unheld()?;
        self.versions()?;
        self.unowned()?;
        self.doomed()
    }

    fn facts(&mut self) {
        let facts = self.tables.facts;
        if facts.format != FORMAT {
            self.problem("facts", "format", format!("it is {}, and not {FORMAT}", facts.format));
        }
    }

    /// The rules for a row in whatever table.
    fn row(&mut self, table: &'static str, oid: Oid, tid: Tid, row: &Row) -> Result<()> {
        let key = format!("{oid} {tid}");
        if row.data != 0 && row.data != row.number {
            *self.counts.entry(row.data).or_default() += 1;
        }
        for (name, other) in [("source", row.source), ("base", row.base)] {
            if other.is_some_and(|other| other >= tid) {
                self.problem(table, &key, format!("its {name} is not earlier"));
            }
        }
        if self.tables.version(row.version).is_err() {
            self.problem(table, &key, format!("its version {} has no name", row.version));
        }
        if self.tables.place(row.number).ok().flatten() != Some((oid, tid)) {
            self.problem(table, &key, format!("`places` has not its number, {}", row.number));
        }
        // A pack removes bases and sources of what it keeps.
        let kept = tid <= self.tables.facts.packed_to;
        for (name, other) in [("source", row.source), ("base", row.base)] {
            if let Some(other) = other.filter(|_| !kept && !row.is_packed)
                && self.tables.row(oid, other)?.is_none()
            {
                self.problem(table, &key, format!("its {name}, {other}, is missing"));
            }
        }
        if row.data != 0
            && let Err(error) = self.tables.record(oid, row.data)
        {
            self.problem(table, &key, format!("its record cannot be read: {error}"));
        }
        // A row that a pack hides is in the list until both go.
        let head = self.tables.head(tid)?;
        if !head.is_some_and(|head| head.revisions.contains(&(oid, row.number))) {
            self.problem(table, &key, "its transaction does not name it");
        }
        Ok(())
    }

    fn objects(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.objects.iter().map_err(|e| tables.trouble(e))? {
            let (oid, value) = found.map_err(|e| tables.trouble(e))?;
            let oid = Oid(oid.value());
            match decode_newest(value.value()) {
                Err(why) => self.problem("objects", oid, why),
                Ok((tid, row)) => {
                    self.row("objects", oid, tid, &row)?;
                    if tables.older_before(oid, Tid::MAX).is_ok_and(|past| past.is_some_and(|(past, _)| past >= tid)) {
                        self.problem("objects", oid, "`past` has a later revision");
                    }
                    let noted = tables.in_versions.get((row.version, oid.0)).map_err(|e| tables.trouble(e))?;
                    if row.version != 0 && noted.is_none() {
                        self.problem("objects", oid, "`in_versions` has not its version");
                    }
                }
            }
        }
        Ok(())
    }

    fn past(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.past.iter().map_err(|e| tables.trouble(e))? {
            let (key, value) = found.map_err(|e| tables.trouble(e))?;
            let (oid, tid) = (Oid(key.value().0), Tid(key.value().1));
            match Row::decode(value.value()) {
                Err(why) => self.problem("past", format_args!("{oid} {tid}"), why),
                Ok(row) => {
                    self.row("past", oid, tid, &row)?;
                    if !matches!(tables.object(oid), Ok(Some(_)) | Err(_)) {
                        self.problem("past", format_args!("{oid} {tid}"), "`objects` has not its object");
                    }
                }
            }
        }
        Ok(())
    }

    fn overwritten(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.overwritten.iter().map_err(|e| tables.trouble(e))? {
            let (number, value) = found.map_err(|e| tables.trouble(e))?;
            let number = number.value();
            match (Row::decode(value.value()), tables.place(number)?) {
                (Err(why), _) => self.problem("overwritten", number, why),
                (Ok(row), _) if row.number != number => {
                    self.problem("overwritten", number, "its row has another number")
                }
                (Ok(_), None) => self.problem("overwritten", number, "`places` has not its number"),
                (Ok(row), Some((oid, tid))) => self.row("overwritten", oid, tid, &row)?,
            }
        }
        Ok(())
    }

    fn places(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.places.iter().map_err(|e| tables.trouble(e))? {
            let (number, value) = found.map_err(|e| tables.trouble(e))?;
            let number = number.value();
            let (oid, tid) = match decode_place(value.value()) {
                Err(why) => {
                    self.problem("places", number, why);
                    continue;
                }
                Ok(place) => place,
            };
            let is_row = tables.row(oid, tid).is_ok_and(|row| row.is_some_and(|row| row.number == number));
            if !is_row && !tables.overwritten(number).is_ok_and(|row| row.is_some()) {
                self.problem("places", number, format!("no row of object {oid} at {tid} has this number"));
            }
        }
        Ok(())
    }

    fn transactions(&mut self) -> Result<()> {
        let tables = self.tables;
        let mut from = Tid::ZERO;
        while let Some((tid, head)) = tables.head_in(from, Tid::MAX, false)? {
            for (oid, number) in head.revisions {
                if tables.place(number)? != Some((oid, tid)) {
                    self.problem("transactions", tid, format!("its revision {number} of object {oid} is missing"));
                }
            }
            if tid == Tid::MAX {
                break;
            }
            from = tid.next();
        }
        Ok(())
    }

    /// The rows were looked at before this: `counts` is complete.
    fn data(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.data.iter().map_err(|e| tables.trouble(e))? {
            let number = found.map_err(|e| tables.trouble(e))?.0.value();
            let others = self.counts.remove(&number).unwrap_or(0);
            let count = others + u64::from(self.has_own(number)?);
            if count == 0 {
                self.problem("data", number, "no revision has this record");
            } else if tables.count(number)? != count {
                let what = format!("it says {}, and {count} revisions have the record", tables.count(number)?);
                self.problem("counts", number, what);
            }
        }
        let mut missing: Vec<u64> = self.counts.keys().copied().collect();
        missing.sort_unstable();
        missing.into_iter().for_each(|number| self.problem("data", number, "it is missing, and a revision names it"));
        Ok(())
    }

    /// Whether the revision of this number has the record of this number.
    fn has_own(&self, number: u64) -> Result<bool> {
        let Some((oid, tid)) = self.tables.place(number)? else { return Ok(false) };
        let row = match self.tables.row(oid, tid)? {
            Some(row) if row.number == number => Some(row),
            _ => self.tables.overwritten(number)?,
        };
        Ok(row.is_some_and(|row| row.data == number))
    }

    fn counts(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.counts.iter().map_err(|e| tables.trouble(e))? {
            let (number, count) = found.map_err(|e| tables.trouble(e))?;
            let (number, count) = (number.value(), count.value());
            if count < 2 {
                self.problem("counts", number, format!("it says {count}, and less than two are not noted"));
            }
            if tables.data.get(number).map_err(|e| tables.trouble(e))?.is_none() {
                self.problem("counts", number, "there is no record of this number");
            }
        }
        Ok(())
    }

    fn references(&mut self) -> Result<()> {
        let tables = self.tables;
        let mut noted = tables.references.iter().map_err(|e| tables.trouble(e))?.peekable();
        for found in tables.data.iter().map_err(|e| tables.trouble(e))? {
            let (number, value) = found.map_err(|e| tables.trouble(e))?;
            let (number, value) = (number.value(), value.value());
            let wanted = references(value.get(4..).unwrap_or_default());
            let mut is_right = wanted.is_empty();
            while let Some(next) = noted.next_if(|next| !matches!(next, Ok((at, _)) if at.value() > number)) {
                let (at, noted) = next.map_err(|e| tables.trouble(e))?;
                match at.value() == number {
                    true => is_right = *noted.value() == wanted[..],
                    false => self.problem("references", at.value(), "there is no record of this number"),
                }
            }
            if !is_right {
                self.problem("references", number, "it has not what the record refers to");
            }
        }
        for rest in noted {
            let (at, _) = rest.map_err(|e| tables.trouble(e))?;
            self.problem("references", at.value(), "there is no record of this number");
        }
        Ok(())
    }

    fn versions(&mut self) -> Result<()> {
        let tables = self.tables;
        let mut named = BTreeSet::new();
        for found in tables.names.iter().map_err(|e| tables.trouble(e))? {
            let (number, name) = found.map_err(|e| tables.trouble(e))?;
            let there = tables.versions.get(name.value()).map_err(|e| tables.trouble(e))?.map(|found| found.value());
            if there != Some(number.value()) {
                self.problem("names", number.value(), "`versions` has another number for this name");
            }
            named.insert(number.value());
        }
        for found in tables.versions.iter().map_err(|e| tables.trouble(e))? {
            let (name, number) = found.map_err(|e| tables.trouble(e))?;
            if !named.contains(&number.value()) {
                let name = String::from_utf8_lossy(name.value()).into_owned();
                self.problem("versions", name, "`names` has not its number");
            }
        }
        for found in tables.in_versions.iter().map_err(|e| tables.trouble(e))? {
            let (version, oid) = found.map_err(|e| tables.trouble(e))?.0.value();
            let newest = tables.object(Oid(oid)).ok().flatten();
            if newest.is_none_or(|(_, row)| row.version != version) {
                self.problem(
                    "in_versions",
                    format_args!("{version} {}", Oid(oid)),
                    "the object is not in this version",
                );
            }
        }
        Ok(())
    }

    /// The next opening removes the files that are named there.
    fn unowned(&mut self) -> Result<()> {
        let tables = self.tables;
        let Some(unowned) = &tables.unowned else { return Ok(()) };
        for found in unowned.iter().map_err(|e| tables.trouble(e))? {
            let (oid, tid) = found.map_err(|e| tables.trouble(e))?.0.value();
            let (oid, tid) = (Oid(oid), Tid(tid));
            if tables.row(oid, tid)?.is_some() {
                self.problem("unowned", format_args!("{oid} {tid}"), "there is a revision of this name");
            }
        }
        Ok(())
    }

    fn doomed(&mut self) -> Result<()> {
        let tables = self.tables;
        for found in tables.doomed.iter().map_err(|e| tables.trouble(e))? {
            let (key, oid) = found.map_err(|e| tables.trouble(e))?;
            let ((tid, number), oid) = (key.value(), oid.value());
            let is_there = match number {
                0 => tables.head(Tid(tid))?.is_some(),
                number => tables.place(number)? == Some((Oid(oid), Tid(tid))),
            };
            if !is_there {
                self.problem("doomed", format_args!("{} {number}", Tid(tid)), "there is no such revision");
            }
        }
        Ok(())
    }
}
