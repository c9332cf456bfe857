//! Other storages of ZODB's users, held to the rules: `cargo xtask peers --storage NAME`.
//!
//! docs/findings/ judges the differences. Those that an adapter does not step over are listed in its `known.txt`.

use vellum_harness::adapters::{self, Adapter};
use vellum_harness::campaign::{Campaign, Found};
use vellum_harness::pipe::Pipe;
use vellum_harness::subject::Subject;

use super::{Ground, Trouble, ensure};
use crate::{Outcome, venv};

/// Those that need no more than ZODB, and are quick.
const QUICK: [&str; 2] = ["mapping", "demo"];

/// Histories of a storage that is slow, for each hundred that were asked for.
const SLOW_PERCENT: u64 = 25;

/// The other storages that the environment of all checks has.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let adapters = QUICK.iter().filter_map(|name| adapters::named(name));
    let said: Result<Vec<_>, _> = adapters.map(|adapter| hold(adapter, ground.seed, ground.histories * 2)).collect();
    Ok(said?.join("; "))
}

/// Runs one storage, or all of them.
pub fn run(name: &str, seed: u64, histories: u64) -> Outcome {
    let chosen: Vec<_> = adapters::ALL.iter().filter(|adapter| name == "all" || adapter.name == name).collect();
    if chosen.is_empty() {
        let names: Vec<_> = adapters::ALL.iter().map(|adapter| adapter.name).collect();
        return Err(format!("there is no storage `{name}`. There are: all, {}", names.join(", ")).into());
    }
    let mut failed = 0;
    for adapter in chosen {
        let percent = if is_slow(adapter) { SLOW_PERCENT } else { 100 };
        match hold(adapter, seed, (histories * percent).div_ceil(100)) {
            Ok(what) => println!("ok   {what}"),
            Err(why) => {
                failed += 1;
                println!("FAIL {}: {why}", adapter.name);
            }
        }
    }
    ensure(failed == 0, || format!("{failed} of the storages differ from the rules in a way that is not judged"))
}

/// Whether a history takes a large part of a second: each answer is the end of a conversation with a server.
fn is_slow(adapter: &Adapter) -> bool {
    ["zeo", "pgjsonb", "relstorage"].iter().any(|start| adapter.name.starts_with(start))
}

/// Plays so many histories on a storage.
fn hold(adapter: &Adapter, seed: u64, cases: u64) -> Result<String, Trouble> {
    let python = venv::python_of(adapter.name)?.display().to_string();
    let vellum =
        if adapter.words.contains(&adapters::VELLUM) { venv::vellum()?.display().to_string() } else { String::new() };
    let arguments = adapter.arguments(&venv::workspace().join("model/harness/peer"), &vellum, false);
    let start = || Ok(Box::new(Pipe::start(&python, &arguments)?) as Box<dyn Subject>);
    let campaign = Campaign {
        seed,
        cases,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        keep_going: true,
        shrink_budget: if is_slow(adapter) { 20 } else { 300 },
        ..Campaign::default()
    };
    let report = campaign.run(&start, &|_| ())?;
    let text = std::fs::read_to_string(venv::workspace().join("docs/findings/known.txt"))?;
    let known = known(&text, adapter.name);
    let is_known = |kind: &str| known.iter().any(|known| kind.starts_with(known));
    let (old, new): (Vec<_>, Vec<_>) = report.found.iter().partition(|found| is_known(&found.kind));
    if !new.is_empty() {
        let told = |found: &&Found| {
            format!("{}, {} times, first in case {}:\n{}", found.kind, found.times, found.case, found.difference)
        };
        return Err(new.iter().map(told).collect::<Vec<_>>().join("\n").into());
    }
    ensure(report.coverage.histories >= cases, || "not all histories were played".to_owned())?;
    let times: u64 = old.iter().map(|found| found.times).sum();
    let (name, histories, steps) = (adapter.name, report.coverage.histories, report.coverage.steps);
    Ok(format!("{name}: {histories} histories of {steps} steps, {times} of them with a difference that is known"))
}

/// The kinds of differences that are judged for a storage, as `campaign::kind` begins them. A line has the names of
/// storages, or how they begin, and a kind: `zeo zeo-cache: load: key error |`. A line with `#` is a comment.
fn known<'a>(text: &'a str, storage: &str) -> Vec<&'a str> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
    let of_this = |names: &str| {
        names.split(' ').any(|name| match name.strip_suffix('*') {
            Some(start) => storage.starts_with(start),
            None => storage == name,
        })
    };
    lines.filter(|(names, _)| of_this(names)).map(|(_, kind)| kind.trim()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_storages_and_a_kind() {
        let text = "# why\nrel* temp: vote: voted | refused: so\n\nrelstorage: load: no | yes\n";
        assert_eq!(known(text, "relstorage-pg"), ["vote: voted | refused: so"]);
        assert_eq!(known(text, "relstorage"), ["vote: voted | refused: so", "load: no | yes"]);
        assert_eq!(known(text, "zeo"), [""; 0]);
    }

    #[test]
    fn every_line_names_storages_that_there_are() {
        let text = std::fs::read_to_string(venv::workspace().join("docs/findings/known.txt")).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let names = line.split_once(": ").unwrap().0;
            for name in names.split(' ') {
                let start = name.trim_end_matches('*');
                assert!(adapters::ALL.iter().any(|adapter| adapter.name.starts_with(start)), "{line}");
            }
        }
    }
}
