//! Packing the storage in memory, beyond what the harness holds it to.

use vellum_storage::{
    MemoryStorage, Oid, Order, PackOptions, Revision, Storage, Tid, TidRange, TransactionMeta, Version,
};

/// A record that refers to these.
fn record(refers: &[u64]) -> Vec<u8> {
    let mut record = b"\x80\x03capp\nNode\n.\x80\x03](".to_vec();
    for oid in refers {
        record.extend_from_slice(b"C\x08");
        record.extend_from_slice(&oid.to_be_bytes());
        record.push(b'Q');
    }
    record.extend_from_slice(b"e.");
    record
}

/// Stores in one transaction, each over the present revision.
fn store(storage: &MemoryStorage, records: &[(u64, Vec<u8>)]) -> Tid {
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, record) in records {
        let serial = storage.load(Oid(*oid), &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        change.store(Oid(*oid), serial, record.clone().into()).unwrap();
    }
    storage.vote(change).unwrap().finish().unwrap()
}

fn collecting() -> PackOptions {
    PackOptions::default().collect(true)
}

#[test]
fn a_record_that_can_not_be_read_keeps_everything_where_garbage_is_collected() {
    let storage = MemoryStorage::new("memory");
    store(&storage, &[(0, record(&[1])), (1, b"no pickle".to_vec()), (2, record(&[]))]);
    let to = store(&storage, &[(1, b"none either".to_vec())]);
    let pack = storage.pack().unwrap();
    for go_on in [false, true] {
        let refused = pack.pack(to, collecting().go_on(go_on)).unwrap_err().to_string();
        assert!(refused.starts_with("nothing was packed, since it is not known which objects 0000000000000001"));
        assert_eq!(storage.history(Oid(1), 9).unwrap().len(), 2);
    }
    // Its references do not matter where a missing reference discards nothing.
    pack.pack(to, PackOptions::default()).unwrap();
    assert_eq!((storage.history(Oid(1), 9).unwrap().len(), storage.object_count()), (1, 3));
}

/// Rule 4.9.
#[test]
fn a_transaction_between_vote_and_finish_finishes_as_it_would_have() {
    let storage = MemoryStorage::new("memory");
    let to = store(&storage, &[(0, record(&[1])), (1, record(&[])), (2, record(&[3])), (3, record(&[]))]);
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.store(Oid(1), to, record(&[2]).into()).unwrap();
    let voted = storage.vote(change).unwrap();
    storage.pack().unwrap().pack(to, collecting()).unwrap();
    voted.finish().unwrap();
    assert_eq!(storage.object_count(), 4);
    // One that is aborted is of no account any more.
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    let serial = storage.load(Oid(1), &Version::TRUNK).unwrap().tid;
    change.store(Oid(1), serial, record(&[2]).into()).unwrap();
    drop(storage.vote(change).unwrap());
    let to = store(&storage, &[(1, record(&[]))]);
    storage.pack().unwrap().pack(to, collecting()).unwrap();
    assert_eq!(storage.object_count(), 2);
    assert_eq!(storage.size(), (record(&[1]).len() + record(&[]).len()) as u64);
}

/// The second revision shares the first one's data, and the third names the second as its source: that is the one that
/// it needs. Rule 4.3.
#[test]
fn the_source_that_was_named_is_kept_and_not_the_one_behind_it() {
    let storage = MemoryStorage::new("memory");
    let first = store(&storage, &[(0, record(&[]))]);
    let restore = |source| {
        let mut change = storage.begin(TransactionMeta::new()).unwrap();
        let (oid, version, data) = (Oid::ROOT, Version::TRUNK, Some(record(&[]).into()));
        change.restore(Revision { oid, version, data, blob: None, source: Some(source), base: None }).unwrap();
        storage.vote(change).unwrap().finish().unwrap()
    };
    let second = restore(first);
    let between = store(&storage, &[(0, record(&[0]))]);
    let third = restore(second);
    let told = || -> Vec<_> {
        let transactions = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap());
        transactions.map(|t| (t.tid, t.revisions[0].source)).collect()
    };
    let before = [(first, None), (second, Some(first)), (between, None), (third, Some(first))];
    assert_eq!(told(), before, "told is the one that holds the data");
    storage.pack().unwrap().pack(between, collecting()).unwrap();
    assert_eq!(told(), [(second, None), (between, None), (third, Some(second))]);
}

/// A draft that is kept only for its data names what it lay over no more; one that is the newest does, and that is
/// kept. Rule 4.4.
#[test]
fn what_a_kept_draft_lay_over_is_kept_or_forgotten_by_both() {
    let storage = MemoryStorage::new("memory");
    let restore = |version: &Version, data: &[u64], source, base| {
        let mut change = storage.begin(TransactionMeta::new()).unwrap();
        let (oid, version, data) = (Oid::ROOT, version.clone(), Some(record(data).into()));
        change.restore(Revision { oid, version, data, blob: None, source, base }).unwrap();
        storage.vote(change).unwrap().finish().unwrap()
    };
    let told = || -> Vec<_> {
        let transactions = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(|t| t.unwrap());
        transactions.map(|t| (t.tid, t.revisions[0].base)).collect()
    };
    let first = store(&storage, &[(0, record(&[]))]);
    let draft = restore(&Version::named("draft"), &[0], None, Some(first));
    storage.pack().unwrap().pack(draft, collecting()).unwrap();
    assert_eq!(told(), [(first, None), (draft, Some(first))]);
    let between = restore(&Version::TRUNK, &[0, 0], None, None);
    let last = restore(&Version::TRUNK, &[0], Some(draft), None);
    storage.pack().unwrap().pack(between, collecting()).unwrap();
    assert_eq!(told(), [(draft, None), (between, None), (last, None)]);
}
