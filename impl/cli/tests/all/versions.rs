//! `vellum versions`, and the two ways to end one.

use crate::common::{Sandbox, golden};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{Bytes, Error, Oid, Tid, TransactionMeta, Version};

/// The golden database as it was after each of its transactions, when there was something in a version.
fn states() -> Vec<(String, Vec<u8>)> {
    let sandbox = Sandbox::new();
    sandbox.golden("versions");
    let bytes = std::fs::read(golden("versions.fs")).unwrap();
    let dump = sandbox.run(&["dump", "--json", "versions.fs"]).stdout;
    let lines: Vec<Value> = dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends = lines[1..].iter().map(|line| line["position"].as_u64().unwrap() as usize).chain([bytes.len()]);
    let tids = lines.iter().map(|line| line["tid"].as_str().unwrap().to_owned());
    tids.zip(ends).map(|(tid, end)| (tid, bytes[..end].to_vec())).collect()
}

fn state(tid: &str) -> Vec<u8> {
    states().into_iter().find(|(at, _)| at == tid).unwrap().1
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    // Three objects in `draft`, one of them born there, and one in `other`.
    sandbox.file("work.fs", &state("0349b00070000000")).golden("undo");
    let commands: &[&[&str]] = &[
        &["versions", "work.fs"],
        &["versions", "work.fs", "--objects"],
        &["versions", "work.fs", "--json"],
        &["versions", "undo.fs"],
        &["versions", "undo.fs", "--json"],
        &["commit-version", "work.fs", "draft", "--dry-run"],
        &["commit-version", "work.fs", "draft"],
        &["commit-version", "work.fs", "draft", "--to", "review", "--yes", "--user", "ann"],
        &["log", "work.fs", "-n", "1"],
        &["commit-version", "work.fs", "review", "--yes", "--description", "it is good"],
        &["log", "work.fs", "-n", "1"],
        &["commit-version", "work.fs", "review", "--yes"],
        &["undo", "work.fs", "last", "--yes"],
        &["abort-version", "work.fs", "review", "--dry-run"],
        &["abort-version", "work.fs", "review", "--yes"],
        &["abort-version", "work.fs", "other", "--yes", "--json"],
        &["abort-version", "work.fs", "other", "--yes"],
        &["abort-version", "work.fs", "other", "--yes", "--json"],
        &["log", "work.fs", "-n", "2", "--objects", "0"],
        &["check", "work.fs"],
    ];
    assert_story!("cli-end-version", sandbox, commands);
}

#[test]
fn looking_leaves_no_trace() {
    let sandbox = Sandbox::new();
    sandbox.golden("versions");
    let before = sandbox.files();
    for command in ["commit-version", "abort-version"] {
        for (rest, code) in [
            (&["b", "--dry-run"][..], 0),
            (&["b", "--dry-run", "--json"], 0),
            (&["b"], 2),
            (&["b", "--json"], 2),
            (&["c", "--dry-run"], 1),
            (&["c", "--json"], 1),
        ] {
            let arguments = [&[command, "versions.fs"], rest].concat();
            let run = sandbox.run(&arguments);
            assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
            assert!(sandbox.files() == before, "{arguments:?}");
        }
    }
}

#[test]
fn asking() {
    let sandbox = Sandbox::new();
    sandbox.golden("versions");
    let before = std::fs::read(sandbox.path("versions.fs")).unwrap();
    for (command, question) in
        [("commit-version", "Commit version `b` to the trunk? "), ("abort-version", "Abort version `b`, and ")]
    {
        // The index of the one before knows of its commit.
        let _ = std::fs::remove_file(sandbox.path("versions.fs.index"));
        let (code, seen) = sandbox.at_a_terminal(&[command, "versions.fs", "b"], "n\n");
        assert!(code == 1 && seen.contains(question), "{seen}");
        assert_eq!(std::fs::read(sandbox.path("versions.fs")).unwrap(), before);
        let (code, seen) = sandbox.at_a_terminal(&[command, "versions.fs", "b"], "y\n");
        assert!(code == 0 && seen.contains("Done, in transaction"), "{seen}");
        sandbox.golden("versions");
    }
}

fn data(storage: &FileStorage, oid: Oid, version: &Version) -> Option<Bytes> {
    match storage.load(oid, version) {
        Ok(loaded) => Some(loaded.data),
        Err(Error::KeyError { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

/// Each end of each version at each moment of the golden history.
#[test]
fn what_is_shown_is_what_is_done() {
    let mut ends = 0;
    for (tid, bytes) in states() {
        let sandbox = Sandbox::new();
        sandbox.file("then.fs", &bytes);
        let versions = sandbox.run(&["versions", "then.fs", "--json"]).stdout;
        for line in versions.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let name = line["version"].as_str().unwrap();
            let version = Version::named(name.to_owned());
            for (arguments, to) in [
                (&["commit-version", "then.fs", name][..], Some(Version::TRUNK)),
                (&["commit-version", "then.fs", name, "--to", "other place"], Some(Version::named("other place"))),
                (&["abort-version", "then.fs", name], None),
            ] {
                sandbox.file("then.fs", &bytes);
                let _ = std::fs::remove_file(sandbox.path("then.fs.index"));
                let before = FileStorage::open_read_only(sandbox.path("then.fs")).unwrap();
                let run = sandbox.run(&[arguments, &["--yes", "--json"]].concat());
                assert_eq!(run.code, 0, "{tid} {arguments:?}: {}", run.stderr);
                let answer: Value = serde_json::from_str(&run.stdout).unwrap();
                let objects = answer["objects"].as_array().unwrap();
                assert_eq!(objects.len(), line["objects"].as_array().unwrap().len());
                let after = FileStorage::open_read_only(sandbox.path("then.fs")).unwrap();
                assert_eq!(after.objects_in(&version).unwrap(), []);
                for object in objects {
                    let oid: Oid = object["oid"].as_str().unwrap().parse().unwrap();
                    let length = |data: &Option<Bytes>| data.as_ref().map_or(0, Bytes::len);
                    let (worked, trunk) = (data(&before, oid, &version), data(&before, oid, &Version::TRUNK));
                    let becomes = data(&after, oid, &to.clone().unwrap_or_default());
                    assert_eq!(becomes, if to.is_some() { worked.clone() } else { trunk.clone() }, "{tid} {oid}");
                    assert_eq!(object["now"]["bytes"], length(&worked), "{tid} {oid}");
                    assert_eq!(object["becomes"]["bytes"], length(&becomes), "{tid} {oid}");
                    assert_eq!(object["becomes"]["nothing"], becomes.is_none(), "{tid} {oid}");
                    assert_eq!(object["becomes"]["version"], to.clone().unwrap_or_default().to_string());
                    if to == Some(Version::TRUNK) {
                        assert_eq!(object["replaces"]["bytes"], length(&trunk), "{tid} {oid}");
                    } else {
                        assert_eq!(object.get("replaces"), None);
                    }
                }
                ends += 1;
            }
        }
    }
    assert!(ends > 20, "{ends}");
}

/// A version's name is anybody's text.
#[test]
fn foreign_names_are_harmless() {
    let sandbox = Sandbox::new();
    let storage = FileStorage::create(sandbox.path("hostile.fs")).unwrap();
    let tid = Tid::at("2026-11-24T12:00:00Z".parse().unwrap());
    let mut change = storage.begin(TransactionMeta::new().tid(tid)).unwrap();
    let version = Version::named(&b"\x1b[2Jred\xff\n"[..]);
    let record = Bytes::from_static(b"c\x1b[31mmodule\nName\n.(X\x04\0\0\0\x1b[5ml.");
    change.store_in(&version, Oid::ROOT, Tid::ZERO, record).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
    drop(storage);
    for (arguments, code) in [
        (&["versions", "hostile.fs", "--objects"][..], 0),
        (&["versions", "hostile.fs", "--json"], 0),
        (&["commit-version", "hostile.fs", "no", "--dry-run"], 1),
        (&["commit-version", "hostile.fs", "\u{1b}[2J", "--dry-run"], 1),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        assert!(!run.stdout.contains(|c: char| c.is_control() && c != '\n'), "{arguments:?}: {:?}", run.stdout);
    }
    let line: Value = serde_json::from_str(&sandbox.run(&["versions", "hostile.fs", "--json"]).stdout).unwrap();
    assert_eq!(
        (&line["version"], &line["version_hex"]),
        (&"\u{1b}[2Jred\u{fffd}\n".into(), &"1b5b324a726564ff0a".into())
    );
    // It can be named all the same.
    let name = std::os::unix::ffi::OsStringExt::from_vec(version.name().to_vec());
    let name: std::ffi::OsString = name;
    let output = sandbox.command(&["abort-version", "hostile.fs", "--dry-run"]).arg(name).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!output.stdout.iter().any(|&byte| byte < b' ' && byte != b'\n'));
}
