//! A medium in memory that notices what no medium may see: a write after the end.

use vellum_storage::Tid;

use crate::core::{Failed, Header, Medium, Place, Region, Words};
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Release};

/// See the module.
pub struct Watched {
    words: Words,
    is_over: AtomicBool,
}

impl Watched {
    /// Segments in memory, as [`Words::new`].
    pub fn new(segments: u32, segment_bytes: u32) -> Watched {
        Watched { words: Words::new(segments, segment_bytes), is_over: AtomicBool::new(false) }
    }

    /// From now on nothing may be written.
    pub fn is_over(&self) {
        self.is_over.store(true, Release);
    }

    fn assert_not_over(&self) {
        assert!(!self.is_over.load(Acquire), "the cache writes after it was closed");
    }
}

impl Medium for Watched {
    const HEADER_BYTES: u32 = Words::HEADER_BYTES;

    fn put(&self, place: Place, header: &Header, data: &[u8]) -> Result<(), Failed> {
        self.assert_not_over();
        self.words.put(place, header, data)
    }

    fn header(&self, place: Place) -> Option<Header> {
        self.words.header(place)
    }

    fn data(&self, place: Place, header: &Header, data: &mut Vec<u8>) -> bool {
        self.words.data(place, header, data)
    }

    fn end(&self, place: Place, header: &Header, end: Tid) -> Result<(), Failed> {
        self.assert_not_over();
        self.words.end(place, header, end)
    }

    fn assign(&self, segment: u32, region: Region, small_share: u16) -> Result<(), Failed> {
        self.assert_not_over();
        self.words.assign(segment, region, small_share)
    }

    fn begin(&self, segment: u32) -> Result<(), Failed> {
        self.assert_not_over();
        self.words.begin(segment)
    }

    fn erase(&self, place: Place) {
        self.assert_not_over();
        self.words.erase(place);
    }

    fn begun_all(&self, head: Tid) {
        self.assert_not_over();
        self.words.begun_all(head);
    }

    fn told(&self, head: Tid) {
        self.assert_not_over();
        self.words.told(head);
    }
}
