//! Checking a database in tables: each table against the others.

use std::io::Write;

use super::blobs::{self, Checked, JsonBlobs};
use super::further::Further;
use super::{Check, lost_in_tables};
use crate::file::Database;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::Tid;
use vellum_table::{Problem, TableStorage};
use vellum_terminal::people::{count, counted, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    table: &'a str,
    row: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Summary {
    kind: &'static str,
    file: String,
    bytes: u64,
    transactions: u64,
    records: u64,
    objects: u64,
    last_transaction: Option<String>,
    last_time: Option<String>,
    problems: u64,
    problems_shown: u64,
    /// Why the rest was not checked.
    ended: Option<String>,
    #[serde(flatten)]
    further: Further,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<JsonBlobs>,
}

/// Checks, and shows at most so many problems.
pub fn check(out: &mut Out, storage: &TableStorage, what: &Check, at_most: u64, now: Timestamp) -> Run {
    let json = what.json;
    let meter = Meter::new("checking");
    let (mut problems, mut shown, mut failed) = (0, 0, None);
    let checked = storage.check(&mut |problem| {
        problems += 1;
        if shown == at_most || failed.is_some() {
            return;
        }
        match meter.suspend(|| show(out, &problem, json, shown == 0)) {
            Ok(()) => shown += 1,
            // No reader would see the rest, and nothing has to be cleaned up.
            Err(Failure::ReaderGone) => std::process::exit(0),
            Err(failure) => failed = Some(failure),
        }
    });
    drop(meter);
    if let Some(failure) = failed {
        return Err(failure);
    }
    // A page that cannot be read ends the check, and is what was looked for.
    let ended = checked.err().map(|error| error.to_string());
    let blobs = match ended {
        None => blobs::list_of(out, storage, &what.blob_folder, what.read_blobs, json, at_most)?,
        Some(_) => None,
    };
    let further = match ended {
        None => {
            let lost = match what.references {
                true => Some(lost_in_tables::list(out, &what.file, storage, json, at_most, now)?),
                false => None,
            };
            let lost = lost.map(|found| (found.references, found.untold));
            Further::look(out, || Ok(Database::Tables(storage.clone())), what, lost, at_most)?
        }
        Some(_) => Further::default(),
    };
    let is_fine = problems == 0 && further.is_fine() && blobs.as_ref().is_none_or(|blobs| blobs.is_fine());
    let tables = storage.summary();
    let rows = |name| tables.as_ref().map_or(0, |tables| super::super::info::rows(tables, name));
    let last = Some(storage.last_transaction()).filter(|&last| last != Tid::ZERO);
    let summary = Summary {
        kind: "summary",
        file: storage.path().display().to_string(),
        bytes: storage.size(),
        transactions: rows("transactions"),
        records: rows("data"),
        objects: rows("objects"),
        last_transaction: last.map(|tid| tid.to_string()),
        last_time: last.and_then(people::rfc3339),
        problems,
        problems_shown: shown,
        ended,
        further,
        blobs: blobs.as_ref().map(Checked::json),
    };
    if json {
        out.json(&summary)?
    } else {
        summary.show(out, last, now)?;
        if let Some(blobs) = &blobs {
            blobs.show(out)?;
        }
    }
    Ok(if is_fine && summary.ended.is_none() { Outcome::Fine } else { Outcome::Problems })
}

fn show(out: &mut Out, problem: &Problem, json: bool, is_first: bool) -> Run<()> {
    let Problem { table, row, what, .. } = problem;
    if json {
        out.json(&Line { kind: "table", table, row, message: what })?;
    } else {
        if is_first {
            writeln!(out, "{:<12}  {:<33}  problem", "table", "row")?;
        }
        writeln!(out, "{table:<12}  {:<33}  {}", printable(row), printable(what))?;
    }
    // A problem is shown at once, not at the end of the check.
    Ok(out.flush()?)
}

impl Summary {
    fn show(&self, out: &mut Out, last: Option<Tid>, now: Timestamp) -> Run<()> {
        let hidden = self.problems - self.problems_shown;
        if hidden > 0 {
            writeln!(out, "and {} more; `--max 0` shows all", count(hidden))?;
        }
        if self.problems > 0 {
            writeln!(out)?;
        }
        let found = match self.problems {
            0 if self.ended.is_some() => "not all of it could be checked".to_owned(),
            0 => "no problems".to_owned(),
            problems => counted(problems, "problem"),
        };
        writeln!(out, "{}: {found}", printable(&self.file))?;
        if let Some(why) = &self.ended {
            out.field("ended", printable(why))?;
        }
        let transactions = counted(self.transactions, "transaction");
        out.field("checked", format!("{}, {transactions}", size(self.bytes)))?;
        let objects = counted(self.objects, "object");
        out.field("", format!("{} of {objects}", counted(self.records, "record")))?;
        if let Some(last) = last {
            out.field("last", format!("{last}  {}", people::time(last, now)))?;
        }
        Ok(())
    }
}
