//! `cargo xtask rules`: where each rule of `docs/semantics.md` is specified, carried out and tested.
//!
//! ```text
//!   docs/semantics.md ── 4.2 ──┬── model/spec            the item whose comment cites it
//!                              ├── impl/*/src            the functions whose documentation says "Rule 4.2"
//!                              ├── scenarios, snapshots  the stories that are named by it
//!                              ├── coverage/corner.rs    the corners of its number
//!                              ├── tests                 of any crate, where a comment cites it
//!                              └── planted               the bugs in the folder of its number
//! ```
//!
//! A function of the engine carries a rule out if a line of its documentation begins with `Rule 4.2.` or `Rule 4.2:`;
//! each storage may have one. All else that names a rule in the engine (heads of modules, fields, remarks inside
//! functions) is a mention, and does not count.
//!
//! It is an error if a rule has no specification, if nothing exercises it (no story, no corner, no test), if a citation
//! names a rule that does not exist, or if one of the rules in [`CARRIED_OUT_ONCE`] is not carried out by exactly one
//! function. How citations are written: [`semantics`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;

use clap::Args;

use crate::semantics::{self, Number, Rule};
use crate::{Outcome, venv};

const TITLE_MAX: usize = 26;
const SPECIFICATION_WIDTH: usize = 44;
const ENGINE_WIDTH: usize = 40;
/// All storages share the code of these rules.
const CARRIED_OUT_ONCE: RangeInclusive<Number> = Number(3, 1)..=Number(3, 7);
const CORNERS: &str = "model/harness/src/coverage/corner.rs";

/// Prints where each rule of docs/semantics.md is specified, carried out and tested
///
/// For each rule: the function of the specification, and how many functions of the engine carry it out, how many
/// stories, corners and tests exercise it, and how many planted bugs break it. Fails if a rule is not specified, if
/// nothing exercises it, or if one of the rules 3.1 to 3.7 is not carried out by exactly one function of the engine.
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
        let mut faults = matrix.faults();
        if !matrix.has_corners() {
            faults.push(format!("{CORNERS} has no corners; if they have moved, tell xtask/src/rules.rs"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\nxtask: ").into()) }
    }
}

/// The kind of a place that names a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Specification,
    /// A function that carries the rule out.
    Engine,
    Story,
    Corner,
    Test,
    Planted,
    Snapshot,
    Harness,
    /// Somewhere else in the engine's code.
    Mention,
    Page,
}

impl Kind {
    /// The kind of a file's citations, by its path. None: they do not count.
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
            _ if rust && within("impl/") && name.contains("/src/") => Kind::Engine,
            _ if name.ends_with(".md") => Kind::Page,
            _ => return None,
        })
    }

    fn heading(self) -> &'static str {
        match self {
            Kind::Specification => "specification",
            Kind::Engine => "engine",
            Kind::Mention => "mentions in the engine",
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

/// A place that names a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    file: String,
    line: usize,
    /// The item of the code that it documents or stands in; of other files, a few words on it.
    item: Option<String>,
    number: Number,
}

/// All places of a file that name a rule.
fn cited(name: &str, kind: Kind, text: &str) -> Vec<Place> {
    let place = |kind, number, line, item| Place { kind, file: name.to_owned(), line, item, number };
    let mut places = match kind {
        // The story says the rest.
        Kind::Snapshot => Vec::new(),
        Kind::Planted => planted(text).into_iter().map(|(number, line, bug)| place(kind, number, line, bug)).collect(),
        _ if name.ends_with(".rs") => {
            let source = Source::new(text);
            let citations = semantics::citations(text).into_iter();
            citations
                .map(|(number, line)| source.citation(kind, line, |k, line, item| place(k, number, line, item)))
                .collect()
        }
        _ => semantics::citations(text).into_iter().map(|(number, line)| place(kind, number, line, None)).collect(),
    };
    // The number that a file's or a folder's name begins with.
    let named = match kind {
        Kind::Story => name.rsplit('/').next(),
        Kind::Snapshot => name.rsplit('/').next().map(|stem| stem.trim_start_matches("rules@")),
        Kind::Planted => name.rsplit('/').nth(1),
        _ => None,
    };
    if let Some((number, _)) = named.and_then(Number::parse) {
        let bug = if kind == Kind::Planted { bug(text) } else { None };
        places.push(place(kind, number, 1, bug));
    }
    if name == CORNERS {
        let corners = text.lines().enumerate().filter_map(|(n, line)| corner(line).map(|corner| (n + 1, corner)));
        places.extend(corners.map(|(line, (number, what))| place(Kind::Corner, number, line, Some(what))));
    }
    // An item that names a rule twice counts once.
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert((place.kind, place.number, place.item.clone())));
    places
}

/// The rules that the head of a planted bug names, in which line, and what the bug is.
fn planted(text: &str) -> Vec<(Number, usize, Option<String>)> {
    let head = text.split("\n--- ").next().unwrap_or_default();
    semantics::citations(head).into_iter().map(|(number, line)| (number, line, bug(text))).collect()
}

fn bug(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("Bug: ")).map(str::to_owned)
}

/// A line of the table of corners: `Load "2.1" "load: on the trunk"`.
fn corner(line: &str) -> Option<(Number, String)> {
    let mut quoted = line.split('"');
    let name = quoted.next()?.trim();
    let (number, _) = Number::parse(quoted.next()?).filter(|(_, behind)| behind.is_empty())?;
    let what = quoted.nth(1)?;
    name.chars().all(char::is_alphanumeric).then(|| (number, what.to_owned()))
}

/// The lines of a Rust file, and where its tests begin.
struct Source<'a> {
    lines: Vec<&'a str>,
    tests: usize,
}

impl Source<'_> {
    fn new(text: &str) -> Source<'_> {
        let lines: Vec<&str> = text.lines().collect();
        let begins = |two: &[&str]| two[0].trim() == "#[cfg(test)]" && two[1].trim_start().starts_with("mod ");
        let tests = lines.windows(2).position(begins).unwrap_or(usize::MAX);
        Source { lines, tests }
    }

    /// The place of a citation in this line, counted from 1. `kind` is what the file's citations are in general.
    fn citation(&self, kind: Kind, line: usize, place: impl Fn(Kind, usize, Option<String>) -> Place) -> Place {
        let at = line - 1;
        if at > self.tests {
            return place(Kind::Test, line, self.item(at));
        }
        match (kind, self.carries_out(at)) {
            (Kind::Engine, Some((function, name))) => place(Kind::Engine, function + 1, Some(name)),
            (Kind::Engine, None) => place(Kind::Mention, line, self.item(at)),
            _ => place(kind, line, self.item(at)),
        }
    }

    /// The function that this line documents as one that carries a rule out: where it is, and its name.
    fn carries_out(&self, at: usize) -> Option<(usize, String)> {
        let comment = self.lines[at].trim_start().strip_prefix("///")?.trim_start();
        if !heads(comment) {
            return None;
        }
        let function = self.documented(at)?;
        let name = declared(self.lines[function], false)?;
        // A function of a trait without a body only promises.
        let end = self.lines[function..].iter().find(|line| line.trim_end().ends_with(['{', '}', ';']))?;
        if end.trim_end().ends_with(';') {
            return None;
        }
        Some((function, self.owner(function).map_or(name.clone(), |owner| format!("{owner}::{name}"))))
    }

    /// The line of the item that the documentation in this line belongs to.
    fn documented(&self, at: usize) -> Option<usize> {
        let mut attribute = false;
        (at..self.lines.len()).find(|&n| {
            let line = self.lines[n].trim();
            let begins = ["#[", "#!["].iter().any(|mark| line.starts_with(mark));
            let passed_over = attribute || begins || line.starts_with("//");
            // An attribute may go on over several lines.
            attribute = (attribute || begins) && !line.ends_with(']');
            !passed_over
        })
    }

    /// The type or the trait whose function begins in this line.
    fn owner(&self, function: usize) -> Option<String> {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let inner = indent(self.lines[function]);
        let outer = self.lines[..function].iter().rev().find(|line| !line.trim().is_empty() && indent(line) < inner)?;
        // The head of an `impl` may be longer than a line: then its last one is found.
        let head = self.lines[..function].iter().rev().skip_while(|line| line != &outer);
        let head = head.take_while(|line| !line.trim().is_empty()).find(|line| {
            ["impl", "pub trait", "trait", "pub(crate) trait"].iter().any(|word| line.trim_start().starts_with(word))
        })?;
        owner_in(head.trim())
    }

    /// The item that a comment in this line documents, or stands in.
    fn item(&self, at: usize) -> Option<String> {
        let comment = self.lines[at].trim_start();
        if comment.starts_with("//!") {
            return None;
        }
        if comment.starts_with("///") {
            return self.documented(at).and_then(|item| declared(self.lines[item], true));
        }
        self.lines[..=at].iter().rev().find_map(|line| declared(line, false))
    }
}

/// Whether a line of documentation is headed by the numbers of rules: `Rule 3.4.` or `Rules 4.2 to 4.4: ...`, and not
/// `Rule 3.4 says that ...`.
fn heads(comment: &str) -> bool {
    let mut words = comment.split_whitespace();
    if !matches!(words.next(), Some("Rule" | "Rules")) {
        return false;
    }
    for word in words {
        match Number::parse(word) {
            Some((_, "." | ":")) => return true,
            Some((_, "" | ",")) => {}
            None if ["and", "to", "or"].contains(&word) => {}
            _ => return false,
        }
    }
    false
}

/// The type that the head of an `impl` is about, or the name of a trait.
fn owner_in(head: &str) -> Option<String> {
    let name = |text: &str| {
        let mut words = text.split_whitespace().map(|word| word.trim_start_matches('&'));
        let word = words.find(|word| !word.is_empty() && *word != "dyn" && !word.starts_with('\''))?;
        word.split(['<', '{', ':']).next().map(str::to_owned)
    };
    if let Some((_, rest)) = head.split_once("trait ") {
        return name(rest);
    }
    let mut rest = head.strip_prefix("impl")?;
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.char_indices().find(|(n, c)| {
            depth += i32::from(*c == '<') - i32::from(*c == '>' && !rest[..*n].ends_with('-'));
            depth == 0
        });
        rest = &rest[end?.0 + 1..];
    }
    match rest.split_once(" for ") {
        Some((_, of)) => name(of),
        None => name(rest),
    }
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
        const COUNTED: [(Kind, &str); 4] =
            [(Kind::Story, "stories"), (Kind::Corner, "corners"), (Kind::Test, "tests"), (Kind::Planted, "planted")];
        let mut table = format!("{:<36}{:<SPECIFICATION_WIDTH$} {:<ENGINE_WIDTH$}", "rule", "specification", "engine");
        COUNTED.iter().for_each(|(_, heading)| table.push_str(&format!(" {heading}")));
        table.push('\n');
        for rule in self.rules {
            let items = self.of(rule.number, Kind::Specification).filter_map(|place| place.item.as_deref());
            let items = items.collect::<Vec<_>>().join(", ");
            let engine = self.functions(rule.number);
            let mut line = format!(
                "{:<5} {:<30}{items:<SPECIFICATION_WIDTH$} {engine:<ENGINE_WIDTH$}",
                rule.number,
                rule.title(TITLE_MAX)
            );
            for (kind, heading) in COUNTED {
                let (count, width) = (distinct(self.of(rule.number, kind)), heading.len() + 1);
                line.push_str(&format!("{:>width$}", if count == 0 { "-".to_owned() } else { count.to_string() }));
            }
            table.push_str(&line);
            table.push('\n');
        }
        let all = |kind| distinct(self.places.values().flatten().filter(|place| place.kind == kind));
        let [engine, stories, corners, tests, planted] =
            [Kind::Engine, Kind::Story, Kind::Corner, Kind::Test, Kind::Planted].map(all);
        let rules = self.rules.len();
        table.push_str(&format!(
            "\n{rules} rules; carried out by {engine} functions of the engine; exercised by {stories} stories, {corners} \
             corners and {tests} tests;\n{planted} planted bugs break one. All places of a rule, with file and line: cargo \
             xtask rules --rule NUMBER\n"
        ));
        table
    }

    /// The names of the engine's functions that carry a rule out, each with the number of storages that have one.
    fn functions(&self, number: Number) -> String {
        let mut names: Vec<(&str, usize)> = Vec::new();
        for place in self.of(number, Kind::Engine) {
            let name = place.item.as_deref().unwrap_or_default();
            let name = name.rsplit("::").next().unwrap_or(name);
            match names.iter_mut().find(|(other, _)| *other == name) {
                Some((_, count)) => *count += 1,
                None => names.push((name, 1)),
            }
        }
        let name = |(name, count): &(&str, usize)| match count {
            1 => (*name).to_owned(),
            _ => format!("{name} in {count}"),
        };
        if names.is_empty() { "-".to_owned() } else { names.iter().map(name).collect::<Vec<_>>().join(", ") }
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

    fn has_corners(&self) -> bool {
        self.places.values().flatten().any(|place| place.kind == Kind::Corner)
    }

    /// All that is wrong with the citations.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for Rule { number, line, .. } in self.rules {
            let has = |kind| self.of(*number, kind).next().is_some();
            if !has(Kind::Specification) {
                faults.push(format!("rule {number} ({}:{line}): nothing in model/spec/src cites it", semantics::PAGE));
            }
            if CARRIED_OUT_ONCE.contains(number) {
                let functions: Vec<&Place> = self.of(*number, Kind::Engine).collect();
                if functions.len() != 1 {
                    let places = functions.iter().map(|place| format!(" {}:{}", place.file, place.line));
                    faults.push(format!(
                        "rule {number} ({}:{line}): one function of the engine must carry it out (`/// Rule {number}`), not {}:{}",
                        semantics::PAGE,
                        functions.len(),
                        places.collect::<String>()
                    ));
                }
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
    fn a_function_carries_out_the_rules_that_a_line_of_its_documentation_begins_with() {
        let text = "\
//! Rule 2.1.
/// Rule 3.1:
/// a store, which is (rule 2.4) remembered.
#[must_use]
#[expect(
    clippy::too_many_arguments,
)]
pub(crate) const fn store<'a>(
    x: [u8; 4],
) {
    // Rule 3.2.
}

struct Change {
    /// Rule 3.3.
    pub check: u8,
}

pub trait Judge {
    /// Rule 3.4.
    fn undo(
        &self,
    ) -> Tid;

    /// What ends.
    /// Rules 3.5 and 3.6.
    fn end(&self) {
        self.undo();
    }
}

impl<P: Past<At = u64>> Judge for &'_ Past<P>
where
    P: Copy,
{
    /// Rule 3.7.
    fn restore(&self) -> Tid {
    }
    /// Rule 3.4 undoes a tombstone that it shares.
    fn source() {
    }
}

#[cfg(test)]
mod tests {
    /// Rule 3.4.
    #[test]
    fn undo() {}
}
";
        let expected = [
            "2.1 mentions in the engine 1:-",
            "3.1 engine 8:store()",
            "2.4 mentions in the engine 3:store()",
            "3.2 mentions in the engine 11:store()",
            "3.3 mentions in the engine 15:check",
            "3.4 mentions in the engine 20:undo()",
            "3.5 engine 27:Judge::end()",
            "3.6 engine 27:Judge::end()",
            "3.7 engine 37:Past::restore()",
            "3.4 mentions in the engine 39:source()",
            "3.4 tests 46:undo()",
        ];
        assert_eq!(shown("impl/storage/src/transaction/judge.rs", text), expected);
        assert_eq!(Kind::of("impl/file/examples/first.rs"), None);
    }

    #[test]
    fn a_function_belongs_to_the_type_of_its_impl() {
        let owner = |head| owner_in(head).unwrap();
        assert_eq!(owner("impl Storage for FileStorage {"), "FileStorage");
        assert_eq!(owner("impl<'a, F: Fn() -> Option<u8>> Judge<'a, F> {"), "Judge");
        assert_eq!(owner("impl<S> From<S> for Dyn<S>"), "Dyn");
        assert_eq!(owner("impl dyn Storage {"), "Storage");
        assert_eq!(owner("pub trait Past: Send {"), "Past");
    }

    #[test]
    fn stories_snapshots_corners_and_planted_bugs_cite_in_their_own_ways() {
        let story = "# Rule 4.2. Garbage, but (rule 4.6) not all.\n";
        assert_eq!(shown("model/harness/scenarios/4.2-garbage.script", story), ["4.2 stories 1:-", "4.6 stories 1:-"]);
        assert_eq!(shown("snapshots/rules@4.10-a.snap", "# Rule 4.2."), ["4.10 snapshots 1:-"]);
        let corners = "    Load \"2.1\" \"load: on the trunk\" [undo]\n    let x = \"2.2\";\n";
        assert_eq!(shown(CORNERS, corners), ["2.1 corners 1:load: on the trunk"]);
        let planted = "Bug: it is lost.\nAlso breaks: rule 3.0\n\n--- a/x\n+++ b/x\n+// rule 3.1\n";
        let expected = ["3.0 planted bugs 2:it is lost.", "3.4 planted bugs 1:it is lost."];
        assert_eq!(shown("model/harness/planted/3.4/x.patch", planted), expected);
        assert_eq!(shown("model/harness/planted/invariants/x.patch", "Bug: x.\n"), [""; 0]);
    }

    #[test]
    fn each_rule_of_writing_is_carried_out_by_one_function() {
        let rule = |part, rule| Rule { number: Number(part, rule), text: String::new(), line: 3 };
        let rules = [rule(2, 1), rule(3, 1), rule(3, 2), rule(3, 3)];
        let two = "/// Rules 3.1 and 2.1.\nfn store() {\n}\n/// Rule 3.1.\nfn restore() {\n}\n";
        let specification = "/// Rules 2.1, 3.1, 3.2 and 3.3.\nfn all() {\n}\n";
        let places = [
            cited("impl/a/src/lib.rs", Kind::Engine, two),
            cited("impl/b/src/lib.rs", Kind::Engine, "/// Rule 3.3.\nfn check() {\n}\n/// Rule 2.1:\nfn load() {\n}\n"),
            cited("model/spec/src/lib.rs", Kind::Specification, specification),
            cited("impl/a/tests/all.rs", Kind::Test, "// Rules 2.1, 3.1, 3.2 and 3.3."),
        ];
        let expected = [
            "rule 3.1 (docs/semantics.md:3): one function of the engine must carry it out (`/// Rule 3.1`), not 2: \
             impl/a/src/lib.rs:2 impl/a/src/lib.rs:5",
            "rule 3.2 (docs/semantics.md:3): one function of the engine must carry it out (`/// Rule 3.2`), not 0:",
        ];
        let matrix = Matrix::new(&rules, places.concat());
        assert_eq!(matrix.faults(), expected);
        assert_eq!(matrix.functions(Number(2, 1)), "store(), load()");
    }

    #[test]
    fn a_rule_without_specification_or_exercise_or_that_is_missing_is_a_fault() {
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
