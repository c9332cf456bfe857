//! Whether transactions held their objects between vote and finish as the rules say (rule 3.0).
//!
//! The judgement is independent of the engine's locks: it knows from the changes what each transaction needed, and from
//! the recorded calls when the transaction certainly held it, or may have held it.

use std::collections::BTreeMap;

use vellum_spec::Database;
use vellum_storage::{Busy, Oid, Tid, Want};

use super::explain::{Wrong, wrong};
use super::log::{Done, Log, VoteResult};
use crate::linearize::Span;
use crate::step::{Change, Outcome};

/// No two transactions held what only one may hold, and a transaction that was told that something is busy was told so
/// for a reason.
pub(super) fn check(log: &Log, states: &[Database]) -> Result<(), Wrong> {
    let wants: Vec<(Wants, &Done)> = log.transactions.iter().map(|done| (wants(done, states), done)).collect();
    // The time in which each certainly held its objects.
    let mut held: Vec<_> = wants.iter().filter_map(|(wants, done)| Some((held(done)?, wants, *done))).collect();
    held.sort_by_key(|(span, ..)| span.start);
    for (n, (span, wants, done)) in held.iter().enumerate() {
        for (other_span, other_wants, other) in held[n + 1..].iter().take_while(|(other, ..)| other.start < span.end) {
            if let Some(what) = wants.meet(other_wants) {
                return Err(wrong(
                    span.hull(*other_span),
                    format!("{done}\nand\n{other}\nboth held {what} at one time"),
                ));
            }
        }
    }
    // Rule 3.0: a storage may let all others wait for a transaction, whatever they want.
    let mut votes = log.transactions.iter().flat_map(|done| &done.votes);
    let is_one_at_a_time =
        !votes.any(|(result, _)| matches!(result, VoteResult::Busy(what) if *what != Busy::Everything));
    for (mine, done) in &wants {
        for (result, span) in &done.votes {
            let VoteResult::Busy(what) = result else { continue };
            let holds = |(theirs, other): &(Wants, &Done)| {
                let meets = is_one_at_a_time || mine.may_meet(theirs, what);
                !std::ptr::eq(*other, *done) && meets && may_hold(other, *span)
            };
            if !wants.iter().any(holds) {
                return Err(wrong(*span, format!("{done}\nwas told that {what} is busy, which nobody held")));
            }
        }
    }
    Ok(())
}

/// The time in which a transaction certainly held its objects.
fn held(done: &Done) -> Option<Span> {
    match (done.votes.last()?, done.end) {
        ((VoteResult::Said(Outcome::Voted { .. }), vote), Some(end)) => Some(Span { start: vote.end, end: end.start }),
        _ => None,
    }
}

/// Whether a transaction may have held its objects at a moment in this time: from the beginning of a vote to its end
/// or, if the vote succeeded, to the end of finish or abort.
fn may_hold(done: &Done, span: Span) -> bool {
    done.votes.iter().any(|(result, vote)| {
        let end = match result {
            VoteResult::Said(Outcome::Voted { .. }) => done.end.map_or(u64::MAX, |end| end.end),
            _ => vote.end,
        };
        vote.start < span.end && span.start < end
    })
}

/// The locks of a transaction between vote and finish: see [`vellum_storage::Wants`].
#[derive(Default)]
struct Wants {
    certain: vellum_storage::Wants,
    /// It ends a version: it wanted whatever objects were in there, when it was first asked to vote and later.
    any_object: bool,
    /// It undoes something, wherever that was.
    any_version: bool,
}

fn wants(done: &Done, states: &[Database]) -> Wants {
    let mut wants = Wants::default();
    let last = states.last();
    let transaction = |tid: Tid| last.and_then(|last| last.transactions.iter().find(|t| t.tid == tid.0));
    let certain = &mut wants.certain;
    let named = |version: &String| super::named(version);
    for change in &done.changes {
        if let Change::CheckCurrent { oid, .. } = change {
            certain.objects.insert(*oid, Want::Keep);
        }
    }
    for change in &done.changes {
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
                if let Some(Outcome::Finished { tid }) = &done.finished {
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

fn clash<K: Ord>(one: &BTreeMap<K, Want>, other: &BTreeMap<K, Want>, key: &K) -> bool {
    matches!((one.get(key), other.get(key)), (Some(one), Some(other)) if [one, other].contains(&&Want::Change))
}

impl Wants {
    /// A lock that they cannot both have.
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
