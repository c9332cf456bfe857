//! The figure of a pack by counts beside a pack with collection: the same database, of which a tenth is garbage.
//!
//! ```text
//! cargo run --release -p vellum-table --example pack-by-counts -- 200000
//! cargo run --release -p vellum-table --example pack-by-counts -- 200000 shelves
//! ```
//!
//! Without `shelves`, one record refers to all lists, and no step of a pack is shorter than its references. With them,
//! it is a tree: the root refers to shelves, each to a hundred lists.

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

/// Commits a new state of some objects.
fn change(storage: &TableStorage, records: Vec<(u64, Bytes)>) {
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, record) in records {
        let serial = storage.load(Oid(oid), &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        draft.store(Oid(oid), serial, record).unwrap();
    }
    storage.commit(draft).unwrap();
}

/// The shape of the database.
#[derive(Clone, Copy)]
struct Shape {
    objects: u64,
    has_shelves: bool,
}

impl Shape {
    /// The root, or the shelves, that refer to these lists.
    fn upper(self, is_kept: impl Fn(u64) -> bool) -> Vec<(u64, Bytes)> {
        let lists = self.objects / EACH;
        let kept = |from: u64, to: u64| record((from..to).filter(|list| is_kept(*list)).map(|list| 1 + list * EACH));
        if !self.has_shelves {
            return vec![(0, kept(0, lists))];
        }
        let shelves = (0..lists.div_ceil(EACH)).map(|shelf| self.objects + 1 + shelf);
        let shelf = |(n, oid): (u64, u64)| (oid, kept(n * EACH, lists.min((n + 1) * EACH)));
        let root = (0, record(shelves.clone()));
        std::iter::once(root).chain((0..).zip(shelves).map(shelf)).collect()
    }
}

/// The root refers to lists, perhaps by shelves, and each list to its objects.
fn made(path: &Path, shape: Shape) -> TableStorage {
    let storage = TableStorage::create(path).unwrap();
    change(&storage, shape.upper(|_| true));
    for list in 0..shape.objects / EACH {
        let first = 1 + list * EACH;
        let objects = (first + 1..first + EACH).map(|oid| (oid, record(0..0)));
        change(&storage, std::iter::once((first, record(first + 1..first + EACH))).chain(objects).collect());
    }
    storage
}

/// A tenth of the lists goes.
fn drop_a_tenth(storage: &TableStorage, shape: Shape, part: u64) {
    change(storage, shape.upper(|list| list % 10 >= part));
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
    let shape = Shape { objects, has_shelves: std::env::args().nth(2).is_some_and(|text| text == "shelves") };
    let folder = tempfile::tempdir_in(".").unwrap();
    let collect = PackOptions::default().collect(true);
    println!("{objects} objects, {} of them garbage", objects / 10);

    let storage = made(&folder.path().join("collected.vellum"), shape);
    shown("first pack, with collection", beside(&storage, false, || drop(storage.pack_to(Tid::MAX, collect).unwrap())));
    drop_a_tenth(&storage, shape, 1);
    shown("pack with collection", beside(&storage, false, || drop(storage.pack_to(Tid::MAX, collect).unwrap())));
    drop_a_tenth(&storage, shape, 2);
    shown("pack with collection", beside(&storage, true, || drop(storage.pack_to(Tid::MAX, collect).unwrap())));
    let usual = || std::thread::sleep(Duration::from_secs(1));
    shown("commits alone", beside(&storage, true, usual));
    let left = storage.load(Oid::ROOT, &Version::TRUNK).is_ok();
    assert!(left, "the root is there");
    drop(storage);

    let storage = made(&folder.path().join("counted.vellum"), shape);
    shown(
        "first pack by counts, which counts all",
        beside(&storage, false, || storage.pack_by_counts(Tid::MAX).unwrap()),
    );
    drop_a_tenth(&storage, shape, 1);
    shown("pack by counts", beside(&storage, false, || storage.pack_by_counts(Tid::MAX).unwrap()));
    drop_a_tenth(&storage, shape, 2);
    shown("pack by counts", beside(&storage, true, || storage.pack_by_counts(Tid::MAX).unwrap()));
    shown("pack by counts, of nothing", beside(&storage, false, || storage.pack_by_counts(Tid::MAX).unwrap()));
    let there = |oid| storage.load(Oid(oid), &Version::TRUNK).is_ok();
    assert!(!there(2) && !there(EACH + 2) && there(2 * EACH + 2), "two of ten lists went");
    let mut problems = 0;
    storage.check(&mut |_| problems += 1).unwrap();
    println!("{problems} problems");
}
