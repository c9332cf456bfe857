//! Part 4: a history-free database, which forgets with each commit what its transactions made old.

use std::collections::BTreeSet;

use crate::pack::Pack;
use crate::{Database, Oid, Status, Tid};

/// One commit forgets at most so many transactions (rule 4.12), so that none has to do the work of many.
pub const FORGOTTEN_AT_ONCE: usize = 4;

impl Database {
    /// Rule 4.12: a history-free database after a commit, up to which it may forget until `then`.
    pub fn forget(&self, then: Tid) -> Database {
        let due = self.transactions.iter().filter(|transaction| transaction.status == Status::Complete);
        let due = due.take_while(|transaction| transaction.tid <= then).take(FORGOTTEN_AT_ONCE);
        let Some(t) = due.last().map(|transaction| transaction.tid) else { return self.clone() };
        let pack = Pack { before: self, t, under_way: &[], references: &|_| Vec::new() };
        pack.without(&pack.newest(), &BTreeSet::new())
    }

    /// Rule 4.12: whether a copied revision may name this one as its source or as its base in a history-free database.
    pub fn lasts(&self, oid: Oid, tid: Tid) -> bool {
        self.newest(oid).is_some_and(|newest| newest.tid() == tid || newest.revision.base == Some(tid))
    }
}
