//! The server's rows: `vellum serve`, ZEO's `runzeo` with uvloop, and a thread that only answers, under the same
//! client.
//!
//! | file | idea |
//! |---|---|
//! | `process.rs` | the servers |
//! | `client.rs` | the client, in Rust, which both servers take for one of ZEO's |
//! | `ahead.rs` | our client, which fetches ahead |
//! | `warm.rs` | our client, which begins with a cache file |
//! | `blobs.rs` | blobs: how fast, and in how much memory |
//! | `remote.rs` | our own client beside ZEO's, on the same server |
//! | `weight.rs` | memory, and the cost of a pack to loading clients |
//!
//! All servers run at the same time, each on a copy of the database, and are asked in turn: one that waits costs
//! nothing.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vellum_file::FileStorage;
use vellum_storage::{Oid, Tid};
use vellum_wire::{Codec, Value};

use self::client::{Calls, Client, eight};
use self::process::{Server, Syncs};
use super::rows::Rows;
use super::table::Line;
use super::{Row, Trouble};
use crate::venv;

mod ahead;
mod blobs;
mod client;
mod process;
mod remote;
mod warm;
mod weight;

const MEGA: f64 = (1 << 20) as f64;
const LOADS: usize = 10_000;
const CLIENTS: usize = 8;
/// Loads that a client has under way.
const WINDOW: usize = 100;
/// Small commits of each client.
const COMMITS: usize = 100;
const SAMPLE: usize = 100;

/// Both servers, on copies of the mail database.
struct Pair {
    ours: Server,
    zeo: Server,
    /// Before this, all loads see the newest record.
    before: Tid,
}

impl Pair {
    fn start(rows: &Rows<'_>, syncs: Syncs) -> Result<Pair, Trouble> {
        let ours = Server::ours(&copied(rows, "serve-vellum.fs")?, syncs)?;
        let zeo = Server::runzeo(rows.python, &copied(rows, "serve-zeo.fs")?)?;
        let last = Client::connect(&ours.address, Codec::Pickle)?.last()?;
        Ok(Pair { ours, zeo, before: last.next() })
    }

    /// The processor time of each of so many calls, since `before`: other programs do not disturb that figure.
    fn processors(&self, before: [Duration; 2], calls: usize, call: &str) -> Result<String, Trouble> {
        let each = |server: &Server, before: Duration| {
            Ok::<_, Trouble>((server.processor()? - before).as_secs_f64() * 1e6 / calls as f64)
        };
        let (ours, zeo) = (each(&self.ours, before[0])?, each(&self.zeo, before[1])?);
        Ok(format!("a {call} takes {ours:.1} µs of a processor, and {zeo:.1} µs of runzeo's: {:.1} times", zeo / ours))
    }
}

/// A copy of the mail database.
fn copied(rows: &Rows<'_>, name: &str) -> Result<PathBuf, Trouble> {
    let path = fresh(rows.folder, name);
    std::fs::copy(rows.path, &path)?;
    Ok(path)
}

/// A path of this name, with nothing there or beside it that another run left.
fn fresh(folder: &Path, name: &str) -> PathBuf {
    for beside in ["", ".index", ".lock", ".oids", ".old", ".tmp", ".journal"] {
        let _ = std::fs::remove_file(folder.join(format!("{name}{beside}")));
    }
    folder.join(name)
}

/// Does `work` once for each client, all at the same time; the connections are there before the time begins.
fn together<T: Send>(
    address: &str,
    clients: usize,
    work: impl Fn(&mut Client, usize) -> Result<T, Trouble> + Sync,
) -> Result<(Duration, Vec<T>), Trouble> {
    let connected: Vec<Client> =
        (0..clients).map(|_| Client::connect(address, Codec::Pickle)).collect::<Result<_, _>>()?;
    in_threads(connected, work)
}

fn in_threads<T: Send>(
    clients: Vec<Client>,
    work: impl Fn(&mut Client, usize) -> Result<T, Trouble> + Sync,
) -> Result<(Duration, Vec<T>), Trouble> {
    let started = Instant::now();
    let results = std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(n, mut client)| scope.spawn(move || work(&mut client, n).map_err(|error| error.to_string())))
            .collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked".to_owned())?).collect()
    });
    let took = started.elapsed();
    let results: Result<Vec<T>, String> = results;
    Ok((took, results?))
}

type Timed<'a> = &'a dyn Fn() -> Result<Duration, Trouble>;

impl Rows<'_> {
    /// The best of several rounds, in which all take turns.
    fn turns(
        &self,
        what: String,
        ours: Timed<'_>,
        zeo: Timed<'_>,
        limit: Option<(&'static str, Timed<'_>)>,
    ) -> Result<Line, Trouble> {
        let mut line = Line { what, ours: Duration::MAX, peer: None, limit: None, notes: Vec::new() };
        for _ in 0..self.rounds {
            line.ours = line.ours.min(ours()?);
            if let Some((doing, limit)) = limit {
                line.limit = Some((limit()?.min(line.limit.map_or(Duration::MAX, |(took, _)| took)), doing));
            }
            line.peer = Some(zeo()?.min(line.peer.unwrap_or(Duration::MAX)));
        }
        eprintln!("{}: done", line.what);
        Ok(line)
    }

    /// One row of the server's.
    pub(super) fn of_server(&self, row: Row, storage: &FileStorage, oids: &[Oid]) -> Result<Line, Trouble> {
        let oids = &oids[..LOADS.min(oids.len())];
        match row {
            Row::ServeLoad => self.loads(storage, oids, 1, 1),
            Row::ServeLoads8 => self.loads(storage, oids, CLIENTS, WINDOW),
            Row::ServeCommit8 => self.commits(Syncs::One),
            Row::ServeCommit8Full => self.commits(Syncs::Two),
            Row::ServeCommit8Journal => self.commits(Syncs::Journal),
            Row::ServePrefetch50 => self.prefetch(50),
            Row::ServePrefetch1000 => self.prefetch(1000),
            Row::ServeLarge => self.large_record(),
            Row::ServePack => self.loads_while_packing(oids),
            Row::ServeBlobStore => self.blobs(false, 1, 1 << 20),
            Row::ServeBlobStore8 => self.blobs(false, CLIENTS, 1 << 20),
            Row::ServeBlobLoad => self.blobs(true, 1, 1 << 20),
            Row::ServeBlobLoad8 => self.blobs(true, CLIENTS, 1 << 20),
            Row::ServeBlobStoreLarge => self.blobs(false, 1, 64 << 20),
            Row::ServeBlobStoreLarge8 => self.blobs(false, CLIENTS, 64 << 20),
            Row::ServeBlobLoadLarge => self.blobs(true, 1, 64 << 20),
            Row::ServeBlobLoadLarge8 => self.blobs(true, CLIENTS, 64 << 20),
            Row::ServeBlobMemory => self.blob_memory(),
            Row::ClientLoad => self.client_loads(oids),
            Row::ClientStore => self.client_stores(),
            Row::ClientFetch => self.client_fetch(oids),
            Row::ClientTree => self.client_tree(Duration::ZERO),
            Row::ClientTreeFar => self.client_tree(Duration::from_millis(1)),
            Row::ClientLarge => self.client_large(),
            Row::ClientWarm => self.client_warm(oids),
            other => Err(format!("{other:?} is no row of the server").into()),
        }
    }

    /// Loads by clients that have so many calls under way each.
    fn loads(&self, storage: &FileStorage, oids: &[Oid], clients: usize, window: usize) -> Result<Line, Trouble> {
        let pair = Pair::start(self, Syncs::One)?;
        for server in [&pair.ours, &pair.zeo] {
            compare(server, storage, &oids[..SAMPLE.min(oids.len())], pair.before)?;
        }
        let calls = Client::connect(&pair.ours.address, Codec::Pickle)?.loads(oids, pair.before)?;
        let load = |server: &Server| {
            together(&server.address, clients, |client, _| client.exchange(&calls, window, None)).map(|(took, _)| took)
        };
        let what = match clients {
            1 => format!("{} loads by one client, one at a time", oids.len()),
            _ => format!("{} loads by each of {clients} clients, {window} under way", oids.len()),
        };
        let empty = empty_calls(&pair, oids.len())?;
        let limit = || {
            let address = process::echo(clients)?;
            let bare: Vec<Client> =
                (0..clients).map(|_| Client::bare(&address, Codec::Pickle)).collect::<Result<_, _>>()?;
            in_threads(bare, |client, _| client.exchange(&empty, window, None)).map(|(took, _)| took)
        };
        let before = [pair.ours.processor()?, pair.zeo.processor()?];
        let limit: Option<(_, Timed<'_>)> = Some(("calls sent back by a thread each", &limit));
        let mut line = self.turns(what, &|| load(&pair.ours), &|| load(&pair.zeo), limit)?;
        line.notes.push(pair.processors(before, clients * oids.len() * self.rounds, "load")?);
        Ok(line)
    }

    /// Small commits by clients that change an object each. The bare limit is one append and its syncs for each commit
    /// of a client, as if all clients' commits always arrived together.
    fn commits(&self, syncs: Syncs) -> Result<Line, Trouble> {
        let pair = Pair::start(self, syncs)?;
        let commit = |server: &Server| together(&server.address, CLIENTS, commit_often).map(|(took, _)| took);
        let what = match syncs {
            Syncs::One => format!("{COMMITS} small commits by each of {CLIENTS} clients, one sync, as ZODB's"),
            Syncs::Two => format!("{COMMITS} small commits by each of {CLIENTS} clients, two syncs"),
            Syncs::Journal => format!("{COMMITS} small commits by each of {CLIENTS} clients, one sync in a journal"),
        };
        let before = [pair.ours.processor()?, pair.zeo.processor()?];
        let bare = || appends(&fresh(self.folder, "serve-bare"), syncs);
        let limit: Option<(_, Timed<'_>)> = Some(("append and sync, once for all clients", &bare));
        let mut line = self.turns(what, &|| commit(&pair.ours), &|| commit(&pair.zeo), limit)?;
        line.notes.push(pair.processors(before, CLIENTS * COMMITS * self.rounds, "commit")?);
        Ok(line)
    }

    /// `prefetch` of ZEO's own client with an empty cache. No server can be faster than the client is.
    fn prefetch(&self, count: usize) -> Result<Line, Trouble> {
        let pair = Pair::start(self, Syncs::One)?;
        // The time, and how long the client had the processor in it.
        let prefetch = |server: &Server| -> Result<[Duration; 2], Trouble> {
            let mut command = Command::new(self.python);
            command.arg(venv::script("prefetch.py")).arg(&server.address).arg(self.folder.join("oids.txt"));
            let output = command.arg(count.to_string()).output()?;
            if !output.status.success() {
                return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            let printed = String::from_utf8(output.stdout)?;
            let (took, busy) = printed.trim().split_once(' ').ok_or("prefetch.py prints two numbers")?;
            Ok([Duration::from_secs_f64(took.parse()?), Duration::from_secs_f64(busy.parse()?)])
        };
        let busy = Cell::new(Duration::MAX);
        let ours = || {
            let [took, of_client] = prefetch(&pair.ours)?;
            busy.set(busy.get().min(of_client));
            Ok(took)
        };
        let limit = || Ok(busy.get());
        self.turns(
            format!("prefetch of {count} cold objects by ZEO's client"),
            &ours,
            &|| prefetch(&pair.zeo).map(|[took, _]| took),
            Some(("the client's own work", &limit)),
        )
    }
}

/// As many calls of about a load's size as there are loads, for a server that sends them back.
fn empty_calls(pair: &Pair, count: usize) -> Result<Calls, Trouble> {
    Client::connect(&pair.ours.address, Codec::Pickle)?.loads(&vec![Oid::ROOT; count], pair.before)
}

/// A server gives the records that are in the file.
fn compare(server: &Server, storage: &FileStorage, oids: &[Oid], before: Tid) -> Result<(), Trouble> {
    let mut client = Client::connect(&server.address, Codec::Pickle)?;
    for oid in oids {
        let wanted = storage.load_before(*oid, before)?.map(|loaded| loaded.data);
        if wanted != Some(client.load(*oid, before)?) {
            return Err(format!("{}: another record of {oid}", server.address).into());
        }
    }
    Ok(())
}

/// Appends as many bytes as `CLIENTS` small transactions take, and syncs them, `COMMITS` times.
fn appends(path: &Path, syncs: Syncs) -> Result<Duration, Trouble> {
    const SMALL_TRANSACTION: usize = 150;
    let mut file = File::create(path)?;
    let started = Instant::now();
    for _ in 0..COMMITS {
        file.write_all(&[1; CLIENTS * SMALL_TRANSACTION])?;
        file.sync_data()?;
        if syncs == Syncs::Two {
            file.write_all_at(b" ", 0)?;
            file.sync_data()?;
        }
    }
    Ok(started.elapsed())
}

/// Commits a new object, and then changes it again and again.
fn commit_often(client: &mut Client, n: usize) -> Result<(), Trouble> {
    let oid = match client.call("new_oids", vec![Value::Int(1)])? {
        Value::List(oids) | Value::Tuple(oids) => oids.into_iter().next().ok_or("no oid")?,
        other => return Err(format!("new_oids: {other:?}").into()),
    };
    // A record as ZODB writes it for an empty PersistentMapping, and a number.
    let record =
        format!("\u{80}\u{3}cpersistent.mapping\nPersistentMapping\nq\u{0}.\u{80}\u{3}K{}.", char::from(n as u8));
    let record = Bytes::from(record.chars().map(|char| char as u8).collect::<Vec<u8>>());
    let mut serial = eight(Tid::ZERO);
    for number in 0..COMMITS as i64 {
        let transaction = Value::Int(number + 1);
        serial = commit(client, transaction, vec![(oid.clone(), serial, record.clone())])?;
    }
    Ok(())
}

/// Commits these records as ZEO's client does, and returns the tid.
fn commit(client: &mut Client, transaction: Value, records: Vec<(Value, Value, Bytes)>) -> Result<Value, Trouble> {
    let empty = || Value::Bytes(Bytes::new());
    let begin =
        vec![transaction.clone(), empty(), empty(), Value::Dict(vec![]), Value::None, Value::Text(" ".to_owned())];
    client.tell("tpc_begin", begin)?;
    for (oid, serial, record) in records {
        client.tell("storea", vec![oid, serial, Value::Bytes(record), transaction.clone()])?;
    }
    client.call("vote", vec![transaction.clone()])?;
    client.call("tpc_finish", vec![transaction])
}
