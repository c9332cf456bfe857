//! draft
#![forbid(unsafe_code)]

mod answers;
mod ask;
mod cache;
mod error;
mod event;
mod machine;

pub use ask::{Answer, Ask, Conflict, Info, IteratorId, Patience, TransactionId, Voted};
pub use error::ClientError;
pub use event::{ConnectionId, Effect, Event, PromiseId, Told};
pub use machine::{Access, Config, Machine};
