//! One entry of a journal, and the head of the file: the bytes, reading beside writing.
//!
//! ```text
//! head     0  "VELLJRN1"             8
//!          8  key                   32   random, of this file alone
//!         40  bytes of a half        8   a multiple of 4096
//!         48  checksum              32   BLAKE3 of the bytes before it
//!
//! entry    0  checksum              32   BLAKE3, keyed with the key, of all that follows up to the end of the payload
//!         32  number                 8   that of the entry before it plus one
//!         40  position               8   where in Data.fs the payload belongs
//!         48  length of payload      8   0: a retirement
//!         56  tid before             8   of the last transaction before the position
//!         64  last tid               8   of the last transaction of the payload; of a retirement, the tid before
//!         72  payload                    whole transactions, marked as finished
//!             zeros up to a multiple of 4096
//! ```
//!
//! All integers are big-endian. The head has the first 4096 bytes; the two halves follow.

use vellum_storage::Tid;

use crate::format::{POSITION_MAX, START, u64_at};

/// Entries begin at multiples of this: no write touches a block that holds an earlier entry. Drives write so many bytes
/// at once, whatever sectors they claim.
pub(crate) const BLOCK: u64 = 4096;

/// The first bytes of a journal.
pub(crate) const MAGIC: [u8; 8] = *b"VELLJRN1";

/// No half is larger: a reader holds both in memory.
pub(crate) const HALF_MAX: u64 = 32 << 20;

/// No payload is longer: to write a large batch twice costs more than to sync it twice. So a look at any place takes
/// bounded time.
pub(crate) const PAYLOAD_MAX: u64 = 1 << 20;

/// The head of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub key: [u8; 32],
    /// Bytes of a half.
    pub half: u64,
}

impl Head {
    const SIZE: usize = 80;

    /// Reads it from a block; none if the checksum does not fit.
    pub fn parse(block: &[u8]) -> Option<Head> {
        let (fields, checksum) = block.get(..Self::SIZE)?.split_at(48);
        let half = u64_at(fields, 40);
        let is_sound = fields[..8] == MAGIC && blake3::hash(fields).as_bytes() == checksum;
        let is_sound = is_sound && half.is_multiple_of(BLOCK) && half > 0 && half <= HALF_MAX;
        is_sound.then(|| Head { key: fields[8..40].try_into().expect("32 bytes"), half })
    }

    /// The block.
    pub fn block(&self) -> Vec<u8> {
        let mut block = [&MAGIC[..], &self.key, &self.half.to_be_bytes()].concat();
        let checksum = blake3::hash(&block);
        block.extend_from_slice(checksum.as_bytes());
        block.resize(BLOCK as usize, 0);
        block
    }

    /// Where half 0 or 1 begins.
    pub fn start(&self, half: u64) -> u64 {
        BLOCK + half * self.half
    }

    /// Bytes of the file.
    pub fn file_length(&self) -> u64 {
        BLOCK + 2 * self.half
    }
}

/// The fixed part of an entry, without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub number: u64,
    pub position: u64,
    pub length: u64,
    pub before: Tid,
    pub last: Tid,
}

impl EntryHeader {
    /// Bytes of the fixed part, with the checksum.
    pub const SIZE: usize = 72;
    const CHECKSUM: usize = 32;

    /// The entry at the beginning of `bytes`; none if there is none, or not all of it. `bytes` ends where the half
    /// does.
    pub fn parse<'a>(bytes: &'a [u8], key: &[u8; 32]) -> Option<(EntryHeader, &'a [u8])> {
        let fixed = bytes.get(..Self::SIZE)?;
        let header = EntryHeader {
            number: u64_at(fixed, 32),
            position: u64_at(fixed, 40),
            length: u64_at(fixed, 48),
            before: Tid(u64_at(fixed, 56)),
            last: Tid(u64_at(fixed, 64)),
        };
        // Before anything else: it may be any number.
        if header.length > PAYLOAD_MAX {
            return None;
        }
        let end = (Self::SIZE as u64).checked_add(header.length).filter(|&end| end <= bytes.len() as u64)?;
        let (checksum, covered) = bytes[..end as usize].split_at(Self::CHECKSUM);
        let fits = blake3::keyed_hash(key, covered).as_bytes() == checksum && header.is_possible();
        fits.then(|| (header, &bytes[Self::SIZE..end as usize]))
    }

    fn is_possible(&self) -> bool {
        let end = self.position.checked_add(self.length);
        self.number > 0 && self.position >= START && end.is_some_and(|end| end <= POSITION_MAX)
    }

    /// Whether it says that the data file has everything before its position.
    pub fn is_retirement(&self) -> bool {
        self.length == 0
    }

    /// Where its payload ends in the data file.
    pub fn end(&self) -> u64 {
        self.position + self.length
    }

    /// Bytes that it takes in the journal.
    pub fn room(&self) -> u64 {
        room(self.length)
    }

    /// Makes an entry of a payload that has [`Self::SIZE`] bytes of any kind before it.
    pub fn seal(&self, key: &[u8; 32], entry: &mut Vec<u8>) {
        debug_assert_eq!(entry.len() as u64, Self::SIZE as u64 + self.length, "the payload is as long as was said");
        let fields = [self.number, self.position, self.length, self.before.0, self.last.0];
        for (n, field) in fields.iter().enumerate() {
            entry[32 + 8 * n..40 + 8 * n].copy_from_slice(&field.to_be_bytes());
        }
        let checksum = blake3::keyed_hash(key, &entry[Self::CHECKSUM..]);
        entry[..Self::CHECKSUM].copy_from_slice(checksum.as_bytes());
        entry.resize(self.room() as usize, 0);
    }
}

/// Bytes that an entry with a payload of `length` takes in the journal.
pub(crate) fn room(length: u64) -> u64 {
    (EntryHeader::SIZE as u64 + length).next_multiple_of(BLOCK)
}

/// Gives a journal the checksums that its bytes call for: the head's, and that of each entry as far as the lengths
/// lead. For a fuzzer, which cannot guess them.
pub fn seal(journal: &mut [u8]) {
    let Some(head) = journal.get(..Head::SIZE) else { return };
    let checksum = *blake3::hash(&head[..48]).as_bytes();
    journal[48..Head::SIZE].copy_from_slice(&checksum);
    let Some(head) = Head::parse(journal) else { return };
    for half in 0..2 {
        let (mut at, end) = (head.start(half), head.start(half + 1).min(journal.len() as u64));
        while at + EntryHeader::SIZE as u64 <= end {
            let length = u64_at(journal, at as usize + 48);
            let covered = (at + EntryHeader::SIZE as u64).checked_add(length).filter(|&covered| covered <= end);
            let Some(covered) = covered else { break };
            let entry = &mut journal[at as usize..covered as usize];
            let checksum = *blake3::keyed_hash(&head.key, &entry[EntryHeader::CHECKSUM..]).as_bytes();
            entry[..EntryHeader::CHECKSUM].copy_from_slice(&checksum);
            at += room(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [9; 32];

    fn sealed(payload: &[u8], number: u64) -> Vec<u8> {
        let mut entry = vec![0; EntryHeader::SIZE];
        entry.extend_from_slice(payload);
        let length = payload.len() as u64;
        EntryHeader { number, position: 4, length, before: Tid(5), last: Tid(6) }.seal(&KEY, &mut entry);
        entry
    }

    #[test]
    fn an_entry_reads_what_it_writes_and_nothing_else() {
        let payload: Vec<u8> = (0..5000).map(|n| n as u8).collect();
        let entry = sealed(&payload, 7);
        assert_eq!(entry.len() as u64, 2 * BLOCK);
        let (header, read) = EntryHeader::parse(&entry, &KEY).unwrap();
        assert_eq!((header.number, header.position, header.before, header.last), (7, 4, Tid(5), Tid(6)));
        assert_eq!(read, payload);
        assert_eq!(EntryHeader::parse(&entry, &[8; 32]), None, "with the key of another journal");
        for at in 0..EntryHeader::SIZE + payload.len() {
            let mut changed = entry.clone();
            changed[at] ^= 1;
            assert_eq!(EntryHeader::parse(&changed, &KEY), None, "byte {at} was changed");
        }
        for length in 0..EntryHeader::SIZE + payload.len() {
            assert_eq!(EntryHeader::parse(&entry[..length], &KEY), None, "cut at {length}");
        }
    }

    #[test]
    fn a_head_reads_what_it_writes_and_nothing_else() {
        let head = Head { key: KEY, half: 4 * BLOCK };
        let block = head.block();
        assert_eq!(block.len() as u64, BLOCK);
        assert_eq!(Head::parse(&block), Some(head));
        for at in 0..Head::SIZE {
            let mut changed = block.clone();
            changed[at] ^= 1;
            assert_eq!(Head::parse(&changed), None, "byte {at} was changed");
        }
        for half in [0, 1, BLOCK + 1, HALF_MAX + BLOCK, u64::MAX] {
            assert_eq!(Head::parse(&Head { key: KEY, half }.block()), None, "a half of {half} bytes");
        }
    }

    #[test]
    fn a_sealed_journal_can_be_read() {
        let head = Head { key: KEY, half: 3 * BLOCK };
        let mut journal = [head.block(), sealed(&[1; 5000], 1), sealed(&[], 2), sealed(&[2; 10], 3)].concat();
        journal.resize(head.file_length() as usize, 0);
        let whole = journal.clone();
        seal(&mut journal);
        // Zeros between entries get checksums, too: a reader refuses them by their number.
        for (n, at) in [BLOCK, 3 * BLOCK, 4 * BLOCK].into_iter().enumerate() {
            assert_eq!(journal[at as usize..][..100], whole[at as usize..][..100], "entry {n}");
        }
    }
}
