//! Which objects are held by transactions between their vote and their finish.
//!
//! A transaction asks once, for all its objects, and gets all of them or none: nobody waits while holding something, so
//! there is no deadlock. Objects that it only depends on are shared with others that only depend on them.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::Oid;

/// What a transaction wants with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To change it: nobody else may hold it.
    Change,
    /// That it stays as it is: others may want that too.
    Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Changer,
    Keepers(usize),
}

/// The table of held objects.
#[derive(Debug, Default)]
pub struct ObjectLocks {
    held: Mutex<HashMap<Oid, Holding>>,
    given_back: Condvar,
}

impl ObjectLocks {
    /// Takes all the objects, or says which one is held by somebody else. Each oid must occur once.
    pub fn try_take(self: &Arc<Self>, wants: Vec<(Oid, Want)>) -> Result<Held, (Vec<(Oid, Want)>, Oid)> {
        match Self::take_in(&mut self.table(), &wants) {
            Ok(()) => Ok(Held { locks: Arc::clone(self), wants }),
            Err(busy) => Err((wants, busy)),
        }
    }

    /// Takes all the objects, waiting until nobody else holds any of them. Each oid must occur once.
    pub fn take(self: &Arc<Self>, wants: Vec<(Oid, Want)>) -> Held {
        let mut table = self.table();
        while Self::take_in(&mut table, &wants).is_err() {
            table = self.given_back.wait(table).unwrap_or_else(|e| e.into_inner());
        }
        drop(table);
        Held { locks: Arc::clone(self), wants }
    }

    fn take_in(table: &mut HashMap<Oid, Holding>, wants: &[(Oid, Want)]) -> Result<(), Oid> {
        let blocked = |(oid, want): &&(Oid, Want)| match table.get(oid) {
            None => false,
            Some(Holding::Keepers(_)) => *want == Want::Change,
            Some(Holding::Changer) => true,
        };
        if let Some((oid, _)) = wants.iter().find(blocked) {
            return Err(*oid);
        }
        for (oid, want) in wants {
            match (want, table.get_mut(oid)) {
                (Want::Keep, Some(Holding::Keepers(n))) => *n += 1,
                (Want::Keep, _) => drop(table.insert(*oid, Holding::Keepers(1))),
                (Want::Change, _) => drop(table.insert(*oid, Holding::Changer)),
            }
        }
        Ok(())
    }

    // A thread that panicked while it held the table left no half-made entry behind: inserts are whole.
    fn table(&self) -> MutexGuard<'_, HashMap<Oid, Holding>> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Objects that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    locks: Arc<ObjectLocks>,
    wants: Vec<(Oid, Want)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.locks.table();
        for (oid, _) in &self.wants {
            match table.get_mut(oid) {
                Some(Holding::Keepers(n)) if *n > 1 => *n -= 1,
                _ => drop(table.remove(oid)),
            }
        }
        drop(table);
        self.locks.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changer_or_many_keepers() {
        let locks = Arc::new(ObjectLocks::default());
        let keep = || vec![(Oid(1), Want::Keep), (Oid(2), Want::Keep)];
        let one = locks.try_take(keep()).unwrap();
        let two = locks.try_take(keep()).unwrap();
        assert_eq!(locks.try_take(vec![(Oid(3), Want::Change), (Oid(2), Want::Change)]).unwrap_err().1, Oid(2));
        drop(one);
        assert_eq!(locks.try_take(vec![(Oid(2), Want::Change)]).unwrap_err().1, Oid(2));
        drop(two);
        let changer = locks.try_take(vec![(Oid(2), Want::Change)]).unwrap();
        assert_eq!(locks.try_take(keep()).unwrap_err().1, Oid(2));
        assert!(locks.try_take(vec![(Oid(1), Want::Change), (Oid(3), Want::Change)]).is_ok(), "nothing was half taken");
        drop(changer);
        assert!(locks.table().is_empty());
    }

    #[test]
    fn who_waits_is_woken() {
        let locks = Arc::new(ObjectLocks::default());
        let first = locks.take(vec![(Oid(1), Want::Change)]);
        let waiting = std::thread::spawn({
            let locks = Arc::clone(&locks);
            move || drop(locks.take(vec![(Oid(1), Want::Change), (Oid(2), Want::Keep)]))
        });
        drop(first);
        waiting.join().unwrap();
        assert!(locks.table().is_empty());
    }
}
