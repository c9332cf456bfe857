//! A record before it is in the file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{Error, Oid, Result, TransactionMeta, Version};

use crate::format::{RecordHeader, TransactionHeader};

/// What a record will hold.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Data(Bytes),
    /// In the transaction's scratch file.
    Spilled {
        offset: u64,
        length: u64,
    },
    /// What the record at this position holds; 0 for nothing.
    Shared(u64),
}

impl Body {
    pub const NOTHING: Body = Body::Shared(0);

    /// Bytes of data, or of the backpointer in their place.
    pub fn length(&self) -> u64 {
        match self {
            Body::Data(data) => data.len() as u64,
            Body::Spilled { length, .. } => *length,
            Body::Shared(_) => RecordHeader::BACKPOINTER_SIZE,
        }
    }

    /// What the record's header says of it: 0 for a backpointer.
    pub fn data_length(&self) -> u64 {
        if matches!(self, Body::Shared(_)) { 0 } else { self.length() }
    }
}

/// A record that will be written.
#[derive(Clone, Debug)]
pub(crate) struct NewRecord {
    pub oid: Oid,
    pub version: Version,
    /// In a version: the position of the trunk's record under it, 0 for none.
    pub under: u64,
    pub body: Body,
}

impl NewRecord {
    /// Bytes that it takes.
    pub fn length(&self) -> u64 {
        record_length(&self.version, &self.body)
    }
}

/// Bytes of a record in this version with this body.
pub(crate) fn record_length(version: &Version, body: &Body) -> u64 {
    let in_version = if version.is_trunk() { 0 } else { RecordHeader::VERSION_SIZE + version.name().len() as u64 };
    RecordHeader::SIZE as u64 + in_version + body.length()
}

/// Bytes of a transaction before its first record.
pub(crate) fn records_at(meta: &TransactionMeta) -> u64 {
    (TransactionHeader::SIZE + meta.user.len() + meta.description.len() + meta.extension.len()) as u64
}

/// All bytes of a transaction in which nothing is done.
pub(crate) fn bare_length(meta: &TransactionMeta) -> u64 {
    records_at(meta) + TransactionHeader::TWIN_SIZE
}

/// What was put into a scratch file beside the file at `path`.
pub(crate) fn spilled(path: &Path, scratch: Option<&Arc<dyn DiskFile>>, offset: u64, length: u64) -> Result<Bytes> {
    let io = |e| Error::io(path, "reading a scratch file", e);
    let missing = || io(std::io::ErrorKind::UnexpectedEof.into());
    let file = scratch.ok_or_else(missing)?;
    let mut data = vec![0; length as usize];
    match file.read_full_at(&mut data, offset).map_err(io)? == data.len() {
        true => Ok(data.into()),
        false => Err(missing()),
    }
}
