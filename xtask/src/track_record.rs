//! `cargo xtask track-record`: tries the historical bugs again, and notes that in docs/track-record.md.
//!
//! The page has a table between two marks: a line for each planted bug, with the check that finds it, the seconds that
//! it took without its build, and the commit at which it was last tried. The task plants the chosen bugs, and renews
//! their lines. Other lines stay as they were; a bug that is new gets a line that says that it was never tried.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use clap::Args;

use crate::venv::workspace;
use crate::{Outcome, teeth};

const PAGE: &str = "docs/track-record.md";
const BEGIN: &str = "<!-- The lines from here to the next mark are written by `cargo xtask track-record`. -->";
const END: &str = "<!-- Here they end. -->";

/// Tries the historical bugs again, and renews their lines in docs/track-record.md
///
/// Without --only, no bug is tried: the table gets a line for each new bug, and loses those of bugs that are gone.
#[derive(Debug, Args)]
pub struct TrackRecord {
    /// Try the bugs with one of these texts in their names, separated by commas
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Try all of them; it takes hours
    #[arg(long, conflicts_with = "only")]
    all: bool,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    check: String,
    seconds: String,
    commit: String,
}

impl TrackRecord {
    /// Renews the table, and fails if a bug that was tried is not found.
    pub fn run(self) -> Outcome {
        let path = workspace().join(PAGE);
        let page = fs::read_to_string(&path)?;
        let mut lines = parse(table(&page)?.1);
        let mut record = BTreeMap::new();
        let names = teeth::names()?;
        for (name, check) in &names {
            let known = lines.remove(name);
            let (seconds, commit) =
                known.map_or(("-".to_owned(), "never".to_owned()), |line| (line.seconds, line.commit));
            record.insert(name.clone(), Line { check: check.clone(), seconds, commit });
        }
        let mut lost = Vec::new();
        if self.all || self.only.is_some() {
            let commit = commit()?;
            for tried in teeth::tried(self.only.as_deref())? {
                let Some(line) = record.get_mut(&tried.name) else { continue };
                line.commit.clone_from(&commit);
                line.seconds = if tried.caught { format!("{:.1}", tried.seconds) } else { "not found".to_owned() };
                if !tried.caught {
                    lost.push(tried.name);
                }
            }
        }
        let order: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let (before, _, after) = table(&page)?;
        fs::write(&path, format!("{before}{BEGIN}\n{}{END}{after}", write(&order, &record)))?;
        if lost.is_empty() { Ok(()) } else { Err(format!("not found any more: {}", lost.join(", ")).into()) }
    }
}

/// The commit of the workspace, with a `+` if there are changes that are not committed.
fn commit() -> Result<String, Box<dyn std::error::Error>> {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).current_dir(workspace()).output();
    let head = String::from_utf8(git(&["rev-parse", "--short=8", "HEAD"])?.stdout)?.trim().to_owned();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.stdout.is_empty();
    Ok(if changed { format!("{head}+") } else { head })
}

/// The page in three parts: before the table, the table, and behind it.
fn table(page: &str) -> Result<(&str, &str, &str), String> {
    let missing = || format!("{PAGE} has no `{BEGIN}` with `{END}` behind it");
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (table, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok((before, table, after))
}

fn parse(table: &str) -> BTreeMap<String, Line> {
    let cells = |line: &str| -> Option<(String, Line)> {
        let cells: Vec<String> = line
            .strip_prefix("| `")?
            .strip_suffix(" |")?
            .split(" | ")
            .map(|cell| cell.trim_matches('`').to_owned())
            .collect();
        let [name, check, seconds, commit] = <[String; 4]>::try_from(cells).ok()?;
        Some((name, Line { check, seconds, commit }))
    };
    table.lines().filter_map(cells).collect()
}

fn write(order: &[&str], record: &BTreeMap<String, Line>) -> String {
    let mut text = "\n| planted bug | check | seconds | last tried at |\n|---|---|---|---|\n".to_owned();
    for name in order {
        let Some(Line { check, seconds, commit }) = record.get(*name) else { continue };
        text += &format!("| `{name}` | `{check}` | {seconds} | {commit} |\n");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_is_written() {
        let line = |commit: &str| Line {
            check: "prove --cases 3".to_owned(),
            seconds: "0.3".to_owned(),
            commit: commit.to_owned(),
        };
        let record = BTreeMap::from([("3.4/a".to_owned(), line("1234")), ("3.4/b".to_owned(), line("never"))]);
        assert_eq!(parse(&write(&["3.4/b", "3.4/a"], &record)), record);
    }

    #[test]
    fn the_page_has_its_marks_and_lines_between_them() {
        let page = fs::read_to_string(workspace().join(PAGE)).unwrap();
        let lines = parse(table(&page).unwrap().1);
        assert!(lines.len() > 100, "run `cargo xtask track-record`: {} lines", lines.len());
    }
}
