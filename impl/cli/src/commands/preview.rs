//! The changes that a voted transaction makes: its verdict, beside the objects as they are now.

use std::collections::HashMap;

use vellum_file::{FileStorage, Record, Scanner};
use vellum_storage::{Content, Error, Oid, Voted, Write};
use vellum_terminal::Run;

use crate::file::DataFile;
use crate::ui::blobs::is_blob;
use crate::ui::changes::{BlobFile, Change, State};

/// Returns the changes of all objects that the transaction writes.
pub fn changes(storage: &FileStorage, voted: &Voted) -> Run<Vec<Change>> {
    let file = DataFile::of(storage);
    let mut scanner = file.scanner();
    let verdict = voted.verdict()?;
    // If an object occurs twice, the last write counts.
    let last: HashMap<Oid, &Write> = verdict.writes.iter().map(|write| (write.oid, write)).collect();
    let change = |oid| {
        let newest = storage.newest_record(oid)?.ok_or(Error::KeyError { oid, tid: None })?;
        let Change { now, becomes, replaces, .. } = change(&file, &mut scanner, &newest, last[&oid])?;
        let replaces = replaces.map(|state| with_blob(storage, oid, state));
        Ok(Change { oid, now: with_blob(storage, oid, now), becomes: with_blob(storage, oid, becomes), replaces })
    };
    verdict.touched().into_iter().map(change).collect()
}

/// The state, with the blob that the revision has.
fn with_blob(storage: &FileStorage, oid: Oid, state: State) -> State {
    let (Some(folder), Some(tid), true) = (storage.blob_folder(), state.tid, is_blob(state.class.as_deref())) else {
        return state;
    };
    let blob = folder.read(oid, tid).and_then(|_| folder.length(oid, tid));
    State { blob: Some(blob.map_or(BlobFile::Lost, BlobFile::Bytes)), ..state }
}

fn change(file: &DataFile, scanner: &mut Scanner<'_>, newest: &Record, write: &Write) -> Run<Change> {
    let now = file.state(scanner, newest)?;
    let becomes = match &write.content {
        Content::Tombstone => State::nothing(),
        Content::Data(data) => State::merged(&data.bytes()?, write.version.clone()),
        Content::Shared(tid) => {
            let record = file.revision(newest, *tid).map_err(|fault| file.damage(&fault))?;
            let record = record.ok_or(Error::KeyError { oid: write.oid, tid: Some(*tid) })?;
            file.state(scanner, &record)?.moved(write.version.clone())
        }
    };
    // The work of a version takes the place of the trunk's revision.
    let is_committed = becomes.tid == now.tid && becomes.version.is_trunk() && !now.version.is_trunk();
    let replaces = match is_committed {
        true => Some(match file.trunk(scanner, newest).map_err(|fault| file.damage(&fault))? {
            Some(trunk) => file.state(scanner, &trunk)?,
            None => State::nothing(),
        }),
        false => None,
    };
    Ok(Change { oid: write.oid, now, becomes, replaces })
}
