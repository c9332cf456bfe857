//! The journal that an opening finds beside a data file.
//!
//! An opening for writing applies it and removes it, or refuses the file. All others see the data file as it will be
//! then, and write nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::{Disk, DiskFile, Open};
use vellum_storage::{Error, Result, Tid};

use super::compare::{Compared, compare};
use super::found::{self, Entry, Found};
use super::overlay::Overlaid;
use crate::format::beside::beside;
use crate::options::OpenError;

/// The meaning of a journal beside a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalState {
    /// It holds no transaction that the data file could lack.
    Retired,
    /// The data file has all of its transactions. Until the file is synced, a power cut can take them away there.
    Contained,
    /// The data file lacks some of it, after a crash of the machine. An opening for writing completes the file.
    Needed {
        /// So many bytes are missing.
        bytes: u64,
    },
    /// Another program changed the data file after the crash, so the journal is not applied.
    MovedOn {
        /// The difference that shows it.
        why: String,
    },
    /// It cannot be read.
    Damaged {
        /// The reason.
        why: String,
    },
}

/// A journal that a crash left beside a data file, or that another process uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftJournal {
    /// The journal.
    pub path: PathBuf,
    /// Its meaning for the data file.
    pub state: JournalState,
    /// Where its first transaction belongs in the data file.
    pub position: u64,
    /// How many bytes its transactions take there.
    pub bytes: u64,
    /// Its transactions, oldest first.
    pub transactions: Vec<Tid>,
}

impl LeftJournal {
    /// Whether an opening for writing refuses the data file until the journal is put aside.
    pub fn is_refused(&self) -> bool {
        matches!(self.state, JournalState::MovedOn { .. } | JournalState::Damaged { .. })
    }

    /// Its transactions in words.
    fn contents(&self) -> String {
        match &self.transactions[..] {
            [] => "no transaction that can be read".to_owned(),
            [one] => format!("one acknowledged transaction, {one}"),
            [first, .., last] => {
                format!("{} acknowledged transactions, from {first} to {last}", self.transactions.len())
            }
        }
    }
}

impl fmt::Display for LeftJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, contents) = (self.path.display(), self.contents());
        match &self.state {
            JournalState::Retired => write!(f, "{path}: the data file has all of it"),
            JournalState::Contained => write!(f, "{path}: {contents}, and the data file has all of it"),
            JournalState::Needed { bytes } => {
                write!(f, "{path}: {contents}; {bytes} bytes of it are missing in the data file")
            }
            JournalState::MovedOn { why } => {
                write!(f, "{path}: {contents}; another program has changed the data file since: {why}")
            }
            JournalState::Damaged { why } => write!(f, "{path}: the journal is damaged: {why}; it has {contents}"),
        }
    }
}

/// The journal of the data file at `path`. If that is a link, the journal is beside the file that it leads to.
pub(crate) fn path_of(disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
    let data = match disk.resolve(path) {
        // It is to be made.
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
        data => data?,
    };
    Ok(beside(&data, ".journal"))
}

/// A journal, and the data file under its transactions if they fit to it.
struct Look {
    left: LeftJournal,
    applied: Option<Overlaid>,
    /// Whether the file is to be completed.
    applies: bool,
}

impl Look {
    fn nothing(left: LeftJournal) -> Look {
        Look { left, applied: None, applies: false }
    }
}

/// Looks at the journal beside a data file; none if there is none.
fn look(disk: &dyn Disk, path: &Path, file: &Arc<dyn DiskFile>) -> Result<Option<Look>> {
    let journal = path_of(disk, path).map_err(|e| Error::io(path, "looking where the file is", e))?;
    let io = |doing: &'static str| {
        let journal = journal.clone();
        move |e| Error::io(journal, doing, e)
    };
    let opened = match disk.open(&journal, Open::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io("opening the journal"))?,
    };
    let left = |state| LeftJournal { path: journal.clone(), state, position: 0, bytes: 0, transactions: Vec::new() };
    let entries = match found::read(&*opened).map_err(io("reading the journal"))? {
        Found::Damaged(why) => return Ok(Some(Look::nothing(left(JournalState::Damaged { why })))),
        Found::Live(entries) if entries.is_empty() => {
            return Ok(Some(Look::nothing(left(JournalState::Retired))));
        }
        Found::Live(entries) => entries,
    };
    let applied = Overlaid::new(Arc::clone(file), entries);
    let Some(transactions) = found::transactions(&applied) else {
        let why = "its payloads are not whole transactions".to_owned();
        return Ok(Some(Look::nothing(left(JournalState::Damaged { why }))));
    };
    let compared = compare(&**file, &applied, &transactions)
        .map_err(|e| Error::io(path, "comparing the file with its journal", e))?;
    let (state, fits, applies) = match compared {
        Compared::Missing(0) => (JournalState::Contained, true, true),
        Compared::Missing(bytes) => (JournalState::Needed { bytes }, true, true),
        Compared::WentOn => (JournalState::Contained, true, false),
        Compared::Astray(why) => (JournalState::MovedOn { why }, true, false),
        Compared::OfAnother(why) => (JournalState::MovedOn { why }, false, false),
    };
    let left = LeftJournal {
        position: applied.start(),
        bytes: applied.end() - applied.start(),
        transactions: transactions.iter().map(|(_, header)| header.tid).collect(),
        ..left(state)
    };
    Ok(Some(Look { left, applied: Some(applied).filter(|_| fits), applies }))
}

/// While another process commits, its journal may change during a look. A look that finds no sense is repeated.
const LOOKS_MAX: u32 = 4;

/// The data file as a reader is to see it, and the journal beside it. `open`: opens the data file.
///
/// A journal that makes no sense beside it is not applied.
pub(crate) fn to_read<E: From<Error>>(
    disk: &dyn Disk,
    path: &Path,
    open: impl Fn() -> Result<Arc<dyn DiskFile>, E>,
) -> Result<(Arc<dyn DiskFile>, Option<LeftJournal>), E> {
    let mut looks = 1;
    loop {
        let file = open()?;
        let Some(Look { left, applied, .. }) = look(disk, path, &file)? else { return Ok((file, None)) };
        if left.is_refused() && looks < LOOKS_MAX {
            looks += 1;
            continue;
        }
        let is_needed = matches!(left.state, JournalState::Needed { .. });
        let file = match applied.filter(|_| is_needed) {
            Some(applied) => Arc::new(applied) as Arc<dyn DiskFile>,
            None => file,
        };
        return Ok((file, Some(left)));
    }
}

/// The steps of an opening for writing that concern a journal.
pub(crate) struct Settling {
    left: LeftJournal,
    /// The data file under the journal, if it is to be completed.
    applied: Option<Arc<Overlaid>>,
}

/// Looks at the journal beside a data file that is opened for writing; none if there is none. Changes nothing. The
/// caller has the file's lock.
///
/// # Errors
///
/// Of the outer kind: the disk failed. Of the inner kind: the journal does not belong to the file as it is now.
pub(crate) fn settle(
    disk: &dyn Disk,
    path: &Path,
    file: &Arc<dyn DiskFile>,
) -> Result<Result<Option<Settling>, LeftJournal>> {
    let doing = "removing a journal that was never finished";
    remove_half_made(disk, path).map_err(|e| Error::io(path, doing, e))?;
    let Some(Look { left, applied, applies }) = look(disk, path, file)? else { return Ok(Ok(None)) };
    if left.is_refused() {
        return Ok(Err(left));
    }
    let applied = applied.filter(|_| applies).map(Arc::new);
    Ok(Ok(Some(Settling { left, applied })))
}

impl Settling {
    /// The data file as it will be.
    pub fn shown(&self, file: &Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        match &self.applied {
            Some(applied) => Arc::clone(applied) as Arc<dyn DiskFile>,
            None => Arc::clone(file),
        }
    }

    /// Completes the data file, and removes the journal. Only if the file is sound as it will be.
    pub fn finish(self, disk: &dyn Disk, path: &Path, file: &dyn DiskFile) -> Result<LeftJournal> {
        let io = |doing: &'static str| move |e| Error::io(path, doing, e);
        let Settling { left, applied } = self;
        if let Some(applied) = applied {
            // Also bytes that the file shows: after a failed sync it can show some that are not on the disk.
            apply(file, applied.entries(), applied.end()).map_err(io("completing the file from its journal"))?;
        }
        if left.state != JournalState::Retired {
            file.sync().map_err(io("syncing the file, which was completed from its journal"))?;
        }
        remove(disk, &left.path).map_err(io("removing the journal, of which the file has everything"))?;
        if let JournalState::Needed { .. } = left.state {
            tracing::warn!("{left}: the file was completed");
        }
        Ok(left)
    }
}

/// The data file under the transactions of the journal beside it, whatever the file has in their places; and the
/// journal. None of the first if the journal does not continue this file, or cannot be read.
pub(crate) fn as_journaled(
    disk: &dyn Disk,
    path: &Path,
    file: &Arc<dyn DiskFile>,
) -> Result<Option<(Option<Overlaid>, LeftJournal)>> {
    Ok(look(disk, path, file)?.map(|Look { left, applied, .. }| (applied, left)))
}

fn apply(file: &dyn DiskFile, entries: &[Entry], end: u64) -> io::Result<()> {
    entries.iter().try_for_each(|entry| file.write_at(&entry.payload, entry.header.position))?;
    file.set_len(end)
}

/// Removes a journal, durably.
pub(super) fn remove(disk: &dyn Disk, journal: &Path) -> io::Result<()> {
    disk.remove(journal)?;
    disk.sync_directory(journal)
}

/// The name of a journal until it is complete.
pub(super) fn half_made(journal: &Path) -> PathBuf {
    beside(journal, ".new")
}

fn remove_half_made(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let half_made = half_made(&path_of(disk, path)?);
    if disk.exists(&half_made)? { disk.remove(&half_made) } else { Ok(()) }
}

/// Removes a journal whose data file is gone, if it has no transactions. The caller has the lock of the file that is to
/// be made.
///
/// # Errors
///
/// It has some, or cannot be read.
pub(crate) fn remove_stray(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    let io = |e| OpenError::from(Error::io(path, "looking for a journal of an earlier file", e));
    remove_half_made(disk, path).map_err(io)?;
    let journal = path_of(disk, path).map_err(io)?;
    if !disk.exists(&journal).map_err(io)? {
        return Ok(());
    }
    let file = disk.open(&journal, Open::Read).map_err(io)?;
    let why = match found::read(&*file).map_err(io)? {
        Found::Live(entries) if entries.is_empty() => return remove(disk, &journal).map_err(io),
        Found::Live(entries) => format!("it has {} commits", entries.len()),
        Found::Damaged(why) => why,
    };
    let left = LeftJournal {
        path: journal,
        state: JournalState::Damaged { why },
        position: 0,
        bytes: 0,
        transactions: Vec::new(),
    };
    Err(OpenError::JournalAlone { path: path.to_owned(), left: Box::new(left) })
}

/// Gives a journal a name under which no opening finds it, and returns the name. The caller has the lock of its data
/// file.
pub(crate) fn put_aside(disk: &dyn Disk, journal: &Path) -> io::Result<PathBuf> {
    let mut number = 0;
    let name = loop {
        let name = beside(journal, &format!(".aside{number}"));
        if !disk.exists(&name)? {
            break name;
        }
        number += 1;
    };
    disk.rename(journal, &name)?;
    disk.sync_directory(&name)?;
    Ok(name)
}
