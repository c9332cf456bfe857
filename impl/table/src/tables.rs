//! The tables: which there are, and how they are read and changed. [docs/table.md](../../../docs/table.md) has them
//! byte by byte.
//!
//! ```text
//!   objects       oid            ▶ tid, row         the newest revision of each object
//!   past          oid, tid       ▶ row              the older ones
//!   overwritten   number         ▶ row              revisions that their own transaction wrote over
//!   places        number         ▶ oid, tid         where a revision is
//!   data          number         ▶ record           under the number of the revision that brought it
//!   counts        number         ▶ count            how many revisions have that data, if more than one
//!   references    number         ▶ oids             the objects that the record refers to, if any
//!   holders       oid            ▶ count            how many counted records refer to the object, if any
//!   unheld        oid            ▶                  the objects to which none refers
//!   spared        oid            ▶                  objects of which a pack kept more for a voted transaction
//!   transactions  tid            ▶ head             metadata, and the list of revisions
//!   names         version        ▶ name             the names of versions
//!   versions      name           ▶ version          the same, the other way round
//!   in_versions   version, oid   ▶                  the objects whose newest revision is in a version
//!   doomed        tid, number    ▶ oid              revisions that a pack removes
//!   facts         name           ▶ number           the rest: see `facts.rs`
//! ```
//!
//! The tables of a snapshot and those of a transaction of the store have one type of code, since both can be read.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, Value,
    WriteTransaction,
};
use vellum_storage::{Error, Oid, Result, Tid, Version, may_have_blob};

use crate::facts::Facts;
use crate::row::{self, Head, Row};

type Rows = &'static [u8];

const OBJECTS: TableDefinition<u64, Rows> = TableDefinition::new("objects");
const PAST: TableDefinition<(u64, u64), Rows> = TableDefinition::new("past");
const OVERWRITTEN: TableDefinition<u64, Rows> = TableDefinition::new("overwritten");
const PLACES: TableDefinition<u64, Rows> = TableDefinition::new("places");
const DATA: TableDefinition<u64, Rows> = TableDefinition::new("data");
const COUNTS: TableDefinition<u64, u64> = TableDefinition::new("counts");
const REFERENCES: TableDefinition<u64, Rows> = TableDefinition::new("references");
const HOLDERS: TableDefinition<u64, u64> = TableDefinition::new("holders");
const UNHELD: TableDefinition<u64, ()> = TableDefinition::new("unheld");
const SPARED: TableDefinition<u64, ()> = TableDefinition::new("spared");
const TRANSACTIONS: TableDefinition<u64, Rows> = TableDefinition::new("transactions");
const NAMES: TableDefinition<u32, Rows> = TableDefinition::new("names");
const VERSIONS: TableDefinition<Rows, u32> = TableDefinition::new("versions");
const IN_VERSIONS: TableDefinition<(u32, u64), ()> = TableDefinition::new("in_versions");
const UNOWNED: TableDefinition<(u64, u64), ()> = TableDefinition::new("unowned");
const DOOMED: TableDefinition<(u64, u64), u64> = TableDefinition::new("doomed");
const FACTS: TableDefinition<&'static str, u64> = TableDefinition::new("facts");

/// How tables are opened: to read, or to read and write.
pub(crate) trait Access {
    type Table<K: Key + 'static, V: Value + 'static>: ReadableTable<K, V>;
}

/// Of a moment, for all threads.
pub(crate) struct Reading;

impl Access for Reading {
    type Table<K: Key + 'static, V: Value + 'static> = ReadOnlyTable<K, V>;
}

/// Of a transaction of the store.
pub(crate) struct Writing<'t>(std::marker::PhantomData<&'t ()>);

impl<'t> Access for Writing<'t> {
    type Table<K: Key + 'static, V: Value + 'static> = Table<'t, K, V>;
}

pub(crate) struct Tables<A: Access> {
    pub path: Arc<Path>,
    /// As they were when the tables were opened, with the changes that were made since.
    pub facts: Facts,
    pub objects: A::Table<u64, Rows>,
    pub past: A::Table<(u64, u64), Rows>,
    pub overwritten: A::Table<u64, Rows>,
    pub places: A::Table<u64, Rows>,
    pub data: A::Table<u64, Rows>,
    pub counts: A::Table<u64, u64>,
    pub references: A::Table<u64, Rows>,
    pub holders: A::Table<u64, u64>,
    pub unheld: A::Table<u64, ()>,
    pub spared: A::Table<u64, ()>,
    pub transactions: A::Table<u64, Rows>,
    pub names: A::Table<u32, Rows>,
    pub versions: A::Table<Rows, u32>,
    pub in_versions: A::Table<(u32, u64), ()>,
    /// None if the database was never opened for writing with a blob folder: no file can be of one of its revisions.
    pub unowned: Option<A::Table<(u64, u64), ()>>,
    pub doomed: A::Table<(u64, u64), u64>,
    pub stored_facts: A::Table<&'static str, u64>,
}

/// Opens all tables, by the method of one kind of transaction; `unowned` if it is asked for, and can be had.
macro_rules! open {
    ($path:expr, $transaction:expr, $unowned:expr) => {{
        let (path, transaction): (&Arc<Path>, _) = ($path, $transaction);
        let opened = || -> Result<_, redb::TableError> {
            Ok(Tables {
                path: Arc::clone(path),
                facts: Facts::default(),
                objects: transaction.open_table(OBJECTS)?,
                past: transaction.open_table(PAST)?,
                overwritten: transaction.open_table(OVERWRITTEN)?,
                places: transaction.open_table(PLACES)?,
                data: transaction.open_table(DATA)?,
                counts: transaction.open_table(COUNTS)?,
                references: transaction.open_table(REFERENCES)?,
                holders: transaction.open_table(HOLDERS)?,
                unheld: transaction.open_table(UNHELD)?,
                spared: transaction.open_table(SPARED)?,
                transactions: transaction.open_table(TRANSACTIONS)?,
                names: transaction.open_table(NAMES)?,
                versions: transaction.open_table(VERSIONS)?,
                in_versions: transaction.open_table(IN_VERSIONS)?,
                unowned: match $unowned.then(|| transaction.open_table(UNOWNED)) {
                    None | Some(Err(redb::TableError::TableDoesNotExist(_))) => None,
                    Some(opened) => Some(opened?),
                },
                doomed: transaction.open_table(DOOMED)?,
                stored_facts: transaction.open_table(FACTS)?,
            })
        };
        opened().map_err(|error| trouble(path, error))
    }};
}

impl Tables<Reading> {
    pub fn reading(path: &Arc<Path>, transaction: &ReadTransaction) -> Result<Tables<Reading>> {
        Tables::without_facts(path, transaction)?.with_facts()
    }

    /// The same, for tables of which any can be damaged.
    pub fn without_facts(path: &Arc<Path>, transaction: &ReadTransaction) -> Result<Tables<Reading>> {
        open!(path, transaction, true)
    }
}

impl<'t> Tables<Writing<'t>> {
    /// Makes the tables that are not there. `unowned` is used, and made, if it is asked for.
    pub fn writing(path: &Arc<Path>, transaction: &'t WriteTransaction, unowned: bool) -> Result<Tables<Writing<'t>>> {
        let opened: Result<Tables<Writing<'t>>> = open!(path, transaction, unowned);
        opened?.with_facts()
    }
}

/// An error of the store.
pub(crate) fn trouble(path: &Path, error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(source) => Error::io(path, "using the store", source),
        other => damaged(path, &other.to_string()),
    }
}

/// Tables that contradict the format, or each other.
pub(crate) fn damaged(path: &Path, what: &str) -> Error {
    let what = format!("{what}. `vellum check` finds all that is wrong; `vellum recover` saves what can be read");
    Error::io(path, "reading the tables", std::io::Error::new(std::io::ErrorKind::InvalidData, what))
}

/// Does something with the store. It does not check the pages that it reads, and panics on some damaged ones: that is
/// an error here.
pub(crate) fn door<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|panic| Err(damaged(path, &format!("a page of the store is damaged ({})", said(&*panic)))))
}

/// The message of a panic.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// The name of a row, for a message.
fn of(table: &str, key: impl std::fmt::Display, why: &str) -> String {
    format!("table `{table}`, row {key}: {why}")
}

impl<A: Access> Tables<A> {
    fn with_facts(self) -> Result<Tables<A>> {
        Ok(Tables { facts: Facts::read(&self.path, &self.stored_facts)?, ..self })
    }

    pub fn trouble(&self, error: impl Into<redb::Error>) -> Error {
        trouble(&self.path, error)
    }

    pub fn damaged(&self, table: &str, key: impl std::fmt::Display, why: &str) -> Error {
        damaged(&self.path, &of(table, key, why))
    }

    /// The newest revision of an object, as its row stands.
    pub fn object(&self, oid: Oid) -> Result<Option<(Tid, Row)>> {
        door(&self.path, || {
            let Some(found) = self.objects.get(oid.0).map_err(|e| self.trouble(e))? else { return Ok(None) };
            row::decode_newest(found.value()).map(Some).map_err(|why| self.damaged("objects", oid, why))
        })
    }

    /// An older revision, as its row stands.
    pub fn older(&self, oid: Oid, tid: Tid) -> Result<Option<Row>> {
        door(&self.path, || {
            let Some(found) = self.past.get((oid.0, tid.0)).map_err(|e| self.trouble(e))? else { return Ok(None) };
            self.past_row(oid, tid, found.value()).map(Some)
        })
    }

    /// The older revision of the object that is the newest before a transaction.
    pub fn older_before(&self, oid: Oid, before: Tid) -> Result<Option<(Tid, Row)>> {
        door(&self.path, || {
            let mut range = self.past.range((oid.0, 0)..(oid.0, before.0)).map_err(|e| self.trouble(e))?;
            let Some(found) = range.next_back() else { return Ok(None) };
            let (key, value) = found.map_err(|e| self.trouble(e))?;
            let tid = Tid(key.value().1);
            Ok(Some((tid, self.past_row(oid, tid, value.value())?)))
        })
    }

    fn past_row(&self, oid: Oid, tid: Tid, bytes: &[u8]) -> Result<Row> {
        Row::decode(bytes).map_err(|why| self.damaged("past", format_args!("{oid} {tid}"), why))
    }

    /// The revision of that transaction, as its row stands.
    pub fn row(&self, oid: Oid, tid: Tid) -> Result<Option<Row>> {
        door(&self.path, || match self.object(oid)? {
            Some((newest, row)) if newest == tid => Ok(Some(row)),
            _ => self.older(oid, tid),
        })
    }

    /// A revision that its own transaction wrote over.
    pub fn overwritten(&self, number: u64) -> Result<Option<Row>> {
        door(&self.path, || {
            let Some(found) = self.overwritten.get(number).map_err(|e| self.trouble(e))? else { return Ok(None) };
            Row::decode(found.value()).map(Some).map_err(|why| self.damaged("overwritten", number, why))
        })
    }

    /// Where the revision of a number is.
    pub fn place(&self, number: u64) -> Result<Option<(Oid, Tid)>> {
        door(&self.path, || {
            let Some(found) = self.places.get(number).map_err(|e| self.trouble(e))? else { return Ok(None) };
            row::decode_place(found.value()).map(Some).map_err(|why| self.damaged("places", number, why))
        })
    }

    /// The record of an object under a number.
    pub fn record(&self, oid: Oid, number: u64) -> Result<Bytes> {
        door(&self.path, || {
            let found = self.data.get(number).map_err(|e| self.trouble(e))?;
            let found = found.ok_or_else(|| self.damaged("data", number, "it is missing, and a revision names it"))?;
            let (sum, record) = found.value().split_first_chunk().unwrap_or((&[0; 4], &[]));
            if record.is_empty() || *sum != row::checksum(oid, number, record) {
                return Err(self.damaged("data", number, &format!("it is not what was written for object {oid}")));
            }
            Ok(Bytes::copy_from_slice(record))
        })
    }

    /// The objects that the record under a number refers to strongly; none if it cannot be read to its end.
    pub fn references_of(&self, number: u64) -> Result<Option<Vec<Oid>>> {
        door(&self.path, || {
            let Some(found) = self.references.get(number).map_err(|e| self.trouble(e))? else {
                return Ok(Some(Vec::new()));
            };
            if found.value() == row::UNTOLD {
                return Ok(None);
            }
            let (oids, rest) = found.value().as_chunks();
            if !rest.is_empty() {
                return Err(self.damaged("references", number, "it ends in the middle of an oid"));
            }
            Ok(Some(oids.iter().map(|oid| Oid::from_bytes(*oid)).collect()))
        })
    }

    /// How many revisions have the data under a number.
    pub fn count(&self, number: u64) -> Result<u64> {
        door(&self.path, || Ok(self.counts.get(number).map_err(|e| self.trouble(e))?.map_or(1, |count| count.value())))
    }

    pub fn head(&self, tid: Tid) -> Result<Option<Head>> {
        door(&self.path, || {
            let Some(found) = self.transactions.get(tid.0).map_err(|e| self.trouble(e))? else { return Ok(None) };
            self.head_of(tid, found.value()).map(Some)
        })
    }

    fn head_of(&self, tid: Tid, bytes: &[u8]) -> Result<Head> {
        Head::decode(bytes).map_err(|why| self.damaged("transactions", tid, why))
    }

    /// The first transaction of a range, or the last one.
    pub fn head_in(&self, first: Tid, last: Tid, from_end: bool) -> Result<Option<(Tid, Head)>> {
        door(&self.path, || {
            if first > last {
                return Ok(None);
            }
            let mut range = self.transactions.range(first.0..=last.0).map_err(|e| self.trouble(e))?;
            let Some(found) = (if from_end { range.next_back() } else { range.next() }) else { return Ok(None) };
            let (key, value) = found.map_err(|e| self.trouble(e))?;
            let tid = Tid(key.value());
            Ok(Some((tid, self.head_of(tid, value.value())?)))
        })
    }

    /// The last transaction; [`Tid::ZERO`] if there is none.
    pub fn last(&self) -> Result<Tid> {
        door(&self.path, || {
            Ok(self.transactions.last().map_err(|e| self.trouble(e))?.map_or(Tid::ZERO, |(tid, _)| Tid(tid.value())))
        })
    }

    /// How many counted records refer to an object.
    pub fn holders_of(&self, oid: Oid) -> Result<u64> {
        door(&self.path, || Ok(self.holders.get(oid.0).map_err(|e| self.trouble(e))?.map_or(0, |count| count.value())))
    }

    /// The largest number that a revision or its data has.
    pub fn last_number(&self) -> Result<u64> {
        door(&self.path, || {
            let place = self.places.last().map_err(|e| self.trouble(e))?.map_or(0, |(number, _)| number.value());
            let data = self.data.last().map_err(|e| self.trouble(e))?.map_or(0, |(number, _)| number.value());
            Ok(place.max(data))
        })
    }

    /// The largest oid.
    pub fn last_oid(&self) -> Result<Oid> {
        door(&self.path, || {
            Ok(self.objects.last().map_err(|e| self.trouble(e))?.map_or(Oid::ROOT, |(oid, _)| Oid(oid.value())))
        })
    }

    /// The first object that is not before this one.
    pub fn object_from(&self, first: Oid) -> Result<Option<Oid>> {
        door(&self.path, || {
            let next = self.objects.range(first.0..).map_err(|e| self.trouble(e))?.next();
            next.map(|found| found.map(|(oid, _)| Oid(oid.value())).map_err(|e| self.trouble(e))).transpose()
        })
    }

    pub fn object_count(&self) -> Result<u64> {
        door(&self.path, || self.objects.len().map_err(|e| self.trouble(e)))
    }

    /// The version of a number.
    pub fn version(&self, number: u32) -> Result<Version> {
        door(&self.path, || {
            if number == 0 {
                return Ok(Version::TRUNK);
            }
            let found = self.names.get(number).map_err(|e| self.trouble(e))?;
            let found = found.ok_or_else(|| self.damaged("names", number, "it is missing, and a revision names it"))?;
            Ok(Version::named(Bytes::copy_from_slice(found.value())))
        })
    }

    /// The number of a version; none if no revision was ever in it.
    pub fn version_number(&self, version: &Version) -> Result<Option<u32>> {
        door(&self.path, || {
            if version.is_trunk() {
                return Ok(Some(0));
            }
            let found = self.versions.get(&version.name()[..]).map_err(|e| self.trouble(e))?;
            Ok(found.map(|number| number.value()))
        })
    }

    /// The objects whose newest revision is in the version of a number, in the order of the oids.
    pub fn objects_in(&self, version: u32) -> Result<Vec<Oid>> {
        door(&self.path, || {
            let range = self.in_versions.range((version, 0)..=(version, u64::MAX)).map_err(|e| self.trouble(e))?;
            range.map(|found| found.map(|(key, _)| Oid(key.value().1)).map_err(|e| self.trouble(e))).collect()
        })
    }

    /// The numbers of the versions that hold an object.
    pub fn versions_in_use(&self) -> Result<Vec<u32>> {
        door(&self.path, || {
            let (mut found, mut from) = (Vec::new(), 0);
            while let Some(next) = self.in_versions.range((from, 0)..).map_err(|e| self.trouble(e))?.next() {
                let version = next.map_err(|e| self.trouble(e))?.0.value().0;
                found.push(version);
                match version.checked_add(1) {
                    Some(next) => from = next,
                    None => break,
                }
            }
            Ok(found)
        })
    }

    /// Some of the files that belong to no revision: the first ones, at most so many.
    pub fn unowned_some(&self, count: usize) -> Result<Vec<(Oid, Tid)>> {
        door(&self.path, || {
            let Some(unowned) = &self.unowned else { return Ok(Vec::new()) };
            let first = unowned.iter().map_err(|e| self.trouble(e))?.take(count);
            let name = |(oid, tid): (u64, u64)| (Oid(oid), Tid(tid));
            first.map(|found| found.map(|(key, _)| name(key.value())).map_err(|e| self.trouble(e))).collect()
        })
    }

    /// Whether the record under a number can have a blob beside it.
    pub fn may_have_blob(&self, number: u64) -> Result<bool> {
        door(&self.path, || {
            let found = self.data.get(number).map_err(|e| self.trouble(e))?;
            Ok(found.is_some_and(|found| found.value().get(4..).is_some_and(may_have_blob)))
        })
    }

    /// Whether a pack removes the revision of this number.
    pub fn is_doomed(&self, tid: Tid, number: u64) -> Result<bool> {
        door(&self.path, || Ok(self.doomed.get((tid.0, number)).map_err(|e| self.trouble(e))?.is_some()))
    }
}
