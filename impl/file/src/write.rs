//! Transactions, from drafts to durable bytes.

pub(crate) mod append;
pub(crate) mod bulk;
pub(crate) mod commit;
pub(crate) mod job;
pub(crate) mod journaled;
mod limits;
pub(crate) mod oids;
pub(crate) mod past;
pub(crate) mod pledge;
pub(crate) mod record;
pub(crate) mod vote;
pub(crate) mod writer;
