//! Giving freed space back to the system.

use std::sync::Arc;

use vellum_disk::{SimDisk, Tear};
use vellum_storage::{Bytes, Oid, Order, PackOptions, Tid, TidRange, TransactionMeta};
use vellum_table::{OpenError, Options};

use crate::common::PATH;

fn options(disk: &SimDisk) -> Options {
    Options::new().disk(Arc::new(disk.clone())).threads(1).cache_bytes(0)
}

/// A closed database of which a pack has freed the most: of ten revisions of each object, the newest stays.
fn packed() -> SimDisk {
    let disk = SimDisk::new(1);
    let storage = options(&disk).create(PATH).unwrap();
    let mut serials = [Tid::ZERO; 30];
    for round in 0..10_u8 {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        for (oid, serial) in (0..).map(Oid).zip(&serials) {
            draft.store(oid, *serial, Bytes::from(vec![round; 2000])).unwrap();
        }
        let tid = storage.commit(draft).unwrap();
        serials = [tid; 30];
    }
    storage.pack_to(Tid::MAX, PackOptions::default().collect(false)).unwrap();
    drop(storage);
    disk.crash_keeping_everything()
}

/// All transactions, as text; and the tables agree with each other.
fn contents(disk: &SimDisk) -> String {
    let storage = options(disk).open(PATH).unwrap();
    let mut problems = Vec::new();
    storage.check(&mut |problem| problems.push(problem.to_string())).unwrap();
    assert_eq!(problems, [""; 0]);
    let all: Result<Vec<_>, _> = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().collect();
    format!("{:?}", all.unwrap())
}

#[test]
fn a_file_shrinks_to_what_its_tables_have() {
    let disk = packed();
    let before = contents(&disk);
    let compacted = options(&disk).compact(PATH).unwrap();
    assert_eq!(compacted.after, disk.read_file(PATH).unwrap().len() as u64);
    assert!(compacted.after * 3 < compacted.before, "{compacted:?}");
    assert!(contents(&disk) == before);
}

#[test]
fn nothing_is_lost_wherever_the_power_goes() {
    let base = packed();
    let before = contents(&base);
    let base = base.crash_keeping_everything();
    let whole = base.crash_keeping_everything();
    let first = whole.operations();
    options(&whole).compact(PATH).unwrap();
    let operations = whole.operations() - first;
    assert!(operations > 20, "{operations}");
    for operation in 0..operations {
        for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
            let disk = base.crash_keeping_everything();
            disk.stop_at(disk.operations() + operation, tear);
            // It may have been done in time.
            let _ = options(&disk).compact(PATH);
            for found in [disk.crash_losing_everything(), disk.crash_keeping_everything(), disk.crash(operation)] {
                assert!(contents(&found) == before, "power off in operation {operation} ({tear:?})");
            }
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_lost() {
    let base = packed();
    let before = contents(&base);
    let base = base.crash_keeping_everything();
    let whole = base.crash_keeping_everything();
    options(&whole).compact(PATH).unwrap();
    let operations = whole.operations() - base.operations();
    let mut refused = 0;
    for operation in 0..operations {
        let disk = base.crash_keeping_everything();
        disk.fail_at(disk.operations() + operation, std::io::ErrorKind::StorageFull, true);
        match options(&disk).compact(PATH) {
            Ok(_) => {}
            Err(OpenError::Storage(_)) => refused += 1,
            Err(other) => panic!("operation {operation} failed: {other}"),
        }
        assert!(contents(&disk.crash_keeping_everything()) == before, "operation {operation} failed");
    }
    // Only the closing of a store tells nobody of a failure: the next opening makes up for it.
    assert!(refused * 10 > operations * 9, "{refused} of {operations}");
}

#[test]
fn a_database_that_is_open_is_left_alone() {
    let disk = packed();
    let storage = options(&disk).open(PATH).unwrap();
    assert!(matches!(options(&disk).compact(PATH), Err(OpenError::Locked { .. })));
    drop(storage);
}
