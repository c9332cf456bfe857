//! Blobs: objects whose bytes are in files of a folder beside the database.

use vellum_terminal::people::{count, counted, size};

/// The class of a blob.
const CLASS: &str = "ZODB.blob.Blob";

/// A line about blobs of which the files are not known.
pub const NO_FOLDER: &str = "their folder is not known: name it with --blobs FOLDER";

/// Whether this is a blob's class.
pub fn is_blob(class: Option<&str>) -> bool {
    class == Some(CLASS)
}

/// Why a command that touches this many blobs, or revisions of blobs, does nothing. `breaks`: what would be wrong.
pub fn refusal(blobs: u64, thing: &str, breaks: &str) -> String {
    format!(
        "Nothing was changed: {} {} concerned, and no blob folder is known. Name it with --blobs FOLDER. Without it {breaks}: \
         --without-blobs does it all the same",
        counted(blobs, thing),
        if blobs == 1 { "is" } else { "are" },
    )
}

/// The message of a command that did it anyway.
pub fn told(blobs: u64, thing: &str, files: &str) -> String {
    format!("{}; {files}", counted(blobs, thing))
}

/// Files and their bytes, as in "2 files, 1.5 MiB".
pub fn files(files: u64, bytes: u64) -> String {
    format!("{}, {}", counted(files, "file"), size(bytes))
}

/// The end of a list that was cut short.
pub fn more(all: u64, shown: u64) -> String {
    format!("and {} more; `--max 0` shows all", count(all - shown))
}
