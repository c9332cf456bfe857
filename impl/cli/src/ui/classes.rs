//! Objects by class.

use std::collections::HashMap;
use std::io::Write;

use serde::Serialize;
use vellum_terminal::people::{count, percent, printable, size};
use vellum_terminal::{Out, Run};

/// Objects and their bytes by class.
#[derive(Default)]
pub struct Classes {
    found: HashMap<String, (u64, u64)>,
}

/// A class, its objects, and their bytes.
#[derive(Serialize)]
pub struct ClassSummary {
    class: String,
    objects: u64,
    bytes: u64,
    average_bytes: u64,
}

impl Classes {
    /// Adds an object. `data` is its record, or the beginning of it.
    pub fn add(&mut self, data: &[u8], bytes: u64) {
        let unnamed = || if vellum_pickle::is_encrypted(data) { "(encrypted)" } else { "(cannot be read)" };
        let name = vellum_pickle::class_of(data).map_or_else(|_| unnamed().to_owned(), |class| class.to_string());
        let (objects, all) = self.found.entry(name).or_default();
        *objects += 1;
        *all += bytes;
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// The classes that take most room, the largest first; 0 for all.
    pub fn biggest(self, at_most: usize) -> Vec<ClassSummary> {
        let mut classes: Vec<_> = self
            .found
            .into_iter()
            .map(|(class, (objects, bytes))| ClassSummary {
                class,
                objects,
                bytes,
                average_bytes: bytes / objects.max(1),
            })
            .collect();
        classes.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.class.cmp(&b.class)));
        if at_most > 0 {
            classes.truncate(at_most);
        }
        classes
    }
}

/// Shows a table of these classes, out of `in_all`, with their part of all bytes.
pub fn show(out: &mut Out, classes: &[ClassSummary], in_all: usize, all_bytes: u64) -> Run<()> {
    if classes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>12}  {:>8}  {:>12}  {:>12}  class", "bytes", "part", "objects", "average")?;
    for class in classes {
        writeln!(
            out,
            "{:>12}  {:>8}  {:>12}  {:>12}  {}",
            size(class.bytes),
            percent(class.bytes, all_bytes),
            count(class.objects),
            size(class.average_bytes),
            printable(&class.class)
        )?;
    }
    let more = in_all - classes.len();
    if more > 0 {
        let more = if more == 1 { "one class".to_owned() } else { format!("{} classes", count(more as u64)) };
        writeln!(out, "  and {more} more; `--classes 0` shows all")?;
    }
    Ok(())
}

/// The class that a record names; none if it cannot be read.
pub fn class(data: &[u8]) -> Option<String> {
    vellum_pickle::class_of(data).ok().map(|class| class.to_string())
}

/// A class for people.
pub fn class_name(class: Option<&str>) -> String {
    class.map_or_else(|| "(no class can be read)".to_owned(), printable)
}
