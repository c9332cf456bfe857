//! The identity of a state of the machine, for explorers: two states have the same hash if no later event tells them
//! apart.
//!
//! The names of storage calls are left out: they are given in the order of all clients' calls, and states that differ
//! only in that order behave the same. A call is named by its place among those of its connection. Counters, and what
//! is shown to people, are left out, too.

use std::hash::{Hash, Hasher};

use super::{Kind, Machine, Running};
use crate::Served;
use crate::connection::{Connection, Download, Queued, Sending};
use crate::event::{ConnectionId, JobId};
use crate::transaction::{Stage, Transaction};

impl Hash for Machine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Machine {
            config: _,
            storages,
            connections,
            jobs,
            job_next: _,
            now,
            in_memory,
            being_spilled,
            moving,
            is_ending,
            effects: _,
        } = self;
        storages.iter().for_each(|served| hash_storage(served, state));
        (storages.len(), connections.len(), jobs.len()).hash(state);
        for (connection, client) in connections {
            connection.hash(state);
            self.hash_client(*connection, client, state);
            for running in jobs.values().filter(|running| running.connection == *connection) {
                hash_call(running, state);
            }
        }
        for running in jobs.values().filter(|running| !connections.contains_key(&running.connection)) {
            // Of a client that is gone only this is asked.
            (running.connection, matches!(running.kind, Kind::Transaction)).hash(state);
        }
        (now, in_memory, being_spilled, moving, is_ending).hash(state);
    }
}

impl Machine {
    fn hash_client<H: Hasher>(&self, connection: ConnectionId, client: &Connection, state: &mut H) {
        let Connection {
            peer: _,
            since: _,
            label: _,
            codec,
            storage,
            read_only,
            transaction,
            queue,
            queued,
            running,
            slow: _,
            later,
            is_paused,
            uploading,
            downloads,
            prefetches,
            downloading,
            unread,
            unread_since,
            last,
            held,
            backlog,
        } = client;
        (codec, storage, read_only, queued, running, is_paused, uploading).hash(state);
        (prefetches, downloading, unread, unread_since, last, held, backlog).hash(state);
        (transaction.is_some(), queue.len(), downloads.len(), later.len()).hash(state);
        if let Some(transaction) = transaction {
            self.hash_transaction(connection, transaction, state);
        }
        for Queued { reply, call } in queue {
            reply.hash(state);
            call.clone().into_message(None).hash(state);
        }
        for Download { reply, oid, serial, stage } in downloads {
            (reply, oid, serial).hash(state);
            std::mem::discriminant(stage).hash(state);
            match stage {
                Sending::Asked | Sending::Opening => {}
                Sending::Found { length, .. } => length.hash(state),
                Sending::Sent { length, offset, .. } => (length, offset).hash(state),
                Sending::Reading { length, offset, piece, .. } => (length, offset, piece).hash(state),
            }
        }
    }

    fn hash_transaction<H: Hasher>(&self, connection: ConnectionId, transaction: &Transaction, state: &mut H) {
        let Transaction { id, draft, since: _, in_memory, stage, wrong, upload, blobs, resolving } = transaction;
        (id, draft, in_memory, wrong, upload, blobs, resolving).hash(state);
        std::mem::discriminant(stage).hash(state);
        let place = |job: &JobId| {
            let of_client = self.jobs.iter().filter(|(_, running)| running.connection == connection);
            of_client.map(|(id, _)| id).position(|id| id == job)
        };
        match stage {
            Stage::Open => {}
            Stage::Spilling { job } => place(job).hash(state),
            Stage::Uploading { job, bytes, ends } => (place(job), bytes, ends).hash(state),
            Stage::Voting { job, reply, is_woken } => (place(job), reply, is_woken).hash(state),
            Stage::Waiting { job, reply, on } => (place(job), reply, on).hash(state),
            Stage::Voted { since } => since.hash(state),
            Stage::Finishing { job, reply } => (place(job), reply).hash(state),
        }
    }
}

fn hash_storage<H: Hasher>(served: &Served, state: &mut H) {
    served.last.hash(state);
    for invalidation in served.invalidations() {
        (invalidation.tid, &invalidation.oids).hash(state);
    }
}

fn hash_call<H: Hasher>(running: &Running, state: &mut H) {
    let Running { connection: _, storage, reply, kind, since: _, is_slow: _ } = running;
    (storage, reply).hash(state);
    std::mem::discriminant(kind).hash(state);
    match kind {
        Kind::Load { oid, before, is_stale } => (oid, before, is_stale).hash(state),
        Kind::Pack { waits } => waits.hash(state),
        Kind::LoadMany | Kind::Ahead | Kind::Ask | Kind::Info | Kind::Transaction | Kind::Blob => {}
    }
}
