//! `vellum show --history`: every revision of an object.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::{Oid, Tid};
use vellum_terminal::people::{printable_start, size};
use vellum_terminal::{Out, Outcome, Run, people};

use crate::file::blobs::Folder;
use crate::file::revisions::Revisions;
use crate::ui::args::Moment;
use crate::ui::blobs::is_blob;
use crate::ui::meta::{self, JsonMetadata, version_name};

#[derive(Serialize)]
struct OldRevision {
    tid: String,
    time: Option<String>,
    bytes: u64,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    /// In a `Data.fs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
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
    revisions: &Revisions<'_>,
    oid: Oid,
    at: Option<Moment>,
    blobs: Option<&Folder>,
    json: bool,
    now: Timestamp,
) -> Run {
    let last = at.map_or(Tid::MAX, |at| at.last);
    let mut shown = 0_u64;
    for entry in revisions.chain(oid)? {
        let entry = entry?;
        let (tid, own) = (entry.tid, entry.own_bytes());
        if tid > last {
            continue;
        }
        let meta = revisions.metadata(&entry)?;
        let state = revisions.state(&entry)?;
        let is_nothing = state.bytes.is_none();
        let blob = blobs.filter(|_| is_blob(state.class.as_deref())).map(|blobs| blobs.folder.length(oid, tid));
        let shares = if own == 0 { revisions.shares(&entry)? } else { None };
        if json {
            let (version, version_hex) = meta::version(&entry.version);
            out.json(&OldRevision {
                tid: tid.to_string(),
                time: people::rfc3339(tid),
                bytes: own,
                version,
                version_hex,
                position: entry.position(),
                shares: shares.map(|tid| tid.to_string()),
                nothing: is_nothing,
                blob_bytes: blob.and_then(Result::ok),
                meta: meta.json(),
            })?;
            shown += 1;
            continue;
        }
        if shown == 0 {
            writeln!(out, "object {oid}, newest revision first")?;
        }
        let mut what = match shares {
            _ if is_nothing => "deleted or undone".to_owned(),
            Some(shares) => format!("as in {shares}"),
            _ => size(own),
        };
        match blob {
            Some(Ok(bytes)) => what = format!("{what}, blob {}", size(bytes)),
            Some(Err(_)) => what = format!("{what}, its blob is missing or cannot be read"),
            None => {}
        }
        if !entry.version.is_trunk() {
            what = format!("{what}, in version {}", version_name(&entry.version));
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
