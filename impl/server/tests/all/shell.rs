//! The shell over pipes in memory, in time that advances when no task has anything to do: delays, splits, cuts, clients
//! that do not read, and the end at every moment.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use vellum_server::{Description, Door, Memory, Offered, Server, ServerOptions, Store};
use vellum_storage::{MemoryStorage, Oid, Storage, SystemClock, Tid};
use vellum_wire::{Begin, Call, Codec, Frames, Limits, Message, MessageId, Notice, Rope, Value};

pub(crate) const TRANSACTION: MessageId = MessageId(Value::Int(7));
/// The time of the current revision.
const NOW: Tid = Tid(i64::MAX as u64);

/// A running server of a storage in memory, and its door.
pub(crate) struct Site {
    pub storage: Arc<dyn Storage>,
    pub door: Door,
    end: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

impl Site {
    pub async fn new(options: ServerOptions) -> Site {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new("memory"));
        let description = Description {
            location: "memory".to_owned(),
            undoes: true,
            iterates_records: true,
            keeps_blobs: storage.blobs().is_some(),
            is_read_only: false,
            interfaces: Vec::new(),
        };
        let store = Store::new(Arc::clone(&storage));
        let offered = vec![Offered { name: "1".to_owned(), description, store }];
        let server = Server::bind(&[], offered, Arc::new(SystemClock), options).await.unwrap();
        let (end, ended) = oneshot::channel();
        let door = server.door();
        let server = tokio::spawn(server.run(async move { _ = ended.await }));
        Site { storage, door, end: Some(end), server }
    }

    /// A pipe to the server.
    pub async fn pipe(&self, room: usize) -> DuplexStream {
        let (client, server) = tokio::io::duplex(room);
        self.door.enter(server, "a pipe").await;
        client
    }

    /// A client that has registered.
    pub async fn client(&self) -> Client<DuplexStream> {
        let mut client = Client::new(self.pipe(64 << 10).await);
        client.register().await;
        client
    }

    pub fn begin_to_end(&mut self) {
        self.end.take().map(|end| end.send(()));
    }

    pub async fn end(mut self) {
        self.begin_to_end();
        self.server.await.unwrap().unwrap();
    }

    /// Waits until so many clients are there.
    async fn wait_for_clients(&self, count: usize) {
        while self.door.report().clients.len() != count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A client's end of a stream.
pub(crate) struct Client<S> {
    pub stream: S,
    frames: Frames,
    next: i64,
}

pub(crate) fn bytes_of(message: Message) -> Vec<u8> {
    let mut rope = Rope::default();
    Codec::Msgpack.encode(message, &mut rope).unwrap();
    let mut bytes = Vec::new();
    while !rope.is_empty() {
        let chunk = bytes::Buf::chunk(&rope).to_vec();
        bytes::Buf::advance(&mut rope, chunk.len());
        bytes.extend(chunk);
    }
    bytes
}

/// The messages of a commit of one object, with the greeting and the registration.
fn commit(data: &str) -> Vec<Vec<u8>> {
    let call = |id: i64, call: Call| bytes_of(call.into_message(Some(MessageId(Value::Int(id)))));
    vec![
        b"\0\0\0\x02M5".to_vec(),
        call(1, Call::Register { storage: Value::Text("1".to_owned()), read_only: false }),
        bytes_of(begin().into_message(None)),
        bytes_of(store(0, Tid::ZERO, data).into_message(None)),
        call(2, Call::Vote { transaction: TRANSACTION }),
        call(3, Call::TpcFinish { transaction: TRANSACTION }),
    ]
}

pub(crate) fn begin() -> Call {
    Call::TpcBegin(Box::new(Begin {
        transaction: TRANSACTION,
        user: Bytes::new(),
        description: Bytes::new(),
        extension: Value::Dict(vec![]),
        tid: None,
        status: Value::Text(" ".to_owned()),
    }))
}

fn store(oid: u64, serial: Tid, data: &str) -> Call {
    Call::Store { oid: Oid(oid), serial, data: Bytes::from(data.to_owned()), transaction: TRANSACTION }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        Client { stream, frames: Frames::new(1 << 30), next: 1 }
    }

    pub async fn register(&mut self) {
        self.stream.write_all(b"\0\0\0\x02M5").await.unwrap();
        self.call(Call::Register { storage: Value::Text("1".to_owned()), read_only: false }).await.unwrap();
    }

    /// The next frame; none at the end.
    async fn frame(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer).await? {
                0 => return Ok(None),
                count => self.frames.push(&buffer[..count]),
            }
        }
    }

    /// Reads until the answer to a call is there.
    async fn answer(&mut self, id: i64) -> io::Result<Value> {
        while let Some(frame) = self.frame().await? {
            if &*frame == b"Z5" || &*frame == b"M5" {
                continue;
            }
            let message = Codec::Msgpack.decode(&frame, Limits { parts_max: 1 << 20 }).map_err(io::Error::other)?;
            if message.id == Value::Int(id) {
                return Ok(message.args);
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    async fn ask(&mut self, call: Call) -> io::Result<i64> {
        let id = self.next;
        self.next += 1;
        self.stream.write_all(&bytes_of(call.into_message(Some(MessageId(Value::Int(id)))))).await?;
        Ok(id)
    }

    pub async fn call(&mut self, call: Call) -> io::Result<Value> {
        let id = self.ask(call).await?;
        self.answer(id).await
    }

    async fn say(&mut self, call: Call) -> io::Result<()> {
        self.stream.write_all(&bytes_of(call.into_message(None))).await
    }

    /// Commits one object, and returns its tid.
    pub async fn commit(&mut self, oid: u64, serial: Tid, data: &str) -> io::Result<Tid> {
        self.say(begin()).await?;
        self.say(store(oid, serial, data)).await?;
        self.call(Call::Vote { transaction: TRANSACTION }).await?;
        let tid = self.call(Call::TpcFinish { transaction: TRANSACTION }).await?;
        match tid {
            Value::Bytes(tid) => Ok(Tid::from_bytes((*tid).try_into().unwrap())),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    pub async fn load(&mut self, oid: u64) -> io::Result<Value> {
        self.call(Call::LoadBefore { oid: Oid(oid), before: NOW }).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_greet_keeps_its_place_for_a_while_only() {
    let site = Site::new(ServerOptions { connections_max: 1, ..ServerOptions::default() }).await;
    let _silent = site.pipe(1000).await;
    let begun = tokio::time::Instant::now();
    let mut ann = site.client().await;
    assert!(begun.elapsed() >= Duration::from_secs(30), "there was no place for it");
    ann.commit(0, Tid::ZERO, "one").await.unwrap();
    site.end().await;
}

#[tokio::test(start_paused = true)]
async fn segments_of_one_byte_with_delays_make_the_same_messages() {
    let site = Site::new(ServerOptions::default()).await;
    let mut ann = Client::new(site.pipe(1).await);
    let (mut reader, mut writer) = tokio::io::split(&mut ann.stream);
    let send = async {
        for byte in commit("one").concat() {
            writer.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    // The commit is over when the answer to its finish was read: a tid is its last value.
    let receive = async {
        let mut found = Vec::new();
        while site.storage.last_transaction() == Tid::ZERO
            || !found.ends_with(&site.storage.last_transaction().to_bytes())
        {
            found.push(reader.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(send, receive) }).await.expect("it goes on");
    site.end().await;
}

/// At every byte of a commit: no lock, no transaction and no memory stays behind.
#[tokio::test(start_paused = true)]
async fn a_cut_at_every_byte_leaves_nothing_behind() {
    let site = Site::new(ServerOptions::default()).await;
    let mut bob = site.client().await;
    let bytes = commit("one").concat();
    let mut serial = Tid::ZERO;
    for length in 0..=bytes.len() {
        let mut ann = site.pipe(64 << 10).await;
        ann.write_all(&bytes[..length]).await.unwrap();
        if length % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(ann);
        site.wait_for_clients(1).await;
        let newest = site.storage.load(Oid(0), &vellum_storage::Version::TRUNK).map_or(serial, |loaded| loaded.tid);
        serial = bob.commit(0, newest, "two").await.unwrap();
    }
    assert_eq!(site.door.report().transactions_in_memory, 0);
    site.end().await;
}

/// The record of a blob, as Python writes it.
const BLOB_RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";

/// The messages that store a blob, from the beginning of its transaction to the end of that.
fn blob(chunks: &[Bytes]) -> Vec<Call> {
    let (oid, serial, data) = (Oid(1), Tid::ZERO, Bytes::from_static(BLOB_RECORD));
    let mut calls = vec![begin()];
    calls.push(Call::Store { oid, serial, data: data.clone(), transaction: TRANSACTION });
    calls.push(Call::StoreBlobStart);
    calls.extend(chunks.iter().cloned().map(|chunk| Call::StoreBlobChunk { chunk }));
    calls.push(Call::StoreBlobEnd { oid, serial, data, transaction: TRANSACTION });
    calls
}

/// At every byte of a blob: nothing of it stays behind, and its object is free.
#[tokio::test(start_paused = true)]
async fn a_cut_at_every_byte_of_a_blob_leaves_nothing_behind() {
    let site = Site::new(ServerOptions::default()).await;
    let mut bob = site.client().await;
    let mut bytes = commit("").drain(..2).collect::<Vec<_>>().concat();
    let one = [Bytes::from_static(b"many "), Bytes::from_static(b"bytes")];
    bytes.extend(blob(&one).into_iter().flat_map(|call| bytes_of(call.into_message(None))));
    bytes.extend(bytes_of(Call::Vote { transaction: TRANSACTION }.into_message(Some(MessageId(Value::Int(2))))));
    let mut serial = Tid::ZERO;
    for length in 0..=bytes.len() {
        let mut ann = site.pipe(64 << 10).await;
        ann.write_all(&bytes[..length]).await.unwrap();
        if length % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(ann);
        site.wait_for_clients(1).await;
        serial = bob.commit(1, serial, "two").await.unwrap();
    }
    site.end().await;
}

/// A blob of many pieces waits for a client that does not read, while others are answered.
#[tokio::test]
async fn a_large_blob_is_stored_and_sent_to_a_client_that_takes_its_time() {
    let site = Site::new(ServerOptions::default()).await;
    let mut ann = site.client().await;
    let chunk = Bytes::from((0..59_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    for call in blob(&vec![chunk.clone(); 200]) {
        ann.say(call).await.unwrap();
    }
    ann.call(Call::Vote { transaction: TRANSACTION }).await.unwrap();
    ann.call(Call::TpcFinish { transaction: TRANSACTION }).await.unwrap();
    let tid = site.storage.last_transaction();
    let id = ann.ask(Call::SendBlob { oid: Oid(1), serial: tid }).await.unwrap();
    let mut bob = site.client().await;
    let mut serial = Tid::ZERO;
    for _ in 0..20 {
        serial = bob.commit(2, serial, "bob's").await.unwrap();
    }
    let (mut came, mut told) = (Vec::new(), 0);
    loop {
        let frame = ann.frame().await.unwrap().unwrap();
        let message = Codec::Msgpack.decode(&frame, Limits { parts_max: 1 << 20 }).unwrap();
        if message.id == Value::Int(id) {
            break;
        }
        match Notice::parse(&message.name, message.args).unwrap() {
            Notice::ReceiveBlobChunk { chunk, .. } => came.extend_from_slice(&chunk),
            Notice::Invalidate { .. } => told += 1,
            _ => {}
        }
    }
    assert!(came == chunk.repeat(200), "{} bytes came", came.len());
    assert_eq!(told, 20, "it is told of commits before the blob has ended");
    site.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_read_from_and_others_notice_nothing() {
    let site = Site::new(ServerOptions { unread_max: 1 << 20, ..ServerOptions::default() }).await;
    let mut ann = site.client().await;
    ann.commit(0, Tid::ZERO, &"a".repeat(300_000)).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(ann.ask(Call::LoadBefore { oid: Oid(0), before: NOW }).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let loads = site.door.report().storages[0].loads;
    assert!((2..10).contains(&loads), "{loads} loads were carried out for a client that does not read");
    let mut bob = site.client().await;
    bob.load(0).await.unwrap();
    for id in ids {
        ann.answer(id).await.unwrap();
    }
    assert_eq!(site.door.report().storages[0].loads, 101);
    site.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_what_is_pushed_is_cut_off() {
    let memory = Memory { unread_hard: 20_000, ..Memory::default() };
    let mut options = ServerOptions { unread_max: 1000, ..ServerOptions::default() };
    options.config.memory = memory;
    let site = Site::new(options).await;
    let mut deaf = Client::new(site.pipe(1000).await);
    deaf.register().await;
    let mut bob = site.client().await;
    let mut serial = Tid::ZERO;
    for _ in 0..1000 {
        serial = bob.commit(0, serial, "one").await.unwrap();
    }
    site.wait_for_clients(1).await;
    bob.commit(0, serial, "two").await.unwrap();
    site.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_greeting_is_not_collected() {
    let site = Site::new(ServerOptions::default()).await;
    for bytes in [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 6], &[1; 9000]] {
        let mut stranger = site.pipe(64 << 10).await;
        stranger.write_all(bytes).await.unwrap();
        let mut found = Vec::new();
        let begun = tokio::time::Instant::now();
        stranger.read_to_end(&mut found).await.unwrap();
        assert_eq!(found, b"\0\0\0\x02Z5");
        assert!(begun.elapsed() < Duration::from_secs(1), "{}", bytes.escape_ascii());
    }
    site.end().await;
}

#[tokio::test(start_paused = true)]
async fn port_checks_are_counted() {
    let site = Site::new(ServerOptions::default()).await;
    for _ in 0..3 {
        drop(site.pipe(100).await);
    }
    site.wait_for_clients(0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.door.report().port_checks, 3);
    site.end().await;
}

/// The server is ended after every message of a commit. A transaction whose client was told of its finish is finished;
/// a voted one is still finished; and the server ends soon, also where a client never finishes and never reads.
#[tokio::test(start_paused = true)]
async fn the_end_at_every_moment_loses_nothing_that_was_answered() {
    let messages = commit("one");
    for moment in 0..=messages.len() {
        let mut site = Site::new(ServerOptions::default()).await;
        let mut ann = Client::new(site.pipe(64 << 10).await);
        for message in &messages[..moment] {
            ann.stream.write_all(message).await.unwrap();
            tokio::task::yield_now().await;
        }
        if moment == 5 {
            // The vote is answered.
            ann.answer(2).await.unwrap();
        }
        site.begin_to_end();
        tokio::time::sleep(Duration::from_millis(20)).await;
        for message in &messages[moment..] {
            // The connection may be closed already.
            let _ = ann.stream.write_all(message).await;
        }
        let answered = ann.answer(3).await.is_ok();
        let is_there = site.storage.last_transaction() != Tid::ZERO;
        assert!(is_there || !answered, "after message {moment}: it was answered, and is not there");
        assert!(answered || moment < 5, "after message {moment}: it was voted, and is not finished");
        let begun = tokio::time::Instant::now();
        site.end().await;
        assert!(begun.elapsed() < Duration::from_secs(15), "after message {moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_does_not_keep_the_server() {
    let mut site = Site::new(ServerOptions::default()).await;
    let mut ann = site.client().await;
    ann.say(begin()).await.unwrap();
    ann.say(store(0, Tid::ZERO, "one")).await.unwrap();
    ann.call(Call::Vote { transaction: TRANSACTION }).await.unwrap();
    site.begin_to_end();
    let begun = tokio::time::Instant::now();
    let storage = Arc::clone(&site.storage);
    site.end().await;
    let took = begun.elapsed();
    assert!((10..13).contains(&took.as_secs()), "{took:?}");
    assert_eq!(storage.last_transaction(), Tid::ZERO);
    let mut draft = storage.begin(Default::default()).unwrap();
    draft.store(Oid(0), Tid::ZERO, "two".into()).unwrap();
    storage.commit(draft).expect("its lock is free");
}
