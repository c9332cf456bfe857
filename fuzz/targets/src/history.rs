//! The harness's histories, on dice that the bytes are: operations against the specification, reopenings and packs
//! included.
//!
//! The first byte says how the storage is set up. A difference is shrunk, step by step, and printed as a script that
//! `vellum-prove --script` plays again.

use arbitrary::Unstructured;
use vellum_file::Durability;
use vellum_harness::coverage::Coverage;
use vellum_harness::{run, shrink};

use crate::site;

/// Steps of a history.
const STEPS_MAX: usize = 60;

/// Histories that may be played to make one shorter.
const SHRINK_BUDGET: usize = 300;

/// Plays the history that the bytes say.
pub fn history(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let durability = match first & 5 {
        0 => Durability::Full,
        4 => Durability::Journal,
        _ => Durability::Relaxed,
    };
    let spill_after = if first & 2 == 0 { u64::MAX } else { 1 };
    let mut subject = site::hosted(durability, spill_after);
    let mut dice = Unstructured::new(rest);
    let played = run::play_random(&mut subject, &mut dice, STEPS_MAX, &mut Coverage::default());
    if let Err(difference) = played {
        let shortest = shrink::shrink(&mut subject, difference, SHRINK_BUDGET);
        panic!("FileStorage, {durability:?}, does not keep the rules:\n{shortest}");
    }
}
