//! A server and its clients in one thread.
//!
//! The machine that is tested is the one that ships. Around it there is no network: a test says which message arrives
//! when, and when a storage is done with what it was asked for. So every order can be told, and told again.
//!
//! - [`Site`] is a server with a storage, and clients by name. Everything that is said is written down, as a story.
//! - [`Beliefs`] is what a client may believe after what it was told. It panics if the server tells it something wrong:
//!   transactions out of order, an answer twice, an answer that contradicts an invalidation.
//! - [`play`] plays a game by dice, with several clients whose beliefs are checked, and messages and storages in any
//!   order.
//! - [`Party`] is such a server with the machines of clients that ship, and [`play_clients`] a game of theirs: in every
//!   order of arrivals and cuts, each answer is a state that the database had. [`play_clients_over_core`] plays it with
//!   the client cache of `vellum-cache`, and kills clients.
#![forbid(unsafe_code)]

mod beliefs;
mod client_game;
mod game;
mod party;
mod show;
mod site;

pub use beliefs::Beliefs;
pub use client_game::{play_clients, play_clients_over_core};
pub use game::play;
pub use party::Party;
pub use show::{show, value};
pub use site::{BLOB_RECORD, Site, TRANSACTION, config};
