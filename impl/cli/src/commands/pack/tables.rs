//! Packing a database in tables: in small steps, inside the file, which is cut in the end.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Error, PackOptions, Tid};
use vellum_table::TableStorage;
use vellum_terminal::people::{count, counted, printable, size};
use vellum_terminal::{Failure, Out, Outcome, Run, people};

use super::{Pack, show_dangling};
use crate::commands::confirm::ask;
use crate::commands::info::rows;
use crate::file::{survey, tables};
use crate::ui::blobs;
use crate::ui::links::{self, ForeignLink, Link};
use crate::ui::meta::moment;

/// The contents of the tables, before the pack and after it.
#[derive(Clone, Copy, Serialize)]
struct Size {
    transactions: u64,
    revisions: u64,
    objects: u64,
    /// Of the tables, not of the file.
    bytes: u64,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    packed: bool,
    dry_run: bool,
    to: Option<String>,
    to_time: Option<String>,
    collected: bool,
    not_collected: Vec<ForeignLink>,
    before: Size,
    after: Size,
    freed_bytes: u64,
    dangling: Vec<Link>,
    file_bytes: u64,
    seconds: f64,
}

impl Size {
    fn of(storage: &TableStorage) -> vellum_storage::Result<Size> {
        let tables = storage.summary()?;
        let rows = |name| rows(&tables, name);
        Ok(Size {
            transactions: rows("transactions"),
            revisions: rows("objects") + rows("past") + rows("overwritten"),
            objects: storage.object_count(),
            bytes: tables.iter().map(|table| table.bytes).sum(),
        })
    }
}

impl Pack {
    /// Packs a database in tables.
    pub fn run_tables(self, out: &mut Out, to: Tid, now: Timestamp) -> Run {
        let path = &self.file;
        let unfit = |option: &str, why: &str| {
            Err(Failure::Message(format!("{}: {option} is for a Data.fs: {why}. Nothing was changed", path.display())))
        };
        if self.consent.dry_run {
            return unfit("--dry-run", "a pack of tables has no preview");
        }
        if self.keep_log.is_some() {
            return unfit("--keep-log", "a pack of tables keeps no log");
        }
        if !self.consent.may(out, self.json) {
            return self.consent.not_done();
        }
        let storage = match self.without_blobs {
            true => tables::open_to_write(path)?,
            false => tables::open_to_write_with_blobs(path, &self.blobs)?,
        };
        self.refuse_tables_with_blobs(&storage)?;
        if !self.consent.yes {
            let to = match to {
                Tid::MAX => "now".to_owned(),
                to => moment(to, now),
            };
            writeln!(out, "{}: pack to {to}", printable(&path.display().to_string()))?;
            writeln!(out, "A pack cannot be undone, and a pack of tables has no preview and keeps no old file.")?;
            if !ask(out, "Pack this?")? {
                writeln!(out, "Nothing was changed.")?;
                return Ok(Outcome::Problems);
            }
        }
        self.pack_tables(out, storage, to, now)
    }

    /// Refuses to pack tables that have blobs in a folder that is not known: the files would stay.
    pub(super) fn refuse_tables_with_blobs(&self, storage: &TableStorage) -> Run<()> {
        if self.without_blobs || storage.blob_folder().is_some() {
            return Ok(());
        }
        match survey::revisions_told(storage)?.len() as u64 {
            0 => Ok(()),
            revisions => Err(Failure::Message(format!(
                "{}: {}",
                self.file.display(),
                blobs::refusal(revisions, "revision of a blob", "the files of those that the pack forgets stay")
            ))),
        }
    }

    fn pack_tables(&self, out: &mut Out, storage: TableStorage, to: Tid, now: Timestamp) -> Run {
        let start = Instant::now();
        let before = Size::of(&storage)?;
        let how = PackOptions::default().collect(!self.no_collect).go_on(self.go_on);
        // Told to collect, it does.
        let is_told = self.collect || self.no_collect;
        let packed = if is_told { storage.pack_to(to, how) } else { storage.pack_unless_foreign(to, how) };
        let (packed, foreign) = match packed {
            Err(Error::Foreign { oid, database, to: target }) => {
                (storage.pack_to(to, how.collect(false)), Some((oid, database, target)))
            }
            packed => (packed, None),
        };
        let report = match packed {
            Ok(report) => report,
            Err(Error::Dangling { references }) => return self.refuse(out, &references),
            Err(error @ Error::Unreadable { .. }) => return self.refuse_untold(out, &error),
            Err(other) => return Err(other.into()),
        };
        let after = Size::of(&storage)?;
        let last = Some(to.min(storage.last_transaction())).filter(|&last| last != Tid::ZERO);
        drop(storage);
        let compacted = tables::compact(&self.file)?;
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            out.json(&Answer {
                file: path_name(&self.file),
                packed: before.revisions != after.revisions || before.transactions != after.transactions,
                dry_run: false,
                to: last.map(|tid| tid.to_string()),
                to_time: last.and_then(people::rfc3339),
                collected: how.collect && foreign.is_none(),
                not_collected: foreign.map(|reference| links::foreign(&[reference])).unwrap_or_default(),
                before,
                after,
                freed_bytes: before.bytes.saturating_sub(after.bytes),
                dangling: links::links(&report.dangling),
                file_bytes: compacted.after,
                seconds: (seconds * 1000.0).round() / 1000.0,
            })?;
            return Ok(Outcome::Fine);
        }
        writeln!(out, "{}", printable(&path_name(&self.file)))?;
        if let Some(last) = last {
            out.field("packed to", moment(last, now))?;
        }
        if let Some((oid, database, to)) = &foreign {
            let database = printable(database);
            out.field(
                "collected",
                format!("no garbage: object {oid} refers to object {to} of the database `{database}`"),
            )?;
            out.field("", "so there are several, and what only the others need cannot be told from this one;")?;
            out.field("", "--collect looks at this one alone")?;
        }
        writeln!(out, "\n{:>16}  {:>16}  {:>16}", "before", "after", "gone")?;
        for (name, before, after) in [
            ("transactions", before.transactions, after.transactions),
            ("revisions", before.revisions, after.revisions),
            ("objects", before.objects, after.objects),
        ] {
            let gone = before.saturating_sub(after);
            writeln!(out, "{:>16}  {:>16}  {:>16}  {name}", count(before), count(after), count(gone))?;
        }
        let freed = before.bytes.saturating_sub(after.bytes);
        writeln!(out, "{:>16}  {:>16}  {:>16}  in the tables", size(before.bytes), size(after.bytes), size(freed))?;
        writeln!(out)?;
        out.field("file", format!("{}, of {} before", size(compacted.after), size(compacted.before)))?;
        if !report.dangling.is_empty() {
            out.field("missing", counted(report.dangling.len() as u64, "reference") + " to missing objects")?;
            show_dangling(out, &report.dangling)?;
        }
        out.field("took", format!("{seconds:.1} seconds")).map(|()| Outcome::Fine)
    }
}

fn path_name(path: &Path) -> String {
    path.display().to_string()
}
