//! The first bytes after the last complete transaction of a file.
//!
//! A commit that was never finished begins with a header that fits: a tid that is later than the last one, a length
//! that a transaction can have, and the status of an unfinished one. Only so much is believed. A crash can also leave
//! the sectors of the header unwritten, which are zeros then; but a disk that lost a finished commit leaves zeros as
//! well.
//!
//! ```text
//!   the header's bytes, without those in sectors of zeros    what it is
//!   ──────────────────────────────────────────────────────   ─────────────────────────────────────────────────────────
//!   a part of a header that fits, and its status, if it is   Header: a commit that never finished, or with another
//!       there, is c                                          status one of ZODB's that is not whole
//!   none: all of it is zeros                                 Blank: cannot be told
//!   anything else                                            Foreign: no commit begins so
//! ```

use std::io;

use vellum_storage::{Status, Tid};

use crate::format::scan::Scanner;
use crate::format::{POSITION_MAX, TransactionHeader, UNFINISHED, u64_at};

const SECTOR: u64 = 512;

/// The bytes where a transaction would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A header that fits, as far as it is there; and its status, if that is there.
    Header(Option<u8>),
    /// Zeros, where the header would be.
    Blank,
    /// Bytes with which no transaction after `last` begins.
    Foreign,
}

impl Ending {
    /// Looks at `position`, where no whole transaction stands. `last` is the tid of the last one before it.
    pub fn at(scanner: &mut Scanner<'_>, position: u64, last: Tid) -> io::Result<Ending> {
        let boundary = (position / SECTOR + 1) * SECTOR;
        let header = scanner.bytes(position, TransactionHeader::SIZE)?.to_vec();
        let first = ((boundary - position) as usize).min(header.len());
        let is_blank = |scanner: &mut Scanner<'_>, from: u64, to: u64| -> io::Result<bool> {
            Ok(scanner.bytes(from, (to - from) as usize)?.iter().all(|byte| *byte == 0))
        };
        // The header's bytes that are in a sector which was written.
        let mut there = 0..header.len();
        if is_blank(scanner, position, boundary)? {
            there.start = first;
        }
        if first < header.len() && is_blank(scanner, boundary, boundary + SECTOR)? {
            there.end = first.max(there.start);
        }
        if there.is_empty() {
            return Ok(Ending::Blank);
        }
        let field = |from: usize, to: usize| (there.start <= from && to <= there.end).then(|| &header[from..to]);
        let status = field(16, 17).map(|status| status[0]);
        let fits = tid_fits(&header[..there.end.min(8)], there.start, last)
            && length_fits(&header[..there.end.min(16)], there.start)
            && status.is_none_or(|status| status == UNFINISHED || Status::from_byte(status).is_some());
        Ok(if fits { Ending::Header(status) } else { Ending::Foreign })
    }
}

/// Whether these first bytes can be those of a tid after `last`. The bytes before `from` were not written.
fn tid_fits(bytes: &[u8], from: usize, last: Tid) -> bool {
    if from > 0 {
        return true;
    }
    let mut eight = [0; 8];
    eight[..bytes.len()].copy_from_slice(bytes);
    let lowest = u64::from_be_bytes(eight);
    eight[bytes.len()..].fill(0xff);
    let highest = u64::from_be_bytes(eight);
    highest > last.0 && lowest <= latest(last)
}

/// No clock is that far ahead: the high half of a tid counts minutes, and this allows 200 years.
fn latest(last: Tid) -> u64 {
    const YEAR: u64 = 12 * 31 * 24 * 60;
    /// The year 2026.
    const AROUND_NOW: u64 = 126 * YEAR;
    ((last.0 >> 32).max(AROUND_NOW) + 200 * YEAR).min(u64::from(u32::MAX)) << 32
}

/// Whether these first 16 bytes of a header can have the length of a transaction in their second half.
fn length_fits(bytes: &[u8], from: usize) -> bool {
    let written = bytes.get(8.max(from)..).unwrap_or_default();
    if from <= 8 && bytes.len() == 16 {
        let length = u64_at(bytes, 8);
        return length >= TransactionHeader::SIZE as u64 && length <= POSITION_MAX;
    }
    // The two high bytes of a position are zero.
    written.iter().take(10_usize.saturating_sub(8.max(from))).all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u64 = 0x040d_3a3c_0000_0000;

    fn header(tid: u64, length: u64, status: u8) -> Vec<u8> {
        [&tid.to_be_bytes()[..], &length.to_be_bytes(), &[status, 0, 0, 0, 0, 0, 0]].concat()
    }

    fn at(end: &[u8], position: usize) -> Ending {
        let disk = vellum_disk::SimDisk::new(1);
        let bytes = [&vec![7; position][..], end].concat();
        disk.write_file("file", &bytes);
        let file = vellum_disk::Disk::open(&disk, std::path::Path::new("file"), vellum_disk::Open::Read).unwrap();
        let mut scanner = Scanner::new(&*file, bytes.len() as u64);
        Ending::at(&mut scanner, position as u64, Tid(LAST)).unwrap()
    }

    #[test]
    fn only_a_header_that_fits_begins_a_commit() {
        let good = [header(LAST + 1, 400, b'c'), vec![1; 900]].concat();
        for position in [600, 1024 - 23, 1024 - 20, 1024 - 9, 1024 - 1, 1024] {
            for length in 1..good.len() {
                let expected = if length > 16 { Some(b'c') } else { None };
                assert_eq!(at(&good[..length], position), Ending::Header(expected), "{length} bytes at {position}");
            }
            for length in [1, 7, 8, 22, 23, 24, 600, 5000] {
                assert_eq!(at(&vec![0; length], position), Ending::Blank, "{length} zeros at {position}");
            }
            for (what, bytes) in [
                ("text", b"cccccccccccccccccccccccccccc".to_vec()),
                ("a word", b"hi".to_vec()),
                ("an older tid", header(LAST, 400, b'c')),
                ("a tid of the far future", header(1 << 62, 400, b'c')),
                ("too short", header(LAST + 1, 22, b'c')),
                ("too long", header(LAST + 1, 1 << 50, b'c')),
                ("no status", header(LAST + 1, 400, b'x')),
                ("ones", vec![0xff; 4000]),
            ] {
                let bytes = if bytes.len() < 8 { bytes } else { [bytes, vec![1; 2000]].concat() };
                assert_eq!(at(&bytes, position), Ending::Foreign, "{what} at {position}");
            }
        }
    }
}
