//! Where the histories have been: how often each rule was exercised, and each of its corners.
//!
//! A generator that never gets to a corner proves nothing about it, and says nothing either. So every step and every
//! answer is held against the table of corners below, and a run that never came to one of them fails, if it was long
//! enough and the storage can do what the corner needs.

use std::collections::BTreeSet;
use std::fmt;

use vellum_spec::{Content, Database, Status};
use vellum_storage::{Oid, Tid};

use crate::node::Node;
use crate::question::{Answer, Question};
use crate::step::{Change, Name, Outcome, Refusal, Step};
use crate::subject::Can;
use crate::world::{Open, Stage, World};

macro_rules! corners {
    ($($name:ident $rule:literal $what:literal $([$($can:ident),+])?)+) => {
        /// A rule, or a corner of one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the table says it")]
        pub enum Corner { $($name),+ }

        impl Corner {
            /// All of them, in the order of the rules.
            pub const ALL: &[Corner] = &[$(Corner::$name),+];

            /// The rule's number.
            pub fn rule(self) -> &'static str {
                match self { $(Corner::$name => $rule),+ }
            }

            /// What is special about it.
            pub fn what(self) -> &'static str {
                match self { $(Corner::$name => $what),+ }
            }

            /// What a storage must be able to do to get there.
            pub fn needs(self) -> Can {
                match self { $(Corner::$name => Can { $($($can: true,)+)? ..Can::default() }),+ }
            }
        }
    };
}

corners! {
    ClockForward "1.1" "the tid is the clock's"
    ClockBehind "1.1" "the clock stands or goes back: the last tid plus one"
    TwiceInOne "1.4" "an object twice in one transaction" [repeat]
    Load "2.1" "load: on the trunk"
    LoadBase "2.1" "load: the base of a revision in a version, at the newest tid" [versions]
    LoadInVersion "2.1" "load: in the version" [versions]
    LoadUnknown "2.1" "load: unknown"
    LoadTombstone "2.1" "load: a tombstone" [delete]
    BeforeShown "2.2" "load_before: shown until now"
    BeforeNext "2.2" "load_before: shown until something else was"
    BeforeNotYet "2.2" "load_before: not there yet"
    BeforeTombstone "2.2" "load_before: a tombstone then" [delete]
    BeforeVersionUndone "2.2" "load_before: since the undo of a version's commit" [versions, undo]
    Serial "2.3" "load_serial"
    SerialBase "2.3" "load_serial: the base of a revision in a version" [versions]
    SerialNone "2.3" "load_serial: no such revision, or a tombstone"
    HistoryLong "2.4" "history: three revisions or more"
    HistoryShared "2.4" "history: a revision that holds no data" [undo]
    HistoryUnknown "2.4" "history: unknown"
    UndoLog "2.5" "undo_log" [undo]
    UndoLogAfterPack "2.5" "undo_log: ends at a pack" [undo, pack]
    Transactions "2.6" "transactions"
    TransactionsShared "2.6" "transactions: data shared with an earlier revision" [undo]
    TransactionsSharedTwice "2.6" "transactions: data shared with one that shares it" [undo]
    CurrentTombstone "2.9" "current_records: passes over tombstones" [delete]
    Versions "2.11" "versions: two at once" [versions]
    UnseenDraft "3.0" "an open transaction stays invisible"
    UnseenVoted "3.0" "a transaction between vote and finish stays invisible"
    TwoVoted "3.0" "two transactions between vote and finish" [concurrent]
    Busy "3.0" "a transaction that has to wait for another" [concurrent]
    AbortDraft "3.0" "abort before the vote"
    AbortVoted "3.0" "abort after the vote"
    ReopenUnderWay "3.0" "closed with a transaction under way, and opened again" [reopen]
    ReopenVoted "3.0" "closed with a transaction voted, and opened again" [reopen]
    ReadOnly "3.0" "refused: read-only" [read_only]
    TooLong "3.0" "refused: user or description too long"
    LongestUser "3.0" "a user of 65,535 bytes"
    StoreNew "3.1" "store: a new object"
    StoreAgain "3.1" "store: a change"
    StoreOnTombstone "3.1" "store: over a tombstone" [delete]
    StoreResolved "3.1" "store: to an old revision, merged" [resolve]
    StoreConflict "3.1" "store: conflict"
    StoreUnknownSerial "3.1" "store: a new object with a serial: conflict"
    StoreLock "3.1" "store: version lock" [versions]
    StoreInVersion "3.1" "store: in a version, over a trunk revision" [versions]
    StoreBornInVersion "3.1" "store: a new object in a version" [versions]
    StoreEmpty "3.1" "store: an empty record refused"
    Delete "3.2" "delete" [delete]
    DeleteUnknown "3.2" "delete: unknown" [delete]
    DeleteConflict "3.2" "delete: conflict" [delete]
    DeleteLock "3.2" "delete: version lock" [delete, versions]
    DeleteTwice "3.2" "delete: over a tombstone" [delete]
    CheckHolds "3.3" "check_current: holds" [check_current]
    CheckConflict "3.3" "check_current: read conflict" [check_current]
    CheckUnknown "3.3" "check_current: unknown" [check_current]
    CheckTombstone "3.3" "check_current: of a tombstone" [check_current, delete]
    UndoChange "3.4" "undo: of the newest revision" [undo]
    UndoCreation "3.4" "undo: of a creation; writes a tombstone" [undo]
    UndoUndo "3.4" "undo: of an undo" [undo]
    UndoDelete "3.4" "undo: of a deletion" [undo, delete]
    UndoSameData "3.4" "undo: not the newest, but the same data" [undo]
    UndoMerged "3.4" "undo: merged" [undo, resolve]
    UndoConflict "3.4" "undo: refused, naming the objects" [undo]
    UndoSeveral "3.4" "undo: two of the same object in one transaction" [undo]
    UndoUnknown "3.4" "undo: of an unknown transaction" [undo]
    UndoPacked "3.4" "undo: of a packed transaction" [undo, pack]
    UndoInVersion "3.4" "undo: of a revision in a version" [undo, versions]
    UndoVersionCommit "3.4" "undo: of a version's commit; the object is in the version again" [undo, versions]
    CommitVersion "3.5" "commit_version: to the trunk" [versions]
    CommitVersionTo "3.5" "commit_version: to another version" [versions]
    CommitVersionError "3.5" "commit_version: refused" [versions]
    AbortVersion "3.6" "abort_version: back to the base" [versions]
    AbortVersionBorn "3.6" "abort_version: of an object born there; writes a tombstone" [versions]
    AbortVersionError "3.6" "abort_version: refused" [versions]
    Restore "3.7" "restore: data" [restore]
    RestoreTombstone "3.7" "restore: a tombstone" [restore]
    RestoreSource "3.7" "restore: the source counts" [restore]
    RestoreNoSource "3.7" "restore: the source does not count" [restore]
    RestoreBase "3.7" "restore: the given base counts" [restore, versions]
    RestoreBaseElsewhere "3.7" "restore: the given base is not here, so the base is what the trunk shows" [restore, versions]
    RestoreTid "3.7" "a transaction with a given tid" [restore]
    NotLater "3.7" "refused: the tid is not later than the last" [restore]
    PackKeepsLater "4.1" "pack: with transactions after its time" [pack]
    PackForgets "4.2" "pack: an old revision goes" [pack]
    PackCollects "4.2" "pack: an object goes, since nothing needs it" [pack, collect]
    PackCollectsCycle "4.2" "pack: objects that only refer to each other go" [pack, collect]
    PackKeepsByLater "4.2" "pack: kept for a later revision only" [pack, collect]
    PackVersions "4.2" "pack: a revision in a version and its base are kept" [pack, versions]
    PackSource "4.3" "pack: an older revision is kept as a later one's source" [pack, undo]
    PackBase "4.3" "pack: kept as the base of a later revision" [pack, versions]
    PackTombstone "4.2" "pack: a tombstone is kept, since it is referred to, or has a later revision" [pack, edges]
    PackLastStays "4.4" "pack: the last transaction stays, without revisions" [pack, collect, edges]
    PackCollectsLater "4.7" "pack: to the same time again, to collect" [pack, collect]
    PackTransactionGoes "4.4" "pack: a transaction goes" [pack]
    PackOwnData "4.4" "pack: what shared its data holds it now" [pack, undo]
    PackedPast "4.5" "reading: not behind a packed revision" [pack]
    PackWeak "4.6" "pack: an object goes though a weak reference names it" [pack, collect]
    PackAgain "4.7" "pack: to where it was packed, or before" [pack]
    PackDangling "4.8" "pack: refused, dangling" [pack, dangling]
    PackDanglingLater "4.8" "pack: dangling after its time is reported" [pack, dangling]
    PackGoOn "4.8" "pack: dangling, and told to go on" [pack, dangling]
    PackUnderWay "4.9" "pack: with a transaction between vote and finish" [pack, concurrent]
}

/// How often each corner was come to.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// Histories played.
    pub histories: u64,
    /// Steps that were done.
    pub steps: u64,
    /// Answers that were compared.
    pub answers: u64,
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage { histories: 0, steps: 0, answers: 0, counts: vec![0; Corner::ALL.len()] }
    }
}

impl Coverage {
    /// How often.
    pub fn count(&self, corner: Corner) -> u64 {
        self.counts[corner as usize]
    }

    /// The corners that were never come to, of those that such a storage can come to.
    pub fn missing(&self, can: Can) -> Vec<Corner> {
        Corner::ALL.iter().copied().filter(|c| can.covers(c.needs()) && self.count(*c) == 0).collect()
    }

    /// Adds what another run has been to.
    pub fn add(&mut self, other: &Coverage) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.answers += other.answers;
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// The table, for a storage that can do this much.
    pub fn table(&self, can: Can) -> Table<'_> {
        Table { coverage: self, can }
    }

    fn reach(&mut self, corner: Corner) {
        self.counts[corner as usize] += 1;
    }

    fn reach_if(&mut self, reached: bool, corner: Corner) {
        if reached {
            self.reach(corner);
        }
    }

    /// Counts what a step came to.
    pub fn step(&mut self, before: &World, step: &Step, outcome: &Outcome, after: &World) {
        use Corner::*;
        self.steps += 1;
        self.reach_if(
            after.open.values().any(|open| open.stage == Stage::Drafting && !open.changes.is_empty()),
            UnseenDraft,
        );
        let voted = |world: &World| world.open.values().filter(|open| open.stage != Stage::Drafting).count();
        self.reach_if(voted(after) > 0, UnseenVoted);
        self.reach_if(voted(after) > 1, TwoVoted);
        if let Outcome::Refused { why } = outcome {
            let changes = match step {
                Step::Vote { transaction, .. } => before.open.get(transaction).map(|open| open.changes.clone()),
                Step::Change { change, .. } => Some(vec![change.clone()]),
                _ => None,
            };
            self.refused(before, &changes.unwrap_or_default(), why);
        }
        match (step, outcome) {
            (_, Outcome::Busy) => self.reach(Busy),
            (Step::Begin { meta, .. }, Outcome::Done) => {
                self.reach_if(meta.user.len() == usize::from(u16::MAX), LongestUser);
            }
            (Step::Abort { transaction }, _) => {
                let stage = before.open.get(transaction).map(|open| open.stage.clone());
                self.reach(if stage == Some(Stage::Drafting) { AbortDraft } else { AbortVoted });
            }
            (Step::Reopen { .. }, _) => {
                self.reach_if(before.open.values().any(|open| open.stage == Stage::Drafting), ReopenUnderWay);
                self.reach_if(voted(before) > 0, ReopenVoted);
            }
            (Step::Finish { transaction }, Outcome::Finished { tid }) => self.finished(before, *transaction, *tid),
            (Step::Pack { to, collect, .. }, Outcome::Packed { .. }) => {
                let dangling = match before.expect(step).as_deref() {
                    Some([Outcome::Packed { dangling: Some(dangling) }, ..]) => !dangling.is_empty(),
                    _ => false,
                };
                self.packed(&before.database, *to, *collect, dangling, &after.database);
                self.reach_if(voted(before) > 0, PackUnderWay);
            }
            _ => {}
        }
    }

    fn refused(&mut self, before: &World, changes: &[Change], why: &Refusal) {
        use Corner::*;
        let stored = |oid: &Oid| changes.iter().any(|c| matches!(c, Change::Store { oid: o, .. } if o == oid));
        match why {
            Refusal::Key { oid } => {
                let deleted = changes.iter().any(|c| matches!(c, Change::Delete { oid: o, .. } if o == oid));
                self.reach(if deleted { DeleteUnknown } else { CheckUnknown });
            }
            Refusal::Conflict { oid, committed, .. } if stored(oid) => {
                self.reach(if *committed == Tid::ZERO { StoreUnknownSerial } else { StoreConflict });
            }
            Refusal::Conflict { .. } => self.reach(DeleteConflict),
            Refusal::ReadConflict { .. } => self.reach(CheckConflict),
            Refusal::VersionLock { oid } => self.reach(if stored(oid) { StoreLock } else { DeleteLock }),
            Refusal::VersionEnd => {
                let commits = changes.iter().any(|c| matches!(c, Change::CommitVersion { .. }));
                self.reach(if commits { CommitVersionError } else { AbortVersionError });
            }
            Refusal::NotUndoable { tid } => {
                let here = before.database.transactions.iter().any(|t| t.tid == tid.0);
                self.reach(if here { UndoPacked } else { UndoUnknown });
            }
            Refusal::UndoConflict { .. } => self.reach(UndoConflict),
            Refusal::Empty { .. } => self.reach(StoreEmpty),
            Refusal::TooLong => self.reach(TooLong),
            Refusal::NotLater => self.reach(NotLater),
            Refusal::ReadOnly => self.reach(ReadOnly),
            Refusal::Dangling { .. } => self.reach(PackDangling),
        }
    }

    fn finished(&mut self, before: &World, name: Name, tid: Tid) {
        use Corner::*;
        let Some(Open { meta, changes, stage: Stage::Voted(revisions, _) }) = before.open.get(&name) else { return };
        let database = &before.database;
        if meta.tid.is_some() {
            self.reach(RestoreTid);
        } else {
            self.reach(if tid == before.clock { ClockForward } else { ClockBehind });
        }
        let oids: BTreeSet<u64> = revisions.iter().map(|r| r.oid).collect();
        self.reach_if(oids.len() < revisions.len(), TwiceInOne);
        let undos: Vec<u64> =
            changes.iter().filter_map(|c| if let Change::Undo { tid } = c { Some(tid.0) } else { None }).collect();
        let undone = database.transactions.iter().filter(|t| undos.contains(&t.tid));
        let touched: Vec<u64> = undone.flat_map(|t| t.oids()).collect();
        self.reach_if(touched.len() > touched.iter().collect::<BTreeSet<_>>().len(), UndoSeveral);
        for change in changes {
            self.done(database, change, revisions);
        }
    }

    fn done(&mut self, database: &Database, change: &Change, revisions: &[vellum_spec::Revision]) {
        use Corner::*;
        let newest = |oid: &Oid| database.newest(oid.0);
        let is_tombstone = |oid: &Oid| newest(oid).is_some_and(|at| database.data(at).is_none());
        match change {
            Change::Store { oid, serial, version, .. } => {
                self.reach(if newest(oid).is_none() { StoreNew } else { StoreAgain });
                self.reach_if(is_tombstone(oid), StoreOnTombstone);
                self.reach_if(newest(oid).map_or(0, |at| at.tid()) != serial.0, StoreResolved);
                self.reach_if(!version.is_empty() && newest(oid).is_none(), StoreBornInVersion);
                let from_trunk = newest(oid).is_some_and(|at| at.revision.version.is_empty());
                self.reach_if(!version.is_empty() && from_trunk, StoreInVersion);
            }
            Change::Delete { oid, .. } => self.reach(if is_tombstone(oid) { DeleteTwice } else { Delete }),
            Change::CheckCurrent { oid, .. } => self.reach(if is_tombstone(oid) { CheckTombstone } else { CheckHolds }),
            Change::Undo { tid } => self.undone(database, tid.0, revisions),
            Change::CommitVersion { from, to } => {
                let some = database.oids().into_iter().any(|oid| database.modified_in_version(oid) == from);
                self.reach_if(some, if to.is_empty() { CommitVersion } else { CommitVersionTo });
            }
            Change::AbortVersion { from } => {
                let objects = database.oids().into_iter().filter_map(|oid| database.newest(oid));
                for at in objects.filter(|at| at.revision.version == *from) {
                    self.reach(if at.revision.base.is_some() { AbortVersion } else { AbortVersionBorn });
                }
            }
            Change::Restore { oid, node, source, base, .. } => {
                self.reach(if node.is_some() { Restore } else { RestoreTombstone });
                let counts = revisions.iter().any(|r| r.oid == oid.0 && matches!(r.content, Content::Source(_)));
                self.reach_if(source.is_some(), if counts { RestoreSource } else { RestoreNoSource });
                let said = revisions.iter().any(|r| r.oid == oid.0 && r.base == base.map(|tid| tid.0));
                self.reach_if(base.is_some(), if said { RestoreBase } else { RestoreBaseElsewhere });
            }
        }
    }

    fn undone(&mut self, database: &Database, tid: u64, revisions: &[vellum_spec::Revision]) {
        use Corner::*;
        let Some(transaction) = database.transactions.iter().find(|t| t.tid == tid) else { return };
        for oid in transaction.oids() {
            let past = database.past(oid);
            let Some(n) = past.iter().position(|at| at.tid() == tid) else { continue };
            let written = revisions.iter().rev().find(|r| r.oid == oid);
            let undone = past[n].revision;
            self.reach_if(n == 0, UndoChange);
            self.reach_if(past.len() == n + 1 && n == 0, UndoCreation);
            self.reach_if(matches!(undone.content, Content::Source(_)) && undone.version.is_empty(), UndoUndo);
            self.reach_if(n == 0 && undone.content == Content::Tombstone && past.len() > 1, UndoDelete);
            let merged = written.is_some_and(|r| matches!(r.content, Content::Data(_)));
            self.reach_if(n > 0, if merged { UndoMerged } else { UndoSameData });
            self.reach_if(!undone.version.is_empty(), UndoInVersion);
            let again = n == 0 && undone.version.is_empty() && written.is_some_and(|r| !r.version.is_empty());
            self.reach_if(again, UndoVersionCommit);
        }
    }

    fn packed(&mut self, before: &Database, to: Tid, collect: bool, dangling: bool, after: &Database) {
        use Corner::*;
        let last = before.transactions.iter().rfind(|t| t.tid <= to.0).map_or(0, |t| t.tid);
        let again = last > 0 && last == before.packed_to();
        if to.0 < before.packed_to() || (again && before == after) {
            return self.reach(PackAgain);
        }
        self.reach_if(again, PackCollectsLater);
        self.reach_if(
            after.transactions.last().is_some_and(|t| t.tid <= to.0 && t.revisions.is_empty()),
            PackLastStays,
        );
        let later = before.transactions.iter().any(|t| t.tid > to.0);
        self.reach_if(later, PackKeepsLater);
        let earlier = before.transactions.iter().filter(|t| t.tid <= to.0);
        let left: BTreeSet<u64> = after.transactions.iter().map(|t| t.tid).collect();
        self.reach_if(earlier.clone().any(|t| !left.contains(&t.tid)), PackTransactionGoes);
        self.reach_if(dangling, if later { PackDanglingLater } else { PackGoOn });
        let gone: Vec<u64> = before.oids().difference(&after.oids()).copied().collect();
        // Among what is gone: who is referred to, by whom.
        let refers =
            |oid: u64| before.newest(oid).and_then(|at| before.data(at)).map(Node::references).unwrap_or_default();
        self.reach_if(collect && !gone.is_empty(), PackCollects);
        let cycle =
            gone.iter().any(|&oid| refers(oid).iter().any(|to| gone.contains(to) && refers(*to).contains(&oid)));
        self.reach_if(collect && cycle, PackCollectsCycle);
        let weakly: BTreeSet<u64> = after.current_records().values().flat_map(|(data, _)| weak(data)).collect();
        self.reach_if(collect && gone.iter().any(|oid| weakly.contains(oid)), PackWeak);
        let reached = after.reachable(to.0, &Node::references);
        for transaction in after.transactions.iter().filter(|t| t.tid <= to.0) {
            for revision in &transaction.revisions {
                let oid = revision.oid;
                let was = before.at(oid, transaction.tid).map(|at| &at.revision.content);
                self.reach_if(matches!(was, Some(Content::Source(_))), PackOwnData);
                self.reach_if(revision.base.is_some(), PackVersions);
                let newest = before.past(oid).into_iter().find(|at| at.tid() <= to.0);
                let newest_trunk = newest.and_then(|at| at.revision.base.or(Some(at.tid())));
                let is_newest = newest.map(|at| at.tid()) == Some(transaction.tid);
                self.reach_if(is_newest && revision.content == Content::Tombstone, PackTombstone);
                let old = !is_newest && newest_trunk != Some(transaction.tid);
                let after_to = || after.transactions.iter().filter(|t| t.tid > to.0).flat_map(|t| &t.revisions);
                let named = after_to().any(|r| r.oid == oid && r.content == Content::Source(transaction.tid));
                let base = after_to().any(|r| r.oid == oid && r.base == Some(transaction.tid));
                self.reach_if(old && named, PackSource);
                self.reach_if(old && base, PackBase);
                self.reach_if(old, PackForgets);
                self.reach_if(collect && is_newest && !reached.contains_key(&oid), PackKeepsByLater);
            }
        }
        self.reach_if(earlier.flat_map(|t| &t.revisions).count() > left.len(), PackForgets);
    }

    /// Counts what is asked and answered.
    pub fn answers(&mut self, world: &World, questions: &[Question], answers: &[Answer]) {
        use Corner::*;
        self.answers += answers.len() as u64;
        let database = &world.database;
        for (question, answer) in questions.iter().zip(answers) {
            match (question, answer) {
                (Question::Load { oid, version }, answer) => {
                    let newest = database.newest(oid.0);
                    let held = newest.map_or("", |at| &at.revision.version);
                    match answer {
                        Answer::KeyError => self.reach(if newest.is_some() { LoadTombstone } else { LoadUnknown }),
                        _ if held.is_empty() => self.reach(Load),
                        _ => self.reach(if held == version { LoadInVersion } else { LoadBase }),
                    }
                }
                (Question::LoadBefore { oid, .. }, Answer::Shown { tid, next, .. }) => {
                    self.reach(if next.is_some() { BeforeNext } else { BeforeShown });
                    let since = database.at(oid.0, tid.0);
                    self.reach_if(since.is_some_and(|at| !at.revision.version.is_empty()), BeforeVersionUndone);
                }
                (Question::LoadBefore { .. }, Answer::NotYet) => self.reach(BeforeNotYet),
                (Question::LoadBefore { oid, .. }, Answer::KeyError) => {
                    self.reach_if(database.newest(oid.0).is_some(), BeforeTombstone);
                }
                (Question::LoadSerial { oid, tid }, Answer::Record { .. }) => {
                    let versioned = database.at(oid.0, tid.0).is_some_and(|at| !at.revision.version.is_empty());
                    self.reach(if versioned { SerialBase } else { Serial });
                }
                (Question::LoadSerial { oid, tid }, _) => {
                    self.reach(SerialNone);
                    self.reach_if(database.at(oid.0, tid.0).is_some_and(|at| database.data(at).is_some()), PackedPast);
                }
                (Question::History { oid, .. }, Answer::History { entries }) => {
                    self.reach_if(entries.len() >= 3, HistoryLong);
                    self.reach_if(entries.iter().any(|entry| entry.size == 0), HistoryShared);
                    self.reach_if(entries.len() > 1 && packed_past(database, oid.0), PackedPast);
                }
                (Question::History { .. }, _) => self.reach(HistoryUnknown),
                (Question::UndoLog { .. }, Answer::UndoLog { entries }) if !entries.is_empty() => {
                    self.reach(UndoLog);
                    self.reach_if(database.transactions.iter().any(|t| t.status == Status::Packed), UndoLogAfterPack);
                }
                (Question::Transactions { .. }, Answer::Transactions { transactions }) => {
                    self.reach_if(!transactions.is_empty(), Transactions);
                    for written in transactions {
                        for change in written.revisions.iter().filter(|change| change.source.is_some()) {
                            self.reach(TransactionsShared);
                            let at = database.at(change.oid.0, written.tid.0);
                            let source = at.map(|at| at.revision.content.clone());
                            let twice = source.is_some_and(|c| c != Content::Source(change.source.map_or(0, |t| t.0)));
                            self.reach_if(twice, TransactionsSharedTwice);
                        }
                    }
                }
                (Question::CurrentRecords { .. }, Answer::CurrentRecords { records }) => {
                    let last = records.last().map_or(0, |(oid, ..)| oid.0);
                    let nothing = |oid: &u64| database.load(*oid, "").is_err();
                    self.reach_if(database.oids().range(..last).any(nothing), CurrentTombstone);
                }
                (Question::Versions, Answer::Versions { versions }) => self.reach_if(versions.len() > 1, Versions),
                _ => {}
            }
        }
    }
}

fn packed_past(database: &Database, oid: u64) -> bool {
    database.past(oid).len() < database.transactions.iter().filter(|t| t.revision(oid).is_some()).count()
}

fn weak(data: &[u8]) -> Vec<u64> {
    Node::decode(data).map(|node| node.weak.iter().map(|oid| oid.0).collect()).unwrap_or_default()
}

/// The table of corners.
pub struct Table<'a> {
    coverage: &'a Coverage,
    can: Can,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rule       times  what")?;
        for &corner in Corner::ALL {
            let count = match self.coverage.count(corner) {
                0 if !self.can.covers(corner.needs()) => "-".to_owned(),
                0 => "NEVER".to_owned(),
                count => count.to_string(),
            };
            writeln!(f, "{:<5} {count:>10}  {}", corner.rule(), corner.what())?;
        }
        Ok(())
    }
}
