//! `cargo xtask mutants`: thousands of small changes of the code, each of which a check must notice.
//!
//! The planted bugs are those that their authors thought of. cargo-mutants makes the others: it replaces a function by
//! a constant, an operator by another one, and so on, and runs the package's checks.
//!
//! ```text
//!   package ── cargo-mutants, in a copy ──▶ target/mutants/PACKAGE/K-of-N/mutants.out ──┐
//!   model/harness/mutants.toml ── excluded, each with a reason ─────────────────────────┼──▶ a line, and the survivors
//! ```
//!
//! A mutant is named as cargo-mutants does, without line and column: so an entry of the list outlives other changes of
//! its file. An entry whose mutant does not exist, or is caught, is an error. A run that was interrupted goes on where
//! it was: cargo-mutants passes over the mutants that it has caught already.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use serde::Deserialize;

use crate::venv::{workshop, workspace};
use crate::{Outcome, number};

type Trouble = Box<dyn std::error::Error>;

/// A package, and the short checks that are meant to hold it.
#[derive(Debug)]
struct Package {
    name: &'static str,
    /// The packages whose tests are the check.
    tests: &'static [&'static str],
    /// Further arguments of `cargo test`.
    arguments: &'static [&'static str],
    /// Whether it builds so soon that a part of its mutants can be tried each day.
    daily: bool,
}

const PACKAGES: &[Package] = &[
    Package { name: "vellum-spec", tests: &["vellum-spec"], arguments: &[], daily: true },
    Package { name: "vellum-pickle", tests: &["vellum-pickle"], arguments: &[], daily: true },
    Package { name: "vellum-disk", tests: &["vellum-disk"], arguments: &[], daily: true },
    Package {
        name: "vellum-storage",
        tests: &["vellum-storage", "vellum-harness"],
        arguments: &["--test", "all", "--", "small::", "overlay::", "pack::", "collect::", "btrees::"],
        daily: false,
    },
    Package { name: "vellum-file", tests: &["vellum-file"], arguments: &["--test", "all"], daily: false },
    Package { name: "vellum-wire", tests: &["vellum-wire"], arguments: &[], daily: true },
    Package { name: "vellum-server", tests: &["vellum-server"], arguments: &["--test", "all"], daily: false },
    Package { name: "vellum-client", tests: &["vellum-client"], arguments: &["--test", "all"], daily: false },
    Package { name: "vellum-cache", tests: &["vellum-cache"], arguments: &[], daily: false },
];

const LIST: &str = "model/harness/mutants.toml";
/// A check that takes longer with a mutant in it hangs.
const CHECK_SECONDS_MAX: &str = "120";

/// Changes the code in thousands of small ways, and demands that a check notices each
///
/// Needs cargo-mutants. The results stay under target/mutants; docs/mutants.md has those that were reported.
#[derive(Debug, Args)]
pub struct Mutants {
    /// The package; all of them if none is given
    #[arg(long, value_name = "NAME", value_parser = package)]
    package: Option<&'static Package>,
    /// The part K of N parts; K begins with 1
    #[arg(long, value_name = "K/N", value_parser = shard, default_value = "1/1")]
    shard: (u64, u64),
    /// About N mutants, of a different small package and a different part each day
    #[arg(long, value_name = "N", value_parser = number, conflicts_with_all = ["package", "shard"])]
    today: Option<u64>,
    /// Only check that the excluded mutants still exist
    #[arg(long)]
    listed: bool,
}

fn package(name: &str) -> Result<&'static Package, String> {
    let names = || PACKAGES.iter().map(|package| package.name).collect::<Vec<_>>().join(", ");
    let found = PACKAGES.iter().find(|package| package.name == name);
    found.ok_or_else(|| format!("there is no such package; there is {}", names()))
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let (k, n) = text.split_once('/').ok_or("a part is written as 2/5")?;
    let (k, n) = (number(k)?, number(n)?);
    if (1..=n).contains(&k) { Ok((k, n)) } else { Err(format!("there is no part {k} of {n}")) }
}

/// The mutants that no check needs to notice.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    excluded: Vec<Excluded>,
}

/// A mutant that changes no answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Excluded {
    package: String,
    mutant: String,
    reason: String,
}

impl Mutants {
    /// Tries the mutants, and fails if one survives that is not listed.
    pub fn run(self) -> Outcome {
        prepared()?;
        let list: List = toml::from_str(&fs::read_to_string(workspace().join(LIST))?)?;
        if let Some(empty) = list.excluded.iter().find(|excluded| excluded.reason.trim().is_empty()) {
            return Err(format!("{LIST}: `{}` has no reason", empty.mutant).into());
        }
        let (mut packages, mut shard) = (PACKAGES.iter().collect::<Vec<_>>(), self.shard);
        if let Some(package) = self.package {
            packages = vec![package];
        }
        if let Some(count) = self.today {
            let day = jiff::Timestamp::now().as_second() as u64 / (24 * 60 * 60);
            packages.retain(|package| package.daily);
            let turns = packages.len() as u64;
            let package = packages[(day % turns) as usize];
            let parts = (names(package.name)?.len() as u64).div_ceil(count.max(1)).max(1);
            (packages, shard) = (vec![package], (day / turns % parts + 1, parts));
            println!("on day {day}: cargo xtask mutants --package {} --shard {}/{}", package.name, shard.0, shard.1);
        }
        let mut wrong = 0;
        for package in packages {
            let there: BTreeSet<String> = names(package.name)?.iter().map(|name| without_place(name)).collect();
            let listed: Vec<&Excluded> =
                list.excluded.iter().filter(|excluded| excluded.package == package.name).collect();
            for gone in listed.iter().filter(|excluded| !there.contains(&excluded.mutant)) {
                println!("{LIST}: there is no mutant `{}` in {} any more", gone.mutant, package.name);
                wrong += 1;
            }
            if !self.listed {
                wrong += tried(package, shard, &listed)?;
            }
        }
        if wrong == 0 { Ok(()) } else { Err(format!("{wrong} mutants survived, or are listed without need").into()) }
    }
}

/// Tries a package's mutants. Prints a line of the table of docs/mutants.md and the survivors, whose number it returns.
fn tried(package: &Package, (k, n): (u64, u64), listed: &[&Excluded]) -> Result<usize, Trouble> {
    let Package { name: package, tests, arguments, .. } = package;
    let folder = workshop("mutants")?.join(package).join(format!("{k}-of-{n}"));
    fs::create_dir_all(&folder)?;
    let started = Instant::now();
    let mut command = cargo_mutants();
    command.args(["--package", package, "--iterate", "--no-shuffle", "--cap-lints", "true"]);
    command.args(["--timeout", CHECK_SECONDS_MAX, "--shard", &format!("{}/{n}", k - 1), "--output"]).arg(&folder);
    command.args(["--test-package", &tests.join(","), "--"]).args(*arguments);
    // Survivors are no failure of cargo-mutants here; everything else is seen in its files.
    let status = command.env("PROPTEST_RNG_SEED", "1").env("INSTA_UPDATE", "no").status()?;
    let results = Results::read(&folder.join("mutants.out"));
    if results.caught.is_empty() && results.missed.is_empty() && !status.success() {
        return Err(format!("cargo-mutants tried nothing in {package}: {status}").into());
    }
    let is_listed = |name: &String| listed.iter().any(|excluded| excluded.mutant == without_place(name));
    let (excluded, survivors): (Vec<_>, Vec<_>) = results.missed.iter().partition(|name| is_listed(name));
    let needless: Vec<_> = results
        .caught
        .iter()
        .filter(|name| is_listed(name) && !excluded.iter().any(|other| without_place(other) == without_place(name)))
        .collect();
    let (caught, timed_out) = (results.caught.len(), results.timeout.len());
    let (excluded, all) = (excluded.len(), caught + timed_out + results.missed.len());
    println!("| package | part | mutants | caught | timed out | excluded | surviving | not built | seconds |");
    println!(
        "| `{package}` | {k}/{n} | {all} | {caught} | {timed_out} | {excluded} | {} | {} | {} |",
        survivors.len(),
        results.unviable.len(),
        started.elapsed().as_secs()
    );
    survivors.iter().for_each(|name| println!("survived: {name}"));
    needless.iter().for_each(|name| println!("{LIST}: `{}` is caught", without_place(name)));
    Ok(survivors.len() + needless.len())
}

/// The results of the mutants: their names.
struct Results {
    caught: Vec<String>,
    missed: Vec<String>,
    timeout: Vec<String>,
    unviable: Vec<String>,
}

impl Results {
    /// Reads the lists of this run, and of the runs before it, which cargo-mutants keeps beside them.
    fn read(folder: &Path) -> Results {
        let lines = |name: &str| -> Vec<String> {
            let mut lines = BTreeSet::new();
            for file in [format!("{name}.txt"), format!("previously_{name}.txt")] {
                let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
                lines.extend(text.lines().map(str::to_owned));
            }
            lines.into_iter().collect()
        };
        Results {
            caught: lines("caught"),
            missed: lines("missed"),
            timeout: lines("timeout"),
            unviable: lines("unviable"),
        }
    }
}

/// The names of a package's mutants.
fn names(package: &str) -> Result<Vec<String>, Trouble> {
    let output = cargo_mutants().args(["--list", "--package", package]).output()?;
    if !output.status.success() {
        return Err(format!("cargo mutants --list: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// `src/pack.rs:12:5: replace ...` without its line and column.
fn without_place(name: &str) -> String {
    let Some((place, change)) = name.split_once(": ") else { return name.to_owned() };
    let path = place.split(':').next().unwrap_or(place);
    format!("{path}: {change}")
}

fn tools() -> PathBuf {
    workshop("tools").unwrap_or_default().join("bin")
}

fn cargo_mutants() -> Command {
    let mut command = Command::new("cargo");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&path).chain([tools()]);
    command.env("PATH", std::env::join_paths(paths).unwrap_or(path)).current_dir(workspace());
    // Copies of the tree have their own target folder, which all mutants of a run share.
    command.env_remove("CARGO_TARGET_DIR").args(["mutants", "--colors", "never"]);
    command
}

/// Whether cargo-mutants is there; if not, what to do. Nothing is installed unasked.
fn prepared() -> Outcome {
    if cargo_mutants().arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let tools = tools();
    let root = tools.parent().unwrap_or(&tools).display();
    Err(format!("cargo-mutants is not there: cargo install --locked --root {root} cargo-mutants").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_line_and_no_column() {
        let name = "model/spec/src/pack.rs:70:9: replace Database::packed_to -> Tid with 0";
        assert_eq!(without_place(name), "model/spec/src/pack.rs: replace Database::packed_to -> Tid with 0");
        assert_eq!(without_place("nothing"), "nothing");
    }

    #[test]
    fn each_excluded_mutant_has_a_reason_and_a_package() {
        let list: List = toml::from_str(&fs::read_to_string(workspace().join(LIST)).unwrap()).unwrap();
        for excluded in list.excluded {
            assert!(package(&excluded.package).is_ok(), "{}", excluded.package);
            assert!(excluded.reason.len() > 10, "{}: {}", excluded.mutant, excluded.reason);
        }
    }

    #[test]
    fn results_of_earlier_runs_count() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("caught.txt"), "a: x\n").unwrap();
        fs::write(folder.path().join("previously_caught.txt"), "a: x\nb: y\n").unwrap();
        assert_eq!(Results::read(folder.path()).caught, ["a: x", "b: y"]);
    }
}
