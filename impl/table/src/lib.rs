//! TableStorage: an object database in tables that are updated in place, by the rules of
//! [docs/semantics.md](../../../docs/semantics.md).
//!
//! A `Data.fs` keeps its index in memory, and gives back space only when all of it is written anew. Here the index is a
//! table, so memory does not grow with the database; and a pack removes rows in small steps beside commits.
//!
//! ```text
//!   storage.rs  the storage          commit.rs, bulk.rs   finishing, and copying in
//!   view.rs     part 2 of the rules  write.rs             a transaction into the tables
//!   past.rs     part 3               pack.rs              part 4
//!   tables.rs, row.rs, facts.rs      what is in the tables
//!   look.rs                          what only some commands ask
//!   blobs.rs                         files beside the tables, and the order of both
//!   autopack.rs                      packing in the background
//!   check.rs                         each table against the others
//!   salvage.rs                       what can be read of damaged ones
//!   store.rs, backend.rs             redb on our disk: snapshots, and one writer
//!   compact.rs                       giving back freed space
//! ```
//!
//! ```no_run
//! use vellum_storage::{Oid, Tid, TransactionMeta};
//! use vellum_table::TableStorage;
//!
//! let storage = TableStorage::create("site.vellum")?;
//! let mut draft = storage.begin(TransactionMeta::new())?;
//! draft.store(Oid::ROOT, Tid::ZERO, "a record".into())?;
//! storage.commit(draft)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod autopack;
mod backend;
mod blobs;
mod bulk;
mod check;
mod commit;
mod compact;
mod facts;
mod line;
mod look;
mod options;
mod pack;
mod past;
mod row;
mod salvage;
mod storage;
mod store;
mod summary;
mod tables;
mod view;
mod walk;
mod write;

pub use autopack::{Autopack, Autopacking, SHARE, Step};
pub use backend::is_store;
pub use check::Problem;
pub use compact::Compacted;
pub use options::{OpenError, Options};
pub use salvage::{Gap, Salvage, Wreck};
pub use storage::TableStorage;
pub use summary::TableSummary;
