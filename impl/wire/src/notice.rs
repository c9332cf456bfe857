//! The messages of a server to a client that answer no call.

use bytes::Bytes;
use vellum_pickle::Value;
use vellum_storage::{Oid, Tid};

use crate::Message;
use crate::ahead::{self, Ahead, PREFETCHED};
use crate::arguments::{BadCall, Method, parse};
use crate::call::eight;

/// A one-way message of a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A transaction of another client was finished. It changed these objects.
    Invalidate {
        /// Its tid.
        tid: Tid,
        /// The objects, those included that it created.
        oids: Vec<Oid>,
    },
    /// The storage has another size: after a commit of this client's own, and after a pack.
    Info {
        /// Objects.
        length: i64,
        /// Bytes.
        size: i64,
    },
    /// A blob that was asked for begins.
    ReceiveBlobStart {
        /// The object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
    },
    /// A piece of it.
    ReceiveBlobChunk {
        /// The object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
        /// The piece.
        chunk: Bytes,
    },
    /// It is complete.
    ReceiveBlobStop {
        /// The object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
    },
    /// Some of the revisions that a prefetch asked for: an extension.
    Prefetched {
        /// The call that asked for them.
        call: i64,
        /// The revisions, in their order.
        revisions: Vec<Ahead>,
    },
}

impl Notice {
    /// As a server sends it.
    pub fn into_message(self) -> Message {
        let (name, args) = match self {
            Notice::Invalidate { tid, oids } => {
                ("invalidateTransaction", vec![eight(tid), Value::List(oids.into_iter().map(eight).collect())])
            }
            Notice::Info { length, size } => {
                let pairs = [("length", length), ("size", size)];
                let pairs = pairs.map(|(key, number)| (Value::Text(key.to_owned()), Value::Int(number)));
                ("info", vec![Value::Dict(pairs.to_vec())])
            }
            Notice::ReceiveBlobStart { oid, serial } => ("receiveBlobStart", vec![eight(oid), eight(serial)]),
            Notice::ReceiveBlobChunk { oid, serial, chunk } => {
                ("receiveBlobChunk", vec![eight(oid), eight(serial), Value::Bytes(chunk)])
            }
            Notice::ReceiveBlobStop { oid, serial } => ("receiveBlobStop", vec![eight(oid), eight(serial)]),
            Notice::Prefetched { call, revisions } => (PREFETCHED, vec![Value::Int(call), ahead::list(revisions)]),
        };
        Message::one_way(name, args)
    }

    /// Reads a notice from a message's name and arguments.
    ///
    /// # Errors
    ///
    /// There is no such notice, or it has other arguments. A client ignores it.
    pub fn parse(name: &Value, args: Value) -> Result<Notice, BadCall> {
        parse(NOTICES, name, args)
    }
}

const NOTICES: &[Method<Notice>] = &[
    ("invalidateTransaction", |a| {
        let tid = a.tid()?;
        Ok(Notice::Invalidate { tid, oids: a.oids()? })
    }),
    ("info", |a| a.read("a dict with length and size", info)),
    ("receiveBlobStart", |a| Ok(Notice::ReceiveBlobStart { oid: a.oid()?, serial: a.tid()? })),
    ("receiveBlobChunk", |a| Ok(Notice::ReceiveBlobChunk { oid: a.oid()?, serial: a.tid()?, chunk: a.bytes()? })),
    ("receiveBlobStop", |a| Ok(Notice::ReceiveBlobStop { oid: a.oid()?, serial: a.tid()? })),
    (PREFETCHED, |a| {
        let call = a.int()?;
        Ok(Notice::Prefetched { call, revisions: a.read("revisions of four parts each", ahead::read_list)? })
    }),
];

fn info(value: Value) -> Option<Notice> {
    let Value::Dict(pairs) = value else { return None };
    let number = |wanted: &str| {
        let pair = pairs.iter().rfind(|(key, _)| matches!(key, Value::Text(key) if key == wanted))?;
        pair.1.as_int()
    };
    Some(Notice::Info { length: number("length")?, size: number("size")? })
}
