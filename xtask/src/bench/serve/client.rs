//! A client that costs little: its calls are written beforehand, and of answers it only finds the ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use vellum_storage::{Oid, Tid};
use vellum_wire::{Codec, Frames, Limits, Message, Rope, Value, greet};

use crate::bench::Trouble;

/// A server that does not answer for so long never will.
const PATIENCE: Duration = Duration::from_secs(120);
const LIMITS: Limits = Limits { parts_max: 1 << 20 };

/// Frames with more bytes are parts of blobs.
const SHORT: usize = 300;

/// A connected client.
pub struct Client {
    stream: TcpStream,
    frames: Frames,
    codec: Codec,
    buffer: Vec<u8>,
    calls: i64,
}

/// An oid or tid as a value.
pub fn eight(id: impl Into<u64>) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&id.into().to_be_bytes()))
}

impl Client {
    /// Connects, greets, and registers for the storage 1.
    pub fn connect(address: &str, codec: Codec) -> Result<Client, Trouble> {
        let mut client = Client::bare(address, codec)?;
        client.frame()?;
        let mut greeting = 2_u32.to_be_bytes().to_vec();
        greeting.extend_from_slice(greet(codec));
        client.stream.write_all(&greeting)?;
        client.call("register", vec![Value::Text("1".to_owned()), Value::Bool(false)])?;
        Ok(client)
    }

    /// Connects, and says nothing.
    pub fn bare(address: &str, codec: Codec) -> Result<Client, Trouble> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream, frames: Frames::new(1 << 30), codec, buffer: vec![0; 256 << 10], calls: 0 })
    }

    /// The next frame.
    fn frame(&mut self) -> Result<Bytes, Trouble> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(frame);
            }
            let count = self.stream.read(&mut self.buffer)?;
            if count == 0 {
                return Err("the server closed the connection".into());
            }
            self.frames.push(&self.buffer[..count]);
        }
    }

    /// Calls a method and waits for the answer; other messages of the server are ignored.
    pub fn call(&mut self, method: &str, args: Vec<Value>) -> Result<Value, Trouble> {
        self.calls += 1;
        let id = Value::Int(self.calls);
        self.send(Message::call(id.clone(), method, args))?;
        loop {
            let frame = self.frame()?;
            let message = self.codec.decode(&frame, LIMITS)?;
            if message.id == id && message.name == Value::Text(".reply".to_owned()) {
                let is_error = matches!(message.flag, Value::Int(2));
                return if is_error { Err(format!("{method}: {:?}", message.args).into()) } else { Ok(message.args) };
            }
        }
    }

    /// Calls a method that is not answered.
    pub fn tell(&mut self, method: &str, args: Vec<Value>) -> Result<(), Trouble> {
        self.send(Message::one_way(method, args))
    }

    fn send(&mut self, message: Message) -> Result<(), Trouble> {
        let mut rope = Rope::default();
        self.codec.encode(message, &mut rope)?;
        while rope.has_remaining() {
            self.stream.write_all(rope.chunk())?;
            rope.advance(rope.chunk().len());
        }
        Ok(())
    }

    /// Sends bytes as they are: frames that were made before.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Calls a method, and throws away what comes before its answer, which is None: how many bytes that was.
    pub fn swallow(&mut self, method: &str, args: Vec<Value>) -> Result<u64, Trouble> {
        self.calls += 1;
        self.send(Message::call(Value::Int(self.calls), method, args))?;
        let (mut bytes, mut missing, mut head) = (0, 0, Vec::new());
        loop {
            let count = self.stream.read(&mut self.buffer)?;
            if count == 0 {
                return Err("the server closed the connection".into());
            }
            bytes += count as u64;
            let mut rest = &self.buffer[..count];
            while !rest.is_empty() {
                if missing > SHORT {
                    let now = rest.len().min(missing);
                    missing -= now;
                    rest.advance(now);
                    if missing <= SHORT && missing > 0 {
                        // The end of a long frame is no answer either.
                        head.clear();
                    }
                    continue;
                }
                let wanted = if missing == 0 { 4 } else { missing };
                let now = rest.len().min(wanted - head.len());
                head.extend_from_slice(&rest[..now]);
                rest.advance(now);
                if head.len() < wanted {
                    continue;
                }
                if missing == 0 {
                    missing = u32::from_be_bytes(head[..].try_into()?) as usize;
                } else {
                    if head.windows(6).any(|window| window == b".reply") {
                        let is_none = head.ends_with(b"Nt.") || head.ends_with(b"\xc0");
                        let error = || format!("{method}: {}", head.escape_ascii());
                        return if is_none { Ok(bytes) } else { Err(error().into()) };
                    }
                    missing = 0;
                }
                head.clear();
            }
        }
    }

    /// The last transaction.
    pub fn last(&mut self) -> Result<Tid, Trouble> {
        match self.call("lastTransaction", vec![])? {
            Value::Bytes(bytes) => Ok(Tid::from_bytes(bytes[..].try_into()?)),
            other => Err(format!("lastTransaction: {other:?}").into()),
        }
    }

    /// A load of an object as it was before a transaction: its record.
    pub fn load(&mut self, oid: Oid, before: Tid) -> Result<Bytes, Trouble> {
        match self.call("loadBefore", vec![eight(oid), eight(before)])? {
            Value::Tuple(mut parts) if !parts.is_empty() => match parts.swap_remove(0) {
                Value::Bytes(record) => Ok(record),
                other => Err(format!("loadBefore: {other:?}").into()),
            },
            other => Err(format!("loadBefore: {other:?}").into()),
        }
    }

    /// The loads of these objects as frames, one after the other, with the length of each.
    pub fn loads(&self, oids: &[Oid], before: Tid) -> Result<Calls, Trouble> {
        let mut rope = Rope::default();
        let mut ends = Vec::new();
        for (n, oid) in oids.iter().enumerate() {
            let args = vec![eight(*oid), eight(before)];
            self.codec.encode(Message::call(Value::Int(1000 + n as i64), "loadBefore", args), &mut rope)?;
            ends.push(rope.len());
        }
        Ok(Calls { bytes: rope.copy_to_bytes(rope.len()), ends })
    }

    /// Sends calls so that `window` of them are under way, until all are answered. Notes how long each batch of answers
    /// took to arrive in `waits`, if that is wanted.
    pub fn exchange(
        &mut self,
        calls: &Calls,
        window: usize,
        mut waits: Option<&mut Vec<Duration>>,
    ) -> Result<(), Trouble> {
        let (mut sent, mut answered) = (0, 0);
        let mut answers = Answers::default();
        while answered < calls.ends.len() {
            let now = (answered + window).min(calls.ends.len());
            if now > sent {
                let from = sent.checked_sub(1).map_or(0, |last| calls.ends[last]);
                self.stream.write_all(&calls.bytes[from..calls.ends[now - 1]])?;
                sent = now;
            }
            let began = waits.is_some().then(Instant::now);
            let before = answered;
            while answered == before {
                let count = self.stream.read(&mut self.buffer)?;
                if count == 0 {
                    return Err("the server closed the connection".into());
                }
                answered += answers.count(&self.buffer[..count]);
            }
            if let (Some(waits), Some(began)) = (&mut waits, began) {
                waits.push(began.elapsed());
            }
        }
        Ok(())
    }
}

/// Calls as they are sent.
pub struct Calls {
    bytes: Bytes,
    /// Where each ends.
    ends: Vec<usize>,
}

/// Finds the ends of frames in a stream.
#[derive(Default)]
struct Answers {
    /// Bytes of the frame that has begun.
    missing: usize,
    length: Vec<u8>,
}

impl Answers {
    /// How many frames end in these bytes.
    fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.missing > 0 {
                let now = self.missing.min(bytes.len());
                self.missing -= now;
                bytes.advance(now);
                ended += usize::from(self.missing == 0);
                continue;
            }
            let now = (4 - self.length.len()).min(bytes.len());
            self.length.extend_from_slice(&bytes[..now]);
            bytes.advance(now);
            if let Ok(length) = <[u8; 4]>::try_from(&self.length[..]) {
                self.missing = u32::from_be_bytes(length) as usize;
                self.length.clear();
                ended += usize::from(self.missing == 0);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_frames_are_found_however_the_stream_is_cut() {
        let stream = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c";
        for cut in 1..stream.len() {
            let mut answers = Answers::default();
            let found: usize = stream.chunks(cut).map(|bytes| answers.count(bytes)).sum();
            assert_eq!(found, 3, "in pieces of {cut}");
        }
    }
}
