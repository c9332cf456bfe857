//! Damaged files: finding everything that is wrong, and saving what is whole.

pub(crate) mod check;
pub(crate) mod dangling;
pub(crate) mod recover;
