//! The tests of the storages that need no disk, in one binary, because each binary links all of its crates.

mod blobs;
mod btrees;
mod check_btrees;
mod collect;
mod copy;
mod export_blobs;
mod external;
mod pack;
mod transaction;
