//! The journal beside a database: `Data.fs.journal`, for commits that need one sync ([`Durability::Journal`]).
//!
//! A file that has its full length and is written over needs one sync that changes no metadata. So a batch goes to the
//! journal first, and the data file follows without a sync. `docs/journal.md` has the bytes and the states;
//! ARCHITECTURE.md has the reasons.
//!
//! ```text
//!   entry.rs     one entry: its header, its checksum                     ┐
//!   found.rs     the entries that a file holds, and which of them count  │ reading
//!   compare.rs   those beside the data file: missing, there, or astray   │
//!   overlay.rs   the data file as it is once they are applied            │
//!   beside.rs    what an opening makes of them                           ┘
//!   rounds.rs    the open journal: which half, which number, when the data file is synced
//! ```
//!
//! The code that forms batches and writes them in this way is `write/journaled.rs`.
//!
//! [`Durability::Journal`]: crate::Durability::Journal

pub(crate) mod beside;
mod compare;
mod entry;
mod found;
mod overlay;
pub(crate) mod rounds;

pub use beside::{JournalState, LeftJournal};
pub use entry::seal;
