//! Salvaging: what can be read of damaged tables, in another storage.
//!
//! A transaction is told of in several tables, which a damaged page rarely has together:
//!
//! ```text
//!   transactions   t: user, description, the numbers of its revisions    lost: it is made of `places`, without a user
//!   places         number: object, transaction                           lost: the head has them, too
//!   objects, past  object, transaction: the revision's row               lost: made of its record, if there are no versions
//!   data           number: checksum, record                              lost: the revision is lost
//! ```
//!
//! The walk goes over `transactions` and `places` side by side, the earlier transaction first. If both have gaps, it
//! also looks through `objects` and `past` for revisions of which neither tells. No row is believed by itself: a revision
//! counts if its row has the number that the other table has, and if its record has its checksum.
//!
//! **Nothing is lost silently.** Whatever a table does not have and another one names is listed. Of a gap, the table and
//! the keys around it are listed. The texts of a transaction have no checksum of ours, so the store's own checksums
//! are compared at the end, and the report says if they do not fit.
//!
//! Memory: one transaction; 8 bytes for each lost revision and a little more; what is found in `objects` and `past` alone.

mod backend;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::Peekable;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Key, Range, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata,
    StorageError, Value,
};
use vellum_disk::{Lock, Open};
use vellum_storage::{Error, Oid, Result, Revision, Status, Storage, Tid, TransactionMeta, TransactionRecord, Version};

use crate::backend::is_store;
use crate::check::Problem;
use crate::facts::{FORMAT, Facts};
use crate::options::{OpenError, Options};
use crate::row::{Head, Row, decode_newest, decode_place};
use crate::store::{open_database, with_suffix};
use crate::tables::{Reading, Tables, door, said, trouble};
use crate::view::At;
use walk::{Met, Rows, Walk};

/// About so many bytes of records are written at once.
const BATCH_BYTES: usize = 8 << 20;

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

/// What was saved, and what was lost.
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
        if !disk.exists(path).map_err(|e| Error::io(path, "looking for it", e))? {
            return Err(OpenError::NotFound { path: path.to_owned() });
        }
        if !is_store(&**disk, path).map_err(|e| Error::io(path, "reading its beginning", e))? {
            let why = "it does not begin as the store's files do".to_owned();
            return Err(OpenError::NotATable { path: path.to_owned(), why });
        }
        let beside = with_suffix(path, ".lock");
        let lock = disk.lock(&beside).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked { path: path.to_owned() },
            _ => OpenError::Storage(Error::io(&beside, "taking the lock", error)),
        })?;
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

/// What becomes of a revision.
enum Fate {
    Whole(Revision),
    /// Its row is lost, and its record is not.
    FromRecord(Revision),
    /// A pack removed it.
    Gone,
    Lost,
}

impl Wreck {
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

    /// Writes the transactions that the three sources have, in their order.
    fn write_all(
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

    /// Looks at the checksums that the store has of its pages. After a crash, the store silently goes back to the commit
    /// before the last one if that does not fit: then it has other transactions.
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
        // A tombstone has no record. This one was none.
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

/// The revision as it is told of. What it shares, and what is under it, may be lost.
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

/// A walk over a table. `take` makes of a value what is wanted of it.
fn walk<'a, K: Number, V: Value + 'static, T: 'a>(
    path: &'a Path,
    table: &'a ReadOnlyTable<K, V>,
    take: impl Fn(V::SelfType<'_>) -> T + Copy + 'a,
) -> Walk<'a, T> {
    Walk::new(path, K::MAX, move |from| {
        let range = K::range(table, from).map_err(|e| trouble(path, e))?;
        let rows = range.map(move |row| {
            let (key, value) = row.map_err(|e| trouble(path, e))?;
            Ok((K::number(key.value()), take(value.value())))
        });
        Ok(Box::new(rows) as Rows<'a, T>)
    })
}

/// A key of a table as a number.
trait Number: Key + Sized + 'static {
    const MAX: u128;
    fn number(key: Self::SelfType<'_>) -> u128;
    /// The rows from a key on.
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<Self, V>,
        from: u128,
    ) -> Result<Range<'static, Self, V>, StorageError>;
}

impl Number for u32 {
    const MAX: u128 = u32::MAX as u128;
    fn number(key: u32) -> u128 {
        key.into()
    }
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<u32, V>,
        from: u128,
    ) -> Result<Range<'static, u32, V>, StorageError> {
        table.range(u32::try_from(from).unwrap_or(u32::MAX)..)
    }
}

impl Number for u64 {
    const MAX: u128 = u64::MAX as u128;
    fn number(key: u64) -> u128 {
        key.into()
    }
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<u64, V>,
        from: u128,
    ) -> Result<Range<'static, u64, V>, StorageError> {
        table.range(low(from)..)
    }
}

impl Number for (u64, u64) {
    const MAX: u128 = u128::MAX;
    fn number((first, second): (u64, u64)) -> u128 {
        u128::from(first) << 64 | u128::from(second)
    }
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<(u64, u64), V>,
        from: u128,
    ) -> Result<Range<'static, (u64, u64), V>, StorageError> {
        table.range((low(from >> 64), low(from))..)
    }
}

/// The low half.
fn low(number: u128) -> u64 {
    (number & u128::from(u64::MAX)) as u64
}

fn nothing(_: &[u8]) {}

fn oid_of(key: u128) -> String {
    Oid(low(key)).to_string()
}

fn tid_of(key: u128) -> String {
    Tid(low(key)).to_string()
}

fn pair_of(key: u128) -> String {
    format!("{} {}", Oid(low(key >> 64)), Tid(low(key)))
}
