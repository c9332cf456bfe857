//! Records as they lie in a storage, and the two pickles in them.
//!
//! Some sites put a layer between ZODB and its storage that changes each record on its way. Two such layers are in use,
//! and the first two bytes of a record tell them apart from a pickle, none of which begins with a STOP:
//!
//! | begins with | written by | the rest |
//! |---|---|---|
//! | `.z` | zc.zlibstorage | a zlib stream; bytes after its end are ignored |
//! | `.e` | cipher.encryptingstorage | encrypted: unreadable without the key |
//!
//! [`plain()`] is the one place that knows this. All functions of this crate that take a record go through it, but
//! those that return borrowed parts of the record; they need plain bytes.
//!
//! A stream of a megabyte can describe a gigabyte. So the size of a plain record has a limit, and memory is allocated
//! as the stream is read, not before.

use std::borrow::Cow;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::{PickleError, Problem};

/// The most bytes that a record may have when it is no longer compressed: 512 MiB.
pub const PLAIN_BYTES_MAX: usize = 512 << 20;

/// Records that are not longer than this stay as they are: zc.zlibstorage's number.
const COMPRESSED_AFTER: usize = 20;

const PREFIX: &[u8] = b".z";
const ENCRYPTED: &[u8] = b".e";

/// Whether the record is one of zc.zlibstorage's, and begins with what its compressed records begin with.
pub fn is_compressed(record: &[u8]) -> bool {
    record.starts_with(PREFIX)
}

/// Whether the record is one of cipher.encryptingstorage's.
pub fn is_encrypted(record: &[u8]) -> bool {
    record.starts_with(ENCRYPTED)
}

/// The two pickles of a record, which are the record itself unless it is compressed.
///
/// ```
/// let record = [b"\x80\x03cmail\nMessage\nq\x00.\x80\x03C\x40", [7; 64].as_slice(), b"."].concat();
/// let stored = vellum_pickle::compressed(&record).expect("it becomes shorter");
/// assert!(stored.starts_with(b".z") && stored.len() < record.len());
/// assert_eq!(vellum_pickle::plain(&stored)?, record);
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When the record is encrypted; when its stream is damaged or cut; when it would become longer than
/// [`PLAIN_BYTES_MAX`].
pub fn plain(record: &[u8]) -> Result<Cow<'_, [u8]>, PickleError> {
    plain_within(record, PLAIN_BYTES_MAX)
}

/// The same with another limit, in bytes.
///
/// # Errors
///
/// As [`plain()`].
pub fn plain_within(record: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, PickleError> {
    let Some(stream) = stream_of(record)? else { return Ok(Cow::Borrowed(record)) };
    let mut out = Vec::new();
    inflate(&mut Decompress::new(true), stream, bytes_max, &mut out)?;
    // A stream of nothing is what zc.zlibstorage hands out as it is.
    Ok(if out.is_empty() { Cow::Borrowed(record) } else { Cow::Owned(out) })
}

/// The record compressed, as zc.zlibstorage does it. None if it stays as it is: it is short, or compressed already, or
/// would not become shorter.
pub fn compressed(record: &[u8]) -> Option<Vec<u8>> {
    if record.len() <= COMPRESSED_AFTER || is_compressed(record) {
        return None;
    }
    let mut out = Vec::with_capacity(record.len());
    out.extend_from_slice(PREFIX);
    let mut state = Compress::new(Compression::default(), true);
    // The room is that of the record itself: if it does not do, nothing would be won.
    let ended = state.compress_vec(record, &mut out, FlushCompress::Finish).ok()? == Status::StreamEnd;
    (ended && out.len() < record.len()).then_some(out)
}

/// [`plain()`] for one record after the other, in the same memory.
#[derive(Debug, Default)]
pub(crate) struct Inflater {
    state: Option<Decompress>,
    out: Vec<u8>,
}

/// Room that is kept from one record to the next, in bytes.
const KEPT_MAX: usize = 1 << 20;

impl Inflater {
    pub(crate) fn plain<'r>(&'r mut self, record: &'r [u8]) -> Result<&'r [u8], PickleError> {
        let Some(stream) = stream_of(record)? else { return Ok(record) };
        if self.out.capacity() > KEPT_MAX {
            self.out = Vec::new();
        }
        let state = self.state.get_or_insert_with(|| Decompress::new(true));
        state.reset(true);
        inflate(state, stream, PLAIN_BYTES_MAX, &mut self.out)?;
        Ok(if self.out.is_empty() { record } else { &self.out })
    }
}

/// As much of the record's start as there is, but no more than `bytes_max` bytes. The record may be cut.
pub(crate) fn start(record: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, PickleError> {
    let Some(stream) = stream_of(record)? else { return Ok(Cow::Borrowed(record)) };
    let mut out = Vec::new();
    let _ = inflate(&mut Decompress::new(true), stream, bytes_max, &mut out);
    out.truncate(bytes_max);
    Ok(Cow::Owned(out))
}

/// The stream in a record that is compressed.
fn stream_of(record: &[u8]) -> Result<Option<&[u8]>, PickleError> {
    if is_encrypted(record) {
        return Err(PickleError { offset: 0, opcode: None, problem: Problem::Encrypted });
    }
    Ok(record.strip_prefix(PREFIX))
}

/// Reads a zlib stream to its end. After an error, `out` has the bytes before it.
fn inflate(state: &mut Decompress, stream: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), PickleError> {
    const ROOM_MIN: usize = 4 << 10;
    out.clear();
    loop {
        if out.len() == out.capacity() {
            // As much again as there is, and never more than shows that the limit is passed.
            let room = out.len().max(stream.len()).max(ROOM_MIN);
            out.reserve_exact(room.min((bytes_max - out.len()).saturating_add(1)));
        }
        let (read, wrote) = (state.total_in() as usize, out.len());
        let status = state.decompress_vec(&stream[read..], out, FlushDecompress::None);
        let position = state.total_in() as usize;
        let flaw = |problem| Err(PickleError { offset: PREFIX.len() + position, opcode: None, problem });
        if out.len() > bytes_max {
            return flaw(Problem::Inflated(bytes_max as u64));
        }
        match status {
            Err(_) => return flaw(Problem::Stream("is damaged")),
            Ok(Status::StreamEnd) => return Ok(()),
            Ok(_) if position == read && out.len() == wrote => return flaw(Problem::Stream("ends too early")),
            Ok(_) => {}
        }
    }
}
