//! The machine in a real server: it is stepped by whichever thread has an event, under one lock, and its effects are carried
//! out in their order.
//!
//! ```text
//!   link (a task for each client) ── Received ──┐
//!   storage, from the thread that finishes ── Told ──▶ Hub: one lock ─▶ links' queues
//!   blocking threads ── Done ───────────────────┘          └─▶ jobs: here, or on a blocking thread
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use vellum_storage::{Clock, Listening};
use vellum_sync::{Mutex, MutexGuard};
use vellum_wire::{Codec, Message};

use crate::{
    Config, ConnectionId, Description, Effect, Event, Job, JobId, Machine, Served, StorageId, Store, Work, Worker,
};

/// The machine, the worker and the links.
pub(crate) struct Hub {
    core: Mutex<Core>,
    worker: Worker,
    started: Instant,
    runtime: tokio::runtime::Handle,
    /// Nobody is told anything after these are dropped.
    listening: Mutex<Vec<Listening>>,
}

struct Core {
    machine: Machine,
    links: BTreeMap<ConnectionId, Arc<Link>>,
    connection_next: u64,
}

/// What is to be sent to a client.
#[derive(Default)]
pub(crate) struct Link {
    outgoing: Mutex<Outgoing>,
    /// Something is to be sent, or the connection is to be closed.
    pub changed: Notify,
}

/// Messages that wait to be written.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub items: Vec<Item>,
    pub is_closing: bool,
}

/// What is written next.
pub(crate) enum Item {
    Message(Message),
    Frame(String),
    Codec(Codec),
}

impl Link {
    /// Takes what is to be sent.
    pub fn take(&self) -> Outgoing {
        let mut outgoing = self.outgoing.lock();
        Outgoing { items: std::mem::take(&mut outgoing.items), is_closing: outgoing.is_closing }
    }

    fn push(&self, item: Item) {
        self.outgoing.lock().items.push(item);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.outgoing.lock().is_closing = true;
        self.changed.notify_one();
    }
}

/// A storage to be served.
pub struct Offered {
    /// What clients call it.
    pub name: String,
    /// What clients are told of it.
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
        let core = Core { machine: Machine::new(config, Vec::new()), links: BTreeMap::new(), connection_next: 1 };
        let runtime = tokio::runtime::Handle::current();
        let hub = Arc::new(Hub {
            core: Mutex::new(core),
            worker,
            started: Instant::now(),
            runtime: runtime.clone(),
            listening: Mutex::default(),
        });
        // The lock is held until the machine knows the storages: what they tell meanwhile comes after that.
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
            if is_quick(&job.work) {
                let (id, outcome) = (job.id, self.worker.run(job));
                jobs.extend(self.step(&mut self.core(), Event::Done { job: id, outcome }));
            } else {
                let hub = Arc::clone(self);
                self.runtime.spawn_blocking(move || {
                    let (id, outcome) = (job.id, hub.worker.run(job));
                    hub.happen(Event::Done { job: id, outcome });
                });
            }
        }
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
                Effect::SendFrame { connection, frame } => core.push(connection, Item::Frame(frame)),
                Effect::Close { connection, why } => {
                    if let Some(link) = core.links.remove(&connection) {
                        tracing::info!(connection = connection.0, why, "closing a connection");
                        link.close();
                    }
                }
            }
        }
        jobs
    }

    /// A client is gone.
    pub fn disconnect(self: &Arc<Self>, connection: ConnectionId) {
        self.core().links.remove(&connection);
        self.happen(Event::Lost { connection });
    }

    /// Lets time pass.
    pub fn tick(self: &Arc<Self>) {
        self.happen(Event::Tick { now: self.started.elapsed() });
    }

    /// Clients that have a transaction that is voted.
    pub fn voted(&self) -> usize {
        self.core().machine.voted()
    }

    /// Closes all connections, and hears of nothing any more.
    pub fn close(self: &Arc<Self>) {
        let mut core = self.core();
        let links = std::mem::take(&mut core.links);
        for (connection, link) in links {
            link.close();
            let jobs = self.step(&mut core, Event::Lost { connection });
            debug_assert!(jobs.is_empty(), "a client that is gone asks for nothing");
        }
        drop(core);
        let listening = std::mem::take(&mut *self.listening.lock());
        drop(listening);
    }
}

impl Core {
    fn push(&self, connection: ConnectionId, item: Item) {
        if let Some(link) = self.links.get(&connection) {
            link.push(item);
        }
    }
}

/// Whether a job may be done by the thread that serves a client: it reads a little, mostly from the page cache.
fn is_quick(work: &Work) -> bool {
    match work {
        Work::Load { .. } | Work::Measure => true,
        Work::Vote { draft } => draft.changes().len() <= 16,
        Work::Retry | Work::Finish | Work::Pack { .. } => false,
        Work::Ask(question) => question.is_quick(),
    }
}
