//! Opening: which transactions are there, and what to make of the end of the file.
//!
//! The file is walked over from where the `.index` ends, or from its start, and every rule that costs no reading of data
//! is checked. A file that was written to when the machine stopped ends in something unfinished, and that is cut off (and
//! kept in a `.tr0` file beside it). Damage is something else: the file is then left as it is, and the error says where.
//!
//! What tells the two apart is the order in which a commit is written ([`crate::Durability::Full`]). Until the
//! first sync, whatever is found after the last finished transaction has status `c`, or lost the sector that it was in,
//! and nothing finished follows. After it every byte is on disk, and only the marks may be missing: then *some* of the
//! transactions that shared a sync may be marked and others before them not. All of them are whole, so all are taken, with
//! the status of those that are marked: transactions of different status never share a sync.
//!
//! ```text
//!   found after the last finished transaction                        what it is
//!   ─────────────────────────────────────────────────────────────    ────────────────────────────────────────────
//!   c, whole; then others, whole, at least one of them finished      a commit of several, cut among its marks: kept
//!   c, whole or torn; or fewer than 17 bytes; or a lost sector;      a commit cut before its marks: cut off
//!       and nothing finished after it
//!   anything else                                                    damage: refused
//!   anything, with nothing finished after it, if opened `Relaxed`    a commit of ZODB's order: cut off
//! ```

mod survey;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::{Disk, DiskFile, Lock, Open};
use vellum_storage::{Error, Oid, Status, Tid};

use crate::format::beside::beside;
use crate::format::fault::{Fault, FaultKind};
use crate::format::pending::PendingStatus;
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{MAGIC, MAGIC_PYTHON_2, POSITION_MAX, RecordHeader, START, TransactionHeader, UNFINISHED};
use crate::options::{Durability, OpenError, Options};
use crate::read::index::Index;
use crate::read::index_file;
use survey::{Seen, Stretch, Walked, stretches};

/// What had to be done to the end of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Where the unfinished part began.
    pub position: u64,
    /// How many bytes of it were cut off, or, read-only, are not looked at.
    pub cut: u64,
    /// The file in which those bytes are kept.
    pub kept_in: Option<PathBuf>,
    /// How many transactions were whole but not yet marked as finished, and were marked now.
    pub completed: u64,
}

/// What the `.index` beside a file that was opened says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDisk {
    /// The same as the index.
    Same,
    /// Something earlier, from which the walk went on; or there is nothing to be said.
    Earlier,
    /// Nothing that could be used, so that all of the file was walked over.
    Useless,
}

/// What opening found.
pub(crate) struct Opened {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub index: Index,
    pub end: u64,
    pub last: Tid,
    pub recovery: Option<Recovery>,
    pub lock: Option<Box<dyn Lock>>,
    pub index_on_disk: OnDisk,
}

pub(crate) fn create(options: &Options, path: &Path) -> Result<Opened, OpenError> {
    if options.read_only {
        return Err(OpenError::CreateReadOnly);
    }
    let disk = &*options.disk;
    let io = |doing: &str, e| OpenError::Storage(Error::io(path, doing, e));
    let absent = |disk: &dyn Disk| match disk.exists(path) {
        Ok(false) => match disk.open(path, Open::Read) {
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => Err(OpenError::Directory { path: path.to_owned() }),
            _ => Ok(()),
        },
        Ok(true) => Err(OpenError::Exists { path: path.to_owned() }),
        Err(e) => Err(io("looking whether there is a file", e)),
    };
    absent(disk)?;
    let lock = take_lock(disk, path)?;
    absent(disk)?;
    // Written under another name first: there is no moment at which the database is there but empty.
    let new = beside(path, ".new");
    let written = disk.open(&new, Open::Truncate).and_then(|file| {
        file.write_at(&MAGIC, 0)?;
        file.sync()?;
        match disk.remove(&beside(path, ".index")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => disk.rename(&new, path)?,
        }
        disk.sync_directory(path)?;
        Ok(file)
    });
    let file = written.map_err(|e| {
        let _ = disk.remove(&new);
        io("creating the database", e)
    })?;
    Ok(Opened {
        path: path.to_owned(),
        file,
        index: Index::new(),
        end: START,
        last: Tid::ZERO,
        recovery: None,
        lock: Some(lock),
        index_on_disk: OnDisk::Earlier,
    })
}

fn take_lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn Lock>, OpenError> {
    disk.lock(&beside(path, ".lock")).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path: path.to_owned(), why: e.to_string() },
        _ => Error::io(beside(path, ".lock"), "taking the lock", e).into(),
    })
}

/// Opens the file and makes sure that it is a database, without changing anything.
pub(crate) fn open_data(disk: &dyn Disk, path: &Path, how: Open) -> Result<Arc<dyn DiskFile>, OpenError> {
    let file = disk.open(path, how).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => OpenError::NotFound { path: path.to_owned() },
        io::ErrorKind::IsADirectory => OpenError::Directory { path: path.to_owned() },
        _ => Error::io(path, "opening", e).into(),
    })?;
    let mut magic = [0; MAGIC.len()];
    let there = file.read_full_at(&mut magic, 0).map_err(|e| Error::io(path, "reading the first bytes", e))?;
    let size = file.len().map_err(|e| Error::io(path, "asking for the length", e))?;
    match there {
        _ if size > POSITION_MAX => Err(Error::Exhausted { what: "file positions (256 TiB)" }.into()),
        0 => Err(OpenError::Empty { path: path.to_owned() }),
        _ if magic != MAGIC && magic != MAGIC_PYTHON_2 => {
            Err(OpenError::NotADatabase { path: path.to_owned(), magic: magic[..there].to_vec() })
        }
        _ => Ok(file),
    }
}

pub(crate) fn open(options: &Options, path: &Path) -> Result<Opened, OpenError> {
    let disk = &*options.disk;
    let mut file = open_data(disk, path, Open::Read)?;
    let mut lock = None;
    if !options.read_only {
        lock = Some(take_lock(disk, path)?);
        // Opened again now that nobody else can put another file in its place.
        file = open_data(disk, path, Open::ReadWrite)?;
        // A pack may have been killed after it gave this file its name: nothing may be acknowledged before it is certain
        // that it keeps it.
        settle_names(disk, path).map_err(|e| Error::io(path, "syncing the directory", e))?;
    }
    let size = file.len().map_err(|e| Error::io(path, "asking for the length", e))?;
    let as_of = options.as_of.unwrap_or(Tid::MAX);
    let saved = index_file::load(disk, path, &*file, size).filter(|saved| saved.last <= as_of);
    let walk = |(index, start, last)| {
        let mut walk =
            Walk { options, path, file: &*file, size, index, start, position: start, last, touched: Vec::new() };
        walk.survey(Arc::clone(&file), as_of);
        walk.run(as_of).map(|tail| (walk.index, start, (walk.position, walk.size), walk.last, tail))
    };
    let mut walked = walk(match saved {
        Some(saved) => (saved.index, saved.end, saved.last),
        None => (Index::new(), START, Tid::ZERO),
    })?;
    if let Tail::IndexAstray = walked.4 {
        tracing::info!("{}.index does not agree with its file and is made again", path.display());
        walked = walk((Index::new(), START, Tid::ZERO))?;
    }
    let (index, start, (end, size), last, tail) = walked;
    let recovery = match tail {
        Tail::Clean | Tail::IndexAstray => None,
        Tail::Unfinished { completed } => Some(repair(options, path, &*file, end, size, completed)?),
    };
    let index_on_disk = match start {
        START if end != START => OnDisk::Useless,
        START => OnDisk::Earlier,
        _ if start == end => OnDisk::Same,
        _ => OnDisk::Earlier,
    };
    Ok(Opened { path: path.to_owned(), file, index, end, last, recovery, lock, index_on_disk })
}

/// Makes the names durable that a pack has given, and takes away the file of one that was killed before that.
fn settle_names(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let data = disk.resolve(path)?;
    let half_made = beside(&data, ".pack");
    if disk.exists(&half_made)? && disk.remove(&half_made).is_ok() {
        tracing::info!("{}: a pack did not get to its end, and what it made is removed", half_made.display());
    }
    disk.sync_directory(&data)
}

/// How the file ends after the last finished transaction.
enum Tail {
    Clean,
    /// Something is to be cut off, or these transactions are to be marked as finished, or both.
    Unfinished {
        completed: Vec<u64>,
    },
    /// What follows the saved index does not follow from it: nobody knows yet which of them is wrong.
    IndexAstray,
}

struct Walk<'a> {
    options: &'a Options,
    path: &'a Path,
    file: &'a dyn DiskFile,
    size: u64,
    index: Index,
    start: u64,
    position: u64,
    last: Tid,
    touched: Vec<(Oid, u64)>,
}

impl Walk<'_> {
    /// Walks as far as nothing is out of order, on all cores.
    fn survey(&mut self, file: Arc<dyn DiskFile>, as_of: Tid) {
        let mut side = Scanner::new(self.file, self.size);
        let found = stretches(file, self.position, self.size, self.options.threads);
        for stretch in found.into_iter().flatten() {
            // One that found no transaction to begin with lies within one that began before it.
            if stretch.transactions.is_empty() && stretch.start < self.position {
                continue;
            }
            if stretch.start != self.position || !self.take(&stretch, &mut side, as_of) {
                break;
            }
            if let Some(progress) = &self.options.progress {
                progress(self.position, self.size);
            }
        }
    }

    /// Takes over what a stretch found; false if something in it has to be looked at more closely.
    fn take(&mut self, stretch: &Stretch, side: &mut Scanner<'_>, as_of: Tid) -> bool {
        let mut records = &stretch.records[..];
        for Walked { position, header, records: count } in &stretch.transactions {
            let (own, rest) = records.split_at(*count);
            records = rest;
            let in_order = header.tid > self.last && header.tid <= as_of && header.status != UNFINISHED;
            let index = &self.index;
            let packed = header.status == Status::Packed.byte();
            let mut leads = |seen: &Seen| match stretch.special(seen) {
                Some(record) => pointers(index, side, header, record).is_ok(),
                None => is_previous(index.get(seen.oid).unwrap_or(0), seen.previous, packed),
            };
            if !in_order || !own.iter().all(&mut leads) {
                return false;
            }
            if own.is_empty() && side.tid_astray(*position, header, self.last).is_some() {
                return false;
            }
            let mut index = self.index.writer();
            for seen in own {
                index.set(seen.oid, seen.position);
                self.index.learn(seen.oid, seen.length);
            }
            self.last = header.tid;
            self.position = header.end(*position);
        }
        true
    }

    /// Walks to the end, or to the last transaction that is not later than `as_of`.
    fn run(&mut self, as_of: Tid) -> Result<Tail, Error> {
        let mut scanner = Scanner::new(self.file, self.size);
        let mut side = Scanner::new(self.file, self.size);
        // Up to here even what is marked unfinished counts, because something finished follows.
        let mut whole_until = self.position;
        let (mut completed, mut pending) = (Vec::new(), PendingStatus::default());
        let mut count = 0_u32;
        let mut looked_again = None;
        // Whether the one before the present position counts only if this one does.
        let mut unmarked = false;
        while self.position < self.size {
            if self.options.as_of == Some(self.last) {
                // Whatever comes, and be it damage, is later.
                return Ok(Tail::Clean);
            }
            let position = self.position;
            let (index, touched, last) = (&self.index, &mut self.touched, self.last);
            touched.clear();
            // The first record without a past whose object has one.
            let mut cut = None;
            let walked = scanner.transaction(position, |header, record| {
                pointers(index, &mut side, header, &record)?;
                let RecordHeader { oid, previous: named, .. } = record.header;
                if let (0, Some(found), None) = (named, index.get(oid), &cut) {
                    let kind = FaultKind::WrongPrevious { named, found };
                    cut = Some(Fault { position: record.position, tid: Some(header.tid), oid: Some(oid), kind });
                }
                touched.push((record.header.oid, record.position));
                Ok(())
            });
            let header = match walked {
                Ok(header) if header.tid <= last => {
                    let kind = FaultKind::NotLater { last };
                    Err(Fault { position, tid: Some(header.tid), oid: None, kind })
                }
                Ok(header) => side.tid_astray(position, &header, last).map_or(Ok(header), Err),
                Err(fault) => Err(fault),
            };
            let header = match header {
                Ok(header) if header.tid > as_of => return Ok(Tail::Clean),
                Ok(header) if header.status == UNFINISHED => {
                    if position >= whole_until {
                        whole_until = finished_after(&mut side, position, last);
                    }
                    let kind = FaultKind::Unfinished;
                    let fault = Fault { position, tid: Some(header.tid), oid: None, kind };
                    match cut {
                        _ if position >= whole_until => Err(fault),
                        // Marked as what follows, it would be wrong from then on.
                        Some(cut) if pending.status(&mut side, position) != Status::Packed => Err(cut),
                        _ => Ok(header),
                    }
                }
                other => other,
            };
            let header = match header {
                Ok(header) => header,
                Err(fault) => {
                    let broken = self.broken(&mut scanner, fault, completed.clone(), unmarked);
                    if broken.is_ok() || looked_again == Some(position) || !self.is_finished_meanwhile() {
                        return broken;
                    }
                    looked_again = Some(position);
                    (scanner, side) = (Scanner::new(self.file, self.size), Scanner::new(self.file, self.size));
                    continue;
                }
            };
            unmarked = header.status == UNFINISHED;
            if unmarked {
                completed.push(position);
            }
            for &(oid, at) in &self.touched {
                self.index.set(oid, at);
            }
            self.last = header.tid;
            self.position = header.end(position);
            count = count.wrapping_add(1);
            if let (Some(progress), 0) = (&self.options.progress, count % 1024) {
                progress(self.position, self.size);
            }
        }
        Ok(if completed.is_empty() { Tail::Clean } else { Tail::Unfinished { completed } })
    }

    /// Whether what stands at the present position, and looked like damage, is a transaction that somebody else finished
    /// while this walk was looking at it: then the walk goes on, to where the file ends now.
    fn is_finished_meanwhile(&mut self) -> bool {
        let size = self.file.len().map_or(self.size, |size| size.max(self.size));
        let mut fresh = Scanner::new(self.file, size);
        let finished = self.options.read_only && finished_after(&mut fresh, self.position, self.last) > self.position;
        if finished {
            self.size = size;
        }
        finished
    }

    /// What stands at the present position is no finished transaction: is that a crash, or damage?
    /// `unmarked`: so is the one before.
    fn broken(
        &self,
        scanner: &mut Scanner<'_>,
        fault: Fault,
        completed: Vec<u64>,
        unmarked: bool,
    ) -> Result<Tail, Error> {
        let unreadable = |e| Error::io(self.path, format!("reading after position {}", self.position), e);
        if self.start != START && matches!(fault.kind, FaultKind::WrongPrevious { .. }) {
            return Ok(Tail::IndexAstray);
        }
        if matches!(fault.kind, FaultKind::Unreadable(_)) {
            return Err(fault.damage(
                self.path,
                "Nothing was changed. Whether the disk can be made to read it, its maker knows; `vellum recover` copies \
                 what can be read",
            ));
        }
        if let Some(next) = scanner.resync(self.position + 1, self.size, self.last) {
            let remedy = format!(
                "Finished transactions follow, the first of them at position {next}, so this is damage and not the end \
                 of an interrupted commit. Nothing was changed. `vellum recover` copies what is whole around it"
            );
            return Err(fault.damage(self.path, &remedy));
        }
        let relaxed = self.options.durability == Durability::Relaxed;
        if is_torn(scanner, self.position).map_err(unreadable)? || relaxed && !unmarked {
            return Ok(Tail::Unfinished { completed });
        }
        let remedy = if unmarked {
            "It is the last one in the file, and the one before it was never marked as finished, which no crash leaves. \
             Nothing was changed. `vellum recover` copies what is whole"
        } else {
            "It is the last one in the file, marked as finished, and nothing was changed. If the machine stopped while \
             ZODB was committing, it was never acknowledged, and nothing is lost without it: `vellum recover` copies \
             everything before it, and opening with relaxed durability cuts it off"
        };
        Err(fault.damage(self.path, remedy))
    }
}

/// Whether what stands at `position`, with no finished transaction after it, can be what a crash leaves of an unfinished
/// one.
pub(crate) fn is_torn(scanner: &mut Scanner<'_>, position: u64) -> io::Result<bool> {
    const SECTOR: u64 = 512;
    let header = scanner.bytes(position, TransactionHeader::SIZE)?;
    let status_at = TransactionHeader::STATUS_AT;
    match header.get(status_at as usize) {
        None | Some(&UNFINISHED) => Ok(true),
        Some(0) => {
            // The sector with the status in it was never written: then it is all zeros, as far as it is ours.
            let sector = (position + status_at) / SECTOR * SECTOR;
            let ours = sector.max(position);
            let bytes = scanner.bytes(ours, (sector + SECTOR - ours) as usize)?;
            Ok(bytes.iter().all(|&b| b == 0))
        }
        Some(_) => Ok(false),
    }
}

/// The end of the last finished transaction in an unbroken row of whole ones from `position` on; `position` if there is
/// none.
pub(crate) fn finished_after(scanner: &mut Scanner<'_>, position: u64, last: Tid) -> u64 {
    let (mut at, mut last, mut until) = (position, last, position);
    while at < scanner.end() {
        match scanner.transaction(at, |_, _| Ok(())) {
            Ok(header) if header.tid > last => {
                at = header.end(at);
                last = header.tid;
                if header.status != UNFINISHED {
                    until = at;
                }
            }
            _ => break,
        }
    }
    until
}

/// Whether a record may name `previous` as the object's record before it, which is at `found`. A pack cuts the chain.
fn is_previous(found: u64, previous: u64, packed: bool) -> bool {
    previous == found || (packed && previous == 0)
}

/// Whether a record's pointers lead where they should, given the index as it was before its transaction.
pub(crate) fn pointers(
    index: &Index,
    side: &mut Scanner<'_>,
    header: &TransactionHeader,
    record: &Record,
) -> Result<(), Fault> {
    let RecordHeader { oid, previous, .. } = record.header;
    let fault = |kind| Err(Fault { position: record.position, tid: Some(header.tid), oid: Some(oid), kind });
    let found = index.get(oid).unwrap_or(0);
    // One that is not marked yet may be about to be marked as packed.
    let packed = header.status == Status::Packed.byte() || header.status == UNFINISHED;
    if !is_previous(found, previous, packed) {
        return fault(FaultKind::WrongPrevious { named: previous, found });
    }
    let named = record.backpointer;
    if named != 0 && side.pointed_at(named).is_none_or(|r| r.header.oid != oid) {
        return fault(FaultKind::BackpointerAstray { named });
    }
    if let Some(version) = &record.in_version {
        let named = version.trunk;
        let astray = |r: Record| named >= record.position || r.header.oid != oid || r.in_version.is_some();
        if named != 0 && side.pointed_at(named).is_none_or(astray) {
            return fault(FaultKind::TrunkAstray { named });
        }
        let named = version.previous;
        let same = |r: &Record| r.in_version.as_ref().is_some_and(|v| v.version == version.version);
        if named != 0 && (named >= record.position || !side.pointed_at(named).is_some_and(|r| same(&r))) {
            return fault(FaultKind::VersionAstray { named });
        }
    }
    Ok(())
}

/// Cuts off what follows `end`, keeping it in a file of its own, and marks as finished what is whole.
fn repair(
    options: &Options,
    path: &Path,
    file: &dyn DiskFile,
    end: u64,
    size: u64,
    completed: Vec<u64>,
) -> Result<Recovery, Error> {
    let cut = size - end;
    let position = completed.first().copied().unwrap_or(end);
    let mut recovery = Recovery { position, cut, kept_in: None, completed: completed.len() as u64 };
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
        match disk.open(&name, Open::CreateNew) {
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
