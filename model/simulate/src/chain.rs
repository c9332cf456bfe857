//! A queue of objects that also finds, moves and removes one in the middle.
//!
//! ```text
//!   oldest ─▶ ┌───┐ newer ┌───┐ newer ┌───┐ ◀─ newest
//!             │ a │──────▶│ b │──────▶│ c │
//!             └───┘◀──────└───┘◀──────└───┘
//!                    older       older
//! ```
//!
//! The places are indices into one vector, so a hand can point at one.

use hashbrown::HashMap;

/// No place.
pub const NONE: u32 = u32::MAX;

/// An object in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The object.
    pub oid: u64,
    /// Bytes that it takes.
    pub size: u64,
    /// Its uses, as the policy counts them.
    pub mark: u8,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    item: Item,
    newer: u32,
    older: u32,
}

/// The queue.
#[derive(Debug)]
pub struct Chain {
    nodes: Vec<Node>,
    free: Vec<u32>,
    index: HashMap<u64, u32>,
    newest: u32,
    oldest: u32,
    bytes: u64,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { nodes: Vec::new(), free: Vec::new(), index: HashMap::new(), newest: NONE, oldest: NONE, bytes: 0 }
    }
}

impl Chain {
    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many objects it has.
    pub fn len(&self) -> u64 {
        self.index.len() as u64
    }

    /// Whether it has no object.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether it has this object.
    pub fn has(&self, oid: u64) -> bool {
        self.index.contains_key(&oid)
    }

    /// An object, to change its mark.
    pub fn get(&mut self, oid: u64) -> Option<&mut Item> {
        let place = *self.index.get(&oid)?;
        Some(&mut self.nodes[place as usize].item)
    }

    /// The place of the oldest object, or [`NONE`].
    pub fn oldest(&self) -> u32 {
        self.oldest
    }

    /// The place of an object, or [`NONE`].
    pub fn place(&self, oid: u64) -> u32 {
        self.index.get(&oid).copied().unwrap_or(NONE)
    }

    /// The object at a place.
    ///
    /// # Panics
    ///
    /// If the place is none of this queue.
    pub fn at(&mut self, place: u32) -> &mut Item {
        &mut self.nodes[place as usize].item
    }

    /// The place behind this one, towards the newest, or [`NONE`].
    ///
    /// # Panics
    ///
    /// If the place is none of this queue.
    pub fn newer(&self, place: u32) -> u32 {
        self.nodes[place as usize].newer
    }

    /// Adds an object as the newest; an older one with the same oid goes.
    pub fn push(&mut self, item: Item) {
        self.remove(item.oid);
        let node = Node { item, newer: NONE, older: self.newest };
        let place = match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        match self.newest {
            NONE => self.oldest = place,
            newest => self.nodes[newest as usize].newer = place,
        }
        self.newest = place;
        self.bytes += item.size;
        self.index.insert(item.oid, place);
    }

    /// Takes an object out.
    pub fn remove(&mut self, oid: u64) -> Option<Item> {
        let place = self.index.remove(&oid)?;
        let Node { item, newer, older } = self.nodes[place as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[newer as usize].older = older,
        }
        self.free.push(place);
        self.bytes -= item.size;
        Some(item)
    }

    /// Takes the oldest object out.
    pub fn pop(&mut self) -> Option<Item> {
        let oid = self.peek()?.oid;
        self.remove(oid)
    }

    /// The oldest object.
    pub fn peek(&self) -> Option<Item> {
        self.nodes.get(self.oldest as usize).map(|node| node.item)
    }

    /// Makes an object the newest; whether it is there.
    pub fn renew(&mut self, oid: u64) -> bool {
        let Some(item) = self.remove(oid) else { return false };
        self.push(item);
        true
    }
}
