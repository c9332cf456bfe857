//! Damaged files: finding every fault, and saving complete transactions.

pub(crate) mod check;
pub(crate) mod dangling;
pub(crate) mod journal;
pub(crate) mod recover;
