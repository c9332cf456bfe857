//! Which server a client takes, and when it tries again: the machine alone, with servers that are three answers each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vellum_client::{
    Access, Answer, Ask, ClientError, Config, ConnectionId, Effect, Event, Machine, Patience, PromiseId, Told,
};
use vellum_pickle::Value;
use vellum_storage::{Oid, Tid};
use vellum_wire::{Fault, Message};

/// The server at an address.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    Nobody,
    Writes,
    ReadsOnly,
    Silent,
    Another,
    /// It has fewer transactions than the others.
    Behind,
    /// It answers loads with nonsense.
    Lies,
}

struct Net {
    machine: Machine,
    servers: Vec<Server>,
    now: Duration,
    line: Option<(ConnectionId, usize)>,
    /// The last connection that was ready.
    ready: ConnectionId,
    log: Vec<String>,
    sent: Vec<Message>,
    wakes_at: Option<Duration>,
    events: VecDeque<Event>,
    /// The last transaction of the servers.
    last: Tid,
    outcomes: BTreeMap<PromiseId, Result<Answer, ClientError>>,
}

impl Net {
    fn new(servers: &[Server], access: Access) -> Net {
        Net::with(servers, Config { access, ..Config::default() })
    }

    fn with(servers: &[Server], config: Config) -> Net {
        let config = Config { addresses: servers.len(), ..config };
        let machine = Machine::new(config);
        let mut net = Net {
            machine,
            servers: servers.to_vec(),
            now: Duration::ZERO,
            line: None,
            ready: ConnectionId(0),
            log: Vec::new(),
            sent: Vec::new(),
            wakes_at: None,
            events: VecDeque::new(),
            last: Tid::ZERO,
            outcomes: BTreeMap::new(),
        };
        net.happen(Event::Tick { now: Duration::ZERO });
        net
    }

    fn happen(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        for effect in self.machine.step(event) {
            match effect {
                Effect::Connect { connection, address } => {
                    self.log.push(format!("{} ms: dials {address}", self.now.as_millis()));
                    let greeting = |frame: &'static str| Event::Greeted { connection, frame: frame.into() };
                    match self.servers[address] {
                        Server::Nobody => {
                            self.events.push_back(Event::Lost { connection, why: "nobody is there".to_owned() });
                        }
                        Server::Silent => {}
                        Server::Another => self.events.push_back(greeting("HTTP/1.1")),
                        Server::Writes | Server::ReadsOnly | Server::Behind | Server::Lies => {
                            self.line = Some((connection, address));
                            self.events.push_back(greeting("Z5"));
                        }
                    }
                }
                Effect::Send { connection, message } => self.say(connection, message),
                Effect::Tell(Told::Ready { address, is_read_only }) => {
                    self.ready = self.line.map_or(self.ready, |(line, _)| line);
                    let how = if is_read_only { "reads" } else { "writes" };
                    self.log.push(format!("{} ms: {how} at {address}", self.now.as_millis()));
                }
                Effect::WakeAt { at } => self.wakes_at = Some(at),
                Effect::Resolve { promise, outcome } => _ = self.outcomes.insert(promise, outcome),
                Effect::Speak { .. } | Effect::Close { .. } | Effect::Tell(_) | Effect::Blob { .. } => {}
            }
        }
    }

    fn say(&mut self, connection: ConnectionId, message: Message) {
        let Some((_, address)) = self.line.filter(|(line, _)| *line == connection) else { return };
        let (id, name) = (message.id.clone(), message.name.as_text().unwrap_or_default().to_owned());
        let answer = match name.as_str() {
            "register" => {
                let wants_to_write = message.args == Value::Tuple(vec![Value::Text("1".into()), Value::Bool(false)]);
                match self.servers[address] {
                    Server::ReadsOnly if wants_to_write => {
                        Message::error(id, Fault::ReadOnly.into_value(vellum_wire::Codec::Pickle))
                    }
                    server => {
                        let last = Tid(self.last.0 - u64::from(server == Server::Behind));
                        Message::reply(id, Value::Bytes(bytes::Bytes::copy_from_slice(&last.to_bytes())))
                    }
                }
            }
            "ping" if self.servers[address] == Server::Lies => Message::reply(id, Value::None),
            "loadBefore" if self.servers[address] == Server::Lies => Message::reply(id, Value::Bool(true)),
            "getInvalidations" => {
                let last = Value::Bytes(bytes::Bytes::copy_from_slice(&self.last.to_bytes()));
                Message::reply(id, Value::Tuple(vec![last, Value::List(vec![])]))
            }
            "get_info" => Message::reply(id, Value::Dict(vec![])),
            _ => return self.sent.push(message),
        };
        self.events.push_back(Event::Received { connection, message: answer });
    }

    /// Time passes, and the client is woken when it wants to be.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.wakes_at.take_if(|at| *at <= end) {
            self.now = self.now.max(at);
            self.happen(Event::Tick { now: self.now });
        }
        self.now = end;
        self.happen(Event::Tick { now: end });
    }

    fn ask(&mut self, promise: u64, ask: Ask) {
        self.happen(Event::Asked { promise: PromiseId(promise), ask });
    }

    fn outcome(&self, promise: u64) -> Option<&Result<Answer, ClientError>> {
        self.outcomes.get(&PromiseId(promise))
    }

    /// How often the client has dialed.
    fn dials(&self) -> usize {
        self.log.iter().filter(|line| line.contains("dials")).count()
    }

    fn cut(&mut self) {
        if let Some((connection, _)) = self.line.take() {
            self.happen(Event::Lost { connection, why: "cut".to_owned() });
        }
    }
}

#[test]
fn the_first_address_that_works_is_taken() {
    let mut net = Net::new(&[Server::Nobody, Server::Another, Server::ReadsOnly, Server::Writes], Access::Write);
    assert_eq!(net.log, ["0 ms: dials 0", "0 ms: dials 1", "0 ms: dials 2", "0 ms: dials 3", "0 ms: writes at 3"]);
    net.servers = vec![Server::Nobody, Server::Writes, Server::Nobody, Server::Nobody];
    net.log.clear();
    net.cut();
    assert_eq!(net.log, ["0 ms: dials 0", "0 ms: dials 1", "0 ms: writes at 1"], "at once, and from the first on");
}

#[test]
fn pauses_start_short_and_double() {
    let mut net = Net::new(&[Server::Nobody], Access::Write);
    net.pass(Duration::from_secs(40));
    let times: Vec<u64> = net.log.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(times, [0, 0, 50, 150, 350, 750, 1550, 3150, 6350, 12_750, 22_750, 32_750]);
}

#[test]
fn a_server_that_does_not_greet_is_left() {
    let mut net = Net::new(&[Server::Silent, Server::Writes], Access::Write);
    net.pass(Duration::from_secs(11));
    assert_eq!(net.log, ["0 ms: dials 0", "10000 ms: dials 1", "10000 ms: writes at 1"]);
}

#[test]
fn a_read_only_server_is_taken_where_there_is_no_other_and_left_when_there_is() {
    let mut net = Net::new(&[Server::Nobody, Server::ReadsOnly], Access::WriteIfPossible);
    assert_eq!(net.log, ["0 ms: dials 0", "0 ms: dials 1", "0 ms: dials 1", "0 ms: reads at 1"]);
    net.log.clear();
    net.pass(Duration::from_secs(31));
    assert_eq!(net.log, ["30000 ms: dials 0"], "it looks for another one, and stays");
    assert!(net.machine.is_ready());
    net.servers[0] = Server::Writes;
    net.pass(Duration::from_secs(30));
    assert_eq!(net.log, ["30000 ms: dials 0", "60000 ms: dials 0", "60000 ms: writes at 0"]);
    net.log.clear();
    net.pass(Duration::from_secs(80));
    assert_eq!(net.log, [""; 0], "a client that writes looks for no other server");
}

#[test]
fn who_only_reads_takes_any() {
    let net = Net::new(&[Server::ReadsOnly], Access::Read);
    assert_eq!(net.log, ["0 ms: dials 0", "0 ms: reads at 0"]);
}

#[test]
fn a_silent_connection_is_shown_life_and_asked_for_it() {
    let mut net = Net::new(&[Server::Writes], Access::Write);
    net.pass(Duration::from_secs(61));
    let said: Vec<_> = net.sent.iter().map(|message| message.name.as_text().unwrap()).collect();
    assert_eq!(said, [".reply", "ping"]);
    assert!(net.sent[0].is_heartbeat());
    net.log.clear();
    net.pass(Duration::from_secs(30));
    assert_eq!(net.log, ["90000 ms: dials 0", "90000 ms: writes at 0"], "it did not answer");
}

/// A server that takes clients and drops them, again and again, is not asked more often than one that is not there.
#[test]
fn pauses_grow_where_a_server_does_nothing_but_greet() {
    let mut net = Net::new(&[Server::Writes], Access::Write);
    for n in 0..10 {
        net.cut();
        net.happen(Event::Asked { promise: PromiseId(n), ask: Ask::Sync });
        net.pass(Duration::from_secs(3));
    }
    assert!(net.dials() < 10, "{:?}", net.log);
}

/// A net whose servers have a transaction, and a client that knows it and has just lost its server.
fn knowing(servers: &[Server]) -> Net {
    let mut net = Net::new(&[Server::Writes, Server::Writes], Access::Write);
    net.servers = vec![Server::Nobody; 2];
    net.cut();
    net.last = Tid(7);
    net.servers = vec![Server::Writes; 2];
    net.pass(Duration::from_secs(20));
    assert_eq!(net.machine.last(), Some(Tid(7)));
    net.servers = servers.to_vec();
    net.log.clear();
    net
}

/// A stale copy is listed before the server that goes on.
#[test]
fn a_server_that_is_behind_fails_nothing_while_another_one_is_dialed() {
    let mut net = knowing(&[Server::Behind, Server::Silent]);
    net.cut();
    net.pass(Duration::from_secs(1));
    assert_eq!(net.dials(), 2, "{:?}", net.log);
    net.ask(1, Ask::Sync);
    assert_eq!(net.outcome(1), None, "the second server may be good");
    net.pass(Duration::from_secs(10));
    let behind = Some(&Err(ClientError::ServerBehind { server: Tid(6), client: Tid(7) }));
    assert_eq!(net.outcome(1), behind, "no address was any good");
    net.ask(2, Ask::Sync);
    assert_eq!(net.outcome(2), behind);
    // The stale copy is taken down. That is no reason any more.
    net.servers = vec![Server::Nobody; 2];
    net.pass(Duration::from_secs(21));
    net.ask(3, Ask::Sync);
    assert_eq!(net.outcome(3), None);
    net.pass(Duration::from_secs(40));
    assert!(matches!(net.outcome(3), Some(Err(ClientError::NotConnected { .. }))), "{:?}", net.outcome(3));
}

/// A client that may only read looks for a better server, and hears of a stale copy; then it loses the one that it has.
#[test]
fn a_stale_copy_that_an_upgrade_finds_says_nothing_of_the_own_server() {
    let mut net = Net::with(&[Server::Nobody; 3], Config { access: Access::WriteIfPossible, ..Config::default() });
    net.last = Tid(7);
    net.servers = vec![Server::Nobody, Server::ReadsOnly, Server::Nobody];
    net.pass(Duration::from_secs(20));
    assert!(net.machine.is_ready());
    net.servers = vec![Server::Behind, Server::ReadsOnly, Server::Silent];
    net.pass(Duration::from_secs(31));
    net.happen(Event::Lost { connection: net.ready, why: "cut".to_owned() });
    net.ask(1, Ask::Sync);
    net.servers[2] = Server::Nobody;
    net.pass(Duration::from_secs(20));
    assert!(net.machine.is_ready(), "{:?}", net.log);
    assert!(!matches!(net.outcome(1), Some(Err(_))), "{:?}", net.outcome(1));
}

/// Each of its connections is good for something, so each could be the first failure of all.
#[test]
fn a_server_that_always_lies_soon_is_not_dialed_at_once_for_ever() {
    let mut net = Net::new(&[Server::Lies], Access::Write);
    for n in 0..300 {
        net.ask(2 * n, Ask::Sync);
        net.ask(2 * n + 1, Ask::Load { oid: Oid(1), before: None });
        net.pass(Duration::from_millis(10));
    }
    let answered = net.outcomes.values().filter(|outcome| outcome.is_ok()).count();
    assert!(answered > 0, "it is good for something");
    assert!(net.dials() < 12, "{} times in 3 s", net.dials());
    // A connection that held for long may be made again at once.
    net.pass(Duration::from_secs(30));
    assert!(net.machine.is_ready());
    net.ask(1000, Ask::Sync);
    assert!(matches!(net.outcome(1000), Some(Ok(_))));
    net.log.clear();
    net.cut();
    assert_eq!(net.dials(), 1);
}

/// It works, and is cut each time: by a bad network, or because the next message is its server's end.
#[test]
fn a_connection_that_is_always_cut_soon_is_made_again_after_a_short_pause() {
    let mut net = Net::new(&[Server::Lies], Access::Write);
    for n in 0..100 {
        net.ask(n, Ask::Sync);
        net.cut();
        net.pass(Duration::from_millis(10));
    }
    assert!((10..25).contains(&net.dials()), "{} times in 1 s", net.dials());
}

#[test]
fn the_longest_patience_is_for_ever() {
    let long = Duration::MAX;
    let patience = Patience { connect: long, server: long, reply: long, slow: long, pack: long };
    let config = Config {
        patience,
        pause_min: long,
        pause_max: long,
        upgrade_every: long,
        heartbeat: long,
        ..Config::default()
    };
    let mut net = Net::with(&[Server::Nobody], config);
    net.ask(1, Ask::Sync);
    net.pass(Duration::from_secs(1));
    net.happen(Event::Tick { now: long - Duration::from_secs(1) });
    assert_eq!(net.outcome(1), None);
    net.happen(Event::Asked { promise: PromiseId(2), ask: Ask::Pack { to: Tid(1) } });
    assert_eq!(net.outcome(2), None);
}
