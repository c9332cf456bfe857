//! `cargo xtask nightly`: the checks that take hours, one after the other.
//!
//! Each stage is a command of the project. Its end is noted in `target/nightly/done`, a line a stage, so a run that was
//! interrupted goes on where it was; `--again` begins anew. A stage that fails does not stop the others. Its output is
//! in a file of its name.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;

use crate::Outcome;
use crate::venv::{workshop, workspace};

/// The stages: a name, and the arguments of cargo.
const STAGES: [(&str, &str); 26] = [
    ("explore", "run --release --bin vellum-explore -- --check --waits"),
    ("explore-core", "run --release --bin vellum-explore -- --check --core"),
    ("explore-deep", "run --release --bin vellum-explore -- --check --deep"),
    ("histories", "run --release --bin vellum-prove -- --cases 200000 --seed 1"),
    ("crashes", "run --release --bin vellum-prove -- --crashes --cases 2000"),
    ("worlds", "run --release --bin vellum-prove -- --exhaustive night"),
    ("worlds-cut", "run --release --bin vellum-prove -- --exhaustive night --crashes"),
    ("worlds-memory", "run --release --bin vellum-prove -- --exhaustive night --storage memory"),
    ("worlds-overlay", "run --release --bin vellum-prove -- --exhaustive night --storage overlay"),
    ("worlds-compressed", "run --release --bin vellum-prove -- --exhaustive night --storage compressed"),
    ("worlds-journal", "run --release --bin vellum-prove -- --exhaustive night --storage file-journal"),
    ("worlds-relaxed", "run --release --bin vellum-prove -- --exhaustive night --storage file-relaxed"),
    ("worlds-table", "run --release --bin vellum-prove -- --exhaustive minutes --storage table"),
    ("tables", "run --release --bin vellum-prove -- --storage table --cases 20000"),
    ("tables-beside", "xtask tables --messages 10000"),
    ("tables-memory", "xtask tables --objects 1000000"),
    ("tables-cut", "run --release --bin vellum-prove -- --crashes --storage table --cases 1000"),
    ("journal", "run --release --bin vellum-prove -- --crashes --storage file-journal --cases 2000"),
    ("slow-tests", "test --release -p vellum-file -p vellum-fuzz -p vellum-client -- --ignored"),
    ("shuttle", r#"--config env.VELLUM_SCHEDULES="100000" test --release -p vellum-shuttle-tests"#),
    ("threads", "run --release --bin vellum-prove -- --threads 4 --cases 2000"),
    ("trees", "test --release -p vellum-object --features every-family --test btree_model"),
    ("peers", "xtask peers --everything"),
    ("storages", "xtask peers --storage all --histories 2000"),
    ("fuzz", "xtask fuzz --seconds 600 --quiet"),
    ("teeth", "xtask teeth"),
];

/// Runs the checks that take hours, and continues where an earlier run stopped
///
/// Each stage's output is in a file of its name under target/nightly. The summary at the end has one line a stage.
#[derive(Debug, Args)]
pub struct Nightly {
    /// The stages to run; all of them if none is given
    #[arg(value_name = "STAGE", value_parser = named)]
    stages: Vec<&'static str>,
    /// Forget what an earlier run has done
    #[arg(long)]
    again: bool,
    /// Only list the stages
    #[arg(long)]
    list: bool,
}

fn named(name: &str) -> Result<&'static str, String> {
    let names = || STAGES.iter().map(|(name, _)| *name);
    names()
        .find(|stage| *stage == name)
        .ok_or_else(|| format!("there is no stage `{name}`. There are: {}", names().collect::<Vec<_>>().join(", ")))
}

impl Nightly {
    /// Runs the stages that are not done, and fails if one of all stages did.
    pub fn run(self) -> Outcome {
        let chosen = STAGES.iter().filter(|(name, _)| self.stages.is_empty() || self.stages.contains(name));
        if self.list {
            chosen.for_each(|(name, arguments)| println!("{name:<16} cargo {arguments}"));
            return Ok(());
        }
        let folder = workshop("nightly")?;
        let notes = folder.join("done");
        if self.again && notes.exists() {
            fs::remove_file(&notes)?;
        }
        let mut done = read(&fs::read_to_string(&notes).unwrap_or_default());
        for (name, arguments) in chosen {
            if let Some(note) = done.get(*name) {
                println!("{name}: done before: {note}");
                continue;
            }
            let note = stage(&folder, name, arguments)?;
            writeln!(OpenOptions::new().create(true).append(true).open(&notes)?, "{name} {note}")?;
            done.insert((*name).to_owned(), note);
        }
        println!("\n=== summary");
        done.iter().for_each(|(name, note)| println!("{name:<16} {note}"));
        let failed: Vec<&str> =
            done.iter().filter(|(_, note)| note.starts_with("FAILED")).map(|(name, _)| name.as_str()).collect();
        match failed.is_empty() {
            true => Ok(()),
            false => Err(format!("{} failed: the output is in {}", failed.join(", "), folder.display()).into()),
        }
    }
}

/// The notes of an earlier run.
fn read(notes: &str) -> BTreeMap<String, String> {
    let line = |line: &str| line.split_once(' ').map(|(name, note)| (name.to_owned(), note.to_owned()));
    notes.lines().filter_map(line).collect()
}

/// Runs a stage to its end.
fn stage(folder: &Path, name: &str, arguments: &str) -> Result<String, Box<dyn std::error::Error>> {
    println!("{name}: cargo {arguments}");
    let output = File::create(folder.join(format!("{name}.txt")))?;
    let begun = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments.split_whitespace()).current_dir(workspace()).stdin(Stdio::null());
    let status = command.stdout(output.try_clone()?).stderr(output).status()?;
    let outcome = if status.success() { "ok" } else { "FAILED" };
    Ok(format!("{outcome} {} s", begun.elapsed().as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_where_it_was() {
        let done = read("explore ok 12 s\nfuzz FAILED 600 s\nhalf-a-li");
        assert_eq!(done.len(), 2);
        assert_eq!(done["fuzz"], "FAILED 600 s");
    }

    #[test]
    fn a_stage_that_fails_says_so() {
        let folder = std::env::temp_dir();
        let note = stage(&folder, "vellum-nightly-test", "there-is-no-such-command").unwrap();
        assert!(note.starts_with("FAILED"), "{note}");
        fs::remove_file(folder.join("vellum-nightly-test.txt")).unwrap();
    }
}
