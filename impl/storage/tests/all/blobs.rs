//! Blobs in a storage in memory, and in what stands above it.

use std::sync::Arc;

use vellum_storage::{
    AsOf, Blob, BlobBytes, Blobs, Bytes, CopyOptions, Error, MemoryStorage, Oid, Overlay, Result, Storage, Tid,
    TidRange, TransactionMeta, copy,
};

const ONE: Oid = Oid(1);
const RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";

fn write(storage: &dyn Storage, bytes: &[u8]) -> Blob {
    let mut writer = storage.blobs().unwrap().new_blob().unwrap();
    bytes.chunks(300_000).for_each(|chunk| writer.append(chunk).unwrap());
    assert_eq!(writer.length(), bytes.len() as u64);
    writer.finish().unwrap()
}

fn store(storage: &dyn Storage, serial: Tid, blob: Blob) -> Tid {
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store_blob(ONE, serial, RECORD.into(), blob).unwrap();
    storage.commit(draft).unwrap()
}

fn read(storage: &dyn Storage, tid: Tid) -> Option<Bytes> {
    match storage.blobs().unwrap().load_blob(ONE, tid) {
        Ok(blob) => Some(blob.bytes().unwrap()),
        Err(Error::KeyError { oid: ONE, .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_large_blob_is_read_back_and_undone() {
    let storage = MemoryStorage::new("memory");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let one = store(&storage, Tid::ZERO, write(&storage, &large));
    let two = store(&storage, one, write(&storage, b"two"));
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.undo(two).unwrap();
    let three = storage.commit(draft).unwrap();
    assert_eq!(read(&storage, two).unwrap(), "two");
    for tid in [one, three] {
        assert!(read(&storage, tid).unwrap() == large);
    }
    assert_eq!(read(&storage, three.next()), None);
}

/// A storage of another kind's blob.
#[derive(Debug)]
struct Strange;

impl BlobBytes for Strange {
    fn length(&self) -> Result<u64> {
        Ok(7)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let rest = b"strange".get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

#[test]
fn a_foreign_blob_is_copied_at_the_vote() {
    let storage = MemoryStorage::new("memory");
    let tid = store(&storage, Tid::ZERO, Blob::new(Strange));
    let blob = Blobs::load_blob(&storage, ONE, tid).unwrap();
    assert!(blob.downcast_ref::<Strange>().is_none());
    assert_eq!(blob.bytes().unwrap(), "strange");
}

#[test]
fn only_the_record_of_a_blob_has_one() {
    let storage = MemoryStorage::new("memory");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    let mail = b"\x80\x03cmail\nMessage\nq\x00.\x80\x03N.";
    let refused = draft.store_blob(ONE, Tid::ZERO, mail[..].into(), Bytes::from("x").into());
    assert!(matches!(refused, Err(Error::NotABlob { oid: ONE, class }) if class == "mail.Message"));
    draft.store_blob(ONE, Tid::ZERO, RECORD.into(), Bytes::from("x").into()).unwrap();
}

#[test]
fn a_conflict_about_a_blob_is_a_conflict() {
    let storage = MemoryStorage::new("memory");
    let one = store(&storage, Tid::ZERO, Bytes::from("one").into());
    store(&storage, one, Bytes::from("two").into());
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store_blob(ONE, one, RECORD.into(), Bytes::from("late").into()).unwrap();
    assert!(matches!(storage.vote(draft), Err(Error::Refused(_))));
}

#[test]
fn what_stands_above_shows_the_blobs() {
    let base = Arc::new(MemoryStorage::new("base"));
    let one = store(&*base, Tid::ZERO, Bytes::from("one").into());
    let two = store(&*base, one, Bytes::from("two").into());
    let then = AsOf::new(base.clone(), one).unwrap();
    assert_eq!((read(&then, one), read(&then, two)), (Some("one".into()), None));
    assert!(matches!(Blobs::new_blob(&then), Err(Error::ReadOnly { .. })));

    let overlay = Overlay::new(base.clone(), Arc::new(MemoryStorage::new("changes"))).unwrap();
    let three = store(&overlay, two, write(&overlay, b"three"));
    let mut draft = overlay.begin(TransactionMeta::new()).unwrap();
    draft.undo(three).unwrap();
    draft.undo(two).unwrap();
    let four = overlay.commit(draft).unwrap();
    assert_eq!([one, two, three, four].map(|tid| read(&overlay, tid).unwrap()), ["one", "two", "three", "one"]);
    assert_eq!((read(&*base, two), read(&*base, three)), (Some("two".into()), None));

    let copied = MemoryStorage::new("copied");
    copy(&overlay, &copied, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap();
    assert_eq!([one, two, three, four].map(|tid| read(&copied, tid).unwrap()), ["one", "two", "three", "one"]);
}
