//! One file: what programs see of it now, and everything that a crash could leave of it.
//!
//! The bytes that programs see are the *volatile* image. The *durable* image, as of the last sync, is not kept as a
//! second copy, for then every sync would cost as much as the file is long. Kept is the way back: for each sector that
//! was touched since the sync, the contents it had before each touch.
//!
//! ```text
//!     bytes      ████████ ████████ ████████ ███            what a read sees
//!     sectors             │        │
//!                         │ since 9│ since 7
//!                         ├ B      ├ (zeros)               former contents, the latest first;
//!                         └ A                              the oldest is the durable one
//!     lengths    1024, 1536, 1600                          the first is the durable one
//! ```
//!
//! A sector that is not in the map is on the platter as it is in `bytes`. A crash picks for each sector in the map one
//! of its contents, and for the file one of its lengths, and nothing ties one choice to another: that is all that an
//! operating system promises of writes between two syncs.
use std::collections::BTreeMap;
use std::ops::Range;

use super::fate::Crash;

/// The unit that a drive writes at once or not at all, in bytes.
pub(super) const SECTOR: usize = 512;

/// Former contents of a sector, and lengths of a file, that are remembered between two syncs. Beyond it every other
/// one is forgotten; what remains is still a truth, only a smaller choice of them.
const STATES_MAX: usize = 64;

/// A value, and the number of the operation that brought it about. Zero is before all operations.
#[derive(Clone, Debug)]
pub(super) struct Since<T> {
    pub(super) since: u64,
    pub(super) value: T,
}

/// The bytes of a sector. Past the end of the file they are zeros.
pub(super) type Sector = Box<[u8; SECTOR]>;

/// A sector that was touched since the last sync.
#[derive(Debug)]
struct History {
    /// Its contents before each touch. Never empty; the first is durable.
    former: Vec<Since<Sector>>,
    /// The operation that gave it the contents it has now.
    since: u64,
    /// A sync failed to write it, and the operating system has marked it clean: later syncs pass it by.
    forgotten: bool,
}

/// One file's contents.
#[derive(Debug)]
pub(super) struct Image {
    bytes: Vec<u8>,
    /// Each length since the last sync. Never empty; the first is durable, the last is `bytes.len()`.
    lengths: Vec<Since<u64>>,
    sectors: BTreeMap<u64, History>,
    /// A file without a name is gone after any crash, so nothing needs to be remembered about it.
    nameless: bool,
}

impl Image {
    /// A file that holds `bytes` and will after a crash.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        let lengths = vec![Since { since: 0, value: bytes.len() as u64 }];
        Image { bytes, lengths, sectors: BTreeMap::new(), nameless: false }
    }

    /// An empty file that nothing survives of.
    pub(super) fn nameless() -> Self {
        Image { nameless: true, ..Image::durable(Vec::new()) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether a crash now would leave exactly this.
    pub(super) fn is_durable(&self) -> bool {
        self.sectors.is_empty() && self.lengths.len() == 1
    }

    /// The first operation that a crash now might undo.
    pub(super) fn oldest_unsynced(&self) -> Option<u64> {
        let sectors = self.sectors.values().map(|history| history.former.get(1).map_or(history.since, |s| s.since));
        sectors.chain(self.lengths.get(1).map(|length| length.since)).min()
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64, now: u64) {
        if buf.is_empty() {
            return;
        }
        let (start, end) = (offset as usize, offset as usize + buf.len());
        self.remember(offset..end as u64, now);
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
            self.remember_length(now);
        }
        self.bytes[start..end].copy_from_slice(buf);
    }

    pub(super) fn set_len(&mut self, length: u64, now: u64) {
        let before = self.len();
        if length == before {
            return;
        }
        if length < before {
            self.remember(length..before, now);
        }
        self.bytes.resize(length as usize, 0);
        self.remember_length(now);
    }

    pub(super) fn sync(&mut self) {
        self.sectors.retain(|_, history| history.forgotten);
        // The length is the filesystem's own data, kept in its journal, and not forgotten with a failed page.
        self.sync_length();
    }

    pub(super) fn sync_length(&mut self) {
        self.lengths = vec![Since { since: 0, value: self.len() }];
    }

    /// Makes the touched sectors that `which` picks durable, and no other.
    pub(super) fn sync_sectors(&mut self, mut which: impl FnMut() -> bool) {
        self.sectors.retain(|_, history| history.forgotten || !which());
    }

    /// Does as Linux does after a failed fsync: pages that could not be written are clean from then on, so that the
    /// next fsync succeeds and writes nothing ("fsyncgate", PostgreSQL, 2018). Only a new write makes them dirty again.
    pub(super) fn forget_unsynced(&mut self) {
        for history in self.sectors.values_mut() {
            history.forgotten = true;
        }
    }

    /// The contents after a crash.
    pub(super) fn after(&self, crash: &mut Crash) -> Vec<u8> {
        let length = crash.length(&self.lengths) as usize;
        let mut bytes = self.bytes[..length.min(self.bytes.len())].to_vec();
        bytes.resize(length, 0);
        for (&number, history) in &self.sectors {
            let survivor = crash.sector(&history.former, history.since, || self.sector(number));
            let start = number as usize * SECTOR;
            if start < length {
                let end = length.min(start + SECTOR);
                bytes[start..end].copy_from_slice(&survivor[..end - start]);
            }
        }
        bytes
    }

    /// Notes what the sectors of `range` hold, as they are about to be touched by operation `now`.
    fn remember(&mut self, range: Range<u64>, now: u64) {
        if self.nameless {
            return;
        }
        for number in range.start / SECTOR as u64..range.end.div_ceil(SECTOR as u64) {
            let value = self.sector(number);
            let history =
                self.sectors.entry(number).or_insert(History { former: Vec::new(), since: 0, forgotten: false });
            history.former.push(Since { since: history.since, value });
            history.since = now;
            history.forgotten = false;
            thin_out(&mut history.former);
        }
    }

    fn remember_length(&mut self, now: u64) {
        if self.nameless {
            return self.sync_length();
        }
        self.lengths.push(Since { since: now, value: self.len() });
        thin_out(&mut self.lengths);
    }

    /// A copy of what the sector holds now.
    fn sector(&self, number: u64) -> Sector {
        let mut sector = Box::new([0; SECTOR]);
        let start = number as usize * SECTOR;
        if start < self.bytes.len() {
            let end = self.bytes.len().min(start + SECTOR);
            sector[..end - start].copy_from_slice(&self.bytes[start..end]);
        }
        sector
    }
}

/// Drops every other state when there are too many, but never the first, which is durable, nor the last.
fn thin_out<T>(states: &mut Vec<Since<T>>) {
    const { assert!(STATES_MAX.is_multiple_of(2), "or the last of one more would not be kept") };
    if states.len() > STATES_MAX {
        let mut index = 0;
        states.retain(|_| {
            index += 1;
            index % 2 == 1
        });
    }
}
