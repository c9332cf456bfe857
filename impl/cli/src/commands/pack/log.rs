//! The log of forgotten transactions: one line of JSON for each.
//!
//! The lines wait in a temporary file. They are appended just before the pack puts its file in place, so that they are
//! on the disk before anything is forgotten. If the pack then fails, they are removed again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vellum_disk::take_after;
use vellum_file::Fate;
use vellum_storage::{Bytes, Error, Oid, Result, Tid};
use vellum_terminal::{Failure, Run, people};

use crate::ui::meta::{JsonMetadata, Metadata};

/// The file that lines are appended to.
pub struct PackLog {
    path: PathBuf,
    log: File,
    /// Its length before this pack.
    length: u64,
    /// The lines of this pack, in a file without a name.
    lines: BufWriter<File>,
    transaction: Option<Transaction>,
    written: u64,
}

struct Transaction {
    tid: Tid,
    metadata: Metadata,
    objects: Vec<(Oid, Fate)>,
}

#[derive(Serialize)]
struct Line {
    tid: String,
    time: Option<String>,
    #[serde(flatten)]
    metadata: JsonMetadata,
    /// Whether the whole transaction is forgotten.
    gone: bool,
    /// The objects that it touched.
    objects: Vec<String>,
    /// Those whose revision is forgotten because there is a newer one.
    forgotten: Vec<String>,
    /// Those that were garbage.
    collected: Vec<String>,
}

impl PackLog {
    /// Opens the file, or makes it, for the people who can read the database.
    pub fn open(path: &Path, database: &Path) -> Run<PackLog> {
        let open = || -> io::Result<PackLog> {
            let mut how = OpenOptions::new();
            how.append(true).read(true);
            let mut log = match how.clone().create_new(true).mode(0o600).open(path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => how.open(path)?,
                made => {
                    let made = made?;
                    take_after(&made, &fs::metadata(database)?)?;
                    made
                }
            };
            let length = log.seek(SeekFrom::End(0))?;
            let lines = BufWriter::new(tempfile::tempfile()?);
            Ok(PackLog { path: path.to_owned(), log, length, lines, transaction: None, written: 0 })
        };
        open().map_err(|e| Failure::Message(format!("{}: opening the log of what is forgotten: {e}", path.display())))
    }

    /// Discards all lines of this pack, because it begins again.
    pub fn begin_again(&mut self) {
        let again = || -> io::Result<()> {
            self.lines.flush()?;
            self.lines.get_mut().set_len(0)?;
            self.lines.get_mut().rewind()?;
            self.log.set_len(self.length)
        };
        self.written = 0;
        self.transaction = None;
        // If this fails, the next write fails as well, and reports it.
        let _ = { again }();
    }

    /// Begins the line of a transaction.
    pub fn transaction(&mut self, tid: Tid, [user, description, extension]: [&[u8]; 3]) {
        let bytes = Bytes::copy_from_slice;
        let metadata = Metadata { user: bytes(user), description: bytes(description), extension: bytes(extension) };
        self.transaction = Some(Transaction { tid, metadata, objects: Vec::new() });
    }

    /// Adds one of its revisions.
    pub fn object(&mut self, oid: Oid, fate: Fate) {
        if let Some(transaction) = &mut self.transaction {
            transaction.objects.push((oid, fate));
        }
    }

    /// Ends the line of a transaction.
    pub fn transaction_ends(&mut self, is_kept: bool) -> Result<()> {
        let Some(Transaction { tid, metadata, objects }) = self.transaction.take() else { return Ok(()) };
        if is_kept && objects.iter().all(|(_, fate)| *fate == Fate::Kept) {
            return Ok(());
        }
        let of = |wanted: Option<Fate>| {
            let of = objects.iter().filter(|(_, fate)| wanted.is_none_or(|wanted| *fate == wanted));
            of.map(|(oid, _)| oid.to_string()).collect()
        };
        let line = Line {
            tid: tid.to_string(),
            time: people::rfc3339(tid),
            metadata: metadata.json(),
            gone: !is_kept,
            objects: of(None),
            forgotten: of(Some(Fate::Forgotten)),
            collected: of(Some(Fate::Collected)),
        };
        let written = serde_json::to_writer(&mut self.lines, &line).map_err(io::Error::from);
        self.written += 1;
        written
            .and_then(|()| self.lines.write_all(b"\n"))
            .map_err(|e| self.trouble("writing down what is forgotten", e))
    }

    /// Appends all lines to the log, durably.
    pub fn append(&mut self) -> Result<()> {
        let mut append = || -> io::Result<()> {
            self.lines.flush()?;
            let lines = self.lines.get_mut();
            lines.rewind()?;
            io::copy(lines, &mut self.log)?;
            self.log.sync_all()
        };
        append().map_err(|e| self.trouble("appending what is forgotten", e))
    }

    /// Returns how many lines were appended. If the pack failed, removes them.
    pub fn close(self, is_packed: bool) -> Run<u64> {
        if is_packed {
            return Ok(self.written);
        }
        let taken_back = self.log.set_len(self.length).and_then(|()| self.log.sync_all());
        taken_back.map(|()| 0).map_err(|e| {
            let path = self.path.display();
            Failure::Message(format!("{path}: nothing was packed, but lines that say so could not be taken back: {e}"))
        })
    }

    fn trouble(&self, doing: &str, e: io::Error) -> Error {
        Error::io(&self.path, format!("{doing} (nothing was packed)"), e)
    }
}
