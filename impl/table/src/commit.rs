//! The second phase: transactions that are finished together share a step of the store, and so its sync.
//!
//! A thread that finishes a transaction puts it into the queue. If no thread leads, it leads: it takes all that is
//! there, gives out the tids, writes them in one step, and tells the listeners. The others sleep until their outcome is
//! there. A transaction that cannot be written alone fails alone: the step is tried again without it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use vellum_blob::Claimed;
use vellum_storage::{Error, Event, Held, Oid, Origin, Result, Tid, TransactionMeta, Write, touched};
use vellum_sync::{Condvar, Mutex, thread};

use crate::blobs;
use crate::pack::change_and_forget;
use crate::storage::Shared;
use crate::store::Turn;
use crate::write::Ready;

/// How a commit ended: a result, or the panic of a listener, which is for its own thread.
type Outcome = Arc<Mutex<Option<thread::Result<Result<Tid>>>>>;

/// A voted transaction that may be written.
pub(crate) struct Job {
    pub meta: TransactionMeta,
    pub origin: Origin,
    pub writes: Arc<Vec<Write>>,
    pub held: Held,
    /// Its number among the voted.
    pub number: u64,
    /// The blobs of its objects. A transaction with blobs is written alone.
    pub blobs: Vec<(Oid, Claimed)>,
    /// Whether records of it wait in a scratch file: then it is written alone.
    pub is_spilled: bool,
}

/// A job in the queue.
struct Waiting {
    job: Job,
    outcome: Outcome,
}

impl Waiting {
    /// Gives the objects back, tells others, and only then hands the outcome over.
    fn end(self, shared: &Shared, outcome: Result<Tid>) {
        let Waiting { job: Job { origin, writes, held, number, .. }, outcome: place } = self;
        shared.voted.lock().remove(&number);
        drop(held);
        let told = catch_unwind(AssertUnwindSafe(|| {
            if let Ok(tid) = outcome {
                shared.listeners.tell(|| Event::Committed { tid, oids: touched(&writes), origin });
            }
        }));
        *place.lock() = Some(told.map(|()| outcome));
    }
}

/// The queue before the store.
#[derive(Default)]
pub(crate) struct Commits {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    is_led: bool,
}

/// At most so many transactions share a step, so that none waits for too many others.
const BATCH_MAX: usize = 256;

pub(crate) struct Ticket(Outcome);

impl Commits {
    pub fn enqueue(&self, job: Job) -> Ticket {
        let outcome = Outcome::default();
        self.queue.lock().waiting.push_back(Waiting { job, outcome: Arc::clone(&outcome) });
        Ticket(outcome)
    }

    /// Waits for the outcome, and leads if no other thread does.
    pub fn outcome(&self, shared: &Shared, Ticket(outcome): Ticket) -> Result<Tid> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(outcome) = outcome.lock().take() {
                return outcome.unwrap_or_else(|panic| resume_unwind(panic));
            }
            if queue.is_led {
                queue = self.changed.wait(queue);
                continue;
            }
            let alone = |waiting: &Waiting| waiting.job.is_spilled || !waiting.job.blobs.is_empty();
            let together = queue.waiting.iter().take(BATCH_MAX).take_while(|waiting| !alone(waiting)).count();
            let count = together.max(1).min(queue.waiting.len());
            let batch: Vec<_> = queue.waiting.drain(..count).collect();
            queue.is_led = true;
            drop(queue);
            let lead = Lead(self);
            write(shared, batch);
            drop(lead);
            // The others do not wait for that.
            blobs::remove_forgotten(shared);
            queue = self.queue.lock();
        }
    }
}

/// Ends the lead, also after a panic.
struct Lead<'a>(&'a Commits);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().is_led = false;
        self.0.changed.notify_all();
    }
}

/// Writes a batch; each outcome is handed over.
fn write(shared: &Shared, mut batch: Vec<Waiting>) {
    let mut told = Vec::new();
    // Nothing is told within the turn: a listener may read and vote.
    let mut turn = shared.store.turn();
    while !batch.is_empty() {
        match step(shared, &mut turn, &batch) {
            Ok(tids) => {
                told.extend(batch.drain(..).zip(tids.into_iter().map(Ok)));
            }
            // Only this one is to blame.
            Err((Some(at), error)) => told.push((batch.remove(at), Err(error))),
            Err((None, error)) => {
                let cause = error.to_string();
                let mut error = Some(error);
                for waiting in batch.drain(..) {
                    let error = error.take().unwrap_or_else(|| shared.store.error(&cause));
                    told.push((waiting, Err(error)));
                }
            }
        }
    }
    let _telling = shared.telling.lock();
    drop(turn);
    for (waiting, outcome) in told {
        waiting.end(shared, outcome);
    }
}

/// One step of the store with all of them. An error names the one that is to blame, if one is.
fn step(shared: &Shared, turn: &mut Turn, batch: &[Waiting]) -> Result<Vec<Tid>, (Option<usize>, Error)> {
    if let [Waiting { job, .. }] = batch
        && !job.blobs.is_empty()
    {
        return step_with_blobs(shared, turn, job).map(|tid| vec![tid]).map_err(|error| (None, error));
    }
    let mut blamed = None;
    let done = change_and_forget(shared, turn, |tables, number, forgetting| {
        let mut last = tables.last()?;
        let mut tids = Vec::with_capacity(batch.len());
        for (n, Waiting { job, .. }) in batch.iter().enumerate() {
            blamed = Some(n);
            let tid = job.meta.tid_after(last, &*shared.options.clock)?;
            tables.write(Ready { tid, meta: &job.meta, writes: &job.writes }, number)?;
            forgetting.after(tables, tid)?;
            tids.push(tid);
            last = tid;
        }
        blamed = None;
        Ok(tids)
    });
    done.map_err(|error| (if shared.store.is_failed() { None } else { blamed }, error))
}

/// Rule 8.6: the same with a transaction that has blobs.
fn step_with_blobs(shared: &Shared, turn: &mut Turn, job: &Job) -> Result<Tid> {
    let tid = job.meta.tid_after(shared.store.now().last, &*shared.options.clock)?;
    let names: Vec<_> = job.blobs.iter().map(|(oid, _)| (*oid, tid)).collect();
    blobs::change_with(shared, turn, &names, |tables, number, names, forgetting| {
        if !names.are_given(tid) {
            names.give(&job.blobs, tid)?;
        }
        tables.write(Ready { tid, meta: &job.meta, writes: &job.writes }, number)?;
        forgetting.after(tables, tid)
    })?;
    Ok(tid)
}
