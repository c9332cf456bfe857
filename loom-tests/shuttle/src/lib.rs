//! Many schedules of the client cache's core, with more threads than loom can have.
//!
//! The scenarios are those of the crate above this one; here the shim has shuttle's locks and atomics. shuttle chooses
//! a schedule by chance, and all atomics are sequentially consistent. So it finds wrong orders of operations, and never
//! a missing fence.
//!
//! A failing run prints its schedule as a string. `VELLUM_REPLAY=STRING cargo test -p vellum-shuttle-tests NAME` runs
//! that schedule again.
#![forbid(unsafe_code)]

#[path = "../../../impl/cache/src/core/mod.rs"]
#[allow(dead_code, missing_docs)]
pub mod core;
#[path = "../../src/scenarios.rs"]
pub mod scenarios;
#[path = "../../../impl/sync/src/lib.rs"]
#[allow(dead_code)]
pub mod sync;
#[path = "../../src/watched.rs"]
pub mod watched;
