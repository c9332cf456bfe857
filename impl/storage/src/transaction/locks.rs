//! The locks of transactions between vote and finish, and the queue of the waiting ones.
//!
//! A transaction asks once, for all objects and versions that it needs, and gets all of them or none: no transaction
//! waits while it holds something, so there is no deadlock. Objects that a transaction only depends on are shared with
//! others that only depend on them. Ending a version takes it exclusively; working in it takes it shared. Otherwise a
//! commit could move an object into a version while it is being ended.
//!
//! A transaction that has to wait may queue, with a [`Waker`] that is called when its turn has come. So a state machine
//! without threads can wait, and a blocked thread is only one kind of waker.
//!
//! ```text
//!   held      1 2        5
//!   queue     #7 {2,3}   #8 {1}   #9 {3}        1 is given back: #8 is woken
//!                                               2 is given back: #7 is woken; #9 waits for #7
//! ```
//!
//! **No transaction starves.** A transaction that comes later may pass a queued one that wants the same, since that one
//! waits for something else too; but only [`PASSED_MAX`] times. Then everything that conflicts with it waits behind it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::Waker;

use vellum_sync::{Mutex, MutexGuard};

use crate::{Oid, Version};

/// How often a queued transaction is passed by later ones that want the same.
pub(super) const PASSED_MAX: u32 = 16;

/// The kind of a transaction's lock on an object or a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// To change the object, or to end the version: no other transaction may hold it.
    Change,
    /// To keep the object as it is, or the version open: others may hold that too.
    Keep,
}

/// All that a transaction wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wants {
    /// Objects.
    pub objects: BTreeMap<Oid, Want>,
    /// Versions; not the trunk, which never ends.
    pub versions: BTreeMap<Version, Want>,
    /// All objects and versions there are, to change them.
    pub everything: bool,
}

impl Wants {
    /// Adds an object. A transaction that changes it also keeps it.
    pub fn object(&mut self, oid: Oid, want: Want) {
        add(&mut self.objects, oid, want);
    }

    /// Adds a version. The trunk never ends, so it is not locked.
    pub fn version(&mut self, version: &Version, want: Want) {
        if !version.is_trunk() {
            add(&mut self.versions, version.clone(), want);
        }
    }

    /// Whether there is everything in it that is in the other.
    pub fn covers(&self, other: &Wants) -> bool {
        fn all<K: Ord>(held: &BTreeMap<K, Want>, wanted: &BTreeMap<K, Want>) -> bool {
            wanted.iter().all(|(key, want)| held.get(key).is_some_and(|have| have == want || *have == Want::Change))
        }
        self.everything
            || (!other.everything && all(&self.objects, &other.objects) && all(&self.versions, &other.versions))
    }
}

fn add<K: Ord>(wants: &mut BTreeMap<K, Want>, key: K, want: Want) {
    let wanted = wants.entry(key).or_insert(want);
    if want == Want::Change {
        *wanted = want;
    }
}

/// Whether two transactions cannot hold what they want at the same time; and one thing that both want.
fn conflict(one: &Wants, other: &Wants) -> Option<Busy> {
    fn shared<'a, K: Ord>(one: &'a BTreeMap<K, Want>, other: &BTreeMap<K, Want>) -> Option<&'a K> {
        let conflicts = |(key, want): &(&K, &Want)| {
            other.get(key).is_some_and(|other| **want == Want::Change || *other == Want::Change)
        };
        one.iter().find(conflicts).map(|(key, _)| key)
    }
    if one.everything || other.everything {
        return Some(Busy::Everything);
    }
    shared(&one.objects, &other.objects)
        .map(|oid| Busy::Object(*oid))
        .or_else(|| shared(&one.versions, &other.versions).map(|version| Busy::Version(version.clone())))
}

/// Something that another transaction holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Busy {
    /// An object.
    Object(Oid),
    /// A version: another transaction ends it, or works in it and is not finished.
    Version(Version),
    /// Everything, or something where everything is wanted.
    Everything,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Busy::Object(oid) => write!(f, "object {oid}"),
            Busy::Version(version) => write!(f, "the version `{version}`"),
            Busy::Everything => f.write_str("everything"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Changer,
    Keepers(usize),
}

#[derive(Debug, Default)]
struct Table {
    objects: HashMap<Oid, Holding>,
    versions: HashMap<Version, Holding>,
    everything: bool,
    /// Those that wait, by their place in the queue.
    queue: BTreeMap<u64, Queued>,
    last_number: u64,
}

/// A transaction that waits.
#[derive(Debug)]
struct Queued {
    wants: Wants,
    waker: Waker,
    /// How often later ones that want the same were let pass.
    passed: u32,
}

impl Table {
    /// The part of this that another transaction holds; none if all of it is free.
    fn blocked(&self, wants: &Wants) -> Option<Busy> {
        if self.everything || (wants.everything && !(self.objects.is_empty() && self.versions.is_empty())) {
            return Some(Busy::Everything);
        }
        blocked(&self.objects, &wants.objects)
            .map(|oid| Busy::Object(*oid))
            .or_else(|| blocked(&self.versions, &wants.versions).map(|version| Busy::Version(version.clone())))
    }

    /// Takes all locks, or returns the one to wait for. `number` is the place in the queue, if there is one.
    fn take(&mut self, wants: &Wants, number: u64) -> Result<(), Busy> {
        if let Some(busy) = self.blocked(wants) {
            return Err(busy);
        }
        let earlier = || self.queue.range(..number).map(|(number, queued)| (*number, queued));
        let mut passed = Vec::new();
        for (number, queued) in earlier() {
            if let Some(busy) = conflict(wants, &queued.wants) {
                if queued.passed >= PASSED_MAX {
                    return Err(busy);
                }
                passed.push(number);
            }
        }
        for number in passed {
            self.queue.entry(number).and_modify(|queued| queued.passed += 1);
        }
        self.queue.remove(&number);
        self.everything = wants.everything;
        take(&mut self.objects, &wants.objects);
        take(&mut self.versions, &wants.versions);
        Ok(())
    }

    fn give_back(&mut self, wants: &Wants) {
        if wants.everything {
            self.everything = false;
        }
        give_back(&mut self.objects, &wants.objects);
        give_back(&mut self.versions, &wants.versions);
    }

    /// The waiters whose turn it is: their locks are free, and no earlier one whose turn it is wants the same.
    fn ready(&self) -> Vec<Waker> {
        let mut ready: Vec<&Queued> = Vec::new();
        for queued in self.queue.values() {
            let waits = ready.iter().any(|earlier| conflict(&queued.wants, &earlier.wants).is_some());
            if !waits && self.blocked(&queued.wants).is_none() {
                ready.push(queued);
            }
        }
        ready.into_iter().map(|queued| queued.waker.clone()).collect()
    }
}

fn blocked<'a, K: Hash + Ord>(held: &HashMap<K, Holding>, wants: &'a BTreeMap<K, Want>) -> Option<&'a K> {
    let is_blocked = |(key, want): &(&K, &Want)| match held.get(key) {
        None => false,
        Some(Holding::Keepers(_)) => **want == Want::Change,
        Some(Holding::Changer) => true,
    };
    wants.iter().find(is_blocked).map(|(key, _)| key)
}

fn take<K: Hash + Ord + Clone>(held: &mut HashMap<K, Holding>, wants: &BTreeMap<K, Want>) {
    for (key, want) in wants {
        match (want, held.get_mut(key)) {
            (Want::Keep, Some(Holding::Keepers(n))) => *n += 1,
            (Want::Keep, _) => drop(held.insert(key.clone(), Holding::Keepers(1))),
            (Want::Change, _) => drop(held.insert(key.clone(), Holding::Changer)),
        }
    }
}

fn give_back<K: Hash + Ord>(held: &mut HashMap<K, Holding>, wants: &BTreeMap<K, Want>) {
    for key in wants.keys() {
        match held.get_mut(key) {
            Some(Holding::Keepers(n)) if *n > 1 => *n -= 1,
            _ => drop(held.remove(key)),
        }
    }
}

/// The table of held locks, and the queue.
#[derive(Debug, Default)]
pub struct ObjectLocks {
    table: Mutex<Table>,
}

impl ObjectLocks {
    /// Takes all locks, or returns the one to wait for. A ticket keeps its place in the queue until it gets
    /// everything.
    ///
    /// # Errors
    ///
    /// The lock that another transaction holds, or has waited for longer.
    pub fn try_take(self: &Arc<Self>, wants: &Wants, ticket: Option<&Ticket>) -> Result<Held, Busy> {
        let number = ticket.map_or(u64::MAX, |ticket| ticket.number);
        let mut table = self.table();
        table.take(wants, number)?;
        // One that was queued behind this one for something that it does not want any more.
        let ready = if ticket.is_some() { table.ready() } else { Vec::new() };
        drop(table);
        ready.into_iter().for_each(Waker::wake);
        Ok(Held { locks: Arc::clone(self), wants: wants.clone() })
    }

    /// Takes everything, waiting until no other transaction holds any of it.
    pub fn take(self: &Arc<Self>, wants: &Wants) -> Held {
        vellum_sync::assert_none_held("the locks of another transaction");
        let mut ticket = None;
        loop {
            match self.try_take(wants, ticket.as_ref()) {
                Ok(held) => return held,
                Err(_) => super::wait(|waker| ticket = Some(self.queue(wants.clone(), waker, ticket.take()))),
            }
        }
    }

    /// Queues for all of this, or stays in the queue. The waker is called when it is worth trying again, at once if it
    /// is now.
    pub fn queue(self: &Arc<Self>, wants: Wants, waker: Waker, ticket: Option<Ticket>) -> Ticket {
        let mut table = self.table();
        let ticket = ticket.unwrap_or_else(|| {
            table.last_number += 1;
            Ticket { number: table.last_number, locks: Arc::clone(self) }
        });
        let passed = table.queue.get(&ticket.number).map_or(0, |queued| queued.passed);
        table.queue.insert(ticket.number, Queued { wants, waker, passed });
        wake_ready(table);
        ticket
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

/// Releases the table, and wakes the waiters whose turn it is.
fn wake_ready(table: MutexGuard<'_, Table>) {
    let ready = table.ready();
    drop(table);
    ready.into_iter().for_each(Waker::wake);
}

/// A place in the queue. Dropping it gives it up.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    locks: Arc<ObjectLocks>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.locks.table();
        if table.queue.remove(&self.number).is_some() {
            wake_ready(table);
        }
    }
}

/// Locks that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    locks: Arc<ObjectLocks>,
    wants: Wants,
}

impl Held {
    /// The locks.
    pub fn wants(&self) -> &Wants {
        &self.wants
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.locks.table();
        table.give_back(&self.wants);
        wake_ready(table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(wants: &[(u64, Want)]) -> Wants {
        let objects = wants.iter().map(|&(oid, want)| (Oid(oid), want)).collect();
        Wants { objects, ..Wants::default() }
    }

    fn version(want: Want) -> Wants {
        Wants { versions: [(Version::named("draft"), want)].into(), ..Wants::default() }
    }

    fn is_empty(locks: &ObjectLocks) -> bool {
        locks.table().objects.is_empty() && locks.table().versions.is_empty()
    }

    #[test]
    fn one_changer_or_many_keepers() {
        let locks = Arc::new(ObjectLocks::default());
        let keep = || objects(&[(1, Want::Keep), (2, Want::Keep)]);
        let one = locks.try_take(&keep(), None).unwrap();
        let two = locks.try_take(&keep(), None).unwrap();
        let busy = |wants: &[(u64, Want)]| locks.try_take(&objects(wants), None).unwrap_err();
        assert_eq!(busy(&[(3, Want::Change), (2, Want::Change)]), Busy::Object(Oid(2)));
        drop(one);
        assert_eq!(busy(&[(2, Want::Change)]), Busy::Object(Oid(2)));
        drop(two);
        let changer = locks.try_take(&objects(&[(2, Want::Change)]), None).unwrap();
        assert_eq!(busy(&[(1, Want::Keep), (2, Want::Keep)]), Busy::Object(Oid(2)));
        let both = objects(&[(1, Want::Change), (3, Want::Change)]);
        assert!(locks.try_take(&both, None).is_ok(), "nothing was half taken");
        drop(changer);
        assert!(is_empty(&locks));
    }

    #[test]
    fn a_version_ends_when_nobody_works_in_it() {
        let locks = Arc::new(ObjectLocks::default());
        let worker = locks.try_take(&version(Want::Keep), None).unwrap();
        let other = locks.try_take(&version(Want::Keep), None).unwrap();
        assert_eq!(locks.try_take(&version(Want::Change), None).unwrap_err(), Busy::Version(Version::named("draft")));
        drop((worker, other));
        let end = locks.try_take(&version(Want::Change), None).unwrap();
        assert!(locks.try_take(&version(Want::Keep), None).is_err());
        assert!(end.wants().covers(&version(Want::Keep)) && !end.wants().covers(&objects(&[(1, Want::Keep)])));
        drop(end);
        assert!(is_empty(&locks));
    }

    #[test]
    fn everything_is_held_alone() {
        let everything = || Wants { everything: true, ..Wants::default() };
        let locks = Arc::new(ObjectLocks::default());
        let one = locks.try_take(&objects(&[(1, Want::Keep)]), None).unwrap();
        assert_eq!(locks.try_take(&everything(), None).unwrap_err(), Busy::Everything);
        drop(one);
        let all = locks.try_take(&everything(), None).unwrap();
        assert!(all.wants().covers(&version(Want::Change)) && !objects(&[(1, Want::Change)]).covers(&everything()));
        for wants in [objects(&[(2, Want::Keep)]), version(Want::Keep), Wants::default(), everything()] {
            assert_eq!(locks.try_take(&wants, None).unwrap_err(), Busy::Everything);
        }
        drop(all);
        assert!(locks.try_take(&everything(), None).is_ok() && locks.try_take(&version(Want::Keep), None).is_ok());
    }

    #[test]
    fn a_waiting_thread_is_woken() {
        let locks = Arc::new(ObjectLocks::default());
        let first = locks.take(&objects(&[(1, Want::Change)]));
        let waiting = std::thread::spawn({
            let locks = Arc::clone(&locks);
            move || drop(locks.take(&objects(&[(1, Want::Change), (2, Want::Keep)])))
        });
        drop(first);
        waiting.join().unwrap();
        assert!(is_empty(&locks) && locks.table().queue.is_empty());
    }

    /// Counts how often it is called.
    #[derive(Default)]
    struct Calls(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    impl Calls {
        fn count(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    fn queue(locks: &Arc<ObjectLocks>, wants: &Wants) -> (Arc<Calls>, Ticket) {
        let calls = Arc::new(Calls::default());
        let ticket = locks.queue(wants.clone(), Arc::clone(&calls).into(), None);
        (calls, ticket)
    }

    #[test]
    fn a_waker_is_called_when_its_turn_has_come_and_not_before() {
        let locks = Arc::new(ObjectLocks::default());
        let (one, two) = (objects(&[(1, Want::Change)]), objects(&[(2, Want::Change)]));
        let both = objects(&[(1, Want::Change), (2, Want::Change)]);
        let held = (locks.take(&one), locks.take(&two));
        let (first, first_ticket) = queue(&locks, &both);
        let (second, second_ticket) = queue(&locks, &one);
        assert_eq!((first.count(), second.count()), (0, 0));
        drop(held.0);
        assert_eq!((first.count(), second.count()), (0, 1), "object 1 is free; the first one still waits for object 2");
        drop(held.1);
        assert_eq!((first.count(), second.count()), (1, 1), "both are free, and the first one has its turn");
        let held = locks.try_take(&both, Some(&first_ticket)).unwrap();
        assert_eq!(locks.try_take(&one, Some(&second_ticket)).unwrap_err(), Busy::Object(Oid(1)));
        drop((held, first_ticket));
        assert_eq!(second.count(), 2);
        drop(locks.try_take(&one, Some(&second_ticket)).unwrap());
        drop(second_ticket);
        assert!(is_empty(&locks) && locks.table().queue.is_empty());
    }

    #[test]
    fn giving_up_a_place_wakes_the_next_one() {
        let locks = Arc::new(ObjectLocks::default());
        let one = objects(&[(1, Want::Change)]);
        let held = locks.take(&one);
        let (first, first_ticket) = queue(&locks, &one);
        let (second, second_ticket) = queue(&locks, &one);
        drop(held);
        assert_eq!((first.count(), second.count()), (1, 0));
        drop(first_ticket);
        assert_eq!(second.count(), 1);
        drop(second_ticket);
    }

    #[test]
    fn a_waker_that_queues_for_what_is_free_is_called_at_once() {
        let locks = Arc::new(ObjectLocks::default());
        let (calls, _ticket) = queue(&locks, &objects(&[(1, Want::Change)]));
        assert_eq!(calls.count(), 1);
    }

    #[test]
    fn a_stream_of_small_transactions_does_not_starve_a_large_one() {
        let locks = Arc::new(ObjectLocks::default());
        let small = [objects(&[(1, Want::Change)]), objects(&[(2, Want::Change)])];
        let mut held = Some(locks.take(&small[0]));
        let (_, ticket) = queue(&locks, &objects(&[(1, Want::Change), (2, Want::Change)]));
        let mut passed = 0;
        // Objects 1 and 2 are never free at the same time, as long as small ones may pass.
        while let Ok(next) = locks.try_take(&small[(passed + 1) % 2], None) {
            held = Some(next);
            passed += 1;
            assert!(passed <= PASSED_MAX as usize, "it is passed for ever");
        }
        assert_eq!(passed, PASSED_MAX as usize);
        drop(held.take());
        let wanted = objects(&[(1, Want::Change), (2, Want::Change)]);
        assert!(locks.try_take(&wanted, Some(&ticket)).is_ok());
    }

    #[test]
    fn everything_is_not_starved_either() {
        let locks = Arc::new(ObjectLocks::default());
        let everything = Wants { everything: true, ..Wants::default() };
        let mut held = vec![locks.take(&objects(&[(0, Want::Keep)]))];
        let (_, ticket) = queue(&locks, &everything);
        for oid in 1.. {
            match locks.try_take(&objects(&[(oid, Want::Change)]), None) {
                Ok(next) => held.push(next),
                Err(busy) => {
                    assert_eq!(busy, Busy::Everything);
                    break;
                }
            }
            assert!(held.len() <= PASSED_MAX as usize + 1);
        }
        held.clear();
        assert!(locks.try_take(&everything, Some(&ticket)).is_ok());
    }
}
