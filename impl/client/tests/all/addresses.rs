//! Which server a client takes, and when it tries again: the machine alone, with servers that are three answers each.

use std::collections::VecDeque;
use std::time::Duration;

use vellum_client::{Access, Ask, Config, ConnectionId, Effect, Event, Machine, PromiseId, Told};
use vellum_pickle::Value;
use vellum_wire::{Fault, Message};

/// The server at an address.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    Nobody,
    Writes,
    ReadsOnly,
    Silent,
    Another,
}

struct Net {
    machine: Machine,
    servers: Vec<Server>,
    now: Duration,
    line: Option<(ConnectionId, usize)>,
    log: Vec<String>,
    sent: Vec<Message>,
    wakes_at: Option<Duration>,
    events: VecDeque<Event>,
}

impl Net {
    fn new(servers: &[Server], access: Access) -> Net {
        let config = Config { addresses: servers.len(), access, ..Config::default() };
        let machine = Machine::new(config);
        let mut net = Net {
            machine,
            servers: servers.to_vec(),
            now: Duration::ZERO,
            line: None,
            log: Vec::new(),
            sent: Vec::new(),
            wakes_at: None,
            events: VecDeque::new(),
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
                        Server::Writes | Server::ReadsOnly => {
                            self.line = Some((connection, address));
                            self.events.push_back(greeting("Z5"));
                        }
                    }
                }
                Effect::Send { connection, message } => self.say(connection, message),
                Effect::Tell(Told::Ready { address, is_read_only }) => {
                    let how = if is_read_only { "reads" } else { "writes" };
                    self.log.push(format!("{} ms: {how} at {address}", self.now.as_millis()));
                }
                Effect::WakeAt { at } => self.wakes_at = Some(at),
                Effect::Speak { .. }
                | Effect::Close { .. }
                | Effect::Tell(_)
                | Effect::Blob { .. }
                | Effect::Resolve { .. } => {}
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
                    _ => Message::reply(id, Value::Bytes(bytes::Bytes::from_static(&[0; 8]))),
                }
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
    let dialed = net.log.iter().filter(|line| line.contains("dials")).count();
    assert!(dialed < 10, "{:?}", net.log);
}
