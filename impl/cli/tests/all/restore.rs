//! `vellum restore`: lost objects come back from a backup, under the oids that they had.

use std::collections::BTreeMap;

use crate::common::site::{Delete, Site, Store, record};
use crate::common::{Sandbox, golden};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{Bytes, Oid, Tid, TransactionMeta, Version};

/// A shop, a backup of it, and the objects lost since: a shelf with a product on it. An older backup lacks the product.
fn shop(sandbox: &Sandbox) {
    let mut site = Site::new(sandbox, "shop.fs");
    let backup = |name: &str| assert_ne!(std::fs::copy(sandbox.path("shop.fs"), sandbox.path(name)).unwrap(), 0);
    site.commit(
        "ann",
        "open the shop",
        vec![
            Store(0, record("Root", &[1], &[], 0)),
            Store(1, record("Shop", &[2, 3], &[], 20)),
            Store(2, record("Product", &[], &[], 300)),
            Store(3, record("Shelf", &[2], &[], 30)),
        ],
    );
    backup("older.fs");
    site.commit(
        "bob",
        "a product on the shelf",
        vec![Store(3, record("Shelf", &[2, 4], &[], 30)), Store(4, record("Product", &[], &[9], 500))],
    );
    backup("backup.fs");
    site.commit("eve", "throw the shelf away", vec![Delete(3), Delete(4)]);
    let mut other = Site::new(sandbox, "other.fs");
    other.commit(
        "ann",
        "something else",
        vec![
            Store(0, record("Root", &[3], &[], 0)),
            Store(2, record("Customer", &[], &[], 10)),
            Store(3, record("Shelf", &[2], &[], 10)),
        ],
    );
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let commands: &[&[&str]] = &[
        &["restore", "shop.fs", "--from", "backup.fs", "--lost", "--dry-run"],
        &["restore", "shop.fs", "--from", "backup.fs", "--lost"],
        &["restore", "shop.fs", "--from", "backup.fs"],
        &["restore", "shop.fs", "--from", "backup.fs", "2", "3", "--yes"],
        &["restore", "shop.fs", "--from", "backup.fs", "3", "77", "--yes"],
        &["restore", "shop.fs", "--from", "backup.fs", "77", "--yes", "--go-on"],
        &["restore", "shop.fs", "--from", "nobody.fs", "3", "--yes"],
        &["restore", "shop.fs", "--from", "other.fs", "3", "--dry-run"],
        &["restore", "shop.fs", "--from", "older.fs", "3", "--dry-run"],
        &["restore", "shop.fs", "--from", "shop.fs", "--lost", "--at", "040d3a3d00000000", "--dry-run"],
        &["restore", "shop.fs", "--from", "backup.fs", "--lost", "--yes", "--user", "ann"],
        &["check", "shop.fs", "--references"],
        &["log", "shop.fs", "-n", "1"],
        &["restore", "shop.fs", "--from", "backup.fs", "--lost", "--yes"],
        &["undo", "shop.fs", "last", "--yes"],
        &["restore", "shop.fs", "--from", "backup.fs", "--lost", "--yes", "--json"],
    ];
    assert_story!("cli-restore", sandbox, commands);
}

/// The record that the trunk shows of each object.
fn objects(storage: &FileStorage) -> BTreeMap<Oid, Bytes> {
    let load = |oid| storage.load(oid, &Version::TRUNK).ok().map(|loaded| (oid, loaded.data));
    storage.current_records(Oid(0)).filter_map(|record| load(record.unwrap().oid)).collect()
}

/// However objects were lost, and whichever: all that is needed is as it was, nothing else changes, and it can be
/// undone.
#[test]
fn whatever_is_lost_comes_back_as_it_was() {
    for name in ["mail", "undo", "unpacked"] {
        for every in [2, 3, 7] {
            let sandbox = Sandbox::new();
            sandbox.golden(name);
            let (file, path) = (format!("{name}.fs"), sandbox.path(&format!("{name}.fs")));
            std::fs::copy(golden(&file), sandbox.path("backup.fs")).unwrap();
            let storage = FileStorage::open(&path).unwrap();
            let before = objects(&storage);
            let mut draft = storage.begin(TransactionMeta::new()).unwrap();
            let lost: Vec<_> = before.keys().filter(|oid| oid.0 % every == 1).copied().collect();
            for &oid in &lost {
                draft.delete(oid, storage.load(oid, &Version::TRUNK).unwrap().tid).unwrap();
            }
            storage.commit(draft).unwrap();
            let after = objects(&storage);
            assert!(!lost.is_empty() && after.len() == before.len() - lost.len());
            drop(storage);
            let run = sandbox.run(&["restore", &file, "--from", "backup.fs", "--lost", "--yes", "--json", "--go-on"]);
            assert_eq!(run.code, 0, "{name}: {} {}", run.stdout, run.stderr);
            let answer: Value = serde_json::from_str(&run.stdout).unwrap();
            let restored = answer["objects"].as_array().unwrap().len();
            assert!(restored > 0 && restored <= lost.len());
            // Only what the backup itself has not is lost.
            let check = sandbox.run(&["check", &file, "--references", "--json"]);
            let lines = check.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let lost: Vec<_> =
                lines.filter(|line| line["kind"] == "lost_object").map(|line| line["oid"].clone()).collect();
            let missing: Vec<_> = answer["missing"].as_array().unwrap().iter().map(|m| m["oid"].clone()).collect();
            assert_eq!((&lost, lost.len()), (&missing, usize::from(name == "undo")), "{name}");
            let now = objects(&FileStorage::open_read_only(&path).unwrap());
            assert_eq!(now.len(), after.len() + restored);
            now.iter().for_each(|(oid, data)| assert!(before[oid] == *data, "{name}: {oid} is not as it was"));
            let undone = sandbox.run(&["undo", &file, "last", "--yes"]);
            assert_eq!(undone.code, 0, "{} {}", undone.stdout, undone.stderr);
            assert!(objects(&FileStorage::open_read_only(&path).unwrap()) == after);
        }
    }
}

/// A copy of only the last days lacks the earlier objects.
#[test]
fn what_is_not_in_the_file_at_all_comes_back_too() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let whole = objects(&FileStorage::open_read_only(sandbox.path("mail.fs")).unwrap());
    assert_eq!(sandbox.run(&["copy", "mail.fs", "part.fs", "--since", "040d2ed75fd29fbb"]).code, 0);
    let before = objects(&FileStorage::open_read_only(sandbox.path("part.fs")).unwrap());
    let run = sandbox.run(&["restore", "part.fs", "--from", "mail.fs", "--lost", "--yes", "--json"]);
    assert_eq!(run.code, 0, "{} {}", run.stdout, run.stderr);
    let storage = FileStorage::open(sandbox.path("part.fs")).unwrap();
    let now = objects(&storage);
    assert!(now.len() > before.len(), "{} {}", before.len(), now.len());
    now.iter().for_each(|(oid, data)| assert!(whole[oid] == *data, "{oid}"));
    // No oid that came back is given to a new object.
    assert!(!now.contains_key(&storage.new_oid().unwrap()));
}

/// An object that is there is never touched, and a rehearsal leaves nothing behind.
#[test]
fn nothing_that_is_there_changes() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let files = sandbox.files();
    for arguments in [
        &["restore", "shop.fs", "--from", "older.fs", "2", "--yes"][..],
        &["restore", "shop.fs", "--from", "backup.fs", "3", "2", "--yes", "--go-on"],
        &["restore", "shop.fs", "--from", "backup.fs", "3", "77", "--yes"],
        &["restore", "shop.fs", "--from", "backup.fs", "--lost", "--dry-run"],
        &["restore", "shop.fs", "--from", "backup.fs", "--lost"],
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code == 0, arguments.contains(&"--dry-run"), "{arguments:?}: {}{}", run.stdout, run.stderr);
        let data = |files: &BTreeMap<_, Vec<u8>>| files[&sandbox.path("shop.fs")].clone();
        assert!(data(&sandbox.files()) == data(&files), "{arguments:?}");
    }
    let (code, seen) = sandbox.at_a_terminal(&["restore", "shop.fs", "--from", "backup.fs", "--lost"], "n\n");
    assert!(code == 1 && seen.contains("Restore this? [y/N]"), "{seen}");
    let (code, seen) = sandbox.at_a_terminal(&["restore", "shop.fs", "--from", "backup.fs", "--lost"], "y\n");
    assert!(code == 0 && seen.contains("Done, in transaction"), "{seen}");
    let storage = FileStorage::open_read_only(sandbox.path("shop.fs")).unwrap();
    assert!(storage.load(Oid(4), &Version::TRUNK).is_ok_and(|loaded| loaded.tid != Tid::ZERO));
}
