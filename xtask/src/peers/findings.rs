//! What `docs/findings.md` says of ZODB is still so: each of its scripts finds the fault that it is about.
//!
//! A script that does not find it any more is no failure of ours, but the page is then wrong, and the adapter of the
//! harness steps over what is not there. A script that breaks off is one that found nothing out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::{Ground, Trouble, ensure};
use crate::venv;

const AT_ONCE: usize = 2;

/// By this exit code a script says that the fault is there.
const STILL_SO: i32 = 1;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let folder = venv::workspace().join("docs/findings");
    let page = std::fs::read_to_string(folder.with_extension("md"))?;
    let (scripts, histories) = (files(&folder, "py")?, files(&folder, "script")?);
    for script in &scripts {
        let name = file_name(script);
        ensure(page.contains(&format!("(findings/{name})")), || format!("docs/findings.md does not link to {name}"))?;
    }
    for history in &histories {
        let text = std::fs::read_to_string(history)?;
        ensure(page.contains(&text), || format!("docs/findings.md shows other steps than {}", file_name(history)))?;
    }

    let (left, wrong) = (Mutex::new(scripts.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(script) = next(&left) {
                    if let Err(why) = run(&ground.python, script) {
                        wrong.lock().unwrap_or_else(|e| e.into_inner()).push(format!("{}: {why}", file_name(script)));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap_or_else(|e| e.into_inner());
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    Ok(format!("{} findings are still so, {} histories are those of the page", scripts.len(), histories.len()))
}

fn next<'a>(left: &Mutex<std::slice::Iter<'a, PathBuf>>) -> Option<&'a PathBuf> {
    left.lock().unwrap_or_else(|e| e.into_inner()).next()
}

fn run(python: &Path, script: &Path) -> Result<(), String> {
    let output = Command::new(python).arg(script).output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    // Python, too, exits with 1 where an exception ends it.
    if !said.contains("found: ") || !output.stderr.is_empty() {
        return Err(format!("breaks off: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    match output.status.code() {
        Some(STILL_SO) => Ok(()),
        _ => Err(format!("{}, says: {}", output.status, said.trim())),
    }
}

/// The files of one kind, in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Trouble> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    ensure(!files.is_empty(), || format!("no .{extension} in {}", folder.display()))?;
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
