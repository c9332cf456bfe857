//! A state of the world: the machines that ship, what is on its way between them, and what was promised to whom.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use vellum_client::{ConnectionId as Line, PromiseId, TransactionId};
use vellum_server::ConnectionId;
use vellum_storage::{Oid, Tid};
use vellum_wire::{Message, Value};

use crate::part::Part;
use crate::store::Store;

/// The clients' names.
pub const NAMES: [&str; 4] = ["ann", "bob", "cid", "dee"];

/// A state.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The server's machine.
    pub server: Part<ServerPart>,
    /// The storage behind it.
    pub store: Part<Store>,
    /// The clients.
    pub clients: Vec<Part<Client>>,
    /// The connections, the earliest first.
    pub links: Vec<Part<Link>>,
    /// Connections that were made.
    pub connections: u64,
    /// The failures that may still happen.
    pub left: Failures,
    /// The rule that was broken by the last step.
    pub broken: Option<Broken>,
}

/// The server's machine. It is hashed, and never compared in another way.
#[derive(Clone, Hash)]
pub struct ServerPart(pub vellum_server::Machine);

/// How often failures may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are those of a situation")]
pub struct Failures {
    pub cuts: u8,
    pub restarts: u8,
    pub server_timeouts: u8,
    pub client_timeouts: u8,
    pub overtakings: u8,
}

/// A client, and the application behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// The machine.
    pub machine: vellum_client::Machine,
    /// When it wants to be woken.
    pub wakes_at: Option<Duration>,
    /// The application's threads.
    pub threads: Vec<Thread>,
    /// The questions without an answer.
    pub open: BTreeSet<PromiseId>,
    /// The last transaction that listeners were told of.
    pub told: Option<Tid>,
    /// The transactions, with their ends.
    pub fates: Vec<Fate>,
}

/// A thread of an application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    /// The step of its script that is under way, or is next.
    pub at: usize,
    /// The answer that it waits for.
    pub stage: Stage,
    /// The questions that it has asked.
    pub asked: u64,
}

/// The answer that a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are named as their types")]
pub enum Stage {
    /// Nothing: the next step may begin.
    Ready,
    /// A load that is a step of its own.
    Loading(Asked),
    /// A load of all objects, and what its client knew when it was asked.
    Fetching { promise: PromiseId, knew: Option<Tid> },
    /// A load before a change; with the tids that earlier ones found.
    Reading(Asked, Vec<Tid>),
    /// The beginning of a transaction.
    Beginning { promise: PromiseId, serials: Vec<Tid> },
    /// A vote.
    Voting { promise: PromiseId, transaction: TransactionId },
    /// A finish.
    Finishing { promise: PromiseId },
    /// The end of a transaction that is given up.
    Aborting { promise: PromiseId },
    /// Anything else.
    Waiting { promise: PromiseId },
}

/// A load, and what its client knew when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Its name.
    pub promise: PromiseId,
    /// The object.
    pub oid: Oid,
    /// The moment that was asked for; none for now.
    pub before: Option<Tid>,
    /// The last transaction that the client knew.
    pub knew: Option<Tid>,
}

/// A transaction that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fate {
    /// The object that it writes.
    pub oid: Oid,
    /// The record, which no other transaction writes.
    pub data: Vec<u8>,
    /// Its end.
    pub end: End,
}

/// The end of a transaction, as its application was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Nothing yet.
    Open,
    /// It is finished.
    Finished(Tid),
    /// It left no trace.
    Gone,
    /// It is not known.
    Unknown,
}

/// A connection: two queues, which can be cut at any point. Its messages never arrive by another.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Link {
    /// Its name at the server.
    pub at_server: ConnectionId,
    /// The client, by its place.
    pub client: usize,
    /// Its name at the client.
    pub line: Line,
    /// Messages on their way to the server.
    pub to_server: VecDeque<Message>,
    /// Messages on their way to the client.
    pub to_client: VecDeque<Message>,
    /// Whether the server has it.
    pub is_at_server: bool,
    /// Whether the client has it.
    pub is_at_client: bool,
    /// Whether it is cut: what is on its way may arrive, and nothing more gets into it.
    pub is_cut: bool,
}

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A record was read that was never there, or not then.
    NeverWas,
    /// A record was read that is older than what the client was told.
    Old,
    /// An answer is from a transaction that the client was not told of.
    Future,
    /// The cache has something stale.
    Stale,
    /// A commit was told twice, out of order, or not.
    Told,
    /// A transaction that left no trace left one; or one is there twice.
    Trace,
    /// A finished transaction is not there.
    Lost,
    /// Something is kept for a client that is gone.
    Lock,
    /// A question was answered that is not open.
    Answered,
    /// A thread waits, and nothing goes on.
    Waits,
    /// A client does not know the last transaction, though nothing is on its way.
    Behind,
    /// A client connects again and again.
    Endless,
    /// A client closed the connection of a server for what it said.
    Disbelieved,
    /// A machine panicked.
    Panic,
    /// A load was refused for no reason.
    Refused,
    /// A server's answer is older than what its client was told, or tells of what that was not told.
    Server,
}

impl Broken {
    /// All of them.
    pub const ALL: [Broken; 16] = [
        Broken::NeverWas,
        Broken::Old,
        Broken::Future,
        Broken::Stale,
        Broken::Told,
        Broken::Trace,
        Broken::Lost,
        Broken::Lock,
        Broken::Answered,
        Broken::Waits,
        Broken::Behind,
        Broken::Endless,
        Broken::Disbelieved,
        Broken::Panic,
        Broken::Refused,
        Broken::Server,
    ];

    /// The rule, in words.
    pub fn rule(self) -> &'static str {
        match self {
            Broken::NeverWas => "a client never reads a state that never was",
            Broken::Old => "nothing that a client reads is older than what it was told",
            Broken::Future => "no answer is from a transaction that the client was not told of",
            Broken::Stale => "a cache has nothing stale, also after a reconnection",
            Broken::Told => "every commit is told to every client, once and in order",
            Broken::Trace => "an aborted or lost transaction leaves no trace, and a finished one is there once",
            Broken::Lost => "a transaction that a client was told is finished is there",
            Broken::Lock => "no lock outlives its owner",
            Broken::Answered => "a promise is resolved once",
            Broken::Waits => "nobody waits for ever",
            Broken::Behind => "at rest every client knows the last transaction",
            Broken::Endless => "a client connects again only if its connection ended",
            Broken::Disbelieved => "a client believes all that a server says",
            Broken::Panic => "no machine panics",
            Broken::Refused => "a load of an object that is there is answered",
            Broken::Server => "a server answers no load with what is older or newer than what it told the client",
        }
    }
}

impl Link {
    /// Whether the next message to the client is an answer to a load, and a notice comes after it.
    pub fn may_overtake(&self) -> bool {
        match (self.to_client.front(), self.to_client.get(1)) {
            (Some(first), Some(second)) => {
                matches!(&first.args, Value::Tuple(parts) if parts.len() == 3)
                    && first.name.as_text() == Some(".reply")
                    && second.is_one_way()
            }
            _ => false,
        }
    }

    /// Its name for people.
    pub fn number(&self) -> u64 {
        self.at_server.0
    }
}

/// Short: the explorer shows it for each state that can follow.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(broken) = self.broken {
            writeln!(f, "BROKEN: {}", broken.rule())?;
        }
        writeln!(f, "the last transaction: {}", self.store.database.last_transaction())?;
        for (n, client) in self.clients.iter().enumerate() {
            let last = client.machine.last().map_or("none".to_owned(), |last| last.0.to_string());
            let ready = if client.machine.is_ready() { "" } else { ", no server" };
            writeln!(f, "{}: knows {last}{ready}", NAMES[n])?;
            for thread in &client.threads {
                writeln!(f, "  step {}: {:?}", thread.at, thread.stage)?;
            }
        }
        for link in &self.links {
            let cut = if link.is_cut { " (cut)" } else { "" };
            writeln!(f, "connection {} of {}{cut}", link.number(), NAMES[link.client])?;
            for message in &link.to_server {
                writeln!(f, "  -> {}", vellum_network::show(message))?;
            }
            for message in &link.to_client {
                writeln!(f, "  <- {}", vellum_network::show(message))?;
            }
        }
        for name in self.store.tasks() {
            writeln!(f, "the storage is to {} for connection {}", self.store.show_task(name), name.connection)?;
        }
        write!(f, "{:?}", self.left)
    }
}
