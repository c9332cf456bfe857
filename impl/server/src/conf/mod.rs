//! Configuration: what to serve, as data.
//!
//! ```text
//!   zeo.conf ─▶ zconfig() ─▶ Plan::of_zeo_conf ─┐
//!   TOML ─────────────────▶ Plan::of_toml ──────┼─▶ Plan
//!   options of a command ───────────────────────┘
//! ```
//!
//! [`zconfig()`] reads the language, in which Zope's programs are configured, and knows no words of it. [`Plan`] is all
//! that a server has to know; what `runzeo -C` reads is read unedited. Nothing here opens a storage.

mod format;
mod language;
mod meaning;
mod plan;
mod rotation;
mod substitute;
mod toml;
mod values;

pub use format::{Field, LogFormat, Piece};
pub use language::{Key, Place, Section, Source, SystemSource, zconfig};
pub use plan::{BlobLayout, EventLog, FileStorageConf, LogFile, LogTarget, Plan, StorageConf, Syncs, Tls};
pub use rotation::{Period, Rotation, Turn};

/// An error in a configuration, and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct ConfError {
    /// The file and the line.
    pub place: Place,
    /// The error.
    pub why: String,
}
