//! Records compressed on their way into a storage, and made plain on their way out: zc.zlibstorage's layer.
//!
//! ```text
//!   a program     80 03 c mail ...  (4,096 bytes)        plain
//!   Compressed    ──── store: shorter? then .z + zlib ────▶   ◀──── load: .z? then what was stored ────
//!   the storage   2e 7a 78 9c ...   (1,210 bytes)        as it lies in the file
//! ```
//!
//! Only this layer and the code that reads records need to know of it: code that follows references, names classes or
//! merges can read compressed records everywhere ([`vellum_pickle::plain()`]). So a database may have both
//! kinds of records, and a pack, an undo or a check of the file works without the layer.
//!
//! **Stored records keep their form.** An undo shares the earlier record, and a pack copies records unchanged: neither
//! compresses anything. Sizes are those of the storage: `history` gives the stored size of a record.
//!
//! **A merged record** is new. It is compressed if the layer compresses, whatever the three records were that it was
//! made from. The storage below asks for it while it votes, so it must be opened with the layer's resolver
//! ([`Compression::resolver`]).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use vellum_pickle::{compressed, is_compressed, plain};

use crate::{
    Blobs, Bulk, Capabilities, Content, Contested, CurrentRecord, Data, Draft, Error, HistoryEntry, Invalidation,
    Listener, Listening, Loaded, LoadedAt, Oid, Order, Pack, Prepared, Resolver, Result, Revision, Storage, Tid,
    TidRange, TransactionMeta, TransactionRecord, UndoLog, Verdict, Version, Versions, Vote, Voted, Waiting,
};

/// Which way records are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Stored and merged records are compressed; loaded ones are plain. zc.zlibstorage's `ZlibStorage`.
    On,
    /// Stored records stay as they are; loaded ones are plain. `ZlibStorage` with `compress` switched off: a way back.
    Off,
    /// Records come and go as they are, since clients have the layer themselves; only a merged record is compressed if
    /// `merged` says so. `ServerZlibStorage`.
    ByClients {
        /// Whether a merged record is compressed.
        merged: bool,
    },
}

impl Compression {
    /// The resolver that the storage below must be opened with: `inner` gets plain records, and what it merges comes in
    /// the form in which this layer writes merged records.
    pub fn resolver(self, inner: Arc<dyn Resolver>) -> Arc<dyn Resolver> {
        Arc::new(Through { compression: self, inner })
    }

    /// A record on its way in. None if it stays as it is.
    fn stored(self, record: &[u8]) -> Option<Bytes> {
        (self == Compression::On).then(|| compressed(record).map(Bytes::from)).flatten()
    }

    /// A record on its way out.
    fn loaded(self, oid: Oid, record: Bytes) -> Result<Bytes> {
        if !is_compressed(&record) || matches!(self, Compression::ByClients { .. }) {
            return Ok(record);
        }
        match plain(&record) {
            Ok(plain) => Ok(Bytes::from(plain.into_owned())),
            Err(error) => Err(Error::Inflate { oid, why: error.to_string() }),
        }
    }

    fn merges_to_compressed(self) -> bool {
        matches!(self, Compression::On | Compression::ByClients { merged: true })
    }
}

/// A resolver that sees through.
#[derive(Debug)]
struct Through {
    compression: Compression,
    inner: Arc<dyn Resolver>,
}

impl Resolver for Through {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        let merged = contested.plain(|plain| self.inner.resolve(plain))?;
        match self.compression.merges_to_compressed().then(|| compressed(&merged)).flatten() {
            Some(shorter) => Some(shorter.into()),
            None => Some(merged),
        }
    }
}

/// A storage whose records are compressed. Cloning gives another handle.
///
/// ```
/// use std::sync::Arc;
/// use vellum_storage::{
///     Compressed, Compression, MemoryStorage, Oid, Resolvers, Storage, SystemClock, Tid, TransactionMeta, Version,
/// };
///
/// let resolver = Compression::On.resolver(Arc::new(Resolvers::built_in()));
/// let below = Arc::new(MemoryStorage::with("below", Arc::new(SystemClock), resolver));
/// let storage = Compressed::new(below.clone(), Compression::On);
///
/// let mut draft = storage.begin(TransactionMeta::new())?;
/// draft.store(Oid::ROOT, Tid::ZERO, vec![b'a'; 5000].into())?;
/// storage.commit(draft)?;
/// assert_eq!(storage.load(Oid::ROOT, &Version::TRUNK)?.data, vec![b'a'; 5000]);
/// assert!(below.load(Oid::ROOT, &Version::TRUNK)?.data.len() < 50);
/// # Ok::<(), vellum_storage::Error>(())
/// ```
#[derive(Clone)]
pub struct Compressed {
    storage: Arc<dyn Storage>,
    compression: Compression,
}

impl Compressed {
    /// The layer above `storage`, which should have been opened with [`Compression::resolver`].
    pub fn new(storage: Arc<dyn Storage>, compression: Compression) -> Compressed {
        Compressed { storage, compression }
    }

    /// Which way records are changed.
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl fmt::Debug for Compressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compressed { storage, compression } = self;
        f.debug_struct("Compressed").field("storage", &storage.name()).field("compression", compression).finish()
    }
}

impl Storage for Compressed {
    fn name(&self) -> String {
        self.storage.name()
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        let Loaded { data, tid } = self.storage.load(oid, version)?;
        Ok(Loaded { data: self.compression.loaded(oid, data)?, tid })
    }

    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        let plain = |shown: LoadedAt| Ok(LoadedAt { data: self.compression.loaded(oid, shown.data)?, ..shown });
        self.storage.load_before(oid, before)?.map(plain).transpose()
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.compression.loaded(oid, self.storage.load_serial(oid, tid)?)
    }

    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        self.storage.history(oid, limit)
    }

    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let compression = self.compression;
        let plain = move |transaction: Result<TransactionRecord>| {
            let mut transaction = transaction?;
            for Revision { oid, data, .. } in &mut transaction.revisions {
                *data = data.take().map(|data| compression.loaded(*oid, data)).transpose()?;
            }
            Ok(transaction)
        };
        Ok(Box::new(self.storage.transactions(range, order)?.map(plain)))
    }

    fn last_transaction(&self) -> Tid {
        self.storage.last_transaction()
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        self.storage.last_invalidations(count)
    }

    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        let compression = self.compression;
        Box::new(self.storage.current_records(first).map(move |record| {
            let CurrentRecord { oid, tid, data } = record?;
            Ok(CurrentRecord { oid, tid, data: compression.loaded(oid, data)? })
        }))
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        self.storage.new_oids(count)
    }

    fn size(&self) -> u64 {
        self.storage.size()
    }

    fn object_count(&self) -> u64 {
        self.storage.object_count()
    }

    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        self.storage.begin(meta)
    }

    /// Compresses what the draft has when it tries for the first time: it may have been begun elsewhere.
    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        let waiting = match (self.compression, waiting.busy()) {
            (Compression::On, None) => waiting.with_records(|record| self.compression.stored(record))?,
            _ => waiting,
        };
        Ok(match self.storage.attempt(waiting)? {
            Vote::Busy(waiting) => Vote::Busy(waiting),
            Vote::Voted(below) => {
                let (touched, merged) = (below.touched().to_vec(), below.merged().to_vec());
                Vote::Voted(Voted::new(touched, merged, Ready { below, compression: self.compression }))
            }
        })
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.storage.listen(listener)
    }

    fn capabilities(&self) -> Capabilities {
        self.storage.capabilities()
    }

    fn undo_log(&self) -> Option<&dyn UndoLog> {
        self.storage.undo_log()
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.storage.versions()
    }

    fn pack(&self) -> Option<&dyn Pack> {
        self.storage.pack()
    }

    fn bulk(&self) -> Option<&dyn Bulk> {
        self.storage.bulk().map(|_| self as &dyn Bulk)
    }

    /// Those of the storage below: the bytes of a blob stay as they are.
    fn blobs(&self) -> Option<&dyn Blobs> {
        self.storage.blobs()
    }
}

impl Bulk for Compressed {
    fn copy_in(&self, mut transactions: Vec<TransactionRecord>) -> Result<()> {
        let Some(below) = self.storage.bulk() else {
            let why = "it cannot take many transactions at once".to_owned();
            return Err(Error::Unfit { name: self.name(), why });
        };
        for data in transactions.iter_mut().flat_map(|t| &mut t.revisions).filter_map(|r| r.data.as_mut()) {
            if let Some(shorter) = self.compression.stored(data) {
                *data = shorter;
            }
        }
        below.copy_in(transactions)
    }
}

/// A transaction that the storage below has voted on.
struct Ready {
    below: Voted,
    compression: Compression,
}

impl Prepared for Ready {
    fn verdict(&self) -> Result<Verdict> {
        let mut verdict = self.below.verdict()?;
        for write in &mut verdict.writes {
            if let Content::Data(data) = &mut write.content {
                let plain = self.compression.loaded(write.oid, data.bytes()?)?;
                *data = Data::from(plain).with_blob(data.blob().cloned());
            }
        }
        Ok(verdict)
    }

    fn finish(self: Box<Self>) -> Result<Tid> {
        self.below.finish()
    }
}
