//! `cargo xtask prose`: comments, help and pages keep the rule of writing in `CONTRIBUTING.md`.
//!
//! The rule itself, subject, verb, object, cannot be checked by a program. [`denied`] lists words that show where it
//! was broken, and says what to write instead. [`passage`] takes the prose out of the files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::{Outcome, venv};

mod denied;
mod passage;

use denied::{DENIED, Rule};
use passage::{Kind, Passage};

/// Pages that are checked, besides all of `docs/`.
const PAGES: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "findings/README.md"];

/// A sentence that may keep its words.
struct Exception {
    file: &'static str,
    /// A part of the passage.
    text: &'static str,
    #[expect(dead_code, reason = "for the reader of the list")]
    reason: &'static str,
}

/// Each must still be in its file and break a rule; otherwise it is reported.
const EXCEPTIONS: &[Exception] = &[];

/// The files in which literals are samples, and not sentences of ours.
const SAMPLES: &[&str] = &["xtask/src/prose.rs", "xtask/src/prose/denied.rs", "xtask/src/prose/passage.rs"];

/// Checks the wording of comments, help and pages, and the width of comments
///
/// Reads the comments and messages of all Rust files, the pages in docs/, README.md, ARCHITECTURE.md, CONTRIBUTING.md
/// and findings/README.md. Prints the file, the line, the words and a better wording for each hit, and fails if there
/// is one.
#[derive(Debug, Args)]
pub struct Prose {
    /// Check this working tree, and not the one of this program
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print only the numbers
    #[arg(long)]
    counts: bool,
}

impl Prose {
    /// Prints what it found, and fails if that is not empty.
    pub fn run(self) -> Outcome {
        let root = self.root.unwrap_or_else(venv::workspace);
        let width = width(&root)?;
        let rules: Vec<_> = DENIED.iter().map(Rule::new).collect();
        let mut faults = Vec::new();
        let mut used = vec![false; EXCEPTIONS.len()];
        let mut sentences = 0;
        for file in venv::tree_of(&root)?.into_iter().filter(|file| is_prose(file)) {
            let source = fs::read_to_string(root.join(&file)).map_err(|e| format!("{file}: {e}"))?;
            let checked = check(&file, &source, width, &rules, &mut used);
            sentences += checked.passages;
            faults.extend(checked.faults);
        }
        let is_own = root == venv::workspace();
        for (exception, _) in EXCEPTIONS.iter().zip(used).filter(|(_, used)| is_own && !used) {
            let (file, words) = (exception.file.to_owned(), exception.text.to_owned());
            let hint = "remove this exception from xtask/src/prose.rs: no such sentence breaks a rule";
            faults.push(Fault { file, line: 1, name: "exception", words, hint });
        }
        let mut counts = BTreeMap::new();
        for fault in &faults {
            *counts.entry(fault.name).or_insert(0) += 1;
            if !self.counts {
                println!("{fault}");
            }
        }
        for (name, count) in &counts {
            println!("{count:6} {name}");
        }
        println!("{sentences:6} paragraphs, comments and messages");
        match faults.len() {
            0 => Ok(()),
            count => Err(format!("{count} places; CONTRIBUTING.md has the rule of writing").into()),
        }
    }
}

/// A place that is to be written anew.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    file: String,
    line: usize,
    name: &'static str,
    words: String,
    hint: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { file, line, name, words, hint } = self;
        write!(f, "{file}:{line}: \"{words}\" ({name}): {hint}")
    }
}

/// The result for one file.
struct Checked {
    passages: usize,
    faults: Vec<Fault>,
}

fn check(file: &str, source: &str, width: usize, rules: &[Rule], used: &mut [bool]) -> Checked {
    let (mut passages, wide) = if file.ends_with(".rs") {
        passage::of_rust(source, width)
    } else {
        (passage::of_markdown(source), Vec::new())
    };
    if SAMPLES.contains(&file) {
        passages.retain(|passage| passage.kind != Kind::Literal);
    }
    let fault =
        |line, name, words: &str, hint| Fault { file: file.to_owned(), line, name, words: words.to_owned(), hint };
    let mut faults = Vec::new();
    for passage in &passages {
        for rule in rules {
            for place in rule.find(passage) {
                let excepted = EXCEPTIONS.iter().position(|e| e.file == file && passage.text.contains(e.text));
                match excepted {
                    Some(index) => used[index] = true,
                    None => {
                        let words = words(passage, place.start);
                        faults.push(fault(passage.line(place.start), rule.denied.name, words, rule.denied.instead));
                    }
                }
            }
        }
    }
    for wide in wide {
        let words = format!("{} columns", wide.columns);
        faults.push(fault(wide.line, "width", &words, "break the line; rustfmt.toml has the width"));
    }
    faults.sort_by_key(|fault| fault.line);
    Checked { passages: passages.len(), faults }
}

/// The words from this place on, enough to find it.
fn words(passage: &Passage, start: usize) -> &str {
    const SHOWN: usize = 6;
    let rest = &passage.text[start..];
    rest.match_indices(' ').nth(SHOWN).map_or(rest, |(end, _)| &rest[..end])
}

fn is_prose(file: &str) -> bool {
    file.ends_with(".rs") || PAGES.contains(&file) || file.starts_with("docs/") && file.ends_with(".md")
}

/// `max_width` of the tree's `rustfmt.toml`.
fn width(root: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    let path = root.join("rustfmt.toml");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let value = text.lines().find_map(|line| line.strip_prefix("max_width = "));
    Ok(value.ok_or("rustfmt.toml has no max_width")?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, source: &str) -> Vec<(usize, &'static str)> {
        let rules: Vec<_> = DENIED.iter().map(Rule::new).collect();
        let checked = check(file, source, 40, &rules, &mut vec![false; EXCEPTIONS.len()]);
        checked.faults.into_iter().map(|fault| (fault.line, fault.name)).collect()
    }

    #[test]
    fn a_fault_is_reported_with_its_own_line() {
        let source = "/// Reads.\n///\n/// It reads all. Who\n/// reads waits.\nfn a() {}\n// It can\n// not.\n";
        assert_eq!(faults("impl/a.rs", source), [(3, "who-as-subject"), (6, "can-not")]);
    }

    #[test]
    fn messages_and_help_are_checked_and_other_strings_are_not() {
        assert_eq!(faults("impl/a.rs", "#[arg(help = \"What is to be read\")]\n"), [(1, "what-as-subject")]);
        assert_eq!(faults("impl/a.rs", "let a = r\"What is to be read\";\nlet b = \"can not\";\n"), []);
        assert_eq!(faults("xtask/src/prose/denied.rs", "let a = \"What is to be read\";\n"), []);
    }

    #[test]
    fn wide_comments_are_faults_and_wide_code_is_not() {
        let wide = "a comment that is wider than the forty columns";
        assert_eq!(faults("impl/a.rs", &format!("// {wide}\nlet a = \"{wide}\";\n")), [(1, "width")]);
    }

    #[test]
    fn rust_files_and_pages_are_prose() {
        for file in ["impl/file/src/lib.rs", "docs/format.md", "README.md", "findings/README.md"] {
            assert!(is_prose(file), "{file}");
        }
        for file in ["snapshots/cli-help.snap", "impl/disk/README.md", "xtask/peer/a.py"] {
            assert!(!is_prose(file), "{file}");
        }
    }
}
