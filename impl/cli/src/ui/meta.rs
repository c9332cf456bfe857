//! A transaction's metadata, for people and for programs.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use vellum_pickle::{JsonOptions, Record, RenderOptions};
use vellum_storage::{Bytes, Status, Tid, Version};
use vellum_terminal::people::{hex, printable, printable_lines};
use vellum_terminal::{Out, Run, people};

/// The metadata of a transaction.
#[derive(Default)]
pub struct Metadata {
    /// Its author.
    pub user: Bytes,
    /// Its purpose.
    pub description: Bytes,
    /// Everything else: a pickled dict.
    pub extension: Bytes,
}

/// Bytes that should be text, for programs: as text, and also in hex if they are not UTF-8.
pub fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(hex(bytes))),
    }
}

/// A version's name for programs.
pub fn version(version: &Version) -> (String, Option<String>) {
    text(version.name())
}

/// A transaction's status for people; none for the usual one.
pub fn status(status: Status) -> Option<&'static str> {
    match status {
        Status::Complete => None,
        Status::Packed => Some("packed: it cannot be undone"),
        Status::Undone => Some("undone: it does not count, and its records are not looked at"),
    }
}

/// The fields that every command shows of a transaction to programs.
#[derive(Serialize)]
pub struct JsonMetadata {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_hex: Option<String>,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description_hex: Option<String>,
    /// The pickled value, in the form of a state; null if it cannot be read.
    extension: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension_hex: Option<String>,
}

/// A transaction, for programs.
#[derive(Serialize)]
pub struct JsonTransaction {
    tid: String,
    time: Option<String>,
    #[serde(flatten)]
    meta: JsonMetadata,
}

impl JsonTransaction {
    /// The transaction with this metadata.
    pub fn new(tid: Tid, meta: &Metadata) -> JsonTransaction {
        JsonTransaction { tid: tid.to_string(), time: people::rfc3339(tid), meta: meta.json() }
    }
}

impl Metadata {
    /// For programs.
    pub fn json(&self) -> JsonMetadata {
        let (user, user_hex) = text(&self.user);
        let (description, description_hex) = text(&self.description);
        let extension = match self.extension.is_empty() {
            true => RawValue::from_string("{}".to_owned()).ok(),
            false => self.with_extension(|record| state(record, false).ok()).flatten(),
        };
        let extension_hex = if extension.is_none() { Some(hex(&self.extension)) } else { None };
        JsonMetadata { user, user_hex, description, description_hex, extension, extension_hex }
    }

    /// Shows the fields that are not empty to people.
    pub fn show(&self, out: &mut Out) -> Run<()> {
        out.field("user", printable_lines(&self.user))?;
        out.field("description", printable_lines(&self.description))?;
        out.field("extension", self.extension_text())
    }

    /// The value of the extension, if it is one pickle and nothing else.
    fn with_extension<T>(&self, look: impl FnOnce(&Record<'_>) -> T) -> Option<T> {
        // A record is two pickles: this one comes second, after a None.
        let record = [b"N.", &self.extension[..]].concat();
        let read = Record::read(&record).ok()?;
        (read.length() == record.len()).then(|| look(&read))
    }

    fn extension_text(&self) -> String {
        const HEX_MAX: usize = 256;
        if self.extension.is_empty() {
            return String::new();
        }
        let options = RenderOptions { bytes_max: 4096, ..RenderOptions::default() };
        if let Some(text) = self.with_extension(|record| record.render(&options)) {
            return text;
        }
        match &self.extension[..] {
            all if all.len() <= HEX_MAX => hex(all),
            all => format!("{}... ({} bytes)", hex(&all[..HEX_MAX]), all.len()),
        }
    }
}

/// The state of a record as JSON. `btrees`: of a BTree, what it holds.
pub fn state(record: &Record<'_>, btrees: bool) -> Run<Box<RawValue>> {
    Ok(RawValue::from_string(record.to_json(&JsonOptions { btrees }))?)
}

/// A version's name for people.
pub fn version_name(version: &Version) -> String {
    format!("`{}`", printable(&version.to_string()))
}

/// Says, after something else, that it is in a version; nothing, on the trunk.
pub fn in_version(version: &Version) -> String {
    match version.is_trunk() {
        true => String::new(),
        false => format!(", in version {}", version_name(version)),
    }
}

/// A transaction, and its time.
pub fn moment(tid: Tid, now: Timestamp) -> String {
    format!("{tid}  {}", people::time(tid, now))
}
