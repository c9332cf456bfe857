//! The order of all locks (invariant 13 of ARCHITECTURE.md).
//!
//! A thread waits for a lock only while everything that it holds stands above it in this table. A debug build panics
//! otherwise (`vellum_sync::Rank`).
//!
//! ```text
//!      objects        vote, copy      objects and versions of a transaction, until its outcome is handed over
//!   1  Saving         Database        the thread that writes the .index
//!   2  Turn           Committer       the writer of the file: the leader of a batch, a batch copy, a pack
//!   3  Judging        Writer          read: positions are found and pledged; written: they change
//!   4  Pledges        Pledges         the list of all pledges
//!   5  Pledged        Pledge          the records of one
//!   6  Queue          Committer       transactions that wait for their turn
//!   7  Outcome        Ticket          how a commit ended
//!   8  Rounds         Journal         the open journal
//!   9  Versions       Generation      the table of versions
//!  10  IndexWriter    Index           the thread that changes the index
//!  11  IndexSparse    Index           its entries for oids that are not dense
//!  12  Hidden         Generation      where objects were before packed records
//! ```
//!
//! - Objects belong to a transaction and not to a thread, so they have no rank. A thread that waits for them holds no
//!   lock of the table at all (`vellum_sync::assert_none_held`).
//! - `packing` is only ever tried: no thread waits for it. A watcher of a pack may therefore commit, until commits are
//!   held.
//! - Listeners are told by the thread that has the turn, and so may not wait for objects, or commit.
//! - The other locks of the crate guard a buffer or a counter, and no other lock is taken under them.

use vellum_sync::Rank;

macro_rules! ranks {
    ($($order:literal $name:ident $called:literal;)*) => {
        $(
            #[derive(Debug)]
            pub(crate) struct $name;

            impl Rank for $name {
                const ORDER: u32 = $order;
                const NAME: &'static str = $called;
            }
        )*
    };
}

ranks! {
    1 Saving "the right to write the .index";
    2 Turn "the turn to write";
    3 Judging "judging";
    4 Pledges "the list of pledges";
    5 Pledged "a pledge's records";
    6 Queue "the queue of commits";
    7 Outcome "a commit's outcome";
    8 Rounds "the journal";
    9 Versions "the table of versions";
    10 IndexWriter "the index's writer";
    11 IndexSparse "the index's sparse entries";
    12 Hidden "the predecessors of packed records";
}
