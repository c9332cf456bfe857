//! The real disk, in a directory of its own.
use std::io::ErrorKind;
use std::path::Path;

use vellum_disk::{Disk, Open, RealDisk};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn written_bytes_are_read_and_stay() {
    let directory = directory();
    let path = directory.path().join("Data.fs");
    let file = RealDisk.open(&path, Open::CreateNew).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(b"hello", 3).unwrap();
    file.sync().unwrap();
    RealDisk.sync_directory(&path).unwrap();
    let mut buf = [9; 20];
    assert_eq!(file.read_full_at(&mut buf, 0).unwrap(), 8);
    assert_eq!(&buf[..8], b"\0\0\0hello");
    assert_eq!(file.read_at(&mut buf, 8).unwrap(), 0);
    file.set_len(5).unwrap();
    assert_eq!((file.len().unwrap(), std::fs::read(&path).unwrap()), (5, b"\0\0\0he".to_vec()));
}

#[test]
fn each_way_of_opening_does_what_it_says() {
    let directory = directory();
    let path = directory.path().join("Data.fs");
    let kind = |how| RealDisk.open(&path, how).unwrap_err().kind();
    assert_eq!((kind(Open::Read), kind(Open::ReadWrite)), (ErrorKind::NotFound, ErrorKind::NotFound));
    RealDisk.open(&path, Open::Truncate).unwrap().write_at(b"one", 0).unwrap();
    assert_eq!(kind(Open::CreateNew), ErrorKind::AlreadyExists);
    let reader = RealDisk.open(&path, Open::Read).unwrap();
    assert!(reader.write_at(b"two", 0).is_err());
    RealDisk.open(&path, Open::ReadWrite).unwrap().write_at(b"T", 0).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"Tne");
    RealDisk.open(&path, Open::Truncate).unwrap();
    assert!(reader.is_empty().unwrap());
}

#[test]
fn a_directory_is_not_a_file() {
    let directory = directory();
    for how in [Open::Read, Open::ReadWrite, Open::CreateNew, Open::Truncate] {
        assert_eq!(RealDisk.open(directory.path(), how).unwrap_err().kind(), ErrorKind::IsADirectory, "{how:?}");
    }
    assert!(!RealDisk.exists(directory.path()).unwrap());
    assert!(RealDisk.lock(directory.path()).is_err());
}

#[test]
fn names_come_and_go() {
    let directory = directory();
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    let file = RealDisk.open(&a, Open::CreateNew).unwrap();
    file.write_at(b"a", 0).unwrap();
    RealDisk.open(&b, Open::CreateNew).unwrap();
    RealDisk.rename(&a, &b).unwrap();
    assert_eq!((RealDisk.exists(&a).unwrap(), std::fs::read(&b).unwrap()), (false, b"a".to_vec()));
    RealDisk.remove(&b).unwrap();
    assert_eq!((RealDisk.exists(&b).unwrap(), file.len().unwrap()), (false, 1));
    assert_eq!(RealDisk.remove(&b).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(RealDisk.rename(&b, &a).unwrap_err().kind(), ErrorKind::NotFound);
    RealDisk.sync_directory(&b).unwrap();
    // A name without a directory is in the current one.
    RealDisk.sync_directory(Path::new("Data.fs")).unwrap();
    assert!(RealDisk.sync_directory(&b.join("deeper")).is_err());
    std::fs::write(&b, b"a file").unwrap();
    assert!(!RealDisk.exists(&b.join("deeper")).unwrap());
}

#[test]
fn a_scratch_file_has_no_name() {
    let directory = directory();
    let file = RealDisk.scratch(&directory.path().join("Data.fs")).unwrap();
    file.write_at(b"spilled", 100).unwrap();
    assert_eq!(file.len().unwrap(), 107);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert!(RealDisk.scratch(&directory.path().join("missing/Data.fs")).is_err());
}

#[test]
fn a_lock_has_one_owner_at_a_time_and_its_file_says_who() {
    let directory = directory();
    let path = directory.path().join("Data.fs.lock");
    std::fs::write(&path, b" 99999999 and more that an earlier owner wrote\n").unwrap();
    let lock = RealDisk.lock(&path).unwrap();
    let mine = std::process::id().to_string();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!(" {mine}\n"));
    // The lock belongs to the open file, so a second one conflicts even in the same process.
    let error = RealDisk.lock(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(error.to_string().contains(&format!("process {mine}:")), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!(" {mine}\n"));
    drop(lock);
    assert!(path.exists());
    RealDisk.lock(&path).unwrap();
}

#[test]
fn a_file_can_have_two_names_and_a_replacement_has_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let [data, old, pack] = ["Data.fs", "Data.fs.old", "Data.fs.pack"].map(|name| directory.path().join(name));
    std::fs::write(&data, "data").unwrap();
    std::fs::write(&pack, "left here by another program").unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o640)).unwrap();
    RealDisk.link(&data, &old).unwrap();
    assert_eq!(RealDisk.link(&data, &old).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let file = RealDisk.open_like(&pack, Open::Truncate, &data).unwrap();
    assert!(file.is_empty().unwrap());
    assert_eq!(std::fs::metadata(&pack).unwrap().permissions().mode() & 0o7777, 0o640);
    RealDisk.rename(&pack, &data).unwrap();
    assert_eq!((std::fs::read(&data).unwrap(), std::fs::read(&old).unwrap()), (Vec::new(), b"data".to_vec()));
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&old, &link).unwrap();
    assert_eq!(RealDisk.resolve(&link).unwrap(), RealDisk.resolve(&old).unwrap());
}
