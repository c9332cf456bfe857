//! The summary of a database in tables. It counts rows, and reads the current records only.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Oid, Order, Storage, Tid, TidRange, Version};
use vellum_table::{TableStorage, TableSummary};
use vellum_terminal::people::{count, exact_size, percent, printable, size};
use vellum_terminal::{Meter, Out, Run, people};

use super::Blobs;
use crate::ui::classes::{self, ClassSummary, Classes};
use crate::ui::meta::{self, version_name};

#[derive(Serialize)]
struct Summary {
    file: String,
    format: &'static str,
    /// Whether it forgets older revisions with each commit.
    history_free: bool,
    bytes: u64,
    transactions: u64,
    revisions: u64,
    objects: u64,
    nothing: u64,
    first_transaction: Option<String>,
    first_time: Option<String>,
    last_transaction: Option<String>,
    last_time: Option<String>,
    versions: Vec<Named>,
    current_bytes: u64,
    /// Bytes of the file that no table has: they are used again.
    free_bytes: u64,
    tables: Vec<Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<Blobs>,
    classes_in_all: usize,
    classes: Vec<ClassSummary>,
    #[serde(skip)]
    first: Option<Tid>,
    #[serde(skip)]
    last: Option<Tid>,
}

/// A version, for programs.
#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
    #[serde(skip)]
    version: Version,
}

#[derive(Serialize)]
struct Table {
    name: &'static str,
    rows: u64,
    bytes: u64,
}

/// How many rows a table has.
pub fn rows(tables: &[TableSummary], name: &str) -> u64 {
    tables.iter().find(|table| table.name == name).map_or(0, |table| table.rows)
}

/// Shows it, with so many classes.
pub fn show(
    out: &mut Out,
    storage: &TableStorage,
    blobs: Option<Blobs>,
    at_most: usize,
    json: bool,
    now: Timestamp,
) -> Run<()> {
    let summary = Summary { blobs, ..summary(storage, at_most)? };
    if json { out.json(&summary) } else { summary.show(out, now) }
}

fn summary(storage: &TableStorage, at_most: usize) -> Run<Summary> {
    let tables = storage.summary()?;
    let rows = |name| rows(&tables, name);
    let objects = storage.object_count();
    let first = storage.transactions(TidRange::ALL, Order::OldestFirst)?.next().transpose()?;
    let first = first.map(|transaction| transaction.tid);
    let last = Some(storage.last_transaction()).filter(|&last| last != Tid::ZERO);
    let versions = storage.versions().map_or_else(|| Ok(Vec::new()), |versions| versions.versions())?;
    let (mut classes, mut current_bytes, mut current) = (Classes::default(), 0, 0);
    let meter = Meter::new("classes");
    for record in storage.current_records(Oid::ROOT) {
        let record = record?;
        classes.add(&record.data, record.data.len() as u64);
        current_bytes += record.data.len() as u64;
        current += 1;
        if current % 1024 == 0 {
            meter.update(current, objects);
        }
    }
    drop(meter);
    let bytes = storage.size();
    Ok(Summary {
        file: storage.path().display().to_string(),
        format: "tables",
        history_free: storage.is_history_free(),
        bytes,
        transactions: rows("transactions"),
        revisions: rows("objects") + rows("past") + rows("overwritten"),
        objects,
        nothing: objects.saturating_sub(current),
        first_transaction: first.map(|tid| tid.to_string()),
        first_time: first.and_then(people::rfc3339),
        last_transaction: last.map(|tid| tid.to_string()),
        last_time: last.and_then(people::rfc3339),
        versions: versions
            .into_iter()
            .map(|version| {
                let (name, name_hex) = meta::version(&version);
                Named { name, name_hex, version }
            })
            .collect(),
        current_bytes,
        free_bytes: bytes.saturating_sub(tables.iter().map(|table| table.bytes).sum()),
        tables: tables.iter().map(|table| Table { name: table.name, rows: table.rows, bytes: table.bytes }).collect(),
        blobs: None,
        classes_in_all: classes.len(),
        classes: classes.biggest(at_most),
        first,
        last,
    })
}

impl Summary {
    fn show(&self, out: &mut Out, now: Timestamp) -> Run<()> {
        writeln!(out, "{}", printable(&self.file))?;
        out.field("format", if self.history_free { "tables, history-free" } else { "tables" })?;
        out.field("size", exact_size(self.bytes))?;
        out.field("transactions", count(self.transactions))?;
        let nothing = match self.nothing {
            0 => String::new(),
            nothing => format!(", {} of them deleted, undone or in a version only", count(nothing)),
        };
        out.field("objects", format!("{}{nothing}", count(self.objects)))?;
        out.field("revisions", count(self.revisions))?;
        match (self.first, self.last) {
            (Some(first), Some(last)) => {
                out.field("first", format!("{first}  {}", people::time(first, now)))?;
                out.field("last", format!("{last}  {}", people::time(last, now)))?;
            }
            _ => out.field("last", "there is no transaction yet")?,
        }
        for (name, bytes) in [("current data", self.current_bytes), ("free", self.free_bytes)] {
            out.field(name, format!("{:>12}  {:>8}", size(bytes), percent(bytes, self.bytes)))?;
        }
        if let Some(blobs) = &self.blobs {
            blobs.show(out)?;
        }
        if !self.versions.is_empty() {
            writeln!(out, "\nversions")?;
            for version in &self.versions {
                writeln!(out, "  {}", version_name(&version.version))?;
            }
        }
        writeln!(out, "\n{:>12}  {:>8}  {:>12}  table", "bytes", "part", "rows")?;
        for table in self.tables.iter().filter(|table| table.rows > 0) {
            let part = percent(table.bytes, self.bytes);
            writeln!(out, "{:>12}  {part:>8}  {:>12}  {}", size(table.bytes), count(table.rows), table.name)?;
        }
        classes::show(out, &self.classes, self.classes_in_all, self.current_bytes)
    }
}
