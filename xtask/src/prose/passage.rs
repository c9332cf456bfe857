//! The passages of a file: paragraphs of comments, of string literals and of Markdown pages, without the code in them.
//!
//! A passage is as long as its source. Code spans and addresses of links are masked, so that an offset leads to a line.

use std::ops::Range;
use std::sync::LazyLock;

use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, TokenKind, tokenize};
use regex::Regex;

/// A string literal of fewer words is a name, and not a sentence.
const LITERAL_WORDS_MIN: usize = 3;

/// The place of a passage in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Comment,
    Literal,
    Page,
    /// A title: a heading of a page, or the head of a column.
    Title,
}

/// A paragraph, an item of a list, or a cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub kind: Kind,
    /// Its lines, joined by spaces.
    pub text: String,
    /// For each line, where it begins in `text`, and its number in the file.
    lines: Vec<(usize, usize)>,
}

impl Passage {
    fn new(kind: Kind, lines: &[(usize, &str)]) -> Passage {
        let mut passage = Passage { kind, text: String::new(), lines: Vec::new() };
        for &(number, line) in lines {
            if !passage.text.is_empty() {
                passage.text.push(' ');
            }
            passage.lines.push((passage.text.len(), number));
            passage.text.push_str(line.trim());
        }
        passage.text = masked(&passage.text);
        passage
    }

    /// The number of the line that holds this offset in the text.
    pub fn line(&self, offset: usize) -> usize {
        let after = self.lines.partition_point(|&(begin, _)| begin <= offset);
        self.lines[after - 1].1
    }
}

/// A line of a comment that passes the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    pub line: usize,
    pub columns: usize,
}

/// The passages of a Rust file, and its comments that pass the width.
pub fn of_rust(source: &str, width: usize) -> (Vec<Passage>, Vec<Wide>) {
    let mut found = (Vec::new(), Vec::new());
    let mut block = Block::default();
    let (mut begin, mut line) = (0, 1);
    for token in tokenize(source, FrontmatterAllowed::No) {
        let text = &source[begin..begin + token.len as usize];
        match token.kind {
            TokenKind::LineComment { .. } => {
                let marker = text.len() - text.trim_start_matches(['/', '!']).len();
                if block.marker != &text[..marker] {
                    block.flush(&mut found.0);
                }
                block.marker = &text[..marker];
                block.lines.push((line, &text[marker..]));
                let columns = column(source, begin) + text.trim_end().chars().count();
                if columns > width && can_be_wrapped(&text[marker..]) {
                    found.1.push(Wide { line, columns });
                }
            }
            TokenKind::Whitespace if text.matches('\n').count() < 2 => {}
            _ => block.flush(&mut found.0),
        }
        if let Some(literal) = literal(token.kind, text) {
            let lines: Vec<_> = literal.lines().zip(line..).map(|(text, number)| (number, text)).collect();
            for paragraph in lines.split(|(_, text)| text.is_empty()) {
                // An indented line is an example.
                let prose: Vec<_> = paragraph.iter().copied().filter(|(_, text)| !text.starts_with("  ")).collect();
                let lines = if paragraph.len() > 1 && literal.contains("\n\n") { &prose[..] } else { paragraph };
                if lines.iter().flat_map(|(_, text)| text.split_whitespace()).count() >= LITERAL_WORDS_MIN {
                    found.0.push(Passage::new(Kind::Literal, lines));
                }
            }
        }
        line += text.matches('\n').count();
        begin += token.len as usize;
    }
    block.flush(&mut found.0);
    found
}

/// The passages of a Markdown page.
pub fn of_markdown(source: &str) -> Vec<Passage> {
    let lines: Vec<_> = source.lines().zip(1..).map(|(text, number)| (number, text)).collect();
    paragraphs(&lines, Kind::Page)
}

/// Comments with the same marker on lines that follow each other.
#[derive(Default)]
struct Block<'a> {
    marker: &'a str,
    lines: Vec<(usize, &'a str)>,
}

impl Block<'_> {
    fn flush(&mut self, passages: &mut Vec<Passage>) {
        passages.extend(paragraphs(&self.lines, Kind::Comment));
        *self = Block::default();
    }
}

/// Rows of tables stay on one line, and so do words without spaces.
fn can_be_wrapped(text: &str) -> bool {
    let text = text.trim();
    !text.starts_with('|') && text.contains(' ')
}

fn column(source: &str, offset: usize) -> usize {
    source[..offset].rsplit('\n').next().map_or(0, |before| before.chars().count())
}

/// The contents of an ordinary string literal, if it is a sentence or the help of a command. Raw strings hold scripts
/// and bytes of other languages; so do literals with lines of their own, unless they begin with a line that continues,
/// as help does. Other lines that end with a backslash continue, too.
fn literal(kind: TokenKind, text: &str) -> Option<String> {
    let TokenKind::Literal { kind: LiteralKind::Str { terminated: true }, .. } = kind else { return None };
    let contents = &text[1..text.rfind('"')?];
    let own_lines = contents.lines().rev().skip(1).any(|line| !line.ends_with('\\'));
    let is_help = contents.starts_with("\\\n");
    (is_help || !own_lines).then(|| contents.replace("\\\n", " \n").replace("\\n", "  "))
}

/// Splits Markdown into its paragraphs, items and cells.
fn paragraphs(lines: &[(usize, &str)], kind: Kind) -> Vec<Passage> {
    // The text of a comment begins with a space.
    let code_indent = if kind == Kind::Page { "    " } else { "     " };
    let mut passages = Vec::new();
    let mut paragraph: Vec<(usize, &str)> = Vec::new();
    let mut fenced = false;
    for (index, &(number, line)) in lines.iter().enumerate() {
        let text = line.trim();
        let is_fence = text.starts_with("```");
        let is_item = text.starts_with("- ") || text.starts_with("* ") || ITEM.is_match(text);
        let is_code = fenced || !is_item && paragraph.is_empty() && line.starts_with(code_indent);
        if is_fence || is_item || is_code || text.is_empty() || text.starts_with(['|', '#']) {
            passages.extend((!paragraph.is_empty()).then(|| Passage::new(kind, &paragraph)));
            paragraph.clear();
        }
        if is_fence {
            fenced = !fenced;
        } else if is_code || text.is_empty() {
        } else if text.starts_with('#') {
            passages.push(Passage::new(Kind::Title, &[(number, text.trim_start_matches(['#', ' ']))]));
        } else if text.starts_with('|') {
            let next = lines.get(index + 1).map_or("", |&(_, next)| next.trim());
            let kind = if next.starts_with("|-") { Kind::Title } else { kind };
            passages.extend(cells(text).into_iter().map(|cell| Passage::new(kind, &[(number, &text[cell])])));
        } else {
            let text = if is_item { text.split_once(' ').map_or("", |(_, item)| item) } else { text };
            paragraph.push((number, text));
        }
    }
    passages.extend((!paragraph.is_empty()).then(|| Passage::new(kind, &paragraph)));
    passages
}

static ITEM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d+\. ").unwrap());

/// The cells of a row that have a letter in them.
fn cells(row: &str) -> Vec<Range<usize>> {
    let (mut cells, mut begin, mut code) = (Vec::new(), 0, false);
    for (offset, byte) in row.bytes().enumerate() {
        match byte {
            b'`' => code = !code,
            b'|' if !code => {
                cells.push(begin..offset);
                begin = offset + 1;
            }
            _ => {}
        }
    }
    cells.push(begin..row.len());
    cells.retain(|cell| row[cell.clone()].contains(char::is_alphabetic));
    cells
}

static MASKED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"`[^`]*`|\]\([^)]*\)|https?://\S+").unwrap());

/// The text with `_` in place of code and addresses, and of equal length.
fn masked(text: &str) -> String {
    MASKED.replace_all(text, |found: &regex::Captures| "_".repeat(found[0].len())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(passages: &[Passage]) -> Vec<(Kind, usize, &str)> {
        passages.iter().map(|passage| (passage.kind, passage.line(0), passage.text.as_str())).collect()
    }

    #[test]
    fn comments_are_split_into_paragraphs_and_code_is_masked() {
        let source = "//! One\n//! two.\n//!\n//! Three `who`.\nlet a = 1; // four\nlet b = \"// no\";\n\n/// ```\n/// code\n/// ```\n";
        let (passages, _) = of_rust(source, 120);
        let comment = Kind::Comment;
        assert_eq!(texts(&passages), [(comment, 1, "One two."), (comment, 4, "Three _____."), (comment, 5, "four")]);
        assert_eq!(passages[0].line("One t".len()), 2);
    }

    #[test]
    fn sentences_in_literals_are_passages_and_names_and_scripts_are_not() {
        let source = "a(\"the file is \\\n   locked\"); b(\"two words\"); c(r\"a raw one here\"); d(\"a script\nof two lines\");";
        assert_eq!(texts(&of_rust(source, 120).0), [(Kind::Literal, 1, "the file is locked")]);
    }

    #[test]
    fn help_has_paragraphs_and_its_examples_are_not_prose() {
        let source =
            "#[command(after_help = \"\\\nExamples:\n  a    who did it?\n\nOne two\nthree.\n\nFour five six.\")]";
        let literal = Kind::Literal;
        assert_eq!(texts(&of_rust(source, 120).0), [(literal, 5, "One two three."), (literal, 8, "Four five six.")]);
    }

    #[test]
    fn pages_have_titles_items_and_cells() {
        let source = "# Title\n\nOne\ntwo.\n\n    code\n\n- item\n  continues\n1. first\n\n| head |\n|---|\n| cell | `a|b` or |\n";
        let page = Kind::Page;
        assert_eq!(
            texts(&of_markdown(source)),
            [
                (Kind::Title, 1, "Title"),
                (page, 3, "One two."),
                (page, 8, "item continues"),
                (page, 10, "first"),
                (Kind::Title, 12, "head"),
                (page, 14, "cell"),
                (page, 14, "_____ or"),
            ]
        );
    }

    #[test]
    fn wide_comments_are_found_and_rows_of_tables_are_not() {
        let source = "    // a comment that is wide\n// | a row of a table\n// https://a.address/that/has/no/spaces\n";
        assert_eq!(of_rust(source, 20).1, [Wide { line: 1, columns: 29 }]);
    }
}
