//! `vellum nagios`: a check of a server, with the options, answers and exit codes of ZEO's `zeo-nagios`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use vellum_server::Address;
use vellum_terminal::{Out, Outcome, Run};

use crate::client::{Connection, Trouble, system_error};
use crate::python::{float, repr};

/// Check a ZEO server, as ZEO's `zeo-nagios` does
#[derive(Args)]
#[command(after_help = "\
It works with any server that speaks ZEO's protocol, and needs none of its storages.

Exit codes: 0 all is well; 1 a storage is empty, or there is none; 2 no server
answers. Rates are printed from the second run with the same status file on.")]
pub struct Nagios {
    /// HOST:PORT, [IPV6]:PORT, or the path of a Unix socket; without one, 127.0.0.1 with the
    /// port of the variable ZEO_PORT, or 8100
    address: Option<String>,
    /// Print numbers, too
    #[arg(short = 'm', long)]
    output_metrics: bool,
    /// A file that keeps the numbers for the next run; rates need it
    #[arg(short, long, value_name = "PATH")]
    status_path: Option<PathBuf>,
    /// The unit of time of rates
    #[arg(short = 'u', long, value_enum, default_value_t = Unit::Minutes)]
    time_units: Unit,
    /// Accept an empty storage, as a new one is
    #[arg(long)]
    accept_empty: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Unit {
    Seconds,
    Minutes,
    Hours,
    Days,
}

/// The numbers of a storage, by name.
type Storages = BTreeMap<String, Map<String, Value>>;

/// Numbers that are told as they are, and numbers of which the change is told.
const LEVELS: [&str; 3] = ["active_txns", "connections", "waiting"];
const COUNTERS: [&str; 6] = ["aborts", "commits", "conflicts", "conflicts_resolved", "loads", "stores"];
const NO_TRANSACTION: &str = "0000000000000000";
const ANSWER_MAX: Duration = Duration::from_secs(10);

impl Nagios {
    pub fn run(self, out: &mut Out) -> Run {
        let asked = self.address();
        match ask(&address(&asked)) {
            Ok(storages) => self.tell(out, storages),
            Err(trouble) => {
                match trouble {
                    Trouble::Connection(error) => writeln!(out, "Can't connect {}", system_error(&error))?,
                    other => writeln!(out, "Can't read the status: {other}")?,
                }
                out.flush()?;
                // Nagios reads standard output only, so nothing is said elsewhere.
                std::process::exit(2);
            }
        }
    }

    fn address(&self) -> String {
        let port = || std::env::var("ZEO_PORT").unwrap_or_else(|_| "8100".to_owned());
        self.address.clone().unwrap_or_else(|| format!("127.0.0.1:{}", port()))
    }

    fn tell(&self, out: &mut Out, mut storages: Storages) -> Run {
        if storages.is_empty() {
            writeln!(out, "No storages")?;
            return Ok(Outcome::Problems);
        }
        let mut metrics = Vec::new();
        if self.output_metrics {
            for (name, numbers) in &storages {
                metrics.extend(LEVELS.map(|key| metric(name, key, &plain(numbers.get(key)))));
            }
            if let Some(path) = &self.status_path {
                match self.rates(path, &mut storages) {
                    Ok(rates) => metrics.extend(rates),
                    Err(error) => {
                        writeln!(out, "The status file {} cannot be used: {error}", path.display())?;
                        return Ok(Outcome::Problems);
                    }
                }
            }
        }
        let is_empty = |numbers: &Map<_, _>| numbers.get("last-transaction").is_some_and(|tid| tid == NO_TRANSACTION);
        let empty = storages.iter().filter(|(_, numbers)| is_empty(numbers) && !self.accept_empty);
        let mut lines: Vec<String> = empty.map(|(name, _)| format!("Empty storage {}", repr(name))).collect();
        let outcome = if lines.is_empty() { Outcome::Fine } else { Outcome::Problems };
        if lines.is_empty() {
            lines.push("OK".to_owned());
        }
        if let Some((first, others)) = metrics.split_first() {
            lines[0].push_str(&format!("|{first}"));
            if !others.is_empty() {
                lines.push(format!("| {}", others.join("\n ")));
            }
        }
        writeln!(out, "{}", lines.join("\n"))?;
        Ok(outcome)
    }

    /// The changes since the last run, in units of time; and keeps the numbers for the next.
    fn rates(&self, path: &Path, storages: &mut Storages) -> std::io::Result<Vec<String>> {
        let now = SystemTime::now();
        let mut rates = Vec::new();
        if path.exists() {
            let written = std::fs::metadata(path)?.modified()?;
            let passed = now.duration_since(written).map_or(0.0, |passed| passed.as_secs_f64());
            if passed > 0.0 {
                let old: Storages = serde_json::from_slice(&std::fs::read(path)?)?;
                let units = passed / self.time_units.seconds();
                let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
                for (name, numbers) in storages.iter_mut() {
                    // ZEO's spelling: its file and ours can be exchanged.
                    numbers.insert("sameple-time".to_owned(), Value::from(since_1970));
                    let Some(old) = old.get(name) else { continue };
                    let number = |of: &Map<String, Value>, key| of.get(key).and_then(Value::as_f64).unwrap_or(0.0);
                    let rate = |key| float((number(numbers, key) - number(old, key)) / units);
                    rates.extend(COUNTERS.map(|key| metric(name, key, &rate(key))));
                }
            }
        }
        std::fs::write(path, serde_json::to_vec(storages)?)?;
        Ok(rates)
    }
}

impl Unit {
    fn seconds(self) -> f64 {
        match self {
            Unit::Seconds => 1.0,
            Unit::Minutes => 60.0,
            Unit::Hours => 3600.0,
            Unit::Days => 86400.0,
        }
    }
}

/// An address as `zeo-nagios` reads it: without a port it is a path.
fn address(text: &str) -> Address {
    match text.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() =>
        {
            Address::Tcp(text.to_owned())
        }
        _ => Address::Unix(PathBuf::from(text)),
    }
}

/// Asks a server for its status.
fn ask(address: &Address) -> Result<Storages, Trouble> {
    let mut connection = Connection::open(address, ANSWER_MAX)?;
    connection.write_frame(b"ruok")?;
    connection.read_frame()?;
    let status = connection.read_frame()?;
    serde_json::from_slice(&status).map_err(|error| Trouble::Protocol(format!("the status is no JSON: {error}")))
}

fn metric(storage: &str, name: &str, value: &str) -> String {
    let label = match storage {
        "1" => name.to_owned(),
        storage if storage.contains(' ') => format!("'{storage}:{name}'"),
        storage => format!("{storage}:{name}"),
    };
    format!("{label}={value}")
}

fn plain(value: Option<&Value>) -> String {
    value.map_or_else(|| "0".to_owned(), Value::to_string)
}
