//! Clients: dice for a game with an honest server (see `vellum_network::play_clients`), or for a server that says
//! anything.
//!
//! Such a server greets, registers and answers: with values of the right shape and any content, with values of no
//! shape, with frames of the fuzzer's bytes, twice, late and unasked. The client must answer each question once, and
//! all of them at the end; go forwards in time; and keep no more than it may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use vellum_client::{
    Answer, Ask, BlobPart, Config, ConnectionId, Effect, Event, Machine, PromiseId, Reach, Told, TransactionId,
};
use vellum_pickle::Value;
use vellum_storage::{Change, LoadedAt, Oid, Origin, Tid, TidRange, TransactionMeta, Version};
use vellum_wire::{Ahead, Codec, Limits, Message, Notice};

/// Plays one of the two games.
pub fn client(input: &[u8]) {
    match input.split_first() {
        Some((die, dice)) if die % 2 == 0 => drop(vellum_network::play_clients(dice)),
        Some((_, dice)) => Liar::new(dice).play(),
        None => {}
    }
}

const CACHE_BYTES: u64 = 2000;

struct Liar<'a> {
    dice: std::slice::Iter<'a, u8>,
    machine: Machine,
    now: Duration,
    line: Option<ConnectionId>,
    /// Calls that were made, by id; those that were answered stay.
    calls: Vec<(i64, String)>,
    open: BTreeMap<PromiseId, Ask>,
    answered: BTreeSet<PromiseId>,
    promise_next: u64,
    transaction: TransactionId,
    last: Option<Tid>,
}

impl<'a> Liar<'a> {
    fn new(dice: &'a [u8]) -> Liar<'a> {
        let config = Config {
            cache_bytes: CACHE_BYTES,
            hint_size: 2,
            versions: dice.first().is_some_and(|first| first % 2 == 1),
            label: Some("a victim".to_owned()),
            ..Config::default()
        };
        Liar {
            dice: dice.iter(),
            machine: Machine::new(config),
            now: Duration::ZERO,
            line: None,
            calls: Vec::new(),
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            promise_next: 1,
            transaction: TransactionId(0),
            last: None,
        }
    }

    fn die(&mut self) -> u8 {
        self.dice.next().copied().unwrap_or(0)
    }

    fn play(mut self) {
        self.happen(Event::Tick { now: Duration::ZERO });
        while self.dice.len() > 0 {
            self.turn();
        }
        self.happen(Event::End);
        assert!(self.open.is_empty(), "questions without an answer: {:?}", self.open);
        assert!(self.machine.is_quiet());
    }

    fn turn(&mut self) {
        let die = self.die();
        let line = self.line;
        match (die % 16, line) {
            (0, Some(connection)) => {
                let greetings = [&b"M5"[..], b"Z5", b"Z4", b"", b"HTTP/1.1 400"];
                let frame = Bytes::from_static(greetings[usize::from(die / 16) % greetings.len()]);
                self.happen(Event::Greeted { connection, frame });
            }
            (1, _) => {
                let (one, two) = (self.die(), self.die());
                self.now += Duration::from_millis(u64::from(one) * u64::from(two));
                self.happen(Event::Tick { now: self.now });
            }
            (2, Some(connection)) => self.happen(Event::Lost { connection, why: "it was cut".to_owned() }),
            (3, Some(connection)) => {
                let length = usize::from(self.die());
                let frame: Vec<u8> = self.dice.by_ref().take(length).copied().collect();
                let codec = if die >= 128 { Codec::Pickle } else { Codec::Msgpack };
                self.happen(match codec.decode(&frame.into(), Limits { parts_max: 1000 }) {
                    Ok(message) => Event::Received { connection, message },
                    Err(error) => Event::Malformed { connection, why: error.to_string() },
                });
            }
            (4..=8, Some(connection)) => {
                // The last call, mostly; or any, which may have its answer already.
                let back = usize::from(die / 16).saturating_sub(8);
                let Some((id, name)) = self.calls.iter().rev().nth(back).cloned() else { return };
                let answer = self.answer(&name);
                self.happen(Event::Received { connection, message: Message::reply(Value::Int(id), answer) });
            }
            (9, Some(connection)) => {
                let back = usize::from(die / 16);
                let Some((id, _)) = self.calls.iter().rev().nth(back).cloned() else { return };
                let value = self.value(3);
                let message = match back % 2 {
                    0 => Message::reply(Value::Int(id), value),
                    _ => Message::error(Value::Int(id), value),
                };
                self.happen(Event::Received { connection, message });
            }
            (10, Some(connection)) if die >= 128 => {
                let message = self.unasked(die);
                self.happen(Event::Received { connection, message });
            }
            (10, Some(connection)) => {
                let (tid, oids) = (Tid(self.die().into()), vec![Oid(u64::from(die) / 64), Oid(self.die().into())]);
                let message = Notice::Invalidate { tid, oids }.into_message();
                self.happen(Event::Received { connection, message });
            }
            _ => self.ask(die / 16),
        }
    }

    /// A revision that comes ahead of its load, or a part of a blob; perhaps of a call that was made.
    fn unasked(&mut self, die: u8) -> Message {
        let back = usize::from(die / 32 % 4);
        let call = self.calls.iter().rev().nth(back).map_or(0, |(id, _)| *id);
        let (oid, serial) = (Oid(u64::from(self.die()) / 64), Tid(self.die().into()));
        let chunk: Bytes = vec![5; usize::from(self.die() / 2)].into();
        let next = (serial.0 % 3 == 0).then_some(Tid(200));
        let revision = LoadedAt { data: chunk.clone(), tid: serial, next };
        match die % 64 / 16 {
            0 => Notice::Prefetched { call, revisions: vec![Ahead { oid, revision }] },
            1 => Notice::ReceiveBlobStart { oid, serial },
            2 => Notice::ReceiveBlobChunk { oid, serial, chunk },
            _ => Notice::ReceiveBlobStop { oid, serial },
        }
        .into_message()
    }

    /// An answer of the right shape.
    fn answer(&mut self, name: &str) -> Value {
        let eight = |number: u8| Value::Bytes(Bytes::copy_from_slice(&u64::from(number).to_be_bytes()));
        let (one, two) = (self.die(), self.die());
        match name {
            "register" | "tpc_finish" | "lastTransaction" => eight(one),
            "get_info" => {
                let offered = ["loadMany", "prefetch", "versions", "more"].map(|name| Value::Text(name.into()));
                Value::Dict(vec![
                    (Value::Text("supportsUndo".into()), Value::Bool(one > 100)),
                    (Value::Text("vellum".into()), Value::Tuple(offered[usize::from(one % 4)..].to_vec())),
                ])
            }
            "vellum.loadMany" => {
                let revision = Value::Tuple(vec![Value::Bytes("a".into()), eight(one), Value::None]);
                let found = [Value::None, Value::Bool(false), revision, Value::Int(1)];
                Value::List(found[usize::from(one % 3)..usize::from(one % 3 + two % 2 + 1)].to_vec())
            }
            "vellum.prefetch" => Value::Int(two.into()),
            "vellum.loadInVersion" => Value::Tuple(vec![Value::Bytes("a".into()), eight(one)]),
            "vellum.versions" => Value::List(vec![Value::Bytes("draft".into())]),
            "vellum.modifiedInVersion" => Value::Bytes(vec![65; usize::from(one % 3)].into()),
            "vellum.nextInVersion" => Value::Tuple(vec![
                eight(one),
                eight(two),
                Value::None,
                Value::None,
                Value::Bytes("a".into()),
                eight(one),
            ]),
            "getInvalidations" if one > 200 => Value::None,
            "getInvalidations" => Value::Tuple(vec![eight(one), Value::List(vec![eight(two)])]),
            "loadBefore" if one > 240 => Value::None,
            "loadBefore" => {
                let next = if two < 128 { Value::None } else { eight(two) };
                let data = vec![7; usize::from(self.die()) * 4];
                Value::Tuple(vec![Value::Bytes(data.into()), eight(one), next])
            }
            "loadSerial" => Value::Bytes(vec![1; usize::from(one)].into()),
            "vote" | "new_oids" => Value::List(vec![eight(one), eight(two)][..usize::from(one % 3)].to_vec()),
            "iterator_start" | "iterator_record_start" => Value::Int(one.into()),
            "iterator_next" => {
                let text = |text: &str| Value::Text(text.to_owned());
                Value::Tuple(vec![eight(one), text(" "), text("ann"), text(""), Value::Dict(vec![])])
            }
            "iterator_record_next" => Value::Tuple(vec![eight(one), eight(two), Value::None, Value::None]),
            "record_iternext" => Value::Tuple(vec![eight(one), eight(two), Value::Bytes("a".into()), eight(two)]),
            _ => Value::None,
        }
    }

    /// Any value.
    fn value(&mut self, depth: u8) -> Value {
        let die = self.die();
        let number = i64::from(self.die());
        match die % 9 {
            0 => Value::None,
            1 => Value::Bool(number > 100),
            2 => Value::Int(number - 50),
            3 => Value::Bytes(Bytes::copy_from_slice(&number.to_be_bytes())),
            4 => Value::Bytes(vec![1; number as usize].into()),
            5 => Value::Text(
                ["ZODB.POSException.POSKeyError", "ZODB.POSException.ConflictError", "oid", "serials"]
                    [number as usize % 4]
                    .into(),
            ),
            _ if depth == 0 => Value::Float(number as f64),
            6 => Value::Tuple((0..number % 5).map(|_| self.value(depth - 1)).collect()),
            7 => Value::List((0..number % 5).map(|_| self.value(depth - 1)).collect()),
            _ => Value::Dict((0..number % 4).map(|_| (self.value(0), self.value(depth - 1))).collect()),
        }
    }

    fn ask(&mut self, kind: u8) {
        let (oid, die) = (Oid(u64::from(self.die()) / 64), self.die());
        let (tid, transaction) = (Tid(die.into()), self.transaction);
        let connection = self.line.unwrap_or(ConnectionId(0));
        let iterator = vellum_client::IteratorId { connection, number: die.into() };
        let ask = match kind {
            0 | 1 => Ask::Load { oid, before: None },
            2 => Ask::Load { oid, before: Some(tid) },
            3 => Ask::Begin { meta: TransactionMeta::new(), origin: Origin(1) },
            4 | 5 => {
                let data = Bytes::from(vec![1; usize::from(die) + 1]);
                let version = if die == 7 { Version::named("draft") } else { Version::TRUNK };
                Ask::Change { transaction, change: Change::Store { oid, serial: tid, version, data: data.into() } }
            }
            6 => Ask::Vote { transaction },
            7 => Ask::Finish { transaction },
            8 => Ask::Abort { transaction },
            9 => match die % 6 {
                0 | 1 => Ask::LoadMany { oids: (0..u64::from(die / 64) + 1).map(Oid).collect(), before: None },
                2 | 3 => {
                    let reach = Reach { depth: u32::from(die / 128), count: 9, bytes: 900 };
                    Ask::Prefetch { oids: vec![oid], before: (die > 200).then_some(tid), reach }
                }
                4 => Ask::LoadBlob { oid, tid },
                _ => {
                    let data = Bytes::from_static(b"a blob");
                    let parts =
                        [BlobPart::Start, BlobPart::Chunk(data.clone()), BlobPart::End { oid, serial: tid, data }];
                    Ask::Blob { transaction, part: parts[usize::from(die / 64 % 3)].clone() }
                }
            },
            10 => match die % 12 {
                8 => Ask::Sync,
                9 => Ask::LoadInVersion { oid, version: Version::named("draft") },
                10 => Ask::ModifiedInVersion { oid },
                11 => Ask::Versions,
                0 => Ask::Forget,
                1 => Ask::Info,
                2 => Ask::Pack { to: tid },
                3 => Ask::Connected,
                _ => Ask::NewOids { count: die.into() },
            },
            11 => Ask::History { oid, limit: die.into() },
            12 => Ask::UndoLog { first: 0, last: die.into() },
            13 => Ask::CurrentRecord { first: oid },
            14 => match die % 4 {
                0 => Ask::Iterate { range: TidRange::ALL },
                1 => Ask::NextTransaction { iterator },
                2 => Ask::Revisions { iterator, tid },
                _ => Ask::NextRevision { iterator },
            },
            _ => Ask::LoadSerial { oid, tid },
        };
        if ask == Ask::Forget {
            self.last = None;
        }
        let promise = PromiseId(self.promise_next);
        self.promise_next += 1;
        self.open.insert(promise, ask.clone());
        self.happen(Event::Asked { promise, ask });
    }

    fn happen(&mut self, event: Event) {
        for effect in self.machine.step(event) {
            match effect {
                Effect::Connect { connection, .. } => self.line = Some(connection),
                Effect::Send { message, .. } => {
                    if let (Value::Int(id @ 1..), Some(name)) = (&message.id, message.name.as_text()) {
                        self.calls.push((*id, name.to_owned()));
                    }
                }
                Effect::Close { connection, .. } => _ = self.line.take_if(|line| *line == connection),
                Effect::Resolve { promise, outcome } => {
                    assert!(self.answered.insert(promise), "it is answered twice");
                    let ask = self.open.remove(&promise).expect("it was asked");
                    self.judge(&ask, outcome.ok());
                }
                Effect::Tell(Told::Committed { tid, .. }) => {
                    assert!(Some(tid) > self.last, "told of {tid} after {:?}", self.last);
                    self.last = Some(tid);
                }
                Effect::Blob { promise, .. } => {
                    let is_asked = matches!(self.open.get(&promise), Some(Ask::LoadBlob { .. }));
                    assert!(is_asked, "a piece of a blob that nobody asked for");
                }
                Effect::Tell(_) | Effect::Speak { .. } | Effect::WakeAt { .. } => {}
            }
        }
        assert!(self.machine.cached() <= CACHE_BYTES);
    }

    fn judge(&mut self, ask: &Ask, answer: Option<Answer>) {
        match (ask, answer) {
            (Ask::Begin { .. }, Some(Answer::Begun(id))) => self.transaction = id,
            (Ask::LoadMany { oids, .. }, Some(Answer::LoadedMany(found))) => {
                assert_eq!(found.iter().map(|(oid, _)| *oid).collect::<Vec<_>>(), *oids);
                assert!(found.iter().flat_map(|(_, found)| found).all(|found| !found.data.is_empty()));
            }
            (Ask::Load { before, .. }, Some(Answer::Loaded(Some(LoadedAt { data, tid, next })))) => {
                assert!(!data.is_empty() && tid < before.unwrap_or(Tid::MAX) && next.is_none_or(|next| next > tid));
            }
            _ => {}
        }
    }
}
