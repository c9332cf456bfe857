//! `vellum show`: one object, now or then.

mod history;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use vellum_pickle::{Reference, RenderOptions, is_compressed};
use vellum_storage::{Bytes, Error, Oid, Storage, Tid, Version};
use vellum_terminal::people::{count, exact_size, printable};
use vellum_terminal::{Failure, Out, Outcome, Run, people};

use crate::file::Database;
use crate::file::blobs::{BlobArgs, Folder};
use crate::file::paths::NewFile;
use crate::file::revisions::{Entry, Revisions};
use crate::ui::args::{self, Moment};
use crate::ui::blobs::{self, is_blob};
use crate::ui::meta::{self, JsonMetadata, version_name};

/// Show an object: class, time, references and state, now or at some time
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum show Data.fs 0                             the root
  vellum show Data.fs 1f --history                  every revision of an object
  vellum show Data.fs 1f --at \"2026-11-20 12:00\"    as it was then
  vellum show Data.fs 1f --at 040d2ed75fd29fbb      after that transaction
  vellum show Data.fs 1f --raw > record             its bytes: two pickles
  vellum show Data.fs 1f --save-blob photo.jpg      what a blob holds

In a state, an arrow is a reference to another object, and a dashed arrow a weak
one; *1 stands for the value that &1 marked before. --at is inclusive: a day
counts to its last moment, and a tid includes its transaction. The size is that
of the record in the file. A record that zc.zlibstorage has compressed is shown
plain, except with --raw. The bytes of a blob are in a file of the blob folder:
`vellum help blobs` says where the command looks for it. --save-blob writes them
to a new file, and shows the object.

With --json: one object; with --history, one a line, one for each revision. The
whole state is JSON, too: an object whose first name begins with @ stands for a
value that JSON does not have. docs/state-json.md explains each.")]
pub struct Show {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The object: 1f, 0x1f, or 31d
    #[arg(value_parser = args::oid)]
    oid: Oid,
    /// Show the object as it was at this time
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    at: Option<Moment>,
    /// Show the object as it is in this version
    #[arg(long, value_name = "NAME", conflicts_with_all = ["at", "history"])]
    version: Option<String>,
    /// Write the bytes of the record, and nothing else
    #[arg(long, conflicts_with_all = ["json", "history"])]
    raw: bool,
    /// List its revisions, newest first
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Write the bytes of the blob to this new file
    #[arg(long, value_name = "OUT", conflicts_with_all = ["raw", "history"])]
    save_blob: Option<PathBuf>,
    /// Show all of a long state, and all references
    #[arg(long, conflicts_with = "history")]
    full: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// In JSON, show a BTree or bucket as the keys and items that it holds
    #[arg(long, requires = "json", conflicts_with = "history")]
    btrees: bool,
}

/// A revision: the answer of `load`, and the records that it comes from.
struct Found {
    data: Bytes,
    /// The tid of the object's newest revision, now or at the time.
    tid: Tid,
    /// The revision that was asked for.
    entry: Entry,
    /// The version of the newest revision, if an older one is shown.
    other: Option<Version>,
}

#[derive(Serialize)]
struct Shown {
    oid: String,
    class: Option<String>,
    tid: String,
    time: Option<String>,
    bytes: u64,
    /// Of a record that is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_bytes: Option<u64>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    /// In a `Data.fs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    revision: String,
    shares: Option<String>,
    #[serde(flatten)]
    meta: JsonMetadata,
    /// None if that cannot be told.
    references: Option<Vec<Named>>,
    state: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<JsonBlob>,
}

/// The file of a blob.
#[derive(Serialize)]
struct JsonBlob {
    /// None if the folder is not known.
    path: Option<String>,
    /// None if it is not there.
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Named {
    kind: &'static str,
    oid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl Show {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let database = Database::open(&self.file)?;
        let revisions = database.revisions();
        let newest = revisions.known(self.oid)?;
        if self.history {
            let blobs = database.find_blobs(&self.blobs)?;
            return history::show(out, &revisions, self.oid, self.at, blobs.as_ref(), self.json, now);
        }
        let found = self.find(database.storage(), &revisions, newest, now)?;
        if self.raw {
            out.write_all(&found.data)?;
            return Ok(Outcome::Fine);
        }
        let meta = revisions.metadata(&found.entry)?;
        let plain = vellum_pickle::plain(&found.data);
        let read = plain.as_deref().map_err(Clone::clone).and_then(vellum_pickle::Record::read);
        let class = vellum_pickle::class_of(&found.data);
        let outcome = if read.is_ok() && class.is_ok() { Outcome::Fine } else { Outcome::Problems };
        let shares = revisions.shares(&found.entry)?;
        let references: Option<Vec<Named>> =
            read.as_ref().ok().map(|read| read.references().iter().map(named).collect());
        let blob = match is_blob(class.as_ref().ok().map(|class| class.to_string()).as_deref()) {
            true => Some(self.blob(&database, &found.entry)?),
            false if self.save_blob.is_some() => {
                return Err(Failure::Message(format!("object {} is no blob: it has no bytes to save", self.oid)));
            }
            false => None,
        };
        let outcome = match &blob {
            Some(JsonBlob { error: Some(_), .. }) => Outcome::Problems,
            _ => outcome,
        };
        let plain_bytes = plain.as_ref().ok().map(|plain| plain.len() as u64);
        let plain_bytes = plain_bytes.filter(|_| is_compressed(&found.data));
        if self.json {
            let (version, version_hex) = meta::version(&found.entry.version);
            out.json(&Shown {
                oid: self.oid.to_string(),
                class: class.as_ref().ok().map(|class| class.to_string()),
                tid: found.tid.to_string(),
                time: people::rfc3339(found.tid),
                bytes: found.data.len() as u64,
                plain_bytes,
                version,
                version_hex,
                position: found.entry.position(),
                revision: found.entry.tid.to_string(),
                shares: shares.map(|tid| tid.to_string()),
                meta: meta.json(),
                blob,
                references,
                error: class.err().or(read.as_ref().err().cloned()).map(|e| e.to_string()),
                state: read.ok().map(|read| meta::state(&read, self.btrees)).transpose()?,
            })?;
            return Ok(outcome);
        }
        writeln!(out, "object {}", self.oid)?;
        let class = class.map_or_else(|e| format!("cannot be read: {e}"), |class| class.to_string());
        out.field("class", printable(&class))?;
        let revision = found.entry.tid;
        out.field("tid", format!("{revision}  {}", people::time(revision, now)))?;
        meta.show(out)?;
        if !found.entry.version.is_trunk() {
            out.field("version", version_name(&found.entry.version))?;
        }
        if let Some(other) = &found.other {
            let other = version_name(other);
            out.field("note", format!("newer in version {other}, since {}; `--version` shows it", found.tid))?;
        }
        out.field("size", exact_size(found.data.len() as u64))?;
        if let Some(bytes) = plain_bytes {
            out.field("", format!("compressed (zc.zlibstorage), from {}", exact_size(bytes)))?;
        }
        if let Some(JsonBlob { path, bytes, saved, error }) = &blob {
            match (path, bytes, error) {
                (_, _, Some(error)) => out.field("blob", printable(error))?,
                (Some(path), Some(bytes), _) => {
                    out.field("blob", exact_size(*bytes))?;
                    out.field("", format!("in {}", printable(path)))?;
                }
                _ => out.field("blob", blobs::NO_FOLDER)?,
            }
            if let Some(saved) = saved {
                out.field("", format!("saved as {}", printable(saved)))?;
            }
        }
        if let Some(tid) = shares {
            out.field("data", format!("as in {tid}"))?;
        }
        match &references {
            Some(references) => self.show_references(out, references)?,
            None => out.field("references", "cannot be told")?,
        }
        let mut options = RenderOptions { width: 96, ..RenderOptions::default() };
        if self.full {
            options.bytes_max = usize::MAX >> 1;
            options.depth_max = usize::MAX >> 1;
        }
        match read {
            Ok(read) => {
                writeln!(out, "\nstate")?;
                for line in read.render(&options).lines() {
                    writeln!(out, "  {line}")?;
                }
            }
            Err(e) => writeln!(out, "\nThe state cannot be read: {e}\n`--raw` writes the record's bytes.")?,
        }
        Ok(outcome)
    }

    /// The blob of a revision, saved if it is asked for.
    fn blob(&self, database: &Database, entry: &Entry) -> Run<JsonBlob> {
        let none = JsonBlob { path: None, bytes: None, saved: None, error: None };
        let Some(Folder { folder, .. }) = database.find_blobs(&self.blobs)? else {
            return match self.save_blob {
                None => Ok(none),
                Some(_) => Err(Failure::Message(format!("{}: {}", self.file.display(), blobs::NO_FOLDER))),
            };
        };
        let (oid, tid) = (entry.oid, entry.tid);
        let path = Some(folder.path_of(oid, tid).display().to_string());
        let bytes = match folder.length(oid, tid) {
            Ok(bytes) => bytes,
            Err(error) if self.save_blob.is_none() => {
                return Ok(JsonBlob { path, error: Some(error.to_string()), ..none });
            }
            Err(error) => return Err(Failure::Message(error.to_string())),
        };
        let Some(to) = &self.save_blob else {
            return Ok(JsonBlob { path, bytes: Some(bytes), ..none });
        };
        let blob = folder.read(oid, tid).map_err(|error| Failure::Message(error.to_string()))?;
        let told = |path: &std::path::Path, e: std::io::Error| {
            Failure::Message(format!("{}: {e}. Nothing was saved", path.display()))
        };
        let mut file = NewFile::at(to, false, &self.file)?;
        let (mut buffer, mut at) = (vec![0; 1 << 20], 0);
        loop {
            let read = blob.read_full_at(&mut buffer, at).map_err(|e| told(&folder.path_of(oid, tid), e))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(|e| told(to, e))?;
            at += read as u64;
        }
        file.finish().map_err(|e| told(to, e))?;
        Ok(JsonBlob { path, bytes: Some(at), saved: Some(to.display().to_string()), error: None })
    }

    fn find(&self, storage: &dyn Storage, revisions: &Revisions<'_>, newest: Entry, now: Timestamp) -> Run<Found> {
        let oid = self.oid;
        if let Some(moment) = self.at {
            let at = moment.last;
            let loaded = match storage.load_before(oid, at.next()) {
                Ok(Some(loaded)) => loaded,
                Ok(None) => {
                    return Err(Failure::Message(format!(
                        "object {oid} was not there yet at {at}, {}, or a pack discarded that revision; `--history` \
                         lists what there is",
                        people::time(at, now)
                    )));
                }
                Err(Error::KeyError { .. }) => return Err(self.nothing(revisions, &newest, Some(at), now)),
                Err(other) => return Err(other.into()),
            };
            let is_it = |entry: &Entry| entry.tid == loaded.tid && entry.version.is_trunk();
            let entry = revisions.chain(oid)?.find(|entry| entry.as_ref().map_or(true, is_it));
            let entry = entry.ok_or(Error::KeyError { oid, tid: Some(loaded.tid) })??;
            return Ok(Found { data: loaded.data, tid: loaded.tid, entry, other: None });
        }
        let version = self.version.as_ref().map_or(Version::TRUNK, |name| Version::named(name.clone()));
        let loaded = match storage.load(oid, &version) {
            Ok(loaded) => loaded,
            Err(Error::KeyError { .. }) => return Err(self.nothing(revisions, &newest, None, now)),
            Err(other) => return Err(other.into()),
        };
        let (entry, other) = match newest.version.is_trunk() || newest.version == version {
            true => (newest, None),
            false => {
                let trunk = revisions.trunk(&newest)?.ok_or(Error::KeyError { oid, tid: None })?;
                (trunk, Some(newest.version))
            }
        };
        Ok(Found { data: loaded.data, tid: loaded.tid, entry, other })
    }

    /// Explains why a known object has no data.
    fn nothing(&self, revisions: &Revisions<'_>, newest: &Entry, at: Option<Tid>, now: Timestamp) -> Failure {
        let oid = self.oid;
        if at.is_none() && !newest.version.is_trunk() {
            let name = version_name(&newest.version);
            return Failure::Message(format!("object {oid} is there in the version {name} only: `--version` shows it"));
        }
        let is_it = |entry: &Entry| entry.version.is_trunk() && at.is_none_or(|at| entry.tid <= at);
        let then = revisions
            .chain(oid)
            .and_then(|mut chain| chain.find(|entry| entry.as_ref().map_or(true, is_it)).transpose());
        match then {
            Ok(Some(Entry { tid, .. })) => {
                let was = if at.is_some() { "was" } else { "is" };
                Failure::Message(format!(
                    "object {oid} {was} nothing: transaction {tid}, {}, deleted it or undid its creation; `--history` \
                     lists its revisions, `--at` shows an older one",
                    people::time(tid, now)
                ))
            }
            Err(failure) => failure,
            Ok(None) => Error::KeyError { oid, tid: at }.into(),
        }
    }

    fn show_references(&self, out: &mut Out, references: &[Named]) -> Run<()> {
        const AT_MOST: usize = 20;
        if references.is_empty() {
            return out.field("references", "none");
        }
        out.field("references", count(references.len() as u64))?;
        let at_most = if self.full { usize::MAX } else { AT_MOST };
        for reference in references.iter().take(at_most) {
            let oid = reference.oid.as_deref().unwrap_or("-");
            let class = printable(reference.class.as_deref().unwrap_or_default());
            let mut what = match (reference.kind, &reference.database) {
                ("strong", _) => class,
                ("weak", None) => "weak".to_owned(),
                ("weak", Some(database)) => format!("weak, in database `{}`", printable(database)),
                (_, Some(database)) => format!("{class} in database `{}`", printable(database)),
                _ => format!("cannot be read: {}", reference.error.unwrap_or_default()),
            };
            what.insert_str(0, if what.is_empty() { "" } else { "  " });
            writeln!(out, "    {oid:<16}{what}")?;
        }
        if references.len() > at_most {
            let more = (references.len() - at_most) as u64;
            writeln!(out, "    and {} more; `--full` shows all", count(more))?;
        }
        Ok(())
    }
}

fn named(reference: &Reference<'_>) -> Named {
    let name = |oid: u64| Some(Oid(oid).to_string());
    let none = Named { kind: "bad", oid: None, class: None, database: None, error: None };
    match reference {
        Reference::Strong { oid, class } => {
            Named { kind: "strong", oid: name(*oid), class: class.map(|class| class.to_string()), ..none }
        }
        Reference::Weak { oid, database } => Named {
            kind: "weak",
            oid: name(*oid),
            database: database.as_ref().map(|database| database.to_string()),
            ..none
        },
        Reference::Foreign { database, oid, class } => Named {
            kind: "foreign",
            oid: name(*oid),
            class: class.map(|class| class.to_string()),
            database: Some(database.to_string()),
            ..none
        },
        Reference::Bad { why, .. } => Named { error: Some(why), ..none },
    }
}
