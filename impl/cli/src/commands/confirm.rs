//! The steps of every command that changes a database: show the changes, ask, and make them.
//!
//! ```text
//!   --dry-run, or no terminal:      open for reading ── vote ── show                               (no lock, no trace)
//!   otherwise:                      open for writing ── vote ── show ── ask ── yes: finish, no: drop
//! ```
//!
//! The transaction that is finished is the one that was shown. It keeps its locks while the question stands, so that
//! the objects cannot change in between.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Draft, Tid, TransactionMeta, Voted};
use vellum_terminal::people::printable;
use vellum_terminal::{Failure, Out, Outcome, Run, people};

use crate::file::Database;
use crate::file::blobs::BlobArgs;
use crate::ui::meta::moment;
use crate::ui::say;

/// The options that say whether to ask.
#[derive(Args)]
pub struct Consent {
    /// Show a preview only; works beside a running site
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
}

/// The options of every command that makes a new transaction.
#[derive(Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    consent: Consent,
    /// The user of the new transaction
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// The description of the new transaction, in place of the command's own
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How many objects to show; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub objects: usize,
    /// Answer in JSON; this needs --yes or --dry-run
    #[arg(long)]
    pub json: bool,
}

/// The fields by which every such command tells programs what it did.
#[derive(Serialize)]
pub struct Done {
    done: bool,
    tid: Option<String>,
    time: Option<String>,
}

impl Consent {
    /// Whether the change may be made: with `--yes`, or at a terminal without `--json`.
    pub fn may(&self, out: &Out, json: bool) -> bool {
        !self.dry_run && (self.yes || (!json && out.is_terminal() && io::stdin().is_terminal()))
    }

    /// The end of a command that made no change.
    pub fn not_done(&self) -> Run {
        match self.dry_run {
            true => Ok(Outcome::Fine),
            false => Err(Failure::Message(
                "nothing was changed, since there is no terminal to ask at: add --yes to do it, or --dry-run to only look"
                    .into(),
            )),
        }
    }
}

impl ChangeArgs {
    /// Whether the change may be made: with `--yes`, or with a person to ask.
    pub fn may(&self, out: &Out) -> bool {
        self.consent.may(out, self.json)
    }

    /// Opens the database: for writing if the change may be made. `blobs`: with its blobs, if their folder is known.
    pub fn open(&self, path: &Path, out: &Out, blobs: Option<&BlobArgs>) -> Run<Database> {
        match (self.may(out), blobs) {
            (false, None) => Database::open(path),
            (false, Some(blobs)) => Database::open_with_blobs(path, blobs),
            (true, blobs) => Database::open_to_write(path, blobs),
        }
    }

    /// Begins the transaction, or a rehearsal of it.
    pub fn begin(&self, database: &Database, out: &Out, description: Vec<u8>) -> Run<Draft> {
        let meta = self.meta(description);
        Ok(if self.may(out) { database.storage().begin(meta)? } else { database.rehearse(meta)? })
    }

    /// The metadata of a transaction. `description` is the default.
    pub fn meta(&self, description: Vec<u8>) -> TransactionMeta {
        let description = self.description.as_ref().map_or(description, |text| text.clone().into_bytes());
        TransactionMeta::new().user(self.user.clone()).description(description)
    }

    /// Whether the shown change is wanted. Asks if it has to.
    pub fn wanted(&self, out: &mut Out, question: &str) -> Run<bool> {
        // A change that could not be shown is not made.
        out.flush()?;
        Ok(self.may(out) && (self.consent.yes || ask(out, question)?))
    }

    /// Makes the shown change if it is wanted. Returns the new transaction, or none.
    fn finish(&self, out: &mut Out, voted: Voted, question: &str) -> Run<Option<Tid>> {
        Ok(if self.wanted(out, question)? { Some(voted.finish()?) } else { None })
    }

    /// Makes the change if it is wanted, and tells people.
    pub fn conclude(&self, out: &mut Out, path: &Path, voted: Voted, question: &str, now: Timestamp) -> Run {
        writeln!(out)?;
        match self.finish(out, voted, question)? {
            Some(tid) => {
                let file = printable(&path.display().to_string());
                let done = moment(tid, now);
                let told = writeln!(out, "Done, in transaction {done}\n`vellum undo {file} {tid}` takes it back.");
                done_and_told(out, tid, told.map_err(Failure::from))
            }
            None if self.may(out) => {
                writeln!(out, "Nothing was changed.")?;
                Ok(Outcome::Problems)
            }
            None => {
                writeln!(out, "Nothing was changed: this only shows what would be.")?;
                self.not_done()
            }
        }
    }

    /// Makes the change if it is wanted, and tells programs. `answer` makes the whole answer.
    pub fn conclude_json<T: Serialize>(&self, out: &mut Out, voted: Voted, answer: impl FnOnce(Done) -> T) -> Run {
        let tid = self.finish(out, voted, "")?;
        let told = out.json(&answer(Done::in_transaction(tid)));
        match tid {
            Some(tid) => done_and_told(out, tid, told),
            None => told.and_then(|()| self.not_done()),
        }
    }

    /// Turns a reader that went away into an error: the change was not made.
    pub fn all_was_shown(&self, run: Run) -> Run {
        match run {
            Err(Failure::ReaderGone) if !self.consent.dry_run => {
                Err(Failure::Message("nothing was changed, since the reader of the output is gone".into()))
            }
            other => other,
        }
    }

    /// The end of a command that made no change.
    pub fn not_done(&self) -> Run {
        self.consent.not_done()
    }
}

impl Done {
    /// Whether the change was made.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The change was made in this transaction; none if it was not made.
    pub fn in_transaction(tid: Option<Tid>) -> Done {
        Done { done: tid.is_some(), tid: tid.map(|tid| tid.to_string()), time: tid.and_then(people::rfc3339) }
    }
}

/// The change is made; a failing output does not undo it.
fn done_and_told(out: &mut Out, tid: Tid, told: Run<()>) -> Run {
    if let Err(Failure::Message(e)) = told.and_then(|()| Ok(out.flush()?)) {
        say(&format!("it was done, in transaction {tid}; but: {e}"));
    }
    Ok(Outcome::Fine)
}

/// Asks the person at the terminal. No answer is a no.
pub fn ask(out: &mut Out, question: &str) -> Run<bool> {
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    let read = read.map_err(|e| Failure::Message(format!("reading the answer: {e}; nothing was changed")))?;
    if read == 0 {
        writeln!(out)?;
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
