//! Calls, and their answers.

use std::collections::BTreeSet;
use std::time::Duration;

use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_wire::{Call, Fault, Message, MessageId, Notice, Value};

use super::blobs::{Coming, Download};
use super::{Machine, Waiting};
use crate::answers::{self, Read};
use crate::ask::{Answer, Ask, IteratorId, TransactionId};
use crate::error::ClientError;
use crate::event::{ConnectionId, Effect, PromiseId};

/// A call that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub connection: ConnectionId,
    pub kind: Kind,
    pub deadline: Duration,
    /// How long that is after the call.
    pub patience: Duration,
}

/// The purpose of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The first call of a connection.
    Register,
    /// The storage's description.
    Describe,
    /// The changes that were made while no server was there.
    Verify,
    /// A revision of a cache that was kept over a restart: whether the server has it.
    Prove { oid: Oid, kept: LoadedAt },
    /// A sign of life.
    KeepAlive,
    /// A load; its flight has the rest.
    Load { oid: Oid, before: Tid },
    /// Many loads in one call; each has its flight.
    LoadMany { oids: Vec<Oid>, before: Tid },
    /// A prefetch, whose state is kept under the call's number.
    Prefetch { promise: Option<PromiseId> },
    /// Something that was asked.
    Ask { promise: PromiseId, ask: Ask, until: Duration },
    /// The first phase.
    Vote { promise: PromiseId, transaction: TransactionId },
    /// The second phase.
    Finish { promise: PromiseId, transaction: TransactionId },
    /// The end of a transaction that is not finished; and its vote, which may be answered before that, or never.
    Abort { promise: Option<PromiseId>, vote: Option<i64> },
    /// A vote whose transaction was given up.
    GivenUp,
}

impl Kind {
    /// Its name, for people.
    fn name(&self) -> &'static str {
        match self {
            Kind::Register => "register",
            Kind::Describe => "get_info",
            Kind::Verify => "getInvalidations",
            Kind::KeepAlive => "ping",
            Kind::Prove { .. } | Kind::Load { .. } | Kind::LoadMany { .. } => "load",
            Kind::Prefetch { .. } => "prefetch",
            Kind::Ask { ask, .. } => ask.name(),
            Kind::Vote { .. } | Kind::GivenUp => "vote",
            Kind::Finish { .. } => "finish",
            Kind::Abort { .. } => "abort",
        }
    }

    /// Whether an application waits for it.
    pub fn is_asked(&self) -> bool {
        matches!(
            self,
            Kind::Load { .. }
                | Kind::LoadMany { .. }
                | Kind::Prefetch { promise: Some(_) }
                | Kind::Ask { .. }
                | Kind::Vote { .. }
                | Kind::Finish { .. }
                | Kind::Abort { promise: Some(_), .. }
        )
    }
}

/// So many oids are asked for at once at most, which is what servers give.
pub(super) const OIDS_MAX: u32 = 100;
/// Votes that were given up and may be answered. An answer that comes at all comes soon.
const GIVEN_UP_MAX: usize = 16;
const VALUE_ERROR: &str = "builtins.ValueError";

impl Machine {
    /// Calls, and waits for an answer.
    pub(super) fn call(&mut self, connection: ConnectionId, call: Call, kind: Kind, patience: Duration) -> i64 {
        let id = self.call_next;
        self.call_next += 1;
        let deadline = self.after(patience);
        self.deadlines.insert((deadline, id));
        self.calls.insert(id, Pending { connection, kind, deadline, patience });
        let message = call.into_message(Some(MessageId(Value::Int(id))));
        self.put(Effect::Send { connection, message });
        id
    }

    /// Calls, and waits for nothing.
    pub(super) fn say(&mut self, connection: ConnectionId, call: Call) {
        self.put(Effect::Send { connection, message: call.into_message(None) });
    }

    pub(super) fn take_call(&mut self, id: i64) -> Option<Pending> {
        let pending = self.calls.remove(&id)?;
        self.deadlines.remove(&(pending.deadline, id));
        Some(pending)
    }

    /// Something of the answer has arrived: the rest has as long again.
    pub(super) fn prolong(&mut self, id: i64) {
        if let Some(pending) = self.calls.get_mut(&id) {
            self.deadlines.remove(&(pending.deadline, id));
            pending.deadline = self.now.saturating_add(pending.patience);
            self.deadlines.insert((pending.deadline, id));
        }
    }

    /// All calls of a connection, which nobody will answer.
    pub(super) fn take_calls(&mut self, connection: ConnectionId) -> Vec<(i64, Pending)> {
        let of = self.calls.iter().filter(|(_, pending)| pending.connection == connection);
        let ids: Vec<i64> = of.map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.take_call(id)?))).collect()
    }

    /// Has a server answer what was asked. A server is there.
    pub(super) fn call_for(&mut self, waiting: Waiting) {
        let Some(session) = &self.session else { return self.wait(waiting) };
        let (connection, is_read_only) = (session.connection, session.is_read_only);
        let Waiting { promise, ask, until, .. } = waiting;
        let patience = ask.patience(&self.config.patience);
        let call = match &ask {
            Ask::Connected => return self.resolve(promise, Ok(Answer::Done)),
            Ask::Sync => Call::Ping,
            Ask::LoadSerial { oid, tid } => Call::LoadSerial { oid: *oid, tid: *tid },
            Ask::History { oid, limit } => Call::History { oid: *oid, size: i64::from(*limit) },
            Ask::UndoLog { first, last } => Call::UndoLog { first: i64::from(*first), last: i64::from(*last) },
            Ask::CurrentRecord { first } => Call::RecordIterNext { next: Some(*first) },
            Ask::Iterate { range } => Call::IteratorStart { start: Some(range.first), stop: Some(range.last) },
            Ask::NextTransaction { iterator } | Ask::Revisions { iterator, .. } | Ask::NextRevision { iterator }
                if iterator.connection != connection =>
            {
                let why = "the iterator belongs to an earlier connection".to_owned();
                return self.resolve(promise, Err(ClientError::Disconnected { asked: ask.name(), why }));
            }
            Ask::NextTransaction { iterator } => Call::IteratorNext { iterator: iterator.number },
            Ask::Revisions { iterator, tid } => Call::IteratorRecordStart { iterator: iterator.number, tid: *tid },
            Ask::NextRevision { iterator } if self.has_versions() => Call::NextInVersion { iterator: iterator.number },
            Ask::NextRevision { iterator } => Call::IteratorRecordNext { iterator: iterator.number },
            Ask::ForgetIterator { iterator } => {
                if iterator.connection == connection {
                    self.say(connection, Call::IteratorGc { iterators: vec![iterator.number] });
                }
                return self.resolve(promise, Ok(Answer::Done));
            }
            Ask::LoadBlob { oid, tid } => Call::SendBlob { oid: *oid, serial: *tid },
            Ask::NewOids { .. } if is_read_only => return self.resolve(promise, Err(ClientError::ReadOnly)),
            Ask::NewOids { count } => Call::NewOids { count: i64::from((*count).clamp(1, OIDS_MAX)) },
            Ask::Info => Call::GetInfo,
            Ask::Pack { to } => match to.time() {
                Some(time) => Call::Pack { time: time.as_nanosecond() as f64 / 1e9, wait: true },
                None => return self.resolve(promise, Err(ClientError::Unsayable { what: "such a time" })),
            },
            Ask::LoadInVersion { .. } | Ask::ModifiedInVersion { .. } | Ask::Versions if !self.has_versions() => {
                return self.resolve(promise, Err(ClientError::Unsayable { what: "versions" }));
            }
            Ask::LoadInVersion { oid, version } => Call::LoadInVersion { oid: *oid, version: version.clone() },
            Ask::ModifiedInVersion { oid } => Call::ModifiedInVersion { oid: *oid },
            Ask::Versions => Call::Versions,
            Ask::Load { .. } | Ask::LoadMany { .. } | Ask::Prefetch { .. } => unreachable!("done elsewhere"),
            Ask::Last | Ask::Forget | Ask::Begin { .. } => unreachable!("done elsewhere"),
            Ask::Change { .. } | Ask::Blob { .. } | Ask::Vote { .. } | Ask::Finish { .. } | Ask::Abort { .. } => {
                unreachable!("a transaction does that")
            }
        };
        let download = match &ask {
            Ask::LoadBlob { oid, tid } => Some((*oid, *tid)),
            _ => None,
        };
        let call = self.call(connection, call, Kind::Ask { promise, ask, until }, patience);
        if let Some((oid, tid)) = download {
            self.downloads.push_back(Download { call, promise, oid, tid, stage: Coming::Asked });
        }
    }

    /// A message arrived.
    pub(super) fn received(&mut self, connection: ConnectionId, message: Message) {
        if !self.knows(connection) {
            return;
        }
        if let Some(session) = self.session.as_mut().filter(|session| session.connection == connection) {
            session.heard_at = self.now;
        }
        if message.name.as_text() != Some(".reply") {
            let is_one_way = message.is_one_way();
            match Notice::parse(&message.name, message.args) {
                Ok(notice) if is_one_way => self.noticed(connection, notice),
                // A later server may say more. It tells nothing that this client relies on.
                Err(vellum_wire::BadCall::Unknown(_)) => {}
                Ok(_) => self.disbelieve(connection, "a notice that wants an answer".to_owned()),
                Err(bad) => self.disbelieve(connection, bad.to_string()),
            }
            return;
        }
        if message.is_heartbeat() {
            return;
        }
        let outcome = match message.flag {
            Value::Int(0) | Value::Bool(false) => Ok(message.args),
            Value::Int(2) => match Fault::parse(message.args) {
                Some(fault) => Err(fault),
                None => return self.disbelieve(connection, "an error that cannot be parsed".to_owned()),
            },
            flag => return self.disbelieve(connection, format!("an answer with flag {flag:?}")),
        };
        let Value::Int(id) = message.id else {
            return self.disbelieve(connection, format!("an answer to {:?}, which nobody asked", message.id));
        };
        match self.calls.get(&id).is_some_and(|pending| pending.connection == connection) {
            true => self.answered(id, outcome),
            false if self.is_late_vote(connection, id) => {}
            false => self.disbelieve(connection, format!("an answer to call {id}, which nobody asked")),
        }
    }

    /// Whether this is the answer to a vote that was given up: a refusal that waited for news of a later transaction.
    fn is_late_vote(&mut self, connection: ConnectionId, id: i64) -> bool {
        let is_here = self.session.as_ref().is_some_and(|session| session.connection == connection);
        let place = self.given_up.iter().position(|vote| *vote == id).filter(|_| is_here);
        place.and_then(|place| self.given_up.remove(place)).is_some()
    }

    fn answered(&mut self, id: i64, outcome: Result<Value, Fault>) {
        let Some(Pending { connection, kind, .. }) = self.take_call(id) else { return };
        match kind {
            Kind::Register => self.registered(connection, outcome),
            Kind::Describe => self.described(connection, outcome),
            Kind::Verify => self.verified(connection, outcome),
            Kind::Prove { oid, kept } => self.proved(connection, oid, &kept, outcome),
            Kind::KeepAlive | Kind::GivenUp => {}
            Kind::Load { oid, before } => self.loaded(connection, oid, before, outcome),
            Kind::LoadMany { oids, before } => self.loaded_many(connection, oids, before, outcome),
            Kind::Prefetch { promise } => {
                let count = self.end_prefetch(id);
                self.works();
                if let Some(promise) = promise {
                    self.resolve(promise, outcome.map(|_| Answer::Prefetched(count)).map_err(refusal));
                }
            }
            Kind::Vote { promise, transaction } => self.voted(promise, transaction, outcome),
            Kind::Finish { promise, transaction } => self.finished(promise, transaction, outcome),
            Kind::Abort { promise, vote } => {
                if let Some(vote) = vote.filter(|vote| self.take_call(*vote).is_some()) {
                    self.given_up.truncate(GIVEN_UP_MAX - 1);
                    self.given_up.push_front(vote);
                }
                if let Some(promise) = promise {
                    self.resolve(promise, Ok(Answer::Done));
                }
            }
            Kind::Ask { ask: Ask::LoadBlob { .. }, .. } => self.blob_answered(connection, id, outcome),
            Kind::Ask { promise, ask, .. } => {
                let asked = ask.name();
                match self.read(connection, ask, outcome) {
                    Ok(outcome) => {
                        self.works();
                        self.resolve(promise, outcome.map_err(refusal));
                    }
                    Err(why) => {
                        self.resolve(promise, Err(ClientError::Nonsense { asked, why: why.to_owned() }));
                        self.disbelieve(connection, format!("{asked}: {why}"));
                    }
                }
            }
        }
    }

    /// Reads the answer to what was asked.
    fn read(
        &mut self,
        connection: ConnectionId,
        ask: Ask,
        outcome: Result<Value, Fault>,
    ) -> Read<Result<Answer, Fault>> {
        let value = match (&ask, outcome) {
            (_, Ok(value)) => value,
            // There is no further object.
            (Ask::CurrentRecord { .. }, Err(Fault::Other { class, .. })) if class == VALUE_ERROR => {
                return Ok(Ok(Answer::CurrentRecord(None)));
            }
            (_, Err(fault)) => return Ok(Err(fault)),
        };
        Ok(Ok(match ask {
            Ask::Sync => Answer::Tid(self.last.unwrap_or_default()),
            Ask::LoadInVersion { .. } => Answer::LoadedInVersion(answers::loaded_in_version(value)?),
            Ask::ModifiedInVersion { .. } => Answer::Version(answers::version(&value)?),
            Ask::Versions => Answer::Versions(answers::versions(value)?),
            Ask::LoadSerial { .. } => Answer::Record(answers::data(value)?),
            Ask::History { limit, .. } => Answer::History(answers::history(value, limit as usize)?),
            Ask::UndoLog { .. } => Answer::UndoLog(answers::undo_log(value)?),
            Ask::CurrentRecord { first } => Answer::CurrentRecord(Some(answers::current_record(value, first)?)),
            Ask::Iterate { .. } | Ask::Revisions { .. } => {
                Answer::Iterator(IteratorId { connection, number: answers::iterator(value)? })
            }
            Ask::NextTransaction { .. } => Answer::Transaction(answers::transaction(value)?),
            Ask::NextRevision { .. } => Answer::Revision(answers::revision(value)?),
            Ask::NewOids { .. } => Answer::Oids(new_oids(value)?),
            Ask::Info => {
                let is_read_only = self.session.as_ref().is_some_and(|session| session.is_read_only);
                let info = answers::info(value, is_read_only)?;
                self.info = Some(info.clone());
                Answer::Info(info)
            }
            Ask::Pack { .. } => {
                // The cache may have revisions that the server has discarded.
                self.cache.clear(self.last.unwrap_or_default());
                Answer::Done
            }
            other => unreachable!("{} asks no server", other.name()),
        }))
    }

    /// Until when a call has time whose deadline is here: later, if it is a part of a bulk fetch that got on since.
    fn prolonged(&self, Pending { kind, patience, .. }: &Pending) -> Option<Duration> {
        let got_on_at = match kind {
            Kind::Load { oid, before } => self.got_on_at(&[*oid], *before),
            Kind::LoadMany { oids, before } => self.got_on_at(oids, *before),
            _ => None,
        };
        got_on_at.map(|at| at.saturating_add(*patience)).filter(|until| *until > self.now)
    }

    /// A call has taken too long. The client waits no longer for it.
    pub(super) fn time_out(&mut self, id: i64) {
        let Some(mut pending) = self.take_call(id) else { return };
        if let Some(until) = self.prolonged(&pending) {
            pending.deadline = until;
            self.deadlines.insert((until, id));
            self.calls.insert(id, pending);
            return;
        }
        let Pending { connection, kind, patience, .. } = pending;
        let (asked, seconds) = (kind.name(), patience.as_secs());
        let late = ClientError::TimedOut { asked, seconds };
        let why = format!("{asked} was not answered in {seconds} s");
        match kind {
            Kind::Load { oid, before } => self.fail_load(oid, before, &late),
            Kind::LoadMany { oids, before } => oids.into_iter().for_each(|oid| self.fail_load(oid, before, &late)),
            Kind::Prefetch { promise } => {
                self.end_prefetch(id);
                if let Some(promise) = promise {
                    self.resolve(promise, Err(late));
                }
            }
            Kind::Ask { promise, .. } => {
                self.drop_download(id);
                self.resolve(promise, Err(late));
            }
            Kind::Vote { promise, transaction } => {
                self.transaction_is_over(transaction, &why);
                self.resolve(promise, Err(late));
            }
            Kind::Finish { promise, transaction } => {
                self.transaction_is_over(transaction, &why);
                self.resolve(promise, Err(ClientError::OutcomeUnknown { why: why.clone() }));
            }
            Kind::Abort { promise: Some(promise), .. } => self.resolve(promise, Ok(Answer::Done)),
            Kind::Register | Kind::Describe | Kind::Verify | Kind::Prove { .. } => {}
            Kind::KeepAlive | Kind::Abort { .. } | Kind::GivenUp => {}
        }
        self.give_up_connection(connection, why);
    }

    /// The outcome of a call whose connection ended.
    pub(super) fn lose_call(&mut self, id: i64, kind: Kind, why: &str) {
        let asked = kind.name();
        if matches!(kind, Kind::Ask { ask: Ask::LoadBlob { .. }, .. }) {
            self.drop_download(id);
        }
        match kind {
            Kind::Load { oid, before } => self.load_again(oid, before),
            Kind::LoadMany { oids, before } => oids.into_iter().for_each(|oid| self.load_again(oid, before)),
            // It is advice. The next loads ask for what did not come.
            Kind::Prefetch { promise } => {
                let count = self.end_prefetch(id);
                if let Some(promise) = promise {
                    self.resolve(promise, Ok(Answer::Prefetched(count)));
                }
            }
            Kind::Ask { promise, ask, until } if ask.can_be_repeated() => self.wait_again(promise, ask, until),
            Kind::Ask { promise, .. } | Kind::Vote { promise, .. } => {
                self.resolve(promise, Err(ClientError::Disconnected { asked, why: why.to_owned() }));
            }
            Kind::Finish { promise, .. } => {
                self.resolve(promise, Err(ClientError::OutcomeUnknown { why: why.to_owned() }));
            }
            // The server drops what its client has begun.
            Kind::Abort { promise: Some(promise), .. } => self.resolve(promise, Ok(Answer::Done)),
            Kind::Register | Kind::Describe | Kind::Verify | Kind::Prove { .. } => {}
            Kind::KeepAlive | Kind::Abort { .. } | Kind::GivenUp => {}
        }
    }
}

/// A server's refusal.
pub(super) fn refusal(fault: Fault) -> ClientError {
    match fault {
        Fault::ReadOnly => ClientError::ReadOnly,
        fault => ClientError::Refused(fault),
    }
}

/// New oids: some, each once, and none of them the root's.
fn new_oids(value: Value) -> Read<Vec<Oid>> {
    let oids = answers::oids(value)?;
    let each: BTreeSet<_> = oids.iter().collect();
    match oids.is_empty() || each.len() < oids.len() || each.contains(&Oid::ROOT) {
        true => Err("new oids are some, and all of them new"),
        false => Ok(oids),
    }
}
