//! Changes: what the server tells of them, and what follows for open revisions.

use vellum_storage::{Oid, Tid};

use super::recent::Recent;
use super::slot::{Hashed, Slot};
use super::writer::Writer;
use super::{Candidate, Core, Failed, Header, Medium};
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
            self.each_open(*oid, tid, |slot, header| self.end(Hashed::of(*oid), slot, header, tid));
        }
        self.move_head(&mut writer, tid);
    }

    /// After a time without a connection, the server says what was changed after the head, up to `tid`. The open
    /// revisions of changed objects go, because nobody knows when they ended. Readers go on, and see the state as of
    /// the old head until this returns.
    pub fn verify(&self, changed: Changed<'_>, tid: Tid) {
        let mut writer = self.writer.lock();
        if writer.is_closed {
            return;
        }
        let head = writer.head;
        match changed {
            Changed::Objects(oids) => {
                for oid in oids {
                    writer.recent.note(*oid, head, tid);
                    self.each_open(*oid, tid, |slot, _| self.lose(Hashed::of(*oid), slot));
                }
            }
            Changed::Any => {
                writer.recent.forget(tid);
                self.drop_all_open();
            }
        }
        self.move_head(&mut writer, tid);
    }

    /// Another process was told of all changes up to `tid`, and remembers the latest. As [`Core::verify`], but a change
    /// keeps its time: one of which only a span is known may be from before the head.
    pub fn learn(&self, remembered: &Recent, tid: Tid) {
        let mut writer = self.writer.lock();
        if writer.is_closed {
            return;
        }
        match remembered.since(writer.head) {
            Some(changes) => {
                for change in changes {
                    writer.recent.add(change);
                    self.each_open(change.oid, tid, |slot, _| self.lose(Hashed::of(change.oid), slot));
                }
            }
            None => {
                writer.recent.forget(tid);
                self.drop_all_open();
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
    fn move_head(&self, writer: &mut Writer, tid: Tid) {
        if tid > writer.head {
            self.medium.told(tid);
            self.show_head(writer, tid);
        }
    }

    fn show_head(&self, writer: &mut Writer, tid: Tid) {
        writer.head = tid;
        self.head.store(tid.0, Release);
    }

    /// Calls `change` for the open revisions of the object from before `tid`.
    fn each_open(&self, oid: Oid, tid: Tid, change: impl Fn(Slot, &Header)) {
        for Candidate { slot, .. } in self.candidates(oid) {
            if !slot.is_open() {
                continue;
            }
            match self.medium.header(slot.place()) {
                Some(header) if header.oid != oid || header.tid >= tid => {}
                Some(header) => change(slot, &header),
                // Perhaps the object's: it is not known to be current.
                None => self.lose(Hashed::of(oid), slot),
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

    /// Gives a revision its end.
    fn end(&self, hashed: Hashed, slot: Slot, header: &Header, end: Tid) {
        // Before the entry, by which readers learn that there is an end.
        match self.medium.end(slot.place(), header, end) {
            Ok(()) => drop(self.shard(hashed).lock().replace(slot, slot.ended())),
            Err(Failed) => self.lose(hashed, slot),
        }
    }

    /// Drops a revision whose end cannot be written.
    fn lose(&self, hashed: Hashed, slot: Slot) {
        self.medium.erase(slot.place());
        self.drop_slot(hashed, slot);
    }

    pub(super) fn drop_slot(&self, hashed: Hashed, slot: Slot) {
        self.shard(hashed).lock().remove(slot);
    }
}
