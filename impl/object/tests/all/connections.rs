//! Several connections against a plain model: a list of commits, and for each connection a moment and its changes.

use std::sync::Arc;

use proptest::prelude::*;
use vellum_object::{Connection, Database, Error, Field, Generic, Options, Ref, Savepoint};
use vellum_pickle::{Part, Piece, Record, Value as Plainly, View as Show, encode_record};
use vellum_spec::{Begin, Change, Database as Spec, View};
use vellum_storage::{Bytes, Contested, MemoryStorage, Oid, Resolver, SystemClock, Tid};

use crate::node::Plain;

const OBJECTS: usize = 5;
const CONNECTIONS: usize = 3;

/// Two changes of the number add up, if the references are those of the committed record.
#[derive(Debug)]
struct Adding;

fn parts<'r>(record: &'r Record<'_>) -> Option<(i64, Part<'r>)> {
    let Show::Dict(pairs) = record.state().view() else { return None };
    match pairs.as_slice() {
        [(_, number), (_, refers)] => match number.view() {
            Show::Int(number) => Some((number, *refers)),
            _ => None,
        },
        _ => None,
    }
}

/// The oids that a list of references names.
fn links(part: Part<'_>) -> Option<Vec<u64>> {
    let Show::List(items) = part.view() else { return None };
    let oid = |item: Part<'_>| match item.view() {
        Show::Reference(vellum_pickle::Reference::Strong { oid, .. }) => Some(oid),
        _ => None,
    };
    items.iter().map(oid).collect()
}

impl Resolver for Adding {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        let read = |record| Record::read(record).ok();
        let (old, committed, new) = (read(contested.ancestor)?, read(contested.committed)?, read(contested.new)?);
        let ((old, before), (one, a), (two, b)) = (parts(&old)?, parts(&committed)?, parts(&new)?);
        let (before, a_links, b_links) = (links(before)?, links(a)?, links(b)?);
        if before != a_links || before != b_links {
            return None;
        }
        let text = |text: &str| Piece::Value(Plainly::Text(text.to_owned()));
        let number = Piece::Value(Plainly::Int(one + two - old));
        let state = Piece::Dict(vec![(text("number"), number), (text("refers"), Piece::Part(a))]);
        encode_record(&Piece::Part(committed.class()), &state, 3).ok().map(Bytes::from)
    }
}

/// The model's state of an object: its number, and the oids that it refers to.
fn state(number: i64, refers: &[u64]) -> Vec<u8> {
    format!("{number} {refers:?}").into_bytes()
}

fn number_in(state: &[u8]) -> (i64, String) {
    let text = String::from_utf8(state.to_vec()).unwrap();
    let (number, refers) = text.split_once(' ').unwrap();
    (number.parse().unwrap(), refers.to_owned())
}

fn merge(contested: vellum_spec::Contested<'_>) -> Option<Vec<u8>> {
    let (old, before) = number_in(contested.ancestor);
    let ((one, a), (two, b)) = (number_in(contested.committed), number_in(contested.new));
    (before == a && before == b).then(|| format!("{} {a}", one + two - old).into_bytes())
}

#[derive(Clone, Debug)]
enum Op {
    Add(usize, i64),
    Link(usize, usize),
    Unlink(usize),
    ReadCurrent(usize),
    /// Makes an object, and lets another one refer to it.
    Make(usize, i64),
    /// Changes the object as values, without a struct.
    AsValues(usize, i64),
    /// Makes an object that is stored only since another one refers to it: by a commit, or by a savepoint.
    Grow(usize, i64, bool),
    /// Pins an object while memory is short.
    Pin(usize),
    /// Keeps a view of an object while memory is short, and tries to change it.
    Watch(usize),
    Begin,
    Commit,
    Abort,
    Savepoint,
    Rollback(usize),
    Minimize,
    Collect,
    /// Closes the connection, and takes one from the pool.
    Reopen,
}

fn op() -> impl Strategy<Value = (usize, Op)> {
    let object = || 0..OBJECTS + 3;
    let op = prop_oneof![
        6 => (object(), 1..50_i64).prop_map(|(object, by)| Op::Add(object, by)),
        2 => (object(), object()).prop_map(|(object, to)| Op::Link(object, to)),
        1 => object().prop_map(Op::Unlink),
        2 => object().prop_map(Op::ReadCurrent),
        2 => (object(), 0..50_i64).prop_map(|(object, number)| Op::Make(object, number)),
        1 => (object(), 1..50_i64).prop_map(|(object, by)| Op::AsValues(object, by)),
        2 => (object(), 0..50_i64, any::<bool>()).prop_map(|(object, number, ends)| Op::Grow(object, number, ends)),
        1 => object().prop_map(Op::Pin),
        1 => object().prop_map(Op::Watch),
        2 => Just(Op::Begin),
        6 => Just(Op::Commit),
        2 => Just(Op::Abort),
        2 => Just(Op::Savepoint),
        2 => (0..3_usize).prop_map(Op::Rollback),
        1 => Just(Op::Minimize),
        1 => Just(Op::Collect),
        1 => Just(Op::Reopen),
    ];
    (0..CONNECTIONS, op)
}

/// One connection, and the model of it.
struct Side {
    connection: Option<Connection>,
    view: View,
    savepoints: Vec<(Savepoint, View)>,
}

struct Game {
    database: Database,
    spec: Spec,
    sides: Vec<Side>,
    oids: Vec<u64>,
}

impl Game {
    fn new(bytes_max: u64) -> Game {
        let storage = MemoryStorage::with("memory", Arc::new(SystemClock), Arc::new(Adding));
        let options = Options { bytes_max, ..Options::default() };
        let database = Database::with(Arc::new(storage), options).unwrap();
        let mut game = Game { database, spec: Spec::default(), sides: Vec::new(), oids: Vec::new() };
        let connection = game.database.connect().unwrap();
        for _ in 0..OBJECTS {
            let object = connection.make(Plain::new(-2, Vec::new()));
            game.oids.push(connection.add(&object).unwrap().0);
            object.change(|node| node.number = 0).unwrap();
        }
        let tid = connection.commit().unwrap();
        let store: Vec<Change> = game.oids.iter().map(|oid| Change::store(*oid, 0, &state(0, &[]))).collect();
        game.spec = game.spec.commit(Begin::at(tid.0), &store, &merge).unwrap().0;
        drop(connection);
        for _ in 0..CONNECTIONS {
            let connection = Some(game.database.connect().unwrap());
            game.sides.push(Side { connection, view: View::of(&game.spec), savepoints: Vec::new() });
        }
        game
    }

    /// The model's state of an object.
    fn shown(&self, side: usize, oid: u64) -> Option<(i64, Vec<u64>)> {
        let (_, state) = self.sides[side].view.show(&self.spec, oid)?;
        let (number, refers) = number_in(state);
        let refers = refers.trim_matches(['[', ']']).split(", ").filter(|oid| !oid.is_empty());
        Some((number, refers.map(|oid| oid.parse().unwrap()).collect()))
    }

    fn set(&mut self, side: usize, oid: u64, (number, refers): (i64, Vec<u64>)) {
        let spec = self.spec.clone();
        self.sides[side].view.change(&spec, oid, state(number, &refers));
    }

    fn play(&mut self, side: usize, op: &Op) -> Result<(), TestCaseError> {
        let taken = self.sides[side].connection.take().unwrap();
        let result = self.play_on(side, &taken, op);
        if matches!(op, Op::Reopen) {
            drop(taken);
            self.sides[side].connection = Some(self.database.connect().unwrap());
            self.sides[side].view = View::of(&self.spec);
            self.sides[side].savepoints.clear();
        } else {
            self.sides[side].connection = Some(taken);
        }
        result
    }

    fn play_on(&mut self, side: usize, connection: &Connection, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Add(..) | Op::Link(..) | Op::Unlink(..) | Op::Make(..) | Op::AsValues(..) | Op::ReadCurrent(_) => {
                self.change(side, connection, op)?;
            }
            Op::Grow(on, number, ends) => self.grow(side, connection, (on, number, ends))?,
            Op::Pin(n) | Op::Watch(n) => {
                let oid = self.oids[n % self.oids.len()];
                if self.shown(side, oid).is_none() {
                    return Ok(());
                }
                let object: Ref<Plain> = connection.get(Oid(oid));
                let view = object.view().unwrap();
                let view = if matches!(op, Op::Watch(_)) { Some(view) } else { None };
                object.pin(view.is_none()).unwrap();
                connection.minimize();
                connection.collect().unwrap();
                prop_assert!(object.is_loaded(), "{} was pinned, or looked at", oid);
                if view.is_some() {
                    prop_assert!(matches!(object.change(|_| ()), Err(Error::InUse { .. })), "a change within a view");
                }
                object.pin(false).unwrap();
            }
            Op::Begin | Op::Abort => {
                if matches!(op, Op::Begin) { connection.begin() } else { connection.abort() }.unwrap();
                self.sides[side].view = self.sides[side].view.abort(&self.spec);
                self.sides[side].savepoints.clear();
            }
            Op::Commit => self.commit(side, connection)?,
            Op::Savepoint => {
                let savepoint = connection.savepoint().unwrap();
                let view = self.sides[side].view.clone();
                self.sides[side].savepoints.push((savepoint, view));
            }
            Op::Rollback(back) => {
                let side = &mut self.sides[side];
                if side.savepoints.is_empty() {
                    return Ok(());
                }
                let at = side.savepoints.len().saturating_sub(1 + back);
                connection.rollback(&side.savepoints[at].0).unwrap();
                side.view = side.view.rollback(&side.savepoints[at].1);
                // Later ones are void.
                for (void, _) in side.savepoints.split_off(at + 1) {
                    prop_assert!(connection.rollback(&void).is_err());
                }
            }
            Op::Minimize => connection.minimize(),
            Op::Collect => drop(connection.collect().unwrap()),
            Op::Reopen => {}
        }
        Ok(())
    }

    fn change(&mut self, side: usize, connection: &Connection, op: &Op) -> Result<(), TestCaseError> {
        let oid = |n: usize| self.oids[n % self.oids.len()];
        let on = match *op {
            Op::Add(n, _) | Op::Link(n, _) | Op::Unlink(n) | Op::ReadCurrent(n) => oid(n),
            Op::Make(n, _) | Op::AsValues(n, _) => oid(n),
            _ => return Ok(()),
        };
        // An object that another connection made does not exist for this one yet.
        let Some((number, mut refers)) = self.shown(side, on) else { return Ok(()) };
        let object: Ref<Plain> = connection.get(Oid(on));
        match *op {
            Op::Add(_, by) => {
                object.change(|node| node.number += by).unwrap();
                self.set(side, on, (number + by, refers));
            }
            Op::AsValues(_, by) => {
                let object = object.cast::<Generic>();
                object.change(|node| node.set_attribute("number", (number + by).to_value())).unwrap();
                self.set(side, on, (number + by, refers));
            }
            Op::Link(_, to) => {
                let to = oid(to);
                if self.shown(side, to).is_none() {
                    return Ok(());
                }
                object.change(|node| node.refers = vec![connection.get(Oid(to))]).unwrap();
                self.set(side, on, (number, vec![to]));
            }
            Op::Unlink(_) => {
                object.change(|node| node.refers.clear()).unwrap();
                self.set(side, on, (number, Vec::new()));
            }
            Op::Make(_, new) => {
                let made = connection.make(Plain::new(-2, Vec::new()));
                made.change(|node| node.number = new).unwrap();
                let new_oid = connection.add(&made).unwrap().0;
                object.change(|node| node.refers.push(made)).unwrap();
                refers.push(new_oid);
                self.oids.push(new_oid);
                self.set(side, new_oid, (new, Vec::new()));
                self.set(side, on, (number, refers));
            }
            Op::ReadCurrent(_) => {
                connection.read_current(&object).unwrap();
                let spec = self.spec.clone();
                self.sides[side].view.read_current(&spec, on);
            }
            _ => {}
        }
        Ok(())
    }

    /// Rules 7.4 and 7.6: a new object gets an oid by a commit or a savepoint, if an object refers to it that is stored
    /// then.
    fn grow(&mut self, side: usize, connection: &Connection, op: (usize, i64, bool)) -> Result<(), TestCaseError> {
        let (on, new, ends) = (self.oids[op.0 % self.oids.len()], op.1, op.2);
        let Some((number, mut refers)) = self.shown(side, on) else { return Ok(()) };
        let object: Ref<Plain> = connection.get(Oid(on));
        let (made, between) =
            (connection.make(Plain::new(-2, Vec::new())), connection.make(Plain::new(-2, Vec::new())));
        made.change(|node| node.number = new).unwrap();
        between.change(|node| node.refers.push(made.clone())).unwrap();
        object.change(|node| node.refers.push(between.clone())).unwrap();
        prop_assert_eq!((made.oid(), between.oid()), (None, None));
        let done = if ends { Ok(connection.commit()) } else { Err(connection.savepoint().unwrap()) };
        // After a refused commit there are no oids, and no state that both sides could compare.
        let refused = matches!(done, Ok(Err(_)));
        let (made, between) = match (made.oid(), between.oid()) {
            (Some(made), Some(between)) if !refused => (made.0, between.0),
            (None, None) if refused => (u64::MAX - 2, u64::MAX - 1),
            other => panic!("the oids are {other:?}, and refused is {refused}"),
        };
        refers.push(between);
        self.set(side, made, (new, Vec::new()));
        self.set(side, between, (-2, vec![made]));
        self.set(side, on, (number, refers));
        if !refused {
            self.oids.extend([made, between]);
        }
        match done {
            Ok(done) => self.judge(side, done)?,
            Err(savepoint) => {
                let view = self.sides[side].view.clone();
                self.sides[side].savepoints.push((savepoint, view));
            }
        }
        if refused {
            connection.abort().unwrap();
            self.sides[side].view = self.sides[side].view.abort(&self.spec);
            self.sides[side].savepoints.clear();
        }
        Ok(())
    }

    fn commit(&mut self, side: usize, connection: &Connection) -> Result<(), TestCaseError> {
        self.judge(side, connection.commit())
    }

    /// The rules on the result of a commit.
    fn judge(&mut self, side: usize, done: Result<Tid, Error>) -> Result<(), TestCaseError> {
        let before = self.spec.last_transaction();
        // The engine chooses the tid; a refused transaction has none.
        let tid = done.as_ref().map_or(before + 1, |tid| tid.0.max(before + 1));
        match (done, self.sides[side].view.commit(&self.spec, tid, &merge)) {
            (Ok(_), Ok(after)) => {
                self.spec = after;
                self.sides[side].view = View::of(&self.spec);
                self.sides[side].savepoints.clear();
            }
            (Err(error), Err(_)) => prop_assert!(error.is_conflict(), "{}", error),
            (engine, spec) => prop_assert!(false, "the engine says {:?}, and the rules {:?}", engine, spec.map(|_| ())),
        }
        Ok(())
    }

    /// Each connection shows each object as the rules say.
    fn compare(&self) -> Result<(), TestCaseError> {
        for (side, Side { connection, view, .. }) in self.sides.iter().enumerate() {
            let connection = connection.as_ref().unwrap();
            prop_assert_eq!(connection.moment().0, view.moment, "the moment of {}", side);
            prop_assert_eq!(connection.is_changed(), !view.changes.is_empty(), "changes of {}", side);
            for oid in &self.oids {
                let object: Ref<Plain> = connection.get(Oid(*oid));
                let shown = object.view().ok();
                let found = shown.as_ref().map(|node| {
                    let refers = node.refers.iter().map(|to| to.oid().unwrap().0);
                    (node.number, refers.collect::<Vec<_>>())
                });
                prop_assert_eq!(&found, &self.shown(side, *oid), "connection {} shows {}", side, oid);
                // Rule 7.1: another path leads to the same object.
                for to in shown.iter().flat_map(|node| &node.refers) {
                    prop_assert_eq!(to, &connection.get::<Plain>(to.oid().unwrap()));
                }
            }
        }
        Ok(())
    }
}

fn game(bytes_max: u64, ops: &[(usize, Op)]) -> Result<(), TestCaseError> {
    let mut game = Game::new(bytes_max);
    game.compare()?;
    for (side, op) in ops {
        game.play(*side, op)?;
        game.compare()?;
    }
    // The past is as it was.
    for transaction in &game.spec.transactions {
        let connection = game.database.connect_at(Tid(transaction.tid)).unwrap();
        let past = View { moment: transaction.tid, ..View::default() };
        for oid in &game.oids {
            let found = connection.get::<Plain>(Oid(*oid)).view().ok().map(|node| node.number);
            let expected = past.show(&game.spec, *oid).map(|(_, state)| number_in(state).0);
            prop_assert_eq!(found, expected, "{} at {}", oid, transaction.tid);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Rules 7.1 to 7.8, with a budget that evicts at every moment, with one for a few objects, and without one.
    #[test]
    fn connections_show_what_the_rules_say(
        bytes_max in prop_oneof![Just(0_u64), Just(400), Just(u64::MAX)],
        ops in prop::collection::vec(op(), 0..40),
    ) {
        game(bytes_max, &ops)?;
    }
}
