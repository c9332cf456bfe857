//! `vellum copy`: the same history in another file, and new transactions added to it.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{FileStorage, OpenError};
use vellum_storage::{Compressed, Compression, CopyOptions, CopyReport, Error, Storage, Tid, TidRange, copy};
use vellum_terminal::people::{counted, exact_size, printable};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::file::Database;
use crate::file::blobs::{self as folders, Belongs, BlobArgs};
use crate::file::tables;
use crate::file::{self, DataFile, paths};
use crate::ui::args::{self, Moment};
use crate::ui::blobs;
use crate::ui::meta::{moment, version_name};
use crate::ui::say;

/// Copy a database to a new file, or its new transactions to an older copy
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum copy Data.fs backup.fs                     every night: new transactions
  vellum copy Data.fs then.fs --until 2026-11-01    as it was then
  vellum copy Data.fs part.fs --since yesterday     transactions since then
  vellum copy Data.fs site.vellum                   to a database in tables
  vellum copy site.vellum Data.fs                   and back
  vellum copy Data.fs site.vellum --history-free    the newest revisions alone

If DST does not exist, it is created. If it does, the copy continues after its
last transaction. SRC must have the same transaction; otherwise DST is no copy
of SRC, and is not changed.

A new DST whose name ends with .vellum is a database in tables; any other is a
Data.fs. SRC may be either.

A Data.fs is opened for reading only, so a site may use it. A database in tables
can be open in one process only. The copy has the transactions that were
finished when it began. DST is locked. Both files have the same transactions,
with users and times; positions in the file may differ.

With --history-free a new DST is a history-free database in tables: it has the
newest revision of each object, forgets older ones with each commit, and has no
undo. A history-free SRC can be copied only into a new DST: it forgets how the
older copy was.

If the copy is stopped, by Ctrl-C or a full disk, the transactions in DST are
complete. Start it again, and it continues. Transactions of an old file that are
marked as undone are left out: no reader sees them.

ZODB under Python 3 cannot read a file with a record in a version. If SRC has
such records, the command warns before it copies. End the versions in the copy
with `vellum commit-version` or `vellum abort-version`, and pack it.

Blobs come along: from the blob folder of SRC (--blobs), found as `vellum help
blobs` says, to that of DST (--to-blobs), which is DST.blobs if there is none.
If both folders are on one device, a file gets a second name and takes no space;
no program changes a blob's file, but damage to the disk harms both. A file that
is missing in SRC is missing in DST: the command says how many, and ends with 1.
If the folder of SRC is not known, the records are copied without files.

Both --since and --until are inclusive: a day counts from its first moment to
its last, and a tid names its transaction. A copy with --since lacks the objects
from before. An existing copy never gets a gap by --since.

Records are copied as they are in SRC, compressed or not. With --compress every
record that becomes shorter is compressed in DST, and ZODB needs zc.zlibstorage
to read it; with --decompress all are plain. Records that share data (by an
undo, or the end of a version) share it in DST too, so the same transactions can
be undone. Continue a copy with the same option each time. With these options a
record that cannot be decompressed ends the copy; without them it is copied
unchanged.

Exit codes: 0 if DST has all transactions; 1 if DST is no copy of SRC, or would
get a gap; 2 if the command was used wrongly or could not do its work.

With --json: one object.")]
pub struct Copy {
    /// The database to read
    #[arg(value_name = "SRC")]
    from: PathBuf,
    /// The copy: a new file, or an older copy
    #[arg(value_name = "DST")]
    to: PathBuf,
    /// Only transactions from this time on
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    since: Option<Moment>,
    /// Only transactions up to this time
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    until: Option<Moment>,
    /// Make a history-free database in tables: without older revisions, and without undo
    #[arg(long)]
    history_free: bool,
    /// Write records compressed, as zc.zlibstorage does
    #[arg(long, conflicts_with = "decompress")]
    compress: bool,
    /// Write records plain
    #[arg(long)]
    decompress: bool,
    #[command(flatten)]
    blobs: BlobArgs,
    /// The folder for the blobs of the copy [default: the one beside DST, or DST.blobs]
    #[arg(long, value_name = "FOLDER")]
    to_blobs: Option<PathBuf>,
    /// Copy the records without the files of blobs
    #[arg(long, conflicts_with_all = ["blobs", "to_blobs"])]
    without_blobs: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// The result, for programs.
struct Copied {
    created: bool,
    report: CopyReport,
    /// The last transaction that DST has.
    last: Tid,
    seconds: f64,
    /// Why nothing was copied.
    refused: Option<String>,
    warnings: Vec<String>,
    /// The folder of DST.
    folder: Option<PathBuf>,
    /// Revisions of blobs in DST without a file.
    missing_blobs: u64,
}

#[derive(Serialize)]
struct Answer {
    from: String,
    to: String,
    created: bool,
    resumed_after: Option<String>,
    transactions: u64,
    revisions: u64,
    bytes: u64,
    /// Revisions of blobs that were copied.
    blobs: u64,
    /// The last transaction that the copy has now.
    last: Option<String>,
    last_time: Option<String>,
    seconds: f64,
    refused: Option<String>,
    /// The reasons why ZODB cannot read the copy.
    warnings: Vec<String>,
    /// Of these: files that came along, and their bytes.
    blob_files: u64,
    blob_bytes: u64,
    /// Where they are; none if no file came along.
    blob_folder: Option<String>,
    /// Revisions of blobs in the copy without a file; zero if no folder is known.
    missing_blobs: u64,
}

impl Copy {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        if paths::same(&self.from, &self.to) {
            let (from, to) = (self.from.display(), self.to.display());
            return Err(Failure::Message(format!("{from} and {to} are the same file: name another one for the copy")));
        }
        let start = Instant::now();
        let from = match self.without_blobs {
            true => Database::open(&self.from)?,
            false => Database::open_with_blobs(&self.from, &self.blobs)?,
        };
        if let (Some(file), true) = (from.file(), self.since.is_some() || self.until.is_some()) {
            file.in_order()?;
        }
        let (to, created, warnings) = self.open_or_create(&from)?;
        let before = to.storage().last_transaction();
        let range = TidRange {
            first: self.since.map_or(TidRange::ALL.first, |moment| moment.first),
            last: self.until.map_or(TidRange::ALL.last, |moment| moment.last),
        };
        let copied = match self.copy_with_meter(&from, &to, range) {
            Ok(report) => Ok(report),
            Err(Error::NotACopy { from, to, tid, why }) => Err(format!(
                "{to} is no copy of {from}, and nothing was copied: its last transaction is {tid}, and {why}. For a \
                 copy, name a new file"
            )),
            Err(Error::Gap { last, left_out, .. }) => Err(format!(
                "{} ends with transaction {last}, and --since would leave out what came next, from {left_out} on: \
                 nothing was copied. Without --since the copy goes on where it ended",
                self.to.display(),
            )),
            Err(other) => return Err(self.stopped(&other, to.storage(), before, created)),
        };
        let last = to.storage().last_transaction();
        if let Some(Err(e)) = to.file().map(FileStorage::save_index) {
            say(&format!("warning: {e}; the copy is whole, and its index is made again when it is opened"));
        }
        let (report, refused) = match copied {
            Ok(report) => (report, None),
            Err(why) => (CopyReport::default(), Some(why)),
        };
        let folder = to.blob_folder().map(|folder| folder.path());
        let missing_blobs = match refused.is_none() && report.blobs > report.blob_files {
            true => to.missing_blobs()?,
            false => 0,
        };
        let seconds = start.elapsed().as_secs_f64();
        let copied = Copied { created, report, last, seconds, refused, warnings, folder, missing_blobs };
        if self.json {
            out.json(&self.answer(&copied))?;
        } else {
            self.show(out, &copied, now)?;
        }
        let is_whole = copied.refused.is_none() && copied.missing_blobs == 0;
        Ok(if is_whole { Outcome::Fine } else { Outcome::Problems })
    }

    /// The blob folder of the copy, which is made if it is not there; none if there are no blobs to copy.
    fn folder(&self, from: &Database) -> Run<Option<PathBuf>> {
        let Some(source) = from.blob_folder() else {
            return match &self.to_blobs {
                None => Ok(None),
                Some(_) => Err(Failure::Message(format!(
                    "{}: no blob folder is known; name it with --blobs FOLDER",
                    self.from.display()
                ))),
            };
        };
        let folder = match &self.to_blobs {
            Some(named) => named.clone(),
            None => folders::evident(&self.to).into_iter().next().unwrap_or_else(|| folders::own(&self.to)),
        };
        if paths::same(&source.path(), &folder) {
            return Err(Failure::Message(format!(
                "{}: this is the blob folder of {}: name another one for the copy (--to-blobs)",
                folder.display(),
                self.from.display()
            )));
        }
        Ok(Some(folder))
    }

    /// The destination, whether it is new, and what keeps ZODB from reading it, which is said before it is made.
    fn open_or_create(&self, from: &Database) -> Run<(Database, bool, Vec<String>)> {
        if self.history_free && !tables::is_or_becomes_one(&self.to) {
            return Err(Failure::Message(format!(
                "{}: only a database in tables is history-free. Nothing was copied. End the name of a new one with \
                 .vellum",
                self.to.display()
            )));
        }
        if tables::is_or_becomes_one(&self.to) {
            return self.open_or_create_tables(from);
        }
        let (mut options, folder) = (file::options()?, self.folder(from)?);
        if let Some(folder) = &folder {
            self.check_folder(folder)?;
            options = options.blobs(folder);
        }
        match file::open_to_write(&self.to, &options) {
            Err(OpenError::NotFound { .. }) => {
                let file = from.file().map(DataFile::of);
                let mut warnings = Vec::new();
                if file.as_ref().map(DataFile::magic).transpose()?.is_some_and(|magic| magic == "FS21") {
                    warnings.push(format!(
                        "{} is a file of Python 2 (FS21), and the copy is one of Python 3 (FS30): ZODB opens the copy under \
                         Python 3 only, if at all. For a backup under Python 2 use cp",
                        self.from.display()
                    ));
                }
                warnings.extend(self.records_in_versions(from.storage(), file.as_ref())?);
                warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
                Ok((Database::File(options.like(&self.from).create(&self.to)?), true, warnings))
            }
            opened => Ok((Database::File(opened?), false, Vec::new())),
        }
    }

    /// The same of a destination in tables.
    fn open_or_create_tables(&self, from: &Database) -> Run<(Database, bool, Vec<String>)> {
        let is_new = !self.to.exists();
        // Nobody reads a copy that is being made.
        let options = tables::options()?.history_free(self.history_free).grace(Duration::ZERO);
        let (mut options, folder) = (options, self.folder(from)?);
        if let Some(folder) = &folder {
            if !is_new {
                self.fits(folder, &tables::open(&self.to)?)?;
            }
            options = options.blobs(folder);
        }
        let opened = if is_new { options.create(&self.to) } else { options.open(&self.to) };
        let opened = tables::told(opened)?;
        if is_new {
            tables::take_after(&self.to, &self.from)?;
        }
        Ok((Database::Tables(opened), is_new, Vec::new()))
    }

    /// Refuses the folder of another database than that of the copy.
    fn check_folder(&self, folder: &std::path::Path) -> Run<()> {
        let Ok(to) = vellum_file::Options::new().read_only().open(&self.to) else { return Ok(()) };
        self.fits(folder, &to)
    }

    fn fits(&self, folder: &std::path::Path, to: &impl folders::Keeper) -> Run<()> {
        if !folder.exists() {
            return Ok(());
        }
        match folders::relation(folder, to)? {
            Belongs::Yes | Belongs::Empty => Ok(()),
            Belongs::No(_) => Err(Failure::Message(format!(
                "{}: this seems to be the blob folder of another database than {}: name another one for the copy \
                 (--to-blobs)",
                folder.display(),
                self.to.display()
            ))),
        }
    }

    /// The advice about records in versions, if there are any.
    fn records_in_versions(&self, from: &dyn Storage, file: Option<&DataFile>) -> Run<Option<String>> {
        let open = match from.versions() {
            Some(versions) => versions.versions()?,
            None => Vec::new(),
        };
        let has_ended = |file: &DataFile| file.has_records_in_versions().map_err(|fault| file.damage(&fault));
        if open.is_empty() && !file.map(has_ended).transpose()?.unwrap_or(false) {
            return Ok(None);
        }
        let (from, to) = (self.from.display(), self.to.display());
        let what = format!("{from} has records in versions, and ZODB under Python 3 reads no file with one of them");
        Ok(Some(if open.is_empty() {
            format!("{what}. The versions have ended: once `vellum pack {to}` has forgotten them, ZODB reads the copy")
        } else {
            let names: Vec<_> = open.iter().map(version_name).collect();
            format!(
                "{what}. Open in it: {}. End each in the copy, with `vellum commit-version {to} NAME` or `vellum \
                 abort-version {to} NAME`; once `vellum pack {to}` has forgotten the rest, ZODB reads it",
                names.join(", ")
            )
        }))
    }

    /// An error in the middle, and the state of the copy.
    fn stopped(&self, error: &Error, to: &dyn Storage, before: Tid, created: bool) -> Failure {
        let (name, last) = (self.to.display(), to.last_transaction());
        let left = if last > before {
            format!("{name} has every transaction up to {last}, whole: copy again, and it goes on there")
        } else if created {
            format!("Nothing was copied, and {name} is a new database with nothing in it: copy again, or remove it")
        } else {
            format!("Nothing was copied, and {name} has what it had before")
        };
        Failure::Message(format!("{error}. {left}"))
    }

    fn answer(&self, copied: &Copied) -> Answer {
        let Copied { created, report, last, seconds, refused, warnings, .. } = copied;
        let last = Some(*last).filter(|&last| last != Tid::ZERO);
        Answer {
            from: self.from.display().to_string(),
            to: self.to.display().to_string(),
            created: *created,
            resumed_after: report.resumed_after.map(|tid| tid.to_string()),
            transactions: report.transactions,
            revisions: report.revisions,
            bytes: report.bytes,
            blobs: report.blobs,
            blob_files: report.blob_files,
            blob_bytes: report.blob_bytes,
            blob_folder: copied.folder.as_ref().map(|folder| folder.display().to_string()),
            missing_blobs: copied.missing_blobs,
            last: last.map(|tid| tid.to_string()),
            last_time: last.and_then(people::rfc3339),
            seconds: (seconds * 1000.0).round() / 1000.0,
            refused: refused.clone(),
            warnings: warnings.clone(),
        }
    }

    fn show(&self, out: &mut Out, copied: &Copied, now: Timestamp) -> Run<()> {
        let Copied { created, report, last, seconds, refused, .. } = copied;
        let name = |path: &PathBuf| printable(&path.display().to_string());
        writeln!(out, "{} -> {}{}", name(&self.from), name(&self.to), if *created { ", a new file" } else { "" })?;
        if let Some(why) = refused {
            return Ok(writeln!(out, "{}.", printable(why))?);
        }
        let CopyReport { resumed_after, transactions, revisions, bytes, blobs, blob_files, blob_bytes, .. } = *report;
        let what = match (transactions, self.since.is_some() || self.until.is_some()) {
            (0, false) => "nothing: there is nothing new".to_owned(),
            (0, true) => "nothing: there is nothing new in that time".to_owned(),
            _ => format!(
                "{}, {}, {}",
                counted(transactions, "transaction"),
                counted(revisions, "revision"),
                exact_size(bytes)
            ),
        };
        out.field("copied", what)?;
        if blobs > 0 {
            let revisions = counted(blobs, "revision");
            out.field(
                "blobs",
                match &copied.folder {
                    None if self.without_blobs => format!("{revisions}, without files"),
                    None => {
                        format!("{revisions}, without files: no blob folder of {} is known (--blobs)", name(&self.from))
                    }
                    Some(folder) => {
                        let files = blobs::files(blob_files, blob_bytes);
                        format!("{revisions}, {files} in {}", printable(&folder.display().to_string()))
                    }
                },
            )?;
        }
        if copied.missing_blobs > 0 {
            let revisions = counted(copied.missing_blobs, "revision");
            out.field("", format!("{revisions} of blobs have no file in the copy: `vellum check` names them"))?;
        }
        if let Some(tid) = resumed_after.filter(|_| transactions > 0) {
            out.field("after", moment(tid, now))?;
        }
        if *last != Tid::ZERO {
            out.field("up to", moment(*last, now))?;
        }
        out.field("took", format!("{seconds:.1} seconds"))
    }
}

impl Copy {
    /// Copies, and shows the progress in bytes: the copy takes about as many as the source.
    fn copy_with_meter(&self, from: &Database, to: &Database, range: TidRange) -> vellum_storage::Result<CopyReport> {
        // Bytes of a transaction and of a record in the file, without their texts and data.
        const TRANSACTION_BYTES: u64 = 23 + 8;
        const RECORD_BYTES: u64 = 42;
        let meter = Meter::new("copying");
        let all = from.storage().size().saturating_sub(to.storage().size()).max(1);
        let mut progress = |done: &CopyReport| {
            meter.update(done.bytes + done.transactions * TRANSACTION_BYTES + done.revisions * RECORD_BYTES, all);
        };
        if !self.compress && !self.decompress {
            return copy(from.storage(), to.storage(), range, CopyOptions::default(), &mut progress);
        }
        let layer = |database: &Database, compression| Compressed::new(database.shared(), compression);
        let written = if self.compress { Compression::On } else { Compression::Off };
        let (from, to) = (layer(from, Compression::Off), layer(to, written));
        copy(&from, &to, range, CopyOptions::default(), &mut progress)
    }
}
