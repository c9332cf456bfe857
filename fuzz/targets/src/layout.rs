//! A second reader of `docs/format.md`, slow and plain, that says whether a file keeps the rules of the format.
//!
//! The engine finds damage by walking, with an index beside it, on several cores, and continues after it. Here one
//! function reads from the first byte to the last, looks everything up in maps, and stops at the first thing that is
//! wrong. Where the two do not agree whether a file is whole, one of them is wrong.

use std::collections::HashMap;

/// A transaction of a file.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Where it begins, and where the next one does.
    pub start: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Its tid.
    pub tid: u64,
    /// Its status.
    pub status: u8,
    /// User, description and extension.
    pub metadata: [Vec<u8>; 3],
    /// Its records.
    pub records: Vec<Record>,
}

/// A record of a transaction.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it begins.
    pub start: u64,
    /// The object.
    pub oid: u64,
    /// Where the object's record before this is.
    pub previous: u64,
    /// The fields that only a record in a version has.
    pub version: Option<InVersion>,
    /// The data; or none.
    pub data: Vec<u8>,
    /// Where the data is, if there is none.
    pub backpointer: u64,
}

/// The fields that only a record in a version has.
#[derive(Clone, Debug)]
pub struct InVersion {
    /// Where the trunk's record is.
    pub trunk: u64,
    /// Where the version's record before this is.
    pub previous: u64,
    /// Its name.
    pub name: Vec<u8>,
}

/// The bytes there.
fn bytes(file: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    file.get(usize::try_from(at).ok()?..usize::try_from(at.checked_add(length)?).ok()?)
}

/// The number there.
fn number(file: &[u8], at: u64, width: u64) -> Option<u64> {
    Some(bytes(file, at, width)?.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

/// The contents of a file; none if anything in it breaks the format, if a transaction was never finished, or if one has
/// the old status `u`. Transactions may be in any order of their tids.
pub fn parse(file: &[u8]) -> Option<Vec<Transaction>> {
    if !matches!(file.get(..4)?, b"FS21" | b"FS30") {
        return None;
    }
    let (mut transactions, mut at) = (Vec::new(), 4);
    let mut newest: HashMap<u64, u64> = HashMap::new();
    let mut records_at: HashMap<u64, (u64, Vec<u8>)> = HashMap::new();
    while at < file.len() as u64 {
        let (tid, length, status) = (number(file, at, 8)?, number(file, at + 8, 8)?, number(file, at + 16, 1)? as u8);
        let end = at.checked_add(length)?;
        if !matches!(status, b' ' | b'p') || number(file, end, 8)? != length {
            return None;
        }
        let (mut position, mut metadata) = (at + 23, [const { Vec::new() }; 3]);
        for (n, field) in metadata.iter_mut().enumerate() {
            let length = number(file, at + 17 + 2 * n as u64, 2)?;
            *field = bytes(file, position, length)?.to_vec();
            position += length;
        }
        let (mut records, mut touched) = (Vec::new(), Vec::new());
        while position < end {
            let record = record(file, position, end, (at, tid, status), &newest, &records_at)?;
            let name = record.version.as_ref().map(|version| version.name.clone()).unwrap_or_default();
            let next = length_of(&record).checked_add(position)?;
            touched.push((record.oid, position));
            records_at.insert(position, (record.oid, name));
            records.push(record);
            position = next;
        }
        if position != end {
            return None;
        }
        newest.extend(touched);
        transactions.push(Transaction { start: at, end: end + 8, tid, status, metadata, records });
        at = end + 8;
    }
    Some(transactions)
}

fn record(
    file: &[u8],
    at: u64,
    end: u64,
    (transaction, tid, status): (u64, u64, u8),
    newest: &HashMap<u64, u64>,
    records_at: &HashMap<u64, (u64, Vec<u8>)>,
) -> Option<Record> {
    let field = |offset, width| number(file, at + offset, width);
    let (oid, previous, data_length) = (field(0, 8)?, field(16, 8)?, field(34, 8)?);
    let chained = previous == newest.get(&oid).copied().unwrap_or(0) || (status == b'p' && previous == 0);
    if field(8, 8)? != tid || field(24, 8)? != transaction || !chained {
        return None;
    }
    let (mut body, mut version) = (at + 42, None);
    let name_length = field(32, 2)?;
    if name_length > 0 {
        let name = bytes(file, at + 58, name_length)?.to_vec();
        let (trunk, before) = (field(42, 8)?, field(50, 8)?);
        if trunk != 0 && records_at.get(&trunk).is_none_or(|(other, name)| *other != oid || !name.is_empty()) {
            return None;
        }
        if before != 0 && records_at.get(&before).is_none_or(|(_, other)| *other != name) {
            return None;
        }
        version = Some(InVersion { trunk, previous: before, name });
        body += 16 + name_length;
    }
    let (mut data, mut backpointer) = (Vec::new(), 0);
    let stands = if data_length == 0 { 8 } else { data_length };
    if body.checked_add(stands).is_none_or(|after| after > end) {
        return None;
    }
    if data_length == 0 {
        backpointer = number(file, body, 8)?;
        if backpointer != 0 && records_at.get(&backpointer).is_none_or(|(other, _)| *other != oid) {
            return None;
        }
    } else {
        data = bytes(file, body, data_length)?.to_vec();
    }
    Some(Record { start: at, oid, previous, version, data, backpointer })
}

fn length_of(record: &Record) -> u64 {
    let version = record.version.as_ref().map_or(0, |version| 16 + version.name.len() as u64);
    42 + version + if record.data.is_empty() { 8 } else { record.data.len() as u64 }
}

/// Whether something in the file has the old status `u`, as far as its lengths lead.
pub fn has_undone(file: &[u8]) -> bool {
    let mut at = 4;
    while at < file.len() as u64 {
        let (Some(length), Some(status)) = (number(file, at + 8, 8), number(file, at + 16, 1)) else { return false };
        if status == u64::from(b'u') {
            return true;
        }
        let Some(next) = at.checked_add(length).and_then(|end| end.checked_add(8)) else { return false };
        at = next;
    }
    false
}
