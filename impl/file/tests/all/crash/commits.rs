//! The power goes at every write and every sync of hundreds of small histories. The file on the disk must then open,
//! hold exactly the first so many transactions of the history, among them every acknowledged one, and keep working.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use crate::common::all_transactions;
use bytes::Bytes;
use jiff::SignedDuration;
use vellum_disk::{SimDisk, Tear};
use vellum_file::{Durability, FileStorage, OpenError, Options};
use vellum_storage::{Event, ManualClock, Oid, Result, Tid, TransactionMeta, TransactionRecord, Version, Voted};

const PATH: &str = "Data.fs";

/// A small generator, so that a seed says everything.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// One transaction: what it stores (none: deletes) in which objects.
    Commit(Vec<(Oid, Option<Bytes>)>),
    /// Several transactions on different objects that share their syncs.
    Together(Vec<Vec<(Oid, Option<Bytes>)>>),
    /// Voted, and then dropped.
    Abort(Oid, Bytes),
    Reopen,
}

fn record(dice: &mut Dice) -> Bytes {
    let length = [1, 20, 300, 511, 1500][dice.roll(5) as usize] + dice.roll(12) as usize;
    let fill = dice.roll(256) as u8;
    let mut record = b"\x80\x03cm\nC\n.\x80\x03B".to_vec();
    record.extend_from_slice(&(length as u32).to_le_bytes());
    record.extend(std::iter::repeat_n(fill, length));
    record.push(b'.');
    record.into()
}

fn history(seed: u64) -> Vec<Step> {
    let mut dice = Dice(seed);
    let mut there: Vec<Oid> = Vec::new();
    let mut steps = Vec::new();
    for _ in 0..2 + dice.roll(4) {
        let mut change = |dice: &mut Dice, oid: Oid| {
            let known = there.contains(&oid);
            if !known {
                there.push(oid);
            }
            (oid, if known && dice.roll(5) == 0 { None } else { Some(record(dice)) })
        };
        steps.push(match dice.roll(8) {
            0 => Step::Reopen,
            1 => Step::Abort(Oid(dice.roll(4)), record(&mut dice)),
            2..4 => {
                let oids: Vec<_> = (0..2 + dice.roll(3)).map(|n| Oid(10 * n + 10 + dice.roll(3))).collect();
                Step::Together(oids.into_iter().map(|oid| vec![change(&mut dice, oid)]).collect())
            }
            _ => {
                let oids: Vec<_> = (0..dice.roll(4)).map(|_| Oid(dice.roll(6))).collect();
                Step::Commit(oids.into_iter().map(|oid| change(&mut dice, oid)).collect())
            }
        });
    }
    steps
}

/// The result of a run.
#[derive(Default)]
struct Run {
    /// Transactions that were acknowledged.
    acknowledged: usize,
}

fn options(disk: &SimDisk, clock: &Arc<ManualClock>, durability: Durability) -> Options {
    let options = Options::new().disk(Arc::new(disk.clone())).clock(Arc::clone(clock) as _).durability(durability);
    // Halves of 16 KiB, so that histories go round; and the same operations of the disk each time.
    if durability == Durability::Journal { options.journal_bytes(36 << 10).threads(1) } else { options }
}

fn serial(storage: &FileStorage, oid: Oid) -> Tid {
    storage.history(oid, 1).map_or(Tid::ZERO, |entries| entries[0].tid)
}

fn vote(storage: &FileStorage, what: &str, changes: &[(Oid, Option<Bytes>)]) -> Result<Voted> {
    let mut transaction = storage.begin(TransactionMeta::new().user("crash").description(what.to_owned()))?;
    for (oid, data) in changes {
        match data {
            Some(data) => transaction.store(*oid, serial(storage, *oid), data.clone())?,
            None => transaction.delete(*oid, serial(storage, *oid))?,
        }
    }
    storage.vote(transaction)
}

/// Finishes them together: an even number at once; of an odd number the first alone, and the others by a thread each,
/// which queue up while the first is being shown.
fn finish_together(storage: &FileStorage, voted: Vec<Voted>) -> Vec<Result<Tid>> {
    let count = voted.len();
    if count.is_multiple_of(2) {
        return Voted::finish_all(voted);
    }
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let (shown, is_shown) = mpsc::channel();
        let (go_on, gone_on) = mpsc::channel::<()>();
        let mut voted = voted.into_iter();
        let first = voted.next().unwrap();
        let outcomes = &outcomes;
        let hears = Mutex::new(Some((shown, gone_on)));
        let listening = storage.listen(Arc::new(move |_: &Event| {
            if let Some((shown, gone_on)) = hears.lock().unwrap().take() {
                let _ = shown.send(());
                let _ = gone_on.recv();
            }
        }));
        scope.spawn(move || {
            let _listening = listening;
            let outcome = first.finish();
            outcomes.lock().unwrap().push((0, outcome));
        });
        // An error if the first one failed: then no thread has to wait.
        let led = is_shown.recv().is_ok();
        for (n, next) in voted.enumerate() {
            scope.spawn(move || {
                let outcome = next.finish();
                outcomes.lock().unwrap().push((n + 1, outcome));
            });
            while led && storage.commits_waiting() < n + 1 {
                std::thread::yield_now();
            }
        }
        drop(go_on);
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(n, _)| *n);
    assert_eq!(outcomes.len(), count);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Plays the history until it is over or the power goes.
fn play(steps: &[Step], disk: &SimDisk, durability: Durability) -> Run {
    let clock = Arc::new(ManualClock::at("2003-04-01T00:00:00Z".parse().unwrap()));
    let mut run = Run::default();
    let Ok(mut storage) = options(disk, &clock, durability).create(PATH) else {
        return run;
    };
    for (n, step) in steps.iter().enumerate() {
        clock.advance(SignedDuration::from_secs(1));
        let what = format!("step {n}");
        match step {
            Step::Commit(changes) => match vote(&storage, &what, changes).and_then(|voted| voted.finish()) {
                Ok(_) => run.acknowledged += 1,
                Err(_) => return run,
            },
            Step::Together(all) => {
                let voted: Result<Vec<_>> = all.iter().map(|changes| vote(&storage, &what, changes)).collect();
                let Ok(voted) = voted else { return run };
                let outcomes = finish_together(&storage, voted);
                let fine = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
                assert!(outcomes[fine..].iter().all(|o| o.is_err()), "one that came later was acknowledged alone");
                run.acknowledged += fine;
                if fine < outcomes.len() {
                    return run;
                }
            }
            Step::Abort(oid, data) => {
                if vote(&storage, &what, &[(*oid, Some(data.clone()))]).is_err() {
                    return run;
                }
            }
            Step::Reopen => {
                drop(storage);
                match options(disk, &clock, durability).open(PATH) {
                    Ok(opened) => storage = opened,
                    Err(_) => return run,
                }
            }
        }
    }
    run
}

/// Opens the file that a crash left, and compares it with the whole history.
fn look(found: &SimDisk, expected: &[TransactionRecord], acknowledged: usize, durability: Durability) {
    let clock = Arc::new(ManualClock::at("2003-04-01T01:00:00Z".parse().unwrap()));
    let options = options(found, &clock, durability);
    let storage = match options.open(PATH) {
        Ok(storage) => storage,
        // The crash was before the database was there.
        Err(OpenError::NotFound { .. }) if acknowledged == 0 => options.create(PATH).unwrap(),
        Err(e) => panic!("it does not open: {e}"),
    };
    let there = all_transactions(&storage);
    assert!(there.len() >= acknowledged, "{} transactions of {acknowledged} acknowledged ones", there.len());
    match durability {
        Durability::Full | Durability::Journal => {
            assert!(there[..] == expected[..there.len()], "the file does not hold the beginning of the history")
        }
        // The last one, if it was not acknowledged, may have holes.
        Durability::Relaxed => {
            assert!(there.len() <= acknowledged + 1);
            assert!(
                there[..acknowledged] == expected[..acknowledged],
                "the file does not hold the beginning of the history"
            );
        }
    }
    if durability != Durability::Relaxed {
        for oid in (0..60).map(Oid) {
            let newest = there.iter().rev().flat_map(|t| t.revisions.iter().rev().map(move |r| (t.tid, r)));
            let newest = newest.into_iter().find(|(_, r)| r.oid == oid);
            let loaded = storage.load(oid, &Version::TRUNK).ok();
            let expected = newest.and_then(|(tid, r)| Some((tid, r.data.clone()?)));
            assert_eq!(loaded.map(|l| (l.tid, l.data)), expected, "{oid}");
        }
    }
    // It keeps working, and the commit is still there when it is opened again, by the index and without it.
    let fresh = record(&mut Dice(7));
    let tid = vote(&storage, "afterwards", &[(Oid(99), Some(fresh.clone()))]).unwrap().finish().unwrap();
    drop(storage);
    for without_index in [false, true] {
        if without_index {
            let _ = vellum_disk::Disk::remove(found, Path::new("Data.fs.index"));
        }
        let storage = options.open(PATH).unwrap();
        assert_eq!(storage.recovery(), None);
        let again = all_transactions(&storage);
        assert!(again[..there.len()] == there[..] && again.len() == there.len() + 1);
        assert_eq!(storage.load(Oid(99), &Version::TRUNK).unwrap().tid, tid);
    }
    if durability != Durability::Relaxed {
        let mut problems = Vec::new();
        vellum_file::check(&options, PATH, &mut |problem| problems.push(problem)).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }
}

fn crash_everywhere(seeds: std::ops::Range<u64>, durability: Durability) {
    let mut crashes = 0;
    for seed in seeds {
        let steps = history(seed);
        let whole = SimDisk::new(seed);
        play(&steps, &whole, durability);
        let clock = Arc::new(ManualClock::at("2003-04-01T01:00:00Z".parse().unwrap()));
        let expected = all_transactions(&options(&whole, &clock, durability).read_only().open(PATH).unwrap());
        for operation in 0..whole.operations() {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let disk = SimDisk::new(seed);
                disk.keep_trace(200);
                disk.stop_at(operation, tear);
                let run = play(&steps, &disk, durability);
                let crash = operation * 3 + tear as u64;
                for (name, found) in [
                    ("losing everything", disk.crash_losing_everything()),
                    ("keeping everything", disk.crash_keeping_everything()),
                    ("by chance", disk.crash(crash)),
                    ("by chance again", disk.crash(crash + 1_000_000)),
                ] {
                    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        look(&found, &expected, run.acknowledged, durability);
                    }));
                    if looked.is_err() {
                        panic!(
                            "history {seed}, power off in operation {operation} ({tear:?}), {name}:\n{steps:?}\n{}",
                            disk.trace().join("\n")
                        );
                    }
                    crashes += 1;
                }
            }
        }
    }
    println!("{crashes} crashes");
}

/// Rule 3.0.
#[test]
fn nothing_acknowledged_is_lost_and_nothing_half_made_is_seen() {
    crash_everywhere(0..200, Durability::Full);
}

/// Rule 3.0.
#[test]
fn with_a_journal_nothing_acknowledged_is_lost_and_nothing_half_made_is_seen() {
    crash_everywhere(2000..2200, Durability::Journal);
}

#[test]
fn in_the_weaker_order_nothing_acknowledged_is_lost() {
    crash_everywhere(1000..1060, Durability::Relaxed);
}
