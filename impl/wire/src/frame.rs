//! A stream of bytes taken apart into frames.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use vellum_storage::RecordBuffer;

/// Frames above this many bytes get memory of their own, of just their size: a frame that is stored, or waits for a
/// disk, keeps nothing else in memory. ZEO's clients send blobs in frames of 58 KiB.
const LARGE: usize = 16 << 10;
/// So much memory the first bytes of a large frame get, if it is that long.
const FIRST: usize = 64 << 10;
/// Frames between this and [`FIRST`], as those of blobs, take memory that is used again.
const REUSED: usize = 48 << 10;
/// So much of that is kept for later, in frames.
const KEPT: usize = 64;

/// Memory for frames of almost 64 KiB, used again. Blobs arrive in such frames by thousands; they are read on some
/// threads and freed on others, and an allocator would keep much for each. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FrameMemory(Arc<Mutex<Vec<Vec<u8>>>>);

/// A frame in such memory.
#[derive(Debug)]
struct Reused {
    bytes: Vec<u8>,
    home: FrameMemory,
}

impl FrameMemory {
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Reused {
        let mut bytes = self.kept().pop().unwrap_or_else(|| Vec::with_capacity(FIRST));
        bytes.clear();
        Reused { bytes, home: self.clone() }
    }
}

impl AsRef<[u8]> for Reused {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut kept = self.home.kept();
        if kept.len() < KEPT {
            kept.push(bytes);
        }
    }
}
const LENGTH_SIZE: usize = 4;

/// Bytes that arrived, of which the complete frames can be taken.
///
/// ```
/// use vellum_wire::Frames;
///
/// let mut frames = Frames::new(1 << 20);
/// frames.push(b"\0\0\0\x02Z");
/// assert_eq!(frames.next_frame(), Ok(None));
/// frames.push(b"5\0\0");
/// assert_eq!(frames.next_frame(), Ok(Some("Z5".into())));
/// ```
#[derive(Debug)]
pub struct Frames {
    size_max: usize,
    small: BytesMut,
    large: Option<Large>,
    reused: FrameMemory,
}

/// A large frame of which not all has arrived.
#[derive(Debug)]
struct Large {
    memory: Memory,
    size: usize,
}

#[derive(Debug)]
enum Memory {
    /// Grows with what arrives.
    Growing(Vec<u8>),
    /// Has room for all of it, and was used before.
    Reused(Reused),
    /// Has room for all of it, though nothing but what arrived takes memory.
    Whole { buffer: RecordBuffer, filled: usize },
}

/// A frame longer than the limit. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {size} bytes was announced, and at most {size_max} are taken")]
pub struct FrameTooLarge {
    /// The size in its first four bytes.
    pub size: usize,
    /// The limit.
    pub size_max: usize,
}

impl Frames {
    /// An empty stream whose frames have at most `size_max` bytes each.
    pub fn new(size_max: usize) -> Frames {
        Frames::with_memory(size_max, FrameMemory::default())
    }

    /// The same, with memory that other streams use as well.
    pub fn with_memory(size_max: usize, reused: FrameMemory) -> Frames {
        Frames { size_max, small: BytesMut::new(), large: None, reused }
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if let Some(large) = &mut self.large {
            large.take(&mut bytes);
        }
        self.small.extend_from_slice(bytes);
    }

    /// Takes the next complete frame; none if more bytes are needed first.
    ///
    /// # Errors
    ///
    /// The next frame is longer than the limit. So it is from then on.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameTooLarge> {
        if let Some(large) = self.large.take_if(|large| large.filled() == large.size) {
            return Ok(Some(large.memory.freeze()));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let Some(length) = self.small.first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
        let size = u32::from_be_bytes(*length) as usize;
        if size > self.size_max {
            return Err(FrameTooLarge { size, size_max: self.size_max });
        }
        if self.small.len() - LENGTH_SIZE >= size {
            self.small.advance(LENGTH_SIZE);
            return Ok(Some(self.small.split_to(size).freeze()));
        }
        if size > LARGE {
            self.small.advance(LENGTH_SIZE);
            let memory = match size {
                REUSED..=FIRST => Memory::Reused(self.reused.take()),
                _ => Memory::Growing(Vec::new()),
            };
            let mut large = Large { memory, size };
            large.take(&mut &*self.small);
            self.large = Some(large);
            self.small.clear();
        }
        Ok(None)
    }

    /// Bytes that wait here for more.
    pub fn waiting(&self) -> usize {
        self.small.len() + self.large.as_ref().map_or(0, Large::filled)
    }
}

impl Large {
    fn filled(&self) -> usize {
        match &self.memory {
            Memory::Growing(bytes) => bytes.len(),
            Memory::Reused(reused) => reused.bytes.len(),
            Memory::Whole { filled, .. } => *filled,
        }
    }

    /// Takes what belongs to it. Its memory doubles with what arrives, and ends at exactly its size: the announced size
    /// alone costs nothing. A very large frame is not copied again and again for that.
    fn take(&mut self, bytes: &mut &[u8]) {
        let filled = self.filled();
        let missing = self.size - filled;
        let (mine, rest) = bytes.split_at(missing.min(bytes.len()));
        *bytes = rest;
        if let Memory::Growing(bytes) = &self.memory
            && filled + mine.len() > RecordBuffer::LARGE
        {
            let mut buffer = RecordBuffer::zeroed(self.size);
            buffer[..filled].copy_from_slice(bytes);
            self.memory = Memory::Whole { buffer, filled };
        }
        match &mut self.memory {
            Memory::Growing(bytes) => {
                if bytes.capacity() - filled < mine.len() {
                    bytes.reserve_exact(missing.min(mine.len().max(filled).max(FIRST)));
                }
                bytes.extend_from_slice(mine);
            }
            Memory::Reused(reused) => reused.bytes.extend_from_slice(mine),
            Memory::Whole { buffer, filled } => {
                buffer[*filled..][..mine.len()].copy_from_slice(mine);
                *filled += mine.len();
            }
        }
    }
}

impl Memory {
    fn freeze(self) -> Bytes {
        match self {
            Memory::Growing(bytes) => bytes.into(),
            Memory::Reused(reused) => Bytes::from_owner(reused),
            Memory::Whole { buffer, .. } => buffer.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_stream_is_cut(
            sizes in proptest::collection::vec(
                prop_oneof![8 => 0..40_usize, 8 => LARGE - 2..LARGE + 70_000, 1 => RecordBuffer::LARGE - 2..RecordBuffer::LARGE + 99],
                1..6,
            ),
            cuts in proptest::collection::vec(1..100_000_usize, 1..40),
        ) {
            let wanted: Vec<Bytes> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size].into()).collect();
            let mut stream = Vec::new();
            for frame in &wanted {
                stream.extend((frame.len() as u32).to_be_bytes());
                stream.extend_from_slice(frame);
            }
            let (mut frames, mut found, mut rest) = (Frames::new(8 << 20), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                frames.push(now);
                while let Some(frame) = frames.next_frame().unwrap() {
                    found.push(frame);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, wanted);
            prop_assert_eq!(frames.waiting(), 0);
        }
    }

    #[test]
    fn an_announced_size_costs_no_memory() {
        let mut frames = Frames::new(1 << 30);
        frames.push(&(1_u32 << 30).to_be_bytes());
        frames.push(&[7; 10]);
        assert_eq!(frames.next_frame(), Ok(None));
        frames.push(&[7; 100_000]);
        assert_eq!(frames.waiting(), 100_010);
        let grown = |large: Large| matches!(large.memory, Memory::Growing(bytes) if bytes.capacity() < 300_000);
        assert!(frames.large.is_some_and(grown));
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_length() {
        let mut frames = Frames::new(100);
        frames.push(&[0xff; 4]);
        let error = FrameTooLarge { size: 0xffff_ffff, size_max: 100 };
        assert_eq!(frames.next_frame(), Err(error));
        assert_eq!(frames.next_frame(), Err(error));
    }
}
