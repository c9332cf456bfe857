//! `vellum log`: the transactions, newest first.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::FileStorage;
use vellum_storage::{Error, Oid, Order, Revision, Storage, Tid, TidRange, TransactionRecord};
use vellum_terminal::people::{counted, printable, size};
use vellum_terminal::{Out, Outcome, Run, people};

use crate::file::blobs::{BlobArgs, Folder};
use crate::file::{DataFile, Database};
use crate::ui::args::{self, Moment};
use crate::ui::blobs::is_blob;
use crate::ui::meta::{self, JsonMetadata, Metadata, version_name};
use crate::ui::say;

/// Show transactions, newest first, with time, user, description and objects
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum log Data.fs
  vellum log Data.fs --since yesterday --all
  vellum log Data.fs --since 2026-11-01 --until \"2026-11-20 12:00\" -n 5
  vellum log Data.fs --object 1f
  vellum log Data.fs --user ann --matching import
  vellum log Data.fs --undoable -n 10 --skip 10     the second page

--undoable shows the transactions that `vellum undo` can undo; those before the
last pack are not among them. `vellum undo Data.fs TID --dry-run` shows whether
later changes to the same objects block the undo.

Both --since and --until are inclusive: a day counts from its first moment to
its last, and a tid names its transaction.

With --json: one object a line, one for each transaction, with all its objects;
all transactions, unless -n says how many.")]
pub struct Log {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// How many transactions to show at most; 0 for all [default: 20; all with --json]
    #[arg(short = 'n', long = "number", value_name = "N")]
    number: Option<usize>,
    /// Show all transactions
    #[arg(long, conflicts_with = "number")]
    all: bool,
    /// Skip so many of the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Only transactions that can be undone
    #[arg(long)]
    undoable: bool,
    /// Only transactions with this text in their user
    #[arg(long, value_name = "TEXT")]
    user: Option<String>,
    /// Only transactions with this text in their description
    #[arg(long, value_name = "TEXT")]
    matching: Option<String>,
    /// Only transactions from this time on
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    since: Option<Moment>,
    /// Only transactions up to this time
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    until: Option<Moment>,
    /// Only transactions that changed this object
    #[arg(long, value_name = "OID", value_parser = args::oid)]
    object: Option<Oid>,
    /// How many of a transaction's objects to show; 0 for all
    #[arg(long, value_name = "N", default_value_t = 8)]
    objects: usize,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// So many transactions are shown to a person who does not say how many.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Line {
    tid: String,
    time: Option<String>,
    status: String,
    #[serde(flatten)]
    meta: JsonMetadata,
    bytes: u64,
    objects: Vec<Touched>,
}

#[derive(Serialize)]
struct Touched {
    oid: String,
    class: Option<String>,
    bytes: u64,
    /// The transaction whose data it shares.
    shares: Option<String>,
    nothing: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    /// The length of its blob, if it has one that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_bytes: Option<u64>,
}

type Transactions<'a> = Box<dyn Iterator<Item = Run<TransactionRecord>> + 'a>;

impl Log {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let database = Database::open(&self.file)?;
        let (storage, file) = (database.storage(), database.file());
        let range = TidRange {
            first: self.since.map_or(TidRange::ALL.first, |moment| moment.first),
            last: self.until.map_or(TidRange::ALL.last, |moment| moment.last),
        };
        // By time and by tid, transactions are looked for from one end of the file, which takes their order for
        // granted.
        let goes_by_tid = self.since.is_some() || self.until.is_some() || self.undoable;
        let disorder = file.filter(|_| goes_by_tid).and_then(FileStorage::disorder);
        if let Some(fault) = disorder {
            say(&format!(
                "warning: {}: from position {} on, transactions are not in the order of their times; all that match are \
                 shown, the last one in the file first",
                self.file.display(),
                fault.position
            ));
        }
        let data_file = file.map(DataFile::of);
        let blobs = database.find_blobs(&self.blobs)?;
        let number = match self.number {
            // A program does not see that some are left out.
            None if self.all || self.json => usize::MAX,
            None => SHOWN,
            Some(0) => usize::MAX,
            Some(number) => number,
        };
        let mut transactions: Transactions<'_> = match (self.object, file.zip(data_file.as_ref())) {
            (of_object, file) if self.undoable => {
                let of_object = of_object.map(|oid| match file {
                    Some((storage, file)) => tids_of_object(storage, file, oid),
                    None => Ok(storage.history(oid, usize::MAX)?.into_iter().map(|entry| entry.tid).collect()),
                });
                self.undoable(storage, of_object.transpose()?, range, number)?
            }
            (Some(oid), Some((storage, file))) => {
                Box::new(self.page(of_object(storage, file, oid, range, disorder.is_some())?))
            }
            (Some(oid), None) => Box::new(self.page(of_object_in_tables(storage, oid, range)?)),
            (None, _) => Box::new(self.page(storage.transactions(range, Order::NewestFirst)?.map(|t| Ok(t?)))),
        };
        let mut shown = 0;
        for transaction in transactions.by_ref().take(number) {
            let transaction = transaction?;
            if self.json {
                out.json(&line(&transaction, blobs.as_ref()))?;
            } else {
                if shown > 0 {
                    writeln!(out)?;
                }
                self.show(out, &transaction, blobs.as_ref(), now)?;
            }
            shown += 1;
        }
        if !self.json {
            if shown == 0 {
                writeln!(out, "no transactions")?;
            } else if shown == number && transactions.next().is_some() {
                writeln!(out, "\nOlder ones are not shown: `-n 100` shows more, `--all` shows all.")?;
            }
        }
        Ok(Outcome::Fine)
    }

    /// The requested transactions, without the skipped ones.
    fn page<'a>(
        &'a self,
        all: impl Iterator<Item = Run<TransactionRecord>> + 'a,
    ) -> impl Iterator<Item = Run<TransactionRecord>> + 'a {
        let wanted = |transaction: &TransactionRecord| self.matches(&transaction.user, &transaction.description);
        all.filter(move |transaction| transaction.as_ref().map_or(true, wanted)).skip(self.skip)
    }

    /// Whether the user and the description match the filters, in small or capital letters. Python 2 wrote text in
    /// whatever encoding it was given: text that is not UTF-8 is also searched as Latin-1.
    fn matches(&self, user: &[u8], description: &[u8]) -> bool {
        let has = |text: &[u8], part: &Option<String>| {
            let Some(part) = part else { return true };
            let part = part.to_lowercase();
            let latin1 = || text.iter().map(|&byte| char::from(byte)).collect::<String>();
            String::from_utf8_lossy(text).to_lowercase().contains(&part)
                || (std::str::from_utf8(text).is_err() && latin1().to_lowercase().contains(&part))
        };
        has(user, &self.user) && has(description, &self.matching)
    }

    /// The transactions that can be undone: one more than is shown.
    fn undoable<'a>(
        &self,
        storage: &'a dyn Storage,
        of_object: Option<HashSet<Tid>>,
        range: TidRange,
        number: usize,
    ) -> Run<Transactions<'a>> {
        let Some(log) = storage.undo_log() else { return Ok(Box::new(std::iter::empty())) };
        let last = self.skip.saturating_add(number).saturating_add(1);
        let entries = log.undo_log_where(self.skip, last, &mut |entry| {
            range.contains(entry.tid)
                && of_object.as_ref().is_none_or(|tids| tids.contains(&entry.tid))
                && self.matches(&entry.user, &entry.description)
        })?;
        let transactions = entries.into_iter().filter_map(|entry| one(storage, entry.tid).transpose());
        Ok(Box::new(transactions))
    }

    fn show(&self, out: &mut Out, transaction: &TransactionRecord, blobs: Option<&Folder>, now: Timestamp) -> Run<()> {
        let tid = transaction.tid;
        writeln!(out, "{tid}  {}", people::time(tid, now))?;
        metadata(transaction).show(out)?;
        if let Some(status) = meta::status(transaction.status) {
            out.field("status", status)?;
        }
        let revisions = &transaction.revisions;
        let bytes: u64 = revisions.iter().map(own_bytes).sum();
        let objects = counted(revisions.len() as u64, "object");
        out.field("changes", format!("{objects}, {}", size(bytes)))?;
        let at_most = if self.objects == 0 { usize::MAX } else { self.objects };
        let rows: Vec<_> = revisions
            .iter()
            .take(at_most)
            .map(|revision| {
                let class = class(revision).unwrap_or_else(|| "-".to_owned());
                let blob = blob_bytes(revision, tid, blobs).map(|bytes| format!(", blob {}", size(bytes)));
                (revision.oid, class, what(revision) + &blob.unwrap_or_default())
            })
            .collect();
        let width = rows.iter().map(|(_, class, _)| class.chars().count()).max().unwrap_or(0);
        for (oid, class, what) in rows {
            writeln!(out, "    {oid}  {class:<width$}  {what}")?;
        }
        if revisions.len() > at_most {
            let more = (revisions.len() - at_most) as u64;
            writeln!(out, "    and {} more; `--objects 0` shows all", people::count(more))?;
        }
        Ok(())
    }
}

/// The transactions of a range that changed the object, found by the chain of its records.
fn of_object<'a>(
    storage: &FileStorage,
    file: &'a DataFile,
    oid: Oid,
    range: TidRange,
    scattered: bool,
) -> Run<Transactions<'a>> {
    let newest = storage.newest_record(oid)?.ok_or(Error::KeyError { oid, tid: None })?;
    let damage = |fault| file.damage(&fault);
    let mut last = None;
    let found = file
        .chain(Some(newest))
        .take_while(move |record| record.as_ref().map_or(true, |record| scattered || record.header.tid >= range.first))
        .filter(move |record| match record {
            Ok(record) => {
                // A transaction may hold the object twice.
                range.contains(record.header.tid) && last.replace(record.header.tid) != Some(record.header.tid)
            }
            Err(_) => true,
        })
        .map(move |record| {
            let record = record.map_err(damage)?;
            file.transaction(record.header.transaction).map_err(damage)
        });
    Ok(Box::new(found))
}

/// All transactions that changed the object.
fn tids_of_object(storage: &FileStorage, file: &DataFile, oid: Oid) -> Run<HashSet<Tid>> {
    let newest = storage.newest_record(oid)?.ok_or(Error::KeyError { oid, tid: None })?;
    let tids = file.chain(Some(newest)).map(|record| record.map(|record| record.header.tid));
    tids.collect::<Result<_, _>>().map_err(|fault| file.damage(&fault))
}

/// The transactions of a range that changed the object, of a database in tables.
fn of_object_in_tables(storage: &dyn Storage, oid: Oid, range: TidRange) -> Run<Transactions<'_>> {
    let tids = storage.history(oid, usize::MAX)?.into_iter().map(|entry| entry.tid);
    let found = tids.filter(move |tid| range.contains(*tid)).filter_map(|tid| one(storage, tid).transpose());
    Ok(Box::new(found))
}

/// The transaction of this tid.
fn one(storage: &dyn Storage, tid: Tid) -> Run<Option<TransactionRecord>> {
    let range = TidRange { first: tid, last: tid };
    Ok(storage.transactions(range, Order::NewestFirst)?.next().transpose()?)
}

fn metadata(transaction: &TransactionRecord) -> Metadata {
    Metadata {
        user: transaction.user.clone(),
        description: transaction.description.clone(),
        extension: transaction.extension.clone(),
    }
}

/// Bytes of data of the revision itself.
fn own_bytes(revision: &Revision) -> u64 {
    match (&revision.data, revision.source) {
        (Some(data), None) => data.len() as u64,
        _ => 0,
    }
}

fn class(revision: &Revision) -> Option<String> {
    let class = vellum_pickle::class_of(revision.data.as_ref()?);
    Some(class.map_or_else(|_| "(cannot be read)".to_owned(), |class| printable(&class.to_string())))
}

/// The length of the revision's blob; none if it has none that is there.
fn blob_bytes(revision: &Revision, tid: Tid, blobs: Option<&Folder>) -> Option<u64> {
    let class = vellum_pickle::class_of(revision.data.as_ref()?).ok()?.to_string();
    blobs.filter(|_| is_blob(Some(&class)))?.folder.length(revision.oid, tid).ok()
}

fn what(revision: &Revision) -> String {
    let mut what = match (&revision.data, revision.source) {
        (None, _) => "deleted or undone".to_owned(),
        (Some(_), Some(source)) => format!("as in {source}"),
        (Some(data), None) => size(data.len() as u64),
    };
    if !revision.version.is_trunk() {
        what = format!("{what}, in version {}", version_name(&revision.version));
    }
    what
}

fn line(transaction: &TransactionRecord, blobs: Option<&Folder>) -> Line {
    let touched = |revision: &Revision| {
        let (version, version_hex) = meta::version(&revision.version);
        let class = revision.data.as_ref().and_then(|data| vellum_pickle::class_of(data).ok());
        Touched {
            oid: revision.oid.to_string(),
            class: class.map(|class| class.to_string()),
            bytes: own_bytes(revision),
            shares: revision.source.map(|tid| tid.to_string()),
            nothing: revision.data.is_none(),
            version,
            version_hex,
            blob_bytes: blob_bytes(revision, transaction.tid, blobs),
        }
    };
    Line {
        tid: transaction.tid.to_string(),
        time: people::rfc3339(transaction.tid),
        status: char::from(transaction.status.byte()).to_string(),
        meta: metadata(transaction).json(),
        bytes: transaction.revisions.iter().map(own_bytes).sum(),
        objects: transaction.revisions.iter().map(touched).collect(),
    }
}
