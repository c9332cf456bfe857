//! A cache file under a server's storage. Its clients end, are killed, and lose the power; the next one finds the file.

use std::path::Path;
use std::sync::Arc;

use vellum_client::{Access, Client, Config, RemoteStorage, TieredCache};
use vellum_disk::SimDisk;
use vellum_harness::concurrent::{self, Plan};
use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::{Hosted, Merger};
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::subject::Can;
use vellum_harness::tick::tick;
use vellum_server::Codec;
use vellum_storage::{ManualClock, MemoryStorage, Storage};

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

/// Storages in memory, behind servers, behind clients with a cache file. Opening again is another client, and its file is
/// as the last one left it.
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
    let cases = std::env::var("VELLUM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(30);
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
