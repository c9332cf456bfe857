//! The figure of a pack by counts beside a pack with collection: the same database, of which a tenth is garbage.
//!
//! ```text
//! cargo run --release -p vellum-table --example pack-by-counts -- 200000
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vellum_storage::{Bytes, Oid, PackOptions, Tid, TransactionMeta, Version};
use vellum_table::TableStorage;

/// Objects of a list.
const EACH: u64 = 100;

/// A record of about 300 bytes that refers to these objects.
fn record(to: impl Iterator<Item = u64>) -> Bytes {
    // The class, a pickle; and the state: a list of persistent ids (protocol 1), and a text.
    let mut bytes = b"cmodule\nClass\n.(".to_vec();
    for oid in to {
        bytes.extend([b'U', 8]);
        bytes.extend(oid.to_be_bytes());
        bytes.push(b'Q');
    }
    bytes.push(b'U');
    bytes.push(200);
    bytes.extend([b'x'; 200]);
    bytes.extend(b"l.");
    bytes.into()
}

/// The root refers to lists, and each list to its objects.
fn made(path: &Path, objects: u64) -> TableStorage {
    let storage = TableStorage::create(path).unwrap();
    let lists = objects / EACH;
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid::ROOT, Tid::ZERO, record((0..lists).map(|list| 1 + list * EACH))).unwrap();
    storage.commit(draft).unwrap();
    for list in 0..lists {
        let first = 1 + list * EACH;
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid(first), Tid::ZERO, record(first + 1..first + EACH)).unwrap();
        (first + 1..first + EACH).for_each(|oid| draft.store(Oid(oid), Tid::ZERO, record(0..0)).unwrap());
        storage.commit(draft).unwrap();
    }
    storage
}

/// The root drops a tenth of the lists.
fn drop_a_tenth(storage: &TableStorage, objects: u64, part: u64) {
    let serial = storage.load(Oid::ROOT, &Version::TRUNK).unwrap().tid;
    let lists = (0..objects / EACH).filter(|list| list % 10 >= part);
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid::ROOT, serial, record(lists.map(|list| 1 + list * EACH))).unwrap();
    storage.commit(draft).unwrap();
}

/// Commits one object again and again during the work; returns the time of the work, and those of the commits.
fn beside(storage: &TableStorage, commits: bool, work: impl FnOnce()) -> (Duration, Vec<Duration>) {
    let is_done = AtomicBool::new(!commits);
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| {
            let mut waits = Vec::new();
            while !is_done.load(Ordering::SeqCst) {
                // An object that no pack takes.
                let oid = Oid(9 * EACH + 2);
                let serial = storage.load(oid, &Version::TRUNK).unwrap().tid;
                let mut draft = storage.begin(TransactionMeta::new()).unwrap();
                draft.store(oid, serial, record(0..0)).unwrap();
                let start = Instant::now();
                storage.commit(draft).unwrap();
                waits.push(start.elapsed());
            }
            waits
        });
        let start = Instant::now();
        work();
        let took = start.elapsed();
        is_done.store(true, Ordering::SeqCst);
        (took, committing.join().unwrap())
    })
}

fn shown(name: &str, (took, mut waits): (Duration, Vec<Duration>)) {
    waits.sort_unstable();
    let wait = |waits: &[Duration]| match waits {
        [] => String::new(),
        all => format!(
            "; {} commits beside it: median {:.2} ms, longest {:.2} ms",
            all.len(),
            all[all.len() / 2].as_secs_f64() * 1e3,
            all[all.len() - 1].as_secs_f64() * 1e3
        ),
    };
    println!("{name}: {:.2} s{}", took.as_secs_f64(), wait(&waits));
}

fn main() {
    let objects = std::env::args().nth(1).map_or(200_000, |text| text.parse().expect("a number of objects"));
    let folder = tempfile::tempdir_in(".").unwrap();
    let collect = PackOptions::default().collect(true);
    println!("{objects} objects, {} of them garbage", objects / 10);

    let storage = made(&folder.path().join("collected.vellum"), objects);
    shown("first pack, with collection", beside(&storage, false, || drop(storage.pack_to(Tid::MAX, collect).unwrap())));
    drop_a_tenth(&storage, objects, 1);
    shown("pack with collection", beside(&storage, false, || drop(storage.pack_to(Tid::MAX, collect).unwrap())));
    drop_a_tenth(&storage, objects, 2);
    shown("pack with collection", beside(&storage, true, || drop(storage.pack_to(Tid::MAX, collect).unwrap())));
    let usual = || std::thread::sleep(Duration::from_secs(1));
    shown("commits alone", beside(&storage, true, usual));
    let left = storage.load(Oid::ROOT, &Version::TRUNK).is_ok();
    assert!(left, "the root is there");
    drop(storage);

    let storage = made(&folder.path().join("counted.vellum"), objects);
    shown(
        "first pack by counts, which counts all",
        beside(&storage, false, || storage.pack_by_counts(Tid::MAX).unwrap()),
    );
    drop_a_tenth(&storage, objects, 1);
    shown("pack by counts", beside(&storage, false, || storage.pack_by_counts(Tid::MAX).unwrap()));
    drop_a_tenth(&storage, objects, 2);
    shown("pack by counts", beside(&storage, true, || storage.pack_by_counts(Tid::MAX).unwrap()));
    shown("pack by counts, of nothing", beside(&storage, false, || storage.pack_by_counts(Tid::MAX).unwrap()));
    let there = |oid| storage.load(Oid(oid), &Version::TRUNK).is_ok();
    assert!(!there(2) && !there(EACH + 2) && there(2 * EACH + 2), "two of ten lists went");
    let mut problems = 0;
    storage.check(&mut |_| problems += 1).unwrap();
    println!("{problems} problems");
}
