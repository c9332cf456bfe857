//! Blobs beside a file: what the harness cannot tell, since it speaks of answers and not of files.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use bytes::Bytes;
use vellum_blob::{BlobFolder, Found, Layout, Opening};
use vellum_disk::{Disk, SimDisk, Tear};
use vellum_file::{Durability, FileStorage, OpenError, Options, Packing, Unwatched};
use vellum_storage::{
    Blob, Blobs, Bulk, CopyOptions, Draft, Error, MemoryStorage, Oid, Order, Storage, Tid, TidRange, TransactionMeta,
    Version, copy,
};

const BLOB: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";
const ROOT: &[u8] = b"\x80\x03cm\nC\n.\x80\x03}.";

fn with_blobs(disk: &SimDisk, clock: &SharedClock) -> Options {
    options(disk, clock).threads(1).blobs(BLOBS)
}

fn made(storage: &FileStorage, bytes: &[u8]) -> Blob {
    let mut writer = Blobs::new_blob(storage).unwrap();
    bytes.chunks(1000).for_each(|chunk| writer.append(chunk).unwrap());
    writer.finish().unwrap()
}

fn try_store(storage: &FileStorage, oid: u64, blob: Blob) -> vellum_storage::Result<Tid> {
    let mut draft = storage.begin(TransactionMeta::new())?;
    draft.store_blob(Oid(oid), serial(storage, Oid(oid)), BLOB.into(), blob)?;
    storage.commit(draft)
}

fn store(storage: &FileStorage, clock: &SharedClock, oid: u64, bytes: &[u8]) -> Tid {
    clock.tick();
    try_store(storage, oid, made(storage, bytes)).unwrap()
}

fn undo(storage: &FileStorage, clock: &SharedClock, tid: Tid) -> Tid {
    clock.tick();
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.undo(tid).unwrap();
    storage.commit(draft).unwrap()
}

fn read(storage: &dyn Storage, oid: u64, tid: Tid) -> Option<Bytes> {
    match storage.blobs().unwrap().load_blob(Oid(oid), tid) {
        Ok(blob) => Some(blob.bytes().unwrap()),
        Err(Error::KeyError { .. } | Error::NoBlob { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

/// The files of blobs in a folder, and how many others there are in it.
fn files(disk: &SimDisk, folder: &str) -> (BTreeSet<(u64, Tid)>, usize) {
    let opening = Opening { read_only: true, ..Opening::default() };
    let folder = BlobFolder::open(Arc::new(disk.clone()), Path::new(folder), opening).unwrap();
    let (mut blobs, mut others) = (BTreeSet::new(), 0);
    for found in folder.walk() {
        match found.unwrap() {
            Found::Blob { oid, tid, .. } => drop(blobs.insert((oid.0, tid))),
            Found::Stranger { .. } => others += 1,
        }
    }
    (blobs, others)
}

fn temporaries(disk: &SimDisk) -> Vec<String> {
    let paths = disk.paths().into_iter().filter(|path| path.starts_with("blobs/tmp"));
    paths.map(|path| path.display().to_string()).collect()
}

/// Rules 8.1 and 8.3.
#[test]
fn a_blob_is_renamed_and_an_undo_has_a_file_of_its_own() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    let blob = made(&storage, b"one");
    assert_eq!(temporaries(&disk).len(), 1);
    clock.tick();
    let one = try_store(&storage, 1, blob.clone()).unwrap();
    assert_eq!(temporaries(&disk), [""; 0]);
    // The handle has the bytes still; to commit them again is a copy.
    assert_eq!(blob.bytes().unwrap(), "one");
    let two = store(&storage, &clock, 1, b"two");
    let three = undo(&storage, &clock, two);
    clock.tick();
    let four = try_store(&storage, 2, blob).unwrap();
    let expected = [(1, one), (1, two), (1, three), (2, four)].into();
    assert_eq!(files(&disk, BLOBS), (expected, 0));
    assert_eq!((read(&storage, 1, three), read(&storage, 2, four)), (Some("one".into()), Some("one".into())));
    let path = Blobs::shared(&storage).unwrap().path_of(Oid(1), three);
    assert_eq!(disk.read_file(path).unwrap(), b"one");
}

/// Rule 8.6.
#[test]
fn what_is_dropped_leaves_nothing() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    let one = store(&storage, &clock, 1, b"one");
    let two = store(&storage, &clock, 1, b"two");
    let mut writer = Blobs::new_blob(&storage).unwrap();
    writer.append(b"half").unwrap();
    drop(writer);
    let blob = made(&storage, b"never");
    let draft = |serial: Tid| {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store_blob(Oid(1), serial, BLOB.into(), blob.clone()).unwrap();
        draft
    };
    // Refused, aborted after the vote, aborted before it, voted on again: the bytes are there as long as there is a
    // handle.
    storage.vote(draft(one)).unwrap_err();
    drop(storage.vote(draft(two)).unwrap());
    drop(draft(two));
    assert_eq!(blob.bytes().unwrap(), "never");
    let mut undoing = storage.begin(TransactionMeta::new()).unwrap();
    undoing.undo(two).unwrap();
    drop(storage.vote(undoing).unwrap());
    assert_eq!(temporaries(&disk).len(), 1);
    let voted = storage.vote(draft(two)).unwrap();
    drop(blob);
    assert_eq!(temporaries(&disk).len(), 1);
    drop(voted);
    assert_eq!(temporaries(&disk), [""; 0]);
    assert_eq!(files(&disk, BLOBS), ([(1, one), (1, two)].into(), 0));
}

/// Two drafts with one blob, voted on at the same time: each transaction has a file.
#[test]
fn a_blob_of_two_transactions_is_copied() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    let blob = made(&storage, b"shared");
    let vote = |oid: u64| {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store_blob(Oid(oid), Tid::ZERO, BLOB.into(), blob.clone()).unwrap();
        storage.vote(draft).unwrap()
    };
    let (one, two) = (vote(1), vote(2));
    let (one, two) = (one.finish().unwrap(), two.finish().unwrap());
    assert_eq!((read(&storage, 1, one).unwrap(), read(&storage, 2, two).unwrap()), ("shared".into(), "shared".into()));
    drop(blob);
    assert_eq!(temporaries(&disk), [""; 0]);
}

/// Rule 8.4.
#[test]
fn a_pack_removes_what_it_forgets_and_keeps_it_beside() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    commit(&storage, "root", &[(0, Some(ROOT.into()))]).unwrap();
    let tids = [b"one", b"two", b"six"].map(|bytes| store(&storage, &clock, 1, bytes));
    let other = store(&storage, &clock, 2, b"nobody's");
    // An orphan, as ZODB leaves them.
    let orphan = storage.blob_folder().unwrap().path_of(Oid(1), Tid(7));
    disk.write_file(&orphan, b"orphan");
    let back = undo(&storage, &clock, tids[2]);
    let before = Blobs::load_blob(&storage, Oid(1), tids[0]).unwrap();
    storage.pack_with(tids[2], Packing::new().keep_old(true), &mut Unwatched).unwrap();
    let kept = [(1, tids[1]), (1, tids[2]), (1, back), (2, other), (1, Tid(7))];
    assert_eq!(files(&disk, BLOBS), (kept.into(), 0));
    let all = kept.into_iter().chain([(1, tids[0])]).collect();
    assert_eq!(files(&disk, "blobs.old"), (all, 0));
    // A handle stays good; the file as it was before has its blobs.
    assert_eq!(before.bytes().unwrap(), "one");
    assert_eq!(read(&storage, 1, tids[0]), None);
    let old = options(&disk, &clock).blobs("blobs.old").read_only().open("Data.fs.old").unwrap();
    assert_eq!(read(&old, 1, tids[0]).unwrap(), "one");
    // Garbage goes with its blobs.
    clock.tick();
    let collect = Packing::new().collect(true);
    storage.pack_with(Tid::MAX, collect, &mut Unwatched).unwrap();
    assert_eq!(files(&disk, BLOBS), ([(1, Tid(7))].into(), 0));
    drop(storage);
    // And nothing of that is looked at again.
    let storage = with_blobs(&disk, &clock).open(PATH).unwrap();
    assert_eq!(files(&disk, BLOBS), ([(1, Tid(7))].into(), 0));
    drop(storage);
}

#[test]
fn a_missing_data_file_empties_no_blob_folder() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    let tid = store(&storage, &clock, 1, b"one");
    drop(storage);
    disk.remove(Path::new(PATH)).unwrap();
    let refused = with_blobs(&disk, &clock).open_or_create(PATH).unwrap_err();
    assert!(refused.to_string().contains("it holds blobs"), "{refused}");
    assert!(!disk.exists(Path::new(PATH)).unwrap());
    assert_eq!(files(&disk, BLOBS), ([(1, tid)].into(), 0));
}

#[test]
fn reading_makes_nothing() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    drop(options(&disk, &clock).create(PATH).unwrap());
    let before = everything(&disk);
    let refused = with_blobs(&disk, &clock).read_only().open(PATH).unwrap_err();
    assert!(refused.to_string().contains("there is no such blob folder"), "{refused}");
    assert_eq!(everything(&disk), before);
    let storage = with_blobs(&disk, &clock).open(PATH).unwrap();
    let tid = store(&storage, &clock, 1, b"one");
    let before = everything_but_the_lock(&disk);
    let reader = with_blobs(&disk, &clock).read_only().open(PATH).unwrap();
    assert_eq!(read(&reader, 1, tid).unwrap(), "one");
    assert!(matches!(Blobs::new_blob(&reader), Err(Error::ReadOnly { .. })));
    drop(reader);
    assert_eq!(everything_but_the_lock(&disk), before);
}

/// Without a folder a blob is refused before anything is written, and is an error to ask for.
#[test]
fn without_a_folder_there_are_no_blobs() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    assert!(Storage::blobs(&storage).is_none() && !storage.capabilities().blobs);
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    let blob = || Blob::from(Bytes::from("x"));
    assert!(matches!(draft.store_blob(Oid(1), Tid::ZERO, BLOB.into(), blob()), Err(Error::Unfit { .. })));
    // As one that was begun elsewhere; and as a copy.
    let memory = MemoryStorage::new("memory");
    let mut draft = memory.begin(TransactionMeta::new()).unwrap();
    draft.store_blob(Oid(1), Tid::ZERO, BLOB.into(), blob()).unwrap();
    assert!(matches!(storage.vote(draft.clone()), Err(Error::Unfit { .. })));
    memory.commit(draft).unwrap();
    let copied = copy(&memory, &storage, TidRange::ALL, CopyOptions::default(), &mut |_| ());
    assert!(matches!(copied, Err(Error::Unfit { .. })), "{copied:?}");
    assert_eq!(storage.last_transaction(), Tid::ZERO);
}

#[test]
fn a_record_without_its_file_says_where_the_file_would_be() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).blob_layout(Layout::Lawn).create(PATH).unwrap();
    let tid = store(&storage, &clock, 0x123, b"one");
    let path = storage.blob_folder().unwrap().path_of(Oid(0x123), tid);
    disk.remove(&path).unwrap();
    let missing = Blobs::load_blob(&storage, Oid(0x123), tid).unwrap_err();
    assert!(matches!(missing, Error::NoBlob { .. }) && missing.to_string().contains("blobs/0x0123/0x"), "{missing}");
    // All else goes on: the undo shows a record that has no file, too.
    let later = store(&storage, &clock, 0x123, b"two");
    let back = undo(&storage, &clock, later);
    assert_eq!(read(&storage, 0x123, back), None);
}

/// Opening warns of such a folder, and does not warn of single files without a record, as ZODB leaves them.
#[test]
fn the_folder_of_another_database_is_noticed() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    let tid = store(&storage, &clock, 1, b"one");
    let orphan = storage.blob_folder().unwrap().path_of(Oid(0), Tid(7));
    disk.write_file(orphan, b"orphan");
    assert_eq!(storage.foreign_blob(), None);
    drop(storage);
    drop(options(&disk, &clock).create("Other.fs").unwrap());
    let other = with_blobs(&disk, &clock).open("Other.fs").unwrap();
    assert!([Some((Oid(1), tid)), Some((Oid(0), Tid(7)))].contains(&other.foreign_blob()));
    // And it harms nothing there.
    drop(other);
    let storage = with_blobs(&disk, &clock).open(PATH).unwrap();
    assert_eq!(read(&storage, 1, tid).unwrap(), "one");
}

/// A client that shares the folder puts its file there.
#[test]
fn a_file_of_a_client_is_adopted() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).blob_layout(Layout::Lawn).create(PATH).unwrap();
    store(&storage, &clock, 1, b"one");
    let shared = Blobs::shared(&storage).unwrap();
    disk.write_file("blobs/0x01/BUCabc", b"a client's");
    disk.write_file("blobs/0x01/BUCdef", b"given up");
    for name in ["../0x01/BUCabc", "/etc/passwd", "..", "nothing"] {
        shared.adopt(Oid(1), name).unwrap_err();
    }
    drop(shared.adopt(Oid(1), "BUCdef").unwrap());
    clock.tick();
    let two = try_store(&storage, 1, shared.adopt(Oid(1), "BUCabc").unwrap()).unwrap();
    assert_eq!(read(&storage, 1, two).unwrap(), "a client's");
    assert_eq!(files(&disk, BLOBS).1, 0);
}

/// Rule 8.5: from file to file and by way of a storage in memory, in batches and one by one.
#[test]
fn copies_bring_the_blobs_along() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let source = with_blobs(&disk, &clock).create(PATH).unwrap();
    let one = store(&source, &clock, 1, b"one");
    let two = store(&source, &clock, 1, &[b'x'; 5000]);
    let three = undo(&source, &clock, two);
    let memory = MemoryStorage::new("memory");
    copy(&source, &memory, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap();
    for (n, from) in [&source as &dyn Storage, &memory].into_iter().enumerate() {
        let disk = SimDisk::new(n as u64);
        let to = with_blobs(&disk, &clock).create(PATH).unwrap();
        copy(from, &to, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap();
        assert_eq!([one, two, three].map(|tid| read(&to, 1, tid).unwrap().len()), [3, 5000, 3]);
        assert_eq!((files(&disk, BLOBS).0.len(), temporaries(&disk)), (3, vec![]));
        assert!(disk.read_file(PATH) == self::disk_bytes(&source));
        // And on from there.
        let again = copy(from, &to, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap();
        assert_eq!(again.transactions, 0);
    }
}

fn disk_bytes(storage: &FileStorage) -> Option<Vec<u8>> {
    let (file, end) = storage.data_file();
    let mut bytes = vec![0; end as usize];
    file.read_full_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// Commits blobs, undoes a commit and copies it, for crashes and failures. `done` gets every acknowledged blob.
fn work(disk: &SimDisk, durability: Durability, done: &mut Vec<(u64, Tid, Vec<u8>)>) -> Result<(), String> {
    let clock = SharedClock::new();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let storage = with_blobs(disk, &clock).durability(durability).open_or_create(PATH).map_err(|e| text(&e))?;
    let mut commit = |oid: u64, bytes: &[u8]| -> Result<(), String> {
        clock.tick();
        let write = || {
            let mut writer = Blobs::new_blob(&storage)?;
            writer.append(bytes)?;
            try_store(&storage, oid, writer.finish()?)
        };
        done.push((oid, write().map_err(|e| text(&e))?, bytes.to_vec()));
        Ok(())
    };
    commit(1, b"one")?;
    commit(1, &[7; 1200])?;
    commit(2, b"three")?;
    let (_, last, _) = done[1].clone();
    clock.tick();
    let mut draft = storage.begin(TransactionMeta::new()).map_err(|e| text(&e))?;
    draft
        .undo(last)
        .and_then(|()| draft.store_blob(Oid(3), Tid::ZERO, BLOB.into(), Bytes::from("four").into()))
        .map_err(|e| text(&e))?;
    let tid = storage.commit(draft).map_err(|e| text(&e))?;
    done.extend([(1, tid, b"one".to_vec()), (3, tid, b"four".to_vec())]);
    clock.tick();
    let mut brought = storage
        .transactions(TidRange::ALL, Order::NewestFirst)
        .map_err(|e| text(&e))?
        .next()
        .unwrap()
        .map_err(|e| text(&e))?;
    brought.tid = tid.next();
    brought.revisions.iter_mut().for_each(|revision| revision.source = None);
    storage.copy_in(vec![brought]).map_err(|e| text(&e))?;
    done.extend([(1, tid.next(), b"one".to_vec()), (3, tid.next(), b"four".to_vec())]);
    Ok(())
}

/// Rule 8.6, and the order in which a commit becomes durable: the power goes in each operation.
#[test]
fn after_a_power_cut_there_are_the_blobs_of_what_was_acknowledged_and_no_others() {
    let (mut crashes, mut cut) = (0, 0);
    for durability in [Durability::Full, Durability::Relaxed] {
        let whole = SimDisk::new(1);
        work(&whole, durability, &mut Vec::new()).unwrap();
        for operation in 0..whole.operations() {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let (disk, mut done) = (SimDisk::new(1), Vec::new());
                disk.stop_at(operation, tear);
                let _ = work(&disk, durability, &mut done);
                for dice in 0..6 {
                    let disk = match dice {
                        0 => disk.crash_losing_everything(),
                        1 => disk.crash_keeping_everything(),
                        _ => disk.crash(operation << 8 ^ dice),
                    };
                    let case = format!("{durability:?}, operation {operation}, {tear:?}, {dice}, {:?}", whole.trace());
                    let clock = SharedClock::new();
                    let opened = with_blobs(&disk, &clock).durability(durability).open_or_create(PATH);
                    let storage = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
                    check_blobs(&storage).unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert_eq!(temporaries(&disk), [""; 0], "{case}");
                    for (oid, tid, bytes) in &done {
                        assert_eq!(read(&storage, *oid, *tid).as_deref(), Some(&bytes[..]), "{case}: {oid} of {tid}");
                    }
                    // Of what was not acknowledged and is there all the same, the blobs are whole.
                    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap() {
                        for revision in transaction.unwrap().revisions {
                            revision.blob.unwrap_or_else(|| panic!("{case}")).bytes().unwrap();
                        }
                    }
                    cut += u64::from(storage.recovery().is_some_and(|recovery| recovery.cut > 0));
                    crashes += 1;
                }
            }
        }
    }
    println!("{crashes} crashes, {cut} of which left something to be cut off");
    assert!(crashes > 2000 && cut > 100, "{crashes}, {cut}");
}

/// Each operation fails once, and the next opening succeeds: the acknowledged blobs are there, and no orphans.
#[test]
fn an_operation_fails_and_nothing_is_left_of_the_commit() {
    let mut failed = 0;
    for durability in [Durability::Full, Durability::Relaxed] {
        let whole = SimDisk::new(1);
        work(&whole, durability, &mut Vec::new()).unwrap();
        for operation in 0..whole.operations() {
            for partial in [false, true] {
                let (disk, mut done) = (SimDisk::new(1), Vec::new());
                disk.fail_at(operation, io::ErrorKind::StorageFull, partial);
                failed += u64::from(work(&disk, durability, &mut done).is_err());
                for (n, disk) in
                    [disk.clone(), disk.crash_losing_everything(), disk.crash(operation)].iter().enumerate()
                {
                    let case = format!("{durability:?}, operation {operation}, {partial}, {n}");
                    let clock = SharedClock::new();
                    let opened = with_blobs(disk, &clock).durability(durability).open_or_create(PATH);
                    let storage = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
                    check_blobs(&storage).unwrap_or_else(|error| panic!("{case}: {error}"));
                    for (oid, tid, bytes) in &done {
                        assert_eq!(read(&storage, *oid, *tid).as_deref(), Some(&bytes[..]), "{case}: {oid} of {tid}");
                    }
                }
            }
        }
    }
    assert!(failed > 100, "{failed}");
}

/// A commit whose blob cannot get its name fails, and the next one succeeds; the file that has the name is not harmed.
#[test]
fn a_name_that_is_taken_fails_that_commit_only() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    let one = store(&storage, &clock, 1, b"one");
    let folder = storage.blob_folder().unwrap();
    let in_the_way = folder.path_of(Oid(2), one.next());
    disk.write_file(&in_the_way, b"somebody's");
    let mut draft = storage.begin(TransactionMeta::new().tid(one.next())).unwrap();
    draft.store_blob(Oid(1), one, BLOB.into(), made(&storage, b"two")).unwrap();
    // One before it and one after it, in whatever order they get their names.
    draft.store_blob(Oid(2), Tid::ZERO, BLOB.into(), made(&storage, b"two")).unwrap();
    draft.store_blob(Oid(3), Tid::ZERO, BLOB.into(), made(&storage, b"two")).unwrap();
    let size = storage.size();
    let failed = storage.commit(draft).unwrap_err();
    assert!(failed.to_string().contains("it was left alone"), "{failed}");
    assert_eq!((storage.size(), disk.read_file(PATH).unwrap().len() as u64), (size, size));
    assert_eq!(disk.read_file(&in_the_way).unwrap(), b"somebody's");
    let three = store(&storage, &clock, 1, b"three");
    assert_eq!(files(&disk, BLOBS), ([(1, one), (1, three), (2, one.next())].into(), 0));
}

/// A pack that fails at any operation forgets nothing that the database has, and the next one does its work.
#[test]
fn a_pack_that_fails_harms_no_blob() {
    let prepare = |disk: &SimDisk, clock: &SharedClock| {
        let storage = with_blobs(disk, clock).create(PATH).unwrap();
        commit(&storage, "root", &[(0, Some(ROOT.into()))]).unwrap();
        let tids = [b"one", b"two", b"six"].map(|bytes| store(&storage, clock, 1, bytes));
        (storage, tids)
    };
    for keep_old in [false, true] {
        let how = Packing::new().keep_old(keep_old);
        let (whole, clock) = (SimDisk::new(1), SharedClock::new());
        let (storage, _) = prepare(&whole, &clock);
        let begin = whole.operations();
        storage.pack_with(Tid::MAX, how, &mut Unwatched).unwrap();
        let end = whole.operations();
        drop(storage);
        for operation in begin..end {
            for cut in [false, true] {
                let (disk, clock) = (SimDisk::new(1), SharedClock::new());
                let (storage, tids) = prepare(&disk, &clock);
                match cut {
                    true => disk.stop_at(operation, Tear::Partly),
                    false => disk.fail_at(operation, io::ErrorKind::StorageFull, true),
                }
                let packed = storage.pack_with(Tid::MAX, how, &mut Unwatched);
                let case = format!("keep_old {keep_old}, operation {operation}, cut {cut}, {packed:?}");
                if !cut {
                    check_newest(&storage, &tids, &case);
                }
                drop(storage);
                let found = if cut { disk.crash(operation) } else { disk };
                let storage = with_blobs(&found, &clock).open(PATH).unwrap_or_else(|error| panic!("{case}: {error}"));
                check_blobs(&storage).unwrap_or_else(|error| panic!("{case}: {error}"));
                check_newest(&storage, &tids, &case);
                clock.tick();
                storage.pack_with(Tid::MAX, how, &mut Unwatched).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(files(&found, BLOBS), ([(1, tids[2])].into(), 0), "{case}");
            }
        }
    }
}

/// All that the database has a revision of has its blob.
fn check_newest(storage: &FileStorage, tids: &[Tid; 3], case: &str) {
    assert_eq!(read(storage, 1, tids[2]).as_deref(), Some(&b"six"[..]), "{case}");
    for (tid, bytes) in tids.iter().zip([b"one", b"two", b"six"]) {
        if storage.load_serial(Oid(1), *tid).is_ok() {
            assert_eq!(read(storage, 1, *tid).as_deref(), Some(&bytes[..]), "{case}");
        }
    }
}

/// On the real disk: permissions, and links in the way.
#[test]
fn a_link_in_the_folder_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PATH);
    let options = || Options::new().blobs(folder.path().join("blobs")).blob_layout(Layout::Lawn);
    let storage = options().create(&path).unwrap();
    let tid = try_store(&storage, 1, made(&storage, b"one")).unwrap();
    let file = storage.blob_folder().unwrap().path_of(Oid(1), tid);
    assert!(std::fs::metadata(&file).unwrap().permissions().readonly());
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let refused = Blobs::load_blob(&storage, Oid(1), tid).unwrap_err();
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
    drop(storage);
    assert!(matches!(options().blob_layout(Layout::Bushy).open(&path), Err(OpenError::Storage(Error::Blob(_)))));
}

/// Rule 8.4. A revision without its blob is something else, and a copy would not know.
#[test]
fn a_walk_ends_where_a_pack_removed_a_blob_of_it() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    clock.tick();
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(2), Tid::ZERO, BLOB.into()).unwrap();
    let bare = storage.commit(draft).unwrap();
    let old = store(&storage, &clock, 1, b"old");
    let new = store(&storage, &clock, 1, b"new");
    let reader = with_blobs(&disk, &clock).read_only().open(PATH).unwrap();
    let walks = [&storage, &reader].map(|one| one.transactions(TidRange::ALL, Order::OldestFirst).unwrap());
    storage.pack_with(new, Packing::new(), &mut Unwatched).unwrap();
    for walk in walks {
        let told: Vec<_> = walk.take(2).collect();
        // A record of the class that never had one. The reader cannot tell: the pack may have removed it.
        match &told[0] {
            Ok(transaction) => assert_eq!(transaction.tid, bare),
            Err(error) => assert!(matches!(error, Error::BlobPacked { oid: Oid(2), .. }), "{error}"),
        }
        assert!(matches!(told[1], Err(Error::BlobPacked { oid: Oid(1), tid }) if tid == old), "{:?}", told[1]);
    }
    // From the beginning, both tell what is there now.
    for one in [storage, with_blobs(&disk, &clock).read_only().open(PATH).unwrap()] {
        let told = one.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
        let told: Vec<_> = told.map(|transaction| transaction.unwrap().tid).collect();
        assert_eq!(told, [bare, new]);
    }
}

/// A pack keeps the revision whose data a later undo shares, outside of the object's past.
#[test]
fn a_walk_beside_a_pack_tells_what_it_keeps() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = with_blobs(&disk, &clock).create(PATH).unwrap();
    let other = Version::named("other");
    let commit = |change: &dyn Fn(&mut Draft)| {
        clock.tick();
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        change(&mut draft);
        storage.commit(draft).unwrap()
    };
    let first = commit(&|draft| draft.store_in(&other, Oid(0), Tid::ZERO, BLOB.into()).unwrap());
    let aborted = commit(&|draft| draft.abort_version(&other).unwrap());
    commit(&|draft| draft.undo(aborted).unwrap());
    let told = |walk: Box<dyn Iterator<Item = vellum_storage::Result<_>> + Send>| {
        walk.map(|told: vellum_storage::Result<vellum_storage::TransactionRecord>| told.unwrap().tid)
            .collect::<Vec<_>>()
    };
    let walk = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
    storage.pack_with(aborted, Packing::new(), &mut Unwatched).unwrap();
    assert!(told(storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap()).contains(&first));
    assert_eq!(told(walk).len(), 3);
}
