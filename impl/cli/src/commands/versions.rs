//! `vellum versions`: the long-lived branches, and the objects in them.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::Version;
use vellum_terminal::people::{count, counted, printable_start, size};
use vellum_terminal::{Out, Outcome, Run, people};

use crate::file::Database;
use crate::file::revisions::{Entry, Revisions};
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

/// A version, and the newest revisions of the objects in it, newest first.
pub struct Found {
    /// The version.
    pub version: Version,
    /// There is at least one.
    pub entries: Vec<Entry>,
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
        let database = Database::open(&self.file)?;
        let revisions = database.revisions();
        let found = all(&database)?;
        if found.is_empty() && !self.json {
            writeln!(out, "no versions: everything is on the trunk")?;
        }
        for (n, version) in found.iter().enumerate() {
            if self.json {
                out.json(&version.line(&revisions)?)?;
            } else {
                if n > 0 {
                    writeln!(out)?;
                }
                version.show(out, &revisions, self.objects, now)?;
            }
        }
        Ok(Outcome::Fine)
    }
}

/// Returns every version that holds an object, by name.
pub fn all(database: &Database) -> Run<Vec<Found>> {
    let versions = database.all_versions()?;
    versions.into_iter().map(|version| Found::new(database, version)).collect()
}

impl Found {
    fn new(database: &Database, version: Version) -> Run<Found> {
        let revisions = database.revisions();
        let objects = database.objects_in(&version)?;
        let entries = objects.into_iter().map(|oid| revisions.known(oid)).collect::<Run<_>>()?;
        Ok(Found { version, entries })
    }

    /// One line for a list.
    pub fn summary(&self) -> String {
        format!("{}  {}", version_name(&self.version), counted(self.entries.len() as u64, "object"))
    }

    fn states(&self, revisions: &Revisions<'_>) -> Run<Vec<State>> {
        self.entries.iter().map(|entry| revisions.state(entry)).collect()
    }

    /// The metadata of its last transaction.
    fn last_change(&self, revisions: &Revisions<'_>) -> Run<Option<Metadata>> {
        self.entries.first().map(|entry| revisions.metadata(entry)).transpose()
    }

    fn show(&self, out: &mut Out, revisions: &Revisions<'_>, objects: bool, now: Timestamp) -> Run<()> {
        let states = self.states(revisions)?;
        let bytes: u64 = states.iter().filter_map(|state| state.bytes).sum();
        writeln!(out, "version {}", version_name(&self.version))?;
        out.field("objects", format!("{}, {}", count(self.entries.len() as u64), size(bytes)))?;
        if let (Some(last), Some(first)) = (self.entries.first(), self.entries.last()) {
            out.field("since", moment(first.tid, now))?;
            out.field("last change", moment(last.tid, now))?;
        }
        if let Some(meta) = self.last_change(revisions)? {
            out.field("user", printable_start(&meta.user))?;
            out.field("description", printable_start(&meta.description))?;
        }
        if !objects {
            return Ok(());
        }
        let rows: Vec<_> = self
            .entries
            .iter()
            .zip(&states)
            .map(|(entry, state)| {
                let what = state.bytes.map_or_else(|| "nothing".to_owned(), size);
                (entry.oid, class_name(state.class.as_deref()), what)
            })
            .collect();
        let width = rows.iter().map(|(_, class, _)| class.chars().count()).max().unwrap_or(0);
        for (oid, class, what) in rows {
            writeln!(out, "    {oid}  {class:<width$}  {what}")?;
        }
        Ok(())
    }

    fn line(&self, revisions: &Revisions<'_>) -> Run<Line> {
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
        for (entry, state) in self.entries.iter().zip(self.states(revisions)?) {
            let tid = entry.tid;
            let bytes = state.bytes.unwrap_or(0);
            line.bytes += bytes;
            (line.since, line.since_time) = (Some(tid.to_string()), people::rfc3339(tid));
            line.objects.push(JsonObject {
                oid: entry.oid.to_string(),
                class: state.class.as_deref().map(str::to_owned),
                tid: tid.to_string(),
                time: people::rfc3339(tid),
                bytes,
                nothing: state.bytes.is_none(),
            });
        }
        if let (Some(entry), Some(meta)) = (self.entries.first(), self.last_change(revisions)?) {
            line.last_change = Some(JsonTransaction::new(entry.tid, &meta));
        }
        Ok(line)
    }
}
