//! `vellum`: shows, checks, repairs, copies, packs and undoes object databases in `Data.fs` files.
//!
//! | folder | what it has |
//! |---|---|
//! | `commands` | the subcommands, one file each |
//! | `ui` | input and output for people and for programs |
//! | `file` | opening a database, and looking into its file |
//!
//! The arrows go down: `commands` knows `file` and `ui`, `file` knows `ui`. The work is done in the crates below:
//! `vellum-file` reads a file and finds its faults, `vellum-pickle` reads records, and
//! `vellum-terminal` has standard output, exit codes and progress bars. A subcommand asks them, and shows the answer to
//! a person (the default) or to a program (`--json`).
//!
//! All subcommands keep these rules:
//!
//! - `undo`, `commit-version`, `abort-version`, `import`, `restore` and `collect` change a database. They show the
//!   change, ask, and make one new transaction (`collect`: several).
//! - `pack` discards its past. It shows what would go, and asks; `--yes` packs at once.
//! - All others open the database for reading only. `recover` and `export` write a new file; `copy` writes a new file,
//!   or appends to an older copy.
//! - Answers go to standard output, everything else to standard error. The exit code is 0 if all is well; 1 if there
//!   are problems in the database, or the rules forbid the request; 2 for wrong use, or if the command failed.
//! - Text from a database (users, descriptions, class names, versions) is not trusted. Its control characters are
//!   shown, and never sent to the terminal.
//! - A reader that goes away, as `head` does, is not an error, unless a change was still to be shown: then the command
//!   does not make the change, and fails.
//!
//! The command makes no objects, and needs none of the classes in a database.
#![forbid(unsafe_code)]

mod client;
mod commands;
mod file;
mod python;
mod serving;
mod ui;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use vellum_terminal::{Failure, Out, Outcome, Run};

/// The system's allocator takes a fifth of the time of a server that does nothing but loads.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

use crate::commands::{
    blobs, cache, check, collect, copy, dump, end_version, export, garbage, import, info, journal, log, nagios, pack,
    recover, refs, restore, runzeo, serve, show, status, undo, versions, zeopack,
};

/// Inspect, check, repair and undo changes in object databases in Data.fs files.
///
/// A database is one file, usually called Data.fs. It is a list of transactions. Each transaction has a time, a user
/// and a description, and holds a new revision of each object that it changed. Only `undo`, `commit-version`,
/// `abort-version`, `import`, `restore`, `collect` and `pack` change a database: they show a preview, and ask.
/// `recover` and `copy` write a new file.
#[derive(Parser)]
#[command(name = "vellum", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = SHORT, after_long_help = LONG)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show times in the local time zone, too
    #[arg(long, global = true)]
    local: bool,
}

// Lines of help have less than 80 columns: clap breaks longer ones without an indent.

const SHORT: &str = "\
Start with `vellum info Data.fs`. `vellum help COMMAND` explains a command,
`vellum --help` explains the names of objects and times, --json, and the exit
codes.";

const LONG: &str = "\
Objects:
  An object is named by its oid: in hex, as it is printed (1f, 0x1f,
  000000000000001f), or in decimal with a d after it (31d). Sixteen digits are
  always hex. Object 0 is the root.

Times:
  A time is the tid of a transaction (16 hex digits);
  a date, or a date and a time of day, in UTC unless it says otherwise
  (2026-11-22, \"2026-11-22 11:14\", 2026-11-22T11:14:03+01:00);
  or relative to now (\"2 hours ago\", yesterday, today, now).
  Times are shown in UTC; with --local in the time zone of the system (TZ), too.

For programs:
  With --json the answer is one JSON object, or one on each line where there are
  many. The order of fields does not change; new ones come at the end. Times are
  RFC 3339, sizes are bytes. Invalid UTF-8 in a text is shown as U+FFFD, and the
  whole text is added in hex, as user_hex and so on. States and
  extensions are JSON that loses nothing: see docs/state-json.md.

Exit codes:
  0  success
  1  problems were found in the database, or the rules forbid the operation
  2  the command was used wrongly, or could not do its work";

#[derive(Subcommand)]
enum Command {
    Info(info::Info),
    Log(log::Log),
    Show(show::Show),
    Versions(versions::Versions),
    Dump(dump::Dump),
    Check(check::Check),
    Blobs(blobs::Blobs),
    Journal(journal::Journal),
    Cache(cache::Cache),
    Refs(refs::Refs),
    Garbage(garbage::Garbage),
    Recover(recover::Recover),
    Copy(copy::Copy),
    Pack(pack::Pack),
    Export(export::Export),
    Import(import::Import),
    Restore(restore::Restore),
    Undo(undo::Undo),
    CommitVersion(end_version::CommitVersion),
    AbortVersion(end_version::AbortVersion),
    Collect(collect::Collect),
    Serve(serve::Serve),
    Status(status::Status),
    Runzeo(runzeo::Runzeo),
    Zeopack(zeopack::Zeopack),
    Nagios(nagios::Nagios),
    /// Explain a command
    Help {
        /// The command
        command: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.local {
        vellum_terminal::people::show_local_times();
    }
    vellum_terminal::output::run("vellum", |out| carry_out(cli.command, out))
}

fn carry_out(command: Command, out: &mut Out) -> Run {
    let now = ui::args::now().map_err(Failure::Message)?;
    match command {
        Command::Info(info) => info.run(out, now),
        Command::Log(log) => log.run(out, now),
        Command::Show(show) => show.run(out, now),
        Command::Versions(versions) => versions.run(out, now),
        Command::Journal(journal) => journal.run(out),
        Command::Dump(dump) => dump.run(out, now),
        Command::Check(check) => check.run(out, now),
        Command::Blobs(blobs) => blobs.run(out, now),
        Command::Cache(cache) => cache.run(out, now),
        Command::Refs(refs) => refs.run(out, now),
        Command::Garbage(garbage) => garbage.run(out, now),
        Command::Recover(recover) => recover.run(out, now),
        Command::Copy(copy) => copy.run(out, now),
        Command::Pack(pack) => pack.run(out, now),
        Command::Export(export) => export.run(out, now),
        Command::Import(import) => import.run(out, now),
        Command::Restore(restore) => restore.run(out, now),
        Command::Undo(undo) => undo.run(out, now),
        Command::CommitVersion(commit) => commit.run(out, now),
        Command::AbortVersion(abort) => abort.run(out, now),
        Command::Collect(collect) => collect.run(out, now),
        Command::Serve(serve) => serve.run(out, now),
        Command::Status(status) => status.run(out),
        Command::Runzeo(runzeo) => runzeo.run(out, now),
        Command::Zeopack(zeopack) => zeopack.run(out, now),
        Command::Nagios(nagios) => nagios.run(out),
        Command::Help { command } => help(command.as_deref()),
    }
}

/// Shows the short help page, or the page of a command.
fn help(command: Option<&str>) -> Run {
    let mut vellum = Cli::command();
    vellum.build();
    let page = match command {
        None => &mut vellum,
        Some(name) => vellum
            .find_subcommand_mut(name)
            .ok_or_else(|| Failure::Message(format!("there is no command `{name}`; `vellum help` lists them")))?,
    };
    page.print_help()?;
    Ok(Outcome::Fine)
}
