//! Removing the files that a pack forgets: a list beside the blobs, written before the data file is exchanged and
//! carried out after it.
//!
//! ```text
//!   .removed     the pack writes the list             a crash: nothing was removed yet
//!                the data file is exchanged
//!   .removing    the list is carried out              a crash: some was
//!   (gone)       all is done
//! ```
//!
//! A line is an object's oid in 16 digits, which stands for all its files, or an oid and a tid in 32. ZODB writes the
//! same, and forgets the list after a crash. Here the next opening finds it ([`BlobFolder::left_removal`]), and asks
//! the database for each file before it removes that: so it does not matter on which side of the exchange the crash
//! was, nor whether the list was whole. If everything is needed, there was no exchange, and what the pack before kept
//! stays what it is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_storage::{Oid, Tid};

use crate::directories::Touched;
use crate::error::{Error, Result};
use crate::folder::{BlobFolder, LIST, LIST_AT_WORK};
use crate::old::Old;

/// The list goes to the disk in pieces of this size.
const CHUNK: usize = 64 << 10;

/// After so many folders in which names changed, they are synced: a bound for memory.
const TOUCHED_MAX: usize = 4096;

/// The digits of an oid or a tid.
const DIGITS: usize = 16;

/// The database's answer to the question whether it needs a revision's file.
type Answer = Result<bool, Box<dyn std::error::Error + Send + Sync>>;

impl BlobFolder {
    /// Begins the list of what a pack removes.
    ///
    /// # Errors
    ///
    /// [`Error::RemovalLeft`] if an earlier one is there, [`Error::OldInTheWay`], and the disk's.
    pub fn list_removal(&self) -> Result<RemovalList> {
        let inner = self.inner();
        inner.writable()?;
        if let Some(left) = self.left_removal()? {
            return Err(Error::RemovalLeft { path: inner.shown(&left.path) });
        }
        Old::new(self).check()?;
        let path = inner.top.join(LIST);
        let file = inner.tree.create(&path, 0o666).map_err(|error| inner.failed(&path, "beginning a pack", error))?;
        let removal = Removal { blobs: self.clone(), path, is_at_work: false, is_left: false };
        Ok(RemovalList { removal: Some(removal), file, buffer: Vec::with_capacity(CHUNK), length: 0 })
    }

    /// The list that an earlier process left, if it stopped between writing it and carrying it out.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn left_removal(&self) -> Result<Option<Removal>> {
        for (name, is_at_work) in [(LIST_AT_WORK, true), (LIST, false)] {
            let path = self.inner().top.join(name);
            match self.inner().tree.about(&path) {
                Ok(_) => return Ok(Some(Removal { blobs: self.clone(), path, is_at_work, is_left: true })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.inner().failed(&path, "looking for what a pack left", error)),
            }
        }
        Ok(None)
    }
}

/// A list that is being written. Dropped, it is gone.
#[derive(Debug)]
pub struct RemovalList {
    removal: Option<Removal>,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    length: u64,
}

impl RemovalList {
    /// Adds one revision of an object.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn revision(&mut self, oid: Oid, tid: Tid) -> Result<()> {
        self.line(format!("{oid}{tid}\n"))
    }

    /// Adds all revisions of an object.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn object(&mut self, oid: Oid) -> Result<()> {
        self.line(format!("{oid}\n"))
    }

    fn line(&mut self, line: String) -> Result<()> {
        self.buffer.extend_from_slice(line.as_bytes());
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&self.buffer, self.length).map_err(|error| self.failed(error))?;
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        let removal = self.removal.as_ref().expect("it is there until the list is finished");
        removal.blobs.inner().failed(&removal.path, "listing the blobs that the pack removes", error)
    }

    /// Makes the list durable. After that the data file may be exchanged, and then the list is carried out.
    ///
    /// # Errors
    ///
    /// The disk's. The list is gone then.
    pub fn finish(mut self) -> Result<Removal> {
        self.flush()?;
        self.file.sync().map_err(|error| self.failed(error))?;
        let removal = self.removal.as_ref().expect("it is there until the list is finished");
        removal.sync_top()?;
        Ok(self.removal.take().expect("it is there until the list is finished"))
    }
}

impl Drop for RemovalList {
    fn drop(&mut self) {
        if let Some(removal) = self.removal.take() {
            // The next opening finds the rest.
            let _ = removal.blobs.inner().tree.remove(&removal.path);
        }
    }
}

/// The number of files that a removal took away and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files that were removed, or moved beside.
    pub files: u64,
    /// Files that were listed, and stayed because the database needs them.
    pub kept: u64,
    /// Lines of the list that say nothing: it was not whole.
    pub unreadable: u64,
}

/// A complete list of what a pack removes, or one that was left.
#[derive(Debug)]
pub struct Removal {
    blobs: BlobFolder,
    path: PathBuf,
    is_at_work: bool,
    /// An earlier process wrote it, and may have stopped before it exchanged the data file.
    is_left: bool,
}

impl Removal {
    /// Removes the listed files, unless `is_needed` says that the database needs it. With `keep_old` all files get a
    /// second name before, in the folder beside, which had the files of an earlier pack; without, nothing is left
    /// there.
    ///
    /// # Errors
    ///
    /// The disk's, and [`Error::Unknown`]. The list is still there then, and the next opening can go on.
    pub fn carry_out(mut self, keep_old: bool, mut is_needed: impl FnMut(Oid, Tid) -> Answer) -> Result<Removed> {
        let (blobs, mut touched, mut removed) = (self.blobs.clone(), Touched::default(), Removed::default());
        let (inner, old) = (blobs.inner(), Old::new(&blobs));
        inner.writable()?;
        if self.is_left && !self.is_at_work && self.all_needed(&mut is_needed, &mut removed)? {
            self.forget()?;
            return Ok(removed);
        }
        if !self.is_at_work {
            old.wipe()?;
            // From here on the files in that folder belong to this pack.
            let at_work = inner.top.join(LIST_AT_WORK);
            inner.tree.rename(&self.path, &at_work).map_err(|e| inner.failed(&self.path, "beginning to remove", e))?;
            (self.path, self.is_at_work, removed) = (at_work, true, Removed::default());
            self.sync_top()?;
        }
        if keep_old {
            old.make(&mut touched)?;
            old.link_all(&mut touched, |touched| self.bound(touched))?;
            touched.sync(inner)?;
        }
        self.each(|revision| {
            match revision {
                None => removed.unreadable += 1,
                Some((oid, tid)) if ask(&mut is_needed, oid, tid)? => removed.kept += 1,
                Some((oid, tid)) => removed.files += u64::from(blobs.remove_file(oid, tid, &mut touched)?),
            }
            self.bound(&mut touched)
        })?;
        touched.sync(inner)?;
        self.forget()?;
        Ok(removed)
    }

    /// Whether the database needs every file that is listed and there. Counts them.
    fn all_needed(&self, is_needed: &mut impl FnMut(Oid, Tid) -> Answer, removed: &mut Removed) -> Result<bool> {
        let mut all = true;
        self.each(|revision| {
            match revision {
                None => removed.unreadable += 1,
                Some((oid, tid)) if self.blobs.is_there(oid, tid)? => {
                    all &= ask(is_needed, oid, tid)?;
                    removed.kept += 1;
                }
                Some(_) => {}
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Goes through the revisions that are listed; none stands for a line that says nothing.
    fn each(&self, mut act: impl FnMut(Option<(Oid, Tid)>) -> Result<()>) -> Result<()> {
        let mut lines = Lines::open(self)?;
        while let Some(line) = lines.next(self)? {
            match line {
                Line::Object(oid) => {
                    self.blobs.revisions(oid)?.into_iter().try_for_each(|tid| act(Some((oid, tid))))?
                }
                Line::Revision(oid, tid) => act(Some((oid, tid)))?,
                Line::Unreadable => act(None)?,
            }
        }
        Ok(())
    }

    /// Removes the list, and nothing of what it names.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn forget(self) -> Result<()> {
        let inner = self.blobs.inner();
        inner.writable()?;
        inner.tree.remove(&self.path).map_err(|e| inner.failed(&self.path, "removing the list of a pack", e))?;
        self.sync_top()
    }

    fn bound(&self, touched: &mut Touched) -> Result<()> {
        if touched.folders.len() < TOUCHED_MAX { Ok(()) } else { touched.sync(self.blobs.inner()) }
    }

    fn sync_top(&self) -> Result<()> {
        let inner = self.blobs.inner();
        Touched { folders: [inner.top.clone()].into() }.sync(inner)
    }
}

fn ask(is_needed: &mut impl FnMut(Oid, Tid) -> Answer, oid: Oid, tid: Tid) -> Result<bool> {
    is_needed(oid, tid).map_err(|source| Error::Unknown { oid, tid, source })
}

enum Line {
    Object(Oid),
    Revision(Oid, Tid),
    Unreadable,
}

impl Line {
    fn parse(line: &[u8]) -> Line {
        let number = |digits: &[u8]| {
            let digits =
                std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            u64::from_str_radix(digits, 16).ok()
        };
        let parsed = match line.trim_ascii_end().split_at_checked(DIGITS) {
            Some((oid, [])) => number(oid).map(|oid| Line::Object(Oid(oid))),
            Some((oid, tid)) if tid.len() == DIGITS => {
                number(oid).zip(number(tid)).map(|(oid, tid)| Line::Revision(Oid(oid), Tid(tid)))
            }
            _ => None,
        };
        parsed.unwrap_or(Line::Unreadable)
    }
}

/// The lines of a list, read piece by piece.
struct Lines {
    file: Arc<dyn DiskFile>,
    offset: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Lines {
    fn open(removal: &Removal) -> Result<Lines> {
        let inner = removal.blobs.inner();
        let file = inner.tree.read(&removal.path).map_err(|e| inner.failed(&removal.path, "reading the list", e))?;
        Ok(Lines { file, offset: 0, buffer: Vec::new(), at: 0 })
    }

    /// The next line; a piece without an end is one that says nothing.
    fn next(&mut self, removal: &Removal) -> Result<Option<Line>> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(length) = rest.iter().position(|&byte| byte == b'\n') {
                let line = Line::parse(&rest[..length]);
                self.at += length + 1;
                return Ok(Some(line));
            }
            let too_long = rest.len() >= CHUNK;
            if too_long {
                self.buffer.clear();
                self.at = 0;
                return Ok(Some(Line::Unreadable));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let left = self.buffer.len();
            self.buffer.resize(left + CHUNK, 0);
            let inner = removal.blobs.inner();
            let read = self.file.read_full_at(&mut self.buffer[left..], self.offset);
            let read = read.map_err(|error| inner.failed(&removal.path, "reading the list", error))?;
            self.offset += read as u64;
            self.buffer.truncate(left + read);
            if read == 0 {
                let is_torn = !self.buffer.is_empty();
                self.buffer.clear();
                return Ok(is_torn.then_some(Line::Unreadable));
            }
        }
    }
}
