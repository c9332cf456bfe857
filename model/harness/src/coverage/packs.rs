//! The corners that a pack reaches: part 4 of the rules.

use std::collections::BTreeSet;

use vellum_spec::{Content, Database, How, Transaction};
use vellum_storage::Tid;

use super::{Conditions, Corner::*};
use crate::node::Node;
use crate::step::{Outcome, Step};
use crate::world::{Stage, World};

/// `step` packed `before` to the time `to`, which made `after` of it.
pub(super) fn corners(before: &World, step: &Step, to: Tid, collect: bool, after: &Database) -> Conditions {
    let dangling = match before.expect(step).as_deref() {
        Some([Outcome::Packed { dangling: Some(dangling) }, ..]) => !dangling.is_empty(),
        _ => false,
    };
    let voted = before.open.values().any(|open| open.stage != Stage::Drafting);
    let mut conditions = packed(&before.database, to.0, collect, dangling, after);
    conditions.push((voted, PackUnderWay));
    conditions
}

fn packed(before: &Database, to: u64, collect: bool, dangling: bool, after: &Database) -> Conditions {
    let early = |t: &&Transaction| t.tid <= to;
    let last = before.transactions.iter().rfind(early).map_or(0, |t| t.tid);
    let again = last > 0 && last == before.packed_to();
    if to < before.packed_to() || (again && before == after) {
        return vec![(true, PackAgain)];
    }
    let later = before.transactions.iter().any(|t| t.tid > to);
    let left: BTreeSet<u64> = after.transactions.iter().map(|t| t.tid).collect();
    let revisions = before.transactions.iter().filter(early).flat_map(|t| &t.revisions).count();
    let mut conditions = vec![
        (again, PackCollectsLater),
        (after.transactions.last().is_some_and(|t| t.tid <= to && t.revisions.is_empty()), PackLastStays),
        (later, PackKeepsLater),
        (before.transactions.iter().filter(early).any(|t| !left.contains(&t.tid)), PackTransactionGoes),
        (dangling && later, PackDanglingLater),
        (dangling && !later, PackGoOn),
        (revisions > left.len(), PackForgets),
    ];
    if collect {
        conditions.extend(collected(before, after));
    }
    conditions.extend(kept(before, to, collect, after));
    conditions
}

/// A pack by counts to the time `to` made `after` of `before`.
pub(super) fn corners_of_counts(before: &Database, to: Tid, after: &Database) -> Conditions {
    let gone: Vec<u64> = before.oids().difference(&after.oids()).copied().collect();
    let references =
        |oid: &u64| before.newest(*oid).and_then(|at| before.data(at)).map(Node::references).unwrap_or_default();
    let collected = after.pack(to.0, How { collect: true, go_on: true, ..How::default() }, &Node::references);
    let is_less = collected.is_ok_and(|collected| collected.database.oids().len() < after.oids().len());
    let revisions = |oid: u64| after.transactions.iter().filter(|t| t.revisions.iter().any(|r| r.oid == oid)).count();
    let had = |oid: u64| before.transactions.iter().filter(|t| t.revisions.iter().any(|r| r.oid == oid)).count();
    vec![
        (!gone.is_empty(), CountsObject),
        (gone.iter().any(|oid| references(oid).iter().any(|to| gone.contains(to))), CountsCascade),
        (is_less, CountsCycle),
        (after.oids().into_iter().any(|oid| revisions(oid) < had(oid)), CountsForgets),
    ]
}

/// The objects that a collecting pack discarded.
fn collected(before: &Database, after: &Database) -> Conditions {
    let gone: Vec<u64> = before.oids().difference(&after.oids()).copied().collect();
    let references =
        |oid: u64| before.newest(oid).and_then(|at| before.data(at)).map(Node::references).unwrap_or_default();
    let in_cycle = |&oid: &u64| references(oid).iter().any(|to| gone.contains(to) && references(*to).contains(&oid));
    let weakly: BTreeSet<u64> = after.current_records().values().flat_map(|(data, _)| weak(data)).collect();
    vec![
        (!gone.is_empty(), PackCollects),
        (gone.iter().any(in_cycle), PackCollectsCycle),
        (gone.iter().any(|oid| weakly.contains(oid)), PackWeak),
    ]
}

/// For each revision that the pack kept at or before its time.
fn kept(before: &Database, to: u64, collect: bool, after: &Database) -> Conditions {
    let reached = after.reachable(to, &Node::references);
    let later = || after.transactions.iter().filter(|t| t.tid > to).flat_map(|t| &t.revisions);
    let mut conditions = Vec::new();
    for transaction in after.transactions.iter().filter(|t| t.tid <= to) {
        for revision in &transaction.revisions {
            let (oid, tid) = (revision.oid, transaction.tid);
            let shared = before.at(oid, tid).is_some_and(|at| matches!(at.revision.content, Content::Source(_)));
            let newest = before.past(oid).into_iter().find(|at| at.tid() <= to);
            let newest_trunk = newest.and_then(|at| at.revision.base.or(Some(at.tid())));
            let is_newest = newest.map(|at| at.tid()) == Some(tid);
            let is_old = !is_newest && newest_trunk != Some(tid);
            let is_source = later().any(|r| r.oid == oid && r.content == Content::Source(tid));
            let is_base = later().any(|r| r.oid == oid && r.base == Some(tid));
            conditions.extend([
                (shared, PackOwnData),
                (revision.base.is_some(), PackVersions),
                (is_newest && revision.content == Content::Tombstone, PackTombstone),
                (is_old && is_source, PackSource),
                (is_old && is_base, PackBase),
                (is_old, PackForgets),
                (collect && is_newest && !reached.contains_key(&oid), PackKeepsByLater),
            ]);
        }
    }
    conditions
}

fn weak(data: &[u8]) -> Vec<u64> {
    Node::decode(data).map(|node| node.weak.iter().map(|oid| oid.0).collect()).unwrap_or_default()
}
