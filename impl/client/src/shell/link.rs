//! Bytes that wait to be sent to the server.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Buf;
use tokio::sync::Notify;
use vellum_pickle::Sink;
use vellum_sync::Mutex;
use vellum_wire::{Codec, Message, Rope, Unwritable, greet};

use crate::promise::{Promise, Resolver};

/// Messages to be sent, from the machine to the task that writes it.
#[derive(Default)]
pub(crate) struct Link {
    outgoing: Mutex<Outgoing>,
    /// Bytes that are not written yet.
    unsent: AtomicUsize,
    is_closed: AtomicBool,
    /// Something is to be sent, or the connection to be closed.
    pub changed: Notify,
}

#[derive(Default)]
struct Outgoing {
    rope: Rope,
    codec: Option<Codec>,
    /// The handle by which a sending thread writes at once.
    direct: Option<Box<dyn Write + Send>>,
    /// Whether the connection's task has bytes that come before those here.
    is_task_writing: bool,
    /// Those that wait for room.
    waiting: Vec<Resolver<()>>,
}

/// Beyond so many bytes that are not sent, a caller that stores is asked to wait.
const UNSENT_MAX: usize = 8 << 20;
/// A message that nobody waits for, a store for example, is sent with the one after it, or when there is so much of
/// it: a write for each would take longer than all the rest.
const TOGETHER: usize = 32 << 10;

impl Link {
    /// Answers the greeting. All messages are in this codec from now on.
    pub fn speak(&self, codec: Codec) {
        let mut outgoing = self.outgoing.lock();
        outgoing.codec = Some(codec);
        let Ok(()) = outgoing.rope.frame(|rope| {
            rope.extend_from_slice(greet(codec));
            Ok::<_, std::convert::Infallible>(())
        });
        self.count(&outgoing, 0);
        self.changed.notify_one();
    }

    /// The codec; none before the greeting.
    pub fn codec(&self) -> Option<Codec> {
        self.outgoing.lock().codec
    }

    /// Has a message sent.
    ///
    /// # Errors
    ///
    /// The codec has no words for it.
    pub fn send(&self, message: Message) -> Result<(), Unwritable> {
        let mut outgoing = self.outgoing.lock();
        let Some(codec) = outgoing.codec else { return Ok(()) };
        let (before, is_one_way) = (outgoing.rope.len(), message.is_one_way());
        codec.encode(message, &mut outgoing.rope)?;
        self.count(&outgoing, before);
        if !is_one_way || outgoing.rope.len() >= TOGETHER {
            self.write_at_once(&mut outgoing);
        }
        Ok(())
    }

    fn count(&self, outgoing: &Outgoing, before: usize) {
        self.unsent.fetch_add(outgoing.rope.len() - before, Ordering::Relaxed);
    }

    /// Writes as much as can be written without waiting, and leaves the rest to the connection's task. A call spares a
    /// thread that way.
    fn write_at_once(&self, outgoing: &mut Outgoing) {
        let Outgoing { rope, direct, is_task_writing, .. } = outgoing;
        let mut sent = 0;
        if let (Some(direct), false) = (direct, *is_task_writing) {
            // The task finds out what is wrong with the connection, if anything is.
            while let Ok(count @ 1..) = direct.write(rope.chunk()) {
                rope.advance(count);
                sent += count;
                if rope.is_empty() {
                    break;
                }
            }
        }
        if !rope.is_empty() {
            self.changed.notify_one();
        }
        self.unsent.fetch_sub(sent, Ordering::Relaxed);
    }

    /// Has sending threads write by this handle, too.
    pub fn write_by(&self, direct: Option<Box<dyn Write + Send>>) {
        self.outgoing.lock().direct = direct;
    }

    /// Takes all that is to be sent. The task that takes it has written all that it took before.
    pub fn take(&self) -> Rope {
        let mut outgoing = self.outgoing.lock();
        outgoing.is_task_writing = !outgoing.rope.is_empty();
        std::mem::take(&mut outgoing.rope)
    }

    /// So many bytes were written.
    pub fn sent(&self, count: usize) {
        let before = self.unsent.fetch_sub(count, Ordering::Relaxed);
        if before - count < UNSENT_MAX / 2 {
            self.make_room();
        }
    }

    /// There is room. Not to be called under a lock: those that waited may go on at once.
    fn make_room(&self) {
        let waiting = std::mem::take(&mut self.outgoing.lock().waiting);
        waiting.into_iter().for_each(|waiter| waiter.resolve(Ok(())));
    }

    /// A promise of room for more.
    pub fn room(&self) -> Promise<()> {
        if self.unsent.load(Ordering::Relaxed) < UNSENT_MAX || self.is_closed() {
            return Promise::of(Ok(()));
        }
        let (promise, resolver) = Promise::new(None);
        self.outgoing.lock().waiting.push(resolver);
        // It may have become free, or closed, in between.
        if self.unsent.load(Ordering::Relaxed) < UNSENT_MAX / 2 || self.is_closed() {
            self.make_room();
        }
        promise
    }

    /// Has the connection closed. Unsent bytes are not sent. Returns those that waited for room: they need none now,
    /// and are to be told under no lock.
    #[must_use]
    pub fn close(&self) -> Vec<Resolver<()>> {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_one();
        let mut outgoing = self.outgoing.lock();
        outgoing.direct = None;
        std::mem::take(&mut outgoing.waiting)
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }
}
