//! Files: opening a database, looking into it, and the files that are named beside it.
//!
//! | module | what it has |
//! |---|---|
//! | `open` | opening a database, for reading and for writing |
//! | `tables` | databases in tables |
//! | `database` | a database of either kind |
//! | `revisions` | the revisions of single objects, of either kind |
//! | `data_file` | the records at their positions |
//! | `blobs` | the blob folder: where it is, and whether it is the database's |
//! | `lost` | the objects that are referred to and are not there |
//! | `survey` | the blobs of a database beside the files of its folder |
//! | `future` | transactions whose times have not come yet |
//! | `paths` | files beside the database: one file by two names, and new files |

pub mod blobs;
mod data_file;
mod database;
pub mod future;
pub mod lost;
mod open;
pub mod paths;
pub mod revisions;
pub mod survey;
pub mod tables;

pub use data_file::DataFile;
pub use database::Database;
pub use open::{open, open_to_write, open_to_write_with_blobs, open_with, open_with_blobs, options};
