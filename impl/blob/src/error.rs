//! Errors of a blob folder: each names the place, the fault, and a way out.

use std::io;
use std::path::PathBuf;

use vellum_disk::Kind;
use vellum_storage::{Oid, Tid};

use crate::Layout;

/// The result of an operation on a blob folder.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done with a blob folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no folder, and none may be made.
    #[error("{}: there is no such blob folder, and it is opened for reading only. Is the path right?", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },

    /// A path that ends with no name, so that nothing can be put beside it.
    #[error("{}: this path does not end with a name. Name the blob folder itself", path.display())]
    NoName {
        /// The path as it was given.
        path: PathBuf,
    },

    /// A folder of something else.
    #[error(
        "{}: `{stranger}` is in it, and neither a marker nor a blob, so this is no blob folder. Nothing was changed. Name \
         another folder, or an empty one", path.display()
    )]
    NotBlobs {
        /// The folder.
        path: PathBuf,
        /// The name that is in the way.
        stranger: String,
    },

    /// The marker names a layout that we do not know.
    #[error(
        "{}: the marker names the layout `{found}`, and those that there are are `bushy` and `lawn`. Nothing was changed. If \
         the marker is damaged, remove it: the layout is then told by the files", path.display()
    )]
    UnknownLayout {
        /// The marker.
        path: PathBuf,
        /// The marker's text.
        found: String,
    },

    /// The folder has another layout than the one that was asked for.
    #[error(
        "{}: the layout is `{found}`, and `{wanted}` was asked for. Nothing was changed. Ask for `{found}`, or for none",
        path.display()
    )]
    OtherLayout {
        /// The folder.
        path: PathBuf,
        /// The folder's layout.
        found: Layout,
        /// The layout that was asked for.
        wanted: Layout,
    },

    /// Without a marker, files of both layouts.
    #[error(
        "{}: there is no marker, and there are files of the layout `bushy` and of the layout `lawn`. Nothing was changed. \
         Write the name of the right one into the file `.layout`", path.display()
    )]
    BothLayouts {
        /// The folder.
        path: PathBuf,
    },

    /// Blobs without the database that they belong to.
    #[error(
        "{}: it holds blobs, such as object {oid}'s of {tid}, but the data file is new. Nothing was changed. If the data file \
         is missing, bring it back; if these blobs are of another database, name another folder", path.display()
    )]
    BlobsWithoutData {
        /// The folder.
        path: PathBuf,
        /// An object that has a blob there.
        oid: Oid,
        /// The transaction that wrote it.
        tid: Tid,
    },

    /// A change to a folder that was opened for reading.
    #[error("{}: the blob folder was opened read-only", path.display())]
    ReadOnly {
        /// The folder.
        path: PathBuf,
    },

    /// There is no file for this revision.
    #[error(
        "{}: there is no such file, so the bytes of object {oid} of {tid} are missing. If a backup of the blob folder has it, \
         copy it here; the object's other revisions are not concerned", path.display()
    )]
    Missing {
        /// Where it would be.
        path: PathBuf,
        /// The object.
        oid: Oid,
        /// The transaction that wrote it.
        tid: Tid,
    },

    /// Something has the final name already. It was left alone.
    #[error(
        "{}: there is a file for object {oid} of {tid} already, and it was left alone. No other commit can have made it, so \
         it is a leftover: look at it, and move it away", path.display()
    )]
    Exists {
        /// Its path.
        path: PathBuf,
        /// The object.
        oid: Oid,
        /// The transaction.
        tid: Tid,
    },

    /// A symbolic link where a file or a folder should be.
    #[error(
        "{}: this is a symbolic link, and inside a blob folder none is followed, since it may lead anywhere. Put in its \
         place what it leads to", path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },

    /// Something else where a file or a folder should be.
    #[error("{}: this is {}, and should be {}. Move it away", path.display(), is.words(), should.words())]
    WrongKind {
        /// Its path.
        path: PathBuf,
        /// Its kind.
        is: Kind,
        /// The kind that it should have.
        should: Kind,
    },

    /// A name that no temporary file has.
    #[error("`{name}` is no name of a temporary file in the folder of object {oid}, and was left alone")]
    NotTemporary {
        /// The object.
        oid: Oid,
        /// The name.
        name: String,
    },

    /// The list of an earlier pack is still there.
    #[error(
        "{}: an earlier pack was cut short, and this list of what it removes is left. Open the database for writing: that \
         carries the list out", path.display()
    )]
    RemovalLeft {
        /// The list.
        path: PathBuf,
    },

    /// The folder beside it, with `.old` in its name, was made by no pack.
    #[error(
        "{}: this is in the way of what the pack removes, and since it has no marker no pack made it. Nothing was removed. \
         Move it away, and pack again", path.display()
    )]
    OldInTheWay {
        /// That folder.
        path: PathBuf,
    },

    /// The database could not say whether it holds a revision.
    #[error(
        "object {oid} of {tid}: whether its blob is still needed is not known: {source}. It was left, with all others"
    )]
    Unknown {
        /// The object.
        oid: Oid,
        /// The transaction.
        tid: Tid,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The system's error.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed, and its consequence.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
}
