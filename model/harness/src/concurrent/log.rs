//! The record of a run: every call, its answer, and when.

use std::fmt;

use vellum_storage::{Busy, Oid, Origin, Tid};

use crate::linearize::Span;
use crate::question::{Answer, Question};
use crate::step::{Change, Meta, Outcome, Step};
use crate::tick::Tick;

/// All calls of a run.
#[derive(Default)]
pub(super) struct Log {
    pub reads: Vec<Read>,
    pub transactions: Vec<Done>,
    /// New oids, and when they were given out.
    pub oids: Vec<(Oid, Span)>,
    pub packs: Vec<Pack>,
}

/// A read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub thread: u64,
    pub question: Question,
    pub answer: Answer,
    pub span: Span,
}

/// A pack.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub to: Tid,
    pub collect: bool,
    pub by_counts: bool,
    /// The error, or the references that it reported: neither should be.
    pub failed: Option<String>,
    pub span: Span,
}

/// A transaction, as far as it got.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub thread: u64,
    pub meta: Meta,
    pub changes: Vec<Change>,
    /// The refusal of the last change at once, and when that was.
    pub refused: Option<(Outcome, Span)>,
    /// Each vote; all but the last found something busy.
    pub votes: Vec<(VoteResult, Span)>,
    /// The finish or the abort, with which it releases its objects.
    pub end: Option<Span>,
    /// The objects that it was to write, as its vote said.
    pub touched: Vec<Oid>,
    /// Each time that the listener was told of its commit. There should be one.
    pub told: Vec<Told>,
    /// The answer of the finish.
    pub finished: Option<Outcome>,
}

/// A commit that the listener was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub tid: Tid,
    pub oids: Vec<Oid>,
    pub origin: Origin,
    pub stamp: u64,
}

/// The answer of a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VoteResult {
    /// The vote is over.
    Said(Outcome),
    /// Another transaction holds this.
    Busy(Busy),
}

impl Done {
    pub fn new(thread: u64, meta: &Meta) -> Done {
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

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {}:", self.meta.user)?;
        let line = |change: &Change| Step::Change { transaction: NAME, change: change.clone() };
        self.changes.iter().try_for_each(|change| write!(f, " {};", line(change)))
    }
}

/// The name of a transaction in a world in which it is alone.
pub(super) const NAME: char = 'a';

impl Log {
    /// The calls of several threads.
    pub fn of(threads: Vec<Log>) -> Log {
        let mut all = Log::default();
        for Log { reads, transactions, oids, packs } in threads {
            all.reads.extend(reads);
            all.transactions.extend(transactions);
            all.oids.extend(oids);
            all.packs.extend(packs);
        }
        all
    }

    /// The calls that overlap a span, and a few before them, as text in the order in which they began.
    pub fn around(&self, span: Option<Span>) -> Vec<String> {
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
        for Pack { to, collect, by_counts, span, .. } in &self.packs {
            add(0, span, {
                let how = if *collect { ", collecting" } else { "" };
                let how = if *by_counts { ", by counts" } else { how };
                format!("pack to {}{how}", Tick(*to))
            });
        }
        for done in &self.transactions {
            if let Some((outcome, span)) = &done.refused {
                add(done.thread, span, format!("{} change: {outcome}", done.meta.user));
            }
            for (result, span) in &done.votes {
                let result = match result {
                    VoteResult::Busy(what) => format!("busy: {what}"),
                    VoteResult::Said(outcome) => outcome.to_string(),
                };
                add(done.thread, span, format!("{} vote: {result}", done.meta.user));
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
