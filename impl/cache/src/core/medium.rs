//! Where the bytes of records are: in memory, or in a file.

use vellum_storage::{Oid, Tid};

use super::ghost::Region;
use super::slot::Place;

/// A record without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The object.
    pub oid: Oid,
    /// The transaction that wrote this revision.
    pub tid: Tid,
    /// The transaction that ended it. It counts only if the index says that the revision has ended: an end is written
    /// before the index is told.
    pub end: Option<Tid>,
    /// Where in the segment the data begin, in bytes; a multiple of 8.
    pub offset: u32,
    /// Bytes of data.
    pub length: u32,
    /// The medium's own: a checksum of the data.
    pub check: u32,
}

/// A write failed. The record is lost to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// The bytes of all segments.
///
/// Reads may happen while a write to the same place is under way. Then any bytes may be returned, and the core throws
/// them away; but no bytes may lead to a panic.
pub trait Medium: Send + Sync {
    /// Bytes that a header takes, at the beginning of its segment, behind those of the records before it.
    const HEADER_BYTES: u32;
    /// Bytes at the beginning of each segment that are the medium's own.
    const RESERVED_BYTES: u32 = 0;

    /// Writes a record.
    ///
    /// # Errors
    ///
    /// [`Failed`]: nothing of it may be read later.
    fn put(&self, place: Place, header: &Header, data: &[u8]) -> Result<(), Failed>;

    /// Reads a header; none if it is damaged.
    fn header(&self, place: Place) -> Option<Header>;

    /// Appends the data of a record to `data`; whether all of it could be read.
    fn data(&self, place: Place, header: &Header, data: &mut Vec<u8>) -> bool;

    /// Writes the end of a record.
    ///
    /// # Errors
    ///
    /// [`Failed`]: the medium never again says that it was told of a later transaction.
    fn end(&self, place: Place, header: &Header, end: Tid) -> Result<(), Failed>;

    /// The record at this place is not to be read later, though its header may be damaged.
    fn erase(&self, place: Place);

    /// The segment, which began anew or was never used, gets records of this region from now on. The small region's
    /// share, in 65,536ths of the cache, is noted with it. Both only help to choose the next victims.
    ///
    /// # Errors
    ///
    /// [`Failed`]: the segment gets no record now.
    fn assign(&self, segment: u32, region: Region, small_share: u16) -> Result<(), Failed>;

    /// The segment begins anew: none of its records may be read later.
    ///
    /// # Errors
    ///
    /// [`Failed`]: the segment cannot be used.
    fn begin(&self, segment: u32) -> Result<(), Failed>;

    /// All segments have begun anew, and the head is set, perhaps back. Nothing that was in them may be read later, not
    /// even after a power cut.
    fn begun_all(&self, head: Tid);

    /// Every change up to this transaction has been noted.
    fn told(&self, head: Tid);
}
