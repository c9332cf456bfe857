//! Two files: the current one and the old one.
//!
//! The first clients of ZEO had this. Objects are appended to the current file. When it is full, the old file is
//! emptied, and the two change places. A use of an object in the old file copies it to the current one. The space of an
//! invalidated object comes back with the flip.

use hashbrown::HashMap;

use crate::policy::{Policy, Request};

#[derive(Debug, Default)]
struct File {
    objects: HashMap<u64, u64>,
    /// Bytes up to the end of the last record, those of invalidated objects among them.
    end: u64,
}

/// Two files.
#[derive(Debug)]
pub struct Flip {
    current: File,
    old: File,
    capacity: u64,
    header: u32,
}

impl Flip {
    /// An empty cache.
    pub fn new(capacity: u64, header: u32) -> Flip {
        Flip { current: File::default(), old: File::default(), capacity, header }
    }

    fn append(&mut self, oid: u64, size: u64, evicted: &mut Vec<u64>) {
        if self.current.end + size > self.capacity / 2 {
            let dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.current));
            evicted.extend(dropped.objects.into_keys());
        }
        self.current.objects.insert(oid, size);
        self.current.end += size;
    }
}

impl Policy for Flip {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.current.end + self.old.end
    }

    fn has(&self, oid: u64) -> bool {
        self.current.objects.contains_key(&oid) || self.old.objects.contains_key(&oid)
    }

    fn get(&mut self, Request { oid, .. }: Request, evicted: &mut Vec<u64>) -> bool {
        if self.current.objects.contains_key(&oid) {
            return true;
        }
        let Some(size) = self.old.objects.remove(&oid) else { return false };
        self.append(oid, size, evicted);
        true
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let size = u64::from(request.size) + u64::from(self.header);
        if size <= self.capacity / 2 && !self.has(request.oid) {
            self.append(request.oid, size, evicted);
        }
    }

    fn invalidate(&mut self, oid: u64) {
        self.current.objects.remove(&oid);
        self.old.objects.remove(&oid);
    }
}
