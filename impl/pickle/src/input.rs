//! The arguments of opcodes, read off the front of the input.
//!
//! Every length is compared with what the input has left before anything is done with it.

use crate::error::Problem;
use crate::machine::Atom;
use crate::strings::Span;

/// `Err` without its place; the machine knows the place.
pub(crate) type Step<T> = Result<T, Problem>;

/// An input and how far it has been read.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) position: usize,
}

impl<'a> Input<'a> {
    /// The start of `bytes`, of which at most 4 GiB are seen.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Input { bytes: &bytes[..bytes.len().min(u32::MAX as usize)], position: 0 }
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Step<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self) -> Step<[u8; N]> {
        let rest = &self.bytes[self.position..];
        match rest.first_chunk::<N>() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(Problem::Truncated { needed: N as u64, left: rest.len() as u64 }),
        }
    }

    /// A length that was written with a sign.
    pub(crate) fn length(&mut self) -> Step<u64> {
        let length = i32::from_le_bytes(self.fixed()?);
        u64::try_from(length).map_err(|_| Problem::NegativeLength(length))
    }

    #[inline]
    pub(crate) fn fits(&self, length: u64) -> Step<usize> {
        let left = (self.bytes.len() - self.position) as u64;
        if length > left { Err(Problem::Truncated { needed: length, left }) } else { Ok(length as usize) }
    }

    #[inline]
    pub(crate) fn span(&mut self, length: u64) -> Step<Span> {
        let start = self.position;
        let end = start + self.fits(length)?;
        self.position = end;
        Ok(Span::new(start, end))
    }

    /// The rest of the line, without its newline.
    pub(crate) fn line(&mut self) -> Step<Span> {
        let start = self.position;
        let length = self.bytes[start..].iter().position(|&byte| byte == b'\n').ok_or(Problem::NoNewline)?;
        self.position = start + length + 1;
        Ok(Span::new(start, start + length))
    }

    /// A number in two's complement, `length` bytes long.
    pub(crate) fn long(&mut self, length: u64) -> Step<Atom> {
        let span = self.span(length)?;
        let bytes = span.of(self.bytes);
        Ok(if bytes.len() <= 8 { Atom::Int(small_int(bytes)) } else { Atom::Long(span) })
    }

    /// A whole number as text, perhaps with Python 2's `L` at its end.
    pub(crate) fn decimal(&self, line: Span) -> Step<Atom> {
        let raw = line.of(self.bytes);
        let text = raw.trim_ascii();
        let text = text.strip_suffix(b"L").unwrap_or(text);
        let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Problem::NotANumber);
        }
        // Nineteen digits and a sign are the most that 64 bits can hold, so longer ones need not be looked at.
        let small = std::str::from_utf8(text).ok().filter(|text| text.len() <= 20).and_then(|text| text.parse().ok());
        let start = line.start() + raw.len() - raw.trim_ascii_start().len();
        Ok(small.map_or(Atom::Digits(Span::new(start, start + text.len())), Atom::Int))
    }
}

/// At most eight bytes of little-endian two's complement.
fn small_int(bytes: &[u8]) -> i64 {
    let sign = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}
