//! `vellum recover`: copies the complete transactions of a damaged file.

mod tables;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{Lost, OpenError, Options, Salvage};
use vellum_storage::{Oid, Tid};
use vellum_terminal::people::{count, counted, exact_size, printable};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::file::Database;
use crate::file::blobs::{self as folders, BlobArgs};
use crate::file::{survey, tables as in_tables};
use crate::ui::{faults, say};

/// Copy the complete transactions of a damaged file, and report the lost ones
#[derive(Args)]
#[command(after_help = "\
Example:
  vellum recover Data.fs Recovered.fs

The command does not change the damaged file: keep it until you know that
nothing in it is missed. OUT must not exist yet. The exit code is 0 if nothing
was lost, and 1 otherwise.

A transaction that is not later than the one before it in the file is left out
and named. With --new-tids it is copied as well: all transactions keep the order
of the file, and those that are out of order get later tids, and thereby later
times.

The command leaves the files of blobs where they are: use the same blob folder
with Recovered.fs. It counts the files that are missing there. The files of lost
revisions become orphans in the folder: keep them until nothing is missed. With
--new-tids, some of the files need new names; the command lists both names.

Of a database in tables the command saves every revision whose record has its
checksum, also if one of the tables that name it is damaged. A transaction whose
user and description are lost is copied without them, and named. OUT is in
tables if its name ends with .vellum, and otherwise a Data.fs.

With --json: one object.")]
pub struct Recover {
    /// The damaged database
    file: PathBuf,
    /// The new file
    out: PathBuf,
    /// How many of the objects that lost a revision to name; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    objects: usize,
    /// Give later tids to transactions that are out of order
    #[arg(long)]
    new_tids: bool,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    file: String,
    out: String,
    transactions: u64,
    records: u64,
    bytes: u64,
    nothing_lost: bool,
    lost_bytes: u64,
    lost: Vec<Part>,
    /// The part at the end that the `.index` file knows, and the file has not any more.
    missing: Option<JsonMissing>,
    /// The journal beside the damaged file, if its transactions could not be copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<String>,
    unfinished_bytes: u64,
    undone_transactions: u64,
    /// Whole transactions that were left out since they are not later than the one before them.
    out_of_order: Vec<String>,
    new_tids: Vec<NewTid>,
    records_lost: Vec<Revision>,
    objects: Vec<String>,
    objects_gone: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<Blobs>,
}

/// The blobs of the recovered file.
#[derive(Serialize)]
pub struct Blobs {
    revisions: u64,
    /// None if the folder is not known.
    folder: Option<String>,
    missing: Option<u64>,
    /// Files that have the name of the old tid.
    renamed: Vec<RenamedBlob>,
}

#[derive(Serialize)]
struct RenamedBlob {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct NewTid {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct JsonMissing {
    position: u64,
    index_end: u64,
    objects: Vec<String>,
}

#[derive(Serialize)]
struct Part {
    position: u64,
    bytes: u64,
    kind: &'static str,
    message: String,
    after: Option<String>,
    before: Option<String>,
    transactions: Vec<String>,
}

#[derive(Serialize)]
struct Revision {
    oid: String,
    tid: String,
}

impl Recover {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        if in_tables::is_one(&self.file) {
            return tables::recover(&self, out, now);
        }
        let meter = Meter::new("recovering");
        let options = Options::new().progress(meter.progress());
        let salvage = match self.new_tids {
            true => vellum_file::recover_with_new_tids(&options, &self.file, &self.out),
            false => vellum_file::recover(&options, &self.file, &self.out),
        };
        drop(meter);
        let salvage = salvage.map_err(|e| match e {
            OpenError::Exists { path } => Failure::Message(format!(
                "{}: there is a file already, and it is left as it is: name another one",
                path.display()
            )),
            other => other.into(),
        })?;
        let nothing_lost = salvage.lost.is_empty()
            && salvage.records_lost.is_empty()
            && salvage.missing.is_none()
            && salvage.journal.is_none()
            && salvage.out_of_order.is_empty();
        if let Some(left) = &salvage.journal {
            say(&format!("warning: {left}. The new file does not have them; see `vellum help journal`"));
        }
        let blobs = self.look_at_blobs(&salvage.new_tids)?;
        if self.json {
            out.json(&Report { blobs, ..self.report(&salvage, nothing_lost) })?;
        } else {
            self.show(out, &salvage, nothing_lost, now)?;
            if let Some(blobs) = blobs {
                writeln!(out)?;
                self.show_blobs(out, &blobs)?;
            }
        }
        Ok(if nothing_lost { Outcome::Fine } else { Outcome::Problems })
    }

    fn report(&self, salvage: &Salvage, nothing_lost: bool) -> Report {
        let part = |lost: &Lost| Part {
            position: lost.position,
            bytes: lost.bytes,
            kind: faults::kind(&lost.why.kind),
            message: lost.why.to_string(),
            after: lost.after.map(|tid| tid.to_string()),
            before: lost.before.map(|tid| tid.to_string()),
            transactions: lost.transactions.iter().map(Tid::to_string).collect(),
        };
        Report {
            file: self.file.display().to_string(),
            out: self.out.display().to_string(),
            transactions: salvage.transactions,
            records: salvage.records,
            bytes: salvage.bytes,
            nothing_lost,
            lost_bytes: lost_bytes(salvage),
            lost: salvage.lost.iter().map(part).collect(),
            missing: salvage.missing.as_ref().map(|missing| JsonMissing {
                position: missing.end,
                index_end: missing.index_end,
                objects: missing.objects.iter().map(Oid::to_string).collect(),
            }),
            journal: salvage.journal.as_ref().map(ToString::to_string),
            unfinished_bytes: salvage.unfinished,
            undone_transactions: salvage.undone,
            out_of_order: salvage.out_of_order.iter().map(Tid::to_string).collect(),
            new_tids: salvage
                .new_tids
                .iter()
                .map(|(from, to)| NewTid { from: from.to_string(), to: to.to_string() })
                .collect(),
            records_lost: salvage.records_lost.iter().map(revision).collect(),
            objects: salvage.objects.iter().map(Oid::to_string).collect(),
            objects_gone: salvage.objects_gone.iter().map(Oid::to_string).collect(),
            blobs: None,
        }
    }

    /// The blobs of the new file beside the folder of the damaged one; none if there are none.
    fn look_at_blobs(&self, new_tids: &[(Tid, Tid)]) -> Run<Option<Blobs>> {
        let revisions = Database::open(&self.out)?.revisions_of_blobs()?;
        if revisions.is_empty() {
            return Ok(None);
        }
        let path = self.blobs.blobs.clone().or_else(|| folders::evident(&self.file).into_iter().next());
        let number = survey::Survey::of(&revisions).revisions;
        let Some(path) = path else {
            return Ok(Some(Blobs { revisions: number, folder: None, missing: None, renamed: Vec::new() }));
        };
        let folder = folders::open(&path).map_err(|error| Failure::Message(error.to_string()))?;
        let (mut missing, mut renamed) = (0, Vec::new());
        for revision in &revisions {
            if folder.read(revision.oid, revision.tid).is_ok() {
                continue;
            }
            let from = new_tids.iter().find(|(_, to)| *to == revision.tid).map(|(from, _)| *from);
            match from.filter(|from| folder.read(revision.oid, *from).is_ok()) {
                Some(from) => renamed.push(RenamedBlob {
                    from: folder.path_of(revision.oid, from).display().to_string(),
                    to: folder.path_of(revision.oid, revision.tid).display().to_string(),
                }),
                None => missing += 1,
            }
        }
        let folder = Some(folder.path().display().to_string());
        Ok(Some(Blobs { revisions: number, folder, missing: Some(missing), renamed }))
    }

    fn show_blobs(&self, out: &mut Out, blobs: &Blobs) -> Run<()> {
        let revisions = counted(blobs.revisions, "revision");
        let Some(folder) = &blobs.folder else {
            return out.field("blobs", format!("{revisions}; their files are in the blob folder of the damaged file"));
        };
        out.field("blobs", format!("{revisions}, whose files stay in {}", printable(folder)))?;
        if let Some(missing @ 1..) = blobs.missing {
            out.field("", format!("{} without a file there", counted(missing, "revision")))?;
        }
        if !blobs.renamed.is_empty() {
            let files = counted(blobs.renamed.len() as u64, "file");
            out.field("", format!("{files} must get another name, because of the new tids:"))?;
            let pairs =
                blobs.renamed.iter().map(|pair| format!("{} -> {}", printable(&pair.from), printable(&pair.to)));
            self.list(out, pairs, blobs.renamed.len())?;
        }
        Ok(())
    }

    fn show(&self, out: &mut Out, salvage: &Salvage, nothing_lost: bool, now: Timestamp) -> Run<()> {
        let to = printable(&self.out.display().to_string());
        writeln!(out, "{} -> {to}", printable(&self.file.display().to_string()))?;
        let transactions = counted(salvage.transactions, "transaction");
        let records = counted(salvage.records, "record");
        out.field("saved", format!("{transactions}, {records}, {}", exact_size(salvage.bytes)))?;
        if salvage.unfinished > 0 {
            let bytes = counted(salvage.unfinished, "byte");
            let what = match salvage.missing {
                None => "a commit that never finished: no loss",
                Some(_) => "that begin as a commit",
            };
            out.field("left out", format!("{bytes} at the end, {what}"))?;
        }
        if salvage.undone > 0 {
            let undone = counted(salvage.undone, "transaction");
            out.field("left out", format!("{undone} marked as undone, and so invisible: no loss"))?;
        }
        if !salvage.new_tids.is_empty() {
            let transactions = counted(salvage.new_tids.len() as u64, "transaction");
            out.field("new tids", format!("for {transactions} that were not later than the one before"))?;
            let pairs = salvage.new_tids.iter().map(|(from, to)| format!("{from} is now {to}"));
            self.list(out, pairs, salvage.new_tids.len())?;
        }
        if !salvage.out_of_order.is_empty() {
            let transactions = counted(salvage.out_of_order.len() as u64, "whole transaction");
            out.field("left out", format!("{transactions}, not later than the one before; `--new-tids` copies them:"))?;
            let tids = salvage.out_of_order.iter().map(|tid| format!("{tid}  {}", people::time(*tid, now)));
            self.list(out, tids, salvage.out_of_order.len())?;
        }
        if nothing_lost {
            out.field("lost", "nothing")?;
            writeln!(
                out,
                "\nRecords are copied as they are: `vellum check {to}` tells whether all of them can be read."
            )?;
            return Ok(());
        }
        if !salvage.lost.is_empty() {
            let parts = counted(salvage.lost.len() as u64, "part");
            out.field("lost", format!("{} in {parts} of the file", exact_size(lost_bytes(salvage))))?;
        }
        if let Some(missing) = &salvage.missing {
            let objects = counted(missing.objects.len() as u64, "object");
            out.field("lost", format!("the end of the file, from position {} to {}", missing.end, missing.index_end))?;
            out.field("", format!("the .index file beside it has the newest revision of {objects} there"))?;
        }
        for lost in &salvage.lost {
            show_part(out, lost, now)?;
        }
        if !salvage.records_lost.is_empty() {
            writeln!(out)?;
            let lost = counted(salvage.records_lost.len() as u64, "record");
            writeln!(out, "{lost} left out whose data lay in a lost part:")?;
            let records = salvage.records_lost.iter().map(|(oid, tid)| format!("{oid} of transaction {tid}"));
            self.list(out, records, salvage.records_lost.len())?;
        }
        if !salvage.objects_gone.is_empty() {
            writeln!(out)?;
            let gone = counted(salvage.objects_gone.len() as u64, "object");
            writeln!(out, "Nothing is left of {gone}:")?;
            self.list(out, salvage.objects_gone.iter().map(Oid::to_string), salvage.objects_gone.len())?;
        }
        let older: Vec<_> = salvage.objects.difference(&salvage.objects_gone).collect();
        if !older.is_empty() {
            writeln!(out)?;
            writeln!(
                out,
                "A revision is lost of {}; an older or newer one is there:",
                counted(older.len() as u64, "object")
            )?;
            self.list(out, older.iter().map(|oid| oid.to_string()), older.len())?;
        }
        writeln!(
            out,
            "\nThe contents of a lost part are not always known: there may be more. `vellum check {to}` finds the"
        )?;
        writeln!(out, "references that lead nowhere now. Keep the damaged file.")?;
        Ok(())
    }

    fn list(&self, out: &mut Out, items: impl Iterator<Item = String>, all: usize) -> Run<()> {
        let at_most = if self.objects == 0 { usize::MAX } else { self.objects };
        for item in items.take(at_most) {
            writeln!(out, "  {item}")?;
        }
        if all > at_most {
            writeln!(out, "  and {} more; `--json` names all", count((all - at_most) as u64))?;
        }
        Ok(())
    }
}

fn revision(&(oid, tid): &(Oid, Tid)) -> Revision {
    Revision { oid: oid.to_string(), tid: tid.to_string() }
}

fn lost_bytes(salvage: &Salvage) -> u64 {
    salvage.lost.iter().map(|lost| lost.bytes).sum()
}

fn show_part(out: &mut Out, lost: &Lost, now: Timestamp) -> Run<()> {
    const TRANSACTIONS_MAX: usize = 10;
    writeln!(out, "\nposition {}: {}", lost.position, counted(lost.bytes, "byte"))?;
    out.field("why", printable(&lost.why.kind.to_string()))?;
    let when = |tid: Tid| format!("{tid}  {}", people::time(tid, now));
    out.field("after", lost.after.map_or_else(|| "the start of the file".to_owned(), when))?;
    out.field("before", lost.before.map_or_else(|| "the end of the file".to_owned(), when))?;
    let mut lines: Vec<_> = lost.transactions.iter().take(TRANSACTIONS_MAX).map(|&tid| when(tid)).collect();
    let more = lost.transactions.len().saturating_sub(TRANSACTIONS_MAX);
    if more > 0 {
        lines.push(format!("and {} more", count(more as u64)));
    }
    out.field("transactions", lines.join("\n"))
}
