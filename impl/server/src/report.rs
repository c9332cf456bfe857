//! The report of a running server to its operator.

use serde::{Deserialize, Serialize};

/// Everything, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether it serves.
    pub state: State,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// The storages, in the order of the configuration.
    pub storages: Vec<StorageReport>,
    /// The clients, the longest connected first.
    pub clients: Vec<ClientReport>,
    /// Bytes of records that transactions in progress keep in memory.
    pub transactions_in_memory: u64,
    /// Calls that a storage works on, the oldest first.
    pub calls: Vec<CallReport>,
    /// How long storages took.
    pub latencies: LatencyReport,
    /// Connections that were closed by a client that had not said a word.
    pub port_checks: u64,
}

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It opens its storages.
    Starting,
    /// It serves clients.
    Serving,
    /// It accepts no client, and finishes voted transactions.
    Ending,
}

/// A storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of ZEO's status")]
pub struct StorageReport {
    /// Its name for clients.
    pub name: String,
    /// The last transaction that clients were told of.
    pub last_transaction: String,
    pub loads: u64,
    pub stores: u64,
    pub commits: u64,
    pub aborts: u64,
    pub conflicts: u64,
    pub conflicts_resolved: u64,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientReport {
    /// The number of its connection.
    pub connection: u64,
    /// Its label, which it chooses.
    pub label: Option<String>,
    /// Where it is.
    pub address: String,
    /// Its storage; none before it has registered.
    pub storage: Option<String>,
    /// Whether it may only read.
    pub is_read_only: bool,
    /// Seconds since it connected.
    pub connected_seconds: f64,
    /// Calls that storages work on, or that wait for that.
    pub calls: usize,
    /// Whether it is not read from, because it has asked for enough.
    pub is_paused: bool,
    /// Bytes that wait for it to read them.
    pub unread: u64,
    /// Its transaction.
    pub transaction: Option<TransactionReport>,
}

/// A transaction in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransactionReport {
    /// How far it is: open, spilling, uploading, voting, waiting, voted, finishing.
    pub stage: String,
    /// Seconds since it began.
    pub age_seconds: f64,
    /// Bytes of records that it keeps in memory.
    pub in_memory: u64,
    /// The lock that it waits for.
    pub waits_for: Option<String>,
    /// The connection of the client that holds that.
    pub held_by: Option<u64>,
}

/// A call that a storage works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// The connection of its client.
    pub connection: u64,
    /// The call.
    pub what: String,
    /// Seconds since it was asked for.
    pub age_seconds: f64,
}

/// How long storages took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Loads of objects.
    pub loads: Percentiles,
    /// First phases of transactions.
    pub votes: Percentiles,
    /// Second phases of transactions.
    pub finishes: Percentiles,
}

/// How long something took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say all")]
pub struct Percentiles {
    pub count: u64,
    pub sum_seconds: f64,
    pub p50_seconds: f64,
    pub p90_seconds: f64,
    pub p99_seconds: f64,
    pub max_seconds: f64,
}
