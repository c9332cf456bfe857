//! Many threads on FileStorage: what each was told must have an explanation.

use std::sync::Arc;

use crate::common::{BLOBS, CAN, check_blobs};
use vellum_disk::SimDisk;
use vellum_file::{Durability, Options};
use vellum_harness::concurrent::{Plan, Report, run};
use vellum_harness::hosted::Merger;
use vellum_harness::tick::tick;
use vellum_storage::ManualClock;

/// The same threads do the same then; whether they meet as they did is not certain.
fn again(durability: Durability, seed: u64, packs: u64) -> String {
    let storage = match durability {
        Durability::Full => "file",
        Durability::Relaxed => "file-relaxed",
        Durability::Journal => "file-journal",
    };
    format!(
        "To try it again, more than once if need be:\n\n\
         cargo run --release --bin vellum-prove -- --threads 4 --storage {storage} \
         --seed {seed} --packs {packs} --cases 1\n"
    )
}

fn hold(durability: Durability, seeds: std::ops::Range<u64>, packs: u64) {
    let mut total = Report::default();
    for seed in seeds {
        let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
        let options = Options::new().disk(Arc::new(SimDisk::new(seed))).clock(clock).resolver(Arc::new(Merger));
        let storage = options.durability(durability).journal_bytes(36 << 10).blobs(BLOBS).create("Data.fs").unwrap();
        let plan = Plan { seed, threads: 4, transactions: 40, objects: 4, packs };
        let report = run(&storage, CAN, &plan);
        check_blobs(&storage).unwrap();
        total.add(&report.unwrap_or_else(|failure| panic!("{failure}\n\n{}", again(durability, seed, packs))));
    }
    println!("{total}");
    assert_eq!(total.never(CAN), [""; 0], "{total}");
}

/// Rule 3.0.
#[test]
fn what_many_threads_are_told_has_an_explanation() {
    hold(Durability::Full, 0..40, 0);
}

#[test]
fn what_many_threads_are_told_in_the_weaker_order_has_an_explanation() {
    hold(Durability::Relaxed, 100..130, 0);
    hold(Durability::Journal, 500..540, 0);
}

#[test]
fn what_many_threads_are_told_while_the_file_is_packed_has_an_explanation() {
    hold(Durability::Full, 200..260, 6);
    hold(Durability::Relaxed, 300..320, 6);
    hold(Durability::Journal, 400..440, 6);
}
