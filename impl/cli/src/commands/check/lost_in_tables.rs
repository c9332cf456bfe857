//! `vellum check --references` of a database in tables: the same as of a `Data.fs`, with what every storage answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use vellum_pickle::{Reference, Scanner, class_of};
use vellum_storage::{Error, HistoryEntry, Oid, Storage, Tid, Version};
use vellum_terminal::people::{counted, printable, printable_start, size};
use vellum_terminal::{Meter, Out, Run, people};

use crate::ui::classes::class_name;
use crate::ui::meta::{in_version, moment};
use crate::ui::objects::each_object;

/// The counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// References to objects that are not there; several from one record to one object are one.
    pub references: u64,
    /// Records of which it cannot be told what they refer to.
    pub untold: u64,
}

/// A record that refers to a lost object.
struct Holder {
    oid: Oid,
    tid: Tid,
    version: Version,
    class: Option<String>,
}

/// A lost object, for programs.
#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    state: &'static str,
    ended: Option<Moment>,
    last: Option<JsonLast>,
    holders: Vec<JsonHolder>,
}

#[derive(Serialize)]
struct Moment {
    tid: String,
    time: Option<String>,
}

#[derive(Serialize)]
struct JsonLast {
    tid: String,
    time: Option<String>,
    bytes: u64,
    class: Option<String>,
}

#[derive(Serialize)]
struct JsonHolder {
    oid: String,
    class: Option<String>,
    tid: String,
    time: Option<String>,
    since: Moment,
}

impl Moment {
    fn of(tid: Tid) -> Moment {
        Moment { tid: tid.to_string(), time: people::rfc3339(tid) }
    }
}

/// Lists the lost objects, with at most so many references.
///
/// # Errors
///
/// The database cannot be read.
pub fn list(out: &mut Out, path: &Path, storage: &dyn Storage, json: bool, at_most: u64, now: Timestamp) -> Run<Found> {
    let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("references") };
    let (mut found, mut scanner) = (Found::default(), Scanner::new());
    let mut lost: BTreeMap<Oid, Vec<Holder>> = BTreeMap::new();
    each_object(storage, meter, storage.object_count(), &mut |object| {
        for (tid, version, data) in object.records() {
            let (to, is_told) = references(&mut scanner, data);
            found.untold += u64::from(!is_told);
            for to in to {
                if is_there(storage, to, &version)? {
                    continue;
                }
                found.references += 1;
                if found.references > at_most {
                    continue;
                }
                let class = class_of(data).ok().map(|class| class.to_string());
                lost.entry(to).or_default().push(Holder { oid: object.oid, tid, version: version.clone(), class });
            }
        }
        Ok(())
    })?;
    if !json {
        match (found.references, found.untold) {
            (0, 0) => writeln!(out, "every reference leads to an object that is there")?,
            (0, _) => writeln!(out, "every reference that can be read leads to an object that is there")?,
            (1, _) => writeln!(out, "1 reference leads to an object that is not there")?,
            _ => writeln!(out, "{} lead to an object that is not there", counted(found.references, "reference"))?,
        }
    }
    for (oid, holders) in &mut lost {
        holders.sort_by_key(|holder| holder.oid);
        show(out, path, storage, (*oid, holders), json, now)?;
    }
    if !json {
        if found.references > at_most {
            writeln!(out, "\nand {} more; `--max 0` shows all", counted(found.references - at_most, "reference"))?;
        }
        if found.untold > 0 {
            let records = counted(found.untold, "record");
            writeln!(out, "\nThere may be more: of {records} it cannot be told what they refer to")?;
        }
        writeln!(out)?;
    }
    Ok(found)
}

/// The objects that a record refers to strongly, and whether it was read to its end.
fn references(scanner: &mut Scanner, record: &[u8]) -> (BTreeSet<Oid>, bool) {
    let mut found = BTreeSet::new();
    let scanned = scanner.scan_all(record, |reference| {
        if let Reference::Strong { oid, .. } = reference {
            found.insert(Oid(oid));
        }
    });
    (found, scanned.is_ok())
}

/// Whether an object can be loaded where a record of this version looks for it.
fn is_there(storage: &dyn Storage, oid: Oid, version: &Version) -> Run<bool> {
    match storage.load(oid, version) {
        Ok(_) => Ok(true),
        Err(Error::KeyError { .. }) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// The revisions of an object, newest first; none if there is no such object.
fn history(storage: &dyn Storage, oid: Oid) -> Run<Vec<HistoryEntry>> {
    match storage.history(oid, usize::MAX) {
        Err(Error::KeyError { .. }) => Ok(Vec::new()),
        found => Ok(found?),
    }
}

/// The newest revision of an object that has a record.
fn last_record(storage: &dyn Storage, past: &[HistoryEntry], oid: Oid) -> Run<Option<(Tid, vellum_storage::Bytes)>> {
    for entry in past {
        match storage.load_serial(oid, entry.tid) {
            Ok(data) => return Ok(Some((entry.tid, data))),
            Err(Error::KeyError { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(None)
}

/// The oldest of the holder's revisions, without a gap back from its present one, that refer to the object.
fn since(storage: &dyn Storage, holder: &Holder, to: Oid) -> Run<Tid> {
    let (mut scanner, mut since) = (Scanner::new(), holder.tid);
    for entry in history(storage, holder.oid)?.iter().skip_while(|entry| entry.tid > holder.tid) {
        match storage.load_serial(holder.oid, entry.tid) {
            Ok(data) if references(&mut scanner, &data).0.contains(&to) => since = entry.tid,
            Ok(_) | Err(Error::KeyError { .. }) => break,
            Err(other) => return Err(other.into()),
        }
    }
    Ok(since)
}

fn show(
    out: &mut Out,
    path: &Path,
    storage: &dyn Storage,
    (oid, holders): (Oid, &[Holder]),
    json: bool,
    now: Timestamp,
) -> Run<()> {
    let past = history(storage, oid)?;
    let (ended, last) = (past.first(), last_record(storage, &past, oid)?);
    let class = |data: &[u8]| class_of(data).ok().map(|class| class.to_string());
    if json {
        let holder = |holder: &Holder| {
            Ok(JsonHolder {
                oid: holder.oid.to_string(),
                class: holder.class.clone(),
                tid: holder.tid.to_string(),
                time: people::rfc3339(holder.tid),
                since: Moment::of(since(storage, holder, oid)?),
            })
        };
        return out.json(&Line {
            kind: "lost_object",
            oid: oid.to_string(),
            state: if ended.is_some() { "nothing" } else { "unknown" },
            ended: ended.map(|entry| Moment::of(entry.tid)),
            last: last.map(|(tid, data)| JsonLast {
                tid: tid.to_string(),
                time: people::rfc3339(tid),
                bytes: data.len() as u64,
                class: class(&data),
            }),
            holders: holders.iter().map(holder).collect::<Run<_>>()?,
        });
    }
    writeln!(out)?;
    match ended {
        None => writeln!(out, "object {oid}, not in the file")?,
        Some(entry) => {
            writeln!(out, "object {oid}, deleted or undone")?;
            out.field("by", moment(entry.tid, now))?;
            let who = [&entry.user, &entry.description].map(|text| printable_start(text));
            let who: Vec<_> = who.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
            out.field("", who.join(": "))?;
        }
    }
    match last {
        None if ended.is_none() => out.field("was", "there is no record of it: look for it in a backup")?,
        None => out.field("was", "a pack discarded its data: look for it in a backup")?,
        Some((tid, data)) => {
            let class = class_name(class(&data).as_deref());
            out.field("was", format!("{class}, {}", size(data.len() as u64)))?;
            out.field("", format!("since {}", moment(tid, now)))?;
            let path = printable(&path.display().to_string());
            out.field("see it", format!("vellum show {path} {:x} --at {tid}", oid.0))?;
        }
    }
    writeln!(out, "  held by")?;
    for holder in holders {
        let version = in_version(&holder.version);
        writeln!(out, "    {}  {}{version}", holder.oid, class_name(holder.class.as_deref()))?;
        writeln!(out, "        since   {}", moment(since(storage, holder, oid)?, now))?;
    }
    Ok(())
}
