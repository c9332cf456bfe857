//! Packing a file: the bytes that ZODB leaves.

mod common;

use std::path::PathBuf;

use common::format_problems;
use vellum_file::{FileStorage, Options, Packing, Unwatched};
use vellum_storage::{Storage, Tid};

const COLLECT: Packing = Packing { collect: true, go_on: false, keep_old: false };

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// The real ZODB packed the one database, and the other is what it left.
#[test]
fn what_zodb_packed_is_the_same_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    std::fs::copy(golden("unpacked.fs"), &path).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(golden("packed.json")).unwrap()).unwrap();
    let time = json["pack_time_unix"].as_f64().unwrap();
    let to = Tid::at(jiff::Timestamp::from_microsecond((time * 1e6) as i64).unwrap());
    let storage = FileStorage::open(&path).unwrap();
    let packed = storage.pack_with(to, COLLECT, &mut Unwatched).unwrap();
    println!("{packed:?}");
    assert!(std::fs::read(&path).unwrap() == std::fs::read(golden("packed.fs")).unwrap());
    assert_eq!((packed.before.bytes, packed.after.bytes), (129_493, storage.size()));
    drop(storage);
    assert_eq!(format_problems(&Options::new(), path.to_str().unwrap()), []);
}
