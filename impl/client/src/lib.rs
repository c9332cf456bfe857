//! A client of ZEO's servers: Vellum's and the real one.
//!
//! The protocol is a **machine without sockets, threads or clock**, as the server's is: [`Machine::step`] takes an
//! [`Event`] and returns [`Effect`]s. It is a value that can be cloned, compared and hashed, so that every order of
//! events can be tried:
//!
//! ```text
//!   the application asks, Event::Asked ──┐
//!   messages arrive, Event::Received ────┼─▶ Machine::step ─▶ Effect::Send ─────▶ to the server
//!   connections end, Event::Lost ────────┘               ├─▶ Effect::Resolve ──▶ the answer to what was asked
//!                                                        └─▶ Effect::Connect, Close, Tell, WakeAt
//! ```
//!
//! Around it are the **shell**, which moves bytes by TCP, Unix sockets and TLS; [`Client`], whose calls return
//! [`Promise`]s; and [`RemoteStorage`], a storage as any other, whose calls block.
//!
//! # What the machine promises
//!
//! - **One state at a time**: all that is loaded is as of the last transaction that the client knows. A transaction is
//!   known whole, with all its invalidations, or not at all.
//! - **Nothing stale is current**: if an object was changed while an answer was on its way, the answer is kept as a
//!   past revision, and not as the current one. After a reconnection the server says which objects were changed;
//!   revisions that have ended stay right.
//! - **Each question has one answer**, in bounded time: a reading call is repeated by itself if its connection ends; a
//!   transaction ends with its connection; a finish whose answer is lost is [unknown](ClientError::OutcomeUnknown), and
//!   is never tried again.
//! - **A server that was rolled back is not believed** until the application says that it is right
//!   ([`Client::forget`]).
//! - **A cache file is believed when it was verified** ([`ClientOptions::cache_file`]): the server has shown that it
//!   has the same database, and has said what was changed since.
//! - **Fetching ahead changes no answer**: [`Client::load_many`] and [`Client::prefetch`] keep part 9 of the rules.
//! - **Versions** are an extension of Vellum's servers, for clients that ask for it ([`ClientOptions::versions`]).
//! - **A server that lies is left**: an answer to what nobody asked, of another shape or of another moment closes the
//!   connection. Memory is bounded, whatever it sends.
#![forbid(unsafe_code)]

mod answers;
mod ask;
mod cache;
mod client;
mod error;
mod event;
mod hint_file;
mod hints;
mod keep;
mod machine;
mod options;
mod promise;
mod remote;
mod shell;
mod tiers;
mod trace;
mod transaction;

pub use ask::{Answer, Ask, BlobPart, Conflict, Info, IteratorId, Patience, TransactionId, Voted};
pub use client::{Client, View};
pub use error::ClientError;
pub use event::{ConnectionId, Effect, Event, PromiseId, Told};
pub use keep::Cache;
pub use machine::{Access, Config, Machine};
pub use options::ClientOptions;
pub use promise::Promise;
pub use remote::RemoteStorage;
pub use shell::dial::{Address, Dial, Dialing, Stream};
pub use shell::tls;
pub use tiers::TieredCache;
pub use transaction::Transaction;
pub use vellum_wire::{Extension, Reach};
