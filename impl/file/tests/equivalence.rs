//! A storage in a file answers as the simplest storage does, whatever is done to both.

mod common;

use bytes::Bytes;
use common::*;
use jiff::SignedDuration;
use proptest::prelude::*;
use vellum_disk::{Disk, SimDisk};
use vellum_file::{Durability, FileStorage};
use vellum_storage::{
    Contested, Error, MemoryStorage, Oid, Order, Resolver, Result, Status, Storage, Tid, TidRange, TransactionMeta,
    Version,
};

const OIDS: u64 = 5;

/// Which revision a change claims to be made to.
#[derive(Clone, Copy, Debug)]
enum Serial {
    Newest,
    Zero,
    Before,
    Wrong,
}

#[derive(Clone, Debug)]
enum Change {
    Store(u64, Serial, u8, usize),
    Delete(u64, Serial),
    Check(u64, Serial),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Finish,
    DropDraft,
    DropVoted,
    /// The vote is tried, and a second transaction on the same objects meanwhile.
    TryTwice,
}

#[derive(Clone, Debug)]
enum Step {
    Commit {
        changes: Vec<Change>,
        end: End,
        user: u8,
        /// A tid asked for: so far after the last, or before it.
        tid: Option<i64>,
        status: Status,
    },
    Reopen {
        with_index: bool,
    },
    NewOids(u32),
    Clock(i64),
}

fn serial() -> impl Strategy<Value = Serial> {
    prop_oneof![6 => Just(Serial::Newest), 1 => Just(Serial::Zero), 1 => Just(Serial::Before), 1 => Just(Serial::Wrong)]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..OIDS, serial(), any::<u8>(), prop_oneof![1..40usize, 500..600usize])
            .prop_map(|(oid, serial, fill, length)| Change::Store(oid, serial, fill, length)),
        1 => (0..OIDS, serial()).prop_map(|(oid, serial)| Change::Delete(oid, serial)),
        1 => (0..OIDS, serial()).prop_map(|(oid, serial)| Change::Check(oid, serial)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![8 => Just(End::Finish), 1 => Just(End::DropDraft), 1 => Just(End::DropVoted), 1 => Just(End::TryTwice)];
    let tid = prop_oneof![8 => Just(None), 1 => (-1..5i64).prop_map(Some)];
    let status = prop_oneof![8 => Just(Status::Complete), 1 => Just(Status::Packed), 1 => Just(Status::Undone)];
    prop_oneof![
        8 => (prop::collection::vec(change(), 0..5), end, 0..3u8, tid, status)
            .prop_map(|(changes, end, user, tid, status)| Step::Commit { changes, end, user, tid, status }),
        1 => any::<bool>().prop_map(|with_index| Step::Reopen { with_index }),
        1 => (0..4u32).prop_map(Step::NewOids),
        1 => (-100..100i64).prop_map(Step::Clock),
    ]
}

/// Merges what is not too different, so that some conflicts are none.
#[derive(Clone, Copy, Debug)]
struct Merger;

impl Resolver for Merger {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        let Contested { ancestor, committed, new, .. } = contested;
        let alike = ancestor.len() % 2 == new.len() % 2;
        alike.then(|| record(&[&committed[..committed.len().min(30)], &new[..new.len().min(30)]].concat()))
    }
}

/// What there is in common of two errors: everything but names.
fn kind<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(Error::ReadOnly { .. }) => "read-only".into(),
        Err(error) => format!("{error:?}"),
    }
}

fn play_one(storage: &dyn Storage, step: &Step) -> Vec<String> {
    let Step::Commit { changes, end, user, tid, status } = step else { unreachable!() };
    let mut said = Vec::new();
    let last = storage.last_transaction();
    let mut meta = TransactionMeta::new().user(vec![b'u'; usize::from(*user)]).description("a step");
    meta.status = *status;
    meta.tid = tid.map(|by| Tid(last.0.saturating_add_signed(by)));
    let serial_of = |oid: u64, serial: Serial| {
        let past = storage.history(Oid(oid), 2).unwrap_or_default();
        match serial {
            Serial::Newest => past.first().map_or(Tid::ZERO, |e| e.tid),
            Serial::Zero => Tid::ZERO,
            Serial::Before => past.get(1).map_or(Tid(7), |e| e.tid),
            Serial::Wrong => last.next(),
        }
    };
    let begin = || {
        let mut said = Vec::new();
        let mut transaction = match storage.begin(meta.clone()) {
            Ok(transaction) => transaction,
            Err(error) => return (vec![kind::<()>(Err(error))], None),
        };
        for change in changes {
            said.push(kind(match change {
                Change::Store(oid, serial, fill, length) => {
                    let data = if *fill == 0 { Bytes::new() } else { record(&vec![*fill; *length]) };
                    transaction.store(Oid(*oid), serial_of(*oid, *serial), data)
                }
                Change::Delete(oid, serial) => transaction.delete(Oid(*oid), serial_of(*oid, *serial)),
                Change::Check(oid, serial) => transaction.check_current(Oid(*oid), serial_of(*oid, *serial)),
            }));
        }
        (said, Some(transaction))
    };
    let (first, transaction) = begin();
    said.extend(first);
    let Some(transaction) = transaction else { return said };
    if let End::DropDraft = end {
        return said;
    }
    let voted = match transaction.vote() {
        Ok(voted) => voted,
        Err(error) => {
            said.push(kind::<()>(Err(error)));
            return said;
        }
    };
    said.push(format!("{:?}", voted.resolved()));
    match end {
        End::DropVoted => return said,
        End::TryTwice => {
            // Which of the objects it says it is busy with is nobody's concern.
            let outcome = begin().1.unwrap().try_vote().map(|vote| matches!(vote, vellum_storage::Vote::Busy(..)));
            said.push(kind(outcome));
        }
        _ => {}
    }
    said.push(kind(voted.finish()));
    said
}

/// Everything that both can be asked.
fn answers(storage: &dyn Storage) -> Vec<String> {
    let last = storage.last_transaction();
    let mut said = vec![format!("{last} {}", storage.object_count())];
    let walk = |range, order| -> Vec<_> { storage.transactions(range, order).unwrap().map(|t| t.unwrap()).collect() };
    let all = walk(TidRange::ALL, Order::OldestFirst);
    said.push(format!("{all:?}"));
    let tids: Vec<_> = all.iter().map(|t| t.tid).collect();
    let mut moments = vec![Tid::ZERO, Tid(1), Tid::MAX];
    moments.extend(tids.iter().rev().take(6).flat_map(|t| [Tid(t.0 - 1), *t, t.next()]));
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for first in moments.iter().step_by(2) {
            for last in moments.iter().step_by(3) {
                let found = walk(TidRange { first: *first, last: *last }, order);
                said.push(format!("{first} {last} {order:?} {:?}", found.iter().map(|t| t.tid).collect::<Vec<_>>()));
            }
        }
    }
    for oid in (0..=OIDS).map(Oid) {
        said.push(kind(storage.load(oid, &Version::TRUNK)));
        said.push(kind(storage.load(oid, &Version::named("somewhere"))));
        said.push(kind(storage.history(oid, 100)));
        said.push(kind(storage.history(oid, 1)));
        for moment in &moments {
            said.push(format!("{oid} {moment} {}", kind(storage.load_before(oid, *moment))));
            said.push(kind(storage.load_serial(oid, *moment)));
        }
    }
    for count in [0, 1, 3, usize::MAX] {
        said.push(kind(storage.last_invalidations(count)));
    }
    for first in [0, 2, OIDS, u64::MAX] {
        said.push(kind(storage.current_records(Oid(first)).collect::<Result<Vec<_>>>()));
    }
    said
}

fn compare(steps: &[Step], durability: Durability, spill_after: u64) -> Result<usize, TestCaseError> {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options =
        options(&disk, &clock).durability(durability).spill_after(spill_after).resolver(std::sync::Arc::new(Merger));
    let mut file: FileStorage = options.create(PATH).unwrap();
    let memory = MemoryStorage::with("memory", Box::new(clock.clone()), Box::new(Merger));
    for step in steps {
        match step {
            Step::Commit { .. } => prop_assert_eq!(play_one(&file, step), play_one(&memory, step), "{:?}", step),
            Step::Reopen { with_index } => {
                drop(file);
                if !with_index {
                    let _ = disk.remove(std::path::Path::new("Data.fs.index"));
                }
                file = options.open(PATH).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(file.recovery(), None);
            }
            Step::NewOids(count) => {
                // After an opening those that nobody used may be given out again.
                let (one, other) = (file.new_oids(*count).unwrap(), memory.new_oids(*count).unwrap());
                prop_assert_eq!(one.len(), other.len());
                prop_assert!(one.iter().all(|oid| file.newest_record(*oid).unwrap().is_none()));
            }
            Step::Clock(by) => clock.0.advance(SignedDuration::from_secs(*by)),
        }
        let (found, expected) = (answers(&file), answers(&memory));
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(found, expected, "after {:?}", step);
        }
        prop_assert_eq!(found.len(), expected.len());
    }
    let count = answers(&file).len();
    drop(file);
    prop_assert_eq!(format_problems(&options, PATH), []);
    Ok(count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_answers_as_memory_does(steps in prop::collection::vec(step(), 1..16)) {
        for (durability, spill_after) in [(Durability::Full, u64::MAX), (Durability::Relaxed, 1)] {
            compare(&steps, durability, spill_after)?;
        }
    }
}
