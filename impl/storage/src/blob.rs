//! Blobs: bytes that are too many for a record, and lie beside it (part 8 of the rules).
//!
//! ```text
//!   blobs.new_blob() ─▶ BlobWriter ── append ... finish() ─▶ Blob ── draft.store_blob(oid, serial, record, blob)
//!                                                            │
//!   blobs.load_blob(oid, tid) ───────────────────────────────┘  length, read_at
//! ```
//!
//! A [`Blob`] is a handle to bytes that do not change. A draft carries it beside the record, and any storage takes any
//! blob: it only names a blob that it made itself ([`Blobs::new_blob`]), and copies the bytes of any other at the vote.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use vellum_pickle::{ClassName, class_of};

use crate::{Oid, Result, Tid};

/// Two blobs are compared in pieces of this size.
const PIECE: usize = 256 << 10;

/// A handle to the bytes of a blob. They do not change. A clone is another handle to the same bytes; two handles are
/// equal if one is a clone of the other. When the last handle is dropped, bytes that no transaction took are removed.
#[derive(Clone)]
pub struct Blob(Arc<dyn BlobBytes>);

/// The bytes of a blob, as its storage keeps them.
pub trait BlobBytes: Any + fmt::Debug + Send + Sync {
    /// How many there are.
    ///
    /// # Errors
    ///
    /// The storage cannot tell: its file is missing.
    fn length(&self) -> Result<u64>;

    /// Reads into `buffer` from `offset`, until it is full or the blob ends; how many bytes were read.
    ///
    /// # Errors
    ///
    /// The storage cannot read them.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// See [`Blob::opened`]. None if this is such a handle already.
    ///
    /// # Errors
    ///
    /// The storage cannot read them.
    fn opened(&self) -> Result<Option<Blob>> {
        Ok(None)
    }
}

impl Blob {
    /// A handle to bytes that a storage keeps. For storages.
    pub fn new(bytes: impl BlobBytes) -> Blob {
        Blob(Arc::new(bytes))
    }

    /// How many bytes it has.
    ///
    /// # Errors
    ///
    /// As [`BlobBytes::length`].
    pub fn length(&self) -> Result<u64> {
        self.0.length()
    }

    /// Reads into `buffer` from `offset`, until it is full or the blob ends; how many bytes were read.
    ///
    /// # Errors
    ///
    /// As [`BlobBytes::read_at`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read_at(buffer, offset)
    }

    /// Returns a handle that holds the open file, if the bytes are in one: many reads cost less, and it stays good when
    /// a pack discards the revision. [`Blobs::load_blob`] returns such a handle; the handles in a
    /// [`TransactionRecord`](crate::TransactionRecord) hold no open file, since there may be many.
    ///
    /// # Errors
    ///
    /// As [`Blob::read_at`].
    pub fn opened(&self) -> Result<Blob> {
        Ok(self.0.opened()?.unwrap_or_else(|| self.clone()))
    }

    /// Hands the bytes over in order, in pieces of at most `piece` bytes.
    ///
    /// # Errors
    ///
    /// As [`Blob::read_at`], and what `take` says.
    pub fn pieces(&self, piece: usize, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let open = self.opened()?;
        let mut buffer = vec![0; open.length()?.clamp(1, piece.max(1) as u64) as usize];
        let mut offset = 0;
        loop {
            let read = open.read_at(&mut buffer, offset)?;
            if read == 0 {
                return Ok(());
            }
            take(&buffer[..read])?;
            offset += read as u64;
        }
    }

    /// All bytes. For small ones, and tests.
    ///
    /// # Errors
    ///
    /// As [`Blob::read_at`].
    pub fn bytes(&self) -> Result<Bytes> {
        let mut bytes = Vec::new();
        self.pieces(PIECE, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes.into())
    }

    /// Whether the two have the same bytes. Costs: reads both, if they are of the same length.
    ///
    /// # Errors
    ///
    /// As [`Blob::read_at`].
    pub fn has_bytes_of(&self, other: &Blob) -> Result<bool> {
        if self == other {
            return Ok(true);
        }
        if self.length()? != other.length()? {
            return Ok(false);
        }
        let (one, other) = (self.opened()?, other.opened()?);
        let (mut offset, mut ours, mut theirs) = (0, vec![0; PIECE], vec![0; PIECE]);
        loop {
            let read = one.read_at(&mut ours, offset)?;
            if other.read_at(&mut theirs[..read], offset)? != read || theirs[..read] != ours[..read] {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
            offset += read as u64;
        }
    }

    /// Returns the bytes as the storage keeps them, if they are of this type: so a storage recognizes its own blobs.
    pub fn downcast_ref<T: BlobBytes>(&self) -> Option<&T> {
        (&*self.0 as &dyn Any).downcast_ref()
    }
}

impl From<Bytes> for Blob {
    /// A blob that is in memory.
    fn from(bytes: Bytes) -> Blob {
        Blob::new(InMemory(bytes))
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Blob) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Blob {}

impl Hash for Blob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether this is the class of the objects that have a blob.
pub(crate) fn is_blob_class(class: &ClassName) -> bool {
    class.module == "ZODB.blob" && class.name == "Blob"
}

/// The class of a record that can have no blob; none if it can, or if that cannot be read, as of an encrypted one.
pub(crate) fn other_class(record: &[u8]) -> Option<String> {
    class_of(record).ok().filter(|class| !is_blob_class(class)).map(|class| class.to_string())
}

/// Whether a revision with this record can have a blob: not if its class can be read, and is another one. Then a
/// storage need not look for a file.
pub fn may_have_blob(record: &[u8]) -> bool {
    other_class(record).is_none()
}

/// A blob that is in memory.
pub(crate) struct InMemory(pub(crate) Bytes);

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a blob of {} bytes", self.0.len())
    }
}

impl BlobBytes for InMemory {
    fn length(&self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// Keeping blobs. Part 8 of the rules.
///
/// A draft stores a blob with [`Draft::store_blob`](crate::Draft::store_blob); undo, ends of versions, copying and
/// packing treat it as part of what its revision holds.
pub trait Blobs: Send + Sync {
    /// Begins a blob. Bytes go where the storage keeps them, so that committing has nothing to copy.
    ///
    /// # Errors
    ///
    /// Read-only; errors of the disk.
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>>;

    /// Rule 8.2: the blob of exactly this revision. The handle stays good when a pack discards the revision.
    ///
    /// # Errors
    ///
    /// A key error if there is no such revision, or it is a tombstone; [`Error::NoBlob`](crate::Error::NoBlob) if it
    /// has no blob, or the blob is lost: a storage need not know which.
    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob>;

    /// The folder, if the blobs are in one that clients may share.
    fn shared(&self) -> Option<&dyn SharedBlobs> {
        None
    }
}

/// A blob that is being written. Dropped, it leaves nothing.
pub trait BlobWriter: Send {
    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// Errors of the disk. The bytes that were added before are still there, and the end is where it was.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// How many bytes it has so far.
    fn length(&self) -> u64;

    /// The blob. Its bytes are durable, where the storage is, and do not change any more.
    ///
    /// # Errors
    ///
    /// Errors of the disk. The blob is removed then.
    fn finish(self: Box<Self>) -> Result<Blob>;
}

/// A blob folder that clients on the same machine share: they read its files, and put their own into it.
pub trait SharedBlobs: Send + Sync {
    /// The folder.
    fn folder(&self) -> PathBuf;

    /// Where the file of a revision is, or would be.
    fn path_of(&self, oid: Oid, tid: Tid) -> PathBuf;

    /// Takes over a file that a client put into the object's folder, under a name without a path. It is removed if the
    /// blob is dropped without being committed.
    ///
    /// # Errors
    ///
    /// A name that is a path, or that of a committed blob; no such file; read-only; errors of the disk. A file with
    /// that name is left alone.
    fn adopt(&self, oid: Oid, name: &str) -> Result<Blob>;
}
