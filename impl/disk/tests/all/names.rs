//! The names that a crash of the simulated disk leaves.
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use vellum_disk::{Disk, Open, SimDisk};

const NAMES: [&str; 5] = ["one/a", "one/b", "one/c", "two/a", "two/b"];

/// The file of each name: the content, which is synced, tells files apart.
type Found = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Create(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Remove(usize),
    SyncDirectory(usize),
}

impl Step {
    fn names(&self) -> Vec<&'static str> {
        match *self {
            Step::Create(name) | Step::Remove(name) => vec![NAMES[name]],
            Step::Rename(from, to) => vec![NAMES[from], NAMES[to]],
            Step::Link(_, name) => vec![NAMES[name]],
            Step::SyncDirectory(_) => vec![],
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => name.clone().prop_map(Step::Create),
        3 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (name.clone(), name.clone()).prop_map(|(path, name)| Step::Link(path, name)),
        1 => name.clone().prop_map(Step::Remove),
        1 => name.prop_map(Step::SyncDirectory),
    ]
}

fn directory(name: &str) -> &Path {
    Path::new(name).parent().unwrap()
}

/// Plays a step; whether it changed anything.
fn play(disk: &SimDisk, step: &Step, content: u8) -> bool {
    match *step {
        Step::Create(name) => match disk.open(Path::new(NAMES[name]), Open::CreateNew) {
            Ok(file) => {
                file.write_at(&[content], 0).unwrap();
                file.sync().unwrap();
                true
            }
            Err(_) => false,
        },
        Step::Rename(from, to) => {
            let content = |name: usize| disk.read_file(NAMES[name]);
            let same = content(from).is_some() && content(from) == content(to);
            disk.rename(Path::new(NAMES[from]), Path::new(NAMES[to])).is_ok() && !same
        }
        Step::Link(path, name) => disk.link(Path::new(NAMES[path]), Path::new(NAMES[name])).is_ok(),
        Step::Remove(name) => disk.remove(Path::new(NAMES[name])).is_ok(),
        Step::SyncDirectory(name) => disk.sync_directory(Path::new(NAMES[name])).is_ok(),
    }
}

fn found(disk: &SimDisk) -> Found {
    disk.paths().into_iter().map(|path| (path.clone(), disk.read_file(&path).unwrap())).collect()
}

/// A change of names as the reader of the rules would write it down.
struct Change {
    step: Step,
    content: u8,
    unsynced: BTreeSet<PathBuf>,
}

impl Change {
    fn shares_a_name_with(&self, other: &Change) -> bool {
        self.step.names().iter().any(|name| other.step.names().contains(name))
    }
}

/// Every outcome that the rules allow, found by trying all.
fn allowed(changes: &[Change]) -> BTreeSet<Found> {
    let whole = |kept: u32| {
        (0..changes.len()).all(|later| {
            let is_kept = |index: usize| kept & 1 << index != 0;
            let safe = changes[later].unsynced.is_empty();
            let in_order =
                (0..later).all(|earlier| is_kept(earlier) || !changes[later].shares_a_name_with(&changes[earlier]));
            if is_kept(later) { in_order } else { !safe }
        })
    };
    let outcome = |kept: u32| {
        let mut names = Found::new();
        for change in changes.iter().enumerate().filter(|(index, _)| kept & 1 << index != 0).map(|(_, change)| change) {
            match change.step {
                Step::Create(name) => drop(names.insert(NAMES[name].into(), vec![change.content])),
                Step::Rename(from, to) => {
                    let content = names.remove(Path::new(NAMES[from])).unwrap();
                    names.insert(NAMES[to].into(), content);
                }
                Step::Remove(name) => drop(names.remove(Path::new(NAMES[name])).unwrap()),
                // The former name of the file does not matter any more: the content is its name here.
                Step::Link(_, name) => drop(names.insert(NAMES[name].into(), vec![change.content])),
                Step::SyncDirectory(_) => {}
            }
        }
        names
    };
    (0..1 << changes.len()).filter(|&kept| whole(kept)).map(outcome).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn changes_of_names_survive_in_order_for_each_name_and_all_when_the_directory_is_synced(
        steps in prop::collection::vec(step(), 0..24),
    ) {
        let disk = SimDisk::new(0);
        let mut changes: Vec<Change> = Vec::new();
        for (step, content) in steps.iter().zip(1..) {
            if changes.len() == 8 {
                break; // all outcomes are tried, so there must not be too many
            }
            if let Step::SyncDirectory(name) = step {
                play(&disk, step, content);
                for change in &mut changes {
                    change.unsynced.remove(directory(NAMES[*name]));
                }
            } else if play(&disk, step, content) {
                let linked = |name: usize| disk.read_file(NAMES[name]).unwrap()[0];
                let content = if let Step::Link(_, name) = *step { linked(name) } else { content };
                let unsynced = step.names().iter().map(|name| directory(name).to_owned()).collect();
                changes.push(Change { step: step.clone(), content, unsynced });
            }
        }
        // A change that a safe change builds on is safe too, or the latter could not be safe.
        for later in (0..changes.len()).rev() {
            for earlier in 0..later {
                if changes[later].unsynced.is_empty() && changes[later].shares_a_name_with(&changes[earlier]) {
                    changes[earlier].unsynced.clear();
                }
            }
        }
        let allowed = allowed(&changes);
        let reached: BTreeSet<Found> = (0..300).map(|seed| found(&disk.crash(seed))).collect();
        for outcome in &reached {
            prop_assert!(allowed.contains(outcome), "{outcome:?} is none of {allowed:?}");
        }
        // Few enough that chance has met them all.
        if allowed.len() <= 3 {
            prop_assert_eq!(reached, allowed);
        }
        let all = found(&disk);
        prop_assert_eq!(found(&disk.crash_keeping_everything()), all);
    }
}

#[test]
fn names_survive_every_crash_once_their_directory_is_synced_and_may_be_lost_before() {
    let disk = SimDisk::new(0);
    let (path, other) = (Path::new("one/a"), Path::new("two/a"));
    let file = disk.open(path, Open::CreateNew).unwrap();
    disk.open(other, Open::CreateNew).unwrap();
    file.write_at(b"synced", 0).unwrap();
    file.sync().unwrap();
    assert!(!disk.is_durable(path));
    assert_eq!(disk.crash_losing_everything().paths(), Vec::<PathBuf>::new());
    assert!((0..100).any(|seed| !disk.crash(seed).exists(path).unwrap()));
    disk.sync_directory(path).unwrap();
    assert!(disk.is_durable(path) && !disk.is_durable(other), "one directory was synced, the other was not");
    assert_eq!(disk.crash_losing_everything().paths(), [path]);
    assert!((0..100).all(|seed| disk.crash(seed).read_file(path).unwrap() == b"synced"));
}

#[test]
fn mostly_a_directory_keeps_its_first_changes_and_sometimes_any_of_them() {
    let disk = SimDisk::new(0);
    for name in ["a", "b", "c"] {
        disk.open(Path::new(name), Open::CreateNew).unwrap();
    }
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..2000 {
        let names: Vec<String> = disk.crash(seed).paths().iter().map(|path| path.display().to_string()).collect();
        *counts.entry(names.concat()).or_default() += 1;
    }
    for in_order in ["", "a", "ab", "abc"] {
        assert!((300..600).contains(&counts[in_order]), "{counts:?}");
    }
    for out_of_order in ["b", "c", "ac", "bc"] {
        assert!((20..200).contains(&counts[out_of_order]), "{counts:?}");
    }
}

#[test]
fn a_file_that_is_renamed_to_its_own_name_stays_as_safe_as_it_was() {
    let disk = SimDisk::new(0);
    let path = Path::new("Data.fs");
    disk.write_file(path, b"here");
    disk.rename(path, path).unwrap();
    assert!(disk.is_durable(path));
    assert_eq!(disk.read_file(path).unwrap(), b"here");
}

#[test]
fn a_rename_leaves_the_old_file_or_the_new_one_and_never_none() {
    let disk = SimDisk::new(0);
    let (data, pack) = (Path::new("Data.fs"), Path::new("Data.fs.pack"));
    disk.write_file(data, b"old");
    disk.write_file(pack, b"new");
    disk.rename(pack, data).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let after = disk.crash(seed);
        let found = after.read_file(data).expect("Data.fs is gone");
        assert_eq!(after.exists(pack).unwrap(), found == b"old");
        seen.insert(found);
    }
    assert_eq!(seen, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
    disk.sync_directory(data).unwrap();
    assert_eq!(disk.crash_losing_everything().read_file(data).unwrap(), b"new");
}

#[test]
fn a_file_that_was_renamed_into_place_unsynced_may_be_empty() {
    // The bug of many editors on ext4, 2009: rename is no sync.
    let disk = SimDisk::new(0);
    let (data, pack) = (Path::new("Data.fs"), Path::new("Data.fs.pack"));
    disk.write_file(data, b"old");
    disk.open(pack, Open::CreateNew).unwrap().write_at(b"new", 0).unwrap();
    disk.rename(pack, data).unwrap();
    disk.sync_directory(data).unwrap();
    assert_eq!(disk.crash_losing_everything().read_file(data).unwrap(), b"");
}

#[test]
fn a_removed_file_lives_as_long_as_its_handle_and_may_come_back_in_a_crash() {
    let disk = SimDisk::new(0);
    let path = Path::new("Data.fs");
    disk.write_file(path, b"here");
    let file = disk.open(path, Open::Read).unwrap();
    disk.remove(path).unwrap();
    assert_eq!(file.len().unwrap(), 4);
    drop(file);
    assert_eq!(disk.crash_losing_everything().read_file(path).unwrap(), b"here");
    disk.sync_directory(path).unwrap();
    assert_eq!(disk.crash_losing_everything().read_file(path), None);
}

#[test]
fn directories_are_not_files_and_files_are_not_directories() {
    let disk = SimDisk::new(0);
    disk.write_file("one/a", b"");
    disk.write_file("one.txt", b"");
    disk.make_directory("empty");
    for path in ["one", "empty", ".", "/", ""] {
        for how in [Open::Read, Open::ReadWrite, Open::CreateNew, Open::Truncate] {
            assert_eq!(disk.open(Path::new(path), how).unwrap_err().kind(), ErrorKind::IsADirectory, "{path:?}");
        }
        assert!(!disk.exists(Path::new(path)).unwrap());
    }
    let below = disk.open(Path::new("one/a/b"), Open::CreateNew).unwrap_err();
    assert_eq!(below.kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.rename(Path::new("one/a"), Path::new("empty")).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(disk.crash(0).remove(Path::new("empty")).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert!(disk.exists(Path::new("./one.txt")).unwrap());
}

#[test]
fn a_scratch_file_has_no_name_and_leaves_nothing() {
    let disk = SimDisk::new(0);
    let file = disk.scratch(Path::new("Data.fs")).unwrap();
    file.write_at(b"spilled", 1000).unwrap();
    let mut buf = [0; 7];
    assert_eq!((file.read_full_at(&mut buf, 1000).unwrap(), &buf), (7, b"spilled"));
    assert!(disk.paths().is_empty() && disk.crash_keeping_everything().paths().is_empty());
}

#[test]
fn a_lock_has_one_owner_at_a_time_and_none_after_a_crash() {
    let disk = SimDisk::new(0);
    let path = Path::new("Data.fs.lock");
    disk.write_file(path, b" 99999999 and more that an earlier owner wrote\n");
    let lock = disk.lock(path).unwrap();
    assert_eq!(disk.read_file(path).unwrap(), b" 1\n");
    let error = disk.clone().lock(path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(error.to_string().contains("process 1:"), "{error}");
    disk.crash_keeping_everything().lock(path).unwrap();
    disk.crash_losing_everything().lock(path).unwrap();
    drop(lock);
    assert!(disk.exists(path).unwrap());
    disk.lock(path).unwrap();
    let new = Path::new("new.lock");
    disk.lock(new).unwrap();
    assert_eq!((disk.read_file(new).unwrap(), disk.is_durable(new)), (b" 1\n".to_vec(), false));
    assert_eq!(disk.operations(), 0, "a lock is no operation");
}
