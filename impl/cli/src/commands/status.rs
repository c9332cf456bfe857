//! `vellum status`: what a running server is doing, on one screen.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use vellum_server::monitor;
use vellum_server::report::{ClientReport, Percentiles, Report, State};
use vellum_terminal::people::{count, counted, printable, size};
use vellum_terminal::{Failure, Out, Outcome, Run};

/// Show the state of a running server
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum serve Data.fs --monitor 127.0.0.1:8101
  vellum status 127.0.0.1:8101

ADDRESS is that of the server's --monitor, not the one of its clients.

Exit codes: 0 it serves; 1 it starts or ends; 2 no server answers there.

With --json: one object with all figures. Times are in seconds.")]
pub struct Status {
    /// HOST:PORT, as `vellum serve --monitor` has it
    address: String,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Clients on a screen; those with a transaction come first.
const CLIENTS_SHOWN: usize = 20;
/// Calls that take longer are slow.
const SLOW_SECONDS: f64 = 1.0;
const CALLS_SHOWN: usize = 5;

impl Status {
    pub fn run(self, out: &mut Out) -> Run {
        let report = monitor::ask(&self.address).map_err(|error| {
            let what = format!("no status from {}: {error}", self.address);
            Failure::Message(format!("{what}. The address is the one after --monitor, not where clients connect"))
        })?;
        match self.json {
            true => out.json(&report)?,
            false => show(out, &report)?,
        }
        Ok(if report.state == State::Serving { Outcome::Fine } else { Outcome::Problems })
    }
}

fn show(out: &mut Out, report: &Report) -> Run<()> {
    let state = match report.state {
        State::Starting => "starting",
        State::Serving => "serving",
        State::Ending => "ending: no client is accepted",
    };
    out.field("server", format!("{state}, up {}", time(report.uptime_seconds)))?;
    for storage in &report.storages {
        let conflicts = format!("{} ({} resolved)", count(storage.conflicts), count(storage.conflicts_resolved));
        let counts = [
            format!("{} loads", count(storage.loads)),
            format!("{} commits", count(storage.commits)),
            format!("{} aborts", count(storage.aborts)),
            format!("conflicts {conflicts}"),
        ];
        let name = format!("storage {}", printable(&storage.name));
        out.field(&name, format!("last transaction {}; {}", storage.last_transaction, counts.join(", ")))?;
    }
    let unread: u64 = report.clients.iter().map(|client| client.unread).sum();
    let memory = size(report.transactions_in_memory);
    out.field("memory", format!("{memory} of transactions in progress, {} unread by clients", size(unread)))?;
    if report.port_checks > 0 {
        out.field("port checks", count(report.port_checks))?;
    }
    for (name, times) in [
        ("loads", &report.latencies.loads),
        ("votes", &report.latencies.votes),
        ("finishes", &report.latencies.finishes),
    ] {
        out.field(name, percentiles(times))?;
    }
    let slow: Vec<_> = report.calls.iter().filter(|call| call.age_seconds >= SLOW_SECONDS).collect();
    for call in slow.iter().take(CALLS_SHOWN) {
        let who = name_of(report, call.connection);
        out.field("slow call", format!("{} of {who}, for {}", call.what, time(call.age_seconds)))?;
    }
    out.field("clients", counted(report.clients.len() as u64, "client"))?;
    let mut clients: Vec<&ClientReport> = report.clients.iter().collect();
    clients.sort_by_key(|client| client.transaction.is_none());
    for client in clients.iter().take(CLIENTS_SHOWN) {
        writeln!(out, "  {}", line(report, client))?;
    }
    if clients.len() > CLIENTS_SHOWN {
        writeln!(out, "  ... and {} more: --json has all", clients.len() - CLIENTS_SHOWN)?;
    }
    Ok(())
}

/// A client, on one line.
fn line(report: &Report, client: &ClientReport) -> String {
    let storage = client.storage.as_deref().map_or("not registered".to_owned(), printable);
    let mut line = format!("{}  {storage}, since {}", name(client), time(client.connected_seconds));
    if client.is_read_only {
        line.push_str(", only reads");
    }
    if client.calls > 0 {
        line.push_str(&format!(", {}", counted(client.calls as u64, "call")));
    }
    if client.is_paused {
        line.push_str(", not read from: it has asked for enough");
    }
    if client.unread > 0 {
        line.push_str(&format!(", {} unread", size(client.unread)));
    }
    if let Some(transaction) = &client.transaction {
        line.push_str(&format!(", transaction {} for {}", transaction.stage, time(transaction.age_seconds)));
        if transaction.in_memory > 0 {
            line.push_str(&format!(" ({})", size(transaction.in_memory)));
        }
        if let Some(waits_for) = &transaction.waits_for {
            line.push_str(&format!(", waits for {waits_for}"));
        }
        if let Some(holder) = transaction.held_by {
            line.push_str(&format!(", held by {}", name_of(report, holder)));
        }
    }
    line
}

fn name(client: &ClientReport) -> String {
    let address = printable(&client.address);
    match &client.label {
        Some(label) => format!("#{} {} {address}", client.connection, printable(label)),
        None => format!("#{} {address}", client.connection),
    }
}

fn name_of(report: &Report, connection: u64) -> String {
    let client = report.clients.iter().find(|client| client.connection == connection);
    client.map_or(format!("#{connection}, which is gone"), name)
}

fn percentiles(times: &Percentiles) -> String {
    if times.count == 0 {
        return "none".to_owned();
    }
    let of = |name: &str, seconds: f64| format!("{name} {}", short(seconds));
    let all = [
        of("half within", times.p50_seconds),
        of("90 % within", times.p90_seconds),
        of("99 % within", times.p99_seconds),
        of("longest", times.max_seconds),
    ];
    format!("{}: {}", count(times.count), all.join(", "))
}

/// A time that may be very short.
fn short(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// A time in the two largest units.
fn time(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds:.1} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", whole % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_units_that_people_use() {
        let shown = [0.25, 61.0, 3725.0, 200_000.0].map(time);
        assert_eq!(shown, ["0.2 s", "1 min 1 s", "1 h 2 min", "2 d 7 h"]);
        assert_eq!([0.000_012, 0.0123, 2.0].map(short), ["12 µs", "12.3 ms", "2.0 s"]);
    }
}
