//! The scenarios: what threads do with one cache, and what must hold of every answer.
//!
//! The truth is a small history that no thread changes: a list of transactions, each with the objects that it changed.
//! A record's bytes say which object and transaction they belong to, twice. So each answer can be checked by itself:
//! it is one record, it is the object's, and it is the state just before the moment that was asked for.
//!
//! | each scenario demands | by |
//! |---|---|
//! | no stale state | the answer's transaction is the last one before the moment that changed the object |
//! | no torn record | both halves of the data agree, with each other and with the header |
//! | no lost invalidation | after all threads have ended, the old state is not found for moments after the change |
//! | no lost record | a state that was held, and that nothing could have evicted, is found |
//! | no deadlock | loom and shuttle report one |

use bytes::Bytes;
use vellum_storage::{LoadedAt, Oid, Tid};

use crate::core::{Asked, Changed, Core, Shape};
use crate::sync::{Arc, thread};
use crate::watched::Watched;

/// The root has oid 0, which is also that of a header that was never written.
const ROOT: Oid = Oid(0);
const OTHER: Oid = Oid(1);
const THIRD: Oid = Oid(2);

/// The objects that each transaction changed; the first one created all.
const HISTORY: [(Tid, &[Oid]); 3] = [(Tid(1), &[ROOT, OTHER, THIRD]), (Tid(3), &[ROOT]), (Tid(5), &[ROOT, OTHER])];

/// Objects that were created by the first transaction, and never changed.
const FILLERS: std::ops::Range<u64> = 10..200;

type Cache = Arc<Core<Watched>>;

/// How large a scenario is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Threads that read.
    pub readers: usize,
    /// How often each thread does its work.
    pub rounds: usize,
}

/// A scenario.
pub type Scenario = fn(Size);

/// All scenarios, by name.
pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("loads_and_an_invalidation", loads_and_an_invalidation),
    ("a_transaction_of_two_objects", a_transaction_of_two_objects),
    ("an_answer_around_an_invalidation", an_answer_around_an_invalidation),
    ("an_eviction_during_a_read", an_eviction_during_a_read),
    ("a_move_around_an_invalidation", a_move_around_an_invalidation),
    ("a_verification_while_readers_go_on", a_verification_while_readers_go_on),
    ("an_answer_around_a_verification", an_answer_around_a_verification),
    ("a_group_around_an_invalidation", a_group_around_an_invalidation),
    ("a_store_and_a_first_read", a_store_and_a_first_read),
    ("a_rollback_while_readers_go_on", a_rollback_while_readers_go_on),
    ("a_copy_into_memory_around_an_invalidation", a_copy_into_memory_around_an_invalidation),
    ("a_copy_into_memory_around_a_verification", a_copy_into_memory_around_a_verification),
    ("changed_objects_leave_while_readers_go_on", changed_objects_leave_while_readers_go_on),
    ("close_during_everything", close_during_everything),
];

/// A record with its header of 32 bytes, and data of 16.
const RECORD_BYTES: u32 = 48;

/// A cache of three segments.
fn cache(segment_records: u32) -> Cache {
    let (segments, segment_bytes) = (3, segment_records * RECORD_BYTES);
    let shape = Shape { segments, segment_bytes, shards: 1, changes: 8 };
    Arc::new(Core::new(Watched::new(segments, segment_bytes), shape, Tid(1)))
}

/// A cache in which nothing is ever evicted.
fn roomy() -> Cache {
    cache(4)
}

/// A cache in which the next store empties the segment of the root.
fn full() -> Cache {
    let cache = cache(2);
    store(&cache, cache.ask(), ROOT, &current(ROOT, 1));
    fill(&cache, 0..3);
    cache
}

fn fill(cache: &Cache, fillers: std::ops::Range<usize>) {
    for oid in FILLERS.skip(fillers.start).take(fillers.len()) {
        store(cache, cache.ask(), Oid(oid), &current(Oid(oid), 1));
    }
}

/// The tid of the object's state just before a moment, and of the next one.
fn truth(oid: Oid, before: Tid) -> (Option<Tid>, Option<Tid>) {
    let changes = |oid| HISTORY.iter().filter(move |(_, oids)| oids.contains(&oid)).map(|(tid, _)| *tid);
    if FILLERS.contains(&oid.0) {
        return (Some(Tid(1)), None);
    }
    (changes(oid).rfind(|tid| *tid < before), changes(oid).find(|tid| *tid >= before))
}

fn data(oid: Oid, tid: Tid) -> Bytes {
    let word = oid.0 << 32 | tid.0;
    Bytes::from([word.to_le_bytes(), (!word).to_le_bytes()].concat())
}

/// A revision that the server calls current.
fn current(oid: Oid, tid: u64) -> LoadedAt {
    LoadedAt { data: data(oid, Tid(tid)), tid: Tid(tid), next: None }
}

/// The answer of a server that answers at once.
fn answer(oid: Oid, asked: Tid) -> LoadedAt {
    let (tid, _) = truth(oid, asked.next());
    current(oid, tid.map_or(1, |tid| tid.0))
}

/// Whether the cache has the object as of a moment. If it says something, that is checked.
fn is_found(cache: &Cache, oid: Oid, before: Tid) -> bool {
    let Some(LoadedAt { data: found, tid, next }) = cache.get(oid, before) else { return false };
    assert!(found == data(oid, tid), "a torn record: {oid:?} of {tid:?} is {found:?}");
    let (right, changed) = truth(oid, before);
    assert!(Some(tid) == right, "a stale state: {oid:?} before {before:?} is that of {tid:?}");
    assert!(
        next.is_none() || next == changed,
        "a wrong end: {oid:?} before {before:?} is that of {tid:?} up to {next:?}"
    );
    true
}

/// Whether the cache has the current state of the object, as of its head.
fn is_current(cache: &Cache, oid: Oid) -> bool {
    is_found(cache, oid, cache.head().next())
}

fn store(cache: &Cache, asked: Asked, oid: Oid, found: &LoadedAt) {
    cache.store(asked, oid, found);
}

/// Runs the work of each thread, and waits for all.
fn all(work: Vec<Box<dyn FnOnce() + Send>>) {
    let mut work = work.into_iter();
    let first = work.next();
    let threads: Vec<_> = work.map(|work| thread::spawn(work)).collect();
    // The first one is done by this thread, since loom has only few.
    first.into_iter().for_each(|work| work());
    threads.into_iter().for_each(|thread| thread.join().expect("a thread panicked"));
}

fn with(cache: &Cache, work: impl Fn(&Cache) + Send + 'static) -> Box<dyn FnOnce() + Send> {
    let cache = Arc::clone(cache);
    Box::new(move || work(&cache))
}

/// Readers, each of which does the same some times.
fn readers(size: Size, cache: &Cache, work: fn(&Cache)) -> Vec<Box<dyn FnOnce() + Send>> {
    let rounds = move |cache: &Cache| (0..size.rounds).for_each(|_| work(cache));
    (0..size.readers).map(|_| with(cache, rounds)).collect()
}

/// The network thread invalidates while others load. An ended state still answers for moments before its end.
fn loads_and_an_invalidation(size: Size) {
    let cache = roomy();
    store(&cache, cache.ask(), ROOT, &current(ROOT, 1));
    let mut work = vec![with(&cache, |cache| {
        cache.invalidate(Tid(3), &[ROOT]);
        assert!(!is_current(cache, ROOT), "a lost invalidation");
    })];
    work.extend(readers(size, &cache, |cache| {
        // A moment of which the cache is told during the lookup, or not yet.
        is_found(cache, ROOT, Tid(4));
        let before = cache.head().next();
        assert!(is_found(cache, ROOT, before) == (before == Tid(2)), "a lost record, or a lost invalidation");
    }));
    all(work);
    assert!(is_found(&cache, ROOT, Tid(3)) && !is_found(&cache, ROOT, Tid(4)));
}

/// One transaction changes two objects. No reader sees one change without the other.
fn a_transaction_of_two_objects(size: Size) {
    let cache = roomy();
    cache.invalidate(Tid(3), &[ROOT]);
    for oid in [ROOT, OTHER] {
        store(&cache, cache.ask(), oid, &answer(oid, Tid(3)));
    }
    let mut work = vec![with(&cache, |cache| cache.invalidate(Tid(5), &[ROOT, OTHER]))];
    work.extend(readers(size, &cache, |cache| {
        let before = cache.head().next();
        let found = (is_found(cache, ROOT, before), is_found(cache, OTHER, before));
        assert!(found == (before == Tid(4), before == Tid(4)), "a lost record, or a lost invalidation");
    }));
    all(work);
}

/// The answer to a load arrives before, during or after an invalidation of the same object.
fn an_answer_around_an_invalidation(size: Size) {
    let cache = roomy();
    let mut work = vec![with(&cache, |cache| cache.invalidate(Tid(3), &[ROOT]))];
    work.extend(readers(size, &cache, |cache| {
        let asked = cache.head();
        store(cache, Asked::as_of(asked), ROOT, &answer(ROOT, asked));
        is_current(cache, ROOT);
    }));
    all(work);
    is_current(&cache, ROOT);
    // Both can be held now. The older one must not answer for moments after its end.
    is_found(&cache, ROOT, Tid(3));
    cache.invalidate(Tid(5), &[ROOT, OTHER]);
    assert!(!is_current(&cache, ROOT), "a lost invalidation");
}

/// The place of a record is given to another one while it is read.
fn an_eviction_during_a_read(size: Size) {
    let cache = full();
    let mut work = vec![with(&cache, move |cache| fill(cache, 3..3 + 3 * size.rounds))];
    work.extend(readers(size, &cache, |cache| {
        is_current(cache, ROOT);
    }));
    all(work);
}

/// A record that was used twice is moved to the main region while it is invalidated. If it has ended before, it goes.
fn a_move_around_an_invalidation(size: Size) {
    let cache = full();
    assert!(is_current(&cache, ROOT) && is_current(&cache, ROOT), "it is used twice");
    let mut work =
        vec![with(&cache, |cache| fill(cache, 3..4)), with(&cache, |cache| cache.invalidate(Tid(3), &[ROOT]))];
    work.extend(readers(size, &cache, |cache| {
        is_current(cache, ROOT);
    }));
    all(work);
    assert!(!is_current(&cache, ROOT), "a lost invalidation");
    is_found(&cache, ROOT, Tid(3));
}

/// The cache is verified after a reconnection. Readers see the state of before, and then that of after.
fn a_verification_while_readers_go_on(size: Size) {
    let cache = roomy();
    for oid in [ROOT, OTHER, THIRD] {
        store(&cache, cache.ask(), oid, &current(oid, 1));
    }
    let mut work = vec![with(&cache, |cache| cache.verify(Changed::Objects(&[ROOT, OTHER]), Tid(5)))];
    work.extend(readers(size, &cache, |cache| {
        let before = cache.head().next();
        assert!(!is_found(cache, ROOT, before) || before == Tid(2), "a lost change");
        assert!(is_current(cache, THIRD), "a lost record");
    }));
    all(work);
    assert!(!is_current(&cache, ROOT) && !is_current(&cache, OTHER) && is_current(&cache, THIRD));
}

/// The answer to a load arrives while everything that is current may have changed.
fn an_answer_around_a_verification(size: Size) {
    let cache = roomy();
    store(&cache, cache.ask(), THIRD, &current(THIRD, 1));
    let asked = cache.ask();
    let mut work = vec![with(&cache, |cache| cache.verify(Changed::Any, Tid(5)))];
    work.push(with(&cache, move |cache| store(cache, asked, ROOT, &current(ROOT, 1))));
    work.extend(readers(size, &cache, |cache| {
        is_current(cache, ROOT);
        is_current(cache, THIRD);
    }));
    all(work);
    assert!(!is_current(&cache, ROOT) && !is_current(&cache, THIRD), "a lost change");
    assert!(!is_found(&cache, ROOT, Tid(2)), "an end that nobody knows");
}

/// Objects that nobody asked for arrive together, around an invalidation of one of them.
fn a_group_around_an_invalidation(size: Size) {
    let cache = roomy();
    let asked = cache.ask();
    let mut work = vec![with(&cache, |cache| cache.invalidate(Tid(3), &[ROOT]))];
    work.push(with(&cache, move |cache| {
        let group = [OTHER, ROOT, THIRD].map(|oid| (oid, current(oid, 1)));
        group.iter().for_each(|(oid, found)| store(cache, asked, *oid, found));
    }));
    work.extend(readers(size, &cache, |cache| {
        is_current(cache, ROOT);
        is_current(cache, THIRD);
    }));
    all(work);
    assert!(!is_current(&cache, ROOT), "a lost invalidation");
    assert!(is_current(&cache, OTHER) && is_current(&cache, THIRD), "a lost record");
}

/// A record is looked up while it is stored for the first time.
fn a_store_and_a_first_read(size: Size) {
    let cache = roomy();
    let mut work = vec![with(&cache, |cache| store(cache, cache.ask(), ROOT, &current(ROOT, 1)))];
    work.extend(readers(size, &cache, |cache| {
        is_current(cache, ROOT);
    }));
    all(work);
    assert!(is_current(&cache, ROOT), "a lost record");
}

/// The server was rolled back: the cache is emptied, and filled again, while readers go on.
fn a_rollback_while_readers_go_on(size: Size) {
    let cache = roomy();
    store(&cache, cache.ask(), THIRD, &current(THIRD, 1));
    store(&cache, cache.ask(), ROOT, &current(ROOT, 1));
    let mut work = vec![with(&cache, |cache| {
        cache.clear(Tid(1));
        store(cache, cache.ask(), OTHER, &current(OTHER, 1));
    })];
    work.extend(readers(size, &cache, |cache| {
        is_current(cache, ROOT);
        is_current(cache, THIRD);
    }));
    all(work);
    assert!(!is_current(&cache, ROOT) && !is_current(&cache, THIRD) && is_current(&cache, OTHER));
}

/// One cache is behind another, as a file is behind memory. A revision is copied while it is invalidated in both.
fn a_copy_into_memory_around_an_invalidation(size: Size) {
    let (memory, file) = (roomy(), roomy());
    store(&file, file.ask(), ROOT, &current(ROOT, 1));
    let behind = Arc::clone(&file);
    let mut work = vec![with(&memory, move |memory| {
        behind.invalidate(Tid(3), &[ROOT]);
        memory.invalidate(Tid(3), &[ROOT]);
    })];
    for _ in 0..size.readers {
        let behind = Arc::clone(&file);
        let rounds = size.rounds;
        work.push(with(&memory, move |memory| {
            for _ in 0..rounds {
                let before = memory.head().next();
                let found = memory.get_through(ROOT, before, || behind.get(ROOT, before));
                assert!(found.is_some() == (before == Tid(2)), "a lost record, or a lost invalidation");
            }
        }));
    }
    all(work);
    assert!(!is_current(&memory, ROOT), "a lost invalidation");
    is_found(&memory, ROOT, Tid(3));
}

/// A revision is copied into memory while everything may have changed, in both caches. None of them remembers what.
fn a_copy_into_memory_around_a_verification(size: Size) {
    let (memory, file) = (roomy(), roomy());
    store(&file, file.ask(), ROOT, &current(ROOT, 1));
    let behind = Arc::clone(&file);
    let mut work = vec![with(&memory, move |memory| {
        behind.verify(Changed::Any, Tid(5));
        memory.verify(Changed::Any, Tid(5));
    })];
    for _ in 0..size.readers {
        let behind = Arc::clone(&file);
        let rounds = size.rounds;
        work.push(with(&memory, move |memory| {
            for _ in 0..rounds {
                let before = memory.head().next();
                let found = memory.get_through(ROOT, before, || behind.get(ROOT, before));
                assert!(found.is_none() || before == Tid(2), "a lost change");
            }
        }));
    }
    all(work);
    assert!(!is_current(&memory, ROOT), "a lost change");
}

/// The cache is verified after a reconnection, while an answer arrives. No end is shown that nobody knows.
fn changed_objects_leave_while_readers_go_on(size: Size) {
    let cache = roomy();
    for oid in [ROOT, THIRD] {
        store(&cache, cache.ask(), oid, &current(oid, 1));
    }
    let asked = cache.ask();
    let mut work = vec![with(&cache, |cache| cache.verify(Changed::Objects(&[ROOT, OTHER]), Tid(5)))];
    work.push(with(&cache, move |cache| {
        cache.store(asked, OTHER, &current(OTHER, 1));
    }));
    work.extend(readers(size, &cache, |cache| {
        for oid in [ROOT, OTHER] {
            let found = cache.get(oid, Tid(2));
            assert!(found.is_none_or(|found| found.next.is_none()), "an end that nobody knows");
            is_current(cache, oid);
        }
        assert!(is_current(cache, THIRD), "a lost record");
    }));
    all(work);
    assert!(!is_current(&cache, ROOT) && !is_current(&cache, OTHER) && is_current(&cache, THIRD));
}

/// The cache is closed while others load, store and invalidate. After that nothing is written, and nothing is found.
fn close_during_everything(size: Size) {
    let cache = cache(2);
    store(&cache, cache.ask(), ROOT, &current(ROOT, 1));
    let mut work = vec![
        with(&cache, |cache| {
            cache.close();
            cache.medium().is_over();
        }),
        with(&cache, |cache| cache.invalidate(Tid(3), &[ROOT])),
        with(&cache, |cache| store(cache, cache.ask(), THIRD, &current(THIRD, 1))),
    ];
    work.extend(readers(size, &cache, |cache| {
        is_current(cache, ROOT);
    }));
    all(work);
    assert!(!is_current(&cache, ROOT) && !is_current(&cache, THIRD), "found after the end");
    assert!(!cache.store(cache.ask(), OTHER, &current(OTHER, 1)), "stored after the end");
}
