//! The harness's histories on FileStorage, with the power going in every operation of the disk.
//!
//! `crash/commits.rs` does the same with histories of its own, in which commits come together and share their syncs;
//! here every answer after the crash is checked against the rules, and the database continues.

use std::sync::Arc;

use crate::common::{CAN, open_under_harness};
use vellum_disk::SimDisk;
use vellum_file::{Durability, Options};
use vellum_harness::crash::{Plan, Promise, Report, Tried};
use vellum_harness::hosted::Opening;

fn tried(durability: Durability) -> Tried {
    let promise = match durability {
        Durability::Full | Durability::Journal => Promise::Whole,
        Durability::Relaxed => Promise::Holes,
    };
    let opener = move |disk: &SimDisk, opening: Opening| {
        let options = Options::new().disk(Arc::new(disk.clone())).durability(durability);
        // So small that a history goes round in it.
        open_under_harness(options.journal_bytes(36 << 10), opening)
    };
    Tried { name: format!("FileStorage, {durability:?}"), can: CAN, promise, opener: Arc::new(opener) }
}

fn hold(tried: &Tried, plan: &Plan) -> Report {
    let report = plan.run(tried, &mut |_| ()).unwrap_or_else(|failure| {
        let (seed, case, steps) = (failure.seed, failure.case, plan.steps);
        let storage = match &*tried.name {
            "FileStorage, Full" => "file",
            "FileStorage, Journal" => "file-journal",
            _ => "file-relaxed",
        };
        panic!(
            "{failure}\nTo see it again:\n\ncargo run --release --bin vellum-prove -- --crashes --storage {storage} \
             --seed {seed} --first {case} --cases 1 --steps {steps}\n"
        )
    });
    println!("{report}");
    assert_eq!(report.never(tried), [""; 0], "{report}");
    report
}

/// Rule 3.0.
#[test]
fn what_is_found_after_a_crash_is_what_the_rules_allow() {
    let plan = Plan { seed: 1, first: 0, cases: 30, steps: 20, cuts_max: 40, go_on: 4 };
    hold(&tried(Durability::Full), &plan);
}

/// Rule 3.0.
#[test]
fn with_a_journal_what_is_found_after_a_crash_is_what_the_rules_allow() {
    let plan = Plan { seed: 3, first: 0, cases: 30, steps: 20, cuts_max: 40, go_on: 4 };
    hold(&tried(Durability::Journal), &plan);
}

#[test]
fn in_the_weaker_order_only_the_transaction_under_way_can_have_holes() {
    let plan = Plan { seed: 2, first: 0, cases: 30, steps: 20, cuts_max: 40, go_on: 4 };
    hold(&tried(Durability::Relaxed), &plan);
}
