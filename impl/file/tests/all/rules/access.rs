//! Each file that is made of a database, or beside it, has the permissions of the database.

use std::path::PathBuf;

use crate::common::packs::*;
use crate::common::*;
use vellum_disk::{Access, SimDisk};
use vellum_file::{Packing, recover};
use vellum_storage::{CopyOptions, Tid, TidRange, copy};

/// All files that there are, but those of the database itself.
fn others(disk: &SimDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path != &PathBuf::from(PATH)).collect()
}

/// Makes each kind of file that the engine makes, and returns the disk.
fn disk_with_all(access: Access) -> SimDisk {
    let (disk, clock) = (SimDisk::new(7), SharedClock::new());
    drop(options(&disk, &clock).create(PATH).unwrap());
    others(&disk).iter().for_each(|path| remove(&disk, path.to_str().unwrap()));
    disk.set_access(PATH, access);
    // `.lock` and `.index`.
    let storage = options(&disk, &clock).open(PATH).unwrap();
    link(&storage, 1, &[(0, &[1]), (1, &[])]).unwrap();
    link(&storage, 2, &[(0, &[1])]).unwrap();
    storage.save_index().unwrap();
    // A copy, its lock and its index.
    let to = options(&disk, &clock).like(PATH).create("copy.fs").unwrap();
    copy(&storage, &to, TidRange::ALL, CopyOptions::default(), &mut |_| {}).unwrap();
    to.save_index().unwrap();
    drop(to);
    // `.pack`, which becomes the database, and `.old`.
    unwatched(&storage, Tid::MAX, Packing::new().keep_old(true)).unwrap();
    drop(storage);
    // `.tr0`: what a crash in a commit may leave.
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes.extend([0; 100]);
    disk.write_file(PATH, &bytes);
    remove(&disk, "Data.fs.index");
    drop(options(&disk, &clock).open(PATH).unwrap());
    recover(&options(&disk, &clock), PATH, "recovered.fs").unwrap();
    disk
}

#[test]
fn every_file_is_for_the_people_of_the_database() {
    for mode in [0o600, 0o640, 0o664, 0o666] {
        let access = Access { mode, user: 1001, group: 1002 };
        let disk = disk_with_all(access);
        let made = others(&disk);
        for name in [
            "Data.fs.lock",
            "Data.fs.index",
            "Data.fs.old",
            "Data.fs.tr0",
            "copy.fs",
            "copy.fs.lock",
            "copy.fs.index",
            "recovered.fs",
        ] {
            assert!(made.contains(&PathBuf::from(name)), "{name} was not made: {made:?}");
        }
        for path in disk.paths() {
            assert_eq!(disk.access(&path), Some(access), "{}", path.display());
        }
    }
}
