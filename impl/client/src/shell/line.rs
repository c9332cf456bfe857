//! A task for each connection, which moves bytes and knows nothing of the protocol but its frames.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vellum_wire::{Frames, Limits, Rope};

use super::dial::Stream;
use super::hub::Hub;
use super::link::Link;
use crate::event::{ConnectionId, Event};

/// So much is read at once.
const READ_SIZE: usize = 64 << 10;
/// Values in a message. A list of what was changed while a client was away has the most.
const PARTS_MAX: usize = 1 << 20;
/// A greeting has no more bytes.
const GREETING_MAX: usize = 64;
/// How TLS and HTTP answer what they take for theirs.
const STRANGERS: [(&[u8], &str); 2] =
    [(b"\x15\x03", "the server speaks TLS, and this client was not told to"), (b"HTTP", "an HTTP server is there")];

/// A connection's bytes.
pub(crate) struct Line<'a> {
    pub connection: ConnectionId,
    pub hub: &'a Arc<Hub>,
    pub link: &'a Link,
    pub message_size_max: usize,
}

impl Line<'_> {
    /// Moves bytes until one side ends it, and says how it ended.
    pub async fn go_on(self, stream: Box<dyn Stream>) -> String {
        match self.move_bytes(stream).await {
            Ok(why) => why.to_owned(),
            Err(error) => error.to_string(),
        }
    }

    async fn move_bytes(&self, stream: Box<dyn Stream>) -> io::Result<&'static str> {
        self.link.write_by(stream.direct());
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut frames, mut rope) = (Frames::new(GREETING_MAX), Rope::default());
        let mut has_greeted = false;
        let mut buffer = vec![0; READ_SIZE];
        loop {
            if self.link.is_closed() {
                // The other side shall see an end, and no error.
                let _ = writer.shutdown().await;
                return Ok("this client closed it");
            }
            if rope.is_empty() {
                rope = self.link.take();
            }
            tokio::select! {
                biased;
                written = writer.write_buf(&mut rope), if !rope.is_empty() => {
                    match written? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        count => self.link.sent(count),
                    }
                    // Written bytes should not wait in a buffer of TLS.
                    if rope.is_empty() {
                        writer.flush().await?;
                    }
                }
                read = reader.read(&mut buffer) => match read? {
                    0 => return Ok("the server closed it"),
                    count => {
                        let bytes = &buffer[..count];
                        if !has_greeted && let Some((_, who)) = STRANGERS.iter().find(|(begin, _)| bytes.starts_with(begin)) {
                            return Ok(who);
                        }
                        frames.push(bytes);
                        if !has_greeted {
                            has_greeted = self.greet(&mut frames);
                        }
                        if has_greeted {
                            self.hear(&mut frames);
                        }
                    }
                },
                () = self.link.changed.notified() => {}
            }
        }
    }

    /// Takes the first frame, if it is there. The server waits for an answer to it, so nothing comes behind it.
    fn greet(&self, frames: &mut Frames) -> bool {
        match frames.next_frame() {
            Ok(None) => return false,
            Ok(Some(frame)) if frames.waiting() == 0 => {
                self.hub.happen(Event::Greeted { connection: self.connection, frame });
            }
            _ => self.malformed("it does not greet as ZEO's servers do".to_owned()),
        }
        *frames = Frames::new(self.message_size_max);
        true
    }

    fn malformed(&self, why: String) {
        self.hub.happen(Event::Malformed { connection: self.connection, why });
    }

    /// Has the machine hear the frames that are complete.
    fn hear(&self, frames: &mut Frames) {
        let Some(codec) = self.link.codec() else { return };
        while !self.link.is_closed() {
            match frames.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => match codec.decode(&frame, Limits { parts_max: PARTS_MAX }) {
                    Ok(message) => self.hub.happen(Event::Received { connection: self.connection, message }),
                    Err(error) => return self.malformed(error.to_string()),
                },
                Err(too_large) => return self.malformed(too_large.to_string()),
            }
        }
    }
}
