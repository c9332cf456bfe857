//! A report in Prometheus' text format.

use std::fmt::Write;

use crate::report::{Percentiles, Report, StorageReport};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// A name, what it counts, and where that is.
type Counter = (&'static str, &'static str, fn(&StorageReport) -> u64);

const COUNTERS: [Counter; 6] = [
    ("loads", "Loads of objects", |storage| storage.loads),
    ("stores", "Changes of objects that arrived", |storage| storage.stores),
    ("commits", "Transactions that were finished", |storage| storage.commits),
    ("aborts", "Transactions that were aborted", |storage| storage.aborts),
    ("conflicts", "Votes that were refused for a conflict", |storage| storage.conflicts),
    ("conflicts_resolved", "Conflicts that were resolved", |storage| storage.conflicts_resolved),
];

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for (name, help, count) in COUNTERS {
        head(&mut text, &format!("{name}_total"), "counter", help);
        for storage in &report.storages {
            let (label, count) = (escape(&storage.name), count(storage));
            let _ = writeln!(text, "vellum_{name}_total{{storage=\"{label}\"}} {count}");
        }
    }
    let transactions = || report.clients.iter().filter_map(|client| client.transaction.as_ref());
    let in_stage = |stage: &str| transactions().filter(|transaction| transaction.stage == stage).count() as f64;
    let oldest = transactions().map(|transaction| transaction.age_seconds).fold(0.0, f64::max);
    for (name, kind, help, value) in [
        ("uptime_seconds", "gauge", "Time since the start", report.uptime_seconds),
        ("clients", "gauge", "Connected clients", report.clients.len() as f64),
        ("transactions", "gauge", "Transactions in progress", transactions().count() as f64),
        ("transactions_waiting", "gauge", "Votes that wait for another transaction", in_stage("waiting")),
        ("transactions_voted", "gauge", "Transactions that are voted and hold their objects", in_stage("voted")),
        ("transaction_oldest_seconds", "gauge", "Age of the oldest transaction in progress", oldest),
        (
            "transactions_memory_bytes",
            "gauge",
            "Records that transactions in progress keep in memory",
            report.transactions_in_memory as f64,
        ),
        ("calls", "gauge", "Calls that storages work on", report.calls.len() as f64),
        (
            "unread_bytes",
            "gauge",
            "Bytes that wait for clients to read them",
            report.clients.iter().map(|client| client.unread).sum::<u64>() as f64,
        ),
        ("port_checks_total", "counter", "Connections that ended without a word", report.port_checks as f64),
    ] {
        head(&mut text, name, kind, help);
        let _ = writeln!(text, "vellum_{name} {value}");
    }
    let latencies = &report.latencies;
    for (name, help, times) in [
        ("load_seconds", "How long loads took", &latencies.loads),
        ("vote_seconds", "How long first phases took", &latencies.votes),
        ("finish_seconds", "How long second phases took", &latencies.finishes),
    ] {
        head(&mut text, name, "summary", help);
        let Percentiles { count, sum_seconds, p50_seconds, p90_seconds, p99_seconds, .. } = times;
        for (quantile, value) in [("0.5", p50_seconds), ("0.9", p90_seconds), ("0.99", p99_seconds)] {
            let _ = writeln!(text, "vellum_{name}{{quantile=\"{quantile}\"}} {value}");
        }
        let _ = writeln!(text, "vellum_{name}_sum {sum_seconds}\nvellum_{name}_count {count}");
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP vellum_{name} {help}.\n# TYPE vellum_{name} {kind}");
}

/// A label's value: the format knows three characters that cannot stand for themselves.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
