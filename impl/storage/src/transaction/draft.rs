//! A transaction before its vote.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::{Change, Data, Scratch};
use crate::{Blob, Oid, Result, Revision, Tid, TransactionMeta, Version};

/// A transaction before its vote: its metadata, and its changes in order. It holds no lock, it is invisible to others,
/// and dropping it aborts it.
///
/// It is a value: a clone is another transaction with the same changes. Whether the changes can be done is judged at
/// the vote ([`Storage::vote`](crate::Storage::vote)), by any storage, not only by the one that began it. That one
/// refuses a change early where no vote could succeed (its quota), and says when large records wait in a scratch file.
#[derive(Clone)]
pub struct Draft {
    meta: TransactionMeta,
    origin: Origin,
    changes: Vec<Change>,
    limits: Option<Arc<dyn Limits>>,
    /// Bytes that it takes in the storage that began it, by that storage's count.
    length: u64,
    /// Bytes of records that are in memory.
    in_memory: u64,
    scratch: Option<Arc<Scratch>>,
}

/// A mark by which a listener recognises its own transactions in [`Event::Committed`](crate::Event::Committed): a
/// server's number of a client, say. Zero if it was not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub u64);

/// A storage's limits of a draft.
pub trait Limits: Send + Sync {
    /// Hears of a change before it becomes part of a draft that takes `length` bytes so far, and returns what the draft
    /// takes with it.
    ///
    /// # Errors
    ///
    /// The quota, or a name that is too long: the draft could never be voted on.
    fn admit(&self, length: u64, change: &Change) -> Result<u64>;

    /// Bytes of records that a draft keeps in memory; more go to a scratch file.
    fn spill_after(&self) -> u64;

    /// An empty scratch file.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn scratch(&self) -> Result<Scratch>;
}

impl Draft {
    /// A transaction that does nothing yet, bound to no storage: no quota, and all of it in memory.
    pub fn new(meta: TransactionMeta) -> Draft {
        Draft {
            meta,
            origin: Origin::default(),
            changes: Vec::new(),
            limits: None,
            length: 0,
            in_memory: 0,
            scratch: None,
        }
    }

    /// The same within limits, where a draft without changes takes `length` bytes. For storages.
    pub fn within(meta: TransactionMeta, limits: Arc<dyn Limits>, length: u64) -> Draft {
        Draft { limits: Some(limits), length, ..Draft::new(meta) }
    }

    /// Its metadata.
    pub fn meta(&self) -> &TransactionMeta {
        &self.meta
    }

    /// The mark that listeners will see.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Sets the mark that listeners will see.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// Its changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Its parts, for the storage that judges it.
    pub fn into_parts(self) -> (TransactionMeta, Origin, Vec<Change>) {
        (self.meta, self.origin, self.changes)
    }

    /// Adds a change.
    ///
    /// # Errors
    ///
    /// A record without bytes; a version's name that is too long; a blob beside a record that is not a blob's; an early
    /// refusal of the storage that began the draft; trouble with its scratch file. The draft is then as it was.
    pub fn push(&mut self, mut change: Change) -> Result<()> {
        change.check()?;
        if let Some(limits) = self.limits.clone() {
            let length = limits.admit(self.length, &change)?;
            if let Some(data) = change.data_mut() {
                self.place(&*limits, data)?;
            }
            self.length = length;
        }
        self.changes.push(change);
        Ok(())
    }

    /// Sends every record that is in memory to a scratch file, which is made where the storage that began `beside` has
    /// its own. Later changes are in memory again.
    ///
    /// # Errors
    ///
    /// An error of the scratch file. Records that were moved before stay there.
    pub fn spill(&mut self, beside: &Draft) -> Result<()> {
        let scratch = match &self.scratch {
            Some(scratch) => scratch,
            None => self.scratch.insert(Arc::new(match &beside.limits {
                Some(limits) => limits.scratch()?,
                None => Scratch::temporary()?,
            })),
        };
        for data in self.changes.iter_mut().filter_map(Change::data_mut) {
            if let Some(bytes) = data.in_memory() {
                *data = scratch.spill(bytes)?.with_blob(data.blob().cloned());
            }
        }
        self.in_memory = 0;
        Ok(())
    }

    /// Puts other records in place of those for which `new` gives one.
    ///
    /// # Errors
    ///
    /// Trouble with the scratch file.
    pub(super) fn replace_records(&mut self, new: impl Fn(&[u8]) -> Option<Bytes>) -> Result<()> {
        for data in self.changes.iter_mut().filter_map(Change::data_mut) {
            if let Some(bytes) = new(&data.bytes()?) {
                *data = data.replaced(bytes)?;
            }
        }
        Ok(())
    }

    /// Keeps a record in memory, or sends it to the scratch file.
    fn place(&mut self, limits: &dyn Limits, data: &mut Data) -> Result<()> {
        let Some(bytes) = data.in_memory() else { return Ok(()) };
        if self.in_memory + data.len() <= limits.spill_after() {
            self.in_memory += data.len();
            return Ok(());
        }
        let scratch = match &self.scratch {
            Some(scratch) => scratch,
            None => self.scratch.insert(Arc::new(limits.scratch()?)),
        };
        *data = scratch.spill(bytes)?.with_blob(data.blob().cloned());
        Ok(())
    }

    /// Changes an object, or creates it. `serial` is the revision that the change was made to, [`Tid::ZERO`] for a new
    /// object. Whether the object is still at it is judged at the vote.
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.store_in(&Version::TRUNK, oid, serial, data)
    }

    /// As [`Draft::store`], in a version.
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn store_in(&mut self, version: &Version, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        self.push(Change::Store { oid, serial, version: version.clone(), data: data.into() })
    }

    /// As [`Draft::store`], with a blob beside the record (rule 8.1).
    ///
    /// ```
    /// use vellum_storage::{MemoryStorage, Oid, Storage, Tid, TransactionMeta};
    ///
    /// let storage = MemoryStorage::new("memory");
    /// let blobs = Storage::blobs(&storage).expect("a storage in memory keeps blobs");
    /// let mut writer = blobs.new_blob()?;
    /// writer.append(b"many bytes")?;
    /// let mut draft = storage.begin(TransactionMeta::new())?;
    /// draft.store_blob(Oid(1), Tid::ZERO, "a record".into(), writer.finish()?)?;
    /// let tid = storage.commit(draft)?;
    /// assert_eq!(blobs.load_blob(Oid(1), tid)?.bytes()?, "many bytes");
    /// # Ok::<(), vellum_storage::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn store_blob(&mut self, oid: Oid, serial: Tid, data: Bytes, blob: Blob) -> Result<()> {
        let data = Data::from(data).with_blob(blob);
        self.push(Change::Store { oid, serial, version: Version::TRUNK, data })
    }

    /// Makes an object a tombstone. `serial` as for [`Draft::store`].
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.push(Change::Delete { oid, serial })
    }

    /// Makes the transaction depend on the object's being at `serial` when it is finished.
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.push(Change::CheckCurrent { oid, serial })
    }

    /// Takes back what that transaction did. Several undos in one draft see each other's work.
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn undo(&mut self, tid: Tid) -> Result<()> {
        self.push(Change::Undo { tid })
    }

    /// Ends the version `from`: its work goes to `to`, which may be the trunk.
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn commit_version(&mut self, from: &Version, to: &Version) -> Result<()> {
        self.push(Change::CommitVersion { from: from.clone(), to: to.clone() })
    }

    /// Ends the version `from`: its objects are again what the trunk shows.
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn abort_version(&mut self, from: &Version) -> Result<()> {
        self.push(Change::AbortVersion { from: from.clone() })
    }

    /// Writes a revision of another storage as it is there, without looking at serials. Its source counts if that
    /// transaction is here and has that data. Its base counts if the trunk has the object there.
    ///
    /// # Errors
    ///
    /// As [`Draft::push`].
    pub fn restore(&mut self, revision: Revision) -> Result<()> {
        self.push(revision.into())
    }
}

/// Where a draft keeps its large records, and which storage began it, does not count.
impl PartialEq for Draft {
    fn eq(&self, other: &Draft) -> bool {
        self.meta == other.meta && self.origin == other.origin && self.changes == other.changes
    }
}

impl Eq for Draft {}

impl Hash for Draft {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.meta, self.origin, &self.changes).hash(state);
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Draft { meta, origin, changes, .. } = self;
        f.debug_struct("Draft")
            .field("meta", meta)
            .field("origin", origin)
            .field("changes", changes)
            .finish_non_exhaustive()
    }
}
