//! `vellum dump`: the whole database, in the order in which it was written.
//!
//! A `Data.fs` is walked by its positions, so that a damaged one is shown up to the damage. Tables have no positions:
//! there the transactions come from the storage.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use vellum_disk::{Disk, Open, RealDisk};
use vellum_file::format::{START, UNFINISHED};
use vellum_file::{OpenError, Options, Record, Recovery, Scanner};
use vellum_storage::{Bytes, Error, Oid, Order, Status, Storage, Tid, TidRange, TransactionRecord, Version};
use vellum_terminal::people::{counted, hex, printable, size};
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, people};

use crate::file::{DataFile, tables};
use crate::ui::faults::{self, describe};
use crate::ui::meta::{self, Metadata, version_name};
use crate::ui::say;

/// Show everything in the database, oldest first
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
nothing (docs/state-json.md). If a record cannot be read, state_error says why.

A database in tables has no positions: position, previous and backpointer are
left out, and data_txn is the transaction that holds the data.")]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    records: Vec<RecordLine>,
}

#[derive(Serialize)]
struct RecordLine {
    oid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    data_length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    backpointer: Option<u64>,
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

/// A transaction of either kind.
struct Transaction {
    tid: Tid,
    status: u8,
    meta: Metadata,
    /// In a `Data.fs`: where it is, and how long.
    place: Option<(u64, u64)>,
    revisions: Vec<Dumped>,
}

/// A revision of either kind.
struct Dumped {
    oid: Oid,
    version: Version,
    /// In a `Data.fs`.
    record: Option<Record>,
    /// Bytes of data that it holds itself.
    own_bytes: u64,
    /// Where its data is shared: the transaction, and in a `Data.fs` the position.
    shared: Option<(Tid, Option<u64>)>,
    data: Data,
}

/// The data of a revision, own or shared.
enum Data {
    Nothing,
    At(Record),
    Read(Bytes),
}

impl Dump {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        // On a terminal, the output itself shows the progress.
        let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("dumping") };
        if tables::is_one(&self.file) {
            let storage = tables::open(&self.file)?;
            let mut dumping = Dumping { what: &self, file: None, now, meter, outcome: Outcome::Fine, shown: 0 };
            dumping.transactions(out, &storage)?;
            return Ok(dumping.outcome);
        }
        let file = self.open()?;
        let mut dumping = Dumping { what: &self, file: Some(&file), now, meter, outcome: Outcome::Fine, shown: 0 };
        dumping.walk(out, &file)?;
        Ok(dumping.outcome)
    }

    /// Opens the file and reads its first bytes only: the rest may be damaged.
    fn open(&self) -> Run<DataFile> {
        let path = self.file.as_path();
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
    /// The `Data.fs`, if it is one.
    file: Option<&'a DataFile>,
    now: Timestamp,
    meter: Meter,
    outcome: Outcome,
    /// Transactions so far.
    shown: u64,
}

impl Dumping<'_> {
    /// Shows the transactions of a storage.
    fn transactions(&mut self, out: &mut Out, storage: &dyn Storage) -> Run<()> {
        for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
            let TransactionRecord { tid, status, user, description, extension, revisions } = match transaction {
                Ok(transaction) => transaction,
                Err(error) => {
                    let rest = match self.shown {
                        0 => "nothing is shown".to_owned(),
                        shown => format!("later ones than these {} are not shown", counted(shown, "transaction")),
                    };
                    return self.damaged(out, &error.to_string(), &rest);
                }
            };
            let meta = Metadata { user, description, extension };
            let revisions = revisions.into_iter().map(|revision| Dumped {
                oid: revision.oid,
                version: revision.version,
                record: None,
                own_bytes: revision
                    .data
                    .as_ref()
                    .filter(|_| revision.source.is_none())
                    .map_or(0, |data| data.len() as u64),
                shared: revision.source.map(|source| (source, None)),
                data: revision.data.map_or(Data::Nothing, Data::Read),
            });
            let revisions = revisions.collect();
            self.one(out, &Transaction { tid, status: status.byte(), meta, place: None, revisions })?;
        }
        Ok(())
    }

    /// Shows the transactions of a `Data.fs`, by their positions.
    fn walk(&mut self, out: &mut Out, file: &DataFile) -> Run<()> {
        let path = self.what.file.as_path();
        let (mut scanner, mut side) = (file.scanner(), file.scanner());
        let (mut position, mut finished_end) = (START, None);
        let mut records = Vec::new();
        while position < file.end() {
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
                    let left = file.end() - position;
                    let rest = format!("the last {left} bytes, from position {position} on, are not shown");
                    return self.damaged(out, &describe(path, &fault), &rest);
                }
            };
            let meta = file.metadata(position, &header);
            let meta = meta.map_err(|fault| file.damage(&fault))?;
            let records = records.drain(..).map(|record| self.follow(out, file, &mut side, record));
            let revisions = records.collect::<Run<_>>()?;
            let place = Some((position, header.length + 8));
            self.one(out, &Transaction { tid: header.tid, status: header.status, meta, place, revisions })?;
            position += header.length + 8;
            if self.shown.is_multiple_of(256) {
                self.meter.update(position, file.end());
            }
        }
        Ok(())
    }

    fn one(&mut self, out: &mut Out, transaction: &Transaction) -> Run<()> {
        match self.what.json {
            true => self.line(out, transaction)?,
            false => self.show(out, transaction)?,
        }
        self.shown += 1;
        Ok(())
    }

    /// Reports damage, after the lines that are written already.
    fn damaged(&mut self, out: &mut Out, fault: &str, rest: &str) -> Run<()> {
        self.outcome = Outcome::Problems;
        out.flush()?;
        let message =
            format!("{fault}; {rest}. `vellum check` shows all that is wrong, `vellum recover` copies what is whole");
        self.meter.suspend(|| say(&message));
        Ok(())
    }

    /// The revision of a record, with the record that holds its data. Reports a backpointer that leads nowhere.
    fn follow(&mut self, out: &mut Out, file: &DataFile, side: &mut Scanner<'_>, record: Record) -> Run<Dumped> {
        let shared = file.shared(side, &record);
        let (shared, holder) = match (shared, file.holder(side, &record)) {
            (Ok(shared), Ok(holder)) => (shared, holder),
            (shared, Err(fault)) => {
                self.damaged(out, &describe(&self.what.file, &fault), "the record's data cannot be found")?;
                (shared.ok().flatten(), None)
            }
            (Err(_), Ok(holder)) => (None, holder),
        };
        Ok(Dumped {
            oid: record.header.oid,
            version: record.version(),
            own_bytes: record.header.data_length,
            shared: shared.map(|shared| (shared.header.tid, Some(shared.position))),
            data: holder.map_or(Data::Nothing, Data::At),
            record: Some(record),
        })
    }

    fn line(&mut self, out: &mut Out, transaction: &Transaction) -> Run<()> {
        let mut lines = Vec::with_capacity(transaction.revisions.len());
        for revision in &transaction.revisions {
            let data_sha256 = self.sha256(&revision.data)?;
            let contents = if self.what.state { Some(self.contents(&revision.data)?) } else { None };
            let (version, version_hex) = meta::version(&revision.version);
            let record = revision.record.as_ref();
            lines.push(RecordLine {
                oid: revision.oid.to_string(),
                position: record.map(|record| record.position),
                previous: record.map(|record| record.header.previous),
                data_length: revision.own_bytes,
                backpointer: record.map(|record| record.backpointer),
                data_txn: revision.shared.map(|(tid, _)| tid.to_string()),
                data_sha256,
                version,
                version_hex,
                contents,
            });
        }
        let Transaction { tid, status, meta, place, .. } = transaction;
        let (user, user_hex) = meta::text(&meta.user);
        let (description, description_hex) = meta::text(&meta.description);
        out.json(&Line {
            tid: tid.to_string(),
            status: char::from(*status).to_string(),
            user,
            user_hex,
            description,
            description_hex,
            extension_bytes: hex(&meta.extension),
            position: place.map(|(position, _)| position),
            records: lines,
        })
    }

    /// The class and the state that a revision's data holds.
    fn contents(&mut self, data: &Data) -> Run<Contents> {
        let Some(data) = self.start(data, u64::MAX)? else { return Ok(Contents::default()) };
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

    /// The first bytes of the data; none of a tombstone.
    fn start(&self, data: &Data, at_most: u64) -> Run<Option<Bytes>> {
        match (data, self.file) {
            (Data::Read(data), _) => Ok(Some(data.clone())),
            (Data::At(holder), Some(file)) => {
                let start = file.data_start(holder, at_most).map_err(|fault| file.damage(&fault))?;
                Ok(Some(start.into()))
            }
            (Data::At(_), None) | (Data::Nothing, _) => Ok(None),
        }
    }

    fn sha256(&self, data: &Data) -> Run<Option<String>> {
        let mut sum = Sha256::new();
        match (data, self.file) {
            (Data::Read(data), _) => sum.update(data),
            (Data::At(holder), Some(file)) => {
                file.data(holder, |piece| sum.update(piece)).map_err(|fault| file.damage(&fault))?;
            }
            (Data::At(_), None) | (Data::Nothing, _) => return Ok(None),
        }
        Ok(Some(hex(&sum.finalize())))
    }

    fn show(&mut self, out: &mut Out, transaction: &Transaction) -> Run<()> {
        let Transaction { tid, status, meta, place, revisions } = transaction;
        if self.shown > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{tid}  {}", people::time(*tid, self.now))?;
        meta.show(out)?;
        if let Some(status) = Status::from_byte(*status).and_then(meta::status) {
            out.field("status", status)?;
        }
        if let Some((position, length)) = place {
            out.field("position", format!("{position}, {}", counted(*length, "byte")))?;
        }
        let rows = revisions.iter().map(|revision| Ok((revision, self.class(&revision.data)?, what(revision))));
        let rows = rows.collect::<Run<Vec<_>>>()?;
        if rows.is_empty() {
            return Ok(());
        }
        let width = rows.iter().map(|(_, class, _)| class.chars().count()).max().unwrap_or(0).max(5);
        match place {
            Some(_) => {
                writeln!(out, "    {:>12}  {:<16}  {:>12}  {:<width$}  data", "position", "oid", "previous", "class")?
            }
            None => writeln!(out, "    {:<16}  {:<width$}  data", "oid", "class")?,
        }
        for (Dumped { oid, record, .. }, class, what) in rows {
            let Some(record) = record else {
                writeln!(out, "    {oid}  {class:<width$}  {what}")?;
                continue;
            };
            let previous = match record.header.previous {
                0 => "-".to_owned(),
                previous => previous.to_string(),
            };
            writeln!(out, "    {:>12}  {oid}  {previous:>12}  {class:<width$}  {what}", record.position)?;
        }
        Ok(())
    }

    fn class(&self, data: &Data) -> Run<String> {
        // The class comes first, and is short.
        const START_MAX: u64 = 64 << 10;
        let Some(data) = self.start(data, START_MAX)? else { return Ok("-".to_owned()) };
        let class = vellum_pickle::class_of(&data);
        Ok(class.map_or_else(|_| "(cannot be read)".to_owned(), |class| printable(&class.to_string())))
    }
}

/// Describes what the revision holds.
fn what(revision: &Dumped) -> String {
    let astray = revision.record.as_ref().map_or(0, |record| record.backpointer);
    let mut what = match (&revision.shared, &revision.data) {
        (Some((tid, Some(position))), _) => format!("as in {tid} at {position}"),
        (Some((tid, None)), _) => format!("as in {tid}"),
        (None, Data::At(holder)) => size(holder.header.data_length),
        (None, Data::Read(data)) => size(data.len() as u64),
        (None, Data::Nothing) if astray == 0 => "deleted or undone".to_owned(),
        (None, Data::Nothing) => format!("as at {astray}, where it is not"),
    };
    if !revision.version.is_trunk() {
        what = format!("{what}, in version {}", version_name(&revision.version));
    }
    what
}
