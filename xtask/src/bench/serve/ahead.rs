//! Fetching ahead by our client: many objects in one message, and a tree whose objects come before their loads.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vellum_client::{Client, ClientOptions, Reach};
use vellum_file::FileStorage;
use vellum_pickle::{Reference, Scanner};
use vellum_storage::{Oid, Revision, Status, Tid, TransactionRecord, Version};

use super::process::{Server, Syncs};
use super::{Rows, copied, fresh};
use crate::bench::Trouble;
use crate::bench::table::Line;
use crate::venv;

/// Objects of the tree, and children of each.
const TREE: u64 = 100_000;
const CHILDREN: u64 = 10;
/// Without prefetching, and far away, so many objects are walked; the time is that of as many times more.
const SAMPLE: u64 = 4_000;
const MANY: usize = 1000;
/// Bytes of the large record.
const LARGE: usize = 64 << 20;

impl Rows<'_> {
    /// A query's result set: a bulk fetch, and the prefetch of ZEO's client on ZEO's server.
    pub(super) fn client_fetch(&self, oids: &[Oid]) -> Result<Line, Trouble> {
        let server = Server::ours(&copied(self, "fetch-vellum.fs")?, Syncs::One)?;
        let zeo = Server::runzeo(self.python, &copied(self, "fetch-zeo.fs")?)?;
        let mut seen = std::collections::HashSet::new();
        let wanted: Vec<Oid> = oids.iter().copied().filter(|oid| seen.insert(*oid)).take(MANY).collect();
        let ours = || -> Result<Duration, Trouble> {
            let client = connected(&server.address)?;
            let started = Instant::now();
            let found = client.load_many(wanted.clone()).wait()?;
            let took = started.elapsed();
            match found.iter().all(|(_, found)| found.is_some()) {
                true => Ok(took),
                false => Err("an object is not there".into()),
            }
        };
        let python = || -> Result<Duration, Trouble> {
            let mut command = Command::new(self.python);
            command.arg(venv::script("prefetch.py")).arg(&zeo.address).arg(self.folder.join("oids.txt"));
            let output = command.arg(wanted.len().to_string()).output()?;
            let printed = String::from_utf8(output.stdout)?;
            let (took, _) = printed.trim().split_once(' ').ok_or("prefetch.py prints two numbers")?;
            Ok(Duration::from_secs_f64(took.parse()?))
        };
        self.turns(format!("{} objects at once, and ZEO's prefetch", wanted.len()), &ours, &python, None)
    }

    /// A large record. In a process of its own: there every allocation is counted.
    pub(super) fn client_large(&self) -> Result<Line, Trouble> {
        let server = Server::ours(&fresh(self.folder, "client-large.fs"), Syncs::One)?;
        let mut line = Line {
            what: "a load of a record of 64 MiB by our client".to_owned(),
            ours: Duration::MAX,
            peer: None,
            limit: None,
            notes: Vec::new(),
        };
        let (mut stored, mut loaded) = (f64::MAX, f64::MAX);
        for _ in 0..self.rounds {
            let mut command = Command::new(venv::program("record-memory")?);
            command.args([server.address.as_str(), &LARGE.to_string()]);
            let output = command.output()?;
            if !output.status.success() {
                return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            let printed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            let number = |name: &str| printed[name].as_f64().ok_or("record-memory prints no number");
            line.ours = line.ours.min(Duration::from_secs_f64(number("seconds")?));
            (stored, loaded) = (stored.min(number("stored")?), loaded.min(number("loaded")?));
        }
        line.notes.push(format!(
            "our client, a record of 64 MiB: {:.2} times its size more to load it, the record included (aim: one copy); \
             {:.2} times more to store it",
            loaded / LARGE as f64,
            stored / LARGE as f64
        ));
        Ok(line)
    }

    /// A walk through a tree, with an empty cache: with structural prefetching; the column of the peer is without.
    /// `far` is added to each round trip.
    pub(super) fn client_tree(&self, far: Duration) -> Result<Line, Trouble> {
        let path = fresh(self.folder, "tree.fs");
        tree(&path)?;
        let server = Server::ours(&path, Syncs::One)?;
        let address = match far {
            Duration::ZERO => server.address.clone(),
            far => delayed(&server.address, far / 2)?,
        };
        let ahead = || -> Result<Duration, Trouble> {
            let client = connected(&address)?;
            let started = Instant::now();
            let all = Reach { depth: u32::MAX, count: TREE as u32, bytes: 32 << 20 };
            client.prefetch(vec![Oid::ROOT], all);
            walk(&client, TREE)?;
            Ok(started.elapsed())
        };
        let sample = if far.is_zero() { TREE } else { SAMPLE };
        let alone = || -> Result<Duration, Trouble> {
            let client = connected(&address)?;
            let started = Instant::now();
            walk(&client, sample)?;
            Ok(started.elapsed() * (TREE / sample) as u32)
        };
        let what = format!("walk of {TREE} objects, {} ms away, and without prefetch", far.as_millis());
        let mut line = self.turns(what, &ahead, &alone, None)?;
        if sample < TREE {
            line.notes.push(format!("without prefetch: {} times the walk of {sample} objects", TREE / sample));
        }
        Ok(line)
    }
}

fn connected(address: &str) -> Result<Client, Trouble> {
    let client = Client::open(ClientOptions::at(address))?;
    client.connected().wait()?;
    Ok(client)
}

/// Loads the first objects of a tree, each after the answer to the one before it, depth first.
fn walk(client: &Client, count: u64) -> Result<(), Trouble> {
    let (mut next, mut scanner, mut walked) = (vec![Oid::ROOT], Scanner::new(), 0);
    while let Some(oid) = next.pop() {
        let found = client.load(oid).wait()?.ok_or("an object is not there")?;
        let first = next.len();
        scanner.scan(&found.data, |reference| {
            if let Reference::Strong { oid, .. } = reference {
                next.push(Oid(oid));
            }
        })?;
        next[first..].reverse();
        walked += 1;
        if walked == count {
            return Ok(());
        }
    }
    Err(format!("the tree has only {walked} objects").into())
}

/// A database whose objects are a tree, each of about 200 bytes beside its references.
fn tree(path: &Path) -> Result<(), Trouble> {
    let storage = FileStorage::create(path)?;
    let first = Tid::at("2020-01-01T00:00:00Z".parse()?);
    let record = |oid: u64| {
        let mut record = b"\x80\x03cshop\nShelf\n.\x80\x03(C\xc8".to_vec();
        record.resize(record.len() + 200, b'x');
        for child in (oid * CHILDREN + 1..).take(CHILDREN as usize).filter(|child| *child < TREE) {
            record.extend([&b"C\x08"[..], &child.to_be_bytes(), b"cshop\nShelf\n\x86Q"].concat());
        }
        record.extend_from_slice(b"t.");
        Bytes::from(record)
    };
    let revision = |oid: u64| Revision {
        oid: Oid(oid),
        version: Version::TRUNK,
        data: Some(record(oid)),
        blob: None,
        source: None,
        base: None,
    };
    let oids: Vec<u64> = (0..TREE).collect();
    let transactions = oids.chunks(1000).enumerate().map(|(n, oids)| TransactionRecord {
        tid: Tid(first.0 + ((n as u64) << 32)),
        status: Status::Complete,
        user: "ann".into(),
        description: "a tree".into(),
        extension: Bytes::new(),
        revisions: oids.iter().map(|oid| revision(*oid)).collect(),
    });
    vellum_storage::Bulk::copy_in(&storage, transactions.collect())?;
    Ok(())
}

/// A port that leads to another one, and delays what goes through, in each direction. It ends with the process.
pub(super) fn delayed(address: &str, by: Duration) -> Result<String, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (near, far) = (listener.local_addr()?.to_string(), address.to_owned());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&far)) else { return };
            let pairs = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
            for (from, to) in pairs {
                let (Ok(from), Ok(to)) = (from, to) else { return };
                let _ = to.set_nodelay(true);
                delay(from, to, by);
            }
        }
    });
    Ok(near)
}

/// Passes on all that arrives, so much later.
fn delay(mut from: TcpStream, mut to: TcpStream, by: Duration) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, bytes) in receive {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send.send((Instant::now() + by, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
}
