//! The clients' limits of the server's memory, and the reaction to a client beyond them.
//!
//! | what | limit | what happens beyond it |
//! |---|---|---|
//! | records of all transactions in progress | [`Memory::transactions`] | the largest transactions go to scratch files |
//! | calls of a client that are under way or wait | [`Memory::calls`] | the client is not read from until half are done |
//! | slow questions of a client to a storage at a time | 16 | its others wait: each takes a thread |
//! | iterators of a client of each kind | 1000 | the next one is an error |
//! | the name of a call or of a transaction | 1 KiB | the connection is closed; the call is an error |
//! | records in calls that wait | [`Memory::queued`] | the same |
//! | a blob that a client sends, or is sent | [`Memory::blob`] | the client is not read from; no more of it is read |
//! | revisions that a client is sent ahead of its loads | 96 KiB | no more of them are read |
//! | blobs of all clients on their way | [`Memory::blobs`] | each has one piece under way |
//! | unread messages of a client, for some time | [`Memory::unread_soft`] | its connection is cut |
//! | unread messages of a client | [`Memory::unread_hard`] | its connection is cut |
//! | unread messages of all clients together | [`Memory::unread_all`] | the one with most is cut |

use std::time::Duration;

use super::{Kind, Machine};
use crate::event::{ConnectionId, Effect, Outcome, Work};
use crate::transaction::{Stage, Transaction, Wrong};

/// Limits of the memory that clients take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of records that the transactions in progress of all clients keep in memory: 256 MiB.
    pub transactions: u64,
    /// Calls of one client that are under way or wait: 1000.
    pub calls: usize,
    /// Bytes of records in calls of one client that wait: 16 MiB.
    pub queued: u64,
    /// Bytes of a blob that are under way for one client in one direction: 512 KiB.
    pub blob: u64,
    /// Bytes of blobs that are under way for all clients. Beyond that each has one piece under way: 16 MiB.
    pub blobs: u64,
    /// A blob is sent in pieces of so many bytes: 128 KiB.
    pub piece: u64,
    /// Bytes that wait for one client for longer than [`Memory::unread_soft_time`]: 1 MiB.
    pub unread_soft: u64,
    /// So long a client may leave more than [`Memory::unread_soft`]: 60 s.
    pub unread_soft_time: Duration,
    /// Bytes that wait for one client: 64 MiB.
    pub unread_hard: u64,
    /// Bytes that wait for all clients: 256 MiB.
    pub unread_all: u64,
}

/// Slow questions of one client at a time. A thread is taken by each, and commits of others want threads, too.
pub(super) const SLOW_MAX: usize = 16;

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            transactions: 256 << 20,
            calls: 1000,
            queued: 16 << 20,
            blob: 512 << 10,
            blobs: 16 << 20,
            piece: 128 << 10,
            unread_soft: 1 << 20,
            unread_soft_time: Duration::from_secs(60),
            unread_hard: 64 << 20,
            unread_all: 256 << 20,
        }
    }
}

impl Machine {
    /// Bytes of records that transactions keep in memory.
    pub fn transactions_in_memory(&self) -> u64 {
        self.in_memory
    }

    /// Notes that the transaction of a connection keeps so much more in memory, and sends the largest one that takes
    /// changes to a scratch file if all take too much.
    pub(super) fn keeps(&mut self, connection: ConnectionId, bytes: u64) {
        let client = self.connections.get_mut(&connection).expect("it has a transaction");
        client.transaction.as_mut().expect("it takes changes").in_memory += bytes;
        self.in_memory += bytes;
        while self.in_memory - self.being_spilled > self.config.memory.transactions {
            let transactions =
                self.connections.iter().filter_map(|(id, client)| Some((*id, client.transaction.as_ref()?)));
            let open = transactions.filter(|(_, transaction)| transaction.stage == Stage::Open);
            let largest = open.max_by_key(|(_, transaction)| transaction.in_memory);
            let Some((largest, _)) = largest.filter(|(_, transaction)| transaction.in_memory > 0) else { return };
            self.spill(largest);
        }
    }

    /// Has a draft written to a scratch file. Calls of its transaction wait for that.
    fn spill(&mut self, connection: ConnectionId) {
        let client = self.connections.get_mut(&connection).expect("it has a transaction");
        let transaction = client.transaction.as_mut().expect("it is the largest");
        self.being_spilled += transaction.in_memory;
        if let Err(error) = transaction.place_blobs() {
            transaction.wrong.get_or_insert(Wrong(crate::faults::fault(error)));
        }
        let draft = transaction.take_draft();
        let job = self.run(connection, None, Kind::Transaction, Work::Spill { draft });
        self.set_stage(connection, Stage::Spilling { job });
    }

    /// A draft is in a scratch file, or could not be written there: then its vote will say so.
    pub(super) fn spilled(&mut self, connection: ConnectionId, outcome: Outcome) {
        let client = self.connections.get_mut(&connection).expect("it has a transaction");
        let transaction = client.transaction.as_mut().expect("it was spilled");
        let bytes = std::mem::take(&mut transaction.in_memory);
        match outcome {
            Outcome::Spilled { draft } => transaction.draft = draft,
            Outcome::Failed(fault) => _ = transaction.wrong.get_or_insert(Wrong(fault)),
            outcome => unreachable!("a spill does not end with {outcome:?}"),
        }
        self.in_memory -= bytes;
        self.being_spilled -= bytes;
    }

    /// Notes that a transaction is over.
    pub(super) fn keeps_no_more(&mut self, transaction: &Transaction) {
        self.in_memory -= transaction.in_memory;
        if let Stage::Spilling { .. } = transaction.stage {
            self.being_spilled -= transaction.in_memory;
        }
    }

    /// Bytes of blobs that are under way.
    pub fn blobs_in_memory(&self) -> u64 {
        self.moving
    }

    /// Stops or continues reading from a client.
    pub(super) fn pace(&mut self, connection: ConnectionId) {
        let room = self.blob_room();
        let Memory { calls, queued, .. } = self.config.memory;
        let Some(client) = self.connections.get_mut(&connection) else { return };
        let (has, has_bytes) =
            (client.running + client.queue.len() + client.downloads.len() + client.prefetches.len(), client.queued);
        if !client.is_paused && (has > calls || has_bytes > queued || client.uploading > room) {
            client.is_paused = true;
            self.effects.push(Effect::Pause { connection });
        } else if client.is_paused && has <= calls / 2 && has_bytes <= queued / 2 && client.uploading <= room / 2 {
            client.is_paused = false;
            self.effects.push(Effect::Resume { connection });
        }
    }

    /// So much waits for a client to read it.
    pub(super) fn unread(&mut self, connection: ConnectionId, bytes: u64) {
        let Memory { unread_soft, unread_hard, unread_all, .. } = self.config.memory;
        let now = self.now;
        let Some(client) = self.connections.get_mut(&connection) else { return };
        client.unread = bytes;
        client.unread_since = if bytes > unread_soft { client.unread_since.or(Some(now)) } else { None };
        if bytes > unread_hard {
            self.cut(connection, format!("it leaves {bytes} bytes unread"));
        }
        while self.connections.values().map(|client| client.unread).sum::<u64>() > unread_all {
            let most = self.connections.iter().max_by_key(|(_, client)| client.unread);
            let Some((most, bytes)) = most.map(|(id, client)| (*id, client.unread)) else { return };
            self.cut(most, format!("it leaves {bytes} bytes unread, more than any other, and all together too many"));
        }
    }

    /// Cuts the clients that have not read for too long.
    pub(super) fn cut_late_readers(&mut self) {
        let Memory { unread_soft_time, .. } = self.config.memory;
        let is_late = |since: &Duration| self.now.saturating_sub(*since) >= unread_soft_time;
        let late = self.connections.iter().filter(|(_, client)| client.unread_since.as_ref().is_some_and(is_late));
        for (connection, bytes) in late.map(|(id, client)| (*id, client.unread)).collect::<Vec<_>>() {
            let seconds = unread_soft_time.as_secs_f64();
            self.cut(connection, format!("it leaves {bytes} bytes unread, and too many for {seconds} s"));
        }
    }

    /// Ends a connection without sending what waits.
    fn cut(&mut self, connection: ConnectionId, why: String) {
        let Some(client) = self.name_of(connection) else { return };
        self.effects.push(Effect::Cut { connection, client, why });
        self.forget(connection);
    }
}
