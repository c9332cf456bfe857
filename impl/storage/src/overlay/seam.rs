//! References across the seam: revisions above whose source or base revision is in the base.
//!
//! The scratch storage cannot say that: it forgets a source or a base revision that it does not have (rule 3.7). So the
//! overlay writes it down, in the same transaction, as the record of one further object, the *seam object*,
//! which it hides from its readers. The record is one as ZODB's are, so that any tool that walks over
//! the scratch storage can read it:
//!
//! ```text
//!   class    vellum.Seam
//!   state    bytes: for each such revision
//!     4   number of the revision in its transaction, from 0
//!     8   oid
//!     1   flags: 1 it has a source, 2 it has a base revision, 4 it is the object's last in the transaction
//!     8   the source: of a tombstone, the transaction whose tombstone it shares
//!     8   the base revision
//! ```
//! Numbers are big-endian.

use bytes::Bytes;

use crate::{Oid, Tid, TransactionRecord};

/// The object that the table is the record of. Oids that an [`Overlay`](super::Overlay) gives out are smaller.
pub(super) const SEAM: Oid = Oid(1 << 62);

const CLASS: &[u8] = b"\x80\x03cvellum\nSeam\nq\x00.";
const STATE: &[u8] = b"\x80\x03B";
const ENTRY: usize = 29;

const SOURCE: u8 = 1;
const BASE: u8 = 2;
const COUNTS: u8 = 4;

/// A revision that reaches across the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Across {
    /// Which one of its transaction.
    pub number: u32,
    pub oid: Oid,
    /// Whether it is the last one of its object in the transaction, which is the one that counts.
    pub counts: bool,
    pub source: Option<Tid>,
    pub base: Option<Tid>,
}

/// The record of the seam object.
pub(super) fn encode(entries: &[Across]) -> Bytes {
    let mut out = [CLASS, STATE].concat();
    // More than 2^27 entries would be a transaction of more objects than memory holds.
    out.extend_from_slice(&((entries.len() * ENTRY) as u32).to_le_bytes());
    for Across { number, oid, counts, source, base } in entries {
        let flag = |yes: bool, flag: u8| if yes { flag } else { 0 };
        let flags = flag(source.is_some(), SOURCE) | flag(base.is_some(), BASE) | flag(*counts, COUNTS);
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&oid.to_bytes());
        out.push(flags);
        out.extend_from_slice(&source.unwrap_or_default().to_bytes());
        out.extend_from_slice(&base.unwrap_or_default().to_bytes());
    }
    out.push(b'.');
    out.into()
}

/// Reads what [`encode`] wrote; none for anything else.
pub(super) fn decode(record: &[u8]) -> Option<Vec<Across>> {
    let (length, rest) = record.strip_prefix(CLASS)?.strip_prefix(STATE)?.split_first_chunk::<4>()?;
    let table = rest.strip_suffix(b".")?;
    if table.len() != u32::from_le_bytes(*length) as usize || !table.len().is_multiple_of(ENTRY) {
        return None;
    }
    table.chunks_exact(ENTRY).map(entry).collect()
}

fn entry(bytes: &[u8]) -> Option<Across> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    let (oid, rest) = rest.split_first_chunk::<8>()?;
    let (&flags, rest) = rest.split_first()?;
    let (source, rest) = rest.split_first_chunk::<8>()?;
    let base = rest.first_chunk::<8>()?;
    Some(Across {
        number: u32::from_be_bytes(*number),
        oid: Oid::from_bytes(*oid),
        counts: flags & COUNTS != 0,
        source: (flags & SOURCE != 0).then(|| Tid::from_bytes(*source)),
        base: (flags & BASE != 0).then(|| Tid::from_bytes(*base)),
    })
}

/// Takes the seam object out of a transaction of the scratch storage, and gives the revisions what it says of them.
///
/// Errors: a message, for an invalid record.
pub(super) fn unseam(transaction: &mut TransactionRecord) -> Result<Vec<Across>, &'static str> {
    let Some(place) = transaction.revisions.iter().rposition(|revision| revision.oid == SEAM) else {
        return Ok(Vec::new());
    };
    let record = transaction.revisions.remove(place).data.ok_or("the seam object is a tombstone")?;
    let entries = decode(&record).ok_or("the seam object is not as an overlay writes it")?;
    for across in &entries {
        let revision = transaction.revisions.get_mut(across.number as usize);
        let revision = revision.filter(|revision| revision.oid == across.oid);
        let revision = revision.ok_or("the seam object speaks of revisions that are not there")?;
        if across.source.is_some() && revision.data.is_some() {
            revision.source = across.source;
        }
        if across.base.is_some() {
            revision.base = across.base;
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_record_and_back() {
        let one = Across { number: 7, oid: Oid(3), counts: true, source: Some(Tid(9)), base: None };
        let table = [one, Across { counts: false, source: None, base: Some(Tid::MAX), ..one }];
        let record = encode(&table);
        assert_eq!(decode(&record).as_deref(), Some(&table[..]));
        assert_eq!(decode(&encode(&[])).as_deref(), Some(&[][..]));
        for cut in 0..record.len() {
            assert_eq!(decode(&record[..cut]), None);
        }
    }
}
