//! What transactions hold between their vote and their finish: objects, and versions.
//!
//! A transaction asks once, for all that it needs, and gets all of it or nothing: nobody waits while holding something, so
//! there is no deadlock. Objects that it only depends on are shared with others that only depend on them. A version is
//! held by whoever ends it, and shared by those who work in it: otherwise the end of a version could miss an object that
//! came into it at the same moment.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::{Oid, Version};

/// What a transaction wants with an object or a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To change the object, or to end the version: nobody else may hold it.
    Change,
    /// That the object stays as it is, or that the version goes on: others may want that too.
    Keep,
}

/// All that a transaction wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Objects.
    pub objects: BTreeMap<Oid, Want>,
    /// Versions; not the trunk, which never ends.
    pub versions: BTreeMap<Version, Want>,
    /// All objects and versions there are, to change them.
    pub everything: bool,
}

impl Wants {
    /// Whether there is everything in it that is in the other.
    pub fn covers(&self, other: &Wants) -> bool {
        fn all<K: Ord>(held: &BTreeMap<K, Want>, wanted: &BTreeMap<K, Want>) -> bool {
            wanted.iter().all(|(key, want)| held.get(key).is_some_and(|have| have == want || *have == Want::Change))
        }
        self.everything
            || (!other.everything && all(&self.objects, &other.objects) && all(&self.versions, &other.versions))
    }
}

/// Something that another transaction holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// An object.
    Object(Oid),
    /// A version: somebody ends it, or somebody who works in it is not finished.
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
}

impl Table {
    /// Takes everything, or says what somebody else holds.
    fn take(&mut self, wants: &Wants) -> Result<(), Busy> {
        if self.everything || (wants.everything && !(self.objects.is_empty() && self.versions.is_empty())) {
            return Err(Busy::Everything);
        }
        if let Some(oid) = blocked(&self.objects, &wants.objects) {
            return Err(Busy::Object(*oid));
        }
        if let Some(version) = blocked(&self.versions, &wants.versions) {
            return Err(Busy::Version(version.clone()));
        }
        self.everything = wants.everything;
        take(&mut self.objects, &wants.objects);
        take(&mut self.versions, &wants.versions);
        Ok(())
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

/// The table of what is held.
#[derive(Debug, Default)]
pub struct ObjectLocks {
    held: Mutex<Table>,
    given_back: Condvar,
}

impl ObjectLocks {
    /// Takes everything, or says what somebody else holds.
    pub fn try_take(self: &Arc<Self>, wants: Wants) -> Result<Held, (Wants, Busy)> {
        match self.table().take(&wants) {
            Ok(()) => Ok(Held { locks: Arc::clone(self), wants }),
            Err(busy) => Err((wants, busy)),
        }
    }

    /// Takes everything, waiting until nobody else holds any of it.
    pub fn take(self: &Arc<Self>, wants: Wants) -> Held {
        let mut table = self.table();
        while table.take(&wants).is_err() {
            table = self.given_back.wait(table).unwrap_or_else(|e| e.into_inner());
        }
        drop(table);
        Held { locks: Arc::clone(self), wants }
    }

    // A thread that panicked while it held the table left no half-made entry behind: inserts are whole.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What is held until this is dropped.
#[derive(Debug)]
pub struct Held {
    locks: Arc<ObjectLocks>,
    wants: Wants,
}

impl Held {
    /// What it holds.
    pub fn wants(&self) -> &Wants {
        &self.wants
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.locks.table();
        if self.wants.everything {
            table.everything = false;
        }
        give_back(&mut table.objects, &self.wants.objects);
        give_back(&mut table.versions, &self.wants.versions);
        drop(table);
        self.locks.given_back.notify_all();
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
        let one = locks.try_take(keep()).unwrap();
        let two = locks.try_take(keep()).unwrap();
        let busy = |wants: &[(u64, Want)]| locks.try_take(objects(wants)).unwrap_err().1;
        assert_eq!(busy(&[(3, Want::Change), (2, Want::Change)]), Busy::Object(Oid(2)));
        drop(one);
        assert_eq!(busy(&[(2, Want::Change)]), Busy::Object(Oid(2)));
        drop(two);
        let changer = locks.try_take(objects(&[(2, Want::Change)])).unwrap();
        assert_eq!(busy(&[(1, Want::Keep), (2, Want::Keep)]), Busy::Object(Oid(2)));
        let both = objects(&[(1, Want::Change), (3, Want::Change)]);
        assert!(locks.try_take(both).is_ok(), "nothing was half taken");
        drop(changer);
        assert!(is_empty(&locks));
    }

    #[test]
    fn a_version_ends_when_nobody_works_in_it() {
        let locks = Arc::new(ObjectLocks::default());
        let worker = locks.try_take(version(Want::Keep)).unwrap();
        let other = locks.try_take(version(Want::Keep)).unwrap();
        assert_eq!(locks.try_take(version(Want::Change)).unwrap_err().1, Busy::Version(Version::named("draft")));
        drop((worker, other));
        let end = locks.try_take(version(Want::Change)).unwrap();
        assert!(locks.try_take(version(Want::Keep)).is_err());
        assert!(end.wants().covers(&version(Want::Keep)) && !end.wants().covers(&objects(&[(1, Want::Keep)])));
        drop(end);
        assert!(is_empty(&locks));
    }

    #[test]
    fn everything_is_held_alone() {
        let everything = || Wants { everything: true, ..Wants::default() };
        let locks = Arc::new(ObjectLocks::default());
        let one = locks.try_take(objects(&[(1, Want::Keep)])).unwrap();
        assert_eq!(locks.try_take(everything()).unwrap_err().1, Busy::Everything);
        drop(one);
        let all = locks.try_take(everything()).unwrap();
        assert!(all.wants().covers(&version(Want::Change)) && !objects(&[(1, Want::Change)]).covers(&everything()));
        for wants in [objects(&[(2, Want::Keep)]), version(Want::Keep), Wants::default(), everything()] {
            assert_eq!(locks.try_take(wants).unwrap_err().1, Busy::Everything);
        }
        drop(all);
        assert!(locks.try_take(everything()).is_ok() && locks.try_take(version(Want::Keep)).is_ok());
    }

    #[test]
    fn who_waits_is_woken() {
        let locks = Arc::new(ObjectLocks::default());
        let first = locks.take(objects(&[(1, Want::Change)]));
        let waiting = std::thread::spawn({
            let locks = Arc::clone(&locks);
            move || drop(locks.take(objects(&[(1, Want::Change), (2, Want::Keep)])))
        });
        drop(first);
        waiting.join().unwrap();
        assert!(is_empty(&locks));
    }
}
