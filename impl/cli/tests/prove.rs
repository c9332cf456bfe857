//! `vellum prove`: what it says, how it ends, and that a seed says everything.

mod common;

use common::Sandbox;
use serde_json::Value;

fn json(sandbox: &Sandbox, arguments: &[&str]) -> (i32, Value) {
    let run = sandbox.run(arguments);
    (run.code, serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", run.stdout, run.stderr)))
}

#[test]
fn the_same_seed_is_the_same_run() {
    let sandbox = Sandbox::new();
    let play = |seed: &str, jobs: &str| {
        let (code, mut said) = json(&sandbox, &["prove", "--cases", "60", "--seed", seed, "--jobs", jobs, "--json"]);
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
    for storage in ["file", "file-relaxed", "memory", "rules"] {
        let run = sandbox.run(&["prove", "--storage", storage, "--cases", "40"]);
        assert_eq!(run.code, 0, "{storage}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("\n40 histories, "), "{}", run.stdout);
    }
}

#[test]
fn crashes_and_threads() {
    let sandbox = Sandbox::new();
    for storage in ["file", "file-relaxed"] {
        let run = sandbox.run(&["prove", "--crashes", "--storage", storage, "--cases", "2"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("2 histories of "), "{}", run.stdout);
    }
    for storage in ["file", "memory"] {
        let run = sandbox.run(&["prove", "--threads", "3", "--storage", storage, "--cases", "2"]);
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
    let run = sandbox.run(&["prove", "--peer-command", &command, "--cases", "5", "--save", &saved]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("\nA difference, in case 0"), "{}", run.stdout);
    let script = found.join("case-0.script").display().to_string();
    let again = sandbox.run(&["prove", "--peer-command", &command, "--script", &script]);
    assert_eq!(again.code, 1, "{}{}", again.stdout, again.stderr);
    assert!(run.stdout.contains(again.stdout.trim()), "{}\n{}", run.stdout, again.stdout);
    let ours = sandbox.run(&["prove", "--script", &script]);
    assert_eq!((ours.code, ours.stderr.as_str()), (0, ""), "{}", ours.stdout);
}

#[test]
fn wrong_use_ends_with_2() {
    let sandbox = Sandbox::new();
    sandbox.file("bad.script", b"store a 1 @0: 5\ncommmit a @1\n");
    for (arguments, said) in [
        (&["prove", "--without", "flying"][..], "`flying` is nothing that a storage can do; there is concurrent"),
        (&["prove", "--script", "missing.script"], "missing.script: "),
        (&["prove", "--script", "bad.script"], "bad.script, line 2: `commmit a @1`: no such verb"),
        (&["prove", "--peer-command", " "], "names no program"),
        (&["prove", "--peer-command", "./no-such-program"], "no-such-program"),
        (&["prove", "--peer", "zodb", "--python", "./no-such-python"], "no-such-python"),
        (&["prove", "--peer", "zodb", "--storage", "file"], "cannot be used with"),
        (&["prove", "--crashes", "--storage", "memory"], "what is in memory does not survive a crash"),
        (&["prove", "--crashes", "--threads", "2"], "cannot be used with"),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
}
