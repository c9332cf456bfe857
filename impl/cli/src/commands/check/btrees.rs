//! `vellum check --btrees`: the trees of the BTrees package that break their own rules.
//!
//! ```text
//! tree 0000000000000001  BTrees.OOBTree.OOBTree
//!   0000000000000003  key 'b' is not found here: the keys below this node begin at 'm'
//! 1 BTree of 4 nodes: 1 fault
//!   - Some keys are not found, though items() lists them, and a key may be there twice: make a new tree of [...]
//! ```
//!
//! Versions are looked at, too; a fault on the trunk is reported once.

use std::collections::HashSet;
use std::io::Write;

use serde::Serialize;
use vellum_storage::{BTreeFinding, BTreesChecked, Oid, Version, check_btrees};
use vellum_terminal::people::{count, counted, printable};
use vellum_terminal::{Meter, Out, Run};

use crate::file::Database;
use crate::ui::classes::class_name;
use crate::ui::meta::{self, in_version};
use crate::ui::objects::{List, ended, ended_by};

/// The characters of a line of advice.
const LINE_MAX: usize = 96;

/// A broken rule, for programs.
#[derive(Serialize)]
struct Line {
    kind: &'static str,
    tree: String,
    class: String,
    node: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    rule: &'static str,
    message: String,
    cure: &'static str,
}

/// Lists the broken rules, at most so many. The counts of the result are those of all versions.
///
/// # Errors
///
/// The database cannot be read.
pub fn list(out: &mut Out, database: &Database, json: bool, at_most: u64) -> Run<BTreesChecked> {
    let mut listing = Listing { list: List::new(at_most), known: HashSet::new(), tree: None, cures: Vec::new() };
    let versions = database.all_versions()?;
    let has_versions = !versions.is_empty();
    let mut all = BTreesChecked::default();
    for version in [Version::TRUNK].into_iter().chain(versions) {
        let meter = if out.is_terminal() { Meter::hidden() } else { Meter::new("BTrees") };
        let mut failed = None;
        let (mut faults, mut untold) = (0, 0);
        let mut each = |finding: BTreeFinding| {
            if has_versions && !listing.known.insert((finding.node, finding.rule.to_string())) {
                return Ok(());
            }
            let counter = if finding.rule.is_fault() { &mut faults } else { &mut untold };
            *counter += 1;
            listing.show(out, &finding, &version, json).map_err(|failure| ended_by(&mut failed, failure))
        };
        let checked = check_btrees(database.storage(), &version, &mut |done, of| meter.update(done, of), &mut each);
        drop(meter);
        let checked = ended(checked, failed)?;
        all = BTreesChecked {
            trees: all.trees.max(checked.trees),
            nodes: all.nodes.max(checked.nodes),
            alone: all.alone.max(checked.alone),
            faults: all.faults + faults,
            untold: all.untold + untold,
            unordered: all.unordered.max(checked.unordered),
            unreadable: all.unreadable.max(checked.unreadable),
        };
    }
    if !json {
        listing.list.rest(out)?;
        summary(out, &all, &listing.cures)?;
    }
    Ok(all)
}

/// The lines that were shown.
struct Listing {
    list: List,
    /// Findings of the trunk, which are found again in each version.
    known: HashSet<(Oid, String)>,
    /// The tree whose heading was shown last.
    tree: Option<(Oid, Version)>,
    cures: Vec<&'static str>,
}

impl Listing {
    fn show(&mut self, out: &mut Out, finding: &BTreeFinding, version: &Version, json: bool) -> Run<()> {
        let BTreeFinding { tree, class, node, rule } = finding;
        let cure = rule.cure();
        if !self.cures.contains(&cure) {
            self.cures.push(cure);
        }
        if !self.list.add() {
            return Ok(());
        }
        if json {
            let (version, version_hex) = meta::version(version);
            let (tree, class, node) = (tree.to_string(), class.clone(), node.to_string());
            let message = rule.to_string();
            let kind = "btree";
            return out.json(&Line { kind, tree, class, node, version, version_hex, rule: rule.word(), message, cure });
        }
        let of = Some((*tree, version.clone()));
        if self.tree != of {
            writeln!(out, "{tree}  {}{}", class_name(Some(class)), in_version(version))?;
            self.tree = of;
        }
        Ok(writeln!(out, "  {node}  {}", printable(&rule.to_string()))?)
    }
}

/// The text in lines that are not too long, all but the first further in.
fn wrapped(text: &str) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), "-".to_owned());
    for word in text.split(' ') {
        if line.len() + word.len() > LINE_MAX {
            lines.push(std::mem::replace(&mut line, " ".to_owned()));
        }
        line += " ";
        line += word;
    }
    lines.push(line);
    lines
}

fn summary(out: &mut Out, checked: &BTreesChecked, cures: &[&str]) -> Run<()> {
    let BTreesChecked { trees, nodes, alone, faults, untold, unordered, unreadable } = *checked;
    let found = match faults {
        0 => "no faults".to_owned(),
        faults => counted(faults, "fault"),
    };
    let alone = match alone {
        0 => String::new(),
        alone => format!(", and {} in no tree", counted(alone, "bucket")),
    };
    writeln!(out, "{} of {}{alone}: {found}", counted(trees, "BTree"), counted(nodes, "node"))?;
    cures.iter().flat_map(|cure| wrapped(cure)).try_for_each(|line| writeln!(out, "  {line}"))?;
    if unordered > 0 {
        let nodes = counted(unordered, "node");
        writeln!(out, "  The order of the keys in {nodes} is known only to their classes, and was not looked at")?;
    }
    if untold > 0 || unreadable > 0 {
        writeln!(out, "There may be more:")?;
    }
    if untold > 0 {
        let cannot = if untold == 1 { "1 node cannot".to_owned() } else { format!("{} nodes cannot", count(untold)) };
        writeln!(out, "  {cannot} be read, nor what is below")?;
    }
    if unreadable > 0 {
        let be = if unreadable == 1 { "be a BTree" } else { "be BTrees" };
        writeln!(out, "  {} cannot be read, and may {be}", counted(unreadable, "object"))?;
    }
    Ok(writeln!(out)?)
}
