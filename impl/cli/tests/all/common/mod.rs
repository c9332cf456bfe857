//! Running the command in a directory of its own, at a time that stands still.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

pub mod photos;
pub mod server;
pub mod site;
pub mod story;

/// Compares with the snapshot of this name.
macro_rules! assert_session {
    ($name:expr, $session:expr) => {{
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let session = $session;
        settings.bind(|| insta::assert_snapshot!($name, session));
    }};
}

/// Plays a story on both engines, and compares what is seen with the snapshot of this name.
macro_rules! assert_story {
    ($name:expr, $sandbox:expr, $commands:expr) => {
        assert_session!($name, crate::common::story::play(&$sandbox, $commands))
    };
}

/// The file of this name among the golden databases.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// A directory with databases in it.
pub struct Sandbox {
    directory: tempfile::TempDir,
}

/// The output of the command.
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

    /// The session as a person sees it.
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

    /// The files here, with their contents.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// The files here and in all folders, and what is in them. Links are not followed.
    pub fn all_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.directory.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => drop(files.insert(entry.path(), std::fs::read(entry.path()).unwrap())),
                    _ => {}
                }
            }
        }
        files
    }

    /// Runs the command on a terminal, at which this is typed.
    pub fn at_a_terminal(&self, arguments: &[&str], typed: &str) -> (i32, String) {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let other_end = || File::options().read(true).write(true).open(&name).unwrap();
        let mut terminal = File::from(terminal);
        terminal.write_all(typed.as_bytes()).unwrap();
        let mut command = self.command(arguments);
        command.stdin(other_end()).stdout(other_end()).stderr(other_end());
        let mut child = command.spawn().unwrap();
        // This process's handle of the other end goes with it; when the child's is gone too, reading ends with an
        // error.
        drop(command);
        let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = terminal.read(&mut piece) {
            seen.extend(&piece[..length]);
        }
        (child.wait().unwrap().code().unwrap(), String::from_utf8(seen).unwrap().replace('\r', ""))
    }

    /// Runs several, and writes down what a person sees.
    pub fn session(&self, commands: &[&[&str]]) -> String {
        let runs: Vec<_> = commands.iter().map(|words| self.run(words).transcript(words)).collect();
        runs.join("\n")
    }
}

/// How long it takes is the machine's business.
pub fn without_time(session: String) -> String {
    let mask = |line: &str| {
        if line.starts_with("  took  ") {
            return "  took          (some time)".to_owned();
        }
        match line.split_once("\"seconds\":") {
            Some((before, after)) => {
                let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
                format!("{before}\"seconds\":(some){rest}")
            }
            None => line.to_owned(),
        }
    };
    session.lines().map(mask).collect::<Vec<_>>().join("\n")
}
