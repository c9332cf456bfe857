//! The circular file of ZEO 6.2's client.
//!
//! ```text
//!   12 bytes │ blocks: records and free space, one behind the other │
//!            └──────────────▲───────────────────────────────────────┘
//!                           writing goes on here, and round and round
//! ```
//!
//! A record is written at the current place, and evicts all that is in its way. A current record that is used and is
//! more than four fifths of the file behind that place is written again. An ended record keeps its place until the
//! writing comes by.
//!
//! `cache_simul` differs from the client in three points ([`Rules`]).

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::policy::{Policy, Request};

/// Bytes before the first block.
const HEAD: u64 = 12;
/// Bytes of a record beside its data.
const OVERHEAD: u64 = 43;
const BLOCK_BYTES_MAX: u64 = (1 << 31) - 1;

/// Two programs that describe the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// ZEO's client. It does not move a record of more than a tenth of the file, and refuses one that would fill it.
    Client,
    /// ZEO's simulator. It moves any record, and counts the bytes beside the data once more with each move.
    Simulation,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    oid: u64,
    tid: u64,
    /// Of a revision that has ended.
    end: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    bytes: u64,
    held: Option<Held>,
}

/// The file.
#[derive(Debug)]
pub struct Circular {
    /// By their places, without a gap.
    blocks: BTreeMap<u64, Block>,
    /// The places of current revisions.
    current: HashMap<u64, u64>,
    /// The ended revisions of objects: tid and end, in order.
    ended: HashMap<u64, Vec<(u64, u64)>>,
    place: u64,
    used: u64,
    evictions: u64,
    /// Stands in for tids if the caller has none.
    clock: u64,
    capacity: u64,
    rules: Rules,
}

impl Circular {
    /// An empty file, as the client has it.
    pub fn new(capacity: u64) -> Circular {
        Circular::with(capacity, Rules::Client)
    }

    /// An empty file.
    pub fn with(capacity: u64, rules: Rules) -> Circular {
        let mut blocks = BTreeMap::new();
        if capacity > HEAD {
            blocks.insert(HEAD, Block { bytes: capacity - HEAD, held: None });
        }
        let (current, ended) = (HashMap::new(), HashMap::new());
        Circular { blocks, current, ended, place: HEAD, used: 0, evictions: 0, clock: 0, capacity, rules }
    }

    /// How many records went for others.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The tid of the current revision.
    pub fn tid(&self, oid: u64) -> Option<u64> {
        let block = self.blocks.get(self.current.get(&oid)?)?;
        block.held.map(|held| held.tid)
    }

    /// Whether a revision that has ended is there for a moment, as `cache_simul` looks for it.
    pub fn has_ended(&self, oid: u64, tid: u64) -> bool {
        let Some(revisions) = self.ended.get(&oid) else { return false };
        let before = revisions.partition_point(|revision| *revision < (tid, 0));
        before.checked_sub(1).and_then(|at| revisions.get(at)).is_some_and(|(_, end)| tid <= *end)
    }

    /// Uses a current revision, and perhaps moves it; whether it is there. Evicted current ones are handed out: oid,
    /// bytes, tid.
    pub fn load(&mut self, oid: u64, mut evicted: impl FnMut(u64, u64, u64)) -> bool {
        let Some(&at) = self.current.get(&oid) else { return false };
        let Some(&Block { bytes, held: Some(held) }) = self.blocks.get(&at) else { return false };
        let behind = if self.place < at { self.place + self.capacity - at } else { self.place - at };
        let is_far = behind as f64 > 0.8 * self.capacity as f64;
        let (moves, grown) = match self.rules {
            Rules::Client => (self.capacity > 10 * (bytes - OVERHEAD), bytes),
            Rules::Simulation => (true, bytes + OVERHEAD),
        };
        if is_far && moves {
            self.free(at);
            self.current.remove(&oid);
            self.write(held, grown, &mut evicted);
        }
        true
    }

    /// Stores a revision that is not there; whether it was written.
    pub fn store(
        &mut self,
        oid: u64,
        size: u32,
        tid: u64,
        end: Option<u64>,
        mut evicted: impl FnMut(u64, u64, u64),
    ) -> bool {
        let bytes = u64::from(size) + OVERHEAD;
        if bytes >= BLOCK_BYTES_MAX.min(self.capacity.saturating_sub(HEAD)) {
            return false;
        }
        match end {
            None if self.current.contains_key(&oid) => return false,
            None => {}
            Some(end) => {
                let revisions = self.ended.entry(oid).or_default();
                if revisions.contains(&(tid, end)) {
                    return false;
                }
                let at = revisions.partition_point(|revision| *revision < (tid, end));
                revisions.insert(at, (tid, end));
            }
        }
        self.write(Held { oid, tid, end }, bytes, &mut evicted);
        true
    }

    /// Ends the current revision; whether it was there.
    pub fn end(&mut self, oid: u64, end: u64) -> bool {
        let Some(at) = self.current.remove(&oid) else { return false };
        let Some(Block { held: Some(held), .. }) = self.blocks.get_mut(&at) else { return false };
        held.end = Some(end);
        let revision = (held.tid, end);
        let revisions = self.ended.entry(oid).or_default();
        let at = revisions.partition_point(|other| *other < revision);
        revisions.insert(at, revision);
        true
    }

    /// Forgets the current revision; whether it was there.
    pub fn forget(&mut self, oid: u64) -> bool {
        let Some(at) = self.current.remove(&oid) else { return false };
        self.free(at);
        true
    }

    /// Forgets the ended revisions; how many there were.
    pub fn forget_ended(&mut self, oid: u64) -> u64 {
        let revisions = self.ended.remove(&oid).unwrap_or_default();
        let is_one = |block: &Block| block.held.is_some_and(|held| held.oid == oid && held.end.is_some());
        let places: Vec<u64> = self.blocks.iter().filter(|(_, block)| is_one(block)).map(|(at, _)| *at).collect();
        places.into_iter().for_each(|at| self.free(at));
        revisions.len() as u64
    }

    fn free(&mut self, at: u64) {
        if let Some(block) = self.blocks.get_mut(&at)
            && block.held.take().is_some()
        {
            self.used -= block.bytes;
        }
    }

    fn write(&mut self, held: Held, bytes: u64, evicted: &mut impl FnMut(u64, u64, u64)) {
        // One byte more, so that free space follows.
        let room = self.make_room(bytes + 1, evicted);
        let Some(room) = room else { return };
        self.blocks.insert(self.place, Block { bytes, held: Some(held) });
        self.used += bytes;
        if held.end.is_none() {
            self.current.insert(held.oid, self.place);
        }
        self.place += bytes;
        if room > bytes {
            self.blocks.insert(self.place, Block { bytes: room - bytes, held: None });
        }
    }

    /// Frees so many bytes at the place for writing, or at the beginning; how many were freed, none if there are not
    /// so many in the file.
    fn make_room(&mut self, bytes: u64, evicted: &mut impl FnMut(u64, u64, u64)) -> Option<u64> {
        if self.place + bytes > self.capacity {
            self.place = HEAD;
        }
        let mut at = self.place;
        while at < self.place + bytes {
            let Block { bytes, held } = self.blocks.remove(&at)?;
            if let Some(held) = held {
                self.evictions += 1;
                self.used -= bytes;
                match held.end {
                    None => {
                        self.current.remove(&held.oid);
                        evicted(held.oid, bytes - OVERHEAD, held.tid);
                    }
                    Some(end) => {
                        if let Some(revisions) = self.ended.get_mut(&held.oid) {
                            revisions.retain(|revision| *revision != (held.tid, end));
                        }
                    }
                }
            }
            at += bytes;
        }
        Some(at - self.place)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Policy for Circular {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.used
    }

    fn has(&self, oid: u64) -> bool {
        self.current.contains_key(&oid)
    }

    fn get(&mut self, request: Request, evicted: &mut Vec<u64>) -> bool {
        self.load(request.oid, |oid, _, _| evicted.push(oid))
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let tid = self.tick();
        self.store(request.oid, request.size, tid, None, |oid, _, _| evicted.push(oid));
    }

    fn invalidate(&mut self, oid: u64) {
        let end = self.tick();
        self.end(oid, end);
    }
}
