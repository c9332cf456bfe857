//! Complete transactions survive damage, and lost ones are reported.

use std::path::Path;
use std::sync::Arc;

use crate::common::counted::Counted;
use crate::common::golden;
use vellum_file::{FileStorage, Options, check, recover};
use vellum_storage::{Oid, Order, Tid, TidRange, TransactionMeta, Version};

/// With nothing to save it from, a database is copied as it is, byte for byte: every pointer that was made again is the
/// one that was there.
#[test]
fn an_undamaged_database_is_copied_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mail.fs", "undo.fs", "unpacked.fs", "packed.fs", "versions.fs"] {
        let out = folder.path().join(name);
        let salvage = recover(&Options::new(), golden(name), &out).unwrap();
        assert_eq!((salvage.lost.len(), salvage.unfinished, salvage.records_lost.len()), (0, 0, 0));
        assert!(std::fs::read(golden(name)).unwrap() == std::fs::read(&out).unwrap(), "{name} differs");
    }
}

fn problems(path: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    check(&Options::new(), path, &mut |problem| problems.push(problem.kind.to_string())).unwrap();
    problems
}

#[test]
fn golden_databases_have_no_problems_but_those_they_were_made_with() {
    for name in ["mail.fs", "unpacked.fs", "packed.fs", "versions.fs"] {
        assert_eq!(problems(&golden(name)), Vec::<String>::new(), "{name}");
    }
    let deleted = problems(&golden("undo.fs"));
    assert!(!deleted.is_empty() && deleted.iter().all(|p| p.contains("deleted or undone")), "{deleted:#?}");
}

fn commit(storage: &FileStorage, oid: u64, data: &'static str) -> Tid {
    let serial = storage.history(Oid(oid), 1).map_or(Tid::ZERO, |entries| entries[0].tid);
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.store(Oid(oid), serial, data.into()).unwrap();
    storage.vote(change).unwrap().finish().unwrap()
}

/// A flipped bit in a record's oid must not make one object's data another's.
#[test]
fn a_record_with_a_wrong_oid_is_given_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("Data.fs"), folder.path().join("out.fs"));
    let storage = FileStorage::create(&path).unwrap();
    commit(&storage, 1, "one");
    commit(&storage, 2, "two");
    let tid = commit(&storage, 1, "one again");
    let position = storage.newest_record(Oid(1)).unwrap().unwrap().position as usize;
    drop(storage);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position + 7] = 2;
    std::fs::write(&path, bytes).unwrap();
    let salvage = recover(&Options::new(), &path, &out).unwrap();
    assert_eq!(salvage.records_lost, [(Oid(2), tid)]);
    assert_eq!(salvage.objects.into_iter().collect::<Vec<_>>(), [Oid(1), Oid(2)]);
    let storage = FileStorage::open_read_only(&out).unwrap();
    assert_eq!(storage.load(Oid(1), &Version::TRUNK).unwrap().data, "one");
    assert_eq!(storage.load(Oid(2), &Version::TRUNK).unwrap().data, "two");
}

/// Thousands of records that each share the data of the one before: a walk over them looks at each a few times, not at
/// all that come before it.
#[test]
fn a_long_chain_of_backpointers_takes_a_few_reads_a_record() {
    const LENGTH: u64 = 2000;
    const READS_A_RECORD_MAX: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Data.fs");
    let mut file = b"FS30".to_vec();
    let mut previous = 0_u64;
    for tid in 1..=LENGTH {
        let start = file.len() as u64;
        let record = b"\x80\x03cm\nC\n.\x80\x03N.";
        let body: &[u8] = if tid == 1 { record } else { &previous.to_be_bytes() };
        let length = 23 + 42 + body.len() as u64;
        file.extend([tid.to_be_bytes(), length.to_be_bytes()].concat());
        file.extend(b" \0\0\0\0\0\0");
        let data_length = if tid == 1 { body.len() as u64 } else { 0 };
        file.extend([[0; 8], tid.to_be_bytes(), previous.to_be_bytes(), start.to_be_bytes()].concat());
        file.extend([0, 0]);
        file.extend(data_length.to_be_bytes());
        file.extend(body);
        file.extend(length.to_be_bytes());
        previous = start + 23;
    }
    std::fs::write(&path, file).unwrap();
    let disk = Counted::default();
    let options = Options::new().read_only().disk(Arc::new(disk.clone()));
    let few = |what: &str| {
        let reads = disk.reads();
        assert!(reads <= READS_A_RECORD_MAX * LENGTH, "{what}: {reads} reads of {LENGTH} records");
    };
    check(&options, &path, &mut |problem| panic!("{:?}", problem.kind)).unwrap();
    few("check");
    let storage = options.open(&path).unwrap();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        disk.reads();
        let all = storage.transactions(TidRange::ALL, order).unwrap();
        assert_eq!(all.filter(|t| t.as_ref().unwrap().revisions[0].data.is_some()).count() as u64, LENGTH);
        few("transactions");
    }
}
