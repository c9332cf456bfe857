//! Every history of the small worlds, over the wire.

use vellum_harness::small::{Bound, Search};
use vellum_harness::subject::{Can, Subject};
use vellum_server::Codec;

use crate::proxy::Trouble;
use crate::rules::{CAN, remote};

/// Explores a bound, and prints the numbers of states and tests.
fn explored(bound: &str, codec: Codec) {
    let can = Can { versions: true, ..CAN };
    let make = || Ok(Box::new(remote(codec, Trouble::none(), can)) as Box<dyn Subject>);
    let bound: Bound = bound.parse().unwrap();
    let report = Search { bound, jobs: 2 }.run(&make, None, &mut |_, _| ()).unwrap();
    println!("{bound}: {report}");
    if let Some((test, difference)) = report.found {
        panic!("test {test}:\n{difference}");
    }
    assert!(report.tests > 100, "{report}");
}

#[test]
fn every_history_of_a_small_world_keeps_the_rules() {
    explored("transactions=1 changes=2", Codec::Msgpack);
    explored("transactions=1 packs=1 reopens=1 versions", Codec::Pickle);
}

/// Takes minutes: `cargo xtask nightly` runs it.
#[test]
#[ignore = "slow"]
fn every_history_of_a_larger_world_keeps_the_rules() {
    explored("transactions=2 packs=1 reopens=1 aborts=1 versions root", Codec::Msgpack);
    explored("transactions=3", Codec::Pickle);
}
