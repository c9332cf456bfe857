//! The expectations of the rules: the specification, and the unfinished transactions around it.
//!
//! The specification knows finished transactions only, and does each at one stroke. A history has several under way,
//! and each step of one has an outcome of its own. Where the rules leave a choice, there are several right ones:
//!
//! - an impossible change is refused at once, or at the vote;
//! - where several things are wrong with a transaction, any of them may be named;
//! - while a transaction stands between vote and finish, one that touches the same objects has to wait, and so may one
//!   that does not, if the storage does not declare that it can do better.
//!
//! So the world says which outcomes are right ([`World::expect`]), is told which one it was ([`World::follow`]), and
//! continues from there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vellum_spec::{self as spec, Begin, Database, Status};
use vellum_storage::{Oid, Tid};

use crate::node::{self, Beside, Node};
use crate::step::{Change, Meta, Name, Outcome, Refusal, Step};
use crate::subject::Can;

/// The database as the rules have it, and the unfinished transactions.
#[derive(Clone, Debug, Hash)]
pub struct World {
    /// The finished transactions.
    pub database: Database,
    /// The unfinished transactions.
    pub open: BTreeMap<Name, Open>,
    /// The time.
    pub clock: Tid,
    /// Whether the storage was opened for reading only.
    pub read_only: bool,
    /// Every object, version and transaction that the history has spoken of: what to ask about.
    pub known: Known,
    can: Can,
}

/// The objects and versions that a history has named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// Objects.
    pub oids: BTreeSet<Oid>,
    /// Versions; not the trunk.
    pub versions: BTreeSet<String>,
    /// Transactions, those that a pack took away included.
    pub tids: BTreeSet<Tid>,
}

/// A transaction under way.
#[derive(Clone, Debug, Hash)]
pub struct Open {
    /// Its metadata.
    pub meta: Meta,
    /// Its changes.
    pub changes: Vec<Change>,
    /// How far it is.
    pub stage: Stage,
}

/// How far a transaction is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Changes are put together.
    Drafting,
    /// It can be finished: what it will write.
    Voted(Vec<spec::Revision>, Wants),
}

/// Later than every transaction of a history: the tid of one that is not finished.
const UNDER_WAY: u64 = u64::MAX - 1000;

impl World {
    /// An empty database, under a storage that can do this much.
    pub fn new(can: Can) -> World {
        World {
            database: Database::default(),
            open: BTreeMap::new(),
            clock: Tid::ZERO,
            read_only: false,
            known: Known::default(),
            can,
        }
    }

    /// The storage's capabilities.
    pub fn can(&self) -> Can {
        self.can
    }

    /// The same, under a storage that can do this much.
    pub fn under(&self, can: Can) -> World {
        World { can, ..self.clone() }
    }

    /// The last transaction's tid.
    pub fn last(&self) -> Tid {
        Tid(self.database.last_transaction())
    }

    /// The tid that a transaction which is finished now will have.
    pub fn next_tid(&self, meta: &Meta) -> Tid {
        let later = spec::later(self.last().0).map_or(Tid::MAX, Tid);
        meta.tid.unwrap_or(self.clock.max(later))
    }

    /// The right outcomes; none if the step makes no sense here, or the storage lacks the capability, so that it is
    /// skipped.
    pub fn expect(&self, step: &Step) -> Option<Vec<Outcome>> {
        match step {
            Step::Begin { transaction, meta } => self.expect_begin(*transaction, meta),
            Step::Change { transaction, change } => self.expect_change(*transaction, change),
            Step::Vote { transaction, .. } => self.expect_vote(*transaction),
            Step::Finish { transaction } => self.expect_finish(*transaction),
            Step::Commit { .. } => None,
            Step::Abort { transaction } => self.open.contains_key(transaction).then(|| vec![Outcome::Done]),
            Step::Pack { to, collect, go_on } => self.expect_pack(*to, *collect, *go_on),
            Step::PackByCounts { to } => self.expect_pack_by_counts(*to),
            Step::Reopen { read_only } => {
                (self.can.reopen && (self.can.read_only || !read_only)).then(|| vec![Outcome::Done])
            }
        }
    }

    fn expect_begin(&self, transaction: Name, meta: &Meta) -> Option<Vec<Outcome>> {
        let given = meta.tid.is_some() || meta.packed;
        if self.open.contains_key(&transaction)
            || (!self.can.concurrent && !self.can.sessions && !self.open.is_empty())
            || (given && !self.can.restore)
            || (meta.packed && !self.can.edges)
        {
            return None;
        }
        let mut refusals = Vec::new();
        if self.read_only {
            refusals.push(Refusal::ReadOnly);
        }
        if meta.is_too_long() {
            refusals.push(Refusal::TooLong);
        }
        if meta.tid.is_some_and(|tid| tid <= self.last()) {
            refusals.push(Refusal::NotLater);
        }
        // It may be refused now or later.
        Some(refused(refusals).into_iter().chain([Outcome::Done]).collect())
    }

    fn drafting(&self, transaction: Name) -> Option<&Open> {
        self.open.get(&transaction).filter(|open| open.stage == Stage::Drafting)
    }

    fn expect_change(&self, transaction: Name, change: &Change) -> Option<Vec<Outcome>> {
        let open = self.drafting(transaction)?;
        if !self.can.covers(needs(change)) {
            return None;
        }
        let again = object(change).is_some() && open.changes.iter().any(|c| object(c) == object(change));
        if (again || self.undoes_repeated(change)) && !self.can.repeat {
            return None;
        }
        let with = Open { changes: open.changes.iter().chain([change]).cloned().collect(), ..open.clone() };
        let refusals = self.judge(&with).err().unwrap_or_default();
        Some(refused(refusals).into_iter().chain([Outcome::Done]).collect())
    }

    /// Whether it is the undo of a transaction that wrote several records of one object.
    fn undoes_repeated(&self, change: &Change) -> bool {
        let Change::Undo { tid } = change else { return false };
        let undone = self.database.transactions.iter().find(|t| t.tid == tid.0);
        undone.is_some_and(|t| t.oids().len() < t.revisions.len())
    }

    fn expect_vote(&self, transaction: Name) -> Option<Vec<Outcome>> {
        let open = self.drafting(transaction)?;
        let mut right = Vec::new();
        let judged = self.judge(open);
        let others: Vec<_> = self.open.values().filter(|other| matches!(other.stage, Stage::Voted(..))).collect();
        let held = others.iter().any(|other| self.meet(open, other));
        if held || (!others.is_empty() && !self.can.concurrent) {
            right.push(Outcome::Busy);
        }
        // A tid that is not later than the last may be refused now, or when it would be used.
        let judged = match judged {
            Err(refusals) if refusals == [Refusal::NotLater] => {
                right.extend(refused(refusals));
                Ok(Vec::new())
            }
            judged => judged,
        };
        match judged {
            Ok(_) if held => {}
            Ok(_) => right.push(Outcome::Voted { resolved: self.resolved(open) }),
            Err(refusals) => right.extend(refused(refusals)),
        }
        Some(right)
    }

    fn expect_finish(&self, transaction: Name) -> Option<Vec<Outcome>> {
        let open = self.open.get(&transaction).filter(|open| open.stage != Stage::Drafting)?;
        let tid = self.next_tid(&open.meta);
        // Another one may have been finished since the vote.
        Some(if tid <= self.last() { refused(vec![Refusal::NotLater]) } else { vec![Outcome::Finished { tid }] })
    }

    fn expect_pack(&self, to: Tid, collect: bool, go_on: bool) -> Option<Vec<Outcome>> {
        if !self.can.pack || (collect && !self.can.collect) {
            return None;
        }
        if self.read_only {
            return Some(refused(vec![Refusal::ReadOnly]));
        }
        if !self.can.edges && self.is_at_an_edge(to, collect) {
            return None;
        }
        if !self.can.dangling && (go_on || self.packed(to, collect, go_on).is_err_and(|why| why.untold.is_empty())) {
            return None;
        }
        if !self.can.untold && self.packed(to, collect, go_on).is_err_and(|why| !why.untold.is_empty()) {
            return None;
        }
        let pairs = |dangling: &spec::Dangling| dangling.iter().map(|&(from, to)| (Oid(from), Oid(to))).collect();
        let mut right = match self.packed(to, collect, go_on) {
            Err(spec::Refused { untold, dangling }) if untold.is_empty() => {
                refused(vec![Refusal::Dangling { references: pairs(&dangling) }])
            }
            Err(spec::Refused { untold, .. }) => {
                refused(untold.into_iter().map(|oid| Refusal::Untold { oid: Oid(oid) }).collect())
            }
            Ok(packed) => {
                vec![Outcome::Packed { dangling: Some(pairs(&packed.dangling)) }, Outcome::Packed { dangling: None }]
            }
        };
        if self.open.values().any(|open| open.stage != Stage::Drafting) {
            right.push(Outcome::Busy);
        }
        Some(right)
    }

    fn expect_pack_by_counts(&self, to: Tid) -> Option<Vec<Outcome>> {
        if !self.can.pack || !self.can.counts {
            return None;
        }
        if self.read_only {
            return Some(refused(vec![Refusal::ReadOnly]));
        }
        let mut right = match self.packed_by_counts(to) {
            Ok(_) => vec![Outcome::Packed { dangling: Some(Vec::new()) }, Outcome::Packed { dangling: None }],
            Err(spec::Refused { untold, dangling }) if untold.is_empty() => {
                let references = dangling.into_iter().map(|(from, to)| (Oid(from), Oid(to))).collect();
                refused(vec![Refusal::Dangling { references }])
            }
            Err(spec::Refused { untold, dangling }) => {
                let no_root = dangling.iter().map(|&(from, to)| (Oid(from), Oid(to))).collect::<Vec<_>>();
                let no_root = (!no_root.is_empty()).then_some(Refusal::Dangling { references: no_root });
                refused(untold.into_iter().map(|oid| Refusal::Untold { oid: Oid(oid) }).chain(no_root).collect())
            }
        };
        if self.open.values().any(|open| open.stage != Stage::Drafting) {
            right.push(Outcome::Busy);
        }
        Some(right)
    }

    /// Whether a pack is one of those of [`Can::edges`].
    fn is_at_an_edge(&self, to: Tid, collect: bool) -> bool {
        let root = self.database.load_before(0, to.0.saturating_add(1)).is_ok_and(|shown| shown.is_some());
        let packed = self.packed(to, collect, true).map(|packed| packed.database).unwrap_or_default();
        let revisions = |database: &Database| database.transactions.iter().map(|t| t.revisions.len()).sum::<usize>();
        let frees_nothing = packed != self.database && revisions(&packed) == revisions(&self.database);
        let early = || packed.transactions.iter().filter(|t| t.tid <= to.0);
        let tombstone = early().any(|t| t.revisions.iter().any(|r| r.content == spec::Content::Tombstone));
        let all_packed = collect && self.database.undo_log(0, 1).is_empty();
        !root || frees_nothing || all_packed || tombstone || early().any(|t| t.revisions.is_empty())
    }

    /// Rule 4.9: the revisions of the transactions between vote and finish.
    fn under_way(&self) -> Vec<spec::Revision> {
        let voted = self.open.values().filter_map(|open| match &open.stage {
            Stage::Voted(revisions, _) => Some(revisions.iter().cloned()),
            Stage::Drafting => None,
        });
        voted.flatten().collect()
    }

    /// A finished transaction.
    fn transaction(&self, tid: Tid, meta: &Meta, revisions: Vec<spec::Revision>) -> spec::Transaction {
        // Rule 4.12: a history-free database packs by itself.
        let is_packed = meta.packed && self.can.forgets.is_none();
        spec::Transaction {
            tid: tid.0,
            status: if is_packed { Status::Packed } else { Status::Complete },
            user: meta.user.clone().into_bytes(),
            description: meta.description.clone().into_bytes(),
            extension: meta.extension().to_vec(),
            revisions,
        }
    }

    /// Rule 4.12: the time of a pack. In a history-free database, a forgotten time counts as the last packed one.
    pub fn pack_time(&self, to: Tid) -> Tid {
        if self.can.forgets.is_some() { to.max(Tid(self.database.packed_to())) } else { to }
    }

    /// The database after a pack by counts.
    fn packed_by_counts(&self, to: Tid) -> Result<Database, spec::Refused> {
        self.database.pack_by_counts(self.pack_time(to).0, &self.under_way(), Some(Node::is_untold), &Node::references)
    }

    /// Rule 4.11: the worlds that a pack by counts may leave if it is stopped.
    pub fn stopped_by_counts(&self, to: Tid) -> Vec<World> {
        let stopped = self.database.stopped_by_counts(self.pack_time(to).0, &self.under_way(), &Node::references);
        stopped.into_iter().map(|database| World { database, ..self.clone() }).collect()
    }

    /// The database after a pack (rule 4.9: with the transactions between vote and finish).
    fn packed(&self, to: Tid, collect: bool, go_on: bool) -> Result<spec::Packed, spec::Refused> {
        let under_way = self.under_way();
        self.database.pack(
            self.pack_time(to).0,
            spec::How { collect, go_on, under_way: &under_way, untold: Some(Node::is_untold) },
            &Node::references,
        )
    }

    /// The revisions that the transaction would write if it was voted on now, or all reasons against it.
    pub fn judge(&self, open: &Open) -> Result<Vec<spec::Revision>, Vec<Refusal>> {
        let resolver = |contested: spec::Contested<'_>| {
            let merged = node::merge(contested.ancestor, contested.committed, contested.new);
            merged.filter(|_| self.can.resolve).map(|merged| merged.to_vec())
        };
        let mut refusals = Vec::new();
        let mut good = Vec::new();
        let mut revisions = Vec::new();
        if open.meta.is_too_long() {
            refusals.push(Refusal::TooLong);
        }
        for change in &open.changes {
            let change = of_spec(change);
            good.push(if self.can.forgets.is_some() { self.database.lasting(change) } else { change });
            match self.database.commit(Begin::at(UNDER_WAY), &good, &resolver) {
                Ok((mut done, _)) => revisions = done.transactions.pop().map(|t| t.revisions).unwrap_or_default(),
                Err(refusal) => {
                    refusals.push(of_harness(refusal));
                    good.pop();
                }
            }
        }
        if open.meta.tid.is_some_and(|tid| tid <= self.last()) {
            refusals.push(Refusal::NotLater);
        }
        if self.read_only {
            refusals.push(Refusal::ReadOnly);
        }
        if refusals.is_empty() { Ok(revisions) } else { Err(refusals) }
    }

    /// The objects that were stored to an old revision: if the vote goes well, they were merged.
    fn resolved(&self, open: &Open) -> Vec<Oid> {
        let old = |change: &Change| match change {
            Change::Store { oid, serial, .. } => {
                let committed = self.database.newest(oid.0).map_or(0, |newest| newest.tid());
                (committed != serial.0).then_some(*oid)
            }
            _ => None,
        };
        open.changes.iter().filter_map(old).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether two transactions want something that only one can have between vote and finish.
    fn meet(&self, one: &Open, other: &Open) -> bool {
        let (one, other) = (self.wants(one), self.wants(other));
        one.change.iter().any(|oid| other.change.contains(oid) || other.keep.contains(oid))
            || one.keep.iter().any(|oid| other.change.contains(oid))
            || one.end.iter().any(|version| other.end.contains(version) || other.work.contains(version))
            || one.work.iter().any(|version| other.end.contains(version))
    }

    fn wants(&self, open: &Open) -> Wants {
        if let Stage::Voted(_, held) = &open.stage {
            // Even if a pack discarded something since.
            return held.clone();
        }
        let mut wants = Wants::default();
        for change in &open.changes {
            match change {
                Change::Store { oid, version, .. } | Change::Restore { oid, version, .. } => {
                    wants.change.insert(oid.0);
                    wants.work.insert(version.clone());
                }
                Change::Delete { oid, .. } => drop(wants.change.insert(oid.0)),
                Change::CheckCurrent { oid, .. } => drop(wants.keep.insert(oid.0)),
                Change::Undo { tid } => {
                    let undone = self.database.transactions.iter().filter(|t| t.tid == tid.0);
                    for oid in undone.flat_map(|t| t.oids()) {
                        wants.change.insert(oid);
                        // The new revision goes where the one before the undone one is, or where both are.
                        let past = self.database.past(oid);
                        let undone = past.iter().skip_while(|at| at.tid() != tid.0).take(2);
                        wants.work.extend(undone.map(|at| at.revision.version.clone()));
                    }
                }
                Change::CommitVersion { from, to } => {
                    wants.end.insert(from.clone());
                    wants.work.insert(to.clone());
                    wants.change.extend(self.in_version(from));
                }
                Change::AbortVersion { from } => {
                    wants.end.insert(from.clone());
                    wants.change.extend(self.in_version(from));
                }
            }
        }
        wants.work.remove("");
        wants.keep.retain(|oid| !wants.change.contains(oid));
        wants
    }

    fn in_version(&self, version: &str) -> Vec<u64> {
        self.database.oids().into_iter().filter(|&oid| self.database.modified_in_version(oid) == version).collect()
    }

    /// Continues after a step with this outcome, which must be one of the right ones.
    pub fn follow(&mut self, step: &Step, outcome: &Outcome) {
        self.learn(step);
        match (step, outcome) {
            (Step::Begin { transaction, meta }, Outcome::Done) => {
                let open = Open { meta: meta.clone(), changes: Vec::new(), stage: Stage::Drafting };
                self.open.insert(*transaction, open);
            }
            (Step::Change { transaction, change }, Outcome::Done) => {
                if let Some(open) = self.open.get_mut(transaction) {
                    open.changes.push(change.clone());
                }
            }
            (Step::Vote { transaction, .. }, Outcome::Voted { .. }) => {
                // A wrong tid is refused at the finish.
                let now = |open: &Open| Open { meta: Meta { tid: None, ..open.meta.clone() }, ..open.clone() };
                let judged = self.open.get(transaction).and_then(|open| self.judge(&now(open)).ok());
                let wants = self.open.get(transaction).map(|open| self.wants(open)).unwrap_or_default();
                if let (Some(open), Some(revisions)) = (self.open.get_mut(transaction), judged) {
                    open.stage = Stage::Voted(revisions, wants);
                }
            }
            (Step::Finish { transaction: name }, Outcome::Finished { tid }) => {
                if let Some(Open { meta, stage: Stage::Voted(revisions, _), .. }) = self.open.remove(name) {
                    self.database.transactions.push(self.transaction(*tid, &meta, revisions));
                    self.known.tids.insert(*tid);
                    if let Some(seconds) = self.can.forgets {
                        self.database = self.database.forget(tid.earlier_by(Duration::from_secs(seconds)).0);
                    }
                }
            }
            (Step::Pack { to, collect, go_on }, Outcome::Packed { .. }) => {
                if let Ok(packed) = self.packed(*to, *collect, *go_on) {
                    self.database = packed.database;
                }
            }
            (Step::PackByCounts { to }, Outcome::Packed { .. }) => {
                if let Ok(packed) = self.packed_by_counts(*to) {
                    self.database = packed;
                }
            }
            (Step::Reopen { read_only }, Outcome::Done) => {
                self.open.clear();
                self.read_only = *read_only;
            }
            (_, Outcome::Busy) => {}
            (Step::Abort { transaction }, _)
            | (Step::Begin { transaction, .. }, Outcome::Refused { .. })
            | (Step::Change { transaction, .. }, Outcome::Refused { .. })
            | (Step::Vote { transaction, .. }, Outcome::Refused { .. })
            | (Step::Finish { transaction }, Outcome::Refused { .. }) => drop(self.open.remove(transaction)),
            _ => {}
        }
    }

    fn learn(&mut self, step: &Step) {
        let known = &mut self.known;
        match step {
            Step::Vote { clock, .. } => self.clock = *clock,
            Step::Change { change, .. } => match change {
                Change::Store { oid, version, .. } | Change::Restore { oid, version, .. } => {
                    known.oids.insert(*oid);
                    known.versions.extend(Some(version.clone()).filter(|version| !version.is_empty()));
                }
                Change::Delete { oid, .. } | Change::CheckCurrent { oid, .. } => drop(known.oids.insert(*oid)),
                Change::CommitVersion { to, .. } if !to.is_empty() => drop(known.versions.insert(to.clone())),
                _ => {}
            },
            _ => {}
        }
    }
}

/// The locks of a transaction between vote and finish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wants {
    /// Objects that it changes.
    pub change: BTreeSet<u64>,
    /// Objects that must stay as they are.
    pub keep: BTreeSet<u64>,
    /// Versions that it ends.
    pub end: BTreeSet<String>,
    /// Versions that it works in.
    pub work: BTreeSet<String>,
}

fn refused(refusals: Vec<Refusal>) -> Vec<Outcome> {
    refusals.into_iter().map(|why| Outcome::Refused { why }).collect()
}

/// The object of which it writes a record.
fn object(change: &Change) -> Option<Oid> {
    match change {
        Change::Store { oid, .. } | Change::Delete { oid, .. } | Change::Restore { oid, .. } => Some(*oid),
        _ => None,
    }
}

/// The capabilities that such a change needs.
fn needs(change: &Change) -> Can {
    let none = Can::default();
    let blobs = match change {
        Change::Store { node, .. } | Change::Restore { node, .. } => {
            node.as_ref().is_some_and(|node| node.beside != Beside::Nothing)
        }
        _ => false,
    };
    let none = Can { blobs, ..none };
    match change {
        Change::Store { version, .. } => Can { versions: !version.is_empty(), ..none },
        Change::Delete { .. } => Can { delete: true, ..none },
        Change::CheckCurrent { .. } => Can { check_current: true, ..none },
        Change::Undo { .. } => Can { undo: true, ..none },
        Change::CommitVersion { .. } | Change::AbortVersion { .. } => Can { versions: true, ..none },
        Change::Restore { version, .. } => Can { restore: true, versions: !version.is_empty(), ..none },
    }
}

/// The change in the specification's words.
fn of_spec(change: &Change) -> spec::Change {
    let record = |node: &Option<Node>| node.as_ref().map(|node| node.encode().to_vec());
    let blob = |node: &Option<Node>| node.as_ref().and_then(Node::blob).map(Vec::from);
    match change.clone() {
        Change::Store { oid, serial, node, version } => {
            let (data, blob) = (record(&node).unwrap_or_default(), blob(&node));
            spec::Change::Store { oid: oid.0, serial: serial.0, data, blob, version }
        }
        Change::Delete { oid, serial } => spec::Change::Delete { oid: oid.0, serial: serial.0 },
        Change::CheckCurrent { oid, serial } => spec::Change::CheckCurrent { oid: oid.0, serial: serial.0 },
        Change::Undo { tid } => spec::Change::Undo { tid: tid.0 },
        Change::CommitVersion { from, to } => spec::Change::CommitVersion { from, to },
        Change::AbortVersion { from } => spec::Change::AbortVersion { from },
        Change::Restore { oid, node, version, source, base } => {
            let (source, base) = (source.map(|tid| tid.0), base.map(|tid| tid.0));
            spec::Change::Restore { oid: oid.0, data: record(&node), blob: blob(&node), version, source, base }
        }
    }
}

fn of_harness(refusal: spec::Refusal) -> Refusal {
    use spec::Refusal as R;
    match refusal {
        R::Key(oid) => Refusal::Key { oid: Oid(oid) },
        R::Conflict { oid, committed, serial } => {
            Refusal::Conflict { oid: Oid(oid), committed: Tid(committed), serial: Tid(serial) }
        }
        R::ReadConflict { oid, committed, serial } => {
            Refusal::ReadConflict { oid: Oid(oid), committed: Tid(committed), serial: Tid(serial) }
        }
        R::VersionLock(oid) => Refusal::VersionLock { oid: Oid(oid) },
        R::Version => Refusal::VersionEnd,
        R::NotUndoable(tid) => Refusal::NotUndoable { tid: Tid(tid) },
        R::Undo(mut oids) => {
            oids.sort_unstable();
            Refusal::UndoConflict { oids: oids.into_iter().map(Oid).collect() }
        }
        R::Empty(oid) => Refusal::Empty { oid: Oid(oid) },
        R::TooLong => Refusal::TooLong,
        R::NotLater => Refusal::NotLater,
    }
}
