//! Where the copy is written to: a buffer, and behind it a thread that writes.
//!
//! The packing thread reads and decides, and a second thread writes, so that two cores are busy. A third thread, which
//! mostly waits, starts write-back early, because the disk is the bottleneck. With one thread, all of it happens in
//! turn.
//!
//! **Commits come first.** A commit's sync waits for all data that the disk got before. So from the first concurrent
//! commit on, the pack writes a little at a time, and syncs it before it writes more. The pack takes twice as long, and
//! commits stay quick. Only the first commit waits for the data before it.
//!
//! ```text
//!   copier ──full──▶ writer ──now and then──▶ beginner
//!      ▲───empty─────┘
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use vellum_disk::DiskFile;
use vellum_storage::{Error, Result};
use vellum_sync::thread::{self, JoinHandle};

use crate::read::log::Log;

/// A buffer goes to the disk when it has so many bytes; and how many there are.
const CHUNK: usize = 256 << 10;
const BUFFERS: usize = 3;

/// The excess of a buffer, as it is passed on only between records.
const ROOM: usize = 64 << 10;

/// The bytes that are written before write-back starts; and before they are synced, if other threads commit.
const BEGIN_BYTES: u64 = 4 << 20;
const SYNC_BYTES_BESIDE_COMMITS: u64 = 1 << 20;

/// So much may wait for a disk that has not begun with it.
const WAITING_MAX: u64 = 64 << 20;

pub(super) struct Sink {
    /// None: nothing is written, only counted.
    to: Option<(Arc<dyn DiskFile>, PathBuf)>,
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes.
    start: u64,
    pipe: Option<Pipe>,
    /// Where there is no pipe.
    unsynced: Option<Unsynced>,
}

struct Pipe {
    full: SyncSender<(u64, Vec<u8>)>,
    empty: Receiver<Vec<u8>>,
    writer: JoinHandle<io::Result<()>>,
}

/// Whether another thread has committed since the pack began, or commits now.
pub(super) type Committing = Arc<dyn Fn() -> bool + Send + Sync>;

/// Written bytes that are not on their way to the disk.
struct Unsynced {
    bytes: u64,
    committing: Committing,
}

impl Unsynced {
    /// Adds written bytes, and syncs them if a commit may have to wait.
    fn add(&mut self, file: &dyn DiskFile, bytes: usize) -> io::Result<()> {
        self.bytes += bytes as u64;
        if self.bytes >= SYNC_BYTES_BESIDE_COMMITS && (self.committing)() {
            file.sync()?;
            self.bytes = 0;
        }
        Ok(())
    }
}

impl Sink {
    /// Begins the file with these bytes.
    pub fn new(file: &Arc<dyn DiskFile>, path: &Path, first: &[u8], threads: u64, committing: Committing) -> Sink {
        let unsynced = || Unsynced { bytes: 0, committing: Arc::clone(&committing) };
        let pipe = if threads > 1 { Pipe::new(file, unsynced()) } else { None };
        let to = Some((Arc::clone(file), path.to_owned()));
        let (buffer, unsynced) = (Vec::with_capacity(CHUNK + ROOM), Some(unsynced()));
        let mut sink = Sink { to, buffer, start: 0, pipe, unsynced };
        sink.buffer.extend_from_slice(first);
        sink
    }

    /// Counts from this position on, and writes nothing.
    pub fn nowhere(start: u64) -> Sink {
        Sink { to: None, buffer: Vec::new(), start, pipe: None, unsynced: None }
    }

    pub fn is_nowhere(&self) -> bool {
        self.to.is_none()
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Takes bytes. Only now and then, when a whole record is in it, does it go to the disk.
    pub fn put(&mut self, bytes: &[u8]) {
        match self.to {
            Some(_) => self.buffer.extend_from_slice(bytes),
            None => self.start += bytes.len() as u64,
        }
    }

    /// Counts bytes that were not read.
    pub fn pass(&mut self, bytes: u64) {
        self.start += bytes;
    }

    /// Takes bytes of another file. Large ones are read piece by piece.
    pub fn put_from(&mut self, log: &Log, mut position: u64, length: u64) -> Result<()> {
        let end = position + length;
        while position < end {
            let piece = (end - position).min(CHUNK as u64) as usize;
            let at = self.buffer.len();
            self.buffer.resize(at + piece, 0);
            match log.file.read_full_at(&mut self.buffer[at..], position) {
                Ok(read) if read == piece => {}
                Ok(_) => return Err(log.unreadable(position, io::ErrorKind::UnexpectedEof.into())),
                Err(e) => return Err(log.unreadable(position, e)),
            }
            position += piece as u64;
            self.flush_if_full()?;
        }
        Ok(())
    }

    /// Between two records.
    pub fn flush_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Puts other bytes in the place of some that were taken.
    pub fn patch(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        match &self.to {
            None => Ok(()),
            Some(_) if position >= self.start => {
                let at = (position - self.start) as usize;
                self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Some(_) => self.write(position, bytes.to_vec()).map(drop),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let full = std::mem::take(&mut self.buffer);
        let (start, length) = (self.start, full.len() as u64);
        self.buffer = self.write(start, full)?;
        self.buffer.clear();
        self.start = start + length;
        Ok(())
    }

    /// Writes bytes, here or elsewhere, and gives back room for others.
    fn write(&mut self, position: u64, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let Some((file, _)) = &self.to else { return Ok(bytes) };
        let Some(pipe) = &self.pipe else {
            let written = file.write_at(&bytes, position).and_then(|()| match &mut self.unsynced {
                Some(unsynced) => unsynced.add(&**file, bytes.len()),
                None => Ok(()),
            });
            return match written {
                Ok(()) => Ok(bytes),
                Err(e) => Err(self.trouble("writing the packed file: is the disk full?", e)),
            };
        };
        // If the writer stopped receiving, it has failed.
        if pipe.full.send((position, bytes)).is_ok()
            && let Ok(room) = pipe.empty.recv()
        {
            return Ok(room);
        }
        self.join()?;
        Err(self.trouble("writing the packed file", io::Error::other("the thread that writes is gone")))
    }

    /// Waits for the other threads.
    fn join(&mut self) -> Result<()> {
        let Some(Pipe { full, empty, writer }) = self.pipe.take() else { return Ok(()) };
        drop((full, empty));
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(|e| self.trouble("writing the packed file: is the disk full?", e))
    }

    /// Everything is written and durable when it returns. From then on no other thread writes.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.join()?;
        match &self.to {
            None => Ok(()),
            Some((file, _)) => file.sync().map_err(|e| self.trouble("syncing the packed file", e)),
        }
    }

    fn trouble(&self, doing: &str, source: io::Error) -> Error {
        let path = self.to.as_ref().map(|(_, path)| path.clone()).unwrap_or_default();
        Error::io(path, format!("{doing} (nothing was packed: the database is as it was)"), source)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // No thread may write to it any more when it is removed.
        let _ = self.join();
    }
}

impl Pipe {
    /// None if there can be no thread.
    fn new(file: &Arc<dyn DiskFile>, mut unsynced: Unsynced) -> Option<Pipe> {
        let (full, to_write) = sync_channel::<(u64, Vec<u8>)>(BUFFERS);
        let (give_back, empty) = sync_channel(BUFFERS + 1);
        for _ in 1..BUFFERS {
            let _ = give_back.send(Vec::with_capacity(CHUNK + ROOM));
        }
        let file = Arc::clone(file);
        let writer = thread::Builder::new().spawn(move || {
            let (begin, begins) = sync_channel::<()>(0);
            let begun = Arc::clone(&file);
            let beginner = thread::Builder::new().spawn(move || begins.iter().try_for_each(|()| begun.begin_sync()));
            let written = to_write.iter().try_for_each(|(position, bytes)| {
                file.write_at(&bytes, position)?;
                unsynced.add(&*file, bytes.len())?;
                // If the thread is busy, the next call asks again; but not for ever.
                let is_taken = match unsynced.bytes {
                    0..BEGIN_BYTES => false,
                    BEGIN_BYTES..WAITING_MAX => begin.try_send(()).is_ok(),
                    _ => begin.send(()).is_ok(),
                };
                if is_taken {
                    unsynced.bytes = 0;
                }
                // The receiver may be gone.
                let _ = give_back.send(bytes);
                Ok(())
            });
            drop(begin);
            let begun = match beginner {
                Ok(beginner) => beginner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => Ok(()),
            };
            written.and(begun)
        });
        writer.ok().map(|writer| Pipe { full, empty, writer })
    }
}
