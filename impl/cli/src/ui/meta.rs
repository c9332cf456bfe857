//! A transaction's metadata, for people and for programs.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use vellum_pickle::{RenderOptions, Value, decode_plain, render};
use vellum_storage::{Bytes, Status, Tid, Version};
use vellum_terminal::people::{hex, printable, printable_lines};
use vellum_terminal::{Out, Run, people};

/// The metadata of a transaction.
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
        Status::Packed => Some("packed: it can not be undone"),
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
    /// The pickled value, or null if it is not plain data.
    extension: Json,
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
        let (extension, extension_hex) = match self.plain_extension() {
            Some(value) => (json(&value), None),
            None if self.extension.is_empty() => (Json::Object(Map::new()), None),
            None => (Json::Null, Some(hex(&self.extension))),
        };
        JsonMetadata { user, user_hex, description, description_hex, extension, extension_hex }
    }

    /// Shows the fields that are not empty to people.
    pub fn show(&self, out: &mut Out) -> Run<()> {
        out.field("user", printable_lines(&self.user))?;
        out.field("description", printable_lines(&self.description))?;
        out.field("extension", self.extension_text())
    }

    fn plain_extension(&self) -> Option<Value> {
        match decode_plain(&self.extension) {
            Ok((value, length)) if length == self.extension.len() => Some(value),
            _ => None,
        }
    }

    fn extension_text(&self) -> String {
        const HEX_MAX: usize = 256;
        if self.extension.is_empty() {
            return String::new();
        }
        if self.plain_extension().is_some() {
            // A record is two pickles, and shows the second: this one, after a None.
            let record = [b"N.", &self.extension[..]].concat();
            let options = RenderOptions { bytes_max: 4096, ..RenderOptions::default() };
            if let Ok(text) = render(&record, &options) {
                return text;
            }
        }
        match &self.extension[..] {
            all if all.len() <= HEX_MAX => hex(all),
            all => format!("{}... ({} bytes)", hex(&all[..HEX_MAX]), all.len()),
        }
    }
}

/// A plain value as JSON. The recursion is as deep as the value: at most 64.
fn json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::BigInt(bytes) => {
            let big_endian: Vec<u8> = bytes.iter().rev().copied().collect();
            tagged("twos_complement_hex", hex(&big_endian))
        }
        Value::Float(number) => match serde_json::Number::from_f64(*number) {
            Some(number) => number.into(),
            None => number.to_string().into(),
        },
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => tagged("hex", hex(bytes)),
        },
        Value::Text(text) => text.as_str().into(),
        Value::Tuple(items) | Value::List(items) => items.iter().map(json).collect(),
        Value::Dict(pairs) => Json::Object(pairs.iter().map(|(k, v)| (key(k), json(v))).collect()),
        Value::Class(class) => tagged("class", format!("{}.{}", class.module, class.name)),
        Value::Object(object) => tagged("object", format!("{}.{}", object.class.module, object.class.name)),
    }
}

fn tagged(tag: &str, text: String) -> Json {
    Json::Object(Map::from_iter([(tag.to_owned(), text.into())]))
}

fn key(value: &Value) -> String {
    match value.as_text() {
        Some(text) => text.to_owned(),
        None => json(value).to_string(),
    }
}

/// A version's name for people.
pub fn version_name(version: &Version) -> String {
    format!("`{}`", printable(&version.to_string()))
}

/// A transaction, and its time.
pub fn moment(tid: Tid, now: Timestamp) -> String {
    format!("{tid}  {}", people::time(tid, now))
}
