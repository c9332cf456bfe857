//! Transactions, from what was asked for to bytes that a crash cannot take away.

pub(crate) mod append;
pub(crate) mod bulk;
pub(crate) mod commit;
pub(crate) mod draft;
pub(crate) mod pledge;
pub(crate) mod vote;
