//! The subcommands, one file each. Those that change a database share `confirm` and `preview`.

pub mod blobs;
pub mod cache;
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
pub mod journal;
pub mod log;
pub mod nagios;
pub mod pack;
mod preview;
pub mod recover;
pub mod refs;
pub mod restore;
pub mod runzeo;
pub mod serve;
pub mod show;
pub mod status;
pub mod undo;
pub mod versions;
pub mod zeopack;
