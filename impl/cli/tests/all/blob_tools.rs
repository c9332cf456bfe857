//! The commands that change, copy and move blobs: the files go with the records.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::photos::{DATA, FOLDER, Photos, blob, folder, photos, put};
use crate::common::site::{Site, Store, record};
use crate::common::{Run, Sandbox, without_time};
use vellum_blob::Layout;
use vellum_file::{FileStorage, Options};
use vellum_storage::{Oid, Storage, Tid, Version};

fn tell(sandbox: &Sandbox, session: String) -> String {
    without_time(session).replace(&format!("{}/", sandbox.path("").canonicalize().unwrap().display()), "")
}

fn says(run: &Run, text: &str, code: i32) {
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(text) || run.stderr.contains(text), "{text}: {}{}", run.stdout, run.stderr);
}

fn file_of(sandbox: &Sandbox, at: &str, oid: u64, tid: Tid) -> PathBuf {
    folder(&sandbox.path(at), Layout::Bushy).path_of(Oid(oid), tid)
}

/// The bytes of an object's current blob.
fn now(data: &Path, blobs: &Path, oid: u64) -> Vec<u8> {
    let storage = Options::new().read_only().blobs(blobs).open(data).unwrap();
    let tid = storage.load(Oid(oid), &Version::TRUNK).unwrap().tid;
    let blob = Storage::blobs(&storage).unwrap().load_blob(Oid(oid), tid).unwrap();
    blob.bytes().unwrap().to_vec()
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    let Photos { second, deleted, .. } = photos(&sandbox);
    let (second, deleted) = (second.to_string(), deleted.to_string());
    let commands: &[&[&str]] = &[
        &["copy", DATA, "backup.fs"],
        &["copy", DATA, "backup.fs"],
        &["undo", DATA, &second, "--dry-run"],
        &["undo", DATA, &second, "--dry-run", "--json"],
        &["undo", DATA, &second, "--yes"],
        &["copy", DATA, "backup.fs", "--json"],
        &["export", DATA, "0", "all.zexp"],
        &["import", DATA, "all.zexp", "--dry-run"],
        &["import", DATA, "all.zexp", "--yes"],
        &["pack", DATA, "--dry-run"],
        &["pack", DATA, "--yes"],
        &["check", DATA],
        &["check", "filestorage/Data.fs.old"],
        &["restore", DATA, "3", "--from", "backup.fs", "--at", "2026-11-24 09:01", "--dry-run"],
        &["restore", DATA, "3", "--from", "backup.fs", "--at", "2026-11-24 09:01", "--yes"],
        &["recover", DATA, "recovered.fs"],
        &["check", "recovered.fs", "--blobs", FOLDER],
        &["check", "backup.fs"],
    ];
    assert_session!("cli-blob-tools", tell(&sandbox, sandbox.session(commands)));
    let _ = deleted;
    assert_eq!(now(&sandbox.path(DATA), &sandbox.path(FOLDER), 2), b"a photo");
    assert_eq!(now(&sandbox.path(DATA), &sandbox.path(FOLDER), 3), b"another photo");
    assert_eq!(now(&sandbox.path("backup.fs"), &sandbox.path("backup.fs.blobs"), 2), b"a photo");
}

/// A copy takes no room where both folders are on one device, and its files are the database's own otherwise.
#[test]
fn a_copy_has_second_names() {
    let sandbox = Sandbox::new();
    let Photos { first, second, .. } = photos(&sandbox);
    says(&sandbox.run(&["copy", DATA, "backup.fs"]), "3 files", 0);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    for (oid, tid) in [(2, first), (3, first), (2, second)] {
        let (one, other) = (file_of(&sandbox, FOLDER, oid, tid), file_of(&sandbox, "backup.fs.blobs", oid, tid));
        assert_eq!(inode(one.clone()), inode(other.clone()));
        fs::remove_file(&one).unwrap();
        assert!(other.exists());
    }
}

/// A file that others may change, or may not read, gets no second name.
#[test]
fn a_copy_of_a_file_that_can_be_changed_is_a_copy() {
    let sandbox = Sandbox::new();
    let Photos { second, .. } = photos(&sandbox);
    let one = file_of(&sandbox, FOLDER, 2, second);
    fs::set_permissions(&one, fs::Permissions::from_mode(0o644)).unwrap();
    says(&sandbox.run(&["copy", DATA, "backup.fs"]), "3 files", 0);
    let other = file_of(&sandbox, "backup.fs.blobs", 2, second);
    fs::write(&one, "changed").unwrap();
    assert_eq!(fs::read(other).unwrap(), [b'x'; 3000]);
}

/// A copy that was interrupted, or made with records only, and one that misses files.
#[test]
fn a_copy_tells_what_it_lacks() {
    let sandbox = Sandbox::new();
    let Photos { first, .. } = photos(&sandbox);
    says(&sandbox.run(&["copy", DATA, "records.fs", "--without-blobs"]), "3 revisions, without files", 0);
    assert!(!sandbox.path("records.fs.blobs").exists());
    fs::remove_file(file_of(&sandbox, FOLDER, 3, first)).unwrap();
    says(&sandbox.run(&["copy", DATA, "backup.fs"]), "1 revision of blobs have no file", 1);
    // The folder of the original is not the copy's.
    says(&sandbox.run(&["copy", DATA, "wrong.fs", "--to-blobs", FOLDER]), "this is the blob folder of", 2);
    assert!(!sandbox.path("wrong.fs").exists());
    // One of another database neither.
    let mut other = Site::new(&sandbox, "other.fs");
    for _ in 0..9 {
        other.commit("ann", "", vec![Store(0, record("Root", &[], &[], 0)), Store(9, blob())]);
    }
    let tid = other.storage.last_transaction();
    drop(other);
    put(&folder(&sandbox.path("other.fs.blobs"), Layout::Bushy), 9, tid, b"of another");
    let run = sandbox.run(&["copy", DATA, "backup.fs", "--to-blobs", "other.fs.blobs"]);
    says(&run, "the blob folder of another database", 2);
}

/// A copy goes on after each transaction; what was on its way when it stopped is gone.
#[test]
fn a_copy_goes_on() {
    let sandbox = Sandbox::new();
    let Photos { first, second, .. } = photos(&sandbox);
    let until = first.to_string();
    says(&sandbox.run(&["copy", DATA, "backup.fs", "--until", &until]), "2 files", 0);
    fs::write(sandbox.path("backup.fs.blobs/tmp/vellum-0.tmp"), "half of it").unwrap();
    says(&sandbox.run(&["copy", DATA, "backup.fs"]), "1 file, 2.9 KiB", 0);
    assert!(file_of(&sandbox, "backup.fs.blobs", 2, second).exists());
    assert_eq!(fs::read_dir(sandbox.path("backup.fs.blobs/tmp")).unwrap().count(), 0);
    says(&sandbox.run(&["check", "backup.fs"]), "no problems", 0);
}

/// An undo needs the file of then.
#[test]
fn an_undo_of_a_lost_blob_is_refused() {
    let sandbox = Sandbox::new();
    let Photos { first, second, .. } = photos(&sandbox);
    fs::remove_file(file_of(&sandbox, FOLDER, 2, first)).unwrap();
    let before = fs::read(sandbox.path(DATA)).unwrap();
    let tid = second.to_string();
    for how in ["--yes", "--dry-run"] {
        says(&sandbox.run(&["undo", DATA, &tid, how]), "the file of then is missing", 1);
        says(&sandbox.run(&["undo", DATA, &tid, how, "--json"]), "refused_for_blobs\":\"Nothing", 1);
    }
    assert!(fs::read(sandbox.path(DATA)).unwrap() == before);
    says(&sandbox.run(&["undo", DATA, &tid, "--yes", "--without-blobs"]), "has no file", 0);
}

/// Two blobs that have the same record differ in their bytes: an undo below a later change is refused, in a dry run as
/// well.
#[test]
fn a_dry_run_knows_that_a_blob_was_changed_later() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("filestorage")).unwrap();
    let mut site = Site::new(&sandbox, DATA);
    let tids: Vec<Tid> = (0..3).map(|_| site.commit("ann", "", vec![Store(2, blob())])).collect();
    drop(site);
    let blobs = folder(&sandbox.path(FOLDER), Layout::Bushy);
    for (n, tid) in tids.iter().enumerate() {
        put(&blobs, 2, *tid, format!("photo {n}").as_bytes());
    }
    let middle = tids[1].to_string();
    for how in ["--dry-run", "--yes"] {
        // The later change is in the way, and not that there is no folder.
        says(&sandbox.run(&["undo", DATA, &middle, how, "--json"]), "\"refused\":{", 1);
    }
    assert_eq!(now(&sandbox.path(DATA), &sandbox.path(FOLDER), 2), b"photo 2");
}

/// A pack removes the forgotten files, `.old` has them, and the database from before the pack is whole.
#[test]
fn a_pack_removes_what_it_forgets() {
    let sandbox = Sandbox::new();
    let Photos { first, second, .. } = photos(&sandbox);
    put(&folder(&sandbox.path(FOLDER), Layout::Bushy), 2, Tid(second.0 + 1), b"an orphan");
    let run = sandbox.run(&["pack", DATA, "--yes", "--json"]);
    says(&run, "\"blob_files\":2,\"blob_bytes\":20,\"old_blobs\":", 0);
    assert!(!file_of(&sandbox, FOLDER, 2, first).exists());
    assert!(!file_of(&sandbox, FOLDER, 3, first).exists());
    assert!(file_of(&sandbox, FOLDER, 2, second).exists());
    assert!(file_of(&sandbox, FOLDER, 2, Tid(second.0 + 1)).exists(), "a pack leaves orphans alone");
    // The way back, as docs/blobs.md tells it.
    for (old, name) in [("filestorage/Data.fs.old", DATA), ("blobstorage.old", FOLDER)] {
        fs::rename(sandbox.path(name), sandbox.path(&format!("{name}.packed"))).unwrap();
        fs::rename(sandbox.path(old), sandbox.path(name)).unwrap();
    }
    fs::remove_file(sandbox.path("filestorage/Data.fs.index")).unwrap();
    says(&sandbox.run(&["check", DATA]), "3 revisions of 1 object, with 3 files", 0);
}

#[test]
fn a_pack_without_old_keeps_nothing() {
    let sandbox = Sandbox::new();
    let Photos { first, .. } = photos(&sandbox);
    says(&sandbox.run(&["pack", DATA, "--yes", "--no-old"]), "2 files, 20 bytes gone from", 0);
    assert!(!file_of(&sandbox, FOLDER, 3, first).exists());
    assert!(!sandbox.path("blobstorage.old").exists() && !sandbox.path("filestorage/Data.fs.old").exists());
}

/// Neither what it has, nor what is on its way in it.
#[test]
fn a_folder_of_another_database_is_not_written_to() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    let mut other = Site::new(&sandbox, "other.fs");
    other.commit("ann", "", vec![Store(0, record("Root", &[9], &[], 0))]);
    for _ in 0..9 {
        other.commit("ann", "", vec![Store(9, blob())]);
    }
    let last = other.storage.last_transaction().to_string();
    drop(other);
    fs::write(sandbox.path("blobstorage/tmp/vellum-7.tmp"), "on its way").unwrap();
    let before = sandbox.all_files();
    for command in [
        &["pack", "other.fs", "--yes"][..],
        &["undo", "other.fs", &last, "--yes"],
        &["import", "other.fs", "none.zexp", "--yes"],
    ] {
        let arguments: Vec<_> = command.iter().copied().chain(["--blobs", FOLDER]).collect();
        sandbox.file("none.zexp", b"ZEXP");
        says(&sandbox.run(&arguments), "another database", 2);
    }
    let after = sandbox.all_files();
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    // A folder that is not there is no new one for a database with blobs.
    says(&sandbox.run(&["undo", "other.fs", &last, "--yes", "--blobs", "nowhere"]), "no such blob folder", 2);
    assert!(!sandbox.path("nowhere").exists());
}

/// An import that fails in the middle of a blob leaves no file.
#[test]
fn an_import_that_fails_leaves_nothing() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    says(&sandbox.run(&["export", DATA, "0", "all.zexp"]), "1 blob, with 2.9 KiB", 0);
    let whole = fs::read(sandbox.path("all.zexp")).unwrap();
    let blob = whole.windows(10).position(|bytes| bytes == b"\0BLOBSTART").unwrap();
    let (data, files) = (fs::read(sandbox.path(DATA)).unwrap(), sandbox.all_files().len());
    for end in [blob + 5, blob + 12, blob + 18, blob + 2000, whole.len() - 3] {
        sandbox.file("cut.zexp", &whole[..end]);
        says(&sandbox.run(&["import", DATA, "cut.zexp", "--yes"]), "cut off at byte", 2);
        fs::remove_file(sandbox.path("cut.zexp")).unwrap();
        assert!(fs::read(sandbox.path(DATA)).unwrap() == data);
        let leftovers = fs::read_dir(sandbox.path("blobstorage/tmp")).unwrap().count();
        assert_eq!(leftovers, 0, "cut at {end}");
    }
    let _ = files;
    // Into a database without blobs, whose folder is made.
    let mut empty = Site::new(&sandbox, "empty.fs");
    empty.commit("ann", "", vec![Store(0, record("Root", &[], &[], 0))]);
    drop(empty);
    says(&sandbox.run(&["import", "empty.fs", "all.zexp", "--yes"]), "no blob folder", 1);
    says(&sandbox.run(&["import", "empty.fs", "all.zexp", "--yes", "--blobs", "empty.fs.blobs"]), "Done", 0);
    says(&sandbox.run(&["check", "empty.fs"]), "1 revision of 1 object, with 1 file, 2.9 KiB", 0);
    // A blob without its file.
    let storage = FileStorage::open_read_only(sandbox.path(DATA)).unwrap();
    let tid = storage.load(Oid(2), &Version::TRUNK).unwrap().tid;
    drop(storage);
    fs::remove_file(file_of(&sandbox, FOLDER, 2, tid)).unwrap();
    says(&sandbox.run(&["export", DATA, "0", "lost.zexp"]), "has no blob at", 2);
    assert!(!sandbox.path("lost.zexp").exists());
}

/// Runs a command for which no file may have more than 1 KiB: for it the disk is full.
fn on_a_full_disk(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let command = sandbox.command(arguments);
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(sandbox.path("."))
        .env("VELLUM_NOW", "2026-11-25T12:00:00Z")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_full_disk_in_the_middle_of_a_blob_leaves_nothing() {
    let sandbox = Sandbox::new();
    let Photos { second, .. } = photos(&sandbox);
    says(&sandbox.run(&["export", DATA, "2", "photo.zexp"]), "1 blob, with 2.9 KiB", 0);
    let mut before = sandbox.all_files();
    says(&on_a_full_disk(&sandbox, &["import", DATA, "photo.zexp", "--yes"]), "is the disk full?", 2);
    says(&on_a_full_disk(&sandbox, &["show", DATA, "2", "--save-blob", "photo.jpg"]), "Nothing was saved", 2);
    says(&on_a_full_disk(&sandbox, &["export", DATA, "2", "again.zexp"]), "Nothing was exported", 2);
    let mut after = sandbox.all_files();
    for files in [&mut before, &mut after] {
        files.retain(|name, _| name.extension().is_none_or(|end| end != "lock" && end != "index"));
    }
    assert!(before == after);
    // A copy that needs the bytes.
    let one = file_of(&sandbox, FOLDER, 2, second);
    fs::set_permissions(&one, fs::Permissions::from_mode(0o644)).unwrap();
    says(&on_a_full_disk(&sandbox, &["copy", DATA, "backup.fs"]), "copy again", 2);
    says(&sandbox.run(&["copy", DATA, "backup.fs"]), "3 files", 0);
    says(&sandbox.run(&["check", "backup.fs"]), "3 revisions of 1 object, with 3 files", 0);
}

/// Runs a command as a user without the rights of the owner.
fn as_nobody(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let mut command = sandbox.command(arguments);
    // The folder of the build may be one into which nobody else may look.
    let open_to_all = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(open_to_all.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = open_to_all.path().join("vellum");
        fs::copy(env!("CARGO_BIN_EXE_vellum"), &program).unwrap();
        let usual = std::mem::replace(&mut command, std::process::Command::new(program));
        let settings = usual.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.args(usual.get_args()).envs(settings).current_dir(sandbox.path("")).uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn without_rights_the_error_names_the_file() {
    let sandbox = Sandbox::new();
    let Photos { second, .. } = photos(&sandbox);
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let file = file_of(&sandbox, FOLDER, 2, second);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let run = as_nobody(&sandbox, &["check", DATA]);
    says(&run, "1 file that cannot be read", 1);
    assert!(run.stdout.contains(name), "{}", run.stdout);
    for command in [
        &["show", DATA, "2", "--save-blob", "photo.jpg"][..],
        &["export", DATA, "2", "photo.zexp"],
        &["copy", DATA, "backup.fs"],
    ] {
        says(&as_nobody(&sandbox, command), name, 2);
    }
    assert!(!sandbox.path("photo.jpg").exists() && !sandbox.path("photo.zexp").exists());
    // A folder that cannot be looked into.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let folder = file.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o000)).unwrap();
    let run = as_nobody(&sandbox, &["check", DATA]);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("Permission denied"), "{}", run.stdout);
}

/// The links of a folder lead nowhere, for the commands that write as well.
#[test]
fn no_command_follows_a_link_out_of_the_folder() {
    let sandbox = Sandbox::new();
    let Photos { first, second, .. } = photos(&sandbox);
    sandbox.file("secret", b"nobody's business");
    let file = file_of(&sandbox, FOLDER, 2, first);
    fs::remove_file(&file).unwrap();
    symlink(sandbox.path("secret"), &file).unwrap();
    let tid = second.to_string();
    assert_ne!(sandbox.run(&["undo", DATA, &tid, "--yes"]).code, 0);
    assert_ne!(sandbox.run(&["copy", DATA, "backup.fs"]).code, 0);
    assert_ne!(sandbox.run(&["export", DATA, "2", "out.zexp", "--at", &first.to_string()]).code, 0);
    let leaked =
        |name: &Path, bytes: &[u8]| name != sandbox.path("secret") && bytes.windows(6).any(|at| at == b"nobody");
    assert!(!sandbox.all_files().iter().any(|(name, bytes)| leaked(name, bytes)));
    assert_eq!(fs::read(sandbox.path("secret")).unwrap(), b"nobody's business");
}
