//! Giving back the room of a large file bit by bit.
//!
//! When the last handle of a file without a name is closed, the system frees all its space, and the syncs of other
//! files wait for that. So the file is first shortened in small steps, as RocksDB does with files that it deletes. But
//! this may only be done to a file that no other process reads, such as a reader or a backup.
//!
//! `std` cannot ask the system that question. Linux grants a write lease on a file only while nothing else has it open,
//! no program and no mapping (`F_SETLEASE(2const)`). The lease is requested, and returned at once: a file without a
//! name is not opened any more, except through `/proc`. Only local file systems count: of a network file system, this
//! system knows only its own programs. A duplicate of the handle, as a forked child has it, is the same to the system;
//! a forked child must not use the parent's storage.
//!
//! **Why unsafe.** The argument of `fcntl` depends on the command, so `libc` cannot call it safe, and no crate wraps
//! this command. `docs/performance.md` has the time that it saves commits.
//!
//! **Obligations, and why they hold.** The descriptor is open for the whole call: it is borrowed. `F_SETSIG` and
//! `F_SETLEASE` take an `int` and no pointer, so the system writes to none of our memory. The tests below run under the
//! address sanitizer too, where CI has the compiler for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// So much is freed at a time: a sync that waits for it takes a millisecond or two more.
const STEP: u64 = 2 << 20;

/// Shortens a file to zero bytes, if no name leads to it and no other handle has it open.
pub(super) fn give_back(file: &File) -> io::Result<()> {
    let about = file.metadata()?;
    let mut length = about.len();
    if about.nlink() > 0 || length <= STEP || !is_local(file)? || !is_alone(file) {
        return Ok(());
    }
    while length > 0 {
        length = length.saturating_sub(STEP);
        file.set_len(length)?;
        // Or the system collects what it is to free, and frees it in one go.
        file.sync_data()?;
    }
    Ok(())
}

/// Whether this system knows every program that has a file of this file system open.
#[cfg(target_os = "linux")]
fn is_local(file: &File) -> io::Result<bool> {
    const EXT4: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    const TMPFS: i64 = 0x0102_1994;
    #[allow(clippy::useless_conversion)] // it is narrower on other machines
    let kind = i64::from(rustix::fs::fstatfs(file)?.f_type);
    Ok([EXT4, XFS, BTRFS, TMPFS].contains(&kind))
}

/// Whether this handle, with its duplicates, is the only one by which the file is open. False if the system cannot
/// tell.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn is_alone(file: &File) -> bool {
    use std::os::fd::{AsFd, AsRawFd};
    /// `libc` lacks it. The number is the same wherever Rust runs; on other systems it is invalid, and refused.
    const F_SETSIG: libc::c_int = 10;
    let fd = file.as_fd();
    // SAFETY: see the head of this file.
    let ask = |command, what: libc::c_int| unsafe { libc::fcntl(fd.as_raw_fd(), command, what) == 0 };
    // If a process opens the file while we have the lease, the system sends a signal. The usual one would end the
    // program; this one does nothing.
    ask(F_SETSIG, libc::SIGURG) && ask(libc::F_SETLEASE, libc::F_WRLCK) && ask(libc::F_SETLEASE, libc::F_UNLCK)
}

#[cfg(not(target_os = "linux"))]
fn is_local(_file: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(target_os = "linux"))]
fn is_alone(_file: &File) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::OpenOptions;
    use std::path::PathBuf;

    use super::*;

    const LENGTH: u64 = 3 * STEP + 1;

    fn large(folder: &tempfile::TempDir) -> (PathBuf, File) {
        let path = folder.path().join("Data.fs");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(LENGTH).unwrap();
        (path, file)
    }

    #[test]
    fn a_file_that_nobody_can_reach_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = large(&folder);
        std::fs::remove_file(path).unwrap();
        give_back(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), if is_local(&file).unwrap() { 0 } else { LENGTH });
    }

    #[test]
    fn a_file_that_has_a_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = large(&folder);
        // As a backup by `cp --link` has it.
        std::fs::hard_link(&path, folder.path().join("backup")).unwrap();
        std::fs::remove_file(path).unwrap();
        give_back(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), LENGTH);
    }

    #[test]
    fn a_file_that_somebody_else_reads_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = large(&folder);
        let reader = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        give_back(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), LENGTH);
        drop(reader);
        give_back(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), if is_local(&file).unwrap() { 0 } else { LENGTH });
    }

    #[test]
    fn a_file_that_can_not_be_written_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = large(&folder);
        let reader = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        drop(file);
        assert_eq!(give_back(&reader).is_err(), is_local(&reader).unwrap());
        assert_eq!(reader.metadata().unwrap().len(), LENGTH);
    }
}
