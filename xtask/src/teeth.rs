//! `cargo xtask teeth`: planted bugs, each of which a check must catch.
//!
//! A check that never failed has not been tested. `model/harness/planted` holds small patches, each a bug that could
//! have been made by mistake, in the folder of the rule or invariant that it breaks. Each names the check that must
//! catch it. This task applies them, one after the other, to a copy of the workspace, builds it, and runs the check:
//!
//! ```text
//!   copy ── every check, as it is: must pass ──┐
//!     ┌───────────────────────────────────────┘
//!     └▶ apply ─ build ─ check: must fail ─ take out ─▶ the next one
//! ```
//!
//! A patch that does not apply or does not compile is an error, and no catch. A check that never ends is a catch. The
//! copy and its build stay, so that the next run builds only changed crates.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;

use crate::semantics::{self, Number};
use crate::{Outcome, day, venv};

type Trouble = Box<dyn std::error::Error>;

const PLANTED: &str = "model/harness/planted";
/// The folder of the bugs that break no rule, but an invariant or a decision of [`MAP`].
const INVARIANTS: &str = "invariants";
const MAP: &str = "ARCHITECTURE.md";
/// A check that takes longer hangs, unless it is slow as it is: then it may take so many times as long with a bug in
/// it.
const CHECK_SECONDS_MAX: u64 = 120;
const SLOWER_MAX: u64 = 4;
/// So long a build may take, or a check as it is.
const PATIENCE_SECONDS: u64 = 1200;
const WORDS_MAX: usize = 90;
const NAME_WIDTH: usize = 42;

/// Plants bugs, one after the other, and demands that a check catches each
///
/// The bugs are the patches in model/harness/planted. Each is applied to a copy of the workspace, and the check that it
/// names must fail.
#[derive(Debug, Args)]
pub struct Teeth {
    /// Plant only the bugs with one of these texts in their names, separated by commas
    ///
    /// A name is that of the folder and of the file, as in 3.4/undo-by-halves.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Plant N of them, a different part each day
    #[arg(long, value_name = "N", value_parser = crate::number, conflicts_with = "only")]
    today: Option<u64>,
    /// Try this check, and not the one that each names: `prove` or `test`, with arguments
    #[arg(long, value_name = "CHECK", conflicts_with = "build")]
    with: Option<String>,
    /// Only find out whether each still applies, and those that would be planted still build
    #[arg(long)]
    build: bool,
}

impl Teeth {
    /// Plants the bugs, and fails if one is not caught.
    pub fn run(self) -> Outcome {
        let mut planted = planted(&venv::workspace().join(PLANTED), self.only.as_deref())?;
        let day = day::today();
        let today = |count: u64| day::of_day(planted.len(), count as usize, day);
        let today: Option<BTreeSet<usize>> = self.today.map(|count| today(count).collect());
        if self.build {
            return all_build(&planted, |n| today.as_ref().is_none_or(|today| today.contains(&n)));
        }
        if let Some(today) = today {
            let mut n = 0..;
            planted.retain(|_| n.next().is_some_and(|n| today.contains(&n)));
            let names: Vec<&str> = planted.iter().map(|bug| bug.name.as_str()).collect();
            println!("on day {day}: cargo xtask teeth --only {}", names.join(","));
        }
        let started = Instant::now();
        if let Some(check) = self.with {
            planted.iter_mut().for_each(|bug| bug.check = Check(check.clone()));
        }
        let tried = plant(&planted)?;
        let wrong: Vec<&str> = tried.iter().filter(|tried| !tried.caught).map(|tried| tried.name.as_str()).collect();
        let caught = tried.len() - wrong.len();
        println!("\n{caught} of {} caught, in {:.0} s", planted.len(), started.elapsed().as_secs_f64());
        if wrong.is_empty() { Ok(()) } else { Err(format!("not caught: {}", wrong.join(", ")).into()) }
    }
}

/// The planted bugs with one of these texts in their names, each tried.
pub fn tried(only: Option<&str>) -> Result<Vec<Tried>, Trouble> {
    plant(&planted(&venv::workspace().join(PLANTED), only)?)
}

/// The names of all planted bugs, each with its check, in the order of the rules.
pub fn names() -> Result<Vec<(String, String)>, Trouble> {
    let planted = planted(&venv::workspace().join(PLANTED), None)?;
    Ok(planted.into_iter().map(|bug| (bug.name, bug.check.0)).collect())
}

/// A planted bug that was tried.
pub struct Tried {
    /// Its name.
    pub name: String,
    /// Whether its check failed.
    pub caught: bool,
    /// How long the check took, without the build.
    pub seconds: f64,
}

/// Plants the bugs, one after the other, and prints a line for each.
fn plant(planted: &[Planted]) -> Result<Vec<Tried>, Trouble> {
    let ground = Ground::new("teeth")?;
    ground.copy()?;
    let mut limits = BTreeMap::new();
    for check in planted.iter().map(|bug| &bug.check).collect::<BTreeSet<_>>() {
        match ground.check(check, PATIENCE_SECONDS) {
            Ok(Verdict::Passed { seconds }) => {
                println!("passes as it is: {} ({seconds} s)", check.0);
                limits.insert(check, CHECK_SECONDS_MAX.max(seconds * SLOWER_MAX));
            }
            Ok(Verdict::Caught(Catch { by, .. })) => println!("FAILS AS IT IS: {}: {by}", check.0),
            Ok(Verdict::Hangs) => println!("HANGS AS IT IS: {}", check.0),
            Err(why) => println!("FAILS AS IT IS: {}: {why}", check.0),
        }
    }
    println!("\n{:<NAME_WIDTH$} {:>9} {:>5} {:>5}  caught by", "planted", "histories", "steps", "s");
    let mut tried = Vec::new();
    for bug in planted {
        let started = Instant::now();
        let found = match limits.get(&bug.check) {
            None => Err("not tried: its check fails as it is".into()),
            Some(&seconds_max) => ground.with(bug, |ground| ground.check(&bug.check, seconds_max)),
        };
        let caught = matches!(found, Ok(Verdict::Caught(_) | Verdict::Hangs));
        let mut alone = 0.0;
        let (histories, steps, by) = match found {
            Ok(Verdict::Caught(catch)) => {
                alone = catch.seconds;
                (catch.histories, catch.steps, catch.by)
            }
            Ok(Verdict::Hangs) => {
                alone = limits[&bug.check] as f64;
                (None, None, format!("it does not end within {alone} s"))
            }
            Ok(Verdict::Passed { .. }) => (None, None, format!("SURVIVED {}: {}", bug.check.0, bug.bug)),
            Err(why) => (None, None, format!("WRONG: {why}")),
        };
        let text = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        let seconds = started.elapsed().as_secs_f64();
        println!("{:<NAME_WIDTH$} {:>9} {:>5} {seconds:>5.1}  {by}", bug.name, text(histories), text(steps));
        tried.push(Tried { name: bug.name.clone(), caught, seconds: alone });
    }
    Ok(tried)
}

/// Whether each can still be put in, and these can be built: soon known, where the checks take a while.
fn all_build(planted: &[Planted], is_built: impl Fn(usize) -> bool) -> Outcome {
    let ground = Ground::new("teeth")?;
    ground.copy()?;
    let (mut wrong, mut built) = (0, 0);
    for (n, bug) in planted.iter().enumerate() {
        built += usize::from(is_built(n));
        if let Err(why) = ground.with(bug, |ground| if is_built(n) { ground.build(&BUILT) } else { Ok(()) }) {
            wrong += 1;
            println!("{}: {why}", bug.name);
        }
    }
    println!(
        "{} planted bugs apply, of which {built} were built; {wrong} do not apply or build",
        planted.len() - wrong
    );
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} planted bugs cannot be built any more").into()) }
}

/// The packages in which bugs are planted.
const BUILT: [&str; 21] = [
    "check",
    "--package",
    "vellum-file",
    "--package",
    "vellum-storage",
    "--package",
    "vellum-pickle",
    "--package",
    "vellum-spec",
    "--package",
    "vellum-harness",
    "--package",
    "vellum-wire",
    "--package",
    "vellum-server",
    "--package",
    "vellum-network",
    "--package",
    "vellum-cli",
    "--package",
    "vellum-cache",
];

/// A planted bug.
struct Planted {
    /// The names of its folder and of its file: `3.4/undo-by-halves`.
    name: String,
    path: PathBuf,
    bug: String,
    check: Check,
}

impl Planted {
    /// Reads the head of a patch. `map` is the text of [`MAP`].
    fn parse(folder: &str, path: &Path, text: &str, rules: &[Number], map: &str) -> Result<Planted, Trouble> {
        let lines = || text.lines().take_while(|line| !line.starts_with("---"));
        let head = |word: &str| {
            let line = lines().find_map(|line| line.strip_prefix(word));
            line.map(|line| line.trim().to_owned()).ok_or(format!("{} has no line `{word} ...`", path.display()))
        };
        head("Stands for:")?;
        let (bug, check) = (head("Bug:")?, Check(head("Check:")?));
        if folder == INVARIANTS {
            let invariant = head("Invariant:")?;
            if !map.contains(&format!("**{invariant}**")) {
                return Err(format!("{}: {MAP} has no `**{invariant}**`", path.display()).into());
            }
        } else if !number(folder).is_some_and(|number| rules.contains(&number)) {
            return Err(format!("{}: there is no rule {folder}", path.display()).into());
        }
        if let Some(line) = lines().find(|line| line.starts_with("Rule:") || line.starts_with("Rules:")) {
            return Err(format!("{}: the folder names the rule, and not a line `{line}`", path.display()).into());
        }
        let name = format!("{folder}/{}", path.file_stem().unwrap_or_default().display());
        Ok(Planted { name, path: path.to_owned(), bug, check })
    }

    /// Rules in their order, then the invariants.
    fn order(&self) -> (Number, &str) {
        let folder = self.name.split('/').next().unwrap_or_default();
        (number(folder).unwrap_or(Number(u32::MAX, 0)), &self.name)
    }
}

/// The rule whose number a folder's name is.
fn number(folder: &str) -> Option<Number> {
    Number::parse(folder).filter(|(_, behind)| behind.is_empty()).map(|(number, _)| number)
}

/// The check that must catch it, as its patch says: `prove` or `test`, and arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Check(String);

/// The patches, in the order of the rules; all, or those in whose name one of the words of `only` is, between commas.
fn planted(folder: &Path, only: Option<&str>) -> Result<Vec<Planted>, Trouble> {
    let rules: Vec<Number> = semantics::rules()?.into_iter().map(|rule| rule.number).collect();
    let map = fs::read_to_string(venv::workspace().join(MAP))?;
    let is_patch = |path: &Path| path.extension().is_some_and(|extension| extension == "patch");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let within = entry?.path();
        if is_patch(&within) {
            return Err(format!("{}: a patch belongs in the folder of a rule", within.display()).into());
        }
        if !within.is_dir() {
            continue;
        }
        let rule = within.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for entry in fs::read_dir(&within)? {
            let path = entry?.path();
            if is_patch(&path) {
                found.push(Planted::parse(&rule, &path, &fs::read_to_string(&path)?, &rules, &map)?);
            }
        }
    }
    found.retain(|bug| only.is_none_or(|only| only.split(',').any(|part| bug.name.contains(part))));
    found.sort_by(|a, b| a.order().cmp(&b.order()));
    if found.is_empty() { Err("there is no such planted bug".into()) } else { Ok(found) }
}

/// The result of a check.
pub enum Verdict {
    /// It passed.
    Passed {
        /// How long it took.
        seconds: u64,
    },
    /// It failed.
    Caught(Catch),
    /// It did not end in time.
    Hangs,
}

/// How a bug was caught.
#[derive(Default)]
pub struct Catch {
    /// The test that failed, and where.
    pub by: String,
    /// How many histories it took, and how many steps the shortest one has.
    histories: Option<u64>,
    steps: Option<u64>,
    /// How long the check took.
    seconds: f64,
}

/// The output of `vellum-prove --json`, as far as it matters here.
#[derive(Deserialize)]
struct Proof {
    found: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    case: u64,
    script: String,
}

/// The copy of the workspace, and where it is built.
pub struct Ground {
    tree: PathBuf,
    target: PathBuf,
    workshop: PathBuf,
    /// Whether only the verdict counts: a check ends at its first failure, and no failing input is made shorter. Then a
    /// test may have so much memory.
    hurried: Option<MemoryKib>,
}

/// An amount of memory.
type MemoryKib = u64;

/// A command that ended, or was ended.
struct Ended {
    /// None if it did not end by itself.
    status: Option<ExitStatus>,
    out: String,
    err: String,
    seconds: u64,
    exactly: f64,
}

impl Ground {
    /// The copy of the task with this name.
    pub fn new(task: &str) -> Result<Ground, Trouble> {
        let workshop = venv::workshop(task)?.canonicalize()?;
        let (tree, target) = (workshop.join("tree"), workshop.join("target"));
        fs::create_dir_all(&tree)?;
        Ok(Ground { tree, target, workshop, hurried: None })
    }

    /// Only the verdicts of checks count, and a test may have so much memory.
    pub fn hurried(self, memory_max: MemoryKib) -> Ground {
        Ground { hurried: Some(memory_max), ..self }
    }

    /// Removes what compilers keep of a crate for its next build.
    pub fn forget_parts_of_builds(&self) -> std::io::Result<()> {
        let parts = self.target.join("debug/incremental");
        if parts.exists() { fs::remove_dir_all(parts) } else { Ok(()) }
    }

    /// The folder of the copy.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Makes the copy the same as the workspace, uncommitted changes included. Files that are the same are not touched,
    /// so that they are not built again.
    pub fn copy(&self) -> Outcome {
        let workspace = venv::workspace();
        let mut wanted = BTreeSet::new();
        for name in venv::tree()? {
            let (from, to) = (workspace.join(&name), self.tree.join(&name));
            let content = fs::read(&from)?;
            if fs::read(&to).ok().as_ref() != Some(&content) {
                fs::create_dir_all(to.parent().unwrap_or(&self.tree))?;
                fs::write(&to, content)?;
            }
            wanted.insert(to);
        }
        remove_others(&self.tree, &wanted)?;
        Ok(())
    }

    /// Puts the bug in, does something, and takes it out again.
    fn with<T>(&self, bug: &Planted, work: impl FnOnce(&Ground) -> Result<T, Trouble>) -> Result<T, Trouble> {
        // The patch that is applied is the one that is reverted, even if the file changes in between.
        fs::copy(&bug.path, self.patch())?;
        self.apply(&[]).map_err(|why| format!("the patch does not apply (any more): {why}"))?;
        let done = work(self);
        self.apply(&["-R"]).map_err(|why| format!("the patch could not be taken out again: {why}"))?;
        done
    }

    fn patch(&self) -> PathBuf {
        self.workshop.join("bug.patch")
    }

    fn apply(&self, more: &[&str]) -> Outcome {
        let mut git = Command::new("git");
        git.arg("apply").args(more).arg(self.patch()).current_dir(&self.tree);
        // The copy lies within the ignored part of another tree, of which git would think.
        let output = git.env("GIT_CEILING_DIRECTORIES", &self.workshop).output()?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().into()) }
    }

    fn check(&self, Check(check): &Check, seconds_max: u64) -> Result<Verdict, Trouble> {
        let words: Vec<&str> = check.split_whitespace().collect();
        match words.split_first() {
            Some((&"prove", rest)) => self.prove(rest, seconds_max),
            Some((&"test", rest)) => self.test(rest, seconds_max),
            _ => Err(format!("`{check}` is no check: it begins with `prove` or `test`").into()),
        }
    }

    fn prove(&self, words: &[&str], seconds_max: u64) -> Result<Verdict, Trouble> {
        self.build(&["build", "--package", "vellum-prove"])?;
        let mut command = Command::new(self.target.join("debug/vellum-prove"));
        command.arg("--json").args(words);
        let Ended { status, out, err, seconds, exactly } = self.end(&mut command, seconds_max)?;
        let Some(status) = status else { return Ok(Verdict::Hangs) };
        match status.code() {
            Some(0) => return Ok(Verdict::Passed { seconds }),
            Some(1) => {}
            _ => return Err(format!("vellum-prove: {status}: {}", last_line(&err)).into()),
        }
        let proof: Proof = serde_json::from_str(&out)?;
        let found = proof.found.into_iter().next().ok_or(format!("nothing differs, but {}", last_line(&err)))?;
        let (steps, difference) = found.script.split_once("---\n").unwrap_or(("", &found.script));
        let parts: Vec<&str> = difference.lines().map(str::trim).collect();
        Ok(Verdict::Caught(Catch {
            by: short(&parts.join(" | ")),
            histories: Some(found.case + 1),
            steps: Some(steps.lines().count() as u64),
            seconds: exactly,
        }))
    }

    fn test(&self, words: &[&str], seconds_max: u64) -> Result<Verdict, Trouble> {
        self.build(&[&["test", "--no-run"], words].concat())?;
        self.tested(words, seconds_max)
    }

    /// Runs `cargo test`, after a build.
    pub fn tested(&self, words: &[&str], seconds_max: u64) -> Result<Verdict, Trouble> {
        let mut command = self.cargo("test");
        if let Some(kib) = self.hurried {
            let cargo = command.get_program().to_owned();
            let mut limited = Command::new("sh");
            limited.args(["-c", &format!("ulimit -v {kib}; exec \"$@\""), "sh"]).arg(cargo).arg("test");
            command = self.built_here(limited);
            command.env("PROPTEST_MAX_SHRINK_ITERS", "0");
        }
        let Ended { status, out, err, seconds, exactly } = self.end(command.args(words), seconds_max)?;
        if status.is_none() && !out.contains(FAILED) {
            return Ok(Verdict::Hangs);
        }
        if status.is_some_and(|status| status.success()) {
            let passed = out.lines().any(|line| line.starts_with("test ") && line.ends_with("... ok"));
            return if passed { Ok(Verdict::Passed { seconds }) } else { Err("no test has such a name".into()) };
        }
        let mut failed = out.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(FAILED.trim_end()));
        // A test that takes the whole process down has no line of its own.
        let by = failed.next().map(|name| name.split(" - ").next().unwrap_or(name).to_owned());
        match by {
            Some(by) => {
                let (steps, difference) = shrunk(&out).unzip();
                let by = difference.map_or(by.clone(), |difference| format!("{difference} ({by})"));
                Ok(Verdict::Caught(Catch { by: short(&by), steps, histories: None, seconds: exactly }))
            }
            None if err.contains("(signal: ") => {
                let by = short(last_line(&err));
                Ok(Verdict::Caught(Catch { by, seconds: exactly, ..Catch::default() }))
            }
            None => Err(format!("cargo test: {status:?}: {}", last_line(&err)).into()),
        }
    }

    /// Runs a command of cargo to its end.
    pub fn build(&self, words: &[&str]) -> Outcome {
        let (first, rest) = words.split_first().ok_or("nothing to build")?;
        let Ended { status, err, .. } = self.end(self.cargo(first).args(rest), PATIENCE_SECONDS)?;
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let why = err.lines().find(|line| line.starts_with("error")).unwrap_or("it takes too long");
        Err(format!("it cannot be built: {why}").into())
    }

    fn cargo(&self, what: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.arg(what);
        self.built_here(command)
    }

    /// Whether that is all that has to be known of a check with this output so far.
    fn has_failed(&self, out: &Path) -> bool {
        self.hurried.is_some() && fs::read_to_string(out).is_ok_and(|text| text.contains(FAILED))
    }

    fn built_here(&self, mut command: Command) -> Command {
        command.env("CARGO_TARGET_DIR", &self.target).env("CARGO_PROFILE_DEV_DEBUG", "0");
        // A bug changes little, so the next build has little to do.
        command.env("CARGO_INCREMENTAL", "1");
        command
    }

    /// Runs a command in the copy to its end; after so many seconds it is ended, with everything that it started.
    fn end(&self, command: &mut Command, seconds_max: u64) -> Result<Ended, Trouble> {
        let (out, err) = (self.workshop.join("out.txt"), self.workshop.join("err.txt"));
        // A property test looks at the same cases in each run, and remembers nothing of those before.
        let mut child = command
            .current_dir(&self.tree)
            .env("PROPTEST_RNG_SEED", "1")
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .env("INSTA_UPDATE", "no")
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .process_group(0)
            .spawn()
            .map_err(|e| format!("{command:?}: {e}"))?;
        let started = Instant::now();
        let until = started + Duration::from_secs(seconds_max);
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() < until && !self.has_failed(&out) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                None => {
                    Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
                    child.wait()?;
                    break None;
                }
            }
        };
        let text = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Ended {
            status,
            out: text(&out)?,
            err: text(&err)?,
            seconds: started.elapsed().as_secs(),
            exactly: started.elapsed().as_secs_f64(),
        })
    }
}

/// The end of the line of a test that failed.
const FAILED: &str = " ... FAILED\n";

/// Removes every file that is not wanted.
fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The steps of the first history that a failing test shows, if it shows one, and where it differs.
fn shrunk(out: &str) -> Option<(u64, String)> {
    let (before, after) = out.split_once("\n---\n")?;
    let (_, history) = before.rsplit_once("panicked at ")?;
    if !history.lines().nth(1)?.starts_with("# case ") {
        return None;
    }
    let steps = history.lines().skip(1).filter(|line| !line.starts_with('#')).count();
    let answers = after.lines().skip(1).take_while(|line| line.starts_with("    "));
    let difference: Vec<&str> = after.lines().take(1).chain(answers).map(str::trim).collect();
    Some((steps as u64, difference.join(" | ")))
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
}

fn short(text: &str) -> String {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_patch_belongs_to_a_rule_that_exists_or_names_its_invariant() {
        let parse = |folder: &str, line: &str| {
            let text = format!("Bug: a.\n{line}Stands for: b.\nCheck: test c\n\n--- a/x\nInvariant: Of the patch.\n");
            let path = Path::new("planted").join(folder).join("a-bug.patch");
            let rules = [Number(3, 4), Number(3, 10)];
            Planted::parse(folder, &path, &text, &rules, "1. **The horizon moves last.** Then")
                .map_err(|e| e.to_string())
        };
        let bug = parse("3.4", "").unwrap();
        assert_eq!((bug.name.as_str(), bug.bug.as_str(), &bug.check.0[..]), ("3.4/a-bug", "a.", "test c"));
        assert!(bug.order() < parse("3.10", "").unwrap().order());
        let invariant = parse("invariants", "Invariant: The horizon moves last.\n").unwrap();
        assert!(bug.order() < invariant.order());
        let wrong = |folder, line| parse(folder, line).err().unwrap();
        assert!(wrong("3.5", "").ends_with("there is no rule 3.5"));
        assert!(wrong("3.4x", "").ends_with("there is no rule 3.4x"));
        assert!(wrong("3.4", "Rule: 3.4\n").ends_with("the folder names the rule, and not a line `Rule: 3.4`"));
        assert!(wrong("invariants", "").ends_with("has no line `Invariant: ...`"));
        assert!(wrong("invariants", "Invariant: It moves.\n").ends_with("has no `**It moves.**`"));
    }
}
