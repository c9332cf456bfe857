//! Recovering a database in tables: what can be read comes into a new database of either kind.

use std::io::Write;
use std::panic;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Oid, Storage, Tid};
use vellum_table::{Gap, Salvage, Wreck};
use vellum_terminal::people::{count, counted, exact_size, printable};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use super::{Blobs, Recover, Revision, revision};
use crate::file::Database;
use crate::file::{options, tables};

#[derive(Serialize)]
struct Report {
    file: String,
    out: String,
    transactions: u64,
    revisions: u64,
    bytes: u64,
    nothing_lost: bool,
    gaps: Vec<JsonGap>,
    rows: Vec<JsonRow>,
    /// Transactions without their user, description and extension.
    without_texts: Vec<String>,
    transactions_lost: Vec<String>,
    /// Revisions whose row is lost, and which are made of their record.
    from_record: Vec<Revision>,
    revisions_lost: Vec<Revision>,
    objects: Vec<String>,
    objects_gone: Vec<String>,
    facts_lost: Option<String>,
    /// Whether the store's own checksums of its pages fit.
    checksums_fit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<Blobs>,
}

#[derive(Serialize)]
struct JsonGap {
    table: &'static str,
    after: Option<String>,
    before: Option<String>,
    message: String,
}

#[derive(Serialize)]
struct JsonRow {
    table: &'static str,
    row: String,
    message: String,
}

/// Carries it out.
pub fn recover(what: &Recover, out: &mut Out, now: Timestamp) -> Run {
    let is_refused = match what {
        Recover { new_tids: true, .. } => Some("--new-tids is for a Data.fs: the transactions of tables are in order"),
        _ => None,
    };
    if let Some(why) = is_refused {
        return Err(Failure::Message(format!("{}: {why}. Nothing was changed", what.file.display())));
    }
    if what.out.exists() {
        let out = what.out.display();
        return Err(Failure::Message(format!(
            "{out}: there is a file already, and it is left as it is: name another one"
        )));
    }
    // The store panics at damaged pages, which are what is looked for. Each is caught, and in the report.
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let salvaged = salvage(what);
    panic::set_hook(loud);
    let salvage = salvaged?;
    let blobs = what.look_at_blobs(&[])?;
    if what.json {
        out.json(&Report { blobs, ..report(what, &salvage) })?;
    } else {
        show(what, out, &salvage, now)?;
        if let Some(blobs) = blobs {
            writeln!(out)?;
            what.show_blobs(out, &blobs)?;
        }
    }
    Ok(if salvage.is_whole() { Outcome::Fine } else { Outcome::Problems })
}

fn salvage(what: &Recover) -> Run<Salvage> {
    let wreck = tables::told(vellum_table::Options::new().open_wreck(&what.file))?;
    let to = create(&what.out, &what.file, wreck.is_history_free())?;
    let salvaged = copy(wreck, to.storage());
    drop(to);
    if salvaged.is_err() {
        // Half of it would look like all that there is.
        for end in ["", ".lock", ".index"] {
            let mut path = what.out.as_os_str().to_owned();
            path.push(end);
            let _ = std::fs::remove_file(PathBuf::from(path));
        }
    }
    salvaged
}

fn copy(wreck: Wreck, to: &dyn Storage) -> Run<Salvage> {
    let meter = Meter::new("recovering");
    Ok(wreck.copy_to(to, &mut |done| meter.update(done, 0))?)
}

/// Makes the new database, of the kind that its name says, with the permissions of the old one. In tables, it is
/// history-free if the old one was.
fn create(path: &Path, like: &Path, history_free: bool) -> Run<Database> {
    if !tables::is_or_becomes_one(path) {
        return Ok(Database::File(options()?.like(like).create(path)?));
    }
    let options = tables::options()?.history_free(history_free).grace(Duration::ZERO);
    let made = tables::told(options.create(path))?;
    tables::take_after(path, like)?;
    Ok(Database::Tables(made))
}

fn report(what: &Recover, salvage: &Salvage) -> Report {
    let tids = |tids: &[Tid]| tids.iter().map(Tid::to_string).collect();
    let gap = |gap: &Gap| JsonGap {
        table: gap.table,
        after: gap.after.clone(),
        before: gap.before.clone(),
        message: gap.why.clone(),
    };
    Report {
        file: what.file.display().to_string(),
        out: what.out.display().to_string(),
        transactions: salvage.transactions,
        revisions: salvage.revisions,
        bytes: salvage.bytes,
        nothing_lost: salvage.is_whole(),
        gaps: salvage.gaps.iter().map(gap).collect(),
        rows: salvage
            .rows
            .iter()
            .map(|row| JsonRow { table: row.table, row: row.row.clone(), message: row.what.clone() })
            .collect(),
        without_texts: tids(&salvage.without_texts),
        transactions_lost: tids(&salvage.transactions_lost),
        from_record: salvage.from_record.iter().map(revision).collect(),
        revisions_lost: salvage.revisions_lost.iter().map(revision).collect(),
        objects: salvage.objects.iter().map(Oid::to_string).collect(),
        objects_gone: salvage.objects_gone.iter().map(Oid::to_string).collect(),
        facts_lost: salvage.facts.clone(),
        checksums_fit: !salvage.has_wrong_sums,
        blobs: None,
    }
}

fn show(what: &Recover, out: &mut Out, salvage: &Salvage, now: Timestamp) -> Run<()> {
    let (from, to) = (what.file.display().to_string(), printable(&what.out.display().to_string()));
    writeln!(out, "{} -> {to}", printable(&from))?;
    let transactions = counted(salvage.transactions, "transaction");
    let revisions = counted(salvage.revisions, "revision");
    out.field("saved", format!("{transactions}, {revisions}, {}", exact_size(salvage.bytes)))?;
    if salvage.is_whole() {
        return out.field("lost", "nothing");
    }
    match salvage.revisions_lost.len() as u64 {
        0 => out.field("lost", "no revision that another table names")?,
        lost => {
            let objects = counted(salvage.objects.len() as u64, "object");
            out.field("lost", format!("{} of {objects}", counted(lost, "revision")))?;
        }
    }
    if let Some(why) = &salvage.facts {
        out.field("facts", printable(why))?;
        out.field("", "the time of the last pack is lost: packed transactions can come out as whole ones")?;
    }
    if salvage.has_wrong_sums {
        out.field("checksums", "those of the store do not fit")?;
        out.field("", "a user or a description can be wrong; each record has a checksum of its own, and is right")?;
    }
    let gaps = salvage.gaps.iter().map(|Gap { table, after, before, .. }| {
        let after = after.as_ref().map_or("from the beginning".to_owned(), |key| format!("after {key}"));
        let before = before.as_ref().map_or("to the end".to_owned(), |key| format!("up to {key}"));
        format!("table `{table}`, {after} {before}")
    });
    list(what, out, "of a table that cannot be read", "part", gaps)?;
    list(what, out, "that cannot be used", "row", salvage.rows.iter().map(|row| printable(&row.to_string())))?;
    let when = |tid: &Tid| format!("{tid}  {}", people::time(*tid, now));
    list(
        what,
        out,
        "without user and description: those are lost",
        "transaction",
        salvage.without_texts.iter().map(when),
    )?;
    list(what, out, "of which no revision is left", "transaction", salvage.transactions_lost.iter().map(when))?;
    let of = |(oid, tid): &(Oid, Tid)| format!("{oid} of transaction {tid}");
    list(what, out, "made of the record alone: the row is lost", "revision", salvage.from_record.iter().map(of))?;
    list(what, out, "lost", "revision", salvage.revisions_lost.iter().map(of))?;
    list(what, out, "of which nothing is left", "object", salvage.objects_gone.iter().map(Oid::to_string))?;
    writeln!(out, "\nThe contents of a part that cannot be read are not always known: there may be more.")?;
    writeln!(out, "`vellum garbage {to}` counts the references that lead nowhere now. Keep the damaged file.")?;
    Ok(())
}

/// A list with a title; nothing if it is empty.
fn list(
    what: &Recover,
    out: &mut Out,
    title: &str,
    one: &str,
    items: impl ExactSizeIterator<Item = String>,
) -> Run<()> {
    let (all, at_most) = (items.len(), if what.objects == 0 { usize::MAX } else { what.objects });
    if all == 0 {
        return Ok(());
    }
    writeln!(out, "\n{} {title}:", counted(all as u64, one))?;
    for item in items.take(at_most) {
        writeln!(out, "  {item}")?;
    }
    if all > at_most {
        writeln!(out, "  and {} more; `--objects 0` shows all", count((all - at_most) as u64))?;
    }
    Ok(())
}
