//! Every operation of the crate gives back what it took.

use vellum_object::{Connection, Database, Generic, PersistentList, PersistentMapping, Ref, Result, Value, leaks};
use vellum_storage::{MemoryStorage, Oid};

fn settles(what: &str, fragment: impl Fn(&Database, &Connection) -> Result<()>) {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let found = leaks::settles(&connection, 5, || fragment(&database, &connection)).unwrap();
    if let Err(leak) = found {
        panic!("{what}: {leak}");
    }
}

fn cycle(connection: &Connection) -> Result<Ref<PersistentMapping>> {
    let mapping = connection.make(PersistentMapping::default());
    let list = connection.make(PersistentList::from(vec![Value::reference(&mapping)]));
    mapping.change(|mapping| mapping.insert("list", &list))?;
    Ok(mapping)
}

#[test]
fn every_operation_settles() {
    settles("making", |_, connection| cycle(connection).map(|_| ()));
    settles("abort after add", |_, connection| {
        connection.add(&cycle(connection)?)?;
        connection.abort()
    });
    settles("commit, in the place of the last one", |_, connection| {
        let cycle = cycle(connection)?;
        connection.root::<PersistentMapping>().change(|root| root.insert("cycle", &cycle))?;
        connection.commit().map(|_| ())
    });
    settles("savepoint and rollback", |_, connection| {
        let savepoint = connection.savepoint()?;
        let cycle = cycle(connection)?;
        connection.root::<PersistentMapping>().change(|root| root.insert("cycle", &cycle))?;
        let later = connection.savepoint()?;
        connection.rollback(&later)?;
        connection.rollback(&savepoint)
    });
    settles("a refused commit", |database, connection| {
        let other = database.connect()?;
        let cycle = cycle(connection)?;
        connection.root::<PersistentMapping>().change(|root| root.insert("cycle", &cycle))?;
        other.root::<PersistentMapping>().change(|root| root.insert("other", 1))?;
        other.commit()?;
        assert!(connection.commit().unwrap_err().is_conflict());
        connection.abort()
    });
    settles("another form, and a missing object", |_, connection| {
        connection.root::<PersistentMapping>().view()?;
        connection.root::<Generic>().view()?;
        assert!(connection.get::<Generic>(Oid(77)).view().is_err());
        Ok(())
    });
}

#[test]
fn a_leak_names_its_objects_and_their_referrers() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let mut kept = Vec::new();
    let leak = leaks::settles(&connection, 2, || {
        kept.push(cycle(&connection)?);
        Ok(())
    });
    assert_eq!(
        leak.unwrap().unwrap_err().to_string(),
        "2 rounds left 4 objects behind that were not there before
     live    ghosts     since  class
        3         0        +2  persistent.list.PersistentList
        3         0        +2  persistent.mapping.PersistentMapping
persistent.mapping.PersistentMapping, not stored: 2 handles, 1 of them in objects
    1 in persistent.list.PersistentList, not stored
persistent.list.PersistentList, not stored: 1 handles, 1 of them in objects
    1 in persistent.mapping.PersistentMapping, not stored
persistent.mapping.PersistentMapping, not stored: 2 handles, 1 of them in objects
    1 in persistent.list.PersistentList, not stored
persistent.list.PersistentList, not stored: 1 handles, 1 of them in objects
    1 in persistent.mapping.PersistentMapping, not stored
"
    );
    let census = connection.census();
    drop(kept);
    connection.collect().unwrap();
    let after = connection.census();
    assert!(
        census.classes.values().all(|count| count.since > 0) && after.classes.values().all(|count| count.since < 0)
    );
}
