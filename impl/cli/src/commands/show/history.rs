//! `vellum show --history`: every revision of an object.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{Fault, Record};
use vellum_storage::Tid;
use vellum_terminal::people::{printable_start, size};
use vellum_terminal::{Out, Outcome, Run, people};

use crate::file::DataFile;
use crate::file::blobs::Folder;
use crate::ui::args::Moment;
use crate::ui::blobs::is_blob;
use crate::ui::classes::class;
use crate::ui::meta::{self, JsonMetadata, version_name};

#[derive(Serialize)]
struct OldRevision {
    tid: String,
    time: Option<String>,
    bytes: u64,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    position: u64,
    shares: Option<String>,
    nothing: bool,
    #[serde(flatten)]
    meta: JsonMetadata,
    /// The length of its blob, if it has one that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_bytes: Option<u64>,
}

/// Shows every revision of the object up to a moment.
pub fn show(
    out: &mut Out,
    file: &DataFile,
    newest: Record,
    at: Option<Moment>,
    blobs: Option<&Folder>,
    json: bool,
    now: Timestamp,
) -> Run {
    let oid = newest.header.oid;
    let damage = |fault: Fault| file.damage(&fault);
    let mut scanner = file.scanner();
    let last = at.map_or(Tid::MAX, |at| at.last);
    let mut shown = 0_u64;
    for record in file.chain(Some(newest)) {
        let record = record.map_err(damage)?;
        let tid = record.header.tid;
        if tid > last {
            continue;
        }
        let holder = file.holder(&mut scanner, &record).map_err(damage)?;
        let meta = file.metadata_of(&mut scanner, &record).map_err(damage)?;
        let blob = match (&holder, blobs) {
            (Some(holder), Some(blobs))
                if is_blob(class(&file.data_start(holder, 512).map_err(damage)?).as_deref()) =>
            {
                Some(blobs.folder.length(oid, tid))
            }
            _ => None,
        };
        let own = record.header.data_length;
        let shares = holder.as_ref().filter(|_| own == 0).map(|holder| holder.header.tid);
        if json {
            let (version, version_hex) = meta::version(&record.version());
            out.json(&OldRevision {
                tid: tid.to_string(),
                time: people::rfc3339(tid),
                bytes: own,
                version,
                version_hex,
                position: record.position,
                shares: shares.map(|tid| tid.to_string()),
                nothing: holder.is_none(),
                blob_bytes: blob.and_then(Result::ok),
                meta: meta.json(),
            })?;
            shown += 1;
            continue;
        }
        if shown == 0 {
            writeln!(out, "object {oid}, newest revision first")?;
        }
        let mut what = match (&holder, shares) {
            (None, _) => "deleted or undone".to_owned(),
            (_, Some(shares)) => format!("as in {shares}"),
            _ => size(own),
        };
        match blob {
            Some(Ok(bytes)) => what = format!("{what}, blob {}", size(bytes)),
            Some(Err(_)) => what = format!("{what}, its blob is missing or cannot be read"),
            None => {}
        }
        if let Some(version) = &record.in_version {
            what = format!("{what}, in version {}", version_name(&version.version));
        }
        writeln!(out, "  {tid}  {}", people::time(tid, now))?;
        let who = [&meta.user, &meta.description].map(|text| printable_start(text));
        let who: Vec<_> = who.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        writeln!(out, "      {what}{}{}", if who.is_empty() { "" } else { "; " }, who.join(": "))?;
        shown += 1;
    }
    if shown == 0 && !json {
        writeln!(out, "object {oid} has no revisions up to then")?;
    }
    Ok(Outcome::Fine)
}
