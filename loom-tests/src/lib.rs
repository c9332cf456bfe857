//! Every interleaving of the client cache's core.
//!
//! The code that runs here is the code that ships: the files of `impl/cache/src/core` and of `impl/sync` are included
//! as modules. In this crate the shim has loom's locks and atomics, because its `build.rs` sets `vellum_loom`.
//!
//! ```text
//!   impl/cache/src/core ─┐                          ┌─▶ loom: 2 and 3 threads, every interleaving within a bound
//!   impl/sync ───────────┼─▶ scenarios.rs ──────────┤      and weak memory orders
//!                        │                          └─▶ shuttle: up to 8 threads, many schedules
//! ```
//!
//! loom runs a scenario again and again, with another order of the threads' operations each time, and another choice of
//! the values that a load may see. It ends when there are no more. The bound is the number of preemptions in a run; it
//! is part of a test's name, and a test of two threads has none.
//!
//! There is no other limit: a run ends when loom has nothing more to try, or the test fails. Each test has a process of
//! its own, since a failing model can take its process down. It prints how many executions there were.
//!
//! loom's limits: at most five threads; a lock that is tried is always free; SeqCst loads and stores count as less than
//! they are. The core uses none of that.
#![forbid(unsafe_code)]

#[path = "../../impl/cache/src/core/mod.rs"]
#[allow(dead_code, missing_docs)]
pub mod core;
pub mod scenarios;
#[path = "../../impl/sync/src/lib.rs"]
#[allow(dead_code)]
pub mod sync;
pub mod watched;
