//! Blobs on their way through the machine: conversations, what they may take of memory, and clients that vanish.

use std::collections::VecDeque;

use bytes::Bytes;
use vellum_network::{BLOB_RECORD, Site, TRANSACTION, config};
use vellum_server::{Config, ConnectionId, Event, Memory, Outcome, Work};
use vellum_storage::{Oid, Tid, TidRange};
use vellum_wire::{Call, Fault, Message, MessageId, Value};

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

/// Pieces of four bytes.
fn in_pieces() -> Site {
    with(Memory { piece: 4, ..Memory::default() })
}

fn blob(site: &Site, oid: u64, tid: Tid) -> Option<Bytes> {
    let blob = site.storage.blobs().unwrap().load_blob(Oid(oid), tid).ok()?;
    Some(blob.bytes().unwrap())
}

#[test]
fn a_blob_is_stored_and_sent() {
    let mut site = in_pieces();
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.begin(ann);
    site.store(ann, 1, NEW, BLOB_RECORD);
    site.start_blob(ann);
    site.chunk(ann, "many ");
    site.chunk(ann, "bytes");
    site.end_blob(ann, 1, NEW);
    site.vote(ann);
    site.finish(ann);
    let tid = site.storage.last_transaction();
    assert_eq!(blob(&site, 1, tid).unwrap(), "many bytes");
    let stored = site.storage.transactions(TidRange::ALL, vellum_storage::Order::OldestFirst).unwrap();
    assert_eq!(
        stored.map(|stored| stored.unwrap().revisions.len()).collect::<Vec<_>>(),
        [1],
        "the record is stored once"
    );
    site.note("an empty one has no chunks");
    let empty = site.commit_blob(ann, 2, NEW, &[]);
    site.send_blob(bob, 1, tid);
    site.send_blob(bob, 2, empty);
    site.note("there is no blob of this revision");
    site.send_blob(bob, 2, tid);
    story!("a-blob-is-stored-and-sent", site);
}

#[test]
fn other_answers_go_between_the_pieces_of_a_blob() {
    let mut site = with(Memory { piece: 4, blob: 8, ..Memory::default() });
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    let tid = site.commit_blob(ann, 1, NEW, &["aaaabbbbccccdddde"]);
    site.commit(ann, 2, NEW, "a record");
    site.unread_pieces = Some(VecDeque::new());
    site.note("bob does not read for some time");
    site.send_blob(bob, 1, tid);
    site.send_blob(bob, 1, tid);
    site.load(bob, 2);
    site.commit(ann, 3, NEW, "a record");
    assert_eq!(site.blobs_in_memory(), 8, "two pieces are under way, and no more are read");
    site.note("now bob reads, piece by piece");
    while site.read_piece() {
        assert!(site.blobs_in_memory() <= 8);
    }
    site.lose(ann);
    site.lose(bob);
    site.assert_quiet();
    story!("other-answers-go-between-the-pieces-of-a-blob", site);
}

#[test]
fn what_all_clients_leave_unread_is_bounded_and_nobody_starves() {
    let mut site = with(Memory { piece: 4, blob: 12, blobs: 20, ..Memory::default() });
    let ann = site.client("ann");
    let tid = site.commit_blob(ann, 1, NEW, &[&"x".repeat(100)]);
    site.unread_pieces = Some(VecDeque::new());
    let slow: Vec<_> = (0..10).map(|n| site.client(&format!("c{n}"))).collect();
    for client in &slow {
        site.send_blob(*client, 1, tid);
    }
    // Two have twelve bytes, and the others a piece each.
    assert_eq!(site.blobs_in_memory(), 2 * 12 + 8 * 4);
    site.unread_pieces = None;
    site.send_blob(ann, 1, tid);
    assert!(site.transcript.ends_with("= None\n"), "those that do not read hold up nobody: {}", site.transcript);
    for client in slow {
        site.lose(client);
    }
    assert_eq!(site.blobs_in_memory(), 0);
}

#[test]
fn a_client_that_sends_faster_than_the_storage_takes_is_not_read_from() {
    let mut site = with(Memory { blob: 12, ..Memory::default() });
    let ann = site.client("ann");
    site.hold(|work| matches!(work, Work::AppendBlob { .. }));
    site.begin(ann);
    site.start_blob(ann);
    for chunk in ["aaaa", "bbbb", "cccc", "d"] {
        site.chunk(ann, chunk);
    }
    site.end_blob(ann, 1, NEW);
    site.vote(ann);
    assert_eq!(site.blobs_in_memory(), 13);
    site.note("the storage takes the first chunk, and then all that arrived during that call");
    assert!(matches!(&site.held[..], [job] if matches!(&job.work, Work::AppendBlob { chunks } if chunks.len() == 1)));
    site.release(0);
    assert!(matches!(&site.held[..], [job] if matches!(&job.work, Work::AppendBlob { chunks } if chunks.len() == 3)));
    site.release(0);
    site.finish(ann);
    assert_eq!(blob(&site, 1, site.storage.last_transaction()).unwrap(), "aaaabbbbccccd");
    site.lose(ann);
    site.assert_quiet();
    story!("a-client-that-sends-faster-than-the-storage-takes-is-not-read-from", site);
}

#[test]
fn an_abort_drops_the_blob_that_is_being_sent() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    site.begin(ann);
    site.start_blob(ann);
    site.chunk(ann, "half of");
    assert_eq!(site.uploads(), 1);
    site.abort(ann);
    assert_eq!(site.uploads(), 0);
    site.note("and the next one begins anew");
    let tid = site.commit_blob(ann, 1, NEW, &["another"]);
    assert_eq!(blob(&site, 1, tid).unwrap(), "another");
    site.note("a blob that did not end is no part of a transaction");
    site.begin(ann);
    site.start_blob(ann);
    site.chunk(ann, "half of");
    site.vote(ann);
    assert_eq!(site.uploads(), 0);
    story!("an-abort-drops-the-blob-that-is-being-sent", site);
}

#[test]
fn blobs_of_two_clients_are_not_mixed() {
    let mut site = Site::new(config());
    let clients = [(site.client("ann"), 1, "a"), (site.client("bob"), 2, "b")];
    for (client, ..) in clients {
        site.begin(client);
        site.start_blob(client);
    }
    for n in 0..6 {
        let (client, _, letter) = clients[n % 2];
        site.chunk(client, letter.repeat(n));
    }
    for (client, oid, _) in clients {
        site.end_blob(client, oid, NEW);
        site.vote(client);
    }
    for ((client, oid, letter), length) in clients.into_iter().zip([6, 9]) {
        site.finish(client);
        assert_eq!(blob(&site, oid, site.storage.last_transaction()).unwrap(), letter.repeat(length));
    }
}

#[test]
fn a_transaction_goes_to_a_scratch_file_between_two_pieces_of_a_blob_and_not_during_one() {
    let mut site = with(Memory { transactions: 150, ..Memory::default() });
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.begin(ann);
    site.store(ann, 1, NEW, "a".repeat(90));
    site.store(ann, 2, NEW, BLOB_RECORD);
    site.start_blob(ann);
    site.chunk(ann, "one ");
    site.hold(|work| matches!(work, Work::EndBlob));
    site.end_blob(ann, 2, NEW);
    site.begin(bob);
    site.store(bob, 3, NEW, "b".repeat(60));
    assert!(
        site.transcript.ends_with("bob's transaction with 1 changes goes to a scratch file\n"),
        "{}",
        site.transcript
    );
    site.hold(|_| false);
    site.release(0);
    site.vote(ann);
    site.finish(ann);
    let tid = site.storage.last_transaction();
    assert_eq!(blob(&site, 2, tid).unwrap(), "one ");
    assert_eq!(site.storage.load(Oid(1), &Default::default()).unwrap().data, "a".repeat(90));
}

#[test]
fn a_blob_is_not_sent_before_its_transaction_is_told_of() {
    let mut site = in_pieces();
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    site.begin(ann);
    site.store_blob(ann, 1, NEW, &["new"]);
    site.vote(ann);
    site.hold(|work| matches!(work, Work::Finish));
    site.finish(ann);
    let done = site.work(0);
    site.note("the storage has finished it, and the machine has not heard");
    let told = site.take_told();
    let tid = site.storage.last_transaction();
    site.send_blob(bob, 1, tid);
    assert!(!site.transcript.contains("receiveBlobStart"));
    site.note("it hears");
    told.into_iter().for_each(|told| site.happen(told));
    site.happen(done);
    story!("a-blob-is-not-sent-before-its-transaction-is-told-of", site);
}

#[test]
fn a_conflict_about_a_blob_is_not_for_the_client_to_merge() {
    let mut site = Site::new(Config { clients_resolve: true, ..config() });
    let (ann, bob) = (site.client("ann"), site.client("bob"));
    let one = site.commit_blob(ann, 1, NEW, &["one"]);
    site.commit_blob(ann, 1, one, &["two"]);
    site.begin(bob);
    site.store_blob(bob, 1, one, &["late"]);
    site.vote(bob);
    assert!(site.transcript.lines().last().unwrap().contains("raises ('ZODB.POSException.ConflictError'"));
    site.lose(ann);
    site.lose(bob);
    site.assert_quiet();
}

/// An invalid call that has no answer ends the connection.
#[test]
fn what_is_no_blob() {
    let mut site = Site::new(config());
    type Does = fn(&mut Site, ConnectionId);
    let ways: [(&str, Does); 12] = [
        ("it begins outside of a transaction", |site, client| site.start_blob(client)),
        ("a second one begins before it ends", |site, client| {
            site.begin(client);
            site.start_blob(client);
            site.chunk(client, "half");
            site.start_blob(client);
        }),
        ("a chunk of nothing", |site, client| {
            site.begin(client);
            site.chunk(client, "half");
        }),
        ("the end of nothing", |site, client| {
            site.begin(client);
            site.end_blob(client, 1, NEW);
        }),
        ("a chunk that is no bytes", |site, client| {
            site.begin(client);
            site.start_blob(client);
            site.say(client, Message::one_way("storeBlobChunk", vec![Value::Int(7)]));
        }),
        ("the end of another transaction", |site, client| {
            site.begin(client);
            site.start_blob(client);
            let transaction = MessageId(Value::Int(78));
            let data = Bytes::from_static(BLOB_RECORD);
            site.one_way(client, Call::StoreBlobEnd { oid: Oid(1), serial: NEW, data, transaction });
        }),
        ("a voted transaction takes no more", |site, client| {
            site.begin(client);
            site.vote(client);
            site.start_blob(client);
        }),
        ("a record of another class", |site, client| {
            site.begin(client);
            site.start_blob(client);
            let data = Bytes::from_static(b"\x80\x03cmail\nMessage\nq\x00.\x80\x03N.");
            site.one_way(client, Call::StoreBlobEnd { oid: Oid(1), serial: NEW, data, transaction: TRANSACTION });
            site.vote(client);
        }),
        ("a path in place of a file's name", |site, client| {
            site.begin(client);
            shared(site, client, "../../0x01/evil.tmp");
        }),
        ("a name that is no temporary's", |site, client| {
            site.begin(client);
            shared(site, client, "..");
        }),
        ("no folder is shared", |site, client| {
            site.begin(client);
            shared(site, client, "0x01.tmp-");
            site.vote(client);
        }),
        ("a client that only reads", |site, _| {
            let reader = site.connect("eve");
            site.call(reader, Call::Register { storage: Value::Text("1".to_owned()), read_only: true });
            site.start_blob(reader);
        }),
    ];
    for (way, does) in ways {
        site.note(way);
        let client = site.client("ann");
        does(&mut site, client);
        if !site.closed.contains(&client) {
            site.lose(client);
        }
        site.assert_quiet();
    }
    story!("what-is-no-blob", site);
}

fn shared(site: &mut Site, client: ConnectionId, file: &str) {
    let (data, file) = (Bytes::from_static(BLOB_RECORD), Value::Text(file.to_owned()));
    site.one_way(client, Call::StoreBlobShared { oid: Oid(1), serial: NEW, data, file, transaction: TRANSACTION });
}

/// The calls of a client that stores a blob and fetches it.
fn steps() -> Vec<fn(&mut Site, ConnectionId)> {
    vec![
        |site, client| site.begin(client),
        |site, client| site.store(client, 1, NEW, BLOB_RECORD),
        |site, client| site.start_blob(client),
        |site, client| site.chunk(client, "many "),
        |site, client| site.chunk(client, "bytes"),
        |site, client| site.end_blob(client, 1, NEW),
        |site, client| site.vote(client),
        |site, client| site.finish(client),
        |site, client| {
            let tid = site.storage.last_transaction();
            site.send_blob(client, 1, tid);
        },
    ]
}

#[test]
fn nothing_is_left_of_a_client_that_vanishes_at_any_step() {
    for said in 0..=steps().len() {
        // So many of the storage's calls are done before the client is gone; the others after.
        for done in 0..12 {
            let mut site = with(Memory { piece: 4, blob: 8, ..Memory::default() });
            site.unread_pieces = Some(VecDeque::new());
            site.hold(|work| !matches!(work, Work::Measure));
            let ann = site.client("ann");
            let mut left = done;
            for step in steps().into_iter().take(said) {
                step(&mut site, ann);
                while left > 0 && !site.held.is_empty() {
                    site.release(0);
                    left -= 1;
                }
            }
            site.lose(ann);
            while !site.held.is_empty() {
                site.release(0);
            }
            while site.read_piece() {}
            site.assert_quiet();
            let tid = site.storage.last_transaction();
            let found = blob(&site, 1, tid);
            assert!(found.is_none() || found.unwrap() == "many bytes", "{}", site.transcript);
            // And the object is free.
            site.hold(|_| false);
            let bob = site.client("bob");
            let last = site.commit_blob(bob, 1, tid, &["bob's"]);
            assert_eq!(blob(&site, 1, last).unwrap(), "bob's", "{}", site.transcript);
        }
    }
}

#[test]
fn a_disk_that_fills_up_during_a_blob_is_told_by_the_vote() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    site.begin(ann);
    site.store(ann, 1, NEW, BLOB_RECORD);
    site.start_blob(ann);
    site.chunk(ann, "one ");
    site.hold(|work| matches!(work, Work::AppendBlob { .. }));
    site.chunk(ann, "two ");
    let job = site.held.remove(0).id;
    site.hold(|_| false);
    site.note("the disk is full");
    let fault = Fault::text("ZODB.POSException.StorageError", "no space left on device");
    site.happen(Event::Done { job, outcome: Outcome::Failed(fault) });
    site.chunk(ann, "three");
    site.end_blob(ann, 1, NEW);
    site.vote(ann);
    site.abort(ann);
    assert_eq!(site.uploads(), 0);
    site.note("there is room again");
    let tid = site.commit_blob(ann, 1, NEW, &["a smaller one"]);
    assert_eq!(blob(&site, 1, tid).unwrap(), "a smaller one");
    story!("a-disk-that-fills-up-during-a-blob-is-told-by-the-vote", site);
}

#[test]
fn a_time_out_drops_the_blobs() {
    let mut site = Site::new(Config { transaction_timeout: Some(std::time::Duration::from_secs(5)), ..config() });
    let ann = site.client("ann");
    site.begin(ann);
    site.store_blob(ann, 1, NEW, &["many bytes"]);
    site.vote(ann);
    site.pass(6);
    site.assert_quiet();
    assert_eq!(site.closed, [ann]);
}

#[test]
fn what_is_asked_for_without_a_wish_for_an_answer_ends_the_connection_if_it_fails() {
    let mut site = Site::new(config());
    let ann = site.client("ann");
    site.one_way(ann, Call::SendBlob { oid: Oid(1), serial: NEW });
    site.assert_quiet();
    assert_eq!(site.closed, [ann]);
}

#[test]
fn a_blob_that_nobody_reads_is_not_read_for_a_client_that_is_gone() {
    let mut site = in_pieces();
    let ann = site.client("ann");
    let tid = site.commit_blob(ann, 1, NEW, &["aaaabbbbcccc"]);
    site.hold(|work| matches!(work, Work::ReadBlob { .. }));
    site.send_blob(ann, 1, tid);
    site.lose(ann);
    site.release(0);
    assert!(site.held.is_empty());
    site.happen(Event::PieceSent { connection: ann, bytes: 4 });
    site.assert_quiet();
}
