//! The blob folder beside a database: one file for each revision of each blob.
//!
//! A blob is an object whose bytes are too many for a record, so that they are kept in a file, named after the object
//! and the transaction that wrote it. The folder is laid out as ZODB's, with its names, its permissions and its marker,
//! and either program can take it over from the other.
//!
//! ```text
//!   BLOBS/.layout                    the layout's name: bushy here
//!         tmp/                       files on their way
//!         0x00/0x00/0x00/0x00/0x00/0x00/0x12/0x34/0x0400000000000001.blob
//!   BLOBS.old/                       what the last pack removed, and links to what it did not
//! ```
//!
//! A file of a committed blob never changes, and its name is all that a commit writes here. So a commit is a rename,
//! between the two syncs of the data file:
//!
//! ```text
//!   first phase    temporary() · append ... · sync()        bytes in tmp/, durable
//!   second phase   the transaction is appended, unfinished, and synced: the file tells of the blobs
//!                  place() · sync()                         names in their folders, durable
//!                  it is marked, and the file synced        from here on it is there
//! ```
//!
//! After a crash before the mark, opening the database cuts the transaction off, and [`removes`](BlobFolder::remove)
//! the files that it names. An abort drops the [`Temporary`], which removes its file. Nothing is ever seen by half:
//! what has a final name was synced before ([`Ready`]), which is a type, so that no caller can forget it.
//!
//! **Nothing leads out of the folder.** Its files are opened in a [`Tree`](vellum_disk::Tree), which follows no
//! symbolic link. That the folder itself is a link is the operator's choice, and followed once.
//!
//! This crate knows no record and no transaction. Its caller knows which files belong to the database: it reads the
//! [`Walk`], and answers [`Removal::carry_out`]. Two programs do not write to one folder: the lock of the data file
//! sees to that, as in ZODB.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//! use vellum_blob::{BlobFolder, Found, Opening};
//! use vellum_disk::SimDisk;
//! use vellum_storage::{Oid, Tid};
//!
//! # fn main() -> vellum_blob::Result<()> {
//! let folder = BlobFolder::open(Arc::new(SimDisk::new(1)), Path::new("blobs"), Opening::default())?;
//! let mut temporary = folder.temporary()?;
//! temporary.append(b"many bytes")?;
//! let (oid, tid) = (Oid(0x1234), Tid(1));
//! folder.place(temporary.sync()?, oid, tid)?;
//! folder.sync(&[(oid, tid)])?;
//!
//! assert_eq!(folder.length(oid, tid)?, 10);
//! let found: Vec<Found> = folder.walk().collect::<vellum_blob::Result<_>>()?;
//! assert_eq!(found, [Found::Blob { oid, tid, length: 10, mode: 0o444 }]);
//! # Ok(())
//! # }
//! ```

mod directories;
mod error;
mod files;
mod folder;
mod layout;
mod names;
mod old;
mod removal;
mod temporary;
mod walk;

pub use error::{Error, Result};
pub use files::{BlobFiles, Claimed, NotPlaced, Placing};
pub use folder::{BlobFolder, Opening};
pub use names::{Layout, file_name, parse_file_name};
pub use removal::{Removal, RemovalList, Removed};
pub use temporary::{Ready, Temporary};
pub use walk::{Found, Walk};
