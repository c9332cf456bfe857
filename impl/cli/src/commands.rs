//! The subcommands, one file each; and `confirm`, which those that change a database share.

pub mod check;
pub mod collect;
mod confirm;
pub mod copy;
pub mod dump;
pub mod end_version;
pub mod export;
pub mod garbage;
pub mod import;
pub mod info;
pub mod log;
pub mod pack;
pub mod recover;
pub mod refs;
pub mod show;
pub mod undo;
pub mod versions;
