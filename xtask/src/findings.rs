//! `cargo xtask findings`: the surprises in other packages, which `findings/README.md` lists, are still so.
//!
//! Each is a program in bash that stands alone. `findings/common.inc` says how a program reports a change: with a line
//! `changed: ...` on stderr. Any other failure, as of the package index, says nothing about the package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;

use crate::{Outcome, venv};

/// With this variable a program runs that Python, and installs nothing.
const PYTHON: &str = "VELLUM_PEER_PYTHON";

/// Runs the programs in findings/, which show surprises in other packages
///
/// Each installs its packages into a temporary folder. Needs bash, python3 and a package index.
#[derive(Debug, Args)]
pub struct Findings {
    /// Run only the programs with this text in their names
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// A program's verdict on the package.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    StillSo,
    /// The package behaves in another way now.
    Changed(String),
    /// The program did not get as far as to look.
    Failed(String),
}

impl Findings {
    /// Runs the programs one after the other, and fails unless each finding is still so.
    pub fn run(self) -> Outcome {
        let wanted = |program: &PathBuf| self.only.as_ref().is_none_or(|only| name(program).contains(only.as_str()));
        let programs: Vec<_> = programs()?.into_iter().filter(wanted).collect();
        if programs.is_empty() {
            return Err("no program in findings/ has this text in its name".into());
        }
        let mut still_so = 0;
        for program in &programs {
            let started = Instant::now();
            let verdict = run(program, None)?;
            let (name, seconds) = (name(program), started.elapsed().as_secs_f64());
            match verdict {
                Verdict::StillSo => {
                    still_so += 1;
                    println!("ok      {name} ({seconds:.1} s)");
                }
                Verdict::Changed(why) => println!("changed {name}: {why} ({seconds:.1} s)"),
                Verdict::Failed(why) => println!("FAIL    {name}: {why} ({seconds:.1} s)"),
            }
        }
        println!("{still_so} of {} findings are still so", programs.len());
        if still_so == programs.len() {
            Ok(())
        } else {
            Err("findings/README.md is out of date, or a program failed".into())
        }
    }
}

/// The programs, in the order of their names.
pub fn programs() -> std::io::Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(venv::workspace().join("findings"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            programs.push(path);
        }
    }
    programs.sort();
    Ok(programs)
}

/// The program's file name, without `.sh`.
pub fn name(program: &Path) -> String {
    program.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs a program: with the packages of `python`, or with its own.
pub fn run(program: &Path, python: Option<&Path>) -> std::io::Result<Verdict> {
    let mut command = Command::new("bash");
    command.arg(program).stdin(Stdio::null()).env_remove(PYTHON);
    if let Some(python) = python {
        command.env(PYTHON, python);
    }
    let output = command.output()?;
    if output.status.success() {
        return Ok(Verdict::StillSo);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    if told.lines().any(|line| line.starts_with("changed: ")) {
        return Ok(Verdict::Changed(String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ")));
    }
    Ok(Verdict::Failed(told.trim().lines().last().map_or_else(|| output.status.to_string(), str::to_owned)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(path: &str) -> String {
        std::fs::read_to_string(venv::workspace().join(path)).unwrap()
    }

    /// The names of the programs that a page links to, with `before` in front of each.
    fn linked(page: &str, before: &str) -> BTreeSet<String> {
        let links = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        links.filter_map(|(link, _)| Some(link.strip_prefix(before)?.strip_suffix(".sh")?.to_owned())).collect()
    }

    #[test]
    fn the_table_lists_every_program_and_the_pages_link_to_programs_that_exist() {
        let there: BTreeSet<_> = programs().unwrap().iter().map(|program| name(program)).collect();
        assert_eq!(linked(&text("findings/README.md"), ""), there);
        for entry in std::fs::read_dir(venv::workspace().join("docs/findings")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let page = linked(&std::fs::read_to_string(&path).unwrap(), "../../findings/");
                assert!(page.is_subset(&there), "{}: {:?}", path.display(), page.difference(&there));
            }
        }
        assert!(!linked(&text("docs/findings/filestorage.md"), "../../findings/").is_empty());
    }

    #[test]
    fn every_program_pins_its_packages_says_what_was_seen_and_looks_whether_it_is_still_so() {
        for program in programs().unwrap() {
            let text = std::fs::read_to_string(&program).unwrap();
            let has = |start: &str| text.lines().any(|line| line.starts_with(start));
            assert!(has("# Seen: ") && has("saw \""), "{}", name(&program));
            let mut installed = text.lines().filter_map(|line| line.strip_prefix("install ")).peekable();
            // Of a program that cargo builds: a dependency of exactly this version.
            let pins_crate = text.lines().any(|line| line.contains(" = \"="));
            assert!(installed.peek().is_some() || pins_crate, "{}", name(&program));
            assert!(installed.all(|line| line.split(' ').all(|package| package.contains("=="))), "{}", name(&program));
        }
    }

    #[test]
    fn a_change_is_told_from_a_program_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let common = venv::workspace().join("findings/common.inc");
        let verdict = |steps: &str| {
            let program = folder.path().join("program.sh");
            std::fs::write(&program, format!(". '{}'\n{steps}\n", common.display())).unwrap();
            run(&program, Some(Path::new("python"))).unwrap()
        };
        assert_eq!(verdict("saw 'it sinks' 'it sinks' '^it s' 'ks$'"), Verdict::StillSo);
        assert_eq!(verdict("saw 'it sinks' 'it swims' '^it s' 'ks$'"), Verdict::Changed("it swims".into()));
        assert_eq!(verdict("echo 'no index' >&2; false"), Verdict::Failed("no index".into()));
        assert!(matches!(verdict("output=$(false); saw 'it sinks' '' ''"), Verdict::Failed(_)));
    }
}
