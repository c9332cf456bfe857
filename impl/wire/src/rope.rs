//! Bytes to be sent.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use vellum_pickle::Sink;

/// Shorter bytes are copied: sending them apart costs more.
const SHARED_MIN: usize = 4 << 10;

/// Bytes to be sent, frame after frame. Large ones are shared with the rest of the program, all others are copied here,
/// so that many small frames go out in one write.
///
/// ```text
///   ┌ own ────────────────────┬ shared ──────────────┬ own ─────────────────────────┐
///   │ length ".reply" (...    │ a record of 64 MiB   │ ...). length ".reply" ...    │
///   └─────────────────────────┴──────────────────────┴──────────────────────────────┘
/// ```
#[derive(Debug, Default)]
pub struct Rope {
    parts: VecDeque<Part>,
    length: usize,
}

#[derive(Debug)]
enum Part {
    Own(BytesMut),
    Shared(Bytes),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Own(bytes) => bytes,
            Part::Shared(bytes) => bytes,
        }
    }
}

impl Rope {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether all of it was sent.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a frame of what `write` writes. If that fails, nothing of it is here.
    ///
    /// # Errors
    ///
    /// Builds a rope with `write`.
    ///
    /// # Panics
    ///
    /// When a frame has 4 GiB or more.
    pub fn frame<E>(&mut self, write: impl FnOnce(&mut Rope) -> Result<(), E>) -> Result<(), E> {
        let before = self.length;
        self.own();
        let first = self.parts.len() - 1;
        let at = self.parts[first].bytes().len();
        self.extend_from_slice(&[0; 4]);
        let written = write(self);
        if written.is_err() {
            self.parts.truncate(first + 1);
        }
        let size = self.length - before - 4;
        if let Some(Part::Own(own)) = self.parts.get_mut(first) {
            if written.is_ok() {
                let size = u32::try_from(size).expect("a frame has less than 4 GiB");
                own[at..at + 4].copy_from_slice(&size.to_be_bytes());
            } else {
                own.truncate(at);
                self.length = before;
            }
        }
        written
    }

    /// The last part, which can be written to.
    fn own(&mut self) -> &mut BytesMut {
        if !matches!(self.parts.back(), Some(Part::Own(_))) {
            self.parts.push_back(Part::Own(BytesMut::new()));
        }
        match self.parts.back_mut() {
            Some(Part::Own(own)) => own,
            _ => unreachable!("it was just made"),
        }
    }
}

impl Sink for Rope {
    fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.own().extend_from_slice(bytes);
        self.length += bytes.len();
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.extend_from_slice(bytes);
        }
        self.parts.push_back(Part::Shared(bytes.clone()));
        self.length += bytes.len();
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.parts.iter().map(Part::bytes).find(|bytes| !bytes.is_empty()).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = self.parts.iter().map(Part::bytes).filter(|bytes| !bytes.is_empty());
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(filled) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.length, "{count} bytes cannot be taken from {}", self.length);
        self.length -= count;
        loop {
            let is_last = self.parts.len() == 1;
            let Some(first) = self.parts.front_mut() else { return };
            let length = first.bytes().len();
            if count < length {
                match first {
                    Part::Own(bytes) => bytes.advance(count),
                    Part::Shared(bytes) => bytes.advance(count),
                }
                return;
            }
            count -= length;
            // An empty part of our own is kept for its memory.
            match first {
                Part::Own(own) if is_last => return own.clear(),
                _ => _ = self.parts.pop_front(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of these bytes.
    fn frame(rope: &mut Rope, bytes: &Bytes) {
        let write = |rope: &mut Rope| {
            rope.share(bytes);
            Ok::<_, ()>(())
        };
        rope.frame(write).unwrap();
    }

    fn bytes(mut rope: Rope) -> Vec<u8> {
        rope.copy_to_bytes(rope.remaining()).to_vec()
    }

    #[test]
    fn a_large_record_is_shared_and_counted() {
        let record = Bytes::from(vec![7; SHARED_MIN]);
        let mut rope = Rope::default();
        for _ in 0..2 {
            rope.frame(|rope| {
                rope.push(1);
                rope.share(&record);
                rope.push(2);
                Ok::<_, ()>(())
            })
            .unwrap();
        }
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(rope.chunks_vectored(&mut slices), 5, "own, shared, own, shared, own");
        assert_eq!(slices[1].as_ptr(), record.as_ptr(), "not copied");
        let frame = [&[0, 0, 0x10, 2, 1], &record[..], &[2]].concat();
        assert_eq!(bytes(rope), [&frame[..], &frame].concat());
    }

    #[test]
    fn a_frame_that_cannot_be_written_leaves_nothing() {
        let record = Bytes::from(vec![7; SHARED_MIN]);
        let mut rope = Rope::default();
        frame(&mut rope, &Bytes::from_static(&[1]));
        let fails = |rope: &mut Rope| {
            rope.share(&record);
            rope.push(2);
            Err("no")
        };
        assert_eq!(rope.frame(fails), Err("no"));
        frame(&mut rope, &Bytes::from_static(&[3]));
        assert_eq!(bytes(rope), [0, 0, 0, 1, 1, 0, 0, 0, 1, 3]);
    }

    #[test]
    fn it_can_be_sent_in_any_pieces() {
        let record = Bytes::from((0..SHARED_MIN).map(|n| n as u8).collect::<Vec<_>>());
        for step in [1, 3, 4096, 5000] {
            let mut rope = Rope::default();
            frame(&mut rope, &record);
            frame(&mut rope, &Bytes::from_static(&[9]));
            let mut sent = Vec::new();
            while !rope.is_empty() {
                let now = rope.chunk().len().min(step);
                sent.extend_from_slice(&rope.chunk()[..now]);
                rope.advance(now);
            }
            assert_eq!(sent, [&[0, 0, 0x10, 0], &record[..], &[0, 0, 0, 1, 9]].concat());
        }
    }
}
