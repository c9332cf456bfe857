//! Standard output, what can go wrong, and how the command ends.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use vellum_file::{Fault, FileStorage, OpenError, Options};
use vellum_storage::{Error, Tid};

use crate::args;
use crate::people::printable;
use crate::progress::Meter;
use crate::writing::resolver;

/// How a command that did its work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Fine,
    /// There is something wrong with the database, and it was said what.
    Problems,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// Whoever read the output has gone, and wants no more of it.
    ReaderGone,
    /// Anything else.
    Message(String),
}

/// What running a command comes to.
pub type Run<T = Outcome> = Result<T, Failure>;

impl From<io::Error> for Failure {
    /// For failures to write the output: nothing else here gives an `io::Error`.
    fn from(e: io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Message(format!("writing the output: {e}")),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Failure {
        io::Error::from(e).into()
    }
}

impl From<OpenError> for Failure {
    fn from(e: OpenError) -> Failure {
        Failure::Message(e.to_string())
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Message(e.to_string())
    }
}

impl Failure {
    /// For damage that stops the work.
    pub fn damage(path: &Path, fault: &Fault) -> Failure {
        Failure::Message(format!(
            "{}; `vellum check` shows all that is wrong, `vellum recover` copies what is whole",
            describe(path, fault)
        ))
    }
}

/// A fault in one line: where it is, and what.
pub fn describe(path: &Path, fault: &Fault) -> String {
    let tid = fault.tid.map(|tid| format!(" (transaction {tid})")).unwrap_or_default();
    let oid = fault.oid.map(|oid| format!(" (object {oid})")).unwrap_or_default();
    format!("{}: damaged at {fault}{tid}{oid}", path.display())
}

/// Standard output.
pub struct Out {
    to: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Out {
    /// Whether a person looks on.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes `value` as one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Run<()> {
        serde_json::to_writer(&mut self.to, value)?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Writes one line for people: a name, and what it is.
    pub fn field(&mut self, name: &str, value: impl AsRef<str>) -> Run<()> {
        // More lines than one stand below each other.
        let mut name = name;
        for line in value.as_ref().lines() {
            writeln!(self.to, "  {name:<13} {line}")?;
            name = "";
        }
        Ok(())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Says something on standard error that is not an answer.
pub fn say(message: &str) {
    // If nobody hears it, there is nobody to tell.
    let _ = writeln!(io::stderr(), "vellum: {}", printable(message));
}

/// Runs a command and makes an exit code of what it comes to.
pub fn run(command: impl FnOnce(&mut Out, Timestamp) -> Run) -> ExitCode {
    let stdout = io::stdout();
    let mut out = Out { is_terminal: stdout.is_terminal(), to: BufWriter::with_capacity(64 << 10, stdout.lock()) };
    let outcome = args::now().map_err(Failure::Message).and_then(|now| command(&mut out, now));
    // What was found before a failure is worth seeing, and comes before the message.
    let flushed = out.flush().map_err(Failure::from);
    match outcome.and_then(|outcome| flushed.map(|()| outcome)) {
        Ok(Outcome::Fine) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Ok(Outcome::Problems) => ExitCode::from(1),
        Err(Failure::Message(message)) => {
            say(&message);
            ExitCode::from(2)
        }
    }
}

/// Opens a database for reading, and says so if it ends in an unfinished commit.
pub fn open(path: &Path) -> Run<FileStorage> {
    open_at(path, None)
}

/// The same, as it was at a time.
pub fn open_at(path: &Path, at: Option<Tid>) -> Run<FileStorage> {
    let meter = Meter::new("opening");
    let options = Options::new().read_only().resolver(resolver()).progress(meter.progress());
    let options = at.map_or(options.clone(), |at| options.as_of(at));
    let storage = options.open(path)?;
    drop(meter);
    if let Some(recovery) = storage.recovery() {
        if recovery.cut > 0 {
            warn_unfinished(path, storage_end(&storage), recovery.cut);
        }
        if recovery.completed > 0 {
            say(&format!(
                "warning: {}: {} whole but not marked as finished, from position {} on; such a commit counts, and is shown",
                path.display(),
                if recovery.completed == 1 {
                    "one transaction is".to_owned()
                } else {
                    format!("{} transactions are", recovery.completed)
                },
                recovery.position,
            ));
        }
    }
    Ok(storage)
}

fn storage_end(storage: &FileStorage) -> u64 {
    vellum_storage::Storage::size(storage)
}

/// Says that the file ends in an unfinished commit.
pub fn warn_unfinished(path: &Path, position: u64, bytes: u64) {
    say(&format!(
        "warning: {}: the last {bytes} bytes, from position {position} on, are a commit that is not finished, and are \
         not shown. Either somebody is committing just now, or the machine stopped during a commit; then opening the \
         database for writing cuts them off",
        path.display()
    ));
}
