//! A voted transaction on its way into the file.
//!
//! ```text
//!   vote     Pledge   records, in which a pack may still change positions
//!   finish   Job      the pledge in the queue, with what its thread waits for
//!   leader   Placed   the records, which no pack changes any more, with a tid and a position
//! ```

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vellum_blob::Claimed;
use vellum_storage::{Error, Held, Oid, Origin, Result, Tid, TransactionMeta};
use vellum_sync::{Mutex, thread};

use crate::order;
use crate::write::pledge::Pledge;
use crate::write::record::{NewRecord, length, records_at};

/// Where a transaction's outcome appears: a result, or the panic of a listener, which is for its own thread.
pub(crate) type Ticket = Arc<Mutex<Option<thread::Result<Result<Tid>>>, order::Outcome>>;

/// The outcome that the finishing thread waits for, and the objects that it holds until then.
pub(crate) struct Claim {
    pub held: Held,
    pub ticket: Ticket,
}

impl Claim {
    /// Gives the objects back, tells others, and only then hands the outcome over: the thread that waits for it may go
    /// on as soon as it is there. By then nothing of the transaction is busy, and all listeners have heard of it.
    pub fn hand_over(self, outcome: Result<Tid>, tell: impl FnOnce()) {
        drop(self.held);
        let told = catch_unwind(AssertUnwindSafe(tell));
        *self.ticket.lock() = Some(told.map(|()| outcome));
    }

    /// The same for a transaction that failed, of which there is nothing to tell.
    pub fn fail(self, error: Error) {
        self.hand_over(Err(error), || ());
    }
}

/// A voted transaction that may be written.
pub(crate) struct Job {
    pub meta: TransactionMeta,
    pub pledge: Arc<Pledge>,
    pub blobs: Vec<(Oid, Claimed)>,
    /// All bytes that it will take.
    pub length: u64,
    pub origin: Origin,
    pub claim: Claim,
}

/// A transaction with its place in the file.
pub(crate) struct Placed {
    pub tid: Tid,
    pub position: u64,
    pub meta: TransactionMeta,
    pub records: Vec<NewRecord>,
    /// The blobs of its objects.
    pub blobs: Vec<(Oid, Claimed)>,
    /// All bytes that it takes.
    pub length: u64,
    /// None if one thread holds the objects of many transactions, and waits for all of them.
    pub alone: Option<Alone>,
}

/// The further parts of a transaction that is finished by itself.
pub(crate) struct Alone {
    pub origin: Origin,
    pub claim: Claim,
}

impl From<Job> for Placed {
    /// With no place yet. From here to its end there is no pack that would change the positions that its records name.
    fn from(Job { meta, pledge, blobs, length, origin, claim }: Job) -> Placed {
        let records = mem::take(&mut *pledge.records());
        let alone = Some(Alone { origin, claim });
        Placed { tid: Tid::ZERO, position: 0, meta, records, blobs, length, alone }
    }
}

impl Placed {
    /// Nothing of it is there: its thread gets the error.
    pub fn fail(self, error: Error) {
        if let Some(Alone { claim, .. }) = self.alone {
            claim.fail(error);
        }
    }

    /// Where the next transaction begins.
    pub fn end(&self) -> u64 {
        self.position + self.length
    }

    /// Its records, each with its place.
    pub fn records(&self) -> impl Iterator<Item = (&NewRecord, u64)> {
        let mut next = self.position + records_at(&self.meta);
        self.records.iter().map(move |record| {
            let position = next;
            next += length(record);
            (record, position)
        })
    }
}
