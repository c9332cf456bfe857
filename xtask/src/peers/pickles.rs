//! The contents of a record: references and classes as ZODB finds them, in the golden databases and in made-up records.
//!
//! Where ZODB cannot read a made-up record (protocols 4 and 5, and forms of Python 2) the script still knows which
//! references it put in.

use std::collections::HashMap;
use std::process::Command;

use serde::Deserialize;
use vellum_file::FileStorage;
use vellum_pickle::{Reference, class_of, references};
use vellum_storage::{Order, TidRange};

use super::zodb::{Eight, unhex};
use super::{Ground, Trouble, ensure, golden, same};
use crate::{Outcome, venv};

const RANDOM: u64 = 1500;

/// Where ZODB does not find a class: two empty names; where the class is an object in the database that an oid refers
/// to, the function that makes the oid's bytes, which comes first in the pickle; and where the class is in another
/// class, the function that finds it there.
const MISREAD: [&str; 4] = [".", "_codecs.encode", "builtins.getattr", "__builtin__.getattr"];

/// A line of `xtask/peer/pickles.py`.
#[derive(Deserialize)]
struct Said {
    oid: Option<Eight>,
    tid: Option<Eight>,
    data: Option<String>,
    references: Option<Vec<String>>,
    class: Option<String>,
    planted: Option<Vec<String>>,
    #[serde(default)]
    protocol: u8,
    #[serde(default)]
    pickler: String,
}

#[derive(Default)]
struct Counts {
    references: u64,
    classes: u64,
    planted: u64,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut counts = Counts::default();
    let mut records = 0;
    for (name, path) in golden() {
        let storage = FileStorage::open_read_only(&path)?;
        let mut data = HashMap::new();
        for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
            let transaction = transaction?;
            for revision in transaction.revisions {
                data.insert((revision.oid.0, transaction.tid.0), revision.data);
            }
        }
        for said in ask(ground, &[&path.display().to_string()])? {
            let (Some(oid), Some(tid)) = (said.oid, said.tid) else { return Err("a line without an oid".into()) };
            let what = format!("{name}, object {:016x} at {:016x}", oid.0, tid.0);
            let data = data.get(&(oid.0, tid.0)).ok_or_else(|| format!("{what}: we have no such record"))?;
            records += 1;
            match data {
                Some(data) => compare(&what, data, &said, &mut counts)?,
                None => same(what, &None, &said.references)?,
            }
        }
    }
    let (random, seed) = (RANDOM.to_string(), ground.seed.to_string());
    for (n, said) in ask(ground, &["--random", &random, "--seed", &seed])?.into_iter().enumerate() {
        let what = format!("random record {n} ({}, protocol {})", said.pickler, said.protocol);
        let data = said.data.as_deref().and_then(unhex).ok_or("a line without data")?;
        records += 1;
        compare(&what, &data, &said, &mut counts)?;
    }
    let Counts { references, classes, planted } = counts;
    ensure(references > 0 && planted > 0 && classes > 0, || "ZODB found nothing anywhere".to_owned())?;
    Ok(format!(
        "{records} records; references as ZODB finds them in {references}, as the script planted them in {planted}; \
         classes of {classes}"
    ))
}

fn compare(what: &str, data: &[u8], said: &Said, counts: &mut Counts) -> Outcome {
    let found = references(data).map_err(|e| format!("{what}: {e}"))?;
    let strong = found.iter().filter_map(|reference| match reference {
        Reference::Strong { oid, .. } => Some(format!("{oid:016x}")),
        _ => None,
    });
    let mut strong: Vec<String> = strong.collect();
    strong.sort();
    if let Some(theirs) = &said.references {
        same(format!("references of {what}"), &strong, theirs)?;
        counts.references += 1;
    }
    if let Some(planted) = &said.planted {
        same(format!("references planted in {what}"), &strong, planted)?;
        counts.planted += 1;
    }
    // ZODB can leave both open only where a record was made up to be so.
    ensure(said.references.is_some() || said.planted.is_some(), || format!("{what}: ZODB cannot read it"))?;
    if let Some(theirs) = said.class.as_ref().filter(|class| !MISREAD.contains(&class.as_str())) {
        same(format!("class of {what}"), &class_of(data).map(|name| name.to_string())?, theirs)?;
        counts.classes += 1;
    }
    Ok(())
}

fn ask(ground: &Ground, arguments: &[&str]) -> Result<Vec<Said>, Trouble> {
    let mut command = Command::new(&ground.python);
    let output = command.arg(venv::script("pickles.py")).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
}
