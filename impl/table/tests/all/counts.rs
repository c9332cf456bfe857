//! Packs by counts (rule 4.11), and packing in the background.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use vellum_disk::SimDisk;
use vellum_harness::node::Node;
use vellum_storage::{Bytes, Error, ManualClock, Oid, Pack, PackOptions, Tid, TransactionMeta, Version};
use vellum_table::{Autopack, Options, Step, TableStorage};

use crate::common::PATH;

/// A record that refers to these objects.
fn record(to: &[u64]) -> Bytes {
    Node { strong: to.iter().copied().map(Oid).collect(), ..Node::default() }.encode()
}

fn checked(storage: &TableStorage) {
    storage.check(&mut |problem| panic!("{problem}")).unwrap();
}

fn is_there(storage: &TableStorage, oid: u64) -> bool {
    match storage.load(Oid(oid), &Version::TRUNK) {
        Ok(_) => true,
        Err(Error::KeyError { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

fn rows(storage: &TableStorage, name: &str) -> u64 {
    storage.summary().unwrap().iter().find(|table| table.name == name).unwrap().rows
}

/// Stores records, each with the objects that it refers to, in one transaction.
fn store(storage: &TableStorage, records: impl IntoIterator<Item = (u64, Vec<u64>)>) -> Tid {
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, to) in records {
        let serial = storage.load(Oid(oid), &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        draft.store(Oid(oid), serial, record(&to)).unwrap();
    }
    storage.commit(draft).unwrap()
}

/// Each object refers to the one before it, so the cascade goes to smaller oids. The next step finds the objects that
/// fell and were not looked at.
#[test]
fn a_chain_of_any_length_goes() {
    const LENGTH: u64 = 100_000;
    let disk = SimDisk::new(0);
    let storage = Options::new().disk(Arc::new(disk)).create(PATH).unwrap();
    store(&storage, [(0, vec![LENGTH])]);
    for first in (1..=LENGTH).step_by(10_000) {
        store(&storage, (first..first + 10_000).map(|oid| (oid, if oid == 1 { vec![] } else { vec![oid - 1] })));
    }
    storage.pack_by_counts(Tid::MAX).unwrap();
    assert_eq!((rows(&storage, "objects"), rows(&storage, "unheld")), (LENGTH + 1, 0));
    store(&storage, [(0, vec![])]);
    storage.pack_by_counts(Tid::MAX).unwrap();
    assert_eq!(rows(&storage, "objects"), 1);
    for table in ["holders", "unheld", "references"] {
        assert_eq!(rows(&storage, table), 0, "{table}");
    }
    checked(&storage);
}

#[test]
fn a_circle_stays_until_a_pack_collects() {
    let storage = Options::new().disk(Arc::new(SimDisk::new(0))).create(PATH).unwrap();
    store(&storage, [(0, vec![1]), (1, vec![2]), (2, vec![1, 3]), (3, vec![])]);
    store(&storage, [(0, vec![])]);
    storage.pack_by_counts(Tid::MAX).unwrap();
    assert!([1, 2, 3].iter().all(|oid| is_there(&storage, *oid)));
    storage.pack_to(Tid::MAX, PackOptions::default().collect(true)).unwrap();
    assert!([1, 2, 3].iter().all(|oid| !is_there(&storage, *oid)));
    assert_eq!((rows(&storage, "holders"), rows(&storage, "unheld")), (0, 0));
    checked(&storage);
}

/// The numbers of removed records are not given out again, since the counts know them.
#[test]
fn records_after_a_reopening_are_counted() {
    let disk = Arc::new(SimDisk::new(0));
    let options = Options::new().disk(Arc::clone(&disk) as Arc<_>);
    let storage = options.create(PATH).unwrap();
    store(&storage, [(0, vec![1]), (1, vec![])]);
    store(&storage, [(2, vec![]), (3, vec![])]);
    storage.pack_by_counts(Tid::MAX).unwrap();
    assert!(!is_there(&storage, 3));
    drop(storage);
    let storage = options.open(PATH).unwrap();
    store(&storage, [(0, vec![1, 4]), (4, vec![])]);
    storage.pack_by_counts(Tid::MAX).unwrap();
    checked(&storage);
    assert!([0, 1, 4].iter().all(|oid| is_there(&storage, *oid)));
    store(&storage, [(0, vec![])]);
    storage.pack_by_counts(Tid::MAX).unwrap();
    checked(&storage);
    assert!([1, 4].iter().all(|oid| !is_there(&storage, *oid)));
}

/// Nothing of an object goes that was written after the time, whatever fell.
#[test]
fn a_cascade_ends_at_what_is_later() {
    let storage = Options::new().disk(Arc::new(SimDisk::new(0))).step_rows(1).create(PATH).unwrap();
    store(&storage, [(0, vec![1]), (1, vec![2]), (2, vec![3]), (3, vec![])]);
    let to = store(&storage, [(0, vec![])]);
    store(&storage, [(2, vec![3])]);
    storage.pack_by_counts(to).unwrap();
    assert!(!is_there(&storage, 1) && is_there(&storage, 2) && is_there(&storage, 3));
    checked(&storage);
    storage.pack_by_counts(Tid::MAX).unwrap();
    assert!(!is_there(&storage, 2) && !is_there(&storage, 3));
    checked(&storage);
}

/// The power goes in every write of a pack by counts. Each database that is left is sound, and the next pack makes of
/// it what an undisturbed one makes.
#[test]
fn a_crash_at_any_write_loses_nothing() {
    let made = |disk: &SimDisk| {
        let storage =
            Options::new().disk(Arc::new(disk.clone())).step_rows(2).cache_bytes(1 << 20).create(PATH).unwrap();
        store(&storage, [(0, vec![1, 10]), (10, vec![11]), (11, vec![])]);
        store(&storage, (1..8).map(|oid| (oid, vec![oid + 1])).chain([(8, vec![10])]));
        store(&storage, [(11, vec![10])]);
        store(&storage, [(0, vec![10])]);
        storage
    };
    let (mut crashes, mut went_on) = (0, 0);
    for after in 0..2000 {
        let disk = SimDisk::new(after);
        let storage = made(&disk);
        let before = disk.operations();
        disk.stop_at(before + after, vellum_disk::Tear::Partly);
        let done = storage.pack_by_counts(Tid::MAX).is_ok();
        drop(storage);
        for disk in [disk.crash_losing_everything(), disk.crash_keeping_everything(), disk.crash(after)] {
            let storage = Options::new().disk(Arc::new(disk)).step_rows(2).cache_bytes(1 << 20).open(PATH).unwrap();
            checked(&storage);
            assert!([0, 10, 11].iter().all(|oid| is_there(&storage, *oid)));
            went_on += u64::from(rows(&storage, "objects") > 3);
            storage.pack_by_counts(Tid::MAX).unwrap();
            checked(&storage);
            assert_eq!(rows(&storage, "objects"), 3);
            crashes += 1;
        }
        if done {
            break;
        }
    }
    assert!(crashes < 6000, "the pack never ended");
    println!("{crashes} crashes, {went_on} of them before the end of the work");
    assert!(crashes > 50 && went_on > 10, "{crashes} {went_on}");
}

/// Autopack packs what is older than what is to be kept, and collects when the database has grown.
#[test]
fn autopack_keeps_what_it_is_told_to_keep() {
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let options = Options::new().disk(Arc::new(SimDisk::new(0))).clock(Arc::clone(&clock) as Arc<_>);
    let storage = options.create(PATH).unwrap();
    let day = || clock.advance(SignedDuration::from_hours(24));
    store(&storage, [(0, vec![1]), (1, vec![])]);
    day();
    store(&storage, [(0, vec![])]);
    let mut autopack = Autopack::new(storage.clone(), Duration::from_secs(36 * 3600));
    let mut idle = || {
        let mut did = Vec::new();
        while did.last() != Some(&Step::Idle) {
            did.push(autopack.step().unwrap());
        }
        did
    };
    day();
    idle();
    assert!(is_there(&storage, 1));
    day();
    idle();
    assert!(!is_there(&storage, 1));
    // Many circles: that is growth.
    store(&storage, (2..3002).map(|oid| (oid, vec![oid])));
    day();
    assert!(!idle().contains(&Step::Collected) && is_there(&storage, 2));
    day();
    assert!(idle().contains(&Step::Collected) && !is_there(&storage, 2));
    checked(&storage);
}

/// Other databases may need what looks like garbage here.
#[test]
fn autopack_frees_nothing_of_one_of_several_databases() {
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let options = Options::new().disk(Arc::new(SimDisk::new(0))).clock(Arc::clone(&clock) as Arc<_>);
    for is_one_of_several in [true, false] {
        let path = format!("{is_one_of_several}.vellum");
        let storage = options.create(path).unwrap();
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        let foreign = if is_one_of_several { vec![Oid(7)] } else { vec![] };
        draft.store(Oid(0), Tid::ZERO, Node { foreign, ..Node::default() }.encode()).unwrap();
        storage.commit(draft).unwrap();
        store(&storage, [(1, vec![])]);
        store(&storage, [(1, vec![])]);
        clock.advance(SignedDuration::from_hours(1));
        let mut autopack = Autopack::new(storage.clone(), Duration::ZERO);
        while autopack.step().unwrap() != Step::Idle {}
        assert_eq!(is_there(&storage, 1), is_one_of_several);
        assert_eq!(rows(&storage, "past"), 0);
        checked(&storage);
    }
}

/// A thread that packs beside commits takes nothing that is needed, and ends when it is told to.
#[test]
fn autopack_beside_commits() {
    let storage = Options::new().disk(Arc::new(SimDisk::new(0))).step_rows(3).create(PATH).unwrap();
    store(&storage, [(0, vec![])]);
    let autopacking = storage.autopack(Duration::ZERO, 1.0).unwrap();
    std::thread::scope(|scope| {
        for thread in 1..4_u64 {
            let storage = &storage;
            scope.spawn(move || {
                // An object of its own, which lists others; it drops them again. The root does not refer to it, but its
                // newest transaction may not be older than the pack, so all is stored together with the list.
                for n in 0..60 {
                    let first = thread * 100_000 + n * 10;
                    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
                    (first..first + 3).for_each(|oid| {
                        let to = if oid == first + 2 { vec![] } else { vec![oid + 1] };
                        draft.store(Oid(oid), Tid::ZERO, record(&to)).unwrap();
                    });
                    storage.commit(draft).unwrap();
                }
            });
        }
        scope.spawn(|| {
            let mut serial = storage.load(Oid::ROOT, &Version::TRUNK).unwrap().tid;
            for n in 1..60 {
                let mut draft = storage.begin(TransactionMeta::new()).unwrap();
                draft.store(Oid(n), Tid::ZERO, record(&[n + 1000])).unwrap();
                draft.store(Oid(n + 1000), Tid::ZERO, record(&[])).unwrap();
                draft.store(Oid::ROOT, serial, record(&[n])).unwrap();
                serial = storage.commit(draft).unwrap();
                assert!(is_there(&storage, n) && is_there(&storage, n + 1000));
            }
        });
    });
    autopacking.end().unwrap();
    checked(&storage);
    storage.pack_by_counts(Tid::MAX).unwrap();
    assert_eq!(rows(&storage, "objects"), 3, "the root, and what it refers to");
    checked(&storage);
}

/// Without circles, both packs leave the same objects.
#[test]
fn without_circles_it_is_a_collection() {
    let packed = |by_counts: bool| {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let options = Options::new().disk(Arc::new(SimDisk::new(0))).clock(clock).step_rows(3);
        let storage = options.create(PATH).unwrap();
        store(&storage, (0..50).map(|oid| (oid, (2 * oid + 1..2 * oid + 3).filter(|to| *to < 50).collect())));
        store(&storage, [(1, vec![4]), (2, vec![])]);
        match by_counts {
            true => storage.pack_by_counts(Tid::MAX).unwrap(),
            false => drop(Pack::pack(&storage, Tid::MAX, PackOptions::default().collect(true)).unwrap()),
        }
        checked(&storage);
        (0..50).filter(|oid| is_there(&storage, *oid)).collect::<Vec<_>>()
    };
    assert_eq!(packed(true), packed(false));
    assert!(packed(true).len() < 40);
}
