//! What there is to see: counters, and who waits for what.

use vellum_storage::Busy;
use vellum_wire::Value;

use super::Machine;
use crate::Counters;
use crate::answers;
use crate::event::StorageId;
use crate::transaction::Stage;

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

    /// Who waits for what: of each client whose vote waits, its name, and what it waits for.
    pub fn waiting(&self) -> Vec<(String, Busy)> {
        let waiting =
            self.connections.values().filter_map(|client| match client.transaction.as_ref().map(|t| &t.stage) {
                Some(Stage::Waiting { on, .. }) => {
                    Some((client.label.clone().unwrap_or(client.peer.clone()), on.clone()))
                }
                _ => None,
            });
        waiting.collect()
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
