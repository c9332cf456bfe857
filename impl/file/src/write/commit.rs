//! The second phase: group commit, one append and its syncs for all transactions that are ready.
//!
//! A thread that finishes a transaction puts it into the queue. If no thread leads, it becomes the leader: it takes all
//! queued transactions, gives out the tids, writes them in one go behind the horizon, makes them durable, and moves the
//! horizon past each of them. The other threads sleep until their transaction is done. Transactions that arrive during
//! that are the next batch.
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
use std::panic::resume_unwind;
use std::sync::Arc;

use vellum_storage::{Error, Event, Result, Status, Tid, TransactionMeta, touched};
use vellum_sync::{Condvar, Holding, Mutex, MutexGuard};

use crate::format::POSITION_MAX;
use crate::options::Durability;
use crate::order;
use crate::read::database::Database;
use crate::read::generation::Generation;
use crate::write::append::Broken;
use crate::write::job::{Alone, Job, Placed, Ticket};
use crate::write::journaled::{Journal, is_small};
use crate::write::record::length;

/// The queue before the disk.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    queue: Mutex<Queue, order::Queue>,
    changed: Condvar,
    pub journal: Journal,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Job>,
    /// A leader is writing.
    led: bool,
    /// Why nothing more may be written.
    failed: Option<String>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).field("failed", &self.failed).finish()
    }
}

/// At most so many bytes share a sync, so that no thread waits for too many bytes of others.
const BATCH_BYTES_MAX: u64 = 16 << 20;

impl Committer {
    /// An error if an earlier write left the state of the disk unknown.
    pub fn usable(&self, database: &Database) -> Result<()> {
        match &self.queue().failed {
            None => Ok(()),
            Some(cause) => Err(failed(database, cause)),
        }
    }

    /// Whether an earlier write left the state of the disk unknown.
    pub fn is_failed(&self) -> bool {
        self.queue().failed.is_some()
    }

    /// How many transactions wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    /// Whether a thread writes, or waits to.
    pub fn is_busy(&self) -> bool {
        let queue = self.queue();
        queue.led || !queue.waiting.is_empty()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Does something while no other thread writes. An error that is fatal is a reason to write nothing more.
    pub fn alone<T>(&self, database: &Database, work: impl FnOnce() -> Result<T, (Error, bool)>) -> Result<T> {
        let mut queue = self.queue();
        while queue.led {
            queue = self.changed.wait(queue);
        }
        if let Some(cause) = &queue.failed {
            return Err(failed(database, cause));
        }
        queue.led = true;
        drop(queue);
        let cause = Some("a panic while many transactions were being written".to_owned());
        let mut lead = Lead::begin(database, self, Vec::new(), cause);
        let done = work();
        lead.cause = match &done {
            Err((error, true)) => Some(error.to_string()),
            _ => None,
        };
        done.map_err(|(error, _)| error)
    }

    /// Queues the job.
    pub fn enqueue(&self, job: Job) -> Ticket {
        let ticket = Arc::clone(&job.claim.ticket);
        self.queue().waiting.push(job);
        ticket
    }

    /// Waits until a queued job is written, alone or with others: this thread leads if no other does.
    pub fn outcome(&self, database: &Database, ticket: &Ticket) -> Result<Tid> {
        let mut queue = self.queue();
        loop {
            if let Some(outcome) = ticket.lock().take() {
                drop(queue);
                return outcome.unwrap_or_else(|panic| resume_unwind(panic));
            }
            if queue.led {
                queue = self.changed.wait(queue);
                continue;
            }
            let batch = next_batch(database.options.durability, self.journal.batch_max(), &mut queue.waiting);
            queue.led = true;
            let broken = queue.failed.clone();
            drop(queue);
            let tickets = batch.iter().map(|job| Arc::clone(&job.claim.ticket)).collect();
            // The error of the ticket if the thread panics.
            let cause = Some("a panic while a commit was being written".to_owned());
            let mut lead = Lead::begin(database, self, tickets, cause);
            match broken {
                Some(cause) => {
                    batch.into_iter().for_each(|job| job.claim.fail(failed(database, &cause)));
                    lead.cause = None;
                }
                None => lead.cause = run(database, &self.journal, batch).err(),
            }
            drop(lead);
            queue = self.queue();
        }
    }
}

/// Ends a turn of leading, also after a panic in it: then the state of the disk is unknown.
struct Lead<'a> {
    database: &'a Database,
    committer: &'a Committer,
    tickets: Vec<Ticket>,
    cause: Option<String>,
    _turn: Holding,
}

impl<'a> Lead<'a> {
    fn begin(
        database: &'a Database,
        committer: &'a Committer,
        tickets: Vec<Ticket>,
        cause: Option<String>,
    ) -> Lead<'a> {
        Lead { database, committer, tickets, cause, _turn: Holding::enter::<order::Turn>() }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = self.committer.queue();
        if let Some(cause) = self.cause.take() {
            for ticket in &self.tickets {
                let mut outcome = ticket.lock();
                outcome.get_or_insert_with(|| Ok(Err(failed(self.database, &cause))));
            }
            queue.failed.get_or_insert(cause);
        }
        queue.led = false;
        drop(queue);
        self.committer.changed.notify_all();
    }
}

fn failed(database: &Database, cause: &str) -> Error {
    Error::Failed { name: database.name(), cause: cause.to_owned() }
}

/// Takes from the queue the transactions that may share a sync. They have one status, so that opening can complete
/// missing marks. A transaction with a scratch file goes alone, so that its errors affect no other; and so does every
/// transaction if there is only one sync (see [`Durability::Relaxed`]). If the first one can go to the journal, which
/// takes batches up to `journal_max`, the batch can.
fn next_batch(durability: Durability, journal_max: Option<u64>, waiting: &mut Vec<Job>) -> Vec<Job> {
    let mut bytes = 0;
    let status = waiting.first().map(|job| job.meta.status);
    let journal_max = journal_max.filter(|&max| waiting.first().is_some_and(|job| is_small(job, max)));
    let mut fits = |job: &Job| {
        bytes += job.length;
        Some(job.meta.status) == status
            && !job.pledge.is_spilled
            && bytes <= journal_max.unwrap_or(BATCH_BYTES_MAX)
            && journal_max.is_none_or(|max| is_small(job, max))
            && durability != Durability::Relaxed
    };
    let count = waiting.iter().take_while(|job| fits(job)).count().max(1).min(waiting.len());
    let rest = waiting.split_off(count);
    mem::replace(waiting, rest)
}

/// Writes a batch. An error is a reason to write nothing more; whatever happens, every job's outcome is put. If one
/// transaction fails for a reason of its own, the others are written without it.
fn run(database: &Database, journal: &Journal, batch: Vec<Job>) -> Result<(), String> {
    let now = database.now();
    let mut placed: Vec<_> = batch.into_iter().map(Placed::from).collect();
    loop {
        placed = in_their_places(database, &now, placed);
        if placed.is_empty() {
            return Ok(());
        }
        let Err(Broken { doing, source, fatal, culprit }) = journal.write(&now, database, &placed, now.horizon.end())
        else {
            show(database, &now, placed);
            return Ok(());
        };
        let failed = match culprit.filter(|_| !fatal) {
            Some(n) => vec![placed.remove(n)],
            None => mem::take(&mut placed),
        };
        for this in failed {
            // An io::Error cannot be cloned.
            let source = io::Error::new(source.kind(), source.to_string());
            this.fail(Error::io(&database.path, doing, source));
        }
        if fatal {
            return Err(format!("{doing}: {source}"));
        }
    }
}

/// Gives transactions that touch different objects their tids and their places at the end of the file, one behind the
/// other, and fails those for which there is none.
fn in_their_places(database: &Database, now: &Generation, batch: Vec<Placed>) -> Vec<Placed> {
    let (mut end, mut last) = now.horizon.get();
    let mut placed = Vec::with_capacity(batch.len());
    for mut this in batch {
        match place(database, &this.meta, this.length, end, last) {
            Ok(tid) => {
                (this.tid, this.position) = (tid, end);
                (end, last) = (this.end(), tid);
                placed.push(this);
            }
            Err(error) => this.fail(error),
        }
    }
    placed
}

/// Makes the durable transactions visible, one after the other.
pub(crate) fn show(database: &Database, now: &Generation, placed: Vec<Placed>) {
    for this in placed {
        let (tid, end) = (this.tid, this.end());
        let is_packed = this.meta.status == Status::Packed;
        for (record, position) in this.records() {
            if is_packed {
                now.hides(record.oid, position);
            }
        }
        let mut index = now.index.writer();
        this.records().for_each(|(record, position)| index.set(record.oid, position));
        drop(index);
        this.records().for_each(|(record, _)| now.index.learn(record.oid, length(record)));
        now.horizon.advance(end, tid);
        // Not before the horizon: no reader may see a version that is not there yet. A thread that has the table brings
        // it up to date itself.
        if let Some(mut table) = now.try_version_table() {
            debug_assert!(now.horizon.end() >= end, "a version is shown that is not there yet");
            let records = this.records().map(|(record, position)| (record.oid, &record.version, position));
            table.follow(this.position, end, records);
        }
        if let Some(Alone { origin, claim }) = this.alone {
            let event = || Event::Committed { tid, oids: touched(&this.records), origin };
            claim.hand_over(Ok(tid), || database.listeners.tell(event));
        }
    }
    // Last: an index that is saved at the same time ends before some of them.
    database.index_changed();
}

/// The tid that a transaction of this length gets at this position.
fn place(database: &Database, meta: &TransactionMeta, length: u64, position: u64, last: Tid) -> Result<Tid> {
    if position + length > POSITION_MAX {
        return Err(Error::Exhausted { what: "file positions (256 TiB)" });
    }
    // Each store looked at its own transaction; here are those that came together, and records that were merged.
    database.within_quota(position + length)?;
    meta.tid_after(last, &*database.options.clock)
}
