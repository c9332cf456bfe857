//! The calls of a client to a server.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use vellum_pickle::{Value, encode};
use vellum_storage::{Oid, Tid, Version};

use crate::Message;
use crate::ahead::{LOAD_MANY, PREFETCH, Reach};
use crate::arguments::{Arguments, BadArguments, BadCall, Method, bytes, int, oid, parse};
use crate::versions;

/// A value by which one side names something to the other, and which is only ever compared and sent back. Two are the
/// same if they are written the same.
#[derive(Clone, Debug)]
pub struct MessageId(pub Value);

/// A client's name for a transaction: Python's clients take the address of an object.
pub type TransactionId = MessageId;

impl PartialEq for MessageId {
    fn eq(&self, other: &MessageId) -> bool {
        match (&self.0, &other.0) {
            (Value::Int(one), Value::Int(other)) => one == other,
            (one, other) => encode(one) == encode(other),
        }
    }
}

impl Eq for MessageId {}

impl Hash for MessageId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        encode(&self.0).hash(state);
    }
}

/// The beginning of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// The client's name for it.
    pub transaction: TransactionId,
    /// The user, as UTF-8.
    pub user: Bytes,
    /// The description, as UTF-8.
    pub description: Bytes,
    /// Anything else that the application says of it: a dict, None, or bytes that are a pickle.
    pub extension: Value,
    /// The tid that it must get: it is copied from another storage.
    pub tid: Option<Tid>,
    /// Its status, which is a blank unless it is copied.
    pub status: Value,
}

/// A call with its arguments. The names are the protocol's.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the arguments, by ZEO's names or the rules'")]
pub enum Call {
    /// The first call of every connection: which storage it is for. Answered with the last tid.
    Register { storage: Value, read_only: bool },
    /// The name and the capabilities of the storage.
    GetInfo,
    /// The last tid.
    LastTransaction,
    /// The objects that changed after `tid`; None if that is not known any more.
    GetInvalidations { tid: Tid },
    /// New oids.
    NewOids { count: i64 },
    /// A method that is offered and was never there.
    NewOid,
    /// Packs to a time in seconds since 1970; the answer comes at once, or when it is done.
    Pack { time: f64, wait: bool },
    /// Rule 2.2: data, tid and the next revision's tid.
    LoadBefore { oid: Oid, before: Tid },
    /// Rule 2.3.
    LoadSerial { oid: Oid, tid: Tid },
    /// The newest revision's tid.
    GetTid { oid: Oid },
    /// Rule 2.4.
    History { oid: Oid, size: i64 },
    /// Rule 2.9: the next object.
    RecordIterNext { next: Option<Oid> },
    /// Begins a transaction.
    TpcBegin(Box<Begin>),
    /// Rule 3.1.
    Store { oid: Oid, serial: Tid, data: Bytes, transaction: TransactionId },
    /// Rule 3.2.
    Delete { oid: Oid, serial: Tid, transaction: TransactionId },
    /// Rule 3.3.
    CheckCurrent { oid: Oid, serial: Tid, transaction: TransactionId },
    /// Rule 3.4. The transaction to undo is named as `undoLog` named it.
    Undo { undone: Bytes, transaction: TransactionId },
    /// Rule 3.7: a revision of another storage, there at `tid`.
    Restore { oid: Oid, tid: Tid, data: Option<Bytes>, source: Option<Tid>, transaction: TransactionId },
    /// The first phase.
    Vote { transaction: TransactionId },
    /// The second phase.
    TpcFinish { transaction: TransactionId },
    /// Gives the transaction up.
    TpcAbort { transaction: TransactionId },
    /// A blob of the transaction begins.
    StoreBlobStart,
    /// A piece of it.
    StoreBlobChunk { chunk: Bytes },
    /// It ends, and belongs to this record.
    StoreBlobEnd { oid: Oid, serial: Tid, data: Bytes, transaction: TransactionId },
    /// The same for a file in a folder that both sides see.
    StoreBlobShared { oid: Oid, serial: Tid, data: Bytes, file: Value, transaction: TransactionId },
    /// Asks for a blob's file.
    SendBlob { oid: Oid, serial: Tid },
    /// Rule 2.5: from the newest, the transactions with these numbers.
    UndoLog { first: i64, last: i64 },
    /// The same of those that a dict of attributes describes.
    UndoInfo { first: i64, last: i64, specification: Value },
    /// Rule 2.6: transactions, one after the other.
    IteratorStart { start: Option<Tid>, stop: Option<Tid> },
    /// The next one.
    IteratorNext { iterator: i64 },
    /// The revisions of the one that came last.
    IteratorRecordStart { iterator: i64, tid: Tid },
    /// The next one.
    IteratorRecordNext { iterator: i64 },
    /// These iterators are not needed any more.
    IteratorGc { iterators: Vec<i64> },
    /// The counters of the storage.
    ServerStatus,
    /// The client's name in logs.
    SetClientLabel { label: String },
    /// Nothing.
    Ping,
    /// Rule 9.2, an extension: what `loadBefore` returns for each of the first objects.
    LoadMany { oids: Vec<Oid>, before: Tid },
    /// Rule 9.3, an extension: the revisions come as notices, and then the answer, which is their number.
    Prefetch { oids: Vec<Oid>, before: Tid, reach: Reach },
    /// Rule 2.1 for a version, an extension.
    LoadInVersion { oid: Oid, version: Version },
    /// Rule 2.10, an extension.
    ModifiedInVersion { oid: Oid },
    /// Rule 2.11, an extension.
    Versions,
    /// Rule 3.1 in a version, an extension.
    StoreInVersion { oid: Oid, serial: Tid, data: Bytes, version: Version, transaction: TransactionId },
    /// Rule 3.5, an extension.
    CommitVersion { from: Version, to: Version, transaction: TransactionId },
    /// Rule 3.6, an extension.
    AbortVersion { from: Version, transaction: TransactionId },
    /// Rule 3.7 in a version, an extension.
    RestoreInVersion {
        oid: Oid,
        data: Option<Bytes>,
        version: Version,
        source: Option<Tid>,
        base: Option<Tid>,
        transaction: TransactionId,
    },
    /// Rule 2.6: the next revision, with its version and its base, an extension.
    NextInVersion { iterator: i64 },
}

/// So many oids are asked for unless a number is given.
const OIDS: i64 = 100;

impl Call {
    /// Reads a call from a message's name and arguments.
    ///
    /// # Errors
    ///
    /// There is no such method, or it takes other arguments.
    pub fn parse(name: &Value, args: Value) -> Result<Call, BadCall> {
        parse(METHODS, name, args)
    }

    /// The method's name.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Register { .. } => "register",
            Call::GetInfo => "get_info",
            Call::LastTransaction => "lastTransaction",
            Call::GetInvalidations { .. } => "getInvalidations",
            Call::NewOids { .. } => "new_oids",
            Call::NewOid => "new_oid",
            Call::Pack { .. } => "pack",
            Call::LoadBefore { .. } => "loadBefore",
            Call::LoadSerial { .. } => "loadSerial",
            Call::GetTid { .. } => "getTid",
            Call::History { .. } => "history",
            Call::RecordIterNext { .. } => "record_iternext",
            Call::TpcBegin(_) => "tpc_begin",
            Call::Store { .. } => "storea",
            Call::Delete { .. } => "deleteObject",
            Call::CheckCurrent { .. } => "checkCurrentSerialInTransaction",
            Call::Undo { .. } => "undoa",
            Call::Restore { .. } => "restorea",
            Call::Vote { .. } => "vote",
            Call::TpcFinish { .. } => "tpc_finish",
            Call::TpcAbort { .. } => "tpc_abort",
            Call::StoreBlobStart => "storeBlobStart",
            Call::StoreBlobChunk { .. } => "storeBlobChunk",
            Call::StoreBlobEnd { .. } => "storeBlobEnd",
            Call::StoreBlobShared { .. } => "storeBlobShared",
            Call::SendBlob { .. } => "sendBlob",
            Call::UndoLog { .. } => "undoLog",
            Call::UndoInfo { .. } => "undoInfo",
            Call::IteratorStart { .. } => "iterator_start",
            Call::IteratorNext { .. } => "iterator_next",
            Call::IteratorRecordStart { .. } => "iterator_record_start",
            Call::IteratorRecordNext { .. } => "iterator_record_next",
            Call::IteratorGc { .. } => "iterator_gc",
            Call::ServerStatus => "server_status",
            Call::SetClientLabel { .. } => "set_client_label",
            Call::Ping => "ping",
            Call::LoadMany { .. } => LOAD_MANY,
            Call::Prefetch { .. } => PREFETCH,
            Call::LoadInVersion { .. } => versions::LOAD,
            Call::ModifiedInVersion { .. } => versions::MODIFIED,
            Call::Versions => versions::VERSIONS,
            Call::StoreInVersion { .. } => versions::STORE,
            Call::CommitVersion { .. } => versions::COMMIT,
            Call::AbortVersion { .. } => versions::ABORT,
            Call::RestoreInVersion { .. } => versions::RESTORE,
            Call::NextInVersion { .. } => versions::NEXT,
        }
    }

    /// The call as a client sends it: with an id, it is answered; without one, it is not.
    pub fn into_message(self, id: Option<MessageId>) -> Message {
        let name = self.name();
        let args = self.into_arguments();
        match id {
            Some(MessageId(id)) => Message::call(id, name, args),
            None => Message::one_way(name, args),
        }
    }

    fn into_arguments(self) -> Vec<Value> {
        match self {
            Call::GetInfo | Call::LastTransaction | Call::NewOid | Call::StoreBlobStart => vec![],
            Call::ServerStatus | Call::Ping | Call::Versions => vec![],
            Call::NewOids { count: OIDS } => vec![],
            Call::Register { storage, read_only } => vec![storage, Value::Bool(read_only)],
            Call::GetInvalidations { tid } => vec![eight(tid)],
            Call::NewOids { count } => vec![Value::Int(count)],
            Call::Pack { time, wait } => vec![Value::Float(time), Value::Bool(wait)],
            Call::LoadBefore { oid, before } => vec![eight(oid), eight(before)],
            Call::LoadSerial { oid, tid } => vec![eight(oid), eight(tid)],
            Call::GetTid { oid } => vec![eight(oid)],
            Call::History { oid, size } => vec![eight(oid), Value::Int(size)],
            Call::RecordIterNext { next } => vec![next.map_or(Value::None, eight)],
            Call::TpcBegin(begin) => {
                let Begin { transaction, user, description, extension, tid, status } = *begin;
                let tid = tid.map_or(Value::None, eight);
                vec![transaction.0, Value::Bytes(user), Value::Bytes(description), extension, tid, status]
            }
            Call::Store { oid, serial, data, transaction } => {
                vec![eight(oid), eight(serial), Value::Bytes(data), transaction.0]
            }
            Call::Delete { oid, serial, transaction } | Call::CheckCurrent { oid, serial, transaction } => {
                vec![eight(oid), eight(serial), transaction.0]
            }
            Call::Undo { undone, transaction } => vec![Value::Bytes(undone), transaction.0],
            Call::Restore { oid, tid, data, source, transaction } => {
                let (data, source) = (data.map_or(Value::None, Value::Bytes), source.map_or(Value::None, eight));
                vec![eight(oid), eight(tid), data, source, transaction.0]
            }
            Call::Vote { transaction } | Call::TpcFinish { transaction } | Call::TpcAbort { transaction } => {
                vec![transaction.0]
            }
            Call::StoreBlobChunk { chunk } => vec![Value::Bytes(chunk)],
            Call::StoreBlobEnd { oid, serial, data, transaction } => {
                vec![eight(oid), eight(serial), Value::Bytes(data), transaction.0]
            }
            Call::StoreBlobShared { oid, serial, data, file, transaction } => {
                vec![eight(oid), eight(serial), Value::Bytes(data), file, transaction.0]
            }
            Call::SendBlob { oid, serial } => vec![eight(oid), eight(serial)],
            Call::UndoLog { first, last } => vec![Value::Int(first), Value::Int(last)],
            Call::UndoInfo { first, last, specification } => {
                vec![Value::Int(first), Value::Int(last), specification]
            }
            Call::IteratorStart { start, stop } => {
                vec![start.map_or(Value::None, eight), stop.map_or(Value::None, eight)]
            }
            Call::IteratorNext { iterator }
            | Call::IteratorRecordNext { iterator }
            | Call::NextInVersion { iterator } => vec![Value::Int(iterator)],
            Call::IteratorRecordStart { iterator, tid } => vec![Value::Int(iterator), eight(tid)],
            Call::IteratorGc { iterators } => vec![Value::List(iterators.into_iter().map(Value::Int).collect())],
            Call::SetClientLabel { label } => vec![Value::Text(label)],
            Call::LoadMany { oids, before } => vec![eights(oids), eight(before)],
            Call::Prefetch { oids, before, reach: Reach { depth, count, bytes } } => {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                vec![eights(oids), eight(before), int_of(depth), int_of(count), Value::Int(bytes)]
            }
            Call::LoadInVersion { oid, version } => vec![eight(oid), name(version)],
            Call::ModifiedInVersion { oid } => vec![eight(oid)],
            Call::StoreInVersion { oid, serial, data, version, transaction } => {
                vec![eight(oid), eight(serial), Value::Bytes(data), name(version), transaction.0]
            }
            Call::CommitVersion { from, to, transaction } => vec![name(from), name(to), transaction.0],
            Call::AbortVersion { from, transaction } => vec![name(from), transaction.0],
            Call::RestoreInVersion { oid, data, version, source, base, transaction } => {
                let (data, source) = (data.map_or(Value::None, Value::Bytes), source.map_or(Value::None, eight));
                vec![eight(oid), data, name(version), source, base.map_or(Value::None, eight), transaction.0]
            }
        }
    }
}

/// An oid or tid as the protocol writes it: eight bytes, big-endian.
pub(crate) fn eight(id: impl Into<u64>) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&id.into().to_be_bytes()))
}

/// A version as the protocol writes it: its name.
fn name(version: Version) -> Value {
    Value::Bytes(version.name().clone())
}

fn eights(oids: Vec<Oid>) -> Value {
    Value::List(oids.into_iter().map(eight).collect())
}

fn int_of(number: u32) -> Value {
    Value::Int(number.into())
}

/// Every method that a server offers, the ones for loads and commits first.
const METHODS: &[Method<Call>] = &[
    ("loadBefore", |a| Ok(Call::LoadBefore { oid: a.oid()?, before: a.tid()? })),
    ("storea", |a| {
        Ok(Call::Store { oid: a.oid()?, serial: a.serial()?, data: a.bytes()?, transaction: transaction(a)? })
    }),
    ("tpc_begin", |a| {
        Ok(Call::TpcBegin(Box::new(Begin {
            transaction: transaction(a)?,
            user: a.bytes_or_text()?,
            description: a.bytes_or_text()?,
            extension: a.read("a dict, bytes or None", |value| match value {
                Value::None | Value::Dict(_) | Value::Bytes(_) => Some(value),
                _ => None,
            })?,
            tid: a.optional_tid()?,
            status: a.next().unwrap_or_else(|| Value::Text(" ".to_owned())),
        })))
    }),
    ("vote", |a| Ok(Call::Vote { transaction: transaction(a)? })),
    ("tpc_finish", |a| Ok(Call::TpcFinish { transaction: transaction(a)? })),
    ("tpc_abort", |a| Ok(Call::TpcAbort { transaction: transaction(a)? })),
    ("ping", |_| Ok(Call::Ping)),
    ("checkCurrentSerialInTransaction", |a| {
        Ok(Call::CheckCurrent { oid: a.oid()?, serial: a.tid()?, transaction: transaction(a)? })
    }),
    ("deleteObject", |a| Ok(Call::Delete { oid: a.oid()?, serial: a.tid()?, transaction: transaction(a)? })),
    ("undoa", |a| Ok(Call::Undo { undone: a.bytes_or_text()?, transaction: transaction(a)? })),
    ("restorea", |a| {
        Ok(Call::Restore {
            oid: a.oid()?,
            tid: a.tid()?,
            data: a.optional("bytes or None", bytes)?,
            source: a.optional_tid()?,
            transaction: transaction(a)?,
        })
    }),
    ("register", |a| Ok(Call::Register { storage: a.value()?, read_only: a.truth_or(false) })),
    ("get_info", |_| Ok(Call::GetInfo)),
    ("lastTransaction", |_| Ok(Call::LastTransaction)),
    ("getInvalidations", |a| Ok(Call::GetInvalidations { tid: a.tid()? })),
    ("new_oids", |a| Ok(Call::NewOids { count: a.int_or(OIDS)? })),
    ("new_oid", |_| Ok(Call::NewOid)),
    ("pack", |a| {
        let time = a.read("a number", |value| match value {
            Value::Float(number) => Some(number),
            value => int(&value).map(|number| number as f64),
        })?;
        Ok(Call::Pack { time, wait: a.truth_or(true) })
    }),
    ("loadSerial", |a| Ok(Call::LoadSerial { oid: a.oid()?, tid: a.tid()? })),
    ("getTid", |a| Ok(Call::GetTid { oid: a.oid()? })),
    ("history", |a| Ok(Call::History { oid: a.oid()?, size: a.int_or(1)? })),
    ("record_iternext", |a| Ok(Call::RecordIterNext { next: a.optional("an oid of 8 bytes, or None", |v| oid(&v))? })),
    ("storeBlobStart", |_| Ok(Call::StoreBlobStart)),
    ("storeBlobChunk", |a| Ok(Call::StoreBlobChunk { chunk: a.bytes()? })),
    ("storeBlobEnd", |a| {
        Ok(Call::StoreBlobEnd { oid: a.oid()?, serial: a.serial()?, data: a.bytes()?, transaction: transaction(a)? })
    }),
    ("storeBlobShared", |a| {
        Ok(Call::StoreBlobShared {
            oid: a.oid()?,
            serial: a.serial()?,
            data: a.bytes()?,
            file: a.value()?,
            transaction: transaction(a)?,
        })
    }),
    ("sendBlob", |a| Ok(Call::SendBlob { oid: a.oid()?, serial: a.tid()? })),
    ("undoLog", |a| Ok(Call::UndoLog { first: a.int()?, last: a.int()? })),
    ("undoInfo", |a| {
        let (first, last) = (a.int()?, a.int()?);
        let is_short = |value| fits(&value, SPECIFICATION_MAX).then_some(value);
        Ok(Call::UndoInfo { first, last, specification: a.read("a specification of at most 64 KiB", is_short)? })
    }),
    ("iterator_start", |a| Ok(Call::IteratorStart { start: a.optional_tid()?, stop: a.optional_tid()? })),
    ("iterator_next", |a| Ok(Call::IteratorNext { iterator: a.int()? })),
    ("iterator_record_start", |a| Ok(Call::IteratorRecordStart { iterator: a.int()?, tid: a.tid()? })),
    ("iterator_record_next", |a| Ok(Call::IteratorRecordNext { iterator: a.int()? })),
    ("iterator_gc", |a| {
        let numbers = |items: Vec<Value>| items.iter().map(int).collect::<Option<Vec<_>>>();
        let iterators = a.read("a list of numbers", |value| match value {
            Value::Tuple(items) | Value::List(items) => numbers(items),
            _ => None,
        })?;
        Ok(Call::IteratorGc { iterators })
    }),
    ("server_status", |_| Ok(Call::ServerStatus)),
    ("set_client_label", |a| {
        let label = a.read("text", |value| match value {
            Value::Text(label) => Some(label),
            _ => None,
        })?;
        Ok(Call::SetClientLabel { label })
    }),
    (LOAD_MANY, |a| Ok(Call::LoadMany { oids: a.oids()?, before: a.tid()? })),
    (PREFETCH, |a| Ok(Call::Prefetch { oids: a.oids()?, before: a.tid()?, reach: reach(a)? })),
    (versions::LOAD, |a| Ok(Call::LoadInVersion { oid: a.oid()?, version: version(a)? })),
    (versions::MODIFIED, |a| Ok(Call::ModifiedInVersion { oid: a.oid()? })),
    (versions::VERSIONS, |_| Ok(Call::Versions)),
    (versions::STORE, |a| {
        Ok(Call::StoreInVersion {
            oid: a.oid()?,
            serial: a.serial()?,
            data: a.bytes()?,
            version: version(a)?,
            transaction: transaction(a)?,
        })
    }),
    (versions::COMMIT, |a| {
        Ok(Call::CommitVersion { from: version(a)?, to: version(a)?, transaction: transaction(a)? })
    }),
    (versions::ABORT, |a| Ok(Call::AbortVersion { from: version(a)?, transaction: transaction(a)? })),
    (versions::RESTORE, |a| {
        Ok(Call::RestoreInVersion {
            oid: a.oid()?,
            data: a.optional("bytes or None", bytes)?,
            version: version(a)?,
            source: a.optional_tid()?,
            base: a.optional_tid()?,
            transaction: transaction(a)?,
        })
    }),
    (versions::NEXT, |a| Ok(Call::NextInVersion { iterator: a.int()? })),
];

fn reach(arguments: &mut Arguments) -> Result<Reach, BadArguments> {
    let mut number = || arguments.read("a number that is not negative", |value| u64::try_from(int(&value)?).ok());
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Reach { depth: short(number()?), count: short(number()?), bytes: number()? })
}

fn version(arguments: &mut Arguments) -> Result<Version, BadArguments> {
    arguments.bytes().map(Version::named)
}

fn transaction(arguments: &mut Arguments) -> Result<TransactionId, BadArguments> {
    arguments.read("a short name of a transaction", |value| MessageId::is_short(&value).then_some(MessageId(value)))
}

/// Whether a value takes no more than so many bytes, roughly. It looks at no more of it than that.
fn fits(value: &Value, bytes_max: usize) -> bool {
    fn rest(value: &Value, left: usize) -> Option<usize> {
        let left = left.checked_sub(size_of::<Value>())?;
        match value {
            Value::Bytes(bytes) => left.checked_sub(bytes.len()),
            Value::BigInt(bytes) => left.checked_sub(bytes.len()),
            Value::Text(text) => left.checked_sub(text.len()),
            Value::Tuple(items) | Value::List(items) => items.iter().try_fold(left, |left, item| rest(item, left)),
            Value::Dict(pairs) => pairs.iter().try_fold(left, |left, (key, value)| rest(value, rest(key, left)?)),
            Value::Object(object) => {
                object.arguments.iter().chain(&object.state).try_fold(left, |left, item| rest(item, left))
            }
            Value::Class(class) => left.checked_sub(class.module.len() + class.name.len()),
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => Some(left),
        }
    }
    rest(value, bytes_max).is_some()
}

/// Bytes of what `undoInfo` looks for.
const SPECIFICATION_MAX: usize = 64 << 10;
/// The longest name of a call or a transaction, in bytes. A call is kept with its name, and answered with it.
const NAME_MAX: usize = 1 << 10;

impl MessageId {
    /// Whether a value may be a name: it takes no more than 1 KiB.
    pub fn is_short(value: &Value) -> bool {
        fits(value, NAME_MAX)
    }
}
