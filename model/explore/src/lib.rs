//! Every order of messages, failures and reconnections, on the machines that ship.
//!
//! The server's machine ([`vellum_server::Machine`]) and the clients' ([`vellum_client::Machine`]) are values: an event
//! goes in, effects come out, and a state can be cloned and hashed. Here they are put into a world in which every
//! detail is a choice: the message that arrives next, the moment at which the storage is done with a call, the
//! connection that is cut. stateright goes through **all** choices, and each state is checked against the rules.
//!
//! ```text
//!   application's threads      Step: load, write, abort, sync, pack
//!          │  ask ▼ ▲ answer
//!      Client machine          a Link: two queues, which can be cut at any point;
//!          │ ▲                 what one connection carried never arrives by the next
//!      Server machine
//!          │ ▲                 a call is asked for, done, and told: three moments
//!        Store                 the specification itself, model/spec
//! ```
//!
//! | read | for |
//! |---|---|
//! | [`Situation`] | the clients' steps, and the failures that may happen: small, so that it can be explored to its end |
//! | [`Action`] | the things that may happen next |
//! | [`Broken`] | the rules, in plain words |
//! | [`Seen`] | interesting orders of events, each of which must occur |
//! | [`explore`] | the one way to run it: to the end, or with "cut short" as an outcome of its own |
//! | [`graph`] | shortest paths, and the search for those who wait for ever |
//! | [`transcript`](mod@transcript) | a path as a story, and back |
//!
//! # What is not here
//!
//! Bytes, sockets and the two shells: frames are cut at will by the tests of `vellum-wire`, and the shells are tested
//! over real sockets. The order of messages in a connection is TCP's: in order, until it ends. Blobs, versions and undo
//! are left to the games by dice of `vellum-network` and to the harness.
#![forbid(unsafe_code)]

mod action;
mod check;
pub mod graph;
mod judge;
mod part;
mod situation;
mod state;
mod step;
mod store;
mod threads;
pub mod transcript;
mod world;

pub use action::Action;
pub use check::{Outcome, Run, explore, nobody_waits};
pub use situation::{DEEP, Lie, SITUATIONS, Seen, Situation, Step};
pub use state::{Broken, Client, End, Failures, Fate, Link, Stage, State, Thread};
pub use store::Name;
pub use world::World;
