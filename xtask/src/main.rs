//! The project's own tasks, as `cargo xtask TASK`. `cargo xtask help` lists them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod bench;
mod coverage;
mod fuzz;
mod peers;
mod review;
mod rules;
mod semantics;
mod teeth;
mod venv;

/// What a task comes to: an error is printed, and the exit code is 1.
type Outcome = Result<(), Box<dyn std::error::Error>>;

const HELP: &str = "\
cargo xtask peers [--histories N] [--seed S] [--only NAME]
    Sets up the real ZODB in a virtual environment under target/, and holds the engine against it. --only takes part of
    the name of a check.

cargo xtask bench [--messages N] [--rounds N] [--only WHAT]
    Makes a mail database with the real ZODB (100,000 messages), and times the engine beside it and beside the bare
    machine, in the same run, on the same file. WHAT is open, open-index, load, load2, iterate, commit-relaxed, commit,
    commit8, copy, pack, pack-removing, pack-wait, pack-memory, undo-log, versions, version100 or version1000.

cargo xtask teeth [--only NAME | --today N | --build]
    Plants bugs in a copy of the workspace, one after the other (model/harness/planted), and demands that each is caught
    by the check that it names. --only takes parts of names, with commas between them. --today N takes N of them, others
    each day. --build only asks whether each can still be put in and built.

cargo xtask rules [--rule NUMBER]
    Prints for each rule of docs/semantics.md where it is specified, where the engine carries it out, and how many stories,
    corners, tests and planted bugs there are for it; with a number, all of them by file and line. Fails if a rule is not
    specified, or if nothing exercises it.

cargo xtask review
    Shows the snapshots whose tests found another text: the rule, the story, and the difference. Fails if there are any.

cargo xtask fuzz [TARGET...] [--seconds N] [--quiet]
    Runs the fuzz targets, one after the other, each for so many seconds (60), under cargo-fuzz and the nightly compiler.
    What fails is put to fuzz/artifacts, what is new is kept under target/. Quiet: says only that, and how much was done.

cargo xtask corpus [TARGET...]
    Makes the dictionaries and the seeds, and of these and of what was found keeps in fuzz/corpus as little as takes all
    branches.

cargo xtask coverage [PART...]
    Counts which lines of the engine the kept inputs reach, with `cov` of the crate llvm_profparser; and shows the others of
    the files whose paths have one of the parts in them.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("peers") => peers::run(&arguments[1..]),
        Some("bench") => bench::run(&arguments[1..]),
        Some("teeth") => teeth::run(&arguments[1..]),
        Some("rules") => rules::run(&arguments[1..]),
        Some("review") => review::run(&arguments[1..]),
        Some("fuzz") => fuzz::run(&arguments[1..]),
        Some("corpus") => fuzz::corpus(&arguments[1..]),
        Some("coverage") => coverage::run(&arguments[1..]),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("there is no task `{other}`; `cargo xtask help` lists them").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The number after this flag, or what it is by default.
fn number(arguments: &[String], flag: &str, default: u64) -> Result<u64, Box<dyn std::error::Error>> {
    let Some(at) = arguments.iter().position(|argument| argument == flag) else {
        return Ok(default);
    };
    let value = arguments.get(at + 1).ok_or(format!("{flag} takes a number"))?;
    value.replace(['_', ','], "").parse().map_err(|_| format!("{flag} takes a number, not `{value}`").into())
}
