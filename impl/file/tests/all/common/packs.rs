//! Helpers of the tests of packing: databases with a past, and the times of packs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use vellum_disk::{Disk, DiskFile, Lock, Open, SimDisk};
use vellum_file::format::TransactionHeader;
use vellum_file::{Fate, FileStorage, Options, PackWatch, Packed, Packing, Record, Unwatched};
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::hosted::{Hosted, Opening};
use vellum_harness::node::Node;
use vellum_harness::run;
use vellum_harness::subject::Can;
use vellum_storage::{Oid, Order, Result, Tid, TidRange, TransactionMeta, Version};

use crate::common::{CAN, PATH, SharedClock, commit, open_under_harness, options, serial};

/// The file of a random history of the harness, with undos, versions and garbage. Without `packed`, none of it was
/// packed.
pub fn history(seed: u64, steps: usize, packed: bool) -> Vec<u8> {
    let disk = SimDisk::new(seed);
    let under = disk.clone();
    // A record that may hide references stops every pack that collects.
    let can = CAN.without(Can { untold: true, ..Can::default() });
    let can = if packed { can } else { can.without(Can { pack: true, ..Can::default() }) };
    let mut subject = Hosted::new("FileStorage", can, move |opening: Opening| {
        open_under_harness(Options::new().disk(Arc::new(under.clone())), opening)
    });
    run::play_random(&mut subject, &mut Seed::of(seed, 0), steps, &mut Coverage::default()).unwrap();
    drop(subject);
    disk.read_file(PATH).unwrap()
}

/// A disk with these files on it, durably.
pub fn disk_of<'a>(seed: u64, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> SimDisk {
    let disk = SimDisk::new(seed);
    files.into_iter().for_each(|(path, bytes)| disk.write_file(path, bytes));
    disk
}

/// On one thread, so that the operations of the disk come in the same order each time.
pub fn alone(disk: &SimDisk, clock: &SharedClock) -> Options {
    options(disk, clock).threads(1)
}

pub fn tids(storage: &FileStorage) -> Vec<Tid> {
    storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap().tid).collect()
}

/// The tids of the transactions in a file.
pub fn tids_of(bytes: &[u8]) -> Vec<Tid> {
    let disk = disk_of(1, [(PATH, bytes)]);
    tids(&alone(&disk, &SharedClock::new()).read_only().open(PATH).unwrap())
}

pub fn unwatched(storage: &FileStorage, to: Tid, how: Packing) -> Result<Packed> {
    storage.pack_with(to, how, &mut Unwatched)
}

/// Commits a small new object.
pub fn commit_new(storage: &FileStorage, oid: u64) -> Result<Tid> {
    commit(storage, "a new one", &[(oid, Some(node(7, &[])))])
}

/// A record with this number that refers to these.
pub fn node(number: u8, strong: &[u64]) -> Bytes {
    Node { number, strong: strong.iter().map(|&oid| Oid(oid)).collect(), ..Node::default() }.encode()
}

/// Commits objects, each with what it refers to.
pub fn link(storage: &FileStorage, number: u8, objects: &[(u64, &[u64])]) -> Result<Tid> {
    let changes: Vec<_> = objects.iter().map(|(oid, to)| (*oid, Some(node(number, to)))).collect();
    commit(storage, "", &changes)
}

/// The number of the revision that the trunk shows, and its references; none for a tombstone.
pub fn loaded(storage: &FileStorage, oid: u64) -> Option<(u8, Vec<u64>)> {
    let found = storage.load(Oid(oid), &Version::TRUNK).ok()?;
    let node = Node::decode(&found.data).unwrap();
    Some((node.number, node.strong.iter().map(|oid| oid.0).collect()))
}

/// Stores in a version, whatever is there.
pub fn store_in(storage: &FileStorage, version: &str, oid: u64, number: u8, to: &[u64]) -> Result<Tid> {
    let mut transaction = storage.begin(TransactionMeta::new())?;
    let serial = serial(storage, Oid(oid));
    transaction.store_in(&Version::named(version.to_owned()), Oid(oid), serial, node(number, to))?;
    storage.vote(transaction)?.finish()
}

pub fn remove(disk: &SimDisk, path: &str) {
    let _ = disk.remove(Path::new(path));
}

/// The disk of a program that is killed after so many operations, while the machine keeps running.
#[derive(Clone, Debug)]
pub struct Killed {
    disk: SimDisk,
    left: Arc<AtomicU64>,
}

impl Killed {
    pub fn after(operations: u64, disk: &SimDisk) -> Killed {
        Killed { disk: disk.clone(), left: Arc::new(AtomicU64::new(operations)) }
    }

    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(io::Error::other("the program was killed")) } else { Ok(()) }
    }

    fn operation(&self) -> io::Result<()> {
        self.alive()?;
        self.left.fetch_sub(1, Ordering::SeqCst);
        self.alive()
    }
}

impl Disk for Killed {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(how, Open::CreateNew | Open::Truncate) {
            self.operation()?
        } else {
            self.alive()?
        }
        Ok(Arc::new(KilledFile { file: self.disk.open(path, how)?, disk: self.clone() }))
    }

    fn scratch(&self, near: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.scratch(near)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.rename(from, to)
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.link(path, name)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.remove(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.alive()?;
        self.disk.exists(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.operation()?;
        self.disk.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct KilledFile {
    file: Arc<dyn DiskFile>,
    disk: Killed,
}

impl DiskFile for KilledFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.alive()?;
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.file.write_at(buf, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.alive()?;
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operation()?;
        self.file.sync()
    }
}

type Told<'a> = Box<dyn FnMut(&Seen) -> Result<()> + 'a>;

/// Does something at moments of a pack.
pub struct Meanwhile<'a> {
    seen: Seen,
    told: Told<'a>,
    trouble: Result<()>,
}

/// How far a pack has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How often it began.
    pub begins: u32,
    /// In this attempt: transactions that were copied or not, and records of them.
    pub transactions: u32,
    pub records: u32,
    /// Where it is.
    pub at: At,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// The extent was noted, and nothing was read yet.
    #[default]
    Begins,
    /// It is known what survives.
    Transaction,
    Record,
    Ends,
    /// The copy is synced.
    Ready,
}

impl Meanwhile<'_> {
    pub fn new<'a>(told: impl FnMut(&Seen) -> Result<()> + 'a) -> Meanwhile<'a> {
        Meanwhile { seen: Seen::default(), told: Box::new(told), trouble: Ok(()) }
    }

    fn tell(&mut self, at: At) -> Result<()> {
        self.seen.at = at;
        (self.told)(&self.seen)
    }
}

impl PackWatch for Meanwhile<'_> {
    fn begins(&mut self) {
        self.seen = Seen { begins: self.seen.begins + 1, ..Seen::default() };
        self.trouble = self.tell(At::Begins);
    }

    fn transaction(&mut self, _: &TransactionHeader, _: [&[u8]; 3]) -> Result<()> {
        std::mem::replace(&mut self.trouble, Ok(()))?;
        self.seen.transactions += 1;
        self.tell(At::Transaction)
    }

    fn record(&mut self, _: &Record, _: Fate) -> Result<()> {
        self.seen.records += 1;
        self.tell(At::Record)
    }

    fn transaction_ends(&mut self, _: bool) -> Result<()> {
        self.tell(At::Ends)
    }

    fn ready(&mut self) -> Result<()> {
        self.tell(At::Ready)
    }
}
