//! The events of the machine, and its effects.

use std::time::Duration;

use bytes::Bytes;
use vellum_storage::{Oid, Origin, Tid};
use vellum_wire::{Codec, Message};

use crate::ask::{Answer, Ask};
use crate::error::ClientError;

/// A connection, or an attempt to make one. A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Something that was asked. The application's side chooses the number, and never uses it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromiseId(pub u64);

/// An event of the machine.
#[derive(Clone, Debug)]
pub enum Event {
    /// The application asks something.
    Asked {
        /// The name of the answer.
        promise: PromiseId,
        /// The question.
        ask: Ask,
    },
    /// A connection is made.
    Connected {
        /// The connection.
        connection: ConnectionId,
    },
    /// The server's first frame arrived.
    Greeted {
        /// The connection.
        connection: ConnectionId,
        /// The frame.
        frame: Bytes,
    },
    /// A message arrived.
    Received {
        /// The connection.
        connection: ConnectionId,
        /// The message.
        message: Message,
    },
    /// A frame arrived that is no message, or is too long.
    Malformed {
        /// The connection.
        connection: ConnectionId,
        /// The fault in it.
        why: String,
    },
    /// The connection ended, or could not be made.
    Lost {
        /// The connection.
        connection: ConnectionId,
        /// How.
        why: String,
    },
    /// Time has passed.
    Tick {
        /// Since the machine was made.
        now: Duration,
    },
    /// The client is to end.
    End,
}

/// An effect that the machine wants. The effects on one connection are in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A connection is to be made.
    Connect {
        /// The connection.
        connection: ConnectionId,
        /// To the address at this place of the list.
        address: usize,
    },
    /// The greeting is to be answered with this codec, in which all further messages are.
    Speak {
        /// The connection.
        connection: ConnectionId,
        /// The codec.
        codec: Codec,
    },
    /// A message is to be sent.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// The message.
        message: Message,
    },
    /// A connection is to be closed, or no longer to be made. The machine has forgotten it.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// Why, for the log.
        why: String,
    },
    /// Something that was asked has its answer. There is one for each [`Event::Asked`].
    Resolve {
        /// The question.
        promise: PromiseId,
        /// The answer.
        outcome: Result<Answer, ClientError>,
    },
    /// The blob that was asked for begins; or a piece of it is here, and comes after those before it. It may begin
    /// again, if its connection ended.
    Blob {
        /// The question.
        promise: PromiseId,
        /// The piece; none where it begins.
        piece: Option<Bytes>,
    },
    /// Something changed that listeners want to know, in its order among answers.
    Tell(Told),
    /// An [`Event::Tick`] is wanted at this time, or before it.
    WakeAt {
        /// The time.
        at: Duration,
    },
}

/// News for listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A transaction was finished, by anybody. After a reconnection it may stand for several transactions.
    Committed {
        /// The transaction.
        tid: Tid,
        /// The objects that it changed.
        oids: Vec<Oid>,
        /// Zero, unless it was a transaction of this client.
        origin: Origin,
    },
    /// Transactions were finished while no server was there, and nobody knows what they changed.
    Missed {
        /// The last transaction that was known; zero if it was [forgotten](Ask::Forget).
        after: Tid,
        /// The last transaction.
        last: Tid,
    },
    /// A server is there, and the cache is verified.
    Ready {
        /// The address at this place of the list.
        address: usize,
        /// Whether it lets this client only read.
        is_read_only: bool,
    },
    /// No server is there.
    Lost {
        /// Why.
        why: String,
    },
    /// A server was found that this client does not work with.
    Trouble {
        /// Why.
        why: String,
    },
}
