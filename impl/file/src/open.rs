//! Opening: which transactions are there, and what to make of the end of the file.
//!
//! The file is walked over from where the `.index` ends, or from its start, and every rule that costs no reading of
//! data is checked. A file that was written to when the machine stopped ends in something unfinished, and that is cut
//! off (and kept in a `.tr0` file beside it). Damage is something else: the file is then left as it is, and the error
//! says where.
//!
//! The order in which a commit is written ([`crate::Durability::Full`]) tells the two apart. Until the first sync,
//! every transaction after the last finished transaction has status `c`, or lost the sector that it was in,
//! and nothing finished follows. After it every byte is on disk, and only the marks may be missing: then *some* of the
//! transactions that shared a sync may be marked and others before them not. All of them are complete, so all are
//! accepted, with the status of those that are marked: transactions of different status never share a sync.
//!
//! ```text
//!   stands after the last finished transaction               found (walk.rs)    the meaning, and the reaction
//!   ──────────────────────────────────────────────────────   ────────────────   ──────────────────────────────────────
//!   a whole transaction, marked                              Finished           taken
//!   c, whole; then others, whole, at least one finished      Unmarked           a commit of several, cut among its
//!                                                                               marks: taken, and marked
//!   c, whole or torn; or a part of a header that fits; and   Torn               a commit cut before its marks: cut off
//!       nothing finished after it
//!   zeros in the header's sectors (ending.rs)                Damaged, blank     a commit cut before its marks, or one
//!                                                                               that a disk lost: cut off, and said so
//!   no header that fits                                      Damaged            damage: refused
//!   a header that fits, marked; the file ends within the     Damaged, no next   read only: the rest is shown, and
//!       transaction                                                             a warning; else refused
//!   anything else, with nothing finished after it,           Damaged, no next   a commit in ZODB's order: cut off
//!       if opened `Relaxed`
//!   anything else                                            Damaged            damage: refused
//!
//!   If the `.index` beside the file has objects behind the end, acknowledged commits are missing: refused.
//! ```

mod ending;
mod files;
mod pointers;
mod recovery;
mod short;
mod survey;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_blob::BlobFiles;
use vellum_disk::{DiskFile, Lock, Open};
use vellum_storage::{Error, Status, Tid};

use crate::blobs::{self, remove_unfinished};
use crate::format::fault::{Fault, FaultKind};
use crate::format::pending::PendingStatus;
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{RecordHeader, START, TransactionHeader, UNFINISHED};
use crate::journal::LeftJournal;
use crate::journal::beside::settle;
use crate::options::{Durability, OpenError, Options};
use crate::read::index::Index;
use crate::read::index_file::{self, Missing};
use files::settle_names;
pub(crate) use files::take_lock;
pub(crate) use files::{create, open_data, open_to_read};
use pointers::is_previous;
pub(crate) use pointers::pointers;
pub use recovery::{CutShort, Recovery};
use short::cut_short;
use survey::{Seen, Stretch, Walked, stretches};
pub(crate) use walk::{Broken, Found, Walk, Whole};

/// The statement of the `.index` beside a file that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDisk {
    /// The same as the index.
    Same,
    /// It is older, and the walk continued from there; or it has no statement.
    Earlier,
    /// Nothing that could be used, so that all of the file was walked over.
    Useless,
}

/// The result of opening.
pub(crate) struct Opened {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub index: Index,
    pub end: u64,
    pub last: Tid,
    pub recovery: Option<Recovery>,
    pub journal: Option<LeftJournal>,
    pub missing: Option<Missing>,
    pub lock: Option<Box<dyn Lock>>,
    pub blobs: Option<BlobFiles>,
    pub index_on_disk: OnDisk,
}

pub(crate) fn open(options: &Options, path: &Path) -> Result<Opened, OpenError> {
    let disk = &*options.disk;
    let (mut file, mut journal) = open_to_read(disk, path)?;
    let (mut settling, mut lock) = (None, None);
    if !options.read_only {
        lock = Some(take_lock(disk, path, path)?);
        // Opened again now that no other process can put another file in its place.
        file = open_data(disk, path, Open::ReadWrite)?;
        // A pack may have been killed after it gave this file its name: nothing may be acknowledged before it is
        // certain that it keeps it.
        settle_names(disk, path).map_err(|e| Error::io(path, "syncing the directory", e))?;
        settling = settle(disk, path, &file)?
            .map_err(|left| OpenError::Journal { path: path.to_owned(), left: Box::new(left) })?;
    }
    // The walk goes over the file as it will be.
    let shown = settling.as_ref().map_or_else(|| Arc::clone(&file), |settling| settling.shown(&file));
    let size = shown.len().map_err(|e| Error::io(path, "asking for the length", e))?;
    if let Some(as_of) = options.as_of
        && let Some(fault) = disorder(&*shown, size, as_of)
    {
        return Err(out_of_order(path, &fault).into());
    }
    let as_of = options.as_of.unwrap_or(Tid::MAX);
    let saved = index_file::load(disk, path, &*shown, size).filter(|saved| saved.last <= as_of);
    let walk = |(index, start, last)| {
        let mut opening = Opening { options, path, file: &*shown, size, start, position: start, last, index };
        opening.survey(Arc::clone(&shown), as_of);
        let tail = opening.run()?;
        Ok::<_, Error>((opening, tail))
    };
    let (mut opening, mut tail) = walk(match saved {
        Some(saved) => (saved.index, saved.end, saved.last),
        None => (Index::new(), START, Tid::ZERO),
    })?;
    if let Tail::IndexAstray = tail {
        tracing::info!("{}.index does not agree with its file and is made again", path.display());
        (opening, tail) = walk((Index::new(), START, Tid::ZERO))?;
    }
    let Opening { index, start, position: end, size, last, .. } = opening;
    // As of a moment, the end of the file is not looked at.
    let missing = if options.as_of.is_none() { index_file::missing(disk, path, &*shown, end) } else { None };
    if let Some(missing) = missing.as_ref().filter(|_| !options.read_only) {
        return Err(missing.refusal(path).into());
    }
    if let Some(settling) = settling {
        journal = Some(settling.finish(disk, path, &*file)?);
    }
    let blobs = blobs::open(options, false)?;
    if let (Some(blobs), false, Tail::Unfinished { .. }) = (&blobs, options.read_only, &tail) {
        remove_unfinished(blobs, &*file, end, size)?;
    }
    let recovery = match tail {
        Tail::Clean | Tail::IndexAstray => None,
        Tail::Unfinished { completed, blank } => {
            Some(recovery::repair(options, path, &*file, end, size, completed, blank)?)
        }
        Tail::Short { completed, short } => {
            let recovery = recovery::repair(options, path, &*file, end, size, completed, false)?;
            Some(Recovery { short: Some(short), ..recovery })
        }
    };
    let index_on_disk = match start {
        START if end != START => OnDisk::Useless,
        START => OnDisk::Earlier,
        _ if start == end => OnDisk::Same,
        _ => OnDisk::Earlier,
    };
    Ok(Opened { path: path.to_owned(), file, index, end, last, recovery, journal, missing, lock, blobs, index_on_disk })
}

/// How the file ends after the last finished transaction.
enum Tail {
    Clean,
    /// Something is to be cut off, or these transactions are to be marked as finished, or both.
    Unfinished {
        completed: Vec<u64>,
        /// The bytes cut off begin with zeros, so they may be an unfinished commit or a lost one.
        blank: bool,
    },
    /// Read-only: the last transaction is marked as finished, and the file ends within it.
    Short {
        completed: Vec<u64>,
        short: CutShort,
    },
    /// The transactions after the saved index do not agree with it: it is not known yet which of them is wrong.
    IndexAstray,
}

/// The walk of opening, and what it has taken so far.
struct Opening<'a> {
    options: &'a Options,
    path: &'a Path,
    file: &'a dyn DiskFile,
    /// Where the file ends, and where the walk began.
    size: u64,
    start: u64,
    /// Everything before this was taken; the tid of the last transaction there.
    position: u64,
    last: Tid,
    index: Index,
}

impl Opening<'_> {
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

    /// Walks on to the end, or to the last transaction that is wanted.
    fn run(&mut self) -> Result<Tail, Error> {
        let mut walk = Walk::new(self.file, self.size, (self.position, self.last));
        walk = walk.until(self.options.as_of);
        let (mut completed, mut pending) = (Vec::new(), PendingStatus::default());
        let (mut touched, mut count) = (Vec::new(), 0_u32);
        // Whether the transaction before the present one counts only if this one does.
        let mut unmarked = false;
        let tail = loop {
            touched.clear();
            let (index, mut cut) = (&self.index, None);
            let found = walk.step(|side, header, record| {
                pointers(index, side, header, &record)?;
                cut = cut.take().or_else(|| cut_chain(index, header, &record));
                touched.push((record.header.oid, record.position));
                Ok(())
            });
            let found = match (found, cut) {
                // Marked as what follows, it would be wrong from then on.
                (Some(Found::Unmarked(whole)), Some(cut))
                    if pending.status(walk.side(), whole.position) != Status::Packed =>
                {
                    Some(walk.broken(cut))
                }
                (found, _) => found,
            };
            let (whole, is_unmarked) = match found {
                Some(Found::Finished(whole)) => (whole, false),
                Some(Found::Unmarked(whole)) => (whole, true),
                Some(broken @ (Found::Torn(_) | Found::Damaged(_))) => {
                    let can_be = self.options.read_only && !unmarked;
                    let short = can_be.then(|| cut_short(walk.side(), &broken)).flatten();
                    match (self.broken(broken, &completed, unmarked), short) {
                        (Err(_), _) if self.options.read_only && walk.look_again() => continue,
                        (Err(_), Some(short)) => break Ok(Tail::Short { completed, short }),
                        (tail, _) => break tail,
                    }
                }
                // Read only, as of a moment: later transactions are skipped.
                None if walk.position() < walk.size() => break Ok(Tail::Clean),
                None if completed.is_empty() => break Ok(Tail::Clean),
                None => break Ok(Tail::Unfinished { completed, blank: false }),
            };
            unmarked = is_unmarked;
            if unmarked {
                completed.push(whole.position);
            }
            for &(oid, at) in &touched {
                self.index.set(oid, at);
            }
            count = count.wrapping_add(1);
            if let (Some(progress), 0) = (&self.options.progress, count % 1024) {
                progress(whole.header.end(whole.position), walk.size());
            }
        };
        (self.position, self.last, self.size) = (walk.position(), walk.before(), walk.size());
        tail
    }

    /// Decides about the end of the file, if no valid transaction is there. `completed`: the transactions to be marked;
    /// `unmarked`: one of them is right before.
    fn broken(&self, found: Found, completed: &[u64], unmarked: bool) -> Result<Tail, Error> {
        let unfinished = |blank| Tail::Unfinished { completed: completed.to_vec(), blank };
        let relaxed = self.options.durability == Durability::Relaxed;
        let (fault, remedy) = match found {
            Found::Torn(Broken { fault, .. }) | Found::Damaged(Broken { fault, .. })
                if self.start != START && matches!(fault.kind, FaultKind::WrongPrevious { .. }) =>
            {
                return Ok(Tail::IndexAstray);
            }
            Found::Torn(Broken { fault, .. }) | Found::Damaged(Broken { fault, .. })
                if matches!(fault.kind, FaultKind::Unreadable(_)) =>
            {
                let remedy = "Nothing was changed. Whether the disk can be made to read it, its maker knows; `vellum \
                              recover` copies what can be read";
                (fault, remedy.to_owned())
            }
            Found::Torn(_) => return Ok(unfinished(false)),
            Found::Damaged(ref broken) if Walk::is_blank(broken) => return Ok(unfinished(true)),
            Found::Damaged(Broken { fault, next: Some(next), .. }) => {
                let remedy = format!(
                    "Finished transactions follow, the first of them at position {next}, so this is damage and not the \
                     end of an interrupted commit. Nothing was changed. `vellum recover` copies what is whole around it"
                );
                (fault, remedy)
            }
            Found::Damaged(Broken { fault, .. }) if matches!(fault.kind, FaultKind::NoHeader { .. }) => {
                let remedy = "An unfinished commit begins with a header that fits, so this is damage. The lost bytes are \
                              unknown. Nothing was changed. `vellum recover` copies everything before it";
                (fault, remedy.to_owned())
            }
            Found::Damaged(_) if relaxed && !unmarked => return Ok(unfinished(false)),
            Found::Damaged(Broken { fault, .. }) if unmarked => {
                let remedy = "It is the last one in the file, and the one before it was never marked as finished, which \
                              no crash leaves. Nothing was changed. `vellum recover` copies what is whole";
                (fault, remedy.to_owned())
            }
            Found::Damaged(Broken { fault, .. }) => {
                let remedy = "It is the last one in the file, marked as finished, and nothing was changed. If the machine \
                              stopped while ZODB was committing, it was never acknowledged, and nothing is lost without \
                              it: `vellum recover` copies everything before it, and opening with relaxed durability cuts \
                              it off";
                (fault, remedy.to_owned())
            }
            Found::Finished(_) | Found::Unmarked(_) => unreachable!("a whole transaction is taken"),
        };
        Err(fault.damage(self.path, &remedy))
    }
}

/// A record without a past whose object has one, in a transaction that is not marked yet: only a packed one may have
/// none.
fn cut_chain(index: &Index, header: &TransactionHeader, record: &Record) -> Option<Fault> {
    let RecordHeader { oid, previous: named, .. } = record.header;
    if header.status != UNFINISHED || named != 0 {
        return None;
    }
    let found = index.get(oid)?;
    let kind = FaultKind::WrongPrevious { named, found };
    Some(Fault { position: record.position, tid: Some(header.tid), oid: Some(oid), kind })
}

/// The first transaction that is not later than one before it, up to `end` or to where the file cannot be read; none if
/// all are in the order of their tids. Transactions later than `as_of` may be in any order, if they all come last.
/// Looks at every header.
pub(crate) fn disorder(file: &dyn DiskFile, end: u64, as_of: Tid) -> Option<Fault> {
    let mut scanner = Scanner::new(file, end);
    let (mut position, mut last) = (START, Tid::ZERO);
    while position < end {
        let header = scanner.header(position).ok()?;
        if header.tid <= last && header.tid <= as_of {
            return Some(Fault { position, tid: Some(header.tid), oid: None, kind: FaultKind::NotLater { last } });
        }
        (position, last) = (header.end(position), header.tid);
    }
    None
}

/// The error for operations that depend on times, if transactions are not in order.
pub(crate) fn out_of_order(path: &Path, fault: &Fault) -> Error {
    let remedy = "So what was there at a time cannot be told, and nothing was done. `vellum recover --new-tids` copies all of \
                  it in the order of the file, under tids that increase";
    fault.damage(path, remedy)
}
