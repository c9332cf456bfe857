//! The corners of a history-free database: rule 4.12.

use std::collections::BTreeSet;

use vellum_spec::{Database, Status};
use vellum_storage::Tid;

use super::{Conditions, Corner::*};
use crate::step::{Change, Name, Outcome, Step};
use crate::subject::Can;
use crate::world::World;

/// `step` made `after` of `before`.
pub(super) fn corners(before: &World, step: &Step, outcome: &Outcome, after: &World) -> Conditions {
    match (step, outcome) {
        _ if before.can().forgets.is_none() => Vec::new(),
        (Step::Finish { transaction }, Outcome::Finished { tid }) => finished(before, *transaction, *tid, after),
        (Step::Pack { to, collect: true, .. }, Outcome::Packed { .. }) => {
            let is_earlier = to.0 < before.database.packed_to();
            vec![(is_earlier && before.database != after.database, ForgetsPackedEarlier)]
        }
        _ => Vec::new(),
    }
}

fn finished(before: &World, name: Name, tid: Tid, after: &World) -> Conditions {
    let mut all = before.under(Can { forgets: None, ..before.can() });
    all.follow(&Step::Finish { transaction: name }, &Outcome::Finished { tid });
    let (left, all) = (&after.database, &all.database);
    let gone: BTreeSet<_> = revisions(all).difference(&revisions(left)).copied().collect();
    let own = all.transactions.last().map(|last| last.oids()).unwrap_or_default();
    let is_packed = left.packed_to() == tid.0;
    let then = tid.earlier_by(std::time::Duration::from_secs(before.can().forgets.unwrap_or_default()));
    let is_due = left.transactions.iter().any(|t| t.status == Status::Complete && t.tid <= then.0);
    let base = |oid: &u64| left.newest(*oid).and_then(|at| at.revision.base);
    let is_older = |(oid, at): &(u64, u64)| own.contains(oid) && *at < tid.0 && base(oid) != Some(*at);
    let is_there = |tid: u64| left.transactions.iter().any(|t| t.tid == tid);
    let copied = before.open.get(&name).is_some_and(|open| {
        open.changes.iter().any(|change| match change {
            Change::Restore { oid, source: Some(source), .. } => {
                before.database.at(oid.0, source.0).is_some() && !before.database.lasts(oid.0, source.0)
            }
            _ => false,
        })
    });
    vec![
        (is_packed && gone.iter().any(|(oid, _)| own.contains(oid)), ForgetsAtOnce),
        (gone.iter().any(|(oid, _)| !own.contains(oid)), ForgetsLater),
        (!gone.is_empty() && is_due, ForgetsSome),
        (revisions(left).iter().any(is_older), ForgetsForReaders),
        (is_packed && own.iter().any(|oid| base(oid).is_some_and(|base| left.at(*oid, base).is_some())), ForgetsBase),
        (all.transactions.iter().any(|t| !t.revisions.is_empty() && !is_there(t.tid)), ForgetsTransaction),
        (copied, ForgetsCopied),
    ]
}

fn revisions(database: &Database) -> BTreeSet<(u64, u64)> {
    database.transactions.iter().flat_map(|t| t.revisions.iter().map(|revision| (revision.oid, t.tid))).collect()
}
