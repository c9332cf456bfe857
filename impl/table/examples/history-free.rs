//! The figures of a history-free database beside one that keeps its history: the same commits, each of one object out
//! of a thousand. The file's size is shown as it grows, and the time of a commit with its sync.
//!
//! ```text
//! cargo run --release -p vellum-table --example history-free -- 100000
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use vellum_storage::{Bytes, Oid, Tid, TransactionMeta};
use vellum_table::Options;

const OBJECTS: usize = 1000;
const RECORD_BYTES: usize = 500;

fn main() {
    let commits: usize = std::env::args().nth(1).map_or(100_000, |text| text.parse().expect("a number of commits"));
    let folder = std::env::args().nth(2).unwrap_or_else(|| ".".to_owned());
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    println!("{:<24} {:>10} {:>12} {:>14}", "", "commits", "bytes", "a commit");
    let free = Options::new().history_free(true);
    let kinds = [
        ("keeps its history", Options::new()),
        ("history-free", free.clone()),
        ("history-free, no grace", free.grace(Duration::ZERO)),
    ];
    for (n, (name, options)) in kinds.into_iter().enumerate() {
        measure(name, &options, &folder.path().join(format!("{n}.vellum")), commits);
    }
}

fn measure(name: &str, options: &Options, path: &Path, commits: usize) {
    let storage = options.create(path).expect("a new database");
    let mut serials = vec![Tid::ZERO; OBJECTS];
    // No two records are alike, and the oids come in a fixed order without a pattern.
    let (mut next, mut start) = (1_u64, Instant::now());
    for n in 1..=commits {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let oid = (next >> 33) as usize % OBJECTS;
        let mut record = b"cmodule\nClass\n.U\xf0".to_vec();
        record.extend(n.to_be_bytes());
        record.resize(RECORD_BYTES, b'x');
        let mut draft = storage.begin(TransactionMeta::new()).expect("a transaction");
        draft.store(Oid(oid as u64), serials[oid], Bytes::from(record)).expect("a change");
        serials[oid] = storage.commit(draft).expect("a commit");
        if n % (commits / 4).max(1) == 0 {
            let each = start.elapsed() / (commits / 4).max(1) as u32;
            println!("{name:<24} {n:>10} {:>12} {each:>14.0?}", storage.size());
            start = Instant::now();
        }
    }
}
