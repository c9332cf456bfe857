//! A storage whose records are compressed keeps the rules as the one below it does.

use std::sync::Arc;

use vellum_harness::compressed::Plainly;
use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::Opening;
use vellum_harness::node::Node;
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::subject::{Can, Subject};
use vellum_storage::{
    Bytes, Compressed, Compression, Contested, Error, MemoryStorage, NoResolver, Oid, Order, PackOptions, Resolver,
    Revision, Storage, Tid, TidRange, TransactionMeta, Version,
};

fn subject(compression: Compression) -> Plainly {
    let can = Can::EVERYTHING.without(Can { reopen: true, read_only: true, counts: true, ..Can::default() });
    Plainly::new(format!("{compression:?}"), can, compression, |Opening { clock, .. }, resolver| {
        Ok(Arc::new(MemoryStorage::with("below", clock, resolver)))
    })
}

#[test]
fn a_compressed_storage_keeps_the_rules() {
    for (compression, cases) in
        [(Compression::On, 2000), (Compression::Off, 200), (Compression::ByClients { merged: false }, 200)]
    {
        let (mut subject, mut coverage) = (subject(compression), Coverage::default());
        for case in 0..cases {
            if let Err(found) = run::case(&mut subject, 1, case, 30, &mut coverage) {
                panic!("{compression:?}, case {case}, shrunk:\n{}", shrink(&mut subject, found, 2000));
            }
        }
        if cases == 2000 {
            println!("{}", coverage.table(subject.can()));
            assert_eq!(coverage.missing(subject.can()), []);
        }
    }
}

const LONG: &[u8] = &[b'a'; 5000];

/// Puts the new record behind the one that is committed.
#[derive(Debug)]
struct Joiner;

impl Resolver for Joiner {
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        assert!([contested.ancestor, contested.committed, contested.new].iter().all(|one| !one.starts_with(b".z")));
        Some([contested.committed, contested.new].concat().into())
    }
}

fn pair(compression: Compression) -> (MemoryStorage, Compressed) {
    let clock = Arc::new(vellum_storage::SystemClock);
    let below = MemoryStorage::with("below", clock, compression.resolver(Arc::new(Joiner)));
    (below.clone(), Compressed::new(Arc::new(below), compression))
}

fn store(storage: &dyn Storage, serial: Tid, data: &[u8]) -> Tid {
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid::ROOT, serial, data.to_vec().into()).unwrap();
    storage.commit(draft).unwrap()
}

fn root(storage: &dyn Storage) -> Bytes {
    storage.load(Oid::ROOT, &Version::TRUNK).unwrap().data
}

/// Each kind's effect on the way in, on the way out, and on a merged record: the table of zc.zlibstorage.
#[test]
fn each_kind_has_its_form() {
    use Compression::{ByClients, Off, On};
    let by = |merged| ByClients { merged };
    for (compression, stored, merged) in
        [(On, true, true), (Off, false, false), (by(true), false, true), (by(false), false, false)]
    {
        let (below, storage) = pair(compression);
        let first = store(&storage, Tid::ZERO, LONG);
        assert_eq!(root(&below).starts_with(b".z"), stored, "{compression:?}");
        assert_eq!(root(&storage), LONG, "{compression:?}");
        let second = store(&storage, first, &[LONG, b"b"].concat());
        assert_eq!(storage.load_serial(Oid::ROOT, first).unwrap(), LONG);
        // A second writer comes too late.
        store(&storage, first, &[LONG, b"c"].concat());
        assert_eq!(root(&below).starts_with(b".z"), merged, "{compression:?}");
        let wanted = [LONG, b"b", LONG, b"c"].concat();
        let shown = root(&storage);
        let shown = if let ByClients { .. } = compression { vellum_pickle_plain(&shown) } else { shown };
        assert_eq!(shown, wanted, "{compression:?}");
        assert!(second > first);
    }
}

fn vellum_pickle_plain(record: &Bytes) -> Bytes {
    let reader = Compressed::new(Arc::new(one(record.clone())), Compression::Off);
    root(&reader)
}

/// A storage with one record, as it is given.
fn one(record: Bytes) -> MemoryStorage {
    let storage = MemoryStorage::new("one");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid::ROOT, Tid::ZERO, record).unwrap();
    storage.commit(draft).unwrap();
    storage
}

/// A client that has the layer itself sends records that are compressed already. A server with `ByClients` hands them
/// on.
#[test]
fn a_record_is_never_compressed_twice() {
    let (below, storage) = pair(Compression::On);
    // The stream of so long a run repeats itself, and could become shorter once more.
    let run = vec![b'a'; 3_000_000];
    let first = store(&storage, Tid::ZERO, &run);
    let as_stored = root(&below);
    store(&storage, first, &as_stored);
    assert_eq!(root(&below), as_stored);
    assert!(root(&storage) == run);
    let by_clients = Compressed::new(Arc::new(below), Compression::ByClients { merged: true });
    assert_eq!(root(&by_clients), as_stored);
}

/// Restoring and copying in bulk compress, as ZODB's layer does; an undo shares the existing record.
#[test]
fn every_way_in_compresses() {
    let (below, storage) = pair(Compression::On);
    let revision = Revision {
        oid: Oid(5),
        version: Version::TRUNK,
        data: Some(LONG.to_vec().into()),
        blob: None,
        source: None,
        base: None,
    };
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.restore(revision).unwrap();
    storage.commit(draft).unwrap();
    let first = store(&storage, Tid::ZERO, LONG);
    let second = store(&storage, first, b"short");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.undo(second).unwrap();
    storage.commit(draft).unwrap();
    let all = |storage: &dyn Storage| -> Vec<_> {
        let all = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
        all.flat_map(|t| t.unwrap().revisions).map(|r| (r.oid, r.data.unwrap(), r.source)).collect()
    };
    let long = Bytes::from(LONG.to_vec());
    let wanted = [
        (Oid(5), long.clone(), None),
        (Oid::ROOT, long.clone(), None),
        (Oid::ROOT, "short".into(), None),
        (Oid::ROOT, long, Some(first)),
    ];
    assert_eq!(all(&storage), wanted);
    let forms: Vec<bool> = all(&below).iter().map(|(_, data, _)| data.starts_with(b".z")).collect();
    assert_eq!(forms, [true, true, false, true]);
    assert_eq!(storage.current_records(Oid::ROOT).map(|r| r.unwrap().data.len()).collect::<Vec<_>>(), [5000, 5000]);
}

#[test]
fn a_stream_that_is_wrong_names_its_object_and_leaves_the_others() {
    let below = MemoryStorage::with("below", Arc::new(vellum_storage::SystemClock), Arc::new(NoResolver));
    let mut draft = below.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(1), Tid::ZERO, ".zno stream".into()).unwrap();
    draft.store(Oid(2), Tid::ZERO, ".esomething encrypted".into()).unwrap();
    below.commit(draft).unwrap();
    let storage = Compressed::new(Arc::new(below), Compression::On);
    let error = storage.load(Oid(1), &Version::TRUNK).unwrap_err();
    assert!(matches!(error, Error::Inflate { oid: Oid(1), .. }), "{error}");
    // Another layer's records are handed on, as ZODB's does.
    assert_eq!(storage.load(Oid(2), &Version::TRUNK).unwrap().data, ".esomething encrypted");
    let packed = storage.pack().unwrap().pack(Tid::MAX, PackOptions::default());
    assert!(packed.is_ok(), "without collecting nothing is looked into");
}

/// Rule 4.10, and 4.6 below it: what a compressed record refers to is kept, and of an encrypted one it cannot be told.
#[test]
fn a_pack_follows_the_references_of_compressed_records() {
    let node = |strong: Vec<Oid>| Node { strong, ..Node::default() }.encode();
    let many = || vec![Oid(1), Oid(1), Oid(1), Oid(1), Oid(1), Oid(1)];
    for (collects, second) in [(true, node(vec![])), (false, ".esomething encrypted".into())] {
        let (below, storage) = pair(Compression::On);
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        for (oid, record) in [(Oid::ROOT, node(many())), (Oid(1), second), (Oid(2), node(vec![]))] {
            draft.store(oid, Tid::ZERO, record).unwrap();
        }
        storage.commit(draft).unwrap();
        assert!(root(&below).starts_with(b".z"));
        let packed = below.pack().unwrap().pack(Tid::MAX, PackOptions::default().collect(true));
        let left: Vec<Oid> = below.current_records(Oid::ROOT).map(|record| record.unwrap().oid).collect();
        if collects {
            packed.unwrap();
            assert_eq!(left, [Oid::ROOT, Oid(1)]);
        } else {
            let refused = matches!(packed, Err(Error::Unreadable { oid: Oid(1), is_encrypted: true, .. }));
            assert!(refused, "{packed:?}");
            assert_eq!(left, [Oid::ROOT, Oid(1), Oid(2)]);
        }
    }
}
