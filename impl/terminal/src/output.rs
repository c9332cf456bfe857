//! Standard output, failures, and exit codes.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;

use serde::Serialize;
use vellum_file::OpenError;
use vellum_storage::Error;

use crate::people::printable;

/// The outcome of a command that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Fine,
    /// The database has problems, which were shown.
    Problems,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The reader of the output has gone, and wants no more of it.
    ReaderGone,
    /// Anything else.
    Message(String),
}

/// The result of running a command.
pub type Run<T = Outcome> = Result<T, Failure>;

impl From<io::Error> for Failure {
    /// For failures to write the output: no other `io::Error` is converted.
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

/// Standard output.
pub struct Out {
    to: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Out {
    /// Whether standard output is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes `value` as one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Run<()> {
        serde_json::to_writer(&mut self.to, value)?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Writes a field for people: its name, and its value.
    pub fn field(&mut self, name: &str, value: impl AsRef<str>) -> Run<()> {
        // Further lines stand below the first one.
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

/// Writes a message that is not an answer to standard error, after the program's name.
pub fn say(program: &str, message: &str) {
    // A failure to write to standard error cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "{program}: {}", printable(message));
}

/// Runs a command of `program` and makes an exit code of its outcome.
pub fn run(program: &str, command: impl FnOnce(&mut Out) -> Run) -> ExitCode {
    let stdout = io::stdout();
    let mut out = Out { is_terminal: stdout.is_terminal(), to: BufWriter::with_capacity(64 << 10, stdout.lock()) };
    let outcome = command(&mut out);
    // Answers that were found before a failure are worth seeing, and come before its message.
    let flushed = out.flush().map_err(Failure::from);
    match outcome.and_then(|outcome| flushed.map(|()| outcome)) {
        Ok(Outcome::Fine) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Ok(Outcome::Problems) => ExitCode::from(1),
        Err(Failure::Message(message)) => {
            say(program, &message);
            ExitCode::from(2)
        }
    }
}
