//! Python's clients and ours on one server, side by side, under load: see `xtask/peer/side_by_side.py` and `judge.rs`.

mod judge;

use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::Regex;
use vellum_client::{ClientError, ClientOptions, RemoteStorage};
use vellum_file::FileStorage;
use vellum_server::{Address, Description, Offered, Server, ServerOptions, Store};
use vellum_storage::{Oid, SystemClock, TransactionMeta};
use vellum_wire::Fault;

use self::judge::{Entry, judge};
use super::dice::Dice;
use super::{Ground, Trouble, ensure};
use crate::venv;

/// The label of an object in the beginning. All labels are as long.
const INITIAL: &str = "c0000t000000";
const OBJECTS: u64 = 6;
const CLIENTS_OF_EACH_KIND: u64 = 3;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let folder = ground.path("side");
    std::fs::create_dir_all(&folder)?;
    let storage = Arc::new(FileStorage::create(folder.join("Data.fs"))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (address, server) = serve(&runtime, storage)?;
    let transactions = ground.histories.max(20);
    let oids = python(ground, &address, &["setup".to_owned()], &[OBJECTS])?.wait_with_output()?;
    let oids = String::from_utf8(oids.stdout)?;
    let oids: Vec<u64> = oids.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    ensure(oids.len() as u64 == OBJECTS, || "the objects were not made".to_owned())?;

    let theirs = (1..=CLIENTS_OF_EACH_KIND).map(|number| {
        let numbers = [&[number, transactions, ground.seed + number], oids.as_slice()].concat();
        python(ground, &address, &["play".to_owned()], &numbers)
    });
    let theirs = theirs.collect::<Result<Vec<_>, _>>()?;
    let ours: Vec<_> = (1..=CLIENTS_OF_EACH_KIND)
        .map(|number| {
            let (address, oids, seed) = (address.clone(), oids.clone(), ground.seed);
            std::thread::spawn(move || play(&address, 1000 + number, transactions, seed, &oids))
        })
        .collect();
    let mut entries: Vec<Entry> = Vec::new();
    for client in ours {
        let played = client.join().map_err(|_| "a client of ours panicked")?;
        entries.extend(played.map_err(|error| error.to_string())?);
    }
    for client in theirs {
        let output = client.wait_with_output()?;
        ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
        for line in String::from_utf8(output.stdout)?.lines() {
            entries.push(serde_json::from_str(line)?);
        }
    }
    drop(server);
    let judged = judge(INITIAL, &entries)?;
    ensure(judged.refusals > 0 && judged.overlaps > 0, || format!("the clients did not meet: {judged:?}"))?;
    Ok(format!(
        "{} transactions of {CLIENTS_OF_EACH_KIND} Python and {CLIENTS_OF_EACH_KIND} Rust clients: {} commits, {} of them \
         beside others, {} refused, {} that only read",
        entries.len(),
        judged.commits,
        judged.overlaps,
        judged.refusals,
        judged.reads
    ))
}

/// A server at a free port, which ends when the other half of the pair is dropped.
pub(super) fn serve(
    runtime: &tokio::runtime::Runtime,
    storage: Arc<FileStorage>,
) -> Result<(String, tokio::sync::oneshot::Sender<()>), Trouble> {
    let description = Description {
        location: "side by side".to_owned(),
        undoes: true,
        iterates_records: true,
        keeps_blobs: false,
        is_read_only: false,
        interfaces: vec![("ZODB.interfaces".to_owned(), "IStorageRestoreable".to_owned())],
    };
    let offered = vec![Offered { name: "1".to_owned(), description, store: Store::new(storage) }];
    let anywhere = [Address::Tcp("127.0.0.1:0".to_owned())];
    let server = runtime.block_on(Server::bind(&anywhere, offered, Arc::new(SystemClock), ServerOptions::default()))?;
    let address = server.addresses()?.pop().ok_or("the server has no address")?;
    let (end, ended) = tokio::sync::oneshot::channel();
    runtime.spawn(server.run(async move { _ = ended.await }));
    Ok((address, end))
}

fn python(ground: &Ground, address: &str, what: &[String], numbers: &[u64]) -> Result<std::process::Child, Trouble> {
    let (host, port) = address.rsplit_once(':').ok_or("an address has a port")?;
    let mut command = Command::new(&ground.python);
    command.arg(venv::script("side_by_side.py")).args(what).args([host, port]);
    command.args(numbers.iter().map(u64::to_string)).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// A client of ours: the same as Python's.
fn play(
    address: &str,
    number: u64,
    transactions: u64,
    seed: u64,
    oids: &[u64],
) -> Result<Vec<Entry>, Box<dyn std::error::Error + Send + Sync>> {
    let remote = RemoteStorage::open(ClientOptions::at(address))?;
    let client = remote.client();
    let label_in = Regex::new(r"c\d{4}t\d{6}")?;
    let mut dice = Dice::new(seed * 1000 + number);
    let mut entries = Vec::new();
    for turn in 1..=transactions {
        let begin = now();
        remote.sync()?;
        let view = client.view();
        let mut left = oids.to_vec();
        let chosen: Vec<u64> =
            (0..1 + dice.below(3)).map(|_| left.remove(dice.below(left.len() as u64) as usize)).collect();
        let (mut reads, mut records) = (Vec::new(), Vec::new());
        for oid in chosen {
            let loaded = view.load(Oid(oid)).wait()?.ok_or("an object is gone")?;
            let found = label_in.find(&loaded.data).ok_or("a record has no label")?;
            reads.push((oid, String::from_utf8(found.as_bytes().to_vec())?));
            records.push((
                oid,
                loaded.tid,
                label_in.replace(&loaded.data, format!("c{number:04}t{turn:06}").as_bytes()).into_owned(),
            ));
        }
        records.truncate(dice.below(3) as usize);
        let writes = records.iter().map(|(oid, ..)| (*oid, format!("c{number:04}t{turn:06}"))).collect();
        let commit = now();
        let (mut tid, mut refused) = (None, false);
        if !records.is_empty() {
            let transaction = client.begin(TransactionMeta::new().user("ours"));
            for (oid, serial, record) in records {
                transaction.store(Oid(oid), serial, Bytes::from(record));
            }
            match transaction.commit().wait() {
                Ok(committed) => tid = Some(committed.0),
                Err(ClientError::Refused(Fault::Conflict { .. })) => refused = true,
                Err(error) => return Err(error.into()),
            }
        }
        let name = format!("rust {number}");
        entries.push(Entry { client: name, begin, reads, writes, commit, end: now(), tid, refused });
    }
    Ok(entries)
}

/// The system's monotonic clock, which Python reads, too.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
