//! Strings as a pickle writes them.
//!
//! A pickle has eleven ways to write a string. They differ in how the length is given, in the escapes, and in what
//! the string *is*: bytes, text, or the `str` of Python 2, which was either. Nothing here is decoded before it is
//! needed: a string is a [`Span`] of the input and a [`Kind`].

use std::borrow::Cow;

/// A piece of the input. 4 GiB is the limit of a record, so that the tokens of the scanner stay small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// The span of `input[start..end]`. The machine refuses inputs that are too long for it.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Span { start: start as u32, length: (end - start) as u32 }
    }

    /// Where the span starts in the input.
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    /// The bytes of the span in the input it was made from.
    #[inline]
    pub(crate) fn of(self, input: &[u8]) -> &[u8] {
        &input[self.start as usize..][..self.length as usize]
    }
}

/// How a string was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes, as they are.
    Bytes,
    /// The `str` of Python 2, as it is.
    Native,
    /// The `str` of Python 2 as a quoted and escaped line (STRING).
    NativeLine,
    /// Text in UTF-8, where single surrogates may occur.
    Text,
    /// Text as a line of Latin-1 with `\u` escapes (UNICODE).
    TextLine,
}

impl Kind {
    /// Was this written as text? Otherwise it is bytes, or may be.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::TextLine)
    }
}

/// The string's bytes, if it is bytes or the `str` of Python 2.
pub(crate) fn bytes(kind: Kind, raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    match kind {
        Kind::Bytes | Kind::Native => Some(Cow::Borrowed(raw)),
        Kind::NativeLine => unquote(raw),
        Kind::Text | Kind::TextLine => None,
    }
}

/// The string's text: as it is, or what the `str` of Python 2 says if that is UTF-8.
pub(crate) fn text(kind: Kind, raw: &[u8]) -> Option<Cow<'_, str>> {
    match kind {
        Kind::Bytes => None,
        Kind::Native | Kind::Text => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
        Kind::NativeLine => String::from_utf8(unquote(raw)?.into_owned()).ok().map(Cow::Owned),
        Kind::TextLine => String::from_utf8(unescape(raw, true)?).ok().map(Cow::Owned),
    }
}

/// The bytes that Python 3 meant when it pickled them, for Python 2 to read, as `_codecs.encode(text, 'latin1')`.
pub(crate) fn latin1(kind: Kind, raw: &[u8]) -> Option<Vec<u8>> {
    text(kind, raw)?.chars().map(|c| u8::try_from(c).ok()).collect()
}

/// A STRING argument: Python 2's `repr`, in either quote, with its escapes.
fn unquote(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    let line = line.trim_ascii();
    let (quote, rest) = line.split_first()?;
    let (end, inner) = rest.split_last()?;
    if quote != end || !b"'\"".contains(quote) {
        return None;
    }
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b't' => out.push(b'\t'),
            b'n' => out.push(b'\n'),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'r' => out.push(b'\r'),
            b'x' => out.push(number(&mut rest, 2, 16)? as u8),
            b'0'..=b'7' => {
                let digits = after.iter().take(2).take_while(|d| (b'0'..=b'7').contains(d)).count();
                let value = u32::from(escape - b'0') << (3 * digits);
                // Python keeps the low eight bits of \777, too.
                out.push((value + if digits > 0 { number(&mut rest, digits, 8)? } else { 0 }) as u8);
            }
            // Python leaves an escape that it does not know as it stands.
            _ => out.extend([b'\\', escape]),
        }
    }
    Some(Cow::Owned(out))
}

/// The text of a line in UTF-8, except that single surrogates may occur, as they may in text that is no line.
pub(crate) fn line(raw: &[u8]) -> Option<Vec<u8>> {
    unescape(raw, true)
}

/// The bytes of a text: in UTF-8, except that single surrogates may occur. `joins`: two of them that make one
/// character are that character. Python 2 meant it so; Python 3 leaves them as they are.
pub(crate) fn wide_text(kind: Kind, raw: &[u8], joins: bool) -> Option<Cow<'_, [u8]>> {
    match kind {
        Kind::Text => is_text(raw).then_some(Cow::Borrowed(raw)),
        Kind::TextLine => unescape(raw, joins).map(Cow::Owned),
        Kind::Bytes | Kind::Native | Kind::NativeLine => None,
    }
}

/// The text, if the bytes are UTF-8. Long texts are most of many databases, and the time of this is most of the time in
/// which they are read.
pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

/// Is this text as Python writes it: UTF-8, or single surrogates written in the same manner?
pub(crate) fn is_text(mut bytes: &[u8]) -> bool {
    if utf8(bytes).is_some() {
        return true;
    }
    while let Err(error) = std::str::from_utf8(bytes) {
        match &bytes[error.valid_up_to()..] {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..] => bytes = rest,
            _ => return false,
        }
    }
    true
}

/// A UNICODE argument: Latin-1, where `\uXXXX` and `\UXXXXXXXX` are the only escapes.
fn unescape(line: &[u8], joins: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(line.len());
    let push = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digits = match (first, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            // Only these two are escapes. The pickler settles the meaning of `\\u`, which writes a backslash as \u005c.
            _ => {
                push(&mut out, char::from(first));
                continue;
            }
        };
        rest = &after[1..];
        let mut code = number(&mut rest, digits, 16)?;
        // Python 2, where a character had 16 bits, wrote what lies beyond as two surrogates.
        if joins && (0xd800..0xdc00).contains(&code) && rest.starts_with(b"\\u") {
            let mut ahead = &rest[2..];
            let low = number(&mut ahead, 4, 16)?;
            if (0xdc00..0xe000).contains(&low) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                rest = ahead;
            }
        }
        match char::from_u32(code) {
            Some(c) => push(&mut out, c),
            None if code < 0xe000 => out.extend([0xed, 0x80 | (code >> 6 & 0x3f) as u8, 0x80 | (code & 0x3f) as u8]),
            None => return None,
        }
    }
    Some(out)
}

/// Takes exactly `digits` digits off the front.
fn number(rest: &mut &[u8], digits: usize, radix: u32) -> Option<u32> {
    let (front, back) = rest.split_at_checked(digits)?;
    if !front.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    *rest = back;
    u32::from_str_radix(std::str::from_utf8(front).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_line_is_read_as_python_2_reads_it() {
        let cases: [(&[u8], Option<&[u8]>); 9] = [
            (b"'plain'", Some(b"plain")),
            (b"\"it's\"", Some(b"it's")),
            (b"'a\\n\\x00\\xff\\\\\\''", Some(b"a\n\x00\xff\\'")),
            (b"'\\1\\12\\101\\1018'", Some(b"\x01\nAA8")),
            (b"'\\q'", Some(b"\\q")),
            (b"'\\x1'", None),
            (b"'open", None),
            (b"'", None),
            (b"''", Some(b"")),
        ];
        for (line, wanted) in cases {
            assert_eq!(unquote(line).as_deref(), wanted, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_text_line_is_latin_1_with_escapes() {
        let text = |raw| text(Kind::TextLine, raw);
        assert_eq!(text(b"caf\xe9 \\u2603 \\U0001f40d \\n").as_deref(), Some("café ☃ 🐍 \\n"));
        assert_eq!(text(b"\\ud83d\\udc0d").as_deref(), Some("🐍"));
        assert_eq!(text(b"\\ud83d").as_deref(), None, "a lone surrogate is no text");
        assert_eq!(line(b"\\ud83d").as_deref(), Some(&b"\xed\xa0\xbd"[..]), "but Python's text can hold it");
        assert_eq!(line(b"\\U00110000"), None);
        assert_eq!(text(b"\\u12").as_deref(), None);
    }

    #[test]
    fn bytes_dressed_as_text_are_undressed() {
        assert_eq!(latin1(Kind::Text, "\0ÿé".as_bytes()), Some(vec![0, 255, 233]));
        assert_eq!(latin1(Kind::TextLine, b"\\u0000\xff"), Some(vec![0, 255]));
        assert_eq!(latin1(Kind::Text, "☃".as_bytes()), None);
    }
}
