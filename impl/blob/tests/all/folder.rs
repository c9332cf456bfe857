//! A blob folder on a real disk, as ZODB would find it, and damaged ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use crate::common::{all, bytes, commit, names_in, open, place, ready};
use vellum_blob::{BlobFolder, Error, Layout, Opening, Result};
use vellum_disk::RealDisk;
use vellum_storage::{Oid, Tid};

fn open_with(path: &Path, opening: Opening) -> Result<BlobFolder> {
    BlobFolder::open(Arc::new(RealDisk), path, opening)
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The message of the error, without the temporary folder's name.
fn message<T>(result: Result<T>, home: &Path) -> String {
    result.err().expect("an error").to_string().replace(home.to_str().unwrap(), "HOME")
}

#[test]
fn a_new_folder_has_marker_and_tmp_and_a_blob_has_its_place_and_mode() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("var/deep/blobs");
    let folder = open(&path);
    assert_eq!(
        (names_in(&path), fs::read(path.join(".layout")).unwrap()),
        (vec![".layout".into(), "tmp".into()], b"bushy".into())
    );
    let usual = mode(home.path().join("var"));
    let mut temporary = folder.temporary().unwrap();
    let name = path.join("tmp").join(&names_in(&path.join("tmp"))[0]);
    assert_eq!(mode(&name), 0o600);
    temporary.append(b"two ").unwrap();
    temporary.append(b"pieces").unwrap();
    folder.place(temporary.sync().unwrap(), Oid(0x1234), Tid(7)).unwrap();
    folder.sync(&[place(0x1234, 7)]).unwrap();
    let file = path.join("0x00/0x00/0x00/0x00/0x00/0x00/0x12/0x34/0x07.blob");
    assert_eq!((fs::read(&file).unwrap(), mode(&file)), (b"two pieces".to_vec(), usual & 0o444));
    assert_eq!(fs::metadata(&file).unwrap().nlink(), 1);
    assert_eq!((mode(&path), mode(path.join("0x00")), mode(path.join(".layout"))), (usual, usual, usual & 0o666));
    assert_eq!(bytes(&folder, place(0x1234, 7)).unwrap(), b"two pieces");
    assert!(names_in(&path.join("tmp")).is_empty());
    assert!(folder.remove(&[place(0x1234, 7), place(9, 9)]).unwrap() == 1);
    assert_eq!(names_in(&path), [".layout", "tmp"], "emptied folders go");
}

#[test]
fn a_mode_has_the_files_execute_bits_and_the_folders_read_bits() {
    let home = tempfile::tempdir().unwrap();
    let folder =
        open_with(&home.path().join("blobs"), Opening { layout: Some(Layout::Lawn), ..Opening::default() }).unwrap();
    let objects = home.path().join("blobs/0x05");
    fs::create_dir(&objects).unwrap();
    for (tid, (of_folder, of_file, expected)) in
        (1..).zip([(0o755, 0o600, 0o444), (0o750, 0o600, 0o440), (0o711, 0o600, 0o400), (0o755, 0o2755, 0o2555)])
    {
        set_mode(&objects, of_folder);
        fs::write(objects.join("client"), "bytes").unwrap();
        set_mode(objects.join("client"), of_file);
        let adopted = folder.adopt(Oid(5), "client").unwrap();
        assert_eq!(adopted.length(), 5);
        folder.place(adopted, Oid(5), Tid(tid)).unwrap();
        assert_eq!(mode(folder.path_of(Oid(5), Tid(tid))), expected);
    }
    assert_eq!(names_in(&objects), ["0x01.blob", "0x02.blob", "0x03.blob", "0x04.blob"]);
}

#[test]
fn what_is_dropped_is_gone_and_what_is_there_is_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let folder = open(&home.path().join("blobs"));
    let temporaries = home.path().join("blobs/tmp");
    let mut temporary = folder.temporary().unwrap();
    temporary.append(b"dropped").unwrap();
    drop(temporary);
    drop(ready(&folder, b"dropped").unwrap());
    assert!(names_in(&temporaries).is_empty());
    commit(&folder, place(1, 1), b"first").unwrap();
    let error = message(commit(&folder, place(1, 1), b"second"), home.path());
    assert_eq!(
        error,
        "HOME/blobs/0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x01/0x01.blob: there is a file for object \
        0000000000000001 of 0000000000000001 already, and it was left alone. No other commit can have made it, so it is a \
        leftover: look at it, and move it away"
    );
    assert_eq!(bytes(&folder, place(1, 1)).unwrap(), b"first");
    assert!(names_in(&temporaries).is_empty());
    // Only what we made is swept, and only what a process that ended left.
    fs::write(temporaries.join("BUCabcdefgh"), "").unwrap();
    fs::write(temporaries.join("vellum-3.tmp"), "").unwrap();
    assert_eq!(folder.sweep().unwrap(), 1);
    assert_eq!(names_in(&temporaries), ["BUCabcdefgh"]);
}

#[test]
fn a_duplicate_is_a_link_unless_somebody_may_write_to_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = open(&home.path().join("blobs"));
    commit(&folder, place(1, 1), b"bytes").unwrap();
    let original = folder.path_of(Oid(1), Tid(1));
    let undo = |tid| {
        folder.place(folder.duplicate(Oid(1), Tid(1)).unwrap(), Oid(1), Tid(tid)).unwrap();
        folder.sync(&[place(1, tid)]).unwrap();
        fs::metadata(folder.path_of(Oid(1), Tid(tid))).unwrap()
    };
    assert_eq!(undo(2).ino(), fs::metadata(&original).unwrap().ino());
    set_mode(&original, 0o644);
    let copy = undo(3);
    assert_ne!(copy.ino(), fs::metadata(&original).unwrap().ino());
    assert_eq!((copy.mode() & 0o7777, mode(&original)), (0o444, 0o644));
    fs::write(&original, b"OTHER").unwrap();
    assert_eq!(bytes(&folder, place(1, 3)).unwrap(), b"bytes");
    let error = folder.duplicate(Oid(1), Tid(9)).unwrap_err();
    assert!(matches!(error, Error::Missing { tid: Tid(9), .. }), "{error}");
    assert!(names_in(&home.path().join("blobs/tmp")).is_empty());
    assert_eq!(folder.remove_object(Oid(1)).unwrap(), 3);
}

#[test]
fn what_comes_from_another_folder_has_a_second_name_or_is_a_copy() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (open(&home.path().join("from")), open(&home.path().join("to")));
    let (one, other, linked) = (place(1, 1), place(2, 1), place(3, 1));
    for (n, place) in [one, other, linked].into_iter().enumerate() {
        commit(&from, place, &[n as u8; 3000]).unwrap();
    }
    set_mode(from.path_of(other.0, other.1), 0o644);
    for (oid, tid) in [one, other] {
        to.place(to.take_from(&RealDisk, &from, oid, tid).unwrap(), oid, tid).unwrap();
    }
    let inode = |folder: &BlobFolder, (oid, tid): (Oid, Tid)| fs::metadata(folder.path_of(oid, tid)).unwrap().ino();
    assert_eq!(inode(&from, one), inode(&to, one));
    // A write to the one file must not change the other.
    assert_ne!(inode(&from, other), inode(&to, other));
    assert_eq!(bytes(&to, other).unwrap(), [1; 3000]);
    assert_eq!(mode(from.path_of(other.0, other.1)), 0o644);
    // A dropped `Ready` leaves no file, and a link is not followed.
    drop(to.take_from(&RealDisk, &from, one.0, one.1).unwrap());
    assert_eq!(names_in(&home.path().join("to/tmp")), [""; 0]);
    let path = from.path_of(linked.0, linked.1);
    fs::remove_file(&path).unwrap();
    symlink(home.path().join("from/.layout"), &path).unwrap();
    assert!(matches!(to.take_from(&RealDisk, &from, linked.0, linked.1), Err(Error::Link { .. })));
}

#[test]
fn the_layout_is_the_markers_else_the_files_else_bushy() {
    for layout in Layout::ALL {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("blobs");
        let wanted = Opening { layout: Some(layout), ..Opening::default() };
        let other = Layout::ALL.into_iter().find(|other| *other != layout);
        commit(&open_with(&path, wanted).unwrap(), place(0x1234, 1), b"x").unwrap();
        assert_eq!(open(&path).layout(), layout);
        for _ in 0..2 {
            let error = message(open_with(&path, Opening { layout: other, ..Opening::default() }), home.path());
            let expected = format!(
                "HOME/blobs: the layout is `{layout}`, and `{}` was asked for. Nothing was changed. Ask for \
                `{layout}`, or for none",
                other.unwrap()
            );
            assert_eq!(error, expected);
            // Without a marker the files tell.
            let _ = fs::remove_file(path.join(".layout"));
        }
        let read_only = Opening { read_only: true, ..Opening::default() };
        assert_eq!(open_with(&path, read_only).unwrap().layout(), layout);
        assert!(!path.join(".layout").exists(), "a reader writes nothing");
        fs::write(path.join(".layout"), format!(" {layout}\n")).unwrap();
        assert_eq!(open(&path).layout(), layout);
        fs::write(path.join(".layout"), "shrub").unwrap();
        assert_eq!(
            message(open_with(&path, wanted), home.path()),
            "HOME/blobs/.layout: the marker names the layout `shrub`, \
            and those that there are are `bushy` and `lawn`. Nothing was changed. If the marker is damaged, remove it: the \
            layout is then told by the files"
        );
    }
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("tmp")).unwrap();
    assert_eq!(open(home.path()).layout(), Layout::Bushy, "ZODB says lawn to an empty tmp");
}

#[test]
fn a_folder_that_is_something_else_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("blobs");
    let refused = |opening| message(open_with(&path, opening), home.path());
    let read_only = Opening { read_only: true, ..Opening::default() };
    assert_eq!(
        refused(read_only),
        "HOME/blobs: there is no such blob folder, and it is opened for reading only. Is the path \
        right?"
    );
    assert!(!path.exists());
    fs::write(&path, "").unwrap();
    assert_eq!(refused(Opening::default()), "HOME/blobs: this is a file, and should be a folder. Move it away");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("holiday.jpg"), "").unwrap();
    assert_eq!(
        refused(Opening::default()),
        "HOME/blobs: `holiday.jpg` is in it, and neither a marker nor a blob, so this is \
        no blob folder. Nothing was changed. Name another folder, or an empty one"
    );
    assert_eq!(names_in(&path), ["holiday.jpg"]);
    fs::remove_file(path.join("holiday.jpg")).unwrap();
    let new = Opening { data_is_new: true, ..Opening::default() };
    let folder = open_with(&path, new).unwrap();
    open_with(&path, new).unwrap();
    commit(&folder, place(1, 2), b"x").unwrap();
    assert_eq!(
        refused(new),
        "HOME/blobs: it holds blobs, such as object 0000000000000001's of 0000000000000002, but the data \
        file is new. Nothing was changed. If the data file is missing, bring it back; if these blobs are of another database, \
        name another folder"
    );
    assert_eq!(all(&folder).0.len(), 1);
    fs::create_dir(path.join("0x05")).unwrap();
    fs::write(path.join("0x05/0x01.blob"), "").unwrap();
    fs::remove_file(path.join(".layout")).unwrap();
    assert!(refused(Opening::default()).contains("Write the name of the right one into the file `.layout`"));
    let error = message(open_with(Path::new("/"), Opening::default()), home.path());
    assert_eq!(error, "/: this path does not end with a name. Name the blob folder itself");
    let reader = open_with(&home.path().join("other"), Opening::default())
        .map(|_| ())
        .and_then(|()| open_with(&home.path().join("other"), read_only))
        .unwrap();
    assert_eq!(message(reader.temporary(), home.path()), "HOME/other: the blob folder was opened read-only");
}

#[test]
fn something_in_the_place_of_a_blob_is_told_and_a_link_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let (path, outside) = (home.path().join("blobs"), home.path().join("outside"));
    let folder = open_with(&path, Opening { layout: Some(Layout::Lawn), ..Opening::default() }).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("0x01.blob"), "secret").unwrap();
    fs::create_dir_all(path.join("0x01/0x01.blob")).unwrap();
    symlink(outside.join("0x01.blob"), path.join("0x01/0x02.blob")).unwrap();
    symlink(&outside, path.join("0x02")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path.join("0x01/0x03.blob"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let expected = [
        (1, 1, "HOME/blobs/0x01/0x01.blob: this is a folder, and should be a file. Move it away"),
        (
            1,
            2,
            "HOME/blobs/0x01/0x02.blob: this is a symbolic link, and inside a blob folder none is followed, since it may \
            lead anywhere. Put in its place what it leads to",
        ),
        (1, 3, "HOME/blobs/0x01/0x03.blob: this is a pipe, a socket or a device, and should be a file. Move it away"),
        (
            2,
            1,
            "HOME/blobs/0x02: this is a symbolic link, and inside a blob folder none is followed, since it may lead \
            anywhere. Put in its place what it leads to",
        ),
        (
            3,
            1,
            "HOME/blobs/0x03/0x01.blob: there is no such file, so the bytes of object 0000000000000003 of \
            0000000000000001 are missing. If a backup of the blob folder has it, copy it here; the object's other revisions \
            are not concerned",
        ),
    ];
    for (oid, tid, expected) in expected {
        assert_eq!(message(folder.read(Oid(oid), Tid(tid)), home.path()), expected);
        assert_eq!(message(folder.length(Oid(oid), Tid(tid)), home.path()), expected);
        assert_eq!(message(folder.duplicate(Oid(oid), Tid(tid)), home.path()), expected);
    }
    assert_eq!(message(commit(&folder, place(2, 9), b"x"), home.path()), expected[3].2);
    assert_eq!(message(folder.remove(&[place(2, 1)]), home.path()), expected[3].2);
    assert_eq!(message(folder.remove(&[place(1, 1)]), home.path()), expected[0].2);
    for name in ["../0x02/0x01.blob", "/etc/passwd", "..", "", "a/", "0x04.blob"] {
        let error = folder.adopt(Oid(1), name).unwrap_err();
        assert!(matches!(error, Error::NotTemporary { .. }), "{name}: {error}");
    }
    symlink(outside.join("0x01.blob"), path.join("0x01/client")).unwrap();
    assert!(matches!(folder.adopt(Oid(1), "client").unwrap_err(), Error::Link { .. }));
    let (blobs, strangers) = all(&folder);
    assert!(blobs.is_empty());
    assert_eq!(strangers, ["0x01/0x01.blob", "0x01/0x02.blob", "0x01/0x03.blob", "0x01/client", "0x02"]);
    assert_eq!(names_in(&outside), ["0x01.blob"]);
    assert_eq!(
        (fs::read(outside.join("0x01.blob")).unwrap(), mode(outside.join("0x01.blob")) & 0o200),
        (b"secret".to_vec(), 0o200)
    );
    assert!(names_in(&path.join("tmp")).is_empty());
}

#[test]
fn a_link_that_leads_to_the_folder_is_the_operators() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("volume")).unwrap();
    symlink(home.path().join("volume"), home.path().join("blobs")).unwrap();
    let folder = open(&home.path().join("blobs/"));
    commit(&folder, place(1, 1), b"x").unwrap();
    assert_eq!(names_in(&home.path().join("volume")), [".layout", "0x00", "tmp"]);
    assert_eq!(folder.path(), home.path().canonicalize().unwrap().join("volume"));
}

#[test]
fn strangers_are_named_and_stay() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("blobs");
    let folder = open(&path);
    for oid in [0, 1, 0x1234, u64::MAX] {
        commit(&folder, place(oid, 1), b"x").unwrap();
        commit(&folder, place(oid, u64::MAX), b"x").unwrap();
    }
    let leaf = path.join(Layout::Bushy.folder(Oid(1)));
    for name in ["0x0001.blob", "0x02", "0x02.blob~", "BUC123"] {
        fs::write(leaf.join(name), "").unwrap();
    }
    fs::create_dir_all(path.join("0x0/0x00")).unwrap();
    fs::write(path.join("0x00/note"), "").unwrap();
    let (blobs, strangers) = all(&folder);
    assert_eq!(blobs.len(), 8);
    let leaf_name = Layout::Bushy.folder(Oid(1)).display().to_string();
    let mut expected = vec!["0x0".to_owned(), "0x00/note".into()];
    expected.extend(["0x0001.blob", "0x02", "0x02.blob~", "BUC123"].map(|name| format!("{leaf_name}/{name}")));
    expected.sort();
    assert_eq!(strangers, expected);
    assert_eq!(folder.remove_object(Oid(1)).unwrap(), 2);
    assert_eq!(names_in(&leaf), ["0x0001.blob", "0x02", "0x02.blob~", "BUC123"]);
}
