//! Guests of a cache file: what they believe of another process's records, and what not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_cache::{CacheFile, Changed, Guest, Options};
use vellum_disk::SimDisk;
use vellum_storage::{LoadedAt, Oid, Tid};

const PATH: &str = "client.cache";

fn options(nonce: u64) -> Options {
    Options { bytes: 64 << 10, boot: Some([1; 16]), nonce, changes: 4 }
}

fn owner(disk: &SimDisk, nonce: u64) -> CacheFile {
    CacheFile::open(disk, Path::new(PATH), &options(nonce)).unwrap()
}

/// A guest that knows all transactions up to this one.
fn guest(disk: &SimDisk, told: u64) -> Guest {
    let mut guest = Guest::new(Arc::new(disk.clone()), PathBuf::from(PATH), options(99));
    guest.verify(Changed::Any, Tid(told));
    guest
}

fn revision(text: &str, tid: u64, next: Option<u64>) -> LoadedAt {
    LoadedAt { data: text.to_owned().into(), tid: Tid(tid), next: next.map(Tid) }
}

/// An owner that knows t5, and a guest that knows the same and has compared object 1.
fn both(disk: &SimDisk) -> (CacheFile, Guest) {
    let owner = owner(disk, 1);
    let core = owner.core();
    core.verify(Changed::Any, Tid(5));
    assert!(core.store(core.ask(), Oid(1), &revision("one", 2, None)));
    assert!(core.store(core.ask(), Oid(2), &revision("two", 3, None)));
    assert!(core.store(core.ask(), Oid(3), &revision("three", 1, Some(4))));
    let mut guest = guest(disk, 5);
    assert_eq!(guest.get(Oid(2), Tid(6)), None, "nothing was compared yet");
    guest.compare(Oid(1), &revision("one", 2, None));
    (owner, guest)
}

#[test]
fn a_guest_reads_what_the_owner_keeps() {
    let disk = SimDisk::new(1);
    let (owner, mut guest) = both(&disk);
    assert_eq!(guest.get(Oid(2), Tid(6)), Some(revision("two", 3, None)));
    assert_eq!(guest.get(Oid(3), Tid(4)), Some(revision("three", 1, Some(4))));
    assert_eq!(guest.get(Oid(3), Tid(5)), None);
    assert_eq!(guest.get(Oid(2), Tid(7)), None, "of that moment it knows nothing");
    let core = owner.core();
    assert!(core.store(core.ask(), Oid(4), &revision("four", 5, None)));
    assert_eq!(guest.get(Oid(4), Tid(6)), Some(revision("four", 5, None)));
    // Many more than the file holds.
    for oid in 100..2_000 {
        let found = revision(&format!("{oid:0100}"), 1, None);
        assert!(core.store(core.ask(), Oid(oid), &found));
        assert_eq!(guest.get(Oid(oid), Tid(6)), Some(found), "{oid}");
    }
    assert_eq!(guest.get(Oid(2), Tid(6)), None, "it was evicted");
    assert!(guest.len() <= core.len() + 100 && guest.index_bytes() < 24 * guest.len().max(1_000));
}

#[test]
fn a_guest_that_knows_more_than_the_owner_does_not_read_the_old() {
    let disk = SimDisk::new(1);
    let (owner, mut guest) = both(&disk);
    guest.invalidate(Tid(6), &[Oid(2)]);
    assert_eq!(guest.get(Oid(2), Tid(7)), None);
    assert_eq!(guest.get(Oid(2), Tid(6)), Some(revision("two", 3, Some(6))));
    assert_eq!(guest.get(Oid(1), Tid(7)), Some(revision("one", 2, None)));
    owner.core().invalidate(Tid(6), &[Oid(2)]);
    assert_eq!(guest.get(Oid(2), Tid(6)), Some(revision("two", 3, Some(6))));
    // It was away, and nobody knows what was changed.
    guest.verify(Changed::Any, Tid(9));
    assert_eq!(guest.get(Oid(1), Tid(10)), None);
    owner.core().verify(Changed::Objects(&[]), Tid(9));
    assert_eq!(guest.get(Oid(1), Tid(10)), Some(revision("one", 2, None)));
}

#[test]
fn a_guest_that_knows_less_than_the_owner_reads_the_past() {
    let disk = SimDisk::new(1);
    let (owner, mut guest) = both(&disk);
    let core = owner.core();
    core.invalidate(Tid(8), &[Oid(2)]);
    assert!(core.store(core.ask(), Oid(2), &revision("two again", 8, None)));
    assert_eq!(guest.get(Oid(2), Tid(6)), Some(revision("two", 3, Some(8))));
    guest.invalidate(Tid(8), &[Oid(2)]);
    assert_eq!(guest.get(Oid(2), Tid(9)), Some(revision("two again", 8, None)));
}

#[test]
fn a_file_of_another_database_is_not_read() {
    let disk = SimDisk::new(1);
    let _owner = both(&disk).0;
    let mut guest = guest(&disk, 5);
    guest.compare(Oid(1), &revision("another one", 2, None));
    guest.compare(Oid(2), &revision("two", 3, None));
    assert_eq!(guest.get(Oid(2), Tid(6)), None);
}

/// The server was rolled back to 5 and goes on. The owner knows that, and the guest does not.
/// The server was rolled back from 20 to 5, and goes on with other transactions. The owner of the file has not heard.
#[test]
fn a_file_of_a_time_that_the_server_has_left_is_not_read() {
    let disk = SimDisk::new(1);
    let owner = owner(&disk, 1);
    let core = owner.core();
    core.verify(Changed::Any, Tid(20));
    assert!(core.store(core.ask(), Oid(1), &revision("one", 2, None)));
    assert!(core.store(core.ask(), Oid(2), &revision("of a time that is gone", 10, None)));
    let mut guest = guest(&disk, 5);
    // It is of before that time.
    guest.compare(Oid(1), &revision("one", 2, None));
    guest.invalidate(Tid(30), &[Oid(9)]);
    assert_eq!(guest.get(Oid(2), Tid(31)), None);
    drop(owner);
    let file = guest.take_over().unwrap().unwrap();
    assert_eq!(file.core().get(Oid(2), Tid(31)), None);
    // So with a file that was opened later.
    let disk = SimDisk::new(1);
    let mut guest = self::guest(&disk, 5);
    let owner = self::owner(&disk, 1);
    owner.core().verify(Changed::Any, Tid(20));
    assert!(owner.core().store(owner.core().ask(), Oid(1), &revision("one", 2, None)));
    guest.compare(Oid(1), &revision("one", 2, None));
    guest.invalidate(Tid(30), &[Oid(9)]);
    assert_eq!(guest.get(Oid(1), Tid(31)), None);
}

#[test]
fn a_file_that_was_emptied_is_not_read_on() {
    let disk = SimDisk::new(1);
    let (owner, mut guest) = both(&disk);
    guest.invalidate(Tid(20), &[]);
    let core = owner.core();
    core.clear(Tid(5));
    core.invalidate(Tid(6), &[Oid(7)]);
    assert!(core.store(core.ask(), Oid(7), &revision("of another time", 6, None)));
    assert_eq!(guest.get(Oid(7), Tid(21)), None);
    assert_eq!(guest.get(Oid(1), Tid(6)), None);
    // The guest's process begins anew, too.
    guest.clear(Tid(6));
    guest.compare(Oid(7), &revision("of another time", 6, None));
    assert_eq!(guest.get(Oid(7), Tid(7)), Some(revision("of another time", 6, None)));
}

#[test]
fn a_guest_takes_over_what_it_has_compared() {
    for (is_proven, told) in [(true, 5), (true, 7), (true, 30), (false, 7)] {
        let disk = SimDisk::new(1);
        let (owner, mut guest) = both(&disk);
        assert!(guest.take_over().unwrap().is_none(), "there is an owner");
        if !is_proven {
            guest.clear(Tid(5));
        }
        (6..=told).for_each(|tid| guest.invalidate(Tid(tid), &[Oid(if tid == 7 { 2 } else { 9 })]));
        // The owner is killed.
        drop(owner);
        let file = guest.take_over().unwrap().expect("it is free");
        let core = file.core();
        let found = [1, 2, 3].map(|oid| core.get(Oid(oid), Tid(told + 1)).is_some());
        assert_eq!(core.head(), Tid(told));
        match (is_proven, told) {
            (true, 5) => assert_eq!(found, [true, true, false]),
            (true, 7) => assert_eq!(found, [true, false, false]),
            // It does not remember all changes since; or it never believed the file.
            _ => assert_eq!(found, [false; 3]),
        }
    }
}

/// The guest was away, and knows of a change only that it was made in that time. The file has noted it already.
#[test]
fn a_change_of_unknown_time_is_no_end_after_a_takeover() {
    let disk = SimDisk::new(1);
    let (owner, mut guest) = both(&disk);
    owner.core().invalidate(Tid(6), &[Oid(2)]);
    owner.core().invalidate(Tid(7), &[]);
    guest.verify(Changed::Objects(&[Oid(2)]), Tid(8));
    drop(owner);
    let file = guest.take_over().unwrap().expect("it is free");
    let current = revision("two again", 6, None);
    assert!(file.core().store(file.core().ask(), Oid(2), &current));
    assert_eq!(file.core().get(Oid(2), Tid(8)), Some(current.clone()));
    assert_eq!(file.core().get(Oid(2), Tid(9)), Some(current));
}

#[test]
fn a_guest_that_is_behind_the_file_does_not_take_it_over() {
    let disk = SimDisk::new(1);
    let (owner, mut guest) = both(&disk);
    owner.core().invalidate(Tid(6), &[]);
    drop(owner);
    assert!(guest.take_over().unwrap().is_none());
    guest.invalidate(Tid(6), &[]);
    assert!(guest.take_over().unwrap().is_some());
}

#[test]
fn a_disk_that_fails_costs_a_guest_its_hits_and_nothing_else() {
    let mut missed = 0;
    for read in 0..12 {
        let disk = SimDisk::new(1);
        let (_owner, mut guest) = both(&disk);
        disk.fail_read(read);
        for _ in 0..3 {
            let found = guest.get(Oid(2), Tid(6));
            missed += u64::from(found.is_none());
            assert!(found.is_none() || found == Some(revision("two", 3, None)));
        }
        assert_eq!(guest.get(Oid(2), Tid(6)), Some(revision("two", 3, None)), "read {read}");
    }
    assert!(missed >= 6, "{missed} reads that failed were needed");
}
