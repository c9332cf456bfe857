//! Clients come, greet and go. Nothing of a client outlives it.

use vellum_wire::Greeting;

use super::Machine;
use crate::event::{ConnectionId, Effect};
use crate::transaction::Stage;

impl Machine {
    pub(super) fn greeted(&mut self, connection: ConnectionId, greeting: Greeting) {
        let Some(client) = self.connections.get_mut(&connection) else { return };
        match greeting {
            Greeting::Speaks(codec) => {
                client.codec = Some(codec);
                self.effects.push(Effect::Speak { connection, codec });
            }
            Greeting::Status => {
                let frame = self.status();
                self.effects.push(Effect::SendFrame { connection, frame });
                self.close(connection, "it asked for the status".to_owned());
            }
            Greeting::Unknown(frame) => {
                self.close(connection, format!("bad handshake {:?}", frame.escape_ascii().to_string()))
            }
        }
    }

    /// Closes a connection from this side.
    pub(super) fn close(&mut self, connection: ConnectionId, why: String) {
        self.end_connection(connection, why, false);
    }

    /// Closes the connection of a client that held up others.
    pub(super) fn close_for_trouble(&mut self, connection: ConnectionId, why: String) {
        self.end_connection(connection, why, true);
    }

    fn end_connection(&mut self, connection: ConnectionId, why: String, is_trouble: bool) {
        if let Some(client) = self.name_of(connection) {
            self.effects.push(Effect::Close { connection, client, why, is_trouble });
            self.forget(connection);
        }
    }

    /// A client's name: its label and its address, or its address alone. None if it is not there.
    pub fn name_of(&self, connection: ConnectionId) -> Option<String> {
        self.connections.get(&connection).map(|client| match &client.label {
            Some(label) => format!("{label} {}", client.peer),
            None => client.peer.clone(),
        })
    }

    /// Closes the connections that have nothing to be finished.
    pub(super) fn close_what_is_not_voted(&mut self) {
        let idle = self.connections.iter().filter(|(_, client)| {
            let stage = client.transaction.as_ref().map(|transaction| &transaction.stage);
            !matches!(stage, Some(Stage::Voting { .. } | Stage::Voted { .. } | Stage::Finishing { .. }))
        });
        for connection in idle.map(|(connection, _)| *connection).collect::<Vec<_>>() {
            self.close(connection, "the server ends".to_owned());
        }
    }

    /// Drops a connection with everything that it has.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let Some(client) = self.connections.remove(&connection) else { return };
        self.moving -= client.uploading + client.downloading;
        client.later.iter().for_each(|job| _ = self.jobs.remove(&job.id));
        if let (Some(transaction), Some(storage)) = (&client.transaction, client.storage) {
            self.keeps_no_more(transaction);
            self.storages[storage.0].counters.aborts += 1;
            match transaction.stage {
                // A running call of a storage is dropped when it is done.
                Stage::Spilling { .. } | Stage::Uploading { .. } | Stage::Voting { .. } | Stage::Finishing { .. } => {
                    return;
                }
                Stage::Waiting { job, .. } => _ = self.jobs.remove(&job),
                Stage::Open | Stage::Voted { .. } => {}
            }
        }
        self.effects.push(Effect::Forget { connection });
    }
}
