//! `vellum export`: an object, and all that it refers to, as a file.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{AsOf, Error, ExportError, ExportOptions, ExportReport, Oid, Storage, Tid, Version, export};
use vellum_terminal::people::{count, counted, exact_size, printable};
use vellum_terminal::{Failure, Out, Outcome, Run, people};

use crate::file::Database;
use crate::file::blobs::BlobArgs;
use crate::file::paths::NewFile;
use crate::ui::args::{self, Moment};
use crate::ui::blobs;
use crate::ui::classes::{class, class_name};
use crate::ui::links::{self, ForeignLink, Link, Refused};
use crate::ui::meta::moment;
use crate::ui::say;

/// Write an object, and everything that it refers to, to a file (.zexp)
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum export Data.fs 1f folder.zexp
  vellum export Data.fs 1f old.zexp --at yesterday  as it was then
  vellum export Data.fs 1f - | vellum import Other.fs - --yes

The file is what ZODB's exportFile writes: `vellum import` puts it into another
database, and so does ZODB's importFile. Object 0 is the root: with it, all
that is reachable is exported. Weak references, and those to other databases,
are kept as they are, but not followed. Blobs come with their bytes: `vellum
help blobs` says where the command looks for the blob folder. If it is not
known, objects that are blobs are refused, unless you give --without-blobs.

The database is opened for reading only, so a site may use it. --at is
inclusive: a day counts to its last moment, and a tid includes its transaction.
Revisions that a pack discarded cannot be exported.

If an object refers to a missing one, nothing is exported, unless --go-on is
given: then the reference stays, and leads nowhere. OUT is complete, or does not
exist. If an error interrupts output to -, the export has no end, and no program
imports it.

Exit codes: 0 if it was exported; 1 if objects are missing or cannot be read; 2
if the command was used wrongly or could not do its work.

With --json: one object.")]
pub struct Export {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The object: 1f, 0x1f, or 31d
    #[arg(value_parser = args::oid)]
    oid: Oid,
    /// The new file; - for standard output
    out: PathBuf,
    /// Export the object as it was at this time
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    at: Option<Moment>,
    /// Export without the missing objects
    #[arg(long)]
    go_on: bool,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Export the objects without the bytes of blobs
    #[arg(long, conflicts_with = "blobs")]
    without_blobs: bool,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    oid: String,
    class: Option<String>,
    out: String,
    /// With `--at`: the transaction after which the object was so.
    as_of: Option<String>,
    as_of_time: Option<String>,
    done: bool,
    objects: u64,
    bytes: u64,
    dangling: Vec<Link>,
    foreign: Vec<ForeignLink>,
    /// Blobs among the objects.
    blobs: u64,
    refused: Option<Refused>,
    blob_bytes: u64,
}

/// The exported object.
struct Asked {
    class: Option<String>,
    as_of: Option<Tid>,
}

impl Export {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let to_output = self.out.as_os_str() == "-";
        if to_output && self.json {
            return Err(Failure::Message(
                "the export and the answer cannot both go to standard output: name a file, or leave --json out".into(),
            ));
        }
        let database = match self.without_blobs {
            true => Database::open(&self.file)?,
            false => Database::open_with_blobs(&self.file, &self.blobs)?,
        };
        if let (Some(file), Some(_)) = (database.file(), self.at) {
            file.in_order()?;
        }
        let (storage, as_of): (Arc<dyn Storage>, _) = match self.at {
            None => (database.shared(), None),
            Some(moment) => {
                let then = AsOf::new(database.shared(), moment.last)?;
                let tid = then.tid();
                (Arc::new(then), Some(tid))
            }
        };
        let top = storage.load(self.oid, &Version::TRUNK).map_err(|e| self.not_there(e, as_of, now))?;
        let asked = Asked { class: class(&top.data), as_of };
        let options = ExportOptions::new().go_on(self.go_on).without_blobs(self.without_blobs);
        let report = if to_output {
            export(&*storage, self.oid, out, options)
        } else {
            let mut file = NewFile::at(&self.out, self.force, &self.file)?;
            let report = export(&*storage, self.oid, &mut file, options);
            report.and_then(|report| Ok(file.finish().map(|()| report)?))
        };
        match report {
            Ok(report) if to_output => {
                out.flush()?;
                self.tell(&report, &asked);
                Ok(Outcome::Fine)
            }
            Ok(report) => {
                match self.json {
                    true => out.json(&self.answer(&asked, &report, None))?,
                    false => self.show(out, &report, &asked, now)?,
                }
                Ok(Outcome::Fine)
            }
            Err(error) if links::is_refusal(&error) => self.refuse(out, &error, &asked, to_output),
            Err(ExportError::Io(e)) if to_output => Err(e.into()),
            Err(ExportError::Io(e)) => {
                Err(Failure::Message(format!("{}: {e}. Nothing was exported", self.out.display())))
            }
            Err(other) => Err(Failure::Message(other.to_string())),
        }
    }

    /// The line that says of which time the export is.
    fn not_there(&self, error: Error, as_of: Option<Tid>, now: Timestamp) -> Failure {
        match (error, as_of) {
            (Error::KeyError { oid, .. }, Some(Tid::ZERO)) => {
                Failure::Message(format!("object {oid} was not there then: the first transaction is later"))
            }
            (Error::KeyError { oid, .. }, Some(tid)) => Failure::Message(format!(
                "object {oid} was not there then, after transaction {}; `vellum show {} {oid} --history` shows when it was",
                moment(tid, now),
                self.file.display()
            )),
            (other, _) => other.into(),
        }
    }

    fn refuse(&self, out: &mut Out, error: &ExportError, asked: &Asked, to_output: bool) -> Run {
        if to_output {
            say(&format!("{error}. The export that was begun has no end, and cannot be imported"));
        } else if self.json {
            out.json(&self.answer(asked, &ExportReport::default(), Some(Refused::new(error))))?;
        } else if let references @ [_, ..] = links::dangling(error) {
            writeln!(out, "Nothing was exported: {}:", links::missing(references))?;
            links::show(out, references)?;
            writeln!(out, "\n`--go-on` exports without them.")?;
        } else {
            writeln!(out, "Nothing was exported: {}.", printable(&error.to_string()))?;
            if let ExportError::Blobs { .. } = error {
                writeln!(
                    out,
                    "`--blobs FOLDER` names the folder, `--without-blobs` exports the objects without their files."
                )?;
            }
        }
        Ok(Outcome::Problems)
    }

    fn answer(&self, asked: &Asked, report: &ExportReport, refused: Option<Refused>) -> Answer {
        Answer {
            file: self.file.display().to_string(),
            oid: self.oid.to_string(),
            class: asked.class.clone(),
            out: self.out.display().to_string(),
            as_of: asked.as_of.map(|tid| tid.to_string()),
            as_of_time: asked.as_of.and_then(people::rfc3339),
            done: refused.is_none(),
            objects: report.objects,
            bytes: report.bytes,
            dangling: links::links(&report.dangling),
            foreign: links::foreign(&report.foreign),
            blobs: report.blobs,
            blob_bytes: report.blob_bytes,
            refused,
        }
    }

    fn show(&self, out: &mut Out, report: &ExportReport, asked: &Asked, now: Timestamp) -> Run<()> {
        let name = |path: &PathBuf| printable(&path.display().to_string());
        writeln!(out, "{} -> {}", name(&self.file), name(&self.out))?;
        out.field("object", format!("{}  {}", self.oid, class_name(asked.class.as_deref())))?;
        if let Some(tid) = asked.as_of {
            out.field("as of", moment(tid, now))?;
        }
        let objects = counted(report.objects, "object");
        out.field("exported", format!("{objects}, {}", exact_size(report.bytes)))?;
        if report.blobs > 0 {
            let what = match self.without_blobs {
                true => blobs::told(report.blobs, "blob", "their bytes are not exported"),
                false => format!("{}, with {}", counted(report.blobs, "blob"), exact_size(report.blob_bytes)),
            };
            out.field("blobs", what)?;
        }
        if !report.dangling.is_empty() {
            writeln!(out, "\n{}, and left out:", links::missing(&report.dangling))?;
            links::show(out, &report.dangling)?;
        }
        links::show_foreign(out, &report.foreign)
    }

    /// The same in one line on standard error, when standard output has the export.
    fn tell(&self, report: &ExportReport, asked: &Asked) {
        let left_out = match report.dangling.len() as u64 {
            0 => String::new(),
            number => format!("; {} that are referred to are not there", count(number)),
        };
        let foreign = match report.foreign.len() as u64 {
            0 => String::new(),
            number => format!("; {} into other databases come along", counted(number, "reference")),
        };
        say(&format!(
            "exported {}, {}, of which the first is {}  {}{left_out}{foreign}",
            counted(report.objects, "object"),
            exact_size(report.bytes),
            self.oid,
            class_name(asked.class.as_deref()),
        ));
    }
}
