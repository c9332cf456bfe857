//! The second phase: one append and its syncs for everybody who is ready.
//!
//! Whoever finishes a transaction puts it into the queue. If nobody leads, he leads: takes all that is queued, gives out
//! the tids, writes everything in one go behind the horizon, makes it durable, and moves the horizon past each of them.
//! The others sleep until theirs is done; those that came meanwhile are the next batch.
//!
//! ```text
//!   queue   A  B  C │ D  E           leader A:  write A B C (status c) · sync · mark · sync · show A, show B, show C
//!           └─batch─┘ └─ next        leader D:  write D E ...
//! ```
//!
//! The batch's transactions touch different objects: each holds its own since the vote, and gives them back when it is
//! shown.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_storage::{Error, Held, Notify, Result, Status, Tid, TransactionMeta};
use vellum_sync::{Condvar, Mutex, MutexGuard, thread};

use crate::Durability;
use crate::format::POSITION_MAX;
use crate::read::generation::Generation;
use crate::storage::Inner;
use crate::write::append::{Broken, Placed, write};
use crate::write::pledge::Pledge;
use crate::write::vote::NewRecord;

/// A transaction that may be written.
pub(crate) struct Job {
    pub meta: TransactionMeta,
    /// Of one that was voted on: filled from the pledge when its turn has come.
    pub records: Vec<NewRecord>,
    pub pledge: Option<Arc<Pledge>>,
    /// Bytes from its start to the second length.
    pub length: u64,
    pub scratch: Option<Arc<dyn DiskFile>>,
    pub notify: Notify,
    /// None if somebody holds the objects of many jobs.
    pub held: Option<Held>,
}

/// The queue before the disk.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Job, Ticket)>,
    /// Somebody is writing.
    led: bool,
    /// Why nothing more may be written.
    failed: Option<String>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).field("failed", &self.failed).finish()
    }
}

/// Where a job's outcome appears: a result, or the panic of its `notify`, which is for its own thread.
pub(crate) type Ticket = Arc<Mutex<Option<thread::Result<Result<Tid>>>>>;

/// At most so many bytes share a sync, so that nobody waits for too much of what is others'.
const BATCH_BYTES_MAX: u64 = 16 << 20;

impl Committer {
    /// An error if an earlier write left open what is on the disk.
    pub fn usable(&self, storage: &Inner) -> Result<()> {
        match &self.queue().failed {
            None => Ok(()),
            Some(cause) => Err(failed(storage, cause)),
        }
    }

    /// How many transactions wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    /// Whether somebody writes, or waits to.
    pub fn is_busy(&self) -> bool {
        let queue = self.queue();
        queue.led || !queue.waiting.is_empty()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Does something while nobody else writes. An error that is fatal is a reason to write nothing more.
    pub fn alone<T>(&self, storage: &Inner, work: impl FnOnce() -> Result<T, (Error, bool)>) -> Result<T> {
        let mut queue = self.queue();
        while queue.led {
            queue = self.changed.wait(queue);
        }
        if let Some(cause) = &queue.failed {
            return Err(failed(storage, cause));
        }
        queue.led = true;
        drop(queue);
        let cause = Some("a panic while many transactions were being written".to_owned());
        let mut lead = Lead { storage, committer: self, tickets: Vec::new(), cause };
        let done = work();
        lead.cause = match &done {
            Err((error, true)) => Some(error.to_string()),
            _ => None,
        };
        done.map_err(|(error, _)| error)
    }

    /// Writes the job, alone or with others.
    pub fn finish(&self, storage: &Inner, job: Job) -> Result<Tid> {
        let ticket = Ticket::default();
        let mut queue = self.queue();
        queue.waiting.push((job, Arc::clone(&ticket)));
        loop {
            if let Some(outcome) = ticket.lock().take() {
                drop(queue);
                return outcome.unwrap_or_else(|panic| resume_unwind(panic));
            }
            if queue.led {
                queue = self.changed.wait(queue);
                continue;
            }
            let batch = next_batch(storage, &mut queue.waiting);
            queue.led = true;
            let broken = queue.failed.clone();
            drop(queue);
            let tickets = batch.iter().map(|(_, ticket)| Arc::clone(ticket)).collect();
            // What is left of it if the thread panics.
            let cause = Some("a panic while a commit was being written".to_owned());
            let mut lead = Lead { storage, committer: self, tickets, cause };
            match broken {
                Some(cause) => {
                    batch.into_iter().for_each(|(job, ticket)| put(job.held, &ticket, Err(failed(storage, &cause))));
                    lead.cause = None;
                }
                None => lead.cause = run(storage, batch).err(),
            }
            drop(lead);
            queue = self.queue();
        }
    }
}

/// Ends a turn of leading, also when something panicked in it: then nobody knows what is on the disk.
struct Lead<'a> {
    storage: &'a Inner,
    committer: &'a Committer,
    tickets: Vec<Ticket>,
    cause: Option<String>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = self.committer.queue();
        if let Some(cause) = self.cause.take() {
            for ticket in &self.tickets {
                let mut outcome = ticket.lock();
                outcome.get_or_insert_with(|| Ok(Err(failed(self.storage, &cause))));
            }
            queue.failed.get_or_insert(cause);
        }
        queue.led = false;
        drop(queue);
        self.committer.changed.notify_all();
    }
}

fn failed(storage: &Inner, cause: &str) -> Error {
    Error::Failed { name: storage.path.display().to_string(), cause: cause.to_owned() }
}

fn put(held: Option<Held>, ticket: &Ticket, outcome: Result<Tid>) {
    hand_over(held, ticket, Ok(outcome));
}

/// Gives the objects back, and only then the outcome: its thread may take it as soon as it is there, and whoever hears of
/// it from that thread finds nothing busy.
fn hand_over(held: Option<Held>, ticket: &Ticket, outcome: thread::Result<Result<Tid>>) {
    drop(held);
    *ticket.lock() = Some(outcome);
}

/// Takes from the queue what may share a sync. Those of one status, so that opening knows what a mark that is missing was to
/// be. A transaction that lies in a scratch file goes alone, so that its trouble
/// is nobody else's; and so does every one if there is but one sync (see [`Durability::Relaxed`]).
fn next_batch(storage: &Inner, waiting: &mut Vec<(Job, Ticket)>) -> Vec<(Job, Ticket)> {
    let mut bytes = 0;
    let status = waiting.first().map(|(job, _)| job.meta.status);
    let mut fits = |job: &Job| {
        bytes += job.length;
        Some(job.meta.status) == status
            && job.scratch.is_none()
            && bytes <= BATCH_BYTES_MAX
            && storage.durability == Durability::Full
    };
    let count = waiting.iter().take_while(|(job, _)| fits(job)).count().max(1).min(waiting.len());
    let rest = waiting.split_off(count);
    mem::replace(waiting, rest)
}

/// Writes a batch. An error is a reason to write nothing more; whatever happens, every job's outcome is put.
fn run(storage: &Inner, batch: Vec<(Job, Ticket)>) -> Result<(), String> {
    let now = storage.now();
    let (start, mut last) = now.horizon.get();
    let mut end = start;
    let mut placed = Vec::with_capacity(batch.len());
    for (mut job, ticket) in batch {
        // From here to its end there is no pack that would move what they name.
        if let Some(pledge) = job.pledge.take() {
            job.records = mem::take(&mut pledge.records());
        }
        match place(storage, &job, end, last) {
            Ok(tid) => {
                let this = Placed { job, ticket, tid, position: end };
                (end, last) = (this.end(), tid);
                placed.push(this);
            }
            Err(e) => put(job.held, &ticket, Err(e)),
        }
    }
    if placed.is_empty() {
        return Ok(());
    }
    if let Err(Broken { doing, source, fatal }) = write(&now, storage.durability, &placed, start) {
        for this in placed {
            // An io::Error can not be cloned.
            let source = io::Error::new(source.kind(), source.to_string());
            put(this.job.held, &this.ticket, Err(Error::io(&storage.path, doing, source)));
        }
        return if fatal { Err(format!("{doing}: {source}")) } else { Ok(()) };
    }
    show(storage, &now, placed);
    Ok(())
}

/// Shows what is durable to everybody, one after the other.
pub(crate) fn show(storage: &Inner, now: &Generation, placed: Vec<Placed>) {
    for mut this in placed {
        let (tid, end) = (this.tid, this.end());
        let is_packed = this.job.meta.status == Status::Packed;
        for (record, position) in this.records() {
            if is_packed {
                now.hides(record.oid, position);
            }
        }
        let mut index = now.index.writer();
        this.records().for_each(|(record, position)| index.set(record.oid, position));
        drop(index);
        this.records().for_each(|(record, _)| now.index.learn(record.oid, record.length()));
        // It is on the disk: whatever the one who hears of it does, it is shown, and so are the others.
        let notify = mem::replace(&mut this.job.notify, Box::new(|_| ()));
        let outcome = catch_unwind(AssertUnwindSafe(|| notify(tid))).map(|()| Ok(tid));
        now.horizon.advance(end, tid);
        // Not before it is shown: nobody may see a version that is not there yet. If somebody has the table, he brings it
        // up to date himself.
        if let Some(mut table) = now.try_version_table() {
            let records = this.records().map(|(record, position)| (record.oid, &record.version, position));
            table.follow(this.position, end, records);
        }
        hand_over(this.job.held, &this.ticket, outcome);
    }
    // Last: an index that is saved meanwhile ends before some of them.
    storage.index_changed();
}

/// The tid that the job gets.
fn place(storage: &Inner, job: &Job, position: u64, last: Tid) -> Result<Tid> {
    if position + job.length + 8 > POSITION_MAX {
        return Err(Error::Exhausted { what: "file positions (256 TiB)" });
    }
    // Each store looked at its own transaction; here are those that came together, and records that were merged.
    storage.within_quota(position + job.length + 8)?;
    match job.meta.tid {
        Some(tid) if tid <= last => Err(Error::TidNotLater { tid, last }),
        Some(tid) => Ok(tid),
        None if last == Tid::MAX => Err(Error::Exhausted { what: "tids" }),
        None => Ok(Tid::at(storage.clock.now()).max(last.next())),
    }
}
