//! Copies that go on, and where they may begin.

use vellum_storage::{CopyOptions, Error, MemoryStorage, Oid, Storage, Tid, TidRange, TransactionMeta, Version, copy};

/// The tid of a new revision of an object.
fn committed(storage: &dyn Storage, oid: u64, serial: Tid) -> Tid {
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(oid), serial, "a record".into()).unwrap();
    storage.commit(draft).unwrap()
}

/// A later copy of everything would begin after the last transaction, and never look for what is missing.
#[test]
fn a_copy_leaves_no_gap() {
    let (from, to) = (MemoryStorage::new("from"), MemoryStorage::new("to"));
    let tids: Vec<Tid> = (1..=4).map(|oid| committed(&from, oid, Tid::ZERO)).collect();
    let copied = |first: Tid, last: Tid| {
        copy(&from, &to, TidRange { first, last }, CopyOptions::default(), &mut |_| ())
            .map(|report| report.transactions)
    };
    assert_eq!(copied(Tid::ZERO, tids[0]).unwrap(), 1);
    for first in [tids[2], tids[1].next(), tids[3].next()] {
        match copied(first, Tid::MAX) {
            Err(Error::Gap { to, last, left_out }) => {
                assert_eq!((to.as_str(), last, left_out), ("to", tids[0], tids[1]));
            }
            other => panic!("from {first}: {other:?}"),
        }
    }
    assert_eq!(to.last_transaction(), tids[0]);
    // There is nothing between the two.
    assert_eq!(copied(tids[1], tids[1]).unwrap(), 1);
    assert_eq!(copied(tids[0], Tid::MAX).unwrap(), 2);
    assert_eq!(copied(tids[3].next(), Tid::MAX).unwrap(), 0);
    assert_eq!(to.load(Oid(2), &Version::TRUNK).unwrap().tid, tids[1]);
}
