//! A history and a plan of crashes, from the bytes: at some operations of the disk the power goes, and the state after
//! the crash must be one that the rules allow.
//!
//! The first byte says what the storage promises, eight more are the seed of what chance does to the disk, and the rest
//! are the dice of the history. So a change in the history changes nothing else, as far as that is possible.

use std::sync::Arc;

use arbitrary::Unstructured;
use vellum_disk::SimDisk;
use vellum_file::Durability;
use vellum_harness::crash::{Plan, Promise, Report, Tried};
use vellum_harness::hosted::Opening;
use vellum_harness::subject::Can;

use crate::site;

/// Steps of a history, operations of the disk that are cut in it, and steps after the last crash.
const STEPS_MAX: usize = 16;
const CUTS_MAX: usize = 3;
const GO_ON: usize = 3;

/// Plays the history that the bytes say, and cuts the power in it.
pub fn crash(input: &[u8]) {
    let Some((&[first, ref seed @ ..], rest)) = input.split_first_chunk::<9>() else { return };
    let durability = match first & 3 {
        1 | 3 => Durability::Relaxed,
        2 => Durability::Journal,
        _ => Durability::Full,
    };
    let relaxed = durability == Durability::Relaxed;
    let opener = move |disk: &SimDisk, opening: Opening| site::open(disk, durability, u64::MAX, opening);
    let promise = if relaxed { Promise::Holes } else { Promise::Whole };
    let tried = Tried {
        name: format!("{durability:?}"),
        can: Can { counts: false, ..Can::EVERYTHING },
        promise,
        opener: Arc::new(opener),
    };
    let seed = u64::from_be_bytes(*seed);
    let plan = Plan { seed, first: 0, cases: 1, steps: STEPS_MAX, cuts_max: CUTS_MAX, go_on: GO_ON };
    let mut report = Report::default();
    if let Err(failure) = plan.case_of(&tried, &mut Unstructured::new(rest), &mut report) {
        panic!("after a crash there is what should not be there:\n{failure}");
    }
}
