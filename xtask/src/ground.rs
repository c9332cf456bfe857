//! A copy of the workspace that a task may change, with a build of its own, and the checks that are run there.
//!
//! The copy and its build stay, so that the next run builds only changed crates.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::{Outcome, venv};

type Trouble = Box<dyn std::error::Error>;

/// So long a build may take, or a check as it is.
pub const PATIENCE_SECONDS: u64 = 1200;
const WORDS_MAX: usize = 90;

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
    /// How many histories it took.
    pub histories: Option<u64>,
    /// How many steps the shortest one has.
    pub steps: Option<u64>,
    /// How long the check took.
    pub seconds: f64,
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

    /// Applies a patch, does something, and takes the patch out again.
    pub fn with<T>(&self, patch: &Path, work: impl FnOnce(&Ground) -> Result<T, Trouble>) -> Result<T, Trouble> {
        // The patch that is applied is the one that is reverted, even if the file changes in between.
        fs::copy(patch, self.patch())?;
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

    /// Runs a check: `prove` or `test`, with arguments.
    pub fn check(&self, check: &str, seconds_max: u64) -> Result<Verdict, Trouble> {
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
