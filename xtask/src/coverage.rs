//! `cargo xtask coverage`: which lines of the engine no kept input of the fuzz targets reaches.
//!
//! The replay of the corpus is built with the compiler's own counters and run, and `cov` of `llvm_profparser` puts the
//! counts beside the lines: it reads them without LLVM's tools, which must be of the compiler's very version. Of a
//! function that is compiled more than once it may show one copy only; so a line that seems to be missed deserves a
//! second look.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::Outcome;
use crate::venv::{self, workshop, workspace};

/// A line of code, and how often it was reached.
struct Line<'a> {
    number: u32,
    count: u64,
    text: &'a str,
}

/// Counts the lines of the engine that the kept fuzz inputs reach
///
/// Needs `cov` of the crate llvm_profparser.
#[derive(Debug, Args)]
pub struct Coverage {
    /// Print the lines that were missed, for each file with one of these texts in its path
    #[arg(value_name = "PART")]
    parts: Vec<String>,
}

impl Coverage {
    /// Prints a table of all files, and the missed lines of those that were asked for.
    pub fn run(self) -> Outcome {
        let help = Command::new("cov").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !help.is_ok_and(|status| status.success()) {
            return Err("cov is not there: cargo install llvm_profparser --locked".into());
        }
        let folder = workshop("coverage")?;
        let profile = folder.join("replay.profraw");
        let replay = build(&folder)?;
        let mut command = Command::new(&replay);
        command
            .args(["every_input_that_is_kept", "every_seed"])
            .env("LLVM_PROFILE_FILE", &profile)
            .stdout(Stdio::null());
        venv::succeed(command.current_dir(workspace().join("fuzz/targets")))?;
        let mut command = Command::new("cov");
        let shown = command.arg("show").arg("--instr-profile").arg(&profile).arg("--object").arg(&replay).output()?;
        if !shown.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&shown.stderr)).into());
        }
        let shown = String::from_utf8_lossy(&shown.stdout);
        let root = workspace().canonicalize()?;
        println!("{:>6} {:>6}  file", "lines", "missed");
        for (path, lines) in files(&shown, &root.join("impl")) {
            let missed: Vec<&Line> = lines.iter().filter(|line| line.count == 0).collect();
            let path = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            println!("{:>6} {:>6}  {path}", lines.len(), missed.len());
            if self.parts.iter().any(|part| path.contains(part)) {
                missed.iter().for_each(|line| println!("{:>20}  {}", line.number, line.text));
            }
        }
        Ok(())
    }
}

/// The test that replays the corpus, with counters in it.
fn build(folder: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--package", "vellum-fuzz", "--test", "replay", "--no-run", "--message-format", "json"]);
    command.current_dir(workspace()).env("RUSTFLAGS", "-Cinstrument-coverage").env("CARGO_TARGET_DIR", folder);
    // Programs that run during the build are counted as well, and would leave a file where they run.
    command.env("LLVM_PROFILE_FILE", folder.join("build.profraw"));
    let built = command.stderr(Stdio::inherit()).output()?;
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executable.filter(|_| built.status.success()).ok_or_else(|| format!("{command:?} failed").into())
}

/// The shown part of the files in a folder: a line with the path, then `number|count|text`, with no count where there
/// is no code.
fn files<'a>(shown: &'a str, folder: &Path) -> Vec<(&'a Path, Vec<Line<'a>>)> {
    let mut files: Vec<(&Path, Vec<Line>)> = Vec::new();
    for row in shown.lines() {
        if row.starts_with('/') {
            files.push((Path::new(row), Vec::new()));
        }
        let mut columns = row.splitn(3, '|');
        let mut column = || columns.next().map(str::trim_end);
        let (Some(number), Some(count), Some(text)) = (column(), column(), column()) else { continue };
        if let (Ok(number), Ok(count), Some((_, lines))) =
            (number.trim().parse(), count.trim().parse(), files.last_mut())
        {
            lines.push(Line { number, count, text });
        }
    }
    files.retain(|(path, _)| path.starts_with(folder));
    files.sort_by_key(|(path, _)| *path);
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_code_are_not_counted() {
        let shown = "/w/impl/a.rs\n    1|       |// a | b\n    2|      3|    f(|x| x);\n    3|      0|}\n/other.rs\n    1|      0|x\n";
        let files = files(shown, Path::new("/w/impl"));
        let [(path, lines)] = files.as_slice() else { panic!("{} files", files.len()) };
        let lines: Vec<_> = lines.iter().map(|line| (line.number, line.count, line.text)).collect();
        assert_eq!((*path, lines), (Path::new("/w/impl/a.rs"), vec![(2, 3, "    f(|x| x);"), (3, 0, "}")]));
    }
}
