//! The explanation of a run's answers: see the module above.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use vellum_spec::{Database, How};
use vellum_storage::{Oid, Storage, Tid};

use super::holders;
use super::log::{Done, Log, NAME, Pack, Read, Told, VoteResult};
use super::report::Report;
use crate::expected;
use crate::hosted::answer;
use crate::linearize::{Explanation, Object, Recorded, Shown, Span, Unexplained, Writes, linearize};
use crate::node::Node;
use crate::question::{self, Answer, Question};
use crate::step::{Change, Outcome, Step};
use crate::subject::Can;
use crate::tick::Tick;
use crate::world::{Open, Stage, World};

/// A fault, and when it was.
pub(super) struct Wrong {
    pub what: String,
    pub around: Option<Span>,
}

pub(super) fn wrong(span: Span, what: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), around: Some(span) }
}

/// Looks for an explanation of all calls, and counts what happened.
pub(super) fn explain(log: &Log, storage: &dyn Storage, can: Can) -> Result<Report, Wrong> {
    let commits = commits(log)?;
    let writes = writes(&commits)?;
    let states = states(&commits, can)?;
    holders::check(log, &states)?;
    new_oids(log)?;
    no_pack_failed(log)?;
    let calls = calls(log);
    let mut databases = Databases { can, states: &states, packed: BTreeMap::new() };
    let explained = match linearize(&mut databases, &writes, &calls) {
        Ok(explained) => explained,
        Err(unexplained) => return Err(databases.fault(unexplained, &calls)),
    };
    let collected = in_the_end(log, storage, &mut databases)?;
    let report = count(log, &commits, &mut databases, &calls, &explained);
    Ok(Report { collected, ..report })
}

/// A finished transaction.
struct Commit<'a> {
    tid: Tid,
    done: &'a Done,
    /// From the call of `finish` until the listener was told: in this time it was shown first.
    shown: Span,
}

/// The finished transactions, in the order of their tids.
fn commits(log: &Log) -> Result<Vec<Commit<'_>>, Wrong> {
    let mut commits = Vec::new();
    for done in &log.transactions {
        let (Some(outcome), Some(span)) = (&done.finished, done.end) else { continue };
        let Outcome::Finished { tid } = *outcome else {
            return Err(wrong(span, format!("{done}\nwas voted, and then not finished: {outcome}")));
        };
        match &done.told[..] {
            [Told { oids, origin, stamp, .. }]
                if span.start < *stamp && *stamp < span.end && *oids == done.touched && origin.0 == done.thread =>
            {
                commits.push(Commit { tid, done, shown: Span { start: span.start, end: *stamp } });
            }
            told => return Err(wrong(span, format!("{done}\nthe listener was told {told:?}"))),
        }
    }
    commits.sort_by_key(|commit| commit.tid);
    for pair in commits.windows(2) {
        let [one, next] = pair else { continue };
        let text = |what: &str| format!("{}\nand\n{}\n{what}", one.done, next.done);
        let span = one.shown.hull(next.shown);
        if one.tid == next.tid {
            return Err(wrong(span, text("have one tid")));
        }
        if one.shown.end > next.shown.end {
            return Err(wrong(span, text("were told to the listener in another order than that of their tids")));
        }
    }
    Ok(commits)
}

/// When each commit was shown.
fn writes(commits: &[Commit<'_>]) -> Result<Writes, Wrong> {
    let shown = commits.iter().map(|commit| Shown { from: commit.shown.start, until: commit.shown.end });
    Writes::in_order(shown).map_err(|late| {
        let span = Span { start: late.until, end: late.from };
        wrong(span, format!("{}\nbegan after one with a later tid had returned", commits[late.write].done))
    })
}

/// The database before the first commit, and after each.
fn states(commits: &[Commit<'_>], can: Can) -> Result<Vec<Database>, Wrong> {
    let mut world = World::new(can);
    let mut states = vec![world.database.clone()];
    for Commit { tid, done, .. } in commits {
        world.open = open(done);
        let vote = Step::Vote { transaction: NAME, clock: *tid };
        let right = world.expect(&vote).unwrap_or_default();
        let said = done.votes.last().map(|(came, span)| (came.clone(), *span));
        let Some((VoteResult::Said(outcome), span)) = said.filter(
            |(came, _)| matches!(came, VoteResult::Said(outcome @ Outcome::Voted { .. }) if right.contains(outcome)),
        ) else {
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
            return Err(wrong(span, format!("{done}\ncannot be done again")));
        }
        states.push(world.database.clone());
    }
    Ok(states)
}

fn list(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(Outcome::to_string).collect::<Vec<_>>().join(", or ")
}

/// The transaction as the only open one of a world.
fn open(done: &Done) -> BTreeMap<char, Open> {
    let open = Open { meta: done.meta.clone(), changes: done.changes.clone(), stage: Stage::Drafting };
    [(NAME, open)].into()
}

/// The right outcomes of a transaction's changes on this database.
fn right(done: &Done, database: &Database, can: Can) -> Vec<Outcome> {
    let mut world = World::new(can);
    (world.database, world.open) = (database.clone(), open(done));
    world.expect(&Step::Vote { transaction: NAME, clock: Tid::ZERO }).unwrap_or_default()
}

fn new_oids(log: &Log) -> Result<(), Wrong> {
    let mut given = BTreeMap::new();
    for (oid, span) in &log.oids {
        if let Some(other) = given.insert(*oid, *span) {
            return Err(wrong(other, format!("{oid} was given out as new twice")));
        }
    }
    Ok(())
}

/// Every reference leads to an object, so no pack has a reason to be refused.
fn no_pack_failed(log: &Log) -> Result<(), Wrong> {
    let failed = log.packs.iter().find_map(|pack| Some((pack.failed.as_ref()?, pack)));
    failed.map_or(Ok(()), |(what, pack)| Err(wrong(pack.span, format!("the pack to {}: {what}", Tick(pack.to)))))
}

/// An answer that one of the databases must explain.
struct Said<'a> {
    kind: Kind<'a>,
    /// The times to which the storage may have been packed. The first is that of the packs that had certainly returned.
    packed_to: Vec<Option<Tid>>,
}

enum Kind<'a> {
    Read(&'a Read),
    /// The outcome of a vote on all the changes, or the refusal of the last one at once.
    Transaction(&'a Done, &'a Outcome),
}

/// All answers that need an explanation.
fn calls(log: &Log) -> Vec<Recorded<Said<'_>>> {
    let said = |span, kind| Recorded { span, call: Said { kind, packed_to: packed_to(log, span) } };
    let mut calls: Vec<_> = log.reads.iter().map(|read| said(read.span, Kind::Read(read))).collect();
    for done in &log.transactions {
        if let Some((outcome, span)) = &done.refused {
            calls.push(said(*span, Kind::Transaction(done, outcome)));
        }
        for (result, span) in &done.votes {
            if let VoteResult::Said(outcome) = result {
                calls.push(said(*span, Kind::Transaction(done, outcome)));
            }
        }
    }
    calls
}

/// The times to which a storage may be packed during a call: see [`Said::packed_to`].
fn packed_to(log: &Log, span: Span) -> Vec<Option<Tid>> {
    let packs = &log.packs;
    let certain = packs.iter().filter(|pack| pack.span.end < span.start).map(|pack| pack.to).max();
    let meanwhile = packs.iter().filter(|pack| pack.span.end > span.start && pack.span.start < span.end);
    let finished = || {
        log.transactions.iter().filter_map(|done| match done.finished {
            Some(Outcome::Finished { tid }) => Some(tid),
            _ => None,
        })
    };
    // Rule 4.11: it moves on from one transaction to the next.
    let on_the_way = |pack: &Pack| {
        let (to, by_counts) = (pack.to, pack.by_counts);
        finished().filter(move |tid| by_counts && *tid < to).chain([to]).map(Some).collect::<Vec<_>>()
    };
    let may = meanwhile.flat_map(on_the_way).filter(|to| *to > certain);
    [certain].into_iter().chain(may).collect()
}

/// The possible databases: the object whose answers are explained.
struct Databases<'a> {
    can: Can,
    /// The states that the commits alone give: before the first, and after each.
    states: &'a [Database],
    /// The same, packed to a time.
    packed: BTreeMap<(usize, Tid), Rc<Database>>,
}

impl<'a> Object for Databases<'a> {
    type Call = Said<'a>;
    /// The time to which the database is packed.
    type How = Option<Tid>;

    fn explain(&mut self, said: &Said<'a>, count: usize) -> Option<Option<Tid>> {
        said.packed_to.iter().copied().find(|to| self.is_right(&said.kind, count, *to))
    }
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

    /// Whether the database after `count` commits, packed to this time, gives the answer.
    fn is_right(&mut self, said: &Kind<'_>, count: usize, to: Option<Tid>) -> bool {
        let (can, alone) = (self.can, self.alone(count));
        let gives = |database: &Database| match said {
            Kind::Read(read) => {
                let rules = expected::answer(database, &read.question);
                rules == read.answer || {
                    to.is_some() && leave_out(alone, to, rules) == leave_out(alone, to, read.answer.clone())
                }
            }
            Kind::Transaction(done, outcome) => right(done, database, can).contains(outcome),
        };
        match to {
            None => gives(alone),
            // A call that sees the pack also sees the commits up to the pack's time.
            Some(to) => alone.last_transaction() >= to.0 && gives(&self.get(count, Some(to))),
        }
    }

    /// The answer, and what it should have been in each possible database.
    fn fault(&mut self, Unexplained { call, first, last }: Unexplained, calls: &[Recorded<Said<'_>>]) -> Wrong {
        let Recorded { span, call: Said { kind, packed_to } } = &calls[call];
        let mut text = match kind {
            Kind::Read(read) => format!("thread {}, {}: {}", read.thread, read.question, read.answer),
            Kind::Transaction(done, outcome) => format!("{done}\nwas told: {outcome}"),
        };
        for count in first..=last {
            for to in packed_to {
                let state = self.get(count, *to);
                let rules = match kind {
                    Kind::Read(read) => expected::answer(&state, &read.question).to_string(),
                    Kind::Transaction(done, _) => list(&right(done, &state, self.can)),
                };
                let last = Tick(Tid(self.alone(count).last_transaction()));
                let packed = to.map_or(String::new(), |to| format!(", packed to {}", Tick(to)));
                text += &format!("\n    the rules, after {count} commits, up to {last}{packed}: {rules}");
            }
        }
        wrong(*span, text)
    }
}

/// Leaves out of an answer what depends on the place of a pack to this time: see the module above.
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

/// When all threads are done, the storage holds what the commits and packs make of an empty one. Returns the number of
/// private objects that packs collected.
fn in_the_end(log: &Log, storage: &dyn Storage, databases: &mut Databases<'_>) -> Result<u64, Wrong> {
    let (can, count) = (databases.can, databases.states.len() - 1);
    let to = log.packs.iter().map(|pack| pack.to).max();
    let (alone, last) = (databases.alone(count), databases.get(count, to));
    let shared = alone.oids().into_iter().filter(|oid| *oid < super::PRIVATE).map(Oid).collect();
    let tids: BTreeSet<Tid> = alone.transactions.iter().map(|t| Tid(t.tid)).collect();
    let versions = if can.versions { [super::VERSION.to_owned()].into() } else { BTreeSet::new() };
    let mut questions = question::all(can, &shared, &versions, &tids);
    let private = alone.oids().into_iter().filter(|oid| *oid >= super::PRIVATE).map(Oid);
    let mut collected = 0;
    if let Some(to) = to {
        // The theorem at the end of part 4 of the rules: all that can be reached at any moment since the pack.
        for moment in tids.iter().filter(|tid| **tid >= to) {
            for (oid, data) in alone.reachable(moment.0, &Node::references) {
                let question = Question::LoadBefore { oid: Oid(oid), before: moment.next() };
                let said = answer(storage, &question);
                if !matches!(&said, Answer::Shown { data: found, .. } if found.0[..] == data[..]) {
                    let what = format!("in the end, packed to {}, {question}, which can be reached: {said}", Tick(to));
                    return Err(Wrong { what, around: None });
                }
            }
        }
        let gone = |oid: &Oid| matches!(answer(storage, &Question::History { oid: *oid, limit: 1 }), Answer::KeyError);
        collected = private.filter(gone).count() as u64;
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
    Ok(collected)
}

/// How often each event happened.
fn count(
    log: &Log,
    commits: &[Commit<'_>],
    databases: &mut Databases<'_>,
    calls: &[Recorded<Said<'_>>],
    explained: &[Explanation<Option<Tid>>],
) -> Report {
    let votes = log.transactions.iter().flat_map(|done| &done.votes);
    let busy = votes.filter(|(result, _)| matches!(result, VoteResult::Busy(_))).count() as u64;
    let mut report = Report {
        calls: (calls.len() + commits.len()) as u64 + busy,
        reads: log.reads.len() as u64,
        finished: commits.len() as u64,
        busy,
        packs: log.packs.len() as u64,
        ..Report::default()
    };
    let undoes = |change: &Change| matches!(change, Change::Undo { .. });
    for (n, commit) in commits.iter().enumerate() {
        let versions = databases.alone(n).versions();
        let ends = |change: &Change| match change {
            Change::CommitVersion { from, .. } | Change::AbortVersion { from } => versions.contains(&from.as_str()),
            _ => false,
        };
        report.undone += u64::from(commit.done.changes.iter().any(undoes));
        report.ended += u64::from(commit.done.changes.iter().any(ends));
    }
    for Pack { span, .. } in &log.packs {
        let raced = |commit: &Commit<'_>| commit.shown.start > span.start && commit.shown.start < span.end;
        report.packs_raced += u64::from(commits.iter().any(raced));
    }
    for (Recorded { call, .. }, explanation) in calls.iter().zip(explained) {
        let by_pack = explanation.how.is_some() && !databases.is_right(&call.kind, explanation.count, None);
        let raced = u64::from(explanation.raced);
        report.packed += u64::from(by_pack);
        match call.kind {
            Kind::Read(_) => report.raced += raced,
            Kind::Transaction(done, outcome) => {
                report.votes_raced += raced;
                report.undos_forgotten += u64::from(by_pack && done.changes.iter().any(undoes));
                report.refused += u64::from(matches!(outcome, Outcome::Refused { .. }));
                report.merged += u64::from(matches!(outcome, Outcome::Voted { resolved } if !resolved.is_empty()));
            }
        }
    }
    report
}
