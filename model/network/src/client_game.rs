//! A game by dice of clients of ours: messages, storage answers, cuts and restarts in any order.

use std::collections::{BTreeMap, BTreeSet};

use vellum_cache::Shape;
use vellum_client::{self as client, Answer, Ask, ClientError, PromiseId, Told, TransactionId, Voted};
use vellum_server::{Event, Outcome};
use vellum_storage::{Error, LoadedAt, Oid, Order, Tid, TidRange};
use vellum_wire::{Fault, Reach};

use crate::{Party, Site, config};

const NAMES: [&str; 3] = ["ann", "bob", "cid"];
const OBJECTS: u64 = 2;

/// Plays a game in which each byte decides something. Each answer must be what the database was like at a moment
/// between the question and the answer. At the end everything is delivered: all that was asked is answered, every
/// client knows the last transaction, and its cache has nothing stale.
///
/// # Panics
///
/// A client is wrong.
pub fn play_clients(dice: &[u8]) -> String {
    play(dice, false)
}

/// The same, over the core of `vellum-cache`. Clients are killed, too, and begin again with the cache that they had.
///
/// # Panics
///
/// A client is wrong.
pub fn play_clients_over_core(dice: &[u8]) -> String {
    play(dice, true)
}

fn play(dice: &[u8], is_over_core: bool) -> String {
    let queue_size = if dice.first().is_some_and(|first| first % 2 == 1) { 1 } else { 3 };
    let party = Party::new(move |storage, clock| Site::with_queue(config(), storage, clock, queue_size));
    let mut game = Game {
        party,
        asked: BTreeMap::new(),
        many: BTreeMap::new(),
        open: BTreeMap::new(),
        data_next: 0,
        fates: Vec::new(),
        told: Vec::new(),
        is_over_core,
    };
    game.party.is_prompt = false;
    game.party.site.hold(|_| true);
    for die in dice.iter().skip(1) {
        game.turn(*die);
        game.look();
    }
    game.end();
    std::mem::take(&mut game.party.site.transcript)
}

struct Game {
    party: Party,
    /// Loads, with what the client knew when it was asked.
    asked: BTreeMap<(&'static str, PromiseId), Load>,
    /// Bulk fetches of all objects, with what the client knew.
    many: BTreeMap<(&'static str, PromiseId), Option<Tid>>,
    /// The transaction that each client has open.
    open: BTreeMap<&'static str, Open>,
    data_next: u64,
    /// The fates of the records that were stored.
    fates: Vec<(String, Fate)>,
    /// Events that the storage knows, and the machine of the server does not.
    told: Vec<Event>,
    is_over_core: bool,
}

/// A core that holds some five records, and remembers one change.
const SHAPE: Shape = Shape { segments: 3, segment_bytes: 256, shards: 1, changes: 1 };

fn client_config() -> client::Config {
    client::Config { cache_bytes: 600, hint_size: 1, ..client::Config::default() }
}

struct Load {
    oid: Oid,
    before: Option<Tid>,
    last: Option<Tid>,
}

/// A transaction on its way.
struct Open {
    id: Option<TransactionId>,
    begin: PromiseId,
    data: String,
    oid: u64,
    vote: Option<PromiseId>,
    finish: Option<PromiseId>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Finished(Tid),
    Gone,
    Unknown,
}

impl Drop for Game {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.party.site.transcript);
        }
    }
}

impl Game {
    fn turn(&mut self, die: u8) {
        let place = usize::from(die / 16);
        let name = NAMES[place % NAMES.len()];
        let is_here = self.party.names().iter().any(|here| here == name);
        if !is_here {
            let config = client_config();
            return match self.is_over_core {
                true => self.party.client_over(name, config, client::Cache::core(SHAPE)),
                false => self.party.client(name, config),
            };
        }
        match die % 16 {
            0 => self.rare(name, place / NAMES.len()),
            1 => {
                let before = (place / OBJECTS as usize % 2 == 1).then_some(Tid::MAX);
                self.load(name, place as u64 % OBJECTS, before);
            }
            2 => self.ahead(name, place / NAMES.len()),
            3 => {
                let tids = self.tids();
                let before = tids.get(place % tids.len().max(1)).map(|tid| tid.next());
                self.load(name, place as u64 / 3 % OBJECTS, before);
            }
            4 | 5 => self.transact(name, place as u64 / 3 % OBJECTS),
            // A step of a transaction, without delay at its own client.
            6 => {
                self.transact(name, place as u64 / 3 % OBJECTS);
                self.rush(name);
            }
            7 | 8 => self.work(place),
            9 | 10 => self.party.deliver(name, true),
            11 => {
                self.party.postpone(name);
                self.party.deliver(name, true);
            }
            12 | 13 => self.party.deliver(name, false),
            _ => self.rush(name),
        }
    }

    /// All that is on its way from and to a client arrives, and what the storage is asked for is done.
    fn rush(&mut self, name: &str) {
        for _ in 0..8 {
            while self.party.on_the_way(name).1 > 0 {
                self.party.deliver(name, false);
            }
            self.work(0);
            self.work(1);
            self.look();
        }
        while self.party.on_the_way(name).0 > 0 {
            self.party.deliver(name, true);
            self.look();
        }
    }

    fn rare(&mut self, name: &'static str, place: usize) {
        match place {
            0 | 1 => self.party.cut(name, place * 2),
            2 => {
                self.told.clear();
                self.party.restart(None);
                self.party.site.hold(|_| true);
            }
            3 => self.party.pass(1),
            4 => self.party.pass(11),
            _ if self.is_over_core => self.kill(name),
            _ => _ = self.party.ask(name, Ask::Sync),
        }
    }

    /// A client's process is killed. Nobody waits for its answers any more.
    fn kill(&mut self, name: &'static str) {
        self.party.kill(name, 1, client_config());
        self.asked.retain(|(asked, _), _| *asked != name);
        self.many.retain(|(asked, _), _| *asked != name);
        self.over(name, Fate::Unknown);
    }

    fn tids(&self) -> Vec<Tid> {
        let all = self.party.site.storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
        all.map(|transaction| transaction.unwrap().tid).collect()
    }

    fn load(&mut self, name: &'static str, oid: u64, before: Option<Tid>) {
        let (oid, last) = (Oid(oid), self.party.machine(name).last());
        let promise = self.party.ask(name, Ask::Load { oid, before });
        self.asked.insert((name, promise), Load { oid, before, last });
    }

    /// All objects at once; or what can be reached from one, ahead of its loads.
    fn ahead(&mut self, name: &'static str, place: usize) {
        let oid = Oid(place as u64 % OBJECTS);
        match place / OBJECTS as usize {
            0 => {
                let (oids, last) = ((0..OBJECTS).map(Oid).collect(), self.party.machine(name).last());
                let promise = self.party.ask(name, Ask::LoadMany { oids, before: None });
                self.many.insert((name, promise), last);
            }
            depth => {
                let reach = Reach { depth: depth as u32 - 1, count: 9, bytes: 900 };
                _ = self.party.ask(name, Ask::Prefetch { oids: vec![oid], before: None, reach });
            }
        }
    }

    /// The next step of a client's transaction.
    fn transact(&mut self, name: &'static str, oid: u64) {
        let Some(open) = self.open.get(name) else {
            let meta = vellum_storage::TransactionMeta::new();
            let begin = self.party.ask(name, Ask::Begin { meta, origin: vellum_storage::Origin(1) });
            self.data_next += 1;
            let data = format!("cdata\n{}\n.U\x08\0\0\0\0\0\0\0{}Q.", self.data_next, char::from(1 - oid as u8));
            self.open.insert(name, Open { id: None, begin, data, oid, vote: None, finish: None });
            return;
        };
        match open {
            Open { id: Some(transaction), vote: None, data, oid, .. } => {
                let (transaction, data, oid) = (*transaction, data.clone(), *oid);
                let newest = self.party.site.storage.load(Oid(oid), &vellum_storage::Version::TRUNK);
                let serial = newest.map_or(Tid::ZERO, |loaded| loaded.tid);
                self.party.store(name, transaction, oid, serial, &data);
                let vote = self.party.ask(name, Ask::Vote { transaction });
                if let Some(open) = self.open.get_mut(name) {
                    open.vote = Some(vote);
                }
            }
            Open { id: Some(transaction), vote: Some(vote), finish: None, .. } => {
                let (transaction, vote) = (*transaction, *vote);
                match self.party.answer(name, vote) {
                    Some(Ok(Answer::Voted(Voted::Ready(_)))) => {
                        let finish = self.party.ask(name, Ask::Finish { transaction });
                        if let Some(open) = self.open.get_mut(name) {
                            open.finish = Some(finish);
                        }
                    }
                    _ => {
                        self.party.ask(name, Ask::Abort { transaction });
                        self.over(name, Fate::Gone);
                    }
                }
            }
            _ => {}
        }
    }

    fn over(&mut self, name: &'static str, fate: Fate) {
        if let Some(open) = self.open.remove(name) {
            self.fates.push((open.data, fate));
        }
    }

    /// Looks at all that was answered.
    fn look(&mut self) {
        for name in NAMES {
            if !self.party.names().iter().any(|here| here == name) {
                continue;
            }
            for (promise, last) in self.party.take_fresh(name) {
                let answer = self.party.answer(name, promise).expect("it is fresh").clone();
                if let Some(load) = self.asked.remove(&(name, promise)) {
                    self.judge(name, &load, last, answer);
                } else if let Some(knew) = self.many.remove(&(name, promise)) {
                    self.judge_many(name, knew, last, answer);
                } else if let Some(open) = self.open.get_mut(name) {
                    match answer {
                        Ok(Answer::Begun(id)) if open.begin == promise => open.id = Some(id),
                        Ok(Answer::Tid(tid)) if open.finish == Some(promise) => self.over(name, Fate::Finished(tid)),
                        Err(ClientError::OutcomeUnknown { .. }) if open.finish == Some(promise) => {
                            self.over(name, Fate::Unknown);
                        }
                        Err(_) if [Some(open.begin), open.vote, open.finish].contains(&Some(promise)) => {
                            self.over(name, Fate::Gone);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn judge(&self, name: &str, load: &Load, last: Option<Tid>, answer: Result<Answer, ClientError>) {
        let storage = &self.party.site.storage;
        // The first moment at which the answer may be right.
        let first = load.last.unwrap_or(Tid::ZERO).next();
        let first = load.before.map_or(first, |before| before.min(first));
        let truth = |before| match storage.load_before(load.oid, before) {
            Ok(found) => found,
            Err(Error::KeyError { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        match answer {
            Ok(Answer::Loaded(Some(LoadedAt { data, tid, next }))) => {
                let last = last.expect("a client that loads has registered");
                let there = truth(tid.next()).expect("it was loaded");
                assert_eq!((&there.data, there.tid), (&data, tid), "{name}: {} was never like that", load.oid);
                assert!(tid <= last, "{name}: {tid} is not known, and was loaded");
                let until = load.before.unwrap_or(Tid::MAX).min(last.next());
                assert!(tid < until, "{name}: {tid} is not before {until}");
                let is_old = there.next.is_some_and(|next| next < first);
                assert!(!is_old, "{name}: {tid} of {} is older than what it knew", load.oid);
                match next {
                    Some(next) => {
                        assert_eq!(Some(next), there.next, "{name}: {tid} of {} ends", load.oid);
                        let is_an_answer = load.before.is_none_or(|before| before <= next);
                        assert!(is_an_answer, "{name}: {tid} of {} ends before the moment asked for", load.oid);
                    }
                    // It was current at a moment since the load began, or it is old.
                    None if load.before.is_some_and(|before| before > first) => {}
                    None => {
                        let is_stale = there.next.is_some_and(|next| next <= last);
                        assert!(!is_stale, "{name}: {tid} of {} is said to be current", load.oid);
                    }
                }
            }
            Ok(Answer::Loaded(None)) | Err(ClientError::Refused(Fault::NoObject { .. })) => {
                assert_eq!(truth(first), None, "{name}: {} was there", load.oid);
            }
            Err(ClientError::NotConnected { .. } | ClientError::TimedOut { .. }) => {}
            other => panic!("{name}: a load of {} returns {other:?}", load.oid),
        }
    }

    /// All belong to one moment, which the client knew.
    fn judge_many(&self, name: &str, knew: Option<Tid>, last: Option<Tid>, answer: Result<Answer, ClientError>) {
        let found = match answer {
            Ok(Answer::LoadedMany(found)) => found,
            Err(ClientError::NotConnected { .. } | ClientError::TimedOut { .. }) => return,
            other => panic!("{name}: a bulk fetch returns {other:?}"),
        };
        assert_eq!(found.iter().map(|(oid, _)| oid.0).collect::<Vec<_>>(), (0..OBJECTS).collect::<Vec<_>>());
        for (oid, revision) in &found {
            let load = Load { oid: *oid, before: None, last: knew };
            self.judge(name, &load, last, Ok(Answer::Loaded(revision.clone())));
        }
        let then = |before: Tid| {
            let then = |oid: Oid| self.party.site.storage.load_before(oid, before).ok().flatten();
            (0..OBJECTS).map(|oid| then(Oid(oid)).map(|there| (there.data, there.tid))).collect::<Vec<_>>()
        };
        let found: Vec<_> = found.into_iter().map(|(_, found)| found.map(|found| (found.data, found.tid))).collect();
        let is_possible = |tid: &Tid| Some(*tid) >= knew && Some(*tid) <= last && then(tid.next()) == found;
        let moments = std::iter::once(Tid::ZERO).chain(self.tids());
        assert!(moments.into_iter().any(|tid| is_possible(&tid)), "{name}: the database was never like {found:?}");
    }

    /// A storage does one of the things that it was asked for, or the server hears of one. A storage's events arrive in
    /// order; an answer to a load may overtake them.
    fn work(&mut self, place: usize) {
        let site = &mut self.party.site;
        if !site.held.is_empty() && (self.told.is_empty() || place.is_multiple_of(2)) {
            let done = site.work(place % site.held.len());
            let told = site.take_told();
            self.told.extend(told);
            self.told.push(done);
        } else if !self.told.is_empty() {
            let chosen = place % self.told.len();
            let may_overtake = matches!(self.told[chosen], Event::Done { outcome: Outcome::Loaded(_), .. });
            let event = self.told.remove(if may_overtake { chosen } else { 0 });
            site.happen(event);
        }
        self.party.deliver_all();
    }

    fn settle(&mut self) {
        loop {
            let names = self.party.names();
            let way = names.iter().find(|name| self.party.on_the_way(name) != (0, 0)).cloned();
            if let Some(name) = way {
                self.party.deliver(&name, false);
                self.party.deliver(&name, true);
            } else if self.told.is_empty() && self.party.site.held.is_empty() {
                return self.look();
            } else {
                self.work(1);
            }
            self.look();
        }
    }

    fn end(&mut self) {
        self.settle();
        // Transactions that are open hold locks, and votes wait for those.
        for name in NAMES {
            if let Some(Open { id: Some(transaction), finish: None, .. }) = self.open.get(name) {
                let transaction = *transaction;
                self.party.ask(name, Ask::Abort { transaction });
                self.over(name, Fate::Gone);
            }
            self.settle();
        }
        for _ in 0..8 {
            self.party.pass(60);
            self.settle();
        }
        for name in self.party.names() {
            let name = NAMES.into_iter().find(|known| *known == name).expect("it has a name");
            self.party.ask(name, Ask::Connected);
            self.settle();
            let machine = self.party.machine(name);
            assert!(machine.is_ready(), "{name} has no server");
            assert_eq!(machine.last(), Some(self.party.site.storage.last_transaction()), "{name} was not told of all");
            for oid in 0..OBJECTS {
                // From the cache, where it is there.
                self.load(name, oid, None);
                self.settle();
            }
            assert!(self.party.machine(name).is_quiet(), "something that was asked of {name} has no answer");
            self.look_at_told(name);
            assert!(self.party.machine(name).cached() <= 768);
        }
        assert!(self.asked.is_empty() && self.many.is_empty(), "loads have no answer");
        self.look_at_fates();
    }

    /// Listeners were told of every change, in order.
    fn look_at_told(&self, name: &str) {
        let mut last = None;
        let mut changed = BTreeSet::new();
        let mut missed = Vec::new();
        for told in self.party.told(name) {
            match told {
                Told::Committed { tid, oids, .. } => {
                    assert!(Some(*tid) > last, "{name} is told of {tid} after {last:?}");
                    last = Some(*tid);
                    changed.extend(oids.iter().map(|oid| (*oid, *tid)));
                }
                Told::Missed { after, last: to } => {
                    missed.push((*after, *to));
                    last = Some(*to);
                }
                Told::Ready { .. } | Told::Lost { .. } | Told::Trouble { .. } => {}
            }
        }
        let Some(first) = self.party.told(name).iter().find_map(|told| match told {
            Told::Committed { tid, .. } => Some(*tid),
            Told::Missed { after, .. } => Some(*after),
            _ => None,
        }) else {
            return;
        };
        for transaction in self.party.site.storage.transactions(TidRange::from(first), Order::OldestFirst).unwrap() {
            let transaction = transaction.unwrap();
            let is_missed = missed.iter().any(|(after, to)| *after <= transaction.tid && transaction.tid <= *to);
            for revision in &transaction.revisions {
                let is_told =
                    changed.range((revision.oid, transaction.tid)..=(revision.oid, Tid::MAX)).next().is_some();
                assert!(is_told || is_missed, "{name} was not told that {} changed {}", transaction.tid, revision.oid);
            }
        }
    }

    fn look_at_fates(&self) {
        let mut there = BTreeMap::new();
        for transaction in self.party.site.storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap() {
            let transaction = transaction.unwrap();
            for data in transaction.revisions.into_iter().filter_map(|revision| revision.data) {
                let earlier = there.insert(String::from_utf8_lossy(&data).into_owned(), transaction.tid);
                assert_eq!(earlier, None, "a transaction was finished twice");
            }
        }
        for (data, fate) in &self.fates {
            match fate {
                Fate::Finished(tid) => assert_eq!(there.get(data), Some(tid), "a finished transaction is not there"),
                Fate::Gone => assert_eq!(there.get(data), None, "a transaction that was given up is there"),
                Fate::Unknown => {}
            }
        }
    }
}
