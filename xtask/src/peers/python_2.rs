//! Text of Python 2: which records ZODB cannot load in Python 3, and which ones we say it cannot.
//!
//! `xtask/peer/python_2.py` writes records as Python 2 did, at protocols 0 to 2, and has ZODB load them.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;
use vellum_pickle::python_2_text;

use super::zodb::unhex;
use super::{Ground, Trouble, ensure};
use crate::venv;

const RANDOM: u64 = 6000;

/// A line of `xtask/peer/python_2.py`.
#[derive(Deserialize)]
struct Said {
    data: String,
    error: Option<String>,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let (random, seed) = (RANDOM.to_string(), ground.seed.to_string());
    let mut command = Command::new(&ground.python);
    command.arg(venv::script("python_2.py")).args(["--random", &random, "--seed", &seed]);
    let output = command.output()?;
    ensure(output.status.success(), || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let (mut loaded, mut failed, mut others) = (0, 0, BTreeMap::<String, u64>::new());
    for line in String::from_utf8(output.stdout)?.lines() {
        let Said { data, error } = serde_json::from_str(line)?;
        let record = unhex(&data).ok_or("a line that is not hex")?;
        let (texts, _) = python_2_text(&record, 3, 100).map_err(|e| format!("{data}: {e}"))?;
        match error.as_deref() {
            None => {
                loaded += 1;
                ensure(texts == 0, || format!("ZODB loads it, and we name {texts} texts: {data}"))?;
            }
            Some("UnicodeDecodeError") => {
                failed += 1;
                ensure(texts > 0, || format!("ZODB cannot decode it, and we name nothing: {data}"))?;
            }
            Some(other) => *others.entry(other.to_owned()).or_default() += 1,
        }
    }
    ensure(loaded > RANDOM / 10 && failed > RANDOM / 10, || format!("{loaded} loaded, {failed} not, so who knows"))?;
    ensure(others.values().sum::<u64>() < RANDOM / 20, || format!("too many have other errors: {others:?}"))?;
    Ok(format!("{loaded} records that ZODB loads, {failed} that it cannot decode; other errors: {others:?}"))
}
