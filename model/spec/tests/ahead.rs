//! Consequences of part 9: what is fetched ahead never makes a cache wrong, and a client can tell what it asked for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vellum_spec::{Begin, Change, Database, Kept, Limits, Oid, Tid, asked_for, hints, in_addition, kept, moment};

const OIDS: u64 = 5;

/// Records are the objects that they refer to, and a tag that makes them differ.
fn references(record: &[u8]) -> Vec<Oid> {
    record[1..].iter().map(|oid| u64::from(*oid)).collect()
}

fn databases() -> impl Strategy<Value = Database> {
    let change = (0..OIDS, prop::collection::vec(0..OIDS as u8, 0..3), 0..8_u8);
    prop::collection::vec(prop::collection::vec(change, 1..3), 0..12).prop_map(|transactions| {
        transactions.into_iter().enumerate().fold(Database::default(), |db, (n, changes)| {
            let changes = changes.into_iter().map(|(oid, refers, kind)| {
                let serial = db.newest(oid).map_or(0, |at| at.tid());
                match kind {
                    0 if serial > 0 => Change::Delete { oid, serial },
                    _ => Change::store(oid, serial, &[&[n as u8][..], &refers].concat()),
                }
            });
            let tid = db.last_transaction() + 10;
            db.commit(Begin::at(tid), &changes.collect::<Vec<_>>(), &|_| None).map_or(db.clone(), |(db, _)| db)
        })
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..4_u32, 0..7_usize, 0..30_usize).prop_map(|(depth, count, bytes)| Limits { depth, count, bytes })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_global_rejects: 6000, ..ProptestConfig::default() })]

    /// Rules 9.1 and 9.4. The server reads at any time after the client asked. The client was told of all transactions
    /// up to the answer.
    #[test]
    fn a_kept_revision_holds_for_the_time_that_the_cache_says(
        db in databases(), oid in 0..OIDS, known in 0..13_usize, read in 0..13_usize,
    ) {
        let until = |n: usize| Database { transactions: db.transactions.iter().take(n).cloned().collect() };
        let known = until(known.min(read)).last_transaction();
        let t = moment(Tid::MAX, known);
        let then = until(read);
        // The answer was read before some of the transactions, and arrives after the client was told of all.
        // If nothing is ever shown, proptest says so.
        let shown = then.load_before(oid, t).ok().flatten();
        prop_assume!(shown.is_some());
        let Some(shown) = shown else { return Ok(()) };
        prop_assert!(shown.tid <= known);
        let changed = db.transactions.iter().find(|x| x.tid > known && x.revision(oid).is_some()).map(|x| x.tid);
        let end = match kept(shown.tid, shown.next, changed) {
            Kept::Current => db.last_transaction(),
            Kept::Until(end) => end,
            Kept::Not => panic!("an honest server does not contradict itself"),
        };
        for before in shown.tid + 1..=end {
            let truth = db.load_before(oid, before).ok().flatten().map(|shown| shown.data);
            prop_assert_eq!(truth, Some(shown.data), "before {}", before);
        }
    }

    /// Rule 9.4.
    #[test]
    fn a_server_that_contradicts_itself_is_not_believed(tid in 1..20_u64, next in 1..20_u64, changed in 1..20_u64) {
        let all = kept(tid, Some(next), Some(changed));
        prop_assert_eq!(all == Kept::Not, next > changed);
        prop_assert_eq!(kept(tid, None, Some(changed)) == Kept::Not, tid >= changed);
    }

    /// Rule 9.2.
    #[test]
    fn many_loads_are_as_single_ones(db in databases(), oids in prop::collection::vec(0..OIDS + 1, 0..8), n in 0..13_u64) {
        let all = db.load_many(&oids, n * 10 + 1);
        prop_assert_eq!(all.len(), oids.len());
        for (oid, answer) in oids.iter().zip(all) {
            prop_assert_eq!(answer, db.load_before(*oid, n * 10 + 1));
        }
    }

    /// Rules 9.3 and 9.5.
    #[test]
    fn what_is_within_reach_can_be_told_from_what_was_not_asked_for(
        db in databases(), oids in prop::collection::vec(0..OIDS, 1..4), n in 0..13_u64, limits in limits(),
    ) {
        let t = n * 10 + 1;
        let reached = db.within_reach(&oids, t, limits, &references);
        let sent: Vec<_> = reached.iter().map(|(oid, shown)| (*oid, shown.data, shown.tid, shown.next)).collect();
        prop_assert!(asked_for(&sent, &oids, t, limits));
        // More of any limit brings the same, and more behind it.
        let wider = Limits { count: limits.count + 1, bytes: limits.bytes + 2, ..limits };
        let more = db.within_reach(&oids, t, wider, &references);
        prop_assert_eq!(&more[..reached.len()], &reached[..]);
        let Some((oid, data, tid, next)) = sent.last().copied() else { return Ok(()) };
        let with = |one| asked_for(&[&sent[..], &[one]].concat(), &oids, t, wider);
        prop_assert!(!with((oid, data, tid, next)), "twice the same object");
        prop_assert!(!with((99, b"x", t, None)), "a revision of a later moment");
        prop_assert!(!with((99, b"x", 0, Some(t - 1))), "a revision that had ended");
        if limits.depth == 0 {
            prop_assert!(!with((99, b"x", 0, None)), "an object that was not asked for");
        }
        let narrower = Limits { count: sent.len() - 1, ..limits };
        prop_assert!(!asked_for(&sent, &oids, t, narrower));
    }

    /// Rule 9.3: the limits of number and bytes cut off the end and no more.
    #[test]
    fn a_walk_ends_before_the_first_revision_beyond_a_limit(
        db in databases(), oids in prop::collection::vec(0..OIDS, 1..4), n in 0..13_u64, limits in limits(),
    ) {
        let walk = |limits| db.within_reach(&oids, n * 10 + 1, limits, &references);
        let all = walk(Limits { count: usize::MAX, bytes: usize::MAX, ..limits });
        let bytes = |count: usize| all[..count].iter().map(|(_, shown)| shown.data.len()).sum::<usize>();
        let fit = (0..=all.len().min(limits.count)).rev().find(|count| bytes(*count) <= limits.bytes);
        prop_assert_eq!(walk(limits), &all[..fit.unwrap_or(0)]);
    }

    /// Rule 9.3: each object comes once, and one step further are the objects that those so far refer to, in order.
    #[test]
    fn a_walk_goes_on_with_the_references_of_what_it_reached(
        db in databases(), oids in prop::collection::vec(0..OIDS, 1..4), n in 0..13_u64, depth in 0..4_u32,
    ) {
        let t = n * 10 + 1;
        let walk = |depth| db.within_reach(&oids, t, Limits { depth, count: usize::MAX, bytes: usize::MAX }, &references);
        let mut wanted = Vec::new();
        let further = match depth {
            0 => oids.clone(),
            _ => walk(depth - 1).iter().inspect(|one| wanted.push(**one)).flat_map(|(_, shown)| references(shown.data)).collect(),
        };
        for oid in further {
            if let Ok(Some(shown)) = db.load_before(oid, t) && wanted.iter().all(|(one, _)| *one != oid) {
                wanted.push((oid, shown));
            }
        }
        prop_assert_eq!(walk(depth), wanted);
    }

    /// Rule 9.3: without limits, all that the trunk showed is reached that can be.
    #[test]
    fn without_limits_all_is_reached(db in databases(), n in 0..13_u64) {
        let all = Limits { depth: u32::MAX, count: usize::MAX, bytes: usize::MAX };
        let reached = db.within_reach(&[0], n * 10 + 1, all, &references);
        let reached: BTreeMap<Oid, Vec<u8>> = reached.into_iter().map(|(oid, shown)| (oid, shown.data.to_vec())).collect();
        prop_assert_eq!(reached, db.reachable(n * 10, &references));
    }

    /// Rule 9.7.
    #[test]
    fn a_hint_is_what_followed_the_last_load(loads in prop::collection::vec(0..6_u64, 0..20), most in 0..4_usize) {
        let hints = hints(&loads, most);
        prop_assert_eq!(hints.keys().copied().collect::<BTreeSet<_>>(), loads.iter().copied().collect());
        for (oid, hint) in hints {
            let last = loads.iter().rposition(|load| *load == oid).unwrap();
            let mut followed = Vec::new();
            for next in loads[last + 1..].iter().take(most) {
                if !followed.contains(next) {
                    followed.push(*next);
                }
            }
            prop_assert_eq!(hint, followed);
        }
    }
}

/// Rule 9.6.
#[test]
fn what_comes_in_addition_replaces_nothing() {
    let cache = BTreeMap::from([((1, 10), "loaded")]);
    let cache = in_addition(cache, 1, 10, "prefetched");
    let cache = in_addition(cache, 1, 20, "newer");
    assert_eq!(cache, BTreeMap::from([((1, 10), "loaded"), ((1, 20), "newer")]));
}

/// Rule 9.1.
#[test]
fn a_moment_is_not_later_than_the_client_knows() {
    for (asked, known, is) in [(0, 20, 0), (20, 20, 20), (21, 20, 21), (22, 20, 21), (Tid::MAX, 0, 1)] {
        assert_eq!(moment(asked, known), is, "{asked}, {known}");
    }
    assert_eq!(moment(Tid::MAX, Tid::MAX), Tid::MAX);
}
