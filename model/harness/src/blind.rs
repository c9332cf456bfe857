//! The blind spots of a generator: each operation with each kind of argument, in each kind of state.
//!
//! The corners of [`coverage`](crate::coverage) are those that their author thought of. Here no author has to: the
//! kinds of arguments and the kinds of states of an operation are two short lists, and all pairs are counted. A pair
//! that a run never had is a blind spot, unless it is in `IMPOSSIBLE`, with the rule that says so.

use std::collections::BTreeMap;
use std::fmt;

use vellum_spec::{Content, Status};
use vellum_storage::{Oid, Tid};

use crate::node::{Beside, Node};
use crate::step::{Change, Meta, Name, Step};
use crate::world::{Stage, World};

/// A kind of argument, or of state.
type Kind = &'static str;

/// An operation, with one kind of argument, in one kind of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The operation.
    pub operation: Kind,
    /// Its argument.
    pub argument: Kind,
    /// The state that it met.
    pub state: Kind,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.operation, self.argument, self.state)
    }
}

/// The states of an object: those of its newest revision.
const OBJECT: &[Kind] =
    &["unknown", "a record", "shared data", "a tombstone", "in a version", "born in a version", "packed"];
/// The states of the transactions beside one.
const BESIDE: &[Kind] = &["alone", "beside a draft", "beside a vote"];
const SERIALS: [Kind; 4] = ["its serial", "an older serial", "zero", "a serial that is not here"];

/// The operations, with the kinds of their arguments and of the states that they meet.
const TABLE: &[(Kind, &[Kind], &[Kind])] = &[
    (
        "begin",
        &["nothing", "words", "too many words", "a tid", "a tid that is not later", "status p"],
        &["alone", "beside a draft", "beside a vote", "read-only"],
    ),
    ("store", &SERIALS, OBJECT),
    ("store", &["on the trunk", "in its version", "in another version"], OBJECT),
    ("store", &["one that merges", "one that does not", "empty", "with a blob", "without its blob"], OBJECT),
    ("delete", &SERIALS, OBJECT),
    ("check", &SERIALS, OBJECT),
    ("undo", &["the last transaction", "an earlier one", "a packed one", "an unknown one"], OBJECT),
    (
        "commit_version",
        &[
            "the trunk",
            "a version without objects",
            "a version with objects",
            "into the trunk",
            "into itself",
            "into another",
        ],
        &["no version", "one version", "two versions"],
    ),
    (
        "abort_version",
        &["the trunk", "a version without objects", "a version with objects"],
        &["no version", "one version", "two versions"],
    ),
    (
        "restore",
        &[
            "a record",
            "a tombstone",
            "a source",
            "a source that is not here",
            "in a version",
            "a base",
            "a base that is not here",
            "with a blob",
        ],
        OBJECT,
    ),
    ("vote", &["no change", "one change", "several", "an object twice", "a change that is refused"], BESIDE),
    ("finish", &["no change", "one change", "several"], BESIDE),
    ("abort", &["a draft", "a vote"], BESIDE),
    (
        "pack",
        &["before all", "before the last pack", "to the last pack", "in between", "to the last", "to the future"],
        &[
            "empty",
            "never packed",
            "packed",
            "without a root",
            "with a version",
            "beside a draft",
            "beside a vote",
            "read-only",
        ],
    ),
    (
        "pack",
        &["collecting", "not collecting", "going on", "by counts"],
        &[
            "empty",
            "never packed",
            "packed",
            "without a root",
            "with a version",
            "beside a draft",
            "beside a vote",
            "read-only",
        ],
    ),
    (
        "reopen",
        &["for writing", "for reading"],
        &["empty", "with a draft", "with a vote", "packed", "with a version", "read-only"],
    ),
];

/// Pairs that cannot be: the operation, the arguments, the states, and the rule that says so.
const IMPOSSIBLE: &[(Kind, &[Kind], &[Kind], &str)] = &[
    ("store", &["an older serial"], &["unknown"], "1.3: an unknown object has no revision"),
    ("delete", &["an older serial"], &["unknown"], "1.3: an unknown object has no revision"),
    ("check", &["an older serial"], &["unknown"], "1.3: an unknown object has no revision"),
    ("store", &["zero"], &["unknown"], "3.1: zero is the right serial of a new object"),
    ("delete", &["zero"], &["unknown"], "3.1: zero is the right serial of a new object"),
    ("check", &["zero"], &["unknown"], "3.1: zero is the right serial of a new object"),
    (
        "store",
        &["in its version"],
        &["unknown", "a record", "shared data", "a tombstone"],
        "1.5: the newest revision of such an object is on the trunk",
    ),
    ("undo", &["the last transaction", "an earlier one", "a packed one"], &["unknown"], "1.4: it changed the object"),
    ("undo", &["the last transaction", "an earlier one"], &["packed"], "4.4: packed transactions are the first ones"),
    (
        "undo",
        &["an unknown one"],
        &["a record", "shared data", "a tombstone", "in a version", "born in a version", "packed"],
        "3.4: a transaction that is not here changed no object",
    ),
    ("commit_version", &["a version with objects"], &["no version"], "2.11: such a version is one of the versions"),
    ("abort_version", &["a version with objects"], &["no version"], "2.11: such a version is one of the versions"),
    ("restore", &["a source", "a base"], &["unknown"], "1.3: an unknown object has no revision"),
    ("pack", &["before all"], &["packed"], "4.7: it is to a time before the last pack"),
    (
        "pack",
        &["before the last pack", "to the last pack"],
        &["empty", "never packed"],
        "4.4: a pack leaves at least the last transaction",
    ),
    ("pack", &["before all", "in between", "to the last"], &["empty"], "2.7: there is no transaction"),
];

/// How often a run had each pair.
#[derive(Clone, Debug, Default)]
pub struct Blind {
    counts: BTreeMap<Pair, u64>,
}

impl Blind {
    /// Counts a step that is done in this world; a part of one, as [`parts`](crate::generate::parts) makes them.
    pub fn step(&mut self, world: &World, step: &Step) {
        let Some((operation, arguments, states)) = kinds(world, step) else { return };
        for argument in arguments {
            for &state in &states {
                *self.counts.entry(Pair { operation, argument, state }).or_default() += 1;
            }
        }
    }

    /// Adds what another run had.
    pub fn add(&mut self, other: &Blind) {
        other.counts.iter().for_each(|(pair, count)| *self.counts.entry(*pair).or_default() += count);
    }

    /// How often it had a pair.
    pub fn count(&self, pair: &Pair) -> u64 {
        self.counts.get(pair).copied().unwrap_or(0)
    }

    /// All pairs, without the impossible ones.
    pub fn possible() -> Vec<Pair> {
        let mut pairs = all();
        pairs.retain(|pair| rule_against(pair).is_none());
        pairs
    }

    /// The pairs that are possible, and that it never had.
    pub fn never(&self) -> Vec<Pair> {
        Blind::possible().into_iter().filter(|pair| self.count(pair) == 0).collect()
    }

    /// The pairs that it had, although they are said to be impossible, or are in no table.
    pub fn unlisted(&self) -> Vec<Pair> {
        let possible = Blind::possible();
        self.counts.keys().filter(|pair| !possible.contains(pair)).copied().collect()
    }
}

/// Every pair of the table.
fn all() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for &(operation, arguments, states) in TABLE {
        for &argument in arguments {
            pairs.extend(states.iter().map(|&state| Pair { operation, argument, state }));
        }
    }
    pairs
}

/// The rule that makes a pair impossible.
pub fn rule_against(pair: &Pair) -> Option<&'static str> {
    let is_meant = |(operation, arguments, states, _): &&(Kind, &[Kind], &[Kind], &str)| {
        *operation == pair.operation
            && (arguments.is_empty() || arguments.contains(&pair.argument))
            && (states.is_empty() || states.contains(&pair.state))
    };
    IMPOSSIBLE.iter().find(is_meant).map(|(.., rule)| *rule)
}

/// Keeps the kinds whose condition holds.
fn of<const N: usize>(conditions: [(bool, Kind); N]) -> Vec<Kind> {
    conditions.into_iter().filter_map(|(holds, kind)| holds.then_some(kind)).collect()
}

fn kinds(world: &World, step: &Step) -> Option<(Kind, Vec<Kind>, Vec<Kind>)> {
    Some(match step {
        Step::Begin { transaction, meta } => {
            let mut states = beside(world, *transaction);
            states.extend(world.read_only.then_some("read-only"));
            ("begin", begun(world, meta), states)
        }
        Step::Change { transaction, change } => {
            world.open.get(transaction).filter(|open| open.stage == Stage::Drafting)?;
            changed(world, change)
        }
        Step::Vote { transaction, .. } => {
            let open = world.open.get(transaction).filter(|open| open.stage == Stage::Drafting)?;
            let oids: Vec<Oid> = open.changes.iter().filter_map(object).collect();
            let twice = (1..oids.len()).any(|n| oids[..n].contains(&oids[n]));
            let mut arguments = size(open.changes.len());
            arguments
                .extend(of([(twice, "an object twice"), (world.judge(open).is_err(), "a change that is refused")]));
            ("vote", arguments, beside(world, *transaction))
        }
        Step::Finish { transaction } => {
            let open = world.open.get(transaction).filter(|open| open.stage != Stage::Drafting)?;
            ("finish", size(open.changes.len()), beside(world, *transaction))
        }
        Step::Abort { transaction } => {
            let draft = world.open.get(transaction)?.stage == Stage::Drafting;
            ("abort", vec![if draft { "a draft" } else { "a vote" }], beside(world, *transaction))
        }
        Step::Pack { to, collect, go_on } => ("pack", pack(world, *to, *collect, *go_on), database(world)),
        Step::PackByCounts { to } => {
            let mut arguments = pack(world, *to, false, false);
            arguments.retain(|argument| *argument != "not collecting");
            arguments.push("by counts");
            ("pack", arguments, database(world))
        }
        Step::Reopen { read_only } => {
            let mut states = database(world);
            states.retain(|state| !["never packed", "without a root"].contains(state));
            let renamed = |state: &Kind| match *state {
                "beside a draft" => "with a draft",
                "beside a vote" => "with a vote",
                other => other,
            };
            let states = states.iter().map(renamed).collect();
            ("reopen", vec![if *read_only { "for reading" } else { "for writing" }], states)
        }
        Step::Commit { .. } => return None,
    })
}

fn size(changes: usize) -> Vec<Kind> {
    vec![["no change", "one change", "several"][changes.min(2)]]
}

fn object(change: &Change) -> Option<Oid> {
    match change {
        Change::Store { oid, .. } | Change::Delete { oid, .. } | Change::Restore { oid, .. } => Some(*oid),
        _ => None,
    }
}

fn beside(world: &World, transaction: Name) -> Vec<Kind> {
    let others = || world.open.iter().filter(|(name, _)| **name != transaction).map(|(_, open)| &open.stage);
    let draft = others().any(|stage| *stage == Stage::Drafting);
    let vote = others().any(|stage| *stage != Stage::Drafting);
    of([(!draft && !vote, "alone"), (draft, "beside a draft"), (vote, "beside a vote")])
}

fn begun(world: &World, meta: &Meta) -> Vec<Kind> {
    let early = meta.tid.is_some_and(|tid| tid <= world.last());
    of([
        (*meta == Meta::default(), "nothing"),
        (!meta.user.is_empty() && !meta.is_too_long(), "words"),
        (meta.is_too_long(), "too many words"),
        (meta.tid.is_some() && !early, "a tid"),
        (early, "a tid that is not later"),
        (meta.packed, "status p"),
    ])
}

/// The state of an object.
fn state(world: &World, oid: Oid) -> Kind {
    let Some(at) = world.database.newest(oid.0) else { return "unknown" };
    match (&at.revision.content, at.revision.base) {
        _ if at.transaction.status == Status::Packed => "packed",
        (_, Some(_)) => "in a version",
        _ if !at.revision.version.is_empty() => "born in a version",
        _ if world.database.data(at).is_none() => "a tombstone",
        (Content::Source(_), _) => "shared data",
        _ => "a record",
    }
}

fn serial(world: &World, oid: Oid, serial: Tid) -> Kind {
    let past = world.database.past(oid.0);
    let newest = past.first().map_or(0, |at| at.tid());
    match serial.0 {
        tid if tid == newest => SERIALS[0],
        tid if past.iter().any(|at| at.tid() == tid) => SERIALS[1],
        0 => SERIALS[2],
        _ => SERIALS[3],
    }
}

fn stored(world: &World, oid: Oid, node: &Option<Node>, version: &str) -> Vec<Kind> {
    let held = world.database.modified_in_version(oid.0);
    let blob = node.as_ref().map_or(Beside::Nothing, |node| node.beside);
    of([
        (version.is_empty(), "on the trunk"),
        (!version.is_empty() && version == held, "in its version"),
        (!version.is_empty() && version != held, "in another version"),
        (node.as_ref().is_some_and(|node| node.counter), "one that merges"),
        (node.as_ref().is_some_and(|node| !node.counter), "one that does not"),
        (node.is_none(), "empty"),
        (matches!(blob, Beside::Blob(_)), "with a blob"),
        (blob == Beside::NoBlob, "without its blob"),
    ])
}

fn changed(world: &World, change: &Change) -> (Kind, Vec<Kind>, Vec<Kind>) {
    let of_object = |oid: &Oid| vec![state(world, *oid)];
    match change {
        Change::Store { oid, serial: at, node, version } => {
            let mut arguments = stored(world, *oid, node, version);
            arguments.push(serial(world, *oid, *at));
            ("store", arguments, of_object(oid))
        }
        Change::Delete { oid, serial: at } => ("delete", vec![serial(world, *oid, *at)], of_object(oid)),
        Change::CheckCurrent { oid, serial: at } => ("check", vec![serial(world, *oid, *at)], of_object(oid)),
        Change::Undo { tid } => {
            let undone = world.database.transactions.iter().find(|t| t.tid == tid.0);
            let argument = match undone {
                None => "an unknown one",
                Some(t) if t.status == Status::Packed => "a packed one",
                Some(t) if t.tid == world.last().0 => "the last transaction",
                Some(_) => "an earlier one",
            };
            let states =
                undone.map_or(vec!["unknown"], |t| t.oids().iter().map(|oid| state(world, Oid(*oid))).collect());
            ("undo", vec![argument], states)
        }
        Change::CommitVersion { from, to } => {
            let mut arguments = version(world, from);
            arguments.extend(of([
                (to.is_empty(), "into the trunk"),
                (!to.is_empty() && to == from, "into itself"),
                (!to.is_empty() && to != from, "into another"),
            ]));
            ("commit_version", arguments, versions(world))
        }
        Change::AbortVersion { from } => ("abort_version", version(world, from), versions(world)),
        Change::Restore { oid, node, version, source, base } => {
            let is_here = |tid: &Tid| world.database.at(oid.0, tid.0).is_some();
            let blob = node.as_ref().is_some_and(|node| matches!(node.beside, Beside::Blob(_)));
            let arguments = of([
                (node.is_some(), "a record"),
                (node.is_none(), "a tombstone"),
                (source.as_ref().is_some_and(is_here), "a source"),
                (source.as_ref().is_some_and(|source| !is_here(source)), "a source that is not here"),
                (!version.is_empty(), "in a version"),
                (base.as_ref().is_some_and(is_here), "a base"),
                (base.as_ref().is_some_and(|base| !is_here(base)), "a base that is not here"),
                (blob, "with a blob"),
            ]);
            ("restore", arguments, of_object(oid))
        }
    }
}

fn version(world: &World, from: &str) -> Vec<Kind> {
    let has_objects = world.database.versions().contains(from);
    vec![match (from, has_objects) {
        ("", _) => "the trunk",
        (_, false) => "a version without objects",
        (_, true) => "a version with objects",
    }]
}

fn versions(world: &World) -> Vec<Kind> {
    vec![["no version", "one version", "two versions"][world.database.versions().len().min(2)]]
}

fn pack(world: &World, to: Tid, collect: bool, go_on: bool) -> Vec<Kind> {
    let database = &world.database;
    let first = database.transactions.first().map_or(0, |t| t.tid);
    let (packed, last) = (database.packed_to(), database.last_transaction());
    let moment = match to.0 {
        to if packed > 0 && to < packed => "before the last pack",
        to if packed > 0 && to == packed => "to the last pack",
        to if to < first => "before all",
        to if to < last => "in between",
        to if to == last => "to the last",
        _ => "to the future",
    };
    let mut arguments = vec![moment, if collect { "collecting" } else { "not collecting" }];
    arguments.extend(go_on.then_some("going on"));
    arguments
}

fn database(world: &World) -> Vec<Kind> {
    let database = &world.database;
    let is_empty = database.transactions.is_empty();
    let open = |draft: bool| world.open.values().any(|open| (open.stage == Stage::Drafting) == draft);
    of([
        (is_empty, "empty"),
        (!is_empty && database.packed_to() == 0, "never packed"),
        (database.packed_to() > 0, "packed"),
        (!is_empty && database.newest(0).is_none(), "without a root"),
        (!database.versions().is_empty(), "with a version"),
        (open(true), "beside a draft"),
        (open(false), "beside a vote"),
        (world.read_only, "read-only"),
    ])
}
