//! Part 4: packing. A pack may discard the past before a time, and no more.

use std::collections::{BTreeMap, BTreeSet};

use crate::{At, Content, Database, Oid, Revision, Status, Tid, Transaction};

/// References to objects that have no revision: the referrer, and the missing object.
pub type Dangling = BTreeSet<(Oid, Oid)>;

/// The result of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packed {
    /// The database afterwards.
    pub database: Database,
    /// References to objects that have no revision (rule 4.8).
    pub dangling: Dangling,
}

/// The database was broken before, and is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Objects whose records may hide references (rule 4.10). Only if there are none of them, dangling references
    /// count.
    pub untold: BTreeSet<Oid>,
    /// References of needed objects to objects that have no revision (rule 4.8).
    pub dangling: Dangling,
}

/// How to pack.
#[derive(Clone, Copy, Debug, Default)]
pub struct How<'a> {
    /// Whether to discard objects that are not needed.
    pub collect: bool,
    /// Whether to continue if a reference dangles.
    pub go_on: bool,
    /// The revisions that transactions between vote and finish will write (rule 4.9).
    pub under_way: &'a [Revision],
    /// Whether a record may refer to more than can be told (rule 4.10). Without it, no record does.
    pub untold: Option<fn(&[u8]) -> bool>,
}

impl Database {
    /// Packs to the time `t`. `references` says which objects a record refers to, without weak references and those
    /// into other databases (rule 4.6).
    pub fn pack(&self, t: Tid, how: How<'_>, references: &dyn Fn(&[u8]) -> Vec<Oid>) -> Result<Packed, Refused> {
        // Rule 4.7: an earlier pack cannot bring back what a later one discarded.
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
        let untold = if how.collect { pack.untold(&kept, how.untold) } else { BTreeSet::new() };
        let (mut refuse, report) = pack.dangling(&kept);
        // Without a root everything would be garbage. That counts as if the root referred to itself.
        let oids = self.oids();
        if how.collect && !oids.is_empty() && !oids.contains(&0) {
            refuse.insert((0, 0));
        }
        if !untold.is_empty() || (!refuse.is_empty() && !how.go_on) {
            return Err(Refused { untold, dangling: refuse });
        }
        let transactions = self.transactions.iter().filter_map(|transaction| pack.forget(transaction, &kept)).collect();
        let dangling = refuse.into_iter().chain(report).collect();
        Ok(Packed { database: Database { transactions }, dangling })
    }

    /// The last transaction with status `p`; zero if there is none. A pack left no transaction between it and the
    /// pack's time, so this is as far as a pack has got.
    pub fn packed_to(&self) -> Tid {
        let packed = |transaction: &&Transaction| transaction.status == Status::Packed;
        self.transactions.iter().rfind(packed).map_or(0, |transaction| transaction.tid)
    }

    /// Every object that can be reached from the root in what the trunk showed right after `t`, with its record.
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

pub(crate) struct Pack<'a> {
    pub before: &'a Database,
    pub t: Tid,
    pub under_way: &'a [Revision],
    pub references: &'a dyn Fn(&[u8]) -> Vec<Oid>,
}

impl<'a> Pack<'a> {
    /// Rule 4.2: of each object, the revisions that were newest at the time: in a version, and on the trunk.
    pub fn newest(&self) -> BTreeMap<Oid, Vec<At<'a>>> {
        let mut newest = BTreeMap::new();
        for oid in self.before.oids() {
            let Some(at) = self.before.past(oid).into_iter().find(|at| at.tid() <= self.t) else { continue };
            let base = self.before.on_trunk(at).filter(|base| *base != at);
            newest.insert(oid, [Some(at), base].into_iter().flatten().collect());
        }
        newest
    }

    /// Every revision after the time, and those that transactions between vote and finish will write (rule 4.9).
    pub fn later(&self) -> impl Iterator<Item = &'a Revision> {
        let later = self.before.transactions.iter().filter(|transaction| transaction.tid > self.t);
        later.flat_map(|transaction| &transaction.revisions).chain(self.under_way)
    }

    /// Rule 4.3: the revisions that later ones name as the source of their data, or as their base.
    pub fn sources(&self) -> BTreeSet<(Oid, Tid)> {
        let mut sources = BTreeSet::new();
        for revision in self.later() {
            let source = if let Content::Source(tid) = revision.content { Some(tid) } else { None };
            sources.extend([source, revision.base].into_iter().flatten().map(|tid| (revision.oid, tid)));
        }
        sources.retain(|&(oid, tid)| tid <= self.t && self.before.at(oid, tid).is_some());
        sources
    }

    /// The objects that a later revision refers to. Shared data counts for its source.
    pub fn later_refers(&self, revision: &Revision) -> Vec<Oid> {
        if let Content::Data(data) = &revision.content { (self.references)(data) } else { Vec::new() }
    }

    pub fn refers(&self, at: At<'a>) -> Vec<Oid> {
        self.before.data(at).map(|data| (self.references)(data)).unwrap_or_default()
    }

    /// Rules 4.2 and 4.3: the smallest set of objects that holds the root, every object with a later revision, and what
    /// a needed revision, a later one, or a source refers to. Without collection, also every object that had data.
    fn needed(
        &self,
        newest: &BTreeMap<Oid, Vec<At<'a>>>,
        sources: &BTreeSet<(Oid, Tid)>,
        collect: bool,
    ) -> BTreeSet<Oid> {
        let has_data = |revisions: &[At<'a>]| revisions.iter().any(|at| self.before.data(*at).is_some());
        let mut next = vec![0];
        next.extend(newest.iter().filter(|(_, revisions)| !collect && has_data(revisions)).map(|(oid, _)| *oid));
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

    /// Rule 4.8: references to objects that have no revision: first those of kept revisions, which stop a pack, then
    /// those of later revisions, which do not.
    fn dangling(&self, kept: &BTreeSet<(Oid, Tid)>) -> (Dangling, Dangling) {
        let mut known = self.before.oids();
        known.extend(self.under_way.iter().map(|revision| revision.oid));
        let lost = |oid: Oid, refers: Vec<Oid>| {
            refers.into_iter().filter(|to| !known.contains(to)).map(move |to| (oid, to)).collect::<Vec<_>>()
        };
        let kept = kept.iter().filter_map(|&(oid, tid)| self.before.at(oid, tid));
        let kept = kept.flat_map(|at| lost(at.revision.oid, self.refers(at))).collect();
        (kept, self.later().flat_map(|revision| lost(revision.oid, self.later_refers(revision))).collect())
    }

    /// Rule 4.10: the objects of which a kept revision, or one after the time, may hide references. Shared data counts
    /// for its source.
    fn untold(&self, kept: &BTreeSet<(Oid, Tid)>, may_hide: Option<fn(&[u8]) -> bool>) -> BTreeSet<Oid> {
        let may_hide = |data: &[u8]| may_hide.is_some_and(|may_hide| may_hide(data));
        let kept = kept.iter().filter_map(|&(oid, tid)| self.before.at(oid, tid));
        let kept = kept.filter(|at| self.before.data(*at).is_some_and(may_hide)).map(|at| at.revision.oid);
        let later = self.later().filter(|revision| match &revision.content {
            Content::Data(data) => may_hide(data),
            Content::Source(_) | Content::Tombstone => false,
        });
        kept.chain(later.map(|revision| revision.oid)).collect()
    }

    /// Rules 4.1 and 4.4: a later transaction as it is; an earlier one with the revisions that are kept. They hold
    /// their own data, and name a base only if that is kept.
    pub fn forget(&self, transaction: &'a Transaction, kept: &BTreeSet<(Oid, Tid)>) -> Option<Transaction> {
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
                let content = data.map_or(Content::Tombstone, |data| Content::Data(data.to_vec()));
                // Rule 8.4.
                let blob = self.before.blob(At { transaction, revision }).map(<[u8]>::to_vec);
                let base = revision.base.filter(|base| is_kept(revision.oid, *base));
                packed.revisions.push(Revision { content, blob, base, ..revision.clone() });
            }
        }
        // The last transaction stays even without revisions, so that no tid is used twice.
        (!packed.revisions.is_empty() || packed.tid == self.before.last_transaction()).then_some(packed)
    }
}
