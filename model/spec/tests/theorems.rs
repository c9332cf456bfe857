//! Consequences of the rules for every history. A history is made of small numbers. Their meaning depends on the
//! database at that moment, so that most steps can be done.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vellum_spec::{Begin, Change, Contested, Database, FORGOTTEN_AT_ONCE, How, Oid, Status, Tid, Transaction, later};

const OIDS: u64 = 6;
const VERSIONS: [&str; 3] = ["", "draft", "other"];

#[derive(Clone, Debug)]
enum Op {
    Store { oid: Oid, refers: Vec<Oid>, tag: u8, blob: Option<u8>, version: usize, current: bool },
    Delete(Oid),
    Undo(usize),
    Commit(usize, usize),
    Abort(usize),
}

#[derive(Clone, Debug)]
enum Step {
    Transaction(Vec<Op>),
    /// To this transaction, counted from the newest; and whether to collect.
    Pack(usize, bool),
}

/// Records are a number of references, those, and a tag that makes them differ.
fn record(refers: &[Oid], tag: u8) -> Vec<u8> {
    [&[refers.len() as u8][..], &refers.iter().map(|oid| *oid as u8).collect::<Vec<_>>(), &[tag]].concat()
}

fn references(record: &[u8]) -> Vec<Oid> {
    record[1..][..record[0] as usize].iter().map(|oid| u64::from(*oid)).collect()
}

/// Two changes of the tag add up, as those of a counter do, if the references are the same.
fn merge(c: Contested<'_>) -> Option<Vec<u8>> {
    let split = |record: &[u8]| record.split_last().map(|(tag, rest)| (*tag, rest.to_vec()));
    let ((old, refers), (one, a), (two, b)) = (split(c.ancestor)?, split(c.committed)?, split(c.new)?);
    (refers == a && refers == b).then(|| [&refers[..], &[one.wrapping_add(two).wrapping_sub(old)]].concat())
}

fn op() -> impl Strategy<Value = Op> {
    let oid = || 0..OIDS;
    let version = || prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2)];
    let blob = || prop::option::weighted(0.3, 0..3_u8);
    let store = (oid(), prop::collection::vec(oid(), 0..3), any::<u8>(), blob(), version(), prop::bool::weighted(0.9));
    let store = store.prop_map(|(oid, refers, tag, blob, version, current)| {
        // Records of blobs are all alike.
        let (refers, tag) = if blob.is_some() { (vec![], 0) } else { (refers, tag) };
        Op::Store { oid, refers, tag, blob, version, current }
    });
    prop_oneof![
        8 => store,
        1 => oid().prop_map(Op::Delete),
        3 => (0..4_usize).prop_map(Op::Undo),
        1 => (1..3_usize, 0..3_usize).prop_map(|(from, to)| Op::Commit(from, to)),
        1 => (1..3_usize).prop_map(Op::Abort),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => prop::collection::vec(op(), 1..3).prop_map(Step::Transaction),
        1 => (0..6_usize, any::<bool>()).prop_map(|(back, collect)| Step::Pack(back, collect)),
    ];
    prop::collection::vec(step, 0..25)
}

fn change(db: &Database, op: &Op) -> Option<Change> {
    let serial = |oid| db.newest(oid).map_or(0, |at| at.tid());
    Some(match op {
        Op::Store { oid, refers, tag, blob, version, current } => Change::Store {
            oid: *oid,
            serial: if *current { serial(*oid) } else { serial(*oid).saturating_sub(10) },
            data: record(refers, *tag),
            blob: blob.map(|n| vec![n; n.into()]),
            version: VERSIONS[*version].to_owned(),
        },
        Op::Delete(oid) => Change::Delete { oid: *oid, serial: serial(*oid) },
        Op::Undo(n) => Change::Undo { tid: db.undo_log(*n, n + 1).first()?.tid },
        Op::Commit(from, to) => {
            Change::CommitVersion { from: VERSIONS[*from].to_owned(), to: VERSIONS[*to].to_owned() }
        }
        Op::Abort(from) => Change::AbortVersion { from: VERSIONS[*from].to_owned() },
    })
}

fn next(db: &Database) -> Tid {
    db.last_transaction() + 10
}

/// The tid of a transaction counted from the newest; that of the database's beginning if there are not so many.
fn back(db: &Database, n: usize) -> Tid {
    db.transactions.iter().rev().nth(n).map_or(0, |t| t.tid)
}

fn play(steps: &[Step]) -> Database {
    let first: Vec<_> = (0..OIDS).map(|oid| Change::store(oid, 0, &record(&[(oid + 1) % OIDS], 0))).collect();
    let mut db = Database::default().commit(Begin::at(10), &first, &merge).unwrap().0;
    for step in steps {
        let done = match step {
            Step::Transaction(ops) => {
                let changes: Vec<_> = ops.iter().filter_map(|op| change(&db, op)).collect();
                db.commit(Begin::at(next(&db)), &changes, &merge).ok().map(|(db, _)| db)
            }
            Step::Pack(n, collect) => db
                .pack(back(&db, *n), How { collect: *collect, go_on: false, ..How::default() }, &references)
                .ok()
                .map(|packed| packed.database),
        };
        db = done.unwrap_or(db);
    }
    db
}

/// The view of all clients: for each object and version, the record.
fn view(db: &Database) -> BTreeMap<(Oid, &'static str), Option<Vec<u8>>> {
    let loads = (0..OIDS).flat_map(|oid| VERSIONS.map(|version| (oid, version)));
    loads.map(|(oid, version)| ((oid, version), db.load(oid, version).ok().map(|(data, _)| data.to_vec()))).collect()
}

fn one(db: &Database, change: Change) -> Option<Database> {
    db.commit(Begin::at(next(db)), &[change], &|_| None).ok().map(|(db, _)| db)
}

/// Every object that can be reached from the root now, in a version.
fn reachable_in(db: &Database, version: &str) -> BTreeMap<Oid, Vec<u8>> {
    let (mut found, mut next) = (BTreeMap::new(), vec![0]);
    while let Some(oid) = next.pop() {
        if let (false, Ok((data, _))) = (found.contains_key(&oid), db.load(oid, version)) {
            found.insert(oid, data.to_vec());
            next.extend(references(data));
        }
    }
    found
}

/// The objects that refer now, in any version, to an object that is missing or deleted.
fn dangling(db: &Database) -> BTreeSet<(Oid, Oid)> {
    let all = (0..OIDS).flat_map(|oid| VERSIONS.map(|version| (oid, version)));
    let refers = all.filter_map(|(oid, version)| Some((oid, version, references(db.load(oid, version).ok()?.0))));
    let pairs = refers.flat_map(|(oid, version, to)| to.into_iter().map(move |to| (oid, version, to)));
    pairs.filter(|(_, version, to)| db.load(*to, version).is_err()).map(|(oid, _, to)| (oid, to)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Rules 4.2 and 4.3.
    #[test]
    fn packing_never_changes_what_can_be_reached_at_or_after_its_time(steps in history(), n in 0..8_usize) {
        let db = play(&steps);
        let t = back(&db, n);
        if let Ok(packed) = db.pack(t, How { collect: true, go_on: true, ..How::default() }, &references) {
            let moments = db.transactions.iter().map(|t| t.tid).filter(|&tid| tid >= t).chain([t, db.last_transaction() + 5]);
            for moment in moments {
                let (before, after) = (db.reachable(moment, &references), packed.database.reachable(moment, &references));
                prop_assert_eq!(before, after, "at {}", moment);
            }
            for version in VERSIONS {
                prop_assert_eq!(reachable_in(&db, version), reachable_in(&packed.database, version));
            }
        }
    }

    /// Rule 4.1.
    #[test]
    fn packing_leaves_everything_after_its_time_as_it_is(steps in history(), n in 0..8_usize, collect: bool) {
        let db = play(&steps);
        let t = back(&db, n);
        if let Ok(packed) = db.pack(t, How { collect, go_on: true, ..How::default() }, &references) {
            let later = |db: &Database| db.transactions.iter().filter(|x| x.tid > t).cloned().collect::<Vec<_>>();
            prop_assert_eq!(later(&db), later(&packed.database));
            for transaction in &later(&db) {
                for oid in transaction.oids() {
                    let data = |db: &Database| db.at(oid, transaction.tid).and_then(|at| db.data(at).map(<[u8]>::to_vec));
                    prop_assert_eq!(data(&db), data(&packed.database));
                }
            }
        }
    }

    /// Rule 4.2.
    #[test]
    fn packing_without_collection_keeps_what_everybody_sees(steps in history(), n in 0..8_usize) {
        let db = play(&steps);
        if let Ok(packed) = db.pack(back(&db, n), How { collect: false, go_on: true, ..How::default() }, &references) {
            prop_assert_eq!(view(&db), view(&packed.database));
        }
    }

    /// Rules 4.2 and 4.8.
    #[test]
    fn packing_makes_no_reference_dangle(steps in history(), n in 0..8_usize) {
        let db = play(&steps);
        if let Ok(packed) = db.pack(back(&db, n), How { collect: true, go_on: true, ..How::default() }, &references) {
            prop_assert!(dangling(&packed.database).is_subset(&dangling(&db)));
        }
    }

    /// Observational equivalence: every object of which a revision is left answers as before, at every moment from the
    /// pack time on, in every version. The same transactions can be undone, with the same result.
    /// Rules 4.2, 4.3 and 3.4.
    #[test]
    fn packing_takes_back_no_undo_and_changes_no_answer(steps in history(), n in 0..8_usize, collect: bool) {
        let db = play(&steps);
        let t = back(&db, n);
        if let Ok(packed) = db.pack(t, How { collect, go_on: true, ..How::default() }, &references) {
            let packed = packed.database;
            prop_assert_eq!(packed.last_transaction(), db.last_transaction());
            let left = |view: BTreeMap<(Oid, &'static str), Option<Vec<u8>>>| -> BTreeMap<_, _> {
                view.into_iter().filter(|((oid, _), _)| packed.newest(*oid).is_some()).collect()
            };
            prop_assert_eq!(left(view(&packed)), left(view(&db)));
            for oid in packed.oids() {
                for moment in db.transactions.iter().map(|x| x.tid).filter(|&tid| tid >= t) {
                    let shown = |db: &Database| {
                        db.load_before(oid, moment + 1).ok().flatten().map(|shown| (shown.data.to_vec(), shown.next))
                    };
                    prop_assert_eq!(shown(&packed), shown(&db), "{} at {}", oid, moment);
                }
            }
            for later in db.transactions.iter().filter(|x| x.tid > t && x.status == Status::Complete) {
                let undo = |db: &Database| one(db, Change::Undo { tid: later.tid }).map(|db| left(view(&db)));
                prop_assert_eq!(undo(&packed), undo(&db), "undo of {}", later.tid);
            }
        }
    }

    /// A pack that was not refused gives no reason to refuse the next one.
    /// Rules 4.7 and 4.8.
    #[test]
    fn after_a_pack_comes_another(steps in history(), n in 0..8_usize, collect: bool, then: bool) {
        let db = play(&steps);
        if let Ok(packed) = db.pack(back(&db, n), How { collect, ..How::default() }, &references) {
            let next = packed.database.pack(back(&db, n), How { collect: then, ..How::default() }, &references);
            prop_assert!(next.is_ok_and(|next| next.dangling == packed.dangling));
        }
    }

    /// Rule 4.7.
    #[test]
    fn packing_twice_is_packing_once(steps in history(), n in 0..8_usize, m in 0..8_usize, collect: bool) {
        let db = play(&steps);
        if let Ok(once) = db.pack(back(&db, n.min(m)), How { collect, go_on: true, ..How::default() }, &references) {
            let again = once.database.pack(back(&db, n.max(m)), How { collect, go_on: true, ..How::default() }, &references).unwrap();
            prop_assert_eq!(&again.database, &once.database);
        }
    }

    /// A pack by counts discards no object that collection keeps, and changes nothing that can be reached.
    /// Rules 4.11 and 4.2.
    #[test]
    fn a_pack_by_counts_discards_a_part_of_the_garbage(steps in history(), n in 0..8_usize) {
        let db = play(&steps);
        let t = back(&db, n);
        if let Ok(packed) = db.pack_by_counts(t, &[], None, &references) {
            let collect = |collect| How { collect, go_on: true, ..How::default() };
            let kept = |how| db.pack(t, how, &references).unwrap().database.oids();
            prop_assert!(kept(collect(true)).is_subset(&packed.oids()));
            prop_assert!(packed.oids().is_subset(&kept(collect(false))));
            prop_assert!(dangling(&packed).is_subset(&dangling(&db)));
            let moments = db.transactions.iter().map(|t| t.tid).filter(|&tid| tid >= t).chain([t, db.last_transaction() + 5]);
            for moment in moments {
                prop_assert_eq!(db.reachable(moment, &references), packed.reachable(moment, &references), "at {}", moment);
            }
        }
    }

    /// A pack by counts that was stopped goes on where it was, and collection finds the rest.
    /// Rule 4.11.
    #[test]
    fn a_stopped_pack_by_counts_has_lost_nothing(steps in history(), n in 0..8_usize) {
        let db = play(&steps);
        let t = back(&db, n);
        if let Ok(packed) = db.pack_by_counts(t, &[], None, &references) {
            let all = How { collect: true, go_on: true, ..How::default() };
            let collected = db.pack(t, all, &references).unwrap().database;
            let stopped = db.stopped_by_counts(t, &[], &references);
            for stopped in &stopped {
                prop_assert_eq!(&stopped.pack_by_counts(t, &[], None, &references).unwrap(), &packed);
                prop_assert_eq!(&stopped.pack(t, all, &references).unwrap().database, &collected);
            }
            // It may be stopped at its end, and after it has packed to any earlier time.
            prop_assert!(stopped.contains(&packed));
            for earlier in db.transactions.iter().map(|x| x.tid).filter(|tid| (db.packed_to()..=t).contains(tid)) {
                let (is_packed, later) = (|x: &&Transaction| x.tid <= earlier, |x: &&Transaction| x.tid > earlier);
                let is_it = |stopped: &Database| {
                    stopped.transactions.iter().filter(is_packed).all(|x| x.status == Status::Packed)
                        && stopped.transactions.iter().filter(later).eq(db.transactions.iter().filter(later))
                };
                prop_assert!(stopped.iter().any(is_it), "packed to {}", earlier);
            }
        }
    }

    /// Forgetting changes no moment at or after its time, and leaves each object one revision at that time, and its
    /// base. Rule 4.12.
    #[test]
    fn forgetting_changes_nothing_from_its_time_on(steps in history(), n in 0..8_usize) {
        let db = play(&steps);
        let then = back(&db, n);
        let complete = |db: &Database| db.transactions.iter().filter(|t| t.status == Status::Complete).count();
        let mut left = db.clone();
        for _ in 0..db.transactions.len() {
            let next = left.forget(then);
            prop_assert!(complete(&left) - complete(&next) <= FORGOTTEN_AT_ONCE);
            left = next;
        }
        prop_assert_eq!(&left.forget(then), &left);
        prop_assert_eq!(view(&left), view(&db));
        for moment in db.transactions.iter().map(|t| t.tid).filter(|&tid| tid >= then) {
            for oid in 0..OIDS {
                let shown = |db: &Database| db.load_before(oid, moment + 1).map(|s| s.map(|s| s.data.to_vec()));
                prop_assert_eq!(shown(&left), shown(&db), "{} at {}", oid, moment);
            }
        }
        if n == 0 {
            for oid in db.oids() {
                let (past, base) = (left.past(oid), left.newest(oid).and_then(|newest| newest.revision.base));
                prop_assert_eq!(past.len(), 1 + base.iter().len());
                prop_assert!(past.iter().all(|at| left.lasts(oid, at.tid())));
            }
        }
    }

    /// Rule 3.4.
    #[test]
    fn undo_takes_back_and_undo_of_that_does_it_again(steps in history()) {
        let db = play(&steps);
        let log = db.undo_log(0, 1);
        if let Some(undone) = log.first().and_then(|last| one(&db, Change::Undo { tid: last.tid })) {
            let before = Database { transactions: db.transactions[..db.transactions.len() - 1].to_vec() };
            prop_assert_eq!(view(&undone), view(&before));
            let redone = one(&undone, Change::Undo { tid: undone.last_transaction() }).unwrap();
            prop_assert_eq!(view(&redone), view(&db));
        }
    }

    /// Rules 1.6 and 3.6.
    #[test]
    fn aborting_a_version_shows_everybody_the_trunk(steps in history()) {
        let db = play(&steps);
        let aborted = one(&db, Change::AbortVersion { from: "draft".into() }).unwrap();
        for oid in 0..OIDS {
            let record = |db: &Database, version| db.load(oid, version).map(|(data, _)| data.to_vec());
            prop_assert_eq!(record(&aborted, ""), record(&db, ""));
            prop_assert_eq!(record(&aborted, "draft"), record(&db, ""));
            prop_assert_eq!(record(&aborted, "other"), record(&db, "other"));
        }
        prop_assert!(!aborted.versions().contains("draft"));
    }

    /// Rules 3.5 and 3.4.
    #[test]
    fn committing_a_version_shows_it_to_everybody_and_undo_of_that_hides_it_again(steps in history()) {
        let db = play(&steps);
        let committed = one(&db, Change::CommitVersion { from: "draft".into(), to: "".into() }).unwrap();
        for oid in 0..OIDS {
            let record = |db: &Database, version| db.load(oid, version).map(|(data, _)| data.to_vec());
            prop_assert_eq!(record(&committed, "draft"), record(&db, "draft"));
            if db.modified_in_version(oid) == "draft" {
                prop_assert_eq!(record(&committed, ""), record(&db, "draft"));
            }
        }
        let undone = one(&committed, Change::Undo { tid: committed.last_transaction() }).unwrap();
        prop_assert_eq!(view(&undone), view(&db));
        prop_assert_eq!(undone.versions(), db.versions());
    }

    /// Rules 1.5 and 3.5.
    #[test]
    fn committing_a_version_to_another_moves_it_and_leaves_the_trunk(steps in history()) {
        let db = play(&steps);
        let moved = one(&db, Change::CommitVersion { from: "draft".into(), to: "other".into() }).unwrap();
        for oid in 0..OIDS {
            let record = |db: &Database, version| db.load(oid, version).map(|(data, _)| data.to_vec());
            prop_assert_eq!(record(&moved, ""), record(&db, ""));
            if db.modified_in_version(oid) == "draft" {
                prop_assert_eq!(record(&moved, "other"), record(&db, "draft"));
            }
        }
        prop_assert!(!moved.versions().contains("draft"));
    }

    /// Rules 2.1 and 2.2.
    #[test]
    fn the_present_is_the_end_of_the_past(steps in history()) {
        let db = play(&steps);
        for oid in 0..OIDS {
            let now = db.load(oid, "").ok().map(|(data, _)| data.to_vec());
            let last = db.load_before(oid, Tid::MAX).ok().flatten();
            prop_assert_eq!(last.map(|shown| shown.data.to_vec()), now);
            prop_assert!(last.is_none_or(|shown| shown.next.is_none()));
            if let (Ok(history), Some(newest)) = (db.history(oid, 1), db.newest(oid)) {
                prop_assert_eq!(history[0].transaction.tid, newest.tid());
            }
        }
    }

    /// Rules 2.10 and 2.11.
    #[test]
    fn a_version_is_there_as_long_as_it_holds_an_object(steps in history()) {
        let db = play(&steps);
        let held = VERSIONS.into_iter().filter(|version| {
            !version.is_empty() && (0..OIDS).any(|oid| db.newest(oid).is_some_and(|at| at.revision.version == *version))
        });
        prop_assert_eq!(db.versions(), held.collect());
    }

    /// A revision that was shown at a moment was shown from its tid until just before the next.
    /// Rules 1.6 and 2.2.
    #[test]
    fn the_trunk_showed_a_revision_from_its_tid_until_the_next(steps in history(), oid in 0..OIDS, n in 0..8_usize) {
        let db = play(&steps);
        if let Ok(Some(shown)) = db.load_before(oid, back(&db, n)) {
            for moment in shown.tid + 1..=shown.next.unwrap_or(db.last_transaction() + 5) {
                prop_assert_eq!(db.load_before(oid, moment), Ok(Some(shown)), "before {}", moment);
            }
        }
    }

    /// Rules 2.6, 3.7 and 8.5.
    #[test]
    fn a_copy_is_the_same_database(steps in history()) {
        let db = play(&steps);
        let mut copy = Database::default();
        for transaction in &db.transactions {
            let changes: Vec<_> = transaction
                .revisions
                .iter()
                .map(|revision| {
                    let at = vellum_spec::At { transaction, revision };
                    let source = match revision.content {
                        vellum_spec::Content::Source(tid) => Some(tid),
                        _ => None,
                    };
                    Change::Restore {
                        oid: revision.oid,
                        data: db.data(at).map(<[u8]>::to_vec),
                        blob: db.blob(at).map(<[u8]>::to_vec),
                        version: revision.version.clone(),
                        source,
                        base: revision.base,
                    }
                })
                .collect();
            let begin = Begin { tid: transaction.tid, status: transaction.status, ..Begin::default() };
            copy = copy.commit(begin, &changes, &|_| None).unwrap().0;
        }
        prop_assert_eq!(view(&copy), view(&db));
        let same = |db: &Database| {
            db.transactions.iter().map(|t| (t.tid, t.status, t.oids().into_iter().map(|oid| {
                let at = db.at(oid, t.tid).unwrap();
                let base = at.revision.base;
                let held = (db.data(at).map(<[u8]>::to_vec), db.blob(at).map(<[u8]>::to_vec));
                (oid, at.revision.version.clone(), base, held, db.data(at).and(db.holder(at)))
            }).collect::<Vec<_>>())).collect::<Vec<_>>()
        };
        prop_assert_eq!(same(&copy), same(&db));
    }
}

fn blobs(blobs: &[&[u8]]) -> Database {
    blobs.iter().fold(Database::default(), |db, blob| {
        let serial = db.newest(1).map_or(0, |at| at.tid());
        let (data, blob) = (b"a blob".to_vec(), Some(blob.to_vec()));
        one(&db, Change::Store { oid: 1, serial, data, blob, version: String::new() }).unwrap()
    })
}

/// Rules 8.1 and 8.2: nobody merges blobs, and each revision has its own.
#[test]
fn blobs_are_never_merged() {
    let db = blobs(&[b"one", b"two"]);
    assert_eq!((db.load_blob(1, 10), db.load_blob(1, 20)), (Ok(&b"one"[..]), Ok(&b"two"[..])));
    assert!(db.load_blob(1, 15).is_err() && db.load_blob(2, 10).is_err());
    for blob in [Some(b"late".to_vec()), None] {
        let late = Change::Store { oid: 1, serial: 10, data: b"a blob".to_vec(), blob, version: String::new() };
        let yes = |_: Contested<'_>| Some(b"merged".to_vec());
        assert!(db.commit(Begin::at(30), &[late], &yes).is_err());
    }
}

/// Rule 8.3: records of blobs are alike, so the blobs tell whether something was changed since.
#[test]
fn an_undo_takes_no_later_blob_back() {
    let db = blobs(&[b"one", b"two", b"three", b"two"]);
    assert_eq!(one(&db, Change::Undo { tid: 30 }), None);
    let undone = one(&db, Change::Undo { tid: 20 }).unwrap();
    assert_eq!(undone.load_blob(1, 50), Ok(&b"one"[..]));
    let redone = one(&undone, Change::Undo { tid: 50 }).unwrap();
    assert_eq!(redone.load_blob(1, 60), Ok(&b"two"[..]));
}

/// Rule 8.3: a copy shares data only with what has the same blob.
#[test]
fn a_restored_blob_is_what_was_brought() {
    let db = blobs(&[b"one", b"two"]);
    for (blob, source) in [(&b"one"[..], Some(10)), (&b"other"[..], None)] {
        let (data, blob) = (Some(b"a blob".to_vec()), Some(blob.to_vec()));
        let change =
            Change::Restore { oid: 1, data, blob: blob.clone(), version: String::new(), source: Some(10), base: None };
        let db = one(&db, change).unwrap();
        assert_eq!((db.load_blob(1, 30).ok(), db.holder(db.newest(1).unwrap())), (blob.as_deref(), source));
    }
}

/// Rules 8.1 and 1.4: the client that sends a blob after its record has one revision, with the blob.
#[test]
fn of_two_stores_the_last_one_counts() {
    let store = |blob: Option<&[u8]>| {
        let (data, blob) = (b"a blob".to_vec(), blob.map(<[u8]>::to_vec));
        Change::Store { oid: 1, serial: 0, data, blob, version: String::new() }
    };
    let commit = |changes: &[Change]| Database::default().commit(Begin::at(10), changes, &|_| None).unwrap().0;
    assert_eq!(commit(&[store(None), store(Some(b"x"))]).load_blob(1, 10), Ok(&b"x"[..]));
    assert!(commit(&[store(Some(b"x")), store(None)]).load_blob(1, 10).is_err());
}

/// Rule 8.4.
#[test]
fn a_pack_keeps_the_blobs_of_what_it_keeps() {
    let db = one(&blobs(&[b"one", b"two", b"three"]), Change::Undo { tid: 30 }).unwrap();
    let packed = |t| db.pack(t, How { collect: false, go_on: false, ..How::default() }, &|_| vec![]).unwrap().database;
    let packed = packed(30);
    let left: Vec<_> = [10, 20, 30, 40].map(|tid| packed.at(1, tid).and_then(|at| packed.blob(at))).into();
    assert_eq!(left, [None, Some(&b"two"[..]), Some(b"three"), Some(b"two")]);
}

fn stores(records: &[&[u8]]) -> Database {
    records.iter().fold(Database::default(), |db, record| {
        let serial = db.newest(1).map_or(0, |at| at.tid());
        one(&db, Change::store(1, serial, record)).unwrap()
    })
}

/// Rules 3.1 and 3.4: the resolver is asked about records without blobs.
#[test]
fn records_without_blobs_are_merged() {
    let all = |c: Contested<'_>| Some([c.ancestor, c.committed, c.new].concat());
    let merged = stores(&[b"a", b"b"]).commit(Begin::at(30), &[Change::store(1, 10, b"c")], &all).unwrap().0;
    assert_eq!(merged.load(1, ""), Ok((&b"abc"[..], 30)));
    let undone = stores(&[b"a", b"b", b"c"]).commit(Begin::at(40), &[Change::Undo { tid: 20 }], &all).unwrap().0;
    assert_eq!(undone.load(1, ""), Ok((&b"bca"[..], 40)));
}

/// One transaction changed it, and another changed it back: then the first change is still current.
/// Rules 1.3 and 3.4.
#[test]
fn a_change_with_the_same_data_can_be_undone() {
    let db = stores(&[b"a", b"b", b"c", b"b"]);
    let undone = one(&db, Change::Undo { tid: 20 }).unwrap();
    assert_eq!(undone.load(1, ""), Ok((&b"a"[..], 50)));
    assert_eq!(one(&db, Change::Undo { tid: 30 }), None);
}

/// Rules 1.5 and 4.5.
#[test]
fn a_packed_revision_in_a_version_still_has_its_base() {
    let draft = Change::Store { oid: 1, serial: 20, data: b"draft".to_vec(), blob: None, version: "draft".into() };
    let db = one(&stores(&[b"old", b"trunk"]), draft).unwrap();
    let packed = db.pack(30, How { collect: false, go_on: false, ..How::default() }, &|_| vec![]).unwrap().database;
    let tids: Vec<_> = packed.history(1, 9).unwrap().iter().map(|entry| entry.transaction.tid).collect();
    assert_eq!(tids, [30, 20]);
    assert_eq!((packed.load(1, "").unwrap().0, packed.load_serial(1, 20)), (&b"trunk"[..], Ok(&b"trunk"[..])));
    assert!(packed.load_serial(1, 10).is_err());
}

/// The tids of a day, by a calendar that is counted day by day: the tid after its last one begins the next day.
/// Rule 1.1.
#[test]
fn the_tid_after_a_day_begins_the_next_day_of_the_calendar() {
    let days = |year: u64, month: u64| match month {
        2 if if year.is_multiple_of(100) { year.is_multiple_of(400) } else { year.is_multiple_of(4) } => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let dates = (1900..).flat_map(|year| (1..=12).map(move |month| (year, month)));
    let dates = dates.flat_map(|(year, month)| (1..=days(year, month)).map(move |day| (year, month, day)));
    let begin = |(year, month, day): (u64, u64, u64)| (((year - 1900) * 12 + month - 1) * 31 + day - 1) * 24 * 60;
    let mut begins = dates.map(begin).take_while(|minute| *minute <= u64::from(u32::MAX)).peekable();
    assert_eq!(begins.clone().nth(58 + 1), Some(2 * 31 * 24 * 60), "1900 had no 29 February");
    while let Some(day) = begins.next() {
        let last = (day + 24 * 60 - 1) << 32 | 0xffff_ffff;
        for tid in [day << 32, last - 1, last - (1 << 32) - 1] {
            assert_eq!(later(tid), Some(tid + 1));
        }
        assert_eq!(later(last - (1 << 32)), Some((day + 24 * 60 - 1) << 32));
        if let Some(next) = begins.peek() {
            assert_eq!(later(last), Some(next << 32), "{last}");
        }
    }
    assert_eq!(later(Tid::MAX), None);
}

/// Rule 4.11: a pack by counts stops if there is no root, and if any record may hide references. One reason is enough.
#[test]
fn a_pack_by_counts_stops_for_either_reason() {
    let store = |oid| one(&Database::default(), Change::store(oid, 0, b"record")).unwrap();
    let reasons = |db: &Database, may_hide: fn(&[u8]) -> bool| {
        let refused = db.pack_by_counts(10, &[], Some(may_hide), &|_| vec![]).err();
        refused.map(|refused| (refused.untold.into_iter().collect::<Vec<_>>(), refused.dangling.len()))
    };
    assert_eq!(reasons(&store(0), |_| false), None);
    assert_eq!(reasons(&store(0), |_| true), Some((vec![0], 0)));
    assert_eq!(reasons(&store(1), |_| false), Some((vec![], 1)));
    assert_eq!(reasons(&store(1), |_| true), Some((vec![1], 1)));
    assert_eq!(reasons(&Database::default(), |_| true), None);
}
