//! `vellum undo`: what it shows is what it does, and what it refuses changes nothing.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use crate::common::{Sandbox, golden};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{Bytes, Error, Oid, Order, Tid, TidRange, TransactionMeta, Version};

const DELETION: &str = "040d2ed760501c11";
const TWO_AT_ONCE: &str = "040d2ed7604f58cc";
const FIFTH: &str = "040d2ed7604e9a11";

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo");
    let commands: &[&[&str]] = &[
        &["undo", "undo.fs", DELETION, "--dry-run"],
        &["undo", "undo.fs", DELETION],
        &["undo", "undo.fs", DELETION, "--yes", "--user", "ann"],
        &["log", "undo.fs", "-n", "1"],
        &["undo", "undo.fs", DELETION, "--yes"],
        &["undo", "undo.fs", "last", "--yes", "--description", "better not"],
        &["log", "undo.fs", "-n", "1"],
        // It is nothing by sharing what the deletion made of it.
        &["undo", "undo.fs", DELETION, "--dry-run"],
        &["undo", "undo.fs", "040d2ed760458b22", "--dry-run"],
        &["undo", "undo.fs", FIFTH, TWO_AT_ONCE, "--yes", "--json"],
        &["log", "undo.fs", "-n", "1", "--json"],
        &["check", "undo.fs"],
    ];
    assert_story!("cli-undo", sandbox, commands);
}

/// An undo that would take back more than that, one that was done already, and one behind a pack.
#[test]
fn refusals() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo").golden("packed").golden("versions");
    let commands: &[&[&str]] = &[
        &["undo", "undo.fs", FIFTH, "--yes"],
        &["undo", "undo.fs", FIFTH, "--yes", "--json"],
        &["undo", "undo.fs", "040d2ed76047e7dd", "040d2ed760490533", "--yes"],
        &["undo", "undo.fs", "040d2ed76036de99", "--objects", "2", "--dry-run"],
        &["undo", "packed.fs", "040d2ed76082aeaa", "--yes"],
        &["undo", "packed.fs", "040d2ed76082aeaa", "last", "--yes", "--json"],
        &["undo", "versions.fs", "0349b00020000000", "--yes"],
    ];
    assert_story!("cli-undo-refused", sandbox, commands);
    for name in ["undo.fs", "packed.fs", "versions.fs"] {
        assert_eq!(std::fs::read(sandbox.path(name)).unwrap(), std::fs::read(golden(name)).unwrap(), "{name}");
    }
}

/// An undone transaction is not undone again, and the command says so.
#[test]
fn what_was_undone_already() {
    let sandbox = Sandbox::new();
    let storage = FileStorage::create(sandbox.path("made.fs")).unwrap();
    let mut serial = Tid::ZERO;
    for (n, text) in ["one", "two"].into_iter().enumerate() {
        let tid = Tid::at(format!("2026-11-24T12:00:0{n}Z").parse().unwrap());
        let mut change = storage.begin(TransactionMeta::new().user("ann").description(text).tid(tid)).unwrap();
        let record = format!("capp\nCounter\n.(X\x03\0\0\0{text}l.");
        change.store(Oid::ROOT, serial, record.into()).unwrap();
        serial = storage.vote(change).unwrap().finish().unwrap();
    }
    drop(storage);
    let second = serial.to_string();
    let commands: &[&[&str]] = &[
        &["undo", "made.fs", "2026-11-24 12:00:01 UTC", "--yes"],
        &["undo", "made.fs", &second, "--yes"],
        &["undo", "made.fs", &second, "last", "--yes"],
        &["undo", "made.fs", "2026-11-24T12:00:00Z", "--yes"],
        &["show", "made.fs", "0", "--history"],
    ];
    assert_story!("cli-undo-already", sandbox, commands);
}

/// The command asks, and does nothing after a no.
#[test]
fn asking() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo");
    let before = std::fs::read(sandbox.path("undo.fs")).unwrap();
    // Ctrl-D is the end of the input.
    for no in ["n\n", "\n", "yess\n", "\u{4}"] {
        let (code, seen) = sandbox.at_a_terminal(&["undo", "undo.fs", "last"], no);
        assert_eq!(code, 1, "{no:?}: {seen}");
        assert!(seen.contains("Undo this? [y/N] ") && seen.contains("Nothing was changed."), "{no:?}: {seen}");
        assert!(seen.find("becomes").unwrap() < seen.find("[y/N]").unwrap(), "asked before it was shown: {seen}");
        assert_eq!(std::fs::read(sandbox.path("undo.fs")).unwrap(), before, "{no:?}");
    }
    let (code, seen) = sandbox.at_a_terminal(&["undo", "undo.fs", "last", "--dry-run"], "y\n");
    assert!(code == 0 && !seen.contains("[y/N]"), "{seen}");
    let (code, seen) = sandbox.at_a_terminal(&["undo", "undo.fs", "last", "--json"], "y\n");
    assert!(code == 2 && !seen.contains("[y/N]") && seen.contains("--yes"), "{seen}");
    assert_eq!(std::fs::read(sandbox.path("undo.fs")).unwrap(), before);
    for yes in ["y\n", "YES\n"] {
        let (code, seen) = sandbox.at_a_terminal(&["undo", "undo.fs", "last"], yes);
        assert!(code == 0 && seen.contains("Done, in transaction"), "{yes:?}: {seen}");
    }
    let log = sandbox.run(&["log", "undo.fs", "--all", "--json"]).stdout;
    let original = sandbox.golden("undo").run(&["log", "undo.fs", "--all", "--json"]).stdout;
    assert_eq!(log.lines().count(), original.lines().count() + 2);
}

/// To look leaves no trace: no lock, no index, and nothing cut off.
#[test]
fn looking_leaves_no_trace() {
    let sandbox = Sandbox::new();
    let mut unfinished = std::fs::read(golden("undo.fs")).unwrap();
    unfinished.extend(b"\x04\x0d\x2e\xd8 tid\0\0");
    sandbox.golden("undo").file("unfinished.fs", &unfinished);
    let before = sandbox.files();
    for name in ["undo.fs", "unfinished.fs"] {
        for (arguments, code) in [
            (&["undo", name, "last", "--dry-run"][..], 0),
            (&["undo", name, "last", "--dry-run", "--json"], 0),
            (&["undo", name, "last"], 2),
            (&["undo", name, "last", "--json"], 2),
            (&["undo", name, FIFTH, "--dry-run"], 1),
            (&["undo", name, FIFTH], 1),
        ] {
            let run = sandbox.run(arguments);
            assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
            assert!(!run.stdout.is_empty(), "{arguments:?}");
            assert_eq!(run.stderr.contains("add --yes"), code == 2, "{arguments:?}: {}", run.stderr);
            assert!(sandbox.files() == before, "{arguments:?}");
        }
    }
    let run = sandbox.run(&["undo", "unfinished.fs", "last", "--yes"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("10 bytes were a commit that was never finished") && run.stderr.contains(".tr0"),
        "{}",
        run.stderr
    );
}

/// Nothing is done without a shown preview, and the command fails.
#[test]
fn a_reader_that_goes_away_is_told_nothing_was_done() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo").golden("versions");
    for (arguments, code) in [
        (&["undo", "undo.fs", "last", "--yes"][..], 2),
        (&["commit-version", "versions.fs", "b", "--yes"], 2),
        (&["abort-version", "versions.fs", "b", "--yes"], 2),
        (&["undo", "undo.fs", "last", "--dry-run"], 0),
        // The answer comes when it is done.
        (&["undo", "undo.fs", "last", "--yes", "--json"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = sandbox.command(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("nothing was changed, since the reader"), code == 2, "{arguments:?}: {said}");
        let log = sandbox.run(&["log", arguments[1], "-n", "1", "--json"]).stdout;
        assert_eq!(log.contains("\"description\":\"undo of"), arguments.contains(&"--json"), "{arguments:?}: {log}");
    }
}

/// A preview on a read-only file can be voted on, and not finished.
#[test]
fn a_rehearsal_is_not_finished() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo");
    let before = sandbox.files();
    let storage = FileStorage::open_read_only(sandbox.path("undo.fs")).unwrap();
    let mut change = storage.rehearse(TransactionMeta::new()).unwrap();
    change.undo(DELETION.parse().unwrap()).unwrap();
    let voted = storage.vote(change).unwrap();
    assert_eq!(voted.touched(), [Oid(0x19)]);
    assert!(matches!(voted.finish(), Err(Error::ReadOnly { .. })));
    drop(storage);
    assert!(sandbox.files() == before);
}

/// Beside a running site one can look, and nothing else.
#[test]
fn a_database_in_use() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo").golden("versions");
    let in_use = ["undo.fs", "versions.fs"].map(|name| FileStorage::open(sandbox.path(name)).unwrap());
    for (arguments, code) in [
        (&["undo", "undo.fs", "last", "--dry-run"][..], 0),
        (&["commit-version", "versions.fs", "b", "--dry-run"], 0),
        (&["abort-version", "versions.fs", "b", "--dry-run"], 0),
        (&["undo", "undo.fs", "last", "--yes"], 2),
        (&["commit-version", "versions.fs", "b", "--yes"], 2),
        (&["abort-version", "versions.fs", "b", "--yes"], 2),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stderr.contains("in use: "), code == 2, "{arguments:?}: {}", run.stderr);
    }
    drop(in_use);
    assert_eq!(sandbox.run(&["undo", "undo.fs", "last", "--yes"]).code, 0);
}

/// An unwritable file can be read.
#[test]
fn a_file_that_can_not_be_written() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo");
    let path = sandbox.path("undo.fs");
    let before = std::fs::read(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    // To the superuser permissions mean nothing: a folder in the place of the lock keeps every user from opening the
    // file.
    std::fs::create_dir(sandbox.path("undo.fs.lock")).unwrap();
    let run = sandbox.run(&["undo", "undo.fs", "last", "--yes"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert!(run.stderr.contains("undo.fs"), "{}", run.stderr);
    assert_eq!(sandbox.run(&["undo", "undo.fs", "last", "--dry-run"]).code, 0);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// Every revision in the database: which data, in which version.
fn revisions(storage: &FileStorage) -> HashMap<(String, String), Option<Bytes>> {
    let mut all = HashMap::new();
    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap() {
        let transaction = transaction.unwrap();
        for revision in transaction.revisions {
            all.insert((revision.oid.to_string(), transaction.tid.to_string()), revision.data);
        }
    }
    all
}

/// Runs an undo on a copy, and holds what it says against what it does. Gives its exit code.
fn undo_and_look(name: &str, bytes: &[u8], tids: &[&str]) -> i32 {
    let sandbox = Sandbox::new();
    sandbox.file(name, bytes);
    let with = |option: &'static str| [&["undo", name, "--json", option][..], tids].concat();
    let look = sandbox.run(&with("--dry-run"));
    assert_eq!(std::fs::read(sandbox.path(name)).unwrap(), bytes);
    let run = sandbox.run(&with("--yes"));
    assert_eq!(look.code, run.code, "{tids:?}: {}", look.stderr);
    let [foreseen, answer] = [&look, &run].map(|run| serde_json::from_str::<Value>(&run.stdout).unwrap());
    for field in ["undo", "objects", "refused"] {
        assert_eq!(foreseen[field], answer[field], "{tids:?}");
    }
    if run.code == 1 {
        assert_eq!(std::fs::read(sandbox.path(name)).unwrap(), bytes, "{tids:?}");
        let refused = &answer["refused"];
        assert!(tids.contains(&refused["tid"].as_str().unwrap()));
        assert!(!refused["objects"].as_array().unwrap().is_empty());
        if let Some(together) = refused["together"].as_array() {
            let together: Vec<_> = together.iter().map(|tid| tid.as_str().unwrap()).collect();
            assert!(tids.iter().all(|tid| together.contains(tid)) && together.len() > tids.len());
            let all = [&["undo", name, "--dry-run"], &together[..]].concat();
            assert_eq!(sandbox.run(&all).code, 0, "{tids:?}: {together:?}");
        }
        return 1;
    }
    assert_eq!(run.code, 0, "{tids:?}: {}", run.stderr);
    assert_eq!((&answer["refused"], &answer["done"]), (&Value::Null, &Value::Bool(true)));
    let storage = FileStorage::open_read_only(sandbox.path(name)).unwrap();
    let revisions = revisions(&storage);
    assert_eq!(storage.last_transaction().to_string(), answer["tid"].as_str().unwrap());
    let written = storage.last_invalidations(1).unwrap().remove(0).oids;
    let objects = answer["objects"].as_array().unwrap();
    assert_eq!(written.iter().collect::<std::collections::BTreeSet<_>>().len(), objects.len());
    for object in objects {
        let oid: Oid = object["oid"].as_str().unwrap().parse().unwrap();
        let becomes = &object["becomes"];
        let newest = storage.newest_record(oid).unwrap().unwrap();
        assert_eq!(newest.header.tid, storage.last_transaction());
        assert_eq!(newest.version(), Version::named(becomes["version"].as_str().unwrap().to_owned()), "{tids:?} {oid}");
        let data = match storage.load(oid, &newest.version()) {
            Ok(loaded) => Some(loaded.data),
            Err(Error::KeyError { .. }) => None,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(becomes["nothing"], data.is_none(), "{tids:?} {oid}");
        assert_eq!(becomes["bytes"], data.as_ref().map_or(0, Bytes::len), "{tids:?} {oid}");
        match becomes["tid"].as_str() {
            Some(tid) => assert_eq!(data, revisions[&(oid.to_string(), tid.to_owned())], "{tids:?} {oid}"),
            // A merged record is no earlier revision.
            None => assert_eq!(becomes["merged"], data.is_some(), "{tids:?} {oid}"),
        }
    }
    0
}

/// Each transaction that can be undone, and each two of them, in databases of the real ZODB.
#[test]
fn what_is_shown_is_what_is_done() {
    for (name, pairs) in [("undo.fs", true), ("versions.fs", true), ("unpacked.fs", false), ("packed.fs", false)] {
        let bytes = std::fs::read(golden(name)).unwrap();
        let sandbox = Sandbox::new();
        let log = sandbox.file(name, &bytes).run(&["log", name, "--undoable", "--all", "--json"]).stdout;
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let tids: Vec<_> = lines.map(|line| line["tid"].as_str().unwrap().to_owned()).collect();
        let mut ended = [0; 2];
        for (n, tid) in tids.iter().enumerate() {
            ended[undo_and_look(name, &bytes, &[tid]) as usize] += 1;
            for other in tids[..n].iter().filter(|_| pairs) {
                ended[undo_and_look(name, &bytes, &[tid, other]) as usize] += 1;
            }
        }
        assert!(ended[0] > 0 && (ended[1] > 0 || name == "packed.fs"), "{name}: {ended:?}");
    }
}
