//! Damaged, short and foreign files: an error, and never another record than the one that was stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use vellum_disk::SimDisk;
use vellum_harness::node::Node;
use vellum_storage::{Bytes, Error, Oid, Tid, TransactionMeta, Version};
use vellum_table::{OpenError, Options, TableStorage};

use crate::common::PATH;

fn options(disk: &SimDisk) -> Options {
    // So small that pages are read of the file.
    Options::new().disk(Arc::new(disk.clone())).cache_bytes(0)
}

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A database of 300 objects, closed.
fn made(disk: &SimDisk) -> BTreeMap<Oid, Bytes> {
    let storage = options(disk).create(PATH).unwrap();
    let mut records = BTreeMap::new();
    for oid in (0..300).map(Oid) {
        let record =
            Bytes::from(format!("the record of object {oid}, {}", "and more of it. ".repeat(oid.0 as usize % 20)));
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(oid, Tid::ZERO, record.clone()).unwrap();
        storage.commit(draft).unwrap();
        records.insert(oid, record);
    }
    records
}

/// A disk with this file.
pub fn with(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(0);
    disk.write_file(PATH, bytes);
    disk
}

/// Loads all; each record is the right one, or there is an error. Returns the number of errors.
fn load_all(storage: &TableStorage, records: &BTreeMap<Oid, Bytes>) -> usize {
    let wrong = |(oid, record): (&Oid, &Bytes)| match storage.load(*oid, &Version::TRUNK) {
        Ok(loaded) => {
            assert_eq!(loaded.data, *record, "another record was read for object {oid}");
            false
        }
        Err(_) => true,
    };
    records.iter().filter(|entry| wrong(*entry)).count()
}

#[test]
fn damaged_bytes_never_give_another_record() {
    let records = made(&SimDisk::new(0));
    let disk = SimDisk::new(0);
    made(&disk);
    let sound = disk.read_file(PATH).unwrap();
    let (mut refused, mut failed, mut told, mut dice) = (0, 0, 0, Dice(7));
    for _ in 0..120 {
        let mut damaged = sound.clone();
        let at = dice.below(damaged.len() as u64 - 16) as usize;
        damaged[at..at + 16].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
        let Ok(storage) = options(&with(&damaged)).open(PATH) else {
            refused += 1;
            continue;
        };
        let wrong = load_all(&storage, &records);
        failed += usize::from(wrong > 0);
        let mut problems = 0;
        let checked = storage.check(&mut |_| problems += 1);
        let is_told = checked.is_err() || problems > 0;
        told += usize::from(is_told);
        assert!(is_told || wrong == 0, "{wrong} objects are lost, and the check says nothing");
    }
    println!("{refused} files refused, {failed} with objects that cannot be read, {told} that the check reports");
    assert!(failed > 10 && told >= failed, "{refused} {failed} {told}");
}

#[test]
fn a_short_file_is_an_error() {
    let disk = SimDisk::new(0);
    let records = made(&disk);
    let sound = disk.read_file(PATH).unwrap();
    for length in (0..sound.len()).step_by(sound.len() / 40) {
        match options(&with(&sound[..length])).open(PATH) {
            Ok(storage) => {
                load_all(&storage, &records);
            }
            Err(OpenError::NotATable { .. } | OpenError::Damaged { .. } | OpenError::Storage(Error::Io { .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_foreign_file_is_refused() {
    for (content, why) in
        [(&b"FS30 and so on"[..], "does not begin"), (b"", "does not begin"), (b"redb\x1a\x0a\xa9\x0d\x0a", "")]
    {
        let error = options(&with(content)).open(PATH).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(PATH), "{error}");
    }
    let disk = SimDisk::new(0);
    assert!(matches!(options(&disk).open(PATH), Err(OpenError::NotFound { .. })));
    made(&disk);
    assert!(matches!(options(&disk).create(PATH), Err(OpenError::Exists { .. })));
    let _open = options(&disk).open(PATH).unwrap();
    assert!(matches!(options(&disk).open(PATH), Err(OpenError::Locked { .. })));
}

/// A store of another program.
#[test]
fn a_store_without_our_tables_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.redb");
    drop(redb::Database::create(&path).unwrap());
    let error = TableStorage::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::NotATable { .. }), "{error}");
}

const HOLDERS: redb::TableDefinition<'static, u64, u64> = redb::TableDefinition::new("holders");
const UNHELD: redb::TableDefinition<'static, u64, ()> = redb::TableDefinition::new("unheld");
const FACTS: redb::TableDefinition<'static, &str, u64> = redb::TableDefinition::new("facts");

/// A database whose root refers to 1; nothing refers to 2. All is counted.
fn counted(path: &std::path::Path) {
    let storage = TableStorage::create(path).unwrap();
    for (oid, strong) in [(0, vec![Oid(1)]), (1, vec![]), (2, vec![])] {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid(oid), Tid::ZERO, Node { strong, ..Node::default() }.encode()).unwrap();
        storage.commit(draft).unwrap();
    }
    storage.pack_by_counts(storage.last_transaction()).unwrap();
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(2), Tid::ZERO, Node::default().encode()).unwrap();
    storage.commit(draft).unwrap();
    // To a time before it: it is counted, and stays.
    storage.pack_by_counts(Tid(storage.last_transaction().0 - 1)).unwrap();
}

/// Changes the file as another program would.
fn change(path: &std::path::Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn a_wrong_count_is_named() {
    type Change = fn(&redb::WriteTransaction);
    let changes: [(Change, &str); 5] = [
        (
            |file| drop(file.open_table(HOLDERS).unwrap().insert(1, 7).unwrap()),
            "table `holders`, row 0000000000000001: it says 7, and 1 counted records refer to it",
        ),
        (
            |file| drop(file.open_table(HOLDERS).unwrap().remove(1).unwrap()),
            "table `holders`, row 0000000000000001: it is missing, and 1 counted records refer to the object",
        ),
        (
            |file| drop(file.open_table(UNHELD).unwrap().remove(2).unwrap()),
            "table `unheld`, row 0000000000000002: it is missing, and no counted record refers to the object",
        ),
        (
            |file| drop(file.open_table(UNHELD).unwrap().insert(1, ()).unwrap()),
            "table `unheld`, row 0000000000000001: counted records refer to the object",
        ),
        (
            |file| drop(file.open_table(FACTS).unwrap().insert("may hide references", 3).unwrap()),
            "table `facts`, row may hide references: it says 3, and 0 counted records may",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (n, (wrong, named)) in changes.into_iter().enumerate() {
        let path = folder.path().join(format!("{n}.vellum"));
        counted(&path);
        let problems = || {
            let mut problems = Vec::new();
            let storage = TableStorage::open(&path).unwrap();
            storage.check(&mut |problem| problems.push(problem.to_string())).unwrap();
            problems
        };
        assert_eq!(problems(), [""; 0]);
        change(&path, wrong);
        assert!(problems().iter().any(|problem| problem == named), "{named}, and not {:?}", problems());
        // A recovery makes all counts anew.
        let mended = TableStorage::create(folder.path().join(format!("{n}.mended"))).unwrap();
        let salvage = Options::new().open_wreck(&path).unwrap().copy_to(&mended, &mut |_| ()).unwrap();
        assert!(salvage.is_whole(), "{named}: {salvage:?}");
        mended.check(&mut |problem| panic!("{named}: {problem}")).unwrap();
        mended.pack_by_counts(Tid::ZERO).unwrap();
        mended.check(&mut |problem| panic!("{named}: {problem}")).unwrap();
    }
}

/// A damaged fact leaves no number for a record.
#[test]
fn a_number_that_is_used_up_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.vellum");
    counted(&path);
    change(&path, |file| drop(file.open_table(FACTS).unwrap().insert("counted to", u64::MAX).unwrap()));
    let storage = TableStorage::open(&path).unwrap();
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(9), Tid::ZERO, "new".into()).unwrap();
    let error = storage.commit(draft).unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
}
