//! The collector against rules 7.8 to 7.12, on random heaps.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use vellum_object::{Connection, Database, Error, Options, Ref, View};
use vellum_spec::{Heap, Id, Memory, Node as Spec};
use vellum_storage::{MemoryStorage, Oid};

use crate::node::{FINALIZE, Final, Node, Plain, in_memory, number};

/// The deed of a finalizer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Nothing,
    /// Keeps its object.
    Keep,
    /// Keeps an object that its own refers to.
    KeepOther,
    /// Lets its object refer to nothing.
    Clear,
    /// Makes an object with a finalizer, and lets its own refer to it.
    Make,
    /// Lets an object that its own refers to refer back to it.
    Link,
    /// Lets an object that its own refers to refer to nothing.
    Cut,
    /// Lets go of all objects that the program holds.
    Release,
    /// Keeps a view of its object.
    Watch,
    /// Drops all views.
    Unwatch,
    Panic,
    /// Tries to end the transaction.
    Commit,
}

/// How an object begins.
#[derive(Clone, Debug)]
struct Start {
    memory: Memory,
    held: bool,
    pinned: bool,
    finalizer: Option<Act>,
    refers: Vec<usize>,
}

fn start() -> impl Strategy<Value = Start> {
    let memory = prop_oneof![
        1 => Just(Memory::Ghost), 1 => Just(Memory::Loaded), 1 => Just(Memory::Changed),
        8 => Just(Memory::New), 1 => Just(Memory::Added)
    ];
    let act = prop_oneof![
        Just(Act::Nothing),
        Just(Act::Keep),
        Just(Act::KeepOther),
        Just(Act::Clear),
        Just(Act::Make),
        Just(Act::Link),
        Just(Act::Cut),
        Just(Act::Release),
        Just(Act::Watch),
        Just(Act::Unwatch),
        Just(Act::Panic),
        Just(Act::Commit)
    ];
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.05));
    let refers = prop::collection::vec(0..12_usize, 0..3);
    (memory, flags, prop::option::weighted(0.4, act), refers).prop_map(|(memory, (held, pinned), finalizer, refers)| {
        Start { memory, held, pinned: pinned && memory != Memory::Ghost, finalizer, refers }
    })
}

/// The program of the engine's side, which finalizers work with.
#[derive(Default)]
struct Program {
    connection: Option<Rc<Connection>>,
    acts: BTreeMap<i64, Act>,
    held: BTreeMap<i64, Ref<Plain>>,
    views: Vec<View<Final>>,
    ran: Vec<i64>,
    next: i64,
}

thread_local! {
    static PROGRAM: RefCell<Program> = RefCell::default();
}

fn finalize(this: &Ref<Final>) {
    let number = this.view().unwrap().number;
    let (act, connection) = PROGRAM.with_borrow_mut(|program| {
        program.ran.push(number);
        (program.acts.get(&number).copied().unwrap_or(Act::Nothing), program.connection.clone().unwrap())
    });
    match act {
        Act::Nothing => {}
        Act::Keep => PROGRAM.with_borrow_mut(|program| drop(program.held.insert(number, this.cast()))),
        Act::KeepOther => {
            let other = this.view().unwrap().refers.first().cloned();
            if let Some(other) = other {
                let number = super::node::number(&other);
                PROGRAM.with_borrow_mut(|program| drop(program.held.insert(number, other)));
            }
        }
        Act::Clear => this.change(|node| node.refers.clear()).unwrap(),
        Act::Make => {
            let number = PROGRAM.with_borrow_mut(|program| {
                program.next += 1;
                program.next - 1
            });
            let made = connection.make(Final::new(number, Vec::new())).cast();
            this.change(|node| node.refers.push(made)).unwrap();
        }
        Act::Link | Act::Cut => {
            let other = this.view().unwrap().refers.first().cloned();
            let back: Ref<Plain> = this.cast();
            let deed = |refers: &mut Vec<Ref<Plain>>| if act == Act::Link { refers.push(back) } else { refers.clear() };
            if let Some(other) = other {
                match other.view().map(drop) {
                    Ok(()) => other.change(|node| deed(&mut node.refers)).unwrap(),
                    Err(_) => other.cast::<Final>().change(|node| deed(&mut node.refers)).unwrap(),
                }
            }
        }
        Act::Release => drop(PROGRAM.with_borrow_mut(|program| std::mem::take(&mut program.held))),
        Act::Watch => {
            let view = this.view().unwrap();
            PROGRAM.with_borrow_mut(|program| program.views.push(view));
        }
        Act::Unwatch => drop(PROGRAM.with_borrow_mut(|program| std::mem::take(&mut program.views))),
        Act::Panic => panic!("a finalizer panics"),
        Act::Commit => {
            assert!(matches!(connection.commit(), Err(Error::InFinalizer)));
            assert!(matches!(connection.abort(), Err(Error::InFinalizer)));
            assert!(matches!(connection.collect(), Err(Error::InFinalizer)));
        }
    }
}

/// Loads a ghost of the specification. The references of one that is loaded are to ghosts, if those objects are not in
/// memory.
fn load(heap: &mut Heap, id: Id, base: &Heap) {
    let Some(node) = heap.nodes.get_mut(&id).filter(|node| node.memory == Memory::Ghost) else { return };
    node.memory = Memory::Loaded;
    for to in node.refers.clone() {
        let ghost = Spec { memory: Memory::Ghost, held: false, watched: false, ..base.nodes[&to].clone() };
        heap.nodes.entry(to).or_insert(ghost);
    }
}

/// The same on the specification's side. `base` has the references of ghosts.
fn act(heap: &mut Heap, id: Id, (acts, base): (&BTreeMap<i64, Act>, &Heap), next: &mut Id, ran: &mut Vec<i64>) {
    ran.push(id as i64);
    let refers = heap.nodes[&id].refers.clone();
    let node = |heap: &mut Heap, id: Id, work: &dyn Fn(&mut Spec)| heap.nodes.get_mut(&id).map(work);
    match acts.get(&(id as i64)) {
        Some(Act::Keep) => {
            node(heap, id, &|node| node.held = true);
        }
        Some(Act::KeepOther) => {
            let Some(other) = refers.first().copied() else { return };
            node(heap, other, &|node| node.held = true);
            load(heap, other, base);
        }
        Some(Act::Clear) => {
            node(heap, id, &|node| node.refers.clear());
        }
        Some(Act::Make) => {
            let made = Spec { memory: Memory::New, held: false, watched: false, refers: Vec::new(), finalizer: true };
            heap.nodes.insert(*next, made);
            let made = *next;
            node(heap, id, &|node| node.refers.push(made));
            *next += 1;
        }
        Some(deed @ (Act::Link | Act::Cut)) => {
            let Some(other) = refers.first().copied() else { return };
            load(heap, other, base);
            node(heap, other, &|node| {
                if *deed == Act::Link {
                    node.refers.push(id);
                } else {
                    node.refers.clear();
                }
                if node.memory == Memory::Loaded {
                    node.memory = Memory::Changed;
                }
            });
        }
        Some(Act::Release) => heap.nodes.values_mut().for_each(|node| node.held = false),
        Some(Act::Watch) => {
            node(heap, id, &|node| node.watched = true);
        }
        Some(Act::Unwatch) => unwatch(heap, base),
        _ => {}
    }
}

/// Drops the views of the specification. Pinned objects stay pinned.
fn unwatch(heap: &mut Heap, base: &Heap) {
    for (id, node) in &mut heap.nodes {
        node.watched = base.nodes.get(id).is_some_and(|node| node.watched);
    }
}

/// Makes the same objects on both sides.
fn begin(starts: &[Start]) -> (Rc<Connection>, Heap, BTreeMap<i64, Oid>) {
    // No pool, so that no state of one case is in memory in the next.
    let options = Options { pool_max: 0, ..Options::default() };
    let database = Database::with(Arc::new(MemoryStorage::new("memory")), options).unwrap();
    let connection = Rc::new(database.connect().unwrap());
    let is_stored = |memory: Memory| !matches!(memory, Memory::New | Memory::Added);
    let made: Vec<Ref<Plain>> = starts
        .iter()
        .enumerate()
        .filter(|(_, start)| is_stored(start.memory))
        .map(|(n, _)| connection.make(Plain::new(n as i64, Vec::new())))
        .collect();
    let mut handles: BTreeMap<usize, Ref<Plain>> = BTreeMap::new();
    let stored: Vec<usize> = (0..starts.len()).filter(|n| is_stored(starts[*n].memory)).collect();
    stored.iter().zip(&made).for_each(|(n, handle)| drop(handles.insert(*n, handle.clone())));
    // The references among stored objects. A ghost's are stored, too.
    let mut spec = Heap::default();
    for n in 0..starts.len() {
        let to = starts[n].refers.iter().map(|to| to % starts.len());
        let refers: Vec<usize> = match starts[n].memory {
            Memory::Ghost | Memory::Loaded => to.filter(|to| is_stored(starts[*to].memory)).collect(),
            _ => to.collect(),
        };
        let Start { memory, held, pinned, finalizer, .. } = starts[n];
        let node = Spec {
            memory,
            held,
            watched: pinned,
            refers: refers.iter().map(|to| *to as Id).collect(),
            finalizer: finalizer.is_some() && !is_stored(memory),
        };
        spec.nodes.insert(n as Id, node);
    }
    for n in &stored {
        let refers = spec.nodes[&(*n as Id)].refers.iter().filter_map(|to| handles.get(&(*to as usize)).cloned());
        let refers: Vec<_> = refers.collect();
        handles[n].change(|node| node.refers = refers).unwrap();
        connection.add(&handles[n]).unwrap();
    }
    connection.commit().unwrap();
    connection.minimize();
    for n in 0..starts.len() {
        match starts[n].memory {
            Memory::Ghost => {}
            Memory::Loaded | Memory::Changed => drop(handles[&n].view().unwrap()),
            Memory::New | Memory::Added => {
                let handle = match starts[n].finalizer {
                    Some(_) => connection.make(Final::new(n as i64, Vec::new())).cast(),
                    None => connection.make(Plain::new(n as i64, Vec::new())),
                };
                handles.insert(n, handle);
            }
        }
    }
    link(&connection, starts, &spec, &handles);
    let oids = stored.iter().map(|n| (*n as i64, handles[n].oid().unwrap())).collect();
    let held = handles.into_iter().filter(|(n, _)| starts[*n].held).map(|(n, handle)| (n as i64, handle)).collect();
    let acts = starts.iter().enumerate().filter_map(|(n, start)| Some((n as i64, start.finalizer?))).collect();
    PROGRAM.set(Program {
        connection: Some(Rc::clone(&connection)),
        acts,
        held,
        views: Vec::new(),
        ran: Vec::new(),
        next: starts.len() as i64,
    });
    (connection, spec, oids)
}

/// The references of changed and new objects, and their other properties.
fn link(connection: &Connection, starts: &[Start], spec: &Heap, handles: &BTreeMap<usize, Ref<Plain>>) {
    for (n, start) in starts.iter().enumerate() {
        let refers: Vec<_> = spec.nodes[&(n as Id)].refers.iter().map(|to| handles[&(*to as usize)].clone()).collect();
        let set = |node: &mut Vec<Ref<Plain>>| *node = refers;
        match (start.memory, start.finalizer) {
            (Memory::Ghost | Memory::Loaded, _) => {}
            (Memory::New | Memory::Added, Some(_)) => {
                handles[&n].cast::<Final>().change(|node| set(&mut node.refers)).unwrap()
            }
            _ => handles[&n].change(|node| set(&mut node.refers)).unwrap(),
        }
        if start.memory == Memory::Added {
            connection.add(&handles[&n]).unwrap();
        }
        if start.pinned {
            handles[&n].pin(true).unwrap();
        }
    }
}

fn compare(connection: &Connection, spec: &Heap, oids: &BTreeMap<i64, Oid>, numbers: i64) -> Result<(), TestCaseError> {
    for number in 0..numbers {
        let node = spec.nodes.get(&(number as Id));
        let loaded = node.is_some_and(|node| node.memory != Memory::Ghost);
        prop_assert_eq!(in_memory(number), loaded, "the state of {}: {:?}", number, node);
        if let Some(oid) = oids.get(&number) {
            prop_assert_eq!(connection.knows(*oid), node.is_some(), "the object {}", number);
        }
    }
    let stuck: BTreeSet<Id> = connection.stuck().iter().map(|object| number(&object.cast()) as Id).collect();
    prop_assert_eq!(&stuck, &spec.stuck);
    Ok(())
}

fn heaps(starts: &[Start]) -> Result<(), TestCaseError> {
    FINALIZE.set(Some(finalize));
    let (connection, mut spec, oids) = begin(starts);
    let acts = PROGRAM.with_borrow(|program| program.acts.clone());
    let base = spec.clone();
    let (mut next, mut ran) = (starts.len() as Id, Vec::new());
    for round in 0..3 {
        let done = connection.collect().unwrap();
        spec.collect(&mut |heap, id| act(heap, id, (&acts, &base), &mut next, &mut ran));
        prop_assert_eq!(PROGRAM.with_borrow(|program| program.ran.clone()), ran.clone(), "round {}: finalizers", round);
        compare(&connection, &spec, &oids, next as i64)?;
        let panics = ran.iter().filter(|number| acts.get(number) == Some(&Act::Panic)).count();
        prop_assert!(done.panics.len() <= panics);
        // The program lets go of half of what it holds, and then of everything.
        let keep = |number: i64| round == 0 && number % 2 == 0;
        let held = PROGRAM.with_borrow_mut(|program| std::mem::take(&mut program.held));
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = held.into_iter().partition(|(number, _)| keep(*number));
        PROGRAM.with_borrow_mut(|program| program.held = kept);
        drop(gone);
        spec.nodes.iter_mut().for_each(|(id, node)| node.held &= keep(*id as i64));
        if round == 1 {
            PROGRAM.with_borrow_mut(|program| std::mem::take(&mut program.views)).clear();
            unwatch(&mut spec, &base);
        }
        if round == 1 {
            connection.clear_stuck();
            spec.stuck.clear();
        }
    }
    let views = PROGRAM.with_borrow_mut(|program| std::mem::take(&mut program.views));
    drop(views);
    // The end of the connection runs no finalizers.
    FINALIZE.set(None);
    PROGRAM.with_borrow_mut(|program| drop(program.connection.take()));
    Ok(())
}

/// Keeps the panics of finalizers out of the output.
fn hush() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&"a finalizer panics") {
                before(panic);
            }
        }));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Rules 7.8 to 7.12: the same objects go, stay and become ghosts, and the same finalizers run in the same order.
    #[test]
    fn the_collector_does_what_the_rules_say(starts in prop::collection::vec(start(), 1..12)) {
        hush();
        let result = heaps(&starts);
        let program = PROGRAM.take();
        drop(program);
        result?;
    }
}

#[test]
fn a_long_chain_and_a_large_cycle_go() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let first = connection.make(Plain::new(-1, Vec::new()));
    let mut last = first.clone();
    for _ in 0..200_000 {
        last = connection.make(Node::new(-1, vec![last]));
    }
    assert_eq!(connection.collect().unwrap().gone, 0);
    first.change(|node| node.refers.push(last.clone())).unwrap();
    drop((first, last));
    assert_eq!(connection.known(), 200_001);
    assert_eq!(connection.collect().unwrap().gone, 200_001);
    assert_eq!(connection.known(), 0);
}

/// Each finalizer does little, and the heap is large: the search for garbage must not begin again after each.
#[test]
fn ten_thousand_finalizers_run_in_their_order() {
    const FINALIZERS: i64 = 10_000;
    thread_local! {
        static RAN: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    }
    FINALIZE.set(Some(|this| {
        let number = this.view().unwrap().number;
        RAN.with_borrow_mut(|ran| ran.push(number));
        // Half of them change their object.
        if number % 2 == 0 {
            this.change(|node| node.refers.clear()).unwrap();
        }
    }));
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    // Each is in a cycle with an object without a finalizer, and refers to the one before.
    let mut last: Option<Ref<Plain>> = None;
    for number in 0..FINALIZERS {
        let mate = connection.make(Plain::new(-1, last.clone().into_iter().collect()));
        let made = connection.make(Final::new(number, vec![mate.clone()]));
        mate.change(|mate| mate.refers.push(made.cast())).unwrap();
        last = Some(made.cast());
    }
    drop(last);
    let started = std::time::Instant::now();
    let done = connection.collect().unwrap();
    println!("{FINALIZERS} finalizers: {:.3} s", started.elapsed().as_secs_f64());
    assert_eq!((done.finalized, done.gone), (FINALIZERS as usize, 2 * FINALIZERS as usize));
    assert_eq!(connection.known(), 0);
    // The last one is in no object of another cycle.
    let ran = RAN.take();
    assert!(ran.iter().rev().copied().eq(0..FINALIZERS), "{:?}", &ran[..10]);
}
