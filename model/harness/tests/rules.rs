//! The rules held to themselves, and the storage in memory held to the rules.

use vellum_harness::coverage::Coverage;
use vellum_harness::dice::{Dice, Seed};
use vellum_harness::generate::from_bytes;
use vellum_harness::hosted::Hosted;
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::subject::{Can, Subject};

fn hold(subject: &mut dyn Subject, cases: u64, length: usize) -> Coverage {
    let mut coverage = Coverage::default();
    for case in 0..cases {
        if let Err(found) = run::case(subject, 1, case, length, &mut coverage) {
            panic!("case {case}, shrunk:\n{}", shrink(subject, found, 2000));
        }
    }
    coverage
}

#[test]
fn the_rules_keep_the_rules() {
    let coverage = hold(&mut Hosted::rules(), 3000, 30);
    println!("{}", coverage.table(Can::EVERYTHING));
    assert_eq!(coverage.missing(Can::EVERYTHING), []);
}

#[test]
fn the_storage_in_memory_keeps_the_rules() {
    let mut memory = Hosted::memory();
    let coverage = hold(&mut memory, 3000, 30);
    println!("{}", coverage.table(memory.can()));
    assert_eq!(coverage.missing(memory.can()), []);
}

#[test]
fn a_panic_is_a_difference_like_any_other() {
    let can = Can { reopen: true, ..Can::default() };
    let mut clumsy = Hosted::new("clumsy", can, |opening| {
        assert!(opening.fresh, "what was here?");
        Ok(Box::new(vellum_storage::MemoryStorage::new("clumsy")))
    });
    let steps = vellum_harness::script::parse("reopen").unwrap();
    let difference = run::play(&mut clumsy, &steps, &mut Coverage::default()).unwrap_err();
    assert_eq!(difference.storage, "failed: it panicked: what was here?");
}

/// What a fuzzer makes up is a history too: the same bytes the same one, and other bytes other ones.
#[test]
fn bytes_are_histories() {
    let bytes = |seed: u64| -> Vec<u8> {
        let mut dice = Seed(seed);
        (0..2000).map(|_| dice.roll(256) as u8).collect()
    };
    let mut seen = Vec::new();
    for seed in 0..50 {
        let steps = from_bytes(&bytes(seed), Can::EVERYTHING, 30);
        assert_eq!(steps, from_bytes(&bytes(seed), Can::EVERYTHING, 30));
        assert_eq!(steps.len(), 30);
        run::play(&mut Hosted::rules(), &steps, &mut Coverage::default()).unwrap_or_else(|found| panic!("{found}"));
        assert!(!seen.contains(&steps));
        seen.push(steps);
    }
    assert_eq!(from_bytes(&[], Can::EVERYTHING, 30), []);
}
