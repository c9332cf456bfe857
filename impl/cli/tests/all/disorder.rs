//! Files whose transactions are not in the order of their tids: copying an older database behind a newer root leaves
//! them, or a conversion that ran twice. ZODB opens, reads and writes them. A command's answers about such a file do
//! not depend on an `.index` beside it, and no complete transaction is dropped silently.

use std::collections::HashMap;

use crate::common::site::record;
use crate::common::{Sandbox, without_time};
use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{Bytes, Oid, Order, Tid, TidRange, TransactionMeta, Version};

/// Minutes after nine o'clock, and the stores at that time.
type Transactions<'a> = &'a [(u64, &'a [(u64, Bytes)])];

fn tid(minute: u64) -> Tid {
    Tid(Tid::at("2026-11-24T09:00:00Z".parse().unwrap()).0 + (minute << 32))
}

/// The file that these transactions make, one behind the other.
fn file(transactions: Transactions<'_>) -> Vec<u8> {
    let mut file = b"FS30".to_vec();
    let mut newest: HashMap<u64, u64> = HashMap::new();
    for (minute, records) in transactions {
        let (start, tid) = (file.len() as u64, tid(*minute).to_bytes());
        let mut body = Vec::new();
        for (oid, data) in *records {
            let position = start + 23 + body.len() as u64;
            let previous = newest.insert(*oid, position).unwrap_or(0);
            body.extend([oid.to_be_bytes(), tid, previous.to_be_bytes(), start.to_be_bytes()].concat());
            body.extend([0, 0]);
            body.extend((data.len() as u64).to_be_bytes());
            body.extend_from_slice(data);
        }
        let length = (23 + body.len() as u64).to_be_bytes();
        file.extend([&tid[..], &length, b" \0\0\0\0\0\0", &body, &length].concat());
    }
    file
}

/// Each with its transactions out of order, and the minutes of those.
fn files() -> Vec<(&'static str, Vec<u8>, Vec<u64>)> {
    let root = |to: &[u64]| (0, record("Root", to, &[], 0));
    let product = |oid, bytes| (oid, record("Product", &[], &[], bytes));
    let old: [(u64, &[(u64, Bytes)]); 3] =
        [(0, &[product(1, 10)]), (1, &[product(2, 20)]), (2, &[product(1, 30), product(3, 40)])];
    let later: (u64, &[(u64, Bytes)]) = (60, &[root(&[1, 2, 3])]);
    let shop: (u64, &[(u64, Bytes)]) = (60, &[root(&[1, 1])]);
    let last: (u64, &[(u64, Bytes)]) = (90, &[product(2, 90)]);
    let bare: (u64, &[(u64, Bytes)]) = (5, &[]);
    vec![
        ("behind.fs", file(&[later, old[0], old[1], old[2]]), vec![0, 1, 2]),
        ("between.fs", file(&[later, old[0], old[1], old[2], last]), vec![0, 1, 2]),
        ("twice.fs", file(&[old[0], old[1], shop, old[0], old[1], shop]), vec![0, 1, 60]),
        ("bare.fs", file(&[old[0], shop, bare, last]), vec![5]),
        ("same.fs", file(&[old[0], old[0], shop]), vec![0]),
    ]
}

/// A sandbox with the file, and with an `.index` beside it or without.
fn sandbox(name: &str, bytes: &[u8], with_index: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file(name, bytes);
    if with_index {
        drop(FileStorage::open(sandbox.path(name)).unwrap());
        assert!(sandbox.path(&format!("{name}.index")).exists());
    }
    sandbox
}

#[test]
fn sessions() {
    let (name, bytes, _) = &files()[0];
    let commands: &[&[&str]] = &[
        &["log", name],
        &["log", name, "--since", "2026-11-24 09:30"],
        &["log", name, "--until", "2026-11-24 09:00"],
        &["check", name],
        &["show", name, "1"],
        &["show", name, "1", "--at", "2026-11-24 09:30"],
        &["export", name, "0", "then.zexp", "--at", "2026-11-24 09:30"],
        &["copy", name, "part.fs", "--until", "2026-11-24 09:30"],
        &["pack", name, "--before", "2026-11-24 09:30", "--dry-run"],
        &["pack", name, "--dry-run"],
        &["recover", name, "out.fs"],
        &["recover", name, "all.fs", "--new-tids"],
        &["log", "all.fs"],
        &["check", "all.fs"],
    ];
    let [without, with] =
        [false, true].map(|with_index| without_time(sandbox(name, bytes, with_index).session(commands)));
    assert_eq!(without, with, "an .index beside the file changes what is said");
    assert_session!("cli-disorder", without);
}

/// The same with an index and without; and every transaction is found by its time.
#[test]
fn an_index_changes_nothing() {
    for (name, bytes, _) in files() {
        let all: Vec<Tid> = {
            let sandbox = sandbox(name, &bytes, false);
            let storage = FileStorage::open_read_only(sandbox.path(name)).unwrap();
            let all = storage.transactions(TidRange::ALL, Order::NewestFirst).unwrap();
            all.map(|transaction| transaction.unwrap().tid).collect()
        };
        for minute in [0, 1, 2, 5, 30, 60, 90] {
            let time = tid(minute).to_string();
            let commands: &[&[&str]] = &[
                &["log", name, "--since", &time, "--json"],
                &["log", name, "--until", &time, "--json"],
                &["log", name, "--object", "1", "--since", &time, "--json"],
                &["show", name, "1", "--at", &time],
                &["refs", name, "1", "--at", &time],
                &["log", name, "--undoable"],
                &["info", name, "--json"],
                &["check", name],
                &["garbage", name],
                &["pack", name, "--before", &time, "--dry-run"],
                &["copy", name, "new.fs", "--since", &time],
                &["copy", name, "copy.fs"],
                &["undo", name, &time, "--dry-run"],
            ];
            let [without, with] = [false, true].map(|with_index| {
                let session = without_time(sandbox(name, &bytes, with_index).session(commands));
                session.lines().map(|line| line.split("index_memory").next().unwrap().to_owned()).collect::<Vec<_>>()
            });
            assert_eq!(without, with, "{name}, {minute}");
            for (option, wanted) in [
                ("--since", all.iter().filter(|found| **found >= tid(minute)).collect::<Vec<_>>()),
                ("--until", all.iter().filter(|found| **found <= tid(minute)).collect::<Vec<_>>()),
            ] {
                let run = sandbox(name, &bytes, true).run(&["log", name, option, &time, "--json", "--all"]);
                let found: Vec<Tid> = run
                    .stdout
                    .lines()
                    .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                    .map(|line| line["tid"].as_str().unwrap().parse().unwrap())
                    .collect();
                assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{name} {option} {minute}");
            }
        }
    }
}

/// Opened with relaxed durability too, and written to, nothing goes.
#[test]
fn nothing_is_cut_off() {
    for (name, bytes, _) in files() {
        for durability in [Durability::Full, Durability::Relaxed] {
            for with_index in [false, true] {
                let sandbox = sandbox(name, &bytes, with_index);
                let storage = Options::new().durability(durability).open(sandbox.path(name)).unwrap();
                assert_eq!(storage.recovery(), None, "{name}");
                let mut draft = storage.begin(TransactionMeta::new()).unwrap();
                let serial = storage.load(Oid(1), &Version::TRUNK).unwrap().tid;
                draft.store(Oid(1), serial, record("Product", &[], &[], 5)).unwrap();
                storage.commit(draft).unwrap();
                drop(storage);
                assert!(std::fs::read(sandbox.path(name)).unwrap().starts_with(&bytes), "{name}");
                assert!(!sandbox.path(&format!("{name}.tr0")).exists(), "{name}");
                assert!(FileStorage::open(sandbox.path(name)).is_ok(), "{name}");
            }
        }
    }
}

/// `recover` names what it leaves out, and with `--new-tids` leaves out nothing.
#[test]
fn nothing_whole_is_dropped_without_a_word() {
    for (name, bytes, out_of_order) in files() {
        let sandbox = sandbox(name, &bytes, false);
        let check = sandbox.run(&["check", name]);
        for minute in &out_of_order {
            assert!(check.code == 1 && check.stdout.contains(&tid(*minute).to_string()), "{name}: {}", check.stdout);
        }
        assert!(check.stdout.contains("not later than the one before"), "{name}: {}", check.stdout);
        let run = sandbox.run(&["recover", name, "out.fs"]);
        assert_eq!(run.code, 1, "{name}: {}", run.stdout);
        for minute in &out_of_order {
            assert!(run.stdout.contains(&tid(*minute).to_string()), "{name}: {}", run.stdout);
        }
        let run = sandbox.run(&["recover", name, "all.fs", "--new-tids"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{name}: {}", run.stdout);
        let revisions = |path: &str| {
            let storage = FileStorage::open_read_only(sandbox.path(path)).unwrap();
            let all = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap());
            let all: Vec<_> = all.collect();
            let is_in_order = all.windows(2).all(|pair| pair[0].tid < pair[1].tid);
            let what = |t: vellum_storage::TransactionRecord| {
                t.revisions.into_iter().map(|revision| (revision.oid, revision.data)).collect::<Vec<_>>()
            };
            (is_in_order, all.into_iter().map(what).collect::<Vec<_>>())
        };
        let (all, old) = (revisions("all.fs"), revisions(name));
        assert!(all.0 && !old.0, "{name}");
        assert_eq!(all.1, old.1, "{name}");
        let check = sandbox.run(&["check", "all.fs"]);
        assert_eq!(check.code, 0, "{name}: {}", check.stdout);
    }
}
