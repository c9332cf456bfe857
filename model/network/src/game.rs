//! A game by dice: clients that commit, load and leave, over slow storages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vellum_server::{Config, ConnectionId, Event, Memory};
use vellum_storage::{Change, Oid, Tid, Version};
use vellum_wire::{Call, Codec, Limits, Message, Reach, Value};

use crate::beliefs::{Beliefs, id};
use crate::{Site, TRANSACTION, config};

/// Clients at a time.
const CLIENTS_MAX: usize = 4;
const OBJECTS: u64 = 2;
/// A record that refers to object 1.
const RECORD: &str = "cc\nc\n.U\x08\0\0\0\0\0\0\0\x01Q.";
/// An object that has a blob.
const BLOB: Oid = Oid(OBJECTS);
/// The time for a client that asks for current data.
const NOW: Tid = Tid(i64::MAX as u64);

/// Plays a game in which each byte decides something. At the end all storages are done and all clients are asked: what
/// they believe must be so. Then all leave, and nothing of them may be left.
///
/// # Panics
///
/// The server breaks a promise.
pub fn play(dice: &[u8]) -> String {
    let timeout = dice.first().is_some_and(|first| first % 2 == 1).then_some(Duration::from_secs(5));
    let clients_resolve = dice.first().is_some_and(|first| first % 4 >= 2);
    // Two records are too many, and so are four calls.
    let is_narrow = dice.first().is_some_and(|first| first % 8 >= 4);
    let memory = if is_narrow {
        Memory { transactions: 12, calls: 3, blob: 6, blobs: 12, piece: 3, ..Memory::default() }
    } else {
        Memory::default()
    };
    let site = Site::new(Config { transaction_timeout: timeout, clients_resolve, memory, ..config() });
    let mut game = Game { site, clients: BTreeMap::new(), told: Vec::new(), seconds: 0, heard: BTreeMap::new() };
    game.site.hold(|_| true);
    game.site.unread_pieces = Some(VecDeque::new());
    let mut dice = dice.iter().copied().skip(1);
    while let Some(die) = dice.next() {
        game.turn(die, &mut dice);
    }
    game.end();
    std::mem::take(&mut game.site.transcript)
}

struct Game {
    site: Site,
    clients: BTreeMap<ConnectionId, Client>,
    /// Results and events of the storage that the machine has not heard of. Events stay in their order.
    told: Vec<Event>,
    seconds: u64,
    /// How much of its inbox a client has read.
    heard: BTreeMap<ConnectionId, usize>,
}

struct Client {
    beliefs: Beliefs,
    call_next: i64,
}

impl Drop for Game {
    /// All messages, for a person who looks for the reason of a failure.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.site.transcript);
        }
    }
}

impl Game {
    fn turn(&mut self, die: u8, dice: &mut impl Iterator<Item = u8>) {
        let place = usize::from(die / 16);
        match die % 16 {
            0 => match place % 4 {
                0 => self.leave(place / 4),
                _ => self.join(),
            },
            1 => self.rare(place, dice),
            2 | 3 => self.load(place),
            4 => self.ahead(place),
            5 => self.change(place),
            6 | 7 => {
                self.change(place);
                self.call(place / OBJECTS as usize, Call::Vote { transaction: TRANSACTION });
            }
            8 | 9 => self.call(place / OBJECTS as usize, Call::TpcFinish { transaction: TRANSACTION }),
            // A storage works. The machine hears of its result at once, or later.
            10..=12 => self.work(place),
            13 => self.blobs(place),
            _ => self.arrive(place),
        }
    }

    fn rare(&mut self, place: usize, dice: &mut impl Iterator<Item = u8>) {
        match place % 7 {
            6 => self.versions(place / 7, dice),
            0 => self.call(place / 5, Call::TpcAbort { transaction: TRANSACTION }),
            1 => self.call(place / 5, Call::LastTransaction),
            2 => self.call(place / 5, Call::Vote { transaction: TRANSACTION }),
            3 => {
                self.seconds += 2;
                self.site.pass(self.seconds);
                self.hear();
            }
            4 => {
                if let Some(connection) = self.pick(place / 5) {
                    self.site.leave_unread(connection, u64::from(dice.next().unwrap_or(0)) << 20);
                    self.hear();
                }
            }
            _ => self.junk(place / 5, dice),
        }
    }

    /// A client works in a version.
    fn versions(&mut self, place: usize, dice: &mut impl Iterator<Item = u8>) {
        let Some(connection) = self.pick(place) else { return };
        let die = dice.next().unwrap_or(0);
        let (oid, draft) = (Oid(u64::from(die / 8) % OBJECTS), Version::named("draft"));
        let serial = self.site.storage.load(oid, &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        let (data, transaction) = (RECORD.into(), TRANSACTION);
        match die % 8 {
            0 => self.call_of(connection, Call::Versions),
            1 => self.call_of(connection, Call::ModifiedInVersion { oid }),
            2..=4 => self.call_of(connection, Call::LoadInVersion { oid, version: draft }),
            change => {
                self.site.begin(connection);
                let call = match change {
                    5 => Call::StoreInVersion { oid, serial, data, version: draft, transaction },
                    6 => Call::CommitVersion { from: draft, to: Version::TRUNK, transaction },
                    _ => Call::AbortVersion { from: draft, transaction },
                };
                self.call_of(connection, call);
                if let Some(client) = self.clients.get_mut(&connection) {
                    // The end of a version may change any object.
                    (0..OBJECTS).for_each(|oid| client.beliefs.stores(Oid(oid)));
                }
            }
        }
    }

    /// A client stores a blob, at once or piece by piece; or it fetches one, or reads a piece of one.
    fn blobs(&mut self, place: usize) {
        let Some(connection) = self.pick(place / 8) else { return };
        let newest = self.site.storage.load(BLOB, &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        let chunk = format!("{}.", self.clients[&connection].beliefs.name());
        match place % 8 {
            0 => {
                self.site.begin(connection);
                self.site.start_blob(connection);
            }
            1 | 2 => self.site.chunk(connection, chunk),
            3 => self.site.end_blob(connection, BLOB.0, newest),
            4 | 5 => {
                self.site.begin(connection);
                self.site.store_blob(connection, BLOB.0, newest, &[&chunk, &chunk]);
            }
            6 => self.call(place / 8, Call::SendBlob { oid: BLOB, serial: newest }),
            _ => _ = self.site.read_piece(),
        }
        if let Some(client) = self.clients.get_mut(&connection) {
            client.beliefs.stores(BLOB);
        }
        self.hear();
    }

    fn pick(&self, place: usize) -> Option<ConnectionId> {
        self.clients.keys().copied().nth(place % self.clients.len().max(1))
    }

    fn join(&mut self) {
        if self.clients.len() < CLIENTS_MAX {
            let name = format!("c{}", self.heard.len());
            let connection = self.site.connect(&name);
            self.heard.insert(connection, 0);
            self.clients.insert(connection, Client { beliefs: Beliefs::new(name), call_next: 1 });
            let register = Call::Register { storage: Value::Text("1".to_owned()), read_only: false };
            self.call_of(connection, register);
        }
    }

    fn leave(&mut self, place: usize) {
        if let Some(connection) = self.pick(place) {
            self.clients.remove(&connection);
            self.site.lose(connection);
            self.hear();
        }
    }

    fn load(&mut self, place: usize) {
        let oid = Oid(place as u64 % OBJECTS);
        self.call(place / OBJECTS as usize, Call::LoadBefore { oid, before: NOW });
    }

    /// A client asks for many objects at once, or for what can be reached from one.
    fn ahead(&mut self, place: usize) {
        let oids: Vec<Oid> = (0..=OBJECTS).rev().map(Oid).skip(place / 2 % 3).collect();
        let reach = Reach { depth: 3, count: 1 + place as u32 % 4, bytes: 1000 };
        let call = match place % 2 {
            0 => Call::LoadMany { oids, before: NOW },
            _ => Call::Prefetch { oids: oids[..1].to_vec(), before: NOW, reach },
        };
        self.call(place / 3, call);
    }

    /// Begins a transaction unless there is one, and stores an object over the storage's newest revision.
    fn change(&mut self, place: usize) {
        let Some(connection) = self.pick(place / OBJECTS as usize) else { return };
        let oid = Oid(place as u64 % OBJECTS);
        let serial = self.site.storage.load(oid, &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
        self.site.begin(connection);
        if self.clients.contains_key(&connection) {
            self.site.store(connection, oid.0, serial, RECORD);
            if let Some(client) = self.clients.get_mut(&connection) {
                client.beliefs.stores(oid);
            }
        }
        self.hear();
    }

    fn call(&mut self, place: usize, call: Call) {
        if let Some(connection) = self.pick(place) {
            self.call_of(connection, call);
        }
    }

    fn call_of(&mut self, connection: ConnectionId, call: Call) {
        if let Some(client) = self.clients.get_mut(&connection) {
            client.beliefs.asks(client.call_next, call.clone());
            client.call_next += 1;
            self.site.say(connection, call.into_message(Some(id(client.call_next - 1))));
            self.hear();
        }
    }

    /// Bytes that may be a message.
    fn junk(&mut self, place: usize, dice: &mut impl Iterator<Item = u8>) {
        let Some(connection) = self.pick(place) else { return };
        let length = usize::from(dice.next().unwrap_or(0));
        let bytes: Vec<u8> = dice.take(length).collect();
        let event = match Codec::Msgpack.decode(&bytes.into(), Limits { parts_max: 1000 }) {
            Ok(message) => {
                // The answer is not checked: it belongs to another client.
                let message = Message { id: Value::Text("junk".to_owned()), ..message };
                Event::Received { connection, message }
            }
            Err(error) => Event::Malformed { connection, why: error.to_string() },
        };
        self.site.happen(event);
        self.hear();
    }

    /// A storage does one of the things that it was asked for. The machine hears of it later.
    fn work(&mut self, place: usize) {
        if self.site.held.is_empty() {
            return;
        }
        let done = self.site.work(place % self.site.held.len());
        let told = self.site.take_told();
        self.told.extend(told);
        self.told.push(done);
    }

    /// The machine hears something. A storage's events arrive in order, and the result of a call after the events of
    /// that call.
    fn arrive(&mut self, place: usize) {
        if self.told.is_empty() {
            return;
        }
        let chosen = place % self.told.len();
        let is_told = |event: &Event| matches!(event, Event::Told { .. } | Event::Woken { .. });
        let first_told = self.told.iter().position(is_told);
        let is_finish = |event: &Event| {
            matches!(
                event,
                Event::Done {
                    outcome: vellum_server::Outcome::Finished { .. } | vellum_server::Outcome::Packed { .. },
                    ..
                }
            )
        };
        let chosen = match first_told {
            Some(told) if is_told(&self.told[chosen]) || (is_finish(&self.told[chosen]) && told < chosen) => told,
            _ => chosen,
        };
        let event = self.told.remove(chosen);
        self.site.happen(event);
        self.hear();
    }

    /// Clients read what they were sent.
    fn hear(&mut self) {
        for connection in std::mem::take(&mut self.site.closed) {
            self.clients.remove(&connection);
        }
        for (connection, client) in &mut self.clients {
            let inbox = self.site.inbox.get(connection).map(Vec::as_slice).unwrap_or_default();
            let heard = self.heard.entry(*connection).or_default();
            for message in &inbox[*heard..] {
                if message.id != Value::Text("junk".to_owned()) {
                    client.beliefs.hears(message);
                    for (oid, serial, bytes) in client.beliefs.take_blobs() {
                        let blobs = self.site.storage.blobs().expect("it keeps blobs");
                        let there = blobs.load_blob(oid, serial).and_then(|blob| blob.bytes()).expect("it was sent");
                        assert_eq!(bytes, there, "a client was sent another blob than is there");
                        let names: BTreeSet<_> =
                            bytes.split(|byte| *byte == b'.').filter(|name| !name.is_empty()).collect();
                        assert!(names.len() <= 1, "the blobs of two clients are mixed: {}", bytes.escape_ascii());
                    }
                }
            }
            *heard = inbox.len();
        }
    }

    fn settle(&mut self) {
        while !self.site.held.is_empty() || !self.told.is_empty() || self.site.read_piece() {
            self.work(0);
            self.arrive(0);
            self.hear();
        }
    }

    fn end(&mut self) {
        self.settle();
        self.site.assert_going_on();
        let last = self.site.storage.last_transaction();
        for client in self.clients.values() {
            assert_eq!(client.beliefs.last(), Some(last), "a client was not told of everything");
            for (oid, tid) in client.beliefs.current() {
                let newest = self.site.storage.load_before(*oid, NOW).expect("it was loaded").map(|newest| newest.tid);
                assert_eq!(Some(*tid), newest, "a client believes an old revision of {oid} to be current");
            }
        }
        // Only votes that wait for a transaction that is not finished have no answer.
        for connection in self.clients.keys().copied().collect::<Vec<_>>() {
            self.call_of(connection, Call::TpcAbort { transaction: TRANSACTION });
            self.settle();
            self.site.assert_going_on();
        }
        for connection in std::mem::take(&mut self.clients).into_keys() {
            self.site.lose(connection);
            self.settle();
        }
        self.site.assert_quiet();
        let mut draft = self.site.storage.begin(Default::default()).expect("it can be written");
        for oid in (0..=OBJECTS).map(Oid) {
            let version = self.site.storage.versions().map(|versions| versions.modified_in_version(oid));
            let version = version.and_then(Result::ok).unwrap_or_default();
            let serial = self.site.storage.load(oid, &version).map_or(Tid::ZERO, |loaded| loaded.tid);
            let data = Bytes::from("cccc.N.").into();
            draft.push(Change::Store { oid, serial, version, data }).expect("it can be stored");
        }
        let vote = self.site.storage.try_vote(draft).expect("nothing is wrong with it");
        assert!(matches!(vote, vellum_storage::Vote::Voted(_)), "a lock outlived its client: {vote:?}");
    }
}
