//! The values of the tables, as bytes. [docs/table.md](../../../docs/table.md) has the layout.
//!
//! A row comes from a disk, so any bytes may be in it: reading one never panics, and says what is wrong.

use bytes::Bytes;
use vellum_storage::{Oid, Status, Tid};

/// A revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its number: later revisions have greater ones. Never 0.
    pub number: u64,
    /// The number under which its data is; 0 for a tombstone.
    pub data: u64,
    /// The transaction of the revision whose data, or whose tombstone, it shares.
    pub source: Option<Tid>,
    /// In a version: the transaction of its base revision.
    pub base: Option<Tid>,
    /// The number of its version; 0 on the trunk.
    pub version: u32,
    /// Whether it was copied as a packed one.
    pub is_packed: bool,
}

/// The bits of a row's first byte: which fields follow the number.
mod bits {
    pub const DATA: u8 = 1;
    pub const OTHER_DATA: u8 = 2;
    pub const SOURCE: u8 = 4;
    pub const BASE: u8 = 8;
    pub const VERSION: u8 = 16;
    pub const PACKED: u8 = 32;
    pub const ALL: u8 = 63;
}

impl Row {
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        let mut rest = Vec::new();
        match self.data {
            0 => {}
            own if own == self.number => flags |= bits::DATA,
            other => {
                flags |= bits::OTHER_DATA;
                rest.extend(other.to_be_bytes());
            }
        }
        for (bit, tid) in [(bits::SOURCE, self.source), (bits::BASE, self.base)] {
            if let Some(tid) = tid {
                flags |= bit;
                rest.extend(tid.to_bytes());
            }
        }
        if self.version != 0 {
            flags |= bits::VERSION;
            rest.extend(self.version.to_be_bytes());
        }
        if self.is_packed {
            flags |= bits::PACKED;
        }
        let mut row = vec![flags];
        row.extend(self.number.to_be_bytes());
        row.extend(rest);
        row
    }

    pub fn decode(bytes: &[u8]) -> Result<Row, &'static str> {
        let mut reader = Reader(bytes);
        let flags = reader.take::<1>()?[0];
        if flags & !bits::ALL != 0 || flags & (bits::DATA | bits::OTHER_DATA) == bits::DATA | bits::OTHER_DATA {
            return Err("its first byte has bits that mean nothing");
        }
        let has = |bit: u8| flags & bit != 0;
        let number = reader.number()?;
        let data = if has(bits::DATA) {
            number
        } else if has(bits::OTHER_DATA) {
            reader.number()?
        } else {
            0
        };
        let source = if has(bits::SOURCE) { Some(Tid(reader.number()?)) } else { None };
        let base = if has(bits::BASE) { Some(Tid(reader.number()?)) } else { None };
        let version = if has(bits::VERSION) { u32::from_be_bytes(*reader.take()?) } else { 0 };
        reader.end()?;
        if number == 0 {
            return Err("its number is 0");
        }
        if data > number || (has(bits::OTHER_DATA) && (data == 0 || data == number)) {
            return Err("its data has an impossible number");
        }
        if (base.is_some() || has(bits::VERSION)) && version == 0 {
            return Err("it has a base, or says that it is in a version, and names none");
        }
        Ok(Row { number, data, source, base, version, is_packed: has(bits::PACKED) })
    }
}

/// The newest revision of an object: its transaction before the row.
pub(crate) fn encode_newest(tid: Tid, row: &Row) -> Vec<u8> {
    let mut bytes = tid.to_bytes().to_vec();
    bytes.extend(row.encode());
    bytes
}

pub(crate) fn decode_newest(bytes: &[u8]) -> Result<(Tid, Row), &'static str> {
    let (tid, row) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
    Ok((Tid::from_bytes(*tid), Row::decode(row)?))
}

/// A transaction: its metadata, and its revisions in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub status: Status,
    pub user: Bytes,
    pub description: Bytes,
    pub extension: Bytes,
    /// Each object with the number of the revision.
    pub revisions: Vec<(Oid, u64)>,
}

impl Head {
    pub fn encode(&self) -> Vec<u8> {
        let texts = [&self.user, &self.description, &self.extension];
        let length: usize = texts.iter().map(|text| 2 + text.len()).sum();
        let mut bytes = Vec::with_capacity(1 + length + 16 * self.revisions.len());
        bytes.push(self.status.byte());
        for text in texts {
            // `TransactionMeta::check` let no longer one through.
            bytes.extend((text.len() as u16).to_be_bytes());
            bytes.extend_from_slice(text);
        }
        for (oid, number) in &self.revisions {
            bytes.extend(oid.to_bytes());
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Head, &'static str> {
        let mut reader = Reader(bytes);
        let status = Status::from_byte(reader.take::<1>()?[0]).ok_or("its status is unknown")?;
        let mut texts = [Bytes::new(), Bytes::new(), Bytes::new()];
        for text in &mut texts {
            let length = u16::from_be_bytes(*reader.take()?);
            *text = Bytes::copy_from_slice(reader.bytes(usize::from(length))?);
        }
        let (pairs, rest) = reader.0.as_chunks::<16>();
        if !rest.is_empty() {
            return Err("its list of revisions ends in the middle of one");
        }
        let pair = |pair: &[u8; 16]| {
            let (oid, number) = pair.split_at(8);
            let number_of = |half: &[u8]| u64::from_be_bytes(half.try_into().unwrap_or_default());
            (Oid(number_of(oid)), number_of(number))
        };
        let revisions = pairs.iter().map(pair).collect();
        let [user, description, extension] = texts;
        Ok(Head { status, user, description, extension, revisions })
    }
}

/// Where a revision is: its object and its transaction.
pub(crate) fn encode_place(oid: Oid, tid: Tid) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&oid.to_bytes());
    bytes[8..].copy_from_slice(&tid.to_bytes());
    bytes
}

pub(crate) fn decode_place(bytes: &[u8]) -> Result<(Oid, Tid), &'static str> {
    let mut reader = Reader(bytes);
    let place = (Oid(reader.number()?), Tid(reader.number()?));
    reader.end()?;
    Ok(place)
}

/// The references of a record that may hide some (rule 4.10): it cannot be read to its end.
pub(crate) const UNTOLD: &[u8] = &[0xff];

/// The checksum before a record. The store does not check what it reads; and a damaged row could name another object's
/// record.
pub(crate) fn checksum(oid: Oid, number: u64, record: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&oid.to_bytes());
    hasher.update(&number.to_be_bytes());
    hasher.update(record);
    hasher.finalize().to_be_bytes()
}

const SHORT: &str = "it is too short";

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_be_bytes(*self.take()?))
    }

    fn end(&self) -> Result<(), &'static str> {
        if self.0.is_empty() { Ok(()) } else { Err("there is more behind its end") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn row()(
            number in 1..u64::MAX,
            data in prop_oneof![Just(None), any::<u64>().prop_map(Some)],
            source in proptest::option::of(any::<u64>().prop_map(Tid)),
            base in proptest::option::of(any::<u64>().prop_map(Tid)),
            version in prop_oneof![Just(0), any::<u32>()],
            is_packed: bool,
        ) -> Row {
            let data = data.map_or(0, |data| data % number + 1);
            Row { number, data, source, base: base.filter(|_| version != 0), version, is_packed }
        }
    }

    proptest! {
        #[test]
        fn a_row_is_read_as_it_was_written(row in row(), tid: u64) {
            prop_assert_eq!(Row::decode(&row.encode()), Ok(row));
            prop_assert_eq!(decode_newest(&encode_newest(Tid(tid), &row)), Ok((Tid(tid), row)));
        }

        #[test]
        fn a_head_is_read_as_it_was_written(
            user: Vec<u8>, description: Vec<u8>, revisions: Vec<(u64, u64)>,
        ) {
            let revisions = revisions.into_iter().map(|(oid, number)| (Oid(oid), number)).collect();
            let (user, description) = (user.into(), description.into());
            let head = Head { status: Status::Packed, user, description, extension: Bytes::new(), revisions };
            prop_assert_eq!(Head::decode(&head.encode()), Ok(head));
        }

        /// Each row has one form.
        #[test]
        fn other_bytes_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(row) = Row::decode(&bytes) {
                prop_assert_eq!(row.encode(), bytes.clone());
            }
            if let Ok(head) = Head::decode(&bytes) {
                prop_assert_eq!(head.encode(), bytes);
            }
        }
    }
}
