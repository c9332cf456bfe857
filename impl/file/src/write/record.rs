//! The records of a transaction's writes, and their size in the file.

use vellum_storage::{Content, TransactionMeta, Version, Write};

use crate::format::{RecordHeader, TransactionHeader};

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

/// Bytes of a record in this version with a body of this length.
pub(crate) fn record_length(version: &Version, body: u64) -> u64 {
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
