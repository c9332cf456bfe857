//! Holds a storage to the rules.
//!
//! Two databases do the same history, which is generated at random: the specification, which is right by definition,
//! and the storage under test. That may be an engine of ours, a program at the other end of a pipe, or the real ZODB.
//! After every step the harness compares everything that can be seen of the two.
//!
//! ```text
//!                       ┌──▶ World: the specification, and open transactions ── which outcomes are right? ──┐
//!   dice ─▶ generate ─▶ step                                                                              equal?
//!                       └──▶ Subject: the storage ───────────────────────────── which one was it? ─────────┤
//!                              │                                                                           ▼
//!                              └── all questions, all answers ─────────────────────▶ Difference ─▶ shrink ─▶ script
//! ```
//!
//! | read | for |
//! |---|---|
//! | [`step`], [`question`], [`node`], [`tick`] | the words: steps, questions, records, moments |
//! | [`world`], [`expected`] | the answers of the rules: to a step, to a question |
//! | [`subject`] | a storage under test, and its capabilities |
//! | [`hosted`], [`pipe`], [`rules`] | three of them: anything that is a `Storage`; another process; the specification itself |
//! | [`compressed`] | a storage whose records are compressed, as if they were not |
//! | [`generate`], [`dice`] | histories: from a seed, from `proptest`, from a fuzzer's bytes |
//! | [`coverage`], [`blind`] | which corners of the rules the histories reached; which pairs of argument and state |
//! | [`run`], [`shrink`], [`campaign`] | playing one, making one short, playing thousands |
//! | [`crash`] | the same histories on a simulated disk, the power cut in every operation |
//! | [`concurrent`], [`linearize`] | many threads at once, and an explanation of all answers; the check, for any object |
//! | [`kill`] | a process that commits until it is killed, for tests on a real disk |
//! | [`small`] | every history of a small world: two objects, a few transactions |
//! | [`script`], [`story`] | histories as people write and read them; rules told as stories, with minutes |
//!
//! A difference shrinks to a few lines that can be kept and played again (`vellum-prove --script FILE`):
//!
//! ```text
//! store a 1 @0: 5
//! commit a @1
//! delete a 1 @1
//! commit a @2
//! ---
//! load_before 1 @2
//!     the rules: [5] since @1 until @2
//!     the storage: key error
//! ```
//!
//! # Your own storage
//!
//! ```
//! use std::sync::Arc;
//! use vellum_harness::{campaign::Campaign, hosted::{Hosted, Merger}, subject::Can};
//! use vellum_storage::MemoryStorage;
//!
//! let can = Can { concurrent: true, delete: true, check_current: true, resolve: true, ..Can::default() };
//! let subject = || -> Result<Box<dyn vellum_harness::subject::Subject>, String> {
//!     Ok(Box::new(Hosted::new("mine", can, |opening| {
//!         Ok(Box::new(MemoryStorage::with("mine", opening.clock, Arc::new(Merger))))
//!     })))
//! };
//! let campaign = Campaign { seed: 1, cases: 50, ..Campaign::default() };
//! let report = campaign.run(&subject, &|_| ())?;
//! assert!(report.found.is_empty(), "{}", report.found[0].difference);
//! # Ok::<(), String>(())
//! ```
//!
//! Not here: timing, and anything that a test could not repeat from a seed; except in [`concurrent`] and [`kill`],
//! where the machine chooses the order.
#![forbid(unsafe_code)]

pub mod adapters;
pub mod blind;
pub mod campaign;
pub mod compressed;
pub mod concurrent;
pub mod coverage;
pub mod crash;
pub mod dice;
pub mod expected;
pub mod generate;
pub mod hosted;
pub mod kill;
pub mod linearize;
pub mod node;
pub mod pipe;
pub mod question;
pub mod rules;
pub mod run;
pub mod script;
mod show;
pub mod shrink;
pub mod small;
pub mod step;
pub mod story;
pub mod subject;
pub mod tick;
pub mod world;
