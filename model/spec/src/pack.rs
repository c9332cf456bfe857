//! Part 4: packing. It may forget the past before a time, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::{At, Content, Database, Oid, Revision, Status, Tid, Transaction};

/// References to objects that are nowhere: who refers, to whom.
pub type Dangling = BTreeSet<(Oid, Oid)>;

/// What a pack came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packed {
    /// The database afterwards.
    pub database: Database,
    /// References to objects that are nowhere (rule 4.8): who refers, to whom.
    pub dangling: Dangling,
}

/// Needed objects refer to others that are nowhere: the database was broken before. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Who refers, to whom.
    pub dangling: Dangling,
}

/// How to pack.
#[derive(Clone, Copy, Debug, Default)]
pub struct How<'a> {
    /// What nobody needs goes.
    pub collect: bool,
    /// If something is dangling, that is no reason to stop.
    pub go_on: bool,
    /// What transactions between vote and finish will write (rule 4.9).
    pub under_way: &'a [Revision],
}

impl Database {
    /// Packs to the time `t`. `references` says which objects a record refers to, weak references and those into other
    /// databases left out (rule 4.6).
    pub fn pack(&self, t: Tid, how: How<'_>, references: &dyn Fn(&[u8]) -> Vec<Oid>) -> Result<Packed, Refused> {
        // Rule 4.7: what a pack took away does not come back for an earlier one.
        if t < self.packed_to() {
            return Ok(Packed { database: self.clone(), dangling: Dangling::new() });
        }
        let pack = Pack { before: self, t, under_way: how.under_way, references };
        let (newest, sources) = (pack.newest(), pack.sources());
        let needed = pack.needed(&newest, &sources, how.collect);
        let mut kept = sources;
        for (oid, revisions) in newest.iter().filter(|(oid, _)| needed.contains(oid)) {
            kept.extend(revisions.iter().map(|at| (*oid, at.tid())));
        }
        let (mut refuse, report) = pack.dangling(&kept);
        // The root refers to itself, so to say: where there is none, everything would be garbage.
        let oids = self.oids();
        if how.collect && !oids.is_empty() && !oids.contains(&0) {
            refuse.insert((0, 0));
        }
        if !refuse.is_empty() && !how.go_on {
            return Err(Refused { dangling: refuse });
        }
        let transactions = self.transactions.iter().filter_map(|transaction| pack.forget(transaction, &kept)).collect();
        let dangling = refuse.into_iter().chain(report).collect();
        Ok(Packed { database: Database { transactions }, dangling })
    }

    /// The last transaction that a pack left something of; zero if there is none. Between it and the time of that pack there
    /// is nothing any more, so this is as far as a pack has come.
    pub fn packed_to(&self) -> Tid {
        let packed = |transaction: &&Transaction| transaction.status == Status::Packed;
        self.transactions.iter().rfind(packed).map_or(0, |transaction| transaction.tid)
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
    under_way: &'a [Revision],
    references: &'a dyn Fn(&[u8]) -> Vec<Oid>,
}

impl<'a> Pack<'a> {
    /// Rule 4.2: the revisions that were newest at the time, in the trunk or in a version.
    fn newest(&self) -> BTreeMap<Oid, Vec<At<'a>>> {
        let mut newest = BTreeMap::new();
        for oid in self.before.oids() {
            let Some(at) = self.before.past(oid).into_iter().find(|at| at.tid() <= self.t) else { continue };
            let under = self.before.on_trunk(at).filter(|under| *under != at);
            newest.insert(oid, [Some(at), under].into_iter().flatten().collect());
        }
        newest
    }

    /// Every revision after the time, or to come (rule 4.9).
    fn later(&self) -> impl Iterator<Item = &'a Revision> {
        let later = self.before.transactions.iter().filter(|transaction| transaction.tid > self.t);
        later.flat_map(|transaction| &transaction.revisions).chain(self.under_way)
    }

    /// Rule 4.3: what later revisions name as the source of their data, or as what is under them.
    fn sources(&self) -> BTreeSet<(Oid, Tid)> {
        let mut sources = BTreeSet::new();
        for revision in self.later() {
            let source = if let Content::Source(tid) = revision.content { Some(tid) } else { None };
            sources.extend([source, revision.under].into_iter().flatten().map(|tid| (revision.oid, tid)));
        }
        sources.retain(|&(oid, tid)| tid <= self.t && self.before.at(oid, tid).is_some());
        sources
    }

    /// What a later revision refers to. If it shares its data, that is its source's business.
    fn later_refers(&self, revision: &Revision) -> Vec<Oid> {
        if let Content::Data(data) = &revision.content { (self.references)(data) } else { Vec::new() }
    }

    fn refers(&self, at: At<'a>) -> Vec<Oid> {
        self.before.data(at).map(|data| (self.references)(data)).unwrap_or_default()
    }

    /// Rules 4.2 and 4.3: the smallest set that holds the root, what has a later revision, and what a needed revision, any
    /// later one, or a source refers to. Without collection, also all that was something at the time.
    fn needed(
        &self,
        newest: &BTreeMap<Oid, Vec<At<'a>>>,
        sources: &BTreeSet<(Oid, Tid)>,
        collect: bool,
    ) -> BTreeSet<Oid> {
        let something = |revisions: &[At<'a>]| revisions.iter().any(|at| self.before.data(*at).is_some());
        let mut next = vec![0];
        next.extend(newest.iter().filter(|(_, revisions)| !collect && something(revisions)).map(|(oid, _)| *oid));
        next.extend(self.later().map(|revision| revision.oid));
        next.extend(self.later().flat_map(|revision| self.later_refers(revision)));
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
        let mut there = self.before.oids();
        there.extend(self.under_way.iter().map(|revision| revision.oid));
        let lost = |oid: Oid, refers: Vec<Oid>| {
            refers.into_iter().filter(|to| !there.contains(to)).map(move |to| (oid, to)).collect::<Vec<_>>()
        };
        let kept = kept.iter().filter_map(|&(oid, tid)| self.before.at(oid, tid));
        let kept = kept.flat_map(|at| lost(at.revision.oid, self.refers(at))).collect();
        (kept, self.later().flat_map(|revision| lost(revision.oid, self.later_refers(revision))).collect())
    }

    /// Rules 4.1 and 4.4: a later transaction as it is; of an earlier one what is kept, with its own data, over what is kept.
    fn forget(&self, transaction: &'a Transaction, kept: &BTreeSet<(Oid, Tid)>) -> Option<Transaction> {
        if transaction.tid > self.t {
            return Some(transaction.clone());
        }
        let mut packed = Transaction { status: Status::Packed, revisions: Vec::new(), ..transaction.clone() };
        let is_kept = |oid, tid| kept.contains(&(oid, tid));
        for (n, revision) in transaction.revisions.iter().enumerate() {
            // If an oid occurs twice, the last one counts (rule 1.4).
            let again = transaction.revisions[n + 1..].iter().any(|later| later.oid == revision.oid);
            if is_kept(revision.oid, transaction.tid) && !again {
                let data = self.before.data(At { transaction, revision });
                let content = data.map_or(Content::Nothing, |data| Content::Data(data.to_vec()));
                let under = revision.under.filter(|under| is_kept(revision.oid, *under));
                packed.revisions.push(Revision { content, under, ..revision.clone() });
            }
        }
        // The last transaction stays even without revisions, so that no tid is given out twice.
        (!packed.revisions.is_empty() || packed.tid == self.before.last_transaction()).then_some(packed)
    }
}
