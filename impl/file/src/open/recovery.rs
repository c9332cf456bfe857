//! Repairing the end of the file after a crash.

use std::io;
use std::path::{Path, PathBuf};

use vellum_disk::{Disk, DiskFile, Open};
use vellum_storage::{Error, Tid};

use crate::format::TransactionHeader;
use crate::format::beside::beside;
use crate::format::pending::PendingStatus;
use crate::format::scan::Scanner;
use crate::options::Options;

/// A transaction that is marked as finished, and reaches over the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutShort {
    /// The transaction.
    pub tid: Tid,
    /// How many bytes it takes in a file, by its header.
    pub length: u64,
}

/// The repairs at the end of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Where the unfinished part began.
    pub position: u64,
    /// How many bytes of it were cut off, or, read-only, are not looked at.
    pub cut: u64,
    /// The file in which those bytes are kept.
    pub kept_in: Option<PathBuf>,
    /// Whether the cut bytes begin with zeros where a transaction's header would be: then it cannot be told whether
    /// it was a commit that never finished, or one that the disk lost.
    pub blank: bool,
    /// Read-only: the skipped part begins with this transaction. A copy that was made during a commit ends so, and
    /// so does a file that lost its end.
    pub short: Option<CutShort>,
    /// How many transactions were whole but not yet marked as finished, and were marked now.
    pub completed: u64,
}

/// Cuts off the bytes after `end`, keeps them in a file of its own, and marks complete transactions as finished.
pub(super) fn repair(
    options: &Options,
    path: &Path,
    file: &dyn DiskFile,
    end: u64,
    size: u64,
    completed: Vec<u64>,
    blank: bool,
) -> Result<Recovery, Error> {
    let cut = size - end;
    let position = completed.first().copied().unwrap_or(end);
    let mut recovery = Recovery { position, cut, kept_in: None, blank, short: None, completed: completed.len() as u64 };
    if options.read_only {
        return Ok(recovery);
    }
    if cut > 0 {
        let kept = keep(&*options.disk, path, file, end, size)?;
        tracing::warn!(
            "{}: {cut} bytes of an unfinished commit at position {end} cut off, kept in {}",
            path.display(),
            kept.display()
        );
        recovery.kept_in = Some(kept);
    }
    let cutting = || {
        file.set_len(end)?;
        let (mut scanner, mut pending) = (Scanner::new(file, end), PendingStatus::default());
        let statuses: Vec<_> = completed.iter().map(|&at| (at, pending.status(&mut scanner, at))).collect();
        for (at, status) in statuses {
            file.write_at(&[status.byte()], at + TransactionHeader::STATUS_AT)?;
        }
        file.sync()
    };
    cutting().map_err(|e| Error::io(path, format!("cutting off the unfinished commit at position {end}"), e))?;
    Ok(recovery)
}

/// Copies the bytes from `from` to `to` into the first of `.tr0`, `.tr1`, ... that does not exist, as ZODB does.
fn keep(disk: &dyn Disk, path: &Path, file: &dyn DiskFile, from: u64, to: u64) -> Result<PathBuf, Error> {
    let mut number = 0;
    let (kept, copy) = loop {
        let name = beside(path, &format!(".tr{number}"));
        match disk.open_like(&name, Open::CreateNew, path) {
            Ok(copy) => break (name, copy),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(Error::io(name, "keeping the end of the file before it is cut off", e)),
        }
    };
    let copying = || {
        let mut buffer = vec![0; (to - from).min(1 << 20) as usize];
        let mut at = from;
        while at < to {
            let length = (to - at).min(buffer.len() as u64) as usize;
            let read = file.read_full_at(&mut buffer[..length], at)?;
            if read == 0 {
                break;
            }
            copy.write_at(&buffer[..read], at - from)?;
            at += read as u64;
        }
        copy.sync()?;
        disk.sync_directory(&kept)
    };
    copying().map_err(|e| {
        let _ = disk.remove(&kept);
        Error::io(&kept, "keeping the end of the file before it is cut off (nothing was changed)", e)
    })?;
    Ok(kept)
}
