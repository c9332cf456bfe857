//! Each file that a command makes of a database is for the people of the database, whatever the process's mask says.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::common::Sandbox;

const LAST: &str = "040d2ed75fd29fbb";

/// Runs the command under this mask.
fn under(sandbox: &Sandbox, mask: &str, arguments: &[&str]) {
    let command = sandbox.command(arguments);
    let status = Command::new("sh")
        .args(["-c", "umask \"$0\"; exec \"$@\"", mask])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(sandbox.path("."))
        .env("VELLUM_NOW", "2026-11-25T12:00:00Z")
        .output()
        .unwrap();
    assert!(status.status.code().is_some_and(|code| code < 2), "{arguments:?}: {status:?}");
}

/// A database with every file that the commands make of it.
fn made(mode: u32, mask: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let data = sandbox.path("mail.fs");
    fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
    // Only root can; for others owner and group are theirs anyway.
    let _ = std::os::unix::fs::chown(&data, Some(1234), Some(4321));
    let run = |arguments: &[&str]| under(&sandbox, mask, arguments);
    run(&["copy", "mail.fs", "copy.fs"]);
    run(&["copy", "mail.fs", "part.fs", "--until", "040d2ed75f56a699"]);
    run(&["copy", "mail.fs", "part.fs"]);
    run(&["recover", "mail.fs", "recovered.fs"]);
    run(&["export", "mail.fs", "0", "all.zexp"]);
    run(&["undo", "mail.fs", LAST, "--yes"]);
    run(&["pack", "mail.fs", "--before", "now", "--keep-log", "forgotten.json", "--yes"]);
    sandbox
}

#[test]
fn every_file_is_for_the_people_of_the_database() {
    for mode in [0o600, 0o640, 0o664] {
        for mask in ["077", "022", "000"] {
            let sandbox = made(mode, mask);
            let data = fs::metadata(sandbox.path("mail.fs")).unwrap();
            for name in [
                "mail.fs.lock",
                "mail.fs.index",
                "mail.fs.old",
                "copy.fs",
                "copy.fs.lock",
                "copy.fs.index",
                "part.fs",
                "part.fs.index",
                "recovered.fs",
                "all.zexp",
                "forgotten.json",
            ] {
                assert!(sandbox.path(name).exists(), "{name} was not made");
            }
            for path in sandbox.files().keys() {
                let file = fs::metadata(path).unwrap();
                let name = path.strip_prefix(sandbox.path("")).unwrap_or(Path::new("?")).display();
                assert_eq!(file.mode() & 0o7777, mode, "{name} under the mask {mask}");
                assert_eq!((file.uid(), file.gid()), (data.uid(), data.gid()), "{name}");
            }
        }
    }
}
