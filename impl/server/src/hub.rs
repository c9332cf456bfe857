//! The machine in a real server: it is stepped by whichever thread has an event, under one lock, and its effects are
//! carried out in their order.
//!
//! ```text
//!   link (a task for each client) ── Received ──┐
//!   storage, from the thread that finishes ── Told ──▶ Hub: one lock ─▶ links' queues
//!   blocking threads ── Done ───────────────────┘          └─▶ jobs: here, or on a blocking thread
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use vellum_storage::{Change, Clock, Listening};
use vellum_sync::{Mutex, MutexGuard};
use vellum_wire::FrameMemory;

use crate::conversation::Ended;
use crate::latency::Latencies;
use crate::link::{End, Item, Link, TELLING_PAUSE};
use crate::report::Report;
use crate::{
    Config, ConnectionId, Description, Effect, Event, Job, JobId, Machine, Served, StorageId, Store, Work, Worker,
};

/// The machine, the worker and the links.
pub(crate) struct Hub {
    core: Mutex<Core>,
    worker: Worker,
    started: Instant,
    runtime: tokio::runtime::Handle,
    latencies: Latencies,
    /// For each storage, the transactions to be finished in it.
    finishes: Vec<Mutex<Finishes>>,
    /// Pieces of blobs that are to be taken from clients.
    moves: Mutex<Moves>,
    /// The memory for the frames of arriving blobs.
    pub frames: FrameMemory,
    is_ending: AtomicBool,
    /// Connections that were closed by a client that had not said a word: port checks.
    port_checks: AtomicU64,
    /// When these are dropped, no more events arrive.
    listening: Mutex<Vec<Listening>>,
}

/// Transactions that are to be finished. One thread finishes all that are there, so that they share syncs and no
/// transaction waits for a waiting one.
#[derive(Default)]
struct Finishes {
    waiting: Vec<Job>,
    /// Whether a thread sees to them.
    is_seen_to: bool,
}

/// Pieces of blobs that are to be written. A few threads see to all of them, one piece of each client after the other:
/// a thread for each piece would take more memory than the pieces.
#[derive(Default)]
struct Moves {
    waiting: VecDeque<Job>,
    threads: usize,
}

/// Threads that write pieces of blobs.
const MOVING_THREADS: usize = 4;

struct Core {
    machine: Machine,
    links: BTreeMap<ConnectionId, Arc<Link>>,
    connection_next: u64,
    /// Clients that left something unread when the machine was told the last time.
    unread: BTreeSet<ConnectionId>,
    /// Links with something that is to be sent a little later.
    held_back: Vec<Arc<Link>>,
    /// There is one. With the hub, the task that waits for this ends.
    holds_back: mpsc::Sender<()>,
}

/// A storage to be served.
pub struct Offered {
    /// Its name for clients.
    pub name: String,
    /// Its description for clients.
    pub description: Description,
    /// The storage.
    pub store: Store,
}

impl Hub {
    /// A hub of these storages. Votes that wait are woken by a task that ends with the hub.
    pub fn new(
        config: Config,
        offered: Vec<Offered>,
        queue_size: usize,
        invalidation_age: Option<Duration>,
        clock: Arc<dyn Clock>,
    ) -> vellum_storage::Result<Arc<Hub>> {
        let (woken, mut wakes) = mpsc::unbounded_channel::<JobId>();
        let wake = move |job| _ = woken.send(job);
        let storages: Vec<_> = offered.iter().map(|offered| offered.store.clone()).collect();
        let worker = Worker::new(storages, clock, invalidation_age, wake);
        let (holds_back, mut held_back) = mpsc::channel(1);
        let core = Core {
            machine: Machine::new(config, Vec::new()),
            links: BTreeMap::new(),
            connection_next: 1,
            unread: BTreeSet::new(),
            held_back: Vec::new(),
            holds_back,
        };
        let runtime = tokio::runtime::Handle::current();
        let hub = Arc::new(Hub {
            core: Mutex::new(core),
            worker,
            started: Instant::now(),
            runtime: runtime.clone(),
            latencies: Latencies::default(),
            finishes: offered.iter().map(|_| Mutex::default()).collect(),
            moves: Default::default(),
            frames: FrameMemory::default(),
            is_ending: AtomicBool::new(false),
            port_checks: AtomicU64::new(0),
            listening: Mutex::default(),
        });
        // The lock is held until the machine knows the storages: their events come after that.
        let mut core = hub.core();
        for (n, offered) in offered.into_iter().enumerate() {
            let hears = Arc::downgrade(&hub);
            let listening = offered.store.storage.listen(Arc::new(move |told: &vellum_storage::Event| {
                if let Some(hub) = hears.upgrade() {
                    hub.happen(Event::Told { storage: StorageId(n), told: told.clone() });
                }
            }));
            hub.listening.lock().push(listening);
            let served = Served::new(offered.name, offered.description, &*offered.store.storage, queue_size)?;
            core.machine.serve(served);
        }
        drop(core);
        let weak = Arc::downgrade(&hub);
        runtime.spawn(async move {
            while held_back.recv().await.is_some() {
                tokio::time::sleep(TELLING_PAUSE).await;
                let Some(hub) = weak.upgrade() else { return };
                let links = std::mem::take(&mut hub.core().held_back);
                links.iter().for_each(|link| link.tell());
            }
        });
        let weak = Arc::downgrade(&hub);
        runtime.spawn(async move {
            while let Some(job) = wakes.recv().await {
                let Some(hub) = weak.upgrade() else { return };
                hub.happen(Event::Woken { job });
            }
        });
        Ok(hub)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// A client connected.
    pub fn connect(self: &Arc<Self>, peer: String) -> (ConnectionId, Arc<Link>) {
        let link = Arc::<Link>::default();
        let mut core = self.core();
        let connection = ConnectionId(core.connection_next);
        core.connection_next += 1;
        core.links.insert(connection, Arc::clone(&link));
        self.worker.connected(connection);
        let jobs = self.step(&mut core, Event::Connected { connection, peer });
        debug_assert!(jobs.is_empty(), "a client that says nothing asks for nothing");
        (connection, link)
    }

    /// Lets an event happen, and has the storages do what follows.
    pub fn happen(self: &Arc<Self>, event: Event) {
        let mut jobs = self.step(&mut self.core(), event);
        while let Some(job) = jobs.pop_front() {
            if matches!(job.work, Work::Finish) {
                self.finish(job);
            } else if let Work::AppendBlob { .. } = job.work {
                self.move_piece(job);
            } else if is_quick(&job.work) {
                let (id, outcome) = (job.id, self.work(job));
                jobs.extend(self.step(&mut self.core(), Event::Done { job: id, outcome }));
            } else {
                let hub = Arc::clone(self);
                self.runtime.spawn_blocking(move || {
                    let (id, outcome) = (job.id, hub.work(job));
                    hub.happen(Event::Done { job: id, outcome });
                });
            }
        }
    }

    /// Has a piece of a blob written.
    fn move_piece(self: &Arc<Self>, job: Job) {
        let mut moves = self.moves.lock();
        moves.waiting.push_back(job);
        if moves.threads < MOVING_THREADS {
            moves.threads += 1;
            let hub = Arc::clone(self);
            self.runtime.spawn_blocking(move || hub.move_all());
        }
    }

    /// Writes the pieces that wait, and those that arrive during that.
    fn move_all(self: &Arc<Self>) {
        struct Leaves<'a>(&'a Mutex<Moves>);
        impl Drop for Leaves<'_> {
            // If something panicked, another thread comes for the next piece.
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.lock().threads -= 1;
                }
            }
        }
        let _leaves = Leaves(&self.moves);
        loop {
            let mut moves = self.moves.lock();
            let Some(job) = moves.waiting.pop_front() else {
                moves.threads -= 1;
                return;
            };
            drop(moves);
            let (id, outcome) = (job.id, self.work(job));
            self.happen(Event::Done { job: id, outcome });
        }
    }

    /// Has a transaction finished, with others that are to be finished.
    fn finish(self: &Arc<Self>, job: Job) {
        let storage = job.storage;
        let mut finishes = self.finishes[storage.0].lock();
        finishes.waiting.push(job);
        if !std::mem::replace(&mut finishes.is_seen_to, true) {
            let hub = Arc::clone(self);
            self.runtime.spawn_blocking(move || hub.finish_all(storage));
        }
    }

    /// Finishes all that are there, and those that arrive during that.
    fn finish_all(self: &Arc<Self>, storage: StorageId) {
        struct Leaves<'a>(&'a Mutex<Finishes>);
        impl Drop for Leaves<'_> {
            // If something panicked, the next one that comes is seen to all the same.
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.lock().is_seen_to = false;
                }
            }
        }
        let _leaves = Leaves(&self.finishes[storage.0]);
        loop {
            let mut finishes = self.finishes[storage.0].lock();
            let jobs = std::mem::take(&mut finishes.waiting);
            finishes.is_seen_to = !jobs.is_empty();
            drop(finishes);
            if jobs.is_empty() {
                return;
            }
            let connections: Vec<_> = jobs.iter().map(|job| job.connection).collect();
            let begun = std::time::Instant::now();
            let outcomes = self.worker.finish(storage, &connections);
            let took = begun.elapsed();
            for (job, outcome) in jobs.into_iter().zip(outcomes) {
                if let Some(latency) = self.latencies.of(&job.work) {
                    latency.note(took);
                }
                self.happen(Event::Done { job: job.id, outcome });
            }
        }
    }

    fn work(&self, job: Job) -> crate::Outcome {
        let latency = self.latencies.of(&job.work);
        let begun = std::time::Instant::now();
        let outcome = self.worker.run(job);
        if let Some(latency) = latency {
            latency.note(begun.elapsed());
        }
        outcome
    }

    /// Steps the machine. The jobs are for the caller, without the lock.
    fn step(&self, core: &mut Core, event: Event) -> VecDeque<Job> {
        let mut jobs = VecDeque::new();
        for effect in core.machine.step(event) {
            match effect {
                Effect::Run(job) => jobs.push_back(job),
                Effect::Abort { connection } => self.worker.abort(connection),
                Effect::Forget { connection } => self.worker.forget(connection),
                Effect::Speak { connection, codec } => core.push(connection, Item::Codec(codec)),
                Effect::Send { connection, message } => core.push(connection, Item::Message(message)),
                Effect::SendPiece { connection, message, bytes } => core.push(connection, Item::Piece(message, bytes)),
                Effect::SendFrame { connection, frame } => core.push(connection, Item::Frame(frame)),
                Effect::Pause { connection } => core.pause(connection, true),
                Effect::Resume { connection } => core.pause(connection, false),
                Effect::Close { connection, client, why, is_trouble } => {
                    core.close(connection, End::AfterWriting, [&client, &why], is_trouble);
                }
                Effect::Cut { connection, client, why } => core.close(connection, End::Now, [&client, &why], true),
            }
        }
        jobs
    }

    /// A client's task ended.
    pub fn disconnect(self: &Arc<Self>, connection: ConnectionId, peer: &str, ended: std::io::Result<Ended>) {
        let client = self.core().machine.name_of(connection).unwrap_or_else(|| peer.to_owned());
        // A port check is counted. One that the server closed was told of before.
        match ended {
            Ok(Ended::LeftWithoutAWord) => self.port_checked(peer),
            _ if self.core().links.remove(&connection).is_none() => {}
            Ok(_) => tracing::info!(connection = connection.0, client, "a client left"),
            Err(error) => tracing::info!(connection = connection.0, client, %error, "a client was lost"),
        }
        self.core().links.remove(&connection);
        self.happen(Event::Lost { connection });
    }

    /// A port check. The first is logged; the end of the log has their number.
    pub fn port_checked(&self, peer: &str) {
        if self.port_checks.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::info!(peer, "a client connected and left without a message; more of these are only counted");
        }
    }

    /// Lets time pass.
    pub fn tick(self: &Arc<Self>) {
        let mut core = self.core();
        let leave: BTreeSet<ConnectionId> =
            core.links.iter().filter(|(_, link)| link.waiting() > 0).map(|(id, _)| *id).collect();
        let before = std::mem::replace(&mut core.unread, leave.clone());
        let unread = leave.union(&before).map(|id| (*id, core.links.get(id).map_or(0, |link| link.waiting())));
        for (connection, bytes) in unread.collect::<Vec<_>>() {
            let jobs = self.step(&mut core, Event::Unread { connection, bytes });
            debug_assert!(jobs.is_empty(), "nobody is asked for anything");
        }
        drop(core);
        self.happen(Event::Tick { now: self.started.elapsed() });
    }

    /// Ends all connections but those of clients whose transaction is voted.
    pub fn end(self: &Arc<Self>) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.happen(Event::End);
    }

    /// Whether no client is accepted any more.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Clients that have a transaction that is voted.
    pub fn voted(&self) -> usize {
        self.core().machine.voted()
    }

    /// The state of the server.
    pub fn report(&self) -> Report {
        let mut report = self.core().machine.report();
        report.uptime_seconds = self.started.elapsed().as_secs_f64();
        report.port_checks = self.port_checks.load(Ordering::Relaxed);
        report.latencies = self.latencies.report();
        self.worker.name_holders(&mut report);
        report
    }

    /// Closes all connections, and hears of nothing any more.
    pub fn close(self: &Arc<Self>) {
        let mut core = self.core();
        let links = std::mem::take(&mut core.links);
        for (connection, link) in links {
            link.close(End::AfterWriting);
            let jobs = self.step(&mut core, Event::Lost { connection });
            debug_assert!(jobs.is_empty(), "a client that is gone asks for nothing");
        }
        drop(core);
        let listening = std::mem::take(&mut *self.listening.lock());
        drop(listening);
        let port_checks = self.port_checks.load(Ordering::Relaxed);
        tracing::info!(port_checks, "the server ended");
    }
}

impl Core {
    fn close(&mut self, connection: ConnectionId, end: End, [client, why]: [&str; 2], is_trouble: bool) {
        if let Some(link) = self.links.remove(&connection) {
            match is_trouble {
                true => tracing::warn!(connection = connection.0, client, why, "closing a connection"),
                false => tracing::info!(connection = connection.0, client, why, "closing a connection"),
            }
            link.close(end);
        }
    }

    fn pause(&self, connection: ConnectionId, is_paused: bool) {
        if let Some(link) = self.links.get(&connection) {
            link.pause(is_paused);
        }
    }

    fn push(&mut self, connection: ConnectionId, item: Item) {
        let Some(link) = self.links.get(&connection) else { return };
        if link.push(item) {
            self.held_back.push(Arc::clone(link));
            // If one is there already, it will be seen to all the same.
            let _ = self.holds_back.try_send(());
        }
    }
}

/// So many loads are little.
const QUICK_LOADS: usize = 64;

/// Whether a job may be done by the thread that serves a client: it reads a little, mostly from the page cache.
fn is_quick(work: &Work) -> bool {
    match work {
        Work::Load { .. } | Work::Measure => true,
        Work::LoadMany { oids, .. } => oids.len() <= QUICK_LOADS,
        // It is to delay nothing.
        Work::Reach { .. } => false,
        // An undo may copy a blob.
        Work::Vote { draft } => {
            let changes = draft.changes();
            changes.len() <= 16 && !changes.iter().any(|change| matches!(change, Change::Undo { .. }))
        }
        Work::AppendBlob { .. } | Work::EndBlob | Work::AdoptBlob { .. } => false,
        Work::OpenBlob { .. } | Work::ReadBlob { .. } => true,
        Work::Spill { .. } | Work::Retry | Work::Finish | Work::Pack { .. } => false,
        Work::Ask(question) => question.is_quick(),
    }
}
