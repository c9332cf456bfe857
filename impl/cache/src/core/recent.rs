//! The latest changes, by which an answer is judged that was on its way.
//!
//! ```text
//!   asked, head t5 ──────────────────────────▶ the server
//!                    invalidation t7: object
//!                    ◀────────────────────────  (data, t2, "current")     kept as [t2, t7)
//! ```
//!
//! The memory is bounded. Of changes up to the floor it knows nothing. Of a revision that was asked for before that,
//! nobody knows how long it held.

use std::collections::VecDeque;

use vellum_storage::{Oid, Tid};

/// An object was changed, once or more, by transactions after `after`, up to `tid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) oid: Oid,
    after: Tid,
    tid: Tid,
}

/// The news of the latest changes about a revision that the server called current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It still is.
    Open,
    /// This transaction changed the object.
    Ended(Tid),
    /// Nobody knows how long it held.
    Unknown,
}

/// The latest changes, in the order of their tids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recent {
    changes: VecDeque<Change>,
    /// All changes after this transaction are here.
    floor: Tid,
    changes_max: usize,
}

impl Recent {
    /// No changes, of which all after `floor` will be noted.
    pub fn new(changes_max: usize, floor: Tid) -> Recent {
        Recent { changes: VecDeque::new(), floor, changes_max }
    }

    /// An object was changed by transactions after `after`, up to `tid`.
    pub fn note(&mut self, oid: Oid, after: Tid, tid: Tid) {
        self.add(Change { oid, after, tid });
    }

    pub(super) fn add(&mut self, change: Change) {
        self.changes.push_back(change);
        while self.changes.len() > self.changes_max {
            let Some(gone) = self.changes.pop_front() else { return };
            self.floor = self.floor.max(gone.tid);
        }
    }

    /// Of changes up to this transaction nothing is known any more.
    pub fn forget(&mut self, floor: Tid) {
        self.changes.clear();
        self.floor = floor;
    }

    /// Judges a revision that the server called current when it was asked as of `asked`.
    pub fn judge(&self, oid: Oid, tid: Tid, asked: Tid) -> Judged {
        // At this moment it was current.
        if asked.max(tid) < self.floor {
            return Judged::Unknown;
        }
        let first = self.changes.partition_point(|change| change.tid <= tid);
        // A change of unknown time may be the one that wrote this revision. If it was asked for later, it is.
        let is_its_own = |change: &Change| change.after < tid && change.tid <= asked;
        // If it was changed before it was asked for, the server contradicts itself, and the change counts.
        let change = self.changes.range(first..).find(|change| change.oid == oid && !is_its_own(change));
        match change {
            None => Judged::Open,
            Some(Change { after, tid, .. }) if after.next() == *tid => Judged::Ended(*tid),
            Some(_) => Judged::Unknown,
        }
    }

    /// The changes that may be of later transactions than this one; none if that is not known.
    pub(super) fn since(&self, tid: Tid) -> Option<impl Iterator<Item = Change>> {
        (self.floor <= tid).then(|| self.changes.iter().copied().filter(move |change| change.tid > tid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_the_first_change_after_it() {
        let mut recent = Recent::new(3, Tid(5));
        recent.note(Oid(1), Tid(6), Tid(7));
        recent.note(Oid(1), Tid(8), Tid(9));
        let judge = |recent: &Recent, tid, asked| recent.judge(Oid(1), Tid(tid), Tid(asked));
        assert_eq!(judge(&recent, 2, 5), Judged::Ended(Tid(7)));
        assert_eq!(judge(&recent, 7, 5), Judged::Ended(Tid(9)), "it is that change");
        assert_eq!(judge(&recent, 9, 5), Judged::Open);
        assert_eq!(judge(&recent, 2, 8), Judged::Ended(Tid(7)), "the server contradicts itself");
        assert_eq!(judge(&recent, 2, 4), Judged::Unknown, "asked before all that is known");
        recent.note(Oid(2), Tid(9), Tid(10));
        recent.note(Oid(2), Tid(10), Tid(11));
        assert_eq!(judge(&recent, 2, 5), Judged::Unknown, "the change at 7 is forgotten");
        assert_eq!(judge(&recent, 2, 7), Judged::Ended(Tid(9)));
        recent.forget(Tid(20));
        assert_eq!((judge(&recent, 2, 19), judge(&recent, 2, 20)), (Judged::Unknown, Judged::Open));
    }

    #[test]
    fn a_change_of_unknown_time_is_no_end() {
        let mut recent = Recent::new(3, Tid(5));
        recent.note(Oid(1), Tid(5), Tid(20));
        let judge = |tid, asked| recent.judge(Oid(1), Tid(tid), Tid(asked));
        assert_eq!((judge(2, 5), judge(12, 5)), (Judged::Unknown, Judged::Unknown));
        assert_eq!(judge(20, 5), Judged::Open);
        assert_eq!(judge(12, 20), Judged::Open, "it was asked for after the change, which wrote it");
    }
}
