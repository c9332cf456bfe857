//! The project's own tasks, as `cargo xtask TASK`. `cargo xtask help` lists them.
//!
//! Each task is a struct of its arguments, beside the code that carries it out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod bench;
mod coverage;
mod day;
mod findings;
mod fuzz;
mod ground;
mod mutants;
mod nightly;
mod peers;
mod prose;
mod review;
mod rules;
mod semantics;
mod tables;
mod teeth;
mod track_record;
mod venv;

/// The result of a task: an error is printed, and the exit code is 1.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    /// None prints the list of tasks.
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, Subcommand)]
enum Task {
    Peers(peers::Peers),
    Bench(bench::Bench),
    Tables(tables::Tables),
    Teeth(teeth::Teeth),
    Rules(rules::Rules),
    Review(review::Review),
    Findings(findings::Findings),
    Prose(prose::Prose),
    Fuzz(fuzz::Fuzz),
    Corpus(fuzz::Corpus),
    Coverage(coverage::Coverage),
    Nightly(nightly::Nightly),
    Mutants(mutants::Mutants),
    TrackRecord(track_record::TrackRecord),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        None => Arguments::command().print_long_help().map_err(Into::into),
        Some(Task::Peers(task)) => task.run(),
        Some(Task::Bench(task)) => task.run(),
        Some(Task::Tables(task)) => task.run(),
        Some(Task::Teeth(task)) => task.run(),
        Some(Task::Rules(task)) => task.run(),
        Some(Task::Review(task)) => task.run(),
        Some(Task::Findings(task)) => task.run(),
        Some(Task::Prose(task)) => task.run(),
        Some(Task::Fuzz(task)) => task.run(),
        Some(Task::Corpus(task)) => task.run(),
        Some(Task::Coverage(task)) => task.run(),
        Some(Task::Nightly(task)) => task.run(),
        Some(Task::Mutants(task)) => task.run(),
        Some(Task::TrackRecord(task)) => task.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e}");
            ExitCode::FAILURE
        }
    }
}

/// A number as people write it, with `_` or `,` between its digits.
fn number(text: &str) -> Result<u64, String> {
    text.replace(['_', ','], "").parse().map_err(|_| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["cargo xtask"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_of_the_arguments_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn asking_for_help_starts_no_task() {
        for task in [
            "bench",
            "tables",
            "peers",
            "teeth",
            "rules",
            "review",
            "findings",
            "prose",
            "fuzz",
            "corpus",
            "coverage",
            "nightly",
            "mutants",
            "track-record",
        ] {
            for help in [format!("{task} --help"), format!("{task} -h"), format!("help {task}")] {
                assert_eq!(parsed(&help).unwrap_err().kind(), ErrorKind::DisplayHelp, "{help}");
            }
            assert_eq!(parsed(&format!("{task} --messages 10 --hepl")).unwrap_err().exit_code(), 2, "{task}");
        }
    }

    #[test]
    fn the_command_lines_of_ci_are_understood() {
        for line in [
            "rules",
            "rules --rule 3.4",
            "review",
            "findings",
            "findings --only zeo-oids",
            "prose",
            "prose --root ../other --counts",
            "fuzz --seconds 10 --quiet",
            "fuzz record peer_pipe",
            "fuzz --today 6",
            "bench --today 14",
            "corpus",
            "coverage scan.rs open.rs",
            "nightly explore-deep --again",
            "teeth --build",
            "teeth --build --today 20",
            "teeth --today 4",
            "teeth --today 4 --with prove",
            "mutants --package vellum-spec --shard 2/5",
            "mutants --today 6",
            "mutants --listed",
            "track-record --only 3.4/",
            "teeth --only undo-by-halves,one-leaves",
            "bench --messages 1000 --rounds 1",
            "bench --messages 100_000 --only pack-wait",
            "peers --histories 1,000 --seed 7 --only back",
            "peers --histories 40 --today 3",
        ] {
            assert!(parsed(line).is_ok(), "{line}: {}", parsed(line).unwrap_err());
        }
        assert!(parsed("").unwrap().task.is_none());
    }

    #[test]
    fn unknown_and_conflicting_arguments_are_refused() {
        for line in [
            "dance",
            "rules --rule x",
            "rules --rule 4.2b",
            "bench --only dancing",
            "findings --only",
            "teeth --today 4 --only x",
            "bench --today 4 --only load",
            "fuzz record --today 4",
            "peers --today 3 --only back",
            "peers --today 3 --everything",
            "nightly sleep",
            "mutants --shard 3/2",
            "mutants --package vellum-cake",
            "mutants --shard 1/2 --today 3",
        ] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
