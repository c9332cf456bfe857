//! The data file as it is once a journal is applied, for a reader that may not write.

use std::io;
use std::path::Path;
use std::sync::Arc;

use vellum_disk::DiskFile;

use super::found::Entry;

/// A data file, with the payloads of a journal in their places. It ends where the last one does.
#[derive(Debug)]
pub(crate) struct Overlaid {
    file: Arc<dyn DiskFile>,
    /// One behind the other; at least one.
    entries: Vec<Entry>,
}

impl Overlaid {
    pub fn new(file: Arc<dyn DiskFile>, entries: Vec<Entry>) -> Overlaid {
        assert!(!entries.is_empty(), "a journal without entries changes nothing");
        Overlaid { file, entries }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where the first payload begins.
    pub fn start(&self) -> u64 {
        self.entries.first().expect("there is one").header.position
    }

    /// Where the last payload ends.
    pub fn end(&self) -> u64 {
        self.entries.last().expect("there is one").header.end()
    }
}

impl DiskFile for Overlaid {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = self.start();
        if offset < start {
            let length = buf.len().min(usize::try_from(start - offset).unwrap_or(usize::MAX));
            return self.file.read_at(&mut buf[..length], offset);
        }
        let n = self.entries.partition_point(|entry| entry.header.end() <= offset);
        let Some(entry) = self.entries.get(n) else { return Ok(0) };
        let payload = &entry.payload[(offset - entry.header.position) as usize..];
        let length = buf.len().min(payload.len());
        buf[..length].copy_from_slice(&payload[..length]);
        Ok(length)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.end())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }
}
