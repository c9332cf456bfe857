//! `vellum garbage`: the objects that cannot be reached from the root.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Error, NewestRevision, Oid, Storage};
use vellum_terminal::people::{counted, exact_size, percent, printable, size};
use vellum_terminal::{Meter, Out, Outcome, Run, people};

use crate::file::Database;
use crate::ui::classes::{self, ClassSummary, Classes, class, class_name};
use crate::ui::meta::moment;
use crate::ui::objects::each_object;
use crate::ui::untold::{self, JsonUntold};

/// Show the objects that cannot be reached from the root, by class
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum garbage Data.fs
  vellum garbage Data.fs --list                     each of them
  vellum refs Data.fs 1f                            what refers to one of them?

Garbage is every object that cannot be reached from the root (object 0) by
following references. A pack with collection removes it. An object that only a
version leads to is not garbage; one that only weak references or other garbage
lead to is garbage. The command does not know references from other databases:
objects that only those need look like garbage.

The bytes are those of the objects' present state; their past takes more space.

A record that cannot be read, or has a reference of an unknown shape, may refer
to any object. If such a record is needed, the garbage is not known.

Exit codes: 0, with or without garbage; 1 if the garbage is not known, if there
is no root, or if objects that are referred to are missing (`vellum check
--references` explains them); 2 if the command was used wrongly or could not do
its work.

With --json: one object; with --list one object a line, one of the kind `object`
for each object, the last changed one first, and a last one of the kind
`summary`. If the garbage is not known, its `garbage_objects` is \"unknown\".")]
pub struct Garbage {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// List the objects, the last changed one first
    #[arg(long)]
    list: bool,
    /// How many classes to show, those that take most space first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    class: Option<String>,
    tid: String,
    time: Option<String>,
    bytes: u64,
}

#[derive(Default, Serialize)]
struct Summary {
    kind: &'static str,
    file: String,
    objects: u64,
    bytes: u64,
    garbage_objects: u64,
    garbage_bytes: u64,
    rootless: bool,
    missing_objects: u64,
    classes_in_all: usize,
    classes: Vec<ClassSummary>,
}

/// The summary if the garbage is not known.
#[derive(Serialize)]
struct Unknown {
    kind: &'static str,
    file: String,
    garbage_objects: &'static str,
    untold: Vec<JsonUntold>,
}

/// Bytes of the object's current records. Records that share one data count once.
fn bytes(object: &NewestRevision) -> u64 {
    let newest = object.data.as_ref().map_or(0, |data| data.len() as u64);
    let base = object.base.iter().filter(|(_, data)| object.data.as_ref() != Some(data));
    newest + base.map(|(_, data)| data.len() as u64).sum::<u64>()
}

impl Garbage {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let database = Database::open(&self.file)?;
        let storage = database.storage();
        let meter = Meter::new("marking");
        let survivors = database.needed(&|done, of| meter.update(done, of));
        drop(meter);
        let survivors = match survivors {
            Ok(survivors) => survivors,
            Err(Error::Unreadable { .. }) => return self.untold(out, storage),
            Err(other) => return Err(other.into()),
        };
        let mut summary =
            Summary { kind: "summary", file: self.file.display().to_string(), rootless: true, ..Summary::default() };
        let mut classes = Classes::default();
        // On a terminal, the output itself shows the progress.
        let meter = if self.list && out.is_terminal() { Meter::hidden() } else { Meter::new("counting") };
        let mut seen = 0_u64;
        let mut each = |object: &NewestRevision| -> Run<()> {
            seen += 1;
            summary.rootless &= object.oid != Oid::ROOT;
            // A tombstone takes no room.
            let Some((_, _, data)) = object.records().next() else { return Ok(()) };
            let bytes = bytes(object);
            summary.objects += 1;
            summary.bytes += bytes;
            if survivors.needs(object.oid) {
                return Ok(());
            }
            summary.garbage_objects += 1;
            summary.garbage_bytes += bytes;
            classes.add(data, bytes);
            if self.list { self.object(out, object, class(data), bytes, now) } else { Ok(()) }
        };
        each_object(storage, meter, storage.object_count(), &mut each)?;
        summary.rootless &= seen > 0;
        if seen > 0 && !summary.rootless {
            let missing: BTreeSet<Oid> = survivors.dangling().iter().map(|(_, to)| *to).collect();
            summary.missing_objects = missing.len() as u64;
        }
        summary.classes_in_all = classes.len();
        summary.classes = classes.biggest(self.classes);
        match self.json {
            true => out.json(&summary)?,
            false => self.summary(out, &summary)?,
        }
        Ok(if summary.rootless || summary.missing_objects > 0 { Outcome::Problems } else { Outcome::Fine })
    }

    /// Prints that the garbage is not known: a needed record may refer to anything.
    fn untold(&self, out: &mut Out, storage: &dyn Storage) -> Run {
        let records = untold::find(storage)?;
        if self.json {
            let summary = Unknown {
                kind: "summary",
                file: self.file.display().to_string(),
                garbage_objects: "unknown",
                untold: untold::json(&records),
            };
            out.json(&summary)?;
            return Ok(Outcome::Problems);
        }
        let file = printable(&self.file.display().to_string());
        writeln!(out, "{file}: the garbage is not known: {}", untold::count(&records))?;
        untold::show(out, &records, if self.list { u64::MAX } else { 20 })?;
        writeln!(out, "A pack that collects garbage refuses such a database.")?;
        Ok(Outcome::Problems)
    }

    fn object(
        &self,
        out: &mut Out,
        object: &NewestRevision,
        class: Option<String>,
        bytes: u64,
        now: Timestamp,
    ) -> Run<()> {
        let (oid, tid) = (object.oid, object.tid);
        if self.json {
            let (oid, time) = (oid.to_string(), people::rfc3339(tid));
            return out.json(&Line { kind: "object", oid, class, tid: tid.to_string(), time, bytes });
        }
        writeln!(out, "  {oid}  {}", class_name(class.as_deref()))?;
        writeln!(out, "      {}, since {}", size(bytes), moment(tid, now))?;
        Ok(())
    }

    fn summary(&self, out: &mut Out, summary: &Summary) -> Run<()> {
        if self.list && summary.garbage_objects > 0 {
            writeln!(out)?;
        }
        let file = printable(&summary.file);
        match summary.garbage_objects {
            0 => writeln!(out, "{file}: no garbage")?,
            number => writeln!(out, "{file}: {} cannot be reached from the root", counted(number, "object"))?,
        }
        if summary.garbage_objects > 0 {
            let part = format!("{} of {}", exact_size(summary.garbage_bytes), size(summary.bytes));
            out.field("garbage", format!("{part} ({})", percent(summary.garbage_bytes, summary.bytes)))?;
        }
        out.field("in all", format!("{}, {}", counted(summary.objects, "object"), size(summary.bytes)))?;
        if summary.rootless {
            out.field("problem", "there is no root (object 0), so nothing can be reached")?;
            out.field("", "a pack that collects garbage refuses such a database")?;
        }
        if summary.missing_objects > 0 {
            let missing = counted(summary.missing_objects, "object");
            let are = if summary.missing_objects == 1 { "is" } else { "are" };
            out.field("problem", format!("{missing} that {are} referred to {are} not in the file"))?;
            out.field("", "`vellum check --references` shows who refers to what")?;
        }
        classes::show(out, &summary.classes, summary.classes_in_all, summary.garbage_bytes)
    }
}
