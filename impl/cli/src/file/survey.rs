//! The blobs of a database beside the files of its folder: which revision has no file, and which file no revision.
//!
//! The records are read once from the beginning to the end, and every revision of a blob is noted, 17 bytes each. Then
//! the folder is walked, and each file is looked up among the revisions.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use vellum_blob::{BlobFolder, Error, Found};
use vellum_disk::{DiskFile, Kind};
use vellum_file::FileStorage;
use vellum_file::format::START;
use vellum_storage::{Oid, Order, Status, Storage, Tid, TidRange, may_have_blob};
use vellum_terminal::{Meter, Run};

use super::DataFile;
use super::blobs::RECORD_BYTES;

/// Bytes of a blob that are read at once.
const PIECE: usize = 1 << 20;

/// A revision of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    /// The object.
    pub oid: Oid,
    /// The transaction.
    pub tid: Tid,
    /// Whether the object is this now.
    pub is_current: bool,
    /// Whether nobody can tell that it is a blob's: the record is encrypted, or cannot be read.
    is_untold: bool,
}

/// Something about a folder that an operator should know.
#[derive(Debug)]
pub enum Finding {
    /// A revision whose file is not there.
    Missing(Revision),
    /// A revision whose file cannot be read, and why.
    Unreadable(Revision, String),
    /// A file that belongs to no revision of a blob.
    Orphan {
        /// The object that it names.
        oid: Oid,
        /// The transaction that it names.
        tid: Tid,
        /// Its length.
        bytes: u64,
    },
    /// A file that its owner or others may write to.
    Writable {
        /// The object.
        oid: Oid,
        /// The transaction.
        tid: Tid,
        /// Its permissions.
        mode: u32,
    },
    /// Something that is no blob's file.
    Stranger {
        /// Its place.
        path: PathBuf,
        /// Its kind.
        kind: Kind,
    },
    /// A part of the folder that cannot be read.
    Folder(String),
}

/// The counts of a survey.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survey {
    /// Objects that are blobs now.
    pub objects: u64,
    /// Revisions of blobs.
    pub revisions: u64,
    /// Files that belong to a revision.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those that are an object's blob now.
    pub current_bytes: u64,
    /// Files that belong to a revision and have no bytes.
    pub empty: u64,
    /// Revisions without a file.
    pub missing: u64,
    /// Of these: revisions that objects are now.
    pub missing_now: u64,
    /// Files that cannot be read.
    pub unreadable: u64,
    /// Files that can be written to.
    pub writable: u64,
    /// Files without a revision.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Orphans that are later than the last transaction.
    pub later_orphans: u64,
    /// Entries of the folder that are not a blob's file.
    pub strangers: u64,
    /// Parts of the folder that cannot be read.
    pub unread_folders: u64,
}

impl Survey {
    /// The counts that are known without a folder.
    pub fn of(revisions: &[Revision]) -> Survey {
        let known = revisions.iter().filter(|revision| !revision.is_untold);
        let objects = known.clone().filter(|revision| revision.is_current).count() as u64;
        Survey { objects, revisions: known.count() as u64, ..Survey::default() }
    }

    /// Whether every revision has a file that can be read.
    pub fn is_whole(&self) -> bool {
        self.missing == 0 && self.unreadable == 0 && self.unread_folders == 0
    }

    /// Whether there are files, and none of them is the database's.
    pub fn is_of_another(&self) -> bool {
        self.orphans > 0 && self.files == 0
    }
}

/// Every revision of a blob, in the order of the oids and tids.
///
/// # Errors
///
/// The data file is damaged.
pub fn revisions(storage: &FileStorage) -> Run<Vec<Revision>> {
    let (file, meter) = (DataFile::of(storage), Meter::new("blobs"));
    let damage = |fault| file.damage(&fault);
    let (mut scanner, mut holders) = (file.scanner(), file.scanner());
    let (mut found, mut position) = (Vec::new(), START);
    let mut transactions = 0_u64;
    while position < file.end() {
        let mut records = HashMap::new();
        let header = scanner.transaction(position, |_, record| {
            // If an object occurs twice, the last one counts.
            records.insert(record.header.oid, record);
            Ok(())
        });
        let header = header.map_err(damage)?;
        position += header.length + 8;
        transactions += 1;
        if transactions.is_multiple_of(1024) {
            meter.update(position, file.end());
        }
        if header.status == Status::Undone.byte() {
            continue;
        }
        for (oid, record) in records {
            let Some(holder) = file.holder(&mut holders, &record).map_err(damage)? else { continue };
            let data = file.data_start(&holder, RECORD_BYTES).map_err(damage)?;
            if may_have_blob(&data) && is_whole_enough(&data, holder.header.data_length) {
                let is_current = storage.newest_record(oid)?.is_some_and(|newest| newest.header.tid == header.tid);
                let is_untold = vellum_pickle::class_of(&data).is_err();
                found.push(Revision { oid, tid: header.tid, is_current, is_untold });
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The same of any storage, which tells its transactions in order.
///
/// # Errors
///
/// The storage cannot be read.
pub fn revisions_told(storage: &dyn Storage) -> Run<Vec<Revision>> {
    let (mut found, meter) = (Vec::new(), Meter::new("blobs"));
    for (n, transaction) in (0_u64..).zip(storage.transactions(TidRange::ALL, Order::OldestFirst)?) {
        let transaction = transaction?;
        if n % 1024 == 1023 {
            meter.update(n, n);
        }
        let mut seen = HashSet::new();
        // If an object occurs twice, the last one counts.
        for revision in transaction.revisions.iter().rev().filter(|revision| seen.insert(revision.oid)) {
            let Some(data) = revision.data.as_deref().filter(|data| may_have_blob(data)) else { continue };
            let (oid, tid) = (revision.oid, transaction.tid);
            let is_current = storage.history(oid, 1)?.first().is_some_and(|newest| newest.tid == tid);
            found.push(Revision { oid, tid, is_current, is_untold: vellum_pickle::class_of(data).is_err() });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A class that cannot be read from the beginning of a long record is not a blob's, which comes first.
fn is_whole_enough(data: &[u8], length: u64) -> bool {
    length <= data.len() as u64 || vellum_pickle::class_of(data).is_ok()
}

/// Compares the folder with the revisions. `each` is called with every finding. With `read_all` the bytes of every blob
/// are read, too.
///
/// # Errors
///
/// The errors of `each`.
pub fn survey(
    folder: &BlobFolder,
    revisions: &[Revision],
    last: Tid,
    read_all: bool,
    each: &mut dyn FnMut(Finding) -> Run<()>,
) -> Run<Survey> {
    let known = |revision: &&Revision| !revision.is_untold;
    let mut survey = Survey::of(revisions);
    let meter = Meter::new(if read_all { "reading blobs" } else { "blob folder" });
    let mut is_there = vec![false; revisions.len()];
    let mut seen = 0_u64;
    for found in folder.walk() {
        seen += 1;
        if seen.is_multiple_of(256) {
            meter.update(seen.min(revisions.len() as u64), revisions.len() as u64);
        }
        let (oid, tid, bytes, mode) = match found {
            Ok(Found::Blob { oid, tid, length, mode }) => (oid, tid, length, mode),
            Ok(Found::Stranger { path, kind }) => {
                survey.strangers += 1;
                each(Finding::Stranger { path, kind })?;
                continue;
            }
            Err(error) => {
                survey.unread_folders += 1;
                each(Finding::Folder(error.to_string()))?;
                continue;
            }
        };
        let Ok(at) = revisions.binary_search_by_key(&(oid, tid), |revision| (revision.oid, revision.tid)) else {
            survey.orphans += 1;
            survey.orphan_bytes += bytes;
            survey.later_orphans += u64::from(tid > last);
            each(Finding::Orphan { oid, tid, bytes })?;
            continue;
        };
        is_there[at] = true;
        survey.files += 1;
        survey.bytes += bytes;
        survey.current_bytes += if revisions[at].is_current { bytes } else { 0 };
        survey.empty += u64::from(bytes == 0);
        if mode & 0o222 != 0 {
            survey.writable += 1;
            each(Finding::Writable { oid, tid, mode })?;
        }
        if let Err(why) = readable(folder, oid, tid, bytes, read_all) {
            survey.unreadable += 1;
            each(Finding::Unreadable(revisions[at], why))?;
        }
    }
    for (&revision, _) in revisions.iter().zip(&is_there).filter(|(revision, is_there)| !**is_there && known(revision))
    {
        match folder.read(revision.oid, revision.tid) {
            // A concurrent commit placed it.
            Ok(_) => {}
            Err(Error::Missing { .. }) => {
                survey.missing += 1;
                survey.missing_now += u64::from(revision.is_current);
                each(Finding::Missing(revision))?;
            }
            Err(other) => {
                survey.unreadable += 1;
                each(Finding::Unreadable(revision, other.to_string()))?;
            }
        }
    }
    Ok(survey)
}

/// Why a file cannot be read; with `read_all`, to its end.
fn readable(folder: &BlobFolder, oid: Oid, tid: Tid, bytes: u64, read_all: bool) -> Result<(), String> {
    let file = folder.read(oid, tid).map_err(|error| error.to_string())?;
    if !read_all {
        return Ok(());
    }
    let read = read_through(&*file)
        .map_err(|(at, error)| format!("{}: byte {at} cannot be read: {error}", folder.path_of(oid, tid).display()))?;
    match read < bytes {
        true => Err(format!("{}: it ends after {read} of {bytes} bytes", folder.path_of(oid, tid).display())),
        false => Ok(()),
    }
}

fn read_through(file: &dyn DiskFile) -> Result<u64, (u64, std::io::Error)> {
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    loop {
        match file.read_full_at(&mut buffer, at) {
            Ok(0) => return Ok(at),
            Ok(read) => at += read as u64,
            Err(error) => return Err((at, error)),
        }
    }
}
