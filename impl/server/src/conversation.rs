//! A task for each client, which moves bytes and knows nothing of the protocol but its frames.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use vellum_sync::Spin;
use vellum_wire::{Codec, Frames, Greeting, Limits, Message, PlainLoad, Rope, greet};

use crate::hub::Hub;
use crate::link::{End, Item, Link};
use crate::{ConnectionId, Event, ServerOptions};

/// So much is read at once.
const READ_SIZE: usize = 64 << 10;
/// Values in a message. A client's message has few; an extension of 64 KiB has the most.
const PARTS_MAX: usize = 1 << 16;
/// Before its greeting a client has no reason to send more than this.
const GREETING_MAX: usize = 4 << 10;
/// How TLS begins.
const TLS_BEGINS: [u8; 2] = [0x16, 3];
/// A client whose connection is closed has so long to read its waiting messages.
const FAREWELL: Duration = Duration::from_secs(10);
/// A client's task stays awake for this time after it was busy. A client that asks for one thing after the other asks
/// again within it.
const AWAKE: Duration = Duration::from_micros(20);

/// How a conversation ended, as far as the network knows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The server closed it, and has said why.
    Closed,
    /// The client closed it.
    Left,
    /// The client closed it and had not said a word.
    LeftWithoutAWord,
}

/// A client's side of the shell.
pub(crate) struct Conversation<'a> {
    connection: ConnectionId,
    hub: &'a Arc<Hub>,
    link: &'a Link,
    frames: Frames,
    /// Whether complete frames may be there that were not looked at.
    has_frames: bool,
    codec: Option<Codec>,
    rope: Rope,
    /// For each piece of a blob that did not leave yet: its end, in bytes since the beginning of the connection, and
    /// its length.
    pieces: VecDeque<(u64, u64)>,
    sent: u64,
    unread_max: usize,
    has_heard: bool,
    is_closing: bool,
    /// The waits for the client.
    spin: Spin,
}

/// The end of a wait.
enum Happened {
    Wrote(io::Result<usize>),
    Read(io::Result<usize>),
    /// The link has something.
    Changed,
    Alarm,
}

impl<'a> Conversation<'a> {
    pub fn new(connection: ConnectionId, hub: &'a Arc<Hub>, link: &'a Link, options: &ServerOptions) -> Self {
        Conversation {
            connection,
            hub,
            link,
            frames: Frames::with_memory(options.message_size_max, hub.frames.clone()),
            has_frames: false,
            codec: None,
            rope: Rope::default(),
            pieces: VecDeque::new(),
            sent: 0,
            unread_max: options.unread_max,
            has_heard: false,
            is_closing: false,
            spin: Spin::new(AWAKE),
        }
    }

    /// Moves bytes until one side ends it.
    pub async fn go_on(mut self, stream: impl AsyncRead + AsyncWrite, options: &ServerOptions) -> io::Result<Ended> {
        match self.move_bytes(stream, options).await {
            // It was gone before it could be greeted.
            Err(error) if !self.has_heard && error.kind() != io::ErrorKind::TimedOut => Ok(Ended::LeftWithoutAWord),
            ended => ended,
        }
    }

    async fn move_bytes(&mut self, stream: impl AsyncRead + AsyncWrite, options: &ServerOptions) -> io::Result<Ended> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        self.send_frame(greet(options.codec));
        let mut buffer = vec![0; READ_SIZE];
        let greeting_ends = Instant::now() + options.greeting_timeout;
        let mut farewell_ends = None;
        loop {
            self.take();
            match self.link.end() {
                Some(End::Now) => return Ok(Ended::Closed),
                Some(End::AfterWriting) => self.is_closing = true,
                None => {}
            }
            if self.is_closing {
                let is_empty = self.rope.is_empty() && self.link.waiting() == 0;
                let ends = *farewell_ends.get_or_insert_with(|| Instant::now() + FAREWELL);
                if is_empty {
                    writer.shutdown().await?;
                }
                if is_empty || Instant::now() >= ends {
                    return Ok(Ended::Closed);
                }
            }
            let takes_more = self.takes_more();
            if takes_more && self.has_frames {
                self.look_at_frames();
                continue;
            }
            // A blob is there to be written all the time, and the client is listened to between its pieces.
            if takes_more && !self.pieces.is_empty() {
                let heard = tokio::select! {
                    biased;
                    read = reader.read(&mut buffer) => Some(read?),
                    () = std::future::ready(()) => None,
                };
                match heard {
                    Some(0) => return Ok(Ended::Left),
                    Some(count) => self.hear(&buffer[..count]),
                    None => {}
                }
            }
            let alarm = farewell_ends.or(self.codec.is_none().then_some(greeting_ends));
            let happens = async {
                tokio::select! {
                    biased;
                    written = writer.write_buf(&mut self.rope), if !self.rope.is_empty() => Happened::Wrote(written),
                    read = reader.read(&mut buffer), if takes_more => Happened::Read(read),
                    () = self.link.changed.notified() => Happened::Changed,
                    () = async { tokio::time::sleep_until(alarm.expect("it is set")).await }, if alarm.is_some() => {
                        Happened::Alarm
                    }
                }
            };
            match self.spin.wait(happens, tokio::task::yield_now).await {
                Happened::Wrote(written) => {
                    let written = written?;
                    if written == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    self.has_sent(written);
                    // Written bytes should not wait in a buffer of TLS.
                    if self.rope.is_empty() {
                        writer.flush().await?;
                    }
                }
                Happened::Read(read) => match read? {
                    0 if self.has_heard => return Ok(Ended::Left),
                    0 => return Ok(Ended::LeftWithoutAWord),
                    count => self.hear(&buffer[..count]),
                },
                Happened::Changed => {}
                Happened::Alarm if self.is_closing => {}
                Happened::Alarm => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not greet"));
                }
            }
        }
    }

    /// Whether more of the client is listened to.
    fn takes_more(&self) -> bool {
        let unread = self.rope.len() as u64 + self.link.waiting();
        unread < self.unread_max as u64 && !self.is_closing && !self.link.is_paused()
    }

    /// Bytes arrived.
    fn hear(&mut self, bytes: &[u8]) {
        let is_tls = !self.has_heard && bytes.starts_with(&TLS_BEGINS);
        self.has_heard = true;
        if is_tls {
            return self.give_up("it speaks TLS, and this port does not".to_owned());
        }
        self.frames.push(bytes);
        self.look_at_frames();
        if self.codec.is_none() && self.frames.waiting() > GREETING_MAX {
            self.give_up("it does not greet as ZEO's clients do".to_owned());
        }
    }

    fn give_up(&mut self, why: String) {
        self.hub.happen(Event::Malformed { connection: self.connection, why });
        self.is_closing = true;
    }

    /// Has the machine hear the frames that are complete, as long as the client reads what it is answered.
    fn look_at_frames(&mut self) {
        let connection = self.connection;
        self.has_frames = true;
        while self.takes_more() {
            let event = match (self.frames.next_frame(), self.codec) {
                (Ok(None), _) => {
                    self.has_frames = false;
                    return;
                }
                (Ok(Some(frame)), None) => {
                    let greeting = Greeting::of(&frame);
                    if let Greeting::Speaks(codec) = greeting {
                        self.codec = Some(codec);
                    }
                    Event::Greeted { connection, greeting }
                }
                (Ok(Some(frame)), Some(codec)) => match PlainLoad::of(codec, &frame) {
                    Some(load) => Event::Load { connection, load },
                    None => match codec.decode(&frame, Limits { parts_max: PARTS_MAX }) {
                        Ok(message) => match message.foreign_class() {
                            None => Event::Received { connection, message },
                            Some(class) => {
                                return self.give_up(format!("{}.{} is not allowed", class.module, class.name));
                            }
                        },
                        Err(error) => return self.give_up(error.to_string()),
                    },
                },
                (Err(too_large), _) => return self.give_up(too_large.to_string()),
            };
            self.hub.happen(event);
        }
    }

    /// Takes over what the machine wants sent, as far as there is room.
    fn take(&mut self) {
        for item in self.link.take(self.unread_max.saturating_sub(self.rope.len())) {
            match item {
                Item::Codec(codec) => self.codec = Some(codec),
                Item::Frame(frame) => self.send_frame(frame.as_bytes()),
                Item::Message(message) => self.encode(message),
                Item::Piece(message, bytes) => {
                    self.encode(message);
                    self.pieces.push_back((self.sent + self.rope.len() as u64, bytes));
                }
            }
        }
    }

    fn encode(&mut self, message: Message) {
        let codec = self.codec.expect("the machine answers a client that has greeted");
        let id = message.id.clone();
        if codec.encode(message, &mut self.rope).is_err() {
            let fault = vellum_wire::Fault::text("builtins.ValueError", "Couldn't pickle response");
            let error = Message::error(id, fault.into_value(codec));
            codec.encode(error, &mut self.rope).expect("an error can be written");
        }
    }

    /// Tells the machine of the pieces of blobs that have left.
    fn has_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        while let Some((_, bytes)) = self.pieces.front().copied().filter(|(end, _)| *end <= self.sent) {
            self.pieces.pop_front();
            self.hub.happen(Event::PieceSent { connection: self.connection, bytes });
        }
    }

    fn send_frame(&mut self, frame: &[u8]) {
        let write = |rope: &mut Rope| {
            vellum_pickle::Sink::extend_from_slice(rope, frame);
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = self.rope.frame(write);
    }
}
