//! Records of which it cannot be told what they refer to.

use std::io::Write;

use serde::Serialize;
use vellum_pickle::{Scanner, Untold};
use vellum_storage::{Oid, Storage, newest_revisions};
use vellum_terminal::people::{counted, printable};
use vellum_terminal::{Out, Run, people};

/// An object that may refer to anything, for programs.
#[derive(Serialize)]
pub struct JsonUntold {
    oid: String,
    why: String,
}

/// The objects of which it cannot be told what they refer to now, with the reason. The object that was changed last
/// comes first.
pub fn find(storage: &dyn Storage) -> Run<Vec<(Oid, Untold)>> {
    let (mut scanner, mut found) = (Scanner::new(), Vec::new());
    newest_revisions(storage, &mut |object| {
        let why = object.records().find_map(|(_, _, data)| scanner.scan_all(data, |_| ()).err());
        found.extend(why.map(|why| (object.oid, why)));
        Ok(())
    })?;
    Ok(found)
}

/// The number of records, as a sentence.
pub fn count(records: &[(Oid, Untold)]) -> String {
    match records.len() as u64 {
        1 => "1 record does not say what it refers to".to_owned(),
        records => format!("{} do not say what they refer to", counted(records, "record")),
    }
}

/// The records, for people.
pub fn show(out: &mut Out, records: &[(Oid, Untold)], at_most: u64) -> Run<()> {
    let at_most = usize::try_from(at_most).unwrap_or(usize::MAX);
    for (oid, why) in records.iter().take(at_most) {
        writeln!(out, "    {oid}  {}", printable(&why.to_string()))?;
    }
    if records.len() > at_most {
        writeln!(out, "    and {} more", people::count((records.len() - at_most) as u64))?;
    }
    Ok(())
}

/// The records, for programs.
pub fn json(records: &[(Oid, Untold)]) -> Vec<JsonUntold> {
    records.iter().map(|(oid, why)| JsonUntold { oid: oid.to_string(), why: why.to_string() }).collect()
}
