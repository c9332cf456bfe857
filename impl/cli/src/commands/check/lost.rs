//! `vellum check --references`: dangling references, since when they are there, and the remains of the lost objects.
//!
//! ```text
//! object 0000000000000019, deleted or undone
//!   by            040d2ed760501c11  2026-11-22 08:23:22 UTC (3 days ago)
//!                 collector: delete one object
//!   was           mail.Message, 614 bytes at position 14194
//!                 since 040d2ed76039d2cc  2026-11-22 08:23:22 UTC (3 days ago)
//!   see it        vellum show undo.fs 19 --at 040d2ed76039d2cc
//!   held by
//!     0000000000000002  BTrees.LOBTree.LOBTree
//!         since   040d2ed76039d2cc  2026-11-22 08:23:22 UTC (3 days ago)
//!                 mail deliver2: deliver up to 11
//! ```

use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{Change, Dangling, Holder, LastData, LostObject};
use vellum_storage::Status;
use vellum_terminal::people::{counted, printable, printable_start, size};
use vellum_terminal::{Out, Run, people};

use crate::ui::classes::class_name;
use crate::ui::meta::{self, JsonTransaction, Metadata, in_version, moment};

/// A lost object, for programs.
#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    state: &'static str,
    ended: Option<JsonTransaction>,
    last: Option<JsonLast>,
    holders: Vec<JsonHolder>,
}

#[derive(Serialize)]
struct JsonLast {
    tid: String,
    time: Option<String>,
    position: u64,
    data_position: u64,
    bytes: u64,
    class: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    /// Whether it was found in a damaged part of the file, and only looks like a record.
    damaged: bool,
}

#[derive(Serialize)]
struct JsonHolder {
    oid: String,
    class: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    tid: String,
    time: Option<String>,
    since: JsonTransaction,
    /// Whether a pack has forgotten the past before that.
    since_pack: bool,
}

/// Shows all lost objects.
pub fn show(out: &mut Out, path: &Path, dangling: &Dangling, json: bool, now: Timestamp) -> Run<()> {
    if json {
        return dangling.objects.iter().try_for_each(|object| out.json(&line(object)));
    }
    let references = dangling.references;
    let untold = untold(dangling);
    if references == 0 {
        match &untold[..] {
            [] => writeln!(out, "every reference leads to an object that is there")?,
            _ => writeln!(out, "every reference that can be read leads to an object that is there, but:")?,
        }
        untold.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        return Ok(writeln!(out)?);
    }
    let lead = if references == 1 { "leads" } else { "lead" };
    writeln!(out, "{} {lead} to an object that is not there", counted(references, "reference"))?;
    for object in &dangling.objects {
        writeln!(out)?;
        show_object(out, path, object, now)?;
    }
    let told: u64 = dangling.objects.iter().map(|object| object.holders.len() as u64).sum();
    if told < references {
        writeln!(out, "\nand {} more; `--max 0` shows all", counted(references - told, "reference"))?;
    }
    if !untold.is_empty() {
        writeln!(out, "\nThere may be more:")?;
        untold.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    }
    Ok(writeln!(out)?)
}

/// The reasons why the list of dangling references may be incomplete.
fn untold(dangling: &Dangling) -> Vec<String> {
    let mut lines = Vec::new();
    match dangling.untold_records {
        0 => {}
        1 => lines.push("of 1 record it cannot be told what it refers to".to_owned()),
        records => lines.push(format!("of {} it cannot be told what they refer to", counted(records, "record"))),
    }
    if dangling.damaged_bytes > 0 {
        lines.push(format!("{} of the file cannot be read as transactions", counted(dangling.damaged_bytes, "byte")));
    }
    lines
}

fn show_object(out: &mut Out, path: &Path, object: &LostObject, now: Timestamp) -> Run<()> {
    let LostObject { oid, ended, last, holders, .. } = object;
    match ended {
        None => writeln!(out, "object {oid}, not in the file")?,
        Some(change) => {
            writeln!(out, "object {oid}, deleted or undone")?;
            out.field("by", moment(change.tid, now))?;
            out.field("", who(change))?;
        }
    }
    match last {
        None if ended.is_none() => out.field("was", "there is no record of it: look for it in a backup")?,
        None => out.field("was", "a pack discarded its data: look for it in a backup")?,
        Some(last) => {
            let class = class_name(last.class.as_deref());
            let version = in_version(&last.version);
            let part = if last.is_damaged { ", in a damaged part" } else { "" };
            out.field("was", format!("{class}, {} at position {}{part}{version}", size(last.bytes), last.position))?;
            out.field("", format!("since {}", moment(last.tid, now)))?;
            let path = printable(&path.display().to_string());
            if last.is_damaged {
                let (skip, count) = (last.data_position, last.bytes);
                out.field("its record", format!("dd if={path} of=record bs=1 skip={skip} count={count}"))?;
            } else if last.version.is_trunk() {
                out.field("see it", format!("vellum show {path} {:x} --at {}", oid.0, last.tid))?;
            }
        }
    }
    writeln!(out, "  held by")?;
    for Holder { oid, class, version, since, .. } in holders {
        let version = in_version(version);
        writeln!(out, "    {oid}  {}{version}", class_name(class.as_deref()))?;
        writeln!(out, "        since   {}", moment(since.tid, now))?;
        if since.status == Status::Packed {
            writeln!(out, "                or longer: what was before is packed")?;
        }
        match who(since) {
            who if who.is_empty() => {}
            who => writeln!(out, "                {who}")?,
        }
    }
    Ok(())
}

fn who(change: &Change) -> String {
    let who = [&change.user, &change.description].map(|text| printable_start(text));
    let who: Vec<_> = who.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    who.join(": ")
}

fn line(object: &LostObject) -> Line {
    Line {
        kind: "lost_object",
        oid: object.oid.to_string(),
        state: if object.ended.is_some() { "nothing" } else { "unknown" },
        ended: object.ended.as_ref().map(transaction),
        last: object.last.as_ref().map(json_last),
        holders: object.holders.iter().map(holder).collect(),
    }
}

fn json_last(last: &LastData) -> JsonLast {
    let (version, version_hex) = meta::version(&last.version);
    JsonLast {
        tid: last.tid.to_string(),
        time: people::rfc3339(last.tid),
        position: last.position,
        data_position: last.data_position,
        bytes: last.bytes,
        class: last.class.clone(),
        version,
        version_hex,
        damaged: last.is_damaged,
    }
}

fn holder(holder: &Holder) -> JsonHolder {
    let (version, version_hex) = meta::version(&holder.version);
    JsonHolder {
        oid: holder.oid.to_string(),
        class: holder.class.clone(),
        version,
        version_hex,
        tid: holder.tid.to_string(),
        time: people::rfc3339(holder.tid),
        since: transaction(&holder.since),
        since_pack: holder.since.status == Status::Packed,
    }
}

fn transaction(change: &Change) -> JsonTransaction {
    let Change { user, description, extension, .. } = change.clone();
    JsonTransaction::new(change.tid, &Metadata { user, description, extension })
}
