//! A small client for commands: one connection, one call after the other, and no cache. It blocks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{Buf, Bytes};
use vellum_server::Address;
use vellum_wire::{Call, Codec, Fault, Frames, Greeting, Limits, Message, MessageId, Rope, Value};

/// Answers of these commands are small.
const FRAME_SIZE_MAX: usize = 64 << 20;
const PARTS_MAX: usize = 1 << 20;

/// Why a server could not be asked.
#[derive(Debug)]
pub enum Trouble {
    /// No server listens there, or the connection ended.
    Connection(io::Error),
    /// It is no ZEO server, or one that is too old.
    Protocol(String),
    /// The server's error.
    Refused(Fault),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Connection(error) => write!(f, "{}", system_error(error)),
            Trouble::Protocol(why) => write!(f, "{why}"),
            Trouble::Refused(fault) => write!(f, "the server answers {fault}"),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Connection(error)
    }
}

/// An error of the system as Python shows it: `[Errno 111] Connection refused`.
pub fn system_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            format!("[Errno {number}] {text}")
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        None => error.to_string(),
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection to a server.
pub struct Connection {
    stream: Stream,
    frames: Frames,
}

impl Connection {
    /// Connects. Each address of a host is tried.
    ///
    /// # Errors
    ///
    /// None of them answers within the time.
    pub fn open(address: &Address, timeout: Duration) -> io::Result<Connection> {
        let stream = match address {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::Tcp(address) => {
                let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                let mut connected = None;
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, timeout) {
                        Ok(stream) => {
                            connected = Some(stream);
                            break;
                        }
                        Err(error) => failed = error,
                    }
                }
                let stream = connected.ok_or(failed)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        };
        let mut connection = Connection { stream, frames: Frames::new(FRAME_SIZE_MAX) };
        connection.wait_at_most(Some(timeout))?;
        Ok(connection)
    }

    /// Limits how long reading waits; without a limit, until the server answers or is gone.
    pub fn wait_at_most(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout),
            Stream::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Reads a frame.
    pub fn read_frame(&mut self) -> Result<Bytes, Trouble> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(too_large) => return Err(Trouble::Protocol(format!("this is no ZEO server: {too_large}"))),
            }
            let count = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut buffer)?,
                Stream::Unix(stream) => stream.read(&mut buffer)?,
            };
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.frames.push(&buffer[..count]);
        }
    }

    /// Writes a frame.
    pub fn write_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?.to_be_bytes();
        self.write(&[&length, frame].concat())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// A client of one storage.
pub struct Client {
    connection: Connection,
    codec: Codec,
    last_id: i64,
}

impl Client {
    /// Connects, greets in the codec that the server would like, and registers for a storage, only to read.
    ///
    /// # Errors
    ///
    /// No server answers in time; it is no ZEO server; it has no such storage.
    pub fn register(address: &Address, storage: &str, timeout: Duration) -> Result<Client, Trouble> {
        let mut connection = Connection::open(address, timeout)?;
        let greeting = connection.read_frame()?;
        let codec = Greeting::answer(&greeting).ok_or_else(|| {
            let shown = greeting.slice(..greeting.len().min(Greeting::SHOWN_MAX));
            Trouble::Protocol(format!(
                "it greets with {}, which is no protocol of ZEO 5 or later",
                shown.escape_ascii()
            ))
        })?;
        connection.write_frame(vellum_wire::greet(codec))?;
        let mut client = Client { connection, codec, last_id: 0 };
        client.call(Call::Register { storage: Value::Text(storage.to_owned()), read_only: true })?;
        Ok(client)
    }

    /// Calls, and waits for the answer. Other messages of the server are skipped.
    ///
    /// # Errors
    ///
    /// The server's error; the connection ended; no answer came in time.
    pub fn call(&mut self, call: Call) -> Result<Value, Trouble> {
        self.last_id += 1;
        let id = Value::Int(self.last_id);
        let mut rope = Rope::default();
        let message = call.into_message(Some(MessageId(id.clone())));
        self.codec.encode(message, &mut rope).map_err(|error| Trouble::Protocol(error.to_string()))?;
        let bytes = rope.copy_to_bytes(rope.remaining());
        self.connection.write(&bytes)?;
        loop {
            let frame = self.connection.read_frame()?;
            let message = self.codec.decode(&frame, Limits { parts_max: PARTS_MAX });
            let message = message.map_err(|error| Trouble::Protocol(format!("a message cannot be read: {error}")))?;
            let Message { id: answered, flag, args, .. } = message;
            if answered != id {
                continue;
            }
            // The flag tells an answer from an exception.
            if matches!(flag, Value::Int(0) | Value::Bool(false)) {
                return Ok(args);
            }
            let unknown = || Trouble::Protocol("the server answers with an error that cannot be read".to_owned());
            return Err(Fault::parse(args).map_or_else(unknown, Trouble::Refused));
        }
    }

    /// Lets answers take as long as they take.
    pub fn be_patient(&mut self) -> io::Result<()> {
        self.connection.wait_at_most(None)
    }
}
