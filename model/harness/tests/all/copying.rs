//! A copy is the same database: every answer about it is the same.

use crate::past::{compare, empty, play, tids, truncated};
use vellum_harness::subject::Can;
use vellum_storage::{
    CopyOptions, CopyReport, Error, MemoryStorage, Oid, Order, Refusal, Storage, Tid, TidRange, TransactionMeta, copy,
};

const CASES: u64 = 400;
const SMALL: CopyOptions = CopyOptions::new().batch_bytes(400);

fn copied(from: &dyn Storage, to: &dyn Storage, range: TidRange) -> CopyReport {
    let mut calls = Vec::new();
    let report = copy(from, to, range, SMALL, &mut |report| calls.push(*report)).unwrap();
    assert_eq!(calls.last(), Some(&report), "the last call has the result");
    assert!(calls.windows(2).all(|two| two[0].transactions <= two[1].transactions));
    report
}

/// Rules 2.6 and 3.7.
#[test]
fn a_copy_is_the_same_database() {
    let (mut asked, mut shared, mut based) = (0, 0, 0);
    for case in 0..CASES {
        let past = play(case, Can::EVERYTHING, 30);
        let written = past.world.database.transactions.iter().flat_map(|t| &t.revisions);
        shared += written.clone().filter(|r| matches!(r.content, vellum_spec::Content::Source(_))).count();
        based += written.filter(|r| r.base.is_some()).count();
        let to = empty();
        let report = copied(&past.rules, &to, TidRange::ALL);
        assert_eq!(report.transactions, past.world.database.transactions.len() as u64);
        asked += compare(&to, &past.world.database, Can::EVERYTHING, &past.world.known, &format!("case {case}"));
        assert_eq!(report.bytes, to.size());
        // Into a storage that takes one at a time, and has no versions of its own.
        let memory = MemoryStorage::new("memory");
        assert_eq!(copied(&past.rules, &memory, TidRange::ALL), report);
        let can = Can { versions: false, undo: false, ..Can::EVERYTHING };
        compare(&memory, &past.world.database, can, &past.world.known, &format!("case {case}, in memory"));
    }
    println!("{asked} answers; {shared} revisions share data, {based} have a base");
    assert!(shared > 0 && based > 0);
}

#[test]
fn a_copy_that_was_stopped_goes_on() {
    let mut resumed = 0;
    for case in 0..CASES {
        let past = play(case, Can::EVERYTHING, 30);
        let tids: Vec<Tid> = tids(&past.world).into_iter().collect();
        for &stop in &tids {
            let to = empty();
            let first = copied(&past.rules, &to, TidRange::to(stop));
            let database = truncated(&past.world.database, stop);
            compare(&to, &database, Can::EVERYTHING, &past.world.known, &format!("case {case} up to {stop}"));
            let second = copied(&past.rules, &to, TidRange::ALL);
            assert_eq!(second.resumed_after, Some(stop));
            assert_eq!(first.transactions + second.transactions, tids.len() as u64);
            let what = format!("case {case}, stopped after {stop}");
            compare(&to, &past.world.database, Can::EVERYTHING, &past.world.known, &what);
            resumed += 1;
        }
    }
    println!("{resumed} copies went on");
}

#[test]
fn a_copy_of_a_range_has_the_same_transactions() {
    for case in 0..CASES {
        let past = play(case, Can::EVERYTHING, 30);
        let tids: Vec<Tid> = tids(&past.world).into_iter().collect();
        let (Some(&first), Some(&last)) = (tids.get(tids.len() / 3), tids.get(tids.len() * 2 / 3)) else { continue };
        let (range, to) = (TidRange { first, last }, empty());
        copied(&past.rules, &to, range);
        let walk = |storage: &dyn Storage| -> Vec<_> {
            let found = storage.transactions(range, Order::OldestFirst).unwrap();
            found.map(Result::unwrap).collect()
        };
        assert_eq!(to.last_transaction(), last);
        let (there, here) = (walk(&past.rules), walk(&to));
        assert_eq!(there.len(), here.len());
        for (mut there, mut here) in there.into_iter().zip(here) {
            // Their sources are before the range, in part.
            for revision in there.revisions.iter_mut().chain(&mut here.revisions) {
                (revision.source, revision.base) = (revision.source.filter(|tid| *tid >= first), None);
            }
            let blobs = [&mut there, &mut here].map(|transaction| {
                let taken = transaction.revisions.iter_mut().map(|revision| revision.blob.take());
                taken.map(|blob| blob.map(|blob| blob.bytes().unwrap())).collect::<Vec<_>>()
            });
            assert_eq!(blobs[0], blobs[1], "case {case}");
            assert_eq!(there, here, "case {case}");
        }
    }
}

fn store(storage: &dyn Storage, oid: u64, data: &'static str) -> Tid {
    let serial = storage.load(Oid(oid), &Default::default()).map_or(Tid::ZERO, |loaded| loaded.tid);
    let mut change = storage.begin(TransactionMeta::new().user("ann")).unwrap();
    change.store(Oid(oid), serial, data.into()).unwrap();
    storage.vote(change).unwrap().finish().unwrap()
}

#[test]
fn what_is_no_copy_is_not_added_to() {
    let refused = |from: &dyn Storage, to: &dyn Storage| {
        let before = to.last_transaction();
        let error = copy(from, to, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap_err();
        assert_eq!(to.last_transaction(), before);
        assert!(matches!(error, Error::NotACopy { tid, .. } if tid == before), "{error}");
        error.to_string()
    };
    let from = empty();
    store(&from, 0, "one");
    store(&from, 1, "two");
    let copied = empty();
    copy(&from, &copied, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap();
    // It went its own way.
    store(&copied, 1, "mine");
    assert!(refused(&from, &copied).contains("the source does not have it"));
    // The same tid, and another record.
    let other = MemoryStorage::new("other");
    let mut change = other.begin(TransactionMeta::new().user("ann").tid(from.last_transaction())).unwrap();
    change.store(Oid(1), Tid::ZERO, "three".into()).unwrap();
    other.vote(change).unwrap().finish().unwrap();
    assert!(refused(&from, &other).contains("object 0000000000000001 has another record"));
    // The same record, in another database.
    let other = MemoryStorage::new("other");
    let mut change = other.begin(TransactionMeta::new().user("bob").tid(from.last_transaction())).unwrap();
    change.store(Oid(1), Tid::ZERO, "two".into()).unwrap();
    other.vote(change).unwrap().finish().unwrap();
    assert!(refused(&from, &other).contains("another user"));
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all_where_its_tids_are_wrong() {
    let from = empty();
    let (first, second) = (store(&from, 0, "one"), store(&from, 1, "two"));
    let mut all: Vec<_> =
        from.transactions(TidRange::ALL, Order::OldestFirst).unwrap().collect::<Result<_, _>>().unwrap();
    all.reverse();
    let to = empty();
    let error = to.bulk().unwrap().copy_in(all).unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::TidNotLater { tid, last }) if tid == first && last == second));
    assert_eq!(to.last_transaction(), Tid::ZERO);
}
