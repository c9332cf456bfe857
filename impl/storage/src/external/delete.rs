//! Deleting garbage, unless it turns out to be needed in time.

use std::fmt;

use super::mark::{Marked, Marker};
use super::{Garbage, GarbageError, each};
use crate::{Error, Oid, OidSet, Refusal, Result, Tid, TransactionMeta, Version, Voted};

/// How to delete garbage.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeleteGarbage<'a> {
    /// Objects that one transaction deletes at most, and locks between its vote and its finish.
    pub objects_max: usize,
    /// The metadata of each transaction.
    pub meta: TransactionMeta,
    /// Called after each transaction with the number of all deleted objects.
    pub progress: &'a dyn Fn(u64),
}

impl<'a> DeleteGarbage<'a> {
    /// A thousand objects a transaction.
    pub fn new() -> DeleteGarbage<'a> {
        let meta = TransactionMeta::new().description("garbage collection");
        DeleteGarbage { objects_max: 1000, meta, progress: &|_| () }
    }

    /// Sets [`DeleteGarbage::objects_max`].
    #[must_use]
    pub fn objects_max(self, objects_max: usize) -> DeleteGarbage<'a> {
        DeleteGarbage { objects_max, ..self }
    }

    /// Sets [`DeleteGarbage::meta`].
    #[must_use]
    pub fn meta(self, meta: TransactionMeta) -> DeleteGarbage<'a> {
        DeleteGarbage { meta, ..self }
    }

    /// Sets [`DeleteGarbage::progress`].
    #[must_use]
    pub fn progress(self, progress: &'a dyn Fn(u64)) -> DeleteGarbage<'a> {
        DeleteGarbage { progress, ..self }
    }
}

/// As [`DeleteGarbage::new`].
impl Default for DeleteGarbage<'_> {
    fn default() -> Self {
        DeleteGarbage::new()
    }
}

impl fmt::Debug for DeleteGarbage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeleteGarbage { objects_max, meta, .. } = self;
        f.debug_struct("DeleteGarbage").field("objects_max", objects_max).field("meta", meta).finish_non_exhaustive()
    }
}

/// The deletions in one of the databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeletedGarbage {
    /// Its name.
    pub database: String,
    /// Objects deleted.
    pub objects: u64,
    /// In which transactions, in their order. Each can be undone, unless the database is history-free.
    pub transactions: Vec<Tid>,
    /// Objects that were needed after the look, and so were left.
    pub saved: u64,
    /// Objects that a concurrent transaction changed, deleted, or put into a version just before their deletion, and
    /// which were left as they are.
    pub left: Vec<Oid>,
    /// Objects that a concurrent transaction referred to at the moment of their deletion, and which were stored again
    /// as they had been.
    pub brought_back: Vec<Oid>,
}

/// A deletion that stopped before its end.
#[derive(Debug, thiserror::Error)]
#[error("{why}. {}", so_far(.deletions))]
#[non_exhaustive]
pub struct DeleteStopped {
    /// The deletions before that. They stay, in complete transactions.
    pub deletions: Vec<DeletedGarbage>,
    /// Why it stopped.
    #[source]
    pub why: Box<GarbageError>,
}

fn so_far(deletions: &[DeletedGarbage]) -> String {
    match deletions.iter().map(|here| here.objects).sum() {
        0 => "Nothing was deleted".to_owned(),
        objects => format!("{objects} objects were deleted before that, in whole transactions"),
    }
}

impl Garbage<'_> {
    /// Deletes the garbage, database by database, in transactions of at most [`DeleteGarbage::objects_max`] objects.
    /// Before each of them is finished, it reads the transactions that others have committed since. Returns what was
    /// done in each database.
    ///
    /// # Errors
    ///
    /// A storage fails, or one of the errors of [`find_garbage`](super::find_garbage) occurs in the transactions of
    /// others. Then no more objects are brought back, and one that was deleted just before may be referred to.
    pub fn delete(self, how: &DeleteGarbage<'_>) -> Result<Vec<DeletedGarbage>, DeleteStopped> {
        let named = |found: &super::FoundGarbage| DeletedGarbage {
            database: found.database.clone(),
            ..DeletedGarbage::default()
        };
        let deletions = self.found.iter().map(named).collect();
        let mut deleting = Deleting { marker: self.marker, garbage: self.garbage, deletions, how };
        match deleting.everything() {
            Ok(()) => Ok(deleting.deletions),
            Err(why) => Err(DeleteStopped { deletions: deleting.deletions, why: Box::new(why) }),
        }
    }
}

/// Deleting under way.
struct Deleting<'a, 'b> {
    marker: Marker<'a>,
    garbage: Vec<OidSet>,
    deletions: Vec<DeletedGarbage>,
    how: &'b DeleteGarbage<'b>,
}

impl Deleting<'_, '_> {
    fn everything(&mut self) -> Result<(), GarbageError> {
        for n in 0..self.garbage.len() {
            let mut from = Some(Oid::ROOT);
            while let Some(first) = from {
                let batch = self.batch(n, first)?;
                from = batch.last().and_then(|(oid, _)| oid.0.checked_add(1)).map(Oid);
                self.delete(n, batch)?;
                self.bring_back()?;
            }
        }
        self.marker.look_again()?;
        self.bring_back()
    }

    /// Garbage from `first` on, with the revisions that it is at. None is left if there is none in it.
    fn batch(&mut self, n: usize, first: Oid) -> Result<Vec<(Oid, Tid)>, GarbageError> {
        let (here, deletions) = (&self.marker.databases[n], &mut self.deletions[n]);
        let mut batch = Vec::new();
        for oid in each(&self.garbage[n], first) {
            if here.reached.contains(oid) {
                deletions.saved += 1;
                continue;
            }
            match here.storage.load(oid, &Version::TRUNK) {
                Ok(loaded) => batch.push((oid, loaded.tid)),
                Err(Error::KeyError { .. }) => deletions.left.push(oid),
                Err(error) => return Err(here.says(error)),
            }
            if batch.len() >= self.how.objects_max {
                break;
            }
        }
        Ok(batch)
    }

    fn delete(&mut self, n: usize, mut batch: Vec<(Oid, Tid)>) -> Result<(), GarbageError> {
        while !batch.is_empty() {
            let here = &self.marker.databases[n];
            let voted = match vote(here, &batch, self.how.meta.clone()) {
                Ok(voted) => voted,
                Err(error) => {
                    let at = touched(&error).and_then(|oid| batch.iter().position(|(other, _)| *other == oid));
                    let Some(at) = at else { return Err(here.says(error)) };
                    self.deletions[n].left.push(batch.remove(at).0);
                    continue;
                }
            };
            // The objects are locked now. Changes of all other objects are read as late as possible.
            self.marker.look_again()?;
            let here = &mut self.marker.databases[n];
            let before = batch.len();
            batch.retain(|(oid, _)| !here.reached.contains(*oid));
            if batch.len() < before {
                self.deletions[n].saved += (before - batch.len()) as u64;
                continue;
            }
            let tid = voted.finish().map_err(|error| here.says(error))?;
            here.own.push(tid);
            batch.iter().for_each(|(oid, _)| {
                here.deleted.insert(*oid);
            });
            self.deletions[n].transactions.push(tid);
            self.deletions[n].objects += batch.len() as u64;
            (self.how.progress)(self.deletions.iter().map(|deletions| deletions.objects).sum());
            break;
        }
        Ok(())
    }

    /// Stores deleted objects again that turned out to be needed, with the deleted objects that they refer to.
    fn bring_back(&mut self) -> Result<(), GarbageError> {
        let mut gone = None;
        for n in 0..self.marker.databases.len() {
            let here = &mut self.marker.databases[n];
            let needed = std::mem::take(&mut here.too_soon);
            for oid in needed {
                let Some((serial, data)) = here.before_deletion(oid)? else {
                    gone.get_or_insert_with(|| here.says(Error::key(oid)));
                    continue;
                };
                let meta = self.how.meta.clone().description("brings back what is needed after all");
                let stored = here.storage.begin(meta).and_then(|mut draft| {
                    draft.store(oid, serial, data)?;
                    here.storage.commit(draft)
                });
                match stored {
                    Ok(tid) => {
                        here.own.push(tid);
                        self.deletions[n].brought_back.push(oid);
                    }
                    // A concurrent transaction has brought it back.
                    Err(error) if touched(&error) == Some(oid) => {}
                    Err(error) => return Err(here.says(error)),
                }
            }
        }
        gone.map_or(Ok(()), Err)
    }
}

fn vote(here: &Marked<'_>, batch: &[(Oid, Tid)], meta: TransactionMeta) -> Result<Voted> {
    let mut draft = here.storage.begin(meta)?;
    batch.iter().try_for_each(|(oid, serial)| draft.delete(*oid, *serial))?;
    here.storage.vote(draft)
}

/// The object that a concurrent transaction has touched.
fn touched(error: &Error) -> Option<Oid> {
    match error {
        Error::Refused(
            Refusal::Conflict { oid, .. } | Refusal::VersionLock { oid, .. } | Refusal::UnknownObject { oid },
        ) => Some(*oid),
        _ => None,
    }
}
