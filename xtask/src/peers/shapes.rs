//! B-trees that the BTrees package and our objects change in turn.
//!
//! Random programs over trees of every family are played twice: once by turns, on a file that the two sides open one
//! after the other, and once by the BTrees package alone. Afterwards the transactions of both files must have the same
//! records, up to the numbers of new objects: the same nodes, separators and garbage. The package's `check` and
//! `_check` must accept every tree that we wrote, and each operation must have the same answer. A commit must depend on
//! the same nodes as the package's, for which that calls `readCurrent`.
//!
//! The package sometimes writes a leaf twice. `_check` says so when the tree is read again, unless only a leaf that
//! left the tree names the copy: then the records show it. A program in which it did is left out from then on.

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value as Json;

use super::{Ground, Trouble, clear, ensure};
use crate::venv;
use program::Side;

/// The answer to the turn of a program.
#[derive(Deserialize)]
struct Played {
    program: usize,
    results: Vec<Json>,
    /// A fault that the tree had before the turn, as the package sees it.
    before: Option<String>,
    /// A fault after the commit.
    after: Option<String>,
    /// The objects on which the commit depended.
    needed: Vec<u64>,
}

#[derive(Deserialize)]
struct Contents {
    program: usize,
    items: Vec<Json>,
    #[serde(default)]
    fault: Option<String>,
}

#[derive(Deserialize)]
struct Compared {
    differs: Option<String>,
    #[serde(default)]
    compared: u64,
    #[serde(default)]
    records: u64,
    /// Programs in which the package wrote a leaf twice, as only the records show.
    #[serde(default)]
    twice: usize,
    /// Objects on which commits depended, and which they did not store.
    #[serde(default)]
    needs: u64,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let programs = program::all(ground.histories, ground.seed, ground.everything);
    let path = ground.path("programs.jsonl");
    let mut lines = std::fs::File::create(&path)?;
    for program in &programs {
        serde_json::to_writer(&mut lines, program)?;
        lines.write_all(b"\n")?;
    }
    lines.flush()?;
    let ours = venv::example("btree_programs", ground.everything.then_some("vellum-object/every-family"))?;
    let (by_turns, alone) = (ground.path("turns.fs"), ground.path("alone.fs"));
    for file in [&by_turns, &alone] {
        clear(file);
        python(ground, &["setup", &text(file), &text(&path)], "")?;
    }
    let mut left_out = BTreeSet::new();
    let mut answers = 0;
    let mut needed = BTreeMap::new();
    let turns = programs.iter().map(|program| program.turns.len()).max().unwrap_or_default();
    for turn in 0..turns {
        let number = turn.to_string();
        let skipped = serde_json::to_string(&left_out)?;
        let wanted: Vec<Played> =
            lines_of(&python(ground, &["play", &text(&alone), &text(&path), &number, "all"], &skipped)?)?;
        let mut results = vec![None; programs.len()];
        for played in wanted {
            if played.after.is_some() {
                left_out.insert(played.program);
            }
            results[played.program] = Some((played.results, played.needed));
        }
        let theirs: Vec<Played> =
            lines_of(&python(ground, &["play", &text(&by_turns), &text(&path), &number, "python"], &skipped)?)?;
        for played in theirs {
            if left_out.contains(&played.program) {
                continue;
            }
            let program = &programs[played.program];
            if let Some(fault) = played.before {
                return Err(
                    format!("{}, before turn {turn}: the package says {fault}", program.name(played.program)).into()
                );
            }
            if played.after.is_some() {
                left_out.insert(played.program);
                continue;
            }
            ensure(results[played.program].as_ref().map(|(results, _)| results) == Some(&played.results), || {
                format!("{}, turn {turn}: the package answers otherwise", program.name(played.program))
            })?;
        }
        let skipped = serde_json::to_string(&left_out)?;
        let played: Vec<Played> =
            lines_of(&run(Command::new(&ours).args(["play", &text(&by_turns), &text(&path), &number, &skipped]), "")?)?;
        for Played { program: at, results: ours, needed: ours_needed, .. } in played {
            let (wanted, wanted_needed) = results[at].as_ref().ok_or("a turn that was not played")?;
            needed.insert(format!("{at} {turn}"), (ours_needed, wanted_needed.clone()));
            for ((ours, theirs), op) in ours.iter().zip(wanted).zip(&programs[at].turns[turn].ops) {
                ensure(ours == theirs, || {
                    format!("{}, turn {turn}, {op:?}: we say {ours}, the package {theirs}", programs[at].name(at))
                })?;
                answers += 1;
            }
        }
    }
    let contents: Vec<Contents> = lines_of(&python(ground, &["read", &text(&by_turns), &text(&path)], "")?)?;
    let skipped = serde_json::to_string(&left_out)?;
    let read: Vec<Contents> =
        lines_of(&run(Command::new(&ours).args(["read", &text(&by_turns), &text(&path), &skipped]), "")?)?;
    let ours: BTreeMap<usize, Vec<Json>> = read.into_iter().map(|read| (read.program, read.items)).collect();
    for Contents { program, items, fault } in contents.into_iter().filter(|read| !left_out.contains(&read.program)) {
        let name = programs[program].name(program);
        if let Some(fault) = fault {
            return Err(format!("{name}: the package says {fault}").into());
        }
        ensure(ours.get(&program) == Some(&items), || format!("{name}: we read other contents"))?;
    }
    let told = serde_json::to_string(&(&left_out, &needed))?;
    let said = python(ground, &["compare", &text(&by_turns), &text(&alone), &text(&path)], &told)?;
    let Compared { differs, compared, records, twice, needs } = serde_json::from_str(&said)?;
    if let Some(differs) = differs {
        return Err(differs.into());
    }
    let left_out = left_out.len() + twice;
    ensure(left_out * 20 < programs.len(), || format!("{left_out} programs were left out"))?;
    ensure(compared > 0 && answers > 0 && needs > 0, || "nothing was compared".to_owned())?;
    let families = programs.iter().map(|program| program.family).collect::<BTreeSet<_>>().len();
    let turns_of_ours =
        programs.iter().flat_map(|program| &program.turns).filter(|turn| turn.side == Side::Ours).count();
    Ok(format!(
        "{} programs over trees of {families} families, {turns_of_ours} turns of ours; {compared} transactions with the same \
         {records} records, which depend on the same {needs} others; {answers} answers the same; {left_out} left out, in which the package wrote a leaf twice",
        programs.len()
    ))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn lines_of<T: for<'d> Deserialize<'d>>(said: &str) -> Result<Vec<T>, Trouble> {
    Ok(said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn python(ground: &Ground, arguments: &[&str], input: &str) -> Result<String, Trouble> {
    run(Command::new(&ground.python).arg(venv::script("btree_shapes.py")).args(arguments), input)
}

fn run(command: &mut Command, input: &str) -> Result<String, Trouble> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure(output.status.success(), || {
        // The arguments may be long.
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{}: {}", command.get_program().display(), said.trim_end())
    })?;
    Ok(String::from_utf8(output.stdout)?)
}
