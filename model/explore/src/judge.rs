//! The rules, in plain words ([`Broken::rule`]): each answer and each state is compared with the database.

use std::collections::BTreeSet;

use vellum_client::{self as client, Answer, Ask, ClientError, PromiseId, Told};
use vellum_spec::{Content, Database, Revision};
use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_wire::{Fault, Message, Value};

use crate::Seen;
use crate::state::{Asked, Broken, End, NAMES, Stage};
use crate::step::{Going, note};

use std::fmt::Write as _;

/// No thread has such a promise.
const PROBE: PromiseId = PromiseId(u64::MAX);

/// An object as it was just before a tid: the record, since when, and until when.
fn truth(history: &Database, oid: Oid, before: Tid) -> Option<(&[u8], Tid, Option<Tid>)> {
    let shown = history.load_before(oid.0, before.0).ok().flatten()?;
    Some((shown.data, Tid(shown.tid), shown.next.map(Tid)))
}

fn tid(value: &Value) -> Option<Tid> {
    let bytes = <[u8; 8]>::try_from(&value.as_bytes()?[..]).ok()?;
    Some(Tid::from_bytes(bytes))
}

impl Going<'_> {
    /// The answer to a load must be what the database was like at a moment between the question and the answer.
    pub fn judge_load(&mut self, client: usize, asked: &Asked, outcome: &Result<Answer, ClientError>) {
        if let Some((broken, why)) = self.is_wrong(client, asked, outcome) {
            self.broken(broken, &format!("{} loads #{}: {why}", NAMES[client], asked.oid.0));
        }
    }

    /// The answer to many loads must be right for each, and all of it of one moment.
    pub fn judge_many(
        &mut self,
        client: usize,
        promise: PromiseId,
        knew: Option<Tid>,
        outcome: Result<Answer, ClientError>,
    ) {
        let found = match outcome {
            Ok(Answer::LoadedMany(found)) => found,
            // It was not connected, or gave up.
            other => {
                let asked = Asked { promise, oid: Oid(0), before: None, knew };
                return self.judge_load(client, &asked, &other);
            }
        };
        for (oid, found) in &found {
            let asked = Asked { promise, oid: *oid, before: None, knew };
            self.judge_load(client, &asked, &Ok(Answer::Loaded(found.clone())));
        }
        let begins = found.iter().flat_map(|(_, found)| found).map(|found| found.tid).max();
        let ends = found.iter().flat_map(|(_, found)| found).filter_map(|found| found.next).min();
        if begins.zip(ends).is_some_and(|(begins, ends)| ends <= begins) {
            self.broken(Broken::NeverWas, &format!("{} loads objects of different moments", NAMES[client]));
        }
    }

    /// A server's answer to a load, as it arrives: the client need not protect itself from what a server never sends.
    pub fn judge_message(&mut self, client: usize, message: &Message) {
        let Value::Tuple(parts) = &message.args else { return };
        let (Some(".reply"), [Value::Bytes(data), since, next]) = (message.name.as_text(), parts.as_slice()) else {
            return;
        };
        let (Some(since), next) = (tid(since), tid(next)) else { return };
        let last = self.state.clients[client].machine.last().unwrap_or_default();
        let history = &*self.state.store.history;
        let wrote = |revision: &&Revision| matches!(&revision.content, Content::Data(there) if there == data);
        let transaction = history.transactions.iter().find(|transaction| transaction.tid == since.0);
        let Some(revision) = transaction.and_then(|transaction| transaction.revisions.iter().find(wrote)) else {
            return self.broken(Broken::Server, "it sends what was never there");
        };
        let ends = truth(history, Oid(revision.oid), since.next()).and_then(|(.., ends)| ends);
        if next.unwrap_or(since).max(since) > last {
            self.broken(Broken::Server, &format!("{} was told up to {}", NAMES[client], last.0));
        } else if next.is_none() && ends.is_some_and(|ends| ends <= last) {
            self.broken(Broken::Server, &format!("{} was told that {} ended", NAMES[client], since.0));
        }
    }

    fn is_wrong(
        &self,
        client: usize,
        asked: &Asked,
        outcome: &Result<Answer, ClientError>,
    ) -> Option<(Broken, String)> {
        let history = &*self.state.store.history;
        let (oid, last) = (asked.oid, self.state.clients[client].machine.last().unwrap_or_default());
        let first = asked.knew.unwrap_or_default().next();
        let first = asked.before.map_or(first, |before| before.min(first));
        match outcome {
            Ok(Answer::Loaded(Some(LoadedAt { data, tid, next }))) => {
                let Some((found, _, there_next)) = truth(history, oid, tid.next()).filter(|found| found.1 == *tid)
                else {
                    return Some((Broken::NeverWas, format!("nothing was written by {}", tid.0)));
                };
                let until = asked.before.unwrap_or(Tid::MAX).min(last.next());
                if found != data {
                    Some((Broken::NeverWas, format!("{} wrote another record", tid.0)))
                } else if *tid > last || *tid >= until {
                    Some((Broken::Future, format!("{} is not before {}", tid.0, until.0)))
                } else if there_next.is_some_and(|next| next < first) {
                    Some((Broken::Old, format!("{} ended before the client asked", tid.0)))
                } else if next.is_some() && *next != there_next {
                    Some((Broken::NeverWas, format!("{} ends otherwise", tid.0)))
                } else if next.is_none() && there_next.is_some_and(|next| next <= last) {
                    Some((Broken::Stale, format!("{} is said to be current", tid.0)))
                } else {
                    None
                }
            }
            Ok(Answer::Loaded(None)) | Err(ClientError::Refused(Fault::NoObject { .. })) => {
                let (_, tid, _) = truth(history, oid, first)?;
                let is_packed = self.state.store.is_packed_away(oid, tid);
                (!is_packed).then(|| (Broken::NeverWas, format!("{} was there", tid.0)))
            }
            Err(ClientError::NotConnected { .. } | ClientError::TimedOut { .. }) => None,
            other => Some((Broken::Refused, format!("{other:?}"))),
        }
    }

    /// Listeners hear of every commit, once and in order.
    pub fn told(&mut self, client: usize, told: &Told) {
        let earlier = self.state.clients[client].told.unwrap_or_default();
        let (tid, oids) = match told {
            Told::Committed { tid, oids, .. } => (*tid, Some(oids)),
            Told::Missed { after, last } => {
                self.seen(Seen::AwayTooLong);
                if *after != earlier {
                    self.broken(Broken::Told, &format!("{} missed what came after {}", NAMES[client], after.0));
                }
                (*last, None)
            }
            Told::Ready { .. } => {
                note!(self, "{:<4} tells: ready", NAMES[client]);
                return;
            }
            Told::Lost { why } => {
                note!(self, "{:<4} tells: no server: {why}", NAMES[client]);
                return;
            }
            Told::Trouble { why } => {
                note!(self, "{:<4} tells: trouble: {why}", NAMES[client]);
                return;
            }
        };
        note!(self, "{:<4} tells: {} changed {oids:?}", NAMES[client], tid.0);
        let new = self.state.store.history.transactions(earlier.0 + 1, tid.0);
        let (mut is_there, mut changed) = (false, BTreeSet::new());
        for transaction in new {
            is_there |= transaction.tid == tid.0;
            changed.extend(transaction.revisions.iter().map(|revision| Oid(revision.oid)));
        }
        let is_right = oids.is_none_or(|oids| oids.iter().copied().collect::<BTreeSet<_>>() == changed);
        if tid <= earlier || !is_there || !is_right {
            self.broken(Broken::Told, &format!("{} is told of {} after {}", NAMES[client], tid.0, earlier.0));
        }
        self.state.clients[client].edit().told = Some(tid);
    }

    /// The rules for states, after a step.
    pub fn look(&mut self) {
        for client in 0..self.state.clients.len() {
            if self.touched[client] {
                self.look_into_cache(client);
            }
        }
        self.look_at_fates();
        let server = &self.state.server.0;
        let store = &self.state.store;
        let is_left = |connection| server.name_of(connection).is_none() && !store.is_at_work_for(connection);
        let left = store.holders().find(|connection| is_left(*connection));
        if let Some(left) = left {
            self.broken(Broken::Lock, &format!("connection {}", left.0));
        }
    }

    /// All that a client would answer without asking its server is true.
    fn look_into_cache(&mut self, client: usize) {
        let here = &self.state.clients[client].machine;
        let Some(last) = here.last() else { return };
        for oid in (0..self.world.situation.objects).map(Oid) {
            let mut probe = here.clone();
            let effects = probe.step(client::Event::Asked { promise: PROBE, ask: Ask::Load { oid, before: None } });
            let Some(client::Effect::Resolve { outcome: Ok(Answer::Loaded(found)), .. }) = effects.into_iter().next()
            else {
                continue;
            };
            let found = found.map(|found| (found.data, found.tid, found.next));
            let right = truth(&self.state.store.history, oid, last.next());
            let is_right = match (&found, right) {
                (Some((data, tid, next)), Some((there, since, until))) => {
                    // The client was not told of later ones.
                    *data == there && *tid == since && next.is_none() && until.is_none_or(|until| until > last)
                }
                (found, right) => found.is_none() && right.is_none(),
            };
            if !is_right {
                let what = format!("{} has {found:?} of #{} in its cache", NAMES[client], oid.0);
                return self.broken(Broken::Stale, &what);
            }
        }
    }

    /// A transaction is there, or it left no trace, as its application was told.
    fn look_at_fates(&mut self) {
        let mut wrong = None;
        for fate in self.state.clients.iter().flat_map(|client| &client.fates) {
            let there = self.state.store.history.transactions.iter().filter(|transaction| {
                transaction
                    .revisions
                    .iter()
                    .any(|there| matches!(&there.content, Content::Data(data) if *data == fate.data))
            });
            let tids: Vec<u64> = there.map(|transaction| transaction.tid).collect();
            let shown = || format!("{:?} is in {tids:?}", String::from_utf8_lossy(&fate.data));
            match fate.end {
                End::Finished(tid) if tids != [tid.0] => wrong = Some((Broken::Lost, shown())),
                End::Gone if !tids.is_empty() => wrong = Some((Broken::Trace, shown())),
                _ if tids.len() > 1 => wrong = Some((Broken::Trace, shown())),
                _ => {}
            }
        }
        if let Some((broken, what)) = wrong {
            self.broken(broken, &what);
        }
    }

    /// The rules for a state in which nothing goes on by itself.
    pub fn look_at_rest(&mut self) {
        let last = Tid(self.state.store.database.last_transaction());
        let is_quiet = self.state.store.is_quiet();
        if !is_quiet {
            return self.broken(Broken::Lock, "the storage keeps something, and nothing goes on");
        }
        if !self.state.server.0.report().calls.is_empty() {
            return self.broken(Broken::Lock, "the server keeps a call, and nothing goes on");
        }
        for (client, name) in NAMES.iter().enumerate().take(self.state.clients.len()) {
            let here = &self.state.clients[client];
            let scripts = self.world.situation.clients[client];
            let is_over = |(n, script): (usize, &&[crate::Step])| {
                here.threads[n].at == script.len() && here.threads[n].stage == Stage::Ready
            };
            let is_done = here.open.is_empty() && scripts.iter().enumerate().all(is_over);
            let knows_all = here.machine.last() == Some(last) && here.told == Some(last) && here.machine.is_ready();
            if !is_done {
                return self.broken(Broken::Waits, name);
            }
            if !knows_all {
                return self.broken(Broken::Behind, name);
            }
        }
    }
}
