//! Records longer than those of the harness's histories, and all that is said of their transactions. Each test was a
//! planted bug that nothing caught.

use std::path::Path;
use std::sync::Arc;

use crate::common::{PATH, SharedClock, commit, options, record};
use bytes::Bytes;
use vellum_disk::{Disk, SimDisk};
use vellum_storage::{Contested, Oid, Resolver, Tid, TransactionMeta, Version};

/// Merges to a record that has both in it, and so is longer than either.
#[derive(Debug)]
struct Both;

impl Resolver for Both {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        Some([contested.committed, contested.new].concat().into())
    }
}

/// The transaction's length is counted before the vote, and a record that is merged at the vote has another one.
#[test]
fn a_merged_record_may_be_longer_than_the_new_one() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let options = options(&disk, &clock).resolver(Arc::new(Both));
    let storage = options.create(PATH).unwrap();
    let first = commit(&storage, "first", &[(1, Some("a".into()))]).unwrap();
    commit(&storage, "second", &[(1, Some("bb".into()))]).unwrap();
    let mut late = storage.begin(TransactionMeta::new()).unwrap();
    late.store(Oid(1), first, "ccc".into()).unwrap();
    late.store(Oid(2), Tid::ZERO, "beside it".into()).unwrap();
    let tid = storage.vote(late).unwrap().finish().unwrap();
    drop(storage);
    let _ = disk.remove(Path::new("Data.fs.index"));
    let storage = options.open(PATH).unwrap();
    assert_eq!(storage.load(Oid(1), &Version::TRUNK).unwrap().data, "bbccc");
    assert_eq!(storage.load(Oid(2), &Version::TRUNK).unwrap().tid, tid);
}

#[test]
fn a_history_tells_all_that_was_said_of_a_transaction() {
    let (disk, clock) = (SimDisk::new(1), SharedClock::new());
    let storage = options(&disk, &clock).create(PATH).unwrap();
    let meta = TransactionMeta::new().user("ann").description("words").extension(&b"\x80\x03}."[..]);
    let mut transaction = storage.begin(meta).unwrap();
    transaction.store(Oid(1), Tid::ZERO, record(b"x")).unwrap();
    storage.vote(transaction).unwrap().finish().unwrap();
    let [entry] = &storage.history(Oid(1), 9).unwrap()[..] else { panic!("one revision") };
    assert_eq!((&entry.user[..], &entry.description[..]), (&b"ann"[..], &b"words"[..]));
    assert_eq!(&entry.extension[..], b"\x80\x03}.");
}
