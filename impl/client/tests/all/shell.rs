//! The shell: promises that are passed on, memory that stays bounded, connections that are cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vellum_client::{
    Client, ClientError, ClientOptions, Config, Dial, Dialing, Patience, Promise, RemoteStorage, Stream,
};
use vellum_server::{Codec, ServerOptions};
use vellum_storage::{MemoryStorage, Oid, Order, Storage, SystemClock, Tid, TidRange, TransactionMeta, Version};

use crate::common::{Served, patient, runtime, speaks};
use crate::proxy::Trouble;

fn served(options: ServerOptions) -> (Arc<dyn Storage>, Served) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new("memory"));
    let served = Served::new(Arc::clone(&storage), Arc::new(SystemClock), options);
    (storage, served)
}

fn config() -> Config {
    Config { patience: patient(), ..Config::default() }
}

/// The simulator reads what a client writes. Both sides have the same events, in this order.
#[test]
fn a_trace_is_read_as_it_was_written() {
    use vellum_simulate::trace::{Event, read};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.trace");
    let address = crate::common::serve(speaks(Codec::Msgpack));
    let commit = |client: &Client, serial: Tid, data: &'static str| {
        let transaction = client.begin(TransactionMeta::new());
        transaction.store(Promise::from(Oid(7)), serial, data.into());
        transaction.commit().wait().unwrap()
    };
    let other = Client::open(ClientOptions::at(&address)).unwrap();
    let first = commit(&other, Tid::ZERO, "one");
    let client = Client::open(ClientOptions::at(&address).trace(&path)).unwrap();
    for _ in 0..2 {
        client.load(Oid(7)).wait().unwrap();
    }
    let second = commit(&other, first, "second");
    client.sync().wait().unwrap();
    client.load_before(Oid(7), second).wait().unwrap();
    client.load(Oid(7)).wait().unwrap();
    drop(client);
    let trace = read(&std::fs::read(&path).unwrap()).unwrap();
    assert!(!trace.is_cut && trace.skipped == 0);
    assert!(trace.records.iter().skip(1).all(|record| record.oid == 7));
    let events: Vec<Event> = trace.records.into_iter().map(|record| record.event).collect();
    let wanted = [
        Event::Open,
        Event::Load(None),
        Event::Store { size: 3, tid: first.0, end: None },
        Event::Load(Some((3, first.0))),
        Event::Invalidate(second.0),
        Event::LoadOld { before: second.0, found: Some((3, first.0, second.0)) },
        Event::Load(None),
        Event::Store { size: 6, tid: second.0, end: None },
    ];
    assert_eq!(events, wanted);
}

#[test]
fn a_promise_is_passed_on_without_waiting_and_an_error_travels_along() {
    let (storage, served) = served(speaks(Codec::Msgpack));
    let client = served.client(config(), Trouble::none());
    // Nothing here waits, not even for the connection.
    let transaction = client.begin(TransactionMeta::new().user("ann"));
    let oids: Vec<Promise<Oid>> = (0..250).map(|_| client.new_oid()).collect();
    for oid in &oids {
        transaction.store(oid.clone(), Tid::ZERO, "a record".into());
    }
    let reader = client.clone();
    let first = oids[0].clone();
    let loaded = transaction.commit().then(move |_| first.then(move |oid| reader.load(oid)));
    let found = loaded.wait().unwrap().unwrap();
    assert_eq!(found.data, "a record");
    assert_eq!(storage.last_transaction(), found.tid);
    let mut given: Vec<Oid> = oids.iter().map(|oid| oid.wait().unwrap()).collect();
    given.dedup();
    assert_eq!(given.len(), 250);

    let conflict = client.begin(TransactionMeta::new());
    conflict.store(given[0], Tid(7), "late".into());
    let after = conflict.commit().then(|_| -> Promise<()> { panic!("there is no answer to go on with") });
    assert!(matches!(after.wait(), Err(ClientError::Refused(_))), "{:?}", after.wait());
    // The next one has its turn.
    let next = client.begin(TransactionMeta::new());
    next.store(given[0], found.tid, "in time".into());
    next.commit().wait().unwrap();
}

/// Three clients commit and read through connections that are cut at random. Each transaction that was called finished
/// is there, and nothing that was said to be gone.
#[test]
fn cuts_lose_nothing_that_was_answered() {
    let (storage, served) = served(speaks(Codec::Pickle));
    let threads: Vec<_> = (0..3_u64)
        .map(|n| {
            let client = served.client(config(), Trouble::by(n + 1, 40));
            std::thread::spawn(move || commits(&client, n))
        })
        .collect();
    let fates: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let mut there = std::collections::BTreeMap::new();
    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap() {
        let transaction = transaction.unwrap();
        for revision in transaction.revisions {
            there.insert(revision.data.unwrap(), transaction.tid);
        }
    }
    let finished = fates.iter().filter(|(_, fate)| fate.is_ok()).count();
    let unknown = fates.iter().filter(|(_, fate)| matches!(fate, Err(ClientError::OutcomeUnknown { .. }))).count();
    assert!(finished > 20 && finished < fates.len(), "{finished} of {} were finished", fates.len());
    println!("{finished} finished, {unknown} unknown, of {}", fates.len());
    for (data, fate) in fates {
        match fate {
            Ok(tid) => assert_eq!(there.get(&data), Some(&tid)),
            Err(ClientError::OutcomeUnknown { .. }) => {}
            Err(error) => assert_eq!(there.get(&data), None, "{error}"),
        }
    }
}

type Fates = Vec<(bytes::Bytes, Result<Tid, ClientError>)>;

fn commits(client: &Client, n: u64) -> Fates {
    let mut fates = Vec::new();
    for turn in 0..60 {
        let data = bytes::Bytes::from(format!("{n} {turn}"));
        let oid = Oid(turn % 4);
        let serial = match client
            .sync()
            .then({
                let client = client.clone();
                move |_| client.load(oid)
            })
            .wait()
        {
            Ok(found) => found.map_or(Tid::ZERO, |found| found.tid),
            Err(ClientError::Refused(_)) => Tid::ZERO,
            Err(error) => panic!("a load fails with {error}"),
        };
        let transaction = client.begin(TransactionMeta::new());
        transaction.store(oid, serial, data.clone());
        fates.push((data, transaction.commit().wait()));
    }
    fates
}

/// Clients that load at random and never see half a commit: both objects always have the same data.
#[test]
fn a_view_has_all_of_a_transaction_or_nothing() {
    let (_, served) = served(speaks(Codec::Msgpack));
    let writer = served.client(config(), Trouble::none());
    let reader = served.client(config(), Trouble::by(9, 0));
    let mut serial = Tid::ZERO;
    let mut write = |n: u64| {
        let transaction = writer.begin(TransactionMeta::new());
        for oid in [1, 2] {
            transaction.store(Oid(oid), serial, n.to_string().into());
        }
        serial = transaction.commit().wait().unwrap();
        serial
    };
    write(0);
    reader.sync().wait().unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reads = {
        let (reader, done) = (reader.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut views = 0_u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let view = reader.view();
                let [one, two] = [1, 2].map(|oid| view.load(Oid(oid)));
                let (one, two) = (one.wait().unwrap().unwrap(), two.wait().unwrap().unwrap());
                assert_eq!((one.data, one.tid), (two.data, two.tid), "half a commit at {}", view.at());
                views += 1;
            }
            views
        })
    };
    let mut last = Tid::ZERO;
    for n in 1..200 {
        last = write(n);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reads.join().unwrap() > 10);
    assert_eq!(reader.sync().wait(), Ok(last), "sync waits for what was finished");
}

/// Says bytes that no server says, and never ends.
struct Says(&'static [u8], bool);

impl Dial for Says {
    fn dial(&self, _: usize) -> Dialing<'_> {
        let (bytes, is_endless) = (self.0, self.1);
        Box::pin(async move {
            let (client, mut server) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move {
                let mut ignored = vec![0; 4096];
                _ = server.write_all(b"\0\0\0\x02M5").await;
                _ = server.read(&mut ignored).await;
                while server.write_all(bytes).await.is_ok() && is_endless {
                    tokio::task::yield_now().await;
                }
                while matches!(server.read(&mut ignored).await, Ok(1..)) {}
            });
            Ok(Box::new(client) as Box<dyn Stream>)
        })
    }
}

/// A call has an answer in bounded time, whatever the server says.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_anything_is_an_error_for_who_asks() {
    let tellings: [(&'static [u8], bool); 5] = [
        (b"", false),
        (b"\xff\xff\xff\xff", false),
        (b"\0\0\0\x05abcde", false),
        (b"\0\0\0\x01\xc0", true),
        // invalidateTransaction before there is a storage.
        (b"\0\0\0\x24\x94\x00\xc3\xb5invalidateTransaction\x92\xc4\x08\0\0\0\0", true),
    ];
    for (bytes, is_endless) in tellings {
        let second = Duration::from_secs(1);
        let patience = Patience { connect: second, server: 3 * second, reply: second, slow: second, pack: second };
        let config = Config { patience, ..Config::default() };
        let client = Client::on(&tokio::runtime::Handle::current(), config, Arc::new(Says(bytes, is_endless)), 1 << 20);
        let begun = tokio::time::Instant::now();
        let answer = client.load(Oid(1)).await;
        assert!(matches!(answer, Err(ClientError::NotConnected { .. })), "{answer:?}");
        assert!(begun.elapsed() < 5 * second, "{:?}", begun.elapsed());
    }
}

/// A server that does not read. A thread that stores, and waits for room, waits.
struct Deaf;

impl Dial for Deaf {
    fn dial(&self, _: usize) -> Dialing<'_> {
        Box::pin(async {
            let (client, mut server) = tokio::io::duplex(1 << 10);
            tokio::spawn(async move {
                let mut heard = vec![0; 16 << 10];
                let message = |hex: &[u8]| [&(hex.len() as u32).to_be_bytes()[..], hex].concat();
                let mut say = message(b"M5");
                _ = server.write_all(&say).await;
                _ = server.read(&mut heard).await;
                // register, then get_info.
                say = message(b"\x94\x01\x00\xa6.reply\xc4\x08\0\0\0\0\0\0\0\0");
                _ = server.write_all(&say).await;
                _ = server.read(&mut heard).await;
                say = message(b"\x94\x02\x00\xa6.reply\x80");
                _ = server.write_all(&say).await;
                std::future::pending::<()>().await;
            });
            Ok(Box::new(client) as Box<dyn Stream>)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn who_stores_waits_for_room() {
    let config = Config { heartbeat: Duration::from_secs(1 << 20), ..Config::default() };
    let client = Client::on(&tokio::runtime::Handle::current(), config, Arc::new(Deaf), 1 << 20);
    client.connected().await.unwrap();
    let transaction = client.begin(TransactionMeta::new());
    let record = bytes::Bytes::from(vec![1; 1 << 20]);
    let mut stored = 0;
    while tokio::time::timeout(Duration::from_secs(60), transaction.store(Oid(1), Tid::ZERO, record.clone()))
        .await
        .is_ok()
    {
        stored += 1;
        assert!(stored < 20, "nobody reads, and nobody waits");
    }
    assert!(stored >= 7, "{stored}");
}

/// Room comes with the end of the connection. The vote that waited for it is asked by the thread that ended it.
#[test]
fn what_waits_for_room_goes_on_when_the_connection_ends() {
    let second = Duration::from_secs(1);
    let config = Config { patience: Patience { reply: second, server: second, ..Patience::default() }, ..config() };
    let client = Client::on(runtime().handle(), config, Arc::new(Deaf), 1 << 20);
    client.connected().wait().unwrap();
    let transaction = client.begin(TransactionMeta::new());
    for _ in 0..12 {
        transaction.store(Oid(1), Tid::ZERO, vec![1; 1 << 20].into());
    }
    let (send, outcomes) = std::sync::mpsc::channel();
    transaction.commit().finally(move |outcome| send.send(outcome).unwrap());
    // This call is never answered. So the connection is closed.
    client.load(Oid(2)).finally(|_| ());
    let outcome = outcomes.recv_timeout(Duration::from_secs(30)).expect("nothing goes on any more");
    assert!(matches!(outcome, Err(ClientError::TransactionOver { .. })), "{outcome:?}");
}

/// Leads to one server, and later to another.
struct Switch(std::sync::Mutex<Arc<crate::common::Way>>);

impl Dial for Switch {
    fn dial(&self, address: usize) -> Dialing<'_> {
        let way = Arc::clone(&self.0.lock().unwrap());
        Box::pin(async move { way.dial(address).await })
    }
}

/// The server that was rolled back does not know that it gave them.
#[test]
fn oids_of_a_server_that_is_forgotten_are_not_used_with_another_one() {
    let (_, before) = served(speaks(Codec::Msgpack));
    let (_, after) = served(speaks(Codec::Msgpack));
    let switch = Arc::new(Switch(std::sync::Mutex::new(before.way(Trouble::none()))));
    let client = Client::on(runtime().handle(), config(), Arc::clone(&switch) as Arc<dyn Dial>, 1 << 20);
    let remote = RemoteStorage::of(client.clone(), "a server").unwrap();
    client.new_oid().wait().unwrap();
    remote.new_oids(3).unwrap();
    drop(before);
    while client.is_connected() {
        std::thread::yield_now();
    }
    *switch.0.lock().unwrap() = after.way(Trouble::none());
    client.forget().wait().unwrap();
    let mut given = after.client(config(), Trouble::none()).new_oids(100).wait().unwrap();
    given.extend((0..3).map(|_| client.new_oid().wait().unwrap()));
    given.extend(remote.new_oids(300).unwrap());
    given.sort();
    assert_eq!(given.len(), 403);
    given.dedup();
    assert_eq!(given.len(), 403, "some were given twice");
}

#[test]
fn a_remote_storage_is_used_as_any_other() {
    let (storage, served) = served(speaks(Codec::Msgpack));
    let remote = served.storage(vellum_client::Access::Write, Trouble::none());
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let _listening =
        remote.listen(Arc::new(move |event: &vellum_storage::Event| hears.lock().unwrap().push(event.clone())));
    let mut draft = remote.begin(TransactionMeta::new().user("ann")).unwrap();
    let oid = remote.new_oid().unwrap();
    draft.store(oid, Tid::ZERO, "one".into()).unwrap();
    draft.set_origin(vellum_storage::Origin(5));
    let tid = remote.commit(draft).unwrap();
    let origin = vellum_storage::Origin(5);
    assert_eq!(*heard.lock().unwrap(), [vellum_storage::Event::Committed { tid, oids: vec![oid], origin }]);
    assert_eq!(storage.load(oid, &Version::TRUNK).unwrap().tid, tid);
    // Two transactions of one storage: the second waits for the first.
    let begin = |data: &'static str| {
        let mut draft = remote.begin(TransactionMeta::new()).unwrap();
        draft.store(oid, tid, data.into()).unwrap();
        draft
    };
    let first = remote.vote(begin("two")).unwrap();
    let busy = remote.try_vote(begin("three")).unwrap();
    assert!(matches!(busy, vellum_storage::Vote::Busy(_)));
    drop(first);
    let vellum_storage::Vote::Voted(second) = remote.try_vote(begin("three")).unwrap() else { panic!("it is busy") };
    second.finish().unwrap();
    assert_eq!(remote.load(oid, &Version::TRUNK).unwrap().data, "three");
    let copied = MemoryStorage::new("a copy");
    vellum_storage::copy(&remote, &copied, TidRange::ALL, Default::default(), &mut |_| ()).unwrap();
    assert_eq!(copied.last_transaction(), storage.last_transaction());
}
