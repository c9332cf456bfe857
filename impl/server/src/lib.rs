//! Serves storages to ZEO's clients.
//!
//! The protocol is a **machine without sockets, threads or clock**: [`Machine::step`] takes an [`Event`] and returns
//! [`Effect`]s. So a test can do everything that happens between two events:
//!
//! ```text
//!   bytes ─▶ frames ─▶ messages ─▶ Event::Received ─┐
//!   the storage reports a commit, Event::Told ──────┼─▶ Machine::step ─▶ Effect::Send ─▶ messages ─▶ bytes
//!   a storage call is done, Event::Done ────────────┘                └─▶ Effect::Run ─▶ Worker ─▶ Event::Done
//! ```
//!
//! A call of the storage is an effect, and its result is an event. So a load that is read from the disk while a commit
//! is finished is two events with something in between. That is where this protocol's bugs have always been.
//!
//! # What the machine promises
//!
//! - **Invalidations** are sent in the order of the tids, to every client of the storage but the one that finished the
//!   transaction, empty transactions included, and each only when the transaction can be read.
//! - **No answer is from the future**: a load that found a transaction is answered after that transaction's
//!   invalidation; the last tid that a client is told is never later than the invalidations that it got.
//! - **No answer is stale**: a load that was under way while its object was changed is done again.
//! - **A finish is answered** when its invalidation is queued for all other clients.
//! - **Nothing outlives its client**: when the connection ends, on either side, its transaction, locks and iterators
//!   are gone.
#![forbid(unsafe_code)]

mod answers;
mod background;
pub mod conf;
mod connection;
mod conversation;
mod door;
mod event;
mod faults;
mod hub;
mod iterators;
mod latency;
mod link;
mod machine;
pub mod monitor;
mod net;
mod oids;
mod reach;
pub mod report;
mod served;
pub mod tls;
mod transaction;
mod worker;

pub use door::Door;
pub use event::{ConnectionId, Effect, Event, Info, Job, JobId, Outcome, Question, StorageId, Work};
pub use hub::Offered;
pub use machine::{Config, Machine, Memory};
pub use monitor::Monitor;
pub use net::{Address, Server, ServerOptions};
pub use oids::OidMark;
pub use reach::Walk;
pub use served::{Counters, Description, Served};
pub use vellum_wire::Codec;
pub use worker::{Store, Worker};
