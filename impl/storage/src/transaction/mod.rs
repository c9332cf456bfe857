//! A transaction as a value, and part 3 of the rules, written once for every storage.
//!
//! A [`Draft`] is plain data: metadata and a list of [`Change`], one variant for each of rules 3.1 to 3.7. It can be
//! cloned, compared, hashed and printed, and it belongs to no storage. At the vote, [`judge()`] checks it against a
//! storage's [`Past`], a handful of questions that each storage answers in its own terms. The [`Verdict`] lists the
//! writes, the merged objects and the locks; a storage writes it, a concurrent pack reads it, and a preview shows it.
//!
//! ```text
//!   Draft ── vote ──▶ wants ──▶ ObjectLocks ──▶ judge ──▶ Verdict ──▶ Voted ── finish ──▶ Tid
//!   changes           what to    Held, or Busy    │  ▲      writes      │
//!                     lock       and a Waker      ▼  │      merged      └─ drop: nothing of it stays
//!                                                Past       wants
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `change.rs`, `draft.rs` | the changes of a transaction |
//! | `data.rs` | a record in memory, or in a scratch file when a transaction is large |
//! | `past.rs` | the questions of part 3 to a storage |
//! | `judge.rs` | the rules, one function each |
//! | `verdict.rs`, `refusal.rs` | the two answers |
//! | `locks.rs` | the locks of voted transactions, and the queue of waiting ones |
//! | `vote.rs` | locks, then judges; a voted transaction |

mod change;
mod data;
mod draft;
mod judge;
mod locks;
mod past;
mod refusal;
mod verdict;
mod vote;

pub use change::Change;
pub use data::{Data, Scratch, ScratchFile};
pub use draft::{Draft, Limits, Origin};
pub use judge::{judge, wants};
pub use locks::{Busy, Held, ObjectLocks, Ticket, Want, Wants};
pub use past::{Past, PastRevision};
pub use refusal::{NotUndone, Refusal, WhyNot};
pub use verdict::{Content, Verdict, Write, touched};
pub use vote::{Finishing, Judged, Prepared, Vote, Voted, Waiting, lock_and_judge, wait};
