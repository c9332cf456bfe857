//! Transactions: their calls, and what a storage says of them.

use std::collections::BTreeSet;

use bytes::Bytes;
use vellum_storage::{Change, Draft, Origin, Tid, TransactionMeta};
use vellum_wire::{Begin, Fault, MessageId, Notice, TransactionId, Value};

use super::calls::Next::{self, Later};
use super::calls::{done, fail};
use super::{Kind, Machine, Running};
use crate::Counters;
use crate::answers::{self, eight};
use crate::connection::Queued;
use crate::event::{ConnectionId, Effect, Info, JobId, Outcome, Work};
use crate::transaction::{Stage, Transaction, Wrong};

impl Machine {
    pub(super) fn begin(&mut self, connection: ConnectionId, begin: Begin) -> Next {
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        if let Some(current) = &client.transaction {
            return match current.id == begin.transaction {
                true => done(Value::None),
                false => fail(Fault::text(
                    "ZODB.POSException.StorageTransactionError",
                    "Multiple simultaneous tpc_begin requests from one client.",
                )),
            };
        }
        let Begin { transaction, user, description, extension, tid, status } = begin;
        let Some(status) = answers::status(&status) else {
            return fail(Fault::text("builtins.ValueError", "a transaction's status is ' ', 'p' or 'u'"));
        };
        let extension = match extension {
            Value::Bytes(pickle) => pickle,
            Value::Dict(pairs) if !pairs.is_empty() => vellum_pickle::encode(&Value::Dict(pairs)).into(),
            _ => Bytes::new(),
        };
        let mut draft = Draft::new(TransactionMeta { user, description, extension, tid, status });
        draft.set_origin(Origin(connection.0));
        client.transaction = Some(Transaction {
            id: transaction,
            draft,
            since: self.now,
            in_memory: 0,
            stage: Stage::Open,
            wrong: None,
            upload: None,
            blobs: Vec::new(),
            resolving: BTreeSet::new(),
        });
        done(Value::None)
    }

    /// The client's transaction, if it is the one that a call names.
    pub(super) fn transaction(
        &mut self,
        connection: ConnectionId,
        given: TransactionId,
    ) -> Result<&mut Transaction, Fault> {
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        if client.read_only {
            return Err(Fault::ReadOnly);
        }
        let current = client.transaction.as_ref().map(|transaction| transaction.id.clone());
        match &mut client.transaction {
            Some(transaction) if transaction.id == given => Ok(transaction),
            _ => Err(Fault::Transaction { current, given }),
        }
    }

    pub(super) fn change(&mut self, connection: ConnectionId, given: TransactionId, change: Change) -> Next {
        let is_store = !matches!(change, Change::CheckCurrent { .. });
        let transaction = match self.transaction(connection, given) {
            Ok(transaction) => transaction,
            Err(fault) => return fail(fault),
        };
        if transaction.stage != Stage::Open {
            return fail(Fault::text("builtins.AssertionError", "the transaction is voted: it takes no more changes"));
        }
        if let Change::Store { oid, .. } = &change
            && transaction.resolving.remove(oid)
        {
            transaction.replace_store(*oid);
        }
        let bytes = change.data().map_or(0, vellum_storage::Data::len);
        // The vote reports an invalid change: the client waits for no answer to this call.
        let kept = match transaction.draft.push(change) {
            Ok(()) => bytes,
            Err(error) => {
                transaction.wrong.get_or_insert(Wrong(crate::faults::fault(error)));
                0
            }
        };
        if is_store {
            self.counters(connection).stores += 1;
        }
        self.keeps(connection, kept);
        done(Value::None)
    }

    pub(super) fn undo(&mut self, connection: ConnectionId, given: TransactionId, undone: &[u8]) -> Next {
        if let Some(tid) = answers::undone(undone) {
            return self.change(connection, given, Change::Undo { tid });
        }
        match self.transaction(connection, given) {
            Ok(transaction) => {
                let fault = Fault::text("binascii.Error", "the name of the transaction to undo is no tid in base64");
                transaction.wrong.get_or_insert(Wrong(fault));
                done(Value::None)
            }
            Err(fault) => fail(fault),
        }
    }

    pub(super) fn counters(&mut self, connection: ConnectionId) -> &mut Counters {
        let storage = self.connections[&connection].storage.expect("it has registered");
        &mut self.storages[storage.0].counters
    }

    pub(super) fn vote(&mut self, connection: ConnectionId, reply: &Option<MessageId>, given: TransactionId) -> Next {
        let clients_resolve = self.config.clients_resolve;
        let transaction = match self.transaction(connection, given) {
            Ok(transaction) => transaction,
            Err(fault) => return fail(fault),
        };
        let already = |how: &str| {
            fail(Fault::text("ZODB.POSException.StorageTransactionError", format!("Already voting ({how})")))
        };
        match &transaction.stage {
            Stage::Open => {}
            Stage::Spilling { .. } | Stage::Uploading { .. } => {
                unreachable!("calls of a transaction wait while a storage works on it")
            }
            Stage::Waiting { .. } => return already("waiting"),
            Stage::Voting { .. } | Stage::Voted { .. } | Stage::Finishing { .. } => return already("locked"),
        }
        if transaction.upload.is_some() {
            let fault = Fault::text("builtins.AssertionError", "a blob of the transaction did not end");
            transaction.wrong.get_or_insert(Wrong(fault));
        } else if let Err(error) = transaction.place_blobs() {
            transaction.wrong.get_or_insert(Wrong(crate::faults::fault(error)));
        }
        if let Some(Wrong(fault)) = transaction.wrong.take() {
            self.end_transaction(connection);
            return fail(fault);
        }
        let draft = match clients_resolve {
            true => transaction.draft.clone(),
            false => transaction.take_draft(),
        };
        let job = self.run(connection, None, Kind::Transaction, Work::Vote { draft });
        self.set_stage(connection, Stage::Voting { job, reply: reply.clone(), is_woken: false });
        Later
    }

    pub(super) fn finish(&mut self, connection: ConnectionId, reply: &Option<MessageId>, given: TransactionId) -> Next {
        match self.transaction(connection, given) {
            Ok(Transaction { stage: Stage::Voted { .. }, .. }) => {}
            Ok(_) => return fail(Fault::text("builtins.AssertionError", "finished called wo lock")),
            Err(Fault::ReadOnly) => return fail(Fault::ReadOnly),
            // It may be gone already: ZEO says nothing then.
            Err(_) => return done(Value::None),
        }
        let job = self.run(connection, None, Kind::Transaction, Work::Finish);
        self.set_stage(connection, Stage::Finishing { job, reply: reply.clone() });
        Later
    }

    pub(super) fn abort(&mut self, connection: ConnectionId, given: TransactionId) -> Next {
        match self.transaction(connection, given) {
            Ok(_) => {}
            Err(Fault::ReadOnly) => return fail(Fault::ReadOnly),
            Err(_) => return done(Value::None),
        }
        self.counters(connection).aborts += 1;
        self.end_transaction(connection);
        done(Value::None)
    }

    pub(super) fn set_stage(&mut self, connection: ConnectionId, stage: Stage) {
        let client = self.connections.get_mut(&connection).expect("its transaction goes on");
        client.transaction.as_mut().expect("it goes on").stage = stage;
    }

    /// Drops the transaction of a connection, of which no storage has anything.
    fn drop_transaction(&mut self, connection: ConnectionId) {
        let transaction = self.connections.get_mut(&connection).and_then(|client| client.transaction.take());
        if let Some(transaction) = transaction {
            self.keeps_no_more(&transaction);
        }
    }

    /// Drops the transaction of a connection, and what a storage has of it.
    pub(super) fn end_transaction(&mut self, connection: ConnectionId) {
        let client = self.connections.get_mut(&connection).expect("its transaction ends");
        let Some(transaction) = client.transaction.take() else { return };
        self.keeps_no_more(&transaction);
        if let Stage::Waiting { job, .. } = transaction.stage {
            self.jobs.remove(&job);
        }
        if !matches!(transaction.stage, Stage::Open) || transaction.upload.is_some() {
            self.effects.push(Effect::Abort { connection });
        }
    }

    pub(super) fn transaction_done(&mut self, connection: ConnectionId, job: JobId, outcome: Outcome) {
        let client = self.connections.get_mut(&connection).expect("it is there");
        let Some(transaction) = &mut client.transaction else { return };
        let stage = std::mem::replace(&mut transaction.stage, Stage::Open);
        match (stage, outcome) {
            (Stage::Spilling { .. }, outcome) => self.spilled(connection, outcome),
            (Stage::Uploading { bytes, ends, .. }, outcome) => self.uploaded(connection, bytes, ends, outcome),
            (Stage::Voting { reply, .. }, Outcome::Voted { merged, judged_by }) => {
                transaction.stage = Stage::Voted { since: self.now };
                // Only merged records depend on others' transactions.
                let of = if merged.is_empty() { Tid::ZERO } else { judged_by };
                self.answer_after(connection, reply, Ok(answers::oids(merged)), of);
            }
            (Stage::Voting { reply, is_woken: true, .. }, Outcome::Waits { .. }) => self.retry(connection, reply),
            (Stage::Voting { reply, .. }, Outcome::Waits { on }) => {
                transaction.stage = Stage::Waiting { job, reply, on };
                let storage = client.storage.expect("it has a transaction");
                let since = self.now;
                let waiting =
                    Running { connection, storage, reply: None, kind: Kind::Transaction, since, is_slow: false };
                self.jobs.insert(job, waiting);
            }
            (Stage::Voting { reply, .. }, Outcome::Refused { fault, judged_by }) => {
                self.refused(connection, reply, fault, judged_by);
            }
            (Stage::Voting { reply, .. }, Outcome::Failed(fault)) => {
                self.refused(connection, reply, fault, Tid::ZERO);
            }
            (Stage::Finishing { reply, .. }, Outcome::Finished { tid, info }) => {
                self.drop_transaction(connection);
                self.counters(connection).commits += 1;
                let Info { length, size } = info;
                let info = Notice::Info { length: length as i64, size: size as i64 };
                self.send(connection, info.into_message());
                self.answer(connection, reply, Ok(eight(tid)));
                self.catch_up(connection, tid);
            }
            (Stage::Finishing { reply, .. }, Outcome::Failed(fault)) => {
                let last = client.last;
                self.drop_transaction(connection);
                self.answer(connection, reply, Err(fault));
                // It may have been finished all the same, and what it held back must not stay.
                self.catch_up(connection, last);
            }
            (stage, outcome) => unreachable!("{stage:?} does not end with {outcome:?}"),
        }
    }

    /// A vote was refused. A conflict that the client can resolve leaves it its transaction.
    pub(super) fn refused(&mut self, connection: ConnectionId, reply: Option<MessageId>, fault: Fault, of: Tid) {
        let is_conflict = matches!(fault, Fault::Conflict { .. } | Fault::ReadConflict { .. });
        if let (Fault::Conflict { oid, committed, serial, .. }, true) = (&fault, self.config.clients_resolve) {
            let client = self.connections.get_mut(&connection).expect("it voted");
            let transaction = client.transaction.as_mut().expect("it was voted on");
            let stored = transaction.draft.changes().iter().rev().find_map(|change| match change {
                // A blob cannot be merged.
                Change::Store { oid: stored, data, .. } if stored == oid && data.blob().is_none() => data.bytes().ok(),
                _ => None,
            });
            if let Some(data) = stored {
                transaction.resolving.insert(*oid);
                let serials = Value::Tuple(vec![eight(*committed), eight(*serial)]);
                let pairs = [("oid", eight(*oid)), ("serials", serials), ("data", Value::Bytes(data))];
                let conflict = pairs.map(|(key, value)| (answers::text(key), value)).to_vec();
                return self.answer_after(connection, reply, Ok(Value::List(vec![Value::Dict(conflict)])), of);
            }
        }
        self.drop_transaction(connection);
        if is_conflict {
            self.counters(connection).conflicts += 1;
        }
        self.answer_after(connection, reply, Err(fault), of);
    }

    /// Carries out the calls that waited for the storage.
    pub(super) fn go_on(&mut self, connection: ConnectionId) {
        while let Some(client) = self.connections.get_mut(&connection) {
            let is_running =
                client.transaction.as_ref().is_some_and(|transaction| transaction.stage.running().is_some());
            if is_running {
                return;
            }
            let Some(queued) = client.queue.pop_front() else { return };
            client.queued -= queued.bytes();
            let Queued { reply, call } = queued;
            self.call(connection, reply, call);
        }
    }

    pub(super) fn woken(&mut self, job: JobId) {
        let Some(&Running { connection, .. }) = self.jobs.get(&job) else { return };
        let client = self.connections.get_mut(&connection);
        let transaction = client.and_then(|client| client.transaction.as_mut());
        match transaction.map(|transaction| &mut transaction.stage) {
            Some(Stage::Voting { is_woken, .. }) => *is_woken = true,
            Some(Stage::Waiting { reply, .. }) => {
                let reply = reply.clone();
                self.jobs.remove(&job);
                self.retry(connection, reply);
            }
            _ => {}
        }
    }

    /// Has the storage try again to vote.
    pub(super) fn retry(&mut self, connection: ConnectionId, reply: Option<MessageId>) {
        let job = self.run(connection, None, Kind::Transaction, Work::Retry);
        self.set_stage(connection, Stage::Voting { job, reply, is_woken: false });
    }
}
