//! A server's storage, as a storage.

mod commit;
mod read;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use vellum_storage::{
    Blob, BlobWriter, Blobs, Capabilities, Change, CurrentRecord, Draft, Error, HistoryEntry, Invalidation, Limits,
    Listener, Listening, Loaded, LoadedAt, ObjectLocks, Oid, Order, Pack, PackOptions, PackReport, Refusal, Resolver,
    Result, Scratch, Storage, Tid, TidRange, TransactionMeta, TransactionRecord, UndoEntry, UndoLog, Version, Versions,
    Vote, Waiting,
};
use vellum_wire::Fault;

use crate::ask::Info;
use crate::client::Client;
use crate::error::ClientError;
use crate::options::ClientOptions;

/// A server's storage, as any other storage: each call blocks until its answer is there. Cloning gives another handle.
///
/// It reads as of the last transaction that its client knows, so all that is read between two invalidations belongs
/// together. [`RemoteStorage::sync`] waits for newer ones. Versions are not in ZEO's protocol; where the server is
/// Vellum's, [`ClientOptions::versions`] has them. Then [`Storage::load`] always asks the server, and waits until this
/// client was told of what it sees.
///
/// **A transaction at a time.** A server takes one transaction of each client between vote and finish. A second one
/// waits for the first, whatever objects it has. Programs that commit in many threads open as many storages.
///
/// **A vote may block** for as long as another client's transaction holds one of its objects, in `attempt`, too: the
/// server has no other way of saying so.
///
/// ```no_run
/// use vellum_client::{ClientOptions, RemoteStorage};
/// use vellum_storage::{Oid, Storage, Tid, TransactionMeta, Version};
///
/// let storage = RemoteStorage::open(ClientOptions::at("127.0.0.1:8100"))?;
/// let mut draft = storage.begin(TransactionMeta::new().user("ann"))?;
/// draft.store(storage.new_oid()?, Tid::ZERO, "a record".into())?;
/// println!("committed as {}", storage.commit(draft)?);
/// println!("{:?}", storage.load(Oid::ROOT, &Version::TRUNK)?.data);
/// # Ok::<(), vellum_storage::Error>(())
/// ```
#[derive(Clone)]
pub struct RemoteStorage {
    client: Client,
    name: String,
    resolver: Option<Arc<dyn Resolver>>,
    undoes: bool,
    restores: bool,
    keeps_blobs: bool,
    has_versions: bool,
    /// Transactions of this storage wait for each other here.
    turn: Arc<ObjectLocks>,
}

/// A server's word for what is not there.
const KEY_ERROR: &str = "ZODB.POSException.POSKeyError";
/// So many oids are waited for at once.
const OIDS: usize = 1000;
/// Lines of the undo log that are asked for at once.
const LINES: usize = 100;
/// Bytes of records that a draft keeps in memory. More go to a scratch file.
const SPILL_AFTER: u64 = 32 << 20;

impl RemoteStorage {
    /// Connects to a server, and waits for it.
    ///
    /// # Errors
    ///
    /// No server could be reached in time; see [`Patience`](crate::Patience).
    pub fn open(options: ClientOptions) -> Result<RemoteStorage> {
        let addresses: Vec<_> = options.addresses.iter().map(ToString::to_string).collect();
        let name = format!("{} at {}", options.config.storage, addresses.join(", "));
        let client =
            Client::open(options).map_err(|error| Error::Remote { name: name.clone(), why: error.to_string() })?;
        RemoteStorage::of(client, name)
    }

    /// The storage of a client's server, for which it waits.
    ///
    /// # Errors
    ///
    /// No server could be reached in time.
    pub fn of(client: Client, name: impl Into<String>) -> Result<RemoteStorage> {
        let name = name.into();
        client.connected().wait().map_err(|error| trouble(&name, error))?;
        let Info { undoes, restores, keeps_blobs, .. } = client.info().unwrap_or_default();
        let has_versions = client.has_versions();
        let turn = Arc::default();
        Ok(RemoteStorage { client, name, resolver: None, undoes, restores, keeps_blobs, has_versions, turn })
    }

    /// Has conflicts merged that the server leaves to its clients.
    pub fn with_resolver(self, resolver: Arc<dyn Resolver>) -> RemoteStorage {
        RemoteStorage { resolver: Some(resolver), ..self }
    }

    /// Has it restore, whatever the server says of itself: some restore and do not say so.
    pub fn that_restores(self) -> RemoteStorage {
        RemoteStorage { restores: true, ..self }
    }

    /// The client, for calls that do not block.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until this client knows all that was finished before this call, and returns the last transaction.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub fn sync(&self) -> Result<Tid> {
        self.client.sync().wait().map_err(|error| self.trouble(error))
    }

    fn trouble(&self, error: ClientError) -> Error {
        trouble(&self.name, error)
    }

    fn info(&self) -> Info {
        self.client.info().unwrap_or_default()
    }
}

/// An error that concerns no single object.
fn trouble(name: &str, error: ClientError) -> Error {
    let name = name.to_owned();
    match error {
        ClientError::ReadOnly => Error::ReadOnly { name },
        ClientError::OutcomeUnknown { why } => Error::OutcomeUnknown { name, cause: why },
        ClientError::Refused(Fault::NoObject { oid }) => Error::key(oid),
        ClientError::Refused(Fault::Conflict { oid, committed, serial, .. }) => {
            Refusal::Conflict { oid, committed, serial }.into()
        }
        ClientError::Refused(Fault::VersionLock { oid, version }) => Refusal::VersionLock { oid, version }.into(),
        ClientError::Refused(Fault::VersionEnd { version }) => Refusal::VersionEnd { version }.into(),
        ClientError::Refused(Fault::ReadConflict { oid, committed, serial }) => {
            Refusal::ReadConflict { oid, committed, serial }.into()
        }
        other => Error::Remote { name, why: other.to_string() },
    }
}

impl fmt::Debug for RemoteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStorage").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Storage for RemoteStorage {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        if self.has_versions {
            let loaded = self.client.load_in_version(oid, version.clone());
            return loaded.wait().map_err(|error| self.trouble(error));
        }
        match self.client.load(oid).wait() {
            Ok(Some(LoadedAt { data, tid, .. })) => Ok(Loaded { data, tid }),
            Ok(None) => Err(Error::key(oid)),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        self.client.load_before(oid, before).wait().map_err(|error| self.trouble(error))
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.client.load_serial(oid, tid).wait().map_err(|error| self.trouble(error))
    }

    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        self.client.history(oid, limit).wait().map_err(|error| self.trouble(error))
    }

    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        let last = range.last.min(self.last_transaction());
        self.iterate(TidRange { last, ..range }, order)
    }

    fn last_transaction(&self) -> Tid {
        self.client.last().unwrap_or_default()
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        self.newest_invalidations(count)
    }

    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        Box::new(self.records(first))
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        let mut found = Vec::new();
        while found.len() < count as usize {
            let open = OIDS.min(count as usize - found.len());
            let promises: Vec<_> = (0..open).map(|_| self.client.new_oid()).collect();
            for promise in promises {
                found.push(promise.wait().map_err(|error| self.trouble(error))?);
            }
        }
        Ok(found)
    }

    fn size(&self) -> u64 {
        self.info().size
    }

    fn object_count(&self) -> u64 {
        self.info().length
    }

    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        if self.info().is_read_only {
            return Err(Error::ReadOnly { name: self.name() });
        }
        meta.check(self.last_transaction())?;
        Ok(Draft::within(meta, Arc::new(Bounds), 0))
    }

    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        self.first_phase(waiting)
    }

    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.client.listen(listener)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            undo: self.undoes,
            versions: self.has_versions,
            restore: self.restores,
            pack: true,
            bulk: false,
            blobs: self.keeps_blobs,
        }
    }

    fn undo_log(&self) -> Option<&dyn UndoLog> {
        self.undoes.then_some(self as &dyn UndoLog)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.has_versions.then_some(self as &dyn Versions)
    }

    fn pack(&self) -> Option<&dyn Pack> {
        Some(self)
    }

    fn blobs(&self) -> Option<&dyn Blobs> {
        self.keeps_blobs.then_some(self as &dyn Blobs)
    }
}

impl Versions for RemoteStorage {
    fn versions(&self) -> Result<Vec<Version>> {
        self.client.versions().wait().map_err(|error| self.trouble(error))
    }

    fn modified_in_version(&self, oid: Oid) -> Result<Version> {
        self.client.modified_in_version(oid).wait().map_err(|error| self.trouble(error))
    }
}

impl Blobs for RemoteStorage {
    /// On this machine. A vote sends it.
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>> {
        if self.info().is_read_only {
            return Err(Error::ReadOnly { name: self.name() });
        }
        Ok(vellum_storage::scratch_blob())
    }

    /// Rule 8.2.
    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        self.client.load_blob(oid, tid).wait().map_err(|error| match error {
            ClientError::Refused(Fault::Other { class, .. }) if class == KEY_ERROR => {
                Error::NoBlob { oid, tid, path: None }
            }
            error => self.trouble(error),
        })
    }
}

vellum_storage::inherent!(RemoteStorage);

impl UndoLog for RemoteStorage {
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>> {
        let (mut found, mut passed, mut at) = (Vec::new(), 0, 0_usize);
        while passed < last {
            let (from, to) = (at as u32, at.saturating_add(LINES) as u32);
            let lines = self.client.undo_log(from, to).wait().map_err(|error| self.trouble(error))?;
            let is_end = lines.len() < LINES;
            at += lines.len();
            for line in lines.into_iter().filter(|line| filter(line)) {
                if (first..last).contains(&passed) {
                    found.push(line);
                }
                passed += 1;
            }
            if is_end {
                break;
            }
        }
        Ok(found)
    }
}

impl Pack for RemoteStorage {
    /// The server's operator chooses whether garbage is collected, and which revisions are kept: the protocol has no
    /// words for it.
    fn pack(&self, to: Tid, _: PackOptions) -> Result<PackReport> {
        if self.info().is_read_only {
            // A server would do it all the same.
            return Err(Error::ReadOnly { name: self.name() });
        }
        self.client.pack(to).wait().map_err(|error| self.trouble(error))?;
        // Its size is told before the answer; what is cached is right all the same.
        Ok(PackReport::default())
    }
}

/// The limits of a draft before it is sent: a quota is the server's.
struct Bounds;

impl Limits for Bounds {
    fn admit(&self, length: u64, _: &Change) -> Result<u64> {
        Ok(length)
    }

    fn spill_after(&self) -> u64 {
        SPILL_AFTER
    }

    fn scratch(&self) -> Result<Scratch> {
        Scratch::temporary()
    }
}
