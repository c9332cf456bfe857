//! Serving what a [`Plan`](vellum_server::conf::Plan) says.
//!
//! | module | what it has |
//! |---|---|
//! | `storages` | opening a tree of storages |
//! | `kinds` | the description of each kind of storage for clients, as in ZEO's server |
//! | `addresses` | all addresses of a host |
//! | `logs` | where logs go |
//! | `rotation` | log files that are put aside |
//! | `process` | the file with the process's number; telling the service manager |
//! | `run` | all of it, until the end |

mod addresses;
mod kinds;
mod logs;
mod process;
mod rotation;
mod run;
mod storages;

pub use logs::to_stderr;
pub use run::{Manner, check, make_folders, run};
