//! The `.index` is a hint, and a wrong one costs time and nothing else.

use vellum_file::FileStorage;
use vellum_storage::{Oid, Storage, Tid, TransactionMeta, Version};

/// Entries from all over the index are held against the file. With fewer objects than samples, all samples were the first
/// object; a wrong entry of any other was believed, and the object could not be loaded.
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
