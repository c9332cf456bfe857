//! An overlay: writing above a storage that stays as it is. ZODB calls it a DemoStorage.
//!
//! The **base** is only read. Writes go to a scratch storage, the **changes**. Together they are one storage,
//! which keeps every rule as if there was no seam between the two:
//!
//! ```text
//!   changes                         [t6]──[t7]──▶     load 3: changed at t7? else from the base
//!   ─────────────────────── seam ────────────────     history 3: t7, then t4, t2
//!   base       [t1]──[t2]──[t4]──[t5]                 undo t4: written to changes, and shows t2's state
//! ```
//!
//! Try an upgrade on the real data and throw the changes away; give each test its own database over one that was made
//! once; let people play in a demo. Overlays can be stacked, and one over [`AsOf`](crate::AsOf) continues from a moment
//! in the past.
//!
//! **The overlay judges.** To the scratch storage, an object that is only in the base is new, and a version that was
//! begun there unknown. So the overlay answers the questions of part 3 ([`Past`](crate::Past)) from both storages. The
//! verdict is written to the changes by restoring (3.7), with the tid that the overlay's clock gives.
//!
//! **References across the seam are written down** (`seam.rs`): where an undo shows the base's data again, the scratch
//! storage gets a copy of the data; where a revision in a version has its base revision in the base, the scratch
//! storage does not know that one. The overlay notes the true source and the true base revision in the same
//! transaction. So both are answered as if nothing had been copied, also when the two storages are put together again.
//!
//! | file | idea |
//! |---|---|
//! | `read.rs` | answering across the seam |
//! | `past.rs` | the answers to part 3 |
//! | `commit.rs` | two phases |
//! | `seam.rs` | references across the seam |
//!
//! **Costs.** Memory: some 60 bytes for each object that was changed above. Opening reads all changes. A vote that
//! undoes reads the transactions of each object concerned, from its newest revision back to the undone one; the first
//! end of a version reads the whole base, if there are versions in it. Finishing is one transaction after the other.
//!
//! An overlay cannot be packed. Pack the base before, or throw the changes away. While an overlay is open, no other
//! code may write to either storage, or pack one.

mod commit;
mod past;
mod read;
mod seam;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use vellum_sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::copy::check_copies;
use crate::{
    Clock, Error, Listeners, NoResolver, ObjectLocks, Oid, Order, Resolver, Result, Status, Storage, SystemClock, Tid,
    TidRange, TransactionRecord, Version,
};
use seam::{Across, SEAM, unseam};

/// A storage to write to, above one that is only read. Cloning gives another handle.
///
/// ```
/// use std::sync::Arc;
/// use vellum_storage::{MemoryStorage, Oid, Overlay, Storage, Tid, TransactionMeta, Version};
///
/// let base = Arc::new(MemoryStorage::new("base"));
/// let mut draft = base.begin(TransactionMeta::new())?;
/// draft.store(Oid::ROOT, Tid::ZERO, "the real thing".into())?;
/// let first = base.commit(draft)?;
///
/// let demo = Overlay::new(base.clone(), Arc::new(MemoryStorage::new("changes")))?;
/// let mut draft = demo.begin(TransactionMeta::new())?;
/// draft.store(Oid::ROOT, first, "a trial".into())?;
/// let trial = demo.commit(draft)?;
/// assert_eq!(demo.load(Oid::ROOT, &Version::TRUNK)?.data, "a trial");
/// assert_eq!(base.load(Oid::ROOT, &Version::TRUNK)?.data, "the real thing");
///
/// let mut back = demo.begin(TransactionMeta::new())?;
/// back.undo(trial)?;
/// demo.commit(back)?;
/// assert_eq!(demo.load(Oid::ROOT, &Version::TRUNK)?.data, "the real thing");
/// # Ok::<(), vellum_storage::Error>(())
/// ```
#[derive(Clone)]
pub struct Overlay {
    shared: Arc<Shared>,
}

struct Shared {
    base: Arc<dyn Storage>,
    changes: Arc<dyn Storage>,
    /// The base's last transaction: later ones are in the changes.
    seam: Tid,
    clock: Arc<dyn Clock>,
    resolver: Arc<dyn Resolver>,
    locks: Arc<ObjectLocks>,
    state: RwLock<State>,
    /// Finishing is one after the other, so that tids are given in order.
    finishing: Mutex<()>,
    listeners: Listeners,
    /// The base's objects whose newest revision is in a version, once they are needed.
    held: OnceLock<BTreeMap<Oid, Version>>,
    /// The last oid given out, once one was.
    last_oid: Mutex<Option<u64>>,
}

/// The state of the changes. It moves when a transaction is finished, and decides what readers see: a transaction that
/// is in the scratch storage and not in here yet is invisible.
#[derive(Default)]
struct State {
    last: Tid,
    /// Of each object that was changed, the newest revision.
    newest: BTreeMap<Oid, (Tid, Version)>,
    /// How many of them are not in the base.
    born: u64,
    /// The revisions that reach across the seam.
    across: HashMap<(Oid, Tid), Across>,
    /// Transactions that were copied as packed: objects have no past behind them.
    packed: BTreeSet<Tid>,
}

impl State {
    /// Moves to the state after a transaction.
    fn follow(&mut self, (tid, status): (Tid, Status), written: BTreeMap<Oid, Version>, seam: Vec<Across>, born: u64) {
        self.newest.extend(written.into_iter().map(|(oid, version)| (oid, (tid, version))));
        let counting = seam.into_iter().filter(|across| across.counts);
        self.across.extend(counting.map(|across| ((across.oid, tid), across)));
        if status == Status::Packed {
            self.packed.insert(tid);
        }
        self.born += born;
        self.last = tid;
    }
}

impl Overlay {
    /// An overlay with the machine's clock and no conflict resolution.
    ///
    /// # Errors
    ///
    /// As [`Overlay::with`].
    pub fn new(base: Arc<dyn Storage>, changes: Arc<dyn Storage>) -> Result<Overlay> {
        Overlay::with(base, changes, Arc::new(SystemClock), Arc::new(NoResolver))
    }

    /// An overlay with this clock and this resolver. The changes may be empty, or be those of an earlier overlay over
    /// the same base.
    ///
    /// # Errors
    ///
    /// Changes that cannot copy, that cannot undo since they forget what is old (rule 4.12), or that were not made over
    /// this base; what either says when it is read.
    pub fn with(
        base: Arc<dyn Storage>,
        changes: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Overlay> {
        check_copies(&*changes)?;
        if !changes.capabilities().undo {
            let why = "it forgets older revisions, and would then show older ones of the storage below. Use changes that \
                       keep their history";
            return Err(Error::Unfit { name: changes.name(), why: why.into() });
        }
        let seam = base.last_transaction();
        let shared = Shared {
            base,
            changes,
            seam,
            clock,
            resolver,
            locks: Arc::default(),
            state: RwLock::default(),
            finishing: Mutex::default(),
            listeners: Listeners::default(),
            held: OnceLock::new(),
            last_oid: Mutex::default(),
        };
        shared.learn()?;
        Ok(Overlay { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("name", &self.shared.name()).finish_non_exhaustive()
    }
}

impl Shared {
    fn name(&self) -> String {
        format!("{} over {}", self.changes.name(), self.base.name())
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// The changes are not such as an overlay over this base makes.
    fn unfit(&self, why: impl Into<String>) -> Error {
        Error::Unfit { name: self.changes.name(), why: why.into() }
    }

    /// Reads what there is in the changes.
    fn learn(&self) -> Result<()> {
        let mut state = State { last: self.seam, ..State::default() };
        for transaction in self.changes.transactions(TidRange::ALL, Order::OldestFirst)? {
            let mut transaction = transaction?;
            if transaction.tid <= self.seam {
                let (base, tid) = (self.base.name(), transaction.tid);
                return Err(self.unfit(format!("it has the transaction {tid}, and {base} goes on to {}", self.seam)));
            }
            let entries = unseam(&mut transaction).map_err(|why| self.unfit(why))?;
            let TransactionRecord { tid, status, revisions, .. } = transaction;
            let written = revisions.into_iter().map(|revision| (revision.oid, revision.version)).collect();
            let born = self.born(&state, &written)?;
            state.follow((tid, status), written, entries, born);
        }
        *self.state_mut() = state;
        Ok(())
    }

    /// How many of these objects are in neither storage yet.
    fn born(&self, state: &State, written: &BTreeMap<Oid, Version>) -> Result<u64> {
        let fresh = written.keys().filter(|oid| !state.newest.contains_key(oid));
        fresh.map(|oid| self.in_base(*oid).map(|known| u64::from(!known))).sum()
    }

    fn in_base(&self, oid: Oid) -> Result<bool> {
        known(&*self.base, oid)
    }

    /// The base's objects that a version holds. Costs: reads the whole base the first time, if there are any.
    fn held(&self) -> Result<&BTreeMap<Oid, Version>> {
        if let Some(held) = self.held.get() {
            return Ok(held);
        }
        let mut held = BTreeMap::new();
        let any = self.base.versions().map_or(Ok(Vec::new()), |versions| versions.versions())?;
        if !any.is_empty() {
            for transaction in self.base.transactions(TidRange::to(self.seam), Order::OldestFirst)? {
                for revision in transaction?.revisions {
                    match revision.version.is_trunk() {
                        true => held.remove(&revision.oid),
                        false => held.insert(revision.oid, revision.version),
                    };
                }
            }
        }
        Ok(self.held.get_or_init(|| held))
    }

    /// Oids that are in neither storage, as ZODB's DemoStorage finds them: somewhere at random, and then one after the
    /// other. To look for the base's last one would be a walk over all of it.
    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        let mut last = self.last_oid.lock();
        let mut first = last.map_or_else(somewhere, |last| last + 1);
        let mut found = Vec::with_capacity(count as usize);
        while found.len() < count as usize {
            let oid = Oid(first + found.len() as u64);
            if oid >= SEAM || self.in_base(oid)? || self.state().newest.contains_key(&oid) {
                found.clear();
                first = somewhere();
                continue;
            }
            found.push(oid);
        }
        if let Some(oid) = found.last() {
            *last = Some(oid.0);
        }
        Ok(found)
    }
}

/// An oid at random, with room after it.
fn somewhere() -> u64 {
    (RandomState::new().hash_one("an oid") >> 3) + 1
}

/// Whether the storage has a revision of the object.
fn known(storage: &dyn Storage, oid: Oid) -> Result<bool> {
    match storage.history(oid, 1) {
        Err(Error::KeyError { .. }) => Ok(false),
        other => other.map(|_| true),
    }
}
