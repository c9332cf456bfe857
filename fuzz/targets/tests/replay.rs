//! Every kept input, once, on the stable compiler: no fixed fault returns, and each stays within its limits of time and
//! memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use vellum_fuzz::{TARGETS, Target, seeds};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// One at a time, so that all allocations belong to the input that is run.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs the target, and does not wait for ever.
fn run(target: &Target, input: Vec<u8>) {
    let (run, limit) = (target.run, Duration::from_secs(target.seconds_max));
    let (done, is_done) = mpsc::channel();
    let running = thread::spawn(move || {
        run(&input);
        let _ = done.send(());
    });
    match is_done.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("it takes more than {limit:?}"),
        _ => running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

#[test]
fn every_input_that_is_kept() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    for target in TARGETS {
        let (mut count, mut bytes, mut slowest, mut largest) = (0, 0, Duration::ZERO, 0);
        let folder = fuzz().join("corpus").join(target.name);
        for name in names(&folder) {
            let input = fs::read(folder.join(&name)).unwrap();
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let started = Instant::now();
            println!("{} {name}", target.name);
            run(target, input.clone());
            let (took, memory) = (started.elapsed(), MEMORY.peak_usage().saturating_sub(before));
            assert!(input.len() <= target.length_max, "{} {name} has {} bytes", target.name, input.len());
            assert!(memory < target.memory_bytes_max, "{} {name} allocates {memory} bytes", target.name);
            (count, bytes) = (count + 1, bytes + input.len() as u64);
            (slowest, largest) = (slowest.max(took), largest.max(memory));
        }
        println!(
            "{}: {count} inputs, {bytes} bytes; the slowest took {slowest:?}, the largest {} KiB",
            target.name,
            largest >> 10
        );
        assert!(count > 0, "{} has no inputs", target.name);
        assert!(bytes <= target.corpus_bytes_max, "{} keeps {bytes} bytes of inputs", target.name);
    }
}

#[test]
fn every_target_has_all_that_belongs_to_it() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), targets);
    let binaries = names(&fuzz().join("fuzz_targets"));
    assert_eq!(binaries, targets.iter().map(|name| format!("{name}.rs")).collect());
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is not in fuzz/Cargo.toml", target.name);
        let dictionary = fuzz().join("dictionaries").join(format!("{}.dict", target.name));
        assert_eq!(dictionary.exists(), target.dictionary, "{}", dictionary.display());
        assert_eq!(fs::read_to_string(dictionary).ok(), seeds::dictionary(target.name), "cargo xtask corpus writes it");
    }
}

/// Seeds are as good as kept inputs, and there are more of them.
#[test]
fn every_seed() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let golden = fuzz().join("../fixtures/golden");
    for target in TARGETS {
        let seeds = seeds::seeds(target.name, &golden).unwrap();
        assert!(seeds.len() >= 40, "{} has {} seeds", target.name, seeds.len());
        for (name, input) in seeds {
            println!("{} {name}", target.name);
            assert!(input.len() <= target.length_max, "{name}");
            run(target, input);
        }
    }
}
