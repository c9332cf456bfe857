//! `vellum export` and `vellum import`: objects from one database in another.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::common::{Sandbox, golden};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{AsOf, ExportOptions, Oid, Storage, Tid, TransactionMeta, Version, export};

const FIRST_MAIL: &str = "040d2ed75f56a699";

/// A database in which a folder refers to an object that is not there, and one with an unreadable record.
fn broken(sandbox: &Sandbox) {
    let storage = FileStorage::create(sandbox.path("broken.fs")).unwrap();
    let tid = Tid::at("2026-11-24T12:00:00Z".parse().unwrap());
    let mut change = storage.begin(TransactionMeta::new().user("ann").tid(tid)).unwrap();
    let folder = b"\x80\x03cmail\nFolder\nq\x01.\x80\x03}X\x05\0\0\0firstC\x08\0\0\0\0\0\0\0\x07Qs.";
    change.store(Oid::ROOT, Tid::ZERO, folder.to_vec().into()).unwrap();
    change.store(Oid(1), Tid::ZERO, "no pickle".into()).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("packed").golden("undo");
    broken(&sandbox);
    let commands: &[&[&str]] = &[
        &["export", "mail.fs", "20", "message.zexp"],
        &["export", "mail.fs", "20", "message.zexp"],
        &["export", "mail.fs", "20", "message.zexp", "--at", "040d2ed75f5c1955", "--force"],
        &["export", "mail.fs", "0", "all.zexp", "--json"],
        &["export", "mail.fs", "0", "then.zexp", "--at", FIRST_MAIL, "--json"],
        &["export", "mail.fs", "4", "then.zexp", "--at", "2020-01-01", "--force"],
        &["export", "mail.fs", "ffff", "none.zexp"],
        &["export", "undo.fs", "19", "none.zexp", "--at", "040d2ed760501c11"],
        &["export", "broken.fs", "0", "broken.zexp"],
        &["export", "broken.fs", "0", "broken.zexp", "--json"],
        &["export", "broken.fs", "1", "broken.zexp"],
        &["export", "broken.fs", "0", "broken.zexp", "--go-on"],
        &["export", "broken.fs", "0", "again.zexp", "--go-on", "--json"],
    ];
    assert_story!("cli-export", sandbox, commands);
    let commands: &[&[&str]] = &[
        &["import", "packed.fs", "all.zexp", "--dry-run", "--objects", "2"],
        &["import", "packed.fs", "message.zexp"],
        &["import", "packed.fs", "message.zexp", "--yes", "--user", "ann"],
        &["log", "packed.fs", "-n", "1"],
        &["import", "packed.fs", "message.zexp", "--yes", "--json", "--description", "the first message"],
        &["import", "packed.fs", "message.zexp", "--dry-run", "--json"],
        &["undo", "packed.fs", "last", "--yes"],
        &["import", "packed.fs", "broken.zexp", "--yes"],
        &["import", "packed.fs", "broken.zexp", "--yes", "--json"],
        &["import", "packed.fs", "broken.zexp", "--yes", "--go-on"],
        &["check", "packed.fs"],
    ];
    assert_story!("cli-import", sandbox, commands);
}

/// The command writes what the library does, now and then, to a file and to standard output.
#[test]
fn an_export_is_the_library_s() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let storage = std::sync::Arc::new(FileStorage::open_read_only(sandbox.path("mail.fs")).unwrap());
    let then = AsOf::new(storage.clone(), FIRST_MAIL.parse().unwrap()).unwrap();
    for (storage, at) in [(&*storage as &dyn Storage, None), (&then, Some(FIRST_MAIL))] {
        let mut expected = Vec::new();
        export(storage, Oid::ROOT, &mut expected, ExportOptions::default()).unwrap();
        let at: Vec<_> = at.map(|at| ["--at", at]).into_iter().flatten().collect();
        let run = sandbox.run(&[&["export", "mail.fs", "0", "out.zexp", "--force"], &at[..]].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(std::fs::read(sandbox.path("out.zexp")).unwrap(), expected);
        let output = sandbox.command(&[&["export", "mail.fs", "0", "-"], &at[..]].concat()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(0), expected));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("exported") && said.contains("PersistentMapping"), "{said}");
    }
    assert_eq!(std::fs::read(sandbox.path("mail.fs")).unwrap(), std::fs::read(golden("mail.fs")).unwrap());
}

/// A second export, from the target, is the same except for the oids.
#[test]
fn there_and_back() {
    let sandbox = Sandbox::new();
    for (n, oid) in ["0", "1", "20"].into_iter().enumerate() {
        sandbox.golden("mail").golden("packed");
        let (one, two) = (format!("one-{n}.zexp"), format!("two-{n}.zexp"));
        let exported: Value = answer(&sandbox, &["export", "mail.fs", oid, &one, "--json"]);
        let imported: Value = answer(&sandbox, &["import", "packed.fs", &one, "--yes", "--json"]);
        let root = imported["root"].as_str().unwrap();
        let again: Value = answer(&sandbox, &["export", "packed.fs", root, &two, "--json"]);
        for field in ["class", "objects", "bytes"] {
            assert_eq!(exported[field], again[field], "{oid}");
        }
        assert_eq!(imported["objects"].as_array().unwrap().len() as u64, exported["objects"].as_u64().unwrap());
        let [one, two] = [one, two].map(|name| records(&std::fs::read(sandbox.path(&name)).unwrap()));
        // Oids are in the order of the walk in both: the n-th is the n-th, in every reference.
        let names = |records: &[(u64, Vec<u8>)]| records.iter().map(|(oid, _)| *oid).collect::<Vec<_>>();
        let (old, new) = (names(&one), names(&two));
        for ((_, one), (_, two)) in one.iter().zip(&two) {
            let place = |oid: u64| old.iter().position(|&old| old == oid).and_then(|at| new.get(at)).copied();
            assert_eq!(vellum_pickle::rewrite_references(one, |r| to(r).and_then(place)).unwrap(), *two, "{oid}");
        }
        let problems = |file: &str| sandbox.run(&["check", file]).stdout.matches("refers to object").count();
        let more = problems("packed.fs");
        sandbox.golden("packed");
        // It has the imported objects.
        std::fs::remove_file(sandbox.path("packed.fs.index")).unwrap();
        assert_eq!(more, problems("packed.fs"));
    }
}

fn to(reference: &vellum_pickle::Reference<'_>) -> Option<u64> {
    match reference {
        vellum_pickle::Reference::Strong { oid, .. } | vellum_pickle::Reference::Weak { oid, database: None } => {
            Some(*oid)
        }
        _ => None,
    }
}

/// The oids and records of an export.
fn records(export: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let (mut rest, mut all) = (export.strip_prefix(b"ZEXP").unwrap(), Vec::new());
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    while rest != [0xff; 16] {
        let (oid, length) = (number(&rest[..8]), number(&rest[8..16]) as usize);
        all.push((oid, rest[16..16 + length].to_vec()));
        rest = &rest[16 + length..];
    }
    all
}

fn answer(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let run = sandbox.run(arguments);
    assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

/// `vellum export ... - | vellum import ... -`
#[test]
fn through_a_pipe() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("packed");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut from =
        sandbox.command(&["export", "mail.fs", "1", "-"]).stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    let output = sandbox.command(&["import", "packed.fs", "-", "--yes", "--json"]).stdin(reader).output().unwrap();
    assert_eq!((from.wait().unwrap().code(), output.status.code()), (Some(0), Some(0)));
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(imported["objects"].as_array().unwrap().len(), 236);
    let log = sandbox.run(&["log", "packed.fs", "-n", "1"]).stdout;
    assert!(log.contains("  description   import\n"), "{log}");
}

/// OUT is there whole or not at all, and nothing is written over that was not asked for.
#[test]
fn what_is_there_stays() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").file("old.zexp", b"old");
    broken(&sandbox);
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    symlink("mail.fs", sandbox.path("link")).unwrap();
    symlink("old.zexp", sandbox.path("other-link")).unwrap();
    let before = sandbox.files();
    for (arguments, code, said) in [
        (&["export", "mail.fs", "4", "old.zexp"][..], 2, "add --force"),
        (&["export", "mail.fs", "4", "other-link"], 2, "add --force"),
        (&["export", "mail.fs", "4", "mail.fs", "--force"], 2, "the database itself"),
        (&["export", "mail.fs", "4", "link", "--force"], 2, "the database itself"),
        (&["export", "mail.fs", "4", "folder", "--force"], 2, "no file"),
        (&["export", "mail.fs", "4", "/dev/null", "--force"], 2, "no file"),
        (&["export", "mail.fs", "4", "missing/out.zexp"], 2, "missing/out.zexp"),
        (&["export", "mail.fs", "ffff", "new.zexp"], 2, "no object 000000000000ffff"),
        (&["export", "mail.fs", "4", "-", "--json"], 2, "standard output"),
        (&["export", "broken.fs", "0", "old.zexp", "--force"], 1, "0000000000000000 refers to 0000000000000007"),
        (&["export", "broken.fs", "0", "new.zexp"], 1, "0000000000000000 refers to 0000000000000007"),
        (&["export", "broken.fs", "1", "new.zexp"], 1, "the record of object 0000000000000001"),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        let heard = if code == 1 { &run.stdout } else { &run.stderr };
        assert!(heard.contains(said), "{arguments:?}: {}{}", run.stdout, run.stderr);
        assert!(sandbox.files() == before, "{arguments:?}");
    }
    // A link stays one, and what it leads to is replaced.
    assert_eq!(sandbox.run(&["export", "mail.fs", "4", "other-link", "--force"]).code, 0);
    assert!(sandbox.path("other-link").is_symlink());
    assert!(std::fs::read(sandbox.path("old.zexp")).unwrap().starts_with(b"ZEXP"));
    // Of what goes to standard output the end is missing.
    let output = sandbox.command(&["export", "broken.fs", "0", "-"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.ends_with(&[0xff; 16]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("0000000000000000 refers to 0000000000000007") && said.contains("no end"), "{said}");
}

/// A full disk, or whatever else keeps it from being written, is said.
#[test]
fn an_export_that_can_not_be_written() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = sandbox.command(&["export", "mail.fs", "0", "-"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" export mail.fs 0 out.zexp";
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_vellum")]).current_dir(sandbox.path("")).stdin(Stdio::null());
    let before = sandbox.files();
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("out.zexp: "), "{said}");
    assert!(said.contains("Nothing was exported"), "{said}");
    assert!(sandbox.files() == before);
}

/// A file that is no export, or an incomplete one, is not imported.
#[test]
fn what_can_not_be_imported() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("packed").file("text", b"just some text\n").file("empty", b"");
    assert_eq!(sandbox.run(&["export", "mail.fs", "1", "whole.zexp"]).code, 0);
    let whole = std::fs::read(sandbox.path("whole.zexp")).unwrap();
    sandbox.file("cut.zexp", &whole[..whole.len() - 20]);
    sandbox.file("blob.zexp", &[&whole[..whole.len() - 16], b"\0BLOBSTART12345678"].concat());
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    let before = std::fs::read(sandbox.path("packed.fs")).unwrap();
    for (from, said) in [
        ("missing.zexp", "missing.zexp: "),
        ("folder", "folder: this is a directory"),
        ("text", "text: this is no export"),
        ("empty", "empty: this is no export"),
        ("mail.fs", "mail.fs: this is no export"),
        ("cut.zexp", "cut.zexp: the export is cut off"),
        ("blob.zexp", "a blob"),
        ("-", "this is no export"),
    ] {
        for how in ["--yes", "--dry-run"] {
            let run = sandbox.run(&["import", "packed.fs", from, how]);
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{from}: {}", run.stderr);
            assert!(run.stderr.contains(said) && run.stderr.lines().count() == 1, "{from}: {}", run.stderr);
            assert_eq!(std::fs::read(sandbox.path("packed.fs")).unwrap(), before, "{from}");
        }
    }
    for name in ["missing.fs", "text", "folder"] {
        let run = sandbox.run(&["import", name, "whole.zexp", "--yes"]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{name}: {}", run.stderr);
    }
    let site = FileStorage::open(sandbox.path("packed.fs")).unwrap();
    let run = sandbox.run(&["import", "packed.fs", "whole.zexp", "--yes"]);
    assert!(run.code == 2 && run.stderr.contains("packed.fs: in use"), "{}", run.stderr);
    assert_eq!(sandbox.run(&["import", "packed.fs", "whole.zexp", "--dry-run"]).code, 0);
    drop(site);
}

/// A preview leaves no trace; and the question comes after the preview.
#[test]
fn asking() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("packed");
    assert_eq!(sandbox.run(&["export", "mail.fs", "1", "in.zexp"]).code, 0);
    let before = sandbox.files();
    for (how, code) in [
        (&["--dry-run"][..], 0),
        (&["--dry-run", "--json"], 0),
        (&[], 2),
        (&["--json"], 2),
        (&["--dry-run", "--yes"], 2),
    ] {
        let arguments = [&["import", "packed.fs", "in.zexp"], how].concat();
        let run = sandbox.run(&arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        assert!(sandbox.files() == before, "{arguments:?}");
    }
    let bytes = std::fs::read(sandbox.path("packed.fs")).unwrap();
    // Nothing is done without a shown preview.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = sandbox.command(&["import", "packed.fs", "in.zexp", "--yes"]).stdout(writer).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("nothing was changed"), "{said}");
    assert_eq!(std::fs::read(sandbox.path("packed.fs")).unwrap(), bytes);
    let (code, seen) = sandbox.at_a_terminal(&["import", "packed.fs", "in.zexp"], "n\n");
    assert!(code == 1 && seen.contains("Import this? [y/N] ") && seen.contains("Nothing was changed."), "{seen}");
    assert!(seen.find("gets the oid").unwrap() < seen.find("[y/N]").unwrap(), "{seen}");
    assert_eq!(std::fs::read(sandbox.path("packed.fs")).unwrap(), bytes);
    let (code, seen) = sandbox.at_a_terminal(&["import", "packed.fs", "in.zexp"], "y\n");
    assert!(code == 0 && seen.contains("Done, in transaction"), "{seen}");
    let storage = FileStorage::open_read_only(sandbox.path("packed.fs")).unwrap();
    let oid: Oid = seen.split_once("gets the oid ").unwrap().1[..16].parse().unwrap();
    assert_eq!(storage.load(oid, &Version::TRUNK).unwrap().data.len(), 720);
}
