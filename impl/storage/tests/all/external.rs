//! Garbage in several databases: random graphs against an obvious implementation, what must stay whatever the rules
//! say, and what others do at the worst moments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use vellum_storage::{
    Bytes, CurrentRecord, DeleteGarbage, DeletedGarbage, Draft, FindGarbage, Garbage, GarbageError, HistoryEntry,
    Invalidation, Listener, Listening, Loaded, LoadedAt, MemoryStorage, Missing, Oid, Order, Prepared, Result,
    Revision, Storage, Tid, TidRange, TransactionMeta, TransactionRecord, Verdict, Version, Vote, Voted, Waiting,
    find_garbage,
};

const NAMES: [&str; 3] = ["main", "archive", "users"];

/// A reference of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Here(u64),
    Weak(u64),
    /// By the database's name.
    There(String, u64),
    WeakThere(String, u64),
}

use To::{Here, There, Weak, WeakThere};

fn there(name: &str, oid: u64) -> To {
    There(name.to_owned(), oid)
}

fn record(refers: &[To]) -> Bytes {
    let mut out = b"\x80\x03capp\nNode\n.\x80\x03](".to_vec();
    let oid = |oid: &u64| [b"C\x08", &oid.to_be_bytes()[..]].concat();
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    for to in refers {
        out.extend(match to {
            Here(to) => oid(to),
            Weak(to) => [&b"](X\x01\0\0\0w"[..], &oid(to), b"\x85e"].concat(),
            There(name, to) => [&b"](X\x01\0\0\0n"[..], &text(name), &oid(to), b"\x86e"].concat(),
            WeakThere(name, to) => [&b"](X\x01\0\0\0w"[..], &oid(to), &text(name), b"\x86e"].concat(),
        });
        out.push(b'Q');
    }
    out.extend_from_slice(b"e.");
    out.into()
}

/// Stores in one transaction, each over the present revision; a tombstone where there is no record.
fn put(storage: &dyn Storage, objects: &[(u64, Option<&[To]>)]) -> Tid {
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, refers) in objects {
        let serial = storage.history(Oid(*oid), 1).map_or(Tid::ZERO, |history| history[0].tid);
        match refers {
            Some(refers) => change.store(Oid(*oid), serial, record(refers)).unwrap(),
            None => change.delete(Oid(*oid), serial).unwrap(),
        }
    }
    storage.vote(change).unwrap().finish().unwrap()
}

fn is_there(storage: &dyn Storage, oid: u64) -> bool {
    storage.load(Oid(oid), &Version::TRUNK).is_ok()
}

fn garbage(found: &Garbage<'_>, database: usize) -> Vec<u64> {
    found.objects(database).map(|object| object.unwrap().oid.0).collect()
}

/// Deletes in transactions of two.
fn delete(garbage: Garbage<'_>) -> Vec<DeletedGarbage> {
    garbage.delete(&DeleteGarbage::new().objects_max(2)).unwrap()
}

// ---- Random histories, and what the obvious implementation says of them.

/// The change that one transaction made to one object.
#[derive(Clone, Debug)]
struct Done {
    database: usize,
    tid: u64,
    oid: u64,
    version: u8,
    /// None: it is nothing.
    refers: Option<Vec<To>>,
    under: Option<u64>,
}

/// Everything that was ever done, in the order of the tids, which are the same clock in all databases.
#[derive(Clone, Debug, Default)]
struct Past(Vec<Done>);

type Object = (usize, u64);

impl Past {
    fn of(&self, (database, oid): Object) -> impl DoubleEndedIterator<Item = &Done> {
        self.0.iter().filter(move |done| (done.database, done.oid) == (database, oid))
    }

    fn objects(&self) -> BTreeSet<Object> {
        self.0.iter().map(|done| (done.database, done.oid)).collect()
    }

    fn newest(&self, object: Object, at: u64) -> Option<&Done> {
        self.of(object).rfind(|done| done.tid <= at)
    }

    /// The revision that the trunk shows from this on.
    fn on_trunk<'a>(&'a self, done: &'a Done) -> Option<&'a Done> {
        let under = |tid| self.of((done.database, done.oid)).find(|other| other.tid == tid);
        if done.version == 0 { Some(done) } else { done.under.and_then(under) }
    }

    /// The references of the object on the trunk at this moment; none if it was not there.
    fn shown(&self, object: Object, at: u64) -> Option<&Vec<To>> {
        self.on_trunk(self.newest(object, at)?)?.refers.as_ref()
    }

    /// The references of an object in all revisions that count.
    fn refers(&self, object: Object, since: u64) -> Vec<Object> {
        let mut count: Vec<&Done> = self.of(object).filter(|done| done.tid > since).collect();
        let newest = self.newest(object, u64::MAX);
        if !count.is_empty() {
            count.extend(self.newest(object, since));
        }
        count.extend(newest);
        count.extend(count.clone().into_iter().filter_map(|done| self.on_trunk(done)));
        count.iter().flat_map(|done| strong(object.0, done.refers.as_ref())).collect()
    }

    fn needed(&self, since: u64, databases: usize) -> BTreeSet<Object> {
        let mut needed: BTreeSet<Object> = (0..databases).map(|n| (n, 0)).collect();
        needed.extend(self.0.iter().filter(|done| done.tid > since).map(|done| (done.database, done.oid)));
        let in_version = |object: &Object| self.newest(*object, u64::MAX).is_some_and(|done| done.version != 0);
        needed.extend(self.objects().into_iter().filter(in_version));
        let mut waiting: Vec<Object> = needed.iter().copied().collect();
        while let Some(object) = waiting.pop() {
            waiting.extend(self.refers(object, since).into_iter().filter(|to| needed.insert(*to)));
        }
        needed
    }

    /// The objects that could be reached from the roots when each database was as at its moment.
    fn reached(&self, at: &[u64]) -> BTreeSet<Object> {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<Object> = (0..at.len()).map(|n| (n, 0)).collect();
        while let Some(object) = waiting.pop() {
            let refers = self.shown(object, at[object.0]);
            if refers.is_some() && reached.insert(object) {
                waiting.extend(strong(object.0, refers));
            }
        }
        reached
    }
}

fn strong(database: usize, refers: Option<&Vec<To>>) -> Vec<Object> {
    let follow = |to: &To| match to {
        Here(oid) => Some((database, *oid)),
        There(name, oid) => Some((NAMES.iter().position(|other| other == name)?, *oid)),
        Weak(_) | WeakThere(..) => None,
    };
    refers.into_iter().flatten().filter_map(follow).collect()
}

/// One thing of a transaction, as it is drawn: a possible change is made from it.
#[derive(Clone, Debug)]
struct Drawn {
    database: usize,
    oid: u64,
    version: u8,
    refers: Option<Vec<To>>,
    with_the_one_before: bool,
    over_the_first: bool,
}

const OIDS: u64 = 9;

fn drawn() -> impl Strategy<Value = Drawn> {
    let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
    let to = prop_oneof![
        4 => (0..OIDS).prop_map(Here),
        1 => (0..OIDS).prop_map(Weak),
        3 => (name.clone(), 0..OIDS).prop_map(|(name, oid)| There(name, oid)),
        1 => (name, 0..OIDS).prop_map(|(name, oid)| WeakThere(name, oid)),
    ];
    let refers = prop_oneof![
        6 => prop::collection::vec(to, 0..3).prop_map(Some),
        1 => Just(None),
    ];
    let version = prop_oneof![5 => Just(0_u8), 1 => Just(1), 1 => Just(2)];
    (0..NAMES.len(), 0..OIDS, version, refers, any::<bool>(), any::<bool>()).prop_map(
        |(database, oid, version, refers, with_the_one_before, over_the_first)| Drawn {
            database,
            oid,
            version,
            refers,
            with_the_one_before,
            over_the_first,
        },
    )
}

/// Plays the drawn changes in storages in memory, which take versions by copying.
fn play(drawn: &[Drawn]) -> (Vec<MemoryStorage>, Past) {
    let storages: Vec<_> = NAMES.iter().map(|name| MemoryStorage::new(*name)).collect();
    let mut past = Past::default();
    let mut transactions: BTreeMap<u64, Vec<Done>> = BTreeMap::new();
    // Every object is there, so that only references to deleted objects dangle.
    for database in 0..NAMES.len() {
        let tid = 1 + database as u64;
        let first = |oid| Done { database, tid, oid, version: 0, refers: Some(Vec::new()), under: None };
        transactions.insert(tid, (0..OIDS).map(first).collect());
    }
    past.0.extend(transactions.values().flatten().cloned());
    let mut tid = 10;
    for Drawn { database, oid, version, refers, with_the_one_before, over_the_first } in drawn.iter().cloned() {
        let newest = past.newest((database, oid), u64::MAX).unwrap();
        let joins = with_the_one_before
            && transactions.get(&tid).is_some_and(|all| all[0].database == database)
            && newest.tid != tid;
        tid += if joins { 0 } else { 1 };
        // As the undo of a version's commit can leave it: over what the trunk showed long ago.
        let under = match over_the_first {
            true => past.of((database, oid)).filter(|done| done.version == 0).nth(1),
            false => past.on_trunk(newest),
        };
        let under = under.map(|done| done.tid);
        // A root is never nothing.
        let refers = if oid == 0 { refers.or(Some(Vec::new())) } else { refers };
        let version = if oid == 0 { 0 } else { version };
        let under = if version == 0 { None } else { under };
        let done = Done { database, tid, oid, version, refers, under };
        past.0.push(done.clone());
        transactions.entry(tid).or_default().push(done);
    }
    for (tid, all) in transactions {
        let storage = &storages[all[0].database];
        let mut change = storage.begin(TransactionMeta::new().tid(Tid(tid))).unwrap();
        for Done { oid, version, refers, under, .. } in all {
            let version = if version == 0 { Version::TRUNK } else { Version::named(vec![version]) };
            let data = refers.as_deref().map(record);
            let revision = Revision { oid: Oid(oid), version, data, blob: None, source: None, base: under.map(Tid) };
            change.restore(revision).unwrap();
        }
        storage.commit(change).unwrap();
    }
    (storages, past)
}

fn databases(storages: &[MemoryStorage]) -> Vec<(&str, &dyn Storage)> {
    NAMES.into_iter().zip(storages).map(|(name, storage)| (name, storage as &dyn Storage)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_what_the_obvious_implementation_says(
        drawn in prop::collection::vec(drawn(), 0..40),
        ago in 0..45_u64,
    ) {
        let (storages, past) = play(&drawn);
        let last = past.0.last().unwrap().tid;
        let since = last.saturating_sub(ago);
        let how = FindGarbage::new().since(Tid(since)).go_on(true);
        let found = find_garbage(&databases(&storages), how).unwrap();
        let needed = past.needed(since, NAMES.len());
        let shown = |object: &Object| past.shown(*object, u64::MAX).is_some();
        let right: Vec<Object> = past.objects().into_iter().filter(|o| shown(o) && !needed.contains(o)).collect();
        let said: Vec<Object> =
            (0..NAMES.len()).flat_map(|n| garbage(&found, n).into_iter().map(move |oid| (n, oid))).collect();
        prop_assert_eq!(&said, &right);
        for (n, here) in found.found().iter().enumerate() {
            let count = |objects: &mut dyn Iterator<Item = &Object>| objects.filter(|o| o.0 == n).count() as u64;
            prop_assert_eq!(here.garbage_objects, count(&mut right.iter()));
            prop_assert_eq!(here.objects, count(&mut past.objects().iter().filter(|o| shown(o))));
        }
        // Objects that could be reached since then are never garbage.
        for shift in 0..8 {
            let moments: Vec<u64> = (0..NAMES.len() as u64).map(|n| since + (shift * (n + 3) * 7) % (ago + 1)).collect();
            let reached = past.reached(&moments);
            prop_assert!(right.iter().all(|object| !reached.contains(object)), "{moments:?}");
        }
        // Each dangling reference of a needed object, as it is now, is reported once.
        let mut lost = BTreeSet::new();
        for object in needed.iter().filter(|object| past.newest(**object, u64::MAX).is_some()) {
            let newest = past.newest(*object, u64::MAX).unwrap();
            for done in [Some(newest), past.on_trunk(newest)].into_iter().flatten() {
                let nowhere = |to: &Object| {
                    !shown(to) && past.newest(*to, u64::MAX).is_none_or(|done| done.version == 0)
                };
                lost.extend(strong(object.0, done.refers.as_ref()).into_iter().filter(nowhere).map(|to| (*object, to)));
            }
        }
        let number = |name: &str| NAMES.iter().position(|other| *other == name).unwrap();
        let told: BTreeSet<(Object, Object)> = found
            .lost()
            .iter()
            .map(|lost| ((number(&lost.database), lost.oid.0), (number(&lost.to_database), lost.to.0)))
            .collect();
        prop_assert_eq!(&told, &lost);
        let strict = find_garbage(&databases(&storages), how.go_on(false));
        prop_assert_eq!(strict.is_err(), !lost.is_empty());

        // Deleted is that, and nothing else changes.
        let before: Vec<_> = past.objects().into_iter().map(|(n, oid)| storages[n].load(Oid(oid), &Version::TRUNK).ok()).collect();
        let deletions = delete(found);
        for (object, before) in past.objects().into_iter().zip(before) {
            let now = storages[object.0].load(Oid(object.1), &Version::TRUNK).ok();
            prop_assert_eq!(now, before.filter(|_| !right.contains(&object)), "{:?}", object);
        }
        for (n, here) in deletions.iter().enumerate() {
            let right = right.iter().filter(|object| object.0 == n).count() as u64;
            prop_assert_eq!((here.objects, here.transactions.len() as u64), (right, right.div_ceil(2)));
            prop_assert_eq!((here.saved, here.left.len(), here.brought_back.len()), (0, 0, 0));
        }
        // And then there is none.
        let again = find_garbage(&databases(&storages), how).unwrap();
        prop_assert!(again.found().iter().all(|here| here.garbage_objects == 0));
    }
}

// ---- Cases that one wants to see.

const OLD: FindGarbage<'static> = FindGarbage::new();

/// A main database and an archive, with these objects.
fn two(main: &[(u64, Option<&[To]>)], archive: &[(u64, Option<&[To]>)]) -> (MemoryStorage, MemoryStorage) {
    let (one, other) = (MemoryStorage::new("main.fs"), MemoryStorage::new("archive.fs"));
    put(&one, main);
    put(&other, archive);
    (one, other)
}

fn find<'a>(
    main: &'a dyn Storage,
    archive: &'a dyn Storage,
    how: FindGarbage<'a>,
) -> Result<Garbage<'a>, GarbageError> {
    find_garbage(&[("main", main), ("archive", archive)], how)
}

#[test]
fn what_only_another_database_refers_to_stays_and_a_ring_through_both_goes() {
    let (main, archive) = two(
        &[
            (0, Some(&[Here(1)])),
            (1, Some(&[Here(2)])),
            (2, Some(&[there("archive", 7)])),
            (3, Some(&[])),
            (5, Some(&[Here(6)])),
            (6, Some(&[there("archive", 9)])),
        ],
        &[(0, Some(&[])), (7, Some(&[Here(8)])), (8, Some(&[there("main", 3)])), (9, Some(&[there("main", 5)]))],
    );
    let found = find(&main, &archive, OLD).unwrap();
    assert_eq!((garbage(&found, 0), garbage(&found, 1)), (vec![5, 6], vec![9]));
    let deletions = delete(found);
    assert_eq!(deletions.iter().map(|here| here.objects).collect::<Vec<_>>(), [2, 1]);
    for oid in [0, 1, 2, 3] {
        assert!(is_there(&main, oid), "{oid}");
    }
    assert!(is_there(&archive, 7) && is_there(&archive, 8) && !is_there(&archive, 9) && !is_there(&main, 5));
    // Each database alone would have thought otherwise: no object there refers to 7, 8 and 3.
    let alone = find_garbage(&[("archive", &archive)], OLD.go_on(true)).unwrap();
    assert_eq!(garbage(&alone, 0), [7, 8]);
}

/// Rule 4.6.
#[test]
fn weak_references_keep_nothing_within_a_database_or_across() {
    let (main, archive) = two(
        &[(0, Some(&[Weak(1), WeakThere("archive".into(), 2), WeakThere("elsewhere".into(), 2)])), (1, Some(&[]))],
        &[(0, Some(&[])), (2, Some(&[]))],
    );
    let found = find(&main, &archive, OLD).unwrap();
    assert_eq!((garbage(&found, 0), garbage(&found, 1)), (vec![1], vec![2]));
}

#[test]
fn a_database_that_nobody_gave_stops_it_and_says_who_refers() {
    let (main, archive) = two(
        &[(0, Some(&[there("archive", 0)])), (1, Some(&[]))],
        &[(0, Some(&[Here(4)])), (4, Some(&[there("users", 5)]))],
    );
    let refused = find(&main, &archive, OLD).unwrap_err();
    let GarbageError::Nowhere(references) = &refused else { panic!("{refused}") };
    let lost: Vec<_> = references.iter().collect();
    assert_eq!(
        (lost.len(), lost[0].why, lost[0].oid, lost[0].database.as_str()),
        (1, Missing::Database, Oid(4), "archive")
    );
    assert_eq!(
        refused.to_string(),
        "there are references that lead nowhere: 0000000000000004 of `archive` refers to 0000000000000005 of `users`, and no \
         database of that name was given. Repair them, or say to go on without the missing objects"
    );
    let found = find(&main, &archive, OLD.go_on(true)).unwrap();
    assert_eq!((garbage(&found, 0), found.lost().iter().count()), (vec![1], 1));
}

#[test]
fn a_reference_to_what_is_not_there_stops_it_and_is_named_with_both_ends() {
    let (main, archive) = two(
        &[(0, Some(&[Here(1), there("archive", 4)])), (1, Some(&[Here(2)])), (3, Some(&[]))],
        &[(0, Some(&[])), (4, Some(&[]))],
    );
    put(&archive, &[(4, None)]);
    let refused = find(&main, &archive, OLD).unwrap_err().to_string();
    assert!(
        refused.contains("0000000000000000 of `main` refers to 0000000000000004 of `archive`, which is not there"),
        "{refused}"
    );
    assert!(refused.contains("0000000000000001 of `main` refers to 0000000000000002 of `main`"), "{refused}");
    let found = find(&main, &archive, OLD.go_on(true)).unwrap();
    assert_eq!((garbage(&found, 0), found.lost().iter().count()), (vec![3], 2));
}

#[test]
fn of_very_many_lost_references_the_first_are_told() {
    let many: Vec<To> = (100..3000).map(Here).collect();
    let (main, archive) = two(&[(0, Some(&many))], &[(0, Some(&[]))]);
    let refused = find(&main, &archive, OLD).unwrap_err();
    let GarbageError::Nowhere(references) = &refused else { panic!("{refused}") };
    assert!(references.more() && references.iter().len() == 1000);
    assert!(refused.to_string().contains("; and many more. Repair them") && refused.to_string().len() < 2000);
}

#[test]
fn what_can_not_be_trusted_stops_it_whatever_was_said() {
    let go_on = OLD.go_on(true);
    let (main, archive) = two(&[(1, Some(&[]))], &[(0, Some(&[]))]);
    let refused = find(&main, &archive, go_on).unwrap_err().to_string();
    assert!(refused.starts_with("database `main` has no root (object 0000000000000000)"), "{refused}");
    let empty = MemoryStorage::new("empty");
    assert!(find(&empty, &archive, OLD).is_ok());

    let refused = find(&archive, &archive, go_on).unwrap_err().to_string();
    assert!(refused.starts_with("`main` and `archive` are the same database"), "{refused}");
    let refused = find_garbage(&[("main", &main), ("main", &archive)], go_on).unwrap_err().to_string();
    assert!(refused.starts_with("two databases have the name `main`"), "{refused}");

    let (main, archive) = two(&[(0, Some(&[there("archive", 1)]))], &[(0, Some(&[])), (1, Some(&[]))]);
    for (bad, said) in [
        (&b"no pickle"[..], "it is not known what object 0000000000000001 refers to"),
        (b"capp\nNode\n.(NQ.", "None in place of an oid"),
    ] {
        let mut change = archive.begin(TransactionMeta::new()).unwrap();
        let serial = archive.load(Oid(1), &Version::TRUNK).unwrap().tid;
        change.store(Oid(1), serial, bad.to_vec().into()).unwrap();
        archive.vote(change).unwrap().finish().unwrap();
        let refused = find(&main, &archive, go_on).unwrap_err().to_string();
        assert!(refused.contains("database `archive`") && refused.contains(said), "{refused}");
    }
    // The references of garbage do not matter.
    put(&main, &[(0, Some(&[]))]);
    assert_eq!(garbage(&find(&main, &archive, OLD).unwrap(), 1), [1]);
}

#[test]
fn what_was_done_lately_can_be_undone() {
    let (main, archive) = two(
        &[(0, Some(&[there("archive", 1)])), (8, Some(&[]))],
        &[(0, Some(&[])), (1, Some(&[Here(2)])), (2, Some(&[])), (3, Some(&[there("main", 8)]))],
    );
    let since = main.last_transaction();
    put(&main, &[(0, Some(&[]))]);
    let lately = OLD.since(since);
    // The root does not refer to 1 any more; it would, if that were undone. No object ever referred to 3.
    assert_eq!(garbage(&find(&main, &archive, OLD.since(since)).unwrap(), 1), [] as [u64; 0]);
    let after_archive = OLD.since(since.max(archive.last_transaction()));
    assert_eq!(garbage(&find(&main, &archive, after_archive).unwrap(), 1), [3]);
    assert_eq!(garbage(&find(&main, &archive, OLD).unwrap(), 1), [1, 2, 3]);
    assert_eq!(garbage(&find(&main, &archive, lately).unwrap(), 0), [] as [u64; 0]);
}

#[test]
fn what_is_relinked_between_the_look_and_the_deletion_is_saved_with_what_it_refers_to() {
    let (main, archive) = two(
        &[(0, Some(&[])), (1, Some(&[Here(2)])), (2, Some(&[there("archive", 5)])), (3, Some(&[]))],
        &[(0, Some(&[])), (5, Some(&[Here(6)])), (6, Some(&[])), (7, Some(&[]))],
    );
    let found = find(&main, &archive, OLD).unwrap();
    assert_eq!((garbage(&found, 0), garbage(&found, 1)), (vec![1, 2, 3], vec![5, 6, 7]));
    put(&archive, &[(0, Some(&[there("main", 1)]))]);
    let deletions = delete(found);
    let told: Vec<_> = deletions.iter().map(|here| (here.objects, here.saved)).collect();
    assert_eq!(told, [(1, 2), (1, 2)]);
    for (storage, oid) in [(&main, 1), (&main, 2), (&archive, 5), (&archive, 6)] {
        assert!(is_there(storage, oid), "{oid}");
    }
    assert!(!is_there(&main, 3) && !is_there(&archive, 7));
}

#[test]
fn what_a_change_since_the_look_took_a_reference_from_is_saved_too() {
    let (main, archive) = two(&[(0, Some(&[])), (1, Some(&[there("archive", 5)]))], &[(0, Some(&[])), (5, Some(&[]))]);
    let found = find(&main, &archive, OLD).unwrap();
    // Undoing this would need it.
    put(&main, &[(1, Some(&[]))]);
    let deletions = delete(found);
    assert_eq!(deletions.iter().map(|here| (here.objects, here.saved)).collect::<Vec<_>>(), [(0, 1), (0, 1)]);
    assert!(is_there(&archive, 5));
}

#[test]
fn what_comes_since_the_look_is_held_to_the_same() {
    let (main, archive) = two(&[(0, Some(&[])), (1, Some(&[]))], &[(0, Some(&[]))]);
    let found = find(&main, &archive, OLD).unwrap();
    put(&archive, &[(0, Some(&[there("nowhere", 1)]))]);
    let stopped = found.delete(&DeleteGarbage::default()).unwrap_err();
    assert!(matches!(*stopped.why, GarbageError::Nowhere(_)) && stopped.to_string().ends_with("Nothing was deleted"));
    assert!(is_there(&main, 1));
}

/// A concurrent commit.
type Event = Box<dyn FnOnce() -> Tid + Send>;

/// A storage to which something happens at a moment between vote and finish.
struct Racing {
    inner: MemoryStorage,
    while_looking: Mutex<Option<Event>>,
    before_vote: Mutex<Option<Event>>,
    before_finish: Arc<Mutex<Option<Event>>>,
}

struct RacingVoted {
    inner: Voted,
    before_finish: Arc<Mutex<Option<Event>>>,
}

impl Racing {
    fn new(inner: &MemoryStorage) -> Racing {
        Racing {
            inner: inner.clone(),
            while_looking: Mutex::default(),
            before_vote: Mutex::default(),
            before_finish: Arc::default(),
        }
    }

    fn while_looking(self, happens: impl FnOnce() -> Tid + Send + 'static) -> Racing {
        *self.while_looking.lock().unwrap() = Some(Box::new(happens));
        self
    }

    fn before_vote(self, happens: impl FnOnce() -> Tid + Send + 'static) -> Racing {
        *self.before_vote.lock().unwrap() = Some(Box::new(happens));
        self
    }

    fn before_finish(self, happens: impl FnOnce() -> Tid + Send + 'static) -> Racing {
        *self.before_finish.lock().unwrap() = Some(Box::new(happens));
        self
    }
}

impl Prepared for RacingVoted {
    fn verdict(&self) -> Result<Verdict> {
        self.inner.verdict()
    }
    fn finish(self: Box<Self>) -> Result<Tid> {
        if let Some(happens) = self.before_finish.lock().unwrap().take() {
            happens();
        }
        self.inner.finish()
    }
}

impl Storage for Racing {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        self.inner.load(oid, version)
    }
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        self.inner.load_before(oid, before)
    }
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.inner.load_serial(oid, tid)
    }
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>> {
        self.inner.history(oid, limit)
    }
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        self.inner.transactions(range, order)
    }
    fn last_transaction(&self) -> Tid {
        self.inner.last_transaction()
    }
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        self.inner.last_invalidations(count)
    }
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        if let Some(happens) = self.while_looking.lock().unwrap().take() {
            happens();
        }
        self.inner.current_records(first)
    }
    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        self.inner.new_oids(count)
    }
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn object_count(&self) -> u64 {
        self.inner.object_count()
    }
    fn begin(&self, meta: TransactionMeta) -> Result<Draft> {
        self.inner.begin(meta)
    }
    fn attempt(&self, waiting: Waiting) -> Result<Vote> {
        if let Some(happens) = self.before_vote.lock().unwrap().take() {
            happens();
        }
        Ok(match self.inner.attempt(waiting)? {
            Vote::Voted(inner) => {
                let (touched, merged) = (inner.touched().to_vec(), inner.merged().to_vec());
                let racing = RacingVoted { inner, before_finish: self.before_finish.clone() };
                Vote::Voted(Voted::new(touched, merged, racing))
            }
            busy => busy,
        })
    }
    fn listen(&self, listener: Arc<dyn Listener>) -> Listening {
        self.inner.listen(listener)
    }
}

/// A list from 1 to 6 in `main`, which is garbage.
fn a_list() -> (MemoryStorage, MemoryStorage) {
    let (main, archive) = two(&[(0, Some(&[]))], &[(0, Some(&[]))]);
    (1..=6).for_each(|oid| {
        let next: Vec<_> = (oid + 1..7).take(1).map(Here).collect();
        put(&main, &[(oid, Some(&next))]);
    });
    (main, archive)
}

#[test]
fn a_reference_that_comes_before_the_vote_saves_what_it_leads_to() {
    let (main, archive) = a_list();
    let other = archive.clone();
    let racing = Racing::new(&main).before_vote(move || put(&other, &[(0, Some(&[there("main", 2)]))]));
    let deletions = delete(find(&racing, &archive, OLD).unwrap());
    assert_eq!((deletions[0].objects, deletions[0].saved), (1, 5));
    assert!(!is_there(&main, 1) && (2..=6).all(|oid| is_there(&main, oid)));
}

#[test]
fn a_reference_that_comes_while_it_is_deleted_brings_it_back() {
    let (main, archive) = a_list();
    let other = archive.clone();
    let racing = Racing::new(&main).before_finish(move || put(&other, &[(0, Some(&[there("main", 1)]))]));
    let deletions = delete(find(&racing, &archive, OLD).unwrap());
    // 1 and 2 were deleted in the first transaction; the look before the next one saw why they should not have been.
    assert_eq!((deletions[0].objects, deletions[0].saved), (2, 4));
    assert_eq!(deletions[0].brought_back, [Oid(1), Oid(2)]);
    assert!((0..=6).all(|oid| is_there(&main, oid)));
    let found = find(&main, &archive, OLD).unwrap();
    assert!(found.lost().is_empty() && found.found().iter().all(|here| here.garbage_objects == 0));
}

#[test]
fn a_reference_that_comes_while_the_last_are_deleted_brings_them_back() {
    let (main, archive) = a_list();
    let other = archive.clone();
    let racing = Racing::new(&main).before_finish(move || put(&other, &[(0, Some(&[there("main", 5)]))]));
    let deletions = find(&racing, &archive, OLD).unwrap().delete(&DeleteGarbage::default()).unwrap();
    assert_eq!((deletions[0].objects, deletions[0].transactions.len()), (6, 1));
    assert_eq!(deletions[0].brought_back, [Oid(5), Oid(6)]);
    assert!([0, 5, 6].into_iter().all(|oid| is_there(&main, oid)) && !is_there(&main, 4));
}

#[test]
fn what_is_made_while_it_looks_is_not_called_garbage() {
    let (main, archive) = two(&[(0, Some(&[]))], &[(0, Some(&[]))]);
    let other = main.clone();
    let racing = Racing::new(&main).while_looking(move || put(&other, &[(1, Some(&[]))]));
    let found = find(&racing, &archive, OLD).unwrap();
    assert_eq!((found.found()[0].objects, found.found()[0].garbage_objects), (2, 0));
}

#[test]
fn what_somebody_changes_before_the_vote_is_left_as_it_is() {
    let (main, archive) = a_list();
    let other = main.clone();
    let racing = Racing::new(&main).before_vote(move || put(&other, &[(2, Some(&[Here(4)]))]));
    let deletions = delete(find(&racing, &archive, OLD).unwrap());
    // Its references before, and its references now.
    assert_eq!((deletions[0].objects, deletions[0].saved, &deletions[0].left), (1, 4, &vec![Oid(2)]));
    assert!(!is_there(&main, 1) && (2..=6).all(|oid| is_there(&main, oid)));
    // A concurrent transaction deletes one.
    let (main, archive) = a_list();
    let other = main.clone();
    let racing = Racing::new(&main).before_vote(move || put(&other, &[(2, None)]));
    let deletions = delete(find(&racing, &archive, OLD).unwrap());
    assert_eq!(deletions[0].left, [Oid(2)]);
    assert!(!is_there(&main, 2) && is_there(&main, 3), "transactions since the look can be undone");
}

#[test]
fn a_failure_in_the_middle_says_what_was_done() {
    let (main, archive) = a_list();
    let other = main.clone();
    let racing = Racing::new(&main).before_finish(move || {
        let mut change = other.begin(TransactionMeta::new()).unwrap();
        change.store(Oid(9), Tid::ZERO, "no pickle".into()).unwrap();
        other.vote(change).unwrap().finish().unwrap()
    });
    let found = find(&racing, &archive, OLD).unwrap();
    let stopped = found.delete(&DeleteGarbage::new().objects_max(2)).unwrap_err();
    assert!(matches!(&*stopped.why, GarbageError::Unreadable { oid: Oid(9), .. }), "{stopped}");
    assert_eq!((stopped.deletions[0].objects, stopped.deletions[0].transactions.len()), (2, 1));
    assert!(stopped.to_string().contains("2 objects were deleted before that"), "{stopped}");
    assert!(is_there(&main, 3));
}

#[test]
fn a_long_list_through_two_databases_needs_no_deep_stack() {
    const OBJECTS: u64 = 100_000;
    let (main, archive) = (MemoryStorage::new("main.fs"), MemoryStorage::new("archive.fs"));
    for (storage, other) in [(&main, "archive"), (&archive, "main")] {
        let mut change = storage.begin(TransactionMeta::new()).unwrap();
        for oid in 0..OBJECTS {
            // From one to the other and back; those above are garbage, and a list as well.
            let next = if oid == OBJECTS / 2 {
                vec![]
            } else {
                vec![there(other, (oid + u64::from(other == "main")) % OBJECTS)]
            };
            change.store(Oid(oid), Tid::ZERO, record(&next)).unwrap();
        }
        storage.vote(change).unwrap().finish().unwrap();
    }
    // A stack that a recursion of a thousand would fill.
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let found = std::thread::scope(|scope| {
        let run = || {
            let found = find(&main, &archive, OLD).unwrap();
            let all: Vec<_> = found.found().iter().map(|here| here.garbage_objects).collect();
            delete_all(found);
            all
        };
        small.spawn_scoped(scope, run).unwrap().join().unwrap()
    });
    let half = OBJECTS / 2;
    assert_eq!(found, [half - 1, half]);
    assert_eq!((0..OBJECTS).filter(|oid| is_there(&main, *oid)).count() as u64, half + 1);
}

fn delete_all(garbage: Garbage<'_>) {
    let deletions = garbage.delete(&DeleteGarbage::default()).unwrap();
    assert!(deletions.iter().all(|here| here.transactions.len() as u64 == here.objects.div_ceil(1000)));
}

/// More is next than there is room for.
#[test]
fn a_wide_database_is_followed_to_its_end() {
    const OBJECTS: u64 = 150_000;
    let (main, archive) = (MemoryStorage::new("main.fs"), MemoryStorage::new("archive.fs"));
    put(&main, &[(0, Some(&(1..OBJECTS).map(|oid| there("archive", oid)).collect::<Vec<_>>()))]);
    let mut change = archive.begin(TransactionMeta::new()).unwrap();
    (0..2 * OBJECTS).for_each(|oid| {
        let next = if (1..OBJECTS).contains(&oid) { vec![Here(oid + OBJECTS)] } else { vec![] };
        change.store(Oid(oid), Tid::ZERO, record(&next)).unwrap();
    });
    archive.vote(change).unwrap().finish().unwrap();
    let found = find(&main, &archive, OLD).unwrap();
    assert_eq!(garbage(&found, 1), [OBJECTS]);
}
