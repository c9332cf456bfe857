//! Without faults and crashes a disk is a map from names to bytes. Both disks are compared with one, and so with each
//! other.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use vellum_disk::{Disk, DiskFile, Open, RealDisk, SimDisk};

const NAMES: [&str; 3] = ["Data.fs", "Data.fs.old", "Data.fs.pack"];

#[derive(Clone, Debug)]
enum Step {
    Open(usize, Open),
    Rename(usize, usize),
    Link(usize, usize),
    Remove(usize),
    SyncDirectory,
    Write { file: usize, offset: u64, length: usize, byte: u8 },
    SetLen { file: usize, length: u64 },
    Read { file: usize, offset: u64, length: usize },
    Sync { file: usize },
    Close { file: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let file = 0..4usize;
    let how = prop_oneof![Just(Open::Read), Just(Open::ReadWrite), Just(Open::CreateNew), Just(Open::Truncate)];
    prop_oneof![
        3 => (name.clone(), how).prop_map(|(name, how)| Step::Open(name, how)),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (name.clone(), name.clone()).prop_map(|(path, name)| Step::Link(path, name)),
        1 => name.prop_map(Step::Remove),
        1 => Just(Step::SyncDirectory),
        4 => (file.clone(), 0..3000u64, 0..1500usize, any::<u8>())
            .prop_map(|(file, offset, length, byte)| Step::Write { file, offset, length, byte }),
        1 => (file.clone(), 0..4000u64).prop_map(|(file, length)| Step::SetLen { file, length }),
        3 => (file.clone(), 0..5000u64, 0..3000usize)
            .prop_map(|(file, offset, length)| Step::Read { file, offset, length }),
        1 => file.clone().prop_map(|file| Step::Sync { file }),
        1 => file.prop_map(|file| Step::Close { file }),
    ]
}

/// An open file of the disk, which of the model's files it is, and whether it may be written.
type Handle = (Arc<dyn DiskFile>, usize, bool);

/// The plainest disk there is.
#[derive(Default)]
struct Model {
    files: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
}

impl Model {
    fn open(&mut self, path: PathBuf, how: Open) -> Option<usize> {
        let found = self.names.get(&path).copied();
        match (how, found) {
            (Open::Read | Open::ReadWrite, found) => found,
            (Open::CreateNew, Some(_)) => None,
            (Open::Truncate, Some(file)) => {
                self.files[file].clear();
                found
            }
            (_, None) => {
                self.files.push(Vec::new());
                self.names.insert(path, self.files.len() - 1);
                Some(self.files.len() - 1)
            }
        }
    }
}

/// Plays the steps on a disk and on the model; both must give the same answers.
fn compare(disk: &dyn Disk, directory: &str, steps: &[Step]) {
    let path = |name: usize| PathBuf::from(directory).join(NAMES[name]);
    let mut model = Model::default();
    let mut handles: Vec<Handle> = Vec::new();
    for step in steps {
        match *step {
            Step::Open(name, how) => {
                let opened = disk.open(&path(name), how);
                let expected = model.open(path(name), how);
                assert_eq!(opened.is_ok(), expected.is_some(), "{step:?}: {opened:?}");
                handles.extend(opened.ok().zip(expected).map(|(file, id)| (file, id, how != Open::Read)));
            }
            Step::Rename(from, to) => {
                let file = model.names.get(&path(from)).copied();
                // A file that has both names keeps both.
                if file.is_some() && file != model.names.get(&path(to)).copied() {
                    model.names.remove(&path(from));
                    model.names.extend(file.map(|file| (path(to), file)));
                }
                assert_eq!(disk.rename(&path(from), &path(to)).is_ok(), file.is_some(), "{step:?}");
            }
            Step::Link(from, to) => {
                let file = model.names.get(&path(from)).copied().filter(|_| !model.names.contains_key(&path(to)));
                model.names.extend(file.map(|file| (path(to), file)));
                assert_eq!(disk.link(&path(from), &path(to)).is_ok(), file.is_some(), "{step:?}");
            }
            Step::Remove(name) => {
                assert_eq!(disk.remove(&path(name)).is_ok(), model.names.remove(&path(name)).is_some(), "{step:?}");
            }
            Step::SyncDirectory => disk.sync_directory(&path(0)).unwrap(),
            Step::Close { file } if file < handles.len() => drop(handles.remove(file)),
            Step::Write { file, .. } | Step::SetLen { file, .. } | Step::Read { file, .. } | Step::Sync { file }
                if file < handles.len() =>
            {
                let (handle, id, writable) = &handles[file];
                compare_file(handle.as_ref(), &mut model.files[*id], *writable, step);
            }
            _ => {} // there is no such handle
        }
        for name in 0..NAMES.len() {
            assert_eq!(disk.exists(&path(name)).unwrap(), model.names.contains_key(&path(name)), "after {step:?}");
        }
    }
    for (path, &id) in &model.names {
        let file = disk.open(path, Open::Read).unwrap();
        let mut bytes = vec![0; model.files[id].len()];
        assert_eq!(file.len().unwrap(), bytes.len() as u64);
        assert_eq!(file.read_full_at(&mut bytes, 0).unwrap(), bytes.len());
        assert_eq!(bytes, model.files[id]);
    }
}

fn compare_file(file: &dyn DiskFile, model: &mut Vec<u8>, writable: bool, step: &Step) {
    match *step {
        Step::Write { offset, length, byte, .. } => {
            if length > 0 {
                assert_eq!(file.write_at(&vec![byte; length], offset).is_ok(), writable, "{step:?}");
            }
            if length > 0 && writable {
                let end = offset as usize + length;
                model.resize(model.len().max(end), 0);
                model[offset as usize..end].fill(byte);
            }
        }
        Step::SetLen { length, .. } => {
            assert_eq!(file.set_len(length).is_ok(), writable, "{step:?}");
            if writable {
                model.resize(length as usize, 0);
            }
        }
        Step::Read { offset, length, .. } => {
            let mut buf = vec![0xee; length];
            let read = file.read_full_at(&mut buf, offset).unwrap();
            let expected = model.get(offset as usize..).unwrap_or_default();
            let expected = &expected[..expected.len().min(length)];
            assert_eq!(&buf[..read], expected, "{step:?}");
            assert!(buf[read..].iter().all(|&byte| byte == 0xee), "bytes past the answer were touched");
        }
        _ => file.sync().unwrap(),
    }
    assert_eq!(file.len().unwrap(), model.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_simulated_disk_without_faults_is_a_map_from_names_to_bytes(
        steps in prop::collection::vec(step(), 0..60), short_reads: bool, seed: u64,
    ) {
        let disk = SimDisk::new(seed);
        disk.short_reads(short_reads);
        compare(&disk, "", &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn and_so_is_the_real_one(steps in prop::collection::vec(step(), 0..40)) {
        // In memory where there is such a place: this is about answers, and syncs take long on a disk.
        let memory = PathBuf::from("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        compare(&RealDisk, directory.path().to_str().unwrap(), &steps);
    }
}
