//! The contents of a cache file, for people. The file is read, and never changed.

use std::io;
use std::path::Path;

use vellum_disk::{Disk, Open};
use vellum_storage::Tid;

use super::layout::Turn;
use super::medium::{FileMedium, Known};
use super::{FileHead, boot_id, generations, moments, scan};
use crate::core::{Medium, Place};

/// Whether the data are read, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thorough {
    /// The headers only.
    Headers,
    /// All records, against their checksums.
    Records,
}

/// The contents of a cache file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Segments.
    pub segments: u32,
    /// Segments that were used.
    pub segments_used: u32,
    /// All changes up to this transaction are noted, if the machine was not started again since.
    pub head: Tid,
    /// All changes up to this transaction are noted, whatever happens.
    pub durable: Tid,
    /// Revisions that have no end.
    pub open: u64,
    /// Revisions that have ended.
    pub ended: u64,
    /// Bytes of all records, without their headers.
    pub bytes: u64,
    /// Records whose data do not have their checksum. Only counted when the data are read.
    pub damaged: u64,
}

impl Report {
    /// Reads a file; none if it is not a cache file.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn read(disk: &dyn Disk, path: &Path, thorough: Thorough) -> io::Result<Option<Report>> {
        let file = disk.open(path, Open::Read)?;
        let Some(head @ FileHead { segment_bytes, segments }) = scan::file_head(&*file)? else { return Ok(None) };
        let (now, durable) = moments(&*file, boot_id())?;
        let found = scan::segments(&*file, head)?;
        let known = Known { generations: generations(head, &found), sequence: 0, moment: 0, turn: Turn::default() };
        let medium = FileMedium::new(file, head, None, 0, known);
        let file_bytes = head.file_bytes();
        let mut report = Report { file_bytes, segment_bytes, segments, head: now, durable, ..Report::default() };
        for segment in found {
            report.segments_used += u32::from(!segment.records.is_empty());
            for (number, header) in &segment.records {
                match header.end {
                    None => report.open += 1,
                    Some(_) => report.ended += 1,
                }
                report.bytes += u64::from(header.length);
                if thorough == Thorough::Records {
                    let place = Place { segment: segment.segment, number: *number };
                    report.damaged += u64::from(!medium.data(place, header, &mut Vec::new()));
                }
            }
        }
        Ok(Some(report))
    }
}
