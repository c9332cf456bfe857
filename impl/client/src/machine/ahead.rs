//! Fetching ahead: bulk fetches, which are many loads at once, and prefetches, whose revisions come before their loads.
//!
//! ```text
//!   load_many(1, 2, 3)     1 is in the cache, 2 is on its way for another load, 3 is asked for; with many: in one call
//!
//!   prefetch(1)  ─▶  the client knows t5: everything that comes is of the moment after t5
//!                ◀── invalidation t6: object 3      noted for this prefetch
//!                ◀── 1, 2, 3                        3 held until t6, the others are current
//! ```
//!
//! A server that offers no such calls gets a load for each object of a bulk fetch, and no prefetches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vellum_cache::Asked;
use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_wire::{Ahead, Call, Extension, Fault, Found, Reach, Value};

use super::calls::{Kind, refusal};
use super::loads::{Flight, Waiter, as_asked};
use super::{Machine, Waiting};
use crate::answers;
use crate::ask::{Answer, Ask};
use crate::error::ClientError;
use crate::event::{ConnectionId, PromiseId};

/// A bulk fetch that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    promise: PromiseId,
    /// The objects, as they were asked for.
    oids: Vec<Oid>,
    before: Option<Tid>,
    until: Duration,
    /// When it last got on.
    heard_at: Duration,
    found: BTreeMap<Oid, Option<LoadedAt>>,
    /// Objects that are not answered yet.
    open: usize,
}

/// A prefetch that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prefetching {
    /// At depth 0: the only objects that may come.
    only: Option<BTreeSet<Oid>>,
    /// The moment.
    before: Tid,
    /// When it was asked, as the cache counts.
    asked: Asked,
    /// The rest of the limits.
    left: Reach,
    /// The objects that came.
    seen: BTreeSet<Oid>,
    /// Revisions that came and were believed.
    came: u64,
    /// For each object that was changed since it began: the first transaction that did.
    changed: BTreeMap<Oid, Tid>,
    /// Whether so much was changed that nothing more is kept.
    is_deaf: bool,
}

/// Objects of one call.
const MANY_MAX: usize = 1000;
/// Prefetches at a time. Those beyond that do nothing.
const PREFETCHES_MAX: usize = 64;
/// Changed objects that are noted for a prefetch.
const CHANGED_MAX: usize = 10_000;

impl Group {
    /// A revision that was found, and that waits here for the others, is not current any more.
    pub fn note_change(&mut self, oid: Oid, tid: Tid) {
        if let Some(Some(found)) = self.found.get_mut(&oid) {
            found.next.get_or_insert(tid);
        }
    }
}

impl Prefetching {
    /// Rule 9.5: whether these revisions were asked for. The error says why not.
    fn admit(&mut self, revisions: &[Ahead]) -> Result<(), &'static str> {
        for Ahead { oid, revision: LoadedAt { data, tid, next } } in revisions {
            if data.is_empty() {
                return Err("a record is never empty");
            }
            if *tid >= self.before || next.is_some_and(|next| next < self.before || next <= *tid) {
                return Err("a prefetched revision is of another moment");
            }
            if self.only.as_ref().is_some_and(|only| !only.contains(oid)) || !self.seen.insert(*oid) {
                return Err("a prefetched revision is of an object that was not asked for, or came before");
            }
            let bytes = data.len() as u64;
            if self.left.count == 0 || self.left.bytes < bytes {
                return Err("more is prefetched than was asked for");
            }
            self.left.count -= 1;
            self.left.bytes -= bytes;
        }
        self.came += revisions.len() as u64;
        Ok(())
    }

    pub fn note_change(&mut self, oid: Oid, tid: Tid) {
        if self.changed.len() < CHANGED_MAX {
            self.changed.entry(oid).or_insert(tid);
        } else {
            self.is_deaf = true;
            self.changed.clear();
        }
    }
}

/// Rule 9.4: the revision as the cache may keep it. `changed` is the first transaction since it was asked for that
/// changed the object. None if the server contradicts itself.
pub(super) fn kept(found: LoadedAt, changed: Option<Tid>) -> Option<LoadedAt> {
    let Some(changed) = changed else { return Some(found) };
    let next = found.next.unwrap_or(changed);
    (found.tid < changed && next <= changed).then_some(LoadedAt { next: Some(next), ..found })
}

impl Machine {
    pub(super) fn is_offered(&self, extension: Extension) -> bool {
        self.info.as_ref().is_some_and(|info| info.extensions.contains(&extension))
    }

    /// Rule 9.2, with the cache and the loads that are under way.
    pub(super) fn load_many(&mut self, waiting: Waiting, oids: Vec<Oid>, asked: Option<Tid>) {
        let Some(last) = self.last else { return self.wait(waiting) };
        let before = asked.unwrap_or(Tid::MAX).min(last.next());
        let mut found = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for oid in &oids {
            match self.cache.load(*oid, before, asked) {
                Some(revision) => _ = found.insert(*oid, Some(revision)),
                None => _ = missing.insert(*oid),
            }
        }
        let Waiting { promise, until, .. } = waiting;
        let heard_at = self.now;
        let group = Group { promise, oids, before: asked, until, heard_at, found, open: missing.len() };
        if missing.is_empty() {
            return self.answer_group(group);
        }
        let Some(session) = self.session.as_ref().filter(|session| session.is_ready()) else {
            return self.wait(waiting);
        };
        let (connection, asked) = (session.connection, self.cache.ask());
        let number = self.group_next;
        self.group_next += 1;
        self.groups.insert(number, group);
        let mut calls = Vec::new();
        for oid in missing {
            let waiter = Waiter::Group(number);
            match self.flights.get_mut(&(oid, before)) {
                Some(flight) => flight.add(waiter),
                None => {
                    self.flights.insert((oid, before), Flight::of(waiter, asked));
                    calls.push(oid);
                }
            }
        }
        let patience = self.config.patience.reply;
        if self.is_offered(Extension::LoadMany) {
            for oids in calls.chunks(MANY_MAX) {
                self.call_for_many(connection, oids.to_vec(), before);
            }
        } else {
            for oid in calls {
                self.call(connection, Call::LoadBefore { oid, before }, Kind::Load { oid, before }, patience);
            }
        }
    }

    fn call_for_many(&mut self, connection: ConnectionId, oids: Vec<Oid>, before: Tid) {
        let kind = Kind::LoadMany { oids: oids.clone(), before };
        self.call(connection, Call::LoadMany { oids, before }, kind, self.config.patience.reply);
    }

    /// Many loads are answered, or the first of them.
    pub(super) fn loaded_many(
        &mut self,
        connection: ConnectionId,
        mut oids: Vec<Oid>,
        before: Tid,
        outcome: Result<Value, Fault>,
    ) {
        let found = match outcome {
            Ok(value) => answers::found(value, before).and_then(|found| match found.len() {
                count if (1..=oids.len()).contains(&count) => Ok(found),
                _ => Err("many loads have other answers than one for each of the first"),
            }),
            Err(fault) => {
                let error = refusal(fault);
                return oids.into_iter().for_each(|oid| self.fail_load(oid, before, &error));
            }
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let error = ClientError::Nonsense { asked: "load", why: why.to_owned() };
                oids.into_iter().for_each(|oid| self.fail_load(oid, before, &error));
                return self.disbelieve(connection, format!("load: {why}"));
            }
        };
        self.works();
        let rest = oids.split_off(found.len());
        if !rest.is_empty() {
            self.call_for_many(connection, rest, before);
        }
        for (oid, found) in oids.into_iter().zip(found) {
            self.land(
                oid,
                before,
                match found {
                    Found::Revision(revision) => Ok(Some(revision)),
                    Found::NotYet => Ok(None),
                    Found::NoObject => Err(refusal(Fault::NoObject { oid })),
                },
            );
        }
    }

    /// When bulk fetches last got on that wait for these loads. A server answers one call after the other: it is not
    /// silent as long as it answers those before.
    pub(super) fn got_on_at(&self, oids: &[Oid], before: Tid) -> Option<Duration> {
        let flights = oids.iter().filter_map(|oid| self.flights.get(&(*oid, before)));
        let groups = flights.flat_map(Flight::groups).filter_map(|number| self.groups.get(&number));
        groups.map(|group| group.heard_at).max()
    }

    /// One of the loads of a bulk fetch is answered.
    pub(super) fn resolve_in_group(&mut self, number: u64, oid: Oid, outcome: &Result<Option<LoadedAt>, ClientError>) {
        let Some(group) = self.groups.get_mut(&number) else { return };
        let found = match outcome {
            Ok(found) => found.clone(),
            Err(ClientError::Refused(Fault::NoObject { .. })) => None,
            Err(error) => {
                // Its other loads have nobody who waits for them here.
                let promise = group.promise;
                self.groups.remove(&number);
                return self.resolve(promise, Err(error.clone()));
            }
        };
        group.heard_at = self.now;
        group.open -= 1;
        group.found.insert(oid, found);
        if group.open == 0
            && let Some(group) = self.groups.remove(&number)
        {
            self.answer_group(group);
        }
    }

    fn answer_group(&mut self, Group { promise, oids, before, found, .. }: Group) {
        let revision = |oid| found.get(&oid).cloned().flatten().map(|found| as_asked(found, before));
        let all = oids.into_iter().map(|oid| (oid, revision(oid))).collect();
        self.resolve(promise, Ok(Answer::LoadedMany(all)));
    }

    /// The connection of a bulk fetch ended.
    pub(super) fn ask_group_again(&mut self, number: u64) {
        if let Some(Group { promise, oids, before, until, .. }) = self.groups.remove(&number) {
            self.wait_again(promise, Ask::LoadMany { oids, before }, until);
        }
    }

    /// Has the server send what can be reached from these objects. A server is there.
    pub(super) fn prefetch(&mut self, waiting: Waiting, mut oids: Vec<Oid>, asked: Option<Tid>, reach: Reach) {
        let (Some(last), Some(session)) = (self.last, &self.session) else { return self.wait(waiting) };
        let connection = session.connection;
        let before = asked.unwrap_or(Tid::MAX).min(last.next());
        if reach.depth == 0 {
            oids.retain(|oid| !self.cache.has(*oid, before));
        }
        oids.truncate(MANY_MAX);
        let Waiting { promise, .. } = waiting;
        if oids.is_empty() || !self.is_offered(Extension::Prefetch) || self.prefetches.len() >= PREFETCHES_MAX {
            return self.resolve(promise, Ok(Answer::Prefetched(0)));
        }
        self.call_for_prefetch(connection, oids, before, reach, Some(promise));
    }

    /// Has the server send the objects that were loaded after an object the last time.
    pub(super) fn prefetch_hint(&mut self, mut oids: Vec<Oid>) {
        let (Some(last), Some(session)) = (self.last, &self.session) else { return };
        let (connection, before) = (session.connection, last.next());
        oids.retain(|oid| !self.cache.has(*oid, before) && !self.flights.contains_key(&(*oid, before)));
        if oids.is_empty() || !self.is_offered(Extension::Prefetch) || self.prefetches.len() >= PREFETCHES_MAX / 2 {
            return;
        }
        let reach = Reach { depth: 0, count: oids.len() as u32, bytes: self.cache.bytes_max() / 16 };
        self.call_for_prefetch(connection, oids, before, reach, None);
    }

    fn call_for_prefetch(
        &mut self,
        connection: ConnectionId,
        oids: Vec<Oid>,
        before: Tid,
        reach: Reach,
        promise: Option<PromiseId>,
    ) {
        // Otherwise it would push out of the cache what it brought, and more.
        let reach = Reach { bytes: reach.bytes.min(self.cache.bytes_max() / 2), ..reach };
        let only = (reach.depth == 0).then(|| oids.iter().copied().collect());
        let (seen, changed) = (BTreeSet::new(), BTreeMap::new());
        let asked = self.cache.ask();
        let prefetching = Prefetching { only, before, asked, left: reach, seen, came: 0, changed, is_deaf: false };
        let patience = self.config.patience.slow;
        let call = Call::Prefetch { oids, before, reach };
        let call = self.call(connection, call, Kind::Prefetch { promise }, patience);
        self.prefetches.insert(call, prefetching);
    }

    /// Revisions came ahead of their loads.
    pub(super) fn prefetched(&mut self, connection: ConnectionId, call: i64, revisions: Vec<Ahead>) {
        let is_asked = self.calls.get(&call).is_some_and(|pending| pending.connection == connection);
        let Some(prefetching) = self.prefetches.get_mut(&call).filter(|_| is_asked) else {
            return self.disbelieve(connection, format!("revisions for prefetch {call}, which nobody asked for"));
        };
        if let Err(why) = prefetching.admit(&revisions) {
            return self.disbelieve(connection, format!("prefetch: {why}"));
        }
        if prefetching.is_deaf {
            return;
        }
        for Ahead { oid, revision } in revisions {
            let changed = prefetching.changed.get(&oid).copied();
            let judged = kept(revision.clone(), changed).filter(|_| changed.is_none() || !self.config.versions);
            if let Some(judged) = judged {
                self.cache.add(prefetching.asked, oid, &revision, judged);
            }
        }
    }

    /// A prefetch has ended. Returns the number of revisions that came.
    pub(super) fn end_prefetch(&mut self, call: i64) -> u64 {
        self.prefetches.remove(&call).map_or(0, |ended| ended.came)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vellum_spec::Kept;

    use super::*;

    proptest! {
        /// Rule 9.4.
        #[test]
        fn a_revision_is_kept_as_the_rules_say(
            tid in 1..6_u64, next in proptest::option::of(2..9_u64), changed in proptest::option::of(2..9_u64),
        ) {
            // Others were not admitted.
            let next = next.filter(|next| *next > tid);
            let found = LoadedAt { data: "x".into(), tid: Tid(tid), next: next.map(Tid) };
            let wanted = match vellum_spec::kept(tid, next, changed) {
                Kept::Current => Some(LoadedAt { next: None, ..found.clone() }),
                Kept::Until(end) => Some(LoadedAt { next: Some(Tid(end)), ..found.clone() }),
                Kept::Not => None,
            };
            prop_assert_eq!(kept(found, changed.map(Tid)), wanted);
        }

        /// Rule 9.5.
        #[test]
        fn revisions_are_asked_for_as_the_rules_say(
            sent in proptest::collection::vec((0..4_u64, 0..3_usize, 1..6_u64, proptest::option::of(2..9_u64)), 0..5),
            (only, t) in (proptest::collection::vec(0..4_u64, 1..4), 1..8_u64),
            (depth, count, bytes) in (0..2_u32, 0..5_u32, 0..9_u64),
            cut in 0..5_usize,
        ) {
            let data = [&b""[..], b"one", b"three"];
            let limits = vellum_spec::Limits { depth, count: count as usize, bytes: bytes as usize };
            let parts: Vec<_> = sent.iter().map(|(oid, which, tid, next)| (*oid, data[*which], *tid, *next)).collect();
            let wanted = vellum_spec::asked_for(&parts, &only, t, limits);
            let ahead: Vec<_> = sent.iter().map(|(oid, which, tid, next)| Ahead {
                oid: Oid(*oid),
                revision: LoadedAt { data: data[*which].into(), tid: Tid(*tid), next: next.map(Tid) },
            }).collect();
            let mut prefetching = Prefetching {
                only: (depth == 0).then(|| only.iter().map(|oid| Oid(*oid)).collect()),
                before: Tid(t),
                asked: Asked::default(),
                left: Reach { depth, count, bytes },
                seen: BTreeSet::new(),
                came: 0,
                changed: BTreeMap::new(),
                is_deaf: false,
            };
            // In two messages, as they may come.
            let (first, second) = ahead.split_at(cut.min(ahead.len()));
            let is_believed = prefetching.admit(first).is_ok() && prefetching.admit(second).is_ok();
            prop_assert_eq!(is_believed, wanted);
        }
    }
}
