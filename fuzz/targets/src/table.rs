//! A database of tables: the harness's histories on it, and then other values in its tables.
//!
//! The first byte says how many rows a pack changes in a step, and whether the database is history-free; the second
//! says how long the history is. The history takes the next bytes as its dice. The rest says which rows get which
//! bytes. The database must then be refused, or answer each question with an answer or an error, and the check must
//! end; no record may be another one than it was. A recovery saves sound tables, and no other records, either.
//!
//! Damaged pages are not made here: the store panics on some of them, and libFuzzer ends at a panic that is caught,
//! too.
//! `damage.rs` in the tests of vellum-table makes them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::Unstructured;
use redb::{Builder, Database, ReadableTable, StorageBackend, TableDefinition};
use vellum_disk::SimDisk;
use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::{Hosted, Merger, Opening};
use vellum_harness::subject::Can;
use vellum_harness::{run, shrink};
use vellum_storage::{Bytes, Error, Oid, Order, Pack, PackOptions, Tid, TidRange, Version};
use vellum_table::{OpenError, Options, TableStorage};

const PATH: &str = "site.vellum";
const FACT_NAMES: [&str; 9] = [
    "format",
    "packed to",
    "last copied as packed",
    "sweeping",
    "counted to",
    "may hide references",
    "objects after the last collection",
    "may refer into other databases",
    "history-free",
];
const CAN: Can = Can::EVERYTHING;

/// Steps of a history.
const STEPS_MAX: u8 = 40;

/// Histories that may be played to make one shorter.
const SHRINK_BUDGET: usize = 300;

/// Plays the history that the bytes say, and damages the tables.
///
/// # Panics
///
/// If an answer is wrong.
pub fn table(input: &[u8]) {
    let &[step_rows, steps, ref rest @ ..] = input else { return };
    let disk = Arc::new(Mutex::new(SimDisk::new(0)));
    // Rule 4.12.
    let forgets = [None, Some(0), Some(120), None][usize::from(step_rows >> 3 & 3)];
    let can = if forgets.is_some() { Can { undo: false, forgets, ..CAN } } else { CAN };
    let options = move |disk: &SimDisk| {
        let options = Options::new().disk(Arc::new(disk.clone())).resolver(Arc::new(Merger));
        options.threads(1).cache_bytes(1 << 20).blobs("blobs").step_rows(usize::from(step_rows % 8) + 1)
    };
    let mut subject = {
        let disk = Arc::clone(&disk);
        Hosted::new("TableStorage", can, move |Opening { fresh, read_only, clock }| {
            let mut disk = disk.lock().unwrap_or_else(|e| e.into_inner());
            if fresh {
                *disk = SimDisk::new(0);
            }
            let options = options(&disk).clock(clock).history_free(forgets.is_some());
            let options = options.grace(Duration::from_secs(forgets.unwrap_or_default()));
            let opened = if read_only { options.read_only().open(PATH) } else { options.open_or_create(PATH) };
            match opened {
                Ok(storage) => {
                    storage.check(&mut |problem| panic!("{problem}"))?;
                    Ok(Box::new(storage))
                }
                Err(OpenError::Storage(error)) => Err(error),
                Err(other) => panic!("{other}"),
            }
        })
    };
    let mut dice = Unstructured::new(rest);
    let steps = usize::from(steps % STEPS_MAX);
    if let Err(difference) = run::play_random(&mut subject, &mut dice, steps, &mut Coverage::default()) {
        let shortest = shrink::shrink(&mut subject, difference, SHRINK_BUDGET);
        panic!("TableStorage does not keep the rules:\n{shortest}");
    }
    drop(subject);
    let disk = disk.lock().unwrap_or_else(|e| e.into_inner());
    let Some(sound) = disk.read_file(PATH) else { return };
    let records = records(&options(&disk));
    let damaged = damage(sound, &mut dice);
    let disk = SimDisk::new(0);
    disk.write_file(PATH, &damaged);
    salvage(&options(&disk), options(&SimDisk::new(0)), &records);
    if let Ok(storage) = options(&disk).open(PATH) {
        ask(&storage, &records);
    }
}

/// Every record of every object.
fn records(options: &Options) -> BTreeMap<Oid, Vec<Bytes>> {
    let mut records: BTreeMap<Oid, Vec<Bytes>> = BTreeMap::new();
    let Ok(storage) = options.open(PATH) else { return records };
    let Ok(transactions) = storage.transactions(TidRange::ALL, Order::OldestFirst) else { return records };
    for revision in transactions.flatten().flat_map(|transaction| transaction.revisions) {
        records.entry(revision.oid).or_default().extend(revision.data);
    }
    records
}

/// Asks for everything. A record that is given is one that the object had.
fn ask(storage: &TableStorage, records: &BTreeMap<Oid, Vec<Bytes>>) {
    let is_known = |oid: Oid, data: &Bytes| {
        let had = records.get(&oid).is_some_and(|records| records.contains(data));
        assert!(had, "object {oid} never had this record: {data:?}");
    };
    let _ = storage.check(&mut |_| ());
    for &oid in records.keys() {
        if let Ok(loaded) = storage.load(oid, &Version::TRUNK) {
            is_known(oid, &loaded.data);
        }
        for entry in storage.history(oid, 20).unwrap_or_default() {
            let _: Result<_, Error> = storage.load_before(oid, entry.tid);
            if let Ok(data) = storage.load_serial(oid, entry.tid) {
                is_known(oid, &data);
            }
        }
    }
    for order in [Order::OldestFirst, Order::NewestFirst] {
        if let Ok(transactions) = storage.transactions(TidRange::ALL, order) {
            for transaction in transactions.take(100).flatten() {
                for revision in transaction.revisions {
                    revision.data.iter().for_each(|data| is_known(revision.oid, data));
                }
            }
        }
    }
    for record in storage.current_records(Oid::ROOT).take(100).flatten() {
        is_known(record.oid, &record.data);
    }
    let _ = storage.last_invalidations(20);
    let _ = (storage.all_versions(), storage.undoable(0, 20), storage.object_count());
    let _ = storage.pack(Tid::MAX, PackOptions::default().collect(true));
}

/// Saves what can be read. A record that is saved is one that the object had, and the new tables are sound.
fn salvage(damaged: &Options, new: Options, records: &BTreeMap<Oid, Vec<Bytes>>) {
    let Ok(wreck) = damaged.open_wreck(PATH) else { return };
    let to = new.create(PATH).expect("the disk is empty");
    wreck.copy_to(&to, &mut |_| ()).expect("the new database takes it");
    to.check(&mut |problem| panic!("{problem}")).expect("the new database can be read");
    for transaction in to.transactions(TidRange::ALL, Order::OldestFirst).expect("it can be read") {
        for revision in transaction.expect("it can be read").revisions {
            let had = |data| records.get(&revision.oid).is_some_and(|records| records.contains(data));
            let wrong = revision.data.iter().find(|data| !had(data));
            assert!(wrong.is_none(), "object {} never had this record: {wrong:?}", revision.oid);
        }
    }
}

/// Puts other values into the tables, as the bytes say.
fn damage(file: Vec<u8>, dice: &mut Unstructured<'_>) -> Vec<u8> {
    let memory = Arc::new(Mutex::new(file));
    let database = Builder::new().create_with_backend(Memory(Arc::clone(&memory))).expect("it was closed well");
    let changes = dice.int_in_range(0..=6).unwrap_or(0);
    for _ in 0..changes {
        let _ = change(&database, dice);
    }
    drop(database);
    let memory = memory.lock().unwrap_or_else(|e| e.into_inner());
    memory.clone()
}

type Rows = &'static [u8];

const NUMBERED: [&str; 6] = ["objects", "overwritten", "places", "data", "references", "transactions"];
const PAST: TableDefinition<(u64, u64), Rows> = TableDefinition::new("past");
const DOOMED: TableDefinition<(u64, u64), u64> = TableDefinition::new("doomed");
const COUNTS: TableDefinition<u64, u64> = TableDefinition::new("counts");
const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");
const IN_VERSIONS: TableDefinition<(u32, u64), ()> = TableDefinition::new("in_versions");
const NAMES: TableDefinition<u32, Rows> = TableDefinition::new("names");

/// Another value for a row, or no row, or a new one.
fn change(database: &Database, dice: &mut Unstructured<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = database.begin_write()?;
    let table = dice.int_in_range(0..=11_usize)?;
    let small = |dice: &mut Unstructured<'_>| dice.int_in_range(0..=40_u64);
    match table {
        0..=5 => {
            let mut table = transaction.open_table(TableDefinition::<u64, Rows>::new(NUMBERED[table]))?;
            let at = usize::try_from(small(dice)?)?;
            let found = table.iter()?.nth(at).transpose()?.map(|(key, value)| (key.value(), value.value().to_vec()));
            let (key, value) = found.unwrap_or((small(dice)?, Vec::new()));
            match other(value, dice)? {
                Some(value) => drop(table.insert(key, &value[..])?),
                None => drop(table.remove(key)?),
            }
        }
        6 => {
            let mut table = transaction.open_table(PAST)?;
            let at = usize::try_from(small(dice)?)?;
            let found = table.iter()?.nth(at).transpose()?.map(|(key, value)| (key.value(), value.value().to_vec()));
            let (key, value) = found.unwrap_or(((small(dice)?, dice.arbitrary()?), Vec::new()));
            match other(value, dice)? {
                Some(value) => drop(table.insert(key, &value[..])?),
                None => drop(table.remove(key)?),
            }
        }
        7 => {
            let (key, value) = ((dice.arbitrary()?, small(dice)?), small(dice)?);
            transaction.open_table(DOOMED)?.insert(key, value)?;
        }
        8 => {
            let (key, value) = (small(dice)?, dice.arbitrary::<u64>()?);
            transaction.open_table(COUNTS)?.insert(key, value)?;
        }
        9 => {
            let name = *dice.choose(&FACT_NAMES)?;
            let value = if dice.arbitrary()? { dice.arbitrary()? } else { small(dice)? };
            transaction.open_table(FACTS)?.insert(name, value)?;
        }
        10 => {
            let key = (dice.int_in_range(0..=4_u32)?, small(dice)?);
            transaction.open_table(IN_VERSIONS)?.insert(key, ())?;
        }
        _ => {
            let number = dice.int_in_range(0..=4_u32)?;
            transaction.open_table(NAMES)?.remove(number)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// A value that differs in a byte or in its length; or none.
fn other(mut value: Vec<u8>, dice: &mut Unstructured<'_>) -> arbitrary::Result<Option<Vec<u8>>> {
    match dice.int_in_range(0..=3_u8)? {
        0 => return Ok(None),
        1 => value.truncate(usize::from(dice.arbitrary::<u8>()?)),
        2 => value.extend(dice.bytes(4)?),
        _ if value.is_empty() => value = dice.bytes(17)?.to_vec(),
        _ => {
            let at = usize::from(dice.arbitrary::<u8>()?) % value.len();
            value[at] = dice.arbitrary()?;
        }
    }
    Ok(Some(value))
}

/// A file in memory.
#[derive(Debug)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        let bytes = self.bytes();
        let there = bytes.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.bytes().resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (offset, mut bytes) = (offset as usize, self.bytes());
        let end = bytes.len().max(offset + data.len());
        bytes.resize(end, 0);
        bytes[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl Memory {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
