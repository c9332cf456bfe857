//! Questions that wait: for a server, for another transaction, or for the rest of an answer. The machine alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vellum_client::{Answer, Ask, ClientError, Config, ConnectionId, Effect, Event, Machine, PromiseId, Told};
use vellum_pickle::Value;
use vellum_storage::{Oid, Origin, Tid, TransactionMeta};
use vellum_wire::Message;

/// A client, and a server that answers when the test says so.
struct Desk {
    machine: Machine,
    now: Duration,
    promise_next: u64,
    line: Option<ConnectionId>,
    /// Whether connections can be made.
    is_open: bool,
    /// The last transaction of the server.
    last: Tid,
    /// Calls that are not answered, in their order.
    calls: Vec<(i64, String)>,
    outcomes: BTreeMap<PromiseId, Result<Answer, ClientError>>,
    told: Vec<Told>,
}

impl Desk {
    fn new(config: Config) -> Desk {
        Desk {
            machine: Machine::new(config),
            now: Duration::ZERO,
            promise_next: 1,
            line: None,
            is_open: true,
            last: Tid(5),
            calls: Vec::new(),
            outcomes: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    fn connected() -> Desk {
        let mut desk = Desk::new(Config::default());
        desk.pass(0);
        assert!(desk.machine.is_ready());
        desk
    }

    fn happen(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.machine.step(event) {
                match effect {
                    Effect::Connect { connection, .. } if self.is_open => {
                        self.line = Some(connection);
                        self.calls.clear();
                        events.push(Event::Greeted { connection, frame: "M5".into() });
                    }
                    Effect::Connect { connection, .. } => {
                        events.push(Event::Lost { connection, why: "nobody is there".to_owned() });
                    }
                    Effect::Send { connection, message } if self.line == Some(connection) => {
                        let name = message.name.as_text().unwrap_or_default().to_owned();
                        let eight = || Value::Bytes(bytes::Bytes::copy_from_slice(&self.last.to_bytes()));
                        let answer = match name.as_str() {
                            "register" => eight(),
                            "ping" => Value::None,
                            "get_info" => Value::Dict(vec![]),
                            "getInvalidations" => Value::Tuple(vec![eight(), Value::List(vec![])]),
                            _ => {
                                if let (Some(id @ 1..), false) = (message.id.as_int(), message.is_one_way()) {
                                    self.calls.push((id, name));
                                }
                                continue;
                            }
                        };
                        events.insert(0, Event::Received { connection, message: Message::reply(message.id, answer) });
                    }
                    Effect::Close { connection, .. } if self.line == Some(connection) => self.line = None,
                    Effect::Resolve { promise, outcome } => {
                        assert!(self.outcomes.insert(promise, outcome).is_none(), "it is answered twice");
                    }
                    Effect::Tell(told) => self.told.push(told),
                    _ => {}
                }
            }
        }
    }

    /// Time passes, with a tick each second.
    fn pass(&mut self, seconds: u64) {
        for n in 0..=seconds {
            self.happen(Event::Tick { now: self.now + Duration::from_secs(n) });
        }
        self.now += Duration::from_secs(seconds);
    }

    fn ask(&mut self, ask: Ask) -> PromiseId {
        let promise = PromiseId(self.promise_next);
        self.promise_next += 1;
        self.happen(Event::Asked { promise, ask });
        promise
    }

    fn begin(&mut self) -> PromiseId {
        self.ask(Ask::Begin { meta: TransactionMeta::new(), origin: Origin(1) })
    }

    /// Answers the oldest call.
    fn answer(&mut self, value: Value) {
        let (id, _) = self.calls.remove(0);
        let connection = self.line.unwrap();
        self.happen(Event::Received { connection, message: Message::reply(Value::Int(id), value) });
    }

    fn cut(&mut self) {
        let connection = self.line.take().unwrap();
        self.happen(Event::Lost { connection, why: "it was cut".to_owned() });
    }

    fn begun(&self, promise: PromiseId) -> vellum_client::TransactionId {
        match self.outcomes.get(&promise) {
            Some(Ok(Answer::Begun(id))) => *id,
            other => panic!("it is not begun: {other:?}"),
        }
    }

    /// The failure of a question, in words.
    fn failure(&self, promise: PromiseId) -> String {
        match self.outcomes.get(&promise) {
            Some(Err(error)) => error.to_string(),
            other => panic!("it has not failed: {other:?}"),
        }
    }
}

fn load(oid: u64) -> Ask {
    Ask::Load { oid: Oid(oid), before: None }
}

/// A server that has refused the vote, and waits with its answer until the client was told of the later transaction,
/// may answer the abort before that. If the vote waits for a lock, it has no answer at all.
#[test]
fn the_answer_to_a_vote_may_come_after_that_to_its_abort() {
    let mut desk = Desk::connected();
    for _ in 0..100 {
        let transaction = desk.begin();
        let transaction = desk.begun(transaction);
        desk.ask(Ask::Vote { transaction });
        desk.ask(Ask::Abort { transaction });
        desk.calls.swap(0, 1);
        desk.answer(Value::None);
        desk.calls.clear();
    }
    let transaction = desk.begin();
    let transaction = desk.begun(transaction);
    let vote = desk.ask(Ask::Vote { transaction });
    let abort = desk.ask(Ask::Abort { transaction });
    let next = desk.begin();
    desk.calls.swap(0, 1);
    desk.answer(Value::None);
    assert_eq!(desk.outcomes[&abort], Ok(Answer::Done));
    let refused = desk.calls.clone();
    desk.answer(Value::List(vec![]));
    assert!(matches!(desk.outcomes[&vote], Err(ClientError::TransactionOver { .. })));
    assert!(
        desk.machine.is_ready() && !desk.told.iter().any(|told| matches!(told, Told::Lost { .. })),
        "{:?}",
        desk.told
    );
    let next = desk.ask(Ask::Vote { transaction: desk.begun(next) });
    desk.answer(Value::None);
    assert!(desk.outcomes[&next].is_ok());
    // And not twice.
    desk.calls = refused;
    desk.answer(Value::List(vec![]));
    assert!(desk.told.iter().any(|told| matches!(told, Told::Lost { .. })));
}

/// Another client's transaction may hold the objects of the first vote for as long.
#[test]
fn a_transaction_waits_for_as_long_as_the_vote_before_it() {
    let mut desk = Desk::connected();
    let first = desk.begin();
    let transaction = desk.begun(first);
    desk.ask(Ask::Vote { transaction });
    let second = desk.begin();
    desk.pass(599);
    assert_eq!(desk.outcomes.get(&second), None, "its server was not silent");
    desk.answer(Value::None);
    desk.ask(Ask::Finish { transaction });
    desk.pass(500);
    assert_eq!(desk.outcomes.get(&second), None);
    desk.answer(Value::Bytes(bytes::Bytes::copy_from_slice(&Tid(9).to_bytes())));
    desk.begun(second);
}

/// A program that has forgotten its transaction, or begins a second one in the thread that has the first.
#[test]
fn a_transaction_that_is_left_open_is_named_by_the_one_behind_it() {
    let mut desk = Desk::connected();
    let first = desk.begin();
    let second = desk.begin();
    desk.pass(300);
    let third = desk.begin();
    desk.pass(299);
    assert!(!desk.outcomes.contains_key(&second));
    desk.pass(1);
    assert!(desk.failure(second).contains("an earlier transaction of this client is open"), "{}", desk.failure(second));
    assert!(!desk.outcomes.contains_key(&third), "it came later");
    desk.ask(Ask::Abort { transaction: desk.begun(first) });
    desk.begun(third);
}

#[test]
fn a_transaction_whose_predecessor_lost_its_server_has_time_for_another_server() {
    let mut desk = Desk::connected();
    desk.begin();
    let second = desk.begin();
    desk.pass(200);
    desk.is_open = false;
    desk.cut();
    desk.pass(29);
    assert!(!desk.outcomes.contains_key(&second));
    desk.pass(1);
    assert!(matches!(desk.outcomes[&second], Err(ClientError::NotConnected { asked: "begin", seconds: 30, .. })));
    assert!(desk.machine.is_quiet());
}

/// Each event looked at each call that waits: 40,000 of them took longer than a minute.
#[test]
fn many_calls_wait_without_being_looked_through() {
    let mut desk = Desk::new(Config::default());
    desk.is_open = false;
    let begun = Instant::now();
    let promises: Vec<_> = (0..100_000).map(|n| desk.ask(load(n))).collect();
    let begins: Vec<_> = (0..1000).map(|_| desk.begin()).collect();
    for n in 0..30_000 {
        desk.happen(Event::Tick { now: Duration::from_millis(n) });
    }
    assert!(desk.outcomes.is_empty());
    desk.now = Duration::from_secs(29);
    desk.pass(1);
    for promise in promises.iter().chain(&begins) {
        assert!(matches!(desk.outcomes[promise], Err(ClientError::NotConnected { .. })));
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn calls_that_wait_have_a_limit_that_says_so() {
    let mut desk = Desk::new(Config::default());
    desk.is_open = false;
    desk.pass(0);
    let limit = 1 << 18;
    for n in 0..limit {
        desk.ask(load(n));
    }
    assert!(desk.outcomes.is_empty());
    let one_more = desk.ask(load(limit));
    let why = desk.failure(one_more);
    assert!(why.contains("262144 calls wait for a server already: nobody is there"), "{why}");
    // The others are asked when there is a server, and one more has its turn.
    desk.is_open = true;
    desk.pass(10);
    assert_eq!(desk.calls.len() as u64, limit);
    desk.ask(load(limit));
    assert_eq!(desk.calls.len() as u64, limit + 1);
}

/// They show what a database that was rolled back had.
#[test]
fn listeners_are_told_that_a_client_forgot_what_it_knew() {
    let mut desk = Desk::connected();
    desk.is_open = false;
    desk.cut();
    desk.ask(Ask::Forget);
    desk.ask(Ask::Forget);
    (desk.is_open, desk.last) = (true, Tid(3));
    desk.pass(20);
    assert!(desk.machine.is_ready());
    let missed: Vec<_> = desk.told.iter().filter(|told| matches!(told, Told::Missed { .. })).collect();
    assert_eq!(missed, [&Told::Missed { after: Tid::ZERO, last: Tid(3) }]);
    assert_eq!(desk.machine.last(), Some(Tid(3)));
    // Once.
    desk.cut();
    desk.pass(20);
    let missed = desk.told.iter().filter(|told| matches!(told, Told::Missed { .. })).count();
    assert_eq!(missed, 1);
}

/// The server is slow, and not silent.
#[test]
fn a_bulk_fetch_that_gets_on_is_given_no_time_limit() {
    let mut desk = Desk::connected();
    let all = desk.ask(Ask::LoadMany { oids: (1..=10).map(Oid).collect(), before: None });
    let alone = desk.ask(load(99));
    assert_eq!(desk.calls.len(), 11);
    for n in 0..10 {
        desk.pass(if n == 0 { 9 } else { 2 });
        desk.answer(Value::None);
    }
    // The load after it was asked for at the same moment.
    assert!(matches!(desk.outcomes[&all], Ok(Answer::LoadedMany(ref found)) if found.len() == 10));
    desk.pass(2);
    assert!(!desk.outcomes.contains_key(&alone));
    desk.answer(Value::None);

    let all = desk.ask(Ask::LoadMany { oids: (1..=10).map(Oid).collect(), before: None });
    for _ in 0..9 {
        desk.pass(20);
        desk.answer(Value::None);
    }
    desk.pass(29);
    assert!(!desk.outcomes.contains_key(&all), "it is answered bit by bit");
    desk.pass(1);
    assert!(
        matches!(desk.outcomes[&all], Err(ClientError::TimedOut { asked: "load", seconds: 30 })),
        "now it is silent"
    );
}

/// It goes on for longer than a single load may take in all. Then it is asked for once more.
#[test]
fn a_bulk_fetch_that_got_on_for_long_is_asked_for_again_after_its_connection_ended() {
    let mut desk = Desk::connected();
    let all = desk.ask(Ask::LoadMany { oids: (1..=10).map(Oid).collect(), before: None });
    for _ in 0..9 {
        desk.pass(20);
        desk.answer(Value::None);
    }
    desk.is_open = false;
    desk.cut();
    desk.pass(20);
    assert!(!desk.outcomes.contains_key(&all), "{:?}", desk.outcomes.get(&all));
    desk.is_open = true;
    desk.pass(9);
    for _ in 0..10 {
        desk.answer(Value::None);
    }
    assert!(matches!(desk.outcomes[&all], Ok(Answer::LoadedMany(_))));

    // And not for ever.
    let all = desk.ask(Ask::LoadMany { oids: (1..=50).map(Oid).collect(), before: None });
    for _ in 0..40 {
        desk.pass(20);
        desk.answer(Value::None);
    }
    desk.cut();
    desk.pass(0);
    assert!(desk.failure(all).contains("It may be asked for again"), "{}", desk.failure(all));
}
