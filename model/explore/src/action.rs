//! The things that may happen next.

use std::fmt;

use crate::state::{NAMES, Stage, State};
use crate::store::Name;
use crate::world::World;
use crate::{Situation, Step};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are a client's and a thread's place, and a connection's number")]
pub enum Action {
    /// A thread of an application does its next step.
    Ask { client: usize, thread: usize },
    /// The next message of a connection reaches the server.
    ToServer { link: u64 },
    /// The next message of a connection reaches the client.
    ToClient { link: u64 },
    /// The storage carries out a call.
    Work { name: Name },
    /// The server hears that a call is done.
    Done { name: Name },
    /// The server hears of a finished transaction.
    Told,
    /// The server hears that a vote may be tried again.
    Woken { name: Name },
    /// The server notices that a connection ended.
    ServerLoses { link: u64 },
    /// The client notices that.
    ClientLoses { link: u64 },
    /// A client's pause between two attempts to connect is over.
    Wake { client: usize },
    /// A connection is cut.
    Cut { link: u64 },
    /// The server ends, and another one begins. Transactions that were not told are lost, or not.
    Restart { loses: bool },
    /// The server's time passes.
    ServerTimeout,
    /// A client's time passes.
    ClientTimeout { client: usize },
    /// An answer to a load falls behind the message after it.
    Overtake { link: u64 },
}

impl Action {
    /// Whether it is a failure, of which there are only so many.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Action::Cut { .. }
                | Action::Restart { .. }
                | Action::ServerTimeout
                | Action::ClientTimeout { .. }
                | Action::Overtake { .. }
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let storage = |name: &Name| format!("{} of connection {}", name.place, name.connection);
        match self {
            Action::Ask { client, thread } => write!(f, "{} asks, thread {thread}", NAMES[*client]),
            Action::ToServer { link } => write!(f, "connection {link}: to the server"),
            Action::ToClient { link } => write!(f, "connection {link}: to the client"),
            Action::Work { name } => write!(f, "the storage does call {}", storage(name)),
            Action::Done { name } => write!(f, "the server hears of call {}", storage(name)),
            Action::Told => write!(f, "the server hears of a transaction"),
            Action::Woken { name } => write!(f, "the server hears that vote {} may try again", storage(name)),
            Action::ServerLoses { link } => write!(f, "connection {link}: the server loses it"),
            Action::ClientLoses { link } => write!(f, "connection {link}: the client loses it"),
            Action::Wake { client } => write!(f, "{} tries to connect again", NAMES[*client]),
            Action::Cut { link } => write!(f, "connection {link}: is cut"),
            Action::Restart { loses: false } => write!(f, "the server is started again"),
            Action::Restart { loses: true } => write!(f, "the server is started again, and loses what nobody was told"),
            Action::ServerTimeout => write!(f, "the server's time passes"),
            Action::ClientTimeout { client } => write!(f, "{}'s time passes", NAMES[*client]),
            Action::Overtake { link } => write!(f, "connection {link}: a notice overtakes the answer to a load"),
        }
    }
}

impl World {
    /// All that may happen in a state, in a fixed order. Each of it changes something.
    pub fn enabled(&self, state: &State) -> Vec<Action> {
        let mut enabled = Vec::new();
        if state.broken.is_some() {
            return enabled;
        }
        // First the ends of things, so that a depth-first search is not far from rest.
        for link in &state.links {
            let number = link.number();
            let is_closed_by_client = !link.is_at_client && link.to_server.is_empty();
            let is_closed_by_server = !link.is_at_server && link.to_client.is_empty();
            if link.is_at_server && !link.to_server.is_empty() {
                enabled.push(Action::ToServer { link: number });
            }
            if link.is_at_client && !link.to_client.is_empty() {
                enabled.push(Action::ToClient { link: number });
            }
            if link.is_at_server && (link.is_cut || is_closed_by_client) {
                enabled.push(Action::ServerLoses { link: number });
            }
            if link.is_at_client && (link.is_cut || is_closed_by_server) {
                enabled.push(Action::ClientLoses { link: number });
            }
        }
        enabled.extend(state.store.tasks().into_iter().map(|name| Action::Work { name }));
        enabled.extend(state.store.results().into_iter().map(|name| Action::Done { name }));
        if !state.store.told.is_empty() {
            enabled.push(Action::Told);
        }
        enabled.extend(state.store.woken().into_iter().map(|name| Action::Woken { name }));
        for client in 0..state.clients.len() {
            self.enabled_of_client(state, client, &mut enabled);
        }
        self.enabled_failures(state, &mut enabled);
        enabled
    }

    fn enabled_of_client(&self, state: &State, client: usize, enabled: &mut Vec<Action>) {
        let Situation { clients, .. } = &self.situation;
        let here = &state.clients[client];
        for (n, thread) in here.threads.iter().enumerate() {
            let step = clients[client][n].get(thread.at);
            let may_ask = matches!(
                (&thread.stage, step),
                (Stage::Ready, Some(_)) | (Stage::Voting { .. }, Some(Step::WriteAndAbort(_)))
            );
            if may_ask {
                enabled.push(Action::Ask { client, thread: n });
            }
        }
        let is_connected = state.links.iter().any(|link| link.client == client && link.is_at_client);
        if !is_connected && here.wakes_at.is_some() {
            enabled.push(Action::Wake { client });
        }
    }

    fn enabled_failures(&self, state: &State, enabled: &mut Vec<Action>) {
        if state.left.cuts > 0 {
            let whole = state.links.iter().filter(|link| link.is_at_client && link.is_at_server && !link.is_cut);
            enabled.extend(whole.map(|link| Action::Cut { link: link.number() }));
        }
        if state.left.restarts > 0 {
            enabled.push(Action::Restart { loses: false });
            if !state.store.told.is_empty() {
                enabled.push(Action::Restart { loses: true });
            }
        }
        if state.left.overtakings > 0 {
            let links = state.links.iter().filter(|link| link.is_at_client && link.may_overtake());
            enabled.extend(links.map(|link| Action::Overtake { link: link.number() }));
        }
        if state.left.server_timeouts > 0 && state.server.0.voted() > 0 {
            enabled.push(Action::ServerTimeout);
        }
        if state.left.client_timeouts > 0 {
            let waits = state.clients.iter().enumerate().filter(|(_, client)| {
                client.wakes_at.is_some() && !client.machine.is_quiet() && client.machine.is_ready()
            });
            enabled.extend(waits.map(|(client, _)| Action::ClientTimeout { client }));
        }
    }
}
