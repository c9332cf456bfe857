//! Salvaging: the readable part of damaged tables, in another storage.
//!
//! A transaction is told of in several tables, which a damaged page rarely has together:
//!
//! ```text
//!   transactions   t: user, description, numbers of revisions     lost: it is made of `places`, without a user
//!   places         number: object, transaction                    lost: the head has them, too
//!   objects, past  object, transaction: the revision's row        lost: made of its record, if there are no versions
//!   data           number: checksum, record                       lost: the revision is lost
//! ```
//!
//! The walk goes over `transactions` and `places` side by side, the earlier transaction first. If both have gaps, it
//! also looks through `objects` and `past` for revisions of which neither tells. No row is believed by itself: a
//! revision counts if its row has the number that the other table has, and if its record has its checksum.
//!
//! **Nothing is lost silently.** If one table names a row that another one lacks, that is listed. Of a gap, the table
//! and the keys around it are listed. The texts of a transaction have no checksum of ours, so the store's own checksums
//! are compared at the end, and the report says if they do not fit.
//!
//! Memory: one transaction; 8 bytes for each lost revision and a little more; and the revisions that are in `objects`
//! and `past` alone.

mod backend;
mod merge;
mod number;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{ReadOnlyDatabase, ReadTransaction, ReadableDatabase};
use vellum_disk::{Lock, Open};
use vellum_storage::{Error, Oid, Result, Storage, Tid};

use crate::check::Problem;
use crate::facts::{FORMAT, Facts};
use crate::options::{OpenError, Options};
use crate::row::{Row, decode_newest};
use crate::store::{lock_store, open_database};
use crate::tables::{Reading, Tables, door, said, trouble};
use number::{low, nothing, oid_of, pair_of, tid_of, walk};
use walk::{Met, Walk};

/// A file of tables that may be damaged, open for reading.
pub struct Wreck {
    tables: Tables<Reading>,
    salvage: Salvage,
    /// The tables are part of both.
    transaction: ReadTransaction,
    database: ReadOnlyDatabase,
    options: Options,
    _lock: Box<dyn Lock>,
}

/// The result of a recovery: the saved part, and the lost one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvage {
    /// Transactions written.
    pub transactions: u64,
    /// Revisions written.
    pub revisions: u64,
    /// Bytes of their records; a shared record counts zero.
    pub bytes: u64,
    /// Parts of tables that cannot be read.
    pub gaps: Vec<Gap>,
    /// Single rows that cannot be read, or contradict another table.
    pub rows: Vec<Problem>,
    /// Transactions whose user, description and extension are lost.
    pub without_texts: Vec<Tid>,
    /// Transactions of which no revision is left.
    pub transactions_lost: Vec<Tid>,
    /// Revisions whose row is lost, and which are made of their record.
    pub from_record: Vec<(Oid, Tid)>,
    /// Revisions that are lost.
    pub revisions_lost: Vec<(Oid, Tid)>,
    /// The objects of those.
    pub objects: BTreeSet<Oid>,
    /// Of these: objects of which nothing is left.
    pub objects_gone: BTreeSet<Oid>,
    /// Why the single facts of the database cannot be read. Then the time of the last pack is not known.
    pub facts: Option<String>,
    /// Whether the store's own checksums do not fit: there may be wrong texts of transactions.
    pub has_wrong_sums: bool,
}

/// A part of a table that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The table.
    pub table: &'static str,
    /// The key before it; none for the beginning.
    pub after: Option<String>,
    /// The key behind it; none for the end.
    pub before: Option<String>,
    /// The store's reason.
    pub why: String,
}

impl Salvage {
    /// Whether all was saved.
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty()
            && self.rows.is_empty()
            && self.without_texts.is_empty()
            && self.transactions_lost.is_empty()
            && self.from_record.is_empty()
            && self.revisions_lost.is_empty()
            && self.facts.is_none()
            && !self.has_wrong_sums
    }
}

impl Options {
    /// Opens a file of which any part can be damaged, to read what is left. It is locked, and not changed.
    ///
    /// # Errors
    ///
    /// The file is missing, locked by another process, or none of ours; or the store cannot find its tables.
    pub fn open_wreck(&self, path: impl AsRef<Path>) -> Result<Wreck, OpenError> {
        let path = path.as_ref();
        let disk = &self.disk;
        let lock = lock_store(&**disk, path)?;
        let file = disk.open(path, Open::Read).map_err(|e| Error::io(path, "opening it", e))?;
        let damaged = |why: String| OpenError::Damaged { path: path.to_owned(), why };
        let open = || backend::open(&file, self.cache_bytes);
        let database = catch_unwind(AssertUnwindSafe(open)).map_err(|panic| damaged(said(&*panic)))?;
        let database = database.map_err(|error| damaged(error.to_string()))?;
        let shared: Arc<Path> = path.into();
        let begun = door(path, || {
            let transaction = database.begin_read().map_err(|error| trouble(path, error))?;
            let tables = Tables::without_facts(&shared, &transaction)?;
            Ok((transaction, tables))
        });
        let (transaction, mut tables) = begun.map_err(|error| damaged(error.to_string()))?;
        let mut salvage = Salvage::default();
        match door(path, || Facts::read(path, &tables.stored_facts)) {
            Ok(facts) if facts.format != FORMAT => {
                let why = format!("its tables have form {}, and this program knows form {FORMAT}", facts.format);
                return Err(OpenError::NotATable { path: path.to_owned(), why });
            }
            Ok(facts) => tables.facts = facts,
            Err(error) => salvage.facts = Some(error.to_string()),
        }
        Ok(Wreck { tables, salvage, transaction, database, options: self.clone(), _lock: lock })
    }
}

impl Wreck {
    /// Whether it was history-free (rule 4.12). If its facts cannot be read, it counts as one that keeps its history.
    pub fn is_history_free(&self) -> bool {
        self.tables.facts.is_history_free
    }

    /// Writes all that can be read into an empty storage. `progress` is called with the number of transactions.
    ///
    /// # Errors
    ///
    /// The other storage cannot be written to.
    pub fn copy_to(mut self, to: &dyn Storage, progress: &mut dyn FnMut(u64)) -> Result<Salvage> {
        self.look_for_gaps();
        let alone = if self.has_gap("transactions") && self.has_gap("places") { self.alone() } else { BTreeMap::new() };
        self.write_all(alone, to, progress)?;
        for &oid in &self.salvage.objects {
            if matches!(to.history(oid, 1), Err(Error::KeyError { .. })) {
                self.salvage.objects_gone.insert(oid);
            }
        }
        Ok(self.compare_sums())
    }

    fn has_gap(&self, table: &str) -> bool {
        self.salvage.gaps.iter().any(|gap| gap.table == table)
    }

    /// Walks over each table that has something of its own.
    fn look_for_gaps(&mut self) {
        let Wreck { tables, salvage, .. } = self;
        let path = Arc::clone(&tables.path);
        let plain = |key: u128| key.to_string();
        salvage.look("transactions", walk(&path, &tables.transactions, nothing), tid_of);
        salvage.look("places", walk(&path, &tables.places, nothing), plain);
        salvage.look("objects", walk(&path, &tables.objects, nothing), oid_of);
        salvage.look("past", walk(&path, &tables.past, nothing), pair_of);
        salvage.look("overwritten", walk(&path, &tables.overwritten, nothing), plain);
        salvage.look("data", walk(&path, &tables.data, nothing), plain);
        salvage.look("names", walk(&path, &tables.names, nothing), plain);
        if tables.facts.is_sweeping {
            salvage.look("doomed", walk(&path, &tables.doomed, |_| ()), pair_of);
        }
    }

    /// The revisions that are in `objects` and `past`, and which neither a head nor `places` names.
    fn alone(&mut self) -> BTreeMap<Tid, Vec<(Oid, u64)>> {
        let tables = &self.tables;
        let mut found: BTreeMap<Tid, Vec<(Oid, u64)>> = BTreeMap::new();
        let mut add = |oid: Oid, tid: Tid, row: Row| {
            let is_named = matches!(tables.head(tid), Ok(Some(_))) || matches!(tables.place(row.number), Ok(Some(_)));
            if !is_named {
                found.entry(tid).or_default().push((oid, row.number));
            }
        };
        for met in walk(&tables.path, &tables.objects, |value| decode_newest(value).ok()) {
            if let Met::Row(oid, Some((tid, row))) = met {
                add(Oid(low(oid)), tid, row);
            }
        }
        for met in walk(&tables.path, &tables.past, |value| Row::decode(value).ok()) {
            if let Met::Row(key, Some(row)) = met {
                add(Oid(low(key >> 64)), Tid(low(key)), row);
            }
        }
        found.values_mut().for_each(|revisions| revisions.sort_unstable_by_key(|(_, number)| *number));
        found
    }

    /// Looks at the checksums that the store has of its pages. After a crash, the store silently goes back to the
    /// commit before the last one if that does not fit: then it has other transactions.
    fn compare_sums(self) -> Salvage {
        let Wreck { tables, mut salvage, transaction, database, options, _lock } = self;
        let (path, own) = (Arc::clone(&tables.path), sum_of_heads(&tables));
        drop((tables, transaction, database));
        let checked = || -> Result<bool, redb::Error> {
            let opened = open_database(&options, &path, Open::Read, &Arc::default());
            let Ok(mut database) = opened else { return Ok(false) };
            let theirs = Tables::without_facts(&path, &database.begin_read()?).map(|tables| sum_of_heads(&tables));
            Ok(theirs.is_ok_and(|theirs| theirs == own) && database.check_integrity()?)
        };
        salvage.has_wrong_sums = !matches!(catch_unwind(AssertUnwindSafe(checked)), Ok(Ok(true)));
        salvage
    }
}

/// A number that two tables of transactions share only if they are the same.
fn sum_of_heads(tables: &Tables<Reading>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for met in walk(&tables.path, &tables.transactions, crc32fast::hash) {
        match met {
            Met::Row(tid, sum) => (tid, sum).hash(&mut hasher),
            Met::Gap { after, .. } => after.hash(&mut hasher),
            Met::Astray(key) => key.hash(&mut hasher),
        }
    }
    hasher.finish()
}

impl Salvage {
    fn row(&mut self, table: &'static str, row: impl std::fmt::Display, what: &str) {
        self.rows.push(Problem { table, row: row.to_string(), what: what.to_owned() });
    }

    /// Notes the gaps of a table, and the rows that are out of order.
    fn look(&mut self, table: &'static str, walk: Walk<'_, ()>, name: impl Fn(u128) -> String) {
        for met in walk {
            match met {
                Met::Row(..) => {}
                Met::Astray(key) => self.row(table, name(key), "its key is out of order"),
                Met::Gap { after, before, why } => {
                    self.gaps.push(Gap { table, after: after.map(&name), before: before.map(&name), why });
                }
            }
        }
    }
}
