//! draft
#![forbid(unsafe_code)]

mod answers;
mod ask;
mod cache;
mod client;
mod error;
mod event;
mod machine;
mod promise;
mod remote;
mod shell;

pub use ask::{Answer, Ask, Conflict, Info, IteratorId, Patience, TransactionId, Voted};
pub use client::{Client, ClientOptions, Transaction, View};
pub use error::ClientError;
pub use event::{ConnectionId, Effect, Event, PromiseId, Told};
pub use machine::{Access, Config, Machine};
pub use promise::Promise;
pub use remote::RemoteStorage;
pub use shell::dial::{Address, Dial, Dialing, Stream};
pub use shell::tls;
