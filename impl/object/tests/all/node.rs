//! An object for tests: a number, and references.

use std::cell::RefCell;
use std::collections::BTreeMap;

use vellum_object::{
    Attributes, Field, Finalizer, Kept, Persistent, RawRef, Record, Ref, Trouble, Value, attributes_of, record_of,
};

thread_local! {
    /// How many states of each number are in memory.
    static STATES: RefCell<BTreeMap<i64, usize>> = RefCell::default();
    /// The deeds of the finalizers of this thread.
    pub static FINALIZE: RefCell<Option<Finalizer<Final>>> = const { RefCell::new(None) };
}

/// Whether the state of an object is in memory.
pub fn in_memory(number: i64) -> bool {
    STATES.with_borrow(|states| states.get(&number).is_some_and(|count| *count > 0))
}

/// Counts states that come and go.
#[derive(Debug)]
struct Counted(i64);

impl Counted {
    fn new(number: i64) -> Counted {
        STATES.with_borrow_mut(|states| *states.entry(number).or_default() += 1);
        Counted(number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = STATES.try_with(|states| *states.borrow_mut().entry(self.0).or_default() -= 1);
    }
}

/// An object with a number and references, with a finalizer or without.
#[derive(Debug)]
pub struct Node<const FINAL: bool> {
    pub number: i64,
    pub refers: Vec<Ref<Plain>>,
    _counted: Counted,
}

pub type Plain = Node<false>;
pub type Final = Node<true>;

impl<const FINAL: bool> Node<FINAL> {
    pub fn new(number: i64, refers: Vec<Ref<Plain>>) -> Self {
        Node { number, refers, _counted: Counted::new(number) }
    }
}

impl<const FINAL: bool> Persistent for Node<FINAL> {
    const CLASS: (&'static str, &'static str) = if FINAL { ("test", "Final") } else { ("test", "Plain") };

    const FINALIZER: Option<Finalizer<Self>> = if FINAL { Some(run) } else { None };

    fn load(record: Record) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        let Attributes { mut named, mut kept } = attributes_of(record, Self::CLASS)?;
        let odd = |value: Value| Trouble::Field { field: "number", expected: "int", found: value.kind() };
        let number = i64::from_value(named.take("number").unwrap_or(Value::None)).map_err(odd)?;
        let refers = Vec::from_value(named.take("refers").unwrap_or(Value::List(Vec::new()))).map_err(odd)?;
        kept.attributes = named.rest();
        Ok((Node::new(number, refers), kept.boxed()))
    }

    fn save(&self, kept: Option<&Kept>) -> Record {
        record_of(Self::CLASS, vec![("number", self.number.into()), ("refers", self.refers.to_value())], kept)
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        Field::trace(&self.refers, visit);
    }

    fn bytes(&self) -> usize {
        Field::bytes(&self.refers)
    }
}

/// The number of an object of either type.
pub fn number(of: &Ref<Plain>) -> i64 {
    match of.view() {
        Ok(node) => node.number,
        Err(_) => of.cast::<Final>().view().unwrap().number,
    }
}

fn run<const FINAL: bool>(this: &Ref<Node<FINAL>>) {
    if let Some(finalize) = FINALIZE.with_borrow(|finalize| *finalize) {
        finalize(&this.cast());
    }
}
