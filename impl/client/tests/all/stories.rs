//! Conversations of our client with our server, as they happen.

use std::sync::Arc;

use vellum_client::{Answer, Ask, ClientError, Config, Voted};
use vellum_network::{Party, Site, config};
use vellum_pickle::Value;
use vellum_server::{Config as ServerConfig, Work};
use vellum_storage::{Change, MemoryStorage, Oid, Tid, Version};
use vellum_wire::{Fault, Message, Notice};

const NEW: Tid = Tid::ZERO;

macro_rules! story {
    ($name:literal, $party:expr) => {
        insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(concat!("client@", $name), $party.site.transcript);
        });
    };
}

fn party() -> Party {
    Party::new(|storage, clock| Site::of(config(), storage, clock))
}

fn two() -> Party {
    let mut party = party();
    party.client("ann", Config::default());
    party.client("bob", Config::default());
    party
}

#[test]
fn a_client_connects_commits_and_has_it_in_its_cache() {
    let mut party = two();
    let tid = party.commit("ann", 1, NEW, "one");
    party.note("from the cache");
    party.load("ann", 1);
    party.note("by a call, and then from the cache");
    party.load("bob", 1);
    party.load("bob", 1);
    party.commit("bob", 1, tid, "two");
    party.note("the revision that was current is kept until the moment at which it ended");
    party.ask("ann", Ask::Load { oid: Oid(1), before: Some(tid.next()) });
    party.load("ann", 1);
    story!("a-client-connects-and-commits", party);
}

#[test]
fn loads_of_the_same_object_share_a_call() {
    let mut party = two();
    party.commit("ann", 1, NEW, "one");
    party.site.hold(|work| matches!(work, Work::Load { .. }));
    let promises = [party.load("bob", 1), party.load("bob", 1), party.load("bob", 1)];
    assert_eq!(party.site.held.len(), 1);
    party.note("three ask, and the server is asked once");
    party.site.release(0);
    party.deliver_all();
    for promise in promises {
        assert!(matches!(party.answer("bob", promise), Some(Ok(Answer::Loaded(Some(_))))));
    }
    story!("loads-of-the-same-object-share-a-call", party);
}

/// The answer was sent before the object was changed, and arrives after that was told.
#[test]
fn a_late_answer_is_not_kept_as_current() {
    let mut party = two();
    let tid = party.commit("ann", 1, NEW, "old");
    party.is_prompt = false;
    party.load("bob", 1);
    let answer = Value::Tuple(vec![Value::Bytes("old".into()), eight(tid), Value::None]);
    party.is_prompt = true;
    // This server would do the load again. Another one may not.
    party.site.hold(|work| matches!(work, Work::Load { .. }));
    party.commit("ann", 1, tid, "new");
    let id = party.last_call("bob");
    party.lie("bob", Message::reply(Value::Int(id), answer));
    party.note("the loaded revision ended with the transaction that was told during the load");
    party.site.hold(|_| false);
    let now = party.load("bob", 1);
    assert!(matches!(party.answer("bob", now), Some(Ok(Answer::Loaded(Some(found)))) if found.data == "new"));
    story!("a-late-answer-is-not-kept-as-current", party);
}

/// The server reads after the object was made, and finds nothing before that: not known yet, as of that moment.
#[test]
fn an_object_that_is_made_during_a_load_is_unknown() {
    let mut party = two();
    party.site.hold(|work| matches!(work, Work::Load { .. }));
    let early = party.load("bob", 1);
    party.commit("ann", 1, NEW, "new");
    party.note("the storage reads only now");
    party.site.hold(|_| false);
    party.site.release(0);
    party.deliver_all();
    assert!(matches!(party.answer("bob", early), Some(Err(ClientError::Refused(Fault::NoObject { .. })))));
    let now = party.load("bob", 1);
    assert!(matches!(party.answer("bob", now), Some(Ok(Answer::Loaded(Some(found)))) if found.data == "new"));
    story!("an-object-that-is-made-during-a-load-is-unknown", party);
}

/// An answer that ends before the moment that was asked for would be no answer.
#[test]
fn an_object_that_is_changed_during_a_load_is_as_it_was() {
    let mut party = two();
    let tid = party.commit("ann", 1, NEW, "old");
    party.site.hold(|work| matches!(work, Work::Load { .. }));
    let early = party.ask("bob", Ask::Load { oid: Oid(1), before: Some(Tid::MAX) });
    party.commit("ann", 1, tid, "new");
    party.note("the storage reads only now");
    party.site.hold(|_| false);
    party.site.release(0);
    party.deliver_all();
    let Some(Ok(Answer::Loaded(Some(found)))) = party.answer("bob", early) else { panic!("it was there") };
    assert_eq!((&found.data[..], found.next), (&b"old"[..], None));
    let past = party.ask("bob", Ask::Load { oid: Oid(1), before: Some(tid.next()) });
    assert!(matches!(party.answer("bob", past), Some(Ok(Answer::Loaded(Some(found)))) if found.next.is_some()));
    story!("an-object-that-is-changed-during-a-load-is-as-it-was", party);
}

fn eight(tid: Tid) -> Value {
    Value::Bytes(bytes::Bytes::copy_from_slice(&tid.to_bytes()))
}

#[test]
fn what_stays_valid_over_a_reconnection_stays() {
    let mut party = two();
    let one = party.commit("ann", 1, NEW, "one");
    party.commit("ann", 2, NEW, "two");
    party.load("bob", 1);
    party.load("bob", 2);
    party.is_open = false;
    party.cut("bob", 0);
    party.note("bob still has what it knew");
    party.load("bob", 1);
    party.commit("ann", 1, one, "one and a half");
    party.is_open = true;
    party.pass(1);
    party.note("the second object is in its cache, the first is not");
    party.load("bob", 2);
    party.load("bob", 1);
    story!("what-stays-valid-over-a-reconnection-stays", party);
}

#[test]
fn a_client_that_was_away_too_long_keeps_what_has_ended() {
    let mut party = two();
    let mut tid = party.commit("ann", 1, NEW, "one");
    let first = tid;
    tid = party.commit("ann", 1, tid, "two");
    party.load("bob", 1);
    party.ask("bob", Ask::Load { oid: Oid(1), before: Some(first.next()) });
    party.is_open = false;
    party.cut("bob", 0);
    for data in ["three", "four", "five", "six"] {
        tid = party.commit("ann", 1, tid, data);
    }
    party.is_open = true;
    party.pass(1);
    party.note("revisions that have ended stay right, whatever happened");
    party.ask("bob", Ask::Load { oid: Oid(1), before: Some(first.next()) });
    party.load("bob", 1);
    story!("a-client-that-was-away-too-long-keeps-what-has-ended", party);
}

#[test]
fn a_server_that_was_rolled_back_is_an_error_with_a_way_out() {
    let mut party = two();
    let tid = party.commit("ann", 1, NEW, "one");
    party.load("bob", 1);
    party.restart(Some(Arc::new(MemoryStorage::new("an older copy"))));
    party.note("the cache still has the state that the client knew; nothing is read from such a server");
    party.load("bob", 1);
    let load = party.load("bob", 2);
    party.pass(1);
    let behind = ClientError::ServerBehind { server: NEW, client: tid };
    assert_eq!(party.answer("bob", load), Some(&Err(behind)));
    party.note("an operator says that the server is right");
    party.ask("bob", Ask::Forget);
    party.load("bob", 1);
    story!("a-server-that-was-rolled-back", party);
}

#[test]
fn a_finish_whose_answer_was_lost_is_not_tried_again() {
    let mut party = two();
    let transaction = party.begin("ann");
    party.store("ann", transaction, 1, NEW, "one");
    party.ask("ann", Ask::Vote { transaction });
    party.is_prompt = false;
    let finish = party.ask("ann", Ask::Finish { transaction });
    party.cut("ann", 1);
    assert!(matches!(party.answer("ann", finish), Some(Err(ClientError::OutcomeUnknown { .. }))));
    party.is_prompt = true;
    party.deliver_all();
    party.note("ann finds out by looking");
    party.load("ann", 1);
    story!("a-finish-whose-answer-was-lost", party);
}

#[test]
fn a_transaction_whose_connection_ended_is_over() {
    let mut party = two();
    let transaction = party.begin("ann");
    party.store("ann", transaction, 1, NEW, "one");
    party.cut("ann", 9);
    party.store("ann", transaction, 2, NEW, "two");
    party.ask("ann", Ask::Vote { transaction });
    party.commit("bob", 1, NEW, "bob's");
    story!("a-transaction-whose-connection-ended", party);
}

#[test]
fn a_second_transaction_waits_for_the_first() {
    let mut party = two();
    let first = party.begin("ann");
    let meta = vellum_storage::TransactionMeta::new();
    let second = party.ask("ann", Ask::Begin { meta, origin: vellum_storage::Origin(2) });
    assert_eq!(party.answer("ann", second), None);
    party.store("ann", first, 1, NEW, "one");
    party.ask("ann", Ask::Abort { transaction: first });
    assert!(matches!(party.answer("ann", second), Some(Ok(Answer::Begun(_)))));
    story!("a-second-transaction-waits-for-the-first", party);
}

#[test]
fn a_vote_is_given_up_while_it_waits() {
    let mut party = two();
    let [anns, bobs] = ["ann", "bob"].map(|name| {
        let transaction = party.begin(name);
        party.store(name, transaction, 1, NEW, name);
        party.ask(name, Ask::Vote { transaction });
        transaction
    });
    party.note("bob's vote waits, and is never answered by the server");
    party.ask("bob", Ask::Abort { transaction: bobs });
    party.ask("ann", Ask::Finish { transaction: anns });
    party.load("bob", 1);
    assert!(party.machine("bob").is_quiet());
    story!("a-vote-is-given-up-while-it-waits", party);
}

#[test]
fn a_client_merges_what_the_server_does_not() {
    let resolving = vellum_server::Config { clients_resolve: true, ..config() };
    let mut party = Party::new(move |storage, clock| Site::of(resolving.clone(), storage, clock));
    party.client("ann", Config::default());
    party.client("bob", Config::default());
    let tid = party.commit("ann", 1, NEW, "one");
    party.commit("bob", 1, tid, "bob's");
    let transaction = party.begin("ann");
    party.store("ann", transaction, 1, tid, "ann's");
    let vote = party.ask("ann", Ask::Vote { transaction });
    let Some(Ok(Answer::Voted(Voted::Conflicts(conflicts)))) = party.answer("ann", vote) else { panic!("no conflict") };
    let conflict = conflicts[0].clone();
    party.ask("ann", Ask::LoadSerial { oid: conflict.oid, tid: conflict.serial });
    party.ask("ann", Ask::LoadSerial { oid: conflict.oid, tid: conflict.committed });
    party.store("ann", transaction, 1, conflict.committed, "bob's and ann's");
    party.ask("ann", Ask::Vote { transaction });
    party.ask("ann", Ask::Finish { transaction });
    party.load("bob", 1);
    story!("a-client-merges-what-the-server-does-not", party);
}

#[test]
fn a_server_that_does_not_answer_is_left() {
    let mut party = two();
    party.commit("ann", 1, NEW, "one");
    party.site.hold(|work| matches!(work, Work::Load { .. }));
    let late = party.load("bob", 1);
    party.pass(29);
    assert_eq!(party.answer("bob", late), None);
    let later = party.load("bob", 2);
    party.site.hold(|_| false);
    party.pass(1);
    assert!(matches!(party.answer("bob", late), Some(Err(ClientError::TimedOut { asked: "load", seconds: 30 }))));
    party.note("the other one has time left, and is asked again");
    assert!(party.answer("bob", later).is_some());
    story!("a-server-that-does-not-answer-is-left", party);
}

#[test]
fn a_server_that_lies_is_left() {
    let mut party = two();
    let tid = party.commit("ann", 1, NEW, "one");
    let lie = |party: &mut Party, message: Message| {
        party.lie("bob", message);
        party.pass(1);
        assert!(party.machine("bob").is_ready(), "it is connected again");
    };
    lie(&mut party, Message::reply(Value::Int(999), Value::None));
    let known = Notice::Invalidate { tid, oids: vec![Oid(1)] };
    lie(&mut party, known.into_message());
    lie(&mut party, Message::one_way("invalidateTransaction", vec![Value::Int(1)]));
    party.site.hold(|work| matches!(work, Work::Load { .. }));
    let load = party.load("bob", 1);
    let another_moment = Value::Tuple(vec![Value::Bytes("one".into()), eight(tid.next()), Value::None]);
    let id = party.last_call("bob");
    party.site.hold(|_| false);
    lie(&mut party, Message::reply(Value::Int(id), another_moment));
    assert!(matches!(party.answer("bob", load), Some(Err(ClientError::Nonsense { asked: "load", .. }))));
    party.load("bob", 1);
    story!("a-server-that-lies-is-left", party);
}

#[test]
fn what_is_asked_before_there_is_a_server_waits_for_it() {
    let mut party = party();
    party.is_open = false;
    party.client("ann", Config::default());
    let early = party.load("ann", 1);
    party.pass(29);
    assert_eq!(party.answer("ann", early), None);
    party.pass(1);
    assert!(matches!(party.answer("ann", early), Some(Err(ClientError::NotConnected { .. }))));
    let later = party.load("ann", 1);
    party.is_open = true;
    party.pass(10);
    assert!(party.answer("ann", later).is_some());
    story!("what-is-asked-before-there-is-a-server", party);
}

#[test]
fn the_end_answers_everything() {
    let mut party = two();
    let transaction = party.begin("ann");
    party.store("ann", transaction, 1, NEW, "one");
    party.ask("ann", Ask::Vote { transaction });
    party.is_prompt = false;
    party.load("ann", 2);
    party.ask("ann", Ask::Finish { transaction });
    party.is_prompt = true;
    party.happen("ann", vellum_client::Event::End);
    assert!(party.machine("ann").is_quiet());
    party.load("ann", 1);
    story!("the-end-answers-everything", party);
}

/// Between two clients that want versions.
#[test]
fn work_in_a_version_leaves_the_trunk_as_it_was() {
    let mut party = party();
    let config = Config { versions: true, ..Config::default() };
    party.client("ann", config.clone());
    party.client("bob", config);
    let old = party.commit("ann", 1, NEW, "old");
    party.load("bob", 1);
    let change = |party: &mut Party, change: Change| {
        let transaction = party.begin("ann");
        party.ask("ann", Ask::Change { transaction, change });
        party.ask("ann", Ask::Vote { transaction });
        party.ask("ann", Ask::Finish { transaction });
    };
    let draft = Version::named("draft");
    let data = bytes::Bytes::from("new").into();
    change(&mut party, Change::Store { oid: Oid(1), serial: old, version: draft.clone(), data });
    for name in ["ann", "bob"] {
        party.note("the trunk still shows what it did, and its revision is current");
        let committed = party.machine(name).last();
        let trunk = party.ask(name, Ask::Load { oid: Oid(1), before: committed });
        let Some(Ok(Answer::Loaded(Some(found)))) = party.answer(name, trunk) else { panic!("it is there") };
        assert_eq!((&found.data[..], found.next), (&b"old"[..], None));
        let in_draft = party.ask(name, Ask::LoadInVersion { oid: Oid(1), version: draft.clone() });
        assert!(
            matches!(party.answer(name, in_draft), Some(Ok(Answer::LoadedInVersion(found))) if found.data == "new")
        );
    }
    party.ask("bob", Ask::ModifiedInVersion { oid: Oid(1) });
    change(&mut party, Change::CommitVersion { from: draft, to: Version::TRUNK });
    for name in ["ann", "bob"] {
        let trunk = party.load(name, 1);
        assert!(matches!(party.answer(name, trunk), Some(Ok(Answer::Loaded(Some(found)))) if found.data == "new"));
    }
    story!("work-in-a-version", party);
}

/// A client that did not ask for them, and a server that does not offer them.
#[test]
fn versions_cannot_be_said() {
    let plain = ServerConfig { offers_extensions: false, ..config() };
    let silent = Party::new(move |storage, clock| Site::of(plain.clone(), storage, clock));
    for (mut party, versions) in [(party(), false), (silent, true)] {
        party.client("ann", Config { versions, ..Config::default() });
        let transaction = party.begin("ann");
        let version = Version::named("draft");
        let load = Ask::LoadInVersion { oid: Oid(1), version: version.clone() };
        let change = Change::Store { oid: Oid(1), serial: NEW, version, data: bytes::Bytes::from("one").into() };
        for ask in [load, Ask::ModifiedInVersion { oid: Oid(1) }, Ask::Versions, Ask::Change { transaction, change }] {
            let asked = party.ask("ann", ask);
            let answer = party.answer("ann", asked);
            assert!(matches!(answer, Some(Err(ClientError::Unsayable { what: "versions" }))), "{answer:?}");
        }
    }
}
