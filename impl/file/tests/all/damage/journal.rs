//! A journal beside a file that is not as it should be: another program wrote to the file, one of the two was replaced,
//! bytes are damaged, the disk is full. Nothing is overwritten, and nothing is lost without a word.

use crate::common::{PATH, SharedClock, all_transactions, commit, everything_but_the_lock, options, problems, record};
use vellum_disk::SimDisk;
use vellum_file::{
    Durability, FileStorage, JournalState, OpenError, Options, Packing, ProblemKind, Unwatched, discard_journal,
    left_journal, recover, save_journaled,
};
use vellum_storage::{Oid, Tid, Version};

const JOURNAL: &str = "Data.fs.journal";

fn journaled(disk: &SimDisk, clock: &SharedClock) -> Options {
    options(disk, clock).durability(Durability::Journal).journal_bytes(36 << 10).threads(1)
}

/// A database with so many commits, still open. The first two were there before the journal was.
fn site(disk: &SimDisk, clock: &SharedClock, commits: u64) -> FileStorage {
    let before = options(disk, clock).create(PATH).unwrap();
    one(&before, clock, 0);
    one(&before, clock, 1);
    drop(before);
    let storage = journaled(disk, clock).open(PATH).unwrap();
    for n in 2..commits {
        one(&storage, clock, n);
    }
    storage
}

fn one(storage: &FileStorage, clock: &SharedClock, n: u64) -> Tid {
    clock.tick();
    commit(storage, &format!("commit {n}"), &[(n % 3, Some(record(&[n as u8; 700])))]).unwrap()
}

/// The work of a program that knows no journal.
fn without_the_journal(disk: &SimDisk, clock: &SharedClock, work: impl FnOnce(&FileStorage)) {
    let journal = disk.read_file(JOURNAL).unwrap();
    vellum_disk::Disk::remove(disk, JOURNAL.as_ref()).unwrap();
    let _ = vellum_disk::Disk::remove(disk, "Data.fs.index".as_ref());
    let storage = options(disk, clock).open(PATH).unwrap();
    work(&storage);
    drop(storage);
    disk.write_file(JOURNAL, &journal);
}

fn state(disk: &SimDisk, clock: &SharedClock) -> JournalState {
    left_journal(&journaled(disk, clock), PATH).unwrap().unwrap().state
}

#[test]
fn after_a_power_cut_readers_see_everything_and_a_writer_completes_the_file() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 5);
    let all = all_transactions(&storage);
    let found = disk.crash_losing_everything();
    drop(storage);
    let options = journaled(&found, &clock);
    let before = everything_but_the_lock(&found);
    let JournalState::Needed { bytes } = state(&found, &clock) else { panic!("{:?}", state(&found, &clock)) };
    assert!(bytes > 2000, "{bytes}");
    let reader = options.clone().read_only().open(PATH).unwrap();
    assert_eq!(all_transactions(&reader), all);
    assert_eq!(reader.load(Oid(1), &Version::TRUNK).unwrap().tid, all[4].tid);
    let then = options.clone().as_of(all[3].tid).open(PATH).unwrap();
    assert_eq!(all_transactions(&then), all[..4]);
    let checked = vellum_file::check(&options, PATH, &mut |problem| panic!("{problem:?}")).unwrap();
    assert_eq!((checked.transactions, checked.only_journaled), (5, 3));
    assert!(everything_but_the_lock(&found) == before, "a reader has written");
    let saved = recover(&options, PATH, "out").unwrap();
    assert_eq!((saved.transactions, saved.journal), (5, None));
    // Without a journal of its own: that of the crash is used up all the same.
    let writer = crate::common::options(&found, &clock).open(PATH).unwrap();
    assert_eq!(all_transactions(&writer), all);
    assert!(matches!(writer.left_journal().unwrap().state, JournalState::Needed { .. }));
    assert!(found.read_file(JOURNAL).is_none());
    assert_eq!(
        all_transactions(&crate::common::options(&found.crash_losing_everything(), &clock).open(PATH).unwrap()),
        all
    );
}

#[test]
fn a_file_that_went_on_with_everything_is_opened() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 5);
    // The process is killed.
    let found = disk.crash_keeping_everything();
    drop(storage);
    assert_eq!(state(&found, &clock), JournalState::Contained);
    let mut all = Vec::new();
    without_the_journal(&found, &clock, |other| {
        one(other, &clock, 5);
        all = all_transactions(other);
    });
    assert_eq!(state(&found, &clock), JournalState::Contained);
    let opened = journaled(&found, &clock).open(PATH).unwrap();
    assert_eq!(all_transactions(&opened), all);
    assert_eq!(all.len(), 6);
}

#[test]
fn a_file_that_moved_on_is_left_alone() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 5);
    let all = all_transactions(&storage);
    let found = disk.crash_losing_everything();
    drop(storage);
    let mut other = Vec::new();
    without_the_journal(&found, &clock, |storage| {
        one(storage, &clock, 9);
        other = all_transactions(storage);
    });
    assert_eq!(other.len(), 3, "the other program saw two");
    let before = everything_but_the_lock(&found);
    for durability in [Durability::Full, Durability::Relaxed, Durability::Journal] {
        let error = journaled(&found, &clock).durability(durability).open(PATH).unwrap_err();
        assert!(matches!(&error, OpenError::Journal { left, .. } if left.transactions.len() == 3), "{error}");
        let text = error.to_string();
        for part in
            ["3 acknowledged transactions, from ", "vellum journal save Data.fs OUT", "vellum journal discard Data.fs"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
    let options = journaled(&found, &clock);
    let reader = options.clone().read_only().open(PATH).unwrap();
    assert_eq!(all_transactions(&reader), other, "a reader sees the file as it is");
    assert!(reader.left_journal().unwrap().is_refused());
    let kinds: Vec<_> = problems(&options, PATH).into_iter().map(|problem| problem.kind).collect();
    assert!(matches!(&kinds[..], [ProblemKind::Journal(left)] if left.transactions.len() == 3), "{kinds:?}");
    assert!(recover(&options, PATH, "out").unwrap().journal.is_some());
    // The two ways out.
    let (left, _) = save_journaled(&options, PATH, "saved").unwrap();
    assert_eq!(left.transactions, all[2..].iter().map(|transaction| transaction.tid).collect::<Vec<_>>());
    assert_eq!(all_transactions(&options.clone().read_only().open("saved").unwrap()), all);
    assert!(matches!(save_journaled(&options, PATH, "saved"), Err(OpenError::Exists { .. })));
    vellum_disk::Disk::remove(&found, "out".as_ref()).unwrap();
    vellum_disk::Disk::remove(&found, "saved".as_ref()).unwrap();
    assert!(everything_but_the_lock(&found) == before, "something was changed");
    let (_, aside) = discard_journal(&options, PATH).unwrap();
    assert_eq!(found.read_file(&aside).unwrap(), before[std::path::Path::new(JOURNAL)]);
    assert_eq!(all_transactions(&options.open(PATH).unwrap()), other);
}

#[test]
fn a_file_that_another_program_packed_is_left_alone() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let _storage = site(&disk, &clock, 8);
    for found in [disk.crash_losing_everything(), disk.crash_keeping_everything()] {
        without_the_journal(&found, &clock, |storage| {
            // So that there is something to pack.
            one(storage, &clock, 0);
            one(storage, &clock, 0);
            storage.pack_with(Tid::MAX, Packing::new().collect(false), &mut Unwatched).unwrap();
        });
        let before = everything_but_the_lock(&found);
        let error = journaled(&found, &clock).open(PATH).unwrap_err();
        assert!(matches!(error, OpenError::Journal { .. }), "{error}");
        let error = save_journaled(&journaled(&found, &clock), PATH, "saved").unwrap_err();
        assert!(error.to_string().contains("Data.fs.old"), "{error}");
        assert!(everything_but_the_lock(&found) == before, "something was changed");
    }
}

/// A backup that is older than the journal was put in the place of the file.
#[test]
fn a_file_that_is_too_old_is_left_alone() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 5);
    let found = disk.crash_losing_everything();
    let bytes = found.read_file(PATH).unwrap();
    let old = all_transactions(&storage)[1].tid;
    let short = (4..bytes.len()).find(|&at| bytes[at..].starts_with(&old.to_bytes())).unwrap();
    found.write_file(PATH, &bytes[..short]);
    let error = journaled(&found, &clock).open(PATH).unwrap_err();
    assert!(error.to_string().contains("and the journal begins at"), "{error}");
}

/// A byte of the journal is flipped. Of all states that a crash leaves, none is opened with less than everything
/// acknowledged, except that the last entry cannot be told from one that was never finished.
#[test]
fn a_damaged_journal_is_never_believed() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    // Seven commits in the journal: it has gone to its other half.
    let storage = site(&disk, &clock, 9);
    let all = all_transactions(&storage);
    let (mut refused, mut lost) = (0, 0);
    for (found, is_kill) in [(disk.crash_losing_everything(), false), (disk.crash_keeping_everything(), true)] {
        let journal = found.read_file(JOURNAL).unwrap();
        for at in (0..journal.len()).step_by(37) {
            let found = found.crash_keeping_everything();
            let mut bytes = journal.clone();
            bytes[at] ^= 0x10;
            found.write_file(JOURNAL, &bytes);
            let before = everything_but_the_lock(&found);
            match journaled(&found, &clock).open(PATH) {
                Err(OpenError::Journal { .. }) => {
                    refused += 1;
                    assert!(everything_but_the_lock(&found) == before, "byte {at}: something was changed");
                    let reader = journaled(&found, &clock).read_only().open(PATH).unwrap();
                    assert!(all.starts_with(&all_transactions(&reader)));
                }
                Err(other) => panic!("byte {at}: {other}"),
                Ok(opened) => {
                    let there = all_transactions(&opened);
                    assert!(all.starts_with(&there) && there.len() + 1 >= all.len(), "byte {at}: {}", there.len());
                    lost += usize::from(there.len() < all.len());
                    assert!(!is_kill || there.len() == all.len(), "byte {at}: the file had it");
                }
            }
        }
    }
    assert!(refused > 20 && lost > 5, "{refused} refused, {lost} without the last one");
}

/// A sound file keeps its contents beside any bytes that are called its journal.
#[test]
fn no_journal_changes_a_file_that_needs_none() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    drop(site(&disk, &clock, 5));
    let bytes = disk.read_file(PATH).unwrap();
    let live = {
        let third = SimDisk::new(3);
        let later = SharedClock::new();
        later.0.advance(jiff::SignedDuration::from_hours(5));
        let storage = site(&third, &later, 7);
        let live = third.read_file(JOURNAL).unwrap();
        drop(storage);
        live
    };
    for journal in [vec![], vec![0; 40 << 10], b"VELLJRN1".to_vec(), vec![0xff; 5000], live[..4096].to_vec(), live] {
        let found = disk.crash_keeping_everything();
        found.write_file(JOURNAL, &journal);
        match journaled(&found, &clock).open(PATH) {
            Ok(_) => {}
            Err(OpenError::Journal { .. }) => assert_eq!(found.read_file(JOURNAL).unwrap(), journal),
            Err(other) => panic!("{other}"),
        }
        assert!(found.read_file(PATH).unwrap() == bytes, "the file was changed");
    }
}

#[test]
fn a_reader_beside_a_running_site_sees_everything_and_writes_nothing() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 2);
    for n in 2..30 {
        one(&storage, &clock, n);
        let before = everything_but_the_lock(&disk);
        let reader = journaled(&disk, &clock).read_only().open(PATH).unwrap();
        assert_eq!(all_transactions(&reader), all_transactions(&storage));
        assert_eq!(reader.left_journal().unwrap().state, JournalState::Contained);
        drop(reader);
        assert!(everything_but_the_lock(&disk) == before, "a reader has written");
    }
    // A copy of the file alone has everything, too.
    let copy = SimDisk::new(2);
    copy.write_file(PATH, &disk.read_file(PATH).unwrap());
    assert_eq!(all_transactions(&options(&copy, &clock).open(PATH).unwrap()).len(), 30);
}

#[test]
fn a_full_disk_takes_nothing_and_keeps_the_storage_open() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 4);
    let used: usize = disk.paths().iter().map(|path| disk.read_file(path).unwrap().len()).sum();
    disk.set_capacity(Some(used as u64 + 100));
    let all = all_transactions(&storage);
    for _ in 0..3 {
        let error = commit(&storage, "too much", &[(0, Some(record(&[1; 700])))]).unwrap_err();
        assert!(error.to_string().contains("nothing was kept"), "{error}");
        assert_eq!(all_transactions(&storage), all);
        // Nor is it in the journal, from which a crash could bring it back.
        let found = disk.crash_keeping_everything();
        found.set_capacity(None);
        assert_eq!(all_transactions(&journaled(&found, &clock).open(PATH).unwrap()), all);
    }
    disk.set_capacity(None);
    one(&storage, &clock, 5);
    let found = disk.crash_losing_everything();
    assert_eq!(all_transactions(&journaled(&found, &clock).open(PATH).unwrap()).len(), all.len() + 1);
}

#[test]
fn without_room_for_a_journal_each_commit_syncs_twice() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    drop(site(&disk, &clock, 4));
    let used: usize = disk.paths().iter().map(|path| disk.read_file(path).unwrap().len()).sum();
    disk.set_capacity(Some(used as u64 + 5000));
    let storage = journaled(&disk, &clock).open(PATH).unwrap();
    assert_eq!(disk.read_file(JOURNAL), None);
    let tid = one(&storage, &clock, 5);
    drop(storage);
    let found = disk.crash_losing_everything();
    assert_eq!(options(&found, &clock).open(PATH).unwrap().last_transaction(), tid);
}

#[test]
fn a_journal_without_its_file_is_kept() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 4);
    let found = disk.crash_losing_everything();
    drop(storage);
    vellum_disk::Disk::remove(&found, PATH.as_ref()).unwrap();
    let journal = found.read_file(JOURNAL).unwrap();
    let error = journaled(&found, &clock).open_or_create(PATH).unwrap_err();
    assert!(matches!(error, OpenError::JournalAlone { .. }), "{error}");
    assert!(error.to_string().contains("put the file back first"), "{error}");
    assert_eq!(found.read_file(JOURNAL).unwrap(), journal);
    assert_eq!(found.read_file(PATH), None);
}

/// A journal that the next opening can use is not put aside.
#[test]
fn a_journal_that_fits_cannot_be_discarded() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 4);
    let found = disk.crash_losing_everything();
    drop(storage);
    let error = discard_journal(&journaled(&found, &clock), PATH).unwrap_err();
    assert!(error.to_string().contains("there is nothing to choose"), "{error}");
    assert!(found.read_file(JOURNAL).is_some());
}

#[test]
fn a_disk_that_cannot_read_the_journal_says_so() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = site(&disk, &clock, 4);
    let found = disk.crash_losing_everything();
    drop(storage);
    found.read_fail(JOURNAL, 4096..4200);
    let before = everything_but_the_lock(&found).keys().cloned().collect::<Vec<_>>();
    let error = journaled(&found, &clock).open(PATH).unwrap_err();
    assert!(error.to_string().contains("reading the journal"), "{error}");
    assert_eq!(everything_but_the_lock(&found).keys().cloned().collect::<Vec<_>>(), before);
}
