//! The two ways out if a journal cannot be applied to its data file: save its transactions, or put it aside.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::{DiskFile, Open};
use vellum_storage::Error;

use crate::journal::LeftJournal;
use crate::journal::beside::{as_journaled, put_aside};
use crate::open::{open_data, open_to_read, take_lock};
use crate::options::{OpenError, Options};

/// Returns the journal beside the database at `path`, and what it means; none if there is none. Changes nothing.
///
/// # Errors
///
/// The file or the journal cannot be read.
pub fn left_journal(options: &Options, path: impl AsRef<Path>) -> Result<Option<LeftJournal>, OpenError> {
    Ok(open_to_read(&*options.disk, path.as_ref())?.1)
}

/// Writes the database with the transactions of its journal to a new file, `to`, whatever the file has in their places
/// now. Returns the journal, and how many bytes were written. The file and the journal are not changed.
///
/// # Errors
///
/// There is no journal, it cannot be read, or the file is not the one that it continues.
pub fn save_journaled(
    options: &Options,
    path: impl AsRef<Path>,
    to: impl AsRef<Path>,
) -> Result<(LeftJournal, u64), OpenError> {
    let (disk, path, to) = (&*options.disk, path.as_ref(), to.as_ref());
    let file = open_data(disk, path, Open::Read)?;
    let unfit = |why: String| OpenError::from(Error::Unfit { name: path.display().to_string(), why });
    let Some((applied, left)) = as_journaled(disk, path, &file)? else {
        return Err(unfit("there is no journal beside it".to_owned()));
    };
    let Some(applied) = applied else {
        return Err(unfit(format!(
            "{left}. Its transactions cannot be saved beside this file. If there is a copy of the file from before it was \
             changed, such as Data.fs.old after a pack, put a copy of the journal beside that, and open it"
        )));
    };
    let out = disk.open_like(to, Open::CreateNew, path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => OpenError::Exists { path: to.to_owned() },
        _ => Error::io(to, "making the new file", e).into(),
    })?;
    let written = copy(&applied, &*out).and_then(|bytes| {
        out.sync()?;
        disk.sync_directory(to)?;
        Ok(bytes)
    });
    match written {
        Ok(bytes) => Ok((left, bytes)),
        Err(e) => {
            let _ = disk.remove(to);
            Err(Error::io(to, "writing the new file", e).into())
        }
    }
}

fn copy(from: &dyn DiskFile, to: &dyn DiskFile) -> io::Result<u64> {
    let (mut buffer, mut at, end) = (vec![0; 1 << 20], 0, from.len()?);
    while at < end {
        let length = (end - at).min(buffer.len() as u64) as usize;
        let there = from.read_full_at(&mut buffer[..length], at)?;
        if there == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(&buffer[..there], at)?;
        at += there as u64;
    }
    Ok(end)
}

/// Puts the journal of the database at `path` aside, so that the file counts as it is. Returns the journal, and its new
/// name. Nothing is removed.
///
/// # Errors
///
/// There is no journal, or it can be applied; or another process has the file open.
pub fn discard_journal(options: &Options, path: impl AsRef<Path>) -> Result<(LeftJournal, PathBuf), OpenError> {
    let (disk, path) = (&*options.disk, path.as_ref());
    let _lock = take_lock(disk, path, path)?;
    let file: Arc<dyn DiskFile> = open_data(disk, path, Open::Read)?;
    let Some((_, left)) = as_journaled(disk, path, &file)? else {
        let why = "there is no journal beside it".to_owned();
        return Err(Error::Unfit { name: path.display().to_string(), why }.into());
    };
    if !left.is_refused() {
        let why = format!("{left}. The next opening for writing uses it, and removes it: there is nothing to choose");
        return Err(Error::Unfit { name: path.display().to_string(), why }.into());
    }
    let aside = put_aside(disk, &left.path).map_err(|e| Error::io(&left.path, "putting the journal aside", e))?;
    Ok((left, aside))
}
