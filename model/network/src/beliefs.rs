//! The beliefs that a client may have, by the messages that it got.

use std::collections::{BTreeMap, BTreeSet};

use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_wire::{Ahead, Call, Found, Message, MessageId, Notice, Value};

/// A client's knowledge. It holds the server to the promises that clients rely on, and panics where one is broken.
#[derive(Clone, Debug, Default)]
pub struct Beliefs {
    name: String,
    /// The last transaction that it was told of, after it registered.
    last: Option<Tid>,
    /// Objects of which it knows the current revision.
    current: BTreeMap<Oid, Tid>,
    /// When objects were last changed, by what it was told.
    changed: BTreeMap<Oid, Tid>,
    /// Calls that are not answered.
    asked: BTreeMap<i64, Call>,
    /// The objects that its transactions changed, including the aborted ones: calls overlap, so it may not know which.
    changes: BTreeSet<Oid>,
    /// The blob that is being sent to it, and the bytes that it has received so far.
    coming: Option<(Oid, Tid, Vec<u8>)>,
    /// The blob that came last as a whole.
    came: Option<(Oid, Tid)>,
    /// Blobs that nobody has looked at yet.
    blobs: Vec<(Oid, Tid, Vec<u8>)>,
    /// The last transaction that it knew when it asked for this.
    asked_at: BTreeMap<i64, Option<Tid>>,
    /// The objects that each of its prefetches has brought so far.
    ahead: BTreeMap<i64, BTreeSet<Oid>>,
}

impl Beliefs {
    /// A client that knows nothing.
    pub fn new(name: impl Into<String>) -> Beliefs {
        Beliefs { name: name.into(), ..Beliefs::default() }
    }

    /// It calls, and will be answered.
    pub fn asks(&mut self, id: i64, call: Call) {
        if let Call::LoadMany { .. } | Call::Prefetch { .. } = call {
            self.asked_at.insert(id, self.last);
            self.ahead.insert(id, BTreeSet::new());
        }
        self.asked.insert(id, call);
    }

    /// It stores an object in its transaction.
    pub fn stores(&mut self, oid: Oid) {
        self.changes.insert(oid);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Blobs that it was sent since this was asked the last time.
    pub fn take_blobs(&mut self) -> Vec<(Oid, Tid, Vec<u8>)> {
        std::mem::take(&mut self.blobs)
    }

    /// Calls that are not answered.
    pub fn open_calls(&self) -> usize {
        self.asked.len()
    }

    /// The last transaction that it was told of; none before it registered.
    pub fn last(&self) -> Option<Tid> {
        self.last
    }

    /// The objects whose current revision it knows, with that.
    pub fn current(&self) -> &BTreeMap<Oid, Tid> {
        &self.current
    }

    /// It is told something.
    ///
    /// # Panics
    ///
    /// The server breaks a promise.
    pub fn hears(&mut self, message: &Message) {
        if message.name != Value::Text(".reply".to_owned()) {
            let notice = Notice::parse(&message.name, message.args.clone());
            let notice = notice.unwrap_or_else(|bad| panic!("{}: a server says no such thing: {bad}", self.name));
            return self.is_told(notice);
        }
        let Value::Int(id) = message.id else { panic!("{}: an answer to {:?}", self.name, message.id) };
        let call = self.asked.remove(&id).unwrap_or_else(|| panic!("{}: a second answer to {id}", self.name));
        if message.flag == Value::Int(2) {
            return;
        }
        match (call, &message.args) {
            (Call::Register { .. }, last) => self.last = Some(tid(last).expect("a tid")),
            (Call::LastTransaction, told) => {
                let told = tid(told).expect("a tid");
                assert_eq!(Some(told), self.last, "{}: the last tid is not the one that it was told of", self.name);
            }
            (Call::TpcFinish { .. }, Value::Bytes(_)) => {
                self.learns(tid(&message.args).expect("a tid"));
                self.changes.iter().for_each(|oid| _ = self.current.remove(oid));
            }
            (Call::SendBlob { oid, serial }, _) => {
                assert_eq!(
                    self.came.take(),
                    Some((oid, serial)),
                    "{}: a blob was answered, and did not come",
                    self.name
                );
            }
            (Call::LoadBefore { oid, .. }, Value::Tuple(parts)) => self.loads(oid, parts),
            (Call::LoadInVersion { oid, .. }, Value::Tuple(parts)) => {
                let of = tid(&parts[1]).expect("a tid");
                assert!(Some(of) <= self.last, "{}: {oid} is at {of}, and it was not told of that", self.name);
            }
            (Call::LoadMany { oids, .. }, Value::List(found)) => {
                assert!(found.len() <= oids.len(), "{}: more answers than loads", self.name);
                for (oid, found) in oids.iter().zip(found) {
                    match Found::read(found.clone()) {
                        Some(Found::Revision(revision)) => self.fetches(id, *oid, &revision),
                        Some(Found::NotYet | Found::NoObject) => {}
                        None => panic!("{}: an answer to a load is {found:?}", self.name),
                    }
                }
                self.ahead.remove(&id);
            }
            (Call::Prefetch { .. }, count) => {
                let came = self.ahead.remove(&id).unwrap_or_default().len() as i64;
                assert_eq!(*count, Value::Int(came), "{}: a prefetch has another end", self.name);
            }
            _ => {}
        }
    }

    fn is_told(&mut self, notice: Notice) {
        match notice {
            Notice::Invalidate { tid, oids } => {
                self.learns(tid);
                for oid in oids {
                    self.current.remove(&oid);
                    self.changed.insert(oid, tid);
                }
            }
            Notice::Info { .. } => {}
            Notice::Prefetched { call, revisions } => {
                let is_asked = matches!(self.asked.get(&call), Some(Call::Prefetch { .. }));
                assert!(is_asked, "{}: revisions that nobody asked for", self.name);
                for Ahead { oid, revision } in revisions {
                    self.fetches(call, oid, &revision);
                    let is_new = self.ahead.entry(call).or_default().insert(oid);
                    assert!(is_new, "{}: {oid} is prefetched twice", self.name);
                }
            }
            Notice::ReceiveBlobStart { oid, serial } => {
                assert!(Some(serial) <= self.last, "{}: a blob is of {serial}, and it was not told of that", self.name);
                assert_eq!(self.coming, None, "{}: a blob begins within another", self.name);
                self.coming = Some((oid, serial, Vec::new()));
            }
            Notice::ReceiveBlobChunk { oid, serial, chunk } => {
                let Some((of, tid, bytes)) = &mut self.coming else { panic!("{}: a piece of no blob", self.name) };
                assert_eq!((oid, serial), (*of, *tid), "{}: a piece of another blob", self.name);
                bytes.extend_from_slice(&chunk);
            }
            Notice::ReceiveBlobStop { oid, serial } => {
                let came = self.coming.take().unwrap_or_else(|| panic!("{}: no blob ends", self.name));
                assert_eq!((oid, serial), (came.0, came.1), "{}: another blob ends", self.name);
                self.came = Some((oid, serial));
                self.blobs.push(came);
            }
        }
    }

    /// A revision of the moment at which it asked. It is current unless it was told that the object was changed since.
    fn fetches(&mut self, id: i64, oid: Oid, LoadedAt { tid, next, .. }: &LoadedAt) {
        let asked_at = self.asked_at.get(&id).copied().flatten();
        assert!(Some(*tid) <= asked_at, "{}: it is sent {tid}, and knew {asked_at:?} when it asked", self.name);
        assert!(*next <= self.last, "{}: it is sent the end at {next:?}, and knows {:?}", self.name, self.last);
        let is_changed = self.changed.get(&oid).is_some_and(|changed| Some(*changed) > asked_at);
        // Its own transactions are not told by a notice.
        if next.is_none() && !is_changed && !self.changes.contains(&oid) {
            self.current.insert(oid, *tid);
        }
    }

    fn loads(&mut self, oid: Oid, parts: &[Value]) {
        let [_, since, next] = parts else { panic!("{}: an answer to a load with {} parts", self.name, parts.len()) };
        let (since, next) = (tid(since).expect("a tid"), tid(next));
        let of = next.unwrap_or(since).max(since);
        assert!(
            Some(of) <= self.last,
            "{}: a load tells of {of}, and the last it was told is {:?}",
            self.name,
            self.last
        );
        if next.is_none() {
            let changed = self.changed.get(&oid).copied().unwrap_or_default();
            assert!(
                since >= changed,
                "{}: {oid} is said to be current at {since}, and was changed by {changed}",
                self.name
            );
            self.current.insert(oid, since);
        }
    }

    /// It is told of a transaction, which must be the next one.
    fn learns(&mut self, tid: Tid) {
        assert!(Some(tid) > self.last, "{}: it is told of {tid} after {:?}", self.name, self.last);
        assert!(self.last.is_some(), "{}: it is told of {tid} before it registered", self.name);
        self.last = Some(tid);
    }
}

fn tid(value: &Value) -> Option<Tid> {
    match value {
        Value::Bytes(bytes) => <[u8; 8]>::try_from(&**bytes).ok().map(Tid::from_bytes),
        _ => None,
    }
}

/// A client's name for its call.
pub(crate) fn id(number: i64) -> MessageId {
    MessageId(Value::Int(number))
}
