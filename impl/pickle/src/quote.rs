//! Strings for human eyes: quoted as Python quotes them, and harmless to a terminal.
//!
//! Nearly all characters may stand as they are. So the text is looked through for those that may not, and what lies
//! between them is copied as a whole.

use std::fmt::Write;

/// Adds text that may hold anything, without quotes.
pub(crate) fn push_visible(out: &mut String, text: &str) {
    push(out, text, b"\\");
}

/// Adds text in quotes.
pub(crate) fn push_text(out: &mut String, text: &str) {
    let quote = quote_for(text.as_bytes());
    out.push(char::from(quote));
    push(out, text, escaped_beside(quote));
    out.push(char::from(quote));
}

/// Adds text in quotes that holds single surrogates, each of which stands as three bytes.
pub(crate) fn push_wide_text(out: &mut String, text: &[u8]) {
    let quote = quote_for(text);
    out.push(char::from(quote));
    for piece in surrogates(text) {
        match piece {
            Wide::Text(text) => push(out, text, escaped_beside(quote)),
            Wide::Surrogate(code) => _ = write!(out, "\\u{code:04x}"),
        }
    }
    out.push(char::from(quote));
}

/// Adds bytes in quotes, after a `b`.
pub(crate) fn push_bytes(out: &mut String, bytes: &[u8]) {
    let quote = quote_for(bytes);
    out.push('b');
    out.push(char::from(quote));
    for piece in bytes.chunk_by(|one, next| one.is_ascii() == next.is_ascii()) {
        match std::str::from_utf8(piece) {
            Ok(text) if text.is_ascii() => push(out, text, escaped_beside(quote)),
            _ => piece.iter().for_each(|&byte| push_byte(out, byte)),
        }
    }
    out.push(char::from(quote));
}

/// Text that may hold single surrogates, in pieces.
pub(crate) enum Wide<'a> {
    /// Text without them.
    Text(&'a str),
    /// One of them.
    Surrogate(u16),
}

/// The pieces of a text in UTF-8 in which single surrogates stand as three bytes. Stops at anything else.
pub(crate) fn surrogates(mut bytes: &[u8]) -> impl Iterator<Item = Wide<'_>> {
    std::iter::from_fn(move || {
        let valid = match std::str::from_utf8(bytes) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        if valid > 0 {
            let (text, rest) = bytes.split_at(valid);
            bytes = rest;
            return std::str::from_utf8(text).ok().map(Wide::Text);
        }
        let (&[0xed, high @ 0xa0..=0xbf, low @ 0x80..=0xbf], rest) = bytes.split_first_chunk::<3>()? else {
            return None;
        };
        bytes = rest;
        Some(Wide::Surrogate(0xd000 | u16::from(high & 0x3f) << 6 | u16::from(low & 0x3f)))
    })
}

/// The longest part of a text, from its start, that has at most so many bytes and ends with a character.
pub(crate) fn boundary(text: &str, bytes_max: usize) -> usize {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// The characters that are escaped in these quotes, besides control characters.
fn escaped_beside(quote: u8) -> &'static [u8] {
    if quote == b'\'' { b"\\'" } else { b"\\" }
}

/// How many bytes come before the first that is special. They are looked at in pieces, which the processor does at
/// once.
#[inline(always)]
pub(crate) fn plain_length(bytes: &[u8], is_special: impl Fn(u8) -> bool) -> usize {
    const PIECE: usize = 32;
    let mut at = 0;
    for piece in bytes.chunks_exact(PIECE) {
        if piece.iter().fold(false, |found, &byte| found | is_special(byte)) {
            break;
        }
        at += PIECE;
    }
    at + bytes[at..].iter().position(|&byte| is_special(byte)).unwrap_or(bytes.len() - at)
}

fn push(out: &mut String, text: &str, escaped: &[u8]) {
    let bytes = text.as_bytes();
    let (mut copied, mut at) = (0, 0);
    loop {
        // A character that is not to be seen is ASCII, or begins with one of three bytes.
        at +=
            plain_length(&bytes[at..], |byte| byte < 0x20 || matches!(byte, b'\'' | b'\\' | 0x7f | 0xc2 | 0xe2 | 0xef));
        let Some(c) = text[at..].chars().next() else { break };
        let stays = match c {
            '\'' | '\\' => !escaped.contains(&bytes[at]),
            c => !is_hidden(c),
        };
        if stays {
            at += c.len_utf8();
            continue;
        }
        out.push_str(&text[copied..at]);
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\0'..='\u{ff}' => push_byte(out, c as u8),
            c => _ = write!(out, "\\u{:04x}", u32::from(c)),
        }
        at += c.len_utf8();
        copied = at;
    }
    out.push_str(&text[copied..]);
}

/// Beside control characters, those that have no width or turn the direction of what follows.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn push_byte(out: &mut String, byte: u8) {
    out.push_str("\\x");
    push_hex(out, &[byte]);
}

/// Adds bytes in hexadecimal.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}

/// Single quotes, unless double ones save an escape.
fn quote_for(bytes: &[u8]) -> u8 {
    if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_look_as_in_python() {
        let shown = |s: &str| {
            let mut out = String::new();
            push_text(&mut out, s);
            out
        };
        assert_eq!(shown("é ☃\n"), "'é ☃\\n'");
        assert_eq!(shown("it's"), "\"it's\"");
        assert_eq!(shown("it's \"so\""), "'it\\'s \"so\"'");
        assert_eq!(shown("\u{1b}[31m\u{202e}\\"), "'\\x1b[31m\\u202e\\\\'");
        assert_eq!(shown("\u{85}\u{a0}ÿ🐍\u{7f}"), "'\\x85\u{a0}ÿ🐍\\x7f'");
        let mut out = String::new();
        push_bytes(&mut out, b"a\0\xff'\"\\");
        push_wide_text(&mut out, b"a\xed\xa0\x80\xed\xbf\xbf\xe2\x98\x83");
        assert_eq!(out, "b'a\\x00\\xff\\'\"\\\\''a\\ud800\\udfff☃'");
    }
}
