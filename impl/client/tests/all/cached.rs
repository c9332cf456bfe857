//! A cache file under a server's storage. Its clients end, are killed, and lose the power; the next one finds the file.

use std::path::Path;
use std::sync::Arc;

use vellum_client::{Access, Client, Config, Dial, Dialing, RemoteStorage, TieredCache};
use vellum_disk::SimDisk;
use vellum_harness::concurrent::{self, Plan};
use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::{Hosted, Merger};
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::subject::Can;
use vellum_harness::tick::tick;
use vellum_server::Codec;
use vellum_storage::{ManualClock, MemoryStorage, Oid, Storage, Tid, TransactionMeta, Version};

use crate::common::{Served, patient, runtime, speaks};
use crate::proxy::Trouble;
use crate::rules::CAN;

/// A disk that keeps a cache file, whatever happens to its clients.
pub struct Shelf {
    disk: SimDisk,
    /// Openings so far.
    opened: u64,
    /// Starts of the machine.
    boot: u8,
}

impl Shelf {
    pub fn new(seed: u64) -> Shelf {
        Shelf { disk: SimDisk::new(seed), opened: 0, boot: 1 }
    }

    /// The next client's cache. The last client has ended before; or it was killed, or the power went, by chance.
    pub fn open(&mut self, seed: u64) -> Arc<TieredCache> {
        self.opened += 1;
        self.disk = match seed % 3 {
            0 => self.disk.crash_keeping_everything(),
            1 => {
                self.boot += 1;
                self.disk.crash(seed)
            }
            _ => self.disk.clone(),
        };
        let (boot, nonce) = (Some([self.boot; 16]), self.opened);
        let options = vellum_cache::Options { bytes: 64 << 10, boot, nonce, changes: 20 };
        let disk = Arc::new(self.disk.clone());
        Arc::new(TieredCache::open(disk, Path::new("client.cache"), options, 16 << 10).unwrap())
    }
}

fn client(served: &Served, access: Access, cache: Arc<TieredCache>) -> RemoteStorage {
    let config = Config { access, patience: patient(), ..Config::default() };
    let client = Client::over(runtime().handle(), config, cache, served.way(Trouble::none()), 64 << 20);
    RemoteStorage::of(client, "a server").unwrap()
}

/// Storages in memory, behind servers, behind clients with a cache file. Opening again is another client, and its file
/// is as the last one left it.
fn remote(can: Can) -> Hosted {
    let mut last: Option<(Served, Shelf)> = None;
    let mut openings = 0;
    let hosted = Hosted::new("a server, and a cache file", can, move |opening| {
        openings += 1;
        let (served, mut shelf) = match last.take() {
            Some(last) if !opening.fresh => last,
            _ => {
                let storage = MemoryStorage::with("memory", opening.clock.clone(), Arc::new(Merger));
                let served = Served::new(Arc::new(storage), opening.clock.clone(), speaks(Codec::Msgpack));
                (served, Shelf::new(openings))
            }
        };
        let access = if opening.read_only { Access::Read } else { Access::Write };
        let storage = client(&served, access, shelf.open(openings));
        last = Some((served, shelf));
        Ok(Box::new(storage) as Box<dyn Storage>)
    });
    hosted.without_verdicts()
}

#[test]
fn a_remote_storage_with_a_cache_file_keeps_the_rules() {
    let mut subject = remote(CAN);
    let mut coverage = Coverage::default();
    let cases = std::env::var("VELLUM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20);
    for case in 5000..5000 + cases {
        if let Err(found) = run::case(&mut subject, 1, case, 30, &mut coverage) {
            panic!("case {case}, shrunk:\n{}", shrink(&mut subject, found, 200));
        }
    }
    println!("{} histories, {} steps, {} answers", coverage.histories, coverage.steps, coverage.answers);
}

#[test]
fn what_many_threads_are_told_from_a_cache_file_has_an_explanation() {
    for seed in 200..206 {
        let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
        let storage = MemoryStorage::with("memory", clock.clone(), Arc::new(Merger));
        let served = Served::new(Arc::new(storage), clock, speaks(Codec::Msgpack));
        let remote = client(&served, Access::Write, Shelf::new(seed).open(2));
        let plan = Plan { seed, threads: 4, transactions: 25, objects: 4, packs: 0 };
        concurrent::run(&remote, CAN, &plan).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// A way that leads nowhere.
struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self, _: usize) -> Dialing<'_> {
        Box::pin(std::future::pending())
    }
}

fn committed(storage: &dyn Storage, oid: u64, serial: Tid, text: &str) -> Tid {
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(oid), serial, text.to_owned().into()).unwrap();
    storage.commit(draft).unwrap()
}

/// Invariant 45.
#[test]
fn nothing_of_a_kept_file_is_answered_before_it_is_verified() {
    let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::with("memory", clock.clone(), Arc::new(Merger)));
    let served = Served::new(Arc::clone(&storage), clock, speaks(Codec::Msgpack));
    let mut shelf = Shelf::new(1);
    let first = client(&served, Access::Write, shelf.open(2));
    let tid = committed(&first, 0, Tid::ZERO, "one");
    drop(first);
    // There is no server: the file may be of another database, and too old.
    let config = Config { patience: patient(), ..Config::default() };
    let alone = Client::over(runtime().handle(), config, shelf.open(0), Arc::new(Nowhere), 64 << 20);
    assert!(alone.load(Oid(0)).get().is_none(), "it is answered, and nobody was asked");
    drop(alone);
    // With a server it is there at once, from the file.
    let again = client(&served, Access::Write, shelf.open(0));
    let found = again.client().load(Oid(0)).get().expect("it is in the file").unwrap().unwrap();
    assert_eq!((found.data.as_ref(), found.tid), (b"one".as_slice(), tid));
    // Another one changed it while that client was away.
    drop(again);
    let newer = committed(&*storage, 0, tid, "two");
    let last = client(&served, Access::Write, shelf.open(2));
    // The server may have answered by now.
    let early = last.client().load(Oid(0)).get();
    assert!(!matches!(early, Some(Ok(Some(found))) if found.tid == tid), "it is asked for");
    assert_eq!(last.load(Oid(0), &Version::TRUNK).unwrap().tid, newer);
}

/// Invariant 46: another database has transactions of the same times and later ones.
#[test]
fn a_file_of_another_database_is_emptied() {
    let serve = |text: &str, count: u64| {
        let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
        let storage = Arc::new(MemoryStorage::with("memory", clock.clone(), Arc::new(Merger)));
        let mut serial = Tid::ZERO;
        for _ in 0..count {
            serial = committed(&*storage, 0, serial, text);
        }
        committed(&*storage, 1, Tid::ZERO, text);
        Served::new(storage, clock, speaks(Codec::Msgpack))
    };
    let (this, other) = (serve("of this one", 3), serve("of the other", 4));
    let mut shelf = Shelf::new(1);
    let first = client(&this, Access::Write, shelf.open(2));
    assert_eq!(first.load(Oid(1), &Version::TRUNK).unwrap().data, "of this one");
    assert_eq!(first.load(Oid(0), &Version::TRUNK).unwrap().data, "of this one");
    drop(first);
    let second = client(&other, Access::Write, shelf.open(2));
    for oid in [0, 1] {
        assert_eq!(second.load(Oid(oid), &Version::TRUNK).unwrap().data, "of the other");
    }
}

/// Two clients of one machine have one file: what the first one has loaded the second one finds.
#[test]
fn a_guest_finds_what_the_owner_has_loaded() {
    let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
    let storage = Arc::new(MemoryStorage::with("memory", clock.clone(), Arc::new(Merger)));
    let tids = [0, 1].map(|oid| committed(&*storage, oid, Tid::ZERO, "one"));
    let served = Served::new(Arc::clone(&storage) as Arc<dyn Storage>, clock, speaks(Codec::Msgpack));
    let mut shelf = Shelf::new(1);
    let owner = client(&served, Access::Write, shelf.open(2));
    for oid in [0, 1] {
        owner.load(Oid(oid), &Version::TRUNK).unwrap();
    }
    let guest = client(&served, Access::Write, shelf.open(2));
    guest.load(Oid(0), &Version::TRUNK).unwrap();
    guest.load(Oid(1), &Version::TRUNK).unwrap();
    let newer = committed(&*storage, 1, tids[1], "two");
    for client in [&owner, &guest] {
        client.sync().unwrap();
    }
    for client in [&guest, &owner] {
        assert_eq!(client.load(Oid(1), &Version::TRUNK).unwrap().tid, newer);
    }
    // The guest takes the file over, and both go on.
    drop(owner);
    for n in 2..200 {
        committed(&*storage, n, Tid::ZERO, "another one");
        guest.sync().unwrap();
        guest.load(Oid(n), &Version::TRUNK).unwrap();
    }
    let third = shelf.open(2);
    assert!(!third.is_owner(), "the guest has it");
}
