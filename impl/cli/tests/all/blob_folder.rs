//! The blob folder beside a database: finding it, looking at it, and what no revision needs.

use crate::common;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::common::photos::{DATA, FOLDER, Photos, folder, photos, put};
use crate::common::site::{Site, Store, record};
use crate::common::{Run, Sandbox};
use vellum_blob::Layout;
use vellum_storage::{Oid, Tid};

/// An hour and more behind the last transaction of the site.
fn later(tid: Tid) -> Tid {
    Tid(tid.0 + (90 << 32))
}

/// The folder, as it is named in an answer, without the sandbox's own.
fn tell(sandbox: &Sandbox, session: String) -> String {
    session.replace(&format!("{}/", sandbox.path("").canonicalize().unwrap().display()), "")
}

fn session(sandbox: &Sandbox, commands: &[&[&str]]) -> String {
    tell(sandbox, sandbox.session(commands))
}

fn path_of(sandbox: &Sandbox, oid: u64, tid: Tid) -> std::path::PathBuf {
    folder(&sandbox.path(FOLDER), Layout::Bushy).path_of(Oid(oid), tid)
}

fn make_writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_plone_site() {
    let sandbox = Sandbox::new();
    let Photos { first, second, last, .. } = photos(&sandbox);
    let blobs = folder(&sandbox.path(FOLDER), Layout::Bushy);
    put(&blobs, 2, Tid(second.0 + 1), b"never committed");
    put(&blobs, 9, later(last), b"too late");
    fs::write(sandbox.path("blobstorage/notes.txt"), "who put this here?").unwrap();
    let at_first = first.to_string();
    let commands: &[&[&str]] = &[
        &["info", DATA],
        &["check", DATA],
        &["check", DATA, "--read-blobs", "--json"],
        &["show", DATA, "2"],
        &["show", DATA, "2", "--at", &at_first, "--save-blob", "photo.jpg"],
        &["show", DATA, "2", "--history"],
        &["log", DATA, "--object", "2"],
        &["log", DATA, "--object", "2", "-n", "1", "--json"],
        &["blobs", "orphans", DATA],
        &["blobs", "orphans", DATA, "--remove"],
        &["blobs", "orphans", DATA, "--remove", "--yes"],
        &["blobs", "orphans", DATA],
    ];
    assert_session!("cli-blob-folder", session(&sandbox, commands));
    assert_eq!(fs::read(sandbox.path("photo.jpg")).unwrap(), b"a photo");
    assert!(sandbox.path("blobstorage/notes.txt").exists());
    assert!(path_of(&sandbox, 2, second).exists());
}

#[test]
fn damage() {
    let sandbox = Sandbox::new();
    let Photos { first, second, .. } = photos(&sandbox);
    fs::remove_file(path_of(&sandbox, 3, first)).unwrap();
    let old = path_of(&sandbox, 2, first);
    fs::remove_file(&old).unwrap();
    fs::write(sandbox.path("secret.txt"), "nobody's business").unwrap();
    symlink(sandbox.path("secret.txt"), &old).unwrap();
    let now = path_of(&sandbox, 2, second);
    make_writable(&now);
    fs::write(&now, b"").unwrap();
    let at_first = first.to_string();
    let commands: &[&[&str]] = &[
        &["check", DATA],
        &["info", DATA],
        &["show", DATA, "2", "--at", &at_first],
        &["show", DATA, "2", "--at", &at_first, "--save-blob", "photo.jpg"],
        &["show", DATA, "2", "--history"],
        &["blobs", "orphans", DATA, "--remove", "--yes"],
    ];
    assert_session!("cli-blob-damage", session(&sandbox, commands));
    assert!(!sandbox.path("photo.jpg").exists());
    assert!(old.symlink_metadata().unwrap().is_symlink(), "a link is left alone");
}

/// Whether opening a database makes this file.
fn is_made(name: &Path) -> bool {
    name.extension().is_some_and(|ending| ending == "lock" || ending == "index")
}

/// Two databases beside each other, of which the folder is one's.
#[test]
fn a_folder_of_another_database() {
    let sandbox = Sandbox::new();
    let Photos { last, .. } = photos(&sandbox);
    fs::create_dir(sandbox.path("other")).unwrap();
    let mut other = Site::new(&sandbox, "other/Data.fs");
    for _ in 0..7 {
        other.commit("ann", "no blob at all", vec![Store(0, record("Root", &[], &[], 0))]);
    }
    other.commit("ann", "", vec![Store(2, common::photos::blob())]);
    drop(other);
    symlink(sandbox.path(FOLDER), sandbox.path("other/blobstorage")).unwrap();
    // A copy does not get the folder of the original.
    fs::copy(sandbox.path(DATA), sandbox.path("filestorage/copy.fs")).unwrap();
    let before = sandbox.all_files();
    let commands: &[&[&str]] = &[
        &["check", "other/Data.fs"],
        &["check", "other/Data.fs", "--blobs", FOLDER],
        &["blobs", "orphans", "other/Data.fs"],
        &["blobs", "orphans", "other/Data.fs", "--blobs", FOLDER, "--remove", "--yes", "--max", "1"],
        &["info", "filestorage/copy.fs"],
    ];
    assert_session!("cli-blob-other-folder", session(&sandbox, commands));
    let mut after = sandbox.all_files();
    after.retain(|name, _| !is_made(name));
    let mut expected = before;
    expected.retain(|name, _| !is_made(name));
    assert!(after == expected, "nothing was touched");
    let _ = last;
}

fn says(run: &Run, text: &str, code: i32) {
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(text) || run.stderr.contains(text), "{text}: {}{}", run.stdout, run.stderr);
}

#[test]
fn what_is_no_blob_folder_is_refused() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    fs::create_dir(sandbox.path("pictures")).unwrap();
    fs::write(sandbox.path("pictures/holiday.jpg"), "x").unwrap();
    fs::create_dir(sandbox.path("unknown")).unwrap();
    fs::write(sandbox.path("unknown/.layout"), "shrubby").unwrap();
    fs::write(sandbox.path("a-file"), "x").unwrap();
    for (named, why) in [
        ("pictures", "no blob folder"),
        ("unknown", "shrubby"),
        ("nowhere", "there is no such blob folder"),
        ("a-file", "this is a file"),
    ] {
        let mut before = sandbox.all_files();
        before.retain(|name, _| !is_made(name));
        for command in [&["info", DATA][..], &["check", DATA], &["blobs", "orphans", DATA, "--remove", "--yes"]] {
            let arguments: Vec<_> = command.iter().copied().chain(["--blobs", named]).collect();
            says(&sandbox.run(&arguments), why, 2);
        }
        assert!(before.iter().all(|(name, bytes)| sandbox.all_files().get(name) == Some(bytes)), "{named}");
    }
}

/// The links of a folder lead nowhere: their ends are neither read nor removed.
#[test]
fn nothing_leads_out_of_the_folder() {
    let sandbox = Sandbox::new();
    let Photos { second, last, .. } = photos(&sandbox);
    let outside = folder(&sandbox.path("outside"), Layout::Bushy);
    let kept = put(&outside, 0x1234_5678, later(last), b"of somebody else");
    // The folder of the objects from 0x12000000 on, and a file's name.
    let inside = sandbox.path("blobstorage/0x00/0x00/0x00/0x00/0x12");
    symlink(sandbox.path("outside/0x00/0x00/0x00/0x00/0x12"), &inside).unwrap();
    let file = path_of(&sandbox, 2, Tid(second.0 + 5));
    symlink(&kept, &file).unwrap();
    let run = sandbox.run(&["blobs", "orphans", DATA, "--remove", "--yes"]);
    says(&run, "2 names that no blob has", 0);
    assert_eq!(fs::read(&kept).unwrap(), b"of somebody else");
    assert!(inside.symlink_metadata().is_ok() && file.symlink_metadata().is_ok());
    // The target of a link is not saved either.
    let at = path_of(&sandbox, 2, second);
    fs::remove_file(&at).unwrap();
    symlink(&kept, &at).unwrap();
    says(&sandbox.run(&["show", DATA, "2", "--save-blob", "out"]), "symbolic link", 2);
    assert!(!sandbox.path("out").exists());
}

/// That the folder itself is a link is the operator's choice.
#[test]
fn the_folder_may_be_a_link() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    fs::rename(sandbox.path(FOLDER), sandbox.path("on-a-larger-disk")).unwrap();
    symlink(sandbox.path("on-a-larger-disk"), sandbox.path(FOLDER)).unwrap();
    says(&sandbox.run(&["check", DATA]), "3 files, 2.9 KiB", 0);
}

#[test]
fn a_question_comes_before_a_removal() {
    let sandbox = Sandbox::new();
    let Photos { second, .. } = photos(&sandbox);
    let orphan = put(&folder(&sandbox.path(FOLDER), Layout::Bushy), 2, Tid(second.0 + 1), b"never committed");
    let arguments = ["blobs", "orphans", DATA, "--remove"];
    for (typed, code) in [("n\n", 1), ("\n", 1), ("\u{4}", 1)] {
        let (ended, seen) = sandbox.at_a_terminal(&arguments, typed);
        assert_eq!(ended, code, "{seen}");
        assert!(seen.contains("Remove it? [y/N]") && seen.contains("Nothing was removed"), "{seen}");
        assert!(orphan.exists());
    }
    let (ended, seen) = sandbox.at_a_terminal(&arguments, "y\n");
    assert_eq!(ended, 0, "{seen}");
    assert!(!orphan.exists());
}

/// A site holds the lock: a commit may be under way.
#[test]
fn nothing_is_removed_beside_a_running_site() {
    let sandbox = Sandbox::new();
    let Photos { second, .. } = photos(&sandbox);
    let orphan = put(&folder(&sandbox.path(FOLDER), Layout::Bushy), 2, Tid(second.0 + 1), b"under way");
    let running = vellum_file::FileStorage::open(sandbox.path(DATA)).unwrap();
    says(&sandbox.run(&["blobs", "orphans", DATA, "--remove", "--yes"]), "lock", 2);
    says(&sandbox.run(&["blobs", "orphans", DATA]), "1 file, 9 bytes", 0);
    assert!(orphan.exists());
    drop(running);
    says(&sandbox.run(&["blobs", "orphans", DATA, "--remove", "--yes"]), "Removed 1 file", 0);
    assert!(!orphan.exists());
}

/// The revisions of an object that a pack keeps for what shares their data, and those that are in nobody's way.
#[test]
fn a_lawn_is_found_and_checked_as_well() {
    let sandbox = Sandbox::new();
    let Photos { first, second, .. } = photos(&sandbox);
    fs::remove_dir_all(sandbox.path(FOLDER)).unwrap();
    let lawn = folder(&sandbox.path("filestorage/Data.fs.blobs"), Layout::Lawn);
    for (oid, tid) in [(2, first), (3, first), (2, second)] {
        put(&lawn, oid, tid, b"bytes");
    }
    says(&sandbox.run(&["check", DATA]), "Data.fs.blobs (lawn)", 0);
    // A marker that got lost leaves it where it was named.
    fs::remove_file(sandbox.path("filestorage/Data.fs.blobs/.layout")).unwrap();
    says(&sandbox.run(&["check", DATA]), "folder is not known", 0);
    says(&sandbox.run(&["check", DATA, "--blobs", "filestorage/Data.fs.blobs"]), "(lawn)", 0);
    assert!(!sandbox.path("filestorage/Data.fs.blobs/.layout").exists(), "a check writes nothing");
}

#[test]
fn save_blob_replaces_nothing() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    sandbox.file("photo.jpg", b"precious");
    says(&sandbox.run(&["show", DATA, "2", "--save-blob", "photo.jpg"]), "left as it is", 2);
    assert_eq!(fs::read(sandbox.path("photo.jpg")).unwrap(), b"precious");
    says(&sandbox.run(&["show", DATA, "1", "--save-blob", "new.jpg"]), "is no blob", 2);
    assert!(!sandbox.path("new.jpg").exists());
}
