//! Loads: from the cache, or by one call for all that ask for the same.
//!
//! Every load is a `loadBefore` of a moment that this client knows of: "now" is the moment after its last transaction.
//! So no answer is from the future, and all that is loaded belongs to one state.
//!
//! ```text
//!   the client knows t5:  loadBefore(object, t5+1) ──▶ the server
//!                         ◀── invalidation t6: object      the flight notes that the object was changed by t6
//!                         ◀── (data, t2, None)             "current" until t6: kept as [t2, t6), not as current
//! ```

use std::time::Duration;

use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_wire::{Call, Fault, Value};

use super::calls::{Kind, refusal};
use super::{Machine, Waiting};
use crate::answers;
use crate::ask::{Answer, Ask};
use crate::error::ClientError;
use crate::event::{ConnectionId, PromiseId};

/// A load that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    /// Those that asked; with the moment that each asked for, and until when.
    waiters: Vec<(PromiseId, Option<Tid>, Duration)>,
    /// The first transaction since it began that changed the object.
    changed: Option<Tid>,
}

impl Machine {
    pub(super) fn load(&mut self, waiting: Waiting, oid: Oid, asked: Option<Tid>) {
        let Some(last) = self.last else { return self.wait(waiting) };
        // Nothing is known of what comes later.
        let before = asked.unwrap_or(Tid::MAX).min(last.next());
        if let Some(found) = self.cache.get(oid, before) {
            return self.resolve(waiting.promise, Ok(Answer::Loaded(Some(found))));
        }
        let Some(session) = self.session.as_ref().filter(|session| session.is_ready()) else {
            return self.wait(waiting);
        };
        let connection = session.connection;
        let waiter = (waiting.promise, asked, waiting.until);
        if let Some(flight) = self.flights.get_mut(&(oid, before)) {
            return flight.waiters.push(waiter);
        }
        self.flights.insert((oid, before), Flight { waiters: vec![waiter], changed: None });
        let patience = self.config.patience.reply;
        self.call(connection, Call::LoadBefore { oid, before }, Kind::Load { oid, before }, patience);
    }

    /// A transaction changed an object. The answers that are under way were perhaps read before that.
    pub(super) fn note_change(&mut self, oid: Oid, tid: Tid) {
        self.cache.end(oid, tid);
        for (_, flight) in self.flights.range_mut((oid, Tid::ZERO)..=(oid, Tid::MAX)) {
            flight.changed.get_or_insert(tid);
        }
    }

    pub(super) fn loaded(&mut self, connection: ConnectionId, oid: Oid, before: Tid, outcome: Result<Value, Fault>) {
        let Some(flight) = self.flights.remove(&(oid, before)) else { return };
        let answer = match outcome.map(|value| answers::loaded(value, before)) {
            Ok(Ok(found)) => Ok(found.map(|found| self.keep(oid, found, flight.changed))),
            Ok(Err(why)) => {
                let nonsense = ClientError::Nonsense { asked: "load", why: why.to_owned() };
                self.resolve_all(&flight, &Err(nonsense));
                return self.disbelieve(connection, format!("load: {why}"));
            }
            Err(fault) => Err(refusal(fault)),
        };
        self.works();
        self.resolve_all(&flight, &answer.map(Answer::Loaded));
    }

    /// Keeps what was loaded. A revision that was called current held until the object was changed.
    fn keep(&mut self, oid: Oid, found: LoadedAt, changed: Option<Tid>) -> LoadedAt {
        let found = LoadedAt { next: found.next.or(changed), ..found };
        // The server contradicts itself about what came next, so that is left to the next load.
        if changed.is_none_or(|changed| found.next == Some(changed)) {
            self.cache.put(oid, found.clone());
        }
        found
    }

    fn resolve_all(&mut self, flight: &Flight, outcome: &Result<Answer, ClientError>) {
        for (promise, ..) in &flight.waiters {
            self.resolve(*promise, outcome.clone());
        }
    }

    pub(super) fn fail_load(&mut self, oid: Oid, before: Tid, error: &ClientError) {
        if let Some(flight) = self.flights.remove(&(oid, before)) {
            self.resolve_all(&flight, &Err(error.clone()));
        }
    }

    /// The connection of a load ended.
    pub(super) fn load_again(&mut self, oid: Oid, before: Tid) {
        let Some(flight) = self.flights.remove(&(oid, before)) else { return };
        for (promise, before, until) in flight.waiters {
            self.wait_again(promise, Ask::Load { oid, before }, until);
        }
    }
}
