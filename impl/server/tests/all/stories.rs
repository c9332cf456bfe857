//! Conversations of clients with the server, one after the other as they happen.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use vellum_network::{Site, TRANSACTION, config};
use vellum_pickle::{compressed, is_compressed, to_json};
use vellum_server::{Config, ConnectionId, Event, Work};
use vellum_storage::{Compressed, Compression, ManualClock, MemoryStorage, Oid, Resolvers, Tid, Version};
use vellum_wire::{Call, Message, Value};

const NEW: Tid = Tid::ZERO;

macro_rules! story {
    ($name:literal, $site:expr) => {
        insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(concat!("server@", $name), $site.transcript);
        });
    };
}

#[test]
fn a_client_connects_and_commits() {
    let mut site = Site::new(config());
    let (ann, _bob) = (site.client("ann"), site.client("bob"));
    site.call(ann, Call::GetInfo);
    site.load(ann, 0);
    let tid = site.commit(ann, 0, NEW, "one");
    site.load(ann, 0);
    site.commit(ann, 0, tid, "two");
    site.call(ann, Call::LoadBefore { oid: Oid(0), before: tid.next() });
    story!("a-client-connects-and-commits", site);
}

#[test]
fn a_conflict_ends_the_transaction() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    let tid = site.commit(ann, 0, NEW, "one");
    site.commit(bob, 0, tid, "bob's");
    site.begin(ann);
    site.store(ann, 0, tid, "ann's");
    site.vote(ann);
    site.abort(ann);
    site.finish(ann);
    story!("a-conflict-ends-the-transaction", site);
}

#[test]
fn the_second_phases_of_two_clients_overlap() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    for (client, oid) in [(ann, 1), (bob, 2)] {
        site.begin(client);
        site.store(client, oid, NEW, "new");
        site.vote(client);
    }
    site.finish(bob);
    site.finish(ann);
    story!("the-second-phases-of-two-clients-overlap", site);
}

#[test]
fn a_vote_waits_for_the_same_object() {
    let mut site = Site::new(config());
    let (ann, bob, cid) = (site.client("ann"), site.client("bob"), site.client("cid"));
    for client in [ann, bob, cid] {
        site.begin(client);
        site.store(client, 1, NEW, "new");
        site.vote(client);
    }
    site.note("bob and cid wait");
    site.call(cid, Call::Ping);
    site.finish(cid);
    site.vote(cid);
    site.abort(cid);
    site.finish(ann);
    story!("a-vote-waits-for-the-same-object", site);
}

#[test]
fn the_locks_of_a_lost_client_are_free_at_once() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    for client in [ann, bob] {
        site.begin(client);
        site.store(client, 1, NEW, "new");
        site.vote(client);
    }
    site.lose(ann);
    site.finish(bob);
    story!("the-locks-of-a-lost-client-are-free-at-once", site);
}

/// Real ZEO 6.2 keeps the lock for ever where the server closes the connection.
#[test]
fn a_transaction_that_is_not_finished_in_time_is_aborted() {
    let mut site = Site::new(Config { transaction_timeout: Some(Duration::from_secs(30)), ..config() });
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.one_way(ann, Call::SetClientLabel { label: "the editors' instance".to_owned() });
    for client in [ann, bob] {
        site.begin(client);
        site.store(client, 1, NEW, "new");
        site.vote(client);
    }
    site.pass(29);
    site.pass(30);
    site.finish(bob);
    story!("a-transaction-that-is-not-finished-in-time-is-aborted", site);
}

#[test]
fn a_whole_commit_in_one_write_is_carried_out_in_order() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::Vote { .. } | Work::Finish));
    for oid in [1, 2] {
        site.begin(ann);
        site.store(ann, oid, NEW, "new");
        site.vote(ann);
        site.finish(ann);
    }
    for _ in 0..4 {
        site.note("the storage is done with one thing");
        site.release(0);
    }
    assert_eq!(site.storage.last_invalidations(9).unwrap().len(), 2);
    story!("a-whole-commit-in-one-write-is-carried-out-in-order", site);
}

/// ZEO 155 and 169: the answer would be cached as current, and the invalidation has gone by.
#[test]
fn a_load_that_crosses_a_commit_is_done_again() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    let tid = site.commit(ann, 1, NEW, "old");
    site.hold(|work| matches!(work, Work::Load { .. }));
    site.load(bob, 1);
    let read = site.work(0);
    site.note("the old data is read, and not sent yet");
    site.commit(ann, 1, tid, "new");
    site.hold(|_| false);
    site.happen(read);
    story!("a-load-that-crosses-a-commit-is-done-again", site);
}

/// ZEO 166: a client that knows a tid must have every invalidation up to it.
#[test]
fn a_load_that_is_ahead_of_its_invalidation_waits_for_it() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.commit(ann, 1, NEW, "old");
    site.hold(|work| matches!(work, Work::Load { .. } | Work::Finish));
    site.begin(ann);
    site.store(ann, 1, site.storage.last_transaction(), "new");
    site.vote(ann);
    site.finish(ann);
    site.load(bob, 1);
    // The storage finishes, and tells; but the machine hears that after the answer to the load.
    let finished = site.work(0);
    let read = site.work(0);
    let told = site.take_told();
    site.happen(read);
    site.call(bob, Call::LastTransaction);
    site.note("the storage tells of the commit now");
    told.into_iter().for_each(|event| site.happen(event));
    site.happen(finished);
    story!("a-load-that-is-ahead-of-its-invalidation-waits-for-it", site);
}

/// The answer is about now, and the client is told of now first.
#[test]
fn a_load_in_a_version_waits_for_its_invalidation() {
    let (site, _) = asked_during_a_finish(Call::LoadInVersion { oid: Oid(1), version: Version::named("draft") });
    story!("a-load-in-a-version-waits-for-its-invalidation", site);
}

/// Bob asks after the storage has finished a transaction of ann's, and is answered before the storage tells of it.
fn asked_during_a_finish(call: Call) -> (Site, ConnectionId) {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.commit(ann, 1, NEW, "old");
    site.hold(|work| matches!(work, Work::Ask(_) | Work::Finish));
    site.begin(ann);
    site.store(ann, 1, site.storage.last_transaction(), "new");
    site.vote(ann);
    site.finish(ann);
    site.call(bob, call);
    let finished = site.work(0);
    let read = site.work(0);
    let told = site.take_told();
    site.happen(read);
    site.note("the storage tells of the commit now");
    told.into_iter().for_each(|event| site.happen(event));
    site.happen(finished);
    (site, bob)
}

/// A client that walks through the records would pass over an object that was deleted since, and show others as they
/// were before.
#[test]
fn every_answer_about_now_waits_for_its_invalidation() {
    let calls = [
        Call::GetTid { oid: Oid(1) },
        Call::History { oid: Oid(1), size: 10 },
        Call::RecordIterNext { next: Some(Oid(2)) },
        Call::UndoLog { first: 0, last: -20 },
        Call::UndoInfo { first: 0, last: -20, specification: Value::None },
        Call::LoadInVersion { oid: Oid(1), version: Version::named("draft") },
        Call::ModifiedInVersion { oid: Oid(1) },
        Call::Versions,
    ];
    for call in calls {
        let name = format!("{call:?}");
        let (site, bob) = asked_during_a_finish(call);
        let last: Vec<_> = site.inbox[&bob].iter().rev().take(2).map(|message| message.name.clone()).collect();
        assert_eq!(last, [".reply", "invalidateTransaction"].map(|name| Value::Text(name.to_owned())), "{name}");
    }
}

/// Both are finished by one sync. A client that heard of the later one first would refuse the tid of its own.
#[test]
fn a_client_hears_of_its_own_finish_before_later_ones() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.hold(|work| matches!(work, Work::Finish | Work::Load { .. }));
    for (client, oid) in [(ann, 1), (bob, 2)] {
        site.begin(client);
        site.store(client, oid, NEW, "new");
        site.vote(client);
        site.finish(client);
    }
    let (anns, bobs) = (site.work(0), site.work(0));
    let told = site.take_told();
    site.note("the storage tells of both, and has not answered yet");
    told.into_iter().for_each(|event| site.happen(event));
    site.load(ann, 2);
    site.call(ann, Call::LastTransaction);
    site.release(0);
    site.note("the finishes are answered, the later one first");
    site.happen(bobs);
    site.happen(anns);
    story!("a-client-hears-of-its-own-finish-before-later-ones", site);
}

#[test]
fn a_client_that_registers_during_a_finish_misses_nothing() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::Finish));
    site.begin(ann);
    site.store(ann, 1, NEW, "new");
    site.vote(ann);
    site.finish(ann);
    let finished = site.work(0);
    let told = site.take_told();
    site.note("the transaction is in the storage, and the machine has not heard of it");
    site.client("bob");
    told.into_iter().for_each(|event| site.happen(event));
    site.happen(finished);
    site.client("cid");
    story!("a-client-that-registers-during-a-finish-misses-nothing", site);
}

/// A storage gives objects back before it tells of their transaction, and a transaction that waits for them may be
/// faster. A client that is told of the conflict first tries again with what it has, and finds the same conflict.
#[test]
fn a_vote_is_answered_after_what_it_waited_for_is_told() {
    for clients_resolve in [false, true] {
        let mut site = Site::new(Config { clients_resolve, ..config() });
        let (ann, bob) = (site.client("ann"), site.client("bob"));
        let old = site.commit(ann, 1, NEW, "one");
        for client in [ann, bob] {
            site.begin(client);
            site.store(client, 1, old, "two");
            site.vote(client);
        }
        site.hold(|work| matches!(work, Work::Finish));
        site.finish(ann);
        site.transcript.clear();
        let finished = site.work(0);
        let (woken, told): (Vec<_>, Vec<_>) =
            site.take_told().into_iter().partition(|event| matches!(event, Event::Woken { .. }));
        site.note("the object is free, and the machine has not heard of the transaction");
        woken.into_iter().for_each(|event| site.happen(event));
        site.note("now it hears of it");
        told.into_iter().for_each(|event| site.happen(event));
        site.happen(finished);
        if !clients_resolve {
            story!("a-vote-is-answered-after-what-it-waited-for-is-told", site);
        } else {
            let said: Vec<_> = site.inbox[&bob].iter().rev().take(2).map(|message| message.name.clone()).collect();
            assert_eq!(said, [".reply", "invalidateTransaction"].map(|name| Value::Text(name.to_owned())));
        }
    }
}

#[test]
fn later_finishes_are_told_in_their_order() {
    let mut site = Site::new(config());
    let (ann, bob, cid) = (site.client("ann"), site.client("bob"), site.client("cid"));
    for (client, oid) in [(ann, 1), (bob, 2), (cid, 3)] {
        site.begin(client);
        site.store(client, oid, NEW, "new");
        site.vote(client);
    }
    site.hold(|work| matches!(work, Work::Finish));
    for client in [ann, bob, cid] {
        site.finish(client);
    }
    let finished: Vec<Event> = (0..3).map(|_| site.work(0)).collect();
    let told = site.take_told();
    site.note("the storage tells of all three before it answers the first");
    told.into_iter().for_each(|event| site.happen(event));
    finished.into_iter().for_each(|event| site.happen(event));
    story!("later-finishes-are-told-in-their-order", site);
}

#[test]
fn a_client_that_was_away_is_told_what_changed() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    let tids: Vec<Tid> = (1..=4).map(|oid| site.commit(ann, oid, NEW, "new")).collect();
    site.transcript.clear();
    let bob = site.client("bob");
    for tid in [tids[0], tids[1], tids[2], tids[3], Tid::MAX] {
        site.call(bob, Call::GetInvalidations { tid });
    }
    story!("a-client-that-was-away-is-told-what-changed", site);
}

#[test]
fn what_a_client_must_not_say_ends_its_connection() {
    let mut site = Site::new(config());
    let early = site.connect("ann");
    site.call(early, Call::Ping);
    for call in ["close", "_x", "load"] {
        let client = site.client("bob");
        site.say(client, Message::call(Value::Int(2), call, vec![]));
    }
    let twice = site.client("cid");
    site.call(twice, Call::Register { storage: Value::Text("1".to_owned()), read_only: false });
    let wrong = site.client("dan");
    site.say(wrong, Message::call(Value::Int(2), "loadBefore", vec![Value::Int(1)]));
    site.call(wrong, Call::NewOid);
    site.vote(wrong);
    site.abort(wrong);
    site.store(wrong, 1, NEW, "in no transaction");
    assert_eq!(site.closed.len(), 6);
    story!("what-a-client-must-not-say-ends-its-connection", site);
}

#[test]
fn a_storage_is_looked_for_by_its_name() {
    let mut site = Site::new(config());
    let ann = site.connect("ann");
    for storage in [
        Value::Text("nope".to_owned()),
        Value::Int(1),
        Value::Bytes(Bytes::from_static(b"1")),
        Value::None,
        Value::Text("1".to_owned()),
    ] {
        site.call(ann, Call::Register { storage, read_only: true });
    }
    site.call(ann, Call::NewOids { count: 3 });
    site.vote(ann);
    site.begin(ann);
    story!("a-storage-is-looked-for-by-its-name", site);
}

#[test]
fn history_undo_and_iteration() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    let first = site.commit(ann, 0, NEW, "one");
    let second = site.commit(ann, 0, first, "two");
    site.transcript.clear();
    site.call(ann, Call::History { oid: Oid(0), size: 5 });
    site.call(ann, Call::UndoLog { first: 0, last: -20 });
    site.begin(ann);
    let Some(Value::List(log)) = site.inbox[&ann].last().map(|message| message.args.clone()) else { panic!() };
    let Value::Dict(entry) = &log[0] else { panic!() };
    let Value::Bytes(undone) = entry[0].1.clone() else { panic!() };
    site.one_way(ann, Call::Undo { undone, transaction: TRANSACTION });
    site.vote(ann);
    site.finish(ann);
    site.load(ann, 0);
    site.call(ann, Call::IteratorStart { start: Some(second), stop: None });
    site.call(ann, Call::IteratorNext { iterator: 0 });
    site.call(ann, Call::IteratorRecordStart { iterator: 0, tid: first });
    site.call(ann, Call::IteratorRecordStart { iterator: 0, tid: second });
    for _ in 0..3 {
        site.call(ann, Call::IteratorRecordNext { iterator: 2 });
    }
    for _ in 0..3 {
        site.call(ann, Call::IteratorNext { iterator: 0 });
    }
    site.call(ann, Call::IteratorGc { iterators: vec![0, 1, 9] });
    site.call(ann, Call::RecordIterNext { next: None });
    story!("history-undo-and-iteration", site);
}

#[test]
fn a_pack_tells_everybody_the_new_size() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    let tid = site.commit(ann, 0, NEW, "cccc.N.");
    site.commit(ann, 0, tid, "N.N.");
    site.transcript.clear();
    site.call(bob, Call::Pack { time: 2e9, wait: true });
    site.call(bob, Call::Pack { time: 2e9, wait: false });
    story!("a-pack-tells-everybody-the-new-size", site);
}

#[test]
fn the_client_resolves_what_the_server_cannot() {
    let mut site = Site::new(Config { clients_resolve: true, ..config() });
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    let tid = site.commit(ann, 0, NEW, "one");
    let newer = site.commit(bob, 0, tid, "bob's");
    site.transcript.clear();
    site.begin(ann);
    site.store(ann, 0, tid, "ann's");
    site.vote(ann);
    site.finish(ann);
    site.store(ann, 0, newer, "both");
    site.vote(ann);
    site.finish(ann);
    story!("the-client-resolves-what-the-server-cannot", site);
}

#[test]
fn nothing_is_kept_for_a_client_that_leaves_in_the_middle() {
    for held in 0..3 {
        let mut site = Site::new(config());
        let (ann, bob) = (site.client("ann"), site.client("bob"));
        match held {
            0 => site.hold(|work| matches!(work, Work::Vote { .. })),
            1 => site.hold(|work| matches!(work, Work::Finish)),
            _ => {}
        }
        site.begin(ann);
        site.store(ann, 1, NEW, "new");
        site.vote(ann);
        site.finish(ann);
        site.lose(ann);
        if !site.held.is_empty() {
            site.release(0);
        }
        site.hold(|_| false);
        // A finish that was under way happens. Nothing else does, and no lock stays.
        let happened = site.storage.last_transaction();
        assert_eq!(happened > Tid::ZERO, held > 0);
        site.commit(bob, 1, happened, "bob's");
        assert!(site.storage.last_transaction() > happened);
    }
}

/// A bucket of the BTrees package with long texts.
fn bucket(letters: &[u8]) -> Vec<u8> {
    let text = |letter: u8| [b"X\x28\0\0\0", [letter; 40].as_slice()].concat();
    let items: Vec<u8> = letters.iter().flat_map(|letter| [text(*letter), text(b'-')].concat()).collect();
    [b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\x00.\x80\x03((", items.as_slice(), b"t\x85."].concat()
}

/// Two clients add to one bucket at the same time, over a storage that is compressed: both see plain records, and the
/// merged one is compressed below. Where clients have the layer themselves they see records as they are.
#[test]
fn records_are_compressed_below_the_server() {
    let clock = Arc::new(ManualClock::at("2026-11-28T12:00:00Z".parse().unwrap()));
    for compression in [Compression::On, Compression::ByClients { merged: true }] {
        let resolver = compression.resolver(Arc::new(Resolvers::built_in()));
        let below = MemoryStorage::with("below", clock.clone(), resolver);
        let storage = Compressed::new(Arc::new(below.clone()), compression);
        let mut site = Site::of(config(), Arc::new(storage), clock.clone());
        let (ann, bob) = (site.client("ann"), site.client("bob"));
        let sent = |letters: &[u8]| match compression {
            Compression::On => bucket(letters),
            _ => compressed(&bucket(letters)).unwrap(),
        };
        let tid = site.commit(ann, 1, NEW, sent(b"a"));
        site.commit(bob, 1, tid, sent(b"ab"));
        site.commit(ann, 1, tid, sent(b"ac"));
        site.load(bob, 1);
        let kept = below.load(Oid(1), &Version::TRUNK).unwrap().data;
        assert!(is_compressed(&kept));
        let merged = to_json(&kept, &Default::default()).unwrap();
        assert_eq!(merged, to_json(&bucket(b"abc"), &Default::default()).unwrap());
        site.note("the storage below has a compressed record with a, b and c");
        // Compressors differ in the bytes that they write, so no transcript shows those.
        if compression == Compression::On {
            story!("records-are-compressed-below-the-server", site);
        }
    }
}

/// The undo writes over what the client has stored, and would keep in its cache.
#[test]
fn what_an_undo_writes_over_is_loaded_again() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    let tid = site.commit(ann, 1, NEW, "one");
    site.begin(ann);
    site.store(ann, 1, tid, "one");
    let undone = STANDARD.encode(tid.to_bytes()).into();
    site.one_way(ann, Call::Undo { undone, transaction: TRANSACTION });
    site.vote(ann);
    site.finish(ann);
    site.load(ann, 1);
    story!("what-an-undo-writes-over-is-loaded-again", site);
}
