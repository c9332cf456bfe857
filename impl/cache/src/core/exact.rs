//! Calls for a user that shows ends to others.
//!
//! The other calls give a revision an end where it was last known to hold, if nobody knows when it was changed. Such an
//! end is true, and it is no transaction's tid. The client of a server answers `load_before` with the tid of the next
//! revision (rule 2.2), so it cannot use such an end. These calls drop the revision in its place.

use vellum_storage::{LoadedAt, Oid, Tid};

use super::slot::{Hashed, Slot};
use super::{Asked, Candidate, Changed, Core, Medium};

impl<M: Medium> Core<M> {
    /// A lookup here, and then in a cache behind this one, which was told of at least as many transactions. This cache
    /// keeps what is found there.
    pub fn get_through(&self, oid: Oid, before: Tid, behind: impl FnOnce() -> Option<LoadedAt>) -> Option<LoadedAt> {
        // Before the look behind, as before a question to a server: what is changed later is judged.
        let asked = self.ask();
        if before > asked.0.next() {
            return None;
        }
        self.get(oid, before).or_else(|| {
            let found = behind()?;
            self.store_exact(asked, oid, &found);
            Some(found)
        })
    }

    /// Keeps a revision as [`Core::store`] does, unless the tid of its end is not known; whether it is there now.
    pub fn store_exact(&self, asked: Asked, oid: Oid, found: &LoadedAt) -> bool {
        let mut writer = self.writer.lock();
        let is_exact = found.next.is_some() || writer.recent.is_exact(oid, found.tid, asked.0);
        !writer.is_closed && is_exact && self.store_one(&mut writer, asked, oid, found)
    }

    /// Does as [`Core::verify`] does, and drops the open revisions of changed objects.
    pub fn verify_exact(&self, changed: Changed<'_>, tid: Tid) {
        self.verify_by(changed, tid, |oid, _| self.drop_open(oid, tid), |_| self.drop_all_open());
    }

    fn drop_open(&self, oid: Oid, tid: Tid) {
        for Candidate { slot, .. } in self.candidates(oid) {
            let is_other = |slot: Slot| {
                self.medium.header(slot.place()).is_some_and(|header| header.oid != oid || header.tid >= tid)
            };
            if slot.is_open() && !is_other(slot) {
                self.lose(Hashed::of(oid), slot);
            }
        }
    }

    fn drop_all_open(&self) {
        for shard in &self.shards {
            // They are erased between the two times that the lock is taken.
            let open: Vec<Slot> = shard.lock().iter().filter(|slot| slot.is_open()).collect();
            open.iter().for_each(|slot| self.medium.erase(slot.place()));
            let mut shard = shard.lock();
            open.into_iter().for_each(|slot| _ = shard.remove(slot));
        }
    }
}
