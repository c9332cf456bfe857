//! `vellum serve`: databases for ZEO's clients.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use vellum_server::Address;
use vellum_server::conf::{FileStorageConf, Place, Plan, StorageConf, Syncs, SystemSource, Tls};
use vellum_terminal::{Failure, Out, Outcome, Run};

use crate::serving::{self, Manner};
use crate::ui::say;

/// Serve databases to ZEO's clients
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum serve                                  ./Data.fs at 127.0.0.1:8100
  vellum serve Data.fs --listen 0.0.0.0:8100
  vellum serve Data.fs --listen /run/zeo.sock   a Unix socket
  vellum serve Data.fs --read-only
  vellum serve Data.fs --blobs blobstorage      with its blob folder
  vellum serve --config zeo.conf                as `runzeo -C zeo.conf` does
  vellum serve --config vellum.toml --check-config

Clients are ZEO's Python clients, unchanged. From Python:
  db = ZEO.DB(('127.0.0.1', 8100))

The first line of output is `listening on ADDRESS`, once clients can connect.
Port 0 is any free port. The server ends with SIGTERM or ^C: it stops accepting
clients, waits for voted transactions, and closes the database. With SIGUSR2 it
opens its log files anew; with SIGHUP it also reads its certificates again. A
second SIGTERM or ^C ends it at once.

A configuration is ZEO's zeo.conf, or TOML if its name ends in .toml; options on
the command line win over it. docs/serving.md has both.")]
pub struct Serve {
    /// The database; it is created if it does not exist [default: Data.fs]
    file: Option<PathBuf>,
    /// The folder of the database's blobs; it is made if there is none
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    blobs: Option<PathBuf>,
    /// Read what to serve from a file: ZEO's zeo.conf, or TOML
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Say what would be served, and open nothing
    #[arg(long)]
    check_config: bool,
    /// Create the missing folders of all named files
    #[arg(long)]
    make_folders: bool,
    /// Where to listen: HOST:PORT, or the path of a Unix socket; may be given more than
    /// once [default: 127.0.0.1:8100]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// The storage's name for clients [default: 1]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Let clients only read
    #[arg(long)]
    read_only: bool,
    /// Abort a transaction if it is not finished so many seconds after its vote
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    transaction_timeout: Option<Duration>,
    /// Remember so many transactions for clients that were away [default: 100]
    #[arg(long, value_name = "N")]
    invalidation_queue_size: Option<u64>,
    /// Have clients merge what the server cannot
    #[arg(long)]
    client_conflict_resolution: bool,
    /// Ask clients to speak msgpack, not pickles
    #[arg(long)]
    msgpack: bool,
    /// Speak TLS, with this certificate (PEM)
    #[arg(long, value_name = "PATH", requires = "tls_authenticate")]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate, if that file does not have it
    #[arg(long, value_name = "PATH", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Certificates of clients or of their authorities, a file or a folder: all others
    /// are refused
    #[arg(long, value_name = "PATH", requires = "tls_certificate")]
    tls_authenticate: Option<PathBuf>,
    /// Answer probes, metrics and `vellum status` at HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    monitor: Option<String>,
    /// Log events below warnings, too, as text or as JSON
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Pack databases in tables in the background, and keep the history of this time
    /// (30d, 12h)
    #[arg(long, value_name = "TIME", value_parser = crate::ui::args::keep, conflicts_with = "read_only")]
    keep: Option<Duration>,
    /// Serve a history-free database in tables; a new one is made so. It has no undo
    #[arg(long, conflicts_with = "read_only")]
    history_free: bool,
    /// Have a history-free database keep what was overwritten so many seconds ago, for
    /// open readers and to merge changes [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "read_only")]
    grace: Option<Duration>,
    /// The syncs that a commit waits for [default: full]
    #[arg(long, value_enum)]
    durability: Option<Durability>,
}

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// As ZEO's server writes them
    Text,
    /// One JSON object a line
    Json,
}

/// How a commit is written.
#[derive(Clone, Copy, ValueEnum)]
enum Durability {
    /// A crash keeps exactly the acknowledged commits
    Full,
    /// ZODB's order: one sync
    Relaxed,
    /// As exact as full, for one sync, of a journal beside the file
    Journal,
}

impl Serve {
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let plan = self.plan();
        if self.check_config {
            return match plan {
                Ok(plan) => serving::check(&plan, out),
                Err(Failure::Message(why)) => {
                    say(&why);
                    Ok(Outcome::Problems)
                }
                Err(gone) => Err(gone),
            };
        }
        let plan = plan?;
        if self.make_folders {
            serving::make_folders(&plan)?;
        }
        let logs_json = self.log_format == Some(LogFormat::Json);
        serving::run(&plan, out, now, Manner { is_trial: false, monitor: self.monitor, logs_json, keep: self.keep })
    }

    /// The plan of the configuration and the options.
    fn plan(&self) -> Run<Plan> {
        let mut plan = match &self.config {
            Some(path) => read(path)?,
            None => {
                let level = if self.log_format.is_some() { INFO } else { WARNING };
                Plan { event_log: Some(serving::to_stderr(level)), ..Plan::new() }
            }
        };
        let is_simple = self.config.is_none();
        if is_simple || !self.listen.is_empty() {
            let listen = if self.listen.is_empty() { &[LISTEN.to_owned()] } else { self.listen.as_slice() };
            plan.addresses = listen.iter().map(|text| address(text)).collect::<Run<_>>()?;
        }
        if is_simple || self.file.is_some() {
            let path = self.file.clone().unwrap_or_else(|| PathBuf::from("Data.fs"));
            let (blob_dir, read_only) = (self.blobs.clone(), self.read_only);
            let file = FileStorageConf { blob_dir, read_only, ..FileStorageConf::new(path) };
            plan.storages = vec![(self.name.clone().unwrap_or_else(|| "1".to_owned()), StorageConf::File(file))];
        } else if let Some(name) = &self.name {
            let [(named, _)] = &mut plan.storages[..] else {
                return Err(Failure::Message(
                    "--name is for one storage, and the configuration has several".to_owned(),
                ));
            };
            named.clone_from(name);
        }
        if let Some(durability) = self.durability {
            let syncs = match durability {
                Durability::Full => Syncs::Full,
                Durability::Relaxed => Syncs::Relaxed,
                Durability::Journal => Syncs::Journal,
            };
            plan.storages.iter_mut().for_each(|(_, storage)| each_file(storage, &|file| file.durability = syncs));
        }
        for (_, storage) in &mut plan.storages {
            each_file(storage, &|file| {
                file.history_free |= self.history_free;
                file.grace = self.grace.or(file.grace);
            });
        }
        if let (Some(certificate), Some(authenticate)) = (&self.tls_certificate, &self.tls_authenticate) {
            plan.tls = Some(Tls {
                certificate: certificate.clone(),
                key: self.tls_key.clone(),
                authenticate: authenticate.clone(),
                place: Place { file: Path::new("--tls-certificate").into(), line: 0 },
            });
        }
        plan.read_only |= self.read_only;
        plan.clients_resolve |= self.client_conflict_resolution;
        plan.msgpack = if self.msgpack { Some(true) } else { plan.msgpack };
        plan.transaction_timeout = self.transaction_timeout.or(plan.transaction_timeout);
        plan.invalidation_queue_size = self.invalidation_queue_size.unwrap_or(plan.invalidation_queue_size);
        Ok(plan)
    }
}

/// Python's number for warnings.
const WARNING: u64 = 30;
const INFO: u64 = 20;
const LISTEN: &str = "127.0.0.1:8100";

fn read(path: &Path) -> Run<Plan> {
    let plan = match path.extension().is_some_and(|extension| extension == "toml") {
        true => Plan::of_toml(path, &SystemSource),
        false => Plan::of_zeo_conf(path, &SystemSource),
    };
    plan.map_err(|error| Failure::Message(error.to_string()))
}

/// An address with a slash is a path, as in ZEO's configuration.
pub fn address(text: &str) -> Run<Address> {
    Address::parse(text).ok_or_else(|| {
        Failure::Message(format!("{text} is no address: give PORT, HOST:PORT, [IPV6]:PORT, or a path with a slash"))
    })
}

/// A number of seconds, with a fraction if need be.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| time.as_secs() <= 1_000_000_000).ok_or_else(|| "not a number of seconds".to_owned())
}

/// Changes what is asked of each file that a storage consists of.
fn each_file(storage: &mut StorageConf, change: &dyn Fn(&mut FileStorageConf)) {
    match storage {
        StorageConf::File(file) => change(file),
        StorageConf::Mapping { .. } => {}
        StorageConf::Demo { base, changes, .. } => {
            base.iter_mut().chain(changes).for_each(|storage| each_file(storage, change));
        }
        StorageConf::Compressed { base, .. } => each_file(base, change),
    }
}
