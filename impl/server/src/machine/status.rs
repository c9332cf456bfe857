//! The state to report: counters, and the waiting votes.

use std::time::Duration;

use vellum_storage::Busy;
use vellum_wire::Value;

use super::{Kind, Machine, Running};
use crate::answers;
use crate::connection::Connection;
use crate::event::StorageId;
use crate::report::{CallReport, ClientReport, LatencyReport, Report, State, StorageReport, TransactionReport};
use crate::transaction::{Stage, Transaction};
use crate::{Counters, Served};

impl Machine {
    /// The status of one storage, by ZEO's keys in ZEO's order.
    pub(super) fn status_of(&self, storage: StorageId) -> Value {
        let served = &self.storages[storage.0];
        let of_storage = || self.connections.values().filter(|client| client.storage == Some(storage));
        let transactions = || of_storage().filter_map(|client| client.transaction.as_ref());
        let waiting = transactions().filter(|transaction| matches!(transaction.stage, Stage::Waiting { .. })).count();
        let Counters { loads, stores, commits, aborts, conflicts, conflicts_resolved } = served.counters;
        let int = |number: u64| Value::Int(number as i64);
        let pairs = [
            ("connections", int(of_storage().count() as u64)),
            ("loads", int(loads)),
            ("stores", int(stores)),
            ("commits", int(commits)),
            ("aborts", int(aborts)),
            ("active_txns", int(transactions().count() as u64)),
            ("lock_time", Value::None),
            ("conflicts", int(conflicts)),
            ("conflicts_resolved", int(conflicts_resolved)),
            ("start", Value::Text(self.config.started.clone())),
            ("waiting", int(waiting as u64)),
            (
                "timeout-thread-is-alive",
                match self.config.transaction_timeout {
                    Some(_) => Value::Bool(true),
                    None => answers::text("stub"),
                },
            ),
            ("last-transaction", Value::Text(served.last.to_string())),
        ];
        Value::Dict(pairs.map(|(key, value)| (answers::text(key), value)).to_vec())
    }

    /// The status of all storages as JSON.
    pub(super) fn status(&self) -> String {
        let each = self.storages.iter().enumerate().map(|(n, served)| {
            let Value::Dict(pairs) = self.status_of(StorageId(n)) else { unreachable!("it is a dict") };
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", json(key), json(value)));
            format!("{}: {{{}}}", json(&Value::Text(served.name.clone())), pairs.collect::<Vec<_>>().join(", "))
        });
        format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
    }

    /// The state to report. The storages know the holders of the locks.
    pub fn report(&self) -> Report {
        let seconds = |since: Duration| self.now.saturating_sub(since).as_secs_f64();
        let clients = self.connections.iter().map(|(connection, client)| ClientReport {
            connection: connection.0,
            label: client.label.clone(),
            address: client.peer.clone(),
            storage: client.storage.map(|storage| self.storages[storage.0].name.clone()),
            is_read_only: client.read_only,
            connected_seconds: seconds(client.since),
            calls: client.running + client.queue.len(),
            is_paused: client.is_paused,
            unread: client.unread,
            transaction: client.transaction.as_ref().map(|transaction| TransactionReport {
                stage: transaction.stage.name().to_owned(),
                age_seconds: seconds(transaction.since),
                in_memory: transaction.in_memory,
                waits_for: match &transaction.stage {
                    Stage::Waiting { on, .. } => Some(on.to_string()),
                    _ => None,
                },
                held_by: None,
            }),
        });
        let at_work = |running: &&Running| match self.connections.get(&running.connection) {
            // A vote that waits is no work.
            Some(Connection { transaction: Some(Transaction { stage: Stage::Waiting { .. }, .. }), .. }) => {
                !matches!(running.kind, Kind::Transaction)
            }
            _ => true,
        };
        let calls = self.jobs.values().filter(at_work).map(|running| CallReport {
            connection: running.connection.0,
            what: running.kind.name().to_owned(),
            age_seconds: seconds(running.since),
        });
        Report {
            state: if self.is_ending { State::Ending } else { State::Serving },
            uptime_seconds: self.now.as_secs_f64(),
            storages: self.storages.iter().map(storage).collect(),
            clients: clients.collect(),
            transactions_in_memory: self.in_memory,
            calls: calls.collect(),
            latencies: LatencyReport::default(),
            port_checks: 0,
        }
    }

    /// The waiting votes: the name of each client, and the lock that it waits for.
    pub fn waiting(&self) -> Vec<(String, Busy)> {
        let waiting =
            self.connections.values().filter_map(|client| match client.transaction.as_ref().map(|t| &t.stage) {
                Some(Stage::Waiting { on, .. }) => Some((client.name().to_owned(), on.clone())),
                _ => None,
            });
        waiting.collect()
    }
}

fn storage(served: &Served) -> StorageReport {
    let Counters { loads, stores, commits, aborts, conflicts, conflicts_resolved } = served.counters;
    StorageReport {
        name: served.name.clone(),
        last_transaction: served.last.to_string(),
        loads,
        stores,
        commits,
        aborts,
        conflicts,
        conflicts_resolved,
    }
}

/// A status's value as JSON, in ASCII as Python writes it.
fn json(value: &Value) -> String {
    match value {
        Value::None => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => {
            let escaped = text.encode_utf16().map(|unit| match unit {
                0x22 => "\\\"".to_owned(),
                0x5c => "\\\\".to_owned(),
                0x20..=0x7e => char::from(unit as u8).to_string(),
                unit => format!("\\u{unit:04x}"),
            });
            format!("\"{}\"", escaped.collect::<String>())
        }
        other => unreachable!("a status has no {other:?}"),
    }
}
