//! Holds a storage to the rules.
//!
//! Two databases stand beside each other: the specification, which is right by definition, and the storage in question,
//! which may be anything: an engine of ours, a program at the other end of a pipe, the real ZODB. Both are told the same
//! history, made up at random, step by step. After every step everything that can be seen of them is compared.
//!
//! ```text
//!                       ┌──▶ World: the specification, and what is under way ── which outcomes are right? ──┐
//!   dice ─▶ generate ─▶ step                                                                              equal?
//!                       └──▶ Subject: the storage ───────────────────────────── which one was it? ─────────┤
//!                              │                                                                           ▼
//!                              └── all questions, all answers ─────────────────────▶ Difference ─▶ shrink ─▶ script
//! ```
//!
//! | read | for |
//! |---|---|
//! | [`step`], [`question`], [`node`], [`tick`] | the words: what is done, what is asked, what objects are made of, when |
//! | [`world`], [`expected`] | what the rules say: of a step, of a question |
//! | [`subject`] | a storage under the harness, and what it says that it can do |
//! | [`hosted`], [`pipe`], [`rules`] | three of them: anything that is a `Storage`; another process; the specification itself |
//! | [`generate`], [`dice`] | histories: from a seed, from `proptest`, from a fuzzer's bytes |
//! | [`coverage`] | where the histories have been, so that one sees what they prove |
//! | [`run`], [`shrink`], [`campaign`] | playing one, making one short, playing thousands |
//! | [`crash`] | the same histories on a simulated disk, the power cut in every operation |
//! | [`concurrent`] | many threads at once: what each was told must have an explanation |
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
//! # One's own storage
//!
//! ```
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
//! What is not here: timing, and anything that a test could not repeat from a seed; but for [`concurrent`], where the order
//! is the machine's.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod concurrent;
pub mod coverage;
pub mod crash;
pub mod dice;
pub mod expected;
pub mod generate;
pub mod hosted;
pub mod node;
pub mod pipe;
pub mod question;
pub mod rules;
pub mod run;
pub mod script;
mod show;
pub mod shrink;
pub mod step;
pub mod story;
pub mod subject;
pub mod tick;
pub mod world;
