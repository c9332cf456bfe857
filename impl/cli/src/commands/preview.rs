//! The changes that a voted transaction makes: its verdict, beside the objects as they are now.

use std::collections::HashMap;

use vellum_storage::{Content, Error, Oid, Voted, Write};
use vellum_terminal::Run;

use crate::file::Database;
use crate::file::revisions::{Entry, Revisions};
use crate::ui::blobs::is_blob;
use crate::ui::changes::{BlobFile, Change, State};

/// Returns the changes of all objects that the transaction writes.
pub fn changes(database: &Database, voted: &Voted) -> Run<Vec<Change>> {
    let revisions = database.revisions();
    let verdict = voted.verdict()?;
    // If an object occurs twice, the last write counts.
    let last: HashMap<Oid, &Write> = verdict.writes.iter().map(|write| (write.oid, write)).collect();
    let change = |oid| {
        let newest = revisions.known(oid)?;
        let Change { now, becomes, replaces, .. } = change(&revisions, &newest, last[&oid])?;
        let replaces = replaces.map(|state| with_blob(database, oid, state));
        Ok(Change { oid, now: with_blob(database, oid, now), becomes: with_blob(database, oid, becomes), replaces })
    };
    verdict.touched().into_iter().map(change).collect()
}

/// The state, with the blob that the revision has.
fn with_blob(database: &Database, oid: Oid, state: State) -> State {
    let (Some(folder), Some(tid), true) = (database.blob_folder(), state.tid, is_blob(state.class.as_deref())) else {
        return state;
    };
    let blob = folder.read(oid, tid).and_then(|_| folder.length(oid, tid));
    State { blob: Some(blob.map_or(BlobFile::Lost, BlobFile::Bytes)), ..state }
}

fn change(revisions: &Revisions<'_>, newest: &Entry, write: &Write) -> Run<Change> {
    let now = revisions.state(newest)?;
    let becomes = match &write.content {
        Content::Tombstone => State::nothing(),
        Content::Data(data) => State::merged(&data.bytes()?, write.version.clone()),
        Content::Shared(tid) => {
            let entry = if *tid == newest.tid { Some(newest.clone()) } else { revisions.revision(write.oid, *tid)? };
            let entry = entry.ok_or(Error::KeyError { oid: write.oid, tid: Some(*tid) })?;
            revisions.state(&entry)?.moved(write.version.clone())
        }
    };
    // The work of a version takes the place of the trunk's revision.
    let is_committed = becomes.tid == now.tid && becomes.version.is_trunk() && !now.version.is_trunk();
    let replaces = match is_committed {
        true => Some(revisions.trunk(newest)?.map_or(Ok(State::nothing()), |trunk| revisions.state(&trunk))?),
        false => None,
    };
    Ok(Change { oid: write.oid, now, becomes, replaces })
}
