//! Blobs over the network: how fast they are stored and loaded, and how much memory the server takes for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use vellum_storage::{Oid, Tid};
use vellum_wire::{Codec, Message, Rope, Value};

use super::client::{Client, eight};
use super::process::Server;
use super::{CLIENTS, MEGA, fresh, in_threads, together};
use crate::bench::Trouble;
use crate::bench::rows::Rows;
use crate::bench::table::Line;

/// ZEO's clients send pieces of this size.
const CHUNK: usize = 59_000;
/// The record of a blob, as Python writes it.
const RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";
/// Blobs of a megabyte that a client stores and loads.
const SMALL: usize = 20;
/// Bytes that each client moves while the server's memory is looked at.
const MOVED: u64 = 1 << 30;
/// One that is larger than any of the server's numbers of 32 bits.
const HUGE: u64 = 4 << 30;

/// Both servers, with blob folders. They are in memory, if the system has a file system there: what is measured is the
/// software, and not the disk.
struct Pair {
    folder: PathBuf,
    ours: Server,
    zeo: Server,
}

/// The folder for a pair of servers. It is taken away with what is in it.
impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Pair {
    fn start(rows: &Rows<'_>) -> Result<Pair, Trouble> {
        let memory = Path::new("/dev/shm");
        let above = if memory.is_dir() { memory } else { rows.folder };
        let folder = above.join(format!("vellum-bench-blobs-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let ours = Server::with_blobs(&folder.join("ours.fs"), &folder.join("ours"))?;
        let zeo = Server::runzeo_with_blobs(rows.python, &folder.join("zeo.fs"), &folder.join("zeo"))?;
        Ok(Pair { folder, ours, zeo })
    }
}

/// The frames that bring a blob, without its end.
fn frames(length: usize) -> Result<Bytes, Trouble> {
    let (mut rope, chunk) = (Rope::default(), Bytes::from(vec![b'x'; CHUNK]));
    Codec::Pickle.encode(Message::one_way("storeBlobStart", vec![]), &mut rope)?;
    for at in (0..length).step_by(CHUNK) {
        let chunk = chunk.slice(..CHUNK.min(length - at));
        Codec::Pickle.encode(Message::one_way("storeBlobChunk", vec![Value::Bytes(chunk)]), &mut rope)?;
    }
    Ok(rope.copy_to_bytes(rope.len()))
}

/// Commits a new blob, whose frames come in pieces, and returns its tid.
fn store<'a>(client: &mut Client, oid: Oid, frames: impl IntoIterator<Item = &'a Bytes>) -> Result<Tid, Trouble> {
    let (transaction, empty) = (Value::Int(1), || Value::Bytes(Bytes::new()));
    let begin =
        vec![transaction.clone(), empty(), empty(), Value::Dict(vec![]), Value::None, Value::Text(" ".to_owned())];
    client.tell("tpc_begin", begin)?;
    let record = || vec![eight(oid), eight(Tid::ZERO), Value::Bytes(RECORD.into()), transaction.clone()];
    client.tell("storea", record())?;
    for piece in frames {
        client.send_bytes(piece)?;
    }
    client.tell("storeBlobEnd", record())?;
    client.call("vote", vec![transaction.clone()])?;
    match client.call("tpc_finish", vec![transaction.clone()])? {
        Value::Bytes(tid) => Ok(Tid::from_bytes(tid[..].try_into()?)),
        other => Err(format!("tpc_finish: {other:?}").into()),
    }
}

/// Fetches a blob and throws it away. The frames have a little more than its bytes.
fn load(client: &mut Client, oid: Oid, tid: Tid, length: u64) -> Result<(), Trouble> {
    let bytes = client.swallow("sendBlob", vec![eight(oid), eight(tid)])?;
    match bytes >= length {
        true => Ok(()),
        false => Err(format!("{bytes} bytes came of a blob of {length}").into()),
    }
}

impl Rows<'_> {
    /// Clients store blobs of this many bytes, or load them.
    pub(super) fn blobs(&self, loads: bool, clients: usize, length: usize) -> Result<Line, Trouble> {
        let pair = Pair::start(self)?;
        let count = if length > 1 << 20 { 1 } else { SMALL };
        let frames = frames(length)?;
        let next = AtomicU64::new(1);
        let store_all = |server: &Server| {
            together(&server.address, clients, |client, _| {
                let store_one = |_| {
                    let oid = Oid(next.fetch_add(1, Ordering::Relaxed));
                    Ok::<_, Trouble>((oid, store(client, oid, [&frames])?))
                };
                (0..count).map(store_one).collect::<Result<Vec<_>, _>>()
            })
        };
        let stored = [store_all(&pair.ours)?.1.concat(), store_all(&pair.zeo)?.1.concat()];
        let turn = |server: &Server, stored: &[(Oid, Tid)]| match loads {
            false => store_all(server).map(|(took, _)| took),
            true => {
                let load_all = |client: &mut Client, n: usize| {
                    let mine = &stored[n * count..][..count];
                    mine.iter().try_for_each(|(oid, tid)| load(client, *oid, *tid, length as u64))
                };
                together(&server.address, clients, load_all).map(|(took, _)| took)
            }
        };
        let file = pair.folder.join("bare");
        std::fs::write(&file, vec![b'x'; length])?;
        let limit =
            || if loads { bare_loads(&file, clients, count) } else { bare_stores(&file, clients, count, length) };
        let (doing, bare) = match loads {
            true => ("loads", "sendfile"),
            false => ("stores", "copied into files, synced"),
        };
        let what = format!("{doing} of {count} x {} MB by {clients} clients", length >> 20);
        let limit: Option<(_, super::Timed<'_>)> = Some((bare, &limit));
        let ours = || turn(&pair.ours, &stored[0]);
        let mut line = self.turns(what, &ours, &|| turn(&pair.zeo, &stored[1]), limit)?;
        let rate = |took: Duration| (clients * count * length) as f64 / MEGA / took.as_secs_f64();
        let peer = line.peer.map_or(0.0, rate);
        let bare = line.limit.map_or(0.0, |(took, _)| rate(took));
        line.notes.push(format!(
            "{}: {:.0} MiB/s, runzeo {peer:.0} MiB/s, bare {bare:.0} MiB/s",
            line.what,
            rate(line.ours)
        ));
        Ok(line)
    }

    /// Memory while eight clients store and load a gigabyte each, and while one moves four. The time is that of the
    /// loads.
    pub(super) fn blob_memory(&self) -> Result<Line, Trouble> {
        let folder = self.folder.join("blob-memory");
        let _ = std::fs::remove_dir_all(&folder);
        let file = fresh(self.folder, "serve-blobs.fs");
        let server = Server::with_blobs(&file, &folder)?;
        let part = frames(CHUNK * 1024)?;
        // The first message is the beginning.
        let start = frames(0)?;
        let chunks = part.slice(start.len()..);
        let pieces = |length: u64| length.div_ceil((CHUNK * 1024) as u64) as usize;
        let (mut notes, mut took) = (Vec::new(), Duration::ZERO);
        for (clients, length) in [(CLIENTS, MOVED), (1, HUGE)] {
            let first = clients as u64 * 100;
            let connected: Vec<Client> =
                (0..clients).map(|_| Client::connect(&server.address, Codec::Pickle)).collect::<Result<_, _>>()?;
            server.forget_peak();
            let (idle, _) = server.memory()?;
            let store_one = |client: &mut Client, n: usize| {
                let all = std::iter::once(&start).chain(std::iter::repeat_n(&chunks, pieces(length)));
                store(client, Oid(first + n as u64), all)
            };
            let (_, tids) = in_threads(connected, store_one)?;
            let (_, stored) = server.memory()?;
            server.forget_peak();
            let load_one = |client: &mut Client, n: usize| load(client, Oid(first + n as u64), tids[n], length);
            (took, _) = together(&server.address, clients, load_one)?;
            let (_, loaded) = server.memory()?;
            notes.push(format!(
                "{clients} clients, {:.0} GiB each: {:.1} MiB idle, {:.1} MiB more to store it, {:.1} MiB more to load it",
                length as f64 / MEGA / 1024.0,
                idle as f64 / MEGA,
                stored.saturating_sub(idle) as f64 / MEGA,
                loaded.saturating_sub(idle) as f64 / MEGA,
            ));
        }
        drop(server);
        std::fs::remove_dir_all(&folder)?;
        Ok(Line { what: "a load of a blob of 4 GiB".to_owned(), ours: took, peer: None, limit: None, notes })
    }
}

/// Bytes over loopback into files, which are synced; and nothing else.
fn bare_stores(file: &Path, clients: usize, count: usize, length: usize) -> Result<Duration, Trouble> {
    let receive = |mut stream: TcpStream, n: usize| {
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..count {
            let mut to =
                OpenOptions::new().write(true).create(true).truncate(true).open(file.with_extension(n.to_string()))?;
            let mut left = length;
            while left > 0 {
                let most = left.min(buffer.len());
                let read = stream.read(&mut buffer[..most])?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                to.write_all(&buffer[..read])?;
                left -= read;
            }
            to.sync_all()?;
            stream.write_all(b".")?;
        }
        Ok(())
    };
    let send = |mut stream: TcpStream| {
        let bytes = vec![b'x'; length];
        for _ in 0..count {
            stream.write_all(&bytes)?;
            stream.read_exact(&mut [0])?;
        }
        Ok(())
    };
    bare(clients, &receive, &send)
}

/// The same the other way: the system sends a file.
fn bare_loads(file: &Path, clients: usize, count: usize) -> Result<Duration, Trouble> {
    let send = |mut stream: TcpStream, _| {
        for _ in 0..count {
            stream.read_exact(&mut [0])?;
            io::copy(&mut File::open(file)?, &mut stream)?;
        }
        Ok(())
    };
    let length = file.metadata()?.len();
    let receive = |mut stream: TcpStream| {
        let mut buffer = vec![0; 256 << 10];
        for _ in 0..count {
            stream.write_all(b".")?;
            let mut left = length;
            while left > 0 {
                match stream.read(&mut buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => left -= read as u64,
                }
            }
        }
        Ok(())
    };
    bare(clients, &send, &receive)
}

/// Threads on both sides of so many connections.
fn bare(
    connections: usize,
    server: &(dyn Fn(TcpStream, usize) -> io::Result<()> + Sync),
    client: &(dyn Fn(TcpStream) -> io::Result<()> + Sync),
) -> Result<Duration, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..connections {
        let (near, (far, _)) = (TcpStream::connect(address)?, listener.accept()?);
        // Otherwise the end of a blob waits until the other side has something to say.
        [&near, &far].iter().try_for_each(|stream| stream.set_nodelay(true))?;
        pairs.push((near, far));
    }
    let started = Instant::now();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (n, (near, far)) in pairs.into_iter().enumerate() {
            running.push(scope.spawn(move || server(far, n)));
            running.push(scope.spawn(move || client(near)));
        }
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked"))?)
    })?;
    Ok(started.elapsed())
}
