//! Records as objects, and back.
//!
//! The bytes are the record of an object. It is looked at as values, as a mapping, as a list and as a struct. Each is
//! an object, or an error that names the oid. As values it is written back: class and references stay, and the new
//! record is a fixed point: writing it back gives the same bytes.

use std::sync::Arc;

use vellum_object::{Database, Error, Generic, Options, Persistent, PersistentList, PersistentMapping};
use vellum_pickle::{Reference, class_of, plain, references};
use vellum_storage::{Bytes, MemoryStorage, Oid, Storage, Tid, TransactionMeta, Version};

const OID: Oid = Oid(7);

/// Bytes that the values of a record of this length may take: the limit of the decoder, and the costs of vectors.
fn bytes_max(length: usize) -> u64 {
    4 * (64 * length as u64 + (1 << 16))
}

/// A struct of the class that most corpora have.
#[derive(Persistent, Debug)]
#[persistent(class = "mail.Message")]
struct Message {
    subject: Option<String>,
    size: Option<i64>,
    answers: Option<Vec<vellum_object::Ref<Generic>>>,
}

/// Reads the bytes as objects, and writes them back.
///
/// # Panics
///
/// If an object is not what its record says.
pub fn object(input: &[u8]) {
    if input.is_empty() {
        return;
    }
    let storage = MemoryStorage::new("objects");
    let mut draft = storage.begin(TransactionMeta::new()).expect("it can be written to");
    draft.store(OID, Tid::ZERO, Bytes::copy_from_slice(input)).expect("it is new");
    Storage::commit(&storage, draft).expect("nobody else writes");
    // The budget is exceeded at once, so that each look loads the object again.
    let options = Options { bytes_max: 0, ..Options::default() };
    let database = Database::with(Arc::new(storage), options).expect("it gets a root");
    typed::<PersistentMapping>(&database);
    typed::<PersistentList>(&database);
    typed::<Message>(&database);
    let Some(first) = written_back(&database) else { return };
    let old = plain(input).expect("it was read").into_owned();
    assert_eq!(class_of(&first).ok(), class_of(&old).ok());
    let names = |record: &[u8]| {
        let found = references(record).expect("all of them were read");
        let mut names: Vec<String> = found.into_iter().map(|reference| format!("{:?}", scanned(reference))).collect();
        // Values that were shared are copied, with the references in them.
        names.sort();
        names.dedup();
        names
    };
    let (before, after) = (names(&old), names(&first));
    assert!(after.iter().all(|reference| before.contains(reference)), "{before:?} {after:?}");
    let second = written_back(&database).expect("it was written");
    assert_eq!(first, second, "writing back is a fixed point");
}

/// The reference as the scanner reads it from a record that was written back. A class with a dot in its name is written
/// as a call of `getattr`, which the scanner does not follow: it gives names that stand in the record.
fn scanned(reference: Reference<'_>) -> Reference<'_> {
    match reference {
        Reference::Strong { oid, class: Some(class) } if class.name.contains(&b'.') => {
            Reference::Strong { oid, class: None }
        }
        Reference::Foreign { database, oid, class: Some(class) } if class.name.contains(&b'.') => {
            Reference::Foreign { database, oid, class: None }
        }
        other => other,
    }
}

/// Marks the object as changed, commits, and returns its record. None if it cannot be read or written.
fn written_back(database: &Database) -> Option<Vec<u8>> {
    let connection = database.connect().expect("it is open");
    let object = connection.get::<Generic>(OID);
    let length = database.storage().load(OID, &Version::TRUNK).expect("it is there").data.len();
    let length = length.max(
        plain(&database.storage().load(OID, &Version::TRUNK).expect("it is there").data).map_or(0, |plain| plain.len()),
    );
    match object.change(|_| ()) {
        Ok(()) => {}
        Err(error) => {
            names_the_object(&error);
            return None;
        }
    }
    assert!(connection.loaded().0 <= bytes_max(length), "{} bytes of {length}", connection.loaded().0);
    match connection.commit() {
        Ok(_) => Some(database.storage().load(OID, &Version::TRUNK).expect("it is there").data.to_vec()),
        Err(error @ Error::Unwritable { .. }) => {
            names_the_object(&error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn typed<T: Persistent>(database: &Database) {
    let connection = database.connect().expect("it is open");
    let object = connection.get::<T>(OID);
    match object.change(|_| ()) {
        Ok(()) => {
            // The same state as values, and as the type again.
            object.cast::<Generic>().view().expect("values can be any state");
            object.view().expect("the type could be read before");
        }
        Err(error) => names_the_object(&error),
    }
}

fn names_the_object(error: &Error) {
    assert!(error.to_string().contains(&OID.to_string()), "{error}");
}
