//! What a draft may take: the quota, and where its data waits.

use std::io;
use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_storage::{Change, Error, Limits, Result, Scratch, ScratchFile};

use crate::format::RecordHeader;
use crate::write::record::record_length;
use crate::write::writer::Writer;

impl Limits for Writer {
    /// Refuses a store over the quota at once, and keeps its oid from being given out.
    fn admit(&self, length: u64, change: &Change) -> Result<u64> {
        let Some((oid, version)) = change.target() else { return Ok(length) };
        if change.blob().is_some() {
            self.database.blobs()?;
        }
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
