//! `vellum pack`: gives back the room that the past takes.

mod auto;
mod log;
mod tables;

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use jiff::{Span, Timestamp, tz::TimeZone};
use serde::Serialize;
use vellum_blob::BlobFolder;
use vellum_file::format::TransactionHeader;
use vellum_file::{Extent, Fate, FileStorage, PackStep, PackWatch, Packed, Packing, Record};
use vellum_storage::{Error, Oid, Result, Tid};
use vellum_terminal::people::{count, counted, percent, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::commands::confirm::{Consent, ask};
use crate::file::blobs::BlobArgs;
use crate::file::{self, DataFile, tables as in_tables};
use crate::ui::args::{self, Moment};
use crate::ui::blobs;
use crate::ui::links::{self, ForeignLink, Link};
use crate::ui::meta::moment;
use crate::ui::say;

use self::log::PackLog;

/// Discard revisions before a time, and collect garbage, to free space
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum pack Data.fs --days 30 --dry-run      what would go
  vellum pack Data.fs --days 30                show it, ask, and do it
  vellum pack Data.fs --days 30 --yes          every week, without asking
  vellum pack Data.fs --keep-log packed.jsonl  and log the discarded transactions

A pack to a time keeps every object as it was then, and all later revisions; it
discards the older ones. Transactions before that time cannot be undone any
more. Without --before and --days that time is now. Objects that cannot be
reached from the root, neither then nor since, are garbage and are removed as
well, unless --no-collect is given.

The new file is written beside the old one (Data.fs.pack), so the disk needs
space for both. It takes the old one's name when it is complete and durable. If
an error occurs before that, nothing is changed. A pack cannot be undone, so the
old file stays as Data.fs.old, in place of an older one of that name. --no-old
removes it; then the discarded revisions are lost.

A database in tables (site.vellum) is packed inside its file, in small steps;
there is no second file, no preview, and no way back. In the end the tables move
to the beginning of the file, and the file is cut behind them.

With --auto --keep 30d such a database is packed in the background, to the time
of 30 days ago, until SIGTERM or ^C. That takes a tenth of the time, in steps of
some hundred rows. Objects to which nothing refers go; circles of garbage go
when the database has grown by half. A stop loses nothing: the next run goes on.
A served database is packed by its server: `vellum serve --keep 30d`.

If an object refers into another database, there are several, and the others may
refer to objects here. Then no garbage is collected, unless --collect is given.
`vellum collect` looks at all databases together. (References from others into
this one cannot be seen here.)

If an object refers to a missing one, the database was damaged before: the pack
stops, names both, and changes nothing. `vellum check --references` explains
them. --go-on packs all the same.

--keep-log appends one line of JSON for each transaction that loses a revision:
tid, time, user, description, extension, its objects, and the discarded ones. If
the pack fails, the lines are removed; if the machine stops in between, the same
transactions may be logged twice.

The command shows a preview, and then asks. With --yes it packs at once, and
shows the result afterwards. Without --yes and without a terminal it packs
nothing. A dry run opens the file for reading only, and works beside a running
site; otherwise stop the site.

A record that cannot be read, or has a reference of an unknown shape, may refer
to any object. If such a record is needed, a pack with collection stops, names
it, and changes nothing, even with --go-on; --no-collect packs.

The pack removes the files of discarded revisions from the blob folder. A folder
with .old behind its name keeps all files as they were, as Data.fs.old does. It
has second names of the same files, so the space is free only when that folder
is removed, too. With --no-old there is no such folder. `vellum help blobs` says
where the command looks for the blob folder. If it is not known, a pack that
would discard revisions of blobs is refused, unless you give --without-blobs:
then their files stay, and `vellum blobs orphans` finds them.

If nothing would be discarded, the file is not changed, and the same
transactions can be undone as before.

Exit codes: 0 if it was packed, could be (--dry-run), or there was nothing to
do; 1 if the answer was no, or if the pack stopped because of references to
missing objects, hidden references, or blobs; 2 if the command was used wrongly,
could not do its work, or could not ask.

With --json: one object; this needs --yes or --dry-run.")]
pub struct Pack {
    /// The database
    file: PathBuf,
    /// Keep the objects as they were before this time
    #[arg(long, value_name = "TIME", value_parser = args::moment, conflicts_with = "days")]
    before: Option<Moment>,
    /// Keep the history of the last N days
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// Pack a database in tables in the background, until SIGTERM or ^C
    #[arg(long, requires = "keep", conflicts_with_all = ["before", "days", "no_collect", "collect", "json"])]
    auto: bool,
    /// With --auto: keep the history of this time (30d, 12h)
    #[arg(long, value_name = "TIME", value_parser = args::keep, requires = "auto")]
    keep: Option<std::time::Duration>,
    /// Keep objects that nothing refers to
    #[arg(long)]
    no_collect: bool,
    /// Collect garbage even if objects refer into other databases
    #[arg(long, conflicts_with = "no_collect")]
    collect: bool,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Pack, and leave the files of blobs where they are
    #[arg(long, conflicts_with = "blobs")]
    without_blobs: bool,
    /// Continue if objects refer to missing ones
    #[arg(long)]
    go_on: bool,
    /// Remove the old file, instead of keeping it as FILE.old
    #[arg(long, conflicts_with = "dry_run")]
    no_old: bool,
    /// Log the discarded transactions in this file, as JSON lines
    #[arg(long, value_name = "LOG", conflicts_with = "dry_run")]
    keep_log: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
    /// How many classes to show, those that lose most bytes first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,
    /// Answer in JSON; this needs --yes or --dry-run
    #[arg(long)]
    json: bool,
}

/// Whether to pack, or to find out what a pack would do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Rehearsal,
    Pack,
}

/// The result of a pack, or its preview.
struct Done {
    /// The last transaction that is not later than the pack's time.
    last: Option<Tid>,
    packed: Packed,
    /// Why no garbage was collected, though no option asked for that.
    foreign: Option<(Oid, String, Oid)>,
    gone: Gone,
    /// Revisions of blobs that are forgotten.
    blobs: Blobs,
    /// Transactions that were written to the log.
    logged: Option<u64>,
    seconds: f64,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    packed: bool,
    dry_run: bool,
    /// The last transaction that is not later than the pack's time.
    to: Option<String>,
    to_time: Option<String>,
    collected: bool,
    /// Why not, if no option said so: a reference into another database.
    not_collected: Vec<ForeignLink>,
    before: Size,
    after: Size,
    freed_bytes: u64,
    dangling: Vec<Link>,
    classes_in_all: usize,
    classes: Vec<ClassGone>,
    ages: Vec<AgeGone>,
    old: Option<String>,
    /// Revisions of blobs that are forgotten.
    blobs: u64,
    logged_transactions: Option<u64>,
    seconds: f64,
    /// Their files that the blob folder has no more; none if the folder is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_blobs: Option<String>,
}

#[derive(Serialize)]
struct Size {
    transactions: u64,
    revisions: u64,
    objects: u64,
    bytes: u64,
}

/// The discarded revisions of a class.
#[derive(Default, Serialize)]
struct ClassGone {
    class: String,
    objects: u64,
    revisions: u64,
    bytes: u64,
}

/// The discarded revisions of an age.
#[derive(Clone, Default, Serialize)]
struct AgeGone {
    age: &'static str,
    transactions: u64,
    revisions: u64,
    bytes: u64,
}

/// Ages of forgotten transactions: less than so many seconds.
const AGES: [(&str, i64); 7] = [
    ("the future", 0),
    ("an hour", 3600),
    ("a day", 86_400),
    ("a week", 7 * 86_400),
    ("30 days", 30 * 86_400),
    ("a year", 365 * 86_400),
    ("older", i64::MAX),
];

impl Pack {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        if let (true, Some(keep)) = (self.auto, self.keep) {
            return self.run_auto(out, keep);
        }
        let to = self.time(now)?;
        if in_tables::is_one(&self.file) {
            return self.run_tables(out, to, now);
        }
        let may = self.consent.may(out, self.json);
        let storage = match (may, self.without_blobs) {
            (true, true) => file::open_to_write(&self.file, &file::options()?)?,
            (true, false) => file::open_to_write_with_blobs(&self.file, &self.blobs)?,
            (false, true) => file::open(&self.file)?,
            (false, false) => file::open_with_blobs(&self.file, &self.blobs)?,
        };
        if !may || !self.consent.yes {
            let Some(done) = self.attempt(out, &storage, to, now, Attempt::Rehearsal)? else {
                return Ok(Outcome::Problems);
            };
            let nothing_goes = done.packed.before == done.packed.after;
            match self.json {
                true => out.json(&self.answer(done, Attempt::Rehearsal))?,
                false => self.show(out, &done, Attempt::Rehearsal, now)?,
            }
            if nothing_goes {
                return Ok(Outcome::Fine);
            }
            if !may {
                if !self.json {
                    writeln!(out, "Nothing was changed: this only shows what would be.")?;
                }
                return self.consent.not_done();
            }
            // The lock is held during the question: exactly the previewed revisions are discarded.
            let kept = match self.no_old {
                true => "A pack cannot be undone, and the old file goes as well (--no-old).",
                false => "A pack cannot be undone; the old file stays, with .old behind its name.",
            };
            writeln!(out, "{kept}")?;
            if !ask(out, "Pack this?")? {
                writeln!(out, "Nothing was changed.")?;
                return Ok(Outcome::Problems);
            }
        }
        let Some(done) = self.attempt(out, &storage, to, now, Attempt::Pack)? else {
            return Ok(Outcome::Problems);
        };
        // The preview was shown before the question.
        match (self.json, self.consent.yes) {
            (true, _) => out.json(&self.answer(done, Attempt::Pack))?,
            (false, true) => self.show(out, &done, Attempt::Pack, now)?,
            (false, false) => {
                self.show_head(out, &done, Attempt::Pack, now)?;
                self.show_end(out, &done)?;
            }
        }
        // A missing index does not undo the pack: the next opening makes the index again.
        if let Err(e) = storage.save_index() {
            say(&format!("warning: {e}"));
        }
        Ok(Outcome::Fine)
    }

    /// Packs, or finds out what a pack would do. None if it is refused; the refusal is shown.
    fn attempt(
        &self,
        out: &mut Out,
        storage: &FileStorage,
        to: Tid,
        now: Timestamp,
        attempt: Attempt,
    ) -> Run<Option<Done>> {
        let start = Instant::now();
        let mut how = Packing::new().collect(!self.no_collect).go_on(self.go_on).keep_old(!self.no_old);
        // Told to collect, it does.
        how = how.skip_if_all_stays(true).stop_at_foreign(!self.collect && !self.no_collect);
        let last = last_before(storage, to)?;
        let bytes = storage.size();
        let mut foreign = None;
        loop {
            let log = self.keep_log.as_deref().filter(|_| attempt == Attempt::Pack);
            let log = log.map(|log| PackLog::open(log, &self.file)).transpose()?;
            let mut watch = Watch::new(storage, now, log, self.without_blobs);
            let packed = match attempt {
                Attempt::Rehearsal => storage.rehearse_pack(to, how, &mut watch),
                Attempt::Pack => storage.pack_with(to, how, &mut watch),
            };
            let Watch { gone, log, blobs, .. } = watch;
            let logged = match log {
                // The pack may fail after the switch to the new file. Then the lines are true.
                Some(log) => Some(log.close(packed.is_ok() || storage.size() != bytes)?),
                None => None,
            };
            let would_break = blobs.folder.is_none() && blobs.revisions > 0 && !self.without_blobs;
            let refused = match packed {
                Ok(_) if would_break && attempt == Attempt::Rehearsal => self.refuse_blobs(out, blobs.revisions),
                // The watch has ended it.
                Err(Error::Unfit { .. }) if would_break => self.refuse_blobs(out, blobs.revisions),
                Ok(packed) => {
                    let seconds = start.elapsed().as_secs_f64();
                    let gone = gone.sorted(self.classes);
                    return Ok(Some(Done { last, packed, foreign, gone, blobs, logged, seconds }));
                }
                Err(Error::Foreign { oid, database, to }) => {
                    foreign = Some((oid, database, to));
                    how = how.collect(false).stop_at_foreign(false);
                    continue;
                }
                Err(Error::Dangling { references }) => self.refuse(out, &references),
                Err(error @ Error::Unreadable { .. }) => self.refuse_untold(out, &error),
                Err(other) => Err(other.into()),
            };
            return refused.map(|_| None);
        }
    }

    /// The time to pack to.
    fn time(&self, now: Timestamp) -> Run<Tid> {
        match (self.before, self.days) {
            (Some(before), _) => Ok(Tid(before.first.0.saturating_sub(1))),
            (None, None) => Ok(Tid::MAX),
            (None, Some(days)) => {
                let then = Span::new().try_days(days).and_then(|span| now.to_zoned(TimeZone::UTC).checked_sub(span));
                let then = then.map_err(|_| Failure::Message(format!("no calendar reaches back {days} days")))?;
                Ok(Tid::at(then.timestamp()))
            }
        }
    }

    fn refuse(&self, out: &mut Out, references: &[(Oid, Oid)]) -> Run {
        if self.json {
            let dangling = links::links(references);
            out.json(&serde_json::json!({
                "file": self.file.display().to_string(), "packed": false, "dry_run": self.consent.dry_run, "dangling": dangling,
            }))?;
            return Ok(Outcome::Problems);
        }
        let file = printable(&self.file.display().to_string());
        if references == [(Oid::ROOT, Oid::ROOT)] {
            writeln!(out, "{file} has no root, object 0: all of it would be garbage. Nothing was packed.")?;
            writeln!(out, "With --no-collect only the past goes.")?;
            return Ok(Outcome::Problems);
        }
        writeln!(
            out,
            "{file}: {} to missing objects. Nothing was packed.",
            counted(references.len() as u64, "reference")
        )?;
        show_dangling(out, references)?;
        writeln!(out, "\n`vellum check --references {file}` says since when, and what is left of those objects;")?;
        writeln!(out, "with --go-on it is packed all the same.")?;
        Ok(Outcome::Problems)
    }

    /// A record may refer to anything, so that nothing can be called garbage.
    fn refuse_untold(&self, out: &mut Out, error: &Error) -> Run {
        if self.json {
            out.json(&serde_json::json!({
                "file": self.file.display().to_string(), "packed": false, "dry_run": self.consent.dry_run,
                "refused": error.to_string(),
            }))?;
            return Ok(Outcome::Problems);
        }
        let file = printable(&self.file.display().to_string());
        writeln!(out, "{file}: {}.", printable(&error.to_string()))?;
        let names = match error {
            // For a check they are nothing bad, and so it counts them.
            Error::Unreadable { is_encrypted: true, .. } => "garbage --list",
            _ => "check",
        };
        writeln!(out, "`vellum {names} {file}` names every such record; --no-collect packs without collecting.")?;
        Ok(Outcome::Problems)
    }

    /// Revisions of blobs would be forgotten.
    fn refuse_blobs(&self, out: &mut Out, blobs: u64) -> Run {
        let breaks = "the files of forgotten revisions stay, and nothing names them";
        let refusal = blobs::refusal(blobs, "blob revision", breaks);
        match self.json {
            true => out.json(&serde_json::json!({
                "file": self.file.display().to_string(), "packed": false, "dry_run": self.consent.dry_run, "refused": refusal,
                "blobs": blobs,
            }))?,
            false => writeln!(out, "{}: {refusal}.", printable(&self.file.display().to_string()))?,
        }
        Ok(Outcome::Problems)
    }

    fn answer(&self, done: Done, attempt: Attempt) -> Answer {
        let Done { last, packed, foreign, gone, blobs, logged, seconds } = done;
        let Packed { dangling: references, before, after, old, .. } = packed;
        Answer {
            file: self.file.display().to_string(),
            packed: attempt == Attempt::Pack && before != after,
            dry_run: self.consent.dry_run,
            to: last.map(|tid| tid.to_string()),
            to_time: last.and_then(people::rfc3339),
            collected: !self.no_collect && foreign.is_none(),
            not_collected: foreign.map(|reference| links::foreign(&[reference])).unwrap_or_default(),
            before: Size::of(before),
            after: Size::of(after),
            freed_bytes: before.bytes.saturating_sub(after.bytes),
            dangling: links::links(&references),
            classes_in_all: gone.classes_in_all,
            classes: gone.classes,
            ages: gone.ages,
            old: old.map(|old| old.display().to_string()),
            blobs: blobs.revisions,
            blob_files: blobs.folder.as_ref().map(|_| blobs.files),
            blob_bytes: blobs.folder.as_ref().map(|_| blobs.bytes),
            old_blobs: blobs.old(attempt == Attempt::Pack && before != after && !self.no_old),
            logged_transactions: logged,
            seconds: (seconds * 1000.0).round() / 1000.0,
        }
    }

    fn show(&self, out: &mut Out, done: &Done, attempt: Attempt, now: Timestamp) -> Run<()> {
        let Done { last, packed: Packed { dangling, before, after, .. }, foreign, gone, blobs, .. } = done;
        self.show_head(out, done, attempt, now)?;
        if let Some((oid, database, to)) = foreign {
            let (file, database) = (printable(&self.file.display().to_string()), printable(database));
            out.field(
                "collected",
                format!("no garbage: object {oid} refers to object {to} of the database `{database}`"),
            )?;
            out.field("", "so there are several, and what only the others need cannot be told from this one;")?;
            out.field(
                "",
                format!("`vellum collect main={file} {database}=...` looks at all of them, --collect at this one"),
            )?;
        }
        if before == after {
            let why = match (last, before.transactions) {
                (None, _) => "there is nothing before that time",
                (_, 0) => "it was packed to a later time before",
                _ => "nothing would be discarded; the same transactions can be undone",
            };
            out.field("", format!("nothing was changed: {why}"))?;
            if !dangling.is_empty() {
                self.show_reported(out, dangling)?;
            }
            return Ok(());
        }
        writeln!(out, "\n{:>16}  {:>16}  {:>16}", "before", "after", "gone")?;
        for (name, before, after) in [
            ("transactions", before.transactions, after.transactions),
            ("revisions", before.revisions, after.revisions),
            ("objects", before.objects, after.objects),
        ] {
            let gone = before.saturating_sub(after);
            writeln!(out, "{:>16}  {:>16}  {:>16}  {name}", count(before), count(after), count(gone))?;
        }
        let freed = before.bytes.saturating_sub(after.bytes);
        let of_all = percent(freed, before.bytes);
        writeln!(out, "{:>16}  {:>16}  {:>16}  in all ({of_all})", size(before.bytes), size(after.bytes), size(freed))?;
        gone.show(out, attempt == Attempt::Rehearsal)?;
        if !dangling.is_empty() {
            self.show_reported(out, dangling)?;
        }
        if blobs.revisions > 0 {
            writeln!(out)?;
            let revisions = counted(blobs.revisions, "revision");
            let goes = if attempt == Attempt::Pack { "gone from" } else { "to go from" };
            out.field(
                "blobs",
                match &blobs.folder {
                    None => format!("{revisions}; their files stay where they are"),
                    Some(folder) => {
                        let folder = printable(&folder.path().display().to_string());
                        format!("{revisions}, {} {goes} {folder}", blobs::files(blobs.files, blobs.bytes))
                    }
                },
            )?;
        }
        writeln!(out)?;
        match attempt {
            Attempt::Rehearsal => Ok(()),
            Attempt::Pack => self.show_end(out, done),
        }
    }

    fn show_head(&self, out: &mut Out, done: &Done, attempt: Attempt, now: Timestamp) -> Run<()> {
        writeln!(out, "{}", printable(&self.file.display().to_string()))?;
        let to = done.last.map_or("before the first transaction".to_owned(), |tid| moment(tid, now));
        let what = match (attempt, done.packed.before == done.packed.after) {
            (Attempt::Rehearsal, _) => "would pack to",
            (Attempt::Pack, true) => "pack to",
            (Attempt::Pack, false) => "packed to",
        };
        out.field(what, to)
    }

    fn show_end(&self, out: &mut Out, done: &Done) -> Run<()> {
        if let Some(old) = &done.packed.old {
            out.field("kept", format!("the old file, as {}", printable(&old.display().to_string())))?;
            if let Some(old) = done.blobs.old(true) {
                out.field(
                    "",
                    format!("its blobs, in {}: what goes takes room until that folder is removed", printable(&old)),
                )?;
            }
        }
        if let (Some(logged), Some(log)) = (done.logged, &self.keep_log) {
            let log = printable(&log.display().to_string());
            out.field("written down", format!("{} in {log}", counted(logged, "forgotten transaction")))?;
        }
        out.field("took", format!("{:.1} seconds", done.seconds))?;
        Ok(())
    }

    fn show_reported(&self, out: &mut Out, dangling: &[(Oid, Oid)]) -> Run<()> {
        writeln!(out, "\n{} to missing objects:", counted(dangling.len() as u64, "reference"))?;
        show_dangling(out, dangling)
    }
}

impl Size {
    fn of(Extent { transactions, revisions, objects, bytes, .. }: Extent) -> Size {
        Size { transactions, revisions, objects, bytes }
    }
}

fn show_dangling(out: &mut Out, references: &[(Oid, Oid)]) -> Run<()> {
    const SHOWN: usize = 20;
    for (from, to) in references.iter().take(SHOWN) {
        writeln!(out, "  {from} refers to {to}")?;
    }
    if references.len() > SHOWN {
        writeln!(out, "  and {} more; --json has all", count((references.len() - SHOWN) as u64))?;
    }
    Ok(())
}

/// The last transaction that is not later than the time.
fn last_before(storage: &FileStorage, to: Tid) -> Run<Option<Tid>> {
    let range = vellum_storage::TidRange { first: Tid::ZERO, last: to };
    let mut walk = storage.transactions(range, vellum_storage::Order::NewestFirst)?;
    Ok(walk.next().transpose()?.map(|transaction| transaction.tid))
}

/// The discarded revisions, by class and by age.
#[derive(Default)]
struct Gone {
    found: HashMap<String, ClassGone>,
    ages: Vec<AgeGone>,
    classes_in_all: usize,
    classes: Vec<ClassGone>,
}

impl Gone {
    fn new() -> Gone {
        Gone { ages: AGES.map(|(age, _)| AgeGone { age, ..AgeGone::default() }).to_vec(), ..Gone::default() }
    }

    fn sorted(mut self, at_most: usize) -> Gone {
        self.classes_in_all = self.found.len();
        self.classes = self.found.drain().map(|(class, gone)| ClassGone { class, ..gone }).collect();
        self.classes.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.class.cmp(&b.class)));
        if at_most > 0 {
            self.classes.truncate(at_most);
        }
        self.ages.retain(|age| age.transactions > 0);
        self
    }

    fn show(&self, out: &mut Out, by_age: bool) -> Run<()> {
        if self.classes.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n{:>16}  {:>16}  {:>16}  class of what goes", "bytes", "objects", "revisions")?;
        for ClassGone { class, objects, revisions, bytes } in &self.classes {
            let class = printable(class);
            writeln!(out, "{:>16}  {:>16}  {:>16}  {class}", size(*bytes), count(*objects), count(*revisions))?;
        }
        let more = self.classes_in_all - self.classes.len();
        if more > 0 {
            let classes = if more == 1 { "class" } else { "classes" };
            writeln!(out, "{:>16}  and {} {classes} more; `--classes 0` shows all", "", count(more as u64))?;
        }
        if by_age {
            writeln!(out, "\n{:>16}  {:>16}  {:>16}  age of what goes", "bytes", "transactions", "revisions")?;
            for AgeGone { age, transactions, revisions, bytes } in &self.ages {
                let age = match *age {
                    "older" => "older".to_owned(),
                    "the future" => "of the future".to_owned(),
                    age => format!("less than {age}"),
                };
                writeln!(out, "{:>16}  {:>16}  {:>16}  {age}", size(*bytes), count(*transactions), count(*revisions))?;
            }
        }
        Ok(())
    }
}

/// Counts what the pack forgets, and writes the log.
struct Watch {
    file: DataFile,
    /// In seconds.
    now: i64,
    gone: Gone,
    log: Option<PackLog>,
    collecting: Option<Meter>,
    copying: Option<Meter>,
    /// The age of the current transaction, and whether it was counted.
    age: usize,
    counted: bool,
    blobs: Blobs,
    without_blobs: bool,
}

/// The revisions of blobs that are forgotten, and their files.
struct Blobs {
    folder: Option<BlobFolder>,
    revisions: u64,
    files: u64,
    bytes: u64,
}

impl Blobs {
    fn of(storage: &FileStorage) -> Blobs {
        Blobs { folder: storage.blob_folder().cloned(), revisions: 0, files: 0, bytes: 0 }
    }

    fn add(&mut self, record: &Record) {
        self.revisions += 1;
        let folder = self.folder.as_ref();
        if let Some(bytes) = folder.and_then(|folder| folder.length(record.header.oid, record.header.tid).ok()) {
            self.files += 1;
            self.bytes += bytes;
        }
    }

    /// Where the pack keeps them.
    fn old(&self, is_kept: bool) -> Option<String> {
        let mut old = self.folder.as_ref().filter(|_| is_kept)?.path().into_os_string();
        old.push(".old");
        Some(PathBuf::from(old).display().to_string())
    }
}

impl Watch {
    fn new(storage: &FileStorage, now: Timestamp, log: Option<PackLog>, without_blobs: bool) -> Watch {
        Watch {
            file: DataFile::of(storage),
            now: now.as_second(),
            gone: Gone::new(),
            log,
            collecting: None,
            copying: None,
            age: 0,
            counted: false,
            blobs: Blobs::of(storage),
            without_blobs,
        }
    }

    /// Whether the record, or the one whose data it shares, is a blob's.
    fn is_blob(&self, record: &Record) -> bool {
        let holder = match record.header.data_length {
            0 => self.file.holder(&mut self.file.scanner(), record).ok().flatten(),
            _ => Some(record.clone()),
        };
        holder.is_some_and(|holder| blobs::is_blob(Some(self.class(&holder).as_str())))
    }

    /// Reads the class of a record from its first bytes.
    fn class(&self, record: &Record) -> String {
        // The class comes first, and a whole record may be large.
        const FIRST: u64 = 512;
        if record.header.data_length == 0 {
            return "(no data of its own)".to_owned();
        }
        let class = |bytes: u64| {
            let data = self.file.data_start(record, bytes).ok()?;
            vellum_pickle::class_of(&data).ok().map(|class| class.to_string())
        };
        class(FIRST).or_else(|| class(64 << 10)).unwrap_or_else(|| "(cannot be read)".to_owned())
    }
}

impl PackWatch for Watch {
    fn progress(&mut self, step: PackStep, done: u64, of: u64) {
        let meter = match step {
            PackStep::Collect => self.collecting.get_or_insert_with(|| Meter::new("collecting")),
            PackStep::Copy => {
                self.collecting = None;
                self.copying.get_or_insert_with(|| Meter::new("copying"))
            }
        };
        meter.update(done, of);
    }

    fn begins(&mut self) {
        self.gone = Gone::new();
        self.blobs = Blobs { folder: self.blobs.folder.take(), revisions: 0, files: 0, bytes: 0 };
        (self.collecting, self.copying) = (None, None);
        if let Some(log) = &mut self.log {
            log.begin_again();
        }
    }

    fn transaction(&mut self, header: &TransactionHeader, metadata: [&[u8]; 3]) -> Result<()> {
        let age = header.tid.time().map_or(i64::MAX - 1, |time| self.now - time.as_second());
        self.age = AGES.iter().position(|(_, less)| age < *less).unwrap_or(AGES.len() - 1);
        self.counted = false;
        if let Some(log) = &mut self.log {
            log.transaction(header.tid, metadata);
        }
        Ok(())
    }

    fn record(&mut self, record: &Record, fate: Fate) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.object(record.header.oid, fate);
        }
        if fate == Fate::Kept {
            return Ok(());
        }
        let bytes = record.header.length().unwrap_or(0);
        if self.is_blob(record) {
            self.blobs.add(record);
        }
        let class = self.gone.found.entry(self.class(record)).or_default();
        class.objects += u64::from(fate == Fate::Collected);
        class.revisions += 1;
        class.bytes += bytes;
        let age = &mut self.gone.ages[self.age];
        age.transactions += u64::from(!self.counted);
        age.revisions += 1;
        age.bytes += bytes;
        self.counted = true;
        Ok(())
    }

    fn transaction_ends(&mut self, is_kept: bool) -> Result<()> {
        match &mut self.log {
            Some(log) => log.transaction_ends(is_kept),
            None => Ok(()),
        }
    }

    fn ready(&mut self) -> Result<()> {
        (self.collecting, self.copying) = (None, None);
        if self.blobs.folder.is_none() && self.blobs.revisions > 0 && !self.without_blobs {
            // Said in other words where it ends up.
            return Err(Error::Unfit { name: "the database".to_owned(), why: "it has blobs".to_owned() });
        }
        match &mut self.log {
            Some(log) => log.append(),
            None => Ok(()),
        }
    }
}
