//! A copy that is cut or fails: the copy shows the beginning of the history, and can be continued from there.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::common::told::{Before, told};
use crate::common::{BLOBS, Dice, PATH, SharedClock, all_transactions, check_blobs, options, transaction};
use bytes::Bytes;
use vellum_disk::{SimDisk, Tear};
use vellum_storage::{Blob, Bulk, Error, Revision, Status, Storage, Tid, TransactionRecord};

const A_LITTLE: Duration = Duration::from_micros(200);

/// As the crashes of `rules/copying.rs`, but with the sync of a part before the next one is appended, so that the marks
/// of the one meet a part that is torn.
#[test]
fn marks_may_reach_the_disk_while_the_next_part_is_torn() {
    let (mut crashes, mut more) = (0, 0);
    for seed in 0..6_u64 {
        let clock = SharedClock::new();
        let mut dice = Dice(seed);
        let transactions: Vec<_> = (0..20)
            .map(|n| {
                let status = if n < dice.roll(20) { Status::Packed } else { Status::Complete };
                let data = vec![n as u8; 1 + dice.roll(900) as usize];
                transaction(1000 + n, status, &[(dice.roll(5), &data), (dice.roll(5), &data)])
            })
            .collect();
        let copy = |disk: &SimDisk| {
            let synced = Arc::new((Mutex::new(0_u64), Condvar::new()));
            // An append of many bytes waits a little for a sync that may be under way.
            let before: Before = Arc::new(move |what, _, length| {
                let (count, changed) = &*synced;
                let mut count = count.lock().unwrap();
                match what {
                    "synced" => {
                        *count += 1;
                        changed.notify_all();
                    }
                    "write" if length > 1 => {
                        let had = *count;
                        drop(changed.wait_timeout_while(count, A_LITTLE, |now| *now == had).unwrap());
                    }
                    _ => {}
                }
            });
            let Ok(storage) = told(disk, &clock, before).threads(2).copy_part(1500).create(PATH) else { return 0 };
            let mut done = 0;
            for batch in transactions.chunks(10) {
                if storage.copy_in(batch.to_vec()).is_err() {
                    break;
                }
                done += batch.len();
            }
            done
        };
        let whole = SimDisk::new(seed);
        assert_eq!(copy(&whole), 20);
        for operation in 0..whole.operations() {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let disk = SimDisk::new(seed);
                disk.stop_at(operation, tear);
                let acknowledged = copy(&disk);
                for n in 0..4 {
                    let disk = disk.crash(seed ^ operation << 8 ^ n << 32);
                    crashes += 1;
                    let opened = options(&disk, &clock).threads(1).open_or_create(PATH);
                    let storage = match opened {
                        Ok(storage) => storage,
                        Err(error) => {
                            assert_eq!(acknowledged, 0, "seed {seed}, operation {operation}: {error}");
                            continue;
                        }
                    };
                    let found = all_transactions(&storage);
                    assert!(found.len() >= acknowledged, "seed {seed}, operation {operation}, {tear:?}");
                    assert_eq!(found, transactions[..found.len()], "seed {seed}, operation {operation}, {tear:?}");
                    more += u64::from(found.len() > acknowledged);
                    storage.copy_in(transactions[found.len()..].to_vec()).unwrap();
                    assert_eq!(
                        all_transactions(&storage),
                        transactions,
                        "seed {seed}, operation {operation}, {tear:?}"
                    );
                }
            }
        }
    }
    println!("{crashes} crashes, {more} with more than was acknowledged");
    assert!(crashes > 500 && more > 0, "{crashes}, {more}");
}

/// Parts of a copy overlap: while one is synced and its blobs are named, the next one is appended. Wherever the power
/// goes, each revision that the copy shows has its blob, and a blob of another revision is not there.
///
/// Rules 3.7 and 8.6.
#[test]
fn a_copy_with_blobs_that_is_cut_has_the_blobs_of_what_it_shows_and_no_others() {
    const BLOB: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";
    let (mut crashes, mut more, mut shown) = (0, 0, 0);
    for (seed, threads) in [(1, 2), (2, 2), (3, 1), (4, 2)] {
        let clock = SharedClock::new();
        let mut dice = Dice(seed);
        let transactions: Vec<_> = (0..12)
            .map(|n| {
                let data = vec![n as u8; 1 + dice.roll(700) as usize];
                let mut transaction =
                    transaction(1000 + n, Status::Complete, &[(dice.roll(3), &data), (3 + dice.roll(3), &data)]);
                let uploaded = &mut transaction.revisions[1];
                uploaded.data = Some(BLOB.into());
                uploaded.blob = Some(Blob::from(Bytes::from(vec![n as u8; dice.roll(900) as usize])));
                transaction
            })
            .collect();
        let contents = |transactions: &[TransactionRecord]| -> Vec<_> {
            let revisions = |transaction: &TransactionRecord| {
                let revision = |revision: &Revision| {
                    let blob = revision.blob.as_ref().map(|blob| blob.bytes().unwrap());
                    (revision.oid, revision.data.clone(), blob)
                };
                (transaction.tid, transaction.revisions.iter().map(revision).collect::<Vec<_>>())
            };
            transactions.iter().map(revisions).collect()
        };
        let wanted = contents(&transactions);
        let options = |disk: &SimDisk| options(disk, &clock).threads(threads).copy_part(900).blobs(BLOBS);
        let copy = |disk: &SimDisk| {
            let Ok(storage) = options(disk).create(PATH) else { return 0 };
            let copied = transactions.chunks(6).take_while(|batch| storage.copy_in(batch.to_vec()).is_ok());
            copied.map(<[_]>::len).sum()
        };
        let whole = SimDisk::new(seed);
        assert_eq!(copy(&whole), transactions.len());
        for operation in 0..whole.operations() {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let disk = SimDisk::new(seed);
                disk.stop_at(operation, tear);
                let acknowledged = copy(&disk);
                for n in 0..2 {
                    let disk = disk.crash(seed ^ operation << 8 ^ n << 32);
                    crashes += 1;
                    let case = format!("seed {seed}, operation {operation}, {tear:?}, crash {n}");
                    let storage = match options(&disk).open_or_create(PATH) {
                        Ok(storage) => storage,
                        Err(error) => {
                            assert_eq!(acknowledged, 0, "{case}: {error}");
                            continue;
                        }
                    };
                    let found = all_transactions(&storage);
                    assert!(found.len() >= acknowledged, "{case}");
                    assert!(contents(&found) == wanted[..found.len()], "{case}");
                    check_blobs(&storage).unwrap_or_else(|error| panic!("{case}: {error}"));
                    more += u64::from(found.len() > acknowledged);
                    shown += u64::from(!found.is_empty());
                    storage.copy_in(transactions[found.len()..].to_vec()).unwrap();
                    assert!(contents(&all_transactions(&storage)) == wanted, "{case}");
                    check_blobs(&storage).unwrap_or_else(|error| panic!("{case}, continued: {error}"));
                }
            }
        }
    }
    println!("{crashes} crashes, {shown} with transactions, {more} with more than was acknowledged");
    assert!(crashes > 500 && shown > 100 && more > 0, "{crashes}, {shown}, {more}");
}

/// Every operation of a copy fails, once: the copy shows the beginning of the history and survives a crash; it is
/// continued from there, at once or after the file was opened again.
#[test]
fn every_operation_of_a_copy_fails_once() {
    let clock = SharedClock::new();
    let transactions: Vec<_> = (0..24)
        .map(|n| {
            let status = if n < 9 { Status::Packed } else { Status::Complete };
            transaction(1000 + n, status, &[(n % 5, &[n as u8; 150])])
        })
        .collect();
    let copy = |disk: &SimDisk, threads| {
        let storage = options(disk, &clock).threads(threads).copy_part(600).create(PATH).ok()?;
        let trouble = transactions.chunks(12).find_map(|batch| storage.copy_in(batch.to_vec()).err());
        Some((storage, trouble))
    };
    let (mut refusing, mut usable) = (0, 0);
    for threads in [1, 2] {
        let whole = SimDisk::new(0);
        copy(&whole, threads).unwrap();
        for operation in 0..whole.operations() {
            for (kind, partial) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::Other, false)] {
                let disk = SimDisk::new(0);
                disk.fail_at(operation, kind, partial);
                let Some((storage, Some(trouble))) = copy(&disk, threads) else { continue };
                let case = format!("operation {operation}, {threads} threads: {trouble}");
                let shown = all_transactions(&storage);
                assert_eq!(shown, transactions[..shown.len()], "{case}");
                for seed in 0..4 {
                    let found = all_transactions(&options(&disk.crash(seed), &clock).open(PATH).unwrap());
                    assert!(found.len() >= shown.len() && found == transactions[..found.len()], "{case}");
                }
                let storage = match storage.copy_in(transactions[shown.len()..].to_vec()) {
                    Err(Error::Failed { .. }) => {
                        refusing += 1;
                        drop(storage);
                        let storage = options(&disk, &clock).open(PATH).unwrap();
                        let found = all_transactions(&storage);
                        assert!(found.len() >= shown.len(), "{case}");
                        storage.copy_in(transactions[found.len()..].to_vec()).unwrap();
                        storage
                    }
                    other => {
                        usable += 1;
                        other.unwrap_or_else(|error| panic!("{case}; then {error}"));
                        storage
                    }
                };
                assert_eq!(all_transactions(&storage), transactions, "{case}");
                assert_eq!(
                    all_transactions(&options(&disk.crash(0), &clock).open(PATH).unwrap()),
                    transactions,
                    "{case}"
                );
            }
        }
    }
    assert!(refusing > 20 && usable > 5, "{refusing}, {usable}");
}

/// A commit of several that was cut among its marks, seen as of a moment in it: what it is to be is known from what
/// follows.
#[test]
fn as_of_a_moment_among_the_marks() {
    let (disk, clock) = (SimDisk::new(0), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let start = storage.size() as usize;
    storage.copy_in([1, 2].map(|n| transaction(1000 + n, Status::Packed, &[(n, b"x")])).to_vec()).unwrap();
    drop(storage);
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes[start + 16] = b'c';
    let disk = SimDisk::new(0);
    disk.write_file(PATH, &bytes);
    let storage = options(&disk, &clock).as_of(Tid(1001)).open(PATH).unwrap();
    assert_eq!(all_transactions(&storage).iter().map(|found| found.status).collect::<Vec<_>>(), [Status::Packed]);
    assert_eq!(storage.undo_log().unwrap().undo_log(0, 9).unwrap(), []);
}
