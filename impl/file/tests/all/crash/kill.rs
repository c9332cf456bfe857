//! A process with eight committing threads is killed, again and again. The file alone must have every acknowledged
//! transaction, whole; and so must the file with its journal.

use std::path::Path;

use crate::common::{Dice, all_transactions, record};
use vellum_file::{Durability, Options};
use vellum_harness::kill as process;
use vellum_storage::{Oid, Tid, TransactionMeta};

const THREADS: u64 = 8;

fn options() -> Options {
    Options::new().durability(Durability::Journal).journal_bytes(300 << 10)
}

/// Commits until it is killed. Only for a process that was started for it.
#[test]
#[ignore = "runs in a process that is killed"]
fn commits_until_it_is_killed() {
    let Some(path) = process::path() else { return };
    let storage = options().open_or_create(path).unwrap();
    let first = storage.last_transaction().0;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let storage = &storage;
            scope.spawn(move || {
                let mut dice = Dice(first + thread);
                // Bounded, in case that nobody kills it.
                for _ in 0..20_000 {
                    let oid = Oid(thread * 10 + dice.roll(10));
                    let serial = storage.newest_record(oid).unwrap().map_or(Tid::ZERO, |record| record.header.tid);
                    // One in forty is too large for the journal.
                    let length = [100_000, 3000, 10, 300][dice.roll(40).min(3) as usize];
                    let mut change = storage.begin(TransactionMeta::new()).unwrap();
                    change.store(oid, serial, record(&vec![thread as u8; length])).unwrap();
                    let tid = storage.vote(change).unwrap().finish().unwrap();
                    process::acknowledge(tid.0);
                }
            });
        }
    });
}

/// Starts the process, kills it after so many acknowledgements, and returns all that it gave.
fn killed_after(path: &Path, count: u64) -> Vec<Tid> {
    let lines = process::killed_after("crash::kill::commits_until_it_is_killed", path, count as usize).unwrap();
    assert!(lines.len() as u64 >= count, "it ended by itself");
    lines.iter().map(|tid| Tid(tid.parse().unwrap())).collect()
}

fn kill(times: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(7);
    let (mut all, mut total, mut only_journaled) = (Vec::new(), 0, 0);
    for n in 0..times {
        let path = folder.path().join(format!("Data{}.fs", n / 20));
        if n % 20 == 0 {
            all.clear();
        }
        // A prime, so that the kills come everywhere between two syncs of the data file.
        all.extend(killed_after(&path, 1 + dice.roll(211)));
        // Without the journal, as ZODB would see it.
        let alone = folder.path().join("alone.fs");
        std::fs::copy(&path, &alone).unwrap();
        let there = all_transactions(&Options::new().open(&alone).unwrap());
        let mut missing = all.iter().filter(|tid| there.binary_search_by_key(*tid, |t| t.tid).is_err());
        assert_eq!(missing.next(), None, "kill {n}: not in the file");
        std::fs::remove_file(&alone).unwrap();
        std::fs::remove_file(folder.path().join("alone.fs.index")).unwrap();
        // With it: a transaction that was synced there, and not yet appended, is there as well.
        let reader = all_transactions(&options().read_only().open(&path).unwrap());
        assert!(reader.starts_with(&there), "kill {n}: the journal takes something away");
        only_journaled += reader.len() - there.len();
        total = total.max(there.len());
        let mut problems = Vec::new();
        vellum_file::check(&options(), &path, &mut |problem| problems.push(problem)).unwrap();
        problems.retain(|problem| !matches!(problem.kind, vellum_file::ProblemKind::UnfinishedEnd { .. }));
        assert_eq!(problems, [], "kill {n}");
        if n % 20 == 19 {
            std::fs::remove_file(&path).unwrap();
        }
    }
    println!("{times} kills, up to {total} transactions; {only_journaled} were only in the journal");
}

#[test]
fn a_killed_process_leaves_everything_acknowledged_in_the_file() {
    kill(20);
}

/// The same at length: a thousand kills.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_kills_lose_nothing() {
    kill(1000);
}
