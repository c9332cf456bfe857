//! Databases that zc.zlibstorage has compressed: every command does with them what it does with plain ones. And
//! encrypted ones, of which no command says more than can be told.

use crate::common::site::{Delete, Site, Store, record};
use crate::common::{Sandbox, without_time};
use serde_json::Value;
use vellum_pickle::compressed;
use vellum_storage::{Bytes, Oid, Order, Revision, TidRange};

/// Fields that may differ: the places of records, and their form. Their lengths, too: names that end in `bytes`.
const PLACES: [&str; 8] =
    ["backpointer", "compressed", "data_length", "data_position", "data_sha256", "position", "previous", "seconds"];

/// An answer in JSON, without what may differ.
fn normal(text: &str) -> String {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let is_length = |name: &str| name.ends_with("bytes") && name != "extension_bytes";
                fields.retain(|name, _| !PLACES.contains(&name.as_str()) && !is_length(name));
                fields.values_mut().for_each(clean);
                // Those that take most room come first.
                if let Some(Value::Array(classes)) = fields.get_mut("classes") {
                    classes.sort_by_key(Value::to_string);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(clean),
            _ => {}
        }
    }
    let line = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            clean(&mut value);
            value.to_string()
        }
        Err(_) => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// How many records of the file are compressed, and how many are not.
fn forms(sandbox: &Sandbox, name: &str) -> (usize, usize) {
    let storage = vellum_file::FileStorage::open_read_only(sandbox.path(name)).unwrap();
    let all = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
    let revisions: Vec<Revision> = all.flat_map(|transaction| transaction.unwrap().revisions).collect();
    let own = revisions.iter().filter(|revision| revision.source.is_none());
    let (yes, no): (Vec<_>, Vec<_>) =
        own.filter_map(|revision| revision.data.as_ref()).partition(|data| data.starts_with(b".z"));
    (yes.len(), no.len())
}

#[test]
fn every_command_says_of_a_compressed_database_what_it_says_of_the_plain_one() {
    for name in ["mail", "packed", "undo", "unpacked", "versions"] {
        let (plain, packed) = (Sandbox::new(), Sandbox::new());
        let file = format!("{name}.fs");
        plain.golden(name);
        packed.golden(name);
        std::fs::rename(packed.path(&file), packed.path("source.fs")).unwrap();
        assert_eq!(packed.run(&["copy", "source.fs", &file, "--compress"]).code, 0, "{name}");
        // The plain one is a copy as well, so that both are of the same format.
        std::fs::rename(plain.path(&file), plain.path("source.fs")).unwrap();
        assert_eq!(plain.run(&["copy", "source.fs", &file]).code, 0, "{name}");
        let (shorter, as_they_were) = forms(&packed, &file);
        // Most records of the one with versions are too short to become shorter.
        let enough = if name == "versions" { 0 } else { as_they_were / 4 };
        assert!(shorter > enough, "{name}: {shorter} records compressed, {as_they_were} not");
        let undone: Value =
            serde_json::from_str(plain.run(&["log", &file, "--json", "-n", "1"]).stdout.trim()).unwrap();
        let last = undone["tid"].as_str().unwrap();
        let commands: &[&[&str]] = &[
            &["info", &file, "--json", "--classes", "0"],
            &["check", &file, "--json", "--references", "--classes", "mail"],
            &["check", &file, "--json", "--btrees", "--python2"],
            &["log", &file, "--json"],
            &["garbage", &file, "--list", "--json"],
            &["dump", &file, "--json", "--state"],
            &["dump", &file, "--json", "--state", "--btrees"],
            &["show", &file, "0", "--json", "--btrees"],
            &["show", &file, "2", "--json", "--history"],
            &["refs", &file, "2", "--json"],
            &["info", &file, "--class", "BTrees", "--json"],
            &["export", &file, "0", "all.zexp", "--go-on", "--json"],
            &["undo", &file, last, "--yes", "--json"],
            &["import", &file, "all.zexp", "--go-on", "--yes", "--json"],
            &["collect", &format!("main={file}"), "--dry-run", "--json"],
            &["pack", &file, "--yes", "--go-on", "--json"],
            &["dump", &file, "--json", "--state"],
            &["check", &file, "--json", "--references"],
        ];
        for command in commands {
            let runs = [plain.run(command), packed.run(command)];
            let [one, other] = runs.each_ref().map(|run| (run.code, normal(&run.stdout)));
            if one != other {
                let differ = one.1.lines().zip(other.1.lines()).find(|(one, other)| one != other);
                panic!("{name}, {command:?}: {} and {}: {differ:#?}\n{}", one.0, other.0, runs[1].stderr);
            }
            assert_ne!(one.0, 2, "{name}, {command:?}: {}", runs[0].stderr);
        }
        let export = |sandbox: &Sandbox| std::fs::read(sandbox.path("all.zexp")).unwrap();
        assert!(export(&plain) == export(&packed), "{name}: an export is plain, as ZODB's is");
        let before = forms(&packed, &file);
        let imported = packed.run(&["import", &file, "all.zexp", "--go-on", "--yes", "--compress"]);
        assert_eq!(imported.code, 0, "{name}: {}", imported.stderr);
        assert!(forms(&packed, &file).0 > before.0, "{name}: what was imported is compressed");
        // And the way back: each record is again what it was.
        assert_eq!(packed.run(&["copy", "source.fs", "again.fs", "--compress"]).code, 0);
        assert_eq!(packed.run(&["copy", "again.fs", "back.fs", "--decompress"]).code, 0);
        assert_eq!(packed.run(&["copy", "source.fs", "plain.fs"]).code, 0);
        let bytes = |name: &str| std::fs::read(packed.path(name)).unwrap();
        assert!(bytes("back.fs") == bytes("plain.fs"), "{name}: byte for byte");
    }
}

/// A bucket of the BTrees package with these items, and long texts.
fn bucket(items: &[(u8, u8)]) -> Bytes {
    let text = |byte: u8| [b"X\x28\0\0\0", [byte; 40].as_slice()].concat();
    let items: Vec<u8> = items.iter().flat_map(|(key, value)| [text(*key), text(*value)].concat()).collect();
    [b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\x00.\x80\x03((", items.as_slice(), b"t\x85."].concat().into()
}

fn stored(record: Bytes) -> Bytes {
    compressed(&record).expect("it is long enough").into()
}

/// An undo merges later changes: as of plain records, and in the form of the record that it shows again.
#[test]
fn an_undo_merges_compressed_records() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    site.commit("ann", "open", vec![Store(0, stored(bucket(&[(b'a', b'1')])))]);
    let added = site.commit("ann", "b", vec![Store(0, stored(bucket(&[(b'a', b'1'), (b'b', b'2')])))]);
    site.commit("bob", "c", vec![Store(0, stored(bucket(&[(b'a', b'1'), (b'b', b'2'), (b'c', b'3')])))]);
    drop(site);
    let undone = sandbox.run(&["undo", "shop.fs", &added.to_string(), "--yes"]);
    assert_eq!(undone.code, 0, "{}{}", undone.stdout, undone.stderr);
    let storage = vellum_file::FileStorage::open_read_only(sandbox.path("shop.fs")).unwrap();
    let now = storage.load(Oid::ROOT, &vellum_storage::Version::TRUNK).unwrap().data;
    assert!(now.starts_with(b".z"));
    let wanted = bucket(&[(b'a', b'1'), (b'c', b'3')]);
    let shown = |record: &[u8]| vellum_pickle::to_json(record, &Default::default()).unwrap();
    assert_eq!(shown(&now), shown(&wanted));
}

/// A shop whose records are compressed, with garbage, and a record whose stream is damaged.
fn shop(sandbox: &Sandbox) {
    let mut site = Site::new(sandbox, "shop.fs");
    let long = |class, strong: &[u64]| stored(record(class, strong, &[], 400));
    site.commit(
        "ann",
        "open the shop",
        vec![
            Store(0, long("Root", &[1, 2])),
            Store(1, long("Shelf", &[3])),
            Store(2, record("Product", &[], &[], 4)),
            Store(3, long("Product", &[])),
            Store(4, long("Product", &[])),
        ],
    );
    site.commit("bob", "a better price", vec![Store(3, stored(record("Product", &[], &[], 500)))]);
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let mut site = Site::new(&sandbox, "cut.fs");
    let whole = stored(record("Shelf", &[2], &[], 400));
    site.commit("ann", "", vec![Store(0, record("Root", &[1], &[], 4)), Store(1, whole.slice(..whole.len() - 6))]);
    drop(site);
    let commands: &[&[&str]] = &[
        &["info", "shop.fs"],
        &["check", "shop.fs"],
        &["show", "shop.fs", "1"],
        &["show", "shop.fs", "1", "--json"],
        &["refs", "shop.fs", "3"],
        &["garbage", "shop.fs", "--list"],
        &["pack", "shop.fs", "--yes"],
        &["copy", "shop.fs", "plain.fs", "--decompress"],
        &["show", "plain.fs", "1"],
        &["copy", "shop.fs", "plain.fs"],
        &["copy", "plain.fs", "again.fs", "--compress"],
        &["copy", "plain.fs", "again.fs", "--compress"],
        &["info", "again.fs"],
        &["check", "cut.fs"],
        &["show", "cut.fs", "1"],
        &["show", "cut.fs", "1", "--json"],
        &["info", "cut.fs"],
        &["copy", "cut.fs", "whole.fs", "--decompress"],
    ];
    assert_session!("cli-compressed", without_time(sandbox.session(commands)));
}

/// A database as cipher.encryptingstorage writes it: the records of an encrypted database, and one that was there
/// before.
fn secrets(sandbox: &Sandbox) {
    let mut site = Site::new(sandbox, "secret.fs");
    let secret = |number: u8| Bytes::from([b".e", [number; 60].as_slice()].concat());
    site.commit(
        "ann",
        "open",
        vec![Store(0, record("Root", &[1], &[], 4)), Store(1, secret(1)), Store(2, secret(2)), Store(3, secret(3))],
    );
    site.commit("ann", "", vec![Store(2, secret(4))]);
    site.commit("ann", "", vec![Delete(3)]);
}

/// Rule 4.10: reported once, not as damage of each record; and no command assumes that it has no references.
#[test]
fn encrypted_records_are_no_damage_and_may_refer_to_anything() {
    let sandbox = Sandbox::new();
    secrets(&sandbox);
    let before = std::fs::read(sandbox.path("secret.fs")).unwrap();
    let commands: &[&[&str]] = &[
        &["info", "secret.fs"],
        &["check", "secret.fs"],
        &["check", "secret.fs", "--json"],
        &["check", "secret.fs", "--references"],
        &["show", "secret.fs", "1"],
        &["show", "secret.fs", "1", "--json"],
        &["refs", "secret.fs", "2"],
        &["garbage", "secret.fs", "--list"],
        &["pack", "secret.fs", "--yes"],
        &["collect", "main=secret.fs", "--yes"],
        &["export", "secret.fs", "0", "out.zexp"],
    ];
    assert_session!("cli-encrypted", without_time(sandbox.session(commands)));
    assert!(std::fs::read(sandbox.path("secret.fs")).unwrap() == before, "nothing was changed");
    assert_eq!(sandbox.run(&["pack", "secret.fs", "--yes", "--no-collect"]).code, 0);
    let checked = sandbox.run(&["check", "secret.fs", "--json"]);
    assert_eq!((checked.code, checked.stdout.lines().count()), (0, 1), "{}", checked.stdout);
}
