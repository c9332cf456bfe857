//! The clients' calls, and their answers.

use vellum_storage::{Change, Tid, TidRange, Version};
use vellum_wire::{BadCall, Call, Fault, Message, MessageId, Value};

use super::limits::SLOW_MAX;
use super::{Kind, Machine, Running};
use crate::answers::{self, eight};
use crate::connection::Queued;
use crate::event::{ConnectionId, Effect, Job, JobId, Question, StorageId, Work};

pub(super) type Answer = Result<Value, Fault>;

/// The result of a call.
pub(super) enum Next {
    /// An answer now.
    Answer(Answer),
    /// An answer when a storage is done.
    Later,
}

pub(super) fn done(value: Value) -> Next {
    Next::Answer(Ok(value))
}

pub(super) fn fail(fault: Fault) -> Next {
    Next::Answer(Err(fault))
}

use Next::Later;

/// So many characters of a label are kept.
const LABEL_MAX: usize = 200;
/// So many new oids are given out at once at most.
const OIDS_MAX: i64 = 100;

impl Machine {
    pub(super) fn received(&mut self, connection: ConnectionId, message: Message) {
        if message.is_heartbeat() {
            return;
        }
        let is_one_way = message.is_one_way();
        if !MessageId::is_short(&message.id) {
            return self.close(connection, "the name of a call is too long".to_owned());
        }
        let reply = if is_one_way { None } else { Some(MessageId(message.id)) };
        match Call::parse(&message.name, message.args) {
            Ok(call) => self.called(connection, reply, call),
            Err(BadCall::Unknown(method)) => self.close(connection, format!("there is no method {method}")),
            Err(BadCall::NoObject(oid)) => {
                let fault = Fault::Other {
                    class: "ZODB.POSException.POSKeyError".to_owned(),
                    payload: Value::Tuple(vec![oid]),
                };
                self.answer(connection, reply, Err(fault));
            }
            Err(BadCall::Arguments(bad)) => {
                self.answer(connection, reply, Err(Fault::text("builtins.TypeError", bad.to_string())));
            }
        }
    }

    /// A client calls: now, or after what its transaction waits for.
    pub(super) fn called(&mut self, connection: ConnectionId, reply: Option<MessageId>, call: Call) {
        let Some(storage) = self.connections.get(&connection).map(|client| client.storage) else { return };
        if let (Call::StoreBlobChunk { chunk }, Some(storage)) = (&call, storage)
            && self.storages[storage.0].description.keeps_blobs
        {
            self.chunk_arrived(connection, chunk.len() as u64);
        }
        let client = self.connections.get_mut(&connection).expect("it is there");
        match call {
            Call::Register { .. } if client.storage.is_some() => {
                self.close(connection, "it registered twice".to_owned());
            }
            call if client.storage.is_none() && !matches!(call, Call::Register { .. }) => {
                self.close(connection, format!("it called {} before it registered", call.name()));
            }
            call if client.must_wait(&call) => {
                let queued = Queued { reply, call };
                client.queued += queued.bytes();
                client.queue.push_back(queued);
            }
            call => self.call(connection, reply, call),
        }
        self.pace(connection);
    }

    pub(super) fn call(&mut self, connection: ConnectionId, reply: Option<MessageId>, call: Call) {
        match self.carry_out(connection, &reply, call) {
            Next::Answer(answer) => self.answer(connection, reply, answer),
            Later => {}
        }
    }

    /// Answers a call. A one-way call that fails has no other answer than the end of its connection.
    pub(super) fn answer(&mut self, connection: ConnectionId, reply: Option<MessageId>, answer: Answer) {
        let Some(codec) = self.connections.get(&connection).and_then(|client| client.codec) else { return };
        match (reply, answer) {
            (Some(MessageId(id)), Ok(value)) => self.send(connection, Message::reply(id, value)),
            (Some(MessageId(id)), Err(fault)) => self.send(connection, Message::error(id, fault.into_value(codec))),
            (None, Ok(_)) => {}
            (None, Err(fault)) => self.close(connection, format!("a call that is not answered failed: {fault}")),
        }
    }

    pub(super) fn send(&mut self, connection: ConnectionId, message: Message) {
        self.effects.push(Effect::Send { connection, message });
    }

    /// Has a storage do something for a call.
    pub(super) fn run(&mut self, connection: ConnectionId, reply: Option<MessageId>, kind: Kind, work: Work) -> JobId {
        let id = JobId(self.job_next);
        self.job_next += 1;
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        client.running += 1;
        let storage = client.storage.expect("a connection without a storage asks for nothing");
        let is_slow = work.is_slow();
        self.jobs.insert(id, Running { connection, storage, reply, kind, since: self.now, is_slow });
        let job = Job { id, connection, storage, work };
        if is_slow && client.slow >= SLOW_MAX {
            client.later.push_back(job);
        } else {
            client.slow += usize::from(is_slow);
            self.effects.push(Effect::Run(job));
        }
        id
    }

    pub(super) fn ask(&mut self, connection: ConnectionId, reply: &Option<MessageId>, question: Question) -> Next {
        self.run(connection, reply.clone(), Kind::Ask, Work::Ask(question));
        Later
    }

    pub(super) fn carry_out(&mut self, connection: ConnectionId, reply: &Option<MessageId>, call: Call) -> Next {
        if let Call::Register { storage, read_only } = call {
            return self.register(connection, storage, read_only);
        }
        let storage = self.connections[&connection].storage.expect("it has registered");
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        let served = &mut self.storages[storage.0];
        match call {
            Call::Register { .. } => unreachable!("done above"),
            Call::Ping => done(Value::None),
            Call::LastTransaction => done(eight(client.last)),
            Call::LoadBefore { oid, before } => {
                served.counters.loads += 1;
                let kind = Kind::Load { oid, before, is_stale: false };
                self.run(connection, reply.clone(), kind, Work::Load { oid, before });
                Later
            }
            Call::LoadMany { oids, before } => self.load_many(connection, reply, oids, before),
            Call::Prefetch { oids, before, reach } => self.prefetch(connection, reply, oids, before, reach),
            Call::GetInfo => {
                self.run(connection, reply.clone(), Kind::Info, Work::Measure);
                Later
            }
            Call::GetInvalidations { tid } => match served.changed(tid, client.last) {
                Some(oids) => done(Value::Tuple(vec![eight(client.last), answers::oids(oids)])),
                None => self.ask(connection, reply, Question::Since { tid }),
            },
            Call::SetClientLabel { label } => {
                client.label = Some(label.chars().take(LABEL_MAX).collect());
                done(Value::None)
            }
            Call::ServerStatus => done(self.status_of(storage)),
            Call::NewOid => {
                fail(Fault::text("builtins.AttributeError", "'ZEOStorage' object has no attribute 'new_oid'"))
            }
            Call::NewOids { .. } | Call::TpcBegin(_) if client.read_only => fail(Fault::ReadOnly),
            Call::NewOids { count } => {
                let count = count.clamp(1, OIDS_MAX) as u32;
                self.ask(connection, reply, Question::NewOids { count })
            }
            Call::LoadSerial { oid, tid } => self.ask(connection, reply, Question::LoadSerial { oid, tid }),
            Call::GetTid { oid } => self.ask(connection, reply, Question::NewestTid { oid }),
            Call::History { oid, size } => self.ask(connection, reply, Question::History { oid, size }),
            Call::RecordIterNext { next } => self.ask(connection, reply, Question::NextRecord { next }),
            Call::UndoLog { .. } | Call::UndoInfo { .. } if !served.description.undoes => done(Value::Tuple(vec![])),
            Call::UndoLog { first, last } => {
                self.ask(connection, reply, Question::UndoLog { first, last, specification: Value::None })
            }
            Call::UndoInfo { first, last, specification } => {
                self.ask(connection, reply, Question::UndoLog { first, last, specification })
            }
            Call::Pack { time, wait } => {
                let waiting = if wait { reply.clone() } else { None };
                self.run(connection, waiting, Kind::Pack { waits: wait }, Work::Pack { time });
                if wait { Later } else { done(Value::None) }
            }
            Call::IteratorStart { start, stop } => {
                let range = TidRange { first: start.unwrap_or(Tid::ZERO), last: stop.unwrap_or(Tid::MAX) };
                self.ask(connection, reply, Question::Iterate { range })
            }
            Call::IteratorNext { iterator } => self.ask(connection, reply, Question::NextTransaction { iterator }),
            Call::IteratorRecordStart { iterator, tid } => {
                self.ask(connection, reply, Question::Revisions { iterator, tid })
            }
            Call::IteratorRecordNext { iterator } => {
                self.ask(connection, reply, Question::NextRevision { iterator, in_version: false })
            }
            Call::IteratorGc { iterators } => self.ask(connection, reply, Question::ForgetIterators { iterators }),
            Call::StoreBlobStart
            | Call::StoreBlobChunk { .. }
            | Call::StoreBlobEnd { .. }
            | Call::StoreBlobShared { .. }
            | Call::SendBlob { .. }
                if !served.description.keeps_blobs =>
            {
                fail(Fault::text("builtins.TypeError", "Blobs are not supported"))
            }
            call @ (Call::StoreBlobStart
            | Call::StoreBlobChunk { .. }
            | Call::StoreBlobEnd { .. }
            | Call::StoreBlobShared { .. }
            | Call::SendBlob { .. }) => self.blob_call(connection, reply, call),
            Call::TpcBegin(begin) => self.begin(connection, *begin),
            Call::Store { oid, serial, data, transaction } => {
                let version = Version::TRUNK;
                self.change(connection, transaction, Change::Store { oid, serial, version, data: data.into() })
            }
            Call::Delete { oid, serial, transaction } => {
                self.change(connection, transaction, Change::Delete { oid, serial })
            }
            Call::CheckCurrent { oid, serial, transaction } => {
                self.change(connection, transaction, Change::CheckCurrent { oid, serial })
            }
            Call::Restore { oid, tid: _, data, source, transaction } => {
                let data = data.map(Into::into);
                let change = Change::Restore { oid, version: Version::TRUNK, data, source, base: None };
                self.change(connection, transaction, change)
            }
            call @ (Call::LoadInVersion { .. }
            | Call::ModifiedInVersion { .. }
            | Call::Versions
            | Call::NextInVersion { .. }
            | Call::StoreInVersion { .. }
            | Call::CommitVersion { .. }
            | Call::AbortVersion { .. }
            | Call::RestoreInVersion { .. }) => self.version_call(connection, reply, call),
            Call::Undo { undone, transaction } => self.undo(connection, transaction, &undone),
            Call::Vote { transaction } => self.vote(connection, reply, transaction),
            Call::TpcFinish { transaction } => self.finish(connection, reply, transaction),
            Call::TpcAbort { transaction } => self.abort(connection, transaction),
        }
    }

    pub(super) fn register(&mut self, connection: ConnectionId, name: Value, read_only: bool) -> Next {
        let found = match &name {
            Value::Text(name) => self.storages.iter().position(|served| served.name == *name),
            _ => None,
        };
        let Some(found) = found else {
            let name = match name {
                Value::Text(name) => name,
                Value::None => "None".to_owned(),
                Value::Int(number) => number.to_string(),
                Value::Bytes(name) => format!("b'{}'", name.escape_ascii()),
                other => format!("{other:?}"),
            };
            return fail(Fault::text("builtins.ValueError", format!("unknown storage: {name}")));
        };
        let served = &self.storages[found];
        if !read_only && (self.config.is_read_only || served.description.is_read_only) {
            return fail(Fault::ReadOnly);
        }
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        client.storage = Some(StorageId(found));
        client.read_only = read_only;
        client.last = served.last;
        done(eight(served.last))
    }
}
