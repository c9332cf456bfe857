//! The clients' limits of the server's memory.

use std::time::Duration;

use vellum_network::{Site, config};
use vellum_pickle::Value;
use vellum_server::{Config, Event, Memory, Outcome, Work};
use vellum_storage::{Oid, Tid, Version};
use vellum_wire::{Begin, Call, Fault};

const NEW: Tid = Tid::ZERO;

macro_rules! story {
    ($name:literal, $site:expr) => {
        insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(concat!("server@", $name), $site.transcript);
        });
    };
}

fn with(memory: Memory) -> Site {
    Site::new(Config { memory, ..config() })
}

#[test]
fn the_largest_transaction_goes_to_a_scratch_file() {
    let mut site = with(Memory { transactions: 100, ..Memory::default() });
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    let (small, smaller, large) = ("a".repeat(30), "c".repeat(20), "b".repeat(60));
    site.begin(ann);
    site.begin(bob);
    site.store(ann, 1, NEW, &small);
    site.store(bob, 2, NEW, &large);
    assert_eq!(site.transactions_in_memory(), 90);
    site.store(ann, 3, NEW, &smaller);
    assert_eq!(site.transactions_in_memory(), 50, "bob's transaction was the largest");
    site.store(bob, 4, NEW, &small);
    for client in [ann, bob] {
        site.vote(client);
        site.finish(client);
    }
    assert_eq!(site.transactions_in_memory(), 0);
    for (oid, data) in [(1, &small), (2, &large), (3, &smaller), (4, &small)] {
        assert_eq!(site.storage.load(Oid(oid), &Version::TRUNK).unwrap().data, data.as_bytes(), "object {oid}");
    }
    story!("the-largest-transaction-goes-to-a-scratch-file", site);
}

/// Calls of the transaction wait until its records are in the file, and keep their order.
#[test]
fn a_vote_waits_for_the_scratch_file() {
    let mut site = with(Memory { transactions: 10, ..Memory::default() });
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::Spill { .. }));
    site.begin(ann);
    site.store(ann, 1, NEW, "more than ten bytes");
    site.store(ann, 2, NEW, "two");
    site.vote(ann);
    site.finish(ann);
    assert_eq!(site.storage.last_transaction(), Tid::ZERO);
    site.note("the scratch file is written");
    site.release(0);
    assert_eq!(site.storage.object_count(), 2);
    assert_eq!(site.transactions_in_memory(), 0);
}

#[test]
fn a_full_disk_is_told_by_the_vote() {
    let mut site = with(Memory { transactions: 10, ..Memory::default() });
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::Spill { .. }));
    site.begin(ann);
    site.store(ann, 1, NEW, "more than ten bytes");
    let job = site.held.remove(0).id;
    site.note("the disk is full");
    let fault = Fault::text("ZODB.POSException.StorageError", "no space left on device");
    site.happen(Event::Done { job, outcome: Outcome::Failed(fault) });
    site.vote(ann);
    site.lose(ann);
    site.assert_quiet();
    story!("a-full-disk-is-told-by-the-vote", site);
}

#[test]
fn a_client_that_leaves_while_its_transaction_is_spilled_leaves_nothing() {
    let mut site = with(Memory { transactions: 10, ..Memory::default() });
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::Spill { .. }));
    site.begin(ann);
    site.store(ann, 1, NEW, "more than ten bytes");
    site.lose(ann);
    site.release(0);
    site.assert_quiet();
}

#[test]
fn a_client_that_asks_for_too_much_at_once_is_not_read_from() {
    let mut site = with(Memory { calls: 4, ..Memory::default() });
    let ann = site.client("ann");
    site.commit(ann, 1, NEW, "one");
    site.hold(|work| matches!(work, Work::Load { .. }));
    for _ in 0..5 {
        site.load(ann, 1);
    }
    site.note("the storage is done with one after the other");
    while !site.held.is_empty() {
        site.release(0);
    }
    story!("a-client-that-asks-for-too-much-at-once-is-not-read-from", site);
}

#[test]
fn stores_that_wait_are_not_read_for_ever() {
    let mut site = with(Memory { queued: 50, ..Memory::default() });
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::Vote { .. }));
    site.begin(ann);
    site.vote(ann);
    site.call(ann, Call::TpcFinish { transaction: vellum_network::TRANSACTION });
    site.begin(ann);
    site.store(ann, 1, NEW, "a".repeat(60));
    assert!(site.transcript.ends_with("ann  is not read from\n"), "{}", site.transcript);
    site.release(0);
    assert!(site.transcript.contains("ann  is read from again"), "{}", site.transcript);
}

/// The records of blobs, too.
#[test]
fn a_transaction_of_blobs_goes_to_a_scratch_file() {
    let mut site = with(Memory { transactions: 50, ..Memory::default() });
    let ann = site.client("ann");
    site.begin(ann);
    for oid in 1..8 {
        site.start_blob(ann);
        site.chunk(ann, oid.to_string());
        site.end_blob(ann, oid, NEW);
    }
    assert!(site.transcript.contains("ann's transaction with 3 changes goes to a scratch file"), "{}", site.transcript);
    assert!(site.transcript.contains("ann's transaction with 6 changes goes to a scratch file"), "{}", site.transcript);
    site.vote(ann);
    site.finish(ann);
    let tid = site.storage.last_transaction();
    for oid in 1..8 {
        let blob = site.storage.blobs().unwrap().load_blob(Oid(oid), tid).unwrap();
        assert_eq!(blob.bytes().unwrap(), oid.to_string());
    }
    assert_eq!(site.transactions_in_memory(), 0);
}

#[test]
fn records_of_blobs_that_wait_are_not_read_for_ever() {
    let mut site = with(Memory { queued: 50, ..Memory::default() });
    let ann = site.client("ann");
    site.begin(ann);
    site.hold(|work| matches!(work, Work::EndBlob));
    for oid in 1..5 {
        site.start_blob(ann);
        site.end_blob(ann, oid, NEW);
    }
    assert!(site.transcript.ends_with("ann  is not read from\n"), "{}", site.transcript);
}

#[test]
fn transactions_that_wait_are_not_read_for_ever() {
    let mut site = with(Memory { queued: 500, ..Memory::default() });
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::Vote { .. }));
    site.begin(ann);
    site.vote(ann);
    site.call(ann, Call::TpcFinish { transaction: vellum_network::TRANSACTION });
    let text = "a".repeat(200);
    site.one_way(
        ann,
        Call::TpcBegin(Box::new(Begin {
            transaction: vellum_network::TRANSACTION,
            user: text.clone().into(),
            description: text.clone().into(),
            extension: Value::Dict(vec![(Value::Text("a".into()), Value::List(vec![Value::Text(text)]))]),
            tid: None,
            status: Value::Text(" ".into()),
        })),
    );
    assert!(site.transcript.ends_with("ann  is not read from\n"), "{}", site.transcript);
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let memory = Memory {
        unread_soft: 10,
        unread_soft_time: Duration::from_secs(60),
        unread_hard: 100,
        unread_all: 150,
        ..Memory::default()
    };
    let mut site = with(memory);
    let (ann, bob, cid) = (site.client("ann"), site.client("bob"), site.client("cid"));
    site.pass(10);
    site.leave_unread(ann, 11);
    site.leave_unread(bob, 11);
    site.pass(20);
    site.note("bob has read something");
    site.leave_unread(bob, 10);
    site.leave_unread(bob, 11);
    site.leave_unread(ann, 12);
    site.pass(69);
    site.pass(70);
    site.leave_unread(bob, 101);
    let (dan, eve) = (site.client("dan"), site.client("eve"));
    for (client, bytes) in [(cid, 60), (dan, 70), (eve, 50)] {
        site.leave_unread(client, bytes);
    }
    site.commit(eve, 1, NEW, "new");
    story!("a-client-that-does-not-read-is-cut-off", site);
}

#[test]
fn at_the_end_only_what_is_voted_is_finished() {
    let mut site = Site::new(config());
    let (ann, bob, cid) = (site.client("ann"), site.client("bob"), site.client("cid"));
    for client in [ann, bob] {
        site.begin(client);
        site.store(client, 1, NEW, "new");
        site.vote(client);
    }
    site.begin(cid);
    site.end();
    site.finish(ann);
    assert_ne!(site.storage.last_transaction(), Tid::ZERO);
    site.assert_quiet();
    story!("at-the-end-only-what-is-voted-is-finished", site);
}

#[test]
fn the_report_says_who_waits_for_whom() {
    let mut site = Site::new(config());
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.pass(5);
    for client in [ann, bob] {
        site.begin(client);
        site.store(client, 1, NEW, "new");
        site.vote(client);
    }
    site.pass(12);
    let report = site.report();
    let shown = serde_json::to_string_pretty(&report).unwrap();
    insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("server@the-report-says-who-waits-for-whom", shown);
    });
    assert_eq!(serde_json::from_str::<vellum_server::report::Report>(&shown).unwrap(), report);
}

/// Each may be a walk through the whole database. Others' commits want these threads, too.
#[test]
fn slow_questions_of_a_client_leave_threads_for_others() {
    let mut site = with(Memory::default());
    let (ann, bob, cid) = (site.client("ann"), site.client("bob"), site.client("cid"));
    site.commit(ann, 1, NEW, "one");
    site.hold(|work| matches!(work, Work::Ask(_)));
    for _ in 0..100 {
        site.call(ann, Call::UndoLog { first: 0, last: 20 });
    }
    assert_eq!(site.held.len(), 16);
    site.call(bob, Call::UndoLog { first: 0, last: 20 });
    assert_eq!(site.held.len(), 17, "another client waits for none of them");
    let before = site.inbox[&ann].len();
    for n in 1..=50 {
        site.release(0);
        // One of them was bob's.
        assert!(site.inbox[&ann].len() >= before + n - 1, "they are answered one after the other");
    }
    // The rest goes with its client.
    site.lose(ann);
    site.call(cid, Call::UndoLog { first: 0, last: 20 });
    assert_eq!(site.held.len(), 17);
    while !site.held.is_empty() {
        site.release(0);
    }
    site.lose(bob);
    site.lose(cid);
    site.assert_quiet();
}

/// An iterator may hold an open file.
#[test]
fn a_client_has_a_limited_number_of_iterators() {
    let mut site = with(Memory::default());
    let ann = site.client("ann");
    site.commit(ann, 1, NEW, "one");
    let last = |site: &Site| site.inbox[&ann].last().unwrap().clone();
    let start = |site: &mut Site| site.call(ann, Call::IteratorStart { start: None, stop: None });
    for _ in 0..1000 {
        start(&mut site);
        assert!(last(&site).args.as_int().is_some());
    }
    start(&mut site);
    let refused = Fault::parse(last(&site).args).expect("there are too many").to_string();
    assert!(refused.contains("1000 iterators"), "{refused}");
    // Those over the records of a transaction are counted by themselves.
    site.call(ann, Call::IteratorNext { iterator: 7 });
    let tid = site.storage.last_transaction();
    for _ in 0..1000 {
        site.call(ann, Call::IteratorRecordStart { iterator: 7, tid });
        assert!(last(&site).args.as_int().is_some());
    }
    site.call(ann, Call::IteratorRecordStart { iterator: 7, tid });
    assert!(Fault::parse(last(&site).args).is_some());
    site.call(ann, Call::IteratorGc { iterators: vec![3, 4] });
    start(&mut site);
    assert!(last(&site).args.as_int().is_some(), "there is room again");
    // Another client has its own.
    let bob = site.client("bob");
    site.call(bob, Call::IteratorStart { start: None, stop: None });
    assert!(site.inbox[&bob].last().unwrap().args.as_int().is_some());
}

/// A call is kept with its name, and answered with it, as often as its client likes.
#[test]
fn names_of_calls_and_transactions_are_short() {
    let long = || Value::Bytes(vec![1; 2000].into());
    let mut site = with(Memory::default());
    let ann = site.client("ann");
    site.say(ann, Call::Ping.into_message(Some(vellum_wire::MessageId(long()))));
    assert_eq!(site.closed, [ann]);
    let bob = site.client("bob");
    let named = Call::Vote { transaction: vellum_wire::MessageId(long()) };
    site.say(bob, named.into_message(Some(vellum_wire::MessageId(Value::Int(9)))));
    assert!(Fault::parse(site.inbox[&bob].last().unwrap().args.clone()).is_some());
    // Python's clients have numbers, and bytes of this length.
    let cid = site.client("cid");
    let short = Value::Bytes(vec![1; 64].into());
    site.say(cid, Call::Ping.into_message(Some(vellum_wire::MessageId(short))));
    site.call(cid, Call::SetClientLabel { label: "ü".repeat(5000) });
    assert_eq!(site.closed, [ann]);
    assert!(site.name_of(cid).unwrap().len() < 1000);
    assert!(site.name_of(cid).unwrap().starts_with("üüü"));
}
