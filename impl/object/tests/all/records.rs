//! Records as values, and back.

use vellum_object::{Database, Error, Generic, PersistentMapping, Trouble};
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
