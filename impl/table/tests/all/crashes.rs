//! The harness's histories, with the power going in every operation of the disk.

use std::sync::Arc;

use vellum_disk::SimDisk;
use vellum_harness::crash::{Plan, Promise, Tried};
use vellum_harness::hosted::Opening;
use vellum_table::Options;

use crate::common::{CAN, open_under_harness};

/// Rule 3.0.
#[test]
fn what_is_found_after_a_crash_is_what_the_rules_allow() {
    let opener = move |disk: &SimDisk, opening: Opening| {
        open_under_harness(Options::new().disk(Arc::new(disk.clone())).step_rows(2), opening)
    };
    let tried = Tried { name: "TableStorage".into(), can: CAN, promise: Promise::Whole, opener: Arc::new(opener) };
    let plan = Plan { seed: 1, first: 0, cases: 12, steps: 20, cuts_max: 40, go_on: 4 };
    let report = plan.run(&tried, &mut |_| ()).unwrap_or_else(|failure| {
        let (seed, case, steps) = (failure.seed, failure.case, plan.steps);
        panic!(
            "{failure}\nTo see it again:\n\ncargo run --release --bin vellum-prove -- --crashes --storage table \
             --seed {seed} --first {case} --cases 1 --steps {steps}\n"
        )
    });
    println!("{report}");
    assert_eq!(report.never(&tried), [""; 0], "{report}");
}
