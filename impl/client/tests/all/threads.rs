//! Many threads on a server's storage: what each was told must have an explanation.

use std::sync::Arc;

use vellum_client::Access;
use vellum_harness::concurrent::{Plan, Report, run};
use vellum_harness::hosted::Merger;
use vellum_harness::tick::tick;
use vellum_server::Codec;
use vellum_storage::{ManualClock, MemoryStorage};

use crate::common::{Served, speaks};
use crate::proxy::Trouble;
use crate::rules::CAN;

/// A server takes one transaction of a client at a time, and these threads are one client. So their votes wait for each
/// other, and their reads cross everything else.
fn hold(codec: Codec, seeds: std::ops::Range<u64>, trouble: impl Fn(u64) -> Trouble) {
    let mut total = Report::default();
    for seed in seeds {
        let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
        let storage = MemoryStorage::with("memory", clock.clone(), Arc::new(Merger));
        let served = Served::new(Arc::new(storage), clock, speaks(codec));
        let remote = served.storage(Access::Write, trouble(seed));
        let plan = Plan { seed, threads: 4, transactions: 25, objects: 4, packs: 0 };
        total.add(&run(&remote, CAN, &plan).unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{total}");
    assert_eq!(total.never(CAN), [""; 0], "{total}");
}

/// Rule 3.0.
#[test]
fn what_many_threads_are_told_over_a_wire_has_an_explanation() {
    hold(Codec::Msgpack, 0..10, |_| Trouble::none());
}

/// Rule 3.0.
#[test]
fn so_it_has_if_bytes_come_in_pieces_and_late() {
    hold(Codec::Pickle, 100..105, |seed| Trouble::by(seed, 0));
}
