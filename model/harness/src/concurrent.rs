//! Many threads on one storage, and what they were told must have an explanation.
//!
//! Each thread commits, aborts and reads at random on a few objects that all of them fight for, and writes down every call:
//! what was asked, what was answered, and two numbers from one counter, taken just before the call and just after it. If
//! one call's second number is smaller than another's first, the one was over before the other began. The question is then
//! whether there is an order of all of it that the rules allow and that contradicts no such pair: whether the history is
//! *linearizable* (Herlihy and Wing, 1990).
//!
//! In general that takes a search through orders. Here the storage itself gives the order of the writes away: every finish
//! returned a tid, and tids increase. So the databases that there can have been are known, one after each commit, and what
//! is open is only *when* each gave way to the next:
//!
//! ```text
//!   commits, by tid       1 ········├══════told───┤               ═ somewhere here it was shown: after `finish` was
//!                         2      ···········├════════told──┤        called, before the listener was told
//!   database              0 0 0 0 0 0 ? ? ? ? ? ? ? 1? 2? 2 2
//!   a read                              ├────┤                      may be answered as of 0 or 1; if it is 1, then
//!   another, later                              ├───┤               here no longer 0, whichever thread asks
//! ```
//!
//! A read is explained by a database that it can have met: one whose commit may have been shown before the read ended, and
//! whose successor need not have been shown when it began. All reads together are explained if one course of time does for
//! all of them: a number of commits shown that never decreases. That is found by going through the calls' beginnings and
//! ends in their order, with the number as small as all that was seen so far allows:
//!
//! - when the listener was told of a commit, the number is at least that commit's;
//! - when a read ends, the number is at least that of the *first* database that gives its answer, counted from what the
//!   number was when the read began; none, or one whose commit can not have been shown yet: there is no explanation.
//!
//! A larger number than need be never helps a later read, so if the smallest course fails, every course does. Nothing is
//! let through that should not be, and nothing is complained of that has an explanation.
//!
//! **Votes** are reads too: what came of one, good or bad, is what the rules say of its changes on one of the databases.
//! From then on a transaction holds its objects, which is looked at from three sides:
//!
//! - what was finished is done again on the database of the commit before it, however long ago the vote was, and has to
//!   go well, merge the same objects, and lead to what the storage holds in the end;
//! - no two transactions certainly (from the end of the vote to the beginning of finish or abort) held what only one may;
//! - who was told that an object is busy was so while another one can have held it.
//!
//! **Finishes**: if one returned before another began, its tid is smaller; and the listener is told once of each, before it
//! returns, in the order of the tids, with its objects and its origin.
//!
//! **Packs** have no place among the tids, and a thread of their own if there are any. What must hold is what holds wherever a
//! pack took place. Which objects the others fight for is therefore made so that no pack makes a difference to what they may
//! do, but for undos: the root always refers to all of these objects, and to nothing else; garbage comes about beside them,
//! since most of what is stored refers to a *private* object that is made with it, and changed by nobody.
//!
//! ```text
//!   commits alone      1 · 2 · 3 · 4 · 5 · 6          every finish is held to these, undos included
//!   packed to 2        (2) · 3 · 4 · 5 · 6            what is said after the pack to 2 returned
//!                         3 · 4 · 5 · 6               what is said meanwhile may be the one or the other
//! ```
//!
//! So each database has others beside it, packed to the times that packs may have come to by then; a pack that has returned
//! leaves no choice. They are what the rules say of a pack that came last of all. What of that depends on its place is left
//! out of the comparison, and that is only: what transactions up to the pack's time are still there, with their revisions;
//! and private objects that can not be reached from the root. In the end everything that can be reached from it at any
//! moment since the last pack is looked at, and must be what the commits alone make of it.
//!
//! What is not here: iterators that are made and read much later. And the schedule is the machine's
//! choice. A seed repeats what the threads *want* to do, not how they meet; a run that finds nothing has tried some
//! schedules, and a failure is judged by the calls that are printed, not by running it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::thread;

use vellum_storage::{
    Busy, Draft, Error, Event, Oid, Origin, PackOptions, PackReport, Storage, Tid, TransactionMeta, Version, Vote,
    Voted,
};
use vellum_sync::Mutex;
use vellum_sync::atomic::{AtomicU64, Ordering};

use crate::dice::{Dice, Seed};
use crate::hosted::{answer, outcome_of};
use crate::node::Node;
use crate::question::{Answer, Question};
use crate::step::{Change, Meta, Outcome};
use crate::subject::Can;

mod explain;

use explain::Wrong;

/// What to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the threads' choices come from.
    pub seed: u64,
    /// How many threads.
    pub threads: u64,
    /// Transactions that each of them begins.
    pub transactions: u64,
    /// How many objects they fight for.
    pub objects: u64,
    /// How many packs there are meanwhile, if the storage can be packed.
    pub packs: u64,
}

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls that were recorded and explained.
    pub calls: u64,
    /// Reads among them.
    pub reads: u64,
    /// Transactions that were finished.
    pub finished: u64,
    /// Some of whose records were merged.
    pub merged: u64,
    /// That took back what others had done.
    pub undone: u64,
    /// That ended a version in which there was something.
    pub ended: u64,
    /// Transactions that a rule forbade.
    pub refused: u64,
    /// Times that an object was busy.
    pub busy: u64,
    /// Reads during which something may have been committed: those with more than one possible explanation.
    pub raced: u64,
    /// Votes during which something may have been committed.
    pub votes_raced: u64,
    /// Packs.
    pub packs: u64,
    /// During which something was committed.
    pub packs_raced: u64,
    /// What was said that only a pack explains.
    pub packed: u64,
    /// Undos that were refused for that reason.
    pub undos_forgotten: u64,
    /// Private objects that were gone in the end.
    pub collected: u64,
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: &Report) {
        let Report { calls, reads, finished, merged, undone, ended, refused, busy, raced, votes_raced, .. } = other;
        self.packs += other.packs;
        self.packs_raced += other.packs_raced;
        self.packed += other.packed;
        self.undos_forgotten += other.undos_forgotten;
        self.collected += other.collected;
        self.calls += calls;
        self.reads += reads;
        self.finished += finished;
        self.merged += merged;
        self.undone += undone;
        self.ended += ended;
        self.refused += refused;
        self.busy += busy;
        self.raced += raced;
        self.votes_raced += votes_raced;
    }

    /// What should happen in every long run, and never did in this one.
    pub fn never(&self, can: Can) -> Vec<&'static str> {
        [
            (true, self.finished, "a transaction was finished"),
            (can.resolve, self.merged, "changes were merged"),
            (can.undo, self.undone, "something was undone"),
            (can.versions, self.ended, "a version was ended"),
            (true, self.refused, "a transaction was refused"),
            (true, self.busy, "an object was busy"),
            (true, self.raced, "something was committed during a read"),
            (true, self.votes_raced, "something was committed during a vote"),
            (self.packs > 0, self.packs_raced, "something was committed during a pack"),
            (self.packs > 0, self.packed, "a pack was seen"),
            (self.packs > 0 && can.undo, self.undos_forgotten, "an undo was refused because of a pack"),
            (self.packs > 0 && can.collect, self.collected, "garbage was collected"),
        ]
        .into_iter()
        .filter_map(|(needed, count, what)| (needed && count == 0).then_some(what))
        .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { calls, reads, finished, merged, undone, ended, refused, busy, raced, votes_raced, .. } = self;
        let Report { packs, packs_raced, packed, undos_forgotten, collected, .. } = self;
        if *packs > 0 {
            writeln!(
                f,
                "{packs} packs ({packs_raced} raced a commit), {packed} answers that only they explain, {undos_forgotten} \
                 undos refused for them, {collected} objects collected"
            )?;
        }
        write!(
            f,
            "{calls} calls: {reads} reads ({raced} raced a commit), {finished} transactions finished ({merged} merged, \
             {undone} undid something, {ended} ended a version), {refused} refused, {busy} times busy, {votes_raced} votes raced a commit"
        )
    }
}

/// Calls for which there is no explanation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where the threads' choices came from.
    pub seed: u64,
    /// What is wrong.
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

/// Lets threads loose on a storage, which must be empty, and looks for an explanation of what they were told. The storage
/// should merge as [`crate::node::merge`] does if it is said to.
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
            // As long as it runs, `finish` has not returned: the longer it takes, the likelier somebody looks.
            let give_way = {
                let dice: &mut dyn Dice = &mut *dice.lock();
                if dice.chance(30) { 1 + dice.roll(20) } else { 0 }
            };
            (0..give_way).for_each(|_| thread::yield_now());
        }
    }));
    let work = |mut thread: Thread<'_>| {
        let _leaves = Leaves(&working);
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
    let mut log = Log::default();
    for other in logs {
        log.packs.extend(other.packs);
        log.reads.extend(other.reads);
        log.transactions.extend(other.transactions);
        log.oids.extend(other.oids);
    }
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
    log.explain(storage, can).map_err(failure)
}

/// Two numbers from the counter, around a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

/// A thread that is at work, until it is not.
struct Leaves<'a>(&'a AtomicU64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A pack.
#[derive(Clone, Debug)]
struct Pack {
    to: Tid,
    collect: bool,
    /// What was wrong with it, if something was.
    failed: Option<String>,
    span: Span,
}

/// A read.
#[derive(Clone, Debug)]
struct Read {
    thread: u64,
    question: Question,
    answer: Answer,
    span: Span,
}

/// A transaction, as far as it came.
#[derive(Clone, Debug)]
struct Done {
    thread: u64,
    meta: Meta,
    changes: Vec<Change>,
    /// The change that was refused when it was made, and when that was.
    refused: Option<(Outcome, Span)>,
    /// Each vote, of which all but the last found something busy.
    votes: Vec<(Came, Span)>,
    /// From when on it lets go of its objects: the finish, or the abort.
    end: Option<Span>,
    /// The objects that it was to write, by its vote.
    touched: Vec<Oid>,
    /// When the listener was told of it: never, once, or more often.
    told: Vec<Told>,
    /// What the finish said.
    finished: Option<Outcome>,
}

impl Done {
    fn new(thread: u64, meta: &Meta) -> Done {
        Done {
            thread,
            meta: meta.clone(),
            changes: Vec::new(),
            refused: None,
            votes: Vec::new(),
            end: None,
            touched: Vec::new(),
            told: Vec::new(),
            finished: None,
        }
    }
}

/// A commit that the listener was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    tid: Tid,
    oids: Vec<Oid>,
    origin: Origin,
    stamp: u64,
}

/// What a vote came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    Said(Outcome),
    Busy(Busy),
}

/// What was written down.
#[derive(Default)]
struct Log {
    reads: Vec<Read>,
    transactions: Vec<Done>,
    oids: Vec<(Oid, Span)>,
    packs: Vec<Pack>,
}

struct Thread<'a> {
    storage: &'a dyn Storage,
    can: Can,
    plan: &'a Plan,
    number: u64,
    dice: Seed,
    stamps: Arc<AtomicU64>,
    /// Tids that any of the threads was told of.
    tids: &'a Mutex<Vec<Tid>>,
    log: Log,
    /// The revisions that this thread has seen, which it makes its changes to.
    seen: BTreeMap<Oid, Tid>,
    label: u64,
}

/// The version that some of the work is done in.
const VERSION: &str = "draft";

/// From here on, where there are packs, are the private objects: so many for each thread.
const PRIVATE: u64 = 1 << 20;
const PRIVATE_EACH: u64 = 1 << 12;

/// So often, in percent, a thread gives way to others between two calls.
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
        // Mostly a recent one.
        let recent = &known[known.len().saturating_sub(6)..];
        let tid = self.dice().pick(recent).copied().unwrap_or(Tid::ZERO);
        let newest_first = self.dice().chance(50);
        let question = match self.dice().roll(12) {
            0..2 => Question::Load { oid, version: String::new() },
            2..4 => Question::Load { oid, version: if self.can.versions { VERSION.to_owned() } else { String::new() } },
            4..6 => Question::LoadBefore { oid, before: if self.dice().chance(50) { tid.next() } else { Tid::MAX } },
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

    /// What a change is made to: what was seen last, or something older.
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
                let node = Node { counter: oid.0 % 2 == 1, number, ..Node::default() };
                Change::Store { oid, serial, node: Some(node), version }
            }
        }
    }

    fn packs(&self) -> bool {
        self.plan.packs > 0 && self.can.pack && self.storage.pack().is_some()
    }

    /// Where there are packs: all that they fight for, which the root knows from the beginning to the end.
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
            let told: Result<Vec<()>, _> = done.changes.iter().map(|change| tell(&mut draft, change)).collect();
            if told.is_ok()
                && let Some(voted) = self.vote(draft, &mut done)
            {
                self.finish(voted, &mut done);
            }
        }
        // Nobody undoes it.
        self.tids.lock().clear();
        self.log.transactions.push(done);
    }

    /// What a fought-for object refers to in any case.
    fn known(&self, oid: u64) -> Vec<Oid> {
        if oid == 0 { (1..self.plan.objects).map(Oid).collect() } else { Vec::new() }
    }

    /// The change, with what it takes so that packs make no difference to it but leave garbage: see the module.
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

    /// Packs to what was committed, now and then, as long as the others are at work.
    fn pack_now_and_then(&mut self, working: &AtomicU64) {
        let (storage, count) = (self.storage, if self.packs() { self.plan.packs } else { 0 });
        let Some(pack) = storage.pack() else { return };
        for n in 0..count {
            // Spread over what will be committed.
            let expected = self.plan.threads * self.plan.transactions / 3 * (n + 1) / (count + 1);
            let known = || self.tids.lock().clone();
            while working.load(Ordering::SeqCst) > 0 && (known().len() as u64) < expected {
                thread::yield_now();
            }
            let known = known();
            let recent = &known[known.len().saturating_sub(20)..];
            let Some(&to) = self.dice().pick(recent) else { continue };
            let collect = self.can.collect && self.dice().chance(70);
            let how = PackOptions { collect, go_on: false };
            let (packed, span) = self.call(|| pack.pack(to, how));
            let failed = match packed {
                Ok(PackReport { dangling }) if dangling.is_empty() => None,
                other => Some(format!("{other:?}")),
            };
            self.log.packs.push(Pack { to, collect, failed, span });
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
                // Nothing forbids to begin one.
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
                let (result, span) = self.call(|| tell(&mut draft, &change));
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
        done.touched = voted.touched();
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

    /// Votes, waiting or asking again.
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
                    done.votes.push((Came::Said(Outcome::Voted { resolved }), span));
                    return Some(voted);
                }
                Ok(Vote::Busy(waiting)) => {
                    done.votes.extend(waiting.busy().map(|what| (Came::Busy(what.clone()), span)));
                    (draft, tries) = (waiting.into_draft(), tries - 1);
                    self.read();
                }
                Err(error) => {
                    done.votes.push((Came::Said(outcome_of(error)), span));
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

fn tell(draft: &mut Draft, change: &Change) -> Result<(), Error> {
    match change {
        Change::Store { oid, serial, node, version } => {
            let data = node.as_ref().map(Node::encode).unwrap_or_default();
            draft.store_in(&named(version), *oid, *serial, data)
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
