//! `docs/semantics.md` as data: the rules, and where a text cites them.
//!
//! A citation is what a person would write: "rule 3.4", "(rules 4.2 to 4.4)", "Rules 2.5 and 3.4", also where the
//! number stands on the next line of the same comment. Nothing else counts, so that a number alone is never taken for
//! one.

use std::fmt;
use std::fs;

use crate::venv;

/// Where the rules are.
pub const PAGE: &str = "docs/semantics.md";

/// A rule's number: its part, and its place in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u32, pub u32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.0, self.1))
    }
}

impl Number {
    /// The number that a text begins with, and what follows it.
    pub fn parse(text: &str) -> Option<(Number, &str)> {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (part, rest) = text.split_at(digits(text));
        let rest = rest.strip_prefix('.')?;
        let (rule, rest) = rest.split_at(digits(rest));
        Some((Number(part.parse().ok()?, rule.parse().ok()?), rest))
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub number: Number,
    /// Its text, without the marks.
    pub text: String,
    /// Where it begins, counted from 1.
    pub line: usize,
}

impl Rule {
    /// Its first words.
    pub fn title(&self, length_max: usize) -> String {
        let words = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = words.find(": ").or(words.find(". ")).unwrap_or(words.trim_end_matches('.').len());
        match words[..end].char_indices().nth(length_max) {
            Some((cut, _)) => format!("{}...", words[..cut].rsplit_once(' ').map_or(&words[..cut], |(most, _)| most)),
            None => words[..end].to_owned(),
        }
    }
}

/// The rules of the project.
pub fn rules() -> Result<Vec<Rule>, Box<dyn std::error::Error>> {
    let rules = parse(&fs::read_to_string(venv::workspace().join(PAGE))?);
    if rules.is_empty() { Err(format!("{PAGE} has no rules").into()) } else { Ok(rules) }
}

/// The rules of a page. A rule begins with its number in bold, in a paragraph or an item of a list. An item continues
/// as far as it is indented, with blank lines in between; a paragraph continues to the next rule or heading.
fn parse(page: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut within = false;
    let mut in_list = false;
    for (n, line) in page.lines().enumerate() {
        let begins = |line: &str| Number::parse(line.strip_prefix("**")?).map(|(number, _)| number);
        let item = line.strip_prefix("- ");
        if let Some(number) = begins(item.unwrap_or(line)) {
            rules.push(Rule { number, text: String::new(), line: n + 1 });
            (within, in_list) = (true, item.is_some());
        } else if line.starts_with('#') || (in_list && !line.is_empty() && !line.starts_with("  ")) {
            within = false;
        }
        if let (true, Some(rule)) = (within, rules.last_mut()) {
            let text = item.unwrap_or(line).trim().replace("**", "");
            rule.text.push_str(text.strip_prefix(&rule.number.to_string()).unwrap_or(&text).trim_start());
            rule.text.push('\n');
        }
    }
    for rule in &mut rules {
        rule.text.truncate(rule.text.trim_end().len());
    }
    rules
}

/// Which rules a text cites, and in which lines, counted from 1.
pub fn citations(text: &str) -> Vec<(Number, usize)> {
    let marks = ["//", "///", "//!", "#"];
    let of_line = |(n, line): (usize, &'_ str)| -> Vec<(usize, String)> {
        line.split_whitespace().filter(|word| !marks.contains(word)).map(|word| (n + 1, word.to_owned())).collect()
    };
    let words: Vec<(usize, String)> = text.lines().enumerate().flat_map(of_line).collect();
    let names_rules = |word: &str| {
        let word = word.trim_start_matches(['(', '[', '"', '`', '*']).trim_end_matches(':').to_ascii_lowercase();
        word == "rule" || word == "rules"
    };
    let mut found: Vec<(Number, usize)> = Vec::new();
    for (n, _) in words.iter().enumerate().filter(|(_, (_, word))| names_rules(word)) {
        let mut rest = words[n + 1..].iter().peekable();
        let mut from = None;
        while let Some((number, behind, line)) =
            rest.next().and_then(|(line, word)| Number::parse(word).map(|(number, behind)| (number, behind, *line)))
        {
            if let Some(Number(part, first)) = from {
                found.extend((first + 1..number.1).map(|rule| (Number(part, rule), line)));
            }
            found.push((number, line));
            from = None;
            match (behind, rest.peek().map(|(_, word)| word.as_str())) {
                ("", Some("to")) => from = Some(number),
                ("" | ",", Some("and" | "or")) => {}
                (",", _) => continue,
                _ => break,
            }
            rest.next();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Rules

## 1. Words

- **1.1 oid**: 8 bytes. **tid**: so
  are these.
- **1.10** The trunk **shows** it.

That is no rule.

## 3. Writing

**3.0** Two phases.

The rest is left.

- **3.1 store(a..b)**: it is there. It stays.

  | if | then |

  Also this.

But not this.
";

    #[test]
    fn rules_begin_with_their_numbers_and_end_where_the_next_begins() {
        let found: Vec<_> =
            parse(TEXT).into_iter().map(|rule| (rule.number.to_string(), rule.line, rule.text)).collect();
        let rule = |number: &str, line, text: &str| (number.to_owned(), line, text.to_owned());
        let expected = [
            rule("1.1", 5, "oid: 8 bytes. tid: so\nare these."),
            rule("1.10", 7, "The trunk shows it."),
            rule("3.0", 13, "Two phases.\n\nThe rest is left."),
            rule("3.1", 17, "store(a..b): it is there. It stays.\n\n| if | then |\n\nAlso this."),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_title_is_the_first_words() {
        let titles = parse(TEXT).iter().map(|rule| rule.title(15)).collect::<Vec<_>>();
        assert_eq!(titles, ["oid", "The trunk...", "Two phases", "store(a..b)"]);
    }

    #[test]
    fn citations_are_as_people_write_them() {
        let cited = |text: &str| -> Vec<String> {
            citations(text).iter().map(|(number, line)| format!("{number}@{line}")).collect()
        };
        assert_eq!(cited("    /// Rule 3.1.\n"), ["3.1@1"]);
        assert_eq!(
            cited("pack keeps it (rules 4.2 to 4.4), and (rule\n    // 4.9)"),
            ["4.2@1", "4.3@1", "4.4@1", "4.9@2"]
        );
        assert_eq!(cited("Rules 2.5 and 3.4: both"), ["2.5@1", "3.4@1"]);
        assert_eq!(cited("Rule: 1.2, 1.3 and 1.5"), ["1.2@1", "1.3@1", "1.5@1"]);
        assert_eq!(cited("rule 3.1, and 4.2 of another thing"), ["3.1@1", "4.2@1"]);
        assert_eq!(cited("ZODB 6.4 has no rules; a rule has 3.5 corners"), [""; 0]);
    }
}
