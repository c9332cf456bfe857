//! Every operation of the crate gives back what it took.

use std::sync::Arc;

use vellum_object::{
    Connection, Database, Error, Generic, Options, Persistent, PersistentList, PersistentMapping, Ref, Result, Value,
    WeakRef, leaks,
};
use vellum_pickle::ClassName;
use vellum_storage::{MemoryStorage, Oid, Resolvers, SystemClock, Tid, TransactionMeta};

use crate::node::{FINALIZE, Final, Plain};

fn settles(what: &str, fragment: impl Fn(&Database, &Connection) -> Result<()>) {
    let storage = MemoryStorage::with("memory", Arc::new(SystemClock), Arc::new(Resolvers::built_in()));
    let options = Options { objects_max: 50, ..Options::default() };
    let database = Database::with(Arc::new(storage), options).unwrap();
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

fn root(connection: &Connection) -> Ref<PersistentMapping> {
    connection.root()
}

#[test]
fn looking_and_changing_settle() {
    settles("views, casts and pins", |_, connection| {
        let object = root(connection);
        let view = object.view()?;
        assert!(matches!(object.change(|_| ()), Err(Error::InUse { .. })));
        drop(view);
        object.pin(true)?;
        connection.minimize();
        object.pin(false)?;
        let other = object.cast::<Generic>();
        assert!(other == object.cast() && other.view().is_ok());
        assert!(matches!(object.cast::<PersistentList>().view(), Err(Error::WrongClass { .. })));
        Ok(())
    });
    settles("a change within a change, and one that panics", |_, connection| {
        let object = root(connection);
        object.change(|_| assert!(object.change(|_| ()).is_err()))?;
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            object.change(|root| {
                root.insert("half", 1);
                std::panic::resume_unwind(Box::new("half done"));
            })
        }));
        assert!(panics.is_err());
        connection.abort()
    });
    settles("many references to one object, in keys and values", |_, connection| {
        let one = connection.make(PersistentMapping::default());
        let many = connection.make(PersistentList::from(vec![Value::reference(&one); 300]));
        let pair = Value::Tuple(vec![Value::reference(&one), Value::reference(&many)]);
        one.change(|mapping| mapping.insert(pair, Value::Dict(vec![(Value::from(1), Value::reference(&many))])))?;
        Ok(())
    });
    settles("eviction by the budget", |_, connection| {
        let made: Vec<_> = (0..100).map(|_| connection.make(PersistentList::default())).collect();
        made.iter().try_for_each(|object| connection.add(object).map(drop))?;
        connection.commit()?;
        made.iter().try_for_each(|object| object.view().map(drop))?;
        assert!(connection.loaded().1 <= 51);
        Ok(())
    });
}

#[test]
fn transactions_settle() {
    settles("transact, which tries again", |database, connection| {
        let mut tries = 0;
        database.transact(|inner| {
            tries += 1;
            root(inner).change(|root| root.insert("tries", tries))?;
            if tries < 3 {
                root(connection).change(|root| root.insert("other", tries))?;
                connection.commit()?;
            }
            cycle(inner).map(drop)
        })?;
        assert_eq!(tries, 3);
        connection.begin()
    });
    settles("read_current, and the past", |database, connection| {
        connection.read_current(&root(connection))?;
        let past = database.connect_at(connection.moment())?;
        root(&past).view()?;
        assert!(matches!(past.add(&past.make(PersistentMapping::default())), Err(Error::Past { .. })));
        assert!(root(&past).change(|_| ()).is_err());
        connection.abort()
    });
    settles("a weak reference to an object that is stored for it", |_, connection| {
        let weak = WeakRef::new(connection, &connection.make(PersistentMapping::default()))?;
        connection.commit()?;
        assert!(weak.get(connection)?.is_some() && WeakRef::<Generic>::to_oid(Oid(1 << 40)).get(connection)?.is_none());
        Ok(())
    });
    settles("a conflict that is merged", |database, connection| {
        let class = ClassName { module: "BTrees.Length".to_owned(), name: "Length".to_owned() };
        let counter = connection.make(Generic::new(class, Value::Int(0)));
        let oid = connection.add(&counter)?;
        connection.commit()?;
        let set = |connection: &Connection, to: i64| {
            connection.get::<Generic>(oid).change(|counter| *counter.state_mut() = Value::Int(to))
        };
        let other = database.connect()?;
        set(connection, 5)?;
        set(&other, 7)?;
        other.commit()?;
        connection.commit()?;
        assert_eq!(counter.view()?.state(), &Value::Int(12));
        Ok(())
    });
    settles("an object of another connection", |database, connection| {
        let other = database.connect()?;
        let foreign = other.make(PersistentMapping::default());
        root(connection).change(|root| root.insert("foreign", &foreign))?;
        assert!(matches!(connection.commit(), Err(Error::OtherConnection)));
        connection.abort()
    });
    settles("an object that cannot be written", |_, connection| {
        let mut deep = Value::None;
        for _ in 0..300 {
            deep = Value::Tuple(vec![deep]);
        }
        let made = cycle(connection)?;
        root(connection).change(|root| root.insert("deep", deep))?;
        root(connection).change(|root| root.insert("cycle", &made))?;
        assert!(matches!(connection.commit(), Err(Error::Unwritable { .. })));
        connection.abort()
    });
}

#[test]
fn records_that_cannot_be_read_settle() {
    settles("bad records", |database, connection| {
        let storage = database.storage();
        let mut draft = storage.begin(TransactionMeta::new())?;
        let oid = Oid(1 << 41);
        let serial = storage.load(oid, &vellum_storage::Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        // A reference that is read, and then a value that cannot be.
        let record = b"\x80\x03cm\nC\n.\x80\x03]C\x08\0\0\0\0\0\0\0\x09Qa(C\x08\0\0\0\0\0\0\0\x09tNNNQ.";
        draft.store(oid, serial, record.to_vec().into())?;
        storage.commit(draft)?;
        connection.begin()?;
        assert!(connection.get::<Generic>(oid).view().is_err());
        Ok(())
    });
}

#[test]
fn collections_settle() {
    settles("finalizers: one, several, one that panics", |_, connection| {
        FINALIZE.set(Some(|this| {
            if this.view().unwrap().number == 3 {
                std::panic::resume_unwind(Box::new("a finalizer panics"));
            }
        }));
        connection.make(Final::new(1, vec![connection.make(Plain::new(2, Vec::new()))]));
        connection.make(Final::new(3, Vec::new()));
        let one = connection.make(Final::new(4, Vec::new()));
        let two = connection.make(Final::new(5, vec![one.cast()]));
        one.change(|one| one.refers.push(two.cast()))?;
        drop((one, two));
        let done = connection.collect()?;
        assert_eq!((done.finalized, done.stuck, done.panics.len()), (2, 2, 1));
        for stuck in connection.stuck() {
            stuck.cast::<Final>().change(|node| node.refers.clear())?;
        }
        assert_eq!(connection.clear_stuck(), 2);
        FINALIZE.set(None);
        Ok(())
    });
    settles("a connection that is closed with new objects, and a census", |database, connection| {
        let other = database.connect()?;
        let made = cycle(&other)?;
        assert!(other.census().classes.len() >= 2);
        drop(other);
        assert!(matches!(made.view(), Err(Error::Closed)));
        connection.census();
        Ok(())
    });
    assert_eq!(Plain::CLASS.1, "Plain");
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
