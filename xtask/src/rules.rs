//! `cargo xtask rules`: for each rule of `docs/semantics.md`, who carries it out and who holds whom to it.
//!
//! ```text
//!   docs/semantics.md ── 4.2 ──┬── model/spec            the item whose comment cites it
//!                              ├── impl/*/src            the engine's places that do
//!                              ├── scenarios, snapshots  the stories that are named by it
//!                              ├── coverage.rs           the corners of its number
//!                              ├── tests                 of any crate, where a comment cites it
//!                              └── planted               the bugs whose head does
//! ```
//!
//! A rule that has no specification, or that nothing exercises (no story, no corner, no test), is an error, and so is a citation
//! of a rule that is not there. How citations are written: [`semantics`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use clap::Args;

use crate::semantics::{self, Number, Rule};
use crate::{Outcome, venv};

const TITLE_MAX: usize = 26;
const CORNERS: &str = "model/harness/src/coverage.rs";

/// Prints where each rule of docs/semantics.md is specified, carried out and tested
///
/// For each rule: the function of the specification, and how many functions of the engine carry it out, how many stories,
/// corners and tests exercise it, and how many planted bugs break it. Fails if a rule is not specified, if nothing
/// exercises it, or if one of the rules 3.1 to 3.7 is not carried out by exactly one function of the engine.
#[derive(Debug, Args)]
pub struct Rules {
    /// Print all places of one rule, with file and line
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    rule: Option<Number>,
}

/// The number of a rule, and nothing else.
fn number(text: &str) -> Result<Number, String> {
    let parsed = Number::parse(text).filter(|(_, behind)| behind.is_empty());
    Ok(parsed.ok_or(format!("`{text}` is not the number of a rule, such as 4.2"))?.0)
}

impl Rules {
    /// Prints the table, or one rule, and fails if something is wrong with the citations.
    pub fn run(self) -> Outcome {
        let rules = semantics::rules()?;
        let root = venv::workspace();
        let mut places = Vec::new();
        for name in venv::tree()? {
            if let Some(kind) = Kind::of(&name) {
                places.extend(cited(&name, kind, &fs::read_to_string(root.join(&name))?));
            }
        }
        let matrix = Matrix::new(&rules, places);
        match self.rule {
            Some(number) => {
                let rule =
                    rules.iter().find(|rule| rule.number == number).ok_or(format!("there is no rule {number}"))?;
                print!("{}", matrix.details(rule));
            }
            None => print!("{}", matrix.table()),
        }
        let faults = matrix.faults();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\nxtask: ").into()) }
    }
}

/// What a place that cites a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Specification,
    Engine,
    Harness,
    Story,
    Snapshot,
    Corner,
    Test,
    Planted,
    Page,
}

impl Kind {
    /// What a file's citations are, by where it is. None: they are of no account.
    fn of(name: &str) -> Option<Kind> {
        let within = |folder: &str| name.starts_with(folder);
        let rust = name.ends_with(".rs");
        Some(match name {
            semantics::PAGE => return None,
            _ if within("model/harness/scenarios/") => Kind::Story,
            _ if within("model/harness/planted/") && name.ends_with(".patch") => Kind::Planted,
            _ if within("snapshots/rules@") && name.ends_with(".snap") => Kind::Snapshot,
            _ if rust && (name.contains("/tests/") || within("fuzz/") || within("xtask/src/peers")) => Kind::Test,
            _ if rust && within("model/spec/src/") => Kind::Specification,
            _ if rust && within("model/harness/src/") => Kind::Harness,
            _ if rust && within("impl/") => Kind::Engine,
            _ if name.ends_with(".md") => Kind::Page,
            _ => return None,
        })
    }

    fn heading(self) -> &'static str {
        match self {
            Kind::Specification => "specification",
            Kind::Engine => "engine",
            Kind::Harness => "harness",
            Kind::Story => "stories",
            Kind::Snapshot => "snapshots",
            Kind::Corner => "corners",
            Kind::Test => "tests",
            Kind::Planted => "planted bugs",
            Kind::Page => "pages",
        }
    }
}

/// Where a rule is cited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    file: String,
    line: usize,
    /// The item of the code that it stands in or before, or what it says there.
    item: Option<String>,
    number: Number,
}

/// What a file cites.
fn cited(name: &str, kind: Kind, text: &str) -> Vec<Place> {
    let place = |kind, number, line, item| Place { kind, file: name.to_owned(), line, item, number };
    let stem = || name.rsplit('/').next().unwrap_or_default().trim_start_matches("rules@");
    let named = || Number::parse(stem()).map(|(number, _)| place(kind, number, 1, None));
    if kind == Kind::Snapshot {
        // What it says is the story's.
        return named().into_iter().collect();
    }
    let lines: Vec<&str> = text.lines().collect();
    let head = if kind == Kind::Planted { text.split("\n--- ").next().unwrap_or_default() } else { text };
    let tests = lines.iter().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(usize::MAX);
    let mut places: Vec<Place> = semantics::citations(head)
        .into_iter()
        .map(|(number, line)| match name.ends_with(".rs") {
            true => place(if line > tests { Kind::Test } else { kind }, number, line, item(&lines, line - 1)),
            false => place(kind, number, line, None),
        })
        .collect();
    if kind == Kind::Story {
        places.extend(named());
    }
    if kind == Kind::Planted {
        let bug = head.lines().find_map(|line| line.strip_prefix("Bug: ")).map(str::to_owned);
        places.iter_mut().for_each(|place| place.item.clone_from(&bug));
    }
    if name == CORNERS {
        let corners = lines.iter().enumerate().filter_map(|(n, line)| corner(line).map(|corner| (n + 1, corner)));
        places.extend(corners.map(|(line, (number, what))| place(Kind::Corner, number, line, Some(what))));
    }
    // One that is cited twice by the same item of the same file is cited once.
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert((place.kind, place.number, place.item.clone())));
    places
}

/// A line of the table of corners: `Load "2.1" "load: on the trunk"`.
fn corner(line: &str) -> Option<(Number, String)> {
    let mut quoted = line.split('"');
    let name = quoted.next()?.trim();
    let (number, _) = Number::parse(quoted.next()?).filter(|(_, behind)| behind.is_empty())?;
    let what = quoted.nth(1)?;
    name.chars().all(char::is_alphanumeric).then(|| (number, what.to_owned()))
}

/// The item that a comment in this line documents, or stands in.
fn item(lines: &[&str], at: usize) -> Option<String> {
    let comment = lines[at].trim_start();
    if comment.starts_with("//!") {
        return None;
    }
    if comment.starts_with("///") {
        let passed_over = |line: &&&str| ["//", "#[", "#!["].iter().any(|mark| line.trim_start().starts_with(mark));
        return lines[at..].iter().find(|line| !passed_over(line)).and_then(|line| declared(line, true));
    }
    lines[..=at].iter().rev().find_map(|line| declared(line, false))
}

/// The name that a line declares: a function's; and any item's, field's or variant's, if that is wanted.
fn declared(line: &str, anything: bool) -> Option<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = line.trim_start().split(|c| !is_name(c)).filter(|word| !word.is_empty());
    let mut before = "";
    let kinds = ["fn", "struct", "enum", "trait", "type", "mod", "macro_rules", "static"];
    let plain = ["pub", "crate", "super", "const", "async", "unsafe", "default", "in"];
    loop {
        let word = words.next()?;
        if word == "fn" || (anything && kinds.contains(&word)) {
            let end = if word == "fn" { "()" } else { "" };
            return words.next().map(|name| format!("{name}{end}"));
        }
        if !plain.contains(&word) {
            return (anything && !before.starts_with("//")).then(|| word.to_owned());
        }
        before = word;
    }
}

/// How many items there are among these places.
fn distinct<'a>(places: impl Iterator<Item = &'a Place>) -> usize {
    places.map(|place| (&place.file, &place.item)).collect::<BTreeSet<_>>().len()
}

/// All rules with all places that cite them.
struct Matrix<'a> {
    rules: &'a [Rule],
    places: BTreeMap<Number, Vec<Place>>,
}

impl Matrix<'_> {
    fn new(rules: &[Rule], cited: Vec<Place>) -> Matrix<'_> {
        let mut places: BTreeMap<Number, Vec<Place>> = BTreeMap::new();
        cited.into_iter().for_each(|place| places.entry(place.number).or_default().push(place));
        places.values_mut().for_each(|places| places.sort());
        Matrix { rules, places }
    }

    fn of(&self, number: Number, kind: Kind) -> impl Iterator<Item = &Place> {
        self.places.get(&number).into_iter().flatten().filter(move |place| place.kind == kind)
    }

    fn table(&self) -> String {
        const COUNTED: [Kind; 5] = [Kind::Engine, Kind::Story, Kind::Corner, Kind::Test, Kind::Planted];
        let head = format!("{:<36}{:<44} engine stories corners tests planted\n", "rule", "specification");
        let mut table = head;
        for rule in self.rules {
            let items = self.of(rule.number, Kind::Specification).filter_map(|place| place.item.as_deref());
            let items = items.collect::<Vec<_>>().join(", ");
            let mut line = format!("{:<5} {:<30}{items:<44}", rule.number, rule.title(TITLE_MAX));
            for (kind, width) in COUNTED.into_iter().zip([7, 8, 8, 6, 8]) {
                let count = distinct(self.of(rule.number, kind));
                line.push_str(&format!("{:>width$}", if count == 0 { "-".to_owned() } else { count.to_string() }));
            }
            table.push_str(&line);
            table.push('\n');
        }
        let all = |kind| distinct(self.places.values().flatten().filter(|place| place.kind == kind));
        let [engine, stories, corners, tests, planted] = COUNTED.map(all);
        let rules = self.rules.len();
        table.push_str(&format!(
            "\n{rules} rules; cited in {engine} places of the engine; exercised by {stories} stories, {corners} corners and \
             {tests} tests;\n{planted} planted bugs break one. Where all of that is: cargo xtask rules --rule NUMBER\n"
        ));
        table
    }

    fn details(&self, rule: &Rule) -> String {
        let mut text = format!("{} ({}:{})\n", rule.number, semantics::PAGE, rule.line);
        rule.text.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        let mut last = None;
        for place in self.places.get(&rule.number).into_iter().flatten() {
            if last.replace(place.kind) != Some(place.kind) {
                text.push_str(&format!("\n{}\n", place.kind.heading()));
            }
            let item = place.item.as_ref().map(|item| format!("  {item}")).unwrap_or_default();
            text.push_str(&format!("    {}:{}{item}\n", place.file, place.line));
        }
        text
    }

    /// What must not be.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for Rule { number, line, .. } in self.rules {
            let has = |kind| self.of(*number, kind).next().is_some();
            if !has(Kind::Specification) {
                faults.push(format!("rule {number} ({}:{line}): nothing in model/spec/src cites it", semantics::PAGE));
            }
            if ![Kind::Story, Kind::Corner, Kind::Test].into_iter().any(has) {
                faults
                    .push(format!("rule {number} ({}:{line}): no story, corner or test exercises it", semantics::PAGE));
            }
        }
        let known: BTreeSet<Number> = self.rules.iter().map(|rule| rule.number).collect();
        for place in self.places.values().flatten().filter(|place| !known.contains(&place.number)) {
            faults.push(format!("{}:{}: there is no rule {}", place.file, place.line, place.number));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, text: &str) -> Vec<String> {
        let places = cited(name, Kind::of(name).unwrap(), text);
        let show = |place: &Place| {
            format!("{} {} {}:{}", place.number, place.kind.heading(), place.line, place.item.as_deref().unwrap_or("-"))
        };
        places.iter().map(show).collect()
    }

    #[test]
    fn a_comment_belongs_to_what_it_documents_or_stands_in() {
        let text = "\
//! Rule 2.1.
/// Rule 3.1:
/// a store.
#[must_use]
pub(crate) const fn store<'a>(
    x: u8,
) {
    // Rule 3.2.
}

struct Change {
    /// Rule 3.3.
    pub check: u8,
}

#[cfg(test)]
mod tests {
    /// Rule 3.4.
    #[test]
    fn undo() {}
}
";
        let expected = [
            "2.1 engine 1:-",
            "3.1 engine 2:store()",
            "3.2 engine 8:store()",
            "3.3 engine 12:check",
            "3.4 tests 18:undo()",
        ];
        assert_eq!(shown("impl/file/src/vote.rs", text), expected);
    }

    #[test]
    fn stories_snapshots_corners_and_planted_bugs_cite_in_their_own_ways() {
        let story = "# Rule 4.2. Garbage, but (rule 4.6) not all.\n";
        assert_eq!(shown("model/harness/scenarios/4.2-garbage.script", story), ["4.2 stories 1:-", "4.6 stories 1:-"]);
        assert_eq!(shown("snapshots/rules@4.10-a.snap", "# Rule 4.2."), ["4.10 snapshots 1:-"]);
        let corners = "    Load \"2.1\" \"load: on the trunk\" [undo]\n    let x = \"2.2\";\n";
        assert_eq!(shown(CORNERS, corners), ["2.1 corners 1:load: on the trunk"]);
        let planted = "Bug: it is lost.\nRule: 3.0\n\n--- a/x\n+++ b/x\n+// rule 3.1\n";
        assert_eq!(shown("model/harness/planted/01-x.patch", planted), ["3.0 planted bugs 2:it is lost."]);
    }

    #[test]
    fn what_nobody_specifies_or_exercises_and_what_is_not_there_is_a_fault() {
        let rule = |rule, line| Rule { number: Number(1, rule), text: String::new(), line };
        let rules = [rule(1, 3), rule(2, 4), rule(3, 5)];
        let places = [
            cited("model/spec/src/lib.rs", Kind::Specification, "/// Rules 1.1 and 1.3.\nfn both() {}"),
            cited("model/harness/scenarios/1.2-x.script", Kind::Story, ""),
            cited("impl/file/tests/a.rs", Kind::Test, "// Rule 1.3, and rule 1.4."),
        ];
        let faults = Matrix::new(&rules, places.concat()).faults();
        let expected = [
            "rule 1.1 (docs/semantics.md:3): no story, corner or test exercises it",
            "rule 1.2 (docs/semantics.md:4): nothing in model/spec/src cites it",
            "impl/file/tests/a.rs:1: there is no rule 1.4",
        ];
        assert_eq!(faults, expected);
    }
}
