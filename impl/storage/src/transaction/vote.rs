//! The first phase: locks, then judges. And a transaction that has passed it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::Bytes;
use vellum_sync::atomic::{AtomicBool, Ordering};
use vellum_sync::thread::{self, Thread};

use super::{Busy, Change, Draft, Held, ObjectLocks, Past, Ticket, Verdict, Wants, judge, wants};
use crate::{Oid, Resolver, Result, Tid};

/// The result of a vote that does not wait.
#[derive(Debug)]
pub enum Vote {
    /// The transaction can be finished.
    Voted(Voted),
    /// It has to wait for another one.
    Busy(Box<Waiting>),
}

/// A draft whose vote has to wait. It is a plain draft again with [`Waiting::into_draft`].
#[derive(Debug)]
pub struct Waiting {
    draft: Draft,
    busy: Option<Busy>,
    queue: Option<(Arc<ObjectLocks>, Wants)>,
    ticket: Option<Ticket>,
}

impl From<Draft> for Waiting {
    /// One that did not try yet.
    fn from(draft: Draft) -> Waiting {
        Waiting { draft, busy: None, queue: None, ticket: None }
    }
}

impl Waiting {
    /// One that waits for something that its storage has no queue for. It has to be tried again.
    pub fn unqueued(draft: Draft, busy: Busy) -> Waiting {
        Waiting { busy: Some(busy), ..Waiting::from(draft) }
    }

    /// The lock that it waits for; none if it did not try yet.
    pub fn busy(&self) -> Option<&Busy> {
        self.busy.as_ref()
    }

    /// The draft.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Takes the locks, for a storage that judges by itself. If they are not free, it waits with its place in the
    /// queue.
    ///
    /// # Errors
    ///
    /// The draft that has to wait.
    pub fn take(self, locks: &Arc<ObjectLocks>, wants: Wants) -> Result<(Draft, Held), Box<Waiting>> {
        match locks.try_take(&wants, self.ticket.as_ref()) {
            Ok(held) => Ok((self.draft, held)),
            Err(busy) => Err(Box::new(Waiting { busy: Some(busy), queue: Some((Arc::clone(locks), wants)), ..self })),
        }
    }

    /// The same with other records in the draft: those that `new` gives.
    ///
    /// # Errors
    ///
    /// Trouble with the draft's scratch file.
    pub(crate) fn with_records(mut self, new: impl Fn(&[u8]) -> Option<Bytes>) -> Result<Waiting> {
        self.draft.replace_records(new)?;
        Ok(self)
    }

    /// Gives up waiting, and the place in the queue.
    pub fn into_draft(self) -> Draft {
        self.draft
    }

    /// Queues, or stays in the queue. The waker is called, from the thread that gives a lock back and without any lock,
    /// when it is worth trying again with [`Storage::attempt`](crate::Storage::attempt); at once, if it is now. It may
    /// be called more than once.
    pub fn wake(&mut self, waker: Waker) {
        match &self.queue {
            Some((locks, wants)) => self.ticket = Some(locks.queue(wants.clone(), waker, self.ticket.take())),
            None => waker.wake(),
        }
    }
}

/// Blocks this thread until the waker that `register` gets is called.
pub fn wait(register: impl FnOnce(Waker)) {
    struct Parked {
        thread: Thread,
        is_woken: AtomicBool,
    }
    impl Wake for Parked {
        fn wake(self: Arc<Self>) {
            self.is_woken.store(true, Ordering::Release);
            self.thread.unpark();
        }
    }
    let parked = Arc::new(Parked { thread: thread::current(), is_woken: AtomicBool::new(false) });
    register(Waker::from(Arc::clone(&parked)));
    while !parked.is_woken.load(Ordering::Acquire) {
        thread::park();
    }
}

/// A draft that is locked, and that the rules allow.
pub struct Judged<P: Past> {
    /// The draft.
    pub draft: Draft,
    /// Its locks.
    pub held: Held,
    /// The past that it was judged by.
    pub past: P,
    /// Its verdict.
    pub verdict: Verdict<P::Place>,
}

/// The first phase, for every storage: takes the locks that a draft needs, and judges it. `past` is asked for the
/// storage's revisions of the moment. If another transaction holds one of the locks, the draft waits.
///
/// # Errors
///
/// [`Error::Refused`](crate::Error::Refused); the storage or a scratch file cannot be read. The draft is gone then.
pub fn lock_and_judge<P: Past>(
    locks: &Arc<ObjectLocks>,
    past: impl Fn() -> P,
    resolver: &dyn Resolver,
    waiting: Waiting,
) -> Result<Result<Judged<P>, Box<Waiting>>> {
    let Waiting { draft, ticket, .. } = waiting;
    // The draft may have been begun elsewhere.
    draft.meta().check(Tid::ZERO)?;
    draft.changes().iter().try_for_each(Change::check)?;
    loop {
        let needed = wants(&past(), &draft)?;
        match locks.try_take(&needed, ticket.as_ref()) {
            Err(busy) => {
                let queue = Some((Arc::clone(locks), needed));
                return Ok(Err(Box::new(Waiting { draft, busy: Some(busy), queue, ticket })));
            }
            Ok(held) => {
                let past = past();
                // More objects may have come into a version that it ends, before it held the version. No more will now.
                if held.wants().covers(&wants(&past, &draft)?) {
                    let mut verdict = judge(&past, draft.changes(), resolver)?;
                    verdict.wants = needed;
                    return Ok(Ok(Judged { draft, held, past, verdict }));
                }
            }
        }
    }
}

/// A transaction that can be finished: only the disk can keep it from that now. Dropping it aborts it.
#[must_use = "dropping it aborts the transaction"]
pub struct Voted {
    touched: Vec<Oid>,
    merged: Vec<Oid>,
    prepared: Box<dyn Prepared>,
}

/// A voted transaction, as its storage keeps it. Dropping it aborts it.
pub trait Prepared: Send {
    /// See [`Voted::verdict`].
    ///
    /// # Errors
    ///
    /// See [`Voted::verdict`].
    fn verdict(&self) -> Result<Verdict>;

    /// See [`Voted::finish`].
    ///
    /// # Errors
    ///
    /// See [`Voted::finish`].
    fn finish(self: Box<Self>) -> Result<Tid>;

    /// Begins to finish it, and leaves the waiting to what this returns: those that begin before the first of them
    /// waits may share syncs. The caller must call what this returns.
    fn begin_finish(self: Box<Self>) -> Finishing
    where
        Self: 'static,
    {
        Box::new(move || self.finish())
    }
}

/// Waits until a transaction is finished.
pub type Finishing = Box<dyn FnOnce() -> Result<Tid>>;

impl Voted {
    /// For storages: what the verdict says of it, and the transaction as the storage keeps it.
    pub fn new(touched: Vec<Oid>, merged: Vec<Oid>, prepared: impl Prepared + 'static) -> Voted {
        Voted { touched, merged, prepared: Box::new(prepared) }
    }

    /// The objects for which not the record stored but a merged one will be written: a client that stored them must
    /// read them again.
    pub fn merged(&self) -> &[Oid] {
        &self.merged
    }

    /// The objects of which it will write a revision, each once: those that undos and ends of versions touch included.
    pub fn touched(&self) -> &[Oid] {
        &self.touched
    }

    /// All that it will do: what a preview shows.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    pub fn verdict(&self) -> Result<Verdict> {
        self.prepared.verdict()
    }

    /// The second phase: gives the transaction a tid, makes it durable, makes it visible, and tells the listeners, in
    /// that order.
    ///
    /// # Errors
    ///
    /// A tid that was asked for and is not later than the last; whatever the disk says. Unless the error says
    /// otherwise, no trace of the transaction is there.
    pub fn finish(self) -> Result<Tid> {
        self.prepared.finish()
    }

    /// Finishes several transactions. Those of one storage share its syncs, as if each had a thread of its own; each
    /// fails or is finished for itself. The outcomes are in the order of the transactions.
    ///
    /// # Panics
    ///
    /// If a listener panics; not before all of them are done.
    ///
    /// ```
    /// use vellum_storage::{MemoryStorage, Oid, Tid, TransactionMeta, Voted};
    ///
    /// let storage = MemoryStorage::new("example");
    /// let mut voted = Vec::new();
    /// for oid in [Oid(1), Oid(2)] {
    ///     let mut transaction = storage.begin(TransactionMeta::new())?;
    ///     transaction.store(oid, Tid::ZERO, "a record".into())?;
    ///     voted.push(storage.vote(transaction)?);
    /// }
    /// for tid in Voted::finish_all(voted) {
    ///     println!("committed as {}", tid?);
    /// }
    /// # Ok::<(), vellum_storage::Error>(())
    /// ```
    pub fn finish_all(voted: Vec<Voted>) -> Vec<Result<Tid>> {
        let begun: Vec<Finishing> = voted.into_iter().map(|voted| voted.prepared.begin_finish()).collect();
        let outcomes: Vec<_> = begun.into_iter().map(|finishing| catch_unwind(AssertUnwindSafe(finishing))).collect();
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    }
}

impl fmt::Debug for Voted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voted").field("touched", &self.touched()).field("merged", &self.merged()).finish()
    }
}
