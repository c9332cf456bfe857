//! Makes up histories that go where the trouble is.
//!
//! Each step is chosen with the rules' state in view: most serials are right, and some are the ones that were right a
//! moment ago; most undos take back what can be taken back; packs go to moments around which something happened; numbers
//! are few, so that the same data comes again. There is one description, [`next`]; a seed, `proptest` and a fuzzer's bytes
//! all roll the dice for it.

use arbitrary::Unstructured;
use proptest::prelude::*;
use vellum_spec::Content;
use vellum_storage::{Oid, Tid};

use crate::dice::{Dice, Seed};
use crate::node::Node;
use crate::step::{Change, Meta, Name, Outcome, Step};
use crate::subject::Can;
use crate::tick::{moment, tick};
use crate::world::{Stage, World};

/// Oids of a history are below this; one more is never there, and now and then referred to.
const OIDS: u64 = 7;
const VERSIONS: [&str; 2] = ["draft", "other"];
const NAMES: [Name; 3] = ['a', 'b', 'c'];

/// A history of so many steps for a storage that can do this much.
pub fn history(dice: &mut dyn Dice, can: Can, length: usize) -> Vec<Step> {
    let mut world = World::new(can);
    let mut steps = Vec::with_capacity(length);
    while steps.len() < length && dice.more() {
        let step = next(dice, &world);
        simulate(&mut world, &step);
        steps.push(step);
    }
    steps
}

/// Plays a step on the rules alone; where they leave a choice, the last of the right outcomes.
fn simulate(world: &mut World, step: &Step) {
    for part in parts(world, step) {
        if let Some(outcome) = world.expect(&part).and_then(|mut right| right.pop()) {
            world.follow(&part, &outcome);
            if let Outcome::Refused { .. } | Outcome::Busy = outcome {
                return;
            }
        }
    }
}

/// What a step is made of: a transaction begins with its first change, and a commit is two phases.
pub fn parts(world: &World, step: &Step) -> Vec<Step> {
    match step {
        Step::Change { transaction, .. } if !world.open.contains_key(transaction) => {
            vec![Step::Begin { transaction: *transaction, meta: Meta::default() }, step.clone()]
        }
        Step::Commit { transaction, clock } => {
            vec![Step::Vote { transaction: *transaction, clock: *clock }, Step::Finish { transaction: *transaction }]
        }
        _ => vec![step.clone()],
    }
}

/// For property tests: histories of `length` steps.
pub fn histories(can: Can, length: usize) -> impl Strategy<Value = Vec<Step>> {
    any::<u64>().prop_map(move |seed| history(&mut Seed(seed), can, length)).no_shrink()
}

/// For fuzzers: the history that these bytes say.
pub fn from_bytes(bytes: &[u8], can: Can, length_max: usize) -> Vec<Step> {
    history(&mut Unstructured::new(bytes), can, length_max)
}

#[derive(Clone, Copy)]
enum Kind {
    Begin,
    Change,
    Vote,
    Finish,
    Commit,
    Abort,
    Pack,
    Reopen,
}

/// The next step.
pub fn next(dice: &mut dyn Dice, world: &World) -> Step {
    let can = world.can();
    if world.read_only && dice.chance(60) {
        return Step::Reopen { read_only: false };
    }
    let names = |voted: bool| -> Vec<Name> {
        world.open.iter().filter(|(_, open)| (open.stage != Stage::Drafting) == voted).map(|(name, _)| *name).collect()
    };
    let (drafts, voted) = (names(false), names(true));
    let free: Vec<Name> = match can.concurrent {
        true => NAMES.into_iter().filter(|name| !world.open.contains_key(name)).collect(),
        false => {
            if world.open.is_empty() {
                vec!['a']
            } else {
                vec![]
            }
        }
    };
    let full: Vec<Name> = drafts.iter().copied().filter(|name| !world.open[name].changes.is_empty()).collect();
    let when = |yes: bool, weight: u64| if yes { weight } else { 0 };
    let begun = world.known.tids.len() > 1;
    // The end of a version was taken back just now: a storage easily loses its base.
    let back = world
        .database
        .transactions
        .last()
        .is_some_and(|t| t.revisions.iter().any(|r| r.base.is_some() && matches!(r.content, Content::Source(_))));
    let kind = dice.weigh(&[
        (when(!drafts.is_empty() || !free.is_empty(), 45), Kind::Change),
        (when(!full.is_empty(), 30), Kind::Commit),
        (when(!full.is_empty(), if can.concurrent { 10 } else { 4 }), Kind::Vote),
        (when(!voted.is_empty(), 22), Kind::Finish),
        (when(!voted.is_empty() || !drafts.is_empty(), 2), Kind::Abort),
        (when(!free.is_empty(), 4), Kind::Begin),
        (when(can.pack && begun, if back { 40 } else { 7 }), Kind::Pack),
        (when(can.reopen && begun, 2), Kind::Reopen),
        (when(!drafts.is_empty(), 1), Kind::Commit),
    ]);
    let clock = clock(dice, world);
    let mut name = |from: &[Name]| dice.pick(from).copied().unwrap_or('a');
    match kind.unwrap_or(Kind::Change) {
        Kind::Begin => Step::Begin { transaction: name(&free), meta: meta(dice, world) },
        Kind::Vote => Step::Vote { transaction: name(&full), clock },
        Kind::Finish => Step::Finish { transaction: name(&voted) },
        Kind::Commit => Step::Commit { transaction: name(if full.is_empty() { &drafts } else { &full }), clock },
        Kind::Abort => Step::Abort { transaction: name(if voted.is_empty() { &drafts } else { &voted }) },
        Kind::Reopen => Step::Reopen { read_only: can.read_only && dice.chance(15) },
        Kind::Pack => pack(dice, world),
        Kind::Change => {
            // A second transaction begins now and then while there is one.
            let new = drafts.is_empty() || (!free.is_empty() && dice.chance(25));
            let transaction = dice.pick(if new { &free } else { &drafts }).copied().unwrap_or('a');
            Step::Change { transaction, change: change(dice, world, transaction) }
        }
    }
}

/// As a rule a minute or two after the last; now and then the clock stands still, or goes back.
fn clock(dice: &mut dyn Dice, world: &World) -> Tid {
    let now = moment(world.last().max(world.clock));
    tick(if dice.chance(6) { now.saturating_sub(dice.roll(3)).max(1) } else { now + 1 + dice.roll(2) })
}

fn meta(dice: &mut dyn Dice, world: &World) -> Meta {
    let mut meta = Meta::default();
    if dice.chance(50) {
        meta.user = ["ann", "bob"][dice.roll(2) as usize].to_owned();
        meta.description = ["", "words"][dice.roll(2) as usize].to_owned();
        meta.extension = dice.chance(50);
    }
    if dice.chance(3) {
        meta.user = "x".repeat(usize::from(u16::MAX) + dice.roll(2) as usize);
    }
    if world.can().restore && dice.chance(40) {
        let last = moment(world.last());
        meta.tid = Some(tick(if dice.chance(15) { last.max(1) } else { last + 1 + dice.roll(3) }));
        // What is packed comes first.
        meta.packed = world.database.undo_log(0, 1).is_empty() && dice.chance(40);
    }
    meta
}

fn pack(dice: &mut dyn Dice, world: &World) -> Step {
    let last = moment(world.last());
    let tids: Vec<_> = world.known.tids.iter().copied().collect();
    let before_last = tids.len().checked_sub(2).map_or(last, |n| moment(tids[n]));
    let to = match dice.roll(14) {
        10.. => before_last,
        0..5 => dice.pick(&tids).map_or(last, |tid| moment(*tid)),
        5..8 => last.saturating_sub(dice.roll(4)),
        _ => last + dice.roll(3),
    };
    Step::Pack { to: tick(to.max(1)), collect: world.can().collect && dice.chance(60), go_on: dice.chance(25) }
}

fn change(dice: &mut dyn Dice, world: &World, transaction: Name) -> Change {
    let can = world.can();
    // Undos come in company, and the end of a version is worth taking back.
    let undoes =
        world.open.get(&transaction).is_some_and(|o| o.changes.iter().any(|c| matches!(c, Change::Undo { .. })));
    let ended = world.database.transactions.last().is_some_and(|t| ends_a_version(world, t));
    let when = |yes: bool, weight: u64| if yes { weight } else { 0 };
    let begun = !world.known.tids.is_empty();
    let versions = world.database.versions();
    let kind = dice.weigh(&[
        (60, 0),
        (when(can.delete && begun, 5), 1),
        (when(can.check_current && begun, 4), 2),
        (
            when(
                can.undo && begun,
                if ended {
                    120
                } else if undoes {
                    50
                } else {
                    16
                },
            ),
            3,
        ),
        (when(can.versions, if versions.is_empty() { 1 } else { 5 }), 4),
        (when(can.versions, if versions.is_empty() { 1 } else { 4 }), 5),
        (when(can.restore && begun, 3), 6),
    ]);
    let version = |dice: &mut dyn Dice| {
        let there: Vec<&str> = versions.iter().copied().collect();
        let any = dice.pick(&VERSIONS).copied().unwrap_or_default();
        if dice.chance(85) { dice.pick(&there).copied().unwrap_or(any).to_owned() } else { any.to_owned() }
    };
    match kind {
        Some(1) => {
            let oid = object(dice, world);
            Change::Delete { oid, serial: serial(dice, world, oid) }
        }
        Some(2) => {
            let oid = object(dice, world);
            Change::CheckCurrent { oid, serial: serial(dice, world, oid) }
        }
        Some(3) => Change::Undo { tid: undoable(dice, world) },
        Some(4) => {
            let from = if dice.chance(4) { String::new() } else { version(dice) };
            let to = if dice.chance(30) { VERSIONS[dice.roll(2) as usize].to_owned() } else { String::new() };
            Change::CommitVersion { from, to }
        }
        Some(5) => Change::AbortVersion { from: if dice.chance(4) { String::new() } else { version(dice) } },
        Some(6) => restore(dice, world),
        _ => store(dice, world),
    }
}

/// A database begins with its root, as a rule.
fn begins(dice: &mut dyn Dice, world: &World) -> bool {
    world.known.oids.is_empty() && dice.chance(85)
}

fn ends_a_version(world: &World, transaction: &vellum_spec::Transaction) -> bool {
    transaction.revisions.iter().any(|revision| {
        let before = world.database.past(revision.oid).get(1).map(|at| at.revision.version.clone());
        revision.version.is_empty() && before.is_some_and(|version| !version.is_empty())
    })
}

/// Mostly one that is there.
fn object(dice: &mut dyn Dice, world: &World) -> Oid {
    let there: Vec<Oid> = world.known.oids.iter().copied().collect();
    if dice.chance(75) { dice.pick(&there).copied() } else { None }.unwrap_or_else(|| Oid(dice.roll(OIDS)))
}

/// Mostly the right one; else one that was, or none, or one to come.
fn serial(dice: &mut dyn Dice, world: &World, oid: Oid) -> Tid {
    let past: Vec<Tid> = world.database.past(oid.0).iter().map(|at| Tid(at.tid())).collect();
    let right = past.first().copied().unwrap_or(Tid::ZERO);
    match dice.roll(100) {
        0..84 => right,
        84..96 => dice.pick(&past).copied().unwrap_or(Tid::ZERO),
        96..98 => Tid::ZERO,
        _ => tick(moment(world.last()) + 1),
    }
}

fn store(dice: &mut dyn Dice, world: &World) -> Change {
    let oid = if begins(dice, world) { Oid::ROOT } else { object(dice, world) };
    let serial = serial(dice, world, oid);
    let held = world.database.modified_in_version(oid.0);
    let version = match (world.can().versions, held.is_empty()) {
        (false, _) => String::new(),
        (true, true) if dice.chance(30) => VERSIONS[dice.roll(2) as usize].to_owned(),
        (true, false) if dice.chance(80) => held.to_owned(),
        (true, false) if dice.chance(50) => VERSIONS[dice.roll(2) as usize].to_owned(),
        _ => String::new(),
    };
    let node = (!dice.chance(1)).then(|| node(dice, world, oid));
    Change::Store { oid, serial, node, version }
}

fn restore(dice: &mut dyn Dice, world: &World) -> Change {
    let oid = object(dice, world);
    let past = world.database.past(oid.0);
    let source = if dice.chance(60) { dice.pick(&past).copied() } else { None };
    let same = source.and_then(|at| world.database.data(at)).and_then(Node::decode).filter(|_| dice.chance(80));
    let node = same.or_else(|| (!dice.chance(25)).then(|| node(dice, world, oid)));
    let held = world.database.modified_in_version(oid.0);
    let version = if world.can().versions && dice.chance(30) { VERSIONS[0].to_owned() } else { held.to_owned() };
    let newest = past.first().filter(|at| at.revision.version == version).or(source.as_ref());
    let base = match dice.roll(10) {
        _ if version.is_empty() => None,
        0..5 => newest.and_then(|at| at.revision.base).map(Tid),
        5..9 => dice.pick(&past).map(|at| Tid(at.tid())),
        _ => Some(tick(moment(world.last()) + 1)),
    };
    Change::Restore { oid, node, version, source: source.map(|at| Tid(at.tid())), base }
}

fn undoable(dice: &mut dyn Dice, world: &World) -> Tid {
    let complete: Vec<Tid> = world.database.undo_log(0, 6).iter().map(|t| Tid(t.tid)).collect();
    let known: Vec<Tid> = world.known.tids.iter().copied().collect();
    match dice.roll(100) {
        0..35 => complete.first().copied(),
        35..90 => dice.pick(&complete).copied(),
        90..98 => dice.pick(&known).copied(),
        _ => None,
    }
    .unwrap_or(tick(moment(world.last()) + 5))
}

/// What an object says next. Whether it is a counter depends on the object, as a class does.
fn node(dice: &mut dyn Dice, world: &World, oid: Oid) -> Node {
    let counter = !oid.0.is_multiple_of(3);
    if dice.chance(12) {
        // The same as once before.
        let past = world.database.past(oid.0);
        let data = dice.pick(&past).and_then(|at| world.database.data(*at)).and_then(Node::decode);
        if let Some(node) = data {
            return node;
        }
    }
    let mut strong: Vec<Oid> = Vec::new();
    for _ in 0..if oid == Oid::ROOT { 2 + dice.roll(2) } else { dice.roll(3) } {
        strong.push(object(dice, world));
    }
    if !world.can().dangling {
        strong.retain(|oid| *oid == Oid::ROOT || world.database.newest(oid.0).is_some());
    } else if dice.chance(2) {
        strong.push(Oid(OIDS + 1));
    }
    let weak = if dice.chance(30) { vec![object(dice, world)] } else { vec![] };
    let foreign = if dice.chance(5) { vec![object(dice, world)] } else { vec![] };
    Node { counter, number: dice.roll(4) as u8, strong, weak, foreign }
}
