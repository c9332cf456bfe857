//! `vellum restore`: brings lost objects back from a backup, under the oids that they had.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::Options;
use vellum_storage::{AsOf, ExportError, Oid, Restoration, Restored, Storage, restore};
use vellum_terminal::people::{count, counted, exact_size, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::commands::confirm::{ChangeArgs, Done};
use crate::file::blobs::BlobArgs;
use crate::file::{Database, lost, paths, tables};
use crate::ui::args::{self, Moment};
use crate::ui::blobs;
use crate::ui::classes::class_name;
use crate::ui::links::{self, ForeignLink};
use crate::ui::meta::moment;

/// Restore lost objects from a backup, under their old oids
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum restore Data.fs --from backup.fs --lost --dry-run
  vellum restore Data.fs --from backup.fs --lost    all missing objects
  vellum restore Data.fs --from backup.fs 1f 20     these
  vellum restore Data.fs --from Data.fs 1f --at \"2 days ago\"
                                                    from its own past

A restored object gets its state and its oid from the backup, so existing
references lead to it again. An object is restored only if it is missing in
FILE: there is no record of it, it was deleted, or its creation was undone.
Missing objects that it refers to are restored with it. Existing objects are not
changed, even if the backup has another state.

--lost restores every missing object that is referred to, as `vellum check FILE
--references` lists them; it reads all of FILE for that.

If the backup lacks one of the objects, nothing is restored, unless --go-on is
given: then those objects stay lost, and another backup may have them.

Blobs come back with their bytes, from the blob folder of the backup
(--from-blobs) into that of FILE (--blobs); `vellum help blobs` says where the
command looks for them. If the bytes of one cannot be restored, nothing is
restored, unless you give --without-blobs.

A restored object without a reference to it goes with the next pack that
collects garbage. The restoration is a transaction of its own, and can be
undone.

The database is locked during the command, so stop a site that uses it.
--dry-run takes no lock, and works beside a running site. The backup is only
read. Use only a backup of this database: in any other one the same oid is
another object.

Exit codes: 0 if it was done, or could be (--dry-run), or nothing is lost; 1 if
objects are missing, exist already or cannot be read, or the answer was no; 2 if
the command was used wrongly or could not do its work. With any other code than
0 nothing was changed, unless the message says otherwise.

With --json: one object.")]
pub struct Restore {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The objects: 1f, 0x1f, or 31d
    #[arg(value_name = "OID", value_parser = args::oid, conflicts_with = "lost")]
    oids: Vec<Oid>,
    /// Where to take them from: a backup, a copy, an .old file
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// Restore every missing object that is referred to
    #[arg(long)]
    lost: bool,
    /// Take the objects as they were in the backup at this time
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    at: Option<Moment>,
    /// Restore without the objects that the backup lacks
    #[arg(long)]
    go_on: bool,
    #[command(flatten)]
    blobs: BlobArgs,
    /// The folder with the blobs of the backup [default: the one beside it]
    #[arg(long, value_name = "FOLDER")]
    from_blobs: Option<PathBuf>,
    /// Restore the objects without the bytes of blobs
    #[arg(long, conflicts_with_all = ["blobs", "from_blobs"])]
    without_blobs: bool,
    #[command(flatten)]
    how: ChangeArgs,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    from: String,
    objects: Vec<JsonRestored>,
    bytes: u64,
    /// Objects that were named, and are there.
    there: Vec<String>,
    missing: Vec<JsonMissing>,
    /// References to objects with another class here than in the backup.
    other_classes: Vec<JsonOther>,
    foreign: Vec<ForeignLink>,
    blobs: u64,
    /// With `--lost`: records of which it cannot be told what they refer to.
    untold_records: u64,
    refused: Option<String>,
    #[serde(flatten)]
    done: Done,
    blob_bytes: u64,
}

#[derive(Serialize)]
struct JsonRestored {
    oid: String,
    class: Option<String>,
    bytes: u64,
    /// The revision of the backup.
    tid: String,
    time: Option<String>,
    needed_by: Option<String>,
}

#[derive(Serialize)]
struct JsonMissing {
    oid: String,
    needed_by: Option<String>,
}

#[derive(Serialize)]
struct JsonOther {
    from: String,
    to: String,
    class_in_backup: String,
    class: String,
}

/// The objects to restore.
struct Wanted {
    oids: Vec<Oid>,
    /// Records that may refer to further lost objects.
    untold: u64,
    /// Bytes that may have held such records.
    damaged: u64,
}

impl Restore {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        self.how.all_was_shown(self.carry_out(out, now))
    }

    fn carry_out(&self, out: &mut Out, now: Timestamp) -> Run {
        let told = |what: String| Err(Failure::Message(what));
        if self.oids.is_empty() && !self.lost {
            return told(
                "name the objects to restore, or say --lost for all that are referred to and not there".into(),
            );
        }
        if !self.from.exists() {
            let from = self.from.display();
            return told(format!("the backup: {from}: there is no such file; name the file to restore from"));
        }
        let blobs = Some(&self.blobs).filter(|_| !self.without_blobs);
        // Tables are open once: their own past is in the open ones.
        let (database, backup) = match tables::is_one(&self.file) && paths::same(&self.file, &self.from) {
            true => {
                let database = self.how.open(&self.file, out, blobs)?;
                (database.clone(), database)
            }
            false => {
                let backup = self.open_backup()?;
                (self.how.open(&self.file, out, blobs)?, backup)
            }
        };
        let backup = self.at_time(&backup)?;
        let wanted = self.wanted(&database)?;
        let from = self.from.file_name().unwrap_or_default();
        let description = [b"restore from ", from.as_encoded_bytes()].concat();
        let draft = self.how.begin(&database, out, description)?;
        let (draft, found) = match restore(draft, database.storage(), &*backup, &wanted.oids) {
            Ok(restored) => restored,
            Err(ExportError::Storage(error)) => return Err(error.into()),
            Err(other) => {
                let why = format!("{}: {other}", self.from.display());
                let empty = Restoration::default();
                return self.refuse(out, &empty, &wanted, format!("Nothing was changed: {why}"), now);
            }
        };
        if let Some(refusal) = self.refusal(&found) {
            return self.refuse(out, &found, &wanted, refusal, now);
        }
        if found.objects.is_empty() {
            return self.nothing_to_do(out, &found, &wanted, now);
        }
        let voted = database.storage().vote(draft)?;
        if self.how.json {
            return self.how.conclude_json(out, voted, |done| self.answer(&found, &wanted, None, done));
        }
        self.show(out, &found, &wanted, now)?;
        self.how.conclude(out, &self.file, voted, "Restore this?", now)
    }

    fn open_backup(&self) -> Run<Database> {
        let told = |failure| match failure {
            Failure::Message(why) => Failure::Message(format!("the backup: {why}")),
            other => other,
        };
        let blobs = BlobArgs { blobs: self.from_blobs.clone() };
        let opened = match self.without_blobs {
            true => Database::open(&self.from),
            false => Database::open_with_blobs(&self.from, &blobs),
        };
        opened.map_err(told)
    }

    /// The backup, as of the time if one is named.
    fn at_time(&self, backup: &Database) -> Run<Arc<dyn Storage>> {
        Ok(match self.at {
            None => backup.shared(),
            Some(moment) => {
                backup.in_order()?;
                Arc::new(AsOf::new(backup.shared(), moment.last)?)
            }
        })
    }

    /// The objects that were named, or all that are lost.
    fn wanted(&self, database: &Database) -> Run<Wanted> {
        if !self.lost {
            return Ok(Wanted { oids: self.oids.clone(), untold: 0, damaged: 0 });
        }
        let meter = Meter::new("looking for what is lost");
        if database.file().is_none() {
            let lost::Lost { oids, untold } = lost::find(database.storage(), meter)?;
            return Ok(Wanted { oids, untold, damaged: 0 });
        }
        let options = Options::new().progress(meter.progress());
        let (_, dangling) = vellum_file::check_references(&options, &self.file, u64::MAX, &mut |_| {})?;
        let oids = dangling.objects.iter().map(|object| object.oid).collect();
        Ok(Wanted { oids, untold: dangling.untold_records, damaged: dangling.damaged_bytes })
    }

    /// Why nothing is restored; none if it can be.
    fn refusal(&self, found: &Restoration) -> Option<String> {
        let file = printable(&self.file.display().to_string());
        if let Some(there) = found.there.first() {
            let objects = counted(found.there.len() as u64, "object");
            let (are, it) = if found.there.len() == 1 { ("is", "It is") } else { ("are", "They are") };
            return Some(format!(
                "Nothing was changed: {objects} {are} there. {it} left alone: leave the oid out; \
                 `vellum show {file} {:x}` shows what it is",
                there.0
            ));
        }
        if !found.missing.is_empty() && !self.go_on {
            let objects = counted(found.missing.len() as u64, "object");
            let what = if found.missing.len() == 1 { "is not in the backup" } else { "are not in the backup" };
            return Some(format!(
                "Nothing was changed: {objects} {what}. `--go-on` restores the others; look for the rest in another backup"
            ));
        }
        if found.blobs > found.blobs_held && !self.without_blobs {
            let lacking = counted(found.blobs - found.blobs_held, "blob");
            return Some(format!(
                "Nothing was changed: the bytes of {lacking} cannot be restored. This needs the blob folders of both \
                 databases (--blobs, --from-blobs), and in the backup's the file; --without-blobs does it all the same"
            ));
        }
        None
    }

    fn refuse(&self, out: &mut Out, found: &Restoration, wanted: &Wanted, why: String, now: Timestamp) -> Run {
        if self.how.json {
            out.json(&self.answer(found, wanted, Some(why), Done::in_transaction(None)))?;
        } else {
            if !found.objects.is_empty() || !found.missing.is_empty() {
                self.show(out, found, wanted, now)?;
                writeln!(out)?;
            }
            for oid in &found.there {
                writeln!(out, "{oid} is there")?;
            }
            writeln!(out, "{}.", printable(&why))?;
        }
        Ok(Outcome::Problems)
    }

    /// Nothing is lost, or the backup has nothing of what is.
    fn nothing_to_do(&self, out: &mut Out, found: &Restoration, wanted: &Wanted, now: Timestamp) -> Run {
        if self.how.json {
            out.json(&self.answer(found, wanted, None, Done::in_transaction(None)))?;
        } else if found.missing.is_empty() {
            writeln!(out, "Nothing to restore: every reference that can be read leads to an object that is there.")?;
            self.show_untold(out, wanted)?;
        } else {
            self.show(out, found, wanted, now)?;
            writeln!(out, "\nNothing was changed: the backup has none of these objects. Look in another one.")?;
        }
        let is_fine = found.missing.is_empty() && wanted.untold == 0 && wanted.damaged == 0;
        Ok(if is_fine { Outcome::Fine } else { Outcome::Problems })
    }

    fn answer(&self, found: &Restoration, wanted: &Wanted, refused: Option<String>, done: Done) -> Answer {
        let restored = |object: &Restored| JsonRestored {
            oid: object.oid.to_string(),
            class: object.class.clone(),
            bytes: object.bytes,
            tid: object.tid.to_string(),
            time: people::rfc3339(object.tid),
            needed_by: object.needed_by.map(|oid| oid.to_string()),
        };
        let missing = |(needed_by, oid): &(Option<Oid>, Oid)| JsonMissing {
            oid: oid.to_string(),
            needed_by: needed_by.map(|oid| oid.to_string()),
        };
        let other = |(from, to, then, now): &(Oid, Oid, String, String)| JsonOther {
            from: from.to_string(),
            to: to.to_string(),
            class_in_backup: then.clone(),
            class: now.clone(),
        };
        Answer {
            file: self.file.display().to_string(),
            from: self.from.display().to_string(),
            objects: found.objects.iter().map(restored).collect(),
            bytes: bytes(found),
            there: found.there.iter().map(Oid::to_string).collect(),
            missing: found.missing.iter().map(missing).collect(),
            other_classes: found.others.iter().map(other).collect(),
            foreign: links::foreign(&found.foreign),
            blobs: found.blobs,
            blob_bytes: found.blob_bytes,
            untold_records: wanted.untold,
            refused,
            done,
        }
    }

    fn show(&self, out: &mut Out, found: &Restoration, wanted: &Wanted, now: Timestamp) -> Run<()> {
        let from = printable(&self.from.display().to_string());
        let objects = &found.objects;
        if !objects.is_empty() {
            let number = counted(objects.len() as u64, "object");
            writeln!(out, "to restore from {from}: {number}, {}:", exact_size(bytes(found)))?;
        }
        self.list(out, objects, |out, object| {
            writeln!(out, "  {}  {}, {}", object.oid, class_name(object.class.as_deref()), size(object.bytes))?;
            writeln!(out, "      as it was at {}", moment(object.tid, now))?;
            match object.needed_by {
                Some(holder) => Ok(writeln!(out, "      because {holder} refers to it, and it is not there either")?),
                None => Ok(()),
            }
        })?;
        if !found.missing.is_empty() {
            writeln!(out, "not in {from}:")?;
            self.list(out, &found.missing, |out, (needed_by, oid)| match needed_by {
                Some(holder) => Ok(writeln!(out, "  {oid}, to which {holder} refers")?),
                None => Ok(writeln!(out, "  {oid}")?),
            })?;
        }
        if !found.others.is_empty() {
            writeln!(
                out,
                "warning: is {from} a backup of this database? These objects are of another class than in the backup:"
            )?;
            self.list(out, &found.others, |out, (holder, oid, then, now): &(Oid, Oid, String, String)| {
                let (then, now) = (printable(then), printable(now));
                Ok(writeln!(out, "  {holder} refers to {oid}: {now}, and {then} in the backup")?)
            })?;
        }
        if found.blobs > 0 && self.without_blobs {
            writeln!(
                out,
                "{}",
                blobs::told(found.blobs, "blob", "their bytes are not restored, so nothing can read them")
            )?;
        } else if found.blobs_held > 0 {
            writeln!(out, "{}, with {}", counted(found.blobs_held, "blob"), exact_size(found.blob_bytes))?;
        }
        links::show_foreign(out, &found.foreign)?;
        self.show_untold(out, wanted)
    }

    /// The reasons why the list of lost objects may be incomplete.
    fn show_untold(&self, out: &mut Out, wanted: &Wanted) -> Run<()> {
        let check = format!("`vellum check {} --references`", printable(&self.file.display().to_string()));
        if wanted.untold > 0 {
            let records = counted(wanted.untold, "record");
            writeln!(
                out,
                "There may be more that is lost: of {records} it cannot be told what they refer to; {check}"
            )?;
        }
        if wanted.damaged > 0 {
            let bytes = counted(wanted.damaged, "byte");
            writeln!(
                out,
                "There may be more that is lost: {bytes} of the file cannot be read as transactions; {check}"
            )?;
        }
        Ok(())
    }

    fn list<T>(&self, out: &mut Out, items: &[T], mut each: impl FnMut(&mut Out, &T) -> Run<()>) -> Run<()> {
        let at_most = if self.how.objects == 0 { usize::MAX } else { self.how.objects };
        for item in items.iter().take(at_most) {
            each(out, item)?;
        }
        if items.len() > at_most {
            writeln!(out, "  and {} more; `--objects 0` shows all", count((items.len() - at_most) as u64))?;
        }
        Ok(())
    }
}

fn bytes(found: &Restoration) -> u64 {
    found.objects.iter().map(|object| object.bytes).sum()
}
