//! Fetching ahead, as it happens: part 9 of the rules.

use vellum_client::{Answer, Ask, Config, PromiseId, Reach};
use vellum_network::{Party, Site, config};
use vellum_pickle::Value;
use vellum_server::Work;
use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_wire::{Ahead, Message, Notice};

const NEW: Tid = Tid::ZERO;
const NEAR: Reach = Reach { depth: 0, count: 10, bytes: 1000 };
const FAR: Reach = Reach { depth: 5, count: 10, bytes: 1000 };

macro_rules! story {
    ($name:literal, $party:expr) => {
        insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(concat!("client@", $name), $party.site.transcript);
        });
    };
}

/// A record that refers to these objects, all of them below 128.
fn record(name: &str, refers: &[u8]) -> String {
    let refers: String = refers.iter().map(|oid| format!("U\x08\0\0\0\0\0\0\0{}Q", char::from(*oid))).collect();
    format!("cshop\n{name}\n.({refers}t.")
}

/// Two clients, and objects 1 to 4: 1 refers to 2 and 3, and 2 refers to 4.
fn shop(offers_extensions: bool) -> (Party, Vec<Tid>) {
    let config = vellum_server::Config { offers_extensions, ..config() };
    let mut party = Party::new(move |storage, clock| Site::of(config.clone(), storage, clock));
    party.client("ann", Config::default());
    let records =
        [(1, record("Shop", &[2, 3])), (2, record("Shelf", &[4])), (3, record("Till", &[])), (4, record("Tin", &[]))];
    let tids = records.iter().map(|(oid, record)| party.commit("ann", *oid, NEW, record)).collect();
    party.site.transcript.clear();
    party.note("1 refers to 2 and 3, and 2 refers to 4");
    party.client("bob", Config::default());
    (party, tids)
}

fn many(party: &mut Party, name: &str, oids: &[u64]) -> PromiseId {
    let oids = oids.iter().copied().map(Oid).collect();
    party.ask(name, Ask::LoadMany { oids, before: None })
}

fn prefetch(party: &mut Party, name: &str, oids: &[u64], reach: Reach) -> PromiseId {
    let oids = oids.iter().copied().map(Oid).collect();
    party.ask(name, Ask::Prefetch { oids, before: None, reach })
}

fn found(party: &Party, name: &str, promise: PromiseId) -> LoadedAt {
    match party.answer(name, promise) {
        Some(Ok(Answer::Loaded(Some(found)))) => found.clone(),
        other => panic!("it is not loaded: {other:?}"),
    }
}

/// Rule 9.2.
#[test]
fn many_objects_come_in_one_message() {
    let (mut party, _) = shop(true);
    party.load("bob", 2);
    party.note("2 is in its cache, 9 is unknown, and 3 is asked for twice");
    many(&mut party, "bob", &[3, 2, 9, 1, 3]);
    party.note("all of them are in its cache now, except 9");
    many(&mut party, "bob", &[1, 2, 3]);
    story!("many-objects-come-in-one-message", party);
}

/// Rule 9.2: such a server is asked for each, and all calls are on their way before the first answer.
#[test]
fn a_server_that_offers_nothing_gets_single_loads_and_no_prefetches() {
    let (mut party, _) = shop(false);
    party.is_prompt = false;
    let all = many(&mut party, "bob", &[1, 2, 9]);
    assert_eq!(party.on_the_way("bob"), (0, 3));
    let none = prefetch(&mut party, "bob", &[1], FAR);
    party.is_prompt = true;
    party.deliver_all();
    assert!(matches!(party.answer("bob", all), Some(Ok(Answer::LoadedMany(found))) if found.len() == 3));
    assert_eq!(party.answer("bob", none), Some(&Ok(Answer::Prefetched(0))));
    story!("a-server-that-offers-nothing", party);
}

/// Rules 9.1 and 9.2: one of the objects is changed while the others are on their way.
#[test]
fn what_is_fetched_together_belongs_together() {
    let (mut party, tids) = shop(true);
    party.load("bob", 1);
    party.site.hold(|work| matches!(work, Work::LoadMany { .. }));
    let all = many(&mut party, "bob", &[1, 2]);
    party.note("the first one is in its cache, and is changed now");
    let later = party.commit("ann", 1, tids[0], &record("Shop", &[3]));
    party.site.hold(|_| false);
    party.site.release(0);
    party.deliver_all();
    let Some(Ok(Answer::LoadedMany(found))) = party.answer("bob", all) else { panic!("it is not answered") };
    let first = found[0].1.as_ref().unwrap();
    assert_eq!((first.tid, first.next), (tids[0], Some(later)), "it is what it was then, and is not current");
    story!("what-is-fetched-together-belongs-together", party);
}

/// Rule 9.3.
#[test]
fn what_can_be_reached_comes_ahead_of_its_loads() {
    let (mut party, _) = shop(true);
    prefetch(&mut party, "bob", &[1], FAR);
    party.note("nothing is asked for any more");
    for oid in 1..=4 {
        party.load("bob", oid);
    }
    party.client("cid", Config::default());
    party.note("within limits");
    prefetch(&mut party, "cid", &[1], Reach { depth: 1, ..FAR });
    prefetch(&mut party, "cid", &[2], Reach { bytes: 40, ..FAR });
    story!("what-can-be-reached-comes-ahead", party);
}

/// Rule 9.4: the record was read before the commit, and arrives after the news of it.
#[test]
fn a_prefetched_revision_that_crosses_an_invalidation_is_not_current() {
    let (mut party, tids) = shop(true);
    party.is_prompt = false;
    prefetch(&mut party, "bob", &[1], FAR);
    party.deliver("bob", false);
    party.note("its revisions are on their way, and one of the objects is changed");
    party.is_prompt = false;
    let waiting = party.on_the_way("bob").0;
    let meta = vellum_storage::TransactionMeta::new();
    party.ask("ann", Ask::Begin { meta, origin: vellum_storage::Origin(1) });
    let transaction = vellum_client::TransactionId(5);
    party.store("ann", transaction, 2, tids[1], &record("Shelf", &[]));
    party.ask("ann", Ask::Vote { transaction });
    while party.on_the_way("ann") != (0, 0) {
        party.deliver("ann", false);
        party.deliver("ann", true);
    }
    party.ask("ann", Ask::Finish { transaction });
    while party.on_the_way("ann") != (0, 0) {
        party.deliver("ann", false);
        party.deliver("ann", true);
    }
    assert_eq!(party.on_the_way("bob").0, waiting + 1);
    party.note("another server might send them after the news");
    party.postpone_last("bob");
    party.is_prompt = true;
    party.deliver_all();
    let then = party.ask("bob", Ask::Load { oid: Oid(2), before: Some(tids[3].next()) });
    assert_eq!(found(&party, "bob", then).tid, tids[1]);
    party.note("and now it is loaded anew");
    let now = party.load("bob", 2);
    assert_eq!(found(&party, "bob", now).data, record("Shelf", &[]));
    story!("a-prefetched-revision-crosses-an-invalidation", party);
}

fn notice(call: i64, oid: u64, data: &str, tid: Tid) -> Message {
    let revision = LoadedAt { data: data.to_owned().into(), tid, next: None };
    Notice::Prefetched { call, revisions: vec![Ahead { oid: Oid(oid), revision }] }.into_message()
}

/// Rule 9.5. Each of these servers lies in another way.
#[test]
fn revisions_that_were_not_asked_for_close_the_connection() {
    type Lie = fn(i64, &[Tid]) -> Message;
    let lies: [(&str, Reach, Lie); 6] = [
        ("there is no such prefetch", NEAR, |call, tids| notice(call + 7, 1, "a lie", tids[0])),
        ("another object than those that were asked for", NEAR, |call, tids| notice(call, 3, "a lie", tids[0])),
        ("a later moment", FAR, |call, tids| notice(call, 3, "a lie", Tid(tids[3].0 + 9))),
        ("an empty record", FAR, |call, tids| notice(call, 3, "", tids[0])),
        ("more bytes than were asked for", Reach { bytes: 4, ..FAR }, |call, tids| notice(call, 3, "a lie", tids[0])),
        ("more revisions than were asked for", Reach { count: 0, ..FAR }, |call, tids| {
            notice(call, 3, "a lie", tids[0])
        }),
    ];
    let mut minutes = String::new();
    for (why, reach, lie) in lies {
        let (mut party, tids) = shop(true);
        party.site.transcript.clear();
        party.note(why);
        party.site.hold(|work| matches!(work, Work::Reach { .. }));
        let promise = prefetch(&mut party, "bob", &[1, 2], reach);
        let call = party.last_call("bob");
        party.lie("bob", lie(call, &tids));
        assert_eq!(party.answer("bob", promise), Some(&Ok(Answer::Prefetched(0))), "{why}");
        party.site.hold(|_| false);
        let now = party.load("bob", 3);
        assert_eq!(found(&party, "bob", now).data, record("Till", &[]), "{why}");
        minutes += &party.site.transcript;
    }
    let (mut party, tids) = shop(true);
    party.site.transcript.clear();
    party.note("the same object twice");
    party.site.hold(|work| matches!(work, Work::Reach { .. }));
    prefetch(&mut party, "bob", &[1], FAR);
    let call = party.last_call("bob");
    party.lie("bob", notice(call, 3, "once", tids[2]));
    party.lie("bob", notice(call, 3, "twice", tids[2]));
    party.site.transcript.insert_str(0, &minutes);
    story!("revisions-that-were-not-asked-for", party);
}

/// Rule 9.6.
#[test]
fn a_load_is_answered_during_a_prefetch_and_nothing_is_replaced() {
    let (mut party, tids) = shop(true);
    party.load("bob", 1);
    party.site.hold(|work| matches!(work, Work::Reach { .. }));
    prefetch(&mut party, "bob", &[1], FAR);
    let load = party.load("bob", 2);
    assert_eq!(found(&party, "bob", load).tid, tids[1], "it does not wait for the prefetch");
    let call = party.last_call("bob") - 1;
    party.lie("bob", notice(call, 1, "another record", tids[0]));
    let again = party.load("bob", 1);
    assert_eq!(found(&party, "bob", again).data, record("Shop", &[2, 3]));
    party.site.hold(|_| false);
    story!("a-load-is-answered-during-a-prefetch", party);
}

/// A bulk fetch goes on over a reconnection; a prefetch ends.
#[test]
fn a_bulk_fetch_is_asked_again_after_its_connection_ended() {
    let (mut party, _) = shop(true);
    party.site.hold(|work| matches!(work, Work::Reach { .. } | Work::LoadMany { .. }));
    let all = many(&mut party, "bob", &[1, 2]);
    let load = party.load("bob", 2);
    let ahead = prefetch(&mut party, "bob", &[1], FAR);
    party.site.hold(|_| false);
    party.cut("bob", 0);
    party.pass(1);
    assert_eq!(party.answer("bob", ahead), Some(&Ok(Answer::Prefetched(0))));
    assert!(
        matches!(party.answer("bob", all), Some(Ok(Answer::LoadedMany(found))) if found.iter().all(|(_, one)| one.is_some()))
    );
    assert!(matches!(party.answer("bob", load), Some(Ok(Answer::Loaded(Some(_))))));
    story!("a-bulk-fetch-is-asked-again", party);
}

/// A server that answers many loads with nonsense.
#[test]
fn wrong_answers_to_many_loads_are_an_error_and_are_not_kept() {
    let eight = |tid: Tid| Value::Bytes(bytes::Bytes::copy_from_slice(&tid.to_bytes()));
    let one = |tid| Value::Tuple(vec![Value::Bytes("a lie".into()), eight(tid), Value::None]);
    for wrong in ["none", "too many", "the future", "shape"] {
        let (mut party, tids) = shop(true);
        party.site.hold(|work| matches!(work, Work::LoadMany { .. }));
        let all = many(&mut party, "bob", &[1, 2]);
        let answer = match wrong {
            "none" => Value::List(vec![]),
            "too many" => Value::List(vec![one(tids[0]), one(tids[1]), one(tids[2])]),
            "the future" => Value::List(vec![one(tids[0]), one(tids[3].next())]),
            _ => Value::List(vec![one(tids[0]), Value::Bool(true)]),
        };
        let id = party.last_call("bob");
        party.lie("bob", Message::reply(Value::Int(id), answer));
        let nonsense = matches!(party.answer("bob", all), Some(Err(vellum_client::ClientError::Nonsense { .. })));
        assert!(nonsense, "{wrong}: {:?}", party.answer("bob", all));
        party.site.hold(|_| false);
        party.pass(1);
        let now = party.load("bob", 1);
        assert_eq!(found(&party, "bob", now).data, record("Shop", &[2, 3]));
    }
}

/// Rule 9.7.
#[test]
fn what_was_loaded_next_comes_ahead_after_a_restart() {
    let (mut party, _) = shop(true);
    let learns = Config { hint_size: 2, ..Config::default() };
    party.client("cid", learns.clone());
    for oid in [1, 3, 4, 2] {
        party.load("cid", oid);
    }
    let hints = party.machine("cid").hints();
    party.site.transcript.clear();
    party.note("another day");
    party.client_that_learned("dan", learns, &hints);
    party.load("dan", 1);
    party.note("and so on, from the cache");
    let next = party.load("dan", 3);
    assert_eq!(found(&party, "dan", next).data, record("Till", &[]));
    story!("what-was-loaded-next-comes-ahead", party);
}

/// Rule 9.7: hints of another database, of objects that are not there.
#[test]
fn wrong_hints_change_no_answer() {
    let (mut party, _) = shop(true);
    let learns = Config { hint_size: 2, ..Config::default() };
    party.client("cid", learns.clone());
    for oid in [1, 77, 3, 88] {
        party.load("cid", oid);
    }
    let mut hints = party.machine("cid").hints();
    hints.truncate(hints.len() - 3);
    party.client_that_learned("dan", learns, &hints);
    for (oid, name) in [(1, "Shop"), (3, "Till")] {
        let load = party.load("dan", oid);
        assert!(found(&party, "dan", load).data.starts_with(format!("cshop\n{name}").as_bytes()));
    }
    assert!(party.machine("dan").is_quiet());
}
