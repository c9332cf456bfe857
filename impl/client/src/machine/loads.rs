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

use vellum_cache::{Asked, Changed};
use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_wire::{Call, Fault, Value};

use super::ahead::kept;
use super::calls::{Kind, refusal};
use super::{Machine, Waiting};
use crate::answers;
use crate::ask::{Answer, Ask};
use crate::error::ClientError;
use crate::event::{ConnectionId, PromiseId};

/// A load that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    waiters: Vec<Waiter>,
    /// When it was asked, as the cache counts.
    asked: Asked,
    /// The first transaction since it began that changed the object.
    changed: Option<Tid>,
}

/// One that waits for a load.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Waiter {
    /// A load, with the moment that it asked for, and until when.
    Load { promise: PromiseId, asked: Option<Tid>, until: Duration },
    /// A bulk fetch.
    Group(u64),
}

impl Flight {
    /// A load that begins.
    pub fn of(waiter: Waiter, asked: Asked) -> Flight {
        Flight { waiters: vec![waiter], asked, changed: None }
    }

    /// The bulk fetches that wait for it.
    pub fn groups(&self) -> impl Iterator<Item = u64> + '_ {
        self.waiters.iter().filter_map(|waiter| match waiter {
            Waiter::Group(number) => Some(*number),
            Waiter::Load { .. } => None,
        })
    }

    /// Another one waits for it.
    pub fn add(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }
}

/// A revision as the answer to a load. If the object was changed before the moment that was asked for, but after the
/// client's last transaction, then the revision is the newest one of the client's moment, and that has no end.
pub(crate) fn as_asked(found: LoadedAt, asked: Option<Tid>) -> LoadedAt {
    LoadedAt { next: found.next.filter(|next| asked.is_none_or(|asked| asked <= *next)), ..found }
}

impl Machine {
    pub(super) fn load(&mut self, waiting: Waiting, oid: Oid, asked: Option<Tid>) {
        let Some(last) = self.last else { return self.wait(waiting) };
        // Nothing is known of what comes later.
        let before = asked.unwrap_or(Tid::MAX).min(last.next());
        if let Some(found) = self.cache.load(oid, before, asked) {
            return self.resolve(waiting.promise, Ok(Answer::Loaded(Some(as_asked(found, asked)))));
        }
        let Some(session) = self.session.as_ref().filter(|session| session.is_ready()) else {
            return self.wait(waiting);
        };
        let connection = session.connection;
        let waiter = Waiter::Load { promise: waiting.promise, asked, until: waiting.until };
        if let Some(flight) = self.flights.get_mut(&(oid, before)) {
            return flight.add(waiter);
        }
        let flight = Flight::of(waiter, self.cache.ask());
        self.flights.insert((oid, before), flight);
        let patience = self.config.patience.reply;
        self.call(connection, Call::LoadBefore { oid, before }, Kind::Load { oid, before }, patience);
    }

    /// A transaction changed these objects. The answers that are under way were perhaps read before that.
    pub(super) fn note_changes(&mut self, tid: Tid, oids: &[Oid]) {
        match self.config.versions {
            // The changes may be in a version, and the trunk as it was.
            true => self.cache.verify(Changed::Objects(oids), tid),
            false => self.cache.invalidate(tid, oids),
        }
        oids.iter().for_each(|oid| self.note_change(*oid, tid));
    }

    fn note_change(&mut self, oid: Oid, tid: Tid) {
        for (_, flight) in self.flights.range_mut((oid, Tid::ZERO)..=(oid, Tid::MAX)) {
            flight.changed.get_or_insert(tid);
        }
        if !self.config.versions {
            self.groups.values_mut().for_each(|group| group.note_change(oid, tid));
        }
        self.prefetches.values_mut().for_each(|prefetching| prefetching.note_change(oid, tid));
    }

    pub(super) fn loaded(&mut self, connection: ConnectionId, oid: Oid, before: Tid, outcome: Result<Value, Fault>) {
        let answer = match outcome.map(|value| answers::loaded(value, before)) {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(why)) => {
                let nonsense = ClientError::Nonsense { asked: "load", why: why.to_owned() };
                self.fail_load(oid, before, &nonsense);
                return self.disbelieve(connection, format!("load: {why}"));
            }
            Err(fault) => Err(refusal(fault)),
        };
        self.works();
        self.land(oid, before, answer);
    }

    /// A load is answered.
    pub(super) fn land(&mut self, oid: Oid, before: Tid, answer: Result<Option<LoadedAt>, ClientError>) {
        let Some(Flight { waiters, asked, changed }) = self.flights.remove(&(oid, before)) else { return };
        let answer = answer.map(|found| found.map(|found| self.keep(asked, oid, found, changed)));
        // Where there are versions, it may be there in one and not yet on the trunk.
        let may_be_new = !self.config.versions || changed.is_some();
        self.resolve_all(waiters, (oid, before), &answer, may_be_new);
    }

    /// Keeps what was loaded. A revision that was called current held until the object was changed.
    fn keep(&mut self, asked: Asked, oid: Oid, found: LoadedAt, changed: Option<Tid>) -> LoadedAt {
        if changed.is_some() && self.config.versions {
            return found;
        }
        // If the server contradicts itself about what came next, that is left to the next load.
        if let Some(judged) = kept(found.clone(), changed) {
            self.cache.put(asked, oid, &found, judged);
        }
        LoadedAt { next: found.next.or(changed), ..found }
    }

    fn resolve_all(
        &mut self,
        waiters: Vec<Waiter>,
        (oid, before): (Oid, Tid),
        answer: &Result<Option<LoadedAt>, ClientError>,
        may_be_new: bool,
    ) {
        for waiter in waiters {
            match waiter {
                // The object was made by a transaction that this client did not know of: to it, there was none.
                Waiter::Load { promise, asked, .. }
                    if may_be_new && asked.is_none_or(|asked| asked > before) && matches!(answer, Ok(None)) =>
                {
                    self.resolve(promise, Err(refusal(Fault::NoObject { oid })));
                }
                Waiter::Load { promise, asked, .. } => {
                    let answer = answer.clone().map(|found| found.map(|found| as_asked(found, asked)));
                    self.resolve(promise, answer.map(Answer::Loaded));
                }
                Waiter::Group(number) => self.resolve_in_group(number, oid, answer),
            }
        }
    }

    pub(super) fn fail_load(&mut self, oid: Oid, before: Tid, error: &ClientError) {
        if let Some(flight) = self.flights.remove(&(oid, before)) {
            self.resolve_all(flight.waiters, (oid, before), &Err(error.clone()), false);
        }
    }

    /// The connection of a load ended.
    pub(super) fn load_again(&mut self, oid: Oid, before: Tid) {
        let Some(flight) = self.flights.remove(&(oid, before)) else { return };
        for waiter in flight.waiters {
            match waiter {
                Waiter::Load { promise, asked, until } => {
                    self.wait_again(promise, Ask::Load { oid, before: asked }, until);
                }
                Waiter::Group(number) => self.ask_group_again(number),
            }
        }
    }
}
