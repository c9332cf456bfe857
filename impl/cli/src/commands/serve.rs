//! `vellum serve`: a database for ZEO's clients.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use vellum_file::{Durability, FileStorage, Options};
use vellum_server::{Address, Config, Description, Offered, OidMark, Server, ServerOptions, Store};
use vellum_storage::{Storage, SystemClock};
use vellum_terminal::{Failure, Out, Outcome, Run};

use crate::file;
use crate::ui::say;

/// Serve a database to ZEO's clients
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum serve                                  ./Data.fs at 127.0.0.1:8100
  vellum serve Data.fs --listen 0.0.0.0:8100
  vellum serve Data.fs --listen /run/zeo.sock   a Unix socket
  vellum serve Data.fs --read-only

Clients are ZEO's Python clients, unchanged. From Python:
  db = ZEO.DB(('127.0.0.1', 8100))

The first line of output is `listening on ADDRESS`, once clients can connect. Port
0 is any free port. The server ends with SIGTERM or ^C: it accepts nobody any more,
waits for transactions that are voted, and closes the database.")]
pub struct Serve {
    /// The database; it is made if there is none
    #[arg(default_value = "Data.fs")]
    file: PathBuf,
    /// Where to listen: HOST:PORT, or the path of a Unix socket; may be given more than once
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8100")]
    listen: Vec<String>,
    /// What clients call the storage
    #[arg(long, value_name = "NAME", default_value = "1")]
    name: String,
    /// Let nobody write
    #[arg(long)]
    read_only: bool,
    /// Abort a transaction that is voted for so many seconds without being finished
    #[arg(long, value_name = "SECONDS")]
    transaction_timeout: Option<u64>,
    /// Transactions that clients that were away are told of
    #[arg(long, value_name = "N", default_value_t = 100)]
    invalidation_queue_size: usize,
    /// Have clients merge what the server cannot
    #[arg(long)]
    client_conflict_resolution: bool,
    /// Ask clients to speak msgpack, not pickles
    #[arg(long)]
    msgpack: bool,
    /// What a commit waits for
    #[arg(long, value_enum, default_value_t = Syncs::Full)]
    durability: Syncs,
}

/// How a commit is written.
#[derive(Clone, Copy, ValueEnum)]
enum Syncs {
    /// A crash keeps exactly what was acknowledged
    Full,
    /// ZODB's order: one sync
    Relaxed,
}

/// The Python interfaces that ZODB's FileStorage provides, in the order in which Python looks them up.
const INTERFACES: [(&str, &str); 7] = [
    ("ZODB.interfaces", "IStorageRestoreable"),
    ("ZODB.interfaces", "IStorageIteration"),
    ("ZODB.interfaces", "IStorageUndoable"),
    ("ZODB.interfaces", "IStorageCurrentRecordIteration"),
    ("ZODB.interfaces", "IExternalGC"),
    ("ZODB.interfaces", "IStorage"),
    ("zope.interface", "Interface"),
];

impl Serve {
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let storage = self.open()?;
        let started = now.to_zoned(TimeZone::system()).strftime("%a %b %e %H:%M:%S %Y").to_string();
        let options = ServerOptions {
            codec: if self.msgpack { vellum_server::Codec::Msgpack } else { vellum_server::Codec::Pickle },
            config: Config {
                is_read_only: self.read_only,
                transaction_timeout: self.transaction_timeout.map(Duration::from_secs),
                clients_resolve: self.client_conflict_resolution,
                started,
            },
            invalidation_queue_size: self.invalidation_queue_size,
            ..ServerOptions::default()
        };
        let description = Description {
            location: self.file.display().to_string(),
            undoes: true,
            is_read_only: self.read_only,
            interfaces: INTERFACES.map(|(module, name)| (module.to_owned(), name.to_owned())).to_vec(),
        };
        let addresses: Vec<Address> = self.listen.iter().map(|address| parse(address)).collect();
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let oids = if self.read_only { None } else { Some(Arc::new(self.oids(&*storage)?)) };
        let store = Store { storage: Arc::clone(&storage), oids };
        let offered = vec![Offered { name: self.name.clone(), description, store }];
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let server = Server::bind(&addresses, offered, Arc::new(SystemClock), options)
                .await
                .map_err(|error| Failure::Message(format!("cannot listen at {}: {error}", self.listen.join(", "))))?;
            for address in server.addresses()? {
                writeln!(out, "listening on {address}")?;
                hint(&address);
            }
            out.flush()?;
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            let end = async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                say("ending: nobody is accepted any more");
            };
            Ok::<_, Failure>(server.run(end).await?)
        })?;
        // What still runs on other threads ends first, so that the database is closed here.
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(storage);
        Ok(Outcome::Fine)
    }

    /// The mark of the oids that were given out, beside the database.
    fn oids(&self, storage: &dyn Storage) -> Run<OidMark> {
        let mut path = self.file.as_os_str().to_owned();
        path.push(".oids");
        Ok(OidMark::open(PathBuf::from(path), storage)?)
    }

    /// Opens the database, or makes one.
    fn open(&self) -> Run<FileStorage> {
        if self.read_only {
            return file::open(&self.file);
        }
        let options: Options = file::options()?.durability(match self.durability {
            Syncs::Full => Durability::Full,
            Syncs::Relaxed => Durability::Relaxed,
        });
        if !self.file.exists() {
            say(&format!("{} is new", self.file.display()));
            return Ok(options.create(&self.file)?);
        }
        Ok(file::open_to_write(&self.file, &options)?)
    }
}

/// An address with a slash is a path, as in ZEO's configuration.
fn parse(address: &str) -> Address {
    if address.contains('/') { Address::Unix(Path::new(address).to_owned()) } else { Address::Tcp(address.to_owned()) }
}

/// How to connect from Python.
fn hint(address: &str) {
    match address.rsplit_once(':') {
        Some((host, port)) if !address.contains('/') => {
            let host = if host == "0.0.0.0" { "127.0.0.1" } else { host };
            say(&format!("from Python: import ZEO; db = ZEO.DB(('{host}', {port}))"));
        }
        _ => say(&format!("from Python: import ZEO; db = ZEO.DB('{address}')")),
    }
}
