//! `vellum undo`: undoes transactions, in a new one.

mod refusal;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Error, Order, Refusal, Storage, Tid, TidRange, TransactionRecord, Voted};
use vellum_terminal::people::{counted, printable};
use vellum_terminal::{Failure, Out, Outcome, Run};

use crate::commands::confirm::{ChangeArgs, Done};
use crate::commands::preview;
use crate::file::Database;
use crate::file::blobs::BlobArgs;
use crate::ui::args::{self, Named};
use crate::ui::blobs;
use crate::ui::changes::{self, BlobFile, Change, JsonChange};
use crate::ui::meta::{JsonTransaction, Metadata, moment};

use self::refusal::{JsonRefusedUndo, RefusedUndo, vote};

/// Undo transactions in a new one: all of the named ones, or none
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum log Data.fs --undoable --user ann          transactions that can be undone
  vellum undo Data.fs 040d2ed75fd29fbb --dry-run    what would that do?
  vellum undo Data.fs 040d2ed75fd29fbb              show a preview, ask, and undo it
  vellum undo Data.fs last --yes                    do it without asking
  vellum undo Data.fs 040d2ed7604e9a11 040d2ed7604db422

Each object that the transaction changed becomes what it was before it. Nothing
is lost by that: an undo is a transaction of its own, and can be undone.

If an object was changed again later, the undo succeeds only if both changes can
be separated. Otherwise nothing is undone, and the command names the objects and
the later transactions that block the undo. Name those as well to undo them,
too. The newest one is undone first, in whatever order you name them.

A blob gets back its earlier bytes, too. This needs the earlier file: if that is
missing, nothing is undone. `vellum help blobs` says where the command looks for
the blob folder. If it is not known, the undo of a blob's change is refused,
unless you give --without-blobs: then the blob has no file at all.

The database is locked during the command, so stop a site that uses it.
--dry-run takes no lock, and works beside a running site.

Exit codes: 0 if it was done, or could be (--dry-run); 1 if it cannot be undone
or the answer was no; 2 if the command was used wrongly or could not do its
work. With any other code than 0 nothing was changed, unless the message says
otherwise.

With --json: one object.")]
pub struct Undo {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The transactions: a tid (16 hex digits), a time at which there was only one, or `last`
    #[arg(value_name = "TID", required = true, value_parser = args::transaction)]
    transactions: Vec<Named>,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Undo although the blobs have no files then
    #[arg(long, conflicts_with = "blobs")]
    without_blobs: bool,
    #[command(flatten)]
    how: ChangeArgs,
}

/// A transaction to be undone.
struct Wanted {
    tid: Tid,
    meta: Metadata,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    undo: Vec<JsonTransaction>,
    objects: Vec<JsonChange>,
    refused: Option<JsonRefusedUndo>,
    /// Blobs among the objects.
    blobs: u64,
    refused_for_blobs: Option<String>,
    #[serde(flatten)]
    done: Done,
}

impl Undo {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        self.how.all_was_shown(self.carry_out(out, now))
    }

    fn carry_out(&self, out: &mut Out, now: Timestamp) -> Run {
        let database = self.how.open(&self.file, out, Some(&self.blobs).filter(|_| !self.without_blobs))?;
        let wanted = self.wanted(database.storage())?;
        let tids: Vec<_> = wanted.iter().map(|wanted| wanted.tid).collect();
        if !self.how.json {
            self.show_wanted(out, &wanted, now)?;
        }
        let draft = self.how.begin(&database, out, description(&wanted))?;
        match vote(database.storage(), draft, &tids) {
            Ok(voted) => self.go_on(out, &database, &wanted, voted, now),
            Err(Error::Refused(Refusal::UndoConflict { .. } | Refusal::NotUndoable { .. })) => {
                self.refuse(out, &database, &wanted, &tids, now)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// The transactions to undo, newest first: a change is undone before the older one that it builds on.
    fn wanted(&self, storage: &dyn Storage) -> Run<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for named in &self.transactions {
            let found = self.find(storage, named)?;
            if wanted.iter().all(|other: &Wanted| other.tid != found.tid) {
                wanted.push(found);
            }
        }
        wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.tid));
        Ok(wanted)
    }

    fn find(&self, storage: &dyn Storage, named: &Named) -> Run<Wanted> {
        let (range, text) = match named {
            Named::Last => (TidRange::from(storage.last_transaction()), "last"),
            Named::At(moment, text) => (TidRange { first: moment.first, last: moment.last }, text.as_str()),
        };
        let file = printable(&self.file.display().to_string());
        let mut found = storage.transactions(range, Order::NewestFirst)?;
        let Some(transaction) = found.next().transpose()? else {
            if storage.last_transaction() == Tid::ZERO {
                return Err(Failure::Message(format!("{file} has no transaction yet: there is nothing to undo")));
            }
            return Err(Failure::Message(format!(
                "{file}: there is no transaction {text}; `vellum log {file} --undoable` lists those that can be undone"
            )));
        };
        if found.next().is_some() {
            return Err(Failure::Message(format!(
                "{file}: `{text}` is the time of more than one transaction: name one by its tid; `vellum log {file} \
                 --since \"{text}\" --until \"{text}\"` lists them"
            )));
        }
        let TransactionRecord { tid, user, description, extension, .. } = transaction;
        Ok(Wanted { tid, meta: Metadata { user, description, extension } })
    }

    fn show_wanted(&self, out: &mut Out, wanted: &[Wanted], now: Timestamp) -> Run<()> {
        match wanted.len() as u64 {
            1 => writeln!(out, "to undo:")?,
            number => writeln!(out, "to undo, {}:", counted(number, "transaction"))?,
        }
        for wanted in wanted {
            writeln!(out, "{}", moment(wanted.tid, now))?;
            wanted.meta.show(out)?;
        }
        writeln!(out)?;
        Ok(())
    }

    /// Shows the changes, and makes them if that is wanted.
    fn go_on(&self, out: &mut Out, database: &Database, wanted: &[Wanted], voted: Voted, now: Timestamp) -> Run {
        let changes = preview::changes(database, &voted)?;
        let blobs = concerned(&changes);
        let is_lost = |change: &&Change| change.becomes.blob == Some(BlobFile::Lost);
        let lost = changes.iter().filter(is_lost).count() as u64;
        let refusal = match database.blob_folder() {
            _ if self.without_blobs => None,
            None if blobs > 0 => Some(blobs::refusal(blobs, "blob", "a blob that is undone has no file, and no bytes")),
            Some(folder) if lost > 0 => Some(format!(
                "Nothing was changed: of {} the file of then is missing or cannot be read, in {}. If a backup has it, put it \
                 back there; `vellum check` names it. --without-blobs does it all the same",
                counted(lost, "blob"),
                folder.path().display()
            )),
            _ => None,
        };
        if let Some(refusal) = refusal {
            match self.how.json {
                true => {
                    let answer = self.answer(wanted, &changes, None, Done::in_transaction(None));
                    out.json(&Answer { refused_for_blobs: Some(refusal), ..answer })?;
                }
                false => {
                    changes::show(out, &changes, self.how.objects, now)?;
                    writeln!(out, "\n{refusal}.")?;
                }
            }
            return Ok(Outcome::Problems);
        }
        if self.how.json {
            return self.how.conclude_json(out, voted, |done| self.answer(wanted, &changes, None, done));
        }
        changes::show(out, &changes, self.how.objects, now)?;
        if blobs > 0 && self.without_blobs {
            writeln!(out, "\n{}", blobs::told(blobs, "blob", "a restored blob has no file, and no bytes"))?;
        }
        self.how.conclude(out, &self.file, voted, "Undo this?", now)
    }

    /// Shows why the transactions cannot be undone.
    fn refuse(&self, out: &mut Out, database: &Database, wanted: &[Wanted], tids: &[Tid], now: Timestamp) -> Run {
        let refused = RefusedUndo::find(database, tids)?;
        if self.how.json {
            out.json(&self.answer(wanted, &[], Some(refused.json()), Done::in_transaction(None)))?;
        } else {
            refused.show(out, &self.file, self.how.objects, now)?;
        }
        Ok(Outcome::Problems)
    }

    fn answer(&self, wanted: &[Wanted], changes: &[Change], refused: Option<JsonRefusedUndo>, done: Done) -> Answer {
        Answer {
            file: self.file.display().to_string(),
            undo: wanted.iter().map(|wanted| JsonTransaction::new(wanted.tid, &wanted.meta)).collect(),
            objects: changes.iter().map(Change::json).collect(),
            refused,
            blobs: concerned(changes),
            refused_for_blobs: None,
            done,
        }
    }
}

/// How many of the objects are blobs, now or after the undo.
fn concerned(changes: &[Change]) -> u64 {
    let is_blob = |change: &&Change| [&change.now, &change.becomes].iter().any(|s| blobs::is_blob(s.class.as_deref()));
    changes.iter().filter(is_blob).count() as u64
}

/// The default description of the new transaction.
fn description(wanted: &[Wanted]) -> Vec<u8> {
    const NAMED_MAX: usize = 10;
    const OLD_MAX: usize = 1000;
    let tids: Vec<_> = wanted.iter().take(NAMED_MAX).map(|wanted| wanted.tid.to_string()).collect();
    let mut text = format!("undo of {}", tids.join(", ")).into_bytes();
    if wanted.len() > NAMED_MAX {
        text.extend(format!(" and {} more", wanted.len() - NAMED_MAX).bytes());
    }
    if let [one] = wanted
        && let Some(old) = one.meta.description.trim_ascii().split(|&byte| byte == b'\n').next()
        && !old.is_empty()
    {
        text.extend(b": ");
        text.extend(&old[..old.len().min(OLD_MAX)]);
    }
    text
}
