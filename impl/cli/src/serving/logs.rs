//! Where logs go: to files and streams, in the formats that Python's `logging` has.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Zoned;
use tracing::field::{Field as Name, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use vellum_server::conf::{EventLog, Field, LogFile, LogFormat, LogTarget, Piece};
use vellum_terminal::{Failure, Run};

use super::rotation::Rotating;

/// The logs of this process. Cloning gives another handle.
#[derive(Clone)]
pub struct Logs {
    outlets: Arc<Vec<Outlet>>,
    /// Whether each line is a JSON object, whatever the format.
    is_json: bool,
}

/// A file or stream.
struct Outlet {
    file: LogFile,
    /// The file that is open; of a stream none.
    open: Mutex<Option<Open>>,
}

/// An open log file.
struct Open {
    file: File,
    rotating: Option<Rotating>,
}

impl Logs {
    /// Opens all files of a log, and has the process log to them from now on.
    ///
    /// # Errors
    ///
    /// A file cannot be opened.
    pub fn start(log: &EventLog, is_json: bool) -> Run<Logs> {
        let mut outlets = Vec::new();
        for file in &log.files {
            let level = file.level.max(log.level);
            let file = LogFile { level, ..file.clone() };
            let open = Mutex::new(open(&file)?);
            outlets.push(Outlet { file, open });
        }
        let logs = Logs { outlets: Arc::new(outlets), is_json };
        // One for the whole process: a second one would have come from another command.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(logs.clone()));
        Ok(logs)
    }

    /// Opens the files anew, after they were moved away. A file that cannot be opened stays as it is.
    pub fn reopen(&self) {
        for outlet in self.outlets.iter() {
            match open(&outlet.file) {
                Ok(file) => *outlet.open() = file,
                Err(Failure::Message(why)) => tracing::error!("{why}; the log goes on where it was"),
                Err(Failure::ReaderGone) => {}
            }
        }
        tracing::info!("Log files reopened successfully");
    }
}

/// A log to standard error, from this level on, as ZEO's server has it without a section `eventlog`.
pub fn to_stderr(level: u64) -> EventLog {
    let format = LogFormat::parse(LogFormat::ZEO, LogFormat::DATES).expect("it is ZEO's own");
    EventLog { level, files: vec![LogFile { to: LogTarget::Stderr, level: 0, format, rotation: None }] }
}

fn open(log: &LogFile) -> Run<Option<Open>> {
    let LogTarget::File(path) = &log.to else { return Ok(None) };
    let file = append(path).map_err(|error| Failure::Message(format!("the log {}: {error}", path.display())))?;
    let rotating = log.rotation.as_ref().map(|rotation| Rotating::new(path, rotation, &file, &Zoned::now()));
    Ok(Some(Open { file, rotating }))
}

fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

impl Open {
    /// Puts the file aside if it is time, and begins a new one. A file that cannot be put aside goes on.
    fn turn(&mut self, path: &Path, line: usize, now: &Zoned) {
        let Some(rotating) = self.rotating.as_mut().filter(|rotating| rotating.is_due(&self.file, line, now)) else {
            return;
        };
        match rotating.turn(now).and_then(|()| append(path)) {
            Ok(file) => self.file = file,
            // The log cannot be told, as it is being written to.
            Err(error) => {
                let path = path.display();
                _ = write_now(&mut io::stderr(), &format!("the log {path} was not put aside: {error}. It goes on\n"));
            }
        }
    }
}

impl Outlet {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line. If that fails there is nowhere to say so.
    fn write(&self, line: &str, now: &Zoned) {
        let mut open = self.open();
        let _ = match (&self.file.to, &mut *open) {
            (LogTarget::File(path), Some(open)) => {
                open.turn(path, line.len(), now);
                open.file.write_all(line.as_bytes())
            }
            (LogTarget::Stdout, None) => write_now(&mut io::stdout(), line),
            (_, _) => write_now(&mut io::stderr(), line),
        };
    }
}

fn write_now(to: &mut dyn Write, line: &str) -> io::Result<()> {
    to.write_all(line.as_bytes())?;
    to.flush()
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = number(event.metadata().level());
        let wanted = self.outlets.iter().filter(|outlet| level >= outlet.file.level);
        let mut told: Option<(Message, Zoned)> = None;
        for outlet in wanted {
            let (message, now) = told.get_or_insert_with(|| (Message::of(event), Zoned::now()));
            let line = match self.is_json {
                true => message.json(event, now),
                false => line(&outlet.file.format, event, message, now),
            };
            outlet.write(&line, now);
        }
    }
}

/// A level as Python counts it.
fn number(level: &Level) -> u64 {
    match *level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

fn line(format: &LogFormat, event: &Event<'_>, message: &Message, now: &Zoned) -> String {
    let metadata = event.metadata();
    let mut line = String::new();
    for piece in &format.pieces {
        let (field, width, is_left) = match piece {
            Piece::Text(text) => {
                line.push_str(text);
                continue;
            }
            Piece::Field(field, width, is_left) => (field, *width, *is_left),
        };
        let text = match field {
            Field::Asctime => {
                jiff::fmt::strtime::format(&format.dates, now).unwrap_or_else(|_| now.timestamp().to_string())
            }
            Field::Created => format!("{:.6}", now.timestamp().as_duration().as_secs_f64()),
            Field::LevelName => level_name(metadata.level()).to_owned(),
            Field::LevelNumber => number(metadata.level()).to_string(),
            Field::Message => message.text.clone(),
            Field::Milliseconds => now.millisecond().to_string(),
            Field::Name => metadata.target().replace("::", "."),
            Field::Process => std::process::id().to_string(),
            Field::Other => "-".to_owned(),
        };
        let filled = match is_left {
            true => write!(line, "{text:<width$}"),
            false => write!(line, "{text:>width$}"),
        };
        filled.expect("text can be written into text");
    }
    line.push('\n');
    line
}

/// The message of an event, with its fields behind it. Line ends are escaped: they would forge a record.
struct Message {
    text: String,
    /// The fields, by name.
    fields: serde_json::Map<String, serde_json::Value>,
}

impl Message {
    fn of(event: &Event<'_>) -> Message {
        let mut message = Message { text: String::new(), fields: serde_json::Map::new() };
        event.record(&mut message);
        message.text = vellum_terminal::people::printable(&message.text).to_string();
        message
    }
}

impl Message {
    /// A line that is a JSON object: when, how bad, from where, what, and of what.
    fn json(&self, event: &Event<'_>, now: &Zoned) -> String {
        let metadata = event.metadata();
        let mut fields = serde_json::Map::new();
        fields.insert("time".to_owned(), now.timestamp().to_string().into());
        fields.insert("level".to_owned(), level_name(metadata.level()).into());
        fields.insert("target".to_owned(), metadata.target().into());
        fields.extend(self.fields.clone());
        format!("{}\n", serde_json::Value::Object(fields))
    }
}

impl Visit for Message {
    fn record_u64(&mut self, field: &Name, value: u64) {
        self.fields.insert(field.name().to_owned(), value.into());
        let _ = write!(self.text, " {}={value}", field.name());
    }

    fn record_str(&mut self, field: &Name, value: &str) {
        self.fields.insert(field.name().to_owned(), value.into());
        let _ = match field.name() {
            "message" => write!(self.text, "{value}"),
            name => write!(self.text, " {name}={value:?}"),
        };
    }

    fn record_debug(&mut self, field: &Name, value: &dyn fmt::Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}").into());
        let written = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.text, " {name}={value:?}"),
        };
        written.expect("text can be written into text");
    }
}
