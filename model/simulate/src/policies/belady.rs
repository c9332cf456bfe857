//! Two limits, which know the future.
//!
//! Belady, "A study of replacement algorithms for a virtual-storage computer" (1966): the object whose next use is
//! farthest goes. For objects of one size, no cache has more hits. With sizes this is no proof any more, so there is a
//! second limit: the object goes whose size times the time to its next use is largest, among 64 that are drawn. An
//! object that would go at once is not kept.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::policy::{NEVER, Policy, Request};

const DRAWN: u64 = 64;

/// The choice of the object that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The farthest next use.
    NextUse,
    /// The largest product of size and time to the next use.
    NextUseAndSize,
}

/// Objects by their next uses.
#[derive(Debug)]
pub struct Belady {
    by_next: BTreeSet<(u64, u64)>,
    /// Size, next use and place in `drawn`.
    objects: HashMap<u64, (u64, u64, usize)>,
    drawn: Vec<u64>,
    used: u64,
    now: u64,
    dice: u64,
    limit: Limit,
    capacity: u64,
    header: u32,
}

impl Belady {
    /// An empty cache.
    pub fn new(capacity: u64, header: u32, limit: Limit) -> Belady {
        Belady {
            by_next: BTreeSet::new(),
            objects: HashMap::new(),
            drawn: Vec::new(),
            used: 0,
            now: 0,
            dice: 1,
            limit,
            capacity,
            header,
        }
    }

    fn remove(&mut self, oid: u64) -> bool {
        let Some((size, next, place)) = self.objects.remove(&oid) else { return false };
        self.by_next.remove(&(next, oid));
        self.used -= size;
        self.drawn.swap_remove(place);
        if let Some(moved) = self.drawn.get(place)
            && let Some(object) = self.objects.get_mut(moved)
        {
            object.2 = place;
        }
        true
    }

    fn draw(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.drawn[(self.dice % self.drawn.len() as u64) as usize]
    }

    fn cost(&self, size: u64, next: u64) -> u128 {
        u128::from(size) * u128::from(next.saturating_sub(self.now))
    }

    /// The objects that go for this one, or none if this one is to go.
    fn victims(&mut self, size: u64, next: u64) -> Option<Vec<u64>> {
        let mut missing = (self.used + size).saturating_sub(self.capacity);
        let mut victims = Vec::new();
        if self.limit == Limit::NextUse {
            for (other, oid) in self.by_next.iter().rev() {
                if missing == 0 {
                    break;
                }
                if *other <= next {
                    return None;
                }
                missing = missing.saturating_sub(self.objects[oid].0);
                victims.push(*oid);
            }
            return Some(victims);
        }
        let own = self.cost(size, next);
        while missing > 0 {
            let mut worst = None;
            for _ in 0..DRAWN {
                let oid = self.draw();
                let (size, next, _) = self.objects[&oid];
                if !victims.contains(&oid) {
                    worst = worst.max(Some((self.cost(size, next), oid)));
                }
            }
            let (_, oid) = worst.filter(|(cost, _)| *cost > own)?;
            missing = missing.saturating_sub(self.objects[&oid].0);
            victims.push(oid);
        }
        Some(victims)
    }
}

impl Policy for Belady {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.used
    }

    fn has(&self, oid: u64) -> bool {
        self.objects.contains_key(&oid)
    }

    fn get(&mut self, request: Request, evicted: &mut Vec<u64>) -> bool {
        let Request { oid, next, .. } = request;
        self.now += 1;
        let Some(object) = self.objects.get_mut(&oid) else { return false };
        self.by_next.remove(&(object.1, oid));
        object.1 = next;
        self.by_next.insert((next, oid));
        if next == NEVER {
            self.remove(oid);
            evicted.push(oid);
        }
        true
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let Request { oid, next, .. } = request;
        let size = u64::from(request.size) + u64::from(self.header);
        if size > self.capacity || next == NEVER || self.has(oid) {
            return;
        }
        let Some(victims) = self.victims(size, next) else { return };
        for victim in victims {
            self.remove(victim);
            evicted.push(victim);
        }
        self.by_next.insert((next, oid));
        self.objects.insert(oid, (size, next, self.drawn.len()));
        self.drawn.push(oid);
        self.used += size;
    }

    fn invalidate(&mut self, oid: u64) {
        self.remove(oid);
    }
}
