//! Messages to clients, and their order: invalidations, and the answers that wait for them.

use vellum_storage::{LoadedAt, Origin, Tid};
use vellum_wire::{Message, MessageId, Notice};

use super::calls::Answer;
use super::{Kind, Machine};
use crate::answers;
use crate::event::{ConnectionId, Effect, Info, StorageId};

impl Machine {
    /// A storage finished or packed something.
    pub(super) fn told(&mut self, storage: StorageId, told: vellum_storage::Event) {
        match told {
            vellum_storage::Event::Committed { tid, oids, origin } if tid > self.storages[storage.0].last => {
                self.storages[storage.0].note(tid, oids.clone());
                for running in self.jobs.values_mut().filter(|running| running.storage == storage) {
                    if let Kind::Load { oid, is_stale, .. } = &mut running.kind {
                        *is_stale |= oids.contains(oid);
                    }
                }
                let notice = Notice::Invalidate { tid, oids }.into_message();
                for (connection, client) in &mut self.connections {
                    let connection = *connection;
                    if client.storage != Some(storage) {
                        continue;
                    }
                    if Origin(connection.0) == origin {
                        // The answer to its finish tells it.
                        client.backlog = Some(Vec::new());
                    } else if let Some(backlog) = &mut client.backlog {
                        backlog.push((tid, notice.clone()));
                    } else {
                        let message = notice.clone();
                        self.effects.push(Effect::Send { connection, message });
                        let answers = client.told(tid);
                        self.effects.extend(answers.into_iter().map(|message| Effect::Send { connection, message }));
                    }
                }
                self.send_blobs_of_new_revisions(tid);
            }
            // Their changes are unknown; so each client has to ask, and learns that they are unknown.
            vellum_storage::Event::Copied { last, .. } if last > self.storages[storage.0].last => {
                self.storages[storage.0].forget(last);
                let of_storage = self.connections.iter().filter(|(_, client)| client.storage == Some(storage));
                for connection in of_storage.map(|(connection, _)| *connection).collect::<Vec<_>>() {
                    self.close(connection, "transactions were copied into its storage".to_owned());
                }
            }
            _ => {}
        }
    }

    /// Answers a load, unless its answer is from the future: then it is sent after the invalidation.
    pub(super) fn loaded(&mut self, connection: ConnectionId, reply: Option<MessageId>, loaded: Option<LoadedAt>) {
        let of = loaded.as_ref().map_or(Tid::ZERO, |loaded| loaded.next.unwrap_or(loaded.tid).max(loaded.tid));
        self.answer_after(connection, reply, Ok(answers::loaded(loaded)), of);
    }

    /// Answers a call, but not before the client was told of a transaction.
    pub(super) fn answer_after(&mut self, connection: ConnectionId, reply: Option<MessageId>, answer: Answer, of: Tid) {
        let client = self.connections.get_mut(&connection).expect("it waits for the answer");
        match (reply, client.codec) {
            (Some(MessageId(id)), Some(codec)) if of > client.last => {
                let message = match answer {
                    Ok(value) => Message::reply(id, value),
                    Err(fault) => Message::error(id, fault.into_value(codec)),
                };
                client.held.push((of, message));
            }
            (reply, _) => self.answer(connection, reply, answer),
        }
    }

    /// Reports to a client the transactions that were finished after its own, before it gets the answer to its own.
    pub(super) fn catch_up(&mut self, connection: ConnectionId, tid: Tid) {
        let Some(client) = self.connections.get_mut(&connection) else { return };
        let mut messages = client.told(tid);
        for (tid, notice) in client.backlog.take().unwrap_or_default() {
            messages.push(notice);
            messages.extend(client.told(tid));
        }
        self.effects.extend(messages.into_iter().map(|message| Effect::Send { connection, message }));
        self.send_blobs(connection);
    }

    /// Tells every client of a storage how large it is now.
    pub(super) fn inform(&mut self, storage: StorageId, info: Info) {
        let message = Notice::Info { length: info.length as i64, size: info.size as i64 }.into_message();
        for (connection, client) in &self.connections {
            if client.storage == Some(storage) {
                self.effects.push(Effect::Send { connection: *connection, message: message.clone() });
            }
        }
    }
}
