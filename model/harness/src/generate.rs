//! Makes up histories that lead to the corners of the rules.
//!
//! Each step is chosen with the rules' state in view. Most serials are right, and some were right a moment ago. Most
//! undos are possible. Packs go to moments around which something happened. Numbers are few, so that the same data
//! returns. There is one description, [`next`]; a seed, `proptest` and a fuzzer's bytes all roll the dice for it.

use arbitrary::Unstructured;
use proptest::prelude::*;
use vellum_spec::Content;
use vellum_storage::{Oid, Tid};

use crate::dice::{Dice, Seed};
use crate::node::{Beside, Node};
use crate::step::{Change, Meta, Name, Outcome, Step};
use crate::subject::Can;
use crate::tick::{moment, tick};
use crate::world::{Stage, World};

/// Oids of a history are below this. The next one never exists, and is referred to now and then.
const OIDS: u64 = 7;
/// Objects with this rest, divided by four, are blobs as a rule.
const BLOBS: u64 = 2;
const VERSIONS: [&str; 2] = ["draft", "other"];
const NAMES: [Name; 3] = ['a', 'b', 'c'];

/// A history of `length` steps for a storage with these capabilities.
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

/// The parts of a step: a transaction begins with its first change, and a commit is two phases.
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

/// For fuzzers: the history that these bytes describe.
pub fn from_bytes(bytes: &[u8], can: Can, length_max: usize) -> Vec<Step> {
    history(&mut Unstructured::new(bytes), can, length_max)
}

/// An entry of a table of choices.
struct Choice<K> {
    /// The choice.
    kind: K,
    /// How often, in comparison with the other entries.
    weight: u64,
    /// Whether it makes sense now.
    possible: bool,
}

/// One of the table's possible entries, the heavier the likelier.
fn choose<K: Copy>(dice: &mut dyn Dice, table: &[Choice<K>]) -> Option<K> {
    let weight = |choice: &Choice<K>| if choice.possible { choice.weight } else { 0 };
    let weighed: Vec<_> = table.iter().map(|choice| (weight(choice), choice.kind)).collect();
    dice.weigh(&weighed)
}

/// The names of transactions, by what can be done with them.
struct Names {
    /// Of transactions that can begin.
    free: Vec<Name>,
    /// Of open transactions before their vote.
    drafts: Vec<Name>,
    /// Of those that have changes.
    full: Vec<Name>,
    /// Of transactions between vote and finish.
    voted: Vec<Name>,
}

impl Names {
    fn of(world: &World) -> Names {
        let open = |voted: bool| -> Vec<Name> {
            let stage = world.open.iter().filter(|(_, open)| (open.stage != Stage::Drafting) == voted);
            stage.map(|(name, _)| *name).collect()
        };
        let (drafts, voted) = (open(false), open(true));
        let full = drafts.iter().copied().filter(|name| !world.open[name].changes.is_empty()).collect();
        let free = match (world.can().concurrent || world.can().sessions, world.open.is_empty()) {
            (true, _) => NAMES.into_iter().filter(|name| !world.open.contains_key(name)).collect(),
            (false, true) => vec!['a'],
            (false, false) => vec![],
        };
        Names { free, drafts, full, voted }
    }
}

#[derive(Clone, Copy)]
enum StepKind {
    Begin,
    Change,
    Vote,
    Finish,
    Commit,
    Abort,
    Pack,
    Reopen,
}

/// Which steps are possible, and how often each is chosen.
fn step_choices(world: &World, names: &Names) -> [Choice<StepKind>; 10] {
    use StepKind::*;
    let can = world.can();
    let begun = world.known.tids.len() > 1;
    // After the undo of a version's end, a storage may easily lose the base.
    let version_is_back = world
        .database
        .transactions
        .last()
        .is_some_and(|t| t.revisions.iter().any(|r| r.base.is_some() && matches!(r.content, Content::Source(_))));
    // Those by counts come in addition.
    let packs = if can.counts { 10 } else { 7 };
    let some = |names: &[Name]| !names.is_empty();
    [
        Choice { kind: Change, weight: 45, possible: some(&names.drafts) || some(&names.free) },
        Choice { kind: Commit, weight: 30, possible: some(&names.full) },
        Choice { kind: Vote, weight: if can.concurrent || can.sessions { 10 } else { 4 }, possible: some(&names.full) },
        Choice { kind: Finish, weight: 22, possible: some(&names.voted) },
        Choice { kind: Abort, weight: 2, possible: some(&names.voted) || some(&names.drafts) },
        Choice { kind: Begin, weight: 4, possible: some(&names.free) },
        Choice { kind: Pack, weight: if version_is_back { 40 } else { packs }, possible: can.pack && begun },
        Choice { kind: Reopen, weight: 2, possible: can.reopen && begun },
        // Also of an empty database.
        Choice { kind: Pack, weight: 1, possible: can.counts && !begun },
        // Also a transaction without changes.
        Choice { kind: Commit, weight: 1, possible: some(&names.drafts) },
    ]
}

/// The next step.
pub fn next(dice: &mut dyn Dice, world: &World) -> Step {
    let can = world.can();
    if world.read_only && dice.chance(60) {
        return Step::Reopen { read_only: false };
    }
    let names = Names::of(world);
    let Names { free, drafts, full, voted } = &names;
    let kind = choose(dice, &step_choices(world, &names));
    let clock = clock(dice, world);
    let mut one = |of: &[Name]| dice.pick(of).copied().unwrap_or('a');
    match kind.unwrap_or(StepKind::Change) {
        StepKind::Begin => Step::Begin { transaction: one(free), meta: meta(dice, world) },
        StepKind::Vote => Step::Vote { transaction: one(full), clock },
        StepKind::Finish => Step::Finish { transaction: one(voted) },
        StepKind::Commit => Step::Commit { transaction: one(if full.is_empty() { drafts } else { full }), clock },
        StepKind::Abort => Step::Abort { transaction: one(&[&voted[..], drafts].concat()) },
        StepKind::Reopen => Step::Reopen { read_only: can.read_only && dice.chance(15) },
        StepKind::Pack => pack(dice, world),
        StepKind::Change => {
            // Now and then a second transaction begins beside an open one.
            let new = drafts.is_empty() || (!free.is_empty() && dice.chance(25));
            let transaction = dice.pick(if new { free } else { drafts }).copied().unwrap_or('a');
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
        // Packed transactions come first.
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
    if world.can().counts && dice.chance(35) {
        return Step::PackByCounts { to: tick(to.max(1)) };
    }
    Step::Pack { to: tick(to.max(1)), collect: world.can().collect && dice.chance(60), go_on: dice.chance(25) }
}

#[derive(Clone, Copy)]
enum ChangeKind {
    Store,
    Delete,
    CheckCurrent,
    Undo,
    CommitVersion,
    AbortVersion,
    Restore,
}

/// Which changes are possible, and how often each is chosen.
fn change_choices(world: &World, transaction: Name) -> [Choice<ChangeKind>; 7] {
    use ChangeKind::*;
    let can = world.can();
    let begun = !world.known.tids.is_empty();
    // Undos come in company, and the end of a version is worth taking back.
    let is_undo = |change: &Change| matches!(change, Change::Undo { .. });
    let undoes = world.open.get(&transaction).is_some_and(|open| open.changes.iter().any(is_undo));
    let ended = world.database.transactions.last().is_some_and(|last| ends_a_version(world, last));
    let undo = match (ended, undoes) {
        (true, _) => 120,
        (false, true) => 50,
        (false, false) => 16,
    };
    let no_versions = world.database.versions().is_empty();
    [
        Choice { kind: Store, weight: 60, possible: true },
        Choice { kind: Delete, weight: 5, possible: can.delete && begun },
        Choice { kind: CheckCurrent, weight: 4, possible: can.check_current && begun },
        Choice { kind: Undo, weight: undo, possible: can.undo && begun },
        Choice { kind: CommitVersion, weight: if no_versions { 1 } else { 5 }, possible: can.versions },
        Choice { kind: AbortVersion, weight: if no_versions { 1 } else { 4 }, possible: can.versions },
        Choice { kind: Restore, weight: 3, possible: can.restore && begun },
    ]
}

fn change(dice: &mut dyn Dice, world: &World, transaction: Name) -> Change {
    match choose(dice, &change_choices(world, transaction)).unwrap_or(ChangeKind::Store) {
        ChangeKind::Store => store(dice, world),
        ChangeKind::Delete => {
            let oid = object(dice, world);
            Change::Delete { oid, serial: serial(dice, world, oid) }
        }
        ChangeKind::CheckCurrent => {
            let oid = object(dice, world);
            Change::CheckCurrent { oid, serial: serial(dice, world, oid) }
        }
        ChangeKind::Undo => Change::Undo { tid: undoable(dice, world) },
        ChangeKind::CommitVersion => {
            let from = version_to_end(dice, world);
            let to = if dice.chance(30) { VERSIONS[dice.roll(2) as usize].to_owned() } else { String::new() };
            Change::CommitVersion { from, to }
        }
        ChangeKind::AbortVersion => Change::AbortVersion { from: version_to_end(dice, world) },
        ChangeKind::Restore => restore(dice, world),
    }
}

/// Mostly a version that holds something; now and then another one, or the trunk.
fn version_to_end(dice: &mut dyn Dice, world: &World) -> String {
    if dice.chance(4) {
        return String::new();
    }
    let versions: Vec<&str> = world.database.versions().into_iter().collect();
    // One of them never holds anything.
    let any = dice.pick(&[VERSIONS[0], VERSIONS[1], "empty"]).copied().unwrap_or_default();
    if dice.chance(85) { dice.pick(&versions).copied().unwrap_or(any).to_owned() } else { any.to_owned() }
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

/// Mostly an object that exists.
fn object(dice: &mut dyn Dice, world: &World) -> Oid {
    let there: Vec<Oid> = world.known.oids.iter().copied().collect();
    if dice.chance(75) { dice.pick(&there).copied() } else { None }.unwrap_or_else(|| Oid(dice.roll(OIDS)))
}

/// Mostly the right serial; else a former one, or zero, or a future one.
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
    let blobs: Vec<Oid> = world.known.oids.iter().copied().filter(|oid| oid.0 % 4 == BLOBS).collect();
    let blob = dice.pick(&blobs).copied().filter(|_| world.can().blobs && dice.chance(40));
    let oid = blob.unwrap_or_else(|| object(dice, world));
    let past = world.database.past(oid.0);
    let shares = dice.chance(60);
    // The last one is no revision of the object: a source in a transaction that did not change it here.
    let sources: Vec<_> = past.iter().copied().map(Some).chain([None]).collect();
    let source = if shares { dice.pick(&sources).copied() } else { None };
    let elsewhere = Some(world.last()).filter(|_| source == Some(None));
    let source = source.flatten();
    let same = source.and_then(|at| held(world, at)).filter(|_| dice.chance(80));
    let same = same.map(|node| match node.beside {
        Beside::Blob(_) if dice.chance(50) => Node { beside: Beside::Blob(dice.roll(4) as u8), ..node },
        _ => node,
    });
    let node = same.or_else(|| (!dice.chance(25)).then(|| node(dice, world, oid)));
    let held = world.database.modified_in_version(oid.0);
    let version = if world.can().versions && dice.chance(30) { VERSIONS[0].to_owned() } else { held.to_owned() };
    let newest = past.first().filter(|at| at.revision.version == version).or(source.as_ref());
    let base = match dice.roll(10) {
        _ if version.is_empty() => None,
        0..5 => newest.and_then(|at| at.revision.base).map(Tid),
        5..8 => dice.pick(&past).map(|at| Tid(at.tid())),
        _ => Some(tick(moment(world.last()) + 1)),
    };
    Change::Restore { oid, node, version, source: source.map(|at| Tid(at.tid())).or(elsewhere), base }
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

/// The node that a revision holds, with its blob.
fn held(world: &World, at: vellum_spec::At<'_>) -> Option<Node> {
    Node::of(world.database.data(at)?, world.database.blob(at))
}

/// The blob beside an object's next record. Whether it is a blob depends on the object, as a class does; now and then
/// it is another class's, or comes without its blob.
fn beside(dice: &mut dyn Dice, world: &World, oid: Oid) -> Beside {
    let is_blob = world.can().blobs && dice.chance(if oid.0 % 4 == BLOBS { 90 } else { 3 });
    match dice.roll(if is_blob { 10 } else { 1 }) {
        _ if !is_blob => Beside::Nothing,
        0 => Beside::NoBlob,
        _ => Beside::Blob(dice.roll(4) as u8),
    }
}

/// An object's next record. Whether it is a counter depends on the object, as a class does.
fn node(dice: &mut dyn Dice, world: &World, oid: Oid) -> Node {
    let counter = !oid.0.is_multiple_of(3);
    if dice.chance(12) {
        // The same data as an earlier revision.
        let past = world.database.past(oid.0);
        let data = dice.pick(&past).and_then(|at| held(world, *at));
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
    let number = dice.roll(4) as u8;
    let odd = if world.can().untold && dice.chance(1) { vec![object(dice, world)] } else { vec![] };
    let beside = beside(dice, world, oid);
    if beside != Beside::Nothing && dice.chance(80) {
        // Records of blobs are all alike.
        return Node { counter: true, beside, ..Node::default() };
    }
    Node { counter: counter || beside != Beside::Nothing, number, strong, weak, foreign, odd, beside }
}
