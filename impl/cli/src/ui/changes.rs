//! The changes of a transaction: the state of each object now, and the state that it gets.
//!
//! ```text
//!   000000000000001f  app.Folder
//!       now      1.8 KiB, since 040d2ed7604e9a11  2026-11-22 08:23:22 UTC (3 days ago)
//!       becomes  what it was at 040d2ed7604db422  2026-11-22 08:23:22 UTC (3 days ago): 1.7 KiB
//! ```

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Bytes, Oid, Tid, Version};
use vellum_terminal::people::{counted, size};
use vellum_terminal::{Out, Run, people};

use crate::ui::classes::{class, class_name};
use crate::ui::meta::{self, in_version, moment};

/// The state of an object in some revision.
#[derive(Clone, Debug)]
pub struct State {
    /// The revision that has this state; none for a merged record, and for an object that did not exist.
    pub tid: Option<Tid>,
    /// Bytes of data; none for a tombstone.
    pub bytes: Option<u64>,
    /// Whether the resolver made it of the changes of several transactions.
    pub merged: bool,
    /// The version that it is in.
    pub version: Version,
    /// The object's class; none if it cannot be read.
    pub class: Option<String>,
    /// Its blob; none if it has none, or if the folder is not known.
    pub blob: Option<BlobFile>,
}

/// The file of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobFile {
    /// It is there, with so many bytes.
    Bytes(u64),
    /// It is missing, or cannot be read.
    Lost,
}

/// The change of an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The object.
    pub oid: Oid,
    /// Its state now.
    pub now: State,
    /// Its state after the transaction.
    pub becomes: State,
    /// The state of the trunk that the data of a version replaces.
    pub replaces: Option<State>,
}

impl State {
    /// The state of an object that did not exist yet.
    pub fn nothing() -> State {
        State { tid: None, bytes: None, merged: false, version: Version::TRUNK, class: None, blob: None }
    }

    /// A record that the resolver made.
    pub fn merged(data: &Bytes, version: Version) -> State {
        State { tid: None, bytes: Some(data.len() as u64), merged: true, version, class: class(data), blob: None }
    }

    /// The same state in another version.
    pub fn moved(self, version: Version) -> State {
        State { version, ..self }
    }

    /// Describes the current state.
    pub fn now(&self, now: Timestamp) -> String {
        let what = self.bytes.map_or_else(|| "nothing".to_owned(), size);
        let what = format!("{what}{}", self.blob());
        let since = self.tid.map(|tid| format!(", since {}", moment(tid, now))).unwrap_or_default();
        format!("{what}{}{since}", in_version(&self.version))
    }

    /// Describes the next state of an object whose state is `before`.
    fn becomes(&self, before: &State, now: Timestamp) -> String {
        if self.tid.is_some() && self.tid == before.tid {
            let place = if self.version.is_trunk() { ", on the trunk".to_owned() } else { in_version(&self.version) };
            return format!("the same{place}");
        }
        let what = match (self.bytes, self.tid) {
            (None, Some(tid)) => format!("nothing, as it was at {}", moment(tid, now)),
            (None, None) => "nothing again".to_owned(),
            (Some(bytes), _) if self.merged => format!("merged: what is now, without that change: {}", size(bytes)),
            (Some(bytes), Some(tid)) => format!("the state of {}: {}", moment(tid, now), size(bytes)),
            (Some(bytes), None) => size(bytes),
        };
        format!("{what}{}{}", self.blob(), in_version(&self.version))
    }

    /// Its blob, behind what is said of it.
    fn blob(&self) -> String {
        match self.blob {
            None => String::new(),
            Some(BlobFile::Bytes(bytes)) => format!(", blob {}", size(bytes)),
            Some(BlobFile::Lost) => ", its blob is missing or cannot be read".to_owned(),
        }
    }

    /// For programs.
    pub fn json(&self) -> JsonState {
        let (version, version_hex) = meta::version(&self.version);
        JsonState {
            tid: self.tid.map(|tid| tid.to_string()),
            time: self.tid.and_then(people::rfc3339),
            bytes: self.bytes.unwrap_or(0),
            nothing: self.bytes.is_none(),
            merged: self.merged,
            version,
            version_hex,
            blob_bytes: match self.blob {
                Some(BlobFile::Bytes(bytes)) => Some(bytes),
                _ => None,
            },
        }
    }
}

impl Change {
    /// The class that the object gets, or otherwise the class that it has.
    fn class(&self) -> Option<&str> {
        self.becomes.class.as_deref().or(self.now.class.as_deref())
    }

    fn show(&self, out: &mut Out, now: Timestamp) -> Run<()> {
        writeln!(out, "  {}  {}", self.oid, class_name(self.class()))?;
        writeln!(out, "      now       {}", self.now.now(now))?;
        writeln!(out, "      becomes   {}", self.becomes.becomes(&self.now, now))?;
        if let Some(replaces) = &self.replaces {
            writeln!(out, "      replaces  {}", replaces.now(now))?;
        }
        Ok(())
    }

    /// For programs.
    pub fn json(&self) -> JsonChange {
        JsonChange {
            oid: self.oid.to_string(),
            class: self.class().map(str::to_owned),
            now: self.now.json(),
            becomes: self.becomes.json(),
            replaces: self.replaces.as_ref().map(State::json),
        }
    }
}

/// Shows the changes of the first `at_most` objects; 0 for all.
pub fn show(out: &mut Out, changes: &[Change], at_most: usize, now: Timestamp) -> Run<()> {
    let at_most = if at_most == 0 { usize::MAX } else { at_most };
    match changes.len() as u64 {
        0 => writeln!(out, "No object changes.")?,
        number => writeln!(out, "{} {}:", counted(number, "object"), if number == 1 { "changes" } else { "change" })?,
    }
    for change in changes.iter().take(at_most) {
        change.show(out, now)?;
    }
    if changes.len() > at_most {
        writeln!(out, "  and {} more; `--objects 0` shows all", people::count((changes.len() - at_most) as u64))?;
    }
    Ok(())
}

/// An object's state, for programs.
#[derive(Serialize)]
pub struct JsonState {
    tid: Option<String>,
    time: Option<String>,
    bytes: u64,
    nothing: bool,
    merged: bool,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_bytes: Option<u64>,
}

/// The change of an object, for programs.
#[derive(Serialize)]
pub struct JsonChange {
    oid: String,
    class: Option<String>,
    now: JsonState,
    becomes: JsonState,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<JsonState>,
}
