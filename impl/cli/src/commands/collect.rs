//! `vellum collect`: garbage in several databases that refer to each other.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use jiff::{Span, Timestamp};
use serde::Serialize;
use vellum_storage::{
    CurrentRecord, DeleteGarbage, DeletedGarbage, FindGarbage, FoundGarbage, Garbage, GarbageError, LostReference,
    LostReferences, Missing, Oid, Tid, find_garbage,
};
use vellum_terminal::people::{count, counted, exact_size, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::commands::confirm::ChangeArgs;
use crate::file::Database;
use crate::file::blobs::BlobArgs;
use crate::file::paths;
use crate::ui::classes::{class, class_name};
use crate::ui::meta::moment;
use crate::ui::say;

const CLASSES_MAX: usize = 10;
const LOST_MAX: usize = 20;
const TRANSACTIONS_MAX: usize = 5;

/// Delete the garbage of databases that refer to each other
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum collect main=Data.fs users=Users.fs --dry-run      what is garbage?
  vellum collect main=Data.fs users=Users.fs                show it, ask, delete
  vellum collect main=Data.fs users=Users.fs --days 7 --yes

NAME is the name that the other databases use: its name in zope.conf (main, for
<zodb_db main>). Name ALL databases of the site: an object that only an unnamed
database refers to counts as garbage, and is deleted.

An object is kept if it can be reached from the root of any of the databases, if
it was changed in the last days (--days), or if it is in a version. Objects that
such objects refer to, or referred to in these days, are kept, too: so
transactions of these days can still be undone. Weak references keep nothing.

The garbage is deleted in transactions of at most 1,000 objects, each of which
can be undone, but not in a history-free database. This frees no space. A later
pack does, but use --no-collect there: a pack that collects knows only one
database, and removes objects that only the others refer to.

If a reference leads into a database that you did not name, or to a missing
object, nothing is deleted, and the command lists each. --go-on collects all the
same; such a reference then leads nowhere.

The databases are locked during the command, so stop a site that uses them.
--dry-run takes no lock, and works beside a running site.

Exit codes: 0 if it was done, or could be (--dry-run), or there is no garbage; 1
if references lead nowhere, a record cannot be read, a database has no root, or
the answer was no; 2 if the command was used wrongly or could not do its work.
With any other code than 0 nothing was changed, unless the message says
otherwise.

With --json: one object, with all classes, and as many objects as --objects says.")]
pub struct Collect {
    /// The databases: the name that the others use, and the file
    #[arg(value_name = "NAME=FILE", required = true, value_parser = OsStringValueParser::new().try_map(named))]
    databases: Vec<Named>,
    /// Keep objects that were changed or referred to in the last days
    #[arg(long, value_name = "N", default_value_t = 1)]
    days: u32,
    /// Treat references to missing objects as leading nowhere
    #[arg(long)]
    go_on: bool,
    /// A database's folder with blobs, where it is not beside it; once for each
    #[arg(long = "blobs", value_name = "NAME=FOLDER", value_parser = OsStringValueParser::new().try_map(named))]
    blobs: Vec<Named>,
    #[command(flatten)]
    how: ChangeArgs,
}

/// A database, and the name by which the others refer to it.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    file: PathBuf,
}

fn named(text: OsString) -> Result<Named, String> {
    let bytes = text.as_encoded_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0 && at + 1 < bytes.len());
    let said = "name each database as NAME=FILE: what the others call it, and its file (main=Data.fs)";
    let name = at.and_then(|at| std::str::from_utf8(&bytes[..at]).ok()).ok_or(said)?;
    use std::os::unix::ffi::OsStrExt;
    let file = PathBuf::from(std::ffi::OsStr::from_bytes(&text.as_bytes()[name.len() + 1..]));
    Ok(Named { name: name.to_owned(), file })
}

#[derive(Serialize)]
struct Answer {
    /// Objects that were changed later are kept.
    since: String,
    since_time: Option<String>,
    databases: Vec<JsonDatabase>,
    lost: Vec<JsonLost>,
    /// Whether there are more lost references than the list can hold.
    lost_more: bool,
    refused: Option<String>,
    done: bool,
}

#[derive(Serialize)]
struct JsonDatabase {
    name: String,
    file: String,
    objects: u64,
    bytes: u64,
    garbage_objects: u64,
    garbage_bytes: u64,
    classes: Vec<Class>,
    garbage: Vec<JsonObject>,
    deleted: Option<JsonDeletions>,
}

#[derive(Serialize)]
struct JsonObject {
    oid: String,
    class: Option<String>,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonDeletions {
    objects: u64,
    transactions: Vec<String>,
    saved: u64,
    left: Vec<String>,
    brought_back: Vec<String>,
}

#[derive(Serialize)]
struct JsonLost {
    database: String,
    from: String,
    to_database: String,
    to: String,
    missing: &'static str,
}

/// Garbage of one class.
#[derive(Clone, Debug, Serialize)]
struct Class {
    class: Option<String>,
    objects: u64,
    bytes: u64,
}

/// The garbage of one database, as far as it is shown.
struct Shown {
    found: FoundGarbage,
    /// The largest class comes first.
    classes: Vec<Class>,
    /// The first objects.
    objects: Vec<(Oid, Option<String>, u64)>,
}

impl Collect {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        self.how.all_was_shown(self.carry_out(out, now))
    }

    fn carry_out(&self, out: &mut Out, now: Timestamp) -> Run {
        self.check_files()?;
        let opened = self.databases.iter().map(|named| self.open(named, out)).collect::<Run<Vec<_>>>()?;
        // A span that the calendar does not have means the whole past.
        let span = Span::new().try_hours(24 * i64::from(self.days)).ok();
        let since = span.and_then(|span| now.checked_sub(span).ok()).map_or(Tid::ZERO, Tid::at);
        // The bar ends with the search, while `found` still borrows the closure.
        let meter = Cell::new(Some(Meter::new("looking")));
        let all = opened.iter().map(|database| database.storage().object_count()).sum();
        let progress = |done| {
            let bar = meter.take();
            bar.iter().for_each(|bar| bar.update(done, all));
            meter.set(bar);
        };
        let found = self.find(&opened, FindGarbage::new().since(since).go_on(self.go_on).progress(&progress));
        meter.take();
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.refuse(out, &error, since),
        };
        let shown = (0..opened.len()).map(|n| self.look_at(&found, n)).collect::<Run<Vec<_>>>()?;
        if !self.how.json {
            self.show(out, &found, &shown, since, now)?;
        }
        let lost = found.lost().clone();
        if shown.iter().all(|shown| shown.found.garbage_objects == 0) {
            match self.how.json {
                true => out.json(&self.answer(&shown, &lost, since, None))?,
                false => writeln!(out, "There is no garbage, and nothing to do.")?,
            }
            return Ok(Outcome::Fine);
        }
        let question = match opened.iter().any(Database::is_history_free) {
            true => "Delete this garbage? A history-free database does not bring it back.",
            false => "Delete this garbage?",
        };
        if !self.how.wanted(out, question)? {
            return self.not_done(out, &shown, &lost, since);
        }
        let deletions = self.delete(found)?;
        let told = match self.how.json {
            true => out.json(&self.answer(&shown, &lost, since, Some(&deletions))),
            false => self.show_deletions(out, &opened, &deletions, now),
        };
        // The deletion is done; a failing output does not undo it.
        if let Err(Failure::Message(e)) = told.and_then(|()| Ok(out.flush()?)) {
            say(&format!("the garbage was deleted; but: {e}"));
        }
        Ok(Outcome::Fine)
    }

    /// Opens a database with its blobs: what comes back by an undo needs its file.
    fn open(&self, named: &Named, out: &Out) -> Run<Database> {
        let folder = self.blobs.iter().find(|folder| folder.name == named.name);
        let blobs = BlobArgs { blobs: folder.map(|folder| folder.file.clone()) };
        self.how.open(&named.file, out, Some(&blobs))
    }

    /// Refuses one file under two names: each would take the objects of the other for garbage.
    fn check_files(&self) -> Run<()> {
        let is_one = |folder: &&Named| self.databases.iter().any(|named| named.name == folder.name);
        if let Some(stray) = self.blobs.iter().find(|folder| !is_one(folder)) {
            return Err(Failure::Message(format!(
                "--blobs names the database `{}`, and there is none of that name",
                stray.name
            )));
        }
        for (n, one) in self.databases.iter().enumerate() {
            if let Some(other) = self.databases[..n].iter().find(|other| paths::same(&one.file, &other.file)) {
                let (one, other) = (one.file.display(), other.file.display());
                return Err(Failure::Message(format!(
                    "{other} and {one} are the same file: name it once, as the other databases call it"
                )));
            }
        }
        Ok(())
    }

    fn find<'a>(&'a self, opened: &'a [Database], how: FindGarbage<'a>) -> Result<Garbage<'a>, GarbageError> {
        let pair = |(named, database): (&'a Named, &'a Database)| (named.name.as_str(), database.storage());
        find_garbage(&self.databases.iter().zip(opened).map(pair).collect::<Vec<_>>(), how)
    }

    fn look_at(&self, garbage: &Garbage<'_>, n: usize) -> Run<Shown> {
        let found = garbage.found()[n].clone();
        let meter = Meter::new("classes");
        let (mut classes, mut objects): (HashMap<Option<String>, Class>, Vec<_>) = Default::default();
        for (seen, object) in garbage.objects(n).enumerate() {
            let CurrentRecord { oid, data, .. } = object.map_err(|error| Failure::Message(error.to_string()))?;
            let (class, bytes) = (class(&data), data.len() as u64);
            let all =
                classes.entry(class.clone()).or_insert_with(|| Class { class: class.clone(), objects: 0, bytes: 0 });
            all.objects += 1;
            all.bytes += bytes;
            if objects.len() < self.at_most() {
                objects.push((oid, class, bytes));
            }
            meter.update(seen as u64, found.garbage_objects);
        }
        let mut classes: Vec<_> = classes.into_values().collect();
        classes.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.class.cmp(&b.class)));
        Ok(Shown { found, classes, objects })
    }

    fn at_most(&self) -> usize {
        if self.how.objects == 0 { usize::MAX } else { self.how.objects }
    }

    fn delete(&self, garbage: Garbage<'_>) -> Run<Vec<DeletedGarbage>> {
        let names: Vec<_> = self.databases.iter().map(|named| named.name.as_str()).collect();
        let description = format!("garbage collection of {}", names.join(", "));
        let all = garbage.found().iter().map(|found| found.garbage_objects).sum();
        let meter = Meter::new("deleting");
        let progress = |done| meter.update(done, all);
        let meta = self.how.meta(description.into_bytes());
        let how = DeleteGarbage::new().meta(meta).progress(&progress);
        garbage.delete(&how).map_err(|stopped| {
            let last: Vec<_> = stopped.deletions.iter().zip(&self.databases).filter_map(last_of).collect();
            let which = if last.is_empty() { String::new() } else { format!(" ({})", last.join(", ")) };
            Failure::Message(format!("{stopped}{which}"))
        })
    }

    fn not_done(&self, out: &mut Out, shown: &[Shown], lost: &LostReferences, since: Tid) -> Run {
        if self.how.json {
            out.json(&self.answer(shown, lost, since, None))?;
        } else if self.how.may(out) {
            writeln!(out, "Nothing was changed.")?;
            return Ok(Outcome::Problems);
        } else {
            writeln!(out, "Nothing was changed: this only shows what would be.")?;
        }
        self.how.not_done()
    }

    /// Shows why the garbage cannot be collected.
    fn refuse(&self, out: &mut Out, error: &GarbageError, since: Tid) -> Run {
        let none = LostReferences::default();
        let lost = match error {
            GarbageError::Nowhere(lost) => lost,
            GarbageError::NoRoot { .. } | GarbageError::Unreadable { .. } => &none,
            other => return Err(Failure::Message(other.to_string())),
        };
        if self.how.json {
            out.json(&Answer { refused: Some(error.to_string()), ..self.answer(&[], lost, since, None) })?;
            return Ok(Outcome::Problems);
        }
        if lost.is_empty() {
            writeln!(out, "Nothing was changed: {}.", printable(&error.to_string()))?;
            return Ok(Outcome::Problems);
        }
        writeln!(out, "Nothing was changed: {}:", lead_nowhere(lost))?;
        show_lost(out, lost)?;
        writeln!(out)?;
        if lost.iter().any(|lost| lost.why == Missing::Database) {
            writeln!(out, "If that is a database of the site, name it as well: it may refer to what is in these.")?;
        }
        writeln!(out, "`--go-on` collects without the missing objects.")?;
        Ok(Outcome::Problems)
    }

    fn answer(
        &self,
        shown: &[Shown],
        lost: &LostReferences,
        since: Tid,
        deletions: Option<&[DeletedGarbage]>,
    ) -> Answer {
        let database = |(n, shown): (usize, &Shown)| JsonDatabase {
            name: shown.found.database.clone(),
            file: self.databases[n].file.display().to_string(),
            objects: shown.found.objects,
            bytes: shown.found.bytes,
            garbage_objects: shown.found.garbage_objects,
            garbage_bytes: shown.found.garbage_bytes,
            classes: shown.classes.clone(),
            garbage: shown.objects.iter().map(|(oid, class, bytes)| json_object(*oid, class, *bytes)).collect(),
            deleted: deletions.map(|all| json_deletions(&all[n])),
        };
        Answer {
            since: since.to_string(),
            since_time: people::rfc3339(since),
            databases: shown.iter().enumerate().map(database).collect(),
            lost: lost.iter().map(json_lost).collect(),
            lost_more: lost.more(),
            refused: None,
            done: deletions.is_some(),
        }
    }

    fn show(&self, out: &mut Out, garbage: &Garbage<'_>, shown: &[Shown], since: Tid, now: Timestamp) -> Run<()> {
        for (named, shown) in self.databases.iter().zip(shown) {
            let file = printable(&named.file.display().to_string());
            writeln!(out, "{}: {file}", printable(&named.name))?;
            shown.show(out)?;
            writeln!(out)?;
        }
        if !garbage.lost().is_empty() {
            writeln!(out, "{}:", lead_nowhere(garbage.lost()))?;
            show_lost(out, garbage.lost())?;
            writeln!(out)?;
        }
        writeln!(out, "Kept is what was changed since {}, and what it refers to.", people::time(since, now))?;
        Ok(())
    }

    fn show_deletions(
        &self,
        out: &mut Out,
        opened: &[Database],
        deletions: &[DeletedGarbage],
        now: Timestamp,
    ) -> Run<()> {
        writeln!(out)?;
        for (named, here) in self.databases.iter().zip(deletions).filter(|(_, here)| !here.transactions.is_empty()) {
            let file = printable(&named.file.display().to_string());
            let (objects, number) = (counted(here.objects, "object"), here.transactions.len());
            writeln!(out, "{file}: {objects} deleted, in {}", counted(number as u64, "transaction"))?;
            for tid in here.transactions.iter().take(TRANSACTIONS_MAX) {
                writeln!(out, "  {}", moment(*tid, now))?;
            }
            if number > TRANSACTIONS_MAX {
                let more = count((number - TRANSACTIONS_MAX) as u64);
                writeln!(out, "  and {more} more; `vellum log {file} -n {number}` lists them")?;
            }
            for (what, number) in [
                ("needed by now, and kept", here.saved),
                ("changed by concurrent transactions, and left as they are", here.left.len() as u64),
                ("needed during their deletion, and restored", here.brought_back.len() as u64),
            ] {
                if number > 0 {
                    writeln!(out, "  {} of the garbage {what}", count(number))?;
                }
            }
        }
        // All of them, or none.
        if !opened.iter().any(Database::is_history_free) {
            writeln!(
                out,
                "`vellum undo` takes them back, as long as no pack has come: all of them, or references lead nowhere."
            )?;
        }
        writeln!(out, "A pack gives the room back. It must not collect garbage: it would know one database only.")?;
        Ok(())
    }
}

impl Shown {
    fn show(&self, out: &mut Out) -> Run<()> {
        let FoundGarbage { objects, bytes, garbage_objects, garbage_bytes, .. } = self.found;
        out.field("objects", format!("{}, {}", count(objects), exact_size(bytes)))?;
        if garbage_objects == 0 {
            return out.field("garbage", "none");
        }
        let part = people::percent(garbage_bytes, bytes);
        out.field("garbage", format!("{}, {}, {part}", count(garbage_objects), exact_size(garbage_bytes)))?;
        writeln!(out, "\n{:>12}  {:>12}  class", "bytes", "objects")?;
        for Class { class, objects, bytes } in self.classes.iter().take(CLASSES_MAX) {
            writeln!(out, "{:>12}  {:>12}  {}", size(*bytes), count(*objects), class_name(class.as_deref()))?;
        }
        if self.classes.len() > CLASSES_MAX {
            let more = counted((self.classes.len() - CLASSES_MAX) as u64, "more class");
            writeln!(out, "  and {}; `--json` names all", more.replace("classs", "classes"))?;
        }
        writeln!(out)?;
        for (oid, class, bytes) in &self.objects {
            writeln!(out, "  {oid}  {}, {}", class_name(class.as_deref()), size(*bytes))?;
        }
        let more = garbage_objects.saturating_sub(self.objects.len() as u64);
        if more > 0 {
            writeln!(out, "  and {} more; `--objects 0` shows all", count(more))?;
        }
        Ok(())
    }
}

/// The tid from which to search for the deletions that were done before the stop.
fn last_of((here, named): (&DeletedGarbage, &Named)) -> Option<String> {
    here.transactions.last().map(|tid| format!("the last of them {tid} in {}", named.file.display()))
}

fn lead_nowhere(lost: &LostReferences) -> String {
    match lost.iter().len() as u64 {
        1 => "1 reference leads nowhere".to_owned(),
        number if lost.more() => format!("more than {} references lead nowhere", count(number)),
        number => format!("{} references lead nowhere", count(number)),
    }
}

fn show_lost(out: &mut Out, lost: &LostReferences) -> Run<()> {
    for reference in lost.iter().take(LOST_MAX) {
        writeln!(out, "  {}", printable(&reference.to_string()))?;
    }
    if lost.iter().len() > LOST_MAX {
        writeln!(out, "  and {} more; `--json` names them", count((lost.iter().len() - LOST_MAX) as u64))?;
    }
    Ok(())
}

fn json_object(oid: Oid, class: &Option<String>, bytes: u64) -> JsonObject {
    JsonObject { oid: oid.to_string(), class: class.clone(), bytes }
}

fn json_deletions(here: &DeletedGarbage) -> JsonDeletions {
    let oids = |oids: &[Oid]| oids.iter().map(Oid::to_string).collect();
    JsonDeletions {
        objects: here.objects,
        transactions: here.transactions.iter().map(Tid::to_string).collect(),
        saved: here.saved,
        left: oids(&here.left),
        brought_back: oids(&here.brought_back),
    }
}

fn json_lost(lost: &LostReference) -> JsonLost {
    JsonLost {
        database: lost.database.clone(),
        from: lost.oid.to_string(),
        to_database: lost.to_database.clone(),
        to: lost.to.to_string(),
        missing: match lost.why {
            Missing::Database => "database",
            Missing::Object => "object",
        },
    }
}
