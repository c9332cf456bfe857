//! Random histories, every answer compared with the specification's after every step.

use std::sync::Arc;

use proptest::prelude::*;
use vellum_disk::SimDisk;
use vellum_harness::campaign::Campaign;
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::generate::history;
use vellum_harness::hosted::{Hosted, Opening};
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::subject::Subject;
use vellum_table::Options;

use crate::common::{CAN, open_under_harness};

/// On a disk of its own for each history, with steps of so many rows.
pub fn subject(step_rows: usize, spill_after: u64) -> Hosted {
    let mut disk = SimDisk::new(0);
    Hosted::new("TableStorage", CAN, move |opening: Opening| {
        if opening.fresh {
            disk = SimDisk::new(0);
        }
        let options = Options::new().disk(Arc::new(disk.clone())).step_rows(step_rows).spill_after(spill_after);
        open_under_harness(options, opening)
    })
}

fn hold(step_rows: usize, spill_after: u64, seed: u64, cases: u64) -> Coverage {
    let make = || Ok(Box::new(subject(step_rows, spill_after)) as Box<dyn Subject>);
    let campaign = Campaign { seed, first: 0, cases, steps: 30, jobs: 1, keep_going: false, shrink_budget: 3000 };
    let report = campaign.run(&make, &|_| ()).unwrap();
    if let Some(found) = report.found.first() {
        let command = found.difference.command("--storage table");
        panic!("case {}, made short; to play it again:\n\n{command}", found.case);
    }
    println!("{:.0} histories a minute", report.rate);
    report.coverage
}

#[test]
fn in_large_steps() {
    let coverage = hold(256, u64::MAX, 1, 1000);
    println!("{}", coverage.table(CAN));
    assert_eq!(coverage.missing(CAN), []);
}

#[test]
fn in_small_steps_and_with_records_that_wait_on_disk() {
    hold(1, 1, 2, 200);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    /// Longer than the others, and of a seed that is new each time.
    #[test]
    fn long_histories(seed in any::<u64>().no_shrink()) {
        let (steps, mut subject) = (history(&mut Seed(seed), CAN, 200), subject(3, 200));
        if let Err(difference) = run::play(&mut subject, &steps, &mut Coverage::default()) {
            let command = shrink(&mut subject, difference, 3000).command("--storage table");
            return Err(TestCaseError::fail(format!("made short; to play it again:\n\n{command}\nIt came from this")));
        }
    }
}
