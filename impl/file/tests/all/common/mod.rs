//! Helpers of several tests: dice, a simulated disk with a database on it, and all answers of a database.

pub mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;
use vellum_blob::Found;
use vellum_disk::SimDisk;
use vellum_file::{FileStorage, OpenError, Options, Problem, ProblemKind};
use vellum_harness::hosted::{Merger, Opening};
use vellum_harness::subject::Can;
use vellum_storage::{
    Clock, Error, ManualClock, Oid, Order, Resolver, Result, Revision, Status, Storage, Tid, TidRange, TransactionMeta,
    TransactionRecord, Version,
};

pub mod counted;
pub mod packs;

pub const PATH: &str = "Data.fs";
pub const BLOBS: &str = "blobs";

/// The capabilities that FileStorage declares to the harness.
pub const CAN: Can = Can { counts: false, ..Can::EVERYTHING };

/// Opens a database as the harness wants it: a new one if there is none. One thread, so that the operations of the disk
/// come in the same order each time.
pub fn open_under_harness(options: Options, opening: Opening) -> Result<Box<dyn Storage>> {
    open_under_harness_with(options, opening, Arc::new(Merger))
}

/// The same with another resolver.
pub fn open_under_harness_with(
    options: Options,
    opening: Opening,
    resolver: Arc<dyn Resolver>,
) -> Result<Box<dyn Storage>> {
    let options = options.clock(opening.clock).resolver(resolver).threads(1).blobs(BLOBS);
    let opened = if opening.read_only { options.read_only().open(PATH) } else { options.open_or_create(PATH) };
    match opened {
        Ok(storage) => {
            if !opening.read_only {
                check_blobs(&storage)?;
            }
            Ok(Box::new(storage))
        }
        Err(OpenError::Storage(error)) => Err(error),
        Err(other) => Err(Error::io(PATH, "opening it", std::io::Error::other(other.to_string()))),
    }
}

/// Fails unless the blob folder holds the blobs of the database's revisions, and nothing else. An orphan is not among
/// the answers of a storage, so no other check sees it.
///
/// Rules 8.4 and 8.6.
pub fn check_blobs(storage: &FileStorage) -> Result<()> {
    let folder = storage.blob_folder().unwrap();
    let mut known = BTreeSet::new();
    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
        let transaction = transaction?;
        let with_blob = transaction.revisions.iter().filter(|revision| revision.blob.is_some());
        known.extend(with_blob.map(|revision| (revision.oid, transaction.tid)));
    }
    let found = folder.walk().map(|found| match found {
        Ok(Found::Blob { oid, tid, .. }) => Ok((oid, tid)),
        other => panic!("{other:?}"),
    });
    let found = found.collect::<Result<BTreeSet<_>>>()?;
    let orphans: Vec<_> = found.difference(&known).map(|(oid, tid)| format!("{oid} of {tid}")).collect();
    if orphans.is_empty() {
        return Ok(());
    }
    Err(Error::Unfit {
        name: PATH.to_owned(),
        why: format!("there are orphans in its blob folder: {}", orphans.join(", ")),
    })
}

/// A database that ZODB wrote, or what ZODB reads in it.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// A small generator, so that a seed says everything.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// A record of a class without a module's worth of meaning, whose state is these bytes.
pub fn record(state: &[u8]) -> Bytes {
    let mut record = b"\x80\x03cm\nC\n.\x80\x03B".to_vec();
    record.extend_from_slice(&(state.len() as u32).to_le_bytes());
    record.extend_from_slice(state);
    record.push(b'.');
    record.into()
}

/// One that two storages can share.
#[derive(Clone, Debug)]
pub struct SharedClock(pub Arc<ManualClock>);

impl SharedClock {
    pub fn new() -> SharedClock {
        SharedClock(Arc::new(ManualClock::at("2003-04-01T00:00:00Z".parse().unwrap())))
    }

    pub fn tick(&self) {
        self.0.advance(SignedDuration::from_secs(1));
    }
}

impl Clock for SharedClock {
    fn now(&self) -> jiff::Timestamp {
        self.0.now()
    }
}

pub fn options(disk: &SimDisk, clock: &SharedClock) -> Options {
    Options::new().disk(Arc::new(disk.clone())).clock(Arc::new(clock.clone()))
}

/// Every file with its contents.
pub fn everything(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.read_file(path).unwrap())).collect()
}

/// The same without the lock, which stays when a storage is gone.
pub fn everything_but_the_lock(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = everything(disk);
    files.retain(|path, _| path.extension().is_none_or(|extension| extension != "lock"));
    files
}

/// The tid of the object's newest revision.
pub fn serial(storage: &FileStorage, oid: Oid) -> Tid {
    storage.newest_record(oid).unwrap().map_or(Tid::ZERO, |record| record.header.tid)
}

/// Commits these changes (none: deletes) to whatever is there.
pub fn commit(storage: &FileStorage, what: &str, changes: &[(u64, Option<Bytes>)]) -> Result<Tid> {
    let meta = TransactionMeta::new().user("test").description(what.to_owned()).extension(&b"}."[..]);
    let mut transaction = storage.begin(meta)?;
    for (oid, data) in changes {
        let oid = Oid(*oid);
        match data {
            Some(data) => transaction.store(oid, serial(storage, oid), data.clone())?,
            None => transaction.delete(oid, serial(storage, oid))?,
        }
    }
    storage.vote(transaction)?.finish()
}

/// A transaction that stores these records on the trunk.
pub fn transaction(tid: u64, status: Status, revisions: &[(u64, &[u8])]) -> TransactionRecord {
    let revision = |&(oid, data): &(u64, &[u8])| Revision {
        oid: Oid(oid),
        version: Version::TRUNK,
        data: Some(record(data)),
        blob: None,
        source: None,
        base: None,
    };
    TransactionRecord {
        tid: Tid(tid),
        status,
        user: "ann".into(),
        description: "".into(),
        extension: "".into(),
        revisions: revisions.iter().map(revision).collect(),
    }
}

/// All transactions, oldest first.
pub fn all_transactions(storage: &FileStorage) -> Vec<TransactionRecord> {
    storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap()).collect()
}

fn hash(data: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    format!("{}:{:016x}", data.len(), hasher.finish())
}

/// Everything that a storage answers, a line for each answer.
pub fn dump(storage: &FileStorage) -> Vec<String> {
    let mut lines = vec![format!(
        "{} bytes, {} objects, last {}",
        storage.size(),
        storage.object_count(),
        storage.last_transaction()
    )];
    let mut oids = Vec::new();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let walk = match storage.transactions(TidRange::ALL, order) {
            Ok(walk) => walk,
            Err(e) => {
                lines.push(format!("{order:?}: {e}"));
                continue;
            }
        };
        for transaction in walk {
            let Ok(t) = &transaction else {
                lines.push(format!("{order:?}: {}", transaction.unwrap_err()));
                break;
            };
            lines
                .push(format!("{order:?} {} {:?} {:?} {:?} {:?}", t.tid, t.status, t.user, t.description, t.extension));
            for r in &t.revisions {
                let data = r.data.as_deref().map(hash);
                lines.push(format!("    {} {:?} {data:?} {:?}", r.oid, r.version.name(), r.source));
                oids.push(r.oid);
            }
        }
    }
    for record in storage.current_records(Oid::ROOT) {
        match record {
            Ok(r) => lines.push(format!("now {} {} {}", r.oid, r.tid, hash(&r.data))),
            Err(e) => lines.push(format!("now {e}")),
        }
    }
    oids.sort();
    oids.dedup();
    for oid in oids {
        match storage.load(oid, &Version::TRUNK) {
            Ok(found) => lines.push(format!("load {oid} {} {}", found.tid, hash(&found.data))),
            Err(e) => lines.push(format!("load {oid} {e}")),
        }
        let history = storage.history(oid, 50);
        lines.push(match &history {
            Ok(entries) => {
                format!("history {oid} {:?}", entries.iter().map(|e| (e.tid, e.size, &e.version)).collect::<Vec<_>>())
            }
            Err(e) => format!("history {oid} {e}"),
        });
        for entry in history.unwrap_or_default().iter().take(5) {
            let data = storage.load_serial(oid, entry.tid).map(|data| hash(&data)).map_err(|e| e.to_string());
            let before = storage.load_before(oid, entry.tid).map(|found| found.map(|f| (hash(&f.data), f.tid, f.next)));
            lines.push(format!("at {oid} {} {data:?} {:?}", entry.tid, before.map_err(|e| e.to_string())));
        }
    }
    match storage.last_invalidations(20) {
        Ok(all) => lines.extend(all.iter().map(|i| format!("invalidate {} {:?}", i.tid, i.oids))),
        Err(e) => lines.push(format!("invalidate {e}")),
    }
    lines
}

pub fn problems(options: &Options, path: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    vellum_file::check(options, path, &mut |problem| problems.push(problem)).unwrap();
    problems
}

/// Problems except for dangling references.
pub fn format_problems(options: &Options, path: &str) -> Vec<Problem> {
    let mut problems = problems(options, path);
    problems.retain(|p| {
        !matches!(p.kind, ProblemKind::Missing { .. } | ProblemKind::Nothing { .. } | ProblemKind::BadReference(_))
    });
    problems
}
