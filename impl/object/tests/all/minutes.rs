//! Stories to be read, in `snapshots/object@*.snap`: the deeds of several programs with objects, and the results.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Arc;

use vellum_object::{Connection, Database, Error, Generic, Options, PersistentMapping, Ref, Result, Value};
use vellum_pickle::ClassName;
use vellum_storage::{MemoryStorage, Resolvers, SystemClock, Tid};

use crate::node::{FINALIZE, Final, Plain};

/// The minutes of a meeting. Transactions have numbers in place of their times.
struct Minutes {
    text: RefCell<String>,
    tids: RefCell<Vec<Tid>>,
}

impl Minutes {
    fn new() -> Minutes {
        Minutes { text: RefCell::default(), tids: RefCell::default() }
    }

    fn tell(&self, line: impl AsRef<str>) {
        writeln!(self.text.borrow_mut(), "{}", line.as_ref()).unwrap();
    }

    /// Commits, and tells the result.
    fn commit(&self, who: &str, connection: &Connection) {
        match connection.commit() {
            Ok(tid) => {
                self.tids.borrow_mut().push(tid);
                self.tell(format!("{who} commits: transaction {}", self.tids.borrow().len()));
            }
            Err(error) => {
                assert!(error.is_conflict(), "{error}");
                self.tell(format!("{who} commits: a conflict"));
            }
        }
    }

    /// The value of a key in the root.
    fn looks(&self, who: &str, connection: &Connection, key: &str) {
        let root = connection.root::<PersistentMapping>();
        let state = if root.is_loaded() { "" } else { " (a ghost, which is loaded)" };
        let view = root.view().unwrap();
        let text = view.get(key).map_or("nothing".to_owned(), |value| format!("{:?}", value.as_text().unwrap()));
        self.tell(format!("{who} looks at `{key}` of the root{state}: {text}"));
    }

    fn changes(&self, who: &str, connection: &Connection, key: &str, text: &str) {
        connection.root::<PersistentMapping>().change(|root| root.insert(key, text)).unwrap();
        self.tell(format!("{who} sets `{key}` to {text:?}"));
    }

    fn end(self, name: &str) {
        let text = self.text.into_inner();
        insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("object@{name}"), text);
        });
    }
}

#[test]
fn two_connections() {
    let minutes = Minutes::new();
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let (ann, bob) = (database.connect().unwrap(), database.connect().unwrap());
    minutes.changes("ann", &ann, "greeting", "hello");
    minutes.looks("ann", &ann, "greeting");
    minutes.looks("bob", &bob, "greeting");
    minutes.commit("ann", &ann);
    minutes.looks("bob", &bob, "greeting");
    bob.begin().unwrap();
    minutes.tell("bob begins");
    minutes.looks("bob", &bob, "greeting");

    minutes.tell("");
    minutes.changes("ann", &ann, "greeting", "good morning");
    let savepoint = ann.savepoint().unwrap();
    minutes.tell("ann makes a savepoint");
    minutes.changes("ann", &ann, "greeting", "good night");
    minutes.looks("ann", &ann, "greeting");
    ann.rollback(&savepoint).unwrap();
    minutes.tell("ann goes back to the savepoint");
    minutes.looks("ann", &ann, "greeting");
    ann.minimize();
    minutes.tell("memory is short: ann's connection makes ghosts of all that are not changed");
    minutes.looks("ann", &ann, "greeting");
    bob.minimize();
    minutes.tell("bob's, too");
    minutes.looks("bob", &bob, "greeting");
    minutes.commit("ann", &ann);
    bob.begin().unwrap();
    minutes.tell("bob begins");
    minutes.looks("bob", &bob, "greeting");

    minutes.tell("");
    let first = minutes.tids.borrow()[0];
    let past = database.connect_at(first).unwrap();
    minutes.tell("eve opens a connection to transaction 1");
    minutes.looks("eve", &past, "greeting");
    let refused = past.root::<PersistentMapping>().change(|root| root.insert("greeting", "boo")).unwrap_err();
    minutes.tell(format!("eve changes it: {}", refused.to_string().replace(&first.to_string(), "transaction 1")));
    minutes.end("two-connections");
}

fn counter(connection: &Connection) -> Ref<Generic> {
    let root = connection.root::<PersistentMapping>().view().unwrap();
    root.get("counter").and_then(Value::as_reference).unwrap()
}

fn count(minutes: &Minutes, who: &str, connection: &Connection, by: i64) {
    let counts = counter(connection).change(|counter| {
        if let Value::Int(number) = counter.state_mut() {
            *number += by;
        }
    });
    counts.unwrap();
    minutes.tell(format!("{who} counts {by:+}, and sees {:?}", counter(connection).view().unwrap().state()));
}

#[test]
fn a_conflict_that_is_merged() {
    let minutes = Minutes::new();
    let storage = MemoryStorage::with("memory", Arc::new(SystemClock), Arc::new(Resolvers::built_in()));
    let database = Database::with(Arc::new(storage), Options::default()).unwrap();
    let (ann, bob) = (database.connect().unwrap(), database.connect().unwrap());
    let class = ClassName { module: "BTrees.Length".to_owned(), name: "Length".to_owned() };
    let made = ann.make(Generic::new(class, Value::Int(10)));
    ann.root::<PersistentMapping>().change(|root| root.insert("counter", &made)).unwrap();
    minutes.tell("ann makes a BTrees.Length.Length of 10");
    minutes.commit("ann", &ann);
    bob.begin().unwrap();
    minutes.tell("bob begins");
    count(&minutes, "ann", &ann, 5);
    count(&minutes, "bob", &bob, 3);
    minutes.commit("ann", &ann);
    minutes.commit("bob", &bob);
    minutes.tell(format!("bob sees {:?}: the storage merged both", counter(&bob).view().unwrap().state()));
    ann.begin().unwrap();
    minutes.tell(format!("ann begins, and sees {:?}", counter(&ann).view().unwrap().state()));

    minutes.tell("");
    minutes.changes("ann", &ann, "greeting", "hello");
    minutes.changes("bob", &bob, "greeting", "good day");
    minutes.commit("ann", &ann);
    minutes.commit("bob", &bob);
    minutes.looks("bob", &bob, "greeting");
    bob.abort().unwrap();
    minutes.tell("bob aborts");
    minutes.looks("bob", &bob, "greeting");
    minutes.end("a-conflict-that-is-merged");
}

thread_local! {
    static KEPT: RefCell<Vec<Ref<Final>>> = const { RefCell::new(Vec::new()) };
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn collect(minutes: &Minutes, connection: &Connection) -> Result<(), Error> {
    let done = connection.collect()?;
    TOLD.take().into_iter().for_each(|line| minutes.tell(line));
    minutes.tell(format!(
        "ann collects: {} finalizers ran, {} objects went, {} are in the list; {} are in memory",
        done.finalized,
        done.gone,
        done.stuck,
        connection.known()
    ));
    Ok(())
}

#[test]
fn a_finalizer_that_revives() {
    let minutes = Minutes::new();
    FINALIZE.set(Some(|this| {
        TOLD.with_borrow_mut(|told| told.push(format!("the finalizer of {} keeps it", this.view().unwrap().number)));
        KEPT.with_borrow_mut(|kept| kept.push(this.clone()));
    }));
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let ann = database.connect().unwrap();
    let one = ann.make(Final::new(1, Vec::new()));
    let two = ann.make(Plain::new(2, vec![one.cast()]));
    one.change(|one| one.refers.push(two.clone())).unwrap();
    minutes.tell("ann makes 1, with a finalizer, and 2, without: each refers to the other");
    collect(&minutes, &ann).unwrap();
    drop((one, two));
    minutes.tell("ann lets go of both");
    collect(&minutes, &ann).unwrap();
    minutes.tell(format!(
        "1 is as it was: it refers to {}",
        KEPT.with_borrow(|kept| { kept[0].view().unwrap().refers[0].view().unwrap().number })
    ));
    drop(KEPT.take());
    minutes.tell("the keeper lets go of 1");
    collect(&minutes, &ann).unwrap();

    minutes.tell("");
    let three = ann.make(Final::new(3, Vec::new()));
    let four = ann.make(Final::new(4, vec![three.cast()]));
    three.change(|three| three.refers.push(four.cast())).unwrap();
    drop((three, four));
    minutes.tell("ann makes 3 and 4, both with finalizers, in a cycle, and lets go of both");
    collect(&minutes, &ann).unwrap();
    let stuck = ann.stuck();
    stuck[0].cast::<Final>().change(|node| node.refers.clear()).unwrap();
    drop(stuck);
    minutes.tell(format!("ann breaks the cycle by hand, and clears the list of {}", ann.clear_stuck()));
    collect(&minutes, &ann).unwrap();
    drop(KEPT.take());
    minutes.tell("the keeper lets go of everything");
    collect(&minutes, &ann).unwrap();
    minutes.end("a-finalizer-that-revives");
}
