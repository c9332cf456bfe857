//! The cache file: restarts, kills, power cuts, failing disks and damage. After each of them, whatever it still answers
//! is true.

use std::io;
use std::path::Path;

use proptest::prelude::*;
use vellum_cache::{CacheFile, Options, Report, Thorough};
use vellum_disk::{Disk, Open, RealDisk, SimDisk};
use vellum_storage::{LoadedAt, Oid, Tid};

use crate::world::{Step, World, step};

const PATH: &str = "client.cache";

fn options(boot: u8, nonce: u64) -> Options {
    Options { bytes: 64 << 10, boot: Some([boot; 16]), nonce, changes: 100 }
}

fn open(disk: &SimDisk, boot: u8, nonce: u64) -> CacheFile {
    let open = || CacheFile::open(disk, Path::new(PATH), &options(boot, nonce));
    // Operations that were told to fail may be those of the opening.
    (0..50).find_map(|_| open().ok()).expect("the file can be opened")
}

fn revision(size: usize, tid: u64, next: Option<u64>) -> LoadedAt {
    LoadedAt { data: vec![7; size].into(), tid: Tid(tid), next: next.map(Tid) }
}

#[derive(Clone, Debug)]
enum Event {
    /// Something happens while the client runs.
    Runs(Step),
    Checkpoint,
    /// The client ends, and is started again.
    Restart,
    /// The process is killed, and started again.
    Kill,
    /// The power goes; what of the unsynced writes is left depends on the number.
    PowerCut(u64),
    /// The operation after so many fails, perhaps half done.
    Fail(u64, bool),
    /// Others fill the cache.
    Fill(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        40 => step().prop_map(Event::Runs),
        3 => Just(Event::Checkpoint),
        1 => Just(Event::Restart),
        1 => Just(Event::Kill),
        2 => any::<u64>().prop_map(Event::PowerCut),
        1 => (0..6_u64, any::<bool>()).prop_map(|(after, partial)| Event::Fail(after, partial)),
        1 => (0..40_u64).prop_map(Event::Fill),
    ]
}

/// A client with its disk.
struct Machine {
    disk: SimDisk,
    boot: u8,
    opened: u64,
    world: World<CacheFile>,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        let disk = SimDisk::new(seed);
        disk.tear_sectors(true);
        let cache = open(&disk, 1, 1);
        cache.core().verify(vellum_cache::Changed::Any, Tid(1));
        Machine { disk, boot: 1, opened: 1, world: World::new(cache) }
    }

    /// The client is started on a disk. It is not verified yet, and answers all the same.
    fn start(self, disk: SimDisk, boot: u8) -> Machine {
        let opened = self.opened + 1;
        let world = self.world.restart(|cache| {
            drop(cache);
            open(&disk, boot, opened)
        });
        Machine { disk, boot, opened, world }
    }

    fn happen(mut self, event: &Event) -> Machine {
        match event {
            Event::Runs(step) => self.world.step(step),
            // It may fail, because another operation did.
            Event::Checkpoint => drop(self.world.cache.checkpoint()),
            Event::Restart => {
                self.world.cache.core().close();
                let _ = self.world.cache.checkpoint();
                let (disk, boot) = (self.disk.clone(), self.boot);
                self = self.start(disk, boot);
            }
            Event::Kill => {
                let (disk, boot) = (self.disk.crash_keeping_everything(), self.boot);
                self = self.start(disk, boot);
            }
            Event::PowerCut(seed) => {
                let (disk, boot) = (self.disk.crash(*seed), self.boot.wrapping_add(1).max(1));
                self = self.start(disk, boot);
            }
            Event::Fail(after, partial) => {
                self.disk.fail_at(self.disk.operations() + after, io::ErrorKind::Other, *partial);
            }
            Event::Fill(count) => {
                let core = self.world.cache.core();
                for oid in 0..*count {
                    core.store(core.ask(), Oid(1_000 + oid), &revision(1_000, 1, Some(2)));
                }
            }
        }
        self.world.check();
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_is_stale_whatever_happens_to_the_file(
        seed: u64,
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut machine = Machine::new(seed);
        for event in &events {
            machine = machine.happen(event);
        }
    }

    #[test]
    fn any_bytes_are_a_cache_or_no_cache(
        bytes in prop::collection::vec((0..64_u64 << 10, any::<u8>()), 0..200),
        length in prop_oneof![Just(None), (0..80_u64 << 10).prop_map(Some)],
    ) {
        let disk = SimDisk::new(1);
        let mut world = World::new(open(&disk, 1, 1));
        for oid in 0..6 {
            world.cache.core().store(world.cache.core().ask(), Oid(oid), &revision(100, 1, None));
        }
        world = world.restart(|cache| {
            drop(cache);
            let file = disk.open(Path::new(PATH), Open::ReadWrite).unwrap();
            for (at, byte) in bytes {
                file.write_at(&[byte], at).unwrap();
            }
            if let Some(length) = length {
                file.set_len(length).unwrap();
            }
            open(&disk, 1, 2)
        });
        for oid in 0..6 {
            if let Some(found) = world.cache.core().get(Oid(oid), Tid(2)) {
                prop_assert_eq!(found.data, vec![7; 100]);
            }
        }
    }
}

#[test]
fn a_restart_keeps_everything() {
    let disk = SimDisk::new(1);
    let cache = open(&disk, 1, 1);
    let core = cache.core();
    core.verify(vellum_cache::Changed::Any, Tid(5));
    assert!(core.store(core.ask(), Oid(1), &revision(100, 2, None)));
    assert!(core.store(core.ask(), Oid(2), &revision(100, 2, None)));
    assert!(core.store(core.ask(), Oid(3), &revision(100, 2, Some(4))));
    core.invalidate(Tid(6), &[Oid(2)]);
    let mut machine = [(disk.clone(), cache)];
    for boot in [1, 2] {
        let [(disk, cache)] = machine;
        cache.close().unwrap();
        let cache = open(&disk, boot, 2);
        let core = cache.core();
        assert_eq!((core.head(), core.len()), (Tid(6), 3), "boot {boot}");
        assert_eq!(core.get(Oid(1), Tid(7)), Some(revision(100, 2, None)));
        assert_eq!(core.get(Oid(2), Tid(7)), None);
        assert_eq!(core.get(Oid(2), Tid(6)), Some(revision(100, 2, Some(6))));
        assert_eq!(core.get(Oid(3), Tid(4)), Some(revision(100, 2, Some(4))));
        machine = [(disk, cache)];
    }
}

#[test]
fn a_kill_loses_nothing_and_a_power_cut_what_was_not_synced() {
    let disk = SimDisk::new(1);
    let cache = open(&disk, 1, 1);
    let core = cache.core();
    core.verify(vellum_cache::Changed::Any, Tid(5));
    core.store(core.ask(), Oid(1), &revision(100, 2, None));
    cache.checkpoint().unwrap();
    core.store(core.ask(), Oid(2), &revision(100, 2, None));
    core.invalidate(Tid(6), &[Oid(1)]);
    let killed = open(&disk.crash_keeping_everything(), 1, 2);
    assert_eq!((killed.core().head(), killed.core().len()), (Tid(6), 2));
    assert_eq!(killed.core().get(Oid(1), Tid(7)), None);
    assert!(killed.core().get(Oid(2), Tid(7)).is_some());
    let cut = open(&disk.crash_losing_everything(), 2, 2);
    assert_eq!((cut.core().head(), cut.core().len()), (Tid(5), 1));
    assert!(cut.core().get(Oid(1), Tid(6)).is_some());
    cache.checkpoint().unwrap();
    let cut = open(&disk.crash_losing_everything(), 2, 2);
    assert_eq!((cut.core().head(), cut.core().len()), (Tid(6), 2));
    assert!(cut.core().get(Oid(1), Tid(7)).is_none());
}

/// The power went, and the server came back without its last transaction. So what is of later than the head is not
/// believed, also when the head gets there.
#[test]
fn after_a_power_cut_what_is_newer_than_the_head_is_gone() {
    let disk = SimDisk::new(1);
    let cache = open(&disk, 1, 1);
    let core = cache.core();
    core.verify(vellum_cache::Changed::Any, Tid(5));
    assert!(core.store(core.ask(), Oid(1), &revision(100, 2, None)));
    assert!(core.store(core.ask(), Oid(2), &revision(100, 3, None)));
    cache.checkpoint().unwrap();
    core.invalidate(Tid(7), &[Oid(1)]);
    assert!(core.store(core.ask(), Oid(1), &revision(100, 7, None)));
    let disk = disk.crash_keeping_everything();
    for (boot, lost) in [(2, 9), (3, 11)] {
        let cut = open(&disk, boot, u64::from(boot));
        let core = cut.core();
        core.verify(vellum_cache::Changed::Objects(&[]), Tid(lost - 3));
        core.invalidate(Tid(lost - 1), &[Oid(9)]);
        assert_eq!(core.get(Oid(1), Tid(lost)), None, "boot {boot}");
        assert_eq!(core.get(Oid(2), Tid(lost)), Some(revision(100, 3, None)), "boot {boot}");
        cut.close().unwrap();
    }
}

/// A read that fails once, at the opening: what it would have found is not told of the changes after that.
#[test]
fn what_could_not_be_read_is_not_believed_later() {
    let mut emptied = 0;
    for read in 0..20 {
        let disk = SimDisk::new(1);
        let cache = open(&disk, 1, 1);
        cache.core().verify(vellum_cache::Changed::Any, Tid(5));
        assert!(cache.core().store(cache.core().ask(), Oid(1), &revision(100, 2, None)));
        assert!(cache.core().store(cache.core().ask(), Oid(2), &revision(100, 3, None)));
        cache.close().unwrap();
        disk.fail_read(read);
        let Ok(cache) = CacheFile::open(&disk, Path::new(PATH), &options(1, 2)) else { continue };
        emptied += u64::from(cache.core().is_empty());
        cache.core().verify(vellum_cache::Changed::Objects(&[]), Tid(6));
        cache.core().invalidate(Tid(7), &[Oid(1)]);
        cache.close().unwrap();
        let cache = open(&disk, 1, 3);
        assert_eq!(cache.core().get(Oid(1), Tid(8)), None, "read {read}");
    }
    assert!(emptied >= 3, "{emptied} openings emptied the file");
}

/// A file whose head was never durable may be of any database.
#[test]
fn after_a_power_cut_a_file_without_a_head_is_empty() {
    let disk = SimDisk::new(1);
    let cache = open(&disk, 1, 1);
    let core = cache.core();
    core.verify(vellum_cache::Changed::Any, Tid(5));
    assert!(core.store(core.ask(), Oid(1), &revision(100, 2, Some(4))));
    let cut = open(&disk.crash_keeping_everything(), 2, 2);
    assert_eq!((cut.core().head(), cut.core().len()), (Tid::ZERO, 0));
}

/// The server was rolled back from 20 to 8, and some operation of dropping everything fails. The server reaches 20
/// again, with other transactions, and then nothing shows that the file is of another time.
#[test]
fn a_file_that_could_not_be_dropped_is_not_believed() {
    for operation in 0..60 {
        let disk = SimDisk::new(1);
        let cache = open(&disk, 1, 1);
        let core = cache.core();
        core.verify(vellum_cache::Changed::Any, Tid(20));
        assert!(core.store(core.ask(), Oid(1), &revision(100, 15, None)));
        cache.checkpoint().unwrap();
        disk.fail_at(disk.operations() + operation, io::ErrorKind::Other, false);
        core.clear(Tid(8));
        for (disk, boot) in [(disk.crash_keeping_everything(), 1), (disk.crash_losing_everything(), 2)] {
            let again = open(&disk, boot, 2);
            let (head, found) = (again.core().head(), again.core().get(Oid(1), Tid(21)));
            assert!(head <= Tid(8) && found.is_none(), "operation {operation}: {head:?}, {found:?}");
        }
    }
}

#[test]
fn a_damaged_part_costs_its_entries_and_nothing_else() {
    let disk = SimDisk::new(1);
    let cache = open(&disk, 1, 1);
    let core = cache.core();
    for oid in 0..300 {
        assert!(core.store(core.ask(), Oid(oid), &revision(100, 0, None)));
    }
    cache.close().unwrap();
    let path = Path::new(PATH);
    let whole = Report::read(&disk, path, Thorough::Records).unwrap().unwrap();
    assert_eq!((whole.open, whole.damaged), (300, 0));
    // A sector of data, and one of headers.
    let file = disk.open(path, Open::ReadWrite).unwrap();
    let segment = u64::from(whole.segment_bytes);
    file.write_at(&[0xaa; 512], 8192 + segment - 512).unwrap();
    file.write_at(&[0xaa; 512], 8192 + segment + 512).unwrap();
    let damaged = Report::read(&disk, path, Thorough::Records).unwrap().unwrap();
    assert_eq!(whole.open - damaged.open, 512 / 64);
    assert!((4..=6).contains(&damaged.damaged), "{}", damaged.damaged);
    let cache = open(&disk, 1, 2);
    let found = (0..300).filter(|oid| cache.core().get(Oid(*oid), Tid(1)).is_some()).count() as u64;
    assert_eq!(found, damaged.open - damaged.damaged);
}

#[test]
fn one_process_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PATH);
    let options = Options::of_this_machine(1 << 20);
    let cache = CacheFile::open(&RealDisk, &path, &options).unwrap();
    assert_eq!(CacheFile::open(&RealDisk, &path, &options).err().map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
    let core = cache.core();
    assert!(core.store(core.ask(), Oid(1), &revision(100, 0, None)));
    let length = std::fs::metadata(&path).unwrap().len();
    cache.close().unwrap();
    let cache = CacheFile::open(&RealDisk, &path, &Options::of_this_machine(1 << 20)).unwrap();
    assert!(cache.core().get(Oid(1), Tid(1)).is_some());
    for oid in 0..20_000 {
        cache.core().store(cache.core().ask(), Oid(oid), &revision(1_000, 0, None));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length, "it never grows");
    assert!(length <= 1 << 21);
}
