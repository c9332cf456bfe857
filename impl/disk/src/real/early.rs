//! Having the disk begin early.
//!
//! Written data stays in memory until a thread syncs it, and that thread then waits for all of it. Linux can be asked
//! to start write-back earlier (`sync_file_range(2)`), as PostgreSQL and RocksDB do. Syncs would do that too, but each
//! is a commit of the file system's journal, and waits for the disk to have everything, which then has nothing to do
//! until the next one.
//!
//! **Why unsafe.** `libc` calls every system call so, and no crate wraps this one: neither `rustix` nor `nix`.
//! `docs/performance.md` has the time that it saves a pack.
//!
//! **Obligations, and why they hold.** The descriptor is open for the whole call: it is borrowed. The call takes
//! numbers and no pointer, so the system touches none of our memory. It only starts write-back. The next sync still
//! reports an earlier failed write, as this call does not ask for it.

use std::fs::File;
use std::io;

/// Starts write-back of everything in the file that is not on the disk; syncs the file where the system has no such
/// call.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn begin_sync(file: &File) -> io::Result<()> {
    use std::os::fd::{AsFd, AsRawFd};
    let fd = file.as_fd();
    // SAFETY: see the head of this file. From 0, 0 bytes: all of it.
    match unsafe { libc::sync_file_range(fd.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) } {
        0 => Ok(()),
        _ => file.sync_data(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn begin_sync(file: &File) -> io::Result<()> {
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_can_be_written_after_write_back_began() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        begin_sync(&file).unwrap();
        for at in 0..4_u64 {
            file.write_all_at(&[at as u8 + 1; 5000], at * 5000).unwrap();
            begin_sync(&file).unwrap();
        }
        file.sync_data().unwrap();
        let mut all = vec![0; 20_001];
        assert_eq!(file.read_at(&mut all, 0).unwrap(), 20_000);
        assert!(all[..20_000].chunks(5000).zip(1..).all(|(chunk, n)| chunk == [n; 5000]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_without_the_call_is_synced() {
        // A pipe has no ranges, and nothing to sync either: it says so.
        let (_reader, writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        assert_eq!(begin_sync(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
