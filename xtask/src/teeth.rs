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
//! A patch that does not apply or does not compile is an error, and no catch. A check that never ends is a catch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::ground::{Catch, Ground, PATIENCE_SECONDS, Verdict};
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
        match ground.check(&check.0, PATIENCE_SECONDS) {
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
            Some(&seconds_max) => ground.with(&bug.path, |ground| ground.check(&bug.check.0, seconds_max)),
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
        if let Err(why) = ground.with(&bug.path, |ground| if is_built(n) { ground.build(&BUILT) } else { Ok(()) }) {
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
