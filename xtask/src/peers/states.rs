//! States as JSON: what they say is what CPython loads.
//!
//! `xtask/peer/state_json.py` makes up records of all protocols; the engine writes their states as JSON; and the script
//! reads that back by the mapping of `docs/state-json.md`, and compares it with what the unpickler makes of the record.
//! The records of the golden databases are judged too, plainly and with what their BTrees hold.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};
use vellum_file::FileStorage;
use vellum_pickle::{JsonOptions, Record};
use vellum_storage::{Order, TidRange};

use super::zodb::{hex, unhex};
use super::{Ground, Trouble, ensure, golden};
use crate::venv;

const RANDOM: u64 = 1500;

/// The script's verdict at the end.
#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    compared: u64,
    #[serde(default)]
    skipped: u64,
    differs: Option<String>,
    data: Option<String>,
    json: Option<String>,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let path = ground.path("states.jsonl");
    let mut lines = BufWriter::new(File::create(&path)?);
    let mut golden_records = 0;
    for (_, database) in golden() {
        let storage = FileStorage::open_read_only(&database)?;
        for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
            for data in transaction?.revisions.into_iter().filter_map(|revision| revision.data) {
                write_line(&mut lines, &data)?;
                golden_records += 1;
            }
        }
    }
    let (random, seed) = (RANDOM.to_string(), ground.seed.to_string());
    let made_up = run(&ground.python, &["--random", &random, "--seed", &seed])?;
    for line in made_up.lines() {
        let line: Value = serde_json::from_str(line)?;
        write_line(&mut lines, &line["data"].as_str().and_then(unhex).ok_or("a line without data")?)?;
    }
    lines.flush()?;
    let verdict: Verdict = serde_json::from_str(&run(&ground.python, &["--compare", &path.display().to_string()])?)?;
    if let Some(differs) = verdict.differs {
        let (data, json) = (verdict.data.unwrap_or_default(), verdict.json.unwrap_or_default());
        let json: String = json.chars().take(2000).collect();
        return Err(format!("{differs}; the record is {data}, and its JSON {json}").into());
    }
    let Verdict { compared, skipped, .. } = verdict;
    // The only texts that Python does not load are those of Python 2 that are not ASCII.
    ensure(compared > golden_records + RANDOM / 2, || format!("only {compared} compared, {skipped} skipped"))?;
    Ok(format!(
        "{compared} states say in JSON what Python loads, {golden_records} of golden databases; {skipped} that it does not \
         load were skipped"
    ))
}

/// A record and its state as JSON, plainly and with what BTrees hold.
fn write_line(lines: &mut impl Write, data: &[u8]) -> Result<(), Trouble> {
    let record = Record::read(data).map_err(|e| format!("{}: {e}", hex(data)))?;
    let json = record.to_json(&JsonOptions::default());
    let btrees = record.to_json(&JsonOptions { btrees: true });
    serde_json::to_writer(&mut *lines, &json!({ "data": hex(data), "json": json, "btrees": btrees }))?;
    Ok(lines.write_all(b"\n")?)
}

fn run(python: &Path, arguments: &[&str]) -> Result<String, Trouble> {
    let mut command = Command::new(python);
    let output = command.arg(venv::script("state_json.py")).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
