//! The file in pieces, for walks over all of it with its data.
//!
//! A long walk forward has threads that read ahead, so that copying out of the page cache, which takes most of the
//! time, is done beside the parsing. Callers get slices of the pieces; when all of
//! a piece's slices are dropped, as is the rule, its memory serves again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use vellum_disk::DiskFile;
use vellum_sync::Mutex;

use crate::read::ahead::Ahead;

/// The bytes that are read at once: small transactions share a piece.
const PIECE: u64 = 256 << 10;
/// Walks over less than this are done without threads.
const AHEAD_MIN: u64 = 4 << 20;

/// A reader of `start..end`, forwards or backwards.
#[derive(Debug)]
pub(crate) struct Pieces {
    file: Arc<dyn DiskFile>,
    end: u64,
    backwards: bool,
    /// Pieces in hand, in order and without a gap, each with its position.
    held: VecDeque<(u64, Bytes)>,
    ahead: Option<ReadAhead>,
}

/// The file from `start` on, read ahead in pieces.
struct ReadAhead {
    pieces: Ahead<io::Result<Bytes>>,
    /// Where the next piece starts.
    at: u64,
    /// Memory of pieces that are not used any more.
    empty: Arc<Mutex<Vec<BytesMut>>>,
}

impl ReadAhead {
    fn new(file: &Arc<dyn DiskFile>, start: u64, end: u64, threads: u64) -> ReadAhead {
        let empty: Arc<Mutex<Vec<BytesMut>>> = Arc::default();
        let (file, buffers) = (Arc::clone(file), Arc::clone(&empty));
        let pieces = Ahead::new((end - start).div_ceil(PIECE), threads, move |n| {
            let at = start + n * PIECE;
            let buffer = buffers.lock().pop();
            read_piece(&*file, at, PIECE.min(end - at), buffer.unwrap_or_default())
        });
        ReadAhead { pieces, at: start, empty }
    }

    fn next(&mut self) -> io::Result<(u64, Bytes)> {
        let piece = self.pieces.next().ok_or_else(|| io::Error::other("a thread that reads ahead is gone"))??;
        let at = self.at;
        self.at += piece.len() as u64;
        Ok((at, piece))
    }

    fn give_back(&mut self, piece: Bytes) {
        if let Ok(buffer) = piece.try_into_mut() {
            self.empty.lock().push(buffer);
        }
    }
}

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadAhead").field("at", &self.at).finish_non_exhaustive()
    }
}

fn read_piece(file: &dyn DiskFile, at: u64, length: u64, mut buffer: BytesMut) -> io::Result<Bytes> {
    buffer.resize(length as usize, 0);
    if file.read_full_at(&mut buffer, at)? < buffer.len() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
    }
    Ok(buffer.freeze())
}

impl Pieces {
    /// For a walk forwards from `start`.
    pub fn forwards(file: Arc<dyn DiskFile>, start: u64, end: u64) -> Pieces {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(4);
        let ahead = (end - start >= AHEAD_MIN).then(|| ReadAhead::new(&file, start, end, threads));
        Pieces { file, end, backwards: false, held: VecDeque::new(), ahead }
    }

    /// For a walk backwards from `end`.
    pub fn backwards(file: Arc<dyn DiskFile>, end: u64) -> Pieces {
        Pieces { file, end, backwards: true, held: VecDeque::new(), ahead: None }
    }

    /// Says that nothing before (walking backwards: after) `position` will be asked for again.
    pub fn done_with(&mut self, position: u64) {
        while let Some((at, piece)) = self.held.front() {
            if self.backwards || at + piece.len() as u64 > position {
                break;
            }
            let (_, piece) = self.held.pop_front().unwrap_or_default();
            if let Some(ahead) = &mut self.ahead {
                ahead.give_back(piece);
            }
        }
    }

    /// `length` bytes at `position`, which the caller made sure are before the end. On a forward walk, released bytes
    /// cannot be requested again.
    pub fn bytes(&mut self, position: u64, length: u64) -> io::Result<Bytes> {
        let to = position + length;
        if let Some(piece) = self.held_one(position, to) {
            return Ok(piece);
        }
        let Some(ahead) = &mut self.ahead else {
            let (at, size) = if self.backwards {
                // The bytes before are the ones needed next.
                let at = to.saturating_sub(PIECE).min(position);
                (at, to - at)
            } else {
                (position, length.max(PIECE.min(self.end - position)))
            };
            let old = self.held.pop_back().unwrap_or_default().1.try_into_mut().unwrap_or_default();
            self.held.clear();
            self.held.push_back((at, read_piece(&*self.file, at, size, old)?));
            return Ok(self.held_one(position, to).unwrap_or_default());
        };
        while self.held.back().is_none_or(|(at, piece)| at + (piece.len() as u64) < to) {
            self.held.push_back(ahead.next()?);
        }
        if let Some(piece) = self.held_one(position, to) {
            return Ok(piece);
        }
        // It lies across pieces.
        let mut joined = BytesMut::with_capacity(length as usize);
        for (at, piece) in &self.held {
            let end = at + piece.len() as u64;
            if end > position && *at < to {
                joined.extend_from_slice(&piece[(position.max(*at) - at) as usize..(to.min(end) - at) as usize]);
            }
        }
        Ok(joined.freeze())
    }

    fn held_one(&self, position: u64, to: u64) -> Option<Bytes> {
        let (at, piece) = self.held.iter().find(|(at, piece)| *at <= position && to <= at + piece.len() as u64)?;
        Some(piece.slice((position - at) as usize..(to - at) as usize))
    }
}
