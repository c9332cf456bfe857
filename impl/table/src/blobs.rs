//! Blobs beside the tables (part 8 of the rules). The files are those of any storage with a blob folder
//! ([`BlobFiles`]); this is the order in which files and tables become durable.
//!
//! ```text
//!   a commit            1. step    the names that files are about to get are in `unowned`
//!                       2. files   they get these names, durably
//!                       3. step    the transaction is in the tables, and the names are not in `unowned` any more
//!
//!   a pack              1. step    revisions are removed, and the names of their files are in `unowned`
//!                       2. files   they are removed, durably
//!                       3. step    the names are not in `unowned` any more
//! ```
//!
//! So a file that belongs to no revision has its name in `unowned`, whenever the machine stops: the next opening
//! removes it. And each revision has its file: a commit counts after its files are named, and a pack removes files
//! after it counts.

use std::collections::HashSet;

use vellum_blob::{BlobFiles, Claimed, NotPlaced, Placing};
use vellum_storage::{Blob, Content, Error, Oid, Past, Result, Tid, Write};

use crate::pack::{Forgetting, change_and_forget};
use crate::storage::Shared;
use crate::store::Turn;
use crate::tables::{Tables, Writing};

impl Shared {
    /// The blob folder.
    pub fn blobs(&self) -> Result<&BlobFiles> {
        let why = "it was opened without a blob folder. Name the folder, which is usually called `blobstorage`, and open it again";
        self.store.blobs.as_ref().ok_or_else(|| Error::Unfit { name: self.name(), why: why.to_owned() })
    }
}

/// The blobs that a transaction will have: those that it brings, and those of the revisions whose data it shares.
pub(crate) fn of_writes(
    files: Option<&BlobFiles>,
    past: &impl Past<Place = Tid>,
    writes: &[Write],
) -> Result<Vec<(Oid, Blob)>> {
    if files.is_none() {
        return Ok(Vec::new());
    }
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    // Rule 8.1: what is written over has no blob.
    for Write { oid, content, .. } in writes.iter().rev().filter(|write| seen.insert(write.oid)) {
        let blob = match content {
            Content::Data(data) => data.blob().cloned(),
            Content::Shared(source) => past.blob(*oid, *source)?,
            Content::Tombstone => None,
        };
        found.extend(blob.map(|blob| (*oid, blob)));
    }
    Ok(found)
}

/// Gives files their names, within the step of the store that makes their revisions.
pub(crate) struct Names<'a> {
    files: &'a BlobFiles,
    given: Vec<(Oid, Tid)>,
    /// Whether names may be left of those that could not be given.
    is_left: bool,
}

impl Names<'_> {
    /// Whether the files of a transaction have their names, since the step is done again. Its transactions are in the
    /// order of their tids.
    pub fn are_given(&self, tid: Tid) -> bool {
        self.given.last().is_some_and(|(_, last)| tid <= *last)
    }

    /// Gives the files of a transaction their names.
    pub fn give(&mut self, blobs: &[(Oid, Claimed)], tid: Tid) -> Result<()> {
        let placing: Vec<_> = blobs.iter().map(|(oid, blob)| Placing { blob, oid: *oid, tid }).collect();
        let places = self.files.name(&placing).map_err(|error| self.failed(error))?;
        self.given.extend(places);
        Ok(())
    }

    /// Makes all names durable.
    fn sync(&mut self) -> Result<()> {
        self.files.sync(&self.given).map_err(|error| self.failed(error))
    }

    fn failed(&mut self, NotPlaced { source, is_left, .. }: NotPlaced) -> Error {
        self.is_left |= is_left;
        Error::io(self.files.folder().path(), "giving a commit's blobs their names", source)
    }
}

/// Rule 8.6: changes the tables in one step, as [`change_and_forget`], and gives files their names in it. `names` has
/// all that may be given. If this fails, none is left, or the store is failed, and the next opening removes them.
pub(crate) fn change_with<T>(
    shared: &Shared,
    turn: &mut Turn,
    names: &[(Oid, Tid)],
    mut change: impl FnMut(&mut Tables<Writing<'_>>, &mut u64, &mut Names<'_>, &mut Forgetting) -> Result<T>,
) -> Result<T> {
    let (store, files) = (&shared.store, shared.blobs()?);
    store.change(turn, |tables, _| tables.disown(names))?;
    let mut given = Names { files, given: Vec::new(), is_left: false };
    let done = change_and_forget(shared, turn, |tables, number, forgetting| {
        // Not after the change: it may forget some of these revisions (rule 4.12), and their names are noted again.
        tables.own(names)?;
        let done = change(tables, number, &mut given, forgetting)?;
        given.sync()?;
        Ok(done)
    });
    if done.is_err() && !store.is_failed() {
        let taken_back = match given.is_left {
            true => Err("files of a commit that failed may have their names".to_owned()),
            false => files
                .folder()
                .remove(&given.given)
                .map_err(Error::from)
                .and_then(|_| store.change(turn, |tables, _| tables.own(names)))
                .map_err(|error| error.to_string()),
        };
        taken_back.unwrap_or_else(|cause| store.fail(cause));
    }
    done
}

/// Rule 4.12: removes the files of revisions that a commit forgot. If this fails, the commit is there all the same, and
/// the next pack or opening removes them.
pub(crate) fn remove_forgotten(shared: &Shared) {
    if !shared.store.now().tables.facts.is_history_free {
        return;
    }
    if let Err(error) = remove_unowned(shared) {
        tracing::warn!("{}: files of forgotten blobs are left: {error}", shared.name());
    }
}

/// So many files are removed before their names are taken out of the table.
const FILES_A_STEP: usize = 256;

/// Rule 8.4: removes the files that belong to no revision. The caller does not have the turn.
pub(crate) fn remove_unowned(shared: &Shared) -> Result<()> {
    let Some(files) = &shared.store.blobs else { return Ok(()) };
    while !shared.store.now().tables.unowned_some(1)?.is_empty() {
        let some = {
            // A commit that has the turn owns its files when it gives the turn back.
            let _turn = shared.store.turn();
            shared.store.now().tables.unowned_some(FILES_A_STEP)?
        };
        // They were those of a commit under way. Without an end here, a pack would wait for a moment without commits.
        if some.is_empty() {
            return Ok(());
        }
        files.folder().remove(&some)?;
        shared.store.change(&mut shared.store.turn(), |tables, _| tables.own(&some))?;
    }
    Ok(())
}
