//! Restoring lost objects: records of a backup come back under the oids that they had.
//!
//! An import gives new oids, so that references to the old ones still lead nowhere. A restored object keeps its oid,
//! and every reference to it leads to it again. So no other object may have the oid:
//!
//! ```text
//!   the database      the backup     what becomes of the object
//!   ───────────────   ────────────   ──────────────────────────────────────────────────────────
//!   has it            (any)          left as it is: Restoration::there
//!   has it not, or    has it         stored, under its oid; then the same for what it refers to
//!   a tombstone       has it not     Restoration::missing
//! ```
//!
//! Strong references are followed, and no others: a weak reference may lead nowhere, and one to another database leads
//! there as before.

use std::collections::{HashSet, VecDeque};

use vellum_pickle::class_of;

use crate::export::{Links, links};
use crate::{Blob, Bytes, Draft, Error, ExportError, Oid, Result as StorageResult, Storage, Tid, Version, is_blob};

/// An object that comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The object.
    pub oid: Oid,
    /// The revision of the backup.
    pub tid: Tid,
    /// The length of its record.
    pub bytes: u64,
    /// Its class, as `module.name`; none if that cannot be read.
    pub class: Option<String>,
    /// The restored object that refers to it, if the call did not name it.
    pub needed_by: Option<Oid>,
}

/// The objects that a restoration has put into its draft, and the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restoration {
    /// The objects that are stored: those that were asked for first.
    pub objects: Vec<Restored>,
    /// Objects that were asked for and are there.
    pub there: Vec<Oid>,
    /// Objects that neither has; and the restored object that refers to it, if the call did not name it.
    pub missing: Vec<(Option<Oid>, Oid)>,
    /// References to existing objects with another class than in the backup: the referring object, the other one, the
    /// class in the backup and the class here. So the oid may have been given to another object since.
    pub others: Vec<(Oid, Oid, String, String)>,
    /// References into other databases: the referring object, the database, and the object there.
    pub foreign: Vec<(Oid, String, Oid)>,
    /// Blobs among the objects.
    pub blobs: u64,
    /// Of these: blobs that are stored with the bytes of the backup.
    pub blobs_held: u64,
    /// Their bytes.
    pub blob_bytes: u64,
}

/// Stores those of `oids` that `storage` has not and `backup` has, as the trunk of the backup shows them, under their
/// own oids; likewise what they refer to.
///
/// Costs: reads each restored object once, and the beginning of each that they refer to; 16 bytes of memory for each of
/// both.
///
/// # Errors
///
/// - [`ExportError::Record`] or [`ExportError::BadReference`] for a record of the backup that cannot be read.
/// - [`ExportError::Storage`] if one of the storages fails.
pub fn restore(
    mut draft: Draft,
    storage: &dyn Storage,
    backup: &dyn Storage,
    oids: &[Oid],
) -> Result<(Draft, Restoration), ExportError> {
    let mut found = Restoration::default();
    let mut seen = HashSet::new();
    let mut waiting: VecDeque<_> = oids.iter().filter(|&&oid| seen.insert(oid)).map(|&oid| (oid, None)).collect();
    while let Some((oid, needed_by)) = waiting.pop_front() {
        if let Some((now, _)) = if_there(storage, oid)? {
            match needed_by {
                None => found.there.push(oid),
                // A backup with unreadable records that are not needed is good all the same.
                Some(from) => {
                    let then = if_there(backup, oid).ok().flatten();
                    let differ = then.and_then(|(then, _)| differ(&then, &now));
                    found.others.extend(differ.map(|(then, now)| (from, oid, then, now)));
                }
            }
            continue;
        }
        let Some((record, tid)) = if_there(backup, oid)? else {
            found.missing.push((needed_by, oid));
            continue;
        };
        let Links { strong, foreign, .. } = links(oid, &record)?;
        found.foreign.extend(foreign.into_iter().map(|(database, to)| (oid, database, to)));
        found.blobs += u64::from(is_blob(&record));
        waiting.extend(strong.into_iter().filter(|to| seen.insert(*to)).map(|to| (to, Some(oid))));
        let bytes = record.len() as u64;
        found.objects.push(Restored { oid, tid, bytes, class: class(&record), needed_by });
        let blob = match is_blob(&record) && storage.blobs().is_some() {
            true => blob(backup, oid)?,
            false => None,
        };
        let serial = serial(storage, oid)?;
        match blob {
            None => draft.store(oid, serial, record)?,
            Some(blob) => {
                found.blobs_held += 1;
                found.blob_bytes += blob.length()?;
                draft.store_blob(oid, serial, record, blob)?;
            }
        }
    }
    Ok((draft, found))
}

/// The blob that the trunk of the backup shows; none if the backup has no blobs, or lacks this one.
fn blob(backup: &dyn Storage, oid: Oid) -> StorageResult<Option<Blob>> {
    let Some(blobs) = backup.blobs() else { return Ok(None) };
    let shown = backup.load_before(oid, Tid::MAX)?.ok_or(Error::key(oid))?;
    match blobs.load_blob(oid, shown.tid) {
        Ok(blob) => Ok(Some(blob)),
        Err(Error::NoBlob { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The record that the trunk shows of the object; none if there is none.
fn if_there(storage: &dyn Storage, oid: Oid) -> StorageResult<Option<(Bytes, Tid)>> {
    match storage.load(oid, &Version::TRUNK) {
        Ok(loaded) => Ok(Some((loaded.data, loaded.tid))),
        Err(Error::KeyError { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The serial that the next change of the object is made to: that of the tombstone, if there is one.
fn serial(storage: &dyn Storage, oid: Oid) -> StorageResult<Tid> {
    match storage.history(oid, 1) {
        Ok(newest) => Ok(newest.first().map_or(Tid::ZERO, |entry| entry.tid)),
        Err(Error::KeyError { .. }) => Ok(Tid::ZERO),
        Err(other) => Err(other),
    }
}

fn class(record: &[u8]) -> Option<String> {
    class_of(record).ok().map(|class| class.to_string())
}

/// The classes of the two records, if both can be read and are not the same.
fn differ(then: &[u8], now: &[u8]) -> Option<(String, String)> {
    class(then).zip(class(now)).filter(|(then, now)| then != now)
}
