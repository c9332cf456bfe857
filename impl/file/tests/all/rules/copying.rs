//! Many transactions at once are written as one after the other would be, for all concurrent events.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::told::{Before, told};
use crate::common::{
    CAN, Dice, PATH, SharedClock, all_transactions, commit, dump, format_problems, open_under_harness, options, record,
    transaction,
};
use vellum_disk::{SimDisk, Tear};
use vellum_file::{FileStorage, Options};
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::hosted::{Hosted, Opening};
use vellum_harness::run;
use vellum_storage::{
    Bulk, Error, Oid, Refusal, Revision, Status, Tid, TransactionMeta, TransactionRecord, Version, Voted,
};

/// A database that a random history of the harness left, with undos and versions.
fn history(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let under = disk.clone();
    let mut subject = Hosted::new("FileStorage", CAN, move |opening: Opening| {
        open_under_harness(Options::new().disk(Arc::new(under.clone())), opening)
    });
    run::play_random(&mut subject, &mut Seed::of(seed, 0), 60, &mut Coverage::default()).unwrap();
    disk
}

fn one_by_one(storage: &FileStorage, transactions: &[TransactionRecord]) {
    for TransactionRecord { tid, status, user, description, extension, revisions } in transactions.iter().cloned() {
        let meta = TransactionMeta { user, description, extension, tid: Some(tid), status };
        let mut change = storage.begin(meta).unwrap();
        revisions.into_iter().for_each(|revision| change.restore(revision).unwrap());
        storage.vote(change).unwrap().finish().unwrap();
    }
}

/// Splits them into batches.
fn batches(dice: &mut Dice, transactions: &[TransactionRecord]) -> Vec<Vec<TransactionRecord>> {
    let mut rest = transactions;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(rest.len().min(1 + dice.roll(12) as usize));
        batches.push(batch.to_vec());
        rest = later;
    }
    batches
}

#[test]
fn a_batch_makes_the_bytes_that_one_after_the_other_makes() {
    let mut copied = 0;
    for seed in 0..180 {
        let clock = SharedClock::new();
        let source = options(&history(seed), &clock).read_only().open(PATH).unwrap();
        let transactions = all_transactions(&source);
        let (one, other) = (SimDisk::new(1), SimDisk::new(2));
        one_by_one(&options(&one, &clock).create(PATH).unwrap(), &transactions);
        let copy = options(&other, &clock).copy_part([1, 300, 8 << 20][seed as usize % 3]).create(PATH).unwrap();
        for batch in batches(&mut Dice(seed), &transactions) {
            copy.copy_in(batch).unwrap();
        }
        assert_eq!(all_transactions(&copy), transactions, "seed {seed}");
        let after = dump(&copy);
        drop(copy);
        assert!(one.read_file(PATH) == other.read_file(PATH), "seed {seed}");
        assert_eq!(format_problems(&options(&other, &clock), PATH), [], "seed {seed}");
        // From the index that it left, and without.
        assert_eq!(dump(&options(&other, &clock).open(PATH).unwrap()), after, "seed {seed}");
        vellum_disk::Disk::remove(&other, Path::new("Data.fs.index")).unwrap();
        assert_eq!(dump(&options(&other, &clock).open(PATH).unwrap()), after, "seed {seed}");
        copied += transactions.len();
    }
    assert!(copied > 1000, "{copied}");
}

/// The power goes in every operation: the copy holds the beginning of the history, in complete transactions, with every
/// acknowledged batch; and it can be continued from there. Rules 3.0 and 3.7.
#[test]
fn a_crash_leaves_the_beginning_of_the_copy() {
    let (mut crashes, mut parts) = (0, 0);
    for seed in 0..12 {
        let clock = SharedClock::new();
        let mut transactions = all_transactions(&options(&history(seed), &clock).read_only().open(PATH).unwrap());
        // Some of the first as a pack leaves them.
        let packed = transactions.len() / 2 * (seed as usize % 3) / 2;
        transactions.iter_mut().take(packed).for_each(|transaction| transaction.status = Status::Packed);
        let copy = |disk: &SimDisk| -> Result<usize, usize> {
            let Ok(storage) =
                options(disk, &clock).threads(1).copy_part([8 << 20, 300][seed as usize % 2]).create(PATH)
            else {
                return Err(0);
            };
            let mut done = 0;
            for batch in batches(&mut Dice(seed), &transactions) {
                let length = batch.len();
                if storage.copy_in(batch).is_err() {
                    return Err(done);
                }
                done += length;
            }
            Ok(done)
        };
        let whole = SimDisk::new(seed);
        copy(&whole).unwrap();
        for operation in 0..whole.operations() {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let disk = SimDisk::new(seed);
                disk.stop_at(operation, tear);
                let acknowledged = match copy(&disk) {
                    Ok(done) | Err(done) => done,
                };
                // A crash decides the remains of each sector by dice.
                for dice in 0..4 {
                    let disk = disk.crash(seed ^ operation << 8 ^ dice << 32);
                    let case = format!("seed {seed}, operation {operation}, {tear:?}, {dice}");
                    crashes += 1;
                    let opened = options(&disk, &clock).open_or_create(PATH);
                    let Ok(storage) = opened else {
                        assert_eq!(acknowledged, 0, "{case}: {}", opened.unwrap_err());
                        continue;
                    };
                    let found = all_transactions(&storage);
                    assert!(found.len() >= acknowledged, "{case}");
                    assert_eq!(found, transactions[..found.len()], "{case}");
                    parts += u64::from(found.len() > acknowledged);
                    storage.copy_in(transactions[found.len()..].to_vec()).unwrap();
                    assert_eq!(all_transactions(&storage), transactions, "{case}");
                }
            }
        }
    }
    println!("{crashes} crashes, {parts} of which left more than was acknowledged");
    assert!(crashes > 500 && parts > 0, "{crashes}, {parts}");
}

#[test]
fn what_can_not_be_copied_is_refused_before_anything_is_written() {
    let clock = SharedClock::new();
    let disk = SimDisk::new(0);
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let last = commit(&storage, "here", &[(1, Some(record(b"1")))]).unwrap();
    let transactions = all_transactions(&storage);
    let before = disk.read_file(PATH);
    let later = |change: &dyn Fn(&mut TransactionRecord)| {
        let mut transaction = TransactionRecord { tid: last.next(), ..transactions[0].clone() };
        change(&mut transaction);
        transaction
    };
    let fine = later(&|_| ());
    type Expected = fn(&Error) -> bool;
    let cases: [(TransactionRecord, Expected); 5] = [
        (later(&|t| t.tid = last), |e| matches!(e, Error::Refused(Refusal::TidNotLater { .. }))),
        (later(&|_| ()), |e| matches!(e, Error::Refused(Refusal::TidNotLater { .. }))),
        (later(&|t| t.user = vec![b'x'; 65_536].into()), |e| {
            matches!(e, Error::Refused(Refusal::MetadataTooLong { .. }))
        }),
        (later(&|t| t.revisions[0].data = Some("".into())), |e| {
            matches!(e, Error::Refused(Refusal::EmptyRecord { oid: Oid(1) }))
        }),
        (later(&|t| t.status = Status::Undone), |e| matches!(e, Error::CommittedAsUndone)),
    ];
    for (bad, expected) in cases {
        let refused = storage.copy_in(vec![fine.clone(), bad]).unwrap_err();
        assert!(expected(&refused), "{refused}");
        assert_eq!(disk.read_file(PATH), before);
    }
    assert!(storage.copy_in(Vec::new()).is_ok());
    assert_eq!(disk.read_file(PATH), before);
    drop(storage);
    let storage = options(&disk, &clock).quota(before.as_ref().map_or(0, |b| b.len() as u64 + 50)).open(PATH).unwrap();
    assert!(matches!(storage.copy_in(vec![fine.clone()]).unwrap_err(), Error::Quota { .. }));
    drop(storage);
    let storage = options(&disk, &clock).read_only().open(PATH).unwrap();
    assert!(matches!(storage.copy_in(vec![fine]).unwrap_err(), Error::ReadOnly { .. }));
    assert_eq!(storage.last_transaction(), last);
    assert_ne!(last, Tid::ZERO);
}

/// A packed record names no earlier one. A reader that began before it was there, or while it is being shown, must
/// still find the earlier one.
#[test]
fn a_packed_revision_hides_nothing_from_earlier_readers() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let voted: Arc<Mutex<Option<Voted>>> = Arc::default();
    let finish = Arc::clone(&voted);
    let storage = told(
        &disk,
        &clock,
        Arc::new(move |what, _, _| {
            // While an index is being saved that ends before it.
            // Not in one expression: finishing is a disk operation, too.
            let voted = finish.lock().unwrap().take_if(|_| what == "open beside");
            if let Some(voted) = voted {
                voted.finish().unwrap();
            }
        }),
    );
    let storage = storage.create(PATH).unwrap();
    commit(&storage, "first", &[(1, Some(record(b"1"))), (2, Some(record(b"2")))]).unwrap();
    let early = storage.current_records(Oid::ROOT);
    let meta = TransactionMeta { status: Status::Packed, ..TransactionMeta::new() };
    let mut change = storage.begin(meta).unwrap();
    for oid in [1, 1, 2] {
        let revision = Revision {
            oid: Oid(oid),
            version: Version::TRUNK,
            data: Some(record(b"new")),
            blob: None,
            source: None,
            base: None,
        };
        change.restore(revision).unwrap();
    }
    *voted.lock().unwrap() = Some(storage.vote(change).unwrap());
    storage.save_index().unwrap();
    assert!(voted.lock().unwrap().is_none());
    let found: Vec<_> = early.map(|found| found.unwrap().data).collect();
    assert_eq!(found, [record(b"1"), record(b"2")]);
    assert_eq!(storage.load(Oid(1), &Version::TRUNK).unwrap().data, record(b"new"));
    assert_eq!(storage.history(Oid(1), 9).unwrap().len(), 1);
}

/// Revisions that name sources which are not there: looking for each costs no walk over a large transaction.
#[test]
fn a_source_that_is_not_here_costs_little() {
    const OBJECTS: u64 = 3000;
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    let before: Before = Arc::new(move |what, _, _| {
        counted.fetch_add((what == "read").into(), Ordering::Relaxed);
    });
    let storage = told(&disk, &clock, before).create(PATH).unwrap();
    let many: Vec<(u64, &[u8])> = (0..OBJECTS).map(|oid| (oid, &b"x"[..])).collect();
    storage.copy_in(vec![transaction(1000, Status::Complete, &many)]).unwrap();
    let mut later = transaction(2000, Status::Complete, &many[..100]);
    later.revisions.iter_mut().for_each(|revision| revision.source = Some(Tid(10)));
    reads.store(0, Ordering::Relaxed);
    storage.copy_in(vec![later]).unwrap();
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads < 1000, "{reads} reads");
}
