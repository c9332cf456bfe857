//! Clients of ours and a server in one thread. The machines are those that ship; between them are queues that can be
//! held, delivered message by message, and cut.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use vellum_client::{
    self as client, Answer, Ask, ClientError, ConnectionId as Line, Effect, Event, Machine, PromiseId, Told, Voted,
};
use vellum_server::ConnectionId;
use vellum_storage::{LoadedAt, ManualClock, Oid, Storage, Tid, TransactionMeta};
use vellum_wire::{Message, Reach, Value};

use crate::{Site, value};

/// A server and clients.
pub struct Party {
    /// The server.
    pub site: Site,
    clients: BTreeMap<String, Guest>,
    clock: Arc<ManualClock>,
    seconds: u64,
    /// Whether connections can be made.
    pub is_open: bool,
    /// Whether messages arrive as soon as they are sent.
    pub is_prompt: bool,
    /// Makes the server's machine anew.
    remake: Remake,
}

/// Makes a server of a storage, which has this clock.
type Remake = Box<dyn Fn(Arc<dyn Storage>, Arc<ManualClock>) -> Site>;

/// A client, and what is on its way from and to it.
struct Guest {
    machine: Machine,
    /// Its connection that is made, here and at the server.
    line: Option<(Line, ConnectionId)>,
    to_server: VecDeque<Message>,
    to_client: VecDeque<Message>,
    heard: usize,
    /// Whether the server has closed the connection. Its earlier messages still arrive.
    is_closed: bool,
    promise_next: u64,
    last_call: i64,
    answers: BTreeMap<PromiseId, Result<Answer, ClientError>>,
    told: Vec<Told>,
    /// The bytes of the blobs that it asked for.
    blobs: BTreeMap<PromiseId, Vec<u8>>,
    /// Answers that were not looked at, with the last transaction that the client knew then.
    fresh: Vec<(PromiseId, Option<Tid>)>,
}

impl Party {
    /// A server that `remake` makes of a storage in memory, without clients.
    pub fn new(remake: impl Fn(Arc<dyn Storage>, Arc<ManualClock>) -> Site + 'static) -> Party {
        let clock = Arc::new(ManualClock::at("2026-11-28T12:00:00Z".parse().unwrap()));
        let resolver = Arc::new(vellum_storage::Resolvers::built_in());
        let storage = Arc::new(vellum_storage::MemoryStorage::with("memory", clock.clone(), resolver));
        let site = remake(storage, Arc::clone(&clock));
        Party {
            site,
            clients: BTreeMap::new(),
            clock,
            seconds: 0,
            is_open: true,
            is_prompt: true,
            remake: Box::new(remake),
        }
    }

    /// A client comes, and connects.
    pub fn client(&mut self, name: &str, config: client::Config) {
        self.client_that_learned(name, config, &[]);
    }

    /// The same of a client that has kept hints.
    pub fn client_that_learned(&mut self, name: &str, config: client::Config, hints: &[u8]) {
        let mut machine = Machine::new(config);
        machine.learn(hints);
        self.come(name, machine);
    }

    /// A client comes with this cache, and connects.
    pub fn client_over(&mut self, name: &str, config: client::Config, cache: client::Cache) {
        self.come(name, Machine::over(config, cache));
    }

    /// The process of a client is killed, and another one begins with its cache. All that was asked is over.
    pub fn kill(&mut self, name: &str, still_heard: usize, config: client::Config) {
        self.cut(name, still_heard);
        let gone = self.clients.remove(name).expect("there is such a client");
        writeln!(self.site.transcript, "{name:<4} is killed, and begins again with its cache").unwrap();
        self.client_over(name, config, gone.machine.cache().clone());
    }

    fn come(&mut self, name: &str, machine: Machine) {
        let guest = Guest {
            machine,
            line: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            heard: 0,
            is_closed: false,
            promise_next: 1,
            last_call: 0,
            answers: BTreeMap::new(),
            told: Vec::new(),
            blobs: BTreeMap::new(),
            fresh: Vec::new(),
        };
        self.clients.insert(name.to_owned(), guest);
        self.happen(name, Event::Tick { now: Duration::from_secs(self.seconds) });
        self.deliver_all();
    }

    fn guest(&mut self, name: &str) -> &mut Guest {
        self.clients.get_mut(name).expect("there is such a client")
    }

    /// The names of all clients.
    pub fn names(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }

    /// A client's machine.
    pub fn machine(&self, name: &str) -> &Machine {
        &self.clients[name].machine
    }

    /// The news that a client's listeners were told.
    pub fn told(&self, name: &str) -> &[Told] {
        &self.clients[name].told
    }

    /// A client is asked something. The answer may be there already.
    pub fn ask(&mut self, name: &str, ask: Ask) -> PromiseId {
        let guest = self.guest(name);
        let promise = PromiseId(guest.promise_next);
        guest.promise_next += 1;
        writeln!(self.site.transcript, "{name:<4} is asked {}: {}", promise.0, show_ask(&ask)).unwrap();
        self.happen(name, Event::Asked { promise, ask });
        self.deliver_all();
        promise
    }

    /// The answer to what was asked, if it is there.
    pub fn answer(&self, name: &str, promise: PromiseId) -> Option<&Result<Answer, ClientError>> {
        self.clients[name].answers.get(&promise)
    }

    /// The bytes of a blob that a client asked for, as far as they came.
    pub fn blob(&self, name: &str, promise: PromiseId) -> &[u8] {
        self.clients[name].blobs.get(&promise).map_or(&[], Vec::as_slice)
    }

    /// The answers since this was asked last, with the last transaction that the client knew then.
    pub fn take_fresh(&mut self, name: &str) -> Vec<(PromiseId, Option<Tid>)> {
        std::mem::take(&mut self.guest(name).fresh)
    }

    /// The number of questions to a client.
    pub fn asked(&self, name: &str) -> u64 {
        self.clients[name].promise_next - 1
    }

    /// Begins a transaction, and returns its number.
    pub fn begin(&mut self, name: &str) -> client::TransactionId {
        let meta = TransactionMeta::new().user("ann").description("a change");
        let promise = self.ask(name, Ask::Begin { meta, origin: vellum_storage::Origin(1) });
        match self.answer(name, promise) {
            Some(Ok(Answer::Begun(id))) => *id,
            other => panic!("it does not begin: {other:?}"),
        }
    }

    /// Stores an object.
    pub fn store(&mut self, name: &str, transaction: client::TransactionId, oid: u64, serial: Tid, data: &str) {
        let data = bytes::Bytes::copy_from_slice(data.as_bytes()).into();
        let version = vellum_storage::Version::TRUNK;
        let change = vellum_storage::Change::Store { oid: Oid(oid), serial, version, data };
        self.ask(name, Ask::Change { transaction, change });
    }

    /// A whole commit of one object.
    pub fn commit(&mut self, name: &str, oid: u64, serial: Tid, data: &str) -> Tid {
        let transaction = self.begin(name);
        self.store(name, transaction, oid, serial, data);
        self.ask(name, Ask::Vote { transaction });
        let finish = self.ask(name, Ask::Finish { transaction });
        match self.answer(name, finish) {
            Some(Ok(Answer::Tid(tid))) => *tid,
            other => panic!("it is not finished: {other:?}"),
        }
    }

    /// Loads an object as the client knows it.
    pub fn load(&mut self, name: &str, oid: u64) -> PromiseId {
        self.ask(name, Ask::Load { oid: Oid(oid), before: None })
    }

    /// Writes something down for the reader.
    pub fn note(&mut self, text: &str) {
        self.site.note(text);
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        writeln!(self.site.transcript, "     {} s after the start", self.seconds).unwrap();
        let now = Duration::from_secs(self.seconds);
        self.site.happen(vellum_server::Event::Tick { now });
        for name in self.names() {
            self.happen(&name, Event::Tick { now });
        }
        self.deliver_all();
    }

    /// A client's connection is cut. The server still hears the first of what was on its way to it.
    pub fn cut(&mut self, name: &str, still_heard: usize) {
        let guest = self.guest(name);
        let Some((line, connection)) = guest.line.take() else { return };
        guest.to_client.clear();
        let rest: Vec<Message> = std::mem::take(&mut guest.to_server).into_iter().take(still_heard).collect();
        writeln!(self.site.transcript, "{name:<4} is cut off").unwrap();
        for message in rest {
            self.site.say(connection, message);
        }
        self.site.happen(vellum_server::Event::Lost { connection });
        self.happen(name, Event::Lost { connection: line, why: "the connection was cut".to_owned() });
        self.deliver_all();
    }

    /// The server ends, and another one begins, of the same storage or of another.
    pub fn restart(&mut self, storage: Option<Arc<dyn Storage>>) {
        let mut transcript = std::mem::take(&mut self.site.transcript);
        let storage = storage.unwrap_or_else(|| Arc::clone(&self.site.storage));
        writeln!(transcript, "     the server is started again").unwrap();
        for name in self.names() {
            if let Some((_, connection)) = self.clients[&name].line {
                // The transactions that its clients have begun end with it.
                self.site.happen(vellum_server::Event::Lost { connection });
            }
        }
        self.site = (self.remake)(storage, Arc::clone(&self.clock));
        self.site.transcript = transcript;
        for name in self.names() {
            let guest = self.guest(&name);
            guest.to_client.clear();
            guest.to_server.clear();
            if let Some((connection, _)) = guest.line.take() {
                self.happen(&name, Event::Lost { connection, why: "the server ended".to_owned() });
            }
        }
        self.deliver_all();
    }

    /// How many messages are on their way to a client, and from it.
    pub fn on_the_way(&self, name: &str) -> (usize, usize) {
        let guest = &self.clients[name];
        // The end of a connection is on its way, too.
        let end = usize::from(guest.is_closed && guest.line.is_some());
        (guest.to_client.len() + end, guest.to_server.len())
    }

    /// Delivers the next message to a client, or from it.
    pub fn deliver(&mut self, name: &str, is_to_client: bool) {
        let guest = self.guest(name);
        let Some((line, connection)) = guest.line else { return };
        if is_to_client {
            if let Some(message) = guest.to_client.pop_front() {
                self.happen(name, Event::Received { connection: line, message });
            } else if guest.is_closed {
                guest.line = None;
                self.happen(name, Event::Lost { connection: line, why: "the server closed it".to_owned() });
            }
        } else if let Some(message) = guest.to_server.pop_front() {
            self.site.say(connection, message);
        }
        self.collect();
    }

    /// If the next message to a client answers a load, or is a piece of a prefetch, it falls behind the one after it: a
    /// server may do that if it answers loads beside everything else. The data is older then than the news that the
    /// client was told.
    pub fn postpone(&mut self, name: &str) {
        let waiting = &mut self.guest(name).to_client;
        let is_load = |message: &Message| match &message.args {
            Value::Tuple(parts) => {
                let name = message.name.as_text();
                (parts.len() == 3 && name == Some(".reply")) || name == Some("vellum.prefetched")
            }
            Value::List(_) => message.name == Value::Text(".reply".to_owned()),
            _ => false,
        };
        if waiting.len() >= 2 && is_load(&waiting[0]) {
            waiting.swap(0, 1);
        }
    }

    /// The last message to a client overtakes all others.
    pub fn postpone_last(&mut self, name: &str) {
        let waiting = &mut self.guest(name).to_client;
        waiting.rotate_right(usize::from(waiting.len() > 1));
    }

    /// Sends a client a message that its server did not send.
    pub fn lie(&mut self, name: &str, message: Message) {
        if let Some((connection, _)) = self.clients[name].line {
            writeln!(self.site.transcript, "{name:<4} <- {} (a lie)", crate::show(&message)).unwrap();
            self.happen(name, Event::Received { connection, message });
            self.deliver_all();
        }
    }

    /// The number of a client's last call, among those that it has made since it came.
    pub fn last_call(&self, name: &str) -> i64 {
        self.clients[name].last_call
    }

    /// Delivers all that is on its way, and what follows from it, if messages arrive as soon as they are sent.
    pub fn deliver_all(&mut self) {
        self.collect();
        while self.is_prompt {
            let names = self.names();
            let way = names.iter().find_map(|name| match self.on_the_way(name) {
                (0, 0) => None,
                (_, 0) => Some((name, true)),
                _ => Some((name, false)),
            });
            let Some((name, is_to_client)) = way else { return };
            self.deliver(name, is_to_client);
        }
    }

    /// Takes what the server has sent, and notices what it has closed.
    fn collect(&mut self) {
        let closed = std::mem::take(&mut self.site.closed);
        for guest in self.clients.values_mut() {
            let Some((_, connection)) = guest.line else { continue };
            let inbox = self.site.inbox.get(&connection).map(Vec::as_slice).unwrap_or_default();
            guest.to_client.extend(inbox[guest.heard..].iter().cloned());
            guest.heard = inbox.len();
            if closed.contains(&connection) {
                guest.is_closed = true;
                guest.to_server.clear();
            }
        }
    }

    /// An event at a client, and all that follows from it here.
    pub fn happen(&mut self, name: &str, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = self.guest(name).machine.step(event);
            for effect in effects {
                match effect {
                    Effect::Connect { connection, .. } if !self.is_open => {
                        let why = "nobody listens there".to_owned();
                        events.push_back(Event::Lost { connection, why });
                    }
                    Effect::Connect { connection, .. } => {
                        let at_server = self.site.connect(name);
                        let guest = self.guest(name);
                        guest.line = Some((connection, at_server));
                        (guest.heard, guest.is_closed) = (0, false);
                        guest.to_client.clear();
                        guest.to_server.clear();
                        writeln!(self.site.transcript, "{name:<4} connects").unwrap();
                        events.push_back(Event::Connected { connection });
                        events.push_back(Event::Greeted { connection, frame: "Z5".into() });
                    }
                    Effect::Speak { .. } | Effect::WakeAt { .. } => {}
                    Effect::Send { message, .. } => {
                        let guest = self.guest(name);
                        if let (Some(id @ 1..), false) = (message.id.as_int(), message.is_one_way()) {
                            guest.last_call = id;
                        }
                        guest.to_server.push_back(message);
                    }
                    Effect::Close { why, connection } => {
                        let guest = self.guest(name);
                        if let Some((_, at_server)) = guest.line.take_if(|(line, _)| *line == connection) {
                            guest.to_client.clear();
                            guest.to_server.clear();
                            writeln!(self.site.transcript, "{name:<4} closes its connection: {why}").unwrap();
                            self.site.happen(vellum_server::Event::Lost { connection: at_server });
                        }
                    }
                    Effect::Resolve { promise, outcome } => {
                        let shown = match &outcome {
                            Ok(answer) => show_answer(answer),
                            Err(error) => format!("an error: {error}"),
                        };
                        writeln!(self.site.transcript, "{name:<4} answers {}: {shown}", promise.0).unwrap();
                        let guest = self.guest(name);
                        assert!(promise.0 < guest.promise_next, "{name} answers what nobody asked: {promise:?}");
                        guest.fresh.push((promise, guest.machine.last()));
                        let earlier = guest.answers.insert(promise, outcome);
                        assert_eq!(earlier, None, "{name} answers {promise:?} twice");
                    }
                    Effect::Blob { promise, piece } => {
                        let shown = piece.as_ref().map_or("begins".to_owned(), |piece| format!("goes on: {piece:?}"));
                        writeln!(self.site.transcript, "{name:<4} blob of {} {shown}", promise.0).unwrap();
                        let blob = self.guest(name).blobs.entry(promise).or_default();
                        match piece {
                            None => blob.clear(),
                            Some(piece) => blob.extend_from_slice(&piece),
                        }
                    }
                    Effect::Tell(told) => {
                        writeln!(self.site.transcript, "{name:<4} tells: {}", show_told(&told)).unwrap();
                        self.guest(name).told.push(told);
                    }
                }
            }
        }
    }
}

fn oids(oids: &[Oid]) -> String {
    oids.iter().map(|oid| format!("#{}", oid.0)).collect::<Vec<_>>().join(", ")
}

fn tid(tid: Tid) -> String {
    value(&Value::Bytes(bytes::Bytes::copy_from_slice(&tid.to_bytes())))
}

fn show_ask(ask: &Ask) -> String {
    match ask {
        Ask::Load { oid, before: None } => format!("load #{}", oid.0),
        Ask::Load { oid, before: Some(before) } => format!("load #{} before {}", oid.0, tid(*before)),
        Ask::LoadMany { oids: many, .. } => format!("load {}", oids(many)),
        Ask::Prefetch { oids: from, reach: Reach { depth, count, bytes }, .. } => {
            format!("prefetch {}: depth {depth}, at most {count} revisions and {bytes} bytes", oids(from))
        }
        Ask::Begin { .. } => "begin".to_owned(),
        Ask::Change { change: vellum_storage::Change::Store { oid, serial, version, data }, .. } => {
            let place = if version.is_trunk() { String::new() } else { format!(" in `{version}`") };
            format!("store #{} over {}{place}: {data:?}", oid.0, tid(*serial))
        }
        Ask::Change { change: vellum_storage::Change::CommitVersion { from, to }, .. } => {
            let to = if to.is_trunk() { "the trunk".to_owned() } else { format!("`{to}`") };
            format!("commit `{from}` to {to}")
        }
        Ask::Change { change: vellum_storage::Change::AbortVersion { from }, .. } => format!("abort `{from}`"),
        Ask::LoadInVersion { oid, version } => format!("load #{} in `{version}`", oid.0),
        Ask::ModifiedInVersion { oid } => format!("the version of #{}", oid.0),
        Ask::Change { change, .. } => format!("{change:?}"),
        other => other.name().to_owned(),
    }
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Done => "done".to_owned(),
        Answer::Tid(of) => tid(*of),
        Answer::Loaded(None) => "nothing yet".to_owned(),
        Answer::Loaded(Some(LoadedAt { data, tid: since, next })) => {
            let next = next.map_or("now".to_owned(), tid);
            format!("{data:?} since {}, until {next}", tid(*since))
        }
        Answer::LoadedMany(found) => {
            let each = found.iter().map(|(oid, found)| match found {
                Some(LoadedAt { data, tid: since, .. }) => format!("#{}: {data:?} since {}", oid.0, tid(*since)),
                None => format!("#{}: nothing", oid.0),
            });
            each.collect::<Vec<_>>().join(", ")
        }
        Answer::LoadedInVersion(loaded) => format!("{:?}, which is at {}", loaded.data, tid(loaded.tid)),
        Answer::Version(version) => format!("`{version}`"),
        Answer::Prefetched(count) => format!("{count} revisions came ahead"),
        Answer::Begun(id) => format!("transaction {}", id.0),
        Answer::Voted(Voted::Ready(written)) if written.is_empty() => "it can be finished".to_owned(),
        Answer::Voted(Voted::Ready(written)) => format!("it can be finished, with other records for {}", oids(written)),
        Answer::Voted(Voted::Conflicts(conflicts)) => {
            let conflicts: Vec<Oid> = conflicts.iter().map(|conflict| conflict.oid).collect();
            format!("the client is to merge {}", oids(&conflicts))
        }
        other => format!("{other:?}"),
    }
}

fn show_told(told: &Told) -> String {
    match told {
        Told::Committed { tid: of, oids: changed, .. } => format!("{} changed {}", tid(*of), oids(changed)),
        Told::Missed { after, last } => format!("anything was changed between {} and {}", tid(*after), tid(*last)),
        Told::Ready { is_read_only: true, .. } => "ready, to read only".to_owned(),
        Told::Ready { .. } => "ready".to_owned(),
        Told::Lost { why } => format!("no server: {why}"),
        Told::Trouble { why } => format!("trouble: {why}"),
    }
}
