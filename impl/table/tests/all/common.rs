//! A database of tables on a simulated disk, as the harness wants it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vellum_blob::Found;
use vellum_harness::hosted::{Merger, Opening};
use vellum_harness::subject::Can;
use vellum_storage::{Error, Oid, Order, Result, Storage, Tid, TidRange};
use vellum_table::{OpenError, Options, TableStorage};

pub const PATH: &str = "site.vellum";
pub const BLOBS: &str = "site.vellum.blobs";

/// The capabilities that TableStorage declares to the harness.
pub const CAN: Can = Can::EVERYTHING;

/// Those of a history-free one, which keeps what is old for so many seconds.
pub const fn can_forget(seconds: u64) -> Can {
    Can { undo: false, forgets: Some(seconds), ..CAN }
}

/// Opens a history-free database as the harness wants it.
pub fn open_history_free(options: Options, seconds: u64, opening: Opening) -> Result<Box<dyn Storage>> {
    open_under_harness(options.history_free(true).grace(Duration::from_secs(seconds)), opening)
}

/// Opens a database as the harness wants it: a new one if there is none.
pub fn open_under_harness(options: Options, opening: Opening) -> Result<Box<dyn Storage>> {
    let options = options.clock(opening.clock).resolver(Arc::new(Merger)).threads(1).cache_bytes(1 << 20).blobs(BLOBS);
    let opened = if opening.read_only { options.read_only().open(PATH) } else { options.open_or_create(PATH) };
    match opened {
        Ok(storage) => {
            let mut problems = Vec::new();
            storage.check(&mut |problem| problems.push(problem.to_string()))?;
            assert_eq!(problems, [""; 0]);
            if !opening.read_only {
                check_blobs(&storage)?;
            }
            Ok(Box::new(storage))
        }
        Err(OpenError::Storage(error)) => Err(error),
        Err(other) => Err(Error::io(PATH, "opening it", std::io::Error::other(other.to_string()))),
    }
}

/// The names of the files in the blob folder.
pub fn files(storage: &TableStorage) -> BTreeSet<(Oid, Tid)> {
    let found = storage.blob_folder().unwrap().walk().map(|found| match found {
        Ok(Found::Blob { oid, tid, .. }) => (oid, tid),
        other => panic!("{other:?}"),
    });
    found.collect()
}

/// Fails unless the blob folder holds the blobs of the database's revisions, and nothing else. An orphan is not among
/// the answers of a storage, so no other check sees it.
///
/// Rules 8.4 and 8.6.
pub fn check_blobs(storage: &TableStorage) -> Result<()> {
    let mut orphans = files(storage);
    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
        let transaction = transaction?;
        for revision in transaction.revisions.iter().filter(|revision| revision.blob.is_some()) {
            orphans.remove(&(revision.oid, transaction.tid));
        }
    }
    if orphans.is_empty() {
        return Ok(());
    }
    let orphans: Vec<_> = orphans.iter().map(|(oid, tid)| format!("{oid} of {tid}")).collect();
    Err(Error::Unfit {
        name: PATH.to_owned(),
        why: format!("there are orphans in its blob folder: {}", orphans.join(", ")),
    })
}
