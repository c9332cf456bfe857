//! Many threads: what each was told must have an explanation.

use std::sync::Arc;

use vellum_disk::SimDisk;
use vellum_harness::concurrent::{Plan, Report, run};
use vellum_harness::hosted::Merger;
use vellum_harness::tick::tick;
use vellum_storage::ManualClock;
use vellum_table::Options;

use crate::common::{BLOBS, CAN, PATH, check_blobs};

fn hold(seeds: std::ops::Range<u64>, packs: u64) {
    let mut total = Report::default();
    for seed in seeds {
        let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
        let options = Options::new().disk(Arc::new(SimDisk::new(seed))).clock(clock).resolver(Arc::new(Merger));
        let storage = options.step_rows(1).blobs(BLOBS).create(PATH).unwrap();
        let plan = Plan { seed, threads: 4, transactions: 40, objects: 4, packs };
        let report = run(&storage, CAN, &plan);
        check_blobs(&storage).unwrap();
        total.add(&report.unwrap_or_else(|failure| {
            panic!(
                "{failure}\n\nTo try it again, more than once if need be:\n\n\
                 cargo run --release --bin vellum-prove -- --threads 4 --storage table --seed {seed} --packs {packs} \
                 --cases 1\n"
            )
        }));
    }
    println!("{total}");
    assert_eq!(total.never(CAN), [""; 0], "{total}");
}

/// Rule 3.0.
#[test]
fn what_many_threads_are_told_has_an_explanation() {
    hold(0..20, 0);
}

#[test]
fn what_many_threads_are_told_during_packs_has_an_explanation() {
    hold(200..230, 6);
}
