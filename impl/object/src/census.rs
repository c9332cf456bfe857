//! Hunting leaks: how many objects of each class there are, and whether a piece of a program leaves any behind.

use std::collections::BTreeMap;
use std::fmt;

use vellum_pickle::ClassName;
use vellum_storage::Oid;

use crate::Connection;
use crate::error::Result;
use crate::handle::Core;
use crate::heap::State;

/// The number of objects of a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Objects in memory, ghosts included.
    pub live: usize,
    /// How many of them are ghosts.
    pub ghosts: usize,
    /// How many more there are than at the last census; fewer, if it is negative.
    pub since: isize,
}

/// The objects of a connection by class. Ghosts of which no reference names a class are under a class without a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// The number of objects of each class.
    pub classes: BTreeMap<ClassName, Count>,
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9} {:>9} {:>9}  class", "live", "ghosts", "since")?;
        for (class, Count { live, ghosts, since }) in &self.classes {
            writeln!(f, "{live:>9} {ghosts:>9} {since:>+9}  {class}")?;
        }
        Ok(())
    }
}

/// An object that a fragment left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaked {
    /// Its class.
    pub class: ClassName,
    /// Its oid, if it has one.
    pub oid: Option<Oid>,
    /// Its handles: the program's, and the references of objects.
    pub handles: u32,
    /// The objects in memory that refer to it: class, oid, and how often. If they are fewer than the handles, the
    /// program holds the object.
    pub referrers: Vec<(ClassName, Option<Oid>, u32)>,
}

/// A fragment of a program leaves more objects behind each time it runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rounds} rounds left {} objects behind that were not there before\n{census}{}", .leaked.len(), listed(.leaked))]
pub struct Leak {
    /// Rounds that were counted.
    pub rounds: usize,
    /// The objects by class. Its `since` counts from before the first counted round.
    pub census: Census,
    /// The objects that were left behind.
    pub leaked: Vec<Leaked>,
}

/// Leaked objects that a message lists.
const LISTED_MAX: usize = 20;

fn listed(leaked: &[Leaked]) -> String {
    let mut text = String::new();
    let name = |class: &ClassName, oid: &Option<Oid>| match oid {
        Some(oid) => format!("{class} {oid}"),
        None => format!("{class}, not stored"),
    };
    for Leaked { class, oid, handles, referrers } in leaked.iter().take(LISTED_MAX) {
        let known: u32 = referrers.iter().map(|(_, _, times)| times).sum();
        text += &format!("{}: {handles} handles, {known} of them in objects", name(class, oid));
        for (class, oid, times) in referrers {
            text += &format!("\n    {times} in {}", name(class, oid));
        }
        text.push('\n');
    }
    text
}

impl Core {
    fn classes(&self) -> BTreeMap<ClassName, Count> {
        let mut classes: BTreeMap<ClassName, Count> = BTreeMap::new();
        self.heap(|heap| {
            for slot in heap.slots().filter(|&slot| heap.state(slot) != State::Free) {
                let loaded = heap.loaded(slot).and_then(|part| part.object.as_ref()).map(|object| object.class());
                let class = loaded.or_else(|| heap.class(slot).cloned()).unwrap_or_default();
                let count = classes.entry(class).or_default();
                count.live += 1;
                count.ghosts += usize::from(heap.state(slot) == State::Ghost);
            }
        });
        classes
    }

    /// The census, and how it differs from the one before.
    fn census_since(&self, before: &BTreeMap<ClassName, usize>) -> Census {
        let mut classes = self.classes();
        for class in before.keys() {
            classes.entry(class.clone()).or_default();
        }
        for (class, count) in &mut classes {
            count.since = count.live as isize - before.get(class).copied().unwrap_or(0) as isize;
        }
        Census { classes }
    }

    /// The objects that are in memory, and not among these slots.
    fn leaked(&self, before: &[u32]) -> Vec<Leaked> {
        let mut referrers: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
        let objects = self.heap(|heap| {
            heap.all_loaded().filter_map(|part| Some((part.slot, part.object.clone()?))).collect::<Vec<_>>()
        });
        for (slot, object) in &objects {
            object.trace(&mut |raw| {
                if self.is_own(raw) {
                    *referrers.entry(raw.slot()).or_default().entry(*slot).or_default() += 1;
                }
            });
        }
        drop(objects);
        self.heap(|heap| {
            let class = |slot: u32| {
                let loaded = heap.loaded(slot).and_then(|part| part.object.as_ref()).map(|object| object.class());
                loaded.or_else(|| heap.class(slot).cloned()).unwrap_or_default()
            };
            let new =
                heap.slots().filter(|slot| heap.state(*slot) != State::Free && before.binary_search(slot).is_err());
            new.map(|slot| {
                let from = referrers.get(&slot).into_iter().flatten();
                let from = from.map(|(from, times)| (class(*from), heap.oid(*from), *times));
                Leaked { class: class(slot), oid: heap.oid(slot), handles: heap.count(slot), referrers: from.collect() }
            })
            .collect()
        })
    }

    fn used(&self) -> Vec<u32> {
        self.heap(|heap| heap.slots().filter(|&slot| heap.state(slot) != State::Free).collect())
    }
}

impl Connection {
    /// Counts the objects in memory by class, and how many there are more than at the last census of this connection.
    pub fn census(&self) -> Census {
        let census = self.core.census_since(&self.core.census.borrow());
        *self.core.census.borrow_mut() =
            census.classes.iter().map(|(class, count)| (class.clone(), count.live)).collect();
        census
    }
}

/// Finds leaks of objects, in any test.
pub mod leaks {
    use super::{Leak, Result};
    use crate::Connection;

    /// Runs a fragment of a program, and collects, `rounds` times after a first time in which caches may fill. It fails
    /// if more objects are in memory at the end than after the first time. The error has the census and the objects
    /// that stay, with the objects that refer to them.
    ///
    /// ```
    /// use vellum_object::{Database, PersistentMapping, leaks};
    /// use vellum_storage::MemoryStorage;
    ///
    /// let connection = Database::open(MemoryStorage::new("memory"))?.connect()?;
    /// let cycle = || {
    ///     let one = connection.make(PersistentMapping::default());
    ///     one.change(|mapping| mapping.insert("itself", &one)).map(|_| ())
    /// };
    /// assert!(leaks::settles(&connection, 10, cycle)?.is_ok());
    /// let mut kept = Vec::new();
    /// let keeps = || Ok(kept.push(connection.make(PersistentMapping::default())));
    /// assert_eq!(leaks::settles(&connection, 10, keeps)?.unwrap_err().leaked.len(), 10);
    /// # Ok::<(), vellum_object::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the fragment, and of [`Connection::collect`].
    pub fn settles(
        connection: &Connection,
        rounds: usize,
        mut fragment: impl FnMut() -> Result<()>,
    ) -> Result<Result<(), Leak>> {
        let core = &connection.core;
        fragment()?;
        connection.collect()?;
        let before = core.classes().into_iter().map(|(class, count)| (class, count.live)).collect();
        let (used, known) = (core.used(), connection.known());
        for _ in 0..rounds {
            fragment()?;
            connection.collect()?;
        }
        if connection.known() <= known {
            return Ok(Ok(()));
        }
        let census = core.census_since(&before);
        Ok(Err(Leak { rounds, census, leaked: core.leaked(&used) }))
    }
}
