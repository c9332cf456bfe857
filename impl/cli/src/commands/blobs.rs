//! `vellum blobs`: the files of blobs that belong to nothing.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use vellum_disk::Kind;
use vellum_storage::{Oid, Tid};
use vellum_terminal::people::{counted, printable, size};
use vellum_terminal::{Failure, Out, Outcome, Run, people};

use crate::commands::confirm::ask;
use crate::file::blobs::{Belongs, BlobArgs, Folder};
use crate::file::survey::{self, Finding, Survey};
use crate::file::{self, Database};
use crate::ui::blobs;

/// The blob folder: find and remove files that belong to nothing
#[derive(Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  vellum blobs orphans Data.fs
  vellum blobs orphans Data.fs --remove

A blob's bytes are in a file of the blob folder, one for each revision. All
commands find the folder by themselves if it is in one of these places, has a
marker (.layout), and a file in it belongs to the database:

  news.fs.blobs or blobstorage-news beside news.fs
  blobstorage or blobs beside a file named Data.fs, and no other
  the last three beside the folder `filestorage` if the file is in it, or in a
  folder in it: Plone's var/filestorage/Data.fs and var/blobstorage

For Data.fs.old it is the folder of the same name with .old behind it. --blobs
names any other place. A copy of Data.fs beside it does not get its folder: a
pack of the copy would remove what the original needs. docs/blobs.md tells
more."
)]
pub struct Blobs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Orphans(Orphans),
}

/// List files of no revision, and remove them
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum blobs orphans Data.fs                 what is there, how much is it?
  vellum blobs orphans Data.fs --remove        show it, ask, and remove it
  vellum blobs orphans Data.fs --remove --yes  remove it without asking

An orphan is a file of the blob folder whose object and transaction are not
those of a blob in the database. ZODB leaves such files when a commit fails,
when it is killed, or when a pack is cut short.

While a site runs, the file of a commit that is under way looks like an orphan.
--remove locks the database: a site that uses it must be stopped. A data file
that is older than its blob folder, such as one from a backup, makes orphans of
all blobs since: bring the data file up to date before you remove them.

Only files that are named as blobs are removed. Everything else in the folder
is counted and left. If no file of the folder belongs to the database, nothing
is removed: the folder seems to be another database's.

Exit codes: 0 if it was listed or removed; 1 if the answer was no, or the
folder is another database's; 2 if the command was used wrongly or could not do
its work.

With --json: one object a line, one for each orphan, and a last one of the kind
`summary`; with --remove this needs --yes.")]
struct Orphans {
    /// The database, usually called Data.fs
    file: PathBuf,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Remove them
    #[arg(long)]
    remove: bool,
    /// Do it without asking
    #[arg(long, requires = "remove")]
    yes: bool,
    /// How many to show at most; 0 for all [default: 20; with --json: all]
    #[arg(long, value_name = "N")]
    max: Option<usize>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    tid: String,
    time: Option<String>,
    bytes: u64,
    path: String,
}

#[derive(Serialize)]
struct Summary {
    kind: &'static str,
    file: String,
    folder: String,
    files: u64,
    bytes: u64,
    orphans: u64,
    orphan_bytes: u64,
    /// Of these: later than the last transaction.
    later_orphans: u64,
    strangers: u64,
    removed: u64,
    refused: Option<String>,
}

/// A file that belongs to nothing.
struct Orphan {
    oid: Oid,
    tid: Tid,
    bytes: u64,
}

impl Blobs {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        match self.what {
            What::Orphans(orphans) => orphans.run(out, now),
        }
    }
}

impl Orphans {
    fn run(self, out: &mut Out, now: Timestamp) -> Run {
        if self.remove && self.json && !self.yes {
            return Err(Failure::Message("nobody can be asked in JSON: add --yes, or leave --remove out".into()));
        }
        let may =
            self.remove && (self.yes || (out.is_terminal() && std::io::IsTerminal::is_terminal(&std::io::stdin())));
        // The lock is held until the end, so that no file is one of a commit under way.
        let database = match may {
            true => Database::open_to_write(&self.file, None)?,
            false => Database::open(&self.file)?,
        };
        let Some(Folder { folder, belongs, .. }) = database.find_blobs(&self.blobs)? else {
            return Err(Failure::Message(format!(
                "{}: no blob folder is known; name it with --blobs FOLDER",
                self.file.display()
            )));
        };
        let revisions = database.revisions_of_blobs()?;
        let (mut orphans, mut strangers) = (Vec::new(), Vec::new());
        let survey =
            survey::survey(&folder, &revisions, database.storage().last_transaction(), false, &mut |finding| {
                match finding {
                    Finding::Orphan { oid, tid, bytes } => orphans.push(Orphan { oid, tid, bytes }),
                    Finding::Stranger { path, kind } => strangers.push((path, kind)),
                    Finding::Folder(why) => crate::ui::say(&format!("warning: {why}")),
                    Finding::Missing(_) | Finding::Unreadable(..) | Finding::Writable { .. } => {}
                }
                Ok(())
            })?;
        orphans.sort_unstable_by_key(|orphan| (orphan.oid, orphan.tid));
        strangers.sort_by(|one, other| one.0.cmp(&other.0));
        let is_another = survey.is_of_another() || matches!(belongs, Belongs::No(_));
        let why = "no file of the folder belongs to the database, so that it seems to be another database's";
        let refused = (self.remove && is_another).then(|| format!("nothing was removed: {why}"));
        if self.json {
            let line = |orphan: &Orphan| Line {
                kind: "orphan",
                oid: orphan.oid.to_string(),
                tid: orphan.tid.to_string(),
                time: people::rfc3339(orphan.tid),
                bytes: orphan.bytes,
                path: folder.path_of(orphan.oid, orphan.tid).display().to_string(),
            };
            orphans.iter().take(self.at_most()).try_for_each(|orphan| out.json(&line(orphan)))?;
        } else {
            self.show(out, &folder.path().display().to_string(), &survey, &orphans, &strangers, now)?;
        }
        out.flush()?;
        let mut removed = 0;
        if refused.is_none() && may && !orphans.is_empty() {
            let question = format!("Remove {}?", if orphans.len() == 1 { "it" } else { "them" });
            if !self.yes && !ask(out, &question)? {
                writeln!(out, "Nothing was removed.")?;
                return Ok(Outcome::Problems);
            }
            removed = self.remove(&orphans, &folder)?;
        }
        if self.json {
            out.json(&Summary {
                kind: "summary",
                file: self.file.display().to_string(),
                folder: folder.path().display().to_string(),
                files: survey.files,
                bytes: survey.bytes,
                orphans: survey.orphans,
                orphan_bytes: survey.orphan_bytes,
                later_orphans: survey.later_orphans,
                strangers: survey.strangers,
                removed,
                refused: refused.clone(),
            })?;
        } else if let Some(refused) = &refused {
            writeln!(out, "\n{refused}.")?;
        } else if removed > 0 {
            writeln!(out, "\nRemoved {}.", blobs::files(removed, survey.orphan_bytes))?;
        }
        match refused {
            Some(_) => Ok(Outcome::Problems),
            None if self.remove && !may && !orphans.is_empty() => {
                Err(Failure::Message("nothing was removed, since nobody could be asked: add --yes to do it".into()))
            }
            None => Ok(Outcome::Fine),
        }
    }

    fn at_most(&self) -> usize {
        match self.max {
            Some(0) => usize::MAX,
            Some(max) => max,
            None if self.json => usize::MAX,
            None => 20,
        }
    }

    /// Removes them, with the folders that this empties.
    fn remove(&self, orphans: &[Orphan], folder: &vellum_blob::BlobFolder) -> Run<u64> {
        const AT_ONCE: usize = 1000;
        let failed = |error: vellum_blob::Error| Failure::Message(error.to_string());
        let folder = file::blobs::open_to_write(&folder.path()).map_err(failed)?;
        let mut removed = 0;
        for part in orphans.chunks(AT_ONCE) {
            let places: Vec<_> = part.iter().map(|orphan| (orphan.oid, orphan.tid)).collect();
            removed += folder.remove(&places).map_err(|error| {
                Failure::Message(format!("{error}. Before that, {} removed", counted(removed, "file")))
            })?;
        }
        Ok(removed)
    }

    fn show(
        &self,
        out: &mut Out,
        folder: &str,
        survey: &Survey,
        orphans: &[Orphan],
        strangers: &[(PathBuf, Kind)],
        now: Timestamp,
    ) -> Run<()> {
        writeln!(out, "{}: blobs in {}", printable(&self.file.display().to_string()), printable(folder))?;
        out.field("of revisions", blobs::files(survey.files, survey.bytes))?;
        out.field("orphans", blobs::files(survey.orphans, survey.orphan_bytes))?;
        if survey.later_orphans > 0 {
            out.field(
                "",
                format!("{} later than the last transaction of the database:", counted(survey.later_orphans, "file")),
            )?;
            out.field("", "is the data file older than the folder, or is a commit under way?")?;
        }
        let at_most = self.at_most();
        for Orphan { oid, tid, bytes } in orphans.iter().take(at_most) {
            writeln!(out, "    {oid}  {tid}  {}, {}", people::time(*tid, now), size(*bytes))?;
        }
        if orphans.len() > at_most {
            writeln!(out, "    {}", blobs::more(orphans.len() as u64, at_most as u64))?;
        }
        if !strangers.is_empty() {
            out.field("left alone", format!("{} that no blob has", counted(strangers.len() as u64, "name")))?;
            for (path, kind) in strangers.iter().take(at_most) {
                writeln!(out, "    {}, {}", printable(&path.display().to_string()), kind.words())?;
            }
            if strangers.len() > at_most {
                writeln!(out, "    {}", blobs::more(strangers.len() as u64, at_most as u64))?;
            }
        }
        if survey.missing > 0 {
            let missing = counted(survey.missing, "revision");
            out.field("missing", format!("the files of {missing}; `vellum check` names them"))?;
        }
        Ok(())
    }
}
