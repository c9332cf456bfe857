//! The moves of a small world: what a bound allows in a state.

use std::fmt;
use std::str::FromStr;

use vellum_storage::{Oid, Tid};

use crate::node::Node;
use crate::step::{Change, Meta, Name, Step};
use crate::tick::{moment, tick};
use crate::world::{Stage, World};

use super::rename::Renaming;

/// How small the world is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bound {
    /// Whether one of the two objects is the root. If so, packs can collect; if not, the two may change their names.
    pub root: bool,
    /// Transactions that begin.
    pub transactions: u8,
    /// Changes of each.
    pub changes: u8,
    /// Transactions under way at the same time; at most 2.
    pub overlapping: u8,
    /// Whether there is a version.
    pub versions: bool,
    /// Packs.
    pub packs: u8,
    /// Times that it is closed and opened again.
    pub reopens: u8,
    /// Aborts.
    pub aborts: u8,
}

/// The bound's own words, as `transactions=2 changes=1 overlapping=2 versions packs=1`.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bound { root, transactions, changes, overlapping, versions, packs, reopens, aborts } = self;
        write!(f, "transactions={transactions} changes={changes} overlapping={overlapping}")?;
        write!(f, " packs={packs} reopens={reopens} aborts={aborts}")?;
        for (is_set, word) in [(root, "root"), (versions, "versions")] {
            if *is_set {
                write!(f, " {word}")?;
            }
        }
        Ok(())
    }
}

/// Reads what `Display` writes. A part without a word is left out: no root, no versions; one change, and
/// one transaction at a time.
impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Bound, String> {
        let mut bound = Bound { changes: 1, overlapping: 1, ..Bound::default() };
        for word in text.split_whitespace() {
            let (name, number) = word.split_once('=').map_or((word, None), |(name, number)| (name, Some(number)));
            let parsed = number.map(|number| number.parse::<u8>().map_err(|_| format!("`{word}` has no number")));
            let parsed = parsed.transpose()?;
            match (name, parsed) {
                ("root", None) => bound.root = true,
                ("versions", None) => bound.versions = true,
                ("transactions", Some(n)) => bound.transactions = n,
                ("changes", Some(n)) => bound.changes = n,
                ("overlapping", Some(n @ 1..=2)) => bound.overlapping = n,
                ("packs", Some(n)) => bound.packs = n,
                ("reopens", Some(n)) => bound.reopens = n,
                ("aborts", Some(n)) => bound.aborts = n,
                _ => return Err(format!("`{word}` is no part of a bound, such as `{}`", WORLDS[0].bounds[0])),
            }
        }
        Ok(bound)
    }
}

/// A small world, and its bound in each size.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// Its name.
    pub name: &'static str,
    /// The bounds: some seconds, some minutes, a night.
    pub bounds: [Bound; 3],
}

const fn bound(root: bool, versions: bool, transactions: u8, overlapping: u8, quiet: [u8; 3]) -> Bound {
    let [packs, reopens, aborts] = quiet;
    Bound { root, transactions, changes: 1, overlapping, versions, packs, reopens, aborts }
}

const fn twice(bound: Bound) -> Bound {
    Bound { changes: 2, ..bound }
}

/// The small worlds.
pub const WORLDS: &[Small] = &[
    Small {
        name: "votes",
        bounds: [
            bound(false, true, 2, 2, [0, 0, 1]),
            bound(false, true, 3, 2, [0, 0, 0]),
            bound(false, true, 3, 2, [0, 1, 1]),
        ],
    },
    Small {
        name: "changes",
        bounds: [
            twice(bound(false, true, 1, 1, [0, 1, 0])),
            twice(bound(false, true, 2, 1, [0, 0, 0])),
            twice(bound(false, true, 2, 2, [0, 0, 0])),
        ],
    },
    Small {
        name: "packs",
        bounds: [
            bound(true, false, 2, 1, [1, 1, 0]),
            bound(true, false, 3, 1, [1, 1, 0]),
            bound(true, true, 3, 1, [2, 1, 0]),
        ],
    },
    Small {
        name: "packs during votes",
        bounds: [
            bound(true, false, 2, 2, [1, 0, 0]),
            bound(true, true, 2, 2, [1, 1, 1]),
            bound(true, true, 3, 2, [1, 0, 0]),
        ],
    },
];

/// The small worlds for power cuts: each move of the disk is cut in each of its operations, so they are smaller.
pub const CUT_WORLDS: &[Small] = &[
    Small {
        name: "cut votes",
        bounds: [
            bound(false, false, 1, 1, [0, 1, 0]),
            bound(false, false, 2, 2, [0, 0, 0]),
            bound(false, true, 2, 2, [0, 1, 1]),
        ],
    },
    Small {
        name: "cut packs",
        bounds: [
            bound(true, false, 1, 1, [1, 0, 0]),
            bound(true, false, 2, 1, [1, 0, 0]),
            bound(true, true, 2, 2, [1, 1, 0]),
        ],
    },
];

/// How much of a bound is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    begun: u8,
    packs: u8,
    reopens: u8,
    aborts: u8,
}

impl Spent {
    /// The use after this step, which begins in this world.
    pub(super) fn and(self, step: &Step, before: &World) -> Spent {
        let mut spent = self;
        match step {
            Step::Begin { .. } => spent.begun += 1,
            Step::Change { transaction, .. } if !before.open.contains_key(transaction) => spent.begun += 1,
            Step::Pack { .. } | Step::PackByCounts { .. } => spent.packs += 1,
            Step::Reopen { .. } => spent.reopens += 1,
            Step::Abort { .. } => spent.aborts += 1,
            _ => {}
        }
        spent
    }
}

pub(super) const NAMES: [Name; 2] = ['a', 'b'];
const DRAFT: &str = "draft";

impl Bound {
    pub(super) fn objects(&self) -> [Oid; 2] {
        if self.root { [Oid::ROOT, Oid(1)] } else { [Oid(1), Oid(2)] }
    }
}

/// The moves that are possible in a state; of those that only a renaming tells apart, one.
pub(super) fn moves(bound: &Bound, world: &World, spent: Spent) -> Vec<Step> {
    let mut moves = all(bound, world, spent);
    moves.retain(|step| world.expect(&first(world, step)).is_some());
    let same: Vec<Renaming> = Renaming::others(bound).into_iter().filter(|r| r.keeps(world)).collect();
    let mut kept: Vec<Step> = Vec::new();
    for step in moves {
        if !same.iter().any(|renaming| kept.contains(&renaming.step(&step))) {
            kept.push(step);
        }
    }
    kept
}

/// The first part of a step.
fn first(world: &World, step: &Step) -> Step {
    crate::generate::parts(world, step).swap_remove(0)
}

fn all(bound: &Bound, world: &World, spent: Spent) -> Vec<Step> {
    let mut steps = Vec::new();
    let overlapping = if world.can().concurrent { bound.overlapping } else { 1 };
    let names = NAMES.into_iter().take(usize::from(overlapping));
    let free = names.into_iter().find(|name| !world.open.contains_key(name));
    let free = free.filter(|_| spent.begun < bound.transactions);
    // A transaction begins with its first change. One without changes is only tried by itself.
    if let (Some(transaction), true) = (free, world.open.is_empty()) {
        steps.extend(metas(world).into_iter().map(|meta| Step::Begin { transaction, meta }));
    }
    let drafts = world.open.iter().filter(|(_, open)| open.stage == Stage::Drafting);
    let roomy = drafts.clone().filter(|(_, open)| open.changes.len() < usize::from(bound.changes));
    let changes = changes(bound, world);
    for transaction in roomy.map(|(name, _)| *name).chain(free) {
        steps.extend(changes.iter().map(|change| Step::Change { transaction, change: change.clone() }));
    }
    let clock = tick(moment(world.last()) + 1);
    steps.extend(drafts.map(|(name, _)| Step::Vote { transaction: *name, clock }));
    let voted = world.open.iter().filter(|(_, open)| open.stage != Stage::Drafting);
    steps.extend(voted.map(|(name, _)| Step::Finish { transaction: *name }));
    if spent.aborts < bound.aborts {
        steps.extend(world.open.keys().map(|name| Step::Abort { transaction: *name }));
    }
    if spent.packs < bound.packs {
        // Also before all of them.
        for to in [tick(1)].into_iter().chain(world.known.tids.iter().copied().filter(|tid| *tid != tick(1))) {
            let ways = [(false, false), (true, false), (true, true)];
            let ways = &ways[..if bound.root { ways.len() } else { 1 }];
            steps.extend(ways.iter().map(|&(collect, go_on)| Step::Pack { to, collect, go_on }));
        }
    }
    if spent.reopens < bound.reopens {
        steps.extend([false, true].map(|read_only| Step::Reopen { read_only }));
    }
    steps
}

/// Nothing; and where nothing may be written, everything else.
fn metas(world: &World) -> Vec<Meta> {
    let mut metas = vec![Meta::default()];
    if world.read_only {
        metas.push(Meta { user: "x".repeat(usize::from(u16::MAX) + 1), ..Meta::default() });
        metas.push(Meta { tid: Some(world.last()), ..Meta::default() });
        metas.push(Meta { tid: Some(tick(moment(world.last()) + 1)), packed: true, ..Meta::default() });
    }
    metas
}

/// The newest serial, the one before it, and the one of a new object.
fn serials(world: &World, oid: Oid) -> Vec<Tid> {
    let mut serials: Vec<Tid> = world.database.past(oid.0).iter().take(2).map(|at| Tid(at.tid())).collect();
    serials.push(Tid::ZERO);
    serials
}

fn changes(bound: &Bound, world: &World) -> Vec<Change> {
    let mut changes = Vec::new();
    let versions = [String::new(), DRAFT.to_owned()];
    let versions = &versions[..1 + usize::from(bound.versions)];
    let [one, other] = bound.objects();
    for (oid, to) in [(one, other), (other, one)] {
        for serial in serials(world, oid) {
            // The first cannot be merged; the second can, and refers to the other object.
            let nodes = [
                Node { number: 1, ..Node::default() },
                Node { number: 2, counter: true, strong: vec![to], ..Node::default() },
            ];
            for (node, version) in nodes.iter().flat_map(|node| versions.iter().map(move |version| (node, version))) {
                let (node, version) = (Some(node.clone()), version.clone());
                changes.push(Change::Store { oid, serial, node, version });
            }
            changes.extend([Change::Delete { oid, serial }, Change::CheckCurrent { oid, serial }]);
        }
        // A serial that is not here.
        let (serial, node) = (tick(moment(world.last()) + 1), Some(Node { number: 1, ..Node::default() }));
        changes.push(Change::Store { oid, serial, node, version: String::new() });
        changes.extend([Change::Delete { oid, serial }, Change::CheckCurrent { oid, serial }]);
    }
    let unknown = tick(moment(world.last()) + 5);
    changes.extend(world.known.tids.iter().copied().chain([unknown]).map(|tid| Change::Undo { tid }));
    if bound.versions {
        let from = || DRAFT.to_owned();
        changes
            .extend([Change::CommitVersion { from: from(), to: String::new() }, Change::AbortVersion { from: from() }]);
    }
    changes
}
