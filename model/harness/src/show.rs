//! Questions and answers, for people.

use std::fmt;

use crate::node::blob_number;
use crate::question::{Answer, Change, Entry, Question, Written};
use crate::script::oids;
use crate::tick::Tick;

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Load { oid, version } if version.is_empty() => write!(f, "load {}", oid.0),
            Question::Load { oid, version } => write!(f, "load {} in {version}", oid.0),
            Question::LoadBefore { oid, before } => write!(f, "load_before {} {}", oid.0, Tick(*before)),
            Question::LoadSerial { oid, tid } => write!(f, "load_serial {} {}", oid.0, Tick(*tid)),
            Question::LoadBlob { oid, tid } => write!(f, "load_blob {} {}", oid.0, Tick(*tid)),
            Question::History { oid, limit } => write!(f, "history {}{}", oid.0, limited(*limit)),
            Question::UndoLog { first, last } => write!(f, "undo_log from {first}{}", limited(*last)),
            Question::Transactions { first, last, newest_first } => {
                let order = if *newest_first { ", newest first" } else { "" };
                write!(f, "transactions {}..{}{order}", Tick(*first), Tick(*last))
            }
            Question::LastTransaction => f.write_str("last_transaction"),
            Question::LastInvalidations { count } => write!(f, "last_invalidations{}", limited(*count)),
            Question::CurrentRecords { first } => write!(f, "current_records from {}", first.0),
            Question::ModifiedInVersion { oid } => write!(f, "modified_in_version {}", oid.0),
            Question::Versions => f.write_str("versions"),
        }
    }
}

fn limited(limit: usize) -> String {
    if limit == usize::MAX { String::new() } else { format!(", at most {limit}") }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::KeyError => f.write_str("key error"),
            Answer::NotYet => f.write_str("not there yet"),
            Answer::Loaded { data, tid } => write!(f, "{data} at {}", Tick(*tid)),
            Answer::Shown { data, tid, next } => {
                write!(f, "{data} since {}", Tick(*tid))?;
                next.map_or(Ok(()), |next| write!(f, " until {}", Tick(next)))
            }
            Answer::Record { data } => write!(f, "{data}"),
            Answer::Blob { bytes } => write!(f, "{}", Shown(&bytes.0)),
            Answer::History { entries } => list(f, entries),
            Answer::UndoLog { entries } => list(f, &entries.iter().map(Logged).collect::<Vec<_>>()),
            Answer::Transactions { transactions } => list(f, transactions),
            Answer::Tid { tid } => write!(f, "{}", Tick(*tid)),
            Answer::Invalidations { changed } => {
                let line = |(tid, changed): &(_, Vec<_>)| format!("{}: {}", Tick(*tid), oids(changed));
                list(f, &changed.iter().map(line).collect::<Vec<_>>())
            }
            Answer::CurrentRecords { records } => {
                let line =
                    |(oid, tid, data): &(vellum_storage::Oid, _, _)| format!("{} {data} at {}", oid.0, Tick(*tid));
                list(f, &records.iter().map(line).collect::<Vec<_>>())
            }
            Answer::Version { version } if version.is_empty() => f.write_str("the trunk"),
            Answer::Version { version } => f.write_str(version),
            Answer::Versions { versions } => list(f, versions),
            Answer::Failed { message } => write!(f, "failed: {message}"),
        }
    }
}

/// The bytes of a blob.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match blob_number(self.0) {
            Some(number) => write!(f, "blob {number}"),
            None => write!(f, "a strange blob of {} bytes: {}", self.0.len(), self.0.escape_ascii()),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    match items {
        [] => f.write_str("none"),
        items => items.iter().try_for_each(|item| write!(f, "\n      {item}")),
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} bytes", Tick(self.tid), self.size)?;
        said(f, &self.user, &self.description)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, " in {}", self.version) }
    }
}

/// A line of the undo log: as one of a history, which alone has a size and a version.
struct Logged<'a>(&'a Entry);

impl fmt::Display for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Tick(self.0.tid))?;
        said(f, &self.0.user, &self.0.description)
    }
}

fn said(f: &mut fmt::Formatter<'_>, user: &str, description: &str) -> fmt::Result {
    for (name, value) in [("user", user), ("description", description)] {
        match value.len() {
            0 => {}
            1..=40 => write!(f, " {name}={value}")?,
            length => write!(f, " {name}={}... ({length} bytes)", value.chars().take(8).collect::<String>())?,
        }
    }
    Ok(())
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Tick(self.tid))?;
        f.write_str(if self.packed { " packed" } else { "" })?;
        said(f, &self.user, &self.description)?;
        match self.extension.0.len() {
            0 => {}
            length => write!(f, " extension of {length} bytes")?,
        }
        self.revisions.iter().try_for_each(|change| write!(f, " | {change}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.oid.0)?;
        match &self.data {
            Some(data) => write!(f, " {data}")?,
            None => f.write_str(" nothing")?,
        }
        if let Some(blob) = &self.blob {
            write!(f, " with {}", Shown(&blob.0))?;
        }
        if let Some(source) = self.source {
            write!(f, " as of {}", Tick(source))?;
        }
        if !self.version.is_empty() {
            write!(f, " in {}", self.version)?;
        }
        self.base.map_or(Ok(()), |base| write!(f, " over {}", Tick(base)))
    }
}
