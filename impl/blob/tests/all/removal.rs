//! Files that a pack removes, files that it keeps beside, and the leftovers of a crash in between.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::{all, commit, names_in, open, place};
use vellum_blob::{BlobFolder, Error, Layout, Removed};
use vellum_storage::{Oid, Tid};

/// Three revisions of object 1, one of object 2, two of object 0x100.
fn folder(home: &tempfile::TempDir) -> BlobFolder {
    let folder = open(&home.path().join("blobs"));
    for (oid, tid) in [(1, 1), (1, 2), (1, 3), (2, 1), (0x100, 2), (0x100, 4)] {
        commit(&folder, place(oid, tid), format!("{oid} {tid}").as_bytes()).unwrap();
    }
    folder
}

fn left(folder: &BlobFolder) -> Vec<(u64, u64)> {
    all(folder).0.keys().map(|&(oid, tid)| (oid.0, tid.0)).collect()
}

fn nothing_is_needed(_: Oid, _: Tid) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    Ok(false)
}

#[test]
fn the_list_is_as_zodb_writes_it_and_what_it_names_goes_with_emptied_folders() {
    let home = tempfile::tempdir().unwrap();
    let (folder, path) = (folder(&home), home.path().join("blobs"));
    let mut list = folder.list_removal().unwrap();
    list.revision(Oid(1), Tid(1)).unwrap();
    list.object(Oid(0x100)).unwrap();
    list.revision(Oid(7), Tid(7)).unwrap();
    let removal = list.finish().unwrap();
    assert_eq!(
        fs::read_to_string(path.join(".removed")).unwrap(),
        "00000000000000010000000000000001\n0000000000000100\n00000000000000070000000000000007\n"
    );
    assert_eq!(left(&folder).len(), 6, "nothing goes before the data file is exchanged");
    let removed = removal.carry_out(false, nothing_is_needed).unwrap();
    assert_eq!(removed, Removed { files: 3, kept: 0, unreadable: 0 });
    assert_eq!(left(&folder), [(1, 2), (1, 3), (2, 1)]);
    assert_eq!(names_in(&path), [".layout", "0x00", "tmp"]);
    assert_eq!(names_in(&path.join("0x00/0x00/0x00/0x00/0x00/0x00")), ["0x00"]);
    assert_eq!(names_in(home.path()), ["blobs"]);
}

#[test]
fn with_the_old_kept_the_folder_beside_is_complete() {
    let home = tempfile::tempdir().unwrap();
    let (folder, old) = (folder(&home), home.path().join("blobs.old"));
    let before = left(&folder);
    for round in 0..2 {
        let mut list = folder.list_removal().unwrap();
        list.revision(Oid(1), Tid(1 + round)).unwrap();
        list.finish().unwrap().carry_out(true, nothing_is_needed).unwrap();
        // It is a blob folder like others, and has nothing of the round before.
        let beside = open(&old);
        assert_eq!(left(&beside), before[round as usize..]);
        fs::remove_dir(old.join("tmp")).unwrap();
        let inode = |folder: &BlobFolder, tid| fs::metadata(folder.path_of(Oid(1), Tid(tid))).unwrap().ino();
        assert_eq!(
            (inode(&folder, 3), fs::metadata(folder.path_of(Oid(1), Tid(3))).unwrap().nlink()),
            (inode(&beside, 3), 2)
        );
    }
    assert_eq!(left(&folder), before[2..]);
    // Without, it goes.
    folder.list_removal().unwrap().finish().unwrap().carry_out(false, nothing_is_needed).unwrap();
    assert_eq!(names_in(home.path()), ["blobs"]);
}

#[test]
fn a_list_that_was_left_is_carried_out_for_what_the_database_does_not_need() {
    let home = tempfile::tempdir().unwrap();
    let (folder, path) = (folder(&home), home.path().join("blobs"));
    let mut list = folder.list_removal().unwrap();
    list.object(Oid(1)).unwrap();
    list.revision(Oid(2), Tid(1)).unwrap();
    drop(list.finish().unwrap());
    assert!(matches!(folder.list_removal(), Err(Error::RemovalLeft { .. })));
    // The process ends here. A torn line says nothing.
    let text = fs::read_to_string(path.join(".removed")).unwrap() + "\n00000000000001\nxyz\n" + &"0".repeat(200_000);
    fs::write(path.join(".removed"), text).unwrap();
    let folder = open(&path);
    assert_eq!(all(&folder).1, [""; 0], "the list is no stranger");
    let failing = folder.left_removal().unwrap().unwrap();
    let error = failing.carry_out(false, |_, _| Err("the data file is damaged".into())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "object 0000000000000001 of 0000000000000001: whether its blob is still needed is not \
        known: the data file is damaged. It was left, with all others"
    );
    assert_eq!(names_in(&path), [".layout", ".removed", "0x00", "tmp"]);
    // Once it has begun, it is known that there was an exchange.
    let (mut questions, failing) = (0, folder.left_removal().unwrap().unwrap());
    let error = failing.carry_out(true, |_, _| {
        questions += 1;
        if questions <= 5 { Ok(false) } else { Err("the disk is gone".into()) }
    });
    assert!(matches!(error, Err(Error::Unknown { oid: Oid(1), tid: Tid(2), .. })));
    assert_eq!(names_in(&path), [".layout", ".removing", "0x00", "tmp"]);
    let removal = folder.left_removal().unwrap().unwrap();
    let removed = removal.carry_out(true, |oid, tid| Ok((oid, tid) == place(1, 3))).unwrap();
    assert_eq!((removed.files, removed.kept), (2, 1));
    assert_eq!(left(&open(&home.path().join("blobs.old"))).len(), 6);
    assert!(removed.unreadable > 2);
    assert_eq!(left(&folder), [(1, 3), (0x100, 2), (0x100, 4)]);
    assert!(folder.left_removal().unwrap().is_none());
}

#[test]
fn a_list_that_is_given_up_removes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (folder, path) = (folder(&home), home.path().join("blobs"));
    let mut list = folder.list_removal().unwrap();
    list.object(Oid(1)).unwrap();
    drop(list);
    folder.list_removal().unwrap().finish().unwrap().forget().unwrap();
    assert_eq!(names_in(&path), [".layout", "0x00", "tmp"]);
    assert_eq!(left(&folder).len(), 6);
}

#[test]
fn a_folder_beside_that_no_pack_made_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let folder = folder(&home);
    fs::create_dir(home.path().join("blobs.old")).unwrap();
    fs::write(home.path().join("blobs.old/thesis.txt"), "years of work").unwrap();
    let error = folder.list_removal().unwrap_err();
    assert_eq!(
        error.to_string().replace(home.path().to_str().unwrap(), "HOME"),
        "HOME/blobs.old: this is in the way of what \
        the pack removes, and since it has no marker no pack made it. Nothing was removed. Move it away, and pack \
        again"
    );
    assert_eq!(names_in(&home.path().join("blobs.old")), ["thesis.txt"]);
    assert_eq!(names_in(&home.path().join("blobs")), [".layout", "0x00", "tmp"]);
    assert_eq!(folder.layout(), Layout::Bushy);
}

#[test]
fn a_list_that_was_left_before_the_exchange_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let folder = folder(&home);
    let mut list = folder.list_removal().unwrap();
    list.revision(Oid(1), Tid(1)).unwrap();
    list.finish().unwrap().carry_out(true, nothing_is_needed).unwrap();
    let mut list = folder.list_removal().unwrap();
    list.object(Oid(1)).unwrap();
    list.revision(Oid(9), Tid(1)).unwrap();
    drop(list.finish().unwrap());
    let removed = folder.left_removal().unwrap().unwrap().carry_out(true, |_, _| Ok(true)).unwrap();
    assert_eq!(removed, Removed { files: 0, kept: 2, unreadable: 0 });
    assert!(folder.left_removal().unwrap().is_none());
    // The old data file is that of the first pack, and needs what that one kept.
    assert!(home.path().join("blobs.old").join(folder.layout().file(Oid(1), Tid(1))).exists());
}
