//! A place for databases: a simulated disk, a clock that stands where it is put, and everything that can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::{Disk, SimDisk};
use vellum_file::{Durability, FileStorage, OpenError, Options};
use vellum_harness::hosted::{Hosted, Merger, Opening};
use vellum_harness::subject::Can;
use vellum_storage::{Error, ManualClock, Oid, Order, Result, Storage, Tid, TidRange, Version};

/// Where the database is.
pub const PATH: &str = "Data.fs";

/// How it is opened on this disk: in 2030, with one thread, so that everything can be done again.
pub fn options(disk: &SimDisk) -> Options {
    let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().expect("it is a time"));
    Options::new().disk(Arc::new(disk.clone())).clock(Arc::new(clock)).threads(1)
}

/// Every file with its contents, except for the lock, which stays.
pub fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = disk.paths().into_iter().filter(|path| path.extension().is_none_or(|end| end != "lock"));
    paths.map(|path| (path.clone(), disk.read_file(&path).unwrap_or_default())).collect()
}

/// Without its index a database is what its file says.
pub fn remove_index(disk: &SimDisk) {
    let _ = disk.remove(Path::new("Data.fs.index"));
}

/// FileStorage under the harness. Every other opening is without the index that was saved.
pub fn hosted(durability: Durability, spill_after: u64) -> Hosted {
    let mut disk = SimDisk::new(0);
    let mut openings = 0;
    Hosted::new("FileStorage", Can { counts: false, ..Can::EVERYTHING }, move |opening: Opening| {
        if opening.fresh {
            (disk, openings) = (SimDisk::new(0), 0);
        }
        openings += 1;
        if openings % 2 == 0 {
            remove_index(&disk);
        }
        open(&disk, durability, spill_after, opening)
    })
}

/// Opens a database as the harness wants it: a new one if there is none.
pub fn open(disk: &SimDisk, durability: Durability, spill: u64, opening: Opening) -> Result<Box<dyn Storage>> {
    let options = options(disk).clock(opening.clock).resolver(Arc::new(Merger));
    let options = options.durability(durability).spill_after(spill).blobs("blobs").journal_bytes(36 << 10);
    let opened = if opening.read_only { options.read_only().open(PATH) } else { options.open_or_create(PATH) };
    match opened {
        Ok(storage) => Ok(Box::new(storage)),
        Err(OpenError::Storage(error)) => Err(error),
        Err(other) => Err(Error::io(PATH, "opening it", std::io::Error::other(other.to_string()))),
    }
}

/// The answers of a database.
#[derive(Debug, Default)]
pub struct Seen {
    /// All of it, in short: databases that answer the same have the same.
    pub digest: u64,
    /// The objects that are there.
    pub oids: BTreeSet<Oid>,
    /// Transactions, oldest first.
    pub tids: Vec<Tid>,
    /// The versions in which something is.
    pub versions: Vec<Version>,
    /// Errors that say more than that something is not there.
    pub errors: Vec<String>,
}

struct Notes(Seen, DefaultHasher);

impl Notes {
    /// Takes an answer down, and gives it back if it is one.
    fn note<T: Debug>(&mut self, what: &str, answer: Result<T>) -> Option<T> {
        what.hash(&mut self.1);
        match answer {
            Ok(answer) => {
                format!("{answer:?}").hash(&mut self.1);
                Some(answer)
            }
            Err(error) => {
                error.to_string().hash(&mut self.1);
                if !matches!(error, Error::KeyError { .. }) {
                    self.0.errors.push(format!("{what}: {error}"));
                }
                None
            }
        }
    }
}

/// Revisions of an object that are looked at one by one.
const REVISIONS_MAX: usize = 12;

/// Objects that are looked at one by one.
const OBJECTS_MAX: usize = 400;

/// Asks for everything that can be read.
pub fn read(storage: &FileStorage) -> Seen {
    let mut notes = Notes(Seen::default(), DefaultHasher::new());
    notes.note("last", Ok((storage.last_transaction(), storage.object_count())));
    for order in [Order::NewestFirst, Order::OldestFirst] {
        notes.0.tids.clear();
        let Some(walk) = storage.transactions(TidRange::ALL, order).map_err(|e| notes.note::<()>("walk", Err(e))).ok()
        else {
            continue;
        };
        for transaction in walk {
            let Some(transaction) = notes.note("transaction", transaction) else { break };
            notes.0.tids.push(transaction.tid);
            notes.0.oids.extend(transaction.revisions.iter().map(|revision| revision.oid));
        }
    }
    notes.note("all that is current", storage.current_records(Oid::ROOT).collect::<Result<Vec<_>>>());
    notes.note("invalidations", storage.last_invalidations(20));
    if let Some(log) = storage.undo_log() {
        notes.note("undo log", log.undo_log(0, 50));
    }
    if let Some(versions) = storage.versions() {
        notes.0.versions = notes.note("versions", versions.versions()).unwrap_or_default();
    }
    let oids: Vec<Oid> = notes.0.oids.iter().copied().take(OBJECTS_MAX).collect();
    for oid in oids {
        notes.note("load", storage.load(oid, &Version::TRUNK));
        if let Some(versions) = storage.versions() {
            let version = notes.note("version", versions.modified_in_version(oid)).unwrap_or_default();
            notes.note("load in it", storage.load(oid, &version));
        }
        notes.note("load at the end", storage.load_before(oid, Tid::MAX));
        let history = notes.note("history", storage.history(oid, REVISIONS_MAX)).unwrap_or_default();
        for entry in history {
            notes.note("load_serial", storage.load_serial(oid, entry.tid));
            notes.note("load_before", storage.load_before(oid, entry.tid));
        }
    }
    let Notes(mut seen, hasher) = notes;
    seen.digest = hasher.finish();
    seen
}
