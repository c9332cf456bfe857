//! The `.index` is a hint, and a wrong one costs time and nothing else.

use crate::common::{PATH, SharedClock, commit, options, record};
use vellum_disk::SimDisk;
use vellum_file::FileStorage;
use vellum_storage::{Oid, Tid, TransactionMeta, Version};

/// Entries from all over the index are checked against the file. With fewer objects than samples, all samples were the
/// first object; a wrong entry of any other was believed, and the object could not be loaded.
#[test]
fn a_wrong_entry_among_few_is_noticed() {
    const OBJECTS: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let storage = FileStorage::create(&path).unwrap();
    for n in 0..OBJECTS {
        let mut change = storage.begin(TransactionMeta::new()).unwrap();
        change.store(Oid(n), Tid::ZERO, format!("object {n}").into()).unwrap();
        storage.vote(change).unwrap().finish().unwrap();
    }
    drop(storage);

    // The suffixes of the oids stand in the index in a row, and the positions, of six bytes each, right behind them.
    let name = directory.path().join("Data.fs.index");
    let mut index = std::fs::read(&name).unwrap();
    let suffixes: Vec<u8> = (0..OBJECTS as u16).flat_map(u16::to_be_bytes).collect();
    let at = index.windows(suffixes.len()).position(|window| window == suffixes).unwrap() + suffixes.len();
    let (tenth, eleventh) = index[at + 60..at + 72].split_at(6);
    let swapped = [eleventh, tenth].concat();
    index[at + 60..at + 72].copy_from_slice(&swapped);
    std::fs::write(&name, index).unwrap();

    let storage = FileStorage::open(&path).unwrap();
    for n in 0..OBJECTS {
        assert_eq!(storage.load(Oid(n), &Version::TRUNK).unwrap().data, format!("object {n}"));
    }
}

/// The index in memory is made of pages of 256 objects, and the saved one of prefixes of 65,536.
#[test]
fn a_saved_index_of_many_pages_has_every_object() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options = options(&disk, &clock);
    let storage = options.create(PATH).unwrap();
    let oids: Vec<u64> = (0..1000).chain(65_000..66_000).chain([1 << 40, u64::MAX]).collect();
    for some in oids.chunks(100) {
        let changes: Vec<_> = some.iter().map(|oid| (*oid, Some(record(&oid.to_be_bytes())))).collect();
        commit(&storage, "many", &changes).unwrap();
    }
    drop(storage);
    let storage = options.open(PATH).unwrap();
    assert_eq!(storage.object_count(), oids.len() as u64);
    for oid in oids {
        assert_eq!(storage.load(Oid(oid), &Version::TRUNK).unwrap().data, record(&oid.to_be_bytes()), "{oid}");
    }
}
