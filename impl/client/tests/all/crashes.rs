//! The power goes at the server while clients commit, and a server of what the disk has kept takes over.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::net::UnixStream;
use vellum_client::{Client, ClientError, Config, Dial, Dialing, Stream};
use vellum_disk::{SimDisk, Tear};
use vellum_file::{Durability, FileStorage, Options};
use vellum_server::{Codec, Door};
use vellum_storage::{Oid, Order, Storage, SystemClock, Tid, TidRange, TransactionMeta};

use crate::cached::Shelf;
use crate::common::{Served, patient, runtime, speaks};

/// The way to the server of the moment, and the connections on it.
#[derive(Default)]
struct Ways {
    door: Mutex<Option<Door>>,
    connections: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Ways {
    /// From now on this is the server. The connections to the one before it are cut.
    fn lead_to(&self, door: Option<Door>) {
        *self.door.lock().unwrap() = door;
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }
}

impl Dial for Ways {
    fn dial(&self, _: usize) -> Dialing<'_> {
        Box::pin(async move {
            let door = self.door.lock().unwrap().clone().ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let (mut there, server) = UnixStream::pair()?;
            door.enter(server, "a pair of sockets").await;
            let (client, mut here) = tokio::io::duplex(64 << 10);
            let moved = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
            self.connections.lock().unwrap().push(moved.abort_handle());
            Ok(Box::new(client) as Box<dyn Stream>)
        })
    }
}

fn open(disk: &SimDisk, is_new: bool) -> (Arc<FileStorage>, Served) {
    let options = Options::new().disk(Arc::new(disk.clone())).durability(Durability::Full);
    let storage = Arc::new(if is_new { options.create("Data.fs") } else { options.open("Data.fs") }.unwrap());
    let served = Served::new(Arc::clone(&storage) as Arc<dyn Storage>, Arc::new(SystemClock), speaks(Codec::Pickle));
    (storage, served)
}

type Fate = (Oid, Bytes, Result<Tid, ClientError>);

/// Commits until one fails.
fn commit_until_it_fails(client: &Client, n: u64) -> Vec<Fate> {
    let mut fates = Vec::new();
    let mut serial = Tid::ZERO;
    for turn in 0..1000 {
        let (oid, data) = (Oid(n), Bytes::from(format!("{n} {turn}")));
        let transaction = client.begin(TransactionMeta::new());
        transaction.store(oid, serial, data.clone());
        let fate = transaction.commit().wait();
        let is_over = fate.is_err();
        serial = fate.as_ref().copied().unwrap_or_default();
        fates.push((oid, data, fate));
        if is_over {
            break;
        }
    }
    fates
}

/// One crash: everything that was answered is there, what was refused is not, and the clients go on with what they have
/// in their caches, of which nothing is stale.
fn crash(at: u64, seed: u64) -> (usize, bool) {
    let disk = SimDisk::new(seed);
    let (storage, served) = open(&disk, true);
    let ways = Arc::new(Ways::default());
    ways.lead_to(Some(served.door.clone()));
    let config = Config { patience: patient(), ..Config::default() };
    let mut shelves: Vec<Shelf> = (0..3).map(|n| Shelf::new(seed + n)).collect();
    let begin = |cache| Client::over(runtime().handle(), config.clone(), cache, ways.clone(), 64 << 20);
    let clients: Vec<Client> = shelves.iter_mut().map(|shelf| begin(shelf.open(0))).collect();
    clients.iter().for_each(|client| client.connected().wait().unwrap());
    disk.stop_at(disk.operations() + at, Tear::Partly);
    let threads: Vec<_> = clients
        .iter()
        .zip(1..)
        .map(|(client, n)| {
            let client = client.clone();
            std::thread::spawn(move || commit_until_it_fails(&client, n))
        })
        .collect();
    let fates: Vec<Fate> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    // The machine is gone, with all its connections.
    ways.lead_to(None);
    drop((served, storage));
    let disk = disk.crash(seed);
    let (storage, served) = open(&disk, false);
    ways.lead_to(Some(served.door.clone()));

    let mut there = std::collections::BTreeMap::new();
    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap() {
        let transaction = transaction.unwrap();
        for revision in transaction.revisions {
            there.insert(revision.data.unwrap(), transaction.tid);
        }
    }
    let mut is_unknown_there = false;
    for (oid, data, fate) in &fates {
        match fate {
            Ok(tid) => assert_eq!(there.get(data), Some(tid), "{oid} was finished, and is lost"),
            // A disk that fails under a finish: perhaps it is there, perhaps not.
            Err(ClientError::OutcomeUnknown { .. }) => {
                is_unknown_there |= there.contains_key(data);
            }
            Err(error) => assert_eq!(there.get(data), None, "{oid} was given up ({error}), and is there"),
        }
    }
    // Some of the clients are gone as well, and others begin with what their disks have kept.
    let others: Vec<Client> = shelves.iter_mut().zip(0..).map(|(shelf, n)| begin(shelf.open((at + n) % 2))).collect();
    for client in clients.iter().chain(&others) {
        client.sync().wait().unwrap();
        for oid in (1..=3).map(Oid) {
            let found = client.load(oid).wait();
            match storage.load_before(oid, Tid::MAX) {
                Ok(Some(right)) => {
                    let found = found.unwrap().unwrap();
                    assert_eq!((found.data, found.tid), (right.data, right.tid), "{oid} after the crash");
                }
                _ => assert!(matches!(found, Ok(None) | Err(ClientError::Refused(_))), "{oid}: {found:?}"),
            }
        }
    }
    (fates.iter().filter(|(.., fate)| fate.is_ok()).count(), is_unknown_there)
}

/// Rule 3.0.
#[test]
fn a_crash_of_the_server_loses_nothing_that_was_answered() {
    let (mut finished, mut unknown_there) = (0, 0);
    for at in 0..60 {
        let (count, is_unknown_there) = crash(at, 1000 + at);
        finished += count;
        unknown_there += usize::from(is_unknown_there);
    }
    println!(
        "60 crashes: {finished} transactions were finished, {unknown_there} times one was there that was not answered"
    );
    assert!(finished > 100);
}
