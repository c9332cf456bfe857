//! The send queue of a client.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use vellum_sync::Mutex;
use vellum_wire::{Codec, Message, Value};

/// The messages to a client, from the machine to the task that writes them.
#[derive(Default)]
pub(crate) struct Link {
    outgoing: Mutex<Outgoing>,
    /// Bytes of messages that wait here.
    waiting: AtomicU64,
    /// Whether the client is not to be read from.
    is_paused: AtomicBool,
    /// Something is to be sent, or the connection is to be read from again, or to be closed.
    pub changed: Notify,
}

/// Where commits come one after the other, a client is told of them so often at most, unless it is answered: a write
/// for each of them to each client would take more time than the commits. ZODB opens a connection without asking its
/// server, so a client that is told late shows an old state: with 4 ms that was seen often, with 1 ms not.
pub(crate) const TELLING_PAUSE: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Outgoing {
    items: VecDeque<Item>,
    end: Option<End>,
    /// When something was taken the last time.
    taken: Option<Instant>,
    /// Whether what waits is to be sent a little later.
    is_held_back: bool,
}

/// The next item to write.
pub(crate) enum Item {
    Message(Message),
    /// A piece of a blob, of so many bytes.
    Piece(Message, u64),
    Frame(String),
    Codec(Codec),
}

impl Item {
    /// Bytes that it will be, roughly.
    fn weight(&self) -> u64 {
        match self {
            Item::Message(message) => 32 + weight(&message.args),
            Item::Piece(_, bytes) => 64 + bytes,
            Item::Frame(frame) => frame.len() as u64,
            Item::Codec(_) => 0,
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// When all that waits is sent.
    AfterWriting,
    /// At once.
    Now,
}

impl Link {
    /// Takes the next messages: no more than `room` bytes, except for the last message.
    pub fn take(&self, room: usize) -> VecDeque<Item> {
        let room = room as u64;
        let mut outgoing = self.outgoing.lock();
        if !outgoing.items.is_empty() {
            outgoing.taken = Some(Instant::now());
            outgoing.is_held_back = false;
        }
        if self.waiting.load(Ordering::Relaxed) <= room {
            self.waiting.store(0, Ordering::Relaxed);
            return std::mem::take(&mut outgoing.items);
        }
        let (mut taken, mut bytes) = (VecDeque::new(), 0);
        while bytes < room {
            let Some(item) = outgoing.items.pop_front() else { break };
            bytes += item.weight();
            taken.push_back(item);
        }
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        taken
    }

    /// Bytes of messages that wait here.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether the connection is to end.
    pub fn end(&self) -> Option<End> {
        self.outgoing.lock().end
    }

    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    pub fn pause(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Has something sent. True if that is to be asked for a little later: it answers nothing, and something else was
    /// sent a moment ago.
    #[must_use]
    pub fn push(&self, item: Item) -> bool {
        let is_answer = !matches!(&item, Item::Message(message) if message.is_one_way());
        let mut outgoing = self.outgoing.lock();
        self.waiting.fetch_add(item.weight(), Ordering::Relaxed);
        outgoing.items.push_back(item);
        let is_early = !is_answer && outgoing.taken.is_some_and(|taken| taken.elapsed() < TELLING_PAUSE);
        let was_held_back = std::mem::replace(&mut outgoing.is_held_back, is_early);
        drop(outgoing);
        if !is_early {
            self.changed.notify_one();
        }
        is_early && !was_held_back
    }

    /// Has what was held back sent, unless it has left since.
    pub fn tell(&self) {
        if self.outgoing.lock().is_held_back {
            self.changed.notify_one();
        }
    }

    pub fn close(&self, end: End) {
        self.outgoing.lock().end = Some(end);
        self.changed.notify_one();
    }
}

/// Bytes of a value on the wire, roughly.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Bytes(bytes) => 8 + bytes.len() as u64,
        Value::Text(text) => 8 + text.len() as u64,
        Value::List(values) | Value::Tuple(values) => 8 + values.iter().map(weight).sum::<u64>(),
        Value::Dict(pairs) => 8 + pairs.iter().map(|(key, value)| weight(key) + weight(value)).sum::<u64>(),
        _ => 8,
    }
}
