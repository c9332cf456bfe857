//! `vellum import`: reads an export into a database.

use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{
    Change, Compressed, Compression, Draft, Error, ExportError, ExportOptions, ImportReport, Oid, Storage, import,
};
use vellum_terminal::people::{count, counted, exact_size, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run};

use crate::commands::confirm::{ChangeArgs, Done};
use crate::file::blobs::BlobArgs;
use crate::file::paths;
use crate::ui::blobs;
use crate::ui::classes::{class, class_name};
use crate::ui::links::{self, Link, Refused};

/// Read an export (.zexp) into a database, in a new transaction
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum import Data.fs folder.zexp --dry-run       what would the import add?
  vellum import Data.fs folder.zexp                 show it, ask, and do it
  vellum import Data.fs folder.zexp --yes           do it without asking

IN is a file of `vellum export` or of ZODB's exportFile; - is standard input.
Every object in it gets a new oid, and all references are changed accordingly:
no existing object is changed.

Nothing in the database refers to the new objects, either. The command prints
the oid of the exported object; put that object into a folder, from a program
with the classes. Until an object refers to it, a pack with collection removes
all new objects again. The import can be undone.

Blobs come with their bytes, into the blob folder: `vellum help blobs` says
where the command looks for it. A database without blobs has none yet: --blobs
makes it. Without a folder the command refuses an export with a blob, unless you
give --without-blobs.

If an object in IN refers to one that is not in IN, nothing is imported, unless
--go-on is given: then the reference stays, and leads nowhere.

The database is locked during the import, so stop a site that uses it. --dry-run
takes no lock, and works beside a running site; it prints no oid, since the next
oid may be given to another transaction.

Exit codes: 0 if it was done, or could be (--dry-run); 1 if objects are missing
or cannot be read, or the answer was no; 2 if the command was used wrongly or
could not do its work. With any other code than 0 nothing was changed, unless
the message says otherwise.

With --json: one object.")]
pub struct Import {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The export; - for standard input
    #[arg(value_name = "IN")]
    from: PathBuf,
    /// Import without the missing objects
    #[arg(long)]
    go_on: bool,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Import the objects without the bytes of blobs
    #[arg(long, conflicts_with = "blobs")]
    without_blobs: bool,
    /// Write records compressed, as zc.zlibstorage does
    #[arg(long)]
    compress: bool,
    #[command(flatten)]
    how: ChangeArgs,
}

/// Where the oids of a rehearsal begin: far from all that are used.
const REHEARSED: u64 = 1 << 62;

#[derive(Serialize)]
struct Answer {
    file: String,
    from: String,
    /// The new oid of the object that was exported; none if nothing was done.
    root: Option<String>,
    class: Option<String>,
    bytes: u64,
    objects: Vec<JsonImported>,
    /// By the oids of the export.
    dangling: Vec<Link>,
    /// Blobs among the objects.
    blobs: u64,
    refused: Option<Refused>,
    #[serde(flatten)]
    done: Done,
    blob_bytes: u64,
}

#[derive(Serialize)]
struct JsonImported {
    oid: Option<String>,
    class: Option<String>,
    bytes: u64,
}

/// An object that comes in.
#[derive(Clone, Debug)]
struct Imported {
    /// Its new oid.
    oid: Oid,
    /// Its class; none if it cannot be read.
    class: Option<String>,
    /// The length of its record.
    bytes: u64,
}

/// The objects of an import.
struct Incoming {
    /// The exported object comes first.
    objects: Vec<Imported>,
    dangling: Vec<(Oid, Oid)>,
    /// Blobs among the objects.
    blobs: u64,
    blob_bytes: u64,
}

impl Import {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        self.how.all_was_shown(self.carry_out(out, now))
    }

    fn carry_out(&self, out: &mut Out, now: Timestamp) -> Run {
        let mut from = Source::open(&self.from)?;
        let database = self.how.open(&self.file, out, Some(&self.blobs).filter(|_| !self.without_blobs))?;
        let name = self.from.file_name().filter(|name| *name != "-").unwrap_or_default();
        let description = match name.as_encoded_bytes() {
            b"" => b"import".to_vec(),
            name => [b"import of ", name].concat(),
        };
        let draft = self.how.begin(&database, out, description)?;
        let storage = database.storage();
        // A rehearsal writes no file: blobs are counted.
        let keeps = storage.blobs();
        let is_counted = keeps.is_some() && !self.how.may(out);
        let options = ExportOptions::new().go_on(self.go_on).without_blobs(self.without_blobs || is_counted);
        let mut rehearsed = REHEARSED;
        let mut new_oid = || match self.how.may(out) {
            true => storage.new_oid(),
            false => rehearse_oid(storage, &mut rehearsed),
        };
        let imported = import(draft, &mut new_oid, keeps, &mut from, options);
        drop(from);
        let (draft, report) = match imported {
            Ok(imported) => imported,
            Err(error) if links::is_refusal(&error) => return self.refuse(out, &error),
            Err(ExportError::Storage(error)) => return Err(error.into()),
            Err(other) => return Err(Failure::Message(format!("{}: {other}", self.from.display()))),
        };
        if report.lacking > 0 && is_counted {
            return self.refuse(out, &ExportError::Lacking { blobs: report.lacking });
        }
        let objects = imported_objects(&draft)?;
        let ImportReport { dangling, blobs, blob_bytes, .. } = report;
        let incoming = Incoming { objects, dangling, blobs, blob_bytes };
        let voted = match self.compress {
            true => Compressed::new(database.shared(), Compression::On).vote(draft)?,
            false => storage.vote(draft)?,
        };
        if self.how.json {
            return self.how.conclude_json(out, voted, |done| self.answer(&incoming, None, done));
        }
        self.show(out, &incoming)?;
        self.how.conclude(out, &self.file, voted, "Import this?", now)
    }

    fn refuse(&self, out: &mut Out, error: &ExportError) -> Run {
        if self.how.json {
            let nothing = Incoming { objects: Vec::new(), dangling: Vec::new(), blobs: 0, blob_bytes: 0 };
            out.json(&self.answer(&nothing, Some(Refused::new(error)), Done::in_transaction(None)))?;
        } else if let references @ [_, ..] = links::dangling(error) {
            writeln!(out, "Nothing was changed: {}, by the oids of the export:", links::missing(references))?;
            links::show(out, references)?;
            writeln!(out, "\n`--go-on` imports without them.")?;
        } else {
            writeln!(out, "Nothing was changed: {}.", printable(&error.to_string()))?;
            if let ExportError::Blobs { .. } | ExportError::Lacking { .. } = error {
                writeln!(
                    out,
                    "`--blobs FOLDER` names the folder, `--without-blobs` imports the objects without their files."
                )?;
            }
        }
        Ok(Outcome::Problems)
    }

    fn answer(&self, incoming: &Incoming, refused: Option<Refused>, done: Done) -> Answer {
        // An oid of a rehearsal means nothing.
        let oid = |object: &Imported| done.is_done().then(|| object.oid.to_string());
        let json =
            |object: &Imported| JsonImported { oid: oid(object), class: object.class.clone(), bytes: object.bytes };
        let root = incoming.objects.first();
        Answer {
            file: self.file.display().to_string(),
            from: self.from.display().to_string(),
            root: root.and_then(oid),
            class: root.and_then(|object| object.class.clone()),
            bytes: incoming.bytes(),
            objects: incoming.objects.iter().map(json).collect(),
            dangling: links::links(&incoming.dangling),
            blobs: incoming.blobs,
            blob_bytes: incoming.blob_bytes,
            refused,
            done,
        }
    }

    fn show(&self, out: &mut Out, incoming: &Incoming) -> Run<()> {
        let may = self.how.may(out);
        let at_most = if self.how.objects == 0 { usize::MAX } else { self.how.objects };
        let objects = &incoming.objects;
        let number = counted(objects.len() as u64, "object");
        writeln!(out, "to import: {number}, {}:", exact_size(incoming.bytes()))?;
        for Imported { oid, class, bytes } in objects.iter().take(at_most) {
            let oid = if may { format!("{oid}  ") } else { String::new() };
            writeln!(out, "  {oid}{}, {}", class_name(class.as_deref()), size(*bytes))?;
        }
        if objects.len() > at_most {
            writeln!(out, "  and {} more; `--objects 0` shows all", count((objects.len() - at_most) as u64))?;
        }
        if !incoming.dangling.is_empty() {
            writeln!(out, "\n{}, by the oids of the export:", links::missing(&incoming.dangling))?;
            links::show(out, &incoming.dangling)?;
        }
        if incoming.blobs > 0 {
            let what = match self.without_blobs {
                true => blobs::told(incoming.blobs, "blob", "their bytes are not imported, so nothing can read them"),
                false => format!("{}, with {}", counted(incoming.blobs, "blob"), exact_size(incoming.blob_bytes)),
            };
            writeln!(out, "\n{what}")?;
        }
        match objects.first().filter(|_| may) {
            Some(Imported { oid, .. }) => writeln!(out, "\nThe object that was exported gets the oid {oid}.")?,
            None => writeln!(out)?,
        }
        writeln!(
            out,
            "Nothing in the database refers to it: put it somewhere, or the next pack that collects garbage"
        )?;
        writeln!(out, "takes it away again, with all that came along.")?;
        Ok(())
    }
}

impl Incoming {
    fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }
}

/// A new oid for a rehearsal. It means nothing: the next one of the database may be given to another program.
fn rehearse_oid(storage: &dyn Storage, next: &mut u64) -> vellum_storage::Result<Oid> {
    loop {
        let oid = Oid(*next);
        *next = next.checked_add(1).ok_or(Error::Exhausted { what: "oids" })?;
        match storage.history(oid, 1) {
            Ok(_) => {}
            Err(Error::KeyError { .. }) => return Ok(oid),
            Err(other) => return Err(other),
        }
    }
}

/// The objects that the draft stores, in its order.
fn imported_objects(draft: &Draft) -> vellum_storage::Result<Vec<Imported>> {
    let mut objects = Vec::new();
    for change in draft.changes() {
        if let Change::Store { oid, data, .. } = change {
            objects.push(Imported { oid: *oid, class: class(&data.bytes()?), bytes: data.len() });
        }
    }
    Ok(objects)
}

/// The export, and how much of it was read.
struct Source {
    from: Box<dyn Read>,
    read: u64,
    all: u64,
    meter: Meter,
}

impl Source {
    fn open(path: &Path) -> Run<Source> {
        if path.as_os_str() == "-" {
            return Ok(Source { from: Box::new(io::stdin().lock()), read: 0, all: 0, meter: Meter::hidden() });
        }
        let (file, all) = paths::open(path)?;
        Ok(Source { from: Box::new(BufReader::new(file)), read: 0, all, meter: Meter::new("importing") })
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read += read as u64;
        self.meter.update(self.read, self.all);
        Ok(read)
    }
}
