//! The cache in one file of a set size, which survives the process, and keeps its promises over a power cut.
//!
//! ```text
//!   open ──▶ the headers of all segments are read, and the index is made from them
//!        ──▶ head(): all changes up to here are noted. The client asks the server what was changed since
//!   ...  ──▶ records and ends are written as they happen, and synced by nobody
//!   checkpoint ──▶ sync; then the head is written as durable, and synced
//! ```
//!
//! | after | the head is | because |
//! |---|---|---|
//! | a process that ended or was killed | that of its last moment | the system has all its writes, in their order |
//! | a power cut | the last durable one | changes noted later may be lost. The server names them again |
//!
//! The two are told apart by the machine's boot id, which is written beside the head.
//!
//! Each record has checksums of its own, so a damaged part of the file costs the records in it. A file that is not a
//! cache, or of another size, is replaced.
//!
//! One process writes the file at a time; another one gets [`io::ErrorKind::WouldBlock`], and can read it as a
//! [`Guest`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use vellum_disk::{Disk, DiskFile, Lock, Open};
use vellum_storage::Tid;

mod guest;
mod layout;
mod medium;
mod report;
mod scan;

pub use guest::Guest;
pub use layout::FileHead;
use layout::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use medium::FileMedium;
use medium::Known;
pub use report::{Report, Thorough};
use scan::{Moments, Segment};

use crate::core::{Core, Found, Header, Medium, Place, Shape};

/// How a cache file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the file, roughly; at least 64 KiB.
    pub bytes: u64,
    /// This start of the machine; none if it is not known. Then the head of a killed process does not count.
    pub boot: Option<[u8; 16]>,
    /// A number that no other opening of the file had.
    pub nonce: u64,
    /// How many of the latest changes are remembered.
    pub changes: usize,
}

impl Options {
    /// Of this machine, with chance.
    pub fn of_this_machine(bytes: u64) -> Options {
        use std::hash::{BuildHasher, RandomState};
        let nonce = RandomState::new().hash_one(std::time::SystemTime::now());
        Options { bytes, boot: boot_id(), nonce, changes: 10_000 }
    }

    /// The sizes of the file: about 64 segments, of 64 KiB to 8 MiB, or 16 of a very small file. A record of up to
    /// a segment is kept.
    fn head(&self) -> FileHead {
        let (least, most) = (u64::from(SEGMENT_BYTES_MIN), u64::from(SEGMENT_BYTES_MAX));
        let bytes = self.bytes.clamp(16 * least, most << 16);
        let segment_bytes = (bytes / 64).clamp(least.max(bytes.min(1 << 20) / 16), 8 << 20).next_multiple_of(512);
        FileHead { segment_bytes: segment_bytes as u32, segments: (bytes / segment_bytes).max(3) as u32 }
    }
}

/// The start of this machine, as Linux tells it.
fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

/// A cache in a file.
pub struct CacheFile {
    core: Core<FileMedium>,
    path: PathBuf,
    /// None when the cache has ended.
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl CacheFile {
    /// Opens the cache at `path`, or begins a new one in its place.
    ///
    /// # Errors
    ///
    /// Those of the disk. [`io::ErrorKind::WouldBlock`] if another process has the file.
    pub fn open(disk: &dyn Disk, path: &Path, options: &Options) -> io::Result<CacheFile> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = disk.lock(Path::new(&lock))?;
        let head = options.head();
        let file = match disk.open(path, Open::ReadWrite) {
            Ok(file) if scan::file_head(&*file)? == Some(head) => file,
            Ok(_) => create(disk, path, head, Open::Truncate)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(disk, path, head, Open::CreateNew)?,
            Err(e) => return Err(e),
        };
        // A record that cannot be read today is told of no change, and would be taken for current when it can be read
        // again. So the file is begun anew.
        let anew = |_| restore(create(disk, path, head, Open::Truncate)?, head, options);
        let core = restore(file, head, options).or_else(anew)?;
        Ok(CacheFile { core, path: path.to_owned(), lock: Mutex::new(Some(lock)) })
    }

    /// The cache itself.
    pub fn core(&self) -> &Core<FileMedium> {
        &self.core
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.core.medium().file_bytes()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all that the cache knows survive a power cut.
    ///
    /// # Errors
    ///
    /// Those of the disk. After an error the file stays at the last durable head, until it is opened again.
    pub fn checkpoint(&self) -> io::Result<()> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // After the end the file may be another process's.
        if lock.is_none() { Ok(()) } else { self.make_durable() }
    }

    fn make_durable(&self) -> io::Result<()> {
        let prepared = self.core.settled(|medium, head| medium.prepare(head));
        self.core.medium().make_durable(prepared)
    }

    /// Ends the cache: nothing is read or written after that, and another process can open the file. Handles stay
    /// good, and find nothing.
    ///
    /// # Errors
    ///
    /// Those of [`CacheFile::checkpoint`]. The cache is ended all the same.
    pub fn end(&self) -> io::Result<()> {
        self.core.close();
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            return Ok(());
        }
        let done = self.make_durable();
        *lock = None;
        done
    }

    /// Whether the cache has ended.
    pub fn has_ended(&self) -> bool {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Ends the cache, as [`CacheFile::end`] does.
    ///
    /// # Errors
    ///
    /// Those of [`CacheFile::checkpoint`].
    pub fn close(self) -> io::Result<()> {
        self.end()
    }
}

/// Begins a file. Its head is written last, so that half a file is no cache.
fn create(disk: &dyn Disk, path: &Path, head: FileHead, how: Open) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(path, how)?;
    file.set_len(0)?;
    file.set_len(head.file_bytes())?;
    file.sync()?;
    file.write_at(&head.write(), 0)?;
    file.sync()?;
    disk.sync_directory(path)?;
    Ok(file)
}

fn restore(file: Arc<dyn DiskFile>, head: FileHead, options: &Options) -> io::Result<Core<FileMedium>> {
    let moments = Moments::read(&*file)?;
    let segments = scan::segments(&*file, head)?;
    let known = Known {
        generations: generations(head, &segments),
        sequence: segments.iter().map(|segment| segment.head.sequence).max().unwrap_or(0),
        moment: moments.live.number.max(moments.durable.number),
        turn: scan::turn(&*file, options.nonce)?,
    };
    // A damaged number could leave no larger one.
    if known.sequence > u64::MAX / 2 || known.moment > u64::MAX / 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the cache file has impossible numbers"));
    }
    let tid = moments.head(options.boot);
    let medium = FileMedium::new(file, head, options.boot, options.nonce, known);
    let found = segments.iter().map(|segment| known_until(tid, segment, &medium)).filter(|found| found.count > 0);
    let found = found.collect();
    let shape =
        Shape { segments: head.segments, segment_bytes: head.segment_bytes, shards: 64, changes: options.changes };
    let core = Core::restore(medium, shape, tid, found);
    Ok(core)
}

/// The records of a segment that are of the time up to `last`. The others go: after a power cut, nobody knows whether
/// the server still has their transactions.
fn known_until(last: Tid, segment: &Segment, medium: &FileMedium) -> Found {
    let mut found = segment.found();
    let is_known = |header: &Header| header.tid <= last && header.end.is_none_or(|end| end <= last);
    let mut headers = segment.records.iter();
    found.records.retain(|(number, _, _)| {
        let known = headers.next().is_some_and(|(_, header)| is_known(header));
        if !known {
            medium.erase(Place { segment: segment.segment, number: *number });
        }
        known
    });
    found
}

fn generations(head: FileHead, segments: &[Segment]) -> Vec<u64> {
    let mut generations = vec![0; head.segments as usize];
    for Segment { segment, head, .. } in segments {
        generations[*segment as usize] = head.generation;
    }
    generations
}

/// The moments, for a report.
fn moments(file: &dyn DiskFile, boot: Option<[u8; 16]>) -> io::Result<(Tid, Tid)> {
    let moments = Moments::read(file)?;
    Ok((moments.head(boot), moments.durable.tid))
}
