//! `vellum check`: everything that can be wrong with a database.

mod blobs;
mod btrees;
mod further;
mod gone;
mod lost;
mod lost_in_tables;
mod python_2;
mod tables;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{Dangling, Options, Problem, ProblemKind};
use vellum_storage::{Order, Tid, TidRange};
use vellum_terminal::people::{count, counted, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use self::further::Further;
use crate::file::blobs::BlobArgs;
use crate::file::{Database, future, tables as in_tables};
use crate::ui::{faults, say};

/// Check the whole file: every rule, every record, every reference
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum check Data.fs
  vellum check Data.fs --references                 what was lost, and what refers to it?
  vellum check Data.fs --classes my.addon           which objects need my.addon?
  vellum check Data.fs --btrees                     are indexes and folders in order?
  vellum check Data.fs --python2                    what can Python 3 not load?
  vellum check --json Data.fs | jq -r .kind | sort | uniq -c

The command reads all of the file and changes nothing. You can run it while the
database is in use; it reports a commit that is just being written as
unfinished. The exit code is 0 if there are no problems, and 1 if there are
some.

Of a database in tables the command compares each table with the others, and
each record with its checksum.

A blob's bytes are in a file of the blob folder. The command checks that folder,
too, if it is known (see `vellum help blobs`): a revision without a file, and a
file that cannot be opened, are problems. It also lists files of no revision,
files that can be written to, and names that no blob has; they are no problems.
A blob file has no checksum, so the command cannot tell whether its bytes are
those that were stored. --read-blobs reads each file to its end, which finds a
disk that cannot.

With --references it also explains every missing object that is referred to now:
the transaction that deleted it or undid its creation, what is left of it in the
file, the objects that refer to it, and since which transaction. References in
old revisions are left out there; the list of problems includes them.

With --classes it also lists the objects that name a removed class, interface or
function, as their own class or in their state. You give the removed names, or
their modules or packages. --known-classes is the opposite: every name that is
not in the list counts as removed. Old revisions are left out.

With --btrees it also checks every tree of the BTrees package. The keys must be
in order and within the separators. The chain of buckets must agree with the
tree, and no bucket may be empty, missing, at another depth or in two places. It
names each broken rule with the tree and the cure. It skips keys whose order
only their class knows, and trees of derived classes.

With --python2 it also lists the objects with text of Python 2 that is not
ASCII, and its place in them: ZODB cannot load them in Python 3. It is an option
of its own because it needs no list of names, as --classes does.

With --json: one object a line, one for each problem, with the fields kind,
position, tid, oid, and message; with --references one of the kind `lost_object`
for each of those; with --classes one of the kind `gone_class` for each record
that names one; with --btrees of the kind `btree` for each broken rule; with
--python2 of the kind `python_2_text` for each record with one; of the kinds
`blob_missing`, `blob_unreadable`, `blob_orphan`, `blob_writable`, `blob_stranger`
and `blob_folder` about blobs; and a last one of the kind `summary`.")]
pub struct Check {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// Explain each reference that leads nowhere
    #[arg(long)]
    references: bool,
    #[command(flatten)]
    gone: gone::Gone,
    /// Check the rules of BTrees
    #[arg(long)]
    btrees: bool,
    /// List the objects with text of Python 2 that Python 3 cannot load
    #[arg(long)]
    python2: bool,
    #[command(flatten)]
    blob_folder: BlobArgs,
    /// Read the bytes of every blob, and not only the names of the files
    #[arg(long)]
    read_blobs: bool,
    /// How many problems, and references, to show at most; 0 for all. All are counted [default: 1000; with --json: all]
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    position: u64,
    tid: Option<String>,
    oid: Option<String>,
    message: String,
}

#[derive(Serialize)]
struct Summary {
    kind: &'static str,
    file: String,
    bytes: u64,
    transactions: u64,
    records: u64,
    objects: u64,
    nothing: u64,
    references: u64,
    foreign_references: u64,
    last_transaction: Option<String>,
    last_time: Option<String>,
    /// Encrypted records, which only their key can open.
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted_records: Option<u64>,
    problems: u64,
    problems_shown: u64,
    #[serde(flatten)]
    further: Further,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<blobs::JsonBlobs>,
}

impl Check {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let at_most = match self.max {
            Some(0) => u64::MAX,
            Some(max) => max,
            None if self.json => u64::MAX,
            None => 1000,
        };
        if in_tables::is_one(&self.file) {
            let storage = in_tables::open(&self.file)?;
            return tables::check(out, &storage, &self, at_most, now);
        }
        let meter = Meter::new("checking");
        let options = Options::new().progress(meter.progress());
        let mut shown = 0;
        let mut failed = None;
        let mut each = |problem: Problem| {
            if shown == at_most || failed.is_some() {
                return;
            }
            let written = meter.suspend(|| self.problem(out, &problem, shown == 0));
            match written {
                Ok(()) => shown += 1,
                // No reader would see the rest, and nothing has to be cleaned up.
                Err(Failure::ReaderGone) => std::process::exit(0),
                Err(failure) => failed = Some(failure),
            }
        };
        let checked = match self.references {
            true => vellum_file::check_references(&options, &self.file, at_most, &mut each),
            false => vellum_file::check(&options, &self.file, &mut each).map(|checked| (checked, Dangling::default())),
        };
        drop(meter);
        if let Some(failure) = failed {
            return Err(failure);
        }
        let (checked, dangling) = checked?;
        if future::is_future(checked.last, now) {
            let storage = Options::new().read_only().open(&self.file);
            let range = TidRange { first: Tid::at(now).next(), last: Tid::MAX };
            let first = storage.ok().and_then(|s| s.transactions(range, Order::OldestFirst).ok()?.next()?.ok());
            future::warn_of(&self.file, first.map(|transaction| transaction.tid), checked.last, now);
        }
        if checked.only_journaled > 0 {
            let transactions = counted(checked.only_journaled, "transaction");
            say(&format!(
                "{}: {transactions} checked in the journal: the file lacks a part until it is opened for writing",
                self.file.display()
            ));
        }
        if !self.json {
            self.hidden(out, &checked, shown)?;
        }
        let blobs = blobs::list(out, &self.file, &self.blob_folder, self.read_blobs, self.json, at_most)?;
        if self.references {
            lost::show(out, &self.file, &dangling, self.json, now)?;
        }
        let lost = self.references.then_some((dangling.references, dangling.untold_records));
        let further = Further::look(out, || Database::open(&self.file), &self, lost, at_most)?;
        let is_fine = checked.problems == 0 && further.is_fine() && blobs.as_ref().is_none_or(|blobs| blobs.is_fine());
        if self.json {
            let last = (checked.last != Tid::ZERO).then_some(checked.last);
            out.json(&Summary {
                kind: "summary",
                file: self.file.display().to_string(),
                bytes: checked.bytes,
                transactions: checked.transactions,
                records: checked.records,
                objects: checked.objects,
                nothing: checked.nothing,
                references: checked.references,
                foreign_references: checked.foreign_references,
                last_transaction: last.map(|tid| tid.to_string()),
                last_time: last.and_then(people::rfc3339),
                encrypted_records: Some(checked.encrypted).filter(|records| *records > 0),
                problems: checked.problems,
                problems_shown: shown,
                further,
                blobs: blobs.as_ref().map(blobs::Checked::json),
            })?;
        } else {
            self.summary(out, &checked, blobs.as_ref(), now)?;
        }
        Ok(if is_fine { Outcome::Fine } else { Outcome::Problems })
    }

    fn problem(&self, out: &mut Out, problem: &Problem, is_first: bool) -> Run<()> {
        let tid = problem.tid.map(|tid| tid.to_string());
        let oid = problem.oid.map(|oid| oid.to_string());
        if self.json {
            out.json(&Line {
                kind: kind(&problem.kind),
                position: problem.position,
                tid,
                oid,
                message: problem.kind.to_string(),
            })?;
        } else {
            if is_first {
                writeln!(out, "{:>15}  {:<16}  {:<16}  problem", "position", "tid", "oid")?;
            }
            let (tid, oid) = (tid.as_deref().unwrap_or("-"), oid.as_deref().unwrap_or("-"));
            let message = printable(&problem.kind.to_string());
            writeln!(out, "{:>15}  {tid:<16}  {oid:<16}  {message}", problem.position)?;
        }
        // A problem is shown at once, not at the end of the check.
        Ok(out.flush()?)
    }

    /// Counts the problems that were not shown.
    fn hidden(&self, out: &mut Out, checked: &vellum_file::Check, shown: u64) -> Run<()> {
        let hidden = checked.problems - shown;
        if hidden > 0 {
            writeln!(out, "and {} more; `--max 0` shows all", count(hidden))?;
        }
        if checked.problems > 0 {
            writeln!(out)?;
        }
        Ok(())
    }

    fn summary(
        &self,
        out: &mut Out,
        checked: &vellum_file::Check,
        blobs: Option<&blobs::Checked>,
        now: Timestamp,
    ) -> Run<()> {
        let found = match checked.problems {
            0 if blobs.is_some_and(|blobs| !blobs.is_fine()) => "no problems, except among the blobs".to_owned(),
            0 if checked.encrypted > 0 => "no problems in what can be read".to_owned(),
            0 => "no problems".to_owned(),
            problems => counted(problems, "problem"),
        };
        writeln!(out, "{}: {found}", printable(&self.file.display().to_string()))?;
        out.field("checked", format!("{}, {}", size(checked.bytes), counted(checked.transactions, "transaction")))?;
        let nothing = match checked.nothing {
            0 => String::new(),
            nothing => format!(" ({} of them deleted or undone)", count(nothing)),
        };
        let records = counted(checked.records, "record");
        out.field("", format!("{records} of {}{nothing}", counted(checked.objects, "object")))?;
        let foreign = match checked.foreign_references {
            0 => String::new(),
            foreign => format!(", and {} into other databases, not followed", count(foreign)),
        };
        out.field("", format!("{}{foreign}", counted(checked.references, "reference")))?;
        if let Some(blobs) = blobs {
            blobs.show(out)?;
        }
        if checked.encrypted > 0 {
            let records = counted(checked.encrypted, "record");
            out.field("encrypted", format!("{records} (cipher.encryptingstorage), which cannot be looked into"))?;
        }
        if checked.last != Tid::ZERO {
            let last = checked.last;
            out.field("last", format!("{last}  {}", people::time(last, now)))?;
        }
        Ok(())
    }
}

/// A problem's kind as a word.
fn kind(kind: &ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Format(fault) => faults::kind(fault),
        ProblemKind::Skipped { .. } => "skipped",
        ProblemKind::UnfinishedEnd { .. } => "unfinished_end",
        ProblemKind::PastLost { .. } => "past_lost",
        ProblemKind::Pickle(_) => "bad_pickle",
        ProblemKind::Missing { .. } => "missing_object",
        ProblemKind::Nothing { .. } => "reference_to_nothing",
        ProblemKind::BadReference(_) => "bad_reference",
        ProblemKind::Journal(_) => "journal",
        ProblemKind::IndexBeyond(_) => "index_beyond",
        ProblemKind::IndexDiffers { .. } => "index_differs",
        _ => "other",
    }
}
