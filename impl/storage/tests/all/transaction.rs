//! A transaction as a value, waiting without threads, and what listeners hear.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use vellum_storage::{
    Busy, Bytes, Change, Content, Data, Draft, Error, Event, MemoryStorage, Oid, Origin, Overlay, PackOptions, Refusal,
    Status, Storage, Tid, TransactionMeta, Verdict, Version, Vote, Want,
};

fn stored(storage: &dyn Storage, oid: u64, data: &'static str) -> Tid {
    let serial = storage.history(Oid(oid), 1).map_or(Tid::ZERO, |history| history[0].tid);
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(oid), serial, data.into()).unwrap();
    storage.commit(draft).unwrap()
}

fn load(storage: &dyn Storage, oid: u64) -> Bytes {
    storage.load(Oid(oid), &Version::TRUNK).unwrap().data
}

/// A draft with each kind of change.
fn everything() -> Draft {
    let (draft, other) = (Version::named("draft"), Version::named("other"));
    let mut all = Draft::new(TransactionMeta::new().user("ann"));
    all.store(Oid(1), Tid(1), "one".into()).unwrap();
    all.store_in(&draft, Oid(2), Tid(2), "two".into()).unwrap();
    all.delete(Oid(3), Tid(3)).unwrap();
    all.check_current(Oid(4), Tid(4)).unwrap();
    all.undo(Tid(5)).unwrap();
    all.commit_version(&draft, &other).unwrap();
    all.abort_version(&other).unwrap();
    all
}

#[test]
fn a_draft_is_a_value() {
    let all = everything();
    assert_eq!(all, all.clone());
    let state = RandomState::new();
    assert_eq!(state.hash_one(&all), state.hash_one(all.clone()));
    // Without any one of its changes, or with another one, it is another draft.
    let mut different = vec![all.clone()];
    let mut differs = |other: Draft| {
        assert!(!different.contains(&other), "{other:?}");
        different.push(other);
    };
    for left_out in 0..all.changes().len() {
        let mut other = Draft::new(all.meta().clone());
        let changes = all.changes().iter().enumerate().filter(|(n, _)| *n != left_out);
        changes.for_each(|(_, change)| other.push(change.clone()).unwrap());
        differs(other);
    }
    let mut of_another = all.clone();
    of_another.set_origin(Origin(7));
    differs(of_another);
    assert!(format!("{all:?}").contains("AbortVersion"), "{all:?}");
}

#[test]
fn a_draft_is_voted_on_by_any_storage_as_often_as_one_likes() {
    let (one, other) = (MemoryStorage::new("one"), MemoryStorage::new("other"));
    let mut draft = one.begin(TransactionMeta::new().user("ann")).unwrap();
    draft.store(Oid::ROOT, Tid::ZERO, "the same".into()).unwrap();
    one.commit(draft.clone()).unwrap();
    other.commit(draft.clone()).unwrap();
    assert_eq!((load(&one, 0), load(&other, 0)), ("the same".into(), "the same".into()));
    // Here it is a change of an object that is not new any more.
    match one.vote(draft) {
        Err(Error::Refused(Refusal::Conflict { oid: Oid::ROOT, serial: Tid::ZERO, .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_draft_that_no_storage_began_is_checked_by_the_one_that_votes() {
    let storage = MemoryStorage::new("storage");
    let long = Draft::new(TransactionMeta::new().user(vec![b'x'; 65_536]));
    assert!(matches!(storage.vote(long), Err(Error::Refused(Refusal::MetadataTooLong { field: "user", .. }))));
    let undone = Draft::new(TransactionMeta { status: Status::Undone, ..TransactionMeta::new() });
    assert!(matches!(storage.vote(undone), Err(Error::CommittedAsUndone)));
    let mut named = Draft::new(TransactionMeta::new());
    let name = Version::named(vec![b'x'; 65_536]);
    assert!(matches!(
        named.store_in(&name, Oid(1), Tid::ZERO, "x".into()),
        Err(Error::Refused(Refusal::MetadataTooLong { field: "version", length: 65_536 }))
    ));
    assert!(named.changes().is_empty(), "the draft is as it was");
}

/// 16 MiB that say which they are.
fn large(number: u8) -> Bytes {
    vec![number; 16 << 20].into()
}

#[test]
fn large_transactions_wait_on_the_disk_whatever_the_storage() {
    let memory = MemoryStorage::new("memory");
    let overlay = Overlay::new(Arc::new(MemoryStorage::new("base")), Arc::new(MemoryStorage::new("changes"))).unwrap();
    for storage in [&memory as &dyn Storage, &overlay] {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        (1..=4).for_each(|n| draft.store(Oid(n), Tid::ZERO, large(n as u8)).unwrap());
        let in_memory = |draft: &Draft| {
            let data = draft.changes().iter().filter_map(Change::data);
            data.filter_map(Data::in_memory).map(Bytes::len).sum::<usize>()
        };
        assert_eq!(in_memory(&draft), 32 << 20);
        // A clone continues to write to the same scratch file, and so does the original; neither disturbs the other.
        let mut clone = draft.clone();
        assert_eq!(clone, draft);
        clone.store(Oid(5), Tid::ZERO, large(55)).unwrap();
        draft.store(Oid(5), Tid::ZERO, large(5)).unwrap();
        clone.store(Oid(6), Tid::ZERO, large(66)).unwrap();
        assert!(clone != draft);
        assert_eq!(in_memory(&clone), 32 << 20);
        drop(clone);
        storage.commit(draft).unwrap();
        for n in 1..=5 {
            assert!(load(storage, n).iter().all(|byte| u64::from(*byte) == n), "object {n} of {}", storage.name());
        }
    }
}

/// A waker that counts.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One thread drives three transactions on one object, as a state machine would.
#[test]
fn waiting_takes_no_thread() {
    let storage = MemoryStorage::new("storage");
    let tid = stored(&storage, 1, "first");
    let draft = |data: &'static str| {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid(1), tid, data.into()).unwrap();
        draft
    };
    let first = storage.vote(draft("one")).unwrap();
    let queue = |data| match storage.try_vote(draft(data)).unwrap() {
        Vote::Busy(mut waiting) => {
            assert_eq!(waiting.busy(), Some(&Busy::Object(Oid(1))));
            let calls = Arc::new(Calls::default());
            waiting.wake(Waker::from(Arc::clone(&calls)));
            (waiting, calls)
        }
        Vote::Voted(voted) => panic!("{voted:?}"),
    };
    let ((second, second_calls), (third, third_calls)) = (queue("two"), queue("three"));
    let calls = || (second_calls.0.load(Ordering::Relaxed), third_calls.0.load(Ordering::Relaxed));
    assert_eq!(calls(), (0, 0));
    drop(first);
    assert_eq!(calls(), (1, 0));
    let Vote::Voted(second) = storage.attempt(*second).unwrap() else { panic!("it was its turn") };
    assert_eq!(calls(), (1, 0));
    second.finish().unwrap();
    assert_eq!(calls(), (1, 1));
    // The third made its change to a revision that is not the newest any more.
    assert!(matches!(storage.attempt(*third), Err(Error::Refused(Refusal::Conflict { .. }))));
    assert_eq!(load(&storage, 1), "two");
    stored(&storage, 1, "four");
}

#[test]
fn a_verdict_says_what_is_written_merged_and_held() {
    let storage = MemoryStorage::new("storage");
    let version = Version::named("draft");
    let (first, second) = (stored(&storage, 1, "one"), stored(&storage, 1, "two"));
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.undo(second).unwrap();
    draft.store_in(&version, Oid(2), Tid::ZERO, "three".into()).unwrap();
    let Verdict { writes, merged, wants } = storage.vote(draft).unwrap().verdict().unwrap();
    assert_eq!(writes.iter().map(|write| write.oid).collect::<Vec<_>>(), [Oid(1), Oid(2)]);
    assert_eq!(writes[0].content, Content::Shared(first));
    assert_eq!(writes[1].content, Content::Data(Bytes::from("three").into()));
    assert_eq!(merged, []);
    assert_eq!(wants.objects, [(Oid(1), Want::Change), (Oid(2), Want::Change)].into());
    assert_eq!(wants.versions, [(version, Want::Keep)].into());
}

/// A draft that another storage began, or none, does not get at what an overlay keeps in its changes.
#[test]
fn the_object_of_an_overlay_is_its_own() {
    let (base, changes) = (Arc::new(MemoryStorage::new("base")), Arc::new(MemoryStorage::new("changes")));
    let overlay = Overlay::new(base.clone(), changes.clone()).unwrap();
    let seam = Oid(1 << 62);
    let mut draft = Draft::new(TransactionMeta::new());
    draft.store(Oid(1), Tid::ZERO, "one".into()).unwrap();
    draft.store(seam, Tid::ZERO, "not such as an overlay writes".into()).unwrap();
    let error = overlay.commit(draft).unwrap_err();
    assert!(matches!(error, Error::Unfit { .. }), "{error}");
    // Nothing is held, and nothing was written.
    let mut draft = Draft::new(TransactionMeta::new());
    draft.store(Oid(1), Tid::ZERO, "one".into()).unwrap();
    overlay.commit(draft).unwrap();
    drop(overlay);
    let overlay = Overlay::new(base, changes).unwrap();
    assert_eq!(load(&overlay, 1), "one");
}

/// Rule 2.8.
#[test]
fn listeners_hear_all_events_in_one_order() {
    let overlay = Overlay::new(Arc::new(MemoryStorage::new("base")), Arc::new(MemoryStorage::new("changes"))).unwrap();
    for storage in [Box::new(MemoryStorage::new("memory")) as Box<dyn Storage>, Box::new(overlay)] {
        let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
        let hears = Arc::clone(&heard);
        let listening = storage.listen(Arc::new(move |event: &Event| hears.lock().unwrap().push(event.clone())));
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.set_origin(Origin(17));
        [2, 1, 2].iter().for_each(|oid| draft.store(Oid(*oid), Tid::ZERO, "new".into()).unwrap());
        let one = storage.commit(draft).unwrap();
        let empty = storage.commit(storage.begin(TransactionMeta::new()).unwrap()).unwrap();
        drop(storage.vote(storage.begin(TransactionMeta::new()).unwrap()).unwrap());
        let mut expected = vec![
            Event::Committed { tid: one, oids: vec![Oid(2), Oid(1)], origin: Origin(17) },
            Event::Committed { tid: empty, oids: vec![], origin: Origin::default() },
        ];
        if let Some(pack) = storage.pack() {
            pack.pack(Tid::MAX, PackOptions::default().go_on(true)).unwrap();
            expected.push(Event::Packed { to: empty });
        }
        drop(listening);
        stored(&*storage, 3, "not heard of");
        assert_eq!(*heard.lock().unwrap(), expected);
    }
}

/// A server makes its drafts itself, and they know nothing of the storage's oids.
#[test]
fn an_oid_that_a_transaction_used_is_not_given_out() {
    let storage = MemoryStorage::new("memory");
    let mut draft = Draft::new(TransactionMeta::new());
    draft.store(Oid(1), Tid::ZERO, "one".into()).unwrap();
    storage.commit(draft).unwrap();
    assert_eq!(storage.new_oids(2).unwrap(), [Oid(2), Oid(3)]);
}
