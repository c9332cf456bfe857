//! `vellum info`: a summary of a database, and the classes that take most room.

mod members;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{FileStorage, Record};
use vellum_pickle::{is_compressed, is_encrypted, plain};
use vellum_storage::{Oid, Status, Tid, Version};
use vellum_terminal::people::{count, counted, exact_size, percent, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::file::blobs::{BlobArgs, Keeper};
use crate::file::survey::{self, Survey};
use crate::file::tables as in_tables;
use crate::file::{self, DataFile, Database};
use crate::ui::blobs;
use crate::ui::classes::{self, ClassSummary, Classes};
use crate::ui::meta::{self, version_name};

/// Show what a database holds: size, transactions, objects, classes
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum info Data.fs
  vellum info Data.fs --class mail.Message          all objects of a class
  vellum info Data.fs --class mail                  of a package, or a module

Current data is the objects' present state, on the trunk and in versions;
history is their earlier states. The rest of the file, the overhead, is
transaction metadata and positions. A pack frees the space of history.

Of a database in tables the command shows the tables, with their rows and the
bytes of the file that each takes. Free pages are used again.

--class lists the objects that are of this class now, the last changed one
first. For an object in a version, both its state there and its state on the
trunk count. The exit code is 1 if the class of an object cannot be read, since
it may be this one.

With --json: one object; with --class one object a line, one of the kind
`object` for each object, and a last one of the kind `summary`.")]
pub struct Info {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// How many classes to show, those that take most space first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,
    /// List the objects of this class, or of all classes of this package or module
    #[arg(long, value_name = "NAME", conflicts_with = "classes")]
    class: Option<String>,
    #[command(flatten)]
    blobs: BlobArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub use self::tables::rows;

#[derive(Default, Serialize)]
struct Summary {
    file: String,
    format: String,
    bytes: u64,
    transactions: u64,
    packed_transactions: u64,
    revisions: u64,
    objects: u64,
    nothing: u64,
    first_transaction: Option<String>,
    first_time: Option<String>,
    last_transaction: Option<String>,
    last_time: Option<String>,
    versions: Vec<VersionSummary>,
    current_bytes: u64,
    history_bytes: u64,
    overhead_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed: Option<Compressed>,
    #[serde(skip_serializing_if = "is_zero")]
    encrypted_objects: u64,
    index_memory_bytes: u64,
    classes_in_all: usize,
    classes: Vec<ClassSummary>,
    #[serde(skip)]
    first: Option<Tid>,
    #[serde(skip)]
    last: Option<Tid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<Blobs>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Objects whose record zc.zlibstorage has compressed, as they are now.
#[derive(Default, Serialize)]
struct Compressed {
    objects: u64,
    bytes: u64,
    plain_bytes: u64,
    /// Of these the stream cannot be read.
    #[serde(skip_serializing_if = "is_zero")]
    damaged_objects: u64,
}

/// The blobs, where there are any.
#[derive(Serialize)]
struct Blobs {
    /// Objects that are blobs now.
    objects: u64,
    /// Revisions of blobs.
    revisions: u64,
    /// None if the folder is not known.
    folder: Option<String>,
    layout: Option<&'static str>,
    files: Option<u64>,
    bytes: Option<u64>,
    current_bytes: Option<u64>,
    missing: Option<u64>,
    orphans: Option<u64>,
    orphan_bytes: Option<u64>,
    #[serde(skip)]
    survey: Survey,
}

#[derive(Serialize)]
struct VersionSummary {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
    objects: u64,
    #[serde(skip)]
    version: Version,
}

impl Info {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        if let Some(name) = &self.class {
            let database = Database::open(&self.file)?;
            return members::list(out, &self.file, database.storage(), name, self.json, now);
        }
        if in_tables::is_one(&self.file) {
            let storage = in_tables::open(&self.file)?;
            let blobs = blobs(&storage, &self.blobs)?;
            tables::show(out, &storage, blobs, self.classes, self.json, now)?;
            return Ok(Outcome::Fine);
        }
        let storage = file::open(&self.file)?;
        let mut summary = Summary {
            file: self.file.display().to_string(),
            bytes: storage.size(),
            objects: storage.object_count(),
            index_memory_bytes: storage.index_memory(),
            ..Summary::default()
        };
        let data_file = DataFile::of(&storage);
        summary.format = data_file.magic()?;
        let (data_bytes, in_versions) = walk(&data_file, &mut summary)?;
        let mut classes = Classes::default();
        current(&storage, &mut summary, &mut classes)?;
        versions(&data_file, in_versions, &mut summary, &mut classes)?;
        summary.blobs = blobs(&storage, &self.blobs)?;
        summary.history_bytes = data_bytes.saturating_sub(summary.current_bytes);
        summary.overhead_bytes = summary.bytes.saturating_sub(data_bytes);
        summary.classes_in_all = classes.len();
        summary.classes = classes.biggest(self.classes);
        summary.first_transaction = summary.first.map(|tid| tid.to_string());
        summary.first_time = summary.first.and_then(people::rfc3339);
        summary.last_transaction = summary.last.map(|tid| tid.to_string());
        summary.last_time = summary.last.and_then(people::rfc3339);
        if self.json {
            out.json(&summary)?;
        } else {
            summary.show(out, now)?;
        }
        Ok(Outcome::Fine)
    }
}

/// Counts the blobs, and the files that belong to them. None if there is no blob and no folder.
fn blobs(storage: &impl Keeper, args: &BlobArgs) -> Run<Option<Blobs>> {
    let revisions = storage.revisions_of_blobs()?;
    let known = args.find(storage)?;
    if revisions.is_empty() && known.is_none() {
        return Ok(None);
    }
    let Some(known) = known else {
        let survey = Survey::of(&revisions);
        let (objects, revisions) = (survey.objects, survey.revisions);
        let blobs = Blobs {
            objects,
            revisions,
            folder: None,
            layout: None,
            files: None,
            bytes: None,
            survey,
            current_bytes: None,
            missing: None,
            orphans: None,
            orphan_bytes: None,
        };
        return Ok(Some(blobs).filter(|blobs| blobs.revisions > 0));
    };
    let survey = survey::survey(&known.folder, &revisions, storage.last_transaction(), false, &mut |_| Ok(()))?;
    Ok(Some(Blobs {
        objects: survey.objects,
        revisions: survey.revisions,
        folder: Some(known.folder.path().display().to_string()),
        layout: Some(known.folder.layout().name()),
        files: Some(survey.files),
        bytes: Some(survey.bytes),
        current_bytes: Some(survey.current_bytes),
        missing: Some(survey.missing + survey.unreadable),
        orphans: Some(survey.orphans),
        orphan_bytes: Some(survey.orphan_bytes),
        survey,
    }))
}

/// Counts transactions and revisions in a walk over their headers. Returns the bytes of data in all of them, and the
/// newest records of the objects that are in a version.
fn walk(file: &DataFile, summary: &mut Summary) -> Run<(u64, BTreeMap<Oid, Record>)> {
    let meter = Meter::new("counting");
    let mut scanner = file.scanner();
    let mut in_versions = BTreeMap::new();
    let mut data_bytes = 0;
    let mut position = vellum_file::format::START;
    while position < file.end() {
        let header = scanner
            .transaction(position, |_, record| {
                summary.revisions += 1;
                data_bytes += record.header.data_length;
                if record.in_version.is_some() {
                    in_versions.insert(record.header.oid, record);
                } else if !in_versions.is_empty() {
                    in_versions.remove(&record.header.oid);
                }
                Ok(())
            })
            .map_err(|fault| file.damage(&fault))?;
        summary.transactions += 1;
        summary.packed_transactions += u64::from(header.status == Status::Packed.byte());
        summary.first = summary.first.or(Some(header.tid));
        summary.last = Some(header.tid);
        position += header.length + 8;
        if summary.transactions.is_multiple_of(1024) {
            meter.update(position, file.end());
        }
    }
    Ok((data_bytes, in_versions))
}

/// Reads every object as it is now on the trunk.
fn current(storage: &FileStorage, summary: &mut Summary, classes: &mut Classes) -> Run<()> {
    let meter = Meter::new("classes");
    let mut objects = 0_u64;
    for record in storage.current_records(Oid::ROOT) {
        let record = record?;
        summary.current_bytes += record.data.len() as u64;
        classes.add(&record.data, record.data.len() as u64);
        summary.form(&record.data);
        objects += 1;
        if objects.is_multiple_of(1024) {
            meter.update(objects, summary.objects);
        }
    }
    summary.nothing = summary.objects.saturating_sub(objects);
    Ok(())
}

/// Adds the data that objects have in a version.
fn versions(
    file: &DataFile,
    in_versions: BTreeMap<Oid, Record>,
    summary: &mut Summary,
    classes: &mut Classes,
) -> Run<()> {
    let mut scanner = file.scanner();
    let damage = |fault| file.damage(&fault);
    let mut names: BTreeMap<Version, u64> = BTreeMap::new();
    for record in in_versions.into_values() {
        *names.entry(record.version()).or_default() += 1;
        let Some(holder) = file.holder(&mut scanner, &record).map_err(damage)? else {
            continue;
        };
        let trunk = match file.trunk(&mut scanner, &record).map_err(damage)? {
            Some(trunk) => file.holder(&mut scanner, &trunk).map_err(damage)?,
            None => None,
        };
        let bytes = holder.header.data_length;
        match trunk {
            None => {
                // The trunk does not have it.
                summary.nothing = summary.nothing.saturating_sub(1);
                summary.current_bytes += bytes;
                classes.add(&file.data_start(&holder, 64 << 10).map_err(damage)?, bytes);
            }
            Some(trunk) if trunk.position != holder.position => summary.current_bytes += bytes,
            Some(_) => {}
        }
    }
    summary.versions = names
        .into_iter()
        .map(|(version, objects)| {
            let (name, name_hex) = meta::version(&version);
            VersionSummary { name, name_hex, objects, version }
        })
        .collect();
    Ok(())
}

impl Summary {
    /// Counts a record that is not plain.
    fn form(&mut self, record: &[u8]) {
        self.encrypted_objects += u64::from(is_encrypted(record));
        if !is_compressed(record) {
            return;
        }
        let compressed = self.compressed.get_or_insert_default();
        match plain(record) {
            Ok(plain) => {
                compressed.objects += 1;
                compressed.bytes += record.len() as u64;
                compressed.plain_bytes += plain.len() as u64;
            }
            Err(_) => compressed.damaged_objects += 1,
        }
    }

    fn show(&self, out: &mut Out, now: Timestamp) -> Result<(), Failure> {
        use std::io::Write;
        writeln!(out, "{}", printable(&self.file))?;
        let made = match self.format.as_str() {
            "FS21" => " (as made by ZODB under Python 2)",
            _ => "",
        };
        out.field("format", format!("{}{made}", printable(&self.format)))?;
        out.field("size", exact_size(self.bytes))?;
        let packed = match self.packed_transactions {
            0 => String::new(),
            packed => format!(", {} of them packed", count(packed)),
        };
        out.field("transactions", format!("{}{packed}", count(self.transactions)))?;
        let nothing = match self.nothing {
            0 => String::new(),
            nothing => format!(", {} of them deleted or undone", count(nothing)),
        };
        out.field("objects", format!("{}{nothing}", count(self.objects)))?;
        out.field("revisions", count(self.revisions))?;
        match (self.first, self.last) {
            (Some(first), Some(last)) => {
                out.field("first", format!("{first}  {}", people::time(first, now)))?;
                out.field("last", format!("{last}  {}", people::time(last, now)))?;
            }
            _ => out.field("last", "there is no transaction yet")?,
        }
        for (name, bytes) in
            [("current data", self.current_bytes), ("history", self.history_bytes), ("overhead", self.overhead_bytes)]
        {
            out.field(name, format!("{:>12}  {:>8}", size(bytes), percent(bytes, self.bytes)))?;
        }
        if let Some(Compressed { objects, bytes, plain_bytes, damaged_objects }) = self.compressed {
            let plain = format!("{} in {}, from {}", counted(objects, "object"), size(bytes), size(plain_bytes));
            out.field("compressed", format!("{plain} (zc.zlibstorage)"))?;
            if damaged_objects > 0 {
                out.field("", format!("{} more, with an unreadable stream", counted(damaged_objects, "object")))?;
            }
        }
        if self.encrypted_objects > 0 {
            let objects = counted(self.encrypted_objects, "object");
            out.field("encrypted", format!("{objects} (cipher.encryptingstorage), which cannot be looked into"))?;
        }
        if let Some(blobs) = &self.blobs {
            blobs.show(out)?;
        }
        let memory = format!("{} of memory while the database is open", size(self.index_memory_bytes));
        out.field("index", memory)?;
        if !self.versions.is_empty() {
            writeln!(out, "\nversions")?;
            for version in &self.versions {
                writeln!(out, "  {}  {}", version_name(&version.version), counted(version.objects, "object"))?;
            }
        }
        classes::show(out, &self.classes, self.classes_in_all, self.current_bytes)
    }
}

impl Blobs {
    fn show(&self, out: &mut Out) -> Run<()> {
        let Survey { objects, revisions, files, bytes, current_bytes, orphans, orphan_bytes, .. } = self.survey;
        let objects = counted(objects, "object");
        let Some(folder) = &self.folder else {
            out.field("blobs", format!("{objects}, {}", counted(revisions, "revision")))?;
            return out.field("", blobs::NO_FOLDER);
        };
        let all = format!("{} in {}", size(bytes), counted(files, "file"));
        out.field("blobs", format!("{objects}, {} now, {all}", size(current_bytes)))?;
        out.field("", format!("in {} ({})", printable(folder), self.layout.unwrap_or_default()))?;
        if let Some(missing @ 1..) = self.missing {
            out.field(
                "",
                format!("{} without a file that can be read: see `vellum check`", counted(missing, "revision")),
            )?;
        }
        if orphans > 0 {
            let orphans = counted(orphans, "file");
            out.field("", format!("{orphans} of no revision, {}: see `vellum blobs orphans`", size(orphan_bytes)))?;
        }
        Ok(())
    }
}
