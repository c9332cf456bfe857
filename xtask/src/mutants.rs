//! `cargo xtask mutants`: thousands of small changes of the code, each of which a check must notice.
//!
//! The planted bugs are those that their authors thought of. cargo-mutants makes the others: it replaces a function by
//! a constant, an operator by another one, and so on. This task puts them into a copy of the workspace, one after the
//! other, as [`teeth`](crate::teeth) does with patches, and runs the checks of the package, the cheapest first:
//!
//! ```text
//!   cargo mutants --list ── a part of it ── for each check, each mutant that is left:
//!                                               put in ─ build ─ check ─ take out
//!                                                          │       │
//!                                                     not built  caught
//! ```
//!
//! cargo-mutants could run the checks itself, but it builds all of them before it runs the first; after an interruption
//! it cuts the parts anew; and it makes a new copy for each run, in which everything is built again.
//!
//! Each result is a line of `target/mutants/PACKAGE.jsonl` at once. A later run passes over the mutants that were
//! caught there, as long as their file is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ground::{Ground, Verdict};
use crate::venv::{workshop, workspace};
use crate::{Outcome, number};

type Trouble = Box<dyn std::error::Error>;

/// A package, and the short checks that are meant to hold it.
#[derive(Debug)]
struct Package {
    name: &'static str,
    /// One after the other: the next one is built only if a mutant survives those before it.
    checks: &'static [Check],
    /// Whether it builds so soon that a part of its mutants can be tried each day.
    daily: bool,
}

/// A check of a package's files.
#[derive(Debug)]
struct Check {
    /// It is only for files with these names; for all if there is none.
    files: &'static [&'static str],
    /// Arguments of `cargo test`.
    test: &'static str,
}

impl Check {
    fn is_for(&self, file: &str) -> bool {
        self.files.is_empty() || self.files.iter().any(|name| file.ends_with(&format!("/{name}")))
    }
}

const fn check(test: &'static str) -> Check {
    Check { files: &[], test }
}

const PACKAGES: &[Package] = &[
    Package {
        name: "vellum-spec",
        checks: &[
            Check {
                files: &["ahead.rs", "counts.rs", "later.rs", "pack.rs", "read.rs", "write.rs"],
                test: "--package vellum-spec --test theorems --test ahead",
            },
            Check {
                files: &["counts.rs", "pack.rs", "read.rs", "write.rs"],
                test: "--package vellum-harness --test all -- scenarios:: rules:: small::",
            },
            Check { files: &["heap.rs"], test: "--package vellum-object --test all -- collector:: connections::" },
            Check { files: &["ahead.rs"], test: "--package vellum-client --lib -- hints:: ahead::" },
            Check { files: &["ahead.rs"], test: "--package vellum-server --test all -- reach::" },
        ],
        daily: true,
    },
    Package { name: "vellum-pickle", checks: &[check("--package vellum-pickle --lib --tests")], daily: true },
    Package { name: "vellum-disk", checks: &[check("--package vellum-disk --lib --tests")], daily: true },
    Package {
        name: "vellum-storage",
        checks: &[
            check("--package vellum-storage --lib --tests"),
            check(
                "--package vellum-harness --test all -- \
                 small:: overlay:: as_of:: collect:: export:: external:: copying::",
            ),
        ],
        daily: false,
    },
    Package { name: "vellum-file", checks: &[check("--package vellum-file --lib --test all")], daily: false },
    Package { name: "vellum-wire", checks: &[check("--package vellum-wire --lib --tests")], daily: true },
    Package { name: "vellum-server", checks: &[check("--package vellum-server --lib --test all")], daily: false },
    Package { name: "vellum-client", checks: &[check("--package vellum-client --lib --test all")], daily: false },
    Package { name: "vellum-cache", checks: &[check("--package vellum-cache --lib --tests")], daily: false },
];

const LIST: &str = "model/harness/mutants.toml";
/// A check with a mutant in it that takes longer than so many seconds, and so many times as long as without it, hangs.
const CHECK_SECONDS_MIN: u64 = 20;
const SLOWER_MAX: u64 = 4;
/// So long a check may take as it is.
const PATIENCE_SECONDS: u64 = 600;
/// A mutant may allocate without end. A check has so much memory, in KiB.
const MEMORY_KIB_MAX: u64 = 6 << 20;

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
    /// Only the mutants with this text in their names, those that were caught before included
    #[arg(long, value_name = "TEXT", requires = "package")]
    only: Option<String>,
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
    /// Its file and the change.
    mutant: String,
    /// The text of the line where the change begins. One function may have the same change at several lines.
    line: String,
    reason: String,
}

/// A mutant, as cargo-mutants lists it.
#[derive(Clone, Debug, Deserialize)]
struct Mutant {
    /// `src/pack.rs:12:5: replace ...`
    name: String,
    file: String,
    span: Span,
    replacement: String,
    /// The text of its line.
    #[serde(skip)]
    line: String,
    /// The hash of its file.
    #[serde(skip)]
    source: String,
}

/// Where it is, from the start to before the end.
#[derive(Clone, Debug, Deserialize)]
struct Span {
    start: Place,
    end: Place,
}

/// Both count from 1, the column in characters.
#[derive(Clone, Debug, Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

/// The result of a mutant, as the file of results has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Tried {
    name: String,
    source: String,
    commit: String,
    found: Found,
    /// The test that failed, or the reason why it was not built.
    by: String,
    seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Found {
    Caught,
    TimedOut,
    NotBuilt,
    Survived,
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
            let parts = (mutants(package.name)?.len() as u64).div_ceil(count.max(1)).max(1);
            (packages, shard) = (vec![package], (day / turns % parts + 1, parts));
            println!("on day {day}: cargo xtask mutants --package {} --shard {}/{}", package.name, shard.0, shard.1);
        }
        let mut wrong = 0;
        for package in packages {
            let all = mutants(package.name)?;
            let listed: Vec<&Excluded> = list.excluded.iter().filter(|one| one.package == package.name).collect();
            for gone in listed.iter().filter(|excluded| !all.iter().any(|mutant| mutant.is(excluded))) {
                println!("{LIST}: there is no mutant `{}` at `{}` any more", gone.mutant, gone.line);
                wrong += 1;
            }
            if !self.listed {
                wrong += Run { package, shard, only: self.only.as_deref(), listed: &listed }.tried(all)?;
            }
        }
        if wrong == 0 { Ok(()) } else { Err(format!("{wrong} mutants survived, or are listed without need").into()) }
    }
}

/// A run over a part of a package's mutants.
struct Run<'a> {
    package: &'static Package,
    shard: (u64, u64),
    only: Option<&'a str>,
    listed: &'a [&'a Excluded],
}

impl Run<'_> {
    /// Tries them. Prints a line of the table of docs/mutants.md and the survivors. Returns how many survivors and
    /// needless entries of the list there are.
    fn tried(&self, all: Vec<Mutant>) -> Result<usize, Trouble> {
        let (k, n) = self.shard;
        let part: Vec<Mutant> =
            part(all, k, n).filter(|one| self.only.is_none_or(|text| one.name.contains(text))).collect();
        let path = workshop("mutants")?.join(format!("{}.jsonl", self.package.name));
        let mut known = results(&path);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        let is_left = |mutant: &&Mutant| {
            let before = known.get(&mutant.name).filter(|before| before.source == mutant.source);
            self.only.is_some() || before.is_none_or(|before| before.found == Found::Survived)
        };
        let mut left: Vec<Mutant> = part.iter().filter(is_left).cloned().collect();
        println!("{}: {} mutants, of which {} are to be tried", self.package.name, part.len(), left.len());
        if !left.is_empty() {
            let bench = Bench::new()?;
            for check in self.package.checks {
                let (tries, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|mutant| check.is_for(&mutant.file));
                let mut survivors = Vec::new();
                let seconds_max = if tries.is_empty() { 0 } else { bench.limit(check.test)? };
                for mutant in tries {
                    match bench.tries(&mutant, check.test, seconds_max)? {
                        Tried { found: Found::Survived, .. } => survivors.push(mutant),
                        tried => {
                            tried.note(&mut file)?;
                            known.insert(tried.name.clone(), tried);
                        }
                    }
                }
                left = survivors.into_iter().chain(others).collect();
            }
            for mutant in left {
                let tried = mutant.tried(&bench.commit, Found::Survived, String::new(), 0.0);
                tried.note(&mut file)?;
                known.insert(tried.name.clone(), tried);
            }
            bench.ends()?;
        }
        Ok(self.report(&part, &known))
    }

    fn report(&self, part: &[Mutant], known: &BTreeMap<String, Tried>) -> usize {
        let tried: Vec<(&Mutant, &Tried)> =
            part.iter().filter_map(|mutant| Some((mutant, known.get(&mutant.name)?))).collect();
        let is_listed = |mutant: &Mutant| self.listed.iter().any(|excluded| mutant.is(excluded));
        let with = |found| tried.iter().filter(move |(_, tried)| tried.found == found);
        let (excluded, survivors): (Vec<_>, Vec<_>) = with(Found::Survived).partition(|(mutant, _)| is_listed(mutant));
        let noticed = with(Found::Caught).chain(with(Found::TimedOut));
        let needless: Vec<_> = noticed.filter(|(mutant, _)| is_listed(mutant)).collect();
        let commits: BTreeSet<&str> = tried.iter().map(|(_, tried)| tried.commit.as_str()).collect();
        println!("| package | part | mutants | caught | timed out | excluded | surviving | not built | commit, date |");
        println!(
            "| `{}` | {}/{} | {} | {} | {} | {} | {} | {} | {}, {} |",
            self.package.name,
            self.shard.0,
            self.shard.1,
            tried.len(),
            with(Found::Caught).count(),
            with(Found::TimedOut).count(),
            excluded.len(),
            survivors.len(),
            with(Found::NotBuilt).count(),
            commits.into_iter().collect::<Vec<_>>().join(" "),
            jiff::Timestamp::now().strftime("%Y-%m-%d"),
        );
        survivors.iter().for_each(|(mutant, _)| println!("survived: {}: `{}`", mutant.name, mutant.line));
        needless
            .iter()
            .for_each(|(mutant, _)| println!("{LIST}: `{}` at `{}` is caught", mutant.change(), mutant.line));
        survivors.len() + needless.len()
    }
}

/// The copy of the workspace where mutants are tried.
struct Bench {
    ground: Ground,
    commit: String,
    /// A file that is there during a run.
    under_way: PathBuf,
}

impl Bench {
    fn new() -> Result<Bench, Trouble> {
        let ground = Ground::new("mutants")?.hurried(MEMORY_KIB_MAX);
        let under_way = workshop("mutants")?.join("under-way");
        if under_way.exists() {
            // A compiler that was ended may leave a part of a build that the next one takes for its own.
            ground.forget_parts_of_builds()?;
        }
        ground.copy()?;
        fs::write(&under_way, "")?;
        Ok(Bench { ground, commit: commit()?, under_way })
    }

    /// The run was not interrupted.
    fn ends(self) -> Outcome {
        Ok(fs::remove_file(self.under_way)?)
    }

    /// How long a check may take, from how long it takes as it is. It must pass.
    fn limit(&self, check: &str) -> Result<u64, Trouble> {
        let words: Vec<&str> = check.split_whitespace().collect();
        self.ground.build(&[&["test", "--no-run"], &words[..]].concat())?;
        match self.ground.tested(&words, PATIENCE_SECONDS)? {
            Verdict::Passed { seconds } => {
                println!("passes as it is: {check} ({seconds} s)");
                Ok(CHECK_SECONDS_MIN.max(seconds * SLOWER_MAX))
            }
            Verdict::Caught(catch) => Err(format!("{check} fails as it is: {}", catch.by).into()),
            Verdict::Hangs => Err(format!("{check} does not end within {PATIENCE_SECONDS} s as it is").into()),
        }
    }

    /// Puts a mutant in, runs a check, and takes it out.
    fn tries(&self, mutant: &Mutant, check: &str, seconds_max: u64) -> Result<Tried, Trouble> {
        let started = Instant::now();
        let path = self.ground.tree().join(&mutant.file);
        let source = fs::read_to_string(&path)?;
        fs::write(&path, mutant.put_into(&source))?;
        let words: Vec<&str> = check.split_whitespace().collect();
        let built = self.ground.build(&[&["test", "--no-run"], &words[..]].concat());
        let verdict = built.map(|()| self.ground.tested(&words, seconds_max));
        fs::write(&path, &source)?;
        let (found, by) = match verdict {
            Err(why) => (Found::NotBuilt, why.to_string()),
            Ok(Ok(Verdict::Passed { .. })) => (Found::Survived, format!("passes {check}")),
            Ok(Ok(Verdict::Hangs)) => (Found::TimedOut, format!("{seconds_max} s of {check}")),
            Ok(Ok(Verdict::Caught(catch))) => (Found::Caught, catch.by),
            Ok(Err(why)) => (Found::Caught, why.to_string()),
        };
        let seconds = started.elapsed().as_secs_f64();
        println!("{:<9} {seconds:>5.1} s  {}  {by}", found.word(), mutant.name);
        Ok(mutant.tried(&self.commit, found, by, seconds))
    }
}

impl Tried {
    fn note(&self, file: &mut File) -> Outcome {
        Ok(writeln!(file, "{}", serde_json::to_string(self)?)?)
    }
}

impl Found {
    fn word(self) -> &'static str {
        match self {
            Found::Caught => "caught",
            Found::TimedOut => "timed out",
            Found::NotBuilt => "not built",
            Found::Survived => "survives",
        }
    }
}

impl Mutant {
    /// Its file and the change, without the place.
    fn change(&self) -> String {
        let change = self.name.split_once(": ").map_or(self.name.as_str(), |(_, change)| change);
        format!("{}: {change}", self.file)
    }

    fn is(&self, excluded: &Excluded) -> bool {
        excluded.line == self.line && excluded.mutant == self.change()
    }

    fn tried(&self, commit: &str, found: Found, by: String, seconds: f64) -> Tried {
        let (name, source, commit) = (self.name.clone(), self.source.clone(), commit.to_owned());
        Tried { name, source, commit, found, by, seconds }
    }

    /// The source with the change in it.
    fn put_into(&self, source: &str) -> String {
        let (start, end) = (offset(source, &self.span.start), offset(source, &self.span.end));
        format!("{}{} /* a mutant */{}", &source[..start], self.replacement, &source[end..])
    }
}

/// Where in the text a place is.
fn offset(text: &str, place: &Place) -> usize {
    let line: usize = text.split_inclusive('\n').take(place.line - 1).map(str::len).sum();
    let column = text[line..].char_indices().nth(place.column - 1).map_or(text.len() - line, |(n, _)| n);
    line + column
}

/// Every N-th mutant: so each part has some of each file.
fn part<T>(all: Vec<T>, k: u64, n: u64) -> impl Iterator<Item = T> {
    all.into_iter().zip(0..).filter(move |(_, i)| i % n == k - 1).map(|(one, _)| one)
}

/// The last result of each mutant. A line that was not finished counts for nothing.
fn results(path: &Path) -> BTreeMap<String, Tried> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let tried = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    tried.map(|tried: Tried| (tried.name.clone(), tried)).collect()
}

/// The commit that is tried; with `+` if files differ from it.
fn commit() -> Result<String, Trouble> {
    let git = |arguments: &[&str]| -> Result<String, Trouble> {
        let output = Command::new("git").args(arguments).current_dir(workspace()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = if git(&["status", "--porcelain"])?.is_empty() { "" } else { "+" };
    Ok(git(&["rev-parse", "--short=8", "HEAD"])? + changed)
}

/// The mutants of a package, in the order of its files.
fn mutants(package: &str) -> Result<Vec<Mutant>, Trouble> {
    let output = cargo_mutants().args(["--list", "--json", "--package", package]).output()?;
    if !output.status.success() {
        return Err(format!("cargo mutants --list: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let mut all: Vec<Mutant> = serde_json::from_slice(&output.stdout)?;
    let mut files = BTreeMap::new();
    for mutant in &mut all {
        if !files.contains_key(&mutant.file) {
            let text = fs::read_to_string(workspace().join(&mutant.file))?;
            let hash: String = Sha256::digest(&text)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            files.insert(mutant.file.clone(), (text, hash));
        }
        let (text, hash) = &files[&mutant.file];
        let line = text.lines().nth(mutant.span.start.line - 1).unwrap_or_default();
        (mutant.line, mutant.source) = (line.trim().to_owned(), hash.clone());
    }
    Ok(all)
}

fn tools() -> PathBuf {
    workspace().join("target/tools/bin")
}

fn cargo_mutants() -> Command {
    let mut command = Command::new("cargo");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&path).chain([tools()]);
    command.env("PATH", std::env::join_paths(paths).unwrap_or(path)).current_dir(workspace());
    command.args(["mutants", "--colors", "never"]);
    command
}

/// Whether cargo-mutants is there; if not, what to do. Nothing is installed unasked.
fn prepared() -> Outcome {
    if cargo_mutants().arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err("cargo-mutants is not there: cargo install --locked --root target/tools cargo-mutants".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(line: usize, from: usize, to: usize) -> Mutant {
        let (start, end) = (Place { line, column: from }, Place { line, column: to });
        let name = format!("src/a.rs:{line}:{from}: replace < with <= in f");
        let (file, replacement) = ("src/a.rs".to_owned(), "<=".to_owned());
        Mutant { name, file, span: Span { start, end }, replacement, line: String::new(), source: String::new() }
    }

    #[test]
    fn a_mutant_is_put_at_its_place() {
        let source = "fn f() {\n    \"ü\" < b\n}\n";
        assert_eq!(mutant(2, 9, 10).put_into(source), "fn f() {\n    \"ü\" <= /* a mutant */ b\n}\n");
        assert_eq!(mutant(3, 1, 2).put_into("\n\n}"), "\n\n<= /* a mutant */");
    }

    #[test]
    fn an_entry_of_the_list_names_the_change_and_the_text_of_its_line() {
        let excluded = |line: &str| Excluded {
            package: "a".into(),
            mutant: "src/a.rs: replace < with <= in f".into(),
            line: line.into(),
            reason: "a".into(),
        };
        let mutant = Mutant { line: "a < b".into(), ..mutant(7, 3, 4) };
        assert!(mutant.is(&excluded("a < b")) && !mutant.is(&excluded("b < a")));
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
    fn all_parts_together_are_all() {
        let mut all: Vec<u64> = (1..=3).flat_map(|k| part((0..10).collect(), k, 3)).collect();
        assert_eq!(all[..4], [0, 3, 6, 9]);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_result_counts_and_half_a_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let line = |found| {
            let text = |text: &str| text.to_owned();
            let (name, source, commit, by) = (text("a: x"), text("1"), text("c"), text(""));
            serde_json::to_string(&Tried { name, source, commit, found, by, seconds: 1.0 }).unwrap()
        };
        let half = &line(Found::Survived)[..20];
        fs::write(&path, format!("{}\n{}\n{half}", line(Found::Survived), line(Found::Caught))).unwrap();
        let results = results(&path);
        assert_eq!((results.len(), results["a: x"].found), (1, Found::Caught));
    }
}
