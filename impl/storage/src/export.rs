//! Export and import: an object and all that it refers to, from one database into another.
//!
//! The format is ZODB's (`ExportImport.py`), byte for byte, so what one of the two exports the other imports:
//!
//! ```text
//!   4    "ZEXP"
//!   for each object, the one that was asked for first, then breadth first in the order of the references:
//!     8    oid, as it was where it comes from
//!     8    length of the record
//!     n    the record
//!     of a blob besides:
//!     10   NUL "BLOBSTART"
//!     8    how many bytes it has
//!     n    the bytes
//!   16   ff: the end
//! ```
//!
//! **Export** follows strong references and nothing else: an object behind a weak reference, or in another database,
//! stays behind, and the reference is exported as it stands.
//!
//! **Import** gives every object a new oid and puts it into every reference, in one transaction. A weak reference gets
//! a new oid like any other; if its object did not come along, that is an oid that no object has or will get, and the
//! reference is dead, as it should be, and does not happen to point at something else here. The records are not loaded
//! for that: [`vellum_pickle::rewrite_references`] puts the new oids in place of the old ones.
//!
//! **Blobs** go from storage to storage in pieces, whatever their length. A storage without blobs, and an export that
//! has a blob's record without its bytes, are refused, unless the call leaves the bytes out
//! ([`ExportOptions::without_blobs`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};

use vellum_pickle::{PickleError, Reference, Scanner, Untold, plain, rewrite_references};

use crate::blob::is_blob_class;
use crate::{Blob, Blobs, Draft, Error, Oid, Result as StorageResult, Storage, Tid, Version};

const MAGIC: &[u8; 4] = b"ZEXP";
const END: [u8; 16] = [0xff; 16];
const BLOB: &[u8] = b"\0BLOBSTART";

/// The bytes of a blob are handed over in pieces of this size.
const PIECE: usize = 256 << 10;

/// How to export or import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOptions {
    /// Continues where an object refers to one that does not exist, as ZODB does. The reference stays as it is.
    pub go_on: bool,
    /// Exports and imports blobs as objects without their bytes. Otherwise a blob whose bytes cannot come along is a
    /// reason to refuse.
    pub without_blobs: bool,
}

impl ExportOptions {
    /// Stops where an object refers to one that does not exist.
    pub const fn new() -> ExportOptions {
        ExportOptions { go_on: false, without_blobs: false }
    }

    /// Sets [`ExportOptions::go_on`].
    #[must_use]
    pub const fn go_on(self, go_on: bool) -> ExportOptions {
        ExportOptions { go_on, ..self }
    }

    /// Sets [`ExportOptions::without_blobs`].
    #[must_use]
    pub const fn without_blobs(self, without_blobs: bool) -> ExportOptions {
        ExportOptions { without_blobs, ..self }
    }
}

/// The result of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Objects written.
    pub objects: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// References to objects that are not there: the first referring object, the missing one.
    pub dangling: Vec<(Oid, Oid)>,
    /// References into other databases, which are exported unchanged: the referring object, the database, and the
    /// object there.
    pub foreign: Vec<(Oid, String, Oid)>,
    /// Blobs among the objects.
    pub blobs: u64,
    /// Bytes of blobs that came along.
    pub blob_bytes: u64,
}

/// The objects that an import has put into its draft.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// The object that was exported, by its new oid. Nothing refers to it yet: put it somewhere, or a pack takes it
    /// away.
    pub root: Oid,
    /// Objects read.
    pub objects: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// References to objects that did not come along: the first referring object, the missing one, by the oids of the
    /// export.
    pub dangling: Vec<(Oid, Oid)>,
    /// References into other databases: the referring object by its new oid, the database, and the object there.
    pub foreign: Vec<(Oid, String, Oid)>,
    /// Blobs among the objects.
    pub blobs: u64,
    /// Bytes of blobs that the export has.
    pub blob_bytes: u64,
    /// Blobs without bytes in the export.
    pub lacking: u64,
}

/// Why there is no export, or no import.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// An error of the storage.
    #[error(transparent)]
    Storage(#[from] Error),

    /// The export cannot be read or written.
    #[error("the export cannot be read or written: {0}")]
    Io(#[from] io::Error),

    /// It begins as no export does.
    #[error("this is no export: it does not begin with ZEXP. Nothing was imported")]
    NotAnExport,

    /// The end is missing.
    #[error("the export is cut off at byte {position}, {inside}. Nothing was imported: get the whole file")]
    CutOff {
        /// How many bytes there are.
        position: u64,
        /// The part that should have continued there.
        inside: &'static str,
    },

    /// It has something in it that no export of ours has.
    #[error("byte {position} of the export: {what}. Nothing was imported")]
    Unreadable {
        /// Where, in bytes from its start.
        position: u64,
        /// The fault.
        what: &'static str,
    },

    /// A record whose references cannot be read, or not be replaced.
    #[error("the record of object {oid}: {source}")]
    Record {
        /// The object, by the oid that it has where it comes from.
        oid: Oid,
        /// The fault.
        #[source]
        source: PickleError,
    },

    /// A persistent id of an unknown shape: it may mean an object.
    #[error("the record of object {oid}, byte {offset}, has a persistent id of an unknown shape: {why}")]
    BadReference {
        /// The object, by the oid that it has where it comes from.
        oid: Oid,
        /// Where in the record.
        offset: usize,
        /// A description of what it is instead.
        why: &'static str,
    },

    /// Blobs are among the objects, and the storage keeps none.
    #[error(
        "{} among the objects, and this database has no blob folder. Name the folder, or say to go without",
        if *.blobs == 1 { "1 blob is".to_owned() } else { format!("{blobs} blobs are") }
    )]
    Blobs {
        /// How many.
        blobs: u64,
    },

    /// Blobs are among the objects, and the export was made without their bytes.
    #[error(
        "{} in the export without the bytes: it was made without a blob folder. Export again with one, or say to go without",
        if *.blobs == 1 { "1 blob is".to_owned() } else { format!("{blobs} blobs are") }
    )]
    Lacking {
        /// How many.
        blobs: u64,
    },

    /// A blob became shorter while it was read.
    #[error(
        "the blob of object {oid} had {length} bytes, and ended after {read}: its file was changed, or is damaged. Nothing was \
         exported"
    )]
    BlobShrank {
        /// The object.
        oid: Oid,
        /// Its length in bytes.
        length: u64,
        /// The bytes that could be read.
        read: u64,
    },

    /// Objects refer to others that are not there.
    #[error(
        "objects are missing: {}. Repair that, or say to go on",
        .references.iter().take(10).map(|(from, to)| format!("{from} refers to {to}")).collect::<Vec<_>>().join(", ")
    )]
    Dangling {
        /// The first referring object, and the missing one; by their oids in the source.
        references: Vec<(Oid, Oid)>,
    },
}

/// The references of one record.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) strong: Vec<Oid>,
    /// Strongly or weakly, within the database.
    all: Vec<Oid>,
    /// In other databases.
    pub(crate) foreign: Vec<(String, Oid)>,
}

pub(crate) fn links(oid: Oid, record: &[u8]) -> Result<Links, ExportError> {
    let Links { mut strong, mut all, mut foreign } = Links::default();
    let scanned = Scanner::new().scan_all(record, |reference| match reference {
        Reference::Strong { oid, .. } => {
            strong.push(Oid(oid));
            all.push(Oid(oid));
        }
        Reference::Weak { oid, database: None } => all.push(Oid(oid)),
        Reference::Weak { .. } | Reference::Bad { .. } => {}
        Reference::Foreign { database, oid, .. } => foreign.push((database.into_owned(), Oid(oid))),
    });
    match scanned {
        Ok(()) => Ok(Links { strong, all, foreign }),
        Err(Untold::Unreadable(source)) => Err(ExportError::Record { oid, source }),
        Err(Untold::Shape { offset, why }) => Err(ExportError::BadReference { oid, offset, why }),
    }
}

/// Whether the record is a blob's: what it holds is in a file beside the database.
pub fn is_blob(record: &[u8]) -> bool {
    vellum_pickle::class_of(record).is_ok_and(|class| is_blob_class(&class))
}

/// Writes an object and everything that it refers to, as the trunk shows them now. If others write to the storage,
/// export [`AsOf`](crate::AsOf) a moment. Otherwise the objects may be of different moments.
///
/// Costs: reads each object once; 16 bytes of memory for each.
///
/// ```
/// use vellum_storage::{ExportOptions, MemoryStorage, Oid, Storage, Tid, TransactionMeta, export, import};
///
/// let (from, to) = (MemoryStorage::new("from"), MemoryStorage::new("to"));
/// let mut draft = from.begin(TransactionMeta::new())?;
/// let folder = b"\x80\x03cmail\nFolder\nq\x01.\x80\x03}X\x05\0\0\0firstC\x08\0\0\0\0\0\0\0\x07Qs.";
/// draft.store(Oid(3), Tid::ZERO, folder.to_vec().into())?;
/// draft.store(Oid(7), Tid::ZERO, b"\x80\x03cmail\nMessage\nq\x01.\x80\x03N.".to_vec().into())?;
/// from.commit(draft)?;
///
/// let mut file = Vec::new();
/// export(&from, Oid(3), &mut file, ExportOptions::default())?;
/// let draft = to.begin(TransactionMeta::new())?;
/// let (draft, report) = import(draft, &mut || to.new_oid(), None, &mut &file[..], ExportOptions::default())?;
/// to.commit(draft)?;
/// assert_eq!((report.root, report.objects), (Oid(1), 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// - [`ExportError::Storage`] with a key error if there is no such object, or if the storage fails.
/// - [`ExportError::Record`] or [`ExportError::BadReference`] for a record that cannot be read.
/// - [`ExportError::Dangling`] for references to objects that do not exist, unless [`ExportOptions::go_on`].
/// - [`ExportError::Blobs`] if blobs are among the objects and the storage keeps none, unless
///   [`ExportOptions::without_blobs`].
/// - [`ExportError::Io`] if `to` fails.
///
/// After an error the end of the export is missing, so that no import accepts it.
pub fn export(
    storage: &dyn Storage,
    oid: Oid,
    to: &mut dyn Write,
    options: ExportOptions,
) -> Result<ExportReport, ExportError> {
    let mut report = ExportReport::default();
    let mut seen = HashSet::from([oid]);
    // The next objects, and the first referrer of each.
    let mut waiting = VecDeque::from([(oid, None)]);
    to.write_all(MAGIC)?;
    while let Some((oid, from)) = waiting.pop_front() {
        let record = match (storage.load(oid, &Version::TRUNK), from) {
            (Err(Error::KeyError { .. }), Some(from)) => {
                report.dangling.push((from, oid));
                continue;
            }
            (loaded, _) => loaded?.data,
        };
        let Links { strong, foreign, .. } = links(oid, &record)?;
        report.foreign.extend(foreign.into_iter().map(|(database, to)| (oid, database, to)));
        let has_blob = is_blob(&record);
        report.blobs += u64::from(has_blob);
        waiting.extend(strong.into_iter().filter(|to| seen.insert(*to)).map(|to| (to, Some(oid))));
        // An export is read by programs that do not know how this storage keeps its records.
        let record = plain(&record).map_err(|source| ExportError::Record { oid, source })?;
        to.write_all(&oid.to_bytes())?;
        to.write_all(&(record.len() as u64).to_be_bytes())?;
        to.write_all(&record)?;
        report.objects += 1;
        report.bytes += record.len() as u64;
        if let (true, false, Some(blobs)) = (has_blob, options.without_blobs, storage.blobs()) {
            report.blob_bytes += export_blob(storage, blobs, oid, to)?;
        }
    }
    if !report.dangling.is_empty() && !options.go_on {
        return Err(ExportError::Dangling { references: report.dangling });
    }
    if report.blobs > 0 && !options.without_blobs && storage.blobs().is_none() {
        return Err(ExportError::Blobs { blobs: report.blobs });
    }
    to.write_all(&END)?;
    to.flush()?;
    Ok(report)
}

/// Writes the bytes of the blob that the trunk shows now, and returns their number.
fn export_blob(storage: &dyn Storage, blobs: &dyn Blobs, oid: Oid, to: &mut dyn Write) -> Result<u64, ExportError> {
    // A load has the tid of the newest revision, which may be in a version.
    let shown = storage.load_before(oid, Tid::MAX)?.ok_or(Error::key(oid))?;
    let blob = blobs.load_blob(oid, shown.tid)?;
    let length = blob.length()?;
    to.write_all(BLOB)?;
    to.write_all(&length.to_be_bytes())?;
    let (mut buffer, mut offset) = (vec![0; PIECE.min(length as usize)], 0);
    while offset < length {
        let piece = buffer.len().min(usize::try_from(length - offset).unwrap_or(usize::MAX));
        let read = blob.read_at(&mut buffer[..piece], offset)?;
        if read == 0 {
            return Err(ExportError::BlobShrank { oid, length, read: offset });
        }
        to.write_all(&buffer[..read])?;
        offset += read as u64;
    }
    Ok(length)
}

/// Reads an export, ZODB's or ours, into a draft: a store for each object, all under new oids, which `new_oid` gives.
/// Voted on, it can be shown before it is finished.
///
/// `blobs` takes the bytes of blobs; without it they are passed over.
///
/// Costs: the draft holds every record until it is finished; 32 bytes of memory for each object. Blobs go to their
/// storage in pieces.
///
/// # Errors
///
/// - [`ExportError::NotAnExport`], [`ExportError::CutOff`], [`ExportError::Unreadable`] or [`ExportError::Io`] if
///   `from` is not a complete export.
/// - [`ExportError::Blobs`] if blobs are among the objects and there is no `blobs`, [`ExportError::Lacking`] if their
///   bytes are not in the export, unless [`ExportOptions::without_blobs`].
/// - [`ExportError::Record`] or [`ExportError::BadReference`] for a record in which the oids cannot be replaced.
/// - [`ExportError::Dangling`] for references to objects that did not come along, unless [`ExportOptions::go_on`].
/// - [`ExportError::Storage`] if the storage fails.
///
/// After an error nothing was imported. Some new oids remain unused.
pub fn import(
    draft: Draft,
    new_oid: &mut dyn FnMut() -> StorageResult<Oid>,
    blobs: Option<&dyn Blobs>,
    from: &mut dyn Read,
    options: ExportOptions,
) -> Result<(Draft, ImportReport), ExportError> {
    let mut import = Import {
        draft,
        new_oid,
        keeper: blobs.filter(|_| !options.without_blobs),
        file: File { from, position: 0 },
        names: HashMap::new(),
        read: HashSet::new(),
        referred: Vec::new(),
        foreign: Vec::new(),
        blobs: 0,
        held: 0,
        blob_bytes: 0,
        bytes: 0,
    };
    let root = import.records()?;
    let Import { draft, names, read, referred, foreign, keeper, blobs, held, blob_bytes, bytes, .. } = import;
    let lacking = blobs - held;
    let mut known = read.clone();
    let dangling: Vec<_> = referred.into_iter().filter(|(_, to)| known.insert(*to)).collect();
    if !dangling.is_empty() && !options.go_on {
        return Err(ExportError::Dangling { references: dangling });
    }
    if blobs > 0 && !options.without_blobs {
        if lacking > 0 {
            return Err(ExportError::Lacking { blobs: lacking });
        }
        if keeper.is_none() {
            return Err(ExportError::Blobs { blobs });
        }
    }
    let (root, objects) = (names[&root], read.len() as u64);
    Ok((draft, ImportReport { root, objects, bytes, dangling, foreign, blobs, blob_bytes, lacking }))
}

/// An import under way.
struct Import<'a> {
    draft: Draft,
    new_oid: &'a mut dyn FnMut() -> StorageResult<Oid>,
    /// The storage that takes the bytes of blobs.
    keeper: Option<&'a dyn Blobs>,
    file: File<'a>,
    /// The new oid of each old one.
    names: HashMap<Oid, Oid>,
    /// The objects that came along.
    read: HashSet<Oid>,
    /// Strong references to objects that were not read by then: the referring object, the other one.
    referred: Vec<(Oid, Oid)>,
    foreign: Vec<(Oid, String, Oid)>,
    blobs: u64,
    /// Blobs whose bytes the export has.
    held: u64,
    blob_bytes: u64,
    bytes: u64,
}

/// A record that is not in the draft yet, since a blob may follow it.
struct Stored {
    oid: Oid,
    record: Vec<u8>,
    is_blob: bool,
}

impl Import<'_> {
    /// Reads all records. The answer is the first object.
    fn records(&mut self) -> Result<Oid, ExportError> {
        if self.file.read(4, "in its first four bytes").ok().as_deref() != Some(MAGIC) {
            return Err(ExportError::NotAnExport);
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let (mut root, mut before) = (None, None);
        loop {
            let start = self.file.position;
            let header = self.file.read(16, "where the next object, or the end, should be")?;
            if header == END {
                self.store(before, None)?;
                let empty = ExportError::Unreadable { position: start, what: "there is not one object in it" };
                return root.ok_or(empty);
            }
            if header.starts_with(BLOB) {
                let Some(Stored { is_blob: true, .. }) = before else {
                    let what = "the bytes of a blob, behind an object that is not a blob";
                    return Err(ExportError::Unreadable { position: start, what });
                };
                let length = [&header[BLOB.len()..], &self.file.read(2, "in the length of a blob")?].concat();
                let blob = self.blob(number(&length))?;
                self.store(before.take(), blob)?;
                continue;
            }
            self.store(before.take(), None)?;
            let (oid, length) = header.split_at(8);
            let oid = Oid(number(oid));
            let record = self.file.read(number(length), "in an object's record")?;
            if !self.read.insert(oid) {
                let what = "an object that was there before";
                return Err(ExportError::Unreadable { position: start, what });
            }
            root.get_or_insert(oid);
            before = Some(self.record(oid, &record)?);
        }
    }

    /// The bytes of a blob, in the storage that keeps them; passed over if there is none.
    fn blob(&mut self, length: u64) -> Result<Option<Blob>, ExportError> {
        let inside = "in the bytes of a blob";
        self.held += 1;
        self.blob_bytes = self.blob_bytes.saturating_add(length);
        let Some(keeper) = self.keeper else {
            return self.file.skip(length, inside).map(|()| None);
        };
        let mut writer = keeper.new_blob()?;
        while writer.length() < length {
            let piece = self.file.read((length - writer.length()).min(PIECE as u64), inside)?;
            writer.append(&piece)?;
        }
        Ok(Some(writer.finish()?))
    }

    /// Puts a record into the draft.
    fn store(&mut self, stored: Option<Stored>, blob: Option<Blob>) -> Result<(), ExportError> {
        let Some(Stored { oid, record, .. }) = stored else { return Ok(()) };
        match blob {
            Some(blob) => self.draft.store_blob(oid, Tid::ZERO, record.into(), blob)?,
            None => self.draft.store(oid, Tid::ZERO, record.into())?,
        }
        Ok(())
    }

    fn record(&mut self, oid: Oid, record: &[u8]) -> Result<Stored, ExportError> {
        let new = self.name(oid)?;
        let Links { strong, all, foreign } = links(oid, record)?;
        self.foreign.extend(foreign.into_iter().map(|(database, to)| (new, database, to)));
        for to in all {
            self.name(to)?;
        }
        self.referred.extend(strong.into_iter().filter(|to| !self.read.contains(to)).map(|to| (oid, to)));
        let renamed = |reference: &Reference<'_>| match reference {
            Reference::Strong { oid, .. } | Reference::Weak { oid, database: None } => {
                self.names.get(&Oid(*oid)).map(|new| new.0)
            }
            _ => None,
        };
        let record = rewrite_references(record, renamed).map_err(|source| ExportError::Record { oid, source })?;
        self.bytes += record.len() as u64;
        let is_blob = is_blob(&record);
        self.blobs += u64::from(is_blob);
        Ok(Stored { oid: new, record, is_blob })
    }

    /// The new oid.
    fn name(&mut self, old: Oid) -> Result<Oid, ExportError> {
        if let Some(new) = self.names.get(&old) {
            return Ok(*new);
        }
        let new = (self.new_oid)()?;
        self.names.insert(old, new);
        Ok(new)
    }
}

/// The export as it is read.
struct File<'a> {
    from: &'a mut dyn Read,
    position: u64,
}

impl File<'_> {
    /// Exactly so many bytes. A length is trusted only as far as there are bytes.
    fn read(&mut self, length: u64, inside: &'static str) -> Result<Vec<u8>, ExportError> {
        let mut bytes = Vec::new();
        let read = Read::take(&mut *self.from, length).read_to_end(&mut bytes)? as u64;
        self.position += read;
        if read < length { Err(ExportError::CutOff { position: self.position, inside }) } else { Ok(bytes) }
    }

    /// Passes over so many bytes.
    fn skip(&mut self, length: u64, inside: &'static str) -> Result<(), ExportError> {
        let passed = io::copy(&mut Read::take(&mut *self.from, length), &mut io::sink())?;
        self.position += passed;
        if passed < length { Err(ExportError::CutOff { position: self.position, inside }) } else { Ok(()) }
    }
}
