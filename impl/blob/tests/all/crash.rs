//! The power goes at every operation: durable files are there, removed ones are not, and no file is incomplete.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::common::{Place, all, bytes, open_on, ready};
use proptest::prelude::*;
use vellum_blob::{BlobFolder, Error, Layout, Opening, Result};
use vellum_disk::{SimDisk, Tear, is_power_cut};
use vellum_storage::{Oid, Tid};

/// A step that a storage takes in the folder. Numbers choose among the blobs that are there.
#[derive(Clone, Debug)]
enum Step {
    /// A transaction that writes so many blobs, of these lengths.
    Commit(Vec<(u64, usize)>),
    /// The same, which fails before its names are synced, or after.
    Fail(Vec<(u64, usize)>, bool),
    /// A transaction that is aborted before it has a tid.
    Abort(usize),
    /// The undo of a change.
    Undo(usize),
    /// A file that a user may write to, which makes undos copies.
    Loosen(usize),
    /// A pack that forgets these, and keeps the old ones or not.
    Pack(Vec<usize>, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let blobs = || prop::collection::vec((prop::sample::select(vec![0, 1, 2, 0x100, u64::MAX]), 0..2000usize), 1..4);
    prop_oneof![
        4 => blobs().prop_map(Step::Commit),
        2 => (blobs(), any::<bool>()).prop_map(|(blobs, synced)| Step::Fail(blobs, synced)),
        1 => (0..2000usize).prop_map(Step::Abort),
        2 => any::<usize>().prop_map(Step::Undo),
        1 => any::<usize>().prop_map(Step::Loosen),
        2 => (prop::collection::vec(any::<usize>(), 1..4), any::<bool>()).prop_map(|(which, keep)| Step::Pack(which, keep)),
    ]
}

fn content(oid: u64, tid: u64, length: usize) -> Vec<u8> {
    format!("{oid:x} {tid:x} ").bytes().cycle().take(length).collect()
}

/// The blobs as a database would know them.
#[derive(Clone, Default)]
struct Model {
    tid: u64,
    /// Those whose commit was acknowledged: they are there.
    safe: BTreeMap<Place, Vec<u8>>,
    /// Those that a transaction was about when the power went: they are there, whole, or not.
    open: BTreeMap<Place, Vec<u8>>,
    /// Those that a pack was about to remove.
    going: BTreeSet<Place>,
    /// The files of the folder beside, or those that it was to have, when a pack was done.
    old: Option<BTreeMap<Place, Vec<u8>>>,
}

impl Model {
    fn pick(&self, number: usize) -> Option<Place> {
        (!self.safe.is_empty()).then(|| *self.safe.keys().nth(number % self.safe.len()).unwrap())
    }

    fn play(&mut self, disk: &SimDisk, folder: &BlobFolder, step: &Step) -> Result<()> {
        match step {
            Step::Commit(blobs) | Step::Fail(blobs, _) => {
                self.tid += 1;
                let tid = self.tid;
                let blobs: BTreeMap<u64, usize> = blobs.iter().copied().collect();
                let content = |(oid, length): (&u64, &usize)| ((Oid(*oid), Tid(tid)), content(*oid, tid, *length));
                let blobs: BTreeMap<Place, Vec<u8>> = blobs.iter().map(content).collect();
                let files: Vec<_> = blobs.values().map(|bytes| ready(folder, bytes)).collect::<Result<_>>()?;
                self.open = blobs.clone();
                for (file, &(oid, tid)) in files.into_iter().zip(blobs.keys()) {
                    folder.place(file, oid, tid)?;
                }
                let places: Vec<Place> = blobs.keys().copied().collect();
                match step {
                    Step::Fail(_, false) => {}
                    _ => folder.sync(&places)?,
                }
                if matches!(step, Step::Fail(..)) {
                    assert_eq!(folder.remove(&places)?, places.len() as u64);
                } else {
                    self.safe.append(&mut self.open);
                }
                self.open.clear();
            }
            Step::Abort(length) => drop(ready(folder, &content(7, 7, *length))?),
            Step::Undo(which) => {
                let Some((oid, from)) = self.pick(*which) else { return Ok(()) };
                self.tid += 1;
                let to = Tid(self.tid);
                let file = folder.duplicate(oid, from)?;
                self.open.insert((oid, to), self.safe[&(oid, from)].clone());
                folder.place(file, oid, to)?;
                folder.sync(&[(oid, to)])?;
                self.safe.append(&mut self.open);
            }
            Step::Loosen(which) => {
                let Some((oid, tid)) = self.pick(*which) else { return Ok(()) };
                let path = folder.path_of(oid, tid);
                disk.set_access(&path, vellum_disk::Access { mode: 0o644, ..vellum_disk::Access::USUAL });
            }
            Step::Pack(which, keep_old) => {
                let going: BTreeSet<Place> = which.iter().filter_map(|&number| self.pick(number)).collect();
                if going.is_empty() {
                    return Ok(());
                }
                let mut list = folder.list_removal()?;
                for &(oid, tid) in &going {
                    let of_object = |place: &&Place| place.0 == oid;
                    match self.safe.keys().filter(of_object).all(|place| going.contains(place)) {
                        true => list.object(oid)?,
                        false => list.revision(oid, tid)?,
                    }
                }
                let removal = list.finish()?;
                // Here the data file would be exchanged, at once and durably.
                self.old = keep_old.then(|| self.safe.clone());
                self.going = going;
                self.safe.retain(|place, _| !self.going.contains(place));
                removal.carry_out(*keep_old, |oid, tid| Ok(self.safe.contains_key(&(oid, tid))))?;
                self.going.clear();
                self.check_old(disk);
            }
        }
        Ok(())
    }

    /// The folder beside has all blobs that were there before the pack.
    fn check_old(&self, disk: &SimDisk) {
        let found: BTreeSet<_> = disk.paths().into_iter().filter(|path| path.starts_with("blobs.old")).collect();
        let Some(old) = &self.old else {
            assert!(found.is_empty(), "{found:?}");
            return;
        };
        let expected = old.iter().map(|(&(oid, tid), bytes)| (Layout::Bushy.file(oid, tid), bytes.as_slice()));
        let expected: BTreeMap<_, _> = expected.chain([(".layout".into(), b"bushy".as_slice())]).collect();
        for (path, bytes) in &expected {
            let path = std::path::Path::new("blobs.old").join(path);
            assert_eq!(disk.read_file(&path).as_deref(), Some(*bytes), "{}", path.display());
        }
        // A blob whose commit failed in the crash may have been linked, too.
        assert!(found.len() >= expected.len());
    }

    /// Opens what the crash left as a database would, which knows what it cut off, and looks.
    fn check(&self, disk: &SimDisk, finished: bool) {
        let folder = open_on(disk, Opening::default()).unwrap();
        folder.sweep().unwrap();
        if let Some(removal) = folder.left_removal().unwrap() {
            // If the list had been written, the data file was exchanged or not: this model exchanges it with the sync.
            let keep_old = self.old.is_some();
            removal.carry_out(keep_old, |oid, tid| Ok(self.safe.contains_key(&(oid, tid)))).unwrap();
        }
        self.check_old(disk);
        let (found, strangers) = all(&folder);
        assert!(strangers.is_empty(), "{strangers:?}");
        for (&place, expected) in &self.safe {
            assert_eq!(&bytes(&folder, place).unwrap(), expected, "{place:?}");
        }
        for place in found.keys() {
            let known = self.safe.get(place).or_else(|| self.open.get(place));
            let known = known.unwrap_or_else(|| panic!("{place:?} is an orphan"));
            assert_eq!(&bytes(&folder, *place).unwrap(), known, "{place:?} is there by half");
            assert!(found[place] == 0o444 || found[place] == 0o644);
        }
        assert!(!finished || found.len() == self.safe.len());
        // The files of the transactions that were cut off go, durably.
        folder.remove(&self.open.keys().copied().collect::<Vec<_>>()).unwrap();
        let after = disk.crash_losing_everything();
        let (found, _) = all(&open_on(&after, Opening::default()).unwrap());
        assert!(found.keys().eq(self.safe.keys()), "{found:?}");
    }
}

/// Plays the steps until the power goes; the model, and whether it stayed on.
fn play(disk: &SimDisk, steps: &[Step]) -> (Model, bool) {
    let mut model = Model::default();
    let mut run = || {
        let folder = open_on(disk, Opening::default())?;
        steps.iter().try_for_each(|step| model.play(disk, &folder, step))
    };
    match run() {
        Ok(()) => (model, true),
        Err(Error::Io { source, .. }) if is_power_cut(&source) => (model, false),
        Err(error) => panic!("{error}"),
    }
}

/// Plays the steps to the end, and then up to each operation, where the power goes.
fn cut_everywhere(steps: &[Step], seed: u64) {
    let disk = SimDisk::new(seed);
    let (model, finished) = play(&disk, steps);
    assert!(finished);
    model.check(&disk.crash_losing_everything(), true);
    for operation in 0..disk.operations() {
        for tear in [Tear::NotAtAll, Tear::Partly, Tear::Wholly] {
            let disk = SimDisk::new(seed);
            disk.stop_at(operation, tear);
            let (model, _) = play(&disk, steps);
            model.check(&disk.crash_losing_everything(), false);
            model.check(&disk.crash(seed ^ operation), false);
            model.check(&disk.crash(seed ^ operation ^ 1 << 40), false);
        }
    }
}

/// Chance seldom makes a pack after a pack, with something to remove in both.
#[test]
fn after_a_power_cut_in_a_pack_what_it_keeps_is_complete() {
    let commit = |oids: &[u64]| Step::Commit(oids.iter().map(|&oid| (oid, 600)).collect());
    for keep_old in [true, false] {
        let steps = [
            commit(&[0, 1, 0x100]),
            commit(&[1]),
            Step::Pack(vec![1, 2], true),
            commit(&[0, 2]),
            Step::Undo(0),
            Step::Pack(vec![0, 3], keep_old),
        ];
        cut_everywhere(&steps, 7);
    }
}

/// A crash can keep the removal of the marker, and forget that of a folder that went before.
#[test]
fn after_a_power_cut_in_a_wipe_the_folder_is_still_one_of_a_pack() {
    let steps = [
        Step::Commit(vec![(0, 701), (1, 1401), (2, 1)]),
        Step::Pack(vec![1, 2], true),
        Step::Undo(0),
        Step::Pack(vec![0, 1], true),
    ];
    cut_everywhere(&steps, 12_007_835_718_062_754_455);
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn after_a_power_cut_at_any_operation_each_blob_is_whole_and_where_it_should_be(
        steps in prop::collection::vec(step(), 1..6), seed: u64,
    ) {
        cut_everywhere(&steps, seed);
    }

    #[test]
    fn after_an_operation_that_failed_what_was_acknowledged_is_there(
        steps in prop::collection::vec(step(), 1..6), seed: u64,
    ) {
        let disk = SimDisk::new(seed);
        play(&disk, &steps);
        for operation in 0..disk.operations() {
            let disk = SimDisk::new(seed);
            disk.fail_at(operation, io::ErrorKind::StorageFull, false);
            let mut model = Model::default();
            let Ok(folder) = open_on(&disk, Opening::default()) else { continue };
            let failed = steps.iter().find_map(|step| model.play(&disk, &folder, step).err());
            prop_assert!(failed.is_none_or(|error| error.to_string().contains("was told to fail")));
            drop(folder);
            model.check(&disk.crash_losing_everything(), false);
        }
    }
}
