//! Fetching ahead: many loads in one call, and revisions that are sent before they are loaded. ZEO has neither.
//!
//! ```text
//!   vellum.loadMany ─▶ LoadMany ─▶ the answer
//!
//!   vellum.prefetch ─▶ Reach ─▶ vellum.prefetched, some of them ─┬─▶ Reach ...
//!                                     has left for the client ───┘             ... ─▶ the answer: how many
//! ```
//!
//! A prefetch waits for everything else. A piece is read on a background thread, and only when little is on its way to
//! the client. So the answer to a load has at most [`ROOM`] bytes of these messages before it.

use vellum_storage::{Oid, Tid};
use vellum_wire::{Ahead, Fault, Found, MessageId, Notice, Reach, Value};

use super::calls::Next::{self, Later};
use super::calls::{done, fail};
use super::{Kind, Machine};
use crate::connection::Prefetch;
use crate::event::{ConnectionId, Effect, Outcome, Work};
use crate::reach::Walk;

/// Objects of one call: the first ones are answered.
const MANY_MAX: usize = 1000;
/// Bytes of records in the answer to many loads. It ends with the record that reaches them.
const MANY_BYTES: u64 = 1 << 20;
/// Bytes of revisions that are on their way to a client ahead of its loads.
const ROOM: u64 = 96 << 10;
/// Bytes of a revision beside its record, roughly.
const REVISION_BYTES: u64 = 40;
/// Prefetches of a client at a time. Those beyond that bring nothing.
const PREFETCHES_MAX: usize = 64;
/// The limits of one prefetch.
const PREFETCH_MAX: Reach = Reach { depth: u32::MAX, count: 1 << 20, bytes: 256 << 20 };

impl Machine {
    /// Rule 9.1: the moment that a client is answered for.
    fn moment(&self, connection: ConnectionId, asked: Tid) -> Tid {
        asked.min(self.connections[&connection].last.next())
    }

    pub(super) fn load_many(
        &mut self,
        connection: ConnectionId,
        reply: &Option<MessageId>,
        mut oids: Vec<Oid>,
        before: Tid,
    ) -> Next {
        oids.truncate(MANY_MAX);
        let before = self.moment(connection, before);
        self.counters(connection).loads += oids.len() as u64;
        let work = Work::LoadMany { oids, before, bytes_max: MANY_BYTES };
        self.run(connection, reply.clone(), Kind::LoadMany, work);
        Later
    }

    /// Answers many loads.
    pub(super) fn loaded_many(&mut self, connection: ConnectionId, reply: Option<MessageId>, mut found: Vec<Found>) {
        let last = self.connections[&connection].last;
        for one in &mut found {
            if let Found::Revision(revision) = one {
                // A client that hears of the end of a revision before it hears of the transaction would wonder.
                revision.next = revision.next.filter(|next| *next <= last);
            }
        }
        let answer = Value::List(found.into_iter().map(Found::into_value).collect());
        self.answer(connection, reply, Ok(answer));
    }

    pub(super) fn prefetch(
        &mut self,
        connection: ConnectionId,
        reply: &Option<MessageId>,
        mut oids: Vec<Oid>,
        before: Tid,
        reach: Reach,
    ) -> Next {
        let Some(MessageId(Value::Int(call))) = reply else {
            return fail(Fault::text("builtins.TypeError", "a prefetch is a call with a number"));
        };
        oids.truncate(MANY_MAX);
        let reach =
            Reach { count: reach.count.min(PREFETCH_MAX.count), bytes: reach.bytes.min(PREFETCH_MAX.bytes), ..reach };
        let walk = Walk::new(oids, self.moment(connection, before), reach);
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        if client.prefetches.len() >= PREFETCHES_MAX {
            return done(Value::Int(0));
        }
        client.prefetches.push_back(Prefetch { call: *call, walk: Some(walk), sent: 0 });
        if client.prefetches.len() == 1 {
            self.send_ahead(connection);
        }
        Later
    }

    /// Continues with the first prefetch of a client, if little is on its way to it.
    pub(super) fn send_ahead(&mut self, connection: ConnectionId) {
        loop {
            let Some(client) = self.connections.get_mut(&connection) else { return };
            if client.downloading > 0 && client.downloading + ROOM / 2 > ROOM {
                return;
            }
            let Some(Prefetch { walk, .. }) = client.prefetches.front_mut() else { return };
            // None if a storage is at it.
            let Some(walk) = walk.take() else { return };
            if !walk.is_over() {
                self.run(connection, None, Kind::Ahead, Work::Reach { walk });
                return;
            }
            let Some(Prefetch { call, sent, .. }) = client.prefetches.pop_front() else { return };
            self.answer(connection, Some(MessageId(Value::Int(call))), Ok(Value::Int(sent)));
        }
    }

    /// A storage has read a piece of a prefetch.
    pub(super) fn reached(&mut self, connection: ConnectionId, outcome: Outcome) {
        let client = self.connections.get_mut(&connection).expect("it asked for a prefetch");
        let last = client.last;
        let Some(Prefetch { call, walk: home, sent }) = client.prefetches.front_mut() else { return };
        let call = *call;
        match outcome {
            Outcome::Reached { walk, mut revisions } => {
                *home = Some(walk);
                *sent += revisions.len() as i64;
                revisions.iter_mut().for_each(|ahead| {
                    ahead.revision.next = ahead.revision.next.filter(|next| *next <= last);
                });
                if !revisions.is_empty() {
                    let bytes = revisions.iter().map(weight).sum();
                    client.downloading += bytes;
                    self.moving += bytes;
                    let message = Notice::Prefetched { call, revisions }.into_message();
                    self.effects.push(Effect::SendPiece { connection, message, bytes });
                }
            }
            Outcome::Failed(fault) => {
                client.prefetches.pop_front();
                self.answer(connection, Some(MessageId(Value::Int(call))), Err(fault));
            }
            outcome => unreachable!("a prefetch does not end with {outcome:?}"),
        }
        self.send_ahead(connection);
    }
}

fn weight(ahead: &Ahead) -> u64 {
    REVISION_BYTES + ahead.revision.data.len() as u64
}
