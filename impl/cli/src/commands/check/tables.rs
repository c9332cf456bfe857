//! Checking a database in tables: each table against the others.

use std::io::Write;

use super::blobs::{self, Checked, JsonBlobs};
use super::{BTrees, Check, btrees, gone, lost_in_tables, python_2};
use crate::file::Database;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{BTreesChecked, Tid};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    dangling_references: Option<u64>,
    /// Records that count now of which it cannot be told what they refer to.
    #[serde(skip_serializing_if = "Option::is_none")]
    untold_records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_class_objects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_class_unreadable: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    btrees: Option<BTrees>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python_2_objects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python_2_unreadable: Option<u64>,
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
        None => Further::look(out, storage, what, at_most, now)?,
        Some(_) => Further::default(),
    };
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
        dangling_references: further.lost.map(|found| found.references),
        untold_records: further.lost.map(|found| found.untold),
        gone_class_objects: further.gone.as_ref().map(|gone| gone.objects),
        gone_class_unreadable: further.gone.as_ref().map(|gone| gone.unreadable),
        btrees: further.btrees.as_ref().map(BTrees::of),
        python_2_objects: further.python_2.as_ref().map(|found| found.objects),
        python_2_unreadable: further.python_2.as_ref().map(|found| found.unreadable),
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
    let is_fine = problems == 0 && further.is_fine() && blobs.is_none_or(|blobs| blobs.is_fine());
    Ok(if is_fine && summary.ended.is_none() { Outcome::Fine } else { Outcome::Problems })
}

/// The results of the options that look further than at the tables.
#[derive(Default)]
struct Further {
    lost: Option<lost_in_tables::Found>,
    gone: Option<gone::Found>,
    btrees: Option<BTreesChecked>,
    python_2: Option<gone::Found>,
}

impl Further {
    fn look(out: &mut Out, storage: &TableStorage, what: &Check, at_most: u64, now: Timestamp) -> Run<Further> {
        let (database, json, mut further) = (Database::Tables(storage.clone()), what.json, Further::default());
        if what.references {
            further.lost = Some(lost_in_tables::list(out, &what.file, storage, json, at_most, now)?);
        }
        if what.gone.is_asked() {
            further.gone = Some(what.gone.list(out, &database, json, at_most)?);
        }
        if what.btrees {
            further.btrees = Some(btrees::list(out, &database, json, at_most)?);
        }
        if what.python2 {
            further.python_2 = Some(python_2::list(out, &database, json, at_most)?);
        }
        Ok(further)
    }

    fn is_fine(&self) -> bool {
        let are_none = |found: &gone::Found| found.objects == 0 && found.unreadable == 0;
        self.lost.is_none_or(|lost| lost.references == 0 && lost.untold == 0)
            && self.gone.as_ref().is_none_or(are_none)
            && self.btrees.as_ref().is_none_or(|checked| BTrees::of(checked).is_fine())
            && self.python_2.as_ref().is_none_or(are_none)
    }
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
