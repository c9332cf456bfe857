//! Objects that were evicted lately, without their records.
//!
//! A new object is evicted early. If it comes again soon, that was a mistake, and it goes to the main region at once.
//! So the cache remembers evicted objects by two bytes each:
//!
//! ```text
//!   15       4   3      2    0
//!   │   tag   │region│ stamp │      a word of zero is free
//! ```
//!
//! A tag is 12 bits of the oid's hash. The rest of the hash leads to a bucket of eight words, so of a thousand new
//! objects two at most are taken for one that was evicted. That changes which objects stay, and no answer.
//!
//! Each region has a clock that its evictions move: a tick is a sixth of the bytes that are remembered. A stamp is the
//! tick of the eviction. A clock has seven ticks, and each tick frees the words that have its stamp: they are one round
//! old. So no word ever gets a second life, and a core without evictions does not change.
//!
//! The file depends on nothing, because the simulator of policies includes it (`model/simulate`).

/// The regions of a cache. New objects enter the small one, and the used ones move to the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// A record that comes for the first time.
    Small,
    /// A record that was used, or that came again soon.
    Main,
}

impl Region {
    /// Both.
    pub const ALL: [Region; 2] = [Region::Small, Region::Main];
}

const BUCKET: usize = 8;
const TICKS: u16 = 7;
const STAMP_BITS: u16 = 0b111;
const REGION_SHIFT: u16 = 3;
const TAG_SHIFT: u16 = 4;
/// One word for so many bytes of the cache.
const BYTES_PER_WORD: u64 = 1024;
/// Of each region, evictions of so many bytes are remembered, in hundredths of the cache.
const REMEMBERED_PERCENT: u64 = 40;

/// The clock of a region's evictions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Clock {
    /// From 1 to `TICKS`.
    stamp: u16,
    /// Bytes that were evicted since the last tick.
    bytes: u64,
}

/// Objects that were evicted lately.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ghosts {
    words: Box<[u16]>,
    clocks: [Clock; 2],
    tick_bytes: u64,
}

impl Ghosts {
    /// None, of a cache of so many bytes.
    pub fn new(capacity: u64) -> Ghosts {
        let buckets = (capacity / BYTES_PER_WORD).div_ceil(BUCKET as u64).clamp(1, 1 << 28);
        let tick_bytes = (capacity / 100 * REMEMBERED_PERCENT / u64::from(TICKS - 1)).max(1);
        let clock = Clock { stamp: 1, bytes: 0 };
        Ghosts { words: vec![0; buckets as usize * BUCKET].into(), clocks: [clock.clone(), clock], tick_bytes }
    }

    /// An object was evicted from a region, with a record of so many bytes.
    pub fn note(&mut self, hash: u64, region: Region, bytes: u64) {
        let stamp = self.clocks[region as usize].stamp;
        let word = kind(hash, region) | stamp;
        let ages = self.clocks.clone();
        let age = |word: u16| match word {
            0 => TICKS,
            word => (ages[usize::from(word >> REGION_SHIFT & 1)].stamp + TICKS - (word & STAMP_BITS)) % TICKS,
        };
        let bucket = self.bucket(hash);
        let same = bucket.iter().position(|other| *other != 0 && other & !STAMP_BITS == word & !STAMP_BITS);
        // Its own word, or a free one, or the oldest one; of several the first.
        let place = same.or_else(|| (0..BUCKET).rev().max_by_key(|place| age(bucket[*place])));
        place.into_iter().for_each(|place| bucket[place] = word);
        self.pass(region, bytes);
    }

    /// The region from which the object was evicted lately. It is forgotten, since it comes again now.
    pub fn take(&mut self, hash: u64) -> Option<Region> {
        let bucket = self.bucket(hash);
        Region::ALL.into_iter().find(|region| {
            let found = bucket.iter_mut().find(|word| **word != 0 && **word & !STAMP_BITS == kind(hash, *region));
            found.map(|word| *word = 0).is_some()
        })
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Bytes of memory that they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    fn bucket(&mut self, hash: u64) -> &mut [u16] {
        let buckets = (self.words.len() / BUCKET) as u64;
        let bucket = (((hash & 0xffff_ffff) * buckets) >> 32) as usize;
        &mut self.words[bucket * BUCKET..(bucket + 1) * BUCKET]
    }

    fn pass(&mut self, region: Region, bytes: u64) {
        let clock = &mut self.clocks[region as usize];
        clock.bytes += bytes;
        while clock.bytes >= self.tick_bytes {
            clock.bytes -= self.tick_bytes;
            clock.stamp = clock.stamp % TICKS + 1;
            let gone = (region as u16) << REGION_SHIFT | clock.stamp;
            let of_word = 1 << REGION_SHIFT | STAMP_BITS;
            self.words.iter_mut().filter(|word| **word & of_word == gone).for_each(|word| *word = 0);
        }
    }
}

/// A word without its stamp.
fn kind(hash: u64, region: Region) -> u16 {
    ((hash >> 32) as u16) << TAG_SHIFT | (region as u16) << REGION_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 100 << 10;

    #[test]
    fn an_object_that_was_evicted_lately_is_known_once() {
        let mut ghosts = Ghosts::new(CAPACITY);
        for region in Region::ALL {
            ghosts.note(7 << 32, region, 100);
            assert_eq!((ghosts.take(7 << 32), ghosts.take(7 << 32)), (Some(region), None));
        }
        ghosts.note(7 << 32, Region::Small, 100);
        ghosts.clear();
        assert_eq!(ghosts.take(7 << 32), None);
    }

    #[test]
    fn an_object_is_forgotten_after_half_of_the_cache() {
        let mut ghosts = Ghosts::new(CAPACITY);
        ghosts.note(7, Region::Small, 1);
        let mut others = (0..).map(|n: u64| n << 32 | 0xffff_ffff);
        // The other region's evictions do not count.
        others.by_ref().take(1_000).for_each(|hash| ghosts.note(hash, Region::Main, 1_000));
        let mut evicted = |ghosts: &mut Ghosts, count| {
            let hashes: Vec<u64> = others.by_ref().take(count).collect();
            hashes.into_iter().for_each(|hash| ghosts.note(hash, Region::Small, 1_000));
        };
        evicted(&mut ghosts, 40);
        assert_eq!(ghosts.take(7), Some(Region::Small));
        ghosts.note(7, Region::Small, 1);
        evicted(&mut ghosts, 50);
        assert_eq!(ghosts.take(7), None);
        evicted(&mut ghosts, 1_000);
        assert_eq!(ghosts.words.iter().filter(|word| **word != 0).count(), BUCKET, "the others share a bucket");
    }

    #[test]
    fn a_full_bucket_loses_its_oldest_word() {
        let mut ghosts = Ghosts { tick_bytes: 10, ..Ghosts::new(1) };
        (0..9).for_each(|n: u64| ghosts.note(n << 32, Region::Small, 5));
        assert_eq!(ghosts.take(0), None);
        assert!((1..9).all(|n: u64| ghosts.take(n << 32) == Some(Region::Small)));
    }
}
