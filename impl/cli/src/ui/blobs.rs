//! Blobs: objects of which the database has the record only. Their bytes are in files beside it, which no command
//! handles.

use vellum_terminal::people::counted;

/// The class of a blob.
const CLASS: &str = "ZODB.blob.Blob";

/// Whether this is a blob's class.
pub fn is_blob(class: Option<&str>) -> bool {
    class == Some(CLASS)
}

/// Why a command that touches this many blobs, or revisions of blobs, does nothing. `breaks`: what would be wrong.
pub fn refusal(blobs: u64, thing: &str, breaks: &str) -> String {
    format!(
        "Nothing was changed: {} {} concerned. The bytes of blobs are in files beside the database, which this command does not \
         handle: {breaks}. --without-blobs does it all the same",
        counted(blobs, thing),
        if blobs == 1 { "is" } else { "are" },
    )
}

/// The message of a command that did it anyway.
pub fn told(blobs: u64, thing: &str, files: &str) -> String {
    format!("{}; {files}", counted(blobs, thing))
}
