//! `vellum info --class`: the objects of a class, or of all classes of a package.

use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{NewestRevision, Storage};
use vellum_terminal::people::{counted, exact_size, printable, size};
use vellum_terminal::{Meter, Out, Outcome, Run, people};

use crate::ui::classes::{class, class_name};
use crate::ui::meta::{self, in_version, moment};
use crate::ui::objects::each_object;

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    class: String,
    tid: String,
    time: Option<String>,
    bytes: u64,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    kind: &'static str,
    file: String,
    class: String,
    objects: u64,
    bytes: u64,
    /// Objects whose class cannot be read: any of them may be of this one.
    unreadable: u64,
}

/// Lists the objects of the class `name`, or of a package of this name: the one that was changed last first.
pub fn list(out: &mut Out, path: &Path, storage: &dyn Storage, name: &str, json: bool, now: Timestamp) -> Run {
    let package = format!("{name}.");
    let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("reading") };
    let file = path.display().to_string();
    let mut summary = Summary { kind: "summary", file, class: name.to_owned(), objects: 0, bytes: 0, unreadable: 0 };
    let mut each = |object: &NewestRevision| -> Run<()> {
        // In a version an object has two records, which may be of different classes.
        let (mut is_counted, mut is_unreadable) = (false, false);
        for (tid, version, data) in object.records() {
            let Some(class) = class(data) else {
                is_unreadable = true;
                continue;
            };
            if class != name && !class.starts_with(&package) {
                continue;
            }
            let bytes = data.len() as u64;
            is_counted = true;
            summary.bytes += bytes;
            if json {
                let (version, version_hex) = meta::version(&version);
                let (oid, tid, time) = (object.oid.to_string(), tid.to_string(), people::rfc3339(tid));
                out.json(&Line { kind: "object", oid, class, tid, time, bytes, version, version_hex })?;
            } else {
                writeln!(out, "  {}  {}{}", object.oid, class_name(Some(&class)), in_version(&version))?;
                writeln!(out, "      {}, since {}", size(bytes), moment(tid, now))?;
            }
        }
        summary.objects += u64::from(is_counted);
        summary.unreadable += u64::from(is_unreadable);
        Ok(())
    };
    each_object(storage, meter, storage.object_count(), &mut each)?;
    if json {
        out.json(&summary)?;
    } else {
        let Summary { objects, bytes, unreadable, .. } = summary;
        let objects = counted(objects, "object");
        let file = printable(&summary.file);
        writeln!(out, "{file}: {objects} of {}, {}", printable(name), exact_size(bytes))?;
        if unreadable > 0 {
            let objects = counted(unreadable, "object");
            writeln!(
                out,
                "There may be more: the class of {objects} cannot be read; `vellum check {file}` names them."
            )?;
        }
    }
    Ok(if summary.unreadable == 0 { Outcome::Fine } else { Outcome::Problems })
}
