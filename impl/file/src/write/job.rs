//! A voted transaction on its way into the file.
//!
//! ```text
//!   vote     Pledge   records, in which a pack may still change positions
//!   finish   Job      the pledge in the queue, with what its thread waits for
//!   leader   Placed   the records, which no pack changes any more, with a tid and a position
//! ```

use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_storage::{Held, Notify, Result, Tid, TransactionMeta};
use vellum_sync::{Mutex, thread};

use crate::write::pledge::Pledge;
use crate::write::record::{NewRecord, records_at};

/// Where a transaction's outcome appears: a result, or the panic of its `notify`, which is for its own thread.
pub(crate) type Ticket = Arc<Mutex<Option<thread::Result<Result<Tid>>>>>;

/// What the thread that finishes a transaction waits for, and the objects that it holds until then.
pub(crate) struct Claim {
    pub held: Held,
    pub ticket: Ticket,
}

impl Claim {
    /// Gives the objects back, and only then the outcome: its thread may take it as soon as it is there, and whatever that
    /// thread then asks for is not busy.
    pub fn hand_over(self, outcome: thread::Result<Result<Tid>>) {
        drop(self.held);
        *self.ticket.lock() = Some(outcome);
    }
}

/// A voted transaction that may be written.
pub(crate) struct Job {
    pub meta: TransactionMeta,
    pub pledge: Arc<Pledge>,
    /// All bytes that it will take.
    pub length: u64,
    pub notify: Notify,
    pub claim: Claim,
}

/// A transaction with its place in the file.
pub(crate) struct Placed {
    pub tid: Tid,
    pub position: u64,
    pub meta: TransactionMeta,
    pub records: Vec<NewRecord>,
    /// Data of it that is not in memory.
    pub scratch: Option<Arc<dyn DiskFile>>,
    /// All bytes that it takes.
    pub length: u64,
    pub notify: Option<Notify>,
    /// None if one thread holds the objects of many transactions, and waits for all of them.
    pub claim: Option<Claim>,
}

impl Placed {
    /// Where the next transaction begins.
    pub fn end(&self) -> u64 {
        self.position + self.length
    }

    /// Its records, each with its place.
    pub fn records(&self) -> impl Iterator<Item = (&NewRecord, u64)> {
        let mut next = self.position + records_at(&self.meta);
        self.records.iter().map(move |record| {
            let position = next;
            next += record.length();
            (record, position)
        })
    }
}
