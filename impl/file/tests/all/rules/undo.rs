//! The cost of undo and of the ends of versions, the entries of the undo log, and the errors of an undo.

use std::sync::Arc;

use crate::common::counted::Counted;
use crate::common::{PATH, SharedClock, commit, options, record, serial, transaction};
use vellum_disk::SimDisk;
use vellum_file::{FileStorage, Options};
use vellum_storage::{
    Bulk, Error, Oid, Refusal, Revision, Status, Storage, Tid, TransactionMeta, TransactionRecord, Version, WhyNot,
};

/// A database of so many transactions on the real disk, opened with a count of the reads.
fn of(transactions: u64, folder: &std::path::Path) -> (FileStorage, Counted) {
    let disk = Counted::default();
    let path = folder.join(format!("{transactions}.fs"));
    let storage = Options::new().disk(Arc::new(disk.clone())).create(path).unwrap();
    let one = |n: u64| TransactionRecord {
        tid: Tid(n),
        status: Status::Complete,
        user: "ann".into(),
        description: "a change".into(),
        extension: Default::default(),
        revisions: vec![Revision {
            oid: Oid(n % 50),
            version: Version::TRUNK,
            data: Some(record(&n.to_be_bytes())),
            blob: None,
            source: None,
            base: None,
        }],
    };
    storage.copy_in((1..=transactions).map(one).collect()).unwrap();
    disk.reads();
    (storage, disk)
}

#[test]
fn the_newest_of_the_undo_log_take_as_many_reads_however_many_transactions_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let reads: Vec<u64> = [60, 3000]
        .map(|transactions| {
            let (storage, disk) = of(transactions, folder.path());
            let log = storage.undo_log().unwrap().undo_log(0, 20).unwrap();
            assert_eq!(
                log.iter().map(|entry| entry.tid.0).collect::<Vec<_>>(),
                (0..20).map(|n| transactions - n).collect::<Vec<_>>()
            );
            disk.reads()
        })
        .to_vec();
    assert!(reads[0] <= 3 * 20 && reads[0] == reads[1], "{reads:?}");
}

/// Except for the first question about versions, which walks over the file once.
#[test]
fn the_end_of_a_version_takes_reads_for_its_objects_however_many_transactions_there_are() {
    const OBJECTS: u64 = 10;
    let folder = tempfile::tempdir().unwrap();
    let reads: Vec<u64> = [60, 3000]
        .map(|transactions| {
            let (storage, disk) = of(transactions, folder.path());
            let draft = Version::named("draft");
            storage.versions().unwrap().versions().unwrap();
            let mut change = storage.begin(TransactionMeta::new()).unwrap();
            for oid in (0..OBJECTS).map(Oid) {
                let serial = serial(&storage, oid);
                change.store_in(&draft, oid, serial, record(b"draft")).unwrap();
            }
            storage.vote(change).unwrap().finish().unwrap();
            disk.reads();
            let mut change = storage.begin(TransactionMeta::new()).unwrap();
            change.commit_version(&draft, &Version::TRUNK).unwrap();
            let voted = storage.vote(change).unwrap();
            assert_eq!(voted.touched().len() as u64, OBJECTS);
            voted.finish().unwrap();
            disk.reads()
        })
        .to_vec();
    assert!(reads[0] <= 4 * OBJECTS && reads[0] == reads[1], "{reads:?}");
}

/// Rule 2.5.
#[test]
fn the_undo_log_is_paged_and_filtered() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    for n in 0..10 {
        commit(&storage, if n % 2 == 0 { "even" } else { "odd" }, &[(n, Some(record(b"x")))]).unwrap();
        clock.tick();
    }
    let all = storage.undo_log().unwrap().undo_log(0, usize::MAX).unwrap();
    assert_eq!(all.len(), 10);
    let page = storage.undo_log().unwrap().undo_log(3, 5).unwrap();
    assert_eq!(page, all[3..5]);
    // The filter decides which entries are counted.
    let mut even = |entry: &vellum_storage::UndoEntry| entry.description == "even";
    let page = storage.undo_log().unwrap().undo_log_where(1, 3, &mut even).unwrap();
    let expected: Vec<_> = all.iter().filter(|entry| entry.description == "even").skip(1).take(2).cloned().collect();
    assert_eq!(page, expected);
}

/// Rule 3.4.
#[test]
fn an_undo_that_fails_names_every_object_and_why_and_leaves_nothing() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let first = commit(&storage, "made", &[1, 2, 3].map(|oid| (oid, Some(record(b"1"))))).unwrap();
    commit(&storage, "changed", &[(1, Some(record(b"2"))), (3, None)]).unwrap();
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.store_in(&Version::named("draft"), Oid(2), first, record(b"3")).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
    let before = storage.size();
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.undo(first).unwrap();
    let Err(refused) = storage.vote(change) else { panic!("it was undone") };
    let said = refused.to_string();
    let Error::Refused(Refusal::UndoConflict { objects }) = refused else { panic!("{said}") };
    let named: Vec<_> = objects.iter().map(|object| (object.oid.0, object.why)).collect();
    assert_eq!(named, [(1, WhyNot::CreatedAndChanged), (2, WhyNot::OtherVersion), (3, WhyNot::CreatedAndChanged),]);
    assert!(said.contains("object 0000000000000002, which is in another version since"), "{said}");
    assert_eq!(storage.size(), before);
    // Unknown or future tids.
    for tid in [Tid(1), Tid::MAX, Tid(first.0 - 1)] {
        let mut change = storage.begin(TransactionMeta::new()).unwrap();
        change.undo(tid).unwrap();
        let refused = storage.vote(change).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::NotUndoable { .. })), "{refused}");
    }
}

/// The records of an undo count for the quota, though their size is not known before the vote.
#[test]
fn the_quota_holds_for_undos() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let objects: Vec<_> = (0..20).map(|oid| (oid, Some(record(b"1")))).collect();
    let tid = commit(&storage, "made", &objects).unwrap();
    let size = storage.size();
    drop(storage);
    for (quota, fits) in [(size + 1030, false), (size + 1031, true)] {
        let storage = options(&disk, &clock).quota(quota).open(PATH).unwrap();
        let mut change = storage.begin(TransactionMeta::new()).unwrap();
        change.undo(tid).unwrap();
        match storage.vote(change) {
            Ok(_) => assert!(fits),
            Err(refused) => assert!(!fits && matches!(refused, Error::Quota { .. }), "{refused}"),
        }
    }
}

/// A commit of several that was cut among its marks, seen read-only: what the undo log names can be undone.
#[test]
fn what_the_undo_log_names_can_be_undone() {
    let clock = SharedClock::new();
    let disk = SimDisk::new(0);
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let start = storage.size() as usize;
    storage.copy_in([1, 2].map(|n| transaction(1000 + n, Status::Complete, &[(n, b"x")])).to_vec()).unwrap();
    drop(storage);
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes[start + 16] = b'c';
    let disk = SimDisk::new(0);
    disk.write_file(PATH, &bytes);
    let storage = options(&disk, &clock).read_only().open(PATH).unwrap();
    let log = storage.undo_log().unwrap().undo_log(0, 9).unwrap();
    assert_eq!(log.len(), 2);
    for entry in log {
        let mut change = storage.rehearse(TransactionMeta::new()).unwrap();
        change.undo(entry.tid).unwrap();
        assert_eq!(storage.vote(change).map(|voted| voted.touched().len()).unwrap(), 1);
    }
}
