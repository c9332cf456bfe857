//! Any bytes as a `Data.fs`, with any bytes as its index.
//!
//! The file comes first, so that a position in it is the same in the input. Behind it are the index, its length in
//! three bytes, and a byte that says how to go about it ([`How`]):
//!
//! ```text
//!   file ... │ index ... │ length of the index │ how
//!                          3                     1
//! ```

use crate::trial::{self, How};

/// Opens, checks, reads, writes, packs and recovers what the bytes say.
pub fn data_file(input: &[u8]) {
    let (file, index, how) = split(input);
    trial::hold(file, Some(index).filter(|index| !index.is_empty()), How::of(how));
}

/// Bytes behind the index.
const TRAILER: usize = 4;

fn split(input: &[u8]) -> (&[u8], &[u8], u8) {
    let Some((rest, &[a, b, c, how])) = input.split_last_chunk::<TRAILER>() else { return (input, &[], 0) };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let (file, index) = rest.split_at(rest.len().saturating_sub(length));
    (file, index, how)
}

/// The input that says this.
pub fn input(file: &[u8], index: &[u8], how: u8) -> Vec<u8> {
    let length = (index.len() as u32).to_be_bytes();
    [file, index, &length[1..], &[how]].concat()
}
