//! Helpers of several tests.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The bytes that hexadecimal digits stand for.
#[allow(dead_code, reason = "not every test reads hexadecimal")]
pub fn from_hex(digits: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A golden database, and what the real ZODB reads in it.
#[allow(dead_code, reason = "not every test reads a database")]
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// The current record of each object in a file without versions: the last one that the file has, unless its creation
/// was undone. This is a reader for tests, which trusts the file.
#[allow(dead_code, reason = "not every test reads a database")]
pub fn current_records(file: &[u8]) -> BTreeMap<u64, Option<Vec<u8>>> {
    let number = |at: usize| u64::from_be_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    let short = |at: usize| usize::from(u16::from_be_bytes([file[at], file[at + 1]]));
    let mut records = BTreeMap::new();
    let mut start = 4;
    while start < file.len() {
        let end = start + number(start + 8) as usize;
        let mut at = start + 23 + short(start + 17) + short(start + 19) + short(start + 21);
        while at < end {
            let mut source = at;
            // A record without data points at the one whose data it shares, and that record may do the same.
            let data = loop {
                match (number(source + 34) as usize, number(source + 42) as usize) {
                    (0, 0) => break None,
                    (0, earlier) => source = earlier,
                    (length, _) => break Some(file[source + 42..source + 42 + length].to_vec()),
                }
            };
            records.insert(number(at), data);
            at += 42 + (number(at + 34) as usize).max(if number(at + 34) == 0 { 8 } else { 0 });
        }
        start = end + 8;
    }
    records
}
