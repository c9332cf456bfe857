//! One thing at a time.

use vellum_object::{Connection, Database, Error, Generic, PersistentList, PersistentMapping, Ref, Value, WeakRef};
use vellum_storage::{MemoryStorage, Oid, Tid};

use crate::node::Plain;

fn open() -> (Database, Connection) {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    (database, connection)
}

/// Rule 7.4: a commit stores new objects that are referred to, also through each other, and no others.
#[test]
fn new_objects_are_stored_when_a_stored_one_refers_to_them() {
    let (database, connection) = open();
    let inner = connection.make(PersistentList::from(vec![Value::from(1)]));
    let outer = connection.make(PersistentMapping::default());
    let other = connection.make(PersistentMapping::default());
    outer.change(|outer| outer.insert("inner", &inner)).unwrap();
    inner.change(|inner| inner.push(Value::reference(&outer))).unwrap();
    connection.root::<PersistentMapping>().change(|root| root.insert("outer", &outer)).unwrap();
    connection.commit().unwrap();
    assert_eq!((outer.oid(), inner.oid(), other.oid()), (Some(Oid(1)), Some(Oid(2)), None));
    let reader = database.connect().unwrap();
    let list = reader.get::<PersistentList>(Oid(2)).view().unwrap();
    let Value::Reference(back) = &list[1] else { panic!("{:?}", list[1]) };
    assert_eq!(back.object().oid(), Some(Oid(1)));
    assert_eq!(back.class.as_ref().map(|class| class.name.as_str()), Some("PersistentMapping"));
}

/// Rule 7.4: after a conflict, a new object has no oid, and the next commit stores it.
#[test]
fn an_object_whose_commit_was_refused_is_stored_by_the_next_one() {
    let (database, one) = open();
    let two = database.connect().unwrap();
    let made = one.make(PersistentMapping::default());
    one.root::<PersistentMapping>().change(|root| root.insert("made", &made)).unwrap();
    two.root::<PersistentMapping>().change(|root| root.insert("other", 1)).unwrap();
    two.commit().unwrap();
    assert!(one.commit().unwrap_err().is_conflict());
    assert_eq!(made.oid(), None);
    one.abort().unwrap();
    one.root::<PersistentMapping>().change(|root| root.insert("made", &made)).unwrap();
    one.commit().unwrap();
    let reader = database.connect().unwrap();
    assert!(reader.get::<PersistentMapping>(made.oid().unwrap()).view().unwrap().is_empty());
}

#[test]
fn a_transaction_is_tried_again_after_a_conflict() {
    let (database, other) = open();
    let mut tries = 0;
    let done = database.transact(|connection| {
        tries += 1;
        connection.root::<PersistentMapping>().change(|root| root.insert("tries", tries))?;
        if tries < 3 {
            other.begin()?;
            other.root::<PersistentMapping>().change(|root| root.insert("other", tries))?;
            other.commit()?;
        }
        Ok(tries)
    });
    assert_eq!(done.unwrap(), 3);
    let mut tries = 0;
    let done = database.transact(|connection| {
        tries += 1;
        connection.root::<PersistentMapping>().change(|root| root.insert("tries", tries))?;
        other.begin()?;
        other.root::<PersistentMapping>().change(|root| root.insert("other", tries))?;
        other.commit()?;
        Ok(())
    });
    assert!(done.unwrap_err().is_conflict());
    assert_eq!(tries, 10);
}

/// Rule 7.7: the check is made even if there is nothing to store.
#[test]
fn read_current_is_checked_without_a_change() {
    let (database, one) = open();
    let two = database.connect().unwrap();
    one.read_current(&one.root::<PersistentMapping>()).unwrap();
    let last = one.moment();
    assert_eq!(one.commit().unwrap(), last);
    one.read_current(&one.root::<PersistentMapping>()).unwrap();
    two.root::<PersistentMapping>().change(|root| root.insert("other", 1)).unwrap();
    two.commit().unwrap();
    assert!(one.commit().unwrap_err().is_conflict());
}

/// Rule 7.3: a view of the past changes nothing, and never moves.
#[test]
fn the_past_cannot_be_changed() {
    let (database, connection) = open();
    let first = connection.root::<PersistentMapping>().change(|root| root.insert("n", 1)).map(|_| connection.commit());
    let first = first.unwrap().unwrap();
    connection.root::<PersistentMapping>().change(|root| root.insert("n", 2)).unwrap();
    connection.commit().unwrap();
    let past = database.connect_at(first).unwrap();
    let root = past.root::<PersistentMapping>();
    past.begin().unwrap();
    assert_eq!(root.view().unwrap().get("n"), Some(&Value::from(1)));
    assert!(matches!(root.change(|root| root.insert("n", 3)), Err(Error::Past { moment }) if moment == first));
    assert!(matches!(database.connect_at(Tid::MAX), Err(Error::Future { .. })));
}

#[test]
fn a_view_prevents_a_change_and_a_change_prevents_another() {
    let (_database, connection) = open();
    let root = connection.root::<PersistentMapping>();
    let view = root.view().unwrap();
    assert!(matches!(root.change(|_| ()), Err(Error::InUse { .. })));
    drop(view);
    root.change(|_| assert!(matches!(root.change(|_| ()), Err(Error::InUse { .. })))).unwrap();
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        root.change(|root| {
            root.insert("half", 1);
            std::panic::resume_unwind(Box::new("half done"));
        })
    }));
    assert!(panics.is_err());
    assert_eq!(root.view().unwrap().get("half"), Some(&Value::from(1)));
    assert!(connection.is_changed());
}

/// Rule 7.5: an abort within a change takes that change, too.
#[test]
fn an_abort_within_a_change_gives_it_up() {
    let (_database, connection) = open();
    let root = connection.root::<PersistentMapping>();
    root.change(|root| {
        root.insert("lost", 1);
        assert!(matches!(connection.commit(), Err(Error::InUse { .. })));
        assert!(matches!(connection.collect(), Err(Error::InUse { .. })));
        connection.abort().unwrap();
        assert!(connection.root::<PersistentMapping>().view().unwrap().is_empty());
        root.insert("lost too", 2);
    })
    .unwrap();
    assert!(!connection.is_changed() && root.view().unwrap().is_empty());
}

#[test]
fn handles_of_other_or_closed_connections_are_errors() {
    let (database, one) = open();
    let two = database.connect().unwrap();
    let foreign = two.root::<PersistentMapping>();
    one.root::<PersistentMapping>().change(|root| root.insert("foreign", &foreign)).unwrap();
    assert!(matches!(one.commit(), Err(Error::OtherConnection)));
    assert!(matches!(one.add(&foreign), Err(Error::OtherConnection)));
    drop(two);
    assert!(matches!(foreign.view(), Err(Error::Closed)));
}

#[test]
fn a_weak_reference_keeps_no_object() {
    let (_database, connection) = open();
    let made = connection.make(PersistentMapping::default());
    let weak = WeakRef::new(&connection, &made).unwrap();
    connection.commit().unwrap();
    assert_eq!(weak.get(&connection).unwrap(), Some(made.clone()));
    assert!(WeakRef::<PersistentMapping>::to_oid(Oid(77)).get(&connection).unwrap().is_none());
}

/// Rule 7.8: the budget holds whatever is loaded, and changed objects stay.
#[test]
fn eviction_keeps_the_budget_and_the_changes() {
    let database = Database::with(
        std::sync::Arc::new(MemoryStorage::new("memory")),
        vellum_object::Options { objects_max: 10, ..Default::default() },
    )
    .unwrap();
    let connection = database.connect().unwrap();
    let made: Vec<Ref<Plain>> = (0..100).map(|n| connection.make(Plain::new(-3, vec![])).also(n)).collect();
    made.iter().for_each(|object| assert!(connection.add(object).is_ok()));
    connection.commit().unwrap();
    assert!(connection.loaded().1 <= 10, "{:?}", connection.loaded());
    for object in &made {
        object.view().unwrap();
        assert!(connection.loaded().1 <= 11);
    }
    for (n, object) in made.iter().enumerate() {
        object.change(|node| node.number = n as i64 + 1000).unwrap();
    }
    assert_eq!(connection.loaded().1, 100);
    assert!(made.iter().enumerate().all(|(n, object)| object.view().unwrap().number == n as i64 + 1000));
    // A pinned object stays.
    connection.abort().unwrap();
    made[5].view().unwrap();
    made[5].pin(true).unwrap();
    made.iter().for_each(|object| drop(object.view().unwrap()));
    connection.minimize();
    assert!(made[5].is_loaded() && connection.loaded().1 == 1);
}

trait Also {
    fn also(self, number: i64) -> Self;
}

impl Also for Ref<Plain> {
    fn also(self, number: i64) -> Self {
        self.change(|node| node.number = number).unwrap();
        self
    }
}

#[test]
fn any_object_can_be_seen_as_values_and_as_its_type() {
    let (_database, connection) = open();
    let root = connection.root::<PersistentMapping>();
    root.change(|root| root.insert("n", 1)).unwrap();
    let values = root.cast::<Generic>();
    values.change(|root| root.set_attribute("extra", Value::from("kept"))).unwrap();
    root.change(|root| root.insert("n", 2)).unwrap();
    connection.commit().unwrap();
    connection.minimize();
    assert_eq!(values.view().unwrap().attribute("extra"), Some(&Value::from("kept")));
    assert_eq!(root.view().unwrap().get("n"), Some(&Value::from(2)));
}

/// Rule 7.10: a connection that is closed collects its new objects, and keeps its loaded ones.
#[test]
fn a_closed_connection_leaves_no_new_objects() {
    let (database, connection) = open();
    let one = connection.make(PersistentMapping::default());
    one.change(|mapping| mapping.insert("itself", &one)).unwrap();
    connection.root::<PersistentMapping>().view().unwrap();
    drop((one, connection));
    let connection = database.connect().unwrap();
    assert_eq!((connection.known(), connection.loaded().1), (1, 1));
    assert!(connection.root::<PersistentMapping>().is_loaded());
}
