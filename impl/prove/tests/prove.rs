//! `vellum-prove`: what it says, how it ends, and that a seed says everything.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A directory with files in it.
struct Sandbox {
    directory: tempfile::TempDir,
}

/// The output of the command, and its exit code.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Sandbox {
    fn new() -> Sandbox {
        Sandbox { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs the command to its end.
    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vellum-prove"));
        command.args(arguments).current_dir(self.directory.path()).env("COLUMNS", "100").stdin(Stdio::null());
        let output = command.output().unwrap();
        Run {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn json(sandbox: &Sandbox, arguments: &[&str]) -> (i32, Value) {
    let run = sandbox.run(arguments);
    (run.code, serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", run.stdout, run.stderr)))
}

/// All snapshots of the workspace are in one folder.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

#[test]
fn help() {
    let help = Sandbox::new().run(&["-h"]).stdout;
    settings().bind(|| insta::assert_snapshot!("prove-help", format!("$ vellum-prove -h\n{help}")));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let sandbox = Sandbox::new();
    let play = |seed: &str, jobs: &str| {
        let (code, mut said) = json(&sandbox, &["--cases", "60", "--seed", seed, "--jobs", jobs, "--json"]);
        assert_eq!(code, 0);
        assert_eq!((&said["histories"], said["storage"].as_str()), (&60.into(), Some("FileStorage")));
        for timing in ["seconds", "histories_a_minute_a_core"] {
            assert!(said[timing].as_f64().unwrap() > 0.0);
            said[timing] = Value::Null;
        }
        said
    };
    assert_eq!(play("7", "1"), play("7", "2"));
    assert_ne!(play("7", "1"), play("8", "1"));
}

#[test]
fn every_storage_of_ours_keeps_the_rules() {
    let sandbox = Sandbox::new();
    for storage in ["file", "file-relaxed", "file-journal", "memory", "rules"] {
        let run = sandbox.run(&["--storage", storage, "--cases", "40"]);
        assert_eq!(run.code, 0, "{storage}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("\n40 histories, "), "{}", run.stdout);
    }
}

#[test]
fn crashes_and_threads() {
    let sandbox = Sandbox::new();
    for storage in ["file", "file-relaxed", "file-journal"] {
        let run = sandbox.run(&["--crashes", "--storage", storage, "--cases", "2"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("2 histories of "), "{}", run.stdout);
    }
    for storage in ["file", "memory"] {
        let run = sandbox.run(&["--threads", "3", "--storage", storage, "--cases", "2"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    }
}

/// A storage that does not keep what it is told: found, made short, saved, and found again in the saved script.
#[test]
#[cfg(unix)]
fn a_difference_ends_with_1_and_can_be_played_again() {
    let sandbox = Sandbox::new();
    // Says yes to everything, and that it knows nothing.
    let peer = r#"while read -r line; do case "$line" in
        *'"hello"'*) echo '{"name":"forgetful","can":[]}';;
        *'"vote"'*) echo '{"is":"voted","resolved":[]}';;
        *'"finish"'*) echo '{"is":"finished","tid":"0000000000000001"}';;
        '['*) echo '[]';;
        *) echo '{"is":"done"}';; esac; done"#;
    sandbox.file("peer.sh", peer.as_bytes());
    let command = format!("sh {}", sandbox.path("peer.sh").display());
    let found = sandbox.path("found");
    let saved = found.display().to_string();
    let run = sandbox.run(&["--peer-command", &command, "--cases", "5", "--save", &saved]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("\nA difference, in case 0"), "{}", run.stdout);
    let script = found.join("case-0.script").display().to_string();
    let again = sandbox.run(&["--peer-command", &command, "--script", &script]);
    assert_eq!(again.code, 1, "{}{}", again.stdout, again.stderr);
    assert!(run.stdout.contains(again.stdout.trim()), "{}\n{}", run.stdout, again.stdout);
    let ours = sandbox.run(&["--script", &script]);
    assert_eq!((ours.code, ours.stderr.as_str()), (0, ""), "{}", ours.stdout);
}

#[test]
fn wrong_use_ends_with_2() {
    let sandbox = Sandbox::new();
    sandbox.file("bad.script", b"store a 1 @0: 5\ncommmit a @1\n");
    for (arguments, said) in [
        (&["--without", "flying"][..], "unknown capability `flying`; known capabilities: concurrent"),
        (&["--script", "missing.script"], "missing.script: "),
        (&["--script", "bad.script"], "bad.script, line 2: `commmit a @1`: no such verb"),
        (&["--peer-command", " "], "names no program"),
        (&["--peer-command", "./no-such-program"], "no-such-program"),
        (&["--peer", "zodb", "--python", "./no-such-python"], "no-such-python"),
        (&["--peer", "zodb", "--storage", "file"], "cannot be used with"),
        (&["--crashes", "--storage", "memory"], "a storage in memory does not survive a crash"),
        (&["--crashes", "--threads", "2"], "cannot be used with"),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
}

/// The numbers of states and tests are a snapshot: a change of the rules or of the moves shows there.
#[test]
fn every_history_of_the_small_worlds() {
    let sandbox = Sandbox::new();
    let mut table = String::new();
    let mut explore = |arguments: &[&str]| {
        let (code, said) = json(&sandbox, &[&["--exhaustive", "seconds", "--json"], arguments].concat());
        assert_eq!(code, 0, "{arguments:?}: {said}");
        table += &format!("{}\n", said["storage"].as_str().unwrap());
        for world in said["worlds"].as_array().unwrap() {
            let [states, tests, crashes] = ["states", "tests", "crashes"].map(|name| world[name].as_u64().unwrap());
            table += &format!("    {states:>6} states {tests:>6} tests {crashes:>6} crashes: {}\n", world["bound"]);
        }
    };
    explore(&["--storage", "file"]);
    explore(&["--storage", "file", "--crashes"]);
    for storage in ["file-relaxed", "file-journal", "memory", "overlay", "compressed", "rules"] {
        explore(&["--storage", storage, "--bound", "transactions=2 overlapping=2 aborts=1 versions"]);
    }
    settings().bind(|| insta::assert_snapshot!("prove-small-worlds", table));
}
