//! The protocol: what each event does.

mod ahead;
mod blobs;
mod calls;
mod loads;
mod queue;
mod session;
mod told;
mod transactions;

pub(crate) use self::loads::as_asked;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use vellum_storage::{Oid, Tid};
use vellum_wire::Extension;

use self::ahead::{Group, Prefetching};
use self::blobs::Download;
use self::calls::Pending;
use self::loads::Flight;
use self::queue::Queue;
use self::session::{Candidate, Round, Session};
use self::transactions::{Begins, Transaction};
use crate::ask::{Answer, Ask, Info, Patience, TransactionId};
use crate::error::ClientError;
use crate::event::{ConnectionId, Effect, Event, PromiseId, Told};
use crate::hints::Hints;
use crate::keep::Cache;

/// Whether a client writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// It writes, and takes no server that lets it only read.
    #[default]
    Write,
    /// It only reads.
    Read,
    /// It writes where it can. A server that lets it only read is taken if there is no other, and as long as there is
    /// none.
    WriteIfPossible,
}

/// How a client is run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The server's name of the storage: "1".
    pub storage: String,
    /// Addresses that there are. They are tried in order.
    pub addresses: usize,
    /// Whether it writes.
    pub access: Access,
    /// The name of this client in the server's log.
    pub label: Option<String>,
    /// Bytes that the cache takes: 64 MiB.
    pub cache_bytes: u64,
    /// Whether it works with versions, where the server has them: false.
    pub versions: bool,
    /// Objects in a hint, which are those that were loaded next after an object: 0, which learns none.
    pub hint_size: usize,
    /// How long it waits.
    pub patience: Patience,
    /// The first pause after a round in which no server could be reached, which then doubles: 50 ms.
    pub pause_min: Duration,
    /// The longest pause: 10 s.
    pub pause_max: Duration,
    /// How often a client that may only read looks for a server that lets it write: 30 s.
    pub upgrade_every: Duration,
    /// A sign of life is sent so often; and if nothing was heard for as long, the server is asked for one: 60 s.
    pub heartbeat: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            storage: "1".to_owned(),
            addresses: 1,
            access: Access::Write,
            label: None,
            cache_bytes: 64 << 20,
            versions: false,
            hint_size: 0,
            patience: Patience::default(),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(10),
            upgrade_every: Duration::from_secs(30),
            heartbeat: Duration::from_secs(60),
        }
    }
}

/// A client, without its network: see the crate's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    config: Config,
    now: Duration,
    /// The last transaction that it knows; none before it has registered anywhere.
    last: Option<Tid>,
    /// Whether it has forgotten what its listeners know, and has not told them yet.
    has_forgotten: bool,
    /// The last transaction that a cache was told of which was kept over a restart. None as soon as it is verified.
    kept: Option<Tid>,
    cache: Cache,
    hints: Hints,
    info: Option<Info>,
    session: Option<Session>,
    candidate: Option<Candidate>,
    round: Round,
    /// The last round through the addresses found only a server that has fewer transactions than the client knows.
    behind: Option<(Tid, Tid)>,
    /// Why there is no server.
    trouble: String,
    connection_next: u64,
    calls: BTreeMap<i64, Pending>,
    call_next: i64,
    /// Votes that were given up, and whose answers may come after those to their aborts, or never.
    given_up: VecDeque<i64>,
    /// When calls have taken too long.
    deadlines: BTreeSet<(Duration, i64)>,
    flights: BTreeMap<(Oid, Tid), Flight>,
    /// Bulk fetches that are under way.
    groups: BTreeMap<u64, Group>,
    group_next: u64,
    /// Prefetches that are under way, by their calls.
    prefetches: BTreeMap<i64, Prefetching>,
    /// Blobs that were asked for, in this order.
    downloads: VecDeque<Download>,
    /// The questions that were asked when no server was there.
    waiting: Queue,
    transaction: Option<Transaction>,
    transaction_next: u64,
    /// The last transaction that ended without being finished, and why.
    over: Option<(TransactionId, String)>,
    /// Transactions that are to begin after that one.
    begins: Begins,
    /// When the next tick comes.
    wakes_at: Option<Duration>,
    is_ending: bool,
    effects: Outbox,
}

/// Something that was asked and waits for a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    promise: PromiseId,
    ask: Ask,
    /// When its time is up here.
    deadline: Duration,
    /// When its time is up altogether, however often it has to be asked again.
    until: Duration,
}

/// So many questions wait for a server at most, and so many transactions for their beginning.
const WAITING_MAX: usize = 1 << 18;

/// Effects of the step that is under way. Between steps there are none, so they do not count.
#[derive(Clone, Debug, Default)]
struct Outbox(Vec<Effect>);

impl PartialEq for Outbox {
    fn eq(&self, _: &Outbox) -> bool {
        true
    }
}

impl Eq for Outbox {}

impl Hash for Outbox {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Machine {
    /// A client that knows nothing. It begins to connect at its first tick.
    pub fn new(config: Config) -> Machine {
        let cache = Cache::simple(config.cache_bytes);
        Machine::over(config, cache)
    }

    /// A client with this cache. If that was kept over a restart, nothing of it is believed before a server has said
    /// what was changed since, and has shown that it has the same database.
    pub fn over(config: Config, cache: Cache) -> Machine {
        let hints = Hints::new(config.hint_size);
        Machine {
            config,
            now: Duration::ZERO,
            last: None,
            has_forgotten: false,
            kept: cache.kept(),
            cache,
            hints,
            info: None,
            session: None,
            candidate: None,
            round: Round::default(),
            behind: None,
            trouble: "the client has just begun".to_owned(),
            connection_next: 1,
            calls: BTreeMap::new(),
            call_next: 1,
            given_up: VecDeque::new(),
            deadlines: BTreeSet::new(),
            flights: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_next: 1,
            prefetches: BTreeMap::new(),
            downloads: VecDeque::new(),
            waiting: Queue::default(),
            transaction: None,
            transaction_next: 1,
            over: None,
            begins: Begins::default(),
            wakes_at: None,
            is_ending: false,
            effects: Outbox::default(),
        }
    }

    /// The last transaction that it knows.
    pub fn last(&self) -> Option<Tid> {
        self.last
    }

    /// The storage's description, as far as it was told.
    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// The hints that were learned from loads, for another start: see [`Machine::learn`].
    pub fn hints(&self) -> Vec<u8> {
        self.hints.to_bytes()
    }

    /// Takes hints that were kept over a restart: rule 9.7. They change no answer, whatever they are.
    pub fn learn(&mut self, hints: &[u8]) {
        self.hints.take(hints);
    }

    /// Whether it learns hints from loads.
    pub(crate) fn learns(&self) -> bool {
        self.config.hint_size > 0
    }

    /// Whether a server is there, and the cache is verified.
    pub fn is_ready(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_ready)
    }

    /// Whether it works with versions: it wants to, and its server has them.
    pub fn has_versions(&self) -> bool {
        self.config.versions && self.is_offered(Extension::Versions)
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Bytes that the cache takes.
    pub fn cached(&self) -> u64 {
        self.cache.bytes()
    }

    /// Whether nothing that was asked waits for an answer.
    pub fn is_quiet(&self) -> bool {
        let is_asked = |pending: &Pending| pending.kind.is_asked();
        self.waiting.is_empty() && self.begins.is_empty() && !self.calls.values().any(is_asked)
    }

    /// Lets an event happen.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Asked { promise, ask } => self.asked(promise, ask),
            Event::Connected { connection } => self.connected(connection),
            Event::Greeted { connection, frame } => self.greeted(connection, &frame),
            Event::Received { connection, message } => self.received(connection, message),
            Event::Malformed { connection, why } => self.disbelieve(connection, why),
            Event::Lost { connection, why } => self.lost(connection, why),
            Event::Tick { now } => self.tick(now),
            Event::End => self.end(),
        }
        self.set_timer();
        std::mem::take(&mut self.effects.0)
    }

    fn put(&mut self, effect: Effect) {
        self.effects.0.push(effect);
    }

    fn resolve(&mut self, promise: PromiseId, outcome: Result<Answer, ClientError>) {
        self.put(Effect::Resolve { promise, outcome });
    }

    fn tell(&mut self, told: Told) {
        self.put(Effect::Tell(told));
    }

    /// Something is asked: now, or when a server is there.
    fn asked(&mut self, promise: PromiseId, ask: Ask) {
        if self.is_ending {
            return self.resolve(promise, Err(ClientError::Closed));
        }
        let patience = &self.config.patience;
        let deadline = self.after(patience.server);
        let until = deadline.saturating_add(ask.patience(patience));
        let hint = match &ask {
            Ask::Load { oid, before: None } => self.hints.note(*oid),
            _ => Vec::new(),
        };
        let call = self.call_next;
        self.ask(Waiting { promise, ask, deadline, until });
        // If the load was in the cache, what follows it most likely is, too.
        if !hint.is_empty() && self.call_next > call {
            self.prefetch_hint(hint);
        }
    }

    fn ask(&mut self, waiting: Waiting) {
        match &waiting.ask {
            Ask::Begin { meta, origin } => {
                let (meta, origin) = (meta.clone(), *origin);
                self.ask_to_begin(waiting.promise, meta, origin);
            }
            Ask::Change { .. } | Ask::Blob { .. } | Ask::Vote { .. } | Ask::Finish { .. } | Ask::Abort { .. } => {
                self.ask_of_transaction(waiting);
            }
            Ask::Forget => {
                self.forget();
                self.resolve(waiting.promise, Ok(Answer::Done));
            }
            Ask::Last if self.last.is_some() => {
                let last = self.last.unwrap_or_default();
                self.resolve(waiting.promise, Ok(Answer::Tid(last)));
            }
            Ask::Load { oid, before } => {
                let (oid, before) = (*oid, *before);
                self.load(waiting, oid, before);
            }
            Ask::LoadMany { oids, before } => {
                let (oids, before) = (oids.clone(), *before);
                self.load_many(waiting, oids, before);
            }
            Ask::Prefetch { oids, before, reach } if self.is_ready() => {
                let (oids, before, reach) = (oids.clone(), *before, *reach);
                self.prefetch(waiting, oids, before, reach);
            }
            _ if self.is_ready() => self.call_for(waiting),
            _ => self.wait(waiting),
        }
    }

    /// Has something wait for a server.
    fn wait(&mut self, waiting: Waiting) {
        match self.behind {
            // A server is there, and no use.
            Some((server, client)) => {
                self.resolve(waiting.promise, Err(ClientError::ServerBehind { server, client }));
            }
            None if self.waiting.len() >= WAITING_MAX => self.refuse(waiting.promise, waiting.ask.name()),
            None => self.waiting.push(waiting),
        }
    }

    /// So many wait that no more of it is taken.
    fn refuse(&mut self, promise: PromiseId, asked: &'static str) {
        let why = self.trouble.clone();
        self.resolve(promise, Err(ClientError::TooMany { asked, count: WAITING_MAX, why }));
    }

    /// A connection ended before something was answered: it is asked again, as long as there is time.
    fn wait_again(&mut self, promise: PromiseId, ask: Ask, until: Duration) {
        if until <= self.now {
            let (asked, why) = (ask.name(), self.trouble.clone());
            return match ask {
                // It got on for long, and only the connection ended it.
                Ask::LoadMany { .. } | Ask::LoadBlob { .. } => {
                    self.resolve(promise, Err(ClientError::Disconnected { asked, why }));
                }
                _ => self.no_server(promise, asked),
            };
        }
        let deadline = until.min(self.after(self.config.patience.server));
        self.waiting.push(Waiting { promise, ask, deadline, until });
    }

    /// A server is there: what waited is asked.
    fn ask_all(&mut self) {
        for waiting in self.waiting.take() {
            self.ask(waiting);
        }
        self.begin_next();
    }

    /// The moment that is so long from now.
    fn after(&self, time: Duration) -> Duration {
        self.now.saturating_add(time)
    }

    fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.wakes_at.is_some_and(|at| at <= self.now) {
            self.wakes_at = None;
        }
        self.give_up_waiting();
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > self.now {
                break;
            }
            self.time_out(id);
        }
        self.tick_session();
    }

    fn give_up_waiting(&mut self) {
        while let Some(Waiting { promise, ask, .. }) = self.waiting.pop_late(self.now) {
            self.no_server(promise, ask.name());
        }
        self.give_up_begins();
    }

    fn no_server(&mut self, promise: PromiseId, asked: &'static str) {
        let seconds = self.config.patience.server.as_secs();
        self.resolve(promise, Err(ClientError::NotConnected { asked, seconds, why: self.trouble.clone() }));
    }

    /// All that waits for a server.
    fn take_waiting(&mut self) -> Vec<PromiseId> {
        self.waiting.take().map(|waiting| waiting.promise).chain(self.begins.take()).collect()
    }

    /// The client ends. All that is asked has an answer now.
    fn end(&mut self) {
        self.is_ending = true;
        let why = "the client was closed".to_owned();
        if let Some(candidate) = self.candidate.take() {
            self.drop_connection(candidate.connection, &why);
        }
        if let Some(session) = &self.session {
            let connection = session.connection;
            self.put(Effect::Close { connection, why: why.clone() });
            self.lose_session(why);
        }
        for promise in self.take_waiting() {
            self.resolve(promise, Err(ClientError::Closed));
        }
    }

    /// Asks for a tick at the next moment at which something is to be done.
    fn set_timer(&mut self) {
        let call = self.deadlines.first().map(|(at, _)| *at);
        let times = [self.waiting.deadline(), self.begins_give_up_at(), call, self.session_wakes_at()];
        let Some(at) = times.into_iter().flatten().min() else { return };
        if self.wakes_at.is_none_or(|earlier| at < earlier) {
            self.wakes_at = Some(at);
            self.put(Effect::WakeAt { at });
        }
    }

    fn next_connection(&mut self) -> ConnectionId {
        let connection = ConnectionId(self.connection_next);
        self.connection_next += 1;
        connection
    }
}
