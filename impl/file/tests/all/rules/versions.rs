//! The script of `versions.json`, which ZODB 3.3.0 of 2004 carried out: the same operations give the same answers, show
//! the same in every version after each step, and write the same bytes.

use crate::common::{PATH, SharedClock, commit, golden, options, record};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vellum_disk::SimDisk;
use vellum_file::FileStorage;
use vellum_storage::{Error, Oid, Refusal, Result, Storage, Tid, TransactionMeta, Version};

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn tid(value: &Value) -> Tid {
    Tid(u64::from_str_radix(value.as_str().unwrap(), 16).unwrap())
}

fn version(value: &Value) -> Version {
    Version::named(value.as_str().unwrap_or_default().to_owned())
}

/// An empty file as ZODB made it under Python 2.
fn empty_database(disk: &SimDisk) -> FileStorage {
    disk.write_file(PATH, b"FS21");
    options(disk, &SharedClock::new()).open(PATH).unwrap()
}

/// ZODB's name of the step, and its answer: "ok" for a store, the oids for everything else.
fn play(storage: &FileStorage, step: &Value) -> Result<Vec<Value>> {
    let description = step["note"].as_str().unwrap().to_owned();
    let meta = TransactionMeta::new().user("tester").description(description).tid(tid(&step["tid"]));
    let mut transaction = storage.begin(meta)?;
    let mut answers = Vec::new();
    for op in step["ops"].as_array().unwrap() {
        match op["op"].as_str().unwrap() {
            "store" => {
                let data = Bytes::from(unhex(op["data"].as_str().unwrap()));
                let oid = Oid(op["oid"].as_u64().unwrap());
                transaction.store_in(&version(&op["version"]), oid, tid(&op["serial"]), data)?;
                answers.push("ok".into());
            }
            "commit_version" => {
                let (from, to) = (version(&op["src"]), version(&op["dest"]));
                transaction.commit_version(&from, &to)?;
            }
            "abort_version" => transaction.abort_version(&version(&op["src"]))?,
            "undo" => transaction.undo(tid(&op["tid"]))?,
            other => panic!("{other}"),
        }
    }
    let voted = storage.vote(transaction)?;
    if answers.is_empty() {
        let mut touched = voted.touched().to_vec();
        touched.sort();
        answers.push(touched.iter().map(Oid::to_string).collect::<Vec<_>>().into());
    }
    if step["committed"] == true {
        assert_eq!(voted.finish()?, tid(&step["tid"]));
    }
    Ok(answers)
}

fn error(error: Error) -> Value {
    match error {
        Error::Refused(Refusal::VersionLock { .. }) => "VersionLockError".into(),
        Error::Refused(Refusal::VersionEnd { .. }) => "VersionCommitError".into(),
        other => panic!("{other}"),
    }
}

fn view(storage: &FileStorage, step: &Value) {
    for (key, expected) in step["view"].as_object().unwrap() {
        let (oid, name) = key.split_once(' ').unwrap();
        let oid: Oid = oid.parse().unwrap();
        if name == "modified_in" {
            let found = storage.versions().unwrap().modified_in_version(oid).unwrap();
            assert_eq!(found.to_string(), expected.as_str().unwrap(), "{} {key}", step["note"]);
            continue;
        }
        match storage.load(oid, &Version::named(name.to_owned())) {
            Ok(loaded) => {
                let sha: String = Sha256::digest(&loaded.data).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(loaded.tid.to_string(), expected["tid"], "{} {key}", step["note"]);
                assert_eq!(sha, expected["data_sha256"], "{} {key}", step["note"]);
            }
            Err(Error::KeyError { .. }) => assert!(expected.get("tid").is_none(), "{} {key}", step["note"]),
            Err(other) => panic!("{key}: {other}"),
        }
    }
    let names: Vec<_> = storage.versions().unwrap().versions().unwrap().iter().map(Version::to_string).collect();
    let expected: Vec<_> = step["versions"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(names, expected, "{}", step["note"]);
}

/// Every other time the database is closed and opened again before each step, so that nothing is known but what the
/// file says.
#[test]
fn what_zodb_did_in_2004() {
    let script: Value = serde_json::from_str(&std::fs::read_to_string(golden("versions.json")).unwrap()).unwrap();
    for reopen in [false, true] {
        let disk = SimDisk::new(0);
        let mut storage = empty_database(&disk);
        for step in script["steps"].as_array().unwrap() {
            if reopen {
                drop(storage);
                storage = options(&disk, &SharedClock::new()).open(PATH).unwrap();
            }
            let answers = play(&storage, step).unwrap_or_else(|refused| vec![error(refused)]);
            assert_eq!(Value::from(answers), step["results"], "{}", step["note"]);
            assert_eq!(storage.size(), step["size"].as_u64().unwrap(), "{}", step["note"]);
            view(&storage, step);
        }
        drop(storage);
        let golden = std::fs::read(golden("versions.fs")).unwrap();
        assert!(disk.read_file(PATH).unwrap() == golden, "the bytes differ");
    }
}

fn draft() -> Version {
    Version::named("draft")
}

/// Commits what `change` does.
fn change(storage: &FileStorage, change: impl FnOnce(&mut vellum_storage::Draft) -> Result<()>) -> Tid {
    let mut transaction = storage.begin(TransactionMeta::new()).unwrap();
    change(&mut transaction).unwrap();
    storage.vote(transaction).unwrap().finish().unwrap()
}

/// The walk along a version's list in ZODB of 2004 stopped at the first record that was no longer anybody's newest;
/// what lay behind it stayed in the version for ever. Rules 3.5 and 3.6.
#[test]
fn the_end_of_a_version_finds_every_object_whatever_undos_lie_between() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let first = commit(&storage, "ann", &[(1, Some(record(b"1"))), (2, Some(record(b"2")))]).unwrap();
    let store = |oid, data: &'static [u8]| change(&storage, |t| t.store_in(&draft(), Oid(oid), first, record(data)));
    store(1, b"1 in draft");
    let second = store(2, b"2 in draft");
    change(&storage, |t| t.undo(second));
    let mut transaction = storage.begin(TransactionMeta::new()).unwrap();
    transaction.commit_version(&draft(), &Version::TRUNK).unwrap();
    let voted = storage.vote(transaction).unwrap();
    assert_eq!(voted.touched(), [Oid(1)]);
    voted.finish().unwrap();
    assert_eq!(storage.load(Oid(1), &Version::TRUNK).unwrap().data, record(b"1 in draft"));
    assert_eq!(storage.versions().unwrap().versions().unwrap(), []);
}

/// A name that does not fit its two bytes.
#[test]
fn a_version_s_name_has_a_limit() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let named = |length| Version::named("x".repeat(length));
    change(&storage, |t| t.store_in(&named(65_535), Oid(1), Tid::ZERO, record(b"1")));
    assert_eq!(storage.versions().unwrap().versions().unwrap(), [named(65_535)]);
    let mut transaction = storage.begin(TransactionMeta::new()).unwrap();
    let refused = transaction.store_in(&named(65_536), Oid(2), Tid::ZERO, record(b"2")).unwrap_err();
    assert!(
        matches!(refused, Error::Refused(Refusal::MetadataTooLong { field: "version", length: 65_536 })),
        "{refused}"
    );
    let refused = transaction.commit_version(&named(65_535), &named(65_536)).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::MetadataTooLong { .. })), "{refused}");
}

/// The end of a version with nothing in it takes the room of a transaction with nothing in it.
#[test]
fn the_quota_counts_what_the_end_of_a_version_writes() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    commit(&storage, "made", &[(1, Some(record(b"1")))]).unwrap();
    let size = storage.size();
    drop(storage);
    let storage = options(&disk, &clock).quota(size + 31).open(PATH).unwrap();
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.commit_version(&Version::named("draft"), &Version::TRUNK).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
    assert_eq!(storage.size(), size + 31);
}
