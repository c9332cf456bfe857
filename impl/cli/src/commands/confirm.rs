//! What commands that change a database have in common: they show what would change, ask, and then do it.
//!
//! ```text
//!   --dry-run, or nobody to ask:    open for reading ── vote ── show                               (no lock, no trace)
//!   otherwise:                      open for writing ── vote ── show ── ask ── yes: finish, no: drop
//! ```
//!
//! What is finished is the transaction that was shown. It keeps its locks while the question stands, so that nothing
//! can change in between.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::FileStorage;
use vellum_storage::{Storage, Tid, Transaction, TransactionMeta, Voted};
use vellum_terminal::people::printable;
use vellum_terminal::{Failure, Out, Outcome, Run, people};

use crate::file;
use crate::ui::meta::moment;
use crate::ui::say;

/// What every command that changes a database can be told.
#[derive(Args)]
pub struct ChangeArgs {
    /// Only show what would change; works beside a running site
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Who does it; this stands in the new transaction
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// What it is; this stands in the new transaction, in place of what this command would say
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How many objects to show; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub objects: usize,
    /// Answer in JSON; this needs --yes or --dry-run
    #[arg(long)]
    pub json: bool,
}

/// The fields that every such command shows to programs of what it did.
#[derive(Serialize)]
pub struct Done {
    done: bool,
    tid: Option<String>,
    time: Option<String>,
}

impl ChangeArgs {
    /// Whether it may be done: by --yes, or by somebody who can be asked.
    pub fn may(&self, out: &Out) -> bool {
        !self.dry_run && (self.yes || (!self.json && out.is_terminal() && io::stdin().is_terminal()))
    }

    /// Opens the database: for writing if it may be written to.
    pub fn open(&self, path: &Path, out: &Out) -> Run<FileStorage> {
        if !self.may(out) {
            return file::open(path);
        }
        Ok(file::open_to_write(path, &file::options()?)?)
    }

    /// Begins the transaction in which it will be done, or seems to be.
    pub fn begin(&self, storage: &FileStorage, out: &Out, description: Vec<u8>) -> Run<Box<dyn Transaction>> {
        let meta = self.meta(description);
        Ok(if self.may(out) { storage.begin(meta)? } else { storage.rehearse(meta)? })
    }

    /// What a transaction says of itself, if nobody has said otherwise.
    pub fn meta(&self, description: Vec<u8>) -> TransactionMeta {
        let description = self.description.as_ref().map_or(description, |text| text.clone().into_bytes());
        TransactionMeta::new().user(self.user.clone()).description(description)
    }

    /// Whether what was shown is to be done: asks, if it has to.
    pub fn wanted(&self, out: &mut Out, question: &str) -> Run<bool> {
        // Nothing is done that could not be shown.
        out.flush()?;
        Ok(self.may(out) && (self.yes || ask(out, question)?))
    }

    /// Does what was shown, if that is wanted: gives the new transaction, or none.
    fn finish(&self, out: &mut Out, voted: Box<dyn Voted>, question: &str) -> Run<Option<Tid>> {
        Ok(if self.wanted(out, question)? { Some(voted.finish()?) } else { None })
    }

    /// Does it, if that is wanted, and tells people.
    pub fn conclude(&self, out: &mut Out, path: &Path, voted: Box<dyn Voted>, question: &str, now: Timestamp) -> Run {
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

    /// Does it, if that is wanted, and tells programs: `answer` makes the whole answer.
    pub fn conclude_json<T: Serialize>(
        &self,
        out: &mut Out,
        voted: Box<dyn Voted>,
        answer: impl FnOnce(Done) -> T,
    ) -> Run {
        let tid = self.finish(out, voted, "")?;
        let told = out.json(&answer(Done::in_transaction(tid)));
        match tid {
            Some(tid) => done_and_told(out, tid, told),
            None => told.and_then(|()| self.not_done()),
        }
    }

    /// A reader that goes away before anything was done is an error here: all is well only if it was done.
    pub fn all_was_shown(&self, run: Run) -> Run {
        match run {
            Err(Failure::ReaderGone) if !self.dry_run => {
                Err(Failure::Message("nothing was changed, since whoever read the output has gone".into()))
            }
            other => other,
        }
    }

    /// How a command ends that only showed what it would do.
    pub fn not_done(&self) -> Run {
        match self.dry_run {
            true => Ok(Outcome::Fine),
            false => Err(Failure::Message(
                "nothing was changed, since nobody could be asked: add --yes to do it, or --dry-run to only look"
                    .into(),
            )),
        }
    }
}

impl Done {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What was done in that transaction; nothing, if there is none.
    pub fn in_transaction(tid: Option<Tid>) -> Done {
        Done { done: tid.is_some(), tid: tid.map(|tid| tid.to_string()), time: tid.and_then(people::rfc3339) }
    }
}

/// It is done, and no trouble with the output undoes it.
fn done_and_told(out: &mut Out, tid: Tid, told: Run<()>) -> Run {
    if let Err(Failure::Message(e)) = told.and_then(|()| Ok(out.flush()?)) {
        say(&format!("it was done, in transaction {tid}; but: {e}"));
    }
    Ok(Outcome::Fine)
}

/// Asks whoever sits there. No answer is a no.
fn ask(out: &mut Out, question: &str) -> Run<bool> {
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
