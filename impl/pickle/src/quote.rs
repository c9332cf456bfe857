//! Strings for human eyes: quoted as Python quotes them, and harmless to a terminal.
//!
//! They come character by character, so that nobody escapes a megabyte of which a line is printed.

use std::borrow::Cow;
use std::iter::once;

type Part = Cow<'static, str>;

/// A character as it may stand in output: itself, or an escape.
pub(crate) fn visible(c: char) -> Part {
    match c {
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        '\\' => "\\\\".into(),
        // Beside control characters, those that have no width or turn the direction of what follows.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
            format!("\\u{:04x}", u32::from(c)).into()
        }
        c if c.is_control() => format!("\\x{:02x}", u32::from(c)).into(),
        c => String::from(c).into(),
    }
}

/// Text in quotes.
pub(crate) fn text(text: &str) -> impl Iterator<Item = Part> + '_ {
    let quote = quote_for(text.as_bytes());
    in_quotes(quote, text.chars().map(move |c| inside(c, quote)))
}

/// Bytes in quotes, after a `b`.
pub(crate) fn bytes(bytes: &[u8]) -> impl Iterator<Item = Part> + '_ {
    let quote = quote_for(bytes);
    let parts = bytes.iter().map(move |&byte| match byte {
        0x80.. => Part::from(format!("\\x{byte:02x}")),
        byte => inside(char::from(byte), quote),
    });
    once(Part::from("b")).chain(in_quotes(quote, parts))
}

fn in_quotes<'p>(quote: &'static str, parts: impl Iterator<Item = Part> + 'p) -> impl Iterator<Item = Part> + 'p {
    once(Part::from(quote)).chain(parts).chain(once(Part::from(quote)))
}

fn inside(c: char, quote: &str) -> Part {
    if c == '\'' && quote == "'" { "\\'".into() } else { visible(c) }
}

/// Single quotes, unless double ones save an escape.
fn quote_for(bytes: &[u8]) -> &'static str {
    if bytes.contains(&b'\'') && !bytes.contains(&b'"') { "\"" } else { "'" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_look_as_in_python() {
        let shown = |s: &str| text(s).collect::<String>();
        assert_eq!(shown("é ☃\n"), "'é ☃\\n'");
        assert_eq!(shown("it's"), "\"it's\"");
        assert_eq!(shown("it's \"so\""), "'it\\'s \"so\"'");
        assert_eq!(shown("\u{1b}[31m\u{202e}\\"), "'\\x1b[31m\\u202e\\\\'");
        assert_eq!(bytes(b"a\0\xff'\"\\").collect::<String>(), "b'a\\x00\\xff\\'\"\\\\'");
    }
}
