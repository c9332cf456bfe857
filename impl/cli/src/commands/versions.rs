//! `vellum versions`: the long-lived branches, and the objects in them.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{FileStorage, Record};
use vellum_storage::Version;
use vellum_terminal::people::{count, counted, printable_start, size};
use vellum_terminal::{Out, Outcome, Run, people};

use crate::file::{self, DataFile};
use crate::ui::changes::State;
use crate::ui::classes::class_name;
use crate::ui::meta::{self, JsonTransaction, Metadata, moment, version_name};

/// Show the versions, with their objects, times and users
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum versions Data.fs
  vellum versions Data.fs --objects
  vellum show Data.fs 1f --version draft            an object as it is in a version

A version is a long-lived branch: only sessions that work in it see its changes.
An object that was changed in a version cannot be changed elsewhere until the
version is committed or aborted: see `commit-version` and `abort-version`.

With --json: one object a line, one for each version, with all its objects.")]
pub struct Versions {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// Show the objects in each
    #[arg(long)]
    objects: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// A version, and the newest records of the objects in it, newest first.
pub struct Found {
    /// The version.
    pub version: Version,
    /// There is at least one.
    pub records: Vec<Record>,
}

#[derive(Serialize)]
struct Line {
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    bytes: u64,
    since: Option<String>,
    since_time: Option<String>,
    last_change: Option<JsonTransaction>,
    objects: Vec<JsonObject>,
}

#[derive(Serialize)]
struct JsonObject {
    oid: String,
    class: Option<String>,
    tid: String,
    time: Option<String>,
    bytes: u64,
    nothing: bool,
}

impl Versions {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let storage = file::open(&self.file)?;
        let file = DataFile::of(&storage);
        let found = all(&storage)?;
        if found.is_empty() && !self.json {
            writeln!(out, "no versions: everything is on the trunk")?;
        }
        for (n, version) in found.iter().enumerate() {
            if self.json {
                out.json(&version.line(&file)?)?;
            } else {
                if n > 0 {
                    writeln!(out)?;
                }
                version.show(out, &file, self.objects, now)?;
            }
        }
        Ok(Outcome::Fine)
    }
}

/// Returns every version that holds an object, by name.
pub fn all(storage: &FileStorage) -> Run<Vec<Found>> {
    let versions = storage.all_versions()?;
    versions.into_iter().map(|version| Found::new(storage, version)).collect()
}

impl Found {
    fn new(storage: &FileStorage, version: Version) -> Run<Found> {
        let mut records = Vec::new();
        for oid in storage.objects_in(&version)? {
            records.extend(storage.newest_record(oid)?);
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.position));
        Ok(Found { version, records })
    }

    /// One line for a list.
    pub fn summary(&self) -> String {
        format!("{}  {}", version_name(&self.version), counted(self.records.len() as u64, "object"))
    }

    fn states(&self, file: &DataFile) -> Run<Vec<State>> {
        let mut scanner = file.scanner();
        self.records.iter().map(|record| file.state(&mut scanner, record)).collect()
    }

    /// The metadata of its last transaction.
    fn last_change(&self, file: &DataFile) -> Run<Option<Metadata>> {
        let mut scanner = file.scanner();
        let meta = self.records.first().map(|record| file.metadata_of(&mut scanner, record));
        meta.transpose().map_err(|fault| file.damage(&fault))
    }

    fn show(&self, out: &mut Out, file: &DataFile, objects: bool, now: Timestamp) -> Run<()> {
        let states = self.states(file)?;
        let bytes: u64 = states.iter().filter_map(|state| state.bytes).sum();
        writeln!(out, "version {}", version_name(&self.version))?;
        out.field("objects", format!("{}, {}", count(self.records.len() as u64), size(bytes)))?;
        if let (Some(last), Some(first)) = (self.records.first(), self.records.last()) {
            out.field("since", moment(first.header.tid, now))?;
            out.field("last change", moment(last.header.tid, now))?;
        }
        if let Some(meta) = self.last_change(file)? {
            out.field("user", printable_start(&meta.user))?;
            out.field("description", printable_start(&meta.description))?;
        }
        if !objects {
            return Ok(());
        }
        let rows: Vec<_> = self
            .records
            .iter()
            .zip(&states)
            .map(|(record, state)| {
                let what = state.bytes.map_or_else(|| "nothing".to_owned(), size);
                (record.header.oid, class_name(state.class.as_deref()), what)
            })
            .collect();
        let width = rows.iter().map(|(_, class, _)| class.chars().count()).max().unwrap_or(0);
        for (oid, class, what) in rows {
            writeln!(out, "    {oid}  {class:<width$}  {what}")?;
        }
        Ok(())
    }

    fn line(&self, file: &DataFile) -> Run<Line> {
        let (version, version_hex) = meta::version(&self.version);
        let mut line = Line {
            version,
            version_hex,
            bytes: 0,
            since: None,
            since_time: None,
            last_change: None,
            objects: Vec::new(),
        };
        for (record, state) in self.records.iter().zip(self.states(file)?) {
            let tid = record.header.tid;
            let bytes = state.bytes.unwrap_or(0);
            line.bytes += bytes;
            (line.since, line.since_time) = (Some(tid.to_string()), people::rfc3339(tid));
            line.objects.push(JsonObject {
                oid: record.header.oid.to_string(),
                class: state.class.as_deref().map(str::to_owned),
                tid: tid.to_string(),
                time: people::rfc3339(tid),
                bytes,
                nothing: state.bytes.is_none(),
            });
        }
        if let (Some(record), Some(meta)) = (self.records.first(), self.last_change(file)?) {
            line.last_change = Some(JsonTransaction::new(record.header.tid, &meta));
        }
        Ok(line)
    }
}
