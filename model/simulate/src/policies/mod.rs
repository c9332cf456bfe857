//! The policies, a file each.

mod arc;
mod belady;
mod buddy;
mod circular;
mod flip;
/// The memory of evicted objects that the cache has.
#[path = "../../../../impl/cache/src/core/ghost.rs"]
#[allow(dead_code)]
mod ghost;
mod hac;
mod pages;
mod queue;
mod s3_fifo;
mod segments;
mod sieve;
mod tiny_lfu;

pub use arc::Arc;
pub use belady::{Belady, Limit};
pub use buddy::Buddy;
pub use circular::{Circular, Rules};
pub use flip::Flip;
pub use hac::Hac;
pub use pages::Pages;
pub use queue::{Clock, Fifo, Lru};
pub use s3_fifo::S3Fifo;
pub use segments::{Segments, Sizes};
pub use sieve::Sieve;
pub use tiny_lfu::{Definition, TinyLfu};
