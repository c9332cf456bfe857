//! Records as values, and back.

use vellum_object::{Database, Error, Generic, PersistentList, PersistentMapping, Trouble, Value};
use vellum_storage::{MemoryStorage, Oid, Tid, TransactionMeta};

fn with_record(record: &[u8]) -> (Database, Oid) {
    let storage = MemoryStorage::new("memory");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(7), Tid::ZERO, record.to_vec().into()).unwrap();
    storage.commit(draft).unwrap();
    (Database::open(storage).unwrap(), Oid(7))
}

/// Marks an object as changed without changing it, commits, and returns the new record.
fn written_back(record: &[u8]) -> Vec<u8> {
    let (database, oid) = with_record(record);
    let connection = database.connect().unwrap();
    connection.get::<Generic>(oid).change(|_| ()).unwrap();
    connection.commit().unwrap();
    database.storage().load(oid, &vellum_storage::Version::TRUNK).unwrap().data.to_vec()
}

/// The state of a record, for comparison.
fn as_json(record: &[u8]) -> String {
    let options = vellum_pickle::JsonOptions::default();
    vellum_pickle::Record::read(&vellum_pickle::plain(record).unwrap()).unwrap().to_json(&options)
}

#[test]
fn an_unchanged_record_is_written_back_as_an_equal_one() {
    for record in [
        &b"\x80\x03cm\nC\nq\x00.\x80\x03}q\x01(X\x01\0\0\0aK\x05X\x01\0\0\0bC\x02\x00\xffX\x01\0\0\0cG?\xf0\0\0\0\0\0\0u."[..],
        b"\x80\x03cm\nC\nq\x00.\x80\x03(C\x08\0\0\0\0\0\0\0\x09q\x01cm\nD\nq\x02tq\x03Q.",
        b"\x80\x03cm\nC\nq\x00.\x80\x03]q\x01(X\x01\0\0\0wq\x02C\x08\0\0\0\0\0\0\0\x09\x85q\x03eQ.",
        b"\x80\x03cm\nC\nq\x00.\x80\x03cdatetime\ndate\nq\x01C\x04\x07\xea\x0b\x1d\x85q\x02Rq\x03.",
        b"\x80\x03cm\nC\nq\x00.\x80\x03cm\nD\nq\x01)\x81q\x02}q\x03X\x01\0\0\0aNsb.",
        b"\x80\x03cm\nC\nq\x00K\x01\x85q\x01\x86q\x02.\x80\x03N.",
        b"(cm\nC\nq\x01(tt.\x80\x02U\x02ab.",
        b"\x80\x03cm\nC\nq\x00.\x80\x03\x8a\x09\0\0\0\0\0\0\0\0\x01.",
    ] {
        assert_eq!(as_json(&written_back(record)), as_json(record), "{:?}", record.escape_ascii().to_string());
    }
}

/// The forms in which Python writes sets and bytearrays at the protocol of records.
#[test]
fn sets_and_bytearrays_are_values() {
    let state = b"}(X\x01\0\0\0scbuiltins\nset\n](K\x01K\x02e\x85RX\x01\0\0\0fcbuiltins\nfrozenset\n]\x85R\
        X\x01\0\0\0bcbuiltins\nbytearray\nC\x02ab\x85RX\x01\0\0\0ocbuiltins\ncomplex\nK\x01K\x02\x86Ru";
    let record = [b"\x80\x03cm\nC\n.\x80\x03", &state[..], b"."].concat();
    let (database, oid) = with_record(&record);
    let connection = database.connect().unwrap();
    let object = connection.get::<Generic>(oid);
    let view = object.view().unwrap();
    assert_eq!(view.attribute("s"), Some(&Value::Set(vec![Value::from(1), Value::from(2)])));
    assert_eq!(view.attribute("f"), Some(&Value::FrozenSet(Vec::new())));
    assert_eq!(view.attribute("b"), Some(&Value::ByteArray(b"ab".as_slice().into())));
    assert_eq!(view.attribute("o").map(Value::kind), Some("object inside the record"));
    assert_eq!(as_json(&written_back(&record)), as_json(&record));
}

#[test]
fn an_old_record_keeps_its_protocol() {
    let written = written_back(b"\x80\x02cm\nC\n.\x80\x02c__builtin__\nset\n]K\x01a\x85R.");
    assert!(written.starts_with(b"\x80\x02"), "{}", written.escape_ascii());
    assert!(written.windows(11).any(|bytes| bytes == b"__builtin__"), "{}", written.escape_ascii());
}

#[test]
fn a_record_of_any_depth_is_an_error_and_no_overflow() {
    let mut deep = b"\x80\x03cm\nC\n.\x80\x03".to_vec();
    deep.extend(std::iter::repeat_n(b"]", 1_000_000).flatten());
    deep.extend(std::iter::repeat_n(b"a", 999_999).flatten());
    deep.push(b'.');
    let (database, oid) = with_record(&deep);
    let connection = database.connect().unwrap();
    let error = connection.get::<Generic>(oid).view().unwrap_err();
    assert!(matches!(error, Error::Unreadable { trouble: Trouble::TooDeep, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the record of object 0000000000000007 of the class m.C cannot be read: its values are more than 256 deep in \
         each other"
    );
}

/// Every way in which a pickle can put one value into another, a million times.
#[test]
fn values_of_every_kind_are_refused_when_they_are_too_deep() {
    const DEPTH: usize = 1_000_000;
    let nested = |open: &[u8], core: &[u8], close: &[u8]| [&open.repeat(DEPTH), core, &close.repeat(DEPTH)].concat();
    for (what, state) in [
        ("tuples", nested(b"", b")", b"\x85")),
        ("dicts", nested(b"}K\x01", b"N", b"s")),
        ("keys", nested(b"}", b"N", b"Ns")),
        ("states of objects", nested(b"cm\nD\n)\x81", b"N", b"b")),
        ("arguments of calls", nested(b"cm\nD\n", b")", b"R\x85")),
        ("items of objects", nested(b"cm\nD\n)\x81", b"N", b"a")),
        ("sets", nested(b"cbuiltins\nset\n]", b"N", b"a\x85R")),
    ] {
        let record = [b"\x80\x03cm\nC\n.\x80\x03", &state[..], b"."].concat();
        let (database, oid) = with_record(&record);
        let connection = database.connect().unwrap();
        let error = connection.get::<Generic>(oid).view().unwrap_err();
        assert!(matches!(error, Error::Unreadable { oid: Some(_), class: Some(_), .. }), "{what}: {error}");
        let error = connection.get::<PersistentMapping>(oid).view().unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{what}: {error}");
    }
}

#[test]
fn a_value_that_is_too_deep_is_not_stored() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let mut deep = Value::None;
    for _ in 0..vellum_object::DEPTH_MAX {
        deep = Value::Tuple(vec![deep]);
    }
    connection.root::<PersistentMapping>().change(|root| root.insert("deep", deep)).unwrap();
    let last = connection.moment();
    let error = connection.commit().unwrap_err();
    assert_eq!(
        error.to_string(),
        "object 0000000000000000 of the class persistent.mapping.PersistentMapping cannot be stored: its values are more \
         than 256 deep in each other"
    );
    assert_eq!(database.storage().last_transaction(), last);
    // The change is still here, and can be taken back.
    assert!(connection.is_changed());
    connection.root::<PersistentMapping>().change(|root| root.remove("deep")).unwrap();
    connection.commit().unwrap();
}

/// A reference to nothing: the object that has it can be read, and the error comes at the step that leads nowhere.
#[test]
fn a_reference_to_nothing_is_an_error_when_it_is_followed() {
    let (database, oid) =
        with_record(b"\x80\x03cm\nC\n.\x80\x03}X\x02\0\0\0toC\x08\0\0\0\0\0\0\0\x63cgone\nThing\n\x86Qs.");
    let connection = database.connect().unwrap();
    let object = connection.get::<Generic>(oid);
    let to = object.view().unwrap().attribute("to").and_then(Value::as_reference).unwrap();
    let text = to.view().unwrap_err().to_string();
    let expected = "object 0000000000000063 of the class gone.Thing does not exist at ";
    assert!(text.starts_with(expected), "{text}");
    assert!(matches!(to.change(|_| ()), Err(Error::Missing { .. })));
    assert!(!to.is_loaded() && !connection.is_changed());
    // Its holder is written back with the reference.
    object.change(|_| ()).unwrap();
    connection.commit().unwrap();
}

/// States of the classes of this crate that Python's classes would not write.
#[test]
fn states_of_an_unexpected_shape_are_errors() {
    let error = |class: &str, state: &[u8]| {
        let record = [b"\x80\x03c", class.as_bytes(), b"\n.\x80\x03", state, b"."].concat();
        let (database, oid) = with_record(&record);
        let connection = database.connect().unwrap();
        let text = match class.ends_with("List") {
            true => connection.get::<PersistentList>(oid).view().unwrap_err().to_string(),
            false => connection.get::<PersistentMapping>(oid).view().unwrap_err().to_string(),
        };
        let text = text.strip_prefix("the record of object 0000000000000007 of the class ").unwrap().to_owned();
        text.split_once(" cannot be read: ").unwrap().1.to_owned()
    };
    let (mapping, list) = ("persistent.mapping\nPersistentMapping", "persistent.list\nPersistentList");
    assert_eq!(error(mapping, b"]"), "its state is of the kind list, and not dict");
    assert_eq!(error(mapping, b"K\x01K\x02\x86"), "its state is of the kind tuple, and not dict");
    assert_eq!(error(mapping, b"}X\x04\0\0\0data]s"), "its attribute `data` is of the kind list, and not dict");
    assert_eq!(error(list, b"}X\x04\0\0\0data}s"), "its attribute `data` is of the kind dict, and not list");
    assert_eq!(error(list, b"C\x08\0\0\0\0\0\0\0\x63Q"), "its state is of the kind reference, and not dict");
    // Without a second pickle, or with half of one.
    let (database, oid) = with_record(b"\x80\x03cm\nC\n.");
    assert!(matches!(database.connect().unwrap().get::<Generic>(oid).view(), Err(Error::Unreadable { .. })));
    let (database, oid) = with_record(b"\x80\x03cm\nC\n.\x80\x03X\xff\xff\xff\xffab");
    assert!(matches!(database.connect().unwrap().get::<Generic>(oid).view(), Err(Error::Unreadable { .. })));
}

#[test]
fn a_record_that_repeats_itself_takes_bounded_memory() {
    // Each list holds the one before twice: 2^60 values.
    let mut doubling = b"\x80\x03cm\nC\n.\x80\x03]q\x00".to_vec();
    for n in 0..60 {
        doubling.extend([b']', b'q', n + 1, b'(', b'h', n, b'h', n, b'e']);
    }
    doubling.push(b'.');
    let (database, oid) = with_record(&doubling);
    let error = database.connect().unwrap().get::<Generic>(oid).view().unwrap_err();
    assert!(matches!(error, Error::Unreadable { trouble: Trouble::TooLarge, .. }), "{error}");
}

#[test]
fn errors_name_the_object_its_class_and_the_field() {
    let (database, oid) =
        with_record(b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}X\x04\0\0\0dataK\x01s.");
    let connection = database.connect().unwrap();
    let error = connection.get::<PersistentMapping>(oid).view().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record of object 0000000000000007 of the class persistent.mapping.PersistentMapping cannot be read: its \
         attribute `data` is of the kind int, and not dict"
    );
    let (database, oid) = with_record(b"\x80\x03cm\nC\n.\x80\x03N.");
    let connection = database.connect().unwrap();
    let error = connection.get::<PersistentMapping>(oid).view().unwrap_err();
    assert_eq!(
        error.to_string(),
        "object 0000000000000007 is of the class m.C, and the program asks for persistent.mapping.PersistentMapping"
    );
    let error = connection.get::<Generic>(Oid(99)).view().unwrap_err();
    assert!(error.to_string().starts_with("object 0000000000000063 does not exist at "), "{error}");
}

/// Every object of the databases that the real ZODB wrote can be seen as values, and written back.
#[test]
fn every_golden_object_is_read_and_written_back() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let mut objects = 0;
    for file in std::fs::read_dir(golden).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|end| end != "fs") {
            continue;
        }
        let storage = vellum_file::Options::new().read_only().open(&file).unwrap();
        for record in storage.current_records(Oid::ROOT) {
            let record = record.unwrap();
            assert_eq!(
                as_json(&written_back(&record.data)),
                as_json(&record.data),
                "{} {}",
                file.display(),
                record.oid
            );
            objects += 1;
        }
    }
    assert!(objects > 20, "only {objects} objects");
    println!("{objects} objects");
}
