//! Names of files and folders, and what they say. Parsing is strict: a name that we would not write is a stranger.
//!
//! | | oid 0x1234 | oid 0 |
//! |---|---|---|
//! | bushy | `0x00/0x00/0x00/0x00/0x00/0x00/0x12/0x34` | `0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x00` |
//! | lawn | `0x1234` | `0x00` |
//!
//! The file of tid 0x0400000000000001 is `0x0400000000000001.blob` in either, that of tid 1 `0x01.blob`: leading zeros
//! go in pairs, and zero has one pair.

use std::fmt;
use std::path::PathBuf;

use vellum_storage::{Oid, Tid};

/// The end of the name of a blob's file.
const SUFFIX: &str = ".blob";

/// How the folders of objects are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Eight folders in each other, one for each byte of the oid: no folder has more than 256 in it.
    Bushy,
    /// One folder for each object: what ZODB wrote first, and what a folder without a marker has.
    Lawn,
}

impl Layout {
    /// All of them.
    pub const ALL: [Layout; 2] = [Layout::Bushy, Layout::Lawn];

    /// Its name, as the marker says it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Bushy => "bushy",
            Layout::Lawn => "lawn",
        }
    }

    /// The layout of this name.
    pub fn of_name(name: &str) -> Option<Layout> {
        Layout::ALL.into_iter().find(|layout| layout.name() == name)
    }

    /// The object's folder, as seen from the blob folder.
    pub fn folder(self, oid: Oid) -> PathBuf {
        match self {
            Layout::Bushy => oid.0.to_be_bytes().iter().map(|byte| format!("0x{byte:02x}")).collect(),
            Layout::Lawn => short_hex(oid.0).into(),
        }
    }

    /// The blob's file, as seen from the blob folder.
    pub fn file(self, oid: Oid, tid: Tid) -> PathBuf {
        self.folder(oid).join(file_name(tid))
    }

    /// How many folders lead to a file.
    pub fn depth(self) -> usize {
        match self {
            Layout::Bushy => 8,
            Layout::Lawn => 1,
        }
    }

    /// The part of an oid that the folder's name and those above it give.
    pub(crate) fn part(self, above: u64, name: &str) -> Option<u64> {
        match self {
            Layout::Bushy if name.len() == 4 => Some(above << 8 | parse_hex(name)?),
            Layout::Bushy => None,
            Layout::Lawn => parse_hex(name),
        }
    }

    /// The oid that this folder, as seen from the blob folder, belongs to; none if it is no such folder's path.
    ///
    /// ```
    /// # use vellum_blob::Layout;
    /// # use vellum_storage::Oid;
    /// assert_eq!(Layout::Lawn.parse_folder("0x0123"), Some(Oid(0x123)));
    /// assert_eq!(Layout::Lawn.parse_folder("0x123"), None);
    /// ```
    pub fn parse_folder(self, path: &str) -> Option<Oid> {
        let mut parts = path.split('/');
        let oid = parts.by_ref().take(self.depth()).try_fold(0, |above, name| self.part(above, name))?;
        (parts.next().is_none() && path.split('/').count() == self.depth()).then_some(Oid(oid))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of the file with what this transaction wrote, in its object's folder.
pub fn file_name(tid: Tid) -> String {
    short_hex(tid.0) + SUFFIX
}

/// The transaction whose file has this name; none if it is no name of a blob's file.
///
/// ```
/// # use vellum_storage::Tid;
/// assert_eq!(vellum_blob::parse_file_name("0x01.blob"), Some(Tid(1)));
/// assert_eq!(vellum_blob::parse_file_name("0x0001.blob"), None);
/// ```
pub fn parse_file_name(name: &str) -> Option<Tid> {
    parse_hex(name.strip_suffix(SUFFIX)?).map(Tid)
}

fn short_hex(number: u64) -> String {
    let digits = (64 - number.leading_zeros()).div_ceil(8).max(1) as usize * 2;
    format!("0x{number:0digits$x}")
}

fn parse_hex(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_prefix("0x")?, 16).ok()?;
    // Not in capitals, without a plus sign, and no shorter or longer.
    (short_hex(number) == name).then_some(number)
}
