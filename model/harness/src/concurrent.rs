//! Many threads on one storage, and an explanation of all its answers.
//!
//! Each thread commits, aborts and reads at random on a few shared objects, and records every call: the request, the
//! answer, and two stamps of one counter, taken just before the call and just after it. Then `explain` looks for an
//! explanation:
//!
//! ```text
//!   Thread ── calls ──▶ storage          Log ── commits, by tid ──▶ states: the rules' databases ──┐
//!     └────── records ──▶ Log             └──── reads and votes ───────────────────────────────────┴▶ linearize
//! ```
//!
//! **Reads** must be linearizable: see [`crate::linearize`]. The order of the writes is known, since every finish
//! returned a tid, and tids increase. A commit is shown after `finish` was called and before the listener is told of
//! it.
//!
//! **Votes** are reads, too: the result of a vote, good or bad, is what the rules say of its changes on one of the
//! databases. From then on a transaction holds its objects. Three checks look at that:
//!
//! - each finished transaction is done again on the database of the commit before it, however long ago the vote was. It
//!   must succeed, merge the same objects, and lead to what the storage holds in the end;
//! - no two transactions certainly (from the end of the vote to the beginning of finish or abort) held what only one
//!   may hold;
//! - if a transaction was told that an object is busy, another one may have held it at that time.
//!
//! **Finishes**: if one returned before another began, its tid is smaller. The listener is told of each once, before
//! the finish returns, in the order of the tids, with its objects and its origin.
//!
//! **Packs** have no place among the tids, and a thread of their own, if there are any. The checks hold wherever a pack
//! took place. So the shared objects are such that a pack makes no difference to what the threads may do, except to
//! undos: the root always refers to all of them, and to no other object. Garbage arises beside them: most stored
//! records refer to a *private* object that is created with them, and never changed.
//!
//! ```text
//!   commits alone      1 · 2 · 3 · 4 · 5 · 6          every finish is checked against these, undos included
//!   packed to 2        (2) · 3 · 4 · 5 · 6            answers after the pack to 2 returned
//!                         3 · 4 · 5 · 6               answers during the pack: as of the one or the other
//! ```
//!
//! So each database has others beside it, packed to the times of the packs that may have happened by then; after a pack
//! has returned, there is no choice. A pack by counts moves on from commit to commit (rule 4.11), so during it the time
//! may be that of any commit. These databases are what the rules say of a pack that came last. The comparison
//! leaves out what depends on the place of the pack: which transactions up to the pack's time are still there, with
//! their revisions; and private objects that cannot be reached from the root. In the end, every object that can be
//! reached from the root at any moment since the last pack must be what the commits alone make of it.
//!
//! Not here: iterators that are created and read much later. The machine chooses the schedule. A seed repeats what the
//! threads *want* to do, not how they meet. A run without a failure has tried some schedules; a failure is judged by
//! the calls that are printed, not by running it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::thread;

use vellum_storage::{
    Data, Draft, Error, Event, Oid, Origin, PackOptions, PackReport, Storage, Tid, TransactionMeta, Version, Vote,
    Voted,
};
use vellum_sync::Mutex;
use vellum_sync::atomic::{AtomicU64, Ordering};

use crate::dice::{Dice, Seed};
use crate::hosted::{answer, blob_with, outcome_of};
use crate::linearize::Span;
use crate::node::{Beside, Node};
use crate::question::{Answer, Question};
use crate::step::{Change, Meta, Outcome};
use crate::subject::Can;

mod explain;
mod holders;
mod log;
mod report;

use explain::Wrong;
use log::{Done, Log, Pack, Read, Told, VoteResult};

pub use report::Report;

/// A run to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of the threads' choices.
    pub seed: u64,
    /// The number of threads.
    pub threads: u64,
    /// Transactions that each of them begins.
    pub transactions: u64,
    /// The number of objects that they share.
    pub objects: u64,
    /// The number of concurrent packs, if the storage can be packed.
    pub packs: u64,
}

/// Calls for which there is no explanation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the threads' choices.
    pub seed: u64,
    /// The fault.
    pub what: String,
    /// The calls around it, in the order in which they began.
    pub calls: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# seed {}; how the threads met was the machine's choice", self.seed)?;
        self.calls.iter().try_for_each(|call| writeln!(f, "{call}"))?;
        write!(f, "---\n{}", self.what)
    }
}

/// Runs threads on a storage, which must be empty, and looks for an explanation of its answers. A storage that can
/// resolve must merge as [`crate::node::merge`] does.
pub fn run(storage: &dyn Storage, can: Can, plan: &Plan) -> Result<Report, Box<Failure>> {
    let stamps = Arc::new(AtomicU64::new(0));
    let tids = Mutex::new(Vec::new());
    let working = AtomicU64::new(plan.threads);
    let thread = |number| Thread {
        storage,
        can,
        plan,
        number,
        dice: Seed::of(plan.seed, number),
        stamps: Arc::clone(&stamps),
        tids: &tids,
        log: Log::default(),
        seen: BTreeMap::new(),
        label: 0,
    };
    let told = Arc::new(Mutex::new(Vec::new()));
    let listening = storage.listen(Arc::new({
        let (stamps, told, dice) = (Arc::clone(&stamps), Arc::clone(&told), Mutex::new(Seed::of(plan.seed, u64::MAX)));
        move |event: &Event| {
            let Event::Committed { tid, oids, origin } = event else { return };
            let stamp = stamps.fetch_add(1, Ordering::SeqCst);
            told.lock().push(Told { tid: *tid, oids: oids.clone(), origin: *origin, stamp });
            // While it runs, `finish` has not returned. The longer it takes, the likelier a read meets it.
            let give_way = {
                let dice: &mut dyn Dice = &mut *dice.lock();
                if dice.chance(30) { 1 + dice.roll(20) } else { 0 }
            };
            (0..give_way).for_each(|_| thread::yield_now());
        }
    }));
    let work = |mut thread: Thread<'_>| {
        let _working = Working(&working);
        for _ in 0..plan.transactions {
            thread.transaction();
        }
        thread.log
    };
    let mut packer = thread(plan.threads);
    if packer.packs() {
        packer.first();
    }
    let mut logs: Vec<Log> = thread::scope(|scope| {
        let threads = (0..plan.threads).map(|number| {
            let thread = thread(number);
            let work = &work;
            scope.spawn(move || work(thread))
        });
        let threads: Vec<_> = threads.collect();
        packer.pack_now_and_then(&working);
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let panicked = plan.threads - logs.len() as u64;
    logs.push(std::mem::take(&mut packer.log));
    let mut log = Log::of(logs);
    drop(listening);
    let told = std::mem::take(&mut *told.lock());
    for done in &mut log.transactions {
        let Some(Outcome::Finished { tid }) = done.finished else { continue };
        done.told = told.iter().filter(|told| told.tid == tid).cloned().collect();
    }
    let failure =
        |Wrong { what, around }: Wrong| Box::new(Failure { seed: plan.seed, what, calls: log.around(around) });
    if panicked > 0 {
        return Err(failure(Wrong { what: format!("{panicked} threads panicked; see above"), around: None }));
    }
    explain::explain(&log, storage, can).map_err(failure)
}

/// Counts a thread as working until it is dropped, so that a panic ends the count, too.
struct Working<'a>(&'a AtomicU64);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A thread that makes calls and records them.
struct Thread<'a> {
    storage: &'a dyn Storage,
    can: Can,
    plan: &'a Plan,
    number: u64,
    dice: Seed,
    stamps: Arc<AtomicU64>,
    /// Tids that any of the threads knows.
    tids: &'a Mutex<Vec<Tid>>,
    log: Log,
    /// The newest revision of each object that this thread has seen: its changes are made to that.
    seen: BTreeMap<Oid, Tid>,
    label: u64,
}

/// The version of some changes.
const VERSION: &str = "draft";

/// The first private object of a run with packs, and how many each thread has.
const PRIVATE: u64 = 1 << 20;
const PRIVATE_EACH: u64 = 1 << 12;

/// How often, in percent, a thread yields to others between two calls.
const GIVE_WAY: u64 = 15;

impl Thread<'_> {
    fn dice(&mut self) -> &mut dyn Dice {
        &mut self.dice
    }

    fn call<T>(&mut self, call: impl FnOnce() -> T) -> (T, Span) {
        if self.dice().chance(GIVE_WAY) {
            thread::yield_now();
        }
        let start = self.stamps.fetch_add(1, Ordering::SeqCst);
        let result = call();
        (result, Span { start, end: self.stamps.fetch_add(1, Ordering::SeqCst) })
    }

    fn oid(&mut self) -> Oid {
        let objects = self.plan.objects;
        Oid(self.dice().roll(objects))
    }

    fn reads(&mut self) {
        for _ in 0..self.dice().roll(4) {
            self.read();
        }
    }

    fn read(&mut self) {
        let oid = self.oid();
        let known = self.tids.lock().clone();
        // Mostly a recent tid.
        let recent = &known[known.len().saturating_sub(6)..];
        let tid = self.dice().pick(recent).copied().unwrap_or(Tid::ZERO);
        let newest_first = self.dice().chance(50);
        let question = match self.dice().roll(12) {
            0..2 => Question::Load { oid, version: String::new() },
            2..4 => Question::Load { oid, version: if self.can.versions { VERSION.to_owned() } else { String::new() } },
            4..6 => Question::LoadBefore { oid, before: if self.dice().chance(50) { tid.next() } else { Tid::MAX } },
            6 if self.can.blobs && self.dice().chance(60) => Question::LoadBlob { oid, tid },
            6 => Question::LoadSerial { oid, tid },
            7 => Question::History { oid, limit: 4 },
            8 => Question::Transactions { first: tid, last: Tid::MAX, newest_first },
            9 => Question::LastInvalidations { count: 3 },
            10 if self.can.versions && self.dice().chance(50) => match self.dice().roll(2) {
                0 => Question::Versions,
                _ => Question::ModifiedInVersion { oid },
            },
            10 if self.dice().chance(50) => Question::CurrentRecords { first: Oid(oid.0 / 2) },
            11 if self.can.undo => Question::UndoLog { first: 0, last: 3 },
            _ => Question::LastTransaction,
        };
        let storage = self.storage;
        let (answer, span) = self.call(|| answer(storage, &question));
        let newest = match &answer {
            Answer::Loaded { tid, .. } => Some(*tid),
            Answer::History { entries } => entries.first().map(|entry| entry.tid),
            _ => None,
        };
        if let Some(tid) = newest {
            self.seen.insert(oid, tid);
        }
        self.log.reads.push(Read { thread: self.number, question, answer, span });
    }

    /// The serial for a change: of the revision that was seen last, or of an older one.
    fn serial(&mut self, oid: Oid) -> Tid {
        let seen = self.seen.get(&oid).copied().unwrap_or(Tid::ZERO);
        match self.dice().roll(20) {
            0 => Tid::ZERO,
            1 => self.seen.values().min().copied().unwrap_or(seen),
            _ => seen,
        }
    }

    fn change(&mut self) -> Change {
        let oid = self.oid();
        let serial = self.serial(oid);
        let undone = {
            let tids = self.tids.lock();
            tids.get(tids.len().saturating_sub(3)).copied()
        };
        let versions = self.can.versions;
        let version = if versions && self.dice().chance(30) { VERSION.to_owned() } else { String::new() };
        match (self.dice().roll(20), undone) {
            (6, _) if versions => Change::CommitVersion { from: VERSION.to_owned(), to: String::new() },
            (7, _) if versions => Change::AbortVersion { from: VERSION.to_owned() },
            (0, _) if self.can.delete => Change::Delete { oid, serial },
            (1..4, _) if self.can.check_current => Change::CheckCurrent { oid, serial },
            (4..6, Some(tid)) if self.can.undo => Change::Undo { tid },
            _ => {
                let number = self.dice().roll(250) as u8;
                let mut node = Node { counter: oid.0 % 2 == 1, number, ..Node::default() };
                if self.can.blobs && self.dice().chance(25) {
                    node = Node { counter: true, beside: Beside::Blob(number % 4), ..Node::default() };
                }
                Change::Store { oid, serial, node: Some(node), version }
            }
        }
    }

    fn packs(&self) -> bool {
        self.plan.packs > 0 && self.can.pack && self.storage.pack().is_some()
    }

    /// In a run with packs: creates the shared objects, which the root refers to from the beginning to the end.
    fn first(&mut self) {
        let meta = Meta { user: "first".to_owned(), ..Meta::default() };
        let mut done = Done::new(self.number, &meta);
        let store = |oid| {
            let node = Node { counter: oid % 2 == 1, strong: self.known(oid), ..Node::default() };
            Change::Store { oid: Oid(oid), serial: Tid::ZERO, node: Some(node), version: String::new() }
        };
        done.changes = (0..self.plan.objects).map(store).collect();
        if let Ok(mut draft) = self.storage.begin(TransactionMeta::new().user(meta.user)) {
            draft.set_origin(Origin(self.number));
            let told: Result<Vec<()>, _> =
                done.changes.iter().map(|change| tell(self.storage, &mut draft, change)).collect();
            if told.is_ok()
                && let Some(voted) = self.vote(draft, &mut done)
            {
                self.finish(voted, &mut done);
            }
        }
        // No thread may undo it.
        self.tids.lock().clear();
        self.log.transactions.push(done);
    }

    /// The references that a shared object always has.
    fn known(&self, oid: u64) -> Vec<Oid> {
        if oid == 0 { (1..self.plan.objects).map(Oid).collect() } else { Vec::new() }
    }

    /// A change, adapted so that packs make no difference to it and find garbage: see the module.
    fn changes(&mut self) -> Vec<Change> {
        let mut change = self.change();
        if !self.packs() {
            return vec![change];
        }
        if let Change::Delete { oid: Oid::ROOT, serial } = change {
            let node = Some(Node::default());
            change = Change::Store { oid: Oid::ROOT, serial, node, version: String::new() };
        }
        let mut before = None;
        if let Change::Store { oid, node: Some(node), .. } = &mut change {
            node.strong = self.known(oid.0);
            if *oid != Oid::ROOT && self.dice().chance(70) {
                self.label += 1;
                let private = Oid(PRIVATE + self.number * PRIVATE_EACH + self.label);
                node.strong.push(private);
                let node = Some(Node { number: node.number, ..Node::default() });
                before = Some(Change::Store { oid: private, serial: Tid::ZERO, node, version: String::new() });
            }
        }
        before.into_iter().chain([change]).collect()
    }

    /// Packs to recent commits, now and then, while the other threads work.
    fn pack_now_and_then(&mut self, working: &AtomicU64) {
        let (storage, count) = (self.storage, if self.packs() { self.plan.packs } else { 0 });
        let Some(pack) = storage.pack() else { return };
        for n in 0..count {
            // Spread over the expected commits.
            let expected = self.plan.threads * self.plan.transactions / 3 * (n + 1) / (count + 1);
            let known = || self.tids.lock().clone();
            while working.load(Ordering::SeqCst) > 0 && (known().len() as u64) < expected {
                thread::yield_now();
            }
            let known = known();
            let recent = &known[known.len().saturating_sub(20)..];
            let Some(&to) = self.dice().pick(recent) else { continue };
            let counts = pack.counts().filter(|_| self.can.counts && self.dice().chance(60));
            let collect = counts.is_none() && self.can.collect && self.dice().chance(70);
            let how = PackOptions::default().collect(collect);
            let (packed, span) = self.call(|| match counts {
                Some(counts) => counts.pack_by_counts(to).map(|()| PackReport::default()),
                None => pack.pack(to, how),
            });
            let failed = match packed {
                Ok(report) if report.dangling.is_empty() => None,
                other => Some(format!("{other:?}")),
            };
            self.log.packs.push(Pack { to, collect, by_counts: counts.is_some(), failed, span });
        }
    }

    fn transaction(&mut self) {
        self.reads();
        if self.dice().chance(10) {
            let storage = self.storage;
            let (oids, span) = self.call(|| storage.new_oids(2));
            self.log.oids.extend(oids.unwrap_or_default().into_iter().map(|oid| (oid, span)));
        }
        self.label += 1;
        let meta = Meta { user: format!("{}-{}", self.number, self.label), ..Meta::default() };
        let mut done = Done::new(self.number, &meta);
        match self.storage.begin(TransactionMeta::new().user(meta.user)) {
            Ok(mut draft) => {
                draft.set_origin(Origin(self.number));
                self.go(draft, &mut done);
            }
            Err(error) => {
                // No rule refuses a begin.
                let (outcome, span) = self.call(|| outcome_of(error));
                done.refused = Some((outcome, span));
            }
        }
        self.log.transactions.push(done);
    }

    fn go(&mut self, mut draft: Draft, done: &mut Done) {
        for _ in 0..1 + self.dice().roll(3) {
            let changes = self.changes();
            let again = |other: &Change| changes.iter().any(|c| changed(c).is_some() && changed(other) == changed(c));
            if !self.can.repeat && done.changes.iter().any(again) {
                continue;
            }
            for change in changes {
                done.changes.push(change.clone());
                let storage = self.storage;
                let (result, span) = self.call(|| tell(storage, &mut draft, &change));
                if let Err(error) = result {
                    done.refused = Some((outcome_of(error), span));
                    return;
                }
            }
            if self.dice().chance(20) {
                self.read();
            }
        }
        if self.dice().chance(5) {
            return;
        }
        let Some(voted) = self.vote(draft, done) else { return };
        self.reads();
        if self.dice().chance(10) {
            let ((), span) = self.call(|| drop(voted));
            done.end = Some(span);
            return;
        }
        self.finish(voted, done);
    }

    fn finish(&mut self, voted: Voted, done: &mut Done) {
        done.touched = voted.touched().to_vec();
        let (result, span) = self.call(|| voted.finish());
        done.end = Some(span);
        done.finished = Some(match result {
            Ok(tid) => {
                self.tids.lock().push(tid);
                Outcome::Finished { tid }
            }
            Err(error) => outcome_of(error),
        });
    }

    /// Votes, by waiting or by asking again.
    fn vote(&mut self, mut draft: Draft, done: &mut Done) -> Option<Voted> {
        let mut tries = self.dice().roll(3);
        loop {
            let storage = self.storage;
            let (result, span) = match tries {
                0 => self.call(|| storage.vote(draft).map(Vote::Voted)),
                _ => self.call(|| storage.try_vote(draft)),
            };
            match result {
                Ok(Vote::Voted(voted)) => {
                    let resolved: BTreeSet<Oid> = voted.merged().iter().copied().collect();
                    let resolved = resolved.into_iter().collect();
                    done.votes.push((VoteResult::Said(Outcome::Voted { resolved }), span));
                    return Some(voted);
                }
                Ok(Vote::Busy(waiting)) => {
                    done.votes.extend(waiting.busy().map(|what| (VoteResult::Busy(what.clone()), span)));
                    (draft, tries) = (waiting.into_draft(), tries - 1);
                    self.read();
                }
                Err(error) => {
                    done.votes.push((VoteResult::Said(outcome_of(error)), span));
                    return None;
                }
            }
        }
    }
}

fn changed(change: &Change) -> Option<Oid> {
    match change {
        Change::Store { oid, .. } | Change::Delete { oid, .. } => Some(*oid),
        _ => None,
    }
}

fn tell(storage: &dyn Storage, draft: &mut Draft, change: &Change) -> Result<(), Error> {
    match change {
        Change::Store { oid, serial, node, version } => {
            let blob = node.as_ref().map(|node| blob_with(storage, node)).transpose()?.flatten();
            let data = Data::from(node.as_ref().map(Node::encode).unwrap_or_default()).with_blob(blob);
            let (oid, serial, version) = (*oid, *serial, named(version));
            draft.push(vellum_storage::Change::Store { oid, serial, version, data })
        }
        Change::Delete { oid, serial } => draft.delete(*oid, *serial),
        Change::CheckCurrent { oid, serial } => draft.check_current(*oid, *serial),
        Change::Undo { tid } => draft.undo(*tid),
        Change::CommitVersion { from, to } => draft.commit_version(&named(from), &named(to)),
        Change::AbortVersion { from } => draft.abort_version(&named(from)),
        Change::Restore { .. } => Ok(()),
    }
}

fn named(version: &str) -> Version {
    Version::named(version.to_owned())
}
