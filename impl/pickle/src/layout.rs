//! Laying out nested brackets: on one line where they fit, over several where they do not.
//!
//! The text is first written down in one line, with the places noted where brackets open and close and where items end.
//! Then a group, from an opening bracket to its closing one, is copied as it stands if there is room for it, and
//! otherwise each of its items gets a line of its own, two columns further in. Both passes go through the text once,
//! and neither recurses.

use crate::quote;

/// A place in the line.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Where in the text it stands.
    at: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Behind an opening bracket of `length` bytes, which `close` closes; 0 while it is open.
    Open { length: usize, close: usize },
    /// Before the comma and the space between two items.
    Separator,
    /// Before a closing bracket.
    Close(&'static str),
}

/// Text in one line with its brackets known, up to a limit.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// The text so far.
    pub(crate) text: String,
    marks: Vec<Mark>,
    /// The brackets that are open, as places in `marks`.
    open: Vec<usize>,
    bytes_max: usize,
}

/// No line starts further in than this, so that deep nesting does not fill the output with spaces.
const INDENT_MAX: usize = 60;

impl Pieces {
    /// Room for the text of a record of `length` bytes.
    pub(crate) fn new(bytes_max: usize, length: usize) -> Self {
        let text = String::with_capacity(length.saturating_add(length / 4).min(bytes_max).min(1 << 20));
        Pieces { text, marks: Vec::new(), open: Vec::new(), bytes_max }
    }

    /// Is there more than may be printed? Then there is no point in adding to it.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() > self.bytes_max
    }

    /// How many bytes of a text are worth adding: one more than may be printed.
    pub(crate) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.text.len()).saturating_add(1)
    }

    pub(crate) fn open(&mut self, bracket: &'static str) {
        self.text.push_str(bracket);
        self.open.push(self.marks.len());
        self.marks.push(Mark { at: self.text.len(), kind: Kind::Open { length: bracket.len(), close: 0 } });
    }

    pub(crate) fn separator(&mut self) {
        self.marks.push(Mark { at: self.text.len(), kind: Kind::Separator });
        self.text.push_str(", ");
    }

    pub(crate) fn close(&mut self, bracket: &'static str) {
        let here = self.marks.len();
        if let Some(Mark { kind: Kind::Open { close, .. }, .. }) =
            self.open.pop().and_then(|open| self.marks.get_mut(open))
        {
            *close = here;
        }
        self.marks.push(Mark { at: self.text.len(), kind: Kind::Close(bracket) });
        self.text.push_str(bracket);
    }

    /// The text, with lines of at most `width` columns where that can be done by breaking groups.
    pub(crate) fn lay_out(self, width: usize) -> String {
        let is_short = self.text.len() <= width || columns(&self.text) <= width;
        if (is_short || self.marks.is_empty()) && !self.is_full() {
            return self.text;
        }
        let Pieces { text, marks, bytes_max, .. } = self;
        let mut page = Page { out: String::with_capacity(text.len() + text.len() / 8), column: 0, indent: 0 };
        let (mut copied, mut next) = (0, 0);
        while let Some(mark) = marks.get(next) {
            if page.out.len() > bytes_max {
                break;
            }
            next += 1;
            match mark.kind {
                Kind::Open { length, close } => {
                    page.write(&text[copied..mark.at - length]);
                    copied = mark.at - length;
                    if let Some(&Mark { at, kind: Kind::Close(bracket) }) = marks.get(close).filter(|_| close > 0) {
                        let group = &text[copied..at + bracket.len()];
                        if fits(group, width.saturating_sub(page.column)) {
                            page.write(group);
                            copied = at + bracket.len();
                            next = close + 1;
                            continue;
                        }
                    }
                    page.write(&text[copied..mark.at]);
                    copied = mark.at;
                    page.indent += 2;
                    page.new_line();
                }
                // All groups that are not broken were copied as a whole.
                Kind::Separator => {
                    page.write(&text[copied..=mark.at]);
                    page.new_line();
                    copied = mark.at + 2;
                }
                Kind::Close(bracket) => {
                    // The comma of a tuple with one item goes with the item.
                    let comma = usize::from(bracket.starts_with(','));
                    page.write(&text[copied..mark.at + comma]);
                    page.indent -= 2;
                    page.new_line();
                    page.write(&bracket[comma..]);
                    copied = mark.at + bracket.len();
                }
            }
        }
        if page.out.len() <= bytes_max {
            page.write(&text[copied..]);
        }
        if page.out.len() > bytes_max || text.len() > bytes_max {
            let end = quote::boundary(&page.out, bytes_max);
            page.out.truncate(end);
            page.out.push_str("… (truncated)");
        }
        page.out
    }
}

/// How many columns a text takes: one for each character.
fn columns(text: &str) -> usize {
    text.bytes().filter(|byte| byte & 0xc0 != 0x80).count()
}

/// Does the text take at most so many columns? A long one is not counted to its end.
fn fits(text: &str, width: usize) -> bool {
    // A character has four bytes at most.
    text.len() <= width || (text.len() <= width.saturating_mul(4) && columns(text) <= width)
}

/// The page so far.
struct Page {
    out: String,
    column: usize,
    indent: usize,
}

impl Page {
    fn write(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += columns(text);
    }

    fn new_line(&mut self) {
        self.column = self.indent.min(INDENT_MAX);
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', self.column));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(bytes_max: usize) -> Pieces {
        let mut pieces = Pieces::new(bytes_max, 0);
        pieces.open("[");
        pieces.text.push_str("one");
        pieces.separator();
        pieces.open("(");
        pieces.text.push_str("two");
        pieces.separator();
        pieces.text.push_str("☃☃☃☃☃");
        pieces.close(")");
        pieces.close("]");
        pieces
    }

    #[test]
    fn a_group_stays_on_its_line_if_it_fits() {
        assert_eq!(nested(99).lay_out(19), "[one, (two, ☃☃☃☃☃)]");
        assert_eq!(nested(99).lay_out(18), "[\n  one,\n  (two, ☃☃☃☃☃)\n]");
        assert_eq!(nested(99).lay_out(10), "[\n  one,\n  (\n    two,\n    ☃☃☃☃☃\n  )\n]");
    }

    #[test]
    fn the_comma_of_a_single_item_stays_with_it() {
        let single = || {
            let mut pieces = Pieces::new(99, 0);
            pieces.open("(");
            pieces.text.push_str("one");
            pieces.close(",)");
            pieces
        };
        assert_eq!(single().lay_out(6), "(one,)");
        assert_eq!(single().lay_out(5), "(\n  one,\n)");
    }

    #[test]
    fn text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(nested(14).lay_out(100), "[one, (two, … (truncated)");
        assert_eq!(nested(14).lay_out(10), "[\n  one,\n  (\n … (truncated)");
        let mut pieces = Pieces::new(4, 0);
        pieces.text.push_str("☃☃☃");
        assert_eq!(pieces.lay_out(100), "☃… (truncated)");
    }
}
