//! Changes: what the server tells of them, and what follows for open revisions.

use vellum_storage::{Oid, Tid};

use super::slot::{Hashed, Slot};
use super::writer::Writer;
use super::{Asked, Candidate, Core, Failed, Medium};
use crate::sync::atomic::Ordering::Release;

/// The objects that were changed while there was no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed<'a> {
    /// These, at unknown times.
    Objects(&'a [Oid]),
    /// Perhaps all.
    Any,
}

impl<M: Medium> Core<M> {
    /// A transaction changed these objects. When this returns, no reader gets their old states for current ones.
    pub fn invalidate(&self, tid: Tid, oids: &[Oid]) {
        let mut writer = self.writer.lock();
        if writer.is_closed {
            return;
        }
        let before = Tid(tid.0.saturating_sub(1));
        for oid in oids {
            // Before the entries: a store that comes later looks here.
            writer.recent.note(*oid, before, tid);
            self.end_open(*oid, before, tid);
        }
        self.move_head(&mut writer, tid);
    }

    /// After a time without a connection, the server says what was changed after the head, up to `tid`. Readers go on,
    /// and see the state as of the old head until this returns.
    pub fn verify(&self, changed: Changed<'_>, tid: Tid) {
        self.verify_by(changed, tid, |oid, head| self.end_open(oid, head, tid), |head| self.end_all_open(head));
    }

    /// Notes the changes after the old head up to `tid`. `one` sees to the open revisions of an object, `all` to all;
    /// both get the old head.
    pub(super) fn verify_by(&self, changed: Changed<'_>, tid: Tid, one: impl Fn(Oid, Tid), all: impl FnOnce(Tid)) {
        let mut writer = self.writer.lock();
        if writer.is_closed {
            return;
        }
        let head = writer.head;
        match changed {
            Changed::Objects(oids) => {
                for oid in oids {
                    writer.recent.note(*oid, head, tid);
                    one(*oid, head);
                }
            }
            Changed::Any => {
                writer.recent.forget(tid);
                all(head);
            }
        }
        self.move_head(&mut writer, tid);
    }

    /// Drops everything. The cache was told of all changes up to `head`, which may be earlier than before: the server
    /// was rolled back.
    pub fn clear(&self, head: Tid) {
        let mut writer = self.writer.lock();
        if writer.is_closed {
            return;
        }
        for shard in &self.shards {
            shard.lock().retain(|_| false);
        }
        self.begin_all(&mut writer);
        writer.recent.forget(head);
        self.medium.begun_all(head);
        self.show_head(&mut writer, head);
    }

    /// Looks at the medium and the head while nothing is being written: all that the head stands for is in the medium.
    pub fn settled<T>(&self, look: impl FnOnce(&M, Tid) -> T) -> T {
        let writer = self.writer.lock();
        look(&self.medium, writer.head)
    }

    /// Ends the cache. After that no lookup finds anything, and no bytes are written.
    pub fn close(&self) {
        let mut writer = self.writer.lock();
        writer.is_closed = true;
        self.is_closed.store(true, Release);
    }

    /// Moves the head: what was noted before is seen by all that see the head.
    pub(super) fn move_head(&self, writer: &mut Writer, tid: Tid) {
        if tid > writer.head {
            self.medium.told(tid);
            self.show_head(writer, tid);
        }
    }

    fn show_head(&self, writer: &mut Writer, tid: Tid) {
        writer.head = tid;
        self.head.store(tid.0, Release);
    }

    /// The object was changed after `after`, by `tid` at the latest. Its open revisions from before `tid` end where
    /// they were last known to hold.
    fn end_open(&self, oid: Oid, after: Tid, tid: Tid) {
        for Candidate { slot, .. } in self.candidates(oid) {
            if !slot.is_open() {
                continue;
            }
            match self.medium.header(slot.place()) {
                Some(header) if header.oid != oid || header.tid >= tid => {}
                Some(header) => self.end(oid, slot, after.max(header.tid).next()),
                // Perhaps the object's: it is not known to be current.
                None => self.lose(Hashed::of(oid), slot),
            }
        }
    }

    fn end_all_open(&self, after: Tid) {
        for shard in &self.shards {
            // The ends are written between the two times that the lock is taken.
            let open: Vec<Slot> = shard.lock().iter().filter(|slot| slot.is_open()).collect();
            for slot in open {
                let header = self.medium.header(slot.place());
                let ended =
                    header.and_then(|header| self.medium.end(slot.place(), &header, after.max(header.tid).next()).ok());
                if ended.is_none() {
                    self.medium.erase(slot.place());
                }
                let mut shard = shard.lock();
                match ended {
                    Some(()) => shard.replace(slot, slot.ended()),
                    None => shard.remove(slot),
                };
            }
        }
    }

    /// Gives a revision its end.
    fn end(&self, oid: Oid, slot: Slot, end: Tid) {
        let hashed = Hashed::of(oid);
        let Some(header) = self.medium.header(slot.place()) else { return self.lose(hashed, slot) };
        // Before the entry, by which readers learn that there is an end.
        match self.medium.end(slot.place(), &header, end) {
            Ok(()) => drop(self.shard(hashed).lock().replace(slot, slot.ended())),
            Err(Failed) => self.lose(hashed, slot),
        }
    }

    /// Drops a revision whose end cannot be written.
    pub(super) fn lose(&self, hashed: Hashed, slot: Slot) {
        self.medium.erase(slot.place());
        self.drop_slot(hashed, slot);
    }

    pub(super) fn drop_slot(&self, hashed: Hashed, slot: Slot) {
        self.shard(hashed).lock().remove(slot);
    }

    /// The end of a revision that the server called current: none, or the change that came in between.
    pub(super) fn end_of(&self, writer: &Writer, oid: Oid, tid: Tid, Asked(asked): Asked) -> Option<Tid> {
        writer.recent.end(oid, tid, asked)
    }
}
