//! Part 4: a history-free database, which forgets with each commit what its transactions made old.

use std::collections::BTreeSet;

use crate::pack::Pack;
use crate::{Change, Database, Oid, Status, Tid};

/// One commit forgets at most so many transactions (rule 4.12), so that none has to do the work of many.
pub const FORGOTTEN_AT_ONCE: usize = 4;

/// So many transactions whose tids follow each other without a gap show that the clock is behind them (rule 4.12).
pub const WITHOUT_CLOCK: u64 = 4096;

impl Database {
    /// Rule 4.12: a history-free database after a commit, up to which it may forget until `then`.
    pub fn forget(&self, then: Tid) -> Database {
        let then = then.max(self.counted_on().unwrap_or(0));
        let due = self.transactions.iter().filter(|transaction| transaction.status == Status::Complete);
        let due = due.take_while(|transaction| transaction.tid <= then).take(FORGOTTEN_AT_ONCE);
        let Some(t) = due.last().map(|transaction| transaction.tid) else { return self.clone() };
        let pack = Pack { before: self, t, under_way: &[], references: &|_| Vec::new() };
        pack.without(&pack.newest(), &BTreeSet::new())
    }

    /// Rule 4.12: the time up to which it forgets in any case, if the clock is behind the tids.
    fn counted_on(&self) -> Option<Tid> {
        let first = self.last_transaction().checked_sub(WITHOUT_CLOCK)?;
        let counted = self.transactions.iter().rev().take_while(|transaction| transaction.tid >= first).count() as u64;
        (counted > WITHOUT_CLOCK).then_some(first)
    }

    /// Rule 4.12: a change of a history-free database. A copy forgets the revisions that it named, unless they last.
    pub fn lasting(&self, change: Change) -> Change {
        match change {
            Change::Restore { oid, data, blob, version, source, base } => {
                let source = source.filter(|tid| self.lasts(oid, *tid));
                // No revision has this tid, so the base is what the trunk shows.
                let base = base.map(|tid| if self.lasts(oid, tid) { tid } else { 0 });
                Change::Restore { oid, data, blob, version, source, base }
            }
            other => other,
        }
    }

    /// Rule 4.12: whether a copied revision may name this one as its source or as its base in a history-free database.
    pub fn lasts(&self, oid: Oid, tid: Tid) -> bool {
        self.newest(oid).is_some_and(|newest| newest.tid() == tid || newest.revision.base == Some(tid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Revision, Transaction};

    /// Rule 4.12.
    #[test]
    fn tids_without_a_gap_are_counted() {
        let revision =
            Revision { oid: 1, version: String::new(), base: None, content: Content::Data(vec![1]), blob: None };
        let none = Vec::new;
        let one = |tid| Transaction {
            tid,
            status: Status::Complete,
            user: none(),
            description: none(),
            extension: none(),
            revisions: vec![revision.clone()],
        };
        let last = WITHOUT_CLOCK + 12;
        let packed_to = |tids: &mut dyn Iterator<Item = Tid>| {
            Database { transactions: tids.map(one).collect() }.forget(0).packed_to()
        };
        assert_eq!(packed_to(&mut (1..=last)), 4, "four at once");
        assert_eq!(packed_to(&mut (12..=last)), 12);
        assert_eq!(packed_to(&mut (13..=last)), 0);
        assert_eq!(packed_to(&mut (1..=last).filter(|tid| *tid != 2000)), 0);
    }
}
