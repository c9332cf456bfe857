//! `vellum check --classes`: the objects that need a class, an interface or a function that is gone.
//!
//! ```text
//!   0000000000000001  shop.Shelf
//!       names  my.addon.IBrowsed
//!   000000000000002a  my.addon.Widget, in version `spring`
//!       names  my.addon.Widget
//! 2 objects name what is gone
//! ```
//!
//! An object needs what its record names: its own class, and each class or function in its state, such as the
//! interfaces that it was marked with. Without them it cannot be loaded, or only as a broken object.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vellum_pickle::{Record, class_of, plain};
use vellum_storage::NewestRevision;
use vellum_terminal::people::{counted, printable};
use vellum_terminal::{Failure, Meter, Out, Run};

use crate::file::Database;
use crate::ui::classes::{class, class_name};
use crate::ui::meta::{self, in_version};
use crate::ui::objects::{List, each_object};

/// The removed names, or the known ones.
#[derive(Args)]
#[group(multiple = false)]
pub struct Gone {
    /// List the objects that name one of these removed classes, modules or packages, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    classes: Vec<String>,
    /// List the objects that name a class outside of this list: a file with a class, module or package per line
    #[arg(long, value_name = "LIST")]
    known_classes: Option<PathBuf>,
}

/// The classes that count as gone.
enum Names {
    Gone(Vec<String>),
    Known(Vec<String>),
}

/// How many objects were found.
#[derive(Default)]
pub struct Found {
    /// Objects of the kind that was looked for.
    pub objects: u64,
    /// Objects with a record that cannot be read: they may be of that kind.
    pub unreadable: u64,
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    class: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    names: Vec<String>,
}

impl Gone {
    /// Whether anything was asked for.
    pub fn is_asked(&self) -> bool {
        !self.classes.is_empty() || self.known_classes.is_some()
    }

    /// Lists the objects, at most so many.
    ///
    /// # Errors
    ///
    /// The list of known classes or the database cannot be read.
    pub fn list(&self, out: &mut Out, database: &Database, json: bool, at_most: u64) -> Run<Found> {
        let names = self.names()?;
        let storage = database.storage();
        let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("classes") };
        let (mut list, mut found) = (List::new(at_most), Found::default());
        each_object(storage, meter, storage.object_count(), &mut |object| {
            object_names(out, &names, object, json, &mut list, &mut found)
        })?;
        if !json {
            list.rest(out)?;
            let names = if found.objects == 1 { "names" } else { "name" };
            writeln!(out, "{} {names} what is gone", counted(found.objects, "object"))?;
            if found.unreadable > 0 {
                let objects = counted(found.unreadable, "object");
                writeln!(out, "There may be more: it cannot be told what {objects} with unreadable records name")?;
            }
            writeln!(out)?;
        }
        Ok(found)
    }

    fn names(&self) -> Run<Names> {
        let Some(path) = &self.known_classes else { return Ok(Names::Gone(self.classes.clone())) };
        let told = |what: &str| Failure::Message(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| told(&format!("reading the known classes: {e}")))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let known: Vec<_> = lines.map(str::to_owned).collect();
        match known.is_empty() {
            true => Err(told("there is no class in it; name one class, module or package a line")),
            false => Ok(Names::Known(known)),
        }
    }
}

impl Names {
    fn is_gone(&self, name: &str) -> bool {
        let is_of =
            |whole: &String| name.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        match self {
            Names::Gone(gone) => gone.iter().any(is_of),
            Names::Known(known) => !known.iter().any(is_of),
        }
    }
}

fn object_names(
    out: &mut Out,
    names: &Names,
    object: &NewestRevision,
    json: bool,
    list: &mut List,
    found: &mut Found,
) -> Run<()> {
    let (mut is_shown, mut is_unreadable) = (None, false);
    // In a version an object has two records.
    for (_, version, data) in object.records() {
        let plain = plain(data);
        let Ok(record) = plain.as_deref().map_err(Clone::clone).and_then(Record::read) else {
            is_unreadable = true;
            continue;
        };
        // Records of before ZODB 3.3 name the class of the object by two strings.
        let all: BTreeSet<String> =
            record.classes().into_iter().chain(class_of(data).ok()).map(|n| n.to_string()).collect();
        let gone: Vec<String> = all.into_iter().filter(|name| names.is_gone(name)).collect();
        if gone.is_empty() || !*is_shown.get_or_insert_with(|| list.add()) {
            continue;
        }
        if json {
            let (version, version_hex) = meta::version(&version);
            let (oid, class) = (object.oid.to_string(), class(data));
            out.json(&Line { kind: "gone_class", oid, class, version, version_hex, names: gone })?;
        } else {
            writeln!(out, "  {}  {}{}", object.oid, class_name(class(data).as_deref()), in_version(&version))?;
            let gone: Vec<_> = gone.iter().map(|name| printable(name)).collect();
            writeln!(out, "      names  {}", gone.join(", "))?;
        }
    }
    found.objects += u64::from(is_shown.is_some());
    found.unreadable += u64::from(is_unreadable);
    Ok(())
}
