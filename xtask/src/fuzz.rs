//! `cargo xtask fuzz` and `cargo xtask corpus`: the fuzz targets under libFuzzer, and the inputs that are kept of it.
//!
//! The targets are in `fuzz/targets`, and `cargo test` replays the kept inputs. Here cargo-fuzz generates the bytes,
//! which takes the nightly compiler. A run works in a folder of its own under `target/`, so that the kept inputs change
//! only on demand:
//!
//! ```text
//!   seeds (by program) ──┐
//!   fuzz/corpus/TARGET ──┼──▶ target/fuzzing/corpus/TARGET ──▶ libFuzzer ──▶ fuzz/artifacts/TARGET   what fails
//!                        │              ▲     │                    │
//!                        │              └─────┼────── what is new ─┘
//!                        └◀── corpus: merged ─┘
//! ```
//!
//! The code is built without a sanitizer: no target runs unsafe code that a sanitizer could check, and without it there
//! are twice as many inputs a second. Debug assertions and overflow checks are on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use vellum_fuzz::{TARGETS, Target, seeds, target};

use crate::venv::{self, workshop, workspace};
use crate::{Outcome, day, number};

/// Memory besides that of the input: the corpus, and libFuzzer's notes.
const MEMORY_BESIDES_MB: usize = 768;

/// Runs fuzz targets, one after the other
///
/// Needs cargo-fuzz and the nightly compiler. Inputs that fail are written to fuzz/artifacts; new inputs are kept under
/// target/.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// The targets to run; all of them if none is given
    #[arg(value_name = "TARGET", value_parser = named)]
    targets: Vec<&'static Target>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value = "60", value_parser = number)]
    seconds: u64,
    /// Run N of them, a different part each day
    #[arg(long, value_name = "N", value_parser = number, conflicts_with = "targets")]
    today: Option<u64>,
    /// Print failures and totals only
    #[arg(long)]
    quiet: bool,
}

/// Reduces the fuzz inputs to the smallest set that takes all branches
///
/// Makes the dictionaries and the seeds, merges them with the inputs that were found, and puts the result into
/// fuzz/corpus.
#[derive(Debug, Args)]
pub struct Corpus {
    /// The targets to reduce; all of them if none is given
    #[arg(value_name = "TARGET", value_parser = named)]
    targets: Vec<&'static Target>,
}

impl Fuzz {
    /// Runs the targets, and fails if one of them does.
    pub fn run(self) -> Outcome {
        let seconds = self.seconds;
        let all = or_all(self.targets);
        let targets = if let Some(count) = self.today { day::part(all, count) } else { all };
        prepared()?;
        build(&targets)?;
        let mut failed = Vec::new();
        for target in targets {
            let corpus = working(target)?;
            let artifacts = fuzz().join("artifacts").join(target.name);
            fs::create_dir_all(&artifacts)?;
            println!("\n=== {}: {seconds} s, {} inputs to begin with", target.name, fs::read_dir(&corpus)?.count());
            let mut command = cargo_fuzz("run", target)?;
            command.arg(&corpus).arg("--").args(limits(target)).arg(format!("-max_total_time={seconds}"));
            command.args([format!("-artifact_prefix={}/", artifacts.display()), "-print_final_stats=1".to_owned()]);
            if self.quiet {
                // Reports failures and the amount of work, but not each new input.
                command.arg("-verbosity=0");
            }
            if !command.status()?.success() {
                failed.push(target.name);
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        let artifacts = fuzz().join("artifacts");
        Err(format!("{} failed: the inputs are in {}", failed.join(", "), artifacts.display()).into())
    }
}

impl Corpus {
    /// Makes the seeds, and keeps as few inputs as take all branches.
    pub fn run(self) -> Outcome {
        let targets = or_all(self.targets);
        for target in TARGETS {
            if let Some(words) = seeds::dictionary(target.name) {
                fs::write(dictionary(target), words)?;
            }
        }
        prepared()?;
        build(&targets)?;
        for target in targets {
            let working = working(target)?;
            let merged = workshop("fuzzing")?.join("merged").join(target.name);
            if merged.exists() {
                fs::remove_dir_all(&merged)?;
            }
            fs::create_dir_all(&merged)?;
            let mut command = cargo_fuzz("run", target)?;
            command.arg(&merged).arg(&working).arg("--").args(limits(target));
            // Branches, and not how often they are taken: that would be ten times as many inputs.
            command.args(["-set_cover_merge=1", "-use_counters=0"]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            venv::succeed(&mut command)?;
            keep(target, &merged)?;
        }
        Ok(())
    }
}

/// Replaces the kept inputs by the merged ones: the small ones first, up to the limit. An input that failed once has a
/// descriptive name, and stays; others are called by their hash, or are seeds.
fn keep(target: &Target, merged: &Path) -> Outcome {
    let kept = fuzz().join("corpus").join(target.name);
    fs::create_dir_all(&kept)?;
    let seeds = seeds::seeds(target.name, &golden())?;
    let is_found = |name: &str| !seeds.contains_key(name) && name.contains('-');
    let mut bytes = 0;
    for entry in fs::read_dir(&kept)? {
        let entry = entry?;
        if is_found(&entry.file_name().to_string_lossy()) {
            bytes += entry.metadata()?.len();
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(merged)? {
        let entry = entry?;
        if !is_found(&entry.file_name().to_string_lossy()) {
            all.push((entry.metadata()?.len(), entry.path()));
        }
    }
    all.sort();
    let (total, mut count) = (all.len(), 0);
    for (length, path) in all {
        if bytes + length > target.corpus_bytes_max {
            break;
        }
        fs::copy(&path, kept.join(path.file_name().unwrap_or_default()))?;
        (bytes, count) = (bytes + length, count + 1);
    }
    println!("{}: {count} of {total} inputs are kept, {} KiB with what was found", target.name, bytes >> 10);
    Ok(())
}

/// The target of this name.
fn named(name: &str) -> Result<&'static Target, String> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    target(name).ok_or_else(|| format!("there is no target `{name}`; there is {}", names()))
}

fn or_all(targets: Vec<&'static Target>) -> Vec<&'static Target> {
    if targets.is_empty() { TARGETS.iter().collect() } else { targets }
}

/// Whether all is there that is needed; if not, what to do. Nothing is installed unasked.
fn prepared() -> Outcome {
    let works = |arguments: &[&str]| {
        let quiet = Command::new("cargo").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    if !works(&["+nightly", "--version"]) {
        return Err("the nightly compiler is not there: rustup toolchain install nightly --profile minimal".into());
    }
    if !works(&["fuzz", "--version"]) {
        return Err("cargo-fuzz is not there: cargo install cargo-fuzz --locked".into());
    }
    Ok(())
}

fn build(targets: &[&Target]) -> Outcome {
    if targets.len() == TARGETS.len() {
        return venv::succeed(&mut base("build")?);
    }
    // Each of them alone: the others would be built as well.
    targets.iter().try_for_each(|target| venv::succeed(&mut cargo_fuzz("build", target)?))
}

fn cargo_fuzz(what: &str, target: &Target) -> Result<Command, Box<dyn std::error::Error>> {
    let mut command = base(what)?;
    command.arg(target.name);
    Ok(command)
}

fn base(what: &str) -> Result<Command, Box<dyn std::error::Error>> {
    let mut command = Command::new("cargo");
    command.current_dir(fuzz()).args(["+nightly", "fuzz", what, "--fuzz-dir", ".", "--sanitizer", "none"]);
    command.arg("--target-dir").arg(workshop("fuzzing")?.join("build"));
    Ok(command)
}

fn limits(target: &Target) -> Vec<String> {
    let mut limits = vec![
        format!("-max_len={}", target.length_max),
        format!("-rss_limit_mb={}", (target.memory_bytes_max >> 20) + MEMORY_BESIDES_MB),
        format!("-timeout={}", target.seconds_max),
    ];
    if target.dictionary {
        limits.push(format!("-dict={}", dictionary(target).display()));
    }
    limits
}

/// The folder that a run works in, with the kept inputs and the seeds in it.
fn working(target: &Target) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let folder = workshop("fuzzing")?.join("corpus").join(target.name);
    fs::create_dir_all(&folder)?;
    let kept = fuzz().join("corpus").join(target.name);
    for entry in fs::read_dir(&kept).into_iter().flatten() {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    for (name, bytes) in seeds::seeds(target.name, &golden())? {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(folder)
}

fn fuzz() -> PathBuf {
    workspace().join("fuzz")
}

fn golden() -> PathBuf {
    workspace().join("fixtures/golden")
}

fn dictionary(target: &Target) -> PathBuf {
    fuzz().join("dictionaries").join(format!("{}.dict", target.name))
}
