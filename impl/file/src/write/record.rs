//! What the writes of a transaction take in the file.

use std::io;
use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_storage::{Change, Content, Error, Limits, Result, Scratch, ScratchFile, TransactionMeta, Version, Write};

use crate::format::{RecordHeader, TransactionHeader};
use crate::write::writer::Writer;

/// A record that will be written: its base and its source are positions in the file.
pub(crate) type NewRecord = Write<u64>;

/// Bytes of data, or of the backpointer in their place.
fn body_length(content: &Content<u64>) -> u64 {
    match content {
        Content::Data(data) => data.len(),
        Content::Shared(_) | Content::Tombstone => RecordHeader::BACKPOINTER_SIZE,
    }
}

/// Bytes of data that the record's header names: 0 where a backpointer is.
pub(crate) fn data_length(content: &Content<u64>) -> u64 {
    if let Content::Data(data) = content { data.len() } else { 0 }
}

/// Whether its data waits in a scratch file.
pub(crate) fn is_spilled(record: &NewRecord) -> bool {
    matches!(&record.content, Content::Data(data) if data.in_memory().is_none())
}

/// Bytes that a record takes.
pub(crate) fn length(record: &NewRecord) -> u64 {
    record_length(&record.version, body_length(&record.content))
}

fn record_length(version: &Version, body: u64) -> u64 {
    let in_version = if version.is_trunk() { 0 } else { RecordHeader::VERSION_SIZE + version.name().len() as u64 };
    RecordHeader::SIZE as u64 + in_version + body
}

/// Bytes of a transaction before its first record.
pub(crate) fn records_at(meta: &TransactionMeta) -> u64 {
    (TransactionHeader::SIZE + meta.user.len() + meta.description.len() + meta.extension.len()) as u64
}

/// All bytes of a transaction in which nothing is done.
pub(crate) fn bare_length(meta: &TransactionMeta) -> u64 {
    records_at(meta) + TransactionHeader::TWIN_SIZE
}

impl Limits for Writer {
    /// Refuses a store over the quota at once, and keeps its oid from being given out.
    fn admit(&self, length: u64, change: &Change) -> Result<u64> {
        let Some((oid, version)) = change.target() else { return Ok(length) };
        let body = change.data().map_or(RecordHeader::BACKPOINTER_SIZE, |data| data.len());
        let length = length + record_length(version, body);
        self.database.within_quota(self.database.now().horizon.end() + length)?;
        if !matches!(change, Change::Delete { .. }) {
            self.oids.saw(oid);
        }
        Ok(length)
    }

    fn spill_after(&self) -> u64 {
        self.database.options.spill_after
    }

    fn scratch(&self) -> Result<Scratch> {
        let path = &self.database.path;
        let file = self.database.options.disk.scratch(path);
        let file = file.map_err(|e| Error::io(path, "writing a large transaction to a scratch file beside it", e))?;
        Ok(Scratch::new(path, Box::new(OnDisk(file))))
    }
}

/// A scratch file of our own disk, so that a simulated one can fail.
struct OnDisk(Arc<dyn DiskFile>);

impl ScratchFile for OnDisk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self.0.read_full_at(bytes, offset)? {
            read if read == bytes.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a scratch file is shorter than it was")),
        }
    }
}
