//! References to missing objects, and why `export` and `import` refuse an object.

use std::io::Write;

use serde::Serialize;
use vellum_storage::{ExportError, Oid};
use vellum_terminal::people::{count, counted, printable};
use vellum_terminal::{Out, Run};

/// A reference to a missing object, for programs.
#[derive(Serialize)]
pub struct Link {
    from: String,
    to: String,
}

/// Why an export or import was refused, for programs.
#[derive(Serialize)]
pub struct Refused {
    message: String,
    dangling: Vec<Link>,
}

impl Refused {
    /// The message, and all references to missing objects.
    pub fn new(error: &ExportError) -> Refused {
        Refused { message: error.to_string(), dangling: links(dangling(error)) }
    }
}

/// Whether the objects are the reason, and not the use of the command.
pub fn is_refusal(error: &ExportError) -> bool {
    matches!(
        error,
        ExportError::Dangling { .. }
            | ExportError::Record { .. }
            | ExportError::BadReference { .. }
            | ExportError::Blobs { .. }
            | ExportError::Lacking { .. }
    )
}

/// The references to missing objects.
pub fn dangling(error: &ExportError) -> &[(Oid, Oid)] {
    match error {
        ExportError::Dangling { references } => references,
        _ => &[],
    }
}

/// References for programs.
pub fn links(references: &[(Oid, Oid)]) -> Vec<Link> {
    references.iter().map(|(from, to)| Link { from: from.to_string(), to: to.to_string() }).collect()
}

/// References for people.
pub fn show(out: &mut Out, references: &[(Oid, Oid)]) -> Run<()> {
    const SHOWN_MAX: usize = 20;
    for (from, to) in references.iter().take(SHOWN_MAX) {
        writeln!(out, "  {from} refers to {to}")?;
    }
    if references.len() > SHOWN_MAX {
        writeln!(out, "  and {} more; `--json` names all", count((references.len() - SHOWN_MAX) as u64))?;
    }
    Ok(())
}

/// References into other databases, for people; nothing if there are none.
pub fn show_foreign(out: &mut Out, references: &[(Oid, String, Oid)]) -> Run<()> {
    const SHOWN_MAX: usize = 20;
    if references.is_empty() {
        return Ok(());
    }
    let number = counted(references.len() as u64, "reference");
    let lead = if references.len() == 1 { "leads" } else { "lead" };
    writeln!(out, "\n{number} {lead} into other databases, and {lead} there from wherever this is imported:")?;
    for (from, database, to) in references.iter().take(SHOWN_MAX) {
        writeln!(out, "  {from} refers to {to} of `{}`", printable(database))?;
    }
    if references.len() > SHOWN_MAX {
        writeln!(out, "  and {} more; `--json` names all", count((references.len() - SHOWN_MAX) as u64))?;
    }
    Ok(())
}

/// A reference into another database, for programs.
#[derive(Serialize)]
pub struct ForeignLink {
    from: String,
    database: String,
    to: String,
}

/// References into other databases, for programs.
pub fn foreign(references: &[(Oid, String, Oid)]) -> Vec<ForeignLink> {
    let link = |(from, database, to): &(Oid, String, Oid)| ForeignLink {
        from: from.to_string(),
        database: database.clone(),
        to: to.to_string(),
    };
    references.iter().map(link).collect()
}

/// The number of missing objects, as a clause.
pub fn missing(references: &[(Oid, Oid)]) -> String {
    match references.len() as u64 {
        1 => "1 object is referred to and is not there".to_owned(),
        number => format!("{} are referred to and are not there", counted(number, "object")),
    }
}
