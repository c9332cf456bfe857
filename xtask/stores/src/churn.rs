//! The room that old revisions leave.

use std::path::Path;
use std::time::Instant;

use crate::CACHE_BYTES;
use crate::measure::{mb, on_disk_mb, remove};
use crate::stores::{Op, open};
use crate::workload::{MAIL, fill, meta, record, revision};

const OBJECTS: u64 = 30_000;
const ROUNDS: u64 = 5;

/// The objects are rewritten in this order: `n * STEP` has no common factor with their number.
const STEP: u64 = 39_119;

/// The place of object number `n` in a round.
fn order(n: u64, round: u64) -> u64 {
    (n * STEP + round * 7) % OBJECTS
}

/// Rewrites each object, and deletes its old revision, round after round.
pub fn churn(name: &str, dir: &Path) {
    let path = dir.join(name);
    remove(&path);
    let mut store = open(name, &path, CACHE_BYTES).unwrap();
    let bytes = fill(&*store, OBJECTS, MAIL);
    store.settle();
    let before = on_disk_mb(&path);
    let start = Instant::now();
    let mut most = before;
    // The tid and the number of each object's newest data.
    let mut newest: Vec<(u64, u64)> = (0..OBJECTS).map(|oid| (oid / 10 + 1, oid)).collect();
    for round in 1..=ROUNDS {
        let old = newest.clone();
        for batch in 0..OBJECTS / 1000 {
            let mut ops = Vec::new();
            for n in batch * 1000..(batch + 1) * 1000 {
                let (oid, number, tid) = (order(n, round), round * 1_000_000 + n, round * 1_000_000 + n / 10);
                revision(&mut ops, oid, tid, number, record(oid, round, MAIL));
                if n % 10 == 0 {
                    ops.push(Op::Transaction(tid, meta(tid)));
                }
                newest[oid as usize] = (tid, number);
            }
            store.apply(&ops).unwrap();
        }
        most = most.max(on_disk_mb(&path));
        let old: Vec<_> = old.into_iter().enumerate().collect();
        for batch in old.chunks(1000) {
            let drops = batch
                .iter()
                .flat_map(|&(oid, (tid, number))| [Op::DropRevision(oid as u64, tid), Op::DropData(number)]);
            store.apply(&drops.collect::<Vec<_>>()).unwrap();
        }
        most = most.max(on_disk_mb(&path));
    }
    let took = start.elapsed().as_secs_f64();
    store.settle();
    let after = on_disk_mb(&path);
    let mut reader = store.reader().unwrap();
    for oid in (0..OBJECTS).step_by(97) {
        assert_eq!(reader.load(oid).unwrap().unwrap().1, record(oid, ROUNDS, MAIL));
    }
    drop(reader);
    let start = Instant::now();
    let compacted = store.compact();
    let compact_took = start.elapsed().as_secs_f64();
    drop(store);
    println!(
        "{name:<12} churn: {:.0} MB of data, {before:.0} MB on disk, at most {most:.0} MB, after {ROUNDS} rounds {after:.0} MB \
         ({took:.1} s); compacted {:.0} MB in {compact_took:.1} s{}",
        mb(bytes),
        on_disk_mb(&path),
        compacted.err().map(|error| format!(" ({error})")).unwrap_or_default()
    );
    remove(&path);
}
