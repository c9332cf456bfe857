//! The bytes of a `Data.fs`, each structure with how it is read beside how it is written. All integers are big-endian.
//!
//! ```text
//! file         "FS30" or "FS21", then transactions to the end
//!
//! transaction   0  tid                         8
//!               8  length                      8   from the start of this up to the second length
//!              16  status                      1   ' ' complete, 'p' packed, 'u' undone, 'c' not finished
//!              17  length of user              2
//!              19  length of description       2
//!              21  length of extension         2
//!              23  user, description, extension
//!                  data records
//!                  the same length again       8   so that one can walk backwards
//!
//! data record   0  oid                         8
//!               8  tid                         8
//!              16  previous record of the oid  8   position, 0 = none
//!              24  this transaction            8   position
//!              32  length of version name      2
//!              34  length of data              8
//!              42  if there is a version name:
//!                    newest trunk record       8   position, 0 = none
//!                    previous in this version  8   position, 0 = none
//!                    the name
//!                  the data, or if its length is 0:
//!                    the record whose data this shares   8   position, 0 = a tombstone
//! ```

pub(crate) mod beside;
pub(crate) mod fault;
pub(crate) mod pending;
pub(crate) mod record;
pub(crate) mod scan;

use vellum_storage::{Oid, Tid};

/// The first four bytes of a file that we make, and that ZODB makes under Python 3.
pub const MAGIC: [u8; 4] = *b"FS30";

/// Those of a file that ZODB made under Python 2. Nothing else is different; writes to such a file keep it
/// so.
pub const MAGIC_PYTHON_2: [u8; 4] = *b"FS21";

/// The position of the first transaction.
pub const START: u64 = MAGIC.len() as u64;

/// The status of a transaction that is written but not finished.
pub const UNFINISHED: u8 = b'c';

/// Positions above this do not fit the six bytes that indexes have for them: 256 TiB.
pub const POSITION_MAX: u64 = (1 << 48) - 1;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The big-endian number at `at`, which must be inside.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(eight)
}

/// The fixed part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionHeader {
    /// The transaction's identity and time.
    pub tid: Tid,
    /// Bytes from its start to the second length.
    pub length: u64,
    /// Its status, as the character in the file.
    pub status: u8,
    /// Bytes of user.
    pub user_length: u16,
    /// Bytes of description.
    pub description_length: u16,
    /// Bytes of extension.
    pub extension_length: u16,
}

impl TransactionHeader {
    /// Bytes of the fixed part.
    pub const SIZE: usize = 23;
    /// Where in it the status is.
    pub const STATUS_AT: u64 = 16;
    /// Bytes of the length again, behind the records.
    pub(crate) const TWIN_SIZE: u64 = 8;

    /// Reads it from at least [`Self::SIZE`] bytes.
    pub(crate) fn parse(bytes: &[u8]) -> TransactionHeader {
        TransactionHeader {
            tid: Tid(u64_at(bytes, 0)),
            length: u64_at(bytes, 8),
            status: bytes[16],
            user_length: u16_at(bytes, 17),
            description_length: u16_at(bytes, 19),
            extension_length: u16_at(bytes, 21),
        }
    }

    /// Appends it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tid.to_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
        out.push(self.status);
        out.extend_from_slice(&self.user_length.to_be_bytes());
        out.extend_from_slice(&self.description_length.to_be_bytes());
        out.extend_from_slice(&self.extension_length.to_be_bytes());
    }

    /// Bytes of user, description and extension.
    pub fn metadata_length(&self) -> u64 {
        u64::from(self.user_length) + u64::from(self.description_length) + u64::from(self.extension_length)
    }

    /// Where the next transaction begins, if this one is at `position`. Only for a header that was checked against the
    /// file: before that, its length may be any number.
    pub(crate) fn end(&self, position: u64) -> u64 {
        position + self.length + Self::TWIN_SIZE
    }

    /// Bytes before the first data record.
    pub fn records_at(&self) -> u64 {
        Self::SIZE as u64 + self.metadata_length()
    }
}

/// The fixed part of a data record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The object.
    pub oid: Oid,
    /// The transaction's tid, again.
    pub tid: Tid,
    /// The position of the object's previous record; 0 if there is none.
    pub previous: u64,
    /// The position of the transaction.
    pub transaction: u64,
    /// Bytes of the version's name; 0 on the trunk.
    pub version_length: u16,
    /// Bytes of data; 0 where a backpointer stands in their place.
    pub data_length: u64,
}

impl RecordHeader {
    /// Bytes of the fixed part.
    pub const SIZE: usize = 42;
    /// Bytes of the two positions before a version's name.
    pub const VERSION_SIZE: u64 = 16;
    /// Bytes of a backpointer.
    pub const BACKPOINTER_SIZE: u64 = 8;

    /// Reads it from at least [`Self::SIZE`] bytes.
    pub(crate) fn parse(bytes: &[u8]) -> RecordHeader {
        RecordHeader {
            oid: Oid(u64_at(bytes, 0)),
            tid: Tid(u64_at(bytes, 8)),
            previous: u64_at(bytes, 16),
            transaction: u64_at(bytes, 24),
            version_length: u16_at(bytes, 32),
            data_length: u64_at(bytes, 34),
        }
    }

    /// Appends it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.oid.to_bytes());
        out.extend_from_slice(&self.tid.to_bytes());
        out.extend_from_slice(&self.previous.to_be_bytes());
        out.extend_from_slice(&self.transaction.to_be_bytes());
        out.extend_from_slice(&self.version_length.to_be_bytes());
        out.extend_from_slice(&self.data_length.to_be_bytes());
    }

    /// Bytes before the data or the backpointer.
    pub fn body_at(&self) -> u64 {
        let version = u64::from(self.version_length);
        Self::SIZE as u64 + if version == 0 { 0 } else { Self::VERSION_SIZE + version }
    }

    /// Bytes of data, or of the backpointer in their place.
    pub fn body_length(&self) -> u64 {
        if self.data_length == 0 { Self::BACKPOINTER_SIZE } else { self.data_length }
    }

    /// Bytes of the whole record; none if the lengths are so wrong that no file could hold it.
    pub fn length(&self) -> Option<u64> {
        self.body_at().checked_add(self.body_length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_what_they_write() {
        let transaction = TransactionHeader {
            tid: Tid(1),
            length: 2,
            status: b'p',
            user_length: 3,
            description_length: 4,
            extension_length: 5,
        };
        let record =
            RecordHeader { oid: Oid(6), tid: Tid(7), previous: 8, transaction: 9, version_length: 10, data_length: 11 };
        let mut out = Vec::new();
        transaction.write(&mut out);
        assert_eq!(out.len(), TransactionHeader::SIZE);
        assert_eq!(TransactionHeader::parse(&out), transaction);
        out.clear();
        record.write(&mut out);
        assert_eq!(out.len(), RecordHeader::SIZE);
        assert_eq!(RecordHeader::parse(&out), record);
        assert_eq!(record.length(), Some(42 + 16 + 10 + 11));
        assert_eq!(RecordHeader { data_length: u64::MAX, ..record }.length(), None);
    }
}
