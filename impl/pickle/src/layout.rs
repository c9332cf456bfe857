//! Laying out nested brackets: on one line where they fit, over several where they do not.
//!
//! The text is first written down as flat pieces. Then a group, from an opening bracket to its closing one, is printed
//! on one line if there is room for it, and otherwise each of its items gets a line of its own, two columns further in.
//! Both passes go through the pieces once, and neither recurses.

/// A piece of flat text.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// `text[start..end]`.
    Text(usize, usize),
    Open(&'static str),
    /// Between two items: a comma, and a space or a new line.
    Separator,
    Close(&'static str),
}

/// Flat text with its brackets known, up to a limit.
#[derive(Debug)]
pub(crate) struct Pieces {
    text: String,
    pieces: Vec<Piece>,
    /// How many bytes there are, were all on one line.
    bytes: usize,
    bytes_max: usize,
}

/// No line starts further in than this, so that deep nesting does not fill the output with spaces.
const INDENT_MAX: usize = 60;

impl Pieces {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Pieces { text: String::new(), pieces: Vec::new(), bytes: 0, bytes_max }
    }

    /// Is there more than may be printed? Then there is no point in adding to it.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.write(text.chars().map(String::from));
    }

    /// Adds text part by part, and does not ask for more parts than are needed.
    pub(crate) fn write<S: AsRef<str>>(&mut self, parts: impl Iterator<Item = S>) {
        let start = self.text.len();
        for part in parts {
            if self.is_full() {
                break;
            }
            self.text.push_str(part.as_ref());
            self.bytes += part.as_ref().len();
        }
        self.pieces.push(Piece::Text(start, self.text.len()));
    }

    pub(crate) fn open(&mut self, bracket: &'static str) {
        self.bytes += bracket.len();
        self.pieces.push(Piece::Open(bracket));
    }

    pub(crate) fn separator(&mut self) {
        self.bytes += 2;
        self.pieces.push(Piece::Separator);
    }

    pub(crate) fn close(&mut self, bracket: &'static str) {
        self.bytes += bracket.len();
        self.pieces.push(Piece::Close(bracket));
    }

    /// How many columns each piece takes; a group's opening bracket stands for the whole group.
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.pieces.len()];
        let mut column = 0;
        let mut open = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            match *piece {
                Piece::Text(start, end) => column += self.text[start..end].chars().count(),
                Piece::Separator => column += 2,
                Piece::Open(bracket) => {
                    open.push((index, column));
                    // A group that the limit has cut off before its end is as wide as can be.
                    widths[index] = usize::MAX;
                    column += bracket.len();
                }
                Piece::Close(bracket) => {
                    column += bracket.len();
                    if let Some((index, start)) = open.pop() {
                        widths[index] = column - start;
                    }
                }
            }
        }
        widths
    }

    /// The text, with lines of at most `width` columns where that can be done by breaking groups.
    pub(crate) fn lay_out(&self, width: usize) -> String {
        let widths = self.widths();
        let mut page = Page { out: String::new(), column: 0, indent: 0 };
        let mut broken = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            if page.out.len() > self.bytes_max {
                break;
            }
            match *piece {
                Piece::Text(start, end) => page.write(&self.text[start..end]),
                Piece::Open(bracket) => {
                    let breaks = widths[index] > width.saturating_sub(page.column);
                    page.write(bracket);
                    broken.push(breaks);
                    if breaks {
                        page.indent += 2;
                        page.new_line();
                    }
                }
                Piece::Separator if broken.last() == Some(&true) => {
                    page.write(",");
                    page.new_line();
                }
                Piece::Separator => page.write(", "),
                Piece::Close(bracket) => {
                    let breaks = broken.pop() == Some(true);
                    // The comma of a tuple with one item goes with the item.
                    let rest = bracket.strip_prefix(',').filter(|_| breaks);
                    if breaks {
                        page.write(if rest.is_some() { "," } else { "" });
                        page.indent -= 2;
                        page.new_line();
                    }
                    page.write(rest.unwrap_or(bracket));
                }
            }
        }
        if page.out.len() > self.bytes_max || self.is_full() {
            let mut end = page.out.len().min(self.bytes_max);
            while !page.out.is_char_boundary(end) {
                end -= 1;
            }
            page.out.truncate(end);
            page.out.push_str("… (truncated)");
        }
        page.out
    }
}

/// What is printed so far.
struct Page {
    out: String,
    column: usize,
    indent: usize,
}

impl Page {
    fn write(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
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
        let mut pieces = Pieces::new(bytes_max);
        pieces.open("[");
        pieces.text("one");
        pieces.separator();
        pieces.open("(");
        pieces.text("two");
        pieces.separator();
        pieces.text("☃☃☃☃☃");
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
        let mut pieces = Pieces::new(99);
        pieces.open("(");
        pieces.text("one");
        pieces.close(",)");
        assert_eq!(pieces.lay_out(6), "(one,)");
        assert_eq!(pieces.lay_out(5), "(\n  one,\n)");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(nested(14).lay_out(100), "[one, (two, … (truncated)");
        assert_eq!(nested(14).lay_out(10), "[\n  one,\n  (tw… (truncated)");
        let mut pieces = Pieces::new(4);
        pieces.text("☃☃☃");
        assert_eq!(pieces.lay_out(100), "☃… (truncated)");
        assert_eq!(pieces.text.len(), 6, "no more was kept than is needed to know that it is too long");
    }
}
