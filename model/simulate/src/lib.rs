//! Which objects should a client's cache keep?
//!
//! A trace of a client is played through policies of many sizes, and each load is a hit or a miss:
//!
//! ```text
//!   trace ──▶ workload ──▶ simulate(policy, size, prefetching) ──▶ counts ──▶ table, chart
//!   ZEO's, RelStorage's,    loads, changes                          hits, bytes, requests
//!   or the compact one
//! ```
//!
//! [`policy::Policy`] is the small trait, and [`policies`] has a file for each policy. [`trace`] reads the formats
//! (docs/traces.md). [`workload`] removes the cache from which a trace was taken. [`simulate`](mod@simulate) counts.
//! docs/cache.md has the results, and the choice that follows from them.
//!
//! The simulator has no clock and no network. A hit is a request that was not sent; the time that it saves
//! depends on the network. It simulates current revisions; those of the past are rare in traces, and are left out.
#![forbid(unsafe_code)]

pub mod cache_simul;
pub mod chain;
#[cfg(feature = "chart")]
pub mod chart;
pub mod export;
pub mod policies;
pub mod policy;
pub mod simulate;
pub mod table;
pub mod trace;
pub mod workload;
