//! Conflicts in the collections of the BTrees package: what ZODB makes of them, and what we make of them.
//!
//! `xtask/peer/btrees.py` makes up three records, of every class and in all the forms that there are, and asks ZODB.
//! Ours must refuse what ZODB refuses, and merge what it merges: to the same bytes, or at least to bytes that ZODB
//! loads to the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde::Deserialize;
use vellum_storage::{Contested, Oid, Resolver, Resolvers};

use super::zodb::unhex;
use super::{Ground, Trouble, ensure};
use crate::venv;

/// Triples of each class.
const RANDOM: u64 = 150;

/// A line of `xtask/peer/btrees.py`.
#[derive(Deserialize)]
struct Said {
    family: String,
    kind: String,
    /// ZODB merges this and we do not, as the page of `BTrees` says.
    known: bool,
    /// The class is the implementation in Python, by its own name. Of that we may refuse more.
    python: bool,
    ancestor: String,
    committed: String,
    new: String,
    merged: Option<String>,
}

#[derive(Default)]
struct Count {
    merged: u64,
    refused: u64,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let (random, seed) = (RANDOM.to_string(), ground.seed.to_string());
    let said = ask(ground, &["--random", &random, "--seed", &seed], "")?;
    let said: Vec<Said> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let resolvers = Resolvers::built_in();
    let (mut counts, mut other_bytes) = (BTreeMap::<String, Count>::new(), Vec::new());
    let (mut known, mut refused_in_python) = (0, 0);
    for (n, said) in said.iter().enumerate() {
        let read = |hex: &str| unhex(hex).ok_or("a line that is not hex");
        let (ancestor, committed, new) = (read(&said.ancestor)?, read(&said.committed)?, read(&said.new)?);
        let contested = Contested { oid: Oid(1), ancestor: &ancestor, committed: &committed, new: &new };
        let ours = resolvers.resolve(contested);
        let what = || {
            let Said { family, kind, ancestor, committed, new, .. } = said;
            format!("conflict {n}, {family}{kind}: ancestor {ancestor}, committed {committed}, new {new}")
        };
        if said.known {
            ensure(ours.is_none() && said.merged.is_some(), || format!("a known difference is gone: {}", what()))?;
            known += 1;
            continue;
        }
        if said.python && ours.is_none() {
            refused_in_python += u64::from(said.merged.is_some());
            continue;
        }
        let count = counts.entry(format!("{}{}", said.family, said.kind)).or_default();
        match (ours, &said.merged) {
            (None, None) => count.refused += 1,
            (Some(ours), Some(theirs)) => {
                count.merged += 1;
                let theirs = read(theirs)?;
                if ours != theirs {
                    other_bytes.push((n, hex(&ours), hex(&theirs)));
                }
            }
            (Some(ours), None) => return Err(format!("we merge to {}, ZODB refuses: {}", hex(&ours), what()).into()),
            (None, Some(theirs)) => return Err(format!("we refuse, ZODB merges to {theirs}: {}", what()).into()),
        }
    }
    let lines: String = other_bytes.iter().map(|(_, ours, theirs)| format!("{ours} {theirs}\n")).collect();
    let answers = ask(ground, &["--same"], &lines)?;
    ensure(answers.lines().count() == other_bytes.len(), || "not every question was answered".to_owned())?;
    for ((n, ours, theirs), answer) in other_bytes.iter().zip(answers.lines()) {
        ensure(answer == "true", || {
            let Said { ancestor, committed, new, .. } = &said[*n];
            format!(
                "conflict {n}: {ours} and {theirs} load to different things; ancestor {ancestor}, committed \
                 {committed}, new {new}"
            )
        })?;
    }
    ensure(counts.len() == 22 * 4 + 1, || format!("{} classes, and not all there are", counts.len()))?;
    for (class, Count { merged, refused }) in &counts {
        ensure(*merged > 0 && *refused > 0, || {
            format!("{class}: {merged} merged and {refused} refused, so who knows")
        })?;
    }
    let (merged, refused) = counts.values().fold((0, 0), |(m, r), count| (m + count.merged, r + count.refused));
    let least = counts.values().map(|count| count.merged.min(count.refused)).min().unwrap_or(0);
    Ok(format!(
        "{} classes, {merged} merged, {refused} refused, at least {least} of each in each class; {} merged to the same \
         bytes, {} to others that load to the same; {known} known to differ; {refused_in_python} of classes in Python refused by us alone. \
         Merged/refused by BTree, \
         Bucket, Set, TreeSet: {}",
        counts.len(),
        merged - other_bytes.len() as u64,
        other_bytes.len(),
        each(&counts)
    ))
}

/// The counts of each class, those of a family together.
fn each(counts: &BTreeMap<String, Count>) -> String {
    let mut families = BTreeMap::<&str, Vec<String>>::new();
    for (class, Count { merged, refused }) in counts {
        let family = if class == "Length" { class } else { &class[..2] };
        families.entry(family).or_default().push(format!("{merged}/{refused}"));
    }
    families.iter().map(|(family, counts)| format!("{family} {}", counts.join(" "))).collect::<Vec<_>>().join(", ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ask(ground: &Ground, arguments: &[&str], input: &str) -> Result<String, Trouble> {
    let mut command = Command::new(&ground.python);
    command.arg(venv::script("btrees.py")).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("no way to write to the script")?;
    let input = input.to_owned();
    // The script answers while it is being asked, so a thread has to read at the same time.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    ensure(output.status.success(), || format!("{command:?}: {}", output.status))?;
    writer.join().map_err(|_| "the thread that asks has died")??;
    Ok(String::from_utf8(output.stdout)?)
}
