//! `vellum zeopack`: has servers pack their storages, with the options of ZEO's `zeopack`.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use vellum_server::Address;
use vellum_terminal::{Out, Outcome, Run};
use vellum_wire::{Call, Fault};

use crate::client::{Client, Trouble};
use crate::python::repr;

/// Have ZEO servers pack their storages, with the options of ZEO's `zeopack`
#[derive(Args)]
#[command(disable_help_flag = true, arg_required_else_help = true)]
#[command(after_help = "\
It works with any server that speaks ZEO's protocol. Without a server, use
`vellum pack` on the file.

  vellum zeopack -d 3 127.0.0.1:8100
  vellum zeopack -t 02:00 -u /run/zeo.sock:main db.example.org:8100:1

Exit codes: 0 if all storages are packed, or if a server did not answer beside
others that did; 1 if a pack failed, or no server answered.")]
pub struct Zeopack {
    /// Servers, each HOST:PORT or HOST:PORT:STORAGE
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
    /// Pack to so many days before the time
    #[arg(short, long, value_name = "DAYS", default_value_t = 0, allow_negative_numbers = true)]
    days: i64,
    /// Pack to this time of today, HH[:MM[:SS]] in the local time zone; else to now
    #[arg(short, long, value_name = "TIME")]
    time: Option<String>,
    /// A server at a Unix socket, PATH or PATH:STORAGE; may be given more than once
    #[arg(short = 'u', long = "unix", value_name = "SOCKET")]
    unix_sockets: Vec<String>,
    /// The host of a server whose port is given with -p
    #[arg(short = 'h', value_name = "HOST")]
    host: Option<String>,
    /// The port of a server; the host is this one unless -h is given
    #[arg(short, value_name = "PORT")]
    port: Option<u16>,
    /// The storage of the servers that are given with -p and -U
    #[arg(short = 'S', value_name = "NAME", default_value = "1")]
    name: String,
    /// A server at a Unix socket, whose storage is given with -S
    #[arg(short = 'U', value_name = "SOCKET")]
    unix: Option<String>,
    /// Try for so many seconds to connect to a server
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Print help
    #[arg(long, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// A storage to be packed.
struct Server {
    address: Address,
    /// The address as Python shows it.
    shown: String,
    storage: String,
}

/// The error in the command line.
struct Wrong(String);

const AGAIN: Duration = Duration::from_millis(500);
const ANSWER_MAX: Duration = Duration::from_secs(30);

impl Zeopack {
    pub fn run(self, _: &mut Out, now: Timestamp) -> Run {
        match self.pack(now) {
            Ok(()) => Ok(Outcome::Fine),
            Err(Wrong(why)) => {
                eprintln!("Error:\n{why}");
                Ok(Outcome::Problems)
            }
        }
    }

    fn pack(self, now: Timestamp) -> Result<(), Wrong> {
        let to = self.moment(now)?;
        let servers = self.servers()?;
        if servers.is_empty() {
            return Err(Wrong("No servers specified.".to_owned()));
        }
        let mut found = false;
        for Server { address, shown, storage } in &servers {
            let named = format!("({shown}, {})", repr(storage));
            let mut client = match connect(address, storage, Duration::from_secs(self.wait)) {
                Ok(client) => client,
                Err(trouble) => {
                    eprintln!("Couldn't connect to: {named}\n{trouble}");
                    continue;
                }
            };
            found = true;
            let packed = client
                .be_patient()
                .map_err(Trouble::from)
                .and_then(|()| client.call(Call::Pack { time: to, wait: true }));
            if let Err(trouble) = packed {
                return Err(Wrong(format!("Error packing storage {storage} in {shown}: {trouble}")));
            }
        }
        if found { Ok(()) } else { Err(Wrong("Cannot connect to any of the configured ZEO servers.".to_owned())) }
    }

    /// The time to pack to, in seconds since 1970.
    fn moment(&self, now: Timestamp) -> Result<f64, Wrong> {
        let wrong = |text: &str| Wrong(format!("Invalid time value: {}", repr(text)));
        let mut moment = now;
        if let Some(text) = &self.time {
            let parts: Result<Vec<i64>, _> = text.split(':').map(|part| part.trim().parse()).collect();
            let parts = parts.ok().filter(|parts| parts.len() <= 3).ok_or_else(|| wrong(text))?;
            let seconds = parts.iter().zip([3600, 60, 1]).map(|(part, unit)| part.saturating_mul(unit)).sum();
            let zone = TimeZone::system();
            let midnight = now.to_zoned(zone.clone()).date().to_datetime(jiff::civil::Time::midnight());
            // By the clock on the wall, as C's mktime counts: 26 o'clock is 2 o'clock of the next day.
            let time = midnight.checked_add(SignedDuration::from_secs(seconds)).map_err(|_| wrong(text))?;
            moment = time.to_zoned(zone).map_err(|_| wrong(text))?.timestamp();
        }
        Ok(moment.as_duration().as_secs_f64() - self.days as f64 * 86400.0)
    }

    fn servers(&self) -> Result<Vec<Server>, Wrong> {
        let mut servers = Vec::new();
        match (&self.host, self.port) {
            (Some(_), None) => {
                let why = "If host (-h) is specified then a port (-p) must be specified as well.";
                return Err(Wrong(why.to_owned()));
            }
            (Some(host), Some(port)) => servers.push(tcp(host, port, &self.name)),
            (None, Some(port)) => {
                let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
                servers.push(tcp(host.as_deref().unwrap_or("localhost").trim(), port, &self.name));
            }
            (None, None) => {}
        }
        servers.extend(self.unix.iter().map(|path| unix(path, &self.name)));
        for server in &self.servers {
            servers.push(of(server)?);
        }
        for server in &self.unix_sockets {
            match server.split(':').collect::<Vec<_>>()[..] {
                [path] => servers.push(unix(path, "1")),
                [path, name] => servers.push(unix(path, name)),
                _ => return Err(Wrong(format!("Invalid server specification: {}", repr(server)))),
            }
        }
        Ok(servers)
    }
}

/// HOST:PORT or HOST:PORT:STORAGE. An IPv6 address stands in square brackets.
fn of(server: &str) -> Result<Server, Wrong> {
    let wrong = || Wrong(format!("Invalid server specification: {}", repr(server)));
    let (host, rest) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once("]:").ok_or_else(wrong)?;
            (format!("[{host}]"), rest)
        }
        None => server.split_once(':').map(|(host, rest)| (host.to_owned(), rest)).ok_or_else(wrong)?,
    };
    let (port, name) = match rest.split(':').collect::<Vec<_>>()[..] {
        [port] => (port, "1"),
        [port, name] => (port, name),
        _ => return Err(wrong()),
    };
    let port = port.parse();
    let port = port.map_err(|_| Wrong(format!("Invalid port in server specification: {}", repr(server))))?;
    Ok(tcp(&host, port, name))
}

fn tcp(host: &str, port: u16, storage: &str) -> Server {
    let shown = format!("({}, {port})", repr(host.trim_matches(['[', ']'])));
    // Without a host it is this machine.
    let host = if host.is_empty() { "localhost" } else { host };
    Server { address: Address::Tcp(format!("{host}:{port}")), shown, storage: storage.to_owned() }
}

fn unix(path: &str, storage: &str) -> Server {
    Server { address: Address::Unix(PathBuf::from(path)), shown: repr(path), storage: storage.to_owned() }
}

/// Connects to a server that may just be starting. An answer, be it that the server has no such storage, ends the
/// waiting.
fn connect(address: &Address, storage: &str, wait: Duration) -> Result<Client, Trouble> {
    let begun = Instant::now();
    loop {
        match Client::register(address, storage, ANSWER_MAX) {
            Err(Trouble::Connection(error)) if begun.elapsed() < wait && is_passing(&error) => {
                std::thread::sleep(AGAIN);
            }
            Err(Trouble::Refused(Fault::Other { class, .. })) if class == "builtins.ValueError" => {
                return Err(Trouble::Protocol(format!("the server has no storage {}", repr(storage))));
            }
            client => return client,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, TimedOut, UnexpectedEof, WouldBlock};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | NotFound | TimedOut | UnexpectedEof | WouldBlock)
}
