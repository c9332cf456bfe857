//! All operations on a file whose bytes may be anything.
//!
//! For all bytes, nothing panics, and each call ends with an answer or an error. These properties hold besides:
//!
//! 1. Checking, opening for reading only and recovering leave every file as it is.
//! 2. A file that the second reader ([`layout`]) accepts is opened without a repair.
//! 3. If a file opens without an index and without a repair, `check` finds no fault of format in it; and the other way
//!    round. All its questions are answered: no later read meets damage.
//! 4. After opening for writing, the second reader accepts the file.
//! 5. Recovering it gives a sound database.
//! 6. A commit, an undo and a pack that were done are there when it is opened again, by the index or without it; what
//!    was refused has changed nothing.
//!
//! For a file with transactions of the old status `u`, which the second reader does not read, point 3 holds except for
//! reading, and point 4 does not hold: no check looks at their records, and a reference to them is found to be wrong
//! only when it is read.
//!
//! An index that is wrong is believed if it agrees with the file in all places that are looked at (`ARCHITECTURE.md`
//! has it under what is known). So for a file with an untrusted index only the first point holds, and that nothing
//! panics.

use std::path::Path;

use vellum_disk::{Disk, SimDisk};
use vellum_file::{
    Durability, FaultKind, FileStorage, Options, Packing, Problem, ProblemKind, Unwatched, check_references, recover,
};
use vellum_storage::{Oid, Result, Storage, Tid, TransactionMeta, Version};

use crate::layout;
use crate::site::{self, PATH, Seen};

/// The operations besides reading. They come from one byte, so that a fuzzer chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Write to it as it was opened by its index, if there is one.
    by_index: bool,
    collect: bool,
    go_on: bool,
    /// Open it as of one of its transactions.
    as_of: bool,
    /// To which of its transactions it is packed.
    to: u8,
    /// Walk over it on two cores.
    two_threads: bool,
    relaxed: bool,
}

impl How {
    /// The operations that the byte selects.
    pub fn of(byte: u8) -> How {
        let bit = |n: u8| byte >> n & 1 == 1;
        How {
            by_index: bit(0),
            collect: bit(1),
            go_on: bit(2),
            as_of: bit(3),
            to: byte >> 4 & 3,
            two_threads: bit(6),
            relaxed: bit(7),
        }
    }
}

/// A class, and an empty dict.
const RECORD: &[u8] = b"\x80\x03cm\nC\n.\x80\x03}.";

/// Does all of it with this file, and this index beside it.
pub fn hold(file: &[u8], index: Option<&[u8]>, how: How) {
    let disk = SimDisk::new(1);
    disk.write_file(PATH, file);
    if let Some(index) = index {
        disk.write_file("Data.fs.index", index);
    }
    let mut options = site::options(&disk);
    if how.two_threads {
        options = options.threads(2);
    }
    if how.relaxed {
        options = options.durability(Durability::Relaxed);
    }
    let is_whole = layout::parse(file).is_some();
    let problems = read_only(&disk, &options, how);
    site::remove_index(&disk);
    match options.clone().read_only().open(PATH) {
        Ok(storage) => {
            let seen = site::read(&storage);
            // Except for references into a transaction with the old status `u`: opening passes over its records, and
            // only a read notices that nothing may refer to them.
            if !layout::has_undone(file) {
                assert_eq!(seen.errors, [""; 0], "it was opened without an index, and is damaged after all");
            }
            if storage.recovery().is_none() {
                assert_eq!(problems, [], "it was opened, and check finds");
            } else {
                assert!(!is_whole, "a sound file was repaired: {:?}", storage.recovery());
            }
        }
        Err(error) => {
            assert!(!is_whole, "a whole file was refused: {error}");
            let is_database = matches!(file.get(..4), Some(b"FS21" | b"FS30"));
            assert!(!problems.is_empty() || !is_database, "check finds nothing, but {error}");
        }
    }
    let trusted = (index.is_none() || !how.by_index) && !layout::has_undone(file);
    if let Some(index) = index.filter(|_| how.by_index) {
        disk.write_file("Data.fs.index", index);
    }
    recovered(&disk, &options);
    write(&disk, &options, how, trusted);
}

/// Faults of the format. A reference that leads nowhere, or a record that is no pickle, is not one; and files whose
/// transactions are not in order can be opened.
fn faults(problems: impl IntoIterator<Item = Problem>) -> Vec<Problem> {
    let is_order = |kind: &ProblemKind| {
        matches!(kind, ProblemKind::Format(FaultKind::NotLater { .. } | FaultKind::NotEarlier { .. }))
    };
    let is_fault = |problem: &Problem| {
        !is_order(&problem.kind)
            && matches!(
                problem.kind,
                ProblemKind::Format(_)
                    | ProblemKind::Skipped { .. }
                    | ProblemKind::UnfinishedEnd { .. }
                    | ProblemKind::PastLost { .. }
            )
    };
    problems.into_iter().filter(is_fault).collect()
}

/// Stories of lost objects that are told.
const STORIES: u64 = 8;

fn checked(options: &Options, path: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let checked = check_references(options, path, STORIES, &mut |problem| {
        // Each can be shown.
        assert!(!problem.kind.to_string().is_empty());
        problems.push(problem);
    });
    if let Ok((counts, _)) = checked {
        assert_eq!(counts.problems, problems.len() as u64);
    }
    faults(problems)
}

/// Checks it and opens it for reading, which changes nothing. Returns the faults that check finds.
fn read_only(disk: &SimDisk, options: &Options, how: How) -> Vec<Problem> {
    let before = site::files(disk);
    let problems = checked(options, PATH);
    if let Ok(storage) = options.clone().read_only().open(PATH) {
        let seen = site::read(&storage);
        if how.as_of {
            let tid = seen.tids.get(usize::from(how.to)).copied().unwrap_or(Tid(1));
            if let Ok(then) = options.clone().as_of(tid).open(PATH) {
                assert!(then.last_transaction() <= tid);
                site::read(&then);
            }
        }
        let packing = Packing::new().collect(how.collect).go_on(how.go_on);
        let _ = storage.rehearse_pack(to(&seen, how), packing, &mut Unwatched);
    }
    assert!(site::files(disk) == before, "a file that was only read was changed");
    problems
}

/// Recovers it, and reads the result.
fn recovered(disk: &SimDisk, options: &Options) {
    let before = site::files(disk);
    let out = "out.fs";
    if let Ok(salvage) = recover(options, PATH, out) {
        let bytes = disk.read_file(out).expect("it is said to be there");
        assert!(layout::parse(&bytes).is_some(), "what was recovered is not whole: {salvage:?}");
        assert_eq!(checked(options, out), []);
        let saved = options.clone().read_only().open(out);
        let saved = saved.unwrap_or_else(|e| panic!("the recovered file cannot be opened: {e}"));
        assert_eq!(saved.recovery(), None);
        assert_eq!(site::read(&saved).errors, [""; 0]);
        let _ = disk.remove(Path::new(out));
    }
    assert!(site::files(disk) == before, "the source of a recovery was changed");
}

type Change<'a> = &'a dyn Fn(&FileStorage) -> Result<Tid>;

/// Opens it for writing, and writes.
fn write(disk: &SimDisk, options: &Options, how: How, trusted: bool) {
    let before = site::files(disk);
    let storage = match options.open(PATH) {
        Ok(storage) => storage,
        Err(_) => {
            assert!(site::files(disk) == before, "it was refused, and changed");
            return;
        }
    };
    let whole = |when: &str| {
        let bytes = disk.read_file(PATH).unwrap_or_default();
        assert!(!trusted || layout::parse(&bytes).is_some(), "the file is not whole {when}");
    };
    whole("when it was opened");
    let seen = site::read(&storage);
    let mut last = storage.last_transaction();
    let changes: [Change<'_>; 4] = [
        &|storage| commit(storage, &seen),
        &|storage| undo(storage, seen.tids.last().copied().unwrap_or(Tid(1))),
        &|storage| undo(storage, seen.tids.get(usize::from(how.to)).copied().unwrap_or(Tid(1))),
        &|storage| end_version(storage, &seen),
    ];
    for (n, change) in changes.iter().enumerate() {
        let before = site::files(disk);
        match change(&storage) {
            Ok(tid) => {
                assert!(tid > last, "change {n} has the tid {tid}, which is not later than {last}");
                assert_eq!(storage.last_transaction(), tid);
                last = tid;
            }
            Err(error) => assert!(site::files(disk) == before, "change {n} was refused, and did something: {error}"),
        }
    }
    whole("after commits");
    let before = site::read(&storage);
    let packing = Packing::new().collect(how.collect).go_on(how.go_on).keep_old(how.relaxed);
    let packed = storage.pack_with(to(&seen, how), packing, &mut Unwatched);
    whole("after a pack");
    let after = site::read(&storage);
    if packed.is_err() {
        assert_eq!(before.digest, after.digest, "a pack was refused, and changed something: {packed:?}");
    }
    assert_eq!(storage.last_transaction(), last);
    let committed = commit(&storage, &after).is_ok();
    let now = site::read(&storage);
    assert!(!committed || now.digest != after.digest);
    drop(storage);
    for without_index in [false, true] {
        if without_index {
            site::remove_index(disk);
        }
        match options.open(PATH) {
            Ok(again) => {
                let seen = site::read(&again);
                assert!(!trusted || seen.digest == now.digest, "opened again, it has something else");
                assert!(!trusted || seen.errors == [""; 0], "{:?}", seen.errors);
            }
            Err(error) => assert!(!trusted, "it was closed, and cannot be opened again: {error}"),
        }
    }
    assert!(!trusted || checked(options, PATH).is_empty());
}

fn to(seen: &Seen, how: How) -> Tid {
    match how.to {
        0 => Tid::MAX,
        n => {
            let n = seen.tids.len() * usize::from(n) / 4;
            seen.tids.get(n).copied().unwrap_or(Tid(1))
        }
    }
}

/// Changes an object that is there, the first; one that is not; and deletes the last.
fn commit(storage: &FileStorage, seen: &Seen) -> Result<Tid> {
    let mut change = storage.begin(TransactionMeta::new().user("fuzz").description("a change"))?;
    let serial = |oid| -> Result<Tid> { Ok(storage.newest_record(oid)?.map_or(Tid::ZERO, |record| record.header.tid)) };
    let version = |oid| match storage.versions() {
        Some(versions) => versions.modified_in_version(oid).unwrap_or_default(),
        None => Version::TRUNK,
    };
    let first = seen.oids.first().copied().unwrap_or(Oid::ROOT);
    match version(first) {
        trunk if trunk.is_trunk() => change.store(first, serial(first)?, RECORD.into())?,
        version => {
            change.store_in(&version, first, serial(first)?, RECORD.into())?;
        }
    }
    let last = seen.oids.last().copied().filter(|last| *last != first && version(*last).is_trunk());
    if let Some(last) = last {
        // It may be nothing already.
        let _ = change.delete(last, serial(last)?);
    }
    if let Ok(new) = storage.new_oids(1) {
        change.store(new[0], Tid::ZERO, RECORD.into())?;
    }
    storage.vote(change)?.finish()
}

fn undo(storage: &FileStorage, tid: Tid) -> Result<Tid> {
    let mut change = storage.begin(TransactionMeta::new().description("an undo"))?;
    change.undo(tid)?;
    storage.vote(change)?.finish()
}

fn end_version(storage: &FileStorage, seen: &Seen) -> Result<Tid> {
    let mut change = storage.begin(TransactionMeta::new().description("the end of versions"))?;
    for (n, version) in seen.versions.iter().enumerate() {
        if n % 2 == 0 {
            change.commit_version(version, &Version::TRUNK)?;
        } else {
            change.abort_version(version)?;
        }
    }
    storage.vote(change)?.finish()
}
