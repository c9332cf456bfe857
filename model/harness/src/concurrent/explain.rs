//! Looks for an explanation of what was written down: see the module above.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use vellum_spec::{Database, How};
use vellum_storage::{Busy, Oid, Storage, Tid, Want};

use super::{Came, Done, Log, Pack, Read, Report, Span, Told};
use crate::expected;
use crate::hosted::answer;
use crate::node::Node;
use crate::question::{self, Answer, Question};
use crate::step::{Change, Outcome, Step};
use crate::subject::Can;
use crate::tick::Tick;
use crate::world::{Open, Stage, World};

/// What has no explanation, and when that was.
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) around: Option<Span>,
}

fn wrong(span: Span, what: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), around: Some(span) }
}

/// A finished transaction, and when it can have been shown first: after `from`, before `until`.
struct Commit<'a> {
    tid: Tid,
    done: &'a Done,
    /// When the listener was told of it.
    told: u64,
    /// It was shown later than this, and not later than that.
    from: u64,
    until: u64,
}

/// Something that was said, to be explained by one of the databases.
struct Said<'a> {
    span: Span,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Read(&'a Read),
    /// What came of all the changes, or of the last one as it was made.
    Transaction(&'a Done, &'a Outcome),
}

impl Log {
    /// Looks for an explanation.
    pub(super) fn explain(&self, storage: &dyn Storage, can: Can) -> Result<Report, Wrong> {
        let commits = self.commits()?;
        let states = states(&commits, can)?;
        self.one_holder(&states)?;
        self.new_oids()?;
        self.no_pack_failed()?;
        let mut databases = Databases { states: &states, packed: BTreeMap::new() };
        let mut report = self.in_time(can, &commits, &mut databases)?;
        self.in_the_end(storage, can, &mut databases, &mut report)?;
        Ok(report)
    }

    /// Those that were finished, in the order of their tids.
    fn commits(&self) -> Result<Vec<Commit<'_>>, Wrong> {
        let mut commits = Vec::new();
        for done in &self.transactions {
            let (Some(outcome), Some(span)) = (&done.finished, done.end) else { continue };
            let Outcome::Finished { tid } = *outcome else {
                return Err(wrong(span, format!("{done}\nwas voted, and then not finished: {outcome}")));
            };
            match &done.told[..] {
                [Told { oids, origin, stamp, .. }]
                    if span.start < *stamp && *stamp < span.end && *oids == done.touched && origin.0 == done.thread =>
                {
                    commits.push(Commit { tid, done, from: span.start, told: *stamp, until: *stamp });
                }
                told => return Err(wrong(span, format!("{done}\nthe listener was told {told:?}"))),
            }
        }
        commits.sort_by_key(|commit| commit.tid);
        for pair in commits.windows(2) {
            let [one, next] = pair else { continue };
            let text = |what: &str| format!("{}\nand\n{}\n{what}", one.done, next.done);
            let span = Span { start: one.from.min(next.from), end: one.until.max(next.until) };
            if one.tid == next.tid {
                return Err(wrong(span, text("have one tid")));
            }
            if one.told > next.told {
                return Err(wrong(span, text("were told to the listener in another order than that of their tids")));
            }
        }
        // In the order of the tids, each is shown after those before it: what is shown late makes the later ones late.
        let mut until = u64::MAX;
        for commit in commits.iter_mut().rev() {
            until = until.min(commit.until);
            commit.until = until;
            if commit.from >= until {
                let span = Span { start: until, end: commit.from };
                let text = format!("{}\nbegan after one with a later tid had returned", commit.done);
                return Err(wrong(span, text));
            }
        }
        let mut from = 0;
        for commit in &mut commits {
            from = from.max(commit.from);
            commit.from = from;
        }
        Ok(commits)
    }

    /// No object was with two that may not share it, and who was told that one is busy was so for a reason.
    fn one_holder(&self, states: &[Database]) -> Result<(), Wrong> {
        let wants: Vec<(Wants, &Done)> = self.transactions.iter().map(|done| (done.wants(states), done)).collect();
        // What each was certainly holding.
        let mut held: Vec<_> = wants.iter().filter_map(|(wants, done)| Some((done.held()?, wants, *done))).collect();
        held.sort_by_key(|(span, ..)| span.start);
        for (n, (span, wants, done)) in held.iter().enumerate() {
            for (other_span, other_wants, other) in
                held[n + 1..].iter().take_while(|(other, ..)| other.start < span.end)
            {
                if let Some(what) = wants.meet(other_wants) {
                    let span = Span { start: span.start.min(other_span.start), end: span.end.max(other_span.end) };
                    return Err(wrong(span, format!("{done}\nand\n{other}\nboth held {what} at one time")));
                }
            }
        }
        for (mine, done) in &wants {
            for (came, span) in &done.votes {
                let Came::Busy(what) = came else { continue };
                let holds = |(theirs, other): &(Wants, &Done)| {
                    !std::ptr::eq(*other, *done) && mine.may_meet(theirs, what) && other.may_hold(*span)
                };
                if !wants.iter().any(holds) {
                    return Err(wrong(*span, format!("{done}\nwas told that {what} is busy, which nobody held")));
                }
            }
        }
        Ok(())
    }

    /// There is nothing that could be a reason to refuse one.
    fn no_pack_failed(&self) -> Result<(), Wrong> {
        let failed = self.packs.iter().find_map(|pack| Some((pack.failed.as_ref()?, pack)));
        failed.map_or(Ok(()), |(what, pack)| Err(wrong(pack.span, format!("the pack to {}: {what}", Tick(pack.to)))))
    }

    /// The times to which it may be packed for somebody who asks at this time: if it has to be, the first of them; and what it
    /// may be packed to besides.
    fn packed_to(&self, span: Span) -> (Option<Tid>, Vec<Tid>) {
        let farthest = |done: &dyn Fn(&Pack) -> bool| self.packs.iter().filter(|p| done(p)).map(|pack| pack.to).max();
        let certain = farthest(&|pack| pack.span.end < span.start);
        let may = self.packs.iter().filter(|pack| pack.span.end > span.start && pack.span.start < span.end);
        (certain, may.map(|pack| pack.to).filter(|to| Some(*to) > certain).collect())
    }

    fn new_oids(&self) -> Result<(), Wrong> {
        let mut given = BTreeMap::new();
        for (oid, span) in &self.oids {
            if let Some(other) = given.insert(*oid, *span) {
                return Err(wrong(other, format!("{oid} was given out as new twice")));
            }
        }
        Ok(())
    }

    /// When all is over, the storage is what the commits make of an empty one; and the packs.
    fn in_the_end(
        &self,
        storage: &dyn Storage,
        can: Can,
        databases: &mut Databases<'_>,
        report: &mut Report,
    ) -> Result<(), Wrong> {
        let (alone, to) = (databases.alone(databases.states.len() - 1), self.packs.iter().map(|pack| pack.to).max());
        let last = databases.get(databases.states.len() - 1, to);
        let shared = alone.oids().into_iter().filter(|oid| *oid < super::PRIVATE).map(Oid).collect();
        let tids: BTreeSet<Tid> = alone.transactions.iter().map(|t| Tid(t.tid)).collect();
        let versions = if can.versions { [super::VERSION.to_owned()].into() } else { BTreeSet::new() };
        let mut questions = question::all(can, &shared, &versions, &tids);
        let private = alone.oids().into_iter().filter(|oid| *oid >= super::PRIVATE).map(Oid);
        if let Some(to) = to {
            // The theorem at the end of part 4 of the rules: what can be reached at any moment since.
            for moment in tids.iter().filter(|tid| **tid >= to) {
                for (oid, data) in alone.reachable(moment.0, &Node::references) {
                    let question = Question::LoadBefore { oid: Oid(oid), before: moment.next() };
                    let said = answer(storage, &question);
                    if !matches!(&said, Answer::Shown { data: found, .. } if found.0[..] == data[..]) {
                        let what =
                            format!("in the end, packed to {}, {question}, which can be reached: {said}", Tick(to));
                        return Err(Wrong { what, around: None });
                    }
                }
            }
            let gone =
                |oid: &Oid| matches!(answer(storage, &Question::History { oid: *oid, limit: 1 }), Answer::KeyError);
            report.collected = private.filter(gone).count() as u64;
            report.packs = self.packs.len() as u64;
        } else {
            for oid in private {
                questions.push(Question::Load { oid, version: String::new() });
                questions.push(Question::History { oid, limit: usize::MAX });
            }
        }
        for question in questions {
            let rules = leave_out(alone, to, expected::answer(&last, &question));
            let said = leave_out(alone, to, answer(storage, &question));
            if rules != said {
                let what = format!("in the end, {question}\n    the rules: {rules}\n    {}: {said}", storage.name());
                return Err(Wrong { what, around: None });
            }
        }
        Ok(())
    }

    /// One course of time for everything that was said: see the module.
    fn in_time(&self, can: Can, commits: &[Commit<'_>], databases: &mut Databases<'_>) -> Result<Report, Wrong> {
        let states = databases.states;
        let mut report = Report { finished: commits.len() as u64, reads: self.reads.len() as u64, ..Report::default() };
        for (n, commit) in commits.iter().enumerate() {
            let ended = |change: &Change| match change {
                Change::CommitVersion { from, .. } | Change::AbortVersion { from } => {
                    states[n].versions().contains(&from.as_str())
                }
                _ => false,
            };
            let undid = |change: &Change| matches!(change, Change::Undo { .. });
            report.undone += u64::from(commit.done.changes.iter().any(undid));
            report.ended += u64::from(commit.done.changes.iter().any(ended));
        }
        for pack in &self.packs {
            let raced = |commit: &&Commit<'_>| commit.from > pack.span.start && commit.from < pack.span.end;
            report.packs_raced += u64::from(commits.iter().any(|commit| raced(&commit)));
        }
        let mut said: Vec<Said<'_>> =
            self.reads.iter().map(|read| Said { span: read.span, kind: Kind::Read(read) }).collect();
        for done in &self.transactions {
            if let Some((outcome, span)) = &done.refused {
                said.push(Said { span: *span, kind: Kind::Transaction(done, outcome) });
            }
            for (came, span) in &done.votes {
                match came {
                    Came::Busy(_) => report.busy += 1,
                    Came::Said(outcome) => said.push(Said { span: *span, kind: Kind::Transaction(done, outcome) }),
                }
            }
        }
        report.calls = (said.len() + commits.len()) as u64 + report.busy;
        // Beginnings and ends, of what was said and of what must be seen from then on.
        let mut events: BTreeMap<u64, Event> = BTreeMap::new();
        for (n, said) in said.iter().enumerate() {
            events.insert(said.span.start, Event::Begins(n));
            events.insert(said.span.end, Event::Ends(n));
        }
        for commit in commits {
            events.insert(commit.told, Event::Told);
        }
        let mut shown = 0;
        let mut began: BTreeMap<usize, usize> = BTreeMap::new();
        for (stamp, event) in events {
            match event {
                Event::Told => shown = shown.max(commits.partition_point(|commit| commit.until <= stamp)),
                Event::Begins(n) => drop(began.insert(n, shown)),
                Event::Ends(n) => {
                    let first = began.remove(&n).unwrap_or(shown);
                    let last = commits.partition_point(|commit| commit.from < stamp);
                    let this = &said[n];
                    let (certain, may) = self.packed_to(this.span);
                    let possible = (first..=last).find_map(|count| {
                        let mut times = [certain].into_iter().chain(may.iter().copied().map(Some));
                        times.find(|to| this.is_right(databases, count, *to, can)).map(|to| (count, to))
                    });
                    let Some((count, to)) = possible else {
                        return Err(wrong(this.span, this.unexplained(can, first, last, databases, certain, &may)));
                    };
                    if to.is_some() && !this.is_right(databases, count, None, can) {
                        report.packed += 1;
                        let undoes = |change: &Change| matches!(change, Change::Undo { .. });
                        let undo = matches!(this.kind, Kind::Transaction(done, _) if done.changes.iter().any(undoes));
                        report.undos_forgotten += u64::from(undo);
                    }
                    shown = shown.max(count);
                    let raced = u64::from(last > first);
                    match this.kind {
                        Kind::Read(_) => report.raced += raced,
                        Kind::Transaction(_, outcome) => {
                            report.votes_raced += raced;
                            report.refused += u64::from(matches!(outcome, Outcome::Refused { .. }));
                            let merged = matches!(outcome, Outcome::Voted { resolved } if !resolved.is_empty());
                            report.merged += u64::from(merged);
                        }
                    }
                }
            }
        }
        Ok(report)
    }

    /// The calls that overlap a span, a few before them, and what they were.
    pub(super) fn around(&self, span: Option<Span>) -> Vec<String> {
        const BEFORE: u64 = 30;
        let Some(span) = span else { return Vec::new() };
        let near = |other: &Span| other.end + BEFORE > span.start && other.start < span.end;
        let mut lines: Vec<(u64, String)> = Vec::new();
        let mut add = |thread: u64, span: &Span, what: String| {
            if near(span) {
                let indent = "    ".repeat(thread as usize);
                lines.push((span.start, format!("{:>5}..{:<5} {indent}{thread}: {what}", span.start, span.end)));
            }
        };
        for read in &self.reads {
            add(read.thread, &read.span, format!("{}: {}", read.question, read.answer));
        }
        for Pack { to, collect, span, .. } in &self.packs {
            add(0, span, format!("pack to {}{}", Tick(*to), if *collect { ", collecting" } else { "" }));
        }
        for done in &self.transactions {
            if let Some((outcome, span)) = &done.refused {
                add(done.thread, span, format!("{} change: {outcome}", done.meta.user));
            }
            for (came, span) in &done.votes {
                let came = match came {
                    Came::Busy(what) => format!("busy: {what}"),
                    Came::Said(outcome) => outcome.to_string(),
                };
                add(done.thread, span, format!("{} vote: {came}", done.meta.user));
            }
            if let Some(span) = &done.end {
                let outcome = done.finished.as_ref().map_or("aborted".to_owned(), Outcome::to_string);
                add(done.thread, span, format!("{} {outcome}", done.meta.user));
            }
        }
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

#[derive(Clone, Copy)]
enum Event {
    /// A finish returned.
    Told,
    Begins(usize),
    Ends(usize),
}

/// The database before the first commit, and after each.
fn states(commits: &[Commit<'_>], can: Can) -> Result<Vec<Database>, Wrong> {
    let mut world = World::new(can);
    let mut states = vec![world.database.clone()];
    for Commit { tid, done, .. } in commits {
        world.open = done.open();
        let vote = Step::Vote { transaction: NAME, clock: *tid };
        let right = world.expect(&vote).unwrap_or_default();
        let said = done.votes.last().map(|(came, span)| (came.clone(), *span));
        let Some((Came::Said(outcome), span)) = said
            .filter(|(came, _)| matches!(came, Came::Said(outcome @ Outcome::Voted { .. }) if right.contains(outcome)))
        else {
            let span = done.end.unwrap_or(Span { start: 0, end: 0 });
            let (right, came) = (list(&right), done.votes.last().map(|(came, _)| format!("{came:?}")));
            let last = Tick(world.last());
            let text = format!(
                "{done}\nfinished as {}; on what was committed before that, up to {last}, the rules say of its vote: \
                 {right}; the storage said: {}",
                Tick(*tid),
                came.unwrap_or_default()
            );
            return Err(wrong(span, text));
        };
        world.follow(&vote, &outcome);
        world.follow(&Step::Finish { transaction: NAME }, &Outcome::Finished { tid: *tid });
        if states.last() == Some(&world.database) {
            return Err(wrong(span, format!("{done}\ncan not be done again")));
        }
        states.push(world.database.clone());
    }
    Ok(states)
}

fn list(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(Outcome::to_string).collect::<Vec<_>>().join(", or ")
}

/// What a transaction is called in a world in which it is alone.
const NAME: char = 'a';

/// The databases that there can have been.
struct Databases<'a> {
    /// What the commits alone make: before the first, and after each.
    states: &'a [Database],
    /// The same as packed to a time.
    packed: BTreeMap<(usize, Tid), Rc<Database>>,
}

impl<'a> Databases<'a> {
    fn alone(&self, count: usize) -> &'a Database {
        &self.states[count]
    }

    fn get(&mut self, count: usize, to: Option<Tid>) -> Rc<Database> {
        let alone = &self.states[count];
        let Some(to) = to else { return Rc::new(alone.clone()) };
        let packed = || {
            let how = How { go_on: true, ..How::default() };
            alone.pack(to.0, how, &Node::references).map_or_else(|_| alone.clone(), |packed| packed.database)
        };
        Rc::clone(self.packed.entry((count, to)).or_insert_with(|| Rc::new(packed())))
    }
}

/// Leaves out of an answer what depends on when a pack to this time took place: see the module.
fn leave_out(alone: &Database, packed_to: Option<Tid>, answer: Answer) -> Answer {
    let Some(to) = packed_to else { return answer };
    match answer {
        Answer::Transactions { mut transactions } => {
            transactions.retain(|transaction| transaction.tid > to);
            Answer::Transactions { transactions }
        }
        Answer::Invalidations { mut changed } => {
            changed.retain(|(tid, _)| *tid > to);
            Answer::Invalidations { changed }
        }
        Answer::CurrentRecords { mut records } => {
            let reached = alone.reachable(alone.last_transaction(), &Node::references);
            records.retain(|(oid, ..)| oid.0 < super::PRIVATE || reached.contains_key(&oid.0));
            Answer::CurrentRecords { records }
        }
        other => other,
    }
}

impl Said<'_> {
    fn is_right(&self, databases: &mut Databases<'_>, count: usize, to: Option<Tid>, can: Can) -> bool {
        let alone = databases.alone(count);
        let right = |database: &Database| match &self.kind {
            Kind::Read(read) => {
                let rules = expected::answer(database, &read.question);
                rules == read.answer || {
                    to.is_some() && leave_out(alone, to, rules) == leave_out(alone, to, read.answer.clone())
                }
            }
            Kind::Transaction(done, outcome) => done.right(database, can).contains(outcome),
        };
        match to {
            None => right(alone),
            // Who sees the pack sees what it was packed to.
            Some(to) => alone.last_transaction() >= to.0 && right(&databases.get(count, Some(to))),
        }
    }

    fn unexplained(
        &self,
        can: Can,
        first: usize,
        last: usize,
        databases: &mut Databases<'_>,
        certain: Option<Tid>,
        may: &[Tid],
    ) -> String {
        let mut text = match &self.kind {
            Kind::Read(read) => format!("thread {}, {}: {}", read.thread, read.question, read.answer),
            Kind::Transaction(done, outcome) => format!("{done}\nwas told: {outcome}"),
        };
        for count in first..=last {
            for to in [certain].into_iter().chain(may.iter().copied().map(Some)) {
                let state = databases.get(count, to);
                let rules = match &self.kind {
                    Kind::Read(read) => expected::answer(&state, &read.question).to_string(),
                    Kind::Transaction(done, _) => list(&done.right(&state, can)),
                };
                let last = Tick(Tid(databases.alone(count).last_transaction()));
                let packed = to.map_or(String::new(), |to| format!(", packed to {}", Tick(to)));
                text += &format!("\n    the rules, after {count} commits, up to {last}{packed}: {rules}");
            }
        }
        text
    }
}

impl Done {
    fn open(&self) -> BTreeMap<char, Open> {
        let open = Open { meta: self.meta.clone(), changes: self.changes.clone(), stage: Stage::Drafting };
        [(NAME, open)].into()
    }

    /// What the rules say of its changes on this database.
    fn right(&self, database: &Database, can: Can) -> Vec<Outcome> {
        let mut world = World::new(can);
        (world.database, world.open) = (database.clone(), self.open());
        world.expect(&Step::Vote { transaction: NAME, clock: Tid::ZERO }).unwrap_or_default()
    }

    /// The time in which it certainly held its objects.
    fn held(&self) -> Option<Span> {
        match (self.votes.last()?, self.end) {
            ((Came::Said(Outcome::Voted { .. }), vote), Some(end)) => Some(Span { start: vote.end, end: end.start }),
            _ => None,
        }
    }

    /// Whether it can have held its objects at a moment in this time: from the beginning of a vote to its end, and if it
    /// went well, to the end of finish or abort.
    fn may_hold(&self, span: Span) -> bool {
        self.votes.iter().any(|(came, vote)| {
            let end = match came {
                Came::Said(Outcome::Voted { .. }) => self.end.map_or(u64::MAX, |end| end.end),
                _ => vote.end,
            };
            vote.start < span.end && span.start < end
        })
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {}:", self.meta.user)?;
        let line = |change: &Change| Step::Change { transaction: NAME, change: change.clone() };
        self.changes.iter().try_for_each(|change| write!(f, " {};", line(change)))
    }
}

/// What a transaction wants between vote and finish: see [`vellum_storage::Wants`].
#[derive(Default)]
struct Wants {
    certain: vellum_storage::Wants,
    /// It ends a version: it wanted whatever objects were in there, when it was first asked to vote and later.
    any_object: bool,
    /// It undoes something, wherever that was.
    any_version: bool,
}

impl Done {
    fn wants(&self, states: &[Database]) -> Wants {
        let mut wants = Wants::default();
        let last = states.last();
        let transaction = |tid: Tid| last.and_then(|last| last.transactions.iter().find(|t| t.tid == tid.0));
        let certain = &mut wants.certain;
        let named = |version: &String| super::named(version);
        for change in &self.changes {
            if let Change::CheckCurrent { oid, .. } = change {
                certain.objects.insert(*oid, Want::Keep);
            }
        }
        for change in &self.changes {
            match change {
                Change::Store { oid, version, .. } => {
                    certain.objects.insert(*oid, Want::Change);
                    if !version.is_empty() {
                        certain.versions.entry(named(version)).or_insert(Want::Keep);
                    }
                }
                Change::Delete { oid, .. } => drop(certain.objects.insert(*oid, Want::Change)),
                Change::Undo { tid } => {
                    let undone = transaction(*tid).map(|t| t.oids()).unwrap_or_default();
                    certain.objects.extend(undone.into_iter().map(|oid| (Oid(oid), Want::Change)));
                    wants.any_version = true;
                }
                Change::CommitVersion { from, .. } | Change::AbortVersion { from } => {
                    certain.versions.insert(named(from), Want::Change);
                    if let Some(Outcome::Finished { tid }) = &self.finished {
                        let written = transaction(*tid).map(|t| t.oids()).unwrap_or_default();
                        certain.objects.extend(written.into_iter().map(|oid| (Oid(oid), Want::Change)));
                    }
                    wants.any_object = true;
                }
                _ => {}
            }
        }
        wants
    }
}

fn clash<K: Ord>(one: &BTreeMap<K, Want>, other: &BTreeMap<K, Want>, key: &K) -> bool {
    matches!((one.get(key), other.get(key)), (Some(one), Some(other)) if [one, other].contains(&&Want::Change))
}

impl Wants {
    /// Something that they can not both have.
    fn meet(&self, other: &Wants) -> Option<Busy> {
        let (one, other) = (&self.certain, &other.certain);
        let object = one.objects.keys().find(|oid| clash(&one.objects, &other.objects, oid));
        let version = || one.versions.keys().find(|version| clash(&one.versions, &other.versions, version));
        object.map(|oid| Busy::Object(*oid)).or_else(|| version().map(|version| Busy::Version(version.clone())))
    }

    /// Whether they may both have wanted this, and not together.
    fn may_meet(&self, other: &Wants, what: &Busy) -> bool {
        let (one, theirs) = (&self.certain, &other.certain);
        match what {
            Busy::Object(_) if self.any_object && other.any_object => true,
            Busy::Object(oid) if self.any_object => theirs.objects.contains_key(oid),
            Busy::Object(oid) if other.any_object => one.objects.contains_key(oid),
            Busy::Object(oid) => clash(&one.objects, &theirs.objects, oid),
            Busy::Everything => false,
            Busy::Version(version) => {
                let wants = |wants: &Wants| wants.any_version || wants.certain.versions.contains_key(version);
                let ends = |wants: &Wants| wants.certain.versions.get(version) == Some(&Want::Change);
                wants(self) && wants(other) && (ends(self) || ends(other))
            }
        }
    }
}
