//! Oids, classes of references and keys, at their edges.

use vellum_object::{Database, Error, Generic, Persistent, PersistentMapping, Ref, Trouble, Value};
use vellum_storage::{MemoryStorage, Oid, Tid, TransactionMeta, Version};

#[derive(Persistent, Debug, Default)]
#[persistent(class = "test.Link")]
struct Link {
    to: Option<Ref<Link>>,
    number: i64,
}

fn with_records(records: &[(Oid, &[u8])]) -> Database {
    let storage = MemoryStorage::new("memory");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, record) in records {
        draft.store(*oid, Tid::ZERO, record.to_vec().into()).unwrap();
    }
    storage.commit(draft).unwrap();
    Database::open(storage).unwrap()
}

/// The record of a `Link` to an object, with the class or without.
fn link_to(oid: u64, class: Option<&str>) -> Vec<u8> {
    let oid = [&b"C\x08"[..], &oid.to_be_bytes()].concat();
    let id = match class {
        Some(class) => [&oid[..], b"c", class.as_bytes(), b"\n\x86Q"].concat(),
        None => [&oid[..], b"Q"].concat(),
    };
    [&b"\x80\x03ctest\nLink\n.\x80\x03}(X\x02\0\0\0to"[..], &id, b"X\x06\0\0\0numberK\x00u."].concat()
}

fn references(database: &Database, oid: u64) -> Vec<String> {
    let record = database.storage().load(Oid(oid), &Version::TRUNK).unwrap().data;
    let found = vellum_pickle::references(&record).unwrap();
    found.iter().map(|reference| format!("{reference:?}")).collect()
}

/// A record may name any oid, also the last one, which no object here can have.
#[test]
fn the_last_oid_is_an_oid() {
    let database = with_records(&[(Oid(7), &link_to(u64::MAX, None))]);
    let connection = database.connect().unwrap();
    let link = connection.get::<Link>(Oid(7));
    link.change(|link| link.number = 1).unwrap();
    if let Err(error) = connection.commit() {
        // A damaged table of oids is not walked again.
        std::mem::forget((link, connection));
        panic!("{error}");
    }
    assert_eq!(references(&database, 7), [format!("Strong {{ oid: {}, class: None }}", u64::MAX)]);
    let to = link.view().unwrap().to.clone().unwrap();
    assert_eq!(to.oid(), Some(Oid(u64::MAX)));
    assert!(matches!(to.view(), Err(Error::Missing { .. })));
    for oid in 8..30 {
        assert_eq!(connection.get::<Link>(Oid(oid)).oid(), Some(Oid(oid)));
    }
}

/// Rule 7.1. A record names an oid of which there is no object, and the storage gives it out.
#[test]
fn an_oid_that_a_record_names_is_not_given_to_another_object() {
    let database = with_records(&[(Oid(7), &link_to(9, None))]);
    let connection = database.connect().unwrap();
    let lost = connection.get::<Link>(Oid(7)).view().unwrap().to.clone().unwrap();
    let new: Vec<Ref<Link>> = (0..20).map(|_| connection.make(Link::default())).collect();
    let oids: Vec<Oid> = new.iter().map(|link| connection.add(link).unwrap()).collect();
    assert!(!oids.contains(&lost.oid().unwrap()), "{oids:?}");
    connection.commit().unwrap();
    assert!(matches!(lost.view(), Err(Error::Missing { .. })));
}

/// A handle that was made by its oid alone takes the class of the first record that names one.
#[test]
fn a_reference_keeps_its_class_beside_a_handle_without_one() {
    let database = with_records(&[(Oid(7), &link_to(8, Some("test\nLink"))), (Oid(8), &link_to(9, None))]);
    let connection = database.connect().unwrap();
    let held = connection.get::<Link>(Oid(8));
    connection.get::<Link>(Oid(7)).change(|link| link.number = 1).unwrap();
    connection.commit().unwrap();
    assert_eq!(references(&database, 7), ["Strong { oid: 8, class: Some(ClassRef(test.Link)) }"]);

    let other = database.connect().unwrap();
    let loaded = other.get::<Link>(Oid(8));
    loaded.view().unwrap();
    other.root::<PersistentMapping>().change(|root| root.insert("link", &loaded)).unwrap();
    other.commit().unwrap();
    assert_eq!(references(&database, 0), ["Strong { oid: 8, class: Some(ClassRef(test.Link)) }"]);
    drop(held);
}

/// Rule 8.1: a new revision of a blob that is stored without its bytes would have none.
#[test]
fn a_changed_blob_is_refused() {
    let database = with_records(&[(Oid(7), b"\x80\x03cZODB.blob\nBlob\n.\x80\x03N.")]);
    let connection = database.connect().unwrap();
    let blob = connection.get::<Generic>(Oid(7));
    assert_eq!(blob.view().unwrap().state(), &Value::None);
    blob.change(|_| ()).unwrap();
    let refused = connection.commit().unwrap_err();
    assert!(matches!(refused, Error::Unwritable { oid: Some(Oid(7)), trouble: Trouble::Blob, .. }), "{refused}");
    connection.abort().unwrap();
    connection.commit().unwrap();
}

/// Keys are equal where Python's are, whatever they are made of.
#[test]
fn keys_are_equal_where_pythons_are() {
    let big = |power: u32| {
        let mut bytes = vec![0; power as usize / 8 + 1];
        bytes[power as usize / 8] = 1 << (power % 8);
        Value::BigInt(bytes.into())
    };
    let minus = |power: u32| {
        let mut bytes = vec![0; power as usize / 8];
        bytes.push(!0 << (power % 8));
        Value::BigInt(bytes.into())
    };
    let set = |items: [i64; 3]| Value::FrozenSet(items.map(Value::from).into());
    let tuple = |items: [Value; 2]| Value::Tuple(items.into());
    for (one, two) in [
        (Value::from(1), Value::Float(1.0)),
        (Value::Bool(false), Value::Float(-0.0)),
        (Value::from(1_i64 << 62), Value::Float(2_f64.powi(62))),
        (Value::from(i64::MIN), Value::Float(-(2_f64.powi(63)))),
        (big(64), Value::Float(2_f64.powi(64))),
        (big(200), Value::Float(2_f64.powi(200))),
        (minus(64), Value::Float(-(2_f64.powi(64)))),
        (minus(203), Value::Float(-(2_f64.powi(203)))),
        (set([1, 2, 3]), set([3, 1, 2])),
        (tuple([set([1, 2, 3]), Value::from(1)]), tuple([set([2, 3, 1]), Value::Float(1.0)])),
    ] {
        let mut mapping = PersistentMapping::default();
        mapping.insert(one.clone(), 1);
        assert_eq!(mapping.insert(two.clone(), 2), Some(Value::from(1)), "{one:?} and {two:?}");
        assert_eq!(mapping.get(one), Some(&Value::from(2)));
    }
    for (one, two) in [
        (Value::from(1), Value::from("1")),
        (Value::from((1_i64 << 62) + 1), Value::Float(2_f64.powi(62))),
        (big(64), Value::Float(2_f64.powi(65))),
        (set([1, 2, 3]), set([1, 2, 4])),
        (Value::Float(f64::NAN), Value::Float(f64::NAN)),
    ] {
        let mut mapping = PersistentMapping::default();
        mapping.insert(one.clone(), 1);
        assert_eq!(mapping.get(two.clone()), None, "{one:?} and {two:?}");
    }
}
