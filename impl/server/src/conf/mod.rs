//! ZEO's own configuration files.
//!
//! [`zconfig()`] reads the language, in which Zope's programs are configured, and knows no words of it.
//! [`ZeoConf`] knows those of `zeo.conf`: what `runzeo -C` reads is read unedited.

mod language;
mod meaning;
mod substitute;
mod values;

pub use language::{Key, Place, Section, Source, SystemSource, zconfig};
pub use meaning::{EventLog, FileStorageConf, LogFile, StorageConf, Tls, ZeoConf};

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct ConfError {
    /// The file and the line.
    pub place: Place,
    /// What is wrong.
    pub why: String,
}
