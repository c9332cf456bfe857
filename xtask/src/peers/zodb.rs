//! The real ZODB in a process of its own, spoken to in lines of JSON: `xtask/peer/zodb_peer.py` has the other end, and
//! says what each request means.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vellum_storage::{Invalidation, Loaded, LoadedAt, Oid, Tid};

use super::script::{Change, Commit};
use crate::venv;

/// Why there is no answer.
#[derive(Debug)]
pub enum ZodbError {
    /// ZODB raised an exception.
    Refused { class: String, message: String },
    /// The process is gone, or says what we do not understand.
    Broken(String),
}

impl ZodbError {
    /// The name of ZODB's exception.
    pub fn class(&self) -> Option<&str> {
        match self {
            ZodbError::Refused { class, .. } => Some(class),
            ZodbError::Broken(_) => None,
        }
    }
}

impl std::fmt::Display for ZodbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ZodbError::Refused { class, message } => write!(f, "ZODB says {class}: {message}"),
            ZodbError::Broken(why) => write!(f, "ZODB's process: {why}"),
        }
    }
}

impl std::error::Error for ZodbError {}

type Result<T> = std::result::Result<T, ZodbError>;

/// Eight bytes in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Eight(pub u64);

impl TryFrom<String> for Eight {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Eight, String> {
        u64::from_str_radix(&text, 16).map(Eight).map_err(|e| format!("`{text}`: {e}"))
    }
}

/// Any bytes in hex.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Hex(pub Bytes);

impl TryFrom<String> for Hex {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Hex, String> {
        unhex(&text).map(|bytes| Hex(bytes.into())).ok_or_else(|| format!("`{text}` is not hex"))
    }
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect())?
}

/// How ZODB opened a file.
#[derive(Debug, Deserialize)]
pub struct Opened {
    pub used_index: bool,
}

/// One line of an object's history.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct HistoryLine {
    pub tid: Eight,
    pub size: u64,
    pub user: Hex,
    pub description: Hex,
}

/// A transaction in a walk over all of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Walked {
    pub tid: Eight,
    pub status: char,
    pub user: Hex,
    pub description: Hex,
    pub extension: Hex,
    pub records: Vec<WalkedRecord>,
}

/// A record in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WalkedRecord {
    pub oid: Eight,
    pub sha256: Option<String>,
    pub data_tid: Option<Eight>,
}

/// A process with ZODB in it, which has one file open, or none.
#[derive(Debug)]
pub struct Zodb {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Zodb {
    /// Starts the process; what ZODB warns of goes to `log`.
    pub fn start(python: &Path, log: &Path) -> std::io::Result<Zodb> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(python);
        command.arg(venv::script("zodb_peer.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn()?;
        let requests = child.stdin.take();
        let answers = child.stdout.take().ok_or_else(|| std::io::Error::other("no standard output"))?;
        Ok(Zodb { child, requests, answers: BufReader::new(answers) })
    }

    fn ask<T: DeserializeOwned>(&mut self, op: &str, mut request: Value) -> Result<T> {
        let broken = |e: &dyn std::fmt::Display| ZodbError::Broken(format!("{op}: {e}"));
        request["op"] = op.into();
        let mut line = request.to_string();
        line.push('\n');
        let requests = self.requests.as_mut().ok_or_else(|| broken(&"it has ended"))?;
        requests.write_all(line.as_bytes()).map_err(|e| broken(&e))?;
        line.clear();
        self.answers.read_line(&mut line).map_err(|e| broken(&e))?;
        let answer: Value = serde_json::from_str(&line).map_err(|e| broken(&e))?;
        if let Some(class) = answer["error"].as_str() {
            let message = answer["message"].as_str().unwrap_or_default().to_owned();
            return Err(ZodbError::Refused { class: class.to_owned(), message });
        }
        serde_json::from_value(answer).map_err(|e| broken(&e))
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Opens the file; makes it if there is none.
    pub fn open(&mut self, path: &Path) -> Result<Opened> {
        self.ask("open", json!({ "path": path }))
    }

    pub fn open_read_only(&mut self, path: &Path) -> Result<Opened> {
        self.ask("open", json!({ "path": path, "read_only": true }))
    }

    /// Opens the file below zc.zlibstorage's layer: `zlib` or `server`, with or without compressing.
    pub fn open_compressed(&mut self, path: &Path, layer: &str, compresses: bool) -> Result<Opened> {
        self.ask("open", json!({ "path": path, "layer": layer, "compress": compresses }))
    }

    pub fn close(&mut self) -> Result<()> {
        self.ask::<Value>("close", json!({})).map(drop)
    }

    pub fn commit(&mut self, commit: &Commit) -> Result<Tid> {
        #[derive(Deserialize)]
        struct Answer {
            tid: Eight,
        }
        self.ask::<Answer>("commit", request(commit)).map(|answer| Tid(answer.tid.0))
    }

    /// The first phase alone.
    pub fn vote(&mut self, commit: &Commit) -> Result<()> {
        self.ask::<Value>("vote", request(commit)).map(drop)
    }

    /// The second phase of the transaction that was voted on.
    pub fn finish(&mut self) -> Result<Tid> {
        #[derive(Deserialize)]
        struct Answer {
            tid: Eight,
        }
        self.ask::<Answer>("finish", json!({})).map(|answer| Tid(answer.tid.0))
    }

    /// Gives up the transaction that was voted on.
    pub fn abort(&mut self) -> Result<()> {
        self.ask::<Value>("abort", json!({})).map(drop)
    }

    /// Packs to the time of this tid. References to the oids `without` are passed over, and the first record that is
    /// asked for its references has those to the oids `also` too.
    pub fn pack(&mut self, to: Tid, collect: bool, also: &[Oid], without: &[Oid]) -> Result<()> {
        let texts = |oids: &[Oid]| oids.iter().map(Oid::to_string).collect::<Vec<_>>();
        let request = json!({ "tid": to.to_string(), "gc": collect, "also": texts(also), "without": texts(without) });
        self.ask::<Value>("pack", request).map(drop)
    }

    pub fn load(&mut self, oid: Oid) -> Result<Loaded> {
        #[derive(Deserialize)]
        struct Answer {
            data: Hex,
            tid: Eight,
        }
        let answer: Answer = self.ask("load", json!({ "oid": oid.to_string() }))?;
        Ok(Loaded { data: answer.data.0, tid: Tid(answer.tid.0) })
    }

    pub fn load_before(&mut self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        #[derive(Deserialize)]
        struct Answer {
            data: Option<Hex>,
            tid: Option<Eight>,
            end: Option<Eight>,
        }
        let request = json!({ "oid": oid.to_string(), "tid": before.to_string() });
        let Answer { data, tid, end } = self.ask("load_before", request)?;
        let (Some(Hex(data)), Some(Eight(tid))) = (data, tid) else { return Ok(None) };
        Ok(Some(LoadedAt { data, tid: Tid(tid), next: end.map(|Eight(tid)| Tid(tid)) }))
    }

    pub fn load_serial(&mut self, oid: Oid, tid: Tid) -> Result<Bytes> {
        #[derive(Deserialize)]
        struct Answer {
            data: Hex,
        }
        let request = json!({ "oid": oid.to_string(), "tid": tid.to_string() });
        self.ask::<Answer>("load_serial", request).map(|answer| answer.data.0)
    }

    pub fn history(&mut self, oid: Oid, limit: usize) -> Result<Vec<HistoryLine>> {
        #[derive(Deserialize)]
        struct Answer {
            history: Vec<HistoryLine>,
        }
        let request = json!({ "oid": oid.to_string(), "count": limit });
        self.ask::<Answer>("history", request).map(|answer| answer.history)
    }

    pub fn last_transaction(&mut self) -> Result<Tid> {
        #[derive(Deserialize)]
        struct Answer {
            tid: Eight,
        }
        self.ask::<Answer>("last_transaction", json!({})).map(|answer| Tid(answer.tid.0))
    }

    /// Objects that it knows, and bytes of its file.
    pub fn len_and_size(&mut self) -> Result<(u64, u64)> {
        #[derive(Deserialize)]
        struct Len {
            len: u64,
        }
        #[derive(Deserialize)]
        struct Size {
            size: u64,
        }
        Ok((self.ask::<Len>("len", json!({}))?.len, self.ask::<Size>("size", json!({}))?.size))
    }

    pub fn last_invalidations(&mut self, count: usize) -> Result<Vec<Invalidation>> {
        #[derive(Deserialize)]
        struct Answer {
            invalidations: Vec<(Eight, Vec<Eight>)>,
        }
        let answer: Answer = self.ask("last_invalidations", json!({ "count": count }))?;
        let invalidation = |(tid, oids): (Eight, Vec<Eight>)| Invalidation {
            tid: Tid(tid.0),
            oids: oids.into_iter().map(|oid| Oid(oid.0)).collect(),
        };
        Ok(answer.invalidations.into_iter().map(invalidation).collect())
    }

    pub fn iterate(&mut self) -> Result<Vec<Walked>> {
        #[derive(Deserialize)]
        struct Answer {
            transactions: Vec<Walked>,
        }
        self.ask::<Answer>("iterate", json!({})).map(|answer| answer.transactions)
    }

    /// Every object that it knows, with its tid and what its data hashes to; none if it is nothing now.
    pub fn objects(&mut self) -> Result<Vec<(Oid, Tid, Option<String>)>> {
        #[derive(Deserialize)]
        struct Object {
            tid: Eight,
            sha256: Option<String>,
        }
        #[derive(Deserialize)]
        struct Answer {
            objects: std::collections::BTreeMap<Eight, Object>,
        }
        let answer: Answer = self.ask("describe", json!({}))?;
        Ok(answer.objects.into_iter().map(|(oid, object)| (Oid(oid.0), Tid(object.tid.0), object.sha256)).collect())
    }
}

impl Drop for Zodb {
    fn drop(&mut self) {
        // At the end of its input the process closes what it has open, and ends.
        self.requests = None;
        let _ = self.child.wait();
    }
}

fn request(commit: &Commit) -> Value {
    let [user, description, extension] = &commit.meta;
    json!({
        "tid": commit.tid.map(|tid| tid.to_string()),
        "user": hex(user),
        "description": hex(description),
        "extension": hex(extension),
        "changes": commit.changes.iter().map(change).collect::<Vec<_>>(),
    })
}

fn change(change: &Change) -> Value {
    let (op, oid, serial) = match change {
        Change::Store { oid, serial, data } => {
            let (oid, serial) = (oid.to_string(), serial.to_string());
            return json!({ "op": "store", "oid": oid, "serial": serial, "data": hex(data) });
        }
        Change::Delete { oid, serial } => ("delete", oid, serial),
        Change::CheckCurrent { oid, serial } => ("check_current", oid, serial),
        Change::Undo { tid } => return json!({ "op": "undo", "tid": tid.to_string() }),
    };
    json!({ "op": op, "oid": oid.to_string(), "serial": serial.to_string() })
}
