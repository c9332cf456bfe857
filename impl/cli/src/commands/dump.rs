//! `vellum dump`: the whole file, in the order in which it was written.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use vellum_disk::{Disk, Open, RealDisk};
use vellum_file::format::{START, TransactionHeader, UNFINISHED};
use vellum_file::{Fault, OpenError, Options, Record, Recovery, Scanner};
use vellum_storage::{Error, Status};
use vellum_terminal::people::{counted, hex, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::file::{DataFile, tables};
use crate::ui::faults::{self, describe};
use crate::ui::meta::{self, Metadata, version_name};
use crate::ui::say;

/// Show everything in the file, oldest first, with positions
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum dump Data.fs | less
  vellum dump --json Data.fs > Data.json
  vellum dump --json --state Data.fs > Data.json    with the objects' states

The command reads the file as it is on the disk. It also works on a damaged
file, up to the damage. To read the rest, use `vellum recover` first.

With --json: one object a line, one for each transaction, with the fields tid,
status, user, description, extension_bytes (in hex), position, and records. Each
record has oid, position, previous, data_length, backpointer, data_txn (the
transaction that the backpointer leads to), data_sha256 (of its own or shared
data; null if there is none), and version, if it is in one. With --state it also
has class and state, null if there is no data; the state is JSON that loses
nothing (docs/state-json.md). If a record cannot be read, state_error says why.")]
pub struct Dump {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// In JSON, show the class and the state of each record
    #[arg(long, requires = "json")]
    state: bool,
    /// In states, show a BTree or bucket as the keys and items that it holds
    #[arg(long, requires = "state")]
    btrees: bool,
}

#[derive(Serialize)]
struct Line {
    tid: String,
    status: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_hex: Option<String>,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description_hex: Option<String>,
    extension_bytes: String,
    position: u64,
    records: Vec<RecordLine>,
}

#[derive(Serialize)]
struct RecordLine {
    oid: String,
    position: u64,
    previous: u64,
    data_length: u64,
    backpointer: u64,
    data_txn: Option<String>,
    data_sha256: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    contents: Option<Contents>,
}

/// The contents of the record's data.
#[derive(Default, Serialize)]
struct Contents {
    class: Option<String>,
    state: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_error: Option<String>,
}

impl Dump {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let file = self.open()?;
        // On a terminal, the output itself shows the progress.
        let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("dumping") };
        let mut dumping =
            Dumping { what: &self, file: &file, side: file.scanner(), now, meter, outcome: Outcome::Fine };
        dumping.walk(out)?;
        Ok(dumping.outcome)
    }

    /// Opens the file and reads its first bytes only: the rest may be damaged.
    fn open(&self) -> Run<DataFile> {
        let path = self.file.as_path();
        tables::refuse(path)?;
        let io = |doing: &str, e| Failure::from(Error::io(path, doing, e));
        let file = RealDisk.open(path, Open::Read).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => OpenError::NotFound { path: path.to_owned() }.into(),
            std::io::ErrorKind::IsADirectory => OpenError::Directory { path: path.to_owned() }.into(),
            _ => io("opening", e),
        })?;
        let end = file.len().map_err(|e| io("asking for the length", e))?;
        let mut magic = [0; START as usize];
        let there = file.read_full_at(&mut magic, 0).map_err(|e| io("reading the first bytes", e))?;
        if there == 0 {
            return Err(OpenError::Empty { path: path.to_owned() }.into());
        }
        if magic != vellum_file::format::MAGIC && magic != vellum_file::format::MAGIC_PYTHON_2 {
            return Err(OpenError::NotADatabase { path: path.to_owned(), magic: magic[..there].to_vec() }.into());
        }
        Ok(DataFile::new(path, file, end))
    }

    /// Where the last finished transaction ends, if the file is in order up to there; and the rest.
    fn finished_end(&self) -> Option<(u64, Recovery)> {
        let storage = Options::new().read_only().open(&self.file).ok()?;
        Some((storage.size(), storage.recovery()?.clone()))
    }
}

struct Dumping<'a> {
    what: &'a Dump,
    file: &'a DataFile,
    /// For reading records away from the walk.
    side: Scanner<'a>,
    now: Timestamp,
    meter: Meter,
    outcome: Outcome,
}

impl Dumping<'_> {
    fn walk(&mut self, out: &mut Out) -> Run<()> {
        let path = self.what.file.as_path();
        let mut scanner = self.file.scanner();
        let (mut position, mut done, mut finished_end) = (START, 0_u64, None);
        let mut records = Vec::new();
        while position < self.file.end() {
            records.clear();
            let walked = scanner.transaction(position, |_, record| {
                records.push(record);
                Ok(())
            });
            if walked.as_ref().map_or(true, |header| header.status == UNFINISHED) {
                // Opening the file tells damage from an interrupted commit.
                let finished_end = finished_end.get_or_insert_with(|| self.what.finished_end());
                if let Some((_, recovery)) = finished_end.as_ref().filter(|(end, _)| *end == position) {
                    out.flush()?;
                    self.meter.suspend(|| faults::warn_end(path, position, recovery));
                    return Ok(());
                }
            }
            let header = match walked {
                Ok(header) => header,
                Err(fault) => {
                    let left = self.file.end() - position;
                    let rest = format!("the last {left} bytes, from position {position} on, are not shown");
                    return self.damaged(out, &fault, &rest);
                }
            };
            let meta = self.file.metadata(position, &header);
            let meta = meta.map_err(|fault| self.file.damage(&fault))?;
            if self.what.json {
                self.line(out, position, &header, &meta, &records)?;
            } else {
                self.show(out, position, &header, &meta, &records)?;
            }
            position += header.length + 8;
            done += 1;
            if done.is_multiple_of(256) {
                self.meter.update(position, self.file.end());
            }
        }
        Ok(())
    }

    /// Reports damage, after the lines that are written already.
    fn damaged(&mut self, out: &mut Out, fault: &Fault, rest: &str) -> Run<()> {
        self.outcome = Outcome::Problems;
        out.flush()?;
        let message = format!(
            "{}; {rest}. `vellum check` shows all that is wrong, `vellum recover` copies what is whole",
            describe(&self.what.file, fault)
        );
        self.meter.suspend(|| say(&message));
        Ok(())
    }

    /// The record that the backpointer names, and the one that holds the data. Reports a backpointer that leads
    /// nowhere.
    fn follow(&mut self, out: &mut Out, record: &Record) -> Run<(Option<Record>, Option<Record>)> {
        let shared = self.file.shared(&mut self.side, record);
        let holder = self.file.holder(&mut self.side, record);
        match (shared, holder) {
            (Ok(shared), Ok(holder)) => Ok((shared, holder)),
            (shared, Err(fault)) => {
                self.damaged(out, &fault, "the record's data cannot be found")?;
                Ok((shared.ok().flatten(), None))
            }
            (Err(_), Ok(holder)) => Ok((None, holder)),
        }
    }

    fn line(
        &mut self,
        out: &mut Out,
        position: u64,
        header: &TransactionHeader,
        meta: &Metadata,
        records: &[Record],
    ) -> Run<()> {
        let mut lines = Vec::with_capacity(records.len());
        for record in records {
            let (shared, holder) = self.follow(out, record)?;
            let data_sha256 = match &holder {
                Some(holder) => Some(self.sha256(holder)?),
                None => None,
            };
            let contents = if self.what.state { Some(self.contents(holder.as_ref())?) } else { None };
            let (version, version_hex) = meta::version(&record.version());
            lines.push(RecordLine {
                oid: record.header.oid.to_string(),
                position: record.position,
                previous: record.header.previous,
                data_length: record.header.data_length,
                backpointer: record.backpointer,
                data_txn: shared.map(|shared| shared.header.tid.to_string()),
                data_sha256,
                version,
                version_hex,
                contents,
            });
        }
        let (user, user_hex) = meta::text(&meta.user);
        let (description, description_hex) = meta::text(&meta.description);
        out.json(&Line {
            tid: header.tid.to_string(),
            status: char::from(header.status).to_string(),
            user,
            user_hex,
            description,
            description_hex,
            extension_bytes: hex(&meta.extension),
            position,
            records: lines,
        })
    }

    /// The class and the state that a record's data holds.
    fn contents(&mut self, holder: Option<&Record>) -> Run<Contents> {
        let Some(holder) = holder else { return Ok(Contents::default()) };
        let data = self.file.data_start(holder, u64::MAX).map_err(|fault| self.file.damage(&fault))?;
        let class = vellum_pickle::class_of(&data);
        let plain = vellum_pickle::plain(&data);
        let read = plain.as_deref().map_err(Clone::clone).and_then(vellum_pickle::Record::read);
        let error = class.as_ref().err().or(read.as_ref().err()).map(ToString::to_string);
        if error.is_some() {
            self.outcome = Outcome::Problems;
        }
        Ok(Contents {
            class: class.ok().map(|class| class.to_string()),
            state: read.ok().map(|read| meta::state(&read, self.what.btrees)).transpose()?,
            state_error: error,
        })
    }

    fn sha256(&self, holder: &Record) -> Run<String> {
        let mut sum = Sha256::new();
        let read = self.file.data(holder, |piece| sum.update(piece));
        read.map_err(|fault| self.file.damage(&fault))?;
        Ok(hex(&sum.finalize()))
    }

    fn show(
        &mut self,
        out: &mut Out,
        position: u64,
        header: &TransactionHeader,
        meta: &Metadata,
        records: &[Record],
    ) -> Run<()> {
        if position > START {
            writeln!(out)?;
        }
        writeln!(out, "{}  {}", header.tid, people::time(header.tid, self.now))?;
        meta.show(out)?;
        if let Some(status) = Status::from_byte(header.status).and_then(meta::status) {
            out.field("status", status)?;
        }
        let length = header.length + 8;
        out.field("position", format!("{position}, {}", counted(length, "byte")))?;
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let (shared, holder) = self.follow(out, record)?;
            rows.push((record, self.class(holder.as_ref())?, what(record, shared.as_ref(), holder.as_ref())));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let width = rows.iter().map(|(_, class, _)| class.chars().count()).max().unwrap_or(0).max(5);
        writeln!(out, "    {:>12}  {:<16}  {:>12}  {:<width$}  data", "position", "oid", "previous", "class")?;
        for (record, class, what) in rows {
            let previous = match record.header.previous {
                0 => "-".to_owned(),
                previous => previous.to_string(),
            };
            let (at, oid) = (record.position, record.header.oid);
            writeln!(out, "    {at:>12}  {oid}  {previous:>12}  {class:<width$}  {what}")?;
        }
        Ok(())
    }

    fn class(&self, holder: Option<&Record>) -> Run<String> {
        // The class comes first, and is short.
        const START_MAX: u64 = 64 << 10;
        let Some(holder) = holder else {
            return Ok("-".to_owned());
        };
        let data = self.file.data_start(holder, START_MAX);
        let data = data.map_err(|fault| self.file.damage(&fault))?;
        let class = vellum_pickle::class_of(&data);
        Ok(class.map_or_else(|_| "(cannot be read)".to_owned(), |class| printable(&class.to_string())))
    }
}

/// Describes what the record holds.
fn what(record: &Record, shared: Option<&Record>, holder: Option<&Record>) -> String {
    let mut what = match (shared, holder) {
        (None, Some(holder)) => size(holder.header.data_length),
        (Some(shared), _) => format!("as in {} at {}", shared.header.tid, shared.position),
        (None, None) if record.backpointer == 0 => "deleted or undone".to_owned(),
        (None, None) => format!("as at {}, where it is not", record.backpointer),
    };
    if let Some(version) = &record.in_version {
        what = format!("{what}, in version {}", version_name(&version.version));
    }
    what
}
