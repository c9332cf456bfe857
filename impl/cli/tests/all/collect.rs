//! `vellum collect`: what it shows is what it deletes, and what it refuses changes nothing.

use crate::common::Sandbox;
use serde_json::Value;
use vellum_file::{FileStorage, Options};
use vellum_storage::{Oid, Tid, TransactionMeta, Version};

/// A reference within the database, or into another one.
enum To<'a> {
    Here(u64),
    There(&'a str, u64),
}

use To::{Here, There};

fn record(class: &str, refers: &[To<'_>]) -> Vec<u8> {
    let mut out = format!("\u{80}\u{3}capp\n{class}\n.\u{80}\u{3}](").chars().map(|c| c as u8).collect::<Vec<_>>();
    let oid = |oid: &u64| [b"C\x08", &oid.to_be_bytes()[..]].concat();
    for to in refers {
        out.extend(match to {
            Here(to) => oid(to),
            There(name, to) => {
                let name = [b"X", &(name.len() as u32).to_le_bytes()[..], name.as_bytes()].concat();
                [&b"](X\x01\0\0\0n"[..], &name, &oid(to), b"\x86e"].concat()
            }
        });
        out.push(b'Q');
    }
    out.extend_from_slice(b"e.");
    out
}

type Object<'a> = (u64, &'a str, &'a [To<'a>]);

/// Writes into a database, at a time.
fn write(sandbox: &Sandbox, name: &str, time: &str, objects: &[Object<'_>]) {
    let path = sandbox.path(name);
    let storage = if path.exists() { FileStorage::open(path) } else { FileStorage::create(path) }.unwrap();
    let tid = Tid::at(time.parse().unwrap());
    let mut change = storage.begin(TransactionMeta::new().user("ann").tid(tid)).unwrap();
    for (oid, class, refers) in objects {
        let serial = storage.load(Oid(*oid), &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        change.store(Oid(*oid), serial, record(class, refers).into()).unwrap();
    }
    storage.vote(change).unwrap().finish().unwrap();
}

/// A site with a main database and one for its users, with garbage in both: a ring through both, and a list.
fn site(sandbox: &Sandbox) {
    for name in ["main.fs", "users.fs"] {
        let _ = std::fs::remove_file(sandbox.path(name));
        let _ = std::fs::remove_file(sandbox.path(&format!("{name}.index")));
    }
    let main: &[Object<'_>] = &[
        (0, "Root", &[Here(1)]),
        (1, "Folder", &[There("users", 7)]),
        (3, "Folder", &[]),
        (5, "Folder", &[Here(6)]),
        (6, "Page", &[There("users", 9)]),
        (10, "Page", &[Here(11), Here(11), Here(11)]),
        (11, "Page", &[]),
    ];
    let users: &[Object<'_>] = &[
        (0, "Root", &[]),
        (7, "User", &[Here(8)]),
        (8, "User", &[There("main", 3)]),
        (9, "User", &[There("main", 5)]),
    ];
    write(sandbox, "main.fs", "2026-11-01T12:00:00Z", main);
    write(sandbox, "users.fs", "2026-11-01T12:00:01Z", users);
}

const SITE: [&str; 3] = ["collect", "main=main.fs", "users=users.fs"];

fn of(site: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [site, more].concat()
}

fn is_there(sandbox: &Sandbox, name: &str, oid: u64) -> bool {
    let storage = FileStorage::open_read_only(sandbox.path(name)).unwrap();
    storage.load(Oid(oid), &Version::TRUNK).is_ok()
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    site(&sandbox);
    let commands: &[&[&str]] = &[
        &of(&SITE, &["--dry-run"]),
        &of(&SITE, &["--dry-run", "--json", "--objects", "1"]),
        &of(&SITE, &[]),
        &of(&SITE, &["--yes", "--user", "ann"]),
        &["log", "main.fs", "-n", "1"],
        &of(&SITE, &["--yes"]),
        &["check", "main.fs"],
        // Half of it is undone: some objects now refer to missing ones.
        &["undo", "users.fs", "last", "--yes"],
        &of(&SITE, &["--dry-run"]),
        &["undo", "main.fs", "last", "--yes"],
        // Objects that were changed lately are kept, here those of the undo.
        &of(&SITE, &["--dry-run"]),
    ];
    assert_story!("cli-collect", sandbox, commands);
    for oid in [0, 1, 3] {
        assert!(is_there(&sandbox, "main.fs", oid), "{oid}");
    }
    assert!(is_there(&sandbox, "users.fs", 8));
    site(&sandbox);
    let commands: &[&[&str]] =
        &[&of(&SITE, &["--yes", "--json", "--description", "tidy"]), &["log", "users.fs", "-n", "1"]];
    assert_story!("cli-collect-json", sandbox, commands);
    assert!(!is_there(&sandbox, "users.fs", 9) && is_there(&sandbox, "users.fs", 8));
}

/// Each thing that stops it, for people and for programs.
#[test]
fn refusals() {
    let sandbox = Sandbox::new();
    site(&sandbox);
    write(&sandbox, "rootless.fs", "2026-11-01T12:00:00Z", &[(1, "Page", &[])]);
    write(
        &sandbox,
        "dangling.fs",
        "2026-11-01T12:00:00Z",
        &[(0, "Root", &[Here(1), There("users", 7)]), (4, "Page", &[])],
    );
    write(&sandbox, "bad.fs", "2026-11-01T12:00:00Z", &[(0, "Root", &[Here(1)]), (1, "Page", &[])]);
    let storage = FileStorage::open(sandbox.path("bad.fs")).unwrap();
    let serial = storage.load(Oid(1), &Version::TRUNK).unwrap().tid;
    let mut change = storage.begin(TransactionMeta::new().tid(Tid(serial.0 + 1))).unwrap();
    change.store(Oid(1), serial, "no pickle".into()).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
    drop(storage);
    let before = sandbox.files();
    let commands: &[&[&str]] = &[
        &["collect", "main=main.fs", "--yes"],
        &["collect", "main=main.fs", "--yes", "--json"],
        &["collect", "main=main.fs", "--dry-run", "--go-on"],
        &["collect", "main=dangling.fs", "users=users.fs", "--dry-run"],
        &["collect", "main=rootless.fs", "--dry-run"],
        &["collect", "main=bad.fs", "--go-on", "--dry-run"],
        &["collect", "main=bad.fs", "--go-on", "--dry-run", "--json"],
        &["collect", "main=main.fs", "main=users.fs", "--dry-run"],
        &["collect", "main=main.fs", "users=main.fs", "--dry-run"],
        &["collect", "main.fs", "--dry-run"],
        &["collect", "main=missing.fs", "--dry-run"],
        &["collect", "--dry-run"],
    ];
    assert_session!("cli-collect-refused", sandbox.session(commands));
    let fs = |files: std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        files.into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "fs")).collect::<Vec<_>>()
    };
    assert!(fs(sandbox.files()) == fs(before));
}

/// Objects that were changed lately are kept, for the time of an option.
#[test]
fn days() {
    let sandbox = Sandbox::new();
    site(&sandbox);
    // It is the 25th at noon.
    write(&sandbox, "users.fs", "2026-11-22T13:00:00Z", &[(9, "User", &[])]);
    for (days, garbage) in
        [("0", [4, 1]), ("1", [4, 1]), ("2", [4, 1]), ("3", [2, 0]), ("100", [0, 0]), ("4294967295", [0, 0])]
    {
        let run = sandbox.run(&[&SITE[..], &["--dry-run", "--json", "--days", days]].concat());
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        let found = [0, 1].map(|n| answer["databases"][n]["garbage_objects"].as_u64().unwrap());
        assert_eq!(found, garbage, "{days} days: {answer}");
    }
}

/// The command asks after the preview, and does nothing after a no.
#[test]
fn asking() {
    let sandbox = Sandbox::new();
    site(&sandbox);
    let before = ["main.fs", "users.fs"].map(|name| std::fs::read(sandbox.path(name)).unwrap());
    let same = || ["main.fs", "users.fs"].map(|name| std::fs::read(sandbox.path(name)).unwrap()) == before;
    let files = sandbox.files();
    for (how, code) in [
        (&["--dry-run"][..], 0),
        (&["--dry-run", "--json"], 0),
        (&[], 2),
        (&["--json"], 2),
        (&["--dry-run", "--yes"], 2),
    ] {
        let run = sandbox.run(&of(&SITE, how));
        assert_eq!(run.code, code, "{how:?}: {}", run.stderr);
        assert!(sandbox.files() == files, "to look leaves no trace: {how:?}");
    }
    // Nothing is done without a shown preview.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = sandbox.command(&of(&SITE, &["--yes"])).stdout(writer).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("nothing was changed") && same(), "{said}");
    for no in ["n\n", "\n", "\u{4}"] {
        let (code, seen) = sandbox.at_a_terminal(&SITE, no);
        assert!(code == 1 && seen.contains("Nothing was changed.") && same(), "{no:?}: {seen}");
        assert!(seen.find("app.Page").unwrap() < seen.find("Delete this garbage? [y/N] ").unwrap(), "{seen}");
    }
    // A site that uses one of them.
    let used = FileStorage::open(sandbox.path("users.fs")).unwrap();
    let run = sandbox.run(&of(&SITE, &["--yes"]));
    assert!(run.code == 2 && run.stderr.contains("users.fs: in use") && same(), "{}", run.stderr);
    assert_eq!(sandbox.run(&of(&SITE, &["--dry-run"])).code, 0);
    drop(used);
    let (code, seen) = sandbox.at_a_terminal(&SITE, "y\n");
    assert!(code == 0 && seen.contains("main.fs: 4 objects deleted, in 1 transaction"), "{seen}");
}

/// More than fits one transaction, and more classes and objects than are shown.
#[test]
fn very_much_garbage() {
    let sandbox = Sandbox::new();
    let classes: Vec<String> = (0..13).map(|n| format!("Class{n}")).collect();
    let object = |oid: u64| (oid, classes[oid as usize % 13].as_str(), &[][..]);
    let objects: Vec<Object<'_>> = std::iter::once((0, "Root", &[][..])).chain((1..=5500).map(object)).collect();
    write(&sandbox, "main.fs", "2026-11-01T12:00:00Z", &objects);
    let run = sandbox.run(&["collect", "main=main.fs", "--yes", "--objects", "3"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for said in [
        "and 3 more classes; `--json` names all",
        "and 5,497 more; `--objects 0` shows all",
        "main.fs: 5,500 objects deleted, in 6 transactions",
        "and 1 more; `vellum log main.fs -n 6` lists them",
    ] {
        assert!(run.stdout.contains(said), "{said}: {}", run.stdout);
    }
    let run = sandbox.run(&["log", "main.fs", "-n", "6"]);
    assert_eq!(run.stdout.matches("garbage collection of main").count(), 6, "{}", run.stdout);
    let storage = Options::new().read_only().open(sandbox.path("main.fs")).unwrap();
    assert_eq!(storage.current_records(Oid::ROOT).count(), 1);
}

/// The golden databases are whole sites: what can be reached in them is not garbage, also where there are versions.
#[test]
fn golden_databases_keep_what_can_be_reached() {
    let sandbox = Sandbox::new();
    for name in ["mail", "packed", "undo", "unpacked", "versions"] {
        sandbox.golden(name);
        let (file, exported) = (format!("{name}.fs"), format!("{name}.zexp"));
        let before = sandbox.run(&["export", &file, "0", &exported, "--go-on", "--json"]);
        let database = format!("main={file}");
        let run = sandbox.run(&["collect", &database, "--yes", "--json", "--days", "0", "--go-on"]);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        let number = |field: &str| answer["databases"][0][field].as_u64().unwrap();
        let export: Value = serde_json::from_str(&before.stdout).unwrap();
        // There is more left where a version keeps it.
        let left = number("objects") - number("garbage_objects");
        let reached = export["objects"].as_u64().unwrap();
        assert!(if name == "versions" { left >= reached } else { left == reached }, "{name}: {answer} {export}");
        let after = sandbox.run(&["export", &file, "0", &exported, "--go-on", "--json", "--force"]);
        assert_eq!(before.stdout, after.stdout, "{name}");
    }
}

/// Rule 4.12: no undo is promised where there is none.
#[test]
fn what_goes_from_a_history_free_database_cannot_be_taken_back() {
    let sandbox = Sandbox::new();
    site(&sandbox);
    let collect = |main: &str, users: &str| {
        sandbox.run(&["collect", &format!("main={main}"), &format!("users={users}"), "--yes"]).stdout
    };
    for name in ["main", "users"] {
        let (from, to) = (format!("{name}.fs"), format!("{name}.vellum"));
        assert_eq!(sandbox.run(&["copy", &from, &to, "--history-free"]).code, 0);
    }
    let said = collect("main.vellum", "users.vellum");
    assert!(said.contains("deleted, in") && !said.contains("vellum undo"), "{said}");
    let said = collect("main.fs", "users.fs");
    assert!(said.contains("deleted, in") && said.contains("vellum undo"), "{said}");
}
