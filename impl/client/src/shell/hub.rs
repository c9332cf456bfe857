//! The machine under one lock, and its effects in order.
//!
//! Answers and the news of listeners are brought one after the other, by one thread at a time and without the lock. So
//! a listener hears of a transaction before its finish is answered, and it may call the client itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use vellum_storage::{Blob, BlobWriter, Event as Heard, Listeners, LoadedAt, Oid, Tid};
use vellum_sync::Mutex;

use super::dial::Dial;
use super::driver::Driver;
use super::line::Line;
use super::link::Link;
use crate::ask::{Answer, Ask, Info};
use crate::error::ClientError;
use crate::event::{ConnectionId, Effect, Event, PromiseId, Told};
use crate::machine::{Machine, as_asked};
use crate::promise::{Promise, Resolver};
use crate::tiers::TieredCache;
use crate::trace::Trace;

/// A client with its network.
pub(crate) struct Hub {
    core: Mutex<Core>,
    brings: Mutex<Brings>,
    pub listeners: Listeners,
    dial: Arc<dyn Dial>,
    message_size_max: usize,
    runtime: Handle,
    /// The driver of a client with a thread of its own.
    driver: Option<Arc<Driver>>,
    started: Instant,
    /// The time of the next tick has changed, or the client has ended.
    alarm: Notify,
    hits: Option<Hits>,
}

/// A cache file, in which threads look by themselves.
struct Hits {
    cache: Arc<TieredCache>,
    trace: Option<Arc<Trace>>,
    /// Whether it was verified once. Before that, it may be of another database, or too old.
    is_verified: AtomicBool,
}

struct Core {
    machine: Machine,
    lines: BTreeMap<ConnectionId, Arc<Link>>,
    dialing: BTreeMap<ConnectionId, AbortHandle>,
    takers: HashMap<PromiseId, Taker>,
    /// Where blobs go that were asked for.
    sinks: HashMap<PromiseId, Sink>,
    promise_next: u64,
    ticked: Duration,
    wakes_at: Option<Duration>,
    has_ended: bool,
}

/// Takes an answer.
type Taker = Box<dyn FnOnce(Result<Answer, ClientError>) + Send>;

/// A blob that arrives, and why it cannot be written.
struct Sink {
    writer: Option<Box<dyn BlobWriter>>,
    failed: Option<String>,
    /// Where it is left when it is complete.
    home: Arc<Mutex<Option<Result<Blob, String>>>>,
}

impl Sink {
    fn take(&mut self, piece: Option<Bytes>) {
        match piece {
            None => (self.writer, self.failed) = (Some(vellum_storage::scratch_blob()), None),
            Some(piece) => {
                let appended = self.writer.as_mut().map(|writer| writer.append(&piece));
                if let Some(Err(error)) = appended {
                    // The rest is not written.
                    (self.writer, self.failed) = (None, Some(error.to_string()));
                }
            }
        }
    }

    fn end(self) {
        let blob = match (self.writer, self.failed) {
            (Some(writer), None) => writer.finish().map_err(|error| error.to_string()),
            (_, failed) => Err(failed.unwrap_or_else(|| "it did not come".to_owned())),
        };
        *self.home.lock() = Some(blob);
    }
}

/// Answers and news for the application.
#[derive(Default)]
struct Brings {
    queue: VecDeque<Bring>,
    is_seen_to: bool,
}

enum Bring {
    Answer(Taker, Result<Answer, ClientError>),
    Told(Told),
    /// A connection was closed: those that waited for room in it go on.
    Room(Vec<Resolver<()>>),
}

/// The machine is told the time with everything that happens, if so much of it has passed.
const TICK: Duration = Duration::from_millis(100);

/// The cache file is made durable so often.
const DURABLE_EVERY: Duration = Duration::from_secs(60);

/// Makes a cache file survive a power cut, now and then.
async fn keep_durable(cache: Arc<TieredCache>) {
    loop {
        tokio::time::sleep(DURABLE_EVERY).await;
        if cache.has_ended() {
            return;
        }
        let syncs = Arc::clone(&cache);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || syncs.checkpoint()).await {
            let path = cache.path().display();
            tracing::warn!(%path, %error, "the cache file is not durable. After a power cut less is found in it");
            return;
        }
    }
}

/// Sleeps until then; for ever without a moment.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Hub {
    /// A client that begins to connect.
    pub fn start(
        machine: Machine,
        dial: Arc<dyn Dial>,
        message_size_max: usize,
        runtime: &Handle,
        driver: Option<Arc<Driver>>,
        cache: Option<Arc<TieredCache>>,
        trace: Option<Arc<Trace>>,
    ) -> Arc<Hub> {
        // Hints are learned from all loads, so the machine must hear of them.
        let hits = cache.clone().filter(|_| !machine.learns());
        let hits = hits.map(|cache| Hits { cache, trace, is_verified: AtomicBool::new(false) });
        let core = Core {
            machine,
            lines: BTreeMap::new(),
            dialing: BTreeMap::new(),
            takers: HashMap::new(),
            sinks: HashMap::new(),
            promise_next: 1,
            ticked: Duration::ZERO,
            wakes_at: None,
            has_ended: false,
        };
        let hub = Arc::new(Hub {
            core: Mutex::new(core),
            brings: Mutex::default(),
            listeners: Listeners::default(),
            dial,
            message_size_max,
            runtime: runtime.clone(),
            driver,
            started: Instant::now(),
            alarm: Notify::new(),
            hits,
        });
        if let Some(cache) = cache {
            runtime.spawn(keep_durable(cache));
        }
        runtime.spawn(Arc::clone(&hub).keep_time());
        hub.happen(Event::Tick { now: Duration::ZERO });
        hub
    }

    /// Ticks when the machine wants it.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let at = {
                let core = self.core.lock();
                if core.has_ended {
                    return;
                }
                core.wakes_at
            };
            tokio::select! {
                () = self.alarm.notified() => {}
                // A moment that is beyond the clock never comes.
                () = sleep_until(at.and_then(|at| self.started.checked_add(at))) => {
                    self.core.lock().wakes_at = None;
                    self.happen(Event::Tick { now: self.started.elapsed() });
                }
            }
        }
    }

    /// A revision that is in the cache file. The machine is not asked, and its lock not taken: the cache is told of a
    /// transaction before the machine's last transaction moves, and it looks at its head first.
    pub fn hit(&self, oid: Oid, asked: Option<Tid>) -> Option<LoadedAt> {
        let Hits { cache, trace, is_verified } = self.hits.as_ref()?;
        if !is_verified.load(Ordering::Acquire) {
            return None;
        }
        let before = asked.unwrap_or(Tid::MAX).min(cache.head().next());
        // A miss is traced by the machine, which is asked next.
        let found = cache.get(oid, before)?;
        if let Some(trace) = trace {
            trace.load(oid, asked, Some(&found));
        }
        Some(as_asked(found, asked))
    }

    /// Asks something. `take` makes the answer of what the machine answers.
    pub fn ask<T: Clone + Send + 'static>(
        self: &Arc<Self>,
        ask: Ask,
        take: impl FnOnce(Answer) -> Option<T> + Send + 'static,
    ) -> Promise<T> {
        let (promise, resolver) = Promise::new(self.driver.clone());
        let asked = ask.name();
        let taker: Taker = Box::new(move |outcome| {
            let nonsense = || ClientError::Nonsense { asked, why: "it is the answer to something else".to_owned() };
            resolver.resolve(outcome.and_then(|answer| take(answer).ok_or_else(nonsense)));
        });
        {
            let mut core = self.core.lock();
            let id = PromiseId(core.promise_next);
            core.promise_next += 1;
            core.takers.insert(id, taker);
            self.step(&mut core, Event::Asked { promise: id, ask });
        }
        self.bring();
        promise
    }

    /// Asks for a blob, which is written to a scratch file.
    pub fn ask_blob(self: &Arc<Self>, oid: Oid, tid: Tid) -> Promise<Blob> {
        let home = Arc::<Mutex<Option<Result<Blob, String>>>>::default();
        let (promise, resolver) = Promise::new(self.driver.clone());
        let left = Arc::clone(&home);
        let taker: Taker = Box::new(move |outcome| {
            let blob = || match left.lock().take() {
                Some(Ok(blob)) => Ok(blob),
                Some(Err(why)) => Err(ClientError::NotKept { why }),
                None => Err(ClientError::Nonsense { asked: "load_blob", why: "it did not come".to_owned() }),
            };
            resolver.resolve(outcome.and_then(|_| blob()));
        });
        {
            let mut core = self.core.lock();
            let id = PromiseId(core.promise_next);
            core.promise_next += 1;
            core.takers.insert(id, taker);
            core.sinks.insert(id, Sink { writer: None, failed: None, home });
            self.step(&mut core, Event::Asked { promise: id, ask: Ask::LoadBlob { oid, tid } });
        }
        self.bring();
        promise
    }

    /// Lets an event happen.
    pub fn happen(self: &Arc<Self>, event: Event) {
        self.step(&mut self.core.lock(), event);
        self.bring();
    }

    fn step(self: &Arc<Self>, core: &mut Core, event: Event) {
        let mut events = VecDeque::new();
        let now = self.started.elapsed();
        if now.saturating_sub(core.ticked) >= TICK && !matches!(event, Event::Tick { .. }) {
            core.ticked = now;
            events.push_back(Event::Tick { now });
        }
        events.push_back(event);
        while let Some(event) = events.pop_front() {
            for effect in core.machine.step(event) {
                self.carry_out(core, effect, &mut events);
            }
        }
    }

    fn carry_out(self: &Arc<Self>, core: &mut Core, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Connect { connection, address } => {
                let link = Arc::<Link>::default();
                core.lines.insert(connection, Arc::clone(&link));
                let task = self.runtime.spawn(Arc::clone(self).connect(connection, address, link));
                core.dialing.insert(connection, task.abort_handle());
            }
            Effect::Speak { connection, codec } => {
                if let Some(link) = core.lines.get(&connection) {
                    link.speak(codec);
                }
            }
            Effect::Send { connection, message } => {
                if let Some(link) = core.lines.get(&connection)
                    && let Err(unwritable) = link.send(message)
                {
                    // The server would miss it, so all that follows would be wrong.
                    events.push_back(Event::Malformed { connection, why: unwritable.to_string() });
                }
            }
            Effect::Close { connection, why } => {
                tracing::info!(connection = connection.0, why, "closing a connection");
                if let Some(link) = core.lines.remove(&connection) {
                    self.brings.lock().queue.push_back(Bring::Room(link.close()));
                }
                // One that is still being made has nobody who would notice.
                if let Some(dialing) = core.dialing.remove(&connection) {
                    dialing.abort();
                }
            }
            // Written here, so that no more of it is read than can be written.
            Effect::Blob { promise, piece } => {
                if let Some(sink) = core.sinks.get_mut(&promise) {
                    sink.take(piece);
                }
            }
            Effect::Resolve { promise, outcome } => {
                if let Some(sink) = core.sinks.remove(&promise)
                    && outcome.is_ok()
                {
                    sink.end();
                }
                if let Some(taker) = core.takers.remove(&promise) {
                    self.brings.lock().queue.push_back(Bring::Answer(taker, outcome));
                }
            }
            Effect::Tell(told @ Told::Ready { .. }) => {
                if let Some(hits) = &self.hits {
                    hits.is_verified.store(true, Ordering::Release);
                }
                self.brings.lock().queue.push_back(Bring::Told(told));
            }
            Effect::Tell(told) => self.brings.lock().queue.push_back(Bring::Told(told)),
            Effect::WakeAt { at } => {
                if core.wakes_at.is_none_or(|earlier| at < earlier) {
                    core.wakes_at = Some(at);
                    self.alarm.notify_one();
                }
            }
        }
    }

    async fn connect(self: Arc<Self>, connection: ConnectionId, address: usize, link: Arc<Link>) {
        let why = match self.dial.dial(address).await {
            Err(error) => error.to_string(),
            Ok(stream) => {
                self.core.lock().dialing.remove(&connection);
                self.happen(Event::Connected { connection });
                let (hub, message_size_max) = (&self, self.message_size_max);
                Line { connection, hub, link: &link, message_size_max }.go_on(stream).await
            }
        };
        link.close().into_iter().for_each(|waiting| waiting.resolve(Ok(())));
        {
            let mut core = self.core.lock();
            core.lines.remove(&connection);
            core.dialing.remove(&connection);
        }
        self.happen(Event::Lost { connection, why });
    }

    /// Brings what there is to bring, unless another thread does.
    fn bring(&self) {
        struct Leaves<'a>(&'a Mutex<Brings>);
        impl Drop for Leaves<'_> {
            // If something panicked, the next one that comes goes on.
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.lock().is_seen_to = false;
                }
            }
        }
        {
            let mut brings = self.brings.lock();
            if brings.queue.is_empty() || std::mem::replace(&mut brings.is_seen_to, true) {
                return;
            }
        }
        let _leaves = Leaves(&self.brings);
        loop {
            let next = {
                let mut brings = self.brings.lock();
                let next = brings.queue.pop_front();
                brings.is_seen_to = next.is_some();
                next
            };
            match next {
                None => return,
                Some(Bring::Answer(taker, outcome)) => taker(outcome),
                Some(Bring::Told(told)) => self.tell(told),
                Some(Bring::Room(waiting)) => waiting.into_iter().for_each(|waiting| waiting.resolve(Ok(()))),
            }
        }
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Committed { tid, oids, origin } => self.listeners.tell(|| Heard::Committed { tid, oids, origin }),
            Told::Missed { after, last } => self.listeners.tell(|| Heard::Copied { first: after.next(), last }),
            Told::Ready { address, is_read_only } => tracing::info!(address, is_read_only, "connected"),
            Told::Lost { why } => tracing::warn!(why, "the connection to the server ended"),
            Told::Trouble { why } => tracing::warn!(why, "no server"),
        }
    }

    /// The driver, for promises that are made elsewhere.
    pub fn driver(&self) -> Option<Arc<Driver>> {
        self.driver.clone()
    }

    /// The last transaction that is known.
    pub fn last(&self) -> Option<Tid> {
        self.core.lock().machine.last()
    }

    /// The server's description of its storage.
    pub fn info(&self) -> Option<Info> {
        self.core.lock().machine.info().cloned()
    }

    /// Whether versions can be asked for.
    pub fn has_versions(&self) -> bool {
        self.core.lock().machine.has_versions()
    }

    /// The hints that were learned from loads.
    pub fn hints(&self) -> Vec<u8> {
        self.core.lock().machine.hints()
    }

    /// Whether a server is there.
    pub fn is_ready(&self) -> bool {
        self.core.lock().machine.is_ready()
    }

    /// A promise of room for more to be sent.
    pub fn room(&self) -> Promise<()> {
        let link = self.core.lock().lines.values().next().cloned();
        link.map_or_else(|| Promise::of(Ok(())), |link| link.room())
    }

    /// Ends: all that is asked is answered with an error, and connections are closed.
    pub fn end(self: &Arc<Self>) {
        self.core.lock().has_ended = true;
        self.happen(Event::End);
        self.alarm.notify_one();
        if let Some(driver) = &self.driver {
            driver.end();
        }
    }
}
