//! Pages: objects are packed in the order in which they are loaded, and evicted together.
//!
//! A use of an object is a use of its page, and the least recently used page goes. A larger object has a page of its
//! own. The space of an invalidated object stays empty until its page goes.

use hashbrown::HashMap;

use crate::chain::{Chain, Item};
use crate::policy::{Policy, Request};

/// Bytes of a page, unless the cache is very small.
pub(super) const PAGE_BYTES: u64 = 8192;

/// Pages, in the order of their uses.
#[derive(Debug)]
pub struct Pages {
    pages: Chain,
    contents: HashMap<u64, Vec<u64>>,
    objects: HashMap<u64, u64>,
    /// The page that is filled, and the bytes left in it.
    open: (u64, u64),
    page_bytes: u64,
    capacity: u64,
    header: u32,
}

impl Pages {
    /// An empty cache.
    pub fn new(capacity: u64, header: u32) -> Pages {
        let (pages, contents, objects) = (Chain::default(), HashMap::new(), HashMap::new());
        let page_bytes = PAGE_BYTES.min(capacity / 8);
        Pages { pages, contents, objects, open: (0, 0), page_bytes, capacity, header }
    }

    fn begin(&mut self, bytes: u64, evicted: &mut Vec<u64>) {
        while self.pages.bytes() + bytes > self.capacity {
            let Some(page) = self.pages.pop() else { break };
            for oid in self.contents.remove(&page.oid).unwrap_or_default() {
                if self.objects.get(&oid) == Some(&page.oid) {
                    self.objects.remove(&oid);
                    evicted.push(oid);
                }
            }
        }
        let number = self.open.0 + 1;
        self.pages.push(Item { oid: number, size: bytes, mark: 0 });
        self.open = (number, bytes);
    }
}

impl Policy for Pages {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.pages.bytes()
    }

    fn has(&self, oid: u64) -> bool {
        self.objects.contains_key(&oid)
    }

    fn get(&mut self, request: Request, _: &mut Vec<u64>) -> bool {
        self.objects.get(&request.oid).is_some_and(|page| self.pages.renew(*page))
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        let size = u64::from(request.size) + u64::from(self.header);
        if size > self.capacity || self.has(request.oid) {
            return;
        }
        let (number, left) = self.open;
        if size > left || !self.pages.has(number) {
            self.begin(self.page_bytes.max(size), evicted);
        }
        self.open.1 -= size;
        self.contents.entry(self.open.0).or_default().push(request.oid);
        self.objects.insert(request.oid, self.open.0);
        self.pages.renew(self.open.0);
    }

    fn invalidate(&mut self, oid: u64) {
        if let Some(page) = self.objects.remove(&oid)
            && let Some(contents) = self.contents.get_mut(&page)
        {
            contents.retain(|other| *other != oid);
        }
    }
}
