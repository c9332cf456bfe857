//! `vellum journal`: what the journal beside a database holds, and the two ways out if it cannot be applied.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use vellum_file::{JournalState, LeftJournal, Options};
use vellum_terminal::people::{counted, exact_size};
use vellum_terminal::{Out, Outcome, Run};

/// The journal: show what it holds, save it, or put it aside
#[derive(Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  vellum journal show Data.fs
  vellum journal save Data.fs Saved.fs
  vellum journal discard Data.fs

A server with --durability journal writes each commit to Data.fs.journal first.
If it stops in good order, it removes that file. After a crash of the machine,
Data.fs can lack the last commits until a command that writes, or the server,
has opened it. Commands that only read show them all the same.

If another program wrote to Data.fs after the crash, the journal does not fit
any more, and nothing opens the file for writing. Look at both, and choose:

  save     writes the database as it was with the commits of the journal to a
           new file, without what the other program wrote since; or
  discard  keeps Data.fs as it is, and gives the journal another name.

You can do both: save first, then discard, and copy the missing objects with
`vellum restore`. docs/journal.md tells more."
)]
pub struct Journal {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Show(Show),
    Save(Save),
    Discard(Discard),
}

/// Show what the journal holds, and what it means
#[derive(Args)]
#[command(after_help = "\
The command changes nothing. The exit code is 0 if there is no journal, or the
next opening for writing uses it; and 1 if it cannot be applied.

With --json: one object.")]
struct Show {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Write the database with the journal's commits to a new file
#[derive(Args)]
#[command(after_help = "\
The database and its journal are not changed. The new file lacks the commits
that another program made after the crash. OUT must not exist yet.")]
struct Save {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The new file
    out: PathBuf,
}

/// Keep the database as it is, and put its journal aside
#[derive(Args)]
#[command(after_help = "\
The journal gets another name, Data.fs.journal.aside0 or the like; nothing is
removed. Only a journal that cannot be applied is put aside: any other is used
by the next opening for writing.")]
struct Discard {
    /// The database, usually called Data.fs
    file: PathBuf,
}

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    journal: Option<String>,
    state: &'static str,
    why: Option<&'a str>,
    missing_bytes: u64,
    position: u64,
    bytes: u64,
    transactions: Vec<String>,
}

impl Journal {
    /// Carries it out.
    pub fn run(self, out: &mut Out) -> Run {
        match self.what {
            What::Show(show) => show.run(out),
            What::Save(save) => save.run(out),
            What::Discard(discard) => discard.run(out),
        }
    }
}

impl Show {
    fn run(self, out: &mut Out) -> Run {
        let left = vellum_file::left_journal(&Options::new(), &self.file)?;
        let outcome = match left.as_ref().is_some_and(LeftJournal::is_refused) {
            true => Outcome::Problems,
            false => Outcome::Fine,
        };
        if self.json {
            out.json(&self.report(left.as_ref()))?;
            return Ok(outcome);
        }
        let Some(left) = left else {
            writeln!(out, "{}: there is no journal", self.file.display())?;
            return Ok(outcome);
        };
        writeln!(out, "{left}")?;
        for tid in &left.transactions {
            writeln!(out, "  {tid}")?;
        }
        let next = match left.state {
            JournalState::Retired | JournalState::Contained => "the next opening for writing removes it",
            JournalState::Needed { .. } => {
                "the next opening for writing completes the data file; reading commands show it already"
            }
            _ => "the data file is not opened for writing until you choose: see `vellum help journal`",
        };
        writeln!(out, "{next}")?;
        Ok(outcome)
    }

    fn report<'a>(&self, left: Option<&'a LeftJournal>) -> Report<'a> {
        let (state, why, missing_bytes) = match left.map(|left| &left.state) {
            None => ("none", None, 0),
            Some(JournalState::Retired) => ("retired", None, 0),
            Some(JournalState::Contained) => ("contained", None, 0),
            Some(JournalState::Needed { bytes }) => ("needed", None, *bytes),
            Some(JournalState::MovedOn { why }) => ("moved_on", Some(why.as_str()), 0),
            Some(JournalState::Damaged { why }) => ("damaged", Some(why.as_str()), 0),
            Some(_) => ("unknown", None, 0),
        };
        Report {
            file: self.file.display().to_string(),
            journal: left.map(|left| left.path.display().to_string()),
            state,
            why,
            missing_bytes,
            position: left.map_or(0, |left| left.position),
            bytes: left.map_or(0, |left| left.bytes),
            transactions: left.iter().flat_map(|left| &left.transactions).map(ToString::to_string).collect(),
        }
    }
}

impl Save {
    fn run(self, out: &mut Out) -> Run {
        let (left, bytes) = vellum_file::save_journaled(&Options::new(), &self.file, &self.out)?;
        let transactions = counted(left.transactions.len() as u64, "transaction");
        let (file, bytes) = (self.out.display(), exact_size(bytes));
        writeln!(out, "{file}: {bytes}, with {transactions} of the journal as its last transactions")?;
        writeln!(out, "{} and its journal were not changed", self.file.display())?;
        Ok(Outcome::Fine)
    }
}

impl Discard {
    fn run(self, out: &mut Out) -> Run {
        let (left, aside) = vellum_file::discard_journal(&Options::new(), &self.file)?;
        writeln!(out, "{left}")?;
        writeln!(out, "it is called {} now, and {} counts as it is", aside.display(), self.file.display())?;
        Ok(Outcome::Fine)
    }
}
