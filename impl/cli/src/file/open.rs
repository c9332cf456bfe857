//! Opening a database, and warning of an unfinished commit at its end.

use std::path::Path;

use vellum_file::{FileStorage, JournalState, OpenError, Options};
use vellum_storage::Tid;
use vellum_terminal::{Failure, Meter, Run};

use super::blobs::{BlobArgs, Folder};
use super::{future, tables};
use crate::ui::{args, faults, say};

/// Opens a database for reading. Warns if it ends in an unfinished commit.
pub fn open(path: &Path) -> Run<FileStorage> {
    open_at(path, None)
}

/// Opens a database for reading, as it was at a time.
pub fn open_at(path: &Path, at: Option<Tid>) -> Run<FileStorage> {
    open_with(path, at, Options::new())
}

/// Opens a database for reading, as it was at a time, and as these options say.
pub fn open_with(path: &Path, at: Option<Tid>, options: Options) -> Run<FileStorage> {
    tables::refuse(path)?;
    let meter = Meter::new("opening");
    let options = options.read_only().progress(meter.progress());
    let options = at.map_or(options.clone(), |at| options.as_of(at));
    let storage = options.open(path)?;
    drop(meter);
    if let Some(recovery) = storage.recovery() {
        faults::warn_end(path, storage.size(), recovery);
        if recovery.completed > 0 {
            say(&format!(
                "warning: {}: {} whole but not marked as finished, from position {} on; such a commit counts, and is shown",
                path.display(),
                if recovery.completed == 1 {
                    "one transaction is".to_owned()
                } else {
                    format!("{} transactions are", recovery.completed)
                },
                recovery.position,
            ));
        }
    }
    warn_journal(&storage);
    future::warn(path, &storage, at);
    if let Some(missing) = storage.missing() {
        let file = path.display();
        say(&format!(
            "warning: {file}: {missing}. Those transactions were acknowledged, and are not shown; keep {file}.index, and see \
             `vellum recover`"
        ));
    }
    Ok(storage)
}

/// Opens a database for reading, with its blobs if their folder is known.
pub fn open_with_blobs(path: &Path, blobs: &BlobArgs) -> Run<FileStorage> {
    let storage = open(path)?;
    match blobs.find(&storage)? {
        None => Ok(storage),
        Some(Folder { folder, .. }) => Ok(Options::new().read_only().blobs(folder.path()).open(path)?),
    }
}

/// Opens a database for writing, with its blobs if their folder is known. A named folder that does not exist is made,
/// unless the database has blobs already.
pub fn open_to_write_with_blobs(path: &Path, blobs: &BlobArgs) -> Run<FileStorage> {
    let options = options()?;
    // A look first: opened for writing, the folder of another database would be changed.
    let Ok(looked_at) = Options::new().read_only().open(path) else {
        return Ok(open_to_write(path, &options)?);
    };
    let folder = blobs.folder_to_write(&looked_at)?;
    drop(looked_at);
    let options = folder.map_or(options.clone(), |folder| options.blobs(folder));
    Ok(open_to_write(path, &options)?)
}

/// The options for a database that is written to.
pub fn options() -> Run<Options> {
    Ok(Options::new().clock(args::clock().map_err(Failure::Message)?))
}

/// Opens a database for writing. Reports an unfinished commit at its end, which is cut off.
pub fn open_to_write(path: &Path, options: &Options) -> Result<FileStorage, OpenError> {
    tables::refuse(path)?;
    let meter = Meter::new("opening");
    let storage = options.clone().progress(meter.progress()).open(path)?;
    drop(meter);
    if let Some(recovery) = storage.recovery().filter(|recovery| recovery.cut > 0) {
        let kept = recovery.kept_in.as_ref().map(|kept| format!("; they are kept in {}", kept.display()));
        let what = match recovery.blank {
            false => "were a commit that was never finished, and are cut off",
            true => {
                "begin with zeros where a transaction's header should be, and are cut off; a machine that stops during \
                     a commit leaves that, and so does a disk that lost a commit: which of the two cannot be told"
            }
        };
        say(&format!("{}: the last {} bytes {what}{}", path.display(), recovery.cut, kept.unwrap_or_default()));
    }
    if let Some(left) = storage.left_journal().filter(|left| matches!(left.state, JournalState::Needed { .. })) {
        say(&format!("{left}. The data file was completed, and the journal is removed"));
    }
    future::warn(path, &storage, None);
    Ok(storage)
}

/// Warns of a journal that a crash left.
fn warn_journal(storage: &FileStorage) {
    match storage.left_journal() {
        Some(left) if left.is_refused() => {
            say(&format!("warning: {left}. Its transactions are not shown; see `vellum help journal`"));
        }
        Some(left) if matches!(left.state, JournalState::Needed { .. }) => {
            say(&format!("{left}, and are shown all the same; the next opening for writing completes the data file"));
        }
        _ => {}
    }
}
