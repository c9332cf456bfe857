//! Part 4: packing by counts. An object goes if no record refers to it, for as long as there is such an object.

use std::collections::{BTreeMap, BTreeSet};

use crate::pack::{Pack, Refused};
use crate::{At, Content, Database, Oid, Revision, Tid};

/// The revisions that rule 4.2 keeps of each object, if it is needed.
type Newest<'a> = BTreeMap<Oid, Vec<At<'a>>>;

impl Database {
    /// Rule 4.11: packs to the time `t` by counts. `under_way` has the revisions that transactions between vote and
    /// finish will write; `untold` says whether a record may hide references; `references` says which objects a record
    /// refers to.
    pub fn pack_by_counts(
        &self,
        t: Tid,
        under_way: &[Revision],
        untold: Option<fn(&[u8]) -> bool>,
        references: &dyn Fn(&[u8]) -> Vec<Oid>,
    ) -> Result<Database, Refused> {
        // Rule 4.7.
        if t < self.packed_to() {
            return Ok(self.clone());
        }
        let pack = Pack { before: self, t, under_way, references };
        pack.may_count(untold)?;
        let newest = pack.newest();
        let mut gone = BTreeSet::new();
        loop {
            let next = pack.unheld(&newest, &gone);
            if next.is_empty() {
                return Ok(pack.without(&newest, &gone));
            }
            gone.extend(next);
        }
    }

    /// Rule 4.11: every database that a pack by counts may leave if it is stopped.
    pub fn stopped_by_counts(
        &self,
        t: Tid,
        under_way: &[Revision],
        references: &dyn Fn(&[u8]) -> Vec<Oid>,
    ) -> Vec<Database> {
        let mut found = vec![self.clone()];
        if t < self.packed_to() {
            return found;
        }
        let times = self.transactions.iter().map(|transaction| transaction.tid);
        for earlier in times.filter(|tid| *tid <= t && *tid >= self.packed_to()) {
            let pack = Pack { before: self, t: earlier, under_way, references };
            found.push(pack.without(&pack.newest(), &BTreeSet::new()));
        }
        let pack = Pack { before: self, t, under_way, references };
        let newest = pack.newest();
        let (mut seen, mut next) = (BTreeSet::new(), vec![BTreeSet::new()]);
        while let Some(gone) = next.pop() {
            if seen.insert(gone.clone()) {
                let one_more = |oid| gone.iter().copied().chain([oid]).collect();
                next.extend(pack.unheld(&newest, &gone).into_iter().map(one_more));
                found.push(pack.without(&newest, &gone));
            }
        }
        found
    }
}

impl<'a> Pack<'a> {
    /// Rules 4.8 and 4.10, as far as they hold for a pack by counts: there is a root, and no record hides references.
    fn may_count(&self, untold: Option<fn(&[u8]) -> bool>) -> Result<(), Refused> {
        let oids = self.before.oids();
        let mut refused = Refused { untold: BTreeSet::new(), dangling: BTreeSet::new() };
        if !oids.is_empty() && !oids.contains(&0) {
            refused.dangling.insert((0, 0));
        }
        let all = self.before.transactions.iter().flat_map(|transaction| &transaction.revisions);
        for revision in all.chain(self.under_way) {
            if let Content::Data(data) = &revision.content
                && untold.is_some_and(|untold| untold(data))
            {
                refused.untold.insert(revision.oid);
            }
        }
        if refused.untold.is_empty() && refused.dangling.is_empty() { Ok(()) } else { Err(refused) }
    }

    /// The objects that can go next: none of the records that are left refers to them.
    fn unheld(&self, newest: &Newest<'a>, gone: &BTreeSet<Oid>) -> BTreeSet<Oid> {
        let left = || newest.iter().filter(|(oid, _)| !gone.contains(oid));
        let mut held = BTreeSet::from([0]);
        held.extend(self.later().map(|revision| revision.oid));
        held.extend(self.later().flat_map(|revision| self.later_refers(revision)));
        let sources = self.sources();
        held.extend(sources.iter().filter_map(|&(oid, tid)| self.before.at(oid, tid)).flat_map(|at| self.refers(at)));
        held.extend(left().flat_map(|(_, revisions)| revisions).flat_map(|at| self.refers(*at)));
        left().map(|(oid, _)| *oid).filter(|oid| !held.contains(oid)).collect()
    }

    /// The database without these objects, packed to the time.
    pub fn without(&self, newest: &Newest<'a>, gone: &BTreeSet<Oid>) -> Database {
        let mut kept = self.sources();
        for (oid, revisions) in newest.iter().filter(|(oid, _)| !gone.contains(oid)) {
            kept.extend(revisions.iter().map(|at| (*oid, at.tid())));
        }
        let transactions = self.before.transactions.iter();
        Database { transactions: transactions.filter_map(|transaction| self.forget(transaction, &kept)).collect() }
    }
}
