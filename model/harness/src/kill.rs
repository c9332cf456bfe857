//! A process that commits until it is killed.
//!
//! The process is the test program itself, run once more for one of its tests, which is ignored otherwise. It gets a
//! [`path`], and calls [`acknowledge`] for each commit. The test that watches it has what was acknowledged.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Result, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The variable with the path of the database. Without it the process has nothing to do.
const PATH: &str = "VELLUM_KILL_PATH";
const BEGINNING: &str = "acknowledged ";

/// In the process: the path of its database; none in an ordinary run of the tests.
pub fn path() -> Option<OsString> {
    std::env::var_os(PATH)
}

/// In the process: says that a commit was acknowledged.
pub fn acknowledge(commit: impl Display) {
    // In one write, so that lines stay whole. The reader may be gone.
    let _ = std::io::stdout().lock().write_all(format!("{BEGINNING}{commit}\n").as_bytes());
}

/// Runs the test in a process of its own, kills it after so many acknowledgements, and returns all that it gave; fewer,
/// if it ended by itself.
///
/// # Errors
///
/// Those of the system: the process cannot be started, read from or killed.
pub fn killed_after(test: &str, path: &Path, count: usize) -> Result<Vec<String>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut acknowledged = Vec::new();
    let lines = child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines());
    for line in lines {
        if let Some(commit) = line?.strip_prefix(BEGINNING) {
            acknowledged.push(commit.to_owned());
            if acknowledged.len() == count {
                child.kill()?;
            }
        }
    }
    child.wait()?;
    Ok(acknowledged)
}
