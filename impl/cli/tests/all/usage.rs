//! How the command behaves: exit codes, messages, and readers that go away.

use std::io::Read;
use std::process::Stdio;

use crate::common::{Sandbox, golden};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{Oid, Tid, TransactionMeta};

/// Wrong use ends with 2 and says what to do; nothing is on standard output.
#[test]
fn wrong_use_ends_with_2() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo");
    sandbox.file("text", b"just some text\n").file("empty", b"").file("old.fs", b"FS20....");
    sandbox.file("new.fs", b"FS30");
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    for (arguments, said) in [
        (&["frob"][..], "unrecognized subcommand"),
        (&["help", "frob"], "there is no command `frob`"),
        (&["info"], "required"),
        (&["show", "mail.fs", "xyz"], "an oid is up to 16 hex digits"),
        (&["log", "mail.fs", "--since", "tomorrow"], "a time is a tid"),
        (&["log", "mail.fs", "-n", "-1"], ""),
        (&["log", "mail.fs", "--object", "ffff"], "no object 000000000000ffff"),
        (&["show", "mail.fs", "0", "--raw", "--json"], "cannot be used with"),
        (&["show", "mail.fs", "0", "--at", "now", "--version", "a"], "cannot be used with"),
        (&["show", "mail.fs", "0", "--at", "1999-12-31"], "was not there yet"),
        (&["show", "undo.fs", "19"], "is nothing: transaction 040d2ed760501c11"),
        (&["undo", "mail.fs"], "required"),
        (&["undo", "mail.fs", "frob", "--yes"], "a time is a tid"),
        (&["undo", "mail.fs", "last", "--yes", "--dry-run"], "cannot be used with"),
        (&["undo", "mail.fs", "040d2ed700000000", "--yes"], "there is no transaction 040d2ed700000000; `vellum log"),
        (&["undo", "mail.fs", "2026-11-22", "--yes"], "the time of more than one transaction"),
        (&["undo", "new.fs", "last", "--yes"], "there is nothing to undo"),
        (&["commit-version", "mail.fs", "", "--yes"], "cannot be committed or aborted"),
        (&["commit-version", "mail.fs", "a", "--to", "a", "--yes"], "cannot be committed or aborted"),
        (&["abort-version", "mail.fs", "", "--yes"], "cannot be committed or aborted"),
        (&["recover", "mail.fs"], "required"),
        (&["recover", "mail.fs", "undo.fs"], "undo.fs: there is a file already"),
        (&["recover", "mail.fs", "mail.fs"], "mail.fs: there is a file already"),
        (&["recover", "mail.fs", "missing/out.fs"], "missing/out.fs"),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
    assert_eq!(std::fs::read(sandbox.path("undo.fs")).unwrap(), std::fs::read(golden("undo.fs")).unwrap());
    for (name, said) in [
        ("missing.fs", "no such file"),
        ("folder", "a directory"),
        ("text", "not a database: it begins with `just`"),
        ("empty", "the file is empty"),
        ("old.fs", "which ZODB 3 converts"),
    ] {
        for command in [
            &["info", name][..],
            &["log", name],
            &["show", name, "0"],
            &["dump", name],
            &["check", name],
            &["check", name, "--references"],
            &["refs", name, "0"],
            &["garbage", name],
            &["recover", name, "out.fs"],
            &["versions", name],
            &["undo", name, "last", "--yes"],
            &["undo", name, "last", "--dry-run"],
            &["commit-version", name, "a", "--yes"],
            &["abort-version", name, "a", "--yes"],
        ] {
            let run = sandbox.run(command);
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{command:?}");
            assert!(run.stderr.starts_with("vellum: ") && run.stderr.contains(said), "{command:?}: {}", run.stderr);
            assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        }
    }
    assert!(!sandbox.path("out.fs").exists());
}

#[test]
fn a_wrong_clock_is_said_to_be_wrong() {
    let output = Sandbox::new().command(&["help"]).env("VELLUM_NOW", "noon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("VELLUM_NOW"));
}

/// `vellum log | head -1`: no error, and no panic.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let mut damaged = std::fs::read(golden("mail.fs")).unwrap();
    // Object 0, which is referred to by none, and all others: enough problems to fill a pipe.
    damaged.truncate(300_000);
    sandbox.file("cut.fs", &damaged);
    for arguments in [
        &["log", "--all", "--objects", "0", "mail.fs"][..],
        &["dump", "--json", "mail.fs"],
        &["dump", "mail.fs"],
        &["check", "cut.fs"],
        &["check", "cut.fs", "--references", "--max", "0"],
        &["refs", "mail.fs", "20"],
        &["garbage", "mail.fs"],
        &["help"],
    ] {
        // Gone from the start: otherwise a few lines would be written before the reader can go.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = sandbox.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// Text from a database can do nothing to a terminal, and loses nothing in JSON.
#[test]
fn foreign_text_is_harmless() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("hostile.fs");
    let storage = FileStorage::create(&path).unwrap();
    let tid = Tid::at("2026-11-24T12:00:00Z".parse().unwrap());
    let meta = TransactionMeta::new()
        .user(&b"\x1b]0;owned\x07mallory"[..])
        .description(&b"first\nse\xffcond\r\x1b[2J\xe2\x80\xae"[..])
        .extension(&b"\x80\x03}q\0X\x04\0\0\0\x1b[1mK\x01s."[..])
        .tid(tid);
    let mut change = storage.begin(meta).unwrap();
    let record = &b"c\x1b[31mmodule\nName\n.(X\x04\0\0\0\x1b[5ml."[..];
    change.store(Oid::ROOT, Tid::ZERO, record.into()).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
    drop(storage);
    for arguments in [
        &["info", "hostile.fs"][..],
        &["log", "hostile.fs"],
        &["dump", "hostile.fs"],
        &["show", "hostile.fs", "0"],
        &["show", "hostile.fs", "0", "--history"],
        &["show", "hostile.fs", "0", "--json"],
        &["log", "--json", "hostile.fs"],
        &["dump", "--json", "hostile.fs"],
        &["check", "hostile.fs"],
        &["check", "hostile.fs", "--references"],
        &["refs", "hostile.fs", "0"],
        &["refs", "hostile.fs", "0", "--json"],
        &["garbage", "hostile.fs"],
        &["undo", "hostile.fs", "last", "--dry-run"],
        &["undo", "hostile.fs", "last", "--dry-run", "--json"],
        &["copy", "hostile.fs", "copy.fs"],
        &["copy", "hostile.fs", "copy.fs", "--json"],
        &["export", "hostile.fs", "0", "hostile.zexp"],
        &["export", "hostile.fs", "0", "hostile.zexp", "--force", "--json"],
        &["import", "copy.fs", "hostile.zexp", "--dry-run"],
        &["import", "copy.fs", "hostile.zexp", "--dry-run", "--json"],
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
        let human = !arguments.contains(&"--json");
        let dangerous = |c: char| (c.is_control() && c != '\n') || (human && c == '\u{202e}');
        assert!(!run.stdout.contains(dangerous), "{arguments:?}: {:?}", run.stdout);
    }
    let log = sandbox.run(&["log", "hostile.fs"]).stdout;
    assert!(log.contains("\\x1b]0;owned\\x07mallory"), "{log}");
    assert!(log.contains("\\x1b[31mmodule.Name"), "{log}");
    let line: Value = serde_json::from_str(&sandbox.run(&["log", "--json", "hostile.fs"]).stdout).unwrap();
    assert_eq!(line["user"], "\u{1b}]0;owned\u{7}mallory");
    assert_eq!(line["description"], "first\nse\u{fffd}cond\r\u{1b}[2J\u{202e}");
    assert_eq!(line["description_hex"], "66697273740a7365ff636f6e640d1b5b324ae280ae");
    assert_eq!(line["extension"]["\u{1b}[1m"], 1);
    assert_eq!(line["time"], "2026-11-24T12:00:00Z");
}

/// `--raw` writes the record of the storage, byte for byte.
#[test]
fn raw_is_the_record() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let storage = FileStorage::open_read_only(sandbox.path("mail.fs")).unwrap();
    let tid = Tid(0x040d_2ed7_5f55_2a00);
    let then = storage.load_before(Oid::ROOT, tid.next()).unwrap().unwrap();
    assert_eq!(then.tid, tid);
    for (arguments, expected) in [
        (&["show", "mail.fs", "1", "--raw"][..], storage.load(Oid(1), &Default::default()).unwrap().data),
        (&["show", "mail.fs", "0", "--raw", "--at", "040d2ed75f552a00"], then.data),
    ] {
        let output = sandbox.command(arguments).output().unwrap();
        assert_eq!(output.stdout, expected, "{arguments:?}");
    }
}

/// An object's transactions, found along its records, are those that a walk over all transactions finds.
#[test]
fn the_log_of_an_object_is_a_part_of_the_log() {
    let sandbox = Sandbox::new();
    for name in ["mail", "undo", "unpacked", "versions"] {
        let file = format!("{name}.fs");
        sandbox.golden(name);
        let all = sandbox.run(&["log", "--json", "--all", &file]).stdout;
        for oid in ["0", "1", "2", "10"] {
            let oid = format!("{oid:0>16}");
            let touches = |line: &&str| line.contains(&format!("\"oid\":\"{oid}\""));
            let expected: Vec<_> = all.lines().filter(touches).collect();
            let found = sandbox.run(&["log", "--json", "--all", "--object", &oid, &file]);
            if expected.is_empty() {
                assert_eq!(found.code, 2, "{name} {oid}");
            } else {
                assert_eq!(found.stdout.lines().collect::<Vec<_>>(), expected, "{name} {oid}");
            }
        }
    }
}

/// The three parts of a database's size add up, and current data is what the storage loads.
#[test]
fn info_adds_up() {
    let sandbox = Sandbox::new();
    for name in ["mail", "undo", "unpacked", "packed", "versions"] {
        let file = format!("{name}.fs");
        let info = sandbox.golden(name).run(&["info", "--json", "--classes", "0", &file]).stdout;
        let info: Value = serde_json::from_str(&info).unwrap();
        let number = |field: &str| info[field].as_u64().unwrap();
        let sum = number("current_bytes") + number("history_bytes") + number("overhead_bytes");
        assert_eq!(sum, number("bytes"), "{name}");
        let storage = FileStorage::open_read_only(sandbox.path(&file)).unwrap();
        let current: u64 = storage.current_records(Oid::ROOT).map(|r| r.unwrap().data.len() as u64).sum();
        // In versions.fs, object 3 is 49 bytes in its version besides.
        let in_versions = if name == "versions" { 49 } else { 0 };
        assert_eq!(number("current_bytes"), current + in_versions, "{name}");
        let classes: u64 = info["classes"].as_array().unwrap().iter().map(|c| c["objects"].as_u64().unwrap()).sum();
        assert_eq!(classes, number("objects") - number("nothing"), "{name}");
    }
}
