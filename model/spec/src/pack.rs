//! Part 4: packing. It may forget the past before a time, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::{At, Content, Database, Oid, Status, Tid, Transaction};

/// References to objects that are nowhere: who refers, to whom.
pub type Dangling = BTreeSet<(Oid, Oid)>;

/// What a pack came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The database afterwards.
    pub database: Database,
    /// References to objects that are nowhere (rule 4.8): who refers, to whom.
    pub dangling: Dangling,
}

/// Needed objects refer to others that are nowhere: the database was broken before. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Who refers, to whom.
    pub dangling: Dangling,
}

impl Database {
    /// Packs to the time `t`. `references` says which objects a record refers to, weak references and those into other
    /// databases left out (rule 4.6). With `collect`, what nobody needs goes. If something is dangling, it is refused
    /// unless `go_on`.
    pub fn pack(
        &self,
        t: Tid,
        collect: bool,
        go_on: bool,
        references: &dyn Fn(&[u8]) -> Vec<Oid>,
    ) -> Result<Packed, Refused> {
        // Rule 4.7: the past is packed once.
        if t <= self.packed_to {
            return Ok(Packed { database: self.clone(), dangling: BTreeSet::new() });
        }
        let pack = Pack { before: self, t, references };
        let newest = pack.newest();
        let sources = pack.sources();
        let needed = if collect { pack.needed(&newest, &sources) } else { newest.keys().copied().collect() };
        let mut kept: BTreeSet<(Oid, Tid)> = pack.nothing_over(&sources).chain(sources.iter().copied()).collect();
        for (oid, revisions) in newest.iter().filter(|(oid, _)| needed.contains(oid)) {
            kept.extend(revisions.iter().map(|at| (*oid, at.tid())));
        }
        let (refuse, report) = pack.dangling(&kept);
        if !refuse.is_empty() && !go_on {
            return Err(Refused { dangling: refuse });
        }
        let transactions = self.transactions.iter().filter_map(|transaction| pack.forget(transaction, &kept)).collect();
        let dangling = refuse.into_iter().chain(report).collect();
        Ok(Packed { database: Database { transactions, packed_to: t }, dangling })
    }

    /// Every object that can be reached from the root at a moment: what the trunk showed right after `t`.
    pub fn reachable(&self, t: Tid, references: &dyn Fn(&[u8]) -> Vec<Oid>) -> BTreeMap<Oid, Vec<u8>> {
        let (mut found, mut next) = (BTreeMap::new(), vec![0]);
        while let Some(oid) = next.pop() {
            if let (false, Ok(Some(shown))) = (found.contains_key(&oid), self.load_before(oid, t + 1)) {
                found.insert(oid, shown.data.to_vec());
                next.extend(references(shown.data));
            }
        }
        found
    }
}

struct Pack<'a> {
    before: &'a Database,
    t: Tid,
    references: &'a dyn Fn(&[u8]) -> Vec<Oid>,
}

impl<'a> Pack<'a> {
    /// Rule 4.2: the revisions that were newest at the time, in the trunk or in a version, and not nothing.
    fn newest(&self) -> BTreeMap<Oid, Vec<At<'a>>> {
        let mut newest = BTreeMap::new();
        for oid in self.before.oids() {
            let Some(at) = self.before.past(oid).into_iter().find(|at| at.tid() <= self.t) else { continue };
            let under = self.before.on_trunk(at).filter(|under| *under != at);
            let revisions: Vec<_> =
                [Some(at), under].into_iter().flatten().filter(|at| self.before.data(*at).is_some()).collect();
            if !revisions.is_empty() {
                newest.insert(oid, revisions);
            }
        }
        newest
    }

    fn later(&self) -> impl Iterator<Item = At<'a>> {
        let later = self.before.transactions.iter().filter(|transaction| transaction.tid > self.t);
        later.flat_map(|transaction| transaction.revisions.iter().map(move |revision| At { transaction, revision }))
    }

    /// Rule 4.3: what later revisions name as the source of their data, or as what is under them.
    fn sources(&self) -> BTreeSet<(Oid, Tid)> {
        let mut sources = BTreeSet::new();
        for At { revision, .. } in self.later() {
            let source = if let Content::Source(tid) = revision.content { Some(tid) } else { None };
            sources.extend([source, revision.under].into_iter().flatten().map(|tid| (revision.oid, tid)));
        }
        sources.retain(|&(oid, tid)| tid <= self.t && self.before.at(oid, tid).is_some());
        sources
    }

    /// Rule 4.4: where an object was nothing at the time, but an older revision is kept as a source, the nothing is kept
    /// too; or else the source would be shown in its place.
    fn nothing_over(&self, sources: &BTreeSet<(Oid, Tid)>) -> impl Iterator<Item = (Oid, Tid)> {
        let newest = |oid| self.before.past(oid).into_iter().find(|at| at.tid() <= self.t);
        let over = sources.iter().filter_map(move |&(oid, tid)| {
            newest(oid).filter(|at| at.tid() > tid && self.before.data(*at).is_none()).map(|at| (oid, at.tid()))
        });
        over.collect::<Vec<_>>().into_iter()
    }

    fn refers(&self, at: At<'a>) -> Vec<Oid> {
        self.before.data(at).map(|data| (self.references)(data)).unwrap_or_default()
    }

    /// Rules 4.2 and 4.3: the smallest set that holds the root, what a needed revision refers to, and what any later
    /// revision or source refers to.
    fn needed(&self, newest: &BTreeMap<Oid, Vec<At<'a>>>, sources: &BTreeSet<(Oid, Tid)>) -> BTreeSet<Oid> {
        let mut next = vec![0];
        next.extend(self.later().flat_map(|at| self.refers(at)));
        next.extend(sources.iter().filter_map(|&(oid, tid)| self.before.at(oid, tid)).flat_map(|at| self.refers(at)));
        let mut needed = BTreeSet::new();
        while let Some(oid) = next.pop() {
            if needed.insert(oid) {
                next.extend(newest.get(&oid).into_iter().flatten().flat_map(|at| self.refers(*at)));
            }
        }
        needed
    }

    /// Rule 4.8: references from kept revisions to objects that are nowhere, which are a reason to stop; and those from
    /// later ones, which are not.
    fn dangling(&self, kept: &BTreeSet<(Oid, Tid)>) -> (Dangling, Dangling) {
        let there = self.before.oids();
        let lost = |at: At<'a>| {
            let oid = at.revision.oid;
            self.refers(at).into_iter().filter(|to| !there.contains(to)).map(move |to| (oid, to)).collect::<Vec<_>>()
        };
        let kept = kept.iter().filter_map(|&(oid, tid)| self.before.at(oid, tid));
        (kept.flat_map(lost).collect(), self.later().flat_map(lost).collect())
    }

    /// Rules 4.1 and 4.4: a later transaction as it is; of an earlier one what is kept, with its own data; none if that is
    /// nothing.
    fn forget(&self, transaction: &'a Transaction, kept: &BTreeSet<(Oid, Tid)>) -> Option<Transaction> {
        if transaction.tid > self.t {
            return Some(transaction.clone());
        }
        let mut packed = Transaction { status: Status::Packed, revisions: Vec::new(), ..transaction.clone() };
        for oid in transaction.oids().into_iter().filter(|oid| kept.contains(&(*oid, transaction.tid))) {
            let at = self.before.at(oid, transaction.tid)?;
            let content = self.before.data(at).map_or(Content::Nothing, |data| Content::Data(data.to_vec()));
            packed.revisions.push(crate::Revision { content, ..at.revision.clone() });
        }
        (!packed.revisions.is_empty()).then_some(packed)
    }
}
