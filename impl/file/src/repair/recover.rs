//! Saving the complete transactions around damage.
//!
//! Every whole transaction of the damaged file is written into a new one, in order. As what lies between them is gone,
//! everything moves, and so every position in every record is made again: the previous record, the transaction, the
//! backpointer, and those of versions. Where a backpointer leads into a lost part, its data is looked for in the old
//! file all the same; if it is there and reads as a record, it is written out.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use bytes::Bytes;
use vellum_disk::Open;
use vellum_storage::{Error, Oid, Result, Status, Tid, Version};

use crate::format::fault::Fault;
use crate::format::pending::PendingStatus;
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{MAGIC, RecordHeader, START, TransactionHeader, UNFINISHED};
use crate::journal::LeftJournal;
use crate::open::{Broken, Found, Walk, Whole, open_to_read};
use crate::options::{OpenError, Options};
use crate::read::index::Index;
use crate::read::index_file::{self, Missing};
use crate::read::log::Log;

/// The saved part, and the lost one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvage {
    /// Transactions, data records and bytes written to the new file.
    pub transactions: u64,
    /// Data records written to the new file.
    pub records: u64,
    /// Bytes of the new file.
    pub bytes: u64,
    /// The parts of the old file that could not be read.
    pub lost: Vec<Lost>,
    /// Bytes at the end of the old file that were a commit which never finished: nothing is lost with them.
    pub unfinished: u64,
    /// Transactions marked as undone (status `u`), which no reader sees, and which were left out.
    pub undone: u64,
    /// Whole transactions that were left out since they are not later than the one before them.
    pub out_of_order: Vec<Tid>,
    /// Transactions that have another tid in the new file: the old one, and the new one.
    pub new_tids: Vec<(Tid, Tid)>,
    /// Records whose data lay in a lost part, or whose object is not certain; they were left out of their
    /// transactions.
    pub records_lost: Vec<(Oid, Tid)>,
    /// Objects of which a revision is known to be lost. Those that the new file still has show an older or newer one.
    pub objects: BTreeSet<Oid>,
    /// The part of the `.index` beside the old file that the file has lost. Its objects are among those that lost a
    /// revision.
    pub missing: Option<Missing>,
    /// The journal beside the old file, if it cannot be applied to it. Its transactions are not in the new file.
    pub journal: Option<LeftJournal>,
    /// Objects of which nothing is left.
    pub objects_gone: BTreeSet<Oid>,
}

/// A part of a file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Where it starts.
    pub position: u64,
    /// How long it is.
    pub bytes: u64,
    /// The fault at its start.
    pub why: Fault,
    /// The last transaction before it, and the first one after it: the lost part lies in between.
    pub after: Option<Tid>,
    /// The first transaction after it; none if it reaches to the end of the file.
    pub before: Option<Tid>,
    /// Transactions in it whose headers could still be read.
    pub transactions: Vec<Tid>,
}

/// Copies the complete transactions of the database `from` to a new file `to`. The old file is not changed.
///
/// A whole transaction that is not later than the one before it is left out, and named in [`Salvage::out_of_order`].
pub fn recover(options: &Options, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvage, OpenError> {
    rescue(options, from.as_ref(), to.as_ref(), false)
}

/// The same, and gives later tids to transactions that are not later than the one before them: all are copied, in the
/// order of the file. [`Salvage::new_tids`] has the old tids and the new ones.
pub fn recover_with_new_tids(
    options: &Options,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
) -> Result<Salvage, OpenError> {
    rescue(options, from.as_ref(), to.as_ref(), true)
}

fn rescue(options: &Options, from: &Path, to: &Path, new_tids: bool) -> Result<Salvage, OpenError> {
    let disk = &*options.disk;
    let (file, journal) = open_to_read(disk, from)?;
    let size = file.len().map_err(|e| Error::io(from, "asking for the length", e))?;
    let mut magic = MAGIC;
    file.read_full_at(&mut magic, 0).map_err(|e| Error::io(from, "reading the first bytes", e))?;
    let out = disk.open_like(to, Open::CreateNew, from).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => OpenError::Exists { path: to.to_owned() },
        _ => Error::io(to, "making the new file", e).into(),
    })?;
    let new = Log { path: to.to_owned(), file: out };
    let old = Log { path: from.to_owned(), file };
    let mut rescue = Rescue {
        options,
        size,
        old: &old,
        new: &new,
        position: START,
        index: Index::new(),
        in_versions: HashMap::new(),
        moved: Vec::new(),
        pending: PendingStatus::default(),
        new_tids,
        last: Tid::ZERO,
        renamed: HashMap::new(),
        salvage: Salvage { journal: journal.filter(LeftJournal::is_refused), ..Salvage::default() },
    };
    let write = |bytes: &[u8], at| new.file.write_at(bytes, at).map_err(|e| Error::io(to, "writing the new file", e));
    let run = write(&magic, 0).and_then(|()| rescue.run()).and_then(|()| {
        new.file.sync().and_then(|()| disk.sync_directory(to)).map_err(|e| Error::io(to, "syncing the new file", e))
    });
    match run {
        Ok(()) => Ok(rescue.finish()),
        Err(e) => {
            let _ = disk.remove(to);
            Err(e.into())
        }
    }
}

/// The position of records that were not copied.
const NOWHERE: u64 = u64::MAX;

struct Rescue<'a> {
    options: &'a Options,
    size: u64,
    old: &'a Log,
    new: &'a Log,
    /// Where the next transaction goes.
    position: u64,
    /// The new file's.
    index: Index,
    /// The last record of each version in the new file.
    in_versions: HashMap<Version, u64>,
    /// Where what is: an old position, and the new one of the same, or [`NOWHERE`]. Holds up to the next entry.
    moved: Vec<(u64, u64)>,
    pending: PendingStatus,
    /// Whether transactions that are out of order get later tids.
    new_tids: bool,
    /// The last tid in the new file.
    last: Tid,
    /// By the positions of the old file: transactions that have another tid now.
    renamed: HashMap<u64, Tid>,
    salvage: Salvage,
}

impl Rescue<'_> {
    fn run(&mut self) -> Result<()> {
        let old = self.old;
        let mut walk = Walk::new(&*old.file, self.size, (START, Tid::ZERO));
        let mut records: Vec<Record> = Vec::new();
        loop {
            records.clear();
            let found = walk.step(|_, _, record| {
                records.push(record);
                Ok(())
            });
            match found {
                None => return Ok(()),
                Some(Found::Finished(whole) | Found::Unmarked(whole)) => {
                    let Whole { position, mut header, ref disorder } = whole;
                    let is_in_order = disorder.is_none() && header.tid > self.last;
                    if !is_in_order && self.new_tids && header.status != Status::Undone.byte() {
                        let new = self.last.later();
                        self.salvage.new_tids.push((header.tid, new));
                        self.renamed.insert(position, new);
                        header.tid = new;
                    }
                    if !is_in_order && !self.new_tids {
                        self.salvage.out_of_order.push(header.tid);
                        self.salvage.objects.extend(records.iter().map(|record| record.header.oid));
                        self.moved.push((position, NOWHERE));
                    } else if header.status == Status::Undone.byte() {
                        self.salvage.undone += 1;
                        self.moved.push((position, NOWHERE));
                    } else {
                        self.copy(position, &header, &records)?;
                    }
                    if let (Some(progress), 0) = (&self.options.progress, self.salvage.transactions % 256) {
                        progress(header.end(position), self.size);
                    }
                }
                Some(Found::Torn(Broken { position, .. })) => {
                    self.moved.push((position, NOWHERE));
                    self.salvage.unfinished = self.size - position;
                }
                Some(Found::Damaged(broken)) => {
                    self.moved.push((broken.position, NOWHERE));
                    let last = walk.last();
                    self.lose(walk.side(), broken, last);
                }
            }
        }
    }

    /// Notes the contents of an unreadable part, as far as they are known. `last`: the transaction before it.
    fn lose(&mut self, side: &mut Scanner<'_>, broken: Broken, last: Tid) {
        let Broken { position: from, fault: why, next } = broken;
        let to = next.unwrap_or(self.size);
        let (mut transactions, mut at) = (Vec::new(), from);
        // As long as one header leads to the next.
        while at < to {
            let objects = &mut self.salvage.objects;
            let _ = side.transaction(at, |_, record| {
                objects.insert(record.header.oid);
                Ok(())
            });
            let Ok(header) = side.header(at) else { break };
            transactions.push(header.tid);
            at = header.end(at);
        }
        let before = next.and_then(|next| side.header(next).ok()).map(|header| header.tid);
        let after = (last != Tid::ZERO).then_some(last);
        self.salvage.lost.push(Lost { position: from, bytes: to - from, why, after, before, transactions });
    }

    /// Where the record that was at `old` is now; none if it is not there.
    fn now_at(&self, old: u64, oid: Oid) -> Option<(u64, Record)> {
        let (was, is) = self.moved[..self.moved.partition_point(|&(was, _)| was <= old)].last()?;
        // If it was not copied, the bytes at its place may look like it.
        let now = is.checked_add(old - was).filter(|now| *is != NOWHERE && *now < self.position)?;
        let record = self.new.header(oid, now, self.position).ok()?;
        // Its pointers may be wrong in the old file: they were made again.
        let was = Scanner::new(&*self.old.file, self.size).record(old, self.size).ok()?;
        let tid = self.renamed.get(&was.header.transaction).copied().unwrap_or(was.header.tid);
        (record.header.tid == tid).then_some((now, record))
    }

    fn moved(&mut self, old: u64, new: u64) {
        let same = self.moved.last().is_some_and(|&(was, is)| old >= was && new.checked_sub(is) == Some(old - was));
        if !same {
            self.moved.push((old, new));
        }
    }

    fn copy(&mut self, at: u64, header: &TransactionHeader, records: &[Record]) -> Result<()> {
        let (_, fields) = self.old.transaction(at, self.size)?;
        let mut out = Vec::with_capacity(header.length as usize + 8);
        header.write(&mut out);
        fields.iter().for_each(|field| out.extend_from_slice(field));
        let mut written = Vec::new();
        for record in records {
            let oid = record.header.oid;
            if is_lost(&self.salvage.lost, record.header.previous) {
                self.salvage.objects.insert(oid);
            }
            let other = self.belongs_to_another(record);
            self.salvage.objects.extend(other);
            let Some(body) = self.body(record).filter(|_| other.is_none()) else {
                self.salvage.records_lost.push((oid, header.tid));
                self.salvage.objects.insert(oid);
                self.moved.push((record.position, NOWHERE));
                continue;
            };
            let position = self.position + out.len() as u64;
            self.moved(record.position, position);
            // Where a pack cut the chain, it stays cut: a packed record has no past.
            let cut = record.header.previous == 0 && header.status == Status::Packed.byte();
            let previous = if cut { 0 } else { self.index.get(oid).unwrap_or(0) };
            let data_length = if let Body::Data(data) = &body { data.len() as u64 } else { 0 };
            let (transaction, tid) = (self.position, header.tid);
            RecordHeader { previous, transaction, tid, data_length, ..record.header }.write(&mut out);
            if let Some(version) = &record.in_version {
                let last = self.in_versions.insert(version.version.clone(), position).unwrap_or(0);
                let before = if version.previous == 0 { 0 } else { last };
                out.extend_from_slice(&self.trunk(oid, version.trunk, previous)?.to_be_bytes());
                out.extend_from_slice(&before.to_be_bytes());
                out.extend_from_slice(version.version.name());
            }
            match body {
                Body::Data(data) => out.extend_from_slice(&data),
                Body::Shared(position) => out.extend_from_slice(&position.to_be_bytes()),
            }
            written.push((oid, position));
        }
        let length = out.len() as u64;
        out[8..16].copy_from_slice(&length.to_be_bytes());
        if header.status == UNFINISHED {
            let mut scanner = Scanner::new(&*self.old.file, self.size);
            out[TransactionHeader::STATUS_AT as usize] = self.pending.status(&mut scanner, at).byte();
        }
        out.extend_from_slice(&length.to_be_bytes());
        self.new
            .file
            .write_at(&out, self.position)
            .map_err(|e| Error::io(&self.new.path, "writing the new file", e))?;
        self.position += out.len() as u64;
        self.last = header.tid;
        self.salvage.transactions += 1;
        self.salvage.records += written.len() as u64;
        for (oid, position) in written {
            self.index.set(oid, position);
        }
        // The next transaction of the old file may have moved by another distance.
        self.moved(header.end(at), self.position);
        Ok(())
    }

    /// The object that the record continues, if that is another one: its previous record is exactly the newest one of
    /// an object with another oid. Then the oid is damaged, and the object of the data is not certain.
    fn belongs_to_another(&self, record: &Record) -> Option<Oid> {
        let previous = record.header.previous;
        let found =
            Scanner::new(&*self.old.file, self.size).record(previous, self.size).ok().filter(|_| previous != 0)?;
        let other = found.header.oid;
        let (now, _) = self.now_at(previous, other).filter(|_| other != record.header.oid)?;
        (self.index.get(other) == Some(now)).then_some(other)
    }

    /// Where the trunk's record under one in a version is now, which was at `old`. If it is lost, the one before it.
    fn trunk(&self, oid: Oid, old: u64, previous: u64) -> Result<u64> {
        if old == 0 {
            return Ok(0);
        }
        if let Some((now, _)) = self.now_at(old, oid).filter(|(_, record)| record.in_version.is_none()) {
            return Ok(now);
        }
        let mut at = previous;
        while at != 0 {
            let record = self.new.header(oid, at, self.position)?;
            match record.in_version {
                None => return Ok(at),
                Some(version) => at = version.trunk,
            }
        }
        Ok(0)
    }

    /// The contents of the record in the new file; none if they are lost.
    fn body(&self, record: &Record) -> Option<Body> {
        let oid = record.header.oid;
        if record.header.data_length > 0 {
            // Its pointers do not matter; and if the disk cannot read it, only this record is lost.
            return self.old.own_data(record).ok().map(Body::Data);
        }
        if record.backpointer == 0 {
            return Some(Body::Shared(0));
        }
        if let Some((now, _)) = self.now_at(record.backpointer, oid) {
            return Some(Body::Shared(now));
        }
        // The record that it shares is lost, but its bytes may still be there.
        match self.old.data_of(record.clone(), None, self.size) {
            Ok(Some((data, _))) if vellum_pickle::Scanner::new().scan(&data, |_| ()).is_ok() => Some(Body::Data(data)),
            Ok(None) => Some(Body::Shared(0)),
            _ => None,
        }
    }

    fn finish(self) -> Salvage {
        let mut salvage = self.salvage;
        salvage.bytes = self.position;
        let damaged = salvage.lost.last().filter(|lost| lost.position + lost.bytes == self.size);
        let end = damaged.map_or(self.size - salvage.unfinished, |lost| lost.position);
        salvage.missing = index_file::missing(&*self.options.disk, &self.old.path, &*self.old.file, end);
        if let Some(missing) = &salvage.missing {
            salvage.objects.extend(&missing.objects);
        }
        // An index that was saved before the damage knows what lay in the lost parts.
        if let Some(saved) = index_file::read(&*self.options.disk, &self.old.path, self.size) {
            let lost = &salvage.lost;
            let entries = saved.entries().filter(|&(_, at)| is_lost(lost, at));
            let objects: Vec<Oid> = entries.map(|(oid, _)| oid).collect();
            salvage.objects.extend(objects);
        }
        salvage.objects_gone = salvage.objects.iter().copied().filter(|&oid| self.index.get(oid).is_none()).collect();
        salvage
    }
}

/// Whether the position is in one of these parts, which are in order, and may be many.
fn is_lost(lost: &[Lost], position: u64) -> bool {
    let before = lost.partition_point(|lost| lost.position <= position);
    lost[..before].last().is_some_and(|lost| position - lost.position < lost.bytes)
}

enum Body {
    Data(Bytes),
    /// The position in the new file of the record that has it; 0 for nothing.
    Shared(u64),
}
