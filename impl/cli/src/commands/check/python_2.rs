//! `vellum check --python2`: the objects that Python 3 cannot load because of text that Python 2 wrote.
//!
//! ```text
//!   0000000000000004  shop.Item
//!       state['title']            b'caf\xe9'
//!       state['born'].arguments[0]  b'\x07\xe0\x01\x02'
//! 1 object has text of Python 2 that Python 3 cannot load
//! ```

use std::io::Write;

use serde::Serialize;
use vellum_pickle::{NativeText, python_2_text};
use vellum_storage::NewestRevision;
use vellum_terminal::people::{count, counted, printable};
use vellum_terminal::{Meter, Out, Run};

use super::gone::Found;
use crate::file::{DataFile, Database};
use crate::ui::classes::{class, class_name};
use crate::ui::meta::{self, in_version};
use crate::ui::objects::{List, each_object};

/// How many strings of an object are shown to people, and to programs.
const TEXTS_MAX: [usize; 2] = [3, 20];

/// How many bytes of each are shown.
const BYTES_MAX: usize = 60;

/// An object, for programs.
#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    class: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    /// How many strings there are; those that are listed may be fewer.
    texts: u64,
    #[serde(rename = "where")]
    places: Vec<JsonText>,
}

#[derive(Serialize)]
struct JsonText {
    path: Option<String>,
    /// The first bytes, in hex.
    hex: String,
}

/// Lists the objects, at most so many.
///
/// # Errors
///
/// The database cannot be read.
pub fn list(out: &mut Out, database: &Database, json: bool, at_most: u64) -> Run<Found> {
    let storage = database.storage();
    let magic = database.file().map(|file| DataFile::of(file).magic()).transpose()?;
    let is_python_2 = magic.is_some_and(|magic| magic == "FS21");
    let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("Python 2") };
    let (mut list, mut found) = (List::new(at_most), Found::default());
    each_object(storage, meter, storage.object_count(), &mut |object| show(out, object, json, &mut list, &mut found))?;
    if json {
        return Ok(found);
    }
    list.rest(out)?;
    let have = if found.objects == 1 { "has" } else { "have" };
    writeln!(out, "{} {have} text of Python 2 that Python 3 cannot load", counted(found.objects, "object"))?;
    if found.objects > 0 && is_python_2 {
        writeln!(
            out,
            "  The file is one of Python 2 (FS21), where that is as it should be. It has to be converted before"
        )?;
        writeln!(out, "  Python 3 opens it: zodbupdate --convert-py3, on a copy.")?;
    } else if found.objects > 0 {
        writeln!(
            out,
            "  ZODB raises UnicodeDecodeError for each. Nothing is lost: zodbupdate --convert-py3 rewrites them,"
        )?;
        writeln!(out, "  on a copy, once it is told the encoding of the text, or that it is bytes.")?;
    }
    if found.unreadable > 0 {
        let objects = counted(found.unreadable, "object");
        writeln!(out, "There may be more: it cannot be told what is in {objects} with unreadable records")?;
    }
    writeln!(out)?;
    Ok(found)
}

fn show(out: &mut Out, object: &NewestRevision, json: bool, list: &mut List, found: &mut Found) -> Run<()> {
    let (mut is_shown, mut is_unreadable) = (None, false);
    // In a version an object has two records.
    for (_, version, data) in object.records() {
        let Ok((texts, first)) = python_2_text(data, TEXTS_MAX[usize::from(json)], BYTES_MAX) else {
            is_unreadable = true;
            continue;
        };
        if texts == 0 || !*is_shown.get_or_insert_with(|| list.add()) {
            continue;
        }
        if json {
            let (version, version_hex) = meta::version(&version);
            let places = first.into_iter().map(JsonText::of).collect();
            let (oid, class) = (object.oid.to_string(), class(data));
            out.json(&Line { kind: "python_2_text", oid, class, version, version_hex, texts, places })?;
            continue;
        }
        writeln!(out, "  {}  {}{}", object.oid, class_name(class(data).as_deref()), in_version(&version))?;
        for NativeText { bytes, path } in &first {
            let path = path.as_deref().unwrap_or("in nothing that is kept");
            writeln!(out, "      {}  b'{}'", printable(path), bytes.escape_ascii())?;
        }
        if texts > first.len() as u64 {
            writeln!(out, "      and {} more", count(texts - first.len() as u64))?;
        }
    }
    found.objects += u64::from(is_shown.is_some());
    found.unreadable += u64::from(is_unreadable);
    Ok(())
}

impl JsonText {
    fn of(text: NativeText) -> JsonText {
        JsonText { path: text.path, hex: text.bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}
