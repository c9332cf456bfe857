//! Running the command in a directory of its own, at a time that stands still.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The file of this name among the golden databases.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// A directory with databases in it.
pub struct Sandbox {
    directory: tempfile::TempDir,
}

/// What the command said.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn of(output: Output) -> Run {
        Run {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// As a person sees it who types the command.
    pub fn transcript(&self, arguments: &[&str]) -> String {
        let words: Vec<_> = arguments
            .iter()
            .map(|word| match word.contains(' ') {
                true => format!("\"{word}\""),
                false => word.to_string(),
            })
            .collect();
        let mut text = format!("$ vellum {}\n{}", words.join(" "), self.stdout);
        for line in self.stderr.lines() {
            text.push_str(&format!("(error) {line}\n"));
        }
        if self.code != 0 {
            text.push_str(&format!("(exit code {})\n", self.code));
        }
        text
    }
}

impl Sandbox {
    pub fn new() -> Sandbox {
        Sandbox { directory: tempfile::tempdir().unwrap() }
    }

    /// Puts a copy of a golden database here.
    pub fn golden(&self, name: &str) -> &Sandbox {
        let bytes = std::fs::read(golden(&format!("{name}.fs"))).unwrap();
        self.file(&format!("{name}.fs"), &bytes)
    }

    /// Puts a file here.
    pub fn file(&self, name: &str, bytes: &[u8]) -> &Sandbox {
        std::fs::write(self.path(name), bytes).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("VELLUM_NOW", "2026-11-25T12:00:00Z")
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }

    /// Runs several, and writes down what a person sees.
    pub fn session(&self, commands: &[&[&str]]) -> String {
        let runs: Vec<_> = commands.iter().map(|words| self.run(words).transcript(words)).collect();
        runs.join("\n")
    }
}
