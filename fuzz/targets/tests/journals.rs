//! The target `journal` by dice, without a fuzzer: journals with a few changed bytes, and payloads of other lengths.

use vellum_fuzz::journal::journal;
use vellum_harness::dice::{Dice, Seed};

fn play(count: u64) {
    for seed in 0..count {
        let mut dice = Seed(seed);
        let mut input = vec![dice.roll(4) as u8];
        for _ in 0..1 + dice.roll(3) {
            // A field of an entry's header more often than a byte of its payload, and a low byte more often than a high
            // one.
            let block = dice.roll(9) * 4096;
            let at = match dice.roll(4) {
                0 => block + dice.roll(4096),
                1 => block + 39 + 8 * dice.roll(5),
                2 => dice.roll(80),
                _ => block + 32 + dice.roll(80),
            };
            input.extend_from_slice(&(at as u32).to_be_bytes()[1..]);
            input.push(dice.roll(256) as u8);
        }
        let done = std::panic::catch_unwind(|| journal(&input));
        assert!(done.is_ok(), "seed {seed}: {input:?}");
    }
}

#[test]
fn changed_journals() {
    play(1500);
}

/// The same at length.
#[test]
#[ignore = "takes minutes"]
fn many_changed_journals() {
    play(100_000);
}
