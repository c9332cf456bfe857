//! A pack that is cut, that finds no room, whose disk fails, or whose file is damaged: the database is the one before or the
//! one after, to the byte; what was acknowledged is there, nothing is left lying about, and all goes on.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::common::packs::*;
use crate::common::*;
use vellum_disk::{Disk, Open, SimDisk, Tear};
use vellum_file::{FileStorage, Options, Packing};
use vellum_storage::{Error, Oid, Order, Status, Tid, TidRange, TransactionMeta, UndoLog, Version};

const INDEX: &str = "Data.fs.index";
const HALF_MADE: &str = "Data.fs.pack";
const OLD: &str = "Data.fs.old";
const OLD_NEW: &str = "Data.fs.old.new";

/// The file that an earlier pack kept.
const OLDER: &[u8] = b"what an earlier pack kept";

/// Going on, since random histories have references to what is nowhere.
fn packing(collect: bool, keep_old: bool) -> Packing {
    Packing::new().collect(collect).go_on(true).keep_old(keep_old)
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
        let how = packing(dice.roll(4) > 0, seed.is_multiple_of(2));
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
    crash_everywhere(0..6, false);
}

#[test]
fn a_crash_in_a_pack_of_what_was_packed_before() {
    crash_everywhere(100..104, true);
}

/// The program is killed in every operation, and the machine goes on: what it had done is there, but nothing of it has become
/// durable by that. It is started again, commits, and only then does the power go.
#[test]
fn what_is_committed_after_a_killed_pack_survives_when_the_power_goes_later() {
    let (mut kills, mut packed, mut crashes) = (0, 0, 0);
    let clock = SharedClock::new();
    for seed in 0..16 {
        let case = Case::new(seed, false);
        for operation in 1.. {
            let disk = case.disk(seed);
            let killed = Killed::after(operation, &disk);
            let options = alone(&disk, &clock).disk(Arc::new(killed.clone()));
            let Ok(storage) = options.open(PATH) else { continue };
            let before = State::of(&storage, &disk);
            let _ = unwatched(&storage, case.to, case.how);
            drop(storage);
            if !killed.is_dead() {
                break;
            }
            kills += 1;
            let what = format!("{}, killed in operation {operation}", case.name);
            let storage = alone(&disk, &clock).open(PATH).unwrap_or_else(|e| panic!("{what}: {e}"));
            let answers = dump(&storage);
            let is_packed = answers != before.answers;
            packed += u64::from(is_packed);
            assert!(disk.read_file(HALF_MADE).is_none(), "{what}");
            if is_packed && case.how.keep_old {
                let kept = [OLD, OLD_NEW].map(|name| disk.read_file(name));
                assert!(kept.contains(&Some(before.bytes.clone())), "{what}: the old file is gone");
            }
            commit_new(&storage, 7_000).unwrap_or_else(|e| panic!("{what}: {e}"));
            let now = dump(&storage);
            let names = ["losing", "keeping", "drawn", "drawn", "drawn"];
            let drawn = [1, 2, 3].map(|seed| disk.crash(seed));
            let found = [disk.crash_losing_everything(), disk.crash_keeping_everything()].into_iter().chain(drawn);
            for (how, found) in names.into_iter().zip(found) {
                let again = alone(&found, &clock).open(PATH).unwrap_or_else(|e| panic!("{what}, {how}: {e}"));
                assert_eq!(dump(&again), now, "{what}, {how}");
                crashes += 1;
            }
            unwatched(&storage, case.to, case.how).unwrap_or_else(|e| panic!("{what}: the next pack: {e}"));
        }
    }
    println!("killed {kills} times, {packed} times after the pack was done; {crashes} crashes after that");
    assert!(kills > 100 && packed > 20);
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
    for seed in 0..9 {
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

/// Reading fails in one place after the other: while it is found out what survives, and while that is copied.
#[test]
fn what_can_not_be_read_stops_the_pack_and_is_named() {
    let (mut refused, mut done) = (0, 0);
    for seed in 0..8 {
        let case = Case::new(seed, false);
        let clock = SharedClock::new();
        let after = {
            let disk = case.disk(seed);
            let storage = alone(&disk, &clock).open(PATH).unwrap();
            unwatched(&storage, case.to, case.how).unwrap();
            disk.read_file(PATH)
        };
        for at in (4..case.bytes.len() as u64).step_by(61) {
            let disk = case.disk(seed);
            let storage = alone(&disk, &clock).open(PATH).unwrap();
            disk.read_fail(PATH, at..at + 1);
            let files = everything(&disk);
            let what = format!("{}, byte {at}", case.name);
            match unwatched(&storage, case.to, case.how) {
                Ok(_) => {
                    done += 1;
                    assert!(disk.read_file(PATH) == after, "{what}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("position "), "{what}: {error}");
                    assert!(everything(&disk) == files, "{what}: something was changed: {:?}", disk.paths());
                }
            }
        }
    }
    println!("{refused} packs were refused, {done} did not need that place");
    assert!(refused > 200);
}

/// Every byte of a file is changed, under a storage that is open already and so has not seen it. Either the pack says
/// so and touches nothing; or it is done, and no answer about its time or later is another one than before the pack.
#[test]
fn no_damage_makes_a_pack_panic_or_answer_something_else() {
    let (mut refused, mut done, mut sound) = (0, 0, 0);
    for seed in 0..12 {
        let case = Case::new(seed, seed % 3 == 2);
        let clock = SharedClock::new();
        let mut dice = Dice(seed);
        for _ in 0..250 {
            let disk = case.disk(seed);
            let storage = alone(&disk, &clock).open(PATH).unwrap();
            let at = 4 + dice.roll(case.bytes.len() as u64 - 4);
            // A byte, or the whole of what may be a number.
            let mut bytes = case.bytes.clone();
            let width = [1, 1, 2, 8][dice.roll(4) as usize].min(case.bytes.len() - at as usize);
            let place = &mut bytes[at as usize..at as usize + width];
            match dice.roll(4) {
                0 => place.fill(0),
                1 => place.fill(0xff),
                2 => place[width - 1] = place[width - 1].wrapping_add(1),
                _ => place[width - 1] = dice.roll(256) as u8,
            }
            if bytes == case.bytes {
                continue;
            }
            let undamaged = later_answers(&storage, case.to);
            let file = disk.open(Path::new(PATH), Open::ReadWrite).unwrap();
            file.write_at(&bytes, 0).unwrap();
            drop(file);
            let files = everything(&disk);
            let other = disk_of(1, [(PATH, &bytes[..])]);
            // Another database, with nothing wrong in it.
            let is_sound = format_problems(&alone(&other, &clock).read_only(), PATH).is_empty();
            let before = later_answers(&storage, case.to);
            let what =
                format!("{}, byte {at}, {width} wide, {:?}", case.name, &bytes[at as usize..at as usize + width]);
            match unwatched(&storage, case.to, case.how) {
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                    assert!(everything(&disk) == files, "{what}: {error}: something was changed");
                }
                Ok(_) => {
                    done += 1;
                    sound += u64::from(is_sound);
                    let after = later_answers(&storage, case.to);
                    for (question, answer) in after.iter().filter(|_| !is_sound) {
                        // What is not there any more was garbage. What could not be told is told as it was before the
                        // damage: that was in a past which is forgotten.
                        let was = before.get(question).or_else(|| undamaged.get(question));
                        assert_eq!(was, Some(answer), "{what}: {question}");
                    }
                }
            }
        }
    }
    println!("{refused} packs were refused, {done} done, in {sound} of which the file was not wrong");
    assert!(refused > 500 && done - sound > 100, "{refused}, {done}, {sound}");
}

/// What is answered about this moment and later ones, and no error.
fn later_answers(storage: &FileStorage, to: Tid) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    for oid in (0..40).map(Oid) {
        if let Ok(loaded) = storage.load(oid, &Version::TRUNK) {
            answers.insert(format!("load {oid}"), format!("{loaded:?}"));
        }
        if to != Tid::MAX
            && let Ok(Some(found)) = storage.load_before(oid, to.next())
        {
            // Since when is forgotten.
            answers.insert(format!("then {oid}"), format!("{:?} {:?}", found.data, found.next));
        }
    }
    answers
}

#[test]
fn a_reference_to_what_is_nowhere_stops_a_pack_that_is_not_told_to_go_on() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = alone(&disk, &clock).create(PATH).unwrap();
    link(&storage, 1, &[(0, &[1, 99]), (1, &[98]), (2, &[97])]).unwrap();
    let last = link(&storage, 2, &[(0, &[1, 99])]).unwrap();
    storage.save_index().unwrap();
    let files = everything(&disk);
    let before = dump(&storage);
    let pairs = |pairs: &[(u64, u64)]| pairs.iter().map(|&(from, to)| (Oid(from), Oid(to))).collect::<Vec<_>>();
    for (collect, found) in [(true, pairs(&[(0, 99), (1, 98)])), (false, pairs(&[(0, 99), (1, 98), (2, 97)]))] {
        let how = Packing::new().collect(collect).keep_old(true);
        match unwatched(&storage, last, how) {
            Err(Error::Dangling { references }) => assert_eq!(references, found),
            other => panic!("{other:?}"),
        }
        assert!(everything(&disk) == files && dump(&storage) == before, "{collect}");
        let told = disk.crash_keeping_everything();
        let other = alone(&told, &clock).open(PATH).unwrap();
        assert_eq!(unwatched(&other, last, how.go_on(true)).unwrap().dangling, found);
        assert_eq!(loaded(&other, 0), Some((2, vec![1, 99])));
        assert_eq!(loaded(&other, 2).is_some(), !collect);
        // It is as broken as it was, and no pack is a reason to refuse the next one more.
        assert!(matches!(unwatched(&other, last, how), Err(Error::Dangling { .. })));
    }
}

#[test]
fn without_a_root_nothing_is_collected() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = alone(&disk, &clock).create(PATH).unwrap();
    let empty = unwatched(&storage, Tid::MAX, packing(true, true)).unwrap();
    assert_eq!((empty.before, empty.after, empty.old), (empty.after, empty.before, None));
    let first = link(&storage, 1, &[(1, &[2]), (2, &[])]).unwrap();
    link(&storage, 2, &[(1, &[2])]).unwrap();
    storage.save_index().unwrap();
    let files = everything(&disk);
    let how = Packing::new().collect(true);
    for to in [Tid::MAX, first, Tid::ZERO] {
        match unwatched(&storage, to, how) {
            Err(Error::Dangling { references }) => assert_eq!(references, [(Oid::ROOT, Oid::ROOT)]),
            other => panic!("{other:?}"),
        }
        assert!(everything(&disk) == files);
    }
    unwatched(&storage, Tid::MAX, how.collect(false)).unwrap();
    assert_eq!((loaded(&storage, 1), loaded(&storage, 2)), (Some((2, vec![2])), Some((1, vec![]))));
}

/// To each moment around each transaction: before the first, exactly on one, between two, after the last, and to come; and
/// then to an earlier one, which changes nothing.
#[test]
fn packs_to_all_sorts_of_moments() {
    let clock = SharedClock::new();
    for seed in 0..6 {
        let bytes = history(seed, 110, false);
        let there = tids_of(&bytes);
        let all = there.iter().flat_map(|tid| [Tid(tid.0 - 1), *tid, tid.next()]).chain([Tid::ZERO, Tid(1), Tid::MAX]);
        for to in all {
            let what = format!("seed {seed}, to {to}");
            let disk = disk_of(seed, [(PATH, &bytes[..])]);
            let storage = alone(&disk, &clock).open(PATH).unwrap();
            let before = later_answers(&storage, to);
            let packed = unwatched(&storage, to, packing(false, false)).unwrap();
            let kept: Vec<Tid> = tids(&storage).into_iter().filter(|tid| *tid > to).collect();
            assert!(kept == there.iter().copied().filter(|tid| *tid > to).collect::<Vec<_>>(), "{what}");
            assert!(later_answers(&storage, to) == before, "{what}");
            assert_eq!(
                (packed.after.bytes, storage.last_transaction()),
                (storage.size(), *there.last().unwrap()),
                "{what}"
            );
            // What is later can be undone as before, or that is refused as before; what is not can not be undone any more.
            let entries = storage.undo_log_where(0, 100, &mut |_| true).unwrap();
            assert!(entries.iter().all(|entry| entry.tid > to), "{what}");
            let once = dump(&storage);
            let files = everything(&disk);
            let earlier = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap());
            let packed_to = earlier.filter(|t| t.status == Status::Packed).map(|t| t.tid).last();
            if let Some(packed_to) = packed_to {
                let earlier = Tid(packed_to.0 - 1);
                let again = unwatched(&storage, earlier, packing(true, true)).unwrap();
                assert!(dump(&storage) == once && everything(&disk) == files && again.old.is_none(), "{what}");
            }
            // Once more to the same: there is nothing to do.
            unwatched(&storage, to, packing(false, false)).unwrap();
            assert!(dump(&storage) == once, "{what}");
            drop(storage);
            assert_eq!(format_problems(&alone(&disk, &clock).read_only(), PATH), [], "{what}");
        }
    }
}

#[test]
fn a_second_pack_at_the_same_time_is_refused() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = alone(&disk, &clock).create(PATH).unwrap();
    link(&storage, 1, &[(0, &[])]).unwrap();
    link(&storage, 2, &[(0, &[])]).unwrap();
    let mut refused = 0;
    let mut watch = Meanwhile::new(|_| {
        let other =
            std::thread::scope(|scope| scope.spawn(|| unwatched(&storage, Tid::MAX, packing(true, false))).join());
        match other.unwrap() {
            Err(Error::Packing { name }) => assert_eq!(name, PATH),
            other => panic!("{other:?}"),
        }
        refused += 1;
        Ok(())
    });
    storage.pack_with(Tid::MAX, packing(true, false), &mut watch).unwrap();
    drop(watch);
    assert!(refused > 4);
    unwatched(&storage, Tid::MAX, packing(true, false)).unwrap();
    // A watcher that says no, and one that panics, end it; the next one is not refused.
    link(&storage, 3, &[(0, &[])]).unwrap();
    for at in [At::Transaction, At::Record, At::Ends, At::Ready] {
        let before = (dump(&storage), disk.read_file(PATH));
        let mut no = Meanwhile::new(move |seen| if seen.at == at { Err(Error::key(Oid(77))) } else { Ok(()) });
        assert!(matches!(storage.pack_with(Tid::MAX, packing(true, true), &mut no), Err(Error::KeyError { .. })));
        let mut panics = Meanwhile::new(move |seen| {
            assert!(seen.at != at, "a panic that the test wants");
            Ok(())
        });
        let packed = catch_unwind(AssertUnwindSafe(|| storage.pack_with(Tid::MAX, packing(true, true), &mut panics)));
        assert!(packed.is_err());
        assert!((dump(&storage), disk.read_file(PATH)) == before, "{at:?}");
        assert!(disk.read_file(HALF_MADE).is_none() && disk.read_file(OLD).is_none(), "{at:?}");
    }
    unwatched(&storage, Tid::MAX, packing(true, false)).unwrap();
    link(&storage, 4, &[(0, &[])]).unwrap();
}

#[test]
fn what_is_in_the_way() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = alone(&disk, &clock).create(PATH).unwrap();
    link(&storage, 1, &[(0, &[1]), (1, &[])]).unwrap();
    link(&storage, 2, &[(0, &[1])]).unwrap();
    let bytes = disk.read_file(PATH).unwrap();
    // Files that another pack left are replaced.
    disk.write_file(HALF_MADE, &[b'x'; 10_000]);
    disk.write_file(OLD_NEW, b"stale");
    let packed = unwatched(&storage, Tid::MAX, packing(true, true)).unwrap();
    assert_eq!(packed.old.as_deref(), Some(Path::new(OLD)));
    assert!(disk.read_file(OLD).as_deref() == Some(&bytes[..]));
    assert!(disk.read_file(HALF_MADE).is_none() && disk.read_file(OLD_NEW).is_none());
    assert_eq!(disk.read_file(PATH).unwrap().len() as u64, storage.size());
    // So is what a pack left before the database was closed; but who reads lets it lie.
    drop(storage);
    disk.write_file(HALF_MADE, &[b'x'; 10_000]);
    let reading = alone(&disk, &clock).read_only().open(PATH).unwrap();
    assert!(disk.read_file(HALF_MADE).is_some());
    let files = everything(&disk);
    match unwatched(&reading, Tid::MAX, packing(true, true)) {
        Err(Error::ReadOnly { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(everything(&disk) == files);
    let storage = alone(&disk, &clock).open(PATH).unwrap();
    assert!(disk.read_file(HALF_MADE).is_none());
    // A directory is not.
    link(&storage, 3, &[(0, &[1])]).unwrap();
    storage.save_index().unwrap();
    let files = everything(&disk);
    disk.make_directory(HALF_MADE);
    let error = unwatched(&storage, Tid::MAX, packing(true, true)).unwrap_err().to_string();
    assert!(error.contains("Data.fs.pack: creating the packed file (nothing was packed"), "{error}");
    assert!(everything(&disk) == files);
    link(&storage, 4, &[(0, &[1])]).unwrap();
    drop(storage);
    alone(&disk, &clock).open(PATH).unwrap();
}

/// The link stays a link, and what it leads to is replaced, there; who may read and write the file may do so afterwards.
#[cfg(unix)]
#[test]
fn a_pack_through_a_symbolic_link_keeps_the_link_and_the_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let [there, here] = ["there", "here"].map(|name| folder.path().join(name));
    [&there, &here].into_iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let (file, path) = (there.join("real.fs"), here.join(PATH));
    drop(Options::new().create(&file).unwrap());
    symlink(Path::new("../there/real.fs"), &path).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let storage = Options::new().open(&path).unwrap();
    link(&storage, 1, &[(0, &[1]), (1, &[])]).unwrap();
    link(&storage, 2, &[(0, &[1])]).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let packed = unwatched(&storage, Tid::MAX, packing(true, true)).unwrap();
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), storage.size());
    assert!(storage.size() < bytes.len() as u64);
    let old = packed.old.unwrap();
    assert_eq!(old, std::fs::canonicalize(&there).unwrap().join("real.fs.old"));
    assert!(std::fs::read(&old).unwrap() == bytes);
    link(&storage, 3, &[(0, &[1])]).unwrap();
    unwatched(&storage, Tid::MAX, packing(true, true)).unwrap();
    drop(storage);
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(names(&there), ["real.fs", "real.fs.lock", "real.fs.old"]);
    assert_eq!(names(&here), [PATH, INDEX, "Data.fs.lock"]);
    let storage = Options::new().open(&path).unwrap();
    assert_eq!(loaded(&storage, 0), Some((3, vec![1])));
}

#[test]
fn an_index_that_is_wrong_does_not_lose_an_object() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = alone(&disk, &clock).create(PATH).unwrap();
    let all: Vec<u64> = (1..150).collect();
    link(&storage, 1, &[(0, &all)]).unwrap();
    for &n in &all {
        link(&storage, 1, &[(n, &[])]).unwrap();
    }
    let old = disk.read_file(PATH).unwrap().len() as u64;
    let second = storage.newest_record(Oid(77)).unwrap().unwrap().position;
    for &n in &all {
        link(&storage, 2, &[(n, &[])]).unwrap();
    }
    let newest = storage.newest_record(Oid(77)).unwrap().unwrap().position;
    assert!(second < old && old < newest);
    drop(storage);
    // One entry names an older record: opening believes it, since there is no checksum.
    let mut index = disk.read_file(INDEX).unwrap();
    let (wanted, other) = (newest.to_be_bytes(), second.to_be_bytes());
    let at = index.windows(6).position(|six| six == &wanted[2..]).unwrap();
    index[at..at + 6].copy_from_slice(&other[2..]);
    disk.write_file(INDEX, &index);
    let storage = alone(&disk, &clock).open(PATH).unwrap();
    assert_eq!(loaded(&storage, 77).unwrap().0, 1, "it was not believed");
    let files = everything_but_the_lock(&disk);
    let error = unwatched(&storage, Tid::MAX, packing(true, true)).unwrap_err().to_string();
    assert!(error.contains("the index names an older record") && error.contains(&newest.to_string()), "{error}");
    assert!(everything_but_the_lock(&disk) == files);
    // As the error says.
    drop(storage);
    remove(&disk, INDEX);
    let storage = alone(&disk, &clock).open(PATH).unwrap();
    unwatched(&storage, Tid::MAX, packing(true, true)).unwrap();
    assert_eq!(loaded(&storage, 77).unwrap().0, 2);
}

/// The records of a transaction that was undone in the manner of long ago (status `u`) are passed over. Something later may
/// name one all the same.
#[test]
fn what_shares_with_a_transaction_that_does_not_count_stops_a_pack() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = alone(&disk, &clock).create(PATH).unwrap();
    let change = |data: &[u8]| {
        commit(&storage, "change", &[(0, Some(record(data)))]).unwrap();
        storage.newest_record(Oid::ROOT).unwrap().unwrap()
    };
    let [first, uncounted, last] = [b"1", b"2", b"3"].map(|data| change(data));
    let mut undo = storage.begin(TransactionMeta::new()).unwrap();
    undo.undo(last.header.tid).unwrap();
    storage.vote(undo).unwrap().finish().unwrap();
    drop(storage);
    let mut file = disk.read_file(PATH).unwrap();
    file[uncounted.header.transaction as usize + 16] = b'u';
    let previous = last.position as usize + 16;
    file[previous..previous + 8].copy_from_slice(&first.position.to_be_bytes());
    disk.write_file(PATH, &file);
    remove(&disk, INDEX);
    let storage = alone(&disk, &clock).open(PATH).unwrap();
    let files = everything_but_the_lock(&disk);
    let error = unwatched(&storage, last.header.tid, packing(true, false)).unwrap_err().to_string();
    assert!(error.contains(&uncounted.position.to_string()) && error.contains("later record"), "{error}");
    assert!(everything_but_the_lock(&disk) == files);
    // It can be packed to now: then nothing is later.
    unwatched(&storage, Tid::MAX, packing(true, false)).unwrap();
    assert_eq!(storage.load(Oid::ROOT, &Version::TRUNK).unwrap().data, record(b"2"));
}
