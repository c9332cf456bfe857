//! Transactions at the end of the file: their bytes, and the order in which they become durable.
//!
//! ```text
//!   append          all of it, with status c
//!   sync            from here on a crash may leave all of it, and never a part that looks whole
//!   place blobs     their files get their names, durably (`blobs.rs`)
//!   mark            one byte a transaction
//!   sync            from here on it is there
//! ```
//!
//! The table at the head of `open.rs` lists what each step leaves if the machine stops in it.

use std::collections::{BTreeSet, HashMap};
use std::io;

use vellum_blob::{NotPlaced, Placing};
use vellum_disk::DiskFile;
use vellum_storage::{Content, Oid, Result, Status, Version};

use crate::format::{RecordHeader, TransactionHeader, UNFINISHED};
use crate::options::Durability;
use crate::read::database::Database;
use crate::read::generation::Generation;
use crate::write::job::Placed;
use crate::write::record::data_length;

/// The append goes to the disk in pieces of this size.
const CHUNK: usize = 1 << 20;
/// A piece of this size goes there by itself, and is not copied before.
const DIRECT: usize = 64 << 10;

/// A write that failed. If `fatal`, the state of the disk is not known.
pub(crate) struct Broken {
    pub doing: &'static str,
    pub source: io::Error,
    pub fatal: bool,
    /// The transaction of the batch that it concerns, counted from zero; none if it concerns all of them.
    pub culprit: Option<usize>,
}

/// The positions that new records name, as far as the index and the table of versions do not have them yet.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    /// The newest record of each version's list.
    heads: HashMap<Version, u64>,
    /// The newest record of each object that was appended, if later transactions may change it again. Voted objects
    /// cannot.
    newest: Option<hashbrown::HashMap<Oid, u64>>,
}

impl Chains {
    /// For these transactions, which touch different objects.
    pub fn apart(now: &Generation, placed: &[Placed]) -> Result<Chains, Broken> {
        let records = placed.iter().flat_map(|this| &this.records);
        let versions: BTreeSet<_> =
            records.map(|record| &record.version).filter(|version| !version.is_trunk()).collect();
        if versions.is_empty() {
            return Ok(Chains::default());
        }
        let heads = now.versions(|table| versions.into_iter().map(|v| (v.clone(), table.head(v))).collect());
        let heads = heads.map_err(|error| Broken {
            doing: "looking for a version's records, before anything of the commit was written",
            source: io::Error::other(error.to_string()),
            fatal: false,
            culprit: None,
        })?;
        Ok(Chains { heads, newest: None })
    }

    /// For these transactions, which may change the same objects one after the other.
    pub fn one_after_the_other(now: &Generation, placed: &[Placed]) -> Result<Chains, Broken> {
        Ok(Chains { newest: Some(hashbrown::HashMap::new()), ..Chains::apart(now, placed)? })
    }

    /// The object's record before one that is written now; 0 if there is none.
    fn previous(&self, now: &Generation, oid: Oid) -> u64 {
        let appended = self.newest.as_ref().and_then(|newest| newest.get(&oid).copied());
        appended.or_else(|| now.index.get(oid)).unwrap_or(0)
    }
}

/// Writes a batch of transactions that touch different objects behind `start`, and makes it durable.
pub(crate) fn write(now: &Generation, database: &Database, placed: &[Placed], start: u64) -> Result<(), Broken> {
    let mut chains = Chains::apart(now, placed)?;
    append(now, placed, start, &mut chains)?;
    // The file must name the blobs before they have their names.
    if database.options.durability != Durability::Relaxed || placed.iter().any(|this| !this.blobs.is_empty()) {
        now.log.file.sync().map_err(data_is_lost)?;
    }
    place_blobs(now, database, placed)?;
    mark(now, placed)?;
    now.log.file.sync().map_err(|source| marks_are_lost(now, placed, source))
}

/// Gives the blobs of transactions that are durably in the file, unfinished, their names.
pub(crate) fn place_blobs(now: &Generation, database: &Database, placed: &[Placed]) -> Result<(), Broken> {
    let blobs = placed.iter().flat_map(|this| {
        let tid = this.tid;
        this.blobs.iter().map(move |(oid, blob)| Placing { blob, oid: *oid, tid })
    });
    let blobs: Vec<_> = blobs.collect();
    let (Some(files), Some(first)) = (&database.blobs, placed.first().filter(|_| !blobs.is_empty())) else {
        return Ok(());
    };
    files.place(&blobs).map_err(|NotPlaced { source, is_left, culprit }| {
        let doing = "giving a commit's blobs their names";
        // A transaction that cannot be taken back has status `c`: the next opening cuts it off, and removes its blobs.
        let take_back = || now.log.file.set_len(first.position).and_then(|()| now.log.file.sync());
        let culprit = culprit.and_then(|n| placed.iter().position(|this| this.tid == blobs[n].tid));
        Broken { doing, source, fatal: is_left || take_back().is_err(), culprit }
    })
}

/// The error if a sync after the append failed: the system may have dropped the data, so that the next sync would
/// succeed without it.
pub(crate) fn data_is_lost(source: io::Error) -> Broken {
    Broken {
        doing: "syncing a commit, which the next opening of the file will cut off",
        source,
        fatal: true,
        culprit: None,
    }
}

/// Marks transactions as finished.
pub(crate) fn mark(now: &Generation, placed: &[Placed]) -> Result<(), Broken> {
    mark_as(now, placed, |this| this.meta.status.byte()).map_err(|source| marks_are_lost(now, placed, source))
}

fn mark_as(now: &Generation, placed: &[Placed], status: impl Fn(&Placed) -> u8) -> io::Result<()> {
    let at = |this: &Placed| this.position + TransactionHeader::STATUS_AT;
    placed.iter().try_for_each(|this| now.log.file.write_at(&[status(this)], at(this)))
}

/// The error if marks could not be written or synced. Dropped marks can still be read, and no later sync makes them
/// durable: an opening before the machine stops must not accept transactions that may be gone after it.
pub(crate) fn marks_are_lost(now: &Generation, placed: &[Placed], source: io::Error) -> Broken {
    let _ = mark_as(now, placed, |_| UNFINISHED);
    let doing = "marking a commit as finished: whether it is, the next opening of the file will find out";
    Broken { doing, source, fatal: true, culprit: None }
}

/// Writes transactions behind `start`, unfinished. If that fails, nothing of them is left.
pub(crate) fn append(now: &Generation, placed: &[Placed], start: u64, chains: &mut Chains) -> Result<(), Broken> {
    let total = placed.last().map_or(0, |this| this.end() - start);
    let mut buffer = Vec::with_capacity((total as usize).min(CHUNK + CHUNK / 4));
    let out = Appender { file: Some(&*now.log.file), position: start, buffer: &mut buffer };
    append_all(now, placed, chains, out, |_| UNFINISHED).map_err(|source| nothing_was_kept(now, start, source))
}

/// The error if transactions could not be appended. Cuts off what is there of them.
pub(crate) fn nothing_was_kept(now: &Generation, start: u64, source: io::Error) -> Broken {
    let doing = "writing a commit, of which nothing was kept (is the disk full?)";
    // If the truncation fails, the rest has status `c`: the next opening cuts it off.
    let fatal = now.log.file.set_len(start).is_err();
    Broken { doing, source, fatal, culprit: None }
}

/// Lays transactions out behind the bytes of `buffer`, as they are once they are finished.
pub(crate) fn lay_out(
    now: &Generation,
    placed: &[Placed],
    chains: &mut Chains,
    buffer: &mut Vec<u8>,
) -> Result<(), Broken> {
    let start = placed.first().map_or(0, |this| this.position);
    // So that a position in the file is one in the buffer.
    let position = start.wrapping_sub(buffer.len() as u64);
    let out = Appender { file: None, position, buffer };
    append_all(now, placed, chains, out, |this| this.meta.status.byte()).map_err(|source| Broken {
        doing: "reading the records of a commit, of which nothing was written",
        source,
        fatal: false,
        culprit: None,
    })
}

fn append_all(
    now: &Generation,
    placed: &[Placed],
    chains: &mut Chains,
    mut out: Appender<'_>,
    status: impl Fn(&Placed) -> u8,
) -> io::Result<()> {
    for this in placed {
        let Placed { tid, position, meta, .. } = this;
        let is_packed = meta.status == Status::Packed;
        let header = TransactionHeader {
            tid: *tid,
            length: this.length - TransactionHeader::TWIN_SIZE,
            status: status(this),
            // `begin` made sure that they fit.
            user_length: meta.user.len() as u16,
            description_length: meta.description.len() as u16,
            extension_length: meta.extension.len() as u16,
        };
        let length = header.length;
        header.write(out.buffer);
        for field in [&meta.user, &meta.description, &meta.extension] {
            out.buffer.extend_from_slice(field);
        }
        for (record, at) in this.records() {
            let name = record.version.name();
            let header = RecordHeader {
                oid: record.oid,
                tid: *tid,
                // A packed revision has no past (rule 4.5).
                previous: if is_packed { 0 } else { chains.previous(now, record.oid) },
                transaction: *position,
                version_length: name.len() as u16,
                data_length: data_length(&record.content),
            };
            header.write(out.buffer);
            if !record.version.is_trunk() {
                let head = chains.heads.insert(record.version.clone(), at).unwrap_or(0);
                out.buffer.extend_from_slice(&record.base.unwrap_or(0).to_be_bytes());
                out.buffer.extend_from_slice(&head.to_be_bytes());
                out.buffer.extend_from_slice(name);
            }
            match &record.content {
                Content::Data(data) => data.pieces(CHUNK, &mut |piece| out.piece(piece))?,
                Content::Shared(position) => out.buffer.extend_from_slice(&position.to_be_bytes()),
                Content::Tombstone => out.buffer.extend_from_slice(&[0; RecordHeader::BACKPOINTER_SIZE as usize]),
            }
        }
        if let Some(newest) = &mut chains.newest {
            newest.extend(this.records().map(|(record, position)| (record.oid, position)));
        }
        out.buffer.extend_from_slice(&length.to_be_bytes());
        // Wrong, it would make everything after it unreadable.
        assert_eq!(
            out.position.wrapping_add(out.buffer.len() as u64),
            this.end(),
            "a transaction's length is what was said"
        );
    }
    out.flush()
}

/// Bytes on their way into a file; or to stay in the buffer, without one.
struct Appender<'a> {
    file: Option<&'a dyn DiskFile>,
    /// Where the buffer begins in the file.
    position: u64,
    buffer: &'a mut Vec<u8>,
}

impl Appender<'_> {
    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.filter(|_| !self.buffer.is_empty()) {
            file.write_at(self.buffer, self.position)?;
            self.position += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Adds at most a chunk.
    fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Some(file) = self.file.filter(|_| piece.len() >= DIRECT) {
            self.flush()?;
            file.write_at(piece, self.position)?;
            self.position += piece.len() as u64;
            return Ok(());
        }
        if self.buffer.len() + piece.len() > CHUNK {
            self.flush()?;
        }
        self.buffer.extend_from_slice(piece);
        Ok(())
    }
}
