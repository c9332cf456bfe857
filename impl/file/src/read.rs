//! The open file, and how reads are answered: nothing here changes the file.

pub(crate) mod ahead;
pub(crate) mod database;
pub(crate) mod generation;
pub(crate) mod horizon;
pub(crate) mod index;
pub(crate) mod index_file;
pub(crate) mod iterate;
pub(crate) mod log;
pub(crate) mod pieces;
pub(crate) mod room;
pub(crate) mod undo;
pub(crate) mod versions;
