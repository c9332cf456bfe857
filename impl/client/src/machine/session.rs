//! Connections: how a server is found, greeted, registered with, verified, and lost.
//!
//! ```text
//!   dial ─▶ greeting ─▶ register ─▶ getInvalidations, get_info ─▶ ready
//!     └────────┴───────────┴── no: the next address; after the last one a pause, which doubles, and from the start
//! ```
//!
//! A connection that is being made is a **candidate**. When its server has registered it, it becomes the **session**,
//! of which there is one. A session that may only read goes on while candidates look for a server that lets the client
//! write.

use std::collections::BTreeSet;
use std::time::Duration;

use vellum_cache::Changed;
use vellum_storage::{LoadedAt, Oid, Origin, Tid};
use vellum_wire::{Call, Fault, Greeting, Message, Value};

use super::calls::Kind;
use super::{Access, Machine};
use crate::answers;
use crate::error::ClientError;
use crate::event::{ConnectionId, Effect, Told};

/// A connection that is being made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    pub connection: ConnectionId,
    address: usize,
    /// Whether it asks to read only.
    is_read_only: bool,
    has_greeted: bool,
    deadline: Duration,
}

/// The connection that is used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub connection: ConnectionId,
    address: usize,
    pub is_read_only: bool,
    began_at: Duration,
    /// None when it is ready.
    verifying: Option<Verifying>,
    /// When something was heard.
    pub heard_at: Duration,
    /// When it is to be shown that the client lives.
    beats_at: Duration,
    /// When another server is to be looked for that lets the client write.
    upgrades_at: Option<Duration>,
}

/// The things that are found out before a session is ready.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Verifying {
    /// The last transaction that the client knew; none if it knew nothing.
    since: Option<Tid>,
    is_described: bool,
    is_verified: bool,
    /// The last transaction of the server when it registered the client.
    registered_at: Tid,
    /// The last transaction of the server, as far as it has said.
    last: Tid,
    /// The objects that were changed since.
    changed: BTreeSet<Oid>,
    /// Whether more was changed than anybody knows.
    is_unknown: bool,
    /// Whether the server has the database of a cache that was kept over a restart.
    proof: Proof,
}

/// A cache that was kept over a restart may be another database's. The protocol has no name for a database; so the
/// server is asked for some revisions that the cache has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Proof {
    /// Those that are not answered.
    open: usize,
    /// Those that the server has, too.
    equal: usize,
    /// Those in whose place it has something else.
    different: usize,
}

/// A round through the addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Round {
    /// The next address.
    address_next: usize,
    /// The first server that lets the client only read.
    fallback: Option<usize>,
    /// When it begins; none while it goes on, or where there is no need of one.
    begins_at: Option<Duration>,
    /// A server that has fewer transactions than the client knows.
    behind: Option<(Tid, Tid)>,
    /// Rounds without success since something worked.
    failures: u32,
    /// Sessions that ended soon, one after the other, whatever was done in them.
    short: u32,
    /// Those of them that ended with nonsense of their server.
    nonsense: u32,
}

/// So many objects may be invalidated while a session is verified. More, and the whole cache is.
const EARLY_MAX: usize = 100_000;

impl Session {
    pub fn is_ready(&self) -> bool {
        self.verifying.is_none()
    }
}

impl Machine {
    pub(super) fn knows(&self, connection: ConnectionId) -> bool {
        self.session.as_ref().is_some_and(|session| session.connection == connection)
            || self.candidate.as_ref().is_some_and(|candidate| candidate.connection == connection)
    }

    /// Does the things whose time has come.
    pub(super) fn tick_session(&mut self) {
        if self.is_ending {
            return;
        }
        if let Some(candidate) = self.candidate.as_ref().filter(|candidate| candidate.deadline <= self.now) {
            let connection = candidate.connection;
            self.give_up_connection(connection, "the server did not greet in time".to_owned());
        }
        let now = self.now;
        if let Some(session) = &mut self.session {
            let connection = session.connection;
            if session.upgrades_at.is_some_and(|at| at <= now) && session.is_ready() {
                session.upgrades_at = None;
                (self.round.address_next, self.round.behind) = (0, None);
                self.dial_next();
            }
            self.beat(connection);
        } else if self.candidate.is_none() && self.round.begins_at.is_none_or(|at| at <= now) {
            self.round.begins_at = None;
            self.dial_next();
        }
    }

    /// When [`Machine::tick_session`] has something to do.
    pub(super) fn session_wakes_at(&self) -> Option<Duration> {
        if self.is_ending {
            return None;
        }
        let candidate = self.candidate.as_ref().map(|candidate| candidate.deadline);
        let session = match &self.session {
            Some(session) => Some(session.upgrades_at.map_or(session.beats_at, |at| at.min(session.beats_at))),
            None if self.candidate.is_none() => Some(self.round.begins_at.unwrap_or(self.now)),
            None => None,
        };
        candidate.into_iter().chain(session).min()
    }

    fn beat(&mut self, connection: ConnectionId) {
        let (now, every) = (self.now, self.config.heartbeat);
        let Some(session) = self.session.as_mut().filter(|session| session.beats_at <= now) else { return };
        session.beats_at = now.saturating_add(every);
        let is_silent = now.saturating_sub(session.heard_at) >= every && session.is_ready();
        self.put(Effect::Send { connection, message: Message::heartbeat() });
        if is_silent {
            // A server answers no sign of life.
            self.call(connection, Call::Ping, Kind::KeepAlive, self.config.patience.reply);
        }
    }

    /// Whether the client has a server, and looks for a better one.
    fn is_upgrading(&self) -> bool {
        self.session.is_some()
    }

    /// Tries the next address.
    fn dial_next(&mut self) {
        let own = self.session.as_ref().map(|session| session.address);
        if own == Some(self.round.address_next) {
            self.round.address_next += 1;
        }
        let wants_to_write = self.config.access != Access::Read;
        if self.round.address_next < self.config.addresses {
            let address = self.round.address_next;
            self.round.address_next += 1;
            return self.dial(address, !wants_to_write);
        }
        if let Some(session) = &mut self.session {
            session.upgrades_at = Some(self.now.saturating_add(self.config.upgrade_every));
            return;
        }
        match self.round.fallback.take() {
            Some(address) => self.dial(address, true),
            None => self.end_round(),
        }
    }

    fn dial(&mut self, address: usize, is_read_only: bool) {
        let connection = self.next_connection();
        let deadline = self.after(self.config.patience.connect);
        self.candidate = Some(Candidate { connection, address, is_read_only, has_greeted: false, deadline });
        self.put(Effect::Connect { connection, address });
    }

    /// No address was any good.
    fn end_round(&mut self) {
        self.behind = self.round.behind;
        if let Some((server, client)) = self.behind {
            for promise in self.take_waiting() {
                self.resolve(promise, Err(ClientError::ServerBehind { server, client }));
            }
        }
        self.pause();
    }

    /// Begins again after a pause; after the first failure, at once.
    fn pause(&mut self) {
        let Round { failures, short, nonsense, .. } = self.round;
        // Where the network cuts what works, a short pause is enough. This session is among those that are counted.
        let failed = failures.max(nonsense.saturating_sub(1)).max(short.saturating_sub(1).min(1));
        let pause = match failed {
            0 => Duration::ZERO,
            _ => self.config.pause_min.saturating_mul(1 << (failed - 1).min(16)).min(self.config.pause_max),
        };
        self.round = Round { failures: failures.saturating_add(1), short, nonsense, ..Round::default() };
        self.round.begins_at = Some(self.after(pause));
    }

    /// The server does what it is asked: the next pause is short again.
    pub(super) fn works(&mut self) {
        self.round.failures = 0;
    }

    pub(super) fn connected(&mut self, connection: ConnectionId) {
        if !self.knows(connection) {
            self.put(Effect::Close { connection, why: "it came too late".to_owned() });
        }
    }

    pub(super) fn greeted(&mut self, connection: ConnectionId, frame: &[u8]) {
        let candidate = self.candidate.as_mut().filter(|candidate| candidate.connection == connection);
        let Some(candidate) = candidate.filter(|candidate| !candidate.has_greeted) else { return };
        let Some(codec) = Greeting::answer(frame) else {
            let shown = frame[..frame.len().min(Greeting::SHOWN_MAX)].escape_ascii();
            let why = format!("a greeting that is none of ZEO 5: {shown}");
            return self.give_up_connection(connection, why);
        };
        candidate.has_greeted = true;
        let read_only = candidate.is_read_only;
        self.put(Effect::Speak { connection, codec });
        let storage = Value::Text(self.config.storage.clone());
        let patience = self.config.patience.connect;
        self.call(connection, Call::Register { storage, read_only }, Kind::Register, patience);
    }

    pub(super) fn registered(&mut self, connection: ConnectionId, outcome: Result<Value, Fault>) {
        let Some(candidate) = self.candidate.take_if(|candidate| candidate.connection == connection) else { return };
        let refused = |machine: &mut Machine, why: String| {
            machine.drop_connection(connection, &why);
            machine.not_this_one(why);
        };
        let last = match outcome.map(|value| if value == Value::None { Ok(Tid::ZERO) } else { answers::tid(&value) }) {
            Ok(Ok(last)) => last,
            Ok(Err(why)) => return refused(self, format!("register: {why}")),
            Err(Fault::ReadOnly) => {
                if self.config.access == Access::WriteIfPossible && !self.is_upgrading() {
                    self.round.fallback.get_or_insert(candidate.address);
                }
                return refused(self, "the server lets this client only read".to_owned());
            }
            Err(fault) => return refused(self, fault.to_string()),
        };
        if let Some(known) = self.last.or(self.kept).filter(|known| last < *known) {
            self.round.behind = Some((last, known));
            let why = ClientError::ServerBehind { server: last, client: known }.to_string();
            return refused(self, why);
        }
        if let Some(earlier) = &self.session {
            let (earlier, why) = (earlier.connection, "another server lets this client write".to_owned());
            self.put(Effect::Close { connection: earlier, why: why.clone() });
            self.lose_session(why);
        }
        self.begin_session(candidate, last);
    }

    fn begin_session(&mut self, candidate: Candidate, last: Tid) {
        let Candidate { connection, address, is_read_only, .. } = candidate;
        let since = self.last.or(self.kept);
        let samples = if self.kept.is_some() { self.cache.samples() } else { Vec::new() };
        let knows_all = since.is_none_or(|since| since == last);
        self.behind = None;
        self.session = Some(Session {
            connection,
            address,
            is_read_only,
            verifying: Some(Verifying {
                since,
                is_described: false,
                is_verified: knows_all,
                registered_at: last,
                last,
                changed: BTreeSet::new(),
                is_unknown: false,
                proof: Proof { open: samples.len(), ..Proof::default() },
            }),
            began_at: self.now,
            heard_at: self.now,
            beats_at: self.after(self.config.heartbeat),
            upgrades_at: None,
        });
        if let Some(label) = self.config.label.clone() {
            self.say(connection, Call::SetClientLabel { label });
        }
        self.call(connection, Call::GetInfo, Kind::Describe, self.config.patience.reply);
        if let Some(tid) = since.filter(|_| !knows_all) {
            self.call(connection, Call::GetInvalidations { tid }, Kind::Verify, self.config.patience.slow);
        }
        for (oid, kept) in samples {
            let call = Call::LoadBefore { oid, before: kept.tid.next() };
            self.call(connection, call, Kind::Prove { oid, kept }, self.config.patience.reply);
        }
    }

    fn verifying(&mut self) -> Option<&mut Verifying> {
        self.session.as_mut()?.verifying.as_mut()
    }

    pub(super) fn described(&mut self, connection: ConnectionId, outcome: Result<Value, Fault>) {
        let is_read_only = self.session.as_ref().is_some_and(|session| session.is_read_only);
        let info = match outcome {
            Ok(value) => answers::info(value, is_read_only).map_err(str::to_owned),
            Err(fault) => Err(fault.to_string()),
        };
        match info {
            Ok(info) => self.info = Some(info),
            Err(why) => return self.disbelieve(connection, format!("get_info: {why}")),
        }
        if let Some(verifying) = self.verifying() {
            verifying.is_described = true;
        }
        self.become_ready();
    }

    /// The server has said what was changed while it was away.
    pub(super) fn verified(&mut self, connection: ConnectionId, outcome: Result<Value, Fault>) {
        let found = match outcome {
            Ok(Value::None) => Ok(None),
            Ok(Value::Tuple(parts) | Value::List(parts)) => match <[Value; 2]>::try_from(parts) {
                Ok([last, oids]) => answers::tid(&last).and_then(|last| Ok(Some((last, answers::oids(oids)?)))),
                Err(_) => Err("a tuple has another length"),
            },
            Ok(_) => Err("a tid and oids were to come"),
            Err(fault) => return self.disbelieve(connection, format!("getInvalidations: {fault}")),
        };
        let Some(verifying) = self.verifying() else { return };
        match found {
            Ok(None) => verifying.is_unknown = true,
            // Invalidations of later transactions may have come before this answer.
            Ok(Some((last, oids))) if last >= verifying.registered_at => {
                verifying.last = verifying.last.max(last);
                verifying.changed.extend(oids);
            }
            Ok(Some((last, _))) => {
                let why = format!("getInvalidations goes up to {last}, and register up to {}", verifying.registered_at);
                return self.disbelieve(connection, why);
            }
            Err(why) => return self.disbelieve(connection, format!("getInvalidations: {why}")),
        }
        verifying.is_verified = true;
        self.become_ready();
    }

    /// The server was asked for a revision that a kept cache has.
    pub(super) fn proved(
        &mut self,
        connection: ConnectionId,
        oid: Oid,
        kept: &LoadedAt,
        outcome: Result<Value, Fault>,
    ) {
        let found = match outcome.map(|value| answers::loaded(value, kept.tid.next())) {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => return self.disbelieve(connection, format!("load: {why}")),
            // A pack may have discarded it.
            Err(_) => None,
        };
        let Some(Verifying { proof, .. }) = self.verifying() else { return };
        proof.open -= 1;
        match found {
            Some(LoadedAt { tid, data, .. }) if (tid, &data) == (kept.tid, &kept.data) => proof.equal += 1,
            Some(_) => {
                proof.different += 1;
                tracing::debug!(%oid, tid = %kept.tid, "the server has another revision than the cache");
            }
            None => {}
        }
        self.become_ready();
    }

    /// A cache that was kept over a restart is believed if the server has a revision that it has, and no other one in
    /// place of any. Otherwise it is emptied.
    fn believe_kept(&mut self, proof: &Proof, last: Tid) {
        if self.kept.take().is_none() || (proof.equal > 0 && proof.different == 0) {
            return;
        }
        self.cache.clear(last);
        let why = match proof.different {
            0 => {
                "the server has none of the newest revisions in the cache: the cache is too old, or of another database"
            }
            _ => "the server has other revisions than the cache: the cache is of another database",
        };
        self.tell(Told::Trouble { why: format!("{why}. Nothing of it was used, and it was emptied") });
    }

    /// An invalidation came before the session was ready. The cache gets it when the session is ready.
    pub(super) fn noticed_early(&mut self, connection: ConnectionId, tid: Tid, oids: Vec<Oid>) {
        let Some(verifying) = self.verifying() else { return };
        if tid <= verifying.last {
            return self.disbelieve(connection, format!("an invalidation of {tid}, which was known"));
        }
        verifying.last = tid;
        verifying.changed.extend(oids);
        if verifying.changed.len() > EARLY_MAX {
            verifying.changed.clear();
            verifying.is_unknown = true;
        }
    }

    fn become_ready(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(Verifying { since, last, changed, is_unknown, proof, .. }) = session
            .verifying
            .take_if(|verifying| verifying.is_described && verifying.is_verified && verifying.proof.open == 0)
        else {
            return;
        };
        if session.is_read_only && self.config.access == Access::WriteIfPossible {
            session.upgrades_at = Some(self.now.saturating_add(self.config.upgrade_every));
        }
        let ready = Told::Ready { address: session.address, is_read_only: session.is_read_only };
        self.believe_kept(&proof, last);
        // Listeners hear of what came after the last transaction that this process knew.
        let knew = self.last.replace(last);
        let changed: Vec<Oid> = changed.into_iter().collect();
        match since {
            Some(_) if is_unknown => {
                self.cache.verify(Changed::Any, last);
                if let Some(after) = knew {
                    self.tell(Told::Missed { after, last });
                }
            }
            Some(since) => {
                // Even if nothing was changed: the cache may be empty by now, and have been told of nothing.
                self.cache.verify(Changed::Objects(&changed), last);
                if last > since && knew.is_some() {
                    self.tell(Told::Committed { tid: last, oids: changed, origin: Origin::default() });
                }
            }
            None => self.cache.verify(Changed::Any, last),
        }
        if std::mem::take(&mut self.has_forgotten) {
            self.tell(Told::Missed { after: Tid::ZERO, last });
        }
        self.tell(ready);
        self.ask_all();
    }

    /// A connection ended, or was never made.
    pub(super) fn lost(&mut self, connection: ConnectionId, why: String) {
        if self.session.as_ref().is_some_and(|session| session.connection == connection) {
            self.lose_session(why);
            match self.candidate {
                // It was of a search for a better server. Now each address may have the best one.
                Some(_) => (self.round.address_next, self.round.behind) = (0, None),
                None => {
                    self.pause();
                    self.tick_session();
                }
            }
        } else if self.candidate.take_if(|candidate| candidate.connection == connection).is_some() {
            self.take_calls(connection);
            self.not_this_one(why);
        }
    }

    /// A server says what makes no sense.
    pub(super) fn disbelieve(&mut self, connection: ConnectionId, why: String) {
        if self.session.as_ref().is_some_and(|session| session.connection == connection) {
            self.round.nonsense = self.round.nonsense.saturating_add(1);
        }
        self.give_up_connection(connection, format!("the server said something that makes no sense: {why}"));
    }

    /// Closes a connection from this side.
    pub(super) fn give_up_connection(&mut self, connection: ConnectionId, why: String) {
        if self.knows(connection) {
            self.put(Effect::Close { connection, why: why.clone() });
            self.lost(connection, why);
        }
    }

    /// Closes a connection of which the machine keeps nothing else.
    pub(super) fn drop_connection(&mut self, connection: ConnectionId, why: &str) {
        self.take_calls(connection);
        self.put(Effect::Close { connection, why: why.to_owned() });
    }

    /// A candidate was no good.
    fn not_this_one(&mut self, why: String) {
        if why != self.trouble {
            self.tell(Told::Trouble { why: why.clone() });
        }
        self.trouble = why;
        self.dial_next();
    }

    /// Everything that the session has ends with it.
    pub(super) fn lose_session(&mut self, why: String) {
        let Some(session) = self.session.take() else { return };
        match self.now.saturating_sub(session.began_at) < self.config.pause_max {
            true => self.round.short = self.round.short.saturating_add(1),
            false => (self.round.short, self.round.nonsense) = (0, 0),
        }
        if session.is_ready() {
            self.tell(Told::Lost { why: why.clone() });
            self.begins_moved();
        }
        self.trouble.clone_from(&why);
        self.given_up.clear();
        self.lose_transaction(session.connection, &why);
        for (id, pending) in self.take_calls(session.connection) {
            self.lose_call(id, pending.kind, &why);
        }
    }

    /// Drops what is cached, and takes any server.
    pub(super) fn forget(&mut self) {
        (self.behind, self.round.behind) = (None, None);
        self.kept = None;
        if self.session.is_none() {
            self.has_forgotten |= self.last.take().is_some();
            self.round.begins_at = None;
        }
        self.cache.clear(self.last.unwrap_or_default());
        if self.session.is_none() {
            self.tick_session();
        }
    }
}
