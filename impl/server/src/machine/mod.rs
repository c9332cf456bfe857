//! The protocol: what each event does.

mod ahead;
mod blobs;
mod calls;
mod connections;
mod identity;
mod limits;
mod status;
mod telling;
mod transactions;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use vellum_storage::{Oid, Tid};
use vellum_wire::{Call, Extension, MessageId, PlainLoad, Value};

pub use self::limits::Memory;
use crate::Served;
use crate::answers;
use crate::connection::Connection;
use crate::event::{ConnectionId, Effect, Event, JobId, Outcome, StorageId, Work};
use crate::transaction::{Stage, Transaction};

/// The operator's choices.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether clients may only read.
    pub is_read_only: bool,
    /// A transaction that is voted for longer than this is aborted, and its connection is closed.
    pub transaction_timeout: Option<Duration>,
    /// Whether a client is asked to merge what the storage cannot.
    pub clients_resolve: bool,
    /// Whether clients are offered more than ZEO has. The calls are there in either case.
    pub offers_extensions: bool,
    /// When the server was started, as ZEO says it.
    pub started: String,
    /// The clients' limits of its memory.
    pub memory: Memory,
}

/// The server, without its network: see the crate's documentation.
#[derive(Clone, Debug)]
pub struct Machine {
    config: Config,
    storages: Vec<Served>,
    connections: BTreeMap<ConnectionId, Connection>,
    jobs: BTreeMap<JobId, Running>,
    job_next: u64,
    now: Duration,
    /// Bytes of records that transactions keep in memory.
    in_memory: u64,
    /// Those of them that are being written to scratch files.
    being_spilled: u64,
    /// Bytes of blobs that are on their way between clients and storages.
    moving: u64,
    is_ending: bool,
    effects: Vec<Effect>,
}

/// A call of a storage that is under way.
#[derive(Clone, Debug)]
struct Running {
    connection: ConnectionId,
    storage: StorageId,
    reply: Option<MessageId>,
    kind: Kind,
    /// When it was asked for.
    since: Duration,
    is_slow: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A load; whether its object was changed since it began.
    Load { oid: Oid, before: Tid, is_stale: bool },
    /// Many loads.
    LoadMany,
    /// A piece of a prefetch; the first of its client's prefetches has the rest.
    Ahead,
    /// A question whose answer is sent as it is.
    Ask,
    /// The size of the storage, which is sent with its description.
    Info,
    /// A step of a transaction; its stage has the rest.
    Transaction,
    /// A blob that is being sent; the first of its client's downloads has the rest.
    Blob,
    /// A pack; whether its caller waits for it.
    Pack { waits: bool },
}

impl Kind {
    /// Its name, for people.
    fn name(&self) -> &'static str {
        match self {
            Kind::Load { .. } => "load",
            Kind::LoadMany => "many loads",
            Kind::Ahead => "prefetch",
            Kind::Ask => "question",
            Kind::Info => "info",
            Kind::Transaction => "transaction",
            Kind::Blob => "blob",
            Kind::Pack { .. } => "pack",
        }
    }
}

impl Machine {
    /// A server of these storages, without clients.
    pub fn new(config: Config, storages: Vec<Served>) -> Machine {
        Machine {
            config,
            storages,
            connections: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_next: 0,
            now: Duration::ZERO,
            in_memory: 0,
            being_spilled: 0,
            moving: 0,
            is_ending: false,
            effects: Vec::new(),
        }
    }

    /// Serves one more storage.
    pub fn serve(&mut self, served: Served) {
        self.storages.push(served);
    }

    /// Clients that have a transaction that is voted, or is being finished.
    pub fn voted(&self) -> usize {
        let stages = self.connections.values().filter_map(|client| client.transaction.as_ref());
        stages.filter(|transaction| matches!(transaction.stage, Stage::Voted { .. } | Stage::Finishing { .. })).count()
    }

    /// Whether no client is connected and no call is under way.
    pub fn is_quiet(&self) -> bool {
        self.connections.is_empty() && self.jobs.is_empty()
    }

    /// Lets an event happen.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Connected { connection, peer } => {
                self.connections.insert(connection, Connection::new(peer, self.now));
            }
            Event::Greeted { connection, greeting } => self.greeted(connection, greeting),
            Event::Received { connection, message } => self.received(connection, message),
            Event::Load { connection, load: PlainLoad { id, oid, before } } => {
                self.called(connection, Some(MessageId(Value::Int(id))), Call::LoadBefore { oid, before });
            }
            Event::Malformed { connection, why } => self.close(connection, why),
            Event::Lost { connection } => self.forget(connection),
            Event::Told { storage, told } => self.told(storage, told),
            Event::Done { job, outcome } => self.job_done(job, outcome),
            Event::Woken { job } => self.woken(job),
            Event::PieceSent { connection, bytes } => self.piece_sent(connection, bytes),
            Event::Unread { connection, bytes } => self.unread(connection, bytes),
            Event::End => self.is_ending = true,
            Event::Tick { now } => self.tick(now),
        }
        if self.is_ending {
            self.close_what_is_not_voted();
        }
        std::mem::take(&mut self.effects)
    }

    fn job_done(&mut self, job: JobId, outcome: Outcome) {
        let Some(Running { connection, storage, reply, kind, is_slow, .. }) = self.jobs.remove(&job) else { return };
        if let Outcome::Packed { info } = outcome {
            self.inform(storage, info);
        }
        let Some(client) = self.connections.get_mut(&connection) else {
            // Its client is gone, and what the storage has of it goes now.
            if matches!(kind, Kind::Transaction) {
                self.effects.push(Effect::Forget { connection });
            }
            return;
        };
        client.running -= 1;
        if is_slow {
            match client.later.pop_front() {
                Some(next) => self.effects.push(Effect::Run(next)),
                None => client.slow -= 1,
            }
        }
        match (kind, outcome) {
            (Kind::Load { oid, before, is_stale: true }, _) => {
                // The object was changed during the load: the result may be older than this client's view.
                let kind = Kind::Load { oid, before, is_stale: false };
                self.run(connection, reply, kind, Work::Load { oid, before });
            }
            (Kind::Load { .. }, Outcome::Loaded(loaded)) => self.loaded(connection, reply, loaded),
            (Kind::LoadMany, Outcome::LoadedMany(found)) => self.loaded_many(connection, reply, found),
            (Kind::Ahead, outcome) => self.reached(connection, outcome),
            (Kind::Info, Outcome::Measured(info)) => {
                let served = &self.storages[storage.0];
                let is_offered = |extension: &Extension| match extension {
                    Extension::LoadMany | Extension::Prefetch => self.config.offers_extensions,
                    Extension::Versions => self.config.offers_extensions && served.has_versions,
                };
                let extensions: Vec<_> = Extension::ALL.into_iter().filter(is_offered).collect();
                let value = answers::info(info, &served.description, &extensions);
                self.answer(connection, reply, Ok(value));
            }
            (Kind::Ask, Outcome::Answer(value)) => self.answer(connection, reply, Ok(value)),
            (Kind::Ask, Outcome::AnswerAfter(answer, of)) => self.answer_after(connection, reply, answer, of),
            (Kind::Pack { waits: true }, Outcome::Packed { .. }) => self.answer(connection, reply, Ok(Value::None)),
            (Kind::Pack { waits: false }, _) => {}
            (Kind::Blob, outcome) => self.blob_done(connection, outcome),
            (Kind::Transaction, outcome) => {
                self.transaction_done(connection, job, outcome);
                self.go_on(connection);
            }
            (_, Outcome::Failed(fault)) => self.answer(connection, reply, Err(fault)),
            (kind, outcome) => unreachable!("{kind:?} does not result in {outcome:?}"),
        }
        self.pace(connection);
    }

    fn tick(&mut self, now: Duration) {
        self.now = now;
        self.cut_late_readers();
        let Some(timeout) = self.config.transaction_timeout else { return };
        let late = self.connections.iter().filter(|(_, client)| match &client.transaction {
            Some(Transaction { stage: Stage::Voted { since }, .. }) => now.saturating_sub(*since) >= timeout,
            _ => false,
        });
        for connection in late.map(|(connection, _)| *connection).collect::<Vec<_>>() {
            let why = format!("its transaction was voted {} s ago, and not finished", timeout.as_secs_f64());
            self.close_for_trouble(connection, why);
        }
    }
}
