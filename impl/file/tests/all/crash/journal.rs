//! The power goes at every write and every sync of the journal and of the data file: commits, batches, packs, copies,
//! commits that are too large for the journal, and reopenings with and without it.
//!
//! A half of the journal has 16 KiB here, which is room for four commits. So each history goes round several times.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{
    Dice, PATH, SharedClock, all_transactions, commit, everything_but_the_lock, options, problems, record, transaction,
};
use bytes::Bytes;
use vellum_disk::{Disk, SimDisk, Tear};
use vellum_file::{Durability, FileStorage, JournalState, Options, Packing, Unwatched, left_journal};
use vellum_storage::{Bulk, Oid, Result, Status, Tid, TransactionMeta, TransactionRecord, Voted};

const JOURNAL: &str = "Data.fs.journal";

#[derive(Clone, Debug)]
enum Step {
    /// One transaction: the object, and the record that it stores.
    Commit(u64, Bytes),
    /// Transactions on different objects that are one batch.
    Together(Vec<(u64, Bytes)>),
    Pack {
        keep_old: bool,
    },
    /// Transactions of another storage.
    CopyIn(u64),
    Reopen(Durability),
}

fn journaled(disk: &SimDisk, clock: &SharedClock) -> Options {
    options(disk, clock).durability(Durability::Journal).journal_bytes(36 << 10).threads(1)
}

/// Whether the sectors of this history's disk can be torn. Then all of its commits go to the journal: `Full` relies on
/// whole sectors.
fn is_torn(seed: u64) -> bool {
    seed.is_multiple_of(4)
}

fn history(seed: u64) -> Vec<Step> {
    let mut dice = Dice(seed);
    let lengths = if is_torn(seed) { 4 } else { 8 };
    let data = |dice: &mut Dice| {
        // The last two do not fit into a batch of this journal.
        let length = [1, 20, 300, 511, 1500, 3500, 4100, 9000][dice.roll(lengths) as usize] + dice.roll(12) as usize;
        record(&vec![dice.roll(256) as u8; length])
    };
    let mut steps = vec![Step::Commit(0, data(&mut dice))];
    // A journal that is never retired has to go round, too.
    let count = if is_torn(seed) { 9 } else { 3 };
    for _ in 0..count + dice.roll(6) {
        let step = if is_torn(seed) { 5 + dice.roll(11) } else { dice.roll(16) };
        steps.push(match step {
            0 => Step::Reopen(Durability::Full),
            1 => Step::Reopen(Durability::Journal),
            2 | 3 => Step::Pack { keep_old: dice.roll(2) == 0 },
            4 => Step::CopyIn(dice.roll(3)),
            5..8 => {
                Step::Together((0..2 + dice.roll(3)).map(|n| (10 * n + 10 + dice.roll(3), data(&mut dice))).collect())
            }
            _ => Step::Commit(dice.roll(6), data(&mut dice)),
        });
    }
    steps
}

/// The databases after each step, and the operations of the disk until then.
struct Whole {
    states: Vec<Vec<TransactionRecord>>,
    operations: Vec<u64>,
}

/// How far a run came: the steps that are done, and the transactions of the next one that were acknowledged.
#[derive(Default)]
struct Run {
    done: usize,
    acknowledged: usize,
}

fn vote(storage: &FileStorage, oid: u64, data: &Bytes) -> Result<Voted> {
    let serial = storage.newest_record(Oid(oid))?.map_or(Tid::ZERO, |record| record.header.tid);
    let mut change = storage.begin(TransactionMeta::new().user("crash"))?;
    change.store(Oid(oid), serial, data.clone())?;
    storage.vote(change)
}

/// Does one step. The number of acknowledged transactions if it was not done.
fn perform(disk: &SimDisk, clock: &SharedClock, storage: &mut Option<FileStorage>, step: &Step) -> Result<(), usize> {
    let open = storage.as_ref().ok_or(0_usize)?;
    match step {
        Step::Commit(oid, data) => vote(open, *oid, data).and_then(Voted::finish).map(drop).map_err(|_| 0),
        Step::Together(all) => {
            let voted: Result<Vec<_>> = all.iter().map(|(oid, data)| vote(open, *oid, data)).collect();
            let outcomes = Voted::finish_all(voted.map_err(|_| 0_usize)?);
            let fine = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
            if fine == all.len() { Ok(()) } else { Err(fine) }
        }
        Step::Pack { keep_old } => {
            let how = Packing::new().collect(false).keep_old(*keep_old);
            open.pack_with(Tid::MAX, how, &mut Unwatched).map(drop).map_err(|_| 0)
        }
        Step::CopyIn(count) => {
            let after = |n: u64| open.last_transaction().0 + n + 1;
            let copied = |n| transaction(after(n), Status::Complete, &[(30 + n, b"copied"), (n, b"over")]);
            open.copy_in((0..=*count).map(copied).collect()).map_err(|_| 0)
        }
        Step::Reopen(durability) => {
            drop(storage.take());
            let options = journaled(disk, clock).durability(*durability);
            *storage = Some(options.open(PATH).map_err(|_| 0_usize)?);
            Ok(())
        }
    }
}

fn play(steps: &[Step], disk: &SimDisk, mut each: impl FnMut(&FileStorage)) -> (Run, Option<FileStorage>) {
    let clock = SharedClock::new();
    let mut storage = journaled(disk, &clock).create(PATH).ok();
    if let Some(storage) = &storage {
        each(storage);
    }
    let mut run = Run::default();
    for step in steps {
        clock.tick();
        match perform(disk, &clock, &mut storage, step) {
            Ok(()) => run.done += 1,
            Err(acknowledged) => {
                run.acknowledged = acknowledged;
                break;
            }
        }
        if let Some(storage) = &storage {
            each(storage);
        }
    }
    (run, storage)
}

fn whole(steps: &[Step], seed: u64) -> Whole {
    let disk = SimDisk::new(seed);
    let (mut states, mut operations) = (Vec::new(), Vec::new());
    let (run, storage) = play(steps, &disk, |storage| {
        states.push(all_transactions(storage));
        operations.push(disk.operations());
    });
    assert_eq!(run.done, steps.len(), "{steps:?}");
    drop(storage);
    operations.push(disk.operations());
    Whole { states, operations }
}

/// Whether these transactions can be found after a crash.
fn is_allowed(whole: &Whole, steps: &[Step], run: &Run, there: &[TransactionRecord]) -> bool {
    let before = &whole.states[run.done];
    let Some(step) = steps.get(run.done) else { return there == &before[..] };
    let after = &whole.states[run.done + 1];
    match step {
        Step::Pack { .. } => there == &before[..] || there == &after[..],
        _ => after.starts_with(there) && there.len() >= before.len() + run.acknowledged,
    }
}

/// Opens what a crash left, in every way, and checks it.
fn look(found: &SimDisk, whole: &Whole, steps: &[Step], run: &Run, dice: &mut Dice) {
    let clock = SharedClock::new();
    clock.0.advance(jiff::SignedDuration::from_hours(1));
    let options = journaled(found, &clock);
    let files = everything_but_the_lock(found);
    let reader = options.clone().read_only().open(PATH).unwrap();
    let shown = all_transactions(&reader);
    drop(reader);
    assert!(is_allowed(whole, steps, run, &shown), "a reader sees {} transactions, which cannot be", shown.len());
    assert!(everything_but_the_lock(found) == files, "a reader has written");
    let durability = if dice.roll(3) == 0 { Durability::Full } else { Durability::Journal };
    cut_the_opening(found, &options.clone().durability(durability), &shown, dice);
    let opened = options.clone().durability(durability).open(PATH).unwrap();
    assert!(all_transactions(&opened) == shown, "the writer sees something else than the reader");
    let fresh = record(b"afterwards");
    let tid = commit(&opened, "afterwards", &[(99, Some(fresh))]).unwrap();
    assert_eq!(problems(&options, PATH), [], "of the file beside its journal");
    // And the same after another crash, and by the index or without it.
    let again = if dice.roll(2) == 0 { found.crash(dice.roll(u64::MAX)) } else { found.clone() };
    drop(opened);
    if dice.roll(2) == 0 {
        let _ = again.remove(Path::new("Data.fs.index"));
    }
    let opened = options.disk(Arc::new(again.clone())).open(PATH).unwrap();
    let there = all_transactions(&opened);
    assert!(there[..shown.len()] == shown[..] && there.len() == shown.len() + 1);
    assert_eq!(opened.last_transaction(), tid);
    drop(opened);
    assert!(again.read_file(JOURNAL).is_none(), "a clean close leaves no journal");
}

/// The power goes again while the file is opened, and completed from its journal.
fn cut_the_opening(found: &SimDisk, options: &Options, shown: &[TransactionRecord], dice: &mut Dice) {
    let again = found.crash_keeping_everything();
    let tear = [Tear::NotAtAll, Tear::Partly, Tear::Wholly][dice.roll(3) as usize];
    again.stop_at(dice.roll(12), tear);
    let opened = options.clone().disk(Arc::new(again.clone())).open(PATH);
    for left in [again.crash_losing_everything(), again.crash(dice.roll(u64::MAX))] {
        let reader = options.clone().disk(Arc::new(left)).read_only().open(PATH).unwrap();
        assert!(all_transactions(&reader) == shown, "a second power cut, in the opening, has changed the database");
    }
    drop(opened);
}

/// After a kill of the process the data file alone has everything.
fn look_without_the_journal(found: &SimDisk, whole: &Whole, steps: &[Step], run: &Run) {
    let _ = found.remove(Path::new(JOURNAL));
    let clock = SharedClock::new();
    let there = all_transactions(&options(found, &clock).open(PATH).unwrap());
    assert!(
        is_allowed(whole, steps, run, &there),
        "after a kill, the data file alone has {} transactions",
        there.len()
    );
}

fn crash_everywhere(seeds: std::ops::Range<u64>) -> u64 {
    let mut crashes = 0;
    for seed in seeds {
        let steps = history(seed);
        let whole = whole(&steps, seed);
        // The file is there from the first operation count on.
        let created = whole.operations[0];
        for operation in created..*whole.operations.last().unwrap() {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let disk = SimDisk::new(seed);
                disk.tear_sectors(is_torn(seed));
                disk.keep_trace(200);
                disk.stop_at(operation, tear);
                let (run, storage) = play(&steps, &disk, |_| ());
                let mut dice = Dice(operation * 3 + tear as u64);
                let kept = disk.crash_keeping_everything();
                let found = [
                    disk.crash_losing_everything(),
                    kept.clone(),
                    disk.crash(dice.roll(u64::MAX)),
                    disk.crash(dice.roll(u64::MAX)),
                ];
                let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    look_without_the_journal(&kept.crash_keeping_everything(), &whole, &steps, &run);
                    for found in &found {
                        look(found, &whole, &steps, &run, &mut dice);
                    }
                }));
                crashes += found.len() as u64;
                let trace = disk.trace();
                drop(storage);
                if looked.is_err() {
                    panic!(
                        "history {seed}, power off in operation {operation} ({tear:?}), step {}:\n{:.300}\n{}",
                        run.done,
                        format!("{:?}", steps.get(run.done)),
                        trace.join("\n")
                    );
                }
            }
        }
    }
    crashes
}

/// Rule 3.0.
#[test]
fn a_prefix_with_everything_acknowledged_is_there_wherever_the_power_goes() {
    println!("{} crashes", crash_everywhere(0..20));
}

/// The same at length: 2,000 histories.
#[test]
#[ignore = "takes an hour or more"]
fn a_prefix_is_there_in_two_thousand_histories() {
    const STEP: usize = 20;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (done, crashes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (done, crashes) = (&done, &crashes);
            scope.spawn(move || {
                for seed in (100_000..102_000).step_by(STEP).skip(thread).step_by(threads) {
                    let found = crash_everywhere(seed..seed + STEP as u64);
                    let histories = done.fetch_add(STEP as u64, Ordering::Relaxed) + STEP as u64;
                    println!("{histories} histories, {} crashes", crashes.fetch_add(found, Ordering::Relaxed) + found);
                }
            });
        }
    });
}

/// An operation fails, and the power stays on. The failed commit is not there, and everything acknowledged is, also
/// after a crash at the end: a failed sync may have dropped what it did not write.
#[test]
fn a_failed_operation_loses_nothing_that_was_acknowledged() {
    let mut failures = 0;
    for seed in 0..12 {
        let data = |n: u64| record(&vec![n as u8; [10, 600, 5000][(n % 3) as usize]]);
        let run = |disk: &SimDisk| {
            let clock = SharedClock::new();
            let storage = journaled(disk, &clock).create(PATH).unwrap();
            let started = disk.operations();
            (clock, storage, started)
        };
        let count = 8 + seed % 3;
        let disk = SimDisk::new(seed);
        let (_, storage, started) = run(&disk);
        for n in 0..count {
            commit(&storage, "one", &[(n % 4, Some(data(n)))]).unwrap();
        }
        let ended = disk.operations();
        drop(storage);
        for operation in started..ended {
            for partial in [false, true] {
                let disk = SimDisk::new(seed);
                let (clock, storage, _) = run(&disk);
                disk.keep_trace(100);
                disk.fail_at(operation, std::io::ErrorKind::Other, partial);
                let (mut acknowledged, mut unknown) = (Vec::new(), 0);
                for n in 0..count {
                    clock.tick();
                    match commit(&storage, "one", &[(n % 4, Some(data(n)))]) {
                        Ok(tid) => acknowledged.push(tid),
                        Err(_) => {
                            // If nothing more can be written, the outcome is for the opening to find out.
                            unknown = usize::from(storage.begin(TransactionMeta::new()).is_err());
                            if unknown > 0 {
                                break;
                            }
                        }
                    }
                }
                failures += 1;
                let is_fine = |there: &[TransactionRecord]| {
                    let tids: Vec<_> = there.iter().map(|transaction| transaction.tid).collect();
                    tids.starts_with(&acknowledged) && tids.len() <= acknowledged.len() + unknown
                };
                let case = format!("history {seed}, operation {operation} failed (partial: {partial})");
                assert!(is_fine(&all_transactions(&storage)), "{case}: at once");
                for found in [disk.crash_losing_everything(), disk.crash(operation), disk.crash_keeping_everything()] {
                    let opened = journaled(&found, &clock).open(PATH).unwrap();
                    let there = all_transactions(&opened);
                    assert!(is_fine(&there), "{case}: {} there\n{}", there.len(), disk.trace().join("\n"));
                    // No later crash takes away the commits that the opening accepted.
                    let later = found.crash_losing_everything();
                    drop(opened);
                    let opened = journaled(&later, &clock).open(PATH).unwrap();
                    assert!(all_transactions(&opened) == there, "{case}: lost after it was opened");
                }
                // Without a crash: the process starts again, and the system still shows bytes that it failed to write.
                drop(storage);
                let opened = journaled(&disk, &clock).open(PATH).unwrap();
                let there = all_transactions(&opened);
                assert!(is_fine(&there), "{case}: opened again");
                drop(opened);
                let later = journaled(&disk.crash_losing_everything(), &clock).open(PATH).unwrap();
                assert!(all_transactions(&later) == there, "{case}: shown by the file, and not on the disk");
            }
        }
    }
    println!("{failures} failures");
}

/// The sync of the data file fails, behind the commits: nothing more is written, and the journal has what is missing.
#[test]
fn a_failed_sync_behind_the_commits_ends_writing() {
    let disk = SimDisk::new(1);
    let clock = SharedClock::new();
    let storage = journaled(&disk, &clock).create(PATH).unwrap();
    for n in 0..4 {
        commit(&storage, "one", &[(n, Some(record(b"x")))]).unwrap();
    }
    // The fifth goes to the other half: the data file is synced.
    disk.fail_at(disk.operations(), std::io::ErrorKind::Other, false);
    let error = commit(&storage, "five", &[(5, Some(record(b"x")))]).unwrap_err();
    assert!(error.to_string().contains("behind the journal"), "{error}");
    assert!(commit(&storage, "six", &[(6, Some(record(b"x")))]).is_err());
    drop(storage);
    let found = disk.crash_losing_everything();
    let left = left_journal(&journaled(&found, &clock), PATH).unwrap().unwrap();
    assert!(matches!(left.state, JournalState::Needed { .. }), "{left}");
    assert_eq!(all_transactions(&journaled(&found, &clock).open(PATH).unwrap()).len(), 4);
}
