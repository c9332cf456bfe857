//! References between objects, where there are versions.

use std::collections::BTreeSet;

use vellum_file::FileStorage;
use vellum_harness::node::Node;
use vellum_storage::{
    Bytes, Oid, OidSet, Revision, Tid, TransactionMeta, Version, newest_revisions, referrers, refers_in,
};

fn record(strong: &[u64], weak: &[u64]) -> Bytes {
    let oids = |oids: &[u64]| oids.iter().copied().map(Oid).collect();
    Node { strong: oids(strong), weak: oids(weak), ..Node::default() }.encode()
}

fn members(set: &OidSet) -> BTreeSet<u64> {
    let next = |from: u64| set.next(Oid(from)).map(|oid| oid.0);
    std::iter::successors(next(0), |oid| next(oid.checked_add(1)?)).collect()
}

fn commit(storage: &FileStorage, changes: &[(u64, Tid, &str, Bytes)]) -> Tid {
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, serial, version, data) in changes {
        match *version {
            "" => change.store(Oid(*oid), *serial, data.clone()).unwrap(),
            version => {
                let version = Version::named(version.to_owned());
                change.store_in(&version, Oid(*oid), *serial, data.clone()).unwrap();
            }
        }
    }
    storage.vote(change).unwrap().finish().unwrap()
}

/// References of the trunk and of versions keep objects; former references and weak references do not.
#[test]
fn a_version_keeps_what_the_trunk_lets_go() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::create(directory.path().join("versions.fs")).unwrap();
    let all: Vec<_> = (1..6).map(|oid| (oid, Tid::ZERO, "", record(&[], &[]))).collect();
    commit(&storage, &all);
    let first = commit(&storage, &[(0, Tid::ZERO, "", record(&[1, 2], &[5]))]);
    let second = commit(&storage, &[(0, first, "", record(&[2], &[]))]);
    let third = commit(&storage, &[(0, second, "draft", record(&[3], &[4]))]);
    assert_eq!(members(storage.needed(&mut |_, _| ()).unwrap().needed()), BTreeSet::from([0, 2, 3]));
    let who = |to| {
        let mut found = Vec::new();
        referrers(&storage, Oid(to), &mut |r| {
            found.push((r.oid.0, r.tid, r.version.to_string(), r.strong, r.weak));
            Ok(())
        })
        .unwrap();
        found
    };
    assert_eq!(who(1), []);
    assert_eq!(who(2), [(0, second, String::new(), 1, 0)]);
    assert_eq!(who(3), [(0, third, "draft".to_owned(), 1, 0)]);
    assert_eq!(who(4), [(0, third, "draft".to_owned(), 0, 1)]);
    assert_eq!(who(5), []);
    let refers = |to| refers_in(&storage, Oid::ROOT, Oid(to)).unwrap().map(|version| version.to_string());
    assert_eq!([2, 3, 4].map(refers), [Some(String::new()), Some("draft".to_owned()), None]);
    // Each object once, as it is, and the trunk's under a version.
    let mut newest = Vec::new();
    newest_revisions(&storage, &mut |object| {
        let records: Vec<_> = object.records().map(|(tid, version, _)| (tid, version.to_string())).collect();
        newest.push((object.oid.0, records));
        Ok(())
    })
    .unwrap();
    newest.sort();
    let created = storage.load(Oid(1), &Version::TRUNK).unwrap().tid;
    let mut expected = vec![(0, vec![(third, "draft".to_owned()), (second, String::new())])];
    expected.extend((1..6).map(|oid| (oid, vec![(created, String::new())])));
    assert_eq!(newest, expected);
}

/// Of an object that a transaction holds twice, the last one counts.
#[test]
fn twice_in_one_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::create(directory.path().join("twice.fs")).unwrap();
    commit(&storage, &[(0, Tid::ZERO, "", record(&[1], &[]))]);
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    for strong in [2, 3] {
        let revision = Revision {
            oid: Oid::ROOT,
            version: Version::TRUNK,
            data: Some(record(&[strong], &[])),
            blob: None,
            source: None,
            base: None,
        };
        change.restore(revision).unwrap();
    }
    storage.vote(change).unwrap().finish().unwrap();
    let mut strong = Vec::new();
    newest_revisions(&storage, &mut |object| {
        strong.push(Node::references(object.data.as_ref().unwrap()));
        Ok(())
    })
    .unwrap();
    assert_eq!(strong, [[3]]);
}
