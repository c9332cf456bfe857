//! A process with committing threads and packs is killed, again and again. The tables must have every acknowledged
//! transaction, whole, with its blob.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;

use vellum_harness::kill as process;
use vellum_harness::node::{Beside, Node};
use vellum_storage::{Blob, Bytes, Oid, Order, Tid, TidRange, TransactionMeta, Version};
use vellum_table::{Options, TableStorage};

use crate::common::check_blobs;
use crate::damage::Dice;

const THREADS: u64 = 4;
const OBJECTS: u64 = 10;
const COMMITS_A_PACK: usize = 10;

fn options(path: &Path) -> Options {
    Options::new().blobs(path.with_extension("blobs")).step_rows(3)
}

/// The bytes of an object's blob say which transaction wrote them: they have the serial that it replaced.
fn blob(oid: Oid, serial: Tid) -> Bytes {
    format!("{oid} {serial} ").repeat(1 + serial.0 as usize % 300).into()
}

fn all() -> Vec<Oid> {
    (0..THREADS * OBJECTS).map(Oid).collect()
}

/// Commits until it is killed. Only for a process that was started for it.
#[test]
#[ignore = "runs in a process that is killed"]
fn commits_until_it_is_killed() {
    let Some(path) = process::path() else { return };
    let path = Path::new(&path);
    let storage = options(path).open_or_create(path).unwrap();
    let first = storage.last_transaction().0;
    // A pack needs a root.
    if storage.load(Oid::ROOT, &Version::TRUNK).is_err() {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid::ROOT, Tid::ZERO, Node { strong: all(), ..Node::default() }.encode()).unwrap();
        storage.commit(draft).unwrap();
    }
    let (committed, commits) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (storage, committed) = (&storage, committed.clone());
            scope.spawn(move || {
                let mut dice = Dice(first + thread);
                // Bounded, in case that nobody kills it.
                for _ in 0..20_000 {
                    let oid = Oid(thread * OBJECTS + dice.below(OBJECTS));
                    let serial = storage.load(oid, &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
                    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
                    // All refer to all, so that nothing is garbage.
                    let mut node = Node { strong: all(), ..Node::default() };
                    if dice.below(3) == 0 {
                        node.beside = Beside::Blob(0);
                        draft.store_blob(oid, serial, node.encode(), Blob::from(blob(oid, serial))).unwrap();
                    } else {
                        draft.store(oid, serial, node.encode()).unwrap();
                    }
                    let tid = storage.commit(draft).unwrap();
                    process::acknowledge(format_args!("{} {}", tid.0, oid.0));
                    let _ = committed.send(());
                }
            });
        }
        drop(committed);
        let storage = &storage;
        // Packs the oldest part away, in small steps.
        scope.spawn(move || {
            let mut dice = Dice(first);
            while commits.iter().take(COMMITS_A_PACK).count() == COMMITS_A_PACK {
                let tids = storage.transactions(TidRange::ALL, Order::NewestFirst).unwrap();
                let to = tids.map(|transaction| transaction.unwrap().tid).nth(40 + dice.below(40) as usize);
                if let Some(to) = to {
                    storage.pack_by_counts(to).unwrap();
                }
            }
        });
    });
}

/// A commit that the process was told of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Acknowledged {
    tid: Tid,
    oid: Oid,
}

/// Starts the process, kills it after so many acknowledgements, and returns all that it gave.
fn killed_after(path: &Path, count: u64) -> Vec<Acknowledged> {
    let lines = process::killed_after("kill::commits_until_it_is_killed", path, count as usize).unwrap();
    assert!(lines.len() as u64 >= count, "it ended by itself");
    let numbers = lines.iter().map(|line| line.split_once(' ').unwrap());
    numbers.map(|(tid, oid)| Acknowledged { tid: Tid(tid.parse().unwrap()), oid: Oid(oid.parse().unwrap()) }).collect()
}

/// Looks at the tables and the files after a kill.
fn look(path: &Path, acknowledged: &[Acknowledged], kill: u64) -> (TableStorage, usize) {
    let storage = options(path).open(path).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
    storage.check(&mut |problem| panic!("kill {kill}: {problem}")).unwrap();
    check_blobs(&storage).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
    let all: Vec<_> = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(Result::unwrap).collect();
    let there: BTreeSet<_> = all.iter().flat_map(|t| t.revisions.iter().map(|r| (t.tid, r.oid))).collect();
    for Acknowledged { tid, oid } in acknowledged {
        // A pack may have forgotten it, if the object was changed later.
        let later = || there.range((tid.next(), Oid(0))..).any(|(_, other)| other == oid);
        assert!(there.contains(&(*tid, *oid)) || later(), "kill {kill}: object {oid} of {tid} is not there");
    }
    let mut blobs = 0;
    for (tid, revision) in all.iter().flat_map(|t| t.revisions.iter().map(|r| (t.tid, r))) {
        let is_blob = revision.data.as_deref().and_then(|data| Node::of(data, None));
        if is_blob.is_some_and(|node| node.beside != Beside::NoBlob) {
            continue;
        }
        let bytes =
            revision.blob.as_ref().unwrap_or_else(|| panic!("kill {kill}: {} of {tid} has no file", revision.oid));
        let bytes = bytes.bytes().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let serial = u64::from_str_radix(text.split(' ').nth(1).unwrap_or_default(), 16).unwrap();
        assert!(bytes == blob(revision.oid, Tid(serial)), "kill {kill}: the blob of {} of {tid} is torn", revision.oid);
        blobs += 1;
    }
    (storage, blobs)
}

fn kill(times: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(7);
    let (mut all, mut transactions, mut blobs) = (Vec::new(), 0, 0);
    for n in 0..times {
        let path = folder.path().join(format!("site{}.vellum", n / 20));
        if n % 20 == 0 {
            all.clear();
        }
        all.extend(killed_after(&path, 1 + dice.below(97)));
        let (storage, found) = look(&path, &all, n);
        transactions += storage.summary().unwrap().iter().find(|t| t.name == "transactions").unwrap().rows;
        blobs += found;
        drop(storage);
        if n % 20 == 19 {
            std::fs::remove_file(&path).unwrap();
            std::fs::remove_dir_all(path.with_extension("blobs")).unwrap();
        }
    }
    println!("{times} kills; {transactions} transactions and {blobs} blobs were looked at");
}

#[test]
fn a_killed_process_leaves_everything_acknowledged() {
    kill(5);
}

/// The same at length: a thousand kills.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_kills_lose_nothing() {
    kill(1000);
}
