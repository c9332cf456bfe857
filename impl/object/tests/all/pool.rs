//! Connections that end and come back, and what they may hold.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use vellum_object::{Database, Error, Generic, Options, PersistentMapping, Ref, Value};
use vellum_storage::{Event, MemoryStorage, Oid, PackOptions, Storage, Tid, TransactionMeta, Version};

use crate::node::{FINALIZE, Final, Plain};

thread_local! {
    /// The numbers of the objects whose finalizers ran.
    static RAN: RefCell<Vec<i64>> = RefCell::default();
    /// The root that a finalizer changes.
    static ROOT: RefCell<Option<Ref<PersistentMapping>>> = RefCell::default();
}

fn note(this: &Ref<Final>) {
    let number = this.view().unwrap().number;
    RAN.with_borrow_mut(|ran| ran.push(number));
}

fn change_root(_: &Ref<Final>) {
    let root = ROOT.take().unwrap();
    root.change(|root| root.insert("finalized", true)).unwrap();
}

/// A finalizer that runs when a connection ends may change objects. Nobody asked for a commit of that.
#[test]
fn the_changes_of_a_last_finalizer_are_given_up() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    FINALIZE.set(Some(change_root));
    let connection = database.connect().unwrap();
    ROOT.set(Some(connection.root()));
    drop(connection.make(Final::new(1, Vec::new())));
    let last = database.storage().last_transaction();
    drop(connection);
    assert!(ROOT.take().is_none(), "the finalizer did not run");
    let next = database.connect().unwrap();
    assert!(!next.is_changed());
    next.commit().unwrap();
    assert_eq!(database.storage().last_transaction(), last);
    assert_eq!(next.root::<PersistentMapping>().view().unwrap().get("finalized"), None);
}

/// A connection that still has new objects, as those of a cycle with two finalizers, is not given to another user.
#[test]
fn new_objects_that_stay_do_not_come_back_from_the_pool() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    FINALIZE.set(None);
    let connection = database.connect().unwrap();
    let one = connection.make(Final::new(1, Vec::new()));
    let two = connection.make(Final::new(2, vec![one.cast()]));
    one.change(|one| one.refers.push(two.cast())).unwrap();
    drop((one, two, connection));
    let next = database.connect().unwrap();
    assert_eq!((next.stuck().len(), next.loaded().1), (0, 0));
}

/// A pin is the program's, and ends with its connection.
#[test]
fn pins_end_with_the_connection() {
    let options = Options { objects_max: 1, ..Options::default() };
    let database = Database::with(Arc::new(MemoryStorage::new("memory")), options).unwrap();
    let connection = database.connect().unwrap();
    let made = connection.make(Plain::new(1, Vec::new()));
    let oid = connection.add(&made).unwrap();
    connection.commit().unwrap();
    made.pin(true).unwrap();
    drop((made, connection));
    let next = database.connect().unwrap();
    next.root::<PersistentMapping>().view().unwrap();
    next.minimize();
    assert_eq!(next.loaded().1, 0, "object {oid} stays");
}

/// Rule 7.11: a finalizer belongs to the class, so it runs also if the object was looked at as values.
#[test]
fn an_object_that_was_seen_as_values_keeps_its_finalizer() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    FINALIZE.set(Some(note));
    RAN.take();
    let connection = database.connect().unwrap();
    let one = connection.make(Final::new(1, Vec::new()));
    let two = connection.make(Final::new(2, vec![one.cast()]));
    one.change(|one| one.refers.push(two.cast())).unwrap();
    drop((one, two));
    assert_eq!(connection.collect().unwrap().stuck, 2);
    let stuck: Vec<Ref<Generic>> = connection.stuck();
    stuck.iter().for_each(|object| drop(object.view().unwrap()));
    stuck[0].cast::<Final>().change(|node| node.refers.clear()).unwrap();
    drop(stuck);
    connection.clear_stuck();
    let done = connection.collect().unwrap();
    assert_eq!((done.gone, done.finalized), (2, 2));
    RAN.with_borrow_mut(|ran| ran.sort_unstable());
    assert_eq!(RAN.take(), [1, 2]);
}

/// A connection to the past keeps to the budget of memory, too.
#[test]
fn a_connection_to_the_past_has_the_budget() {
    let options = Options { objects_max: 10, ..Options::default() };
    let database = Database::with(Arc::new(MemoryStorage::new("memory")), options).unwrap();
    let connection = database.connect().unwrap();
    let made: Vec<Oid> =
        (0..100).map(|number| connection.add(&connection.make(Plain::new(number, Vec::new()))).unwrap()).collect();
    connection.commit().unwrap();
    let past = database.connect_at(connection.moment()).unwrap();
    for oid in made {
        past.get::<Plain>(oid).view().unwrap();
    }
    assert!(past.loaded().1 <= 11, "{} objects", past.loaded().1);
}

/// Rule 7.6: a connection goes back to its own savepoints only.
#[test]
fn a_savepoint_of_another_connection_is_refused() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let [one, two] = [(); 2].map(|()| database.connect().unwrap());
    let set = |root: &Ref<PersistentMapping>, value: i64| root.change(|root| root.insert("value", value)).unwrap();
    set(&one.root(), 1);
    let of_one = one.savepoint().unwrap();
    set(&two.root(), 1);
    two.savepoint().unwrap();
    set(&two.root(), 2);
    assert!(matches!(two.rollback(&of_one), Err(Error::Savepoint)));
    assert_eq!(two.root::<PersistentMapping>().view().unwrap().get("value"), Some(&Value::from(2)));
}

/// A storage gives an object free before it tells of the commit that changed it. A new try sees that commit.
#[test]
fn a_new_try_after_a_conflict_sees_the_commit_that_it_met() {
    let storage = Arc::new(MemoryStorage::new("memory"));
    // The storage tells one listener after the other, and this one takes its time.
    let slow = storage.listen(Arc::new(|_: &Event| std::thread::sleep(Duration::from_millis(50))));
    let options = Options { tries_max: 3, ..Options::default() };
    let database = Database::with(Arc::clone(&storage) as Arc<dyn Storage>, options).unwrap();
    database.transact(|connection| connection.root::<PersistentMapping>().view().map(|_| ())).unwrap();
    let other = {
        let storage = Arc::clone(&storage);
        move || {
            let root = storage.load(Oid::ROOT, &Version::TRUNK).unwrap();
            let mut draft = storage.begin(TransactionMeta::new()).unwrap();
            draft.store(Oid::ROOT, root.tid, root.data).unwrap();
            storage.commit(draft).unwrap()
        }
    };
    let before: Tid = storage.last_transaction();
    let thread = std::thread::spawn(other);
    while storage.last_transaction() == before {
        std::thread::yield_now();
    }
    let mut tries = 0;
    let done = database.transact(|connection| {
        tries += 1;
        connection.root::<PersistentMapping>().change(|root| root.insert("mine", true)).map(|_| ())
    });
    done.unwrap_or_else(|error| panic!("after {tries} tries: {error}"));
    thread.join().unwrap();
    drop(slow);
}

/// A pack removes revisions that a transaction still sees. A new try sees the ones that took their place.
#[test]
fn a_new_try_sees_what_a_pack_left() {
    let storage = Arc::new(MemoryStorage::new("memory"));
    let database = Database::with(Arc::clone(&storage) as Arc<dyn Storage>, Options::default()).unwrap();
    let mut tries = 0;
    let found = database.transact(|connection| {
        tries += 1;
        if tries == 1 {
            let root = storage.load(Oid::ROOT, &Version::TRUNK).unwrap();
            let mut draft = storage.begin(TransactionMeta::new()).unwrap();
            draft.store(Oid::ROOT, root.tid, root.data).unwrap();
            let tid = storage.commit(draft).unwrap();
            storage.pack().unwrap().pack(tid, PackOptions::default()).unwrap();
        }
        connection.root::<PersistentMapping>().view().map(|_| ())
    });
    found.unwrap();
    assert_eq!(tries, 2);

    // Nothing brings back what is not there at all.
    let mut tries = 0;
    let missing = database.transact(|connection| {
        tries += 1;
        connection.get::<Plain>(Oid(77)).view().map(|_| ())
    });
    assert!(matches!(missing, Err(Error::Missing { .. })));
    assert_eq!(tries, 1);
}
