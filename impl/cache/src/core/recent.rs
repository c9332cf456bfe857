//! The latest changes, by which an answer is judged that was on its way.
//!
//! ```text
//!   asked, head t5 ──────────────────────────▶ the server
//!                    invalidation t7: object
//!                    ◀────────────────────────  (data, t2, "current")     kept as [t2, t7)
//! ```
//!
//! The memory is bounded. Of changes up to the floor it knows nothing. A revision that was asked for before that was
//! current at the moment of the question, and is kept until then.

use std::collections::VecDeque;

use vellum_storage::{Oid, Tid};

/// An object was changed, once or more, by transactions after `after`, up to `tid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Change {
    oid: Oid,
    after: Tid,
    tid: Tid,
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
        self.changes.push_back(Change { oid, after, tid });
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

    /// The end of a revision that the server called current when it was asked as of `asked`; none if it still is.
    pub fn end(&self, oid: Oid, tid: Tid, asked: Tid) -> Option<Tid> {
        // At this moment it was current.
        let known = asked.max(tid);
        if known < self.floor {
            return Some(known.next());
        }
        let first = self.changes.partition_point(|change| change.tid <= tid);
        // A change of unknown time may be the one that wrote this revision. If it was asked for later, it is.
        let is_its_own = |change: &Change| change.after < tid && change.tid <= asked;
        let change = self.changes.range(first..).find(|change| change.oid == oid && !is_its_own(change))?;
        // If it was changed before it was asked for, the server contradicts itself, and the change counts.
        let known = if change.tid > known { known } else { tid };
        Some(change.after.max(known).next())
    }

    /// The objects that were changed after this transaction; none if that is not known.
    pub fn since(&self, tid: Tid) -> Option<Vec<Oid>> {
        let changes = self.changes.iter().filter(|change| change.tid > tid);
        (self.floor <= tid).then(|| changes.map(|change| change.oid).collect())
    }

    /// Whether the end of such a revision, if it has one, is the tid of the transaction that changed the object.
    pub fn is_exact(&self, oid: Oid, tid: Tid, asked: Tid) -> bool {
        let end = self.end(oid, tid, asked);
        let is_it = |change: &Change, end| (change.oid, change.tid, change.after.next()) == (oid, end, end);
        end.is_none_or(|end| self.changes.iter().rev().any(|change| is_it(change, end)))
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
        let end = |recent: &Recent, tid, asked| recent.end(Oid(1), Tid(tid), Tid(asked)).map(|tid| tid.0);
        assert_eq!(end(&recent, 2, 5), Some(7));
        assert_eq!(end(&recent, 7, 5), Some(9), "it is that change");
        assert_eq!(end(&recent, 9, 5), None);
        assert_eq!(end(&recent, 2, 8), Some(7), "the server contradicts itself");
        assert_eq!(end(&recent, 2, 4), Some(5), "asked before all that is known");
        recent.note(Oid(2), Tid(9), Tid(10));
        recent.note(Oid(2), Tid(10), Tid(11));
        assert_eq!(end(&recent, 2, 5), Some(6), "the change at 7 is forgotten");
        assert_eq!(end(&recent, 2, 7), Some(9));
        recent.forget(Tid(20));
        assert_eq!((end(&recent, 2, 19), end(&recent, 2, 20)), (Some(20), None));
    }

    #[test]
    fn a_change_of_unknown_time_ends_a_revision_where_it_was_last_known() {
        let mut recent = Recent::new(3, Tid(5));
        recent.note(Oid(1), Tid(5), Tid(20));
        assert_eq!(recent.end(Oid(1), Tid(2), Tid(5)), Some(Tid(6)));
        assert_eq!(recent.end(Oid(1), Tid(12), Tid(5)), Some(Tid(13)));
        assert_eq!(recent.end(Oid(1), Tid(20), Tid(5)), None);
        assert_eq!(recent.end(Oid(1), Tid(12), Tid(20)), None, "it was asked for after the change, which wrote it");
        assert!(recent.is_exact(Oid(1), Tid(12), Tid(20)) && !recent.is_exact(Oid(1), Tid(2), Tid(5)));
    }
}
