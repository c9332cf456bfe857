//! Blobs both ways, as it happens: part 8 of the rules over the wire.

use vellum_client::{Answer, Ask, BlobPart, ClientError, Config, PromiseId, TransactionId};
use vellum_network::{BLOB_RECORD, Party, Site, config};
use vellum_server::Work;
use vellum_storage::{Oid, Tid};
use vellum_wire::{Message, Notice};

macro_rules! story {
    ($name:literal, $party:expr) => {
        insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(concat!("client@", $name), $party.site.transcript);
        });
    };
}

fn party() -> Party {
    let mut party = Party::new(|storage, clock| Site::of(config(), storage, clock));
    party.client("ann", Config::default());
    party.client("bob", Config::default());
    party
}

fn store(party: &mut Party, transaction: TransactionId, pieces: &[&'static str]) {
    let data = BLOB_RECORD.into();
    let middle = pieces.iter().map(|piece| BlobPart::Chunk((*piece).into()));
    let parts = std::iter::once(BlobPart::Start).chain(middle);
    for part in parts.chain([BlobPart::End { oid: Oid(1), serial: Tid::ZERO, data }]) {
        party.ask("ann", Ask::Blob { transaction, part });
    }
}

fn commit(party: &mut Party, pieces: &[&'static str]) -> Tid {
    let transaction = party.begin("ann");
    store(party, transaction, pieces);
    party.ask("ann", Ask::Vote { transaction });
    let finish = party.ask("ann", Ask::Finish { transaction });
    match party.answer("ann", finish) {
        Some(Ok(Answer::Tid(tid))) => *tid,
        other => panic!("it is not finished: {other:?}"),
    }
}

fn load(party: &mut Party, tid: Tid) -> PromiseId {
    party.ask("bob", Ask::LoadBlob { oid: Oid(1), tid })
}

/// Rules 8.1 and 8.2.
#[test]
fn a_blob_goes_to_the_server_and_comes_back() {
    let mut party = party();
    let tid = commit(&mut party, &["many ", "bytes"]);
    let blob = load(&mut party, tid);
    assert_eq!(party.blob("bob", blob), b"many bytes");
    let none = load(&mut party, tid.next());
    assert!(matches!(party.answer("bob", none), Some(Err(ClientError::Refused(_)))));
    story!("a-blob-goes-and-comes-back", party);
}

/// A blob is asked for again, from its beginning.
#[test]
fn a_blob_whose_connection_ended_begins_again() {
    let mut party = party();
    let tid = commit(&mut party, &["many ", "bytes"]);
    party.site.hold(|work| matches!(work, Work::ReadBlob { .. }));
    let blob = load(&mut party, tid);
    party.site.hold(|_| false);
    let lie = Notice::ReceiveBlobChunk { oid: Oid(1), serial: tid, chunk: "half of it".into() };
    party.lie("bob", lie.into_message());
    party.cut("bob", 0);
    party.pass(1);
    assert_eq!(party.blob("bob", blob), b"many bytes");
    story!("a-blob-begins-again", party);
}

/// Each of these servers lies in another way about a blob.
#[test]
fn parts_of_blobs_that_were_not_asked_for_close_the_connection() {
    type Lie = fn(i64, Tid) -> Message;
    let start = |tid| Notice::ReceiveBlobStart { oid: Oid(1), serial: tid }.into_message();
    let lies: [(&str, Lie); 4] = [
        ("another blob", |_, tid| Notice::ReceiveBlobStart { oid: Oid(2), serial: tid }.into_message()),
        ("a piece before the start", |_, tid| {
            Notice::ReceiveBlobChunk { oid: Oid(1), serial: tid, chunk: "x".into() }.into_message()
        }),
        ("the end before the start", |_, tid| Notice::ReceiveBlobStop { oid: Oid(1), serial: tid }.into_message()),
        ("an answer without a blob", |call, _| {
            Message::reply(vellum_pickle::Value::Int(call), vellum_pickle::Value::None)
        }),
    ];
    let mut minutes = String::new();
    for (why, lie) in lies {
        let mut party = party();
        let tid = commit(&mut party, &["bytes"]);
        party.site.transcript.clear();
        party.note(why);
        party.site.hold(|work| matches!(work, Work::OpenBlob { .. }));
        let blob = load(&mut party, tid);
        let call = party.last_call("bob");
        party.site.hold(|_| false);
        party.lie("bob", lie(call, tid));
        party.pass(1);
        let is_right = match party.answer("bob", blob) {
            Some(Ok(_)) => party.blob("bob", blob) == b"bytes",
            Some(Err(ClientError::Nonsense { .. })) => true,
            _ => false,
        };
        assert!(is_right, "{why}: {:?}", party.answer("bob", blob));
        minutes += &party.site.transcript;
    }
    let mut party = party();
    let tid = commit(&mut party, &["bytes"]);
    party.site.transcript.clear();
    party.note("nobody asked for anything");
    party.lie("bob", start(tid));
    party.site.transcript.insert_str(0, &minutes);
    story!("parts-of-blobs-that-were-not-asked-for", party);
}
