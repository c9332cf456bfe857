//! The part of `vellum check` about blobs: each revision of a blob has its file, and each file its revision.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use vellum_blob::Layout;
use vellum_file::Options;
use vellum_storage::{Oid, Tid};
use vellum_terminal::people::{counted, printable, size};
use vellum_terminal::{Out, Run};

use crate::file::blobs::{BlobArgs, Keeper};
use crate::file::survey::{self, Finding, Survey};
use crate::ui::{blobs, say};

/// The result.
pub struct Checked {
    /// None if no folder is known.
    pub folder: Option<(String, Layout)>,
    /// The counts; without a folder, those of the database.
    pub survey: Survey,
}

/// A finding, for programs.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Line {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    message: String,
}

/// The counts, for programs.
#[derive(Serialize)]
pub struct JsonBlobs {
    folder: Option<String>,
    layout: Option<&'static str>,
    objects: u64,
    revisions: u64,
    files: u64,
    bytes: u64,
    /// Files without bytes.
    empty: u64,
    missing: u64,
    unreadable: u64,
    writable: u64,
    orphans: u64,
    orphan_bytes: u64,
    strangers: u64,
    unread_folders: u64,
}

impl Checked {
    /// Whether nothing is missing.
    pub fn is_fine(&self) -> bool {
        self.folder.is_none() || (self.survey.is_whole() && !self.survey.is_of_another())
    }

    /// For programs.
    pub fn json(&self) -> JsonBlobs {
        let Survey { objects, revisions, files, bytes, empty, missing, unreadable, writable, .. } = self.survey;
        let Survey { orphans, orphan_bytes, strangers, unread_folders, .. } = self.survey;
        JsonBlobs {
            folder: self.folder.as_ref().map(|(folder, _)| folder.clone()),
            layout: self.folder.as_ref().map(|(_, layout)| layout.name()),
            objects,
            revisions,
            files,
            bytes,
            empty,
            missing,
            unreadable,
            writable,
            orphans,
            orphan_bytes,
            strangers,
            unread_folders,
        }
    }

    /// For people, in the summary.
    pub fn show(&self, out: &mut Out) -> Run<()> {
        let Survey { objects, revisions, files, bytes, empty, writable, .. } = self.survey;
        let all = format!("{} of {}", counted(revisions, "revision"), counted(objects, "object"));
        let Some((folder, layout)) = &self.folder else {
            out.field("blobs", all)?;
            return out.field("", format!("not checked, since {}", blobs::NO_FOLDER));
        };
        out.field("blobs", format!("{all}, with {}", blobs::files(files, bytes)))?;
        out.field("", format!("in {} ({layout})", printable(folder)))?;
        for (number, what) in [
            (self.survey.missing_now, "missing that are the blob of an object now: a backup may have them"),
            (self.survey.missing - self.survey.missing_now, "missing that are older revisions"),
            (self.survey.unreadable, "that cannot be read"),
            (empty, "without bytes: blobs that nobody wrote into, or files that a full disk cut off"),
            (writable, "that can be written to: ZODB and Vellum make them read-only"),
        ] {
            if number > 0 {
                out.field("", format!("{} {what}", counted(number, "file")))?;
            }
        }
        if self.survey.orphans > 0 {
            let Survey { orphans, orphan_bytes, .. } = self.survey;
            let orphans = counted(orphans, "file");
            out.field("", format!("{orphans} of no revision, {}: see `vellum blobs orphans`", size(orphan_bytes)))?;
        }
        if self.survey.strangers > 0 {
            out.field("", format!("{} that no blob has", counted(self.survey.strangers, "name")))?;
        }
        Ok(())
    }
}

/// Looks at the folder, and lists what is not as it should be: at most so many.
///
/// None if there are neither blobs nor a folder, and if the database is too damaged to be opened, as reported before.
///
/// # Errors
///
/// The named folder is no blob folder.
pub fn list(
    out: &mut Out,
    path: &Path,
    args: &BlobArgs,
    read_all: bool,
    json: bool,
    at_most: u64,
) -> Run<Option<Checked>> {
    let opened = Options::new().read_only().open(path);
    let Ok(storage) = opened else {
        return Ok(None);
    };
    list_of(out, &storage, args, read_all, json, at_most)
}

/// The same of an open database of any kind.
///
/// # Errors
///
/// As [`list`].
pub fn list_of(
    out: &mut Out,
    storage: &impl Keeper,
    args: &BlobArgs,
    read_all: bool,
    json: bool,
    at_most: u64,
) -> Run<Option<Checked>> {
    let found = args.find(storage)?;
    let revisions = match storage.revisions_of_blobs() {
        Ok(revisions) => revisions,
        Err(_) => {
            if found.is_some() {
                say("the blobs are not checked, since the data file is damaged; check a recovered copy with --blobs");
            }
            return Ok(None);
        }
    };
    let Some(found) = found else {
        let survey = Survey::of(&revisions);
        return Ok(Some(Checked { folder: None, survey }).filter(|checked| checked.survey.revisions > 0));
    };
    let folder = &found.folder;
    let (mut lines, mut shown) = (Vec::new(), 0_u64);
    let survey = survey::survey(folder, &revisions, storage.last_transaction(), read_all, &mut |finding| {
        shown += 1;
        if shown > at_most {
            return Ok(());
        }
        lines.push(line(folder, finding));
        Ok(())
    })?;
    // A folder has no order.
    lines.sort_unstable();
    for line in lines {
        if json {
            out.json(&line)?;
            continue;
        }
        let (oid, tid) = (line.oid.as_deref().unwrap_or("-"), line.tid.as_deref().unwrap_or("-"));
        writeln!(out, "{:>15}  {tid:<16}  {oid:<16}  {}", "blob", printable(&line.message))?;
    }
    if !json && shown > at_most {
        writeln!(out, "{}", blobs::more(shown, at_most))?;
    }
    if survey.is_of_another() {
        let files = counted(survey.orphans, "file");
        let message = format!(
            "{}: none of its {files} belongs to this database, so it seems to be another database's blob folder",
            folder.path().display()
        );
        match json {
            true => out.json(&Line { kind: "blob_folder", oid: None, tid: None, bytes: None, message })?,
            false => writeln!(out, "{:>15}  {:<16}  {:<16}  {}", "blob", "-", "-", printable(&message))?,
        }
        shown += 1;
    }
    if !json && shown > 0 {
        writeln!(out)?;
    }
    let folder = Some((folder.path().display().to_string(), folder.layout()));
    Ok(Some(Checked { folder, survey }))
}

fn line(folder: &vellum_blob::BlobFolder, finding: Finding) -> Line {
    let of = |oid: Oid, tid: Tid| (Some(oid.to_string()), Some(tid.to_string()));
    let (kind, (oid, tid), bytes, message) = match finding {
        Finding::Missing(revision) => {
            let path = folder.path_of(revision.oid, revision.tid);
            let when = if revision.is_current { "the object's blob now" } else { "an older revision" };
            ("blob_missing", of(revision.oid, revision.tid), None, format!("{}: missing, {when}", path.display()))
        }
        Finding::Unreadable(revision, why) => ("blob_unreadable", of(revision.oid, revision.tid), None, why),
        Finding::Orphan { oid, tid, bytes } => {
            ("blob_orphan", of(oid, tid), Some(bytes), format!("a file of no revision, {}", size(bytes)))
        }
        Finding::Writable { oid, tid, mode } => {
            ("blob_writable", of(oid, tid), None, format!("the file can be written to ({mode:04o})"))
        }
        Finding::Stranger { path, kind } => {
            ("blob_stranger", (None, None), None, format!("{}: {} that no blob has", path.display(), kind.words()))
        }
        Finding::Folder(why) => ("blob_folder_unreadable", (None, None), None, why),
    };
    Line { kind, oid, tid, bytes, message }
}
