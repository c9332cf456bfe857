//! `vellum cache`: the cache files of clients.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use vellum_cache::zec::{self, NotImported, ZecReport};
use vellum_cache::{CacheFile, Options, Report, Thorough};
use vellum_disk::{Disk, Open, RealDisk};
use vellum_storage::Tid;
use vellum_terminal::people::{counted, percent, printable, size};
use vellum_terminal::{Failure, Out, Outcome, Run, people};

/// The cache file of a client: look at it, check it, import one of ZEO
#[derive(Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  vellum cache info client.cache
  vellum cache check client.cache
  vellum cache import client-1.zec client.cache

A cache file holds what a client loaded, and for which time each state holds.
It can be removed at any time while no client uses it: the client then begins
with an empty one. docs/cache.md tells more."
)]
pub struct Cache {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Info(Info),
    Check(Check),
    Import(Import),
}

/// Show what is in a cache file: Vellum's, or one of ZEO's client
#[derive(Args)]
#[command(after_help = "\
The file is read, and never changed. Only its headers are read.

Exit codes: 0 if all is well; 1 if a file of ZEO's client is damaged; 2 if it is
no cache file, or cannot be read.")]
struct Info {
    /// The cache file
    file: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Read every record of a cache file, and compare its checksum
#[derive(Args)]
#[command(after_help = "\
The file is read, and never changed. A client does the same with each record
that it takes from the file, so a damaged one is loaded from the server again.
ZEO's files have no checksums: of these the structure is checked.

Exit codes: 0 if all is well; 1 if something is damaged; 2 if it is no cache
file, or cannot be read.")]
struct Check {
    /// The cache file
    file: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Make a cache file from one of ZEO's own client
#[derive(Args)]
#[command(after_help = "\
Example:
  vellum cache import client-1.zec client.cache --megabytes 200

The client of the old file must be stopped. The new client asks the server
which objects were changed since, as the old one would have.

Exit codes: 0 if it was imported; 1 if the old file is damaged, no cache file,
or was never told of a transaction; 2 for wrong use, or if it failed.")]
struct Import {
    /// The file of ZEO's client, usually NAME-STORAGE.zec
    from: PathBuf,
    /// The new file, which must not be there
    to: PathBuf,
    /// The size of the new file [default: that of the old one and a quarter]
    #[arg(long, value_name = "N")]
    megabytes: Option<u64>,
}

#[derive(Serialize)]
struct Json {
    file: String,
    format: &'static str,
    bytes: u64,
    current: u64,
    ended: u64,
    record_bytes: u64,
    last_transaction: Option<String>,
    last_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable_transaction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

/// A cache file of either kind.
enum Found {
    Vellum(Report),
    Zeo(ZecReport),
}

impl Cache {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        match self.what {
            What::Info(Info { file, json }) => look(out, &file, Thorough::Headers, json, now),
            What::Check(Check { file, json }) => look(out, &file, Thorough::Records, json, now),
            What::Import(import) => import.run(out),
        }
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Message(format!("{}: {error}", path.display()))
}

fn find(path: &Path, thorough: Thorough) -> Run<Option<Found>> {
    let failed = |e: std::io::Error| failed(path, &e);
    if let Some(report) = Report::read(&RealDisk, path, thorough).map_err(failed)? {
        return Ok(Some(Found::Vellum(report)));
    }
    let file = RealDisk.open(path, Open::Read).map_err(failed)?;
    Ok(zec::read(&*file, |_, _| {}).map_err(failed)?.map(Found::Zeo))
}

fn look(out: &mut Out, path: &Path, thorough: Thorough, json: bool, now: Timestamp) -> Run {
    let Some(found) = find(path, thorough)? else {
        return Err(Failure::Message(format!(
            "{}: this is no cache file of Vellum, and none of ZEO's client",
            path.display()
        )));
    };
    let is_whole = match &found {
        Found::Vellum(report) => report.damaged == 0,
        Found::Zeo(report) => report.damage.is_none(),
    };
    let name = path.display().to_string();
    match found {
        Found::Vellum(report) if json => out.json(&of_vellum(name, &report, thorough))?,
        Found::Zeo(report) if json => out.json(&of_zeo(name, &report))?,
        Found::Vellum(report) => show(out, &name, &report, thorough, now)?,
        Found::Zeo(report) => show_zeo(out, &name, &report, now)?,
    }
    Ok(if is_whole { Outcome::Fine } else { Outcome::Problems })
}

fn named(tid: Tid) -> Option<String> {
    (tid != Tid::ZERO).then(|| tid.to_string())
}

fn of_vellum(file: String, report: &Report, thorough: Thorough) -> Json {
    Json {
        file,
        format: "vellum",
        bytes: report.file_bytes,
        current: report.open,
        ended: report.ended,
        record_bytes: report.bytes,
        last_transaction: named(report.head),
        last_time: named(report.head).and_then(|_| people::rfc3339(report.head)),
        durable_transaction: named(report.durable),
        damaged: (thorough == Thorough::Records).then_some(report.damaged),
        damage: None,
    }
}

fn of_zeo(file: String, report: &ZecReport) -> Json {
    Json {
        file,
        format: "ZEC3",
        bytes: report.file_bytes,
        current: report.open,
        ended: report.ended,
        record_bytes: report.bytes,
        last_transaction: named(report.head),
        last_time: named(report.head).and_then(|_| people::rfc3339(report.head)),
        durable_transaction: None,
        damaged: None,
        damage: report.damage.map(|(at, why)| format!("at {at}: {why}")),
    }
}

fn moment(tid: Tid, now: Timestamp) -> String {
    match tid {
        Tid::ZERO => "none yet".to_owned(),
        tid => format!("{tid}  {}", people::time(tid, now)),
    }
}

fn states(out: &mut Out, open: u64, ended: u64, bytes: u64, file_bytes: u64) -> Run<()> {
    out.field("current", counted(open, "state"))?;
    out.field("earlier", counted(ended, "state"))?;
    out.field("records", format!("{}, {} of the file", size(bytes), percent(bytes, file_bytes)))
}

fn show(out: &mut Out, name: &str, report: &Report, thorough: Thorough, now: Timestamp) -> Run<()> {
    writeln!(out, "{}: a client's cache, {}", printable(name), size(report.file_bytes))?;
    out.field("told of", moment(report.head, now))?;
    if report.durable != report.head {
        out.field("durable", moment(report.durable, now))?;
    }
    states(out, report.open, report.ended, report.bytes, report.file_bytes)?;
    let segments = counted(report.segments.into(), "segment");
    out.field("used", format!("{} of {segments} of {}", report.segments_used, size(report.segment_bytes.into())))?;
    if thorough == Thorough::Records {
        out.field("damaged", counted(report.damaged, "record"))?;
    }
    Ok(())
}

fn show_zeo(out: &mut Out, name: &str, report: &ZecReport, now: Timestamp) -> Run<()> {
    writeln!(out, "{}: a cache of ZEO's client (ZEC3), {}", printable(name), size(report.file_bytes))?;
    out.field("told of", moment(report.head, now))?;
    states(out, report.open, report.ended, report.bytes, report.file_bytes)?;
    out.field("free", size(report.free_bytes))?;
    if let Some((at, why)) = report.damage {
        out.field("damaged", format!("at byte {at}: {why}; nothing behind that place was read"))?;
    }
    Ok(())
}

impl Import {
    fn run(self, out: &mut Out) -> Run {
        let Import { from, to, megabytes } = self;
        let file = RealDisk.open(&from, Open::Read).map_err(|e| failed(&from, &e))?;
        let length = file.len().map_err(|e| failed(&from, &e))?;
        if RealDisk.exists(&to).map_err(|e| failed(&to, &e))? {
            return Err(Failure::Message(format!("{}: there is a file already", to.display())));
        }
        let bytes = megabytes.map_or(length + length / 4, |megabytes| megabytes.saturating_mul(1 << 20));
        let cache = CacheFile::open(&RealDisk, &to, &Options::of_this_machine(bytes)).map_err(|e| failed(&to, &e))?;
        let imported = zec::import(&*file, cache.core()).map_err(|e| failed(&from, &e))?;
        let why = match imported {
            Ok(report) => {
                let held = cache.core().len() as u64;
                cache.close().map_err(|e| failed(&to, &e))?;
                writeln!(out, "{}: {}", printable(&to.display().to_string()), counted(held, "state"))?;
                let left_out = (report.open + report.ended).saturating_sub(held);
                if left_out > 0 {
                    out.field("left out", format!("{}, which found no room", counted(left_out, "state")))?;
                }
                return Ok(Outcome::Fine);
            }
            Err(NotImported::NoCache) => "it is no cache of ZEO's client".to_owned(),
            Err(NotImported::NoMoment) => "it was never told of a transaction".to_owned(),
            Err(NotImported::NotEmpty) => "the new cache has something already".to_owned(),
            Err(NotImported::Damaged(at, why)) => format!("it is damaged at byte {at}: {why}"),
        };
        drop(cache);
        RealDisk.remove(&to).map_err(|e| failed(&to, &e))?;
        writeln!(out, "{}: {why}. Nothing was imported.", printable(&from.display().to_string()))?;
        Ok(Outcome::Problems)
    }
}
