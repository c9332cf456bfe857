//! A pack that is cut, that finds no room, whose disk fails, or whose file is damaged: the database is the one before or the
//! one after, to the byte; what was acknowledged is there, nothing is left lying about, and all goes on.

mod common;
#[path = "common/packs.rs"]
mod packs;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use common::*;
use packs::*;
use vellum_disk::{Disk, Open, SimDisk, Tear};
use vellum_file::{FileStorage, OpenError, Options, Packing};
use vellum_storage::{Error, Oid, Storage, Tid};

const INDEX: &str = "Data.fs.index";
const HALF_MADE: &str = "Data.fs.pack";
const OLD: &str = "Data.fs.old";
const OLD_NEW: &str = "Data.fs.old.new";

/// The file that an earlier pack kept.
const OLDER: &[u8] = b"what an earlier pack kept";

/// Going on, since random histories have references to what is nowhere.
fn packing(collect: bool, keep_old: bool) -> Packing {
    Packing { collect, go_on: true, keep_old }
}

/// A database, and to which moment it is to be packed, and how.
struct Case {
    name: String,
    bytes: Vec<u8>,
    to: Tid,
    how: Packing,
}

impl Case {
    fn new(seed: u64, packed: bool) -> Case {
        let bytes = history(seed, 110, packed);
        let tids = tids_of(&bytes);
        let mut dice = Dice(seed);
        let to = match dice.roll(4) {
            0 => Tid::MAX,
            1 => tids.last().copied().unwrap_or(Tid::MAX),
            _ => tids.get(tids.len() / 2 + dice.roll(1 + tids.len() as u64 / 2) as usize).copied().unwrap_or(Tid::MAX),
        };
        let how = packing(dice.roll(4) > 0, seed % 2 == 0);
        Case { name: format!("seed {seed}, {} transactions, to {to}, {how:?}", tids.len()), bytes, to, how }
    }

    /// The disk with the database, its index, and what an earlier pack kept.
    fn disk(&self, seed: u64) -> SimDisk {
        let disk = disk_of(seed, [(PATH, &self.bytes[..])]);
        drop(alone(&disk, &SharedClock::new()).open(PATH).unwrap());
        let found = everything_but_the_lock(&disk);
        let files = found.iter().map(|(path, bytes)| (path.to_str().unwrap(), &bytes[..]));
        disk_of(seed, files.chain([(OLD, OLDER)]))
    }
}

/// A database that has come to a point: all that it answers, and its bytes.
#[derive(Clone, PartialEq, Eq)]
struct State {
    answers: Vec<String>,
    bytes: Vec<u8>,
}

impl State {
    fn of(storage: &FileStorage, disk: &SimDisk) -> State {
        State { answers: dump(storage), bytes: disk.read_file(PATH).unwrap() }
    }
}

/// Opening, a commit, the pack, another commit, and closing; and after which operation of the disk each was done.
struct Whole {
    /// Opened, committed, packed, committed again.
    states: Vec<(u64, State)>,
    operations: u64,
}

const FIRST_NEW: u64 = 5_000;

/// Plays it as far as it goes; how many steps were acknowledged.
fn play(case: &Case, disk: &SimDisk, told: &mut dyn FnMut(&FileStorage)) -> usize {
    let Ok(storage) = alone(disk, &SharedClock::new()).open(PATH) else { return 0 };
    told(&storage);
    for step in 1..4 {
        let done = match step {
            2 => unwatched(&storage, case.to, case.how).map(drop),
            _ => commit_new(&storage, FIRST_NEW + step).map(drop),
        };
        if done.is_err() {
            return step as usize;
        }
        told(&storage);
    }
    4
}

impl Whole {
    fn play(case: &Case) -> Whole {
        let disk = case.disk(1);
        let mut states = Vec::new();
        let acknowledged =
            play(case, &disk, &mut |storage| states.push((disk.operations(), State::of(storage, &disk))));
        assert_eq!(acknowledged, 4, "{}", case.name);
        Whole { states, operations: disk.operations() }
    }
}

/// What a crash left is one of these states; and everything else beside it is what it should be.
fn look(case: &Case, found: &SimDisk, allowed: &[&State], whole: &Whole, what: &str, clock: &SharedClock) -> usize {
    let named = || {
        format!(
            "{}, {what}:\n  {}",
            case.name,
            found.paths().iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join("\n  ")
        )
    };
    let before_pack = &whole.states[1].1;
    // Who only reads sees it, and leaves all alone.
    let files = everything(found);
    let reading = alone(found, clock).read_only().open(PATH).unwrap_or_else(|e| panic!("{}: {e}", named()));
    let answers = dump(&reading);
    drop(reading);
    assert!(everything(found) == files, "{}: reading changed something", named());
    let Some(nth) = allowed.iter().position(|state| state.answers == answers) else {
        panic!(
            "{}: neither of {} databases; {:?} instead of {:?}",
            named(),
            allowed.len(),
            answers.first(),
            allowed.iter().map(|s| s.answers.first()).collect::<Vec<_>>()
        );
    };
    // The index was not believed wrongly: without it all is the same.
    let without = found.crash_keeping_everything();
    remove(&without, INDEX);
    assert_eq!(dump(&alone(&without, clock).open(PATH).unwrap()), answers, "{}: without the index", named());
    // So does who opens it for writing, and takes away what is left of a pack that was cut.
    let storage = alone(found, clock).open(PATH).unwrap_or_else(|e| panic!("{}: {e}", named()));
    assert_eq!(dump(&storage), answers, "{}", named());
    assert!(found.read_file(HALF_MADE).is_none(), "{}: it is left", named());
    match (found.read_file(OLD), found.read_file(OLD_NEW)) {
        (old, new) if case.how.keep_old => {
            let old = old.unwrap_or_else(|| panic!("{}: what an earlier pack kept is gone", named()));
            let kept = old == before_pack.bytes;
            assert!(kept || old == OLDER, "{}: not the old file", named());
            // If it is packed, then what was to be kept is there.
            let under_way = new.is_some_and(|new| new == before_pack.bytes);
            let packed = whole.states[2..].iter().any(|(_, state)| state.answers == answers);
            let is_same = whole.states[1].1.bytes == whole.states[2].1.bytes;
            assert!(kept || under_way || !packed || is_same, "{}: the old file is gone", named());
        }
        (old, new) => {
            assert!(old.as_deref() == Some(OLDER) && new.is_none(), "{}: it was not to be kept", named());
        }
    }
    // It goes on: what is acknowledged now survives the next crash, whatever the first left undecided.
    commit_new(&storage, 7_000).unwrap_or_else(|e| panic!("{}: {e}", named()));
    let answers = dump(&storage);
    for (how, found) in [
        ("losing", found.crash_losing_everything()),
        ("keeping", found.crash_keeping_everything()),
        ("drawn", found.crash(nth as u64 + 77)),
    ] {
        let storage = alone(&found, clock).open(PATH).unwrap_or_else(|e| panic!("{}, then {how}: {e}", named()));
        assert_eq!(dump(&storage), answers, "{}, then {how}", named());
    }
    // And closing and opening again finds the same, by the index that it left.
    drop(storage);
    let storage = alone(found, clock).open(PATH).unwrap();
    assert_eq!(dump(&storage), answers, "{}", named());
    unwatched(&storage, Tid::MAX, case.how).unwrap_or_else(|e| panic!("{}: the next pack: {e}", named()));
    nth
}

/// The power goes in every operation of an opening, a commit, a pack and another commit.
fn crash_everywhere(seeds: Range<u64>, packed: bool) {
    let (mut crashes, mut packs, mut smaller) = (0, [0, 0], 0);
    let clock = SharedClock::new();
    for seed in seeds {
        let case = Case::new(seed, packed);
        let whole = Whole::play(&case);
        smaller += u64::from(whole.states[2].1.bytes.len() < whole.states[1].1.bytes.len());
        for operation in 0..whole.operations {
            for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
                let disk = case.disk(seed * 1000 + operation);
                disk.stop_at(operation, tear);
                let acknowledged = play(&case, &disk, &mut |_| ());
                let (first, last) = (acknowledged.max(1) - 1, acknowledged.min(3));
                let allowed: Vec<_> = whole.states[first..=last].iter().map(|(_, state)| state).collect();
                for (name, found) in [
                    ("losing everything", disk.crash_losing_everything()),
                    ("keeping everything", disk.crash_keeping_everything()),
                    ("by chance", disk.crash(seed + operation)),
                    ("by chance again", disk.crash(seed + operation + 10_000)),
                ] {
                    let what = format!("power off in operation {operation} ({tear:?}), {name}");
                    let nth = look(&case, &found, &allowed, &whole, &what, &clock);
                    if acknowledged == 2 {
                        packs[nth] += 1;
                    }
                    crashes += 1;
                }
            }
        }
    }
    println!(
        "{crashes} crashes; the pack under way was not done {}, done {}; {smaller} made it smaller",
        packs[0], packs[1]
    );
    assert!(packs[0] > 100 && packs[1] > 50 && smaller > 2, "{packs:?}, {smaller}");
}

#[test]
fn a_crash_leaves_the_database_before_the_pack_or_the_one_after() {
    crash_everywhere(0..8, false);
}

#[test]
fn a_crash_in_a_pack_of_what_was_packed_before() {
    crash_everywhere(100..106, true);
}

fn room(disk: &SimDisk) -> u64 {
    everything(disk).values().map(|bytes| bytes.len() as u64).sum()
}

/// Nothing of it is there: the file is as it was, so are all answers, now and when it is opened again, and nothing is left.
fn untouched(what: &str, disk: &SimDisk, storage: &FileStorage, before: &State) {
    assert!(disk.read_file(PATH).unwrap() == before.bytes, "{what}: the file is not as it was");
    assert!(dump(storage) == before.answers, "{what}: it answers something else");
    assert!(
        disk.read_file(HALF_MADE).is_none() && disk.read_file(OLD_NEW).is_none(),
        "{what}: something is left: {:?}",
        disk.paths()
    );
    assert!(disk.read_file(OLD).as_deref() == Some(OLDER), "{what}: what an earlier pack kept is not as it was");
    let found = disk.crash_keeping_everything();
    found.set_capacity(None);
    let again = alone(&found, &SharedClock::new()).open(PATH).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(dump(&again) == before.answers, "{what}: found again, it answers something else");
}

#[test]
fn a_full_disk_leaves_all_as_it_was_at_every_write() {
    let (mut refused, mut done) = (0, 0);
    for seed in 0..6 {
        let case = Case::new(seed, false);
        let clock = SharedClock::new();
        let (mut extra, mut last) = (0, 40);
        while last > 0 {
            let disk = case.disk(seed);
            let storage = alone(&disk, &clock).open(PATH).unwrap();
            let (before, index) = (State::of(&storage, &disk), disk.read_file(INDEX));
            disk.set_capacity(Some(room(&disk) + extra));
            let what = format!("{}, room for {extra} bytes", case.name);
            match unwatched(&storage, case.to, case.how) {
                Ok(_) => {
                    done += 1;
                    // A little more, until the index fits too.
                    last -= 1;
                }
                Err(error) => {
                    refused += 1;
                    assert!(
                        matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
                        "{what}: {error}"
                    );
                    assert!(
                        error.to_string().contains("nothing was packed: the database is as it was"),
                        "{what}: {error}"
                    );
                    untouched(&what, &disk, &storage, &before);
                    assert!(disk.read_file(INDEX) == index, "{what}: the index");
                }
            }
            let now = dump(&storage);
            // Commits work, if there is room.
            let small = commit_new(&storage, 6_000);
            assert!(small.is_ok() || dump(&storage) == now, "{what}");
            disk.set_capacity(None);
            commit_new(&storage, 6_001).unwrap_or_else(|e| panic!("{what}: there is room: {e}"));
            let packed =
                unwatched(&storage, case.to, case.how).unwrap_or_else(|e| panic!("{what}: there is room: {e}"));
            assert_eq!(
                packed.old.is_some(),
                case.how.keep_old && disk.read_file(OLD).as_deref() != Some(OLDER),
                "{what}"
            );
            let answers = dump(&storage);
            let found = disk.crash_losing_everything();
            assert_eq!(dump(&alone(&found, &clock).open(PATH).unwrap()), answers, "{what}");
            assert_eq!(format_problems(&alone(&found, &clock).read_only(), PATH), [], "{what}");
            extra += if last < 40 { 13 } else { 97 };
        }
    }
    println!("{refused} packs had no room, {done} had");
    assert!(refused > 80 && done > 100);
}

/// A file of several buffers, so that each of them finds the disk full, and the index as well.
#[test]
fn a_full_disk_in_the_middle_of_a_large_copy() {
    let clock = SharedClock::new();
    let disk = SimDisk::new(1);
    for threads in [1, 3] {
        remove(&disk, PATH);
        let storage = options(&disk, &clock).threads(threads).create(PATH).unwrap();
        link(&storage, 0, &[(0, &(1..40).collect::<Vec<_>>())]).unwrap();
        for n in 1..40 {
            commit(&storage, "large", &[(n, Some(record(&vec![n as u8; 40_000])))]).unwrap();
            clock.tick();
        }
        let to = tids(&storage)[25];
        let before = State::of(&storage, &disk);
        for extra in (0..before.bytes.len() as u64 + 3_000).step_by(90_001) {
            let what = format!("{threads} threads, room for {extra} bytes");
            disk.set_capacity(Some(room(&disk) + extra));
            let error = unwatched(&storage, to, packing(true, false)).expect_err(&what);
            assert!(error.to_string().contains("is the disk full?"), "{what}: {error}");
            assert!(disk.read_file(PATH).unwrap() == before.bytes && dump(&storage) == before.answers, "{what}");
            assert!(disk.read_file(HALF_MADE).is_none(), "{what}");
        }
        disk.set_capacity(None);
        unwatched(&storage, to, packing(true, false)).unwrap();
        commit_new(&storage, 6_000).unwrap();
        drop(storage);
        assert_eq!(format_problems(&options(&disk, &clock).read_only(), PATH), []);
    }
}

#[test]
fn every_operation_of_a_pack_fails_once() {
    let (mut refused, mut done, mut fatal, mut old) = (0, 0, 0, 0);
    for seed in 0..10 {
        let case = Case::new(seed, false);
        let clock = SharedClock::new();
        let (first, last, after) = {
            let disk = case.disk(seed);
            let storage = alone(&disk, &clock).open(PATH).unwrap();
            let first = disk.operations();
            unwatched(&storage, case.to, case.how).unwrap();
            (first, disk.operations(), State::of(&storage, &disk))
        };
        for operation in first..last {
            for partial in [false, true] {
                let disk = case.disk(seed);
                disk.keep_trace(100);
                let storage = alone(&disk, &clock).open(PATH).unwrap();
                let before = State::of(&storage, &disk);
                disk.fail_at(operation, io::ErrorKind::Other, partial);
                let result = unwatched(&storage, case.to, case.how);
                let what = format!(
                    "{}, operation {operation}, partial {partial}: {:?}\n{}",
                    case.name,
                    result.as_ref().err().map(Error::to_string),
                    disk.trace().join("\n")
                );
                match &result {
                    Ok(_) => {
                        done += 1;
                        assert!(dump(&storage) == after.answers, "{what}");
                    }
                    Err(error) if error.to_string().contains("syncing the directory after a pack") => {
                        fatal += 1;
                        assert!(dump(&storage) == after.answers, "{what}");
                        let refused = commit_new(&storage, 6_000).unwrap_err();
                        assert!(matches!(refused, Error::Failed { .. }), "{what}: {refused}");
                        let refused = unwatched(&storage, case.to, case.how).unwrap_err();
                        assert!(matches!(refused, Error::Failed { .. }), "{what}: {refused}");
                        drop(storage);
                        // Nobody knows of which file it would be.
                        assert!(disk.read_file(INDEX).is_none(), "{what}: there is an index");
                        // Whatever the machine does then.
                        for found in [
                            disk.crash_losing_everything(),
                            disk.crash_keeping_everything(),
                            disk.crash(1),
                            disk.crash(2),
                            disk.crash(3),
                            disk.crash(4),
                        ] {
                            let without = found.crash_keeping_everything();
                            remove(&without, INDEX);
                            let answers =
                                dump(&alone(&found, &clock).open(PATH).unwrap_or_else(|e| panic!("{what}: {e}")));
                            assert!(answers == before.answers || answers == after.answers, "{what}");
                            assert_eq!(dump(&alone(&without, &clock).open(PATH).unwrap()), answers, "{what}");
                        }
                        let storage = alone(&disk, &clock).open(PATH).unwrap();
                        assert!(dump(&storage) == after.answers, "{what}");
                        goes_on(&what, &disk, storage, &case);
                        continue;
                    }
                    Err(error) if error.to_string().contains("the pack is done") => {
                        old += 1;
                        assert!(dump(&storage) == after.answers, "{what}");
                        let kept = [disk.read_file(OLD), disk.read_file(OLD_NEW)];
                        assert!(kept.iter().any(|kept| kept.as_ref() == Some(&before.bytes)), "{what}");
                    }
                    Err(error) => {
                        refused += 1;
                        assert!(error.to_string().contains("nothing was packed"), "{what}");
                        untouched(&what, &disk, &storage, &before);
                    }
                }
                assert!(disk.read_file(HALF_MADE).is_none(), "{what}");
                goes_on(&what, &disk, storage, &case);
            }
        }
    }
    println!(
        "{refused} packs were refused, {done} done all the same, {fatal} left it open, {old} kept the old file under another name"
    );
    assert!(refused > 50 && done > 10 && fatal > 10 && old > 5);
}

/// What is committed now survives a crash, and so does the next pack.
fn goes_on(what: &str, disk: &SimDisk, storage: FileStorage, case: &Case) {
    let clock = SharedClock::new();
    commit_new(&storage, 6_000).unwrap_or_else(|e| panic!("{what}: {e}"));
    for _ in 0..2 {
        let answers = dump(&storage);
        for found in [disk.crash_losing_everything(), disk.crash_keeping_everything(), disk.crash(5)] {
            let again = alone(&found, &clock).open(PATH).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(dump(&again), answers, "{what}");
        }
        unwatched(&storage, case.to, case.how).unwrap_or_else(|e| panic!("{what}: the next pack: {e}"));
    }
    drop(storage);
    assert_eq!(format_problems(&alone(disk, &clock).read_only(), PATH), [], "{what}");
}
