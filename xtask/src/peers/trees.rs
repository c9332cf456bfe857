//! BTrees that break their rules: what `BTrees.check.check` and `_check` say of them, and what we say.
//!
//! `xtask/peer/trees.py` makes a database of trees of every family, as the package grows them and with small nodes, and
//! breaks a rule in every other one. Ours must find nothing in the whole ones; of the others at least what the two
//! find, and of the order of keys the same, node by node. The advice about the cure must also hold: the walk along
//! the children gives back all items.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use vellum_file::FileStorage;
use vellum_storage::{Oid, Version, check_btrees};

use super::{Ground, Trouble, clear, ensure};
use crate::venv;

/// Trees of each class.
const RANDOM: u64 = 40;

/// A line of `xtask/peer/trees.py`.
#[derive(Deserialize)]
struct Said {
    name: String,
    oid: u64,
    /// How it was damaged, if it was.
    damage: Option<String>,
    /// The complaints of `BTrees.check.check`: nodes, and how the order of their keys is wrong.
    check: Vec<(u64, String)>,
    /// The complaint of `_check`.
    pointers: Option<String>,
    /// Whether the walk along the children gives all keys in their order, where no key was touched.
    collected: Option<bool>,
}

#[derive(Default)]
struct Count {
    trees: u64,
    check: u64,
    pointers: u64,
    ours: u64,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let path = ground.path("trees.fs");
    clear(&path);
    let (random, seed) = (RANDOM.to_string(), ground.seed.to_string());
    let mut command = Command::new(&ground.python);
    command.arg(venv::script("trees.py")).arg(&path).args(["--random", &random, "--seed", &seed]);
    let output = command.output()?;
    ensure(output.status.success(), || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let said = String::from_utf8(output.stdout)?;
    let said: Vec<Said> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;

    let storage = FileStorage::open_read_only(&path)?;
    let mut found: BTreeMap<Oid, BTreeSet<(u64, &'static str)>> = BTreeMap::new();
    let checked = check_btrees(&storage, &Version::TRUNK, &mut |_, _| (), &mut |finding| {
        found.entry(finding.tree).or_default().insert((finding.node.0, finding.rule.word()));
        Ok(())
    })?;
    ensure(checked.untold + checked.unordered + checked.unreadable == 0, || format!("not all is told: {checked:?}"))?;

    let mut counts = BTreeMap::<String, Count>::new();
    for Said { name, oid, damage, check, pointers, collected } in &said {
        let ours = found.remove(&Oid(*oid)).unwrap_or_default();
        let what =
            || format!("{name} {oid:x}, {damage:?}: check names {check:?}, _check {pointers:?}, and we {ours:?}");
        ensure(*collected != Some(false), || format!("the cure of the documentation loses items: {}", what()))?;
        let Some(damage) = damage else {
            ensure(ours.is_empty() && check.is_empty() && pointers.is_none(), || format!("a whole tree: {}", what()))?;
            counts.entry("none".to_owned()).or_default().trees += 1;
            continue;
        };
        let of_keys = |(_, word): &&(u64, &'static str)| matches!(*word, "order" | "below" | "above");
        let keys: BTreeSet<_> = ours.iter().filter(of_keys).map(|(node, word)| (*node, (*word).to_owned())).collect();
        // A node that is in two places is looked at once, with the separators of the first.
        if damage != "shared" {
            ensure(keys == check.iter().cloned().collect(), || format!("another order: {}", what()))?;
        }
        let is_named = ours.iter().any(|finding| !of_keys(&finding));
        ensure(pointers.is_none() || is_named, || format!("only _check sees: {}", what()))?;
        ensure(check.is_empty() || !ours.is_empty(), || format!("only check sees: {}", what()))?;
        let count = counts.entry(damage.clone()).or_default();
        count.trees += 1;
        count.check += u64::from(!check.is_empty());
        count.pointers += u64::from(pointers.is_some());
        count.ours += u64::from(!ours.is_empty());
    }
    // The trees beside them, to which chains were led astray.
    ensure(found.is_empty(), || format!("trees that nobody damaged: {found:?}"))?;
    ensure(counts.len() == 17, || format!("not every damage was done: {:?}", counts.keys()))?;
    let whole = counts.remove("none").unwrap_or_default().trees;
    let each: Vec<_> = counts
        .iter()
        .map(|(name, Count { trees, check, pointers, ours })| format!("{name} {trees}/{check}/{pointers}/{ours}"))
        .collect();
    Ok(format!("{whole} whole trees without a fault; damaged/named by check/by _check/by us: {}", each.join(", ")))
}
