//! A file that is walked over by several threads says what it says to one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::told::{Before, told};
use crate::common::*;
use bytes::Bytes;
use vellum_disk::{Disk, SimDisk};
use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{Bulk, Oid, Status, Tid, TransactionMeta};

/// Bytes that look like a transaction, and could be taken for one by a walk that begins in the middle.
fn decoy(position: u64, with_record: bool) -> Vec<u8> {
    let tid = 0x0400_0000_0000_0000_u64;
    let length = 23 + if with_record { 42 + 8 } else { 0 };
    let mut bytes = [tid.to_be_bytes(), u64::to_be_bytes(length)].concat();
    bytes.extend_from_slice(&[b' ', 0, 0, 0, 0, 0, 0]);
    if with_record {
        for number in [1, tid, 0, position] {
            bytes.extend_from_slice(&u64::to_be_bytes(number));
        }
        bytes.extend_from_slice(&[0; 2 + 8 + 8]);
    }
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

/// Some 10 MB: small and large records, deletes, transactions without records, and data full of decoys.
fn database() -> (SimDisk, SharedClock, Vec<Tid>) {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = options(&disk, &clock).durability(Durability::Relaxed).create(PATH).unwrap();
    let (mut dice, mut tids) = (Dice(1), Vec::new());
    while storage.size() < 10 << 20 {
        clock.tick();
        let n = tids.len();
        let mut changes: Vec<(u64, Option<Bytes>)> = Vec::new();
        for _ in 0..dice.roll(6) {
            let length = match dice.roll(40) {
                0 => 300_000 + dice.roll(200_000),
                1..4 => 20_000,
                _ => dice.roll(3000),
            };
            let mut data = vec![dice.roll(256) as u8; length as usize];
            if dice.roll(3) == 0 {
                let mut at = storage.size();
                data = std::iter::from_fn(|| {
                    at += 100;
                    Some(decoy(at, !at.is_multiple_of(3)))
                })
                .take(1 + length as usize / 100)
                .collect::<Vec<_>>()
                .concat();
            }
            changes.push((dice.roll(900), Some(record(&data))));
        }
        let there = |oid: u64| storage.newest_record(Oid(oid)).unwrap().is_some();
        if let Some(gone) = (n % 9 == 0).then(|| dice.roll(900)).filter(|&oid| there(oid)) {
            changes.push((gone, None));
        }
        tids.push(commit(&storage, "one of many", &changes).unwrap());
    }
    drop(storage);
    disk.remove(std::path::Path::new("Data.fs.index")).unwrap();
    (disk, clock, tids)
}

fn opened(options: &Options, threads: u32) -> Result<FileStorage, String> {
    options.clone().threads(threads).read_only().open(PATH).map_err(|e| e.to_string())
}

#[test]
fn several_threads_find_what_one_finds() {
    let (disk, clock, tids) = database();
    let options = options(&disk, &clock);
    let alone = dump(&opened(&options, 1).unwrap());
    println!("{} answers", alone.len());
    assert!(alone.len() > 3000);
    for threads in [0, 2, 3, 7] {
        assert!(dump(&opened(&options, threads).unwrap()) == alone, "{threads}");
    }
    // As of the middle, of moments in between, of the first and the last.
    let count = tids.len();
    for tid in [tids[count / 2], Tid(tids[count / 3].0 - 1), tids[count - 1], tids[0], Tid(tids[0].0 - 1)] {
        let options = options.clone().as_of(tid);
        let alone = dump(&opened(&options, 1).unwrap());
        for threads in [2, 3] {
            assert!(dump(&opened(&options, threads).unwrap()) == alone, "{threads} as of {tid}");
        }
        assert_eq!(
            opened(&options, 2).unwrap().last_transaction(),
            tids.iter().copied().rfind(|t| *t <= tid).unwrap_or_default()
        );
    }
    // Forwards by an index that ends in the middle.
    let writer = options.clone().threads(3).open(PATH).unwrap();
    assert!(dump(&writer) == alone);
    drop(writer);
    assert!(dump(&opened(&options, 2).unwrap()) == alone);
}

#[test]
fn several_threads_find_the_same_damage() {
    let (disk, clock, tids) = database();
    let good = disk.read_file(PATH).unwrap();
    let storage = options(&disk, &clock).read_only().open(PATH).unwrap();
    let starts: Vec<usize> = {
        let (file, end) = storage.data_file();
        let mut scanner = vellum_file::Scanner::new(&*file, end);
        let mut at = 4;
        std::iter::from_fn(|| {
            (at < end).then(|| {
                let start = at;
                at += scanner.header(start).unwrap().length + 8;
                start as usize
            })
        })
        .collect()
    };
    let bare: Vec<usize> = {
        let (file, end) = storage.data_file();
        let mut scanner = vellum_file::Scanner::new(&*file, end);
        let mut is_bare = |start: &usize| {
            let header = scanner.header(*start as u64).unwrap();
            header.length == header.records_at()
        };
        starts.iter().copied().filter(|start| is_bare(start)).collect()
    };
    drop(storage);
    assert_eq!(starts.len(), tids.len());
    // The tid of a transaction that has no records to say it again: it is out of order, and counts.
    assert!(bare.len() > 20);
    for start in [bare[0], bare[bare.len() / 2], bare[bare.len() - 2]] {
        for durability in [Durability::Full, Durability::Relaxed] {
            let mut bad = good.clone();
            bad[start..start + 8].fill(255);
            let disk = SimDisk::new(1);
            disk.write_file(PATH, &bad);
            let options = options(&disk, &clock).durability(durability);
            let alone = dump(&opened(&options, 1).unwrap());
            for threads in [2, 3] {
                assert!(dump(&opened(&options, threads).unwrap()) == alone, "{threads} threads");
            }
            let storage = opened(&options, 2).unwrap();
            assert!(storage.disorder().is_some_and(|fault| fault.position >= start as u64), "{:?}", storage.disorder());
        }
    }
    let (mut cases, mut refused) = (0, 0);
    for part in [1, 17, 30, 50, 77, 95, 99, 100] {
        let n = (starts.len() * part / 100).min(starts.len() - 1);
        let (start, end) = (starts[n], starts.get(n + 1).copied().unwrap_or(good.len()));
        // The tid, the length, the status, a record's header, the length again; and a hole of 5000 bytes.
        for (at, length) in
            [(start + 3, 1), (start + 13, 1), (start + 16, 1), (start + 70, 30), (end - 3, 1), (start, 5000)]
        {
            let mut bad = good.clone();
            let last = bad.len();
            bad[at..(at + length).min(last)].iter_mut().for_each(|byte| *byte ^= 0x55);
            let disk = SimDisk::new(1);
            disk.write_file(PATH, &bad);
            let options = options(&disk, &clock);
            let found = |options: &Options, threads| opened(options, threads).map(|storage| dump(&storage));
            let alone = found(&options, 1);
            refused += usize::from(alone.is_err());
            for threads in [2, 3] {
                assert!(found(&options, threads) == alone, "{part} {at} {length} {threads}: {:?}", alone.err());
            }
            // The state before the damage can be opened as of then.
            if n > 0 {
                let options = options.as_of(tids[n - 1]);
                for threads in [1, 3] {
                    let storage = opened(&options, threads).unwrap();
                    assert_eq!((storage.last_transaction(), storage.size()), (tids[n - 1], start as u64));
                }
            }
            cases += 1;
        }
    }
    println!("{cases} damages, {refused} refused");
    assert!(refused > 40, "{refused}");
}

/// A crash at the end of a large file is found by several threads as by one.
#[test]
fn several_threads_find_the_same_crash() {
    let (disk, clock, tids) = database();
    let writer = options(&disk, &clock).open(PATH).unwrap();
    let end = writer.size() as usize;
    for n in 0..3 {
        commit(&writer, "unfinished", &[(n, Some(record(&[1; 2000])))]).unwrap();
    }
    writer.begin(TransactionMeta::new()).unwrap();
    drop(writer);
    disk.remove(std::path::Path::new("Data.fs.index")).unwrap();
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes[end + 16] = b'c';
    bytes.truncate(bytes.len() - 5000);
    for threads in [1, 2, 3] {
        let disk = SimDisk::new(1);
        disk.write_file(PATH, &bytes);
        let storage = options(&disk, &clock).threads(threads).open(PATH).unwrap();
        assert_eq!(storage.recovery().map(|r| r.position as usize), Some(end), "{threads}");
        assert_eq!(storage.last_transaction(), *tids.last().unwrap());
        assert_eq!(disk.read_file(PATH).unwrap().len(), end);
    }
}

/// A copy appends a part while the marks of the one before are synced: so opening the file for reading finds complete
/// transactions that are not finished, and they may be finished while opening still looks at them.
#[test]
fn opening_beside_a_copy_finds_no_damage() {
    let clock = SharedClock::new();
    let disk = SimDisk::new(0);
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let first = commit(&storage, "first", &[(1, Some(record(b"1")))]).unwrap();
    let part = storage.size();
    let later = [1, 2, 3].map(|n| transaction(first.0 + n, Status::Complete, &[(n, &[b'x'; 5000])]));
    storage.copy_in(later.to_vec()).unwrap();
    let expected = all_transactions(&storage);
    drop(storage);
    let finished = disk.read_file(PATH).unwrap();
    let (mut position, mut marks) = (part as usize, Vec::new());
    while position < finished.len() {
        marks.push(position + 16);
        position += u64::from_be_bytes(finished[position + 8..position + 16].try_into().unwrap()) as usize + 8;
    }
    let mut unfinished = finished.clone();
    marks.iter().for_each(|&at| unfinished[at] = b'c');
    // At which of the reader's operations the copy makes its marks, and how far it had come in appending.
    let mut operation = 0;
    let mut cuts = (part as usize..unfinished.len()).step_by(97).chain([unfinished.len()]);
    let mut cut = cuts.next().unwrap();
    loop {
        let disk = SimDisk::new(0);
        disk.write_file(PATH, &unfinished[..cut]);
        let (count, done) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        let (other, bytes, marked) = (disk.clone(), finished.clone(), Arc::clone(&done));
        let before: Before = Arc::new(move |_, _, _| {
            if count.fetch_add(1, Ordering::Relaxed) == operation {
                other.write_file(PATH, &bytes);
                marked.store(true, Ordering::Relaxed);
            }
        });
        let opened = told(&disk, &clock, before).threads(1).read_only().open(PATH);
        let storage = opened.unwrap_or_else(|error| panic!("operation {operation}, {cut} bytes: {error}"));
        if !done.load(Ordering::Relaxed) {
            assert!(operation > 1, "{operation}");
            operation = 0;
            match cuts.next() {
                Some(next) => cut = next,
                None => break,
            }
            continue;
        }
        let found = all_transactions(&storage);
        assert_eq!(found, expected[..found.len()], "operation {operation}");
        assert!(!found.is_empty());
        operation += 1;
    }
}
