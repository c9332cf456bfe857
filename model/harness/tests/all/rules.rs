//! The rules held to themselves, and the storage in memory held to the rules.

use vellum_harness::coverage::Coverage;
use vellum_harness::dice::{Dice, Seed};
use vellum_harness::generate::from_bytes;
use vellum_harness::hosted::Hosted;
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::subject::{Can, Subject};

fn hold(subject: &mut dyn Subject, storage: &str, cases: u64, length: usize) -> Coverage {
    let mut coverage = Coverage::default();
    for case in 0..cases {
        if let Err(found) = run::case(subject, 1, case, length, &mut coverage) {
            let found = shrink(subject, found, 2000);
            panic!("case {case}, made short; to play it again:\n\n{}", found.command(storage));
        }
    }
    coverage
}

#[test]
fn the_rules_keep_the_rules() {
    let coverage = hold(&mut Hosted::rules(), "--storage rules", 3000, 30);
    println!("{}", coverage.table(Can::EVERYTHING));
    assert_eq!(coverage.missing(Can::EVERYTHING), []);
}

#[test]
fn the_storage_in_memory_keeps_the_rules() {
    let mut memory = Hosted::memory();
    let coverage = hold(&mut memory, "--storage memory", 3000, 30);
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

/// The log has a command that shows the difference.
#[test]
fn a_difference_is_a_command_that_plays_it_again() {
    let steps = vellum_harness::script::parse("store a 1 @0: 5\ncommit a @1").unwrap();
    let (name, at, rules, storage) = ("memory".into(), "? load 1".into(), "[5] at @1".into(), "key error".into());
    let difference = run::Difference { name, steps: steps.clone(), at, rules, storage };
    let command = difference.command("--storage memory");
    let lines: Vec<&str> = command.lines().collect();
    let first = "cargo run --release --bin vellum-prove -- --storage memory --script /dev/stdin <<'END'";
    assert_eq!((lines[0], lines[lines.len() - 1]), (first, "END"));
    assert_eq!(vellum_harness::script::parse(&lines[1..lines.len() - 1].join("\n")).unwrap(), steps);
}

/// A fuzzer's bytes are a history too: the same bytes give the same one, and other bytes other ones.
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
