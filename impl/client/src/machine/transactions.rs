//! Transactions. A server takes one at a time of each client, so others wait here.
//!
//! ```text
//!   begin ─▶ Open ── vote ─▶ Voting ─▶ Voted ── finish ─▶ Finishing ─▶ its tid
//!              ▲                │                             └── the connection ends: unknown, and never tried again
//!              └── conflicts ───┘   that the client is to merge
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vellum_pickle::Value;
use vellum_storage::{Change, Oid, Origin, Tid, TransactionMeta, Version};
use vellum_wire::{Call, Fault, MessageId};

use super::calls::{Kind, refusal};
use super::{Machine, WAITING_MAX, Waiting};
use crate::answers;
use crate::ask::{Answer, Ask, BlobPart, TransactionId, Voted};
use crate::error::ClientError;
use crate::event::{ConnectionId, PromiseId, Told};

/// The transaction that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    id: TransactionId,
    connection: ConnectionId,
    origin: Origin,
    /// The tid that it is to have.
    tid: Option<Tid>,
    stage: Stage,
    /// Its changes; with the record that will be current then, if the cache is to have it.
    changes: BTreeMap<Oid, Option<Bytes>>,
    /// The objects, in the order in which they were first written.
    written: Vec<Oid>,
    /// Bytes of those records.
    kept: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Open,
    Voting { call: i64, promise: PromiseId },
    Voted,
    Finishing,
}

impl Stage {
    /// Whether the server has to do something now. It has its own time for that.
    fn is_servers(&self) -> bool {
        matches!(self, Stage::Voting { .. } | Stage::Finishing)
    }
}

/// Transactions that wait for their beginning: for a server, or for the end of this client's transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Begins {
    /// The first first.
    waiting: VecDeque<Begin>,
    /// When something was last done that they wait for. Unless something waits, it is not noted.
    moved_at: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Begin {
    promise: PromiseId,
    meta: TransactionMeta,
    origin: Origin,
    asked_at: Duration,
}

impl Begins {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes all.
    pub fn take(&mut self) -> impl Iterator<Item = PromiseId> + use<> {
        std::mem::take(self).waiting.into_iter().map(|begin| begin.promise)
    }

    fn pop(&mut self) -> Option<Begin> {
        let first = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.moved_at = Duration::ZERO;
        }
        first
    }
}

/// The server's name for a transaction.
fn name(id: TransactionId) -> MessageId {
    MessageId(Value::Int(id.0 as i64))
}

impl Machine {
    /// Begins the next transaction, if there is room for one.
    pub(super) fn begin_next(&mut self) {
        while self.transaction.is_none() && self.is_ready() {
            let Some(Begin { promise, meta, origin, .. }) = self.begins.pop() else { return };
            self.begin(promise, meta, origin);
        }
        self.begins_moved();
    }

    /// A transaction begins: now, or when it has its turn.
    pub(super) fn ask_to_begin(&mut self, promise: PromiseId, meta: TransactionMeta, origin: Origin) {
        if self.begins.waiting.len() >= WAITING_MAX {
            return self.refuse(promise, "begin");
        }
        self.begins.waiting.push_back(Begin { promise, meta, origin, asked_at: self.now });
        if self.transaction.is_none() && self.is_ready() {
            self.begin_next();
        }
    }

    /// Something was done that other transactions wait for.
    pub(super) fn begins_moved(&mut self) {
        if !self.begins.is_empty() {
            self.begins.moved_at = self.now;
        }
    }

    /// When the first transaction that waits for its beginning is given up. Without a server, it has as long as all
    /// else that waits for one. Behind a transaction of this client it has as long as a server has for something slow,
    /// since that one was last worked on. A vote or a finish has a time of its own, which is the server's.
    pub(super) fn begins_give_up_at(&self) -> Option<Duration> {
        let first = self.begins.waiting.front()?;
        let patience = match &self.transaction {
            Some(transaction) if transaction.stage.is_servers() => return None,
            Some(_) => self.config.patience.slow,
            None => self.config.patience.server,
        };
        Some(first.asked_at.max(self.begins.moved_at).saturating_add(patience))
    }

    pub(super) fn give_up_begins(&mut self) {
        while self.begins_give_up_at().is_some_and(|at| at <= self.now) {
            let Some(Begin { promise, .. }) = self.begins.pop() else { return };
            match self.transaction {
                Some(_) => {
                    let seconds = self.config.patience.slow.as_secs();
                    self.resolve(promise, Err(ClientError::Busy { seconds }));
                }
                None => self.no_server(promise, "begin"),
            }
        }
    }

    fn begin(&mut self, promise: PromiseId, meta: TransactionMeta, origin: Origin) {
        let Some(session) = &self.session else { return };
        let connection = session.connection;
        if session.is_read_only {
            return self.resolve(promise, Err(ClientError::ReadOnly));
        }
        let id = TransactionId(self.transaction_next);
        self.transaction_next += 1;
        self.transaction = Some(Transaction {
            id,
            connection,
            origin,
            tid: meta.tid,
            stage: Stage::Open,
            changes: BTreeMap::new(),
            written: Vec::new(),
            kept: 0,
        });
        let TransactionMeta { user, description, extension, tid, status } = meta;
        let extension = if extension.is_empty() { Value::Dict(vec![]) } else { Value::Bytes(extension) };
        let status = Value::Text(char::from(status.byte()).to_string());
        let begin = vellum_wire::Begin { transaction: name(id), user, description, extension, tid, status };
        self.say(connection, Call::TpcBegin(Box::new(begin)));
        self.resolve(promise, Ok(Answer::Begun(id)));
    }

    /// Something is asked of a transaction.
    pub(super) fn ask_of_transaction(&mut self, waiting: Waiting) {
        let Waiting { promise, ask, .. } = waiting;
        let (Ask::Change { transaction: id, .. }
        | Ask::Blob { transaction: id, .. }
        | Ask::Vote { transaction: id }
        | Ask::Finish { transaction: id }
        | Ask::Abort { transaction: id }) = ask
        else {
            unreachable!("{} is not asked of a transaction", ask.name());
        };
        let Some(transaction) = self.transaction.as_ref().filter(|transaction| transaction.id == id) else {
            let outcome = match ask {
                Ask::Abort { .. } => Ok(Answer::Done),
                _ => Err(self.why_over(id)),
            };
            return self.resolve(promise, outcome);
        };
        if !self.begins.is_empty() {
            self.begins.moved_at = self.now;
        }
        let over = |why: &str| Err(ClientError::TransactionOver { why: why.to_owned() });
        match (ask, &transaction.stage) {
            (Ask::Change { change, .. }, Stage::Open) => {
                let outcome = self.change(change);
                self.resolve(promise, outcome);
            }
            (Ask::Blob { part, .. }, Stage::Open) => {
                self.blob(part);
                self.resolve(promise, Ok(Answer::Done));
            }
            (Ask::Vote { .. }, Stage::Open) => self.vote(promise),
            (Ask::Finish { .. }, Stage::Voted) => self.finish(promise),
            (Ask::Abort { .. }, Stage::Finishing) => self.resolve(promise, over("it is being finished")),
            (Ask::Abort { .. }, _) => self.abort(Some(promise)),
            (Ask::Finish { .. }, Stage::Open | Stage::Voting { .. }) => self.resolve(promise, over("it is not voted")),
            (_, _) => self.resolve(promise, over("it is voted")),
        }
    }

    fn why_over(&self, id: TransactionId) -> ClientError {
        let why = match &self.over {
            Some((over, why)) if *over == id => why.clone(),
            _ => "it was finished, aborted or refused".to_owned(),
        };
        ClientError::TransactionOver { why }
    }

    fn change(&mut self, change: Change) -> Result<Answer, ClientError> {
        let has_versions = self.has_versions();
        let Some(open) = &mut self.transaction else { return Ok(Answer::Done) };
        let (connection, transaction) = (open.connection, name(open.id));
        let versions = Err(ClientError::Unsayable { what: "versions" });
        let is_in_version = match &change {
            Change::CommitVersion { .. } | Change::AbortVersion { .. } => true,
            change => change.target().is_some_and(|(_, version)| *version != Version::TRUNK),
        };
        let data_of = |data: &vellum_storage::Data| {
            data.in_memory().cloned().ok_or(ClientError::Unsayable { what: "a record in a scratch file" })
        };
        let mut record = None;
        let target = change.target().map(|(oid, _)| oid);
        let call = match change {
            _ if is_in_version && !has_versions => return versions,
            Change::Store { data, .. } | Change::Restore { data: Some(data), .. } if data.blob().is_some() => {
                return Err(ClientError::Unsayable { what: "a blob in a change: it is sent in parts" });
            }
            // The ends tell at the vote what they change; and the cache keeps the trunk alone.
            Change::CommitVersion { from, to } => Call::CommitVersion { from, to, transaction },
            Change::AbortVersion { from } => Call::AbortVersion { from, transaction },
            Change::Store { oid, serial, data, version } if is_in_version => {
                Call::StoreInVersion { oid, serial, data: data_of(&data)?, version, transaction }
            }
            Change::Restore { oid, version, data, source, base } if is_in_version => {
                let data = data.map(|data| data_of(&data)).transpose()?;
                Call::RestoreInVersion { oid, data, version, source, base, transaction }
            }
            Change::Store { oid, serial, data, .. } => {
                let data = data_of(&data)?;
                record = Some(data.clone());
                Call::Store { oid, serial, data, transaction }
            }
            Change::Delete { oid, serial } => Call::Delete { oid, serial, transaction },
            Change::CheckCurrent { oid, serial } => Call::CheckCurrent { oid, serial, transaction },
            Change::Undo { tid } => {
                // It may write over what was stored, and what it writes is not known.
                open.changes.values_mut().for_each(|record| *record = None);
                open.kept = self.cache.bytes_max();
                Call::Undo { undone: answers::name_of(tid), transaction }
            }
            Change::Restore { oid, data, source, .. } => {
                let data = data.map(|data| data_of(&data)).transpose()?;
                // ZODB writes it into the file as the transaction's.
                let tid = open.tid.unwrap_or(Tid::ZERO);
                Call::Restore { oid, tid, data, source, transaction }
            }
        };
        if let Some(oid) = target {
            self.will_change(oid, record);
        }
        self.say(connection, call);
        Ok(Answer::Done)
    }

    /// Streams out a part of a blob. The record comes at its end.
    fn blob(&mut self, part: BlobPart) {
        let Some(open) = &self.transaction else { return };
        let (connection, transaction) = (open.connection, name(open.id));
        let call = match part {
            BlobPart::Start => Call::StoreBlobStart,
            BlobPart::Chunk(chunk) => Call::StoreBlobChunk { chunk },
            BlobPart::End { oid, serial, data } => {
                self.will_change(oid, Some(data.clone()));
                Call::StoreBlobEnd { oid, serial, data, transaction }
            }
        };
        self.say(connection, call);
    }

    /// Notes that the transaction changes an object; with the record that will be current then, if that is known.
    fn will_change(&mut self, oid: Oid, record: Option<Bytes>) {
        let bytes_max = self.cache.bytes_max() / 4;
        if let Some(open) = &mut self.transaction {
            let bytes = record.as_ref().map_or(0, |record| record.len() as u64);
            // A large transaction is loaded again rather than kept in memory.
            let record = record.filter(|_| open.kept + bytes <= bytes_max);
            open.kept += record.as_ref().map_or(0, |record| record.len() as u64);
            match open.changes.insert(oid, record) {
                None => open.written.push(oid),
                Some(earlier) => open.kept -= earlier.map_or(0, |earlier| earlier.len() as u64),
            }
        }
    }

    fn vote(&mut self, promise: PromiseId) {
        let Some(open) = &self.transaction else { return };
        let (id, connection) = (open.id, open.connection);
        let (call, patience) = (Call::Vote { transaction: name(id) }, self.config.patience.slow);
        let call = self.call(connection, call, Kind::Vote { promise, transaction: id }, patience);
        self.set_stage(Stage::Voting { call, promise });
    }

    fn set_stage(&mut self, stage: Stage) {
        self.begins_moved();
        if let Some(transaction) = &mut self.transaction {
            transaction.stage = stage;
        }
    }

    pub(super) fn voted(&mut self, promise: PromiseId, id: TransactionId, outcome: Result<Value, Fault>) {
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.id == id) else {
            let over = self.why_over(id);
            return self.resolve(promise, Err(over));
        };
        if !self.begins.is_empty() {
            self.begins.moved_at = self.now;
        }
        match outcome.map(answers::voted) {
            Ok(Ok(voted)) => {
                match &voted {
                    Voted::Ready(written) => {
                        transaction.stage = Stage::Voted;
                        // The server writes other records than the stored ones.
                        for oid in written {
                            if transaction.changes.insert(*oid, None).is_none() {
                                transaction.written.push(*oid);
                            }
                        }
                    }
                    Voted::Conflicts(_) => transaction.stage = Stage::Open,
                }
                self.works();
                self.resolve(promise, Ok(Answer::Voted(voted)));
            }
            Ok(Err(why)) => {
                let connection = transaction.connection;
                self.resolve(promise, Err(ClientError::Nonsense { asked: "vote", why: why.to_owned() }));
                self.disbelieve(connection, format!("vote: {why}"));
            }
            Err(fault) => {
                self.over = Some((id, "its vote refused it".to_owned()));
                self.works();
                self.resolve(promise, Err(refusal(fault)));
                // The server may have it still.
                self.set_stage(Stage::Open);
                self.abort(None);
            }
        }
    }

    fn finish(&mut self, promise: PromiseId) {
        let Some(voted) = &self.transaction else { return };
        let (id, connection) = (voted.id, voted.connection);
        self.set_stage(Stage::Finishing);
        let (call, patience) = (Call::TpcFinish { transaction: name(id) }, self.config.patience.slow);
        self.call(connection, call, Kind::Finish { promise, transaction: id }, patience);
    }

    pub(super) fn finished(&mut self, promise: PromiseId, id: TransactionId, outcome: Result<Value, Fault>) {
        let Some(transaction) = self.transaction.take_if(|transaction| transaction.id == id) else {
            let why = "its transaction was gone".to_owned();
            return self.resolve(promise, Err(ClientError::OutcomeUnknown { why }));
        };
        let Transaction { connection, origin, changes, written: oids, .. } = transaction;
        let tid = match outcome.map(|value| answers::tid(&value)) {
            Ok(Ok(tid)) if self.last.is_none_or(|last| tid > last) => tid,
            Ok(wrong) => {
                let why = wrong.err().unwrap_or("its tid is not later than the last one");
                self.resolve(promise, Err(ClientError::OutcomeUnknown { why: why.to_owned() }));
                return self.disbelieve(connection, format!("finish: {why}"));
            }
            Err(fault) => {
                // It may be there all the same. Verifying the cache finds out.
                let why = format!("finish failed: {fault}");
                let error = match fault {
                    // The server may have failed after the transaction was durable.
                    Fault::Other { .. } => ClientError::OutcomeUnknown { why: why.clone() },
                    fault => refusal(fault),
                };
                self.resolve(promise, Err(error));
                return self.give_up_connection(connection, why);
            }
        };
        self.note_changes(tid, &oids);
        for (oid, record) in changes {
            if let Some(data) = record {
                self.cache.put_own(oid, data, tid);
            }
        }
        self.last = Some(tid);
        self.works();
        self.tell(Told::Committed { tid, oids, origin });
        self.resolve(promise, Ok(Answer::Tid(tid)));
        self.begin_next();
    }

    /// Gives up the transaction.
    fn abort(&mut self, promise: Option<PromiseId>) {
        let Some(Transaction { id, connection, stage, .. }) = self.transaction.take() else { return };
        let mut vote = None;
        if let Stage::Voting { call, promise } = stage
            && let Some(pending) = self.calls.get_mut(&call)
        {
            // If the vote waits, the server never answers it. Otherwise its answer comes, perhaps after the abort's.
            pending.kind = Kind::GivenUp;
            vote = Some(call);
            let why = "it was aborted".to_owned();
            self.resolve(promise, Err(ClientError::TransactionOver { why }));
        }
        let (call, patience) = (Call::TpcAbort { transaction: name(id) }, self.config.patience.slow);
        self.call(connection, call, Kind::Abort { promise, vote }, patience);
        self.begin_next();
    }

    /// A transaction has ended, and its connection will end.
    pub(super) fn transaction_is_over(&mut self, id: TransactionId, why: &str) {
        self.transaction.take_if(|transaction| transaction.id == id);
        self.over = Some((id, why.to_owned()));
    }

    /// The connection of a transaction ended.
    pub(super) fn lose_transaction(&mut self, connection: ConnectionId, why: &str) {
        if let Some(lost) = self.transaction.take_if(|transaction| transaction.connection == connection) {
            self.over = Some((lost.id, format!("its connection ended: {why}")));
        }
    }
}
