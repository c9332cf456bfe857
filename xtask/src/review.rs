//! `cargo xtask review`: what snapshots would say now, beside what they say.
//!
//! A test that finds another text than its snapshot has leaves that text beside it, as `.snap.new` (insta does that, if
//! `INSTA_UPDATE` does not forbid it). Here each is shown as a reviewer needs it, who decides whether the change is
//! right: the rule, as `docs/semantics.md` has it; the story that tells it; and the difference. In colour, if that goes
//! to a terminal.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anstream::print;
use anstyle::{AnsiColor, Style};
use clap::Args;
use similar::{ChangeTag, TextDiff};

use crate::semantics::{self, Number, Rule};
use crate::{Outcome, venv};

const SNAPSHOTS: &str = "snapshots";
const STORIES: &str = "model/harness/scenarios";
/// Lines around each difference.
const CONTEXT: usize = 4;

const HEADING: Style = Style::new().bold();
const OLD: Style = AnsiColor::Red.on_default();
const NEW: Style = AnsiColor::Green.on_default();
const PLACE: Style = AnsiColor::Cyan.on_default();

/// Shows the snapshots whose tests found another text
///
/// Prints the rule, the story and the difference for each of them. Fails if there are any.
#[derive(Debug, Args)]
pub struct Review {}

impl Review {
    /// Prints all differences, and fails if there are any.
    pub fn run(self) -> Outcome {
        let rules = semantics::rules()?;
        let root = venv::workspace();
        let pending = pending(&root)?;
        let mut by_rule: BTreeMap<Option<Number>, usize> = BTreeMap::new();
        for snapshot in &pending {
            *by_rule.entry(snapshot.rule()).or_default() += 1;
            print!("{}", snapshot.shown(&rules));
        }
        if pending.is_empty() {
            println!("no snapshot differs");
            return Ok(());
        }
        let of_rule = |(rule, count): (&Option<Number>, &usize)| match rule {
            Some(rule) => format!("rule {rule}: {count}"),
            None => format!("no rule, but what a command prints: {count}"),
        };
        let list = by_rule.iter().map(of_rule).collect::<Vec<_>>().join("; ");
        println!("To take them over: run their tests again with INSTA_UPDATE=always, and commit with a reason.");
        let s = if pending.len() == 1 { " differs" } else { "s differ" };
        Err(format!("{} snapshot{s} ({list})", pending.len()).into())
    }
}

/// A snapshot whose test found another text.
struct Pending {
    name: String,
    old: Option<String>,
    new: String,
    /// The test that found it.
    source: Option<String>,
    /// The script of the story, if it is a story's.
    story: Option<String>,
}

/// All of them, in the order of their names.
fn pending(root: &Path) -> Result<Vec<Pending>, Box<dyn std::error::Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(SNAPSHOTS))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".snap.new") else { continue };
        let (head, new) = parts(&fs::read_to_string(&path)?);
        let old = fs::read_to_string(path.with_extension("")).ok().map(|text| parts(&text).1);
        let story = name.strip_prefix("rules@").map(|name| root.join(STORIES).join(format!("{name}.script")));
        let story = story.and_then(|path| fs::read_to_string(path).ok());
        let source = head.lines().find_map(|line| line.strip_prefix("source: ")).map(str::to_owned);
        found.push(Pending { name: name.to_owned(), old, new, source, story });
    }
    found.sort_by_key(|pending| (pending.rule(), pending.name.clone()));
    Ok(found)
}

/// The text above a snapshot, and the snapshot.
fn parts(text: &str) -> (String, String) {
    let split = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"));
    let (head, content) = split.unwrap_or(("", text));
    (head.to_owned(), content.to_owned())
}

impl Pending {
    fn rule(&self) -> Option<Number> {
        Some(Number::parse(self.name.strip_prefix("rules@")?)?.0)
    }

    fn shown(&self, rules: &[Rule]) -> String {
        let mut text = String::new();
        let mut line = |style: Style, line: &str| {
            let _ = writeln!(text, "{style}{line}{style:#}");
        };
        line(HEADING, &format!("=== {SNAPSHOTS}/{}.snap", self.name));
        let rule = self.rule().and_then(|number| rules.iter().find(|rule| rule.number == number));
        if let Some(rule) = rule {
            line(HEADING, &format!("The rule ({}:{}):", semantics::PAGE, rule.line));
            let numbered = format!("{} {}", rule.number, rule.text);
            numbered.lines().for_each(|rule| line(Style::new(), &format!("    {rule}")));
        }
        if let Some(story) = &self.story {
            let name = self.name.trim_start_matches("rules@");
            line(HEADING, &format!("The story ({STORIES}/{name}.script):"));
            story.lines().for_each(|step| line(Style::new(), &format!("    {step}")));
        } else if let Some(source) = &self.source {
            line(HEADING, &format!("The test: {source}"));
        }
        let old = self.old.as_deref();
        line(HEADING, if old.is_some() { "The snapshot (-) and the new text (+):" } else { "It is new:" });
        let diff = TextDiff::from_lines(old.unwrap_or_default(), &self.new);
        for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
            line(PLACE, &hunk.header().to_string());
            for change in hunk.iter_changes() {
                let (style, sign) = match change.tag() {
                    ChangeTag::Delete => (OLD, '-'),
                    ChangeTag::Insert => (NEW, '+'),
                    ChangeTag::Equal => (Style::new(), ' '),
                };
                line(style, &format!("{sign}{}", change.value().trim_end_matches('\n')));
            }
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_difference_is_shown_with_its_rule_and_its_story() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("snapshots/rules@4.2-a.snap", "---\nsource: x.rs\n---\npack @1\n---\npack @1 → packed\n");
        write(
            "snapshots/rules@4.2-a.snap.new",
            "---\nsource: x.rs\nassertion_line: 4\n---\npack @1\n---\npack @1 → refused\n",
        );
        write("snapshots/rules@4.2-b.snap", "---\nsource: x.rs\n---\nas it was\n");
        write("model/harness/scenarios/4.2-a.script", "pack @1\n");
        write("snapshots/cli-pack.snap.new", "---\nsource: pack.rs\n---\n$ vellum pack\n");
        let rules = [Rule { number: Number(4, 2), text: "It is kept.".to_owned(), line: 7 }];
        let shown: String = pending(root.path()).unwrap().iter().map(|pending| plain(&pending.shown(&rules))).collect();
        let expected = "\
=== snapshots/cli-pack.snap
The test: pack.rs
It is new:
@@ -0,0 +1 @@
+$ vellum pack

=== snapshots/rules@4.2-a.snap
The rule (docs/semantics.md:7):
    4.2 It is kept.
The story (model/harness/scenarios/4.2-a.script):
    pack @1
The snapshot (-) and the new text (+):
@@ -1,3 +1,3 @@
 pack @1
 ---
-pack @1 → packed
+pack @1 → refused

";
        assert_eq!(shown, expected);
    }

    #[test]
    fn removed_and_added_lines_have_a_colour() {
        let pending = Pending {
            name: "cli-x".to_owned(),
            old: Some("a\n".to_owned()),
            new: "b\n".to_owned(),
            source: None,
            story: None,
        };
        let shown = pending.shown(&[]);
        assert!(shown.contains("\u{1b}[31m-a") && shown.contains("\u{1b}[32m+b"), "{shown:?}");
    }
}
