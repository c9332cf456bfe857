//! A server and its clients in one thread.
//!
//! The machine that is tested is the one that ships. Around it there is no network: a test says which message arrives when,
//! and when a storage is done with what it was asked for. So every order can be told, and told again.
//!
//! - [`Site`] is a server with a storage, and clients by name. Everything that is said is written down, as a story.
//! - [`Beliefs`] is what a client may believe after what it was told. It panics if the server tells it something wrong:
//!   transactions out of order, an answer twice, an answer that contradicts an invalidation.
//! - [`play`] plays a game by dice, with several clients whose beliefs are looked at, and messages and storages in any order.
#![forbid(unsafe_code)]

mod beliefs;
mod game;
mod show;
mod site;

pub use beliefs::Beliefs;
pub use game::play;
pub use show::{show, value};
pub use site::{BLOB_RECORD, Site, TRANSACTION, config};
