//! `vellum refs`: the objects that refer to an object, and a path to it from the root.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value as Json;
use vellum_storage::{Error, Oid, Reached, Referrer, Storage, Tid, Version, referrers, refers_in, shortest_path};
use vellum_terminal::people::{count, counted, printable};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::file::Database;
use crate::ui::args::{self, Moment};
use crate::ui::changes::State;
use crate::ui::classes::{class, class_name};
use crate::ui::meta::{self, moment, version_name};
use crate::ui::untold::{self, JsonUntold};

/// Show the referrers of an object, and a shortest path to it from the root
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum refs Data.fs 1f
  vellum refs Data.fs 1f --at \"2 days ago\"          as of then
  vellum refs Data.fs 1f --max 0                    all of them

An object is kept as long as it can be reached from the root (object 0) by
following references. The path shows why it is kept. If there is no path, the
object is garbage, and so is everything that refers to it. Weak references keep
nothing. References of the trunk and of versions are followed.

A record that cannot be read, or has a reference of an unknown shape, may refer
to any object. If the root reaches such a record and no path is found, it is not
known whether the object is garbage.

You can ask about a deleted or lost object, too: the command then shows its
remaining referrers. The file has no index of references, so the command reads
all of it.

Exit codes: 0; 1 if the object is missing and still has referrers, or if a
record may hide references; 2 if the command was used wrongly or could not do
its work.

With --json: one object a line. The first is of the kind `object`, with the
path, and with `reachable`, which is true, false or \"unknown\". Each referrer has
one of the kind `referrer`, with the number of its references of each sort. The
last one is of the kind `summary`.")]
pub struct Refs {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The object: 1f, 0x1f, or 31d
    #[arg(value_parser = args::oid)]
    oid: Oid,
    /// Show its referrers at this time
    #[arg(long, value_name = "TIME", value_parser = args::moment)]
    at: Option<Moment>,
    /// How many referrers, and objects of a path, to show at most; 0 for all [default: 20; with --json: all]
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Subject {
    kind: &'static str,
    oid: String,
    state: &'static str,
    class: Option<String>,
    tid: Option<String>,
    time: Option<String>,
    bytes: u64,
    /// With `--at`: the last transaction up to that time.
    as_of: Option<String>,
    as_of_time: Option<String>,
    /// Whether a path from the root leads to it: true, false, or "unknown".
    reachable: Json,
    path: Vec<Step>,
    /// If that is unknown: the records that may lead to it.
    untold: Vec<JsonUntold>,
}

/// An object on the path; the version is that in which it refers to the next one.
#[derive(Serialize)]
struct Step {
    oid: String,
    class: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    oid: String,
    class: Option<String>,
    tid: String,
    time: Option<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    strong: u64,
    weak: u64,
    error: Option<String>,
}

#[derive(Default, Serialize)]
struct Summary {
    kind: &'static str,
    objects: u64,
    referrers: u64,
    strong: u64,
    only_weak: u64,
    in_versions: u64,
    untold: u64,
    referrers_shown: u64,
}

impl Refs {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let database = Database::open_at(&self.file, self.at.map(|at| at.last))?;
        let (storage, revisions) = (database.storage(), database.revisions());
        let state = revisions.newest(self.oid)?.map(|entry| revisions.state(&entry)).transpose()?;
        let path = self.path(storage)?;
        if self.json {
            out.json(&self.subject(storage, state.as_ref(), &path)?)?;
        } else {
            self.show(out, storage, state.as_ref(), now)?;
            self.show_path(out, storage, &path, state.is_some())?;
            writeln!(out, "\nreferred to by")?;
        }
        let summary = self.referrers(out, storage, now)?;
        match self.json {
            true => out.json(&summary)?,
            false => summary.show(out)?,
        }
        let dangles = state.is_none_or(|state| state.bytes.is_none()) && summary.strong > 0;
        Ok(if dangles || summary.untold > 0 { Outcome::Problems } else { Outcome::Fine })
    }

    fn path(&self, storage: &dyn Storage) -> Run<Reached> {
        let meter = Meter::new("searching");
        let all = storage.object_count();
        let path = shortest_path(storage, Oid::ROOT, self.oid, &mut |read| meter.update(read, all))?;
        Ok(path)
    }

    fn at_most(&self) -> u64 {
        match self.max {
            Some(0) => u64::MAX,
            Some(max) => max,
            None if self.json => u64::MAX,
            None => 20,
        }
    }

    fn subject(&self, storage: &dyn Storage, state: Option<&State>, path: &Reached) -> Run<Subject> {
        let steps = path.path();
        let mut shown = Vec::new();
        for (n, oid) in steps.iter().enumerate() {
            let by = steps.get(n + 1).map(|next| refers_in(storage, *oid, *next)).transpose()?.flatten();
            let (version, version_hex) = meta::version(&by.unwrap_or_default());
            shown.push(Step { oid: oid.to_string(), class: class_now(storage, *oid)?, version, version_hex });
        }
        let tid = state.and_then(|state| state.tid);
        let as_of = self.at.map(|_| storage.last_transaction()).filter(|tid| *tid != Tid::ZERO);
        Ok(Subject {
            kind: "object",
            oid: self.oid.to_string(),
            state: match state {
                None => "unknown",
                Some(state) if state.bytes.is_none() => "nothing",
                Some(_) => "something",
            },
            class: state.and_then(|state| state.class.clone()),
            tid: tid.map(|tid| tid.to_string()),
            time: tid.and_then(people::rfc3339),
            bytes: state.and_then(|state| state.bytes).unwrap_or(0),
            as_of: as_of.map(|tid| tid.to_string()),
            as_of_time: as_of.and_then(people::rfc3339),
            reachable: match path {
                Reached::By(_) => true.into(),
                Reached::No => false.into(),
                Reached::Untold(_) => "unknown".into(),
            },
            path: shown,
            untold: match path {
                Reached::Untold(records) => untold::json(records),
                _ => Vec::new(),
            },
        })
    }

    fn show(&self, out: &mut Out, storage: &dyn Storage, state: Option<&State>, now: Timestamp) -> Run<()> {
        writeln!(out, "object {}", self.oid)?;
        if self.at.is_some() {
            let then = match storage.last_transaction() {
                Tid::ZERO => "before the first transaction".to_owned(),
                tid => moment(tid, now),
            };
            out.field("as of", then)?;
        }
        match state {
            None if self.at.is_some() => out.field("state", "it was not there yet")?,
            None => out.field("state", "it is not in the file")?,
            Some(state) => {
                if state.bytes.is_some() {
                    out.field("class", class_name(state.class.as_deref()))?;
                }
                out.field("state", state.now(now))?;
                if state.bytes.is_none() {
                    out.field("", "it was deleted, or its creation was undone")?;
                }
            }
        }
        Ok(())
    }

    fn show_path(&self, out: &mut Out, storage: &dyn Storage, path: &Reached, is_known: bool) -> Run<()> {
        let path = match path {
            Reached::By(path) => &path[..],
            Reached::No if is_known => {
                return out.field("path", "none: it cannot be reached from the root, and is garbage");
            }
            Reached::No => return out.field("path", "none: nothing that can be reached from the root refers to it"),
            Reached::Untold(records) => {
                let told = if is_known { "whether it is garbage" } else { "whether anything refers to it" };
                out.field("path", format!("none was found, but {told} cannot be told:"))?;
                out.field("", untold::count(records))?;
                return untold::show(out, records, self.at_most());
            }
        };
        if let [_] = path {
            return out.field("path", "it is the root");
        }
        let steps = path.len() - 1;
        writeln!(out, "\na shortest path from the root, {}", counted(steps as u64, "reference"))?;
        // A long path is shown by its beginning and its end.
        let each_end = (self.at_most() / 2).max(1).min(path.len() as u64) as usize;
        let hidden = each_end..path.len().saturating_sub(each_end);
        for (n, oid) in path.iter().enumerate() {
            if hidden.contains(&n) && self.at_most() < path.len() as u64 {
                if n == hidden.start {
                    writeln!(out, "    ... and {} between these; `--max 0` shows all", count(hidden.len() as u64))?;
                }
                continue;
            }
            let class = match class_now(storage, *oid)? {
                None if n == steps => "(it is not there)".to_owned(),
                class => class_name(class.as_deref()),
            };
            let by = path.get(n + 1).map(|next| refers_in(storage, *oid, *next)).transpose()?.flatten();
            let by = by.filter(|version| !version.is_trunk());
            let by = by.map(|version| format!(", in version {}", version_name(&version))).unwrap_or_default();
            writeln!(out, "    {oid}  {class}{by}")?;
        }
        Ok(())
    }

    fn referrers(&self, out: &mut Out, storage: &dyn Storage, now: Timestamp) -> Run<Summary> {
        let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("looking") };
        let at_most = self.at_most();
        let mut summary = Summary { kind: "summary", ..Summary::default() };
        let mut failed = None;
        let walked = referrers(storage, self.oid, &mut |referrer| {
            summary.count(&referrer);
            if summary.referrers_shown == at_most {
                return Ok(());
            }
            summary.referrers_shown += 1;
            self.referrer(out, &referrer, now).map_err(|failure| {
                failed = Some(failure);
                // Any error ends the walk.
                Error::key(self.oid)
            })
        });
        drop(meter);
        match failed {
            Some(failure) => Err(failure),
            None => {
                summary.objects = walked?;
                Ok(summary)
            }
        }
    }

    fn referrer(&self, out: &mut Out, referrer: &Referrer, now: Timestamp) -> Run<()> {
        let Referrer { oid, tid, version, strong, weak, untold, .. } = referrer;
        let class = class(&referrer.data);
        if self.json {
            let (version, version_hex) = meta::version(version);
            return out.json(&Line {
                kind: "referrer",
                oid: oid.to_string(),
                class,
                tid: tid.to_string(),
                time: people::rfc3339(*tid),
                version,
                version_hex,
                strong: *strong,
                weak: *weak,
                error: untold.as_ref().map(ToString::to_string),
            });
        }
        writeln!(out, "    {oid}  {}", class_name(class.as_deref()))?;
        let how = match (strong, weak) {
            (0, 0) => "perhaps",
            (0, _) => "weak",
            (_, 0) => "strong",
            _ => "strong and weak",
        };
        writeln!(out, "        {how:<7} {}", moment(*tid, now))?;
        if !version.is_trunk() {
            writeln!(out, "        in version {}", version_name(version))?;
        }
        if let Some(why) = untold {
            writeln!(out, "        it cannot be told what it refers to: {}", printable(&why.to_string()))?;
        }
        Ok(())
    }
}

impl Summary {
    fn count(&mut self, referrer: &Referrer) {
        self.untold += u64::from(referrer.untold.is_some());
        if referrer.strong + referrer.weak == 0 {
            return;
        }
        self.referrers += 1;
        self.strong += u64::from(referrer.strong > 0);
        self.only_weak += u64::from(referrer.strong == 0);
        self.in_versions += u64::from(!referrer.version.is_trunk());
    }

    fn show(&self, out: &mut Out) -> Run<()> {
        let found = self.referrers + self.untold;
        if found > self.referrers_shown {
            let more = count(found - self.referrers_shown);
            writeln!(out, "    and {more} more; `--max 0` shows all")?;
        }
        let looked_at = match self.objects {
            1 => "1 object was looked at".to_owned(),
            objects => format!("{} were looked at", counted(objects, "object")),
        };
        let weakly = match self.only_weak {
            0 => String::new(),
            weak if weak == self.referrers => ", weakly".to_owned(),
            weak => format!(", {} of them weakly", count(weak)),
        };
        match self.referrers {
            0 if self.untold > 0 => writeln!(out, "\nno certain referrer; {looked_at}")?,
            0 => writeln!(out, "    none; {looked_at}")?,
            1 => writeln!(out, "\n1 record refers to it{weakly}; {looked_at}")?,
            records => writeln!(out, "\n{} refer to it{weakly}; {looked_at}", counted(records, "record"))?,
        }
        if self.untold > 0 {
            writeln!(out, "{} may refer to it: that cannot be told", counted(self.untold, "record"))?;
        }
        Ok(())
    }
}

/// The object's class, on the trunk or otherwise in a version; none if it cannot be read.
fn class_now(storage: &dyn Storage, oid: Oid) -> Run<Option<String>> {
    let version = storage.versions().map_or(Ok(Version::TRUNK), |versions| versions.modified_in_version(oid))?;
    for version in [Version::TRUNK, version] {
        match storage.load(oid, &version) {
            Ok(loaded) => return Ok(class(&loaded.data)),
            Err(Error::KeyError { .. }) => {}
            Err(other) => return Err(Failure::from(other)),
        }
    }
    Ok(None)
}
