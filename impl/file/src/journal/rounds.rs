//! The open journal: which half and which number the next entry gets, and when the data file is synced.
//!
//! ```text
//!   half 0   │ round n   ............................ │             │ round n+2: overwrites round n
//!   half 1                                            │ round n+1 .. │
//!                                                     ▲              ▲
//!                    a sync of the data file begins: ─┘              └─ it must have succeeded
//!                    it covers round n
//! ```
//!
//! So the journal always holds everything since the last sync of the data file that has succeeded.

use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::{Disk, DiskFile, Open};
use vellum_storage::Tid;
use vellum_sync::thread::{self, JoinHandle};

use super::beside;
use super::entry::{BLOCK, EntryHeader, HALF_MAX, Head, PAYLOAD_MAX, room};

/// A journal is filled with zeros in pieces of this size.
const CHUNK: usize = 1 << 20;

/// A journal that commits go to. Used by one thread at a time: the one that has the turn.
#[derive(Debug)]
pub(crate) struct Rounds {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    head: Head,
    /// The number of the next entry, its half, and where in the half it goes.
    number: u64,
    half: u64,
    at: u64,
    /// Whether there are entries after the last retirement.
    is_live: bool,
    /// The sync of the data file that must have succeeded before the next half is begun.
    syncing: Option<JoinHandle<io::Result<()>>>,
    /// Whether a thread syncs the data file. If not, the leader does.
    beside_commits: bool,
}

/// A write that failed. If `fatal`, the state of the disk is not known.
pub(crate) struct Failed {
    pub doing: &'static str,
    pub source: io::Error,
    pub fatal: bool,
}

/// An entry as it is built: its payload, with room for the header before it.
pub(crate) struct Draft(Vec<u8>);

impl Draft {
    /// For a payload of about `length` bytes.
    pub fn new(length: u64) -> Draft {
        let mut bytes = Vec::with_capacity(room(length) as usize);
        bytes.resize(EntryHeader::SIZE, 0);
        Draft(bytes)
    }

    /// To append the payload to.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The payload, once it is complete.
    pub fn payload(&mut self, length: u64) -> &mut [u8] {
        &mut self.0[EntryHeader::SIZE..EntryHeader::SIZE + length as usize]
    }
}

/// Where a payload belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Belongs {
    pub position: u64,
    pub length: u64,
    /// The last transaction before the position, and the last one of the payload.
    pub before: Tid,
    pub last: Tid,
}

impl Rounds {
    /// Makes a journal of about `bytes` bytes beside the data file at `path`, all of which is durable.
    pub fn create(disk: &Arc<dyn Disk>, path: &Path, bytes: u64, beside_commits: bool) -> io::Result<Rounds> {
        let data = disk.resolve(path)?;
        let journal = beside::path_of(&**disk, path)?;
        let half = (bytes.saturating_sub(BLOCK) / 2 / BLOCK * BLOCK).clamp(4 * BLOCK, HALF_MAX);
        let head = Head { key: disk.secret()?, half };
        let new = beside::half_made(&journal);
        let make = || {
            let file = disk.open_like(&new, Open::Truncate, &data)?;
            // Written, not only reserved: the first write to reserved room changes metadata.
            let zeros = vec![0; CHUNK.min(head.file_length() as usize)];
            let mut at = 0;
            while at < head.file_length() {
                let length = (head.file_length() - at).min(zeros.len() as u64) as usize;
                file.write_at(&zeros[..length], at)?;
                at += length as u64;
            }
            file.write_at(&head.block(), 0)?;
            file.sync()?;
            disk.rename(&new, &journal)?;
            disk.sync_directory(&journal)?;
            Ok(file)
        };
        let file = make().inspect_err(|_: &io::Error| drop(disk.remove(&new)))?;
        Ok(Rounds {
            disk: Arc::clone(disk),
            path: journal,
            file,
            head,
            number: 1,
            half: 0,
            at: 0,
            is_live: false,
            syncing: None,
            beside_commits,
        })
    }

    /// Payloads up to this length can go to a journal of this size.
    pub fn payload_max(&self) -> u64 {
        (self.head.half / 4).min(PAYLOAD_MAX) - EntryHeader::SIZE as u64
    }

    /// Makes a batch durable that is not in the data file yet.
    pub fn write(&mut self, data: &Arc<dyn DiskFile>, entry: &mut Draft, belongs: Belongs) -> Result<(), Failed> {
        self.check_sync()?;
        self.make_room(data, room(belongs.length))?;
        let Belongs { position, length, before, last } = belongs;
        EntryHeader { number: self.number, position, length, before, last }.seal(&self.head.key, &mut entry.0);
        self.put(&entry.0)?;
        self.number += 1;
        self.at += entry.0.len() as u64;
        self.is_live = true;
        Ok(())
    }

    /// Takes the last entry back, of which the data file got nothing.
    pub fn take_back(&mut self, length: u64) -> io::Result<()> {
        self.at -= room(length);
        self.number -= 1;
        self.erase()
    }

    /// Makes sure that the data file needs no journal, up to where it ends now: before it is changed in another way.
    pub fn retire(&mut self, data: &Arc<dyn DiskFile>, position: u64, last: Tid) -> Result<(), Failed> {
        if !self.is_live {
            return Ok(());
        }
        self.finish_sync()?;
        data.sync().map_err(|source| Failed {
            doing: "syncing the data file, to which the journal has everything",
            source,
            fatal: true,
        })?;
        if self.at + BLOCK > self.head.half {
            (self.half, self.at) = (1 - self.half, 0);
        }
        let mut entry = Draft::new(0).0;
        let header = EntryHeader { number: self.number, position, length: 0, before: last, last };
        header.seal(&self.head.key, &mut entry);
        self.put(&entry)?;
        self.number += 1;
        self.at += BLOCK;
        self.is_live = false;
        Ok(())
    }

    /// Removes the journal, of which the data file has everything then.
    pub fn close(mut self, data: &dyn DiskFile) -> io::Result<()> {
        self.finish_sync().map_err(|failed| failed.source)?;
        if self.is_live {
            data.sync()?;
        }
        beside::remove(&*self.disk, &self.path)
    }

    /// Goes to the other half if this one has no room.
    fn make_room(&mut self, data: &Arc<dyn DiskFile>, room: u64) -> Result<(), Failed> {
        if self.at + room <= self.head.half {
            return Ok(());
        }
        // The other half holds the round before this one.
        self.finish_sync()?;
        (self.half, self.at) = (1 - self.half, 0);
        if self.beside_commits {
            let data = Arc::clone(data);
            self.syncing = Some(thread::spawn(move || data.sync()));
        } else {
            data.sync().map_err(data_is_lost)?;
        }
        Ok(())
    }

    /// Fails if the sync of the data file has failed.
    fn check_sync(&mut self) -> Result<(), Failed> {
        if self.syncing.as_ref().is_some_and(|syncing| syncing.is_finished()) { self.finish_sync() } else { Ok(()) }
    }

    /// Waits for the sync of the data file.
    fn finish_sync(&mut self) -> Result<(), Failed> {
        let Some(syncing) = self.syncing.take() else { return Ok(()) };
        syncing.join().unwrap_or_else(|panic| resume_unwind(panic)).map_err(data_is_lost)
    }

    /// Writes an entry to its place, and syncs it.
    fn put(&mut self, entry: &[u8]) -> Result<(), Failed> {
        if let Err(source) = self.file.write_at(entry, self.place()) {
            // A part of it may be there, or all of it.
            let fatal = self.erase().is_err();
            return Err(Failed { doing: "writing a commit to the journal", source, fatal });
        }
        self.file.sync().map_err(|source| Failed {
            doing: "syncing the journal: whether the commit is in it, the next opening of the file will find out",
            source,
            fatal: true,
        })
    }

    /// Makes sure that no entry is at the present place.
    fn erase(&self) -> io::Result<()> {
        self.file.write_at(&[0; BLOCK as usize], self.place())?;
        self.file.sync()
    }

    fn place(&self) -> u64 {
        self.head.start(self.half) + self.at
    }
}

fn data_is_lost(source: io::Error) -> Failed {
    let doing = "syncing the data file behind the journal: the journal has what it lacks, and the next opening of the file \
                 completes it";
    Failed { doing, source, fatal: true }
}
