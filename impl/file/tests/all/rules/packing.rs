//! Packing a file: the bytes that ZODB leaves, and every pointer in the new file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::told::{Before, told};
use crate::common::{CAN, PATH, SharedClock, commit, format_problems, golden, open_under_harness, options, record};
use vellum_disk::SimDisk;
use vellum_file::{FileStorage, Options, PackWatch, Packing, Record, Scanner, Unwatched};
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::hosted::{Hosted, Opening};
use vellum_harness::run;
use vellum_harness::subject::Can;
use vellum_storage::{Oid, Order, Tid, TidRange};

const COLLECT: Packing = Packing::new().collect(true);

/// The real ZODB packed the one database, and the other is what it left.
#[test]
fn what_zodb_packed_is_the_same_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    std::fs::copy(golden("unpacked.fs"), &path).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(golden("packed.json")).unwrap()).unwrap();
    let time = json["pack_time_unix"].as_f64().unwrap();
    let to = Tid::at(jiff::Timestamp::from_microsecond((time * 1e6) as i64).unwrap());
    let storage = FileStorage::open(&path).unwrap();
    let packed = storage.pack_with(to, COLLECT, &mut Unwatched).unwrap();
    println!("{packed:?}");
    assert!(std::fs::read(&path).unwrap() == std::fs::read(golden("packed.fs")).unwrap());
    assert_eq!((packed.before.bytes, packed.after.bytes), (129_493, storage.size()));
    drop(storage);
    assert_eq!(format_problems(&Options::new(), path.to_str().unwrap()), []);
}

/// A database that a random history left, with undos and versions, and never packed.
fn history(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let under = disk.clone();
    let can = Can { pack: false, collect: false, dangling: false, ..CAN };
    let mut subject = Hosted::new("FileStorage", can, move |opening: Opening| {
        open_under_harness(Options::new().disk(Arc::new(under.clone())), opening)
    });
    run::play_random(&mut subject, &mut Seed::of(seed, 0), 50, &mut Coverage::default()).unwrap();
    disk
}

/// Every record of a file, in order, and the status of its transaction.
fn records(storage: &FileStorage) -> Vec<(Record, u8)> {
    let (file, end) = storage.data_file();
    let (mut scanner, mut found, mut position) = (Scanner::new(&*file, end), Vec::new(), vellum_file::format::START);
    while position < end {
        let header = scanner.transaction(position, |header, record| {
            found.push((record, header.status));
            Ok(())
        });
        position += header.unwrap().length + 8;
    }
    found
}

/// Packed at every moment of random histories: each pointer leads where it should, worked out from nothing but the
/// order of the records and the tids in the file before.
#[test]
fn every_pointer_of_a_packed_file_is_right() {
    let (mut packed_records, mut backpointers, mut in_versions, mut listed) = (0, 0, 0, 0);
    for seed in 0..60 {
        let (disk, clock) = (history(seed), SharedClock::new());
        let open = |disk: &SimDisk| options(disk, &clock).threads(1).open(PATH).unwrap();
        let storage = open(&disk);
        let tids: Vec<_> =
            storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap().tid).collect();
        let before: HashMap<u64, Record> = records(&storage).into_iter().map(|(r, _)| (r.position, r)).collect();
        // The records that each record names, by tid.
        let tid_at = |position: u64| before.get(&position).map(|record| record.header.tid);
        let names: HashMap<_, (Option<Tid>, Option<Tid>)> = {
            let mut nth = HashMap::new();
            let mut all: Vec<_> = before.values().collect();
            all.sort_by_key(|record| record.position);
            let of = |record: &&Record| {
                let n = nth.entry((record.header.oid, record.header.tid)).or_insert(0);
                *n += 1;
                let trunk = record.in_version.as_ref().and_then(|version| tid_at(version.trunk));
                ((record.header.oid, record.header.tid, *n), (tid_at(record.backpointer), trunk))
            };
            all.iter().map(of).collect()
        };
        drop(storage);
        for to in tids {
            let disk = disk.crash_keeping_everything();
            let storage = open(&disk);
            storage.pack_with(to, Packing::new().go_on(true), &mut Unwatched).unwrap();
            let after = records(&storage);
            let mut newest: HashMap<Oid, (u64, Tid)> = HashMap::new();
            let (mut so_far, mut heads, mut nth) = (HashMap::new(), HashMap::new(), HashMap::new());
            for (record, status) in &after {
                let (oid, tid, at) = (record.header.oid, record.header.tid, record.position);
                // Within a transaction its earlier records are not visible.
                let found = so_far.insert(oid, (at, tid));
                if let Some((position, other)) = found.filter(|(_, other)| *other != tid) {
                    newest.insert(oid, (position, other));
                }
                let previous = if *status == b'p' { 0 } else { newest.get(&oid).map_or(0, |(position, _)| *position) };
                assert_eq!(record.header.previous, previous, "seed {seed} to {to}: object {oid} at {tid}");
                let place = |tid: Option<Tid>| {
                    let of = |r: &&(Record, u8)| r.0.header.oid == oid && Some(r.0.header.tid) == tid;
                    after.iter().filter(of).map(|(r, _)| r.position).next_back().unwrap_or(0)
                };
                let n = nth.entry((oid, tid)).or_insert(0);
                *n += 1;
                if *status == b'p' {
                    assert_eq!(record.backpointer, 0, "seed {seed} to {to}: object {oid} at {tid}");
                } else {
                    let (source, trunk) = names[&(oid, tid, *n)];
                    assert_eq!(record.backpointer, place(source), "seed {seed} to {to}: object {oid} at {tid}");
                    assert!(source.is_none() || record.backpointer != 0);
                    if let Some(version) = &record.in_version {
                        assert_eq!(version.trunk, place(trunk), "seed {seed} to {to}: object {oid} at {tid}");
                    }
                    backpointers += u64::from(record.backpointer != 0);
                }
                if let Some(version) = &record.in_version {
                    let head = heads.insert(version.version.clone(), at).unwrap_or(0);
                    assert_eq!(version.previous, head, "seed {seed} to {to}: object {oid} at {tid}");
                    in_versions += 1;
                    listed += u64::from(head != 0);
                }
                packed_records += u64::from(*status == b'p');
            }
        }
    }
    println!("{packed_records} packed, {backpointers} that share, {in_versions} in versions, {listed} in a list");
    assert!(packed_records > 1000 && backpointers > 100 && in_versions > 300 && listed > 100);
}

/// A commit's sync waits for all data that the disk got before. So a pack beside commits writes a little at a time.
#[test]
fn a_pack_beside_commits_gives_the_disk_little_at_a_time() {
    struct Committing<'a>(&'a FileStorage, bool);
    impl PackWatch for Committing<'_> {
        fn begins(&mut self) {
            if self.1 {
                commit(self.0, "beside", &[(1, Some(record(b"beside")))]).unwrap();
            }
        }
    }
    const OBJECTS: u64 = 400;
    for commits in [false, true] {
        let (disk, clock) = (SimDisk::new(0), SharedClock::new());
        // Of the file that is being made: the bytes written and not synced, and their maximum.
        let unsynced = Arc::new(Mutex::new((0, 0)));
        let (packing, counted) = (Arc::new(AtomicBool::new(false)), Arc::clone(&unsynced));
        let is_packing = Arc::clone(&packing);
        let before: Before = Arc::new(move |what, _, length| {
            let mut unsynced = counted.lock().unwrap();
            match what {
                "write" if is_packing.load(Ordering::Relaxed) => unsynced.0 += length,
                "synced" => unsynced.0 = 0,
                _ => {}
            }
            unsynced.1 = unsynced.1.max(unsynced.0);
        });
        let storage = told(&disk, &clock, before).threads(2).create(PATH).unwrap();
        let large = record(&[7; 20_000]);
        for oid in 0..OBJECTS {
            commit(&storage, "large", &[(oid, Some(large.clone()))]).unwrap();
        }
        packing.store(true, Ordering::Relaxed);
        let how = Packing::new().collect(false);
        storage.pack_with(Tid::MAX, how, &mut Committing(&storage, commits)).unwrap();
        let most = unsynced.lock().unwrap().1;
        println!("commits: {commits}, at most {most} bytes");
        assert!(storage.size() > 8_000_000);
        assert!(if commits { most < 2 << 20 } else { most > 2 << 20 }, "{commits}: {most} bytes");
    }
}
