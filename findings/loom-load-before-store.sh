#!/usr/bin/env bash
# loom 0.7.3. A writer changes a value under a lock, and then stores 1 to an atomic. A reader reads the value under the lock, and
# then loads the atomic. The reader can see the old value and the 1: it reads first, and is interrupted. If the writer loads the
# atomic before it stores it, loom does not try that any more, without a bound and without a word: it compares the store with the
# last access only, which is then the writer's own load.
#
# Expected: both lines have the outcome (0, 1)
# Seen: store:           [(0, 0), (0, 1), (1, 0), (1, 1)]
#       load, and store: [(0, 0), (1, 0), (1, 1)]
#
# Needs cargo.
VELLUM_PEER_PYTHON=${VELLUM_PEER_PYTHON:-python3}
. "$(dirname "$0")/common.inc"
printf 'with loom==0.7.3\n'
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "outcomes"
version = "0.1.0"
edition = "2021"

[dependencies]
loom = "=0.7.3"

[workspace]
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::collections::BTreeSet;
use std::sync::{Arc as StdArc, Mutex as StdMutex};

use loom::sync::atomic::{AtomicUsize, Ordering::{Acquire, Release}};
use loom::sync::{Arc, Mutex};

fn outcomes(loads_first: bool) -> BTreeSet<(usize, usize)> {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let found = seen.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = None;
    model.check(move || {
        let shared = Arc::new((Mutex::new(0), AtomicUsize::new(0)));
        let of_writer = shared.clone();
        let writer = loom::thread::spawn(move || {
            *of_writer.0.lock().unwrap() = 1;
            if !loads_first || of_writer.1.load(Acquire) == 0 {
                of_writer.1.store(1, Release);
            }
        });
        let value = *shared.0.lock().unwrap();
        let flag = shared.1.load(Acquire);
        writer.join().unwrap();
        found.lock().unwrap().insert((value, flag));
    });
    let seen = seen.lock().unwrap();
    seen.clone()
}

fn main() {
    println!("store:           {:?}", outcomes(false).into_iter().collect::<Vec<_>>());
    println!("load, and store: {:?}", outcomes(true).into_iter().collect::<Vec<_>>());
}
RUST
output=$(cd "$folder" && CARGO_TARGET_DIR="$folder/target" cargo run --quiet 2>/dev/null)
saw "loom misses an outcome if the storing thread has just loaded the same" "$output" \
    "^store: +\[\(0, 0\), \(0, 1\), \(1, 0\), \(1, 1\)\]$" "^load, and store: \[\(0, 0\), \(1, 0\), \(1, 1\)\]$"
