//! A last transaction that is marked as finished, and cut by the end of the file.
//!
//! A copy that was made during a commit ends so, and so does a file that lost its end. A length that was damaged looks
//! alike from the header, but not from the records: in a transaction that is cut, all existing bytes agree with the
//! format, and the file ends inside a record, or inside the length's twin.

use std::io;

use vellum_storage::Status;

use super::recovery::CutShort;
use super::walk::{Broken, Found};
use crate::format::fault::{Fault, FaultKind};
use crate::format::scan::Scanner;
use crate::format::{RecordHeader, TransactionHeader};

/// The last transaction, if the file was cut within it.
pub(super) fn cut_short(scanner: &mut Scanner<'_>, found: &Found) -> Option<CutShort> {
    let Found::Damaged(Broken { position, fault: Fault { ref kind, .. }, next: None }) = *found else { return None };
    if !matches!(kind, FaultKind::CutOff { .. } | FaultKind::HeaderCutOff { .. }) {
        return None;
    }
    let bytes = scanner.bytes(position, TransactionHeader::SIZE).ok()?;
    // As far as it is there: the lengths of its texts come last.
    let status = Status::from_byte(*bytes.get(TransactionHeader::STATUS_AT as usize)?)?;
    let mut whole = [0; TransactionHeader::SIZE];
    whole[..bytes.len()].copy_from_slice(bytes);
    let is_whole = bytes.len() == whole.len();
    let header = TransactionHeader::parse(&whole);
    let is_cut =
        header.length >= header.records_at() && (!is_whole || agrees(scanner, position, &header, status).ok()?);
    is_cut.then_some(CutShort { tid: header.tid, length: header.length + 8 })
}

/// Whether all that is there of the transaction agrees with the format.
fn agrees(scanner: &mut Scanner<'_>, position: u64, header: &TransactionHeader, status: Status) -> io::Result<bool> {
    let (size, end) = (scanner.end(), position + header.length);
    let mut at = if status == Status::Undone { end } else { position + header.records_at() };
    if at > size {
        return Ok(true);
    }
    while at < end {
        if end - at < RecordHeader::SIZE as u64 {
            return Ok(false);
        }
        if at + RecordHeader::SIZE as u64 > size {
            // The twin of a lesser length stands where another record would: then the length is wrong.
            let rest = scanner.bytes(at, RecordHeader::SIZE)?;
            return Ok(rest != (at - position).to_be_bytes());
        }
        let record = RecordHeader::parse(scanner.bytes(at, RecordHeader::SIZE)?);
        let next = record.length().and_then(|length| at.checked_add(length)).filter(|next| *next <= end);
        match next {
            Some(next) if record.transaction == position && record.tid == header.tid => at = next,
            _ => return Ok(false),
        }
        if at > size {
            return Ok(true);
        }
    }
    let twin = header.length.to_be_bytes();
    let there = scanner.bytes(end, twin.len())?;
    Ok(twin.starts_with(there))
}
