//! Memory for a record: for a large one straight from the system, which has it back as soon as the record is dropped.
//!
//! An allocator keeps freed memory for a while. After a record of 64 MiB that is 64 MiB for each thread that had
//! one, and a server would need three times the memory of its largest record.

use std::ops::{Deref, DerefMut};

use bytes::{Bytes, BytesMut};
use memmap2::{MmapMut, MmapOptions};

/// Zeroed memory that becomes the bytes of a record without being copied.
///
/// ```
/// use vellum_storage::RecordBuffer;
///
/// let mut buffer = RecordBuffer::zeroed(3);
/// buffer[1..].copy_from_slice(b"ab");
/// assert_eq!(buffer.freeze(), &b"\0ab"[..]);
/// ```
#[derive(Debug)]
pub struct RecordBuffer(Memory);

#[derive(Debug)]
enum Memory {
    Allocated(BytesMut),
    Mapped(MmapMut),
}

impl RecordBuffer {
    /// From so many bytes on memory comes straight from the system. It takes a page when that is first written to, so
    /// untouched pages cost only addresses.
    pub const LARGE: usize = 1 << 20;

    /// So many zeros.
    pub fn zeroed(length: usize) -> RecordBuffer {
        // Where the system gives no map, the allocator may still have something.
        let map = || MmapOptions::new().len(length).no_reserve_swap().map_anon().ok();
        let map = if length >= RecordBuffer::LARGE { map() } else { None };
        RecordBuffer(map.map_or_else(|| Memory::Allocated(BytesMut::zeroed(length)), Memory::Mapped))
    }

    /// The bytes, which do not change any more.
    pub fn freeze(self) -> Bytes {
        match self.0 {
            Memory::Allocated(bytes) => bytes.freeze(),
            Memory::Mapped(map) => Bytes::from_owner(map),
        }
    }
}

impl Deref for RecordBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Allocated(bytes) => bytes,
            Memory::Mapped(map) => map,
        }
    }
}

impl DerefMut for RecordBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Allocated(bytes) => bytes,
            Memory::Mapped(map) => map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_rooms_give_the_bytes_that_were_put_in() {
        for length in [0, 1, RecordBuffer::LARGE - 1, RecordBuffer::LARGE, RecordBuffer::LARGE + 1] {
            let mut buffer = RecordBuffer::zeroed(length);
            assert_eq!(buffer.len(), length);
            assert!(buffer.iter().all(|byte| *byte == 0));
            if let Some(last) = buffer.last_mut() {
                *last = 7;
            }
            let bytes = buffer.freeze();
            assert_eq!((bytes.len(), bytes.last()), (length, (length > 0).then_some(&7)));
        }
        assert!(matches!(RecordBuffer::zeroed(RecordBuffer::LARGE).0, Memory::Mapped(_)));
    }
}
