//! Vellum reads in the golden databases the same as the real ZODB.

use serde_json::Value;
use sha2::{Digest, Sha256};
use vellum_file::{FileStorage, Options, Scanner};
use vellum_pickle::Reference;
use vellum_storage::{Error, Oid, Order, Tid, TidRange, TransactionMeta, TransactionRecord, Version};

use crate::common::golden;

fn facts(name: &str) -> Value {
    let text = std::fs::read_to_string(golden(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn sha(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

/// Opened for reading only; there is no index.
fn open(name: &str) -> FileStorage {
    let storage = FileStorage::open_read_only(golden(&format!("{name}.fs"))).unwrap();
    assert_eq!(storage.recovery(), None);
    storage
}

const WRITTEN_BY_ZODB_6: [&str; 4] = ["mail", "undo", "unpacked", "packed"];

#[test]
fn current_records() {
    for name in WRITTEN_BY_ZODB_6 {
        let (storage, facts) = (open(name), facts(name));
        assert_eq!(storage.size(), facts["size"].as_u64().unwrap());
        assert_eq!(storage.object_count(), facts["objects"].as_u64().unwrap());
        assert_eq!(storage.last_transaction().to_string(), facts["last_transaction"]);
        let mut there = Vec::new();
        for (oid, current) in facts["current"].as_object().unwrap() {
            let oid: Oid = oid.parse().unwrap();
            match storage.load(oid, &Version::TRUNK) {
                Err(Error::KeyError { .. }) => assert!(current.is_null(), "{name} {oid}"),
                Err(other) => panic!("{name} {oid}: {other}"),
                Ok(loaded) => {
                    assert_eq!(loaded.tid.to_string(), current["tid"], "{name} {oid}");
                    assert_eq!(sha(&loaded.data), current["data_sha256"], "{name} {oid}");
                    there.push((oid, loaded.tid, loaded.data));
                }
            }
        }
        let walked: Vec<_> =
            storage.current_records(Oid::ROOT).map(|r| r.unwrap()).map(|r| (r.oid, r.tid, r.data)).collect();
        assert!(walked == there, "{name}: the walk and the loads differ");
    }
}

#[test]
fn histories() {
    for name in WRITTEN_BY_ZODB_6 {
        let (storage, facts) = (open(name), facts(name));
        for (oid, entries) in facts["history"].as_object().unwrap() {
            let found = storage.history(oid.parse().unwrap(), 99).unwrap();
            let found: Vec<_> = found.iter().map(|e| (e.tid.0, e.size)).collect();
            let expected: Vec<_> =
                entries.as_array().unwrap().iter().map(|e| (hex(&e["tid"]), e["size"].as_u64().unwrap())).collect();
            assert_eq!(found, expected, "{name} {oid}");
        }
    }
}

#[test]
fn loads_before() {
    for name in WRITTEN_BY_ZODB_6 {
        let (storage, facts) = (open(name), facts(name));
        for case in facts["load_before"].as_array().unwrap() {
            let (oid, before) = (Oid(hex(&case["oid"])), Tid(hex(&case["before"])));
            let expected = &case["found"];
            match storage.load_before(oid, before) {
                Err(Error::KeyError { .. }) => assert_eq!(expected, "POSKeyError", "{name} {oid} {before}"),
                Err(other) => panic!("{name} {oid} {before}: {other}"),
                Ok(None) => assert!(expected.is_null(), "{name} {oid} {before}: {expected}"),
                Ok(Some(found)) => {
                    assert_eq!(sha(&found.data), expected["data_sha256"], "{name} {oid} {before}");
                    assert_eq!(found.tid.to_string(), expected["tid"]);
                    assert_eq!(found.next.map_or(Value::Null, |t| t.to_string().into()), expected["next_tid"]);
                    assert_eq!(storage.load_serial(oid, found.tid).unwrap(), found.data);
                }
            }
        }
    }
}

#[test]
fn references_and_classes() {
    for name in WRITTEN_BY_ZODB_6 {
        let (storage, facts) = (open(name), facts(name));
        for record in storage.current_records(Oid::ROOT) {
            let record = record.unwrap();
            let mut found: Vec<_> = vellum_pickle::references(&record.data)
                .unwrap()
                .iter()
                .filter_map(|reference| match reference {
                    Reference::Strong { oid, .. } => Some(format!("{oid:016x}")),
                    _ => None,
                })
                .collect();
            found.sort();
            let oid = record.oid.to_string();
            assert_eq!(serde_json::json!(found), facts["references"][&oid], "{name} {oid}");
            assert_eq!(vellum_pickle::class_of(&record.data).unwrap().to_string(), facts["classes"][&oid]);
        }
    }
}

#[test]
fn transactions_in_both_directions() {
    for name in WRITTEN_BY_ZODB_6 {
        let (storage, facts) = (open(name), facts(name));
        let expected = facts["transactions"].as_array().unwrap();
        let forward: Vec<_> =
            storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap()).collect();
        assert_eq!(forward.len(), expected.len());
        for (found, expected) in forward.iter().zip(expected) {
            assert_eq!(found.tid.to_string(), expected["tid"]);
            assert_eq!((found.status.byte() as char).to_string(), expected["status"]);
            assert_eq!(found.user, expected["user"].as_str().unwrap());
            assert_eq!(found.description, expected["description"].as_str().unwrap());
            let records = expected["records"].as_array().unwrap();
            assert_eq!(found.revisions.len(), records.len());
            for (revision, record) in found.revisions.iter().zip(records) {
                assert_eq!(revision.oid.to_string(), record["oid"]);
                assert_eq!(
                    revision.data.as_deref().map_or(Value::Null, |d| sha(d).into()),
                    record["data_sha256"],
                    "{name} {}",
                    found.tid
                );
            }
        }
        let mut backward: Vec<_> =
            storage.transactions(TidRange::ALL, Order::NewestFirst).unwrap().map(|t| t.unwrap()).collect();
        backward.reverse();
        assert!(forward == backward, "{name}: the two directions differ");

        // Every range between two transactions, and between two moments next to them.
        for (first, last) in [(3, 7), (0, 0), (5, 5), (forward.len() - 3, forward.len() - 1)] {
            for (before, after) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let range =
                    TidRange { first: Tid(forward[first].tid.0 - before), last: Tid(forward[last].tid.0 + after) };
                for order in [Order::OldestFirst, Order::NewestFirst] {
                    let mut found: Vec<_> = storage.transactions(range, order).unwrap().map(|t| t.unwrap()).collect();
                    if order == Order::NewestFirst {
                        found.reverse();
                    }
                    assert!(found == forward[first..=last], "{name} {first}..={last} {order:?}");
                }
            }
        }
        let recent = storage.last_invalidations(4).unwrap();
        assert_eq!(
            recent.iter().map(|i| i.tid).collect::<Vec<_>>(),
            forward[forward.len() - 4..].iter().map(|t| t.tid).collect::<Vec<_>>()
        );
        assert_eq!(storage.last_invalidations(usize::MAX).unwrap().len(), forward.len());
    }
}

/// `versions.json` holds, for every step of a script, what each object looked like in each version afterwards. The file
/// is the result of all of them, so each step's view is that as of its transaction.
#[test]
fn versions_as_of_every_step() {
    let facts = facts("versions");
    let mut looked_at = 0;
    let mut as_of = Tid::ZERO;
    for step in facts["steps"].as_array().unwrap() {
        if step["committed"] == true {
            as_of = Tid(hex(&step["tid"]));
        }
        let storage = Options::new().as_of(as_of).open(golden("versions.fs")).unwrap();
        assert_eq!(storage.last_transaction(), as_of);
        assert_eq!(storage.size(), step["size"].as_u64().unwrap(), "{}", step["note"]);
        for (key, expected) in step["view"].as_object().unwrap() {
            let (oid, version) = key.split_once(' ').unwrap();
            if version == "modified_in" {
                continue;
            }
            let loaded = storage.load(oid.parse().unwrap(), &Version::named(version.to_owned()));
            match loaded {
                Err(Error::KeyError { .. }) => {
                    assert!(expected.get("tid").is_none(), "{} {key}: {expected}", step["note"])
                }
                Err(other) => panic!("{key}: {other}"),
                Ok(loaded) => {
                    assert_eq!(loaded.tid.to_string(), expected["tid"], "{} {key}", step["note"]);
                    assert_eq!(sha(&loaded.data), expected["data_sha256"], "{} {key}", step["note"]);
                }
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 100, "only {looked_at}");
}

/// `load_before` in the whole file finds the state of the trunk after each step, with the right times.
#[test]
fn the_trunk_in_the_past_of_versions() {
    let facts = facts("versions");
    let storage = open("versions");
    let steps: Vec<_> = facts["steps"].as_array().unwrap().iter().filter(|step| step["committed"] == true).collect();
    let shown = |step: &Value, oid: Oid| step["view"][format!("{oid} ")]["data_sha256"].clone();
    let mut looked_at = 0;
    for oid in (0..5).map(Oid) {
        for (n, step) in steps.iter().enumerate() {
            let expected = shown(step, oid);
            match storage.load_before(oid, Tid(hex(&step["tid"])).next()) {
                Err(Error::KeyError { .. }) | Ok(None) => assert!(expected.is_null(), "{oid} {}", step["note"]),
                Err(other) => panic!("{other}"),
                Ok(Some(found)) => {
                    assert_eq!(sha(&found.data), expected, "{oid} {}", step["note"]);
                    let tid = |n: usize| Tid(hex(&steps[n]["tid"]));
                    let until = (n..steps.len()).find(|&n| found.next == Some(tid(n))).unwrap_or(steps.len());
                    assert_eq!(found.next.is_none(), until == steps.len());
                    for (_, step) in steps[..until].iter().enumerate().filter(|(n, _)| tid(*n) >= found.tid) {
                        assert_eq!(shown(step, oid), expected, "{oid}: {} .. {}", found.tid, step["note"]);
                    }
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at > 60, "only {looked_at}");

    // Under a version, the trunk shows object 1 as it was created; from the undo of the version's commit on, again.
    for (step, since) in [("change one again in draft", "create"), ("undo the commit", "undo the commit")] {
        let tid = |note: &str| Tid(hex(&steps.iter().find(|step| step["note"] == note).unwrap()["tid"]));
        let found = storage.load_before(Oid(1), tid(step).next()).unwrap().unwrap();
        assert_eq!(found.tid, tid(since), "{step}");
    }
}

/// The transactions of `undo.fs` again, one after the other: stores as stores, undos as undos, with the same tids. They
/// make the same bytes.
#[test]
fn undo_fs_made_again() {
    let (source, folder) = (open("undo"), tempfile::tempdir().unwrap());
    let path = folder.path().join("Data.fs");
    let copy = FileStorage::create(&path).unwrap();
    let (file, end) = source.data_file();
    let (mut scanner, mut side) = (Scanner::new(&*file, end), Scanner::new(&*file, end));
    let mut undos = 0;
    for transaction in source.transactions(TidRange::ALL, Order::OldestFirst).unwrap() {
        let TransactionRecord { tid, user, description, extension, revisions, .. } = transaction.unwrap();
        let mut records = Vec::new();
        let each = |_: &_, record| {
            records.push(record);
            Ok(())
        };
        scanner.transaction(copy.size(), each).unwrap();
        let is_delete = user.ends_with(b"collector");
        let meta = TransactionMeta { user, description, extension, tid: Some(tid), ..TransactionMeta::new() };
        let mut change = copy.begin(meta).unwrap();
        let (mut undone, mut last) = (Vec::new(), None);
        for (record, revision) in records.iter().zip(&revisions) {
            let oid = record.header.oid;
            let mut tid_at =
                |position| if position == 0 { Tid::ZERO } else { side.record(position, end).unwrap().header.tid };
            if record.header.data_length > 0 {
                change.store(oid, tid_at(record.header.previous), revision.data.clone().unwrap()).unwrap();
            } else if is_delete {
                change.delete(oid, tid_at(record.header.previous)).unwrap();
            } else {
                // Of two undos in one transaction the second takes back what the first one left.
                let of = match last {
                    Some((before, backpointer)) if before == oid => backpointer,
                    _ => record.header.previous,
                };
                undone.push(tid_at(of));
                last = Some((oid, record.backpointer));
            }
        }
        undone.dedup();
        undos += undone.len();
        undone.into_iter().for_each(|tid| change.undo(tid).unwrap());
        assert_eq!(copy.vote(change).unwrap().finish().unwrap(), tid);
    }
    assert_eq!(undos, 5);
    assert!(std::fs::read(&path).unwrap() == std::fs::read(golden("undo.fs")).unwrap(), "the bytes differ");
}
